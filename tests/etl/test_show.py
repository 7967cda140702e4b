"""Rows as a table, JSON and CSV: aligned for people, every digit for programs."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from etl import show

COLUMNS = ("market", "value", "at", "note")
ROWS = [
    ("HE", 0.1 + 0.2, datetime(2025, 3, 6, 14, 0, 1, tzinfo=timezone(timedelta(hours=-6))), "a, b"),
    ("ZO", None, datetime(2025, 3, 7, tzinfo=UTC), 'say "no"\nor not'),
    ("ZC", 1234567.0, None, ""),
]


def shown(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    show.show(*arguments)
    return capsys.readouterr().out


def test_a_table_is_aligned_with_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, COLUMNS, ROWS).splitlines()
    assert lines == [
        "market        value  at                    note",
        "HE              0.3  2025-03-06 20:00:01Z  a, b",
        'ZO                -  2025-03-07 00:00:00Z  say "no" or not',
        "ZC      1.23457e+06  -",
    ]
    assert shown(capsys, ("a", "b"), []) == "a  b\n"


def test_json_has_every_digit_and_utc(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(shown(capsys, COLUMNS, ROWS, "json"))
    assert rows == [
        {"market": "HE", "value": 0.1 + 0.2, "at": "2025-03-06T20:00:01Z", "note": "a, b"},
        {"market": "ZO", "value": None, "at": "2025-03-07T00:00:00Z", "note": 'say "no"\nor not'},
        {"market": "ZC", "value": 1234567.0, "at": None, "note": ""},
    ]
    assert json.loads(shown(capsys, ("a",), [], "json")) == []


def test_csv_is_read_back_by_others(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, COLUMNS, ROWS, "csv")
    first, second, _ = csv.DictReader(io.StringIO(text))
    assert float(first["value"]) == 0.1 + 0.2
    assert second["note"] == 'say "no"\nor not'
    frame = pl.read_csv(io.StringIO(text), try_parse_dates=True)
    assert frame["value"].to_list() == [0.1 + 0.2, None, 1234567.0]
    assert frame["at"][0] == datetime(2025, 3, 6, 20, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "cell", "in_json", "in_csv"),
    [
        (float("nan"), "nan", None, "nan"),
        (float("-inf"), "-inf", None, "-inf"),
        (True, "true", True, "true"),
        (date(2025, 3, 6), "2025-03-06", "2025-03-06", "2025-03-06"),
        (Decimal("1.50"), "1.50", "1.50", "1.50"),
        ([1, None, 2.5], "[1, null, 2.5]", [1, None, 2.5], "[1, null, 2.5]"),
        ({"vol": 0.2}, '{"vol": 0.2}', {"vol": 0.2}, '{"vol": 0.2}'),
        (
            datetime.fromisoformat("2025-03-06T20:00"),
            "2025-03-06 20:00:00",
            *["2025-03-06T20:00:00"] * 2,
        ),
        ("€ – [red]", "€ – [red]", "€ – [red]", "€ – [red]"),
    ],
)
def test_every_kind_of_value(
    capsys: pytest.CaptureFixture[str], value: Any, cell: str, in_json: Any, in_csv: str
) -> None:
    assert shown(capsys, ("x",), [(value,)]).splitlines()[1] == cell.strip()
    assert json.loads(shown(capsys, ("x",), [(value,)], "json")) == [{"x": in_json}]
    text = shown(capsys, ("x",), [(value,)], "csv")
    assert list(csv.reader(io.StringIO(text)))[1] == [in_csv]


def test_sizes() -> None:
    assert [show.size(n) for n in (0, 999, 1000, 1_250_000, 7_300_000_000, 10**16)] == [
        *("0 B", "999 B", "1 kB", "1.25 MB", "7.3 GB", "1e+04 TB")
    ]


@pytest.mark.parametrize("form", show.FORMATS)
def test_rows_go_to_stderr_if_asked(capsys: pytest.CaptureFixture[str], form: str) -> None:
    show.show(COLUMNS, ROWS, form, stderr=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == shown(capsys, COLUMNS, ROWS, form)


def on_a_terminal(code: str, **environment: str) -> str:
    """What a program prints where its output is a terminal."""
    master, slave = pty.openpty()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    kept |= {"TERM": "xterm-256color", "COLUMNS": "80", **environment}
    call = [sys.executable, "-c", code]
    with subprocess.Popen(call, stdout=slave, stderr=slave, env=kept) as process:
        os.close(slave)
        text = b""
        while part := _read(master):
            text += part
        assert process.wait() == 0, text
    os.close(master)
    return text.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


def test_a_terminal_gets_a_drawn_table_without_colours_where_they_are_not_wanted() -> None:
    code = "from etl import show; show.show(('market', 'n'), [('HE', 1), ('[b]ZO', 23)])"
    drawn, plain = on_a_terminal(code), on_a_terminal(code, NO_COLOR="1")
    for text in (drawn, plain):
        assert "─" in text
        assert "[b]ZO" in text
    assert "\x1b[3" not in plain
