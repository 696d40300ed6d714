"""What the tests of resumed runs share: small runs of every model, ways to end them, and what has to be equal."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from gan_lightning import papers
from gan_lightning.figures import FILE

KNOWN = [getattr(papers, name) for name in papers.__all__]  # what checkpoints may hold is known with them


class Dies(BaseException):
    """Something that nobody catches."""


class At(Callback):
    """Does something, once, in a hook.

    Args:
        hook: Where.
        step: At the first call of the hook after so many batches.
        do: What.
    """

    def __init__(self, hook: str, step: int, do: Callable[[], object]) -> None:
        def once(trainer: Any, *_: Any, **__: Any) -> None:
            if trainer.global_step >= step and not trainer.sanity_checking and not self.done:
                self.done = True
                do()

        self.done = False
        setattr(self, hook, once)


def dies() -> None:
    """End the run as nothing in it expects."""
    raise Dies


def terminate() -> None:
    """Tell this process to end."""
    os.kill(os.getpid(), signal.SIGTERM)


def checkpoint_of(run: Path) -> dict[str, Any]:
    """Return the newest checkpoint of a run."""
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def same(one: Any, other: Any) -> bool:
    """Return whether two nested values are the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def without_times(value: Any) -> Any:
    """Return what was measured without how long it took, and without where the run was resumed."""
    if isinstance(value, dict):
        left_out = ("seconds", "checkpoint", "measured")
        return {name: without_times(each) for name, each in value.items() if name not in left_out}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def without_pythons(streams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the streams without Python's own: `rich` draws from it whenever it makes a new style."""
    return [{name: state for name, state in of_process.items() if name != "python"} for of_process in streams]


def differing(resumed: Path, straight: Path) -> list[str]:
    """Return what of a resumed run is not, bit for bit, what it is in one that was never stopped."""
    ours, theirs = checkpoint_of(resumed), checkpoint_of(straight)
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step")
    found = [part for part in parts if not same(ours[part], theirs[part])]
    if not same(without_pythons(ours["random_streams"]), without_pythons(theirs["random_streams"])):
        found.append("random_streams")
    # Where the checkpoints lie is another folder.
    states = [
        {key: without_times(state) for key, state in each["callbacks"].items() if not key.startswith("Checkpoints")}
        for each in (ours, theirs)
    ]
    found += [] if same(*states) else ["callbacks"]
    if (resumed / "metrics.csv").read_text() != (straight / "metrics.csv").read_text():
        found.append("metrics.csv")
    files = [run / FILE for run in (resumed, straight)]
    written = [without_times(json.loads(file.read_text())) if file.is_file() else None for file in files]
    found += [] if same(*written) else [FILE]
    pictures = [
        {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*.png")} for run in (resumed, straight)
    ]
    return found + sorted({name for name, _ in pictures[0].items() ^ pictures[1].items()})
