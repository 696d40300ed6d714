"""Features -> accuracies of linear classifiers: the paper's head, and a tuned logistic regression.

The paper's head has a fixed learning rate and budget, so features of a larger scale learn faster and its
accuracy mixes quality with scale. The tuned probe standardises the features, is trained to convergence and
chooses its regularisation, so it answers what the features hold. Neither looks at the test split before it is
done.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from gan_lightning.errors import DataError, SettingError

logger = logging.getLogger(__name__)

TrainLabels = Integer[Tensor, " train"] | Integer[Tensor, "train attributes"]
TestLabels = Integer[Tensor, " test"] | Integer[Tensor, "test attributes"]
ImageLabels = Integer[Tensor, " images"] | Integer[Tensor, "images attributes"]

MOST_AXES = 2048
"""Features whose principal axes are found before the tuned probe is fitted; for many more it would take minutes."""

INITIAL_STD = 0.02
"""Table 1, "Weight, bias initialization": N(0, 0.02)."""


@dataclass(frozen=True)
class PaperProtocol:
    """A linear head without bias on frozen features, trained by SGD for a fixed number of epochs.

    Attributes:
        learning_rate: Step size, constant.
        momentum: Share of the last step that is taken again.
        batch_size: Images per step; the last of an epoch may be smaller.
        epochs: Passes over the training split.

    Source:
        Mao et al. 2022, Table 1, "Target classification supervised training".
    """

    learning_rate: float = 2e-4
    momentum: float = 0.9
    batch_size: int = 120
    epochs: int = 20

    def __post_init__(self) -> None:
        """Refuse values that cannot be trained with."""
        if self.learning_rate <= 0:
            raise SettingError(
                f"transfer.paper.learning_rate must be above 0, got {self.learning_rate}; the paper's is 0.0002."
            )
        if not 0 <= self.momentum < 1:
            raise SettingError(f"transfer.paper.momentum must be in [0, 1), got {self.momentum}; the paper's is 0.9.")
        if self.batch_size < 1:
            raise SettingError(
                f"transfer.paper.batch_size must be at least 1, got {self.batch_size}; the paper's is 120."
            )
        if self.epochs < 1:
            raise SettingError(f"transfer.paper.epochs must be at least 1, got {self.epochs}; the paper's is 20.")


@dataclass(frozen=True)
class TunedProtocol:
    """Logistic regression on standardised features, converged, its strength chosen on training images.

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

    def __post_init__(self) -> None:
        """Refuse values that nothing can be chosen or fitted with."""
        if not self.strengths or min(self.strengths) <= 0:
            raise SettingError(
                f"transfer.tuned.strengths must hold at least one value, all above 0, got {self.strengths}; try [0.01]."
            )
        if not 0 < self.held_out < 1:
            raise SettingError(f"transfer.tuned.held_out must be between 0 and 1, got {self.held_out}; 0.1 is usual.")
        if self.max_iterations < 1:
            raise SettingError(
                f"transfer.tuned.max_iterations must be at least 1, got {self.max_iterations}; 500 is usual."
            )
        if self.gradient_tolerance <= 0:
            raise SettingError(
                f"transfer.tuned.gradient_tolerance must be above 0, got {self.gradient_tolerance}; try 0.0001."
            )


PAPER = PaperProtocol()
TUNED = TunedProtocol()


@dataclass(frozen=True)
class Head:
    """A head trained by the paper's protocol.

    Attributes:
        accuracies: Test accuracy in [0, 1] after each epoch.
        weight: After the last epoch.
    """

    accuracies: list[float]
    weight: Float[Tensor, "classes feature"]


@dataclass(frozen=True)
class LogisticModel:
    """A fitted logistic regression.

    Attributes:
        iterations: L-BFGS iterations that it took.
    """

    weight: Float[Tensor, "classes feature"]
    bias: Float[Tensor, " classes"]
    iterations: int

    def __call__(self, features: Float[Tensor, "images feature"]) -> Float[Tensor, "images classes"]:
        """Return the logits."""
        return F.linear(features, self.weight, self.bias)


@dataclass(frozen=True)
class LogisticProbe:
    """What the tuned probe found.

    Attributes:
        accuracy: On the test split, in [0, 1], after the refit on the whole training split.
        strength: The chosen λ.
        validation_accuracy: Of the chosen λ, on the held-out part of the training split, in [0, 1].
        iterations: L-BFGS iterations of all fits together.
    """

    accuracy: float
    strength: float
    validation_accuracy: float
    iterations: int


@torch.enable_grad()
def sgd_heads(
    train: Mapping[str, Float[Tensor, "train _feature"]],
    train_labels: TrainLabels,
    test: Mapping[str, Float[Tensor, "test _feature"]],
    test_labels: TestLabels,
    *,
    num_classes: int,
    protocol: PaperProtocol = PAPER,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> dict[str, Head]:
    """Train one head per feature set, all in the same pass over the data.

    The gradients of the heads' summed loss are each head's own, so a head is what it would be alone: every
    head starts from the same seed and sees the same batches. The global random state is not used.

    Args:
        train: Features of the training split under their extractor's name.
        train_labels: A class per image; or 0/1 per attribute, with -1 where not known.
        test: Features of the test split under the same names.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        protocol: How to train.
        seed: For the heads' initial weights and the order of the images.
        on_epoch: Called with the number of epochs done.

    Raises:
        SettingError: Names, rows or labels do not fit together.
        DataError: Features are not finite.

    Source:
        Mao et al. 2022, section 4, steps 4 and 5; Table 1. Attributes are not in the paper: each is its own
        two-class problem with a sigmoid.
    """
    train_labels, test_labels = _checked(train, train_labels, test, test_labels, num_classes)
    weights = {name: _initial_weight(features, num_classes, seed) for name, features in train.items()}
    accuracies: dict[str, list[float]] = {name: [] for name in train}
    optimizer = torch.optim.SGD(weights.values(), lr=protocol.learning_rate, momentum=protocol.momentum)
    shuffle = torch.Generator().manual_seed(seed)
    for epoch in range(1, protocol.epochs + 1):
        order = torch.randperm(len(train_labels), generator=shuffle).to(train_labels.device)
        for batch in order.split(protocol.batch_size):
            labels = train_labels[batch]
            losses = [
                cross_entropy(F.linear(features[batch], weights[name]), labels) for name, features in train.items()
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
        for name, features in test.items():
            accuracies[name].append(accuracy(F.linear(features, weights[name].detach()), test_labels))
        if on_epoch is not None:
            on_epoch(epoch)
    return {name: Head(accuracies[name], weight.detach()) for name, weight in weights.items()}


def _initial_weight(features: Tensor, num_classes: int, seed: int) -> Tensor:
    """Draw a head's weight on the CPU, so that it is the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.normal(0.0, INITIAL_STD, (num_classes, features.shape[1]), generator=generator)
    return weight.to(features).requires_grad_()


def logistic_probe(
    train: Float[Tensor, "train feature"],
    train_labels: TrainLabels,
    test: Float[Tensor, "test feature"],
    test_labels: TestLabels,
    *,
    num_classes: int,
    protocol: TunedProtocol = TUNED,
    seed: int = 0,
    name: str = "features",
) -> LogisticProbe:
    """Return the test accuracy of a logistic regression whose strength was chosen on training images.

    From strong to weak, each candidate starts where the one before ended; the search stops when two have been
    worse than the best so far, and of equals the stronger is taken. The chosen one is fitted again to the
    whole training split. Each fit standardises with the mean and deviation of the images it is fitted to.

    Args:
        train: Features of the training split.
        train_labels: A class per image; or 0/1 per attribute, with -1 where not known.
        test: Features of the test split.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        protocol: How to choose and to fit.
        seed: For the choice of the held-out images.
        name: The features' name in an error.

    Raises:
        SettingError: Rows or labels do not fit together.
        DataError: Features are not finite, or there are fewer than two training images.
    """
    train_labels, test_labels = _checked({name: train}, train_labels, {name: test}, test_labels, num_classes)
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
    )
    best = max(path, key=lambda candidate: candidate.accuracy)  # max keeps the first of equals: the stronger
    features, test_features = _standardised(train, test)
    refitted = fit_logistic(turn(features), train_labels, best.strength, best.model, protocol)
    return LogisticProbe(
        accuracy=accuracy(refitted(turn(test_features)), test_labels),
        strength=best.strength,
        validation_accuracy=best.accuracy,
        iterations=sum(candidate.model.iterations for candidate in path) + refitted.iterations,
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
    protocol: TunedProtocol,
) -> list[_Candidate]:
    """Fit from strong to weak until two have been worse than the best so far."""
    model = LogisticModel(features.new_zeros(num_classes, features.shape[1]), features.new_zeros(num_classes), 0)
    path: list[_Candidate] = []
    best, worse = 0.0, 0
    for strength in sorted(protocol.strengths, reverse=True):
        model = fit_logistic(features, labels, strength, model, protocol)
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
    protocol: TunedProtocol = TUNED,
) -> LogisticModel:
    """Minimise mean cross entropy + strength/2 ‖weight‖² by L-BFGS on all images at once; the bias is free.

    Each feature's weights are measured in units in which the objective's curvature along them is at most about 1:
    that of the cross entropy is at most half the feature's mean square (Böhning 1992), and the penalty adds λ. For
    uncorrelated features this takes several times fewer iterations; the minimum is the same.

    Args:
        features: Used as they are; their precision is that of the fit.
        labels: A class per image; or 0/1 per attribute, with -1 where not known.
        strength: λ; scikit-learn's `C` is 1 / (images · λ).
        start: Where to start from.
        protocol: When to stop. A fit that has not converged by then is reported as a warning.
    """
    unit = (features.square().mean(dim=0) / 2 + strength).rsqrt()
    scaled = (start.weight / unit).requires_grad_()
    bias = start.bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [scaled, bias],
        max_iter=protocol.max_iterations,
        max_eval=25 * protocol.max_iterations,  # as many as its line searches can ask for
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
            "Logistic regression of strength %g has not converged in %d iterations; raise max_iterations.",
            strength,
            protocol.max_iterations,
        )
    return LogisticModel(scaled.detach() * unit, bias.detach(), iterations)


def _standardised(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Return both with the training features' mean 0 and deviation 1; constant ones are only centred."""
    lowest, highest = torch.aminmax(train, dim=0)
    deviation = train.std(dim=0, correction=0)
    # A constant's deviation may round to a little more than 0, and a tiny one's to 0.
    deviation[(lowest == highest) | (deviation == 0)] = 1.0
    mean = train.mean(dim=0)
    return (train - mean).div_(deviation), (test - mean).div_(deviation)


def _to_principal_axes(features: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a rotation to the features' principal axes, or what leaves them alone where they are too many for it.

    A rotation changes no objective; it makes features uncorrelated, for which `fit_logistic`'s units are the best.
    """
    if features.shape[1] > MOST_AXES:
        return lambda unturned: unturned
    axes = torch.linalg.eigh((features.T @ features).double() / len(features)).eigenvectors.to(features.dtype)
    return lambda unturned: unturned @ axes


def cross_entropy(logits: Float[Tensor, "images classes"], labels: ImageLabels) -> Float[Tensor, ""]:
    """Return the mean cross entropy in nats: softmax for classes, the sum of the sigmoids' for attributes.

    Of each attribute the mean is over the images where it is known, so attributes are independent of each
    other.
    """
    if labels.ndim == 1:
        return F.cross_entropy(logits, labels)
    known = labels >= 0
    targets = labels.clamp(min=0).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * known
    return (losses.sum(dim=0) / known.sum(dim=0).clamp(min=1)).sum()


def accuracy(logits: Float[Tensor, "images classes"], labels: ImageLabels) -> float:
    """Return the share of images, or of known attributes, that are classified correctly."""
    predictions = logits.argmax(dim=1) if labels.ndim == 1 else (logits > 0).long()
    known = labels >= 0
    return (predictions == labels)[known].sum().item() / int(known.sum())


def _checked(
    train: Mapping[str, Tensor],
    train_labels: Tensor,
    test: Mapping[str, Tensor],
    test_labels: Tensor,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Return the labels as torch's losses want them, once everything fits together."""
    if train.keys() != test.keys():
        raise SettingError(
            f"train and test must hold features of the same names, got {sorted(train)} and {sorted(test)}; "
            "extract both splits with the same extractors."
        )
    for split, features, labels in (("train", train, train_labels), ("test", test, test_labels)):
        unknown_images = labels < 0 if labels.ndim == 1 else (labels < 0).all(dim=1)
        if len(labels) == 0 or unknown_images.any():
            raise SettingError(
                f"{split}_labels must be of one image or more, each with a known label, got {len(labels)} "
                f"images, {int(unknown_images.sum())} of them without; leave those out."
            )
        highest = num_classes - 1 if labels.ndim == 1 else 1
        if labels.max() > highest or (labels.ndim == 2 and labels.shape[1] != num_classes):
            raise SettingError(
                f"{split}_labels must fit num_classes={num_classes}, got values up to {int(labels.max())} "
                f"in shape {tuple(labels.shape)}; give the number of classes or of attributes."
            )
        for name, matrix in features.items():
            if len(matrix) != len(labels):
                raise SettingError(
                    f"{split} features of {name!r} must have one row for each of {len(labels)} labels, got "
                    f"{len(matrix)}; extract features and labels in the same pass."
                )
            if not matrix.isfinite().all():
                raise DataError(
                    f"{split} features of {name!r} must be finite, got NaN or infinity; "
                    "look for a diverged training run or damaged images."
                )
    return train_labels.long(), test_labels.long()
