"""W&B's distributions of a parameter: what a sweep file may say of each, and how a random number becomes a value.

Source:
    W&B, "Sweep configuration options", Distribution options for random and Bayesian search.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from gan_lightning.errors import SettingError

_RANGE = {"min": None, "max": None}
_NORMAL, _BETA, _STEP = {"mu": 0.0, "sigma": 1.0}, {"a": 1.0, "b": 1.0}, {"q": 1}

DISTRIBUTIONS: Mapping[str, Mapping[str, Any]] = {
    "constant": {"value": None},
    "categorical": {"values": None},
    "categorical_w_probabilities": {"values": None, "probabilities": None},
    "int_uniform": _RANGE,
    "uniform": _RANGE,
    "q_uniform": _RANGE | _STEP,
    "log_uniform": _RANGE,
    "log_uniform_values": _RANGE,
    "q_log_uniform": _RANGE | _STEP,
    "q_log_uniform_values": _RANGE | _STEP,
    "inv_log_uniform": _RANGE,
    "inv_log_uniform_values": _RANGE,
    "normal": _NORMAL,
    "q_normal": _NORMAL | _STEP,
    "log_normal": _NORMAL,
    "q_log_normal": _NORMAL | _STEP,
    "beta": _BETA,
    "q_beta": _BETA | _STEP,
}
"""The settings of each distribution with their defaults; None where a value has to be given."""

PARAMETER_KEYS = {"distribution"}.union(*DISTRIBUTIONS.values())
LISTS = ("constant", "categorical", "categorical_w_probabilities")
"""Distributions over values that the file lists."""

LEAST_SHARE = 2.0**-53
"""Stands for a share of 0, at which a normal distribution is infinite: the distance between two random numbers."""

_FAR = 0.001
"""Share of an unbounded distribution below the value that stands for its lower end."""

Number = int | float
Scale = Literal["linear", "log", "quantile"]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a sweep.

    Attributes:
        name: Its dotted key of the command line.
        kind: One of `DISTRIBUTIONS`.
        settings: The distribution's settings, defaults included.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]

    @property
    def values(self) -> Sequence[Any]:
        """The values that the file lists; those of probability 0 are left out. Empty for numbers of a range."""
        if self.kind == "constant":
            return [self.settings["value"]]
        values = self.settings.get("values", [])
        weights = self.settings.get("probabilities", [1.0] * len(values))
        return [value for value, weight in zip(values, weights, strict=True) if weight > 0]

    @property
    def scale(self) -> Scale:
        """The scale on which the distribution is uniform: the numbers, their logarithms, or its own quantiles."""
        if "log_uniform" in self.kind:
            return "log"
        return "linear" if "uniform" in self.kind else "quantile"

    @property
    def step(self) -> Number | None:
        """The number of which all values are multiples, if there is one."""
        return self.settings.get("q")

    @property
    def bounds(self) -> tuple[Number, Number]:
        """The least and the greatest number before rounding; infinite for normal distributions.

        `log_uniform` has exponents of e as its bounds, `inv_log_uniform` those of 1/x.
        """
        if "beta" in self.kind:
            return 0.0, 1.0
        if "normal" in self.kind:
            return (0.0 if "log" in self.kind else -math.inf), math.inf
        low, high = self.settings["min"], self.settings["max"]
        if self.scale == "linear" or self.kind.endswith("_values"):
            return low, high
        return (math.exp(-high), math.exp(-low)) if self.kind.startswith("inv_") else (math.exp(low), math.exp(high))

    def at(self, share: Number) -> Any:
        """Return the value below which a share of the distribution lies: its quantile. A list has its file's order.

        Args:
            share: In [0, 1].
        """
        if self.kind in LISTS:
            return self._listed_at(share)
        low, high = self.bounds
        if self.kind == "int_uniform":
            return int(low) + min(int(share * (high - low + 1)), int(high - low))
        if self.scale == "linear":
            return self.rounded(low + share * (high - low))
        if self.scale == "log":
            return self.rounded(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
        share = min(max(share, LEAST_SHARE), 1 - LEAST_SHARE)
        if "beta" in self.kind:
            from scipy.special import betaincinv

            return self.rounded(float(betaincinv(self.settings["a"], self.settings["b"], share)))
        number = self._normal.inv_cdf(share)
        return self.rounded(math.exp(number) if "log" in self.kind else number)

    def share_of(self, value: Number) -> float:
        """Return the share of a normal or beta distribution below a value."""
        if "beta" in self.kind:
            from scipy.special import betainc

            return float(betainc(self.settings["a"], self.settings["b"], min(max(value, 0.0), 1.0)))
        if "log" in self.kind:
            return 0.0 if value <= 0 else self._normal.cdf(math.log(value))
        return self._normal.cdf(value)

    def rounded(self, number: Number) -> Number:
        """Return a number as the distribution has it: a multiple of `q`, whole if `q` is."""
        if self.step is None:
            return number
        return round(number / self.step) * self.step

    def ends(self) -> list[Any]:
        """Return the listed values, or the ends of a range; for unbounded numbers, the ends of 99.8% of them."""
        if self.kind in LISTS:
            return list(self.values)
        return [self.at(share) for share in ((0.0, 1.0) if all(map(math.isfinite, self.bounds)) else (_FAR, 1 - _FAR))]

    def contains(self, value: Any) -> bool:
        """Return whether the distribution can have a value."""
        if self.kind in LISTS:
            return any(type(value) is type(own) and value == own for own in self.values)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        low, high = self.bounds
        beyond = (self.step or 0) / 2
        return bool(low - beyond - 1e-9 * abs(low) <= value <= high + beyond + 1e-9 * abs(high))

    @property
    def _normal(self) -> NormalDist:
        return NormalDist(self.settings["mu"], self.settings["sigma"])

    def _listed_at(self, share: Number) -> Any:
        values = self.settings.get("values", [self.settings.get("value")])
        weights = self.settings.get("probabilities", [1 / len(values)] * len(values))
        below = 0.0
        for value, weight in zip(values, weights, strict=True):
            below += weight
            if weight > 0 and share < below:
                return value
        return self.values[-1]


def parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    """Return a parameter by its description in a sweep file.

    Raises:
        SettingError: The distribution is unknown, or one of its settings is missing, unknown or impossible.
    """
    kind = spec.get("distribution", _implied(spec))
    if kind not in DISTRIBUTIONS:
        given = f"got {kind!r}" if "distribution" in spec else f"got none for {dict(spec)}"
        raise SettingError(
            f"distribution of {name} must be one of {', '.join(DISTRIBUTIONS)}, {given}."
            f"{did_you_mean(kind, DISTRIBUTIONS)}"
        )
    defaults = DISTRIBUTIONS[kind]
    own = {key: value for key, value in spec.items() if key != "distribution"}
    if unknown := sorted(own.keys() - defaults):
        raise SettingError(f"{name} must not have {unknown[0]} with the distribution {kind}, got {own[unknown[0]]!r}.")
    if missing := [key for key, default in defaults.items() if default is None and key not in own]:
        raise SettingError(f"{name} must have {' and '.join(missing)} with the distribution {kind}, got {own}.")
    made = Parameter(name, kind, {**defaults, **own})
    _check(made)
    return made


def did_you_mean(name: object, known: Any) -> str:
    """Return a sentence with the known name that is most like a wrong one; empty if none is."""
    close = difflib.get_close_matches(str(name), [str(each) for each in known], n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def _implied(spec: Mapping[str, Any]) -> str | None:
    """Return the distribution that W&B takes where none is named."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if {"min", "max"} <= spec.keys():
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    return None


def _check(made: Parameter) -> None:
    """Check the settings of a distribution.

    Raises:
        SettingError: Naming the first that it cannot have.
    """

    def refuse(key: str, condition: str) -> SettingError:
        return SettingError(f"{key} of {made.name} must {condition} ({made.kind}), got {made.settings[key]!r}.")

    if made.kind in LISTS:
        _check_lists(made, refuse)
        return
    for key, value in made.settings.items():
        whole = made.kind == "int_uniform"
        if isinstance(value, str) and _is_number(value):
            raise refuse(key, f"be a number, which YAML takes for a text without a point: write {float(value)!r}")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not math.isfinite(value):
            raise refuse(key, "be a whole number" if whole else "be a finite number")
        if key in ("q", "sigma", "a", "b") and value <= 0:
            raise refuse(key, "be above 0")
    if "max" in made.settings:
        low, high = made.settings["min"], made.settings["max"]
        if high < low or (high == low and made.kind != "int_uniform"):
            raise refuse("max", f"be above min, {low}")
        if made.kind.endswith("_values") and low <= 0:
            raise refuse("min", "be above 0, for it has a logarithm")


def _check_lists(made: Parameter, refuse: Any) -> None:
    if made.kind == "constant":
        return
    values, weights = made.settings["values"], made.settings.get("probabilities", [1.0])
    if not isinstance(values, list) or not values:
        raise SettingError(f"the values of {made.name} must be a list of at least one, got {values!r}.")
    if made.kind == "categorical_w_probabilities":
        numbers = isinstance(weights, list) and all(isinstance(each, int | float) and each >= 0 for each in weights)
        if not numbers or len(weights) != len(values):
            raise refuse("probabilities", f"be {len(values)} numbers of at least 0, one for each value")
        if not math.isclose(sum(weights), 1.0, rel_tol=1e-6):
            raise refuse("probabilities", f"add up to 1, not {sum(weights):g}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
