"""The distances from inverse examples as a generator's objectives, and the objectives of the inverse examples.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, sections 3.1, 4.1 and 6.

Deviations:
    - An inverse example is kept as x and x' - x. At η_inv = 2e-4 a value of a batch of images moves by about 1e-7, the
      size of float32's rounding errors: a regression on the rounded x' would regress on these errors, too.
    - The ℓ1 loss is a sum. Under this reading its η_reg of 0.5 is the same as for the sum of squares.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.errors import SettingError, above, one_of
from gan_lightning.interfaces import Images
from gan_lightning.losses import Logits, Scalar
from gan_lightning.nets.user_network import imported_network, layer_outputs, tried_on_images
from gan_lightning.system.processes import process_count

LabelLoss = Literal["bce", "l2", "l1"]
"""Distances of D's label from "real"."""

ImageLoss = Literal["sum", "half_sum", "mean", "l1", "ssim"]
"""Distances of images from inverse examples; the perceptual one takes a network."""

Regression = Literal[ImageLoss, "perceptual"]
RegressionOptimizer = Literal["own", "sgd"]

VALUE_RANGE = (-1.0, 1.0)
"""Of images."""


@dataclass(frozen=True, eq=False)
class InverseExample:
    """Better images: x' = x + displacement.

    Attributes:
        start: x, the generator's image for each target.
        displacement: x' - x, more exact than x' itself in float32.
        chosen: The number of each target's image in the generator's batch; None if each image has one target, in order.
    """

    start: Images
    displacement: Images
    chosen: Int64[Tensor, " targets"] | None = None

    @property
    def targets(self) -> Images:
        """x', rounded."""
        return self.start + self.displacement

    def regressed(self, images: Images) -> Float[Tensor, "targets channels height width"]:
        """Return the image x(θ) of each target, out of the generator's batch."""
        return images if self.chosen is None else images[self.chosen]

    def residual(self, images: Images) -> Images:
        """Return x(θ) - x'; at x(θ) = x it is as exact as the displacement."""
        return (images - self.start) - self.displacement


# Discrepancies δ(f(x), y*) of D's label y = σ(logit) from y* = "real" = 1: Weber 2021, eqs. 2 and 7.
DISCREPANCIES: Mapping[LabelLoss, Callable[[Logits], Scalar]] = {
    "bce": losses.generator_loss,
    "l2": losses.squared_label_loss,
    "l1": losses.absolute_label_loss,
}


def squared_error(images: Images, examples: InverseExample) -> Scalar:
    """Return ‖x(θ) - x'‖², over all values of all images.

    Source:
        Weber 2021, section 6.1: `MSELoss(reduction="sum")`.
    """
    return examples.residual(images).square().sum()


def half_squared_error(images: Images, examples: InverseExample) -> Scalar:
    """Return ℓ = ½ ‖x(θ) - x'‖².

    Source:
        Weber 2021, eq. 11.
    """
    return squared_error(images, examples) / 2


def mean_squared_error(images: Images, examples: InverseExample) -> Scalar:
    """Return the mean of (x(θ) - x')², over all values of all images.

    Source:
        Weber 2021, section 6.2.
    """
    return examples.residual(images).square().mean()


def absolute_error(images: Images, examples: InverseExample) -> Scalar:
    """Return Σ |x(θ) - x'|, over all values of all images.

    Source:
        Weber 2021, section 6.2.
    """
    return examples.residual(images).abs().sum()


def structural_dissimilarity(images: Images, examples: InverseExample) -> Scalar:
    """Return 1 - SSIM(x(θ), x'), the mean over images, in float64: close images differ in the last digits only.

    Source:
        Wang et al. 2004; named in Weber 2021, section 1.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    targets = examples.start.double() + examples.displacement.double()
    similarity = structural_similarity_index_measure(
        images.double(), targets, data_range=VALUE_RANGE[1] - VALUE_RANGE[0]
    )
    assert isinstance(similarity, Tensor)
    return (1 - similarity).to(images.dtype)


REGRESSIONS: Mapping[ImageLoss, Callable[[Images, InverseExample], Scalar]] = {
    "sum": squared_error,
    "half_sum": half_squared_error,
    "mean": mean_squared_error,
    "l1": absolute_error,
    "ssim": structural_dissimilarity,
}

SUMS = ("sum", "half_sum", "l1")
"""Regressions that are sums over the images; the others are means."""

HALF_SQUARES: Mapping[str, Callable[[int], float]] = {
    "sum": lambda values: 2.0,
    "half_sum": lambda values: 1.0,
    "mean": lambda values: 2.0 / values,
}
"""The factor c for which a regression equals c · ½ ‖x(θ) - x'‖² of eq. 11.

It depends on the number of values in a batch. Only squared errors have one.
"""

SSIM_WINDOW = 11
"""Edge of SSIM's window, pixels; the smallest image that it fits into."""


@dataclass(frozen=True)
class PerceptualNetwork:
    """A network whose features tell how far images are from each other.

    Args:
        network: Import path of a class or function that makes it, without arguments: `torchvision.models.vgg16`.
        weights: File of its state dict. Without it the network keeps its initial weights; random ones are the same in
            each run.
        layers: Names of the submodules whose outputs are compared; if empty, the network's own output is.

    Source:
        Dosovitskiy & Brox 2016; named in Weber 2021, section 1.
    """

    network: str
    weights: str | None = None
    layers: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Keep the layers as a tuple, which can be hashed."""
        object.__setattr__(self, "layers", tuple(self.layers))

    def distance(self, images: Images, examples: InverseExample) -> Scalar:
        """Return the mean squared difference between the features of x(θ) and of x', summed over the layers.

        Computed in float64: close images differ in the last digits only.
        """
        with torch.autocast(images.device.type, enabled=False):
            network = _loaded_in_double(self, images.device)
            with torch.no_grad():
                wanted = layer_outputs(network, self.layers, examples.start.double() + examples.displacement.double())
            found = layer_outputs(network, self.layers, images.double())
            distances = [(a - b).square().mean() for a, b in zip(found, wanted, strict=True)]
            return torch.stack(distances).sum().to(images.dtype)

    def check(self, channels: int, image_size: int) -> None:
        """Load the network and show it an image.

        Raises:
            SettingError: If there is no such network, its weights do not fit, or it cannot take the images.
        """
        network = _loaded(self)
        tried_on_images(
            lambda images: layer_outputs(network, self.layers, images), self.network, self, channels, image_size
        )


torch.serialization.add_safe_globals([PerceptualNetwork])


@dataclass(frozen=True)
class ImageRegression:
    """A generator's regression on targets: a distance, its rate, and the optimizer of its gradient.

    Args:
        regression: The distance: `sum`, `half_sum` or `mean` of squares, `l1`, `ssim` or `perceptual`.
        perceptual: The network of `perceptual`.
        regression_rate: η_reg.
        regression_optimizer: The generator's `own`, or `sgd`.

    Raises:
        SettingError: A setting is out of range. It has no owner: updates have these settings as their own.

    Source:
        Weber 2021, section 6.1, which has the defaults.
    """

    regression: Regression = "sum"
    perceptual: PerceptualNetwork | None = None
    regression_rate: float = 0.5
    regression_optimizer: RegressionOptimizer = "own"

    def __post_init__(self) -> None:
        """Check the settings."""
        above(None, 0, "The paper has 0.5.", regression_rate=self.regression_rate)
        one_of(None, get_args(Regression), regression=self.regression)
        one_of(None, get_args(RegressionOptimizer), regression_optimizer=self.regression_optimizer)
        if (self.regression == "perceptual") != (self.perceptual is not None):
            raise SettingError(
                f"perceptual must be given with regression 'perceptual' and with no other, got {self.perceptual} with "
                f"'{self.regression}'. Its `network` names a network."
            )

    @property
    def plain_descent(self) -> bool:
        """Whether θ moves by η_reg ∇ℓ itself."""
        return self.regression_optimizer == "sgd"

    def check(self, channels: int, image_size: int) -> None:
        """Check that the distance can compare such images.

        Raises:
            SettingError: If they are too small for SSIM, or the perceptual network does not take them.
        """
        if self.regression == "ssim" and image_size < SSIM_WINDOW:
            raise SettingError(
                f"regression must not be 'ssim' for images below {SSIM_WINDOW} pixels, the size of its window, got "
                f"images of {image_size}. Use larger images or another loss."
            )
        if self.perceptual is not None:
            self.perceptual.check(channels, image_size)

    def objective(self, images: Images, examples: InverseExample) -> Scalar:
        """Return η_reg ℓ(x(θ), x'). The generator steps on its gradient.

        Args:
            images: The generator's, with their graph.
            examples: Their targets.
        """
        return self.regression_rate * self.loss(images.to(examples.displacement.dtype), examples)

    def loss(self, images: Images, examples: InverseExample) -> Scalar:
        """Return this process's ℓ(x(θ), x'); the mean over the processes is the whole batch's."""
        images = examples.regressed(images)
        if self.regression == "perceptual":
            assert self.perceptual is not None
            return self.perceptual.distance(images, examples)
        regression = REGRESSIONS[self.regression](images, examples)
        return regression * process_count() if self.regression in SUMS else regression

    def multiple_of_half_squares(self, values: int) -> float:
        """Return the c for which η_reg ℓ = c · ½ ‖x(θ) - x'‖²; 1 if there is none.

        Args:
            values: Number of values in this process's images.

        Source:
            Weber 2021, eq. 11.
        """
        multiple = HALF_SQUARES.get(self.regression)
        return 1.0 if multiple is None else self.regression_rate * multiple(values * process_count())


@lru_cache(maxsize=1)
def _loaded_in_double(settings: PerceptualNetwork, device: torch.device) -> nn.Module:
    """Return a copy of the network in float64 on a device."""
    return copy.deepcopy(_loaded(settings)).to(device, torch.float64)


@lru_cache(maxsize=1)
def _loaded(settings: PerceptualNetwork) -> nn.Module:
    """Return the network, in float32 on the CPU. It is outside of the model and its checkpoints."""
    return imported_network(settings.network, settings.weights, settings.layers, settings)
