"""A training step as one graph on the GPU: recorded once, then replayed without Python.

The first batches are trained as ever; they warm up what torch sets up at its first use. Recording trains nothing, and
leaves weights, states and random numbers as they are. So a run with a graph takes the same steps as one without.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from gan_lightning.interfaces import Batch
from gan_lightning.system.cuda_graph import Recorder, Step, recorder_for
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.host_reads import host_reads

logger = logging.getLogger(__name__)

WARM_UP = 2
"""Batches before the recording. The last one is searched for values that the host reads; the first one may load."""

INSIDE = ("on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step")
"""Hooks within a step; a replayed graph calls none."""


class StepGraph:
    """A model's `learn` as one graph. A batch that the graph cannot hold is learned from as ever.

    Such batches have another number of images, or an observer of the generator's loss.

    Args:
        model: In training, with a `finite_watch`.
        recorder: Makes the graph.
    """

    def __init__(self, model: AdversarialModule, recorder: Recorder) -> None:
        self.model, self.recorder = model, recorder
        self._inputs: list[Tensor] = []
        self._names: list[str] = []
        self._warm = 0
        self._replay: Step | None = None
        self._recorded: list[object] = []
        self._gives_up = False

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copy of the model has no graph."""

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from a batch. Return the losses."""
        if not self._inputs:
            self._inputs = [torch.empty_like(each) for each in batch]
        alike = [(each.shape, each.dtype) for each in batch] == [(each.shape, each.dtype) for each in self._inputs]
        if self._gives_up or not alike or self.model.generator_observer is not None:
            return self.model.guarded_learn(batch)
        assert self.model.finite_watch is not None
        self.model.finite_watch.write_rates()
        for place, values in zip(self._inputs, batch, strict=True):
            place.copy_(values)
        if self._warm < WARM_UP:
            return self._warm_up()
        if self._replay is None:
            self._record()
        if self._replay is None:
            return self.model.guarded_learn(batch)
        return dict(zip(self._names, self._replay().clone().unbind(), strict=True))

    def renew(self) -> None:
        """Record anew, if somebody has changed what a graph holds fast: a weight's place, a mode, a setting."""
        if self._replay is not None and self._recorded != self._held():
            self._replay = None

    def _step(self) -> Tensor:
        losses = self.model.guarded_learn(self._inputs)
        self._names = list(losses)
        return torch.stack([loss.detach() for loss in losses.values()])

    def _warm_up(self) -> Mapping[str, Tensor]:
        self._warm += 1
        if self._warm == WARM_UP:
            values, found = host_reads(lambda: self.recorder.warm_up(self._step))
            if found is not None:
                self._give_up(f"{type(self.model).__name__}.learn reads a tensor on the host: {found}")
        else:
            values = self.recorder.warm_up(self._step)
        return dict(zip(self._names, values.unbind(), strict=True))

    def _record(self) -> None:
        groups = [g for one in self.model.trainer.optimizers for g in one.param_groups if "capturable" in g]
        for group in groups:
            group["capturable"] = True
        try:
            self._replay = self.recorder.record(self._step)
        except RuntimeError as error:  # an operation that a graph cannot hold
            self.model.zero_grad(set_to_none=True)
            self._give_up(f"the step could not be recorded ({str(error).splitlines()[0]})")
        finally:
            for group in groups:
                group["capturable"] = False
        self._recorded = self._held()

    def _give_up(self, reason: str) -> None:
        self._gives_up = True
        say_as_before(reason)

    def _held(self) -> list[object]:
        """Return what a graph holds fast."""
        optimizers = self.model.trainer.optimizers
        tensors = [*self.model.parameters(), *self.model.buffers()]
        states = [value for one in optimizers for state in one.state.values() for value in state.values()]
        groups = [group for one in optimizers for group in one.param_groups]
        return [
            *(tensor.data_ptr() for tensor in [*tensors, *states] if isinstance(tensor, Tensor)),
            *(weight.requires_grad for weight in self.model.parameters()),
            *(module.training for module in self.model.modules()),
            *({name: value for name, value in group.items() if name not in ("params", "lr")} for group in groups),
        ]


def step_graph(trainer: Trainer, model: LightningModule) -> StepGraph | None:
    """Return the graph of a model's step. If there can be none, say so in one line.

    Args:
        trainer: Whose training has begun.
        model: That of the trainer.
    """
    device = trainer.strategy.root_device
    callbacks: Sequence[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    within = [type(one).__name__ for one in [*callbacks, model] if any(is_overridden(hook, one) for hook in INSIDE)]
    recorder = recorder_for(device)
    if recorder is None:
        say_as_before(f"graphs are for a GPU, and the device is {device.type}")
    elif trainer.world_size > 1:
        say_as_before(f"graphs are for one process, and there are {trainer.world_size}")
    elif not isinstance(model, AdversarialModule):
        say_as_before(f"{type(model).__name__} has no method learn (derive it from AdversarialModule)")
    elif within:
        say_as_before(f"{', '.join(within)} has hooks within the step")
    elif model.finite_watch is None:
        say_as_before("an optimizer cannot step in one pass over the weights (`fused`)")
    else:
        return StepGraph(model, recorder)
    return None


def say_as_before(reason: str) -> None:
    """Say that steps run as without a graph, and why."""
    logger.warning("speed.graph is without effect, and training goes on as without it: %s.", reason)
