"""Settings that make training faster; results change in the last digits alone."""

import copy
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gan_lightning.errors import SettingError, at_least
from gan_lightning.interfaces import HasHotParts
from gan_lightning.runs.finite_watch import set_fused
from gan_lightning.system.private_names import compiling_for_shared_graphs, find_cpp_compiler
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.several_batches import obstacles
from gan_lightning.training.step_graph import StepGraph, step_graph

logger = logging.getLogger(__name__)

RECOMPILE_LIMIT = 64
"""Graphs that one piece of code may be compiled to; training SelfExGAN takes 10."""

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


class Acceleration(Callback):
    """Trains faster with the same mathematics; without any of these settings nothing changes.

    Each setting changes the order of sums, and so the rounding, and nothing else. Weights, buffers and optimizer states
    have the same names and shapes. A checkpoint of one setting goes on under another. `docs/performance.md` has the
    gains. `trainer.precision` lowers the precision, and is therefore no part of this.

    Args:
        channels_last: Keep the weights and maps of 2-d convolutions channel by channel within a pixel, as the
            processor's convolutions want them. Needs no other change: maps follow the weights.
        compile: Compile the model's hot parts with torch.compile, one by one: the parts that it declares
            (`HasHotParts`), else its child networks. Only training uses them. In eval mode, and so in every evaluation,
            the plain networks run. The first batches take up to minutes longer. On the CPU it needs a C++ compiler.
        compile_mode: torch.compile's `mode`; "reduce-overhead" replays CUDA graphs. It takes more memory, and pays if a
            step consists of many short kernels.
        graph: Record a training step as one graph and replay it; for steps of many short kernels on one GPU. The model
            derives from `AdversarialModule`. Elsewhere training goes on as without it, and a line says why.
        steps_per_call: Most batches that one call of `training_step` trains on; for steps that are shorter than
            Lightning's loop. A call ends before and after a batch around which something is logged, saved, validated or
            checked, so these are as with one batch a call. Runs can be stopped between calls.
        fused: Let the optimizers step in one pass over the weights (true), or in torch's default way (false). By
            default they step as the model made them. Optimizers without such a pass stay unchanged.

    Raises:
        SettingError: If a mode is set but nothing is compiled, or it makes graphs of its own beside `graph`.
    """

    def __init__(
        self,
        channels_last: bool = False,
        compile: bool = False,
        compile_mode: CompileMode = "default",
        graph: bool = False,
        steps_per_call: int = 1,
        fused: bool | None = None,
    ) -> None:
        at_least(self, 1, steps_per_call=steps_per_call)
        if compile_mode != "default" and not compile:
            raise SettingError(
                f"compile_mode must not be set without compile, got '{compile_mode}'. Set compile to true.", self
            )
        if graph and compile_mode == "reduce-overhead":
            raise SettingError(
                "compile_mode must not be 'reduce-overhead' with graph, got it with true: both make graphs. Leave one "
                "out.",
                self,
            )
        if graph and fused is False:
            raise SettingError(
                "fused must not be false with graph, got false: a graph's optimizers step in one pass. Leave it out.",
                self,
            )
        self.channels_last, self.compile, self.compile_mode, self.fused = channels_last, compile, compile_mode, fused
        self.graph, self.steps_per_call = graph, steps_per_call
        self._compiled: list[tuple[nn.Module, str]] = []
        self._prepared = False
        self._settings = ExitStack()
        """Puts back the torch settings that compiling changes."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the weights' memory layout, and compile.

        Raises:
            SettingError: If there is no compiler for the CPU.
        """
        if stage != "fit":
            return
        if self.channels_last:
            # The parameters stay the same objects, also for layers that share them and for optimizers.
            pl_module.to(memory_format=torch.channels_last)
        if self.compile:
            if trainer.strategy.root_device.type == "cpu":
                _check_compiler()
            # Several optimizers step on losses with a common graph, so its saved values are read more than once.
            # All networks are sequences. Their common `forward` is compiled for each network and each way to call it.
            # Beyond torch's limit of 8 the rest would run uncompiled, without a warning.
            self._settings.enter_context(compiling_for_shared_graphs(RECOMPILE_LIMIT))
            for name in hot_parts(pl_module):
                self._compile(pl_module, name)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose how optimizers step, once a checkpoint's choice has been loaded."""
        if self.fused is not None:
            for optimizer in trainer.optimizers:
                if "fused" in optimizer.defaults:
                    set_fused(optimizer, self.fused)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare the graph, once the model has prepared its optimizers; look at each epoch whether it still holds."""
        if self._prepared:
            if isinstance(pl_module, AdversarialModule) and isinstance(pl_module.learns, StepGraph):
                pl_module.learns.renew()
            return
        self._prepared = True
        if self.graph and (graph := step_graph(trainer, pl_module)) is not None:
            assert isinstance(pl_module, AdversarialModule)
            pl_module.learns = graph
        if self.steps_per_call > 1:
            self._take_several(trainer, pl_module)

    def _take_several(self, trainer: Trainer, pl_module: LightningModule) -> None:
        around = obstacles(trainer, pl_module)
        if not isinstance(pl_module, AdversarialModule):
            reason = f"{type(pl_module).__name__} has no method learn (derive it from AdversarialModule)"
        elif trainer.world_size > 1:
            reason = f"it is for one process, and there are {trainer.world_size}"
        elif around:
            reason = f"{', '.join(around)} has hooks around every batch"
        else:
            pl_module.steps_per_call = self.steps_per_call
            return
        logger.warning("speed.steps_per_call is without effect, and a call trains on one batch: %s.", reason)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Let CUDA graphs overwrite the last batch's outputs."""
        if self.compile:
            torch.compiler.cudagraph_mark_step_begin()

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether torch makes graphs that have to be told of the batch."""
        return self.compile_mode == "reduce-overhead"

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the plain networks and torch's settings back."""
        self._restore(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the plain networks and torch's settings back."""
        self._restore(pl_module)

    def _restore(self, model: LightningModule) -> None:
        self._prepared = False
        if isinstance(model, AdversarialModule):
            model.learns, model.steps_per_call = None, 1
        self._settings.close()
        while self._compiled:
            owner, name = self._compiled.pop()
            delattr(owner, name)  # uncovers the class's own, plain method

    def _compile(self, model: nn.Module, path: str) -> None:
        parent, _, name = path.rpartition(".")
        part = getattr(model.get_submodule(parent), name)
        owner, name = (part, "forward") if isinstance(part, nn.Module) else (model, name)
        # A method in place of the class's: no prefix in `state_dict`, and copies of the network are without it.
        setattr(owner, name, _InTraining(owner, getattr(owner, name), self.compile_mode))
        self._compiled.append((owner, name))


class _InTraining:
    """A network's or a model's method, compiled for train mode; in eval mode the method itself."""

    def __init__(self, owner: nn.Module, eager: Callable[..., Any], mode: CompileMode) -> None:
        self.owner, self.eager = owner, eager
        self.compiled = torch.compile(eager, mode=mode)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return (self.compiled if self.owner.training else self.eager)(*args, **settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., Any]:
        return copy.deepcopy(self.eager, memo)  # of the copy of its owner


def _check_compiler() -> None:
    """Check now that there is a C++ compiler; torch would check at the first batch.

    Raises:
        SettingError: If there is none.
    """
    try:
        find_cpp_compiler()
    except (RuntimeError, OSError) as error:
        raise SettingError(
            "compile must not be true without a C++ compiler, got none that works. Install g++, name one in the "
            "environment variable CXX, or leave compile out.",
            Acceleration,
        ) from error


def hot_parts(model: nn.Module) -> list[str]:
    """Return the paths of the networks and methods of the model that take the time of training."""
    if isinstance(model, HasHotParts):
        return list(model.hot_parts())
    return [name for name, child in model.named_children() if any(True for _ in child.parameters())]
