"""The inductive bias of a network: the way in which its weights answer a request to change its output.

The request is a change of the output x. A step of gradient descent on the weights answers with another change; K_θ(x)
turns the first into the second. With d output values and p weights, J = ∂x/∂θ is d x p and K = J Jᵀ is d x d.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 4.2, eqs. 14 to 16.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp

from gan_lightning.errors import SettingError
from gan_lightning.training.generator_updates import resting_statistics

DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
"""Torch's layers that drop values at random."""

Weights = Mapping[str, Tensor]

LARGEST_DENSE_BYTES = 2**30
"""Memory that a dense K may take, unless the caller allows more."""


@dataclass(frozen=True)
class Spectrum:
    """A summary of K's eigenvalues.

    Attributes:
        trace: tr K = ‖J‖_F², the sum of the eigenvalues.
        effective_rank: (tr K)² / tr K², the participation ratio. It is k if k eigenvalues are equal and the others 0.
            It is 1 if all requests get the same answer up to its size, and d if K is a multiple of the identity.
        values: d, the number of output values, the largest effective rank.
    """

    trace: float
    effective_rank: float
    values: int


class InductiveBias:
    """K_θ(x) of a network at an input, with the weights that it has now.

    Args:
        network: Run in its present mode. In train mode batch norm takes the batch's statistics, so K is the whole
            batch's; the running statistics stay unchanged.
        inputs: The network's arguments.
        select: Returns x, a part of the network's output; by default all of it.

    Raises:
        SettingError: If dropout is active: each product would be of another network.
    """

    def __init__(self, network: nn.Module, *inputs: object, select: Callable[[Tensor], Tensor] | None = None) -> None:
        for name, layer in network.named_modules():
            if isinstance(layer, DROPOUT) and layer.training and layer.p > 0:
                raise SettingError(
                    f"network must not drop values at random, got an active {type(layer).__name__} of p={layer.p:g} at "
                    f"'{name}': each product would be of another network. Call network.eval(), or set its p to 0."
                )
        self.network, self.inputs, self.select = network, inputs, select
        # A weight may have several names, one in each layer that uses it. A layer under two names must get its weights
        # once: functional_call would otherwise leave its substitutes behind in the layer.
        self._names: dict[Tensor, list[str]] = {}
        for path, layer in network.named_modules():
            for name, weight in layer.named_parameters(path, recurse=False):
                self._names.setdefault(weight, []).append(name)
        # Weights without influence on x have no part in K, and may be many, such as D's beside G.
        with _differentiable(self._names), torch.enable_grad():
            x = self._run({})
            gradients = torch.autograd.grad(x.sum(), list(self._names), allow_unused=True)
        used = [weight for weight, gradient in zip(self._names, gradients, strict=True) if gradient is not None]
        self._names = {weight: self._names[weight] for weight in used}
        self.weights: Weights = {names[0]: weight.detach().clone() for weight, names in self._names.items()}
        self.output = x.detach()

    def _run(self, weights: Weights) -> Tensor:
        named = {name: weights[names[0]] for names in self._names.values() for name in names if weights}
        with resting_statistics(self.network):
            output = functional_call(self.network, named, self.inputs, tie_weights=False)
        return output if self.select is None else self.select(output)

    def pull_back(self, v: Tensor) -> Weights:
        """Return Jᵀ v, the gradient of ⟨x, v⟩ with respect to the weights.

        Args:
            v: Of x's shape.
        """
        vector_jacobian = vjp(self._run, dict(self.weights))[1]
        return vector_jacobian(v)[0]

    def push_forward(self, change: Weights) -> Tensor:
        """Return J u, the change of x to first order when the weights change by u."""
        with warnings.catch_warnings():
            # torch warns of itself: its first jvp in a process compiles decompositions in a deprecated way.
            warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
            return jvp(self._run, (dict(self.weights),), (dict(change),))[1]

    def __matmul__(self, v: Tensor) -> Tensor:
        """Return K v, by one product with Jᵀ and one with J.

        Args:
            v: Of x's shape.

        Source:
            Weber 2021, eq. 15.
        """
        return self.push_forward(self.pull_back(v))

    def dense(self, largest_bytes: int = LARGEST_DENSE_BYTES) -> Float[Tensor, "values values"]:
        """Return K itself, row by row.

        Args:
            largest_bytes: Memory that K may take.

        Raises:
            SettingError: If it would take more.
        """
        values, width = self.output.numel(), self.output.element_size()
        if (needed := values**2 * width) > largest_bytes:
            raise SettingError(
                f"x must have few values for a dense K, got {values}: K would need {needed / 2**30:.1f} GiB, and "
                f"largest_bytes allows {largest_bytes / 2**30:.1f}. Use products, `InductiveBias(...) @ v`, and "
                "`estimated_spectrum`."
            )
        rows = torch.eye(values, dtype=self.output.dtype, device=self.output.device)
        return torch.stack([(self @ row.reshape(self.output.shape)).flatten() for row in rows])

    def spectrum(self, largest_bytes: int = LARGEST_DENSE_BYTES) -> Spectrum:
        """Return trace and effective rank exactly, from the dense K.

        Raises:
            SettingError: If K would take more than `largest_bytes`.
        """
        k = self.dense(largest_bytes).double()
        return _spectrum(k.trace().item(), k.square().sum().item(), len(k))

    def estimated_spectrum(self, probes: int = 16, rng: torch.Generator | None = None) -> Spectrum:
        """Return estimates of trace and effective rank from random products.

        With v of random signs, E vᵀ K v = tr K and E ‖K v‖² = tr K². The relative error falls with the square root of
        `probes`, and is the smaller the higher the effective rank.

        Args:
            probes: Products K v.
            rng: Draws v.

        Raises:
            SettingError: `probes` is below 1.

        Source:
            Hutchinson 1990.
        """
        if probes < 1:
            raise SettingError(f"probes must be at least 1, got {probes}; 16 is usual.")
        traces, squares = [], []
        for _ in range(probes):
            signs = torch.randint(2, self.output.shape, generator=rng, device=self.output.device)
            v = 2 * signs.to(self.output.dtype) - 1
            product = (self @ v).double()
            traces.append((v * product).sum())
            squares.append(product.square().sum())
        trace, square = (torch.stack(values).mean().item() for values in (traces, squares))
        return _spectrum(trace, square, self.output.numel())

    def predicted(self, gradient: Tensor, rate: float) -> Tensor:
        """Return x - η K ∇_x L, the output after a step of gradient descent on the weights, to first order in η.

        Args:
            gradient: ∇_x L, of x's shape.
            rate: η.

        Source:
            Weber 2021, eq. 15.
        """
        return self.output - rate * (self @ gradient)

    def stepped(self, gradient: Tensor, rate: float) -> Tensor:
        """Return the output after that step, θ - η Jᵀ ∇_x L, as the network itself gives it.

        Source:
            Weber 2021, eq. 8.
        """
        change = self.pull_back(gradient)
        with torch.no_grad():
            return self._run({name: weight - rate * change[name] for name, weight in self.weights.items()})


@contextmanager
def _differentiable(weights: Iterable[Tensor]) -> Iterator[None]:
    """Let gradients reach weights that may be frozen."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _spectrum(trace: float, square: float, values: int) -> Spectrum:
    return Spectrum(trace, trace**2 / square if square > 0 else 0.0, values)
