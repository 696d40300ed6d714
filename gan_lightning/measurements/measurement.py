"""The interface of a measurement: settings, needs, a check before training, and an outcome.

A measurement of your own is one class:

    @dataclass(frozen=True, kw_only=True)
    class Brightness(Measurement):
        name = "brightness"
        needs = (GeneratesImages,)

        images: int = 100

        def run(self, bench: Bench) -> Outcome:
            return Outcome([self.figure("mean", bench.generate(self.images).mean().item())])
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from jaxtyping import Integer
from rich.table import Table
from torch import Tensor

from gan_lightning.errors import SettingError, at_least, one_of
from gan_lightning.evaluation.curves import Picture
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import (
    EncodesImages,
    GeneratesImages,
    HasExtractors,
    HasHeads,
    Images,
    JudgesImages,
    Split,
)

if TYPE_CHECKING:
    from gan_lightning.measurements.bench import Bench

METHODS: Mapping[type, str] = {
    HasExtractors: "extractors()",
    HasHeads: "heads()",
    GeneratesImages: "generate()",
    EncodesImages: "encode(), decode() and sample_latents()",
    JudgesImages: "real_logits()",
}
"""The methods of each interface of a model, as a sentence names them."""


@dataclass(frozen=True)
class ClassImages:
    """Images with a class each, to be written as a folder per class.

    Attributes:
        splits: Images in [-1, 1] and their classes, of `train` and of `test`.
        classes: Names of the classes, sorted.
    """

    splits: Mapping[Split, tuple[Images, Integer[Tensor, " images"]]]
    classes: Sequence[str]


@dataclass(frozen=True)
class Outcome:
    """The results of a measurement; its caller writes them.

    Attributes:
        figures: Rows.
        details: Further facts that JSON can hold.
        pictures: Under the names of their files.
        arrays: Under names, for more numbers than a reader would look at.
        data_sets: Under the names of their folders.
        tables: For the terminal; by default one table of all figures.
    """

    figures: Sequence[Figure] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    data_sets: Mapping[str, ClassImages] = field(default_factory=dict)
    tables: Sequence[Table] = ()


@dataclass(frozen=True, kw_only=True)
class Measurement(ABC):
    """Something that can be measured of a trained model. A subclass is a frozen dataclass of its settings.

    It knows nothing of when it runs, of trainers, loggers or files.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
    """

    name: ClassVar[str]
    """The settings' group on the command line, and the first part of its figures' names."""

    needs: ClassVar[tuple[type, ...]] = ()
    """Interfaces that it needs of a model, such as `EncodesImages`."""

    follows: ClassVar[tuple[str, ...]] = ()
    """Names of measurements that it runs after, if they run, too. It may read their outcomes."""

    of_features_alone: ClassVar[bool] = False
    """Whether it computes with features and labels alone. They may then lie in another memory than the networks."""

    enabled: bool = True
    every_n_epochs: int = 0

    def __post_init__(self) -> None:
        """Check the settings; a subclass that has some of its own calls this, too.

        Raises:
            SettingError: A setting is out of range.
        """
        at_least(self, 0, every_n_epochs=self.every_n_epochs)
        for setting, values in _choices(type(self)).items():
            given = getattr(self, setting)
            for each in given if isinstance(given, list | tuple) else [given]:
                one_of(self, values, **{setting: each})

    def passes_over(self, bench: "Bench") -> str | None:
        """Return why there is nothing to measure here, as half a sentence; None if there is something."""
        for interface in self.needs:
            if interface is HasExtractors and not bench.networks and isinstance(bench.model, HasExtractors):
                return f"extractors() of {bench.subject} gives none"
            if not bench.has(interface):
                return f"{bench.subject} declares no {METHODS.get(interface, interface.__name__)}"
        return None

    def check(self, bench: "Bench") -> None:  # noqa: B027 (most have nothing to check)
        """Check that settings, model and data fit; called before the training, unless it is passed over.

        Raises:
            SettingError: A setting does not fit.
            DataError: The data lack something that it needs.
        """

    def metrics(self, bench: "Bench") -> Mapping[str, Best | None] | None:
        """Return the names of its figures while training, each with its best direction.

        Checkpoints and early stopping that monitor one of them are checked against these before the training. None if
        the names are unknown beforehand.
        """
        return None

    @abstractmethod
    def run(self, bench: "Bench") -> Outcome:
        """Measure; called on every process.

        The networks are frozen and in eval mode, autograd is off, and the global random state is put back afterwards.
        `bench.controls` is false while training: figures of other than the trained networks may then be left out.
        """

    def stated_settings(self) -> dict[str, Any]:
        """Return the settings as a run's `figures.json` states them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def figure(self, metric: str, value: int | float, **more: Any) -> Figure:
        """Return a figure of this measurement.

        Args:
            metric: Name of the number.
            value: The number.
            more: Further attributes of `Figure`.

        Raises:
            DataError: The value is not finite.
        """
        return Figure(measurement=self.name, metric=metric, value=float(value), **more)


def default_of(measurement: Measurement | type[Measurement], setting: str) -> Any:
    """Return the default of a measurement's setting; None if it has none."""
    default = next(each.default for each in fields(measurement) if each.name == setting)
    return None if default is MISSING else default


@cache
def _choices(kind: type[Measurement]) -> Mapping[str, tuple[Any, ...]]:
    """Return the values of each setting, or of each entry of a setting, with a fixed list of values."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # for names imported by type checkers alone
        return {}
    found = {each.name: hints[each.name] for each in fields(kind)}
    entries = {name: get_args(hint)[0] if get_origin(hint) is Sequence else hint for name, hint in found.items()}
    return {name: get_args(hint) for name, hint in entries.items() if get_origin(hint) is Literal}


def check_outcome(name: str, outcome: object) -> None:
    """Check a measurement's outcome.

    Args:
        name: The measurement's.
        outcome: The result of its `run`.

    Raises:
        SettingError: It is no outcome, a figure is another measurement's or stands twice, or a picture is none.
    """
    if not isinstance(outcome, Outcome):
        raise SettingError(f"{name}.run must return an Outcome, got {type(outcome).__name__}.")
    seen = set()
    for figure in outcome.figures:
        key = (figure.name, figure.axis, figure.at)
        if figure.measurement != name:
            raise SettingError(
                f"{name} must give figures of its own, got {figure.name}: make them by self.figure(...)."
            )
        if key in seen:
            raise SettingError(
                f"{name} must give each figure once, got {figure.name} twice. Tell them apart by condition."
            )
        seen.add(key)
    for picture_name, picture in outcome.pictures.items():
        shape = tuple(picture.shape) if isinstance(picture, Tensor) else None
        if shape is None or len(shape) != 3 or shape[0] != 3 or not picture.isfinite().all():
            raise SettingError(
                f"{name}'s picture {picture_name!r} must be a finite tensor (3, height, width) in [0, 1], got "
                f"{type(picture).__name__ if shape is None else shape}."
            )
    for array_name, array in outcome.arrays.items():
        if not isinstance(array, Tensor):
            raise SettingError(f"{name}'s array {array_name!r} must be a tensor, got {type(array).__name__}.")
