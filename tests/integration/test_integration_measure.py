"""`gan-lightning measure`: a finished run is measured again, and what is found stands in its folder."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from voc_tree import drawn_voc

from gan_lightning.__main__ import main
from gan_lightning.figures import read_figures

CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = [
    "--data.limit=40", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.paper.epochs=1", "--transfer.tuned=null", "--run.name=trained",
]  # fmt: skip
MODELS = {
    "SelfExGAN": ["--config", CONFIGS / "selfexgan/digits.yaml", "--model.base_width=2"],
    "GAN": ["--config", CONFIGS / "bigan/discriminator.yaml", "--config", CONFIGS / "bigan/digits.yaml",
            "--model.networks.width=8"],
}  # fmt: skip
OF_CODES = [
    "--feeding.rounds=2", "--embedding.perplexity=5", "--similarity.copies=2", "--variations.noise=[0.1,0.5]",
    "--synthetic_data.budgets=[20]", "--synthetic_data.copies=2", "--synthetic_data.steps=2",
    "--synthetic_data.seeds=1", "--synthetic_data.width=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that gives a fresh copy of a run that a model was trained in for a batch, once."""
    runs: dict[str, Path] = {}

    def train(model: str, folder: Path) -> Path:
        if model not in runs:
            root = tmp_path_factory.mktemp("trained")
            main([str(argument) for argument in ("fit", *MODELS[model], *QUICK, f"--run.root={root}")])
            (runs[model],) = root.glob("trained/*")
        return Path(shutil.copytree(runs[model], folder / "run", symlinks=True))

    return train


def values(run: Path) -> dict:
    return {(f.name, f.axis, f.at): f.value for f in read_figures(run / "figures.json").figures}


def test_what_is_named_is_measured_and_stands_beside_what_was_there(gan_lightning, trained, tmp_path):
    run = trained("SelfExGAN", tmp_path)
    before = values(run)
    status, printed, errors = gan_lightning("measure", run, *OF_CODES)
    assert status == 0, errors
    found, after = read_figures(run / "figures.json"), values(run)
    assert after.items() > before.items()
    added = {name.partition("/")[0] for name, _, _ in after.keys() - before.keys()}
    assert added == {"feeding", "embedding", "similarity", "variations", "synthetic_data"}
    assert found.sections["feeding"].settings["rounds"] == 2
    assert found.sections["feeding"].about["stage"] == "measure"
    assert found.about["seed"] == 0
    assert {(figure.epoch, figure.batches) for figure in found.figures} == {(1, 1)}
    assert all(title in printed for title in ("feeding", "similarity", "synthetic data"))
    pictures = {path.name for path in (run / "pictures").iterdir()}
    assert {"feeding.png", "embedding.png", "similarity.png", "variations-noise-0.5.png"} <= pictures
    with np.load(run / "embedding.npz") as arrays:
        assert arrays["points"].shape == (40, 2)
    assert Image.open(next((run / "synthetic_data/data_set/train").glob("*/*.png"))).size == (32, 32)
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    (measured,) = record["measured"]
    assert (measured["status"], measured["command"][1]) == ("finished", "measure")


def test_tasks_of_voc_share_its_place(gan_lightning, trained, tmp_path):
    run = trained("SelfExGAN", tmp_path)
    options = ["--voc_classification.trained=[fc8,fc6-8]", "--voc_classification.extractors=[encoder]"]
    options += [f"--voc_classification.protocol.{each}" for each in ("schedule=1e-9", "size=32", "crops=1", "width=4")]
    status, _, errors = gan_lightning("measure", run, *options, f"--voc.root={tmp_path}")
    assert (status, errors.count("\n")) == (2, 1)
    assert f"voc.root must hold VOCdevkit/VOC2007, got '{tmp_path}'" in errors
    voc = drawn_voc(tmp_path, images=5)
    status, printed, errors = gan_lightning("measure", run, *options, f"--voc.root={voc.root}", "--voc.limit=4")
    assert status == 0, errors
    assert "PASCAL VOC: encoder of digits" in printed
    found = read_figures(run / "figures.json")
    assert found.sections["voc_classification"].settings["voc"]["limit"] == 4
    made = [each for each in found.figures if each.measurement == "voc_classification"]
    assert len(made) == 3 * 2 * 2
    assert {each.images for each in made} == {4}


def test_features_are_judged_on_further_data_sets_of_any_class(gan_lightning, trained, tmp_path):
    run = trained("GAN", tmp_path)
    for label in ("0", "1"):
        for split in ("train", "test"):
            (tmp_path / "far" / split / label).mkdir(parents=True)
            for number in range(4):
                Image.new("L", (9, 9), 30 * number).save(tmp_path / "far" / split / label / f"{number}.png")
    options = ["--transfer.paper=null", "--transfer.nearest.metric=euclidean", "--transfer.random_weights=false"]
    targets = ["--targets+=ImageFolder", f"--targets.root={tmp_path}/far", "--targets.channels=1"]
    status, _, errors = gan_lightning("measure", run, *options, *targets, "--targets.image_size=32")
    assert (status, errors.count("error: targets must have the run's channels and image size, 1x8x8, got far")) == (
        2,
        1,
    )
    targets += ["--targets.image_size=8"]
    status, printed, errors = gan_lightning("measure", run, *options, *targets)
    assert (status, "Transfer on far: accuracy on frozen features" in printed) == (0, True), errors
    found = values(run)
    assert ("transfer/discriminator/nearest/far/accuracy", "", None) in found
    assert found["transfer/chance/far/accuracy", "", None] == 0.5


def test_without_a_name_a_run_is_measured_as_its_settings_ask_and_gives_the_same_figures(
    gan_lightning, trained, tmp_path
):
    run = trained("SelfExGAN", tmp_path)
    before = values(run)
    (run / "figures.json").unlink()
    status, _, errors = gan_lightning("measure", run)
    assert status == 0, errors
    lost = {name for name, _, _ in before} - {name for name, _, _ in values(run)}
    assert all(name.startswith("density_ratio/") for name in lost)
    assert {key: value for key, value in before.items() if not key[0].startswith("density")} == values(run)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("GAN", ["--feeding.rounds=3"], "got nothing (feeding: GAN declares no encode(), decode()"),
        ("GAN", ["--feeding.rounds=0"], "feeding.rounds must be at least 1, got 0"),
        ("GAN", ["--transfer.enabled=false"], "got nothing (all measurements are switched off)"),
        ("GAN", ["--trainer.devices=2"], "trainer.devices must be 1 for measure, got 2"),
        ("GAN", ["--model.networks.width=4"], "model.networks is"),
        ("SelfExGAN", ["--similarity.images=2"], "similarity.images must be at least 3, got 2"),
        ("SelfExGAN", ["--synthetic_data.budgets=[50]"], "synthetic_data.budgets must be at most 40"),
        (None, ["nowhere"], "measure must be given a run's folder, got 'nowhere', which is none"),
        (None, ["--feeding.rounds=3"], "measure must be given a run's folder: gan-lightning measure RUN"),
        (None, ["."], "has no config.yaml"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_one_clear_line_and_changes_nothing(
    gan_lightning, trained, tmp_path, model, arguments, message
):
    run = None if model is None else trained(model, tmp_path)
    before = None if run is None else {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file()}
    status, _, errors = gan_lightning("measure", *([] if run is None else [run]), *arguments)
    ours = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    assert (status, len(ours)) == (2, 1), errors
    assert message in ours[0]
    if run is not None and before is not None:
        changed = {path.name for path, content in before.items() if path.read_bytes() != content}
        assert changed <= {"run.json"}


def test_a_run_that_goes_on_is_not_measured(gan_lightning, trained, tmp_path):
    import fcntl

    run = trained("GAN", tmp_path)
    with (run / ".running").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, _, errors = gan_lightning("measure", run)
    assert (status, "the run must have ended" in errors) == (2, True), errors


def test_a_labelled_measurement_on_unlabelled_data_says_what_it_needs(gan_lightning, trained, tmp_path):
    run = trained("SelfExGAN", tmp_path)
    pictures = tmp_path / "flat"
    pictures.mkdir()
    for i in range(12):
        Image.new("L", (40, 40), 20 * i).save(pictures / f"{i}.png")
    data = ["--data=ImageFolder", f"--data.root={pictures}", "--data.channels=1", "--data.image_size=32"]
    status, _, errors = gan_lightning("measure", run, *data, f"--data.cache_dir={tmp_path}", "--similarity.copies=2")
    assert (status, "needs a class per image" in errors) == (2, True), errors


def test_measuring_that_is_told_to_end_ends_at_once_and_loses_nothing(gan_lightning, trained, tmp_path, monkeypatch):
    run = trained("SelfExGAN", tmp_path)
    before = (run / "figures.json").read_text()
    original, steps = torch.optim.Adam.step, []

    def step(*arguments: object, **settings: object) -> object:
        steps.append(len(steps))
        if len(steps) == 30:
            assert (run / ".running").exists()
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **settings)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    status, _, errors = gan_lightning(
        "measure", run, "--synthetic_data.budgets=[20]", "--synthetic_data.steps=20000", "--synthetic_data.width=2"
    )
    assert status == 128 + signal.SIGTERM, errors
    assert len(steps) == 30
    assert (run / "figures.json").read_text() == before
    record = json.loads((run / "run.json").read_text())
    assert [each["status"] for each in record["measured"]] == ["interrupted"]
    assert not (run / ".running").exists()
