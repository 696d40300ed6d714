"""Networks by import path, files of weights, exported programs, and the outputs of layers by name."""

import sys
import zipfile
from io import BytesIO
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import features_of
from gan_lightning.nets.adapted_network import AdaptedNetwork, NetworkSource, Preprocessing, taken_channels
from gan_lightning.nets.layer_tap import LayerTap, stage_or_layer
from gan_lightning.nets.user_network import built_network
from gan_lightning.nets.weights_file import load_weights, read_program, read_weights

safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra `export`")


class Small(nn.Module):
    """A network whose last layer must not run where an earlier one is wanted."""

    def __init__(self, width: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 2, 3))
        self.unused = nn.ReLU()
        self.head_runs = 0

    def forward(self, images):
        maps = self.body(self.conv1(images))
        self.head_runs += 1
        return maps.mean((2, 3))


class Pair(nn.Module):
    def forward(self, images):
        return images, images


@pytest.fixture(autouse=True)
def makers(monkeypatch):
    """Let the module `makers` have this network, and functions that make something else or fail."""
    module = ModuleType("makers")
    module.Small, module.number = Small, lambda: 3  # type: ignore[attr-defined]

    def broken(depth=2, **more):
        raise RuntimeError("no such depth")

    module.broken = broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "makers", module)


def small() -> Small:
    torch.manual_seed(0)
    return Small(4).eval()


def images(channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


# Layers


def test_a_layers_output_is_what_the_module_gives_and_nothing_after_it_runs():
    network, x = small(), images()
    tap = LayerTap(network, "body.0")
    assert_close(tap(x), network.conv1(x).relu(), rtol=0, atol=0)
    assert network.head_runs == 0
    network(x)
    assert network.head_runs == 1
    assert not network.body[0]._forward_hooks


def test_a_layer_that_there_is_not_is_refused_with_the_closest_names():
    with pytest.raises(SettingError, match=r"layers must be modules of the network, got 'conv2'\. .* are conv1"):
        LayerTap(small(), "conv2")
    with pytest.raises(SettingError, match=r"stages or modules of the network, got 'xyz'\. There are conv1, body"):
        stage_or_layer(small(), "xyz")


def test_a_module_that_does_not_run_is_refused():
    with pytest.raises(SettingError, match=r"layers must name modules that the network runs, got 'unused'"):
        LayerTap(small(), "unused")(images())


def test_a_stage_is_a_convolution_with_what_follows_it_and_a_module_is_itself():
    network = nn.Sequential()
    for name, layer in {"one": nn.Conv2d(3, 2, 3), "act": nn.ReLU(), "two": nn.Conv2d(2, 2, 3)}.items():
        network.add_module(name, layer)
    x = images()
    assert_close(stage_or_layer(network, "one")(x), network.one(x).relu(), rtol=0, atol=0)
    assert_close(stage_or_layer(network, "act")(x), network.one(x).relu(), rtol=0, atol=0)


# Makers


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        ("makers.Small", {}, r"arguments must have what 'makers\.Small' needs, got none for width"),
        ("makers.Small", {"width": 2, "chanels": 1}, r"takes, got 'chanels'\. The closest names are channels"),
        ("makers.number", {}, r"makes a torch\.nn\.Module, got 'makers\.number', which makes a int"),
        ("makers.broken", {"depth": 5}, r"fails with depth=5 \(RuntimeError: no such depth\)"),
        ("makers.nothing", {}, r"network must be the import path of what makes a network, got 'makers\.nothing'"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_made_is_refused(network, arguments, message):
    with pytest.raises(SettingError, match=message):
        built_network(network, arguments, None)


# Weights


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pt", "nested.pt"])
def test_weights_are_read_from_each_kind_of_file(tmp_path, file):
    network, other = small(), Small(4)
    path = tmp_path / file
    if path.suffix == ".safetensors":
        safetensors.save_file(network.state_dict(), path)
    else:
        torch.save({"state_dict": network.state_dict(), "epoch": 3} if "nested" in file else network.state_dict(), path)
    load_weights(other, read_weights(str(path)), str(path))
    assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_weights_that_do_not_fit_say_what_is_missing_and_what_is_too_much():
    weights = small().state_dict()
    del weights["conv1.bias"]
    weights |= {"more": torch.zeros(1), "body.1.bias": torch.zeros(7)}
    with pytest.raises(
        SettingError,
        match=r"1 missing there: conv1\.bias; 1 too much there: more; "
        r"1 of another shape: body\.1\.bias \(\(7,\) there, \(2,\) here\)",
    ):
        load_weights(Small(4), weights, "some.pt")


def test_weights_without_the_numbers_of_batches_are_taken():
    network, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    network(torch.rand(4, 2, 3, 3))
    old = {name: value for name, value in network.state_dict().items() if name != "num_batches_tracked"}
    load_weights(other, old, "old.pt")
    assert_close(other.running_mean, network.running_mean, rtol=0, atol=0)
    assert other.num_batches_tracked == 0
    del old["weight"]
    with pytest.raises(SettingError, match=r"\(1 missing there: weight\)"):
        load_weights(other, old, "old.pt")


class Harmful:
    """An object that would run code when it is loaded."""

    ran = False

    def __reduce__(self):
        return setattr, (Harmful, "ran", True)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"weight": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(SettingError, match=r"weights must be a file of tensors and plain values.*could run code"):
        read_weights(str(tmp_path / "harmful.pt"))
    assert not Harmful.ran


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"text", "could run code|cannot be read"), ([1, 2], "holds something else")],
)  # fmt: skip
def test_a_file_without_weights_is_refused(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(SettingError, match=message):
        read_weights(str(path))


# Exported programs


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "small.pt2"
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(small(), (images(),), dynamic_shapes=shapes), path)
    return path


def test_a_program_is_a_network_with_layers(program):
    source = NetworkSource(str(program), layers=("conv1",))
    network, x = source.built(), images()
    assert (taken_channels(network), source.short_name) == (3, "small")
    assert_close(network(x), small()(x), rtol=0, atol=0)
    (name, extractor), = source.extractors(network, "mine").items()  # fmt: skip
    assert name == "mine.conv1"
    assert_close(extractor(x), small().conv1(x), rtol=0, atol=0)
    assert "exported program" in extractor.no_control


def test_a_program_that_would_run_code_is_refused_and_runs_none(program, tmp_path):
    harmful = BytesIO()
    torch.save(Harmful(), harmful)
    with zipfile.ZipFile(program) as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, harmful.getvalue() if "sample_inputs" in name else good.read(name))
    with pytest.raises(SettingError, match=r"holds what could run code when it is loaded \(\w+/data/sample_inputs"):
        read_program(str(tmp_path / "bad.pt2"))
    with zipfile.ZipFile(program) as good, zipfile.ZipFile(tmp_path / "pickled.pt2", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name).replace(b'"use_pickle": false', b'"use_pickle": true'))
    with pytest.raises(SettingError, match=r"could run code when it is loaded \(\w+/data/weights"):
        read_program(str(tmp_path / "pickled.pt2"))
    assert not Harmful.ran


def test_what_is_no_program_is_refused(tmp_path):
    (tmp_path / "text.pt2").write_text("text")
    with pytest.raises(SettingError, match=r"network must be a file of torch\.export, got .* cannot be read as one"):
        read_program(str(tmp_path / "text.pt2"))
    with pytest.raises(SettingError, match="which does not exist"):
        read_program(str(tmp_path / "nowhere.pt2"))


# Images


def test_images_that_are_as_wanted_stay_the_same():
    x = images()
    assert Preprocessing(3, 8)(x) is x


def test_images_become_those_that_the_network_was_trained_on():
    from torchvision.transforms.v2 import functional

    mean, std, x = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), images(1)
    found = Preprocessing(3, 16, mean, std, "bicubic")(x)
    wanted = functional.resize(x, [16, 16], functional.InterpolationMode.BICUBIC, antialias=True).clamp(-1, 1)
    assert_close(found, functional.normalize((wanted.expand(-1, 3, -1, -1) + 1) / 2, mean, std), rtol=0, atol=1e-6)


def test_many_large_images_are_seen_in_parts(monkeypatch):
    monkeypatch.setattr("gan_lightning.nets.adapted_network.AT_ONCE", 3 * 16**2)
    network, seen = small(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    x = images().repeat(4, 1, 1, 1)
    whole = AdaptedNetwork(network, Preprocessing(3, 16))
    assert_close(whole(x), network(Preprocessing(3, 16)(x)))
    assert seen == [3, 3, 2, 8]
    with pytest.raises(SettingError, match="must give a tensor of features"):
        features_of("pair", AdaptedNetwork(Pair(), Preprocessing(3, 16)), x)


def test_a_layer_with_its_images_can_be_exported_for_any_number_of_them():
    extractor = AdaptedNetwork(small(), Preprocessing(3, 16, (0.4,), (0.2,)), "conv1", 1)
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(extractor, (images(1),), dynamic_shapes=shapes)
    x = images(1).repeat(3, 1, 1, 1)
    assert_close(program.module()(x), extractor(x), rtol=0, atol=0)


def test_images_keep_their_precision():
    assert Preprocessing(3, None, (0.4,), (0.2,))(images().bfloat16()).dtype == torch.bfloat16


def test_maps_are_averaged_and_the_layer_is_chosen():
    network, x = small(), images()
    whole = AdaptedNetwork(network, Preprocessing(3), pool=2)
    found = whole.up_to("conv1")(x)
    assert_close(found, nn.functional.adaptive_avg_pool2d(network.conv1(x), 2), rtol=0, atol=0)
    with pytest.raises(SettingError, match=r"layers must be modules of a whole network, got 'body' of 'conv1'"):
        whole.up_to("conv1").up_to("body")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": 0}, "pool must be at least 1, got 0"),
        ({"input_size": 0}, "input_size must be at least 1, got 0"),
        ({"mean": (0.5, 0.5)}, "mean must have one value, or one per colour"),
        ({"std": (0.0,)}, r"std must be above 0, got 0\.0"),
        ({"network": "a.pt2", "weights": "b.pt"}, r"weights must be left out with a \.pt2 file"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        NetworkSource(**{"network": "makers.Small", **settings})


@pytest.mark.parametrize(
    ("arguments", "channels", "size", "message"),
    [
        ({"width": 2, "channels": 2}, 3, 8, "network must take images of 3 channels, as the data has, got small"),
        ({"width": 2}, 3, 3, "input_size must be one that small takes, got 3 pixels, which it does not"),
    ],
)  # fmt: skip
def test_a_network_that_does_not_take_the_images_is_refused(arguments, channels, size, message):
    source = NetworkSource("makers.Small", arguments=arguments)
    with pytest.raises(SettingError, match=message):
        source.check_images(source.built(), "small", channels, size)
