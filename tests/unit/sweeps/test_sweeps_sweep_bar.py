"""How a sweep stands in words, and when it will have ended."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gan_lightning.sweeps.sweep_bar import seconds_left
from gan_lightning.sweeps.trials import Trial, trial_lock
from gan_lightning.system import trial_states
from gan_lightning.system.trial_states import in_words, stopped_in_words

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def trials(monkeypatch, ended: int = 0, failed: int = 0, running: tuple[float, ...] = (), seconds: float = 60.0):
    """Return trials; the running ones began so many seconds ago."""
    monkeypatch.setattr(trial_states, "is_locked", lambda path: True)
    made = [("finished", seconds, None)] * ended + [("failed", 1.0, None)] * failed
    made += [("running", None, (NOW - timedelta(seconds=ago)).isoformat()) for ago in running]
    return [
        Trial(str(i), i, {}, status, Path(str(i)), seconds=took, started=began, attempts=1)
        for i, (status, took, began) in enumerate(made)
    ]


@pytest.mark.parametrize(
    ("of", "workers", "left"),
    [
        ({"ended": 4, "running": (0.0, 30.0)}, 2, 300.0),  # 11 of 15 are left; one worker is free after 30 s
        ({"ended": 4, "running": (0.0,)}, 1, 660.0),
        ({"ended": 14, "running": (45.0,)}, 2, 15.0),
        ({"ended": 14, "running": (100.0,)}, 2, 0.0),  # it takes longer than the others
        ({"ended": 12, "failed": 2, "running": (0.0,)}, 2, 60.0),
        ({"ended": 5, "running": (0.0, 0.0, 0.0, 0.0)}, 2, 180.0),  # two of the four run elsewhere
        ({"running": (10.0,)}, 2, None),
        ({"ended": 15}, 2, 0.0),
    ],
)
def test_the_time_that_is_left_is_that_of_the_busiest_worker(monkeypatch, of, workers, left):
    if of == {"ended": 4, "running": (0.0, 30.0)}:
        left = 30.0 + 5 * 60.0  # 9 new ones: five for the worker that is free first
    assert seconds_left(trials(monkeypatch, **of), 15, workers, NOW) == left


def test_how_a_sweep_stands_in_words():
    states = ["finished"] * 7 + ["stopped", "running", "running", "failed", "killed", "chosen"]
    assert in_words(states, 15) == "8 of 15, 1 of them stopped early, 2 running, 1 failed, 1 killed"
    assert in_words([], 3) == "0 of 3"
    assert stopped_in_words(1, "0.5") == "1 further trial stopped early, last at 0.5."
    assert stopped_in_words(2, None) == "2 further trials stopped early."
    assert stopped_in_words(0, None) == ""


def test_a_trial_that_nobody_holds_does_not_run(tmp_path):
    trial = Trial("a", 0, {}, "running", tmp_path / "a", attempts=1)
    assert trial.state == "killed"
    with trial_lock(trial.folder):
        assert trial.state == "running"
    assert Trial("b", 0, {}, "running", tmp_path / "b").state == "chosen"
    assert Trial("b", 0, {}, "failed", tmp_path / "b").state == "failed"
