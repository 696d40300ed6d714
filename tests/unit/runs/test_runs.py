"""What the callbacks leave behind, and what they leave alone."""

import json
import math
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.evaluation import PaperProbe, TensorBatches
from gan_lightning.measurements import Samples, Transfer
from gan_lightning.papers import MGAN
from gan_lightning.runs import LossBar, Measure, RunFolder, finite_watch, progress
from gan_lightning.system.files import whole_file, write_json


class Stripes(LightningDataModule):
    """Two classes that anything can tell apart: bright above, or bright below."""

    name, channels, image_size, label_kind, num_classes = "stripes", 1, 32, "classes", 2

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        labels = torch.arange(12) % 2
        images = torch.randn(12, 1, 32, 32, generator=rng) * 0.1
        images[labels == 0, :, :16] += 0.5
        images[labels == 1, :, 16:] += 0.5
        self.both = images.clamp(-1, 1), labels

    def evaluation_batches(self, split: str, device: torch.device) -> TensorBatches:
        return TensorBatches(*self.both, batch_size=6)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(*self.both), batch_size=6)


def small(**settings: object) -> MGAN:
    seed_everything(0)
    return MGAN(1, 32, base_width=2, feature_dim=4, generators=2, fake_batch_size=4, **settings)


def trainer(*callbacks: object, **settings: object) -> Trainer:
    return Trainer(
        **{"max_epochs": 2, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu", "callbacks": list(callbacks)} | settings
    )  # fmt: skip


def runs(root: Path) -> list[Path]:
    return sorted(root.glob("*/*"))


def test_two_runs_have_folders_of_their_own(tmp_path):
    for _ in range(2):
        trainer(RunFolder(str(tmp_path), "same")).fit(small(), Stripes())
    assert len(runs(tmp_path)) == 2
    assert {path.parent.name for path in runs(tmp_path)} == {"same"}


def test_a_callback_that_is_used_again_makes_a_new_folder(tmp_path):
    callback, model, data = RunFolder(str(tmp_path)), small(), Stripes()
    used_again = trainer(callback, enable_checkpointing=True)
    used_again.fit(model, data)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    used_again.fit_loop.max_epochs = 4
    used_again.fit(model, data)
    folders = runs(tmp_path)
    assert len(folders) == 2
    assert all((folder / "metrics.csv").exists() and list(folder.glob("checkpoints/*")) for folder in folders)
    assert all(path.stat().st_mtime_ns == changed for path, changed in first.items())


def test_a_run_that_fails_says_why_in_its_folder(tmp_path):
    model = small()

    def broken(*_: object) -> None:
        raise RuntimeError("no such luck")

    model.training_step = broken
    with pytest.raises(RuntimeError, match="no such luck"):
        trainer(RunFolder(str(tmp_path))).fit(model, Stripes())
    about = json.loads((runs(tmp_path)[0] / "run.json").read_text())
    assert (about["status"], about["error"]) == ("failed", "RuntimeError: no such luck")


def test_a_run_from_a_source_tree_that_is_not_installed_says_so(tmp_path, monkeypatch):
    known = metadata.version

    def version(package: str) -> str:
        if package == "gan-lightning":
            raise metadata.PackageNotFoundError(package)
        return known(package)

    monkeypatch.setattr(metadata, "version", version)
    trainer(RunFolder(str(tmp_path)), max_epochs=1).fit(small(), Stripes())
    about = json.loads((runs(tmp_path)[0] / "run.json").read_text())
    assert about["versions"]["gan-lightning"] == "not installed"
    assert about["versions"]["lightning"] == known("lightning")


def test_a_file_whose_writing_fails_is_not_there_and_an_older_one_stays(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"first": 1})

    def write_half() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert json.loads(path.read_text()) == {"first": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_trial_batch_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measure = Measure(Samples(every_n_epochs=1), Transfer(every_n_epochs=1))
    callbacks = RunFolder(), measure, ModelCheckpoint(save_last="link")
    trainer(*callbacks, fast_dev_run=True, enable_checkpointing=True).fit(small(), Stripes())
    assert not list(tmp_path.iterdir())


def test_settings_that_are_objects_are_written_with_their_class(tmp_path):
    write_json(tmp_path / "settings.json", {"of": PaperProbe(epochs=3), "at": Path("here")})
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["of"] == {"class": "PaperProbe"} | json.loads(json.dumps(asdict(PaperProbe(epochs=3))))
    assert written["at"] == "here"


@pytest.mark.parametrize("waits", [True, False])
def test_the_bar_shows_the_losses_under_short_names(waits, monkeypatch):
    monkeypatch.setattr(finite_watch, "watches", lambda device: not waits)
    model = small()
    shown = {}

    class Spy(LossBar):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            shown.update(self.get_metrics(trainer, pl_module))
            super().on_train_batch_end(trainer, pl_module, *rest)

    trainer(Spy(), enable_progress_bar=True).fit(model, Stripes())
    assert set(shown) == {"generator", "discriminator", "classifier"}
    assert all(math.isfinite(float(value)) for value in shown.values())


def test_the_bar_reads_losses_a_few_times_a_second_and_at_the_end_of_an_epoch(monkeypatch):
    monkeypatch.setattr(finite_watch, "watches", lambda device: True)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_READS", 3600.0)
    shown, last = [], []

    class Spy(LossBar):
        def get_metrics(self, trainer, pl_module):
            metrics = super().get_metrics(trainer, pl_module)
            shown.append(metrics["generator"])
            last.append(trainer.callback_metrics["train/generator_loss"].item())
            return metrics

    trainer(Spy(), enable_progress_bar=True, max_epochs=1).fit(small(), Stripes())
    assert shown == [last[0], last[0], last[-1]], "two batches and the end of the epoch"
    assert last[0] != last[-1]
