"""Landing: append-only, each row once, whole or not at all, and a report's vintages."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import BadInput, LakeError
from etl.lake import Lake
from etl.landing import Landed, land
from etl.schemas import HIVE_SCHEMA, LINEAGE, raw_schema, source_schema
from etl.sources import Payload

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


class Killed(BaseException):
    """Stands for the end of the process: nothing of the project catches it."""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def bar(day: int, close: float | None = 85.0, **other: Any) -> dict[str, Any]:
    at = datetime(2025, 3, 1, tzinfo=UTC) + timedelta(days=day)
    bars = {"instrument_id": 7, "contract": "HEJ5", "open": 84.5, "high": 86.0, "low": 84.0}
    row = {"market": "HE", "as_of": at, "available_at": at, "source": "databento", **bars}
    return {**row, "close": close, "volume": 1000 + day, **other}


def report(day: int, longs: int | None = 50, **other: Any) -> dict[str, Any]:
    """A COT row of a Tuesday in March 2025, released on Friday."""
    at = datetime(2025, 3, day, 21, tzinfo=UTC)
    row = {
        "market": "HE",
        "as_of": at,
        "available_at": at + timedelta(days=2, hours=22, minutes=30),
        "source": "cftc",
        "report": "disaggregated_futures",
        "report_date": date(2025, 3, day),
        "cot_code": "054642",
        "name": "LEAN HOGS",
        "open_interest": 100,
        "managed_money_long": longs,
        "release_estimated": False,
    }
    return {**row, **other}


def payload(*chunks: list[dict[str, Any]], dataset: str = "futures_1d", name: str = "") -> Payload:
    """A payload of one dataset; the same chunks are the same bytes."""
    schema = source_schema(dataset)
    frames = [(dataset, pl.DataFrame(rows, schema=schema)) for rows in chunks]
    digest = hashlib.sha256(repr((name, chunks)).encode()).hexdigest()
    return Payload("databento", name or "file.dbn", digest, iter(frames))


def put(lake: Lake, given: Payload, now: datetime = NOW, origin: str = "vendor") -> Landed:
    with lake.writing(now):
        return land(lake, given, now, origin)


def put_reports(lake: Lake, *rows: dict[str, Any], now: datetime) -> Landed:
    return put(lake, payload(list(rows), dataset="cot"), now)


def landed(lake: Lake, dataset: str = "futures_1d") -> pl.DataFrame:
    """Every row that landed, as the raw view shows it."""
    files = lake.raw_files(dataset)
    if not files:
        return pl.DataFrame(schema=raw_schema(dataset))
    return (
        pl.read_parquet(files, hive_partitioning=True, hive_schema=HIVE_SCHEMA)
        .select(list(raw_schema(dataset)))
        .sort("market", "available_at", "ingested_at", "close" if dataset != "cot" else "as_of")
    )


def given_rows(lake: Lake, dataset: str = "futures_1d") -> list[dict[str, Any]]:
    return landed(lake, dataset).drop(*LINEAGE).to_dicts()


def bytes_of(lake: Lake) -> dict[Path, str]:
    folders = (lake.raw, lake.batches)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- rows ---------------------------------------------------------------------------------------


def test_rows_land_as_they_came_with_their_lineage(lake: Lake) -> None:
    rows = [bar(1), bar(2, None), bar(40, market="LE", contract=None)]
    done = put(lake, payload(rows))
    frame = landed(lake)
    assert frame.schema == raw_schema("futures_1d")
    assert frame.drop(*LINEAGE).to_dicts() == rows
    assert frame["ingested_at"].unique().to_list() == [NOW]
    assert frame["batch_id"].n_unique() == 1
    assert done.rows == {"futures_1d": 3}
    assert done.line() == "file.dbn: 3 rows of futures_1d"


def test_a_row_lies_in_the_month_of_its_as_of(lake: Lake) -> None:
    late = bar(3, available_at=datetime(2025, 4, 2, tzinfo=UTC))
    put(lake, payload([late, bar(40), bar(-60)]))
    assert [str(path.parent.relative_to(lake.raw)) for path in lake.raw_files()] == [
        "dataset=futures_1d/market=HE/year=2024/month=12",
        "dataset=futures_1d/market=HE/year=2025/month=03",
        "dataset=futures_1d/market=HE/year=2025/month=04",
    ]


def test_the_record_says_what_a_batch_brought(lake: Lake) -> None:
    given = payload([bar(1), bar(2), bar(40)])
    given.left_out["spread"] += 5
    given.notes.append("of 2025")
    done = put(lake, given)
    (record,) = lake.batch_records()
    assert record["payload_sha256"] == given.sha256
    assert record["rows"] == 3
    assert record["left_out"] == {"spread": 5}
    assert record["ingested_at"] == NOW.isoformat()
    assert record["description"] == "file.dbn"
    for file in record["files"]:
        path = lake.root / file["path"]
        assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        rows = pl.read_parquet(path, hive_partitioning=False)
        assert file["rows"] == rows.height
        known = file["first_available_at"], file["last_available_at"]
        span = rows["available_at"].min(), rows["available_at"].max()
        assert tuple(map(datetime.fromisoformat, known)) == span
    assert done.line() == "file.dbn: 3 rows of futures_1d, 5 left out (spread), of 2025"


def test_a_payload_without_rows_lands_as_nothing_and_says_so(lake: Lake) -> None:
    done = put(lake, payload([]))
    assert done.line() == "file.dbn: nothing new"
    assert lake.raw_files() == lake.batch_records() == []


# --- each row once ------------------------------------------------------------------------------


def test_the_same_payload_twice_adds_nothing(lake: Lake) -> None:
    rows = [bar(1), bar(2, None), bar(40, market="LE")]
    put(lake, payload(rows))
    before = bytes_of(lake)
    again = put(lake, payload(rows), LATER)
    assert bytes_of(lake) == before
    assert again.rows.total() == 0
    assert again.line() == "file.dbn: 3 already there"


def test_overlapping_payloads_add_only_what_is_new(lake: Lake) -> None:
    put(lake, payload([bar(1), bar(2)]))
    done = put(lake, payload([bar(2), bar(3)]), LATER)
    assert given_rows(lake) == [bar(1), bar(2), bar(3)]
    assert (done.rows["futures_1d"], done.known["futures_1d"]) == (1, 1)
    assert landed(lake)["ingested_at"].to_list() == [NOW, NOW, LATER]


def test_a_row_that_a_payload_repeats_lands_once(lake: Lake) -> None:
    put(lake, payload([bar(1), bar(1), bar(2)], [bar(2), bar(3)], [bar(1)]))
    assert given_rows(lake) == [bar(1), bar(2), bar(3)]


@pytest.mark.parametrize(
    "other",
    [
        {"close": 85.25},
        {"close": None},
        {"contract": "HEM5"},
        {"volume": None},
        {"source": "sample"},
        {"available_at": bar(1)["available_at"] + timedelta(microseconds=1)},
        {"as_of": bar(1)["as_of"] - timedelta(microseconds=1)},
        {"market": "LE"},
    ],
    ids=str,
)
def test_a_row_that_differs_in_one_value_is_another_row(lake: Lake, other: dict[str, Any]) -> None:
    put(lake, payload([bar(1)]))
    done = put(lake, payload([bar(1) | other]), LATER)
    assert done.rows["futures_1d"] == 1
    assert len(given_rows(lake)) == 2


def test_a_landed_file_is_never_changed(lake: Lake) -> None:
    seen: dict[Path, str] = {}
    for hour, rows in enumerate(([bar(1)], [bar(1), bar(2)], [bar(1, 99.0)], [bar(40), bar(2)])):
        put(lake, payload(rows), NOW + timedelta(hours=hour))
        now = bytes_of(lake)
        assert seen.items() <= now.items()
        seen = now


def test_two_runs_of_one_instant_do_not_hurt_each_other(lake: Lake) -> None:
    """A file can bring more in a second run, as when definitions came in between."""
    first, second = payload([bar(1)]), payload([bar(1), bar(2)])
    second.sha256 = first.sha256
    put(lake, first)
    before = bytes_of(lake)
    put(lake, second)
    assert before.items() <= bytes_of(lake).items()
    assert given_rows(lake) == [bar(1), bar(2)]
    assert len(lake.batch_records()) == 2


def test_vintages_of_one_instant_all_land(lake: Lake) -> None:
    at = bar(1)["as_of"]
    vintages = [bar(1, x, available_at=at + timedelta(hours=h)) for h, x in ((0, 1.0), (9, 2.0))]
    put(lake, payload(vintages[::-1]))
    assert given_rows(lake) == vintages


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([None, 1.0, 2.0])), max_size=6))
)
def test_whatever_comes_in_whatever_order_each_row_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[list[tuple[int, float | None]]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for i, rows in enumerate(payloads):
        put(lake, payload([bar(*row) for row in rows]), NOW + timedelta(hours=i))
    want = {row for rows in payloads for row in rows}
    got = landed(lake)
    days = (got["as_of"].dt.ordinal_day() - 60).to_list()
    assert len(days) == len(want)
    assert set(zip(days, got["close"].to_list(), strict=True)) == want


# --- whole or not at all ------------------------------------------------------------------------


def broken(*chunks: list[dict[str, Any]]) -> Payload:
    """A payload whose rest turns out damaged."""
    given = payload(*chunks, name="broken.dbn")

    def frames() -> Iterator[tuple[str, pl.DataFrame]]:
        yield from payload(*chunks).frames
        raise BadInput("broken.dbn: breaks off; download it again")

    given.frames = frames()
    return given


def test_nothing_of_a_damaged_payload_lands(lake: Lake) -> None:
    put(lake, payload([bar(1)]))
    before = bytes_of(lake)
    with lake.writing(LATER):
        with pytest.raises(BadInput, match="breaks off"):
            land(lake, broken([bar(2)], [bar(40)]), LATER, "vendor")
        land(lake, payload([bar(3)]), LATER, "vendor")
    assert given_rows(lake) == [bar(1), bar(3)]
    assert before.items() <= bytes_of(lake).items()
    with lake.writing(LATER):
        assert not list(lake.staging.iterdir())


def test_frames_are_made_no_more_than_one_ahead(lake: Lake) -> None:
    """So that memory is bounded by the frame, however long the payload is."""
    given = payload(*([bar(day)] for day in range(20)))
    frames, staged = given.frames, []

    def watched() -> Iterator[tuple[str, pl.DataFrame]]:
        for frame in frames:
            staged.append(len(list(lake.staging.rglob("*.parquet"))))
            yield frame

    given.frames = watched()
    put(lake, given)
    assert len(staged) == 20
    assert all(landed >= number - 1 for number, landed in enumerate(staged))


def test_a_refused_first_file_does_not_decide_what_a_lake_is_for(lake: Lake) -> None:
    with pytest.raises(BadInput):
        put(lake, broken([bar(1)]))
    put(lake, payload([bar(1)]), origin="sample")
    assert lake.origin == "sample"


def test_data_of_another_origin_is_refused_before_it_is_read(lake: Lake) -> None:
    put(lake, payload([bar(1)]), origin="sample")
    before = bytes_of(lake)
    given = payload([bar(2)])
    with pytest.raises(LakeError, match="holds sample data and takes no vendor data"):
        put(lake, given, LATER)
    assert bytes_of(lake) == before
    assert len(list(given.frames)) == 1


def test_a_source_in_another_schema_is_refused(lake: Lake) -> None:
    given = payload([bar(1)])
    frame = pl.DataFrame([bar(2)]).with_columns(volume=pl.lit(1, pl.Int32))
    given.frames = iter([*given.frames, ("futures_1d", frame)])
    with pytest.raises(LakeError, match="databento gave futures_1d in another schema"):
        put(lake, given)
    assert lake.raw_files() == []


@pytest.mark.parametrize("number", range(1, 5))
def test_a_full_disk_is_one_line_and_the_lake_is_as_before(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The disk fills up at each write before the commit: two files, their names, the record."""
    put(lake, payload([bar(1)]))
    before = bytes_of(lake)
    real, calls = os.fsync, iter(range(1, 100))

    def fsync(handle: int) -> None:
        if next(calls) == number:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch, lake.writing(LATER):
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(LakeError, match=r"^cannot write [^\n]*: No space left on device$"):
            land(lake, payload([bar(2), bar(40)]), LATER, "vendor")
    with lake.writing(LATER):
        pass
    assert bytes_of(lake) == before
    assert not list(lake.staging.iterdir())


@pytest.mark.parametrize("where", ["fsync", "replace", "rmdir", "mkdir", "open"])
def test_a_kill_at_any_point_lands_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    chunks = [bar(1), bar(2)], [bar(40), bar(2, 99.0), bar(3, market="LE")]
    undisturbed = Lake(tmp_path / "undisturbed")
    put(undisturbed, payload([bar(0)]))
    put(undisturbed, payload(*chunks), LATER)
    want = given_rows(undisturbed)
    real = getattr(os, where)
    for number in range(1, 100):
        lake = Lake(tmp_path / f"{where}-{number}")
        put(lake, payload([bar(0)]))
        calls = iter(range(1, 1000))

        def call(
            *arguments: Any,
            calls: Iterator[int] = calls,
            number: int = number,
            **named: Any,
        ) -> Any:
            if next(calls) == number:
                raise Killed
            return real(*arguments, **named)

        with lake.writing(LATER):
            try:
                with monkeypatch.context() as patch:
                    patch.setattr(os, where, call)
                    land(lake, payload(*chunks), LATER, "vendor")
                finished = True
            except Killed:
                finished = False
        with lake.writing(LATER):  # the next writer puts the lake in order
            assert given_rows(lake) in (want[:1], want)
            assert not [*lake.root.rglob("*.part"), *lake.staging.glob("*")]
            assert {str(path.relative_to(lake.root)) for path in lake.raw_files()} == {
                file["path"] for record in lake.batch_records() for file in record["files"]
            }
            land(lake, payload(*chunks), LATER, "vendor")
        assert given_rows(lake) == want
        if finished:
            break
    assert finished
    assert number > 1


# --- the CFTC's reports -------------------------------------------------------------------------


def longs(lake: Lake) -> list[tuple[int | None, datetime]]:
    frame = landed(lake, "cot")
    return list(frame.select("managed_money_long", "available_at").iter_rows())


FIRST = report(4)["available_at"]


def test_a_report_is_known_from_its_release_whenever_it_lands(lake: Lake) -> None:
    put_reports(lake, report(4), now=NOW)
    assert longs(lake) == [(50, FIRST)]
    assert landed(lake, "cot")["ingested_at"].to_list() == [NOW]


def test_an_unchanged_download_adds_nothing(lake: Lake) -> None:
    put_reports(lake, report(4), report(11, None), now=NOW)
    before = bytes_of(lake)
    done = put_reports(lake, report(11, None), report(4), now=LATER)
    assert bytes_of(lake) == before
    assert done.line() == "file.dbn: 2 already there"


def test_a_new_report_comes_with_known_ones(lake: Lake) -> None:
    put_reports(lake, report(4), now=NOW)
    done = put_reports(lake, report(4), report(11), now=LATER)
    assert (done.rows["cot"], done.known["cot"]) == (1, 1)
    assert longs(lake) == [(50, FIRST), (50, report(11)["available_at"])]


@pytest.mark.parametrize("values", [(50, 51), (50, None), (None, 50)])
def test_a_changed_cell_is_a_vintage_from_when_it_was_seen(
    lake: Lake, values: tuple[int | None, int | None]
) -> None:
    put_reports(lake, report(4, values[0]), report(11), now=NOW)
    before = bytes_of(lake)
    put_reports(lake, report(4, values[1]), report(11), now=LATER)
    assert before.items() <= bytes_of(lake).items()
    frame = landed(lake, "cot").filter(pl.col("report_date") == date(2025, 3, 4))
    assert frame["managed_money_long"].to_list() == list(values)
    assert frame["available_at"].to_list() == [FIRST, LATER]
    assert frame["as_of"].n_unique() == 1


def test_a_value_that_comes_back_is_a_third_vintage(lake: Lake) -> None:
    later = [NOW + timedelta(days=day) for day in range(6)]
    for now, value in zip(later, (50, 51, 51, 50, 50, 51), strict=True):
        put_reports(lake, report(4, value), now=now)
    assert longs(lake) == [(50, FIRST), (51, later[1]), (50, later[3]), (51, later[5])]


def test_a_revision_before_the_release_is_not_known_before_it(lake: Lake) -> None:
    early = FIRST - timedelta(hours=5)
    put_reports(lake, report(4), now=early)
    put_reports(lake, report(4, 51), now=early + timedelta(hours=1))
    assert longs(lake) == [(50, FIRST), (51, FIRST + timedelta(microseconds=1))]


def test_a_release_that_turns_out_later_holds_for_the_revision(lake: Lake) -> None:
    """The release calendar was corrected between two downloads."""
    late = FIRST + timedelta(days=9)
    put_reports(lake, report(4), now=NOW)
    put_reports(lake, report(4, 51, available_at=late), now=LATER)
    assert late > LATER
    assert longs(lake) == [(50, FIRST), (51, late)]


def test_vintages_stay_in_order_when_the_clock_goes_back(lake: Lake) -> None:
    instants = (NOW, LATER, *[NOW + timedelta(minutes=1)] * 2, LATER)
    with lake.writing(NOW):  # which lets no run begin in the past
        for now, value in zip(instants, (50, 51, 52, 52, 53), strict=True):
            land(lake, payload([report(4, value)], dataset="cot"), now, "vendor")
    tick = timedelta(microseconds=1)
    assert longs(lake) == [(50, FIRST), (51, LATER), (52, LATER + tick), (53, LATER + 2 * tick)]


def test_a_report_of_another_market_is_another_report(lake: Lake) -> None:
    put_reports(lake, report(4), now=NOW)
    put_reports(lake, report(4, market="ZO"), now=LATER)
    assert longs(lake) == [(50, FIRST)] * 2


def test_the_release_flag_alone_makes_no_vintage(lake: Lake) -> None:
    put_reports(lake, report(4), now=NOW)
    done = put_reports(lake, report(4, release_estimated=True), now=LATER)
    assert done.rows.total() == 0


def test_a_record_is_plain_json(lake: Lake) -> None:
    put(lake, payload([bar(1)]))
    (path,) = lake.batches.iterdir()
    assert path.read_text().endswith("}\n")
    assert json.loads(path.read_text())["batch_id"] == path.stem


def test_reports_are_compared_with_those_of_their_months(lake: Lake) -> None:
    """A download of one month opens no file of others, however many there are."""
    put_reports(lake, report(4), now=NOW)
    (before,) = lake.raw_files("cot")
    before.write_bytes(b"")
    april = datetime(2025, 4, 1, 21, tzinfo=UTC)
    later = report(4, as_of=april, available_at=april + timedelta(days=3), report_date=april.date())
    assert put_reports(lake, later, now=LATER).rows["cot"] == 1
    assert put_reports(lake, later, now=LATER).known["cot"] == 1
