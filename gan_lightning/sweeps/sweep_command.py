"""`gan-lightning sweep`: the same files as `wandb sweep` and `wandb agent`, without a server."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gan_lightning.errors import SettingError
from gan_lightning.sweeps.engine import check_with_engine, random_points
from gan_lightning.sweeps.runner import Runner, all_points, trial_command
from gan_lightning.sweeps.spec import Point, Sweep, load_sweep
from gan_lightning.sweeps.trials import ENDED, Trial, claim_folder, read_trials
from gan_lightning.system.shipped import found_by_name
from gan_lightning.system.signals import BY_SIGNAL, heard
from gan_lightning.system.terminal import console as plain_console

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
    parser.add_argument("--list", action="store_true", help="list the points and how they stand; run nothing")
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
    settings = parser().parse_args(own)
    if settings.workers < 1:
        raise SettingError(f"--workers must be at least 1, got {settings.workers}.")
    sweep = load_sweep(found_by_name(settings.file, "sweeps") or Path(settings.file))
    if sweep.method != "grid" or sweep.early_terminate:
        check_with_engine(sweep)
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
    console = plain_console()
    if settings.list:
        console.print(_table(sweep, points, read_trials(folder)))
        return 0
    chosen = points if settings.index is None or points is None else [points[settings.index]]
    # A single point is checked when it starts.
    if settings.index is None and (points is None or _unfinished(points, read_trials(folder))):
        check_keys(sweep, folder, more)
    claim_folder(folder, sweep.name, fingerprint)
    return _run(sweep, folder, chosen, settings.workers, more, settings.retry_failed, console)


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


def check_keys(sweep: Sweep, folder: Path, more: Sequence[str] = ()) -> None:
    """Check every key of a sweep, every listed value and the ends of its ranges against the command line.

    Raises:
        SettingError: Naming the key or value that the command line does not take.
    """
    points = points_to_check(sweep)
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
    others = [
        Point(0, {**first.parameters, name: value})
        for name, spec in sweep.parameters.items()
        for value in (spec.get("values") or _ends(spec))
    ]
    return list({point.id: point for point in (first, *others)}.values())


def _ends(spec: Mapping[str, Any]) -> list[Any]:
    """Return the ends of a range, if they are values themselves, unlike exponents."""
    plain = spec.get("distribution") in (None, "uniform", "int_uniform", "log_uniform_values")
    return [spec["min"], spec["max"]] if plain and {"min", "max"} <= set(spec) else []


def _run(
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
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in heard()}
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(sweep.name, total=total)

        def update(event: str, trial: Trial) -> None:
            label = Point(trial.index, trial.parameters).label
            if event == "ended":
                bars.print(f"{trial.index:>4} {label}: {_outcome(sweep, trial)}", soft_wrap=True, markup=False)
            bars.update(bar, completed=len(_ended(points, read_trials(folder))))

        bars.update(bar, completed=len(_ended(points, read_trials(folder))))
        try:
            Runner(
                sweep, folder, workers=workers, more=more, retry_failed=retry_failed, on_event=update
            ).run(points)  # fmt: skip
        except KeyboardInterrupt:
            console.print("Interrupted; start it again to go on.")
            return BY_SIGNAL + (told or [signal.SIGINT])[0]
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    trials = read_trials(folder)
    ended = _ended(points, trials)
    chosen = None if points is None else {point.id for point in points}
    counts = Counter(trial.status for trial in trials if chosen is None or trial.id in chosen)
    states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(f"{len(ended)} of {total} trials done ({states or 'none was started'}) in {folder}", soft_wrap=True)
    # A Bayesian or random search may find no further point.
    all_done = len(ended) == len(trials) if points is None else len(ended) == len(points)
    return 0 if all_done else SOME_UNFINISHED


def _ended(points: Sequence[Point] | None, trials: Sequence[Trial]) -> list[Trial]:
    chosen = None if points is None else {point.id for point in points}
    return [trial for trial in trials if trial.status in ENDED and (chosen is None or trial.id in chosen)]


def _unfinished(points: Sequence[Point], trials: Sequence[Trial]) -> bool:
    return len(_ended(points, trials)) < len(points)


def _outcome(sweep: Sweep, trial: Trial) -> str:
    if trial.error:
        return f"{trial.status}, {trial.error} (see {trial.folder / 'output.log'})"
    name = (sweep.metric or {}).get("name")
    values = trial.metric_history(name) if name else []
    return f"{trial.status} in {trial.seconds} s" + (f", {name} {values[-1]:.4f}" if values else "")


def _table(sweep: Sweep, points: Sequence[Point] | None, trials: Sequence[Trial]) -> Table:
    known = {trial.id: trial for trial in trials}
    listed = points if points is not None else [Point(trial.index, trial.parameters) for trial in trials]
    table = Table(title=sweep.name)
    for column in ("Index", "Trial", "Parameters", "Status"):
        table.add_column(column, justify="right" if column == "Index" else "left")
    for point in listed:
        status = known[point.id].status if point.id in known else "-"
        table.add_row(str(point.index), point.id, point.label, status)
    return table
