"""Makes a record of run folders."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.results.records import NOT_RECORDED, Measured, Record, Runs
from gan_lightning.dashboard.comparison import METHOD, Comparison, Group, compare
from gan_lightning.dashboard.rows import is_common
from gan_lightning.dashboard.run_folders import Run, read_folder
from gan_lightning.dashboard.statistics import estimate
from gan_lightning.errors import SettingError
from gan_lightning.figures import BATCH, HEAD_EPOCH, Figure, of_content


def record_of(
    folders: Sequence[Path], only: Sequence[str] = (), logged: Sequence[str] = (), **more: Any
) -> tuple[Record, list[str]]:
    """Return the record of all runs below some folders, and why other folders were left out.

    Args:
        folders: Of runs, or of a sweep's trials.
        only: Patterns of the names of the recorded figures, such as `transfer/*/tuned/*`. Of these the newest is
            recorded. By default all figures are, with those measured while training.
        logged: Names of values logged while training, such as `train/saturated`. Their mean over the last part of the
            training, of at most 120 parts, is recorded.
        more: Parts of the record that no run knows or that should be said in other words, such as `device`.

    Raises:
        SettingError: There is no run, the runs have several data sets, or one has not logged such a value.
    """
    found = [read_folder(folder) for folder in folders]
    left_out = [f"{out.name}: {out.reason}" for each in found for out in each.left_out]
    runs = [run for each in found for run in each.runs]
    if not runs:
        raise SettingError(f"folders must have finished runs, got none in {', '.join(map(str, folders))}.")
    if len(names := sorted({run.data for run in runs})) > 1:
        raise SettingError(f"runs of a record must have one data set, got {', '.join(names)}.")
    comparison = compare(runs)
    about = [run.about for run in runs]
    record = Record(
        method=_joined(run.model for run in runs),
        data=runs[0].data,
        images=_joined(_data_settings(run) for run in runs),
        width=_joined(run.settings.get("base_width", run.settings.get("networks.width")) for run in runs),
        epochs=_joined(run.settings.get("epochs") for run in runs),
        precision=_joined(each.get("precision") for each in about),
        settings=_common([{**run.settings, **run.measuring} for run in runs]),
        commands=list(dict.fromkeys(shlex.join(each["command"]) for each in about if each.get("command"))),
        commit=_joined(each.get("git_commit") for each in about),
        versions=_joined(each.get("versions") for each in about),
        device=_joined(f"{each.get('processes')} x {each.get('accelerator')}" for each in about),
        wall_time=_span([each["seconds"] for each in about if each.get("seconds") is not None]),
        runs=[_runs(comparison, group, only, logged) for group in comparison.groups],
    )
    return replace(record, **{name: value for name, value in more.items() if value}), left_out


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = settings
    return {name: value for name, value in first.items() if all(name in o and o[name] == value for o in others)}


def _data_settings(run: Run) -> Mapping[str, Any]:
    own = {**run.measured.about.get("data_settings", {}), **(run.about.get("data") or {})}
    return of_content(own)


def _joined(values: Iterable[Any]) -> str:
    """Return all different values, in words."""
    return "; ".join(dict.fromkeys(_words(value) for value in values if value is not None)) or NOT_RECORDED


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items() if each is not None)
    return str(value)


def _span(seconds: Sequence[float]) -> str:
    if not seconds:
        return NOT_RECORDED
    least, most = min(seconds), max(seconds)
    return f"{least:.0f} seconds" if round(least) == round(most) else f"{least:.0f} to {most:.0f} seconds a run"


def _runs(comparison: Comparison, group: Group, only: Sequence[str], logged: Sequence[str]) -> Runs:
    several = len({run.model for run in comparison.runs}) > 1
    names = [name for name in (comparison.x, *comparison.others) if several or name != METHOD]
    published = {name: dict(each) for run in group.runs for name, each in run.published.items()}
    return Runs(
        settings={name: _plain(group.runs[0].settings.get(name), group.fields[name]) for name in names},
        seeds=sorted(run.seed for run in group.runs if run.seed is not None),
        published=published,
        measured=[_measured(group, found) for found in _by_figure(group.runs, only, logged)],
    )


def _plain(value: Any, text: str) -> Any:
    """Return a setting's value as JSON has it, or its text."""
    return value if isinstance(value, bool | int | float | str) else text


def _by_figure(runs: Sequence[Run], only: Sequence[str], logged: Sequence[str]) -> list[dict[int | None, Figure]]:
    """Return the figures of each name, epoch and place by seed.

    Curves over a probe's epochs and over the batches of a training are left to the runs' own files.
    """
    found: dict[tuple[str, int | None, float | None], dict[int | None, Figure]] = {}
    for run in runs:
        for figure in (*_chosen(run, only), *_logged(run, logged)):
            if figure.axis not in (HEAD_EPOCH, BATCH):
                found.setdefault((figure.name, figure.epoch, figure.at), {})[run.seed] = figure
    return list(found.values())


def _chosen(run: Run, only: Sequence[str]) -> Iterable[Figure]:
    if not only:
        return run.measured.figures
    return (figure for figure in run.final if any(fnmatchcase(figure.name, pattern) for pattern in only))


def _logged(run: Run, names: Sequence[str]) -> Iterator[Figure]:
    for name in names:
        if name not in run.logged:
            raise SettingError(f"logged must name values that each run has logged, got {name}, not in {run.name}.")
        measurement, _, metric = name.partition("/")
        epoch = run.measured.about.get("epochs")
        yield Figure(measurement=measurement, metric=metric, value=run.logged[name][-1][1], split="", epoch=epoch)


def _measured(group: Group, found: Mapping[int | None, Figure]) -> Measured:
    values = {seed: found[seed].value for seed in sorted(found, key=lambda seed: (seed is None, seed))}
    figure = replace(next(iter(found.values())), value=estimate(list(values.values())).mean, seconds=None)
    if figure.weights != "trained" and is_common(group, figure, values):
        return Measured(figure=replace(figure, value=next(iter(values.values()))))  # the mean of equals may be rounded
    return Measured(figure=figure, by_seed={str(seed): value for seed, value in values.items()})
