"""The moments of checkpoints: a run that goes on from them is as if it had never stopped."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from gan_lightning.errors import SettingError
from gan_lightning.runs.checkpoint_files import WholeCheckpointIO
from gan_lightning.runs.counting import batches_done, is_last_epoch
from gan_lightning.runs.interruption import Interrupted, interruption
from gan_lightning.system.files import writing_folder
from gan_lightning.system.private_names import steps_between_saves, validation_follows

NEWEST = "newest"
"""File to go on from, if checkpoints are chosen by a metric, hold weights alone, or none are kept."""


class Checkpoints(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, with whole files that allow to go on exactly.

    Validation and evaluations stand between an epoch's last batch and its end. Lightning cannot take up a run again
    there without leaving something out. Checkpoints due there are therefore saved at the end of the epoch. A checkpoint
    that a validation within an epoch asks for is saved after the next batch; so is one due right before such a
    validation. Files and the link `last.ckpt` appear whole, and replace the earlier ones in one step. A run that is
    told to end (`Interruption`) saves first.

    A metric may choose the checkpoints. If it does not choose the newest one, this one is kept as `newest.ckpt`, to go
    on from.
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
        """Save if the number of batches asks for it, if a validation asked before, or if the run has to end."""
        every = steps_between_saves(self)
        asked = every > 0 and trainer.global_step % every == 0 and self._may_save(trainer)
        told = self._told(trainer)
        self._due |= asked
        if trainer.is_last_batch or _validates_next(trainer):
            return
        if self._due and (self.monitor is None or self.monitor in self._monitor_candidates(trainer)):
            self._due = False
            self._save(trainer)
        if told is not None:
            self._save_and_end(trainer, told)

    def looks_at_batch(self, trainer: Trainer, number: int) -> bool:
        """Return whether a save is due in this batch."""
        every, done = steps_between_saves(self), batches_done(trainer)
        # In `training_step` the batch has stepped, but Lightning counts it later.
        return self._due or (every > 0 and (trainer.global_step + number - done - 1) % every == 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that a save is due, if Lightning would save here; the next batch or the end of the epoch saves."""
        if self._may_save(trainer) and not self._should_save_on_train_epoch_end(trainer):
            self._due |= self._epoch_asks(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the epoch's end or its last batch asks for it."""
        # `max_steps` may end a training within an epoch. It then has saved at the batch, before the work of the epoch's
        # end.
        self._check_monitor(trainer)
        due, self._due = self._due or self._last_global_step_saved == trainer.global_step > 0, False
        if self._should_save_on_train_epoch_end(trainer) and self._epoch_asks(trainer):
            due = True
        if due and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save(trainer)
        elif is_last_epoch(trainer, trainer.current_epoch + 1) and self._may_save(trainer):
            # Lightning would save after the last evaluations. A run that goes on would then make them again.
            self._save_last_unless_saved(trainer)
        if (told := self._told(trainer)) is not None:
            self._save_and_end(trainer, told)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a training that was never saved, because its last epoch did not know that it was the last."""
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
        """Check, after the first validation, that the choosing metric is logged; Lightning would keep no checkpoint.

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
        every = self.every_n_epochs or 0
        return every > 0 and (trainer.current_epoch + 1) % every == 0

    def _may_save(self, trainer: Trainer) -> bool:
        """Return whether the trainer is at a place of a training that has not been saved yet."""
        dry = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        trains = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        return trains and not dry and self._last_global_step_saved != trainer.global_step

    def _told(self, trainer: Trainer) -> int | None:
        listening = interruption(trainer)
        return None if listening is None else listening.agreed(trainer)

    def _save(self, trainer: Trainer) -> None:
        candidates = self._monitor_candidates(trainer)
        self._last_global_step_saved = 0  # a batch's save at this step lacks the end of its epoch
        self._save_topk_checkpoint(trainer, candidates)
        if self._last_global_step_saved == trainer.global_step or (
            self.save_last == "link" and self._last_checkpoint_saved
        ):
            self._save_last_checkpoint(trainer, candidates)
        if self._last_global_step_saved != trainer.global_step and self.save_top_k and not self.save_weights_only:
            self._save_newest(trainer)

    def _save_newest(self, trainer: Trainer) -> None:
        """Save a whole checkpoint beside the kept ones; `last.ckpt` does not point to it."""
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
        """Point the link to the file, in one step: at every moment there is a link, and it points to a file."""
        if trainer.is_global_zero and Path(filepath).absolute() != Path(linkpath).absolute():
            link(Path(filepath), Path(linkpath))
        trainer.strategy.barrier()


def _validates_next(trainer: Trainer) -> bool:
    """Return whether a validation follows this batch but not each. A run that goes on from here would leave it out."""
    after_each_or_by_time = trainer.val_check_batch in (1, None)
    return not after_each_or_by_time and validation_follows(trainer)


def link(file: Path, name: Path) -> None:
    """Point a name to a file of the same or another folder, in one step. Without links it becomes a copy."""
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
