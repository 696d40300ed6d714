"""Random and Bayesian search and early stopping, by W&B's engine: the `sweeps` package, an optional extra."""

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.sweeps.trials import ENDED, Trial

_DRAWS = 100
"""Number of repeated points in a row after which the search counts as exhausted."""


def wandb_engine() -> ModuleType:
    """Return the `sweeps` package.

    Raises:
        SettingError: If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, about how the package is written
            # The package would import this at its first use. Its random numbers are seeded by then, and the import
            # draws some.
            import sweeps.bayes_search
            import sweeps.config

            import sweeps
    except ImportError as error:
        raise SettingError(
            "method random or bayes and early_terminate need W&B's engine, which is not installed; "
            "install it with: pip install 'gan-lightning[sweeps]'. A grid needs nothing."
        ) from error
    return sweeps


def check_with_engine(sweep: Sweep) -> None:
    """Check a sweep against W&B's schema.

    Raises:
        SettingError: Naming the parts that do not fit.
    """
    try:
        violations = wandb_engine().config.schema_violations_from_proposed_config(sweep.engine_config)
    except ValueError as error:
        violations = [str(error)]
    if violations:
        raise SettingError(f"the sweep must fit W&B's schema: {'; '.join(violations)} ({sweep.path})")


def random_points(sweep: Sweep, count: int) -> list[Point]:
    """Return the first `count` points of a random search, always the same; fewer if there are no more.

    It draws from any sweep's parameters, also from a grid's.
    """
    drawing = replace(sweep, method="random")
    points: dict[str, Point] = {}
    repeated = draw = 0
    while len(points) < count and repeated < _DRAWS:
        point = Point(len(points), _next_parameters(drawing, [], draw))
        repeated = repeated + 1 if point.id in points else 0
        points.setdefault(point.id, point)
        draw += 1
    return list(points.values())


def next_point(sweep: Sweep, trials: Sequence[Trial]) -> Point | None:
    """Return the next point of Bayesian search after these trials; None if it only repeats itself."""
    known = {trial.id for trial in trials}
    index = max((trial.index for trial in trials), default=-1) + 1
    for draw in range(_DRAWS):
        point = Point(index, _next_parameters(sweep, trials, index * _DRAWS + draw))
        if point.id not in known:
            return point
    return None


def trials_to_stop(sweep: Sweep, trials: Sequence[Trial]) -> set[str]:
    """Return the ids of running trials that early stopping gives up."""
    stopped = wandb_engine().stop_runs(sweep.engine_config, [_engine_run(sweep, trial) for trial in trials])
    return {run.name for run in stopped}


def _next_parameters(sweep: Sweep, trials: Sequence[Trial], seed: int) -> Mapping[str, Any]:
    """Ask the engine with seeded random numbers; the process's own random state stays unchanged."""
    engine, runs = wandb_engine(), [_engine_run(sweep, trial) for trial in trials]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (the engine draws from these)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the Gaussian process about its few points
            run = engine.next_run(sweep.engine_config, runs)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
    return {name: _plain(run.config[name]["value"]) for name in sweep.parameters}


def _engine_run(sweep: Sweep, trial: Trial) -> Any:
    engine = wandb_engine()
    name = (sweep.metric or {}).get("name", "")
    history = trial.metric_history(name)
    return engine.SweepRun(
        name=trial.id,
        config={key: {"value": value} for key, value in trial.parameters.items()},
        state=engine.RunState.running if trial.status == "running" else _engine_state(engine, trial),
        summary_metrics={name: history[-1]} if history else {},
        history=[{name: value} for value in history],
    )


def _engine_state(engine: ModuleType, trial: Trial) -> Any:
    return engine.RunState.finished if trial.status in ENDED else engine.RunState.failed


def _plain(value: object) -> object:
    """Return a Python number for one of numpy's: JSON does not take these."""
    return value.item() if isinstance(value, np.generic) else value
