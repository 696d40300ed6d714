"""`gan-lightning dashboard`: run folders in, one HTML page out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.run_folders import folders_of, read_folder
from gan_lightning.dashboard.serve import HOST, Pages, make_server
from gan_lightning.errors import SettingError
from gan_lightning.system.files import write_text
from gan_lightning.system.terminal import show

FOLLOW_SECONDS = 5.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of `gan-lightning dashboard`."""
    parser = argparse.ArgumentParser(
        prog="gan-lightning dashboard",
        description="Compare the runs below a folder, of sweeps or not, on one page that opens from disk.",
    )
    parser.add_argument("runs", type=Path, help="folder of runs, or of a sweep's trials")
    parser.add_argument("--out", type=Path, help="the page (default: dashboard.html in that folder)")
    parser.add_argument("--x", metavar="SETTING", help="the setting on the x axis (default: chosen by the runs)")
    parser.add_argument(
        "--inline", action="store_true", help="put the last pictures into the page, to have one file for sending"
    )
    parser.add_argument("--title", help="heading (default: the folder's name)")
    parser.add_argument("--serve", action="store_true", help="serve the page to this machine and follow running sweeps")
    parser.add_argument("--port", type=int, default=8000, help="port to serve at (default: 8000)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `gan-lightning dashboard`.

    Returns:
        The exit status.

    Raises:
        SettingError: If there is no such folder, it has no runs, the runs have no such setting, or the page cannot be
            served.
    """
    settings = parser().parse_args(arguments)
    runs: Path = settings.runs
    if not runs.is_dir():
        raise SettingError(f"runs must be a folder that exists, got '{runs}'.")
    if not any(folders_of(runs)):
        raise SettingError(f"runs must be a folder with runs, got '{runs}': no run.json or trial.json is below it.")
    title = settings.title or f"{runs.resolve().name}: what the runs say"
    if settings.serve:
        if settings.out is not None:
            raise SettingError(f"--out must not be given with --serve, which writes no file, got '{settings.out}'.")

        def make_page(version: str) -> str:
            return build_page(read_folder(runs), title, runs, settings.x, FOLLOW_SECONDS, version, settings.inline)

        pages = Pages(runs, make_page)
        with make_server(pages, settings.port) as server:
            pages.page()  # errors appear here, too, before the browser
            show(f"Serving at http://{HOST}:{server.server_port}/ until interrupted", soft_wrap=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return 0
    out: Path = settings.out or runs / "dashboard.html"
    found = read_folder(runs)
    write_text(out, build_page(found, title, out.parent, settings.x, inline=settings.inline))
    for left_out in found.left_out:
        show(f"left out {left_out.name}: {left_out.reason}", soft_wrap=True)
    show(f"{len(found.runs)} runs drawn, {len(found.left_out)} left out: {out}", soft_wrap=True)
    return 0
