"""Runs trials, each as a process of its own, several at a time."""

import itertools
import json
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.distributions import did_you_mean
from gan_lightning.sweeps.engine import next_point, random_points, target_reached, trials_to_stop
from gan_lightning.sweeps.forked_worker import end_warm_parents
from gan_lightning.sweeps.spec import Point, Sweep
from gan_lightning.sweeps.trials import RECORD, Status, Trial, read_trial, read_trials, sweep_lock, trial_lock
from gan_lightning.sweeps.worker import POLL_SECONDS, Worker, end_group, start_worker, stop_workers, trial_environment
from gan_lightning.system.signals import SIGNALS
from gan_lightning.system.trial_states import ENDED

EARLY_STOP_SECONDS = 2.0
GO_ON = "--ckpt_path=last"
"""Argument of a trial that goes on with the newest checkpoint of its attempts since it last began anew."""

_ATTEMPT = "=== attempt "
"""Begins the line between the outputs of two attempts."""

_ERROR = re.compile(r"(?=\S).*error:|\w[\w.]*(Error|Exception)\b", re.IGNORECASE)
"""The first line of an error in an output: the command line's, or the last of a traceback."""

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
        on_wait: Called again and again while trials run.
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
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self.sweep, self.folder, self.workers, self.more = sweep, folder, workers, more
        self.retry_failed, self.on_event, self.on_wait = retry_failed, on_event, on_wait
        self._running: list[_Running] = []
        self._begun: set[str] = set()

    def run(self, points: Sequence[Point] | None = None) -> None:
        """Run these points, or the whole sweep; return when nothing is left to run here.

        At the end it looks again: a trial that ran elsewhere may have been killed since.
        """
        begun = -1
        try:
            while len(self._begun) > begun:
                begun = len(self._begun)
                self._run_through(self._points() if points is None else self._unless_reached(points))
        finally:
            end_warm_parents()

    def _run_through(self, source: Iterator[Point]) -> None:
        checked = 0.0
        try:
            while True:
                while len(self._running) < self.workers and (point := next(source, None)) is not None:
                    self._start(point)
                if not self._running:
                    return
                time.sleep(POLL_SECONDS)
                self.on_wait()
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
            yield from self._unless_reached(all_points(self.sweep))

    def _unless_reached(self, points: Sequence[Point]) -> Iterator[Point]:
        """Yield points; of those that have no trial yet, none once a trial has reached the metric's target."""
        has_target = "target" in (self.sweep.metric or {})
        for point in points:
            is_new = has_target and not (self.folder / point.id / RECORD).is_file()
            if not is_new or target_reached(self.sweep, read_trials(self.folder)) is None:
                yield point

    def _next_point(self) -> Point | None:
        """Choose a point and write it down, so that other runners choose other points; None at the end."""
        with sweep_lock(self.folder):
            trials = read_trials(self.folder)
            if len(trials) >= (self.sweep.run_cap or 0) or target_reached(self.sweep, trials):
                return None
            if (point := next_point(self.sweep, trials)) is None:
                return None
            Trial(point.id, point.index, point.parameters, "running", self.folder / point.id).write()
            return point

    def _start(self, point: Point) -> None:
        """Start a trial, unless it is done, runs elsewhere, or was begun here; a killed one goes on."""
        if point.id in self._begun:
            return
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
            goes_on = known.runs_to_go_on() if known and not self._has_checkpoint() else []
            trial.abandoned_runs = known.abandoned_runs if known and goes_on else trial.configured_runs()
            point_file = folder / "point.json"
            point_file.write_text(json.dumps(point.parameters, indent=2) + "\n", encoding="utf-8")
            more = [*self.more, GO_ON] if goes_on else self.more
            command = trial_command(self.sweep, self.folder, point, point_file, more)
            trial.write()
            log = folder / "output.log"
            if known and known.attempts:
                with log.open("ab") as output:
                    output.write(f"{_ATTEMPT}{trial.attempts}, {trial.started}\n".encode())
            environment = trial_environment(self.sweep, point, folder, self.workers, goes_on or None)
            process = start_worker(command, environment, log, lock)
            self._begun.add(point.id)
            self._running.append(_Running(trial, process, time.monotonic(), stack.pop_all()))
        self.on_event("started", trial)

    def _has_checkpoint(self) -> bool:
        """Return whether the command says itself what the trials go on with."""
        return any(word.partition("=")[0] == "--ckpt_path" for word in (*self.sweep.command, *self.more))

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
            elif ended_by in _ENDINGS and trial.finished_run():
                self._note_end(trial, "finished", seconds)  # it was ended after its work, or nobody heard its status
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
        """Check that a finished trial has logged the metric of the search, of early stopping and of the target.

        Raises:
            SettingError: If it has not: a search without results is no search.
        """
        name = self.sweep.metric_name
        if self.sweep.needs_metric and trial.status == "finished" and name not in (logged := trial.metric_names()):
            raise SettingError(
                f"metric.name must be what the runs log, got '{name}'; the trial {trial.id} has logged "
                f"{', '.join(sorted(logged)) or 'nothing'} ({self.sweep.path}).{did_you_mean(name, logged)}"
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
    """Return the reason of the failure from an output: its last line with an error, and what follows on the error."""
    text = log.read_text(encoding="utf-8", errors="replace").rpartition(_ATTEMPT)[2]
    lines = [line.rstrip() for line in text.splitlines()]
    said = [number for number, line in enumerate(lines) if _ERROR.match(line)]
    if not said:
        return ([line.strip() for line in lines if line.strip()] or ["it printed nothing"])[-1]
    further = itertools.takewhile(lambda line: line.startswith((" ", "\t", "-")), lines[said[-1] + 1 :])
    return " ".join(" ".join([lines[said[-1]], *further]).split()).removeprefix("gan-lightning: error: ")
