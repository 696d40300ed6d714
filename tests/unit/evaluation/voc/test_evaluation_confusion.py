"""Intersection over union by hand, and against scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import jaccard_score

from gan_lightning.evaluation.voc.confusion import confusion, intersection_over_union, pixel_accuracy


def test_it_is_the_value_by_hand_without_void():
    truth = torch.tensor([[0, 0, 1], [1, 255, 2]])
    answers = torch.tensor([[0, 1, 1], [1, 2, 0]])
    counts = confusion(answers, truth, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    overlaps = intersection_over_union(counts).tolist()
    assert overlaps[:3] == pytest.approx([1 / 3, 2 / 3, 0])
    assert math.isnan(overlaps[3])
    assert pixel_accuracy(counts) == pytest.approx(3 / 5)


def test_counts_of_images_add_up_to_scikit_learns_overlap_of_all_pixels():
    rng = torch.Generator().manual_seed(0)
    truth, answers = (torch.randint(5, (3, 40), generator=rng) for _ in range(2))
    truth[:, :6] = 255
    counts = sum(confusion(one, other, 5) for one, other in zip(answers, truth, strict=True))
    known = truth != 255
    expected = jaccard_score(truth[known], answers[known], average=None)
    assert intersection_over_union(counts).tolist() == pytest.approx(expected.tolist())
