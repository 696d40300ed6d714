"""The question to runs without accuracies: how a figure such as FID depends on a setting, or which setting is best."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from gan_lightning.dashboard.comparison import Comparison
from gan_lightning.dashboard.rows import GroupFigure
from gan_lightning.dashboard.sentences import Question, counted, listed, settings_of
from gan_lightning.dashboard.statistics import Estimate, best_of_paired, paired_slope, simultaneous, verdict

_LARGEST = {"fid": False, "kid": False, "accuracy": True, "precision": True}
"""Metrics to ask for if no sweep names one, the first that was measured, and whether the largest is the best."""

_STEPS = {"shares_removed": "with each layer no longer shared"}
"""Words for one more of a setting."""

_COUNTED_RANGE = 20
"""Whole numbers within this range are counted one by one."""

_DOUBLED = 4
"""From this ratio of the largest to the smallest value on, a slope is per doubling."""


def numbers_of(values: Iterable[Any]) -> list[float] | None:
    """Return the values of an ordered setting; None if one is no number, or if there are not two."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) and len(set(numbers)) > 1 else None


def step_of(x: str, numbers: Sequence[float]) -> tuple[Callable[[float], float], str]:
    """Return the scale on which a slope is taken, and words for one step on it."""
    low, high = min(numbers), max(numbers)
    if x in _STEPS:
        return float, _STEPS[x]
    if all(number.is_integer() for number in numbers) and high - low <= _COUNTED_RANGE:
        return float, f"with each 1 more of {x}"
    if low > 0 and high / low >= _DOUBLED:
        return math.log2, f"with each doubling of {x}"
    return (lambda value: value / (high - low)), f"from {x} = {low:g} to {high:g}"


def asked_figure(
    comparison: Comparison, figures: Sequence[GroupFigure], sweeps: Mapping[str, Mapping[str, Any]]
) -> tuple[str, bool, bool] | None:
    """Return the figure of a sweep's metric, whether the largest is best, and whether a sweep says so; None without."""
    single = {found.figure.name: found.figure for found in figures if not found.figure.axis}
    for sweep in sorted({run.sweep for run in comparison.runs if run.sweep}):
        metric = sweeps.get(sweep, {}).get("metric") or {}
        if metric.get("name") in single:
            return metric["name"], metric.get("goal", "minimize") == "maximize", True
    for metric, largest in _LARGEST.items():
        own = [name for name, figure in single.items() if figure.metric == metric and not figure.condition]
        if own:
            return own[0], largest, False
    return None


def figure_question(
    comparison: Comparison,
    figures: Sequence[GroupFigure],
    sweeps: Mapping[str, Mapping[str, Any]],
    scale: tuple[Callable[[float], float], str] | None,
) -> list[Question]:
    """Return how a figure depends on the setting; empty if none is known to be better large or small.

    Args:
        comparison: The compared runs.
        figures: All of their figures.
        sweeps: Facts on the runs' sweeps.
        scale: Of an ordered setting, and words for one step on it; None for an unordered one.
    """
    asked = asked_figure(comparison, figures, sweeps)
    own = [found for found in figures if asked and found.figure.name == asked[0] and not found.figure.axis]
    if asked is None or len(own) < 2:
        return []
    name, largest, stated = asked
    order = sorted(own, key=lambda found: -found.estimate.mean if largest else found.estimate.mean)
    slope = _slope(own, *scale) if scale and len(comparison.variants) == 1 else None
    answer, said, doubt, made = slope or _best(own, largest)
    chosen = "" if stated else " The figure is the page's choice: no sweep names one."
    held = dict(zip(map(id, own), simultaneous([found.estimate for found in own]), strict=True))
    rows = [
        settings_of(comparison, found.place)
        | {
            name: f"{found.estimate.mean:.4g}",
            "95% interval": _between(held[id(found)]),
            "Seeds": str(found.estimate.n),
        }
        for found in (own if slope else order)
    ]
    title = f"{name} against {comparison.x}" if slope else f"Which {comparison.x} has the {_end(largest)} {name}?"
    return [Question(title, f"{name} {answer}", said, doubt, made + chosen, rows, figure=name)]


def _end(largest: bool) -> str:
    return "largest" if largest else "smallest"


def _slope(
    own: Sequence[GroupFigure], scale: Callable[[float], float], phrase: str
) -> tuple[str, str, str, str] | None:
    x = [scale(float(found.group.fields["x"])) for found in own]
    seeds = [seed for seed in own[0].values if all(seed in found.values for found in own)]
    if len(set(x)) < 2 or not seeds:
        return None
    found = paired_slope(x, [[each.values[seed] for each in own] for seed in seeds])
    decided = verdict(found, {})
    verb = {1: "grows", -1: "falls", 0: "changes"}[decided.sign]
    runs = f"{len(own) * found.n} runs, {counted(found.n, 'seed')}"
    answer = f"{verb} by {found.mean:+.3g}{_between(found, space=True)} {phrase}; {runs}"
    made = (
        "The slope is each seed's least-squares slope, with Student's 95% interval over the seeds that have every "
        "setting. In the table, intervals of all rows hold together."
    )  # fmt: skip
    return answer, {1: "It grows", -1: "It falls", 0: ""}[decided.sign], decided.reason, made


def _best(own: Sequence[GroupFigure], largest: bool) -> tuple[str, str, str, str]:
    best, rivals = best_of_paired([found.values for found in own], largest)
    mean = simultaneous([found.estimate for found in own])[best]
    names = [" ".join(filter(None, [str(found.group.fields["x"]), found.group.fields["variant"]])) for found in own]
    runs = f"{sum(found.estimate.n for found in own)} runs, {counted(mean.n, 'seed')}"
    answer = (
        f"is {_end(largest)} with {names[best]}: {mean.mean:.4g}{_between(mean, space=True)} among {len(own)}; {runs}"
    )
    doubt = f"not told apart from {listed([names[i] for i in rivals])}" if rivals else ""
    made = (
        "Differences are paired over seeds; Student's 95% intervals of all pairs hold together (Bonferroni), so also "
        "for the chosen one. The intervals of all means hold together, too."
    )
    return answer, "" if doubt else f"{names[best]} is best", doubt, made


def _between(found: Estimate, space: bool = False) -> str:
    if found.low is None or found.high is None:
        return "" if space else "-"
    return f"{' ' if space else ''}[{found.low:.4g}, {found.high:.4g}]"
