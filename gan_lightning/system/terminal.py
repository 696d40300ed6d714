"""The one way to the terminal: no output can end or change a run.

A user's names are shown as they are, never read as markup. The work goes on if nobody reads the output any more, such
as behind a closed pipe, or if its encoding lacks a letter.
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Return a console on the present standard output; it reads no markup."""
    # rich must be imported after Lightning. Otherwise Python's cache of types takes rich's Union[float, int] for
    # Lightning's Union[int, float], and `--trainer.limit_train_batches=1`, one batch, would be 1.0, all batches.
    from rich.console import Console

    return Console(markup=False, highlight=False, emoji=False)


def show(*what: Any, soft_wrap: bool = False) -> None:
    """Print texts or rich's tables; if nobody can read them, nothing happens."""
    with forgiving_output():
        console().print(*what, soft_wrap=soft_wrap)


class _Forgiving:
    """A text stream whose reader may go away; it then writes nowhere.

    Args:
        stream: The stream that it writes to.
        says_so: Stream for one message that nothing is written any more; None gives no message.
    """

    def __init__(self, stream: Any, says_so: "_Forgiving | None" = None) -> None:
        self._stream = stream
        self._says_so = says_so
        self._gone = False

    def write(self, text: str) -> int:
        """Write, as far as somebody reads."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, as far as somebody reads."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, as far as somebody reads."""
        self._try(self._stream.flush)

    def _try(self, do: Any, *arguments: str) -> None:
        if self._gone:
            return
        try:
            try:
                do(*arguments)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                do(*(text.encode(encoding, "replace").decode(encoding) for text in arguments))
        except BlockingIOError:
            pass  # a slow reader of a non-blocking stream misses some text
        except Exception as error:  # closed or full, in one way or another
            self._gone = True
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Let all writes to the same descriptor go nowhere, too; say so if another stream is still open."""
        with contextlib.suppress(Exception):
            descriptor = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
        if self._says_so is not None:
            why = "nobody reads the output any more" if isinstance(error, BrokenPipeError) else "the output is lost"
            self._says_so.write(f"gan-lightning: {why} ({error}); the work goes on.\n")
            self._says_so.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_standard_descriptors() -> None:
    """Open closed standard descriptors. Otherwise a file opened later would take the place of an output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Let every failure to print meanwhile be harmless."""
    before = sys.stdout, sys.stderr
    if isinstance(before[0], _Forgiving) or isinstance(before[1], _Forgiving):
        yield
        return
    with contextlib.ExitStack() as stack:
        if None in before:  # as behind `>&-`
            _open_standard_descriptors()
        out, err = (
            stack.enter_context(Path(os.devnull).open("w", encoding="utf-8")) if stream is None else stream
            for stream in before
        )
        errors = _Forgiving(err)
        output = _Forgiving(out, says_so=errors)
        sys.stdout, sys.stderr = output, errors
        try:
            yield
        finally:
            output.flush()
            errors.flush()
            sys.stdout, sys.stderr = before
