"""The charts as Vega-Lite, by altair; their data stand in the page and are chosen there by its filters."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.comparison import Comparison, Row

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#888888"
KINDS = ("trained", "random", "none", "paper")
_KIND_TITLES = {"trained": "ours", "random": "random weights", "none": "raw pixels", "paper": "the paper's"}
_DASHES = ([1, 0], [6, 4], [2, 3], [1, 3])
_SHAPES = ("circle", "square", "cross", "diamond")
HEIGHT = 300
_LETTER = 7
"""Pixels for a letter of a label."""

_PRINTED: Row = {"low": None, "high": None, "n": 1, "kind": _KIND_TITLES["paper"]}


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        id: Its element's.
        title: For people.
        spec: Vega-Lite, without data.
        rows: Its data; a row with a `seed` or a filter's name is drawn where the filter has that value.
        points: Further data, a row per run.
        shown_for: Values of filters for which the chart is there at all.
    """

    id: str
    title: str
    spec: Mapping[str, Any]
    rows: Sequence[Row]
    points: Sequence[Row] = ()
    shown_for: Mapping[str, str] | None = None


def _with_ends(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with the ends of the line that shows each interval: of no length where there is none."""
    return [
        {**row, "bottom": row["low"], "top": row["high"]}
        if row["kind"] == "ours" and row["low"] is not None
        else {**row, "bottom": row["mean"], "top": row["mean"]}
        for row in rows
    ]


def _colour(series: Sequence[str]) -> Any:
    import altair as alt

    colours = [_GREY if name == "pixels" else COLOURS[i % len(COLOURS)] for i, name in enumerate(series)]
    return alt.Color("extractor:N", title="extractor", scale=alt.Scale(domain=list(series), range=colours))


def _series(comparison: Comparison) -> list[str]:
    names = {row["extractor"] for row in comparison.accuracies}
    pair = list(reversed(comparison.pair or ()))
    return [*pair, *sorted(names - {"pixels", *pair}), *(["pixels"] if "pixels" in names else [])]


def _x(comparison: Comparison) -> Any:
    import altair as alt

    if not comparison.numeric:
        scale = alt.Scale(paddingInner=0.5, paddingOuter=0.3)
        # A class and its settings stand one below the other, or in a line where there is no room side by side.
        words = [len(word) for value in comparison.x_values for word in value.split()]
        narrow = f"width < {len(comparison.x_values) * _LETTER * max(words, default=1)}"
        axis = alt.Axis(
            labelExpr=f"{narrow} ? datum.label : split(datum.label, ' ')",
            labelAngle=alt.ExprRef(f"{narrow} ? -60 : 0"),
            labelAlign=alt.ExprRef(f"{narrow} ? 'right' : 'center'"),
            labelBaseline=alt.ExprRef(f"{narrow} ? 'middle' : 'top'"),
            labelLimit=220,
        )
        return alt.X("x:O", title=comparison.x, sort=list(comparison.x_values), axis=axis, scale=scale)
    values = comparison.x_values
    wide = min(values) > 0 and max(values) / min(values) > 50
    return alt.X("x:Q", title=comparison.x, scale=alt.Scale(type="log" if wide else "linear", zero=False, nice=True))


def _styled(chart: Any) -> Mapping[str, Any]:
    """Return the specification; text and lines take the page's colours, in the dark as in the light."""
    ink = "currentColor"
    return (
        chart.properties(width="container", height=HEIGHT, background="transparent")
        .configure_axis(
            labelColor=ink, titleColor=ink, tickColor=ink, domainColor=ink, gridColor=ink, gridOpacity=0.12,
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
        )
        .configure_legend(
            labelColor=ink, titleColor=ink, symbolBaseFillColor=ink, symbolBaseStrokeColor=ink, symbolOpacity=1,
            orient="bottom", columns=2, labelFontSize=12, labelLimit=220,
        )
        .configure_view(stroke=None)
        .to_dict()
    )  # fmt: skip


def accuracy_chart(comparison: Comparison, variant: str | None, chart_id: str) -> Chart:
    """Return accuracy against the setting on the x axis, with intervals, the controls and the paper's figures."""
    import altair as alt

    rows: list[Row] = []
    for row in comparison.accuracies:
        if variant in (None, row["variant"]):
            rows.append({**row, "kind": _KIND_TITLES[row["weights"]]})
            if row["paper"] is not None:
                rows.append({**row, **_PRINTED, "mean": row["paper"]})
    points = [
        {**point, "kind": _KIND_TITLES["trained"]}
        for point in comparison.points
        if point["weights"] == "trained" and variant in (None, point["variant"])
    ]
    kinds = [_KIND_TITLES[kind] for kind in KINDS if any(row["kind"] == _KIND_TITLES[kind] for row in rows)]
    used = [KINDS.index(kind) for kind in KINDS if _KIND_TITLES[kind] in kinds]
    series = _series(comparison)
    colour, x = _colour(series), _x(comparison)
    y = alt.Y("mean:Q", title="accuracy", scale=alt.Scale(zero=False))
    kind = {
        "strokeDash": alt.StrokeDash(
            "kind:N", title="figures", scale=alt.Scale(domain=kinds, range=[_DASHES[i] for i in used])
        ),
        "shape": alt.Shape("kind:N", title="figures", scale=alt.Scale(domain=kinds, range=[_SHAPES[i] for i in used])),
    }
    # Side by side, so that intervals do not hide each other.
    beside = {} if comparison.numeric else {"xOffset": alt.XOffset("extractor:N", sort=series)}
    tooltip = [alt.Tooltip(name) for name in ("x:N", "variant:N", "extractor:N", "kind:N", "n:Q")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4f") for name in ("mean", "low", "high")]
    base = alt.Chart(alt.NamedData("rows")).encode(x=x, color=colour, **beside)
    layers = [
        base.mark_rule(strokeWidth=2)
        .encode(y=alt.Y("bottom:Q", title="accuracy", scale=alt.Scale(zero=False)), y2="top:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, shape=kind["shape"], tooltip=tooltip),
        alt.Chart(alt.NamedData("points")).mark_tick(thickness=1.5, size=14, opacity=0.55)
        .encode(x=x, y="accuracy:Q", color=colour, tooltip=["run:N", "seed:N", "extractor:N", "accuracy:Q"], **beside),
    ]  # fmt: skip
    if not comparison.scattered and len(comparison.x_values) > 1:
        layers.insert(0, base.mark_line(opacity=0.8).encode(y=y, strokeDash=kind["strokeDash"]))
    return Chart(
        chart_id,
        _title("Accuracy", variant),
        _styled(alt.layer(*layers)),
        _with_ends(rows),
        points,
        _shown(comparison, variant),
    )


def difference_chart(comparison: Comparison, variant: str | None, chart_id: str) -> Chart:
    """Return the pair's difference with its interval, beside the paper's."""
    import altair as alt

    assert comparison.pair is not None
    ours = [{**row, "kind": "ours"} for row in comparison.differences if variant in (None, row["variant"])]
    printed = [{**row, **_PRINTED, "mean": row["paper"]} for row in ours if row["paper"] is not None]
    rows = _with_ends([*ours, *printed])
    title = f"{comparison.pair[0]} - {comparison.pair[1]}"
    kinds = ["ours", "the paper's"][: 2 if printed else 1]
    y, bottom = (alt.Y(f"{name}:Q", title=title, axis=alt.Axis(grid=True)) for name in ("mean", "bottom"))
    shape = alt.Shape(
        "kind:N", title="figures", scale=alt.Scale(domain=kinds, range=["circle", "diamond"][: len(kinds)])
    )
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=_x(comparison),
        color=alt.Color("kind:N", title="figures", scale=alt.Scale(domain=kinds, range=COLOURS[2 : 2 + len(kinds)])),
        **({} if comparison.numeric else {"xOffset": alt.XOffset("kind:N", sort=kinds)}),
    )
    tooltip = [alt.Tooltip(name) for name in ("x:N", "variant:N", "kind:N", "n:Q")]
    tooltip += [alt.Tooltip(f"{name}:Q", format="+.4f") for name in ("mean", "low", "high")]
    zero = (
        alt.Chart(alt.InlineData([{}]))  # a line, for which the page has no data
        .mark_rule(strokeDash=[4, 4], opacity=0.6, color="currentColor")
        .encode(y=alt.datum(0))
    )
    layers = [
        zero,
        base.mark_rule(strokeWidth=2)
        .encode(y=bottom, y2="top:Q"),
        base.mark_point(filled=True, size=80, opacity=1).encode(y=y, shape=shape, tooltip=tooltip),
    ]  # fmt: skip
    return Chart(chart_id, _title(title, variant), _styled(alt.layer(*layers)), rows, (), _shown(comparison, variant))


def epoch_charts(comparison: Comparison) -> list[Chart]:
    """Return the paper's probe's accuracy over epochs, a chart per setting, all on one scale."""
    import altair as alt

    if not comparison.epochs:
        return []
    low = min(row["mean"] for row in comparison.epochs)
    high = max(row["mean"] for row in comparison.epochs)
    scale = alt.Scale(domain=[max(0.0, low - 0.02), min(1.0, high + 0.02)], clamp=True)
    charts: list[Chart] = []
    for x_value, variant in dict.fromkeys((row["x"], row["variant"]) for row in comparison.epochs):
        rows = [
            {**row, "kind": _KIND_TITLES[row["weights"]]}
            for row in comparison.epochs
            if (row["x"], row["variant"]) == (x_value, variant)
        ]
        kinds = [_KIND_TITLES[kind] for kind in KINDS[:3]]
        base = alt.Chart(alt.NamedData("rows")).encode(
            x=alt.X("epoch:Q", title="epoch of the probe", axis=alt.Axis(tickMinStep=1)),
            color=_colour(_series(comparison)),
        )
        line = base.mark_line().encode(
            y=alt.Y("mean:Q", title="accuracy", scale=scale),
            strokeDash=alt.StrokeDash(
                "kind:N", title="figures", scale=alt.Scale(domain=kinds, range=list(_DASHES[:3]))
            ),
            tooltip=["extractor:N", "kind:N", "epoch:Q", alt.Tooltip("mean:Q", format=".4f"), "n:Q"],
        )
        band = base.mark_area(opacity=0.18, clip=True).encode(
            y=alt.Y("bottom:Q", scale=scale), y2="top:Q", detail="kind:N"
        )
        title = ", ".join(filter(None, [f"{comparison.x} = {x_value}", variant]))
        shown = {name: rows[0][name] for name in comparison.filters if name in rows[0]} | {"protocol": "paper"}
        del shown["seed"]
        charts.append(
            Chart(f"epochs-{len(charts)}", title, _styled(alt.layer(band, line)), _with_ends(rows), (), shown)
        )
    return charts


def losses_chart(curves: Mapping[str, Sequence[tuple[float, float]]], chart_id: str) -> Chart | None:
    """Return a run's losses over its steps."""
    import altair as alt

    names = sorted(name for name in curves if name.endswith("_loss"))
    if not names:
        return None
    rows = [{"loss": name, "step": step, "value": value} for name in names for step, value in curves[name]]
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    line = alt.Chart(alt.NamedData("rows")).mark_line(point={"size": 12}).encode(
        x=alt.X("step:Q", title="batch"),
        y=alt.Y("value:Q", title="loss, nats", scale=alt.Scale(zero=False)),
        color=alt.Color("loss:N", title=None, scale=alt.Scale(domain=names, range=colours)),
        tooltip=["loss:N", "step:Q", alt.Tooltip("value:Q", format=".4f")],
    )  # fmt: skip
    return Chart(chart_id, "Losses", _styled(line), rows)


def _title(what: str, variant: str | None) -> str:
    return f"{what}: {variant}" if variant else what


def _shown(comparison: Comparison, variant: str | None) -> Mapping[str, str] | None:
    """Return the values of filters under which a variant is there: those of its other settings."""
    row = next((row for row in comparison.accuracies if row["variant"] == variant), None)
    return {name: row[name] for name in comparison.others} if row and variant else None
