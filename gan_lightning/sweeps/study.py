"""A sweep's trials as a study of Optuna, which is an optional extra: to choose the next point, and for its own tools.

The study is made of the trials' folders whenever it is needed, and is kept nowhere. Any number of machines that share
the folder therefore work on one search.

Optuna's spaces are uniform on a line or on its logarithm. A number of the distributions normal, log_normal and beta
stands in the study by its share of the distribution below it, and q_log_uniform by its number before rounding.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.distributions import Parameter, parameter
from gan_lightning.sweeps.trials import Trial, read_sweep_record, read_trials
from gan_lightning.system.trial_states import ENDED

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_INSIDE = 1e-6
"""Least distance of a share in the study from 0 and 1, where a normal distribution is infinite."""


def optuna_package() -> ModuleType:
    """Return Optuna.

    Raises:
        SettingError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise SettingError(
            "method bayes and --study need Optuna, which is not installed; install it with: "
            "pip install 'gan-lightning[sweeps]'. A grid, a random search and early stopping need nothing."
        ) from error
    return optuna


@dataclass(frozen=True)
class Dimension:
    """A parameter of a sweep as one of a study.

    Attributes:
        parameter: The sweep's.
        name: Its name in the study.
        distribution: Its distribution there.
    """

    parameter: Parameter
    name: str
    distribution: "BaseDistribution"

    def to_study(self, value: Any) -> Any:
        """Return what stands in the study for a value."""
        if self.parameter.values:
            return _label(value, self.parameter.values)
        number = self.parameter.share_of(value) if self.parameter.scale == "quantile" else value
        low, high = self.distribution.low, self.distribution.high  # type: ignore[attr-defined]
        return min(max(number, low), high)  # a rounded number may lie beyond its range

    def from_study(self, found: Any) -> Any:
        """Return the value for which something stands in the study."""
        if self.parameter.values:
            return next(value for value in self.parameter.values if _label(value, self.parameter.values) == found)
        if self.parameter.kind == "int_uniform":
            return int(found)
        return self.parameter.at(found) if self.parameter.scale == "quantile" else self.parameter.rounded(found)


def dimensions(space: Sequence[Parameter]) -> list[Dimension]:
    """Return the dimensions of a study over a sweep's parameters; those with a single value have none."""
    of = optuna_package().distributions
    made = []
    for each in space:
        name, values = each.name, each.values
        low, high = each.bounds if not values else (0.0, 0.0)
        if len(values) == 1 or (each.kind == "int_uniform" and low == high):
            continue
        if values:
            distribution = of.CategoricalDistribution([_label(value, values) for value in values])
        elif each.kind == "int_uniform":
            distribution = of.IntDistribution(int(low), int(high))
        elif each.kind == "q_uniform":
            first, last = each.rounded(low), each.rounded(high)
            if first == last:
                continue
            distribution = of.FloatDistribution(first, last, step=each.step)
        elif each.scale == "quantile":
            name, distribution = f"{name} (share below)", of.FloatDistribution(_INSIDE, 1 - _INSIDE)
        else:
            distribution = of.FloatDistribution(low, high, log=each.scale == "log")
        made.append(Dimension(each, name, distribution))
    return made


def study_of(trials: Sequence[Trial], space: Sequence[Parameter], metric: str | None, goal: str, seed: int) -> "Study":
    """Return the study of some trials, with a sampler of its own.

    Args:
        trials: The trials, in the sweep's order. Their results are the last values of the metric that they have logged.
        space: The sweep's parameters.
        metric: The metric's name.
        goal: `minimize` or `maximize`.
        seed: Of the sampler: tree-structured Parzen estimators of all parameters together, from the first trial on.
    """
    optuna = optuna_package()
    with _quiet(optuna):
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0, multivariate=True, constant_liar=True)
        made: Study = optuna.create_study(direction=goal, sampler=sampler)
        if metric:
            made.set_metric_names([metric])
        own = dimensions(space)
        made.add_trials([_frozen(trial, own, metric) for trial in trials])
    return made


def suggestion(study: "Study", space: Sequence[Parameter]) -> dict[str, Any]:
    """Return the parameters of the next trial by a study's sampler, in the order of the space."""
    optuna = optuna_package()
    chosen = {each.parameter.name: each for each in dimensions(space)}
    with _quiet(optuna):
        found = study.ask({each.name: each.distribution for each in chosen.values()}).params
    return {
        each.name: chosen[each.name].from_study(found[chosen[each.name].name]) if each.name in chosen else each.at(0.0)
        for each in space
    }


def study(folder: Path | str) -> "Study":
    """Return the trials in a sweep's folder as a study of Optuna, such as for `optuna.importance`.

    The values of a grid's parameters are categories. Each trial has its id, status, parameters and run folder as
    attributes, and all values that it has logged as intermediate ones.

    Args:
        folder: The sweep's folder.

    Raises:
        SettingError: Optuna is not installed, or the folder is not a sweep's.
    """
    record, trials = read_sweep_record(Path(folder)), read_trials(Path(folder))
    metric = record.get("metric") or {}
    if record.get("method") == "grid":
        found: dict[str, list[Any]] = {}
        for trial in trials:
            for name, value in trial.parameters.items():
                known = found.setdefault(name, [])
                known += [] if any(type(value) is type(own) and value == own for own in known) else [value]
        space = [parameter(name, {"values": values}) for name, values in found.items()]
    else:
        space = [parameter(name, spec) for name, spec in record["parameters"].items()]
    return study_of(trials, space, metric.get("name"), metric.get("goal", "minimize"), seed=0)


def write_study(folder: Path, file: Path) -> None:
    """Write a sweep's trials into an SQLite file that `optuna-dashboard` reads; a study of its name is replaced.

    Raises:
        SettingError: Optuna is not installed, the folder is not a sweep's, or the file cannot be written.
    """
    optuna = optuna_package()
    made, name = study(folder), str(read_sweep_record(folder)["name"])
    try:
        with _quiet(optuna):
            storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
            if name in [each.study_name for each in optuna.get_all_study_summaries(storage, include_best_trial=False)]:
                optuna.delete_study(study_name=name, storage=storage)
            written = optuna.create_study(storage=storage, study_name=name, direction=made.direction)
            if made.metric_names:
                written.set_metric_names(made.metric_names)
            written.add_trials(made.get_trials(deepcopy=False))
            storage.remove_session()
    except Exception as error:  # SQLAlchemy's, of a file that is none of its own or has no place
        why = str(error).strip().splitlines()[0]
        raise SettingError(f"--study must be a file to write an SQLite database to, got '{file}': {why}.") from error


def _frozen(trial: Trial, space: Sequence[Dimension], metric: str | None) -> "FrozenTrial":
    optuna = optuna_package()
    state = optuna.trial.TrialState
    history = trial.metric_history(metric) if metric else []
    ended = trial.status in ENDED
    states = {True: state.COMPLETE if history else state.FAIL, False: state.RUNNING}
    frozen: FrozenTrial = optuna.trial.create_trial(
        state=state.FAIL if trial.status == "failed" else states[ended],
        value=history[-1] if ended and history else None,
        params={each.name: each.to_study(trial.parameters[each.parameter.name]) for each in space},
        distributions={each.name: each.distribution for each in space},
        intermediate_values=dict(enumerate(history, start=1)),
        user_attrs={
            "trial": trial.id,
            "status": trial.status,
            "parameters": json.dumps(trial.parameters),
            "run": trial.run_folder,
        },
    )
    if trial.started:
        frozen.datetime_start = datetime.fromisoformat(trial.started).astimezone().replace(tzinfo=None)
        if frozen.state.is_finished():
            frozen.datetime_complete = frozen.datetime_start + timedelta(seconds=trial.seconds or 0.0)
    return frozen


def _label(value: Any, values: Sequence[Any]) -> str:
    """Return a category's name in a study: the text itself if all are texts, and JSON otherwise."""
    return value if all(isinstance(each, str) for each in values) else json.dumps(value, sort_keys=True)


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Keep Optuna from reporting each study, and from warning of what it calls experimental: names of metrics."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
