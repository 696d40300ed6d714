"""The smallest GAN: a linear generator and a logistic discriminator on Gaussian data in d dimensions.

A linear D's gradient is a multiple of one vector w, so it pushes the generated data along w alone. Their mean can reach
the data's mean; their covariance cannot reach the data's covariance. It even shrinks along w: points that D takes for
generated are pushed further than the others. By Stein's lemma a step of G makes its map A, B without the last column,
into (I - κ w wᵀ) A with κ = η E σ'(wᵀx) ≥ 0. Eq. 21 hides this behind a constant k.

A quadratic D also sees the products x_i x_j. It pushes each point along its own vector, and the covariance can follow.

Source:
    Weber 2021, *The Hidden Tasks of Generative Adversarial Networks*, section 5; footnote 5 for features that hold
    higher moments.

Deviations, where the paper is silent:
    - D and G take one step each in turn, on N new points each.
    - B starts as the identity and no shift, w as zero.
    - The closed form is the regression on the targets of one inversion step (eq. 21).
    - Footnote 5 names exp(i⟨t, x⟩) as an example of rich features; the quadratic ones are the smallest that hold the
      covariance.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from gan_lightning.errors import SettingError, above, at_least, one_of
from gan_lightning.evaluation.curves import new_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Chart

Points = Float[Tensor, "points dimensions"]
Features = Float[Tensor, "points features"]
"""φ(x), what the discriminator weighs: its logit is wᵀφ(x)."""

Discriminator = Literal["linear", "quadratic"]


def augmented(latents: Float[Tensor, "points dimensions"]) -> Float[Tensor, "points augmented"]:
    """Return z̃, z with a last value of 1.

    Source:
        Weber 2021, section 5.
    """
    return torch.cat([latents, latents.new_ones(len(latents), 1)], dim=1)


def features(points: Points, discriminator: Discriminator = "linear") -> Features:
    """Return φ(x): x itself, or x and the upper triangle of x xᵀ, row by row.

    Source:
        Weber 2021, section 5, footnote 5.
    """
    if discriminator == "linear":
        return points
    rows, columns = torch.triu_indices(points.shape[1], points.shape[1])
    return torch.cat([points, points[:, rows] * points[:, columns]], dim=1)


def logit_slopes(w: Float[Tensor, " features"], points: Points, discriminator: Discriminator = "linear") -> Points:
    """Return ∇_x of the logit wᵀφ(x) at each point.

    For a linear D it is w everywhere. For a quadratic one it is w₁ + (U + Uᵀ) x: w₁ are the weights of x, and the upper
    triangular U holds those of the products.

    Source:
        Weber 2021, eq. 20, where φ(x) is x; section 5, footnote 5.
    """
    dimensions = points.shape[1]
    if discriminator == "linear":
        return w.expand_as(points)
    upper = w.new_zeros(dimensions, dimensions)
    upper[tuple(torch.triu_indices(dimensions, dimensions))] = w[dimensions:]
    return w[:dimensions] + points @ (upper + upper.T)


def discriminator_gradient(
    w: Float[Tensor, " features"], real: Features, generated: Features
) -> Float[Tensor, " features"]:
    """Return ∇_w of D's loss, the mean over the real points plus the mean over the generated ones.

    Args:
        w: D's weights.
        real: φ of the real points.
        generated: φ of the generated points.

    Source:
        Weber 2021, eq. 18, where φ(x) is x.
    """
    of_real = ((torch.sigmoid(real @ w) - 1)[:, None] * real).mean(0)
    return of_real + (torch.sigmoid(generated @ w)[:, None] * generated).mean(0)


def inverse_points(
    w: Float[Tensor, " features"], generated: Points, rate: float, discriminator: Discriminator = "linear"
) -> Points:
    """Return x' = x - η (σ(wᵀφ(x)) - 1) ∇_x wᵀφ(x), a step of each point towards "real".

    Source:
        Weber 2021, eqs. 20 and 21, where φ(x) is x.
    """
    labels = torch.sigmoid(features(generated, discriminator) @ w)
    return generated - rate * (labels - 1)[:, None] * logit_slopes(w, generated, discriminator)


def regression_gradient(
    latents: Float[Tensor, "points augmented"], generated: Points, targets: Points
) -> Float[Tensor, "dimensions augmented"]:
    """Return ∇_B of the mean over points of ½ ‖B z̃ - x'‖².

    Source:
        Weber 2021, eqs. 11 and 12.
    """
    return (generated - targets).T @ latents / len(latents)


def closed_form(latents: Float[Tensor, "points augmented"], targets: Points) -> Float[Tensor, "dimensions augmented"]:
    """Return B = X'ᵀ Z̃ (Z̃ᵀ Z̃)⁻¹, the regression's solution.

    Source:
        Weber 2021, eq. 22.
    """
    return torch.linalg.solve(latents.T @ latents, latents.T @ targets).T


@dataclass(frozen=True)
class ToyGAN:
    """The settings of a training.

    Args:
        mean: μ of the data.
        covariance: Σ of the data, positive definite.
        discriminator: What D sees of a point: `linear` the point itself, `quadratic` also its values' products.
        solver: The way in which B follows the targets: `gradient` takes one step of unit rate, which eq. 13 makes a
            step of rate `inversion_rate` of the GAN; `closed_form` solves the regression.
        steps: Steps of D, and of G.
        points: N, real and generated points in a step.
        discriminator_rate: Learning rate of w. A quadratic D wants a lower one, such as 0.03: its features are larger,
            and at 0.1 its steps overshoot.
        inversion_rate: η of eq. 21.
        seed: Seed of all points.
    """

    mean: tuple[float, ...] = (2.0, -1.0)
    covariance: tuple[tuple[float, ...], ...] = ((1.0, 0.8), (0.8, 2.0))
    discriminator: Discriminator = "linear"
    solver: Literal["gradient", "closed_form"] = "gradient"
    steps: int = 1000
    points: int = 1000
    discriminator_rate: float = 0.1
    inversion_rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: If one is out of range.
        """
        dimensions = len(self.mean)
        if dimensions < 1 or [len(row) for row in self.covariance] != [dimensions] * dimensions:
            raise SettingError(
                f"covariance must be {dimensions} rows of {dimensions} values, as mean has {dimensions}, got "
                f"{[len(row) for row in self.covariance]}."
            )
        sigma = torch.tensor(self.covariance, dtype=torch.float64)
        if not torch.equal(sigma, sigma.T) or not bool((torch.linalg.eigvalsh(sigma) > 0).all()):
            raise SettingError(f"covariance must be symmetric and positive definite, got {self.covariance}.")
        at_least(self, 1, steps=self.steps)
        at_least(self, dimensions + 1, points=self.points)
        above(self, 0, discriminator_rate=self.discriminator_rate, inversion_rate=self.inversion_rate)
        one_of(self, get_args(Discriminator), discriminator=self.discriminator)
        one_of(self, ("gradient", "closed_form"), solver=self.solver)


@dataclass(frozen=True)
class ToyHistory:
    """A training, step by step; the first row is before it.

    Attributes:
        settings: Of the training.
        means: Mean of the generator's distribution, exactly: B's last column.
        covariances: Its covariance, exactly: A Aᵀ, where A is B without the last column.
    """

    settings: ToyGAN
    means: Float64[Tensor, "steps dimensions"]
    covariances: Float64[Tensor, "steps dimensions dimensions"]

    def errors(self) -> Mapping[str, Float64[Tensor, " steps"]]:
        """Return ‖m - μ‖ and ‖C - Σ‖ (Frobenius), each as a share of its value at the start.

        A distance that was 0 at the start stays unscaled: for a mean of 0, or for the identity as covariance.
        """
        found = {
            "mean": (self.means - torch.tensor(self.settings.mean).double()).norm(dim=1),
            "covariance": (self.covariances - torch.tensor(self.settings.covariance).double()).flatten(1).norm(dim=1),
        }
        return {name: error / error[0] if error[0] > 0 else error for name, error in found.items()}


def train_toy(settings: ToyGAN = ToyGAN()) -> ToyHistory:
    """Train the toy.

    Source:
        Weber 2021, sections 5.1 and 5.2, and footnote 5 for a quadratic discriminator.
    """
    kind = settings.discriminator
    rng = torch.Generator().manual_seed(settings.seed)
    mu, sigma = (torch.tensor(each, dtype=torch.float64) for each in (settings.mean, settings.covariance))
    root, dimensions = torch.linalg.cholesky(sigma), len(mu)

    def drawn() -> Tensor:
        return torch.randn(settings.points, dimensions, dtype=torch.float64, generator=rng)

    b, w = torch.eye(dimensions, dimensions + 1, dtype=torch.float64), torch.zeros_like(features(mu[None], kind)[0])
    history = [b]
    for _ in range(settings.steps):
        latents = augmented(drawn())
        real, generated = drawn() @ root.T + mu, latents @ b.T
        seen = features(real, kind), features(generated, kind)
        w = w - settings.discriminator_rate * discriminator_gradient(w, *seen)
        targets = inverse_points(w, generated, settings.inversion_rate, kind)
        if settings.solver == "closed_form":
            b = closed_form(latents, targets)
        else:
            b = b - regression_gradient(latents, generated, targets)
        history.append(b)
    weights = torch.stack(history)
    maps = weights[:, :, :-1]
    return ToyHistory(settings, weights[:, :, -1], maps @ maps.mT)


DATA_COLOUR, COVARIANCE_COLOUR = "#c82828", "#e68c14"
EARLY_COLOUR, LATE_COLOUR = "#cddcf0", "#143c8c"


def toy_chart(history: ToyHistory, *, ellipses: int = 12) -> "Chart":
    """Return a chart of mean and covariance over training.

    The left panel shows the first two dimensions: the ellipse of one standard deviation of the generated data at some
    steps, from light to dark, and the path of their mean; the data's ellipse is red. The right panel shows the
    distances of `ToyHistory.errors`, on a logarithmic axis.

    Args:
        history: A training in two dimensions or more.
        ellipses: Steps to draw, the first and the last among them; the others are at equal ratios, since the mean moves
            early.

    Raises:
        SettingError: If there is one dimension only, or `ellipses` is below 2.
    """
    from matplotlib.colors import LinearSegmentedColormap

    if history.means.shape[1] < 2:
        raise SettingError("mean must have two values or more for a chart, got 1.")
    if ellipses < 2:
        raise SettingError(f"ellipses must be at least 2, got {ellipses}.")
    last = len(history.means) - 1
    shown = [0, *sorted({round(last ** (i / (ellipses - 1))) for i in range(ellipses)})]
    mu, sigma = (torch.tensor(each).double() for each in (history.settings.mean, history.settings.covariance))
    chart = new_chart(860, 440)
    left, right = chart.subplots(1, 2)

    shades = LinearSegmentedColormap.from_list("training", [EARLY_COLOUR, LATE_COLOUR])
    for i, step in enumerate(shown):
        label = f"generated, step {step}" if step in (0, last) else None
        outline = _ellipse(history.means[step, :2], history.covariances[step, :2, :2])
        left.plot(*outline.T, color=shades(i / (len(shown) - 1)), label=label)
    left.plot(*history.means[:, :2].T, color=LATE_COLOUR, linestyle=":", label="its mean, all steps")
    left.plot(*_ellipse(mu[:2], sigma[:2, :2]).T, color=DATA_COLOUR, label="data")
    left.set(title=f"one standard deviation ({history.settings.solver})", aspect="equal", adjustable="datalim")

    for (name, error), colour in zip(history.errors().items(), (LATE_COLOUR, COVARIANCE_COLOUR), strict=True):
        right.plot(error, color=colour, label=f"{name}, {error[-1].item():.3f} at the end")
    right.set(title="distance from the data's, share of the start's (if not 0)", xlabel="step", yscale="log")
    for axes in (left, right):
        axes.title.set_size("medium")
        axes.legend(fontsize="small")
    return chart


def _ellipse(mean: Tensor, covariance: Tensor, corners: int = 120) -> Float64[Tensor, "corners 2"]:
    """Return the points of the ellipse one standard deviation from the mean."""
    angles = torch.linspace(0, 2 * torch.pi, corners, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    return mean + (circle * values.clamp(min=0).sqrt()) @ vectors.T
