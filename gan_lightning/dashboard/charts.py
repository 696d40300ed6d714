"""The charts as Vega-Lite. Their data are rows of the page's tables; the page's filters choose among them."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.comparison import Comparison, Row
from gan_lightning.dashboard.rows import Tables
from gan_lightning.figures import CHANCE, PIXELS

Spec = dict[str, Any]
"""A piece of Vega-Lite."""

# Okabe and Ito's colours. People with any kind of colour blindness can tell them apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_CONTROLS = {PIXELS: "#888888", CHANCE: "#A08050"}
_KINDS = {"trained": "ours", "random": "random weights", "none": "no network", "paper": "the paper's"}
_DASHES = ([1, 0], [6, 4], [2, 3], [1, 3])
_SHAPES = ("circle", "square", "cross", "diamond")
_POINT = {"type": "point", "filled": True, "size": 70, "opacity": 1}
_LINE, _CURVE = {"type": "line", "opacity": 0.8}, {"type": "line", "point": {"size": 14}}
_RULE, _BAND = {"type": "rule", "strokeWidth": 2}, {"type": "area", "opacity": 0.18, "clip": True}
_TICK = {"type": "tick", "thickness": 1.5, "size": 14, "opacity": 0.55}

NUMBER = ".4~g"
"""Default format of figures in tooltips."""

HEIGHT = 300
_LETTER = 7
"""Pixels for a letter of a label."""


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        id: Its element's.
        title: For people.
        spec: Vega-Lite, without data.
        table: Name of the table with its rows.
        where: Values of its rows in some columns.
        singles: Whether it shows single seeds, too.
        late: Whether it is drawn only once it is scrolled into view.
    """

    id: str
    title: str
    spec: Mapping[str, Any]
    table: str
    where: Mapping[str, Any]
    singles: bool = False
    late: bool = False


@dataclass(frozen=True)
class Colours:
    """The meaning of a chart's colours.

    Attributes:
        column: Of the rows.
        of: Colours by the column's values, in order.
    """

    column: str
    of: Mapping[str, str]

    def only(self, rows: Sequence[Row]) -> "Colours":
        """Return the colours of the values in some rows."""
        names = {row[self.column] for row in rows}
        return Colours(self.column, {name: colour for name, colour in self.of.items() if name in names})

    @property
    def channel(self) -> Spec:
        """The colours as a channel of a chart."""
        scale = {"domain": list(self.of), "range": list(self.of.values())}
        return _nominal(self.column, title=self.column, scale=scale)


def colours_of(column: str, names: Iterable[str]) -> Colours:
    """Return a colour for each value of a column; for many values the colours repeat."""
    return Colours(column, {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)})


def extractors(tables: Tables) -> Colours:
    """Return the colours of the extractors: the pair first, pixels and chance last."""
    names = {row["extractor"] for row in tables.accuracies}
    pair = list(reversed(tables.pair or ()))
    networks = colours_of("extractor", [*pair, *sorted(names - {*_CONTROLS, *pair})])
    return Colours("extractor", {**networks.of, **{name: _CONTROLS[name] for name in _CONTROLS if name in names}})


def _nominal(column: str, **more: Any) -> Spec:
    return {"field": column, "type": "nominal", **more}


def _number(column: str, **more: Any) -> Spec:
    return {"field": column, "type": "quantitative", **more}


def _tooltip(names: Iterable[str], numbers: Iterable[str] = (), form: str = NUMBER) -> list[Spec]:
    return [*map(_nominal, names), *(_number(name, format=form) for name in numbers)]


def _layer(mark: Spec, transforms: Sequence[Spec], encoding: Spec, data: str = "rows") -> Spec:
    return {"data": {"name": data}, "transform": [*transforms], "mark": mark, "encoding": encoding}


def _drawn(layers: Sequence[Spec]) -> Spec:
    """Return a chart; text and lines take the page's colours, in dark and light mode."""
    ink = "currentColor"
    axis = {"labelColor": ink, "titleColor": ink, "tickColor": ink, "domainColor": ink, "gridColor": ink,
            "gridOpacity": 0.12, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}  # fmt: skip
    legend = {"labelColor": ink, "titleColor": ink, "symbolBaseFillColor": ink, "symbolBaseStrokeColor": ink,
              "symbolOpacity": 1, "orient": "bottom", "columns": 2, "labelFontSize": 12, "labelLimit": 220}  # fmt: skip
    config = {"axis": axis, "legend": legend, "view": {"stroke": None}}
    return {"width": "container", "height": HEIGHT, "background": "transparent", "layer": [*layers], "config": config}


def _x(comparison: Comparison) -> Spec:
    values = comparison.x_values
    if comparison.numeric:
        wide = min(values) > 0 and max(values) / min(values) > 50
        return _number("x", title=comparison.x, scale={"type": "log" if wide else "linear", "zero": False})
    # A class and its settings stand one below the other, or in a line if there is no room side by side.
    words = [len(word) for value in values for word in value.split()]
    narrow = f"width < {len(values) * _LETTER * max(words, default=1)}"
    looks = {
        "labelExpr": f"{narrow} ? datum.label : split(datum.label, ' ')",
        "labelAngle": {"expr": f"{narrow} ? -60 : 0"},
        "labelAlign": {"expr": f"{narrow} ? 'right' : 'center'"},
        "labelBaseline": {"expr": f"{narrow} ? 'middle' : 'top'"},
        "labelLimit": 220,
    }
    scale = {"paddingInner": 0.5, "paddingOuter": 0.3}
    return {"field": "x", "type": "ordinal", "title": comparison.x, "sort": [*values], "axis": looks, "scale": scale}


def _beside(comparison: Comparison, column: str, values: Iterable[str]) -> Spec:
    """Return the channel that puts values side by side; intervals then do not hide each other."""
    return {} if comparison.numeric else {"xOffset": {"field": column, "type": "nominal", "sort": [*values]}}


def _kinds(rows: Iterable[Row]) -> list[str]:
    """Return the kinds of figures in rows: kinds of their networks' weights, and papers' figures."""
    found = {row.get("weights", "trained") for row in rows} | {"paper" for row in rows if row.get("paper") is not None}
    return [kind for kind in _KINDS if kind in found]


def _kind(kinds: Sequence[str], looks: Sequence[Any]) -> Spec:
    """Return a channel that tells the kinds of figures apart."""
    places = [list(_KINDS).index(kind) for kind in kinds]
    scale = {"domain": [_KINDS[kind] for kind in kinds], "range": [looks[place] for place in places]}
    return _nominal("kind", title="figures", scale=scale, **({"legend": None} if list(kinds) == ["trained"] else {}))


_WEIGHTS = " : ".join(f"datum.weights === '{kind}' ? '{_KINDS[kind]}'" for kind in ("random", "none"))
_MADE = {
    "printed": "isValid(datum.paper) ? [false, true] : [false]",
    "kind": f"datum.printed ? \"{_KINDS['paper']}\" : {_WEIGHTS} : '{_KINDS['trained']}'",
    "mean": "datum.printed ? datum.paper : datum.mean",
    "n": "datum.printed ? 1 : datum.n",
    **{name: f"datum.printed ? null : datum.{name}" for name in ("low", "high")},
    "bottom": "isValid(datum.low) ? datum.low : datum.mean",
    "top": "isValid(datum.high) ? datum.high : datum.mean",
}
_FIGURES: Sequence[Spec] = [{"calculate": value, "as": name} for name, value in _MADE.items()]
_FIGURES = [_FIGURES[0], {"flatten": ["printed"]}, *_FIGURES[1:]]
"""A chart's data from a row: our figure and the paper's, each with an interval; its length is 0 if there is none."""


def against_x(
    comparison: Comparison, rows: Sequence[Row], colours: Colours, metric: str, form: str = NUMBER, **chart: Any
) -> Chart:
    """Return figures against the setting on the x axis, with intervals, single seeds, and the papers' figures.

    Args:
        comparison: With the x axis.
        rows: Rows to draw.
        colours: Of the rows.
        metric: Name of the y axis.
        form: Format of figures.
        chart: Further attributes of `Chart`.
    """
    far = colours.column == "extractor" and _is_chance_far_below(rows)
    figures = [*([{"filter": f"datum.extractor !== '{CHANCE}'"}] if far else []), *_FIGURES]
    drawn = [row for row in rows if not (far and row["extractor"] == CHANCE)]
    kinds, colours = _kinds(drawn), colours.only(drawn)
    place = {"x": _x(comparison), "color": colours.channel, **_beside(comparison, colours.column, colours.of)}
    y, bottom = (_number(name, title=metric, scale={"zero": False}) for name in ("mean", "bottom"))
    tooltip = _tooltip(["x", "variant", colours.column, "kind", "n"], ["mean", "low", "high"], form)
    shape, dash = _kind(kinds, _SHAPES), _kind(kinds, _DASHES)
    single = {**place, "y": y, "tooltip": _tooltip(["seed", colours.column], ["mean"], form)}
    joined = not comparison.scattered and len(comparison.x_values) > 1
    layers = [
        *([_layer(_LINE, figures, {**place, "y": y, "strokeDash": dash})] if joined else []),
        _layer(_RULE, figures, {**place, "y": bottom, "y2": {"field": "top"}}),
        _layer(_POINT, figures, {**place, "y": y, "shape": shape, "tooltip": tooltip}),
        *(
            [_layer(_TICK, [{"filter": "datum.weights === 'trained'"}], single, "singles")]
            if "trained" in kinds
            else []
        ),
        *([_CHANCE_NOTE] if far else []),
    ]
    return Chart(spec=_drawn(layers), singles=True, **chart)


def _is_chance_far_below(rows: Sequence[Row]) -> bool:
    """Return whether chance is far below all else; a scale with both would then hide the differences."""
    chance = [row["mean"] for row in rows if row["extractor"] == CHANCE]
    others = [row["mean"] for row in rows if row["extractor"] != CHANCE]
    return bool(chance and others) and min(others) - max(chance) > max(others) - min(others)


_CHANCE_NOTE = _layer(
    {"type": "text", "align": "left", "color": "currentColor", "opacity": 0.8, "fontSize": 12},
    [
        {"filter": f"datum.extractor === '{CHANCE}'"},
        {"aggregate": [{"op": op, "field": "mean", "as": op} for op in ("min", "max", "count")]},
        {"filter": "datum.count > 0"},
        {"calculate": "datum.max > datum.min ? ' to ' + format(datum.max, '.4f') : ''", "as": "more"},
        {"calculate": "'chance, below the scale: ' + format(datum.min, '.4f') + datum.more", "as": "note"},
    ],
    {"x": {"value": 6}, "y": {"value": HEIGHT - 10}, "text": _nominal("note")},
)
"""A line in the chart's corner instead of a place on its scale."""


def difference_chart(comparison: Comparison, tables: Tables, rows: Sequence[Row], **chart: Any) -> Chart:
    """Return the pair's difference with its interval, beside the paper's."""
    assert tables.pair is not None
    title = f"{tables.pair[0]} - {tables.pair[1]}"
    kinds = _kinds(rows)
    names = [_KINDS[kind] for kind in kinds]
    colour = {**_kind(kinds, _SHAPES), "scale": {"domain": names, "range": COLOURS[2 : 2 + len(names)]}}
    place = {"x": _x(comparison), "color": colour, **_beside(comparison, "kind", names)}
    y, bottom = (_number(name, title=title, axis={"grid": True}) for name in ("mean", "bottom"))
    tooltip = _tooltip(["x", "variant", "kind", "n"], ["mean", "low", "high"], "+.4f")
    shape = _kind(kinds, _SHAPES)
    no_difference = {
        "data": {"values": [{}]},  # the data of a line; the page has none
        "mark": {"type": "rule", "strokeDash": [4, 4], "opacity": 0.6, "color": "currentColor"},
        "encoding": {"y": {"datum": 0}},
    }
    interval = _layer(_RULE, _FIGURES, {**place, "y": bottom, "y2": {"field": "top"}})
    point = _layer(_POINT, _FIGURES, {**place, "y": y, "shape": shape, "tooltip": tooltip})
    return Chart(spec=_drawn([no_difference, interval, point]), **chart)


def curve_chart(
    rows: Sequence[Row], scale_rows: Sequence[Row], colours: Colours, metric: str, at: tuple[str, str], **chart: Any
) -> Chart:
    """Return figures over an axis of their own, such as epochs, with bands for the intervals.

    Args:
        rows: Rows to draw.
        scale_rows: Rows that decide the scale: the rows of all charts to be compared.
        colours: Of the rows.
        metric: Name of the y axis.
        at: Column of the places on the x axis, and the axis' name.
        chart: Further attributes of `Chart`.
    """
    low, high = min(row["mean"] for row in scale_rows), max(row["mean"] for row in scale_rows)
    room = 0.1 * high - 0.1 * low or 0.1 * abs(high) or 1.0
    most = sys.float_info.max
    scale = {"domain": [max(low - room, -most), min(high + room, most)], "clamp": True, "nice": False}
    column, title = at
    x = _number(column, title=title, axis={"tickMinStep": 1}, scale={"zero": False})
    place = {"x": x, "color": colours.only(rows).channel}
    y, bottom = (_number(name, title=metric, scale=scale) for name in ("mean", "bottom"))
    band = _layer(_BAND, _FIGURES, {**place, "y": bottom, "y2": {"field": "top"}, "detail": _nominal("kind")})
    tooltip = _tooltip([colours.column, "kind", column, "n"], ["mean"])
    dash = _kind(_kinds(rows), _DASHES)
    line = _layer(_CURVE, _FIGURES, {**place, "y": y, "strokeDash": dash, "tooltip": tooltip})
    return Chart(spec=_drawn([band, line]), **chart)


def losses_chart(names: Sequence[str], **chart: Any) -> Chart:
    """Return a run's losses over its steps; rows are `loss`, `step` and `value`."""
    encoding = {
        "x": _number("step", title="batch"),
        "y": _number("value", title="loss, nats", scale={"zero": False}),
        "color": colours_of("loss", names).channel,
        "tooltip": _tooltip(["loss", "step"], ["value"]),
    }
    return Chart(spec=_drawn([_layer(_CURVE, [], encoding)]), **chart)
