"""Trials as processes: what is run, what is left alone, what is written down; with a program that loads no torch."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gan_lightning.errors import SettingError
from gan_lightning.sweeps import engine, runner
from gan_lightning.sweeps.runner import Runner, trial_environment
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.trials import claim_folder, read_trial, read_trials, trial_lock

PROGRAM = """
import csv, json, os, sys, time, pathlib
point = json.loads(pathlib.Path(sys.argv[1]).read_text())
options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
run = pathlib.Path(options["run.root"], options["run.name"], str(time.time_ns()))
run.mkdir(parents=True)
(run / "run.json").write_text("{}")
(run / "pid").write_text(str(os.getpid()))
assert json.loads(os.environ["GAN_LIGHTNING_SWEEP_POINT"]) == point
print("epoch 0")
with open(run / "metrics.csv", "w") as file:
    print("step,score", file=file)
    for step in range(point.get("steps", 1)):
        print(f"{step},{point['x'] * (step + 1)}", file=file, flush=True)
        time.sleep(point.get("pause", 0))
if point["x"] == 13:
    sys.exit("ValueError: thirteen\\n")
if "slow" in options:
    time.sleep(60)
while "until" in options and not os.path.exists(options["until"]):
    time.sleep(0.05)
(run / "run.json").write_text('{"status": "finished", "seconds": 7.5}')
"""


@dataclass(frozen=True)
class Scripted(Sweep):
    """A sweep whose trials run the program above, or another."""

    program: str = PROGRAM

    def trial_command(self, point, point_file, more=()):
        return [sys.executable, "-c", self.program, str(point_file), *more]


def sweep_over(*values, method="grid", parameters=None, **more) -> Sweep:
    settings = {"run_cap": None, "metric": {"name": "score", "goal": "maximize"}, "early_terminate": None} | more
    parameters = parameters or {"x": {"values": list(values)}}
    return Scripted(path=Path("s.yaml"), name="s", method=method, parameters=parameters, command=(), **settings)


def states(folder: Path) -> dict:
    return {trial.parameters["x"]: (trial.status, trial.attempts) for trial in read_trials(folder)}


def test_every_point_runs_once_and_is_recorded(tmp_path):
    events = []
    sweep = sweep_over(3, 1, 2)
    Runner(sweep, tmp_path, workers=2, on_event=lambda event, trial: events.append((event, trial.index))).run()
    assert states(tmp_path) == {3: ("finished", 1), 1: ("finished", 1), 2: ("finished", 1)}
    assert [event for event, _ in events].count("ended") == 3
    for trial in read_trials(tmp_path):
        assert trial.folder.name == trial.id == sweep.grid()[trial.index].id
        assert (trial.folder / trial.run_folder / "run.json").is_file()
        assert trial.metric_history("score") == [trial.parameters["x"]]
        assert (trial.folder / "output.log").read_text() == "epoch 0\n"
        assert trial.seconds > 0


def test_finished_trials_are_not_run_again_and_new_points_are(tmp_path):
    Runner(sweep_over(1, 2), tmp_path).run()
    before = {trial.id: trial.started for trial in read_trials(tmp_path)}
    Runner(sweep_over(1, 2, 5), tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 1), 2: ("finished", 1), 5: ("finished", 1)}
    assert {trial.id: trial.started for trial in read_trials(tmp_path) if trial.id in before} == before


def test_a_failed_trial_is_recorded_with_its_error_and_stops_no_other(tmp_path):
    Runner(sweep_over(13, 1), tmp_path).run()
    assert states(tmp_path) == {13: ("failed", 1), 1: ("finished", 1)}
    (failed,) = [trial for trial in read_trials(tmp_path) if trial.status == "failed"]
    assert failed.error == "ValueError: thirteen"
    Runner(sweep_over(13, 1), tmp_path).run()
    assert states(tmp_path)[13] == ("failed", 1), "it would fail again"
    Runner(sweep_over(13, 1), tmp_path, retry_failed=True).run()
    assert states(tmp_path) == {13: ("failed", 2), 1: ("finished", 1)}


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def start_runner(folder: Path, options: str) -> subprocess.Popen:
    """Start a process that runs the sweep over 1, and return it when its trial runs."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_sweeps_runner as t; "
        f"t.Runner(t.sweep_over(1), Path(sys.argv[2]), {options}).run()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(folder)])
    wait_for(lambda: list(folder.glob("*/*/metrics.csv")))
    return process


def test_a_trial_whose_runner_and_process_were_killed_runs_again_and_one_that_still_runs_does_not(tmp_path):
    first = start_runner(tmp_path, "more=['--slow=1']")
    first.kill()  # it can tidy nothing up, and its trial's process lives on
    first.wait()
    assert states(tmp_path) == {1: ("running", 1)}
    Runner(sweep_over(1), tmp_path).run()
    assert states(tmp_path) == {1: ("running", 1)}, "the orphan still holds the trial"
    (orphan,) = tmp_path.glob("*/*/pid")
    os.kill(int(orphan.read_text()), signal.SIGKILL)
    wait_for(lambda: trial_is_free(orphan.parents[1]))
    Runner(sweep_over(1), tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 2)}


def test_a_trial_that_finished_after_its_runner_was_killed_is_not_run_again(tmp_path):
    gate = tmp_path / "gate"
    first = start_runner(tmp_path / "runs", f"more=['--until={gate}']")
    first.kill()
    first.wait()
    gate.touch()
    (orphan,) = tmp_path.glob("runs/*/*/pid")
    wait_for(lambda: trial_is_free(orphan.parents[1]))
    assert states(tmp_path / "runs") == {1: ("running", 1)}
    events = []
    Runner(sweep_over(1), tmp_path / "runs", on_event=lambda event, trial: events.append(event)).run()
    (trial,) = read_trials(tmp_path / "runs")
    assert (trial.status, trial.attempts, trial.seconds, trial.run_folder) == ("finished", 1, 7.5, orphan.parent.name)
    assert events == ["ended"]


def test_an_attempt_has_not_the_metrics_of_the_one_before(tmp_path):
    Runner(sweep_over(13), tmp_path).run()
    (trial,) = read_trials(tmp_path)
    assert trial.metric_history("score") == [13.0]
    seen = []

    def look(event, again):
        seen.append((event, again.metric_history("score"), read_trial(again.folder / "trial.json").newest_run()))

    no_program = replace(sweep_over(13), program="raise SystemExit('ValueError: at once')")
    Runner(no_program, tmp_path, retry_failed=True, on_event=look).run()
    assert seen == [("started", [], None), ("ended", [], None)]
    (trial,) = read_trials(tmp_path)
    assert (trial.status, trial.attempts, trial.run_folder) == ("failed", 2, None)


def test_a_record_of_the_version_before_is_read_as_it_was_meant(tmp_path):
    Runner(sweep_over(1), tmp_path).run()
    (path,) = tmp_path.glob("*/trial.json")
    content = json.loads(path.read_text())
    del content["earlier_runs"]
    path.write_text(json.dumps(content | {"status": "running", "run_folder": None}))
    Runner(sweep_over(1), tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 1)}


def test_a_file_system_without_locks_is_named_and_not_taken_for_another_runner(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(SettingError, match=f"file system with locks, got '{tmp_path}': No locks available"):
        Runner(sweep_over(1), tmp_path).run()


def test_trials_share_the_cores_that_the_process_may_use(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    sweep = sweep_over(1)
    threads = [trial_environment(sweep, sweep.grid()[0], tmp_path, n)["OMP_NUM_THREADS"] for n in (1, 3, 20)]
    assert threads == ["8", "2", "1"]


COMMAND = """
import signal, sys
sys.path.insert(0, sys.argv[1])
import test_sweeps_runner as t
from gan_lightning.sweeps import command
command.load_sweep, command.check_keys = lambda path: t.sweep_over(1), lambda *_: None
if sys.argv[3] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(command.main(["s.yaml", f"--dir={sys.argv[2]}", "--", f"--until={sys.argv[2]}/gate"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_command_that_is_told_to_end_ends_its_trials_first(tmp_path, number):
    arguments = [sys.executable, "-c", COMMAND, str(Path(__file__).parent), str(tmp_path), "terminal"]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("*/*/metrics.csv")))
    command.send_signal(number)
    said, _ = command.communicate(timeout=30)
    assert (command.returncode, "Interrupted; start it again to go on." in said) == (130, True)
    assert states(tmp_path) == {1: ("killed", 1)}
    (pid,) = tmp_path.glob("*/*/pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_command_under_nohup_outlives_its_terminal(tmp_path):
    arguments = [sys.executable, "-c", COMMAND, str(Path(__file__).parent), str(tmp_path), "nohup"]
    command = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    wait_for(lambda: list(tmp_path.glob("*/*/metrics.csv")))
    command.send_signal(signal.SIGHUP)
    (tmp_path / "gate").touch()
    assert command.wait(timeout=30) == 0
    assert states(tmp_path) == {1: ("finished", 1)}


def trial_is_free(folder: Path) -> bool:
    with trial_lock(folder) as lock:
        return lock is not None


def test_an_interrupted_sweep_ends_its_trials_and_goes_on_later(tmp_path):
    def interrupt(event, trial):
        if event == "started":
            wait_for(lambda: list(tmp_path.glob("*/*/metrics.csv")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(sweep_over(1, 2), tmp_path, more=["--slow=1"], on_event=interrupt).run()
    assert states(tmp_path) == {1: ("killed", 1)}
    assert "signal" in read_trials(tmp_path)[0].error
    Runner(sweep_over(1, 2), tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 2), 2: ("finished", 1)}


def test_two_runners_on_one_folder_share_the_trials(tmp_path):
    sweep = sweep_over(*range(6))
    with trial_lock(tmp_path / sweep.grid()[0].id) as held:
        assert held is not None
        Runner(sweep, tmp_path, workers=3).run()
    assert sorted(states(tmp_path)) == [1, 2, 3, 4, 5], "what another runner holds is left to it"


def test_a_folder_of_trials_of_another_command_is_refused(tmp_path):
    first = {"command": ["fit", "--a=1"], "configs": {"c.yaml": "1"}}
    claim_folder(tmp_path, "s", first)
    Runner(sweep_over(1), tmp_path).run()
    claim_folder(tmp_path, "s", first)
    with pytest.raises(SettingError, match="the command was 'fit --a=1'"):
        claim_folder(tmp_path, "s", first | {"command": ["fit", "--a=2"]})
    with pytest.raises(SettingError, match=r"c\.yaml has changed"):
        claim_folder(tmp_path, "s", first | {"configs": {"c.yaml": "2"}})


def test_a_damaged_record_and_one_of_another_version_are_named(tmp_path):
    Runner(sweep_over(1), tmp_path).run()
    (path,) = tmp_path.glob("*/trial.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"schema_version": 9}))
    with pytest.raises(SettingError, match="schema version 9"):
        read_trial(path)
    path.write_text(path.read_text()[:50])
    with pytest.raises(SettingError, match="is damaged"):
        read_trial(path)


def test_a_row_that_is_still_being_written_is_not_read(tmp_path):
    Runner(sweep_over(1), tmp_path).run()
    (trial,) = read_trials(tmp_path)
    with (trial.folder / trial.run_folder / "metrics.csv").open("a") as file:
        file.write("1,0.25\n2,0.9")
    assert trial.metric_history("score") == [1.0, 0.25]


class TestWithWandbsEngine:
    @pytest.fixture(autouse=True)
    def _engine(self):
        pytest.importorskip("sweeps", reason="needs the extra `sweeps`")

    def test_a_random_search_has_the_same_points_every_time_and_leaves_the_random_state_alone(self):
        import random

        sweep = sweep_over(method="random", run_cap=20, parameters={"x": {"min": 0.0, "max": 1.0}})
        points, afterwards = [], []
        for seed in (1, 2):
            random.seed(seed)
            points.append(engine.random_points(sweep, 20))
            afterwards.append(random.random())
        assert afterwards[0] != afterwards[1], "the search's own seed was left behind"
        assert points[0] == points[1]
        points = points[0]
        assert len({point.id for point in points}) == 20
        assert all(0 <= point.parameters["x"] <= 1 for point in points)
        json.dumps([point.parameters for point in points])

    def test_a_random_search_of_few_values_ends_when_all_were_tried(self):
        points = engine.random_points(sweep_over(1, 2, 3, method="random", run_cap=50), 50)
        assert sorted(point.parameters["x"] for point in points) == [1, 2, 3]

    def test_bayesian_search_goes_where_the_metric_is_best_and_goes_on_after_a_stop(self, tmp_path):
        space = {"x": {"min": -10.0, "max": 10.0}}
        Runner(sweep_over(method="bayes", run_cap=4, parameters=space), tmp_path, workers=2).run()
        assert len(read_trials(tmp_path)) == 4
        Runner(sweep_over(method="bayes", run_cap=12, parameters=space), tmp_path).run()
        trials = read_trials(tmp_path)
        assert [trial.index for trial in trials] == list(range(12))
        assert {trial.attempts for trial in trials} == {1}
        # The score is x itself: an engine that is told the scores looks near 10 in the end.
        assert sum(trial.parameters["x"] for trial in trials[6:]) / 6 > 5

    def test_early_stopping_ends_a_trial_that_falls_behind_and_records_it_as_done(self, tmp_path, monkeypatch):
        monkeypatch.setattr(runner, "EARLY_STOP_SECONDS", 0.1)
        stopping = {"type": "hyperband", "min_iter": 1, "eta": 2}
        Runner(sweep_over(5, 4, 3), tmp_path).run()  # what others have reached
        parameters = {"x": {"values": [1]}, "steps": {"value": 100}, "pause": {"value": 0.1}}
        Runner(sweep_over(early_terminate=stopping, parameters=parameters), tmp_path).run()
        assert states(tmp_path)[1] == ("stopped", 1)
        Runner(sweep_over(early_terminate=stopping, parameters=parameters), tmp_path).run()
        assert states(tmp_path)[1] == ("stopped", 1)

    def test_what_wandbs_schema_refuses_is_named(self):
        sweep = sweep_over(
            method="random", run_cap=2, parameters={"x": {"distribution": "unifrom", "min": 0, "max": 1}}
        )
        with pytest.raises(SettingError, match="W&B's schema"):
            engine.check_with_engine(sweep)


def test_without_wandbs_engine_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sweeps", None)
    with pytest.raises(SettingError, match=r"pip install 'gan-lightning\[sweeps\]'"):
        engine.random_points(sweep_over(method="random", run_cap=2), 2)
