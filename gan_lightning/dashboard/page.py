"""The page: tables made here, so that they can be read without scripts, and charts drawn where it is opened."""

import base64
import gzip
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gan_lightning.dashboard.charts import Chart, accuracy_chart, difference_chart, epoch_charts, losses_chart
from gan_lightning.dashboard.comparison import ALL_SEEDS, Comparison, Row, compare
from gan_lightning.dashboard.reading import Found, Run
from gan_lightning.errors import SettingError

_NOTHING = "-"
_FIGURES = ("mean", "low", "high", "n")


def build_page(
    found: Found, title: str, page_folder: Path, x: str | None = None, follow_seconds: float = 0, version: str = ""
) -> str:
    """Return the page as HTML that needs nothing beside it.

    Args:
        found: What to show.
        title: Heading.
        page_folder: Where the page will stand; links to run folders are relative to it.
        x: The setting on the x axis; by default it is chosen by the runs.
        follow_seconds: Time between two looks for news where the page is served; 0 for a file.
        version: The mark of what is shown, where the page is served.

    Raises:
        SettingError: If the drawing library is not installed, or no run has the setting `x`.
    """
    charts: list[Chart] = []
    tables: Mapping[str, Sequence[Row]] = {}
    parts = [_trials(found.trials)]
    filters = ""
    if found.runs:
        comparison = compare(found.runs, x)
        charts, tables = _comparison_charts(comparison), _tables(comparison)
        filters = _filters(comparison)
        parts = [
            _glance(comparison),
            _unequal(comparison),
            *_main_figures(comparison, charts),
            *parts,
            _runs(comparison, charts, page_folder),
        ]
    else:
        parts.insert(0, '<p class="notice">There is no finished run to draw yet.</p>')
    parts.insert(2 if found.runs else len(parts), _left_out(found))
    data = {
        "charts": [_packed(chart) for chart in charts],
        "tables": {name: _columns(rows) for name, rows in tables.items()},
        "follow": int(1000 * follow_seconds),
        "version": version,
    }
    return _document(title, filters, parts, data, follow=follow_seconds > 0)


def _document(title: str, filters: str, parts: Iterable[str], data: Mapping[str, Any], follow: bool) -> str:
    here = files(__package__)
    # The many rows are much alike: without compression they would be most of the page.
    packed = gzip.compress(json.dumps(data, allow_nan=False).encode(), mtime=0)
    content = base64.b64encode(packed).decode()
    scripts = [_library() if data["charts"] else "", (here / "page.js").read_text(encoding="utf-8")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    policy = {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'",  # Vega styles its elements
        "script-src": " ".join(f"'sha256-{value}'" for value in hashes), "form-action": "'none'", "base-uri": "'none'",
    } | ({"connect-src": "'self'"} if follow else {})  # fmt: skip
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{"; ".join(f"{name} {value}" for name, value in policy.items())}">
<title>{escape(title)}</title><link rel="icon" href="data:,">
<style>{(here / "page.css").read_text(encoding="utf-8")}</style></head>
<body><header><h1>{escape(title)}</h1><button id="theme" type="button">Dark or light</button></header>
<noscript><p class="notice">Scripts are off: all figures are in the tables, without charts.</p></noscript>
<form id="filters">{filters}<button id="reset" type="button">Reset</button></form>
<main>{"".join(parts)}</main>
<script type="application/gzip" id="page-data">{content}</script>
{"".join(f"<script>{script}</script>" for script in scripts)}</body></html>
"""


def _library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script."""
    try:
        import altair  # noqa: F401 (charts are made with it)
        import vl_convert
    except ImportError as error:
        raise SettingError(
            f"the dashboard draws with altair and vl-convert-python, and {error.name} is not installed; "
            "install them with: pip install 'gan-lightning[dashboard]'"
        ) from error
    bundle: Callable[..., str] = vl_convert.javascript_bundle  # its stub forgets that the snippet may be left out
    return bundle().replace("</script", "<\\/script")


def _comparison_charts(comparison: Comparison) -> list[Chart]:
    _library_is_there()
    variants: Sequence[str | None] = [None] if comparison.scattered else comparison.variants
    charts = [accuracy_chart(comparison, variant, f"accuracy-{i}") for i, variant in enumerate(variants)]
    if comparison.differences:
        charts += [difference_chart(comparison, variant, f"difference-{i}") for i, variant in enumerate(variants)]
    return [*charts, *epoch_charts(comparison)]


def _library_is_there() -> None:
    from importlib.util import find_spec

    for module, package in (("altair", "altair"), ("vl_convert", "vl-convert-python")):
        if find_spec(module) is None:
            raise SettingError(
                f"the dashboard draws with {package}, which is not installed; "
                "install it with: pip install 'gan-lightning[dashboard]'"
            )


def _packed(chart: Chart) -> Row:
    return {"id": chart.id, "spec": chart.spec, "rows": _columns(chart.rows), "points": _columns(chart.points)}


def _tables(comparison: Comparison) -> Mapping[str, Sequence[Row]]:
    """Return what can be downloaded, by the file's name."""
    runs = [{name: value for name, value in point.items() if name != "x"} for point in comparison.points]
    tables = {"accuracy": comparison.accuracies, "difference": comparison.differences, "epochs": comparison.epochs}
    return {f"{name}.csv": rows for name, rows in (tables | {"runs": runs}).items() if rows}


def _columns(rows: Sequence[Row]) -> Row:
    """Return rows without repeating their keys, and figures to six digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    values = [[_rounded(row.get(name)) if name != "x" else row[name] for name in columns] for row in rows]
    return {"columns": columns, "rows": values}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _filters(comparison: Comparison) -> str:
    selects = []
    for name, values in comparison.filters.items():
        # One protocol at a time: figures of two are not to be compared.
        every = [] if name == "protocol" else [("", "all")]
        options = "".join(f'<option value="{escape(value)}">{escape(text)}</option>'
                          for value, text in [*every, *((value, value) for value in values)])  # fmt: skip
        selects.append(f'<label>{escape(name)}<select name="{escape(name)}">{options}</select></label>')
    return "".join(selects)


def _glance(comparison: Comparison) -> str:
    """Say in words which extractor is better, by how much, how sure that is, and what the paper says."""
    if comparison.pair is None or not comparison.differences:
        return ""
    first, second = map(escape, comparison.pair)
    several = len({row["protocol"] for row in comparison.differences}) > 1
    sentences = []
    for row in comparison.differences:
        if row["seed"] != ALL_SEEDS:
            continue
        protocol = f"protocol {row['protocol']}" if several else ""
        where = ", ".join(filter(None, [f"{comparison.x} = {row['x']}", row["variant"], protocol]))
        sentence = f"{escape(where)}: {first} - {second} = <b>{row['mean']:+.4f}</b>"
        interval = row["low"] is not None
        sentence += f" [{row['low']:+.4f}, {row['high']:+.4f}]" if interval else ""
        sentence += f" (n = {row['n']}{'' if interval else ': no interval'}); {_verdict(row, first, second)}"
        if row["paper"] is not None:
            sentence += f"; the paper has {row['paper']:+.4f}"
            if interval:
                inside = row["low"] <= row["paper"] <= row["high"]
                sentence += ", inside our interval" if inside else ", outside our interval"
        sentences.append(f"<li {_marks(row, hide=False)}>{sentence}.</li>".replace("<li data-row", "<li data-shown"))
    return _section("At a glance", f'<ul class="glance">{"".join(sentences)}</ul>')


def _verdict(row: Row, first: str, second: str) -> str:
    if row["n"] == 1:
        return "one seed decides nothing"
    if row["low"] is None:
        same = "the same in each" if row["mean"] == 0 else "equal in all"
        return f"{same} of {row['n']} seeds, so that there is no spread to judge by"
    if row["low"] > 0:
        return f"<b>{first} is better</b>"
    if row["high"] < 0:
        return f"<b>{second} is better</b>"
    return "no difference shown"


def _unequal(comparison: Comparison) -> str:
    """Warn of comparisons between unlike conditions."""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison.unequal)
    return f'<div class="notice" id="unequal">Not under the same conditions:<ul>{lines}</ul></div>' if lines else ""


def _main_figures(comparison: Comparison, charts: Sequence[Chart]) -> Iterable[str]:
    of = {
        kind: [chart for chart in charts if chart.id.startswith(kind)] for kind in ("accuracy", "difference", "epochs")
    }
    n = "95% intervals are Student's t over seeds; ticks are single seeds."
    yield _section(f"Accuracy against {comparison.x}", _drawn(of["accuracy"]), _csv("accuracy.csv"), n)
    if comparison.pair and comparison.differences:
        first, second = comparison.pair
        paired = "Paired over seeds: each seed's two networks saw the same images in the same order."
        yield _section(
            f"Difference: {first} - {second}",
            _drawn(of["difference"]),
            _table(_difference_columns(comparison), comparison.differences),
            _csv("difference.csv"),
            paired,
        )
    yield _section("Accuracies", _table(_accuracy_columns(comparison), _with_controls(comparison)))
    if of["epochs"]:
        rows = [row for row in comparison.epochs if row["seed"] == ALL_SEEDS]
        columns = {**_setting_columns(comparison), "extractor": "Extractor", "weights": "Weights", "epoch": "Epoch",
                   "mean": "Mean", "interval": "95% interval", "n": "n"}  # fmt: skip
        table = f"<details><summary>As a table</summary>{_table(columns, rows)}</details>"
        yield _section(
            "The paper's probe over its epochs",
            _drawn(of["epochs"], "small"),
            table,
            _csv("epochs.csv"),
        )


def _setting_columns(comparison: Comparison) -> dict[str, str]:
    return {"x": comparison.x} | ({"variant": "Other settings"} if comparison.others else {})


def _difference_columns(comparison: Comparison) -> dict[str, str]:
    figures = {"signed": "Difference", "signed_interval": "95% interval", "n": "n", "signed_paper": "Paper"}
    return {**_setting_columns(comparison), "protocol": "Protocol", **figures}


def _accuracy_columns(comparison: Comparison) -> dict[str, str]:
    return {
        **_setting_columns(comparison), "extractor": "Extractor", "protocol": "Protocol", "mean": "Ours",
        "interval": "95% interval", "n": "n", "paper": "Paper", "random": "Random weights", "pixels": "Raw pixels",
    }  # fmt: skip


def _with_controls(comparison: Comparison) -> list[Row]:
    """Return the trained extractors' rows, the controls' means beside them."""

    def key(row: Row, extractor: str, weights: str) -> tuple[Any, ...]:
        return str(row["x"]), row["variant"], row["seed"], row["protocol"], extractor, weights

    means = {key(row, row["extractor"], row["weights"]): row["mean"] for row in comparison.accuracies}
    return [
        {
            **row,
            "random": means.get(key(row, row["extractor"], "random")),
            "pixels": means.get(key(row, "pixels", "none")),
        }
        for row in comparison.accuracies
        if row["weights"] == "trained"
    ]


def _cell(row: Row, column: str) -> str:
    if column in ("interval", "signed_interval"):
        sign = "+" if column.startswith("signed") else ""
        return _NOTHING if row["low"] is None else f"[{row['low']:{sign}.4f}, {row['high']:{sign}.4f}]"
    if column in ("signed", "signed_paper"):
        value = row["mean" if column == "signed" else "paper"]
        return _NOTHING if value is None else f"{value:+.4f}"
    value = row.get(column)
    if value is None and column not in ("x", "variant"):
        return _NOTHING
    return f"{value:.4f}" if isinstance(value, float) and column not in ("x",) else str(value)


_TEXTS = {"x", "variant", "extractor", "protocol", "weights"}


def _table(columns: Mapping[str, str], rows: Iterable[Row]) -> str:
    kinds = {column: ' class="text"' if column in _TEXTS else "" for column in columns}
    head = "".join(f"<th{kinds[column]}>{escape(title)}</th>" for column, title in columns.items())
    bodies = []
    for marks, group in groupby(rows, _marks):  # once for all lines that filters treat alike
        cells = ("".join(f"<td{kinds[c]}>{escape(_cell(row, c))}</td>" for c in columns) for row in group)
        bodies.append(f"<tbody {marks}>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</tbody>")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>'


_NO_FILTERS = {"x", "variant", "extractor", "weights", "paper", "source", "epoch", *_FIGURES, "random", "pixels"}


def _marks(row: Row, hide: bool = True) -> str:
    """Return the attributes by which filters find a line; single seeds are there for the filters alone."""
    values = {name: value for name, value in row.items() if name not in _NO_FILTERS}
    if not hide:
        values.pop("seed", None)
    hidden = " hidden" if hide and row.get("seed", ALL_SEEDS) != ALL_SEEDS else ""
    return f'data-row="{escape(json.dumps(values))}"{hidden}'


def _drawn(charts: Sequence[Chart], kind: str = "") -> str:
    boxes = []
    for chart in charts:
        shown = f' data-shown="{escape(json.dumps(chart.shown_for))}"' if chart.shown_for else ""
        boxes.append(f'<div{shown}><h3>{escape(chart.title)}</h3><div class="chart" id="{chart.id}"></div></div>')
    return f'<div class="charts {kind}">{"".join(boxes)}</div>'


def _section(title: str, *parts: str) -> str:
    body = "".join(
        part if part.startswith("<") or not part else f'<p class="soft">{escape(part)}</p>' for part in parts
    )
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _csv(name: str) -> str:
    """Return a button for a file that the page's script writes from its data."""
    return f'<p class="script"><button type="button" data-csv="{name}">Download {name}</button></p>'


def _left_out(found: Found) -> str:
    if not found.left_out:
        return ""
    lines = "".join(f"<li><b>{escape(out.name)}</b>: {escape(out.reason)}</li>" for out in found.left_out)
    count = len(found.left_out)
    summary = f"{count} {'folder was' if count == 1 else 'folders were'} left out"
    return f'<details class="notice" id="left-out" open><summary>{summary}</summary><ul>{lines}</ul></details>'


def _trials(trials: Sequence[Mapping[str, Any]]) -> str:
    if not trials:
        return ""
    parts = []
    for sweep in sorted({trial["sweep"] for trial in trials}):
        own = [trial for trial in trials if trial["sweep"] == sweep]
        counts = Counter(trial["status"] for trial in own)
        states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        lines = "".join(
            f"<li>{trial['index']}: {escape(json.dumps(trial['parameters']))}: {escape(trial['status'])}"
            f"{escape(', ' + str(trial['error'])) if trial['error'] else ''}</li>"
            for trial in own
            if trial["status"] != "finished"
        )
        parts.append(f"<p><b>{escape(sweep)}</b>: {escape(states)}</p>" + (f"<ul>{lines}</ul>" if lines else ""))
    return _section("Trials of sweeps", *parts)


def _runs(comparison: Comparison, charts: list[Chart], page_folder: Path) -> str:
    cards = []
    for i, run in enumerate(comparison.runs):
        chart = losses_chart(run.curves, f"losses-{i}")
        if chart is not None:
            charts.append(chart)
        row = next(point for point in comparison.points if point["run"] == run.name)
        marks = {name: row[name] for name in comparison.filters if name in row and name != "protocol"}
        late = f' data-chart="{chart.id}"' if chart else ""
        cards.append(
            f'<details class="run"{late} data-shown="{escape(json.dumps(marks))}">'
            f"<summary>{escape(_summary(comparison, run, row))}</summary>"
            f"<div>{_card(run, chart, page_folder)}</div></details>"
        )
    return _section("Runs", _csv("runs.csv"), "".join(cards))


def _summary(comparison: Comparison, run: Run, row: Row) -> str:
    parts = [f"{comparison.x} = {row['x']}", row["variant"], f"seed {row['seed']}", run.name]
    return " · ".join(filter(None, parts))


def _card(run: Run, chart: Chart | None, page_folder: Path) -> str:
    about = run.about
    folder = quote(Path(os.path.relpath(run.folder, page_folder)).as_posix())
    links = f'<p><a href="{folder}/">Run folder</a>'
    address = str((about.get("wandb") or {}).get("url") or "")
    if address.startswith(("https://", "http://")):
        links += f' · <a href="{escape(address)}" rel="noreferrer">W&amp;B run</a>'
    links += "</p>"
    finals = [
        {"extractor": extractor, "weights": weights, "protocol": protocol, "mean": accuracy}
        for (extractor, weights, protocol), accuracy in sorted(run.finals.items())
    ]
    # No seed of its own in these lines: the card is there or not as a whole.
    accuracies = _table(
        {"extractor": "Extractor", "weights": "Weights", "protocol": "Protocol", "mean": "Accuracy"}, finals
    )
    pictures = "".join(_picture(path, run) for path in run.pictures)
    drawn = f'<div class="chart" id="{chart.id}"></div>' if chart else ""
    last = {
        name: points[-1][1]
        for name, points in sorted(run.curves.items())
        if points and not name.startswith("transfer/")
    }
    facts = {
        "Command": " ".join(map(str, about.get("command") or [])), "Commit": about.get("git_commit"),
        "Seconds": about.get("seconds"), "Model": run.model, "Data": run.data,
    }  # fmt: skip
    settings = dict(sorted(run.settings.items()))
    return (
        links + _facts("What was run", facts) + accuracies + drawn + pictures
        + f"<details><summary>Diagnostics: the last value of everything logged</summary>{_facts('', last)}</details>"
        + f"<details><summary>Settings</summary>{_facts('', settings)}</details>"
    )  # fmt: skip


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    lines = "".join(
        f'<tr><th class="text">{escape(name)}</th><td class="wide">{escape(text)}</td></tr>'
        for name, text in ((name, f"{v:.6g}" if isinstance(v, float) else str(v)) for name, v in facts.items())
    )
    heading = f"<h3>{escape(title)}</h3>" if title else ""
    return f'{heading}<div class="scroll"><table>{lines}</table></div>'


def _picture(path: Path, run: Run) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    name = escape(str(path.relative_to(run.folder)))
    shown = f'<img alt="{name} of {escape(run.name)}" src="data:image/png;base64,{image}">'
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"
