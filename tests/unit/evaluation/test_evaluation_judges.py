"""The networks that judge images: the small classifier and its file, Inception's weights, a network of the user's."""

import builtins

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import ImportedNetwork, Inception, SmallClassifier, TensorImages
from gan_lightning.evaluation.tensors import from_bytes, to_bytes

CPU = torch.device("cpu")


def stripes(count: int = 60, labels: torch.Tensor | None = None) -> TensorImages:
    """Two classes that anything can tell apart: bright above, or bright below."""
    rng = torch.Generator().manual_seed(0)
    classes = torch.arange(count) % 2
    images = torch.randn(count, 1, 16, 16, generator=rng) * 0.1
    images[classes == 0, :, :8] += 0.5
    images[classes == 1, :, 8:] += 0.5
    images, classes = images.clamp(-1, 1), classes if labels is None else labels
    half = count * 2 // 3
    splits = {"train": (images[:half], classes[:half]), "test": (images[half:], classes[half:])}
    return TensorImages("stripes", **splits, num_classes=2, batch_size=7)


def small(tmp_path, **settings: object) -> SmallClassifier:
    return SmallClassifier(**{"width": 2, "feature_dim": 5, "steps": 4, "cache_dir": str(tmp_path)} | settings)


@pytest.fixture
def trainings(monkeypatch):
    """Classifiers trained so far."""
    done, train = [], SmallClassifier._train

    def counted(self, *arguments):
        done.append(self)
        train(self, *arguments)

    monkeypatch.setattr(SmallClassifier, "_train", counted)
    return done


def test_the_small_classifier_learns_the_data_and_says_how_well_it_tests(tmp_path):
    judge = small(tmp_path, steps=60).judge(stripes(), CPU)
    images, labels = stripes()._splits["test"]
    assert (judge.name, judge.feature_count) == ("stripes-classifier", 5)
    features = judge.features(images)
    assert features.shape == (20, 5)
    right = (judge.head(features).argmax(dim=1) == labels).double().mean().item()
    assert right > 0.9
    assert (judge.about["test_accuracy"], judge.about["test_images"]) == (right, 20)
    assert judge.about["training_images"] == 40
    modules = (judge.features, judge.head)
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    assert not any(module.training for module in modules)


def test_it_is_trained_once_and_then_read_from_its_file(tmp_path, trainings):
    first, second = small(tmp_path).judge(stripes(), CPU), small(tmp_path).judge(stripes(), CPU)
    assert len(trainings) == 1
    assert_close(first.features.state_dict(), second.features.state_dict(), rtol=0, atol=0)
    assert_close(first.head.state_dict(), second.head.state_dict(), rtol=0, atol=0)
    assert first.about == second.about


def test_other_images_labels_classes_or_settings_are_another_classifier(tmp_path, trainings):
    swapped, of_three = stripes(labels=1 - torch.arange(60) % 2), stripes()
    of_three.num_classes = 3
    of_others = [(small(tmp_path), data) for data in (stripes(), stripes(54), swapped, of_three)]
    files = {
        network.judge(data, CPU).about["file"] for network, data in [(small(tmp_path, seed=1), stripes()), *of_others]
    }
    assert len(files) == len(trainings) == 5


@pytest.mark.parametrize("content", [b"", b"no pickle", None])
def test_a_damaged_file_is_trained_anew_with_a_warning(tmp_path, trainings, caplog, content):
    judge = small(tmp_path).judge(stripes(), CPU)
    (file,) = tmp_path.rglob("*.pt")
    if content is None:  # which can be loaded in part
        torch.save({name: 1 + each for name, each in torch.load(file).items() if name != "head.bias"}, file)
    else:
        file.write_bytes(content)
    again = small(tmp_path).judge(stripes(), CPU)
    assert len(trainings) == 2
    assert f"'{file}' is damaged" in caplog.text
    assert_close(again.features.state_dict(), judge.features.state_dict(), rtol=0, atol=0)
    small(tmp_path).judge(stripes(), CPU)
    assert len(trainings) == 2


def test_a_file_may_hold_no_code(tmp_path, trainings):
    small(tmp_path).judge(stripes(), CPU)
    (file,) = tmp_path.rglob("*.pt")
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    torch.save(Code(), file)
    small(tmp_path).judge(stripes(), CPU)
    assert not ran.exists()
    assert len(trainings) == 2


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_it_leaves_the_random_state_and_grad_mode_alone_and_tells_of_each_step(tmp_path, mode):
    before, told = torch.get_rng_state(), []
    with mode():
        small(tmp_path).judge(stripes(), CPU, lambda *progress: told.append(progress[1:]))
        assert not torch.is_grad_enabled()
    assert told == [(step, 4) for step in range(1, 5)]
    assert torch.equal(torch.get_rng_state(), before)


def test_images_of_unknown_class_are_left_out(tmp_path):
    labels = torch.arange(60) % 2
    labels[:10] = labels[-5:] = -1
    about = small(tmp_path).judge(stripes(labels=labels), CPU).about
    assert (about["training_images"], about["test_images"]) == (30, 15)
    with pytest.raises(DataError, match=r"two training images of known class or more, got 0 of stripes"):
        small(tmp_path).judge(stripes(labels=torch.full((60,), -1)), CPU)


def test_a_classifier_that_is_larger_than_the_memory_names_its_settings():
    message = r"^width and feature_dim must make a network that fits into memory, got 1000000000000 and 64 \("
    with pytest.raises(SettingError, match=message):
        SmallClassifier(width=10**12).network(1, 10)


def test_data_without_classes_and_folders_that_cannot_be_written_to_are_refused(tmp_path):
    attributes = stripes(labels=torch.ones(60, 2, dtype=torch.int64))
    with pytest.raises(SettingError, match=r"a class for each image, got stripes, whose labels are attributes\. Use "):
        small(tmp_path).judge(attributes, CPU)
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"cache_dir must be a folder to write to, got .*file'"):
        small(tmp_path, cache_dir=str(tmp_path / "file")).judge(stripes(), CPU)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, r"width must be at least 1, got 0"),
        ({"steps": 1}, r"steps must be at least 2, got 1"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0, got 0\.0"),
    ],
)
def test_its_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        SmallClassifier(**settings)


def test_bytes_and_images_are_each_others_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_bytes(from_bytes(pixels)), pixels)


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_network.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(392, 6))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_network_of_the_users_gives_its_output_or_its_layers(user_module):
    own = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(392, 6)).eval()
    torch.save(own.state_dict(), user_module / "weights.pt")
    images, _ = stripes()._splits["test"]
    judge = ImportedNetwork("my_network.network", str(user_module / "weights.pt")).judge(stripes(), CPU)
    assert (judge.name, judge.feature_count, judge.head) == ("network", 6, None)
    assert_close(judge.features(images), own(images))
    layers = ImportedNetwork("my_network.network", str(user_module / "weights.pt"), ["0", "3"]).judge(stripes(), CPU)
    assert (layers.name, layers.feature_count) == ("network+0+3", 398)
    assert_close(layers.features(images), torch.cat([own[0](images).flatten(1), own(images)], dim=1))


def test_a_network_of_the_users_gets_arguments_and_its_own_images_and_its_maps_are_averaged():
    settings = {"arguments": {"in_channels": 3, "out_channels": 2, "kernel_size": 3}, "pool": 2, "input_size": 8}
    judge = ImportedNetwork("torch.nn.Conv2d", mean=(0.4, 0.5, 0.6), std=(0.2,), **settings).judge(stripes(), CPU)
    assert (judge.name, judge.feature_count) == ("Conv2d", 8)
    images, _ = stripes()._splits["test"]
    small = nn.functional.interpolate(images, (8, 8), mode="bilinear", antialias=True).clamp(-1, 1)
    colour = ((small.expand(-1, 3, -1, -1) + 1) / 2 - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2
    maps = judge.features.network(colour)
    assert_close(judge.features(images), nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))


def test_a_network_of_the_users_that_cannot_judge_the_data_is_refused(user_module):
    colour = torch.zeros(4, 3, 16, 16), torch.zeros(4, dtype=torch.int64)
    data = TensorImages("colour", train=colour, test=colour, num_classes=2)
    with pytest.raises(SettingError, match=r"network must take images of 3 channels and 16 pixels"):
        ImportedNetwork("my_network.network").judge(data, CPU)
    with pytest.raises(SettingError, match=r"network must be the import path .* got 'my_network\.no'"):
        ImportedNetwork("my_network.no").judge(data, CPU)
    with pytest.raises(SettingError, match=r"layers must be modules of 'network', got 'conv'"):
        ImportedNetwork("my_network.network", layers=["conv"]).judge(data, CPU)


def test_inception_is_refused_in_one_line_where_its_weights_are_not_on_disk(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity", reason="the extra `inception` is not installed")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(SettingError, match=r"got '.*inception.*\.pth', which does not exist\. Fetch it from https://"):
        Inception().judge(stripes(), CPU)
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(
        SettingError, match=r"must be a file with Inception's weights, got '.*weights\.pth', which is not"
    ):
        Inception(str(tmp_path / "weights.pth")).judge(stripes(), CPU)


def test_inception_draws_nothing_and_sees_a_few_images_at_once(tmp_path, monkeypatch):
    pytest.importorskip("torch_fidelity", reason="the extra `inception` is not installed")

    class Drawing(torch.nn.Module):
        """Begins, as Inception does, with random weights."""

        def __init__(self, *settings: object) -> None:
            super().__init__()
            self.weights, self.seen = torch.nn.Linear(2, 2), []

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.seen.append((len(images), images.dtype))
            return images.flatten(1)[:, :5].float()

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Drawing)
    torch.save({}, tmp_path / "weights.pth")
    before = torch.get_rng_state()
    judge = Inception(str(tmp_path / "weights.pth")).judge(stripes(), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.linspace(-1, 1, 120)[:, None, None, None].expand(-1, 1, 4, 4)
    features = judge.features(images)
    assert_close(features[:, 0], ((images[:, 0, 0, 0] + 1) * 127.5).round())
    assert judge.features.network.seen == [(50, torch.uint8), (50, torch.uint8), (20, torch.uint8)]


@pytest.mark.parametrize(
    "forward", [lambda x: {"a": x}, lambda x: x.sum(), lambda x: x.flatten(1)[:1], lambda x: {}[1]]
)
def test_a_network_that_does_not_give_a_row_for_each_image_is_refused(monkeypatch, forward):
    monkeypatch.setattr(torch.nn.Identity, "forward", lambda self, x: forward(x))
    with pytest.raises(SettingError, match=r"network must"):
        ImportedNetwork("torch.nn.Identity").judge(stripes(), CPU)


def test_inception_is_refused_in_one_line_where_torch_fidelity_is_not_installed(monkeypatch):
    really_import = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("torch_fidelity"):
            raise ImportError(f"No module named '{name}'")
        return really_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingError, match=r"must have torch-fidelity installed.*gan-lightning\[inception\]"):
        Inception().judge(stripes(), CPU)
