"""The private names of other packages that we rely on, each with its reason; no other file uses one.

An upgrade may change any of them without a word; `tests/unit/system/test_system_private_names.py` has a test for each,
and one that finds those that stand elsewhere. There are 37: 11 of torch, 3 of pickled arrays, one of torchmetrics, 22
of Lightning, of which 10 are methods and attributes of classes that ours derive from (`INHERITED`).

Lightning is imported by whoever hands its objects over: evaluation and measurements start without it.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    import lightning.pytorch
    import lightning.pytorch.callbacks
    import lightning.pytorch.loggers
    import lightning.pytorch.plugins
    import lightning.pytorch.strategies
    from lightning.fabric.plugins.environments import ClusterEnvironment

INHERITED = {
    "lightning.pytorch.Trainer": {
        "_run_stage": "Overridden: measures with weights and devices in place, and ends what a resumed run left open. "
        "The hooks of callbacks come either before the weights are loaded or around test data that is gone through.",
    },
    "lightning.pytorch.cli.LightningCLI": {
        "_parse_ckpt_path": "Overridden: a checkpoint would override the command line; no argument turns that off.",
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {
        "_train_time_interval": "Read: has no property; a run cannot go on from where it would save.",
        "_last_global_step_saved": "Read and set: whether this step has been saved, which hooks alone cannot know.",
        "_last_checkpoint_saved": "Read and set: what `last.ckpt` points to; a resumed run has saved nothing itself.",
        "_monitor_candidates": "Called: the metrics that choose and name a file; saving wants them.",
        "_save_topk_checkpoint": "Called: saves what a metric chooses; Lightning's hooks save at other moments.",
        "_save_last_checkpoint": "Called: writes `last.ckpt`; Lightning's hooks save at other moments.",
        "_should_save_on_train_epoch_end": "Called: whether the epoch's end or a validation is what saves.",
        "_link_checkpoint": "Overridden: Lightning removes the link before it makes the new one.",
    },
}
"""What our own classes override, call, read or set of the private names of Lightning's classes, each with a reason."""

PICKLED_ARRAYS = (
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
)
"""The modules and functions that a pickle names where it holds a numpy array, those of Python 2 and of today.

They stand in the published files of CIFAR-10 and CIFAR-100; to load them alone is to load no code.
"""

BatchNorm = _BatchNorm
"""Torch's base of every batch norm; the public classes leave out those that other packages derive from it."""

DispatchMode = TorchDispatchMode
"""Sees every operation of torch, sums over processes included; of that, no public name does. For the benchmarks."""


DEVICE_COPIES = (torch.ops.aten._to_copy, torch.ops.aten.copy_)
"""The operations, without their overloads, by which values go to another device; `Tensor.to` is the first of them."""


def writes_into(tensor: Tensor) -> int:
    """Return how often somebody has written into a tensor.

    Torch's `_version`, which autograd checks, too; to compare the values with a copy would take as much memory again.
    """
    return tensor._version


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors into others of the same shapes, all in one pass.

    `torch._foreach_copy_`: publicly, each copy is a launch of its own.
    """
    torch._foreach_copy_(list(targets), list(sources))


def add_all(tensors: Sequence[Tensor], numbers: Sequence[int]) -> None:
    """Add a whole number to each tensor, all in one pass; `torch._foreach_add_`, for the reason of `copy_all`."""
    torch._foreach_add_(list(tensors), list(numbers))


@contextmanager
def compiling_for_shared_graphs(graphs: int) -> Iterator[None]:
    """Let torch.compile make at least so many graphs of one piece of code, and let backward passes share them.

    `torch._dynamo.config` and `torch._functorch.config`: `torch.compile` takes a limit of its own from torch 2.14 on
    alone, and nothing public keeps the buffers of a graph that is gone through twice.

    Args:
        graphs: The least number; beyond the limit the code would run as it is, without a word.
    """
    from torch._dynamo import config as dynamo  # takes seconds, which nobody else should wait for
    from torch._functorch import config as functorch

    before = functorch.donated_buffer, dynamo.recompile_limit
    functorch.donated_buffer, dynamo.recompile_limit = False, max(graphs, dynamo.recompile_limit)
    try:
        yield
    finally:
        functorch.donated_buffer, dynamo.recompile_limit = before


def find_cpp_compiler() -> str:
    """Return the C++ compiler that torch.compile would take for the CPU.

    `torch._inductor.cpp_builder`: publicly, torch looks for it at the first batch alone.

    Raises:
        RuntimeError: There is none that works.
        OSError: It cannot be started.
    """
    from torch._inductor.cpp_builder import get_cpp_compiler

    return get_cpp_compiler()


def raised_by_compiling(error: BaseException) -> bool:
    """Return whether an error is one of torch.compile's, whose classes are all in `torch._dynamo` or `torch._inductor`.

    There is no public class for them.
    """
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def cuda_is_lost_by_forking() -> bool:
    """Return whether this process was forked from one that had started CUDA, and can therefore not use it.

    Torch's `_is_in_bad_fork`; publicly, the first use of CUDA raises an error.
    """
    return torch.cuda._is_in_bad_fork()


def default_store() -> "dist.Store":
    """Return the store through which the processes have found each other.

    Torch's `_get_default_store`; publicly, whoever starts the processes has it, which is Lightning.
    """
    return dist.distributed_c10d._get_default_store()


def give_torchmetrics_logger(package: ModuleType) -> None:
    """Give torchmetrics' package its `_logger`, which its own modules import from it.

    The package's `__init__` would set it; see `gan_lightning.system.lean_imports`.
    """
    package._logger = logging.getLogger("torchmetrics")  # type: ignore[attr-defined]


def replace_layer_sync(
    strategy: "lightning.pytorch.strategies.ParallelStrategy", sync: "lightning.pytorch.plugins.LayerSync"
) -> None:
    """Have a strategy synchronise batch norm in another way, if `trainer.sync_batchnorm` has it synchronise any.

    Lightning's `_layer_sync`: publicly, the way is an argument of the trainer, which excludes `sync_batchnorm`.

    Args:
        strategy: Before its `setup`.
        sync: The other way.
    """
    if strategy._layer_sync:
        strategy._layer_sync = sync


def cluster_environment(trainer: "lightning.pytorch.Trainer") -> "ClusterEnvironment":
    """Return what started a trainer's processes, such as SLURM.

    Lightning's `_accelerator_connector`: publicly, strategies of several processes alone have it.
    """
    return trainer._accelerator_connector.cluster_environment


def logger_connector(trainer: "lightning.pytorch.Trainer") -> Any:
    """Return what sends a trainer's metrics to its loggers.

    Lightning's `_logger_connector`, of which we use `should_update_logs`, `metrics["log"]` and `log_metrics`. The
    public `trainer.logged_metrics` mixes what is about to be logged with all that has been.
    """
    return trainer._logger_connector


def validation_follows(trainer: "lightning.pytorch.Trainer") -> bool:
    """Return whether a trainer validates after the batch that it is at the end of.

    Lightning's `_should_check_val_fx` and the `_data_fetcher` that it takes; publicly, only the settings are known.
    """
    return trainer.fit_loop.epoch_loop._should_check_val_fx(data_fetcher(trainer))


def data_fetcher(trainer: "lightning.pytorch.Trainer") -> Any:
    """Return the iterator that a trainer takes its training batches from; `done` is true after the epoch's last one.

    Lightning's `_data_fetcher`: publicly, a batch is only handed over.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return fetcher


def logged_batch(trainer: "lightning.pytorch.Trainer") -> int:
    """Return the number of the present batch by which rows are logged; the first one is 1.

    `_batches_that_stepped` of Lightning's loop, which is one less.
    """
    return trainer.fit_loop.epoch_loop._batches_that_stepped + 1


def end_batch(trainer: "lightning.pytorch.Trainer") -> None:
    """Count the present batch as Lightning's loop does at its end.

    `_batches_that_stepped` again: the other counters are public.
    """
    loop = trainer.fit_loop.epoch_loop
    loop.batch_progress.increment_processed()
    loop.batch_progress.increment_completed()
    loop._batches_that_stepped += 1


def steps_between_saves(callback: "lightning.pytorch.callbacks.ModelCheckpoint") -> int:
    """Return a checkpoint's `every_n_train_steps`; 0 if it does not go by steps.

    Lightning's `_every_n_train_steps`: it has no property, as `every_n_epochs` has one.
    """
    return callback._every_n_train_steps


def _at_epoch_end(callback: "lightning.pytorch.Callback") -> str | None:
    names = ("_save_on_train_epoch_end", "_check_on_train_epoch_end")
    return next((name for name in names if hasattr(callback, name)), None)


def looks_at_epoch_end(callback: "lightning.pytorch.Callback") -> bool | None:
    """Return whether a callback looks at its metric where an epoch ends, else after a validation; None where not set.

    `_save_on_train_epoch_end` of Lightning's `ModelCheckpoint` and `_check_on_train_epoch_end` of its `EarlyStopping`:
    they are arguments, and have no property.
    """
    name = _at_epoch_end(callback)
    return None if name is None else getattr(callback, name)


def look_at_epoch_end(callback: "lightning.pytorch.Callback") -> None:
    """Have a callback look at its metric where an epoch ends, if it has the choice; see `looks_at_epoch_end`."""
    if (name := _at_epoch_end(callback)) is not None:
        setattr(callback, name, True)


def relieve_child_process_observer() -> None:
    """Relieve Lightning's own watch over the processes that it has started.

    `_child_processes` of its thread, which looks every five seconds and kills this process before it can say why. No
    argument turns it off.
    """
    for thread in threading.enumerate():
        if thread.name == "child-process-observer":
            thread._child_processes = []  # type: ignore[attr-defined]


def set_wandb_run(logger: "lightning.pytorch.loggers.WandbLogger", run: str) -> None:
    """Have a logger that has not started its run yet go on in another one.

    `_wandb_init` and `_id` of Lightning's `WandbLogger`: publicly, the run is an argument, or a variable of the whole
    process, whose next run would go on in it, too.

    Args:
        logger: Before its first use.
        run: The run's id.
    """
    logger._wandb_init |= {"id": run, "resume": "allow"}
    logger._id = run
