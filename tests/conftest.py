"""A small lake of the sample vendor, made once a run, and the real files beside the project."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import settings

from etl import jobs
from etl.build import build
from etl.derive import derive
from etl.export import open_database
from etl.lake import Lake
from etl.market import Market, chosen, markets

# The same examples every time, however busy the machine: a failure is one that can be repeated.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.load_profile("fixed")

#: The instant of every run that made the sample lake, and how many sessions it landed.
NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
SESSIONS = 12
CODES = ("HE", "ZO")

#: What opens the object store of the tests, and stands in nothing that a run leaves.
SECRET_KEY = "SeCrEt/of+the/object=store"

# The keyring of whoever runs the tests holds a key that nothing here may use.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

_DATA = Path(__file__).parents[1] / ".." / "shared" / "data"


@dataclass(frozen=True)
class SampleLake:
    """A lake that the sample vendor filled, derived and built."""

    lake: Lake
    now: datetime
    markets: Mapping[str, Market]

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The database, open for reading."""
        connection = open_database(self.lake.database)
        try:
            yield connection
        finally:
            connection.close()


@pytest.fixture(scope="session")
def sample_lake(tmp_path_factory: pytest.TempPathFactory) -> SampleLake:
    """``SESSIONS`` sessions of HE and ZO as known at ``NOW``; for reading only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # one for all workers
    made = SampleLake(Lake(shared / "sample-lake"), NOW, markets())
    with open(shared / "sample-lake.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not made.lake.database.exists():
            _make(made)
    return made


@pytest.fixture
def own_lake(sample_lake: SampleLake, tmp_path: Path) -> SampleLake:
    """A copy of the sample lake that a test may write to.

    Its database's ``raw`` views read the files of the lake it was copied from until it is built.
    """
    root = tmp_path / "lake"
    shutil.copytree(sample_lake.lake.root, root)
    return SampleLake(Lake(root), sample_lake.now, sample_lake.markets)


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """The address of moto's server of S3 on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://…`` of a new bucket there; the environment has its keys, and a cache of the test's."""
    import boto3

    environment = {
        "AWS_ACCESS_KEY_ID": "AKIA-of-the-tests",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": object_store,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    name = f"hydra-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=object_store).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files beside the project; the test is skipped where there is none."""
    if not _DATA.is_dir():
        pytest.skip(f"no real files: {_DATA} does not exist")
    return _DATA.resolve()


def _make(made: SampleLake) -> None:
    lake, known = made.lake, dict(made.markets)
    with lake.writing(NOW):
        sold = [chosen(known, code) for code in CODES]
        jobs.land_sample(lake, sold, SESSIONS, NOW, lambda line: None)
        for market in sold:
            derive(lake, market, NOW)
        build(lake, known, NOW)
