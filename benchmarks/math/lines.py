"""One measured line, and what it has to meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.math.measure import Pace, Rate


@dataclass(frozen=True)
class Error:
    """How far off both sides are by one measure; smaller is better, None is not known.

    ``limit`` is what mathlib must keep: a number, or ``peer`` for no worse than the peer.
    """

    name: str
    ours: float
    peer: float | None
    limit: float | str | None = None

    @property
    def met(self) -> bool | None:
        """Whether mathlib keeps the limit; None without one."""
        bound = self.peer if self.limit == "peer" else self.limit
        return None if bound is None else self.ours <= float(bound)


@dataclass(frozen=True)
class Line:
    """A peer beside mathlib on one kind of work.

    Attributes
    ----------
    work, peer : str
        What is done, and by what else.
    unit : str
        What is counted: options or smiles.
    pace : Pace
    errors : tuple of Error
    need : float or None
        The ratio that is required, None for a line that informs.
    need_rate : float or None
        The rate required of mathlib, units a second.
    note : str
        How the peer was used where that is not obvious.
    """

    work: str
    peer: str
    unit: str
    pace: Pace
    errors: tuple[Error, ...]
    need: float | None = None
    need_rate: float | None = None
    note: str = ""

    def speed_met(self) -> bool | None:
        """Whether ratio and rate are reached; None where nothing is required."""
        wants = [
            got >= wanted
            for got, wanted in (
                (self.pace.ratio, self.need),
                (self.pace.ours.median, self.need_rate),
            )
            if wanted is not None
        ]
        return all(wants) if wants else None

    def errors_met(self) -> bool | None:
        """Whether every limit is kept; None without one."""
        judged = [error.met for error in self.errors if error.met is not None]
        return all(judged) if judged else None

    def as_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "speed_met": self.speed_met(),
            "errors_met": self.errors_met(),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Line:
        pace = values["pace"]
        rates = {side: Rate(**pace[side]) for side in ("ours", "peer")}
        return Line(
            work=values["work"],
            peer=values["peer"],
            unit=values["unit"],
            pace=Pace(**{**pace, **rates}),
            errors=tuple(Error(**error) for error in values["errors"]),
            need=values["need"],
            need_rate=values["need_rate"],
            note=values["note"],
        )


#: A peer's measurement: its sizes to its lines.
Measure = Callable[..., list[Line]]
