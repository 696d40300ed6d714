"""Times the framework beside the programs that a user would write without it, and prints a table.

    python -m benchmarks --rows mgan dcgan --device cpu --output runs/benchmarks

| row | ours | against |
| --- | --- | --- |
| mgan | a step of M-GAN at full Table 1 width, by our Trainer | a Python loop over generators, D and C one by one |
| dcgan | a step of DCGAN at 64x64, batch 128, by our Trainer | PyTorch's example; and the same mathematics, bare |
| transfer | 20 epochs of a linear head on cached features of MNIST | a forward pass in every epoch |
| input | batches of 50,000 images from memory | torchvision's transforms, image by image, and two workers |
| nearest | the nearest of 60,000 vectors for 10,000, 1,024 long | scikit-learn, brute force |

The two programs of a row run in turn; a ratio says how many times as fast ours is, as the median over the rounds with
its least and its largest. Writes `results.json` into the output folder after each row. Instead of timing the rows,
`--profile` writes a table of the longest operations of a step, `--memory` measures the peak memory of each program, in
processes of their own (`memory.json`), and `--growth` how time and memory grow with the sizes (`growth.json` and
`growth.png`).
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation import (
    InputSize,
    NearestSize,
    TransferSize,
    input_row,
    nearest_row,
    transfer_row,
)
from benchmarks.growth import MEBIBYTE, Sizes, draw, growth, memory_rows
from benchmarks.timing import Budget, Comparison, machine
from benchmarks.training import (
    MEASURED,
    VARIANTS,
    DCGANSize,
    MGANSize,
    overhead_row,
    profile_of,
    training_rows,
)
from gan_lightning.system.files import write_json, write_text

GOALS: Mapping[str, Mapping[str, float]] = {
    "mgan": {"default": 1.5, "float32": 1.5, "recommended": 2.5},
    "dcgan": {"float32": 1.3, "recommended": 2.0},
}
SMALL = Sizes(
    MGANSize(base_width=2, generators=2, batch_size=4, per_generator=2, feature_dim=2, latent_dim=2),
    DCGANSize(base_width=1, batch_size=2),
    TransferSize(2, 60, 20, 2),
    NearestSize(60, 20, 16),
)


def mgan(args: argparse.Namespace) -> Iterator[Comparison]:
    """Yield M-GAN's rows."""
    variants = {name: VARIANTS[name] for name in args.variants}
    yield from training_rows("mgan", args.sizes.mgan, variants, GOALS["mgan"], args.budget, args.device)


def dcgan(args: argparse.Namespace) -> Iterator[Comparison]:
    """Yield DCGAN's rows."""
    variants = {name: VARIANTS[name] for name in args.variants}
    yield from training_rows("dcgan", args.sizes.dcgan, variants, GOALS["dcgan"], args.budget, args.device)
    yield overhead_row(args.sizes.dcgan, args.budget, args.device)


def transfer(args: argparse.Namespace) -> Iterator[Comparison]:
    """Yield the transfer evaluation's row."""
    yield transfer_row(args.sizes.transfer, args.data_root, args.budget, args.device)


def inputs(args: argparse.Namespace) -> Iterator[Comparison]:
    """Yield the input's row."""
    size = InputSize(24, 4, 0) if args.small else InputSize()
    yield input_row(size, args.sizes.mgan, args.budget, args.device)


def nearest(args: argparse.Namespace) -> Iterator[Comparison]:
    """Yield the search's row."""
    yield nearest_row(args.sizes.nearest, args.budget, args.device)


ROWS: Mapping[str, Callable[[argparse.Namespace], Iterator[Comparison]]] = {
    "mgan": mgan,
    "dcgan": dcgan,
    "transfer": transfer,
    "input": inputs,
    "nearest": nearest,
}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the comparisons, a row each."""
    lines = ["| row | ours | against | ours, s | other, s | ratio | from - to | goal | of matmul rate |"]
    lines.append("|" + " --- |" * 9)
    for row in rows:
        if "failed" in row:
            lines.append(
                f"| {row['row']} | {row['ours']} | {row['other']} | failed: {row['failed'][:120]} |" + " |" * 5
            )
            continue
        ratio, share = row["ratio"], row.get("share_of_matmul_rate")
        lines.append(
            f"| {row['row']} | {row['ours']} | {row['other']} | {row['our_seconds']:.4g} | {row['other_seconds']:.4g} "
            f"| {ratio['median']:.3g} | {ratio['min']:.3g} - {ratio['max']:.3g} | {row['goal'] or ''} "
            f"| {'' if share is None else f'{share:.1%}'} |"
        )
    return "\n".join(lines)


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument(
        "--variants", nargs="+", choices=[*VARIANTS, "all"], default=MEASURED, help="settings of the training rows"
    )
    parser.add_argument("--seconds", type=float, default=Budget.seconds, help="to measure a pair of programs")
    parser.add_argument("--rounds", type=int, default=Budget.rounds, help="of a pair, at most")
    parser.add_argument("--warm_up", type=int, default=Budget.warm_up, help="steps of each program beforehand")
    parser.add_argument("--data_root", help="folder with MNIST for the row transfer; random images without it")
    parser.add_argument("--width", type=int, default=TransferSize.width, help="of the extractor of the row transfer")
    parser.add_argument(
        "--images",
        type=int,
        nargs=2,
        default=(TransferSize.train, TransferSize.test),
        metavar=("TRAIN", "TEST"),
        help="of the row transfer",
    )
    parser.add_argument("--threads", type=int, help="of the processor; by default all cores")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="profile a step of each variant")
    instead.add_argument("--memory", action="store_true", help="measure the peak memory of each program")
    instead.add_argument("--growth", action="store_true", help="measure how time and memory grow, and draw it")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args(given)
    if "all" in args.variants:
        args.variants = list(VARIANTS)
    args.budget = Budget(args.seconds, args.rounds, args.warm_up)
    transfer_size = TransferSize(args.width, *args.images)
    args.sizes = SMALL if args.small else Sizes(transfer=transfer_size, data_root=args.data_root)
    return args


def write_profiles(args: argparse.Namespace) -> None:
    """Write the profile of a step of each training row and variant."""
    for row, size in (("mgan", args.sizes.mgan), ("dcgan", args.sizes.dcgan)):
        for name in args.variants if row in args.rows else ():
            path = args.output / f"profile-{row}-{name}-{args.device.type}.txt"
            write_text(path, profile_of(size, VARIANTS[name], args.device))
            print(path)


def write_memory(args: argparse.Namespace) -> None:
    """Write and print the peak memory of each program of the rows that are asked for."""
    about: dict[str, Any] = {"machine": machine(args.device), "programs": []}
    print("| program | peak memory, MiB |\n| --- | --- |")
    for found in memory_rows(set(args.rows), args.variants, args.sizes, args.device):
        about["programs"].append(found)
        write_json(args.output / "memory.json", about)
        print(f"| {found['program']} | {found['bytes'] / MEBIBYTE:.0f} |", flush=True)


def write_growth(args: argparse.Namespace) -> None:
    """Write and draw how time and memory grow."""
    found = growth(args.sizes, args.device, args.warm_up, args.small)
    write_json(args.output / "growth.json", {"machine": machine(args.device), "points": found})
    draw(found, args.output / "growth.png")
    print(args.output / "growth.png")


def main(given: list[str] | None = None) -> None:
    """Run the rows that are asked for."""
    args = arguments(given)
    if args.threads:
        torch.set_num_threads(args.threads)
    # As PyTorch's example does; it serves both programs of a row.
    torch.backends.cudnn.benchmark = True
    for asked, write in ((args.profile, write_profiles), (args.memory, write_memory), (args.growth, write_growth)):
        if asked:
            write(args)
            return
    about: dict[str, Any] = {"machine": machine(args.device), "rows": []}
    started = time.perf_counter()
    for row in args.rows:
        for comparison in ROWS[row](args):
            about["rows"].append(comparison.figures())
            about["seconds"] = round(time.perf_counter() - started, 1)
            write_json(args.output / "results.json", about)
            print(table(about["rows"][-1:]).splitlines()[-1], flush=True)
    print()
    print(table(about["rows"]))


if __name__ == "__main__":
    main()
