"""Files from outside: one that is read is one, ends, and has a name that can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from etl.errors import BadInput, HydraError, printable
from etl.outside import open_file, read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert read_file(path, 3) == b"abc"
    with pytest.raises(BadInput, match="larger than any such file"):
        read_file(path, 2)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(BadInput, match="is a pipe or a device"):
            open_file(path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "No such file"),
        ("x" * 300, "File name too long"),
        ("\udcff", "no path in UTF-8"),
        ("\0", "no path in UTF-8"),
        (".", "Is a directory"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_line(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as error:
        open_file(tmp_path / name)
    assert "\n" not in str(error.value)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\nb\x1b[2J\u202e\udcff é") == r"a\nb\x1b[2J\u202e\udcff é"
    assert str(HydraError("two\nlines")) == r"two\nlines"
