"""NaN and infinity end a training, whatever the model, and the last good checkpoint stays."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from gan_lightning.errors import NonFiniteError
from gan_lightning.papers import MGAN
from gan_lightning.runs.finite import FiniteGuard, _is_finite, _reads_losses

LOADER = DataLoader(torch.rand(6, 2), batch_size=2)
NAN, INF = float("nan"), float("inf")


class Silent(LightningModule):
    """Optimises by hand and logs nothing; a weight becomes NaN in one batch of all."""

    def __init__(self, spoilt_in: int = -1) -> None:
        super().__init__()
        self.layer, self.spoilt_in, self.batches = nn.Linear(2, 1), spoilt_in, 0
        self.register_buffer("mask", torch.tensor([0.0, -INF]))
        self.automatic_optimization = False

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.layer(batch).square().mean())
        optimizer.step()
        if self.batches == self.spoilt_in:
            self.layer.weight.data[0, 1] = NAN
        self.batches += 1

    def validation_step(self, batch, batch_idx):
        assert self.trainer.sanity_checking or torch.isfinite(self.layer.weight).all(), "not even looked at"
        self.log("val/loss", NAN)  # of a set without images of some kind, say


class Logging(Silent):
    """Logs losses of batches, one of which is not finite in one of them."""

    def training_step(self, batch, batch_idx):
        spoilt, self.spoilt_in = self.spoilt_in, -1
        value = INF if self.batches == spoilt else 1.0
        super().training_step(batch, batch_idx)
        self.log_dict({"train/G_Loss": value, "accuracy": NAN})
        self.spoilt_in = spoilt


def fit(model: LightningModule, *callbacks: Callback, loader=LOADER, **settings: Any) -> Trainer:
    trainer = Trainer(
        callbacks=list(callbacks), logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", **{"enable_checkpointing": bool(callbacks[1:]), "max_epochs": 3, **settings},
    )  # fmt: skip
    trainer.fit(model, loader, LOADER)
    return trainer


def test_weights_that_become_nan_stop_a_silent_model_at_the_end_of_the_epoch_and_the_good_checkpoint_stays(tmp_path):
    saves = ModelCheckpoint(tmp_path, filename="{epoch}", save_last=True)
    expected = (
        r"layer\.weight is not finite after 6 batches, in epoch 1; training stops\. Last good checkpoint: (\S+)\. "
    )
    with pytest.raises(NonFiniteError, match=expected) as raised:
        fit(Silent(spoilt_in=4), saves, FiniteGuard())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["epoch=0.ckpt", "last.ckpt"]
    assert re.search(expected, str(raised.value))[1] == str(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert torch.isfinite(kept["state_dict"]["layer.weight"]).all()


@pytest.mark.parametrize("weights_only", [False, True])
def test_no_checkpoint_within_an_epoch_is_written_of_weights_that_are_not_finite(tmp_path, weights_only):
    saves = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1,
                            save_weights_only=weights_only)  # fmt: skip
    with pytest.raises(NonFiniteError, match=r"layer\.weight is not finite after 2 batches, in epoch 0"):
        fit(Silent(spoilt_in=1), FiniteGuard(), saves)
    assert [file.name for file in tmp_path.iterdir()] == ["step=1.ckpt"]


def test_a_loss_that_is_logged_stops_the_training_after_its_batch():
    with pytest.raises(NonFiniteError, match=r"train/G_Loss became inf after 5 batches, in epoch 1;.*none was saved"):
        fit(Logging(spoilt_in=4), FiniteGuard())


def test_weights_are_looked_at_where_a_training_ends_within_an_epoch():
    with pytest.raises(NonFiniteError, match=r"layer\.weight is not finite after 5 batches"):
        fit(Silent(spoilt_in=4), FiniteGuard(), max_steps=5)


def test_a_weight_that_is_not_finite_before_the_training_is_named():
    model = Silent()
    model.layer.bias.data[:] = INF
    with pytest.raises(NonFiniteError, match=r"layer\.bias is not finite before the training\. Start with other"):
        fit(model, FiniteGuard())
    model.layer.bias.data[:] = 0
    model.resting = nn.Parameter(torch.tensor(INF), requires_grad=False)
    fit(model, FiniteGuard(), max_epochs=1)


@pytest.mark.parametrize("model", [Silent(), Logging()])
def test_what_may_be_infinite_and_what_is_no_loss_of_a_batch_stops_nothing(tmp_path, model):
    assert fit(model, FiniteGuard(), ModelCheckpoint(tmp_path), val_check_interval=1).global_step == 9


def test_values_are_finite_or_not():
    assert all(map(_is_finite, (torch.ones(2, dtype=torch.int64), torch.full((3,), 1e38), torch.zeros(0), {}, "none")))
    assert not any(map(_is_finite, (torch.tensor([0, NAN]), torch.tensor([1j * INF]), torch.tensor(-INF).bfloat16())))


def test_other_devices_wait_for_losses_as_often_as_they_are_logged():
    def looked_at(kind, every):
        placed = type("Placed", (Trainer,), {"strategy": SimpleNamespace(root_device=torch.device(kind))})
        trainer = placed.__new__(placed)
        trainer.log_every_n_steps = every
        return [batches for batches in range(1, 7) if _reads_losses(trainer, batches)]

    assert looked_at("cpu", 0) == looked_at("cpu", 3) == looked_at("cuda", 1) == [1, 2, 3, 4, 5, 6]
    assert looked_at("cuda", 3) == [3, 6]
    assert looked_at("cuda", 0) == []


def test_models_of_ours_bring_the_guard_where_a_trainer_has_none(tmp_path, caplog):
    model = MGAN(1, 32, base_width=2, feature_dim=4, generators=2, fake_batch_size=4)
    loader = DataLoader([(torch.rand(1, 32, 32), 0) for _ in range(4)], batch_size=4)
    own = FiniteGuard()
    trainer = fit(model, own, loader=loader, max_epochs=1, limit_val_batches=0)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, loader)
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert sorted(names) == ["FiniteGuard", "RandomStreams", "StepCount"], "each once"
    assert names[-1] == "RandomStreams"
    assert own in trainer.callbacks
    assert "will override existing callbacks" not in caplog.text
    with torch.no_grad():
        model.discriminator_head.weight[0, 0] = INF
    with pytest.raises(NonFiniteError, match=r"discriminator_head\.weight is not finite after 2 batches, in epoch 2"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not list(tmp_path.iterdir())
