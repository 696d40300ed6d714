"""What a data module must declare."""

import pytest
from lightning.pytorch import LightningDataModule

from gan_lightning.data import Digits, ImageFolder
from gan_lightning.interfaces import DECLARED, LabelledImages, lacking

VALUES = {"name": "mine", "channels": 1, "image_size": 8, "label_kind": "classes", "num_classes": 10}


def test_the_names_are_those_of_the_interface():
    methods = [name for name in vars(LabelledImages) if not name.startswith("_")]
    assert set(DECLARED) == set(LabelledImages.__annotations__) | set(methods)


@pytest.mark.parametrize("left_out", DECLARED)
@pytest.mark.parametrize("as_none", [False, True])
def test_what_a_data_module_lacks_or_has_as_none_is_listed(left_out, as_none):
    attributes = VALUES | {"evaluation_batches": lambda self, split, device: iter(())}
    attributes |= {left_out: None}
    if not as_none:
        del attributes[left_out]
    assert lacking(type("Mine", (LightningDataModule,), attributes)()) == [left_out]


def test_a_plain_data_module_lacks_everything_and_ours_nothing(tmp_path):
    assert lacking(LightningDataModule()) == list(DECLARED)
    assert lacking(None) == list(DECLARED)
    assert lacking(Digits()) == []
    assert lacking(ImageFolder(tmp_path / "nowhere")) == [], "its folder is missing, not its declarations"


def test_evaluation_batches_must_be_a_method():
    assert lacking(type("Mine", (), VALUES | {"evaluation_batches": 3})()) == ["evaluation_batches"]
