"""The answer of a search: the best trial, what mattered, and how sure that is."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from gan_lightning.dashboard.accuracies import Accuracies
from gan_lightning.dashboard.comparison import MANY_VALUES, Comparison, text_of
from gan_lightning.dashboard.figure_questions import asked_figure
from gan_lightning.dashboard.importance import importances
from gan_lightning.dashboard.rows import ACCURACY, GroupFigure, pair_of
from gan_lightning.dashboard.run_files import logged_of, pasted
from gan_lightning.dashboard.run_folders import UnmeasuredRun
from gan_lightning.dashboard.sentences import Question, counted
from gan_lightning.dashboard.statistics import best_trial, not_above, pooled_errors, share_error
from gan_lightning.system.trial_states import stopped_in_words

_MADE = (
    "The interval holds for all trials together (Bonferroni), so also for the chosen one; the candidates are Gupta's "
    "subset."
)
_CHOSEN = "The figure is the page's choice: no sweep names one."

SHOWN = 5
"""Number of settings whose importance is said."""


def is_search(comparison: Comparison) -> bool:
    """Return whether the runs look for a best setting instead of comparing a few."""
    return len(comparison.groups) > 2 and (comparison.scattered or len(comparison.x_values) > MANY_VALUES)


def search_question(
    comparison: Comparison,
    figures: Sequence[GroupFigure],
    sweeps: Mapping[str, Mapping[str, Any]],
    unmeasured: Sequence[UnmeasuredRun] = (),
) -> list[Question]:
    """Return the answer of a search, if all that it needs was measured.

    Args:
        comparison: The compared runs.
        figures: All of their figures.
        sweeps: Facts on the runs' sweeps.
        unmeasured: Further runs; the last values of those that were stopped early are said, and do not count as best.
    """
    name, largest, stated = _metric(comparison, figures, sweeps)
    trials = [found for found in figures if found.figure.name == name and not found.figure.axis]
    if not trials:
        return []
    values = [list(found.values.values()) for found in trials]
    means = [math.fsum(own) / len(own) for own in values]
    errors, freedom, of = _errors(trials, values, means)
    best = best_trial(means, largest, errors, freedom)
    winner = trials[best.index]
    chosen = comparison.settings[comparison.runs.index(winner.group.runs[0])]
    settings = ", ".join(f"{each} = {_short(chosen.get(each))}" for each in comparison.varying)
    runs = {run.name: i for i, run in enumerate(comparison.runs)}
    own = [
        {each: comparison.settings[runs[found.group.runs[0].name]].get(each) for each in comparison.varying}
        for found in trials
    ]
    below = _below(figures, winner)
    mattered, how = importances(own, means)
    shares = ", ".join(f"{each} {share:.0%}" for each, share in list(mattered.items())[:SHOWN])
    interval = "" if best.estimate.low is None else f" [{best.estimate.low:.4g}, {best.estimate.high:.4g}]"
    if best.candidates is None:
        doubt = "each trial has one seed, so how much of its lead is luck is not known"
    elif len(best.candidates) == 1:
        doubt = f"it is the truly best with 95% certainty, counting {of}"
    else:
        doubt = f"the truly best is, with 95% certainty, one of {len(best.candidates)} trials, counting {of}"
    return [
        Question(
            title=f"Search for the {'largest' if largest else 'smallest'} {name}",
            answer=f"Best of {counted(len(trials), 'trial')} that ran to the end: {best.estimate.mean:.4g}{interval} "
            f"with {settings}. "
            + _stopped(name, largest, comparison, unmeasured)
            + (f"What mattered: {shares}" if shares else "Too few trials to say what mattered"),
            verdict="",
            doubt=f"How sure: {doubt}" + (f". But {below}" if below else ""),
            made=" ".join(filter(None, [_MADE if best.candidates else "", f"Importance: {how}." if how else "",
                                        "" if stated else _CHOSEN])),
            beats_controls=not below,
            command=shlex.join(pasted(winner.group.runs[0].about.get("command"))),
            figure=name,
        )
    ]  # fmt: skip


def _stopped(name: str, largest: bool, comparison: Comparison, unmeasured: Sequence[UnmeasuredRun]) -> str:
    """Return a sentence on the trials that were stopped early; empty without any."""
    sweeps = {run.sweep for run in comparison.runs}
    stopped = [run for run in unmeasured if run.status == "stopped" and run.sweep in sweeps]
    last = [points[-1][1] for run in stopped if (points := logged_of(run.folder).get(name))]
    said = stopped_in_words(len(stopped), f"{(max if largest else min)(last):.4g}" if last else None)
    return f"{said} " if said else ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)


def _metric(
    comparison: Comparison, figures: Sequence[GroupFigure], sweeps: Mapping[str, Mapping[str, Any]]
) -> tuple[str, bool, bool]:
    """Return the figure that the search is for, whether the largest is best, and whether a sweep says so."""
    asked = asked_figure(comparison, figures, sweeps)
    if asked and asked[2]:
        return asked
    accuracies = Accuracies.among(figures)
    first = (pair_of(comparison.runs) or ("",))[0]
    for probe in sorted(accuracies.protocols, key=lambda probe: probe != "tuned"):
        subjects = accuracies.subjects(probe)
        return f"transfer/{first if first in subjects else subjects[0]}/{probe}/{ACCURACY}", True, False
    return asked or ("", True, False)


def _errors(
    trials: Sequence[GroupFigure], values: Sequence[Sequence[float]], means: Sequence[float]
) -> tuple[list[float] | None, float | int, str]:
    """Return the standard errors of the trials' figures, their degrees of freedom, and where they come from."""
    if pooled := pooled_errors(values):
        return *pooled, "the spread of seeds, taken as equal in all trials"
    images = [found.figure.images for found in trials]
    if trials[0].figure.metric == ACCURACY and all(images):
        errors = [share_error(mean, int(own or 1)) for mean, own in zip(means, images, strict=True)]
        return errors, math.inf, "the choice of the test images alone, not the seeds"
    return None, math.inf, ""


def _below(figures: Sequence[GroupFigure], winner: GroupFigure) -> str:
    """Return which control the best trial is not above, in words; empty for none."""
    found = Accuracies.among(figures)
    above = found.over_controls([winner.place], winner.figure.subject, winner.figure.protocol)
    return not_above(above, winner.estimate.n)
