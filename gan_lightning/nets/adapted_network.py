"""Any network as an extractor: it gets the images that it was made for, and gives the features of a layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError, above, at_least, refused
from gan_lightning.nets.layer_tap import LayerTap, check_layer
from gan_lightning.nets.resizing import Interpolation, resized
from gan_lightning.nets.user_network import built_network
from gan_lightning.nets.weights_file import load_weights, read_program, read_weights

PROGRAM = ".pt2"
"""Suffix of a network that torch.export has written."""

HALF = (0.5,)
"""Mean and standard deviation with which images in [0, 1] become images in [-1, 1]."""


AT_ONCE = 128 * 224**2
"""Most pixels that a network sees at once: the data's batches may be made for much smaller images."""


class Preprocessing(nn.Module):
    """Images in [-1, 1] -> images as a network wants them: grey to colour, resized, normalised.

    Images that already are as wanted stay the same bit for bit.

    Args:
        channels: Channels that the network takes; grey images get three equal ones. None takes any.
        size: Height and width of the network's images, pixels; None keeps those of the data.
        mean: Per channel, or one for all, of images in [0, 1]; it is subtracted.
        std: The same; divided by.
        interpolation: Of the resizing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int | None = None,
        size: int | None = None,
        mean: Sequence[float] = HALF,
        std: Sequence[float] = HALF,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        self.channels, self.size, self.interpolation = channels, size, interpolation
        self.normalises = {*mean, *std} != set(HALF)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "batch _c _h _w"]) -> Float[Tensor, "batch _channels _height _width"]:
        """Return the network's images."""
        if self.channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = resized(images, self.size, self.interpolation).clamp(-1, 1)
        if self.normalises:
            images = ((images + 1) / 2 - self.mean.to(images)) / self.std.to(images)
        return images


class AdaptedNetwork(nn.Module):
    """A network's layer as an extractor of images in [-1, 1].

    Args:
        network: Any network.
        preprocessing: Makes its images.
        layer: Name of the module whose output the features are; empty for the network's own output.
        pool: Edge to which maps are averaged; None takes them whole.
        fixed: Why the network cannot be made anew with random weights, as a sentence; None if it can.

    Raises:
        SettingError: There is no such layer.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        layer: str = "",
        pool: int | None = None,
        fixed: str | None = None,
    ) -> None:
        super().__init__()
        self.preprocessing, self.layer, self.pool, self.no_control = preprocessing, layer, pool, fixed
        self.network = LayerTap(network, layer) if layer else network

    def up_to(self, layer: str) -> "AdaptedNetwork":
        """Return the same network up to another layer. This one must give the network's own output.

        Raises:
            SettingError: There is no such layer, or this is a layer itself.
        """
        if self.layer:
            raise SettingError(f"layers must be modules of a whole network, got {layer!r} of {self.layer!r}.")
        return AdaptedNetwork(self.network, self.preprocessing, layer, self.pool, self.no_control)

    def forward(self, images: Tensor) -> Any:
        """Return the layer's output; maps are averaged as `pool` says."""
        if torch.compiler.is_exporting():  # to count the images would fix their number
            return self._of_all(images)
        size = self.preprocessing.size or images.shape[-1]
        parts = -(-len(images) * size**2 // AT_ONCE)
        outputs = [self._of_all(part) for part in images.tensor_split(max(parts, 1))]
        return torch.cat(outputs) if len(outputs) > 1 and isinstance(outputs[0], Tensor) else outputs[0]

    def _of_all(self, images: Tensor) -> Any:
        return pooled(self.network(self.preprocessing(images)), self.pool)


def pooled(output: Any, edge: int | None) -> Any:
    """Return maps (batch, channels, height, width) averaged to edge x edge; anything else stays as it is."""
    if edge is None or not isinstance(output, Tensor) or output.ndim != 4:
        return output
    return F.adaptive_avg_pool2d(output, edge)


@dataclass(frozen=True)
class NetworkSource:
    """Where a network comes from, the images that it wants, and the layers that are measured.

    Args:
        network: Import path of a class or function that makes it, such as `torchvision.models.resnet18`, or a file of
            `torch.export` that ends in `.pt2`.
        weights: File of its state dict: `.safetensors`, or one of `torch.save`. Without it the network has the weights
            that its maker gives it.
        layers: Names of the modules whose outputs are the features, an extractor each; by default the network's own
            output.
        arguments: The maker's arguments, by name.
        pool: Edge to which maps are averaged before they become features; by default they are taken whole.
        input_size: Height and width of the images that it sees, pixels; by default the data's.
        mean: Mean of the images that it was trained on, in [0, 1], for each channel or one for all. The default is for
            networks of images in [-1, 1].
        std: Their standard deviation.
        interpolation: How images are resized: `bilinear` or `bicubic`, with antialiasing.

    Raises:
        SettingError: A setting is out of range.
    """

    network: str
    weights: str | None = None
    layers: Sequence[str] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    pool: int | None = None
    input_size: int | None = None
    mean: Sequence[float] = HALF
    std: Sequence[float] = HALF
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        """Check the settings."""
        given = {"pool": self.pool, "input_size": self.input_size}
        at_least(self, 1, "", **{name: value for name, value in given.items() if value is not None})
        for name, values in {"mean": self.mean, "std": self.std}.items():
            if len(values) not in (1, 3):
                raise refused(self, name, "have one value, or one per colour", list(values))
        above(self, 0, std=min(self.std))
        if self.is_program and (self.arguments or self.weights is not None):
            setting = "arguments" if self.arguments else "weights"
            raise refused(self, setting, "be left out with a .pt2 file, which has its own", getattr(self, setting))

    @property
    def is_program(self) -> bool:
        """Whether the network is a file of torch.export."""
        return self.network.endswith(PROGRAM)

    @property
    def short_name(self) -> str:
        """The file's name, the argument `model_name` (of timm), or else the last part of the import path."""
        if self.is_program:
            return Path(self.network).stem
        return str(self.arguments.get("model_name", self.network.rpartition(".")[2])).replace("/", "-")

    def built(self) -> nn.Module:
        """Return the network in eval mode, with the weights that its maker gives it.

        Raises:
            SettingError: It cannot be made, or lacks a layer.
        """
        if self.is_program:
            program = read_program(self.network, self)
            made: nn.Module = torch.export.unflatten(program)
            made.taken_channels = _channels_of(program)  # type: ignore[assignment]
        else:
            made = built_network(self.network, self.arguments, self)
        for layer in self.layers:
            check_layer(made, layer, self, repr(self.short_name))
        return made.float().eval().requires_grad_(False)

    def load(self, network: nn.Module) -> None:
        """Give the network the weights of the file, if there is one.

        Raises:
            SettingError: They do not fit, or are none.
        """
        if self.weights is not None:
            load_weights(network, read_weights(self.weights, self), self.weights, self)

    def preprocessing(self, network: nn.Module) -> Preprocessing:
        """Return what makes the network's images.

        Args:
            network: As `built` returns it.
        """
        wanted = taken_channels(network)
        if len(self.mean) == 3 or len(self.std) == 3:
            wanted = wanted or 3
        return Preprocessing(wanted, self.input_size, self.mean, self.std, self.interpolation)

    def extractors(self, network: nn.Module, name: str) -> dict[str, AdaptedNetwork]:
        """Return the extractors of the network, under the network's name and the layers' names.

        Args:
            network: As `built` returns it.
            name: The network's.
        """
        images = self.preprocessing(network)
        fixed = "It comes from an exported program, whose layers cannot be reset." if self.is_program else None
        return {
            f"{name}.{layer}" if layer else name: AdaptedNetwork(network, images, layer, self.pool, fixed)
            for layer in self.layers or [""]
        }

    def check_images(self, network: nn.Module, name: str, channels: int, size: int) -> None:
        """Check that a network takes images of a data set, by trying two.

        Args:
            network: As `built` returns it.
            name: The network's.
            channels: Channels of the data's images.
            size: Their height and width, pixels.

        Raises:
            SettingError: It does not take them.
        """
        wanted = taken_channels(network)
        if wanted not in (None, channels) and not (wanted == 3 and channels == 1):
            raise SettingError(
                f"network must take images of {channels} channels, as the data has, got {name}, which takes {wanted}. "
                "Use another network, or give its maker the number of channels.",
                self,
                self.network,
            )
        extractors = self.extractors(network, name)
        try:
            with torch.no_grad():
                for each in extractors.values():
                    each(torch.zeros(2, channels, size, size))
        except SettingError:
            raise
        except Exception as error:  # anything may go wrong in a user's network
            raise SettingError(
                f"input_size must be one that {name} takes, got {self.input_size or size} pixels, which it does not "
                f"({type(error).__name__}: {' '.join(str(error).split())[:300]}). Set it to the size that the network "
                "was made for.",
                self,
                self.input_size,
            ) from error


def taken_channels(network: nn.Module) -> int | None:
    """Return the channels of a network's images: a program's, or those of the first convolution; None if unknown."""
    if isinstance(known := getattr(network, "taken_channels", None), int):
        return known
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return None


def _channels_of(program: torch.export.ExportedProgram) -> int | None:
    """Return the channels of the images that a program was exported for; None if it takes something else."""
    inputs = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if len(inputs) == 1 and node.name == inputs[0] and node.meta["val"].ndim == 4:
            return int(node.meta["val"].shape[1])
    return None
