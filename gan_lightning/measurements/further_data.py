"""Data sets that frozen networks are judged on, beside the one that they were trained with."""

from collections.abc import Sequence

from gan_lightning.errors import SettingError
from gan_lightning.figures import RANDOM_WEIGHTS
from gan_lightning.interfaces import LabelledImages, lacking
from gan_lightning.measurements.bench import Bench
from gan_lightning.system.processes import on_first_process


def check_names(targets: Sequence[object], reserved: Sequence[str]) -> None:
    """Check the names of targets; reads nothing.

    Args:
        targets: The data sets.
        reserved: Names of other conditions of the same figures.

    Raises:
        SettingError: One has no name or a reserved one, or two have the same.
    """
    names: list[str] = []
    for target in targets:
        name = getattr(target, "name", None)
        if not isinstance(name, str) or not name or "/" in name:
            raise SettingError(
                f"targets must have a `name` without a slash, which their figures are called by, got {name!r} of "
                f"{type(target).__name__}. Wrap a module of your own in FromLoaders."
            )
        names.append(name)
    if taken := sorted({RANDOM_WEIGHTS, *reserved} & set(names)):
        raise SettingError(
            f"targets must not be called {taken[0]!r}, which other figures have in their names. Rename the data set."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"targets must have names of their own, got {twice[0]!r} twice. Leave one out.")


def check_target(bench: Bench, target: object) -> None:
    """Check that a target's images fit the networks, and fetch and read its files.

    A size and channels that the files tell alone are checked after the reading.

    Raises:
        SettingError: It does not declare labelled images, or they have another size or other channels than the run's.
        DataError: The files cannot be read.
    """
    told_by_files = any(isinstance(getattr(type(target), each, None), property) for each in ("channels", "image_size"))
    if not told_by_files:
        _check_shape(bench, target)
    if callable(prepare := getattr(target, "prepare_data", None)):
        on_first_process(prepare)
    _check_shape(bench, target)


def _check_shape(bench: Bench, target: object) -> None:
    """Check that a target declares images of the run's channels and size.

    Raises:
        SettingError: It does not.
    """
    if not isinstance(target, LabelledImages):
        raise SettingError(
            f"targets must declare labelled images, got {type(target).__name__} without {', '.join(lacking(target))}. "
            "Wrap it in FromLoaders."
        )
    if bench.without_images():
        return
    wanted, given = ((each.channels, each.image_size) for each in (bench.data, target))
    if given != wanted:
        raise SettingError(
            f"targets must have the run's channels and image size, {_in_words(*wanted)}, got {target.name} with "
            f"{_in_words(*given)}. Set its `image_size`, or train on images like it."
        )


def bench_of(bench: Bench, target: LabelledImages, seed: int | None, random_weights: bool) -> Bench:
    """Return a bench of the same networks, trained and random, on another data set.

    Args:
        bench: With the networks.
        target: The data set.
        seed: Of the random weights; by default the run's.
        random_weights: Whether these are wanted.
    """
    control = bench.control(seed).networks if random_weights and bench.controls and bench.networks else None
    return Bench(
        bench.networks,
        target,
        random_networks=control,
        device=bench.device,
        controls=bench.controls,
        epoch=bench.epoch,
        batches=bench.batches_trained,
        seed=bench.seed,
        progress=bench.report,
        lasting=bench.keep(("target", target.name), dict),
    )


def _in_words(channels: int, size: int) -> str:
    return f"{channels}x{size}x{size}"
