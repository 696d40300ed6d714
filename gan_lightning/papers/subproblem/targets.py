"""Targets of a generator without a discriminator: real images, each with a generated image that is to become it.

The second part of a generator's step, the regression, takes any targets. Here the nearest images are searched, and no
network is inverted. A model's discriminator goes on training; the generator gets nothing from it.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 7: "a variety of non-adversarial
    target-generation procedures [...] become admissible".

Deviations, where the paper is silent:
    - The images of one batch are searched. Li & Malik 2018 draw more generated images than they have real ones, and
      step several times on one assignment; here each batch is assigned anew, and the model says how many images it
      generates.
    - Images are compared by their pixels. Hoshen et al. 2019 compare embeddings that they learn first.
    - Several processes search among their own images each.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from gan_lightning.errors import SettingError, settings_of
from gan_lightning.interfaces import Images
from gan_lightning.losses import Scalar
from gan_lightning.nets.resizing import resized
from gan_lightning.papers.subproblem.regressions import (
    ImageRegression,
    InverseExample,
    PerceptualNetwork,
    Regression,
    RegressionOptimizer,
)
from gan_lightning.training.generator_updates import GeneratorLoss, GeneratorUpdate

Others = Float[Tensor, "others channels height width"]
"""Images of the same size, more or fewer."""


class Targets(ABC):
    """The choice of a generator's targets. A subclass is a frozen dataclass, so that checkpoints may hold it.

    The choice is part of a training step, which may be recorded as a graph: it reads no tensor on the host.
    """

    def __init_subclass__(cls) -> None:
        """Let checkpoints hold the settings, although loading runs no code of theirs."""
        torch.serialization.add_safe_globals([cls])

    @abstractmethod
    def find(self, loss: GeneratorLoss) -> InverseExample:
        """Return targets, and the generated image that each belongs to.

        Args:
            loss: The model's generator loss, with the generated and the real images of the batch.
        """


@dataclass(frozen=True)
class ImplicitMaximumLikelihood(Targets):
    """Each real image is the target of the generated image that is nearest to it.

    No real image is left out, so no mode of the data can be dropped. A generated image may have several targets. One
    without a target is not regressed: the generator may make it as it likes.

    Source:
        Li & Malik 2018, *Implicit Maximum Likelihood Estimation*; named in Weber 2021, section 7.
    """

    def find(self, loss: GeneratorLoss) -> InverseExample:
        """Return the real images as targets.

        Raises:
            SettingError: The model gives no real images.
        """
        generated, real = image_pair(loss)
        chosen = nearest(real, generated)
        start = generated[chosen]
        return InverseExample(start, real - start, chosen)


@dataclass(frozen=True)
class NearestRealImages(Targets):
    """Each generated image has the nearest real image as its target.

    Nothing pulls the generator to real images that are nearest to none of its own.

    Source:
        Weber 2021, section 7, which asks whether other methods "nudge the generator distribution progressively nearer
        to the data distribution".
    """

    def find(self, loss: GeneratorLoss) -> InverseExample:
        """Return a real image for each generated one.

        Raises:
            SettingError: The model gives no real images.
        """
        generated, real = image_pair(loss)
        return InverseExample(generated, real[nearest(generated, real)] - generated)


@dataclass(frozen=True)
class TargetRegression(GeneratorUpdate):
    """A generator's step as a regression on targets that no discriminator has made.

    Args:
        targets: The choice of the targets: `ImplicitMaximumLikelihood`, `NearestRealImages`, or a class of your own.
        regression: Distance of the generator's output from the targets: `sum`, `half_sum` or `mean` of squares, `l1`,
            `ssim` or `perceptual`.
        perceptual: The network of `perceptual`.
        regression_rate: η_reg, a factor of the regression's gradient.
        regression_optimizer: Optimizer of this gradient: the generator's `own`, or `sgd`, θ - η_reg ∇ℓ without
            momentum, decay or schedule.

    Raises:
        SettingError: If a setting is out of range.

    Source:
        Weber 2021, section 7; eq. 11, which the defaults are.
    """

    targets: Targets
    regression: Regression = ImageRegression.regression
    perceptual: PerceptualNetwork | None = None
    regression_rate: float = ImageRegression.regression_rate
    regression_optimizer: RegressionOptimizer = ImageRegression.regression_optimizer

    def __post_init__(self) -> None:
        """Check the settings."""
        with settings_of(self):
            self.as_regression()

    def as_regression(self) -> ImageRegression:
        """Return the regression on the targets.

        Raises:
            SettingError: One of its settings is out of range.
        """
        return ImageRegression(self.regression, self.perceptual, self.regression_rate, self.regression_optimizer)

    @property
    def plain_descent(self) -> bool:
        """Whether θ moves by η_reg ∇ℓ itself."""
        return self.as_regression().plain_descent

    def check(self, channels: int, image_size: int) -> None:
        """Check that the regression can compare such images.

        Raises:
            SettingError: If they are too small for SSIM, or the perceptual network does not take them.
        """
        with settings_of(self):
            self.as_regression().check(channels, image_size)

    def objective(self, loss: GeneratorLoss, *, retain_graph: bool = False) -> Scalar:
        """Return η_reg ℓ(x(θ), x'). The discriminator's graph has no part in it."""
        return self.as_regression().objective(loss.images, self.targets.find(loss))


def image_pair(loss: GeneratorLoss) -> tuple[Images, Others]:
    """Return the generated and the real images of a batch, of one size and without a graph, in float32 or more.

    Raises:
        SettingError: The model gives no real images.
    """
    if loss.real is None:
        raise SettingError(
            "real must be given for targets that are real images, got None. Let the model give its batch to its "
            "GeneratorLoss."
        )
    generated = loss.images.detach().to(torch.promote_types(loss.images.dtype, torch.float32))
    return generated, resized(loss.real, generated.shape[-1]).to(generated.dtype)


def nearest(images: Images, among: Others) -> Int64[Tensor, " batch"]:
    """Return for each image the number of the nearest other one, by the Euclidean distance of their pixels.

    The differences themselves are squared and summed: a matrix product would confuse images that are nearly the same.
    """
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(images.flatten(1), among.flatten(1), compute_mode=mode).argmin(1)
