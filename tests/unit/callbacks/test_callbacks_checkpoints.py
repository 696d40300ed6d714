"""Where checkpoints are written, and the names that point to them."""

from datetime import timedelta
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from gan_lightning.callbacks import Checkpoints
from gan_lightning.callbacks.checkpoints import link
from gan_lightning.errors import SettingError
from gan_lightning.models import MGAN


def test_checkpoints_after_some_time_are_refused():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(
        SettingError, match=r"^checkpoint\.train_time_interval must not be set, got 0:01:00: .*every_n_"
    ):
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
