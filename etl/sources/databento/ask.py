"""Questions to Databento's Historical API, through its own client.

The client neither retries nor keeps to the vendor's rate limits.  Here what may pass is tried
again, with backoff and jitter and as late as the vendor asks for; what will not get better is
said in one line that holds no secret.
"""

from __future__ import annotations

import base64
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import tenacity
from databento_dbn import DBNError
from zstandard import ZstdError

from etl.errors import LakeError, VendorError

if TYPE_CHECKING:
    from databento import Historical

__all__ = ["Asker", "PassingError", "Tell", "Unresolved", "connect"]

_ATTEMPTS = 5
_FIRST_WAIT = 1.0  # seconds; doubled each time, with jitter
_LONGEST_WAIT = 60.0
_LONGEST_RETRY_AFTER = 300.0

#: Calls in so many seconds that the vendor allows (Databento, "Rate limits").
_LIMITS: Mapping[str, tuple[int, float]] = {
    "metadata": (20, 1.0),
    "timeseries": (100, 1.0),
    "batch": (20, 1.0),
    "submit": (20, 60.0),
}

#: What a person does about an answer that will not get better.
_ADVICE = {
    401: "check DATABENTO_API_KEY or the keyring",
    402: "see the billing page of the account",
    403: "see which datasets the account is subscribed to",
    422: "check the market's parents and the dates",
}

#: Words of a warning that say that records are missing from what came.
_LOSS = ("truncated", "incomplete", "checksum")

Tell = Callable[[str], None]
_T = TypeVar("_T")


class Unresolved(VendorError):
    """None of the symbols of a request means anything to the vendor in its span."""


class PassingError(Exception):
    """A failure that another attempt may cure, after ``wait`` seconds at least."""

    def __init__(self, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.wait = wait


def connect(key: str, tell: Tell) -> Asker:
    """An asker with Databento's own client."""
    from databento import Historical  # takes half a second: only when it is needed

    return Asker(Historical(key), key, tell)


class Asker:
    """Calls the client at the vendor's pace, tries again what may pass, cleans what it says.

    Parameters
    ----------
    client : databento.Historical
    key : str
        The client's API key, which no text may show.
    tell : callable
        Gets what the vendor warns of, a line each, once.
    """

    def __init__(self, client: Historical, key: str, tell: Tell) -> None:
        self._client = client
        self._tell = tell
        self._told: set[str] = set()
        self._secrets = [key, base64.b64encode(f"{key}:".encode()).decode()]
        self._paces = {name: _Pace(*limit) for name, limit in _LIMITS.items()}

    def __call__(self, what: str, call: Callable[[Historical], _T], family: str = "metadata") -> _T:
        """The answer to ``call``.

        Parameters
        ----------
        what : str
            The question for a person.
        family : {"metadata", "timeseries", "batch", "submit"}
            Whose rate limit counts.

        Raises
        ------
        Unresolved
            The vendor knows none of the symbols.
        VendorError
            It refused, or failed on each attempt.
        """
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(PassingError),
            reraise=True,
        )
        try:
            answer: _T = attempts(self._once, what, call, family)
            return answer
        except PassingError as error:
            raise VendorError(
                f"Databento, {what}: {self._clean(error)}, on each of {_ATTEMPTS} attempts; "
                "try later"
            ) from None

    def number(self, name: str, what: str, form: Mapping[str, Any]) -> float:
        """A figure of the metadata endpoint ``name`` about the request ``form``."""
        value = self(f"{name} for {what}", lambda client: getattr(client.metadata, name)(**form))
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise VendorError(f"Databento, {name} for {what}: answered no number; try later")
        return value

    def keep_pace(self, family: str) -> None:
        """Wait until one more call of ``family`` is within the vendor's limit."""
        self._paces[family].keep()

    def _once(self, what: str, call: Callable[[Historical], _T], family: str) -> _T:
        from databento.common.error import BentoError, BentoHttpError

        self.keep_pace(family)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                answer = call(self._client)
        except BentoHttpError as error:
            raise self._judged(what, error.http_status, error) from None
        except requests.RequestException as error:
            raise PassingError(f"no answer ({type(error).__name__})") from None
        except OSError as error:
            raise _unwritable(what, error) from None
        except (BentoError, DBNError, ZstdError, ValueError) as error:
            # A disk that is full, which the client wraps; or a stream that broke, an empty body,
            # something else than DBN.
            cause = error.__context__
            if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
                raise _unwritable(what, cause) from None
            raise PassingError(self._clean(error)) from None
        except (AttributeError, KeyError, TypeError) as error:
            raise VendorError(
                f"Databento, {what}: its answer makes no sense ({type(error).__name__}); try later"
            ) from error
        for warning in caught:
            self._heed(what, warning.message)
        return answer

    def _heed(self, what: str, warning: Warning | str) -> None:
        from databento.common.error import BentoWarning

        if not isinstance(warning, BentoWarning):
            return
        text = self._clean(warning)
        if any(word in text.lower() for word in _LOSS):
            raise PassingError(text)
        if text not in self._told:
            self._told.add(text)
            self._tell(f"Databento, {what}: {text}")

    def _judged(self, what: str, status: int, error: Any) -> Exception:
        text = self._clean(error)
        if status in (408, 429) or status >= 500:
            return PassingError(text, _retry_after(error.headers))
        if status == 422 and "symbol" in text.lower():
            return Unresolved(f"Databento, {what}: {text}; {_ADVICE[422]}")
        advice = _ADVICE.get(status, "see Databento's status page")
        return VendorError(f"Databento, {what}: {text}; {advice}")

    def _clean(self, error: object) -> str:
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Pace:
    """Holds a call back until it is one of ``calls`` in ``seconds``."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=calls)

    def keep(self) -> None:
        if len(self._times) == self._times.maxlen:
            time.sleep(max(self._times[0] + self._seconds - time.monotonic(), 0.0))
        self._times.append(time.monotonic())


def _unwritable(what: str, error: OSError) -> LakeError:
    return LakeError(f"cannot write the download of {what}: {error.strerror or error}")


def _retry_after(headers: Mapping[str, Any]) -> float:
    """Seconds of a ``Retry-After`` header, which may be a date; 0 without one."""
    text = str(headers.get("Retry-After", ""))
    try:
        seconds = float(text)
    except ValueError:
        try:  # by the vendor's own clock
            answered = parsedate_to_datetime(str(headers.get("Date")))
            seconds = (parsedate_to_datetime(text) - answered).total_seconds()
        except (TypeError, ValueError):
            return 0.0
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)


def _wait(state: tenacity.RetryCallState) -> float:
    growing = tenacity.wait_exponential(_FIRST_WAIT, _LONGEST_WAIT)
    backoff = growing(state) + tenacity.wait_random(0, _FIRST_WAIT)(state)
    error = state.outcome.exception() if state.outcome else None
    return max(backoff, error.wait if isinstance(error, PassingError) else 0.0)
