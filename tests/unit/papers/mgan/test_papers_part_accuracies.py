"""Probes on the parts of features, beside random subspaces; and what tells real from generated images."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from gan_lightning.evaluation import TunedProbe
from gan_lightning.interfaces import LinearHead
from gan_lightning.papers.mgan.anatomy_record import (
    AnatomyRecord,
    ImagesAnatomy,
    evaluate_anatomy,
    real_or_generated,
)
from gan_lightning.papers.mgan.null_space import random_space, row_space
from gan_lightning.papers.mgan.part_accuracies import PartAccuracies, part_accuracies
from gan_lightning.papers.mgan.theorems import predictions

QUICK = TunedProbe(strengths=(1e-2,), gradient_tolerance=0.01)
HEAD = torch.eye(1, 8)


def noisy(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def two_classes(directions: list[int], count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eight noisy features, some of which tell two classes apart, and the classes."""
    f, labels = noisy(count, seed), torch.arange(count) % 2
    f[:, directions] += 8 * labels[:, None] - 4
    return f, labels


def probed(directions: list[int], draws: int = 4) -> PartAccuracies:
    splits = two_classes(directions, 300, 0), two_classes(directions, 200, 1)
    return part_accuracies(row_space(HEAD), *splits[0], *splits[1], num_classes=2, probe=QUICK, draws=draws)


def test_a_random_subspace_has_the_dimensions_of_the_row_space_and_points_anywhere():
    space, rng = row_space(torch.eye(2, 8)), torch.Generator().manual_seed(0)
    drawn = [random_space(space, rng) for _ in range(400)]
    for one in drawn[:3]:
        assert (one.rank, one.features) == (2, 8)
        assert_close(one.basis @ one.basis.T, torch.eye(2, dtype=torch.float64))
    shares = torch.stack([one.basis.square().sum(dim=0) for one in drawn]).mean(dim=0)
    assert_close(shares, torch.full((8,), 2 / 8, dtype=torch.float64), atol=0.04, rtol=0)
    assert not torch.equal(drawn[0].basis, drawn[1].basis)


def test_where_the_null_space_holds_nothing_a_random_direction_would_have_cost_nothing():
    found = probed([0])
    assert found.whole > 0.98
    assert found.row > 0.98
    assert found.null < 0.6
    assert min(found.random_nulls) > 0.9 > found.random_row
    assert found.random_null == sum(found.random_nulls) / 4
    assert len(set(found.random_rows)) > 1
    figures = found.figures()
    assert (figures["accuracy_random_row"], figures["accuracy_random_null"]) == (found.random_row, found.random_null)


def test_where_any_direction_is_dispensable_the_null_space_is_no_better_than_without_a_random_one():
    found = probed([0, 3, 5])
    assert found.null == pytest.approx(found.random_null, abs=0.02)
    assert found.null > 0.98
    without = probed([0, 3, 5], draws=0)
    assert (without.whole, without.null) == (found.whole, found.null)
    assert without.random_row is without.random_null is None
    assert list(without.figures()) == ["accuracy_whole", "accuracy_row", "accuracy_null", "chance"]


def images(direction: int) -> AnatomyRecord:
    """Return the anatomy of a discriminator that makes generated images differ from real ones in a direction."""
    shift = 6 * torch.eye(8)[direction]
    real, generated = (
        {split: ({"d": noisy(count, seed) + by}, torch.arange(count) % 2) for split, count, seed in counts}
        for counts, by in (
            ((("train", 300, 0), ("test", 120, 1)), 0 * shift),
            ((("train", 200, 2), ("test", 200, 3)), shift),
        )
    )
    heads = {"d": LinearHead(HEAD, "discrimination")}
    return evaluate_anatomy(heads, real, generated, num_classes=2, probe=QUICK, draws=2)[0]


@pytest.mark.parametrize(("direction", "free_of_noise"), [(0, True), (4, False)])
def test_what_tells_real_from_generated_images_is_found_in_the_part_that_has_it(direction, free_of_noise):
    record = images(direction)
    found = record.real_or_generated
    assert (found.images, found.accuracy.chance) == (240, 0.5)  # as many of each as there are of the fewer
    assert found.accuracy.whole > 0.98
    has_it, has_not = (found.accuracy.row, found.accuracy.null)[:: 1 if free_of_noise else -1]
    assert has_it > 0.98
    assert has_not < 0.6
    assert found.accuracy.random_null > 0.9
    assert found.shares.row_share("between") == pytest.approx(float(free_of_noise), abs=0.02)
    said = {(each.predicted, each.beside_is): each.held for each in predictions([record]) if "telling" in each.figure}
    assert said == {
        ("no more than", "chance"): free_of_noise,
        ("below", "accuracy on f without a random subspace"): free_of_noise,
    }


def test_real_and_generated_images_are_drawn_from_all_of_which_there_are_more():
    real = {"test": ({"d": torch.arange(50.0)[:, None]}, torch.full((50,), -1))}
    generated = {"test": ({"d": -torch.arange(1.0, 11)[:, None]}, torch.zeros(10, dtype=torch.int64))}
    features, labels = real_or_generated(real, generated, seed=0)["test"]
    assert labels.tolist() == [0] * 10 + [1] * 10
    assert features["d"][10:, 0].tolist() == (-torch.arange(1.0, 11)).tolist()
    drawn = features["d"][:10, 0]
    assert len(drawn.unique()) == 10
    assert drawn.max() > 25
    again, other = (real_or_generated(real, generated, seed)["test"][0]["d"] for seed in (0, 1))
    assert torch.equal(features["d"], again)
    assert not torch.equal(features["d"], other)


def test_theorem_1_wants_f_null_to_be_no_worse_than_f_without_a_random_subspace():
    def held(null: float, random_null: float) -> list[bool | None]:
        accuracy = PartAccuracies(0.9, 0.5, null, 0.5, 100, [0.5], [random_null])
        record = images(0)
        real = ImagesAnatomy(100, None, accuracy)
        record = dataclasses.replace(record, real=real, real_or_generated=None)
        return [each.held for each in predictions([record]) if each.predicted == "no less than"]

    assert held(0.9, 0.9) == [True, True]
    assert held(0.85, 0.97) == [True, False]  # two standard errors of the second difference are 0.081
