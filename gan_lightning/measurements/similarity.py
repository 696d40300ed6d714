"""The similarity of images by their codes: are pairs of one class, or of one person, nearer than others?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from gan_lightning.errors import DataError, SettingError, at_least
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.figures import PIXELS, Best, Figure
from gan_lightning.interfaces import EncodesImages, Split
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.codes import check_classes, check_noise, encoded, neighbourhoods, spread
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.nets.resizing import resized

MOST_IMAGES = 5000
"""Most images compared, each with each: 12 million pairs."""

ROWS_AT_ONCE = 64
"""Images compared with all others at a time."""

CODES, BY_ANGLE, NEIGHBOURHOODS = "codes", "centred_codes_by_angle", "neighbourhoods"
"""Ways to compare images: the figures' subjects, beside the pixels."""


@dataclass(frozen=True, kw_only=True)
class Similarity(Measurement):
    """Compares images in pairs: by their codes, and by G's images of the codes' neighbourhoods.

    The figure is the ROC AUC, the probability that a random pair of one class is nearer than a random pair of two; 0.5
    is chance. It is given for four distances: between codes (`similarity/codes/roc_auc`), the angle between centred
    codes, between the mean images of the neighbourhoods, and, as a control, between the images themselves
    (`similarity/pixels/roc_auc`). On CelebA, `--data.labels=identity` makes a person a class. Draws pairs, each image
    beside its neighbourhood.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        images: Number of images compared, each with each.
        copies: Images of a neighbourhood.
        noise: Standard deviation of the noise on E(x), in units of the codes' own.
        pairs: Number of drawn pairs of one class; as many pairs of two classes are drawn.
        split: Split of the images.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
        seed: For the noise and the choice of the drawn pairs; by default the run's.

    Source:
        Liu 2018, section 4.2.2 and Fig. 4.11, which has no figure.
    """

    name: ClassVar[str] = "similarity"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    images: int = 500
    copies: int = 8
    noise: float = 0.3
    pairs: int = 4
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        at_least(self, 1, copies=self.copies, pairs=self.pairs)
        at_least(self, 3, images=self.images)
        if self.images > MOST_IMAGES:
            raise SettingError(
                f"images must be at most {MOST_IMAGES}, got {self.images}: each is compared with each, and the pairs "
                "of more would not fit into memory.",
                self,
                self.images,
            )
        check_noise(self, self.noise)

    def check(self, bench: Bench) -> None:
        """Check that each image has a class, and that both kinds of pairs exist."""
        check_classes(bench, self.name, "; of CelebA, labels='identity'")
        _, labels = bench.images(self.split, self.images, labelled=True)
        sizes = torch.unique(labels, return_counts=True)[1]
        if len(sizes) < 2 or sizes.max() < 2:
            raise DataError(
                f"{self.name} needs pairs of one class and of two, got {len(labels)} labelled {self.split} images of "
                f"{bench.data.name} in {len(sizes)} classes; raise `images` or use more of them."
            )

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the areas under the curves."""
        return {f"{self.name}/{space}/roc_auc": "max" for space in (CODES, BY_ANGLE, NEIGHBOURHOODS)}

    def run(self, bench: Bench) -> Outcome:
        """Return the areas under the curves, and the drawn pairs."""
        images, labels = bench.images(self.split, self.images, labelled=True)
        rng = torch.Generator().manual_seed(bench.seed_for(self.seed))
        with bench.reconstructing(self.batch_norm):
            codes = encoded(bench, images)
            generated = neighbourhoods(bench, codes, self.copies, self.noise * spread(codes), rng)
        spaces = {
            CODES: codes,
            BY_ANGLE: F.normalize(codes - codes.mean(dim=0), dim=1),
            NEIGHBOURHOODS: generated.mean(dim=1),
            **({PIXELS: images} if bench.controls else {}),
        }
        first, second = torch.triu_indices(len(images), len(images), offset=1, device=images.device)
        same = labels[first] == labels[second]
        between: dict[str, Tensor] = {}
        figures: list[Figure] = []
        for name, vectors in spaces.items():
            between[name] = pair_distances(bench, vectors.flatten(1), f"similarity: {name}")
            figures.append(
                self.figure(
                    "roc_auc",
                    roc_auc(between[name], same),
                    subject=name,
                    weights="none" if name == PIXELS else "trained",
                    split=self.split,
                    images=len(images),
                )
            )
        alike, unlike = (_drawn(kind, self.pairs, rng) for kind in (same, ~same))
        drawn = torch.cat([alike, unlike])
        details = {
            "pairs_of_one_class": int(same.sum()),
            "pairs_of_two_classes": int((~same).sum()),
            "drawn": [
                {
                    "classes": [int(labels[first[pair]]), int(labels[second[pair]])],
                    "distances": {name: values[pair].item() for name, values in between.items()},
                }
                for pair in drawn.tolist()
            ],
        }
        if not bench.controls:
            return Outcome(figures, details)
        members = torch.cat([resized(images, generated[0].shape[-1])[:, None], generated], dim=1)
        rows = torch.stack([members[first[drawn]], members[second[drawn]]], dim=1).flatten(0, 1)
        return Outcome(figures, details, {"": rows_picture(rows)})


def pair_distances(bench: Bench, vectors: Float[Tensor, "images feature"], description: str) -> Float[Tensor, " pairs"]:
    """Return the ℓ2 distance of each pair, in the order of `torch.triu_indices`, as `torch.pdist` does in one go."""
    found = []
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows, rest = vectors[start : start + ROWS_AT_ONCE], vectors[start:]
        block = torch.cdist(rows, rest, compute_mode="donot_use_mm_for_euclid_dist")
        row, column = torch.triu_indices(len(rows), len(rest), offset=1, device=block.device)
        found.append(block[row, column])
        bench.report(description, start + len(rows), len(vectors))
    return torch.cat(found)


def roc_auc(values: Float[Tensor, " pairs"], same: Bool[Tensor, " pairs"]) -> float:
    """Return the probability that a random pair of one class is nearer than a random pair of two; ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same.cpu().numpy(), -values.double().cpu().numpy()))


def _drawn(kind: Bool[Tensor, " pairs"], count: int, rng: torch.Generator) -> Tensor:
    """Return the places of some pairs of a kind, at random."""
    places = kind.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=rng)[:count].to(places.device)]
