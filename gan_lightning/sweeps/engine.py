"""Chooses points: at random by W&B's distributions, and by Optuna after the results so far. Gives up trials, too.

Everything follows from the sweep and its trials. A search that goes on, or runs elsewhere, chooses the same points.
"""

import math
import random
from collections.abc import Sequence

from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.sweeps.study import optuna_package, study_of, suggestion
from gan_lightning.sweeps.trials import Status, Trial
from gan_lightning.system.trial_states import ENDED

STARTUP = 10
"""Number of results that a Bayesian search begins to learn from; until then its points are random."""

_DRAWS = 100
"""Number of repeated points in a row after which a random search counts as exhausted."""

_SUGGESTIONS = 10
"""Number of repeated suggestions in a row after which a Bayesian search takes a random point."""


def engine_of(sweep: Sweep) -> str | None:
    """Return the engine that chooses a search's points, with the part of its version that may change them.

    Raises:
        SettingError: Optuna is needed, and is not installed.
    """
    if sweep.method == "bayes":
        return f"optuna {'.'.join(optuna_package().__version__.split('.')[:2])}"
    return None if sweep.method == "grid" else "random 1"


def random_points(sweep: Sweep, count: int) -> list[Point]:
    """Return the first `count` points of a random search, always the same; fewer if there are no more.

    It draws from any sweep's parameters, also from a grid's.
    """
    points: dict[str, Point] = {}
    repeated = draw = 0
    while len(points) < count and repeated < _DRAWS:
        point = _random_point(sweep, len(points), str(draw))
        repeated = repeated + 1 if point.id in points else 0
        points.setdefault(point.id, point)
        draw += 1
    return list(points.values())


def next_point(sweep: Sweep, trials: Sequence[Trial]) -> Point | None:
    """Return the next point of a Bayesian search after these trials; None if it only repeats itself."""
    known = {trial.id for trial in trials}
    index = max((trial.index for trial in trials), default=-1) + 1
    results = [trial for trial in trials if trial.status in ENDED and trial.metric_history(sweep.metric_name or "")]
    if len(results) >= STARTUP:
        for draw in range(_SUGGESTIONS):
            study = study_of(trials, sweep.space, sweep.metric_name, sweep.goal, seed=index * _SUGGESTIONS + draw)
            point = Point(index, suggestion(study, sweep.space))
            if point.id not in known:
                return point
    candidates = (_random_point(sweep, index, f"{index} {draw}") for draw in range(_DRAWS))
    return next((point for point in candidates if point.id not in known), None)


def trials_to_stop(sweep: Sweep, trials: Sequence[Trial]) -> set[str]:
    """Return the ids of running trials that early stopping gives up."""
    if sweep.stopping is None:
        return set()
    curves = {trial.id: trial.metric_history(sweep.metric_name or "") for trial in trials}
    running = [trial.id for trial in trials if trial.status == "running"]
    return sweep.stopping.to_stop(curves, running, sweep.goal)


def target_reached(sweep: Sweep, trials: Sequence[Trial]) -> Trial | None:
    """Return a trial that has ever logged the metric's target or better, if there is a target: none begins any more."""
    target = (sweep.metric or {}).get("target")
    if target is None:
        return None
    sign = 1.0 if sweep.goal == "maximize" else -1.0
    best = {
        trial.id: max((sign * v for v in trial.metric_history(sweep.metric_name or "")), default=-math.inf)
        for trial in trials
    }
    return next((trial for trial in trials if best[trial.id] >= sign * target), None)


def best_trial(sweep: Sweep, trials: Sequence[Trial], status: Status = "finished") -> tuple[Trial, float] | None:
    """Return the trial with the best last value of the metric, and that value; None without one.

    Args:
        sweep: Of the trials.
        trials: Those to compare.
        status: Of the trials that count. The best of a search is one that ran to its end: `finished`.
    """
    histories = [(each, each.metric_history(sweep.metric_name or "")) for each in trials if each.status == status]
    results = [(trial, history[-1]) for trial, history in histories if history]
    sign = 1.0 if sweep.goal == "maximize" else -1.0
    return max(results, key=lambda result: sign * result[1], default=None)


def _random_point(sweep: Sweep, index: int, seed: str) -> Point:
    """Return a point at random; the process's own random state stays unchanged."""
    rng = random.Random(seed)
    return Point(index, {each.name: each.at(rng.random()) for each in sweep.space})
