"""What the callbacks leave behind, and what they leave alone."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.callbacks import LossBar, RunFolder, SampleGrid, TransferEvaluation
from gan_lightning.callbacks.transfer import untrained_extractors
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import PaperProtocol, TensorImages, TunedProtocol
from gan_lightning.files import whole_file, write_json
from gan_lightning.models import MGAN


class Stripes(LightningDataModule):
    """Two classes that anything can tell apart: bright above, or bright below."""

    def __init__(self, labelled: bool = True) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        labels = torch.arange(60) % 2
        images = torch.randn(60, 1, 32, 32, generator=rng) * 0.1
        images[labels == 0, :, :16] += 0.5
        images[labels == 1, :, 16:] += 0.5
        images.clamp_(-1, 1)
        self.images, self.labels = images, labels
        splits = {"train": (images[:40], labels[:40]), "test": (images[40:], labels[40:])}
        self.tensors = TensorImages("stripes", **splits, num_classes=2)
        self.evaluation_batches = self.tensors.evaluation_batches
        self.name, self.channels, self.image_size, self.num_classes = "stripes", 1, 32, 2
        self.label_kind = "classes" if labelled else "none"

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images[:40], self.labels[:40]), batch_size=20)


class PictureLogger(DummyLogger):
    """A logger that takes pictures, as W&B's does."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Image.Image] = []
        self.metrics: dict[str, float] = {}

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures += images

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics |= metrics


def small(**settings: object) -> MGAN:
    seed_everything(0)
    return MGAN(1, 32, base_width=4, feature_dim=8, generators=3, fake_batch_size=6, **settings)


def transfer() -> TransferEvaluation:
    return TransferEvaluation(paper=PaperProtocol(epochs=2), tuned=TunedProtocol(strengths=(0.1,)))


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
    callbacks = RunFolder(), SampleGrid(), transfer(), ModelCheckpoint(save_last="link")
    trainer(*callbacks, fast_dev_run=True, enable_checkpointing=True).fit(small(), Stripes())
    assert not list(tmp_path.iterdir())


def test_pictures_have_a_row_per_generator_and_go_to_the_folder_and_the_logger(tmp_path):
    logger = PictureLogger()
    model = small()
    trainer(RunFolder(str(tmp_path)), SampleGrid(columns=5), logger=logger).fit(model, Stripes())
    written = np.asarray(Image.open(runs(tmp_path)[0] / "samples/epoch-0001.png"))
    assert written.shape == (3 * 34 + 2, 5 * 34 + 2, 3)
    assert len(logger.pictures) == 2
    np.testing.assert_array_equal(np.asarray(logger.pictures[-1]), written)
    expected = model.eval().generate(5, torch.Generator().manual_seed(0))[1, 2, 0]  # second row, third column
    shown = torch.tensor(written[2 + 34 : 34 + 34, 2 + 2 * 34 : 3 * 34, 0]) / 127.5 - 1
    assert_close(shown, expected.detach(), rtol=0, atol=0.01)


@pytest.mark.parametrize(("every", "expected"), [(0, []), (1, [0, 1, 2]), (2, [1, 2]), (5, [2])])
def test_pictures_come_as_often_as_asked_and_at_the_end(tmp_path, every, expected):
    trainer(RunFolder(str(tmp_path)), SampleGrid(every_n_epochs=every), max_epochs=3).fit(small(), Stripes())
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [f"epoch-{epoch:04d}.png" for epoch in expected]


def test_drawing_changes_nothing_in_the_training(tmp_path):
    plain = small()
    trainer().fit(plain, Stripes())
    drawn = small()
    trainer(RunFolder(str(tmp_path)), SampleGrid()).fit(drawn, Stripes())
    assert_close(drawn.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_evaluating_changes_nothing_in_the_model(tmp_path):
    plain = small()
    trainer().fit(plain, Stripes())
    evaluated, callback = small(), transfer()
    trainer(callback).fit(evaluated, Stripes())
    assert callback.records
    assert_close(evaluated.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in evaluated.parameters())


def test_the_evaluation_logs_its_final_accuracies_and_writes_its_records(tmp_path):
    logger, callback = PictureLogger(), transfer()
    trainer(RunFolder(str(tmp_path)), callback, logger=logger).fit(small(), Stripes())
    figures = ("accuracy", "random_weights", "raw_pixels")
    extractors, protocols = ("discriminator", "classifier"), ("paper", "tuned")
    names = {f"transfer/{e}/{p}/{figure}" for e in extractors for p in protocols for figure in figures}
    assert names == {name for name in logger.metrics if name.startswith("transfer/")}
    written = json.loads((runs(tmp_path)[0] / "results.json").read_text())
    assert len(written["records"]) == len(callback.records)
    tuned = [r for r in written["records"] if (r["extractor"], r["protocol"]) == ("classifier", "tuned")]
    assert [r["accuracy"] for r in tuned if r["weights"] == "trained"] == [
        logger.metrics["transfer/classifier/tuned/accuracy"]
    ]
    assert all(r["accuracy"] == 1.0 for r in written["records"] if (r["weights"], r["protocol"]) == ("none", "tuned"))


def test_settings_that_are_objects_are_written_with_their_class(tmp_path):
    write_json(tmp_path / "settings.json", {"of": PaperProtocol(epochs=3), "at": Path("here")})
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written["of"] == {"class": "PaperProtocol"} | json.loads(json.dumps(asdict(PaperProtocol(epochs=3))))
    assert written["at"] == "here"


def test_a_data_set_without_labels_is_refused_before_training():
    with pytest.raises(DataError, match=r"needs labels, and the data set stripes has none.*transfer\.enabled=false"):
        trainer(transfer()).fit(small(), Stripes(labelled=False))


def test_data_that_cannot_be_evaluated_on_are_refused_before_training():
    with pytest.raises(DataError, match=r"data module that declares labelled images, got NoneType"):
        trainer(transfer()).fit(small(), Stripes().train_dataloader())


def test_untrained_extractors_are_on_the_models_device():
    untrained = untrained_extractors(small().to("meta"), 0)["classifier"]
    assert {parameter.device.type for parameter in untrained.parameters()} == {"meta"}


def test_untrained_extractors_have_the_models_own_initial_distribution_and_repeat():
    model = small(shares_removed=4)
    before = torch.random.get_rng_state()
    first, again, other = (untrained_extractors(model, seed)["classifier"] for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    weight, trained = first.conv3[0].weight, model.classifier.conv3[0].weight
    assert not torch.equal(weight, trained)
    assert not torch.equal(weight, other.conv3[0].weight)
    assert_close(weight.std().item(), 0.02, rtol=0.1, atol=0)


class Own(LightningModule):
    """A user's model that saves some of its hyper-parameters, or none."""

    def __init__(self, width: int, depth: int, saved: tuple[str, ...]) -> None:
        super().__init__()
        self.save_hyperparameters(*saved) if saved else None
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(1024, 6))

    def extractors(self) -> dict[str, nn.Module]:
        return {"mine": self.network}


@pytest.mark.parametrize("saved", [(), ("depth",)])
def test_untrained_extractors_of_a_model_that_cannot_be_built_anew_are_reset_copies(saved):
    model = Own(3, 4, saved)
    untrained = untrained_extractors(model, 0)["mine"]
    assert untrained[1].weight.shape == (6, 1024)
    assert not torch.equal(untrained[1].weight, model.network[1].weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_epochs": -1}, r"samples\.every_n_epochs must be at least 0, got -1"),
        ({"columns": 0}, r"samples\.columns must be at least 1, got 0"),
    ],
)
def test_settings_of_the_pictures_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        SampleGrid(**settings)


def test_the_bar_shows_the_losses_under_short_names():
    model = small()
    shown = {}

    class Spy(LossBar):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            shown.update(self.get_metrics(trainer, pl_module))
            super().on_train_batch_end(trainer, pl_module, *rest)

    trainer(Spy(), enable_progress_bar=True).fit(model, Stripes())
    assert set(shown) == {"generator", "discriminator", "classifier"}
    assert all(math.isfinite(float(value)) for value in shown.values())
