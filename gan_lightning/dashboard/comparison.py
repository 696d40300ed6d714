"""The differences of the runs, the groups of runs, and the x axis, all from the runs themselves."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.run_folders import SEED, Run, short_name
from gan_lightning.errors import SettingError

METHOD, DATA, BATCHES = "method", "data", "batches"
_ALWAYS_FILTERED = (DATA, "base_width", "epochs")
_CONDITIONS = ("base_width", "epochs", "precision", "processes")
"""Conditions that compared methods should share; so are the settings of measurements."""

MANY_VARIANTS = 6
"""From this number of variants on, they are drawn as points instead of pictures of their own."""

MANY_VALUES = 12
"""Above this number of values an axis of numbers is drawn to scale."""

Row = dict[str, Any]
"""A line of a table and of a chart's data: figures, and a value for each filter."""


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
        fields: Their place: `x`, `variant`, and a value for each filter.
        runs: At least one.
    """

    fields: Row
    runs: Sequence[Run]


@dataclass(frozen=True)
class Comparison:
    """The runs, laid out to be compared.

    Attributes:
        runs: The compared runs.
        x: The setting on the x axis.
        x_values: Its values, in order: numbers if there are many, else texts.
        others: Further settings in which the runs differ.
        variants: Their combinations, as text; one empty text if the runs differ in nothing else.
        filters: Values per filter, in order, as text.
        groups: The runs by their place.
        unequal: Sentences on conditions that differ between methods and have no filter.
        settings: Of each run, in the order of the runs.
    """

    runs: Sequence[Run]
    x: str
    x_values: Sequence[Any]
    others: Sequence[str]
    variants: Sequence[str]
    filters: Mapping[str, Sequence[str]]
    groups: Sequence[Group]
    unequal: Sequence[str]
    settings: Sequence[Mapping[str, Any]]

    @property
    def varying(self) -> list[str]:
        """The settings in which the runs differ; the one on the x axis comes first."""
        return [name for name in (self.x, *self.others) if len(self.filters[name]) > 1]

    @property
    def numeric(self) -> bool:
        """Whether the x axis has numbers, and many of them."""
        return not any(isinstance(value, str) for value in self.x_values)

    @property
    def scattered(self) -> bool:
        """Whether the runs differ in too many settings for lines between them."""
        return len(self.variants) > MANY_VARIANTS


def compare(runs: Sequence[Run], x: str | None = None) -> Comparison:
    """Lay runs out.

    Args:
        runs: At least one.
        x: The setting on the x axis. The default is the method if there are several, else the number with the most
            values.

    Raises:
        SettingError: If the runs have no setting `x`.
    """
    measuring = {name for run in runs for name in run.measuring}
    x = _setting_of(x, runs, measuring)
    described = _described(runs, measuring, x)
    varying = _varying(described)
    if x is not None and not any(x in settings or f"{x}.class" in settings for settings in described):
        differing = ", ".join(varying) or "nothing"
        raise SettingError(f"--x must be a setting of the runs, got '{x}'; they differ in {differing}.")
    x = x or _x_axis(varying, described, {*_ALWAYS_FILTERED, *measuring})
    others = [name for name in varying if name != x]
    known = {name for settings in described for name in settings}
    shown = [x, *others, *(name for name in _ALWAYS_FILTERED if name in known and name not in (x, *others))]
    placed = _placed([settings.get(x) for settings in described])
    fields = [
        {name: text_of(settings.get(name)) for name in shown} | {"x": place, "variant": _variant(settings, others)}
        for settings, place in zip(described, placed, strict=True)
    ]
    groups: dict[tuple[Any, str], Group] = {}
    for run, own in zip(runs, fields, strict=True):
        place = own["x"], own["variant"]
        groups[place] = Group(own, [*(groups[place].runs if place in groups else []), run])
    ordered = [groups[place] for place in sorted(groups, key=lambda place: (_order(place[0]), place[1]))]
    return Comparison(
        runs=runs,
        x=x,
        x_values=list(dict.fromkeys(group.fields["x"] for group in ordered)),
        others=others,
        variants=sorted({own["variant"] for own in fields}),
        filters={
            **{name: sorted({own[name] for own in fields}, key=_natural) for name in shown},
            "seed": sorted({text_of(run.seed) for run in runs}, key=_natural),
        },
        groups=ordered,
        unequal=list(_unequal(described, [x, *others], measuring)),
        settings=described,
    )


def _setting_of(x: str | None, runs: Sequence[Run], measuring: Collection[str]) -> str | None:
    """Return the setting's name on the page, also from a key of the command line or of a sweep."""
    known = {METHOD, DATA, SEED, *measuring}.union(*(run.settings for run in runs))
    short = short_name(x or "")
    also = {short: short, f"{x}.class": x, f"{short}.class": short}
    return x if x is None or x in known else next((own for name, own in also.items() if name in known), x)


def _described(runs: Sequence[Run], measuring: Iterable[str], x: str | None) -> list[Mapping[str, Any]]:
    """Return each run's settings, its method and its data.

    A setting may be a class, and runs may have different classes with different settings. The class and its settings
    then become one setting, unless `x` is one of them.
    """
    settings = [{**run.settings, **run.measuring} for run in runs]
    for name in set(measuring) - {x}:
        having = [each for each in settings if name in each]
        if len(having) < len(runs) and not _differing([{name: each[name]} for each in having]):
            for each in having:
                del each[name]  # settings of a measurement of some runs alone are no difference
    for name in sorted(_differing(settings)):
        setting = name.removesuffix(".class")
        if setting != name and not (x or "").startswith(f"{setting}."):
            _join(settings, setting)
    methods = _methods([run.model for run in runs], settings)
    seeds: list[dict[str, Any]] = [{SEED: run.seed} if x == SEED else {} for run in runs]
    return [
        {**own, METHOD: method, DATA: run.data, **seed}
        for run, method, own, seed in zip(runs, methods, settings, seeds, strict=True)
    ]


def _join(settings: Sequence[dict[str, Any]], setting: str) -> None:
    """Make one setting of a class and its settings: its name, and the values that most of its runs do not have."""
    prefix = f"{setting}."
    of_class: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in settings:
        if f"{prefix}class" in each:
            of_class[str(each[f"{prefix}class"])].append(each)
    for class_name, group in of_class.items():
        below = [{name: each.pop(name) for name in list(each) if name.startswith(prefix)} for each in group]
        differing = sorted(_differing(below))
        usual = {name: _usual([text_of(each.get(name)) for each in below]) for name in differing}
        for each, own in zip(group, below, strict=True):
            texts = {name: text_of(own.get(name)) for name in differing}
            more = [f"{name.removeprefix(prefix)}={text}" for name, text in texts.items() if text != usual[name]]
            each[setting] = " ".join([class_name, *more])


def _usual(texts: Sequence[str]) -> str | None:
    """Return the text that more than half of the texts equal, if there is one."""
    text, count = Counter(texts).most_common(1)[0]
    return text if 2 * count > len(texts) else None


def _methods(models: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each run's method: its model, and the settings in which only this model's runs differ."""
    by_model: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for model, own in zip(models, settings, strict=True):
        by_model[model].append(own)
    varying = {model: set(_differing(group)) for model, group in by_model.items()}
    names: dict[str, list[str]] = {}
    for model in by_model:
        elsewhere = set().union(*(other for name, other in varying.items() if name != model))
        names[model] = sorted(varying[model] - elsewhere) if len(by_model) > 1 else []
    return [
        " ".join([model, *(f"{name}={text_of(own.get(name))}" for name in names[model])])
        for model, own in zip(models, settings, strict=True)
    ]


def _varying(described: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which runs differ; settings that follow from the method are left out.

    The number of batches counts only if no other setting explains it, such as the epochs.
    """
    by_method: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for settings in described:
        by_method[settings[METHOD]].append(settings)
    names = {name for group in by_method.values() for name in _differing(group)}
    names |= {name for name in (METHOD, DATA) if len({settings[name] for settings in described}) > 1}
    others = sorted(names - {BATCHES}, key=lambda name: (name != METHOD, name))
    batches: dict[tuple[str, ...], set[Any]] = defaultdict(set)
    for settings in described:
        batches[tuple(text_of(settings.get(name)) for name in others)].add(settings.get(BATCHES))
    return others if all(len(values) == 1 for values in batches.values()) else [*others, BATCHES]


def _unequal(described: Sequence[Mapping[str, Any]], told: Sequence[str], measuring: Collection[str]) -> Iterable[str]:
    """Yield sentences on conditions that differ only between methods. These make the figures differ, too."""
    names = [name for name in _differing(described) if name in _CONDITIONS or name in measuring]
    for name in sorted(set(names) - set(told)):
        methods: dict[str, set[str]] = defaultdict(set)
        for settings in described:
            methods[text_of(settings.get(name))].add(settings[METHOD])
        values = sorted(methods.items(), key=lambda item: _natural(item[0]))
        yield f"{name} is " + "; ".join(f"{value} for {', '.join(sorted(own))}" for value, own in values)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {name for each in settings for name in each}
    return [name for name in names if len({text_of(each.get(name)) for each in settings}) > 1]


def _x_axis(varying: Sequence[str], described: Sequence[Mapping[str, Any]], unlikely: Collection[str]) -> str:
    """Return the method if it varies, else the setting with the most values; numbers come before texts."""
    if METHOD in varying or not varying:
        return METHOD

    def worth(name: str) -> tuple[bool, bool, int]:
        values = [settings.get(name) for settings in described]
        numbers = all(isinstance(value, int | float) for value in values)
        return name not in unlikely, numbers, len(set(map(text_of, values)))

    return max(varying, key=worth)


def _placed(values: Sequence[Any]) -> list[Any]:
    """Return the runs' places on the x axis: numbers if all values are numbers and many, else texts."""
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    texts = [text_of(value) for value in values]
    return list(values) if numbers and len(set(texts)) > MANY_VALUES else texts


def _variant(settings: Mapping[str, Any], others: Iterable[str]) -> str:
    return ", ".join(f"{name}={text_of(settings[name])}" for name in others if name in settings)


def text_of(value: Any) -> str:
    """Return a setting as text, shortened unless that would change a number."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def number_or_text(value: Any) -> float | int | str:
    """Return a setting for the page: a finite number as such, anything else as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else text_of(value)


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _order(value: Any) -> tuple[bool, float, str]:
    return _natural(text_of(value))
