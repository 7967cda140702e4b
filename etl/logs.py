"""What a run says: lines for a person on standard error, JSON lines in the lake's ``logs``.

The log is bounded (``hydra.jsonl`` and four older ones of 5 MB) and has the run's id on every line.
It is a convenience: a lake that cannot be written to is read without one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from datetime import UTC
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from loguru import Record

__all__ = ["note", "start"]

_BYTES = 5_000_000
_KEPT = 4

#: A password in an address: ``scheme://user:password@host``.
_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):[^\s@]+@")


def start(root: Path, run: str, command: str, *, quiet: bool) -> None:
    """Send what is logged from here on to standard error and to the log of the lake at ``root``.

    Parameters
    ----------
    run, command : the run's id and the command, which stand on every line of the log
    quiet : whether a person sees warnings alone
    """
    logger.remove()
    logger.configure(extra={"run": run, "command": command})
    # A traceback never shows what variables held: one of them may be a key.
    safe: dict[str, Any] = {"diagnose": False, "backtrace": False}
    level = "WARNING" if quiet else "INFO"
    logger.add(_to_stderr, level=level, format="{message}", filter=_is_for_people, **safe)
    log = _Log(root / "logs" / "hydra.jsonl")
    # A lake that is not there yet is not made by its log.
    logger.add(log, level="INFO", format=_line, filter=lambda _: root.is_dir(), **safe)


def note(level: str, message: str) -> None:
    """Log what a person has been told already, or need not be."""
    logger.bind(noted=True).log(level, message)


def _to_stderr(line: str) -> None:
    """Write to what stderr is now: a progress bar may stand in for it."""
    sys.stderr.write(line)


def _is_for_people(record: Record) -> bool:
    return "noted" not in record["extra"]


def _line(record: Record) -> str:
    """The format of a log line: its JSON, kept in the record for loguru to put there."""
    extra = record["extra"]
    said = {
        "at": record["time"].astimezone(UTC).isoformat(timespec="milliseconds"),
        "level": record["level"].name,
        "run": extra["run"],
        "command": extra["command"],
        "message": _without_secrets(record["message"]),
    }
    extra["line"] = json.dumps(said, ensure_ascii=False)
    return "{extra[line]}"


def _without_secrets(text: str) -> str:
    key = os.environ.get("DATABENTO_API_KEY", "").strip()
    return _PASSWORD.sub(r"\1:***@", text.replace(key, "***") if key else text)


class _Log(RotatingFileHandler):
    """The log's file, opened and its folder made when the first line comes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_BYTES, backupCount=_KEPT, encoding="utf-8", delay=True)

    def _open(self) -> Any:
        Path(self.baseFilename).parent.mkdir(exist_ok=True)
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Leave a log that cannot be written: it fails no command."""
