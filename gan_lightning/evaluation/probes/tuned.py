"""The tuned probe: converged logistic regression, with a regularisation chosen on training images.

It standardises the features, so their scale has no influence. The test split is looked at once.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import DataError, above, at_least, refused
from gan_lightning.evaluation.probes.probe import (
    Judgement,
    Probe,
    Progress,
    TestLabels,
    TrainLabels,
    accuracy,
    checked_labels,
    cross_entropy,
)

logger = logging.getLogger(__name__)

MOST_AXES = 2048
"""Most features whose principal axes are found before the fit; many more would take minutes."""


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
        if not 0 < self.held_out < 1:
            raise refused(self, "held_out", "be between 0 and 1", self.held_out, "0.1 is usual.")
        at_least(self, 1, "500 is usual.", max_iterations=self.max_iterations)
        above(self, 0, "Try 0.0001.", gradient_tolerance=self.gradient_tolerance)

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

        def judge_one(name: str) -> tuple[float, Mapping[str, float]]:
            found = logistic_probe(
                train[name],
                train_labels,
                test[name],
                test_labels,
                num_classes=num_classes,
                protocol=self,
                seed=seed,
                name=name,
            )
            return found.accuracy, {"strength": found.strength}

        return self.one_by_one(train, judge_one, report)


TUNED = TunedProbe()


@dataclass(frozen=True)
class LogisticModel:
    """A fitted logistic regression.

    Attributes:
        iterations: Number of L-BFGS iterations.
    """

    weight: Float[Tensor, "classes feature"]
    bias: Float[Tensor, " classes"]
    iterations: int

    def __call__(self, features: Float[Tensor, "images feature"]) -> Float[Tensor, "images classes"]:
        """Return the logits."""
        return F.linear(features, self.weight, self.bias)


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

    The candidates run from strong to weak. Each starts from the fit of the one before. The search stops when two have
    been worse than the best so far. If two are equally good, the stronger is taken. The chosen one is fitted again to
    the whole training split. Each fit standardises with the mean and deviation of the images it is fitted to.

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
        SettingError: Rows or labels do not fit together.
        DataError: Features are not finite, or there are fewer than two training images.
    """
    train_labels, test_labels = checked_labels({name: train}, train_labels, {name: test}, test_labels, num_classes)
    if len(train) < 2:
        raise DataError(f"The tuned probe needs at least 2 labelled training images, got {len(train)}; add images.")
    shuffled = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).to(train.device)
    held_out = min(max(round(protocol.held_out * len(train)), 1), len(train) - 1)
    validation, fitting = shuffled[:held_out], shuffled[held_out:]
    features, validation_features = _standardised(train[fitting], train[validation])
    turn = _to_principal_axes(features)
    path = _strength_path(
        turn(features),
        train_labels[fitting],
        turn(validation_features),
        train_labels[validation],
        num_classes,
        protocol,
        name,
    )
    best = max(path, key=lambda candidate: candidate.accuracy)  # max keeps the first of equals: the stronger
    features, test_features = _standardised(train, test)
    refitted = fit_logistic(turn(features), train_labels, best.strength, best.model, protocol, name)
    return LogisticProbe(
        accuracy=accuracy(refitted(turn(test_features)), test_labels),
        strength=best.strength,
        validation_accuracy=best.accuracy,
        iterations=sum(candidate.model.iterations for candidate in path) + refitted.iterations,
        classify=lambda images: refitted(turn(_standardised(train, images)[1])),
    )


@dataclass(frozen=True)
class _Candidate:
    strength: float
    model: LogisticModel
    accuracy: float


def _strength_path(
    features: Tensor,
    labels: Tensor,
    validation_features: Tensor,
    validation_labels: Tensor,
    num_classes: int,
    protocol: TunedProbe,
    name: str,
) -> list[_Candidate]:
    """Fit from strong to weak until two have been worse than the best so far."""
    model = LogisticModel(features.new_zeros(num_classes, features.shape[1]), features.new_zeros(num_classes), 0)
    path: list[_Candidate] = []
    best, worse = 0.0, 0
    for strength in sorted(protocol.strengths, reverse=True):
        model = fit_logistic(features, labels, strength, model, protocol, name)
        path.append(_Candidate(strength, model, accuracy(model(validation_features), validation_labels)))
        if path[-1].accuracy > best:
            best, worse = path[-1].accuracy, 0
        elif path[-1].accuracy < best:
            worse += 1
        if worse == 2:
            break
    return path


@torch.enable_grad()
def fit_logistic(
    features: Float[Tensor, "train feature"],
    labels: TrainLabels,
    strength: float,
    start: LogisticModel,
    protocol: TunedProbe = TUNED,
    name: str = "features",
) -> LogisticModel:
    """Minimise mean cross entropy + strength/2 ‖weight‖² by L-BFGS on all images at once; the bias is free.

    Each feature's weights have a unit in which the objective's curvature along them is at most about 1. The curvature
    of the cross entropy is at most half the feature's mean square (Böhning 1992), and the penalty adds λ. For
    uncorrelated features this takes several times fewer iterations; the minimum is the same.

    Args:
        features: Used without standardising; the fit has their precision.
        labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        strength: λ; scikit-learn's `C` is 1 / (images · λ).
        start: First weights and bias.
        protocol: Limits of the fit. A warning reports a fit that reaches the limit before it converges.
        name: The features' name in that warning.
    """
    unit = (features.square().mean(dim=0) / 2 + strength).rsqrt()
    scaled = (start.weight / unit).requires_grad_()
    bias = start.bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled, bias],
        max_iter=protocol.max_iterations,
        max_eval=25 * protocol.max_iterations,  # enough for all its line searches
        tolerance_grad=protocol.gradient_tolerance,
        tolerance_change=torch.finfo(features.dtype).eps,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight = scaled * unit
        objective = cross_entropy(F.linear(features, weight, bias), labels)
        objective = objective + strength / 2 * weight.square().sum()
        objective.backward()
        return objective

    optimizer.step(closure)
    iterations = optimizer.state[scaled]["n_iter"]
    if iterations >= protocol.max_iterations:
        logger.warning(
            "The tuned probe on %s has not converged in %d iterations at strength %g; raise max_iterations.",
            name,
            protocol.max_iterations,
            strength,
        )
    return LogisticModel(scaled.detach() * unit, bias.detach(), iterations)


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return both, scaled to mean 0 and deviation 1 of the training features; constant ones are only centred."""
    lowest, highest = torch.aminmax(train, dim=0)
    deviation = train.std(dim=0, correction=0)
    # A constant's deviation may round to a little more than 0, and a tiny one's to 0.
    deviation[(lowest == highest) | (deviation == 0)] = 1.0
    mean = train.mean(dim=0)
    return (train - mean).div_(deviation), (test - mean).div_(deviation)


def _to_principal_axes(features: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a rotation to the features' principal axes, or the identity if there are too many features.

    A rotation changes no objective. It makes features uncorrelated; `fit_logistic`'s units are best for these.
    """
    if features.shape[1] > MOST_AXES:
        return lambda unturned: unturned
    axes = torch.linalg.eigh((features.T @ features).double() / len(features)).eigenvectors.to(features.dtype)
    return lambda unturned: unturned @ axes
