"""The numbers that docs/math.md states are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mathlib import american, black76
from mathlib.black76 import Status
from mathlib.moments import MomentStatus
from mathlib.svi import SviStatus

TEXT = (Path(__file__).parents[2] / "docs/math.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[str]]:
    """Cells of the table whose first line begins with the heading, header and rule left out."""
    lines = TEXT[TEXT.index(f"\n| {heading}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_status_has_its_line() -> None:
    assert [int(row[0]) for row in _rows("`iv_status`")] == [s.value for s in Status]
    flags = [int(row[0]) for row in _rows("`moments_v1.status`")]
    assert flags == [0, *(flag.value for flag in MomentStatus)]
    (line,) = re.findall(r"`fit_status`: (.*?)\. ", TEXT.replace("\n", " "))
    assert [int(part.split()[0]) for part in line.split(", ")] == [s.value for s in SviStatus]


def test_every_greek_has_its_line() -> None:
    named = {row[0].strip("`") for row in _rows("Greek")}
    assert named == set(black76.greeks(80.0, 80.0, 0.25, 0.3))


def test_the_early_exercise_premium_in_vol_points() -> None:
    stated = np.array([[float(x) for x in row] for row in _rows("$T$")])
    t = stated[:, :1]
    strike = 80.0 * np.exp(0.3 * np.sqrt(t) * np.array([1.0, 0.0, -1.0]))
    price = american.price(80.0, strike, t, 0.3, 0.05, True)
    vol, _ = black76.implied_vol(price, 80.0, strike, t, 0.05, True)
    np.testing.assert_allclose(100.0 * (vol - 0.3), stated[:, 1:], atol=0.0051)
