"""What the tests read of a run."""

from pathlib import Path

from gan_lightning.figures import FILE, metrics, read_figures


def values(run: Path) -> dict[str, float]:
    """Return the figures of a run that stand alone, by their names."""
    return metrics(read_figures(run / FILE).figures)
