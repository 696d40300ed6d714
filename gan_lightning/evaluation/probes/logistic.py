"""Logistic regression by L-BFGS on all images at once, for several sets of features together."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gan_lightning.evaluation.lbfgs import minimise
from gan_lightning.evaluation.probes.probe import TrainLabels, cross_entropy

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogisticModel:
    """A fitted logistic regression.

    Attributes:
        iterations: Number of L-BFGS iterations.
    """

    weight: Float[Tensor, "classes feature"]
    bias: Float[Tensor, " classes"]
    iterations: int

    def __call__(self, features: Float[Tensor, "images feature"]) -> Float[Tensor, "images classes"]:
        """Return the logits."""
        return F.linear(features, self.weight, self.bias)


def fit_together(
    features: Float[Tensor, "sets train feature"],
    labels: TrainLabels,
    strengths: Sequence[float],
    starts: Sequence[LogisticModel],
    *,
    max_iterations: int,
    gradient_tolerance: float,
    names: Sequence[str],
) -> list[LogisticModel]:
    """Minimise mean cross entropy + strength/2 ‖weight‖² on each set of features; the biases are free.

    Each feature's weights have a unit in which the objective's curvature along them is at most about 1. The curvature
    of the cross entropy is at most half the feature's mean square (Böhning 1992), and the penalty adds λ. For
    uncorrelated features this takes several times fewer iterations; the minimum is the same.

    Args:
        features: Used without standardising; the fit has their precision.
        labels: A class per image; or 0/1 per attribute, with -1 for an unknown one.
        strengths: λ of each set; scikit-learn's `C` is 1 / (images · λ).
        starts: First weights and biases of each set.
        max_iterations: Most L-BFGS iterations of a set. A warning reports a fit that has not converged by then.
        gradient_tolerance: Largest entry of a gradient at a minimum.
        names: Of the sets in that warning.
    """
    penalty = torch.tensor(strengths, dtype=features.dtype).to(features.device, non_blocking=True)
    unit = (features.square().mean(dim=1) / 2 + penalty[:, None]).rsqrt()[:, None]
    weight, bias = torch.stack([each.weight for each in starts]), torch.stack([each.bias for each in starts])
    length = weight[0].numel()

    def parts(variables: Tensor) -> tuple[Tensor, Tensor]:
        return variables[:, :length].view_as(weight) * unit, variables[:, length:].clone()

    def objective(variables: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = (part.requires_grad_() for part in parts(variables))
        with torch.enable_grad():
            # With a class's logits side by side the CPU takes half to three quarters of the time.
            entropy = cross_entropy(torch.baddbmm(bias[:, :, None], weight, features.mT).mT, labels)
        by_weight, by_bias = torch.autograd.grad(entropy, [weight, bias], torch.ones_like(entropy))
        weight = weight.detach()
        by_weight += penalty[:, None, None] * weight
        values = entropy.detach() + penalty / 2 * weight.square().sum(dim=(1, 2))
        return values, torch.cat([(by_weight * unit).flatten(1), by_bias], dim=1)

    found, iterations = minimise(
        objective,
        torch.cat([(weight / unit).flatten(1), bias], dim=1),
        most_iterations=max_iterations,
        gradient_tolerance=gradient_tolerance,
    )
    for name, strength, count in zip(names, strengths, iterations, strict=True):
        if count >= max_iterations:
            logger.warning(
                "The tuned probe on %s has not converged in %d iterations at strength %g; raise max_iterations.",
                name,
                max_iterations,
                strength,
            )
    return [LogisticModel(*each) for each in zip(*parts(found), iterations, strict=True)]
