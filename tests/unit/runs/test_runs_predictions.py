"""What `predict` leaves behind, of any model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from gan_lightning.data import ImageFolder
from gan_lightning.errors import SettingError
from gan_lightning.runs import predictions
from gan_lightning.runs.contract import complete
from gan_lightning.runs.predictions import FeatureWriter
from gan_lightning.runs.run_folder import RunFolder

IMAGES = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
LABELS = torch.arange(5)
LOADER = DataLoader(list(zip(IMAGES, LABELS, strict=True)), batch_size=2)


class Mine(LightningModule):
    """Has features, and neither `forward` nor a step."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))

    def extractors(self):
        return {"D": self.network, "maps": lambda images: images}


class Folder(RunFolder):
    """A folder that is there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def setup(self, *_: Any, **__: Any) -> None:
        pass

    on_predict_start = setup


def predicting(step: Any) -> LightningModule:
    return type("Predicts", (Mine,), {"predict_step": lambda self, batch, batch_idx: step(batch)})()


def predicted(folder: RunFolder | Path, model: LightningModule, *loaders: DataLoader) -> dict[str, np.ndarray]:
    """Return the arrays that a run writes."""
    complete(model)
    run = folder if isinstance(folder, RunFolder) else Folder(folder)
    trainer = Trainer(
        callbacks=[run, FeatureWriter()], logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.predict(model, list(loaders) if loaders else LOADER, return_predictions=False)
    assert run.path is not None
    with np.load(run.path / "features.npz") as arrays:
        return dict(arrays)


def test_features_and_labels_of_a_model_without_a_step_of_its_own_are_written_in_order(tmp_path):
    model = Mine()
    arrays = predicted(tmp_path, model)
    assert sorted(arrays) == ["D", "labels", "maps"]
    np.testing.assert_array_equal(arrays["labels"], LABELS)
    np.testing.assert_array_equal(arrays["maps"], IMAGES.flatten(1))
    np.testing.assert_allclose(arrays["D"], model.network(IMAGES).detach(), rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (lambda batch: batch[0].bfloat16(), {"predictions": IMAGES.bfloat16().float()}),
        (lambda batch: batch[0].double(), {"predictions": IMAGES.double()}),
        (lambda batch: {"labels": batch[1], "half": batch[0].half()}, {"labels": LABELS, "half": IMAGES.half()}),
    ],
)
def test_tensors_and_dictionaries_of_them_are_written_as_they_are(tmp_path, step, expected):
    arrays = predicted(tmp_path, predicting(step))
    assert arrays.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].dtype == values.numpy().dtype


def test_the_batches_of_several_data_loaders_follow_each_other(tmp_path):
    model = type("Two", (Mine,), {"predict_step": lambda self, batch, batch_idx, dataloader_idx: batch[1]})()
    np.testing.assert_array_equal(predicted(tmp_path, model, LOADER, LOADER)["predictions"], [*range(5), *range(5)])


@pytest.mark.parametrize(
    ("step", "got"),
    [
        (lambda batch: batch[0].mean(), r"got a tensor of shape \(\)"),
        (lambda batch: list(batch), "got a list of 2"),
        (lambda batch: None, "got a NoneType"),
        (lambda batch: {}, "got a dict with the keys"),
        (lambda batch: {"labels": batch[1], "names": ["a", "b"]}, "got a list of 2 for 'names'"),
    ],
)
def test_what_is_no_array_is_refused_at_the_first_batch(tmp_path, step, got):
    seen = []
    model = predicting(lambda batch: seen.append(1) or step(batch))
    expected = rf"predict_step must return a tensor \(images, \.\.\.\) or a dictionary of such, {got}.*Leave it out of"
    with pytest.raises(SettingError, match=expected):
        predicted(tmp_path, model)
    assert len(seen) == 1
    assert not list(tmp_path.rglob("*.npz"))


def test_a_model_with_nothing_to_predict_leaves_no_folder(tmp_path):
    with pytest.raises(SettingError, match=r"predict needs a model with extractors\(\)"):
        predicted(RunFolder(str(tmp_path)), LightningModule())
    assert not list(tmp_path.iterdir())


def test_each_of_several_processes_writes_its_share(tmp_path):
    several = type("OfProcess", (Trainer,), {"world_size": 2, "global_rank": 1, "callbacks": [Folder(tmp_path)]})
    trainer = several.__new__(several)
    FeatureWriter().write_on_epoch_end(trainer, Mine(), [{"labels": LABELS}], [])
    with np.load(tmp_path / "features-1.npz") as arrays:
        np.testing.assert_array_equal(arrays["labels"], LABELS)


def written(folder: Path, data, **settings) -> Path:
    """Return the file that a run on a data set writes."""
    model = Mine()
    model.network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    complete(model)
    writer = FeatureWriter(**settings)
    trainer = Trainer(
        callbacks=[Folder(folder), writer], logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.predict(model, datamodule=data, return_predictions=False)
    return folder / f"features.{writer.file_format}"


@pytest.fixture
def pictures(tmp_path) -> ImageFolder:
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for number in range(count):
                grey = Image.new("L", (4, 4), 50 * number + (name == "dog"))
                grey.save(tmp_path / "pictures" / split / name / f"{number}.png")
    return ImageFolder(
        tmp_path / "pictures", channels=1, image_size=4, cache_dir=tmp_path / "cache", evaluation_batch_size=4
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_split_is_predicted_with_the_names_of_its_files(tmp_path, pictures, split):
    with np.load(written(tmp_path, pictures, split=split)) as arrays:
        names, maps, labels = arrays["file_name"], arrays["maps"], arrays["labels"]
    assert len(names) == (6 if split == "train" else 4)
    for name, pixels, label in zip(names, maps, labels, strict=True):
        assert name.split("/")[:2] == [split, ["cat", "dog"][label]]
        np.testing.assert_allclose(
            pixels * 127.5 + 127.5, np.asarray(Image.open(pictures.root / name)).ravel(), atol=0.01
        )


def test_a_parquet_file_has_a_row_for_each_image(tmp_path, pictures):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra [parquet]")
    table = parquet.read_table(written(tmp_path, pictures, file_format="parquet")).to_pydict()
    assert sorted(table) == ["D", "file_name", "labels", "maps"]
    assert len(table["D"]) == 4
    assert len(table["maps"][0]) == 16
    assert table["file_name"] == pictures.file_names("test")


def test_a_split_that_a_data_set_does_not_give_and_a_missing_package_are_refused(tmp_path, monkeypatch):
    class Plain(LightningDataModule):
        def predict_dataloader(self):
            return LOADER

    with pytest.raises(SettingError, match=r"split must be test for Plain, whose predict_dataloader\(\) decides"):
        written(tmp_path, Plain(), split="train")
    monkeypatch.setattr(predictions, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"file_format must be npz without the package pyarrow, got 'parquet'\. Ins"):
        FeatureWriter(file_format="parquet")
