"""Runs the command line and kills its own process, with SIGKILL, at the place that the first argument names.

Places: `never`; `time:<seconds>` after the run's folder was made; `write:<n>:<share>` in the n-th write of a
checkpoint, when that share of it is in the file; `transfer:<n>:<seconds>` so long after the n-th transfer evaluation
began.
"""

import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

import gan_lightning.runs.run_folder
from gan_lightning.__main__ import main
from gan_lightning.measurements import Transfer


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(module: Any, name: str, number: int, seconds: float) -> None:
    """Die so long after a function was called for the n-th time."""
    original, calls = getattr(module, name), []

    def called(*arguments: Any, **settings: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            timer = threading.Timer(seconds, die)
            timer.daemon = True
            timer.start()
        return original(*arguments, **settings)

    setattr(module, name, called)


def in_write(number: int, share: float) -> None:
    """Die in the n-th `torch.save`."""
    original, calls = torch.save, []

    def save(content: Any, file: Any, **settings: Any) -> None:
        if settings:  # a tensor that is pickled on its own
            return original(content, file, **settings)
        calls.append(file)
        whole = io.BytesIO()
        original(content, whole)
        if len(calls) == number:
            file.write(whole.getvalue()[: int(share * whole.tell())])
            file.flush()
            die()
        file.write(whole.getvalue())
        return None

    torch.save = save


if __name__ == "__main__":
    place, *numbers = sys.argv.pop(1).split(":")
    sys.argv[0] = str(Path(__file__).name)
    if place == "time":
        after(gan_lightning.runs.run_folder, "write_json", 1, float(numbers[0]))
    elif place == "write":
        in_write(int(numbers[0]), float(numbers[1]))
    elif place == "transfer":
        after(Transfer, "run", int(numbers[0]), float(numbers[1]))
    main()
