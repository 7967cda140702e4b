"""hydra sql: one query, a pipe, or a session with history, Ctrl-C and Ctrl-D."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import shell
from etl.cli import main


def sql(lake: Any, *words: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["--lake", str(lake.lake.root), "sql", *words], input=typed)


def test_a_query_prints_its_rows(sample_lake: Any) -> None:
    text = "select market, 12 as n from meta.markets order by market"
    assert sql(sample_lake, text).stdout == "market   n\nHE      12\nZO      12\n"
    rows = json.loads(sql(sample_lake, text, "--format", "json").stdout)
    assert rows == [{"market": "HE", "n": 12}, {"market": "ZO", "n": 12}]
    assert sql(sample_lake, text, "--format", "csv").stdout == "market,n\nHE,12\nZO,12\n"


def test_mathlib_and_the_point_in_time_macros_are_there(sample_lake: Any) -> None:
    text = "select implied_vol(2.1, 84.0, 86.0, 0.2, 0.04, true, true).status as status"
    assert sql(sample_lake, text, "--format", "csv").stdout == "status\n0\n"
    text = "select count(*) > 50 as y from features_at('HE', '2025-03-07T20:00:00Z')"
    assert sql(sample_lake, text, "--format", "csv").stdout == "y\ntrue\n"


def test_what_is_piped_in_runs_statement_by_statement(sample_lake: Any) -> None:
    result = sql(sample_lake, typed="-- two of them\nselect 1 as a;\nselect 'x;y' as b;\n")
    assert result.stdout == "a\n1\nb\nx;y\n"
    assert sql(sample_lake, typed="").stdout == ""


def test_a_table_is_cut_and_says_so(sample_lake: Any) -> None:
    text = "select range as n from range(100) order by n desc"
    cut = sql(sample_lake, text)
    assert len(cut.stdout.splitlines()) == 41
    assert cut.stdout.splitlines()[1].strip() == "99"
    assert cut.stderr == "the first 40 rows: --limit shows more\n"
    whole = sql(sample_lake, text, "--limit", "100")
    assert len(whole.stdout.splitlines()) == 101
    assert whole.stderr == ""
    assert len(json.loads(sql(sample_lake, text, "--format", "json").stdout)) == 100
    assert len(json.loads(sql(sample_lake, text, "--format", "json", "--limit", "3").stdout)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from features.dayly_v1", 'Did you mean "daily_v1"?'),
        ("select opt_atm_iv30 from features.daily_v1", 'Candidate bindings: "opt_atm_iv_30d"'),
        ("selct 1", "syntax error"),
        ("drop table features.daily_v1", "read-only"),
        ("insert into meta.builds select * from meta.builds", "read-only"),
        ("select 1; select error('of mine')", "of mine"),
    ],
)
def test_a_query_that_cannot_run_is_one_line(sample_lake: Any, text: str, said: str) -> None:
    result = sql(sample_lake, text)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("hydra: ")
    assert said in line


class Session:
    """A program on a terminal of its own."""

    def __init__(self, *words: str, **environment: str) -> None:
        self.master, slave = pty.openpty()
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "etl", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_own_terminal,
            env={**kept, "TERM": "dumb", **environment},
        )
        os.close(slave)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> None:
        """Read until the pattern has come; what was read up to it is dropped."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text)):
            assert time.monotonic() < end, self.text
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode()
                except OSError:
                    raise AssertionError(f"it ended after {self.text!r}") from None
        self.text = self.text[found.end() :]

    def interrupt(self) -> None:
        """Press Ctrl-C as a person does: again, where nothing comes of it."""
        for _ in range(30):
            time.sleep(1)
            self.type("\x03")
            with suppress(AssertionError):
                return self.wait_for("hydra> ", seconds=2)
        raise AssertionError(f"it does not stop: {self.text!r}")

    def close(self) -> int:
        code = self.process.wait(timeout=60)
        os.close(self.master)
        return code


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_session_to_type_in(sample_lake: Any, tmp_path: Path) -> None:
    states = tmp_path / "state"
    session = Session(
        "--lake", str(sample_lake.lake.root), "sql", XDG_STATE_HOME=str(states), HOME=str(tmp_path)
    )
    session.wait_for("hydra> ")
    session.type("select 40 +\n")
    session.wait_for(r"\.\.\.> ")
    session.type("2 as answer;\n")
    session.wait_for("42")
    session.wait_for("hydra> ")
    session.type("from features.dayly_v1;\n")
    session.wait_for("hydra: Catalog Error.*daily_v1")
    session.wait_for("hydra> ")
    session.type("select half a stat")
    session.wait_for("half a stat")
    session.interrupt()  # drops it
    session.type("select count(*) from range(100000000000) a, range(1000) b;\n")
    session.wait_for("b;\r\n")
    session.interrupt()  # stops it
    session.type("select 'still' || ' here' as x;\n")
    session.wait_for("still here")
    session.wait_for("hydra> ")
    session.type("\x04")  # Ctrl-D
    assert session.close() == 0
    history = (states / "hydra" / "sql_history").read_text()
    assert "2 as answer;" in history


@pytest.mark.parametrize("word", ["exit", "quit;", ".exit"])
def test_words_that_end_a_session(
    sample_lake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("builtins.input", lambda _: word)
    shell.interact(None, "table", 40)  # type: ignore[arg-type] # nothing is asked of it
    assert shell.history_file() == tmp_path / "hydra" / "sql_history"
