"""The served page: when it is made anew, and what is said when it cannot be served."""

import shutil
import socket
import struct
import threading
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from gan_lightning.dashboard import dashboard_command as command
from gan_lightning.dashboard.serve import Pages, make_server
from gan_lightning.errors import SettingError
from gan_lightning.system.locks import locked
from gan_lightning.system.trial_states import RUN_LOCK


@pytest.fixture
def served(ablation):
    """Yield a function that asks the server of the runs for a path, and the marks with which pages were made."""
    made = []

    def make_page(version: str) -> str:
        made.append(version)
        if len(made) == 3:
            raise SettingError("--x must be a setting of the runs")
        return f"page {version}"

    with make_server(Pages(ablation, make_page), 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()

        def get(path: str) -> str:
            with urlopen(f"http://127.0.0.1:{server.server_port}{path}") as answer:
                return answer.read().decode()

        get.port = server.server_port
        yield get, made
        server.shutdown()
        thread.join()


def test_a_page_is_made_anew_when_runs_have_changed_and_at_no_other_time(served, ablation, write_run):
    get, made = served
    assert made == [], "asking for the mark makes no page"
    before = get("/version")
    assert [get("/"), get("/?again"), get("/version")] == [f"page {before}", f"page {before}", before]
    assert made == [before]
    assert '"status": "finished"' in get("/0/seed0/run.json")
    write_run(ablation, "new", {"discriminator": 0.9, "classifier": 0.91}, seed=9, shares_removed=4)
    now = get("/version")
    assert now != before
    assert get("/") == f"page {now}"
    (ablation / "new/metrics.csv").write_text("step,train/generator_loss\n0,1\n")
    with pytest.raises(HTTPError, match="500") as refused:
        get("/")
    assert refused.value.read().decode() == "--x must be a setting of the runs"
    assert get("/") == f"page {get('/version')}", "and goes on"


def test_what_a_running_run_logs_is_news(served, ablation):
    get, _ = served
    (ablation / "0/seed0/figures.json").unlink()
    before = get("/version")
    (ablation / "0/seed0/metrics.csv").write_text("step\n0\n")
    now = get("/version")
    assert now != before
    shutil.rmtree(ablation / "0/seed0")
    assert get("/version") != now


def test_the_kill_of_a_run_is_news(served, ablation):
    get, _ = served
    with locked(ablation / "0/seed0" / RUN_LOCK):
        before = get("/version")
    assert get("/version") != before


def test_a_page_that_took_long_rests_before_it_is_made_again(ablation, write_run, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("gan_lightning.dashboard.serve.time.monotonic", lambda: clock[0])

    def make_page(version: str) -> str:
        clock[0] += 1
        return version

    pages = Pages(ablation, make_page)
    first = pages.page()
    write_run(ablation, "new", {"discriminator": 0.9}, seed=9)
    clock[0] = 10.9
    assert pages.page() == pages.version() == first
    clock[0] = 11.0
    assert pages.page() == pages.version() != first


def test_a_question_for_the_head_has_no_body_and_a_browser_that_leaves_ends_nothing(served, capfd):
    get, _ = served
    page = get("/")
    port = get.port
    for path, length in (("/", len(page)), ("/0/seed0/run.json", None)):
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", method="HEAD")) as answer:
            assert length is None or int(answer.headers["Content-Length"]) == length
            assert answer.read() == b""
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\n\r\n")
            browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it resets
    assert get("/") == page
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=99999"], "--port must be from 0, for any that is free, to 65535, got 99999"),
        (["--port={taken}"], "--port must be one that is free, got {taken}: Address already in use"),
        (["--port=0", "--x=depth"], "--x must be a setting of the runs, got 'depth'"),
        (["--out=page.html"], "--out must not be given with --serve"),
    ],
)
def test_what_cannot_be_served_is_said_at_once(ablation, arguments, message):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(SettingError) as refused:
            command.main([str(ablation), "--serve", *(argument.format(taken=taken) for argument in arguments)])
    assert message.format(taken=taken) in str(refused.value)
