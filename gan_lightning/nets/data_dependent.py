"""Initial weights that depend on data, for any network of convolutions and fully connected layers.

Source:
    Krähenbühl et al. 2016, *Data-dependent Initializations of Convolutional Neural Networks*, and its authors' code.

Deviations from that code:
    - A layer's patches are cut out of its inputs. The code finds them through random projections.
    - Components with less than a millionth of the largest variance are left out; the code has a limit that depends on
      the number of patches.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError

Network = TypeVar("Network", bound=nn.Module)

Draw = Literal["normal", "pca", "kmeans"]
"""Source of a layer's weights: N(0, 1), or the principal components or the means of clusters of its inputs' patches."""

BIAS = 0.1
"""Mean of each channel after its layer; the authors' code has it as its default."""

PATCHES = 20_000
"""Most patches of a layer's inputs for its components or clusters."""

CLOSE = 0.01
"""Largest distance of the logarithm of a gradient ratio from its target's at which the rescaling ends."""

_Layer = nn.Conv2d | nn.Linear


def data_dependent_(
    network: Network,
    images: Tensor,
    draw: Draw = "normal",
    *,
    layers: Sequence[str] | None = None,
    bias: float = BIAS,
    rescale: bool = True,
    seed: int = 0,
) -> Network:
    """Initialise a network by images, and return it: within layers, then between layers.

    Args:
        network: As `within_layers_` takes it.
        images: Two inputs of the network or more; the authors take 160 images.
        draw: Source of the weights.
        layers: Names of the layers to draw anew. The rescaling between layers changes the others, too.
        bias: Mean of each channel after its layer.
        rescale: Whether all layers are rescaled at the end.
        seed: For the weights, the patches and the rescaling.

    Raises:
        SettingError: A layer's weight cannot be set, or `layers` names another module.
    """
    within_layers_(network, images, draw, layers=layers, bias=bias, seed=seed)
    if rescale:
        between_layers_(network, images, seed=seed)
    return network


def affine_layers(network: nn.Module) -> dict[str, _Layer]:
    """Return a network's convolutions and fully connected layers under their names.

    Raises:
        SettingError: A layer's weight is computed from other parameters, as in weight norm.
    """
    found = {name: layer for name, layer in network.named_modules() if isinstance(layer, _Layer)}
    for name, layer in found.items():
        if "weight" not in dict(layer.named_parameters(recurse=False)):
            raise SettingError(
                f"network must have layers whose weights can be set, got {name or type(layer).__name__!r}, which "
                "computes its weight from other parameters. Remove the parametrization."
            )
    return found


@torch.no_grad()
def within_layers_(
    network: nn.Module,
    images: Tensor,
    draw: Draw = "normal",
    *,
    layers: Sequence[str] | None = None,
    bias: float = BIAS,
    seed: int = 0,
) -> None:
    """Draw weights so that each channel of a layer's output has a standard deviation of 1 and the same mean.

    The layers follow in the order of the network. Mean and deviation are over all images and places. A layer without a
    bias has its deviation set alone. A channel that is the same for all images and places keeps its weights, divided by
    the root of their number. "pca" and "kmeans" need as many patches as channels; with fewer the weights are normal.

    Args:
        network: With convolutions (`nn.Conv2d`) and fully connected layers; evaluated in eval mode. Fold batch norm
            first: it would undo the scales.
        images: Two inputs of the network or more.
        draw: Source of the weights.
        layers: Names of the layers; by default all.
        bias: Mean of each channel.
        seed: For the weights and the choice of patches.

    Raises:
        SettingError: A layer's weight cannot be set, or `layers` names another module.

    Source:
        Krähenbühl et al. 2016, Algorithm 1.
    """
    chosen = affine_layers(network)
    if layers is not None:
        if unknown := [name for name in layers if name not in chosen]:
            raise SettingError(
                f"layers must name convolutions or fully connected layers, got {unknown[0]!r}. Choose from "
                f"{list(chosen)}."
            )
        chosen = {name: chosen[name] for name in layers}
    rng = torch.Generator().manual_seed(seed)
    done: set[nn.Module] = set()

    def initialise(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _Layer)
        if layer in done:
            return
        done.add(layer)
        layer.weight.copy_(_drawn(layer, inputs[0], draw, rng))
        if layer.bias is not None:
            layer.bias.zero_()
        values = _by_channel(layer, layer.forward(inputs[0]))
        mean, std = values.mean(dim=1), values.std(dim=1, correction=0)
        std = torch.where(std > 1e-5 * mean.abs(), std, math.sqrt(layer.weight[0].numel()))
        layer.weight.div_(std.reshape(-1, *(1,) * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_(bias - mean / std)

    with _evaluated(network), _before(list(chosen.values()), initialise):
        network(images)


@torch.enable_grad()
def between_layers_(network: nn.Module, images: Tensor, *, rounds: int = 10, seed: int = 0) -> None:
    """Rescale all layers so that a gradient step changes each by the same share.

    A layer's gradient ratio is rms(gradient) / rms(weight), with normal noise as the gradient of the outputs. Each
    round multiplies a layer by √(ratio / target). The target is the geometric mean of the ratios times σ^(1/L): L is
    the number of layers, and σ the standard deviation of an output, a mean over outputs. A layer's bias also follows
    the scale of the layer's inputs. Between the layers a network of ReLUs is homogeneous: one round equalises its
    ratios, and more rounds bring σ to 1. Layers without a gradient stay as they are.

    Args:
        network: As for `within_layers_`.
        images: Two inputs of the network or more.
        rounds: Most rounds. It ends once all ratios are within 1% of the target.
        seed: For the noise.

    Raises:
        SettingError: A layer's weight cannot be set.

    Source:
        Krähenbühl et al. 2016, Algorithm 2, in the form of the authors' code. The noise is the same in all rounds; the
        code draws it anew.
    """
    if not (layers := list(affine_layers(network).values())):
        return
    wanted = [layer.weight.requires_grad for layer in layers]
    scales: dict[nn.Module, float] = {}
    sizes: dict[nn.Module, float] = {}
    seen: set[nn.Module] = set()

    @torch.no_grad()
    def rescale(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _Layer)
        if layer in seen:
            return
        seen.add(layer)
        scale, size = scales.get(layer, 1.0), inputs[0].abs().mean().item()
        layer.weight.mul_(scale)
        if layer.bias is not None:
            layer.bias.mul_(scale * (size / sizes[layer] if sizes.get(layer) else 1.0))
        sizes[layer] = size

    try:
        for layer in layers:
            layer.weight.requires_grad_(True)
        with _evaluated(network), _before(layers, rescale):
            for _ in range(rounds):
                seen.clear()
                outputs = network(images)  # with the scales of the round before
                noise = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(seed)).to(outputs)
                gradients = torch.autograd.grad(outputs, [layer.weight for layer in layers], noise, allow_unused=True)
                found = {
                    layer: (_rms(gradient), _rms(layer.weight))
                    for layer, gradient in zip(layers, gradients, strict=True)
                    if gradient is not None
                }
                logs = {layer: math.log(step / size) for layer, (step, size) in found.items() if step and size}
                spread = outputs.detach().transpose(0, 1).flatten(1).std(dim=1, correction=0).mean().item()
                if not logs or not spread:
                    return
                target = (sum(logs.values()) + math.log(spread)) / len(logs)
                scales = {layer: math.exp((log - target) / 2) for layer, log in logs.items()}
                if max(abs(log - target) for log in logs.values()) < CLOSE:
                    return
            seen.clear()
            network(images)
    finally:
        for layer, want in zip(layers, wanted, strict=True):
            layer.weight.requires_grad_(want)


def _rms(values: Tensor) -> float:
    return values.detach().square().mean().sqrt().item()


def _by_channel(layer: _Layer, outputs: Tensor) -> Float[Tensor, "channels values"]:
    return outputs.movedim(1 if isinstance(layer, nn.Conv2d) else -1, 0).flatten(1)


def _drawn(layer: _Layer, inputs: Tensor, draw: Draw, rng: torch.Generator) -> Tensor:
    """Return a layer's new weight."""
    weight = torch.randn(layer.weight.shape, generator=rng)
    if draw != "normal":
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        parts = weight.chunk(groups)
        for part, patches in zip(parts, _patches(layer, inputs, rng).chunk(groups, dim=1), strict=True):
            if len(patches) >= len(part):
                part.copy_(patch_filters(patches, len(part), draw, rng).reshape(part.shape))
    return weight.to(layer.weight)


def _patches(layer: _Layer, inputs: Tensor, rng: torch.Generator) -> Float[Tensor, "patches values"]:
    """Return the parts of the inputs that random places of the output see, side by side for the layer's groups."""
    inputs = inputs.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        patches = inputs.flatten(0, -2)
        return patches[torch.randperm(len(patches), generator=rng)[:PATCHES]]
    each, found = max(1, PATCHES // len(inputs)), []
    for padded in _padded(layer, inputs).split(1):
        seen = F.unfold(padded, layer.kernel_size, layer.dilation, stride=layer.stride)[0].T
        found.append(seen[torch.randperm(len(seen), generator=rng)[:each]])
    return torch.cat(found)


def _padded(layer: nn.Conv2d, images: Tensor) -> Tensor:
    if layer.padding == "same":
        total = [size * (kernel - 1) for size, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
        (top, left), (bottom, right) = [each // 2 for each in total], [each - each // 2 for each in total]
    else:
        top, left = bottom, right = (0, 0) if isinstance(layer.padding, str) else layer.padding
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(images, (left, right, top, bottom), mode=mode)


def patch_filters(
    patches: Float[Tensor, "patches values"], count: int, draw: Literal["pca", "kmeans"], rng: torch.Generator
) -> Float[Tensor, "{count} values"]:
    """Return filters of patches whose outputs on them are uncorrelated (pca), or the means of clusters (kmeans).

    Patches are centred and whitened on their first `count` principal components. "pca" returns these components, the
    largest first; if there are fewer, random mixtures of them make up the number. "kmeans" divides each whitened patch
    by its length and returns the centres of clusters.

    Args:
        patches: As many as filters or more.
        count: Number of filters.
        draw: Kind of the filters.
        rng: For the clusters and the mixtures.
    """
    centred = patches.double() - patches.double().mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    kept = values > 1e-6 * values[0]
    if not kept.any():
        return torch.randn(count, patches.shape[1], generator=rng)
    whiten = vectors[:, kept].T / values[kept, None].sqrt()
    if draw == "pca":
        mixtures = torch.randn(count - len(whiten), len(whiten), generator=rng, dtype=torch.float64)
        return torch.cat([whiten, mixtures @ whiten]).float()
    white = F.normalize(centred @ whiten.T)
    return (_cluster_centres(white, count, rng) @ whiten).float()


def _cluster_centres(rows: Tensor, count: int, rng: torch.Generator) -> Tensor:
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    state = int(torch.randint(2**31 - 1, (), generator=rng))
    clusters = MiniBatchKMeans(count, batch_size=10 * count, random_state=state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct patches than filters
        clusters.fit(rows.numpy())
    return torch.from_numpy(clusters.cluster_centers_)


@contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode for the time being."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _before(layers: Sequence[nn.Module], call: Callable[[nn.Module, tuple[Tensor, ...]], None]) -> Iterator[None]:
    """Call a function with each layer and its inputs, before the layer computes."""
    handles = [layer.register_forward_pre_hook(call) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
