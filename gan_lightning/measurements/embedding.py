"""The codes of a data set in the plane, by t-SNE."""

import colorsys
import logging
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import IO, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer
from torch import Tensor

from gan_lightning.errors import above, at_least, refused
from gan_lightning.evaluation import nearest_neighbours
from gan_lightning.figures import PIXELS, Best, Figure
from gan_lightning.interfaces import EncodesImages, Split
from gan_lightning.measurements.bench import BatchNorm, Bench, Progress
from gan_lightning.measurements.codes import class_names, encoded
from gan_lightning.measurements.measurement import Measurement, Outcome, Picture
from gan_lightning.system.processes import on_first_process

logger = logging.getLogger(__name__)

EDGE = 800
"""Edge of the picture, pixels."""

MOST_NAMED = 40
"""Classes that a legend names; more would not fit."""

ITERATIONS = 1000
"""Most steps of t-SNE's gradient descent: scikit-learn's default."""

AGREEMENT = "same_class_as_the_nearest"
"""Share of images whose nearest other one has the same class."""


@dataclass(frozen=True, kw_only=True)
class Embedding(Measurement):
    """Puts E(x) into the plane by t-SNE, and draws a point per image in the colour of its class.

    The figures are the share of images whose nearest other image has the same class: by the codes
    (`embedding/codes/same_class_as_the_nearest`), by the points in the plane, and by the pixels. Another figure is
    t-SNE's final divergence between the neighbourhoods of codes and of points, in nats (`embedding/divergence`). Images
    without a class are drawn in grey. If all codes are the same, they have no places in the plane.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        images: Number of embedded images.
        perplexity: t-SNE's number of effective neighbours.
        split: Split of the images.
        batch_norm: Batch-norm statistics of E: "running" were gathered in training, "real" are estimated by computing
            G(E(x)) on the training images.
        seed: t-SNE's; by default the run's.

    Source:
        Liu 2018, Fig. 4.9; van der Maaten and Hinton 2008, as scikit-learn has it.
    """

    name: ClassVar[str] = "embedding"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    images: int = 1000
    perplexity: float = 30.0
    split: Split = "test"
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        at_least(self, 3, images=self.images)
        above(self, 0, "30 is usual.", perplexity=self.perplexity)
        if self.seed is not None and not 0 <= self.seed < 2**32:  # scikit-learn's range
            raise refused(self, "seed", f"be from 0 to {2**32 - 1}", self.seed)

    def check(self, bench: Bench) -> None:
        """Check that there are more images than neighbours."""
        images, _ = bench.images(self.split, self.images)
        if self.perplexity >= len(images):
            condition = f"be below the number of images, {len(images)}"
            raise refused(self, "perplexity", condition, self.perplexity, "Embed more images or lower it.")

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the agreements, if there are classes, and of the divergence."""
        spaces = ("codes", "plane") if bench.data.label_kind == "classes" else ()
        return {**{f"{self.name}/{space}/{AGREEMENT}": "max" for space in spaces}, f"{self.name}/divergence": None}

    def run(self, bench: Bench) -> Outcome:
        """Return the agreement of neighbours, the picture, and the points."""
        images, labels = bench.images(self.split, self.images)
        classes = class_names(bench.data) if bench.data.label_kind == "classes" else []
        if not classes:
            labels = torch.full((len(images),), -1, device=images.device)
        with bench.reconstructing(self.batch_norm):
            codes = encoded(bench, images)
        spaces: dict[str, Tensor] = {"codes": codes, **({PIXELS: images.flatten(1)} if bench.controls else {})}
        figures: list[Figure] = []
        pictures: dict[str, Picture] = {}
        arrays = {"codes": codes.cpu(), "labels": labels.cpu()}
        if embeddable(codes):
            seed = bench.seed_for(self.seed)
            points, divergence = on_first_process(lambda: embedded(codes, self.perplexity, seed, bench.report))
            spaces["plane"] = arrays["points"] = points
            figures.append(self.figure("divergence", divergence, split=self.split, images=len(images)))
            if bench.controls:
                pictures[""] = scatter(points, labels.cpu(), classes)
        else:
            logger.warning("embedding: E(x) is the same for all images, so they have no places in the plane.")
        known = int((labels >= 0).sum())
        if known > 1:
            figures += [
                self.figure(
                    AGREEMENT,
                    agreement(space, labels.to(space.device)),
                    subject=name,
                    weights="none" if name == PIXELS else "trained",
                    split=self.split,
                    images=known,
                )
                for name, space in spaces.items()
            ]
        return Outcome(figures, pictures=pictures, arrays=arrays if bench.controls else {})


def embeddable(codes: Float[Tensor, "images latent"]) -> bool:
    """Return whether codes differ, by distances whose squares float32 can hold. scikit-learn crashes on others."""
    return 1e-15 < (codes.double() - codes[0].double()).abs().max().item() < 1e15


def embedded(
    codes: Float[Tensor, "images latent"], perplexity: float, seed: int, report: Progress
) -> tuple[Float32[Tensor, "images 2"], float]:
    """Return t-SNE's points, and its final divergence between the two neighbourhoods, in nats."""
    from sklearn.manifold import TSNE

    start = "pca" if codes.shape[1] > 1 else "random"
    fitted = TSNE(2, perplexity=perplexity, init=start, max_iter=ITERATIONS, random_state=seed, verbose=2)
    with redirect_stdout(cast(IO[str], _Listener(report))):
        points = fitted.fit_transform(codes.cpu().numpy())
    report("t-SNE", ITERATIONS, ITERATIONS)
    return torch.from_numpy(points.astype(np.float32)), float(fitted.kl_divergence_)


class _Listener:
    """Standard output that reads t-SNE's progress from scikit-learn's printed lines, the only place that has it.

    Lines of other threads go to the former standard output.

    Args:
        report: Told of the progress; an error that it raises ends t-SNE.
    """

    def __init__(self, report: Progress) -> None:
        self.report, self.before, self.thread, self.done = report, sys.stdout, threading.get_ident(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.before, name)

    def write(self, text: str) -> int:
        """Report the iteration named in a line."""
        if threading.get_ident() != self.thread:
            return self.before.write(text)
        if found := re.match(r"\[t-SNE\] Iteration (\d+)", text):
            self.done = int(found[1])
        with redirect_stdout(self.before):
            self.report("t-SNE", self.done, ITERATIONS)
        return len(text)


def agreement(vectors: Float[Tensor, "images feature"], labels: Integer[Tensor, " images"]) -> float:
    """Return the share of labelled images whose nearest other labelled image has their class."""
    vectors, labels = vectors[labels >= 0], labels[labels >= 0]
    nearest = nearest_neighbours(vectors, vectors, 2)
    own = torch.arange(len(vectors), device=vectors.device)
    # If vectors are equal, an image itself need not be the first.
    other = torch.where(nearest[:, 0] == own, nearest[:, 1], nearest[:, 0])
    return (labels[other] == labels).double().mean().item()


def scatter(points: Float32[Tensor, "images 2"], labels: Integer[Tensor, " images"], classes: list[str]) -> Picture:
    """Return a picture of points in the colours of their classes, with a legend; points without a class are grey."""
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
