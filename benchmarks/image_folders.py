"""Times the input from a folder of images: the cache of decoded images beside torchvision's `ImageFolder`.

    python -m benchmarks.image_folders data/imagenette --image_size 64 --crop_from 72 --list 1281167

| part | what is measured |
| --- | --- |
| second epoch | training batches, cut, mirrored and in [-1, 1]: from the cache, against a `DataLoader` with workers |
| decoding | the first epoch's work: files to pixels, in one process and in several |
| decoders | from a file to small pixels: Pillow, against torchcodec (if installed) and Pillow's resizing |
| listing | a folder of so many empty files, 1,000 classes: listed, and checked by size and time |

Programs that are compared run in turn, forwards and backwards, round by round. A ratio is taken within a round; the
table has the median with the least and the largest. Each figure stands in seconds of the clock and in seconds of all
processors: what else the machine does changes the latter less. The second epoch begins its workers anew, for as many
images as `--images` says. The folder for the listing is made below `--output` and removed again.
"""

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from benchmarks.evaluation import batches_of_ours
from benchmarks.tables import heading
from benchmarks.timing import machine
from gan_lightning.data import ImageFolder
from gan_lightning.data.decoded import decoded_whole, keys_of
from gan_lightning.data.picture import opened, read_whole
from gan_lightning.system.files import write_json

Program = Callable[[], int]
"""Works on images and returns their number."""


def processor_seconds() -> float:
    """Return the seconds of all processors that this process and its ended children have used."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


@dataclass
class Rates:
    """Images a second of a program, in each round.

    Attributes:
        clock: By the clock.
        processors: By all processors' time together.
    """

    clock: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)

    def run(self, program: Program) -> None:
        """Run the program and note its rates."""
        clock, processors = time.perf_counter(), processor_seconds()
        count = program()
        self.clock.append(count / (time.perf_counter() - clock))
        self.processors.append(count / (processor_seconds() - processors))


def in_turn(programs: Mapping[str, Program], rounds: int) -> dict[str, Rates]:
    """Run programs in turn, each once beforehand, and return their rates."""
    rates = {name: Rates() for name in programs}
    for program in programs.values():
        program()
    for number in range(rounds):
        for name in list(programs)[:: 1 if number % 2 == 0 else -1]:
            rates[name].run(programs[name])
    return rates


def rate_table(rates: Mapping[str, Rates]) -> Iterator[str]:
    """Yield the lines of a table; ratios are those of the first program to the others."""
    yield from heading("program", "images/s", "images/processor s", "ratio by the clock", "ratio by processors")
    first = next(iter(rates.values()))
    for name, found in rates.items():
        cells = [f"{statistics.median(each):,.0f}" for each in (found.clock, found.processors)]
        for ours, others in ((first.clock, found.clock), (first.processors, found.processors)):
            ratios = [one / other for one, other in zip(ours, others, strict=True)]
            spread = f"{statistics.median(ratios):.3g} ({min(ratios):.3g} - {max(ratios):.3g})"
            cells.append("-" if found is first else spread)
        yield f"| {name} | {' | '.join(cells)} |"


def second_epoch(args: argparse.Namespace, cache: Path) -> dict[str, Rates]:
    """Return the rates of training batches."""
    data = ImageFolder(
        args.root, image_size=args.image_size, crop_from=args.crop_from, flip=True, batch_size=args.batch_size,
        cache_dir=cache, seed=0,
    )  # fmt: skip
    data.setup("fit")
    ours = batches_of_ours(data, torch.device("cpu"))
    way = [transforms.Resize(args.crop_from), transforms.RandomCrop(args.image_size), transforms.RandomHorizontalFlip()]
    both = transforms.Compose([*way, transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
    train = Path(args.root, "train")
    files = datasets.ImageFolder(train if train.is_dir() else args.root, both)
    again = Subset(files, [number % len(files) for number in range(args.images)])

    def from_cache() -> int:
        count = 0
        while count < args.images:
            count += len(next(ours)[0])
        return count

    def from_files(workers: int) -> int:
        return sum(len(images) for images, _ in DataLoader(again, args.batch_size, shuffle=True, num_workers=workers))

    programs: dict[str, Program] = {"the cache": from_cache}
    programs |= {f"DataLoader, workers: {count}": lambda count=count: from_files(count) for count in args.workers}
    return in_turn(programs, args.rounds)


def decoding(args: argparse.Namespace, files: Sequence[Path], cache: Path) -> dict[str, Rates]:
    """Return the rates of decoding files into a cache."""
    several = [*files] * -(-args.images // len(files))
    processes = len(os.sched_getaffinity(0))

    def one_process() -> int:
        return sum(bool(read_whole(file, args.crop_from).size) for file in several)

    def into_a_cache() -> int:
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            return len(decoded_whole(several, args.crop_from, folder, "benchmark")[1])

    return in_turn({"one process": one_process, f"a cache, processes: {processes}": into_a_cache}, args.rounds)


def decoders(files: Sequence[Path], edge: int, rounds: int) -> tuple[dict[str, Rates], dict[str, int]]:
    """Return the rates of decoders, each with Pillow's resizing, and the numbers of images that are Pillow's own."""
    programs: dict[str, Program] = {"Pillow": lambda: sum(bool(read_whole(file, edge).size) for file in files)}
    try:
        from torchcodec import decoders as codec
    except ImportError:
        return in_turn(programs, rounds), {}

    def decode(file: Path) -> np.ndarray:
        return codec.decode_image(str(file), mode=codec.ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy()

    def resized(file: Path) -> np.ndarray:
        image = Image.fromarray(decode(file))
        width, height = (edge * side // min(image.size) for side in image.size)
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))

    equal = sum(np.array_equal(np.asarray(opened(file).convert("RGB")), decode(file)) for file in files)
    programs["torchcodec"] = lambda: sum(bool(resized(file).size) for file in files)
    return in_turn(programs, rounds), {"torchcodec": equal}


def listing(count: int, below: Path) -> dict[str, float]:
    """Return the seconds and the memory that a folder of so many files takes to be listed and to be checked."""
    with tempfile.TemporaryDirectory(dir=below) as name:
        root = Path(name)
        classes = min(1_000, count // 26)
        for split, number in product(("train", "val"), range(classes)):
            (root / split / f"class{number:04}").mkdir(parents=True)
        for number in range(count):
            turn, label = divmod(number, classes)
            (root / ("val" if turn % 26 == 25 else "train") / f"class{label:04}" / f"{number}.jpg").touch()
        found: dict[str, float] = {"files": count}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        data = ImageFolder(root)
        for part, work in (
            ("listing", lambda: data.listing),
            ("checking", lambda: [keys_of([each.path for each, _ in one]) for one in data.listing.samples.values()]),
        ):
            clock, processors = time.perf_counter(), processor_seconds()
            work()
            found |= {part: time.perf_counter() - clock, f"{part}, processors": processor_seconds() - processors}
        found["MiB"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    return found


def main(given: list[str] | None = None) -> None:
    """Measure, print tables, and write `image_folders.json`."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.image_folders", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of images, as --data.root of ImageFolder")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--crop_from", type=int, default=72)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoader")
    parser.add_argument("--images", type=int, default=4_000, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--list", type=int, help="files to list, such as ImageNet's 1281167; by default none")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    args = parser.parse_args(given)
    args.output.mkdir(parents=True, exist_ok=True)
    about: dict[str, object] = {"machine": machine(torch.device("cpu")), "settings": vars(args).copy()}
    cache = Path(tempfile.mkdtemp(dir=args.output))
    try:
        files = [file for file, _ in ImageFolder(args.root).samples("train")]
        ways, equal = decoders(files[:1_000], args.crop_from, args.rounds)
        parts = {
            "second epoch": second_epoch(args, cache),
            "decoding": decoding(args, files, cache),
            "decoders": ways,
        }
    finally:
        shutil.rmtree(cache)
    for name, rates in parts.items():
        print(f"\n{name}\n", *rate_table(rates), sep="\n")
        about[name] = rates
    print(*(f"{name}: {count:,} of {len(files[:1_000]):,} images are Pillow's." for name, count in equal.items()))
    about["equal"] = equal
    if args.list:
        about["listing"] = found = listing(args.list, args.output)
        print("\nlisting\n", *(f"{name}: {value:,.1f}" for name, value in found.items()), sep="\n")
    write_json(args.output / "image_folders.json", about)


if __name__ == "__main__":
    main()
