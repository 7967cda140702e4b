"""The report as Markdown: what was measured, on what, and whether it is what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import Rate

_METHOD = """\
Each peer runs in a process of its own, on one thread, and takes turns with mathlib on the same
inputs. The ratio is the median over {runs} turns of mathlib's speed over the peer's in the same
turn, with its quartiles; a speed is the median of the turns, with the slowest and the fastest.
What a peer can only do one by one gets the first rows of mathlib's batch, or some smiles of it a
turn. Implied vols are held against 50-digit ones of the same floats; smiles against known
distributions, half of them SVI and half mixtures of two lognormals, on 8 to 20 strikes with
spreads of 10 to 30 % and the fair price anywhere inside. Errors read mathlib / peer."""

_QUICK = "**A quick run: it shows that everything works. Its times mean nothing.**"


@dataclass(frozen=True)
class Run:
    """All that one run measured, and where."""

    date: str
    quick: bool
    machine: dict[str, str]
    runs: int
    peers: list[dict[str, Any]]

    def lines(self) -> list[Line]:
        found = [Line.from_dict(line) for peer in self.peers for line in peer.get("lines", [])]
        return sorted(found, key=lambda line: _order(line.work))

    def missing(self) -> dict[str, str]:
        """The peers that were not measured, with the reason."""
        return {peer["peer"]: peer["missing"] for peer in self.peers if "missing" in peer}

    def shortfalls(self) -> list[str]:
        """What mathlib does not meet; a quick run is not judged by its times."""
        wrong = []
        for line in self.lines():
            if line.speed_met() is False and not self.quick:
                wrong.append(f"{line.work}: too slow beside {line.peer}")
            if line.errors_met() is False:
                names = ", ".join(error.name for error in line.errors if error.met is False)
                wrong.append(f"{line.work}, beside {line.peer}: {names}")
        return wrong

    def as_dict(self) -> dict[str, Any]:
        return {
            "date": self.date,
            "quick": self.quick,
            "machine": self.machine,
            "runs": self.runs,
            "shortfalls": self.shortfalls(),
            "peers": self.peers,
        }


_KINDS = ("implied vol", "SVI", "price, implied", "price, seven", "DuckDB UDF")


def _order(work: str) -> int:
    return next(i for i, kind in enumerate(_KINDS) if work.startswith(kind))


def markdown(run: Run) -> str:
    """The whole report."""
    versions = {k: v for peer in run.peers for k, v in peer.get("versions", {}).items()}
    blocks = [
        "# mathlib beside its peers",
        *([_QUICK] if run.quick else []),
        _METHOD.format(runs=run.runs),
        _verdict(run),
        _tables(run),
        _notes(run.lines()),
        f"Measured on {run.date}: "
        + ", ".join([*run.machine.values(), *(f"{k} {v}" for k, v in versions.items())])
        + ".",
    ]
    return "\n\n".join(blocks) + "\n"


def _verdict(run: Run) -> str:
    found = [f"- FAIL {what}" for what in run.shortfalls()]
    found += [f"- NOT MEASURED {peer}: {reason}" for peer, reason in run.missing().items()]
    return "\n".join(found) if found else "Everything that is required is met."


_SPEED = ("work", "peer", "mathlib /s", "peer /s", "ratio", "needed", "speed", "error", "errors")
_ERRORS = ("work", "peer", "error", "mathlib", "peer", "at most", "")


def _tables(run: Run) -> str:
    """Speeds with the leading error of each line, then all errors."""
    lines = run.lines()
    speeds = [_speed_row(line, run.quick) for line in lines]
    speeds += [
        ["", peer, "", "", "not measured", "", "", reason, ""]
        for peer, reason in run.missing().items()
    ]
    errors = [_error_row(line, error) for line in lines for error in line.errors]
    return _table(_SPEED, speeds, "llrrrrlll") + "\n\n" + _table(_ERRORS, errors, "lllrrrl")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], sides: str) -> str:
    rule = ("---:" if side == "r" else "---" for side in sides)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _speed_row(line: Line, quick: bool) -> list[str]:
    pace = line.pace
    need = [] if line.need is None else [f"{_times(line.need)}×"]
    if line.need_rate is not None:
        need.append(f"{_number(line.need_rate)}/s")
    first = line.errors[0]
    return [
        line.work,
        line.peer,
        _rate(pace.ours),
        _rate(pace.peer),
        f"**{_times(pace.ratio)}×** ({_times(pace.ratio_low)}–{_times(pace.ratio_high)})",
        ", ".join(need),
        "" if quick else _judged(line.speed_met()),
        f"{first.name}: " + " / ".join(filter(None, map(_small, (first.ours, first.peer)))),
        _judged(line.errors_met()),
    ]


def _error_row(line: Line, error: Error) -> list[str]:
    limit = "the peer's" if error.limit == "peer" else _small(error.limit)
    return [
        line.work,
        line.peer,
        error.name,
        _small(error.ours),
        _small(error.peer),
        limit,
        _judged(error.met),
    ]


def _small(value: float | str | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _judged(met: bool | None) -> str:
    return {True: "PASS", False: "**FAIL**", None: ""}[met]


def _rate(rate: Rate) -> str:
    return f"{_number(rate.median)} ({_number(rate.slowest)}–{_number(rate.fastest)})"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100.0 else f"{ratio:.3g}"


def _number(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _notes(lines: Iterable[Line]) -> str:
    """How each peer was used, once."""
    notes = {(line.peer, line.note): None for line in lines if line.note}
    return "\n".join(f"- {peer}: {note}." for peer, note in notes)
