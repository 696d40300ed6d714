"""The common part of measurements of an encoder and a generator: small steps between images and codes E(x).

Noise is given in units of the codes' own spread, so that one setting means the same for latents in [-1, 1] and on a
sphere. Noise may move a code off the sphere. The code is not projected back: the thesis says nothing of it.
"""

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gan_lightning.errors import DataError, SettingError, at_least, refused
from gan_lightning.evaluation.reconstruction_errors import derangement
from gan_lightning.interfaces import Images, LabelledImages, Latents, Split
from gan_lightning.measurements.bench import Bench


def check_noise(owner: object, *noise: float) -> None:
    """Check amounts of noise.

    Args:
        owner: The measurement with these settings.
        noise: The amounts.

    Raises:
        SettingError: There is none, one is below 0 or not finite, or two would give figures of one name.
    """
    if not noise:
        raise SettingError("noise must hold at least one number, got none. 0.3 is usual.", owner)
    for amount in noise:
        at_least(owner, 0, "0.3 is usual.", noise=amount)
    if len({f"{amount:g}" for amount in noise}) < len(noise):
        raise refused(owner, "noise", "hold numbers that differ", list(noise))


def check_others(bench: Bench, measurement: str, split: Split) -> None:
    """Check that an image has another one to be compared with.

    Args:
        bench: With the data.
        measurement: Name of the measurement that compares them.
        split: Split of its images.

    Raises:
        DataError: The split has one image.
    """
    images, _ = bench.images(split, 2)
    if len(images) < 2:
        raise DataError(
            f"{measurement} needs at least 2 {split} images of {bench.data.name}, to compare one with another, got "
            f"{len(images)}. Use more images, or those of another split."
        )


def check_classes(bench: Bench, measurement: str, remedy: str = "") -> None:
    """Check that there is a class per image.

    Args:
        bench: With the data.
        measurement: Name of the measurement that needs the classes.
        remedy: Another remedy than another data set.

    Raises:
        DataError: There is none.
    """
    if bench.data.label_kind != "classes":
        raise DataError(
            f"{measurement} needs a class per image, and the data set {bench.data.name} has labels of the kind "
            f"'{bench.data.label_kind}'. Use a data set with classes{remedy}, or set its "
            "`enabled` to false."
        )


def class_names(data: LabelledImages) -> list[str]:
    """Return the names of the classes; without any, numbers of equal length, so that sorting keeps their order."""
    digits = len(str(data.num_classes - 1))
    return list(getattr(data, "classes", None) or [f"{label:0{digits}}" for label in range(data.num_classes)])


def encoded(bench: Bench, images: Images) -> Latents:
    """Return E(x).

    Raises:
        DataError: A code is not finite.
    """
    return _finite("E(x)", bench.encode(images))


def decoded(bench: Bench, latents: Latents) -> Images:
    """Return G(z).

    Raises:
        DataError: An image is not finite.
    """
    return _finite("G(z)", bench.decode(latents))


def _finite(name: str, values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise DataError(f"{name} must be finite, got NaN or infinity; look for a diverged training run.")
    return values


def spread(codes: Latents) -> float:
    """Return the codes' standard deviation, the root of its mean square over dimensions."""
    return codes.var(dim=0, correction=0).mean().sqrt().item()


def disturbed(
    codes: Latents, copies: int, deviation: float, rng: torch.Generator
) -> Float[Tensor, "codes {copies} latent"]:
    """Return copies of each code with normal noise of this standard deviation added, drawn on the CPU with `rng`."""
    noise = torch.randn(len(codes), copies, codes.shape[1], generator=rng)
    return codes[:, None] + deviation * noise.to(codes)


def neighbourhoods(
    bench: Bench, codes: Latents, copies: int, deviation: float, rng: torch.Generator
) -> Float[Tensor, "codes {copies} channels height width"]:
    """Return G(z + noise), several for each code.

    Source:
        Liu 2018, section 4.2: "generate with the projected vector with noise adding".
    """
    latents = disturbed(codes, copies, deviation, rng)
    return decoded(bench, latents.flatten(0, 1)).unflatten(0, (len(codes), copies))


def distances(a: Tensor, b: Tensor) -> Float[Tensor, " rows"]:
    """Return the ℓ2 distance between each row of `a` and the same row of `b`."""
    return (a - b).flatten(1).double().norm(dim=1).float()


def others(count: int, seed: int) -> Integer[Tensor, " {count}"]:
    """Return for each of several images the place of a random other one: a baseline for distances."""
    return derangement(count, torch.Generator().manual_seed(seed))
