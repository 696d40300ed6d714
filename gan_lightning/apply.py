"""`gan-lightning apply`: an application on a trained checkpoint, in a run folder of its own."""

import shutil
import tempfile
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from gan_lightning.applications import Application, Outcome, encoding_model
from gan_lightning.applications.base import ClassImages
from gan_lightning.callbacks.after_training import (
    check_precision,
    evaluation_batches,
    provenance,
    weights_precision,
)
from gan_lightning.callbacks.run_folder import run_folder, write_picture
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import BatchNorm, frozen, reconstruction_statistics
from gan_lightning.files import whole_file, write_json
from gan_lightning.interfaces import LabelledImages


class ApplyingTrainer(Trainer):
    """Lightning's trainer, with one more thing to do with a trained model: `apply`.

    A training that ended after its last batch and before its evaluations goes on with those.
    """

    _application: Application | None = None
    _batch_norm: BatchNorm = "running"

    def apply(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        application: Application,
        batch_norm: BatchNorm = "running",
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Use a trained encoder and generator: see `application`.

        Pictures and figures go to the run's folder, under the application's name. Settings are checked before
        the folder is made.

        Args:
            model: What was trained.
            datamodule: What it is applied to.
            application: What to do: `Samples`, `IterativeFeeding`, `Embedding`, `Similarity`, `Variations`,
                `SyntheticData`, or a class of your own.
            batch_norm: Batch-norm statistics that E and G work with: "running" are those of training, "real" those of
                G(E(x)) on the training images.
            ckpt_path: A checkpoint of the model.
            weights_only: As `test` has it.

        Raises:
            SettingError: The model has no encoder and generator, there are several processes, or a setting does not fit
                the data.
            DataError: The data have no labels, and the application needs some.
        """
        encoding_model(model)
        if self.world_size > 1:
            raise SettingError(
                f"trainer.devices must be 1 for apply, got {self.world_size} processes: applications run in one. "
                "Set --trainer.devices=1."
            )
        if not isinstance(datamodule, LabelledImages):
            raise DataError(
                f"an application needs a data module that declares its images, got {type(datamodule).__name__}. "
                "Use one of gan_lightning.data."
            )
        if not getattr(application, "name", None):
            raise SettingError(
                f"application must have a name, which its files are called by, got {type(application).__name__} "
                "without one. Give the class an attribute `name`."
            )
        check_precision(self, "apply", "whatever the run was trained in")
        datamodule.prepare_data()
        datamodule.setup("fit")
        application.check(datamodule)
        self._application, self._batch_norm = application, batch_norm
        try:
            self.predict(
                model, datamodule=datamodule, return_predictions=False, ckpt_path=ckpt_path, weights_only=weights_only
            )
        finally:
            self._application = None

    @property
    def batch_norm(self) -> BatchNorm:
        """Batch-norm statistics that an application works with."""
        return self._batch_norm

    @property
    def task(self) -> str | None:
        """What the trainer does: Lightning's name for it, or `apply`."""
        return self.state.fn if self._application is None else "apply"

    def _run_stage(self) -> Any:
        """Do the application where Lightning would go through the data, with weights and devices in their places."""
        if self._application is None:
            ended = self.training and self.ckpt_path is not None and self.fit_loop.done
            done = super()._run_stage()
            if ended and self.fit_loop.max_batches:  # Lightning has nothing to do then, not even what comes at the end
                self.fit_loop.on_run_start()
                self.fit_loop.on_run_end()
            return done
        model, data = self.lightning_module, self.datamodule  # type: ignore[attr-defined]
        encoding = encoding_model(model)
        train = evaluation_batches(self, "train", model.device) if self._batch_norm == "real" else None
        with (
            frozen({type(model).__name__: model}),
            torch.no_grad(),
            weights_precision(self),
            reconstruction_statistics(model, train),
        ):
            outcome = self._application.run(encoding, data, model.device)
        write_outcome(self, model, self._application, outcome)
        return None


def write_outcome(trainer: ApplyingTrainer, model: LightningModule, application: Application, outcome: Outcome) -> None:
    """Write what an application found: `<name>.json`, and the rest below `<name>/`; each file whole or not at all."""
    for name, picture in outcome.pictures.items():
        write_picture(trainer, f"{application.name}/{name}", picture, f"{application.name}/{name}")
    folder = run_folder(trainer)
    if folder is None:
        return
    home = folder / application.name
    if outcome.arrays:
        with whole_file(home / "arrays.npz") as path:
            np.savez(path, allow_pickle=False, **{name: array.numpy() for name, array in outcome.arrays.items()})
    for name, data_set in outcome.data_sets.items():
        write_data_set(home / name, data_set)
    settings: dict[str, Any] = asdict(application) if is_dataclass(application) else {}
    about = {**provenance(trainer, model), "application": type(application).__name__}
    about |= {"settings": settings, "batch_norm": trainer.batch_norm}
    write_json(folder / f"{application.name}.json", {**about, **outcome.figures})


def write_data_set(folder: Path, data_set: ClassImages) -> None:
    """Write `<split>/<class>/<number>.png` below a folder, which appears whole or not at all; `ImageFolder` reads it.

    Classes that a split has no image of are left out of all splits: `ImageFolder` wants the same ones in each.
    """
    from torchvision.transforms.functional import to_pil_image

    present = set.intersection(*(set(labels.tolist()) for _, labels in data_set.splits.values()))
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
    try:
        for split, (images, labels) in data_set.splits.items():
            for number, (image, label) in enumerate(zip(images.cpu(), labels.tolist(), strict=True)):
                if label in present:
                    file = Path(unfinished, split, data_set.classes[label], f"{number:06}.png")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    to_pil_image(((image + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8)).save(file)
        unfinished.chmod(0o755)  # temporary folders are the user's alone
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
