"""Frozen extractors and a data set -> feature matrices.

A frozen extractor sees each image once. Its features are kept, and every head is trained on them. In eval mode the
result is exactly the same as with a forward pass in every epoch, at a fraction of the cost.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import EncodesImages, ImageBatches, Images
from gan_lightning.system.private_names import BatchNorm
from gan_lightning.system.processes import batch_norm_alone, gather_objects, gather_rows, sum_over_processes


class RawPixels(nn.Flatten):
    """The control without an extractor: the pixels are the features."""


@contextmanager
def frozen(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Freeze modules, and prove on leaving that nothing in them has changed.

    Inside, every module is in eval mode and no parameter requires a gradient. Afterwards each submodule has its former
    mode and each parameter its former `requires_grad`.

    Args:
        modules: Each under its name in an error. They may share layers.

    Raises:
        RuntimeError: A parameter or buffer is no longer the same bit for bit.
    """
    modes = {layer: layer.training for module in modules.values() for layer in module.modules()}
    requires_grad = {weight: weight.requires_grad for module in modules.values() for weight in module.parameters()}
    before = {name: tensor.detach().clone() for name, tensor in _state(modules).items()}
    try:
        for module in modules.values():
            module.eval().requires_grad_(False)
        yield
        if changed := _changed(before, _state(modules)):
            raise RuntimeError(
                f"{changed[0]!r} must stay as it is while its module is frozen, but it changed; "
                "change parameters and buffers in train mode only."
            )
    finally:
        for layer, training in modes.items():
            layer.training = training
        for weight, required in requires_grad.items():
            weight.requires_grad_(required)


def _state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return every parameter and buffer, also buffers that `state_dict` leaves out."""
    return {
        f"{key}.{name}": tensor
        for key, module in modules.items()
        for named_tensors in (module.named_parameters(), module.named_buffers())
        for name, tensor in named_tensors
    }


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the tensors that are not the same bit for bit: a NaN equals itself, and 0.0 is not -0.0."""
    names = sorted(before.keys() | after.keys())
    pairs = {name: (before[name], after[name]) for name in names if name in before and name in after}
    alike = [name for name, (one, other) in pairs.items() if _form(one) == _form(other)]
    # All are compared before the answers are read: a GPU would wait for each read.
    flags = [(_bits(before[name]) == _bits(after[name])).all() for name in alike]
    same = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist() if flags else []
    unchanged = {name for name, flag in zip(alike, same, strict=True) if flag}
    return [name for name in names if name not in unchanged]


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types for the bits of a value, by its bytes."""


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).view(INTEGERS.get(tensor.element_size(), torch.uint8))


class FunctionExtractor(nn.Module):
    """A plain function of images as an extractor.

    Args:
        function: Maps images to features.
    """

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        """Return the function's features."""
        return self.function(images)


def as_extractor(name: str, network: object) -> nn.Module:
    """Return a network as a module; functions become one.

    Raises:
        SettingError: It is neither a module nor a function.
    """
    if isinstance(network, nn.Module):
        return network
    if callable(network):
        return FunctionExtractor(network)
    raise SettingError(
        f"the extractor {name!r} must be a torch.nn.Module or a function of images, got {type(network).__name__}."
    )


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the type of a module's weights, float32 without weights. Its images must have the same type."""
    tensors = chain(module.parameters(), module.buffers())
    return next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)


def features_of(
    name: str, extractor: nn.Module, images: Images, pool: int | None = None
) -> Float[Tensor, "batch feature"]:
    """Return a row of features per image, in float32; the extractor keeps its mode.

    Args:
        name: The extractor's, in an error.
        extractor: Maps images to features of any number of dimensions, the images along the first.
        images: In [-1, 1]; they are given in the precision of the extractor's weights.
        pool: Edge to which maps (batch, channels, height, width) are averaged before they become a row.

    Raises:
        SettingError: The output is no tensor with a row per image.
    """
    output = extractor(images.to(dtype_of(extractor)))
    if not isinstance(output, Tensor):
        raise SettingError(
            f"the extractor {name!r} must give a tensor of features, got {described(output)}. Wrap it in a module that "
            "returns the one that is meant."
        )
    if output.ndim == 0 or len(output) != len(images):
        raise SettingError(
            f"the extractor {name!r} must give a row of features per image, got an output of shape "
            f"{tuple(output.shape)} for {len(images)} images. Return the images along the first dimension."
        )
    if pool is not None and output.ndim == 4:
        output = F.adaptive_avg_pool2d(output, pool)
    return output.reshape(len(images), -1).float()


def described(output: object) -> str:
    """Return a description of an output, for an error."""
    if isinstance(output, Tensor):
        kind = "" if output.is_floating_point() else f" of {output.dtype}"
        return f"a tensor of shape {tuple(output.shape)}{kind}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with the keys {', '.join(map(repr, output))}"
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"


ALONE = 0.01
"""Largest change of an image's features with the images beside it, as a share of the largest feature.

Rounding moves them far less. TF32 moves them by up to a thousandth or two; GPUs may use it for some sizes of batches
alone.
"""

ALONE_HALF = 0.1
"""The same in half precision; rounding alone makes several hundredths there."""


@torch.no_grad()
def check_extractor(name: str, extractor: nn.Module, channels: int, image_size: int, device: torch.device) -> int:
    """Try an extractor on two random images; return its number of features.

    Args:
        name: Its name, in an error.
        extractor: On `device`; in eval mode meanwhile.
        channels: Channels of the images.
        image_size: Height and width of the images, pixels.
        device: Device to compute on.

    Raises:
        SettingError: It does not take such images, does not give a row per image, or gives an image other features
            beside another image.
    """
    rng = torch.Generator().manual_seed(0)
    images = (2 * torch.rand(2, channels, image_size, image_size, generator=rng) - 1).to(device)
    images[1] = images[1] / 2 + 0.4  # of another brightness and contrast, statistics of both together then show
    with frozen({name: extractor}):
        try:
            both = features_of(name, extractor, images)
        except SettingError:
            raise
        except Exception as error:  # anything may go wrong in a user's network
            raise SettingError(
                f"the extractor {name!r} must take images of shape {tuple(images.shape)}, got "
                f"{type(error).__name__}: {_line(error)}"
            ) from error
        try:
            alone = torch.cat([features_of(name, extractor, image[None]) for image in images])
            moved = (alone - both).abs().max().item() if alone.shape == both.shape else float("inf")
        except Exception as error:  # such as batch norm without running statistics
            reason = f"it cannot take one image alone ({type(error).__name__}: {_line(error)})"
            raise SettingError(_depends(name, reason)) from error
    share = ALONE_HALF if dtype_of(extractor).itemsize < 4 else ALONE
    if not moved <= share * both.abs().max().item() + 1e-6:
        raise SettingError(_depends(name, f"its features differ by up to {moved:.3g} from those of the image alone"))
    return both.shape[1]


def _depends(name: str, reason: str) -> str:
    return (
        f"the extractor {name!r} must give an image the same features whatever is beside it in the batch, but {reason}."
        " Keep the images along the first dimension, and give batch norm running statistics."
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


# Tensors of inference_mode could not train heads.
@torch.no_grad()
def extract_features(
    extractors: Mapping[str, nn.Module],
    batches: ImageBatches,
    *,
    pool: int | None = None,
    device: torch.device | None = None,
) -> tuple[
    dict[str, Float[Tensor, "images _feature"]],
    Integer[Tensor, " images"] | Integer[Tensor, "images attributes"],
]:
    """Return every image's features, from all extractors in one pass over the data.

    Args:
        extractors: Modules that map images to features; frozen during the pass. Outputs are flattened per
            image.
        batches: All batches; if several processes run, this process's share.
        pool: As `features_of` takes it.
        device: Where features and labels are kept; by default the images' device.

    Returns:
        Features in float32 under their extractor's name, and the labels, both in stored order. Every process gets the
        features and labels of all processes.

    Raises:
        SettingError: An extractor does not give a row of features per image.
        DataError: A process has no image.
    """
    features: dict[str, Tensor] = {}
    labels: list[Tensor] = []
    count = 0
    with frozen(extractors):
        for images, batch_labels in batches:
            rows = slice(count, count + len(images))
            for name, extractor in extractors.items():
                output = features_of(name, extractor, images, pool)
                if name not in features:
                    length = len(batches) * len(images)
                    features[name] = output.new_empty(length, output.shape[1], device=device)
                if rows.stop > len(features[name]):  # several processes share the rest: a later batch may be larger
                    more = output.new_empty(rows.stop - len(features[name]), output.shape[1], device=device)
                    features[name] = torch.cat([features[name], more])
                features[name][rows] = output
            labels.append(batch_labels.to(device or images.device))
            count = rows.stop
    counts = gather_objects(count)
    if not all(counts):
        raise DataError(
            f"Every process must have an image to extract features from, got {counts} images; "
            "use fewer processes or a larger data set."
        )
    gathered = {name: gather_rows(matrix[:count], counts) for name, matrix in features.items()}
    return gathered, gather_rows(torch.cat(labels), counts)


def has_statistics(module: nn.Module) -> bool:
    """Return whether a module has batch norm that uses running statistics."""
    return any(isinstance(layer, BatchNorm) and layer.track_running_stats for layer in module.modules())


@torch.no_grad()
def estimate_batch_norm_statistics(module: nn.Module, batches: ImageBatches, max_batches: int | None = None) -> None:
    """Set the running statistics of every batch-norm layer to statistics of the given images.

    A discriminator gathers statistics of real and generated images in training, and an untrained network has none at
    all (mean 0, variance 1). Each layer's statistics become the average, over the batches and over all processes, of
    the batch's mean and unbiased variance. Modes, momenta, other layers and the random state stay unchanged. Only
    batch-norm layers are put in train mode, so dropout stays off, unlike in `torch.optim.swa_utils.update_bn`.

    Args:
        module: Maps images to anything.
        batches: All batches; if several processes run, this process's share. A batch of one image is left out: it has
            no variance.
        max_batches: Stop after as many batches of each process. None takes all; a data set stored by class needs all.

    Raises:
        SettingError: `max_batches` is below 1.
        DataError: No process has a batch of two images or more.

    Source:
        Donahue et al. 2017, the authors' code ("deploy"): statistics are reset and averaged over real batches
        before each evaluation.
    """
    if max_batches is not None and max_batches < 1:
        raise SettingError(f"max_batches must be at least 1, got {max_batches}; leave it out to use every batch.")
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    modes = {layer: layer.training for layer in module.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    seen = dict.fromkeys(layers, 0)
    hooks: list[RemovableHandle] = []
    count = 0

    def averaging(layer: nn.Module, arguments: object) -> None:
        # With momentum None torch averages too, but reads the number of batches back from the device each time.
        assert isinstance(layer, BatchNorm)
        seen[layer] += 1
        layer.momentum = 1 / seen[layer]

    try:
        module.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            hooks.append(layer.register_forward_pre_hook(averaging))
        with batch_norm_alone(module):
            for images, _ in islice(batches, max_batches):
                if len(images) > 1:
                    module(images.to(dtype_of(module)))
                    count += 1
    finally:
        for hook in hooks:
            hook.remove()
        for submodule, training in modes.items():
            submodule.training = training
        for layer, momentum in momenta.items():
            layer.momentum = momentum
    total = sum(gather_objects(count))
    if total == 0:
        raise DataError("Batch-norm statistics need a batch of at least two images, got none; use larger batches.")
    for layer in layers:
        for statistic in (layer.running_mean, layer.running_var):
            assert statistic is not None  # track_running_stats
            statistic.mul_(count / total)
            sum_over_processes(statistic)


class _Reconstruction(nn.Module):
    """G(E(x)) of a model, as a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Images) -> Images:
        assert isinstance(self.model, EncodesImages)
        return self.model.decode(self.model.encode(images.to(dtype_of(self))))


@contextmanager
def reconstruction_statistics(model: nn.Module, batches: ImageBatches | None) -> Iterator[None]:
    """Let E and G use the batch-norm statistics of G(E(x)) for the time being. Their own come back afterwards.

    A generator's statistics of training mix images of prior latents with others, an encoder's may mix real images with
    generated ones.

    Args:
        model: Encodes and decodes (`EncodesImages`).
        batches: Real images x. Without any, everything stays unchanged.

    Raises:
        As `estimate_batch_norm_statistics`.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        if batches is not None:
            estimate_batch_norm_statistics(_Reconstruction(model), batches)
        yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
