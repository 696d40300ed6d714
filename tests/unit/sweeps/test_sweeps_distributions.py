"""W&B's distributions against their documented meaning: moments, bounds, and W&B's own package if it is installed."""

import math
from statistics import fmean, pvariance

import pytest

from gan_lightning.sweeps.distributions import DISTRIBUTIONS, parameter

DRAWS = 4000
SHARES = [(i + 0.5) / DRAWS for i in range(DRAWS)]
"""As many quantiles: a draw without chance."""

LOG = math.log(8 / 0.5)
CASES = {
    # name: description, bounds, mean, variance; of log x where x is log-uniform or log-normal
    "int_uniform": ({"min": 2, "max": 9}, (2, 9), 5.5, (8**2 - 1) / 12),
    "uniform": ({"min": -1, "max": 3.0, "distribution": "uniform"}, (-1, 3), 1.0, 16 / 12),
    "q_uniform": ({"min": 0, "max": 10, "q": 2}, (0, 10), 5.0, 0.2 * 25 + 0.4 * 9 + 0.4 * 1),
    "log_uniform": ({"min": math.log(0.5), "max": math.log(8)}, (0.5, 8), math.log(2), LOG**2 / 12),
    "log_uniform_values": ({"min": 0.5, "max": 8}, (0.5, 8), math.log(2), LOG**2 / 12),
    "inv_log_uniform": ({"min": -math.log(8), "max": -math.log(0.5)}, (0.5, 8), math.log(2), LOG**2 / 12),
    "inv_log_uniform_values": ({"min": 0.5, "max": 8}, (0.5, 8), math.log(2), LOG**2 / 12),
    "normal": ({"mu": 1, "sigma": 2}, None, 1.0, 4.0),
    "log_normal": ({"mu": 1, "sigma": 2}, (0, math.inf), 1.0, 4.0),
    "beta": ({"a": 2, "b": 6}, (0, 1), 0.25, 2 * 6 / (8**2 * 9)),
    "q_normal": ({"mu": 1, "sigma": 2, "q": 0.1}, None, 1.0, 4.0),
    "q_beta": ({"a": 2, "b": 6, "q": 0.01}, (0, 1), 0.25, 2 * 6 / (8**2 * 9)),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_distribution_has_the_bounds_and_moments_that_wandb_documents(kind):
    spec, bounds, mean, variance = CASES[kind]
    own = parameter("x", spec if kind == "int_uniform" else {"distribution": kind, **spec})
    drawn = [own.at(share) for share in SHARES]
    assert drawn == sorted(drawn), "a quantile rises"
    if bounds is not None:
        assert bounds[0] - 1e-9 <= drawn[0]
        assert drawn[-1] <= bounds[1] + 1e-9
    assert all(map(own.contains, drawn))
    values = list(map(math.log, drawn)) if "log" in kind else drawn
    assert fmean(values) == pytest.approx(mean, abs=0.01)
    assert pvariance(values) == pytest.approx(variance, rel=0.01)
    if own.scale == "quantile" and own.step is None:
        assert [own.share_of(value) for value in drawn[::200]] == pytest.approx(SHARES[::200])


@pytest.mark.parametrize("kind", [kind for kind in DISTRIBUTIONS if kind.startswith("q_")])
def test_a_quantised_distribution_is_the_plain_one_rounded_to_multiples(kind):
    spec = {"min": 1, "max": 7} if "uniform" in kind else {}
    for q in (1, 2, 0.25):
        plain, own = (
            parameter("x", {"distribution": each, **spec, **more}) for each, more in ((kind[2:], {}), (kind, {"q": q}))
        )
        drawn = [own.at(share) for share in SHARES[::40]]
        assert drawn == [round(plain.at(share) / q) * q for share in SHARES[::40]]
        assert {type(value) for value in drawn} == {int if q != 0.25 else float}
    assert parameter("x", {"distribution": kind, **spec}).step == 1


def test_listed_values_come_as_often_as_their_probabilities_say():
    weighted = parameter("x", {"values": ["a", "b", None], "probabilities": [0.25, 0.0, 0.75]})
    drawn = [weighted.at(share) for share in SHARES]
    assert [drawn.count(value) / DRAWS for value in ("a", "b", None)] == [0.25, 0, 0.75]
    assert (weighted.ends(), weighted.at(1.0)) == (["a", None], None)
    even = parameter("x", {"values": [1, True, "1", [1]]})
    assert [[even.at(share) for share in SHARES].count(value) for value in ("1", [1])] == [DRAWS / 4] * 2
    assert not parameter("x", {"value": 1}).contains(True)


def test_values_of_another_file_are_not_a_distributions():
    own = parameter("x", {"distribution": "log_uniform_values", "min": 0.1, "max": 1.0})
    assert [own.contains(value) for value in (0.1, 1.0, 0.05, 2.0, "0.5", True, None, math.nan)] == [True] * 2 + [
        False
    ] * 6
    stepped = parameter("x", {"distribution": "q_uniform", "min": 1, "max": 9, "q": 4})
    assert all(map(stepped.contains, stepped.ends()))


@pytest.mark.parametrize("kind", [kind for kind in DISTRIBUTIONS if kind not in ("constant",)])
def test_a_distributions_quantiles_are_those_of_wandbs_own_package(kind):
    params = pytest.importorskip("sweeps.params", reason="needs W&B's package `sweeps`")
    spec = {"distribution": kind}
    if "values" in DISTRIBUTIONS[kind]:
        spec["values"] = [3, 1, 2]
    if "probabilities" in DISTRIBUTIONS[kind]:
        spec["probabilities"] = [0.2, 0.5, 0.3]
    if "min" in DISTRIBUTIONS[kind]:
        spec |= {"min": 2, "max": 9}
    if "q" in DISTRIBUTIONS[kind]:
        spec["q"] = 0.5
    own, theirs = parameter("x", spec), params.HyperParameter("x", spec)
    shares = SHARES[::131]
    assert [own.at(share) for share in shares] == pytest.approx([theirs.ppf(share) for share in shares], rel=1e-6)
