import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_lightning.evaluation.latent_paths import between, tour


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("path", ["line", "sphere"])
def test_a_path_has_its_ends_and_its_number_of_latents(path):
    first, last = latents(3), latents(3, seed=1)
    found = between(first, last, 5, path)
    assert found.shape == (3, 5, 7)
    assert_close(found[:, 0], first)
    assert_close(found[:, -1], last)


def test_steps_on_a_line_are_equal():
    found = between(latents(2), latents(2, seed=1), 6, "line")
    steps = found.diff(dim=1)
    assert_close(steps, steps[:, :1].expand_as(steps))


def test_the_direction_turns_at_a_constant_rate_and_the_length_changes_evenly():
    found = between(latents(2), 3 * latents(2, seed=1), 6, "sphere").numpy()
    lengths = np.linalg.norm(found, axis=2)
    np.testing.assert_allclose(np.diff(lengths, n=2), 0, atol=1e-12)
    ways = found / lengths[..., None]
    turned = np.arccos((ways[:, 1:] * ways[:, :-1]).sum(axis=2))
    np.testing.assert_allclose(turned, turned[:, :1].repeat(5, axis=1), rtol=1e-9)


def test_equal_and_opposite_directions_have_a_line():
    first = latents(2)
    for last in (2 * first, -first):
        found = between(first, last, 5, "sphere")
        assert_close(found, between(first, last, 5, "line"))
        assert found.isfinite().all()


def test_a_tour_goes_through_its_points_and_ends_before_the_first():
    points = latents(4)
    found = tour(points, 3, "sphere")
    assert found.shape == (12, 7)
    assert_close(found[::3], points)
    assert_close(torch.cat([found, points[:1]])[9:], between(points[3:], points[:1], 4, "sphere")[0])
