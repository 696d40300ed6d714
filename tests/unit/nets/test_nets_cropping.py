import torch

from gan_lightning.nets.cropping import centre_crop, flip_half, random_crop, ten_crops


def test_about_half_of_the_images_are_mirrored_and_the_others_untouched():
    images = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
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


def test_the_ten_crops_are_the_corners_and_the_centre_and_their_mirror_images():
    images = torch.arange(25.0).view(1, 1, 5, 5)
    crops = ten_crops(images, 3)
    assert crops.shape == (10, 1, 1, 3, 3)
    assert crops[:5, 0, 0, 0, 0].tolist() == [0, 2, 10, 12, 6]
    assert crops[5:, 0, 0, 0, 0].tolist() == [2, 4, 12, 14, 8]
    assert torch.equal(crops[5:], crops[:5].flip(4))
    assert all(torch.equal(crop, images) for crop in ten_crops(images, 5)[:5])
