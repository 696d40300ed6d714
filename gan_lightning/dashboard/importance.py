"""How much each setting of a search mattered for its figure."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from gan_lightning.dashboard.comparison import text_of

FEWEST = 8
"""With fewer trials nothing is said."""


def importances(settings: Sequence[Mapping[str, Any]], values: Sequence[float]) -> tuple[dict[str, float], str]:
    """Return the importance of each setting, the largest first, and how it was made.

    Args:
        settings: Of each trial; only settings that differ.
        values: The figure of each trial.

    Returns:
        Optuna's share of the figure's variance that a forest explains by each setting, if Optuna is installed.
        Otherwise the share of the variance of the figure's ranks that the setting explains alone: the squared rank
        correlation for numbers, the share between the values for anything else. Empty for fewer than 8 trials.
    """
    if len(values) < FEWEST or min(values) == max(values):
        return {}, ""
    with suppress(ImportError, ValueError, RuntimeError):
        return _by_optuna(settings, values), "Optuna's fANOVA"
    ranks = _ranks(values)
    found = {name: _explained([own.get(name) for own in settings], ranks) for name in settings[0]}
    return _sorted(found), "rank correlation, squared; install Optuna for shares of all settings together"


def _sorted(found: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _by_optuna(settings: Sequence[Mapping[str, Any]], values: Sequence[float]) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces: dict[str, optuna.distributions.BaseDistribution] = {}
    columns: dict[str, list[Any]] = {}
    for name in settings[0]:
        own: list[Any] = [each.get(name) for each in settings]
        if all(map(_is_number, own)) and min(own) < max(own):
            wide = min(own) > 0 and max(own) / min(own) > 50
            columns[name] = [float(each) for each in own]
            spaces[name] = optuna.distributions.FloatDistribution(min(columns[name]), max(columns[name]), log=wide)
        else:
            columns[name] = [text_of(each) for each in own]
            spaces[name] = optuna.distributions.CategoricalDistribution(sorted(set(columns[name])))
    study = optuna.create_study()
    for i, value in enumerate(values):
        parameters = {name: own[i] for name, own in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=parameters, distributions=spaces, value=float(value)))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return _sorted(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _ranks(values: Sequence[float | int]) -> list[float]:
    """Return the ranks of values; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def _explained(own: Sequence[Any], ranks: Sequence[float]) -> float:
    centre = math.fsum(ranks) / len(ranks)
    away = [rank - centre for rank in ranks]
    total = math.fsum(each * each for each in away)
    if all(map(_is_number, own)):
        places = _ranks(own)
        middle = math.fsum(places) / len(places)
        square = math.fsum((place - middle) ** 2 for place in places)
        product = math.fsum((place - middle) * each for place, each in zip(places, away, strict=True))
        return product**2 / (square * total) if square else 0.0
    groups: dict[str, list[float]] = {}
    for value, each in zip(own, away, strict=True):
        groups.setdefault(text_of(value), []).append(each)
    return math.fsum(math.fsum(group) ** 2 / len(group) for group in groups.values()) / total
