"""A generator's step in its two hidden parts: inverse examples, and a regression on them.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, sections 3.1, 4.1 and 6.

Deviations:
    - The paper's L is of one image, a model's loss is the mean over a batch. Its gradient with respect to the whole
      batch of images gives x', so that eq. 13 holds for the batch exactly, batch norm in D included. For the term of
      one image η is then η_inv / batch size, as in the paper's own experiment (`BCELoss` and `MSELoss` with
      `reduction="sum"`).
    - Two misprints are not followed. Eq. 6 prints 1 - log f where log(1 - f) is meant. Section 6.1 prints the descent
      as θ + η_reg ∇ℓ, which would climb.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gan_lightning.errors import above, at_least, below_one, one_of, refused, settings_of
from gan_lightning.interfaces import Images
from gan_lightning.losses import Scalar
from gan_lightning.papers.subproblem.regressions import (
    DISCREPANCIES,
    VALUE_RANGE,
    ImageRegression,
    InverseExample,
    LabelLoss,
    PerceptualNetwork,
    Regression,
    RegressionOptimizer,
)
from gan_lightning.system.processes import process_count
from gan_lightning.training.generator_updates import GeneratorLoss, GeneratorUpdate

Descent = Literal["sgd", "adam"]
Discrepancy = Literal["own", LabelLoss]


@dataclass(frozen=True)
class InverseExamples(GeneratorUpdate):
    """The generator's step in its two hidden parts: images that D likes better, and a regression on them.

    The discriminator reaches the generator through these images alone: its graph is not part of the regression's.
    A model may train encoders and other networks with its generator. These step on the model's loss, as ever. If
    several processes share a batch, x' and the regression are of the whole batch.

    Args:
        inversion_rate: η_inv, the learning rate of the images.
        inversion_steps: Steps from x to x'. Each one but the first costs a forward pass of the discriminator. This pass
            leaves the running batch-norm statistics alone.
        inversion_optimizer: Optimizer of the images: `sgd`, or `adam`, whose first step moves each value by η_inv.
        inversion_momentum: Momentum of `sgd`; it has an effect from the second step on.
        discrepancy: Objective of the images: the model's `own` generator loss, or the distance of D's label from
            "real": `bce`, `l2` or `l1`.
        total_variation: Weight of the images' total variation, beside the discrepancy; sum over an image's pairs of
            neighbours, mean over images.
        stay_close: Weight of ‖x' - x‖², beside the discrepancy; mean over images. It has an effect from the second step
            on.
        clamp: Whether x' is clamped to the range of images, [-1, 1].
        regression: Distance of the generator's output from x': `sum`, `half_sum` or `mean` of squares, `l1`, `ssim` or
            `perceptual`.
        perceptual: The network of `perceptual`.
        regression_rate: η_reg, a factor of the regression's gradient.
        regression_optimizer: Optimizer of this gradient: the generator's `own`, or `sgd`, θ - η_reg ∇ℓ without
            momentum, decay or schedule.

    Raises:
        SettingError: If a setting is out of range.

    Source:
        Weber 2021, eqs. 3, 4, 11 and 13, and section 6. The defaults are section 6.1's.

    Deviations, where the paper is silent:
        - The generator's own optimizer applies the regression's gradient. Under Adam a constant factor such as η then
          cancels. Adam's ε and a weight decay, however, weigh 1/η times as much as in direct training.
          `regression_rate` of 0.5 / `inversion_rate` (with `sum`) undoes that: the gradient is the loss's.
        - SSIM and perceptual distances have no first-order part at x' = x: at a small η_inv their gradients are small
          as well.
    """

    inversion_rate: float = 2e-4
    inversion_steps: int = 1
    inversion_optimizer: Descent = "sgd"
    inversion_momentum: float = 0.0
    discrepancy: Discrepancy = "own"
    total_variation: float = 0.0
    stay_close: float = 0.0
    clamp: bool = False
    regression: Regression = ImageRegression.regression
    perceptual: PerceptualNetwork | None = None
    regression_rate: float = ImageRegression.regression_rate
    regression_optimizer: RegressionOptimizer = ImageRegression.regression_optimizer

    def __post_init__(self) -> None:
        """Check the settings."""
        above(self, 0, "The paper has 2e-4.", inversion_rate=self.inversion_rate)
        remedy = "Without a step x' would be x, and the generator would have nothing to learn."
        at_least(self, 1, remedy, inversion_steps=self.inversion_steps)
        below_one(self, inversion_momentum=self.inversion_momentum)
        at_least(self, 0, total_variation=self.total_variation, stay_close=self.stay_close)
        one_of(self, get_args(Descent), inversion_optimizer=self.inversion_optimizer)
        one_of(self, get_args(Discrepancy), discrepancy=self.discrepancy)
        if self.inversion_momentum and self.inversion_optimizer != "sgd":
            condition = f"be 0 with inversion_optimizer '{self.inversion_optimizer}'"
            remedy = "Momentum is a setting of 'sgd'."
            raise refused(self, "inversion_momentum", condition, self.inversion_momentum, remedy)
        with settings_of(self):
            self.as_regression()

    def as_regression(self) -> ImageRegression:
        """Return the second part of the step: the regression on the inverse examples.

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
        """Return η_reg ℓ(x(θ), x'). The generator steps on its gradient."""
        return self.as_regression().objective(loss.images, self.invert(loss, retain_graph=retain_graph))

    def invert(self, loss: GeneratorLoss, *, retain_graph: bool = False) -> InverseExample:
        """Return x', images near the generator's that D calls real more readily.

        Args:
            loss: The model's generator loss; its graph gives the first step.
            retain_graph: Whether that graph is still needed afterwards.

        Source:
            Weber 2021, eqs. 3 and 4.
        """
        images, value, logits = loss.images, loss.value, loss.logits
        start = images.detach().to(torch.promote_types(images.dtype, torch.float32))
        displacement = torch.zeros_like(start).requires_grad_()
        optimizer = self._optimizer(displacement)
        for step in range(self.inversion_steps):
            if step > 0:
                retain_graph, images = False, (start + displacement.detach()).requires_grad_()
                with torch.enable_grad():
                    value, logits, *_ = loss.judge(images)
            discrepancy = value if self.discrepancy == "own" else DISCREPANCIES[self.discrepancy](logits)
            (gradient,) = torch.autograd.grad(discrepancy, images, retain_graph=retain_graph)
            gradient = gradient.to(start.dtype) + self._regularisers_gradient(start, displacement.detach())
            displacement.grad = gradient / process_count()  # the mean over all images is a mean over processes, too
            optimizer.step()
            if self.clamp:
                with torch.no_grad():
                    displacement.copy_(displacement.clamp(VALUE_RANGE[0] - start, VALUE_RANGE[1] - start))
        return InverseExample(start, displacement.detach())

    def _optimizer(self, displacement: Tensor) -> torch.optim.Optimizer:
        if self.inversion_optimizer == "adam":
            # torch's ε of 1e-8 is about as large as the gradient of a mean loss with respect to one value of an image.
            recorded = displacement.is_cuda and torch.cuda.is_current_stream_capturing()
            # In one pass, which a graph can hold.
            return torch.optim.Adam([displacement], self.inversion_rate, eps=1e-16, fused=True, capturable=recorded)
        return torch.optim.SGD([displacement], lr=self.inversion_rate, momentum=self.inversion_momentum)

    def _regularisers_gradient(self, start: Images, displacement: Images) -> Tensor:
        """Return the gradient of the terms beside the discrepancy in the paper's compound loss."""
        gradient = 2 * self.stay_close * displacement / len(start)
        if self.total_variation > 0:
            with torch.enable_grad():
                images = (start + displacement).requires_grad_()
                variation = self.total_variation * mean_total_variation(images)
            gradient = gradient + torch.autograd.grad(variation, images)[0]
        return gradient


def mean_total_variation(images: Images) -> Scalar:
    """Return the sum of |differences| between vertical and horizontal neighbours in an image, mean over images.

    Source:
        Mahendran & Vedaldi 2015; named in Weber 2021, section 3.1.
    """
    from torchmetrics.functional.image import total_variation

    return total_variation(images, reduction="mean")
