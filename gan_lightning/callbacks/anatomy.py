"""What the features are made of: when it is measured, and where it is shown."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, get_args, get_type_hints

import torch
from lightning.pytorch import LightningModule, Trainer
from rich import get_console
from rich.table import Table
from torch import nn

from gan_lightning.analysis.anatomy import (
    AnatomyRecord,
    ImagesAnatomy,
    Prediction,
    Variance,
    Weights,
    check_names,
    check_tolerance,
    evaluate_anatomy,
    predictions,
)
from gan_lightning.analysis.anatomy_picture import anatomy_picture
from gan_lightning.callbacks.after_training import (
    SPLITS,
    AfterTraining,
    check_labelled,
    evaluation_batches,
    provenance,
    weights_precision,
)
from gan_lightning.callbacks.progress import progress_bars
from gan_lightning.callbacks.run_folder import is_dry_run, run_folder, write_picture
from gan_lightning.callbacks.transfer import untrained_extractors, untrained_model
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TUNED, BatchNorm, TensorBatches, estimate_batch_norm_statistics, frozen
from gan_lightning.evaluation.judges import choose
from gan_lightning.files import write_json
from gan_lightning.interfaces import (
    GeneratesImages,
    HasExtractors,
    HasHeads,
    ImageBatches,
    LabelledImages,
    LinearHead,
    Split,
)
from gan_lightning.processes import process_count, process_rank
from gan_lightning.resizing import resized

VARIANCES: tuple[Variance, ...] = ("total", "within", "between")

GENERATED_AT_ONCE = 200
"""Images that the generators make in one pass."""


class FeatureAnatomy(AfterTraining):
    """Splits features into what the head they were trained with sees and what it does not, and measures both.

    After a fit and under `test`, for each extractor that has a head, on real and on generated images: the row space's
    share of the variance between images, of all of it, within classes and between them; with `probes`, what the tuned
    linear probe reads from f, f_row and f_null, and all of it with random weights. Prints a table, and what the paper
    predicts beside it; logs `anatomy/<extractor>/<weights>/<images>/<figure>`; writes `anatomy.json` and
    `pictures/anatomy.png`. Models that declare no heads, and data modules that declare no images, are passed over;
    where `extractors`, `probes` or `every_n_epochs` ask for their anatomy, they are refused.

    Args:
        enabled: Whether to measure at all.
        extractors: Names of the extractors; where not given, all that have a head.
        probes: Whether to fit probes, and to measure random weights, too. They take all images of both splits.
        images: Without probes, the number of test images, drawn at random, and of generated ones.
        generated: With probes, the number of generated images, from all generators together; as many again to fit on.
        tolerance: A singular value of a head counts as zero up to this share of the largest; where not given, the
            head's larger side times float64's ε.
        batch_norm: As in the transfer evaluation: statistics of training, or of the training images ("real").
        every_n_epochs: Epochs between two measurements of the trained extractors while they train, which the picture
            shows as curves; 0 measures after the training alone.
        seed: Of the images that are drawn, of random weights and of the probes' held-out images.

    Source:
        Mao et al. 2022, sections 2 and 3.
    """

    def __init__(
        self,
        enabled: bool = True,
        extractors: Sequence[str] | None = None,
        probes: bool = False,
        images: int = 500,
        generated: int = 2000,
        tolerance: float | None = None,
        batch_norm: BatchNorm = "running",
        every_n_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        for name, value, least in (
            ("images", images, 2),
            ("generated", generated, 2),
            ("every_n_epochs", every_n_epochs, 0),
        ):
            if value < least:
                raise SettingError(f"anatomy.{name} must be at least {least}, got {value}.")
        check_tolerance(tolerance, "anatomy.tolerance")
        self.enabled, self.extractors, self.probes = enabled, extractors, probes
        self.images, self.generated, self.tolerance = images, generated, tolerance
        self.batch_norm: BatchNorm = batch_norm
        self.every_n_epochs, self.seed = every_n_epochs, seed
        self.records: list[AnatomyRecord] = []
        """What was measured last."""
        self.history: dict[int, list[AnatomyRecord]] = {}
        """What was measured of the trained extractors after some number of epochs."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check what was asked for, before any training.

        Raises:
            DataError: If probes are asked for and there are no labels, or the data cannot be evaluated on.
            SettingError: If an extractor that is asked for has no head, a head does not fit its extractor's features,
                or there can be no random-weights control.
        """
        if is_dry_run(trainer) or not self.enabled or stage not in ("fit", "test"):
            return
        self.history = {}
        if asked := self._asked():
            remedy = f"leave out {asked} or switch it off with --anatomy.enabled=false"
            self._check_heads(pl_module, asked)
            if self.probes:
                check_labelled(trainer, "the feature anatomy with probes", remedy)
            elif not isinstance(data := getattr(trainer, "datamodule", None), LabelledImages):
                raise DataError(
                    f"the feature anatomy needs a data module that declares its images, got {type(data).__name__}. "
                    f"Use one of gan_lightning.data or {remedy}."
                )
        if not self.applies(trainer, pl_module):
            return
        check_widths(self._chosen(pl_module), self._heads(pl_module), trainer.datamodule)  # type: ignore[attr-defined]
        if self.probes:
            untrained_extractors(pl_module, self.seed)

    def _asked(self) -> str | None:
        """Return the setting that asks for an anatomy in so many words."""
        asked = {"extractors": self.extractors, "probes": self.probes, "every_n_epochs": self.every_n_epochs}
        return next((f"anatomy.{name}" for name, value in asked.items() if value), None)

    def _check_heads(self, pl_module: LightningModule, asked: str) -> None:
        known = sorted(pl_module.heads()) if isinstance(pl_module, HasHeads) else []
        without = [name for name in self.extractors or () if name not in known]
        if known and not without:
            return
        model = type(pl_module).__name__
        if known:
            raise SettingError(
                f"anatomy.extractors must name extractors of {model} that end right before a linear head, got "
                f"{without}. Choose from {known}."
            )
        raise SettingError(
            f"{asked} asks for the anatomy of {model}, none of whose extractors has a head: declare the linear layers "
            f"that its features go into with heads(), or leave out {asked}."
        )

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether the model has heads, and there are images."""
        images = isinstance(getattr(trainer, "datamodule", None), LabelledImages)
        heads = isinstance(pl_module, HasHeads) and isinstance(pl_module, HasExtractors) and bool(pl_module.heads())
        return self.enabled and images and heads

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what has been trained so far, if this is one of the epochs for it and not the last."""
        epochs = trainer.current_epoch + 1
        if not self.every_n_epochs or epochs % self.every_n_epochs or epochs == trainer.max_epochs:
            return
        if is_dry_run(trainer) or not self.applies(trainer, pl_module):
            return
        self.history[epochs] = records = self._trained(trainer, pl_module, epochs)
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics(_metrics(records), step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the curves, so that a run that is resumed has them whole."""
        if not self.history:
            return {}
        return {"history": {epoch: [asdict(record) for record in records] for epoch, records in self.history.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the curves."""
        self.history = {
            epoch: [_restored(AnatomyRecord, record) for record in records]
            for epoch, records in state_dict["history"].items()
        }

    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, then print, log, draw and write what came out."""
        epochs = trainer.current_epoch if trainer.state.fn == "fit" else None
        # Under `test` Lightning is in inference mode, in which no probe could be fitted.
        with torch.inference_mode(False):
            trained = self._trained(trainer, pl_module, epochs)
            random = self._untrained(trainer, pl_module) if self.probes else []
        self.records = trained + random
        if epochs is not None:
            self.history[epochs] = trained
        if not trainer.is_global_zero:
            return
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        found, history = predictions(self.records), [each for of_epoch in self.history.values() for each in of_epoch]
        for logger in trainer.loggers:
            logger.log_metrics(_metrics(self.records), step=trainer.global_step)
        console = get_console()
        console.print(shares_table(self.records, data.name))
        if self.probes:
            console.print(accuracies_table(self.records, data.name))
        if found:
            console.print(predictions_table(found))
        write_picture(trainer, "pictures/anatomy", anatomy_picture(self.records, history), "anatomy")
        if (folder := run_folder(trainer)) is not None:
            settings = {
                "probes": TUNED if self.probes else None,
                "tolerance": self.tolerance,
                "batch_norm": self.batch_norm,
                "seed": self.seed,
            }
            figures = {
                "records": [asdict(record) for record in self.records],
                "predictions": [asdict(prediction) for prediction in found],
                "over_training": [asdict(record) for record in history],
            }
            write_json(folder / "anatomy.json", {**provenance(trainer, pl_module), **settings, **figures})

    def _heads(self, pl_module: LightningModule) -> Mapping[str, LinearHead]:
        assert isinstance(pl_module, HasHeads)
        heads = pl_module.heads()
        return {name: heads[name] for name in self.extractors or heads}

    def _chosen(self, pl_module: LightningModule) -> Mapping[str, nn.Module]:
        assert isinstance(pl_module, HasExtractors)
        extractors = pl_module.extractors()
        return {name: extractors[name] for name in self._heads(pl_module) if name in extractors}

    def _trained(self, trainer: Trainer, pl_module: LightningModule, epochs: int | None) -> list[AnatomyRecord]:
        extractors, heads = self._chosen(pl_module), self._heads(pl_module)
        return self._measured(trainer, pl_module, extractors, heads, "trained", epochs)

    def _untrained(self, trainer: Trainer, pl_module: LightningModule) -> list[AnatomyRecord]:
        """Measure the same extractors and heads with random weights.

        Of a model that cannot be built anew the heads are normal: their row spaces point anywhere.
        """
        fresh, heads = untrained_model(pl_module, self.seed), self._heads(pl_module)
        if isinstance(fresh, HasHeads):
            heads = self._heads(fresh)
            extractors = self._chosen(fresh)
        else:
            rng = torch.Generator().manual_seed(self.seed)
            heads = {
                name: LinearHead(torch.randn(head.weight.shape, generator=rng).to(head.weight), head.task, head.softmax)
                for name, head in heads.items()
            }
            extractors = {name: untrained_extractors(pl_module, self.seed)[name] for name in heads}
        return self._measured(trainer, pl_module, extractors, heads, "random", None)

    def _measured(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        extractors: Mapping[str, nn.Module],
        heads: Mapping[str, LinearHead],
        weights: Weights,
        epoch: int | None,
    ) -> list[AnatomyRecord]:
        """Return the anatomy; weights, batch-norm statistics, modes and the random state stay as they are."""
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        device = pl_module.device
        forked = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(forked), weights_precision(trainer), progress_bars(trainer) as progress:
            if weights == "random" or self.batch_norm == "real":
                extractors = copy.deepcopy(dict(extractors))
                for extractor in extractors.values():
                    estimate_batch_norm_statistics(extractor, evaluation_batches(trainer, "train", device))
            real: dict[Split, ImageBatches]
            if self.probes:
                real = {split: evaluation_batches(trainer, split, device) for split in SPLITS}
            else:
                real = {"test": some_images(evaluation_batches(trainer, "test", device), self.images, self.seed)}
            generated, generators = self._generated(pl_module, data.image_size, real.keys())
            return evaluate_anatomy(
                extractors,
                heads,
                real,
                generated,
                num_classes=data.num_classes,
                generators=generators,
                probe=TUNED if self.probes else None,
                tolerance=self.tolerance,
                weights=weights,
                epoch=epoch,
                seed=self.seed,
                progress=progress,
            )

    @torch.no_grad()
    def _generated(
        self, pl_module: LightningModule, size: int, splits: Iterable[Split]
    ) -> tuple[dict[Split, TensorBatches], int]:
        """Return this process's share of generated images, labelled with their generators, and the number of these."""
        if not isinstance(pl_module, GeneratesImages):
            return {}, 0
        rng = torch.Generator(pl_module.device).manual_seed(self.seed)
        found: dict[Split, TensorBatches] = {}
        with frozen({type(pl_module).__name__: pl_module}):
            generators = len(pl_module.generate(1, rng))
            count = self.generated if self.probes else self.images
            each, at_once = -(-count // generators), max(1, GENERATED_AT_ONCE // generators)
            for split in splits:
                batches = []
                for done in range(0, each, at_once):
                    rows = pl_module.generate(min(at_once, each - done), rng)
                    made_by = torch.arange(generators, device=rows.device).repeat_interleave(rows.shape[1])
                    mine = (
                        both.tensor_split(process_count())[process_rank()] for both in (rows.flatten(0, 1), made_by)
                    )
                    batches.append(tuple(mine))
                images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
                found[split] = TensorBatches(resized(images, size), labels, GENERATED_AT_ONCE)
        return found, generators


def some_images(batches: ImageBatches, most: int, seed: int) -> TensorBatches:
    """Return so many images, chosen at random, in stored order; all where there are fewer.

    Args:
        batches: Where several processes run, this process's share, of which it keeps what was chosen of all.
        most: Of all processes together.
        seed: For which ones.
    """
    images, labels = zip(*choose(batches, most, seed), strict=True)
    return TensorBatches(torch.cat(images), torch.cat(labels), max(map(len, images)))


def check_widths(extractors: Mapping[str, nn.Module], heads: Mapping[str, LinearHead], data: LabelledImages) -> None:
    """Check that each head takes as many values as its extractor gives of the data's images.

    Raises:
        SettingError: If one does not, or belongs to no extractor.
    """
    check_names(extractors, heads)
    chosen = {name: extractors[name] for name in heads}
    with frozen(chosen), torch.no_grad():
        for name, extractor in chosen.items():
            weight = heads[name].weight
            blank = weight.new_zeros(1, data.channels, data.image_size, data.image_size)
            features = extractor(blank).flatten(1).shape[1]
            if features != weight.shape[1]:
                raise SettingError(
                    f"The head of the extractor {name!r} must take its {features} features, got a weight of "
                    f"{tuple(weight.shape)}. Return from heads() the layer that the features go into, or leave it out."
                )


def _metrics(records: Sequence[AnatomyRecord]) -> dict[str, float]:
    """Return the figures under the names that loggers know them by."""
    metrics: dict[str, float] = {}
    for record in records:
        for kind, found in _kinds(record):
            figures: dict[str, float | None] = {}
            if (shares := found.shares) is not None:
                figures |= {
                    "row_share": shares.row_share("total"),
                    "row_share_within": shares.row_share("within"),
                    "row_share_between": shares.row_share("between"),
                    "between_share_of_row": shares.between_share("row"),
                    "between_share_of_null": shares.between_share("null"),
                }
            if (accuracy := found.accuracy) is not None:
                parts = {"whole": accuracy.whole, "row": accuracy.row, "null": accuracy.null}
                figures |= {f"accuracy_{part}": value for part, value in parts.items()}
            name = f"anatomy/{record.extractor}/{record.weights}/{kind}"
            metrics |= {f"{name}/{figure}": value for figure, value in figures.items() if value is not None}
    return metrics


def _kinds(record: AnatomyRecord) -> list[tuple[str, ImagesAnatomy]]:
    kinds = ("real", record.real), ("generated", record.generated)
    return [(name, found) for name, found in kinds if found is not None]


def _restored(kind: Any, value: Any) -> Any:
    """Return what `dataclasses.asdict` made this value of, where the kind is a dataclass, or one or None."""
    kind = next((each for each in (kind, *get_args(kind)) if is_dataclass(each)), None)
    if kind is None or value is None:
        return value
    kinds = get_type_hints(kind)
    return kind(**{name: _restored(kinds[name], each) for name, each in value.items()})


def shares_table(records: Sequence[AnatomyRecord], data: str) -> Table:
    """Return a table of the row space's share of all variance, of that within and of that between classes."""
    return _table(
        f"Feature anatomy on {data}: the row space's share of the variance",
        ("All", "Within", "Between", "Rank / features"),
        [
            (
                (record, kind),
                [
                    *(None if found.shares is None else found.shares.row_share(of) for of in VARIANCES),
                    record.rank / record.features,
                ],
            )
            for record in records
            for kind, found in _kinds(record)
        ],
    )


def accuracies_table(records: Sequence[AnatomyRecord], data: str) -> Table:
    """Return a table of what probes read from each part."""
    return _table(
        f"Feature anatomy on {data}: accuracies of linear probes",
        ("f", "f_row", "f_null", "Chance"),
        [
            ((record, kind), [accuracy.whole, accuracy.row, accuracy.null, accuracy.chance])
            for record in records
            for kind, found in _kinds(record)
            if (accuracy := found.accuracy) is not None
        ],
    )


def _table(
    title: str, columns: Sequence[str], rows: Sequence[tuple[tuple[AnatomyRecord, str], Sequence[float | None]]]
) -> Table:
    table = Table(title=title)
    for column in ("Extractor", "Weights", "Images"):
        table.add_column(column, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for (record, kind), figures in rows:
        table.add_row(record.extractor, record.weights, kind, *map(_figure, figures))
    return table


def predictions_table(found: Sequence[Prediction]) -> Table:
    """Return a table with a row per prediction of the paper: what it says, and what was measured."""
    table = Table(title="What Mao et al. 2022 predict, and what was measured")
    table.add_column("Theorem", no_wrap=True)
    table.add_column("Predicted")
    for column in ("Measured", "Random weights", "Held"):
        table.add_column(column, justify="right")
    for each in found:
        predicted = f"{each.extractor}: {each.figure} {each.predicted} {each.beside_is}, {_figure(each.beside)}"
        held = "-" if each.held is None else "yes" if each.held else "no"
        table.add_row(each.theorem, predicted, _figure(each.value), _figure(each.random_weights), held)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
