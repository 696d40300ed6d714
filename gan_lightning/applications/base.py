"""What the applications share: their interface, and small steps between images and codes.

Noise is given in units of the codes' own spread, so that one setting means the same for latents in [-1, 1] and on a
sphere. What it moves off the sphere is not projected back: the thesis says nothing of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.reconstruction import derangement
from gan_lightning.interfaces import EncodesImages, Images, LabelledImages, Labels, Latents, Split

Picture = Float[Tensor, "3 picture_height picture_width"]
"""Values in [0, 1]."""

AT_ONCE = 256
"""Images that a network sees at a time."""


@dataclass(frozen=True)
class ClassImages:
    """Images with a class each, to be written as a folder per class.

    Attributes:
        splits: Images in [-1, 1] and their classes, of `train` and of `test`.
        classes: Names of the classes, sorted.
    """

    splits: Mapping[Split, tuple[Images, Integer[Tensor, " images"]]]
    classes: list[str]


@dataclass(frozen=True)
class Outcome:
    """What an application found; who asked for it writes it.

    Attributes:
        figures: What JSON can hold, under names.
        pictures: Under names.
        arrays: Under names, where there is more than a reader would look at.
        data_sets: Under names.
    """

    figures: Mapping[str, Any]
    pictures: Mapping[str, Picture]
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    data_sets: Mapping[str, ClassImages] = field(default_factory=dict)


class Application(ABC):
    """One use of a trained encoder and generator. A subclass is a frozen dataclass of its settings."""

    name: ClassVar[str]
    """What its files are called."""

    def check(self, data: LabelledImages) -> None:  # noqa: B027 (most have nothing to check)
        """Check that the data have what it needs; called before anything is computed.

        Raises:
            SettingError: A setting does not fit the data.
            DataError: The data have no labels, and it needs some.
        """

    @abstractmethod
    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Do it.

        Args:
            model: In eval mode, on `device`; autograd is off.
            data: As it is evaluated on, in a single process.
            device: Where to compute.
        """


def encoding_model(model: object) -> EncodesImages:
    """Return the model, once it is known to have an encoder and a generator.

    Raises:
        SettingError: It has not.
    """
    if not isinstance(model, EncodesImages):
        raise SettingError(
            f"model must have an encoder and a generator for an application, got {type(model).__name__}, which "
            "declares no encode(), decode() and sample_latents(). Use a BiGAN, a LatentRegressor, an Autoencoder or a "
            "SelfExGAN."
        )
    return model


def at_least(least: int, **settings: int) -> None:
    """Check settings that are numbers of things.

    Raises:
        SettingError: One is below the least.
    """
    for name, value in settings.items():
        if value < least:
            raise SettingError(f"application.{name} must be at least {least}, got {value}.")


def check_noise(*noise: float) -> None:
    """Check amounts of noise.

    Raises:
        SettingError: There is none, one is below 0 or not finite, or two would give files of one name.
    """
    if not noise:
        raise SettingError("application.noise must hold at least one number, got none; 0.3 is usual.")
    for amount in noise:
        if not 0 <= amount < inf:
            raise SettingError(f"application.noise must be at least 0, got {amount}; 0.3 is usual.")
    if len({f"{amount:g}" for amount in noise}) < len(noise):
        raise SettingError(f"application.noise must hold numbers that differ, got {list(noise)}.")


def check_others(data: LabelledImages, split: Split) -> None:
    """Check that an image has another one to be compared with.

    Raises:
        DataError: The split has one image.
    """
    images, _ = read_images(data, split, 2, torch.device("cpu"))
    if len(images) < 2:
        raise DataError(
            f"The {split} split of {data.name} must have at least 2 images, to compare one with another, got "
            f"{len(images)}. Raise data.limit or choose another application.split."
        )


def check_classes(data: LabelledImages, purpose: str, remedy: str = "") -> None:
    """Check that there is a class per image.

    Args:
        data: The data set.
        purpose: What needs the classes.
        remedy: What to do beside using another data set.

    Raises:
        DataError: There is none.
    """
    if data.label_kind != "classes":
        raise DataError(
            f"{purpose} needs a class per image, and the data set {data.name} has labels of the kind "
            f"'{data.label_kind}'. Use a data set with classes{remedy}."
        )


def read_images(
    data: LabelledImages, split: Split, count: int | None, device: torch.device, *, labelled: bool = False
) -> tuple[Images, Labels]:
    """Return the first images of a split and their labels, as many as asked for or as there are.

    Args:
        data: In a single process.
        split: Which one.
        count: How many; all, where none is given.
        device: Where to put them.
        labelled: Whether images whose class is not known are passed over.
    """
    images, labels, found = [], [], 0
    for batch, batch_labels in data.evaluation_batches(split, device):
        if labelled:
            known = batch_labels >= 0
            batch, batch_labels = batch[known], batch_labels[known]
        images.append(batch)
        labels.append(batch_labels)
        found += len(batch)
        if count is not None and found >= count:
            break
    return torch.cat(images)[:count], torch.cat(labels)[:count]


def encoded(model: EncodesImages, images: Images) -> Latents:
    """Return E(x)."""
    return torch.cat([model.encode(batch) for batch in images.split(AT_ONCE)]).float()


def decoded(model: EncodesImages, latents: Latents) -> Images:
    """Return G(z)."""
    return torch.cat([model.decode(batch) for batch in latents.split(AT_ONCE)]).float()


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
    model: EncodesImages, codes: Latents, copies: int, deviation: float, rng: torch.Generator
) -> Float[Tensor, "codes {copies} channels height width"]:
    """Return G(z + noise), several for each code.

    Source:
        Liu 2018, section 4.2: "generate with the projected vector with noise adding".
    """
    latents = disturbed(codes, copies, deviation, rng)
    return decoded(model, latents.flatten(0, 1)).unflatten(0, (len(codes), copies))


def distances(a: Tensor, b: Tensor) -> Float[Tensor, " rows"]:
    """Return the ℓ2 distance between each row of `a` and the same row of `b`."""
    return (a - b).flatten(1).double().norm(dim=1).float()


def others(count: int, seed: int) -> Integer[Tensor, " {count}"]:
    """Return for each of several images the place of a random other one: a baseline for distances."""
    return derangement(count, torch.Generator().manual_seed(seed))


def rows_picture(rows: Float[Tensor, "rows columns channels height width"]) -> Picture:
    """Return a picture of rows of images in [-1, 1]."""
    from torchvision.utils import make_grid

    return make_grid(rows.flatten(0, 1).float().cpu(), rows.shape[1], normalize=True, value_range=(-1, 1))
