"""The random streams of all processes; Lightning leaves them out of its checkpoints."""

import logging
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from gan_lightning.system.processes import gather_objects

logger = logging.getLogger(__name__)

KEY = "random_streams"
"""Key of the streams in a checkpoint: a list, one entry per process in rank order."""

Streams = dict[str, Any]
"""The states of torch's, numpy's and Python's generators in one process, as tensors, numbers and tuples."""


class RandomStreams(Callback):
    """Gives each process random numbers of its own, and saves their states for a resumed run.

    Until a fit starts all processes have the same seed, so that their weights agree. From there on each draws other
    latents. If another number of processes resumes a run, the streams are new: they depend on the seed, the process and
    the number of trained batches.
    """

    def __init__(self) -> None:
        self._loaded: list[Streams] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the generators of each process but the first one anew, by its rank."""
        if rank := trainer.global_rank:
            seed = torch.initial_seed() + rank
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 (the global generator, which others may use)
            random.seed(seed)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gather the streams of all processes; Lightning calls this on each of them."""
        checkpoint[KEY] = gather_objects(streams(trainer.strategy.root_device))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the streams until the training starts: earlier steps may draw random numbers."""
        self._loaded = checkpoint.get(KEY, []) if trainer.state.fn == "fit" else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the streams right before the first batch is fetched and augmented."""
        saved, self._loaded = self._loaded, None
        if saved is None:
            return
        device = trainer.strategy.root_device
        if device.type == "cuda" and not torch.are_deterministic_algorithms_enabled():
            rank_zero_info(
                "The run goes on with the random numbers of an uninterrupted one, but a GPU may sum in another order: "
                "figures may differ from the uninterrupted run's as between two runs of one seed. With "
                "trainer.deterministic=true it goes on bit for bit."
            )
        if len(saved) == trainer.world_size:
            set_streams(saved[trainer.global_rank], device)
            return
        if trainer.is_global_zero:
            logger.warning(
                "The checkpoint has the random streams of %d process(es), and this run has %d: from here on its random "
                "numbers are not those that an uninterrupted run would draw.",
                len(saved),
                trainer.world_size,
            )
        entropy = (torch.initial_seed() % 2**63, trainer.global_step, trainer.global_rank)
        seeds = np.random.SeedSequence(entropy).generate_state(3)
        torch.manual_seed(int(seeds[0]))
        np.random.seed(int(seeds[1]))  # noqa: NPY002
        random.seed(int(seeds[2]))


def streams(device: torch.device) -> Streams:
    """Return the states of this process's generators, its device's included."""
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    found: Streams = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_streams(saved: Streams, device: torch.device) -> None:
    """Set this process's generators to states from `streams`."""
    torch.set_rng_state(saved["torch"])
    random.setstate(saved["python"])
    name, keys, *rest = saved["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if device.type == "cuda" and "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"], device)
