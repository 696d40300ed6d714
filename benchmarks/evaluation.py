"""Evaluations and input: the framework's beside what a user would write with torchvision, scikit-learn and a loop."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.precision import Precision
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.progress import Progress
from benchmarks.sizes import Size
from benchmarks.timing import Budget, Comparison, Pair, Work, compare, synchronise
from benchmarks.training import Settings, quiet
from gan_lightning.data import MNIST
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError
from gan_lightning.evaluation import PAPER, PaperProbe, nearest_neighbours
from gan_lightning.interfaces import LabelKind, Split
from gan_lightning.measurements import Bench, Transfer
from gan_lightning.papers.mgan.mgan import feature_extractor


class Synthetic(ImageData):
    """Random bytes in the place of a data set; labels are of ten classes.

    Args:
        counts: Images of the training and of the test split.
        channels: Of the images.
        edge: Height and width as stored, pixels.
        settings: Of `ImageData`.
    """

    name = "synthetic"

    def __init__(self, counts: tuple[int, int], channels: int, edge: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.counts, self.channels, self.edge = counts, channels, edge

    @property
    def label_kind(self) -> LabelKind:
        """Classes."""
        return "classes"

    @property
    def num_classes(self) -> int:
        """Ten."""
        return 10

    def fetch(self) -> None:
        """Do nothing."""

    def read(self, split: Split) -> ImageStore:
        """Return random images; a bright bar in each says its class, so that there is something to learn."""
        rng = torch.Generator().manual_seed(int(split == "test"))
        count = self.counts[split == "test"]
        images = torch.randint(256, (count, self.channels, self.edge, self.edge), dtype=torch.uint8, generator=rng)
        labels = torch.randint(10, (count,), generator=rng)
        rows = labels * self.edge // 10
        images[torch.arange(count), :, rows] = 255
        return ImageStore(images, labels)


def mnist_like(root: str | None, counts: tuple[int, int]) -> ImageData:
    """Return MNIST from its folder, or as many random images where there is none; 32x32 either way."""
    if root is not None:
        data = MNIST(root, image_size=32)
        try:
            data.setup("fit")
        except DataError as error:
            print(f"{error} Random images stand in for it.")
        else:
            data._stores = {
                split: data.store(split).head(count) for split, count in zip(("train", "test"), counts, strict=True)
            }
            return data
    return Synthetic(counts, 1, 28, image_size=32)


@dataclass(frozen=True)
class TransferSize:
    """Of the transfer evaluation.

    Attributes:
        width: Base width of M-GAN's feature extractor.
        train: Training images.
        test: Test images.
        epochs: Of the paper's protocol.
    """

    width: int = 128
    train: int = 60_000
    test: int = 10_000
    epochs: int = PAPER.epochs


def forward_each_epoch(
    extractor: nn.Module, data: ImageData, protocol: PaperProbe, device: torch.device, seed: int = 0
) -> list[float]:
    """Train the paper's head on a frozen extractor that sees every batch anew; return the test accuracies.

    The head starts as the framework's does and sees the same batches, so that both learn the same.
    """
    train, test = data.store("train"), data.store("test")
    extractor.eval().requires_grad_(False)

    def features(store: ImageStore, rows: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = store[rows]
        with torch.no_grad():
            return extractor(data.to_images(pixels.to(device))), labels.to(device)

    length = features(train, torch.arange(2))[0].shape[1]
    rng = torch.Generator().manual_seed(seed)
    weight = torch.normal(0.0, 0.02, (data.num_classes, length), generator=rng).to(device).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=protocol.learning_rate, momentum=protocol.momentum)
    shuffle = torch.Generator().manual_seed(seed)
    accuracies = []
    for _ in range(protocol.epochs):
        for rows in torch.randperm(len(train), generator=shuffle).split(protocol.batch_size):
            seen, labels = features(train, rows)
            optimizer.zero_grad()
            F.cross_entropy(F.linear(seen, weight), labels).backward()
            optimizer.step()
        right = 0
        for rows in torch.arange(len(test)).split(data.evaluation_batch_size):
            seen, labels = features(test, rows)
            right += int((F.linear(seen, weight.detach()).argmax(1) == labels).sum())
        accuracies.append(right / len(test))
    return accuracies


class CachedTransfer:
    """Twenty epochs of a linear head on a frozen extractor, in two ways.

    Args:
        size: How much.
        root: Folder of the data sets; random images without one.
        device: Where.
    """

    def __init__(self, size: TransferSize, root: str | None, device: torch.device) -> None:
        torch.manual_seed(0)
        self.extractor = feature_extractor(1, size.width, 128).to(device)
        self.data, self.device = mnist_like(root, (size.train, size.test)), device
        self.protocol = PaperProbe(epochs=size.epochs)
        self.accuracies: dict[str, list[float]] = {}

    def cached(self, times: int) -> None:
        """Extract the features once, as the framework does."""
        for _ in range(times):
            bench = Bench({"classifier": self.extractor}, self.data, device=self.device, controls=False)
            found = bench.measure(Transfer(paper=self.protocol, tuned=None))
            self.accuracies["cached"] = [figure.value for figure in found.figures if figure.is_point]

    def each_epoch(self, times: int) -> None:
        """Extract the features in every epoch."""
        for _ in range(times):
            self.accuracies["each"] = forward_each_epoch(self.extractor, self.data, self.protocol, self.device)


def transfer_pair(size: TransferSize, root: str | None, budget: Budget, device: torch.device) -> Pair:
    """Return the transfer evaluation from cached features against a forward pass in every epoch."""
    comparison = Comparison("transfer", "cached features", "forward pass every epoch", "evaluation", goal=15)

    def measure(progress: Progress) -> None:
        transfer = CachedTransfer(size, root, device)
        compare(comparison, (transfer.cached, transfer.each_epoch), budget, progress, device, whole=True)
        cached, each = transfer.accuracies["cached"], transfer.accuracies["each"]
        comparison.more |= {
            "data": transfer.data.name,
            "width": size.width,
            "images": (size.train, size.test),
            "epochs": size.epochs,
            "accuracy": {"ours": cached[-1], "other": each[-1]},
            "largest_difference_of_an_epoch": max(abs(a - b) for a, b in zip(cached, each, strict=True)),
        }

    return Pair(comparison, measure, on_top=True)


@dataclass(frozen=True)
class InputSize:
    """Of the data that is loaded.

    Attributes:
        count: Training images of 32x32 in colour.
        batch_size: Images.
        workers: Processes of torch's DataLoader.
    """

    count: int = 50_000
    batch_size: int = 120
    workers: int = 2


class ImagesOneByOne(Dataset):
    """A data set as torchvision has them: an array in memory, an image made and transformed when it is asked for.

    Args:
        store: The images.
        flip: Whether to mirror images at random.
    """

    def __init__(self, store: ImageStore, flip: bool = True) -> None:
        self.images, self.labels = store.images.permute(0, 2, 3, 1).numpy(), store.labels
        steps = [transforms.RandomHorizontalFlip()] if flip else []
        middle = (0.5,) * self.images.shape[-1]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(middle, middle)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = transforms.functional.to_pil_image(self.images[index])
        return self.transform(image), int(self.labels[index])


def batches_of_ours(data: ImageData, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches that a model gets in training, epoch after epoch."""
    # What the data module asks its Trainer for; a Trainer without a model has no precision.
    about = SimpleNamespace(training=True, overfit_batches=0, current_epoch=0, precision_plugin=Precision())
    data.trainer = about  # type: ignore[assignment]
    while True:
        for pixels, labels in data.train_dataloader():
            yield data.on_after_batch_transfer((pixels.to(device), labels.to(device)), 0)
        about.current_epoch += 1


def batches_one_by_one(dataset: Dataset, size: InputSize, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a DataLoader with workers, epoch after epoch."""
    loader = DataLoader(
        dataset,
        size.batch_size,
        shuffle=True,
        num_workers=size.workers,
        persistent_workers=size.workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for images, labels in loader:
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def taking(batches: Iterator[Any]) -> Work:
    """Return the work of taking batches."""

    def work(count: int) -> None:
        for _ in range(count):
            next(batches)

    return work


def input_pair(size: InputSize, model: Size, budget: Budget, device: torch.device) -> Pair:
    """Return the in-memory pipeline against torchvision's, and the share of a fit that waits for data."""
    comparison = Comparison("input", "in memory", f"DataLoader, {size.workers} workers", "batch", goal=20)

    def measure(progress: Progress) -> None:
        data = Synthetic((size.count, 1), 3, 32, image_size=32, batch_size=size.batch_size, flip=True)
        other = batches_one_by_one(ImagesOneByOne(data.store("train")), size, device)
        compare(comparison, (taking(batches_of_ours(data, device)), taking(other)), budget, progress, device)
        comparison.more |= {"images": size.count, "batch_size": size.batch_size}
        for name, settings in (("default", Settings()), ("recommended", Settings("bf16-mixed", channels_last=True))):
            progress.now(f"how long a fit waits, {name}")
            comparison.more[f"share_of_a_{name}_fit_that_waits"] = share_that_waits(size, model, settings, device)

    return Pair(comparison, measure)


class Waiting(Callback):
    """Times the batches after the first few.

    Args:
        device: Where.
        warm_up: Batches that do not count.
    """

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device, self.warm_up = device, warm_up
        self.waited, self.seconds = 0.0, 0.0

    def timed(self, act: Callable[[], Any]) -> Any:
        """Return what an act gives, and count its time as waiting."""
        synchronise(self.device)
        started = time.perf_counter()
        result = act()
        synchronise(self.device)
        self.waited += time.perf_counter() - started
        return result

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Start after the last batch that does not count."""
        synchronise(self.device)
        if batch_idx + 1 == self.warm_up:
            self.waited, self.started = 0.0, time.perf_counter()
        self.seconds = time.perf_counter() - getattr(self, "started", time.perf_counter())


def share_that_waits(size: InputSize, model: Size, settings: Settings, device: torch.device, batches: int = 8) -> float:
    """Return the share of the time of a fit in which batches are taken and made into images."""
    waiting = Waiting(device, warm_up=3)

    class Timed(Synthetic):
        def train_dataloader(self) -> Any:
            loader = super().train_dataloader()

            class Loader:
                def __len__(self) -> int:
                    return len(loader)

                def __iter__(self) -> Iterator[Any]:
                    batches = iter(loader)
                    while (batch := waiting.timed(lambda: next(batches, None))) is not None:
                        yield batch

            return Loader()

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return waiting.timed(lambda: super(Timed, self).on_after_batch_transfer(batch, dataloader_idx))

    data = Timed((size.count, 1), 3, 32, image_size=32, batch_size=size.batch_size, flip=True)
    quiet()
    trainer = settings.trainer(device, waiting, max_steps=waiting.warm_up + batches)
    trainer.limit_val_batches = 0
    trainer.fit(model.model(), datamodule=data)
    return waiting.waited / waiting.seconds


@dataclass(frozen=True)
class NearestSize:
    """Of the search.

    Attributes:
        references: Vectors among which to search.
        queries: Vectors to search for.
        length: Of a vector.
    """

    references: int = 60_000
    queries: int = 10_000
    length: int = 1024


class Nearest:
    """Nearest neighbours of random vectors.

    Args:
        size: How many.
        device: Where ours searches; scikit-learn does on the CPU.
    """

    def __init__(self, size: NearestSize, device: torch.device) -> None:
        rng = torch.Generator().manual_seed(0)
        self.references = torch.randn(size.references, size.length, generator=rng)
        self.queries = torch.randn(size.queries, size.length, generator=rng)
        self.device = device
        self.found: dict[str, Tensor] = {}

    def ours(self, times: int) -> None:
        """Search with the framework."""
        for _ in range(times):
            found = nearest_neighbours(self.queries.to(self.device), self.references.to(self.device))
            self.found["ours"] = found[:, 0].cpu()

    def scikit_learn(self, times: int) -> None:
        """Search with scikit-learn, all pairs."""
        for _ in range(times):
            search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(self.references.numpy())
            self.found["other"] = torch.from_numpy(search.kneighbors(self.queries.numpy(), return_distance=False))[:, 0]


def nearest_pair(size: NearestSize, budget: Budget, device: torch.device) -> Pair:
    """Return the framework's search against scikit-learn's."""
    comparison = Comparison("nearest", "exact, in blocks", "scikit-learn, brute force", "search", goal=1)

    def measure(progress: Progress) -> None:
        nearest = Nearest(size, device)
        compare(comparison, (nearest.ours, nearest.scikit_learn), budget, progress, device, whole=True)
        comparison.more |= {
            "references": size.references,
            "queries": size.queries,
            "length": size.length,
            "same_neighbours": (nearest.found["ours"] == nearest.found["other"]).double().mean().item(),
        }

    return Pair(comparison, measure, on_top=True)
