"""The lease on a lake in an object store: who writes, so that a second writer need not begin.

It keeps nobody's work apart, which the conditional put of the manifest does; it says who is at
work before an hour has gone into what cannot be committed.  A lease ends with its writer, or some
minutes after a writer that was killed.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

from etl.errors import HydraError, LakeBusy, LakeError
from etl.objects import Changed, Store

__all__ = ["KEY", "held", "holder"]

KEY = "lease.json"

#: A version that no object has.
_NEVER = {"e_tag": '"0"', "version": "1"}

#: How long a lease lasts, and how often its holder renews it.
LASTS, RENEWED = timedelta(minutes=10), timedelta(minutes=2)


def holder() -> str:
    """This process, for a person elsewhere."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def held(store: Store, run: str, copy: str) -> Iterator[None]:
    """Hold the lease of a store's lake, renewed for as long as the block takes.

    Parameters
    ----------
    run : token of this run
    copy : token of the working copy, which the caller holds alone: what an earlier run on it left
        is nobody's

    Raises
    ------
    LakeBusy
        Somebody else holds it.
    LakeError
        The store does not keep to conditional puts.
    """
    record = {"run": run, "copy": copy, "by": holder(), "since": _iso(_clock())}
    version = _take(store, record)
    over = Event()
    renewing = Thread(target=_renew, args=(store, record, version, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        with suppress(HydraError):  # it ends by itself
            found = _read(store)
            if found and found[0].get("run") == run:
                store.delete([KEY])


def _take(store: Store, record: dict[str, str]) -> dict[str, str]:
    found = _read(store)
    if found and _is_of_another(found[0], record):
        raise _busy(store, found[0])
    try:
        version = store.write(KEY, _text(record), found[1] if found else None)
    except Changed:
        raise _busy(store, (_read(store) or ({},))[0]) from None
    for after in (None, _NEVER):
        with suppress(Changed):
            store.write(KEY, _text(record), after)
            raise LakeError(
                f"{store.address}: the store ignores conditional puts, so two writers would undo "
                "each other: a lake needs one that keeps to If-None-Match and If-Match"
            )
    return version


def _is_of_another(found: dict[str, Any], record: dict[str, str]) -> bool:
    try:
        ended = datetime.fromisoformat(found["until"]) < _clock()
    except (KeyError, TypeError, ValueError):
        ended = True
    return not ended and found.get("copy") != record["copy"]


def _renew(store: Store, record: dict[str, str], version: dict[str, str], over: Event) -> None:
    while not over.wait(RENEWED.total_seconds()):
        try:
            version = store.write(KEY, _text(record), version)
        except Changed:  # somebody took it for ended
            return
        except HydraError:  # the next time, or never
            continue


def _busy(store: Store, found: dict[str, Any]) -> LakeBusy:
    who = f"{found.get('by', 'another process')} since {found.get('since', 'just now')}"
    return LakeBusy(
        f"the lake at {store.address} is being written by {who}: wait for it to end, or stop it "
        f"({KEY} there ends at {found.get('until', 'the latest in ten minutes')})"
    )


def _read(store: Store) -> tuple[dict[str, Any], dict[str, str]] | None:
    found = store.read(KEY)
    if found is None:
        return None
    try:
        record = json.loads(found[0])
    except ValueError:
        record = {}
    return (record if isinstance(record, dict) else {}), found[1]


def _text(record: dict[str, str]) -> bytes:
    return json.dumps({**record, "until": _iso(_clock() + LASTS)}).encode()


def _clock() -> datetime:
    """The computer's clock: a lease ends by it, whatever instant a run is as of."""
    return datetime.now(UTC)


def _iso(instant: datetime) -> str:
    return f"{instant:%FT%TZ}"
