"""The page's sections about single runs, sweeps' trials, and left out folders."""

import base64
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gan_lightning.dashboard.charts import Chart, losses_chart
from gan_lightning.dashboard.comparison import Comparison, Row, text_of
from gan_lightning.dashboard.markup import boxes, csv_button, details, facts, marks, number, section
from gan_lightning.dashboard.run_folders import FoundRuns, Run
from gan_lightning.figures import Figure

RUNS = "runs.csv"
_WORDS = {"trained": "", "random": "random weights", "none": ""}


def run_cards(comparison: Comparison, charts: list[Chart], files: dict[str, Sequence[Row]], page_folder: Path) -> str:
    """Return a card per run, and add its chart and the chart's table.

    Args:
        comparison: With the runs.
        charts: Of the page.
        files: Tables of the page, by their files' names.
        page_folder: Folder of the page.
    """
    fields = {run.name: group.fields for group in comparison.groups for run in group.runs}
    cards = []
    for i, run in enumerate(comparison.runs):
        own = {**fields[run.name], "seed": text_of(run.seed)}
        names = sorted(name for name in run.logged if name.endswith("_loss"))
        drawn = []
        if names:
            files[f"losses-{i}"] = [
                {"loss": name, "step": step, "value": value} for name in names for step, value in run.logged[name]
            ]
            drawn = [losses_chart(names, id=f"losses-{i}", title="", table=f"losses-{i}", where={}, late=True)]
        charts += drawn
        summary = " · ".join(
            filter(None, [f"{comparison.x} = {own['x']}", own["variant"], f"seed {own['seed']}", run.name])
        )
        content = f"<div>{_card(run, boxes(drawn) if drawn else '', page_folder)}</div>"
        cards.append(details(summary, content, f' class="run" data-shown="{marks(own)}"'))
    return section("Runs", csv_button(RUNS), "".join(cards))


def _card(run: Run, losses: str, page_folder: Path) -> str:
    about = run.about
    folder = quote(Path(os.path.relpath(run.folder, page_folder)).as_posix())
    links = f'<p><a href="{folder}/">Run folder</a>'
    address = str((about.get("wandb") or {}).get("url") or "")
    if address.startswith(("https://", "http://")):
        links += f' · <a href="{escape(address)}" rel="noreferrer">W&amp;B run</a>'
    links += "</p>"
    measured = {figure.name for figure in run.measured.figures}
    last = {name: points[-1][1] for name, points in sorted(run.logged.items()) if points and name not in measured}
    what = {
        "Command": " ".join(map(str, about.get("command") or [])), "Commit": about.get("git_commit"),
        "Seconds": about.get("seconds"), "Model": run.model, "Data": run.data,
    }  # fmt: skip
    settings = dict(sorted({**run.settings, **run.measuring}.items()))
    passed_over = dict(sorted(run.measured.passed_over.items()))
    return (
        links + facts("What was run", what) + losses + figures_tables(run.final)
        + (facts("Passed over", passed_over) if passed_over else "")
        + "".join(_picture(path, run) for path in run.pictures)
        + details("Diagnostics: the last value of everything else that was logged", facts("", last))
        + details("Settings", facts("", settings))
    )  # fmt: skip


def figures_tables(figures: Sequence[Figure]) -> str:
    """Return a table per measurement: a line for each measured thing, a column for each metric."""
    alone = [figure for figure in figures if not figure.is_point]
    parts = []
    for measurement in dict.fromkeys(figure.measurement for figure in alone):
        own = [figure for figure in alone if figure.measurement == measurement]
        metrics = list(dict.fromkeys(figure.metric for figure in own))
        lines: dict[tuple[str, ...], dict[str, float]] = {}
        for figure in own:
            of = figure.subject, figure.protocol, _WORDS[figure.weights], figure.condition
            lines.setdefault(of, {})[figure.metric] = figure.value
        head = "".join(f"<th>{escape(metric)}</th>" for metric in metrics)
        body = "".join(
            f'<tr><td class="text">{escape(" · ".join(filter(None, of)))}</td>'
            + "".join(f"<td>{number(values[metric]) if metric in values else ''}</td>" for metric in metrics)
            + "</tr>"
            for of, values in lines.items()
        )
        parts.append(
            f'<h3>{escape(measurement)}</h3><div class="scroll"><table><tr><th class="text"></th>{head}</tr>{body}'
            "</table></div>"
        )
    return "".join(parts)


def _picture(path: Path, run: Run) -> str:
    image = base64.b64encode(path.read_bytes()).decode()
    name = escape(str(path.relative_to(run.folder)))
    shown = f'<img alt="{name} of {escape(run.name)}" src="data:image/png;base64,{image}">'
    return f"<figure>{shown}<figcaption>{name}</figcaption></figure>"


def left_out(found: FoundRuns) -> str:
    """List the folders that were not drawn, with the reasons."""
    if not found.left_out:
        return ""
    lines = "".join(f"<li><b>{escape(out.name)}</b>: {escape(out.reason)}</li>" for out in found.left_out)
    count = len(found.left_out)
    summary = f"{count} {'folder was' if count == 1 else 'folders were'} left out"
    return details(summary, f"<ul>{lines}</ul>", ' class="notice" id="left-out" open')


def trials(records: Sequence[Mapping[str, Any]]) -> str:
    """List sweeps' trials with their states."""
    parts = []
    for sweep, group in groupby(sorted(records, key=lambda trial: trial["sweep"]), lambda trial: trial["sweep"]):
        own = list(group)
        counts = Counter(trial["status"] for trial in own)
        states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        lines = "".join(
            f"<li>{trial['index']}: {escape(json.dumps(trial['parameters']))}: {escape(trial['status'])}"
            f"{escape(', ' + str(trial['error'])) if trial['error'] else ''}</li>"
            for trial in own
            if trial["status"] != "finished"
        )
        parts.append(f"<p><b>{escape(sweep)}</b>: {escape(states)}</p>" + (f"<ul>{lines}</ul>" if lines else ""))
    return section("Trials of sweeps", *parts) if parts else ""
