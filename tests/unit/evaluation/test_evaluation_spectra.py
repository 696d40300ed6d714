import numpy as np
import pytest
import torch
from numpy.random import default_rng

from gan_lightning.errors import DataError
from gan_lightning.evaluation.spectra import power_law_exponent, rank_me


def drawn(rows: int, columns: int, spectrum: np.ndarray | None = None, seed: int = 0) -> torch.Tensor:
    """Return features with these singular values, or normal ones."""
    matrix = default_rng(seed).normal(size=(rows, columns))
    if spectrum is not None:
        matrix -= matrix.mean(axis=0)
        left, _, right = np.linalg.svd(matrix, full_matrices=False)
        matrix = (left * spectrum) @ right
    return torch.from_numpy(matrix)


@pytest.mark.parametrize(("rows", "columns"), [(60, 20), (20, 60)])
def test_the_effective_rank_is_that_of_the_singular_values(rows, columns):
    features = drawn(rows, columns)
    values = np.linalg.svd(features.numpy(), compute_uv=False)
    shares = values / values.sum() + 1e-7
    assert rank_me(features) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_equal_directions_count_fully(count):
    features = torch.eye(12, dtype=torch.float64)[torch.arange(48) % count]
    assert rank_me(features) == pytest.approx(count, rel=1e-4)


def test_the_exponent_of_a_power_law_is_found():
    for exponent in (0.5, 1.0, 2.5):
        spectrum = np.arange(1, 121) ** (-exponent / 2)
        assert power_law_exponent(drawn(300, 120, spectrum)) == pytest.approx(exponent, rel=1e-6)


def test_the_fit_is_numpys_weighted_one_of_the_covariances_eigenvalues():
    features = drawn(200, 50, np.exp(-np.arange(50) / 9)) + 3.0
    eigenvalues = np.linalg.eigvalsh(np.cov(features.numpy().T, bias=True))[::-1]
    rank = np.arange(4, 51)
    slope, _ = np.polyfit(np.log(rank), np.log(eigenvalues[3:]), 1, w=rank**-0.5)  # it squares its weights
    assert power_law_exponent(features) == pytest.approx(-slope, rel=1e-6)


def test_features_on_few_directions_are_fitted_from_the_first_rank():
    features = drawn(300, 90, np.arange(1, 91) ** -1.5 * (np.arange(90) < 7))
    assert power_law_exponent(features) == pytest.approx(3.0)
    assert power_law_exponent(torch.ones(30, 40)) == 0
    assert power_law_exponent(torch.arange(30)[:, None] * torch.ones(40)) == 0


def test_features_without_a_spectrum_are_refused():
    with pytest.raises(DataError, match="must not all be 0"):
        rank_me(torch.zeros(5, 3))
    with pytest.raises(DataError, match="must be finite, got NaN or infinity"):
        rank_me(torch.full((5, 3), torch.inf))
