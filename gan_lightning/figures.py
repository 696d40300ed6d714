"""The one shape of all measured numbers, a figure, and the file with a run's figures.

A figure is a row. Its name is the same in `figures.json`, in the loggers, in the monitors of checkpoints, in a sweep's
`metric`, in the tables on the terminal and on the dashboard.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gan_lightning.errors import DataError
from gan_lightning.system.files import SCHEMA_VERSION, plain, read_json, write_text

FILE = "figures.json"
"""Name of the file in a run's folder."""

Weights = Literal["trained", "random", "none"]
"""Weights of a network: trained, or random as initialised; none, such as for raw pixels."""

Best = Literal["min", "max"]
"""Best direction of a metric, in the words of `ModelCheckpoint` and `EarlyStopping`."""

RANDOM_WEIGHTS = "random_weights"
"""The part of a figure's name that tells the networks with random weights apart."""

PIXELS, CHANCE = "pixels", "chance"
"""Subjects of figures without a network: the raw pixels, and answering without looking."""

HEAD_EPOCH = "head epoch"
"""The x axis of a probe's curve."""

BATCH = "batch"
"""The x axis of a curve over the batches of a training."""

PLUMBING = {"root", "cache_dir", "download", "verify", "evaluation_batch_size", "device"}
"""Settings of a data set that concern its source and its place, without influence on its content."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number.

    Attributes:
        measurement: Name of the measurement: `transfer`.
        metric: Name of the number: `accuracy`.
        value: The number; finite. Accuracies and shares are in [0, 1].
        subject: The measured thing: an extractor's name, `pixels`, `chance`; empty for the model as a whole.
        protocol: The way of measuring, if there are several: a probe's name, a judge's name.
        weights: Of the subject's network.
        condition: A further distinction: the kind of images, a stage, an amount of noise.
        split: Split of its data; empty without data.
        images: Number of its images.
        epoch: Epochs of the model's training so far; None if unknown.
        batches: Batches of the model's training so far; None if unknown.
        seconds: Wall time of this figure.
        axis: The x axis of the curve, for a point of one: `head epoch`, `batch`, `round`; empty for a single figure.
        at: The point's place on that axis.
    """

    measurement: str
    metric: str
    value: float
    subject: str = ""
    protocol: str = ""
    weights: Weights = "trained"
    condition: str = ""
    split: str = "test"
    images: int | None = None
    epoch: int | None = None
    batches: int | None = None
    seconds: float | None = None
    axis: str = ""
    at: float | None = None

    def __post_init__(self) -> None:
        """Make numbers of other packages plain ones, and refuse values that no reader could draw.

        Raises:
            DataError: A part has another type, the value is NaN or infinite, or a point has no place.
        """
        for part in fields(self):
            object.__setattr__(self, part.name, _plain_part(part.name, getattr(self, part.name)))
        if self.is_point != (self.at is not None):
            raise DataError(
                f"a figure must have both axis and at, or neither, got {self.axis!r} and {self.at} ({self.name})."
            )
        if not math.isfinite(self.value):
            raise DataError(
                f"{self.name} must be finite, got {self.value}; look for a diverged training run or too few images."
            )

    @property
    def name(self) -> str:
        """Return the figure's name in loggers, monitors, sweeps and tables.

        The points of a curve share the name of the curve.
        """
        random = RANDOM_WEIGHTS if self.weights == "random" else ""
        parts = (self.measurement, self.subject, self.protocol, random, self.condition, self.metric)
        return "/".join(part for part in parts if part)

    @property
    def is_point(self) -> bool:
        """Whether the figure is a point of a curve."""
        return self.axis != ""


@dataclass(frozen=True)
class Section:
    """A run's facts on one measurement, beside its figures.

    Attributes:
        settings: Of the measurement.
        about: Circumstances of the measurement: epoch, batches, checkpoint, seconds, commit, time.
        details: Further results that are not figures.
    """

    settings: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFigures:
    """The content of a run's `figures.json`.

    Attributes:
        about: The model, the data, their settings, and the run's seed.
        figures: Rows of all measurements, also during training.
        sections: By the measurements' names.
        passed_over: Reasons why measurements were not made, by their names.
        published: Papers' printed values, by our figures' names: `value` and `source`.
    """

    about: Mapping[str, Any]
    figures: Sequence[Figure] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_measured(
        self, name: str, section: Section, figures: Sequence[Figure], said: str | None = None
    ) -> "RunFigures":
        """Return a copy with a measurement added; it replaces the measurement's figures of the same epochs.

        Args:
            name: The measurement's.
            section: Facts on it.
            figures: Its figures.
            said: Name of the section; by default the measurement's.
        """
        epochs = {figure.epoch for figure in figures}
        kept = [each for each in self.figures if each.measurement != name or each.epoch not in epochs]
        passed_over = {other: why for other, why in self.passed_over.items() if other != name}
        sections = {**self.sections, said or name: section}
        return replace(self, figures=[*kept, *figures], sections=sections, passed_over=passed_over)


def final_figures(figures: Iterable[Figure]) -> list[Figure]:
    """Return each name's figures of its newest epoch, in the order of the rows."""
    rows = list(figures)
    newest: dict[tuple[str, str], int] = {}
    for figure in rows:
        key = figure.name, figure.axis
        newest[key] = max(newest.get(key, 0), figure.epoch or 0)
    return [figure for figure in rows if (figure.epoch or 0) == newest[figure.name, figure.axis]]


def metrics(figures: Iterable[Figure]) -> dict[str, float]:
    """Return the values of the figures that are not points of curves, under their names in loggers."""
    return {figure.name: figure.value for figure in figures if not figure.is_point}


def of_content(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a data set that have an influence on its content."""
    return {name: value for name, value in settings.items() if name not in PLUMBING}


def constructor_arguments(data: object) -> dict[str, Any]:
    """Return the constructor arguments of a data set, if it is a dataclass like the project's."""
    if not is_dataclass(data):
        return {}
    return {setting.name: getattr(data, setting.name) for setting in fields(data) if setting.init}


def write_figures(path: Path, run: RunFigures) -> None:
    """Write a run's figures, whole or not at all. Each row has a line, so that people can read and compare them."""
    head = {
        "schema_version": SCHEMA_VERSION,
        **run.about,
        "published": run.published,
        "passed_over": run.passed_over,
        "measurements": {name: vars(section) for name, section in run.sections.items()},
    }
    text = json.dumps(finite(head), indent=2, allow_nan=False)
    rows = ",\n".join(f"    {json.dumps(figure_row(figure), allow_nan=False)}" for figure in run.figures)
    write_text(path, f'{text.removesuffix(chr(10) + "}")},\n  "figures": [\n{rows}\n  ]\n}}\n')


def finite(value: Any) -> Any:
    """Return a value that JSON can hold. NaN and infinity become texts, and other objects their content."""
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return finite(plain(value))


def figure_row(figure: Figure) -> dict[str, Any]:
    """Return the figure's name, then its values that differ from the defaults."""
    defaults = {each.name: each.default for each in fields(Figure) if each.default is not MISSING}
    values = {name: value for name, value in asdict(figure).items() if value != defaults.get(name, MISSING)}
    return {"name": figure.name, **values}


def read_figures(path: Path) -> RunFigures:
    """Return the content of a run's `figures.json`.

    Raises:
        DataError: The file is missing, cut off, of another version, or its rows are no figures; says which.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else None
        raise DataError(
            f"'{path}' has schema version {version}, and this version of the package reads {SCHEMA_VERSION}."
        )
    try:
        figures = [figure_of(row) for row in content.pop("figures")]
        sections = {name: Section(**section) for name, section in content.pop("measurements").items()}
        published, passed_over = dict(content.pop("published")), dict(content.pop("passed_over"))
    except (DataError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"'{path}' is garbled: {type(error).__name__}: {error}.") from error
    del content["schema_version"]
    return RunFigures(content, figures, sections, passed_over, published)


_NUMBERS: Mapping[str, type] = {
    **dict.fromkeys(("value", "seconds", "at"), float),
    **dict.fromkeys(("images", "epoch", "batches"), int),
}


_WORDS = {str: "a text", float: "a number", int: "a whole number"}


def _plain_part(part: str, value: Any) -> Any:
    """Return a part of a figure as a plain text or number.

    Raises:
        DataError: It is neither, or it is NaN or infinite.
    """
    wanted = _NUMBERS.get(part, str)
    if value is None and part not in ("value", "measurement", "metric"):
        return None if wanted is not str else ""
    if wanted is str:
        if isinstance(value, str) and (part != "weights" or value in get_args(Weights)):
            return value
    elif not isinstance(value, str | bool):
        try:
            number = wanted(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is not None and (part == "value" or math.isfinite(number)) and (wanted is float or number == value):
            return number
    kind = f"one of {', '.join(get_args(Weights))}" if part == "weights" else _WORDS[wanted]
    raise DataError(f"a figure's {part} must be {kind}, got {value!r}.")


def figure_of(row: Mapping[str, Any]) -> Figure:
    """Return the figure of a row, as `figure_row` writes it.

    Raises:
        DataError: The row has a part that a figure does not have, or one of another type; says which.
    """
    parts = {each.name for each in fields(Figure)}
    if unknown := sorted(row.keys() - parts - {"name"}):
        raise DataError(f"a figure has no {unknown[0]!r}.")
    return Figure(**{name: _plain_part(name, value) for name, value in row.items() if name != "name"})
