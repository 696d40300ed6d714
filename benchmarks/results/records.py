"""What was measured, a small file of JSON each: the schema of a record, and how it is read, written and looked into."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gan_lightning.dashboard.statistics import Estimate, estimate, estimate_of
from gan_lightning.errors import DataError
from gan_lightning.figures import Figure, figure_of, figure_row
from gan_lightning.system.files import read_json, write_text

RESULTS = Path(__file__).parents[2] / "docs/results"
RECORDS = RESULTS / "records"
VERSION = 1
"""Version of the layout of a record."""

NOT_RECORDED = "not recorded"
MINUS = " - "
"""In a figure's name, between two subjects: the difference of their figures."""

_ROUNDING = 1e-4
"""Largest relative distance of a printed mean from the mean of the printed values."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure of runs that differ in their seed alone. What is not known of it is left out, and not made up.

    Attributes:
        figure: The figure. Its value is the mean over the seeds; of a range, its least end.
        n: Number of values behind the mean; None for one measurement that all seeds share, as a control is.
        by_seed: The values by seed.
        deviation: The sample standard deviation, if the values are not known.
        half_width: Half the length of the 95% interval, if neither of the two is known.
        until: The largest end, if only a range is known.
    """

    figure: Figure
    n: int | None = None
    by_seed: Mapping[str, float] = field(default_factory=dict)
    deviation: float | None = None
    half_width: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        """Check that the parts agree.

        Raises:
            DataError: The mean or the number is not that of the values, or a spread is of no number.
        """
        if self.by_seed:
            mean = estimate(list(self.by_seed.values())).mean
            if abs(mean - self.figure.value) > _ROUNDING * max(1.0, abs(mean)):
                raise DataError(f"{self.figure.name} must be the mean of its seeds, {mean}, got {self.figure.value}.")
            if self.n not in (None, len(self.by_seed)):
                raise DataError(f"n of {self.figure.name} must be {len(self.by_seed)}, as its seeds, got {self.n}.")
            object.__setattr__(self, "n", len(self.by_seed))
        elif (self.deviation is not None or self.half_width is not None) and (self.n or 0) < 2:
            raise DataError(f"n of {self.figure.name} must be at least 2 where it has a spread, got {self.n}.")

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95% interval, as far as they are known."""
        if self.by_seed:
            return estimate(list(self.by_seed.values()))
        mean, n = self.figure.value, self.n or 1
        if self.half_width is not None:
            return Estimate(mean, mean - self.half_width, mean + self.half_width, n)
        return estimate_of(mean, self.deviation, n)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs that differ in nothing but their seed.

    Attributes:
        settings: What tells them from the other runs of the record.
        seeds: Seeds of the runs; empty for what is no run, such as other real images.
        published: The paper's figures for them: `value` and `source` by our figures' names.
        measured: Their figures.
    """

    settings: Mapping[str, Any]
    seeds: Sequence[int] = ()
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Sequence[Measured]

    def find(self, name: str, at: float | None = None) -> Measured | None:
        """Return what was measured under a name.

        Args:
            name: A figure's name. `*` stands for any text. In `transfer/classifier - discriminator/paper/accuracy` the
                two subjects ask for the difference, which is paired over the seeds where it is not itself recorded.
            at: Epoch of the figure, or its place on the axis of a curve. By default the newest single figure.

        Raises:
            DataError: Figures of several names have been found.
        """
        found = [each for each in self.measured if fnmatchcase(each.figure.name, name)]
        found = [each for each in found if at in _places(each.figure)]
        if len(names := sorted({each.figure.name for each in found})) > 1:
            raise DataError(f"one figure must be named {name}, got {', '.join(names)}.")
        if found:
            return max(found, key=lambda each: each.figure.epoch or 0)
        parts = name.split("/")
        for i, part in enumerate(parts):
            if MINUS in part:
                of = ["/".join([*parts[:i], each, *parts[i + 1 :]]) for each in part.split(MINUS)]
                return difference(*(self.find(each, at) for each in of), part)
        return None


def _places(figure: Figure) -> tuple[float | None, ...]:
    return (figure.at,) if figure.is_point else (None, figure.epoch)


def difference(first: Measured | None, second: Measured | None, subject: str = "") -> Measured | None:
    """Return the paired difference of two figures; None if they have no seed in common.

    Args:
        first: The figure that counts positively.
        second: The figure that is taken away.
        subject: Of the difference; by default that of the first figure.
    """
    if first is None or second is None or not first.by_seed.keys() & second.by_seed.keys():
        return None
    seeds = {seed: value - second.by_seed[seed] for seed, value in first.by_seed.items() if seed in second.by_seed}
    mean = estimate(list(seeds.values())).mean
    return Measured(figure=replace(first.figure, subject=subject or first.figure.subject, value=mean), by_seed=seeds)


def mean_by_seed(found: Sequence[Measured]) -> Measured:
    """Return the mean of a figure over several runs of each seed; a single one as it is.

    Raises:
        DataError: The values of one are not known by seed.
    """
    if len(found) == 1:
        return found[0]
    if any(not each.by_seed for each in found):
        raise DataError(f"{found[0].figure.name} must be known by seed to be averaged over records, got means alone.")
    seeds = sorted({seed for each in found for seed in each.by_seed})
    values = {seed: estimate([each.by_seed[seed] for each in found if seed in each.by_seed]).mean for seed in seeds}
    return Measured(figure=replace(found[0].figure, value=estimate(list(values.values())).mean), by_seed=values)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one command, or one sweep, has measured.

    Attributes:
        method: The trained model, in words.
        data: The data set's name; figures of one name stand on one leaderboard.
        images: The data in words: numbers, sizes, padding.
        width: Width of the networks, and whether it is the paper's.
        epochs: Epochs of training, and whether they are the paper's.
        precision: Of the numbers.
        settings: All settings that the runs have in common, as far as they are known.
        commands: Command lines.
        commit: Of this project.
        versions: Of the packages.
        device: The machine.
        wall_time: Of a run, and whatever else ran.
        notes: Further sentences that a reader of the figures needs.
        runs: The figures.
    """

    method: str
    data: str
    images: str = NOT_RECORDED
    width: str = NOT_RECORDED
    epochs: str = NOT_RECORDED
    precision: str = NOT_RECORDED
    settings: Mapping[str, Any] = field(default_factory=dict)
    commands: Sequence[str] = ()
    commit: str = NOT_RECORDED
    versions: str = NOT_RECORDED
    device: str = NOT_RECORDED
    wall_time: str = NOT_RECORDED
    notes: Sequence[str] = ()
    runs: Sequence[Runs]

    def of(self, settings: Mapping[str, Any]) -> Runs:
        """Return the one group of runs with these settings.

        Raises:
            DataError: There is none, or there are several.
        """
        found = [each for each in self.runs if settings.items() <= each.settings.items()]
        if len(found) != 1:
            raise DataError(f"one group of runs must have the settings {dict(settings)}, got {len(found)}.")
        return found[0]


def read_record(path: Path) -> Record:
    """Return the record of a file.

    Raises:
        DataError: The file is missing, no record, or its figures are none; says which.
    """
    content = read_json(path)
    try:
        if content.pop("schema_version") != VERSION:
            raise DataError(f"schema_version must be {VERSION}")
        runs = [
            Runs(**{**own, "measured": [_measured(dict(row)) for row in own["measured"]]})
            for own in content.pop("runs")
        ]
        return Record(**content, runs=runs)
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"'{path}' is no record: {type(error).__name__}: {error}") from error


def _measured(row: dict[str, Any]) -> Measured:
    own = {each.name: row.pop(each.name) for each in fields(Measured) if each.name in row}
    return Measured(figure=figure_of(row), **own)


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all. Each figure has a line, so that people can read and compare them."""
    head = {"schema_version": VERSION, **{k: v for k, v in asdict(record).items() if k != "runs" and v}}
    groups = []
    for own in record.runs:
        about = json.dumps({"settings": own.settings, "seeds": list(own.seeds), "published": own.published})
        rows = ",\n".join(f"      {json.dumps(_row(each), allow_nan=False)}" for each in own.measured)
        groups.append(f'    {about[:-1]}, "measured": [\n{rows}\n    ]}}')
    text = json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}")
    write_text(path, f'{text},\n  "runs": [\n' + ",\n".join(groups) + "\n  ]\n}\n")


def _row(measured: Measured) -> dict[str, Any]:
    of_seeds = {each.name: getattr(measured, each.name) for each in fields(Measured) if each.default is not MISSING}
    of_seeds["by_seed"] = dict(measured.by_seed)
    if measured.by_seed:
        del of_seeds["n"]
    return {
        **figure_row(measured.figure),
        **{name: value for name, value in of_seeds.items() if value not in (None, {})},
    }


def read_records(folder: Path = RECORDS) -> dict[str, Record]:
    """Return all records below a folder, by their paths without the ending: `mgan/mnist`."""
    paths = sorted(folder.rglob("*.json"))
    return {path.relative_to(folder).with_suffix("").as_posix(): read_record(path) for path in paths}
