"""The callback that measures and draws the two sub-problems of the generator's step."""

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from gan_lightning.errors import at_least
from gan_lightning.figures import Figure
from gan_lightning.interfaces import GeneratesImages, Images
from gan_lightning.measurements.measurement import Outcome
from gan_lightning.papers.subproblem.gradient_agreement import inverse_examples_picture, measured_agreement
from gan_lightning.papers.subproblem.inductive_bias import InductiveBias, Spectrum
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.papers.subproblem.targets import TargetRegression
from gan_lightning.runs.counting import batches_done
from gan_lightning.runs.delivery import deliver
from gan_lightning.runs.run_folder import is_dry_run, write_picture
from gan_lightning.system.seeds import own_or_run_seed
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, UpdatesGenerator, resting_statistics

GROUP = "subproblem"
"""The settings' group, and the first part of the figures' names."""

HIDDEN = InverseExamples(regression="half_sum", regression_rate=1.0)
"""The inverse examples of direct training, by eq. 13. Models with another update are measured with their own."""


class SubproblemMonitor(Callback):
    """Compares a generator's two sub-problems with its step while it trains; off unless asked for.

    On batches it logs `subproblem/gradient_ratio`, ‖∇_θ ℓ‖ / (η ‖∇_θ L‖), and `subproblem/gradient_angle`, the angle
    between the two in degrees. They are of the model's own inverse examples; for direct training, of the inverse
    examples that eq. 13 implies. ℓ is ½ ‖x(θ) - x'‖²; the factors of `sum`, `half_sum`, `mean` and η_reg are divided
    out. By eq. 13 the ratio is 1 and the angle 0, if x' is one step of `sgd` on the model's own loss, without total
    variation and with no value clamped. Other x' are measured in the same way, but the theorem predicts nothing. The
    same is true of `l1`, `ssim` and `perceptual`, for which ℓ is η_reg times the distance, and of a `TargetRegression`,
    which has no η: the ratio is that of the two gradients, and the angle tells how far its step is from the GAN's.

    After epochs it logs `subproblem/trace` and `subproblem/effective_rank` of the inductive bias K_θ(x), in eval mode.
    They are means over some images, always from the same latents. A picture shows x, x', their difference and the
    amplified difference, of the last batch of the epoch or of the run: `pictures/subproblem-...`.
    `subproblem/amplification` is its factor.

    Neither weights, batch-norm statistics nor the random numbers of the training change. Models without a generator of
    images are passed over.

    Args:
        every_n_batches: Batches between two measurements of the gradients; 0 measures none. Each costs about three more
            backward passes.
        every_n_epochs: Epochs between two pictures and measurements of the inductive bias; 0 makes none.
        columns: Images in a row of the picture.
        images: Number of images for the inductive bias.
        probes: Random products per image, for the estimates of trace and effective rank.
        seed: Seed of the latents and of the products; by default the run's.
    """

    def __init__(
        self,
        every_n_batches: int = 0,
        every_n_epochs: int = 0,
        columns: int = 10,
        images: int = 4,
        probes: int = 8,
        seed: int | None = None,
    ) -> None:
        at_least(self, 0, every_n_batches=every_n_batches, every_n_epochs=every_n_epochs)
        at_least(self, 1, columns=columns, images=images, probes=probes)
        self.every_n_batches, self.every_n_epochs = every_n_batches, every_n_epochs
        self.columns, self.images, self.probes, self.seed = columns, images, probes, seed
        self._last: dict[str, float] = {}
        """The last measured figures, by name."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the last training."""
        if stage == "fit":
            self._last = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Observe the generator's step, if this batch is measured or drawn."""
        if not isinstance(pl_module, UpdatesGenerator) or is_dry_run(trainer):
            return
        measures = self.every_n_batches > 0 and batches_done(trainer) % self.every_n_batches == 0
        ends = trainer.is_last_batch or trainer.global_step + 1 == trainer.max_steps  # of Lightning's own count
        draws = self._due(trainer) and ends
        if measures or draws:
            pl_module.generator_observer = self._observer(trainer, pl_module, measures, draws)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop observing."""
        if isinstance(pl_module, UpdatesGenerator):
            pl_module.generator_observer = None

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether this batch is measured; the last ones, which may be drawn, have their hooks in any case."""
        return self.every_n_batches > 0 and (number - 1) % self.every_n_batches == 0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the inductive bias, if it is due after this epoch."""
        if not self._due(trainer) or is_dry_run(trainer) or not isinstance(pl_module, GeneratesImages):
            return
        if not isinstance(pl_module, UpdatesGenerator):
            return
        with trainer.precision_plugin.forward_context():
            spectra = generator_spectra(pl_module, self.images, self.probes, own_or_run_seed(self.seed))
        names = ("trace", "effective_rank")
        self._log(trainer, {name: sum(getattr(s, name) for s in spectra) / len(spectra) for name in names})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last measured figures."""
        epoch, batches = trainer.current_epoch, batches_done(trainer)
        figures = [
            Figure(measurement=GROUP, metric=name, value=value, split="", epoch=epoch, batches=batches)
            for name, value in self._last.items()
            if math.isfinite(value)
        ]
        if figures:
            names = ("every_n_batches", "every_n_epochs", "columns", "images", "probes", "seed")
            settings = {name: getattr(self, name) for name in names}
            deliver(trainer, pl_module, GROUP, settings, Outcome(figures), logs=False, shows=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the last measured figures, for a run that goes on."""
        return {"last": self._last} if self._last else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the figures again."""
        self._last = dict(state_dict["last"])

    def _log(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Log figures once. Figures logged through the model would stand in every later row of the epoch."""
        self._last |= metrics
        for logger in trainer.loggers if trainer.is_global_zero else []:
            named = {f"{GROUP}/{name}": value for name, value in metrics.items()}
            logger.log_metrics(named, step=batches_done(trainer))

    def _due(self, trainer: Trainer) -> bool:
        return self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _observer(
        self, trainer: Trainer, pl_module: LightningModule, measures: bool, draws: bool
    ) -> Callable[[GeneratorLoss], None]:
        assert isinstance(pl_module, UpdatesGenerator)
        update = pl_module.generator_update
        explicit = HIDDEN if isinstance(update, Direct) else update

        def observe(loss: GeneratorLoss) -> None:
            metrics: dict[str, float] = {}
            with resting_statistics(pl_module):
                if measures:
                    agreement = measured_agreement(loss, explicit)
                    metrics |= {"gradient_ratio": agreement.ratio, "gradient_angle": agreement.angle}
                if draws:
                    if isinstance(explicit, TargetRegression):
                        examples = explicit.targets.find(loss)
                    else:
                        inversion = explicit if isinstance(explicit, InverseExamples) else HIDDEN
                        examples = inversion.invert(loss, retain_graph=True)
                    picture, factor = inverse_examples_picture(examples, columns=self.columns)
                    metrics |= {"amplification": factor}
                    name = f"pictures/{GROUP}-epoch-{trainer.current_epoch:04d}"
                    write_picture(trainer, name, picture, GROUP)
            self._log(trainer, metrics)

        return observe


class _Drawn(nn.Module):
    """The images that a model draws with a seed, as a function of its weights."""

    def __init__(self, model: nn.Module, count: int, seed: int) -> None:
        super().__init__()
        self.model, self.count, self.seed = model, count, seed

    def forward(self) -> Images:
        """Return the first generator's images."""
        assert isinstance(self.model, GeneratesImages)
        weight = next(self.model.parameters())
        return self.model.generate(self.count, torch.Generator(weight.device).manual_seed(self.seed))[0]


def generator_spectra(model: nn.Module, images: int, probes: int, seed: int) -> list[Spectrum]:
    """Return the spectra of K_θ(x) at images that a model draws with a seed, in eval mode. Nothing changes.

    Autocasting is off meanwhile: forward-mode derivatives of transposed convolutions do not work with it.

    Args:
        model: Has `generate`; the first of several generators is measured.
        images: Number of images.
        probes: Random products per image.
        seed: Of the latents and of the products.
    """
    modes = {layer: layer.training for layer in model.modules()}
    try:
        drawn = _Drawn(model.eval(), images, seed)
        device = next(model.parameters()).device
        rng = torch.Generator(device).manual_seed(seed)
        with torch.autocast(device.type, enabled=False):
            biases = (InductiveBias(drawn, select=itemgetter(i)) for i in range(images))
            return [bias.estimated_spectrum(probes, rng) for bias in biases]
    finally:
        for layer, training in modes.items():
            layer.training = training
