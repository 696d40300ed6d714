"""Peak memory of each program, in a process of its own, and how time and memory grow with the sizes."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from benchmarks.evaluation import CachedTransfer, Nearest, NearestSize, TransferSize
from benchmarks.sizes import BiGANSize, DCGANSize, MGANSize, SelfExGANSize, Size
from benchmarks.timing import Work, peak_memory, timed
from benchmarks.training import VARIANTS, bare, fits, plain
from gan_lightning.evaluation import curves_chart, picture_of

MEBIBYTE = 2**20

TRAINED = ("mgan", "dcgan", "bigan", "selfexgan")
"""The rows of training steps."""


@dataclass(frozen=True)
class Sizes:
    """Of all rows.

    Attributes:
        mgan: Of M-GAN.
        dcgan: Of DCGAN.
        bigan: Of BiGAN's multi-layer perceptrons.
        selfexgan: Of SelfExGAN.
        transfer: Of the transfer evaluation.
        nearest: Of the search.
        data_root: Folder of the data sets.
    """

    mgan: MGANSize = field(default_factory=MGANSize)
    dcgan: DCGANSize = field(default_factory=DCGANSize)
    bigan: BiGANSize = field(default_factory=BiGANSize)
    selfexgan: SelfExGANSize = field(default_factory=SelfExGANSize)
    transfer: TransferSize = field(default_factory=TransferSize)
    nearest: NearestSize = field(default_factory=NearestSize)
    data_root: str | None = None

    @classmethod
    def of(cls, text: str) -> "Sizes":
        """Return the sizes that `json.dumps(asdict(sizes))` wrote."""
        given = json.loads(text)
        kinds = {one.name: type(getattr(cls(), one.name)) for one in fields(cls)}
        return cls(
            **{name: kinds[name](**value) if isinstance(value, dict) else value for name, value in given.items()}
        )


def programs(sizes: Sizes, device: torch.device) -> Mapping[str, Callable[[], Work]]:
    """Return how each program is made, under its name: the row, and what computes it."""
    made: dict[str, Callable[[], Work]] = {}
    for row in TRAINED:
        size = getattr(sizes, row)
        made |= {f"{row} {name}": _fit(size, name, device) for name in VARIANTS}
        made[f"{row} plain"] = _plain(size, device)
    made["dcgan bare loop"] = lambda: bare(sizes.dcgan, device)
    made["transfer ours"] = lambda: CachedTransfer(sizes.transfer, sizes.data_root, device).cached
    made["transfer plain"] = lambda: CachedTransfer(sizes.transfer, sizes.data_root, device).each_epoch
    made["nearest ours"] = lambda: Nearest(sizes.nearest, device).ours
    made["nearest plain"] = lambda: Nearest(sizes.nearest, device).scikit_learn
    return made


def _fit(size: Size, variant: str, device: torch.device) -> Callable[[], Work]:
    return lambda: fits(size, VARIANTS[variant], device)


def _plain(size: Size, device: torch.device) -> Callable[[], Work]:
    return lambda: plain(size, device)


def measure(name: str, sizes: Sizes, device: torch.device, units: int) -> dict[str, float]:
    """Return what a program takes, in this process, which has run nothing else.

    Args:
        name: As in `programs`.
        sizes: Of everything.
        device: Where.
        units: Units of work to time; 0 times the first ones, with all that they set up.

    Returns:
        `bytes`, the most memory beyond that of the process with its libraries; the vectors of the search and the images
        of the evaluation are part of it. `seconds` per unit.
    """
    make = programs(sizes, device)[name]
    if device.type == "cuda":
        torch.cuda.init()
    before = peak_memory(device)
    work = make()
    # A training has the optimizers' states from its second step on.
    first = timed(work, 2 if name.startswith(TRAINED) else 1, device)
    taken = peak_memory(device) - before
    if units:
        # Each call of a fit sets up a Trainer and a model.
        first = (timed(work, units + 1, device) - timed(work, 1, device)) / units
    return {"bytes": taken, "seconds": first}


def in_a_process(name: str, sizes: Sizes, device: torch.device, units: int) -> dict[str, float]:
    """Return what `measure` does in a new process."""
    code = (
        "import sys, torch, json; from benchmarks import growth; "
        "torch.set_num_threads(int(sys.argv[5])); "
        "found = growth.measure(sys.argv[1], growth.Sizes.of(sys.argv[2]), torch.device(sys.argv[3]), "
        "int(sys.argv[4])); print(json.dumps(found))"
    )
    given = [name, json.dumps(asdict(sizes)), str(device), str(units), str(torch.get_num_threads())]
    done = subprocess.run(
        [sys.executable, "-c", code, *given],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory_rows(
    variants: Mapping[str, Collection[str]], rows: set[str], sizes: Sizes, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Yield the peak memory of each program of the rows; of the evaluation in one epoch, which is that of all.

    Args:
        variants: Names of the variants that are wanted, by the training row.
        rows: That are wanted.
        sizes: Of everything.
        device: Where.
    """
    sizes = replace(sizes, transfer=replace(sizes.transfer, epochs=1))
    for name in programs(sizes, device):
        row, _, what = name.partition(" ")
        if row in rows and (what not in VARIANTS or what in variants[row]):
            found = in_a_process(name, sizes, device, units=0)
            yield {"program": name, "bytes": found["bytes"]}


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        name: On the picture.
        program: Which program, as in `programs`.
        values: Its values.
        sizes: The sizes at a value.
    """

    name: str
    program: str
    values: tuple[int, ...]
    sizes: Callable[[Sizes, int], Sizes]


AXES = (
    Axis(
        "base width of M-GAN",
        "mgan recommended",
        (16, 32, 64, 96, 128),
        lambda sizes, width: replace(sizes, mgan=replace(sizes.mgan, base_width=width)),
    ),
    Axis(
        "generators K, 120 images of all together",
        "mgan recommended",
        (1, 2, 5, 10, 20),
        lambda sizes, k: replace(
            sizes,
            mgan=replace(
                sizes.mgan,
                generators=k,
                per_generator=max(1, sizes.mgan.generators * sizes.mgan.per_generator // k),
            ),
        ),
    ),
    Axis(
        "real images in a batch, and as many generated",
        "mgan recommended",
        (30, 60, 120, 240),
        lambda sizes, count: replace(
            sizes,
            mgan=replace(sizes.mgan, batch_size=count, per_generator=max(1, count // sizes.mgan.generators)),
        ),
    ),
    Axis(
        "training images of the search for neighbours",
        "nearest ours",
        (7_500, 15_000, 30_000, 60_000),
        lambda sizes, count: replace(sizes, nearest=replace(sizes.nearest, references=count)),
    ),
)
SMALL_VALUES = (1, 2)
"""The values of every axis where it only has to run."""


def growth(sizes: Sizes, device: torch.device, units: int, small: bool) -> list[dict[str, Any]]:
    """Return time and memory along each axis.

    Args:
        sizes: Where nothing grows.
        device: Where.
        units: Steps to time at each value.
        small: Whether to take values that take no time.
    """
    found = []
    for axis in AXES:
        for value in SMALL_VALUES if small else axis.values:
            units_here = units if axis.program.startswith("mgan") else 0
            at = in_a_process(axis.program, axis.sizes(sizes, value), device, units_here)
            found.append({"axis": axis.name, "program": axis.program, "value": value, **at})
    return found


def draw(found: list[dict[str, Any]], path: Path) -> None:
    """Draw the growth along all axes, side by side, on logarithmic scales."""
    pictures = []
    for axis in dict.fromkeys(point["axis"] for point in found):
        points = [point for point in found if point["axis"] == axis]
        unit = "step" if points[0]["program"].startswith("mgan") else "search"
        panels = {
            f"seconds per {unit}": {"time": {point["value"]: point["seconds"] for point in points}},
            "peak memory, MiB": {"memory": {point["value"]: point["bytes"] / MEBIBYTE for point in points}},
        }
        pictures.append(picture_of(curves_chart(panels, axis, logarithmic=True)))
    pairs = [torch.cat(pictures[i : i + 2], dim=2) for i in range(0, len(pictures), 2)]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(torch.cat(pairs, dim=1), path)
