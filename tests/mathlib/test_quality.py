"""The liquid-strike rule, quote flags and static-arbitrage checks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mathlib import american, black76, quality
from mathlib.quality import Arbitrage, QuoteFlag

prop = settings(deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("bid", "ask", "open_interest", "liquid"),
    [
        (1.0, 1.1, 51, True),
        (1.0, 1.0, 51, True),  # locked is not crossed
        (1.0, 1.1, 50, False),  # must be above
        (1.0, 1.1, np.nan, False),
        (0.9, 1.1, 500, False),  # exactly 20 %
        (0.045, 0.055, 500, False),  # exactly 20 %, rounded below
        (0.91, 1.1, 500, True),
        (0.0, 0.1, 500, False),
        (1.1, 1.0, 500, False),
        (np.nan, 1.0, 500, False),
        (1.0, np.nan, 500, False),
        (1.0, np.inf, 500, False),
        (-1.0, 1.0, 500, False),
    ],
)
def test_liquid_strike_rule(bid: float, ask: float, open_interest: float, liquid: bool) -> None:
    assert quality.is_liquid(bid, ask, open_interest) == liquid


def test_limits_of_the_rule_can_be_set() -> None:
    bid, ask, interest = [1.0, 1.0], [1.25, 1.05], [30, 30]
    assert not quality.is_liquid(bid, ask, interest).any()
    np.testing.assert_array_equal(quality.is_liquid(bid, ask, interest, 20), [False, True])
    np.testing.assert_array_equal(quality.is_liquid(bid, ask, interest, 20, 0.5), [True, True])


@pytest.mark.parametrize(
    ("bid", "ask", "flags"),
    [
        (1.0, 1.1, 0),
        (np.nan, 1.0, QuoteFlag.NO_BID),
        (1.0, np.nan, QuoteFlag.NO_ASK),
        (np.nan, np.nan, QuoteFlag.NO_BID | QuoteFlag.NO_ASK),
        (0.0, 0.05, QuoteFlag.ZERO_BID),
        (1.1, 1.0, QuoteFlag.CROSSED),
        (1.0, 1.0, QuoteFlag.LOCKED),
        (1.0, np.inf, QuoteFlag.IMPOSSIBLE),
        (-0.1, 1.0, QuoteFlag.IMPOSSIBLE),
        (0.0, 0.0, QuoteFlag.ZERO_BID | QuoteFlag.LOCKED | QuoteFlag.IMPOSSIBLE),
    ],
)
def test_quote_flags(bid: float, ask: float, flags: int) -> None:
    assert quality.quote_flags(bid, ask) == flags


# ------------------------------------------------------------------------- static arbitrage


def fair_slice(is_american: bool = False) -> dict[str, Any]:
    """Calls and puts of one expiry, quoted a little about their fair values, rows shuffled."""
    strike = np.tile(np.arange(80.0, 121.0, 2.5), 2)
    is_call = np.arange(strike.size) < strike.size // 2
    vol = 0.3 + 0.5 * np.log(strike / 100.0) ** 2
    module = american if is_american else black76
    mid = module.price(100.0, strike, 0.5, vol, 0.05, is_call)
    order = np.random.default_rng(40).permutation(strike.size)
    return {
        "offsets": np.array([0, strike.size]),
        "strike": strike[order],
        "bid": (mid - 0.02)[order],
        "ask": (mid + 0.02)[order],
        "is_call": is_call[order],
        "forward": 100.0,
        "discount": np.exp(-0.05 * 0.5),
        "is_american": is_american,
    }


def at(chain: dict[str, Any], strike: float, is_call: bool) -> int:
    return int(np.flatnonzero((chain["strike"] == strike) & (chain["is_call"] == is_call))[0])


def flagged(chain: dict[str, Any], flag: Arbitrage) -> set[tuple[float, bool]]:
    flags = quality.static_flags(**chain)
    rows = np.flatnonzero(flags & flag)
    return {(float(chain["strike"][i]), bool(chain["is_call"][i])) for i in rows}


@pytest.mark.parametrize("is_american", [True, False])
def test_a_fair_slice_has_no_flags(is_american: bool) -> None:
    assert not quality.static_flags(**fair_slice(is_american)).any()


def test_parity_of_american_options_is_a_band() -> None:
    chain = fair_slice(is_american=True)
    assert not flagged(chain, Arbitrage.PARITY)
    chain["is_american"] = False
    assert flagged(chain, Arbitrage.PARITY)


def test_a_vertical_spread_for_less_than_nothing() -> None:
    chain = fair_slice()
    i, j = at(chain, 110.0, True), at(chain, 112.5, True)
    chain["bid"][j] = chain["ask"][i] + 0.01
    chain["ask"][j] = chain["bid"][j] + 0.04
    assert flagged(chain, Arbitrage.MONOTONE) == {(110.0, True), (112.5, True)}


def test_puts_rise_with_the_strike() -> None:
    chain = fair_slice()
    i, j = at(chain, 90.0, False), at(chain, 92.5, False)
    chain["bid"][i] = chain["ask"][j] + 0.01
    chain["ask"][i] = chain["bid"][i] + 0.04
    assert (90.0, False) in flagged(chain, Arbitrage.MONOTONE)
    assert (92.5, False) in flagged(chain, Arbitrage.MONOTONE)


def test_a_vertical_spread_for_more_than_its_width() -> None:
    chain = fair_slice()
    i, j = at(chain, 80.0, True), at(chain, 82.5, True)
    width = 2.5 * chain["discount"]
    chain["bid"][i] = chain["ask"][j] + width + 0.01
    chain["ask"][i] = chain["bid"][i] + 0.02
    assert flagged(chain, Arbitrage.MONOTONE) == {(80.0, True), (82.5, True)}
    # Exercised at once an American spread pays its whole width.
    chain["is_american"] = True
    assert not flagged(chain, Arbitrage.MONOTONE)


def test_a_butterfly_for_less_than_nothing() -> None:
    chain = fair_slice()
    i = at(chain, 100.0, True)
    wings = [chain["ask"][at(chain, k, True)] for k in (97.5, 102.5)]
    chain["bid"][i] = np.mean(wings) + 0.001
    chain["ask"][i] = chain["bid"][i] + 0.04
    assert flagged(chain, Arbitrage.CONVEX) == {(97.5, True), (100.0, True), (102.5, True)}


def test_a_butterfly_of_unequal_wings() -> None:
    chain: dict[str, Any] = {
        "offsets": [0, 3],
        "strike": [90.0, 100.0, 130.0],
        "bid": [13.9, 8.94, 1.9],
        "ask": [14.0, 9.0, 2.0],  # 3/4 of 14 and 1/4 of 2 is 11
        "is_call": np.array([True, True, True]),
        "forward": np.nan,
        "discount": np.nan,
    }
    assert not quality.static_flags(**chain).any()
    chain["bid"][1], chain["ask"][1] = 11.01, 11.1
    assert flagged(chain, Arbitrage.CONVEX) == {(90.0, True), (100.0, True), (130.0, True)}


def test_parity_beyond_the_spread() -> None:
    chain = fair_slice()
    i = at(chain, 95.0, False)
    chain["bid"][i] += 0.05
    chain["ask"][i] += 0.05
    assert flagged(chain, Arbitrage.PARITY) == {(95.0, False), (95.0, True)}
    chain["forward"] = np.nan  # without a forward nothing can be said
    assert not flagged(chain, Arbitrage.PARITY)


def test_bounds() -> None:
    chain = fair_slice()
    i, j = at(chain, 80.0, True), at(chain, 80.0, False)
    chain["ask"][i] = 20.0 * chain["discount"] - 0.01
    chain["bid"][i] = chain["ask"][i] - 0.04
    chain["bid"][j], chain["ask"][j] = 90.0, 91.0
    assert flagged(chain, Arbitrage.BOUND) == {(80.0, True), (80.0, False)}


def test_slices_are_not_compared_with_each_other() -> None:
    dear, cheap = fair_slice(), fair_slice()
    both: dict[str, Any] = {
        name: np.concatenate([dear[name], cheap[name] + (5.0 if name in ("bid", "ask") else 0.0)])
        for name in ("strike", "bid", "ask")
    }
    both["is_call"] = np.concatenate([dear["is_call"], cheap["is_call"]])
    n = dear["strike"].size
    flags = quality.static_flags(
        [0, n, n, 2 * n], **both, forward=[100.0, np.nan, np.nan], discount=dear["discount"]
    )
    assert not flags.any()


def test_unusable_quotes_are_left_out() -> None:
    chain = fair_slice()
    for strike, bid, ask in ((85.0, 99.0, 98.0), (90.0, np.nan, 0.01), (105.0, 50.0, np.inf)):
        i = at(chain, strike, True)
        chain["bid"][i], chain["ask"][i] = bid, ask
    assert not quality.static_flags(**chain).any()


def test_flags_of_whole_slices() -> None:
    flags = np.array([0, 1, 2, 0, 8], np.uint8)
    np.testing.assert_array_equal(quality.slice_flags([0, 0, 3, 4, 5, 5], flags), [0, 3, 0, 8, 0])
    assert quality.slice_flags([0], flags[:0]).shape == (0,)
    with pytest.raises(ValueError, match="offsets"):
        quality.slice_flags([0, 4], flags)
    with pytest.raises(TypeError, match="flags"):
        quality.slice_flags([0, 5], flags * 1.0)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(TypeError, match="bid must hold real numbers"):
        quality.quote_flags("1", 2.0)
    with pytest.raises(TypeError, match="is_call must be boolean"):
        quality.static_flags([0, 1], [1.0], [1.0], [1.0], [1], 1.0, 1.0)
    with pytest.raises(ValueError, match="one-dimensional"):
        quality.static_flags([0, 1], [[1.0]], [1.0], [1.0], np.array([True]), 1.0, 1.0)


any_float = st.floats(allow_nan=True, allow_infinity=True, width=64)


@given(
    st.lists(st.tuples(any_float, any_float, any_float, st.booleans()), max_size=10),
    any_float,
    any_float,
    st.booleans(),
)
@prop
def test_no_floats_raise(
    rows: list[tuple[Any, ...]], forward: float, discount: float, is_american: bool
) -> None:
    strike, bid, ask = (np.array([row[i] for row in rows], float) for i in range(3))
    is_call = np.array([row[3] for row in rows], bool)
    flags = quality.static_flags(
        [0, len(rows)], strike, bid, ask, is_call, forward, discount, is_american
    )
    assert flags.dtype == np.uint8
    assert flags.shape == strike.shape
    assert np.all(flags <= 15)
    assert np.all(quality.quote_flags(bid, ask) < 64)
    assert quality.is_liquid(bid, ask, strike).dtype == np.bool_


@given(
    st.floats(0.1, 1.0),
    st.floats(0.02, 2.0),
    st.floats(-0.02, 0.1),
    st.floats(0.0, 0.2),
    st.booleans(),
)
@prop
def test_model_prices_are_never_flagged(
    vol: float, t: float, rate: float, half_spread: float, is_american: bool
) -> None:
    strike = np.tile(np.linspace(60.0, 160.0, 21), 2)
    is_call = np.arange(42) < 21
    module = american if is_american else black76
    mid = module.price(100.0, strike, t, vol, rate, is_call)
    quotes = {"bid": mid * (1 - half_spread), "ask": mid * (1 + half_spread)}
    discount = np.exp(-rate * t)
    flags = quality.static_flags(
        [0, 42], strike, **quotes, is_call=is_call, forward=100.0, discount=discount,
        is_american=is_american,
    )  # fmt: skip
    assert not flags.any()
