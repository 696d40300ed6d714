"""The tables of `benchmarks/gpu.sh`: from a folder of its results, whatever is in it.

python -m benchmarks.gpu_table runs/gpu
"""

import argparse
import csv
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.tables import heading, profile_table, row_table
from benchmarks.timing import machine
from gan_lightning.sweeps.trials import Trial, read_trials

TRIALS, EPOCHS = 25, 20
"""Of Table 2: five settings by five seeds."""


def of_steps(folder: Path) -> list[str]:
    """Return a line for each comparison."""
    about = _read(folder / "rows" / "results.json")
    return [] if about is None else row_table(about["rows"], "ms")


def of_profiles(folder: Path) -> list[str]:
    """Return a line for each profiled step."""
    about = _read(folder / "profiles" / "profiles.json")
    return [] if about is None else profile_table(about["steps"])


def of_bigan(folder: Path) -> Iterator[str]:
    """Yield how long BiGAN's multi-layer perceptrons took."""
    for path in folder.glob("bigan/*/*/metrics.csv"):
        rows = [row for row in _rows(path) if row["clock/training_seconds"]]
        if rows:
            seconds, batches = float(rows[-1]["clock/training_seconds"]), int(rows[-1]["step"]) + 1
            each = statistics.median(float(row["clock/epoch_seconds"]) for row in rows)
            yield (
                f"BiGAN's MLPs, from the command line, without validation and density ratio: {len(rows)} epochs "
                f"({batches} batches) in {seconds:.4g} s; median epoch {each:.3g} s, {1000 * seconds / batches:.3g} ms "
                "a batch."
            )


def of_sweeps(folder: Path) -> Iterator[str]:
    """Yield a line for each sweep, and how long the whole of Table 2 would take.

    A trial's time without its last 18 epochs is measured. Each epoch that is left out counts as its last one.
    """
    lines = []
    for workers in (1, 2, 3):
        trials = read_trials(folder / f"sweep-{workers}") if (folder / f"sweep-{workers}").is_dir() else []
        done = [(trial.seconds, *_epochs(trial)) for trial in trials if trial.status == "finished"]
        if not done:
            continue
        seconds, epochs, last = (statistics.mean(each) for each in zip(*done, strict=True))
        whole = TRIALS / workers * (seconds + (EPOCHS - epochs) * last) / 60
        lines.append(f"| {workers} | {len(done)} | {epochs:g} | {seconds:.3g} | {last:.3g} | {whole:.3g} |")
    if lines:
        yield from heading("workers", "trials", "epochs", "a trial, s", "its last epoch, s", "Table 2, min")
        yield from lines
        yield ""
        yield (
            f"Table 2, min: extrapolated to {TRIALS} trials of {EPOCHS} epochs, evaluated. A trial takes its measured "
            "time and for each epoch that it lacks the time of its last one; all workers are busy until the end."
        )


def _epochs(trial: Trial) -> tuple[int, float]:
    """Return how many epochs a trial had, and the seconds of the last one."""
    run = trial.newest_run()
    rows = [] if run is None else [row["clock/epoch_seconds"] for row in _rows(run / "metrics.csv")]
    found = [float(value) for value in rows if value]
    return len(found), found[-1]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def tables(folder: Path) -> str:
    """Return all that there is in a folder."""
    found = ["\n".join(part(folder)) for part in (of_steps, of_profiles, of_bigan, of_sweeps)]
    return "\n\n".join(part for part in found if part)


def describe(device: torch.device) -> str:
    """Return the machine in a line.

    Raises:
        SystemExit: It has no such device.
    """
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here. To see that everything runs on the CPU, give --small.")
    return ", ".join(f"{name} {value}" for name, value in machine(device).items())


def main() -> None:
    """Print the tables, or the machine."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_table", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("folder", nargs="?", type=Path, help="of the results")
    what.add_argument("--machine", type=torch.device, metavar="DEVICE", help="print the machine instead")
    args = parser.parse_args()
    print(tables(args.folder) if args.folder else describe(args.machine))


if __name__ == "__main__":
    main()
