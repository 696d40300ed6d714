"""`gan-lightning export`: a run's extractors in a process that has nothing of this package, and the model itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import gan_lightning as package
from gan_lightning.__main__ import main
from gan_lightning.errors import SettingError
from gan_lightning.figures import read_figures
from gan_lightning.papers import MGAN

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra `export`")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Return the folder of a run of a batch, with an accuracy of the tuned probe."""
    root = tmp_path_factory.mktemp("trained")
    model = ["--config", str(CONFIGS / "quickstart.yaml"), "--model.base_width=4", "--model.feature_dim=8"]
    settings = ["--data.limit=40", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
    off = [f"--{name}.enabled=false" for name in ("anatomy", "samples", "filters")]
    quick = ["--transfer.paper=null", "--transfer.tuned.strengths=[1]", "--transfer.raw_pixels=false"]
    main(["fit", *model, *settings, *off, *quick, *QUIET, f"--run.root={root}", "--run.name=trained"])
    return next(root.glob("trained/*"))


@pytest.fixture(scope="module")
def exported(trained) -> Path:
    """Return the folder of its extractors' folders."""
    with pytest.raises(SystemExit) as end:
        main(["export", str(trained), "--license", "apache-2.0"])
    assert end.value.code == 0
    return trained / "export"


def images(count: int = 5) -> torch.Tensor:
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


OUTSIDE = """
import sys
sys.modules["gan_lightning"] = None  # as if it were not installed
import torch
for name in ("discriminator", "classifier"):
    extractor = torch.export.load(f"{sys.argv[1]}/{name}/extractor.pt2").module()
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.save(extractor(images), f"{sys.argv[2]}/{name}.pt")
assert not any(module.partition(".")[0] in ("lightning", "jaxtyping") for module in sys.modules)
"""


def test_the_features_are_the_same_bits_in_a_process_that_cannot_import_this_package(exported, trained, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", OUTSIDE, exported, tmp_path], check=True, env=environment)
    for name, extractor in MGAN.load_from_checkpoint(trained / "checkpoints/last.ckpt").eval().extractors().items():
        with torch.no_grad():
            assert_close(torch.load(tmp_path / f"{name}.pt"), extractor(images()), rtol=0, atol=0)


def test_a_run_is_loaded_in_eval_mode_with_its_weights(trained):
    model = package.load_run(trained)
    saved = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert isinstance(model, MGAN)
    assert not any(module.training for module in model.modules())
    assert_close(dict(model.state_dict()), dict(saved), rtol=0, atol=0)


def test_the_files_say_what_a_user_of_them_needs(exported, trained):
    extractor = package.load_run(trained).extractors()["discriminator"]
    weights = safetensors.load_file(exported / "discriminator/model.safetensors")
    assert_close(weights, dict(extractor.state_dict()), rtol=0, atol=0)
    config = json.loads((exported / "discriminator/config.json").read_text())
    assert (config["architecture"], config["num_features"]) == ("MGAN.discriminator", 8)
    form = config["pretrained_cfg"]
    assert (form["input_size"], form["mean"], form["std"], form["license"]) == ([1, 32, 32], [0.5], [0.5], "apache-2.0")
    assert config["gan_lightning"]["model_settings"]["base_width"] == 4
    assert "root" not in config["gan_lightning"]["data_settings"]
    card = (exported / "discriminator/README.md").read_text()
    figures = {each.name: each for each in read_figures(trained / "figures.json").figures if not each.is_point}
    found = [figures[f"transfer/discriminator/tuned/{part}accuracy"].value for part in ("", "random_weights/")]
    chance = figures["transfer/chance/accuracy"].value
    assert f"| tuned | {found[0]:.4f} | {found[1]:.4f} | - | {chance:.4f} | 40 |" in card
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| data.limit | 40 |" in card
    assert sorted(each.name for each in exported.iterdir()) == ["classifier", "discriminator"]


def test_an_onnx_file_gives_the_same_features_up_to_rounding(gan_lightning, trained, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra `onnx`")
    reference = pytest.importorskip("onnx.reference", reason="needs the extra `onnx`")
    status, printed, errors = gan_lightning(
        "export", trained, "--onnx", "--out", tmp_path / "there", "--extractors", "classifier"
    )
    assert (status, "model.onnx" in printed) == (0, True), errors
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["classifier"]
    (found,) = reference.ReferenceEvaluator(str(tmp_path / "there/classifier/model.onnx")).run(
        None, {"images": images().numpy()}
    )
    wanted = package.load_run(trained).extractors()["classifier"](images()).detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_weights_of_another_epoch_have_no_accuracies_on_their_card(gan_lightning, trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    figures = json.loads((run / "figures.json").read_text())
    for figure in figures["figures"]:
        figure["epoch"] = 7
    (run / "figures.json").write_text(json.dumps(figures))
    status, _, errors = gan_lightning("export", run, "--extractors", "discriminator")
    assert status == 0, errors
    assert "The features of these weights were not measured." in (run / "export/discriminator/README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "folder must be a run's folder, got 'nowhere', which has no run.json"),
        (["RUN", "--extractors", "discriminater"], "got 'discriminater'. The closest names are discriminator"),
        (["RUN", "--ckpt_path", "no.ckpt"], "must be a checkpoint file, got 'no.ckpt', which does not exist"),
        (["RUN", "--license", " "], "license must be a name such as apache-2.0, got ' '"),
        (["RUN", "--out", "mine"], "must be a folder to write to, got 'mine', in which 'discriminator' is"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_clear_line_and_leaves_nothing(gan_lightning, trained, tmp_path, arguments, message):
    (tmp_path / "mine/discriminator").mkdir(parents=True)
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns("export")))
    status, _, errors = gan_lightning("export", *(run if word == "RUN" else word for word in arguments))
    ours = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    assert (status, len(ours)) == (2, 1), errors
    assert message in ours[0]
    assert not (run / "export").exists()
    assert not list((tmp_path / "mine/discriminator").iterdir())


def test_nothing_is_written_if_one_extractor_cannot_be_exported(gan_lightning, trained, tmp_path, monkeypatch):
    def branching(self, images):
        return images if images.mean() > 0 else -images

    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns("export")))
    original = MGAN.extractors

    def extractors(model):
        found = dict(original(model))
        second = torch.nn.Sequential(torch.nn.Flatten())
        monkeypatch.setattr(second, "forward", branching.__get__(second))
        return {**found, "classifier": second}

    monkeypatch.setattr(MGAN, "extractors", extractors)
    status, _, errors = gan_lightning("export", run)
    assert status == 2
    assert "torch.export can follow, got 'return images if images.mean() > 0 else -images' in line" in errors
    assert not (run / "export").exists()


def test_a_run_whose_model_is_gone_is_refused(trained, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run", symlinks=True))
    config = (run / "config.yaml").read_text().replace("gan_lightning.papers.MGAN", "elsewhere.Model")
    (run / "config.yaml").write_text(config)
    with pytest.raises(SettingError, match=r"model can be imported, got .* whose model is 'elsewhere\.Model'"):
        package.load_run(run)
    (run / "config.yaml").unlink()
    assert isinstance(package.load_run(run), MGAN)  # by the name in its figures, as for runs from Python
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(SettingError, match=r"which has no checkpoints/last\.ckpt"):
        package.load_run(run)
