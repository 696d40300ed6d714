"""The agreement of the two sub-problems with the generator's step, as figures, and their targets as a picture.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 4.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import Images
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.papers.subproblem.regressions import InverseExample
from gan_lightning.training.generator_updates import GeneratorLoss, GeneratorUpdate


@dataclass(frozen=True)
class GradientAgreement:
    """A regression's gradient compared with η times the loss's.

    Attributes:
        ratio: ‖∇_θ ℓ‖ / (η ‖∇_θ L‖); 1 if eq. 13 holds, NaN if the loss has no gradient.
        angle: Angle between the two, degrees; 0 if eq. 13 holds, NaN if one of them is zero.
    """

    ratio: float
    angle: float


def gradient_agreement(
    regression_gradient: Sequence[Tensor], loss_gradient: Sequence[Tensor], rate: float
) -> GradientAgreement:
    """Compare ∇_θ ℓ with η ∇_θ L, each as the gradients of all weights.

    Args:
        regression_gradient: ∇_θ ℓ.
        loss_gradient: ∇_θ L.
        rate: η, the inversion's learning rate, times the factor of eq. 11's regression.

    Source:
        Weber 2021, eq. 13.
    """
    one, other = (torch.cat([g.double().flatten() for g in gs]) for gs in (regression_gradient, loss_gradient))
    length, expected = one.norm().item(), rate * other.norm().item()
    if length == 0 or expected == 0:
        return GradientAgreement(length / expected if expected else math.nan, math.nan)
    one, other = one / one.norm(), other / other.norm()
    # Near 0 the arc cosine would turn a rounding error of ε into an angle of √ε.
    angle = 2 * math.atan2((one - other).norm().item(), (one + other).norm().item())
    return GradientAgreement(length / expected, math.degrees(angle))


def measured_agreement(loss: GeneratorLoss, update: GeneratorUpdate) -> GradientAgreement:
    """Return the agreement of an update's gradient with the loss's on the generator of a model; both graphs stay.

    Inverse examples have an η. A regression on squares is measured as eq. 11's: its own factor is divided out, see
    `ImageRegression.multiple_of_half_squares`. For other updates eq. 13 predicts nothing, and η counts as 1.

    Args:
        loss: The model's generator loss.
        update: The update.
    """
    weights = [p for network in loss.networks for p in network.parameters() if p.requires_grad]
    objective = update.objective(loss, retain_graph=True)
    of_update = torch.autograd.grad(objective, weights, retain_graph=True)
    of_loss = torch.autograd.grad(loss.value, weights, retain_graph=True)
    rate = 1.0
    if isinstance(update, InverseExamples):
        rate = update.inversion_rate * update.as_regression().multiple_of_half_squares(loss.images.numel())
    return gradient_agreement(of_update, of_loss, rate)


def inverse_examples_picture(
    examples: InverseExample, *, columns: int = 10, value_range: tuple[float, float] = (-1.0, 1.0)
) -> tuple[Float[Tensor, "3 picture_height picture_width"], float]:
    """Return four rows: x, x', x' - x with zero as middle grey, and the same amplified until it shows.

    Args:
        examples: The first ones are drawn.
        columns: Images in a row, at most.
        value_range: Values of black and of white.

    Returns:
        The picture, in [0, 1], and the factor of the last row: its largest difference reaches black or white.

    Raises:
        SettingError: `columns` is below 1.

    Source:
        Weber 2021, Figure 1(a).
    """
    from torchvision.utils import make_grid

    if columns < 1:
        raise SettingError(f"columns must be at least 1, got {columns}; 10 is usual.")
    low, high = value_range
    middle, reach = (low + high) / 2, (high - low) / 2
    start, difference = examples.start[:columns], examples.displacement[:columns]
    largest = difference.abs().max().item()
    factor = reach / largest if largest > 0 else 1.0
    rows: list[Images] = [start, start + difference, middle + difference, middle + factor * difference]
    images = torch.cat(rows).detach().float().cpu()
    picture = make_grid(images, len(start), 1 if images.shape[-1] < 16 else 2, normalize=True, value_range=value_range)
    return picture, factor
