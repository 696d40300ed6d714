import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import RawPixels, TensorBatches
from gan_lightning.evaluation.pictures import filters_picture, neighbours_picture, reconstructions_picture
from gan_lightning.models import MGAN


def tiles(picture: torch.Tensor, size: int, padding: int) -> torch.Tensor:
    """Cut a grid into rows and columns of images in [0, 1]."""
    step = size + padding
    cut = picture[:, padding:, padding:].unfold(1, size, step).unfold(2, size, step)
    return cut.permute(1, 2, 0, 3, 4)


def images(count: int, channels: int = 1, size: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(count)) * 2 - 1


def test_each_row_is_a_query_and_its_neighbours_the_nearest_first():
    stored, order = images(20), torch.tensor([7, 3, 11])
    queries = stored[order]
    picture = neighbours_picture(RawPixels(), queries, TensorBatches(stored, torch.zeros(20).long(), 6), count=2)
    rows = tiles(picture, 4, 1)
    assert rows.shape == (3, 3, 3, 4, 4)
    similarity = nn.functional.cosine_similarity(queries.flatten(1)[:, None], stored.flatten(1)[None], dim=2)
    second = similarity.argsort(dim=1, descending=True)[:, 1]
    shown = torch.stack([queries, queries, stored[second]], dim=1).expand(-1, -1, 3, -1, -1)
    assert_close(rows, (shown + 1) / 2, atol=1e-4, rtol=0)


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


def test_filters_are_those_that_touch_the_image_each_in_its_own_range():
    model = MGAN(channels=3, image_size=32, base_width=8, feature_dim=8)
    first, last = model.discriminator.conv1[0].weight, model.generator_trunk.deconv4[0].weight
    assert last.shape == (8, 3, 4, 4)
    for network, weight in ((model.discriminator, first), (model.generator_trunk, last)):
        shown = tiles(filters_picture(network, columns=4, zoom=1), 4, 1)
        assert shown.shape == (2, 4, 3, 4, 4)
        low, high = weight.amin(dim=(1, 2, 3), keepdim=True), weight.amax(dim=(1, 2, 3), keepdim=True)
        expected = ((weight - low) / (high - low)).detach()
        assert_close(shown.flatten(0, 1), expected, atol=1e-3, rtol=0)


def test_filters_of_linear_layers_have_the_shape_of_the_images():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    generator = nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, 16))
    assert filters_picture(encoder, image_shape=(1, 4, 4), columns=5, zoom=1).shape == (3, 6, 26)
    assert filters_picture(generator, image_shape=(1, 4, 4), columns=7, zoom=1).shape == (3, 6, 36)
    weight = generator[2].weight.detach()[:, 0].view(4, 4)
    shown = tiles(filters_picture(generator, image_shape=(1, 4, 4), columns=7, zoom=1), 4, 1)[0, 0, 0]
    assert_close(shown, (weight - weight.min()) / (weight.max() - weight.min()), atol=1e-3, rtol=0)


def test_filters_can_be_enlarged_pixel_by_pixel():
    network = nn.Conv2d(1, 2, 4)
    small = tiles(filters_picture(network, columns=2, zoom=1), 4, 1)
    large = tiles(filters_picture(network, columns=2, zoom=5), 20, 2)
    assert torch.equal(large[..., ::5, ::5], small)
    assert torch.equal(large[..., 4::5, 4::5], small)


def test_what_cannot_be_drawn_is_refused():
    stored = TensorBatches(images(3), torch.zeros(3).long(), 2)
    with pytest.raises(SettingError, match=r"count must be from 1 to the number of .*, got 4 neighbours of 3"):
        neighbours_picture(RawPixels(), images(2), stored)
    with pytest.raises(DataError, match="features of the queries by 'mine' must be finite"):
        neighbours_picture(RawPixels(), images(2) / 0, stored, count=1, name="mine")
    with pytest.raises(SettingError, match="must have filters of 1 or 3 channels where it touches the image, got 8"):
        filters_picture(nn.Conv2d(8, 2, 3))
    with pytest.raises(SettingError, match=r"got image_shape=None and linear layers \[\(16, 5\)\]"):
        filters_picture(nn.Linear(16, 5))
