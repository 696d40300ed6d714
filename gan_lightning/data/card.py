"""Copies of splits in the memory of a CUDA card, so that batches are gathered and cut there."""

import logging
from collections.abc import Mapping
from itertools import accumulate
from typing import Literal

import torch

from gan_lightning.data.store import Batch, Store
from gan_lightning.errors import refused
from gan_lightning.interfaces import LabelledImages, Split
from gan_lightning.system.copies import copied
from gan_lightning.system.processes import process_rank

logger = logging.getLogger(__name__)

DataDevice = Literal["auto", "card", "host"]
"""Where the images lie while a Trainer runs; see `ImageData`."""

LARGEST_SHARE = 0.5
"""Largest share of a card's free memory for all copies together; the rest is for the model."""


def free_memory(device: torch.device) -> int | None:
    """Return the free memory of a card, bytes; None for a device that is no CUDA card."""
    if device.type != "cuda":
        return None
    # Memory that PyTorch keeps for later tensors is as good as free.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def fitting(sizes: Mapping[Split, int], room: int) -> list[Split]:
    """Return the first splits, as many as fit together.

    Args:
        sizes: Bytes of each split.
        room: Bytes for all.
    """
    return [split for split, total in zip(sizes, accumulate(sizes.values()), strict=True) if total <= room]


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device; the host does not wait for a card to take it."""
    pixels, labels = batch
    return copied(pixels, device), copied(labels, device)


class CardCopies:
    """Splits of a data set that lie in the memory of a card too."""

    def __init__(self) -> None:
        self._copies: dict[Split, Store] = {}
        self._said = False

    def make(
        self, data: LabelledImages, wanted: DataDevice, stores: Mapping[Split, Store], device: torch.device
    ) -> None:
        """Copy splits to a card, in the place of earlier copies; the first ones have precedence.

        With `auto`, what does not fit stays in the host's memory, and one line says so.

        Args:
            data: The data set whose setting `device` is `wanted`.
            wanted: Where the splits shall lie.
            stores: The splits in the host's memory.
            device: The Trainer's device.

        Raises:
            SettingError: `card` is wanted, but the device is no card, or a split does not fit.
        """
        self.drop()
        free = None if wanted == "host" else free_memory(device)
        if free is None:
            if wanted == "card":
                remedy = "Train on a card, as with trainer.accelerator=gpu."
                raise refused(data, "device", f"be auto or host where the Trainer runs on {device}", wanted, remedy)
            return
        room = int(LARGEST_SHARE * free)
        chosen = fitting({split: store.nbytes for split, store in stores.items()}, room)
        if left_out := [split for split in stores if split not in chosen]:
            room -= sum(stores[split].nbytes for split in chosen)
            sizes = (
                f"The {left_out[0]} split takes {in_words(stores[left_out[0]].nbytes)}, and data may take "
                f"{in_words(room)} more on {device} (in all {LARGEST_SHARE:.0%} of its free memory)."
            )
            if wanted == "card":
                raise refused(data, "device", "be auto or host where the data do not fit on the card", wanted, sizes)
            if not self._said and not process_rank():
                self._said = True
                shown = " and ".join(left_out)
                logger.warning("%s: the %s images stay in the host's memory. %s", data.name, shown, sizes)
        self._copies = {split: stores[split].on(device) for split in chosen}

    def find(self, split: Split, device: torch.device | None = None) -> Store | None:
        """Return the copy of a split, or None if there is none on this device; by default on any."""
        copy = self._copies.get(split)
        return copy if copy is None or device in (None, copy.device) else None

    def drop(self) -> None:
        """Forget the copies, so that the card's memory becomes free."""
        self._copies = {}


def in_words(size: int) -> str:
    """Return a number of bytes for people."""
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB") if size >= 1e5 else (1e3, "kB")
    return f"{size / unit:.1f} {name}"
