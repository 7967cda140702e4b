"""The studies' documents show what their results say."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import cboe_chain, svi_or_sabr

ROOT = Path(__file__).parents[2]


def test_the_tables_of_svi_or_sabr_are_those_of_its_results() -> None:
    results = json.loads((ROOT / "benchmarks/results/svi_or_sabr.json").read_text())
    document = (ROOT / "docs/svi-or-sabr.md").read_text()
    made = {table.strip() for _, table in svi_or_sabr.tables(results)}
    shown = re.findall(r"(?:^\|.*\n)+", document, flags=re.MULTILINE)
    assert len(shown) > 5
    assert [table for table in shown if table.strip() not in made] == []


def test_vols_and_greeks_are_near_the_exchanges(shared_data: Path) -> None:
    """Last sales are stale, so vols scatter; deltas and gammas of one vol agree."""
    chain = cboe_chain.options(shared_data / "chains/cboe_spx_2022-12-12.csv")
    closed_at = datetime(2022, 12, 12, 21, 15, tzinfo=UTC)
    rows = list(cboe_chain.compare(chain, closed_at))
    assert len(rows) > 20
    assert all(abs(row.iv_median) < 2 for row in rows)
    assert all(abs(row.delta_median) < 0.035 for row in rows)
    assert all(abs(row.gamma_ratio - 1) < 0.1 for row in rows)
