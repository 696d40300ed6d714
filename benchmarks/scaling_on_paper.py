"""How training would scale on many GPUs: bytes to exchange against operations to compute, of each model at full size.

    python benchmarks/scaling_on_paper.py --gpus 8 1024

Weights are counted, and so are the operations of a real step on the CPU, by torch's counter: the products of
convolutions and linear layers, forwards and backwards. The times that follow from them are arithmetic on the rates that
are given, and no measurement:

- a GPU does `share` of `peak` operations a second, once as a small batch keeps it busy and once as a large one might;
- a sum over n GPUs moves 2 (n - 1) / n times its bytes through the slowest link of each, at `within` bytes a second
  inside of a node and `between` to other nodes, and waits `latency` seconds 2 log2(n) times, up a tree and down again;
- an exchange waits for the whole backward pass, and the step for the exchange: nothing overlaps.

With `--images` a second table has the hours of a training of `--epochs`, with the same batch on each GPU:

    python benchmarks/scaling_on_paper.py --settings "BiGAN, images" "BiGAN, E at 112" --gpus 8 --images 1281167
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    BiGAN,
    ImageNetworks,
    LatentRegressor,
    PermutationInvariantNetworks,
    SelfExGAN,
    TutorialNetworks,
)
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.simultaneous import DecayedAdam

TUTORIAL = DecayedAdam(weight_decay=0.0, final_share=1.0)


@dataclass(frozen=True)
class Setting:
    """A model at a paper's sizes.

    Attributes:
        model: Makes it.
        channels: Of the images.
        size: Of the images, pixels.
        batch_size: Images of a process.
        exchanges: Of gradients, in a step.
    """

    model: Callable[[], AdversarialModule]
    channels: int
    size: int
    batch_size: int
    exchanges: int


SETTINGS: Mapping[str, Setting] = {
    "M-GAN, CIFAR-10": Setting(lambda: MGAN(3, 32), 3, 32, 120, 2),
    "M-GAN, no shared layer": Setting(lambda: MGAN(3, 32, shares_removed=4), 3, 32, 120, 2),
    "DCGAN, CelebA": Setting(
        lambda: GAN(3, 64, TutorialNetworks(), TUTORIAL, simultaneous=False, latent_prior="normal"), 3, 64, 128, 2
    ),
    "BiGAN, MNIST": Setting(lambda: BiGAN(1, 28, PermutationInvariantNetworks()), 1, 28, 128, 1),
    "BiGAN, images": Setting(lambda: BiGAN(3, 64, ImageNetworks()), 3, 64, 128, 1),
    "BiGAN, E at 112": Setting(lambda: BiGAN(3, 112, ImageNetworks()), 3, 112, 128, 1),
    "JLR, images": Setting(lambda: LatentRegressor(3, 64, ImageNetworks(), joint_weight=0.25), 3, 64, 128, 1),
    "Autoencoder, images": Setting(lambda: Autoencoder(3, 64, ImageNetworks()), 3, 64, 128, 1),
    "SelfExGAN, MNIST": Setting(lambda: SelfExGAN(1, 32, "mnist"), 1, 32, 64, 2),
    "SelfExGAN, CelebA": Setting(lambda: SelfExGAN(3, 64, "celeba"), 3, 64, 64, 2),
}


@dataclass(frozen=True)
class Step:
    """What a training step takes.

    Attributes:
        images: Of the batch of a process.
        weights: Of the model.
        values: That all its exchanges sum up, gradients of all optimizers' weights.
        operations: Additions and multiplications of a process.
        exchanges: Of gradients.
    """

    images: int
    weights: int
    values: int
    operations: int
    exchanges: int


def counted(setting: Setting) -> Step:
    """Train for one batch and count."""
    torch.manual_seed(0)
    model = setting.model()
    images = torch.rand(setting.batch_size, setting.channels, setting.size, setting.size) * 2 - 1
    data = TensorDataset(images, torch.zeros(len(images), dtype=torch.int64))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        trainer.fit(model, DataLoader(data, batch_size=len(images)))
    values = sum(p.numel() for one in trainer.optimizers for group in one.param_groups for p in group["params"])
    weights = sum(weight.numel() for weight in model.parameters())
    return Step(setting.batch_size, weights, values, counter.get_total_flops(), setting.exchanges)


@dataclass(frozen=True)
class Rates:
    """What is assumed of the machines.

    Attributes:
        peak: Operations a second of a GPU.
        node: GPUs of a node.
        within: Bytes a second of a GPU's link inside of a node.
        between: Bytes a second of a GPU's link to other nodes.
        latency: Of a hop, seconds.
    """

    peak: float
    node: int
    within: float
    between: float
    latency: float

    def exchange(self, step: Step, gpus: int) -> float:
        """Return the seconds that a step's exchanges take."""
        rate = self.within if gpus <= self.node else self.between
        moved = 2 * (gpus - 1) / gpus * 4 * step.values / rate
        return moved + step.exchanges * 2 * math.log2(gpus) * self.latency


def table(steps: Mapping[str, Step], rates: Rates, gpus: Sequence[int], shares: Sequence[float]) -> Iterator[str]:
    """Yield the lines of a table: counts, and milliseconds and efficiencies that follow from the rates."""
    columns = ["model", "weights", "MB a step", "GFLOP a step", "FLOP per byte"]
    columns += [f"computing at {share:.1%}, ms" for share in shares]
    for count in gpus:
        columns += [f"exchange, {count} GPUs, ms", *(f"efficiency at {share:.1%}" for share in shares)]
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for name, step in steps.items():
        size = 4 * step.values
        cells = [name, f"{step.weights / 1e6:.1f}M", f"{size / 1e6:.1f}", f"{step.operations / 1e9:,.0f}"]
        cells += [f"{step.operations / size:,.0f}"]
        computing = [step.operations / (share * rates.peak) for share in shares]
        cells += [f"{seconds * 1e3:.2f}" for seconds in computing]
        for count in gpus:
            waiting = rates.exchange(step, count)
            cells += [f"{waiting * 1e3:.2f}", *(f"{seconds / (seconds + waiting):.1%}" for seconds in computing)]
        yield f"| {' | '.join(cells)} |"


def training_table(
    steps: Mapping[str, Step], rates: Rates, gpus: Sequence[int], shares: Sequence[float], images: int, epochs: int
) -> Iterator[str]:
    """Yield the lines of a table of images a second and hours, which follow from the rates."""
    cases = [(count, share) for count in (1, *gpus) for share in shares]
    columns = ["model", "images/s of one GPU", *(f"hours, {count} GPU at {share:.1%}" for count, share in cases)]
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for name, step in steps.items():
        seconds = {(n, share): step.operations / (share * rates.peak) + rates.exchange(step, n) for n, share in cases}
        cells = [name, ", ".join(f"{step.images / seconds[1, share]:,.0f}" for share in shares)]
        cells += [f"{images * epochs / (step.images * n) * seconds[n, share] / 3600:.2g}" for n, share in cases]
        yield f"| {' | '.join(cells)} |"


def main(given: list[str] | None = None) -> None:
    """Count, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 1024])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05, 0.4], help="of the peak that is reached")
    for name, default, meaning in (
        ("peak", 494e12, "operations a second of a GPU"),
        ("within", 450e9, "bytes a second of a GPU inside of a node"),
        ("between", 50e9, "bytes a second of a GPU to other nodes"),
        ("latency", 1e-5, "seconds of a hop"),
    ):
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{meaning} (%(default)g)")
    parser.add_argument("--node", type=int, default=8, help="GPUs of a node (%(default)s)")
    parser.add_argument("--images", type=int, help="of an epoch; by default there is no second table")
    parser.add_argument("--epochs", type=int, default=100, help="of a training (%(default)s)")
    args = parser.parse_args(given)
    rates = Rates(args.peak, args.node, args.within, args.between, args.latency)
    steps = {name: counted(SETTINGS[name]) for name in args.settings}
    print("\n".join(table(steps, rates, args.gpus, args.shares)))
    if args.images:
        print("", *training_table(steps, rates, args.gpus, args.shares, args.images, args.epochs), sep="\n")


if __name__ == "__main__":
    main()
