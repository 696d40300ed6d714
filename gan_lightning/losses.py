"""Every objective of the papers, as a pure function of logits.

They take logits (before the sigmoid or softmax) and return a mean over images in nats. They use softplus and
log-softmax, so that no logit overflows. There are exceptions: `reconstruction_loss` takes images, `matching_loss` takes
moments, and `squared_label_loss` and `absolute_label_loss` are distances between probabilities.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Logits = Float[Tensor, " batch"]
Scalar = Float[Tensor, ""]

Reduction = Literal["mean", "sum"]
"""The way in which the dimensions of a latent make one number."""


def discriminator_loss(real_logits: Float[Tensor, " real"], fake_logits: Float[Tensor, " fake"]) -> Scalar:
    """Return -E log D(x) - E log(1 - D(G(z))), the discriminator's objective.

    A joint discriminator's logits give -V(D, E, G): D(x, E(x)) stands for D(x) and D(G(z), z) for D(G(z)).

    Args:
        real_logits: D's logits for real images, or for pairs (x, E(x)).
        fake_logits: D's logits for generated images, or for pairs (G(z), z); their number may differ from the real
            ones'.

    Returns:
        The sum of the two means; 2 log 2 if D cannot tell real from fake.

    Source:
        Goodfellow et al. 2014, eq. 1; the D part of Mao et al. 2022, eqs. 1 and 16; Donahue et al. 2017, eq. 3.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Logits) -> Scalar:
    """Return -E log D(G(z)), the non-saturating objective of the generator.

    Source:
        Goodfellow et al. 2014, section 3: it has the fixed point of E log(1 - D(G(z))) and stronger gradients if D
        rejects the samples.
    """
    return F.softplus(-fake_logits).mean()


def squared_label_loss(fake_logits: Logits) -> Scalar:
    """Return E (D(G(z)) - 1)², the squared distance of D's label from a real image's label 1.

    Returns:
        Mean over images, in [0, 1].

    Source:
        Weber 2021, eq. 7 with ℓ2 for δ; Mao et al. 2017.
    """
    return torch.sigmoid(-fake_logits).square().mean()


def absolute_label_loss(fake_logits: Logits) -> Scalar:
    """Return E |D(G(z)) - 1|, the distance of D's label from a real image's label 1.

    Returns:
        Mean over images, in [0, 1].

    Source:
        Weber 2021, eq. 7 with ℓ1 for δ.
    """
    return torch.sigmoid(-fake_logits).mean()


def classification_loss(class_logits: Float[Tensor, "batch classes"], classes: Int64[Tensor, " batch"]) -> Scalar:
    """Return the mean cross entropy -E log C_i(x) over images x of class i.

    If each of K generators gives the same number of images, this is the sum over i of (1/K) E_{x ~ p_gi} -log C_i(x).

    Source:
        Mao et al. 2022, eq. 10, and the last term of eq. 16, without its weight β.
    """
    return F.cross_entropy(class_logits, classes)


def mixture_generator_loss(
    fake_logits: Logits,
    class_logits: Float[Tensor, "batch generators"],
    made_by: Int64[Tensor, " batch"],
    class_weight: float,
) -> Scalar:
    """Return the objective of a mixture of generators: fool D, and be told apart by C.

    Args:
        fake_logits: D's logits for generated images.
        class_logits: C's logits for the same images.
        made_by: Index of the generator that made each image.
        class_weight: β, the weight of the classification term.

    Source:
        The G part of Mao et al. 2022, eq. 16.

    Deviations:
        The adversarial term is the non-saturating one; the paper is silent on it.
    """
    return generator_loss(fake_logits) + class_weight * classification_loss(class_logits, made_by)


def inverse_objective_loss(real_logits: Float[Tensor, " real"], fake_logits: Float[Tensor, " fake"]) -> Scalar:
    """Return -E log(1 - D(x, E(x))) - E log D(G(z), z), E's and G's objective: D's loss with the labels swapped.

    Source:
        Donahue et al. 2017, appendix B: -Λ(D, G, E).
    """
    return discriminator_loss(real_logits=fake_logits, fake_logits=real_logits)


def original_objective_loss(real_logits: Float[Tensor, " real"], fake_logits: Float[Tensor, " fake"]) -> Scalar:
    """Return E log D(x, E(x)) + E log(1 - D(G(z), z)), E's and G's objective in the minimax game.

    Source:
        Donahue et al. 2017, eqs. 2 and 3: V(D, E, G).
    """
    return -discriminator_loss(real_logits, fake_logits)


def latent_loss(latent_logits: Float[Tensor, "batch latent"], latents: Float[Tensor, "batch latent"]) -> Scalar:
    """Return the mean cross entropy between (z + 1) / 2 and the sigmoid of E's output for G(z).

    Args:
        latent_logits: E's output for G(z), before the sigmoid.
        latents: z, in [-1, 1].

    Returns:
        Mean over images and over the latents' dimensions. Its minimum, at E(G(z)) = z, is the entropy of (z + 1) / 2.

    Source:
        Donahue et al. 2017, section 4.1, "Latent regressor", L(z, E(G(z))); the mean over dimensions is the authors'
        code's.
    """
    return F.binary_cross_entropy_with_logits(latent_logits, (latents + 1) / 2)


def reconstruction_loss(
    images: Float[Tensor, "batch channels height width"],
    reconstructed: Float[Tensor, "batch channels height width"],
    norm: Literal[1, 2],
) -> Scalar:
    """Return E Σ |x - G(E(x))|^p, the sum over the values of an image.

    Args:
        images: x.
        reconstructed: G(E(x)).
        norm: p: 1 for absolute and 2 for squared differences.

    Source:
        Donahue et al. 2017, section 4.2 and Table 1, "AE (ℓ2)" and "AE (ℓ1)".
    """
    return (images - reconstructed).abs().pow(norm).flatten(1).sum(1).mean()


def matching_loss(mean: Float[Tensor, " latent"], variance: Float[Tensor, " latent"], reduction: Reduction) -> Scalar:
    """Return the Kullback-Leibler divergence of normal latents with these moments from N(0, 1).

    Args:
        mean: μ of each dimension over a batch.
        variance: σ² of each dimension over a batch, divided by the number of images.
        reduction: Whether the dimensions are averaged, or summed up as the divergence of independent dimensions is.

    Returns:
        Mean or sum over dimensions of (σ² + μ² - 1) / 2 - log σ, in nats; 0 for the moments of N(0, 1).

    Source:
        Liu 2018, eq. 4.5 and appendix A.

    Deviations:
        The thesis prints -M/2, for a sum, and 1/M, for a mean: with both, N(0, 1) would not be the minimum. Here either
        both are for a mean, or both for a sum.
    """
    divergences = (variance + mean.square() - 1 - variance.log()) / 2
    return divergences.sum() if reduction == "sum" else divergences.mean()
