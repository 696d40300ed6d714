"""The theorems' predictions beside what was measured of an extractor.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, Theorem 1 (section 2), Theorems 2 and 3 (section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from gan_lightning.papers.mgan.anatomy_record import AnatomyRecord
from gan_lightning.papers.mgan.null_space import VarianceShares

WITHOUT_RANDOM = "accuracy on f without a random subspace"


@dataclass(frozen=True)
class Prediction:
    """A theorem's prediction for an extractor, as a comparison of two figures.

    Attributes:
        theorem: Its number in the paper.
        extractor: The extractor's name.
        figure: The measured quantity, in words.
        value: Its value; None if it could not be measured.
        predicted: The predicted relation of `value` to `beside`.
        beside: The value on the other side of the comparison.
        beside_is: The quantity of `beside`, in words.
        random_weights: The same quantity with random weights; None if it was not measured.
        held: Whether the comparison came out as predicted; None if a value is missing.
    """

    theorem: str
    extractor: str
    figure: str
    value: float | None
    predicted: Literal["below", "above", "no less than", "no more than"]
    beside: float | None
    beside_is: str
    random_weights: float | None
    held: bool | None


def predictions(records: Sequence[AnatomyRecord]) -> list[Prediction]:
    """Return the paper's predictions for each trained extractor, and whether they held.

    Theorem 1 is on a discriminator. Between real images the row space holds a smaller share of the variance than a
    random subspace of as many dimensions, rank / features. A probe on f_null is no less accurate than on f, and than on
    f without a random subspace: any direction may be dispensable. What tells real from generated images is noise, and
    is not in f_null: a probe on f_null does not tell them apart. A weaker claim is that it tells them apart less often
    than a probe on f without a random subspace. Theorems 2 and 3 are on a classifier; C's own classes are the
    generators. The share of the variance that lies between the classes is larger for f_row than for f_null. A probe
    names the class more often from f_row than from f_null. Two accuracies differ if their distance is at least twice
    its standard error. Two such shares differ if their distance is at least twice the deviation that one has by chance.
    The paper says nothing on encoders.

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
        if (beside := accuracy.random_null) is not None:
            margin = _margin(accuracy.null, beside, accuracy.images)
            found.append(
                Prediction(
                    "1", record.extractor, "accuracy on f_null, real images", accuracy.null,
                    "no less than", beside, WITHOUT_RANDOM, of_control, accuracy.null >= beside - margin,
                )
            )  # fmt: skip
    return [*found, *_free_of_noise(record, control)]


def _free_of_noise(record: AnatomyRecord, control: AnatomyRecord | None) -> list[Prediction]:
    """Return what Theorem 1 predicts of telling real from generated images by f_null."""
    if record.real_or_generated is None or (accuracy := record.real_or_generated.accuracy) is None:
        return []
    of_control = None if control is None or control.real_or_generated is None else control.real_or_generated.accuracy
    random = None if of_control is None else of_control.null
    figure, chance = "accuracy of telling real from generated images by f_null", accuracy.chance
    assert chance is not None  # two classes
    margin = _margin(accuracy.null, chance, accuracy.images)
    found = [
        Prediction(
            "1", record.extractor, figure, accuracy.null, "no more than", chance, "chance", random,
            accuracy.null <= chance + margin,
        )
    ]  # fmt: skip
    if (beside := accuracy.random_null) is not None:
        margin = _margin(accuracy.null, beside, accuracy.images)
        found.append(
            Prediction(
                "1", record.extractor, figure, accuracy.null, "below", beside, WITHOUT_RANDOM, random,
                accuracy.null < beside - margin,
            )
        )  # fmt: skip
    return found


def _margin(one: float, other: float, images: int) -> float:
    """Return twice the standard error of the difference of two accuracies on as many images each."""
    p = (one + other) / 2
    return 2 * sqrt(2 * p * (1 - p) / images)


def _share_margin(shares: VarianceShares | None) -> float:
    """Return twice the chance deviation of the share between classes, if the classes do not differ.

    The deviation is a single direction's, the largest there is: n - 1 times its share is nearly χ² with classes - 1
    degrees of freedom.
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
