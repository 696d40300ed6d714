import colorsys

import pytest
import torch
from torch.testing import assert_close

from gan_lightning.evaluation.disturbances import (
    DISTURBANCES,
    GREY,
    MOST,
    blurred,
    brighter,
    coarser,
    compressed,
    noisy,
    occluded,
    paler,
    speckled,
)


def images(count: int = 40, size: int = 12) -> torch.Tensor:
    return torch.rand(count, 2, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_noise_has_its_standard_deviation_and_is_cut_off_at_black_and_white():
    grey = torch.zeros(40, 2, 12, 12)
    assert noisy(grey, 0.1).std().item() == pytest.approx(0.1, rel=0.02)
    assert noisy(grey, 10.0).aminmax() == (-1, 1)
    assert_close(noisy(grey, 0.2), 2 * noisy(grey, 0.1))  # the same noise at every strength
    assert not torch.equal(noisy(grey, 0.1), noisy(grey, 0.1, seed=1))


def test_a_blur_keeps_the_brightness_and_spreads_a_point_by_its_standard_deviation():
    point = torch.full((1, 1, 21, 21), -1.0)
    point[0, 0, 10, 10] = 1
    weight = (blurred(point, 1.5)[0, 0] + 1) / 2
    assert weight.sum().item() == pytest.approx(1, abs=1e-4)
    place = torch.arange(21.0) - 10
    assert (weight.sum(dim=0) * place.square()).sum().sqrt().item() == pytest.approx(1.5, rel=0.02)
    even = torch.full((2, 1, 5, 5), 0.3)
    assert_close(blurred(even, 4.0), even)  # wider than the image


def test_a_square_of_its_edge_is_covered_at_another_place_of_each_image():
    shown = images()
    covered = occluded(shown, 0.25)
    changed = (covered != shown).any(dim=1)
    assert (covered[changed[:, None].expand_as(covered)] == GREY).all()
    assert changed.sum(dim=(1, 2)).unique().tolist() == [9]  # 3x3 of 12x12 pixels
    rows, columns = changed.any(dim=2), changed.any(dim=1)
    assert (rows.sum(dim=1) == 3).all()
    assert (columns.sum(dim=1) == 3).all()
    places = {(int(row.int().argmax()), int(column.int().argmax())) for row, column in zip(rows, columns, strict=True)}
    assert len(places) > 20
    assert (occluded(shown, 1.0) == GREY).all()


def test_a_share_of_the_values_becomes_black_or_white():
    found = speckled(images(), 0.3)
    changed = found != images()
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (found[changed] > 0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert (speckled(images(), 0.1) != images())[~changed].sum() == 0  # the same places, and more of them


def test_contrast_is_lost_towards_the_mean_of_each_channel():
    shown = images()
    found = paler(shown, 0.75)
    assert_close(found.mean(dim=(2, 3)), shown.mean(dim=(2, 3)))
    assert_close(found.std(dim=(2, 3)), 0.25 * shown.std(dim=(2, 3)))


def test_brightness_is_added_to_the_value_alone():
    shown = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    shown[0, :, 0, 0] = -1
    found = brighter(shown, 0.2)
    for before, after in zip(shown.permute(0, 2, 3, 1).reshape(-1, 3), found.permute(0, 2, 3, 1).reshape(-1, 3),
                             strict=True):  # fmt: skip
        hue, saturation, value = colorsys.rgb_to_hsv(*((before + 1) / 2).tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        assert_close((after + 1) / 2, torch.tensor(expected), atol=1e-5, rtol=0)


def test_pixels_become_fewer_and_have_their_mean():
    shown = images()
    found = coarser(shown, 0.5)
    assert_close(found[:, :, ::2, ::2], found[:, :, 1::2, 1::2])
    assert_close(found[:, :, ::2, ::2], shown.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpeg_keeps_a_smooth_image_better_than_noise_and_less_at_a_lower_quality(channels):
    smooth = torch.linspace(-1, 1, 16).expand(4, channels, 16, 16)
    noise = torch.rand(4, channels, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    losses = [
        [(compressed(each, loss) - each).square().mean().item() for loss in (5.0, 80.0)] for each in (smooth, noise)
    ]
    assert losses[0][1] < losses[1][1]
    assert all(little < much for little, much in losses)
    assert losses[0][0] < 1e-3


@pytest.mark.parametrize("kind", DISTURBANCES)
def test_no_strength_is_no_disturbance_and_nothing_else_is_drawn_or_changed(kind):
    shown, state = images(), torch.get_rng_state()
    before = shown.clone()
    assert torch.equal(DISTURBANCES[kind](shown, 0.0, 3), shown)
    strength = MOST.get(kind, 1.0) / 2
    first, again = (DISTURBANCES[kind](shown, strength, 3) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == shown.shape
    assert not torch.equal(first, shown)
    assert torch.equal(shown, before)
    assert torch.equal(torch.get_rng_state(), state)
