"""The monitor of the density ratio: what it measures, says, stops and keeps, and what it leaves alone."""

import csv
import logging

import jaxtyping
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.errors import DataError, NonFiniteError, SettingError
from gan_lightning.evaluation import TensorImages, drawn_images
from gan_lightning.figures import RunFigures, final_figures, read_figures
from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    BiGAN,
    DensityRatioMonitor,
    LatentRegressor,
    PermutationInvariantNetworks,
    SelfExGAN,
)
from gan_lightning.papers.mgan.density_ratio import AlarmRule, judging, ratio_statistics
from gan_lightning.papers.mgan.density_ratio_monitor import DRAWN, WHEN, ratio_picture
from gan_lightning.runs import RunFolder

SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)
CPU = torch.device("cpu")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Noise(LightningDataModule):
    """Fifteen images, three batches an epoch."""

    name, channels, label_kind, num_classes = "noise", 1, "classes", 1

    def __init__(self, count: int = 15, size: int = 6) -> None:
        super().__init__()
        self.image_size = size
        images = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.both = images, torch.zeros(count, dtype=torch.int64)

    def evaluation_batches(self, split, device):
        images = TensorImages(self.name, train=self.both, test=self.both, num_classes=1, batch_size=4)
        return images.evaluation_batches(split, device)

    def train_dataloader(self):
        return DataLoader(TensorDataset(*self.both), batch_size=5)


def gan() -> GAN:
    seed_everything(0)
    return GAN(1, 6, SMALL)


def fit(model: LightningModule, *callbacks, data=None, ckpt_path=None, **settings) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 4, "enable_checkpointing": False, **QUIET, "callbacks": list(callbacks)} | settings
    )
    torch.manual_seed(1)
    trainer.fit(model, datamodule=data or Noise(), ckpt_path=ckpt_path)
    return trainer


def written(tmp_path) -> RunFigures:
    (file,) = tmp_path.glob("*/*/figures.json")
    return read_figures(file)


def test_the_ratio_is_logged_every_n_batches_and_drawn_and_written_at_the_end(tmp_path):
    monitor = DensityRatioMonitor(every_n_batches=6, images=8, seed=3)
    model = gan()
    fit(model, RunFolder(str(tmp_path)), monitor)
    (run,) = tmp_path.glob("*/*")
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["density_ratio/spread"]]
    assert [int(row["step"]) for row in rows] == [6, 12]
    assert {name for name in rows[0] if name.startswith("density_ratio/")} == {
        f"density_ratio/{name}"
        for name in ("mean", "spread", "robust_spread", "distance", "q05", "q25", "q50", "q75", "q95", "correlation",
                     "alarm")
    }  # fmt: skip
    assert [row["density_ratio/correlation"] != "" for row in rows] == [False, True]
    images = drawn_images(Noise().evaluation_batches("train", CPU), 8, seed=3)
    with judging(model):
        expected = ratio_statistics(-model.discriminate(images)).metrics()
    for name, value in expected.items():
        assert_close(float(rows[1][f"density_ratio/{name}"]), value)
    found = final_figures(written(tmp_path).figures)
    assert {f.metric: f.value for f in found if not f.is_point} == {
        name: value for name, value in monitor.history[-1].items() if name not in WHEN
    }
    over_epochs = {(f.metric, f.epoch, f.batches): f.value for f in written(tmp_path).figures if f.epoch == 2}
    assert over_epochs == {(name, 2, 6): monitor.history[0][name] for name in ("spread", "distance")}
    spreads = {f.at: f.value for f in found if f.metric == "spread" and f.is_point}
    assert spreads == {check["batch"]: check["spread"] for check in monitor.history}
    assert {(f.images, f.split, f.epoch, f.batches, f.axis) for f in found if f.is_point} == {
        (8, "train", 4, 12, "batch")
    }
    section = written(tmp_path).sections["density_ratio"]
    assert section.details == {"checks": 2, "alarms": [], "stopped": False}
    assert (
        section.settings["rule"].items() >= {"watch": "distance", "factor": 3.0, "patience": 2, "warm_up": 50}.items()
    )
    assert Image.open(run / "pictures/density_ratio.png").size[0] > 500


def test_the_images_are_drawn_from_all_of_the_split_by_the_seed():
    batches = Noise().evaluation_batches("train", CPU)
    drawn = drawn_images(batches, 6, seed=0)
    places = [int((batches.images == image).flatten(1).all(1).nonzero()) for image in drawn]
    assert places == sorted(set(places))
    assert max(places) > 6
    assert torch.equal(drawn, drawn_images(batches, 6, seed=0))
    assert not torch.equal(drawn, drawn_images(batches, 6, seed=1))
    assert torch.equal(drawn_images(batches, 100, seed=0), batches.images)


def models():
    """Yield each kind of model, always with the same weights, and the size of its images."""
    kinds = {
        MGAN: {"base_width": 2, "feature_dim": 4, "generators": 3, "fake_batch_size": 6},
        SelfExGAN: {"tables": "mnist", "base_width": 2},
    } | {kind: {"networks": SMALL} for kind in (GAN, BiGAN, LatentRegressor)}
    for kind, settings in kinds.items():
        size = 6 if "networks" in settings else 32
        seed_everything(0)
        yield kind(1, size, **settings), size


def test_looking_on_changes_nothing_in_any_model():
    for (watched, size), (alone, _) in zip(models(), models(), strict=True):
        monitor = DensityRatioMonitor(every_n_batches=1)
        fit(watched, monitor, data=Noise(10, size), max_epochs=1)
        fit(alone, data=Noise(10, size), max_epochs=1)
        assert len(monitor.history) == 2, type(watched)
        assert_close(watched.state_dict(), alone.state_dict(), rtol=0, atol=0)
        assert all(layer.training for layer in watched.modules())


LOGITS = {
    MGAN: lambda model, images: model.discriminator_head(model.discriminator(images))[:, 0],
    SelfExGAN: lambda model, images: model.discriminator(images)[:, 0],
    GAN: lambda model, images: model.discriminator(images)[:, 0],
    BiGAN: lambda model, images: model.discriminator(images, model.encode(images)),
    LatentRegressor: lambda model, images: model.discriminator(images)[:, 0],
}


def test_every_models_logits_are_those_of_its_discriminator_of_images_or_of_pairs():
    for model, size in models():
        model.eval()
        images = torch.rand(5, 1, size, size) * 2 - 1
        assert_close(model.real_logits(images), LOGITS[type(model)](model, images))
    with torch.no_grad():
        large = BiGAN(1, 12, type("Half", (PermutationInvariantNetworks,), {"generated_size": lambda *_: 6})(3, 8))
        assert large.real_logits(torch.rand(4, 1, 12, 12)).shape == (4,)


class Scripted(LightningModule):
    """A discriminator whose logits for real images are a script's."""

    def __init__(self, *scales: float) -> None:
        super().__init__()
        self.layer, self.scales = nn.Linear(1, 1), scales

    def real_logits(self, images):
        scale = self.scales[min(self.trainer.global_step, len(self.scales)) - 1]
        return scale * torch.linspace(-1, 1, len(images))

    def training_step(self, batch, batch_idx):
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


RULE = AlarmRule(patience=1, warm_up=1, factor=3.0)
COLLAPSE = (9.0, 1.0, 1.0, 1.1, 4.0, 5.0, 1.0, 6.0)


def test_a_collapse_is_said_once_with_its_figure_and_training_goes_on(tmp_path, caplog):
    monitor = DensityRatioMonitor(1, alarm=RULE)
    with caplog.at_level(logging.WARNING):
        trainer = fit(Scripted(*COLLAPSE), RunFolder(str(tmp_path)), monitor, max_epochs=3)
    said = [r.getMessage() for r in caplog.records if "density ratio" in r.getMessage()]
    assert len(said) == 2  # of the two collapses, not of each check
    assert (
        "after batch 5, in epoch 1: the distance of log α over 15 real images is 2.47, 4.0 times the 0.617" in said[0]
    )
    assert trainer.global_step == 9
    assert [check["alarm"] for check in monitor.history] == [0, 0, 0, 0, 1, 1, 0, 1, 1]
    assert written(tmp_path).sections["density_ratio"].details == {
        "checks": 9,
        "alarms": [5, 6, 8, 9],
        "stopped": False,
    }


def test_a_collapse_stops_the_training_if_asked_to_and_says_why(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        monitor = DensityRatioMonitor(1, alarm=RULE, stop=True)
        trainer = fit(Scripted(*COLLAPSE), RunFolder(str(tmp_path)), monitor, max_epochs=3)
    assert trainer.global_step == 5
    assert "The training stops, as `stop` asks for" in caplog.text
    assert written(tmp_path).sections["density_ratio"].details["stopped"]


def test_without_a_rule_there_is_no_alarm():
    monitor = DensityRatioMonitor(1, alarm=None)
    fit(Scripted(*COLLAPSE), monitor, max_epochs=3)
    assert all("alarm" not in check for check in monitor.history)


def test_a_run_that_is_resumed_goes_on_with_the_series(tmp_path):
    def monitored(*more, **settings) -> DensityRatioMonitor:
        monitor = DensityRatioMonitor(1, alarm=RULE)
        saved = ModelCheckpoint(tmp_path, filename="half", save_top_k=-1, every_n_epochs=1)
        fit(Scripted(*COLLAPSE), monitor, *([saved] if "half" in more else []), **settings,
            enable_checkpointing="half" in more)  # fmt: skip
        return monitor

    straight = monitored(max_epochs=3)
    assert len(monitored("half", max_epochs=1).history) == 3
    checkpoint = tmp_path / "half.ckpt"
    torch.load(checkpoint, weights_only=True)  # nothing in it that would have to be trusted
    assert monitored(max_epochs=3, ckpt_path=checkpoint).history == straight.history


def test_a_series_of_other_images_is_not_gone_on_with(caplog):
    monitor = DensityRatioMonitor(1, alarm=RULE)
    fit(Scripted(1.0), monitor, max_epochs=1)
    state = monitor.state_dict()
    same, other = DensityRatioMonitor(1), DensityRatioMonitor(1, seed=1)
    same.load_state_dict(state)
    with caplog.at_level(logging.WARNING):
        other.load_state_dict(state)
    assert (len(same.history), len(other.history)) == (3, 0)
    assert "its series starts anew" in caplog.text


def test_logits_that_are_not_finite_end_the_run_with_one_line():
    with pytest.raises(NonFiniteError, match=r"got 15 of 15 that are not.*Found after batch 2, in epoch 0\."):
        fit(Scripted(1.0, float("nan")), DensityRatioMonitor(1))


def test_models_that_judge_no_images_and_data_without_images_are_passed_over(tmp_path):
    seed_everything(0)
    finished = tmp_path / "gan.ckpt"
    fit(gan(), max_epochs=1).save_checkpoint(finished)
    alone = LatentRegressor(1, 6, SMALL, gan_checkpoint=str(finished))
    assert alone.real_logits(torch.zeros(2, 1, 6, 6)) is None
    for model in (alone, Autoencoder(1, 6, SMALL)):
        monitor = DensityRatioMonitor(1)
        fit(model, monitor, max_epochs=1)
        assert monitor.history == []
    monitor = DensityRatioMonitor(1)
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, callbacks=[monitor], **QUIET)
    trainer.fit(Scripted(1.0), Noise().train_dataloader())
    assert monitor.history == []
    for settings in ({"every_n_batches": 0}, {}):
        monitor = DensityRatioMonitor(**{"every_n_batches": 1} | settings)
        fit(Scripted(1.0), monitor, fast_dev_run=not settings)
        assert monitor.history == []


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="needs two training images, and noise has 1"):
        fit(Scripted(1.0), DensityRatioMonitor(1), data=Noise(count=1))


def test_the_picture_of_a_long_run_keeps_its_alarms():
    history = [{"batch": float(i), "mean": 0.0, "spread": 1.0 + (i == 3), "alarm": float(i == 3)} for i in range(1000)]
    with_alarm = ratio_picture(history)
    without = ratio_picture([check | {"alarm": 0.0} for check in history])
    assert with_alarm.shape[1] > without.shape[1]  # a panel more
    assert not torch.equal(ratio_picture(history[:DRAWN]), with_alarm)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_batches": -1}, r"every_n_batches must be at least 0, got -1"),
        ({"images": 1}, r"images must be at least 2, got 1"),
        ({"batch_norm": "real"}, r"batch_norm must be one of batch, running, got 'real'"),
        ({"stop": True, "alarm": None}, r"stop must be false without an alarm, got true"),
    ],
)
def test_settings_out_of_range_are_refused(monkeypatch, settings, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse some by their type
    with pytest.raises(SettingError, match=message):
        DensityRatioMonitor(**settings)
