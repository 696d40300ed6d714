"""The data of the page's script: all figures, settings, curves and pictures, each once and short."""

import base64
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gan_lightning.dashboard.comparison import SEED, Comparison, number_or_text, text_of
from gan_lightning.dashboard.rows import GroupFigure, figure_parts
from gan_lightning.dashboard.run_files import logged_of, pasted, pictures_of
from gan_lightning.dashboard.run_folders import SWEEP, FoundRuns, Run, UnmeasuredRun
from gan_lightning.figures import CHANCE

COLOURS = 6
"""Number of colours that people with any kind of colour blindness can tell apart (Okabe and Ito)."""

_PARTS = ("protocol", "condition", "subject")
"""If a metric has too many figures for one chart, these parts spread them over several."""

_IS_SHARE = re.compile(r"(^|_)(accuracy|share|precision|recall|coverage)(_|$)")
"""Names of metrics that are between 0 and 1."""

_MANY_RUNS, _FEWER_POINTS = 50, 3
"""Above this number of runs, curves have one in three of their points."""


def page_data(
    found: FoundRuns,
    comparison: Comparison | None,
    figures: Sequence[GroupFigure],
    page_folder: Path,
    inline: bool,
    protocols: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the data.

    Args:
        found: The runs.
        comparison: The same, laid out; None without finished runs.
        figures: Of the comparison.
        page_folder: Folder of the page; pictures are addressed from there.
        inline: Whether the pictures themselves are in the data.
        protocols: In the order of their charts; others come last.
    """
    groups = comparison.groups if comparison else []
    place = {run.name: i for i, group in enumerate(groups) for run in group.runs}
    described = dict(zip((run.name for run in found.runs), comparison.settings if comparison else [], strict=False))
    differing = _differing(list(described.values()))
    runs: list[Run | UnmeasuredRun] = [*found.runs, *found.unmeasured]
    number = {run.name: i for i, run in enumerate(runs)}
    stride = _FEWER_POINTS if len(runs) > _MANY_RUNS else 1
    logged, curves = _logged(runs, stride)
    return {
        "x": comparison.x if comparison else "",
        "varying": comparison.varying if comparison else [],
        "constants": {k: text_of(v) for k, v in next(iter(described.values()), {}).items() if k not in differing},
        "groups": [
            {
                "values": {name: number_or_text(_setting(group, name, described)) for name in _names(comparison)},
                "runs": [number[run.name] for run in group.runs],
            }
            for group in groups
        ],
        "runs": [
            _run(run, place.get(run.name), described.get(run.name), differing, page_folder, inline) for run in runs
        ],
        **_figures(figures, protocols),
        "logged": logged,
        "curves": curves,
    }


def _names(comparison: Comparison | None) -> list[str]:
    return comparison.varying or [comparison.x] if comparison else []


def _setting(group: Any, name: str, described: Mapping[str, Mapping[str, Any]]) -> Any:
    return described[group.runs[0].name].get(name)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for each in settings for name in each)
    return sorted(name for name in names if len({text_of(each.get(name)) for each in settings}) > 1)


def _run(
    run: Run | UnmeasuredRun, group: int | None, described: Mapping[str, Any] | None, differing: Sequence[str],
    page_folder: Path, inline: bool,
) -> dict[str, Any]:  # fmt: skip
    folder = quote(Path(os.path.relpath(run.folder, page_folder)).as_posix())
    about: Mapping[str, Any] = run.about if isinstance(run, Run) else {}
    command = about.get("command") if isinstance(run, Run) else run.command
    settings = {name: described.get(name) for name in differing} if described is not None else run.settings
    address = str((about.get("wandb") or {}).get("url") or "")
    return {
        "name": run.name,
        "folder": f"{folder}/",
        "group": group,
        SEED: text_of(run.seed),
        SWEEP: run.sweep,
        "status": "finished" if isinstance(run, Run) else run.status,
        "reason": "" if isinstance(run, Run) else run.reason,
        "settings": {name: number_or_text(value) for name, value in settings.items()},
        "command": pasted(command),
        "seconds": _short(about.get("seconds")) if isinstance(about.get("seconds"), int | float) else None,
        "commit": text_of(about.get("git_commit") or ""),
        "wandb": address if address.startswith(("https://", "http://")) else "",
        "passed": dict(run.measured.passed_over) if isinstance(run, Run) else {},
        "pictures": {
            name: [[epoch, _picture(run.folder, path, folder, inline)] for epoch, path in own]
            for name, own in _chosen(pictures_of(run.folder), inline).items()
        },
    }


def _chosen(
    pictures: Mapping[str, list[tuple[int | None, str]]], inline: bool
) -> Mapping[str, list[tuple[int | None, str]]]:
    """Return the pictures to show: all of them beside the page, the last of each name within it."""
    return {name: own[-1:] for name, own in pictures.items()} if inline else pictures


def _picture(run_folder: Path, path: str, folder: str, inline: bool) -> str:
    if not inline:
        return f"{folder}/{quote(path)}"
    return f"data:image/png;base64,{base64.b64encode((run_folder / path).read_bytes()).decode()}"


def _figures(figures: Sequence[GroupFigure], protocols: Sequence[str]) -> dict[str, Any]:
    """Return names of figures, their means, the curves over axes of their own, and the charts that share figures."""
    index: dict[tuple[str, str], int] = {}
    names: list[dict[str, Any]] = []
    means: list[list[Any]] = []
    points: dict[tuple[int, int], list[list[Any]]] = {}
    inside: dict[tuple[str, str], bool] = {}
    for found in figures:
        figure = found.figure
        key = figure.name, figure.axis
        if key not in index:
            index[key] = len(names)
            names.append(figure_parts(figure) | {"series": _series(found)})
        ends = (found.estimate.mean, found.estimate.low, found.estimate.high)
        kind = figure.measurement, figure.metric
        within = all(0 <= value <= 1 for value in found.values.values())
        inside[kind] = inside.get(kind, _IS_SHARE.search(figure.metric) is not None) and within
        numbers = [*map(_short, ends), found.estimate.n]
        if figure.axis:
            points.setdefault((index[key], found.place), []).append([figure.at, *numbers])
        else:
            seeds = [_short(found.values.get(run.seed)) for run in found.group.runs]
            means.append([index[key], found.place, *numbers, _short(found.paper), seeds])
    for name in names:
        name["share"] = inside[name["measurement"], name["metric"]]

    def place(panel: tuple[str, list[int]]) -> tuple[bool, bool, int]:
        """Return the order of the charts: curves come last, and details of other figures before them."""
        first = names[panel[1][0]]
        known = protocols.index(first["protocol"]) if first["protocol"] in protocols else len(protocols)
        return first["axis"] != "", first["condition"] != "", known

    return {
        "figures": names,
        "means": means,
        "points": [[*key, sorted(own, key=lambda point: point[0])] for key, own in points.items()],
        "panels": [{"title": title, "figures": own} for title, own in sorted(panels(names), key=place)],
    }


def _series(found: GroupFigure) -> str:
    figure = found.figure
    words = [figure.subject, figure.condition, "random weights" if figure.weights == "random" else ""]
    return " · ".join(filter(None, words)) or figure.protocol or figure.measurement


def panels(names: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, list[int]]]:
    """Yield the charts: a title, and the places of the figures that share the chart.

    A chart has one metric of a measurement and one protocol. Too many figures are spread over several charts. Beside
    accuracies stands the chance of their data set.
    """
    chance = [i for i, name in enumerate(names) if name["subject"] == CHANCE]
    further = {names[i]["condition"] for i in chance} - {""}
    by_metric = _grouped(names, range(len(names)), lambda name: (name["measurement"], name["metric"], name["axis"]))
    for key, own in by_metric.items():
        title = " ".join(filter(None, [key[1], f"over {key[2]}" if key[2] else ""]))
        for part, group in _spread(names, own):
            sets = {_data_set(names[i], further) for i in group}
            same = [i for i in chance if names[i]["condition"] in sets]
            beside = [i for i in same if key == ("transfer", "accuracy", "") and i not in group]
            yield ": ".join(filter(None, [title, part])), group + beside


def _data_set(name: Mapping[str, Any], further: Collection[str]) -> str:
    """Return which of the further data sets an accuracy is of; empty for the run's own."""
    first = str(name["condition"]).partition("/")[0]
    return first if first in further else ""


def _spread(names: Sequence[Mapping[str, Any]], own: Sequence[int]) -> Iterable[tuple[str, list[int]]]:
    by_protocol = _grouped(names, own, lambda name: name["protocol"])
    if len(by_protocol) > 1:
        for protocol, group in by_protocol.items():
            if protocol or any(names[i]["subject"] != CHANCE for i in group):
                for part, few in _few(names, group):
                    yield ", ".join(filter(None, [protocol, part])), few
    else:
        yield from _few(names, own)


def _few(names: Sequence[Mapping[str, Any]], own: Sequence[int]) -> Iterable[tuple[str, list[int]]]:
    """Yield groups of figures with a colour for each of their series; random weights share a trained one's colour."""
    if len(own) <= COLOURS:
        yield "", list(own)
        return
    for part in _PARTS:
        groups = _grouped(names, own, lambda name, part=part: name[part])  # type: ignore[misc]
        if len(groups) > 1 and all(1 < len(group) <= COLOURS for group in groups.values()):
            yield from groups.items()
            return
    parts = -(-len(own) // COLOURS)
    size = -(-len(own) // parts)
    for i in range(parts):
        yield f"{i + 1} of {parts}", list(own[i * size : (i + 1) * size])


def _grouped(
    names: Sequence[Mapping[str, Any]], own: Iterable[int], key: Callable[[Mapping[str, Any]], Any]
) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for i in own:
        groups.setdefault(key(names[i]), []).append(i)
    return groups


def _logged(runs: Sequence[Run | UnmeasuredRun], stride: int) -> tuple[list[str], list[list[Any]]]:
    """Return the names of logged values, and curves: the name's place, the run's, the steps and the values."""
    names: dict[str, int] = {}
    curves = []
    for i, run in enumerate(runs):
        for name, all_points in logged_of(run.folder).items():
            if len(all_points) < 2 and isinstance(run, Run):
                continue
            points = [*all_points[:-1][::stride], all_points[-1]]
            place = names.setdefault(name, len(names))
            curves.append([place, i, [int(step) for step, _ in points], [_short(value) for _, value in points]])
    return list(names), curves


def _short(value: float | int | None) -> float | int | None:
    """Return a number with six digits."""
    return value if value is None or isinstance(value, int) else float(f"{value:.6g}")
