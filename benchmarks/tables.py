"""Tables of what was measured, as the pages have them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Unit = Literal["s", "ms"]


def heading(*columns: str) -> list[str]:
    """Return a table's first two lines."""
    return [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]


def row_table(rows: Sequence[Mapping[str, Any]], unit: Unit) -> list[str]:
    """Return the lines of a table of comparisons.

    Args:
        rows: As `Comparison.figures` returns them.
        unit: Of times.
    """
    times = f"ours, {unit}", f"other, {unit}"
    lines = heading("row", "ours", "against", *times, "ratio", "from - to", "goal", "of matmul rate")
    factor = 1000 if unit == "ms" else 1
    for row in rows:
        replayed = row.get("replayed", True) or "graph" not in row["ours"]
        cells = [row["row"], row["ours"] + ("" if replayed else " (without a graph)"), row["other"] or "-"]
        if "failed" in row:
            cells += [f"failed: {row['failed'][:120]}", *"-----"]
        else:
            ratio, share, goal = row.get("ratio"), row.get("share_of_matmul_rate"), row["goal"]
            cells.append(f"{factor * row['our_seconds']:.4g}")
            if ratio:
                cells += [f"{factor * row['other_seconds']:.4g}", f"{ratio['median']:.3g}"]
                cells += [f"{ratio['min']:.3g} - {ratio['max']:.3g}", f"{goal:.3g}" if goal else "-"]
            else:
                seconds = [factor * each for each in row["all_seconds"]["ours"]]
                cells += ["-", "-", f"{min(seconds):.4g} - {max(seconds):.4g} {unit}"]
                cells.append(f"{factor * goal:.4g} {unit}" if goal else "-")
            cells.append("-" if share is None else f"{share:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def profile_table(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of profiled steps, as `Profiled.totals` has them with their row and variant."""
    lines = heading("step", "processor, ms", "GPU, ms", "kernels")
    for step in steps:
        times = f"{1000 * step['processor_seconds']:.3g} | {1000 * step['gpu_seconds']:.3g}"
        lines.append(f"| {step['row']}, {step['variant']} | {times} | {step['kernels']} |")
    return lines
