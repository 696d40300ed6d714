"""What stands beside a run's figures in its folder: its logged curves, its pictures and its command."""

import csv
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_POINTS = 120
"""Most points of a logged curve of a run; longer curves are drawn as means of this many stretches."""

_OF_AN_EPOCH = re.compile(r"(.+)-epoch-(\d+)")
"""The name of a picture that was drawn while training."""


def logged_of(folder: Path) -> dict[str, Sequence[tuple[float, float]]]:
    """Return the values in a run's `metrics.csv`, which may still grow: (step, value) by name."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    curves: dict[str, list[tuple[float, float]]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file, suppress(csv.Error):
        lines = csv.reader(file)
        names = next(lines, [])
        if "step" not in names:
            return {}
        at = names.index("step")
        for line in lines:
            for name, text in zip(names, line, strict=False):
                if text and name not in ("step", "epoch"):
                    try:
                        point = float(line[at]), float(text)
                    except (ValueError, IndexError):
                        continue  # a row that was cut off
                    if all(map(math.isfinite, point)):
                        curves.setdefault(name, []).append(point)
    return {name: _shortened(points) for name, points in curves.items()}


def pictures_of(folder: Path) -> dict[str, list[tuple[int | None, str]]]:
    """Return a run's pictures by name: the epoch, or None for the finished model, and the path in the run's folder."""
    found: dict[str, list[tuple[int | None, str]]] = {}
    for path in folder.glob("pictures/*.png"):
        match = _OF_AN_EPOCH.fullmatch(path.stem)
        name, epoch = (match[1], int(match[2])) if match else (path.stem, None)
        found.setdefault(name, []).append((epoch, f"pictures/{path.name}"))
    return {name: sorted(own, key=lambda each: (each[0] is None, each[0] or 0)) for name, own in sorted(found.items())}


def _shortened(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return a curve of at most `_POINTS` points, each the mean of a stretch."""
    size = -(-len(points) // _POINTS)
    stretches = [points[i : i + size] for i in range(0, len(points), size)]
    return [(stretch[-1][0], sum(value for _, value in stretch) / len(stretch)) for stretch in stretches]


def pasted(command: Any) -> list[str]:
    """Return a recorded command as one types it: `python -m gan_lightning` records the path of `__main__.py`."""
    words = [str(word) for word in command] if isinstance(command, list) else []
    return ["gan-lightning", *words[1:]] if words and words[0].endswith("__main__.py") else words
