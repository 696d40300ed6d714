import numpy as np
import pytest
import torch
from numpy.random import default_rng

from gan_lightning.errors import DataError
from gan_lightning.evaluation.kernel_alignment import debiased_cka, linear_cka, products, unbiased_hsic

RNG = default_rng(0)
X = RNG.normal(size=(12, 5))
Y = np.tanh(X[:, :3] @ RNG.normal(size=(3, 7))) + 0.3 * RNG.normal(size=(12, 7))


def of(features: np.ndarray) -> torch.Tensor:
    return products(torch.from_numpy(features))


def test_cka_is_kornblith_s_formula_of_centred_features():
    x, y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    squared = np.linalg.norm(y.T @ x) ** 2
    expected = squared / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert linear_cka(of(X), of(Y)) == pytest.approx(expected, rel=1e-12)


def test_cka_is_that_of_hsic_with_centring_matrices():
    centring = np.eye(12) - 1 / 12
    k, q = centring @ X @ X.T @ centring, centring @ Y @ Y.T @ centring
    expected = np.trace(k @ q) / np.sqrt(np.trace(k @ k) * np.trace(q @ q))
    assert linear_cka(of(X), of(Y)) == pytest.approx(expected, rel=1e-12)


def test_hsic_without_bias_is_the_mean_over_all_fours_of_different_images():
    k, q = X[:7] @ X[:7].T, Y[:7] @ Y[:7].T
    total, count = 0.0, 0
    for i in range(7):
        for j in range(7):
            for a in range(7):
                for b in range(7):
                    if len({i, j, a, b}) == 4:
                        total += k[i, j] * (q[i, j] + q[a, b] - 2 * q[i, a])
                        count += 1
    assert float(unbiased_hsic(torch.from_numpy(k), torch.from_numpy(q))) == pytest.approx(total / count, rel=1e-10)
    # Centring changes nothing.
    assert float(unbiased_hsic(of(X[:7]), of(Y[:7]))) == pytest.approx(total / count, rel=1e-10)


@pytest.mark.parametrize("cka", [linear_cka, debiased_cka])
def test_rotations_offsets_and_a_scale_change_nothing_and_a_layer_is_like_itself(cka):
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert cka(of(X), of(X)) == pytest.approx(1)
    assert cka(of(X), of(-3 * X @ rotation + 100)) == pytest.approx(1)
    assert cka(of(X), of(Y)) == pytest.approx(cka(of(Y), of(X)))
    assert cka(of(X), of(Y)) < 0.95


def test_wide_unrelated_features_are_alike_by_chance_and_debiased_they_are_not():
    rng = default_rng(1)
    pairs = [(of(rng.normal(size=(20, 400))), of(rng.normal(size=(20, 400)))) for _ in range(40)]
    assert min(linear_cka(*pair) for pair in pairs) > 0.9
    found = [debiased_cka(*pair) for pair in pairs]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize("cka", [linear_cka, debiased_cka])
def test_equal_features_have_no_likeness(cka):
    assert cka(of(np.zeros((12, 3))), of(X)) is None


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="needs at least 4 images, got 3"):
        debiased_cka(of(X[:3]), of(Y[:3]))
