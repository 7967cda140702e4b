"""What comes from outside is not trusted: which files are read, and which instants are taken."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from etl.errors import BadInput

__all__ = ["EARLIEST", "LATEST", "open_file", "read_file"]

#: No exchange or report that is read is older, and no contract is listed so far ahead: an instant
#: outside is a mistake, as a vendor's zero is.
EARLIEST, LATEST = datetime(1980, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def open_file(path: Path) -> BufferedReader:
    """Open a file for reading, one that ends: a pipe or a device may not.

    Raises
    ------
    BadInput
        It cannot be read, is something else than a file, or has a name that is not UTF-8, which
        DuckDB and Polars do not take.
    """
    try:
        str(path).encode()
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise BadInput(f"{path}: is a pipe or a device; give a file")
        return path.open("rb")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise BadInput(f"{path}: cannot be read ({reason}); check the path") from None
    except ValueError:  # a lone surrogate stands for a byte that is not UTF-8; or a NUL
        raise BadInput(f"{path}: is no path in UTF-8; rename the file") from None


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file, which are not more than ``most``; ``BadInput`` as ``open_file``."""
    with open_file(path) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise BadInput(f"{path}: cannot be read ({error.strerror}); check the disk") from None
    if len(data) > most:
        raise BadInput(f"{path}: is larger than any such file, {most:,} bytes; check what it is")
    return data
