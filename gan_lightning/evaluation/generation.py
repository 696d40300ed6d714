"""The quality of a model's images against a data set: figures by the features of a network.

distribution_distances.py has the figures, judges.py the networks. A figure says little alone. Beside it stands the same
figure with other real images in the generated ones' place. A generator that knows the training images by heart would
reach this figure. A classifier trained on one of the two splits sees the splits a little differently.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.chosen import ChosenImages, choose
from gan_lightning.evaluation.distribution_distances import (
    DISTANCES,
    MANIFOLD,
    ClassBalance,
    Features,
    QualityFigures,
    check_counts,
    class_balance,
    measure_quality,
)
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.judges import Judge, untold
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.interfaces import LabelledImages, Split
from gan_lightning.nets.resizing import resized
from gan_lightning.system.processes import gather_objects, gather_rows, on_first_process, process_count, process_rank

AT_ONCE = 500
"""Images generated and judged at a time."""

Generate = Callable[[int, int], Float[Tensor, "generators count channels height width"]]
"""Makes images in [-1, 1]: takes the number of images per generator, and a seed."""


CLASS_ENTROPIES = ("class_entropy", "image_entropy")
"""Names of the figures by a network that knows classes."""


@dataclass(frozen=True)
class Measured:
    """The measured quality of a generator.

    Attributes:
        quality: The figures.
        classes: Classes of the images; None if the network knows no classes.
    """

    quality: QualityFigures
    classes: ClassBalance | None

    def figures(self) -> dict[str, float]:
        """Return all figures under their names."""
        figures = self.quality.figures()
        if self.classes is not None:
            entropies = self.classes.entropy, self.classes.image_entropy
            figures |= dict(zip(CLASS_ENTROPIES, entropies, strict=True))
        return figures


@dataclass(frozen=True)
class QualityReference:
    """A network's features of real images, for the comparison with generated ones.

    Attributes:
        judge: The network.
        split: Split of the images.
        size: Edge of the data's images, pixels.
        real: Their features, on the CPU of every process.
        generators: Generators that share the number of images among them.
        neighbours: k of the figures of neighbours.
        seed: For the choice of the images, for the latents and for KID's subsets.
        device: Device of the network.
        others: The figures with as many images of the other split in the generated ones' place; None if it has fewer.
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
        judge: Judge,
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
            judge: The network.
            data: The data set.
            split: Split of the real images.
            images: Most real images, chosen at random, and generated ones.
            generators: Their number. If it does not divide the number of images, a few fewer are used.
            neighbours: k of the figures of neighbours; 0 leaves them out.
            seed: For the choice of the images, for the latents and for KID's subsets.
            device: Device of the network.

        Raises:
            SettingError: There are too few images.
        """
        device = device or torch.device("cpu")
        chosen = choose(data.evaluation_batches(split, device), images, seed)
        count = chosen.count // generators * generators
        if not count:
            raise SettingError(
                f"images must be at least {generators}, one from each generator, got {chosen.count} real images. Use "
                "more images."
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

    @torch.no_grad()
    def measure(self, generate: Generate, report: Progress = untold) -> Measured:
        """Return the figures of generated images; to be called on every process.

        Args:
            generate: Makes them, on any device; they are resized to the data's size.
            report: Told the number of judged images.

        Raises:
            DataError: A generated image's features are not finite.
        """
        features = [torch.empty(0, self.judge.feature_count, dtype=torch.float32, device=self.device)]
        made_by = [torch.empty(0, dtype=torch.int64, device=self.device)]
        parts = torch.arange(len(self.real) // self.generators).split(max(1, AT_ONCE // self.generators))
        # Each part has a seed: processes take parts, and a generator cannot skip the parts of others.
        seeds = torch.randint(2**62, (len(parts),), generator=torch.Generator().manual_seed(self.seed)).tolist()
        mine = torch.arange(len(parts)).tensor_split(process_count())[process_rank()].tolist()
        for done, number in enumerate(mine, start=1):
            images = generate(len(parts[number]), seeds[number])
            flat = resized(images.flatten(0, 1).float().to(self.device), self.size)
            features.append(self.judge.features(flat).float())
            made_by.append(torch.arange(self.generators, device=self.device).repeat_interleave(images.shape[1]))
            report("judging generated images", done, len(mine))
        return self.against(_gathered(torch.cat(features)), _gathered(torch.cat(made_by)), self.generators)


def figure_names(judge: Judge, neighbours: int) -> tuple[str, ...]:
    """Return the names of a generator's figures.

    Args:
        judge: The network.
        neighbours: k of the figures of neighbours; 0 leaves them out.
    """
    classes = CLASS_ENTROPIES if judge.head is not None else ()
    return (*DISTANCES, *(MANIFOLD if neighbours else ()), *classes)


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
