"""Bounds on a process that is fed with hostile input: memory, time, files, network, code."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

#: What one input may take beyond what the process has when it begins.
MEMORY_BYTES = 2 << 30
SECONDS = 20

_CHANGES = {  # audit event -> which of its arguments are paths
    "os.rename": (0, 1),
    "os.mkdir": (0,),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
}
_NEVER = {
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"),
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"),
    *("pickle.find_class", "ctypes.dlopen", "urllib.Request", "webbrowser.open"),
}


class Leak(BaseException):
    """Something reached past its bounds; no ``except Exception`` takes it for an error."""


class TooSlow(BaseException):
    """An input took longer than ``SECONDS``."""


class Guard:
    """Watches this process from now on; it may change nothing that is not ``inside`` a place."""

    def __init__(self, *inside: Path) -> None:
        self.leaks: list[str] = []
        self._inside = [Path(os.path.realpath(place)) for place in inside]
        self._watching = False
        used = _virtual_bytes()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGALRM, self._stop)
        sys.addaudithook(self._look)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hold the block to its bounds.

        Raises
        ------
        Leak, TooSlow
            It reached past them.
        """
        self.leaks.clear()
        self._watching = True
        signal.alarm(SECONDS)
        try:
            yield
        finally:
            signal.alarm(0)
            self._watching = False
        if self.leaks:  # and was caught on its way
            raise Leak(self.leaks[0])

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event in _NEVER:
            self._leak(f"{event} {arguments[:2]}")
        elif event == "open":
            path, mode, flags = arguments
            changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if flags & changes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._change(event, path)
        elif event in ("os.remove", "os.rmdir"):
            path, descriptor = arguments
            parent = "" if descriptor == -1 else os.readlink(f"/proc/self/fd/{descriptor}")
            self._change(event, os.path.join(parent, os.fsdecode(path)))
        elif event in _CHANGES:
            for place in _CHANGES[event]:
                self._change(event, arguments[place])

    def _change(self, event: str, path: Any) -> None:
        if isinstance(path, int) or path == os.devnull:
            return
        real = Path(os.path.realpath(os.fsdecode(path)))
        if not any(real.is_relative_to(place) for place in self._inside):
            self._leak(f"{event} {path!r}")

    def _leak(self, what: str) -> None:
        self.leaks.append(what)
        raise Leak(what)

    @staticmethod
    def _stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS} s")


def _virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
