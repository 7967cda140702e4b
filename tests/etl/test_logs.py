"""The log in the lake: JSON lines with the run's id, bounded, without secrets, never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from loguru import logger

from etl import logs
from etl.cli import main

NOW = "2025-03-14T12:00:00Z"


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "logs" / "hydra.jsonl").read_text().splitlines()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    folder.mkdir()
    return folder


def test_a_run_is_told_to_people_and_kept_as_json(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.start(root, "run-1", "daily", quiet=False)
    logger.info("HE: {braces} and <tags> and “quotes”\nand a second line")
    logger.debug("for nobody")
    logs.note("ERROR", "told already")
    assert capsys.readouterr().err == "HE: {braces} and <tags> and “quotes”\nand a second line\n"
    first, second = lines(root)
    assert first["message"] == "HE: {braces} and <tags> and “quotes”\nand a second line"
    assert {first["run"], second["run"]} == {"run-1"}
    assert (first["level"], second["level"]) == ("INFO", "ERROR")
    assert first["command"] == "daily"
    assert datetime.fromisoformat(first["at"]).utcoffset() is not None


def test_quiet_is_for_people_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs.start(root, "run-1", "daily", quiet=True)
    logger.info("one")
    logger.warning("two")
    assert capsys.readouterr().err == "two\n"
    assert [line["message"] for line in lines(root)] == ["one", "two"]


def test_the_log_is_bounded(root: Path) -> None:
    logs.start(root, "run-1", "daily", quiet=True)
    for _ in range(100):
        logger.info("x" * 500_000)
    held = sorted((root / "logs").iterdir())
    assert [path.name for path in held] == ["hydra.jsonl", *(f"hydra.jsonl.{n}" for n in "1234")]
    assert sum(path.stat().st_size for path in held) < 26_000_000


def test_no_secret_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", "db-never-to-be-seen")
    logs.start(root, "run-1", "daily", quiet=True)
    logger.info("asked with db-never-to-be-seen at postgresql://ann:hush@host/db and http://a/b@c")
    try:
        raise ValueError("db-never-to-be-seen")
    except ValueError as error:
        logger.opt(exception=error).info("failed")
    text = (root / "logs" / "hydra.jsonl").read_text()
    assert "never-to-be-seen" not in text
    assert "hush" not in text
    assert "postgresql://ann:***@host/db and http://a/b@c" in text


def test_a_lake_that_is_not_there_gets_no_log_until_it_is(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    logs.start(root, "run-1", "daily", quiet=True)
    logger.info("before")
    assert not root.exists()
    root.mkdir()
    logger.info("after")
    assert [line["message"] for line in lines(root)] == ["after"]


@pytest.mark.parametrize("in_the_way", ["logs", "logs/hydra.jsonl"])
def test_a_log_that_cannot_be_written_fails_nothing(
    root: Path, in_the_way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if in_the_way == "logs":
        (root / "logs").touch()  # a file where the folder should be
    else:
        (root / in_the_way).mkdir(parents=True)
    logs.start(root, "run-1", "daily", quiet=False)
    logger.info("said all the same")
    assert capsys.readouterr().err == "said all the same\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_lake_for_reading_only_is_read(sample_lake: Any, own_lake: Any) -> None:
    root = own_lake.lake.root
    root.chmod(0o555)
    try:
        result = CliRunner().invoke(main, ["--lake", str(root), "status"])
    finally:
        root.chmod(0o755)
    assert result.exit_code == 0
    assert result.stderr == ""


def test_how_a_run_ended_is_kept(own_lake: Any) -> None:
    root = own_lake.lake.root
    for words in (["status"], ["export", "features.nope", "-o", "x"], ["daily", "--help"]):
        CliRunner().invoke(main, ["--lake", str(root), "--now", NOW, *words])
    status, error, export = lines(root)[-3:]  # the lake it is a copy of may have been read before
    assert status["message"].startswith("exit code 0 after ")
    assert status["command"] == "status"
    assert status["run"] == f"20250314T120000Z-{os.getpid()}"
    assert error["level"] == "ERROR"
    assert error["message"].startswith("unknown view 'features.nope'")
    assert export["message"].startswith("exit code 3 after ")


def test_a_traceback_shows_no_values(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom loguru import logger\nfrom etl import logs\n"
        f"logs.start(Path({str(tmp_path)!r}), 'r', 'c', quiet=False)\n"
        "def ask(key):\n    return {}[0]\n"
        "try:\n    ask('sesame')\nexcept KeyError:\n    logger.exception('failed')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "KeyError" in done.stderr
    said = [line for line in done.stderr.splitlines() if "ask('sesame')" not in line]
    assert "sesame" not in "\n".join(said)
    assert "sesame" not in (tmp_path / "logs" / "hydra.jsonl").read_text()
