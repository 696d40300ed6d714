"""Exported extractors: the same features bit for bit, any images in, and what cannot be exported is said."""

import json
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning import load_extractor
from gan_lightning.data.transforms import to_images
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.features import features_of
from gan_lightning.export.exporting import _FlatFeatures, exported
from gan_lightning.measurements import Bench, Transfer
from gan_lightning.papers import MGAN, BiGAN, ImageNetworks, SelfExGAN


def images(count: int, channels: int = 1, size: int = 32) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


MODELS = {
    "MGAN": lambda: MGAN(1, 32, base_width=4, feature_dim=8, shares_removed=4),
    "BiGAN": lambda: BiGAN(3, 64, ImageNetworks(latent_dim=4, base_width=4, encoder_width=6)),
    "SelfExGAN": lambda: SelfExGAN(1, 32, "mnist", base_width=2),
}


@pytest.mark.parametrize("name", [*MODELS][:1] + [pytest.param(each, marks=pytest.mark.slow) for each in [*MODELS][1:]])
def test_a_program_of_each_papers_extractor_gives_the_same_bits_for_any_number_of_images(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for extractor_name, extractor in model.extractors().items():
        channels, size = model.hparams["channels"], model.hparams["image_size"]
        program, features = exported(extractor_name, _FlatFeatures(extractor), channels, size)
        for count in (1, 5):
            x = images(count, channels, size)
            found = program.module()(x)
            assert_close(found, features_of(extractor_name, extractor, x), rtol=0, atol=0)
            assert found.shape == (count, features)


class Branching(nn.Module):
    def forward(self, images):
        if images.mean() > 0:
            return images
        return -images


class Counting(nn.Module):
    """Its features change from call to call."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return images + self.calls


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Branching(), r"'mine' must .* torch\.export can follow, got 'if images\.mean\(\) > 0:' in line"),
        (Counting(), r"got a program with other features than the network's"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported_says_which_operation(network, message):
    with pytest.raises(SettingError, match=message):
        exported("mine", network, 1, 8)


# Loading


NETWORK = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3, 2), act=nn.Tanh(), flatten=nn.Flatten())).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "mine"
    path.mkdir()
    program, features = exported("mine", _FlatFeatures(NETWORK), 3, 8)
    torch.export.save(program, path / "extractor.pt2")
    form = {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    config = {"num_features": features, "pretrained_cfg": form, "gan_lightning": {"enlarge": "resize"}}
    (path / "config.json").write_text(json.dumps(config))
    return path


def features(x: torch.Tensor) -> torch.Tensor:
    return features_of("mine", NETWORK, x)


def test_bytes_and_floats_of_each_range_give_the_features_of_the_training(folder):
    pixels = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = features(to_images(pixels, 8, "resize"))
    extractor = load_extractor(folder)
    assert_close(extractor(pixels), wanted, rtol=0, atol=0)
    assert_close(extractor(pixels / 255), wanted, rtol=0, atol=1e-5)
    ours = load_extractor(folder, floats=(-1, 1))
    assert_close(ours(to_images(pixels, 8, "resize")), wanted, rtol=0, atol=0)
    assert not extractor.train().training
    assert not any(weight.requires_grad for weight in extractor.parameters())


def test_images_of_other_sizes_are_cut_square_and_resized_and_grey_ones_become_colour(folder):
    extractor = load_extractor(folder, floats=(-1, 1))
    wide = images(2, 3, 20)[:, :, 4:16]
    square = nn.functional.interpolate(wide[..., 4:16], (8, 8), mode="bilinear", antialias=True)
    assert_close(extractor(wide), features(square), rtol=0, atol=1e-6)
    grey = images(2, 1, 8)
    assert_close(extractor(grey), features(grey.expand(-1, 3, -1, -1)), rtol=0, atol=0)


def test_small_images_get_a_border_where_those_of_the_training_got_one(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["gan_lightning"]["enlarge"] = "pad"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "extractor.pt2").write_bytes((folder / "extractor.pt2").read_bytes())
    pixels = torch.randint(0, 256, (2, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert_close(load_extractor(tmp_path)(pixels), features(to_images(pixels, 8, "pad")), rtol=0, atol=0)


def test_a_loaded_extractor_is_measured_like_any_other(folder):
    labels = torch.arange(40) % 2
    x = (images(40, 3, 8) / 4 + (labels - 0.5)[:, None, None, None]).clamp(-1, 1)
    data = TensorImages("two", train=(x[:20], labels[:20]), test=(x[20:], labels[20:]), num_classes=2)
    outcome = Bench({"mine": load_extractor(folder, floats=(-1, 1))}, data).measure(Transfer(paper=None))
    found = {figure.name for figure in outcome.figures}
    assert "transfer/mine/tuned/accuracy" in found
    assert not any("random_weights" in name for name in found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.rand(3, 8, 8), r"images must be a tensor of shape \(batch, channels, height, width\), got a tensor of"),
        ([1, 2], "got a list of 2"),
        (torch.rand(1, 2, 8, 8), "images must have 3 channels, as in the training, got 2"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), r"must be bytes or floating-point numbers, got torch\.int64"),
        (torch.rand(1, 3, 8, 8) - 0.5, r"must be in \[0, 1\], got values from -0\..* floats=\(-1, 1\)"),
        (torch.rand(1, 3, 8, 8) * 255, r"must be in \[0, 1\], got values from"),
    ],
)  # fmt: skip
def test_images_that_are_none_or_of_another_range_are_refused(folder, given, message):
    extractor = load_extractor(folder)
    # As outside of the tests, where nothing checks the types of arguments.
    with pytest.raises(SettingError, match=message):
        type(extractor)._in_our_range.__wrapped__(extractor, given) if isinstance(given, list) else extractor(given)


def test_a_folder_without_an_extractor_is_refused(folder, tmp_path):
    with pytest.raises(SettingError, match=r"which has no config\.json\. Choose one of the folders in it: mine"):
        load_extractor(folder.parent)
    with pytest.raises(SettingError, match=r"floats must be a lower and a higher number, got \(1, 0\)"):
        load_extractor(folder, floats=(1, 0))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SettingError, match=r"network must be a file of torch\.export, got .* does not exist"):
        load_extractor(tmp_path)
    (tmp_path / "extractor.pt2").write_bytes((folder / "extractor.pt2").read_bytes())
    with pytest.raises(DataError, match="is no configuration of an extractor: it lacks 'pretrained_cfg'"):
        load_extractor(tmp_path)
