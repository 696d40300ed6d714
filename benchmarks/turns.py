"""Steps of a Trainer, timed in turn with another program."""

import time

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.timing import Schedule, Work, synchronise, timed
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.step_graph import StepGraph


class Turns(Callback):
    """Compares the steps of a Trainer that runs with another program, within one fit.

    The other program has its turn at the end of a batch, while the fit waits. A turn of the fit lasts from there to the
    end of a batch: all that the Trainer does between and in its steps counts. If a call takes several batches, a turn
    ends with a call.

    Args:
        schedule: Of the turns.
        other: The other program.
        device: Of both.
    """

    def __init__(self, schedule: Schedule, other: Work, device: torch.device) -> None:
        self.schedule, self.other, self.device = schedule, other, device
        self.units = self.batches = 0
        self.started = 0.0
        self.replayed = False
        """Whether the fit replayed a graph in the end."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Begin with the first batch."""
        if not self.units:
            _, self.units = next(self.schedule)
            self._start(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Give the other program its turns, once the fit has had its own."""
        batches = trainer.global_step - self.batches
        if batches < self.units:
            return
        synchronise(self.device)
        seconds = time.perf_counter() - self.started
        try:
            which, self.units = self.schedule.send((seconds, batches))
            while which == 1:
                seconds = timed(self.other, self.units, self.device)
                which, self.units = self.schedule.send((seconds, self.units))
        except StopIteration:
            trainer.should_stop = True
            self.replayed = graph_of(pl_module) is not None
        self._start(trainer)

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return false: a turn may end with any batch."""
        return False

    def _start(self, trainer: Trainer) -> None:
        self.batches = trainer.global_step
        synchronise(self.device)
        self.started = time.perf_counter()


def graph_of(model: LightningModule) -> StepGraph | None:
    """Return the graph that a model's training replays; None if there is none."""
    graph = model.learns if isinstance(model, AdversarialModule) else None
    return graph if isinstance(graph, StepGraph) and graph._replay is not None else None
