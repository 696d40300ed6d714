"""BiGAN's theory on finite spaces: every expectation is a sum, and nothing is estimated.

Images are the indices of `p_x`, latents the indices of `p_z`. An encoder is a table p_E(z|x), a generator p_G(x|z); a
deterministic one has a single 1 in each row. With X images and Z latents, joint distributions are X x Z tables.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, section 3 and appendix A.
"""

import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from gan_lightning.errors import SettingError

Joint = Float64[Tensor, "images latents"]
Encoder = Float64[Tensor, "images latents"]
Generator = Float64[Tensor, "latents images"]


def encoder_joint(p_x: Float64[Tensor, " images"], encoder: Encoder) -> Joint:
    """Return P_EX: images from the data, each with its code.

    Source:
        Section 3, "Definitions": p_EX(x, z) = p_E(z|x) p_X(x).
    """
    return p_x[:, None] * encoder


def generator_joint(p_z: Float64[Tensor, " latents"], generator: Generator) -> Joint:
    """Return P_GZ: latents from their prior, each with its generated image.

    Source:
        Section 3, "Definitions": p_GZ(x, z) = p_G(x|z) p_Z(z).
    """
    return (p_z[:, None] * generator).T


def deterministic(values: Sequence[int], outcomes: int) -> Float64[Tensor, "arguments {outcomes}"]:
    """Return the table of a function: row i has its 1 at `values[i]`.

    Args:
        values: Of each argument.
        outcomes: Number of possible values.

    Raises:
        SettingError: A value is none of the outcomes.

    Source:
        Section 2 and appendix A.3: p_G(x|z) = δ(x - G(z)), p_E(z|x) = δ(z - E(x)).
    """
    if not all(0 <= value < outcomes for value in values):
        raise SettingError(f"values must be from 0 to {outcomes - 1}, got {list(values)}; count outcomes from 0.")
    return torch.eye(outcomes, dtype=torch.float64)[torch.tensor(values, dtype=torch.int64)]


def functions(arguments: int, outcomes: int) -> Iterator[tuple[int, ...]]:
    """Yield every function between two finite sets, as its values: `outcomes` to the power of `arguments`."""
    return itertools.product(range(outcomes), repeat=arguments)


def objective(discriminator: Float64[Tensor, "images latents"], p_ex: Joint, p_gz: Joint) -> Float64[Tensor, ""]:
    """Return V(D, E, G) in nats. A pair without probability counts nothing, for any value of D.

    Args:
        discriminator: D(x, z), the probability in [0, 1] that a pair is an encoder's.
        p_ex: As `encoder_joint` returns it.
        p_gz: As `generator_joint` returns it.

    Source:
        Equation 3.
    """
    return torch.xlogy(p_ex, discriminator).sum() + torch.xlogy(p_gz, 1 - discriminator).sum()


def optimal_discriminator(p_ex: Joint, p_gz: Joint) -> Float64[Tensor, "images latents"]:
    """Return D*(x, z) = f_EG(x, z). Any value is optimal for a pair that never occurs; such pairs get 1/2.

    Source:
        Proposition 1: D*_EG = dP_EX / d(P_EX + P_GZ).
    """
    total = p_ex + p_gz
    return torch.where(total > 0, p_ex / total, 0.5)


def kl_divergence(p: Joint, q: Joint) -> Float64[Tensor, ""]:
    """Return D_KL(P || Q) in nats. It is infinite if P gives probability to a pair to which Q gives none.

    Source:
        Section 3, "Definitions".
    """
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum()


def js_divergence(p: Joint, q: Joint) -> Float64[Tensor, ""]:
    """Return D_JS(P || Q) in nats, at most log 2.

    Source:
        Section 3, "Definitions".
    """
    middle = (p + q) / 2
    return (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2


def encoder_generator_objective(p_ex: Joint, p_gz: Joint) -> Float64[Tensor, ""]:
    """Return C(E, G) = max over D of V(D, E, G), by the optimal D.

    Source:
        Proposition 2: it equals 2 D_JS(P_EX || P_GZ) - log 4. Theorem 1: its minimum, -log 4, is reached if and only if
        P_EX = P_GZ.
    """
    return objective(optimal_discriminator(p_ex, p_gz), p_ex, p_gz)


def autoencoder_objective(
    p_x: Float64[Tensor, " images"],
    p_z: Float64[Tensor, " latents"],
    encode: Sequence[int],
    generate: Sequence[int],
) -> Float64[Tensor, ""]:
    """Return C(E, G) of deterministic E and G as the loss of an ℓ0 autoencoder.

    Only pairs at which E and G invert each other count, each with the logarithm of D*'s value.

    Args:
        p_x: Probability of each image.
        p_z: Probability of each latent.
        encode: E(x) of each x.
        generate: G(z) of each z.

    Source:
        Theorem 3.
    """
    joint_e = encoder_joint(p_x, deterministic(encode, len(p_z)))
    joint_g = generator_joint(p_z, deterministic(generate, len(p_x)))
    f = optimal_discriminator(joint_e, joint_g)
    value = torch.zeros((), dtype=torch.float64)
    for x, z in enumerate(encode):
        if p_x[x] > 0 and p_z[z] > 0 and generate[z] == x:
            value = value + p_x[x] * f[x, z].log()
    for z, x in enumerate(generate):
        if p_z[z] > 0 and p_x[x] > 0 and encode[x] == z:
            value = value + p_z[z] * (1 - f[x, z]).log()
    return value


def inverts(
    first: Sequence[int], second: Sequence[int], probabilities: Float[Tensor, " arguments"]
) -> Bool[Tensor, ""]:
    """Return whether second(first(a)) = a for every argument that has probability.

    Source:
        Theorem 2: of optimal E and G, G(E(x)) = x for P_X-almost every x, and E(G(z)) = z for P_Z-almost every z.
    """
    back = torch.tensor([second[value] for value in first])
    return ((back == torch.arange(len(first))) | (probabilities == 0)).all()
