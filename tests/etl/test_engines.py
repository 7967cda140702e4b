"""However tasks are cut and wherever they run, the same files come out."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl import derive as module
from etl import engines, jobs
from etl.cli import main
from etl.derive import Derived, current_at, derive_markets
from etl.derive_task import Made, Task, compute
from etl.engines import Engine, InProcess, Outcome
from etl.engines.pool import Pool
from etl.errors import BadInput, TaskFailed
from etl.lake import Lake, lake_at
from etl.market import markets
from etl.sources import sample
from etl.verify import verify

ZO = markets()["ZO"]
NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
#: A few sessions in each of three months that lie too far apart to matter to each other.
SPANS = [
    (datetime(year, month, 6, tzinfo=UTC), datetime(year, month, 11, tzinfo=UTC))
    for year, month in ((2024, 10), (2025, 1), (2025, 3))
]
SECONDS = 60  # that a test waits for what takes one


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    folder = tmp_path_factory.mktemp("landed")
    lake = Lake(folder / "lake")
    land(lake, folder)
    return lake


def land(lake: Lake, folder: Path) -> None:
    with lake.writing(NOW):
        for start, until in SPANS:
            files = sample.fetch(ZO, start, until, folder)
            list(jobs.land_dbn(lake, {"ZO": ZO}, files, NOW, "sample"))


@pytest.fixture
def lake(landed: Lake, tmp_path: Path) -> Lake:
    shutil.copytree(landed.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


@pytest.fixture(scope="module")
def whole(landed: Lake, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is stored where everything is one task, in this process."""
    lake = Lake(tmp_path_factory.mktemp("whole") / "lake")
    shutil.copytree(landed.root, lake.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_SESSIONS", 1000)
        run(lake, InProcess())
    return tables(lake)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Engine]:
    pytest.importorskip("distributed")
    with engines.opened("dask") as engine:
        yield engine


@pytest.fixture
def pool() -> Iterator[Engine]:
    engine = Pool(2)
    yield engine
    engine.close()


@pytest.fixture(params=["in process", "pool", "dask"])
def engine(request: pytest.FixtureRequest) -> Engine:
    names = {"pool": "pool", "dask": "cluster"}
    if request.param in names:
        engine: Engine = request.getfixturevalue(names[request.param])
        return engine
    return InProcess()


@pytest.fixture(autouse=True)
def by_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SESSIONS", 1)


def run(lake: Lake, on: Engine) -> Derived:
    with lake.writing(NOW):
        (done,) = derive_markets(lake, [ZO], NOW, on=on)
    return done


def tables(lake: Lake) -> dict[str, Any]:
    """Each stored file's hash and size."""
    found: dict[str, Any] = lake.state("ZO")["tables"]
    return found


def test_tasks_of_a_month_on_any_engine_give_what_one_task_gives(
    lake: Lake, whole: dict[str, Any], engine: Engine
) -> None:
    assert run(lake, engine).rows > 0
    assert tables(lake) == whole
    assert len({path.split("month=")[1][:2] for path in whole}) == 3
    assert verify(lake)[1] == []
    assert not list(lake.staging.iterdir())
    assert run(lake, engine).sessions == 0


def test_workers_elsewhere_derive_a_lake_in_an_object_store(
    bucket: str, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them, on a machine with a working copy of its own; one is killed on the way."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    theirs = {"XDG_CACHE_HOME": str(tmp_path / "theirs")}
    with distributed.LocalCluster(
        host="127.0.0.1", memory_limit=0, env=theirs, **options
    ) as workers:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ours"))
        lake = lake_at(f"{bucket}/lake")
        with lake.held(whole=False):
            land(lake, tmp_path)
        mark = workers_copy(tmp_path / "theirs", lake) / "mark"
        monkeypatch.setattr(module, "compute", lost_once)
        killer = kill_when_marked(mark)
        with lake.held(whole=False), engines.opened("dask", workers.scheduler_address) as engine:
            run(lake, engine)
        killer.join()
    assert mark.exists()
    assert tables(lake) == whole
    assert not any(lake.has(lake.root / path) for path in whole)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    third = lake_at(f"{bucket}/lake")
    third.bring()
    assert verify(third)[1] == []
    assert tables(third) == whole


def workers_copy(cache: Path, lake: Lake) -> Path:
    """The folder in which a worker with that cache has its copy of a lake."""
    return cache / "hydra" / lake.root.parent.name


def lost_once(task: Task, share: int) -> Made:
    """Wait to be killed, the first time that January comes."""
    mark = task.lake.root.parent / "mark"
    if task.sessions[0].month == 1 and not mark.exists():
        mark.write_text(str(os.getpid()))
        time.sleep(SECONDS)
    return compute(task, share)


def kill_when_marked(mark: Path) -> threading.Thread:
    def wait_and_kill() -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if mark.exists() and (pid := mark.read_text()):
                os.kill(int(pid), signal.SIGKILL)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.parametrize("engine", ["pool", "dask"], indirect=True)
def test_a_worker_killed_in_the_middle_costs_nothing_but_time(
    lake: Lake, whole: dict[str, Any], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "compute", lost_once)
    killer = kill_when_marked(lake.root.parent / "mark")
    run(lake, engine)
    killer.join()
    assert (lake.root.parent / "mark").exists()
    assert tables(lake) == whole


def spoil(lake: Lake) -> tuple[Path, bytes]:
    """A raw file of January with other bytes in its middle, and what it held."""
    path = max(
        lake.raw.glob("dataset=option_stat/market=ZO/year=2025/month=01/*.parquet"),
        key=lambda file: file.stat().st_size,
    )
    before = path.read_bytes()
    middle = len(before) // 2
    path.write_bytes(before[:4] + bytes(middle) + before[4 + middle :])
    return path, before


def test_a_task_that_always_fails_is_named_and_the_rest_finishes(
    lake: Lake, whole: dict[str, Any], engine: Engine
) -> None:
    path, before = spoil(lake)
    with pytest.raises(TaskFailed, match=r"^ZO, sessions .*next run tries again$") as e:
        run(lake, engine)
    assert e.value.exit_code == 7
    assert "\n" not in str(e.value)
    january = {name for name in whole if "/year=2025/month=01/" in name}
    assert tables(lake) == {name: about for name, about in whole.items() if name not in january}
    assert current_at(lake, ZO) is None
    path.write_bytes(before)
    assert run(lake, engine).sessions > 0
    assert tables(lake) == whole
    assert current_at(lake, ZO) == NOW


def test_the_command_names_the_task_and_the_file(lake: Lake, whole: dict[str, Any]) -> None:
    path, _ = spoil(lake)
    words = ["--lake", str(lake.root), "--now", NOW.isoformat(), "--quiet", "derive"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 7
    (line,) = result.stderr.splitlines()
    assert line.startswith("hydra: ZO, sessions 20")
    assert f"{path}: has changed since it was written" in line
    assert set(tables(lake)) == {name for name in whole if "/year=2025/month=01/" not in name}


def double(task: int, share: int) -> int:
    """Twice the task; no such worker for an odd one, and no such task as 4."""
    if task % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 4:
        raise ZeroDivisionError("four")
    return 2 * task


@pytest.mark.parametrize("engine", ["pool", "dask"], indirect=True)
def test_the_rest_is_done_where_a_task_takes_every_worker_with_it(engine: Engine) -> None:
    ended: dict[int, Outcome[int, int]] = {o.task: o for o in engine.run(double, [0, 1, 2, 4, 6])}
    assert {task: o.result for task, o in ended.items()} == {0: 0, 1: None, 2: 4, 4: None, 6: 12}
    assert "its worker was lost 3 times" in str(ended[1].error)
    assert isinstance(ended[4].error, ZeroDivisionError)


def test_tasks_are_asked_for_when_there_is_a_worker_for_them(engine: Engine) -> None:
    given: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(0, 40, 2):
            given.append(task)
            yield task

    for number, ended in enumerate(engine.run(twice, tasks()), 1):
        assert ended.result == 2 * ended.task
        assert len(given) <= number + 2
    assert number == len(given) == 20


def twice(task: int, share: int) -> int:
    return 2 * task


def test_a_pool_is_not_started_for_little_work(lake: Lake, whole: dict[str, Any]) -> None:
    work: Callable[[int, int], int] = lambda task, share: share  # noqa: E731 - no pickle takes it
    assert [o.result for o in Pool(2).run(work, [1, 2], light=True)] == [1, 1]


@pytest.mark.parametrize(("sent", "to_all"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_no_worker_outlives_a_run_that_was_stopped(lake: Lake, sent: int, to_all: bool) -> None:
    """By Ctrl-C, which every process of a terminal gets, or by a kill that none can answer."""
    script = (
        "import sys\nfrom etl import derive, engines\nfrom etl.cli import main\n"
        "derive.MOST_SESSIONS = 30\n"
        "if __name__ == '__main__':\n    main(sys.argv[1:])\n"
    )
    (lake.root.parent / "hydra.py").write_text(script)
    words = [str(lake.root.parent / "hydra.py"), "--lake", str(lake.root), "--now", NOW.isoformat()]
    run = subprocess.Popen([sys.executable, *words, "derive"], start_new_session=True)
    wait_until(lambda: any(lake.staging.glob("derived-ZO-*/*.parquet")))
    if to_all:
        os.killpg(run.pid, sent)
    else:
        os.kill(run.pid, sent)
    assert run.wait(SECONDS) != 0
    wait_until(lambda: not is_alive(run.pid))


def wait_until(so: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not so():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("etl.engines.dask._PATIENCE", 1)
    for name, what in (
        ("dask", r"127\.0\.0\.1:9: no Dask scheduler"),
        ("local", "say --engine dask"),
    ):
        with pytest.raises(BadInput, match=what), engines.opened(name, "tcp://127.0.0.1:9"):
            pass
