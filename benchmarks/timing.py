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
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.progress import EVERY, Progress, in_words

LEAST_ROUNDS = 2
"""Rounds of a pair of programs, however long they take."""

WARM_UP_SHARE = 1 / 8
"""Share of the time of a pair that the warm-up of a program may take."""

TURN = 0.2
"""Seconds of a turn on a GPU, at the least: single steps would be timed with what the host does before and after."""

Work = Callable[[int], None]
"""Does so many units of work, a step or an evaluation."""

Schedule = Generator[tuple[int, int], tuple[float, int], None]
"""Yields whose turn it is (0: ours, 1: the other program's) and for how many units. Is sent seconds and units."""


@dataclass(frozen=True)
class Budget:
    """How long to measure a pair of programs.

    Attributes:
        seconds: Of both together, with their warm-up. No round begins that would end later, beyond the least number of
            rounds.
        rounds: At most.
        warm_up: Units of each program before the first round, at most.
    """

    seconds: float = 60.0
    rounds: int = 7
    warm_up: int = 3


@dataclass
class Comparison:
    """Seconds per unit of work of two programs, in each round.

    Attributes:
        row: Of the table.
        ours: What is measured.
        other: What it is measured against; empty for a program alone.
        unit: Of work.
        our_seconds: Mean of each round.
        other_seconds: Mean of each round.
        goal: The ratio to reach, or the seconds of a program alone; None where there is none.
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
    def title(self) -> str:
        """Row and programs in words."""
        return f"{self.row}, {' against '.join(self.programs)}"

    @property
    def programs(self) -> list[str]:
        """Names of the programs."""
        return [name for name in (self.ours, self.other) if name]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast as the other program ours was, round by round."""
        return [other / ours for ours, other in zip(self.our_seconds, self.other_seconds, strict=True)]

    def figures(self) -> dict[str, Any]:
        """Return all that is known, for JSON."""
        names = {"row": self.row, "ours": self.ours, "other": self.other, "unit": self.unit}
        if self.failed:
            return names | {"failed": self.failed}
        found: dict[str, Any] = {"our_seconds": statistics.median(self.our_seconds)}
        if self.other:
            ratios = self.ratios
            found |= {
                "other_seconds": statistics.median(self.other_seconds),
                "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
            }
        return names | {
            **found,
            "rounds": len(self.our_seconds),
            "goal": self.goal,
            **self.more,
            "all_seconds": {"ours": self.our_seconds, "other": self.other_seconds},
        }


@dataclass(frozen=True)
class Pair:
    """Two programs that can be measured, or one alone.

    Attributes:
        comparison: Is still empty.
        measure: Fills it.
        on_top: Whether it takes time that no budget bounds: for compiling, or for a whole evaluation.
    """

    comparison: Comparison
    measure: Callable[[Progress], None]
    on_top: bool = False


def reason(error: Exception) -> str:
    """Return an error in a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


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
    comparison: Comparison,
    works: Sequence[Work],
    budget: Budget,
    progress: Progress,
    device: torch.device,
    *,
    whole: bool = False,
) -> None:
    """Run two programs in turn and note their times in the comparison.

    Args:
        comparison: Gets the times.
        works: What is measured, and what it is measured against.
        budget: How long.
        progress: Is told.
        device: Of both.
        whole: As `schedule` takes it.
    """
    turns = schedule(comparison, budget, progress, device, whole=whole)
    which, units = next(turns)
    with suppress(StopIteration):
        while True:
            which, units = turns.send((timed(works[which], units, device), units))


def schedule(
    comparison: Comparison,
    budget: Budget,
    progress: Progress,
    device: torch.device,
    *,
    least: int = 1,
    compiles: bool = False,
    whole: bool = False,
) -> Schedule:
    """Yield the turns of a comparison: those of the warm-up, and then round by round. Notes the times of the rounds.

    Says how long it will take as soon as that is known. How many units a turn has follows from the last round.

    Args:
        comparison: Gets the times.
        budget: How long, from the beginning of the progress on.
        progress: Is told.
        device: Of both programs. On a GPU the first unit sets up too much to be an estimate of the next ones.
        least: Units that our program needs as a warm-up.
        compiles: Whether our program compiles as it warms up; that time is not part of the budget.
        whole: Whether a unit of work is long: then there is no warm-up, and each program has one turn of one unit in a
            round. Otherwise it has two turns, if the time suffices for them.
    """
    programs = comparison.programs
    took = [0.0] * len(programs)
    least_rounds = min(budget.rounds, LEAST_ROUNDS)
    usual = 2 if device.type == "cuda" else 1
    if whole or compiles:
        progress.expect(None)
    for which in () if whole else range(len(programs)):
        slow, started = compiles and which == 0, progress.left
        took[which] = yield from _warm_up(
            comparison, which, budget, progress, usual if which else max(least, usual), slow
        )
        if slow:
            progress.say(f"compiled in {in_words(compiling := started - progress.left)}, which comes on top")
            progress.allow(compiling)
    for number in range(budget.rounds):
        turns, more, units = 1, budget.rounds - number, [1] * len(programs)
        if all(took):
            left, needed = progress.left, max(least_rounds - number, 1)
            turns = 1 if whole or 2 * needed * sum(took) > left else 2
            one = turns * sum(took)
            if number >= least_rounds and one > left:
                break
            more = min(more, max(needed, int(left / one)))
            if not whole:
                least_turn = TURN if device.type == "cuda" else 0.0
                turn = max(least_turn, left / (more * turns * len(programs)))
                units = [max(1, int(turn / seconds)) for seconds in took]
            rest = more * turns * sum(count * seconds for count, seconds in zip(units, took, strict=True))
            progress.expect(rest)
            if number == int(whole):
                beyond = f", {in_words(rest - left)} longer than planned" if rest > left else ""
                each = " and ".join(in_words(seconds) for seconds in took)
                progress.say(f"{each} per {comparison.unit}; rounds to come: {more}, in {in_words(rest)}{beyond}")
        forth = list(range(len(programs)))[:: 1 if number % 2 == 0 else -1]
        spent, done = [0.0] * len(programs), [0] * len(programs)
        for which in forth if turns == 1 else forth + forth[::-1]:
            progress.now(f"round {number + 1} of {number + more}, {programs[which]}")
            seconds, count = yield which, units[which]
            spent[which] += seconds
            done[which] += count
            if not all(took) and seconds > EVERY:
                progress.say(f"the first {comparison.unit} of {programs[which]} took {in_words(seconds)}")
        took = [seconds / count for seconds, count in zip(spent, done, strict=True)]
        for found, seconds in zip((comparison.our_seconds, comparison.other_seconds), took, strict=False):
            found.append(seconds)


def _warm_up(
    comparison: Comparison, which: int, budget: Budget, progress: Progress, least: int, compiles: bool
) -> Generator[tuple[int, int], tuple[float, int], float]:
    """Yield the units of a program's warm-up; return the seconds that the last one took."""
    name = comparison.programs[which]
    progress.now(f"warm-up of {name}")
    done, spent = 0, 0.0
    while True:
        seconds, units = yield which, 1
        to_come = LEAST_ROUNDS * seconds / units
        if not done and not compiles and to_come > progress.left:
            progress.expect(to_come)
            first = f"the first {comparison.unit}" if units == 1 else f"the first {units} {comparison.unit}s"
            rest = f"if the next ones do, it takes {in_words(to_come)} more at least"
            progress.say(f"{first} of {name} took {in_words(seconds)}; {rest}")
        done, spent = done + units, spent + seconds
        is_slow = not compiles and spent > WARM_UP_SHARE * budget.seconds
        if done >= least and (done > budget.warm_up or is_slow):
            return seconds / units


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
