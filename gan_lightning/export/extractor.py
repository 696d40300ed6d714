"""An exported extractor, loaded from its folder: any images in, features out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.data.transforms import BLACK
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.features import described
from gan_lightning.evaluation.tensors import from_bytes
from gan_lightning.nets.adapted_network import Preprocessing
from gan_lightning.nets.cropping import centre_crop
from gan_lightning.nets.weights_file import read_program
from gan_lightning.system.files import read_json

CONFIG, PROGRAM_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "extractor.pt2", "model.safetensors", "README.md"
"""Files in an extractor's folder."""

OURS = "gan_lightning"
"""Key in `config.json` of what timm has no name for."""

OUTSIDE = 1e-3
"""Largest excess of an interpolation over the range of the images."""


class LoadedExtractor(nn.Module):
    """A frozen extractor that prepares images by itself. It is always in eval mode.

    Args:
        program: Maps normalised images (batch, channels, size, size) to features (batch, feature).
        config: The content of `config.json`.
        floats: Range of images in floating-point numbers.
    """

    no_control = "It comes from an exported program, whose layers cannot be reset."

    def __init__(self, program: nn.Module, config: Mapping[str, Any], floats: tuple[int | float, int | float]) -> None:
        super().__init__()
        images = config["pretrained_cfg"]
        self.channels, self.size = images["input_size"][0], images["input_size"][-1]
        self.pads = config[OURS]["enlarge"] == "pad"
        self.preprocessing = Preprocessing(
            self.channels, self.size, images["mean"], images["std"], images["interpolation"]
        )
        self.program = program.requires_grad_(False)
        self.config, self.floats = dict(config), floats

    def train(self, mode: bool = True) -> "LoadedExtractor":
        """Stay in eval mode: the program was written in it."""
        self.training = False
        return self

    def forward(self, images: Tensor) -> Float[Tensor, "batch feature"]:
        """Return a row of features per image.

        Args:
            images: (batch, channels, height, width), bytes from 0 to 255 or floating-point numbers in `floats`. A
                centred square is cut out and resized. Smaller images get a black border instead, if those of the
                training got one. Grey images become colour images if the network was trained on those.

        Raises:
            SettingError: They are no such images.
        """
        images = self._in_our_range(images)
        height, width = images.shape[-2:]
        if self.pads and max(height, width) <= self.size:
            left, top = (self.size - width) // 2, (self.size - height) // 2
            images = F.pad(images, (left, self.size - width - left, top, self.size - height - top), value=BLACK)
        else:
            images = centre_crop(images, min(height, width))
        return self.program(self.preprocessing(images))

    def _in_our_range(self, images: Tensor) -> Tensor:
        """Return images in [-1, 1]."""
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.shape[-1] > 0 or not images.shape[-2] > 0:
            shape = "(batch, channels, height, width)"
            raise SettingError(f"images must be a tensor of shape {shape}, got {described(images)}.")
        if images.shape[1] != self.channels and not (images.shape[1] == 1 and self.channels == 3):
            raise SettingError(
                f"images must have {self.channels} channels, as in the training, got {images.shape[1]}. Convert them."
            )
        if images.dtype == torch.uint8:
            return from_bytes(images)
        if not images.is_floating_point():
            raise SettingError(f"images must be bytes or floating-point numbers, got {images.dtype}. Convert them.")
        low, high = self.floats
        if images.numel() and (images.amin() < low - OUTSIDE or images.amax() > high + OUTSIDE):
            found = f"values from {images.amin().item():.4g} to {images.amax().item():.4g}"
            raise SettingError(
                f"images in floating-point numbers must be in [{low:g}, {high:g}], got {found}. Give bytes, or say the "
                "range: load_extractor(folder, floats=(-1, 1))."
            )
        return images.float() if tuple(self.floats) == (-1, 1) else (images.float() - low) * (2 / (high - low)) - 1


def load_extractor(folder: str | Path, floats: tuple[int | float, int | float] = (0, 1)) -> LoadedExtractor:
    """Return an extractor that `gan-lightning export` has written, on the CPU.

    Args:
        folder: The extractor's folder.
        floats: Range of images in floating-point numbers; torchvision's is [0, 1], this framework's [-1, 1].

    Raises:
        SettingError: There is no extractor in the folder, the range is empty, or a file would run code.
        DataError: The configuration is damaged.
    """
    path = Path(folder)
    if not (path / CONFIG).is_file():
        below = sorted(each.parent.name for each in path.glob(f"*/{CONFIG}"))
        there = f" Choose one of the folders in it: {', '.join(below)}." if below else ""
        raise SettingError(
            f"folder must be one of an extractor that gan-lightning export has written, got '{path}', which has no "
            f"{CONFIG}.{there}"
        )
    low, high = floats
    if not low < high:
        raise SettingError(f"floats must be a lower and a higher number, got {floats}.")
    config = read_json(path / CONFIG)
    program = read_program(str(path / PROGRAM_FILE))
    try:
        return LoadedExtractor(program.module(), config, floats).eval()
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"'{path / CONFIG}' is no configuration of an extractor: it lacks {error}.") from error
