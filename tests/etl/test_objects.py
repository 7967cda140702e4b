"""An object store: addresses, whole objects, conditional puts, and what is said of failures."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from etl import object_files
from etl.errors import BadInput, LakeError
from etl.manifest import (
    Entry,
    Manifest,
    fetch,
    hollow,
    hollow_mark,
    is_hollow,
    is_sealed,
    key_of,
    mark,
    path_of,
    put,
    seal,
)
from etl.objects import Address, Changed, Store, each

SECRET = "a-secret-of-the-test"


def test_an_address_is_scheme_bucket_and_prefix() -> None:
    assert Address.parse("s3://bucket/a/b/") == Address("s3", "bucket", "a/b")
    assert str(Address.parse("gs://bucket")) == "gs://bucket"
    assert str(Address.parse("az://container/lake")) == "az://container/lake"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/lake", "ftp://bucket/lake", "S3://bucket/lake", "://bucket"),
        *("s3://", "s3:///lake", "s3://a b/lake", f"s3://key:{SECRET}@bucket/lake", "s3://-x/lake"),
        *("s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/env=prod", "s3://bucket/a?b"),
        *("s3://bucket/a\nb", "s3://bucket/[ab]*"),
    ],
)
def test_another_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(BadInput) as refused:
        Address.parse(url)
    assert SECRET not in str(refused.value)


def test_one_bucket_at_two_endpoints_is_two_lakes(monkeypatch: pytest.MonkeyPatch) -> None:
    address = Address.parse("s3://bucket/lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    first = address.slug
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    assert first != address.slug
    assert first.startswith("s3-bucket-")
    assert "=" not in first


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("gs://bucket/lake", {"GOOGLE_SKIP_SIGNATURE": "true"}),
        ("az://container/lake", {"AZURE_STORAGE_ACCOUNT_NAME": "account"}),
    ],
)
def test_the_other_services_are_made_from_the_environment(
    url: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is all that is tried of them: no service of theirs runs beside the tests."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Store(Address.parse(url))._store.prefix == "lake"


def test_azure_without_an_account_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(LakeError, match=r"^az://container: no account: set AZURE_STORAGE_"):
        Store(Address.parse("az://container")).read("x")


def test_a_put_takes_the_place_of_one_version_alone(bucket: str) -> None:
    store = Store(Address.parse(f"{bucket}/conditional"))
    assert store.read("x") is None
    first = store.write("x", b"1", None)
    with pytest.raises(Changed):
        store.write("x", b"2", None)
    second = store.write("x", b"2", first)
    with pytest.raises(Changed):
        store.write("x", b"3", first)
    assert store.read("x") == (b"2", second)
    store.delete(["x", "never there"])
    with pytest.raises(Changed):
        store.write("x", b"3", second)


def test_files_go_there_and_back(bucket: str, tmp_path: Path) -> None:
    store = pickle.loads(pickle.dumps(Store(Address.parse(f"{bucket}/files"))))
    content = {"raw/dataset=cot/a b.parquet": b"x" * 20_000_000, "lake.json": b"{}"}
    files = {path: tmp_path / str(number) for number, path in enumerate(content)}
    for path, place in files.items():
        place.write_bytes(content[path])
    done: list[int] = []
    entries = put(store, "run1", files, done.append)
    assert done == [1, 2]
    assert put(store, "run1", files) == entries
    assert all(entries[path].made == place.stat().st_mtime_ns for path, place in files.items())
    assert sorted(key for key, *_ in store.list()) == sorted(e.key for e in entries.values())
    assert all(Path(entry.key).suffix == Path(path).suffix for path, entry in entries.items())
    assert all(Path(entry.key).parent == Path(path).parent for path, entry in entries.items())
    places = {tmp_path / "copy" / path: entry for path, entry in entries.items()}
    fetch(store, places, tmp_path / "parts")
    for path, entry in entries.items():
        place = tmp_path / "copy" / path
        assert place.read_bytes() == content[path]
        assert is_sealed(place, entry)
    assert not list((tmp_path / "parts").iterdir())


def test_an_object_that_changed_or_went_is_named_and_leaves_no_file(
    bucket: str, tmp_path: Path
) -> None:
    store = Store(Address.parse(f"{bucket}/damaged"))
    (tmp_path / "x").write_bytes(b"what was put there")
    entry = put(store, "run1", {"x": tmp_path / "x"})["x"]
    (tmp_path / "x").write_bytes(b"what somebody else put")
    for damage in (
        lambda: store.upload(tmp_path / "x", entry.key),
        lambda: store.delete([entry.key]),
    ):
        damage()
        with pytest.raises(LakeError, match=rf"damaged/{entry.key} is gone or has changed"):
            fetch(store, {tmp_path / "copy" / "x": entry}, tmp_path / "parts")
        assert not [*(tmp_path / "copy").iterdir(), *(tmp_path / "parts").iterdir()]


def requests(store: Store, folder: Path) -> list[Callable[[], object]]:
    """Each way to ask something of a store."""
    (folder / "x").write_bytes(b"x")
    return [
        lambda: store.read("x"),
        lambda: store.write("x", b"", None),
        lambda: store.upload(folder / "x", "x"),
        lambda: store.download("x", folder / "y"),
        lambda: list(store.list()),
    ]


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path) -> None:
    store = Store(Address.parse("s3://never-made/lake"))
    for ask in requests(store, tmp_path):
        with pytest.raises(
            LakeError, match=r"^there is no bucket never-made for s3://never-made/l"
        ):
            ask()


def test_a_store_that_does_not_answer_is_told_in_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(
        LakeError, match=r"^s3://bucket/x: the store cannot be reached: check the n"
    ):
        Store(Address.parse("s3://bucket/x")).read("x")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "permission denied: the credentials may not do this there"),
        (403, "permission denied: the credentials may not do this there"),
        (400, r"the store failed \(status 400\): run it again"),
    ],
)
def test_what_a_store_refuses_is_told_without_what_was_sent(
    bucket: str, status: int, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            body = f"<Error><Message>{dict(self.headers)}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    store = Store(Address.parse("s3://bucket/x"))
    for ask in (*requests(store, tmp_path), lambda: store.delete(["x"])):
        with pytest.raises(LakeError, match=f"^s3://bucket/x: {said}") as refused:
            ask()
        assert "AKIA" not in str(refused.value)
        assert "Authorization" not in str(refused.value)
    server.shutdown()
    server.server_close()


def test_obstore_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(BadInput, match=r"needs an extra: pip install 'hydra-lake\[cloud\]'"):
        Store(Address.parse("s3://bucket")).read("x")


def test_a_manifest_reads_as_it_was_written() -> None:
    entry = Entry("raw/a.0-1.parquet", 5, "0" * 64)
    gone = {"b": "2026-01-02T00:00:00+00:00"}
    made = Manifest(3, "run", "process 1", {"raw/a.parquet": entry}, gone)
    assert Manifest.parse(made.text().encode(), "s3://bucket") == made


@pytest.mark.parametrize(
    "path", ["raw/dataset=cot/market=HE/x-0.parquet", "lake.json", "a.b/c", "rows-0123456789abcdef"]
)
def test_a_key_tells_the_path_of_its_file(path: str) -> None:
    key = key_of(path, "0123456789abcdef" * 4, "89abcdef")
    assert key != path
    assert path_of(key) == path
    assert path_of(path) == path


def test_threads_read_a_file_each_from_where_it_is(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "a").write_bytes(content)
    handle = object_files.Handle(tmp_path / "a")

    def read(at: int) -> bytes:
        handle.seek(at)
        return handle.read(1000) + handle.read(1000)

    starts = [at * 997 for at in range(1000)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, starts)) == [content[at : at + 2000] for at in starts]
    handle.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "is damaged") for text in ("", "[]", "{}", '{"format": 1}')),
        (Manifest(files={"a": Entry("a", -1, "0" * 64)}).text(), "is damaged"),
        (Manifest(files={"a": Entry("a", 1, "0")}).text(), "is damaged"),
        (Manifest().text().replace('"format": 1', '"format": 2'), "is not of a lake that this"),
        (Manifest(files={"../a": Entry("a", 1, "0" * 64)}).text(), "is not of a lake that this"),
        (Manifest(files={"/a": Entry("a", 1, "0" * 64)}).text(), "is not of a lake that this"),
    ],
)
def test_another_manifest_is_refused(text: str, reason: str) -> None:
    with pytest.raises(LakeError, match=rf"^s3://bucket/manifest.json {reason}"):
        Manifest.parse(text.encode(), "s3://bucket")


def test_a_file_is_sealed_until_it_is_written_again(tmp_path: Path) -> None:
    entry = Entry("x", 3, "ab" * 32)
    assert not is_sealed(tmp_path / "x", entry)
    (tmp_path / "x").write_bytes(b"abc")
    assert not is_sealed(tmp_path / "x", entry)
    seal(tmp_path / "x", entry)
    assert is_sealed(tmp_path / "x", entry)
    assert not is_sealed(tmp_path / "x", Entry("x", 3, "cd" * 32))
    (tmp_path / "x").write_bytes(b"abd")
    assert not is_sealed(tmp_path / "x", entry)


def test_a_hollow_file_has_name_and_size_alone(tmp_path: Path) -> None:
    entry = Entry("x", 10**9, "f" * 64)
    hollow(tmp_path / "a" / "x", entry)
    about = (tmp_path / "a" / "x").stat()
    assert (about.st_size, about.st_blocks) == (10**9, 0)
    (tmp_path / "a" / "x").rename(tmp_path / "y")
    assert hollow_mark(tmp_path / "y") == mark(entry)
    assert not is_sealed(tmp_path / "y", entry)
    assert not is_hollow(tmp_path / "none")
    seal(tmp_path / "y", entry)
    assert not is_hollow(tmp_path / "y")


def test_the_first_failure_of_many_ends_them() -> None:
    with pytest.raises(ZeroDivisionError):
        each(lambda number: 1 / number, [0, *range(1, 100)])
