"""Time per step of two processes on one machine: ways to average gradients, and scaling; both in turn, batch by batch.

    python benchmarks/processes.py --model mgan --width 32 --rounds 20

Two processes with a thread each train one model on random images. Each round has a batch of each way in an order that
turns around, so that what else the machine does weighs on all; a batch ends when both processes have done with it.
Ratios are taken within a round. The processor time is the first process's: what it worked, without what it waited for.
The ways:

- `once`: the framework's own, one exchange for all optimizers that step together.
- `search`: one DDP reducer over the whole model, as Lightning has it with `find_unused_parameters`, which averages all
  gradients that a backward pass reaches.
- `networks`: a DDP reducer for each optimizer's networks, which averages theirs alone while the backward pass goes on.
- `silent`: no exchange: what is left is computing, and waiting for the slower process.
- `alone`: the first process computes, the second waits: what one process takes.
- `half`: `once`, on half the batch for each: what one process does, shared.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.overrides.distributed import prepare_for_backward
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from gan_lightning.papers import GAN, MGAN, TutorialNetworks
from gan_lightning.system.private_names import DispatchMode
from gan_lightning.training import adversarial as base
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.simultaneous import DecayedAdam

WAYS = ("once", "search", "networks", "silent", "alone", "half")

WARM_UP = 2
"""Rounds that are not timed."""


class Noise(Dataset):
    """As many random images as it takes; all the same one."""

    def __init__(self, count: int, channels: int, size: int) -> None:
        self.count, self.image = count, torch.rand(channels, size, size) * 2 - 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.image, 0


class Exchanges(DispatchMode):
    """Notes how many values each sum over the processes has, whoever asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Look at an operation and do it."""
        if func.name() == "c10d::allreduce_":
            self.values.append(sum(tensor.numel() for tensor in args[0]))
        return func(*args, **(kwargs or {}))


class Ways(Callback):
    """Has a model's batches take turns in how gradients are averaged, and times them."""

    def __init__(self, ways: Sequence[str]) -> None:
        self.ways, self.way = ways, ways[0]
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.processor_seconds: dict[str, list[float]] = defaultdict(list)
        self.values: dict[str, list[int]] = {}
        self.average = base.average_gradients
        self.searching: DistributedDataParallel | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the ways in the place of the framework's own."""
        assert isinstance(pl_module, AdversarialModule)
        self.model, self.trainer = pl_module, trainer
        self.own_gradients, self.own_step = pl_module._gradients, pl_module.training_step
        self.reducers = {
            frozenset(weights): DistributedDataParallel(nn.ParameterList(weights), broadcast_buffers=False)
            for weights in ([p for g in one.param_groups for p in g["params"]] for one in trainer.optimizers)
        }
        base.average_gradients = lambda gradients, statistics: self._average(gradients, statistics)
        object.__setattr__(pl_module, "_gradients", self._gradients)
        object.__setattr__(pl_module, "training_step", self._step)

    def _average(self, gradients: list, statistics: list) -> None:
        if self.way in ("once", "half"):
            self.average(gradients, statistics)

    def _gradients(self, loss: Tensor, parameters: Sequence[Tensor], retain_graph: bool) -> dict:
        if self.searching is not None:
            prepare_for_backward(self.searching, loss)
            with self.trainer.strategy.block_backward_sync():
                self.model.manual_backward(loss, retain_graph=retain_graph)
            gradients = {parameter: parameter.grad for parameter in parameters}
            self.model.zero_grad(set_to_none=True)
            return gradients
        if self.way == "networks":
            for weights, reducer in self.reducers.items():
                if weights <= set(parameters):
                    prepare_for_backward(reducer, loss)
        return self.own_gradients(loss, parameters, retain_graph)

    def _step(self, batch: list[Tensor], batch_idx: int) -> None:
        turn, place = divmod(batch_idx, len(self.ways))
        self.way = (self.ways if turn % 2 == 0 else self.ways[::-1])[place]
        images, labels = batch
        per_generator = getattr(self.model, "images_per_generator", 0)
        if self.way == "half":
            images, labels = images[: len(images) // 2], labels[: len(labels) // 2]
            self.model.images_per_generator = per_generator // 2
        if (
            self.way == "search"
        ):  # made anew, since a reducer that searches takes note of the other ways' gradients, too
            self.searching = DistributedDataParallel(self.model, find_unused_parameters=True, broadcast_buffers=False)
        dist.barrier()
        started, worked = time.perf_counter(), time.process_time()
        if self.way != "alone" or dist.get_rank() == 0:
            with Exchanges() if turn < WARM_UP else nullcontext() as exchanges:
                self.own_step((images, labels), batch_idx)
            if exchanges is not None:
                self.values[self.way] = exchanges.values
        dist.barrier()
        self.seconds[self.way].append(time.perf_counter() - started)
        self.processor_seconds[self.way].append(time.process_time() - worked)
        self.model.images_per_generator, self.searching = per_generator, None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the framework's own back."""
        base.average_gradients = self.average


def model_of(name: str, width: int, batch_size: int) -> tuple[AdversarialModule, int, int]:
    """Return the model, and its images' channels and size."""
    if name == "mgan":
        return MGAN(3, 32, base_width=width, fake_batch_size=batch_size), 3, 32
    adam = DecayedAdam(weight_decay=0.0, final_share=1.0)
    networks = TutorialNetworks(base_width=width)
    return GAN(3, 64, networks, adam, simultaneous=False, latent_prior="normal"), 3, 64


def process(rank: int, folder: str, args: argparse.Namespace) -> None:
    """Train as one of two processes; the first one prints."""
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    seed_everything(0, verbose=False)
    model, channels, size = model_of(args.model, args.width, args.batch_size)
    batches = (WARM_UP + args.rounds) * len(args.ways)
    images = Noise(2 * batches * args.batch_size, channels, size)
    ways = Ways(args.ways)
    Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False, callbacks=[ways],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, DataLoader(images, batch_size=args.batch_size))  # fmt: skip
    if rank == 0:
        print("\n".join(report(model, args, ways)), flush=True)
    dist.destroy_process_group()


def report(model: AdversarialModule, args: argparse.Namespace, ways: Ways) -> Iterator[str]:
    """Yield the lines of a table."""
    weights = sum(weight.numel() for weight in model.parameters())
    load = os.getloadavg()[0]
    yield f"{args.model}, width {args.width}, batch {args.batch_size}: {weights:,} weights; load {load:.1f}"
    yield "| way | exchanges | values | median, s | quarters | beside the first | quarters | processor, s | quarters |"
    yield "|" + " --- |" * 9
    seconds = {way: times[WARM_UP:] for way, times in ways.seconds.items()}
    for way, times in seconds.items():
        ratios = [time / first for time, first in zip(times, seconds[args.ways[0]], strict=True)]
        worked = ways.processor_seconds[way][WARM_UP:]
        cells = [f"{len(ways.values[way])} | {sum(ways.values[way]):,}"]
        for each, digits in ((times, 3), (ratios, 2), (worked, 3)):
            low, middle, high = statistics.quantiles(each, n=4)
            cells.append(f"{middle:.{digits}f} | {low:.{digits}f} - {high:.{digits}f}")
        yield f"| {way} | {' | '.join(cells)} |"


def main(given: list[str] | None = None) -> None:
    """Start both processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mgan", "dcgan"), default="mgan")
    for name, default in (("width", 32), ("batch_size", 120), ("rounds", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="ratios are those to the first one")
    args = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder, args), nprocs=2)


if __name__ == "__main__":
    main()
