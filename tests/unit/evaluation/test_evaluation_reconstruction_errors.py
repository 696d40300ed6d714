import pytest
import torch
from torch import nn

from gan_lightning.errors import DataError
from gan_lightning.evaluation.reconstruction_errors import (
    derangement,
    generated_reconstruction,
    image_reconstruction,
    latent_reconstruction,
)
from gan_lightning.nets.resizing import resized


def image_batches(sizes=(4, 3, 1)):
    rng = torch.Generator().manual_seed(0)
    return [(torch.rand(size, 1, 2, 3, generator=rng) * 2 - 1, torch.zeros(size)) for size in sizes]


def flatten(images):
    return images.flatten(1)


def unflatten(latents):
    return latents.unflatten(1, (1, 2, 3))


def test_inverses_reconstruct_exactly_and_their_baseline_is_the_distance_to_other_images():
    found = image_reconstruction(image_batches(), flatten, unflatten, seed=3)
    rng = torch.Generator().manual_seed(3)
    by_hand = []
    for images, _ in image_batches()[:2]:
        others = derangement(len(images), rng)
        by_hand += [(images[other] - images[own]).square().sum().sqrt().item() for own, other in enumerate(others)]
    assert (found.distance, found.share) == (0, 0)
    assert found.other_distance == pytest.approx(sum(by_hand) / 7)
    assert found.samples == 7  # the batch of one has no other image


def test_the_distance_is_the_mean_norm_in_the_units_of_the_data():
    # Every pixel is off by 0.5: a norm of 0.5 √6 for each image.
    found = image_reconstruction(image_batches(), flatten, lambda latents: unflatten(latents) + 0.5)
    assert found.distance == pytest.approx(0.5 * 6**0.5)
    twice = image_reconstruction(
        [(2 * images, labels) for images, labels in image_batches()], flatten, lambda latents: unflatten(latents) + 1
    )
    assert twice.distance == pytest.approx(6**0.5)


def test_one_image_for_everything_is_no_better_than_its_baseline():
    found = image_reconstruction(image_batches((4, 4)), flatten, lambda latents: 0 * unflatten(latents))
    assert found.distance == pytest.approx(found.other_distance)
    assert found.share == pytest.approx(1)


def test_there_is_no_share_of_distances_that_are_all_0():
    grey = [(torch.zeros(2, 1, 2, 3), torch.zeros(2))]
    assert image_reconstruction(grey, flatten, unflatten).share is None


def test_images_are_compared_at_the_size_that_is_generated():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 8, 8, generator=rng) * 2 - 1
    seen = []
    found = image_reconstruction(
        [(images, torch.zeros(6))], lambda x: seen.append(x) or x, lambda z: resized(z, 4) + 0.25, seed=0
    )
    assert torch.equal(seen[0], images)  # the encoder sees all pixels
    assert found.distance == pytest.approx(0.25 * 48**0.5, rel=1e-5)


def test_latents_are_compared_after_generating_and_encoding():
    latents = [torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    found = latent_reconstruction(latents, lambda images: 1.5 * flatten(images), unflatten)
    assert found.distance == pytest.approx(torch.cat(latents).mul(0.5).norm(dim=1).mean().item())
    assert found.other_distance > found.distance


def test_generated_images_may_come_back_where_real_ones_cannot():
    def first_row(images):
        return images[:, :, 0].flatten(1)  # the row that G draws in

    def draw(latents):
        return torch.stack([latents, torch.zeros_like(latents)], dim=1)[:, None]

    latents = [torch.rand(5, 3, generator=torch.Generator().manual_seed(1))]
    found = generated_reconstruction(latents, first_row, draw)
    assert found.distance == 0
    assert found.other_distance > 0
    assert image_reconstruction(image_batches((5,)), first_row, draw).distance > 0.5
    off = generated_reconstruction(latents, lambda images: first_row(images) + 0.5, draw)
    assert off.distance == pytest.approx(0.5 * 3**0.5)


def test_the_seed_decides_the_other_samples_and_the_global_random_state_is_not_used():
    state = torch.get_rng_state()
    first, again, other = (
        image_reconstruction(image_batches((9,)), flatten, unflatten, seed=seed).other_distance for seed in (0, 0, 1)
    )
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_no_gradient_is_kept():
    encode = nn.Sequential(nn.Flatten(), nn.Linear(6, 6))
    image_reconstruction(image_batches(), encode, unflatten)
    assert all(weight.grad is None for weight in encode.parameters())


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_derangement_is_a_permutation_without_a_fixed_point(count):
    for seed in range(50):
        others = derangement(count, torch.Generator().manual_seed(seed))
        assert sorted(others.tolist()) == list(range(count))
        assert (others != torch.arange(count)).all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="need a batch of at least two samples, got none"):
        image_reconstruction(image_batches((1, 1)), flatten, unflatten)
    with pytest.raises(DataError, match="A random other sample needs at least 2 samples, got 1"):
        derangement(1, torch.Generator())
    with pytest.raises(
        DataError, match=r"G\(E\(x\)\) must have the shape of what it reconstructs, \(4, 1, 2, 3\), got"
    ):
        image_reconstruction(image_batches(), flatten, lambda latents: latents)
    with pytest.raises(DataError, match=r"E\(G\(z\)\) must be finite"):
        latent_reconstruction([torch.rand(3, 6)], lambda images: flatten(images) / 0, unflatten)
