"""Labelled synthetic data, G(E(x) + noise) with x's label, and their worth to a classifier."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import mean, stdev
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError, above, at_least, refused
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.evaluation.probes.probe import accuracy
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import EncodesImages, Images
from gan_lightning.measurements.bench import AT_ONCE, BatchNorm, Bench
from gan_lightning.measurements.codes import check_classes, check_noise, class_names, encoded, neighbourhoods, spread
from gan_lightning.measurements.measurement import ClassImages, Measurement, Outcome
from gan_lightning.nets.resizing import resized
from gan_lightning.system.processes import on_first_process

Labelled = tuple[Float[Tensor, "_images channels height width"], Int64[Tensor, " _images"]]
"""Images in [-1, 1], and their classes."""

REAL, SYNTHETIC, BOTH = "real", "synthetic", "both"
"""Training data of the classifiers: the figures' subjects."""


@dataclass(frozen=True, kw_only=True)
class SyntheticData(Measurement):
    """Makes labelled images from a few labelled ones, writes them as a data set, and trains classifiers on them.

    For each budget b, the first b labelled training images are all the labels there are. Small convolutional networks
    are trained on these images, on synthetic images made from them, and on both, always for the same number of steps.
    The figure `synthetic_data/<real|synthetic|both>/labels-<b>/accuracy` is the accuracy on the real test images, the
    mean over the seeds. The model itself has seen all training images, without labels.

    The written data set has a folder `train` of synthetic images, made from the largest budget, and a folder `test` of
    real test images. Each has a folder per class: `--data=ImageFolder` reads it.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        budgets: Numbers of labelled real images.
        copies: Synthetic images made from each labelled one.
        noise: Standard deviation of the noise on E(x), in units of the codes' own.
        steps: Steps of Adam per classifier.
        batch_size: Images per step.
        learning_rate: Adam's.
        width: Maps of the classifier's first convolution; the second has twice as many.
        seeds: Classifiers of each kind, with seeds 0, 1, ...; with several there is a standard deviation.
        written: Most images per split in the written data set.
        batch_norm: Batch-norm statistics of E and G: "running" were gathered in training, "real" are estimated by
            computing G(E(x)) on the training images.
        seed: For the noise; by default the run's.

    Source:
        Liu 2018, section 4.2.1 and Fig. 4.10, which trains no classifier.
    """

    name: ClassVar[str] = "synthetic_data"
    needs: ClassVar[tuple[type, ...]] = (EncodesImages,)

    enabled: bool = False
    budgets: tuple[int, ...] = (50, 200, 1000)
    copies: int = 10
    noise: float = 0.3
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    width: int = 16
    seeds: int = 3
    written: int = 1000
    batch_norm: BatchNorm = "running"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if not self.budgets:
            raise SettingError("budgets must hold at least one number, got none. 200 is usual.", self)
        if len(set(self.budgets)) < len(self.budgets):
            raise refused(self, "budgets", "hold numbers that differ", list(self.budgets))
        at_least(self, 1, copies=self.copies, steps=self.steps, width=self.width)
        at_least(self, 1, seeds=self.seeds, written=self.written)
        at_least(self, 2, batch_size=self.batch_size, budgets=min(self.budgets))
        check_noise(self, self.noise)
        above(self, 0, "Try 0.001.", learning_rate=self.learning_rate)

    def check(self, bench: Bench) -> None:
        """Check that there are enough labelled training images for the largest budget."""
        check_classes(bench, self.name)
        most, data = max(self.budgets), bench.data
        _, labels = bench.images("train", most, labelled=True)
        if len(labels) < most:
            condition = f"be at most {len(labels)}, the number of labelled training images of {data.name}"
            raise refused(self, "budgets", condition, most, "Choose smaller budgets.")
        if self.written < data.num_classes:
            condition = f"be at least {data.num_classes}, the number of classes of {data.name}"
            raise refused(self, "written", condition, self.written, "Each class needs an image.")
        if not bool(torch.isin(bench.labels("test"), labels).any()):
            raise DataError(
                f"{self.name} needs classes that are in both splits of {data.name}, got none. Use another data set: of "
                "CelebA, for one, no person is in two splits."
            )

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the classifiers trained on synthetic images."""
        kinds = product((SYNTHETIC, BOTH), self.budgets)
        return {f"{self.name}/{kind}/{condition(budget)}/accuracy": "max" for kind, budget in kinds}

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies, a picture of synthetic images, and the data set."""
        images, labels = bench.images("train", max(self.budgets), labelled=True)
        test_images, test_labels = bench.images("test", labelled=True)
        rng = torch.Generator().manual_seed(bench.seed_for(self.seed))
        with bench.reconstructing(self.batch_norm):
            codes = encoded(bench, images)
            made = neighbourhoods(bench, codes, self.copies, self.noise * spread(codes), rng)
        images, test = resized(images, made[0].shape[-1]), (resized(test_images, made[0].shape[-1]), test_labels)
        # The accuracy from real images alone does not change while a model trains.
        kinds = (REAL, SYNTHETIC, BOTH) if bench.controls else (SYNTHETIC, BOTH)
        total = self.steps * self.seeds * len(kinds) * len(self.budgets)

        def report(classifiers: int, steps: int) -> None:
            bench.report("synthetic data: classifiers", classifiers * self.steps + steps, total)

        figures: list[Figure] = []
        classifiers: list[dict[str, Any]] = []
        for number, (budget, kind) in enumerate(product(self.budgets, kinds)):
            train = sources(images[:budget], made[:budget], labels[:budget])[kind]
            started = time.perf_counter()
            told = (partial(report, number * self.seeds + seed) for seed in range(self.seeds))
            accuracies = [
                on_first_process(partial(self.classifier_accuracy, train, test, bench.data.num_classes, seed, tell))
                for seed, tell in enumerate(told)
            ]
            figure = self.figure(
                "accuracy",
                mean(accuracies),
                subject=kind,
                weights="none" if kind == REAL else "trained",
                condition=condition(budget),
                images=len(test_labels),
                seconds=time.perf_counter() - started,
            )
            deviation = stdev(accuracies) if len(accuracies) > 1 else None
            about = {"labels": budget, "trained_on": kind, "images": len(train[0])}
            classifiers.append({**about, "accuracies": accuracies, "standard_deviation": deviation})
            figures.append(figure)
        details = {"classifiers": classifiers}
        if not bench.controls:
            return Outcome(figures, details)
        # The first copy of every image, then the second of every image, and so on.
        copies = balanced(labels.repeat(self.copies), self.written)
        synthetic = made[copies % len(labels), copies // len(labels)], labels[copies % len(labels)]
        tested = balanced(test_labels, self.written)
        written = ClassImages(
            {"train": synthetic, "test": (test[0][tested], test_labels[tested])}, class_names(bench.data)
        )
        picture = rows_picture(torch.cat([images[:10, None], made[:10]], dim=1))
        return Outcome(figures, details, {"": picture}, data_sets={"data_set": written})

    @torch.enable_grad()
    def classifier_accuracy(
        self, train: Labelled, test: Labelled, num_classes: int, seed: int, report: Callable[[int], None]
    ) -> float:
        """Return the test accuracy of one classifier, in [0, 1].

        Args:
            train: Its training data.
            test: Its test data.
            num_classes: Number of classes.
            seed: For its weights, and for the order of the images.
            report: Told the number of steps done.

        Raises:
            DataError: It does not stay finite.
        """
        images, labels = train
        torch.default_generator.manual_seed(seed)  # the CPU's alone; the bench puts its state back
        network = classifier(images.shape[1], images.shape[-1], self.width, num_classes).to(images.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        shuffle = torch.Generator().manual_seed(seed)
        queue = torch.empty(0, dtype=torch.int64)
        for step in range(1, self.steps + 1):
            while len(queue) < self.batch_size:
                queue = torch.cat([queue, torch.randperm(len(images), generator=shuffle)])
            batch, queue = queue[: self.batch_size].to(images.device), queue[self.batch_size :]
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            report(step)
        network.eval()
        logits = []
        with torch.no_grad():
            for each in test[0].split(AT_ONCE):
                logits.append(network(each))
                report(self.steps)
        found = torch.cat(logits)
        if not found.isfinite().all():
            raise DataError("The classifier must stay finite, got NaN or infinity. Lower learning_rate.")
        return accuracy(found, test[1])


def condition(budget: int) -> str:
    """Return the name of a number of labelled images."""
    return f"labels-{budget}"


def classifier(channels: int, size: int, width: int, classes: int) -> nn.Sequential:
    """Return a small network of two convolutions, the same for all training data."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(2 * width * (size // 4) ** 2, classes),
    )


def balanced(labels: Int64[Tensor, " images"], most: int) -> Int64[Tensor, " chosen"]:
    """Return the places of images, in order: the first of each class, the second of each class, and so on."""
    by_class = labels.argsort(stable=True)
    sizes = torch.bincount(labels)
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    turn = torch.empty_like(labels)
    turn[by_class] = torch.arange(len(labels), device=labels.device) - starts
    return turn.argsort(stable=True)[:most].sort().values


def sources(
    images: Images, made: Float[Tensor, "images copies channels height width"], labels: Int64[Tensor, " images"]
) -> dict[str, Labelled]:
    """Return the training data of the classifiers: real images, synthetic ones with their image's label, and both."""
    real, synthetic = (images, labels), (made.flatten(0, 1), labels.repeat_interleave(made.shape[1]))
    both = torch.cat([real[0], synthetic[0]]), torch.cat([real[1], synthetic[1]])
    return {REAL: real, SYNTHETIC: synthetic, BOTH: both}
