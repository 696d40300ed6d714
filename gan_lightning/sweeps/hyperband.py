"""W&B's early stopping: a trial is given up that is not among the best of all trials after as many values.

Source:
    Li et al. 2018, "Hyperband", and W&B's `early_terminate`, whose rule differs from the paper's: it looks at all
    trials that have got as far, whenever they got there.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.distributions import did_you_mean

_MOST_BANDS = 100
_SETTINGS = ("type", "min_iter", "max_iter", "s", "eta", "strict")


@dataclass(frozen=True)
class Hyperband:
    """The rule with a sweep file's settings.

    Attributes:
        bands: Numbers of logged values after which trials are compared, in order.
        eta: Of the trials at a band, the best 1/eta go on.
        strict: Whether a trial's value at the band decides, rather than the best of all its values.
    """

    bands: Sequence[int]
    eta: int | float
    strict: bool

    def to_stop(self, curves: Mapping[str, Sequence[int | float]], running: Collection[str], goal: str) -> set[str]:
        """Return the trials to give up.

        Args:
            curves: The values of the metric that each trial has logged, by its id; of trials in any state.
            running: Ids of the trials that can be given up.
            goal: `minimize` or `maximize`.
        """
        sign = -1.0 if goal == "maximize" else 1.0
        histories = {name: [sign * value for value in curve] for name, curve in curves.items() if curve}
        stopped = set()
        for name in running:
            history = histories.get(name, [])
            reached = [band for band in self.bands if band <= len(history)]
            if not reached:
                continue
            at_band = sorted(each[reached[-1] - 1] for each in histories.values() if len(each) >= reached[-1])
            # int((1/eta) * n) and int(n / eta) differ, such as for 49 values and eta 49.
            threshold = at_band[int(1.0 / self.eta * len(at_band))]
            if (history[reached[-1] - 1] if self.strict else min(history)) > threshold:
                stopped.add(name)
        return stopped


def hyperband(settings: object) -> Hyperband:
    """Return the rule by the `early_terminate` of a sweep file.

    Raises:
        SettingError: Naming the setting that is missing, unknown or impossible.
    """
    if not isinstance(settings, dict) or settings.get("type") != "hyperband":
        kind = settings.get("type") if isinstance(settings, dict) else settings
        raise SettingError(f"early_terminate.type must be hyperband, got {kind!r}.")
    for name in settings:
        if name not in _SETTINGS:
            raise SettingError(
                f"early_terminate must have {', '.join(_SETTINGS)} alone, got '{name}'.{did_you_mean(name, _SETTINGS)}"
            )
    eta, strict = settings.get("eta", 3), settings.get("strict", False)
    if not _is_number(eta) or eta <= 1:
        raise SettingError(f"early_terminate.eta must be above 1, got {eta!r}.")
    if not isinstance(strict, bool):
        raise SettingError(f"early_terminate.strict must be true or false, got {strict!r}.")
    if ("min_iter" in settings) == ("max_iter" in settings):
        given = "both" if "min_iter" in settings else "neither"
        raise SettingError(f"early_terminate must have min_iter, or max_iter and s, got {given}.")
    if "min_iter" in settings:
        if "s" in settings:
            raise SettingError(f"early_terminate.s must stand beside max_iter, got {settings['s']!r} beside min_iter.")
        return Hyperband(_upwards(_whole(settings, "min_iter"), eta), eta, strict)
    return Hyperband(_downwards(_whole(settings, "max_iter"), eta, _whole(settings, "s")), eta, strict)


def _upwards(first: int | float, eta: int | float) -> list[int]:
    """Return the bands from the first on, each eta times the one before."""
    bands: list[int] = []
    while len(bands) < _MOST_BANDS and math.isfinite(first):
        bands.append(int(first))
        first *= eta
    return bands


def _downwards(last: int | float, eta: int | float, count: int) -> list[int]:
    """Return the bands before the last number of values, each an eta-th of the one after."""
    bands: list[int] = []
    while len(bands) < count and (last := last / eta) >= 1:
        bands.insert(0, int(last))
    if not bands:
        raise SettingError("early_terminate must have a band: max_iter must be at least eta. Raise max_iter.")
    return bands


def _whole(settings: Mapping[str, Any], name: str) -> int:
    value = settings.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SettingError(f"early_terminate.{name} must be a whole number of at least 1, got {value!r}.")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
