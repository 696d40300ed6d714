"""Pictures of the weights that touch images, in the first layers that see and the last layers that draw them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gan_lightning.evaluation.features import dtype_of
from gan_lightning.evaluation.pictures import filters_picture
from gan_lightning.interfaces import EncodesImages, GeneratesImages, HasExtractors, Images, JudgesImages
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized

MOST = 96
"""Most filters drawn of a network: all of AlexNet's."""

LEAST_PIXELS = 16
"""Least pixels of an image that can be recognised by the order of its values."""

SLACK = 1e-4
"""Largest error of rounding in the order of values, as a share of their range."""

LAYERS = nn.Conv2d, nn.ConvTranspose2d, nn.Linear


@dataclass(frozen=True, kw_only=True)
class Filters(Measurement):
    """Draws the weights of the layers that touch images, in a picture per network with such layers.

    The model's methods run once to find these layers. A network sees images through its first layer that is fed images.
    It makes images with its last layer whose outputs are the images of `generate` or `decode`. Resizing, flattening and
    functions of single values, such as a sigmoid, may lie between. There is a filter per unit, stretched to the whole
    range from black to white, and at most 96 are drawn.

    Args:
        enabled: Whether to draw at all.
        every_n_epochs: Epochs between two sets of pictures while training; 0 draws after the training alone.

    Source:
        Donahue et al. 2017, Figure 3.
    """

    name: ClassVar[str] = "filters"

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to draw: no method that takes or gives images, or no images."""
        if not any(map(bench.has, (HasExtractors, GeneratesImages, EncodesImages, JudgesImages))):
            return f"{bench.subject} declares no method that takes or gives images"
        return bench.without_images()

    def run(self, bench: Bench) -> Outcome:
        """Return the pictures."""
        networks = networks_of(bench)
        layers = [layer for network in networks.values() for layer in network.modules() if isinstance(layer, LAYERS)]
        seeing, making = seeing_layers(bench, layers), making_layers(bench, layers)
        pictures, shown = {}, {}
        for name, network in networks.items():
            paths = {layer: path for path, layer in network.named_modules()}
            sees = next((layer for layer in seeing if layer in paths), None)
            makes = next((layer for layer in reversed(making) if layer in paths), None)
            # A network that does both, such as an autoencoder in one piece, has two pictures.
            for layer, picture in ((sees, name), (makes, name if sees is None else f"{name}-made")):
                if layer is not None:
                    filters = image_filters(layer, bench.data.channels, sees=layer is sees)
                    pictures[picture] = filters_picture(filters[:MOST].float())
                    path = paths[layer] or type(layer).__name__
                    shown[picture] = f"{path}, which {'sees' if layer is sees else 'makes'} images"
        return Outcome(details={"layers": shown}, pictures=pictures)


def networks_of(bench: Bench) -> dict[str, nn.Module]:
    """Return a model's parts under their names; members of its lists and dictionaries are parts of their own.

    Extractors outside of the model are added.
    """
    found: dict[str, nn.Module] = {}
    for name, child in bench.model.named_children() if bench.model is not None else ():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found |= {f"{name}-{member}": network for member, network in child.named_children()}
        else:
            found[name] = child
    known = {layer for network in found.values() for layer in network.modules()}
    return {name: network for name, network in bench.networks.items() if known.isdisjoint(network.modules())} | found


def seeing_layers(bench: Bench, layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the layers that are fed images when the model looks at some, in order.

    Args:
        bench: With the model and the data's size.
        layers: Among which to look.
    """
    data, model, found = bench.data, bench.model, []
    rng = torch.Generator().manual_seed(0)
    noise = 2 * torch.rand(2, data.channels, data.image_size, data.image_size, generator=rng) - 1
    images = noise.bfloat16().float().to(bench.device)  # exact in each type of weights

    def look(layer: nn.Module, given: Tensor, _: Tensor) -> None:
        if is_fed(given, images):
            found.append(layer)

    with _calls_of(layers, look):
        for network in bench.networks.values():
            network(images.to(dtype_of(network)))
        if isinstance(model, EncodesImages):
            bench.encode(images)
        if isinstance(model, JudgesImages):
            assert isinstance(model, nn.Module)
            model.real_logits(images.to(dtype_of(model)))
    return found


def making_layers(bench: Bench, layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the layers whose outputs are generated images, in order.

    Args:
        bench: With the model.
        layers: Among which to look.
    """
    outputs: list[tuple[nn.Module, Images]] = []
    channels = bench.data.channels

    def note(layer: nn.Module, _: Tensor, output: Tensor) -> None:
        images = as_images(output, channels)
        if images is not None and images.shape[1] == channels:
            outputs.append((layer, images[:1].float().clone()))  # later layers may change it in place

    with _calls_of(layers, note):
        made = []
        if bench.has(GeneratesImages):
            made.append(bench.generate(2).flatten(0, 1))
        if bench.has(EncodesImages):
            made.append(bench.decode(bench.sample_latents(2)))
    return [
        layer
        for layer, output in outputs
        if any(
            output.shape[1:] == images.shape[1:] and in_order(output.expand_as(images), images).any() for images in made
        )
    ]


@contextmanager
def _calls_of(layers: Sequence[nn.Module], told: Callable[[nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    """Tell of each call of a layer: the layer, its input, and its output."""

    def hook(layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if given and isinstance(given[0], Tensor) and isinstance(output, Tensor):
            told(layer, given[0], output)

    handles = [layer.register_forward_hook(hook) for layer in dict.fromkeys(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_fed(given: Tensor, images: Images) -> bool:
    """Return whether a layer's input is these images, perhaps resized, flattened, or with each value changed alone.

    Args:
        given: Values of any shape.
        images: With values in no order of their own.
    """
    seen = as_images(given, images.shape[1])
    if seen is None or len(seen) != len(images):
        return False
    expected = resized(images, seen.shape[-1])
    if images.shape[1] == 1:  # shown to a network for colour images
        expected = expected.expand(-1, seen.shape[1], -1, -1)
    return expected.shape == seen.shape and bool(in_order(expected, seen).all())


def as_images(values: Tensor, channels: int) -> Images | None:
    """Return square maps, or rows as long as flattened ones, as images; None for all other values.

    Args:
        values: Of any shape.
        channels: Of the images, if they are flattened.
    """
    if values.ndim == 2 and values.shape[1] % channels == 0:
        size = isqrt(values.shape[1] // channels)
        values = values.unflatten(1, (channels, size, size)) if channels * size * size == values.shape[1] else values
    square = values.ndim == 4 and values.shape[2] == values.shape[3]
    return values if square and values[0, 0].numel() >= LEAST_PIXELS else None


def in_order(first: Images, second: Images) -> Bool[Tensor, " batch"]:
    """Return for each pair of images whether the second image's values rise or fall with the first's.

    They do in every channel if a monotone function of single values makes the second image of the first. In unrelated
    images they hardly ever do: 16 pixels have some 2 · 10¹³ orders.
    """
    order = first.float().flatten(2).argsort(dim=2)
    values = second.float().flatten(2).gather(2, order)
    steps, span = values.diff(dim=2), values.amax(dim=2, keepdim=True) - values.amin(dim=2, keepdim=True)
    ordered = (steps >= -SLACK * span).all(dim=2) | (steps <= SLACK * span).all(dim=2)
    return ordered.all(dim=1) & (span > 0).flatten(1).any(dim=1)


def image_filters(layer: nn.Module, channels: int, *, sees: bool) -> Float[Tensor, "units channels height width"]:
    """Return the weights between each of a layer's units and the image.

    Args:
        layer: Sees or makes images.
        channels: Of the images.
        sees: Whether the layer is fed the images; otherwise it makes them.
    """
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Linear):
        matrix = weight if sees else weight.T
        size = isqrt(matrix.shape[1] // channels)
        return matrix.unflatten(1, (channels, size, size))
    # The first dimension of a convolution's weight is its outputs; of a transposed convolution's, its inputs.
    return weight if sees != isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1)
