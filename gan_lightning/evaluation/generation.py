"""How good a model's images are: quality.py's figures, by a network of judges.py, against the images of a data set.

A figure says little alone. Beside it stands the same figure with other real images in the generated ones' place: what a
generator that has learned the training images by heart would reach. A classifier that was trained on one of the two
splits sees them a little differently.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.judges import ChosenImages, FeatureNetwork, Judge, choose
from gan_lightning.evaluation.quality import (
    DISTANCES,
    MANIFOLD,
    ClassBalance,
    Features,
    Quality,
    check_counts,
    class_balance,
    measure_quality,
)
from gan_lightning.interfaces import GeneratesImages, LabelledImages, Split
from gan_lightning.processes import gather_objects, gather_rows, on_first_process, process_count, process_rank
from gan_lightning.resizing import resized

AT_ONCE = 500
"""Images that are generated and judged at a time."""


@dataclass(frozen=True)
class Measured:
    """What was found out about a generator.

    Attributes:
        quality: The figures.
        classes: What the images show; None where the network knows no classes.
    """

    quality: Quality
    classes: ClassBalance | None

    def figures(self) -> dict[str, float]:
        """Return all figures under their names."""
        figures = self.quality.figures()
        if self.classes is not None:
            figures |= {"class_entropy": self.classes.entropy, "image_entropy": self.classes.image_entropy}
        return figures


@dataclass(frozen=True)
class QualityReference:
    """Real images as a network sees them, which generated ones are compared with.

    Attributes:
        judge: The network.
        split: Where the images are from.
        size: Edge of the data's images, pixels.
        real: Their features, on the CPU of every process.
        generators: Generators that share the number of images among them.
        neighbours: k of the figures of neighbours.
        seed: For the choice of the images, for the latents and for KID's subsets.
        device: Where the network is.
        others: What is found with as many images of the other split in the generated ones' place; None where it has
            fewer.
    """

    judge: Judge
    split: Split
    size: int
    real: Features
    generators: int
    neighbours: int
    seed: int
    device: torch.device
    others: Measured | None

    @classmethod
    def of(
        cls,
        network: FeatureNetwork,
        data: LabelledImages,
        *,
        split: Split = "test",
        images: int = 10_000,
        generators: int = 1,
        neighbours: int = 5,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> "QualityReference":
        """Return the reference of a data set; to be called on every process.

        Args:
            network: How the network is had.
            data: The data set.
            split: Which images generated ones are compared with.
            images: Most real images, chosen at random, and generated ones.
            generators: Their number. Where it does not divide the number of images, a few fewer are used.
            neighbours: k of the figures of neighbours; 0 leaves them out.
            seed: For the choice of the images, for the latents and for KID's subsets.
            device: Where the network is to be.

        Raises:
            SettingError: If the network cannot be had, or there are too few images.
        """
        device = device or torch.device("cpu")
        judge = network.judge(data, device)
        chosen = choose(data.evaluation_batches(split, device), images, seed)
        count = chosen.count // generators * generators
        if not count:
            raise SettingError(
                f"quality.images must be at least {generators}, one from each generator, got {chosen.count} real "
                "images. Use more images."
            )
        check_counts(count, judge.feature_count, neighbours)
        if count < chosen.count:
            chosen = choose(data.evaluation_batches(split, device), count, seed)
        real = _features(judge, chosen, device)
        other_split: Split = "train" if split == "test" else "test"
        more = choose(data.evaluation_batches(other_split, device), count, seed)
        reference = cls(judge, split, data.image_size, real, generators, neighbours, seed, device, None)
        if more.count < count:
            return reference
        one_maker = torch.zeros(count, dtype=torch.int64)
        return replace(reference, others=reference.against(_features(judge, more, device), one_maker, 1))

    def against(self, features: Features, made_by: Int64[Tensor, " images"], generators: int) -> Measured:
        """Return the figures of images, given their features and the index of each one's generator."""
        quality = on_first_process(
            lambda: measure_quality(self.real, features, neighbours=self.neighbours, seed=self.seed)
        )
        if self.judge.head is None:
            return Measured(quality, None)
        with torch.no_grad():
            logits = self.judge.head(features.to(self.device)).cpu()
        return Measured(quality, class_balance(logits, made_by, generators))

    @property
    def figure_names(self) -> tuple[str, ...]:
        """Return the names of the figures that a generator gets."""
        classes = ("class_entropy", "image_entropy") if self.judge.head is not None else ()
        return (*DISTANCES, *(MANIFOLD if self.neighbours else ()), *classes)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> Measured:
        """Return the figures of a model's images; to be called on every process.

        The model is afterwards what it was: its weights, its batch-norm statistics, its modes, and the random state.

        Args:
            model: Has `generate`. Its images are resized to the data's size.

        Raises:
            DataError: If a generated image's features are not finite.
        """
        per_generator = len(self.real) // self.generators
        with _drawing_from(model):
            fake, made_by = self._judged(model, per_generator)
        return self.against(fake, made_by, self.generators)

    def _judged(self, model: nn.Module, per_generator: int) -> tuple[Tensor, Tensor]:
        """Return the features of generated images and the index of each one's generator, from all processes."""
        features = [torch.empty(0, self.judge.feature_count, dtype=torch.float32, device=self.device)]
        made_by = [torch.empty(0, dtype=torch.int64, device=self.device)]
        for images in _generated(model, per_generator, self.generators, self.seed):
            flat = resized(images.flatten(0, 1).float().to(self.device), self.size)
            features.append(self.judge.features(flat).float())
            made_by.append(torch.arange(self.generators, device=self.device).repeat_interleave(images.shape[1]))
        return _gathered(torch.cat(features)), _gathered(torch.cat(made_by))


def generator_count(model: nn.Module) -> int:
    """Return the number of a model's generators; nothing in it changes."""
    assert isinstance(model, GeneratesImages)
    with torch.no_grad(), _drawing_from(model):
        return len(model.generate(1, torch.Generator(next(model.parameters()).device).manual_seed(0)))


@contextmanager
def _drawing_from(model: nn.Module) -> Iterator[None]:
    """Freeze a model, let it draw latents of its weights' type, and restore the random state, which it may use."""
    device, dtype, default = next(model.parameters()).device, next(model.parameters()).dtype, torch.get_default_dtype()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), frozen({type(model).__name__: model}):
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def _generated(
    model: nn.Module, per_generator: int, generators: int, seed: int
) -> Iterator[Float[Tensor, "generators count channels height width"]]:
    """Yield this process's images; together, those of all processes do not depend on how many there are."""
    assert isinstance(model, GeneratesImages)
    device = next(model.parameters()).device
    at_once = max(1, AT_ONCE // generators)
    parts = torch.arange(per_generator).split(at_once)
    # A seed for each part: processes take parts, and a model's `generate` cannot skip those of others.
    seeds = torch.randint(2**62, (len(parts),), generator=torch.Generator().manual_seed(seed)).tolist()
    for number in torch.arange(len(parts)).tensor_split(process_count())[process_rank()].tolist():
        yield model.generate(len(parts[number]), torch.Generator(device).manual_seed(seeds[number]))


@torch.no_grad()
def _features(judge: Judge, images: ChosenImages, device: torch.device) -> Features:
    """Return features of images, from all processes, on the CPU."""
    with frozen({judge.name: judge.features}):
        found = [judge.features(batch).float() for batch, _ in images]
    empty = torch.empty(0, judge.feature_count, dtype=torch.float32, device=device)
    return _gathered(torch.cat([empty, *found]))


def _gathered(rows: Tensor) -> Tensor:
    """Return the rows of all processes, on the CPU."""
    return gather_rows(rows, gather_objects(len(rows))).cpu()
