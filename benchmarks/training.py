"""Training steps: the framework's Trainer against programs without it."""

import logging
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain import BareDCGAN, BareSelfExGAN, PlainBiGAN, PlainDCGAN, PlainMGAN
from benchmarks.progress import Progress
from benchmarks.sizes import DCGANSize, Repeated, Size
from benchmarks.timing import Budget, Comparison, Pair, Schedule, Work, matmul_rate, reason, schedule
from benchmarks.turns import Turns
from gan_lightning.papers import GAN, MGAN, BiGAN, SelfExGAN
from gan_lightning.training.acceleration import Acceleration
from gan_lightning.training.step_graph import WARM_UP

Precision = Literal["32-true", "bf16-mixed", "64-true"]


@dataclass(frozen=True)
class Settings:
    """What a user sets on the command line.

    Attributes:
        precision: `--trainer.precision`.
        channels_last: `--speed.channels_last`.
        compile: `--speed.compile`.
        compile_mode: `--speed.compile_mode`.
        graph: `--speed.graph`.
        steps_per_call: `--speed.steps_per_call`.
        fused: `--speed.fused`.
    """

    precision: Precision = "32-true"
    channels_last: bool = False
    compile: bool = False
    compile_mode: Literal["default", "reduce-overhead", "max-autotune"] = "default"
    graph: bool = False
    steps_per_call: int = 1
    fused: bool | None = None

    def trainer(self, device: torch.device, *callbacks: Callback, max_steps: int = -1) -> Trainer:
        """Return a Trainer with these settings, which writes nothing."""
        speed = Acceleration(
            channels_last=self.channels_last,
            compile=self.compile,
            compile_mode=self.compile_mode,
            graph=self.graph,
            steps_per_call=self.steps_per_call,
            fused=self.fused,
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

    def schedule(
        self, comparison: Comparison, budget: Budget, progress: Progress, device: torch.device, replays: bool = False
    ) -> Schedule:
        """Return the turns of a comparison, in which these settings have the warm-up that they need.

        Args:
            comparison: Gets the times.
            budget: How long.
            progress: Is told.
            device: Where.
            replays: Whether steps are replayed on the CPU as well.
        """
        recorded = WARM_UP + 1 if self.graph and (replays or device.type == "cuda") else 0
        return schedule(comparison, budget, progress, device, least=recorded + 1, compiles=self.compile)


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
    "graph": Settings(graph=True),
    "graph+channels_last": Settings(channels_last=True, graph=True),
    "graph+several": Settings(graph=True, steps_per_call=50),
    "graph+recommended": replace(FLOAT32, precision="bf16-mixed", graph=True),
    "graph+recommended+several": replace(FLOAT32, precision="bf16-mixed", graph=True, steps_per_call=50),
    "graph+recommended+compile": replace(FLOAT32, precision="bf16-mixed", graph=True, compile=True),
}
"""`float32` and `recommended` are what `docs/performance.md` advises, without and with less precision. On the CPU
`graph` is without effect. Fifty is the number of batches from one logged row to the next: Lightning's default."""


OTHERS = {MGAN: PlainMGAN, GAN: PlainDCGAN, BiGAN: PlainBiGAN, SelfExGAN: BareSelfExGAN}
"""The program that a model's steps are compared with."""


def loop(step: Callable[[Tensor], object], loader: Repeated) -> Work:
    """Return a program's steps over the batches, one after the other."""
    batches = iter(loader)

    def work(steps: int) -> None:
        for _ in range(steps):
            step(next(batches)[0])

    return work


def plain(size: Size, device: torch.device) -> Work:
    """Return the steps of the program that ours is compared with: the one that a user would write."""
    model = size.model()
    return loop(OTHERS[type(model)](model, device).step, size.loader(device))


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


def training_pairs(
    row: str,
    size: Size,
    variants: Mapping[str, Settings],
    goals: Mapping[str, float],
    budget: Budget,
    device: torch.device,
) -> list[Pair]:
    """Return each variant's steps against the other program's.

    Args:
        row: Name.
        size: Of the model.
        variants: Settings under their names.
        goals: Ratios to reach, by variant.
        budget: For each.
        device: Where.
    """
    return [
        _pair(Comparison(row, name, size.other, "step", goal=goals.get(name)), size, settings, budget, device)
        for name, settings in variants.items()
    ]


def _pair(comparison: Comparison, size: Size, settings: Settings, budget: Budget, device: torch.device) -> Pair:
    def measure(progress: Progress) -> None:
        progress.now("counts operations")
        flops = flops_per_step(size, device)
        progress.now("measures matrix products")
        dtype = torch.bfloat16 if settings.precision == "bf16-mixed" else torch.float32
        rate = matmul_rate(device, dtype, seconds=min(1.0, budget.seconds / 20))
        turns = Turns(settings.schedule(comparison, budget, progress, device), plain(size, device), device)
        try:
            fit(size, settings, device, turns)
        except Exception as error:
            if not settings.compile:
                raise
            # What torch.compile cannot do here is a result.
            comparison.failed = reason(error)
            return
        comparison.more |= {
            "replayed": turns.replayed,
            "flops": flops,
            "matmul_flops_per_second": rate,
            "share_of_matmul_rate": flops / statistics.median(comparison.our_seconds) / rate,
        }

    return Pair(comparison, measure, on_top=settings.compile)


def overhead_pair(size: DCGANSize, budget: Budget, device: torch.device) -> Pair:
    """Return the Trainer's steps against the same mathematics in a bare loop; a ratio of 0.97 is a cost of 3%."""
    comparison, settings = Comparison("dcgan", "default", "bare loop", "step", goal=0.97), Settings()

    def measure(progress: Progress) -> None:
        turns = Turns(settings.schedule(comparison, budget, progress, device), bare(size, device), device)
        fit(size, settings, device, turns)

    return Pair(comparison, measure)


@cache
def flops_per_step(size: Size, device: torch.device) -> int:
    """Return the floating-point operations of a step's convolutions and matrix products, as the framework takes it."""
    counter = FlopCounterMode(display=False)
    with counter:
        fit(size, Settings(), device, max_steps=1)
    return counter.get_total_flops()


def quiet() -> None:
    """Keep Lightning from remarking on what is meant here: no validation, few workers, an unused GPU."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
