"""What makes training faster without changing what is computed, other than in the last digits."""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import HasHotParts

RECOMPILE_LIMIT = 64
"""Graphs that one piece of code may be compiled to; training SelfExGAN takes 10."""

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]


class Acceleration(Callback):
    """Trains faster with the same mathematics; without any of these settings nothing changes.

    Each changes the order of sums, and so the rounding, and nothing else: weights, buffers and optimizer states have
    the same names and shapes, and a checkpoint of one setting goes on under another. `docs/performance.md` says what
    each gains. Of less precision, and so no part of this: `trainer.precision`.

    Args:
        channels_last: Keep the weights and maps of 2-d convolutions channel by channel within a pixel, as the
            processor's convolutions want them. Needs no other change: maps follow the weights.
        compile: Compile what the model names as its hot parts (`HasHotParts`; else its child networks) with
            torch.compile, one by one, for training alone: in eval mode, and so in every evaluation, the plain networks
            run. The first batches take up to minutes longer. On the CPU it needs a C++ compiler.
        compile_mode: torch.compile's `mode`; "reduce-overhead" replays CUDA graphs, which pays where a step is made of
            many short kernels, for more memory.
        fused: Let the optimizers step in one pass over the weights (true), or as torch does by default (false); as the
            model made them, where it is not given. Of optimizers without such a pass nothing changes.

    Raises:
        SettingError: If a mode is set but nothing is compiled.
    """

    def __init__(
        self,
        channels_last: bool = False,
        compile: bool = False,
        compile_mode: CompileMode = "default",
        fused: bool | None = None,
    ) -> None:
        if compile_mode != "default" and not compile:
            raise SettingError(
                f"compile_mode must not be set without compile, got '{compile_mode}'. Set compile to true.", self
            )
        self.channels_last, self.compile, self.compile_mode, self.fused = channels_last, compile, compile_mode, fused
        self._compiled: list[tuple[nn.Module, str]] = []
        self._before: tuple[bool, int] | None = None
        """What torch's settings were that compiling changes."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the weights' memory layout, and compile.

        Raises:
            SettingError: If there is no compiler for the CPU.
        """
        if stage != "fit":
            return
        if self.channels_last:
            # The parameters stay the same objects: layers that share them, and optimizers, keep what they hold.
            pl_module.to(memory_format=torch.channels_last)
        if self.compile:
            if trainer.strategy.root_device.type == "cpu":
                _check_compiler()
            from torch._dynamo import config as dynamo  # takes seconds, which nobody else should wait for
            from torch._functorch import config as functorch

            self._before = self._before or (functorch.donated_buffer, dynamo.recompile_limit)
            # Several optimizers step on losses that share a graph: what its backward pass reads is read again.
            functorch.donated_buffer = False
            # All networks are sequences, whose one `forward` is compiled for each of them and for each way to call it;
            # beyond torch's 8 the rest would run as it is, without a word.
            dynamo.recompile_limit = max(RECOMPILE_LIMIT, dynamo.recompile_limit)
            for name in hot_parts(pl_module):
                self._compile(pl_module, name)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose how optimizers step, once a checkpoint's choice has been loaded."""
        if self.fused is None:
            return
        for optimizer in trainer.optimizers:
            if "fused" not in optimizer.defaults:
                continue
            for group in optimizer.param_groups:
                group["fused"] = self.fused
                group["foreach"] = False if self.fused else None
                for weight in group["params"]:
                    state = optimizer.state.get(weight, {})
                    if "step" in state:
                        device = weight.device if self.fused else torch.device("cpu")
                        state["step"] = state["step"].to(device, torch.float32)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Let CUDA graphs overwrite what the last batch made."""
        if self.compile:
            torch.compiler.cudagraph_mark_step_begin()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the plain networks and torch's settings back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the plain networks and torch's settings back."""
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            from torch._dynamo import config as dynamo
            from torch._functorch import config as functorch

            (functorch.donated_buffer, dynamo.recompile_limit), self._before = self._before, None
        while self._compiled:
            owner, name = self._compiled.pop()
            delattr(owner, name)  # what the class has under this name is the plain one

    def _compile(self, model: nn.Module, path: str) -> None:
        parent, _, name = path.rpartition(".")
        part = getattr(model.get_submodule(parent), name)
        if isinstance(part, nn.Module):
            # Where `nn.Module.compile` puts it: no prefix in `state_dict`, and copies of the network are without it.
            part._compiled_call_impl = _InTraining(part, part._call_impl, self.compile_mode)
            self._compiled.append((part, "_compiled_call_impl"))
        else:
            setattr(model, name, _InTraining(model, part, self.compile_mode))
            self._compiled.append((model, name))


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
    """Check that there is a C++ compiler, which torch would miss at the first batch alone.

    Raises:
        SettingError: If there is none.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, OSError) as error:
        raise SettingError(
            "compile must not be true without a C++ compiler, got none that works. Install g++, name one in the "
            "environment variable CXX, or leave compile out.",
            Acceleration,
        ) from error


def hot_parts(model: nn.Module) -> list[str]:
    """Return the paths of what training spends its time in: networks, and methods of the model."""
    if isinstance(model, HasHotParts):
        return list(model.hot_parts())
    return [name for name, child in model.named_children() if any(True for _ in child.parameters())]
