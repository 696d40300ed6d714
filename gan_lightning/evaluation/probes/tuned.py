"""The tuned probe: converged logistic regression, with a regularisation chosen on training images.

It standardises the features, so their scale has no influence. The test split is looked at once.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import DataError, above, at_least, between_zero_and_one, refused
from gan_lightning.evaluation.probes.logistic import LogisticModel, fit_together
from gan_lightning.evaluation.probes.probe import (
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    checked_labels,
    held_out_places,
    names_by_kind,
    right_answers,
)

MOST_AXES = 2048
"""Most features whose principal axes are found before the fit; many more would take minutes."""

TOGETHER = 2 * 2**30
"""Bytes of features of the training split that a GPU fits at once; it needs a few times as much."""


@dataclass(frozen=True)
class TunedProbe(Probe):
    """Converged logistic regression on standardised features, with a regularisation chosen on training images.

    Attributes:
        strengths: Candidates for λ in: mean cross entropy + λ/2 ‖W‖².
        held_out: Share of the training split on which the candidates are compared.
        max_iterations: Most L-BFGS iterations for one candidate.
        gradient_tolerance: A fit has converged when no entry of its gradient is larger (scikit-learn's
            default), or when the loss no longer changes at the features' precision.
    """

    strengths: tuple[float, ...] = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    held_out: float = 0.1
    max_iterations: int = 500
    gradient_tolerance: float = 1e-4

    name: ClassVar[str] = "tuned"

    def __post_init__(self) -> None:
        """Refuse values that do not allow a choice or a fit."""
        if not self.strengths or not all(0 < strength < inf for strength in self.strengths):
            raise refused(self, "strengths", "hold at least one value, all above 0", self.strengths, "Try [0.01].")
        between_zero_and_one(self, "0.1 is usual.", held_out=self.held_out)
        at_least(self, 1, "500 is usual.", max_iterations=self.max_iterations)
        above(self, 0, "Try 0.0001.", gradient_tolerance=self.gradient_tolerance)

    def fits(
        self,
        features: Float[Tensor, "sets train feature"],
        labels: TrainLabels,
        strengths: Sequence[float],
        starts: Sequence[LogisticModel],
        names: Sequence[str],
    ) -> list[LogisticModel]:
        """Return the fit of each set of features, found together; the arguments are as in `fit_together`."""
        return fit_together(
            features,
            labels,
            strengths,
            starts,
            max_iterations=self.max_iterations,
            gradient_tolerance=self.gradient_tolerance,
            names=names,
        )

    def accuracy(
        self,
        train: Float[Tensor, "train feature"],
        train_labels: TrainLabels,
        test: Float[Tensor, "test feature"],
        test_labels: TestLabels,
        *,
        num_classes: int,
        seed: int,
        name: str,
    ) -> float:
        """Return the accuracy of a regression with a strength chosen on training images."""
        found = logistic_probe(
            train, train_labels, test, test_labels, num_classes=num_classes, protocol=self, seed=seed, name=name
        )
        return found.accuracy

    def judge(
        self,
        train: Mapping[str, Float[Tensor, "train _feature"]],
        train_labels: TrainLabels,
        test: Mapping[str, Float[Tensor, "test _feature"]],
        test_labels: TestLabels,
        *,
        num_classes: int,
        seed: int,
        report: Progress,
    ) -> dict[str, Judgement]:
        """Return the judgement of each set of features, with its chosen strength."""
        found: dict[str, Judgement] = {}
        for names in fitted_together(train):
            started = time.perf_counter()
            probes = logistic_probes(
                {name: train[name] for name in names},
                train_labels,
                {name: test[name] for name in names},
                test_labels,
                num_classes=num_classes,
                protocol=self,
                seed=seed,
            )
            seconds = (time.perf_counter() - started) / len(names)
            found |= {
                name: Judgement(probe.accuracy, seconds, details={"strength": probe.strength})
                for name, probe in probes.items()
            }
            report("probes: tuned", len(found), len(train))
        return {name: found[name] for name in train}


TUNED = TunedProbe()


Classify = Callable[[Float[Tensor, "images feature"]], Float[Tensor, "images classes"]]


@dataclass(frozen=True)
class LogisticProbe:
    """The result of the tuned probe.

    Attributes:
        accuracy: On the test split, in [0, 1], after the refit on the whole training split.
        strength: The chosen λ.
        validation_accuracy: Of the chosen λ, on the held-out part of the training split, in [0, 1].
        iterations: L-BFGS iterations of all fits together.
        classify: Returns the logits of further images, given their features as they were extracted.
    """

    accuracy: float
    strength: float
    validation_accuracy: float
    iterations: int
    classify: Classify = field(repr=False, compare=False)


def fitted_together(features: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names of the sets in groups that are fitted together.

    A GPU gets as many sets of one width at once as take up to `TOGETHER` bytes: one small set leaves it waiting. On
    the CPU a set that is done would only cost time beside the others, so each is fitted alone.
    """
    groups = []
    for names in names_by_kind(features).values():
        matrix = features[names[0]]
        most = 1 if matrix.device.type == "cpu" else max(1, TOGETHER // matrix.nbytes)
        groups += [names[start : start + most] for start in range(0, len(names), most)]
    return groups


def logistic_probe(
    train: Float[Tensor, "train feature"],
    train_labels: TrainLabels,
    test: Float[Tensor, "test feature"],
    test_labels: TestLabels,
    *,
    num_classes: int,
    protocol: TunedProbe = TUNED,
    seed: int = 0,
    name: str = "features",
) -> LogisticProbe:
    """Return the test accuracy of a logistic regression with a strength chosen on training images.

    Args:
        train: Features of the training split.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Features of the test split.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        protocol: Settings of the choice and the fit.
        seed: For the choice of the held-out images.
        name: The features' name in an error.

    Raises:
        As `logistic_probes`.
    """
    return logistic_probes(
        {name: train}, train_labels, {name: test}, test_labels, num_classes=num_classes, protocol=protocol, seed=seed
    )[name]


def logistic_probes(
    train: Mapping[str, Float[Tensor, "train feature"]],
    train_labels: TrainLabels,
    test: Mapping[str, Float[Tensor, "test feature"]],
    test_labels: TestLabels,
    *,
    num_classes: int,
    protocol: TunedProbe = TUNED,
    seed: int = 0,
) -> dict[str, LogisticProbe]:
    """Return the result of the tuned probe for sets of features of one width, all fitted at once.

    The candidates run from strong to weak. Each starts from the fit of the one before. The search stops when two have
    been worse than the best so far. If two are equally good, the stronger is taken. The chosen one is fitted again to
    the whole training split. Each fit standardises with the mean and deviation of the images it is fitted to. A set's
    result is the same as alone, up to rounding.

    Args:
        train: Features of the training split under their extractor's name.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Features of the test split under the same names.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        protocol: Settings of the choice and the fit.
        seed: For the choice of the held-out images.

    Raises:
        SettingError: Names, rows or labels do not fit together.
        DataError: Features are not finite, or there are fewer than two training images.
    """
    train_labels, test_labels = checked_labels(train, train_labels, test, test_labels, num_classes)
    count, names = len(train_labels), list(train)
    if count < 2:
        raise DataError(f"The tuned probe needs at least 2 labelled training images, got {count}; add images.")
    fitting, validation = held_out_places(count, protocol.held_out, seed, train_labels.device)
    turns, paths = _search(train, train_labels, fitting, validation, num_classes, protocol)
    best = [max(path, key=lambda candidate: candidate.accuracy) for path in paths]  # the first of equals: the stronger

    def turned(name: str, turn: Turn) -> list[Tensor]:
        return [turn(each) for each in _standardised(train[name], test[name])]

    features, test_features = _stacked([turned(*each) for each in zip(names, turns, strict=True)])
    strengths, starts = [each.strength for each in best], [each.model for each in best]
    models = protocol.fits(features, train_labels, strengths, starts, names)
    accuracies = _accuracies(models, test_features, test_labels)
    return {
        name: LogisticProbe(
            accuracy=accuracy,
            strength=candidate.strength,
            validation_accuracy=candidate.accuracy,
            iterations=sum(each.model.iterations for each in path) + model.iterations,
            classify=partial(_classified, train[name], turn, model),
        )
        for name, turn, accuracy, candidate, path, model in zip(
            names, turns, accuracies, best, paths, models, strict=True
        )
    }


@dataclass(frozen=True)
class _Candidate:
    strength: float
    model: LogisticModel
    accuracy: float


Turn = Callable[[Tensor], Tensor]


def _search(
    train: Mapping[str, Tensor],
    labels: Tensor,
    fitting: Tensor,
    validation: Tensor,
    num_classes: int,
    protocol: TunedProbe,
) -> tuple[list[Turn], list[list[_Candidate]]]:
    """Fit each set from strong to weak until two candidates have been worse than its best so far.

    Returns:
        The turn of each set to its principal axes, and its candidates.
    """
    turns, pairs = [], []
    for matrix in train.values():
        pair = _standardised(matrix[fitting], matrix[validation])
        turns.append(_to_principal_axes(pair[0]))
        pairs.append([turns[-1](each) for each in pair])
    features, validation_features = _stacked(pairs)
    del pair, pairs
    searching, width = list(train), features.shape[2]
    start = LogisticModel(features.new_zeros(num_classes, width), features.new_zeros(num_classes), 0)
    paths: dict[str, list[_Candidate]] = {name: [] for name in train}
    for strength in sorted(protocol.strengths, reverse=True):
        starts = [paths[name][-1].model if paths[name] else start for name in searching]
        models = protocol.fits(features, labels[fitting], [strength] * len(starts), starts, searching)
        accuracies = _accuracies(models, validation_features, labels[validation])
        for name, model, accuracy in zip(searching, models, accuracies, strict=True):
            paths[name].append(_Candidate(strength, model, accuracy))
        left = [place for place, name in enumerate(searching) if not _is_over(paths[name])]
        if not left:
            break
        if len(left) < len(searching):
            features, validation_features = features[left], validation_features[left]
            searching = [searching[place] for place in left]
    return turns, list(paths.values())


def _is_over(path: Sequence[_Candidate]) -> bool:
    """Return whether two candidates have been worse than the best one before them."""
    best, worse = 0.0, 0
    for candidate in path:
        if candidate.accuracy > best:
            best, worse = candidate.accuracy, 0
        elif candidate.accuracy < best:
            worse += 1
    return worse >= 2


def _accuracies(
    models: Sequence[LogisticModel], features: Float[Tensor, "sets images feature"], labels: Tensor
) -> list[float]:
    """Return the accuracy of each model on its set of features, in one read."""
    right = [right_answers(model(matrix), labels) for model, matrix in zip(models, features, strict=True)]
    *counts, known = torch.stack([*right, (labels >= 0).sum()]).tolist()
    return [count / known for count in counts]


def _stacked(pairs: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the first tensors of all pairs as one, and the second ones; a single pair is not copied."""
    if len(pairs) == 1:
        return pairs[0][0][None], pairs[0][1][None]
    return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])


def fit_logistic(
    features: Float[Tensor, "train feature"],
    labels: TrainLabels,
    strength: float,
    start: LogisticModel,
    protocol: TunedProbe = TUNED,
    name: str = "features",
) -> LogisticModel:
    """Return the minimum of mean cross entropy + strength/2 ‖weight‖²; the arguments are as in `fit_together`."""
    return protocol.fits(features[None], labels, [strength], [start], [name])[0]


def _classified(train: Tensor, turn: Turn, model: LogisticModel, images: Tensor) -> Tensor:
    """Return the logits of further images' features, prepared as those of the training split were."""
    return model(turn(_standardised(train, images)[1]))


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return both, scaled to mean 0 and deviation 1 of the training features; constant ones are only centred."""
    lowest, highest = torch.aminmax(train, dim=0)
    deviation = train.std(dim=0, correction=0)
    # A constant's deviation may round to a little more than 0, and a tiny one's to 0.
    deviation.masked_fill_((lowest == highest) | (deviation == 0), 1.0)
    mean = train.mean(dim=0)
    return (train - mean).div_(deviation), (test - mean).div_(deviation)


def _to_principal_axes(features: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a rotation to the features' principal axes, or the identity if there are too many features.

    A rotation changes no objective. It makes features uncorrelated; `fit_together`'s units are best for these.
    """
    if features.shape[1] > MOST_AXES:
        return lambda unturned: unturned
    axes = torch.linalg.eigh((features.T @ features).double() / len(features)).eigenvectors.to(features.dtype)
    return lambda unturned: unturned @ axes
