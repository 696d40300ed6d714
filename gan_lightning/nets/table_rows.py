"""Networks written as the layer tables of a paper: a list of rows, and one builder from rows to modules.

A row has the content of the paper's row: kernel, strides, feature map, batch norm or none, nonlinearity. The builder
follows the sizes from row to row. It refuses a row whose printed feature map does not follow from the row before.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.blocks import conv, fully_connected, transposed_conv

Nonlinearity = Literal["ReLU", "LeakyReLU", "Tanh", "Sigmoid", "Softmax"]

NONLINEARITIES: dict[Nonlinearity, Callable[[], nn.Module | None]] = {
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.2),
    "Tanh": nn.Tanh,
    # A probability at a network's end is left out: the losses take logits.
    "Sigmoid": lambda: None,
    "Softmax": lambda: None,
}

UNIT = 64
"""The unit of all widths of hidden rows; `base_width` replaces it."""

Map = tuple[int, int, int]
"""Height, width and number of feature maps, as tables print them."""


@dataclass(frozen=True)
class Conv:
    """A convolution; without stride the size stays, with stride 2 it halves."""

    kernel: int
    stride: int
    map: Map
    batch_norm: bool
    nonlinearity: Nonlinearity


@dataclass(frozen=True)
class Deconv:
    """A transposed convolution that doubles the size."""

    kernel: int
    stride: int
    map: Map
    batch_norm: bool
    nonlinearity: Nonlinearity


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each square; the squares fill the map side by side."""

    kernel: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Flatten:
    """All values of an image in a row."""


@dataclass(frozen=True)
class FullyConnect:
    """A fully connected layer of a number of units."""

    units: int
    batch_norm: bool
    nonlinearity: Nonlinearity


@dataclass(frozen=True)
class Reshape:
    """A vector as feature maps."""

    map: Map


@dataclass(frozen=True)
class Dropout:
    """Values set to 0 at random while training."""

    probability: float


Row = Conv | Deconv | MaxPool | Flatten | FullyConnect | Reshape | Dropout


def network(rows: Sequence[Row], inputs: Map | int, base_width: int = UNIT) -> nn.Sequential:
    """Return a table's network, a stage per row, without a sigmoid or softmax at its end.

    A layer has a bias if no batch norm follows it. Stages are named after their kind and counted within it: `conv1`,
    `pool1`, `conv2`, ...

    Args:
        rows: The table, from its input to its output.
        inputs: Feature map, or number of units, at the input of the first row.
        base_width: Replaces 64 in the widths of all rows but the last: its width belongs to an image, a latent or a
            probability.

    Raises:
        SettingError: A row does not fit the one before, or a hidden width is not a multiple of 64.
    """
    stages, counted = OrderedDict[str, nn.Module](), Counter[str]()
    shape = inputs
    for number, row in enumerate(rows, start=1):
        last = number == len(rows)
        try:
            kind, stage, shape = _stage(row, shape, (lambda units: units) if last else _scale(base_width))
        except ValueError as error:
            raise SettingError(
                f"rows must fit each other, but row {number}, {row}, {error}. Correct the table."
            ) from error
        counted[kind] += 1
        stages[f"{kind}{counted[kind]}"] = stage
    return nn.Sequential(stages)


def _scale(base_width: int) -> Callable[[int], int]:
    def scaled(units: int) -> int:
        if units % UNIT:
            raise ValueError(f"has a width of {units}, which is no multiple of {UNIT}")
        return units // UNIT * base_width

    return scaled


def _stage(row: Row, shape: Map | int, scaled: Callable[[int], int]) -> tuple[str, nn.Module, Map | int]:
    """Return a row's name and module, and its output shape.

    Raises:
        ValueError: It does not fit its input shape.
    """
    match row:
        case FullyConnect(units, batch_norm, nonlinearity):
            taken = shape if isinstance(shape, int) else prod(shape)
            units = scaled(units)
            after = NONLINEARITIES[nonlinearity]()
            layer = fully_connected(taken, units, bias=not batch_norm, batch_norm=batch_norm, nonlinearity=after)
            # If a table leaves the flattening out, it is part of the row.
            return "fc", layer if isinstance(shape, int) else nn.Sequential(nn.Flatten(), *layer), units
        case Dropout(probability):
            return "dropout", nn.Dropout(probability), shape
        case Reshape((height, width, maps)):
            given = (height, width, scaled(maps))
            if prod(given) != shape:
                raise ValueError(f"reshapes {shape} values")
            return "reshape", nn.Unflatten(1, (given[2], height, width)), given
    if isinstance(shape, int):
        raise ValueError("takes feature maps, and gets a vector")
    height, width, maps = shape
    stage: nn.Module
    match row:
        case Flatten():
            return "flatten", nn.Flatten(), prod(shape)
        case MaxPool(kernel, size):
            kind, stage, given = "pool", nn.MaxPool2d(kernel), (height // kernel, width // kernel, maps)
            printed = (*size, maps)
        case Conv(kernel, stride, (_, _, units), batch_norm, nonlinearity):
            given, printed = (-(-height // stride), -(-width // stride), scaled(units)), (*row.map[:2], scaled(units))
            after = NONLINEARITIES[nonlinearity]()
            kind, stage = "conv", conv(
                maps, given[2], kernel, stride, kernel // 2,
                bias=not batch_norm, batch_norm=batch_norm, nonlinearity=after,
            )  # fmt: skip
        case Deconv(kernel, stride, (_, _, units), batch_norm, nonlinearity):
            given, printed = (height * stride, width * stride, scaled(units)), (*row.map[:2], scaled(units))
            after = NONLINEARITIES[nonlinearity]()
            kind, stage = "deconv", transposed_conv(
                maps, given[2], kernel, stride, kernel // 2, output_padding=stride - 1,
                bias=not batch_norm, batch_norm=batch_norm, nonlinearity=after,
            )  # fmt: skip
    if given != printed:
        raise ValueError(f"gives maps of {given[0]}x{given[1]}")
    return kind, stage, given
