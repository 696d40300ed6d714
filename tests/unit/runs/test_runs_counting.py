"""Epochs and batches, whatever number of steps a batch takes; and the check that Lightning counts, too."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.utils.data import DataLoader

from gan_lightning.errors import SettingError
from gan_lightning.papers import MGAN
from gan_lightning.runs.counting import StepCount, batches_done, counts_in

LOADER = DataLoader(torch.rand(6, 2), batch_size=2)


class Stepper(LightningModule):
    """Steps so many times a batch, by hand; with none, Lightning steps."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        self.layer, self.steps = nn.Linear(2, 1), steps
        self.automatic_optimization = not steps

    def configure_optimizers(self):
        self.raw = torch.optim.SGD(self.parameters(), lr=0.1)
        return self.raw

    def training_step(self, batch, batch_idx):
        for _ in range(self.steps):
            self.step(self.layer(batch).sum(), self.optimizers())
        return self.layer(batch).sum()

    def step(self, loss, optimizer):
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


class Raw(Stepper):
    """Steps what Lightning does not see."""

    def step(self, loss, optimizer):
        super().step(loss, self.raw)


def fit(model: LightningModule, *callbacks: Callback, loader=LOADER, ckpt_path=None, **settings: Any) -> Trainer:
    trainer = Trainer(
        callbacks=list(callbacks), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", **{"max_epochs": 2, **settings},
    )  # fmt: skip
    trainer.fit(model, loader, ckpt_path=ckpt_path)
    return trainer


class Recorder(Callback):
    """Notes the count in each hook, and saves a checkpoint in one of them."""

    def __init__(self, hook: str = "", at: int = 0, path: str = "") -> None:
        self.seen: list[tuple[str, int]] = []

        def recording(name):
            def note(trainer, *_):
                self.seen.append((name, batches_done(trainer)))
                if self.seen[-1] == (hook, at):
                    trainer.save_checkpoint(path)

            return note

        for name in ("train_start", "train_epoch_start", "train_batch_start", "before_zero_grad", "train_batch_end",
                     "train_epoch_end", "train_end"):  # fmt: skip
            setattr(self, f"on_{name}", recording(name))


@pytest.mark.parametrize("steps", [0, 1, 3], ids=["automatic", "one by hand", "three by hand"])
@pytest.mark.parametrize(
    ("hook", "at", "epochs"), [("train_batch_end", 2, 0), ("train_epoch_end", 3, 1), ("train_batch_start", 4, 1)]
)
def test_batches_are_counted_in_every_hook_whatever_they_step_and_so_after_a_resume(tmp_path, steps, hook, at, epochs):
    path = str(tmp_path / "saved.ckpt")
    straight = Recorder(hook, at, path)
    fit(Stepper(steps), straight)
    of = {name: [count for other, count in straight.seen if other == name] for name, _ in straight.seen}
    assert of["train_start"] == [0]
    assert of["train_epoch_start"] == [0, 3]
    assert of["train_batch_start"] == [0, 1, 2, 3, 4, 5]
    assert of["train_batch_end"] == [1, 2, 3, 4, 5, 6]
    assert of["train_epoch_end"] == [3, 6]
    assert of["train_end"] == [6]
    assert counts_in(torch.load(path, weights_only=True)) == (epochs, at)
    resumed = Recorder()
    fit(Stepper(steps), resumed, ckpt_path=path)
    rest = straight.seen[straight.seen.index((hook, at)) + (hook != "train_batch_start") :]
    assert resumed.seen == [("train_start", at), *rest]


def test_a_checkpoint_without_loops_does_not_say_how_long_it_was_trained():
    assert counts_in({"state_dict": {}}) == (None, None)


def test_optimizers_that_step_unseen_end_the_training_at_the_first_batch_with_the_remedy():
    with pytest.raises(
        SettingError,
        match=r"Raw\.training_step must step an optimizer that Lightning counts .*, got 2 step\(s\) in batch 1 and "
        r"trainer\.global_step still 0: .*self\.optimizers\(\) returns, not those that configure_optimizers made\.",
    ):
        fit(Raw(2), StepCount())
    assert not _global_optimizer_post_hooks, "and nobody counts any longer"


def test_a_model_of_ours_that_does_not_say_which_step_is_the_last_is_told_so():
    class Forgetful(MGAN):
        def step(self, losses, *, last=False):
            super().step(losses)

    images = [(torch.rand(1, 32, 32), 0) for _ in range(4)]
    small = {"base_width": 2, "feature_dim": 4, "generators": 2, "fake_batch_size": 4}
    with pytest.raises(SettingError, match=r"Forgetful\.learn must end with self\.step\(\.\.\., last=True\)"):
        fit(Forgetful(1, 32, **small), loader=DataLoader(images, batch_size=2))


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}])
@pytest.mark.parametrize("steps", [0, 2])
def test_training_as_lightning_has_it_is_left_alone(steps, settings):
    if steps and settings:
        model = type("Accumulates", (Stepper,), {"step": lambda *_: None})(steps)
        settings = {}
    else:
        model = Stepper(steps)
    assert batches_done(fit(model, StepCount(), **settings)) == 6
    assert not _global_optimizer_post_hooks


def test_steps_of_another_models_optimizer_do_not_count():
    class Probes(Callback):
        def on_train_batch_start(self, trainer, *_):
            other = nn.Linear(1, 1)
            optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
            other(torch.ones(1, 1)).sum().backward()
            optimizer.step()

    still = type("Still", (Stepper,), {"step": lambda *_: None})(1)
    assert fit(still, StepCount(), Probes()).global_step == 0
