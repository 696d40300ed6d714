"""`gan-lightning sweep`: the same files as `wandb sweep` and `wandb agent`, without a server."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.cluster import ClusterRunner, executor, split_options
from gan_lightning.sweeps.engine import best_trial, engine_of, random_points, target_reached
from gan_lightning.sweeps.runner import Runner, all_points, trial_command
from gan_lightning.sweeps.spec import Point, Sweep, load_sweep
from gan_lightning.sweeps.study import write_study
from gan_lightning.sweeps.sweep_bar import SweepBar
from gan_lightning.sweeps.trials import Trial, check_trials, claim_folder, read_trials
from gan_lightning.system.shipped import found_by_name
from gan_lightning.system.signals import BY_SIGNAL, heard
from gan_lightning.system.terminal import console as plain_console
from gan_lightning.system.trial_states import ENDED, in_words, stopped_in_words

SOME_UNFINISHED = 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of `gan-lightning sweep`."""
    parser = argparse.ArgumentParser(
        prog="gan-lightning sweep",
        description="Run a W&B sweep file here, without a server. Started again it goes on where it stopped: "
        "finished trials stay as they are, killed ones run again. Several may work on one sweep at the same time.",
        epilog="Arguments after -- are added to every trial's command. Status: 0 if all trials have finished, "
        "1 if not, 2 if the sweep cannot be run as it is, 128 + n if signal n ended it.",
    )
    parser.add_argument("file", help="the sweep file, or the name of a shipped one: `gan-lightning configs` lists them")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time (default: 1)")
    parser.add_argument("--index", type=int, metavar="N", help="run only point N, counted from 0, as in a SLURM array")
    parser.add_argument("--dir", type=Path, metavar="FOLDER", help="folder of the trials (default: runs/<its name>)")
    parser.add_argument("--retry-failed", action="store_true", help="run trials again that failed")
    parser.add_argument(
        "--slurm.NAME",
        metavar="VALUE",
        help="submit the trials as jobs of a SLURM cluster, and follow them: --slurm.partition=gpu --slurm.time=60",
    )
    parser.add_argument("--list", action="store_true", help="list the points and how they stand; run nothing")
    parser.add_argument(
        "--study", type=Path, metavar="FILE", help="write the trials as an SQLite study of Optuna's; run nothing"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `gan-lightning sweep`.

    Returns:
        The exit status.

    Raises:
        SettingError: If the sweep cannot be run; no trial was started.
    """
    own, more = list(arguments), []
    if "--" in own:
        own, more = own[: own.index("--")], own[own.index("--") + 1 :]
    own, slurm = split_options(own)
    settings = parser().parse_args(own)
    if settings.workers < 1:
        raise SettingError(f"--workers must be at least 1, got {settings.workers}.")
    sweep = load_sweep(found_by_name(settings.file, "sweeps") or Path(settings.file))
    if sweep.method == "bayes" and settings.index is not None:
        raise SettingError(
            f"--index must not be given to a Bayesian search, got {settings.index}: each point depends on the results "
            "before it. Start as many `gan-lightning sweep` on the same folder as should work on it."
        )
    points = None if sweep.method == "bayes" else all_points(sweep)
    if settings.index is not None and points is not None and not 0 <= settings.index < len(points):
        raise SettingError(f"--index must be from 0 to {len(points) - 1} for {sweep.path}, got {settings.index}.")
    folder = settings.dir or Path("runs", sweep.name)
    refuse_run_folder(sweep, more)
    fingerprint = sweep.fingerprint(more)
    if (engine := engine_of(sweep)) is not None:
        fingerprint["engine"] = engine
    console = plain_console()
    if settings.list:
        console.print(_table(sweep, points, read_trials(folder)))
        return 0
    if settings.study is not None:
        write_study(folder, settings.study)
        console.print(f"Study of {len(read_trials(folder))} trials: {settings.study}", soft_wrap=True)
        return 0
    check_trials(sweep, folder)
    if slurm:
        executor(slurm, sweep.name, folder / "jobs")  # what it refuses, it refuses before the long check
    chosen = points if settings.index is None or points is None else [points[settings.index]]
    if chosen is None or _unfinished(chosen, read_trials(folder)):
        check_keys(sweep, folder, more, chosen if settings.index is not None else None)
    claim_folder(folder, sweep.name, fingerprint, sweep.run_cap if points is None else len(points))
    kind = partial(ClusterRunner, file=settings.file, settings=slurm) if slurm else Runner
    return _run(kind, sweep, folder, chosen, settings.workers, more, settings.retry_failed, console)


def refuse_run_folder(sweep: Sweep, more: Sequence[str]) -> None:
    """Refuse a sweep that sets the folder of runs: each trial has a folder of its own.

    Raises:
        SettingError: Naming the key.
    """
    words = [word.partition("=")[0].removeprefix("--") for word in (*sweep.command, *more)]
    for name in ("run.root", "run.name"):
        if name in sweep.parameters or name in words:
            raise SettingError(
                f"{name} must be left to `gan-lightning sweep`, which gives each trial a folder of its own: remove it "
                f"from {sweep.path}; --dir sets the folder of all."
            )


def check_keys(sweep: Sweep, folder: Path, more: Sequence[str] = (), points: Sequence[Point] | None = None) -> None:
    """Check every key of a sweep, every listed value and the ends of its ranges against the command line.

    Model, data and measurements of each are made once, in a process of its own.

    Args:
        sweep: The sweep.
        folder: Its folder.
        more: Arguments to append to the file's.
        points: Points to check instead.

    Raises:
        SettingError: Naming the key or value that the command line does not take.
    """
    points = points_to_check(sweep) if points is None else points
    with tempfile.TemporaryDirectory() as scratch:
        commands = []
        for point in points:
            point_file = Path(scratch, f"{point.id}.json")
            point_file.write_text(json.dumps(point.parameters), encoding="utf-8")
            # Without the interpreter and the module: the check takes their place.
            commands.append(trial_command(sweep, folder, point, point_file, more)[3:])
        asked = {"commands": commands, "points": [dict(point.parameters) for point in points]}
        done = subprocess.run(
            [sys.executable, "-m", "gan_lightning.sweeps.check"],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SettingError(f"the sweep's command could not be checked: {done.stderr.strip().splitlines()[-1:]}")
    for point, error in zip(points, json.loads(done.stdout), strict=True):
        if error is not None:
            raise SettingError(f"the command line refuses the point {point.label} of {sweep.path}: {error}")


def points_to_check(sweep: Sweep) -> list[Point]:
    """Return a point, and others with one changed value each, for all listed values and ends of ranges."""
    first = sweep.grid()[0] if sweep.method == "grid" else random_points(sweep, 1)[0]
    others = [Point(0, {**first.parameters, each.name: value}) for each in sweep.space for value in each.ends()]
    return list({point.id: point for point in (first, *others)}.values())


def _run(
    kind: Callable[..., Runner | ClusterRunner],
    sweep: Sweep,
    folder: Path,
    points: Sequence[Point] | None,
    workers: int,
    more: Sequence[str],
    retry_failed: bool,
    console: Console,
) -> int:
    """Run the trials under a progress bar, and report their ends."""
    total = len(points) if points is not None else sweep.run_cap
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in heard()}
    ids = None if points is None else {point.id for point in points}
    progress = SweepBar(sweep.name, folder, total, ids, workers, console)
    with progress.bars as bars:

        def update(event: str, trial: Trial) -> None:
            label = Point(trial.index, trial.parameters).label
            if event == "ended":
                bars.print(f"{trial.index:>4} {label}: {_outcome(sweep, trial)}", soft_wrap=True, markup=False)
            progress.update()

        progress.update()
        runner = kind(
            sweep, folder, workers=workers, more=more, retry_failed=retry_failed, on_event=update, on_wait=progress.look
        )  # fmt: skip
        try:
            runner.run(points)
        except KeyboardInterrupt:
            goes_on = f" {runner.what_goes_on()}" if isinstance(runner, ClusterRunner) else ""
            console.print(f"Interrupted; start it again to go on.{goes_on}")
            return BY_SIGNAL + (told or [signal.SIGINT])[0]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    for line in runner.without_record() if isinstance(runner, ClusterRunner) else ():
        console.print(line, soft_wrap=True)
    trials, reached = progress.trials(), target_reached(sweep, read_trials(folder))
    stands = in_words([trial.state for trial in trials], total)
    console.print(f"{sweep.name}: {stands}, in {folder}", soft_wrap=True)
    if sweep.method != "grid" and sweep.metric_name:
        _print_best(sweep, trials, console)
    if reached:
        console.print(f"The target was reached by trial {reached.index}: no further one was begun.")
    # A Bayesian search may find no further point.
    complete = points is None or reached or len(trials) == len(points)
    return 0 if complete and all(trial.status in ENDED for trial in trials) else SOME_UNFINISHED


def _print_best(sweep: Sweep, trials: Sequence[Trial], console: Console) -> None:
    """Print the best of the trials that ran to their end, and the best last value of those that were stopped early."""
    if best := best_trial(sweep, trials):
        trial, value = best
        count = sum(each.status == "finished" for each in trials)
        label = Point(trial.index, trial.parameters).label
        of = f"Best of {count} trial{'' if count == 1 else 's'} that ran to the end"
        console.print(f"{of}: trial {trial.index}, {sweep.metric_name} {value:.4f}: {label}", soft_wrap=True)
    early = best_trial(sweep, trials, "stopped")
    number = sum(each.status == "stopped" for each in trials)
    if said := stopped_in_words(number, f"{early[1]:.4f}" if early else None):
        console.print(said)


def _unfinished(points: Sequence[Point], trials: Sequence[Trial]) -> bool:
    return bool({point.id for point in points} - {trial.id for trial in trials if trial.status in ENDED})


def _outcome(sweep: Sweep, trial: Trial) -> str:
    if trial.error:
        return f"{trial.status}, {trial.error} (see {trial.folder / 'output.log'})"
    name = sweep.metric_name
    values = trial.metric_history(name) if name else []
    return f"{trial.status} in {trial.seconds} s" + (f", {name} {values[-1]:.4f}" if values else "")


def _table(sweep: Sweep, points: Sequence[Point] | None, trials: Sequence[Trial]) -> Table:
    listed = points if points is not None else [Point(trial.index, trial.parameters) for trial in trials]
    states = {trial.id: trial.state for trial in trials}
    total = sweep.run_cap if points is None else len(points)
    table = Table(title=f"{sweep.name}: {in_words([states[trial.id] for trial in trials], total)}")
    for column in ("Index", "Trial", "Parameters", "Status"):
        table.add_column(column, justify="right" if column == "Index" else "left")
    for point in listed:
        table.add_row(str(point.index), point.id, point.label, states.get(point.id, "-"))
    return table
