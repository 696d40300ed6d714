"""Searches by Optuna: the study that the trials' folders make, and runners that are killed at random moments."""

import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from gan_lightning.errors import SettingError
from gan_lightning.sweeps import engine, runner, sweep_command
from gan_lightning.sweeps.distributions import DISTRIBUTIONS, parameter
from gan_lightning.sweeps.runner import Runner
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.study import dimensions, study, study_of, suggestion, write_study
from gan_lightning.sweeps.trials import Trial, claim_folder, read_trials

optuna = pytest.importorskip("optuna", reason="needs the extra `sweeps`")

SPACE = {"x": {"min": -10.0, "max": 10.0}, "kind": {"values": ["a", "b"]}, "z": {"value": None}}
METRIC = {"name": "score", "goal": "maximize"}


@dataclass(frozen=True)
class Scripted(Sweep):
    def trial_command(self, point, point_file, more=()):
        return [str(point_file), *more]


def search(cap: int, space: dict | None = None, method: str = "bayes", **more) -> Sweep:
    settings = {"run_cap": cap, "metric": METRIC, "early_terminate": None} | more
    return Scripted(path=Path("s.yaml"), name="s", method=method, parameters=space or SPACE, command=(), **settings)


def score(point: dict) -> float:
    return -((point["x"] - 3) ** 2) - (point["kind"] == "b")


@dataclass
class FakeWorker:
    """A trial without a process: it ends when it has been looked at a few times."""

    command: list[str]
    looks: int
    pid: int = -1

    def poll(self) -> int | None:
        self.looks -= 1
        return None if self.looks > 0 else self.wait()

    def wait(self) -> int:
        if self.looks < 0:
            return 0
        self.looks = -1
        file = Path(self.command[0])
        run = file.parent / f"{time.time_ns()}"
        run.mkdir()
        (run / "metrics.csv").write_text(f"step,score\n0,{score(json.loads(file.read_text()))}\n")
        (run / "new").write_text('{"status": "finished", "seconds": 1.0}')
        (run / "new").rename(run / "run.json")  # whole or not at all, as a run writes it
        return 0


@pytest.fixture
def _fake_workers(monkeypatch):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(runner, "start_worker", lambda command, *_: FakeWorker(command, random.randint(1, 4)))
    monkeypatch.setattr(runner, "stop_workers", lambda workers: None)


def run_and_kill(sweep: Sweep, folder: Path, runners: int, seed: int) -> int:
    """Run a sweep by that many processes, and kill one at random moments until it is done; return the kills."""
    rng, fork, kills = random.Random(seed), multiprocessing.get_context("fork"), 0

    def start() -> multiprocessing.Process:
        process = fork.Process(target=Runner(sweep, folder, workers=2 if runners > 1 else 1).run)
        process.start()
        return process

    running = [start() for _ in range(runners)]
    deadline = time.monotonic() + 240
    while running:
        assert time.monotonic() < deadline
        time.sleep(rng.uniform(0.01, 0.06))
        if kills < 8:
            victim = running.pop(rng.randrange(len(running)))
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()
            if victim.exitcode == -signal.SIGKILL:
                kills += 1
                running.append(start())
            else:  # it had ended by itself: another one would find nothing to do, and would hardly ever be killed
                assert victim.exitcode == 0
        for process in [each for each in running if not each.is_alive()]:
            assert process.exitcode == 0
            running.remove(process)
    return kills


def points(folder: Path) -> list[tuple]:
    return [(trial.index, trial.id, trial.status, dict(trial.parameters)) for trial in read_trials(folder)]


@pytest.mark.usefixtures("_fake_workers")
def test_a_search_that_is_killed_again_and_again_has_the_points_of_one_that_is_not(tmp_path):
    sweep = search(16)
    Runner(sweep, tmp_path / "calm").run()
    assert run_and_kill(sweep, tmp_path / "killed", 1, seed=0) > 3
    assert points(tmp_path / "killed") == points(tmp_path / "calm")
    studies = [
        study_of(read_trials(tmp_path / name), sweep.space, "score", "maximize", seed=0) for name in ("calm", "killed")
    ]
    ours, theirs = ([(each.number, each.params, each.value) for each in one.get_trials()] for one in studies)
    assert ours == theirs
    assert [each.value for each in studies[0].get_trials()] == [score(point[3]) for point in points(tmp_path / "calm")]


@pytest.mark.usefixtures("_fake_workers")
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_two_runners_that_are_killed_at_random_moments_take_no_point_twice_and_lose_none(tmp_path, method):
    sweep = search(16, method=method)
    assert run_and_kill(sweep, tmp_path, 2, seed=1) > 3
    found = points(tmp_path)
    assert [point[0] for point in found] == list(range(16))
    assert {point[2] for point in found} == {"finished"}
    assert len({point[1] for point in found}) == 16
    # A trial that had ended in the moment in which its runner was killed is not run again.
    assert {len(list(tmp_path.glob(f"{point[1]}/*/run.json"))) for point in found} == {1}
    if method == "random":
        assert [point[3] for point in found] == [dict(point.parameters) for point in engine.random_points(sweep, 16)]


@pytest.mark.usefixtures("_fake_workers")
def test_a_search_goes_where_the_metric_is_best(tmp_path):
    Runner(search(30), tmp_path).run()
    trials = read_trials(tmp_path)
    first, last = trials[: engine.STARTUP], trials[-10:]
    assert all(trial.parameters["z"] is None for trial in trials)
    scores = [[score(trial.parameters) for trial in part] for part in (first, last)]
    assert sum(scores[1]) / 10 > sum(scores[0]) / 10 + 10
    assert max(scores[1]) > -1.5
    best, value = engine.best_trial(search(30), trials)
    assert (value, value) == (score(best.parameters), max(score(trial.parameters) for trial in trials))
    least, _ = engine.best_trial(search(30, metric={"name": "score"}), trials)
    assert score(least.parameters) == min(score(trial.parameters) for trial in trials)


@pytest.mark.usefixtures("_fake_workers")
def test_a_search_ends_at_its_target_and_where_nothing_is_new(tmp_path):
    Runner(search(30, metric=METRIC | {"target": -60.0}), tmp_path / "target").run()
    scores = [score(trial.parameters) for trial in read_trials(tmp_path / "target")]
    assert (scores[-1] >= -60, max(scores[:-1], default=-61) < -60) == (True, True)
    few = {"x": {"values": [1.0, 2.0]}, "kind": {"values": ["a", "b", "c"]}}
    Runner(search(30, few), tmp_path / "few").run()
    assert len(read_trials(tmp_path / "few")) == 6


def trial(index: int, status: str = "finished", **parameters) -> Trial:
    return Trial(f"{index}", index, parameters, status, Path("nowhere"))


@pytest.mark.parametrize("kind", [kind for kind in DISTRIBUTIONS if kind != "constant"])
def test_every_distribution_stands_in_a_study_and_comes_back(kind, monkeypatch):
    defaults = DISTRIBUTIONS[kind]
    spec = {"distribution": kind, "min": 1, "max": 5} if "min" in defaults else {"distribution": kind}
    if "values" in defaults:
        spec["values"] = [{"class_path": "A"}, 1, None]
    if "probabilities" in defaults:
        spec["probabilities"] = [0.5, 0.5, 0.0]
    own = parameter("x", spec)
    monkeypatch.setattr(Trial, "metric_history", lambda self, name: [float(self.index)])
    drawn = [own.at((i + 0.5) / 12) for i in range(12)]
    made = study_of([trial(i, x=value) for i, value in enumerate(drawn)], [own], "m", "maximize", seed=1)
    (dimension,) = dimensions([own])
    frozen = made.get_trials()
    assert [each.value for each in frozen] == [float(i) for i in range(12)]
    back = [dimension.from_study(each.params[dimension.name]) for each in frozen]
    assert back == pytest.approx(drawn) if own.kind not in ("categorical", "categorical_w_probabilities") else drawn
    suggested = [suggestion(study_of([trial(0, x=drawn[0])], [own], "m", "maximize", seed), [own]) for seed in range(8)]
    assert all(own.contains(each["x"]) for each in suggested)


def test_a_suggestion_follows_from_the_seed_and_the_trials(monkeypatch):
    monkeypatch.setattr(Trial, "metric_history", lambda self, name: [float(self.index)])
    sweep = search(40)
    known = [
        replace(trial(i, "running" if i > 12 else "finished"), parameters=point.parameters)
        for i, point in enumerate(engine.random_points(sweep, 14))
    ]
    first = engine.next_point(sweep, known)
    assert engine.next_point(sweep, known) == first
    assert engine.next_point(sweep, known[:-1]) != first, "a running trial counts, too"
    assert engine.next_point(sweep, [*known[:-1], replace(known[-1], status="finished")]) != first


@pytest.mark.usefixtures("_fake_workers")
def test_optunas_own_tools_read_the_study_of_a_folder(tmp_path):
    sweep = search(14)
    fingerprint = {"command": [], "configs": {}, "method": "bayes", "metric": METRIC, "parameters": SPACE}
    claim_folder(tmp_path / "s", "s", fingerprint)
    Runner(sweep, tmp_path / "s").run()
    made = study(tmp_path / "s")
    assert made.best_value == max(score(each.parameters) for each in read_trials(tmp_path / "s"))
    assert json.loads(made.best_trial.user_attrs["parameters"])["x"] == made.best_params["x"]
    importances = optuna.importance.get_param_importances(
        made, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    assert importances.keys() == {"x", "kind"}
    for _ in range(2):  # the second time it is replaced
        write_study(tmp_path / "s", tmp_path / "out.db")
        read = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/out.db")
        assert [each.params for each in read.get_trials()] == [each.params for each in made.get_trials()]
        assert read.metric_names == ["score"]
    with pytest.raises(SettingError, match="--study must be a file to write an SQLite database to"):
        write_study(tmp_path / "s", tmp_path / "none/out.db")


@pytest.mark.usefixtures("_fake_workers")
def test_the_command_says_how_a_search_stands_names_its_best_trial_and_writes_its_study(tmp_path, monkeypatch, capsys):
    checked = []
    monkeypatch.setattr(sweep_command, "load_sweep", lambda path: search(3, metric=METRIC | {"target": 1000.0}))
    monkeypatch.setattr(sweep_command, "check_keys", lambda *arguments: checked.append(arguments))
    folder = ["s.yaml", f"--dir={tmp_path}/s"]
    assert sweep_command.main(folder) == 0
    said = capsys.readouterr().out
    best = max(read_trials(tmp_path / "s"), key=lambda trial: score(trial.parameters))
    assert f"s: 3 of 3, in {tmp_path}/s\n" in said
    assert f"Best of 3 trials that ran to the end: trial {best.index}, score {score(best.parameters):.4f}: x=" in said
    record = json.loads((tmp_path / "s/sweep.json").read_text())
    assert (record["total"], record["engine"]) == (3, engine.engine_of(search(3)))
    assert sweep_command.main([*folder, f"--study={tmp_path}/out.db"]) == 0
    assert f"Study of 3 trials: {tmp_path}/out.db" in capsys.readouterr().out
    monkeypatch.setattr(sweep_command, "load_sweep", lambda path: search(5, metric=METRIC | {"target": -1000.0}))
    assert sweep_command.main(folder) == 0
    assert "The target was reached by trial 0: no further one was begun." in capsys.readouterr().out
    monkeypatch.setattr(engine.optuna_package(), "__version__", "6.1.0")
    with pytest.raises(SettingError, match=r"its points were chosen by optuna \d+\.\d+, and this is optuna 6\.1"):
        sweep_command.main(folder)
    assert len(checked) == 3


def test_a_folder_that_is_no_sweeps_is_named(tmp_path):
    with pytest.raises(SettingError, match=f"must be a sweep's, got '{tmp_path}', which has no sweep.json"):
        study(tmp_path)


@pytest.mark.usefixtures("_fake_workers")
def test_a_grids_study_has_the_values_as_categories(tmp_path):
    grid = {"x": {"values": [1, 2]}, "kind": {"values": ["a"]}}
    claim_folder(tmp_path, "s", {"command": [], "configs": {}, "method": "grid", "metric": METRIC, "parameters": grid})
    Runner(search(2, grid, "grid"), tmp_path).run()
    assert [(each.params, each.value) for each in study(tmp_path).get_trials()] == [({"x": "1"}, -4), ({"x": "2"}, -1)]


def test_states_of_trials_are_optunas_and_a_stopped_one_keeps_its_last_value(monkeypatch):
    monkeypatch.setattr(Trial, "metric_history", lambda self, name: [1.0, 3.0, 2.0])
    statuses = ("finished", "stopped", "failed", "killed", "running")
    own = [parameter("x", {"min": 0, "max": 9})]
    made = study_of([trial(i, status, x=i) for i, status in enumerate(statuses)], own, "m", "minimize", seed=0)
    found = [(each.state.name, each.value) for each in made.get_trials()]
    assert found == [("COMPLETE", 2.0), ("COMPLETE", 2.0), ("FAIL", None), ("RUNNING", None), ("RUNNING", None)]
    assert made.get_trials()[1].intermediate_values == {1: 1.0, 2: 3.0, 3: 2.0}
    assert made.get_trials()[1].user_attrs["status"] == "stopped"


def test_the_best_trial_ran_to_the_end_and_the_best_of_the_stopped_ones_is_said_beside_it(monkeypatch):
    monkeypatch.setattr(Trial, "metric_history", lambda self, name: [float(self.index)])
    trials = [trial(1, x=1), trial(2, x=2), trial(8, "stopped", x=8), trial(9, "stopped", x=9), trial(10, "failed")]
    said = io.StringIO()
    sweep_command._print_best(search(5), trials, Console(file=said))
    assert said.getvalue().splitlines() == [
        "Best of 2 trials that ran to the end: trial 2, score 2.0000: x=2",
        "2 further trials stopped early, the best of them last at 9.0000.",
    ]
    assert engine.best_trial(search(5), trials[2:]) is None


def test_without_optuna_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for call in (lambda: engine.engine_of(search(2)), lambda: write_study(Path("x"), Path("y"))):
        with pytest.raises(SettingError, match=r"pip install 'gan-lightning\[sweeps\]'"):
            call()
    assert len(engine.random_points(search(3, method="random"), 3)) == 3
    assert "optuna" not in sweep_command.__dict__
