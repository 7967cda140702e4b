"""An object store: S3, Google Cloud Storage or Azure, spoken to through obstore.

Credentials, region and endpoint come from the environment that each service's own tools read
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ``GOOGLE_APPLICATION_CREDENTIALS``,
``AZURE_STORAGE_ACCOUNT_NAME``, …), and stand in no message.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from etl.errors import BadInput, LakeError

__all__ = ["Address", "Changed", "Store", "each"]

#: Requests under way at a time, and the bytes of each that are in memory.
_REQUESTS, _CHUNK = 8, 8 * 2**20

_SERVICES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore"}
_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL")

T = TypeVar("T")


class Changed(Exception):
    """A conditional put found another version than the one that it was to follow."""


@dataclass(frozen=True)
class Address:
    """Where a lake lies in an object store: ``s3://bucket/prefix``, ``gs://…``, ``az://…``."""

    scheme: str
    bucket: str
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an address.

        Raises
        ------
        BadInput
            The service is not known, or bucket or prefix are none.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in _SERVICES:
            known = ", ".join(f"{name}://" for name in _SERVICES)
            raise BadInput(
                f"a lake cannot lie at {scheme[:20]}://…: give a folder, or an address of {known}"
            )
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        # What is refused is not repeated: it may be a key that somebody put before an @.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
            raise BadInput(
                f"the address after {scheme}:// names no bucket: write {scheme}://bucket/prefix, "
                "and credentials in the environment alone"
            )
        if prefix and not all(map(_is_plain, prefix.split("/"))):
            raise BadInput(
                f"a lake's prefix in {scheme}://{bucket} is folders of letters, digits and "
                "._-+ and blanks: give another one"
            )
        return cls(scheme, bucket, prefix)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def slug(self) -> str:
        """A folder's name of its own: one bucket's name may mean two at two endpoints."""
        endpoints = [os.environ.get(name, "") for name in _ENDPOINTS]
        digest = hashlib.sha256("\n".join([str(self), *endpoints]).encode()).hexdigest()
        return f"{self.scheme}-{self.bucket}-{digest[:16]}"


def _is_plain(folder: str) -> bool:
    return bool(re.fullmatch(r"[\w.+ -]+", folder)) and folder not in (".", "..")


@dataclass(frozen=True)
class Store:
    """The objects below an address; every error of a service is one line."""

    address: Address

    def __reduce__(self) -> tuple[type[Store], tuple[Address]]:
        return Store, (self.address,)  # connections stay in their process

    @cached_property
    def _store(self) -> Any:
        obstore = _obstore()
        plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        with self._told():
            return getattr(obstore.store, _SERVICES[self.address.scheme])(
                self.address.bucket,
                prefix=self.address.prefix or None,
                client_options={
                    "allow_http": plain,
                    "connect_timeout": timedelta(seconds=10),
                    "timeout": timedelta(minutes=5),
                },
                retry_config={"max_retries": 5, "retry_timeout": timedelta(minutes=2)},
            )

    def read(self, key: str) -> tuple[bytes, dict[str, str]] | None:
        """An object and its version; ``None`` where there is none."""
        obstore = _obstore()
        with self._told():
            try:
                found = obstore.get(self._store, key)
            except FileNotFoundError as error:
                if _is_of_bucket(error):
                    raise
                return None
            return bytes(found.bytes()), _version(found.meta)

    def write(self, key: str, content: bytes, after: dict[str, str] | None) -> dict[str, str]:
        """Put an object in place of one version of it, or where there is none; its new version.

        Raises
        ------
        Changed
            Another version is there, or none.
        """
        obstore = _obstore()
        lost = obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError
        mode: Any = "create" if after is None else after
        with self._told():
            try:
                made = obstore.put(self._store, key, content, mode=mode, use_multipart=False)
            except lost:
                raise Changed(key) from None
            except FileNotFoundError as error:
                if after is None or _is_of_bucket(error):
                    raise
                raise Changed(key) from None
            return _version(made)

    def upload(self, path: Path, key: str) -> None:
        """Put a file; it appears whole or not at all."""
        obstore = _obstore()
        with self._told():
            obstore.put(self._store, key, path, chunk_size=_CHUNK, max_concurrency=2)

    def download(self, key: str, place: Path) -> str:
        """Write an object to a file; its SHA-256.

        Raises
        ------
        FileNotFoundError
            There is no such object.
        """
        obstore = _obstore()
        digest = hashlib.sha256()
        with self._told(), open(place, "wb") as file:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=_CHUNK):
                digest.update(chunk)
                file.write(chunk)
        return digest.hexdigest()

    def list(self) -> Iterator[tuple[str, int, datetime]]:
        """Key, bytes and the instant of each object."""
        obstore = _obstore()
        with self._told():
            for some in obstore.list(self._store):
                for about in some:
                    yield about["path"], about["size"], about["last_modified"]

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is none."""
        obstore = _obstore()
        if wanted := list(keys):
            with self._told():
                obstore.delete(self._store, wanted)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a service refuses, in one line without what was sent to it."""
        failure = _obstore().exceptions.BaseError
        try:
            yield
        except (failure, FileNotFoundError, PermissionError) as error:
            if isinstance(error, OSError) and error.errno:  # of a file, not of the store
                raise
            if _is_of_bucket(error):
                raise LakeError(
                    f"there is no bucket {self.address.bucket} for {self.address}: make it, or "
                    "name another with --lake"
                ) from None
            if isinstance(error, FileNotFoundError):
                raise
            raise LakeError(f"{self.address}: {_reason(error)}") from None


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError:
        raise BadInput(
            "a lake in an object store needs an extra: pip install 'hydra-lake[cloud]'"
        ) from None
    return obstore


def each(
    work: Callable[[T], object],
    items: Iterable[T],
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Do ``work`` on all items, several at a time; the first error ends it.

    Parameters
    ----------
    progress : called with the number of items that are done
    """
    with ThreadPoolExecutor(_REQUESTS) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for number, done in enumerate(as_completed(running), 1):
                done.result()
                progress(number)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _version(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _is_of_bucket(error: Exception) -> bool:
    return bool(re.search("NoSuchBucket|ContainerNotFound|bucket does not exist", str(error)))


def _reason(error: BaseException) -> str:
    """What to say of an error of the store; its own text names requests and may quote them."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    if re.search(r"//(169\.254\.169\.254|metadata\.google)", text):
        return "no credentials in the environment: set AWS_ACCESS_KEY_ID or what the service reads"
    if (
        "Unauthenticated" in text
        or "Permission" in text
        or (status and status[1] in ("401", "403"))
    ):
        return "permission denied: the credentials may not do this there; see to key and policy"
    if "Account must be specified" in text:
        return "no account: set AZURE_STORAGE_ACCOUNT_NAME"
    if re.search(r"kind: (Connect|Timeout)", text):
        return "the store cannot be reached: check the network and the endpoint, and run it again"
    if "BadScheme" in text or "builder error" in text:
        return "the endpoint is no http:// or https:// address: see to AWS_ENDPOINT_URL"
    code = f"status {status[1]}" if status else type(error).__name__
    return f"the store failed ({code}): run it again, and see to its service if it fails again"
