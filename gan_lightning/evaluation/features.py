"""Frozen extractors and a data set -> feature matrices.

A frozen extractor sees each image once: its features are kept, and every head is trained on those. In eval
mode this gives exactly what a forward pass in every epoch would, at a fraction of the cost.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import EncodesImages, ImageBatches, Images
from gan_lightning.processes import batch_norm_alone, gather_objects, gather_rows, sum_over_processes


class RawPixels(nn.Flatten):
    """The control without an extractor: the pixels are the features."""


@contextmanager
def frozen(modules: Mapping[str, nn.Module]) -> Iterator[None]:
    """Freeze modules, and prove on leaving that nothing in them has changed.

    Inside, every module is in eval mode and no parameter requires a gradient. Afterwards each submodule's
    mode and each parameter's `requires_grad` are what they were.

    Args:
        modules: Each under the name by which an error refers to it. They may share layers.

    Raises:
        RuntimeError: A parameter or buffer is not bit for bit what it was.
    """
    modes = {layer: layer.training for module in modules.values() for layer in module.modules()}
    requires_grad = {weight: weight.requires_grad for module in modules.values() for weight in module.parameters()}
    before = {name: tensor.detach().clone() for name, tensor in _state(modules).items()}
    try:
        for module in modules.values():
            module.eval().requires_grad_(False)
        yield
        after = _state(modules)
        for name in sorted(before.keys() | after.keys()):
            if name not in before or name not in after or not _same_bits(before[name], after[name]):
                raise RuntimeError(
                    f"{name!r} must stay as it is while its module is frozen, but it changed; "
                    "change parameters and buffers in train mode only."
                )
    finally:
        for layer, training in modes.items():
            layer.training = training
        for weight, required in requires_grad.items():
            weight.requires_grad_(required)


def _state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return every parameter and buffer, also those that `state_dict` leaves out."""
    return {
        f"{key}.{name}": tensor
        for key, module in modules.items()
        for named_tensors in (module.named_parameters(), module.named_buffers())
        for name, tensor in named_tensors
    }


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Compare as bytes: a NaN equals itself, and 0.0 is not -0.0."""
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.detach().reshape(-1).view(torch.uint8))


# Not inference_mode: its tensors cannot be what heads are trained on.
@torch.no_grad()
def extract_features(
    extractors: Mapping[str, nn.Module], batches: ImageBatches
) -> tuple[
    dict[str, Float[Tensor, "images _feature"]],
    Integer[Tensor, " images"] | Integer[Tensor, "images attributes"],
]:
    """Return every image's features, from all extractors in one pass over the data.

    Args:
        extractors: Modules that map images to features; frozen during the pass. Outputs are flattened per
            image.
        batches: Where several processes run, this process's share. All of one size; the last may be shorter.

    Returns:
        Features in float32 under their extractor's name, and the labels; both in stored order, on the device
        of the images, and on every process those of all processes.

    Raises:
        DataError: A process has no image.
    """
    features: dict[str, Tensor] = {}
    labels: list[Tensor] = []
    count = 0
    with frozen(extractors):
        for images, batch_labels in batches:
            rows = slice(count, count + len(images))
            for name, extractor in extractors.items():
                output = extractor(images).reshape(len(images), -1)
                if name not in features:
                    capacity = len(batches) * len(images)
                    features[name] = output.new_empty(capacity, output.shape[1], dtype=torch.float32)
                features[name][rows] = output
            labels.append(batch_labels.to(images.device))
            count = rows.stop
    counts = gather_objects(count)
    if not all(counts):
        raise DataError(
            f"Every process must have an image to extract features from, got {counts} images; "
            "use fewer processes or a larger data set."
        )
    gathered = {name: gather_rows(matrix[:count], counts) for name, matrix in features.items()}
    return gathered, gather_rows(torch.cat(labels), counts)


@torch.no_grad()
def estimate_batch_norm_statistics(module: nn.Module, batches: ImageBatches, max_batches: int | None = None) -> None:
    """Set the running statistics of every batch-norm layer to those of the given images.

    The statistics that a discriminator gathers in training mix real and generated images, and an untrained
    network has none at all (mean 0, variance 1). Each layer's become the average, over the batches and over
    all processes, of the batch's mean and unbiased variance. Modes, momenta, other layers and the random
    state stay as they are: unlike `torch.optim.swa_utils.update_bn`, only batch-norm layers are put in train
    mode, so dropout stays off.

    Args:
        module: Maps images to anything.
        batches: Where several processes run, this process's share. A batch of one image is left out: it has
            no variance.
        max_batches: Stop after as many batches of each process. Of a data set stored by class take all
            (None).

    Raises:
        SettingError: `max_batches` is below 1.
        DataError: No process has a batch of two images or more.

    Source:
        Donahue et al. 2017, the authors' code ("deploy"): statistics are reset and averaged over real batches
        before each evaluation.
    """
    if max_batches is not None and max_batches < 1:
        raise SettingError(f"max_batches must be at least 1, got {max_batches}; leave it out to use every batch.")
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    modes = {layer: layer.training for layer in module.modules()}
    momenta = {layer: layer.momentum for layer in layers}
    count = 0
    try:
        module.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
            layer.momentum = None  # torch's name for a cumulative average
        with batch_norm_alone(module):
            for images, _ in islice(batches, max_batches):
                if len(images) > 1:
                    module(images)
                    count += 1
    finally:
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
        return self.model.decode(self.model.encode(images))


@contextmanager
def reconstruction_statistics(model: nn.Module, batches: ImageBatches | None) -> Iterator[None]:
    """Let E and G use the batch-norm statistics of G(E(x)) for the time being; what they had comes back.

    A generator's statistics of training mix images of prior latents with others, an encoder's may mix real images with
    generated ones.

    Args:
        model: Encodes and decodes (`EncodesImages`).
        batches: Real images x. Without any, everything stays as it is.

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
