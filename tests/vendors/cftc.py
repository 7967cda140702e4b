"""The CFTC's history folder: the sample vendor's yearly zips and the one of the first years."""

from __future__ import annotations

import re
import tempfile
import zipfile
from datetime import datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path

from etl.sources import sample
from tests.vendors.wire import Answer, Request

__all__ = ["HOSTS", "Folder", "page", "zipped"]

HOSTS = ("cftc.gov", "www.cftc.gov")

_FOLDER = "/files/dea/history/"
_FIRST_YEAR, _LAST_YEAR_OF_HISTORY = 2006, 2016
#: Reports that have one zip for the years to 2016, and the member of it.
_HISTORIES = {"fut_disagg_txt": "F_Disagg06_16.txt", "com_disagg_txt": "C_Disagg06_16.txt"}


class Folder:
    """What is published at ``until``."""

    def __init__(self, until: datetime) -> None:
        self._until = until

    def answer(self, request: Request) -> Answer:
        """The file that is asked for, or the page that says there is none."""
        content = self._zips.get(request.name)
        if not request.path.startswith(_FOLDER) or content is None:
            return page(404, "Page Not Found")
        return Answer(content, headers={"Content-Type": "application/x-zip-compressed"})

    @cached_property
    def _zips(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="vendors-") as folder:
            paths = sample.fetch_cot(_FIRST_YEAR, self._until.year, self._until, Path(folder))
            found = {path.name.removeprefix("sample_"): path.read_bytes() for path in paths}
        for report, member in _HISTORIES.items():
            early = [
                zips
                for name, zips in found.items()
                if (match := re.fullmatch(rf"{report}_(\d{{4}})\.zip", name))
                and int(match[1]) <= _LAST_YEAR_OF_HISTORY
            ]
            if early:
                found[f"{report}_hist_2006_2016.zip"] = zipped(member, _joined(early))
        return found


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
