"""The benchmark of mathlib: its truths are true, its report complete, and a quick run works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import QuantLib as ql

from benchmarks.math import inputs, ours, sizes, truth, worker
from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import Pace, Rate, take_turns
from benchmarks.math.peers import PEERS, scalar_loop
from benchmarks.math.report import Run, markdown

ROOT = Path(__file__).parents[2]

#: Example 3.1 of Gatheral and Jacquier (2014), which has a butterfly, and its repair.
VOGT = (-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
REPAIRED = (0.0077408949, 0.0692420277, -0.3340365066, 0.0420337955, 0.1186080106)


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and the Markdown of a quick run."""
    out = tmp_path_factory.mktemp("bench")
    command = ["-m", "benchmarks.math", "--date", "2025-03-14", "--quick", "--out", str(out)]
    subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, check=False)
    return json.loads((out / "math.json").read_text()), (out / "math.md").read_text()


# --- the run ------------------------------------------------------------------------------------


def test_every_peer_is_measured_or_missing_with_a_reason(
    quick_run: tuple[dict[str, Any], str],
) -> None:
    values, text = quick_run
    assert [peer["peer"] for peer in values["peers"]] == list(PEERS)
    for peer in values["peers"]:
        assert peer.get("lines") or peer["missing"]
        if "missing" in peer:
            assert f"NOT MEASURED {peer['peer']}: {peer['missing']}" in text
    assert values["date"] == "2025-03-14"
    assert "2025-03-14" in text


def test_what_the_project_itself_installs_is_measured(
    quick_run: tuple[dict[str, Any], str],
) -> None:
    values, _ = quick_run
    measured = {peer["peer"] for peer in values["peers"] if "lines" in peer}
    assert measured >= {"QuantLib", "scipy", "scalar Python loop", "DuckDB UDF"}


def test_mathlib_keeps_every_limit_of_error(quick_run: tuple[dict[str, Any], str]) -> None:
    values, _ = quick_run
    lines = [Line.from_dict(line) for peer in values["peers"] for line in peer.get("lines", [])]
    # Beside a peer on a handful of smiles, chance decides: only limits of its own are kept here.
    kept = [error for line in lines for error in line.errors if isinstance(error.limit, float)]
    assert len(kept) > 15
    assert [error for error in kept if not error.met] == []


def test_the_report_shows_every_line_and_judges_no_time_of_a_quick_run(
    quick_run: tuple[dict[str, Any], str],
) -> None:
    values, text = quick_run
    for peer in values["peers"]:
        for line in peer.get("lines", []):
            assert f"| {line['work']} | {line['peer']} |" in text
    assert "too slow" not in text


def test_a_peer_that_cannot_be_imported_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "nobody", "nobody_has_this")
    found = worker.run("nobody", sizes.QUICK)
    assert found["peer"] == "nobody"
    assert "nobody_has_this" in found["missing"]


# --- turns and verdicts -------------------------------------------------------------------------


def test_both_sides_take_turns_and_all_answers_of_the_peer_are_kept() -> None:
    seen: list[str] = []

    def peer(turn: int) -> int:
        seen.append(f"peer {turn}")
        return turn

    pace, answers = take_turns(lambda: seen.append("ours"), 10, peer, 5, 3)
    warm, timed = seen[:2], seen[2:]
    assert warm == ["ours", "peer 0"]
    assert timed == ["ours", "peer 0", "peer 1", "ours", "ours", "peer 2"]
    assert answers == [0, 1, 2]
    assert pace.turns == 3
    assert pace.ratio_low <= pace.ratio <= pace.ratio_high
    assert pace.ours.slowest <= pace.ours.median <= pace.ours.fastest


def line(ratio: float, ours_off: float = 0.0, peer_off: float = 0.0) -> Line:
    rate = Rate(1e6, 9e5, 2e6)
    return Line(
        "implied vol",
        "a peer",
        "options",
        Pace(rate, rate, ratio, ratio, ratio, 9),
        (Error("worst", ours_off, peer_off, 1e-12), Error("other", ours_off, peer_off, "peer")),
        need=1.5,
        need_rate=5e5,
    )


def run_of(*lines: Line, quick: bool = False) -> Run:
    peers = [{"peer": "a peer", "lines": [x.as_dict() for x in lines], "versions": {"x": "1"}}]
    return Run("2025-03-14", quick, {"system": "a machine"}, 9, peers)


def test_a_line_survives_json() -> None:
    original = line(2.0, 1e-13, 1e-14)
    assert Line.from_dict(json.loads(json.dumps(original.as_dict()))) == original


def test_what_is_met_passes_and_what_is_not_is_named() -> None:
    assert run_of(line(1.5)).shortfalls() == []
    assert "Everything that is required is met." in markdown(run_of(line(1.5)))
    assert run_of(line(1.4)).shortfalls() == ["implied vol: too slow beside a peer"]
    assert run_of(line(1.4), quick=True).shortfalls() == []
    assert run_of(line(2.0, 1e-11, 1e-10)).shortfalls() == ["implied vol, beside a peer: worst"]
    assert run_of(line(2.0, 1e-13, 1e-14)).shortfalls() == ["implied vol, beside a peer: other"]
    assert "FAIL" in markdown(run_of(line(1.4)))


def test_an_error_that_is_not_a_number_meets_no_limit() -> None:
    assert Error("worst", float("nan"), None, 1.0).met is False


# --- inputs and truths --------------------------------------------------------------------------


def test_exact_vol_gives_back_the_vol_of_a_price_from_quantlib() -> None:
    price = ql.blackFormula(ql.Option.Put, 80.0, 90.0, 0.3 * np.sqrt(0.25), np.exp(-0.04 * 0.25))
    p, f, k, t, near = (np.array([x]) for x in (price, 90.0, 80.0, 0.25, 0.2))
    vol = truth.exact_implied_vol(p, f, k, t, 0.04, np.array([False]), near)
    assert vol[0] == pytest.approx(0.3, rel=1e-13)


def test_the_books_formula_is_quantlibs() -> None:
    for is_call, kind in ((True, ql.Option.Call), (False, ql.Option.Put)):
        mine = truth.undiscounted_price(*map(np.array, (90.0, 84.0, 0.2, is_call)))
        assert float(mine) == pytest.approx(ql.blackFormula(kind, 84.0, 90.0, 0.2), rel=1e-13)


def test_butterflies_of_published_slices_are_seen() -> None:
    assert truth.has_butterfly(np.array([VOGT, REPAIRED]).T).tolist() == [True, False]
    steep = np.array([[0.04, 1.5, 0.5, 0.0, 0.2]]).T
    assert truth.breaks_lee(steep).all()
    assert not truth.breaks_lee(np.array([REPAIRED]).T).any()


def test_known_smiles_are_distributions_of_mean_one_that_give_their_prices() -> None:
    smiles = truth.Smiles.draw(40, seed=1)
    assert 0 < smiles.is_svi.sum() < 40
    k, weight = smiles.grid(4001)
    mass = smiles.density(k) * weight
    assert mass.min() >= 0.0
    assert mass.sum(axis=1) == pytest.approx(1.0, abs=1e-8)
    assert (mass * np.exp(k)).sum(axis=1) == pytest.approx(1.0, abs=1e-8)
    at = smiles.deviation[:, None] * np.array([-1.3, -0.4, 0.0, 0.7, 1.2])
    price = smiles.out_of_the_money(at)
    for j in range(at.shape[1]):
        strike = np.exp(at[:, j : j + 1])
        payoff = np.where(at[:, j : j + 1] >= 0.0, np.exp(k) - strike, strike - np.exp(k))
        assert (mass * np.maximum(payoff, 0.0)).sum(axis=1) == pytest.approx(price[:, j], rel=1e-3)


def test_moments_of_a_known_mixture_are_its_closed_form() -> None:
    smiles = truth.Smiles.draw(20, seed=2)
    found = smiles.moments()
    raw = [
        (smiles.share * smiles.level**n * np.exp(0.5 * n * (n - 1) * smiles.stdev**2)).sum(axis=0)
        for n in range(5)
    ]
    variance = raw[2] - 1.0
    skew = (raw[3] - 3.0 * raw[2] + 2.0) / variance**1.5
    kurtosis = (raw[4] - 4.0 * raw[3] + 6.0 * raw[2] - 3.0) / variance**2
    mixed = ~smiles.is_svi
    assert found["stdev"][mixed] == pytest.approx(np.sqrt(variance)[mixed], rel=1e-8)
    assert found["skew"][mixed] == pytest.approx(skew[mixed], rel=1e-6, abs=1e-8)
    assert found["kurtosis"][mixed] == pytest.approx(kurtosis[mixed], rel=1e-6)


def test_chains_have_the_strikes_and_spreads_that_are_said_and_hold_the_fair_price() -> None:
    chains = inputs.noisy_chains(60)
    count = np.diff(chains.offsets)
    assert count.min() >= 8
    assert count.max() <= 20
    mid = 0.5 * (chains.bid + chains.ask)
    k = np.log(chains.strike / chains.forward[chains.row])
    discounted = (chains.forward * np.exp(-inputs.RATE * chains.t_years))[chains.row]
    own = chains.truth.take(chains.row)
    fair = own.out_of_the_money(k[:, None])[:, 0] * discounted
    assert (chains.bid <= fair).all()
    assert (fair <= chains.ask).all()
    assert ((chains.ask - chains.bid) / fair).min() >= 0.1 - 1e-12
    assert ((chains.ask - chains.bid) / fair).max() <= 0.3 + 1e-12
    assert np.array_equal(mid > 0.0, np.ones(mid.size, bool))
    assert (np.isfinite(chains.held_out).sum(axis=1) == count + 1).all()


def test_a_part_of_the_batch_is_the_batch() -> None:
    chains = inputs.noisy_chains(20)
    part = chains.part(5, 9)
    assert part.size == 4
    rows = slice(chains.offsets[5], chains.offsets[9])
    assert np.array_equal(part.strike, chains.strike[rows])
    assert np.array_equal(part.held_out_vol(), chains.held_out_vol()[5:9], equal_nan=True)
    alone = ours.raw(ours.fit(part, ours.vols(part, inputs.RATE)))
    together = ours.raw(ours.fit(chains, ours.vols(chains, inputs.RATE)))[:, 5:9]
    assert np.array_equal(alone, together)


def test_the_scalar_loop_does_the_same_work() -> None:
    book = inputs.book(300)
    values, flows = scalar_loop.loop(book)
    mine = ours.book_by_strike(book)
    for name, column in zip(("price", *ours.GREEKS), values, strict=True):
        assert mine[name] == pytest.approx(column, rel=1e-9)
    for name, column in zip(ours.FLOWS, flows, strict=True):
        assert mine[name] == pytest.approx(column, rel=1e-9, abs=1e-9)
