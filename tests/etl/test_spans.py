"""Spans of time: held against a set of hours, which knows nothing of spans."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from etl.spans import Span, lacking, months, united

ZERO = datetime(2024, 1, 1, tzinfo=UTC)
hours = st.tuples(st.integers(0, 30), st.integers(0, 30))


def span(pair: tuple[int, int]) -> Span:
    return ZERO + timedelta(hours=pair[0]), ZERO + timedelta(hours=pair[1])


def inside(spans: list[Span]) -> set[int]:
    return {h for h in range(31) for a, b in spans if a <= ZERO + timedelta(hours=h) < b}


def tidy(spans: list[Span]) -> bool:
    """In order, none empty, none touching the next."""
    return all(a < b for a, b in spans) and all(one[1] < other[0] for one, other in pairwise(spans))


@given(st.lists(hours))
def test_united_holds_the_same_instants(pairs: list[tuple[int, int]]) -> None:
    spans = [span(pair) for pair in pairs]
    assert inside(united(spans)) == inside(spans)
    assert tidy(united(spans))


@given(hours, st.lists(hours))
def test_lacking_is_what_is_wanted_and_not_held(
    wanted: tuple[int, int], pairs: list[tuple[int, int]]
) -> None:
    held = [span(pair) for pair in pairs]
    found = lacking(span(wanted), held)
    assert inside(found) == inside([span(wanted)]) - inside(held)
    assert tidy(found)


def test_months_meet_at_their_first_instants() -> None:
    start, end = datetime(2023, 11, 30, 12, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    cuts = [start, *(datetime(y, m, 1, tzinfo=UTC) for y, m in ((2023, 12), (2024, 1))), end]
    assert list(months((start, end))) == list(pairwise(cuts))
    assert list(months((end, end))) == []
