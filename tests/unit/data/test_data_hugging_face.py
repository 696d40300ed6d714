import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data import HuggingFace
from gan_lightning.errors import DataError, SettingError

datasets = pytest.importorskip("datasets", reason="needs the extra [datasets]")


def table(count: int, seed: int = 0):
    """Return images of 10x8 pixels, and their classes."""
    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)) for _ in range(count)]
    kinds = datasets.Features(picture=datasets.Image(), animal=datasets.ClassLabel(names=["cat", "dog"]))
    return datasets.Dataset.from_dict({"picture": pictures, "animal": [n % 2 for n in range(count)]}, features=kinds)


def read(folder, **settings) -> HuggingFace:
    return HuggingFace(folder, image_size=8, **settings)


def test_a_folder_of_two_splits_is_a_data_set(tmp_path):
    tables = {"train": table(6), "validation": table(4, seed=1)}
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "pets")
    data = read(tmp_path / "pets")
    assert (data.name, data.classes, data.label_kind, data.num_classes) == ("pets", ["cat", "dog"], "classes", 2)
    assert data.store("test").labels.tolist() == [0, 1, 0, 1]
    expected = np.stack([np.asarray(each.crop((1, 0, 9, 8))) for each in tables["train"]["picture"]])
    np.testing.assert_array_equal(data.store("train").images, expected.transpose(0, 3, 1, 2))
    grey = read(tmp_path / "pets", channels=1, limit=3)
    assert grey.store("train").images.shape == (3, 1, 8, 8)


def test_one_split_and_parquet_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table(20).save_to_disk(tmp_path / "one")
    data = read(tmp_path / "one")
    assert (len(data.store("train")), len(data.store("test"))) == (18, 2)
    (tmp_path / "parquet").mkdir()
    for split, count in (("train", 6), ("test", 2)):
        table(count).to_parquet(tmp_path / "parquet" / f"{split}-00000-of-00001.parquet")
    data = read(tmp_path / "parquet")
    assert (len(data.store("train")), len(data.store("test")), data.classes) == (6, 2, ["cat", "dog"])


def test_without_classes_there_is_training_alone(tmp_path):
    table(5).remove_columns("animal").save_to_disk(tmp_path / "one")
    data = read(tmp_path / "one")
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert torch.equal(data.store("train").labels, torch.full((4,), -1))


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"No folder '.*none'\. Set root"):
        read(tmp_path / "none").store("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty' cannot be read"):
        read(tmp_path / "empty").store("train")
    datasets.DatasetDict({"test": table(3)}).save_to_disk(tmp_path / "test_only")
    with pytest.raises(DataError, match=r"must have a split train, got \['test'\]"):
        read(tmp_path / "test_only").store("train")
    table(3).save_to_disk(tmp_path / "one")
    with pytest.raises(DataError, match=r"has no column 'image', but \['animal', 'picture'\]\. Set image_column"):
        read(tmp_path / "one", image_column="image").store("train")
    table(3).remove_columns("picture").save_to_disk(tmp_path / "labels")
    with pytest.raises(DataError, match=r"must have a column of images, got \['animal'\]"):
        read(tmp_path / "labels").store("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 2}, r"channels must be 3 \(colour\) or 1 \(grey\), got 2"),
        ({"test_fraction": 0.0}, "test_fraction must be between 0 and 1"),
        ({"download": True}, "download must be false"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        HuggingFace(**settings)


def test_classes_may_be_words_or_unknown_and_must_be_named_alike(tmp_path):
    def with_classes(train, test):
        tables = {"train": table(len(train)), "test": table(len(test))}
        tables = {
            split: each.remove_columns("animal").add_column("kind", values)
            for (split, each), values in zip(tables.items(), (train, test), strict=True)
        }
        datasets.DatasetDict(tables).save_to_disk(tmp_path / "words")
        return read(tmp_path / "words", label_column="kind")

    data = with_classes(["dog", None, "cat"], ["emu", "cat"])
    assert data.classes == ["cat", "dog", "emu"]
    assert (data.store("train").labels.tolist(), data.store("test").labels.tolist()) == ([1, -1, 0], [2, 0])
    names = datasets.ClassLabel(names=["dog", "cat"])
    tables = {"train": table(4), "test": table(2).cast_column("animal", names)}
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "pets")
    with pytest.raises(DataError, match=r"must name its classes alike in all splits, got \[\['cat', 'dog'\], \['dog'"):
        read(tmp_path / "pets").store("train")


def test_transparent_pixels_lie_over_white(tmp_path):
    picture = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    one = datasets.Dataset.from_dict({"image": [picture] * 2}, features=datasets.Features(image=datasets.Image()))
    one.save_to_disk(tmp_path / "one")
    assert (read(tmp_path / "one").store("train").images == 255).all()
