"""All that the parts of the framework know of each other.

A model declares what others may do with it (`HasExtractors`, `HasHeads`, `GeneratesImages`, `EncodesImages`,
`JudgesImages`, `HasPublishedFigures`, `HasHotParts`); a data set declares what it holds (`LabelledImages`). Callbacks
and evaluations are written against these and against nothing else, so a model of your own takes part by having the
methods: there is nothing to inherit from.
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
"""A latent per image, as the model's generator takes it."""

Labels = Integer[Tensor, " batch"] | Integer[Tensor, "batch attributes"]
"""A class index per image, or 0/1 per attribute; -1 where the label is not known."""

Batch = Sequence[Tensor]
"""Images and labels, as data loaders hand them to a model; a sequence, since torch's loaders make lists."""

LabelKind = Literal["classes", "attributes", "none"]
Split = Literal["train", "test"]

HeadTask = Literal["discrimination", "classification", "encoding"]
"""What an extractor was trained for: real against generated, one class against others, or to give a latent."""


@dataclass(frozen=True)
class LinearHead:
    """The linear map that an extractor's features went through when it was trained, its bias left out.

    Attributes:
        weight: A, of the features as the extractor gives them, in their order.
        task: What it was for.
        softmax: Whether its outputs go through a softmax, or only their differences count: then a change that is the
            same for all of them changes nothing.
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
    """A model some of whose extractors end right before a linear layer."""

    def heads(self) -> Mapping[str, LinearHead]:
        """Return the heads, under the names of their extractors in `extractors()`.

        An extractor whose features pass a batch norm or a nonlinearity before they are mapped has none.
        """


@runtime_checkable
class GeneratesImages(Protocol):
    """A model that draws images."""

    def generate(
        self, count: int, rng: torch.Generator | None = None
    ) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from each generator, drawn with `rng`."""


@runtime_checkable
class EncodesImages(Protocol):
    """A model that finds latents for images, and makes images of latents: E and G."""

    def encode(self, images: Images) -> Latents:
        """Return E(x); images of another size than the encoder's, such as G's own, are resized to it."""

    def decode(self, latents: Latents) -> Images:
        """Return G(z), in [-1, 1]; it may be smaller than the images of the data."""

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> Latents:
        """Return `count` latents from their prior, drawn with `rng`."""


@runtime_checkable
class JudgesImages(Protocol):
    """A model whose discriminator says of images how real they look."""

    def real_logits(self, images: Images) -> Float[Tensor, " batch"] | None:
        """Return D's output before the sigmoid, positive where D takes an image for real; None where there is no D.

        The networks are in the mode that they are in, and so is their batch norm.
        """


@dataclass(frozen=True)
class PublishedFigure:
    """A figure that a paper prints.

    Attributes:
        value: As printed; accuracies in [0, 1].
        source: Paper and table.
    """

    value: float
    source: str


@runtime_checkable
class HasPublishedFigures(Protocol):
    """A model whose paper prints figures, which stand beside ours in tables and on the dashboard."""

    def published_figures(self, data: str) -> Mapping[str, PublishedFigure]:
        """Return what the paper prints for these settings on a data set, under the names of our figures.

        Settings that a table does not name, such as a reduced width, do not hide its figures: what differs from the
        paper is the reader's to see in the run's configuration.

        Args:
            data: The data set's `name`.
        """


@runtime_checkable
class HasHotParts(Protocol):
    """A model that names what its training spends its time in."""

    def hot_parts(self) -> Sequence[str]:
        """Return attributes, dotted where nested: networks, and methods that map tensors to tensors.

        Each is what training calls as a whole, and draws no random numbers.
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
    """A data set as evaluations see it."""

    name: str
    """Short name of the data set, for tables and published figures."""
    channels: int
    image_size: int

    @property
    def label_kind(self) -> LabelKind:
        """What the labels are."""

    @property
    def num_classes(self) -> int:
        """Number of classes, or of attributes; 0 where there are no labels."""

    def evaluation_batches(self, split: Split, device: torch.device) -> ImageBatches:
        """Return a split in stored order, without augmentation.

        Where several processes run, this process's contiguous share: the shares in rank order are the split.
        """


DECLARED = ("name", "channels", "image_size", "label_kind", "num_classes", "evaluation_batches")
"""What a data module declares to be `LabelledImages`."""


def lacking(data: object) -> list[str]:
    """Return what a data module lacks, or has as None, to be `LabelledImages`; nothing if it is that."""
    return [name for name in DECLARED if not _declares(data, name)]


def _declares(data: object, name: str) -> bool:
    """Return whether an attribute is there; one that fails for another reason than its absence is."""
    try:
        value = getattr(data, name, None)
    except Exception:
        return True
    return callable(value) if name == "evaluation_batches" else value is not None
