"""The benchmarks say how long they will take, and keep to it."""

import json
import re
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def timing(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    return import_module("benchmarks.timing")


class Clock:
    """A clock that programs move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def run(timing, clock, seconds, *, first=(0.0, 0.0), budget=None, device=CPU, **settings):
    """Run programs that take so long for a unit, the first one longer; return comparison, turns and clock."""
    budget = budget or timing.Budget(60.0, 7, 3)
    comparison = timing.Comparison("row", "ours", "other" if len(seconds) > 1 else "", "step")
    progress = timing.Progress("row", budget.seconds)
    turns, seen = timing.schedule(comparison, budget, progress, device, **settings), []
    which, units = next(turns)
    while True:
        taken = units * seconds[which] + (first[which] if all(each != which for each, _ in seen) else 0)
        clock.now += taken
        seen.append((which, units))
        try:
            which, units = turns.send((taken, units))
        except StopIteration:
            return comparison, seen


@pytest.mark.parametrize("seconds", [(1e-4, 3e-3), (0.5, 0.1), (1.2, 1.7), (4.0, 3.0)])
def test_a_pair_takes_the_time_that_it_is_given(seconds, timing, clock):
    comparison, seen = run(timing, clock, seconds)
    assert 40 < clock.now <= 60
    assert comparison.our_seconds == pytest.approx([seconds[0]] * len(comparison.our_seconds))
    assert comparison.other_seconds == pytest.approx([seconds[1]] * len(comparison.our_seconds))
    assert 2 <= len(comparison.ratios) <= 7
    turns = [which for which, _ in seen if which == 0], [which for which, _ in seen if which == 1]
    assert abs(len(turns[0]) - len(turns[1])) <= 3


def test_programs_take_turns_and_the_order_turns_around(timing, clock):
    _, seen = run(timing, clock, (1.0, 1.0), budget=timing.Budget(100.0, 3, 1))
    assert "".join(str(which) for which, _ in seen) == "0011" + "0110" + "1001" + "0110"


@pytest.mark.parametrize(
    ("settings", "rounds", "took"), [({}, 2, 3 * (30 + 6)), ({"whole": True}, 2, 2 * (30 + 6)), ({"least": 3}, 2, 168)]
)
def test_slow_programs_have_two_rounds_and_it_is_said_how_long_they_take(settings, rounds, took, timing, clock, capsys):
    comparison, _ = run(timing, clock, (30.0, 6.0), budget=timing.Budget(12.0, 3, 3), **settings)
    assert len(comparison.ratios) == rounds
    assert clock.now == pytest.approx(took)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("row: the first step of ours took 30 s")
    (plan,) = [line for line in lines if "per step" in line]
    rest = 36 * (1 if "whole" in settings else 2)
    expected = rf"row: 30 s and 6 s per step; rounds to come: \d, in {rest} s, .* longer than planned"
    assert re.fullmatch(expected, plan)


def test_a_first_step_that_sets_up_a_gpu_is_no_estimate(timing, clock):
    comparison, _ = run(timing, clock, (0.01, 0.02), first=(4.0, 3.0), budget=timing.Budget(12.0, 5, 3), device=CUDA)
    assert len(comparison.ratios) == 5
    assert comparison.our_seconds == pytest.approx([0.01] * 5)
    assert clock.now <= 12


def test_compiling_comes_on_top_and_is_said(timing, clock, capsys):
    comparison, _ = run(timing, clock, (1.0, 1.0), first=(90.0, 0.0), compiles=True)
    assert len(comparison.ratios) == 7
    assert comparison.our_seconds == pytest.approx([1.0] * 7)
    assert 94 + 40 < clock.now <= 94 + 60
    assert "compiled in 94 s, which comes on top" in capsys.readouterr().err


def test_a_program_alone_is_repeated(timing, clock):
    comparison, seen = run(timing, clock, (10.0,), whole=True)
    assert (len(seen), clock.now) == (6, 60.0)
    assert "ratio" not in comparison.figures()


def test_progress_is_shown_while_a_step_lasts(timing, monkeypatch, capsys):
    monkeypatch.setattr(import_module("benchmarks.progress"), "EVERY", 0.02)
    with timing.Progress("row", 0.05) as progress:
        progress.now("round 1 of 2")
        time.sleep(0.2)
        progress.expect(None)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"row: round 1 of 2; [\d.]+ ms so far, [\d.]+ ms left", lines[0])
    assert any(
        re.fullmatch(r"row: round 1 of 2; \d+ ms so far, [\d.]+ ms longer than expected", line) for line in lines
    )
    assert lines[-1].endswith("ms so far, the rest is not known yet")


@pytest.mark.parametrize(("seconds", "words"), [(0.0123, "12.3 ms"), (42, "42 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_said_with_their_unit(seconds, words, timing):
    assert import_module("benchmarks.progress").in_words(seconds) == words


class Counts(Callback):
    """Counts the calls of `training_step`."""

    def __init__(self) -> None:
        self.calls = 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls += 1
        self.batches = trainer.global_step

    def looks_at_batch(self, trainer, number):
        return False


def test_batches_of_a_call_are_timed_together(timing):
    training, rows = import_module("benchmarks.training"), import_module("benchmarks.rows")
    seen, counts, other = [], Counts(), []

    def schedule():
        for which, units in ((0, 1), (0, 1), (1, 7), (0, 4), (1, 2)):
            seen.append((which, (yield which, units)[1]))

    turns = import_module("benchmarks.turns").Turns(schedule(), other.append, CPU)
    with import_module("benchmarks.replay").recording(CPU):  # a GPU does not look at every batch
        training.fit(rows.SMALL.bigan, training.Settings(steps_per_call=3), CPU, turns, counts)
    assert seen == [(0, 3), (0, 3), (1, 7), (0, 6), (1, 2)]
    assert other == [7, 2]
    assert (counts.calls, counts.batches) == (4, 12)


def test_a_graph_is_timed_in_turn_with_its_bare_replay(timing):
    training, replay, rows = (import_module(f"benchmarks.{name}") for name in ("training", "replay", "rows"))
    settings, budget = training.Settings(graph=True, steps_per_call=3), timing.Budget(0.1, 2, 1)
    pair = replay.replay_pair("bigan", rows.SMALL.bigan, settings, 0.9, budget, CPU)
    pair.measure(timing.Progress("row", 0.1))
    assert pair.comparison.title == "replay, bigan by Trainer, 3 steps a call against bare replay, a stand-in"
    assert len(pair.comparison.ratios) == 2


def test_both_models_are_replayed_and_have_goals_on_a_gpu(timing):
    command, rows = import_module("benchmarks.__main__"), import_module("benchmarks.rows")
    mgan, bigan = (pair.comparison for pair in rows.ROWS["replay"](command.arguments(["--device", "cuda"])))
    assert (mgan.ours, bigan.ours) == ("mgan by Trainer", "bigan by Trainer, 50 steps a call")
    assert (mgan.goal, bigan.goal) == (1 / 1.05, 1 / 1.1)


def test_a_row_says_whether_its_graph_was_one(timing, capsys, tmp_path):
    command, replay = import_module("benchmarks.__main__"), import_module("benchmarks.replay")
    variant = ["--small", "--rows", "bigan", "--variants", "graph"]
    variant += ["--rounds=2", "--seconds=0.1", f"--output={tmp_path}"]
    command.main(variant)
    printed = capsys.readouterr()
    assert "| graph (without a graph) |" in printed.out
    assert "Comparisons: 1, each of at most 0.1 s, in all 100 ms" in printed.err
    with replay.recording(CPU):
        command.main(variant)
    assert "| graph |" in capsys.readouterr().out


def test_a_comparison_that_breaks_is_shown_and_the_others_are_made(timing, monkeypatch, capsys, tmp_path):
    command = import_module("benchmarks.__main__")
    monkeypatch.setattr(import_module("benchmarks.plain").PlainMGAN, "step", lambda *_: 1 / 0)
    given = ["--small", "--rows", "mgan", "bigan", "--variants=default", "--rounds=2", "--seconds=0.2"]
    with pytest.raises(SystemExit, match=r"Could not be measured: mgan, default against plain\."):
        command.main([*given, f"--output={tmp_path}"])
    printed = capsys.readouterr()
    assert "| mgan | default | plain | failed: ZeroDivisionError: division by zero |" in printed.out
    assert "Traceback" in printed.err
    mgan, bigan = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert mgan["failed"]
    assert bigan["ratio"]["median"] > 0


def test_bare_replay_without_a_graph_is_an_error(timing):
    replay, rows = import_module("benchmarks.replay"), import_module("benchmarks.rows")
    with pytest.raises(RuntimeError, match=r"The step has not become a graph"):
        replay.BareReplay(rows.SMALL.bigan, CPU).steps(1)
