"""Labelled synthetic data, G(E(x) + noise) with x's label, and what they are worth to a classifier."""

from dataclasses import dataclass
from math import inf
from statistics import mean, stdev
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning.applications.base import (
    AT_ONCE,
    Application,
    ClassImages,
    Outcome,
    at_least,
    check_classes,
    check_noise,
    encoded,
    neighbourhoods,
    read_images,
    rows_picture,
    spread,
)
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.linear import accuracy
from gan_lightning.interfaces import EncodesImages, Images, LabelledImages
from gan_lightning.resizing import resized

Labelled = tuple[Float[Tensor, "_images channels height width"], Int64[Tensor, " _images"]]
"""Images in [-1, 1], and their classes."""


@dataclass(frozen=True)
class SyntheticData(Application):
    """Makes labelled images from a few labelled ones, writes them as a data set, and trains classifiers on them.

    For each budget b, the first b labelled training images are all the labels there are. A small convolutional network
    is trained on them, on synthetic images made from them, and on both, always for the same number of steps, and tested
    on the real test images. The model itself has seen all training images, without labels.

    The data set that is written is a folder `train` of synthetic images, made from the largest budget, and a folder
    `test` of real test images, each with a folder per class: `--data=ImageFolder` reads it.

    Args:
        budgets: Numbers of labelled real images.
        copies: Synthetic images made from each labelled one.
        noise: Standard deviation of what is added to E(x), in units of the codes' own.
        steps: Steps of Adam that a classifier is trained for.
        batch_size: Images per step.
        learning_rate: Adam's.
        width: Maps of the classifier's first convolution; the second has twice as many.
        seeds: Classifiers of each kind, with seeds 0, 1, ...; with several there is a standard deviation.
        written: Most images of a split that are written to the data set.
        seed: For the noise.

    Source:
        Liu 2018, section 4.2.1 and Fig. 4.10, which trains no classifier.
    """

    budgets: tuple[int, ...] = (50, 200, 1000)
    copies: int = 10
    noise: float = 0.3
    steps: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    width: int = 16
    seeds: int = 3
    written: int = 1000
    seed: int = 0

    name: ClassVar[str] = "synthetic_data"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.budgets:
            raise SettingError("application.budgets must hold at least one number, got none; 200 is usual.")
        at_least(1, copies=self.copies, steps=self.steps, width=self.width)
        at_least(1, seeds=self.seeds, written=self.written)
        at_least(2, batch_size=self.batch_size, budgets=min(self.budgets))
        check_noise(self.noise)
        if not 0 < self.learning_rate < inf:
            raise SettingError(f"application.learning_rate must be above 0, got {self.learning_rate}; try 0.001.")

    def check(self, data: LabelledImages) -> None:
        """Check that there are as many labelled training images as the largest budget asks for."""
        check_classes(data, "labelled synthetic data")
        most = max(self.budgets)
        _, labels = read_images(data, "train", most, torch.device("cpu"), labelled=True)
        if len(labels) < most:
            raise SettingError(
                f"application.budgets must be at most {len(labels)}, the number of labelled training images of "
                f"{data.name}, got {most}. Choose smaller budgets."
            )
        if self.written < data.num_classes:
            raise SettingError(
                f"application.written must be at least {data.num_classes}, the number of classes of {data.name}, got "
                f"{self.written}: each needs an image."
            )
        _, test_labels = read_images(data, "test", None, torch.device("cpu"), labelled=True)
        if not bool(torch.isin(test_labels, labels).any()):
            raise DataError(
                f"labelled synthetic data need classes that are in both splits of {data.name}, got none. Use another "
                "data set: of CelebA, for one, no person is in two splits."
            )

    def run(self, model: EncodesImages, data: LabelledImages, device: torch.device) -> Outcome:
        """Return the accuracies, a picture of synthetic images, and the data set."""
        images, labels = read_images(data, "train", max(self.budgets), device, labelled=True)
        test_images, test_labels = read_images(data, "test", None, device, labelled=True)
        codes = encoded(model, images)
        rng = torch.Generator().manual_seed(self.seed)
        made = neighbourhoods(model, codes, self.copies, self.noise * spread(codes), rng)
        images, test = resized(images, made[0].shape[-1]), (resized(test_images, made[0].shape[-1]), test_labels)
        records = [
            {"budget": budget, "trained_on": name, **self.measured(train, test, data.num_classes)}
            for budget in self.budgets
            for name, train in sources(images[:budget], made[:budget], labels[:budget]).items()
        ]
        # The first copy of every image, then the second of every image, and so on.
        copies = balanced(labels.repeat(self.copies), self.written)
        synthetic = made[copies % len(labels), copies // len(labels)], labels[copies % len(labels)]
        tested = balanced(test_labels, self.written)
        real = test[0][tested], test_labels[tested]
        names = getattr(data, "classes", None) or _numbers(data.num_classes)
        written = ClassImages({"train": synthetic, "test": real}, names)
        return Outcome(
            {"test_images": len(test_labels), "records": records},
            {"synthetic": rows_picture(torch.cat([images[:10, None], made[:10]], dim=1))},
            data_sets={"data_set": written},
        )

    def measured(self, train: Labelled, test: Labelled, num_classes: int) -> dict[str, Any]:
        """Return the accuracies of classifiers trained on some images and tested on others, over the seeds."""
        accuracies = [self.classifier_accuracy(train, test, num_classes, seed) for seed in range(self.seeds)]
        return {
            "images": len(train[0]),
            "accuracy": mean(accuracies),
            "standard_deviation": stdev(accuracies) if len(accuracies) > 1 else None,
            "accuracies": accuracies,
        }

    @torch.enable_grad()
    def classifier_accuracy(self, train: Labelled, test: Labelled, num_classes: int, seed: int) -> float:
        """Return the test accuracy of one classifier, in [0, 1]; the global random state stays as it was."""
        images, labels = train
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs' for good
            network = classifier(images.shape[1], images.shape[-1], self.width, num_classes).to(images.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        shuffle = torch.Generator().manual_seed(seed)
        queue = torch.empty(0, dtype=torch.int64)
        for _ in range(self.steps):
            while len(queue) < self.batch_size:
                queue = torch.cat([queue, torch.randperm(len(images), generator=shuffle)])
            batch, queue = queue[: self.batch_size].to(images.device), queue[self.batch_size :]
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = torch.cat([network(batch) for batch in test[0].split(AT_ONCE)])
        if not logits.isfinite().all():
            raise DataError("The classifier must stay finite, got NaN or infinity; lower application.learning_rate.")
        return accuracy(logits, test[1])


def classifier(channels: int, size: int, width: int, classes: int) -> nn.Sequential:
    """Return a small network of two convolutions, the same for all that is compared."""
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
    """Return what classifiers are trained on: real images, synthetic ones with their image's label, and both."""
    real, synthetic = (images, labels), (made.flatten(0, 1), labels.repeat_interleave(made.shape[1]))
    both = torch.cat([real[0], synthetic[0]]), torch.cat([real[1], synthetic[1]])
    return {"real": real, "synthetic": synthetic, "both": both}


def _numbers(classes: int) -> list[str]:
    """Return names for classes that have none, of equal length so that sorting keeps their order."""
    return [f"{label:0{len(str(classes - 1))}}" for label in range(classes)]
