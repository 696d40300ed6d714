"""The two parts of features: the part that their own head sees, and the part that it does not see.

A head A splits features orthogonally, f(x) = f_row(x) + f_null(x) with A f_null(x) = 0. This module measures each
part's share of the variance between images, within classes and between them. Shares have a yardstick: a random
subspace with as many dimensions as A's rank has an expected share of rank / features.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, section 2 (Propositions 4 and 5, Corollary 4, Theorem
    1), section 3 (Propositions 6 and 7, Theorems 2 and 3) and Appendix 1.

Deviations:
    - The bias b of eq. 12 is left out: it is the same for all images.
    - The paper's theorems are of an optimal network, and say "invariant". Measured are shares, accuracies and their
      yardsticks; `theorems.predictions` names the comparison for each theorem.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Integer
from torch import Tensor

from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import LinearHead, Split

Weights = Literal["trained", "random"]
Variance = Literal["total", "within", "between"]
Features = Float[Tensor, "images feature"]

SplitFeatures = Mapping[Split, tuple[Mapping[str, Tensor], Tensor]]
"""Of each split: features (images, feature) under their extractors' names, and the images' labels."""

SHARES = ("row_share", "row_share_within", "row_share_between", "between_share_of_row", "between_share_of_null")
"""Names of the figures of the variance; all but the first need classes."""

ROWS = 4096
"""Images whose features are held in float64 at a time."""


@dataclass(frozen=True)
class RowSpace:
    """The row space of a head, and its orthogonal complement, the null space.

    Attributes:
        basis: Orthonormal rows.
        singular_values: Singular values of the head, the largest first; values that count as zero are included.
    """

    basis: Float64[Tensor, "rank feature"]
    singular_values: Float64[Tensor, " singular"]

    @property
    def rank(self) -> int:
        """Dimensions of the row space."""
        return self.basis.shape[0]

    @property
    def features(self) -> int:
        """Dimensions of the whole space."""
        return self.basis.shape[1]

    def coordinates(self, features: Features) -> Float64[Tensor, "images rank"]:
        """Return f_row in the basis of the row space.

        Raises:
            SettingError: If the features have another width than the head.
        """
        if features.shape[1] != self.features:
            raise SettingError(
                f"head must have a column for each of the {features.shape[1]} features, got {self.features}; give the "
                "weight of the layer that the features go into."
            )
        return torch.cat([some.double() @ self.basis.T for some in features.split(ROWS)])

    def split(self, features: Features) -> tuple[Float64[Tensor, "images feature"], Float64[Tensor, "images feature"]]:
        """Return f_row and f_null, whose sum is f.

        Raises:
            SettingError: If the features have another width than the head.

        Source:
            Mao et al. 2022, Proposition 4.
        """
        row = self.coordinates(features) @ self.basis
        return row, features.double() - row


def random_space(space: RowSpace, rng: torch.Generator) -> RowSpace:
    """Return a random subspace of as many dimensions as a row space; every such subspace is equally likely.

    Args:
        space: The row space.
        rng: On the CPU, so that the draw is the same on every device.
    """
    drawn = torch.randn(space.features, space.rank, generator=rng, dtype=torch.float64)
    return RowSpace(torch.linalg.qr(drawn).Q.T.to(space.basis), torch.ones_like(space.basis[:, 0]))


def head_matrix(head: LinearHead) -> Float64[Tensor, "outputs feature"]:
    """Return A; for a softmax's head, A without the direction that the softmax does not see.

    σ(y + λ1) = σ(y), so only the differences of A's rows count. Helmert's contrasts take these differences; they are an
    orthonormal basis of the space orthogonal to 1. The result has one row less than A, and the singular values of A
    with its mean row subtracted.

    Raises:
        DataError: If a weight is NaN or infinite.

    Source:
        Mao et al. 2022, Propositions 6 and 7, Appendix 1.
    """
    weight = head.weight.detach().double()
    if not weight.isfinite().all():
        raise DataError("The weights of a head must be finite, got NaN or infinity; look for a diverged training run.")
    if not head.softmax:
        return weight
    from scipy.linalg import helmert  # takes a tenth of a second, which only a measurement should wait for

    return torch.from_numpy(helmert(len(weight))).to(weight) @ weight


def row_space(matrix: Float[Tensor, "outputs feature"], tolerance: float | None = None) -> RowSpace:
    """Return the row space of a matrix, by its singular value decomposition in float64.

    Args:
        matrix: A.
        tolerance: A singular value counts as zero up to this share of the largest; by default, as for numpy's
            `matrix_rank`, the matrix's larger side times float64's ε.

    Raises:
        SettingError: If the tolerance is not in [0, 1).
    """
    check_tolerance(tolerance)
    _, singular_values, basis = torch.linalg.svd(matrix.double(), full_matrices=False)
    relative = max(matrix.shape) * torch.finfo(torch.float64).eps if tolerance is None else tolerance
    rank = int((singular_values > relative * singular_values[:1]).sum())
    return RowSpace(basis[:rank], singular_values)


def check_tolerance(tolerance: float | None) -> None:
    """Check a tolerance of `row_space`.

    Raises:
        SettingError: If it is not in [0, 1).
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise SettingError(
            f"tolerance must be at least 0 and below 1, a share of the largest singular value, got {tolerance}; leave "
            "it out for that of numpy's matrix_rank."
        )


@dataclass(frozen=True)
class PartShares:
    """The variance between images in one part of the features, as shares of the whole features' variance.

    Attributes:
        total: All variance of the part.
        within: Its variance within classes; None without classes.
        between: Its variance between the means of classes; None without classes.
    """

    total: float
    within: float | None
    between: float | None


@dataclass(frozen=True)
class VarianceShares:
    """The variance between images, the trace of the features' covariance, split into its parts.

    Attributes:
        images: Their number.
        variance: The trace, in the features' units squared, divided by the number of images.
        row: Shares of the row space.
        null: Shares of the null space; the totals of both add up to 1.
        row_within_class: For each class that has images, the row space's share of the variance within it. None stands
            for a class without variance, and for all if there are no classes.
    """

    images: int
    variance: float
    row: PartShares
    null: PartShares
    row_within_class: dict[int, float | None] | None

    def row_share(self, kind: Variance) -> float | None:
        """Return the row space's share of one kind of variance; None without classes or variance.

        The means of a few images differ by chance, most of all in the many dimensions of the null space. This chance
        part is subtracted from the variance between classes.
        """
        row, null = getattr(self.row, kind), getattr(self.null, kind)
        if row is None:
            return None
        if kind == "between":
            row, null = self._beyond_chance(self.row), self._beyond_chance(self.null)
        return _share(row, row + null)

    def _beyond_chance(self, part: PartShares) -> float:
        """Return the variance between classes beyond its chance part; at least 0."""
        assert part.between is not None
        assert part.within is not None
        assert self.row_within_class is not None
        classes = len(self.row_within_class)
        freedom = self.images - classes
        return max(0.0, part.between - part.within * (classes - 1) / freedom) if freedom > 0 else part.between

    def between_share(self, part: Literal["row", "null"]) -> float | None:
        """Return the share of a part's own variance that lies between classes; None without classes or variance.

        The means of a few images differ by chance. 0 is the share expected by chance, by the adjustment of R² for the
        number of classes. A share below chance is a little below 0.
        """
        shares: PartShares = getattr(self, part)
        if shares.within is None or self.row_within_class is None or shares.total <= 0:
            return None
        freedom = self.images - len(self.row_within_class)
        return 1 - shares.within / shares.total * (self.images - 1) / freedom if freedom > 0 else None


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def variance_shares(
    space: RowSpace, features: Features, classes: Integer[Tensor, " labels"] | None = None
) -> VarianceShares | None:
    """Return the split of the variance between images; None if there is none but float32's rounding.

    By the law of total variance, for traces, the variance within the classes and between their means adds up to all.

    Args:
        space: The head's.
        features: Features of each image.
        classes: Class of each image, if there are classes.

    Raises:
        SettingError: If features, head and classes do not fit each other.
        DataError: If features are not finite.
    """
    check_finite(features)
    coordinates = space.coordinates(features)
    groups = torch.zeros(len(features), dtype=torch.int64) if classes is None else classes
    if len(groups) != len(features):
        raise SettingError(
            f"classes must have one entry for each of {len(features)} images, got {len(groups)}; extract features and "
            "classes in the same pass."
        )
    present, groups = groups.to(features.device).unique(return_inverse=True)
    whole, row = _Scatter.of(features, groups), _Scatter.of(coordinates, groups)
    # Pythagoras: the variance outside of the row space is in the null space. Rounding must not make it negative.
    null_within = max(whole.within - row.within, 0.0)
    null_between = max(whole.between - row.between, 0.0)
    variance = whole.within + whole.between
    if variance <= space.features * rounding(features) ** 2:
        return None

    def shares(within: float, between: float) -> PartShares:
        if classes is None:
            return PartShares(within / variance, None, None)
        return PartShares((within + between) / variance, within / variance, between / variance)

    by_class = {
        int(label): _share(of_row, of_whole)
        for label, of_row, of_whole in zip(
            present.tolist(), row.within_each.tolist(), whole.within_each.tolist(), strict=True
        )
    }
    return VarianceShares(
        len(features),
        variance,
        shares(row.within, row.between),
        shares(null_within, null_between),
        None if classes is None else by_class,
    )


@dataclass(frozen=True)
class _Scatter:
    """Mean squared distances: of vectors from their class's mean, and of these from the mean of all."""

    within_each: Float64[Tensor, " classes"]
    within: float
    between: float

    @classmethod
    def of(cls, vectors: Float[Tensor, "images _value"], groups: Integer[Tensor, " images"]) -> "_Scatter":
        """Return the scatter of vectors; each group has at least one."""
        sizes = torch.bincount(groups).double()
        rows = list(zip(groups.split(ROWS), vectors.split(ROWS), strict=True))
        sums = torch.stack([_sums(own.double(), of, len(sizes)) for of, own in rows]).sum(dim=0)
        means = sums / sizes[:, None]
        squares = torch.stack([
            _sums((own.double() - means[of]).square().sum(dim=1), of, len(sizes)) for of, own in rows
        ]).sum(dim=0)  # fmt: skip
        distances = (means - sums.sum(dim=0) / sizes.sum()).square().sum(dim=1)
        within, between = squares.sum() / sizes.sum(), (sizes * distances).sum() / sizes.sum()
        return cls(squares / sizes, within.item(), between.item())


def _sums(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Return the sum over each group, as a product. A product gives the same sum each time, on every device."""
    return F.one_hot(groups, count).to(values).T @ values


def rounding(features: Tensor) -> float:
    """Return how far float32 rounds the largest of the features."""
    return torch.finfo(torch.float32).eps * features.abs().max().item()


def check_finite(features: Tensor, name: str = "features") -> None:
    """Check that features are finite.

    Raises:
        DataError: If one is not.
    """
    if not features.isfinite().all():
        raise DataError(f"{name!r} must be finite, got NaN or infinity; look for a diverged training run.")
