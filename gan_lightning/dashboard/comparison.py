"""What the runs differ in, and the figures that follow; the runs themselves say which setting is the x axis."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gan_lightning.dashboard.reading import Run
from gan_lightning.dashboard.statistics import Estimate, estimate, paired_difference
from gan_lightning.errors import SettingError

ALL_SEEDS = "all"
METHOD, DATA, BATCHES = "method", "data", "batches"
_PREFERRED_PAIR = ("classifier", "discriminator")
_ALWAYS_FILTERED = (DATA, "base_width", "epochs")
_CONDITIONS = ("base_width", "epochs", "precision", "processes")
"""And the settings of protocols: under these, methods should be compared with each other."""

_PROTOCOLS = ("paper", "tuned", "nearest")
MANY_VARIANTS = 6
"""From here on other settings are not drawn as pictures of their own, but as points."""

MANY_VALUES = 12
"""With more of them an axis of numbers is drawn to scale."""

Row = dict[str, Any]
"""A line of a table and of a chart's data: figures, and a value for each filter."""


@dataclass(frozen=True)
class Comparison:
    """The runs, laid out to be compared.

    Attributes:
        runs: What is compared.
        x: The setting on the x axis.
        x_values: Its values, in order: numbers where there are many, else texts.
        others: Further settings in which the runs differ.
        variants: Their combinations, as text; one empty text where the runs differ in nothing else.
        filters: Values per filter, in order, as text.
        pair: The two extractors whose difference is drawn; None where there are not two to compare.
        accuracies: Rows of final accuracies, of all seeds together and of each.
        points: A row per run and final accuracy.
        differences: Rows of the pair's differences.
        epochs: Rows of the paper's protocol's accuracies after each epoch.
        unequal: What is not the same in all that is compared although no filter is for it, as sentences.
    """

    runs: Sequence[Run]
    x: str
    x_values: Sequence[Any]
    others: Sequence[str]
    variants: Sequence[str]
    filters: Mapping[str, Sequence[str]]
    pair: tuple[str, str] | None
    accuracies: Sequence[Row]
    points: Sequence[Row]
    differences: Sequence[Row]
    epochs: Sequence[Row]
    unequal: Sequence[str]

    @property
    def numeric(self) -> bool:
        """Whether the x axis is one of numbers, and of many."""
        return not any(isinstance(value, str) for value in self.x_values)

    @property
    def scattered(self) -> bool:
        """Whether the runs differ in so much that lines between them would mean nothing."""
        return len(self.variants) > MANY_VARIANTS


def compare(runs: Sequence[Run], x: str | None = None) -> Comparison:
    """Lay runs out.

    Args:
        runs: At least one.
        x: The setting on the x axis; by default the method where there are several, or else the number that takes
            most values.

    Raises:
        SettingError: If the runs have no setting `x`.
    """
    described = _described(runs, x)
    varying = _varying(described)
    if x is not None and not any(x in settings for settings in described):
        differing = ", ".join(varying) or "nothing"
        raise SettingError(f"--x must be a setting of the runs, got '{x}'; they differ in {differing}.")
    x = x or _x_axis(varying, described)
    others = [name for name in varying if name != x]
    variants = {run.name: _variant(settings, others) for run, settings in zip(runs, described, strict=True)}
    known = {name for settings in described for name in settings}
    shown = [x, *others, *(name for name in _ALWAYS_FILTERED if name in known and name not in (x, *others))]
    placed = _placed([settings.get(x) for settings in described])
    fields = {
        run.name: {name: _text(settings.get(name)) for name in shown} | {"x": x_value, "variant": variants[run.name]}
        for run, settings, x_value in zip(runs, described, placed, strict=True)
    }
    groups: dict[tuple[Any, str], list[Run]] = defaultdict(list)
    for run in runs:
        groups[fields[run.name]["x"], variants[run.name]].append(run)
    ordered = sorted(groups, key=lambda group: (_order(group[0]), group[1]))
    blocks = [(fields[groups[group][0].name], groups[group]) for group in ordered]
    pair = _pair(runs)
    protocols = sorted({r["protocol"] for run in runs for r in run.records}, key=_protocol_order)
    seeds = sorted({_text(run.seed) for run in runs}, key=_natural)
    return Comparison(
        runs=runs,
        x=x,
        x_values=list(dict.fromkeys(x_value for x_value, _ in ordered)),
        others=others,
        variants=sorted(set(variants.values())),
        filters={
            "protocol": protocols,
            **{name: sorted({str(f[name]) for f in fields.values()}, key=_natural) for name in shown},
            "seed": seeds,
        },
        pair=pair,
        accuracies=[row for block in blocks for row in _accuracies(*block)],
        points=[
            {**fields[run.name], "seed": _text(run.seed), "extractor": extractor, "weights": weights,
             "protocol": protocol, "accuracy": accuracy, "run": run.name}
            for run in runs
            for (extractor, weights, protocol), accuracy in run.finals.items()
        ],
        differences=[row for block in blocks for row in _differences(*block, pair)] if pair else [],
        epochs=[row for block in blocks for row in _epochs(*block)],
        unequal=list(_unequal(described, [x, *others])),
    )  # fmt: skip


def _described(runs: Sequence[Run], x: str | None) -> list[Mapping[str, Any]]:
    """Return each run's settings, its method and its data.

    Where a setting is a class, and runs have several, it and the settings of these classes, which the others do not
    have, become one setting: unless `x` is one of them.
    """
    settings = [dict(run.settings) for run in runs]
    for name in sorted(_differing(settings)):
        setting = name.removesuffix(".class")
        if setting != name and not (x or "").startswith(f"{setting}."):
            _join(settings, setting)
    methods = _methods([run.model for run in runs], settings)
    return [{METHOD: method, DATA: run.data, **own} for run, method, own in zip(runs, methods, settings, strict=True)]


def _join(settings: Sequence[dict[str, Any]], setting: str) -> None:
    """Make one setting of a class and its settings: its name, and what is not as in most runs that have this class."""
    prefix = f"{setting}."
    of_class: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in settings:
        if f"{prefix}class" in each:
            of_class[str(each[f"{prefix}class"])].append(each)
    for class_name, group in of_class.items():
        below = [{name: each.pop(name) for name in list(each) if name.startswith(prefix)} for each in group]
        differing = sorted(_differing(below))
        usual = {name: _usual([_text(each.get(name)) for each in below]) for name in differing}
        for each, own in zip(group, below, strict=True):
            texts = {name: _text(own.get(name)) for name in differing}
            more = [f"{name.removeprefix(prefix)}={text}" for name, text in texts.items() if text != usual[name]]
            each[setting] = " ".join([class_name, *more])


def _usual(texts: Sequence[str]) -> str | None:
    """Return what more than half of the texts are, if there is such a text."""
    text, count = Counter(texts).most_common(1)[0]
    return text if 2 * count > len(texts) else None


def _methods(models: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each run's method: its model, and what only this model's runs differ in."""
    by_model: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for model, own in zip(models, settings, strict=True):
        by_model[model].append(own)
    varying = {model: set(_differing(group)) for model, group in by_model.items()}
    names: dict[str, list[str]] = {}
    for model in by_model:
        elsewhere = set().union(*(other for name, other in varying.items() if name != model))
        names[model] = sorted(varying[model] - elsewhere) if len(by_model) > 1 else []
    return [
        " ".join([model, *(f"{name}={_text(own.get(name))}" for name in names[model])])
        for model, own in zip(models, settings, strict=True)
    ]


def _varying(described: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings in which runs differ, without those that follow from the method.

    The number of batches is one of them only where no other setting, such as the epochs, tells why it differs.
    """
    by_method: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for settings in described:
        by_method[settings[METHOD]].append(settings)
    names = {name for group in by_method.values() for name in _differing(group)}
    names |= {name for name in (METHOD, DATA) if len({settings[name] for settings in described}) > 1}
    others = sorted(names - {BATCHES}, key=lambda name: (name != METHOD, name))
    batches: dict[tuple[str, ...], set[Any]] = defaultdict(set)
    for settings in described:
        batches[tuple(_text(settings.get(name)) for name in others)].add(settings.get(BATCHES))
    return others if all(len(values) == 1 for values in batches.values()) else [*others, BATCHES]


def _unequal(described: Sequence[Mapping[str, Any]], told: Sequence[str]) -> Iterable[str]:
    """Say which conditions differ between methods and nowhere else: the figures then differ by them, too."""
    names = [name for name in _differing(described) if name in _CONDITIONS or name.startswith("transfer.")]
    for name in sorted(set(names) - set(told)):
        methods: dict[str, set[str]] = defaultdict(set)
        for settings in described:
            methods[_text(settings.get(name))].add(settings[METHOD])
        values = sorted(methods.items(), key=lambda item: _natural(item[0]))
        yield f"{name} is " + "; ".join(f"{value} for {', '.join(sorted(own))}" for value, own in values)


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {name for each in settings for name in each}
    return [name for name in names if len({_text(each.get(name)) for each in settings}) > 1]


def _x_axis(varying: Sequence[str], described: Sequence[Mapping[str, Any]]) -> str:
    if METHOD in varying or not varying:
        return METHOD

    def worth(name: str) -> tuple[bool, bool, int]:
        values = [settings.get(name) for settings in described]
        numbers = all(isinstance(value, int | float) for value in values)
        return name not in _ALWAYS_FILTERED, numbers, len(set(map(_text, values)))

    return max(varying, key=worth)


def _placed(values: Sequence[Any]) -> list[Any]:
    """Return where runs stand on the x axis: at numbers where there are many and nothing else, or else at texts."""
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values
    )
    texts = [_text(value) for value in values]
    return list(values) if numbers and len(set(texts)) > MANY_VALUES else texts


def _variant(settings: Mapping[str, Any], others: Iterable[str]) -> str:
    return ", ".join(f"{name}={_text(settings[name])}" for name in others if name in settings)


def _pair(runs: Sequence[Run]) -> tuple[str, str] | None:
    """Return the extractors to compare: first minus second."""
    extractors = sorted({extractor for run in runs for extractor, weights, _ in run.finals if weights == "trained"})
    if set(_PREFERRED_PAIR) <= set(extractors):
        return _PREFERRED_PAIR
    return (extractors[1], extractors[0]) if len(extractors) == 2 else None


def _by_seed(runs: Sequence[Run], kind: tuple[str, str, str]) -> dict[int | None, float]:
    """Return the final accuracies of an extractor, weights and protocol."""
    return {run.seed: run.finals[kind] for run in runs if kind in run.finals}


def _each_seed(values: dict[int | None, float]) -> list[tuple[str, dict[int | None, float]]]:
    """Return the values of all seeds, and of each alone."""
    return [(ALL_SEEDS, values), *((_text(seed), {seed: value}) for seed, value in values.items())]


def _figures(values: Mapping[int | None, float], runs: Sequence[Run], weights: str) -> Row:
    """Return the figures of these runs' values; a control that all have in common is one measurement."""
    found = estimate(list(values.values()))
    if weights != "trained" and len({_text(run.settings.get("transfer.seed")) for run in runs}) == 1:
        return _row(Estimate(found.mean, None, None, 1))
    return _row(found)


def _row(found: Estimate) -> Row:
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}


def _published(runs: Sequence[Run], extractor: str, protocol: str) -> Mapping[str, Any] | None:
    """Return the paper's figure for an extractor."""
    wanted = (extractor, protocol)
    return next((f for run in runs for f in run.published if (f["extractor"], f["protocol"]) == wanted), None)


def _accuracies(fields: Row, runs: Sequence[Run]) -> Iterable[Row]:
    kinds = sorted({kind for run in runs for kind in run.finals}, key=lambda k: (k[2], k[1] != "trained", k[0]))
    for extractor, weights, protocol in kinds:
        values = _by_seed(runs, (extractor, weights, protocol))
        figure = _published(runs, extractor, protocol) if weights == "trained" else None
        for seed, chosen in _each_seed(values):
            yield {
                **fields, "seed": seed, "extractor": extractor, "weights": weights, "protocol": protocol,
                **_figures(chosen, runs, weights),
                "paper": figure and figure["accuracy"], "source": figure and figure["source"],
            }  # fmt: skip


def _differences(fields: Row, runs: Sequence[Run], pair: tuple[str, str]) -> Iterable[Row]:
    for protocol in sorted({protocol for run in runs for _, _, protocol in run.finals}):
        first, second = (_by_seed(runs, (name, "trained", protocol)) for name in pair)
        printed = [_published(runs, name, protocol) for name in pair]
        paper = printed[0]["accuracy"] - printed[1]["accuracy"] if printed[0] and printed[1] else None
        for seed, chosen in _each_seed(first):
            if (found := paired_difference(chosen, second)) is not None:
                yield {**fields, "seed": seed, "protocol": protocol, **_row(found), "paper": paper}


def _epochs(fields: Row, runs: Sequence[Run]) -> Iterable[Row]:
    curves: dict[tuple[str, str, int], dict[int | None, float]] = defaultdict(dict)
    for run in runs:
        for r in run.records:
            if r["epoch"] is not None:
                curves[r["extractor"], r["weights"], r["epoch"]][run.seed] = r["accuracy"]
    for (extractor, weights, epoch), values in sorted(curves.items()):
        for seed, chosen in _each_seed(values):
            yield {
                **fields, "seed": seed, "extractor": extractor, "weights": weights, "protocol": "paper",
                "epoch": epoch, **_figures(chosen, runs, weights),
            }  # fmt: skip


def _text(value: Any) -> str:
    """Return a setting as text: in short, unless that would be another number."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _protocol_order(name: str) -> tuple[int, str]:
    return _PROTOCOLS.index(name) if name in _PROTOCOLS else len(_PROTOCOLS), name


def _order(value: Any) -> tuple[bool, float, str]:
    return _natural(_text(value))
