"""The message of a training that stops at NaN or infinity."""

from lightning.pytorch import Trainer

from gan_lightning.runs.counting import batches_done


def stopped_at(trainer: Trainer, what: str, batches: int | None = None) -> str:
    """Return the message of a training that stops.

    Args:
        trainer: Of the run.
        what: The reason, as the beginning of a sentence.
        batches: Trained batches before it; by default all that are trained.
    """
    names = ("last_model_path", "best_model_path")  # without a metric, the best one is the newest
    saved = [getattr(callback, name, "") for callback in trainer.checkpoint_callbacks for name in names]
    last = next(filter(None, [*saved, trainer.ckpt_path]), "none was saved yet")
    done = batches_done(trainer) if batches is None else batches
    return (
        f"{what} after {done} batches, in epoch {trainer.current_epoch}; training stops. "
        f"Last good checkpoint: {last}. Try lower learning rates."
    )
