"""A data module with ordinary data loaders, so that it can be measured on as the project's own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from gan_lightning.errors import DataError, refused
from gan_lightning.interfaces import Images, LabelKind, Labels, Split
from gan_lightning.system.processes import process_count, process_rank

Key = int | str
"""Place of a part in a batch: an index into a sequence, or a key of a mapping."""

HOOKS = ("transfer_batch_to_device", "on_after_batch_transfer")
"""Hooks whose work would be missing in measurements."""

TOLERANCE = 1e-3
"""How far values may lie outside of the range, as a share of it: rounding of a resized image."""


class FromLoaders(LightningDataModule):
    """A LightningDataModule of your own with ordinary data loaders, with all that a measurement has to know of it.

    Batches become images in [-1, 1] and labels, after the module's `on_before_batch_transfer`. The number of channels
    and the size are those of the first training batch. For measurements the loaders' data sets are read in stored
    order, in one process without workers; the test split is that of `test_dataloader`, or of `val_dataloader` if there
    is no other. Random changes of training images stay: for figures without them, give a module whose training set has
    none.

    Args:
        module: The data module.
        num_classes: Number of classes, or of attributes; 0 without labels. By default the module's own.
        value_range: Values of black and of white in the module's images.
        images: Place of the images in a batch.
        labels: Place of the labels in a batch; None without labels.
        name: Short name of the data set, for tables and folders; by default that of the module's class.
        class_names: Names of the classes, for pictures and tables; by default the module's `classes`.

    Raises:
        SettingError: A setting is out of range.
    """

    def __init__(
        self,
        module: LightningDataModule,
        num_classes: int | None = None,
        value_range: tuple[int | float, int | float] = (-1.0, 1.0),
        images: Key = 0,
        labels: Key | None = 1,
        name: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if not value_range[0] < value_range[1]:
            raise refused(self, "value_range", "be black and white, the smaller first", value_range)
        own = [name for name in HOOKS if getattr(type(module), name) is not getattr(LightningDataModule, name)]
        if own:
            remedy = "Do its work in the data set or in on_before_batch_transfer()."
            raise refused(self, "module", f"leave {own[0]}() as it is", type(module).__name__, remedy)
        declared = getattr(module, "num_classes", None) if num_classes is None else num_classes
        if labels is None:
            declared = 0
        if not isinstance(declared, int) or declared < 0 or (labels is not None and declared == 1):
            remedy = "Give their number, or set labels to null without labels."
            raise refused(self, "num_classes", "be the number of classes or attributes, at least 2", declared, remedy)
        self.module, self.value_range, self.keys = module, value_range, (images, labels)
        self.num_classes: int = declared
        self.name = name or type(module).__name__.lower()
        self._stages: set[str] = set()
        self.classes = list(class_names or getattr(module, "classes", None) or [])
        if self.classes and len(self.classes) != declared:
            raise refused(self, "class_names", f"name each of {declared} classes", self.classes)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self._first[0].shape[1]

    @property
    def image_size(self) -> int:
        """Edge of the images, pixels."""
        return self._first[0].shape[2]

    @property
    def label_kind(self) -> LabelKind:
        """Kind of the labels."""
        return "none" if not self.num_classes else "attributes" if self._first[1].ndim == 2 else "classes"

    @cached_property
    def _first(self) -> tuple[Images, Labels]:
        """The first batch in stored order.

        Raises:
            DataError: It is no batch of images and labels.
        """
        return next(iter(self.evaluation_batches("train", torch.device("cpu"))))

    def prepare_data(self) -> None:
        """Let the module fetch and check its files."""
        self.module.prepare_data()

    def setup(self, stage: str) -> None:
        """Let the module read what a stage needs."""
        self.module.trainer = self.trainer
        self.module.setup(stage)
        self._stages.add(stage)

    def teardown(self, stage: str) -> None:
        """Let the module free what it holds."""
        self.module.teardown(stage)
        self._stages.discard(stage)

    def train_dataloader(self) -> Any:
        """Return the module's loader."""
        return self.module.train_dataloader()

    def val_dataloader(self) -> Any:
        """Return the module's loader of validation images, or else of test images."""
        return self._loader("test", ("val_dataloader", "test_dataloader"))

    def test_dataloader(self) -> Any:
        """Return the module's loader of test images, or else of validation images."""
        return self._loader("test", ("test_dataloader", "val_dataloader"))

    def predict_dataloader(self) -> Any:
        """Return the module's loader of test images, or else of validation images."""
        return self.test_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Return the module's state."""
        return self.module.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give the module its state back."""
        self.module.load_state_dict(state_dict)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Return the images, in [-1, 1], and the labels of a batch of the module's."""
        images, labels = self.taken(self.module.on_before_batch_transfer(batch, dataloader_idx))
        # Lightning converts batches to the run's precision before this hook, when images may still be bytes.
        return (images if self.trainer is None else self.trainer.precision_plugin.convert_input(images)), labels

    def taken(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return images in [-1, 1] and labels of a batch of the module's; -1 without labels.

        Raises:
            DataError: The batch has none at their place, or they are no images and labels.
        """
        images, labels = (self._part(batch, key) for key in self.keys)
        if images is None:
            raise self._unfit("images", "be a tensor", f"{batch!r:.80}")
        if images.ndim != 4 or images.shape[2] != images.shape[3] or not images.numel():
            raise self._unfit("images", "be of the shape (count, channels, size, size)", tuple(images.shape))
        images, labels = self._scaled(images), torch.full((len(images),), -1) if labels is None else labels
        if labels.is_floating_point() or labels.ndim not in (1, 2) or len(labels) != len(images):
            raise self._unfit("labels", f"be whole numbers for each of {len(images)} images", tuple(labels.shape))
        if labels.ndim == 2 and labels.shape[1] != self.num_classes:
            raise self._unfit("labels", f"have num_classes={self.num_classes} attributes", labels.shape[1])
        highest = self.num_classes - 1 if labels.ndim == 1 else 1
        if len(labels) and self.num_classes and not -1 <= int(labels.min()) <= int(labels.max()) <= highest:
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise self._unfit("labels", f"be from 0 to {highest}, or -1 where one is not known", found)
        return images, labels.long()

    def evaluation_batches(self, split: Split, device: torch.device) -> "_LoaderBatches":
        """Return a split in stored order; if several processes run, this process's contiguous share.

        Raises:
            DataError: The module's loader has no data set with an order.
        """
        if not self._stages:  # no Trainer has asked for anything yet
            self.prepare_data()
        if (stage := "fit" if split == "train" else "test") not in self._stages:
            self.setup(stage)
        loader = self.train_dataloader() if split == "train" else self.test_dataloader()
        dataset = getattr(loader, "dataset", None)
        if dataset is None or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
            raise self._unfit(f"{split} images", "come from a DataLoader whose data set has a length and an order",
                              type(loader).__name__)  # fmt: skip
        places = torch.arange(len(dataset)).tensor_split(process_count())[process_rank()].tolist()
        ordered = DataLoader(
            Subset(dataset, places),
            loader.batch_size or (1 if loader.batch_sampler else None),
            shuffle=False,
            collate_fn=loader.collate_fn,
        )
        return _LoaderBatches(self, ordered, device)

    def _loader(self, split: Split, names: Sequence[str]) -> Any:
        own = [name for name in names if getattr(type(self.module), name) is not getattr(LightningDataModule, name)]
        if not own:
            raise self._unfit(f"{split} images", f"have one of {', '.join(names)}", "none", "Add it to the module.")
        return getattr(self.module, own[0])()

    def _part(self, batch: Any, key: Key | None) -> Tensor | None:
        """Return a part of a batch; None if the key is None.

        Raises:
            DataError: The batch has no such part.
        """
        if key is None:
            return None
        if isinstance(batch, Tensor) and key == 0:
            return batch
        try:
            part = batch[key]
        except (KeyError, IndexError, TypeError) as error:
            kind = f"a mapping with {sorted(batch)}" if isinstance(batch, Mapping) else f"{type(batch).__name__}"
            raise self._unfit(
                "batches", f"have a part {key!r}", kind, "Set images and labels to their places."
            ) from error
        return part if isinstance(part, Tensor) else torch.as_tensor(part)

    def _scaled(self, images: Tensor) -> Tensor:
        black, white = self.value_range
        images = images.float()
        slack = TOLERANCE * (white - black)
        lowest, highest = (float(end) for end in images.aminmax())
        if not black - slack <= lowest <= highest <= white + slack:
            expected, found = f"lie in value_range, {black:g} to {white:g}", f"{lowest:g} to {highest:g}"
            raise self._unfit("images", expected, found, "Set value_range to the values of black and of white.")
        return ((images - black) * (2 / (white - black)) - 1).clamp(-1, 1)

    def _unfit(self, what: str, condition: str, got: object, remedy: str = "Correct the module.") -> DataError:
        return DataError(f"{type(self.module).__name__}: {what} must {condition}, got {got}. {remedy}")


@dataclass(frozen=True)
class _LoaderBatches:
    """Batches of images in [-1, 1] on a device, in stored order."""

    data: FromLoaders
    loader: DataLoader
    device: torch.device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for batch in self.loader:
            images, labels = self.data.taken(self.data.module.on_before_batch_transfer(batch, 0))
            yield images.to(self.device), labels.to(self.device)
