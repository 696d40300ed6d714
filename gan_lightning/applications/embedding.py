"""The codes of a data set in the plane, by t-SNE."""

import colorsys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from gan_lightning.applications.base import Application, Outcome, Picture, at_least, encoded, read_images
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import nearest_neighbours
from gan_lightning.interfaces import EncodesImages, LabelledImages, Split

EDGE = 800
"""Edge of the picture, pixels."""

MOST_NAMED = 40
"""Classes that a legend names; more would not fit."""


@dataclass(frozen=True)
class Embedding(Application):
    """Puts E(x) into the plane by t-SNE, and draws a point per image in the colour of its class.

    Measures for how many images the nearest other one has the same class: of the codes, of the points in the plane, and
    of the pixels themselves. Images without a class are drawn in grey.

    Args:
        images: Images that are embedded.
        perplexity: t-SNE's number of effective neighbours.
        split: Where the images are from.
        seed: t-SNE's.

    Source:
        Liu 2018, Fig. 4.9; van der Maaten and Hinton 2008, as scikit-learn has it.
    """

    images: int = 1000
    perplexity: float = 30.0
    split: Split = "test"
    seed: int = 0

    name: ClassVar[str] = "embedding"

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(3, images=self.images)
        if self.perplexity <= 0:
            raise SettingError(f"application.perplexity must be above 0, got {self.perplexity}; 30 is usual.")

    def check(self, data: LabelledImages) -> None:
        """Check that there are more images than neighbours."""
        images, _ = read_images(data, self.split, self.images, torch.device("cpu"))
        if self.perplexity >= len(images):
            raise SettingError(
                f"application.perplexity must be below the number of images, {len(images)}, got {self.perplexity}. "
                "Embed more images or lower it."
            )

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return the picture, the points, and how well neighbours agree."""
        images, labels = read_images(data, self.split, self.images, device)
        if data.label_kind != "classes":
            labels = torch.full((len(images),), -1, device=device)
        codes = encoded(model, images)
        if not codes.isfinite().all():
            raise DataError("E(x) must be finite, got NaN or infinity; look for a diverged training run.")
        points, divergence = embedded(codes, self.perplexity, self.seed)
        figures: dict[str, Any] = {"images": len(images), "divergence": divergence}
        if int((labels >= 0).sum()) > 1:
            spaces = {"codes": codes, "plane": points, "pixels": images.flatten(1)}
            figures["same_class_as_the_nearest"] = {
                name: agreement(space, labels.to(space.device)) for name, space in spaces.items()
            }
        classes = getattr(data, "classes", None) or [str(label) for label in range(data.num_classes)]
        picture = scatter(points, labels.cpu(), classes if data.label_kind == "classes" else [])
        return Outcome(figures, {"t_sne": picture}, {"points": points, "labels": labels.cpu(), "codes": codes.cpu()})


def embedded(codes: Float[Tensor, "images latent"], perplexity: float, seed: int) -> tuple[Tensor, float]:
    """Return t-SNE's points (images, 2), and the divergence that is left between the two neighbourhoods, in nats."""
    from sklearn.manifold import TSNE

    fitted = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    points = fitted.fit_transform(codes.cpu().numpy())
    return torch.from_numpy(points.astype(np.float32)), float(fitted.kl_divergence_)


def agreement(vectors: Float[Tensor, "images feature"], labels: Integer[Tensor, " images"]) -> float:
    """Return the share of labelled images whose nearest other labelled image has their class."""
    vectors, labels = vectors[labels >= 0], labels[labels >= 0]
    nearest = nearest_neighbours(vectors, vectors, 2)
    own = torch.arange(len(vectors), device=vectors.device)
    # Of equal vectors, an image itself need not be the first.
    other = torch.where(nearest[:, 0] == own, nearest[:, 1], nearest[:, 0])
    return (labels[other] == labels).double().mean().item()


def scatter(points: Float32[Tensor, "images 2"], labels: Integer[Tensor, " images"], classes: list[str]) -> Picture:
    """Return a picture of points in the colours of their classes, with a legend; those without one are grey."""
    from PIL import Image, ImageDraw, ImageFont

    named = classes if len(classes) <= MOST_NAMED else []
    font = ImageFont.load_default(16)
    legend = max([40 + round(font.getlength(name)) for name in named], default=0)
    picture = Image.new("RGB", (EDGE + legend, max(EDGE, 30 + 22 * len(named))), "white")
    draw = ImageDraw.Draw(picture)
    lowest, highest = points.min(dim=0).values, points.max(dim=0).values
    places = 20 + (EDGE - 40) * (points - lowest) / (highest - lowest).clamp(min=1e-12)
    for (x, y), label in zip(places.tolist(), labels.tolist(), strict=True):
        draw.ellipse((x - 3, EDGE - y - 3, x + 3, EDGE - y + 3), fill=colour(label, len(classes)))
    for number, name in enumerate(named):
        top = 20 + 22 * number
        draw.ellipse((EDGE + 5, top, EDGE + 15, top + 10), fill=colour(number, len(classes)))
        draw.text((EDGE + 24, top - 5), name, fill="black", font=font)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1) / 255


def colour(label: int, classes: int) -> tuple[int, int, int]:
    """Return a class's colour, hues evenly apart and alternately dark and light; grey for -1."""
    if label < 0:
        return 150, 150, 150
    red, green, blue = colorsys.hsv_to_rgb(label / max(classes, 1), 0.9, (0.9, 0.6)[label % 2])
    return round(255 * red), round(255 * green), round(255 * blue)
