"""The common part of all data sets: settings, loaders, and the way from bytes to images."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from lightning.pytorch import LightningDataModule

from gan_lightning.data.card import CardCopies, DataDevice, moved
from gan_lightning.data.store import Batch, OrderedBatches, Pixels, RectangleStore, ShuffledBatches, Store
from gan_lightning.data.transforms import Enlarge, to_images
from gan_lightning.errors import DataError, UserError, at_least, one_of, refused, settings_of
from gan_lightning.interfaces import Images, LabelKind, Labels, Split
from gan_lightning.nets.cropping import centre_crop, flip_half, random_crop
from gan_lightning.system.processes import gather_objects
from gan_lightning.system.reading import expanded, reason, shown
from gan_lightning.system.seeds import own_or_run_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceBatches:
    """Batches of images in [-1, 1] on a device, in stored order."""

    batches: OrderedBatches
    device: torch.device
    to_images: Callable[[Pixels], Images]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for batch in self.batches:
            pixels, labels = moved(batch, self.device)
            yield self.to_images(pixels), labels


@dataclass(eq=False)
class ImageData(LightningDataModule, ABC):
    """A data set with a training and a test split.

    "Validation" is the test split: the papers choose nothing on it and report MNIST's 10,000 test images.
    `limit` counts in stored order. Batches are stored bytes and labels; on the device they become images.

    Args:
        root: Folder of the data sets.
        batch_size: Training images per step and process.
        evaluation_batch_size: Images per step and process outside of training.
        image_size: Edge of the images in pixels.
        crop_from: Shorter edge of the resized images, pixels. A square of `image_size` is then cut out: at a random
            place in training, else from the centre. By default images are resized to `image_size` itself.
        flip: Mirror training images left to right at random.
        limit: Keep only the first images of each split.
        seed: Decides, with the epoch, the order of the training images, and the places of squares cut from rectangular
            ones. By default it is the run's (`seed_everything`); a number makes it the same for all runs.
        download: Fetch the files if they are missing.
        verify: Demand the published files; `false` accepts a subset, with a warning.
        device: Where the images lie while a Trainer runs. `host` is the host's memory, and each batch is copied to the
            card. `card` is the memory of each process's own CUDA card: batches are gathered there, the same ones.
            `auto` is the card for what fits into half of its free memory, else the host.
    """

    root: str | Path = "data"
    _: KW_ONLY
    batch_size: int = 120
    evaluation_batch_size: int = 500
    image_size: int = 32
    crop_from: int | None = None
    flip: bool = False
    limit: int | None = None
    seed: int | None = None
    download: bool = False
    verify: bool = True
    device: DataDevice = "auto"

    # A data set's declarations: see `gan_lightning.interfaces.LabelledImages`.
    name: str = field(init=False, repr=False)
    channels: int = field(init=False, repr=False)
    enlarge: Enlarge = field(init=False, repr=False, default="resize")

    predict_split: Split = field(init=False, repr=False, default="test")
    """The split that `predict` takes."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: A setting is out of range.
        """
        super().__init__()
        with settings_of(self):
            self.root = expanded(self.root, "root")
        self._stores: dict[Split, Store] = {}
        self._copies = CardCopies()
        self._accepted: set[str] = set()
        at_least(self, 1, batch_size=self.batch_size, evaluation_batch_size=self.evaluation_batch_size)
        at_least(self, 1, image_size=self.image_size)
        if self.limit is not None:
            at_least(self, 1, limit=self.limit)
        if self.crop_from is not None and self.crop_from < self.image_size:
            condition = f"be at least image_size, {self.image_size}"
            raise refused(self, "crop_from", condition, self.crop_from, "Leave it out to crop nothing.")
        if self.seed is not None:
            at_least(self, 0, seed=self.seed)
        one_of(self, get_args(DataDevice), device=self.device)

    def __str__(self) -> str:
        # Lightning's own version expects a torch DataLoader.
        return repr(self)

    @property
    @abstractmethod
    def label_kind(self) -> LabelKind:
        """Kind of the labels."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """Number of classes, or of attributes; 0 without labels."""

    @abstractmethod
    def fetch(self) -> None:
        """Download the files that are missing."""

    @abstractmethod
    def read(self, split: Split) -> Store:
        """Return a split, decoded; `limit` is applied afterwards.

        Raises:
            DataError: Files are missing, damaged, or not the published ones.
        """

    def prepare_data(self) -> None:
        """Download if asked to, and read everything once, so that one process alone decodes the images.

        Raises:
            DataError: The files could not be fetched or read.
        """
        if self.download:
            try:
                self.fetch()
            except UserError:
                raise
            except Exception as error:  # from the network, the disk, an archive, or a missing package
                raise DataError(
                    f"{self.name} could not be fetched into '{shown(self.root)}' ({reason(error)})."
                ) from error
        self.read_for("fit")

    def setup(self, stage: str) -> None:
        """Read the splits that a stage needs, unless they are read already, and copy them to the card.

        Raises:
            DataError: The files could not be read.
            SettingError: `device` is `card`, and there is no card, or a split does not fit.
        """
        stores = self.read_for(stage)
        if self.trainer is not None:
            self._copies.make(self, self.device, stores, self.trainer.strategy.root_device)

    def teardown(self, stage: str) -> None:
        """Free the card's memory."""
        self._copies.drop()

    def on_exception(self, exception: BaseException) -> None:
        """Free the card's memory."""
        self._copies.drop()

    def read_for(self, stage: str) -> dict[Split, Store]:
        """Return the splits that a stage needs, the training split first.

        Raises:
            DataError: The files could not be read.
        """
        test = self.store("test")
        return {"train": self.store("train"), "test": test} if stage == "fit" else {"test": test}

    def store(self, split: Split) -> Store:
        """Return a split as stored, read at the first call.

        Raises:
            DataError: The files could not be read, are empty, or have labels that the data set lacks.
        """
        if split not in self._stores:
            store = self.read(split)
            self.check_labels(split, store)
            self._stores[split] = store.head(self.limit)
        return self._stores[split]

    def placed(self, split: Split, device: torch.device | None = None) -> Store:
        """Return a split's copy on a card, by default on any; the split as stored if there is no copy."""
        copy = self._copies.find(split, device)
        return self.store(split) if copy is None else copy

    def check_labels(self, split: Split, store: Store) -> None:
        """Check that a split has images, and that all its labels exist.

        Raises:
            DataError: It has none, or a label does not exist.
        """
        what = f"The {split} split of {shown(self.name)} in '{shown(self.root)}'"
        if not len(store) or len(store) != len(store.labels):
            raise DataError(
                f"{what} must hold images and as many labels, got {len(store):,} and {len(store.labels):,}. "
                "Fetch it anew."
            )
        if self.label_kind == "none":
            return
        highest = self.num_classes - 1 if self.label_kind == "classes" else 1
        for found in store.labels.aminmax():
            if not -1 <= found <= highest:
                raise DataError(
                    f"{what} must have labels from 0 to {highest}, or -1 where one is not known, got {int(found)}. "
                    "Correct the labels."
                )

    def train_dataloader(self) -> ShuffledBatches:
        """Return this process's part of the training split, in a new order each epoch."""
        # Where each process draws a seed of its own, the first one's decides the order for all.
        seed = gather_objects(own_or_run_seed(self.seed))[0]
        return ShuffledBatches(partial(self.placed, "train"), self.batch_size, seed, self.epoch)

    def epoch(self) -> int:
        """Return the epoch whose order is due; always the first one under Lightning's `overfit_batches`.

        Lightning's own message to samplers, `set_epoch`, may count one too many: in a run limited by `max_steps` that
        goes on from the end of an epoch.
        """
        overfit = getattr(self.trainer, "overfit_batches", 0)
        return 0 if self.trainer is None or overfit else self.trainer.current_epoch

    def val_dataloader(self) -> OrderedBatches:
        """Return this process's share of the test split, in stored order."""
        return OrderedBatches(partial(self.placed, "test"), self.evaluation_batch_size)

    def test_dataloader(self) -> OrderedBatches:
        """Return this process's share of the test split, in stored order."""
        return self.val_dataloader()

    def predict_dataloader(self) -> OrderedBatches:
        """Return this process's share of `predict_split`, in stored order."""
        return OrderedBatches(partial(self.placed, self.predict_split), self.evaluation_batch_size)

    def file_names(self, split: Split) -> list[str] | None:
        """Return the name of each image's file in stored order; None if the images have no files of their own."""
        return None

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the Trainer's device, unless it was gathered there."""
        return moved(batch, device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Images, Labels]:
        """Turn bytes into images. In training they are cut out and mirrored at random if the settings say so."""
        pixels, labels = batch
        if self.trainer is None:
            return self.to_images(pixels), labels
        if self.trainer.training:
            cut = isinstance(self._stores.get("train"), RectangleStore)
            images = to_images(pixels, self.image_size, self.enlarge) if cut else self.whole_images(pixels)
            images = random_crop(images, self.image_size)
            images = flip_half(images) if self.flip else images
        else:
            images = self.to_images(pixels)
        # Lightning converts a batch to the run's precision before this hook, when it was still bytes.
        return self.trainer.precision_plugin.convert_input(images), labels

    def evaluation_batches(self, split: Split, device: torch.device) -> DeviceBatches:
        """Return a split in stored order, without augmentation; needs no Trainer.

        If several processes run, each gets a contiguous share; the shares in rank order are the split.
        """
        batches = OrderedBatches(partial(self.placed, split, device), self.evaluation_batch_size)
        return DeviceBatches(batches, device, self.to_images)

    def to_images(self, pixels: Pixels) -> Images:
        """Return stored images in the form that networks see outside of training."""
        return centre_crop(self.whole_images(pixels), self.image_size)

    def whole_images(self, pixels: Pixels) -> Images:
        """Return stored images before a square is cut out."""
        return to_images(pixels, self.whole_size, self.enlarge)

    @property
    def whole_size(self) -> int:
        """Edge of the images before a square is cut out, pixels."""
        return self.crop_from or self.image_size

    def missing(self, path: Path) -> DataError:
        """Return the error for missing files."""
        python = f"{type(self).__name__}('{shown(self.root)}', download=True).prepare_data()"
        return DataError(
            f"{self.name} not found: no '{shown(path)}'. Fetch it with download=true (in Python: {python})."
        )

    def doubt(self, finding: str) -> None:
        """Refuse files that are not the published ones, or warn if `verify` is false.

        Raises:
            DataError: `verify` is true.
        """
        if self.verify:
            raise DataError(f"{finding} Fetch it anew, or accept it as it is with verify=false.")
        if finding not in self._accepted:
            self._accepted.add(finding)
            logger.warning("%s Accepted, since verify is false.", finding)
