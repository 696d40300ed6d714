import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data.transforms import to_images


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
