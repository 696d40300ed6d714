"""The callback that measures the density ratio while a model trains, and warns or stops at a collapse."""

import logging
from collections.abc import Mapping
from typing import Any, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from gan_lightning.errors import DataError, NonFiniteError, SettingError, at_least, one_of
from gan_lightning.evaluation import drawn_images
from gan_lightning.evaluation.curves import curves_chart, picture_of
from gan_lightning.evaluation.features import dtype_of
from gan_lightning.figures import BATCH, Figure
from gan_lightning.interfaces import JudgesImages, LabelledImages
from gan_lightning.measurements.measurement import Outcome
from gan_lightning.papers.mgan.density_ratio import (
    Alarm,
    AlarmRule,
    BatchNormOfJudge,
    judging,
    log_density_ratio,
    ratio_statistics,
)
from gan_lightning.runs.counting import batches_done
from gan_lightning.runs.delivery import deliver
from gan_lightning.runs.run_folder import is_dry_run
from gan_lightning.system.seeds import own_or_run_seed

logger = logging.getLogger(__name__)

DEFAULT_RULE = AlarmRule()

GROUP = "density_ratio"
"""The settings' group, and the first part of the figures' names."""

WHEN = ("batch", "epoch", "limit")
"""What a check says besides its figures."""

ASKED_FOR = ("spread", "distance")
"""The figures that are 0 by the paper: the spread by Corollaries 2 and 3, the distance by Proposition 3."""

DRAWN = 200
"""Largest number of evenly spaced checks in the picture. It also shows the last check and each alarm."""


class DensityRatioMonitor(Callback):
    """Measures α(x) = p_g(x) / p_r(x), as the discriminator implies it, on always the same real images.

    Logs `density_ratio/mean`, `spread`, `robust_spread`, `distance`, `q05` to `q95` and `correlation` of log α (see
    `RatioStatistics`). `density_ratio/alarm` is 1 at a check at which the rule says collapse; a warning says so, too.
    The last check and the curves are figures of the run, and `pictures/density_ratio.png` draws them. Spread and
    distance at the last check of each epoch are figures, too: by the paper both are 0. A resumed run continues the
    series. Weights, modes, batch-norm statistics and random numbers stay as they are. Models without a discriminator of
    images are passed over, and data modules that declare no images. The figures are a density ratio only if the
    logistic loss trains the discriminator. With another loss only their changes mean something.

    Args:
        every_n_batches: Batches between two checks; 0 makes none. A check costs a forward pass of D on `images`.
        images: Real images, drawn from the training split, without augmentation.
        seed: Of the draw; by default the run's.
        batch_norm: Statistics of D's batch norm: `batch` takes them from these images, as in D's training; `running`
            takes the gathered ones, which mix real and generated images.
        alarm: The rule for an alarm; null never raises one.
        stop: Whether an alarm ends the training.

    Raises:
        SettingError: If a setting is out of range, or `stop` is set without an alarm.

    Source:
        Mao et al. 2022, Corollaries 1 to 3, and section 5.
    """

    def __init__(
        self,
        every_n_batches: int = 10,
        images: int = 128,
        seed: int | None = None,
        batch_norm: BatchNormOfJudge = "batch",
        alarm: AlarmRule | None = DEFAULT_RULE,
        stop: bool = False,
    ) -> None:
        at_least(self, 0, every_n_batches=every_n_batches)
        at_least(self, 2, images=images)
        one_of(self, get_args(BatchNormOfJudge), batch_norm=batch_norm)
        if stop and alarm is None:
            raise SettingError("stop must be false without an alarm, got true. Set alarm.", self)
        self.every_n_batches, self.images, self.seed = every_n_batches, images, seed
        self.batch_norm: BatchNormOfJudge = batch_norm
        self.rule, self.stop = alarm, stop
        self._drawn: Tensor | None = None
        self._begin([])

    def _begin(self, history: list[dict[str, float]], log_ratio: Tensor | None = None) -> None:
        """Go on after these checks."""
        self.history = history
        """The checks: the logged metrics, `batch`, and the alarm's `limit`, if there is one."""
        self._log_ratio = log_ratio
        self._alarm = None if self.rule is None else Alarm(self.rule)
        self._alarmed = False
        for check in history:
            if self._alarm is not None:
                self._alarmed = self._alarm.check(check[self._alarm.rule.watch])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Draw the images, before any training.

        Raises:
            DataError: If there is only one.
        """
        if stage != "fit":
            return
        self._begin([])
        self._drawn = None
        data = getattr(trainer, "datamodule", None)
        if not self.every_n_batches or is_dry_run(trainer):
            return
        if not isinstance(pl_module, JudgesImages) or not isinstance(data, LabelledImages):
            return
        self._drawn = drawn_images(
            data.evaluation_batches("train", torch.device("cpu")), self.images, own_or_run_seed(self.seed)
        )
        if len(self._drawn) < 2:
            raise DataError(
                f"The density ratio needs two training images, and {data.name} has {len(self._drawn)}. Use more, or "
                "switch it off with every_n_batches=0."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the images to the model. A run that an alarm has stopped stays stopped when it is resumed."""
        if self._drawn is not None:
            self._drawn = self._drawn.to(pl_module.device, dtype_of(pl_module))
            if self._alarmed and self.stop:
                trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Measure, if a check is due after this batch."""
        batches = batches_done(trainer)
        if self._drawn is None or batches % self.every_n_batches:
            return
        assert isinstance(pl_module, JudgesImages)
        with judging(pl_module, self.batch_norm):
            logits = pl_module.real_logits(self._drawn)
        if logits is None:
            return
        # Every process judges the same images, and the first one's word counts, so that all stop together.
        logits = trainer.strategy.broadcast(logits.cpu())
        try:
            log_ratio = log_density_ratio(logits)
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} Found after batch {batches}, in epoch {trainer.current_epoch}.") from error
        metrics = ratio_statistics(log_ratio, self._log_ratio).metrics()
        self._log_ratio = log_ratio
        check = {"batch": float(batches), "epoch": float(trainer.current_epoch + 1), **metrics}
        if self._alarm is not None:
            if (limit := self._alarm.limit) is not None:
                check["limit"] = limit
            before, self._alarmed = self._alarmed, self._alarm.check(metrics[self._alarm.rule.watch])
            check["alarm"] = metrics["alarm"] = float(self._alarmed)
            if self._alarmed and not before:
                self._warn(trainer, check, self._alarm.rule)
            if self._alarmed and self.stop:
                trainer.should_stop = True
        self.history.append(check)
        for log in trainer.loggers if trainer.is_global_zero else []:
            log.log_metrics({f"density_ratio/{name}": value for name, value in metrics.items()}, step=batches)

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether a check is due after this batch."""
        return self._drawn is not None and number % self.every_n_batches == 0

    def _warn(self, trainer: Trainer, check: Mapping[str, float], rule: AlarmRule) -> None:
        if not trainer.is_global_zero:
            return
        figure, usual = check[rule.watch], check["limit"] / rule.factor
        logger.warning(
            "The density ratio says collapse after batch %d, in epoch %d: the %s of log α over %d real images is %.3g, "
            "%.1f times the %.3g that was usual. %s",
            batches_done(trainer),
            trainer.current_epoch,
            rule.watch,
            self.images if self._drawn is None else len(self._drawn),
            figure,
            figure / usual,
            usual,
            "The training stops, as `stop` asks for."
            if self.stop
            else "Look at the samples; a lower learning rate of the generator may help.",
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves, and write the last check and when there were alarms."""
        if not self.history:
            return
        alarms = [int(check["batch"]) for check in self.history if check.get("alarm")]
        images = 0 if self._drawn is None else len(self._drawn)
        figures = [
            *self._over_epochs(images, trainer),
            *self._figures(self.history[-1], images, trainer),
            *self._curves(images, trainer),
        ]
        details = {"checks": len(self.history), "alarms": alarms, "stopped": bool(self.stop and alarms)}
        # Runs that differ in their seed alone have the same settings, so the seed is the one asked for.
        own = {"seed": self.seed, "every_n_batches": self.every_n_batches, "rule": self.rule, "stop": self.stop}
        settings = {**self._settings(), **own}
        outcome = Outcome(figures, details, {"": ratio_picture(self.history)})
        deliver(trainer, pl_module, GROUP, settings, outcome, logs=False, shows=False)

    def _figures(self, check: Mapping[str, float], images: int, trainer: Trainer, **more: Any) -> list[Figure]:
        return [
            Figure(
                measurement=GROUP, metric=name, value=float(value), split="train", images=images,
                epoch=trainer.current_epoch, batches=batches_done(trainer), **more,
            )
            for name, value in check.items()
            if name not in WHEN
        ]  # fmt: skip

    def _over_epochs(self, images: int, trainer: Trainer) -> list[Figure]:
        """Return spread and distance at the last check of each epoch but the last."""
        last = {int(check["epoch"]): check for check in self.history}
        return [
            Figure(
                measurement=GROUP, metric=name, value=check[name], split="train", images=images, epoch=epoch,
                batches=int(check["batch"]),
            )
            for epoch, check in last.items()
            if epoch < trainer.current_epoch
            for name in ASKED_FOR
        ]  # fmt: skip

    def _curves(self, images: int, trainer: Trainer) -> list[Figure]:
        """Return the drawn checks as points of curves."""
        return [
            figure
            for check in shown_checks(self.history)
            for figure in self._figures(check, images, trainer, axis=BATCH, at=check["batch"])
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the checks so far, and log α at the last one."""
        return {"settings": self._settings(), "history": self.history, "log_ratio": self._log_ratio}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the checks of a checkpoint, unless they were made in another way."""
        if state_dict["settings"] == self._settings():
            self._begin([dict(check) for check in state_dict["history"]], state_dict["log_ratio"])
        else:
            logger.warning(
                "The checkpoint's density ratio was measured with %s, not %s: its series starts anew.",
                state_dict["settings"],
                self._settings(),
            )

    def _settings(self) -> dict[str, Any]:
        return {"images": self.images, "seed": own_or_run_seed(self.seed), "batch_norm": self.batch_norm}


def shown_checks(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return at most `DRAWN` evenly spaced checks, the last check, and each alarm."""
    every = -(-len(history) // DRAWN)
    return [c for i, c in enumerate(history) if i % every == 0 or i == len(history) - 1 or c.get("alarm")]


def ratio_picture(history: list[dict[str, float]]) -> Tensor:
    """Return the curves of log α over the batches: quantiles; spread, distance and the alarm's limit; correlation.

    Args:
        history: A check each: `batch`, the metrics, and `limit` if there is one.
    """
    shown = shown_checks(history)
    panels = {
        "quantiles of log(p_g / p_r) on real images, nats": ("q95", "q75", "q50", "q25", "q05"),
        "its root mean square and its spread, nats": ("distance", "spread", "robust_spread", "limit"),
        "its correlation with the check before": ("correlation",),
    }
    if any(check.get("alarm") for check in history):
        panels["alarm"] = ("alarm",)
    curves = {
        title: {name: {int(c["batch"]): c[name] for c in shown if name in c} for name in names}
        for title, names in panels.items()
    }
    known = {title: {name: curve for name, curve in each.items() if curve} for title, each in curves.items()}
    return picture_of(curves_chart({title: each for title, each in known.items() if each}, "batch"))
