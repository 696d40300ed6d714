"""Early stopping by W&B's rule: its documented example, and W&B's own package on the same curves."""

import random

import pytest

from gan_lightning.sweeps.hyperband import hyperband


@pytest.mark.parametrize(
    ("settings", "bands"),
    [
        ({"min_iter": 3}, [3, 9, 27, 81]),
        ({"min_iter": 1, "eta": 2}, [1, 2, 4, 8]),
        ({"min_iter": 2, "eta": 1.5}, [2, 3, 4, 6]),
        ({"max_iter": 27, "s": 2}, [3, 9]),
        ({"max_iter": 27, "s": 9}, [1, 3, 9]),
        ({"max_iter": 5, "s": 2, "eta": 2}, [1, 2]),
    ],
)
def test_the_bands_are_those_of_wandbs_documentation(settings, bands):
    assert list(hyperband({"type": "hyperband", **settings}).bands)[:4] == bands


def test_a_trial_behind_the_best_at_its_band_is_given_up_and_others_go_on():
    rule = hyperband({"type": "hyperband", "min_iter": 2, "eta": 2})
    curves = {"first": [1, 5], "second": [1, 4], "late": [1, 3], "behind": [1, 2], "new": [0], "none": []}
    assert rule.to_stop(curves, curves, "maximize") == {"behind"}
    assert rule.to_stop(curves, ["first", "late"], "maximize") == set()
    assert rule.to_stop(curves, curves, "minimize") == set(), (
        "the first value, the same in all, is the best one of each"
    )


def test_strict_looks_at_the_value_at_the_band_and_lenient_at_the_best_one():
    curves = {"a": [9, 9], "b": [8, 8], "once": [10, 1], "c": [7, 7]}
    for strict, stopped in ((False, set()), (True, {"once"})):
        rule = hyperband({"type": "hyperband", "min_iter": 2, "eta": 2, "strict": strict})
        assert rule.to_stop(curves, curves, "maximize") == stopped
    assert hyperband({"type": "hyperband", "min_iter": 2}).strict is False, "as W&B documents it"


@pytest.mark.parametrize("seed", range(6))
def test_wandbs_own_package_gives_up_the_same_trials(seed):
    sweeps = pytest.importorskip("sweeps", reason="needs W&B's package `sweeps`")
    rng = random.Random(seed)
    for _ in range(8):
        settings = {"type": "hyperband", "eta": rng.choice([2, 3, 1.5, 4]), "strict": rng.random() < 0.5}
        kind = {"min_iter": rng.randint(1, 4)} if rng.random() < 0.5 else {"max_iter": rng.randint(8, 40), "s": 2}
        goal = rng.choice(["minimize", "maximize"])
        curves = {
            str(i): [round(rng.random(), 2) for _ in range(rng.randint(0, 30))] for i in range(rng.randint(1, 20))
        }
        running = [name for name in curves if rng.random() < 0.6]
        runs = [
            sweeps.SweepRun(
                name=name,
                state=sweeps.RunState.running if name in running else sweeps.RunState.finished,
                history=[{"m": value} for value in curve],
            )
            for name, curve in curves.items()
        ]
        config = {
            "method": "random", "metric": {"name": "m", "goal": goal}, "early_terminate": settings | kind,
            "parameters": {"x": {"values": [1]}},
        }  # fmt: skip
        theirs = {run.name for run in sweeps.stop_runs(config, runs)}
        assert hyperband(settings | kind).to_stop(curves, running, goal) == theirs
