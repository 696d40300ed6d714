"""When generated images are judged: while a model trains, after every fit, and under `test`."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from rich import get_console
from rich.table import Table

from gan_lightning.callbacks.after_training import AfterTraining, provenance
from gan_lightning.callbacks.monitoring import Best, Curve, check_monitors, log_figures, show_to_monitors
from gan_lightning.callbacks.run_folder import is_dry_run, run_folder, write_picture
from gan_lightning.callbacks.transfer import TransferEvaluation
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    FeatureNetwork,
    Measured,
    QualityReference,
    SmallClassifier,
    curves_picture,
    generator_count,
    rank_correlation,
    shares_picture,
)
from gan_lightning.evaluation.quality import DISTANCES, MANIFOLD
from gan_lightning.files import write_json
from gan_lightning.interfaces import GeneratesImages, LabelledImages, Split

BEST: Mapping[str, Best] = {**dict.fromkeys(DISTANCES, "min"), **dict.fromkeys(MANIFOLD, "max")}
"""Which value of a figure is best; of the classes' entropies none is."""


class GenerationQuality(AfterTraining):
    """Judges generated images beside as many real ones, by the features of a network; off unless asked for.

    FID, KID, precision, recall, density and coverage; by a classifier, also which classes the images show, and of
    several generators which classes each one makes. Prints a table, logs `quality/<figure>/<network>`, writes
    `quality.json` and `pictures/classes.png`. Where the transfer evaluation runs while training, too, both are drawn on
    one time axis, `pictures/quality-and-features.png`, and their rank correlation is written.

    Batch norm uses the statistics of training. Weights, modes and the training's random numbers do not change. Models
    that generate nothing are passed over.

    Args:
        enabled: Whether to judge at all.
        network: Whose features the figures are of: `SmallClassifier`, trained on the data once and kept, `Inception`,
            whose weights must be on disk, or an `ImportedNetwork` of your own.
        images: Most real images, chosen at random, and generated ones.
        split: Where the real images are from. A `SmallClassifier` was trained on those of `train`.
        neighbours: k of precision, recall, density and coverage; 0 leaves them out.
        seed: Seed of the choice of the images, of the latents and of KID's subsets.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
    """

    def __init__(
        self,
        enabled: bool = False,
        network: FeatureNetwork = SmallClassifier(),  # noqa: B008 (frozen)
        images: int = 10_000,
        split: Split = "test",
        neighbours: int = 5,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        for name, least in (("images", 2), ("neighbours", 0), ("every_n_epochs", 0)):
            if (value := locals()[name]) < least:
                raise SettingError(f"quality.{name} must be at least {least}, got {value}.")
        if every_n_epochs and not enabled:
            raise SettingError(
                f"quality.every_n_epochs must be 0 where quality.enabled is false, got {every_n_epochs}. "
                "Set --quality.enabled=true."
            )
        self.enabled, self.network, self.images, self.neighbours = enabled, network, images, neighbours
        self.split: Split = split
        self.seed, self.every_n_epochs = seed, every_n_epochs
        self.measured: Measured | None = None
        """What was measured last."""
        self.curve: Curve = {}
        """What was measured while training."""
        self._reference: QualityReference | None = None
        self._measured_at: int | None = None

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether the model generates images."""
        return self.enabled and isinstance(pl_module, GeneratesImages)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Get the network and show it the real images, before any training.

        Raises:
            DataError: If the data module declares no images.
            SettingError: If the network cannot be had, or there are too few images, or checkpoints are chosen by a
                figure that is not measured.
        """
        if stage not in ("fit", "test") or is_dry_run(trainer):
            return
        self.measured, self.curve, self._measured_at = None, {}, None
        known: dict[str, Best | None] = {}
        if self.applies(trainer, pl_module):
            data = getattr(trainer, "datamodule", None)
            if not isinstance(data, LabelledImages):
                raise DataError(
                    f"The quality of generated images needs a data module that declares images, got "
                    f"{type(data).__name__}. Use one of gan_lightning.data or leave out --quality.enabled."
                )
            # Lightning tells a model its device before it takes it there, and latents are drawn where it says it is.
            pl_module.to(device := trainer.strategy.root_device)
            self._reference = QualityReference.of(
                self.network,
                data,
                split=self.split,
                images=self.images,
                generators=generator_count(pl_module),
                neighbours=self.neighbours,
                seed=self.seed,
                device=device,
            )
            known = {self._metric(name): BEST.get(name) for name in self._reference.figure_names}
        if stage == "fit":
            check_monitors(trainer, "quality", known, self.every_n_epochs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what has been trained so far, if this is one of the epochs for it."""
        epochs = trainer.current_epoch + 1
        if not self.every_n_epochs or epochs % self.every_n_epochs or is_dry_run(trainer):
            return
        if self.applies(trainer, pl_module):
            figures = self._measure(trainer, pl_module)
            self.curve[epochs] = figures
            show_to_monitors(pl_module, figures)

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, unless the end of the epoch has done so, then print, draw and write."""
        fitted = trainer.state.fn == "fit"
        if not fitted or self._measured_at != trainer.global_step:
            figures = self._measure(trainer, pl_module)
            if fitted and self.every_n_epochs:
                self.curve[trainer.current_epoch] = figures
        elif self.measured is None:  # by the run that this one goes on with, which has logged it, too
            assert self._reference is not None
            self.measured = self._reference.measure(pl_module)
        if not trainer.is_global_zero:
            return
        assert self._reference is not None
        assert self.measured is not None
        get_console().print(quality_table(self.measured, self._reference))
        if self.measured.classes is not None:
            counts = self.measured.classes.counts
            rows = [f"generator {number}" for number in range(len(counts))]
            title = f"Classes of generated images, by {self._reference.judge.name}"
            picture = shares_picture(counts, rows, _class_names(trainer.datamodule), title)  # type: ignore[attr-defined]
            write_picture(trainer, "pictures/classes", picture, "quality/classes")
        against = self._against_features(trainer) if fitted else []
        if (folder := run_folder(trainer)) is not None:
            write_json(folder / "quality.json", self._results(trainer, pl_module, against))

    def state_dict(self) -> dict[str, Any]:
        """Return the curve, so that a run that is resumed has it whole."""
        return {"curve": self.curve, "measured_at": self._measured_at} if self.curve else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curve."""
        self.curve, self._measured_at = state_dict["curve"], state_dict.get("measured_at")

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        """Measure and log; return the metrics."""
        assert self._reference is not None
        self.measured = self._reference.measure(pl_module)
        self._measured_at = trainer.global_step
        figures = {self._metric(name): value for name, value in self.measured.figures().items()}
        log_figures(trainer, figures)
        return figures

    def _metric(self, name: str) -> str:
        """Return the name that loggers know a figure by; it bears the network's."""
        assert self._reference is not None
        return f"quality/{name}/{self._reference.judge.name}"

    def _against_features(self, trainer: Trainer) -> list[dict[str, Any]]:
        """Draw FID and the probes' accuracies and return how they go together, if both were measured in training."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        probes = next((callback.curve for callback in callbacks if isinstance(callback, TransferEvaluation)), {})
        if not self.curve or not probes:
            return []
        assert self._reference is not None
        fid = self._metric("fid")
        fids = {epoch: figures[fid] for epoch, figures in self.curve.items()}
        names = dict.fromkeys(name for figures in probes.values() for name in figures)
        accuracies = {
            name: {epoch: figures[name] for epoch, figures in probes.items() if name in figures} for name in names
        }
        shown = {" ".join(name.split("/")[1:-1]): accuracy for name, accuracy in accuracies.items()}
        panels = {
            f"FID by {self._reference.judge.name} (lower is better)": {"FID": fids},
            "accuracy on frozen features (higher is better)": shown,
        }
        write_picture(trainer, "pictures/quality-and-features", curves_picture(panels), "quality/features")
        return [
            {"quality": fid, "features": name, **asdict(rank_correlation(fids, accuracy))}
            for name, accuracy in accuracies.items()
        ]

    def _results(
        self, trainer: Trainer, pl_module: LightningModule, against: list[dict[str, Any]]
    ) -> Mapping[str, Any]:
        reference, measured = self._reference, self.measured
        curve = sorted(self.curve.items()) if trainer.state.fn == "fit" else []  # a checkpoint brings its own
        assert reference is not None
        assert measured is not None
        return {
            **provenance(trainer, pl_module),
            "network": {"name": reference.judge.name, "settings": self.network, **reference.judge.about},
            "split": self.split,
            "neighbours": self.neighbours,
            "seed": self.seed,
            "generators": reference.generators,
            "generated": asdict(measured),
            "other_real_images": None if reference.others is None else asdict(reference.others),
            "curve": [{"epoch": epoch, **figures} for epoch, figures in curve],
            "against_features": against,
        }


def _class_names(data: LabelledImages) -> list[str]:
    return list(getattr(data, "classes", None) or map(str, range(data.num_classes)))


def quality_table(measured: Measured, reference: QualityReference) -> Table:
    """Return a table with a row per figure, and beside it the same of other real images."""
    judge = reference.judge
    accuracy = judge.about.get("test_accuracy")
    about = judge.name if accuracy is None else f"{judge.name} (test accuracy {accuracy:.4f})"
    count = measured.quality.images
    table = Table(
        title=f"Quality of {count:,} generated images beside as many of the {reference.split} split, by {about}"
    )
    table.add_column("Figure", no_wrap=True)
    for column in ("Generated", "Other real images"):
        table.add_column(column, justify="right")
    real = {} if reference.others is None else reference.others.figures()
    for name, value in measured.figures().items():
        table.add_row(name.replace("_", " "), f"{value:.4f}", f"{real[name]:.4f}" if name in real else "-")
    return table
