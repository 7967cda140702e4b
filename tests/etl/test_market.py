from __future__ import annotations

import math
import os
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from etl.errors import BadInput
from etl.market import Market, market, markets, rate_on

CODES = {"HE", "ZO", "LE", "GF", "ZC", "ZS", "ZW", "CL", "NG", "GC", "ES", "SPX"}

GOOD = """
code = "KE"
name = "Kansas wheat"
exchange = "CBOT"
currency = "USD"
underlying = "future"
exercise = "american"
quote_unit = "US cents per bushel"
multiplier = 50
tick = 0.25
option_tick = 0.125
timezone = "America/Chicago"
calendar = "CMEGlobex_Grains"
session_open = "19:00"
opens_day_before = true
snapshot = "13:15"
session_close = "13:20"
futures_root = "KE"
option_roots = ["OKE"]
"""


def write(folder: Path, text: str, name: str = "KE.toml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def refusal(folder: Path, text: str) -> str:
    """The one line with which a market file is refused."""
    with pytest.raises(BadInput) as caught:
        markets(write(folder, text))
    line = str(caught.value)
    assert "KE.toml" in line
    assert "\n" not in line
    return line


def test_every_market_is_bundled() -> None:
    assert set(markets()) == CODES
    assert all(code == place.code for code, place in markets().items())


@pytest.mark.parametrize(
    ("code", "multiplier", "tick", "exercise", "cot_code"),
    [
        ("HE", 400, 0.025, "american", "054642"),
        ("LE", 400, 0.025, "american", "057642"),
        ("GF", 500, 0.025, "american", "061641"),
        ("ZO", 50, 0.25, "american", "004603"),
        ("ZC", 50, 0.25, "american", "002602"),
        ("ZS", 50, 0.25, "american", "005602"),
        ("ZW", 50, 0.25, "american", "001602"),
        ("CL", 1000, 0.01, "american", "067651"),
        ("NG", 10_000, 0.001, "european", "023651"),
        ("GC", 100, 0.1, "american", "088691"),
        ("ES", 50, 0.25, "american", "13874A"),
        ("SPX", 100, 0.01, "european", None),
    ],
)
def test_contract_terms(
    code: str, multiplier: float, tick: float, exercise: str, cot_code: str | None
) -> None:
    place = market(code)
    assert (place.multiplier, place.tick, place.exercise, place.cot_code) == (
        multiplier,
        tick,
        exercise,
        cot_code,
    )


@pytest.mark.parametrize("place", markets().values(), ids=lambda place: place.code)
def test_each_market_holds_together(place: Market) -> None:
    assert (place.min_open_interest, place.max_spread, place.min_strikes) == (50, 0.20, 8)
    assert place.cut_off == place.snapshot < place.session_close
    assert place.option_tick <= place.tick or place.underlying == "index"
    assert {"multiplier", "tick", "exercise", "session_close", "risk_free"} <= set(place.sources)
    if place.underlying == "future":
        assert place.databento_dataset == "GLBX.MDP3"
        assert place.futures_parents == (f"{place.futures_root}.FUT",)
        assert place.option_parents == tuple(f"{root}.OPT" for root in place.option_roots)
        assert place.roll_sessions > 0
    else:
        assert place.databento_dataset is None
        assert not place.futures_parents + place.option_parents


def test_no_option_root_belongs_to_two_markets() -> None:
    roots = [root for place in markets().values() for root in place.option_roots]
    assert len(roots) == len(set(roots))


def test_weekly_options_of_an_american_market_can_be_european() -> None:
    es = market("ES")
    assert "EW2" in es.european_roots
    assert "ES" not in es.european_roots


@pytest.mark.parametrize(
    ("asked", "near"), [("HEE", "HE"), ("zo", "ZO"), ("SPXW", "SPX"), ("he", "HE")]
)
def test_an_unknown_market_names_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(BadInput, match=f"unknown market '{asked}': did you mean {near}"):
        market(asked)


def test_an_unknown_market_unlike_any_lists_them_all() -> None:
    with pytest.raises(BadInput, match="unknown market '#': known: CL, ES") as caught:
        market("#")
    assert "did you mean" not in str(caught.value)


def test_a_file_in_a_further_folder_adds_a_market(tmp_path: Path) -> None:
    found = markets(write(tmp_path, GOOD))
    assert set(found) == CODES | {"KE"}
    assert found["KE"].cut_off == "13:15"
    assert found["KE"].cot_code is None
    assert market("KE", tmp_path).multiplier == 50.0
    assert set(markets()) == CODES, "the bundled markets stay as they are"


def test_a_file_in_a_further_folder_replaces_a_bundled_market(tmp_path: Path) -> None:
    text = GOOD.replace('"KE"', '"HE"').replace("multiplier = 50", "multiplier = 1")
    assert market("HE", write(tmp_path, text, "HE.toml")).multiplier == 1
    assert market("HE").multiplier == 400


def test_a_market_may_state_thresholds_of_its_own(tmp_path: Path) -> None:
    own = market("KE", write(tmp_path, GOOD + "\n[quality]\nprice_deviations = 6\n"))
    shared = market("HE").quality
    assert own.quality == {**shared, "price_deviations": 6.0}
    assert shared["price_deviations"] == 10.0


def test_a_further_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a folder of market files"):
        markets(tmp_path / "absent")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("multiplier = 50", "multiplyer = 50", "unknown key 'multiplyer': did you mean 'multip"),
        ("multiplier = 50\n", "", "key 'multiplier' is missing"),
        ("multiplier = 50", 'multiplier = "50"', "key 'multiplier' is '50': must be a number"),
        ("multiplier = 50", "multiplier = true", "must be a number"),
        ("multiplier = 50", "multiplier = -1", "must be above zero"),
        ("multiplier = 50", "multiplier = inf", "must be above zero and finite"),
        ("tick = 0.25", "tick = nan", "key 'tick'"),
        ("opens_day_before = true", "opens_day_before = 1", "must be true or false"),
        ('"19:00"', '"25:00"', "key 'session_open' is '25:00': must be a time of day"),
        ('"America/Chicago"', '"Chicago"', "must be an IANA time zone"),
        ('"America/Chicago"', '"../etc"', "must be an IANA time zone"),
        ('"american"', '"bermudan"', "must be one of american, european"),
        ('"USD"', '"EUR"', "key 'currency' is 'EUR'"),
        ('["OKE"]', '"OKE"', "key 'option_roots' is 'OKE': must be a list"),
        ('["OKE"]', "[1]", "key 'option_roots'"),
        ('["OKE"]', '["OKE"]\noption_parents = ["OKE"]', "'OKE' must end in .OPT"),
        ('["OKE"]', '["OKE"]\neuropean_roots = ["XX"]', "'XX' is not among option_roots"),
        ('["OKE"]', '["OKE"]\ncot_code = "1612"', "must have six characters"),
        (
            '["OKE"]',
            '["OKE"]\ncot_reports = ["tff"]',
            "is none of disaggregated, legacy, financial",
        ),
        ('["OKE"]', '["OKE"]\nmin_strikes = 2', "must be a whole number, 3 or more"),
        ('["OKE"]', '["OKE"]\nmax_spread = 20', "is a share of the mid"),
        ('["OKE"]', '["OKE"]\ndatabento_dataset = "GLBX.MDP3"', "'futures_parents' is missing"),
        ('["OKE"]', '["OKE"]\n[sources]\nmultiplyer = "x"', "'sources.multiplyer' names no key"),
        ('futures_root = "KE"\n', "", "key 'futures_root' is missing"),
        ('snapshot = "13:15"', 'snapshot = "13:25"', "must follow one another"),
        ('snapshot = "13:15"', 'snapshot = "13:15"\ncut_off = "13:00"', "must follow one another"),
        ('code = "KE"', 'code = "KW"', "key 'code' is 'KW': must be the file's name"),
        ('code = "KE"', 'code = "k e"', "must be capital letters and digits"),
        ("tick = 0.25", "tick = ", "not TOML"),
        ('["OKE"]', '["OKE"]\nmax_quote_age = 0', "must be a whole number, 1 or more"),
        ('["OKE"]', '["OKE"]\nquality = 3', "must be a table of numbers"),
        ('["OKE"]', '["OKE"]\n[quality]\nfrozen_part = 1', "'frozen_part' is no threshold"),
        ('["OKE"]', '["OKE"]\n[quality]\nfrozen_shar = 1', "did you mean 'frozen_share'?"),
        ('["OKE"]', '["OKE"]\n[quality]\nfrozen_share = "1"', "'frozen_share' must be a number"),
        ('["OKE"]', '["OKE"]\n[quality]\nfrozen_share = -1', "'frozen_share' must be above zero"),
        ('["OKE"]', '["OKE"]\nrisk_free = 0.02', "key 'risk_free' is 0.02: must be a list"),
        (
            '["OKE"]',
            '["OKE"]\nrisk_free = [{from = 2020-01-01, low = 1}]',
            "exactly the keys from, low, high",
        ),
        (
            '["OKE"]',
            '["OKE"]\nrisk_free = [{from = "2020-01-01", low = 1, high = 1}]',
            "must be a date",
        ),
        (
            '["OKE"]',
            '["OKE"]\nrisk_free = [{from = 2020-01-01, low = 2, high = 1}]',
            "must be in order",
        ),
        (
            '["OKE"]',
            '["OKE"]\nrisk_free = [{from = 2020-01-02, low = 1, high = 1},'
            " {from = 2020-01-01, low = 1, high = 1}]",
            "2020-01-01 does not come after",
        ),
    ],
)
def test_a_file_that_is_not_a_market_is_refused_in_one_line(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in GOOD
    assert says in refusal(tmp_path, GOOD.replace(old, new, 1))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "KE.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"KE\.toml: not TOML"):
        markets(tmp_path)


def test_rates_are_the_middle_of_the_target_range_continuously_compounded() -> None:
    schedule = market("HE").risk_free
    dates = pl.Series([date(2024, 9, 18), date(2024, 9, 19), date(2012, 5, 1), date(2007, 1, 3)])
    expected = [365 * math.log1p(mid / 36_000) for mid in (5.375, 4.875, 0.125, 5.25)]
    assert rate_on(dates, schedule).to_list() == pytest.approx(expected, rel=1e-13)


def test_a_year_at_the_continuous_rate_is_a_year_of_overnight_lending() -> None:
    rate = rate_on(pl.Series([date(2023, 8, 1)]), market("HE").risk_free)[0]
    assert math.exp(rate) == pytest.approx((1 + 0.05375 / 360) ** 365, rel=1e-12)


def test_the_schedule_is_in_order_and_covers_the_history() -> None:
    days = [day for day, _ in market("HE").risk_free]
    assert days == sorted(set(days))
    assert days[0] <= date(2006, 1, 1)
    assert days[-1] >= date(2025, 12, 11)


def test_markets_share_one_schedule_unless_a_file_has_its_own(tmp_path: Path) -> None:
    assert len({place.risk_free for place in markets().values()}) == 1
    own = GOOD + "risk_free = [{from = 2020-01-01, low = 3.6, high = 3.6}]\n"
    ((day, rate),) = market("KE", write(tmp_path, own)).risk_free
    assert day == date(2020, 1, 1)
    assert rate == pytest.approx(365 * math.log(1 + 0.0001), rel=1e-12)


def test_a_rate_before_the_first_step_or_of_no_date_is_null() -> None:
    dates = pl.Series([date(1999, 1, 1), None, date(2100, 1, 1)], dtype=pl.Date)
    found = rate_on(dates, market("ZO").risk_free)
    assert found.name == "rate"
    assert found.dtype == pl.Float64
    assert found.is_null().to_list() == [True, True, False]
    assert rate_on(dates, ()).to_list() == [None, None, None]
    assert rate_on(dates.clear(), market("ZO").risk_free).len() == 0


def test_a_market_can_be_a_key() -> None:
    assert {market("HE"): 1}[market("HE")] == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tick = " + "[" * 50_000, "not TOML"),
        ("tick = " + "9" * 5000, "not TOML"),
        ("#" * 2_000_000, "larger than any such file"),
        (GOOD.replace("multiplier = 50", "multiplier = 1" + "0" * 400), "a billion at most"),
        (GOOD.replace("multiplier = 50", "multiplier = 1e308"), "a billion at most"),
        (GOOD.replace("multiplier = 50", "multiplier = 5e-324"), "above zero"),
        (GOOD + "roll_sessions = 99999999999999999999", "a billion at most"),
        (GOOD.replace('code = "KE"', 'code = "../KE"'), "capital letters and digits"),
        (GOOD.replace('code = "KE"', 'code = "\u216e"'), "capital letters and digits"),
        (GOOD.replace("America/Chicago", "localtime"), "IANA time zone"),
        (GOOD.replace("America/Chicago", "posix/America/Chicago"), "IANA time zone"),
        (GOOD.replace("America/Chicago", "../../etc/passwd"), "IANA time zone"),
    ],
    ids=range(12),
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "KE.toml")
    with pytest.raises(BadInput, match="is a pipe or a device"):
        markets(tmp_path)
