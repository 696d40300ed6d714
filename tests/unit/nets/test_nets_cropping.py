import torch

from gan_lightning.nets.cropping import centre_crop, flip_half, random_crop, random_scaled_crop, ten_crops


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


def test_a_scaled_square_lies_inside_the_image_at_scales_between_both():
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    rng, found = torch.Generator().manual_seed(0), []
    for _ in range(200):
        down, right = random_scaled_crop(torch.stack([rows, columns]), 30, (0.5, 3.0), rng)
        steps = torch.cat([down.diff(dim=0)[1:-1].flatten(), right.diff(dim=1)[:, 1:-1].abs().flatten()])
        assert (steps.max() - steps.min()) < 1e-4  # the same scale in both directions
        assert down.min() > -1e-3
        assert down.max() < 59 + 1e-3
        assert right.max() < 79 + 1e-3
        found.append((steps.mean().item(), right[0, 0] > right[0, -1]))
    scales = torch.tensor([scale for scale, _ in found])
    assert 0.5 <= scales.min() < 0.6
    assert 1.9 < scales.max() <= 2.0  # the whole height, not 3
    assert 70 < sum(bool(mirrored) for _, mirrored in found) < 130


def test_a_square_as_large_as_asked_for_is_a_part_of_the_image():
    image = torch.randint(256, (3, 20, 25), dtype=torch.uint8)
    square = random_scaled_crop(image, 20, (1.0, 1.0), torch.Generator().manual_seed(3))
    places = [image[..., at : at + 20].float() for at in range(6)]
    assert any(torch.equal(square, each) or torch.equal(square, each.flip(-1)) for each in places)
    smaller = random_scaled_crop(image, 40, (0.8, 2.0), torch.Generator().manual_seed(3))  # scale 0.5: all that fits
    assert smaller.shape == (3, 40, 40)
