"""The anatomy of an extractor's features: shares of their variance and accuracies of probes, on real and other images.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, sections 2 and 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import Probe, Progress
from gan_lightning.evaluation.tensors import is_known
from gan_lightning.interfaces import HeadTask, LinearHead, Split
from gan_lightning.papers.mgan.null_space import (
    SHARES,
    RowSpace,
    SplitFeatures,
    VarianceShares,
    Weights,
    head_matrix,
    row_space,
    variance_shares,
)
from gan_lightning.papers.mgan.part_accuracies import PartAccuracies, part_accuracies
from gan_lightning.system.processes import on_first_process


@dataclass(frozen=True)
class ImagesAnatomy:
    """The measurements on one kind of images.

    Attributes:
        images: Number of test images; the variance is theirs.
        shares: The split of their variance; None if they do not vary.
        accuracy: A probe's accuracies; None if no probe was asked for, or there are no classes.
    """

    images: int
    shares: VarianceShares | None
    accuracy: PartAccuracies | None

    def figures(self) -> dict[str, float]:
        """Return the figures that could be computed, under the names of `SHARES` and `ACCURACIES`."""
        found: dict[str, float | None] = {}
        if (shares := self.shares) is not None:
            of_variance = [shares.row_share("total"), shares.row_share("within"), shares.row_share("between")]
            of_parts = [shares.between_share("row"), shares.between_share("null")]
            found |= zip(SHARES, [*of_variance, *of_parts], strict=True)
        if (accuracy := self.accuracy) is not None:
            found |= accuracy.figures()
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class AnatomyRecord:
    """The anatomy of an extractor's features; `dataclasses.asdict` makes it ready for JSON.

    Attributes:
        extractor: Its name.
        weights: Whether its weights and its head's are trained.
        task: Purpose of the head.
        features: Their number per image.
        outputs: Of the head.
        rank: Rank of the head, after a softmax's constant direction is removed.
        real: On the data's images; the classes are theirs.
        generated: On generated images; the classes are the generators, if there are several. None for a model that
            generates none.
        seconds: Wall time.
        real_or_generated: On as many real images as generated ones, which are the two classes. None without probes, and
            for a model that generates none.
    """

    extractor: str
    weights: Weights
    task: HeadTask
    features: int
    outputs: int
    rank: int
    real: ImagesAnatomy
    generated: ImagesAnatomy | None
    seconds: float
    real_or_generated: ImagesAnatomy | None = None


def evaluate_anatomy(
    heads: Mapping[str, LinearHead],
    real: SplitFeatures,
    generated: SplitFeatures | None = None,
    *,
    num_classes: int = 0,
    generators: int = 1,
    probe: Probe | None = None,
    draws: int = 0,
    tolerance: float | None = None,
    weights: Weights = "trained",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[AnatomyRecord]:
    """Return the anatomy of each extractor that has a head.

    If images have classes, images without one are left out. If several processes run, the first one computes and all
    return the records.

    Args:
        heads: Under the names of the features; features without a head are left out.
        real: Features of the data's test split; of its training split, too, if probes are fitted.
        generated: Features of generated images in the same way; their labels are the generators' numbers.
        num_classes: Number of the data's classes, or attributes; 0 without labels.
        generators: Number of generators.
        probe: The probe to fit; None fits none.
        draws: Number of random subspaces that the probe is fitted to, too.
        tolerance: As `row_space` takes it.
        weights: The kind of weights, for the records.
        seed: Of the probe's random numbers, of the random subspaces and of the choice among real and generated images.
        progress: Called as probes and extractors get done.

    Raises:
        SettingError: If a head belongs to no features or its width is not theirs, or there is nothing to fit a probe
            on.
        DataError: If features or a head are not finite.
    """
    of_kinds = {"real": (real, num_classes), "generated": (generated or {}, generators if generators > 1 else 0)}
    for splits, _ in of_kinds.values():
        if probe is not None and splits and "train" not in splits:
            raise SettingError("real and generated must hold a 'train' split for probes, got 'test' only; or fit none.")
        for features, _ in splits.values():
            check_names(features, heads)
    if probe is not None and generated:
        of_kinds["real_or_generated"] = real_or_generated(real, generated, seed), 2
    report = progress or (lambda description, done, total: None)

    def measure() -> list[AnatomyRecord]:
        records = []
        for done, (name, head) in enumerate(heads.items(), start=1):
            started = perf_counter()
            space = row_space(head_matrix(head), tolerance)
            found: dict[str, ImagesAnatomy | None] = {"real_or_generated": None}
            for kind, (splits, count) in of_kinds.items():
                own = {split: (features[name], labels) for split, (features, labels) in splits.items()}
                said = f"{kind} features of {name}, {weights} weights"
                found[kind] = _images_anatomy(space, own, count, probe, draws, seed, said, report)
            of_real = found["real"]
            assert of_real is not None
            records.append(
                AnatomyRecord(
                    extractor=name,
                    weights=weights,
                    task=head.task,
                    features=space.features,
                    outputs=len(head.weight),
                    rank=space.rank,
                    real=of_real,
                    generated=found["generated"],
                    seconds=perf_counter() - started,
                    real_or_generated=found["real_or_generated"],
                )
            )
            report(f"anatomy, {weights} weights", done, len(heads))
        return records

    return on_first_process(measure)


def real_or_generated(real: SplitFeatures, generated: SplitFeatures, seed: int) -> SplitFeatures:
    """Return the features of as many real images (class 0) as generated ones (class 1), of each split.

    Args:
        real: Features of real images; labels are not needed.
        generated: Features of generated images.
        seed: For the choice among those of which there are more.
    """
    rng = torch.Generator().manual_seed(seed)
    found: dict[Split, tuple[Mapping[str, Tensor], Tensor]] = {}
    for split, (of_real, labels) in real.items():
        of_generated, made_by = generated[split]
        count = min(len(labels), len(made_by))
        rows = [torch.randperm(total, generator=rng)[:count].sort().values for total in (len(labels), len(made_by))]
        features = {
            name: torch.cat([own[chosen] for own, chosen in zip((matrix, of_generated[name]), rows, strict=True)])
            for name, matrix in of_real.items()
        }
        found[split] = features, torch.arange(2, device=labels.device).repeat_interleave(count)
    return found


def check_names(features: Mapping[str, object], heads: Mapping[str, LinearHead]) -> None:
    """Check that each head belongs to some features.

    Raises:
        SettingError: If one does not.
    """
    if unknown := heads.keys() - features.keys():
        raise SettingError(
            f"heads must be named like the features that they take, got {sorted(unknown)} beside {sorted(features)}; "
            "name each like the extractor that it is the head of."
        )


def _images_anatomy(
    space: RowSpace,
    splits: Mapping[Split, tuple[Tensor, Tensor]],
    num_classes: int,
    probe: Probe | None,
    draws: int,
    seed: int,
    name: str,
    report: Progress,
) -> ImagesAnatomy | None:
    """Measure one kind of images; None if there are none."""
    if not splits:
        return None
    known = {split: _known(features, labels) for split, (features, labels) in splits.items()} if num_classes else {}
    if not known or not all(len(labels) for _, labels in known.values()):
        features, _ = splits["test"]
        return ImagesAnatomy(len(features), variance_shares(space, features), None)
    features, labels = known["test"]
    shares = variance_shares(space, features, labels if labels.ndim == 1 else None)
    if probe is None:
        return ImagesAnatomy(len(features), shares, None)
    accuracies = part_accuracies(
        space, *known["train"], features, labels,
        num_classes=num_classes, probe=probe, draws=draws, seed=seed, name=name, progress=report,
    )  # fmt: skip
    return ImagesAnatomy(len(features), shares, accuracies)


def _known(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features and labels of the labelled images."""
    known = is_known(labels)
    return features[known], labels[known]
