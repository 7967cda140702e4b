"""hydra doctor: what is fit, what is not, and what to do about it."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import doctor
from etl.cli import main
from etl.lake import Lake
from etl.market import markets

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
HOGS = {"HE": markets()["HE"]}


def examined(lake: Lake, key: str = "", now: datetime = NOW) -> dict[str, tuple[str, str, str]]:
    return {name: rest for name, *rest in doctor.examine(lake, HOGS, key, now)}  # type: ignore[misc]


def hydra(root: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--lake", str(root), "--now", NOW.isoformat(), *words])


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY", raising=False)


def test_a_fit_machine_exits_0_and_nothing_is_changed(own_lake: Any) -> None:
    root = own_lake.lake.root
    before = {
        path: path.stat().st_mtime_ns for path in root.rglob("*.*") if "logs" not in path.parts
    }
    result = hydra(root, "doctor")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0].split() == list(doctor.COLUMNS)
    after = {path: path.stat().st_mtime_ns for path in before}
    assert after == before
    rows = json.loads(hydra(root, "doctor", "--format", "json").stdout)
    assert {row["state"] for row in rows} <= {"ok", "warn"}
    by_name = {row["check"]: row for row in rows}
    assert by_name["lake"]["found"] == f"{root}: sample data of HE, ZO"
    assert by_name["calendars"]["found"] == "sessions ahead for HE, ZO"
    assert "America/Chicago" in by_name["time zones"]["found"]
    assert all(row["advice"] for row in rows if row["state"] != "ok")


def test_a_lake_that_is_not_there_yet_is_fit(tmp_path: Path) -> None:
    result = hydra(tmp_path / "lake", "doctor")
    assert result.exit_code == 0
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("key", "state", "found"),
    [
        ("", "warn", "none: the sample vendor alone"),
        ("nonsense", "warn", "set, but does not look like one (db-…)"),
        ("db-" + "x" * 29, "ok", "set"),
    ],
)
def test_a_key_is_looked_at_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, state: str, found: str
) -> None:
    assert examined(Lake(tmp_path), key)["databento key"][:2] == [state, found]
    monkeypatch.setenv("DATABENTO_API_KEY", key)
    output = hydra(tmp_path, "doctor").output
    assert found in output
    assert not key or key not in output


def test_a_damaged_lake_fails(own_lake: Any) -> None:
    lake = own_lake.lake
    lake.database.write_bytes(b"not a database")
    lake.marker.write_text("{")
    found = examined(lake)
    assert found["lake"][0] == "fail"
    assert found["database"][0] == "fail"
    assert found["database"][2] == "hydra build makes it anew"
    assert hydra(lake.root, "doctor").exit_code == 1


def test_a_held_lock_is_said_with_its_holder(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.writing(NOW):
        state, found, _ = examined(lake)["lock"]
    assert state == "warn"
    assert f"held by process {os.getpid()} on " in found
    assert examined(lake)["lock"][:2] == ["ok", "free"]


@pytest.mark.parametrize(("free", "state"), [(10**9, "fail"), (10**10, "warn"), (10**11, "ok")])
def test_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, free))
    assert examined(Lake(tmp_path / "not" / "yet"))["disk"][0] == state


def test_packages_are_held_to_what_is_needed_and_to_the_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def packages(*needed: str, pins: str = "") -> list[str]:
        path = tmp_path / "constraints.txt"
        path.write_text(pins)
        monkeypatch.setattr(doctor, "_CONSTRAINTS", path)
        monkeypatch.setattr(doctor, "requires", lambda _: list(needed))
        return list(examined(Lake(tmp_path))["packages"])

    assert packages("click>=8.0", 'pytest>=1; extra == "dev"')[0] == "ok"
    assert packages("click>=999")[:2][0] == "fail"
    assert "click>=999 (found" in packages("click>=999")[1]
    assert packages("no-such-thing>=1")[1] == "not there: no-such-thing"
    state, found, _ = packages("click>=8.0", pins="# exact\nClick==0.1\n")
    assert (state, found.split()[:4]) == ("warn", ["not", "as", "pinned:", "click"])


def test_a_release_calendar_that_has_run_out_is_a_warning(tmp_path: Path) -> None:
    late = datetime(2031, 1, 1, tzinfo=UTC)
    state, found, advice = examined(Lake(tmp_path), now=late)["COT releases"]
    assert state == "warn"
    assert found.startswith("known for reports to 20")
    assert "etl/cot_releases.toml" in advice


def test_no_duckdb_command_line_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))
    assert examined(Lake(tmp_path))["duckdb"][0] == "warn"
