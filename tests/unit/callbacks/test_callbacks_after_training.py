"""Reconstructions, pictures of features and frozen depth, after a fit and under `test`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch.testing import assert_close

from gan_lightning.callbacks import FeaturePictures, FrozenDepth, Reconstructions, RunFolder, TransferEvaluation
from gan_lightning.callbacks.transfer import untrained_extractors
from gan_lightning.data import Digits
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    DepthProtocol,
    estimate_batch_norm_statistics,
    extract_features,
    frozen_depth,
    nearest_neighbours,
    reconstruction_statistics,
)
from gan_lightning.models import GAN, MGAN, BiGAN, PermutationInvariantNetworks
from gan_lightning.nets.fold import fold_batch_norm

CPU = torch.device("cpu")


class Memory(DummyLogger):
    """Remembers what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, list[Image.Image]] = {}
        self.metrics: dict[str, float] = {}

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures[key] = images

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics


def digits(**settings: object) -> Digits:
    return Digits(**{"image_size": 8, "limit": 80, "batch_size": 40, "evaluation_batch_size": 30} | settings)


def model(kind: type = BiGAN, **settings: object) -> BiGAN:
    seed_everything(0)
    return kind(1, 8, PermutationInvariantNetworks(latent_dim=6, width=16), **settings)


def fit(tmp_path: Path, *callbacks: object, on: object = None, **settings: object) -> tuple[Memory, Path | None]:
    """Train an epoch, and return what was logged and the run's folder."""
    logger = Memory()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[*callbacks, RunFolder(str(tmp_path))],
        **quiet | settings,
    )  # fmt: skip
    trainer.fit(on or model(), digits())
    return logger, next(tmp_path.glob("*/*"), None)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_reconstructions_are_measured_on_the_whole_test_split_printed_logged_and_written(tmp_path, capsys):
    trained, callback = model(), Reconstructions(images=7)
    logger, folder = fit(tmp_path, callback, on=trained)
    trained.eval()
    images = digits().to_images(digits().store("test").images)
    with torch.no_grad():
        copies = trained.decode(trained.encode(images))
        latents = trained.sample_latents(80, torch.Generator().manual_seed(0))
        recoded = trained.encode(trained.decode(latents))
    expected = {
        "image": (images - copies).flatten(1).norm(dim=1).mean().item(),
        "latent": (latents - recoded).norm(dim=1).mean().item(),
    }
    written = json.loads((folder / "reconstructions.json").read_text())
    assert (written["model"], written["data"], written["split"], written["epochs"]) == ("BiGAN", "digits", "test", 1)
    for name, distance in expected.items():
        found = written["reconstructions"][name]
        assert found["distance"] == pytest.approx(distance, rel=1e-5)
        assert found["samples"] == 80
        assert logger.metrics[f"reconstruction/{name}"] == found["distance"]
        assert logger.metrics[f"reconstruction/{name}_other"] == found["other_distance"]
        assert f"{distance:.3f}" in capsys.readouterr().out if name == "image" else True
    shown = pixels(folder / "pictures/reconstructions.png")
    assert shown.shape == (2 * 9 + 1, 10 * 9 + 1, 3)  # one pair of rows of 10 places, 7 of them taken
    second = torch.tensor(shown[10:18, 10:18, 0]) / 127.5 - 1  # second row, second column
    assert_close(second, copies[1, 0], rtol=0, atol=0.01)
    assert (shown[:, 7 * 9 + 1 :] == 0).all()
    np.testing.assert_array_equal(np.asarray(logger.pictures["reconstructions"][0]), shown)


def test_reconstructions_with_statistics_of_real_images_are_those_of_a_model_that_has_them(tmp_path):
    trained, running, real = model(), Reconstructions(), Reconstructions(batch_norm="real")
    _, folder = fit(tmp_path, running, real, on=trained)
    assert real.measured["image"].distance != running.measured["image"].distance
    trained.eval()
    images = digits().to_images(digits().store("test").images)
    train = digits().evaluation_batches("train", CPU)
    with reconstruction_statistics(trained, train), torch.no_grad():
        distances = (images - trained.decode(trained.encode(images))).flatten(1).norm(dim=1)
    assert real.measured["image"].distance == pytest.approx(distances.mean().item(), rel=1e-5)
    assert json.loads((folder / "reconstructions.json").read_text())["batch_norm"] == "real"


def test_what_is_measured_under_test_is_what_was_measured_after_the_fit(tmp_path):
    trained, first, again = model(), Reconstructions(), Reconstructions()
    fit(tmp_path / "fit", first, on=trained)
    quiet = {"enable_progress_bar": False, "logger": False}
    Trainer(callbacks=[again], accelerator="cpu", **quiet).test(trained, digits(), verbose=False)
    assert again.measured == first.measured


def test_measuring_changes_nothing_in_the_model(tmp_path):
    plain = model()
    fit(tmp_path / "plain", on=plain)
    measured, depth = model(), FrozenDepth(["encoder"], DepthProtocol(epochs=1))
    fit(tmp_path / "measured", Reconstructions(), FeaturePictures(neighbours=2), depth, on=measured)
    assert_close(measured.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in measured.parameters())


@pytest.mark.parametrize(
    ("callback", "on"),
    [(Reconstructions(enabled=False), model()), (Reconstructions(), model(GAN)), (FrozenDepth(), model())],
)
def test_what_is_off_or_has_no_encoder_is_passed_over(tmp_path, callback, on):
    logger, folder = fit(tmp_path, callback, on=on)
    assert not [name for name in logger.metrics if name.startswith(("reconstruction", "depth"))]
    assert not list(folder.glob("*.json")) or [path.name for path in folder.glob("*.json")] == ["run.json"]


def test_a_trial_batch_measures_nothing(tmp_path):
    logger, folder = fit(
        tmp_path, Reconstructions(), FeaturePictures(neighbours=200), FrozenDepth(["no such"]), fast_dev_run=True
    )
    assert folder is None
    assert not logger.pictures


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_weights_of_any_precision_are_measured_and_drawn(tmp_path, precision):
    callback = Reconstructions()
    fit(tmp_path, callback, FeaturePictures(neighbours=2), precision=precision)
    assert 0 < callback.measured["image"].distance < 16
    assert len(list(tmp_path.rglob("pictures/*.png"))) == 6


def test_mixed_precision_is_not_for_measuring(tmp_path):
    trained, callback = model(), Reconstructions()
    fit(tmp_path, callback, on=trained, precision="bf16-mixed")
    again = Reconstructions()
    Trainer(callbacks=[again], accelerator="cpu", enable_progress_bar=False, logger=False).test(
        trained, digits(), verbose=False
    )
    assert again.measured == callback.measured


def test_test_images_that_come_one_by_one_are_refused_before_a_folder_is_made(tmp_path):
    trainer = Trainer(
        callbacks=[Reconstructions(), RunFolder(str(tmp_path))], max_epochs=1, logger=False, accelerator="cpu"
    )
    with pytest.raises(SettingError, match=r"data\.evaluation_batch_size must be at least 2 .*enabled=false"):
        trainer.fit(model(), digits(evaluation_batch_size=1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_a_known_label_is_refused_before_a_folder_is_made(tmp_path, split):
    data = digits()
    data.setup("fit")
    data.store(split).labels.fill_(-1)
    trainer = Trainer(
        callbacks=[TransferEvaluation(), RunFolder(str(tmp_path))], max_epochs=1, logger=False, accelerator="cpu"
    )
    with pytest.raises(DataError, match=rf"no {split} image of digits has one.*transfer\.enabled=false"):
        trainer.fit(model(), data)
    assert not list(tmp_path.iterdir())


def test_untrained_extractors_leave_the_generators_of_gpus_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    untrained_extractors(model(), 5)
    assert 5 not in seeded


def test_filters_are_drawn_of_every_network_that_touches_images(tmp_path):
    logger, folder = fit(tmp_path, FeaturePictures())
    names = {"filters-encoder.png", "filters-generator.png", "filters-discriminator.png"}
    assert {path.name for path in (folder / "pictures").iterdir()} == names
    assert pixels(folder / "pictures/filters-encoder.png").shape == (52, 16 * 50 + 2, 3)  # 16 of 48, frames of 2
    assert set(logger.pictures) == {"filters/encoder", "filters/generator", "filters/discriminator"}


def test_heads_that_touch_no_image_are_left_out(tmp_path):
    seed_everything(0)
    mgan = MGAN(1, 32, base_width=4, feature_dim=8, generators=2, fake_batch_size=4)
    Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[FeaturePictures(), RunFolder(str(tmp_path))],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    ).fit(mgan, digits(image_size=32))  # fmt: skip
    names = {path.name for path in tmp_path.rglob("filters-*.png")}
    assert names == {"filters-generator_trunk.png", "filters-discriminator.png", "filters-classifier.png"}


def test_neighbours_are_those_of_the_extractor(tmp_path):
    trained = model()
    _, folder = fit(tmp_path, FeaturePictures(filters=False, neighbours=3, queries=2), on=trained)
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        "neighbours-encoder.png",
        "neighbours-encoder_hidden.png",
    }
    data = digits()
    images = data.to_images(data.store("train").images)
    features = [
        extract_features({"": trained.encoder}, data.evaluation_batches(split, CPU))[0][""]
        for split in ("test", "train")
    ]
    third = nearest_neighbours(features[0][:2], features[1], 3, "cosine")[1, 2]
    shown = torch.tensor(pixels(folder / "pictures/neighbours-encoder.png")[10:18, 28:36, 0]) / 127.5 - 1
    assert_close(shown, images[third, 0], rtol=0, atol=0.01)


def test_more_neighbours_than_training_images_are_refused_before_a_folder_is_made(tmp_path):
    with pytest.raises(SettingError, match=r"pictures\.neighbours must be at most 80, the number .* got 81"):
        fit(tmp_path, FeaturePictures(neighbours=81))
    assert not list(tmp_path.iterdir())


def test_depth_is_that_of_the_named_extractor_beside_random_weights_of_the_models_own(tmp_path, capsys):
    trained, protocol = model(), DepthProtocol(epochs=2, batch_size=20)
    callback = FrozenDepth(["encoder_hidden"], protocol, seed=3)
    logger, folder = fit(tmp_path, callback, on=trained)
    fresh = untrained_extractors(trained, 3)["encoder_hidden"]
    expected = frozen_depth(
        trained.extractors()["encoder_hidden"], digits(), fresh=fresh, protocol=protocol, device=CPU, seed=3
    )
    figures = [(r.weights, r.stage, r.accuracy) for r in expected]
    assert [(r.weights, r.stage, r.accuracy) for r in callback.records["encoder_hidden"]] == figures
    written = json.loads((folder / "depth.json").read_text())
    assert [(r["weights"], r["stage"], r["accuracy"]) for r in written["records"]["encoder_hidden"]] == figures
    assert written["protocol"]["epochs"] == 2
    logged = {name: value for name, value in logger.metrics.items() if name.startswith("depth")}
    assert logged == {f"depth/encoder_hidden/{s}/accuracy": a for weights, s, a in figures if weights == "trained"}
    assert f"{figures[0][2]:.4f}" in capsys.readouterr().out


def test_folded_depth_trains_without_batch_norm_from_scaled_random_weights(tmp_path):
    trained, protocol = model(), DepthProtocol(epochs=1, batch_size=20)
    callback = FrozenDepth(["encoder_hidden"], protocol, batch_norm="real", fold_batch_norm=True)
    fit(tmp_path, callback, on=trained)
    networks = trained.extractors()["encoder_hidden"], untrained_extractors(trained, 0)["encoder_hidden"]
    for network in networks:
        estimate_batch_norm_statistics(network, digits().evaluation_batches("train", CPU))
    extractor, fresh = map(fold_batch_norm, networks)
    expected = frozen_depth(extractor, digits(), fresh=fresh, protocol=protocol, device=CPU)
    assert [r.accuracy for r in callback.records["encoder_hidden"]] == [r.accuracy for r in expected]


@pytest.mark.parametrize("names", [["nothing"], ["encoder", "nothing"]])
def test_an_unknown_extractor_is_refused_before_a_folder_is_made(tmp_path, names):
    message = (
        r"depth\.extractors must name extractors of BiGAN .*, got \['nothing'\]\. "
        r"Choose from \['encoder', 'encoder_hidden'\]"
    )
    with pytest.raises(SettingError, match=message):
        fit(tmp_path, FrozenDepth(names))
    assert not list(tmp_path.iterdir())


def test_depth_needs_data_with_labels(tmp_path):
    with pytest.raises(DataError, match=r"frozen-depth evaluation needs a data module .* leave out depth\.extractors"):
        Trainer(callbacks=[FrozenDepth(["encoder"])], logger=False, accelerator="cpu", max_epochs=1).fit(
            model(), digits().train_dataloader()
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reconstructions(images=0), r"reconstructions\.images must be at least 1, got 0"),
        (lambda: FeaturePictures(neighbours=-1), r"pictures\.neighbours must be at least 0, got -1"),
        (lambda: FeaturePictures(queries=0), r"pictures\.queries must be at least 1, got 0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(SettingError, match=message):
        make()
