"""The download of the CFTC's reports, through ``cot_reports`` where it can do no harm.

The package runs in a process of its own (`etl.sources.cot_reports_run`) with an empty folder as
its working directory, a time limit, and of the environment only what the network needs.  Of what
it makes, the text that the CFTC published is taken, and not the table that pandas made of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import tenacity

from etl.errors import BadInput, VendorError
from etl.sources import cftc

__all__ = ["fetch", "reports"]

_SCRIPT = Path(__file__).with_name("cot_reports_run.py")
_LIMIT = 300.0  # seconds that one file may take
_ATTEMPTS = 4
_FIRST_WAIT = 1.0

#: The lake's report -> the package's, and the CFTC's zips of a year and of the years to 2016.
_REPORTS = {
    "disaggregated_futures": (
        "disaggregated_fut",
        "fut_disagg_txt_{}",
        "fut_disagg_txt_hist_2006_2016",
    ),
    "disaggregated_combined": (
        "disaggregated_futopt",
        "com_disagg_txt_{}",
        "com_disagg_txt_hist_2006_2016",
    ),
    "legacy_futures": ("legacy_fut", "deacot{}", "deacot1986_2016"),
    "legacy_combined": ("legacy_futopt", "deahistfo{}", "deahistfo_1995_2016"),
    "financial_futures": (
        "traders_in_financial_futures_fut",
        "fut_fin_txt_{}",
        "fin_fut_txt_2006_2016",
    ),
    "financial_combined": (
        "traders_in_financial_futures_futopt",
        "com_fin_txt_{}",
        "fin_com_txt_2006_2016",
    ),
}
_LAST_YEAR_OF_HISTORY = 2016

#: What the package's process gets of the environment: how to find programs and the network.
_INHERITED = (
    *("PATH", "LD_LIBRARY_PATH", "TMPDIR"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"),
    *("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"),
)


def reports(kind: str) -> tuple[str, str]:
    """The two reports of a kind: of futures only, and of futures and options combined."""
    return f"{kind}_futures", f"{kind}_combined"


def fetch(
    report: str, years: Collection[int], directory: Path, unpublished: int | None = None
) -> list[Path]:
    """Download the texts that hold ``years`` of a report, each proved before it is named.

    Parameters
    ----------
    report : str
        One of `reports`, such as ``disaggregated_combined``.
    years : collection of int
        From 2006 on.  Those to 2016 come in one text.
    directory : Path
        Where the texts go, under the names of the CFTC's zips; older copies are replaced.
    unpublished : int, optional
        A year that may have no text yet, as the new one in January: the year before stands in.

    Returns
    -------
    list of Path
        The texts, oldest first.

    Raises
    ------
    VendorError
        The CFTC failed, refused, or answered with something else.
    BadInput
        A year before 2006 is asked for.
    """
    if early := [year for year in years if year < cftc.FIRST_YEAR]:
        raise BadInput(
            f"COT reports are read from {cftc.FIRST_YEAR} on; {min(early)} was asked for"
        )
    directory.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    for year in sorted(years):
        name = _zip_name(report, year)
        if name in paths:
            continue
        path = _download(report, year, directory)
        if path is None and year == unpublished:
            year -= 1
            name = _zip_name(report, year)
            path = paths.get(name) or _download(report, year, directory)
        if path is None:
            raise VendorError(f"the CFTC has no {name} (HTTP 404); check the year, or try later")
        paths[name] = path
    return list(paths.values())


def _zip_name(report: str, year: int) -> str:
    _, of_year, of_history = _REPORTS[report]
    return f"{of_history if year <= _LAST_YEAR_OF_HISTORY else of_year.format(year)}.zip"


class _PassingError(Exception):
    """An answer that may be better on the next attempt."""


def _download(report: str, year: int, directory: Path) -> Path | None:
    """The proved text of a year, or None where the CFTC has no such file."""
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(_FIRST_WAIT, max=30) + tenacity.wait_random(0, _FIRST_WAIT),
        retry=tenacity.retry_if_exception_type(_PassingError),
        reraise=True,
    )
    try:
        return attempts(_attempt, report, year, directory)
    except _PassingError as error:
        raise VendorError(
            f"the CFTC's {_zip_name(report, year)}: {error} on each of {_ATTEMPTS} attempts; "
            "check the network or try later"
        ) from None


def _attempt(report: str, year: int, directory: Path) -> Path | None:
    name = _zip_name(report, year)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".cot-") as folder:
        if not _is_unpacked(report, year, folder):
            return None
        unpacked = list(Path(folder).iterdir())
        if len(unpacked) != 1:
            raise VendorError(f"the CFTC's {name} holds {len(unpacked)} files, not one; try later")
        text = unpacked[0].rename(Path(folder) / name.replace(".zip", ".txt"))
        _prove(text, report, year)
        return text.replace(directory / text.name)


def _is_unpacked(report: str, year: int, folder: str) -> bool:
    """Let the package unpack a year's text into ``folder``; False where the CFTC has none."""
    name, (theirs, *_) = _zip_name(report, year), _REPORTS[report]
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(_SCRIPT), theirs, str(year)],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _PassingError(f"not there after {_LIMIT:.0f} seconds") from None
    word, _, detail = done.stdout.strip().rpartition("\n")[-1].partition(" ")
    match word:
        case "done":
            return True
        case "http" if detail == "404":
            return False
        case "http" if detail == "429" or detail.startswith("5"):
            raise _PassingError(f"HTTP {detail}")
        case "http":
            raise VendorError(f"the CFTC's {name}: HTTP {detail}; see whether the address changed")
        case "network":
            raise _PassingError(f"no answer ({detail})")
        case "answer":
            raise VendorError(f"the CFTC's {name} {detail}; try later")
    reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise VendorError(f"cot_reports could not fetch {name} ({reason}); see that it is installed")


def _environment() -> dict[str, str]:
    """What the network needs, paths made absolute, and where this process finds its modules."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    for name, value in inherited.items():
        if os.path.exists(value):
            inherited[name] = os.path.abspath(value)
    return {**inherited, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _prove(text: Path, report: str, year: int) -> None:
    """Refuse a text that is not the report of ``year``: another report, or another year's."""
    try:
        found, newest = cftc.newest_report(text)
    except BadInput as error:
        raise VendorError(f"the CFTC's answer is not its report: {error}") from None
    if found != report:
        raise VendorError(f"the CFTC's {text.name} is the {found} report, not {report}; try later")
    expected = max(year, _LAST_YEAR_OF_HISTORY)
    if newest.year != expected:
        raise VendorError(f"the CFTC's {text.name} ends on {newest}, not in {expected}; try later")
