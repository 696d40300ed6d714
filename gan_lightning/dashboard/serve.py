"""Serves the page on this machine and makes it anew while runs go on."""

import functools
from collections.abc import Callable
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gan_lightning.dashboard.page import page_version

HOST = "127.0.0.1"


class Handler(SimpleHTTPRequestHandler):
    """Answers `/` with the page, `/version` with its mark, and anything else with the files of the runs."""

    def __init__(self, *args: object, make_page: Callable[[], str], directory: str, **kwargs: object) -> None:
        self.make_page = make_page
        super().__init__(*args, directory=directory, **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer."""
        if self.path in ("/", "/version"):
            page = self.make_page()
            kind, text = ("html", page) if self.path == "/" else ("plain", page_version(page))
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request."""


def make_server(runs: Path, port: int, make_page: Callable[[], str]) -> ThreadingHTTPServer:
    """Return a server that only this machine can reach; port 0 takes a free one."""
    handler = functools.partial(Handler, make_page=make_page, directory=str(runs))
    return ThreadingHTTPServer((HOST, port), handler)
