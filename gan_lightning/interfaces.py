"""The interfaces by which the parts of the framework know each other.

A model declares its abilities (`HasExtractors`, `HasHeads`, `GeneratesImages`, `EncodesImages`, `JudgesImages`,
`HasPublishedFigures`, `HasHotParts`), and a network its convolutions (`HasStages`). A data set declares its content
(`LabelledImages`). Callbacks and evaluations use these interfaces and nothing else. A model of your own takes part by
having the methods; it need not inherit from a class.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

Images = Float[Tensor, "batch channels height width"]
"""A batch of images in [-1, 1]."""

Latents = Float[Tensor, "batch latent"]
"""A latent per image, in the form of the model's generator."""

Labels = Integer[Tensor, " batch"] | Integer[Tensor, "batch attributes"]
"""A class index per image, or 0/1 per attribute; -1 for an unknown label."""

Batch = Sequence[Tensor]
"""Images and labels from a data loader. It is a sequence, because torch's loaders make lists."""

LabelKind = Literal["classes", "attributes", "none"]
Split = Literal["train", "test"]

HeadTask = Literal["discrimination", "classification", "encoding"]
"""The task of an extractor's training: real against generated, one class against others, or to give a latent."""


@dataclass(frozen=True)
class LinearHead:
    """The linear map of an extractor's features in its training, without its bias.

    Attributes:
        weight: A; its columns are in the order of the extractor's features.
        task: Its task in training.
        softmax: Whether only the differences of its outputs count, such as before a softmax. A common change of all
            outputs then changes nothing.
    """

    weight: Float[Tensor, "outputs features"]
    task: HeadTask
    softmax: bool = False


@runtime_checkable
class HasExtractors(Protocol):
    """A model that has feature extractors."""

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return each extractor under its name; each maps images to features (batch, feature)."""


@runtime_checkable
class HasHeads(Protocol):
    """A model with extractors that end right before a linear layer."""

    def heads(self) -> Mapping[str, LinearHead]:
        """Return the heads, under the names of their extractors in `extractors()`.

        An extractor has none if a batch norm or a nonlinearity stands between its features and the map.
        """


@runtime_checkable
class HasStages(Protocol):
    """A network that names its convolutions, one after another."""

    def stages(self) -> Mapping[str, nn.Module]:
        """Return each convolution under its name, with all that follows it up to the next one.

        The first stage takes images, and each later one the maps of the stage before. The last one gives maps (batch,
        channels, height, width); fully connected layers are left out.
        """


@runtime_checkable
class GeneratesImages(Protocol):
    """A model that draws images."""

    def generate(
        self, count: int, rng: torch.Generator | None = None
    ) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from each generator, drawn with `rng`."""


@runtime_checkable
class GeneratesFromLatents(Protocol):
    """A model that draws images from latents that it is given, such as those of a path between two others."""

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior, drawn with `rng`."""

    def generate_from(self, latents: Latents) -> Float[Tensor, "generators batch channels height width"]:
        """Return each generator's images in [-1, 1] of these latents."""


@runtime_checkable
class EncodesImages(Protocol):
    """A model that encodes images to latents and decodes latents to images: E and G."""

    def encode(self, images: Images) -> Latents:
        """Return E(x); images of another size than the encoder's, such as G's own, are resized to it."""

    def decode(self, latents: Latents) -> Images:
        """Return G(z), in [-1, 1]; it may be smaller than the images of the data."""

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior, drawn with `rng`."""


@runtime_checkable
class JudgesImages(Protocol):
    """A model with a discriminator that judges how real images look."""

    def real_logits(self, images: Images) -> Float[Tensor, " batch"] | None:
        """Return D's output before the sigmoid, positive for an image that D takes for real; None without a D.

        The networks keep their mode, and so does their batch norm.
        """


@dataclass(frozen=True)
class PublishedFigure:
    """A printed figure of a paper.

    Attributes:
        value: The printed value; accuracies in [0, 1].
        source: Paper and table.
    """

    value: float
    source: str


@runtime_checkable
class HasPublishedFigures(Protocol):
    """A model with printed figures in its paper. They stand beside ours in tables and on the dashboard."""

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return the paper's figures for these settings on a data set, under the names of our figures.

        Settings that a table does not name, such as a reduced width, do not hide its figures. A reader finds the
        differences from the paper in the run's configuration.

        Args:
            data: The data set's `name`.
        """


@runtime_checkable
class HasHotParts(Protocol):
    """A model that names the networks and methods that take the time of its training."""

    def hot_parts(self) -> Sequence[str]:
        """Return names of attributes, dotted for nested ones: networks, and methods from tensors to tensors.

        Training calls each of them as a whole. None draws random numbers.
        """


@runtime_checkable
class ImageBatches(Protocol):
    """Batches of (images, labels) in a fixed order."""

    def __len__(self) -> int:
        """Return the number of batches."""

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        """Yield images in [-1, 1] on the device asked for, and their labels."""


@runtime_checkable
class LabelledImages(Protocol):
    """A data set for evaluations."""

    name: str
    """Short name of the data set, for tables and published figures."""
    channels: int
    image_size: int

    @property
    def label_kind(self) -> LabelKind:
        """Kind of the labels."""

    @property
    def num_classes(self) -> int:
        """Number of classes, or of attributes; 0 without labels."""

    def evaluation_batches(self, split: Split, device: torch.device) -> ImageBatches:
        """Return a split in stored order, without augmentation.

        If several processes run, each gets a contiguous share; the shares in rank order are the split.
        """


DECLARED = ("name", "channels", "image_size", "label_kind", "num_classes", "evaluation_batches")
"""Attributes that make a data module `LabelledImages`."""


def lacking(data: object) -> list[str]:
    """Return the attributes of `LabelledImages` that a data module lacks, or has as None."""
    return [name for name in DECLARED if not _declares(data, name)]


def _declares(data: object, name: str) -> bool:
    """Return whether an attribute exists and is not None; one that fails with another error than its absence does."""
    try:
        value = getattr(data, name, None)
    except Exception:
        return True
    return callable(value) if name == "evaluation_batches" else value is not None
