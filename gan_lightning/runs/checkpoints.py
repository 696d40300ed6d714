"""When checkpoints are written: where a run can go on as if it had never stopped."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from gan_lightning.errors import SettingError
from gan_lightning.runs.checkpoint_files import WholeCheckpointIO
from gan_lightning.runs.counting import is_last_epoch
from gan_lightning.runs.interruption import Interrupted, interruption
from gan_lightning.system.files import writing_folder

NEWEST = "newest"
"""Name of the file to go on from, where checkpoints are chosen by a metric, hold weights alone, or none are kept."""


class Checkpoints(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, whose files are whole and say where exactly to go on.

    Between an epoch's last batch and its end, in the validation and the evaluations, Lightning cannot take up a run
    again without leaving something out: what would be saved there is saved at the end of that epoch. What is asked for
    by a validation within an epoch, or before it, is saved after the next batch. Files and the link `last.ckpt` appear
    whole, and replace the earlier ones in one step. A run that is told to end (`Interruption`) saves before it does.

    Where checkpoints are chosen by a metric, `newest.ckpt` is there, too, to go on from, when the newest is not chosen.
    """

    _due: bool = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder, and have files written whole.

        Raises:
            SettingError: If checkpoints are asked for after some time.
        """
        if stage == "fit" and self._train_time_interval is not None:
            raise SettingError(
                f"train_time_interval must not be set, got {self._train_time_interval}: checkpoints come after batches "
                "or epochs. Set every_n_train_steps.",
                self,
            )
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        self._due = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after every so manieth batch or after a validation's batch, or where the run has to end."""
        every = self._every_n_train_steps
        asked = every > 0 and trainer.global_step % every == 0 and not self._should_skip_saving_checkpoint(trainer)
        told = self._told(trainer)
        self._due |= asked
        if trainer.is_last_batch or _validates_next(trainer):
            return
        if self._due and (self.monitor is None or self.monitor in self._monitor_candidates(trainer)):
            self._due = False
            self._save(trainer)
        if told is not None:
            self._save_and_end(trainer, told)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the next batch or the end of the epoch save, where Lightning would save here."""
        if not self._should_skip_saving_checkpoint(trainer) and not self._should_save_on_train_epoch_end(trainer):
            self._due |= self._epoch_asks(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the epoch's end or its last batch asks for."""
        # A training that `max_steps` ends within an epoch has saved at the batch, before what the epoch's end does.
        self._check_monitor(trainer)
        due, self._due = self._due or self._last_global_step_saved == trainer.global_step > 0, False
        if self._should_save_on_train_epoch_end(trainer) and self._epoch_asks(trainer):
            due = True
        if due and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save(trainer)
        elif is_last_epoch(trainer, trainer.current_epoch + 1) and not self._should_skip_saving_checkpoint(trainer):
            # Lightning would save it after the last evaluations, which a run that goes on with it does again.
            self._save_last_unless_saved(trainer)
        if (told := self._told(trainer)) is not None:
            self._save_and_end(trainer, told)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what ended in a way that could not be known at the end of its last epoch, and was never saved."""
        self._save_last_unless_saved(trainer)

    def _save_last_unless_saved(self, trainer: Trainer) -> None:
        if self.save_last and not self._last_checkpoint_saved:
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the scores so far; the files themselves come into this run's folder (`RunFolder`)."""
        here = {
            name: self._here(state_dict[name])
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
            if state_dict.get(name)
        }
        best = {self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **here, "best_k_models": best, "dirpath": self.dirpath})
        self._last_checkpoint_saved = self.best_model_path

    def _here(self, path: str) -> str:
        return path if self.dirpath is None else str(Path(self.dirpath, Path(path).name))

    def _check_monitor(self, trainer: Trainer) -> None:
        """Check, after the first validation, that what chooses checkpoints is logged; Lightning would keep none.

        Raises:
            SettingError: It is not.
        """
        every, candidates = trainer.check_val_every_n_epoch, self._monitor_candidates(trainer)
        validated = trainer.is_last_batch and every is not None and (trainer.current_epoch + 1) % every == 0
        dry = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        if self.monitor is None or self.monitor in candidates or not validated or dry:
            return
        raise SettingError(
            f"monitor must be logged by the end of an epoch, got '{self.monitor}', which is not. One of "
            f"{', '.join(sorted(candidates))}, or from what a measurement gives every epoch.",
            self,
        )

    def _epoch_asks(self, trainer: Trainer) -> bool:
        every = self._every_n_epochs
        return every > 0 and (trainer.current_epoch + 1) % every == 0

    def _told(self, trainer: Trainer) -> int | None:
        listening = interruption(trainer)
        return None if listening is None else listening.agreed(trainer)

    def _save(self, trainer: Trainer) -> None:
        candidates = self._monitor_candidates(trainer)
        self._last_global_step_saved = 0  # what a batch has saved at this step is not the end of its epoch
        self._save_topk_checkpoint(trainer, candidates)
        if self._last_global_step_saved == trainer.global_step or (
            self.save_last == "link" and self._last_checkpoint_saved
        ):
            self._save_last_checkpoint(trainer, candidates)
        if self._last_global_step_saved != trainer.global_step and self.save_top_k and not self.save_weights_only:
            self._save_newest(trainer)

    def _save_newest(self, trainer: Trainer) -> None:
        """Save a whole checkpoint beside those that are kept, which `last.ckpt` does not point to."""
        trainer.save_checkpoint(self.format_checkpoint_name({}, NEWEST), weights_only=False)
        self._last_global_step_saved = trainer.global_step

    def _save_and_end(self, trainer: Trainer, signum: int) -> None:
        """Save, if that has not been done at this batch, and end."""
        saved = self._last_global_step_saved == trainer.global_step and not self.save_weights_only
        if not saved and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if self.monitor is None and self.save_top_k and not self.save_weights_only:
                self._save(trainer)
            else:
                self._save_newest(trainer)
        raise Interrupted(signum)

    @staticmethod
    def _link_checkpoint(trainer: Trainer, filepath: str, linkpath: str) -> None:
        """Have the link point to the file, in one step: at no moment is there no link, or one to nothing."""
        if trainer.is_global_zero and Path(filepath).absolute() != Path(linkpath).absolute():
            link(Path(filepath), Path(linkpath))
        trainer.strategy.barrier()


def _validates_next(trainer: Trainer) -> bool:
    """Return whether a validation follows this batch, but not each: a run that goes on from here would leave it out."""
    loop = trainer.fit_loop
    by_time = trainer._val_check_time_interval is not None  # type: ignore[attr-defined]
    if trainer.val_check_batch == 1 or by_time:
        return False
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def link(file: Path, name: Path) -> None:
    """Have a name point to a file of the same or another folder, in one step; a copy where there are no links."""
    with writing_folder(name.parent) as folder:
        temporary = folder / name.name
        try:
            temporary.symlink_to(os.path.relpath(file, name.parent))
        except OSError:
            shutil.copy2(file, temporary)
        temporary.replace(name)


def saved_files(trainer: Trainer) -> list[Path]:
    """Return the files that the trainer's callbacks keep."""
    callbacks = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    found = [path for callback in callbacks for path in (*callback.best_k_models, callback.best_model_path)]
    return [Path(path) for path in dict.fromkeys(filter(None, found))]
