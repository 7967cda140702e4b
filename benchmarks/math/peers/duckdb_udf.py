"""mathlib through DuckDB beside the same calls on arrays: what the way through SQL costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.math import inputs, ours
from benchmarks.math.lines import Error, Line
from benchmarks.math.measure import take_turns
from benchmarks.math.sizes import Sizes
from mathlib import black76, density, moments, svi, udf

FloatArray = NDArray[np.float64]

PACKAGES = ("duckdb", "pyarrow")

_ROUTE = Path(__file__).with_name("udf_route.sql")
#: The whole route may take 1.5 times as long; a function alone informs.
_NEED = 1.0 / 1.5

_OPTION = "forward, strike, t_years"
_SLICE = "forward, a, b, rho, m, sigma"


@dataclass(frozen=True)
class Part:
    """One piece of the work: a query, the same on arrays, and what both are compared by."""

    work: str
    unit: str
    units: int
    query: str
    twin: Callable[[], Any]
    of_table: Callable[[pa.Table], FloatArray]
    of_twin: Callable[[Any], FloatArray]
    need: float | None = None


class Work:
    """The quotes as a DuckDB table and as arrays."""

    def __init__(self, sizes: Sizes) -> None:
        # As many smiles as there are about `sizes.options` quotes.
        self.chains = inputs.noisy_chains(max(sizes.options // 14, sizes.slices))
        self.vols = ours.vols(self.chains, inputs.RATE)
        row = self.chains.row
        self.mid = 0.5 * (self.chains.bid + self.chains.ask)
        self.forward, self.t_years = self.chains.forward[row], self.chains.t_years[row]
        self.is_call = self.chains.strike >= self.forward
        self.groups = np.arange(self.chains.size)
        self.fit = self._calibrate(self.vols.mid)
        self.raw = ours.raw(self.fit)
        self.connection = self._connect(row)

    def _connect(self, row: NDArray[np.intp]) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        connection.execute("set threads = 1")
        udf.register(connection)
        tables = {
            "quotes": {
                "smile": row,
                "log_moneyness": self.vols.log_moneyness,
                "mid": self.mid,
                "forward": self.forward,
                "strike": self.chains.strike,
                "t_years": self.t_years,
                "rate": np.full(row.size, inputs.RATE),
                "is_call": self.is_call,
                "vol": self.vols.mid,
                "vol_error": self.vols.error,
            },
            "slices": {
                "forward": self.chains.forward,
                **dict(zip(("a", "b", "rho", "m", "sigma"), self.raw, strict=True)),
            },
            "smiles": {
                "ks": self._lists(self.vols.log_moneyness),
                "vols": self._lists(self.vols.mid),
                "vol_errors": self._lists(self.vols.error),
                "t_years": self.chains.t_years,
            },
        }
        for name, columns in tables.items():
            connection.register("source", pa.table(columns))
            connection.execute(f"create table {name} as from source")
            connection.unregister("source")
        return connection

    def _lists(self, values: FloatArray) -> pa.Array:
        return pa.ListArray.from_arrays(
            pa.array(self.chains.offsets.astype(np.int32)), pa.array(values)
        )

    def query(self, text: str) -> pa.Table:
        return self.connection.sql(text).to_arrow_table()

    # --- the same on arrays -----------------------------------------------------------------

    def implied_vol(self) -> FloatArray:
        vol, _ = black76.implied_vol(
            self.mid, self.forward, self.chains.strike, self.t_years, inputs.RATE, self.is_call
        )
        return vol

    def greeks(self, vol: FloatArray) -> dict[str, FloatArray]:
        return black76.greeks(
            self.forward, self.chains.strike, self.t_years, vol, inputs.RATE, self.is_call
        )

    def _calibrate(self, vol: FloatArray) -> svi.SviFit:
        return svi.calibrate(
            self.chains.offsets,
            self.vols.log_moneyness,
            vol,
            self.chains.t_years,
            svi.error_weight(self.vols.error, vol),
            group=self.groups,
            vol_error=self.vols.error,
        )

    def calibrate(self) -> svi.SviFit:
        return self._calibrate(self.vols.mid)

    def density(self) -> tuple[FloatArray, ...]:
        return density.grid(self.chains.forward, *self.raw)

    def moments(self) -> dict[str, NDArray[Any]]:
        return moments.from_svi(self.chains.forward, *self.raw)

    def route(self) -> dict[str, NDArray[Any]]:
        vol = self.implied_vol()
        gamma = np.add.reduceat(self.greeks(vol)["gamma"], self.chains.offsets[:-1])
        raw = ours.raw(self._calibrate(vol))
        density.grid(self.chains.forward, *raw)
        return {"gamma": gamma, **moments.from_svi(self.chains.forward, *raw)}


def _field(column: str, *path: str) -> Callable[[pa.Table], FloatArray]:
    """A column of the result, or a field of its STRUCTs, as an array."""

    def values(table: pa.Table) -> FloatArray:
        array = table[column].combine_chunks()
        for name in path:
            array = array.field(name)
        if pa.types.is_list(array.type):
            array = array.flatten()
        return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)

    return values


def parts(work: Work) -> list[Part]:
    """The whole route, then each function by itself."""
    quotes, smiles = work.mid.size, work.chains.size
    return [
        Part(
            "whole route, quotes to moments",
            "smiles",
            smiles,
            _ROUTE.read_text(),
            work.route,
            _field("moments", "skew"),
            lambda result: result["skew"],
            _NEED,
        ),
        Part(
            "implied_vol",
            "options",
            quotes,
            f"select implied_vol(mid, {_OPTION}, rate, is_call, false) as out from quotes",
            work.implied_vol,
            _field("out", "vol"),
            lambda vol: vol,
        ),
        Part(
            "greeks",
            "options",
            quotes,
            f"select greeks({_OPTION}, vol, rate, is_call) as out from quotes",
            lambda: work.greeks(work.vols.mid),
            _field("out", "charm"),
            lambda result: result["charm"],
        ),
        Part(
            "svi_surface",
            "slices",
            smiles,
            "select svi_surface([len(ks)::int], ks, vols, vol_errors, [t_years], [0])[1].sigma"
            " as out from smiles",
            work.calibrate,
            _field("out"),
            lambda fit: fit.sigma,
        ),
        Part(
            "svi_density",
            "slices",
            smiles,
            f"select svi_density({_SLICE}) as out from slices",
            work.density,
            _field("out", "cdf"),
            lambda result: result[2].ravel(),
        ),
        Part(
            "svi_moments",
            "slices",
            smiles,
            f"select svi_moments({_SLICE}) as out from slices",
            work.moments,
            _field("out", "log_skew"),
            lambda result: result["log_skew"],
        ),
    ]


def measure(sizes: Sizes) -> list[Line]:
    work = Work(sizes)
    return [_line(work, part, sizes) for part in parts(work)]


def _line(work: Work, part: Part, sizes: Sizes) -> Line:
    pace, answers = take_turns(
        lambda: work.query(part.query),
        part.units,
        lambda turn: part.twin(),
        part.units,
        sizes.runs,
    )
    through_sql = part.of_table(work.query(part.query))
    difference = np.nanmax(np.abs(through_sql - part.of_twin(answers[0])), initial=0.0)
    return Line(
        f"DuckDB UDF: {part.work}",
        "the same calls in NumPy",
        part.unit,
        pace,
        (Error("largest difference of the two", float(difference), None, 1e-12),),
        need=part.need,
        note="here the first speed is the UDF's, on one DuckDB thread from its table to an Arrow"
        " table; 0.667× is 1.5 times the time",
    )
