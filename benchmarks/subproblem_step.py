"""Time per step of direct and of explicitly split training, the same program twice, in turn.

    python benchmarks/subproblem_step.py --base_width 16 --batch_size 128 --rounds 5 --batches 10

Two DCGANs of the same weights train on the same random images. Each round times some batches of the one and then of the
other, the order changing from round to round; the ratio is taken within a round, so that what else the machine does
meanwhile weighs on both. Prints each round, and the median ratio with its least and its largest.
"""

import argparse
import statistics
import time

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.papers import GAN, InverseExamples, TutorialNetworks
from gan_lightning.training.generator_updates import Direct, GeneratorUpdate
from gan_lightning.training.simultaneous import DecayedAdam

WARM_UP = 2
"""Batches of each fit that are not timed."""


class Stopwatch(Callback):
    """Times the batches after the first few."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Start at the first batch that counts."""
        if batch_idx == WARM_UP:
            _finish()
            self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop at the last."""
        if batch_idx + 1 == trainer.num_training_batches:
            _finish()
            self.seconds = time.perf_counter() - self.started


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_per_step(update: GeneratorUpdate, loader: DataLoader, base_width: int) -> float:
    """Return the mean time of a step of D and of G."""
    seed_everything(0, verbose=False)
    model = GAN(
        3, 64, TutorialNetworks(base_width=base_width), DecayedAdam(weight_decay=0.0, final_share=1.0),
        simultaneous=False, latent_prior="normal", generator_update=update,
    )  # fmt: skip
    stopwatch = Stopwatch()
    Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[stopwatch],
    ).fit(model, loader)  # fmt: skip
    return stopwatch.seconds / (len(loader) - WARM_UP)


def main() -> None:
    """Run the rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("base_width", 64), ("batch_size", 128), ("rounds", 5), ("batches", 10), ("steps", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    count = args.batch_size * (WARM_UP + args.batches)
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loader = DataLoader(TensorDataset(images, torch.zeros(count, dtype=torch.int64)), batch_size=args.batch_size)
    updates = {"direct": Direct(), "split": InverseExamples(inversion_steps=args.steps)}
    ratios = []
    for turn in range(args.rounds):
        names = list(updates) if turn % 2 == 0 else list(reversed(updates))
        took = {name: seconds_per_step(updates[name], loader, args.base_width) for name in names}
        ratios.append(took["split"] / took["direct"])
        print(f"round {turn + 1}: direct {took['direct']:.4f} s, split {took['split']:.4f} s, ratio {ratios[-1]:.3f}")
    print(f"ratio split / direct: median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
