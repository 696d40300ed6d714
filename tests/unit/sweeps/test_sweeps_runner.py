"""Trials as processes: what is run, what is left alone, what is written down; with a program that loads no torch."""

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gan_lightning.errors import SettingError
from gan_lightning.sweeps import engine, runner
from gan_lightning.sweeps.runner import Runner, trial_command
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.sweep_command import points_to_check, refuse_run_folder
from gan_lightning.sweeps.trials import check_trials, claim_folder, read_trial, read_trials, trial_lock
from gan_lightning.sweeps.worker import trial_environment
from gan_lightning.system.files import SCHEMA_VERSION

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
    time.sleep(600)
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


@pytest.fixture(autouse=True)
def _no_process_is_left(tmp_path):
    """End what a test has started that failed before it could."""
    yield
    for file in tmp_path.rglob("pid"):
        with suppress(OSError):  # it has ended
            if str(tmp_path) in Path("/proc", file.read_text(), "cmdline").read_text():
                os.kill(int(file.read_text()), signal.SIGKILL)


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


def wait_for(condition, seconds=240):
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


def test_a_trial_that_finished_is_finished_though_its_status_says_killed(tmp_path):
    """As of a trial whose warm parent was killed: it is told the status of a kill."""
    killed_at_the_end = PROGRAM + "os.kill(os.getpid(), 9)\n"
    Runner(replace(sweep_over(1), program=killed_at_the_end), tmp_path).run()
    Runner(replace(sweep_over(2), program=PROGRAM + "os.kill(os.getpid(), 11)\n"), tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 1), 2: ("failed", 1)}


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
    with pytest.raises(SettingError, match=f"file system with locks, got '{tmp_path}.*': No locks available"):
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
from gan_lightning.sweeps import sweep_command as command
command.load_sweep, command.check_keys = lambda path: t.sweep_over(1), lambda *_: None
if sys.argv[3] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.exit(command.main(["s.yaml", f"--dir={sys.argv[2]}", "--", f"--until={sys.argv[2]}/gate"]))
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1], ids=lambda number: number.name
)
def test_a_command_that_is_told_to_end_ends_its_trials_first(tmp_path, number):
    arguments = [sys.executable, "-c", COMMAND, str(Path(__file__).parent), str(tmp_path), "terminal"]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("*/*/metrics.csv")))
    command.send_signal(number)
    said, _ = command.communicate(timeout=240)
    assert (command.returncode, "Interrupted; start it again to go on." in said) == (128 + number, True)
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
    assert command.wait(timeout=240) == 0
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


def test_a_look_at_a_lock_keeps_no_runner_from_its_trial(tmp_path):
    with trial_lock(tmp_path / "a"):
        pass
    with (tmp_path / "a/.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.005, lambda: fcntl.flock(looking, fcntl.LOCK_UN))
        timer.start()
        assert trial_is_free(tmp_path / "a")
        timer.join()
    with trial_lock(tmp_path / "a"):
        assert not trial_is_free(tmp_path / "a")


def test_what_another_runner_holds_is_left_to_it(tmp_path):
    sweep = sweep_over(*range(6))
    with trial_lock(tmp_path / sweep.grid()[0].id) as held:
        assert held is not None
        Runner(sweep, tmp_path, workers=3).run()
    assert sorted(states(tmp_path)) == [1, 2, 3, 4, 5]


def test_two_runners_on_one_folder_share_the_trials(tmp_path):
    sweep = sweep_over(parameters={"x": {"values": list(range(8))}, "pause": {"value": 0.1}})
    started: dict[int, list[int]] = {0: [], 1: []}

    def run(number: int) -> None:
        def note(event, trial):
            if event == "started":
                started[number].append(trial.parameters["x"])

        Runner(sweep, tmp_path, on_event=note).run()

    together(run, 2)
    assert sorted(started[0] + started[1]) == list(range(8)), "each once"
    assert min(map(len, started.values())) > 0, "and not all by one"
    assert set(states(tmp_path).values()) == {("finished", 1)}


def together(run, count: int) -> None:
    """Call a function that many times at the same time."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def test_a_folder_of_trials_of_another_sweep_is_refused(tmp_path, monkeypatch):
    first = {"command": ["fit", "--a=1"], "configs": {"c.yaml": "1"}}
    claim_folder(tmp_path, "s", first)
    Runner(sweep_over(1), tmp_path).run()
    claim_folder(tmp_path, "s", first)
    with pytest.raises(SettingError, match="the command was 'fit --a=1'"):
        claim_folder(tmp_path, "s", first | {"command": ["fit", "--a=2"]})
    with pytest.raises(SettingError, match=r"c\.yaml has changed"):
        claim_folder(tmp_path, "s", first | {"configs": {"c.yaml": "2"}})
    # As the version before wrote it: with the variable's name, and without a search's space.
    record = tmp_path / "sweep.json"
    record.write_text(record.read_text().replace("--a=1", "--a=${envvar:A}"))
    monkeypatch.setenv("A", "1")
    search = first | {"method": "bayes", "parameters": {"x": {"min": 0, "max": 1}}, "metric": {"name": "m"}}
    search["engine"] = "optuna 5.0"
    record.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "name": "s"} | search))
    claim_folder(tmp_path, "s", search | {"metric": {"name": "m", "target": 3}}, total=30)
    assert json.loads(record.read_text())["total"] == 30
    for change, message in (
        ({"parameters": {"x": {"min": 0, "max": 2}}}, "the space that was searched was"),
        ({"method": "random"}, "the method was bayes"),
        ({"metric": {"name": "m", "goal": "maximize"}}, r"the metric was m \(minimize\)"),
        ({"engine": "optuna 6.1"}, "its points were chosen by optuna 5.0, and this is optuna 6.1"),
    ):
        with pytest.raises(SettingError, match=message):
            claim_folder(tmp_path, "s", search | change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"comm', "must be a sweep's record, and is damaged"),
        (f'{{"schema_version": {SCHEMA_VERSION}, "command": 3}}', "must be a sweep's record, and is damaged"),
        (f'{{"schema_version": {SCHEMA_VERSION}}}', "must be a sweep's record, and is damaged: 'command'"),
        ('{"schema_version": 9}', f"schema version 9, and this version of the package reads {SCHEMA_VERSION}"),
        ("[]", "must be a sweep's record, and is damaged"),
    ],
)
def test_a_sweeps_record_of_no_use_is_named(tmp_path, content, message):
    Runner(sweep_over(1), tmp_path).run()
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(SettingError, match=message):
        claim_folder(tmp_path, "s", {"command": ["fit"], "configs": {}})


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


def test_a_row_that_is_still_being_written_or_is_no_number_is_not_read(tmp_path):
    Runner(sweep_over(1), tmp_path).run()
    (trial,) = read_trials(tmp_path)
    with (trial.folder / trial.run_folder / "metrics.csv").open("a") as file:
        file.write("1,0.25\n2,many\n3,nan\n4,0.5\n5,0.9")
    assert trial.metric_history("score") == [1.0, 0.25, 0.5]


def test_a_crash_is_a_failure_with_its_last_words_and_is_not_run_again(tmp_path):
    program = "import os, sys; print('error: device-side assert', flush=True); os.abort()"
    for _ in range(2):
        Runner(replace(sweep_over(1), program=program), tmp_path).run()
    (trial,) = read_trials(tmp_path)
    assert (trial.status, trial.attempts) == ("failed", 1)
    assert trial.error == "Aborted: error: device-side assert"


def test_an_output_keeps_the_attempts_before_and_last_words_are_the_last_attempts(tmp_path):
    Runner(sweep_over(13), tmp_path).run()
    silent = replace(sweep_over(13), program="print('nothing wrong'); raise SystemExit(1)")
    Runner(silent, tmp_path, retry_failed=True).run()
    (trial,) = read_trials(tmp_path)
    assert trial.error == "nothing wrong"
    lines = list(filter(None, (trial.folder / "output.log").read_text().splitlines()))
    assert lines == ["epoch 0", "ValueError: thirteen", f"=== attempt 2, {trial.started}", "nothing wrong"]


def test_the_other_processes_of_a_trial_that_failed_are_ended(tmp_path):
    program = (
        "import pathlib, subprocess, sys; rank = subprocess.Popen(['sleep', '600']); "
        f"pathlib.Path({str(tmp_path)!r}, 'rank').write_text(str(rank.pid)); sys.exit('no more')"
    )
    Runner(replace(sweep_over(1), program=program), tmp_path / "runs").run()
    rank = Path("/proc", (tmp_path / "rank").read_text())
    try:
        wait_for(lambda: not rank.exists() or "Z" in (rank / "stat").read_text().split()[2])
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(rank.name), signal.SIGKILL)


def test_a_trial_has_the_sweeps_project_and_a_wandb_run_of_its_own(tmp_path, monkeypatch):
    for name, value in (
        ("WANDB_RUN_ID", "one"),
        ("WANDB_RESUME", "must"),
        ("WANDB_SERVICE", "2-1-unix-/gone"),
        ("WANDB_PROJECT", "mine"),
    ):
        monkeypatch.setenv(name, value)
    sweep = replace(sweep_over(1), project="gans")
    found = trial_environment(sweep, sweep.grid()[0], tmp_path, 1)
    assert not {"WANDB_RUN_ID", "WANDB_RESUME", "WANDB_SERVICE", "WANDB_ENTITY"} & set(found)
    assert found["WANDB_PROJECT"] == "gans"
    assert trial_environment(sweep_over(1), sweep.grid()[0], tmp_path, 1)["WANDB_PROJECT"] == "mine"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], False),
        (["--trainer.logger=WandbLogger"], True),
        (["--trainer.logger", "lightning.pytorch.loggers.WandbLogger"], True),
        (["--trainer.logger=WandbLogger", "--trainer.logger=false"], False),
        (["--trainer.logger=WandbLogger", "--trainer.logger.save_dir=elsewhere"], False),
    ],
)
def test_wandbs_logger_is_told_to_write_below_the_trials_folder(more, expected):
    sweep = sweep_over(1)
    (point,) = sweep.grid()
    command = trial_command(sweep, Path("runs/s"), point, Path("point.json"), more)
    assert (f"--trainer.logger.save_dir=runs/s/{point.id}" in command) is expected
    assert {"--run.root=runs/s", f"--run.name={point.id}"} < set(command)


def test_the_ends_of_a_range_are_checked_as_the_values_of_a_list_are():
    parameters = {"x": {"min": 3, "max": 9}, "y": {"values": [1, 2]}, "z": {"value": 0}}
    points = [tuple(point.parameters.values()) for point in points_to_check(sweep_over(parameters=parameters))]
    assert points == [(3, 1, 0), (9, 1, 0), (3, 2, 0)]


@pytest.mark.parametrize("where", ["run.root", "run.name"])
def test_a_sweep_that_says_where_runs_go_is_refused(where):
    in_parameters = sweep_over(parameters={where: {"value": None}})
    in_command = replace(sweep_over(1), command=("fit", f"--{where}=x"))
    for sweep, more in ((in_parameters, []), (in_command, []), (sweep_over(1), [f"--{where}", "x"])):
        with pytest.raises(SettingError, match=f"{where} must be left to `gan-lightning sweep`"):
            refuse_run_folder(sweep, more)


def test_a_random_search_has_the_same_points_every_time_and_leaves_the_random_state_alone():
    sweep = sweep_over(method="random", run_cap=20, parameters={"x": {"min": 0.0, "max": 1.0}})
    points, afterwards = [], []
    for seed in (1, 2):
        random.seed(seed)
        points.append(engine.random_points(sweep, 20))
        afterwards.append(random.random())
    assert afterwards[0] != afterwards[1], "the search's own seed was left behind"
    assert points[0] == points[1]
    assert engine.random_points(sweep, 7) == points[0][:7]
    assert len({point.id for point in points[0]}) == 20
    assert all(0 <= point.parameters["x"] <= 1 for point in points[0])


def test_a_random_search_of_few_values_ends_when_all_were_tried():
    points = engine.random_points(sweep_over(1, 2, 3, method="random", run_cap=50), 50)
    assert sorted(point.parameters["x"] for point in points) == [1, 2, 3]


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
@pytest.mark.parametrize("method", ["grid", "random"])
def test_no_trial_begins_any_more_once_one_has_reached_the_target(tmp_path, method, goal):
    values = range(1, 9)
    metric = {"name": "score", "goal": goal, "target": 4.0}
    sweep = sweep_over(*values, method=method, run_cap=8, metric=metric)
    Runner(sweep, tmp_path).run()
    begun = list(states(tmp_path))
    reached = [value for value in begun if (value >= 4 if goal == "maximize" else value <= 4)]
    assert (reached, len(begun) < 8) == (begun[-1:], True)
    Runner(sweep, tmp_path).run()
    assert list(states(tmp_path)) == begun


def test_a_killed_trial_goes_on_with_its_run_and_one_that_failed_begins_anew(tmp_path):
    program = PROGRAM.replace(
        'print("epoch 0")', 'print(options.get("ckpt_path"), flush=True); (run / "config.yaml").touch()'
    )
    sweep = replace(sweep_over(1, 13), program=program)

    def interrupt(event, trial):
        if event == "started":
            wait_for(lambda: list(tmp_path.glob("*/*/metrics.csv")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(sweep, tmp_path, more=["--slow=1"], on_event=interrupt).run()
    for _ in range(2):
        Runner(sweep, tmp_path, retry_failed=True).run()
    killed, failed = read_trials(tmp_path)
    assert states(tmp_path) == {1: ("finished", 2), 13: ("failed", 2)}
    said = [(trial.folder / "output.log").read_text() for trial in (killed, failed)]
    assert [[line for line in text.split() if line in ("None", "last")] for text in said] == [
        ["None", "last"],
        ["None", "None"],
    ]


def test_a_trial_that_began_anew_after_a_failure_never_goes_on_with_the_failed_attempt(tmp_path):
    """One kill, before there is a run or a checkpoint, must not undo `--retry-failed`."""
    program = """
import json, os, pathlib, signal, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[2:])
said = json.loads(os.environ.get("GAN_LIGHTNING_RUNS_TO_GO_ON", "null"))
attempt = len(list(pathlib.Path(sys.argv[1]).parent.glob("said-*"))) + 1
(pathlib.Path(sys.argv[1]).parent / f"said-{attempt}").write_text(json.dumps([options.get("ckpt_path"), said]))
if attempt != 2:
    run = pathlib.Path(options["run.root"], options["run.name"], f"run-{attempt}")
    run.mkdir()
    for name in ("run.json", "config.yaml"):
        (run / name).write_text("{}")
if attempt == 1:
    sys.exit("ValueError: at first")
if attempt < 5:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    sweep = replace(sweep_over(1), program=program)
    for _ in range(5):
        Runner(sweep, tmp_path, retry_failed=True).run()
        Runner(sweep, tmp_path).run()
    (trial,) = read_trials(tmp_path)
    said = [json.loads(path.read_text()) for path in sorted(trial.folder.glob("said-*"))]
    assert said == [[None, None], [None, None], [None, None], ["last", ["run-3"]], ["last", ["run-3", "run-4"]]]
    assert (trial.status, trial.attempts, trial.abandoned_runs) == ("finished", 5, ["run-1"])


def test_a_trial_that_is_left_behind_while_a_runner_works_is_taken_up_by_it(tmp_path):
    sweep = sweep_over(1, 2)
    with ExitStack() as elsewhere:

        def leave(event, trial):
            assert (event, trial.parameters["x"]) in {("started", 2), ("ended", 2), ("started", 1), ("ended", 1)}
            elsewhere.close()

        assert elsewhere.enter_context(trial_lock(tmp_path / sweep.grid()[0].id)) is not None
        Runner(sweep, tmp_path, on_event=leave).run()
    assert states(tmp_path) == {1: ("finished", 1), 2: ("finished", 1)}


def test_early_stopping_ends_a_trial_that_falls_behind_and_keeps_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "EARLY_STOP_SECONDS", 0.05)
    stopping = {"type": "hyperband", "min_iter": 1, "eta": 2}
    Runner(sweep_over(5, 4, 3), tmp_path).run()  # what others have reached
    parameters = {"x": {"values": [1]}, "steps": {"value": 3000}, "pause": {"value": 0.1}}
    Runner(sweep_over(early_terminate=stopping, parameters=parameters), tmp_path).run()
    assert states(tmp_path)[1] == ("stopped", 1)
    Runner(sweep_over(early_terminate=stopping, parameters=parameters), tmp_path).run()
    assert states(tmp_path)[1] == ("stopped", 1)
    (stopped,) = [trial for trial in read_trials(tmp_path) if trial.status == "stopped"]
    assert stopped.metric_history("score")[0] == 1.0


@pytest.mark.parametrize("more", [{"early_terminate": {"type": "hyperband", "min_iter": 1}}, {"target": 0.5}])
def test_a_sweep_that_looks_at_a_metric_that_no_run_logs_ends_after_the_first(tmp_path, more):
    metric = {"name": "scroe", "goal": "maximize"} | {k: v for k, v in more.items() if k == "target"}
    sweep = sweep_over(1, 2, metric=metric, early_terminate=more.get("early_terminate"))
    with pytest.raises(SettingError, match=r"got 'scroe'; .* has logged score, step .* Did you mean score\?"):
        Runner(sweep, tmp_path).run()
    assert states(tmp_path) == {1: ("finished", 1)}


def test_an_error_is_kept_whole(tmp_path):
    said = (
        "usage: gan-lightning\n"
        'error: Parser key "anatomy.every_n_epochs":\n'
        "  Does not validate against any of the Union subtypes\n"
        "    - ValueError: not an int\n"
        "\n"
        "wandb: bye\n"
    )
    Runner(replace(sweep_over(1), program=f"raise SystemExit({said!r})"), tmp_path).run()
    (trial,) = read_trials(tmp_path)
    assert trial.error == (
        'error: Parser key "anatomy.every_n_epochs": Does not validate against any of the Union subtypes '
        "- ValueError: not an int"
    )


def test_a_trial_of_another_sweep_or_of_another_version_of_its_file_is_named(tmp_path):
    search = sweep_over(method="random", run_cap=2, parameters={"x": {"min": 0.0, "max": 4.0}})
    Runner(search, tmp_path).run()
    check_trials(search, tmp_path)
    for changed, message in (
        ({"x": {"min": 0.0, "max": 4.0}, "y": {"value": 1}}, "has no y"),
        ({"z": {"min": 0.0, "max": 4.0}}, "has x"),
        ({"x": {"min": 7.0, "max": 8.0}}, r"has x = \d\.\d+, out of its range"),
    ):
        with pytest.raises(SettingError, match=f"trials of s.yaml, but '.*' {message}. Move it out of the folder"):
            check_trials(replace(search, parameters=changed), tmp_path)
    first = read_trials(tmp_path)[0]
    (first.folder / "trial.json").write_text((first.folder / "trial.json").read_text().replace('"x": ', '"x": 1'))
    with pytest.raises(SettingError, match=r"is not called .*, as its parameters are"):
        check_trials(replace(search, method="grid"), tmp_path)
