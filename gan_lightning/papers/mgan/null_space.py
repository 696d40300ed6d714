"""What features are made of: the part that the head they were trained with sees, and the part that it does not.

A head A splits features orthogonally, f(x) = f_row(x) + f_null(x) with A f_null(x) = 0. This module measures how much
of the variance between images lies in each part, within classes and between them, and what a linear probe reads from
each. Shares have a yardstick: of a subspace drawn at random, with rank of A dimensions, a share of rank / features is
expected.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, section 2 (Propositions 4 and 5, Corollary 4, Theorem
    1), section 3 (Propositions 6 and 7, Theorems 2 and 3) and Appendix 1.

Deviations:
    - The bias b of eq. 12 is left out: it is the same for all images.
    - The paper's theorems are of an optimal network, and say "invariant". Measured are shares, accuracies and their
      yardsticks; `predictions` says which comparison stands for which theorem.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Integer
from scipy.linalg import helmert
from torch import Tensor

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import Probe, Progress
from gan_lightning.evaluation.probes.probe import TestLabels, TrainLabels
from gan_lightning.evaluation.tensors import is_known
from gan_lightning.interfaces import HeadTask, LinearHead, Split
from gan_lightning.system.processes import on_first_process

Weights = Literal["trained", "random"]
Variance = Literal["total", "within", "between"]
Features = Float[Tensor, "images feature"]

SplitFeatures = Mapping[Split, tuple[Mapping[str, Tensor], Tensor]]
"""Of each split: features (images, feature) under the names of what they are of, and the images' labels."""

SHARES = ("row_share", "row_share_within", "row_share_between", "between_share_of_row", "between_share_of_null")
"""Names of the figures of the variance; all but the first need classes."""

ACCURACIES = ("accuracy_whole", "accuracy_row", "accuracy_null", "chance")
"""Names of the figures of probes; of attributes there is no chance."""

ROWS = 4096
"""Images whose features are held in float64 at a time."""


@dataclass(frozen=True)
class RowSpace:
    """The row space of a head, and with it the null space, its orthogonal complement.

    Attributes:
        basis: Orthonormal rows.
        singular_values: Of the head, the largest first, those that count as zero included.
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


def head_matrix(head: LinearHead) -> Float64[Tensor, "outputs feature"]:
    """Return A; of a softmax's head without the direction that the softmax does not see.

    σ(y + λ1) = σ(y), so of A only the differences of its rows count. Helmert's contrasts, an orthonormal basis of what
    is orthogonal to 1, take them: a row less than A, and the singular values of A with its mean row subtracted.

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
    """What of the variance between images lies in a part of the features, as shares of the whole features' variance.

    Attributes:
        total: All of it.
        within: That within classes; None without classes.
        between: That between the means of classes; None without classes.
    """

    total: float
    within: float | None
    between: float | None


@dataclass(frozen=True)
class VarianceShares:
    """How the variance between images, the trace of the features' covariance, splits up.

    Attributes:
        images: Their number.
        variance: The trace, in the features' units squared, divided by the number of images.
        row: What lies in the row space.
        null: What lies in the null space; the shares of both add up to 1.
        row_within_class: For each class that has images, the row space's share of the variance within it; None where
            there is no variance, or there are no classes.
    """

    images: int
    variance: float
    row: PartShares
    null: PartShares
    row_within_class: dict[int, float | None] | None

    def row_share(self, kind: Variance) -> float | None:
        """Return the row space's share of one kind of variance; None without classes or variance.

        The means of a few images differ by chance, the more so in the many dimensions of the null space: that is taken
        away from the variance between classes.
        """
        row, null = getattr(self.row, kind), getattr(self.null, kind)
        if row is None:
            return None
        if kind == "between":
            row, null = self._beyond_chance(self.row), self._beyond_chance(self.null)
        return _share(row, row + null)

    def _beyond_chance(self, part: PartShares) -> float:
        """Return the variance between classes, less what that within them makes of their means; at least 0."""
        assert part.between is not None
        assert part.within is not None
        assert self.row_within_class is not None
        classes = len(self.row_within_class)
        freedom = self.images - classes
        return max(0.0, part.between - part.within * (classes - 1) / freedom) if freedom > 0 else part.between

    def between_share(self, part: Literal["row", "null"]) -> float | None:
        """Return what share of a part's own variance lies between classes; None without classes or variance.

        The means of a few images differ by chance: 0 stands for no more than that, by the adjustment of R² for the
        number of classes, and a little below 0 for less.
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
    """Return how the variance between images splits up; None where there is none but float32's rounding.

    The law of total variance, for traces: all variance is that within the classes plus that between their means.

    Args:
        space: The head's.
        features: Of each image.
        classes: Of each image, where they have any.

    Raises:
        SettingError: If features, head and classes do not fit each other.
        DataError: If features are not finite.
    """
    _check_finite(features)
    coordinates = space.coordinates(features)
    groups = torch.zeros(len(features), dtype=torch.int64) if classes is None else classes
    if len(groups) != len(features):
        raise SettingError(
            f"classes must have one entry for each of {len(features)} images, got {len(groups)}; extract features and "
            "classes in the same pass."
        )
    present, groups = groups.to(features.device).unique(return_inverse=True)
    whole, row = _Scatter.of(features, groups), _Scatter.of(coordinates, groups)
    # Pythagoras: what is not in the row space is in the null space. Rounding must not make it negative.
    null_within = max(whole.within - row.within, 0.0)
    null_between = max(whole.between - row.between, 0.0)
    variance = whole.within + whole.between
    if variance <= space.features * _rounding(features) ** 2:
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
        """Return the scatter of vectors, of which no group is without."""
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
    """Return the sum over each group, as a product: the same each time on every device."""
    return F.one_hot(groups, count).to(values).T @ values


@dataclass(frozen=True)
class PartAccuracies:
    """Test accuracies of a linear probe in [0, 1].

    Attributes:
        whole: On f.
        row: On f_row.
        null: On f_null.
        chance: Share of the most frequent class among the test images; None for attributes.
        images: Number of test images.
    """

    whole: float
    row: float
    null: float
    chance: float | None
    images: int


def part_accuracies(
    space: RowSpace,
    train: Float[Tensor, "train feature"],
    train_labels: TrainLabels,
    test: Float[Tensor, "test feature"],
    test_labels: TestLabels,
    *,
    num_classes: int,
    probe: Probe,
    seed: int = 0,
    name: str = "features",
    progress: Progress | None = None,
) -> PartAccuracies:
    """Return what a linear probe reads from f, from f_row alone and from f_null alone.

    f_row is given to it as its coordinates in the row space, f_null as it is: in f's own coordinates, so that the two
    differ by what was taken away and by nothing else. The probe divides each value by its deviation, by which rounding
    errors would become features of the size of the others: values that vary no more than float32 rounds are made
    constant.

    Args:
        space: The head's.
        train: Features of the training images.
        train_labels: A class per image; or 0/1 per attribute, with -1 where not known.
        test: Features of the test images.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        probe: What is fitted to each part.
        seed: For whatever it draws.
        name: The features' name in an error.
        progress: Called after each fit.

    Raises:
        SettingError: If features, head and labels do not fit each other.
        DataError: If features are not finite, or there are fewer than two training images.
    """
    _check_finite(train, name)
    _check_finite(test, name)
    noise = _rounding(train)
    row_train, null_train = _parts(space, train)
    row_test, null_test = _parts(space, test)
    parts = {"whole": (train.float(), test.float()), "row": (row_train, row_test), "null": (null_train, null_test)}
    found = {}
    for done, (part, (of_train, of_test)) in enumerate(parts.items(), start=1):
        if part != "whole":
            steady = of_train.std(dim=0, correction=0) <= noise
            of_train, of_test = (values.masked_fill(steady, 0.0) for values in (of_train, of_test))
        found[part] = probe.accuracy(
            of_train, train_labels, of_test, test_labels,
            num_classes=num_classes, seed=seed, name=f"{name} ({part})",
        )  # fmt: skip
        if progress is not None:
            progress(f"probes on {name}", done, len(parts))
    chance = None if test_labels.ndim > 1 else torch.bincount(test_labels.long()).max().item() / len(test_labels)
    return PartAccuracies(**found, chance=chance, images=len(test_labels))


def _parts(space: RowSpace, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return f_row in the row space's coordinates, at least one, and f_null; in float32."""
    coordinates = space.coordinates(features).float()
    if not space.rank:
        coordinates = coordinates.new_zeros(len(features), 1)
    return coordinates, torch.cat([space.split(some)[1].float() for some in features.split(ROWS)])


def _rounding(features: Tensor) -> float:
    """Return how far float32 rounds the largest of the features."""
    return torch.finfo(torch.float32).eps * features.abs().max().item()


def _check_finite(features: Tensor, name: str = "features") -> None:
    if not features.isfinite().all():
        raise DataError(f"{name!r} must be finite, got NaN or infinity; look for a diverged training run.")


@dataclass(frozen=True)
class ImagesAnatomy:
    """What was measured on one kind of images.

    Attributes:
        images: Number of images whose variance it is, the test images.
        shares: How their variance splits up; None where they do not vary.
        accuracy: What a probe reads; None where none was asked for, or there are no classes.
    """

    images: int
    shares: VarianceShares | None
    accuracy: PartAccuracies | None

    def figures(self) -> dict[str, float]:
        """Return what could be computed, under the names of `SHARES` and `ACCURACIES`."""
        found: dict[str, float | None] = {}
        if (shares := self.shares) is not None:
            of_variance = [shares.row_share("total"), shares.row_share("within"), shares.row_share("between")]
            of_parts = [shares.between_share("row"), shares.between_share("null")]
            found |= zip(SHARES, [*of_variance, *of_parts], strict=True)
        if (accuracy := self.accuracy) is not None:
            found |= zip(ACCURACIES, [accuracy.whole, accuracy.row, accuracy.null, accuracy.chance], strict=True)
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class AnatomyRecord:
    """The anatomy of an extractor's features; `dataclasses.asdict` makes it ready for JSON.

    Attributes:
        extractor: Its name.
        weights: Whether its weights and its head's are trained.
        task: What the head is for.
        features: Their number per image.
        outputs: Of the head.
        rank: Of the head, after a softmax's constant direction is removed.
        real: On the data's images; the classes are theirs.
        generated: On generated images; the classes are the generators, where there are several. None of a model that
            generates none.
        seconds: Wall time.
    """

    extractor: str
    weights: Weights
    task: HeadTask
    features: int
    outputs: int
    rank: int
    real: ImagesAnatomy
    generated: ImagesAnatomy | None
    seconds: float


def evaluate_anatomy(
    heads: Mapping[str, LinearHead],
    real: SplitFeatures,
    generated: SplitFeatures | None = None,
    *,
    num_classes: int = 0,
    generators: int = 1,
    probe: Probe | None = None,
    tolerance: float | None = None,
    weights: Weights = "trained",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[AnatomyRecord]:
    """Return the anatomy of each extractor that has a head.

    Where images have classes, those without one are left out. Where several processes run, the first one computes and
    all return the records.

    Args:
        heads: Under the names of the features; features without a head are left out.
        real: Features of the data's test split; of its training split, too, where probes are fitted.
        generated: Features of generated images in the same way; their labels are the generators' numbers.
        num_classes: Number of the data's classes, or attributes; 0 where it has no labels.
        generators: Number of generators.
        probe: What is fitted; None fits none.
        tolerance: As `row_space` takes it.
        weights: What the records say of the weights.
        seed: For whatever the probe draws.
        progress: Called as probes and extractors get done.

    Raises:
        SettingError: If a head belongs to no features or its width is not theirs, or there is nothing to fit a probe
            on.
        DataError: If features or a head are not finite.
    """
    of_kinds = {"real": (real, num_classes), "generated": (generated or {}, generators if generators > 1 else 0)}
    for splits, _ in of_kinds.values():
        if probe is not None and splits and "train" not in splits:
            raise SettingError("real and generated must hold a 'train' split for probes, got 'test' only; or fit none.")
        for features, _ in splits.values():
            check_names(features, heads)
    report = progress or (lambda description, done, total: None)

    def measure() -> list[AnatomyRecord]:
        records = []
        for done, (name, head) in enumerate(heads.items(), start=1):
            started = perf_counter()
            space = row_space(head_matrix(head), tolerance)
            found = {}
            for kind, (splits, count) in of_kinds.items():
                own = {split: (features[name], labels) for split, (features, labels) in splits.items()}
                said = f"{kind} features of {name}, {weights} weights"
                found[kind] = _images_anatomy(space, own, count, probe, seed, said, report)
            of_real = found["real"]
            assert of_real is not None
            records.append(
                AnatomyRecord(
                    extractor=name,
                    weights=weights,
                    task=head.task,
                    features=space.features,
                    outputs=len(head.weight),
                    rank=space.rank,
                    real=of_real,
                    generated=found["generated"],
                    seconds=perf_counter() - started,
                )
            )
            report(f"anatomy, {weights} weights", done, len(heads))
        return records

    return on_first_process(measure)


def check_names(features: Mapping[str, object], heads: Mapping[str, LinearHead]) -> None:
    """Check that each head is that of some features.

    Raises:
        SettingError: If one is not.
    """
    if unknown := heads.keys() - features.keys():
        raise SettingError(
            f"heads must be named like the features that they take, got {sorted(unknown)} beside {sorted(features)}; "
            "name each like the extractor that it is the head of."
        )


def _images_anatomy(
    space: RowSpace,
    splits: Mapping[Split, tuple[Tensor, Tensor]],
    num_classes: int,
    probe: Probe | None,
    seed: int,
    name: str,
    report: Progress,
) -> ImagesAnatomy | None:
    """Measure one kind of images; None where there are none."""
    if not splits:
        return None
    known = {split: _known(features, labels) for split, (features, labels) in splits.items()} if num_classes else {}
    if not known or not all(len(labels) for _, labels in known.values()):
        features, _ = splits["test"]
        return ImagesAnatomy(len(features), variance_shares(space, features), None)
    features, labels = known["test"]
    shares = variance_shares(space, features, labels if labels.ndim == 1 else None)
    if probe is None:
        return ImagesAnatomy(len(features), shares, None)
    accuracies = part_accuracies(
        space, *known["train"], features, labels,
        num_classes=num_classes, probe=probe, seed=seed, name=name, progress=report,
    )  # fmt: skip
    return ImagesAnatomy(len(features), shares, accuracies)


def _known(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return what has a label."""
    known = is_known(labels)
    return features[known], labels[known]


@dataclass(frozen=True)
class Prediction:
    """What a theorem predicts of an extractor, as a comparison of two figures.

    Attributes:
        theorem: Its number in the paper.
        extractor: The extractor's name.
        figure: What is measured.
        value: The figure; None where it could not be measured.
        predicted: How it should stand to `beside`.
        beside: What it is compared with.
        beside_is: What that is.
        random_weights: The figure with random weights; None where that was not measured.
        held: Whether the comparison came out as predicted; None where a figure is missing.
    """

    theorem: str
    extractor: str
    figure: str
    value: float | None
    predicted: Literal["below", "above", "no less than"]
    beside: float | None
    beside_is: str
    random_weights: float | None
    held: bool | None


def predictions(records: Sequence[AnatomyRecord]) -> list[Prediction]:
    """Return what the paper predicts of each trained extractor, and whether it held.

    Of a discriminator, Theorem 1: between real images the row space holds a smaller share of the variance than a random
    subspace of as many dimensions would, rank / features; and a probe on f_null is no less accurate than on f. Of a
    classifier, Theorems 2 and 3: of f_row's variance between images of C's own classes, the generators', a larger share
    lies between the classes than of f_null's; and a probe names the class more often from f_row than from f_null. Two
    accuracies count as different from twice the standard error of the difference on, two such shares from twice what
    chance makes of one. Of an encoder the paper says
    nothing.

    Args:
        records: As `evaluate_anatomy` returns them, of trained weights and of random ones.
    """
    random = {record.extractor: record for record in records if record.weights == "random"}
    found = []
    for record in records:
        if record.weights != "trained":
            continue
        control = random.get(record.extractor)
        if record.task == "discrimination":
            found += _theorem_1(record, control)
        elif record.task == "classification" and record.generated is not None:
            found += _theorems_2_and_3(record, control)
    return found


def _theorem_1(record: AnatomyRecord, control: AnatomyRecord | None) -> list[Prediction]:
    share, chance = _row_share(record), record.rank / record.features
    found = [
        Prediction(
            "1", record.extractor, "share of the variance between real images that is in the row space", share,
            "below", chance, "rank / features", None if control is None else _row_share(control),
            None if share is None else share < chance,
        )
    ]  # fmt: skip
    if (accuracy := record.real.accuracy) is not None:
        margin = _margin(accuracy.null, accuracy.whole, accuracy.images)
        of_control = None if control is None or control.real.accuracy is None else control.real.accuracy.null
        found.append(
            Prediction(
                "1", record.extractor, "accuracy on f_null, real images", accuracy.null,
                "no less than", accuracy.whole, "accuracy on f", of_control, accuracy.null >= accuracy.whole - margin,
            )
        )  # fmt: skip
    return found


def _margin(one: float, other: float, images: int) -> float:
    """Return twice the standard error of the difference of two accuracies on as many images each."""
    p = (one + other) / 2
    return 2 * sqrt(2 * p * (1 - p) / images)


def _share_margin(shares: VarianceShares | None) -> float:
    """Return twice the deviation that the share between classes has by chance where there is nothing between them.

    That of a single direction, whose share deviates the most: n - 1 times it is nearly χ² of classes - 1 degrees of
    freedom.
    """
    if shares is None or shares.row_within_class is None or shares.images < 2:
        return 0.0
    return 2 * sqrt(2 * (len(shares.row_within_class) - 1)) / (shares.images - 1)


def _row_share(record: AnatomyRecord) -> float | None:
    return None if record.real.shares is None else record.real.shares.row.total


def _theorems_2_and_3(record: AnatomyRecord, control: AnatomyRecord | None) -> list[Prediction]:
    def between(of: AnatomyRecord | None, part: Literal["row", "null"]) -> float | None:
        shares = None if of is None or of.generated is None else of.generated.shares
        return None if shares is None else shares.between_share(part)

    def accuracy(of: AnatomyRecord | None, part: Literal["row", "null"]) -> float | None:
        accuracies = None if of is None or of.generated is None else of.generated.accuracy
        return None if accuracies is None else getattr(accuracies, part)

    found = []
    for figure, beside_is, look in (
        ("share of f_row's variance that is between generators", "the same of f_null", between),
        ("accuracy of naming the generator from f_row", "that from f_null", accuracy),
    ):
        value, beside = look(record, "row"), look(record, "null")
        if look is accuracy and value is None:
            continue  # no probe was asked for
        held = None
        if value is not None and beside is not None:
            assert record.generated is not None
            shares = record.generated.shares
            margin = _margin(value, beside, record.generated.images) if look is accuracy else _share_margin(shares)
            held = value > beside + margin
        found.append(
            Prediction("2, 3", record.extractor, figure, value, "above", beside, beside_is, look(control, "row"), held)
        )
    return found
