"""What the discriminator says of real images and of generated ones.

D's output before the sigmoid is log D / (1 - D), which of an optimal D is -log α, in nats. The paper wants it to be the
same for all real images. How far apart they are is therefore put beside the gap between real and generated images.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, Corollaries 1 to 3 and Proposition 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import DataError, at_least
from gan_lightning.evaluation import drawn_images
from gan_lightning.evaluation.features import dtype_of
from gan_lightning.figures import Best, Figure
from gan_lightning.interfaces import GeneratesImages, Images, JudgesImages, Split
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.papers.mgan.density_ratio import BatchNormOfJudge, judging, log_density_ratio, ratio_statistics

OF_EACH = ("mean", "spread", "distance")
"""Names of the figures of each kind of images."""


@dataclass(frozen=True, kw_only=True)
class Verdicts(Measurement):
    """Measures the spread of D's output between real images, beside the gap to generated ones; off by default.

    Figures, all of D's output before the sigmoid, in nats: `verdicts/real/spread` is its standard deviation between
    test images, 0 if α is the same for all of them (Corollaries 2 and 3). `verdicts/real/distance` is its root mean
    square, 0 at the equilibrium (Proposition 3). `verdicts/real/mean` is its mean. The same figures are of `training`
    images, which D has seen, and of `generated` ones. `verdicts/gap` is the mean of the test images minus that of the
    generated images.

    A model whose D sees pairs judges each image with its E(x). With another loss than the logistic one D's output is no
    density ratio, and only comparisons of these figures mean something.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements while training; 0 measures after the training alone.
        images: Images of each kind, drawn at random; D sees each kind as one batch.
        batch_norm: Statistics of D's batch norm: `batch` takes them from the images of one kind, as in D's training;
            `running` takes the gathered ones, which mix real and generated images.
        seed: Of the drawn images and of the latents; by default the run's.

    Source:
        Mao et al. 2022, Corollaries 1 to 3, Proposition 3.
    """

    name: ClassVar[str] = "verdicts"
    needs: ClassVar[tuple[type, ...]] = (JudgesImages, GeneratesImages)

    enabled: bool = False
    images: int = 500
    batch_norm: BatchNormOfJudge = "batch"
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: One is out of range.
        """
        super().__post_init__()
        at_least(self, 2, images=self.images)

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no discriminator of images, no generator, or no images."""
        reason = super().passes_over(bench) or bench.without_images()
        if reason is None:
            with bench.undisturbed():
                images, _ = bench.images("test", 2)
                if self._logits(bench, images) is None:
                    return f"{bench.subject} has no discriminator of images"
        return reason

    def check(self, bench: Bench) -> None:
        """Check that there are two images of each split.

        Raises:
            DataError: There is one.
        """
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            if len(bench.images(split, 2)[0]) < 2:
                raise DataError(f"{self.name} needs two {split} images of {bench.data.name}, got one. Use more images.")

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the names of the figures. None is best: of a collapsed generator's D some are small, too."""
        of_kinds = {f"{self.name}/{kind}/{name}" for kind in ("real", "training", "generated") for name in OF_EACH}
        return dict.fromkeys(sorted(of_kinds | {f"{self.name}/gap"}))

    def run(self, bench: Bench) -> Outcome:
        """Return the figures."""
        kinds = {
            "real": ("test", self._drawn(bench, "test")),
            "training": ("train", self._drawn(bench, "train")),
            "generated": ("", self._generated(bench)),
        }
        figures: list[Figure] = []
        means: dict[str, float] = {}
        for done, (kind, (split, images)) in enumerate(kinds.items(), start=1):
            logits = self._logits(bench, images)
            assert logits is not None  # else it is passed over
            log_ratio = log_density_ratio(logits)
            found = ratio_statistics(log_ratio)
            means[kind] = -found.mean
            values = (means[kind], found.spread, found.distance)
            figures += [
                self.figure(name, value, condition=kind, split=split, images=len(images))
                for name, value in zip(OF_EACH, values, strict=True)
            ]
            bench.report("discriminator's output", done, len(kinds))
        gap = means["real"] - means["generated"]
        return Outcome([*figures, self.figure("gap", gap, images=len(kinds["real"][1]))])

    def _drawn(self, bench: Bench, split: Split) -> Images:
        return drawn_images(bench.batches(split), self.images, bench.seed_for(self.seed))

    def _generated(self, bench: Bench) -> Images:
        """Return images of all generators, as many of each."""
        generators = len(bench.generate(1, self.seed))
        return bench.generate(-(-self.images // generators), self.seed).flatten(0, 1)

    def _logits(self, bench: Bench, images: Images) -> Float[Tensor, " images"] | None:
        model = bench.model
        assert model is not None
        assert isinstance(model, JudgesImages)
        with judging(model, self.batch_norm):
            return model.real_logits(images.to(dtype_of(model)))
