"""Makes records of runs, and the tables of the pages of records.

    python -m benchmarks.results record runs/mgan-shared-layers-mnist --into docs/results/records/mgan/mnist.json
    python -m benchmarks.results tables

`record` reads the run folders below some folders and writes one file. `tables` writes every table of docs/results, and
that of the README, between its two marks; `--check` only says which pages it would change.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.results.claims import CLAIMS, claims_table, read_claims
from benchmarks.results.layouts import LAYOUTS
from benchmarks.results.overviews import about, leaderboard, list_of_records
from benchmarks.results.recording import record_of
from benchmarks.results.records import Record, read_records, write_record
from benchmarks.results.tables import PAGES, Maker, Table, table_maker, with_tables
from gan_lightning.errors import DataError, UserError, exit_with
from gan_lightning.system.files import write_text


def makers(records: Mapping[str, Record]) -> dict[str, Maker]:
    """Return the makers of all tables, by the first word of their marks."""

    def board(name: str) -> Table:
        data, _, probe = name.partition("/")
        return leaderboard(data, probe, records)

    def behind(name: str) -> Table:
        if name not in records:
            raise DataError(f"docs/results/records must have {name}.json, got no such record.")
        return about(records[name])

    return {
        **{name: table_maker(layout, records) for name, layout in LAYOUTS.items()},
        "about": behind,
        "claims": lambda name: claims_table(read_claims(CLAIMS / f"{name}.json"), records),
        "leaderboard": board,
        "records": lambda _: list_of_records(records),
    }


def changed(records: Mapping[str, Record], pages: Sequence[Path] = PAGES) -> dict[Path, str]:
    """Return the pages whose tables are not those of the records, with their new text."""
    made = partial(with_tables, makers=makers(records))
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    return {page: new for page, text in texts.items() if (new := made(text)) != text}


def main(given: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="write the record of some run folders")
    recording.add_argument("folders", nargs="+", type=Path, help="folders of runs, or of a sweep's trials")
    recording.add_argument("--into", type=Path, required=True, help="the record")
    for name, what in {
        "method": "the model in words",
        "images": "the data in words",
        "width": "of the networks, beside the paper's",
        "epochs": "of training, beside the paper's",
        "device": "the machine in words",
        "wall_time": "if other work ran, too",
    }.items():
        recording.add_argument(f"--{name}", help=what)
    recording.add_argument("--only", nargs="+", help="patterns of the recorded figures' names; of these the newest")
    recording.add_argument("--logged", nargs="+", help="names of logged values: their mean at the end is recorded")
    recording.add_argument(
        "--commands", nargs="+", help="command lines without folders of a machine, for those of the runs"
    )
    recording.add_argument("--notes", nargs="+", help="sentences that a reader of the figures needs")
    tables = commands.add_parser("tables", help="write the tables of all pages")
    tables.add_argument("--check", action="store_true", help="write nothing, and end with status 1 on a difference")
    settings = vars(parser.parse_args(given))
    try:
        if settings.pop("command") == "record":
            into = settings.pop("into")
            chosen = {name: settings.pop(name) or () for name in ("only", "logged")}
            record, left_out = record_of(settings.pop("folders"), **chosen, **settings)
            write_record(into, record)
            print(*(f"left out {each}" for each in left_out), into, sep="\n")
            return 0
        found = changed(read_records())
    except UserError as error:
        exit_with(error)
    for page, text in found.items():
        print(page)
        if not settings["check"]:
            write_text(page, text)
    return 1 if found and settings["check"] else 0


if __name__ == "__main__":
    sys.exit(main())
