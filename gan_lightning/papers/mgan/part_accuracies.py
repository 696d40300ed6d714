"""The accuracies of a linear probe on the parts of features, and on the parts that random subspaces make.

A random subspace has as many dimensions as the head's row space. What a probe loses without the row space counts only
beside what it loses without a random one.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, section 2 (Theorem 1) and section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.evaluation import Probe, Progress
from gan_lightning.evaluation.probes.probe import TestLabels, TrainLabels
from gan_lightning.papers.mgan.null_space import ROWS, RowSpace, check_finite, random_space, rounding

ACCURACIES = (
    *("accuracy_whole", "accuracy_row", "accuracy_null"),
    *("accuracy_random_row", "accuracy_random_null", "chance"),
)
"""Names of the figures of probes. `chance` does not exist for attributes, the random ones only if any are drawn."""


@dataclass(frozen=True)
class PartAccuracies:
    """Test accuracies of a linear probe in [0, 1].

    Attributes:
        whole: On f.
        row: On f_row.
        null: On f_null.
        chance: Share of the most frequent class among the test images; None for attributes.
        images: Number of test images.
        random_rows: On the part of f in a random subspace of the row space's dimension, one for each draw.
        random_nulls: On f without that part, one for each draw.
    """

    whole: float
    row: float
    null: float
    chance: float | None
    images: int
    random_rows: Sequence[float] = ()
    random_nulls: Sequence[float] = ()

    @property
    def random_row(self) -> float | None:
        """Mean of `random_rows`; None without any."""
        return _mean(self.random_rows)

    @property
    def random_null(self) -> float | None:
        """Mean of `random_nulls`; None without any."""
        return _mean(self.random_nulls)

    def figures(self) -> dict[str, float]:
        """Return the accuracies that there are, under the names of `ACCURACIES`."""
        values = self.whole, self.row, self.null, self.random_row, self.random_null, self.chance
        return {name: value for name, value in zip(ACCURACIES, values, strict=True) if value is not None}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def part_accuracies(
    space: RowSpace,
    train: Float[Tensor, "train feature"],
    train_labels: TrainLabels,
    test: Float[Tensor, "test feature"],
    test_labels: TestLabels,
    *,
    num_classes: int,
    probe: Probe,
    draws: int = 0,
    seed: int = 0,
    name: str = "features",
    progress: Progress | None = None,
) -> PartAccuracies:
    """Return a linear probe's accuracies on f, on f_row alone and on f_null alone, beside those of random subspaces.

    The probe gets f_row in the row space's coordinates, and f_null in f's own, so that f_null differs from f by the
    removed part alone. The probe divides each value by its deviation. Rounding errors would thereby grow to the size of
    the other features. Values that vary no more than float32 rounds are therefore made constant.

    Args:
        space: The head's.
        train: Features of the training images.
        train_labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        test: Features of the test images.
        test_labels: As `train_labels`.
        num_classes: Number of classes, or of attributes.
        probe: The probe to fit to each part.
        draws: Number of random subspaces.
        seed: Of the random subspaces and of the probe's random numbers.
        name: The features' name in an error.
        progress: Called after each fit.

    Raises:
        SettingError: If features, head and labels do not fit each other.
        DataError: If features are not finite, or there are fewer than two training images.
    """
    check_finite(train, name)
    check_finite(test, name)
    rng = torch.Generator().manual_seed(seed)
    spaces = {"": space}
    spaces |= {f"random {draw}, ": random_space(space, rng) for draw in range(draws)}
    noise = rounding(train)
    of_train, of_test = {"whole": train.float()}, {"whole": test.float()}
    for kind, each in spaces.items():
        for part, fitted, judged in zip(("row", "null"), _parts(each, train), _parts(each, test), strict=True):
            steady = fitted.std(dim=0, correction=0) <= noise
            of_train[kind + part], of_test[kind + part] = (
                values.masked_fill_(steady, 0.0) for values in (fitted, judged)
            )
    found = probe.judge(
        {f"{name} ({part})": values for part, values in of_train.items()},
        train_labels,
        {f"{name} ({part})": values for part, values in of_test.items()},
        test_labels,
        num_classes=num_classes,
        seed=seed,
        report=lambda _, done, total: None if progress is None else progress(f"probes on {name}", done, total),
    )
    accuracies = {part: found[f"{name} ({part})"].accuracy for part in of_train}
    random = [kind for kind in spaces if kind]
    return PartAccuracies(
        accuracies["whole"],
        accuracies["row"],
        accuracies["null"],
        chance=None if test_labels.ndim > 1 else torch.bincount(test_labels.long()).max().item() / len(test_labels),
        images=len(test_labels),
        random_rows=[accuracies[f"{kind}row"] for kind in random],
        random_nulls=[accuracies[f"{kind}null"] for kind in random],
    )


def _parts(space: RowSpace, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part in a subspace in its coordinates, at least one, and the rest; in float32."""
    coordinates = space.coordinates(features).float()
    if not space.rank:
        coordinates = coordinates.new_zeros(len(features), 1)
    return coordinates, torch.cat([space.split(some)[1].float() for some in features.split(ROWS)])
