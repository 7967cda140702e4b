"""The page: its template filled with the data, the charts, the drawing library and its scripts."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import altair as alt
import vl_convert

from etl.report.charts import CLASSES, Chart

_SAMPLE = "SAMPLE DATA: synthetic, of no real market"


def render(
    data: Mapping[str, Any],
    built: Mapping[str, Any],
    charts: Sequence[Chart],
    known_by: datetime,
    asked: bool,
) -> str:
    """The whole page, which asks nothing of the outside.

    Parameters
    ----------
    data, built : as ``etl.report.data`` gives them
    known_by : aware datetime
    asked : ``known_by`` was asked for: the page says that it shows the past
    """
    is_sample = built["run"]["origin"] == "sample"
    names = ", ".join(about["name"] for about in data["markets"].values()) or "nothing known"
    instant = f"{known_by.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    standfirst = f"{names}: as known at <strong>{instant}</strong>"
    standfirst += ", and drawn from nothing that was published later." if asked else "."
    holds = {**data, "built": built, "known_by": known_by, "classes": CLASSES}
    drawn = {
        chart.name: {
            "title": chart.title,
            "unit": chart.unit,
            "fields": [(field.name, field.label, field.format) for field in chart.fields],
            "key": chart.key,
            "spec": chart.specification(),
        }
        for chart in charts
    }
    parts = {
        "title": html.escape(f"{_SAMPLE} · " * is_sample + f"HYDRA lake, {instant}"),
        "banner": f'<div class="banner" role="alert">{_SAMPLE}</div>' * is_sample,
        "standfirst": standfirst,
        "footer": "Not investment advice. Made by hydra report." + f" {_SAMPLE}." * is_sample,
        "style": _part("page.css"),
        "rows": _part("rows.js"),
        "view": _part("view.js"),
        "data": base64.b64encode(zlib.compress(_json(holds).encode())).decode(),
        "charts": _json(drawn).replace("<", "\\u003c"),
        "vega": _library(),
    }
    named = re.compile(r"\{\{(\w+)\}\}")
    page = named.sub(lambda found: parts.get(found[1], found[0]), _part("page.html"))
    return page.replace("{{policy}}", _policy(page), 1)


def _part(name: str) -> str:
    return files("etl.report").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """``value`` as compact JSON."""
    text = json.dumps(value, default=_text, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r"(?<=\d)\.0(?=[,\]}])", "", text)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script."""
    written_for = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", written_for))


def _policy(page: str) -> str:
    """A content security policy: the page's own scripts by their hashes, and no request at all."""
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = (hashlib.sha256(script.encode()).digest() for script in scripts)
    own = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {own}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
