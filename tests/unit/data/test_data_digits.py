import torch
from sklearn.datasets import load_digits

from gan_lightning.data import Digits


def test_the_split_is_fixed_stratified_and_complete():
    train, test = Digits().store("train"), Digits().store("test")
    assert (len(train), len(test)) == (1437, 360)
    per_class = train.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    torch.testing.assert_close(per_class, torch.full((10,), 0.8), atol=0.005, rtol=0)
    together = torch.cat([train.images, test.images]).double()[:, 0] * (16 / 255)
    everything = torch.from_numpy(load_digits().images)
    torch.testing.assert_close(together.flatten(1).round().unique(dim=0), everything.flatten(1).unique(dim=0))


def test_grey_levels_0_to_16_become_0_to_255():
    images = Digits().store("train").images
    assert images.unique().tolist() == [round(level * 255 / 16) for level in range(17)]


def test_images_are_enlarged_to_32_pixels():
    images, labels = next(iter(Digits().evaluation_batches("test", torch.device("cpu"))))
    assert images.shape == (360, 1, 32, 32)
    assert images.min() == -1
    assert images.max() <= 1
    assert labels.shape == (360,)
