"""Lightning's trainer, which also measures, and makes the last evaluations of a run that goes on."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback, LightningDataModule, LightningModule

from gan_lightning.errors import SettingError
from gan_lightning.runs.contract import complete
from gan_lightning.runs.interruption import Interruption
from gan_lightning.runs.measure import Measure
from gan_lightning.runs.run_folder import RunFolder


class Trainer(pl.Trainer):
    """Lightning's `Trainer`, which also measures a trained model.

    A run may end after its last batch, before or in its last evaluations. When it goes on, it makes these; Lightning
    would do nothing.
    """

    _measures = False

    def measure(
        self,
        model: LightningModule,
        datamodule: LightningDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Make measurements of a finished run: the ones named on the command line, else the ones in its settings.

        Outcomes are added to the run's folder. They replace earlier outcomes of the same measurements and epoch.
        Networks that somebody else has trained have no run; their outcomes get a folder of their own.

        Args:
            model: The trained model.
            datamodule: The data to measure on.
            ckpt_path: A checkpoint of the model; by default the run's `checkpoints/last.ckpt`.
            weights_only: As `test` has it.

        Raises:
            SettingError: There are several processes.
        """
        if self.world_size > 1:
            raise SettingError(f"devices must be 1 for measure, got {self.world_size} processes. Set devices=1.", self)
        self._measures = True
        try:
            self.test(model, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=weights_only, verbose=False)
        finally:
            self._measures = False

    def test(self, model: LightningModule | None = None, *arguments: Any, **settings: Any) -> Any:
        """Test as Lightning does; a model may lack `test_step`."""
        if model is not None:
            complete(model)
        return super().test(model, *arguments, **settings)

    def predict(self, model: LightningModule | None = None, *arguments: Any, **settings: Any) -> Any:
        """Predict as Lightning does; without `predict_step` a model gives the features of its extractors."""
        if model is not None:
            complete(model)
        return super().predict(model, *arguments, **settings)

    @property
    def task(self) -> str | None:
        """The trainer's task: Lightning's name for it, or `measure`."""
        return "measure" if self._measures else self.state.fn

    def _run_stage(self) -> Any:
        """Measure at the place of Lightning's test, when weights and devices are in place."""
        if self._measures:
            kinds = Interruption | RunFolder | Measure  # in this order: the folder is there before the figures
            listed: list[Callback] = self.callbacks  # type: ignore[attr-defined]
            callbacks = [each for each in listed if isinstance(each, kinds)]
            for callback in callbacks:
                if isinstance(callback, Measure):
                    callback.check_any(self)
            for callback in callbacks:
                callback.on_test_start(self, self.lightning_module)
            for callback in callbacks:
                callback.on_test_end(self, self.lightning_module)
            return None
        ended = self.training and self.ckpt_path is not None and self.fit_loop.done
        done = super()._run_stage()
        if ended and self.fit_loop.max_batches:  # Lightning would leave out even the work at the end
            self.fit_loop.on_run_start()
            self.fit_loop.on_run_end()
        return done
