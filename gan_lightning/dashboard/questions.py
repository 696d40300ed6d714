"""The first screen: a sentence for each question, with its interval and n, and a verdict or why there is none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gan_lightning.dashboard.accuracies import Accuracies
from gan_lightning.dashboard.comparison import Comparison, compare
from gan_lightning.dashboard.figure_questions import figure_question, numbers_of, step_of
from gan_lightning.dashboard.rows import BySeed, GroupFigure, group_figures, pair_of
from gan_lightning.dashboard.run_folders import UnmeasuredRun
from gan_lightning.dashboard.searches import is_search, search_question
from gan_lightning.dashboard.sentences import (
    CONTROLS_RULE,
    Question,
    controls_of,
    counted,
    ends,
    listed,
    mean_of,
    points,
    points_between,
    settings_of,
)
from gan_lightning.dashboard.statistics import (
    Estimate,
    best_of_paired,
    estimate,
    not_above,
    paired_slope,
    simultaneous,
    verdict,
)


@dataclass(frozen=True)
class Quantity:
    """An accuracy, or the difference of two.

    Attributes:
        first: Extractor.
        second: Extractor that is subtracted; empty for an accuracy alone.
    """

    first: str
    second: str = ""

    @property
    def name(self) -> str:
        """The name for people."""
        return f"{self.first} - {self.second}" if self.second else f"{self.first}'s accuracy"

    def trend(self, sign: int) -> str:
        """Return a slope's direction in words; empty without one."""
        if not self.second:
            return {1: "It grows", -1: "It falls", 0: ""}[sign]
        names = (self.first, self.second) if sign > 0 else (self.second, self.first)
        return f"{names[0]} gains on {names[1]}" if sign else ""

    def values(self, found: Accuracies, place: int, probe: str) -> BySeed:
        """Return its values in a group by seed; a difference is paired over the seeds."""
        first = found.values(place, self.first, probe)
        if not self.second:
            return first
        second = found.values(place, self.second, probe)
        return {seed: first[seed] - second[seed] for seed in first if seed in second}

    def over_controls(self, found: Accuracies, places: Sequence[int], probe: str) -> dict[str, Estimate | None]:
        """Return by how much its extractors are above their controls, over groups together.

        A control that is not beaten on average in one of the groups stands there, too.
        """
        above: dict[str, Estimate | None] = {}
        for subject in filter(None, (self.first, self.second)):
            above |= found.over_controls(places, subject, probe)
            if len(places) > 1:
                each = [found.over_controls([place], subject, probe) for place in places]
                for name in list(above):
                    known = [over for own in each if (over := own.get(name)) is not None]
                    if known and (low := min(known, key=lambda over: over.mean)).mean <= 0:
                        above[f"{name}, at its lowest,"] = low
        return above


def all_questions(
    comparison: Comparison,
    figures: Sequence[GroupFigure],
    sweeps: Mapping[str, Mapping[str, Any]],
    unmeasured: Sequence[UnmeasuredRun] = (),
) -> list[Question]:
    """Return the answered questions to runs of any number of sweeps.

    Runs of several sweeps are asked together if they differ in few settings; else each sweep has questions of its own.

    Args:
        comparison: The compared runs.
        figures: All of their figures.
        sweeps: Facts on the runs' sweeps.
        unmeasured: Further runs, without figures.
    """
    names = sorted({run.sweep for run in comparison.runs}, key=lambda name: (not name, name))
    if len(names) == 1 or not is_search(comparison):
        return questions(comparison, figures, sweeps, unmeasured)
    made = []
    for name in names:
        own = [run for run in comparison.runs if run.sweep == name]
        x = comparison.x if any(comparison.x in run.settings for run in own) else None
        alone = compare(own, x)
        asked = questions(alone, group_figures(alone), sweeps, unmeasured)
        made += [replace(question, title=f"{name or 'single runs'}: {question.title}") for question in asked]
    return sorted(made, key=lambda question: not question.beats_controls)


def questions(
    comparison: Comparison,
    figures: Sequence[GroupFigure],
    sweeps: Mapping[str, Mapping[str, Any]],
    unmeasured: Sequence[UnmeasuredRun] = (),
) -> list[Question]:
    """Return the answered questions; those of a probe with all figures above their controls come first.

    Args:
        comparison: The compared runs.
        figures: All of their figures.
        sweeps: Facts on the runs' sweeps.
        unmeasured: Further runs, without figures.
    """
    if is_search(comparison):
        return search_question(comparison, figures, sweeps, unmeasured)
    found = Accuracies.among(figures)
    pair = pair_of(comparison.runs)
    asked = [(p, q) for p in found.protocols for q in ([Quantity(*pair)] if pair else map(Quantity, found.subjects(p)))]
    numbers = numbers_of(comparison.x_values)
    if numbers is not None:
        made = list(_slopes(comparison, found, asked, numbers))
    elif pair:
        made = [question for probe, quantity in asked for question in _differences(comparison, found, probe, quantity)]
    else:
        made = [question for probe in found.protocols for question in _ranking(comparison, found, probe)]
    if not made:
        made = figure_question(comparison, figures, sweeps, step_of(comparison.x, numbers) if numbers else None)
    return sorted(made, key=lambda question: not question.beats_controls)


def _slopes(
    comparison: Comparison, found: Accuracies, asked: Sequence[tuple[str, Quantity]], numbers: Sequence[float]
) -> Iterable[Question]:
    scale, phrase = step_of(comparison.x, numbers)
    lines = []
    for probe, quantity in asked:
        for variant in comparison.variants:
            groups = [(i, g) for i, g in enumerate(comparison.groups) if g.fields["variant"] == variant]
            values = {i: quantity.values(found, i, probe) for i, _ in groups}
            places = [i for i, _ in groups if values[i]]
            x = [scale(float(comparison.groups[i].fields["x"])) for i in places]
            seeds = [seed for seed in values[places[0]] if all(seed in values[i] for i in places)] if places else []
            if len(set(x)) > 1 and seeds:
                slope = paired_slope(x, [[values[i][seed] for i in places] for seed in seeds])
                lines.append((probe, quantity, variant, places, slope))
    tested = sum(line[-1].low is not None for line in lines)
    for line, slope in zip(lines, simultaneous([line[-1] for line in lines]), strict=True):
        probe, quantity, variant, places, _ = line
        above = quantity.over_controls(found, places, probe)
        decided = verdict(slope, above)
        verb = {1: "grows by", -1: "falls by", 0: "changes by"}[decided.sign]
        size = points_between(slope, signed=decided.sign == 0)
        runs = f"{len(places) * slope.n} runs, {counted(slope.n, 'seed')}"
        more = f"Intervals of the {tested} slopes hold together (Bonferroni). " if tested > 1 else ""
        rows = _difference_rows(comparison, found, probe, quantity, places)
        yield Question(
            title=_title(quantity, comparison, probe, variant),
            answer=f"{quantity.name} {verb} {size} {phrase}; {runs}",
            verdict=quantity.trend(decided.sign),
            doubt=decided.reason,
            made="The slope is each seed's least-squares slope, with Student's 95% interval over the seeds that have "
            f"every setting. {more}In the table, intervals of all rows hold together. {CONTROLS_RULE}",
            rows=rows,
            beats_controls=not not_above(above, slope.n),
            protocol=probe,
        )  # fmt: skip


def _title(quantity: Quantity, comparison: Comparison, probe: str, variant: str) -> str:
    against = f"against {comparison.x}" if len(comparison.x_values) > 1 else ""
    return ", ".join(filter(None, [" ".join(filter(None, [quantity.name, against])), f"probe {probe}", variant]))


def _differences(comparison: Comparison, found: Accuracies, probe: str, quantity: Quantity) -> Iterable[Question]:
    places = [i for i in range(len(comparison.groups)) if quantity.values(found, i, probe)]
    if not places:
        return
    estimates = simultaneous([estimate(list(quantity.values(found, i, probe).values())) for i in places])
    above = {i: quantity.over_controls(found, [i], probe) for i in places}
    decided = [verdict(own, above[i]) for i, own in zip(places, estimates, strict=True)]
    signs = [each.sign for each in decided]
    runs = sum(own.n for own in estimates)
    if len(places) == 1:
        seeds = counted(estimates[0].n, "seed")
        answer = f"{quantity.name} is {points_between(estimates[0], signed=True)}; {seeds}"
        said = {1: f"{quantity.first} is better", -1: f"{quantity.second} is better", 0: ""}[signs[0]]
        doubt = decided[0].reason
    else:
        answer = (
            f"{quantity.first} is better at {signs.count(1)} of {len(places)} settings, {quantity.second} at "
            f"{signs.count(-1)}, and {signs.count(0)} are open; {runs} runs"
        )
        said = ""
        doubt = "" if any(signs) else decided[0].reason
    yield Question(
        title=_title(quantity, comparison, probe, ""),
        answer=answer,
        verdict=said,
        doubt=doubt,
        made="Differences are paired over seeds; Student's 95% intervals over the seeds hold for all rows together "
        f"(Bonferroni). {CONTROLS_RULE}",
        rows=_difference_rows(comparison, found, probe, quantity, places),
        beats_controls=not any(not_above(above[i], own.n) for i, own in zip(places, estimates, strict=True)),
        protocol=probe,
    )


def _difference_rows(
    comparison: Comparison, found: Accuracies, probe: str, quantity: Quantity, places: Sequence[int]
) -> list[dict[str, str]]:
    """Return the table's rows: accuracies, their controls, and the quantity with an interval for all rows together."""
    estimates = simultaneous([estimate(list(quantity.values(found, i, probe).values())) for i in places])
    rows = []
    for i, own in zip(places, estimates, strict=True):
        above = quantity.over_controls(found, [i], probe)
        decided = verdict(own, above)
        withheld = "not shown above its controls" if not_above(above, own.n) else decided.reason
        better = {1: f"{quantity.first} is better", -1: f"{quantity.second} is better", 0: withheld}
        is_difference = bool(quantity.second)
        row = settings_of(comparison, i) | {
            f"{subject}, %": points(mean_of(found, i, subject, probe), signed=False)
            for subject in (quantity.first, quantity.second) if is_difference
        }  # fmt: skip
        row |= {
            "Difference, points" if is_difference else "Accuracy, %": points(own.mean, signed=is_difference),
            "95% interval": ends(own, signed=is_difference),
            "Seeds": str(own.n),
        }
        if is_difference:
            row |= _paper(found, i, probe, quantity) | {"Verdict": better[decided.sign]}
        rows.append(row | controls_of(found, i, probe, [quantity.first, quantity.second]))
    return rows


def _paper(found: Accuracies, place: int, probe: str, quantity: Quantity) -> dict[str, str]:
    first, second = (found.of[place, subject, probe, "trained"].paper for subject in (quantity.first, quantity.second))
    return {} if first is None or second is None else {"Paper's difference": points(first - second)}


def _ranking(comparison: Comparison, found: Accuracies, probe: str) -> Iterable[Question]:
    """Yield which of several methods has the best features, among unordered settings without a pair of extractors."""
    entries = [
        (i, subject) for i in range(len(comparison.groups)) for subject in found.subjects(probe)
        if found.values(i, subject, probe)
    ]  # fmt: skip
    means = [estimate(list(found.values(i, subject, probe).values())) for i, subject in entries]
    best, rivals = best_of_paired([found.values(i, subject, probe) for i, subject in entries])
    place, subject = entries[best]
    names = [_entry(comparison, i, own, found.subjects(probe)) for i, own in entries]
    above = found.over_controls([place], subject, probe)
    means = simultaneous(means)
    seeds = counted(means[best].n, "seed")
    interval = "" if means[best].low is None else f" {ends(means[best], signed=False)}"
    rest = len(entries) - 1
    gate = not_above(above, means[best].n)
    doubt = gate or (f"not told apart from {listed([names[i] for i in rivals])}" if rivals else "")
    yield Question(
        title=f"Which features are best? Probe {probe}",
        answer=f"{names[best]} has {points(means[best].mean, signed=False)}%{interval}"
        f"{f', the highest accuracy of {len(entries)}' if rest else ''}; {seeds}",
        verdict="" if doubt or not rest else f"{names[best]} is best",
        doubt=doubt if rest else gate,
        made="Differences are paired over seeds; Student's 95% intervals of all pairs hold together (Bonferroni), so "
        f"also for the chosen one; so do those of all means. {CONTROLS_RULE}",
        rows=[
            settings_of(comparison, i)
            | ({"Extractor": own} if len(found.subjects(probe)) > 1 else {})
            | {"Accuracy, %": points(mean.mean, signed=False), "95% interval": ends(mean, signed=False)}
            | {"Seeds": str(mean.n)}
            | controls_of(found, i, probe, [own])
            for (i, own), mean in zip(entries, means, strict=True)
        ],
        beats_controls=not gate,
        protocol=probe,
    )  # fmt: skip


def _entry(comparison: Comparison, place: int, subject: str, subjects: Sequence[str]) -> str:
    fields = comparison.groups[place].fields
    own = " ".join(filter(None, [str(fields["x"]), fields["variant"]]))
    return own if len(subjects) == 1 else f"{own} ({subject})"
