"""What a frozen extractor's features are worth on a labelled data set, beside two controls.

Raw pixels show what the features add to the image, and the same network with random weights what training
adds to the architecture: without both rows an accuracy says little. Any module that maps images to features
takes part:

    data = TensorImages("digits", train=(images, labels), test=(test_images, test_labels), num_classes=10)
    records = evaluate_transfer(
        {"mine": network}, data, random_extractors={"mine": random_copy(network, seed=0)}
    )
    for row in summary(records):
        print(row.extractor, row.protocol, row.accuracy, row.random_weights, row.raw_pixels)
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.features import RawPixels, estimate_batch_norm_statistics, extract_features
from gan_lightning.evaluation.linear import (
    PAPER,
    TUNED,
    PaperProtocol,
    TunedProtocol,
    logistic_probe,
    sgd_heads,
)
from gan_lightning.evaluation.nearest import NearestProtocol, nearest_accuracy
from gan_lightning.interfaces import ImageBatches, Images, LabelledImages, Labels, Split
from gan_lightning.processes import on_first_process

Weights = Literal["trained", "random", "none"]
ProtocolName = Literal["paper", "tuned", "nearest"]
BatchNorm = Literal["running", "real"]
"""Which statistics a trained extractor's batch norm uses: those gathered in training, or those of real images."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, and how much of it: description, done, total."""

RAW_PIXELS = "pixels"
"""The extractor's name in the records of the raw-pixel control."""


@dataclass(frozen=True)
class TransferRecord:
    """One accuracy; `dataclasses.asdict` makes it ready for JSON.

    Attributes:
        extractor: Its name.
        weights: "trained" and "random" for the network's; "none" for raw pixels.
        protocol: How the features were judged.
        epoch: Of the paper's protocol, which has a record after each; None for the others.
        accuracy: On the test split, in [0, 1].
        seconds: Wall time of fitting and testing up to this record, without feature extraction. The paper's
            heads are trained together: each counts an equal share.
        strength: The tuned probe's λ, chosen on training images; None for the others.
        features: Their number per image.
    """

    extractor: str
    weights: Weights
    protocol: ProtocolName
    epoch: int | None
    accuracy: float
    seconds: float
    strength: float | None
    features: int


@dataclass(frozen=True)
class SummaryRow:
    """A trained extractor's final accuracy under one protocol, with its controls.

    Attributes:
        accuracy: Final, in [0, 1].
        random_weights: Of the same network untrained; None where that was not evaluated.
        raw_pixels: Of the images themselves; None where that was not evaluated.
        seconds: As in `TransferRecord`, of the trained extractor.
    """

    extractor: str
    protocol: ProtocolName
    accuracy: float
    random_weights: float | None
    raw_pixels: float | None
    seconds: float


@dataclass(frozen=True)
class _Source:
    """Where a record's features come from."""

    extractor: str
    weights: Weights
    module: nn.Module


@dataclass(frozen=True)
class _Features:
    """Both splits' features by source, and the labels."""

    train: dict[str, Tensor]
    train_labels: Tensor
    test: dict[str, Tensor]
    test_labels: Tensor


def evaluate_transfer(
    extractors: Mapping[str, nn.Module],
    data: LabelledImages,
    *,
    random_extractors: Mapping[str, nn.Module] | None = None,
    raw_pixels: bool = True,
    protocols: Sequence[PaperProtocol | TunedProtocol | NearestProtocol] = (PAPER, TUNED),
    batch_norm: BatchNorm = "running",
    device: torch.device | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[TransferRecord]:
    """Freeze extractors, extract each split once, and classify by the features.

    Images without a label are left out. Weights, batch-norm statistics, modes and the random state are
    afterwards what they were. It may be called from a validation hook, where autograd is off. Where several
    processes run, each extracts its share, the first one fits, and all return the records.

    Args:
        extractors: Trained modules that map images to features, under their names.
        data: A data set with labels.
        random_extractors: The same networks with random weights, under the same names. Copies are evaluated,
            with batch-norm statistics estimated on the training images, as the trained ones have had: with
            the mean 0 and variance 1 of a new layer the control would be weaker than it should be.
        raw_pixels: Whether the pixels themselves are evaluated.
        protocols: How to classify by the features.
        batch_norm: Statistics that the trained extractors' batch norm uses. "running" are those of training, which
            in a discriminator mix real and generated images; for "real", those of copies are estimated on the
            training images, as the BiGAN authors do before each evaluation.
        device: Where the extractors are; by default, where their first parameter is.
        seed: For heads and shuffling, and for the tuned probe's held-out images.
        progress: Called as work gets done.

    Returns:
        Records by protocol, then extractor (trained, random, raw pixels), then epoch.

    Raises:
        SettingError: There is nothing to evaluate, the data set has no labels, or a random extractor has no
            trained one of its name.
        DataError: No image of a split has a label, or features are not finite.
        RuntimeError: An extractor changed its own parameters or buffers.
    """
    if data.label_kind == "none":
        raise SettingError(
            f"data must have labels to evaluate transfer on, got {data.name!r} without; "
            "choose a labelled data set or turn the transfer evaluation off."
        )
    if unpaired := (random_extractors or {}).keys() - extractors.keys():
        raise SettingError(
            f"random_extractors must be named like extractors, got {sorted(unpaired)} beside "
            f"{sorted(extractors)}; name each like the extractor it is the control of."
        )
    if not extractors and not raw_pixels:
        raise SettingError("extractors must hold at least one module, got none; name one or set raw_pixels.")
    device = device or _device_of(extractors)
    report = progress or (lambda description, done, total: None)
    # Lightning's validation hooks run in inference mode, in which no head could be trained.
    with torch.inference_mode(False), torch.random.fork_rng([device] if device.type == "cuda" else []):
        untrained = _with_real_statistics(random_extractors or {}, "random", data, device, report)
        if batch_norm == "real":
            extractors = _with_real_statistics(extractors, "trained", data, device, report)
        sources = [
            *(_Source(name, "trained", module) for name, module in extractors.items()),
            *(_Source(name, "random", module) for name, module in untrained.items()),
            *([_Source(RAW_PIXELS, "none", RawPixels())] if raw_pixels else []),
        ]
        named = {f"{source.extractor} ({source.weights} weights)": source for source in sources}
        modules = {name: source.module for name, source in named.items()}
        features = _Features(
            *_labelled_features(modules, data, "train", device, report),
            *_labelled_features(modules, data, "test", device, report),
        )

        def fit() -> list[TransferRecord]:
            records: list[TransferRecord] = []
            for protocol in protocols:
                if isinstance(protocol, PaperProtocol):
                    records += _paper_records(protocol, named, features, data.num_classes, seed, report)
                elif isinstance(protocol, NearestProtocol):
                    records += _nearest_records(protocol, named, features, report)
                else:
                    records += _tuned_records(protocol, named, features, data.num_classes, seed, report)
            return records

        return on_first_process(fit)


def _device_of(modules: Mapping[str, nn.Module]) -> torch.device:
    parameters = chain.from_iterable(module.parameters() for module in modules.values())
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def _with_real_statistics(
    extractors: Mapping[str, nn.Module], weights: Weights, data: LabelledImages, device: torch.device, report: Progress
) -> dict[str, nn.Module]:
    """Return copies whose batch-norm statistics are those of the training images; what they share stays shared."""
    copies = copy.deepcopy(dict(extractors))
    for name, module in copies.items():
        batches = data.evaluation_batches("train", device)
        estimate_batch_norm_statistics(module, _Watched(batches, f"batch-norm statistics of {weights} {name}", report))
    return copies


def _labelled_features(
    modules: Mapping[str, nn.Module],
    data: LabelledImages,
    split: Split,
    device: torch.device,
    report: Progress,
) -> tuple[dict[str, Tensor], Tensor]:
    """Extract a split, and leave out the images of which nothing is known."""
    batches = _Watched(data.evaluation_batches(split, device), f"features of {split} images", report)
    features, labels = extract_features(modules, batches)
    known = labels >= 0 if labels.ndim == 1 else (labels >= 0).any(dim=1)
    if not known.any():
        raise DataError(
            f"{data.name}: at least one {split} image must have a label, got none of {len(labels)}; "
            "choose a labelled data set or turn the transfer evaluation off."
        )
    if known.all():
        return features, labels
    return {name: matrix[known] for name, matrix in features.items()}, labels[known]


@dataclass(frozen=True)
class _Watched:
    """Batches that report how many of them have been used."""

    batches: ImageBatches
    description: str
    report: Progress

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for done, batch in enumerate(self.batches, start=1):
            yield batch
            self.report(self.description, done, len(self))


def _paper_records(
    protocol: PaperProtocol,
    sources: Mapping[str, _Source],
    features: _Features,
    num_classes: int,
    seed: int,
    report: Progress,
) -> list[TransferRecord]:
    started = time.perf_counter()
    seconds: list[float] = []

    def on_epoch(epoch: int) -> None:
        seconds.append((time.perf_counter() - started) / len(sources))
        report("paper's heads", epoch, protocol.epochs)

    heads = sgd_heads(
        features.train,
        features.train_labels,
        features.test,
        features.test_labels,
        num_classes=num_classes,
        protocol=protocol,
        seed=seed,
        on_epoch=on_epoch,
    )
    return [
        TransferRecord(
            extractor=source.extractor,
            weights=source.weights,
            protocol="paper",
            epoch=epoch,
            accuracy=accuracy,
            seconds=seconds[epoch - 1],
            strength=None,
            features=features.train[name].shape[1],
        )
        for name, source in sources.items()
        for epoch, accuracy in enumerate(heads[name].accuracies, start=1)
    ]


def _tuned_records(
    protocol: TunedProtocol,
    sources: Mapping[str, _Source],
    features: _Features,
    num_classes: int,
    seed: int,
    report: Progress,
) -> list[TransferRecord]:
    def measure(name: str) -> tuple[float, float | None]:
        probe = logistic_probe(
            features.train[name],
            features.train_labels,
            features.test[name],
            features.test_labels,
            num_classes=num_classes,
            protocol=protocol,
            seed=seed,
            name=name,
        )
        return probe.accuracy, probe.strength

    return _records_one_by_one("tuned", measure, sources, features, "tuned probes", report)


def _nearest_records(
    protocol: NearestProtocol, sources: Mapping[str, _Source], features: _Features, report: Progress
) -> list[TransferRecord]:
    def measure(name: str) -> tuple[float, float | None]:
        accuracy = nearest_accuracy(
            features.train[name],
            features.train_labels,
            features.test[name],
            features.test_labels,
            metric=protocol.metric,
            name=name,
        )
        return accuracy, None

    return _records_one_by_one("nearest", measure, sources, features, "nearest neighbours", report)


def _records_one_by_one(
    protocol: ProtocolName,
    measure: Callable[[str], tuple[float, float | None]],
    sources: Mapping[str, _Source],
    features: _Features,
    description: str,
    report: Progress,
) -> list[TransferRecord]:
    """Return a record per source, of the accuracy and the strength that `measure` gives for its name."""
    records = []
    for done, (name, source) in enumerate(sources.items(), start=1):
        started = time.perf_counter()
        accuracy, strength = measure(name)
        records.append(
            TransferRecord(
                extractor=source.extractor,
                weights=source.weights,
                protocol=protocol,
                epoch=None,
                accuracy=accuracy,
                seconds=time.perf_counter() - started,
                strength=strength,
                features=features.train[name].shape[1],
            )
        )
        report(description, done, len(sources))
    return records


def random_copy(module: nn.Module, seed: int) -> nn.Module:
    """Return a copy with newly drawn weights, by each layer's own `reset_parameters`.

    Children are reset before their parents, so that a parent's own initialisation has the last word. The same
    seed gives the same weights on every device, and the global random state stays as it is.

    Args:
        module: All on one device; left as it is.
        seed: For the weights.

    Raises:
        SettingError: A layer has parameters of its own and cannot reset them.
    """
    device = _device_of({"module": module})
    fresh = copy.deepcopy(module).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for name, layer in reversed(list(fresh.named_modules())):
            reset = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise SettingError(
                    f"module must be able to reset itself, got {name or type(layer).__name__!r} with "
                    "parameters but without reset_parameters(); build the network anew instead."
                )
    return fresh.to(device)


def summary(records: Sequence[TransferRecord]) -> list[SummaryRow]:
    """Return a row for each trained extractor and protocol, in the records' order.

    Args:
        records: As `evaluate_transfer` returns them; the last of an extractor and protocol is the final one.
    """
    final = {(record.extractor, record.weights, record.protocol): record for record in records}

    def accuracy(extractor: str, weights: Weights, protocol: ProtocolName) -> float | None:
        record = final.get((extractor, weights, protocol))
        return None if record is None else record.accuracy

    return [
        SummaryRow(
            extractor=record.extractor,
            protocol=record.protocol,
            accuracy=record.accuracy,
            random_weights=accuracy(record.extractor, "random", record.protocol),
            raw_pixels=accuracy(RAW_PIXELS, "none", record.protocol),
            seconds=record.seconds,
        )
        for record in final.values()
        if record.weights == "trained"
    ]
