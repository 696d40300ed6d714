"""Trains each model for a few batches, alone or as one of two processes that share what one alone would see.

Shared are the images and the latents of each batch: the process of rank r takes every second row, from row r on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    BiGAN,
    LatentRegressor,
    PermutationInvariantNetworks,
    SelfExGAN,
    TutorialNetworks,
)
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.system.processes import process_count, process_rank
from gan_lightning.training.adversarial import AdversarialModule

BATCHES, BATCH_SIZE = 3, 8
MLP = PermutationInvariantNetworks(latent_dim=3, width=8)
# Plain descent shows a gradient's length, which Adam divides out.
UPDATES = {
    "sum": InverseExamples(regression_rate=0.5 / 2e-4),
    "mean": InverseExamples(regression="mean", regression_rate=1e5, regression_optimizer="sgd"),
    "l1": InverseExamples(regression="l1", regression_rate=1e-3, regression_optimizer="sgd"),
    "ssim": InverseExamples(
        regression="ssim", inversion_rate=0.1, inversion_steps=2, inversion_optimizer="adam", regression_rate=0.1,
        regression_optimizer="sgd",
    ),
    "regularised": InverseExamples(
        regression="half_sum", inversion_rate=0.5, inversion_steps=3, inversion_momentum=0.5, discrepancy="bce",
        total_variation=0.01, stay_close=0.5, clamp=True, regression_rate=0.1, regression_optimizer="sgd",
    ),
}  # fmt: skip


def mgan(shares_removed: int) -> MGAN:
    fake = BATCH_SIZE // process_count()
    return MGAN(
        1, 32, generators=2, shares_removed=shares_removed, base_width=2, feature_dim=4, latent_dim=3,
        fake_batch_size=fake,
    )  # fmt: skip


def regressor_of_a_finished_gan() -> LatentRegressor:
    model = LatentRegressor(1, 6, MLP, gan_checkpoint="a finished GAN")
    model.setup = partial(AdversarialModule.setup, model)  # there is no such file: the generator is as it was made
    return model


MODELS: dict[str, Callable[[], AdversarialModule]] = {
    "MGAN, 4 shared layers": partial(mgan, 0),
    "MGAN, no shared layer": partial(mgan, 4),
    "GAN, simultaneous": lambda: GAN(1, 6, MLP),
    "GAN, alternating": lambda: GAN(1, 6, MLP, simultaneous=False, latent_prior="normal"),
    "GAN, DCGAN's networks": lambda: GAN(1, 64, TutorialNetworks(latent_dim=3, base_width=2), simultaneous=False),
    "BiGAN, simultaneous": lambda: BiGAN(1, 6, MLP),
    "BiGAN, alternating": lambda: BiGAN(1, 6, MLP, simultaneous=False),
    "BiGAN, original objective": lambda: BiGAN(1, 6, MLP, inverse_objective=False),
    "LatentRegressor": lambda: LatentRegressor(1, 6, MLP),
    "LatentRegressor, joint": lambda: LatentRegressor(1, 6, MLP, joint_weight=0.25),
    "LatentRegressor of a finished GAN": regressor_of_a_finished_gan,
    "Autoencoder, l2": lambda: Autoencoder(1, 6, MLP),
    "Autoencoder, l1": lambda: Autoencoder(1, 6, MLP, norm=1),
    "SelfExGAN": lambda: SelfExGAN(1, 32, "mnist", base_width=2),
    **{
        f"GAN, {name}": lambda update=update: GAN(1, 12, MLP, simultaneous=False, generator_update=update)
        for name, update in UPDATES.items()
    },
    "BiGAN, regularised": lambda: BiGAN(1, 6, MLP, generator_update=UPDATES["regularised"]),
}

SYNCHRONISED = (
    "MGAN, 4 shared layers",
    "GAN, simultaneous",
    "LatentRegressor of a finished GAN",
    "SelfExGAN",
    "GAN, regularised",
)
"""Models that are also trained with batch norm, synchronised."""


class Exchanges(TorchDispatchMode):
    """Notes how many values each sum over the processes has, whoever asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "c10d::allreduce_":
            self.values.append(sum(tensor.numel() for tensor in args[0]))
        return func(*args, **(kwargs or {}))


class LastBatch(Callback):
    """Notes the exchanges of the last batch."""

    def __init__(self) -> None:
        self.exchanges = Exchanges()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == BATCHES - 1:
            self.exchanges.__enter__()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == BATCHES - 1:
            self.exchanges.__exit__(None, None, None)


@contextmanager
def shared_latents(seed: int) -> Iterator[None]:
    """Draw latents (..., count, latent) for all processes, and keep this one's."""
    rng, rank, count = torch.Generator().manual_seed(seed), process_rank(), process_count()

    def share(draw: Callable, *size: int, device=None, generator=None) -> torch.Tensor:
        assert generator is None
        whole = draw(*size[:-2], size[-2] * count, size[-1], generator=rng)
        return whole[..., rank::count, :]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rand", "randn"):
            patch.setattr(torch, name, partial(share, getattr(torch, name)))
        yield


def without_batch_norm(model: nn.Module) -> nn.Module:
    """Leave out what makes an image's features depend on the other images of its batch."""
    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, _BatchNorm):
                setattr(layer, name, nn.Identity())
    return model


def trained(name: str, batch_norm: bool) -> dict:
    """Return a model's weights and statistics before and after training, and what the last batch exchanged."""
    torch.manual_seed(1)
    model = MODELS[name]()
    model = model if batch_norm else without_batch_norm(model)
    before = {key: value.double() for key, value in model.state_dict().items()}
    size = model.hparams.image_size
    images = torch.rand(BATCHES * BATCH_SIZE, 1, size, size, dtype=torch.float64) * 2 - 1
    share = images[process_rank() :: process_count()]
    data = TensorDataset(share, torch.zeros(len(share), dtype=torch.int64))
    last = LastBatch()
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=process_count(), strategy="ddp" if process_count() > 1 else "auto",
        precision="64-true", sync_batchnorm=batch_norm, use_distributed_sampler=False, callbacks=[last], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with shared_latents(seed=2):
        trainer.fit(model, DataLoader(data, batch_size=BATCH_SIZE // process_count()))
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    assert not any("forward" in vars(layer) for layer in norms), "batch norm is still joined"
    weights = [[p.numel() for group in one.param_groups for p in group["params"]] for one in trainer.optimizers]
    return {
        "before": before,
        "after": {key: value.detach().clone() for key, value in model.state_dict().items()},
        "exchanges": last.exchanges.values,
        "weights": [sum(numels) for numels in weights],
        "alternates": not getattr(model, "simultaneous", True),
    }


def all_trained() -> dict[tuple[str, bool], dict]:
    """Return the trainings of all models without batch norm, and of some with it, synchronised."""
    runs = [(name, False) for name in MODELS] + [(name, True) for name in SYNCHRONISED]
    return {(name, batch_norm): trained(name, batch_norm) for name, batch_norm in runs}
