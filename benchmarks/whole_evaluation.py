"""The whole transfer evaluation of an M-GAN, as it ends a training: no program beside it, seconds alone."""

from dataclasses import replace

import torch

from benchmarks.evaluation import TransferSize, mnist_like
from benchmarks.progress import Progress
from benchmarks.sizes import MGANSize
from benchmarks.timing import Budget, Comparison, Pair, compare
from gan_lightning.evaluation import PAPER
from gan_lightning.measurements import Bench, Transfer


def evaluation_pair(
    size: MGANSize,
    images: TransferSize,
    root: str | None,
    goal: float | None,
    budget: Budget,
    device: torch.device,
) -> Pair:
    """Return the evaluation of D's and C's features by both protocols, with all controls.

    Args:
        size: Of the M-GAN.
        images: How many there are, and the epochs of the paper's protocol.
        root: Folder of the data sets; random images without one.
        goal: Seconds.
        budget: How long to repeat it.
        device: Where.
    """
    comparison = Comparison("evaluation", "both protocols, controls", "", "evaluation", goal=goal)

    def measure(progress: Progress) -> None:
        model, data = replace(size, channels=1).model().to(device), mnist_like(root, (images.train, images.test))
        measurement = Transfer(paper=replace(PAPER, epochs=images.epochs))

        def note(description: str, done: int, total: int) -> None:
            progress.now(f"{description}, {done} of {total}")

        def evaluate(times: int) -> None:
            for _ in range(times):
                found = Bench.of_model(model, data, device=device, progress=note).measure(measurement)
                comparison.more["figures"] = len(found.figures)

        comparison.more |= {"data": data.name, "images": (images.train, images.test)}
        compare(comparison, [evaluate], budget, progress, device, whole=True)

    return Pair(comparison, measure, on_top=True)
