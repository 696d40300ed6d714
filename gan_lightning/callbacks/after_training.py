"""What callbacks that measure a finished model have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gan_lightning.callbacks.run_folder import is_dry_run
from gan_lightning.errors import DataError, SettingError
from gan_lightning.files import SCHEMA_VERSION
from gan_lightning.interfaces import ImageBatches, Images, LabelledImages, Labels, Split
from gan_lightning.processes import gather_objects

SPLITS: tuple[Split, ...] = ("train", "test")


class AfterTraining(Callback, ABC):
    """Measures a model after a fit and under `test`, while devices and processes are still up."""

    @abstractmethod
    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether the model is one that can be measured, and the user wants it."""

    @abstractmethod
    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure; called on every process."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what was trained."""
        self._evaluate(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what was loaded."""
        self._evaluate(trainer, pl_module)

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_dry_run(trainer) and self.applies(trainer, pl_module):
            self.evaluate(trainer, pl_module)


@dataclass(frozen=True)
class ConvertedBatches:
    """Batches of images in the precision of the trainer's weights."""

    batches: ImageBatches
    convert: Callable[[Images], Images]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for images, labels in self.batches:
            yield self.convert(images), labels


def evaluation_batches(trainer: Trainer, split: Split, device: torch.device) -> ConvertedBatches:
    """Return a split of the trainer's data in stored order, in the precision of the weights."""
    data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
    return ConvertedBatches(data.evaluation_batches(split, device), trainer.precision_plugin.convert_input)


@contextmanager
def weights_precision(trainer: Trainer) -> Iterator[None]:
    """Compute in the precision of the weights; mixed precision is for training."""
    with nullcontext() if trainer.precision.endswith("-mixed") else trainer.precision_plugin.forward_context():
        yield


def check_labelled(trainer: Trainer, what: str, remedy: str) -> None:
    """Check that there are labels to evaluate with, and weights that images fit.

    Args:
        trainer: Of the run.
        what: What needs them.
        remedy: How to do without it.

    Raises:
        DataError: If a split of the data set has no labels, or it is not one that can be evaluated on.
        SettingError: If the weights are not float32.
    """
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, LabelledImages):
        raise DataError(
            f"{what} needs a data module that declares labelled images, got {type(data).__name__}. "
            f"Use one of gan_lightning.data or {remedy}."
        )
    if data.label_kind == "none":
        raise DataError(
            f"{what} needs labels, and the data set {data.name} has none. Use a labelled data set or {remedy}."
        )
    for split in SPLITS:
        labels = (labels for _, labels in data.evaluation_batches(split, torch.device("cpu")))
        if not any(gather_objects(any(bool((each >= 0).any()) for each in labels))):
            raise DataError(
                f"{what} needs labels, and no {split} image of {data.name} has one. "
                f"Use a labelled data set or {remedy}."
            )
    check_precision(trainer, what, f"or {remedy}")


def check_precision(trainer: Trainer, what: str, remedy: str) -> None:
    """Check that images, which are float32, fit the weights.

    Args:
        trainer: Of the run.
        what: What needs it.
        remedy: What else to do.

    Raises:
        SettingError: If the weights are not float32.
    """
    if trainer.precision not in ("32-true", "bf16-mixed", "16-mixed"):
        raise SettingError(
            f"trainer.precision must keep float32 weights for {what}, got '{trainer.precision}'. "
            f"Use '32-true' or 'bf16-mixed', {remedy}."
        )


def provenance(trainer: Trainer, pl_module: LightningModule) -> Mapping[str, Any]:
    """Return what a file of results says of the model and the data that it was measured on."""
    data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
    fitted = trainer.state.fn == "fit"  # under `test` the trainer has not counted anything: the checkpoint tells
    return {
        "schema_version": SCHEMA_VERSION,
        "model": type(pl_module).__name__,
        "model_settings": dict(pl_module.hparams),
        "data": data.name,
        "data_settings": _settings(data),
        "epochs": trainer.current_epoch if fitted else None,
        "batches": trainer.global_step if fitted else None,
        "checkpoint": trainer.ckpt_path,
    }


def _settings(data: object) -> Mapping[str, Any]:
    """Return the constructor arguments of a data set that is a dataclass, as the project's are."""
    if not is_dataclass(data):
        return {}
    return {setting.name: getattr(data, setting.name) for setting in fields(data) if setting.init}
