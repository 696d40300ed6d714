"""The ratio α(x) = p_g(x) / p_r(x) of the generated density to the real one, as a discriminator implies it.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, section 2, Corollaries 1 to 3, and section 5, which
    asks for "some metrics" from this ratio "to help us train the GAN model".

The paper's statements hold for an optimal D. A trained D is not optimal, and errs most in regions of few training
images. The figures here are of the α that D implies.
"""

from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import NonFiniteError, SettingError, above, at_least, one_of
from gan_lightning.system.private_names import BatchNorm
from gan_lightning.system.processes import batch_norm_alone
from gan_lightning.training.generator_updates import resting_statistics

LogRatio = Float[Tensor, " images"]
"""log α of each image, in nats."""

BatchNormOfJudge = Literal["batch", "running"]
"""Statistics of D's batch norm: `batch` takes them from the judged images, `running` were gathered in training."""

Watched = Literal["distance", "spread"]

NORMAL_QUARTILES = 1.3489795003921634
"""Distance between the quartiles of a normal distribution, in standard deviations."""


def density_ratio(real_logits: Float[Tensor, " images"]) -> Float[Tensor, " images"]:
    """Return α(x) = p_g(x) / p_r(x) as an optimal discriminator implies it.

    Args:
        real_logits: D's output for real images, before the sigmoid.

    Returns:
        Ratio per image; 1 for an image that is equally likely generated and real.

    Source:
        Mao et al. 2022, Corollary 1: D*(x) = 1 / (1 + α(x)).
    """
    return torch.exp(-real_logits)


def log_density_ratio(real_logits: Float[Tensor, " images"]) -> LogRatio:
    """Return log α(x). No logit makes it overflow.

    Args:
        real_logits: D's output for real images, before the sigmoid.

    Returns:
        In nats; 0 for an image that is equally likely generated and real, negative if the generator makes too few such
        images.

    Raises:
        NonFiniteError: If a logit is NaN or infinite.

    Source:
        Mao et al. 2022, Corollary 1.
    """
    finite = torch.isfinite(real_logits)
    if not bool(finite.all()):
        raise NonFiniteError(
            f"The discriminator's logits for real images must be finite, got {int((~finite).sum())} of {len(finite)} "
            "that are not. Look for NaN in the images and in the discriminator's weights, and try lower learning rates."
        )
    return -real_logits


def correlation(log_ratio: LogRatio, earlier: Float[Tensor, " earlier_images"]) -> float | None:
    """Return Pearson's correlation of log α with the log α of an earlier check on the same images.

    Returns:
        In [-1, 1]. It is near 1 if D still asks for the same images. It is negative if D now asks for images that it
        had enough of: the jumping of Corollary 2. None if one of the two is constant.

    Raises:
        SettingError: If the two are not of equally many images.

    Source:
        Mao et al. 2022, proof of Corollary 2: "the distribution of generated sample will jump from a limited range to
        another limited range".
    """
    if len(log_ratio) != len(earlier):
        raise SettingError(
            f"log_ratio must be of the same images as the earlier one, got {len(log_ratio)} and {len(earlier)} values."
        )
    one, other = (each.double() - each.double().mean() for each in (log_ratio, earlier))
    scale = one.norm() * other.norm()
    return (one @ other / scale).clamp(-1, 1).item() if scale > 0 else None


@dataclass(frozen=True)
class RatioStatistics:
    """log α over some real images, in nats.

    Attributes:
        mean: Mean; -E log α is D's mean logit.
        spread: Standard deviation; 0 if α is constant, as Corollary 2 asks.
        robust_spread: Distance between the quartiles, divided by a normal distribution's: a standard deviation that a
            few images cannot move.
        distance: Root mean square: the distance of α from the equilibrium's 1, by its mean and its spread.
        q05: The quantile at 5%: images that the generator makes too few of.
        q25: At 25%.
        q50: The median.
        q75: At 75%.
        q95: At 95%.
        correlation: With the check before; None at the first check, and if one of the two is constant.
    """

    mean: float
    spread: float
    robust_spread: float
    distance: float
    q05: float
    q25: float
    q50: float
    q75: float
    q95: float
    correlation: float | None

    def metrics(self) -> dict[str, float]:
        """Return the figures under their names."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def ratio_statistics(log_ratio: LogRatio, earlier: Float[Tensor, " earlier_images"] | None = None) -> RatioStatistics:
    """Return the statistics of log α.

    Args:
        log_ratio: log α of two images or more.
        earlier: log α of the same images, at the check before.

    Raises:
        SettingError: If there are fewer than two images, or `earlier` has another number of images.
    """
    if len(log_ratio) < 2:
        raise SettingError(f"log_ratio must be of at least 2 images, got {len(log_ratio)}: one has no spread.")
    values = log_ratio.double()
    q05, q25, q50, q75, q95 = values.quantile(values.new_tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
    return RatioStatistics(
        mean=values.mean().item(),
        spread=values.std().item(),
        robust_spread=(q75 - q25) / NORMAL_QUARTILES,
        distance=values.square().mean().sqrt().item(),
        q05=q05,
        q25=q25,
        q50=q50,
        q75=q75,
        q95=q95,
        correlation=None if earlier is None else correlation(log_ratio, earlier),
    )


@dataclass(frozen=True)
class AlarmRule:
    """The ratio says collapse if a figure of log α is several times its usual value in this run.

    The usual value is the median of the figure at earlier checks. The first checks are left out, because D knows
    nothing yet; so are all checks above the limit. There is no absolute limit: a collapse changes D's certainty less
    than another data set or network does.

    Args:
        watch: The figure: `distance`, the root mean square of log α, or `spread`, its standard deviation.
        factor: Limit, in multiples of the usual value.
        patience: Number of consecutive checks above the limit that makes an alarm.
        warm_up: Checks at the start that neither alarm nor count as usual.

    Raises:
        SettingError: If a setting is out of range.

    Source:
        The defaults were chosen on ten seeds of `benchmarks/density_ratio_alarm.py`, the patience on M-GANs of digits,
        too, and measured on others: `docs/results/mgan.md`.
    """

    watch: Watched = "distance"
    factor: float = 3.0
    patience: int = 2
    warm_up: int = 50

    def __post_init__(self) -> None:
        """Check the settings."""
        one_of(self, get_args(Watched), watch=self.watch)
        above(self, 1, "3 is usual.", factor=self.factor)
        at_least(self, 1, patience=self.patience)
        at_least(self, 0, warm_up=self.warm_up)


class Alarm:
    """A rule at work on one run's checks.

    Args:
        rule: The rule.
    """

    def __init__(self, rule: AlarmRule) -> None:
        self.rule = rule
        self._checks = self._above = 0
        self._usual: list[float] = []  # ascending

    @property
    def limit(self) -> float | None:
        """The limit for the next check, nats; None while there is no usual value yet."""
        if not self._usual:
            return None
        middle = len(self._usual) // 2
        return self.rule.factor * (self._usual[middle] + self._usual[~middle]) / 2

    def check(self, figure: float) -> bool:
        """Return whether there is an alarm at the next check.

        Args:
            figure: The value at this check of the figure that the rule watches.
        """
        self._checks += 1
        if self._checks <= self.rule.warm_up:
            return False
        # A multiple of a figure that has always been 0, such as a dead D's spread, says nothing.
        limit = self.limit
        above = limit is not None and figure > limit > 0
        if not above:
            insort(self._usual, figure)
        self._above = self._above + 1 if above else 0
        return self._above >= self.rule.patience


@contextmanager
def judging(model: nn.Module, batch_norm: BatchNormOfJudge = "batch") -> Iterator[None]:
    """Let a model judge images without a trace: no gradients, no dropout, and no change of the model.

    In training D sees a batch of real images with the batch's own statistics; its α refers to these. The running
    statistics mix real and generated images. With them D is another function of x, and no loss has trained this
    function. `batch` takes the statistics of the images at hand and leaves the running ones alone. The images must come
    as one batch.

    Afterwards each layer has its former mode, and the random state is unchanged.

    Args:
        model: With any number of layers of batch norm.
        batch_norm: The statistics of its batch norm.
    """
    modes = {layer: layer.training for layer in model.modules()}
    devices = {weight.device for weight in model.parameters() if weight.device.type == "cuda"}
    try:
        model.eval()
        for layer in model.modules():
            if isinstance(layer, BatchNorm):
                layer.train(batch_norm == "batch")
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=sorted(devices, key=str)),
            resting_statistics(model),
            batch_norm_alone(model),
        ):
            yield
    finally:
        for layer, training in modes.items():
            layer.training = training
