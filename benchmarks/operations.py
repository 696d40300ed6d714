"""The operations of a training step on tensors, counted by name: on a GPU each is about one kernel of its own."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.replay import recording
from benchmarks.sizes import Size
from benchmarks.tables import heading
from benchmarks.training import Settings, fit
from gan_lightning.system.private_names import DispatchMode
from gan_lightning.training.adversarial import AdversarialModule

COUNTED = 2
"""The batch that is counted; the first one also makes the optimizers' states."""

WITHOUT_A_KERNEL = frozenset(
    {
        "_record_function_enter_new",
        "_record_function_exit",
        "_unsafe_view",
        "detach",
        "empty",
        "empty_like",
        "empty_strided",
        "lift_fresh",
        "new_empty",
        "new_empty_strided",
        "promote_types",
    }
)
"""Operations that neither compute nor copy, and that torch does not call views."""


class CountedOperations(DispatchMode):
    """Counts operations, those of the backward passes and of optimizers included.

    Attributes:
        counts: How often each operation was called that computes or copies, under its name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Do the operation, and count it."""
        name = func.overloadpacket.__name__
        if not func.is_view and name not in WITHOUT_A_KERNEL:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class CountsStep(Callback):
    """Counts the operations of one batch in a fit: of the step itself, which a graph would hold."""

    def __init__(self) -> None:
        self.operations = CountedOperations()
        self._learn: Any = None
        self._batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stand in for the model's step."""
        assert isinstance(pl_module, AdversarialModule)
        self._learn = pl_module.guarded_learn
        object.__setattr__(pl_module, "guarded_learn", self._counted)

    def _counted(self, batch: Any) -> Any:
        self._batches += 1
        if self._batches != COUNTED:
            return self._learn(batch)
        with self.operations:
            return self._learn(batch)


def operations_of(size: Size, settings: Settings, device: torch.device) -> Mapping[str, int]:
    """Return how often a step calls each operation; on the CPU with the check for NaN that a GPU has.

    Args:
        size: Of the model. The counts do not depend on its widths.
        settings: Of the fit.
        device: Where.
    """
    counts = CountsStep()
    with recording(device):
        fit(size, settings, device, counts, max_steps=COUNTED)
    return counts.operations.counts


def operations_table(row: str, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the lines of a table of operations, the most frequent first.

    Args:
        row: The model.
        counts: How often each operation is called, under the names of settings.
    """
    names = {name for each in counts.values() for name in each}
    order = sorted(names, key=lambda name: (-max(each.get(name, 0) for each in counts.values()), name))
    lines = [
        *heading(f"{row}: operations of a step", *counts),
        _line("all", [sum(each.values()) for each in counts.values()]),
    ]
    return lines + [_line(f"`{name}`", [each.get(name, 0) for each in counts.values()]) for name in order]


def _line(name: str, numbers: Sequence[int]) -> str:
    return f"| {name} | {' | '.join(map(str, numbers))} |"
