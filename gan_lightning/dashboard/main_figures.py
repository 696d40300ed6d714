"""The page's first sections: accuracies on frozen features, the better extractor, and the certainty of that."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from gan_lightning.dashboard.charts import Chart, against_x, curve_chart, difference_chart, extractors
from gan_lightning.dashboard.comparison import Comparison, Row
from gan_lightning.dashboard.markup import boxes, csv_button, details, marks, section, setting_columns, table
from gan_lightning.dashboard.rows import ACCURACY, ALL_SEEDS, Tables
from gan_lightning.dashboard.statistics import CONFIDENCE, Estimate, holm
from gan_lightning.figures import CHANCE, HEAD_EPOCH, PIXELS

ACCURACIES, DIFFERENCES, CURVES = "accuracy.csv", "difference.csv", "epochs.csv"
INTERVALS = "95% intervals are Student's t over seeds; ticks are single seeds."


def glance(comparison: Comparison, tables: Tables) -> str:
    """Name the better extractor in words, with the difference, its certainty, and the paper's figure."""
    if tables.pair is None or not tables.differences:
        return ""
    first, second = map(escape, tables.pair)
    several = len({row["probe"] for row in tables.differences}) > 1
    sentences = []
    rows = [row for row in tables.differences if row["seed"] == ALL_SEEDS]
    p_values = [Estimate(row["mean"], row["low"], row["high"], row["n"]).p_value() for row in rows]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    for row, p in zip(rows, p_values, strict=True):
        probe = f"probe {row['probe']}" if several else ""
        where = ", ".join(filter(None, [f"{comparison.x} = {row['x']}", row["variant"], probe]))
        sentence = f"{escape(where)}: {first} - {second} = <b>{row['mean']:+.4f}</b>"
        interval = row["low"] is not None
        said = _verdict(row, first, second, None if p is None else next(adjusted))
        sentence += f" [{row['low']:+.4f}, {row['high']:+.4f}]" if interval else ""
        sentence += f" (n = {row['n']}{'' if interval else ': no interval'}); {said}"
        if row["paper"] is not None:
            sentence += f"; the paper has {row['paper']:+.4f}"
            if interval:
                inside = row["low"] <= row["paper"] <= row["high"]
                sentence += ", inside our interval" if inside else ", outside our interval"
        sentences.append(f'<li data-shown="{marks(row, without=("seed",))}">{sentence}.</li>')
    tests = sum(p is not None for p in p_values)
    more = f"Verdicts are corrected for {tests} comparisons (Holm); intervals are not." if tests > 1 else ""
    return section("At a glance", f'<ul class="glance">{"".join(sentences)}</ul>', more)


def _verdict(row: Row, first: str, second: str, adjusted: float | None) -> str:
    """Return which extractor is better, if any.

    Args:
        row: The difference, first minus second.
        first: Name of the extractor.
        second: Name of the other one.
        adjusted: p, corrected for all differences on the page.
    """
    if row["n"] == 1:
        return "one seed decides nothing"
    if row["low"] is None:
        same = "the same in each" if row["mean"] == 0 else "equal in all"
        return f"{same} of {row['n']} seeds, so that there is no spread to judge by"
    if row["low"] <= 0 <= row["high"]:
        return "no difference shown"
    if adjusted is None or adjusted >= 1 - CONFIDENCE:
        return "a difference if it stood alone, none among all on this page"
    return f"<b>{first if row['mean'] > 0 else second} is better</b>"


def unequal(comparison: Comparison) -> str:
    """Warn of comparisons between unlike conditions."""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.unequal)
    return f'<div class="notice" id="unequal">Not under the same conditions:<ul>{lines}</ul></div>' if lines else ""


def main_figures(comparison: Comparison, tables: Tables, charts: list[Chart]) -> Iterable[str]:
    """Yield the sections of the transfer evaluation, and add their charts."""
    if not tables.accuracies:
        return
    variants: Sequence[str | None] = [None] if comparison.scattered else comparison.variants
    accuracy = [
        against_x(
            comparison, _of(tables.accuracies, variant), extractors(tables), ACCURACY, form=".4f",
            **_chart("accuracy", i, "Accuracy", ACCURACIES, variant),
        )
        for i, variant in enumerate(variants)
        if _of(tables.accuracies, variant)
    ]  # fmt: skip
    charts += accuracy
    yield section(f"Accuracy against {comparison.x}", boxes(accuracy), csv_button(ACCURACIES), INTERVALS)
    if tables.pair and tables.differences:
        title = f"{tables.pair[0]} - {tables.pair[1]}"
        difference = [
            difference_chart(
                comparison, tables, rows, **_chart("difference", i, title, DIFFERENCES, variant)
            )
            for i, variant in enumerate(variants)
            if (rows := _of(tables.differences, variant))
        ]  # fmt: skip
        charts += difference
        yield section(
            f"Difference: {title}",
            boxes(difference),
            table(_difference_columns(comparison), tables.differences),
            csv_button(DIFFERENCES),
            "Paired over seeds: each seed's two networks saw the same images in the same order.",
        )
    yield section("Accuracies", table(_accuracy_columns(comparison), _with_controls(tables)))
    if tables.curves:
        curves = list(_curve_charts(comparison, tables))
        charts += curves
        rows = [row for row in tables.curves if row["seed"] == ALL_SEEDS]
        columns = {**setting_columns(comparison), "extractor": "Extractor", "weights": "Weights", "probe": "Probe",
                   "epoch": "Epoch", "mean": "Mean", "interval": "95% interval", "n": "n"}  # fmt: skip
        as_table = details("As a table", table(columns, rows))
        yield section("The probe over its epochs", boxes(curves, "small"), as_table, csv_button(CURVES))


def _of(rows: Sequence[Row], variant: str | None) -> list[Row]:
    return [row for row in rows if variant in (None, row["variant"])]


def _chart(kind: str, i: int, title: str, file: str, variant: str | None) -> dict[str, Any]:
    """Return the name of a variant's chart, and the place of its rows."""
    where = {} if variant is None else {"variant": variant}
    return {"id": f"{kind}-{i}", "title": f"{title}: {variant}" if variant else title, "table": file, "where": where}


def _curve_charts(comparison: Comparison, tables: Tables) -> Iterable[Chart]:
    """Yield a chart per setting and probe; the charts of a probe share one scale."""
    places = dict.fromkeys((row["probe"], row["x"], row["variant"]) for row in tables.curves)
    for i, (probe, x, variant) in enumerate(places):
        of_probe = [row for row in tables.curves if row["probe"] == probe]
        rows = [row for row in of_probe if (row["x"], row["variant"]) == (x, variant)]
        yield curve_chart(
            rows, of_probe, extractors(tables), ACCURACY, ("epoch", HEAD_EPOCH),
            id=f"epochs-{i}", title=", ".join(filter(None, [f"{comparison.x} = {x}", variant])),
            table=CURVES, where={"x": x, "variant": variant, "probe": probe}, late=comparison.scattered,
        )  # fmt: skip


def _difference_columns(comparison: Comparison) -> dict[str, str]:
    figures = {"signed": "Difference", "signed_interval": "95% interval", "n": "n", "signed_paper": "Paper"}
    return {**setting_columns(comparison), "probe": "Probe", **figures}


def _accuracy_columns(comparison: Comparison) -> dict[str, str]:
    return {
        **setting_columns(comparison), "extractor": "Extractor", "probe": "Probe", "mean": "Ours",
        "interval": "95% interval", "n": "n", "paper": "Paper", "random": "Random weights", "pixels": "Raw pixels",
        "chance": "Chance",
    }  # fmt: skip


def _with_controls(tables: Tables) -> list[Row]:
    """Return the trained extractors' rows, the controls' means beside them."""

    def key(row: Row, probe: str | None, extractor: str, weights: str) -> tuple[Any, ...]:
        return str(row["x"]), row["variant"], row["seed"], probe, extractor, weights

    means = {key(row, row["probe"], row["extractor"], row["weights"]): row["mean"] for row in tables.accuracies}
    return [
        {
            **row,
            "random": means.get(key(row, row["probe"], row["extractor"], "random")),
            "pixels": means.get(key(row, row["probe"], PIXELS, "none")),
            "chance": means.get(key(row, None, CHANCE, "none")),
        }
        for row in tables.accuracies
        if row["weights"] == "trained"
    ]
