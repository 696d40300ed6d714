import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data.transforms import centre_crop, flip_half, random_crop, to_images


def pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_become_minus_one_to_one():
    corners = torch.tensor([0, 51, 102, 255], dtype=torch.uint8).view(1, 1, 2, 2)
    expected = torch.tensor([-1.0, -0.6, -0.2, 1.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(to_images(corners, 2, "resize"), expected)


@pytest.mark.parametrize(("stored", "size"), [(8, 32), (28, 32), (48, 32), (32, 20)])
def test_resizing_a_batch_is_what_pillow_does_to_each_image(stored, size):
    batch = pixels(3, 2, stored, stored)
    images = to_images(batch, size, "resize")
    for image, planes in zip(images, batch.numpy(), strict=True):
        for plane, reference in zip(image, planes, strict=True):
            exact = Image.fromarray(reference.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
            torch.testing.assert_close(plane, torch.from_numpy(np.array(exact)) / 127.5 - 1, atol=1e-4, rtol=0)


def test_resized_images_stay_in_range():
    white = torch.full((1, 3, 7, 7), 255, dtype=torch.uint8)
    assert to_images(white, 31, "resize").max() == 1


@pytest.mark.parametrize("size", [28, 31, 32])
def test_padding_keeps_every_pixel_in_the_middle_of_black(size):
    batch = pixels(2, 1, 28, 28)
    expected = np.zeros((2, 1, size, size), np.uint8)
    start = (size - 28) // 2
    expected[:, :, start : start + 28, start : start + 28] = batch.numpy()
    expected = torch.from_numpy(expected.astype(np.float32) / 127.5 - 1)
    torch.testing.assert_close(to_images(batch, size, "pad"), expected)


def test_about_half_of_the_images_are_mirrored_and_the_others_untouched():
    images = to_images(pixels(400, 1, 4, 4), 4, "resize")
    torch.manual_seed(0)
    flipped = flip_half(images)
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250
    torch.manual_seed(0)
    torch.testing.assert_close(flip_half(images), flipped)


def test_the_centre_is_cut_out():
    images = torch.arange(36.0).view(1, 1, 6, 6)
    assert centre_crop(images, 2).flatten().tolist() == [14, 15, 20, 21]
    assert torch.equal(centre_crop(images, 6), images)


def test_each_image_is_cut_at_a_place_of_its_own_and_every_place_occurs():
    count, edge, size = 400, 6, 4
    image = torch.arange(float(edge * edge)).view(1, 1, edge, edge)
    images = torch.cat([image, image + 100], dim=1).repeat(count, 1, 1, 1)
    torch.manual_seed(0)
    squares = random_crop(images, size)
    corners = squares[:, 0, 0, 0].long()
    rows, columns = corners // edge, corners % edge
    for square, row, column in zip(squares, rows, columns, strict=True):
        assert torch.equal(square, images[0, :, row : row + size, column : column + size])
    places = torch.bincount(rows * 3 + columns, minlength=9)
    assert len(places) == 9
    assert int(places.min()) > 25  # 44 expected
    assert random_crop(images, edge) is images
