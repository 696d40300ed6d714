"""Measures what a trial of a sweep costs as a fresh process and forked from a warm parent.

    python -m benchmarks.trial_start --trials 4 --workers 2 --rounds 3

Each round runs the same small sweep over seeds of M-GAN on the digits twice, once with each kind of process. Processor
time is that of the whole sweep, with its check and its warm parent. Memory is the largest sum over all of its
processes of the proportional set size: a page that n processes share counts 1/n in each. A trial's own memory is what
it shares with no other process. It needs Linux.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.table import Table

from gan_lightning.figures import FILE, figure_row, read_figures
from gan_lightning.sweeps.forked_worker import FRESH
from gan_lightning.system.terminal import show

KINDS = ("fresh", "forked")

SETTINGS = (
    "--config=quickstart", "--model.base_width=8", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false",
    "--trainer.accelerator=cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a sweep took.

    Attributes:
        cpu_seconds: Processor time of all of its processes.
        wall_seconds: From its start to its end.
        bytes: Largest sum of its processes' proportional set sizes.
        own_bytes: Largest memory of a trial that no other process shares.
        figures: The figures of its trials, without times.
    """

    cpu_seconds: float
    wall_seconds: float
    bytes: int
    own_bytes: int
    figures: list[list[dict[str, object]]]


def cost(kind: str, trials: int, workers: int) -> Cost:
    """Run the sweep once."""
    with tempfile.TemporaryDirectory() as scratch:
        content = {
            "program": "gan-lightning",
            "method": "grid",
            "metric": {"name": "transfer/classifier/paper/accuracy", "goal": "maximize"},
            "parameters": {"seed_everything": {"values": list(range(1, trials + 1))}},
            "command": ["${env}", "${program}", "fit", *SETTINGS, "${args}"],
        }
        Path(scratch, "sweep.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "gan_lightning", "sweep", "sweep.yaml", "--dir=trials", f"--workers={workers}"],
            cwd=scratch,
            env=os.environ | {FRESH: "1" if kind == "fresh" else ""},
            stdout=subprocess.DEVNULL,
        )
        largest = own = 0
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            members = [process.pid, *descendants(process.pid)]
            largest = max(largest, sum(memory(pid, "Pss") for pid in members))
            trials_now = [pid for pid in members if is_trial(pid)]
            own = max([own, *(memory(pid, "Private_Clean", "Private_Dirty") for pid in trials_now)])
            time.sleep(0.5)
        if ended[1]:
            raise SystemExit(f"the sweep ended with status {os.waitstatus_to_exitcode(ended[1])}")
        files = sorted(Path(scratch, "trials").glob(f"*/*/{FILE}"))
        figures = [[without_seconds(figure_row(each)) for each in read_figures(file).figures] for file in files]
        used = ended[2]
    return Cost(used.ru_utime + used.ru_stime, time.monotonic() - started, largest, own, figures)


def without_seconds(row: dict[str, object]) -> dict[str, object]:
    """Return a figure without how long it took."""
    return {name: value for name, value in row.items() if name != "seconds"}


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and theirs."""
    with suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def memory(pid: int, *names: str) -> int:
    """Return the sum of some of a process's sizes in bytes, as Linux names them in `smaps_rollup`."""
    found = 0
    with suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.partition(":")[0] in names:
                found += int(line.split()[1]) << 10
    return found


def is_trial(pid: int) -> bool:
    """Return whether a process is a trial: one that was told to fit, or that a warm parent has forked."""
    with suppress(OSError, IndexError):
        parent = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1]
        told, above = (Path("/proc", each, "cmdline").read_bytes() for each in (str(pid), parent))
        return b"\0fit\0" in told or (b"warm_parent" in told and b"warm_parent" in above)
    return False


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser("python -m benchmarks.trial_start", description=__doc__)
    parser.add_argument("--trials", type=int, default=4, help="of a sweep (default: 4)")
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of sweeps (default: 3)")
    asked = parser.parse_args()
    found: dict[str, list[Cost]] = {kind: [] for kind in KINDS}
    for _ in range(asked.rounds):
        for kind in KINDS:
            found[kind].append(cost(kind, asked.trials, asked.workers))
    table = Table(title=f"{asked.trials} trials, {asked.workers} at a time, median of {asked.rounds} (from - to)")
    for column in ("Trials", "CPU s a trial", "Wall s a sweep", "GB a sweep", "Own GB a trial"):
        table.add_column(column)
    for kind, costs in found.items():
        columns = (
            [each.cpu_seconds / asked.trials for each in costs],
            [each.wall_seconds for each in costs],
            [each.bytes / 1e9 for each in costs],
            [each.own_bytes / 1e9 for each in costs],
        )
        spans = [f"{statistics.median(numbers):.2f} ({min(numbers):.2f} - {max(numbers):.2f})" for numbers in columns]
        table.add_row(kind, *spans)
    show(table)
    same = all(each.figures == found["fresh"][0].figures for costs in found.values() for each in costs)
    show("All figures are the same." if same else "The figures differ.")


if __name__ == "__main__":
    main()
