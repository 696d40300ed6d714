"""A sweep's trials as jobs: what is submitted, what is refused, how their ends are seen. SLURM itself is played."""

import json
import os
import pickle
import re
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from gan_lightning.errors import SettingError
from gan_lightning.sweeps import cluster
from gan_lightning.sweeps.cluster import ClusterRunner, SweepJob, executor, split_options
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.trials import Trial, read_trials, trial_lock
from gan_lightning.system.files import SCHEMA_VERSION

submitit = pytest.importorskip("submitit", reason="needs the extra [slurm]")

SWEEP = Sweep(
    path=Path("s.yaml"), name="s", method="grid", parameters={"x": {"values": [1, 2, 3]}}, command=(), run_cap=None,
    metric=None, early_terminate=None,
)  # fmt: skip

RECORD = """
import json, os, sys
index, folder = sys.argv[1:]
(path := os.path.join(folder, index)) and os.makedirs(path)
if index == "2":
    os.kill(os.getppid(), 9)  # the whole job
    sys.exit()
status = "failed" if index == "1" else "finished"
record = {"id": index, "index": int(index), "parameters": {"x": 1}, "status": status, "attempts": 1}
with open(os.path.join(path, "trial.json"), "w") as file:
    json.dump(record | {"schema_version": SCHEMA_VERSION}, file)
""".replace("SCHEMA_VERSION", str(SCHEMA_VERSION))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Play SLURM's programs; return the file with the last submitted script."""
    programs = tmp_path / "bin"
    programs.mkdir()
    script = tmp_path / "submitted.sh"
    for name, does in (("srun", "exit 0"), ("sbatch", f'cp "$1" {script}; echo Submitted batch job 12'),
                       ("sacct", "exit 0")):  # fmt: skip
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return script


def test_the_clusters_settings_are_told_from_the_sweeps():
    words = ["s.yaml", "--slurm.partition=gpu", "--workers", "2", "--slurm.time=60", "--slurm.gres=gpu:1"]
    assert split_options(words) == (["s.yaml", "--workers", "2"], {"partition": "gpu", "time": 60, "gres": "gpu:1"})
    texts = ("2:00:00", "1-12:00:00", "1e3", "007", "2026-11-27", "yes", "gpu:1", "node[1-3]", "")
    for text in texts:
        assert split_options([f"--slurm.x={text}"])[1] == {"x": text}
    others = {"true": True, "false": False, "null": None, "0": 0, "-1": -1, "{a: 1:30, b: 2}": {"a": "1:30", "b": 2},
              "[module load a, 'b: c']": ["module load a", "b: c"]}  # fmt: skip
    assert [split_options([f"--slurm.x={text}"])[1]["x"] for text in others] == list(others.values())
    with pytest.raises(SettingError, match=r"--slurm\.x=\{a must hold a list or a mapping"):
        split_options(["--slurm.x={a"])
    for word in ("--slurm.partition", "--slurm.=1"):
        with pytest.raises(SettingError, match=re.escape(f"{word} must be given its value behind an equals sign")):
            split_options(["s.yaml", word])


def test_without_a_cluster_or_submitit_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SettingError, match=r"must be used where SLURM is, and there is no srun here.*cluster=local"):
        executor({"partition": "gpu"}, "s", tmp_path / "jobs")
    with pytest.raises(SettingError, match=r"--slurm\.cluster must be one of slurm, local, got moon"):
        executor({"cluster": "moon"}, "s", tmp_path / "jobs")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SettingError, match=r"needs submitit.*pip install 'gan-lightning\[slurm\]'"):
        executor({"partition": "gpu"}, "s", tmp_path / "jobs")
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"partition": "gpu"}, r"--slurm\.time must be set: the minutes"),
     ({"time": "2:00:00"}, r"--slurm\.time must be in minutes, a whole number of at least 1, got 2:00:00\."),
     ({"time": 0, "cluster": "local"}, r"--slurm\.time must be in minutes, .* got 0\."),
     ({"time": 5, "partitoin": "gpu"}, r"--slurm\.partitoin is no setting .*Did you mean partition\?")],
)  # fmt: skip
def test_a_setting_that_is_missing_or_unknown_is_named(slurm, tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        executor(settings, "s", tmp_path / "jobs")


def test_an_array_has_a_job_for_each_point_that_is_left(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    points, folder = SWEEP.grid(), Path("trials")
    Trial(points[0].id, 0, points[0].parameters, "finished", folder / points[0].id, attempts=1).write()
    settings = {"partition": "gpu", "time": 60, "cpus_per_task": 4}
    runner = ClusterRunner(SWEEP, folder, "s.yaml", settings, more=["--a=1"])
    runner.submit(points)
    script = slurm.read_text()
    for line in ("--partition=gpu", "--time=60", "--cpus-per-task=4", "--job-name=s", "--array=0-1%"):
        assert f"#SBATCH {line}" in script
    assert [job.job_id for job in runner.jobs] == ["12_0", "12_1"]
    told = [pickle.loads(job.paths.submitted_pickle.read_bytes()).function for job in runner.jobs]
    common = [sys.executable, "-m", "gan_lightning", "sweep", "s.yaml", "--dir=trials"]
    assert [each.command for each in told] == [[*common, f"--index={n}", "--", "--a=1"] for n in (1, 2)]
    assert {each.folder for each in told} == {tmp_path}
    assert runner.what_goes_on() == "Nobody follows any more; 2 jobs go on: 12_0, 12_1."


def test_failed_and_running_trials_are_left_alone_unless_they_are_asked_for(slurm, tmp_path):
    points = SWEEP.grid()
    for point, status in zip(points, ("failed", "running", "killed"), strict=True):
        Trial(point.id, point.index, point.parameters, status, tmp_path / point.id, attempts=1).write()
    with trial_lock(tmp_path / points[1].id):
        for retry, left in ((False, ["2"]), (True, ["0", "2"])):
            runner = ClusterRunner(SWEEP, tmp_path, "s.yaml", {"time": 5}, retry_failed=retry)
            runner.submit(points)
            jobs = [pickle.loads(job.paths.submitted_pickle.read_bytes()).function for job in runner.jobs]
            assert [each.command[6].removeprefix("--index=") for each in jobs] == left
            assert all(("--retry-failed" in each.command) is retry for each in jobs)
    search = ClusterRunner(SWEEP, tmp_path, "s.yaml", {"time": 5}, workers=3)
    search.submit(None)
    assert len(search.jobs) == 3, "of a search, each job is a runner"


def test_a_cluster_that_refuses_is_said_in_one_line(slurm, tmp_path):
    refuses = "#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n"
    (tmp_path / "bin/sbatch").write_text(refuses)
    runner = ClusterRunner(SWEEP, tmp_path / "trials", "s.yaml", {"partition": "gpu", "time": 5})
    with pytest.raises(SettingError, match=r"refuses: .*invalid partition specified: gpu"):
        runner.submit(SWEEP.grid())


@pytest.mark.slow  # each of submitit's local jobs takes a second to start
def test_every_end_of_a_job_is_seen(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(
        ClusterRunner, "_command",
        lambda self, *options: [sys.executable, "-c", RECORD, options[0].partition("=")[2], str(self.folder)],
    )  # fmt: skip
    runner = ClusterRunner(
        SWEEP, tmp_path, "s.yaml", {"cluster": "local"}, on_event=lambda event, trial: events.append((event, trial.id))
    )
    runner.run(SWEEP.grid())
    assert sorted(events) == [("ended", "0"), ("ended", "1")]
    assert {trial.id: trial.status for trial in read_trials(tmp_path)} == {"0": "finished", "1": "failed"}
    (line,) = runner.without_record()
    assert re.fullmatch(r"job \d+ ended before it was done \(see .*err\)", line)
    assert runner.what_goes_on() == "No job is left."


def test_each_end_is_told_once_whatever_the_clocks_say(slurm, tmp_path, monkeypatch):
    """The clock of the disk is an hour behind for the jobs, and an hour ahead for what was there before."""
    earlier, *points = SWEEP.grid()

    def write(point, status: str, attempts: int, hours: int = -1) -> None:
        Trial(point.id, point.index, point.parameters, status, tmp_path / point.id, attempts=attempts).write()
        there = time.time() + 3600 * hours
        os.utime(tmp_path / point.id / "trial.json", (there, there))

    write(earlier, "finished", 1, hours=1)
    write(points[0], "failed", 1)
    looks = [[(0, "failed", 2)], [(1, "killed", 1)], [(1, "running", 2)], [(1, "killed", 2)], [(1, "finished", 3)], []]

    class Played:
        def done(self) -> bool:
            for number, status, attempts in looks.pop(0):
                write(points[number], status, attempts)
            return not looks

    events = []
    runner = ClusterRunner(
        SWEEP, tmp_path, "s.yaml", {"time": 5},
        on_event=lambda event, trial: events.append((event, trial.index, trial.status, trial.attempts)),
    )  # fmt: skip
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0)
    monkeypatch.setattr(runner, "submit", lambda points: runner.jobs.append(Played()))
    runner.run(points)
    assert events == [
        ("ended", 1, "failed", 2), ("ended", 2, "killed", 1), ("ended", 2, "killed", 2), ("ended", 2, "finished", 3)
    ]  # fmt: skip


def test_a_job_whose_time_is_over_ends_its_trial_and_is_queued_again(tmp_path):
    program = (
        "import signal, sys, time, pathlib\n"
        "def save(*_): pathlib.Path('saved').touch(); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save); pathlib.Path('ready').touch(); time.sleep(60)"
    )
    job = SweepJob([sys.executable, "-c", program], tmp_path)
    status = []
    thread = threading.Thread(target=lambda: status.append(job()))
    thread.start()
    deadline = time.monotonic() + 240
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    again = job.checkpoint()
    thread.join()
    assert (tmp_path / "saved").exists()
    assert status[0] in (143, -signal.SIGTERM)
    queued = pickle.loads(pickle.dumps(again)).function
    assert json.dumps(queued.command) == json.dumps(job.command)
