"""Serves the page on this machine and makes it anew while runs go on."""

import functools
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from urllib.parse import urlsplit

from gan_lightning.dashboard.run_folders import folders_of
from gan_lightning.errors import SettingError, UserError
from gan_lightning.figures import FILE
from gan_lightning.system.locks import is_locked
from gan_lightning.system.trial_states import RUN_LOCK, TRIAL_LOCK

HOST = "127.0.0.1"
_REST = 10
"""Times that a page took to be made for which it stays, so that a large one does not keep a core busy."""

_PORTS = 65535


class Pages:
    """The page of a folder; it is made again when the runs have changed.

    Args:
        runs: The folder.
        make_page: Makes the page with a version mark. The page finds changes by this mark.
    """

    def __init__(self, runs: Path, make_page: Callable[[str], str]) -> None:
        self.runs, self.make_page = runs, make_page
        self._lock = Lock()
        self._page, self._version, self._until = "", "", 0.0

    def version(self) -> str:
        """Return the version mark: the last page's while it rests, else of the source files' times, sizes and locks."""
        if time.monotonic() < self._until:
            return self._version
        runs, trials = folders_of(self.runs)
        files = [run / name for run in runs for name in ("run.json", FILE, "metrics.csv")]
        files += [trial / "trial.json" for trial in trials]
        state: list[tuple[str, int, int]] = [(str(path), *_time_and_size(path)) for path in files]
        held = [run / RUN_LOCK for run in runs] + [trial / TRIAL_LOCK for trial in trials]
        # A killed process leaves its files as they are.
        state += [(str(path), int(is_locked(path)), 0) for path in held]
        return hashlib.sha256(str(sorted(state)).encode()).hexdigest()[:16]

    def page(self) -> str:
        """Return the present page.

        Raises:
            SettingError: If it cannot be drawn with the given settings.
        """
        with self._lock:
            if (version := self.version()) != self._version:
                began = time.monotonic()
                self._page, self._version = self.make_page(version), version
                self._until = time.monotonic() + _REST * (time.monotonic() - began)
            return self._page


def _time_and_size(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


class Handler(SimpleHTTPRequestHandler):
    """Answers `/` with the page, `/version` with its mark, and other paths with the files of the runs."""

    def __init__(self, *args: object, pages: Pages, **kwargs: object) -> None:
        self.pages = pages
        super().__init__(*args, directory=str(pages.runs), **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer; a browser may leave before the end."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._answer_path()

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def _answer_path(self) -> None:
        path = urlsplit(self.path).path
        if path == "/version":
            self._answer(HTTPStatus.OK, "plain", self.pages.version())
        elif path == "/":
            try:
                self._answer(HTTPStatus.OK, "html", self.pages.page())
            except UserError as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "plain", str(error))
        elif self.command == "HEAD":
            super().do_HEAD()
        else:
            super().do_GET()

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests."""


def make_server(pages: Pages, port: int) -> ThreadingHTTPServer:
    """Return a server for this machine alone; port 0 takes a free one.

    Raises:
        SettingError: If the port is not a port, or is taken.
    """
    if not 0 <= port <= _PORTS:
        raise SettingError(f"--port must be from 0, for any that is free, to {_PORTS}, got {port}.")
    try:
        return ThreadingHTTPServer((HOST, port), functools.partial(Handler, pages=pages))
    except OSError as error:
        raise SettingError(f"--port must be one that is free, got {port}: {error.strerror}.") from error
