"""The accuracies on frozen features of all groups of runs, beside their controls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gan_lightning.dashboard.comparison import Comparison
from gan_lightning.dashboard.rows import TRANSFER, BySeed, GroupFigure, is_accuracy, pair_of, protocol_order
from gan_lightning.dashboard.statistics import Estimate, estimate
from gan_lightning.figures import CHANCE, PIXELS, Figure

DIFFERENCE = "difference"
RANDOM_WEIGHTS, RAW_PIXELS = "random weights", "raw pixels"


@dataclass(frozen=True)
class Accuracies:
    """Final accuracies of all groups.

    Attributes:
        of: By place of the group, extractor, probe, and kind of weights.
    """

    of: Mapping[tuple[int, str, str, str], GroupFigure]

    @classmethod
    def among(cls, figures: Iterable[GroupFigure]) -> "Accuracies":
        """Return the accuracies among all figures."""
        single = [found for found in figures if is_accuracy(found.figure) and not found.figure.axis]
        return cls({(f.place, f.figure.subject, f.figure.protocol, f.figure.weights): f for f in single})

    @property
    def protocols(self) -> list[str]:
        """The probes of trained extractors, the papers' first."""
        return sorted({probe for _, _, probe, weights in self.of if weights == "trained"}, key=protocol_order)

    def subjects(self, probe: str) -> list[str]:
        """Return the trained extractors with a probe, by name."""
        return sorted({subject for _, subject, own, weights in self.of if (own, weights) == (probe, "trained")})

    def values(self, place: int, subject: str, probe: str) -> BySeed:
        """Return a trained extractor's accuracies by seed."""
        found = self.of.get((place, subject, probe, "trained"))
        return found.values if found else {}

    def controls(self, place: int, subject: str, probe: str) -> dict[str, GroupFigure]:
        """Return the measured controls of an extractor, by their names for people."""
        keys = {
            RANDOM_WEIGHTS: (place, subject, probe, "random"),
            RAW_PIXELS: (place, PIXELS, probe, "none"),
            CHANCE: (place, CHANCE, "", "none"),
        }
        return {name: self.of[key] for name, key in keys.items() if key in self.of}

    def over_controls(self, places: Iterable[int], subject: str, probe: str) -> dict[str, Estimate | None]:
        """Return an extractor's accuracy minus each of its controls: the mean over groups, over the seeds of all.

        It is None for a control that was measured, but that has no seed in common with the accuracies.
        """
        by_control: dict[str, list[dict[int | None, float]]] = {}
        for place in places:
            own = self.values(place, subject, probe)
            for name, control in self.controls(place, subject, probe).items():
                differences = {seed: own[seed] - control.values[seed] for seed in own if seed in control.values}
                if own:
                    by_control.setdefault(name, []).append(differences)
        found: dict[str, Estimate | None] = {}
        for name, groups in by_control.items():
            seeds = [seed for seed in groups[0] if all(seed in group for group in groups)]
            means = [sum(group[seed] for group in groups) / len(groups) for seed in seeds]
            found[f"{subject} over {name}"] = estimate(means) if means else None
        return found


def pair_differences(comparison: Comparison, figures: Iterable[GroupFigure]) -> list[GroupFigure]:
    """Return the differences of a pair of extractors as figures of their own: paired over seeds, in accuracy.

    Their names are `transfer/<first> - <second>/<probe>/difference`. Empty if the runs have no pair.
    """
    if (pair := pair_of(comparison.runs)) is None:
        return []
    found, made = Accuracies.among(figures), []
    for probe in found.protocols:
        for place, group in enumerate(comparison.groups):
            first, second = (found.values(place, subject, probe) for subject in pair)
            values = {seed: first[seed] - second[seed] for seed in first if seed in second}
            if values:
                mean = estimate(list(values.values()))
                one, other = (found.of[place, subject, probe, "trained"].paper for subject in pair)
                paper = None if one is None or other is None else one - other
                named = Figure(
                    measurement=TRANSFER, metric=DIFFERENCE, value=mean.mean, subject=" - ".join(pair), protocol=probe
                )
                made.append(GroupFigure(group, place, named, values, mean, paper))
    return made
