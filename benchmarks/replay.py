"""What the Trainer costs beside a graph: its steps against a loop that copies a batch and replays the same graph."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from unittest import mock

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks.progress import Progress
from benchmarks.sizes import Size
from benchmarks.timing import Budget, Comparison, Pair
from benchmarks.training import Settings, fit
from benchmarks.turns import Turns, graph_of
from gan_lightning.runs import finite, finite_watch
from gan_lightning.training import step_graph


class BareReplay(Callback):
    """Replays the graph of a fit, without its Trainer, while the fit waits.

    Args:
        size: Of the model; gives the batches.
        device: Where.
    """

    def __init__(self, size: Size, device: torch.device) -> None:
        self.batches = iter(size.loader(device))
        self.model: LightningModule | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the model, whose graph is yet to be recorded."""
        self.model = pl_module

    def steps(self, units: int) -> None:
        """Copy a batch to the place that the graph reads, and replay, so many times.

        Raises:
            RuntimeError: There is no graph.
        """
        graph = None if self.model is None else graph_of(self.model)
        if graph is None or graph._replay is None:
            raise RuntimeError("The step has not become a graph; the line above says why.")
        for batch in islice(self.batches, units):
            for place, values in zip(graph._inputs, batch, strict=True):
                place.copy_(values)
            graph._replay()


class StandIn:
    """Stands in for a recorder on the CPU, to see that a row runs: replays by doing the step again."""

    def warm_up(self, step: Callable[[], Tensor]) -> Tensor:
        """Do the step."""
        return step()

    def record(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Return the step itself."""
        return step


@contextmanager
def recording(device: torch.device) -> Iterator[None]:
    """Let steps be recorded; on the CPU by the stand-in, with the check for NaN that a GPU has."""
    with ExitStack() as stack:
        if device.type == "cpu":
            for module in (finite, finite_watch):
                stack.enter_context(mock.patch.object(module, "watches", return_value=True))
            stack.enter_context(mock.patch.object(step_graph, "recorder_for", return_value=StandIn()))
        yield


def replay_pair(
    model: str, size: Size, settings: Settings, goal: float | None, budget: Budget, device: torch.device
) -> Pair:
    """Return the Trainer's steps against bare replay; a ratio of 0.95 is a cost of 5%.

    Args:
        model: Name.
        size: Of the model.
        settings: Of the fit, with a graph.
        goal: Ratio to reach.
        budget: How long.
        device: Where. On the CPU a stand-in takes the graph's place.
    """
    ours = f"{model} by Trainer" + (f", {settings.steps_per_call} steps a call" if settings.steps_per_call > 1 else "")
    other = "bare replay" if device.type == "cuda" else "bare replay, a stand-in"
    comparison = Comparison("replay", ours, other, "step", goal=goal)

    def measure(progress: Progress) -> None:
        replay = BareReplay(size, device)
        turns = Turns(settings.schedule(comparison, budget, progress, device, replays=True), replay.steps, device)
        with recording(device):
            fit(size, settings, device, replay, turns)

    return Pair(comparison, measure)
