import ast
import dataclasses
import logging
import re
from itertools import chain
from pathlib import Path

import jsonargparse
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

import gan_lightning.data
from gan_lightning.data import CIFAR10, CIFAR100, MNIST, SVHN, CelebA, Digits, ImageData, ImageFolder
from gan_lightning.data.store import ImageStore
from gan_lightning.errors import DataError, SettingError
from gan_lightning.interfaces import ImageBatches, LabelledImages

ALL = [Digits, MNIST, CIFAR10, CIFAR100, SVHN, CelebA]


class Recorder(LightningModule):
    """Remembers what it is fed."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.fed = []

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.fed.append((self.current_epoch, labels.tolist(), images))
        return self.weight * images.mean().to(self.weight)

    def validation_step(self, batch, batch_idx):
        self.fed.append(("evaluation", batch[1].tolist(), batch[0]))

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return batch[1]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trainer(tmp_path, **settings) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", default_root_dir=tmp_path, num_sanity_val_steps=0, **quiet | settings)


def trained_on(model: Recorder) -> list[tuple[int, list[int]]]:
    return [(epoch, labels) for epoch, labels, _ in model.fed if epoch != "evaluation"]


@pytest.mark.parametrize("data_set", ALL, ids=lambda data_set: data_set.__name__)
def test_a_data_set_declares_itself_before_any_file_is_read(data_set):
    data = data_set("nowhere")
    assert isinstance(data, LabelledImages)
    assert isinstance(data, ImageData)
    assert data.name == data_set.__name__.lower()
    assert data.channels == (1 if data_set in (Digits, MNIST) else 3)
    assert data.image_size == (64 if data_set is CelebA else 32)
    assert (data.label_kind, data.num_classes) == {
        CIFAR100: ("classes", 100),
        CelebA: ("attributes", 40),
    }.get(data_set, ("classes", 10))


def test_settings_are_attributes_of_the_same_name():
    data = Digits("~/somewhere", batch_size=7, evaluation_batch_size=8, flip=True, limit=9, seed=10)
    assert data.root == Path.home() / "somewhere"
    assert (data.batch_size, data.evaluation_batch_size, data.flip, data.limit, data.seed) == (7, 8, True, 9, 10)
    assert str(data) == repr(data)
    assert "batch_size=7" in str(data)


def test_the_order_of_the_training_images_follows_the_runs_seed_unless_it_has_one_of_its_own():
    def first_labels(run_seed: int, own: int | None) -> list[int]:
        seed_everything(run_seed, verbose=False)
        return next(iter(Digits(seed=own, batch_size=50).train_dataloader()))[1].tolist()

    assert first_labels(0, None) == first_labels(1, 0) == first_labels(0, 0)
    assert first_labels(1, None) == first_labels(0, 1) != first_labels(0, 0)


@pytest.mark.parametrize("setting", ["batch_size", "evaluation_batch_size", "image_size", "limit"])
def test_a_size_below_one_is_refused(setting):
    with pytest.raises(SettingError, match=rf"^{setting} must be at least 1, got 0\.$"):
        Digits(**{setting: 0})


def test_a_negative_seed_is_refused():
    with pytest.raises(SettingError, match=r"^seed must be at least 0, got -1\.$"):
        Digits(seed=-1)


@pytest.mark.parametrize("data_set", [*ALL, ImageFolder], ids=lambda data_set: data_set.__name__)
def test_the_command_line_takes_a_data_set_by_its_name_and_documents_every_setting(data_set, capsys):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    settings = ["--data.root=here", "--data.limit=5", "--data.flip=true", "--data.image_size=48"]
    config = parser.parse_args([f"--data={data_set.__name__}", *settings])
    data = parser.instantiate(config).data
    assert type(data) is data_set
    assert (str(data.root), data.limit, data.flip, data.image_size) == ("here", 5, True, 48)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--data.help={data_set.__name__}"])
    shown = capsys.readouterr().out
    for setting in dataclasses.fields(data_set):
        # A setting without a documentation has its type alone.
        if setting.init:
            assert re.search(rf"--data\.{setting.name} \S+\s+(?!\(type)\w", shown), setting.name


def test_the_package_imports_heavy_libraries_only_where_it_uses_them():
    for file in Path(gan_lightning.data.__file__).parent.glob("*.py"):
        imports = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in imports for alias in node.names} | {
            getattr(node, "module", "") for node in imports
        }
        assert not {name.split(".")[0] for name in names} & {"torchvision", "sklearn", "scipy", "PIL", "rich"}


@pytest.mark.parametrize("flip", [False, True])
def test_a_trainer_feeds_images_in_range_and_mirrors_only_while_training(tmp_path, flip):
    torch.manual_seed(0)
    data, model = Digits(batch_size=50, limit=100, flip=flip, image_size=8), Recorder()
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(model, data)
    stored = {"train": data.store("train"), "evaluation": data.store("test")}
    mirrored = {"train": 0, "evaluation": 0}
    for stage, _, images in model.fed:
        part = "train" if stage == 0 else "evaluation"
        assert images.dtype == torch.float32
        original = data.to_images(stored[part].images)
        for image in images:
            plain = (image == original).flatten(1).all(1).any()
            assert plain or (image.flip(2) == original).flatten(1).all(1).any()
            mirrored[part] += not plain
    assert mirrored["evaluation"] == 0
    assert 30 < mirrored["train"] < 70 if flip else mirrored["train"] == 0


def test_squares_are_cut_at_random_places_while_training_and_from_the_centre_otherwise(tmp_path):
    torch.manual_seed(0)
    data, model = Digits(batch_size=50, limit=60, image_size=6, crop_from=8), Recorder()
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(model, data)
    whole = {split: data.whole_images(data.store(split).images) for split in ("train", "test")}
    places = set()
    for stage, _, images in model.fed:
        for number, image in enumerate(images):
            if stage == "evaluation":
                assert torch.equal(image, whole["test"][number, :, 1:7, 1:7])
                continue
            found = [(r, c) for r in range(3) for c in range(3)
                     if (whole["train"][:, :, r : r + 6, c : c + 6] == image).flatten(1).all(1).any()]  # fmt: skip
            assert found
            places.update(found)
    assert len(places) == 9
    batches = data.evaluation_batches("train", torch.device("cpu"))
    assert torch.equal(torch.cat([images for images, _ in batches]), whole["train"][:, :, 1:7, 1:7])


def test_a_square_larger_than_the_image_is_refused():
    with pytest.raises(SettingError, match=r"crop_from must be at least image_size, 64, got 63\. Leave it out"):
        ImageFolder("here", image_size=64, crop_from=63)


def test_validation_test_and_prediction_see_the_test_split_in_stored_order(tmp_path):
    data, model, run = Digits(evaluation_batch_size=100), Recorder(), trainer(tmp_path)
    expected = data.store("test").labels.tolist()
    for evaluate in (run.validate, run.test):
        model.fed.clear()
        evaluate(model, data, verbose=False)
        assert list(chain.from_iterable(labels for _, labels, _ in model.fed)) == expected
    assert torch.cat(run.predict(model, data)).tolist() == expected


def test_images_have_the_precision_of_the_run(tmp_path):
    model = Recorder()
    trainer(tmp_path, fast_dev_run=True, precision="64-true").fit(model, Digits())
    assert {images.dtype for _, _, images in model.fed} == {torch.float64}


def test_overfitting_repeats_the_same_batches_in_every_epoch(tmp_path):
    model = Recorder()
    run = trainer(tmp_path, max_epochs=2, overfit_batches=2, limit_val_batches=0, enable_checkpointing=False)
    run.fit(model, Digits(batch_size=50))
    first, second = ([labels for epoch, labels in trained_on(model) if epoch == number] for number in (0, 1))
    assert len(first) == 2
    assert first == second


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_steps": 12}], ids=["max_epochs", "max_steps"])
@pytest.mark.parametrize(
    ("stop", "save"),
    [
        ({"max_steps": 6}, {"every_n_train_steps": 6}),
        ({"max_steps": 8}, {"every_n_train_steps": 8}),
        ({"max_epochs": 2}, {"every_n_epochs": 1}),
    ],
    ids=["within an epoch", "at its last step", "after it"],
)
def test_a_resumed_run_is_fed_what_an_uninterrupted_one_is(tmp_path, limit, stop, save):
    def run(checkpoint=None, callbacks=(), **limit):
        model = Recorder()
        settings = {"enable_checkpointing": bool(callbacks), "callbacks": list(callbacks), "limit_val_batches": 0}
        trainer(tmp_path, **settings, **limit).fit(model, Digits(batch_size=100, limit=400), ckpt_path=checkpoint)
        return trained_on(model)

    saving = ModelCheckpoint(tmp_path, "saved", **save)
    before = run(callbacks=[saving], **stop)
    assert before + run(saving.best_model_path, **limit) == run(**limit)


def test_evaluation_batches_need_no_trainer_and_change_nothing(tmp_path):
    data = Digits(evaluation_batch_size=150, flip=True)
    batches = data.evaluation_batches("train", torch.device("cpu"))
    assert isinstance(batches, ImageBatches)
    assert len(batches) == len(list(batches)) == 10
    images = torch.cat([images for images, _ in batches])
    torch.testing.assert_close(images, data.to_images(data.store("train").images))
    torch.testing.assert_close(torch.cat([labels for _, labels in batches]), data.store("train").labels)


def test_a_limit_keeps_the_first_images_of_each_split():
    whole, part = Digits(), Digits(limit=40)
    part.prepare_data()
    part.setup("fit")
    for split in ("train", "test"):
        torch.testing.assert_close(part.store(split).images, whole.store(split).images[:40])
        torch.testing.assert_close(part.store(split).labels, whole.store(split).labels[:40])


def test_a_split_is_read_once_and_only_if_needed(monkeypatch):
    read = []
    original = Digits.read
    monkeypatch.setattr(Digits, "read", lambda self, split: read.append(split) or original(self, split))
    data = Digits()
    data.setup("test")
    assert read == ["test"]
    data.prepare_data()
    data.setup("fit")
    data.evaluation_batches("train", torch.device("cpu"))
    assert read == ["test", "train"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Error downloading:\nno route"),
        OSError(28, "No space left on device"),
        ValueError("bad archive"),
        ModuleNotFoundError("No module named 'gdown'"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_download_that_fails_says_why_in_one_line(monkeypatch, tmp_path, error):
    def no_network(self):
        raise error

    monkeypatch.setattr(MNIST, "fetch", no_network)
    why = {RuntimeError: "Error downloading: no route", OSError: "No space left on device", MemoryError: "MemoryError"}
    message = rf"^mnist could not be fetched into '{tmp_path}' \({why.get(type(error), str(error))}\)\.$"
    with pytest.raises(DataError, match=message):
        MNIST(tmp_path, download=True).prepare_data()


@pytest.mark.parametrize("setting", ["root", "cache_dir"])
def test_a_home_folder_that_there_is_not_is_named(tmp_path, setting, write_image):
    for index in range(2):
        write_image(tmp_path / f"{index}.png")
    settings = {"root": tmp_path, setting: "~no such user/data"}
    message = rf"^{setting} must not begin with ~ where there is no home folder, got '~no such user/data'\. Set it"
    with pytest.raises(SettingError, match=message):
        ImageFolder(**settings).setup("fit")


class Stored(Digits):
    """Holds what it is given."""

    given: ImageStore

    def read(self, split):
        return self.given


@pytest.mark.parametrize(
    ("count", "labels", "kind", "message"),
    [
        (3, [0, 9, -1], "classes", None),
        (3, [0, 10, 1], "classes", "labels from 0 to 9, or -1 where one is not known, got 10"),
        (3, [0, -2, 1], "classes", "labels from 0 to 9, or -1 where one is not known, got -2"),
        (2, [[0, 1], [1, -1]], "attributes", None),
        (2, [[0, 1], [1, 2]], "attributes", "labels from 0 to 1, or -1 where one is not known, got 2"),
        (2, [7, 8], "none", None),
        (0, [], "classes", "images and as many labels, got 0 and 0"),
    ],
)
def test_labels_that_a_data_set_does_not_have_are_refused(monkeypatch, count, labels, kind, message):
    monkeypatch.setattr(Stored, "label_kind", kind)
    data = Stored("here")
    data.given = ImageStore(torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64))
    if message is None:
        assert len(data.store("train")) == count
    else:
        with pytest.raises(DataError, match=rf"^The train split of digits in 'here' must (have|hold) {message}\."):
            data.store("train")


def test_images_without_labels_of_their_own_are_refused():
    data = Stored("here")
    data.given = ImageStore(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    object.__setattr__(data.given, "labels", data.given.labels[:2])
    with pytest.raises(DataError, match=r"must hold images and as many labels, got 3 and 2\. Fetch it anew\.$"):
        data.store("train")


def test_squares_of_rectangles_depend_on_the_seed_and_the_epoch_alone(tmp_path, write_image):
    for index in range(12):
        write_image(tmp_path / "set" / "ab"[index % 2] / f"{index}.png", 20 + index, 12)

    def fed(data, **settings):
        model = Recorder()
        trainer(tmp_path, max_epochs=2, limit_val_batches=1, enable_checkpointing=False, **settings).fit(model, data)
        return [(labels, images) for epoch, labels, images in model.fed if epoch != "evaluation"]

    settings = {"image_size": 8, "crop_from": 10, "cache_dir": tmp_path / "cache", "batch_size": 4}
    torch.manual_seed(0)
    first = fed(ImageFolder(tmp_path / "set", **settings))
    torch.manual_seed(1)
    data = ImageFolder(tmp_path / "set", **settings)
    again = fed(data)
    assert {images.shape[1:] for _, images in first} == {(3, 8, 8)}
    for (labels, images), (same_labels, same_images) in zip(first, again, strict=True):
        assert labels == same_labels
        assert torch.equal(images, same_images)
    stored = [data.store("train").for_training(0, epoch)(torch.arange(10))[0] for epoch in (0, 1)]
    assert not torch.equal(*stored), "each epoch has places of its own"
    for epoch, batches in ((0, first[: len(first) // 2]), (1, first[len(first) // 2 :])):
        expected = {square.numpy().tobytes() for square in stored[epoch]}
        seen = torch.cat([images for _, images in batches])
        assert {square.numpy().tobytes() for square in ((seen + 1) * 127.5).round().to(torch.uint8)} == expected
    other = ImageFolder(tmp_path / "set", seed=1, **settings).store("train").for_training(1, 0)(torch.arange(10))[0]
    assert not torch.equal(other, stored[0])


def test_nothing_is_fetched_unless_asked_for(monkeypatch):
    fetched = []
    monkeypatch.setattr(Digits, "fetch", lambda self: fetched.append(self))
    Digits().prepare_data()
    assert fetched == []
    data = Digits(download=True)
    data.prepare_data()
    assert fetched == [data]


def test_a_doubt_is_an_error_or_one_warning(caplog):
    with pytest.raises(DataError, match=r"^Odd\. Fetch it anew, or accept it as it is with verify=false\.$"):
        Digits().doubt("Odd.")
    data = Digits(verify=False)
    data.doubt("Odd.")
    data.doubt("Odd.")
    assert caplog.record_tuples == [
        ("gan_lightning.data.image_data", logging.WARNING, "Odd. Accepted, since verify is false.")
    ]
