"""Where checkpoints are written, and the names that point to them."""

import csv
from datetime import timedelta
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer

from gan_lightning.data import Digits
from gan_lightning.errors import SettingError
from gan_lightning.papers import MGAN, Anatomy
from gan_lightning.runs import Checkpoints, Measure, RunFolder
from gan_lightning.runs import Trainer as OwnTrainer
from gan_lightning.runs.checkpoints import link


def test_checkpoints_after_some_time_are_refused():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(SettingError, match=r"^train_time_interval must not be set, got 0:01:00: .*every_n_"):
        Checkpoints(train_time_interval=timedelta(minutes=1)).setup(trainer, MGAN(1, 32), "fit")


@pytest.mark.parametrize("links", [True, False])
def test_a_name_points_to_a_file_or_is_its_copy_where_there_are_no_links(tmp_path, monkeypatch, links):
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    if not links:

        def refuse(*_):
            raise OSError("no links here")

        monkeypatch.setattr(Path, "symlink_to", refuse)
    for name in ("one", "two"):
        link(tmp_path / name, tmp_path / "last")
        assert (tmp_path / "last").read_text() == name
    assert (tmp_path / "last").is_symlink() == links


class StopsAt(Callback):
    """Ends a training as `trainer.max_time` does, after a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step >= self.batch


def ended_by_time(root: Path, stops: Callback, save: dict, **settings: object) -> Path:
    """Train until the time is over, or go on with such a run; return the run's folder."""
    folder = RunFolder(str(root))
    measure = Measure(Anatomy(every_n_epochs=1, images=10))
    trainer = OwnTrainer(
        max_epochs=3, logger=False, accelerator="cpu", log_every_n_steps=1, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[stops, folder, measure, Checkpoints(save_last="link", **save)],
    )  # fmt: skip
    model = MGAN(1, 32, base_width=2, feature_dim=4, generators=2, fake_batch_size=4, latent_dim=2)
    trainer.fit(model, Digits(limit=30, batch_size=10, evaluation_batch_size=10), **settings)
    assert folder.path is not None
    return folder.path


def rows(run: Path) -> list[tuple]:
    """Return the rows of metrics, without the columns that are empty in each."""
    with (run / "metrics.csv").open(newline="") as file:
        return [tuple(sorted((name, value) for name, value in row.items() if value)) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("batch", "save"),
    [(2, {"every_n_train_steps": 100}), (3, {"every_n_epochs": 2}), (4, {"every_n_epochs": 1})],
    ids=["in the first epoch, before any checkpoint", "at its end", "in the second"],
)
def test_a_run_that_its_time_ended_has_each_row_once_also_when_it_goes_on(tmp_path, batch, save):
    ended = ended_by_time(tmp_path, StopsAt(batch), save)
    first = rows(ended)
    assert len(first) == len(set(first))
    over = Timer(timedelta(seconds=0))  # as one whose time is over when the run goes on
    again = rows(ended_by_time(tmp_path, over, save, ckpt_path=ended / "checkpoints/last.ckpt"))
    assert len(again) == len(set(again))
    assert sorted(again) == sorted(first)
