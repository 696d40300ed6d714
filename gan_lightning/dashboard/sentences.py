"""The parts of an answer on the page's first screen, and their words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gan_lightning.dashboard.accuracies import RANDOM_WEIGHTS, RAW_PIXELS, Accuracies
from gan_lightning.dashboard.comparison import Comparison
from gan_lightning.dashboard.statistics import Estimate
from gan_lightning.figures import CHANCE

CONTROLS_RULE = (
    f"A verdict needs accuracies above {RANDOM_WEIGHTS}, {RAW_PIXELS} and {CHANCE}, as far as these were measured, "
    "each by a 95% interval over common seeds, and an interval without 0."
)


@dataclass(frozen=True)
class Question:
    """A question to the runs, answered in a sentence.

    Attributes:
        title: Of the question.
        answer: The sentence, with its interval and n.
        verdict: What it decides; empty if it decides nothing.
        doubt: The reason why no verdict is given, or how sure it is.
        made: How the numbers were made, in a line.
        rows: A table below the sentence, by titles.
        beats_controls: Whether all of its figures are above their controls.
        command: Of the best trial of a search.
        figure: Name of the figure that it is about; empty for several.
        protocol: That its accuracies have; empty for several or none.
    """

    title: str
    answer: str
    verdict: str
    doubt: str
    made: str
    rows: Sequence[Mapping[str, str]] = ()
    beats_controls: bool = True
    command: str = ""
    figure: str = ""
    protocol: str = ""


def points(value: float, signed: bool = True) -> str:
    """Return a share in hundredths."""
    return f"{100 * value:+.2f}" if signed else f"{100 * value:.2f}"


def points_between(found: Estimate, signed: bool) -> str:
    """Return a difference in points with its interval; without signs the size of a fall or a growth."""
    if found.low is None or found.high is None:
        return f"{points(found.mean)} points (no interval)"
    ends = [found.low, found.high] if signed else sorted(map(abs, (found.low, found.high)))
    mean = found.mean if signed else abs(found.mean)
    return f"{points(mean, signed)} points [{points(ends[0], signed)}, {points(ends[1], signed)}]"


def counted(number: int, what: str) -> str:
    """Return a number of things."""
    return f"{number} {what}{'' if number == 1 else 's'}"


_LISTED = 3


def listed(names: Sequence[str]) -> str:
    """Return a few names and the number of the others."""
    more = len(names) - _LISTED
    return ", ".join(names) if more < 2 else f"{', '.join(names[:_LISTED])} and {more} others"


def ends(found: Estimate, signed: bool) -> str:
    """Return an interval in hundredths."""
    if found.low is None or found.high is None:
        return "-"
    return f"[{points(found.low, signed)}, {points(found.high, signed)}]"


def settings_of(comparison: Comparison, place: int) -> dict[str, str]:
    """Return the cells of a row that tell its runs."""
    fields = comparison.groups[place].fields
    return {comparison.x: str(fields["x"])} | ({"Other settings": fields["variant"]} if comparison.others else {})


def mean_of(found: Accuracies, place: int, subject: str, probe: str) -> float:
    """Return a trained extractor's mean accuracy."""
    return found.of[place, subject, probe, "trained"].estimate.mean


def controls_of(found: Accuracies, place: int, probe: str, subjects: Sequence[str]) -> dict[str, str]:
    """Return the cells of a row with the controls, in %."""
    own = [subject for subject in subjects if subject]
    row = {}
    for subject in own:
        for name, control in found.controls(place, subject, probe).items():
            title = f"{subject}, {name}" if name == RANDOM_WEIGHTS and len(own) > 1 else name
            row[title] = points(control.estimate.mean, signed=False)
    return row
