"""DBN files: what is taken, what is left out, and which instant each row was known at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import databento
import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from etl.calendars import session_close_at
from etl.errors import BadInput
from etl.market import Market, markets
from etl.schemas import source_schema
from etl.sources import Payload, dbn

REAL = Path(__file__).parents[3] / ".." / "shared" / "data" / "dbn"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no real DBN files beside the project")

DbnBytes = Callable[..., bytes]
Read = Callable[..., tuple[dict[str, pl.DataFrame], Payload]]

UNDEF_PRICE = (1 << 63) - 1
UNDEF_TIME = (1 << 64) - 1
UNDEF_SIZE = (1 << 32) - 1
#: 2024-05-09 18:00:00.000000001 UTC
NS = 1_715_277_600_000_000_001
INSTANT = datetime(2024, 5, 9, 18, tzinfo=UTC)


def us(micro: int) -> datetime:
    return INSTANT.replace(microsecond=micro)


@pytest.fixture(scope="module")
def known() -> dict[str, Market]:
    return markets()


def collect(payload: Payload) -> dict[str, pl.DataFrame]:
    """All frames of a payload, each proved to be exactly in its dataset's schema."""
    found: dict[str, list[pl.DataFrame]] = {}
    for dataset, frame in payload.frames:
        assert frame.schema == source_schema(dataset)
        assert not frame.is_empty()
        assert (frame["as_of"] <= frame["available_at"]).all()
        found.setdefault(dataset, []).append(frame)
    return {dataset: pl.concat(frames) for dataset, frames in found.items()}


@pytest.fixture
def read(tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes) -> Read:
    def run(
        schema: str,
        rows: list[dict[str, Any]],
        instruments: pl.DataFrame | None = None,
        **form: Any,
    ) -> tuple[dict[str, pl.DataFrame], Payload]:
        path = tmp_path / "made.dbn.zst"
        path.write_bytes(dbn_bytes(schema, rows, **form))
        payload = dbn.read(path, known, instruments)
        return collect(payload), payload

    return run


# --- times -------------------------------------------------------------------------------------


def test_a_quote_is_known_no_earlier_than_it_was_received(read: Read) -> None:
    row = {"instrument_id": 7, "ts_event": NS, "ts_recv": NS + 1000}
    frames, _ = read("mbp-1", [row], symbols={"HEM4": 7})
    quote = frames["futures_quote"].row(0, named=True)
    assert quote["as_of"] == us(0)  # rounded down
    assert quote["available_at"] == us(2)  # rounded up: 1.001 µs past is not yet known at 1 µs


#: The first and the last nanosecond that are taken for a time: 1980 to 2100.
FIRST_NS, LAST_NS = 315_532_800 * 10**9, 4_102_444_800 * 10**9 - 1


@given(st.lists(st.integers(FIRST_NS, LAST_NS), min_size=1, max_size=20))
def test_instants_bracket_the_nanosecond(times: list[int]) -> None:
    records = np.array([(ns,) for ns in times], np.dtype([("ts", "u8")]))
    down = dbn._instant(records, "ts").to_physical().to_list()
    up = dbn._instant(records, "ts", up=True).to_physical().to_list()
    assert down == [ns // 1000 for ns in times]
    assert up == [-(-ns // 1000) for ns in times]


@pytest.mark.parametrize("event", [NS + 5_000_000, (1 << 64) - 1])
def test_an_event_time_that_is_late_or_undefined_gives_way_to_the_receive_time(
    read: Read, event: int
) -> None:
    row = {"instrument_id": 7, "ts_event": event, "ts_recv": NS + 999}
    frames, _ = read("mbp-1", [row], symbols={"HEM4": 7})
    quote = frames["futures_quote"].row(0, named=True)
    assert quote["as_of"] == quote["available_at"] == us(1)


def test_a_bbo_describes_its_interval_and_not_the_last_trade(read: Read) -> None:
    last_trade = NS - 3 * 86_400 * 10**9
    row = {"instrument_id": 7, "ts_event": last_trade, "ts_recv": NS - 1}
    for schema in ("bbo-1m", "bbo-1s"):
        frames, _ = read(schema, [row], symbols={"HEM4 C90": 7})
        quote = frames["option_quote"].row(0, named=True)
        assert quote["as_of"] == quote["available_at"] == INSTANT


@pytest.mark.parametrize(
    ("schema", "dataset", "end"),
    [
        ("ohlcv-1m", "futures_1m", datetime(2024, 5, 9, 18, 1, tzinfo=UTC)),
        ("ohlcv-1d", "futures_1d", datetime(2024, 5, 10, 18, tzinfo=UTC)),
    ],
)
def test_a_bar_is_known_at_its_end(read: Read, schema: str, dataset: str, end: datetime) -> None:
    row = {
        "instrument_id": 7,
        "ts_event": NS - 1,
        "open": 90_025_000_000,
        "high": 91 * 10**9,
        "low": 90 * 10**9,
        "close": 90_500_000_000,
        "volume": 12,
    }
    frames, _ = read(schema, [row], symbols={"HEM4": 7})
    bar = frames[dataset].row(0, named=True)
    assert bar["as_of"] == bar["available_at"] == end
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (90.025, 91.0, 90.0, 90.5)
    assert (bar["volume"], bar["contract"], bar["market"]) == (12, "HEM4", "HE")


def test_a_statistic_describes_the_close_of_the_session_it_refers_to(
    read: Read, known: dict[str, Market]
) -> None:
    next_morning = {
        "instrument_id": 7,
        "ts_event": NS,
        "ts_recv": NS + 10,
        "ts_ref": 1_715_126_400 * 10**9,  # 2024-05-08
        "stat_type": 9,
        "quantity": 4321,
        "sequence": 77,
    }
    frames, _ = read("statistics", [next_morning], symbols={"HEM4 C90": 7})
    stat = frames["option_stat"].row(0, named=True)
    close = session_close_at(known["HE"], pl.Series([date(2024, 5, 8)]))[0]
    assert (stat["ref_date"], stat["as_of"]) == (date(2024, 5, 8), close)
    assert stat["available_at"] == us(1)
    assert (stat["quantity"], stat["price"], stat["sequence"]) == (4321, None, 77)


def test_a_statistic_published_before_the_close_describes_no_later_instant(read: Read) -> None:
    during = datetime(2024, 5, 9, 15, tzinfo=UTC)
    row = {
        "instrument_id": 7,
        "ts_event": int(during.timestamp()) * 10**9,
        "ts_recv": int(during.timestamp()) * 10**9,
        "ts_ref": 1_715_212_800 * 10**9,  # the same day
        "stat_type": 6,
        "quantity": 5,
    }
    frames, _ = read("statistics", [row], symbols={"HEM4": 7})
    assert frames["futures_stat"]["as_of"][0] == during


def test_a_statistic_of_no_session_describes_its_event(read: Read) -> None:
    row = {"instrument_id": 7, "ts_event": NS, "ts_recv": NS, "stat_type": 4, "price": 10**9}
    frames, _ = read("statistics", [row], symbols={"HEM4": 7})
    stat = frames["futures_stat"].row(0, named=True)
    assert (stat["ref_date"], stat["as_of"]) == (None, us(0))


def test_a_definition_keeps_its_own_time_and_the_time_it_was_sent(read: Read) -> None:
    row = {
        "instrument_id": 7,
        "ts_event": NS - 86_400 * 10**9,
        "ts_recv": NS - 1,
        "raw_symbol": "HEM4",
        "instrument_class": "F",
        "user_defined_instrument": "N",
    }
    frames, _ = read("definition", [row])
    definition = frames["futures_definition"].row(0, named=True)
    assert definition["as_of"] == datetime(2024, 5, 8, 18, tzinfo=UTC)
    assert definition["available_at"] == INSTANT
    assert definition["expiration"] is None  # undefined, not the year 2554
    assert definition["activation"] is None


def test_a_record_without_a_receive_time_is_left_out(read: Read) -> None:
    frames, payload = read("mbp-1", [{"instrument_id": 7}], symbols={"HEM4": 7})
    assert not frames
    assert payload.left_out == Counter({"no time": 1})


# --- values ------------------------------------------------------------------------------------


def test_prices_are_the_nearest_floats(read: Read) -> None:
    fixed = [25_000_000, 90_025_000_000, 100_000_000, 5199_250_000_000, -7_000_000_000, 1]
    rows = [{"instrument_id": 7, "ts_recv": NS, "bid_px_00": price} for price in fixed]
    frames, _ = read("mbp-1", rows, symbols={"HEM4": 7})
    assert frames["futures_quote"]["bid"].to_list() == [0.025, 90.025, 0.1, 5199.25, -7.0, 1e-9]


def test_an_absent_side_is_null_with_its_size(read: Read) -> None:
    row = {
        "instrument_id": 7,
        "ts_recv": NS,
        "bid_px_00": UNDEF_PRICE,
        "ask_px_00": 2 * 10**9,
        "bid_sz_00": 0,
        "ask_sz_00": 3,
        "sequence": 4_000_000_000,
    }
    frames, _ = read("mbp-1", [row], symbols={"HEM4 P80": 7})
    quote = frames["option_quote"].row(0, named=True)
    assert (quote["bid"], quote["bid_size"]) == (None, None)
    assert (quote["ask"], quote["ask_size"]) == (2.0, 3)
    assert (quote["feed"], quote["underlying_price"]) == ("stream", None)
    assert quote["sequence"] == 4_000_000_000


FUTURE = {"raw_symbol": "HEM4", "instrument_class": "F", "user_defined_instrument": "N"}


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize(
    ("schema", "dataset", "undefined", "columns"),
    [
        (
            "ohlcv-1m",
            "futures_1m",
            dict.fromkeys(("open", "high", "low", "close"), UNDEF_PRICE) | {"volume": UNDEF_TIME},
            ["open", "high", "low", "close", "volume"],
        ),
        *(
            (
                schema,
                "futures_quote",
                {f"{side}_px_00": UNDEF_PRICE for side in ("bid", "ask")}
                | {f"{side}_sz_00": UNDEF_SIZE for side in ("bid", "ask")},
                ["bid", "ask", "bid_size", "ask_size"],
            )
            for schema in ("mbp-1", "bbo-1m", "bbo-1s")
        ),
        (
            "mbp-1",
            "futures_quote",
            {"bid_sz_00": UNDEF_SIZE, "ask_sz_00": UNDEF_SIZE, "bid_px_00": 1, "ask_px_00": 2},
            ["bid_size", "ask_size"],
        ),
        (
            "statistics",
            "futures_stat",
            {"ts_ref": UNDEF_TIME, "price": UNDEF_PRICE, "stat_type": 3, "stat_flags": 255},
            ["ref_date", "price", "quantity", "is_final"],
        ),
        (
            "definition",
            "futures_definition",
            FUTURE
            | dict.fromkeys(("expiration", "activation"), UNDEF_TIME)
            | dict.fromkeys(("min_price_increment", "unit_of_measure_qty"), UNDEF_PRICE),
            ["expiration", "activation", "tick", "unit_quantity", "series", "currency"],
        ),
        (
            "definition",
            "option_definition",
            FUTURE
            | {"raw_symbol": "HEM4 C90", "instrument_class": "C", "strike_price": 90 * 10**9}
            | dict.fromkeys(("expiration", "activation"), UNDEF_TIME)
            | dict.fromkeys(("min_price_increment", "unit_of_measure_qty"), UNDEF_PRICE),
            ["expiration", "activation", "tick", "unit_quantity", "underlying", "underlying_id"],
        ),
    ],
)
def test_undefined_values_are_null_in_every_version(
    read: Read,
    schema: str,
    dataset: str,
    undefined: dict[str, Any],
    columns: list[str],
    version: int,
) -> None:
    row = {"instrument_id": 7, "ts_event": NS, **undefined}
    if not schema.startswith("ohlcv"):
        row["ts_recv"] = NS
    frames, payload = read(schema, [row], symbols={"HEM4": 7}, version=version)
    found = frames[dataset].row(0, named=True)
    assert {column: found[column] for column in columns} == dict.fromkeys(columns)
    assert not payload.left_out


@pytest.mark.parametrize("schema", dbn.SCHEMAS)
def test_all_versions_say_the_same(read: Read, schema: str) -> None:
    times = {} if schema.startswith("ohlcv") else {"ts_recv": NS + 7}
    about = OPTION | FUTURE if schema == "definition" else {}
    row = {"instrument_id": 7, "ts_event": NS, **about, **times}
    first, second, third = (
        read(schema, [row], symbols={"HEM4": 7}, version=version)[0] for version in (1, 2, 3)
    )
    assert len(first) == 1
    for dataset, frame in first.items():
        assert frame.height == 1
        assert second[dataset].equals(frame)
        assert third[dataset].equals(frame)


def test_settlement_flags(read: Read) -> None:
    row = {"instrument_id": 7, "ts_event": NS, "ts_recv": NS, "price": 10**9}
    rows = [
        row | {"stat_type": 3, "stat_flags": 0b0010, "update_action": 1},
        row | {"stat_type": 3, "stat_flags": 0b0011, "update_action": 1},
        row | {"stat_type": 3, "stat_flags": 0b0011, "update_action": 2},
        row | {"stat_type": 9, "stat_flags": 1, "update_action": 1},
        row | {"stat_type": 10_017, "update_action": 1},
    ]
    frames, _ = read("statistics", rows, symbols={"HEM4": 7})
    stats = frames["futures_stat"]
    assert stats["is_final"].to_list() == [False, True, True, None, None]
    assert stats["is_deleted"].to_list() == [False, False, True, False, False]
    assert stats["stat_flags"].to_list() == [2, 3, 3, 1, 0]
    assert stats["stat_type"].to_list() == [3, 3, 3, 9, 10_017]  # unknown ones are kept


# --- values that nobody has heard of -----------------------------------------------------------

EVERY_BYTE = [bytes([value]) for value in range(256)]


@pytest.mark.parametrize("field", ["action", "side", "flags", "depth"])
def test_a_quote_is_taken_whatever_its_codes(read: Read, field: str) -> None:
    row = {"instrument_id": 7, "ts_recv": NS, "bid_px_00": 10**9, "bid_sz_00": 3}
    values = EVERY_BYTE if field in ("action", "side") else range(256)
    rows = [row | {field: value, "sequence": place} for place, value in enumerate(values)]
    frames, payload = read("mbp-1", rows, symbols={"HEM4": 7})
    quotes = frames["futures_quote"]
    assert quotes["sequence"].to_list() == list(range(256))
    assert quotes.select("bid", "bid_size").unique().rows() == [(1.0, 3)]
    assert not payload.left_out


def test_a_statistic_is_kept_whatever_its_codes(read: Read) -> None:
    dice = np.random.default_rng(5)
    kinds = np.arange(1 << 16)
    actions, flags = dice.integers(0, 256, (2, len(kinds)))
    row = {"instrument_id": 7, "ts_event": NS, "ts_recv": NS, "quantity": 5}
    codes = zip(kinds.tolist(), actions.tolist(), flags.tolist(), strict=True)
    rows = [
        row | {"stat_type": kind, "update_action": action, "stat_flags": flag}
        for kind, action, flag in codes
    ]
    frames, payload = read("statistics", rows, symbols={"HEM4": 7})
    stats = frames["futures_stat"]
    assert stats["stat_type"].to_list() == kinds.tolist()
    assert stats["stat_flags"].to_list() == flags.tolist()
    assert stats["is_deleted"].to_list() == (actions == 2).tolist()
    assert stats["quantity"].unique().to_list() == [5]
    assert stats["is_final"].drop_nulls().len() <= 1  # of the one settlement
    assert not payload.left_out


def test_an_instrument_of_an_unknown_class_is_counted(read: Read) -> None:
    frames, payload = read("definition", [OPTION | {"instrument_class": v} for v in EVERY_BYTE])
    assert frames["option_definition"]["option_type"].to_list() == ["C", "P"]
    assert payload.left_out == Counter(
        {"spread": 3, "neither future nor option": 250, "other market": 1}  # OZOK4 C1520 is no F
    )


def test_an_instrument_is_taken_only_when_it_is_not_user_defined(read: Read) -> None:
    rows = [OPTION | {"user_defined_instrument": value} for value in EVERY_BYTE]
    frames, payload = read("definition", rows)
    assert frames["option_definition"].height == 1
    assert payload.left_out == Counter({"user-defined": 255})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_definition_is_taken_whatever_its_other_codes(read: Read, version: int) -> None:
    rows = [
        OPTION | {"security_update_action": value, "match_algorithm": value} for value in EVERY_BYTE
    ]
    frames, payload = read("definition", rows, version=version)
    actions = frames["option_definition"]["update_action"].to_list()
    assert actions[:128] == [None, *(chr(value) for value in range(1, 128))]
    assert set(actions[128:]) == {"\N{REPLACEMENT CHARACTER}"}
    assert not payload.left_out


def other_record(rtype: int, words: int) -> bytes:
    return bytes([words, rtype]) + bytes(4 * words - 2)


def test_records_of_other_types_are_counted_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    rows = [
        {"instrument_id": 7, "ts_recv": NS, "bid_px_00": 10**9, "sequence": place}
        for place in range(100)
    ]
    raw = dbn_bytes("bbo-1m", rows, symbols={"HEM4": 7}, compress=False)
    head, size = raw[:-8000], 80
    others = [
        bytes(databento.SystemMsg(ts_event=NS, msg="heartbeat")),
        other_record(1, 20),  # a quote of another schema, as long as the file's own
        other_record(250, 4),
        other_record(251, 255),
        other_record(250, 19) + other_record(0, 21),
        b"",
    ]
    body = b"".join(
        others[place % 6] + raw[-8000:][place * size : (place + 1) * size] for place in range(100)
    )
    path = tmp_path / "made.dbn"
    path.write_bytes(head + body + other_record(250, 5))
    for chunk in (10_000_000, 1):
        monkeypatch.setattr(dbn, "_CHUNK_BYTES", chunk)
        payload = dbn.read(path, known, None)
        frames = collect(payload)
        assert frames["futures_quote"]["sequence"].to_list() == list(range(100))
        assert payload.left_out == Counter(
            {
                "record of type 23": 17,
                "record of type 1": 17,
                "record of type 250": 17 + 16 + 1,
                "record of type 251": 17,
                "record of type 0": 16,
            }
        )
        assert dbn.count(path) == 100


def test_the_vendors_client_passes_over_none_of_the_records_that_are_taken(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    rows = [{"instrument_id": 7, "ts_recv": NS, "sequence": place} for place in range(9)]
    raw = dbn_bytes("mbp-1", rows, symbols={"HEM4": 7}, compress=False)
    heartbeat = bytes(databento.SystemMsg(ts_event=NS, msg="heartbeat"))
    path = tmp_path / "made.dbn"
    path.write_bytes(raw[: -80 * 4] + heartbeat + raw[-80 * 4 :])
    theirs = [
        record.sequence
        for record in databento.DBNStore.from_file(path)
        if isinstance(record, databento.MBP1Msg)
    ]
    ours = collect(dbn.read(path, known, None))["futures_quote"]["sequence"].to_list()
    assert ours == theirs == list(range(9))


# --- definitions -------------------------------------------------------------------------------

OPTION = {
    "ts_event": NS,
    "ts_recv": NS,
    "raw_symbol": "OZOK4 C1520",
    "instrument_class": "C",
    "user_defined_instrument": "N",
    "asset": "OZO",
    "underlying": "ZON4",
    "underlying_id": 99,
    "strike_price": 15_200_000_000,
    "instrument_id": 7,
    "expiration": NS,
    "activation": NS - 10**9,
    "unit_of_measure_qty": 5_000 * 10**9,
    "currency": "USD",
    "security_update_action": "A",
}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_option_belongs_to_its_underlyings_market(read: Read, version: int) -> None:
    frames, payload = read("definition", [OPTION], version=version)
    option = frames["option_definition"].row(0, named=True)
    assert (option["market"], option["contract"], option["series"]) == ("ZO", "OZOK4 C1520", "OZO")
    assert (option["option_type"], option["strike"]) == ("C", 15.2)  # never from the symbol
    assert (option["underlying"], option["underlying_id"]) == ("ZON4", 99)
    assert (option["unit_quantity"], option["currency"]) == (5000.0, "USD")
    assert option["expiration"] == us(0)
    assert option["update_action"] == "A"
    assert not payload.left_out


def test_what_a_parent_drags_along_is_left_out_and_counted(read: Read) -> None:
    rows = [
        OPTION,
        OPTION | {"underlying": "", "raw_symbol": "OZOK4 P300", "instrument_class": "P"},
        OPTION | {"underlying": "", "raw_symbol": "XYZK4 P300", "instrument_class": "P"},
        OPTION | {"underlying": "NQM4"},
        OPTION | {"underlying": "ZON4-ZOU4"},
        OPTION | {"strike_price": UNDEF_PRICE},
        OPTION | {"instrument_class": "T", "strike_price": UNDEF_PRICE},
        OPTION | {"instrument_class": "M", "strike_price": UNDEF_PRICE},
        OPTION
        | {"instrument_class": "T", "raw_symbol": "UD:1V: GN 1", "user_defined_instrument": "Y"},
        OPTION | {"instrument_class": "S", "raw_symbol": "HEM4-HEN4"},
        OPTION | {"instrument_class": "F", "raw_symbol": "HEM4"},
        OPTION | {"instrument_class": "F", "raw_symbol": "NQM4"},
    ]
    frames, payload = read("definition", rows)
    assert frames["option_definition"]["contract"].to_list() == ["OZOK4 C1520", "OZOK4 P300"]
    assert frames["option_definition"]["underlying"].to_list() == ["ZON4", None]
    assert frames["futures_definition"]["contract"].to_list() == ["HEM4"]
    assert payload.left_out == Counter(
        {"spread": 3, "user-defined": 1, "other market": 4, "no strike": 1}
    )


# --- what a number stands for ------------------------------------------------------------------


def quote_rows(*ids: int) -> list[dict[str, Any]]:
    return [{"instrument_id": number, "ts_recv": NS, "bid_px_00": 10**9} for number in ids]


def test_the_files_symbols_say_which_market_a_quote_is_of(read: Read) -> None:
    symbols = {
        "HEM4": 1,
        "HEM24": 2,
        "OZOK4 C1520": 3,
        "EW2K4 P5250": 4,
        "L0BZ3 C-0070": 5,
        "HEM4-HEN4": 6,
        "HE:BF M4-N4-Q4": 7,
        "UD:1V: GN 2500275": 8,
        "NQM4": 9,
        "HEM4 C90": 10,
        "HE.c.0": 11,
    }
    frames, payload = read("bbo-1m", quote_rows(*range(1, 13)), symbols=symbols)
    futures, options = frames["futures_quote"], frames["option_quote"]
    assert futures.select("market", "contract").rows() == [("HE", "HEM4"), ("HE", "HEM24")]
    assert options.select("market", "contract").rows() == [
        ("ZO", "OZOK4 C1520"),
        ("ES", "EW2K4 P5250"),
        ("HE", "HEM4 C90"),
    ]
    assert payload.left_out == Counter(
        {"other market": 2, "spread": 3, "user-defined": 1, "unknown instrument": 1}
    )


def test_symbols_hold_for_their_days_alone(read: Read) -> None:
    frames, payload = read(
        "bbo-1m", quote_rows(7), symbols={"HEM4": 7}, days=(date(2024, 5, 10), date(2024, 5, 11))
    )
    assert not frames
    assert payload.left_out == Counter({"unknown instrument": 1})


DAY_NS = 86_400 * 10**9
MIDNIGHT = NS // DAY_NS * DAY_NS  # 2024-05-09


@pytest.mark.parametrize("schema", ["mbp-1", "bbo-1m", "statistics", "ohlcv-1m"])
def test_a_symbol_holds_from_its_first_day_to_before_its_last(read: Read, schema: str) -> None:
    clock = "ts_event" if schema.startswith("ohlcv") else "ts_recv"
    instants = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + DAY_NS - 1, MIDNIGHT + DAY_NS]
    rows = [{"instrument_id": 7, clock: at} for at in instants]
    day = (date(2024, 5, 9), date(2024, 5, 10))
    frames, payload = read(schema, rows, symbols={"HEM4": 7}, days=day)
    assert sum(frame.height for frame in frames.values()) == 2
    assert payload.left_out == Counter({"unknown instrument": 2})


def test_a_number_given_again_is_another_instrument_from_that_day_on(read: Read) -> None:
    days = [date(2024, 5, day) for day in (9, 10, 12)]
    symbols = {"HEK4 C90": [(days[0], days[1], 7)], "ZOU4": [(days[1], days[2], 7)]}
    rows = [{"instrument_id": 7, "ts_recv": MIDNIGHT + day * DAY_NS} for day in range(4)]
    frames, payload = read("bbo-1m", rows, symbols=symbols)
    assert frames["option_quote"]["contract"].to_list() == ["HEK4 C90"]
    assert frames["futures_quote"].select("market", "contract").rows() == [("ZO", "ZOU4")] * 2
    assert payload.left_out == Counter({"unknown instrument": 1})


def test_a_definition_given_again_holds_from_its_own_day_on(read: Read) -> None:
    expired, activated = datetime(2024, 5, 9, 17, tzinfo=UTC), datetime(2024, 5, 10, tzinfo=UTC)
    lake = instruments(
        ("HE", "option", 7, "HEK4 C90", datetime(2024, 1, 2, tzinfo=UTC), expired),
        ("ZO", "future", 7, "ZOU4", activated, None),
    )
    rows = [{"instrument_id": 7, "ts_recv": MIDNIGHT + day * DAY_NS} for day in (0, 1, 400)]
    frames, payload = read("bbo-1m", rows, lake)
    assert frames["option_quote"]["contract"].to_list() == ["HEK4 C90"]
    assert frames["futures_quote"]["contract"].to_list() == ["ZOU4", "ZOU4"]
    assert not payload.left_out


@pytest.mark.parametrize(
    ("schema", "dataset"),
    [
        ("mbp-1", "futures_quote"),
        ("bbo-1s", "futures_quote"),
        ("statistics", "futures_stat"),
        ("ohlcv-1d", "futures_1d"),
    ],
)
def test_spreads_combinations_and_user_defined_ones_are_counted_in_every_schema(
    read: Read, schema: str, dataset: str
) -> None:
    symbols = {
        "HEM4": 1,
        "HEM4-HEN4": 2,
        "HE:BF M4-N4-Q4": 3,
        "HEM4 C90-HEM4 C95": 4,
        "UD:1V: GN 2500275": 5,
        "UD:U$: CO 0509789": 6,
    }
    clock = "ts_event" if schema.startswith("ohlcv") else "ts_recv"
    rows = [{"instrument_id": number, clock: NS} for number in symbols.values()]
    frames, payload = read(schema, rows, symbols=symbols)
    assert {name: frame["contract"].to_list() for name, frame in frames.items()} == {
        dataset: ["HEM4"]
    }
    assert payload.left_out == Counter({"spread": 3, "user-defined": 2})


def instruments(*rows: tuple[str, str, int, str, datetime | None, datetime | None]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        schema={
            "market": pl.String,
            "kind": pl.String,
            "instrument_id": pl.Int64,
            "contract": pl.String,
            "activation": pl.Datetime("us", "UTC"),
            "expiration": pl.Datetime("us", "UTC"),
        },
        orient="row",
    )


def test_the_lakes_definitions_resolve_what_the_file_does_not_name(read: Read) -> None:
    later = datetime(2024, 6, 14, tzinfo=UTC)
    lake = instruments(
        ("ZO", "option", 1, "OZOK4 C1520", None, None),
        ("HE", "option", 2, "HEM4 C90", None, datetime(2024, 5, 8, 17, tzinfo=UTC)),
        ("HE", "option", 3, "HEK4 C90", None, datetime(2024, 4, 15, tzinfo=UTC)),
        ("HE", "future", 4, "HEQ4", datetime(2024, 5, 20, tzinfo=UTC), later),
        ("XX", "future", 5, "XXM4", None, later),
        # The number was given to another contract after the first had expired.
        (
            "HE",
            "option",
            6,
            "HEJ4 C90",
            datetime(2023, 1, 1, tzinfo=UTC),
            datetime(2024, 4, 12, tzinfo=UTC),
        ),
        ("HE", "option", 6, "HEN4 C95", datetime(2024, 4, 20, tzinfo=UTC), later),
    )
    frames, payload = read("bbo-1m", quote_rows(1, 2, 3, 4, 5, 6), lake)
    assert frames["option_quote"].select("market", "contract").rows() == [
        ("ZO", "OZOK4 C1520"),
        ("HE", "HEM4 C90"),  # expired yesterday: its last statistics come in the next days
        ("HE", "HEN4 C95"),
    ]
    assert payload.left_out == Counter({"unknown instrument": 3})


def test_where_file_and_lake_disagree_the_file_names_its_numbers(read: Read) -> None:
    lake = instruments(
        ("ZO", "option", 1, "OZOK4 C1520", None, None), ("HE", "option", 2, "HEM4 C90", None, None)
    )
    frames, _ = read("bbo-1m", quote_rows(1, 2), lake, symbols={"HEM4": 1, "HEM4 C90": 2})
    assert frames["futures_quote"]["contract"].to_list() == ["HEM4"]
    assert frames["option_quote"]["contract"].to_list() == ["HEM4 C90"]


def test_smart_symbols_do_not_name_a_contract(read: Read) -> None:
    lake = instruments(("HE", "future", 1, "HEM4", None, None))
    frames, _ = read("bbo-1m", quote_rows(1), lake, symbols={"HE.c.0": 1}, stype_in="continuous")
    assert frames["futures_quote"]["contract"].to_list() == ["HEM4"]


def test_numbers_mapped_to_symbols_name_them_too(read: Read) -> None:
    frames, _ = read(
        "bbo-1m",
        quote_rows(7),
        symbols={7: "HEM4"},
        stype_in="instrument_id",
        stype_out="raw_symbol",
    )
    assert frames["futures_quote"]["contract"].to_list() == ["HEM4"]


def test_bars_of_options_are_left_out(read: Read) -> None:
    rows = [{"instrument_id": n, "ts_event": NS} for n in (1, 2)]
    frames, payload = read("ohlcv-1d", rows, symbols={"HEM4": 1, "HEM4 C90": 2})
    assert frames["futures_1d"]["contract"].to_list() == ["HEM4"]
    assert payload.left_out == Counter({"bar of an option": 1})


def test_another_dataset_holds_other_markets(read: Read) -> None:
    frames, payload = read("bbo-1m", quote_rows(7), symbols={"HEM4": 7}, dataset="IFEU.IMPACT")
    assert not frames
    assert payload.left_out == Counter({"other market": 1})


# --- files -------------------------------------------------------------------------------------


def test_an_empty_file_is_said_to_be_empty(read: Read) -> None:
    frames, payload = read("ohlcv-1d", [], symbols={"HEM4": 7})
    assert not frames
    assert payload.notes == ["holds no records"]


def test_symbols_that_the_vendor_did_not_find_are_noted(read: Read) -> None:
    _, payload = read("bbo-1m", quote_rows(7), symbols={"HEM4": 7}, not_found=["EW9.OPT"])
    assert any("EW9.OPT" in note for note in payload.notes)


def test_chunks_join_to_the_whole(
    read: Read, monkeypatch: pytest.MonkeyPatch, dbn_bytes: DbnBytes, tmp_path: Path
) -> None:
    rows = [
        {"instrument_id": 7, "ts_recv": NS + i * 1000, "bid_px_00": (i + 1) * 10**9}
        for i in range(1000)
    ]
    whole, _ = read("mbp-1", rows, symbols={"HEM4": 7})
    monkeypatch.setattr(dbn, "_CHUNK_BYTES", 80 * 7)
    pieces, _ = read("mbp-1", rows, symbols={"HEM4": 7})
    assert pieces["futures_quote"].equals(whole["futures_quote"])
    assert dbn.count(tmp_path / "made.dbn.zst") == 1000


def test_uncompressed_and_multi_frame_files_are_read_whole(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    rows = quote_rows(*[7] * 100)
    raw = dbn_bytes("bbo-1m", rows, symbols={"HEM4": 7}, compress=False)
    plain, frames = tmp_path / "a.dbn", tmp_path / "b.dbn.zst"
    plain.write_bytes(raw)
    frames.write_bytes(zstandard.compress(raw[:1000]) + zstandard.compress(raw[1000:]))
    for path in (plain, frames):
        assert dbn.count(path) == 100
        assert collect(dbn.read(path, known, None))["futures_quote"].height == 100
        assert dbn.peek(path) == ("bbo-1m", "GLBX.MDP3", 3)


def test_send_times_are_passed_over(read: Read) -> None:
    rows = quote_rows(7, 7)
    frames, _ = read("bbo-1m", rows, symbols={"HEM4": 7}, ts_out=True)
    assert frames["futures_quote"]["bid"].to_list() == [1.0, 1.0]


def refused(path: Path, known: dict[str, Market]) -> str:
    with pytest.raises(BadInput) as error:
        collect(dbn.read(path, known, None))
    line = str(error.value)
    assert "\n" not in line
    assert path.name in line
    return line


def test_a_cut_file_is_refused_wherever_it_is_cut(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    rows = [
        {"instrument_id": 7, "ts_recv": NS + i * 7919, "bid_px_00": i * 2_654_435_761}
        for i in range(300)
    ]
    data = dbn_bytes("mbp-1", rows, symbols={"HEM4": 7})
    path = tmp_path / "cut.dbn.zst"
    for size in (*range(1, len(data), len(data) // 40), len(data) - 1):
        path.write_bytes(data[:size])
        refused(path, known)
        with pytest.raises(BadInput):
            dbn.count(path)


def test_a_file_that_is_not_compressed_is_refused_unless_cut_between_records(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    raw = dbn_bytes("bbo-1m", quote_rows(7, 7, 7), symbols={"HEM4": 7}, compress=False)
    head, path = len(raw) - 3 * 80, tmp_path / "cut.dbn"
    for size in range(len(raw)):
        path.write_bytes(raw[:size])
        if size in (head, head + 80, head + 160):  # the vendor's own count alone can tell
            assert dbn.count(path) == (size - head) // 80
        elif size > head:
            assert "in the middle of a record" in refused(path, known)
        else:
            refused(path, known)


def test_a_frame_cut_between_its_blocks_is_refused(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    raw = dbn_bytes("bbo-1m", quote_rows(7, 7, 7), symbols={"HEM4": 7}, compress=False)
    head = len(raw) - 3 * 80
    frame = zstandard.ZstdCompressor().compressobj()
    whole, ends = b"", []
    for part in (raw[:head], *(raw[head + n * 80 : head + n * 80 + 80] for n in range(3))):
        whole += frame.compress(part) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        ends.append(len(whole))
    whole += frame.flush()
    path = tmp_path / "cut.dbn.zst"
    for end in ends:  # every one is on a record boundary, all of whose bytes are there
        path.write_bytes(whole[:end])
        assert "in the middle of its zstd frame" in refused(path, known)
    path.write_bytes(whole)
    assert dbn.count(path) == 3


def test_a_second_frame_that_is_cut_is_refused(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    raw = dbn_bytes("bbo-1m", quote_rows(*[7] * 20), symbols={"HEM4": 7}, compress=False)
    first, second = zstandard.compress(raw[:-800]), zstandard.compress(raw[-800:])
    path = tmp_path / "cut.dbn.zst"
    for size in range(1, len(second)):
        path.write_bytes(first + second[:size])
        refused(path, known)


def test_damage_is_refused(tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes) -> None:
    path = tmp_path / "bad.dbn.zst"
    data = bytearray(dbn_bytes("bbo-1m", quote_rows(*[7] * 50), symbols={"HEM4": 7}))
    path.write_bytes(bytes(data) + b"trailing words")
    assert "damaged" in refused(path, known)
    raw = bytearray(dbn_bytes("bbo-1m", quote_rows(7, 7), symbols={"HEM4": 7}, compress=False))
    for words in (0, 3, 19, 21):
        raw[-80] = words  # the second record's length
        path.write_bytes(bytes(raw))
        assert f"a record of type 196 says that it is {4 * words} bytes long" in refused(
            path, known
        )


def test_other_schemas_are_refused_by_name(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    path = tmp_path / "hours.dbn.zst"
    path.write_bytes(dbn_bytes("ohlcv-1h", []))
    line = refused(path, known)
    assert "ohlcv-1h" in line
    assert all(schema in line for schema in dbn.SCHEMAS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a,b\n1,2\n",
        b"PAR1",
        b"DBN",
        b"DBN\x07\x00\x00\x00\x00",
        zstandard.compress(b"x" * 99),
    ],
)
def test_what_is_not_dbn_is_refused(
    tmp_path: Path, known: dict[str, Market], content: bytes
) -> None:
    path = tmp_path / "other.dbn.zst"
    path.write_bytes(content)
    refused(path, known)


def test_a_missing_file_is_refused(tmp_path: Path, known: dict[str, Market]) -> None:
    assert "cannot be read" in refused(tmp_path / "none.dbn", known)
    with pytest.raises(BadInput):
        dbn.peek(tmp_path)


# --- real files --------------------------------------------------------------------------------


@needs_real
@pytest.mark.parametrize(
    ("name", "rows", "left_out"),
    [
        ("es_options_2024-05-09/futures_definition.dbn.zst", {"futures_definition": 1}, 1),
        ("es_options_2024-05-09/options_definition.dbn.zst", {"option_definition": 2}, 0),
        (
            "es_options_2024-05-09/options_bbo-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
            {"option_quote": 20},
            0,
        ),
        (
            "es_options_2024-05-09/futures_bbo-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
            {"futures_quote": 10},
            10,
        ),
        (
            "es_options_2024-05-09/futures_ohlcv-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
            {"futures_1m": 10},
            10,
        ),
        (
            "es_weekly_expiry_2026-01-09/options_bbo-1m_2026-01-09T20-55_2026-01-09T21-05.dbn.zst",
            {"option_quote": 8},
            0,
        ),
        ("es_weekly_expiry_2026-01-09/options_definition.dbn.zst", {"option_definition": 1}, 0),
        (
            "definitions_v3/test_data.definition.futures_contract.dbn.zst",
            {"futures_definition": 1},
            0,
        ),
        ("definitions_v3/test_data.definition.futures_spread.dbn.zst", {}, 1),
        ("definitions_v3/test_data.definition.option.dbn.zst", {"option_definition": 2}, 0),
        ("definitions_v3/test_data.definition.option_spread.dbn.zst", {}, 2),
        ("glbx_samples/test_data.mbp-1.dbn.zst", {"futures_quote": 4}, 0),
        ("glbx_samples/test_data.bbo-1m.dbn.zst", {"futures_quote": 4}, 0),
        ("glbx_samples/test_data.ohlcv-1d.dbn.zst", {"futures_1d": 1}, 0),
        ("glbx_samples/test_data.ohlcv-1m.dbn.zst", {"futures_1m": 4}, 0),
        ("glbx_samples/test_data.statistics.dbn.zst", {"futures_stat": 4}, 0),
        ("glbx_samples/test_data.definition.dbn.zst", {"futures_definition": 1}, 0),
    ],
)
def test_real_files(
    known: dict[str, Market], name: str, rows: dict[str, int], left_out: int
) -> None:
    payload = dbn.read(REAL / name, known, None)
    frames = collect(payload)
    assert {dataset: frame.height for dataset, frame in frames.items()} == rows
    assert payload.left_out.total() == left_out
    assert dbn.count(REAL / name) == sum(rows.values()) + left_out
    for frame in frames.values():
        assert frame["market"].unique().to_list() == ["ES"]


def by_the_vendors_client(path: Path) -> pl.DataFrame:
    """The file as the vendor's own client reads it, markets of this project alone."""
    records = databento.DBNStore.from_file(path).to_df(pretty_ts=False).reset_index()
    return pl.from_pandas(records).filter(~pl.col("symbol").str.starts_with("NQ"))


@needs_real
@pytest.mark.filterwarnings("ignore::DeprecationWarning:databento")
@pytest.mark.parametrize(
    "name",
    [
        "es_options_2024-05-09/options_bbo-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
        "es_options_2024-05-09/futures_bbo-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
        "es_options_2024-05-09/futures_ohlcv-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst",
        "es_weekly_expiry_2026-01-09/futures_ohlcv-1m_2026-01-09T20-55_2026-01-09T21-05.dbn.zst",
        "glbx_samples/test_data.mbp-1.dbn.zst",
        "glbx_samples/test_data.statistics.dbn.zst",
        "glbx_samples/test_data.ohlcv-1d.dbn.zst",
    ],
)
def test_real_values_are_those_of_the_vendors_client(known: dict[str, Market], name: str) -> None:
    theirs = by_the_vendors_client(REAL / name)
    (ours,) = collect(dbn.read(REAL / name, known, None)).values()
    same = {
        "bid": "bid_px_00",
        "ask": "ask_px_00",
        "bid_size": "bid_sz_00",
        "ask_size": "ask_sz_00",
        **{column: column for column in ("open", "high", "low", "close", "volume")},
        **{column: column for column in ("price", "stat_type", "sequence", "instrument_id")},
        "contract": "symbol",
    }
    compared = [(our, their) for our, their in same.items() if our in ours.columns]
    assert len(compared) >= 5
    for our, their in compared:
        assert ours[our].to_list() == theirs[their].to_list(), our


@needs_real
def test_a_real_option_on_a_future_of_another_month(known: dict[str, Market]) -> None:
    path = REAL / "es_weekly_expiry_2026-01-09" / "options_definition.dbn.zst"
    option = collect(dbn.read(path, known, None))["option_definition"].row(0, named=True)
    assert (option["contract"], option["underlying"]) == ("EW2F6 C7000", "ESH6")
    assert (option["strike"], option["option_type"]) == (7000.0, "C")
    assert option["expiration"] == datetime(2026, 1, 9, 21, tzinfo=UTC)
    assert option["unit_quantity"] == 50.0


@needs_real
def test_a_real_quote(known: dict[str, Market]) -> None:
    path = (
        REAL / "es_options_2024-05-09" / "options_bbo-1m_2024-05-09T09-55_2024-05-09T10-05.dbn.zst"
    )
    quote = collect(dbn.read(path, known, None))["option_quote"].row(0, named=True)
    assert quote == {
        "market": "ES",
        "as_of": datetime(2024, 5, 9, 9, 55, tzinfo=UTC),
        "available_at": datetime(2024, 5, 9, 9, 55, tzinfo=UTC),
        "source": "databento",
        "instrument_id": 42449452,
        "contract": "ESM4 P5230",
        "bid": 97.5,
        "ask": 98.25,
        "bid_size": 131,
        "ask_size": 75,
        "sequence": 594042071,
        "feed": "stream",
        "underlying_price": None,
    }


# --- values and files that were made to do harm --------------------------------------------------


@pytest.mark.parametrize("ns", [0, 1, FIRST_NS - 1, LAST_NS + 1, (1 << 63) - 1, 1 << 63])
def test_a_time_that_no_exchange_had_is_none(read: Read, ns: int) -> None:
    """Adding a bar's length to the largest would go round to 1970, known at any time."""
    for schema in ("ohlcv-1d", "mbp-1", "statistics"):
        row = {"instrument_id": 7, "ts_event": ns}
        row |= {} if schema == "ohlcv-1d" else {"ts_recv": ns}
        frames, payload = read(schema, [row], symbols={"HEM4": 7})
        assert not frames
        assert sum(payload.left_out.values()) == 1


def test_a_volume_beyond_any_count_is_none(read: Read) -> None:
    rows = [
        {"instrument_id": 7, "ts_event": NS + number, "volume": volume}
        for number, volume in enumerate([5, 1 << 63, (1 << 64) - 1])
    ]
    frames, _ = read("ohlcv-1d", rows, symbols={"HEM4": 7})
    assert frames["futures_1d"]["volume"].to_list() == [5, None, None]


@pytest.mark.parametrize("number", ["9" * 70, "-1", "1e3", " 7"])
def test_a_symbol_that_means_no_instrument_is_passed_over(read: Read, number: str) -> None:
    row = {"instrument_id": 7, "ts_event": NS, "ts_recv": NS}
    _, payload = read("mbp-1", [row], symbols={"HEM4": number})  # type: ignore[dict-item]
    assert payload.left_out == {"unknown instrument": 1}


def test_a_file_that_unpacks_without_end_is_refused(
    tmp_path: Path, known: dict[str, Market], dbn_bytes: DbnBytes
) -> None:
    """32 kB of zstd that stand for 1 GB."""
    head = dbn_bytes("ohlcv-1d", [], compress=False)
    row = dbn_bytes("ohlcv-1d", [{"instrument_id": 7, "ts_event": NS}], compress=False)[len(head) :]
    stream = zstandard.ZstdCompressor(level=19).compressobj()
    path = tmp_path / "bomb.dbn.zst"
    parts = [stream.compress(head), *(stream.compress(row * 10_000) for _ in range(150))]
    path.write_bytes(b"".join([*parts, stream.flush()]))
    with pytest.raises(BadInput, match="unpacks to more than 1000 times its size"):
        collect(dbn.read(path, known, None))


def test_metadata_that_would_not_end_is_refused(tmp_path: Path, known: dict[str, Market]) -> None:
    path = tmp_path / "long.dbn"
    path.write_bytes(b"DBN\x03\xff\xff\xff\xff")
    with pytest.raises(BadInput, match="not a DBN file"):
        dbn.read(path, known, None)
