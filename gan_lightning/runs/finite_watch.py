"""Losses that are not finite, noticed on the device: no weight moves on one, and the host does not wait for them.

Optimizers that step in one pass over the weights (torch's `fused`) can read a flag on the device. If it is set,
weights, moments and step counts stay as they are. Torch's GradScaler stops steps in this way, too. Here the flag is set
by the first loss that is NaN or infinite, and it stays set. The host reads it when it reads losses anyway.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from gan_lightning.errors import NonFiniteError
from gan_lightning.runs.stopping import stopped_at
from gan_lightning.system.private_names import copy_all


class FiniteWatch:
    """Notes the first loss that is not finite; from then on the watched optimizers stand still.

    Args:
        optimizers: All of them are `fused`.
        device: Of the weights.
        batches: Trained batches so far.
        moving: Statistics and counters, which a batch moves; they stay the same tensors.
    """

    def __init__(
        self, optimizers: Iterable[Optimizer], device: torch.device, batches: int, moving: Iterable[Tensor] = ()
    ) -> None:
        self.found = torch.zeros((), device=device)
        """1 after a loss that is not finite, else 0."""
        self._batches = torch.tensor(batches, device=device)
        """Trained batches until then."""
        self._last = Snapshot([*moving, self._batches])
        """What the last batch without such a loss has moved."""
        self._values: dict[tuple[str, ...], Tensor] = {}
        """The losses that were noted together, under their names: the last ones until then."""
        self._rates: list[_Rate] = []
        for optimizer in optimizers:
            optimizer.found_inf = self.found  # type: ignore[attr-defined]  # as GradScaler sets it
            self._rates += [_Rate(group, device) for group in optimizer.param_groups]

    def write_rates(self) -> None:
        """Take up the learning rates of the next step."""
        for rate in self._rates:
            rate.write()

    @contextmanager
    def rates_on_device(self) -> Iterator[None]:
        """Give the optimizers their learning rates on the device, for a step; a graph reads them there."""
        self.write_rates()
        for rate in self._rates:
            rate.group["lr"] = rate.on_device
        try:
            yield
        finally:
            for rate in self._rates:
                rate.group["lr"] = rate.number

    def end(self, optimizers: Iterable[Optimizer]) -> None:
        """Give the optimizers back."""
        for optimizer in optimizers:
            vars(optimizer).pop("found_inf", None)

    @torch.no_grad()
    def note(self, losses: Mapping[str, Tensor]) -> None:
        """Set the flag if a loss is NaN or infinite."""
        values = torch.stack([loss.detach() for loss in losses.values()])
        if (names := tuple(losses)) not in self._values:
            self._values[names] = torch.zeros_like(values)
        kept = self._values[names]
        torch.where(self.found == 0, values, kept, out=kept)
        self.found.masked_fill_((values * 0).any(), 1)  # 0 times NaN or infinity is NaN, which is not 0

    @torch.no_grad()
    def mean_found(self) -> None:
        """Set the flag if it is the mean of the flags of several processes, of which one is set."""
        self.found.masked_fill_(self.found != 0, 1)

    def unless_found(self, change: Tensor) -> Tensor:
        """Return a change of weights, or zeros after a loss that is not finite."""
        return change.masked_fill(self.found != 0, 0)

    @torch.no_grad()
    def end_batch(self) -> None:
        """Count a batch, or undo what it has moved if a loss was not finite."""
        self._batches += 1
        self._last.renew_or_restore(self.found == 0)

    def check(self, trainer: Trainer) -> None:
        """Read the flag.

        Raises:
            NonFiniteError: A loss was not finite; names the first one, its value and its batch.
        """
        if self.found.item():
            values = {
                name: v for names, kept in self._values.items() for name, v in zip(names, kept.tolist(), strict=True)
            }
            found = [f"{name} became {value}" for name, value in values.items() if not math.isfinite(value)]
            what = found[0] if found else "A loss of another process is not finite"
            raise NonFiniteError(stopped_at(trainer, what, int(self._batches)))


class _Rate:
    """A learning rate that others see and set as a number, and that a step reads on the device.

    Args:
        group: Of an optimizer's parameters.
        device: Of the weights.
    """

    def __init__(self, group: dict[str, Any], device: torch.device) -> None:
        self.group, self.number = group, float(group["lr"])
        # Fused optimizers read float32 on a GPU; on the CPU they read any number.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        self.on_device = torch.tensor(self.number, dtype=dtype, device=device)
        group["lr"] = self.number

    def write(self) -> None:
        """Write the number to the device if somebody has changed it."""
        if self.group["lr"] is not self.on_device and self.group["lr"] != self.number:
            self.number = float(self.group["lr"])
            self.on_device.fill_(self.number)


class Snapshot:
    """Copies of some tensors, to set them back; one copy for all of one type, since they are many and small.

    Args:
        tensors: Statistics and counters, which a batch moves.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._groups: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            self._groups.setdefault(tensor.dtype, []).append(tensor)
        self._copies = [_flat(group) for group in self._groups.values()]

    @torch.no_grad()
    def restore(self) -> None:
        """Set the tensors back."""
        for group, copy in zip(self._groups.values(), self._copies, strict=True):
            _set(group, copy)

    @torch.no_grad()
    def renew_or_restore(self, renew: Tensor) -> None:
        """Copy the tensors anew if `renew` is true, else set them back. Nothing waits for its value."""
        for group, copy in zip(self._groups.values(), self._copies, strict=True):
            torch.where(renew, _flat(group), copy, out=copy)
            _set(group, copy)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def _set(tensors: Sequence[Tensor], values: Tensor) -> None:
    parts = values.split([tensor.numel() for tensor in tensors])
    copy_all(tensors, [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)])


def watching(
    optimizers: Sequence[Optimizer], device: torch.device, batches: int, moving: Iterable[Tensor] = ()
) -> FiniteWatch | None:
    """Return a watch over a model's optimizers, on a GPU.

    Optimizers that could step in one pass are set to do so, unless `fused` is false.

    Args:
        optimizers: Of the model.
        device: Of its weights.
        batches: Trained batches so far.
        moving: As `FiniteWatch` takes it.

    Returns:
        The watch. None on the CPU, where reading a loss costs nothing, and if an optimizer cannot read the flag: the
        host then reads each loss before the step.
    """
    if not watches(device) or not optimizers:
        return None
    if not all(group.get("fused", False) in (None, True) for each in optimizers for group in each.param_groups):
        return None
    for optimizer in optimizers:
        set_fused(optimizer, fused=True)
    return FiniteWatch(optimizers, device, batches, moving)


def watches(device: torch.device) -> bool:
    """Return whether the host would wait for losses on such a device."""
    return device.type == "cuda"


def set_fused(optimizer: Optimizer, fused: bool) -> None:
    """Let an optimizer step in one pass over the weights, or in torch's default way; its states follow."""
    for group in optimizer.param_groups:
        group["fused"] = fused
        group["foreach"] = False if fused else None
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            if "step" in state:
                device = weight.device if fused else torch.device("cpu")
                state["step"] = state["step"].to(device, torch.float32)
