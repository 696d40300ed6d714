"""How alike two images are, by their codes: are pairs of one class, or of one person, nearer than others?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gan_lightning.applications.base import (
    Application,
    Outcome,
    at_least,
    check_classes,
    check_noise,
    encoded,
    neighbourhoods,
    read_images,
    rows_picture,
    spread,
)
from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import EncodesImages, LabelledImages, Split
from gan_lightning.resizing import resized

MOST_IMAGES = 5000
"""Images that are compared, each with each: 12 million pairs."""


@dataclass(frozen=True)
class Similarity(Application):
    """Compares images in pairs: by their codes, and by what G makes of the codes' neighbourhoods.

    The figure is the ROC AUC, the probability that a random pair of one class is nearer than a random pair of two; 0.5
    is chance. It is given for the distance between codes, for the angle between centred codes, for the distance between
    the mean images of the neighbourhoods, and, as a control, for the distance between the images themselves. On CelebA,
    `--data.labels=identity` makes a person a class. Draws pairs, each image beside its neighbourhood.

    Args:
        images: Images that are compared, each with each.
        copies: Images of a neighbourhood.
        noise: Standard deviation of what is added to E(x), in units of the codes' own.
        pairs: Pairs of one class that are drawn; as many of two.
        split: Where the images are from.
        seed: For the noise and the choice of the pairs that are drawn.

    Source:
        Liu 2018, section 4.2.2 and Fig. 4.11, which has no figure.
    """

    images: int = 500
    copies: int = 8
    noise: float = 0.3
    pairs: int = 4
    split: Split = "test"
    seed: int = 0

    name: ClassVar[str] = "similarity"

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(1, copies=self.copies, pairs=self.pairs)
        at_least(3, images=self.images)
        if self.images > MOST_IMAGES:
            raise SettingError(
                f"application.images must be at most {MOST_IMAGES}, got {self.images}: each is compared with each, and "
                f"the pairs of more would not fit into memory."
            )
        check_noise(self.noise)

    def check(self, data: LabelledImages) -> None:
        """Check that there is a class per image."""
        check_classes(data, "the similarity of two images", "; of CelebA, --data.labels=identity")
        _, labels = read_images(data, self.split, self.images, torch.device("cpu"), labelled=True)
        sizes = torch.unique(labels, return_counts=True)[1]
        if len(sizes) < 2 or sizes.max() < 2:
            raise DataError(
                f"The similarity of two images needs pairs of one class and of two, got {len(labels)} labelled images "
                f"in {len(sizes)} classes; compare more images with --application.images."
            )

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return the areas under the curves, and the pairs that are drawn."""
        images, labels = read_images(data, self.split, self.images, device, labelled=True)
        codes = encoded(model, images)
        rng = torch.Generator().manual_seed(self.seed)
        generated = neighbourhoods(model, codes, self.copies, self.noise * spread(codes), rng)
        spaces = {
            "codes": codes,
            "centred_codes_by_angle": torch.nn.functional.normalize(codes - codes.mean(dim=0), dim=1),
            "neighbourhoods": generated.mean(dim=1),
            "pixels": images,
        }
        first, second = torch.triu_indices(len(images), len(images), offset=1, device=device)
        same = labels[first] == labels[second]
        between = {name: torch.pdist(vectors.flatten(1)) for name, vectors in spaces.items()}
        alike, unlike = (_drawn(kind, self.pairs, rng) for kind in (same, ~same))
        drawn = torch.cat([alike, unlike])
        figures = {
            "images": len(images),
            "pairs_of_one_class": int(same.sum()),
            "pairs_of_two_classes": int((~same).sum()),
            "roc_auc": {name: roc_auc(values, same) for name, values in between.items()},
            "drawn": [
                {
                    "classes": [int(labels[first[pair]]), int(labels[second[pair]])],
                    "distances": {name: values[pair].item() for name, values in between.items()},
                }
                for pair in drawn.tolist()
            ],
        }
        members = torch.cat([resized(images, generated[0].shape[-1])[:, None], generated], dim=1)
        rows = torch.stack([members[first[drawn]], members[second[drawn]]], dim=1).flatten(0, 1)
        return Outcome(figures, {"pairs": rows_picture(rows)})


def roc_auc(values: Float[Tensor, " pairs"], same: Bool[Tensor, " pairs"]) -> float:
    """Return the probability that a random pair of one class is nearer than a random pair of two; ties count half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(same.cpu().numpy(), -values.double().cpu().numpy()))


def _drawn(kind: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Return the places of some pairs of a kind, at random."""
    places = kind.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=rng)[:count].to(places.device)]
