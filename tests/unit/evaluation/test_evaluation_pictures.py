import torch
from torch.testing import assert_close

from gan_lightning.evaluation.pictures import filters_picture, neighbours_picture, reconstructions_picture, rows_picture


def tiles(picture: torch.Tensor, size: int, padding: int) -> torch.Tensor:
    """Cut a grid into rows and columns of images in [0, 1]."""
    step = size + padding
    cut = picture[:, padding:, padding:].unfold(1, size, step).unfold(2, size, step)
    return cut.permute(1, 2, 0, 3, 4)


def images(count: int, channels: int = 1, size: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(count)) * 2 - 1


def test_each_row_is_a_query_and_its_neighbours():
    queries, neighbours = images(3), images(6).unflatten(0, (3, 2))
    rows = tiles(neighbours_picture(queries, neighbours), 4, 1)
    shown = torch.cat([queries[:, None], neighbours], dim=1).expand(-1, -1, 3, -1, -1)
    assert_close(rows, (shown + 1) / 2, atol=1e-4, rtol=0)


def test_images_of_any_number_of_channels_are_drawn_in_three():
    two, five = images(2, 2)[:, None], images(2, 5)[:, None]
    rows = tiles(rows_picture(two), 4, 1)
    assert_close(rows[:, :, :2], (two + 1) / 2, atol=1e-4, rtol=0)
    assert (rows[:, :, 2] == 0).all()
    assert_close(tiles(rows_picture(five), 4, 1), (five[:, :, :3] + 1) / 2, atol=1e-4, rtol=0)


def test_rows_of_images_stand_above_rows_of_their_reconstructions():
    originals = images(5, 3)
    rows = tiles(reconstructions_picture(originals, -originals, columns=3), 4, 1)
    assert rows.shape[:2] == (4, 3)
    assert_close(rows[0], (originals[:3] + 1) / 2, atol=1e-4, rtol=0)
    assert_close(rows[1], (1 - originals[:3]) / 2, atol=1e-4, rtol=0)
    assert_close(rows[3, :2], (1 - originals[3:]) / 2, atol=1e-4, rtol=0)
    assert (rows[2:, 2] == 0).all()  # the last row is not full


def test_images_in_0_to_1_keep_their_greys():
    grey = torch.full((1, 1, 4, 4), 0.25)
    row = tiles(reconstructions_picture(grey, grey, columns=1, value_range=(0.0, 1.0)), 4, 1)
    assert_close(row, torch.full_like(row, 0.25), atol=1e-4, rtol=0)


def test_filters_are_drawn_each_in_its_own_range():
    filters = images(8, 3) * torch.arange(1.0, 9.0).view(8, 1, 1, 1)
    shown = tiles(filters_picture(filters, columns=4, zoom=1), 4, 1)
    assert shown.shape == (2, 4, 3, 4, 4)
    low, high = filters.amin(dim=(1, 2, 3), keepdim=True), filters.amax(dim=(1, 2, 3), keepdim=True)
    assert_close(shown.flatten(0, 1), (filters - low) / (high - low), atol=1e-3, rtol=0)


def test_filters_can_be_enlarged_pixel_by_pixel():
    filters = images(2)
    small = tiles(filters_picture(filters, columns=2, zoom=1), 4, 1)
    large = tiles(filters_picture(filters, columns=2, zoom=5), 20, 2)
    assert torch.equal(large[..., ::5, ::5], small)
    assert torch.equal(large[..., 4::5, 4::5], small)
