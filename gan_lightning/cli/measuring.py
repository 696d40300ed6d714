"""`gan-lightning measure`: a finished run, a folder of runs, or any networks."""

import json
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.cli.messages import user_error
from gan_lightning.cli.naming import GROUPS, OWN, classes_first, measure_arguments, named_measurements
from gan_lightning.cli.networks import names_networks, network_arguments, run_options
from gan_lightning.cli.parser import GanCLI
from gan_lightning.errors import MeasurementError, SettingError
from gan_lightning.figures import FILE, Figure, final_figures, read_figures
from gan_lightning.measurements.figure_tables import runs_table
from gan_lightning.system.terminal import show
from gan_lightning.system.yaml_files import check_arguments

_OF_NETWORKS = "model.networks."
"""Path of the networks' settings in the configuration, which the command line calls `network.`."""


def measure(arguments: Sequence[str]) -> None:
    """Measure a finished run, all runs below a folder, or networks.

    Args:
        arguments: `measure`, and a run's folder, `--runs FOLDER` or `--network ...`; then options.

    Raises:
        SettingError: There is nothing to measure, or a setting cannot be used.
        MeasurementError: Some of several runs could not be measured.
    """
    if names_networks(arguments):
        options = network_arguments(arguments)
        check_arguments(options)
        try:
            GanCLI([options[0], *classes_first(options[1:])])
        except SettingError as error:
            if not str(error).startswith(_OF_NETWORKS):
                raise
            said = str(error).removeprefix(_OF_NETWORKS)
            raise SettingError(said if said.startswith("network ") else f"network.{said}") from error
        return
    folder, options = _folder(arguments[1:])
    if folder is None:
        _measure_run([*arguments[:2], *run_options(arguments[2:])])
    else:
        _measure_all(runs_below(folder), run_options(options))


def _measure_run(arguments: Sequence[str]) -> None:
    options, folder = measure_arguments(arguments)
    check_arguments(options)
    GanCLI([options[0], *classes_first(options[1:])], finished=folder)


def _folder(options: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the value of `--runs`, and the other options."""
    words = list(options)
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name != "--runs":
            continue
        rest = words[place + 1 :]
        if not equals:
            value, rest = (rest[0], rest[1:]) if rest else ("", [])
        if place and not words[0].startswith("-"):
            raise SettingError(f"measure must be given a run or --runs, got both ({words[0]!r}). Leave one out.")
        return value, [*words[:place], *rest]
    return None, words


def _measure_all(runs: Sequence[Path], options: Sequence[str]) -> None:
    """Measure runs one after another, and show the figures of all in one table.

    A run that cannot be measured does not keep the others from it.
    """
    named = set(named_measurements(options)) & GROUPS.keys()
    whole = not named or OWN in named_measurements(options)
    failed: dict[str, str] = {}
    figures: dict[str, list[Figure]] = {}
    for run in runs:
        try:
            _measure_run(["measure", str(run), *options])
        except Exception as error:
            if (refused := user_error(error)) is None:
                raise
            failed[str(run)] = str(refused)
            show(f"{run}: {refused}", soft_wrap=True)
        if (run / FILE).is_file():
            found = final_figures(read_figures(run / FILE).figures)
            figures[run.name] = [each for each in found if whole or each.measurement in named]
    show(runs_table(f"{len(figures)} runs", figures))
    if failed:
        first, reason = next(iter(failed.items()))
        raise MeasurementError(
            f"{len(failed)} of {len(runs)} runs could not be measured, such as '{first}' ({reason.rstrip('.')}). All "
            "others are measured and written."
        )


def runs_below(folder: str) -> list[Path]:
    """Return the folders of trained runs below a folder, oldest first.

    Raises:
        SettingError: There is no such folder, or none in it.
    """
    if not folder or not Path(folder).is_dir():
        raise SettingError(f"runs must be a folder of runs, got '{folder}', which is none.")
    found = sorted((file.parent for file in Path(folder).rglob("run.json")), key=lambda run: run.name)
    if not (runs := [run for run in found if _is_trained(run)]):
        raise SettingError(
            f"runs must be a folder with trained runs, got '{folder}', which holds none that has a config.yaml and a "
            "checkpoints/last.ckpt."
        )
    return runs


def _is_trained(run: Path) -> bool:
    try:
        about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    fitted = isinstance(about, dict) and about.get("stage", "fit") == "fit"
    return fitted and (run / "config.yaml").is_file() and (run / "checkpoints" / "last.ckpt").exists()
