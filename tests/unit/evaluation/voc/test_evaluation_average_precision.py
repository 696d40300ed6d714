"""Average precision by hand, and against scikit-learn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from gan_lightning.errors import DataError
from gan_lightning.evaluation.voc.average_precision import average_precision


def found(scores: list[float], right: list[int], rule: str, positives: int | None = None) -> float:
    return average_precision(
        torch.tensor(scores, dtype=torch.float32), torch.tensor(right, dtype=torch.bool), rule, positives=positives
    )


BY_HAND = [
    # right, wrong, right: precisions 1, 1/2, 2/3 at the recalls 1/2, 1/2, 1
    ([0.9, 0.8, 0.7], [1, 0, 1], None, (1 + 2 / 3) / 2, (6 * 1 + 5 * 2 / 3) / 11),
    # the same with two positives that were never found: recalls 1/4, 1/4, 1/2
    ([0.9, 0.8, 0.7], [1, 0, 1], 4, (1 + 2 / 3) / 4, (3 * 1 + 3 * 2 / 3) / 11),
    # a wrong one before all: 1/2 and 2/3; eleven points take the higher one for every recall
    ([1, 2, 3], [1, 1, 0], None, (1 / 2 + 2 / 3) / 2, 2 / 3),
    # all equal: one step
    ([1, 1, 1, 1], [0, 1, 0, 0], None, 1 / 4, 1 / 4),
    # ten positives, three found: the recall 0.3 is reached, 0.4 is not
    ([3, 2, 1], [1, 1, 1], 10, 3 / 10, 4 / 11),
    ([1, 2], [0, 0], 1, 0, 0),
    ([], [], 2, 0, 0),
]


@pytest.mark.parametrize(("scores", "right", "positives", "area", "points"), BY_HAND)
def test_it_is_the_value_by_hand(scores, right, positives, area, points):
    assert found(scores, right, "area", positives) == pytest.approx(area)
    assert found(scores, right, "11_points", positives) == pytest.approx(points)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40), st.randoms())
def test_area_is_scikit_learns_in_any_order(items, random):
    items.append((5, True))
    scores, right = zip(*items, strict=True)
    expected = average_precision_score(right, scores)
    random.shuffle(items)
    scores, right = zip(*items, strict=True)
    assert found(list(map(float, scores)), right, "area") == pytest.approx(expected)


def test_eleven_points_are_those_of_the_development_kit():
    rng = torch.Generator().manual_seed(0)
    scores, right = torch.rand(60, generator=rng), torch.rand(60, generator=rng) < 0.3
    truth = right[scores.argsort(descending=True)].double()
    recall, precision = truth.cumsum(0) / truth.sum(), truth.cumsum(0) / torch.arange(1, 61)
    expected = sum(precision[recall >= t].max() for t in torch.arange(0, 1.01, 0.1, dtype=torch.float64) - 1e-9) / 11
    assert average_precision(scores, right, "11_points") == pytest.approx(float(expected))


def test_a_class_without_positives_has_none():
    with pytest.raises(DataError, match="Average precision needs a positive, got none; leave the class out"):
        found([1.0], [0], "area")
