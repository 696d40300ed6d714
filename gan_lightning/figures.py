"""The one shape of everything that is measured: a figure, and the file that keeps a run's figures.

A figure is a row. Its name is the same in `figures.json`, in the loggers, in what chooses checkpoints, in a sweep's
`metric`, in the tables on the terminal and on the dashboard.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from gan_lightning.errors import DataError
from gan_lightning.files import SCHEMA_VERSION, plain, write_text

FILE = "figures.json"
"""Name of the file in a run's folder."""

Weights = Literal["trained", "random", "none"]
"""Of a network: as trained; as initialised; of what has no weights, such as raw pixels."""

Best = Literal["min", "max"]
"""Which value of a metric is best, as `ModelCheckpoint` and `EarlyStopping` have it."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that was measured.

    Attributes:
        measurement: Name of the measurement: `transfer`.
        metric: What the number is: `accuracy`.
        value: The number; finite. Accuracies and shares are in [0, 1].
        subject: What it was measured of: an extractor's name, `pixels`, `chance`; empty for the model as a whole.
        protocol: How it was measured, where there are several ways: a probe's name, a judge's name.
        weights: Of the subject's network.
        condition: What else tells it from its neighbours: the kind of images, a stage, an amount of noise.
        split: Of the data that it was measured on; empty where it was none.
        images: Number of images that it is over.
        epoch: Epochs of training that the model had had; None where that is not known.
        batches: Batches of training that the model had had; None where that is not known.
        seconds: Wall time that this figure took.
        axis: Of a point of a curve, what the curve runs over: `head epoch`, `round`; empty for a figure that stands
            alone.
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
        """Refuse what no reader could draw.

        Raises:
            DataError: The value is NaN or infinite.
        """
        if not math.isfinite(self.value):
            raise DataError(
                f"{self.name} must be finite, got {self.value}; look for a diverged training run or too few images."
            )

    @property
    def name(self) -> str:
        """Return the name under which loggers, monitors, sweeps and tables know the figure.

        The points of a curve share the name of the curve.
        """
        random = "random_weights" if self.weights == "random" else ""
        parts = (self.measurement, self.subject, self.protocol, random, self.condition, self.metric)
        return "/".join(part for part in parts if part)

    @property
    def is_point(self) -> bool:
        """Whether the figure is a point of a curve."""
        return self.axis != ""


@dataclass(frozen=True)
class Section:
    """What a run's file says of one measurement, beside its figures.

    Attributes:
        settings: Of the measurement.
        about: When, on what and how it was measured: epoch, batches, checkpoint, seconds, commit, time.
        details: What was found that is no figure.
    """

    settings: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFigures:
    """All that a run's `figures.json` holds.

    Attributes:
        about: The model, the data, their settings, and the run's seed.
        figures: Rows, of all measurements, those over training included.
        sections: By the measurements' names.
        passed_over: Why a measurement was not made, by its name.
        published: What papers print for a figure, by its name: `value` and `source`.
    """

    about: Mapping[str, Any]
    figures: Sequence[Figure] = ()
    sections: Mapping[str, Section] = field(default_factory=dict)
    passed_over: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def with_measured(self, name: str, section: Section, figures: Sequence[Figure]) -> "RunFigures":
        """Return this with a measurement added; its earlier figures of the same epochs give way."""
        epochs = {figure.epoch for figure in figures}
        kept = [each for each in self.figures if each.measurement != name or each.epoch not in epochs]
        passed_over = {other: why for other, why in self.passed_over.items() if other != name}
        sections = {**self.sections, name: section}
        return replace(self, figures=[*kept, *figures], sections=sections, passed_over=passed_over)


def final_figures(figures: Iterable[Figure]) -> list[Figure]:
    """Return the figures of the newest epoch that each name has some of, in the order of the rows."""
    rows = list(figures)
    newest: dict[tuple[str, str], int] = {}
    for figure in rows:
        key = figure.name, figure.axis
        newest[key] = max(newest.get(key, 0), figure.epoch or 0)
    return [figure for figure in rows if (figure.epoch or 0) == newest[figure.name, figure.axis]]


def metrics(figures: Iterable[Figure]) -> dict[str, float]:
    """Return the values of the figures that stand alone, under the names that loggers know them by."""
    return {figure.name: figure.value for figure in figures if not figure.is_point}


def write_figures(path: Path, run: RunFigures) -> None:
    """Write a run's figures, whole or not at all; a row a line, so that people can read and compare them."""
    head = {
        "schema_version": SCHEMA_VERSION,
        **run.about,
        "published": run.published,
        "passed_over": run.passed_over,
        "measurements": {name: vars(section) for name, section in run.sections.items()},
    }
    text = json.dumps(_finite(head), indent=2, allow_nan=False)
    rows = ",\n".join(f"    {json.dumps(_row(figure), allow_nan=False)}" for figure in run.figures)
    write_text(path, f'{text.removesuffix(chr(10) + "}")},\n  "figures": [\n{rows}\n  ]\n}}\n')


def _finite(value: Any) -> Any:
    """Return what JSON can hold: numbers that it has no word for become texts, and other objects what is in them."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _finite(plain(value))


def _row(figure: Figure) -> dict[str, Any]:
    """Return what differs from the defaults, behind the figure's name."""
    defaults = {each.name: each.default for each in fields(Figure) if each.default is not MISSING}
    values = {name: value for name, value in asdict(figure).items() if value != defaults.get(name, MISSING)}
    return {"name": figure.name, **values}


def read_figures(path: Path) -> RunFigures:
    """Return what a run's `figures.json` holds.

    Raises:
        DataError: The file is missing, cut off, of another version, or its rows are no figures; says which.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is cut off or damaged: {error}.") from error
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else None
        raise DataError(
            f"'{path}' has schema version {version}, and this version of the package reads {SCHEMA_VERSION}."
        )
    try:
        figures = [_figure(row) for row in content.pop("figures")]
        sections = {name: Section(**section) for name, section in content.pop("measurements").items()}
        published, passed_over = dict(content.pop("published")), dict(content.pop("passed_over"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"'{path}' is garbled: {type(error).__name__}: {error}.") from error
    del content["schema_version"]
    return RunFigures(content, figures, sections, passed_over, published)


_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("measurement", "metric", "subject", "protocol", "weights", "condition", "split", "axis"), (str,)),
    **dict.fromkeys(("value", "seconds", "at"), (int, float)),
    **dict.fromkeys(("images", "epoch", "batches"), (int,)),
}


def _figure(row: Mapping[str, Any]) -> Figure:
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name == "name":
            continue
        kinds = _KINDS.get(name, ())
        is_one = isinstance(value, kinds) and not isinstance(value, bool)
        if is_one and float in kinds:
            value = float(value)
        if not is_one or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"a figure has {value!r} for {name}")
        values[name] = value
    if values.get("weights", "trained") not in get_args(Weights):
        raise ValueError(f"a figure has {values['weights']!r} for weights")
    figure = Figure(**values)
    if figure.is_point != (figure.at is not None):
        raise ValueError(f"a figure has {figure.at!r} for at, and {figure.axis!r} for axis")
    return figure
