"""What the command line makes of errors of other packages: one line that names the setting and the remedy."""

import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CometLogger, CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from gan_lightning.cli.checks import check_manual_optimization
from gan_lightning.cli.messages import made, user_error
from gan_lightning.errors import SettingError
from gan_lightning.runs.loggers import RUN_FOLDER, AwaitsRunFolder


def caught(do) -> SettingError | None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is)
        do()
    return user_error(caught.value)


def without(monkeypatch, *packages: str) -> None:
    """Let packages be missing that may be installed here."""
    import sys

    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.parametrize(
    ("logger", "packages"),
    [(CometLogger, ["comet_ml"]), (MLFlowLogger, ["mlflow"]), (TensorBoardLogger, ["tensorboard", "tensorboardX"])],
)
def test_a_logger_whose_package_is_missing_says_what_to_install(monkeypatch, tmp_path, logger, packages):
    without(monkeypatch, *packages)
    settings = {"save_dir": str(tmp_path)} if logger is TensorBoardLogger else {}
    error = caught(lambda: made(logger, **settings))
    assert error is not None
    message = (
        rf"^trainer\.logger must be one whose package is installed, got {logger.__name__}, which needs .*pip install "
    )
    to_install = {CometLogger: "comet-ml"}.get(logger, rf"'gan-lightning\[{packages[0]}\]'")
    assert re.search(message + to_install, str(error)), error


def test_a_logger_with_the_place_of_another_one_goes_without_it(tmp_path, monkeypatch):
    assert made(WandbLogger, save_dir=RUN_FOLDER, offline=True).save_dir == "."
    assert isinstance(made(CSVLogger, save_dir=RUN_FOLDER), AwaitsRunFolder)
    assert made(CSVLogger, save_dir=str(tmp_path)).save_dir == str(tmp_path)


@pytest.mark.parametrize("kind", ["UsageError", "CommError", "AuthenticationError"])
def test_what_keeps_wandb_from_starting_is_said_with_the_way_out(monkeypatch, tmp_path, kind):
    import wandb

    def refuse(**_: object) -> None:
        raise getattr(wandb.errors, kind)("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setattr(wandb, "run", None)  # an earlier run of this process would be used instead
    error = caught(lambda: WandbLogger(save_dir=str(tmp_path)).experiment)
    assert "got WandbLogger: No API key configured. Log in with `wandb login`, or set" in str(error)
    assert "WANDB_MODE=offline" in str(error)


def test_a_logger_of_the_users_own_keeps_its_error():
    class Own(WandbLogger):
        @property
        def experiment(self):
            raise KeyError("mine")

    Own.__module__ = "mine"
    assert caught(lambda: Own().experiment) is None


def test_what_early_stopping_waits_for_in_vain_is_named_with_what_there_is():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.state.fn = TrainerFn.FITTING
    trainer.callback_metrics["train/loss"] = torch.tensor(1.0)
    stopping = EarlyStopping("d_loss", check_on_train_epoch_end=True)
    error = caught(lambda: stopping.on_train_epoch_end(trainer, LightningModule()))
    assert str(error).startswith(
        "EarlyStopping.monitor must be one of train/loss, got 'd_loss'. Figures of measurements"
    )


def test_a_network_that_cannot_be_compiled_names_the_setting():
    def fails() -> None:
        raise torch._dynamo.exc.TorchRuntimeError("g++: not found\nmore")

    assert re.match(r"speed\.compile must not be true .*got TorchRuntimeError: g\+\+: not found\. ", str(caught(fails)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("gradient_clip_val", 1.0), ("gradient_clip_algorithm", "norm"), ("accumulate_grad_batches", 4)],
)
def test_what_lightning_does_between_backward_and_step_is_refused_by_its_name(name, value):
    steps_itself = LightningModule()
    steps_itself.automatic_optimization = False
    plain = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = Trainer(**plain, **{name: value})
    check_manual_optimization(trainer, LightningModule())
    check_manual_optimization(Trainer(**plain), steps_itself)
    with pytest.raises(SettingError, match=rf"^trainer\.{name} must not be set with LightningModule, which steps its"):
        check_manual_optimization(trainer, steps_itself)
