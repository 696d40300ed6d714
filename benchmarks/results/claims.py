"""The claims of a paper, each with its test, its power, its controls and a verdict that follows from the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results.records import MINUS, RESULTS, Measured, Record, difference, mean_by_seed
from benchmarks.results.tables import NONE, Table, in_words, p_in_words
from gan_lightning.dashboard.statistics import CONFIDENCE, POWER, detectable_effect, holm, paired_power, sign_test
from gan_lightning.errors import DataError
from gan_lightning.system.files import read_json

CLAIMS = RESULTS / "claims"
HOLDS, DOES_NOT_HOLD = "holds", "does not hold"
MORE_SEEDS = 5
"""Number of seeds beside ours for which the power is told."""


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """A figure of a record, as a claim's row shows it.

    Attributes:
        says: The quantity, in words.
        of: Name of the record.
        also: Names of further records, of other runs at the same settings. A seed's value is the mean over the records
            that have the seed.
        where: Settings of the runs.
        figure: Name of the figure.
        less: Settings of other runs of the record. Their figure of the same seed is taken away.
        digits: After the point.
    """

    says: str
    of: str
    also: Sequence[str] = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    figure: str
    less: Mapping[str, Any] | None = None
    digits: int = 4

    def look(self, records: Mapping[str, Record], figure: str = "") -> Measured:
        """Return what was measured, of this figure or another one of the same runs.

        Raises:
            DataError: The record or the figure is not there, or the runs of `less` have no seed in common with them.
        """
        return mean_by_seed([self._in(of, records, figure or self.figure) for of in (self.of, *self.also)])

    def _in(self, of: str, records: Mapping[str, Record], name: str) -> Measured:
        if of not in records:
            raise DataError(f"a claim's record must be in docs/results/records, got '{of}'.")
        measured = records[of].of(self.where).find(name)
        if measured is not None and self.less is not None:
            measured = difference(measured, records[of].of(self.less).find(name))
        if measured is None:
            raise DataError(f"record '{of}' must have {name}, got no such figure.")
        return measured

    def shown(self, measured: Measured) -> str:
        """Return the figure in words."""
        return f"{self.says} {in_words(measured, self.digits, signed=self.less is not None or MINUS in self.figure)}"


@dataclass(frozen=True, kw_only=True)
class Prediction(Quoted):
    """What a claim predicts of a figure. Exactly one of `above`, `below`, `between` and `usually` is given.

    Attributes:
        above, below: The value on the other side, or the name of that figure of the same runs. Judged by Student's t
            test over seeds.
        between: Ends of the range that every single value has to lie in, for claims on all runs or all moments.
        usually: The figure counts in how many of n networks the prediction came out. Judged by a sign test.
        effects: The paper's distances from the other side, whose power is told. Without them the least effect with a
            power of 0.8 is told.
    """

    above: float | str | None = None
    below: float | str | None = None
    between: Sequence[float] | None = None
    usually: bool = False
    effects: Sequence[float] = ()

    def __post_init__(self) -> None:
        """Check that there is one prediction."""
        given = sum(each is not None for each in (self.above, self.below, self.between)) + self.usually
        if given != 1:
            raise DataError(f"a prediction must have one of above, below, between and usually, got {given}.")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a paper.

    A claim with `proofs` is mathematics, which tests of the code repeat. Without predictions and proofs nothing can be
    told.

    Attributes:
        claim: In our words.
        source: Its place in the paper.
        how: How it is, or would be, tested.
        predictions: Of our figures.
        quoted: Further figures, which decide nothing.
        planned: A prediction for the same kind of figure. Its spread gives the power that our runs would have for this
            claim.
        proofs: Tests of the code: `file::name`.
        controls: Figures that stand beside.
        control: The controls in words.
        seeds: Number of seeds, where it is not that of the figures.
        because: What a reader has to know of the verdict.
    """

    claim: str
    source: str
    how: str
    predictions: Sequence[Prediction] = ()
    quoted: Sequence[Quoted] = ()
    planned: Prediction | None = None
    proofs: Sequence[str] = ()
    controls: Sequence[Quoted] = ()
    control: str = ""
    seeds: int | None = None
    because: str = ""


@dataclass(frozen=True)
class _Tested:
    """A prediction, what was measured, the value on the other side, and the p of the test."""

    prediction: Prediction
    measured: Measured
    other_side: float
    p: float | None

    def outcome(self, adjusted: float | None) -> str | None:
        """Return whether the prediction holds; None if it cannot be told.

        Args:
            adjusted: p, corrected for all tests of the table.
        """
        value, said = self.measured.figure.value, self.prediction
        if (ends := said.between) is not None:
            values = [*self.measured.by_seed.values()] or [value, *filter(None, [self.measured.until])]
            if any(not ends[0] <= each <= ends[1] for each in values):
                return DOES_NOT_HOLD
            # A mean alone that lies inside does not tell whether all its values do.
            return HOLDS if self.measured.by_seed or self.measured.until is not None else None
        if adjusted is None or adjusted >= 1 - CONFIDENCE:
            return None
        as_said = (
            value > (self.measured.n or 0) / 2 if said.usually else (value > self.other_side) == (said.below is None)
        )
        return HOLDS if as_said else DOES_NOT_HOLD

    def test(self, adjusted: float | None) -> str:
        """Return the test in words."""
        if self.prediction.usually:
            text = f"{self.prediction.says} {self.measured.figure.value:.0f} of {self.measured.n}"
        else:
            text = f"{self.prediction.shown(self.measured)} (n = {self.measured.n or 1})"
        if self.p is None or adjusted is None:
            return text
        return f"{text}, p {_equals(self.p)}, corrected {_equals(adjusted)}"

    def power(self) -> str:
        """Return the power in words."""
        deviation, n, digits = self.measured.estimate.deviation, self.measured.n or 1, self.prediction.digits
        if self.p is None or deviation is None:
            return NONE
        if not self.prediction.effects:
            return f"{_short(POWER)} for {detectable_effect(deviation, n):.{digits}f} with n = {n}"
        return "; ".join(
            f"the paper's {effect:.{digits}f}: "
            + ", ".join(f"{_short(paired_power(effect, deviation, k))} with n = {k}" for k in sorted({n, MORE_SEEDS}))
            for effect in self.prediction.effects
        )


def _equals(p: float) -> str:
    return text if (text := p_in_words(p)).startswith("<") else f"= {text}"


def _short(power: float) -> str:
    return "> .99" if power > 0.995 else f"{power:.2f}".lstrip("0")


def read_claims(path: Path) -> list[Claim]:
    """Return the claims of a file.

    Raises:
        DataError: They are none; says why.
    """
    try:
        return [_claim(each) for each in read_json(path)]
    except (DataError, TypeError, AttributeError) as error:
        raise DataError(f"'{path}' has no claims: {error}") from error


def _claim(row: Mapping[str, Any]) -> Claim:
    kinds = {"predictions": Prediction, "quoted": Quoted, "controls": Quoted}
    parts = {name: [kind(**each) for each in row[name]] for name, kind in kinds.items() if name in row}
    planned = Prediction(**row["planned"]) if "planned" in row else None
    return Claim(**{**row, **parts, "planned": planned})


def verdict(outcomes: Sequence[str | None], seeds: int, proved: bool = False) -> str:
    """Return one of: holds, does not hold, cannot be told with n seeds.

    Args:
        outcomes: Of a claim's predictions. All must hold; one that does not is enough against it.
        seeds: Number of seeds behind them.
        proved: Whether the claim is mathematics that the tests repeat.
    """
    if DOES_NOT_HOLD in outcomes:
        return DOES_NOT_HOLD
    if (outcomes or proved) and all(each == HOLDS for each in outcomes):
        return HOLDS
    return f"cannot be told with {seeds} seed{'' if seeds == 1 else 's'}"


def claims_table(claims: Sequence[Claim], records: Mapping[str, Record]) -> Table:
    """Return the table of a paper's claims. Holm's correction is over all tests of the table."""
    found = [[_tested(each, records) for each in claim.predictions] for claim in claims]
    adjusted = iter(holm([each.p for own in found for each in own if each.p is not None]))
    corrected = [[None if each.p is None else next(adjusted) for each in own] for own in found]
    table = [["claim", "test", "power", "controls", "verdict"]]
    for claim, own, p_values in zip(claims, found, corrected, strict=True):
        quoted = [(each, each.look(records)) for each in claim.quoted]
        planned = [] if claim.planned is None else [_tested(claim.planned, records)]
        outcomes = [each.outcome(p) for each, p in zip(own, p_values, strict=True)]
        of_figures = [each.n or 1 for each in (*(each.measured for each in own), *(each for _, each in quoted))]
        seeds = min(of_figures, default=0) if claim.seeds is None else claim.seeds
        tests = [
            *(each.test(p) for each, p in zip(own, p_values, strict=True)),
            *(each.shown(measured) for each, measured in quoted),
            *(f"`{proof.partition('::')[2]}`" for proof in claim.proofs),
        ]
        powers = [text for text in dict.fromkeys(each.power() for each in (*own, *planned)) if text != NONE]
        controls = [*(each.shown(each.look(records)) for each in claim.controls), *filter(None, [claim.control])]
        said = f"**{verdict(outcomes, seeds, bool(claim.proofs))}**"
        table.append(
            [
                f"{claim.claim} ({claim.source})",
                ": ".join(filter(None, [claim.how, "; ".join(tests)])),
                "; ".join(powers) or NONE,
                "; ".join(controls) or NONE,
                ": ".join(filter(None, [said, claim.because])),
            ]
        )
    return table


def _tested(prediction: Prediction, records: Mapping[str, Record]) -> _Tested:
    measured = prediction.look(records)
    other = next((each for each in (prediction.above, prediction.below) if each is not None), 0.0)
    value = prediction.look(records, other).figure.value if isinstance(other, str) else other
    if prediction.between is not None:
        return _Tested(prediction, measured, value, None)
    if prediction.usually:
        return _Tested(prediction, measured, value, sign_test(round(measured.figure.value), measured.n or 0))
    return _Tested(prediction, measured, value, measured.estimate.p_value(value))
