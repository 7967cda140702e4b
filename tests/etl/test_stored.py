"""The stored months: files named by their content, and superseded ones kept for a while."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from etl.lake import Lake, fingerprint
from etl.stored import KEPT, Month, Months, derived_files, stage
from etl.verify import verify

NOW = datetime(2025, 3, 6, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.claim("sample")
    return lake


def put(lake: Lake, now: datetime, *values: int, anew: bool = False) -> Path:
    """A run that stores a month; its file in force."""
    with lake.writing(now):
        months = Months(lake, "HE")
        if anew:
            months.forget()
        if values:
            march = Month("chain_v1", 2025, 3)
            months.put(stage(lake, months.staging, march, pl.DataFrame({"x": values})))
        months.commit({"code": "", "known_at": now.isoformat(), "files": []}, now)
    (file,) = derived_files(lake, "chain_v1")
    return file


def stored(lake: Lake) -> set[Path]:
    return set(lake.derived.rglob("*.parquet"))


def test_a_file_is_named_by_its_content(lake: Lake) -> None:
    file = put(lake, NOW, 1, 2)
    assert file.name == f"rows-{fingerprint(file)['sha256'][:16]}.parquet"
    months = Months(lake, "HE")
    found = months.files({(2025, 3), (2025, 4)})
    assert found == {Month("chain_v1", 2025, 3): str(file.relative_to(lake.root))}
    assert pl.read_parquet(file)["x"].to_list() == [1, 2]


def test_a_month_of_the_same_rows_is_not_written_again(lake: Lake) -> None:
    file = put(lake, NOW, 1, 2)
    inode = file.stat().st_ino
    assert put(lake, NOW + DAY, 1, 2) == file
    assert file.stat().st_ino == inode
    assert stored(lake) == {file}


def test_a_superseded_file_stays_a_week_as_it_was(lake: Lake) -> None:
    old = put(lake, NOW, 1)
    before = old.read_bytes()
    new = put(lake, NOW + DAY, 1, 2)
    assert put(lake, NOW + DAY + KEPT) == new
    assert stored(lake) == {old, new}
    assert old.read_bytes() == before
    assert verify(lake) == (2, [])
    put(lake, NOW + DAY + KEPT + DAY)
    assert stored(lake) == {new}
    assert verify(lake) == (1, [])


def test_what_the_last_database_shows_stays_however_old_it_is(lake: Lake) -> None:
    old = put(lake, NOW, 1)
    built = {"built_at": (NOW + DAY / 2).isoformat(), "sha256": "", "rows": {}}
    lake.database_record.write_text(json.dumps(built))
    new = put(lake, NOW + DAY, 1, 2)
    put(lake, NOW + 9 * KEPT)
    assert stored(lake) == {old, new}
    lake.database_record.write_text(json.dumps(built | {"built_at": (NOW + 9 * KEPT).isoformat()}))
    put(lake, NOW + 9 * KEPT + DAY)
    assert stored(lake) == {new}


def test_what_was_superseded_can_be_in_force_again(lake: Lake) -> None:
    old = put(lake, NOW, 1)
    new = put(lake, NOW + DAY, 1, 2)
    assert put(lake, NOW + 2 * DAY, 1) == old
    assert stored(lake) == {old, new}
    put(lake, NOW + 2 * KEPT)
    assert stored(lake) == {old}
    assert verify(lake) == (1, [])


def test_a_damaged_file_is_made_anew_and_is_no_superseded_one(lake: Lake) -> None:
    file = put(lake, NOW, 1)
    before = file.read_bytes()
    file.write_bytes(before[:-9])
    assert not Months(lake, "HE").is_whole()
    assert put(lake, NOW, 1, anew=True) == file
    assert file.read_bytes() == before
    file.write_bytes(before[:-9])
    new = put(lake, NOW, 2, anew=True)
    assert stored(lake) == {new}
    assert verify(lake) == (1, [])


def test_what_is_made_anew_supersedes_every_month(lake: Lake) -> None:
    with lake.writing(NOW):
        months = Months(lake, "HE")
        for month in (1, 2):
            rows = pl.DataFrame({"x": [month]})
            months.put(stage(lake, months.staging, Month("chain_v1", 2025, month), rows))
        months.commit({"code": "", "known_at": NOW.isoformat(), "files": []}, NOW)
    before = stored(lake)
    new = put(lake, NOW + DAY, 3, anew=True)
    assert derived_files(lake, "chain_v1") == [new]
    assert stored(lake) == {*before, new}
    assert verify(lake) == (3, [])
