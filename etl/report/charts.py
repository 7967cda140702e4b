"""The page's charts: Vega-Lite specifications over rows that the page picks from its data.

A specification is drawn once and given other rows when a market, session or expiry is chosen.
Colours are CSS variables of ``page.html``, so that light, dark and print need no second drawing.
Rows of two kinds share a chart: points, and levels, which have a ``level`` and its ``label``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

__all__ = ["Chart", "Field", "charts"]

_INK, _MUTED, _RULE, _PAPER = "var(--ink)", "var(--muted)", "var(--rule)", "var(--paper)"
_BLUE, _ORANGE = "var(--c1)", "var(--c2)"

#: Colours of classes and conventions, and of a ramp from low to high or near to far.
_SERIES = tuple(f"var(--c{number})" for number in range(1, 8))
_RAMP = tuple(f"var(--h{number})" for number in range(9))

_FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": _FONT,
    "aria": False,  # the page says in words what a chart shows
    "view": {"stroke": None},
    "mark": {"tooltip": {"content": "data"}},
    # Of a line or an area only its points have a row to tell of.
    "area": {"tooltip": None},
    "line": {"tooltip": None, "point": {"opacity": 0, "size": 120, "tooltip": {"content": "data"}}},
    "axis": {
        "labelColor": _MUTED,
        "titleColor": _MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": _RULE,
        "domainColor": _MUTED,
        "tickColor": _MUTED,
        "labelOverlap": "greedy",
        "labelSeparation": 10,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False, "tickCount": 5},
    "text": {"color": _INK, "font": _FONT, "fontSize": 11},
}

_PERCENT, _VOL, _PRICE, _COUNT, _USD, _DAY = ".0%", ".1%", ",.6~r", ",d", ".3~s", "%Y-%m-%d"


@dataclass(frozen=True)
class Field:
    """A column of a chart's rows: in its tooltips, its table and its sentence.

    ``format`` is d3's for a number, that of a day for a date and none for a text.
    """

    name: str
    label: str
    format: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart and what stands around it.

    ``unit`` is what its values are in; ``key`` explains its marks: label, colour and shape, one
    of line, dash, band, bar, dot and ring.
    """

    name: str
    title: str
    unit: str
    fields: tuple[Field, ...]
    key: tuple[tuple[str, str, str], ...]
    layers: tuple[alt.Chart, ...]
    height: int | alt.Step = 260

    def specification(self, validate: bool = False) -> dict[str, Any]:
        """The chart in Vega-Lite; its rows are to be put under the name ``rows``."""
        chart = alt.layer(*self.layers, data=alt.NamedData("rows"))
        chart = chart.properties(width="container", height=self.height)
        chart = chart.resolve_scale(color="independent")
        made: dict[str, Any] = chart.configure(**_CONFIG).to_dict(validate=validate)
        return made


def charts(conventions: Sequence[str]) -> tuple[Chart, ...]:
    """Every chart.

    Parameters
    ----------
    conventions : the assumptions about dealers' side that the data has
    """
    session, expiry = Field("session", "session", _DAY), Field("expiry", "expiry", _DAY)
    return (
        _smile(),
        _smiles(),
        _surface(),
        _density(),
        _fan("fan", "Quantiles through time", session),
        _fan("cone", "Quantiles by expiry", expiry),
        *(
            _moment(f"{name}_by_{along.name}", title, unit, along, form)
            for along in (expiry, session)
            for name, title, unit, form in (
                ("vol", "Vol at the money", "a year", _VOL),
                ("skew", "Skewness", "log return", ".2f"),
                ("kurtosis", "Kurtosis", "log return, normal 3", ".2f"),
            )
        ),
        _exposure("gex", "Gamma", "USD of delta for a 1 % rise"),
        _exposure("vanna", "Vanna", "USD of delta for 1 vol point"),
        _exposure("charm", "Charm", "USD of delta a day"),
        _gamma_history(conventions),
        _open_interest(),
        _futures_curve(),
        _vols(),
        _positions("positions", "Net futures by class", "contracts, from release to release"),
        _percentiles(),
        _positions(
            "option_positions",
            "Net options by class",
            "contracts of futures by their deltas: combined report less futures only",
        ),
    )


def _x(field: Field, **scale: Any) -> alt.X:
    if field.format == _DAY:
        axis = alt.Axis(title=None, format="%d %b %y", tickCount=6)
        scale = {"padding": 8} | scale
        return alt.X(field.name, type="temporal", axis=axis, scale=alt.Scale(type="utc", **scale))
    axis = alt.Axis(title=field.label, format=field.format, tickCount=8)
    scale = {"zero": False, "nice": False, "padding": 10} | scale
    return alt.X(field.name, type="quantitative", axis=axis, scale=alt.Scale(**scale))


def _y(field: str, form: str, zero: bool = False) -> alt.Y:
    axis = alt.Axis(title=None, format=form)
    return alt.Y(field, type="quantitative", axis=axis, scale=alt.Scale(zero=zero))


def _levels(form: str) -> tuple[alt.Chart, ...]:
    """Vertical lines at the rows' levels, each with its label.

    ``place`` keeps labels apart and ``side`` within the chart.
    """
    levels = alt.Chart().transform_filter("isValid(datum.level)").encode(x="level:Q")
    words = f"datum.label + ' ' + format(datum.level, '{form}')"
    texts = levels.transform_calculate(words=words).encode(
        y=alt.value(alt.ExprRef("1 + 14 * datum.place")), text="words:N"
    )
    right, left = (texts.transform_filter(f"datum.side === '{x}'") for x in ("right", "left"))
    labels = [
        side.encode(stroke=alt.value(halo))
        for halo in (_PAPER, "transparent")
        for side in (
            right.mark_text(align="left", baseline="top", dx=5, strokeWidth=4),
            left.mark_text(align="right", baseline="top", dx=-5, strokeWidth=4),
        )
    ]
    return (levels.mark_rule(color=_INK, strokeDash=[3, 3], strokeWidth=1), *labels)


def _smile() -> Chart:
    strike = Field("strike", "strike", _PRICE)
    fields = (
        strike,
        Field("vol", "vol of the mid", _VOL),
        Field("vol_low", "vol of the bid", _VOL),
        Field("vol_high", "vol of the ask", _VOL),
        Field("vol_curve", "fitted curve", _VOL),
        Field("liquidity", "strike is"),
    )
    x, marks = _x(strike), alt.Chart()
    is_liquid = "datum.liquidity === 'liquid'"
    return Chart(
        "smile",
        "Smile",
        "implied vol a year by strike; early exercise taken out",
        fields,
        (
            ("liquid strike", _BLUE, "dot"),
            ("other strike", _BLUE, "ring"),
            ("bid to ask", "var(--bar)", "bar"),
            ("fitted curve", _ORANGE, "line"),
        ),
        (
            # Bars end at the chart's edges, which low and high are drawn in to.
            marks.mark_rule(color="var(--bar)", strokeWidth=3).encode(
                x=x, y=_y("low", _PERCENT), y2="high:Q"
            ),
            marks.mark_line(color=_ORANGE, strokeWidth=2, interpolate="monotone").encode(
                x=x, y=_y("vol_curve", _PERCENT)
            ),
            marks.mark_point(size=34, strokeWidth=1.4, opacity=1, stroke=_BLUE).encode(
                x=x,
                y=_y("vol", _PERCENT),
                fill=alt.condition(is_liquid, alt.value(_BLUE), alt.value(_PAPER)),
            ),
            *_levels(_PRICE),
        ),
        height=340,
    )


def _smiles() -> Chart:
    moneyness = Field("moneyness", "strike over forward, log", _PERCENT)
    fields = (
        Field("slice", "expiry"),
        moneyness,
        Field("vol", "vol", _VOL),
        Field("quality", "quality"),
    )
    colour = alt.Color("shade:O", scale=alt.Scale(domain=list(range(9)), range=_RAMP), legend=None)
    x, y, marks = _x(moneyness), _y("vol", _PERCENT), alt.Chart()
    return Chart(
        "smiles",
        "Every expiry's fitted curve",
        "implied vol a year by log-moneyness, as far as strikes are priced",
        fields,
        (
            ("near expiry", _RAMP[3], "line"),
            ("far expiry", _RAMP[8], "line"),
            ("chosen", _ORANGE, "line"),
            ("degraded: at the money only", _INK, "ring"),
        ),
        (
            marks.transform_filter("datum.quality === 'full'")
            .mark_line(interpolate="monotone")
            .encode(
                x=x,
                y=y,
                detail="slice:N",
                color=alt.condition("datum.is_chosen", alt.value(_ORANGE), colour),
                strokeWidth=alt.condition("datum.is_chosen", alt.value(3), alt.value(1.6)),
            ),
            marks.transform_filter("datum.quality !== 'full'")
            .mark_point(size=60, strokeWidth=1.6, opacity=1, shape="diamond")
            .encode(
                x=x,
                y=y,
                color=alt.condition("datum.is_chosen", alt.value(_ORANGE), alt.value(_INK)),
            ),
        ),
    )


def _surface() -> Chart:
    fields = (
        Field("slice", "expiry"),
        Field("moneyness", "strike over forward, log", _PERCENT),
        Field("vol", "vol", _VOL),
        Field("quality", "quality"),
    )
    axis = alt.Axis(
        title="strike over forward, log", format="+.0%", labelAngle=0, domain=False, ticks=False
    )
    x = alt.X("moneyness", type="ordinal", axis=axis)
    rows = alt.Axis(title=None, domain=False, ticks=False, labelLimit=150)
    y = alt.Y("place", type="ordinal", sort=None, axis=rows)
    colour = alt.Color("shade:O", scale=alt.Scale(domain=list(range(9)), range=_RAMP), legend=None)
    cells = alt.Chart().encode(x=x, y=y)
    given = cells.transform_filter("isValid(datum.vol)")
    return Chart(
        "surface",
        "Surface",
        "implied vol a year by log-moneyness and days to expiry",
        fields,
        (("degraded: at the money only", _ORANGE, "bar"),),
        (
            cells.mark_rect(color="var(--panel)", stroke=_PAPER, strokeWidth=2),
            given.mark_rect(strokeWidth=2).encode(
                color=colour,
                stroke=alt.condition(
                    "datum.quality === 'full'", alt.value(_PAPER), alt.value(_ORANGE)
                ),
            ),
            given.mark_text(fontSize=10, opacity=alt.ExprRef("bandwidth('x') > 27 ? 1 : 0")).encode(
                text=alt.Text("vol:Q", format=".0%"),
                color=alt.condition(
                    "datum.shade > 4", alt.value("var(--on-high)"), alt.value("var(--on-low)")
                ),
            ),
        ),
        height=alt.Step(26),
    )


def _density() -> Chart:
    strike = Field("strike", "price at expiry", _PRICE)
    fields = (strike, Field("density", "density", ".4~r"))
    marks = alt.Chart().encode(x=_x(strike, padding=0), y=_y("density", ".2~r", zero=True))
    return Chart(
        "density",
        "Risk-neutral density",
        "probability for 1 of the quote unit, by price at expiry",
        fields,
        (("density", _BLUE, "band"),),
        (
            marks.mark_area(
                color=_BLUE,
                fillOpacity=0.16,
                interpolate="monotone",
                line={"color": _BLUE, "strokeWidth": 2},
            ),
            *_levels(_PRICE),
        ),
    )


def _fan(name: str, title: str, along: Field) -> Chart:
    quantiles = [(f"q{n:02}", f"{n} % quantile") for n in (5, 10, 25, 50, 75, 90, 95)]
    fields = (
        along,
        Field("forward", "forward", _PRICE),
        *(Field(name, label, _PRICE) for name, label in quantiles),
        Field("quality", "quality"),
    )
    x, marks = _x(along), alt.Chart()
    bands = [("q05", "q95", 0.13), ("q10", "q90", 0.16), ("q25", "q75", 0.26)]
    return Chart(
        name,
        title,
        "price at expiry, in the quote unit",
        fields,
        (
            ("5–95, 10–90 and 25–75 %", _BLUE, "band"),
            ("median", _BLUE, "line"),
            ("forward", _INK, "dash"),
            ("degraded: no distribution", _ORANGE, "ring"),
        ),
        (
            *(
                marks.mark_area(color=_BLUE, opacity=opacity).encode(
                    x=x, y=_y(low, _PRICE), y2=f"{high}:Q"
                )
                for low, high, opacity in bands
            ),
            marks.mark_line(color=_BLUE, strokeWidth=2).encode(x=x, y=_y("q50", _PRICE)),
            marks.mark_line(color=_INK, strokeWidth=1.2, strokeDash=[5, 3]).encode(
                x=x, y=_y("forward", _PRICE)
            ),
            # Of one session or expiry no band can be drawn.
            marks.mark_rule(color=_BLUE, strokeWidth=12, opacity=_of_one(0.2)).encode(
                x=x, y=_y("q05", _PRICE), y2="q95:Q"
            ),
            marks.mark_point(color=_BLUE, filled=True, size=60, opacity=_of_one(1)).encode(
                x=x, y=_y("q50", _PRICE)
            ),
            marks.transform_filter("datum.quality !== 'full'")
            .mark_point(color=_ORANGE, size=40, strokeWidth=1.6, opacity=1, shape="diamond")
            .encode(x=x, y=_y("forward", _PRICE)),
        ),
        height=300,
    )


def _of_one(opacity: float) -> alt.ExprRef:
    return alt.ExprRef(f"length(data('rows')) === 1 ? {opacity} : 0")


def _moment(name: str, title: str, unit: str, along: Field, form: str) -> Chart:
    fields = (
        Field("slice", "expiry"),
        along,
        Field("value", title.lower(), form),
        Field("error", "standard error", ".2~r"),
        Field("quality", "quality"),
    )
    marks = alt.Chart().encode(x=_x(along))
    is_full = "datum.quality === 'full'"
    values = marks.encode(y=_y("value", form))
    bars = marks.mark_rule(color="var(--bar)", strokeWidth=2.5).encode(
        y=_y("low", form), y2="high:Q"
    )
    points = values.mark_point(size=40, strokeWidth=1.6, opacity=1).encode(
        stroke=alt.condition(is_full, alt.value(_BLUE), alt.value(_ORANGE)),
        fill=alt.condition(is_full, alt.value(_BLUE), alt.value(_PAPER)),
        size=alt.condition(
            "datum.is_chosen", alt.value(100), alt.value(34 if along.name == "expiry" else 10)
        ),
    )
    line = values.mark_line(color=_BLUE, strokeWidth=1.2)
    return Chart(
        name,
        title,
        f"{unit}, by {along.label}",
        fields,
        (
            ("estimate", _BLUE, "dot"),
            ("± 1 standard error", "var(--bar)", "bar"),
            ("degraded", _ORANGE, "ring"),
        ),
        (bars.mark_rule(color="var(--bar)", strokeWidth=2.5), line, points),
        height=200,
    )


def _exposure(name: str, title: str, unit: str) -> Chart:
    strike = Field("strike", "strike", _PRICE)
    fields = (strike, Field("value", title, _USD))
    width = alt.ExprRef("clamp(0.7 * width / length(data('rows')), 1.5, 14)")
    bars = (
        alt.Chart()
        .mark_rule(strokeWidth=width)
        .encode(
            x=_x(strike),
            y=_y("value", _USD, zero=True),
            y2=alt.datum(0),
            color=alt.condition("datum.value < 0", alt.value(_ORANGE), alt.value(_BLUE)),
        )
    )
    return Chart(
        name,
        title,
        unit,
        fields,
        (("dealers gain", _BLUE, "bar"), ("dealers lose", _ORANGE, "bar")),
        (bars, *_levels(_PRICE)),
        height=220,
    )


def _gamma_history(conventions: Sequence[str]) -> Chart:
    session = Field("session", "session", _DAY)
    fields = (session, Field("convention", "convention"), Field("value", "gamma exposure", _USD))
    colours = dict(zip(conventions, _SERIES, strict=False))
    line = (
        alt.Chart()
        .mark_line(strokeWidth=1.8)
        .encode(x=_x(session), y=_y("value", _USD, zero=True), color=_series("convention", colours))
    )
    return Chart(
        "gamma_history",
        "Gamma exposure through time",
        "USD of delta gained for a 1 % rise, all expiries, as known at each cut-off",
        fields,
        tuple((name.replace("_", " "), colour, "line") for name, colour in colours.items()),
        (line,),
        height=220,
    )


def _open_interest() -> Chart:
    strike = Field("strike", "strike", _PRICE)
    fields = (strike, Field("calls", "calls", _COUNT), Field("puts", "puts", _COUNT))
    width = alt.ExprRef("clamp(0.7 * width / length(data('rows')), 1.5, 14)")
    bars = alt.Chart().mark_rule(strokeWidth=width).encode(x=_x(strike), y2=alt.datum(0))
    axis = alt.Axis(title=None, labelExpr="format(abs(datum.value), '~s')")
    return Chart(
        "open_interest",
        "Open interest",
        "contracts by strike, newest published; puts downwards",
        fields,
        (("calls", _BLUE, "bar"), ("puts", _ORANGE, "bar")),
        (
            bars.mark_rule(strokeWidth=width, color=_BLUE).encode(y=alt.Y("calls:Q", axis=axis)),
            bars.mark_rule(strokeWidth=width, color=_ORANGE).encode(y=alt.Y("downwards:Q")),
            *_levels(_PRICE),
        ),
        height=240,
    )


def _futures_curve() -> Chart:
    expiry = Field("expiry", "expiry", _DAY)
    fields = (
        Field("contract", "contract"),
        expiry,
        Field("close", "price", _PRICE),
        Field("open_interest", "open interest", _COUNT),
        Field("when", "curve of"),
    )
    colours = {"the session": _BLUE, "5 sessions before": _ORANGE, "21 sessions before": _MUTED}
    lines = alt.Chart().encode(x=_x(expiry), y=_y("close", _PRICE), color=_series("when", colours))
    return Chart(
        "futures_curve",
        "Futures curve",
        "price in the quote unit by expiry",
        fields,
        tuple((when, colour, "line") for when, colour in colours.items()),
        (lines.mark_line(strokeWidth=1.8), lines.mark_point(filled=True, size=36, opacity=1)),
    )


def _vols() -> Chart:
    session = Field("session", "session", _DAY)
    fields = (session, Field("measure", "measure"), Field("value", "vol", _VOL))
    colours = {
        "implied, 30 days, quotes": _SERIES[0],
        "implied, 30 days, settlements": _SERIES[5],
        "realised, 21 sessions, close to close": _SERIES[1],
        "realised, 21 sessions, high to low": _SERIES[4],
    }
    line = (
        alt.Chart()
        .mark_line(strokeWidth=1.8)
        .encode(x=_x(session), y=_y("value", _PERCENT), color=_series("measure", colours))
    )
    return Chart(
        "vols",
        "Realised and implied vol",
        "a year; front month, each as known at the session's cut-off",
        fields,
        tuple((measure, colour, "line") for measure, colour in colours.items()),
        (line,),
    )


#: Trader classes of the disaggregated report, as ``features.cot_v1`` and people name them.
CLASSES = {
    "managed_money": "managed money",
    "prod_merc": "producers and merchants",
    "swap": "swap dealers",
    "other_reportable": "other reportables",
    "nonreportable": "non-reportable",
}
_CLASS_COLOURS = dict(zip(CLASSES.values(), _SERIES, strict=False))


def _positions(name: str, title: str, unit: str) -> Chart:
    known = Field("known", "known from", _DAY)
    fields = (
        Field("report", "report of", _DAY),
        known,
        Field("holder", "class"),
        Field("net", "net", _COUNT),
        Field("release", "release"),
    )
    marks = alt.Chart()
    lines = marks.transform_filter("isValid(datum.net)").encode(
        x=_x(known), y=_y("net", _COUNT, zero=True), color=_series("holder", _CLASS_COLOURS)
    )
    # One class stands for the report: its releases are marked once.
    releases = marks.transform_filter("datum.is_mark").mark_tick(
        orient="vertical", thickness=1.4, size=9, yOffset=-5
    )
    colours = {"on schedule": _MUTED, "estimated": _ORANGE, "revised": "var(--c4)"}
    return Chart(
        name,
        title,
        unit,
        fields,
        (
            *((holder, colour, "line") for holder, colour in _CLASS_COLOURS.items()),
            *((f"release {kind}", colour, "bar") for kind, colour in colours.items()),
        ),
        (
            lines.mark_line(interpolate="step-after", strokeWidth=1.8),
            releases.encode(
                x=_x(known), y=alt.value(alt.ExprRef("height")), color=_series("release", colours)
            ),
        ),
        height=280,
    )


def _percentiles() -> Chart:
    fields = (
        Field("holder", "class"),
        Field("percentile", "percentile of 3 years", ".0%"),
        Field("before", "4 reports before", ".0%"),
        Field("net", "net", _COUNT),
    )
    rows = alt.Axis(title=None, domain=False, ticks=False, labelLimit=150)
    y = alt.Y("holder", type="nominal", sort=None, axis=rows)
    scale = alt.Scale(domain=[0, 1])
    marks = alt.Chart().encode(y=y)
    axis = alt.Axis(title=None, format=".0%", values=[0, 0.25, 0.5, 0.75, 1], grid=True)
    return Chart(
        "percentiles",
        "Where the newest net futures stand",
        "share of three years of reports at or below",
        fields,
        (("newest report", _BLUE, "dot"), ("4 reports before", _MUTED, "ring")),
        (
            marks.mark_rule(color="var(--bar)", strokeWidth=3).encode(
                x=alt.X("before:Q", scale=scale, axis=axis), x2="percentile:Q"
            ),
            marks.mark_point(color=_MUTED, size=50, opacity=1).encode(x="before:Q"),
            marks.mark_point(
                filled=True,
                size=90,
                opacity=1,
            ).encode(
                x=alt.X("percentile:Q", scale=scale, axis=axis),
                color=_series("holder", _CLASS_COLOURS),
            ),
        ),
        height=190,
    )


def _series(field: str, colours: dict[str, str]) -> alt.Color:
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(field, type="nominal", scale=scale, legend=None)
