"""`gan-lightning measure` of any networks, and of all runs below a folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from gan_lightning.__main__ import main
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.data import Digits
from gan_lightning.evaluation import TunedProbe
from gan_lightning.figures import read_figures
from gan_lightning.measurements import Bench, Transfer

CONFIGS = Path(__file__).parents[2] / "configs"
DATA = ["--data=Digits", "--data.limit=40"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
QUICK = ["--transfer.paper=null", "--transfer.tuned.strengths=[1]"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHUFFLENET = "torchvision.models.shufflenet_v2_x0_5"


def values(folder: Path) -> dict[str, float]:
    (file,) = folder.glob("runs/*/*/figures.json")
    return {figure.name: figure.value for figure in read_figures(file).figures if not figure.is_point}


class OfTwoLayers(nn.Module):
    """The same by hand: colour images of ImageNet's statistics, a layer by torchvision's own tool, its mean."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.network = create_feature_extractor(network.eval(), {layer: "out"})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        colour = (images.expand(-1, 3, -1, -1) + 1) / 2
        mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
        return self.network((colour - mean) / std)["out"].mean((2, 3))


def test_a_network_of_torchvision_has_the_figures_of_the_python_route(gan_lightning, tmp_path):
    save_file = pytest.importorskip("safetensors.torch", reason="needs the extra `export`").save_file
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(5)
    trained = shufflenet_v2_x0_5()
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(0)  # the run's seed
    random = shufflenet_v2_x0_5()
    status, printed, errors = gan_lightning(
        "measure", "--network", SHUFFLENET, "--network.weights", "weights.safetensors", "--layers", "[stage2]",
        "--transfer.enabled=true", "--pool", "1", "--mean", *MEAN, "--std", *STD, *DATA, *QUICK, *QUIET,
    )  # fmt: skip
    assert status == 0, errors
    assert "shufflenet_v2_x0_5.stage2" in printed
    bench = Bench(
        {"net": OfTwoLayers(trained, "stage2")},
        Digits(limit=40),
        random_networks={"net": OfTwoLayers(random, "stage2")},
        seed=0,
    )
    outcome = bench.measure(Transfer(paper=None, tuned=TunedProbe(strengths=(1.0,))))
    by_hand = {each.name: each.value for each in outcome.figures if not each.is_point}
    assert {name.replace("shufflenet_v2_x0_5.stage2", "net"): v for name, v in values(tmp_path).items()} == by_hand
    assert len(by_hand) == 6


@pytest.mark.slow
def test_several_networks_and_layers_stand_in_one_table_and_on_the_dashboard(gan_lightning, tmp_path):
    pytest.importorskip("timm", reason="timm is not installed")
    status, printed, errors = gan_lightning(
        "measure", "--network", "timm.create_model", "--network.model_name=test_resnet", "--network.in_chans=1",
        "--network.name=small", "--network", SHUFFLENET, "--network.layers=[conv1,stage2]", *DATA, *QUICK, *QUIET,
        "--layers.tuned.strengths=[1]", "--layers.names=[conv1]", "--run.root=kept",
    )  # fmt: skip
    assert status == 0, errors
    assert all(word in printed for word in ("Layers on digits", "small", "conv1", "tuned"))
    (run,) = (tmp_path / "kept").glob("*/*")
    assert run.parent.name == "small+shufflenet_v2_x0_5-digits"
    assert (run / "pictures/layers.png").is_file()
    assert json.loads((run / "run.json").read_text())["stage"] == "measure"
    found = {figure.name for figure in read_figures(run / "figures.json").figures}
    assert {f"layers/{name}/tuned/conv1/accuracy" for name in ("small", "shufflenet_v2_x0_5")} <= found
    drawn = read_folder(tmp_path / "kept")
    assert [each.model for each in drawn.runs] == ["small+shufflenet_v2_x0_5"]


def test_a_maker_that_fixes_its_weights_has_no_network_like_itself_as_its_control(
    gan_lightning, tmp_path, monkeypatch, caplog
):
    (tmp_path / "makers.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef pretrained():\n    network = nn.Sequential(nn.Conv2d(1, 2, 3), "
        "nn.Flatten())\n    nn.init.constant_(network[0].weight, 0.1)\n    nn.init.constant_(network[0].bias, 0.2)\n"
        "    network[0].weight.data[0, 0, 0] = 0.3\n    return network\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    status, _, errors = gan_lightning("measure", "--network=makers.pretrained", *DATA, *QUICK, *QUIET)
    assert status == 0, errors
    assert "transfer/pretrained/tuned/random_weights/accuracy" in values(tmp_path)
    assert "do not depend on the seed: its __init__ loads or fixes them. The random-weights control is a copy" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network=timm.create_model"], "'timm.create_model' needs, got none for model_name"),
        (["--network", SHUFFLENET, "--layers=[stage7]"], "modules of 'shufflenet_v2_x0_5', got 'stage7'"),
        (["--network", SHUFFLENET, "--pool=two"], "network.pool must be a whole number, got 'two'"),
        (["--network", SHUFFLENET, "--pool=0"], "network.pool must be at least 1, got 0"),
        (["--network", SHUFFLENET, "--mean", "a"], "network.mean must be numbers, got ['a']"),
        (["--network", SHUFFLENET, "--network.weights=no.pt"], "network.weights must be a file with a state dict, got"),
        (["--network=torchvision.models.alexnet"], "network.input_size must be one that alexnet takes, got 32 pixels"),
        (["--network=nothing.there"], "network must be the import path of what makes a network, got 'nothing.there'"),
        (["--data.limit=3", "--network", SHUFFLENET], "data must be named with --network, got none: --data=CIFAR10"),
        (["--network.pool=2"], "network.pool must stand after the --network that it is of"),
        (["--network", SHUFFLENET, "--runs=runs"], "runs must not be given with --network"),
        (["run", "--network", SHUFFLENET], "measure must be given a run or --network, got both ('run')"),
        (["run", "--mean=0.5"], "mean must be given with --network alone"),
        (["run", "--runs=runs"], "measure must be given a run or --runs, got both ('run')"),
        (["--runs=nowhere"], "runs must be a folder of runs, got 'nowhere', which is none"),
        (["--runs=."], "runs must be a folder with trained runs, got '.'"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_clear_line_and_leaves_nothing(gan_lightning, tmp_path, arguments, message):
    if "timm" in arguments[0]:
        pytest.importorskip("timm", reason="timm is not installed")
    status, _, errors = gan_lightning("measure", *arguments, *(DATA if "network" in arguments[0] else []), *QUIET)
    ours = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    assert (status, len(ours)) == (2, 1), errors
    assert message in ours[0]
    assert not (tmp_path / "runs").exists()


@pytest.fixture(autouse=True)
def quick(few_axes):
    """Let the probe of the pixels be quick."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return a folder with a run of a batch."""
    root = tmp_path_factory.mktemp("trained")
    settings = [
        "--data.limit=40",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=1",
    ]
    model = ["--config", str(CONFIGS / "quickstart.yaml"), "--model.base_width=4", "--model.feature_dim=8"]
    off = ["--transfer.enabled=false", "--anatomy.enabled=false", "--samples.enabled=false", "--filters.enabled=false"]
    main(["fit", *model, *settings, *off, *QUIET, f"--run.root={root}", "--run.name=trained"])
    return root


def test_all_runs_below_a_folder_are_measured_and_stand_in_one_table(gan_lightning, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs", symlinks=True)
    (run,) = (tmp_path / "runs").glob("*/*")
    shutil.copytree(run, run.parent / "second", symlinks=True)
    shutil.copytree(run, run.parent / "third", symlinks=True)
    (run.parent / "third/checkpoints/last.ckpt").unlink()
    (run.parent / "third/checkpoints/last.ckpt").write_text("cut")
    status, printed, errors = gan_lightning(
        "measure", "--runs", "runs", "--layers", "[conv2]", "--layers.tuned.strengths=[1]", "--pool=1", *QUIET
    )
    assert (status, "1 of 3 runs could not be measured, such as 'runs/trained/third'" in errors) == (2, True), errors
    assert "3 runs" in printed or "2 runs" in printed
    for name in (run.name, "second"):
        found = read_figures(run.parent / name / "figures.json")
        assert found.sections["layers"].details["features"] == {"discriminator.conv2": 8, "classifier.conv2": 8}
        assert (run.parent / name / "pictures/layers.png").is_file()
