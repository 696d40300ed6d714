"""A sweep's trials as jobs of a SLURM cluster, submitted and followed by `submitit`, an optional extra.

Each job is `gan-lightning sweep FILE --index N` on the same folder, so that a job and a runner may work beside each
other. Of a Bayesian search each job is a runner.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.distributions import did_you_mean
from gan_lightning.sweeps.runner import OnEvent
from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.sweeps.trials import Trial, read_trials
from gan_lightning.system.trial_states import ENDED

OPTION = "--slurm."

CLUSTERS = ("slurm", "local")
"""The clusters that jobs go to: SLURM, or processes of this machine to try the way there."""

LOOK_SECONDS = 2.0
"""Seconds between two looks at jobs and trials."""

LONGEST_MINUTES = 7 * 24 * 60
"""Minutes for a job of this machine, of which nobody is in a hurry to have the cores back."""

_WORDS = {"true": True, "false": False, "null": None}
"""Values of a setting that are no texts."""

GRACE_SECONDS = 20.0
"""Seconds for a job's trial to save before its time is over."""


def split_options(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return arguments without `--slurm.NAME=VALUE`, and these settings.

    Raises:
        SettingError: A setting has no value.
    """
    others, settings = [], {}
    for word in arguments:
        if not word.startswith(OPTION):
            others.append(word)
            continue
        name, equals, value = word.removeprefix(OPTION).partition("=")
        if not name or not equals:
            raise SettingError(f"{word} must be given its value behind an equals sign: {OPTION}partition=gpu.")
        settings[name] = _read(word, value)
    return others, settings


def _read(word: str, value: str) -> Any:
    """Return the value of a setting: a whole number, true, false, null, a list or mapping in brackets, or a text.

    Texts stay as SLURM has them: in YAML, 2:00:00 would be the number 7200.

    Args:
        word: The whole argument, for the error.
        value: The setting's.

    Raises:
        SettingError: What stands in the brackets cannot be read.
    """
    if not value.startswith(("{", "[")):
        return _plain(value)
    try:
        return _plain(yaml.load(value, yaml.BaseLoader))  # of texts alone
    except yaml.YAMLError as error:
        raise SettingError(f"{word} must hold a list or a mapping as YAML has them, got '{value}'.") from error


def _plain(value: Any) -> Any:
    """Return a value whose texts are replaced by the whole numbers, truth values and null that they name."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if re.fullmatch(r"-?(0|[1-9][0-9]*)", value) else _WORDS.get(value, value)


def submitit() -> ModuleType:
    """Return the `submitit` package.

    Raises:
        SettingError: It is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise SettingError(
            f"{OPTION}* needs submitit, which is not installed; install it with: pip install 'gan-lightning[slurm]'"
        ) from error
    return submitit


def executor(settings: Mapping[str, Any], name: str, folder: Path) -> Any:
    """Return submitit's executor of a cluster.

    Args:
        settings: SLURM's, by the names that submitit has for them; `cluster` is one of `CLUSTERS`.
        name: Of the jobs.
        folder: For the jobs' own files.

    Raises:
        SettingError: submitit is missing, there is no cluster, or a setting is unknown, missing or wrong.
    """
    package, given = submitit(), dict(settings)
    cluster = given.pop("cluster", CLUSTERS[0])
    if cluster not in CLUSTERS:
        raise SettingError(f"{OPTION}cluster must be one of {', '.join(CLUSTERS)}, got {cluster}.")
    minutes = given.get("time", 1)
    if type(minutes) is not int or minutes < 1:  # submitit counts with them
        raise SettingError(f"{OPTION}time must be in minutes, a whole number of at least 1, got {minutes}.")
    if cluster == "local":
        made = package.LocalExecutor(folder)
        made.update_parameters(timeout_min=given.get("time", LONGEST_MINUTES))
        return made
    if package.SlurmExecutor.affinity() < 0:
        raise SettingError(
            f"{OPTION}* must be used where SLURM is, and there is no srun here. Log in to the cluster, leave the "
            f"settings out to run here, or try the way there with {OPTION}cluster=local."
        )
    if "time" not in given:
        raise SettingError(
            f"{OPTION}time must be set: the minutes that a trial may take. When they are over, the trial saves, and "
            "its job is queued again."
        )
    made = package.SlurmExecutor(folder)
    try:
        made.update_parameters(**{"job_name": name, **given})
    except (TypeError, ValueError) as error:
        known = re.findall(r"^ *- (\w+) ", str(error), flags=re.MULTILINE)
        unknown = next((setting for setting in given if known and setting not in known), None)
        if unknown is not None:
            raise SettingError(
                f"{OPTION}{unknown} is no setting that submitit knows.{did_you_mean(unknown, known)}"
            ) from error
        raise SettingError(f"{OPTION}* cannot be used: {' '.join(str(error).split())}") from error
    return made


class SweepJob:
    """What a job runs: a command in a folder. A job that is queued again runs it again, and its trial goes on.

    Args:
        command: Its arguments.
        folder: To run in.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.command, self.folder = list(command), folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command; return its status, which says 1 where the trial has failed and has its record."""
        self._process = subprocess.Popen(self.command, cwd=self.folder)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """End the command before the job's time is over; return the job to queue. submitit calls this."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return submitit().helpers.DelayedSubmission(SweepJob(self.command, self.folder))


class ClusterRunner:
    """Submits the unfinished trials of a sweep as jobs, and follows them until all have ended.

    Args:
        sweep: The sweep to run.
        folder: Folder of its trials, which the cluster's nodes share.
        file: The sweep's file, or its name, as the jobs are given it.
        settings: The cluster's, as `executor` takes them.
        workers: Number of jobs of a Bayesian search.
        more: Arguments to append to the file's.
        retry_failed: Whether failed trials are run again.
        on_event: Told of each trial that has ended.
        on_wait: Called again and again while jobs run.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        file: str,
        settings: Mapping[str, Any],
        *,
        workers: int = 1,
        more: Sequence[str] = (),
        retry_failed: bool = False,
        on_event: OnEvent = lambda event, trial: None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.sweep, self.folder, self.file, self.workers, self.more = sweep, folder, file, workers, more
        self.retry_failed, self.on_event, self.on_wait = retry_failed, on_event, on_wait
        self.executor = executor(settings, sweep.name, folder / "jobs")
        self.jobs: list[Any] = []

    def run(self, points: Sequence[Point] | None = None) -> None:
        """Submit these points, or runners of the whole search; return when their jobs have ended.

        The end of each attempt is told: a job that is queued again ends more than once.

        Raises:
            SettingError: The cluster refuses the jobs.
        """
        told = {_state(trial) for trial in read_trials(self.folder)}
        self.submit(points)
        while True:
            over = all(job.done() for job in self.jobs)
            for trial in read_trials(self.folder):
                if trial.status != "running" and _state(trial) not in told:
                    told.add(_state(trial))
                    self.on_event("ended", trial)
            self.on_wait()
            if over:
                return
            time.sleep(LOOK_SECONDS)

    def submit(self, points: Sequence[Point] | None) -> None:
        """Submit a job for each point that is neither done nor running, or the runners of a search."""
        if points is None:
            commands = [self._command()] * self.workers
        else:
            known = {trial.id: trial for trial in read_trials(self.folder)}
            todo = [point for point in points if self._is_open(known.get(point.id))]
            commands = [self._command(f"--index={point.index}") for point in todo]
        here = Path.cwd()
        try:
            self.jobs = self.executor.submit_array([SweepJob(each, here) for each in commands]) if commands else []
        except submitit().core.utils.FailedJobError as error:
            raise SettingError(f"the cluster must take the jobs, and refuses: {str(error).strip()}") from error

    def what_goes_on(self) -> str:
        """Return what to say when following ends before the jobs do."""
        left = [str(job.job_id) for job in self.jobs if not job.done()]
        return f"Nobody follows any more; {len(left)} jobs go on: {', '.join(left)}." if left else "No job is left."

    def without_record(self) -> list[str]:
        """Return a line for each job that ended without an end of its own, such as on a node that failed."""
        return [
            f"job {job.job_id} ended before it was done (see {job.paths.stderr})"
            for job in self.jobs
            if job.done(force_check=True) and not job.paths.result_pickle.exists()
        ]

    def _is_open(self, trial: Trial | None) -> bool:
        """Return whether a trial has to be run."""
        if trial is None:
            return True
        done = trial.status in ENDED or (trial.status == "failed" and not self.retry_failed)
        return not done and trial.state != "running"

    def _command(self, *options: str) -> list[str]:
        if self.retry_failed:
            options = (*options, "--retry-failed")
        start = [sys.executable, "-m", "gan_lightning", "sweep", self.file, f"--dir={self.folder}", *options]
        return [*start, *(["--", *self.more] if self.more else [])]


def _state(trial: Trial) -> tuple[str, int, str]:
    """Return what is another after each start and each end of a trial; times of two machines cannot be compared."""
    return trial.id, trial.attempts, trial.status
