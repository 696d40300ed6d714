"""The quality of generated images, by a network's features of generated and of as many real images.

The features may come from anywhere; generation.py takes them from a network, a data set and a model.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
"""Size of KID's subsets in Bińkowski et al. 2018's code and in torchmetrics; half of the images if that is less."""

DISTANCES = ("fid", "kid")
MANIFOLD = ("precision", "recall", "density", "coverage")
"""Names of the figures that compare neighbours."""

BLOCK = 1024
"""Rows of a matrix of distances held at a time."""


@dataclass(frozen=True)
class QualityFigures:
    """Figures of generated images, against as many real ones.

    Attributes:
        images: Number of generated images, and of real ones.
        features: Their number per image.
        fid: Fréchet distance between Gaussians of the features' means and covariances; 0 is best.
        kid: Kernel distance, the mean over random subsets; unbiased, so it may be below 0; 0 is best.
        kid_deviation: Standard deviation over the subsets.
        precision: Share of generated images that are as near to a real one as its k-th neighbour; None if the figures
            of neighbours were not asked for.
        recall: Share of real images that are as near to a generated one as its k-th neighbour.
        density: Mean over generated images of the number of real ones whose k-th neighbour is at least as far away,
            divided by k; 1 for the data themselves.
        coverage: Share of real images that have a generated one as near as their k-th neighbour.
    """

    images: int
    features: int
    fid: float
    kid: float
    kid_deviation: float
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None

    def figures(self) -> dict[str, float]:
        """Return the figures that are not None, under their names."""
        return {name: value for name in (*DISTANCES, *MANIFOLD) if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class ClassBalance:
    """The classes that a classifier finds in images.

    Attributes:
        counts: Images of each class, a row per generator.
        entropy: Of the classes over all images, in nats: log(classes) if all are equally frequent, 0 if there is one.
        image_entropy: Mean entropy of the classifier's answer for an image, in nats: 0 if it is sure.
    """

    counts: Sequence[Sequence[int]]
    entropy: float
    image_entropy: float


Features = Float[Tensor, "_images _feature"]
"""Features of images, a row each."""


def measure_quality(real: Features, fake: Features, *, neighbours: int = 5, seed: int = 0) -> QualityFigures:
    """Return all figures, of features from one network.

    Args:
        real: Of real images.
        fake: Features of as many generated images.
        neighbours: k of the figures of neighbours; 0 leaves them out.
        seed: For KID's subsets.

    Raises:
        SettingError: If the numbers of images differ, or there are too few for the Fréchet distance or for k.
        DataError: If a feature is not finite.
    """
    check_features(real, fake, neighbours)
    kid, deviation = kernel_distance(real, fake, seed=seed)
    manifold = manifold_figures(real, fake, neighbours) if neighbours else {}
    return QualityFigures(len(real), real.shape[1], frechet_distance(real, fake), kid, deviation, **manifold)


def check_features(real: Features, fake: Features, neighbours: int) -> None:
    """Check that these features allow the figures.

    Raises:
        SettingError: If the numbers of images differ, or there are too few.
        DataError: If a feature is not finite.
    """
    if real.shape != fake.shape:
        raise SettingError(
            "There must be as many generated images as real ones, with features of one network, got features of shape "
            f"{tuple(fake.shape)} beside {tuple(real.shape)}. Leave some out."
        )
    check_counts(len(real), real.shape[1], neighbours)
    for name, features in (("real", real), ("generated", fake)):
        if not features.isfinite().all():
            raise DataError(
                f"Features of {name} images must be finite, got NaN or infinity; look for a diverged training run or "
                "damaged images."
            )


def check_counts(images: int, features: int, neighbours: int) -> None:
    """Check that there are enough images.

    Raises:
        SettingError: If the covariance of the features would be singular, or there are not more images than neighbours.
    """
    if images <= features:
        raise SettingError(
            f"images must be above {features}, the number of features, for the Fréchet distance, got {images} real "
            "images. Use more images, those of the other split, or a network with fewer features."
        )
    if images <= neighbours:
        raise SettingError(
            f"neighbours must be below the number of images, {images}, got {neighbours}. Use fewer neighbours."
        )


def frechet_distance(real: Features, fake: Features) -> float:
    """Return ‖μ_r - μ_g‖² + Tr(Σ_r + Σ_g - 2 (Σ_r Σ_g)^½), in float64, by torchmetrics.

    Source:
        Heusel et al. 2017.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    return float(_of_features(FrechetInceptionDistance, real, fake))


def kernel_distance(
    real: Features,
    fake: Features,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the squared maximum mean discrepancy, kernel (x·y / features + 1)³: mean and deviation over subsets.

    The global random state stays unchanged.

    Args:
        real: Of real images.
        fake: Of generated images.
        subsets: Random subsets.
        subset_size: Images in each; half of all images if that is less, because subsets of all images would be the
            same.
        seed: For the subsets.

    Source:
        Bińkowski et al. 2018, as torchmetrics has it.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    size = max(2, min(subset_size, len(real) // 2, len(fake) // 2))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*will save all extracted features in buffer")
        torch.default_generator.manual_seed(seed)
        mean, deviation = _of_features(KernelInceptionDistance, real, fake, subsets=subsets, subset_size=size)
    return float(mean), float(deviation)


def _of_features(metric: Callable[..., Any], real: Features, fake: Features, **settings: int) -> Any:
    """Return a metric of torchmetrics; it gets the features as if they were images."""
    # One process alone computes. The others would not take part in a gathering.
    computed = metric(feature=_Given(real.shape[1]), sync_on_compute=False, **settings)
    computed.update(real.cpu().double(), real=True)
    computed.update(fake.cpu().double(), real=False)
    return computed.compute()


class _Given(nn.Identity):
    """Stands for a network if the features are given; torchmetrics asks for their number."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def manifold_figures(real: Features, fake: Features, neighbours: int = 5) -> dict[str, float]:
    """Return precision, recall, density and coverage.

    Args:
        real: Of real images.
        fake: Of generated images.
        neighbours: k: the ball around an image reaches to its k-th neighbour of its own kind.

    Source:
        Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage; k = 5). There is no
        maintained implementation. `prdc` 0.2 of 2020, Naeem et al.'s own, gives the same figures with one exception: it
        does not count images exactly as far away as the k-th neighbour, such as copies of one image.
    """
    real, fake = real.double(), fake.double()
    real_radii, fake_radii = _radii(real, neighbours), _radii(fake, neighbours)
    inside_real = torch.zeros(len(fake), dtype=torch.int64, device=real.device)  # balls that a generated image is in
    recalled, covered = [], []
    for rows, radii in zip(real.split(BLOCK), real_radii.split(BLOCK), strict=True):
        distances = torch.cdist(rows, fake)
        within: Bool[Tensor, "rows fake"] = distances <= radii[:, None]
        inside_real += within.sum(dim=0)
        covered.append(within.any(dim=1))
        recalled.append((distances <= fake_radii).any(dim=1))
    return {
        "precision": (inside_real > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": inside_real.double().mean().item() / neighbours,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def _radii(features: Float64[Tensor, "images feature"], neighbours: int) -> Float64[Tensor, " images"]:
    """Return the distance of each image to its k-th neighbour; the image itself is its nearest."""
    blocks = (torch.cdist(rows, features) for rows in features.split(BLOCK))
    # topk takes a tenth of kthvalue's time.
    return torch.cat([block.topk(neighbours + 1, largest=False).values[:, -1] for block in blocks])


def class_balance(
    logits: Float[Tensor, "images classes"], made_by: Int64[Tensor, " images"], generators: int
) -> ClassBalance:
    """Return the classes that a classifier finds in images.

    Args:
        logits: Its answers.
        made_by: Index of each image's generator.
        generators: Their number.
    """
    classes = logits.shape[1]
    counts = torch.bincount(made_by * classes + logits.argmax(dim=1), minlength=generators * classes)
    counts = counts.view(generators, classes)
    shares = counts.sum(dim=0).double() / len(logits)
    log_likely = logits.double().log_softmax(dim=1)
    image_entropy = -(log_likely.exp() * log_likely).sum(dim=1).mean().item()
    return ClassBalance(counts.tolist(), torch.special.entr(shares).sum().item(), image_entropy)


@dataclass(frozen=True)
class RankCorrelation:
    """The correlation of two curves.

    Attributes:
        points: Epochs at which both were measured.
        spearman: Spearman's ρ, in [-1, 1]; None if there are fewer than `LEAST_POINTS`, or a curve is flat.
    """

    points: int
    spearman: float | None


LEAST_POINTS = 4
"""Least points of a rank correlation: with three points, one in six orders is perfect by chance."""


def rank_correlation(first: Mapping[int, float], second: Mapping[int, float]) -> RankCorrelation:
    """Return Spearman's rank correlation of two curves, value by epoch, over the epochs that both have.

    Both change as training goes on. A ρ far from 0 does therefore not prove that one causes the other.
    """
    from scipy.stats import spearmanr

    both = sorted(first.keys() & second.keys())
    pairs = [first[epoch] for epoch in both], [second[epoch] for epoch in both]
    if len(both) < LEAST_POINTS or any(len(set(values)) < 2 for values in pairs):
        return RankCorrelation(len(both), None)
    rho = float(spearmanr(*pairs).statistic)
    return RankCorrelation(len(both), rho if math.isfinite(rho) else None)
