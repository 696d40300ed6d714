"""Training steps: the framework's Trainer against programs without it, M-GAN at 32x32 and DCGAN at 64x64."""

import logging
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import BareDCGAN, PlainDCGAN, PlainMGAN
from benchmarks.timing import Budget, Comparison, Turns, Work, matmul_rate, synchronise
from gan_lightning.papers import GAN, MGAN, TutorialNetworks
from gan_lightning.training.acceleration import Acceleration
from gan_lightning.training.simultaneous import DecayedAdam

Precision = Literal["32-true", "bf16-mixed", "64-true"]
BATCHES = 4
"""Batches of real images in memory, which a program goes through again and again."""


@dataclass(frozen=True)
class Settings:
    """What a user sets on the command line.

    Attributes:
        precision: `--trainer.precision`.
        channels_last: `--speed.channels_last`.
        compile: `--speed.compile`.
        compile_mode: `--speed.compile_mode`.
        fused: `--speed.fused`.
    """

    precision: Precision = "32-true"
    channels_last: bool = False
    compile: bool = False
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    fused: bool | None = None

    def trainer(self, device: torch.device, *callbacks: Callback, max_steps: int = -1) -> Trainer:
        """Return a Trainer with these settings, which writes nothing."""
        speed = Acceleration(
            channels_last=self.channels_last, compile=self.compile, compile_mode=self.compile_mode, fused=self.fused
        )
        return Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1 if device.index is None or device.type == "cpu" else [device.index],
            precision=self.precision,
            max_epochs=1,
            max_steps=max_steps,
            callbacks=[speed, *callbacks],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


FLOAT32 = Settings(channels_last=True, fused=True)
VARIANTS: Mapping[str, Settings] = {
    "default": Settings(),
    "channels_last": Settings(channels_last=True),
    "fused": Settings(fused=True),
    "compile": Settings(compile=True),
    "bf16": Settings("bf16-mixed"),
    "float32": FLOAT32,
    "recommended": replace(FLOAT32, precision="bf16-mixed"),
    "recommended+compile": replace(FLOAT32, precision="bf16-mixed", compile=True),
    "recommended+cuda_graphs": replace(FLOAT32, precision="bf16-mixed", compile=True, compile_mode="reduce-overhead"),
}
"""`float32` and `recommended` are what `docs/performance.md` advises, without and with less precision."""

MEASURED = ("default", "float32", "recommended")
"""The variants that are measured unless others are asked for."""


@dataclass(frozen=True)
class MGANSize:
    """Table 1's sizes of M-GAN.

    Attributes:
        base_width: Maps after D's first convolution.
        generators: K.
        batch_size: Real images.
        per_generator: Generated images of each generator.
        feature_dim: Of D and C.
        latent_dim: Of the generators.
    """

    base_width: int = 128
    generators: int = 10
    batch_size: int = 120
    per_generator: int = 12
    feature_dim: int = 128
    latent_dim: int = 128

    def model(self) -> MGAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return MGAN(
            3,
            32,
            generators=self.generators,
            base_width=self.base_width,
            feature_dim=self.feature_dim,
            latent_dim=self.latent_dim,
            fake_batch_size=self.generators * self.per_generator,
        )

    def loader(self, device: torch.device) -> "Repeated":
        """Return real images."""
        return Repeated(self.batch_size, 32, device)


@dataclass(frozen=True)
class DCGANSize:
    """The sizes of `configs/subproblem/dcgan_celeba.yaml`.

    Attributes:
        base_width: Maps after D's first convolution.
        batch_size: Images.
    """

    base_width: int = 64
    batch_size: int = 128

    def model(self) -> GAN:
        """Return the model, with the same weights each time."""
        seed_everything(0, verbose=False)
        return GAN(
            3,
            64,
            TutorialNetworks(base_width=self.base_width),
            DecayedAdam(weight_decay=0.0, final_share=1.0),
            simultaneous=False,
            latent_prior="normal",
        )

    def loader(self, device: torch.device) -> "Repeated":
        """Return real images."""
        return Repeated(self.batch_size, 64, device)


Size = MGANSize | DCGANSize


class Repeated:
    """A few batches of random images on the device, again and again.

    Args:
        batch_size: Images.
        image_size: Height and width, pixels.
        device: Where they are.
        length: Batches of an epoch.
    """

    def __init__(self, batch_size: int, image_size: int, device: torch.device, length: int = 10**9) -> None:
        rng = torch.Generator().manual_seed(0)
        shape = batch_size, 3, image_size, image_size
        self.images = [(torch.rand(shape, generator=rng) * 2 - 1).to(device) for _ in range(BATCHES)]
        self.labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for number in range(self.length):
            yield self.images[number % BATCHES], self.labels


def loop(step: Callable[[Tensor], object], loader: Repeated) -> Work:
    """Return a program's steps over the batches, one after the other."""
    batches = iter(loader)

    def work(steps: int) -> None:
        for _ in range(steps):
            step(next(batches)[0])

    return work


def plain(size: Size, device: torch.device) -> Work:
    """Return the steps of the program that a user would write."""
    model = size.model()
    program = PlainMGAN(model, device) if isinstance(model, MGAN) else PlainDCGAN(model, device)
    return loop(program.step, size.loader(device))


def bare(size: DCGANSize, device: torch.device) -> Work:
    """Return the steps of the same mathematics without the framework."""
    return loop(BareDCGAN(size.model(), device).step, size.loader(device))


def fit(size: Size, settings: Settings, device: torch.device, *callbacks: Callback, max_steps: int = -1) -> None:
    """Train the framework's model."""
    quiet()
    settings.trainer(device, *callbacks, max_steps=max_steps).fit(size.model(), size.loader(device))


def fits(size: Size, settings: Settings, device: torch.device) -> Work:
    """Return whole fits of so many steps."""
    return lambda steps: fit(size, settings, device, max_steps=steps)


def training_rows(
    row: str,
    size: Size,
    variants: Mapping[str, Settings],
    goals: Mapping[str, float],
    budget: Budget,
    device: torch.device,
) -> Iterator[Comparison]:
    """Yield the steps of each variant against the plain program's.

    Args:
        row: Name.
        size: Of the model.
        variants: Settings under their names.
        goals: Ratios to reach, by variant.
        budget: For each.
        device: Where.
    """
    flops = flops_per_step(size, device)
    for name, settings in variants.items():
        dtype = torch.bfloat16 if settings.precision == "bf16-mixed" else torch.float32
        rate = matmul_rate(device, dtype, seconds=min(1.0, budget.seconds / 20))
        comparison = Comparison(row, name, "plain", "step", goal=goals.get(name))
        try:
            fit(size, settings, device, Turns(comparison, plain(size, device), budget, device))
        except Exception as error:
            if not settings.compile:
                raise
            # What torch.compile cannot do here is a result.
            yield replace(comparison, failed=" ".join(f"{type(error).__name__}: {error}".split())[:500])
            continue
        seconds = statistics.median(comparison.our_seconds)
        comparison.more |= {
            "flops": flops,
            "matmul_flops_per_second": rate,
            "share_of_matmul_rate": flops / seconds / rate,
        }
        yield comparison


def overhead_row(size: DCGANSize, budget: Budget, device: torch.device) -> Comparison:
    """Return the Trainer's steps against the same mathematics in a bare loop; a ratio of 0.97 is a cost of 3%."""
    comparison = Comparison("dcgan", "default", "bare loop", "step", goal=0.97)
    fit(size, Settings(), device, Turns(comparison, bare(size, device), budget, device))
    return comparison


def flops_per_step(size: Size, device: torch.device) -> int:
    """Return the floating-point operations of a step's convolutions and matrix products, as the framework takes it."""
    counter = FlopCounterMode(display=False)
    with counter:
        fit(size, Settings(), device, max_steps=1)
    return counter.get_total_flops()


class Profiled(Callback):
    """Profiles one step, after some that warm up.

    Args:
        device: Of the step.
        warm_up: Steps before it.
    """

    def __init__(self, device: torch.device, warm_up: int = 3) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
        self.profiler, self.device, self.warm_up = profile(activities=activities), device, warm_up

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Start, if it is the step."""
        if batch_idx == self.warm_up:
            synchronise(self.device)
            self.profiler.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop after it."""
        if batch_idx == self.warm_up:
            synchronise(self.device)
            self.profiler.stop()

    def table(self, operations: int = 25) -> str:
        """Return where the time went, the longest operations first."""
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        return self.profiler.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=operations)


def profile_of(size: Size, settings: Settings, device: torch.device) -> str:
    """Return the profile of a step."""
    profiled = Profiled(device)
    fit(size, settings, device, profiled, max_steps=profiled.warm_up + 1)
    return profiled.table()


def quiet() -> None:
    """Keep Lightning from remarking on what is meant here: no validation, few workers, an unused GPU."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
