"""A living line while a job works: on a terminal alone, and not when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

_JOB = """
import sys, time
from etl import terminal
with terminal.working("deriving", quiet={quiet}) as at:
    at("HE: [deriving] 64 of 128 done")
    print("HE: 3 sessions", file=sys.stderr)
    print("a result")
    time.sleep(0.3)
"""


def worked(*, quiet: bool = False, **environment: str) -> tuple[str, str]:
    """What such a job writes to standard output, which is a pipe, and to a terminal's stderr."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
    code = _JOB.format(quiet=quiet)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, env=env, check=True
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 65536):
            drawn += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return done.stdout.decode(), drawn.decode()


def test_a_terminal_sees_what_the_job_is_at_and_its_lines_beside() -> None:
    printed, drawn = worked()
    assert printed == "a result\n"
    assert "HE: [deriving] 64 of 128 done" in drawn
    assert "HE: 3 sessions\r\n" in drawn
    assert "0:00:0" in drawn
    assert "\x1b[3" in drawn
    assert "a result" not in drawn


def test_no_color_is_none() -> None:
    _, drawn = worked(NO_COLOR="1")
    assert "64 of 128 done" in drawn
    assert "\x1b[3" not in drawn


def test_quiet_is_quiet() -> None:
    assert worked(quiet=True) == ("a result\n", "HE: 3 sessions\r\n")


def test_a_pipe_gets_the_jobs_lines_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _JOB.format(quiet=False)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("a result\n", "HE: 3 sessions\n")
