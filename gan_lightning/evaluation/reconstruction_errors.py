"""The errors of an encoder and a generator as each other's inverses: of x, of z, and of G(z).

They are ‖x - G(E(x))‖, ‖z - E(G(z))‖ and ‖G(z) - G(E(G(z)))‖.

A distance alone says little: a generator that draws one grey image is at a middling distance from everything. Each
distance therefore stands beside the distance to another sample's reconstruction. Only the gap between the two shows
that a reconstruction belongs to its own image.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from gan_lightning.errors import DataError
from gan_lightning.interfaces import ImageBatches
from gan_lightning.nets.resizing import resized
from gan_lightning.system.processes import gather_objects

Encode = Callable[[Tensor], Tensor]
Decode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ReconstructionDistance:
    """Mean distances between samples and their reconstructions.

    Attributes:
        distance: Mean over the samples of the ℓ2 norm of the difference, in the data's own units. For a 28x28 image in
            [0, 1] it is at most 28, in [-1, 1] twice as much.
        other_distance: The same with another sample, drawn at random, in each one's place.
        samples: Their number.
    """

    distance: float
    other_distance: float
    samples: int

    @property
    def share(self) -> float | None:
        """`distance` / `other_distance`: 1 if reconstructions say nothing of their own samples; None for 0 / 0."""
        return self.distance / self.other_distance if self.other_distance else None


def image_reconstruction(
    batches: ImageBatches, encode: Encode, decode: Decode, *, seed: int = 0
) -> ReconstructionDistance:
    """Return the mean distances between images x and G(E(x)).

    If several processes run, each gives its share, and all return the figures of all images.

    Args:
        batches: Images and labels; the labels are not used. A batch of one image joins no average.
        encode: E, images to latents, in its mode and on its device for the evaluation.
        decode: G, latents to images. If its images are smaller than x, x is resized for the comparison.
        seed: For the choice of the other image in each one's place, within its batch.

    Raises:
        DataError: No batch has two images, or a reconstruction is not finite.

    Source:
        Donahue et al. 2017, Theorem 2. The authors' log has 5.95, and 9.60 with a random other image in x's place,
        for BiGAN on MNIST in [0, 1] after 400 epochs.
    """
    return _distances((images for images, _ in batches), lambda images: decode(encode(images)), "G(E(x))", seed)


def latent_reconstruction(
    batches: Iterable[Tensor], encode: Encode, decode: Decode, *, seed: int = 0
) -> ReconstructionDistance:
    """Return the mean distances between latents z and E(G(z)).

    Args:
        batches: Latents (batch, latent), drawn as in training; a batch of one joins no average.
        encode: As in `image_reconstruction`.
        decode: As in `image_reconstruction`.
        seed: For the choice of the other latent in each one's place, within its batch.

    Raises:
        DataError: No batch has two latents, or a reconstruction is not finite.
    """
    return _distances(batches, lambda latents: encode(decode(latents)), "E(G(z))", seed)


def generated_reconstruction(
    batches: Iterable[Tensor], encode: Encode, decode: Decode, *, seed: int = 0
) -> ReconstructionDistance:
    """Return the mean distances between generated images G(z) and G(E(G(z))).

    E then has to do with images that G can make. A real image may lie where no latent leads.

    Args:
        batches: Latents (batch, latent), drawn as in training; a batch of one joins no average.
        encode: As in `image_reconstruction`.
        decode: As in `image_reconstruction`.
        seed: For the choice of the other generated image in each one's place, within its batch.

    Raises:
        DataError: No batch has two latents, or a reconstruction is not finite.

    Source:
        Donahue et al. 2017, the authors' code ("EGg").
    """
    generated = (decode(latents) for latents in batches)
    return _distances(generated, lambda images: decode(encode(images)), "G(E(G(z)))", seed)


def derangement(count: int, rng: torch.Generator) -> Int64[Tensor, " {count}"]:
    """Return a random permutation without fixed points: all samples in one random circle.

    Raises:
        DataError: There are fewer than two.
    """
    if count < 2:
        raise DataError(f"A random other sample needs at least 2 samples, got {count}; use more.")
    circle = torch.randperm(count, generator=rng)
    others = torch.empty_like(circle)
    others[circle] = circle.roll(1)
    return others


@torch.no_grad()
def _distances(
    batches: Iterable[Tensor], reconstruct: Callable[[Tensor], Tensor], name: str, seed: int
) -> ReconstructionDistance:
    rng = torch.Generator().manual_seed(seed)
    sums = torch.zeros(3, dtype=torch.float64)  # of distances, of distances to another sample, of samples
    for samples in batches:
        if len(samples) < 2:
            continue
        reconstructed = reconstruct(samples)
        if samples.ndim == reconstructed.ndim == 4 and samples.shape[2:] != reconstructed.shape[2:]:
            samples = resized(samples, reconstructed.shape[-1])
        if reconstructed.shape != samples.shape:
            raise DataError(
                f"{name} must have the shape of what it reconstructs, {tuple(samples.shape)}, got "
                f"{tuple(reconstructed.shape)}; reshape within encode or decode."
            )
        differences = (samples - reconstructed).flatten(1).double()
        others = derangement(len(samples), rng).to(samples.device)
        to_others = (samples[others] - reconstructed).flatten(1).double()
        own, other = (each.norm(dim=1).sum().item() for each in (differences, to_others))
        sums += torch.tensor([own, other, len(samples)], dtype=torch.float64)
    sums = torch.stack(gather_objects(sums)).sum(dim=0)  # objects: not every backend sums tensors on the CPU
    distance, other_distance, count = sums.tolist()
    if count == 0:
        raise DataError("Reconstructions need a batch of at least two samples, got none; use larger batches.")
    if not math.isfinite(distance):
        raise DataError(f"{name} must be finite, got NaN or infinity; look for a diverged training run.")
    return ReconstructionDistance(distance / count, other_distance / count, int(count))
