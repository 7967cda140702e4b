"""The report as a browser shows it: Chromium without a screen, driven through its own protocol."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl.report import report
from etl.report.charts import charts
from tests.browser import CHROMIUM, Browser

#: Each chart's marks that have a shape: a drawn line, bar, area, point or cell.
_MARKS = """
Object.fromEntries([...document.querySelectorAll("figure[data-chart]")].map((figure) => [
  figure.dataset.chart,
  [...figure.querySelectorAll(".plot:not([hidden]) svg .role-mark :is(path, line)")]
    .filter((mark) => { const box = mark.getBBox(); return box.width + box.height > 0; }).length,
]))
"""
#: Where each chart's marks are, to tell one drawing from another.
_SHAPES = """
Object.fromEntries([...document.querySelectorAll("figure[data-chart]")].map((figure) => [
  figure.dataset.chart,
  [...figure.querySelectorAll(".plot:not([hidden]) svg .role-mark :is(path, line, text)")]
    .map((mark) => mark.outerHTML).join(""),
]))
"""
_SENTENCES = """
Object.fromEntries([...document.querySelectorAll("figure[data-chart]")].map((figure) => [
  figure.dataset.chart, figure.querySelector(".plot").getAttribute("aria-label"),
]))
"""
_TEXT = "document.getElementById('{}').textContent"


@pytest.fixture(scope="module")
def page(sample_lake: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("report") / "report.html"
    report(sample_lake.lake, target, sample_lake.now)
    return target


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium, or run make test as root")
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


def complaints(browser: Browser) -> list[Any]:
    """What the page or the browser had to say against it."""
    kinds = {"Runtime.exceptionThrown", "Log.entryAdded"}
    said = [event for event in browser.events if event["method"] in kinds]
    for event in browser.events:
        if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
            said.append(event)
    return said


def requests(browser: Browser) -> list[str]:
    asked = [event for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in asked]


def test_every_chart_is_drawn_in_words_and_marks(browser: Browser, page: Path) -> None:
    browser.open(page, "#HE")
    marks = browser.run(_MARKS)
    assert set(marks) == {chart.name for chart in charts(())}
    assert all(marks.values()), marks
    sentences = browser.run(_SENTENCES)
    for chart in charts(()):
        assert sentences[chart.name].startswith(f"{chart.title}, {chart.unit}: ")
        assert " to " in sentences[chart.name]
    assert complaints(browser) == []


def test_nothing_is_asked_of_the_outside(browser: Browser, page: Path) -> None:
    browser.open(page)
    for market in browser.options("market"):
        browser.choose("market", market)
    assert {url.split("#")[0] for url in requests(browser)} == {page.as_uri()}


def test_a_script_of_somebody_else_does_not_run(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run(
        "document.head.append(Object.assign(document.createElement('script'), "
        "{textContent: 'window.foreign = true'}))"
    )
    assert browser.run("window.foreign === undefined")


def test_market_session_prices_and_expiry_are_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.options("market") == ["HE", "ZO"]
    seen = browser.run(_SHAPES)
    for control, moved, kept in (
        ("slice", {"smile", "density", "fan", "gex", "open_interest"}, {"surface", "vols"}),
        ("session", {"smile", "surface", "density", "cone", "gex", "futures_curve"}, set()),
        ("source", {"smile", "surface", "density"}, {"futures_curve", "vols", "positions"}),
        ("convention", {"gex", "vanna", "charm"}, {"smile", "open_interest", "gamma_history"}),
        ("market", set(seen), set()),
    ):
        now = browser.run(f"document.getElementById('{control}').value")
        other = next(value for value in browser.options(control) if value != now)
        browser.choose(control, other)
        drawn = browser.run(_SHAPES)
        assert {name for name in moved if drawn[name] == seen[name]} == set(), control
        assert {name for name in kept if drawn[name] != seen[name]} == set(), control
        seen = drawn
    assert browser.run(_TEXT.format("market-name")).startswith("Oats, ")
    assert complaints(browser) == []


def test_an_address_leads_to_what_was_chosen(browser: Browser, page: Path) -> None:
    browser.open(page, "#ZO")
    for control in ("session", "slice"):
        browser.choose(control, browser.options(control)[1])
    said, place = browser.run(_SENTENCES), browser.run("location.hash")
    browser.open(page, place)
    assert browser.run(_SENTENCES) == said
    browser.open(page, "#nowhere/1999-01-01/rumour/never")
    assert all(browser.run(_MARKS).values())
    assert complaints(browser) == []


def test_a_degraded_slice_is_shown_as_one(browser: Browser, page: Path) -> None:
    browser.open(page, "#ZO")
    browser.choose("source", "quote")
    notes = browser.run(
        "Object.fromEntries([...document.querySelectorAll('figure[data-chart]')].map((figure) => "
        "[figure.dataset.chart, figure.querySelector('.note').textContent]))"
    )
    for name in ("smile", "density", "fan", "skew_by_expiry"):
        assert notes[name].startswith("Degraded: "), name
        assert "8 are needed" in notes[name]
    assert "degraded" in browser.run(_TEXT.format("slice"))
    assert "degraded" in browser.run(_TEXT.format("slices-table"))
    marks = browser.run(_MARKS)
    assert marks["density"] == 0
    assert marks["vol_by_expiry"]


def test_each_chart_opens_its_values(browser: Browser, page: Path) -> None:
    browser.open(page, "#HE")
    rows = browser.run(
        "new Promise((resolve) => { const all = [...document.querySelectorAll('figure details')]; "
        "all.forEach((box) => { box.open = true; }); setTimeout(() => resolve(all.map((box) => "
        "box.querySelectorAll('tbody tr').length)), 200); })"
    )
    assert len(rows) == len(charts(()))
    assert all(rows)


def test_the_banner_stays_in_sight(browser: Browser, page: Path) -> None:
    browser.open(page)
    seen = browser.run(
        "(() => { scrollTo(0, 3000); const banner = document.querySelector('.banner'); "
        "const box = banner.getBoundingClientRect(); return [box.top, box.height, "
        "document.elementFromPoint(innerWidth / 2, 5) === banner, banner.textContent]; })()"
    )
    assert seen[0] == 0
    assert seen[1] > 15
    assert seen[2:] == [True, "SAMPLE DATA: synthetic, of no real market"]


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_fits_a_phone_and_a_desk(browser: Browser, page: Path, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **size)
    browser.open(page)
    assert browser.run("document.documentElement.scrollWidth") <= width
    wide = browser.run(
        "[...document.querySelectorAll('.plot svg')].filter((svg) => "
        "svg.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert wide == 0
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_light_dark_and_print_each_have_their_colours(browser: Browser, page: Path) -> None:
    colours = "[document.body, document.querySelector('.plot svg .role-axis-label text')]"
    look = f"{colours}.map((x) => [getComputedStyle(x).backgroundColor, getComputedStyle(x).fill])"
    seen = {}
    browser.open(page)
    for media, scheme in (("screen", "light"), ("screen", "dark"), ("print", "dark")):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", media=media, features=features)
        seen[media, scheme] = browser.run(look)
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
    assert seen["screen", "light"] == seen["print", "dark"]
    assert seen["screen", "light"][0] != seen["screen", "dark"][0]
    assert seen["screen", "light"][1] != seen["screen", "dark"][1]


def test_it_prints(browser: Browser, page: Path) -> None:
    browser.open(page)
    pdf = browser.call("Page.printToPDF", preferCSSPageSize=True)["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF-")
    assert complaints(browser) == []


def test_a_page_of_before_anything_was_known_is_no_error(
    browser: Browser, sample_lake: Any, tmp_path: Path
) -> None:
    target = tmp_path / "early.html"
    report(sample_lake.lake, target, sample_lake.now, datetime(2001, 1, 1, tzinfo=UTC))
    browser.open(target)
    assert browser.run(_TEXT.format("nothing")) == "Nothing was known then."
    assert complaints(browser) == []
