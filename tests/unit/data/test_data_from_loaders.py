import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gan_lightning.data import FromLoaders
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import PaperProbe
from gan_lightning.interfaces import LabelledImages
from gan_lightning.measurements import Transfer
from gan_lightning.papers import MGAN
from gan_lightning.runs import Measure, RunFolder

IMAGES = torch.rand(24, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3


class Mine(LightningDataModule):
    """An ordinary module, as of a user who has never heard of this package."""

    images, labels, collate = IMAGES, LABELS, None

    def prepare_data(self) -> None:
        self.prepared = True

    def setup(self, stage: str) -> None:
        assert self.prepared
        self.dataset = TensorDataset(self.images, self.labels)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.dataset, 8, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images[:10], self.labels[:10]), 4, collate_fn=self.collate)


class Changed(Mine):
    def __init__(self, **values):
        super().__init__()
        vars(self).update(values)


def named(rows) -> dict[str, torch.Tensor]:
    images, labels = zip(*rows, strict=True)
    return {"pixels": torch.stack(images), "digit": torch.stack(labels), "id": torch.arange(len(rows))}


def read(data, split="train"):
    images, labels = zip(*data.evaluation_batches(split, torch.device("cpu")), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_loaders_become_a_data_set_in_stored_order():
    data = FromLoaders(Mine(), num_classes=3, value_range=(0.0, 1.0))
    assert isinstance(data, LabelledImages)
    assert (data.name, data.channels, data.image_size, data.label_kind) == ("mine", 1, 32, "classes")
    images, labels = read(data)
    torch.testing.assert_close(images, IMAGES * 2 - 1)
    assert labels.tolist() == LABELS.tolist()
    assert len(read(data, "test")[0]) == 10


def test_batches_may_be_mappings():
    data = FromLoaders(Changed(collate=named), 3, (0.0, 1.0), images="pixels", labels="digit")
    torch.testing.assert_close(read(data)[0], IMAGES * 2 - 1)
    with pytest.raises(DataError, match=r"batches must have a part 0, got a mapping with \['digit', 'id', 'pixels'\]"):
        _ = FromLoaders(Changed(collate=named), 3, (0.0, 1.0)).channels


def test_a_gan_is_trained_and_measured_on_it(tmp_path):
    data = FromLoaders(Mine(), num_classes=3, value_range=(0.0, 1.0))
    model = MGAN(1, 32, base_width=2, feature_dim=4, generators=2, fake_batch_size=4)
    measure = Measure(Transfer(paper=PaperProbe(epochs=1), tuned=None))
    Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", callbacks=[RunFolder(str(tmp_path)), measure],
    ).fit(model, data)  # fmt: skip
    assert list(tmp_path.glob("mgan-mine/*/figures.json"))


def test_without_labels_there_is_training_alone():
    data = FromLoaders(Mine(), value_range=(0.0, 1.0), labels=None)
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert set(read(data)[1].tolist()) == {-1}


class ByStage(LightningDataModule):
    """Reads for each stage what it needs, as Lightning's own examples do."""

    def setup(self, stage: str) -> None:
        split = "train" if stage == "fit" else stage
        setattr(self, f"{split}_set", TensorDataset(IMAGES, LABELS))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train_set, 8)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test_set, 8)


def test_each_stage_is_set_up_before_its_images_are_read():
    data = FromLoaders(ByStage(), 3, (0.0, 1.0))
    data.setup("fit")  # as a Trainer does
    assert len(read(data, "test")[0]) == len(read(data)[0]) == 24
    data.teardown("fit")
    del data.module.train_set
    assert len(read(data)[0]) == 24


class Halved(Mine):
    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch[0] / 2, batch[1]


class Moving(Mine):
    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch


def test_a_hook_before_the_transfer_is_in_measurements_too_and_others_are_refused():
    torch.testing.assert_close(read(FromLoaders(Halved(), 3, (0.0, 1.0)))[0], IMAGES - 1)
    with pytest.raises(SettingError, match=r"module must leave on_after_batch_transfer\(\) as it is, got 'Moving'"):
        FromLoaders(Moving(), 3)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(IMAGES, LABELS, strict=True))


class Streaming(Mine):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(Stream(), 8)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (Changed(images=IMAGES * 255), {}, r"Changed: images must lie in value_range, -1 to 1, got 0.* to 25"),
        (Changed(images=IMAGES * 2 - 1), {"value_range": (0.0, 1.0)}, r"images must lie in value_range, 0 to 1, got -"),
        (Changed(images=IMAGES[:, :, :16]), {}, r"images must be of the shape \(count, channels, size, size\), got"),
        (Changed(labels=LABELS + 1), {"value_range": (0.0, 1.0)}, r"labels must be from 0 to 2, or -1 .* got 1 to 3"),
        (Changed(labels=LABELS / 2), {"value_range": (0.0, 1.0)}, r"labels must be whole numbers for each of 8 images"),
        (Streaming(), {}, r"train images must come from a DataLoader whose data set has a length and an order"),
    ],
)
def test_what_is_no_data_set_is_refused(module, settings, message):
    with pytest.raises(DataError, match=message):
        _ = FromLoaders(module, 3, **settings).channels


def test_a_module_without_test_images_is_refused():
    class Bare(LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(TensorDataset(IMAGES, LABELS), 8)

    with pytest.raises(DataError, match="test images must have one of test_dataloader, val_dataloader, got none"):
        read(FromLoaders(Bare(), 3, (0.0, 1.0)), "test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "num_classes must be the number of classes or attributes, at least 2, got None"),
        ({"num_classes": 1}, "num_classes must be the number of classes or attributes, at least 2, got 1"),
        ({"num_classes": 3, "class_names": ["a"]}, r"class_names must name each of 3 classes, got \['a'\]"),
        ({"num_classes": 3, "value_range": (1.0, 1.0)}, "value_range must be black and white, the smaller first"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        FromLoaders(Mine(), **settings)
