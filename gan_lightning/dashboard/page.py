"""The page: its sentences and their tables are made here; the browser draws charts from the same figures."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from gan_lightning.dashboard.accuracies import pair_differences
from gan_lightning.dashboard.comparison import compare
from gan_lightning.dashboard.markup import answers, left_out, notices, status
from gan_lightning.dashboard.page_data import page_data
from gan_lightning.dashboard.questions import all_questions
from gan_lightning.dashboard.rows import group_figures
from gan_lightning.dashboard.run_folders import FoundRuns

_SCRIPTS = ("drawing.js", "panels.js", "page.js")


def build_page(
    found: FoundRuns,
    title: str,
    page_folder: Path,
    x: str | None = None,
    follow_seconds: float = 0,
    version: str = "",
    inline: bool = False,
) -> str:
    """Return the page as HTML; it needs no other file but the runs' pictures.

    Args:
        found: The runs and trials to show.
        title: Heading.
        page_folder: Folder of the page; links to run folders and pictures are relative to it.
        x: The setting on the x axis; by default it is chosen by the runs.
        follow_seconds: Time between two looks for changes of a served page; 0 for a file.
        version: The version mark of a served page.
        inline: Whether the last picture of each kind is in the page instead of beside it.

    Raises:
        SettingError: If no run has the setting `x`.
    """
    comparison = compare(found.runs, x) if found.runs else None
    figures = group_figures(comparison) if comparison else []
    asked = all_questions(comparison, figures, found.sweeps, found.unmeasured) if comparison else []
    said = answers(asked)
    if not said:
        what = (
            "The runs have no accuracies on frozen features of their own data"
            if comparison
            else "There is no finished run yet"
        )
        said = f'<p class="notice">{what}: the charts below show what there is.</p>'
    unequal = map(escape, comparison.unequal if comparison else ())
    parts = [
        status(found),
        said,
        notices("Not under the same conditions", "unequal", unequal),
        '<form id="filters" class="script" aria-label="Filters"></form><div id="charts" class="script"></div>',
        left_out(found),
    ]
    differences = pair_differences(comparison, figures) if comparison else []
    protocols = [question.protocol for question in asked]
    data = page_data(found, comparison, [*figures, *differences], page_folder, inline, protocols)
    data |= {"follow": int(1000 * follow_seconds), "version": version}
    data["figure"] = next((question.figure for question in asked if question.figure), "")
    return _document(title, parts, data, follow=follow_seconds > 0)


def _document(title: str, parts: Iterable[str], data: Mapping[str, Any], follow: bool) -> str:
    here = package_files(__package__)
    # The many figures are alike. Without compression they would be most of the page.
    packed = gzip.compress(json.dumps(data, allow_nan=False, separators=(",", ":")).encode(), mtime=0)
    script = "\n".join((here / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    policy = {
        "default-src": "'none'",
        "img-src": "'self' file: data: blob:",
        "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'",
        "form-action": "'none'",
        "base-uri": "'none'",
    } | ({"connect-src": "'self'"} if follow else {})
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{"; ".join(f"{name} {value}" for name, value in policy.items())}">
<title>{escape(title)}</title><link rel="icon" href="data:,">
<style>{(here / "page.css").read_text(encoding="utf-8")}</style></head>
<body><header><h1>{escape(title)}</h1><button id="theme" type="button" class="script">Dark or light</button></header>
<noscript><p class="notice">Scripts are off: the answers and their tables are here, without charts.</p></noscript>
<main>{"".join(parts)}</main>
<script type="application/gzip" id="page-data">{base64.b64encode(packed).decode()}</script>
<script>{script}</script></body></html>
"""
