"""Tables over all records: the leaderboards, what stands behind a table, and the list of records."""

import re
from collections.abc import Mapping, Sequence

from benchmarks.results.records import MINUS, NOT_RECORDED, Measured, Record, Runs
from benchmarks.results.tables import NONE, WORDS, Table, in_words
from gan_lightning.figures import PIXELS, Figure

SHOWN_COMMANDS = 2

COMMIT = re.compile(r"\b([0-9a-f]{10})[0-9a-f]{30}\b")
"""A commit's full name, of which the list shows the beginning."""


def leaderboard(data: str, probe: str, records: Mapping[str, Record]) -> Table:
    """Return all accuracies of a probe on a data set, the best first, with raw pixels and random weights among them.

    Controls of one method, layer and width share a line.
    """
    found: dict[tuple[str, ...], list[Measured]] = {}
    for name, record in records.items():
        for runs in record.runs if record.data == data else ():
            for measured in runs.measured:
                figure = measured.figure
                of_probe = (figure.measurement, figure.protocol, figure.metric) == ("transfer", probe, "accuracy")
                if of_probe and MINUS not in figure.subject and not figure.condition and not figure.is_point:
                    found.setdefault(_line(name, record, runs, figure), []).append(measured)
    best = sorted(found.items(), key=lambda item: -max(each.figure.value for each in item[1]))
    head = ["features of", "settings", "layer", "width", "epochs", "record", "accuracy", "n"]
    return [head, *([*line, _values(each), NONE if each[0].n is None else str(each[0].n)] for line, each in best)]


def _line(name: str, record: Record, runs: Runs, figure: Figure) -> tuple[str, ...]:
    if figure.subject == PIXELS:
        return ("**raw pixels**", record.images, NONE, NONE, NONE, NONE)
    layer = WORDS.get(figure.subject, figure.subject)
    if figure.weights == "random":
        return (f"**random weights** of {record.method}", NONE, layer, record.width, NONE, NONE)
    settings = {setting.replace("_", " "): str(value) for setting, value in runs.settings.items()}
    method = settings.pop("method", record.method)
    return (
        method,
        ", ".join(f"{setting} {value}" for setting, value in settings.items()) or NONE,
        layer,
        record.width,
        record.epochs,
        _link(name),
    )


def _link(name: str) -> str:
    return f"[{name}](records/{name}.json)"


def _values(measured: Sequence[Measured]) -> str:
    values = [each.figure.value for each in measured]
    return in_words(measured[0], 4) if min(values) == max(values) else f"{min(values):.4f} to {max(values):.4f}"


def about(record: Record) -> Table:
    """Return what stands behind a record's figures."""
    rows = [
        ["data", record.images],
        ["width", record.width],
        ["epochs", record.epochs],
        ["command", _commands(record.commands)],
        ["commit", record.commit],
        ["versions", record.versions],
        ["precision", record.precision],
        ["device", record.device],
        ["wall time", record.wall_time],
        *(["note", note] for note in record.notes),
    ]
    return [["", ""], *rows]


def _commands(commands: Sequence[str]) -> str:
    if not commands:
        return NOT_RECORDED
    shown = "; ".join(f"`{command}`" for command in commands[:SHOWN_COMMANDS])
    more = len(commands) - SHOWN_COMMANDS
    return f"{shown} and {more} more in the record" if more > 0 else shown


def list_of_records(records: Mapping[str, Record]) -> Table:
    """Return a row for each record."""
    head = ["record", "method", "data", "width", "epochs", "seeds", "commit"]
    rows = [
        [
            _link(name), record.method, record.data, record.width, record.epochs,
            str(max((len(runs.seeds) for runs in record.runs), default=0) or NONE), COMMIT.sub(r"\1", record.commit),
        ]
        for name, record in records.items()
    ]  # fmt: skip
    return [head, *rows]
