"""The figures of compared runs as rows, for tables, charts and CSV files: means over seeds, and each seed alone."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.comparison import Comparison, Group, Row, text_of
from gan_lightning.dashboard.run_folders import Run
from gan_lightning.dashboard.statistics import Estimate, estimate, paired_difference
from gan_lightning.figures import HEAD_EPOCH, Figure

ALL_SEEDS = "all"
TRANSFER, ACCURACY = "transfer", "accuracy"
_PREFERRED_PAIR = ("classifier", "discriminator")
_PROBES = ("paper", "tuned", "nearest")

BySeed = Mapping[int | None, float]
Name = tuple[str, str, float | None]
"""A figure's name; for a point of a curve, also the axis and the place on it."""


@dataclass(frozen=True)
class Tables:
    """The tables of a comparison. Each row is of all seeds together or of one.

    Attributes:
        pair: The two extractors of the difference; None if there are not two to compare.
        probes: Names of the accuracies' probes, in order.
        accuracies: Final accuracies on frozen features, their controls and the papers' figures.
        differences: The pair's differences.
        curves: Accuracies after each epoch of a probe's head.
        others: All other figures, by measurement.
        runs: A row per run and final figure.
    """

    pair: tuple[str, str] | None
    probes: Sequence[str]
    accuracies: Sequence[Row]
    differences: Sequence[Row]
    curves: Sequence[Row]
    others: Mapping[str, Sequence[Row]]
    runs: Sequence[Row]


def tabulate(comparison: Comparison) -> Tables:
    """Return the figures of all runs as rows."""
    groups = comparison.groups
    pair = _pair(comparison.runs)
    probes = {figure.protocol for run in comparison.runs for figure in run.final if is_accuracy(figure)} - {""}
    others: dict[str, list[Row]] = defaultdict(list)
    for row in (row for group in groups for row in _others(group)):
        others[row["measurement"]].append(row)
    return Tables(
        pair=pair,
        probes=sorted(probes, key=lambda name: (_PROBES.index(name) if name in _PROBES else len(_PROBES), name)),
        accuracies=[row for group in groups for row in _accuracies(group)],
        differences=[row for group in groups for row in _differences(group, pair)] if pair else [],
        curves=[row for group in groups for row in _curves(group)],
        others=others,
        runs=[
            {**_place(group), "run": run.name, "seed": text_of(run.seed), "figure": figure.name, "value": figure.value}
            for group in groups
            for run in group.runs
            for figure in run.final
            if not figure.is_point
        ],
    )


def is_accuracy(figure: Figure) -> bool:
    """Return whether a figure is an accuracy on frozen features; a figure with a condition is a detail of another."""
    return (figure.measurement, figure.metric, figure.condition) == (TRANSFER, ACCURACY, "")


def _pair(runs: Sequence[Run]) -> tuple[str, str] | None:
    """Return the extractors to compare: first minus second."""
    trained = {f.subject for run in runs for f in run.final if is_accuracy(f) and f.weights == "trained"}
    if set(_PREFERRED_PAIR) <= trained:
        return _PREFERRED_PAIR
    first, *second = sorted(trained, reverse=True) or [""]
    return (first, second[0]) if len(second) == 1 else None


def _place(group: Group) -> Row:
    """Return the columns of a group without `x`: another column repeats it."""
    return {name: value for name, value in group.fields.items() if name != "x"}


def _by_seed(runs: Sequence[Run], figures: Callable[[Run], Iterable[Figure]]) -> dict[Name, dict[int | None, Figure]]:
    """Return the figures of each name by the seeds of their runs."""
    found: dict[Name, dict[int | None, Figure]] = defaultdict(dict)
    for run in runs:
        for figure in figures(run):
            found[figure.name, figure.axis, figure.at][run.seed] = figure
    return found


def _estimated(group: Group, found: Mapping[int | None, Figure]) -> Iterable[tuple[Figure, Row]]:
    """Yield a figure's estimate over all seeds, and its value for each alone."""
    figure = next(iter(found.values()))
    printed = next((run.published[figure.name] for run in group.runs if figure.name in run.published), None)
    paper = {"paper": printed["value"], "source": printed["source"]} if printed else {"paper": None, "source": None}
    values = {seed: each.value for seed, each in found.items()}
    for seed, chosen in _each_seed(values):
        of_all = estimate(list(chosen.values()))
        if figure.weights != "trained" and is_common(group, figure, chosen):
            of_all = Estimate(of_all.mean, None, None, 1)
        yield figure, {**group.fields, "seed": seed, **_row(of_all), **paper}


def is_common(group: Group, figure: Figure, values: BySeed) -> bool:
    """Return whether a control's values are one measurement, common to all seeds.

    The controls of the features follow from the measurement's own seed. If this seed is stated and the same, their
    values differ by rounding alone. Without one they follow from the run's seed.
    """
    seeds = {run.measuring.get(f"{TRANSFER}.seed") for run in group.runs}
    is_one = len(seeds) == 1 and None not in seeds
    return (figure.measurement == TRANSFER and is_one) or len(set(values.values())) == 1


def _each_seed(values: BySeed) -> list[tuple[str, BySeed]]:
    """Return the values of all seeds, and of each alone."""
    return [(ALL_SEEDS, values), *((text_of(seed), {seed: value}) for seed, value in values.items())]


def _row(found: Estimate) -> Row:
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}


def _accuracies(group: Group) -> Iterable[Row]:
    found = _by_seed(group.runs, lambda run: (f for f in run.final if is_accuracy(f) and not f.is_point))
    for figure, row in (each for own in found.values() for each in _estimated(group, own)):
        # Chance has no probe: it stands beside all of them.
        yield row | {"extractor": figure.subject, "weights": figure.weights, "probe": figure.protocol or None}


def _differences(group: Group, pair: tuple[str, str]) -> Iterable[Row]:
    found = _by_seed(group.runs, lambda run: (f for f in run.final if is_accuracy(f) and f.weights == "trained"))
    alone = {name: {seed: f.value for seed, f in own.items()} for (name, axis, _), own in found.items() if not axis}
    printed = {name: each["value"] for run in group.runs for name, each in run.published.items()}
    for probe in sorted({f.protocol for own in found.values() for f in own.values()}):
        names = [Figure(measurement=TRANSFER, metric=ACCURACY, value=0.0, subject=s, protocol=probe).name for s in pair]
        first, second = (alone.get(name, {}) for name in names)
        paper = printed[names[0]] - printed[names[1]] if set(names) <= printed.keys() else None
        for seed, chosen in _each_seed(first):
            if (difference := paired_difference(chosen, second)) is not None:
                yield {**group.fields, "seed": seed, "probe": probe, **_row(difference), "paper": paper}


def _is_probe_epoch(figure: Figure) -> bool:
    return is_accuracy(figure) and figure.axis == HEAD_EPOCH


def _curves(group: Group) -> Iterable[Row]:
    found = _by_seed(group.runs, lambda run: filter(_is_probe_epoch, run.final))
    for (_, _, at), own in sorted(found.items(), key=lambda item: (item[0][0], item[0][2] or 0)):
        for figure, row in _estimated(group, own):
            yield {name: value for name, value in row.items() if name not in ("paper", "source")} | {
                "extractor": figure.subject,
                "weights": figure.weights,
                "probe": figure.protocol,
                "epoch": int(at or 0),
            }


def _others(group: Group) -> Iterable[Row]:
    """Yield the rows of all figures that stand in no other table."""

    def figures(run: Run) -> Iterable[Figure]:
        for figure in run.final:
            if not (_is_probe_epoch(figure) or (is_accuracy(figure) and not figure.is_point)):
                yield figure
        yield from run.over_training

    for own in _by_seed(group.runs, figures).values():
        for figure, row in _estimated(group, own):
            yield row | _parts(figure)


def _parts(figure: Figure) -> dict[str, Any]:
    """Return the columns that identify a figure."""
    return {
        "measurement": figure.measurement,
        "figure": figure.name,
        "series": "/".join(filter(None, (figure.subject, figure.protocol, figure.condition))) or figure.measurement,
        "subject": figure.subject,
        "protocol": figure.protocol,
        "weights": figure.weights,
        "condition": figure.condition,
        "metric": figure.metric,
        "split": figure.split,
        "axis": figure.axis,
        "at": figure.at,
    }
