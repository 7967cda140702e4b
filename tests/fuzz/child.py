"""Feed one target for a while, guided by the coverage of the code, and say what became of it.

``python -m tests.fuzz.child TARGET SECONDS FOLDER`` writes ``FOLDER/outcome.json`` as it goes and
each input that crashed or leaked beside it.  A process that dies takes its target's word with it;
``tests.fuzz.__main__`` counts that as a crash.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import atheris

with atheris.instrument_imports(include=["etl", "csv", "tomllib", "zipfile"]):
    from etl.errors import HydraError
    from tests.fuzz.guard import Guard, Leak
    from tests.fuzz.targets import TARGETS
from tests.fuzz.seeds import TOKENS

_MAX_LENGTH = 1 << 15
_SAVE_EVERY = 1.0  # seconds
_OWN = ("inside", "outcome", "crashed-", "leaked-", "native-", "corpus")


@dataclass
class Outcome:
    """What became of the inputs so far."""

    tried: int = 0
    taken: int = 0
    refused: int = 0
    crashed: int = 0
    leaked: int = 0


class Child:
    """Runs a target on one input after the other, each in a folder of its own."""

    def __init__(self, name: str, seconds: float, folder: Path) -> None:
        self.target = TARGETS[name]
        self.folder = folder
        self.outcome = Outcome()
        self._inside = folder / "inside"
        self._inside.mkdir()
        self._once(next(self.target.seeds()))  # what is imported or made once is, from here on
        self._guard = Guard(self._inside, folder / "tmp")  # which must be as before at the end
        self._outside = self._listing()
        self._deadline = time.monotonic() + seconds
        self._saved = 0.0

    def one(self, data: bytes) -> None:
        """Feed the target; ends the process when the time is over."""
        now = time.monotonic()
        if now > self._deadline:
            self._end()
        if now > self._saved + _SAVE_EVERY:
            self._save()
        self.outcome.tried += 1
        try:
            with self._guard.watching():
                self._once(data)
            self.outcome.taken += 1
        except HydraError as error:
            self.outcome.refused += 1
            if len(str(error).splitlines()) != 1:
                self._keep("crashed", data, error)
        except Leak as error:
            self._keep("leaked", data, error)
        except BaseException as error:
            self._keep("crashed", data, error)

    def _once(self, data: bytes) -> None:
        place = self._inside / "place"
        place.mkdir()
        os.chdir(place)
        try:
            self.target.run(data, place)
        finally:
            os.chdir(self.folder)
            shutil.rmtree(place)

    def _keep(self, kind: str, data: bytes, error: BaseException) -> None:
        setattr(self.outcome, kind, getattr(self.outcome, kind) + 1)
        stem = self.folder / f"{kind}-{self.outcome.tried}"
        stem.with_suffix(".input").write_bytes(data)
        stem.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), "utf-8")

    def _listing(self) -> set[str]:
        """Everything under the folder but the inputs' own places and what the fuzzer writes."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*"))
        return {str(path) for path in found if not path.parts[0].startswith(_OWN)}

    def _save(self) -> None:
        self._saved = time.monotonic()
        text = json.dumps(asdict(self.outcome))
        (self.folder / "outcome.json").write_text(text, "utf-8")

    def _end(self) -> NoReturn:
        # What native code wrote, no audit hook sees.
        for path in self._listing() - self._outside:
            self._keep("leaked", path.encode(), Leak(path))
        self._save()
        os._exit(0)


def main() -> None:
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    for begun in ("corpus", "home", "tmp"):
        (folder / begun).mkdir(parents=True)
    os.environ["HOME"] = str(folder / "home")
    os.chdir(folder)
    os.fsync = lambda descriptor: None  # nothing here is to survive a power cut
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(seed)
    words = folder / "corpus.dict"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in TOKENS)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    child = Child(name, seconds, folder)
    flags = [
        f"-max_len={_MAX_LENGTH}",
        f"-dict={words}",
        f"-artifact_prefix={folder}/native-",
        "-timeout=60",
        "-rss_limit_mb=0",  # the guard has a limit of its own
        "-seed=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(folder / "corpus")], child.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
