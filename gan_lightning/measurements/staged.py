"""The rows of measurements that train what follows an extractor's convolutions: its own weights, and the controls."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

from torch import Tensor, nn

from gan_lightning.errors import SettingError, refused
from gan_lightning.evaluation.depth_protocol import FrozenWeights, check_same_stages
from gan_lightning.evaluation.features import estimate_batch_norm_statistics
from gan_lightning.interfaces import ImageBatches
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.measurement import Measurement
from gan_lightning.nets.data_dependent import affine_layers, data_dependent_
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.nets.stages import stages_of


def chosen_stages(bench: Bench, extractors: Sequence[str], owner: Measurement) -> Mapping[str, nn.Sequential]:
    """Return the stages of the named extractors, or of all that have other convolutions than the ones before.

    Args:
        bench: With the extractors.
        extractors: Their names; by default all.
        owner: The measurement whose setting `extractors` is.

    Raises:
        SettingError: A named one is unknown or has no convolutions, or none has any.
    """
    staged = {name: stages for name, network in bench.networks.items() if len(stages := stages_of(network))}
    remedy = "Let each be an nn.Sequential of convolutions, or give it a method stages() that names them."
    if not staged:
        raise refused(owner, "extractors", "have convolutions to freeze", list(bench.networks), remedy)
    if unknown := [name for name in extractors if name not in staged]:
        known = f"Choose from {sorted(staged)}. {remedy}"
        raise refused(owner, "extractors", "name extractors that have convolutions", unknown, known)
    if extractors:
        return {name: staged[name] for name in extractors}
    weights = {name: tuple(stages.parameters()) for name, stages in staged.items()}
    before: list[tuple[int, ...]] = []
    found = {}
    for name, own in weights.items():
        if (same := tuple(map(id, own))) not in before:
            found[name] = staged[name]
        before.append(same)
    return found


def check_initialised_anew(
    bench: Bench, chosen: Mapping[str, nn.Sequential], owner: Measurement, seed: int | None, *, fold: bool
) -> None:
    """Check that each network has a control with random weights, that can be initialised by images.

    Args:
        bench: With the controls.
        chosen: Stages of the extractors.
        owner: The measurement whose setting `extractors` is.
        seed: Of the random weights.
        fold: Whether batch norm has to be foldable.

    Raises:
        SettingError: There is no control, its stages are others, or a weight cannot be set or folded.
    """
    fresh = bench.control(seed).networks
    for name, stages in chosen.items():
        if name not in fresh:
            raise SettingError(
                f"extractors must name extractors that can be initialised anew, got {name!r}, of which there is no "
                "network with random weights. Leave it out, or give random_networks to the Bench.",
                owner,
            )
        check_same_stages(stages, stages_of(fresh[name]))
        affine_layers(stages)
        if fold:
            fold_batch_norm(stages)


def plain_stages(stages: nn.Sequential, *, fold: bool = True) -> nn.Sequential:
    """Return a copy in float32, whose batch norm is folded if `fold` says so."""
    plain = fold_batch_norm(stages) if fold else copy.deepcopy(stages)
    return cast(nn.Sequential, plain.float())


def control_stages(
    fresh: nn.Sequential,
    initial: Tensor,
    control: Literal["random", "kmeans"],
    batches: ImageBatches,
    *,
    seed: int,
) -> nn.Sequential:
    """Return stages with new weights, scaled by images; batch norm that was not folded has their statistics.

    Args:
        fresh: Stages of the control; they stay unchanged.
        initial: Images for the scales of the weights.
        control: Kind of the weights: normal, or the means of clusters of patches.
        batches: Images for batch norm.
        seed: Of the weights.
    """
    draw: Literal["normal", "kmeans"] = "kmeans" if control == "kmeans" else "normal"
    stages = data_dependent_(copy.deepcopy(fresh), initial, draw, seed=seed)
    estimate_batch_norm_statistics(stages, batches)
    return stages


def folded_rows(
    bench: Bench,
    name: str,
    *,
    controls: Sequence[Literal["random", "kmeans"]],
    batch_norm: BatchNorm,
    seed: int | None,
    initial: Callable[[], Tensor],
) -> dict[FrozenWeights, nn.Sequential]:
    """Return an extractor's stages with their own weights and, with the bench's controls, with new ones; folded.

    Args:
        bench: With the extractor.
        name: The extractor's.
        controls: Kinds of new weights.
        batch_norm: Batch-norm statistics of its own weights.
        seed: Of the new weights; by default the run's.
        initial: Gives the images for the scales of new weights, on the CPU.
    """
    network = bench.networks[name]
    with bench.statistics({name: network}, "trained", batch_norm):
        rows: dict[FrozenWeights, nn.Sequential] = {"trained": plain_stages(stages_of(network))}
    if bench.controls and controls:
        fresh = plain_stages(stages_of(bench.control(seed).networks[name]))
        images = initial().to(bench.device)
        for control in controls:
            batches = [(images, images)]  # their labels are not looked at
            rows[control] = control_stages(fresh, images, control, batches, seed=bench.seed_for(seed))
    return rows
