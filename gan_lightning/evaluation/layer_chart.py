"""A picture of values over the depth of networks, a point per layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.curves import CHARACTER, COLOURS, GRID, INK, LINE, new_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Chart


@dataclass(frozen=True)
class DepthCurve:
    """The values of a network's layers.

    Attributes:
        trained: By the layers' names, from the images on.
        random: Of the same network with random weights; empty without a control.
    """

    trained: Mapping[str, float]
    random: Mapping[str, float]


def depth_chart(curves: Mapping[str, DepthCurve], levels: Mapping[str, float], title: str) -> "Chart":
    """Return a panel for each network: values over its layers, those of random weights dashed, and level lines.

    Args:
        curves: By the networks' names.
        levels: Values without layers, such as that of the pixels, by their names.
        title: Above the panels.

    Raises:
        SettingError: There is no curve.
    """
    if not curves:
        raise SettingError("curves must hold a network, got none.")
    longest = max(len(layer) for curve in curves.values() for layer in curve.trained)
    width = max(420, *(60 + LINE * 2 * len(curve.trained) for curve in curves.values()))
    chart = new_chart(width + CHARACTER * 16, len(curves) * (230 + CHARACTER * longest) + 40)
    rows = chart.subplots(len(curves), squeeze=False, sharey=True)[:, 0]
    for axes, (name, curve) in zip(rows, curves.items(), strict=True):
        at = {layer: place for place, layer in enumerate(curve.trained)}
        axes.plot(list(at.values()), list(curve.trained.values()), "-o", color=COLOURS[0], markersize=4)
        known = [layer for layer in at if layer in curve.random]
        axes.plot([at[each] for each in known], [curve.random[each] for each in known], "--o", color=COLOURS[1], ms=4)
        for number, value in enumerate(levels.values()):
            axes.axhline(value, color=INK, linestyle=(":", "-.")[number % 2], linewidth=1)
        named = {
            "trained": COLOURS[0],
            **({"random weights": COLOURS[1]} if known else {}),
            **dict.fromkeys(levels, INK),
        }
        marks = dict(zip(levels, (" (dotted)", " (dash-dotted)"), strict=False))
        for number, (text, colour) in enumerate(named.items()):
            beside = 8, -0.72 * LINE * number  # points
            label = text + marks.get(text, " (dashed)" if text == "random weights" else "")
            axes.annotate(label, (1, 1), beside, "axes fraction", "offset points", color=colour, va="top")
        axes.set_xticks(list(at.values()), list(at), rotation=90 if longest > 6 else 0, parse_math=False)
        axes.set_title(name, loc="left", size="medium", parse_math=False)
        axes.grid(axis="y", color=GRID)
        axes.spines[["top", "right"]].set_visible(False)
    chart.suptitle(title, x=0.01, ha="left", size="medium", parse_math=False)
    return chart
