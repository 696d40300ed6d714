"""The moments of measurements: while a model trains, after every fit, and under `test`."""

import logging
import re
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gan_lightning.errors import MeasurementError, SettingError, refused
from gan_lightning.figures import Best, Figure
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.measurement import Measurement, Outcome, default_of
from gan_lightning.runs.checkpoint_files import read_checkpoint
from gan_lightning.runs.contract import try_model
from gan_lightning.runs.counting import batches_done, counts_in, is_last_epoch
from gan_lightning.runs.delivery import check_same_data, deliver, read_run, show_to_monitors, write_passed_over
from gan_lightning.runs.interruption import interruption
from gan_lightning.runs.progress import progress_bars
from gan_lightning.runs.run_folder import RunFolder, is_dry_run, run_folder
from gan_lightning.system.private_names import look_at_epoch_end, looks_at_epoch_end
from gan_lightning.system.processes import gather_objects
from gan_lightning.system.seeds import run_seed

logger = logging.getLogger(__name__)


SWITCHED_OFF = "it is switched off"
"""The reason why an unwanted measurement is not made."""


RESERVED = {
    *("run", "data", "targets", "model", "trainer", "checkpoint", "features", "speed", "density_ratio", "subproblem"),
    *("voc", "measurements", "curve", "train", "val", "test", "checkpoints", "pictures", "metrics", "config"),
    "figures",
}
"""Names of other settings, metrics or files of a run."""


class _ToldToEndError(BaseException):
    """The run was told to end during a measurement."""


class Measure(Callback):
    """Makes measurements of a model: each after a fit, under `test`, and every n epochs if its settings ask for it.

    The order in which measurements and callbacks are listed does not matter. Outcomes go into the run's folder
    (`RunFolder`), to the loggers and to the terminal. Everything is checked before the training. First of all, the
    declared methods of the model are tried on two images; `ModelContract` does the same for runs without measurements.
    If a model lacks the needs of a measurement, it is passed over, and the run's `figures.json` says why.

    A run that is told to end during a measurement ends within a batch. When it goes on, it makes this measurement
    first. If a checkpoint or early stopping waits for the figures, the measurement is finished before the end.

    Args:
        measurements: The measurements.

    Raises:
        SettingError: Two measurements have one name, or follow each other in a circle.
    """

    def __init__(self, *measurements: Measurement) -> None:
        self.measurements = in_order(measurements)
        self.outcomes: dict[str, Outcome] = {}
        """The last outcomes, by the measurements' names."""
        self.passed_over: dict[str, str] = {}
        """The reasons why measurements are not made, by their names."""
        self.history: list[Figure] = []
        """The figures measured while training."""
        self._chosen: list[Measurement] = []
        self._watched: set[str] = set()
        self._lasting: dict[Hashable, Any] = {}
        self.due: int | None = None
        """Epochs of training at a measurement in which the run was told to end; None if none is left to make."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check all measurements before any training.

        Raises:
            UserError: If a measurement cannot be made as asked for, or a callback monitors a figure that is not
                measured.
        """
        if stage not in ("fit", "test", "predict"):
            return
        try_model(trainer, pl_module)
        if stage == "predict" or is_dry_run(trainer):
            return
        self.outcomes, self.passed_over, self.history, self.due = {}, {}, [], None
        self._lasting, self._chosen = {}, []
        bench = self._bench(trainer, pl_module, epoch=None, controls=True)
        for measurement in self.measurements:
            if stage == "fit":
                _check_enabled(measurement)
            reason = SWITCHED_OFF if not measurement.enabled else measurement.passes_over(bench)
            if reason is not None:
                self.passed_over[measurement.name] = reason
                if measurement.enabled and not default_of(measurement, "enabled"):
                    logger.warning("%s is passed over: %s.", measurement.name, reason)
                continue
            with bench.undisturbed():
                measurement.check(bench)
            self._chosen.append(measurement)
        if stage == "fit":
            self._watched = self._check_monitors(trainer, bench)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the measurement in which the earlier run was told to end."""
        if self.due is not None:
            epochs, self.due = self.due, None
            self._while_training(trainer, pl_module, epochs, monitored=False)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, RunFolder):
                    callback.log_pending(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the measurements that are due in this epoch.

        The last epoch is measured after the training, with the controls, unless a callback waits for the figures.
        """
        if not is_dry_run(trainer):
            self._while_training(trainer, pl_module, trainer.current_epoch + 1)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the trained model."""
        if not is_dry_run(trainer):
            self._finished(trainer, pl_module, trainer.current_epoch, batches_done(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the loaded model."""
        if not is_dry_run(trainer):
            epoch = batches = None
            if trainer.ckpt_path is not None:
                epoch, batches = counts_in(read_checkpoint(Path(trainer.ckpt_path), "ckpt_path"))
            folder = run_folder(trainer)
            earlier = None if folder is None else read_run(folder)
            self.history = [] if earlier is None else [f for f in earlier.figures if (f.epoch or 0) < (epoch or 0)]
            self._finished(trainer, pl_module, epoch, batches)

    def state_dict(self) -> dict[str, Any]:
        """Return the figures measured while training, so that a resumed run has all of them."""
        if not self.history and self.due is None:
            return {}
        return {"history": [asdict(figure) for figure in self.history], "due": self.due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the figures again."""
        self.history = [Figure(**figure) for figure in state_dict["history"]]
        self.due = state_dict["due"]

    def check_any(self, trainer: Trainer) -> None:
        """Check that at least one measurement is made, on the run's own data.

        Raises:
            SettingError: All measurements are passed over, or the data are others; says why.
        """
        if (folder := run_folder(trainer)) is not None:
            check_same_data(folder, getattr(trainer, "datamodule", None))
        reasons = {name: why for name, why in self.passed_over.items() if why != SWITCHED_OFF}
        if not self._chosen:
            said = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or "all measurements are switched off"
            raise SettingError(f"measure must have something to measure, got nothing ({said}). Name another one.")

    def _while_training(
        self, trainer: Trainer, pl_module: LightningModule, epochs: int, *, monitored: bool = True
    ) -> None:
        due = [each for each in self._chosen if self._has_its_turn(each, epochs, trainer)]
        if not due:
            return
        bench = self._bench(trainer, pl_module, epoch=epochs, controls=False)
        try:
            for measurement in due:
                try:
                    outcome = self._measured(trainer, pl_module, bench, measurement, final=False)
                except Exception as error:
                    if measurement.name in self._watched or trainer.world_size > 1:
                        raise
                    logger.exception("%s cannot be measured after %d epochs.", measurement.name, epochs, exc_info=error)
                    continue
                if monitored:
                    show_to_monitors(pl_module, outcome.figures)
        except _ToldToEndError:
            self.history = [figure for figure in self.history if figure.epoch != epochs]
            self.due = epochs

    def _has_its_turn(self, measurement: Measurement, epochs: int, trainer: Trainer) -> bool:
        every = measurement.every_n_epochs
        is_last = is_last_epoch(trainer, epochs) and measurement.name not in self._watched
        return every > 0 and epochs % every == 0 and not is_last

    def _finished(self, trainer: Trainer, pl_module: LightningModule, epoch: int | None, batches: int | None) -> None:
        write_passed_over(trainer, pl_module, self.passed_over)
        bench = self._bench(trainer, pl_module, epoch=epoch, controls=True, batches=batches)
        failed: dict[str, Exception] = {}
        for measurement in self._chosen:
            try:
                self._measured(trainer, pl_module, bench, measurement, final=True)
            except Exception as error:
                if trainer.world_size > 1:  # other processes would wait for this one
                    raise
                logger.exception("%s cannot be measured.", measurement.name, exc_info=error)
                failed[measurement.name] = error
        if failed:
            self.passed_over |= {name: f"it failed: {type(error).__name__}: {error}" for name, error in failed.items()}
            write_passed_over(trainer, pl_module, self.passed_over)
            name, first = next(iter(failed.items()))
            raise MeasurementError(
                f"{name} could not be measured ({type(first).__name__}: {first}). Everything else is done and written; "
                "measure it again with gan-lightning measure once it is mended."
            ) from first

    def _measured(
        self, trainer: Trainer, pl_module: LightningModule, bench: Bench, measurement: Measurement, *, final: bool
    ) -> Outcome:
        """Make one measurement; its outcome is written before the next one begins."""
        started = time.perf_counter()
        earlier = [figure for figure in self.history if figure.measurement == measurement.name]
        with self._progress(trainer, bench, may_stop=not final and not self._watched):
            outcome = self.outcomes[measurement.name] = bench.run(measurement)
        if not final:
            self.history += outcome.figures
        deliver(
            trainer,
            pl_module,
            measurement.name,
            measurement.stated_settings(),
            outcome,
            epoch=bench.epoch,
            seconds=time.perf_counter() - started,
            earlier=earlier,
            final=final,
        )
        return outcome

    def _bench(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        *,
        epoch: int | None,
        controls: bool,
        batches: int | None = None,
    ) -> Bench:
        return Bench.of_model(
            pl_module,
            getattr(trainer, "datamodule", None),
            device=trainer.strategy.root_device,
            controls=controls,
            epoch=epoch,
            batches=batches if batches is not None or controls else batches_done(trainer),
            history=self.history,
            seed=gather_objects(run_seed())[0],  # all processes draw the same random weights
            lasting=self._lasting,
        )

    @contextmanager
    def _progress(self, trainer: Trainer, bench: Bench, *, may_stop: bool) -> Iterator[None]:
        """Show the progress of a measurement, and end it if the run is told to."""
        listening = interruption(trainer)

        def report(description: str, done: int, total: int) -> None:
            # Several processes must agree on the place of the end. They do so after the epoch.
            if may_stop and trainer.world_size == 1 and listening is not None and listening.told is not None:
                raise _ToldToEndError
            if show is not None:
                show(description, done, total)

        with progress_bars(trainer) as show:
            bench.report_to(report)
            try:
                yield
            finally:
                bench.report_to(None)

    def _check_monitors(self, trainer: Trainer, bench: Bench) -> set[str]:
        """Check each callback with a monitored figure; return the names of the measurements of these figures."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        by_name = {measurement.name: measurement for measurement in self.measurements}
        watched = set()
        for callback in callbacks:
            monitor = getattr(callback, "monitor", None)
            measurement = by_name.get(monitor.partition("/")[0]) if isinstance(monitor, str) else None
            if measurement is not None:
                check_monitor(callback, measurement, self.passed_over.get(measurement.name), bench)
                watched.add(measurement.name)
        return watched


def in_order(measurements: Sequence[object]) -> list[Measurement]:
    """Return measurements in an order that respects `follows`.

    Raises:
        SettingError: Two have one name, or they follow each other in a circle.
    """
    by_name: dict[str, Measurement] = {}
    for measurement in measurements:
        if not isinstance(measurement, Measurement):
            raise SettingError(
                f"Measure must be given measurements, one by one, got {measurement!r}: Measure(Transfer(), Anatomy())."
            )
        name = getattr(measurement, "name", None)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w-]*", name) or name in RESERVED:
            raise SettingError(
                f"a measurement must have a name of letters, digits and underscores that is no other group's, got "
                f"{name!r} of {type(measurement).__name__}. Give the class an attribute `name`."
            )
        if name in by_name:
            raise SettingError(f"measurements must have names of their own, got {name!r} twice. Leave one out.")
        by_name[name] = measurement
    follows = {name: [other for other in each.follows if other in by_name] for name, each in by_name.items()}
    try:
        return [by_name[name] for name in TopologicalSorter(follows).static_order()]
    except CycleError as error:
        raise SettingError(f"measurements must not follow each other in a circle, got {error.args[1]}.") from error


def _check_enabled(measurement: Measurement) -> None:
    """Refuse a measurement that is asked for every n epochs but switched off."""
    asked = measurement.every_n_epochs not in (0, default_of(measurement, "every_n_epochs"))
    if asked and not measurement.enabled:
        raise SettingError(
            f"every_n_epochs must be 0 where enabled is false, got {measurement.every_n_epochs}. Set enabled to true.",
            measurement,
        )


def check_monitor(callback: Callback, measurement: Measurement, passed_over: str | None, bench: Bench) -> None:
    """Check that a callback finds a new value of its monitored figure at each look.

    Otherwise Lightning would stop in the middle of the training, take an older epoch's figure for the present one's, or
    keep the worst checkpoint.

    Args:
        callback: `ModelCheckpoint`, `EarlyStopping`, or another one with a `monitor`.
        measurement: The measurement of the figure.
        passed_over: Reason why it is not made, if it is not.
        bench: With the model and the data.

    Raises:
        SettingError: It does not find one.
    """
    saves = isinstance(callback, ModelCheckpoint)
    monitor, name = str(getattr(callback, "monitor", "")), measurement.name
    if passed_over is not None or not measurement.every_n_epochs:
        why = "" if passed_over is None or not measurement.enabled else f" ({passed_over})"
        raise SettingError(
            f"monitor must be measured while training, got '{monitor}', which is not{why}. Set enabled=true and "
            f"every_n_epochs=1 of {name}.",
            callback,
        )
    known = measurement.metrics(bench)
    if known is not None and monitor not in known:
        raise refused(callback, "monitor", f"be one of {', '.join(sorted(known))}", monitor)
    best: Best | None = None if known is None else known[monitor]
    mode = getattr(callback, "mode", None)
    if mode is not None and best not in (None, mode):
        raise SettingError(
            f"mode must be {best} with monitor={monitor}, got {mode}, which would keep the worst. Set mode={best}.",
            callback,
        )
    every, kind = measurement.every_n_epochs, type(callback).__name__
    looks = getattr(callback, "every_n_epochs", 1)
    if not looks or looks % every:
        raise SettingError(
            f"every_n_epochs must divide how often {kind} looks at '{monitor}', every {looks} epochs, got {every}: in "
            f"between there is no new figure. Set it to {max(looks, 1)}"
            + (f", or every_n_epochs of {kind} to {every}." if saves else "."),
            measurement,
        )
    if looks_at_epoch_end(callback) is False:
        at_epoch_end = "save_on_train_epoch_end" if saves else "check_on_train_epoch_end"
        raise SettingError(
            f"{at_epoch_end} must not be false with monitor={monitor}, which is measured after the validation. Leave "
            "it out.",
            callback,
        )
    # By default Lightning looks right after the validation, unless this runs once an epoch.
    look_at_epoch_end(callback)
