"""The page: its tables are made here and are readable without scripts; the browser draws its charts."""

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from gan_lightning.dashboard.cards import RUNS, left_out, run_cards, trials
from gan_lightning.dashboard.charts import Chart
from gan_lightning.dashboard.comparison import Comparison, Row, compare
from gan_lightning.dashboard.every_figure import every_figure
from gan_lightning.dashboard.main_figures import ACCURACIES, CURVES, DIFFERENCES, glance, main_figures, unequal
from gan_lightning.dashboard.rows import tabulate
from gan_lightning.dashboard.run_folders import FoundRuns
from gan_lightning.errors import SettingError


def build_page(
    found: FoundRuns, title: str, page_folder: Path, x: str | None = None, follow_seconds: float = 0, version: str = ""
) -> str:
    """Return the page as self-contained HTML.

    Args:
        found: The runs and trials to show.
        title: Heading.
        page_folder: Folder of the page; links to run folders are relative to it.
        x: The setting on the x axis; by default it is chosen by the runs.
        follow_seconds: Time between two looks for changes of a served page; 0 for a file.
        version: The version mark of a served page.

    Raises:
        SettingError: If the drawing library is not installed, or no run has the setting `x`.
    """
    charts: list[Chart] = []
    files: dict[str, Sequence[Row]] = {}
    filters = ""
    if found.runs:
        comparison = compare(found.runs, x)
        tables = tabulate(comparison)
        own = {ACCURACIES: tables.accuracies, DIFFERENCES: tables.differences, CURVES: tables.curves, RUNS: tables.runs}
        files |= {name: rows for name, rows in own.items() if rows}
        filters = _filters(comparison, tables.probes)
        parts = [
            glance(comparison, tables),
            unequal(comparison),
            left_out(found),
            *main_figures(comparison, tables, charts),
            every_figure(comparison, tables, charts, files),
            trials(found.trials),
            run_cards(comparison, charts, files, page_folder),
        ]
    else:
        parts = ['<p class="notice">There is no finished run to draw yet.</p>', trials(found.trials), left_out(found)]
    data = {
        "charts": [
            {"id": chart.id, "spec": chart.spec, "table": chart.table, "where": chart.where,
             "singles": chart.singles, "late": chart.late}
            for chart in charts
        ],
        "tables": {name: _columns(rows) for name, rows in files.items()},
        "follow": int(1000 * follow_seconds),
        "version": version,
    }  # fmt: skip
    return _document(title, filters, parts, data, follow=follow_seconds > 0)


def _document(title: str, filters: str, parts: Iterable[str], data: Mapping[str, Any], follow: bool) -> str:
    here = package_files(__package__)
    # The many rows are alike. Without compression they would be most of the page.
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
        import vl_convert
    except ImportError as error:
        raise SettingError(
            "the dashboard draws with vl-convert-python, which is not installed; "
            "install it with: pip install 'gan-lightning[dashboard]'"
        ) from error
    bundle: Callable[..., str] = vl_convert.javascript_bundle  # in its stub the snippet is not optional
    return bundle().replace("</script", "<\\/script")


def _columns(rows: Sequence[Row]) -> Row:
    """Return rows without repeating their keys, and figures to six digits."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    values = [[_rounded(row.get(name)) if name != "x" else row[name] for name in columns] for row in rows]
    return {"columns": columns, "rows": values}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _filters(comparison: Comparison, probes: Sequence[str]) -> str:
    # One probe at a time: figures of two are not to be compared.
    choices = {"probe": [(probe, probe) for probe in probes]} if probes else {}
    for name, values in comparison.filters.items():
        choices[name] = [("", "all"), *((value, value) for value in values)]
    selects = []
    for name, options in choices.items():
        listed = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options)
        selects.append(f'<label>{escape(name)}<select name="{escape(name)}">{listed}</select></label>')
    return "".join(selects)
