"""A run that was ended and goes on leaves what one that was never ended leaves, bit for bit."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, seed_everything
from resuming import At, Dies, checkpoint_of, dies, differing, same, terminate

from gan_lightning.data import Digits
from gan_lightning.evaluation import PaperProbe
from gan_lightning.measurements import Samples, Transfer
from gan_lightning.papers import (
    GAN,
    MGAN,
    Anatomy,
    Autoencoder,
    BiGAN,
    DensityRatioMonitor,
    InverseExamples,
    LatentRegressor,
    PermutationInvariantNetworks,
    SelfExGAN,
    SubproblemMonitor,
    TutorialNetworks,
)
from gan_lightning.runs import Checkpoints, Interruption, Measure, RandomStreams, RunFolder, Trainer
from gan_lightning.runs.interruption import Interrupted

MLP = PermutationInvariantNetworks(latent_dim=4, width=8)
SMALL = {"base_width": 4, "feature_dim": 8, "generators": 2, "fake_batch_size": 8, "latent_dim": 4}
MODELS: dict[str, Callable[[], LightningModule]] = {
    "MGAN": lambda: MGAN(1, 32, **SMALL),
    "GAN": lambda: GAN(1, 32, MLP),
    "DCGAN": lambda: GAN(1, 64, TutorialNetworks(latent_dim=4, base_width=2), simultaneous=False),
    "BiGAN": lambda: BiGAN(1, 32, MLP),
    "LatentRegressor": lambda: LatentRegressor(1, 32, MLP, joint_weight=0.25),
    "Autoencoder": lambda: Autoencoder(1, 32, MLP),
    "SelfExGAN": lambda: SelfExGAN(1, 32, tables="mnist", base_width=2),
    "InverseExamples": lambda: MGAN(1, 32, **SMALL, generator_update=InverseExamples()),
}


def measuring() -> list[Callback]:
    """Return the callbacks that have something to remember over the epochs."""
    transfer = Transfer(paper=PaperProbe(epochs=1), tuned=None, every_n_epochs=1)
    measure = Measure(transfer, Anatomy(every_n_epochs=1, images=20), Samples(every_n_epochs=5))
    return [measure, DensityRatioMonitor(every_n_batches=2), SubproblemMonitor(every_n_batches=2)]


def fit(
    root: Path,
    model: str,
    *callbacks: Callback,
    resumes: Path | None = None,
    max_epochs: int = 2,
    batches: int = 3,
    validates: float = 1.0,
    **save: object,
) -> Path:
    """Train, with random cuts and flips, until the end or until a callback ends it; return the run's folder."""
    seed_everything(0, verbose=False)
    folder = RunFolder(str(root))
    own = [Interruption(), folder, *callbacks, RandomStreams(), Checkpoints(save_last="link", **save)]
    trainer = Trainer(
        max_epochs=max_epochs, logger=False, callbacks=own, log_every_n_steps=1, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, val_check_interval=validates,
    )  # fmt: skip
    made = MODELS[model]()
    size = 64 if model == "DCGAN" else 32
    data = Digits(
        batch_size=20, evaluation_batch_size=30, limit=20 * batches, image_size=size, crop_from=size + 2, flip=True
    )
    try:
        trainer.fit(made, data, ckpt_path=None if resumes is None else resumes / "checkpoints/last.ckpt")
    except (Dies, Interrupted):
        assert resumes is None
    assert folder.path is not None
    return folder.path


@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_on_from_within_an_epoch_as_if_it_had_never_been_ended(tmp_path, model):
    straight = fit(tmp_path, model, every_n_train_steps=2)
    ended = fit(tmp_path, model, At("on_train_batch_start", 3, dies), every_n_train_steps=2)
    resumed = fit(tmp_path, model, resumes=ended, every_n_train_steps=2)
    assert json.loads((resumed / "run.json").read_text())["resumed_from"] == str(ended / "checkpoints/last.ckpt")
    assert differing(resumed, straight) == []


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a run that was never ended."""
    return fit(tmp_path_factory.mktemp("straight"), "MGAN", *measuring(), every_n_epochs=1)


@pytest.mark.parametrize(
    ("save", "hook", "step"),
    [
        ({"every_n_train_steps": 2}, "on_train_batch_start", 5),
        ({"every_n_train_steps": 3}, "on_validation_batch_start", 6),
        ({"every_n_epochs": 1}, "on_train_epoch_start", 3),
        ({"every_n_epochs": 1}, "on_train_end", 6),
    ],
    ids=["within an epoch", "in a validation", "between epochs", "in the last evaluations"],
)
def test_what_was_measured_goes_on_wherever_a_run_was_ended(tmp_path, measured, save, hook, step):
    ended = fit(tmp_path, "MGAN", *measuring(), At(hook, step, dies), **save)
    resumed = fit(tmp_path, "MGAN", *measuring(), resumes=ended, **save)
    assert json.loads((resumed / "run.json").read_text())["status"] == "finished"
    assert differing(resumed, measured) == []


@pytest.mark.parametrize(
    ("hook", "step", "saved_at"),
    [
        ("on_train_batch_start", 4, 5),
        ("on_validation_batch_start", 3, 3),
        ("on_train_epoch_end", 3, 3),
        ("on_save_checkpoint", 3, 3),
        ("on_train_end", 6, 6),
    ],
    ids=["within an epoch", "in a validation", "at an epoch's end", "in a checkpoint", "in the last evaluations"],
)
def test_a_run_that_is_told_to_end_saves_and_goes_on_as_if_it_had_not_been(tmp_path, measured, hook, step, saved_at):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    told = fit(tmp_path, "MGAN", *measuring(), At(hook, step, terminate), every_n_epochs=1)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    about = json.loads((told / "run.json").read_text())
    assert (about["status"], about["error"]) == ("interrupted", "Interrupted: the run was told to end by SIGTERM")
    assert checkpoint_of(told)["global_step"] == saved_at
    resumed = fit(tmp_path, "MGAN", *measuring(), resumes=told, every_n_epochs=1)
    assert differing(resumed, measured) == []


def test_a_second_signal_ends_a_run_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("gan_lightning.runs.interruption.SAME_REQUEST", 0.0)
    twice = [At(hook, 4, terminate) for hook in ("on_train_batch_start", "on_before_optimizer_step")]
    told = fit(tmp_path, "MGAN", *twice, every_n_epochs=1)
    assert json.loads((told / "run.json").read_text())["status"] == "interrupted"
    assert checkpoint_of(told)["global_step"] == 3, "that of the first epoch's end"


@pytest.mark.parametrize("save", [{"every_n_epochs": 1}, {"every_n_train_steps": 2}])
def test_a_validation_within_an_epoch_has_the_next_batch_save(tmp_path, save):
    twice = {"batches": 5, "validates": 0.4, "max_epochs": 1, **save}
    straight = fit(tmp_path, "GAN", **twice)
    ended = fit(tmp_path, "GAN", At("on_train_batch_start", 3, dies), **twice)
    assert checkpoint_of(ended)["global_step"] == 3
    assert differing(fit(tmp_path, "GAN", resumes=ended, **twice), straight) == []


@pytest.mark.parametrize("save", [{"monitor": "step", "mode": "min"}, {"save_weights_only": True}, {"save_top_k": 0}])
def test_a_run_that_is_told_to_end_leaves_a_whole_checkpoint_whatever_is_kept(tmp_path, save):
    told = fit(tmp_path, "GAN", At("on_train_batch_start", 4, terminate), **save)
    newest = torch.load(told / "checkpoints/newest.ckpt", weights_only=True)
    assert newest["global_step"] == 5
    assert newest["optimizer_states"]


def test_where_a_metric_chooses_the_newest_is_kept_beside_the_best(tmp_path):
    run = fit(tmp_path, "GAN", monitor="step", mode="min")
    assert len(list((run / "checkpoints").iterdir())) == 3
    assert checkpoint_of(run)["global_step"] == 3, "the best"
    newest = torch.load(run / "checkpoints/newest.ckpt", weights_only=True)
    assert newest["global_step"] == 6


def test_a_run_that_goes_on_keeps_the_scores_and_the_files_of_the_best_checkpoints(tmp_path):
    best = {"monitor": "val/discriminator_loss", "save_top_k": 2, "filename": "best-{epoch}"}
    straight = fit(tmp_path, "MGAN", max_epochs=4, **best)
    ended = fit(tmp_path, "MGAN", At("on_train_epoch_start", 9, dies), max_epochs=4, **best)
    resumed = fit(tmp_path, "MGAN", resumes=ended, max_epochs=4, **best)
    kept = [{file.name for file in (run / "checkpoints").glob("best*")} for run in (straight, resumed)]
    assert kept[0] == kept[1]
    assert all(same(*(torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]
                      for run in (straight, resumed))) for name in kept[0])  # fmt: skip
