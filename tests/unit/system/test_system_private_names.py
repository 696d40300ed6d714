"""What we rely on of other packages' private names: each test fails where an upgrade changes one of them."""

import ast
import functools
import importlib
import inspect
import io
import pickle
import pickletools
import pkgutil
import re
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torchmetrics
import wandb
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import benchmarks
import gan_lightning
from gan_lightning.data.cifar10 import ArrayUnpickler
from gan_lightning.papers.subproblem.inductive_bias import DROPOUT
from gan_lightning.system import private_names
from gan_lightning.system.private_names import (
    DEVICE_COPIES,
    INHERITED,
    PICKLED_ARRAYS,
    BatchNorm,
    DispatchMode,
    add_all,
    cluster_environment,
    compiling_for_shared_graphs,
    copy_all,
    cuda_is_lost_by_forking,
    data_fetcher,
    default_store,
    end_batch,
    find_cpp_compiler,
    give_torchmetrics_logger,
    logged_batch,
    logger_connector,
    look_at_epoch_end,
    looks_at_epoch_end,
    raised_by_compiling,
    relieve_child_process_observer,
    replace_layer_sync,
    set_wandb_run,
    steps_between_saves,
    validation_follows,
    writes_into,
)

OWN_PACKAGES = (gan_lightning, benchmarks)

PUBLIC = {"_exit", "_replace", "_asdict", "_fields"}
"""Names of Python's own that are documented, whatever they look like."""


class Model(LightningModule):
    """One weight, which follows the mean of each batch, with batch norm before it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.weight = nn.BatchNorm1d(1), nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        loss = (self.norm(batch).mean() - self.weight - batch_idx - 1).square()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.weight)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.weight)

    def configure_optimizers(self):
        return torch.optim.SGD([self.weight], lr=0.1)


def trainer(*callbacks: Callback, **settings: object) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    plain = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "num_sanity_val_steps": 0, **quiet}
    return Trainer(callbacks=list(callbacks), **{**plain, "enable_model_summary": False, **settings})


def batches(count: int = 4) -> DataLoader:
    return DataLoader(torch.arange(2.0 * count)[:, None], batch_size=2)


# torch


def test_every_batch_norm_of_torch_is_known_and_no_instance_norm_is():
    kinds = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    named = {kind for kind in kinds if "BatchNorm" in kind.__name__}
    assert len(named) >= 7
    assert {kind for kind in kinds if issubclass(kind, BatchNorm)} == named


def test_the_common_forward_of_batch_norms_sees_this_process_alone():
    layer, x = nn.SyncBatchNorm(2), torch.randn(8, 2)
    found = BatchNorm.forward(layer.train(), x)
    torch.testing.assert_close(found, F.batch_norm(x, None, None, layer.weight, layer.bias, training=True))
    torch.testing.assert_close(layer.running_mean, 0.1 * x.mean(dim=0))


def test_every_dropout_of_torch_is_known():
    assert {kind for name, kind in vars(nn).items() if "Dropout" in name} == set(DROPOUT)


def test_writing_into_a_tensor_or_a_view_of_it_is_counted_and_reading_is_not():
    tensor = torch.zeros(3)
    before = writes_into(tensor)
    tensor.sum(), tensor.clone().add_(1), tensor[0].item()
    assert writes_into(tensor) == before
    tensor[1] = 2.0
    assert writes_into(tensor) == before + 1
    tensor.view(3, 1).mul_(2)
    assert writes_into(tensor) == before + 2


def test_many_tensors_are_copied_into_others_at_once():
    targets, sources = [torch.zeros(2), torch.zeros(1, 3)], [torch.ones(2), torch.full((1, 3), 2.0)]
    places = [target.data_ptr() for target in targets]
    copy_all(targets, sources)
    torch.testing.assert_close(targets, sources)
    assert [target.data_ptr() for target in targets] == places


def test_numbers_are_added_to_many_tensors_at_once():
    counters = [torch.tensor(1), torch.tensor(2**40), torch.tensor([3, 4])]
    places = [counter.data_ptr() for counter in counters]
    add_all(counters, [120, 1, 0])
    assert [counter.tolist() for counter in counters] == [121, 2**40 + 1, [3, 4]]
    assert [counter.data_ptr() for counter in counters] == places


def test_the_way_to_another_device_is_known():
    seen = []

    class Watch(DispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.overloadpacket)
            return func(*args, **(kwargs or {}))

    one, other = torch.zeros(2), torch.zeros(2, device="meta")
    with Watch():
        one.to("meta")
        other.copy_(one)
    assert seen == list(DEVICE_COPIES)


def graphs_of_one_function(calls: int) -> int:
    """Return how many graphs a function is compiled to that is called with so many different settings."""
    made = []

    def backend(graph, example_inputs):
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda x, setting: x + len(setting), backend=backend, dynamic=False)
    for call in range(calls):
        compiled(torch.zeros(2), "x" * call)
    return len(made)


def test_one_piece_of_code_is_compiled_to_as_many_graphs_as_are_asked_for():
    assert graphs_of_one_function(20) < 20
    with compiling_for_shared_graphs(64):
        assert graphs_of_one_function(20) == 20
    assert graphs_of_one_function(20) < 20


def go_through_twice() -> torch.Tensor:
    """Return the difference of a compiled graph's two gradients, once it has been compiled for one."""
    torch._dynamo.reset()
    x = torch.ones(3, 3, requires_grad=True)
    compiled = torch.compile(lambda x: (x @ x).sin().sum(), backend="aot_eager")
    torch.autograd.grad(compiled(x), x)
    loss = compiled(x)
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    return first - torch.autograd.grad(loss, x)[0]


def test_a_compiled_graph_may_be_gone_through_twice():
    with pytest.raises(RuntimeError, match="donated buffers"):
        go_through_twice()
    with compiling_for_shared_graphs(1):
        assert not go_through_twice().any()


def test_the_compiler_that_torch_would_take_is_found_or_missed(monkeypatch):
    from torch._inductor import config

    with config.patch({"cpp.cxx": (None, sys.executable)}):
        assert find_cpp_compiler() == sys.executable  # whatever answers to --version
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(RuntimeError, match="No working C\\+\\+"):
        find_cpp_compiler()


def test_what_compiling_raises_is_known_by_its_class():
    def fails(graph, example_inputs):
        raise ValueError("no such operation")

    def breaks(x):
        torch._dynamo.graph_break()
        return x

    def caught(function, **settings):
        torch._dynamo.reset()
        with pytest.raises(RuntimeError) as found:
            torch.compile(function, **settings)(torch.ones(2))
        return found.value

    assert raised_by_compiling(caught(torch.sin, backend=fails))
    assert raised_by_compiling(caught(breaks, backend="eager", fullgraph=True))
    from torch._inductor.exc import CppCompileError, InductorError  # raised where machine code is made

    assert all(raised_by_compiling(kind.__new__(kind)) for kind in (CppCompileError, InductorError))
    assert not raised_by_compiling(RuntimeError("another one's"))


def test_a_sum_over_processes_is_seen_among_the_operations(tmp_path):
    seen = []

    class Names(DispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        with Names():
            dist.all_reduce(torch.ones(2) + 1)
    finally:
        dist.destroy_process_group()
    assert [name for name in seen if name != "aten::ones"][:2] == ["aten::add.Tensor", "c10d::allreduce_"]


def test_the_default_store_is_shared_by_the_processes(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        assert default_store().add("calls", 2) == 2
        default_store().set("done", "")
        default_store().wait(["done"], timedelta(days=30))
    finally:
        dist.destroy_process_group()


# numpy


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickled_array_names_nothing_else(protocol):
    known = {("numpy", "ndarray"), ("numpy", "dtype"), *PICKLED_ARRAYS}
    pickled = pickle.dumps({"data": np.arange(6, dtype=np.uint8)}, protocol=protocol)

    named = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module, name):
            named.add((module, name))
            return super().find_class(module, name)

    Noting(io.BytesIO(pickled)).load()
    assert named <= known
    assert any(name == "_reconstruct" for _, name in named)


def test_an_array_that_an_older_numpy_pickled_is_read():
    array = np.arange(6, dtype=np.uint8)
    today = pickle.dumps(array, protocol=2)
    older = today.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert "numpy.core.multiarray _reconstruct" in {argument for _, argument, _ in pickletools.genops(older)}
    for pickled in (today, older):
        np.testing.assert_array_equal(ArrayUnpickler(io.BytesIO(pickled)).load(), array)


# Lightning


class Recorded(LayerSync):
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def apply(self, model):
        self.calls.append("apply")
        return model

    def revert(self, model):
        self.calls.append("revert")
        return model


def test_a_process_that_nobody_has_forked_can_use_cuda(monkeypatch):
    assert cuda_is_lost_by_forking() is False
    assert "_is_in_bad_fork()" in inspect.getsource(torch.cuda._lazy_init), "what torch itself asks"
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert cuda_is_lost_by_forking() is True


def test_torchmetrics_modules_import_its_logger_from_it():
    package = ModuleType("torchmetrics")
    give_torchmetrics_logger(package)
    assert package._logger is torchmetrics._logger
    assert torchmetrics.utilities.prints.log is torchmetrics._logger, "what they import it for"


@pytest.mark.parametrize(("synchronises", "calls"), [(True, ["apply", "revert"]), (False, [])])
def test_another_way_to_synchronise_batch_norm_takes_the_place_of_lightnings(synchronises, calls):
    sync = Recorded()

    class Replace(Callback):
        def setup(self, trainer, pl_module, stage):
            replace_layer_sync(trainer.strategy, sync)

    trainer(Replace(), strategy="ddp", sync_batchnorm=synchronises).fit(Model(), batches(1))
    dist.destroy_process_group()
    assert sync.calls == calls


@pytest.mark.parametrize("requeues", [True, False])
def test_what_is_set_of_slurm_is_what_lightning_listens_by(requeues, monkeypatch):
    monkeypatch.setattr(SLURMEnvironment, "detect", staticmethod(lambda: True))
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "job")
    listening = []

    class Listens(Callback):
        def on_train_start(self, trainer, pl_module):
            listening.append(signal.getsignal(signal.SIGUSR1))

    before = signal.getsignal(signal.SIGUSR1)
    its = trainer(Listens())
    environment = cluster_environment(its)
    assert isinstance(environment, SLURMEnvironment)
    environment.auto_requeue = requeues
    its.fit(Model(), batches(1))
    assert (listening != [before]) == requeues


def test_what_is_about_to_be_logged_is_known_before_it_is(tmp_path):
    class Logged(CSVLogger):
        def log_metrics(self, metrics, step=None):
            rows.append({**metrics, "step": step})

    class Asks(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            connector = logger_connector(trainer)
            before = len(rows)
            if connector.should_update_logs:
                connector.log_metrics(connector.metrics["log"])
            asked.extend(rows[before:])
            del rows[before:]

    rows, asked = [], []
    trainer(Asks(), logger=Logged(tmp_path), log_every_n_steps=2).fit(Model(), batches(5))
    assert [row["step"] for row in rows] == [1, 3]
    assert asked == rows


@pytest.mark.parametrize(("every", "expected"), [(2, [False, True, False, True]), (1.0, [False, False, False, True])])
def test_a_validation_is_known_before_it_is_made(every, expected):
    class Asks(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            found.append(validation_follows(trainer))
            made.append(False)

        def on_validation_start(self, trainer, pl_module):
            made[-1] = True

    found, made = [], []
    trainer(Asks(), val_check_interval=every).fit(Model(), batches(4), batches(1))
    assert found == made == expected


def test_a_further_batch_can_be_taken_and_the_one_before_counted_as_lightning_counts():
    class Takes(Callback):
        seen = ()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            fetcher, progress = data_fetcher(trainer), trainer.fit_loop.epoch_loop.batch_progress
            self.seen += ((logged_batch(trainer), progress.total.processed, fetcher.done, batch.tolist()),)
            if logged_batch(trainer) == 2:
                trainer.fit_loop.epoch_loop.batch_progress.increment_by(-1)
                end_batch(trainer)
                self.taken, *_ = next(fetcher)
                progress.increment_ready()
                progress.increment_started()
                progress.increment_processed()

    takes = Takes()
    trainer(takes).fit(Model(), batches(4))
    assert takes.seen == ((1, 1, False, [[0], [1]]), (2, 2, False, [[2], [3]]), (4, 4, True, [[6], [7]]))
    assert takes.taken.tolist() == [[4], [5]]


def test_a_checkpoint_says_how_many_steps_are_between_its_saves():
    assert steps_between_saves(ModelCheckpoint(every_n_train_steps=7)) == 7
    assert steps_between_saves(ModelCheckpoint(every_n_epochs=1)) == 0


@pytest.mark.parametrize("at_epoch_end", [True, False, None])
def test_whether_a_callback_looks_where_an_epoch_ends_is_what_it_was_told(at_epoch_end):
    assert looks_at_epoch_end(ModelCheckpoint(save_on_train_epoch_end=at_epoch_end)) is at_epoch_end
    assert looks_at_epoch_end(EarlyStopping("loss", check_on_train_epoch_end=at_epoch_end)) is at_epoch_end
    assert looks_at_epoch_end(Callback()) is None


def test_a_callback_that_is_to_look_where_an_epoch_ends_does(tmp_path):
    fitting = trainer(check_val_every_n_epoch=2)
    fitting.state.fn = TrainerFn.FITTING
    stopping = EarlyStopping("loss", check_on_train_epoch_end=False)
    stopping.on_train_epoch_end(fitting, Model())
    look_at_epoch_end(stopping)
    with pytest.raises(RuntimeError, match="`loss` which is not available"):
        stopping.on_train_epoch_end(fitting, Model())
    saving = ModelCheckpoint(tmp_path)
    assert not saving._should_save_on_train_epoch_end(fitting)
    look_at_epoch_end(saving)
    assert saving._should_save_on_train_epoch_end(fitting)
    look_at_epoch_end(other := Callback())
    assert not vars(other)


@pytest.mark.parametrize("relieved", [True, False])
def test_lightnings_watch_kills_nobody_once_it_is_relieved(relieved):
    failed = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    failed.wait()
    main = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        watch = _ChildProcessObserver(main_pid=main.pid, child_processes=[failed], sleep_period=1)
        watch.start()
        if relieved:
            relieve_child_process_observer()
        watch.join(timeout=30)
        assert not watch.is_alive()
        assert (main.poll() is None) == relieved or main.wait(timeout=30) == -signal.SIGKILL
    finally:
        main.kill()
        main.wait()


def test_the_run_that_wandb_goes_on_in_is_the_one_that_was_set(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(wandb, "run", None)
    monkeypatch.setattr(wandb, "init", lambda **settings: asked.update(settings))
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    assert logger.version is None
    set_wandb_run(logger, "former")
    assert logger.version == "former"
    assert logger.experiment is None
    assert (asked["id"], asked["resume"]) == ("former", "allow")


# what our classes inherit of Lightning's


def test_every_inherited_name_is_there():
    objects = {
        "lightning.pytorch.Trainer": trainer(),
        "lightning.pytorch.cli.LightningCLI": LightningCLI,
        "lightning.pytorch.callbacks.ModelCheckpoint": ModelCheckpoint(),
    }
    assert objects.keys() == INHERITED.keys()
    lacking = [(path, name) for path, names in INHERITED.items() for name in names if not hasattr(objects[path], name)]
    assert not lacking


@pytest.mark.parametrize("task", ["fit", "test"])
def test_the_trainer_runs_its_stage_with_the_model_in_its_place(task):
    class Own(Trainer):
        def _run_stage(self):
            calls.append((self.lightning_module is model, self.state.fn))
            return super()._run_stage()

    calls, model = [], Model()
    plain = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    own = Own(max_epochs=1, enable_model_summary=False, **plain)
    getattr(own, task)(model, batches(1))
    assert calls == [(True, task)]


def test_the_command_line_reads_a_checkpoint_between_parsing_and_making():
    class Own(LightningCLI):
        def parse_arguments(self, parser, args):
            super().parse_arguments(parser, args)
            calls.append("parsed")

        def _parse_ckpt_path(self):
            calls.append("checkpoint")

        def before_instantiate_classes(self):
            calls.append("making")

    calls = []
    plain = ["--seed_everything=false", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    Own(Model, args=plain, run=False, save_config_callback=None)
    assert calls == ["parsed", "checkpoint", "making"]


def test_the_settings_of_a_checkpoint_callback_are_kept_where_we_read_them():
    assert ModelCheckpoint(every_n_train_steps=3)._every_n_train_steps == 3
    assert ModelCheckpoint()._every_n_train_steps == 0
    assert ModelCheckpoint(train_time_interval=timedelta(1))._train_time_interval == timedelta(1)
    assert ModelCheckpoint()._train_time_interval is None


def test_a_checkpoint_callback_saves_links_and_notes_what_it_has_saved(tmp_path):
    class Own(ModelCheckpoint):
        @staticmethod
        def _link_checkpoint(trainer, filepath, linkpath):
            links.append((Path(filepath).name, Path(linkpath).name))

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert self._last_global_step_saved == 0
            assert self._last_checkpoint_saved == ""
            candidates = self._monitor_candidates(trainer)
            assert {"loss", "epoch", "step"} <= candidates.keys()
            self._save_topk_checkpoint(trainer, candidates)
            assert self._last_global_step_saved == trainer.global_step == 1
            assert Path(self._last_checkpoint_saved).name == "at-1.ckpt"
            self._save_last_checkpoint(trainer, candidates)

        def on_train_epoch_end(self, trainer, pl_module):
            assert self._should_save_on_train_epoch_end(trainer)
            super().on_train_epoch_end(trainer, pl_module)
            saved.append(sorted(path.name for path in tmp_path.iterdir()))
            self._last_global_step_saved = 0
            super().on_train_epoch_end(trainer, pl_module)
            saved.append(sorted(path.name for path in tmp_path.iterdir()))

    links, saved = [], []
    own = Own(tmp_path, "at-{step}", auto_insert_metric_name=False, save_last="link", save_top_k=-1, monitor="loss")
    trainer(own, enable_checkpointing=True).fit(Model(), batches(1))
    assert links == [("at-1.ckpt", "last.ckpt"), ("at-1-v1.ckpt", "last.ckpt")]
    assert saved == [["at-1.ckpt"], ["at-1-v1.ckpt", "at-1.ckpt"]]


# that no other file uses one


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def private_names_in(source: ast.AST) -> dict[str, int]:
    """Return the private names that a source imports, or asks others than `self` and `cls` for, each with its line."""
    found: dict[str, int] = {}
    for node in ast.walk(source):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(each.name for each in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for each in node.names for part in each.name.split(".")]
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                names = [node.attr]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[\w.]+", node.value):
            # What getattr is given, and modules by their names; a suffix such as "_loss" is neither.
            names = node.value.split(".")[1:]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ATTRIBUTE_FUNCTIONS:
            own = isinstance(node.args[0], ast.Name) and node.args[0].id in ("self", "cls")
            names = [each.value for each in node.args[1:2] if isinstance(each, ast.Constant) and not own]
        found |= {name: node.lineno for name in names if is_private(name)}
    return found


ATTRIBUTE_FUNCTIONS = ("getattr", "setattr", "hasattr", "delattr")


def defined_in(source: ast.AST) -> set[str]:
    """Return the private names that a source defines: functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(source):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            own = isinstance(node, ast.Name) or (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
            found |= {node.id if isinstance(node, ast.Name) else node.attr} if own else set()
    return {name for name in found if is_private(name)}


def sources() -> dict[Path, ast.AST]:
    files = [path for package in OWN_PACKAGES for path in Path(package.__file__).parent.rglob("*.py")]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}


LISTED = Path(private_names.__file__)


def foreign_names(source: ast.AST, own: set[str], listed: set[str]) -> dict[str, int]:
    """Return those private names of a source that are others' own, or that the one file lists."""
    return {name: line for name, line in private_names_in(source).items() if name in listed or name not in own | PUBLIC}


def test_no_other_file_uses_a_private_name_of_another_package():
    found = sources()
    listed = private_names_in(found.pop(LISTED)).keys()
    own = set().union(*map(defined_in, found.values()))
    elsewhere = {
        f"{path}:{line} {name}"
        for path, source in found.items()
        for name, line in foreign_names(source, own, set(listed)).items()
    }
    assert not elsewhere, "gan_lightning/system/private_names.py is their place"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch._dynamo", "_dynamo"),
        ("import torch._dynamo.config as config", "_dynamo"),
        ("from torch._dynamo import config", "_dynamo"),
        ("from torch.nn.modules.batchnorm import _BatchNorm", "_BatchNorm"),
        ("trainer._logger_connector.metrics", "_logger_connector"),
        ("self.trainer._results", "_results"),
        ("super()._run_stage()", "_run_stage"),
        ("getattr(callback, '_save_on_train_epoch_end')", "_save_on_train_epoch_end"),
        ("setattr(callback, '_every_n_epochs', 1)", "_every_n_epochs"),
        ("name.startswith('torch._dynamo')", "_dynamo"),
        ("self._version\ntensor._version", "_version"),
    ],
)
def test_a_private_name_of_another_package_is_found_however_it_is_used(source, name):
    assert foreign_names(ast.parse(source), {"_version"}, {"_version"}) == {name: source.count("\n") + 1}


@pytest.mark.parametrize(
    "source",
    ["self._run()", "store._stores", "os._exit(1)", "from __future__ import annotations", "x.__dict__", "'_loss'"],
)
def test_what_is_our_own_or_public_is_left_alone(source):
    assert not foreign_names(ast.parse(source), {"_run", "_stores"}, set())


def own_classes() -> list[type]:
    modules = [
        importlib.import_module(each.name)
        for package in OWN_PACKAGES
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not each.name.endswith("__main__")
    ]
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
    ]


@functools.cache
def names_of_base(base: type) -> set[str]:
    """Return the names that a class has, and that its methods give to its objects."""
    with suppress(OSError):  # of a class that is written in C
        return set(vars(base)) | set(re.findall(r"self\.(_\w+)", inspect.getsource(base)))
    return set(vars(base))


@functools.cache
def classes_in(file: str) -> dict[str, ast.ClassDef]:
    """Return the classes of a file by their names."""
    nodes = ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


def inherited_names(kind: type) -> set[str]:
    """Return the private names of other packages' bases that a class has overridden or uses on itself."""
    own = ("gan_lightning", "benchmarks", "typing", "abc", "builtins")
    bases = [base for base in kind.__mro__[1:-1] if base.__module__.partition(".")[0] not in own]
    theirs = set().union(*map(names_of_base, bases))
    used = {
        node.attr
        for node in ast.walk(classes_in(inspect.getfile(kind))[kind.__name__])
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    return {name for name in theirs & (used | set(vars(kind))) if is_private(name)} - {"_abc_impl"}


def test_all_that_our_classes_use_of_what_they_inherit_is_listed_and_nothing_else():
    classes = own_classes()
    assert len(classes) > 100
    assert set().union(*map(inherited_names, classes)) == {name for names in INHERITED.values() for name in names}


class Overrides(Trainer):
    """Overrides one private name, reads another one, and has one of its own."""

    def _run_stage(self) -> None:
        self._own = self._logger_connector


def test_what_a_class_inherits_is_found_where_it_is_overridden_or_read():
    assert inherited_names(Overrides) == {"_run_stage", "_logger_connector"}


def test_the_file_says_how_many_there_are():
    by_functions = set(private_names_in(ast.parse(LISTED.read_text(encoding="utf-8"))))
    by_functions |= {"_save_on_train_epoch_end", "_check_on_train_epoch_end", "_reconstruct", "_codecs"}
    inherited = {name for names in INHERITED.values() for name in names}
    assert not by_functions & inherited
    assert f"There are {len(by_functions | inherited)}: " in private_names.__doc__
    assert f"{len(inherited)} are methods and attributes of classes that ours derive from" in private_names.__doc__
