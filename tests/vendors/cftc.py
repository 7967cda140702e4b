"""The CFTC's history folder: the sample vendor's yearly zips and the one of the first years."""

from __future__ import annotations

import tempfile
import zipfile
from datetime import datetime
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from etl.sources import sample
from tests.vendors.wire import Answer, Request

__all__ = ["HOSTS", "Folder", "page", "zipped"]

HOSTS = ("cftc.gov", "www.cftc.gov")

_FOLDER = "/files/dea/history/"
_FIRST_YEAR, _LAST_YEAR_OF_HISTORY = 2006, 2016
#: How the zips begin -> the lake's report, and the member of the one zip for the years to 2016.
_REPORTS = {
    "fut_disagg": ("disaggregated_futures", "F_Disagg06_16.txt"),
    "com_disagg": ("disaggregated_combined", "C_Disagg06_16.txt"),
}


class Folder:
    """What is published at ``until``."""

    def __init__(self, until: datetime) -> None:
        self._until = until

    def answer(self, request: Request) -> Answer:
        """The file that is asked for, or the page that says there is none."""
        content = self._zip(request.name) if request.path.startswith(_FOLDER) else None
        if content is None:
            return page(404, "Page Not Found")
        return Answer(content, headers={"Content-Type": "application/x-zip-compressed"})

    def _zip(self, name: str) -> bytes | None:
        begin, _, span = name.removesuffix(".zip").partition("_txt_")
        if begin not in _REPORTS:
            return None
        report, member = _REPORTS[begin]
        if span == "hist_2006_2016":
            held = _published(report, _FIRST_YEAR, _LAST_YEAR_OF_HISTORY, self._until)
            return zipped(member, _joined([zips for _, zips in sorted(held.items())]))
        year = int(span) if span.isdecimal() else 0
        if year < _FIRST_YEAR:
            return None
        return _published(report, year, year, self._until).get(name)


@lru_cache(maxsize=16)
def _published(report: str, first: int, last: int, until: datetime) -> dict[str, bytes]:
    """The zips of a report's years as they stood at ``until``, by name."""
    with tempfile.TemporaryDirectory(prefix="vendors-") as folder:
        # With the year after: a report of New Year's Day is dated on the last day of December.
        paths = sample.fetch_cot(first, last + 1, until, Path(folder), report)
        return {
            path.name.removeprefix("sample_"): path.read_bytes()
            for path in paths
            if int(path.stem[-4:]) <= last
        }


def page(status: int, title: str) -> Answer:
    """A page for a person in place of a file."""
    text = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return Answer(text.encode(), status, {"Content-Type": "text/html; charset=UTF-8"})


def zipped(member: str, text: bytes) -> bytes:
    """A zip of one member."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(member), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _joined(zips: list[bytes]) -> bytes:
    """The rows of several zips under the header of the first."""
    lines: list[bytes] = []
    for packed in zips:
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            header, *rows = archive.read(archive.namelist()[0]).splitlines()
        lines += rows if lines else [header, *rows]
    return b"\n".join(lines) + b"\n"
