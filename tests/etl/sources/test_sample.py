"""The sample vendor: what its files promise, and that its world is what ``truth`` says."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import databento as db
import numpy as np
import polars as pl
import pytest

from etl.cot_releases import releases
from etl.errors import BadInput
from etl.market import market
from etl.sources import cftc, dbn, sample
from etl.sources.sample.cot_file import HEADER
from etl.sources.sample.noise import normal, uniform
from etl.sources.sample.world import world
from mathlib import american, svi

DATA = Path(__file__).parents[3] / "../shared/data"
CHICAGO = ZoneInfo("America/Chicago")
START, END = datetime(2025, 9, 29, tzinfo=UTC), datetime(2025, 11, 22, tzinfo=UTC)
SCHEMAS = ("definition", "ohlcv-1d", "ohlcv-1m", "bbo-1m", "statistics")
SVI = ("a", "b", "rho", "m", "sigma")
NO_PRICE = np.iinfo(np.int64).max


class Files:
    """One market's files of a range, decoded."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.stores = {self.key(path): db.DBNStore.from_file(path) for path in paths}

    @staticmethod
    def key(path: Path) -> tuple[str, str]:
        parent, schema = path.name.removeprefix("sample_").split("_")[:2]
        return parent.rsplit(".", 1)[1], schema

    def records(self, kind: str, schema: str) -> np.ndarray:
        return self.stores[kind, schema].to_ndarray()

    def ids(self, kind: str, instrument_class: bytes) -> np.ndarray:
        definitions = self.records(kind, "definition")
        return np.unique(
            definitions["instrument_id"][definitions["instrument_class"] == instrument_class]
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    return {
        code: Files(
            sample.fetch(market(code), START, END, tmp_path_factory.mktemp(f"sample-{code}"))
        )
        for code in sample.MARKETS
    }


def sessions(code: str, start: date, end: date, step: int = 1) -> list[date]:
    days = world(market(code), end).sessions.day
    kept = days[(days >= np.datetime64(start)) & (days <= np.datetime64(end))]
    return kept[::step].tolist()


def ns(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def chains(code: str, step: int = 7) -> pl.DataFrame:
    """Return the quoted options of some sessions with their expiry's truth and liquidity."""
    parts = []
    for day in sessions(code, date(2024, 10, 1), date(2025, 11, 21), step):
        truth = sample.truth(market(code), day)
        parts.append(
            truth.options.join(truth.expiries, on="expiry").with_columns(session=pl.lit(day))
        )
    mid = (pl.col("bid") + pl.col("ask")) / 2
    return (
        pl.concat(parts)
        .with_columns(mid=mid, spread=(pl.col("ask") - pl.col("bid")) / mid)
        .with_columns(
            is_call=pl.col("option_type") == "C",
            is_otm=(pl.col("strike") >= pl.col("forward")) == (pl.col("option_type") == "C"),
            is_liquid=(
                (pl.col("ask") > pl.col("bid"))
                & (pl.col("spread") < 0.20)
                & (pl.col("open_interest_known") > 50)
            ).fill_null(False),
        )
    )


@pytest.fixture(scope="module")
def quoted() -> dict[str, pl.DataFrame]:
    return {code: chains(code) for code in sample.MARKETS}


# -- the files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sample.MARKETS)
def test_one_file_a_schema_and_parent(files: dict[str, Files], code: str) -> None:
    found = files[code]
    assert set(found.stores) == {
        *(("FUT", schema) for schema in SCHEMAS),
        *(("OPT", schema) for schema in ("definition", "bbo-1m", "statistics")),
    }
    assert all(path.name.startswith("sample_") for path in found.paths)
    parents = {"FUT": market(code).futures_parents[0], "OPT": market(code).option_parents[0]}
    for (kind, schema), store in found.stores.items():
        assert store.metadata.version == 3
        assert store.metadata.dataset == "GLBX.MDP3"
        assert (str(store.schema), store.symbols) == (schema, [parents[kind]])
        assert (store.metadata.start, store.metadata.end) == (ns(START), ns(END))
        assert len(found.records(kind, schema)) > 0


@pytest.mark.filterwarnings("ignore::Warning:databento")
@pytest.mark.parametrize("code", sample.MARKETS)
def test_every_record_has_a_symbol(files: dict[str, Files], code: str) -> None:
    for (kind, schema), store in files[code].stores.items():
        frame = store.to_df()
        assert frame["symbol"].notna().all(), (kind, schema)
        assert frame.index.is_monotonic_increasing, (kind, schema)
        names = store.metadata.mappings
        assert all(len(intervals) == 1 for intervals in names.values())


@pytest.mark.parametrize("code", sample.MARKETS)
def test_symbols_are_those_of_the_definitions(files: dict[str, Files], code: str) -> None:
    for kind in ("FUT", "OPT"):
        definitions = files[code].records(kind, "definition")
        named = set(
            zip(
                definitions["raw_symbol"].astype(str).tolist(),
                definitions["instrument_id"].astype(str).tolist(),
                strict=True,
            )
        )
        mappings = files[code].stores[kind, "bbo-1m"].metadata.mappings
        assert named == {(name, m[0]["symbol"]) for name, m in mappings.items()}


def test_the_lake_s_decoder_takes_the_files(files: dict[str, Files]) -> None:
    rows: dict[str, int] = {}
    left_out: dict[str, int] = {}
    for path in files["ZO"].paths:
        payload = dbn.read(path, {"ZO": market("ZO")}, None, source="sample")
        for dataset, frame in payload.frames:
            rows[dataset] = rows.get(dataset, 0) + len(frame)
            assert frame["market"].unique().to_list() == ["ZO"]
            assert (frame["available_at"] >= frame["as_of"]).all()
        for reason, count in payload.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    assert set(rows) == {
        *("futures_1d", "futures_1m", "futures_definition", "futures_quote", "futures_stat"),
        *("option_definition", "option_quote", "option_stat"),
    }
    assert left_out["spread"] > 0
    assert left_out["user-defined"] > 0


def merged(paths: list[Path]) -> dict[tuple[str, str], list[bytes]]:
    found: dict[tuple[str, str], list[bytes]] = {}
    for path in paths:
        array = db.DBNStore.from_file(path).to_ndarray()
        found.setdefault(Files.key(path), []).extend(
            [] if array.dtype.names is None else [record.tobytes() for record in array]
        )
    return found


@pytest.mark.parametrize("code", sample.MARKETS)
def test_a_range_holds_the_same_whatever_it_is_cut_into(tmp_path: Path, code: str) -> None:
    cuts = [
        datetime(2025, 10, 10, tzinfo=UTC),
        datetime(2025, 10, 13, 18, 5, tzinfo=UTC),
        datetime(2025, 10, 14, 18, 10, 0, 1, tzinfo=UTC),
        datetime(2025, 10, 17, tzinfo=UTC),
    ]
    for name in ("whole", "parts", "again"):
        (tmp_path / name).mkdir()
    whole = sample.fetch(market(code), cuts[0], cuts[-1], tmp_path / "whole")
    parts = [
        path
        for start, end in pairwise(cuts)
        for path in sample.fetch(market(code), start, end, tmp_path / "parts")
    ]
    assert merged(whole) == merged(parts)
    again = sample.fetch(market(code), cuts[0], cuts[-1], tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in whole]


def test_a_longer_range_holds_the_shorter_one(files: dict[str, Files], tmp_path: Path) -> None:
    start, end = datetime(2025, 11, 10, tzinfo=UTC), datetime(2025, 11, 12, tzinfo=UTC)
    short = merged(sample.fetch(market("HE"), start, end, tmp_path))
    for (kind, schema), expected in short.items():
        records = files["HE"].records(kind, schema)
        at = records["ts_event" if schema.startswith("ohlcv") else "ts_recv"]
        inside = records[(at >= ns(start)) & (at < ns(end))]
        assert [record.tobytes() for record in inside] == expected, (kind, schema)


def test_no_bar_before_it_is_complete(tmp_path: Path) -> None:
    end = datetime(2025, 10, 15, 15, 30, 30, tzinfo=UTC)
    paths = sample.fetch(market("HE"), datetime(2025, 10, 14, tzinfo=UTC), end, tmp_path)
    found = Files(paths)
    minutes, days = found.records("FUT", "ohlcv-1m"), found.records("FUT", "ohlcv-1d")
    assert minutes["ts_event"].max() == ns(datetime(2025, 10, 15, 15, 29, tzinfo=UTC))
    assert days["ts_event"].max() == ns(datetime(2025, 10, 14, tzinfo=UTC))


def test_a_range_without_a_session_gives_empty_files(tmp_path: Path) -> None:
    saturday = datetime(2025, 10, 18, 6, tzinfo=UTC)
    paths = sample.fetch(market("ZO"), saturday, saturday + timedelta(days=1), tmp_path)
    assert len(paths) == 8
    assert not any(merged(paths).values())


def test_what_the_vendor_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no market 'LE': it has HE, ZO"):
        sample.fetch(market("LE"), START, END, tmp_path)
    with pytest.raises(BadInput, match="nothing lies between"):
        sample.fetch(market("HE"), END, START, tmp_path)
    with pytest.raises(BadInput, match="no session on 2025-10-18"):
        sample.truth(market("HE"), date(2025, 10, 18))
    with pytest.raises(BadInput, match="no session on 2017-12-29"):
        sample.truth(market("HE"), date(2017, 12, 29))
    with pytest.raises(ValueError, match="time zone"):
        sample.fetch(market("HE"), START.replace(tzinfo=None), END, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_world_begins_with_its_first_session(tmp_path: Path) -> None:
    start, end = datetime(2017, 6, 1, tzinfo=UTC), datetime(2018, 1, 4, tzinfo=UTC)
    found = Files(sample.fetch(market("HE"), start, end, tmp_path))
    assert found.records("FUT", "definition")["ts_recv"].min() == ns(
        datetime(2018, 1, 2, tzinfo=UTC)
    )
    assert (
        sample.truth(market("HE"), date(2018, 1, 2)).options["open_interest_known"].is_null().all()
    )


# -- definitions --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sample.MARKETS)
def test_a_full_set_of_definitions_each_session(files: dict[str, Files], code: str) -> None:
    here = market(code)
    days = sessions(code, START.date(), END.date())
    for kind, classes in (("FUT", {b"F", b"S"}), ("OPT", {b"C", b"P", b"T"})):
        made = files[code].records(kind, "definition")
        assert set(np.unique(made["instrument_class"]).tolist()) == classes
        stamps = np.unique(made["ts_recv"]).tolist()
        assert stamps == [ns(datetime.combine(day, time(), UTC)) for day in days]
        assert (made["ts_event"] < made["ts_recv"]).all()
        bounded = made["user_defined_instrument"] == b"N"
        assert (made["expiration"][bounded] > made["ts_recv"][bounded]).all()
        assert (made["activation"] <= made["ts_recv"]).all()
    outright = files[code].records("FUT", "definition")
    outright = outright[outright["instrument_class"] == b"F"]
    assert set(outright["asset"].tolist()) == {here.futures_root.encode()}
    assert (outright["unit_of_measure_qty"] == {"HE": 40_000, "ZO": 5_000}[code] * 10**9).all()
    assert (outright["min_price_increment"] == round(here.tick * 1e9)).all()
    user_defined = files[code].records("OPT", "definition")
    user_defined = user_defined[user_defined["user_defined_instrument"] == b"Y"]
    assert len(user_defined) > 0
    assert all(symbol.startswith(b"UD:") for symbol in user_defined["raw_symbol"].tolist())
    assert (user_defined["strike_price"] == NO_PRICE).all()


@pytest.mark.parametrize("code", sample.MARKETS)
def test_options_name_their_underlying(files: dict[str, Files], code: str) -> None:
    futures = files[code].records("FUT", "definition")
    names = set(
        zip(*(futures[name].tolist() for name in ("instrument_id", "raw_symbol")), strict=True)
    )
    options = files[code].records("OPT", "definition")
    options = options[np.isin(options["instrument_class"], [b"C", b"P"])]
    pairs = set(zip(options["underlying_id"].tolist(), options["underlying"].tolist(), strict=True))
    assert pairs <= names
    assert (options["strike_price"] != NO_PRICE).all()
    assert len(np.unique(options["instrument_id"])) == len(np.unique(options["raw_symbol"]))


def expirations(code: str, kind: str, until: int = 2025) -> dict[str, datetime]:
    """Return expirations, exchange-local, by the month that they belong to."""
    contracts = getattr(world(market(code), date(until, 1, 1)), kind)
    at = (contracts.expires_at // 1000).tolist()
    return {
        f"{year}-{month:02d}": datetime.fromtimestamp(one / 1e6, CHICAGO)
        for year, month, one in zip(contracts.year, contracts.month, at, strict=True)
    }


def test_expirations_are_those_that_the_exchange_had() -> None:
    noon = expirations("HE", "futures")
    assert noon == expirations("HE", "options")
    assert noon["2024-12"] == datetime(2024, 12, 13, 12, tzinfo=CHICAGO)
    assert noon["2025-02"] == datetime(2025, 2, 14, 12, tzinfo=CHICAGO)
    assert noon["2025-07"] == datetime(2025, 7, 15, 12, tzinfo=CHICAGO)
    oats = expirations("ZO", "futures")
    assert oats["2024-12"] == datetime(2024, 12, 13, 12, 1, tzinfo=CHICAGO)
    assert oats["2025-03"] == datetime(2025, 3, 14, 12, 1, tzinfo=CHICAGO)
    options = expirations("ZO", "options")
    assert options["2024-12"] == datetime(2024, 11, 22, 13, 20, tzinfo=CHICAGO)
    assert options["2025-03"] == datetime(2025, 2, 21, 13, 20, tzinfo=CHICAGO)
    assert options["2025-06"] == datetime(2025, 5, 23, 13, 20, tzinfo=CHICAGO)


def test_listed_months() -> None:
    hogs = sample.truth(market("HE"), date(2025, 10, 20))
    assert hogs.futures["contract"].to_list() == [
        *("HEZ5", "HEG6", "HEJ6", "HEK6", "HEM6", "HEN6", "HEQ6", "HEV6"),
    ]
    assert hogs.expiries["underlying"].to_list() == hogs.futures["contract"].to_list()[:6]
    oats = sample.truth(market("ZO"), date(2025, 10, 20))
    # November and December options, then a serial January one on the March future.
    assert oats.expiries["underlying"].to_list() == ["ZOZ5", "ZOZ5", *["ZOH6"] * 3, "ZOK6"]
    assert oats.options["contract"].str.starts_with("OZOF6 ").any()


# -- the surface --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sample.MARKETS)
def test_surfaces_hold_no_arbitrage(code: str) -> None:
    k = np.linspace(-4.0, 4.0, 401)[:, None]
    for day in sessions(code, date(2018, 1, 2), date(2026, 6, 30), 50):
        truth = sample.truth(market(code), day)
        for expiries in (truth.expiries, truth.settlement_expiries):
            slices = [expiries[name].to_numpy() for name in SVI]
            assert (svi.durrleman_g(k, *slices) > 0).all()
            assert (slices[1] * (1 + np.abs(slices[2])) <= 2).all()
            assert expiries["atm_iv"].is_between(0.24, 0.46).all()
            for _, group in expiries.sort("t_years").group_by("underlying"):
                w = svi.total_variance(k, *(group[name].to_numpy() for name in SVI))
                assert (np.diff(w, axis=1) >= 0).all()


def test_times_count_from_snapshot_and_close() -> None:
    truth = sample.truth(market("HE"), date(2025, 10, 20))
    assert truth.snapshot_at == datetime(2025, 10, 20, 18, tzinfo=UTC)
    assert truth.close_at == datetime(2025, 10, 20, 18, 5, tzinfo=UTC)
    for expiries, since in (
        (truth.expiries, truth.snapshot_at),
        (truth.settlement_expiries, truth.close_at),
    ):
        first = expiries.row(0, named=True)
        years = (first["expiration"] - since) / timedelta(days=365)
        assert first["t_years"] == pytest.approx(years, rel=1e-12)
        w0 = svi.total_variance(0.0, *(first[name] for name in SVI))
        assert first["atm_iv"] == pytest.approx(np.sqrt(w0 / years), rel=1e-12)


def test_density_and_moments_of_the_truth() -> None:
    truth = sample.truth(market("HE"), date(2025, 10, 20))
    row = truth.expiries.row(1, named=True)
    strike = np.linspace(1.0, 4 * row["forward"], 20_001)
    density = truth.density(row["expiry"], strike)
    moments = truth.moments(row["expiry"])
    assert np.trapezoid(density, strike) == pytest.approx(1.0, abs=1e-4)
    assert np.trapezoid(strike * density, strike) == pytest.approx(row["forward"], rel=1e-3)
    assert moments["mean"] == pytest.approx(row["forward"], rel=1e-6)


@pytest.mark.parametrize("code", sample.MARKETS)
def test_the_surface_moves_slowly(code: str) -> None:
    place = world(market(code), date(2025, 11, 21))
    assert np.abs(np.diff(place.vol_level)).max() < 0.025
    assert np.ptp(place.vol_level) > 0.08
    front = np.log(place.future_close(np.arange(1, 2000), np.full(1999, 40)))
    assert 0.05 < np.std(np.diff(front)) * np.sqrt(252) < 0.40


@pytest.mark.parametrize("code", sample.MARKETS)
def test_the_world_is_the_same_however_far_it_reaches(code: str) -> None:
    near, far = (world(market(code), date(year, 6, 1)) for year in (2024, 2026))
    n = near.session_index(date(2024, 6, 3))
    assert n is not None
    for name in ("short_term", "long_term", "vol_level", "skew", "curvature", "closing_move"):
        assert (getattr(near, name)[:n] == getattr(far, name)[:n]).all()
    chains = [place.chain(n - 40, n) for place in (near, far)]
    ids = [
        place.option_id(chain.option, chain.strike, chain.is_call)
        for place, chain in zip((near, far), chains, strict=True)
    ]
    assert (ids[0] == ids[1]).all()
    interest = [
        place.open_interest(chain) for place, chain in zip((near, far), chains, strict=True)
    ]
    assert (interest[0] == interest[1]).all()
    assert far.futures.stem[: len(near.futures)] == near.futures.stem
    assert (far.options.expires_at[: len(near.options)] == near.options.expires_at).all()


# -- quotes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sample.MARKETS)
def test_quotes_hold_the_true_price(quoted: dict[str, pl.DataFrame], code: str) -> None:
    frame = quoted[code]
    prices = american.price(
        *(frame[name].to_numpy() for name in ("forward", "strike", "t_years")),
        np.sqrt(
            svi.total_variance(
                np.log(frame["strike"] / frame["forward"]).to_numpy(),
                *(frame[name].to_numpy() for name in SVI),
            )
            / frame["t_years"].to_numpy()
        ),
        frame["rate"].to_numpy(),
        frame["is_call"].to_numpy(),
    )
    np.testing.assert_allclose(frame["price"].to_numpy(), prices, rtol=0, atol=1e-9)
    two_sided = frame.filter(pl.col("bid") < pl.col("ask"))
    inside = two_sided.select(pl.col("price").is_between("bid", "ask").mean()).item()
    assert inside > 0.999
    for side in ("bid", "ask"):
        ticks = frame[side].drop_nulls() / market(code).option_tick
        assert (ticks - ticks.round()).abs().max() < 1e-9
        assert (ticks >= 1 - 1e-9).all()


@pytest.mark.parametrize("code", sample.MARKETS)
def test_spreads_and_faults(quoted: dict[str, pl.DataFrame], code: str) -> None:
    frame = quoted[code]
    tick = market(code).option_tick
    wide = frame.filter(pl.col("bid") < pl.col("ask"), pl.col("mid") > 20 * tick)
    assert wide["spread"].is_between(0.08, 0.35).mean() > 0.99
    assert wide.filter("is_liquid")["spread"].median() < 0.14
    crossed = frame.select((pl.col("bid") > pl.col("ask")).mean()).item()
    no_ask = frame["ask"].is_null().mean()
    assert 0.002 < crossed < 0.03
    assert 0.002 < no_ask < 0.03
    far = frame.filter(pl.col("price") < tick / 2)
    assert far["bid"].is_null().all()
    near = frame.filter((pl.col("strike") / pl.col("forward")).log().abs() < 0.01)
    assert near.filter(pl.col("t_years") > 0.05)["bid"].null_count() == 0


@pytest.mark.parametrize("code", sample.MARKETS)
def test_mids_are_unbiased(quoted: dict[str, pl.DataFrame], code: str) -> None:
    liquid = quoted[code].filter("is_liquid", "is_otm")
    vol, status = american.european_equivalent_vol(
        *(liquid[name].to_numpy() for name in ("mid", "forward", "strike", "t_years", "rate")),
        liquid["is_call"].to_numpy(),
    )
    assert (status == 0).all()
    k = np.log(liquid["strike"] / liquid["forward"]).to_numpy()
    true = np.sqrt(
        svi.total_variance(k, *(liquid[name].to_numpy() for name in SVI))
        / liquid["t_years"].to_numpy()
    )
    error = liquid.select("session", "expiry", "atm_iv", "t_years").with_columns(
        error=pl.Series(100 * (vol - true)), k=pl.Series(np.abs(k))
    )
    assert abs(error["error"].mean()) < 0.02
    near = error.filter(pl.col("k") < 0.3 * pl.col("atm_iv") * pl.col("t_years").sqrt())
    # In an option's last days a quarter of a tick alone is more than that.
    slices = near.filter(pl.col("t_years") > 0.02).group_by("session", "expiry").agg("error")
    slices = slices.with_columns(pl.col("error").list.mean())
    assert len(slices) > 50
    assert slices["error"].abs().max() < 0.3


def liquid_strikes(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("session", "expiry").agg(
        pl.col("t_years").first(), n=pl.col("strike").filter("is_liquid").n_unique()
    )


def test_hogs_have_full_expiries_and_thin_ones(quoted: dict[str, pl.DataFrame]) -> None:
    counts = liquid_strikes(quoted["HE"])
    by_session = counts.group_by("session").agg(
        full=pl.col("n").is_between(15, 30).sum(), thin=(pl.col("n") < 8).sum()
    )
    assert (by_session["full"] >= 1).all()
    assert (by_session["full"] >= 2).mean() > 0.9
    assert (counts["n"] <= 30).mean() > 0.97
    assert (by_session["thin"] >= 1).mean() > 0.7


def test_oats_have_five_to_seven_liquid_strikes(quoted: dict[str, pl.DataFrame]) -> None:
    counts = liquid_strikes(quoted["ZO"])
    assert counts["n"].max() < market("ZO").min_strikes
    usual = counts.filter(pl.col("t_years").is_between(0.06, 0.3))
    assert usual["n"].is_between(5, 7).mean() > 0.95


@pytest.mark.parametrize("code", sample.MARKETS)
def test_quotes_at_the_cut_off_and_after_it(files: dict[str, Files], code: str) -> None:
    truth = sample.truth(market(code), date(2025, 10, 20))
    quotes = files[code].records("OPT", "bbo-1m")
    assert (quotes["ts_event"] < quotes["ts_recv"]).all()
    assert (quotes["ts_recv"] % 60_000_000_000 == 0).all()
    at = quotes[quotes["ts_recv"] == ns(truth.snapshot_at)]
    listed = truth.options.filter(pl.col("price").is_not_null()).sort("instrument_id")
    assert at["instrument_id"].tolist() == listed["instrument_id"].to_list()
    for field, side in (("bid_px_00", "bid"), ("ask_px_00", "ask")):
        price = np.where(at[field] == NO_PRICE, np.nan, at[field] / 1e9)
        np.testing.assert_allclose(price, listed[side].fill_null(np.nan).to_numpy(), atol=1e-9)
    sizes = np.where(at["bid_px_00"] == NO_PRICE, at["bid_sz_00"] == 0, at["bid_sz_00"] > 0)
    assert sizes.all()
    late = quotes[quotes["ts_recv"] == ns(truth.snapshot_at) + 60_000_000_000]
    order = np.searchsorted(late["instrument_id"], at["instrument_id"])
    mids = [
        np.where(
            (q["bid_px_00"] == NO_PRICE) | (q["ask_px_00"] == NO_PRICE),
            np.nan,
            (q["bid_px_00"] / 2 + q["ask_px_00"] / 2) / 1e9,
        )
        for q in (at, late[order])
    ]
    near = (listed["price"] > 1.0).to_numpy() & (listed["strike"] > 0).to_numpy()
    moved = np.abs(mids[1] - mids[0])[near] / market(code).option_tick
    assert np.nanmedian(moved) > 4
    before = ns(truth.snapshot_at) - 600_000_000_000
    assert (quotes["ts_recv"] == before).sum() == len(at)


@pytest.mark.parametrize("code", sample.MARKETS)
def test_the_future_s_mid_is_the_forward(files: dict[str, Files], code: str) -> None:
    quotes = files[code].records("FUT", "bbo-1m")
    for day in sessions(code, START.date(), END.date(), 5):
        truth = sample.truth(market(code), day)
        at = quotes[quotes["ts_recv"] == ns(truth.snapshot_at)]
        mid = dict(
            zip(
                at["instrument_id"].tolist(),
                ((at["bid_px_00"] + at["ask_px_00"]) / 2e9).tolist(),
                strict=True,
            )
        )
        alive = truth.futures.filter(pl.col("price").is_not_null())
        assert [mid[i] for i in alive["instrument_id"]] == pytest.approx(alive["price"].to_list())
        forwards = truth.expiries.join(alive, left_on="underlying", right_on="contract")
        assert forwards["forward"].to_list() == forwards["price"].to_list()
        late = quotes[quotes["ts_recv"] == ns(truth.snapshot_at) + 60_000_000_000]
        outright = np.isin(late["instrument_id"], alive["instrument_id"].to_numpy())
        moved = [
            abs((q["bid_px_00"] + q["ask_px_00"]) / 2e9 - mid[q["instrument_id"]])
            for q in late[outright]
        ]
        assert min(moved) > 2 * market(code).tick


# -- bars ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", sample.MARKETS)
def test_bars_agree_with_quotes_and_with_one_another(files: dict[str, Files], code: str) -> None:
    minutes, days = (files[code].records("FUT", f"ohlcv-1{unit}") for unit in "md")
    for bars in (minutes, days):
        assert (bars["high"] >= np.maximum(bars["open"], bars["close"])).all()
        assert (bars["low"] <= np.minimum(bars["open"], bars["close"])).all()
        assert (bars["volume"] > 0).all()
    assert len(np.unique(minutes["instrument_id"])) <= 6
    half_tick = market(code).tick / 2 + 1e-9
    for day in sessions(code, START.date(), END.date(), 5):
        truth = sample.truth(market(code), day)
        midnight = ns(datetime.combine(day, time(), UTC))
        today = minutes[(minutes["ts_event"] // 10**9 // 86400) * 86400 * 10**9 == midnight]
        last = today[today["ts_event"] == ns(truth.snapshot_at) - 60_000_000_000]
        alive = truth.futures.filter(pl.col("price").is_not_null()).head(3)
        close = dict(zip(last["instrument_id"].tolist(), last["close"].tolist(), strict=True))
        for i, price, settlement in alive.select(
            "instrument_id", "price", "settlement"
        ).iter_rows():
            assert abs(close[i] / 1e9 - price) <= half_tick
            mine = today[today["instrument_id"] == i]
            whole = days[(days["instrument_id"] == i) & (days["ts_event"] == midnight)][0]
            assert whole["open"] == mine["open"][0]
            assert whole["close"] == mine["close"][-1]
            assert abs(whole["close"] / 1e9 - settlement) <= 2 * half_tick
            assert whole["high"] == mine["high"].max()
            assert whole["low"] == mine["low"].min()
            assert whole["volume"] == mine["volume"].sum()


@pytest.mark.parametrize("code", sample.MARKETS)
def test_a_short_day(tmp_path: Path, code: str) -> None:
    day = date(2025, 11, 28)
    truth = sample.truth(market(code), day)
    midnight = datetime.combine(day, time(), UTC)
    found = Files(sample.fetch(market(code), midnight, midnight + timedelta(days=1), tmp_path))
    assert truth.close_at < midnight + timedelta(hours=19)
    quotes = found.records("OPT", "bbo-1m")
    assert (quotes["ts_recv"] == ns(truth.snapshot_at)).any()
    assert quotes["ts_recv"].max() < ns(truth.close_at)
    bars = found.records("FUT", "ohlcv-1m")
    assert bars["ts_event"].max() == ns(truth.close_at) - 60_000_000_000
    assert bars["ts_event"].min() >= ns(truth.snapshot_at) - 285 * 60_000_000_000
    settled = found.records("OPT", "statistics")
    settled = settled[(settled["stat_type"] == 3) & (settled["stat_flags"] & 1 == 0)]
    assert settled["ts_recv"].min() > ns(truth.close_at)


def test_calendar_spreads_come_along(files: dict[str, Files]) -> None:
    spreads = files["HE"].ids("FUT", b"S")
    for schema in ("bbo-1m", "ohlcv-1d"):
        assert np.isin(files["HE"].records("FUT", schema)["instrument_id"], spreads).any()


def test_nothing_trades_after_its_expiry(files: dict[str, Files]) -> None:
    expiry = datetime(2025, 10, 14, 17, tzinfo=UTC)
    found = files["HE"]
    definitions = found.records("FUT", "definition")
    front = definitions["instrument_id"][definitions["raw_symbol"] == b"HEV5"][0]
    bars = found.records("FUT", "ohlcv-1m")
    assert bars["ts_event"][bars["instrument_id"] == front].max() < ns(expiry)
    for kind in ("FUT", "OPT"):
        made = found.records(kind, "definition")
        gone = np.unique(made["instrument_id"][made["expiration"] == ns(expiry)])
        assert len(gone) > 0
        for schema in ("bbo-1m", "statistics"):
            records = found.records(kind, schema)
            assert records["ts_recv"][np.isin(records["instrument_id"], gone)].max() < ns(expiry)


# -- statistics ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "kind"), [(c, k) for c in sample.MARKETS for k in ("FUT", "OPT")])
def test_statistics_are_the_truth_as_published(
    files: dict[str, Files], code: str, kind: str
) -> None:
    day, morning = date(2025, 10, 17), date(2025, 10, 20)
    truth = sample.truth(market(code), day)
    after = sample.truth(market(code), morning)
    rows = truth.futures if kind == "FUT" else truth.options
    rows = rows.filter(pl.col("settlement").is_not_null()).sort("instrument_id")
    records = files[code].records(kind, "statistics")
    records = records[records["ts_ref"] == ns(datetime.combine(day, time(), UTC))]
    assert (records["ts_event"] <= records["ts_recv"]).all()

    def of(stat_type: int, final: bool | None = None) -> np.ndarray:
        kept = records[records["stat_type"] == stat_type]
        if final is not None:
            kept = kept[(kept["stat_flags"] & 1 == 1) == final]
        kept = kept[np.argsort(kept["instrument_id"])]
        assert kept["instrument_id"].tolist() == rows["instrument_id"].to_list()
        return kept

    for final, column, begin, end in (
        (False, "settlement_preliminary", time(13, 30), time(14, 0)),
        (True, "settlement", time(18, 0), time(18, 5)),
    ):
        made = of(3, final)
        np.testing.assert_allclose(made["price"] / 1e9, rows[column].to_numpy(), atol=1e-9)
        assert (made["quantity"] == NO_PRICE).all()
        published(made, day, begin, end)
    for stat_type, column in ((6, "volume"), (9, "open_interest")):
        made = of(stat_type)
        assert made["quantity"].tolist() == rows[column].to_list()
        assert (made["price"] == NO_PRICE).all()
        published(made, morning, time(5, 30), time(5, 35))
        later = after.futures if kind == "FUT" else after.options
        known = later.join(rows, on="instrument_id").sort("instrument_id")
        assert known[f"{column}_known"].to_list() == known[f"{column}_right"].to_list()
        assert len(known) > 0


def published(records: np.ndarray, day: date, begin: time, end: time) -> None:
    first = datetime.combine(day, begin, CHICAGO).astimezone(UTC)
    last = datetime.combine(day, end, CHICAGO).astimezone(UTC)
    assert records["ts_recv"].min() >= ns(first)
    assert records["ts_recv"].max() <= ns(last)


@pytest.mark.parametrize("code", sample.MARKETS)
def test_settlements_are_the_surface_at_the_close(code: str) -> None:
    here = market(code)
    differ = 0
    for day in sessions(code, START.date(), END.date(), 9):
        truth = sample.truth(here, day)
        rows = truth.options.join(
            truth.settlement_expiries, on="expiry", maintain_order="left"
        ).filter(pl.col("settlement").is_not_null())
        k = np.log(rows["strike"] / rows["forward"]).to_numpy()
        w = svi.total_variance(k, *(rows[name].to_numpy() for name in SVI))
        price = american.price(
            *(rows[name].to_numpy() for name in ("forward", "strike", "t_years")),
            np.sqrt(w / rows["t_years"].to_numpy()),
            rows["rate"].to_numpy(),
            (rows["option_type"] == "C").to_numpy(),
        )
        off = np.abs(rows["settlement"].to_numpy() - price)
        assert (off <= here.option_tick / 2 + 1e-9).all()
        cabinet = rows.filter(pl.col("settlement") < here.option_tick)["settlement"].unique()
        assert cabinet.to_list() in ([], [1 / here.multiplier])
        underlying = truth.futures.join(
            truth.settlement_expiries, left_on="contract", right_on="underlying"
        )
        assert underlying["settlement"].to_list() == underlying["forward"].to_list()
        differ += rows.filter(pl.col("settlement") != pl.col("settlement_preliminary")).height
    assert differ > 50


def test_intraday_statistics_have_no_reference_date(files: dict[str, Files]) -> None:
    records = files["HE"].records("FUT", "statistics")
    intraday = records[np.isin(records["stat_type"], [7, 8])]
    assert len(intraday) > 0
    assert (intraday["ts_ref"] == np.iinfo(np.uint64).max).all()
    dated = records[~np.isin(records["stat_type"], [7, 8])]
    assert (dated["ts_ref"] < dated["ts_recv"]).all()


@pytest.mark.parametrize("code", sample.MARKETS)
def test_open_interest_falls_away_from_the_money(
    quoted: dict[str, pl.DataFrame], code: str
) -> None:
    near = (
        quoted[code]
        .filter(pl.col("t_years").is_between(0.06, 0.3))
        .with_columns(
            z=(pl.col("strike") / pl.col("forward")).log().abs()
            / (pl.col("atm_iv") * pl.col("t_years").sqrt())
        )
    )
    means = [
        near.filter(pl.col("z").is_between(low, low + 0.5))["open_interest"].mean()
        for low in (0.0, 0.5, 1.0, 1.5)
    ]
    assert means == sorted(means, reverse=True)


# -- the CFTC's zips ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cot(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    until = datetime(2026, 3, 14, tzinfo=UTC)
    return sample.fetch_cot(2023, 2026, until, tmp_path_factory.mktemp("cot"))


SPREADING = ("Swap__Positions", "M_Money_Positions", "Other_Rept_Positions")


def cot_rows(path: Path, name: str = "f_year.txt") -> list[dict[str, str]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [name]
        lines = list(csv.reader(io.StringIO(archive.read(name).decode())))
    assert {len(line) for line in lines} == {191}
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def test_cot_header_is_the_published_one() -> None:
    path = DATA / "cot/fut_disagg_txt_2025.zip"
    if not path.exists():
        pytest.skip("the CFTC's file of 2025 is not beside the project")
    with zipfile.ZipFile(path) as archive, archive.open("f_year.txt") as lines:
        assert next(csv.reader([lines.readline().decode()])) == list(HEADER)


def test_cot_rows_add_up(cot: list[Path]) -> None:
    assert [path.name for path in cot] == [
        f"sample_fut_disagg_txt_{year}.zip" for year in (2023, 2024, 2025, 2026)
    ]
    for row in cot_rows(cot[1]):
        for crop in ("All", "Old", "Other"):
            total = int(row[f"Open_Interest_{crop}"])
            spreads = sum(int(row[f"{name}_Spread_{crop}"]) for name in SPREADING)
            for side, swap in (("Long", "Swap"), ("Short", "Swap_")):
                names = ("Prod_Merc", swap, "M_Money", "Other_Rept")
                held = [int(row[f"{name}_Positions_{side}_{crop}"]) for name in names]
                small = int(row[f"NonRept_Positions_{side}_{crop}"])
                assert min(*held, small, spreads) >= 0
                assert sum(held) + spreads == int(row[f"Tot_Rept_Positions_{side}_{crop}"])
                assert sum(held) + spreads + small == total


def test_cot_has_each_report_once_it_is_released(cot: list[Path]) -> None:
    rows = [row for path in cot for row in cot_rows(path)]
    dates = sorted({date.fromisoformat(row["Report_Date_as_YYYY-MM-DD"]) for row in rows})
    released = releases(pl.Series(dates))["available_at"]
    assert released.max() <= datetime(2026, 3, 14, tzinfo=UTC)
    assert dates[-1] == date(2026, 3, 10)
    assert {day.weekday() for day in dates} == {0, 1}
    assert date(2025, 11, 10) in dates  # the eleventh is a holiday
    assert {row["CFTC_Contract_Market_Code"] for row in rows} >= {"054642", "004603", "057642"}
    assert any(row["CFTC_Contract_Market_Code"] == "0063DB" for row in rows)
    assert any("." in row.values() for row in rows)


def test_cot_of_a_later_day_keeps_the_earlier_rows(cot: list[Path], tmp_path: Path) -> None:
    later = sample.fetch_cot(2026, 2027, datetime(2027, 1, 4, tzinfo=UTC), tmp_path)
    assert [path.name for path in later] == ["sample_fut_disagg_txt_2026.zip"]
    keep = {tuple(row.values()) for row in cot_rows(cot[-1])}
    assert keep < {tuple(row.values()) for row in cot_rows(later[0])}


@pytest.fixture(scope="module")
def combined(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    until = datetime(2026, 3, 14, tzinfo=UTC)
    folder = tmp_path_factory.mktemp("combined")
    return sample.fetch_cot(2023, 2026, until, folder, "disaggregated_combined")


@pytest.mark.parametrize("report", ["cot", "combined"])
def test_the_lake_s_decoder_takes_the_zip(request: pytest.FixtureRequest, report: str) -> None:
    path = request.getfixturevalue(report)[1]
    payload = cftc.read(path, {code: market(code) for code in sample.MARKETS}, source="sample")
    frame = pl.concat([frame for _, frame in payload.frames])
    assert frame.group_by("market").len().sort("market").rows() == [("HE", 53), ("ZO", 53)]
    assert frame.null_count().sum_horizontal().item() == 0
    names = {"cot": "disaggregated_futures", "combined": "disaggregated_combined"}
    assert frame["report"].unique().to_list() == [names[report]]


def test_the_combined_cot_is_futures_and_options(cot: list[Path], combined: list[Path]) -> None:
    """Column by column: each class's futures, its options by their deltas, and what is a spread."""
    assert [path.name for path in combined] == [
        f"sample_com_disagg_txt_{year}.zip" for year in (2023, 2024, 2025, 2026)
    ]
    columns = {
        "Prod_Merc": ("Prod_Merc_Positions_{}_All", "Prod_Merc_Positions_{}_All", None),
        "Swap": ("Swap_Positions_{}_All", "Swap__Positions_{}_All", "Swap__Positions_Spread_All"),
        **{
            trader: (f"{trader}_Positions_{{}}_All",) * 2 + (f"{trader}_Positions_Spread_All",)
            for trader in ("M_Money", "Other_Rept")
        },
        "NonRept": ("NonRept_Positions_{}_All", "NonRept_Positions_{}_All", None),
    }
    for code in ("054642", "004603"):
        truth = sample.cot_options(code, 2026)
        assert truth["trader"].unique().sort().to_list() == sorted(columns)
        held = {(day, trader): sides for day, trader, *sides in truth.rows()}
        ours = [row for path in cot for row in cot_rows(path)]
        theirs = [row for path in combined for row in cot_rows(path, "c_year.txt")]
        pairs = [
            (futures, both)
            for futures, both in zip(ours, theirs, strict=True)
            if futures["CFTC_Contract_Market_Code"] == code
        ]
        assert len(pairs) > 150
        for futures, both in pairs:
            assert both["FutOnly_or_Combined"] == "Combined"
            day = date.fromisoformat(futures["Report_Date_as_YYYY-MM-DD"])
            total = int(both["Open_Interest_All"]) - int(futures["Open_Interest_All"])
            assert 0.1 < total / int(futures["Open_Interest_All"]) < 0.9
            sums = [0, 0]
            for trader, (long, short, spread) in columns.items():
                options = held[day, trader]
                spreading = int(both[spread]) - int(futures[spread]) if spread else 0
                for side, name in enumerate((long.format("Long"), short.format("Short"))):
                    more = int(both[name]) - int(futures[name])
                    assert more >= 0
                    assert more + spreading == options[side] > 0
                    sums[side] += options[side]
            assert sums == [total, total]


@pytest.mark.parametrize("crop", ["All", "Old", "Other"])
def test_the_combined_cot_adds_up(combined: list[Path], crop: str) -> None:
    spreads = [f"{name}_Spread_{crop}" for name in SPREADING]
    for row in cot_rows(combined[1], "c_year.txt"):
        for side, swap in (("Long", "Swap"), ("Short", "Swap_")):
            names = ("Prod_Merc", swap, "M_Money", "Other_Rept", "NonRept")
            held = [int(row[f"{name}_Positions_{side}_{crop}"]) for name in names]
            held += [int(row[name]) for name in spreads]
            assert min(held) >= 0
            assert sum(held) == int(row[f"Open_Interest_{crop}"])


# -- random numbers -----------------------------------------------------------------------------


def test_draws_depend_on_their_keys_alone() -> None:
    keys = np.arange(200_000, dtype=np.int64)
    drawn = uniform("HE", "key", keys)
    parts = [uniform("HE", "key", part) for part in np.split(keys, 4)]
    assert (drawn == np.concatenate(parts)).all()
    assert drawn[17] == uniform("HE", "key", 17)
    assert drawn.mean() == pytest.approx(0.5, abs=0.005)
    assert ((drawn > 0) & (drawn < 1)).all()
    other = uniform("HE", "other key", keys)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01
    bell = normal("ZO", keys)
    assert (bell.mean(), bell.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
