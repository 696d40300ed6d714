"""Times the framework beside the programs that a user would write without it, and prints a table.

    python -m benchmarks --rows mgan dcgan --device cpu --output runs/benchmarks

| row | ours | against |
| --- | --- | --- |
| mgan | a step of M-GAN at full Table 1 width, by our Trainer | a Python loop over generators, D and C one by one |
| dcgan | a step of DCGAN at 64x64, batch 128, by our Trainer | PyTorch's example; and the same mathematics, bare |
| bigan | a step of BiGAN's multi-layer perceptrons, by our Trainer | an eager loop |
| selfexgan | a step of SelfExGAN, MNIST's table, by our Trainer | the same mathematics, bare |
| replay | a step of M-GAN and of BiGAN as one graph, by our Trainer | a loop that copies a batch and replays |
| evaluation | M-GAN's transfer evaluation, both protocols, controls | nothing: seconds |
| transfer | 20 epochs of a linear head on cached features of MNIST | a forward pass in every epoch |
| input | batches of 50,000 images from memory | torchvision's transforms, image by image, and two workers |
| nearest | the nearest of 60,000 vectors for 10,000, 1,024 long | scikit-learn, brute force |

The two programs of a row run in turn; a ratio says how many times as fast ours is, as the median over the rounds with
its least and its largest. How long it will take is said beforehand, and again once the first steps have been timed.
Writes `results.json` into the output folder after each row. Instead of timing the rows, `--profile` writes a table of
the longest operations of a step, `--operations` counts them by name (`operations.json`; the counts do not depend on
widths, so `--small` suffices), `--memory` measures the peak memory of each program, in processes of their own
(`memory.json`), and `--growth` how time and memory grow with the sizes (`growth.json` and `growth.png`).
"""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation import TransferSize
from benchmarks.growth import MEBIBYTE, TRAINED, Sizes, draw, growth, memory_rows
from benchmarks.operations import operations_of, operations_table
from benchmarks.profiling import profile_of
from benchmarks.progress import Progress, in_words
from benchmarks.rows import ROWS, SMALL, variants
from benchmarks.tables import Unit, profile_table, row_table
from benchmarks.timing import LEAST_ROUNDS, Budget, Pair, machine, reason
from benchmarks.training import VARIANTS
from gan_lightning.system.files import write_json, write_text


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu or cuda")
    parser.add_argument(
        "--variants", nargs="+", choices=[*VARIANTS, "all"], help="settings of the training rows; by default some"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=Budget.seconds,
        help=f"for a pair of programs, warm-up included; {LEAST_ROUNDS} rounds are measured in any case",
    )
    parser.add_argument("--rounds", type=int, default=Budget.rounds, help="of a pair, at most")
    parser.add_argument("--warm_up", type=int, default=Budget.warm_up, help="steps of each program beforehand, at most")
    parser.add_argument(
        "--data_root", help="folder with MNIST for the rows transfer and evaluation; random images without it"
    )
    parser.add_argument("--width", type=int, default=TransferSize.width, help="of the extractor of the row transfer")
    parser.add_argument(
        "--images",
        type=int,
        nargs=2,
        default=(TransferSize.train, TransferSize.test),
        metavar=("TRAIN", "TEST"),
        help="of the rows transfer and evaluation",
    )
    parser.add_argument("--threads", type=int, help="of the processor; by default all cores")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it runs")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="profile a step of each variant")
    instead.add_argument("--operations", action="store_true", help="count the operations of a step of each variant")
    instead.add_argument("--memory", action="store_true", help="measure the peak memory of each program")
    instead.add_argument("--growth", action="store_true", help="measure how time and memory grow, and draw it")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args(given)
    if args.variants and "all" in args.variants:
        args.variants = list(VARIANTS)
    args.budget = Budget(args.seconds, args.rounds, args.warm_up)
    transfer_size = TransferSize(args.width, *args.images)
    args.sizes = SMALL if args.small else Sizes(transfer=transfer_size, data_root=args.data_root)
    return args


def write_profiles(args: argparse.Namespace) -> None:
    """Write the profile of a step of each training row and variant, and print where the time went."""
    about: dict[str, Any] = {"machine": machine(args.device), "steps": []}
    print("\n".join(profile_table([])))
    for row in TRAINED:
        for name, settings in variants(args, row).items() if row in args.rows else ():
            text, found = profile_of(getattr(args.sizes, row), settings, args.device)
            write_text(args.output / f"profile-{row}-{name}-{args.device.type}.txt", text)
            about["steps"].append({"row": row, "variant": name, **found})
            write_json(args.output / "profiles.json", about)
            print(profile_table(about["steps"])[-1], flush=True)


def write_operations(args: argparse.Namespace) -> None:
    """Write and print how often a step of each training row and variant calls each operation."""
    about: dict[str, Any] = {"machine": machine(args.device), "steps": {}}
    for row in (row for row in TRAINED if row in args.rows):
        size = getattr(args.sizes, row)
        counts = {name: operations_of(size, settings, args.device) for name, settings in variants(args, row).items()}
        about["steps"][row] = counts
        write_json(args.output / "operations.json", about)
        print("\n".join(operations_table(row, counts)) + "\n", flush=True)


def write_memory(args: argparse.Namespace) -> None:
    """Write and print the peak memory of each program of the rows that are asked for."""
    about: dict[str, Any] = {"machine": machine(args.device), "programs": []}
    print("| program | peak memory, MiB |\n| --- | --- |")
    for found in memory_rows({row: variants(args, row) for row in TRAINED}, set(args.rows), args.sizes, args.device):
        about["programs"].append(found)
        write_json(args.output / "memory.json", about)
        print(f"| {found['program']} | {found['bytes'] / MEBIBYTE:.0f} |", flush=True)


def write_growth(args: argparse.Namespace) -> None:
    """Write and draw how time and memory grow."""
    found = growth(args.sizes, args.device, args.warm_up, args.small)
    write_json(args.output / "growth.json", {"machine": machine(args.device), "points": found})
    draw(found, args.output / "growth.png")
    print(args.output / "growth.png")


def announce(pairs: Sequence[Pair], budget: Budget) -> None:
    """Say how long it will take."""
    total = in_words(len(pairs) * budget.seconds)
    print(
        f"Comparisons: {len(pairs)}, each of at most {budget.seconds:g} s, in all {total}; more if steps are so slow "
        f"that {LEAST_ROUNDS} rounds take longer.",
        file=sys.stderr,
    )
    if rows := [pair.comparison.title for pair in pairs if pair.on_top]:
        print(f"Compiling and whole evaluations take what they take: {'; '.join(rows)}.", file=sys.stderr, flush=True)


def main(given: list[str] | None = None) -> None:
    """Run the rows that are asked for.

    Raises:
        SystemExit: Some could not be measured; the others have been.
    """
    args = arguments(given)
    if args.threads:
        torch.set_num_threads(args.threads)
    # As PyTorch's example does; it serves both programs of a row.
    torch.backends.cudnn.benchmark = True
    instead = {
        write_profiles: args.profile,
        write_operations: args.operations,
        write_memory: args.memory,
        write_growth: args.growth,
    }
    for write, asked in instead.items():
        if asked:
            write(args)
            return
    about: dict[str, Any] = {"machine": machine(args.device), "rows": []}
    started, broken = time.perf_counter(), []
    pairs = [pair for row in args.rows for pair in ROWS[row](args)]
    unit: Unit = "ms" if args.device.type == "cuda" else "s"
    announce(pairs, args.budget)
    for number, pair in enumerate(pairs, 1):
        try:
            with Progress(f"{number} of {len(pairs)}: {pair.comparison.title}", args.seconds) as progress:
                pair.measure(progress)
        except Exception as error:  # the other comparisons are not to be lost
            traceback.print_exc()
            pair.comparison.failed = reason(error)
            broken.append(pair.comparison.title)
        about["rows"].append(pair.comparison.figures())
        about["seconds"] = round(seconds := time.perf_counter() - started, 1)
        write_json(args.output / "results.json", about)
        print(row_table(about["rows"], unit)[-1], flush=True)
        if number < len(pairs):
            to_go = in_words((len(pairs) - number) * seconds / number)
            print(f"{number} of {len(pairs)} done in {in_words(seconds)}, about {to_go} to go.", file=sys.stderr)
    print()
    print("\n".join(row_table(about["rows"], unit)))
    if broken:
        raise SystemExit(f"Could not be measured: {'; '.join(broken)}.")


if __name__ == "__main__":
    main()
