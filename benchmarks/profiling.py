"""The longest operations of a training step, and its time on the processor and on the GPU."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.sizes import Size
from benchmarks.timing import synchronise
from benchmarks.training import Settings, fit


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

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether the batch is the one."""
        return number == self.warm_up + 1

    def table(self, operations: int = 25) -> str:
        """Return where the time went, the longest operations first."""
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        return self.profiler.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=operations)

    def totals(self) -> dict[str, Any]:
        """Return seconds that the processor and the GPU worked, without waiting, and how many kernels ran there."""
        averages = self.profiler.key_averages()
        working = [each for each in averages if "Synchronize" not in each.key]
        on_gpu = [each for each in averages if each.device_type == DeviceType.CUDA and not each.is_user_annotation]
        return {
            "processor_seconds": sum(each.self_cpu_time_total for each in working) / 1e6,
            "gpu_seconds": sum(each.self_device_time_total for each in on_gpu) / 1e6,
            "kernels": sum(each.count for each in on_gpu),
        }


def profile_of(size: Size, settings: Settings, device: torch.device) -> tuple[str, dict[str, Any]]:
    """Return the profile of a step, and its totals."""
    profiled = Profiled(device)
    fit(size, settings, device, profiled, max_steps=profiled.warm_up + 1)
    return profiled.table(), profiled.totals()
