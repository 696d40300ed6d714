"""Every objective of the papers, as a pure function of logits.

All take logits (before the sigmoid or softmax) and return a mean over images in nats, computed with softplus and
log-softmax so that no logit is large enough to overflow.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Logits = Float[Tensor, " batch"]
Scalar = Float[Tensor, ""]


def discriminator_loss(real_logits: Float[Tensor, " real"], fake_logits: Float[Tensor, " fake"]) -> Scalar:
    """Return -E log D(x) - E log(1 - D(G(z))), what the discriminator minimises.

    Args:
        real_logits: D's logits for real images.
        fake_logits: D's logits for generated images; their number may differ from the real ones'.

    Returns:
        The sum of the two means; 2 log 2 where D cannot tell real from fake.

    Source:
        Goodfellow et al. 2014, eq. 1; the D part of Mao et al. 2022, eqs. 1 and 16.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def generator_loss(fake_logits: Logits) -> Scalar:
    """Return -E log D(G(z)), the non-saturating objective of the generator.

    Source:
        Goodfellow et al. 2014, section 3: it has the fixed point of E log(1 - D(G(z))) and stronger gradients where
        D rejects the samples.
    """
    return F.softplus(-fake_logits).mean()


def classification_loss(class_logits: Float[Tensor, "batch classes"], classes: Int64[Tensor, " batch"]) -> Scalar:
    """Return the mean cross entropy -E log C_i(x) over images x of class i.

    Where each of K generators gives the same number of images, this is the sum over i of (1/K) E_{x ~ p_gi}
    -log C_i(x).

    Source:
        The last term of Mao et al. 2022, eq. 16, without its weight β.
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
        The adversarial term is the non-saturating one, on which the paper is silent.
    """
    return generator_loss(fake_logits) + class_weight * classification_loss(class_logits, made_by)
