"""The delivery of figures: to the run's folder, the loggers, the monitors and the terminal, in this order."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from rich.table import Table

from gan_lightning.errors import SettingError
from gan_lightning.figures import (
    FILE,
    PLUMBING,
    Figure,
    RunFigures,
    Section,
    constructor_arguments,
    finite,
    metrics,
    read_figures,
    write_figures,
)
from gan_lightning.interfaces import HasPublishedFigures, LabelledImages
from gan_lightning.measurements.figure_tables import figures_table
from gan_lightning.measurements.measurement import ClassImages, Outcome
from gan_lightning.runs.counting import batches_done
from gan_lightning.runs.loggers import log_curves
from gan_lightning.runs.run_folder import git_commit, run_folder, subject_of, write_picture
from gan_lightning.system.files import whole_file, writing_folder
from gan_lightning.system.seeds import run_seed
from gan_lightning.system.terminal import show


def deliver(
    trainer: Trainer,
    pl_module: LightningModule,
    name: str,
    settings: Mapping[str, Any],
    outcome: Outcome,
    *,
    epoch: int | None = None,
    seconds: float | None = None,
    earlier: Sequence[Figure] = (),
    final: bool = True,
    logs: bool = True,
    shows: bool = True,
) -> None:
    """Write, log and show a measurement's outcome; only the first process does anything.

    Args:
        trainer: Of the run.
        pl_module: The measured model.
        name: The measurement's.
        settings: Its settings.
        outcome: Its outcome; the figures bear their epoch.
        epoch: Epochs of training that the model has had.
        seconds: Its wall time.
        earlier: Its figures so far. Figures of other epochs stand beside the new ones. Logged figures are not logged
            again.
        final: Whether the model is finished. While training no tables are shown, and pictures bear the epoch.
        logs: Whether the loggers are told.
        shows: Whether a table is shown.
    """
    if not trainer.is_global_zero:
        return
    folder, dated = run_folder(trainer), not final
    if folder is not None:
        about = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "stage": getattr(trainer, "task", trainer.state.fn),
            "checkpoint": None if trainer.ckpt_path is None else str(trainer.ckpt_path),
            "seconds": None if seconds is None else round(seconds, 3),
            "git_commit": git_commit(),
        }
        section = Section(dict(settings), about, outcome.details)
        run = run_so_far(trainer, pl_module, folder)
        # Texts and pictures of a finished run's last epoch stay; an earlier epoch's stand beside them.
        dated = dated or (trainer.state.fn != "fit" and _is_earlier(run, epoch))
        before = [figure for figure in earlier if figure.epoch != epoch]
        said = f"{name}, epoch {epoch}" if dated and final else name
        write_figures(folder / FILE, run.with_measured(name, section, [*before, *outcome.figures], said))
        if outcome.arrays:
            with whole_file(folder / f"{name}.npz") as path:
                np.savez(
                    path, allow_pickle=False, **{key: array.cpu().numpy() for key, array in outcome.arrays.items()}
                )
        for data_set, images in outcome.data_sets.items():
            write_data_set(folder / name / data_set, images)
    suffix = "" if not dated or epoch is None else f"-epoch-{epoch - 1:04d}"
    for picture_name, picture in outcome.pictures.items():
        whole_name = f"{name}-{picture_name}" if picture_name else name
        key = f"{name}/{picture_name}" if picture_name else name
        write_picture(trainer, f"pictures/{whole_name}{suffix}", picture, key)
    if logs:
        logged = {(figure.name, figure.at, figure.value) for figure in earlier if figure.epoch == epoch}
        log_figures(trainer, [each for each in outcome.figures if (each.name, each.at, each.value) not in logged])
    if final and shows and (tables := tables_of(name, outcome)):
        show(*tables)


def _is_earlier(run: RunFigures, epoch: int | None) -> bool:
    """Return whether a finished run is measured at an earlier epoch than the last."""
    last = run.about.get("epochs")
    return epoch is not None and isinstance(last, int) and epoch < last


def log_figures(trainer: Trainer, figures: Sequence[Figure]) -> None:
    """Give figures to the loggers at once, because programs that stop runs early read them from outside."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        log_curves(logger, figures)
        if found := metrics(figures):
            logger.log_metrics(found, step=batches_done(trainer))
        logger.save()


def show_to_monitors(pl_module: LightningModule, figures: Sequence[Figure]) -> None:
    """Show figures to the callbacks that monitor a metric; to be called in `on_train_epoch_end`, on every process.

    The `on_train_epoch_end` of these callbacks comes after all others. The loggers do not get the figures from here:
    they would get them at the end of the epoch, under another step.
    """
    for name, value in metrics(figures).items():
        pl_module.log(name, value, on_step=False, on_epoch=True, logger=False, batch_size=1, sync_dist=True)


def read_run(folder: Path) -> RunFigures | None:
    """Return the figures in a run's folder; None if there is no file.

    Raises:
        DataError: This version does not read the file; the file stays unchanged.
    """
    return read_figures(folder / FILE) if (folder / FILE).exists() else None


def check_same_data(folder: Path, data: object) -> None:
    """Check that a finished run is measured on its own data. Figures of other data would replace the run's.

    Raises:
        SettingError: Another data set is given, or other settings of it; names them.
        DataError: The run's figures cannot be read.
    """
    run = read_run(folder)
    if run is None:
        return
    # In the file's form: tuples are lists there.
    here = json.loads(json.dumps(finite({"data": data_name(data), **constructor_arguments(data)})))
    there = {"data": run.about.get("data"), **run.about.get("data_settings", {})}
    for name in sorted((here.keys() | there.keys()) - PLUMBING):
        if here.get(name) != there.get(name):
            raise SettingError(
                f"{name} must be {there.get(name)!r}, as the run had it, got {here.get(name)!r}: figures of other data "
                "would replace the run's. Measure other data from Python, with a Bench.",
                None if name == "data" else data,
            )


def run_so_far(trainer: Trainer, pl_module: LightningModule, folder: Path) -> RunFigures:
    """Return the figures in a run's folder, with the run's present facts; a finished run keeps its facts."""
    known = read_run(folder)
    if known is not None and trainer.state.fn != "fit":
        return known
    about, published = about_run(trainer, pl_module), _published(trainer, pl_module)
    return replace(known or RunFigures({}), about=about, published=published)


def write_passed_over(trainer: Trainer, pl_module: LightningModule, reasons: Mapping[str, str]) -> None:
    """Note in the run's folder why measurements were not made."""
    folder = run_folder(trainer)
    if folder is None or not trainer.is_global_zero or not reasons:
        return
    run = run_so_far(trainer, pl_module, folder)
    reasons = {name: why for name, why in reasons.items() if name not in run.sections}
    write_figures(folder / FILE, replace(run, passed_over={**run.passed_over, **reasons}))


def about_run(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Return the facts on a run's figures: model, data and seed."""
    data = getattr(trainer, "datamodule", None)
    fitted = trainer.state.fn == "fit"
    return {
        "model": subject_of(pl_module),
        "model_settings": dict(pl_module.hparams),
        "data": data_name(data),
        "data_settings": constructor_arguments(data),
        "seed": run_seed(),
        "epochs": trainer.current_epoch if fitted else None,
        "batches": batches_done(trainer) if fitted else None,
    }


def data_name(data: object) -> str:
    """Return a data set's name for figures."""
    return data.name if isinstance(data, LabelledImages) else type(data).__name__


def _published(trainer: Trainer, pl_module: LightningModule) -> dict[str, dict[str, Any]]:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(data, LabelledImages) or not isinstance(pl_module, HasPublishedFigures):
        return {}
    printed = pl_module.published_figures(data.name)
    return {name: {"value": each.value, "source": each.source} for name, each in printed.items()}


def write_data_set(folder: Path, data_set: ClassImages) -> None:
    """Write `<split>/<class>/<number>.png` below a folder that appears whole or not at all; `ImageFolder` reads it.

    If a class lacks images in a split, it is left out of all splits: `ImageFolder` wants the same classes in each. An
    earlier measurement's folder is replaced.
    """
    from torchvision.transforms.functional import to_pil_image

    present = set.intersection(*(set(labels.tolist()) for _, labels in data_set.splits.values()))
    with writing_folder(folder.parent) as writing:
        unfinished = writing / folder.name
        unfinished.mkdir()
        for split, (images, labels) in data_set.splits.items():
            for number, (image, label) in enumerate(zip(images.cpu(), labels.tolist(), strict=True)):
                if label in present:
                    file = Path(unfinished, split, data_set.classes[label], f"{number:06}.png")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    to_pil_image(((image + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8)).save(file)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.replace(folder)


def tables_of(name: str, outcome: Outcome) -> Sequence[Table]:
    """Return a measurement's tables for the terminal."""
    return outcome.tables or ([figures_table(name, outcome.figures)] if outcome.figures else [])
