"""Runs trials, each as a process of its own, several at a time."""

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.engine import next_point, random_points, trials_to_stop
from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.sweeps.trials import ENDED, RECORD, Status, Trial, read_trial, read_trials, sweep_lock, trial_lock
from gan_lightning.sweeps.worker import POLL_SECONDS, Worker, end_group, start_worker, stop_workers, trial_environment
from gan_lightning.system.signals import SIGNALS

EARLY_STOP_SECONDS = 2.0
_ATTEMPT = "=== attempt "
"""Begins the line between the outputs of two attempts."""

_ENDINGS = (*SIGNALS, signal.SIGKILL)
"""Signals by which somebody ends a trial that could have gone on; other signals mean a failure."""

OnEvent = Callable[[str, Trial], None]
"""Told the event of a trial: "started" or "ended"."""


@dataclass
class _Running:
    trial: Trial
    process: Worker
    started: float
    lock: ExitStack
    stopped_early: bool = False


class Runner:
    """Runs the unfinished trials of a sweep, and records their ends.

    Several runners, on several machines, may share a folder: a trial runs in one of them.

    Args:
        sweep: The sweep to run.
        folder: Folder of its trials.
        workers: Processes at a time.
        more: Arguments to append to the file's.
        retry_failed: Whether failed trials are run again.
        on_event: Told of each trial that starts and ends.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        *,
        workers: int = 1,
        more: Sequence[str] = (),
        retry_failed: bool = False,
        on_event: OnEvent = lambda event, trial: None,
    ) -> None:
        self.sweep, self.folder, self.workers, self.more = sweep, folder, workers, more
        self.retry_failed, self.on_event = retry_failed, on_event
        self._running: list[_Running] = []

    def run(self, points: Sequence[Point] | None = None) -> None:
        """Run these points, or the whole sweep; return when nothing is left to run here."""
        source = self._points() if points is None else iter(points)
        checked = 0.0
        try:
            while True:
                while len(self._running) < self.workers and (point := next(source, None)) is not None:
                    self._start(point)
                if not self._running:
                    return
                time.sleep(POLL_SECONDS)
                if self.sweep.early_terminate and time.monotonic() - checked > EARLY_STOP_SECONDS:
                    self._stop_early()
                    checked = time.monotonic()
                for running in [r for r in self._running if r.process.poll() is not None]:
                    self._end(running)
                    self._check_metric(running.trial)
        finally:
            stop_workers([running.process for running in self._running])
            for running in list(self._running):
                self._end(running)

    def _points(self) -> Iterator[Point]:
        """Yield the points to run. Bayesian search chooses a point when it is asked, by the results until then."""
        if self.sweep.method == "bayes":
            earlier = read_trials(self.folder)
            yield from (Point(trial.index, trial.parameters) for trial in earlier)
            while (point := self._next_point()) is not None:
                yield point
        else:
            yield from all_points(self.sweep)

    def _next_point(self) -> Point | None:
        """Choose a point and write it down, so that other runners choose other points; None at the end."""
        with sweep_lock(self.folder):
            trials = read_trials(self.folder)
            if len(trials) >= (self.sweep.run_cap or 0) or (point := next_point(self.sweep, trials)) is None:
                return None
            Trial(point.id, point.index, point.parameters, "running", self.folder / point.id).write()
            return point

    def _start(self, point: Point) -> None:
        """Start a trial, unless it is done or runs elsewhere."""
        folder = self.folder / point.id
        with ExitStack() as stack:
            lock = stack.enter_context(trial_lock(folder))
            if lock is None:
                return
            known = read_trial(folder / RECORD) if (folder / RECORD).is_file() else None
            if known and known.status == "running" and (about := known.finished_run()):
                # Its runner ended before it did: nobody has noted its end.
                self._note_end(known, "finished", about.get("seconds"))
                return
            if known and (known.status in ENDED or (known.status == "failed" and not self.retry_failed)):
                self._check_metric(known)
                return
            trial = Trial(point.id, point.index, point.parameters, "running", folder)
            trial.attempts = known.attempts + 1 if known else 1
            trial.started = datetime.now(UTC).isoformat(timespec="seconds")
            trial.earlier_runs = trial.run_folders()
            point_file = folder / "point.json"
            point_file.write_text(json.dumps(point.parameters, indent=2) + "\n", encoding="utf-8")
            command = trial_command(self.sweep, self.folder, point, point_file, self.more)
            trial.write()
            log = folder / "output.log"
            if known and known.attempts:
                with log.open("ab") as output:
                    output.write(f"{_ATTEMPT}{trial.attempts}, {trial.started}\n".encode())
            environment = trial_environment(self.sweep, point, folder, self.workers)
            process = start_worker(command, environment, log, lock)
            self._running.append(_Running(trial, process, time.monotonic(), stack.pop_all()))
        self.on_event("started", trial)

    def _end(self, running: _Running) -> None:
        trial, code = running.trial, running.process.wait()
        self._running.remove(running)
        seconds = round(time.monotonic() - running.started, 1)
        if code == 0:
            self._note_end(trial, "finished", seconds)
        else:
            end_group(running.process.pid)  # other processes of the trial: nobody waits for them any more
            ended_by = -code if code < 0 else code - 128
            if ended_by in _ENDINGS and running.stopped_early:
                self._note_end(trial, "stopped", seconds)
            elif ended_by in _ENDINGS:
                self._note_end(trial, "killed", seconds, f"ended with status {code}, as by a signal")
            else:
                crash = f"{signal.strsignal(-code)}: " if code < 0 else ""
                self._note_end(trial, "failed", seconds, crash + last_words(trial.folder / "output.log"))
        running.lock.close()

    def _note_end(self, trial: Trial, status: Status, seconds: float | None, error: str | None = None) -> None:
        """Write down a trial's end, while its lock is held."""
        run = trial.newest_run()
        trial.run_folder = run.name if run else None
        trial.status, trial.seconds, trial.error = status, seconds, error
        trial.write()
        self.on_event("ended", trial)

    def _check_metric(self, trial: Trial) -> None:
        """Check that a finished trial has logged the metric of the search and of early stopping.

        Raises:
            SettingError: If it has not: a search without results is no search.
        """
        name = (self.sweep.metric or {}).get("name")
        looked_at = self.sweep.method == "bayes" or self.sweep.early_terminate
        if looked_at and trial.status == "finished" and name not in (logged := trial.metric_names()):
            raise SettingError(
                f"metric.name must be what the runs log, got '{name}'; the trial {trial.id} has logged "
                f"{', '.join(sorted(logged)) or 'nothing'} ({self.sweep.path})."
            )

    def _stop_early(self) -> None:
        trials = {trial.id: trial for trial in read_trials(self.folder)}
        to_stop = trials_to_stop(self.sweep, list(trials.values()))
        given_up = [r for r in self._running if r.trial.id in to_stop and r.process.poll() is None]
        for running in given_up:
            running.stopped_early = True
        stop_workers([running.process for running in given_up])


def all_points(sweep: Sweep) -> list[Point]:
    """Return the points of a grid or of a random search; they are known beforehand."""
    return sweep.grid() if sweep.method == "grid" else random_points(sweep, sweep.run_cap or 0)


def trial_command(sweep: Sweep, folder: Path, point: Point, point_file: Path, more: Sequence[str] = ()) -> list[str]:
    """Return the arguments of a trial's process; some of them put its files below its folder.

    Args:
        sweep: Of the trial.
        folder: The sweep's.
        point: The trial's parameters.
        point_file: File with the parameters as JSON.
        more: Arguments to append to the sweep file's.
    """
    command = [*sweep.trial_command(point, point_file, more), f"--run.root={folder}", f"--run.name={point.id}"]
    words = " ".join(command).replace("=", " ").split()
    loggers = [value for name, value in itertools.pairwise(words) if name == "--trainer.logger"]
    if loggers and loggers[-1].endswith("WandbLogger") and "--trainer.logger.save_dir" not in words:
        # Lightning's own default, the working directory, would override WANDB_DIR.
        command.append(f"--trainer.logger.save_dir={folder / point.id}")
    return command


def last_words(log: Path) -> str:
    """Return the line of an output with the reason of the failure."""
    text = log.read_text(encoding="utf-8", errors="replace").rpartition(_ATTEMPT)[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if "error:" in line.lower()]
    return (said or lines or ["it printed nothing"])[-1].removeprefix("gan-lightning: error: ")
