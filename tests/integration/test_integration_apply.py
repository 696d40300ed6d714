"""`gan-lightning apply`: every application on every model that encodes and generates, and every refusal."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.__main__ import main

CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = [
    "--data.limit=40", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.enabled=false", "--samples.every_n_epochs=0", "--run.name=trained",
]  # fmt: skip
BIGAN = ["--config", CONFIGS / "bigan/digits.yaml", "--model.networks.width=8"]
MODELS = {
    "SelfExGAN": ["--config", CONFIGS / "selfexgan/digits.yaml", "--model.base_width=2"],
    "BiGAN": ["--config", CONFIGS / "bigan/permutation_invariant_mnist.yaml", *BIGAN],
    "LatentRegressor": ["--config", CONFIGS / "bigan/latent_regressor.yaml", *BIGAN],
    "Autoencoder": ["--config", CONFIGS / "bigan/autoencoder_l2.yaml", *BIGAN],
    "GAN": ["--config", CONFIGS / "bigan/discriminator.yaml", *BIGAN],
}
APPLICATIONS = {
    "IterativeFeeding": ["--application.rounds=2", "--application.images=3"],
    "Embedding": ["--application.perplexity=5"],
    "Samples": ["--batch_norm=real"],
    "Similarity": ["--application.copies=2", "--application.pairs=2"],
    "Variations": ["--application.noise=[0.1,0.5]", "--application.images=3"],
    "SyntheticData": [
        "--application.budgets=[20]", "--application.copies=2", "--application.steps=2", "--application.seeds=1",
        "--application.width=2",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a function that trains a model for a batch, once, and gives what `apply` needs of the run."""
    runs: dict[str, Path] = {}

    def train(model: str) -> list:
        if model not in runs:
            folder = tmp_path_factory.mktemp("trained")
            main([str(argument) for argument in ("fit", *MODELS[model], *QUICK, f"--run.root={folder}")])
            (runs[model],) = folder.glob("trained/*")
        run = runs[model]
        checkpoint = run / "checkpoints/last.ckpt"
        return ["--config", run / "config.yaml", "--ckpt_path", checkpoint, "--run.root=runs", "--run.name=applied"]

    return train


@pytest.mark.parametrize("model", [model for model in MODELS if model != "GAN"])
def test_every_application_writes_its_pictures_and_figures_to_a_run_folder_of_its_own(
    gan_lightning, trained, tmp_path, model
):
    before = trained(model)
    expected = {
        "IterativeFeeding": {"strips.png"},
        "Embedding": {"t_sne.png", "arrays.npz"},
        "Similarity": {"pairs.png"},
        "Samples": {"real.png", "reconstructed.png", "sampled.png"},
        "Variations": {"noise-0.1.png", "noise-0.5.png"},
        "SyntheticData": {"synthetic.png", "data_set"},
    }
    chosen = APPLICATIONS if model == "SelfExGAN" else ["Variations"]
    for application in chosen:
        status, printed, errors = gan_lightning(
            "apply", *before, f"--application={application}", *APPLICATIONS[application], f"--run.name={application}"
        )
        assert status == 0, errors
        (run,) = tmp_path.glob(f"runs/{application}/*")
        assert f"Run folder: {run.relative_to(tmp_path)}" in printed
        about = json.loads((run / "run.json").read_text())
        assert (about["status"], about["stage"]) == ("finished", "apply")
        (file,) = (path for path in run.glob("*.json") if path.name != "run.json")
        written = json.loads(file.read_text())
        assert written["application"] == application
        assert written["batch_norm"] == ("real" if application == "Samples" else "running")
        assert written["data"] == "digits"
        assert written["checkpoint"].endswith("checkpoints/last.ckpt")
        assert {path.name for path in (run / file.stem).iterdir()} == expected[application]
        assert not list(run.rglob(".writing-*"))
        assert "apply" not in json.dumps(written["settings"])
    if model == "SelfExGAN":
        # The saved configuration does it again, to the last digit.
        (run,) = tmp_path.glob("runs/Variations/*")
        status, _, errors = gan_lightning("apply", "--config", run / "config.yaml", "--run.name=again")
        assert status == 0, errors
        (again,) = tmp_path.glob("runs/again/*")
        for name in ("variations.json", "variations/noise-0.5.png"):
            assert (again / name).read_bytes() == (run / name).read_bytes()


def test_the_synthetic_data_set_is_read_back_by_image_folder_and_trained_on(gan_lightning, trained, tmp_path):
    from gan_lightning.data import ImageFolder

    before = trained("SelfExGAN")
    arguments = APPLICATIONS["SyntheticData"]
    status, _, errors = gan_lightning("apply", *before, "--application=SyntheticData", *arguments)
    assert status == 0, errors
    (root,) = tmp_path.glob("runs/applied/*/synthetic_data/data_set")
    data = ImageFolder(root, image_size=32, cache_dir=tmp_path / "cache")
    data.setup("fit")
    train = data.store("train")
    files = sorted((root / "train").rglob("*.png"), key=lambda file: int(file.stem))
    assert len(train) == len(files) == 40  # 20 images, two copies each
    assert data.classes == sorted({file.parent.name for file in files})
    for file in files[:5]:  # what is written is what is read, in grey
        pixels = torch.from_numpy(np.asarray(Image.open(file)).copy())
        same = (train.images == pixels).flatten(1).all(dim=1)
        assert data.classes.index(file.parent.name) in train.labels[same].tolist()
    status, _, errors = gan_lightning(
        "fit", "--config", CONFIGS / "mgan/base.yaml", "--data=ImageFolder", f"--data.root={root}",
        "--data.image_size=32", f"--data.cache_dir={tmp_path / 'cache'}", "--model.base_width=4", *QUICK,
        "--data.limit=null", "--run.name=on_synthetic", "--transfer.enabled=true", "--transfer.paper.epochs=1",
        "--transfer.tuned=null", "--model.feature_dim=4",
    )  # fmt: skip
    assert status == 0, errors
    assert list(tmp_path.glob("runs/on_synthetic/*/results.json"))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("GAN", ["--application=Embedding"], "model must have an encoder and a generator for an application, got GAN"),
        (
            "SelfExGAN", ["--application=SyntheticData", "--application.budgets=[20,100]"],
            "application.budgets must be at most 40, the number of labelled training images of digits, got 100",
        ),
        ("SelfExGAN", ["--application=Embedding", "--application.perplexity=90"], "perplexity must be below"),
        ("SelfExGAN", ["--application=Variations", "--application.noise=[-1]"], "noise must be at least 0, got -1"),
        (
            "SelfExGAN", ["--application=Variations", "--trainer.devices=2", "--trainer.strategy=ddp"],
            "trainer.devices must be 1 for apply, got 2 processes",
        ),
        (
            "SelfExGAN", ["--application=Variations", "--trainer.precision=64-true"],
            "trainer.precision must keep float32 weights for apply, got '64-true'",
        ),
        ("SelfExGAN", ["--application=Variations", "--ckpt_path=null"], "ckpt_path must be given to apply, got none"),
        ("SelfExGAN", ["--application=Variations", "--model.centre=0.25"], "model.centre is 0.25 here and 0.5"),
    ],
)  # fmt: skip
def test_bad_input_ends_before_anything_is_written_with_one_clear_line(
    gan_lightning, trained, tmp_path, model, arguments, message
):
    before = trained(model)
    status, _, errors = gan_lightning("apply", *before, *arguments)
    assert (status, message in errors) == (2, True), errors
    assert len([line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]) == 1
    assert "Traceback" not in errors
    assert not (tmp_path / "runs/applied").exists()


def test_labels_that_an_application_needs_are_asked_for(gan_lightning, tmp_path, data_root):
    faces = ["--config", CONFIGS / "selfexgan/celeba.yaml", "--model.base_width=2", f"--data.root={data_root}",
             "--data.verify=false", f"--data.cache_dir={tmp_path / 'cache'}"]  # fmt: skip
    status, _, errors = gan_lightning("fit", *faces, *QUICK)
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/trained/*")
    before = ["--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt", "--run.name=applied"]
    status, _, errors = gan_lightning("apply", *before, "--application=Similarity")
    assert (status, "of CelebA, --data.labels=identity" in errors) == (2, True), errors
    status, _, errors = gan_lightning("apply", *before, "--application=Embedding", "--application.perplexity=5")
    assert status == 0, errors  # which only colours by class
