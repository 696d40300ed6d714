"""Figures of generated images, against closed forms, torchmetrics and a search written out."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import nn
from torch.testing import assert_close
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    class_balance,
    frechet_distance,
    kernel_distance,
    manifold_figures,
    measure_quality,
    rank_correlation,
)


def normal(count: int, mean: torch.Tensor, factor: torch.Tensor, seed: int) -> torch.Tensor:
    """Return points of a Gaussian with covariance factor @ factor.T."""
    rng = torch.Generator().manual_seed(seed)
    return mean + torch.randn(count, len(mean), generator=rng, dtype=torch.float64) @ factor.T


def standardised(count: int, features: int, seed: int) -> torch.Tensor:
    """Return points whose sample mean is 0 and whose sample covariance is the identity, to the last digits."""
    rng = torch.Generator().manual_seed(seed)
    points = torch.randn(count, features, generator=rng, dtype=torch.float64)
    points = points - points.mean(dim=0)
    return points @ torch.linalg.inv(torch.linalg.cholesky(points.T.cov())).T


def test_fid_is_the_closed_form_of_two_gaussians_of_exactly_these_moments():
    rng = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4, 4, generator=rng, dtype=torch.float64)
    mean = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=torch.float64)
    a, b = first @ first.T, second @ second.T
    expected = mean.square().sum().item() + np.trace((a + b).numpy() - 2 * sqrtm((a @ b).numpy()).real)
    real, fake = standardised(50, 4, 1) @ first.T, mean + standardised(60, 4, 2) @ second.T
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_fid_of_samples_comes_near_that_of_their_gaussians():
    scales, mean = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([1.0, 0.0, -0.5]).double()
    expected = mean.square().sum().item() + (scales - 1).square().sum().item()  # covariances that commute
    real = normal(20_000, torch.zeros(3).double(), torch.eye(3).double(), 0)
    fake = normal(20_000, mean, scales.diag(), 1)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=0.02)
    assert frechet_distance(real, real.flip(0)) == pytest.approx(0, abs=1e-9)


def test_kid_comes_near_the_closed_form_of_two_gaussians():
    # In one dimension (xy + 1)³ = 1 + 3xy + 3x²y² + x³y³: the squared distances of three raw moments.
    mean, deviation = 0.5, 0.5
    moments = {m: (m, m**2 + deviation**2, m**3 + 3 * m * deviation**2) for m in (0.0, mean)}
    expected = sum(w * (a - b) ** 2 for w, a, b in zip((3, 3, 1), moments[0.0], moments[mean], strict=True))
    factor = torch.full((1, 1), deviation).double()
    real, fake, more = (normal(20_000, torch.full((1,), m), factor, seed) for seed, m in enumerate((0.0, mean, 0.0)))
    found, spread = kernel_distance(real, fake, subsets=8)
    assert found == pytest.approx(expected, rel=0.05)
    assert 0 < spread < expected / 5
    assert kernel_distance(real, more, subsets=8)[0] == pytest.approx(0, abs=0.01)


class Given(nn.Identity):
    num_features = 6


def test_fid_and_kid_are_those_of_torchmetrics_on_the_same_features():
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(80, 6, generator=rng), torch.rand(80, 6, generator=rng)
    fid, kid = FrechetInceptionDistance(Given()), KernelInceptionDistance(Given(), subsets=7, subset_size=20)
    for metric in (fid, kid):
        metric.update(real, real=True)
        metric.update(fake, real=False)
    assert frechet_distance(real, fake) == pytest.approx(fid.compute().item(), rel=1e-5)
    torch.manual_seed(3)
    mean, deviation = kid.compute()
    ours = kernel_distance(real, fake, subsets=7, subset_size=20, seed=3)
    assert_close(torch.tensor(ours), torch.stack([mean, deviation]).float(), rtol=1e-4, atol=1e-6)


def test_fid_is_computed_in_float64():
    # A common offset of 10^4, where squares in float32 have no digit left for a variance of 1.
    real, fake = normal(500, torch.full((4,), 1e4), torch.eye(4).double(), 0), standardised(500, 4, 1) + 1e4
    near = frechet_distance(real - 1e4, fake - 1e4)
    assert frechet_distance(real, fake) == pytest.approx(near, rel=1e-3)


def written_out(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """Return the papers' sums, one pair at a time."""

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - other)) for other in points)[k]

    real_radii, fake_radii = ([radius(points, i) for i in range(len(points))] for points in (real, fake))
    pairs = [[float(np.linalg.norm(r - f)) for f in fake] for r in real]
    inside = [[pairs[i][j] <= real_radii[i] for i in range(len(real))] for j in range(len(fake))]
    return {
        "precision": np.mean([any(balls) for balls in inside]),
        "recall": np.mean([any(d <= fake_radii[j] for j, d in enumerate(row)) for row in pairs]),
        "density": sum(map(sum, inside)) / (k * len(fake)),
        "coverage": np.mean([min(row) <= real_radii[i] for i, row in enumerate(pairs)]),
    }


@pytest.mark.parametrize("neighbours", [1, 3])
def test_the_figures_of_neighbours_are_the_papers_sums(monkeypatch, neighbours):
    monkeypatch.setattr(
        "gan_lightning.evaluation.distribution_distances.BLOCK", 7
    )  # blocks that do not divide the number of images
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(40, 3)), rng.normal(0.7, 0.5, size=(40, 3))
    found = manifold_figures(torch.from_numpy(real), torch.from_numpy(fake), neighbours)
    assert found == pytest.approx(written_out(real, fake, neighbours))
    assert 0 < found["recall"] < found["precision"]


def test_the_figures_of_neighbours_tell_collapse_from_nonsense():
    rng = torch.Generator().manual_seed(0)
    two = torch.randn(100, 2, generator=rng) + torch.tensor([[0.0, 0.0], [50.0, 0.0]]).repeat_interleave(50, dim=0)
    one = torch.randn(100, 2, generator=rng) * 0.5
    collapsed = manifold_figures(two, one)
    assert collapsed["precision"] > 0.9
    assert collapsed["recall"] < 0.5
    assert 0.2 < collapsed["coverage"] <= 0.5
    assert manifold_figures(two, one + 1000) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    perfect = manifold_figures(two, two.flip(0))
    assert {perfect[name] for name in ("precision", "recall", "coverage")} == {1.0}


def test_a_density_of_the_data_themselves_is_one():
    rng = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 2000, 2, generator=rng)
    assert manifold_figures(real, fake, 5)["density"] == pytest.approx(1, abs=0.06)


def test_all_figures_come_together_and_leave_the_random_state_alone():
    real, fake = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    quality = measure_quality(real, fake, neighbours=2, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert (quality.images, quality.features) == (40, 5)
    assert quality == measure_quality(real, fake, neighbours=2, seed=5)
    assert quality.fid == frechet_distance(real, fake)
    assert (quality.kid, quality.kid_deviation) == kernel_distance(real, fake, seed=5)
    assert quality.kid != measure_quality(real, fake, neighbours=2, seed=6).kid
    assert {name: quality.figures()[name] for name in ("precision", "recall", "density", "coverage")} == (
        manifold_figures(real, fake, 2)
    )
    assert set(measure_quality(real, fake, neighbours=0).figures()) == {"fid", "kid"}


@pytest.mark.parametrize(
    ("real", "fake", "neighbours", "error", "message"),
    [
        (torch.ones(9, 3), torch.ones(8, 3), 1, SettingError, r"as many generated images as real ones.*\(8, 3\)"),
        (torch.ones(9, 3), torch.ones(9, 4), 1, SettingError, r"features of one network.*\(9, 4\) beside \(9, 3\)"),
        (torch.ones(3, 3), torch.ones(3, 3), 1, SettingError, r"images must be above 3, .* got 3 real images"),
        (torch.ones(9, 3), torch.ones(9, 3), 9, SettingError, r"neighbours must be below .* 9, got 9"),
        (torch.ones(9, 3), torch.ones(9, 3).log() / 0, 1, DataError, r"of generated images must be finite"),
        (torch.full((9, 3), math.inf), torch.ones(9, 3), 1, DataError, r"of real images must be finite"),
    ],
)
def test_features_that_give_no_figures_are_refused(real, fake, neighbours, error, message):
    with pytest.raises(error, match=message):
        measure_quality(real, fake, neighbours=neighbours)


def test_the_balance_of_classes_counts_by_generator_and_has_both_entropies():
    sure, torn = [20.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0 - 1e-9]
    logits = torch.tensor([sure, sure, torn, torn], dtype=torch.float64)
    balance = class_balance(logits, torch.tensor([0, 1, 1, 1]), 3)
    assert balance.counts == [[1, 0, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert balance.entropy == pytest.approx(math.log(2))
    weights = [math.exp(value) / (2 + 2 * math.e) for value in torn]
    assert balance.image_entropy == pytest.approx(-sum(w * math.log(w) for w in weights) / 2, abs=1e-6)


def test_rank_correlation_is_spearmans_over_the_epochs_that_both_curves_have():
    falling = {epoch: 100.0 / epoch for epoch in range(1, 7)}
    rising = {epoch: float(epoch**3) for epoch in range(1, 6)} | {9: 0.0}
    assert rank_correlation(falling, rising).points == 5
    assert rank_correlation(falling, rising).spearman == pytest.approx(-1)
    # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 Σd² / (n (n² - 1)) = 1 - 24 / 60.
    swapped = rank_correlation({1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}, {1: 20.0, 2: 10.0, 3: 40.0, 4: 30.0})
    assert swapped.spearman == pytest.approx(0.6)


@pytest.mark.parametrize("curve", [{1: 1.0, 2: 2.0, 3: 3.0}, dict.fromkeys(range(9), 0.5), {}])
def test_a_rank_correlation_of_few_points_or_of_a_flat_curve_is_not_given(curve):
    found = rank_correlation({epoch: float(epoch) for epoch in range(9)}, curve)
    assert (found.points, found.spearman) == (len(curve), None)
