"""When generated images are judged, what that leaves behind and alone, and checkpoints that are chosen by it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from scipy.stats import spearmanr
from torch import nn
from torch.testing import assert_close

from gan_lightning.callbacks import GenerationQuality, RunFolder, TransferEvaluation
from gan_lightning.data import Digits
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import ImportedNetwork, QualityReference, SmallClassifier, TunedProtocol
from gan_lightning.models import GAN, MGAN, PermutationInvariantNetworks

CPU = torch.device("cpu")
FID = "quality/fid/digits-classifier"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keep the classifiers of these tests to themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


class Memory(DummyLogger):
    """Remembers what is logged, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append((step, value))


def digits(**settings: object) -> Digits:
    return Digits(**{"image_size": 8, "limit": 80, "batch_size": 40, "evaluation_batch_size": 30} | settings)


def model() -> GAN:
    seed_everything(0)
    return GAN(1, 8, PermutationInvariantNetworks(latent_dim=6, width=16))


def mgan() -> MGAN:
    seed_everything(0)
    return MGAN(1, 32, base_width=4, feature_dim=8, generators=4, fake_batch_size=8)


def small(**settings: object) -> SmallClassifier:
    return SmallClassifier(**{"width": 4, "feature_dim": 10, "steps": 40} | settings)


def quality(**settings: object) -> GenerationQuality:
    return GenerationQuality(**{"enabled": True, "network": small()} | settings)


def transfer(every_n_epochs: int) -> TransferEvaluation:
    return TransferEvaluation(paper=None, tuned=TunedProtocol(strengths=(0.1,)), every_n_epochs=every_n_epochs)


def fit(tmp_path: Path, *callbacks: object, on: object = None, data: object = None, **settings: object):
    """Train two epochs, and return what was logged and the run's folder."""
    logger = Memory()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    Trainer(
        logger=logger, callbacks=[*callbacks, RunFolder(str(tmp_path))],
        **{"accelerator": "cpu", "max_epochs": 2} | quiet | settings,
    ).fit(on or model(), data or digits())  # fmt: skip
    return logger, next(tmp_path.glob("*/*"), None)


def test_the_finished_model_is_judged_printed_logged_and_written(tmp_path, capsys):
    trained, callback = model(), quality()
    logger, folder = fit(tmp_path, callback, on=trained)
    data = digits()
    data.setup("fit")
    expected = QualityReference.of(small(), data).measure(trained)
    assert callback.measured == expected
    written = json.loads((folder / "quality.json").read_text())
    assert written["generated"]["quality"]["fid"] == expected.quality.fid
    assert (written["generated"]["quality"]["images"], written["generated"]["quality"]["features"]) == (80, 10)
    assert (written["model"], written["data"], written["split"], written["epochs"]) == ("GAN", "digits", "test", 2)
    assert written["network"]["name"] == "digits-classifier"
    assert written["network"]["settings"]["class"] == "SmallClassifier"
    assert 0 < written["network"]["test_accuracy"] <= 1
    assert written["other_real_images"]["quality"]["fid"] < expected.quality.fid
    assert (written["curve"], written["against_features"]) == ([], [])
    logged = {name: values for name, values in logger.metrics.items() if name.startswith("quality/")}
    assert logged == {f"quality/{name}/digits-classifier": [(4, value)] for name, value in expected.figures().items()}
    printed = capsys.readouterr().out
    assert f"{expected.quality.fid:.4f}" in printed
    assert "Other real images" in printed
    assert (folder / "pictures/classes.png").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_on_its_way_to_the_gpu_is_judged_there(tmp_path):
    callback = quality()
    fit(tmp_path, callback, accelerator="gpu", devices=1)
    assert callback.measured is not None


def test_each_generator_has_a_row_of_classes(tmp_path):
    _, folder = fit(tmp_path, quality(), on=mgan(), data=digits(image_size=32))
    written = json.loads((folder / "quality.json").read_text())
    counts = written["generated"]["classes"]["counts"]
    assert [len(row) for row in counts] == [10] * 4
    assert [sum(row) for row in counts] == [20] * 4
    assert written["generators"] == 4
    assert np.asarray(Image.open(folder / "pictures/classes.png")).shape[0] == 54 + 4 * 28 + 12


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_judging_changes_nothing_in_the_training(tmp_path, precision):
    plain, judged, callback = model(), model(), quality(every_n_epochs=1)
    states = []
    for name, trained, callbacks in (("plain", plain, []), ("judged", judged, [callback])):
        seed_everything(1)
        fit(tmp_path / name, *callbacks, on=trained, precision=precision)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    assert_close(judged.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in judged.parameters())
    assert np.isfinite(list(callback.measured.figures().values())).all()
    again = quality()
    fit(tmp_path / "again", again, on=judged, precision=precision)  # weights that are of another type before the fit
    assert again.measured is not None


def test_mixed_precision_is_not_for_judging(tmp_path):
    trained, callback, again = model(), quality(), quality()
    fit(tmp_path, callback, on=trained, precision="bf16-mixed")
    Trainer(callbacks=[again], accelerator="cpu", enable_progress_bar=False, logger=False).test(
        trained, digits(), verbose=False
    )
    assert again.measured == callback.measured


@pytest.mark.parametrize(("every", "epochs", "expected"), [(0, 2, [2]), (1, 2, [1, 2]), (2, 3, [2, 3])])
def test_it_is_measured_as_often_as_asked_and_once_at_the_end(tmp_path, every, epochs, expected):
    callback = quality(every_n_epochs=every)
    logger, folder = fit(tmp_path, callback, max_epochs=epochs)
    assert [step for step, _ in logger.metrics[FID]] == [2 * epoch for epoch in expected]
    written = json.loads((folder / "quality.json").read_text())["curve"]
    assert [row["epoch"] for row in written] == (expected if every else [])
    assert [row[FID] for row in written] == [fid for _, fid in logger.metrics[FID]][: len(written)]
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert len([row for row in rows if row[FID]]) == len(expected)


def test_quality_and_features_are_drawn_on_one_time_axis_with_their_rank_correlation(tmp_path):
    callbacks = transfer(1), quality(every_n_epochs=1)
    logger, folder = fit(tmp_path, *callbacks, max_epochs=5)
    (found,) = json.loads((folder / "quality.json").read_text())["against_features"]
    accuracy = "transfer/discriminator/tuned/accuracy"
    assert (found["quality"], found["features"], found["points"]) == (FID, accuracy, 5)
    curves = [[value for _, value in logger.metrics[name]] for name in (FID, accuracy)]
    assert [len(curve) for curve in curves] == [5, 5]
    assert found["spearman"] == pytest.approx(spearmanr(*curves).statistic)
    assert (folder / "pictures/quality-and-features.png").exists()


def test_without_curves_of_both_there_is_no_such_picture(tmp_path):
    _, folder = fit(tmp_path, transfer(0), quality(every_n_epochs=1))
    assert json.loads((folder / "quality.json").read_text())["against_features"] == []
    assert not (folder / "pictures/quality-and-features.png").exists()


@pytest.mark.parametrize(
    ("monitor", "mode", "best"),
    [(FID, "min", min), ("transfer/discriminator/tuned/accuracy", "max", max)],
)
def test_checkpoints_are_chosen_by_quality_or_by_features(tmp_path, monitor, mode, best):
    checkpoint = ModelCheckpoint(filename="{epoch}", monitor=monitor, mode=mode, save_top_k=-1)
    callbacks = transfer(1), quality(every_n_epochs=1)
    logger, folder = fit(tmp_path, *callbacks, checkpoint, max_epochs=4, enable_checkpointing=True)
    # After the last epoch's accuracy comes the final one, with the controls.
    curve = [value for _, value in logger.metrics[monitor]][:4]
    scores = {path: score.item() for path, score in checkpoint.best_k_models.items()}
    saved = [str(folder / f"checkpoints/epoch={epoch}.ckpt") for epoch in range(4)]
    assert scores == pytest.approx(dict(zip(saved, curve, strict=True)), rel=1e-6)
    chosen = curve.index(best(curve))
    assert checkpoint.best_model_path == saved[chosen]
    again, data = quality(), digits()
    trained = model()
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False}
    Trainer(callbacks=[again], **quiet).test(trained, data, ckpt_path=checkpoint.best_model_path, verbose=False)
    fids = [value for _, value in logger.metrics[FID]]
    assert again.measured.quality.fid == pytest.approx(fids[chosen], rel=1e-9)


def test_a_checkpoint_is_not_judged_by_an_older_epochs_figure(tmp_path):
    # Validation every second epoch makes Lightning look in between, right after it.
    checkpoint = ModelCheckpoint(filename="{epoch}", monitor=FID, mode="min", every_n_epochs=2, save_top_k=-1)
    logger, _ = fit(
        tmp_path, quality(every_n_epochs=2), checkpoint, max_epochs=4, enable_checkpointing=True,
        check_val_every_n_epoch=2,
    )  # fmt: skip
    scores = {Path(path).name: score.item() for path, score in checkpoint.best_k_models.items()}
    fids = [value for _, value in logger.metrics[FID]]
    assert scores == pytest.approx({"epoch=1.ckpt": fids[0], "epoch=3.ckpt": fids[1]})


@pytest.mark.parametrize(
    ("callbacks", "checkpoint", "message"),
    [
        ((quality(),), {"monitor": FID}, rf"'{FID}', which is not\. Set --quality\.enabled=true"),
        ((GenerationQuality(),), {"monitor": FID}, r"Set --quality\.enabled=true and --quality\.every_n_epochs=1"),
        ((quality(every_n_epochs=1),), {"monitor": "quality/fid/x"}, rf"must be one of .*{FID}.*got 'quality/fid/x'"),
        ((quality(every_n_epochs=2),), {"monitor": FID}, r"checkpoint\.every_n_epochs must be a multiple of .* 2, .*"),
        (
            (quality(every_n_epochs=2),), {"monitor": FID, "every_n_train_steps": 3},
            r"checkpoint\.every_n_epochs must be a multiple of .* got 0",
        ),
        (
            (quality(every_n_epochs=1),), {"monitor": FID, "save_on_train_epoch_end": False},
            r"save_on_train_epoch_end must not be false",
        ),
        (
            (quality(every_n_epochs=1),), {"monitor": FID, "mode": "max"},
            rf"checkpoint\.mode must be min with checkpoint\.monitor={FID}, got max, which would keep the worst",
        ),
        (
            (transfer(1),), {"monitor": "transfer/discriminator/tuned/accuracy"},
            r"checkpoint\.mode must be max with .* got min",
        ),
        ((transfer(0),), {"monitor": "transfer/encoder/tuned/accuracy"}, r"--transfer\.every_n_epochs=1"),
        (
            (transfer(1),), {"monitor": "transfer/encoder/tuned/accuracy"},
            r"must be one of transfer/discriminator/tuned/accuracy, got 'transfer/encoder/tuned/accuracy'",
        ),
    ],
)  # fmt: skip
def test_a_figure_that_is_not_there_when_checkpoints_look_is_refused_before_a_folder_is_made(
    tmp_path, callbacks, checkpoint, message
):
    with pytest.raises(SettingError, match=message):
        fit(tmp_path, *callbacks, ModelCheckpoint(**checkpoint), enable_checkpointing=True)
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_has_the_whole_curve(tmp_path):
    first = quality(every_n_epochs=1), transfer(1)
    fit(tmp_path / "first", *first, ModelCheckpoint(str(tmp_path), "saved"), max_epochs=2, enable_checkpointing=True)
    again = quality(every_n_epochs=1), transfer(1)
    seed_everything(0)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, callbacks=[*again], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model(), digits(), ckpt_path=str(tmp_path / "saved.ckpt"))
    assert list(again[0].curve) == [1, 2, 3]
    assert again[0].curve[1] == first[0].curve[1]
    # The second run's checkpoint is of the end of its last epoch, which the transfer evaluation leaves to what follows.
    assert list(again[1].curve) == [1, 3]


def test_a_callback_that_is_used_again_begins_a_new_curve(tmp_path):
    callback = quality(every_n_epochs=1)
    fit(tmp_path / "first", callback, max_epochs=3)
    fit(tmp_path / "second", callback, max_epochs=1)
    assert list(callback.curve) == [1]


class Mute(LightningModule):
    """A model that generates nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0].flatten(1)).mean()


@pytest.mark.parametrize(("callback", "on"), [(GenerationQuality(), model()), (quality(every_n_epochs=1), Mute())])
def test_what_is_off_or_generates_nothing_is_passed_over(tmp_path, callback, on):
    logger, folder = fit(tmp_path, callback, on=on)
    assert not [name for name in logger.metrics if name.startswith("quality")]
    assert not (folder / "quality.json").exists()


def test_a_trial_batch_judges_nothing(tmp_path):
    logger, folder = fit(tmp_path, quality(images=2, every_n_epochs=1), fast_dev_run=True)
    assert folder is None
    assert FID not in logger.metrics


def test_too_few_images_for_fid_are_refused_before_a_folder_is_made(tmp_path):
    message = r"quality\.images must be above 10, the number of features, .* got 9 real images"
    with pytest.raises(SettingError, match=message):
        fit(tmp_path, quality(images=9))
    with pytest.raises(SettingError, match=r"number of features, .* got 8 real images"):
        fit(tmp_path, quality(), data=digits(limit=8))
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_judged_and_networks_that_cannot_be_had_are_refused_before_training(tmp_path):
    with pytest.raises(DataError, match=r"needs a data module that declares images, got NoneType.*quality\.enabled"):
        fit(tmp_path, quality(), data=digits().train_dataloader())
    with pytest.raises(SettingError, match=r"quality\.network\.network must be the import path"):
        fit(tmp_path, quality(network=ImportedNetwork("no.where")))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 1}, r"quality\.images must be at least 2, got 1"),
        ({"neighbours": -1}, r"quality\.neighbours must be at least 0, got -1"),
        ({"every_n_epochs": -1}, r"quality\.every_n_epochs must be at least 0, got -1"),
        ({"every_n_epochs": 2}, r"quality\.every_n_epochs must be 0 where quality\.enabled is false, got 2"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        GenerationQuality(**settings)
