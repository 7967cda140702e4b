"""Errors that speak to a person, each kind with the exit code that the README documents."""

from __future__ import annotations

import errno
import os
import re

#: What a machine refuses for want of room, of rights or of file descriptors.
_LIMITS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE),
)


def refusal(error: BaseException) -> str | None:
    """What the machine refused, if an error is about that: the engines wrap it in their own."""
    texts = map(os.strerror, _LIMITS)
    return next((text for text in texts if text in str(error)), None)


def beneath(error: BaseException) -> LakeError | None:
    """The lake's own error, where DuckDB passes one on as text with the calls that led to it."""
    found = re.search(r"^Traceback .*^LakeError: ([^\n]+)", str(error), re.MULTILINE | re.DOTALL)
    return LakeError(found[1]) if found else None


def printable(text: str) -> str:
    """``text`` on one line, as a terminal may be given it: what does not print is escaped.

    Names of files and contracts come from outside: a newline would forge a line, an escape
    sequence moves the cursor, and a byte that is not UTF-8 cannot be written at all.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class HydraError(Exception):
    """One line: what was wrong, where, and what to do.  Never holds a secret."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class BadInput(HydraError):
    """A file, argument or setting is not what it claims; nothing of it was taken."""

    exit_code = 3


class VendorError(HydraError):
    """A vendor, or a server to publish to, refused, failed or gave less than it announced."""

    exit_code = 4


class CostLimit(HydraError):
    """The planned download costs more than the limit; nothing was downloaded."""

    exit_code = 5


class LakeBusy(HydraError):
    """Another process holds the lock of the lake, or of what is published."""

    exit_code = 6


class LakeError(HydraError):
    """The lake cannot be read or written as it must be."""

    exit_code = 7


class TaskFailed(LakeError):
    """Some of a run's tasks failed; what the others gave is committed.

    Attributes
    ----------
    tasks : the first that failed, and how many more did
    """

    def __init__(self, tasks: str, reason: str) -> None:
        super().__init__(f"{tasks}: {reason}: the rest is done, and the next run tries again")
        self.tasks = tasks


class Released(HydraError):
    """A released SQL version was changed."""

    exit_code = 8
