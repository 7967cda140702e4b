"""One writer at a time, and readers who notice nothing of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

from etl import jobs
from etl.build import build
from etl.derive import derive
from etl.lake import Lake
from etl.market import markets

CLI = shutil.which("duckdb", path=str(Path(sys.executable).parent))
NOW = "2025-03-14T12:00:00Z"
WHEN = datetime.fromisoformat(NOW)
BUILDS = int(os.environ.get("HYDRA_TEST_BUILDS", "4"))  # make many-builds: 50
SESSIONS = 8
PAUSE = 0.1  # seconds between two questions of a session

#: What a session asks again and again, and the answer that every build must give.
QUESTION = "select count(*), max(session_date) from features.daily_v1;\n"


def start(lake: Path, *words: object) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "etl", "--lake", str(lake), "--now", NOW, *map(str, words)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of two sessions of ZO, for the test that builds it over and over."""
    lake, now, market = Lake(tmp_path_factory.mktemp("made") / "lake"), WHEN, markets()["ZO"]
    with lake.writing(now):
        jobs.land_sample(lake, [market], 2, now, lambda line: None)
        derive(lake, market, now)
        build(lake, {"ZO": market}, now)
    return lake


def daily(lake: Path) -> subprocess.Popen[str]:
    return start(lake, "daily", "--source", "sample", "--market", "ZO", "--days", "2")


def wait_until_it_writes(process: subprocess.Popen[str], lake: Path) -> None:
    while not (lake / "batches").exists():
        assert process.poll() is None
        time.sleep(0.01)


def test_of_two_dailies_one_works_and_the_other_says_who(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = daily(lake)
    wait_until_it_writes(first, lake)
    second = daily(lake)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 6
    line = said.splitlines()[-1]
    holder = rf"process {first.pid} on {re.escape(socket.gethostname())} since {NOW}"
    assert re.fullmatch(rf"hydra: the lake at .* is being written by {holder}: wait .*", line)
    _, said = first.communicate(timeout=300)
    assert first.returncode == 0, said


def test_the_lock_of_a_killed_daily_is_taken_over(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = daily(lake)
    wait_until_it_writes(first, lake)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=300)
    assert f"process {first.pid} on " in (lake / ".lock").read_text()
    second = daily(lake)
    _, said = second.communicate(timeout=300)
    assert second.returncode == 0, said


class Session:
    """A ``duckdb`` command line that stays open on the database it was started with."""

    def __init__(self, database: Path) -> None:
        call = [str(CLI), "-readonly", "-csv", "-noheader", str(database)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(call, text=True, **pipes)

    def ask(self) -> str:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(QUESTION)
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def end(self) -> str:
        _, said = self.process.communicate(timeout=300)
        return said


@pytest.mark.skipif(CLI is None, reason="the development environment has duckdb-cli")
def test_readers_never_fail_and_never_block_a_build(made: Lake, tmp_path: Path) -> None:
    """Half of the sessions stay open, the others are opened anew; exports go on beside them."""
    lake, database = made, made.database
    staying = [Session(database) for _ in range(SESSIONS // 2)]
    answer = staying[0].ask()
    stop, wrong, asked = threading.Event(), [], [0] * (SESSIONS + 1)

    def check(number: int, said: str, error: str = "") -> None:
        asked[number] += 1
        if said != answer or error:
            wrong.append((number, said, error))

    def stay(number: int) -> None:
        while not stop.is_set():
            check(number, staying[number].ask())
            time.sleep(PAUSE)
        check(number, answer, staying[number].end())

    def come_and_go(number: int) -> None:
        while not stop.is_set():
            session = Session(database)
            check(number, session.ask(), session.end())
            time.sleep(PAUSE)

    def export(number: int) -> None:
        first = None
        while not stop.is_set():
            target = tmp_path / "x.csv"
            process = start(lake.root, "-q", "export", "features.cot_v1", "-o", target)
            _, said = process.communicate(timeout=300)
            first = first or target.read_bytes()
            check(number, answer if target.read_bytes() == first else "torn", said)
            time.sleep(PAUSE)

    works = [stay] * len(staying) + [come_and_go] * (SESSIONS - len(staying)) + [export]
    readers = [threading.Thread(target=work, args=(n,)) for n, work in enumerate(works)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(BUILDS):
            with lake.writing(WHEN):
                build(lake, markets(), WHEN)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert not wrong
    assert min(asked) > 1
    assert list(lake.staging.iterdir()) == []
    assert sorted(os.listdir(tmp_path)) == ["datapackage.json", "x.csv"]
