"""A real browser for what looks at the report: headless Chromium over its debugging pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: What keeps a browser from looking outside of its own accord.
_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

#: Seconds within which an answer must come; a page is drawn in much less.
_PATIENCE = 60


class Browser:
    """Chromium over ``--remote-debugging-pipe``: JSON messages that end in a NUL."""

    def __init__(self, profile: Path) -> None:
        (its_input, self._to), (self._from, its_output) = os.pipe(), os.pipe()

        def connect() -> None:  # it reads from 3 and writes to 4
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_input, its_output)]
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        assert CHROMIUM is not None
        self._process = subprocess.Popen(
            [CHROMIUM, *_QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._received = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        os.close(self._to)
        self._process.terminate()
        self._process.wait(_PATIENCE)
        os.close(self._from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask for something and wait for its answer; what happens meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            assert select.select([self._from], [], [], _PATIENCE)[0], "Chromium does not answer"
            got = os.read(self._from, 1 << 20)
            assert got, "Chromium has ended"
            self._received += got
        message, self._received = self._received.split(b"\0", 1)
        answer: dict[str, Any] = json.loads(message)
        return answer

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, page: Path, place: str = "") -> None:
        """Load a report and wait until it is drawn."""
        self.call("Page.navigate", url="about:blank")
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri() + place)
        self.run(_UNTIL_LOADED)

    def choose(self, control: str, value: str) -> None:
        """Choose in one of the page's lists, as a person does, and wait until it is drawn."""
        self.run(f"({_CHOOSE})({json.dumps(control)}, {json.dumps(value)})")

    def options(self, control: str) -> list[str]:
        values = f"[...document.getElementById('{control}').options].map((o) => o.value)"
        return list(self.run(values))


_UNTIL_LOADED = """
new Promise((resolve) => {
  const look = () => document.readyState === "complete" && document.documentElement?.dataset.drawn
    ? resolve(true) : setTimeout(look, 20);
  look();
})
"""
_CHOOSE = """
(control, value) => new Promise((resolve) => {
  const box = document.getElementById(control), before = document.documentElement.dataset.drawn;
  box.value = value;
  box.dispatchEvent(new Event("change"));
  const look = () => document.documentElement.dataset.drawn !== before
    ? resolve(true) : setTimeout(look, 20);
  look();
})
"""
