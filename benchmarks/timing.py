"""Two programs timed in turn on the same work, and what the machine can do at most.

What else a machine does weighs on both programs alike only if they alternate: A B, B A, A B. A ratio is taken within a
round, and reported as the median over the rounds with its least and its largest.
"""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

LEAST_ROUNDS = 2
"""Rounds of a pair of programs, however long they take."""

Work = Callable[[int], None]
"""Does so many units of work, a step or an evaluation."""


@dataclass(frozen=True)
class Budget:
    """How long to measure a pair of programs.

    Attributes:
        seconds: Of both together, warm-up aside. No round begins later, beyond the least number of rounds.
        rounds: At most.
        warm_up: Units of each program before the first round.
    """

    seconds: float = 60.0
    rounds: int = 7
    warm_up: int = 3

    def units(self, seconds: float) -> int:
        """Return the units of work for a turn of a program that needs so long for one; a round has two turns each."""
        return max(1, round(self.seconds / (4 * self.rounds) / seconds))


@dataclass
class Comparison:
    """Seconds per unit of work of two programs, in each round.

    Attributes:
        row: Of the table.
        ours: What is measured.
        other: What it is measured against.
        unit: Of work.
        our_seconds: Mean of each round.
        other_seconds: Mean of each round.
        goal: The ratio to reach; None where there is none.
        more: Other figures, under their names.
        failed: Why there is nothing to compare, where there is not.
    """

    row: str
    ours: str
    other: str
    unit: str
    our_seconds: list[float] = field(default_factory=list)
    other_seconds: list[float] = field(default_factory=list)
    goal: float | None = None
    more: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the other program ours was, round by round."""
        return [other / ours for ours, other in zip(self.our_seconds, self.other_seconds, strict=True)]

    def figures(self) -> dict[str, Any]:
        """Return all that is known, for JSON."""
        names = {"row": self.row, "ours": self.ours, "other": self.other, "unit": self.unit}
        if self.failed:
            return names | {"failed": self.failed}
        ratios = self.ratios
        return names | {
            "our_seconds": statistics.median(self.our_seconds),
            "other_seconds": statistics.median(self.other_seconds),
            "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            "rounds": len(ratios),
            "goal": self.goal,
            **self.more,
            "all_seconds": {"ours": self.our_seconds, "other": self.other_seconds},
        }


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Work, units: int, device: torch.device) -> float:
    """Return the seconds that some units of work take."""
    synchronise(device)
    started = time.perf_counter()
    work(units)
    synchronise(device)
    return time.perf_counter() - started


def compare(
    comparison: Comparison, ours: Work, other: Work, budget: Budget, device: torch.device, *, whole: bool = False
) -> Comparison:
    """Run two programs in turn and note their times in the comparison.

    Args:
        comparison: Gets the times.
        ours: What is measured.
        other: What it is measured against.
        budget: How long.
        device: Of both.
        whole: Whether a unit of work is long: then there is no warm-up, and each program has one turn of one unit in a
            round.
    """
    works, units = (ours, other), [1, 1]
    if not whole:
        for which, work in enumerate(works):
            work(max(1, budget.warm_up))
            units[which] = budget.units(timed(work, 1, device))
    started = time.perf_counter()
    for turn in range(budget.rounds):
        if turn >= LEAST_ROUNDS and time.perf_counter() - started > budget.seconds:
            break
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        order = order if whole else order + order[::-1]
        seconds = [0.0, 0.0]
        for which in order:
            seconds[which] += timed(works[which], units[which], device) / units[which] / order.count(which)
        comparison.our_seconds.append(seconds[0])
        comparison.other_seconds.append(seconds[1])
    return comparison


class Turns(Callback):
    """Compares the steps of a Trainer that runs with another program, within one fit.

    The other program has its turn at the end of a batch, while the fit waits. A turn of the fit lasts from there to the
    end of a batch: all that the Trainer does between and in its steps counts.

    Args:
        comparison: Gets the times.
        other: The other program.
        budget: How long.
        device: Of both.
    """

    def __init__(self, comparison: Comparison, other: Work, budget: Budget, device: torch.device) -> None:
        self.comparison, self.other, self.budget, self.device = comparison, other, budget, device
        self.batches_left = budget.warm_up + 1
        self.started = 0.0
        self.units: list[int] = []
        self.turn = 0
        self.seconds: list[list[float]] = [[], []]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Time the last batch of the warm-up: how many go into a turn depends on it."""
        if not self.units and self.batches_left == 1:
            self._start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Give the other program its turns, once the fit has had its own."""
        self.batches_left -= 1
        if self.batches_left:
            return
        synchronise(self.device)
        seconds = time.perf_counter() - self.started
        if self.units:
            self.seconds[0].append(seconds)
        else:
            self.other(self.budget.warm_up)
            self.units = [self.budget.units(seconds), self.budget.units(timed(self.other, 1, self.device))]
            self.first = time.perf_counter()
        trainer.should_stop = self._others_turns()
        self.batches_left = self.units[0]
        self._start()

    def _others_turns(self) -> bool:
        """Run the other program until it is the fit's turn again; return whether all is measured."""
        while True:
            place = self.turn % 4
            fits = place in ((0, 3) if self.turn // 4 % 2 == 0 else (1, 2))
            if place == 0 and self.turn:
                self._end_round()
                over = time.perf_counter() - self.first > self.budget.seconds
                done = self.turn // 4
                if done >= self.budget.rounds or (done >= LEAST_ROUNDS and over):
                    return True
            self.turn += 1
            if fits:
                return False
            self.seconds[1].append(timed(self.other, self.units[1], self.device))

    def _end_round(self) -> None:
        for seconds, units, of_rounds in zip(
            self.seconds,
            self.units,
            (self.comparison.our_seconds, self.comparison.other_seconds),
            strict=True,
        ):
            of_rounds.append(sum(seconds) / (2 * units))
            assert len(seconds) == 2
            seconds.clear()

    def _start(self) -> None:
        synchronise(self.device)
        self.started = time.perf_counter()


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the rate of large matrix products, floating-point operations per second; the best of several.

    On a GPU in float32 with TF32 where convolutions use it, as they do by default. The factors grow from 256 to 8192 on
    a GPU, to 2048 elsewhere, unless a product would take much of the time: a processor without instructions for
    bfloat16 needs a minute for a large one.

    Args:
        device: Where.
        dtype: Of the factors.
        seconds: How long to measure.
    """
    size, largest = 256, 8192 if device.type == "cuda" else 2048
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    try:
        while True:
            product = _product(size, device, dtype)
            product(1)
            best = timed(product, 1, device)
            if size == largest or 8 * best > seconds / 4:  # a product of the next size takes about eight times as long
                break
            size *= 2
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            best = min(best, timed(product, 1, device))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return 2 * size**3 / best


def _product(size: int, device: torch.device, dtype: torch.dtype) -> Work:
    """Return work of which each unit is one product of two square matrices."""
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def work(units: int) -> None:
        for _ in range(units):
            one @ other

    return work


def peak_memory(device: torch.device) -> int:
    """Return the most memory that this process has used, bytes: of the GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine(device: torch.device) -> Mapping[str, Any]:
    """Return what was measured on, and how busy it was."""
    about: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
    }
    if device.type == "cuda":
        about |= {
            "gpu": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        }
    return about


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names: Sequence[str] = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in names if line.startswith("model name")), platform.machine())
