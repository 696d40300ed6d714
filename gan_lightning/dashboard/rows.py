"""The figures of compared runs: for each group of runs and each figure the mean over seeds, and each seed's value."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.comparison import Comparison, Group, Row, text_of
from gan_lightning.dashboard.run_folders import Run
from gan_lightning.dashboard.statistics import Estimate, estimate
from gan_lightning.figures import Figure

TRANSFER, ACCURACY = "transfer", "accuracy"
_PREFERRED_PAIR = ("classifier", "discriminator")
_PROBES = ("paper", "tuned", "nearest")

BySeed = Mapping[int | None, float]


@dataclass(frozen=True)
class GroupFigure:
    """A figure of runs that differ in their seed alone.

    Attributes:
        group: The runs.
        place: Of the group among all groups.
        figure: One of the figures, for its name and parts.
        values: By the runs' seeds.
        estimate: Mean over the seeds, with an interval.
        paper: The paper's value.
        source: Of the paper's value.
    """

    group: Group
    place: int
    figure: Figure
    values: BySeed
    estimate: Estimate
    paper: float | None = None
    source: str | None = None


def group_figures(comparison: Comparison) -> list[GroupFigure]:
    """Return all figures of all groups, points of curves included."""
    return [found for place, group in enumerate(comparison.groups) for found in _of_group(group, place)]


def _of_group(group: Group, place: int) -> Iterable[GroupFigure]:
    by_name: dict[tuple[str, str, float | None], dict[int | None, Figure]] = defaultdict(dict)
    for run in group.runs:
        for figure in (*run.final, *run.over_training):
            by_name[figure.name, figure.axis, figure.at][run.seed] = figure
    for (name, _, _), found in by_name.items():
        figure = next(iter(found.values()))
        printed = next((run.published[name] for run in group.runs if name in run.published), {})
        values = {seed: each.value for seed, each in found.items()}
        mean = estimate(list(values.values()))
        if figure.weights != "trained" and is_common(group, figure, values):
            mean = Estimate(mean.mean, None, None, 1)
        yield GroupFigure(group, place, figure, values, mean, printed.get("value"), printed.get("source"))


def figure_rows(comparison: Comparison) -> list[Row]:
    """Return all figures as rows for charts of one's own.

    Each row has the group's settings, the figure's parts (`figure`, `measurement`, `metric`, `subject`, `protocol`,
    `weights`, `condition`, `axis`, `at`), and `mean`, `low`, `high`, `n`; `seeds` has each seed's value.
    """
    return [
        {
            **found.group.fields,
            **figure_parts(found.figure),
            "at": found.figure.at,
            **vars(found.estimate),
            "seeds": {text_of(seed): value for seed, value in found.values.items()},
        }
        for found in group_figures(comparison)
    ]


def figure_parts(figure: Figure) -> dict[str, Any]:
    """Return the parts that tell figures apart."""
    names = ("measurement", "metric", "subject", "protocol", "weights", "condition", "axis")
    return {"figure": figure.name, **{name: getattr(figure, name) for name in names}}


def is_accuracy(figure: Figure) -> bool:
    """Return whether a figure is an accuracy on frozen features; a figure with a condition is a detail of another."""
    return (figure.measurement, figure.metric, figure.condition) == (TRANSFER, ACCURACY, "")


def is_common(group: Group, figure: Figure, values: BySeed) -> bool:
    """Return whether a control's values are one measurement, common to all seeds.

    The controls of the features follow from the measurement's own seed. If this seed is stated and the same, their
    values differ by rounding alone. Without one they follow from the run's seed.
    """
    seeds = {run.measuring.get(f"{TRANSFER}.seed") for run in group.runs}
    is_one = len(seeds) == 1 and None not in seeds
    return (figure.measurement == TRANSFER and is_one) or len(set(values.values())) == 1


def pair_of(runs: Sequence[Run]) -> tuple[str, str] | None:
    """Return the two extractors to compare: first minus second; None if there are not two."""
    trained = {f.subject for run in runs for f in run.final if is_accuracy(f) and f.weights == "trained"}
    both_in_a_run = any(
        len({f.subject for f in run.final if is_accuracy(f) and f.weights == "trained"}) > 1 for run in runs
    )
    if set(_PREFERRED_PAIR) <= trained and both_in_a_run:
        return _PREFERRED_PAIR
    first, *second = sorted(trained, reverse=True) or [""]
    return (first, second[0]) if len(second) == 1 and both_in_a_run else None


def protocol_order(protocol: str) -> tuple[int, str]:
    """Return the place of a protocol in lists: the papers' first."""
    return (_PROBES.index(protocol) if protocol in _PROBES else len(_PROBES)), protocol
