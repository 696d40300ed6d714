"""Nothing that is printed can end or change the work."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from gan_lightning.system.terminal import forgiving_output, show

ROOT = Path(__file__).parents[2]
SHOW = """
import sys
from rich import get_console
from gan_lightning.system.terminal import forgiving_output, show
with forgiving_output():
    for i in range(300):
        show(f"line {i} [x] [/q] ü ‖")
        print("by print", i)
        get_console().print("by rich's own console")
    sys.stderr.write("the work was done\\n")
"""


@pytest.mark.parametrize("settings", [{}, {"PYTHONIOENCODING": "ascii"}])
def test_a_reader_that_goes_away_ends_nothing_and_one_line_says_so(settings):
    process = subprocess.Popen(
        [sys.executable, "-c", SHOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | settings
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert (process.wait(240), "the work was done" in errors) == (0, True), errors
    assert errors.count("nobody reads the output any more") == 1
    process.stderr.close()


def test_outputs_that_were_closed_before_the_process_began_are_nowhere_and_no_file_takes_their_place(tmp_path):
    writes = "; ".join([
        "import os, sys", "from gan_lightning.system.terminal import forgiving_output, show",
        "held = forgiving_output()",
        "held.__enter__()", "file = open('it', 'w')", "show('text')", "print('text', file=sys.stderr)",
        "os.write(1, b'from elsewhere')", "file.close()", "held.__exit__(None, None, None)",
    ])  # fmt: skip
    command = f'exec "{sys.executable}" -c "{writes}" >&- 2>&-'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=240, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    assert (tmp_path / "it").read_text() == ""


class Failing(io.StringIO):
    """A stream that fails after some letters, in its own way."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.failures = list(errors)

    def write(self, text: str) -> int:
        if self.failures:
            raise self.failures.pop(0)
        return super().write(text)


def test_a_reader_that_is_slow_misses_some_and_reads_on(monkeypatch):
    stream = Failing(BlockingIOError(11, "Resource temporarily unavailable"))
    monkeypatch.setattr(sys, "stdout", stream)
    with forgiving_output():
        sys.stdout.write("one")
        sys.stdout.writelines(["two", "three"])
    assert stream.getvalue() == "twothree"


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([BrokenPipeError(32, "Broken pipe")], "nobody reads the output any more"),
        ([OSError(28, "No space left on device")], "the output is lost ([Errno 28] No space left on device)"),
        ([UnicodeEncodeError("ascii", "ü", 0, 1, "no"), BrokenPipeError(32, "Broken pipe")], "nobody reads"),
    ],
    ids=["reader", "disk", "letter"],
)
def test_what_is_lost_is_said_once_and_also_while_a_bar_stands_for_the_output(monkeypatch, capsys, errors, said):
    from rich.progress import Progress

    monkeypatch.setattr(sys, "stdout", Failing(*errors))
    with forgiving_output(), Progress() as bars:
        bars.add_task("work", total=1)
        print("text")
        print("text")
    captured = capsys.readouterr().err
    assert (captured.count(said), captured.count("the work goes on")) == (1, 1)


class Broken(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [Broken(), io.StringIO()], ids=["full disk", "closed"])
def test_an_output_that_cannot_be_written_to_is_dropped(monkeypatch, stream):
    if not isinstance(stream, Broken):
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    show("text")
    with forgiving_output():
        print("text")
    assert sys.stdout is stream


def test_letters_that_an_encoding_lacks_are_replaced(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    show("‖x‖ is plain")
    assert stream.buffer.getvalue() == b"?x? is plain\n"


def test_names_are_never_read_as_markup(capsys):
    table = Table(title="[red]title")
    table.add_column("[/a]")
    table.add_row("[bold]x[/bold] :smile:")
    show("[lab]runs", table)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("[lab]runs", "[red]title", "[/a]", "[bold]x[/bold] :smile:"))
