"""A picture of generated images."""

from dataclasses import dataclass
from typing import ClassVar

from gan_lightning.errors import at_least
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.interfaces import GeneratesImages
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.measurement import Measurement, Outcome


@dataclass(frozen=True, kw_only=True)
class Samples(Measurement):
    """Draws generated images, always from the same latents, so that pictures of different epochs can be compared.

    Each of several generators has a row.

    Args:
        enabled: Whether to draw at all.
        every_n_epochs: Epochs between two pictures while training; 0 draws after the training alone.
        columns: Images in a row.
        rows: Rows of a model with one generator.
        seed: Of the latents; by default the run's.
    """

    name: ClassVar[str] = "samples"
    needs: ClassVar[tuple[type, ...]] = (GeneratesImages,)

    enabled: bool = True
    every_n_epochs: int = 1
    columns: int = 10
    rows: int = 4
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 1, columns=self.columns, rows=self.rows)

    def run(self, bench: Bench) -> Outcome:
        """Return the picture."""
        images = bench.generate(self.columns, self.seed)
        if len(images) == 1 and self.rows > 1:
            images = bench.generate(self.columns * self.rows, self.seed)[0].unflatten(0, (self.rows, self.columns))
        return Outcome(pictures={"": rows_picture(images)})
