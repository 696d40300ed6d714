"""PASCAL VOC as distributed: what is read, and what is said of a folder that lacks something."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCDetection, VOCSegmentation
from voc_tree import DISC, RECTANGLE, drawn_voc, write_boxes

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.voc.devkit import (
    CLASSES,
    VocData,
    boxed_images,
    labelled_images,
    masked_images,
    read_boxes,
    read_image,
    read_mask,
)


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> VocData:
    return drawn_voc(tmp_path_factory.mktemp("voc"))


def folder(voc: VocData, year: int = 2007) -> Path:
    return voc.folder(year)


def test_boxes_are_those_that_torchvision_reads(voc):
    found, expected = boxed_images(voc, 2007, "trainval"), VOCDetection(voc.root, "2007", "trainval")
    assert len(found) == len(expected) == 8
    for own, (image, target) in zip(found, expected, strict=True):
        assert torch.equal(read_image(own.path).permute(1, 2, 0), torch.from_numpy(np.array(image)))
        objects = target["annotation"]["object"]
        ends = [[int(each["bndbox"][end]) for end in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
        assert (own.boxes + torch.tensor([1, 1, 0, 0])).tolist() == ends
        assert [CLASSES[label] for label in own.labels] == [each["name"] for each in objects]
        assert own.difficult.tolist() == [each["difficult"] == "1" for each in objects]
    assert found[-1].boxes.shape == (0, 4)
    assert found[3].difficult.tolist() == [False, True]


def test_labels_are_of_the_lists_and_difficult_alone_is_unknown(voc):
    paths, labels = labelled_images(voc, 2007, "test")
    assert [path.stem for path in paths] == [image.name for image in boxed_images(voc, 2007, "test")]
    assert labels[:4, :2].tolist() == [[1, 0], [0, 1], [1, 1], [1, -1]]
    assert not labels[7].any()
    assert not labels[:, 2:].any()


def test_masks_are_those_that_torchvision_reads(voc):
    found, expected = masked_images(voc, 2012, "val"), VOCSegmentation(voc.root, "2012", "val")
    for own, (_, mask) in zip(found, expected, strict=True):
        assert torch.equal(read_mask(own.mask), torch.from_numpy(np.array(mask)))
    assert sorted(read_mask(found[2].mask).unique().tolist()) == [0, 1, 2, 255]


def test_the_limit_keeps_the_first_of_each_list_and_grey_images_have_one_channel(voc):
    first = VocData(root=voc.root, limit=3)
    assert len(labelled_images(first, 2007, "test").labels) == len(boxed_images(first, 2007, "test")) == 3
    assert [each.path for each in masked_images(first, 2012, "train")] == [
        each.path for each in masked_images(voc, 2012, "train")[:3]
    ]
    assert read_image(boxed_images(first, 2007, "test")[0].path, 1).shape == (1, 36, 48)
    with pytest.raises(SettingError, match="limit must be at least 1, got 0"):
        VocData(limit=0)


def test_a_root_without_the_year_is_named(voc, tmp_path):
    with pytest.raises(
        SettingError, match=f"root must hold VOCdevkit/VOC2007, got '{re.escape(str(tmp_path))}'. Unpack"
    ):
        boxed_images(VocData(root=tmp_path), 2007, "test")


BROKEN = {
    "ImageSets/Main/test.txt": (None, "cannot be read .*No such file.*name another list than 'test'"),
    "ImageSets/Main/train_test.txt": ("000009  1\n", "must label each image of test.txt, lacks '000010', '000011'"),
    "ImageSets/Main/sofa_test.txt": ("000009\n", "sofa_test.txt' cannot be read"),
    "JPEGImages/000010.jpg": (None, "JPEGImages' must hold the images of each listed image, lacks '000010.jpg'"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_what_classification_lacks_is_named(file, tmp_path):
    content, message = BROKEN[file]
    voc = drawn_voc(tmp_path)
    spoil(folder(voc) / file, content)
    with pytest.raises(DataError, match=message):
        labelled_images(voc, 2007, "test")


def spoil(file: Path, content: str | None) -> None:
    file.unlink() if content is None else file.write_text(content)


def test_other_lists_are_refused(tmp_path):
    voc = drawn_voc(tmp_path)
    main = folder(voc) / "ImageSets" / "Main"
    lines = (main / "cow_test.txt").read_text()
    (main / "cow_test.txt").write_text(lines.replace("-1", " 2", 1))
    with pytest.raises(DataError, match=r"cow_test.txt' must have the labels -1, 0 and 1, got 2"):
        labelled_images(voc, 2007, "test")
    (main / "test.txt").write_text("000009\n000009\n")
    with pytest.raises(DataError, match="must name each image once, got '000009' again"):
        boxed_images(voc, 2007, "test")
    (main / "test.txt").write_text("\n")
    with pytest.raises(DataError, match="must name images, got none"):
        boxed_images(voc, 2007, "test")


def test_missing_boxes_and_masks_are_named(tmp_path):
    voc = drawn_voc(tmp_path)
    (folder(voc) / "Annotations" / "000016.xml").unlink()
    with pytest.raises(DataError, match=r"Annotations' must hold the boxes of each listed image, lacks '000016.xml'"):
        boxed_images(voc, 2007, "test")
    masks = folder(voc, 2012) / "SegmentationClass"
    masks.rename(masks.with_name("elsewhere"))
    with pytest.raises(DataError, match=r"SegmentationClass' must hold VOC's masks, and there is no such folder"):
        masked_images(voc, 2012, "val")


def test_damaged_boxes_are_named(tmp_path):
    file = tmp_path / "1.xml"
    box = (3, 4, 10, 12)
    for objects, message in (
        ([("dodo", box, False)], "must name VOC's classes, got 'dodo'"),
        ([(RECTANGLE, (3, 4, 49, 12), False)], r"boxes inside the image of 48x36 pixels, got 3 4 49 12"),
        ([(DISC, (3, 4, 2, 12), False)], "got 3 4 2 12"),
    ):
        write_boxes(file, objects)
        with pytest.raises(DataError, match=message):
            read_boxes(file)
    write_boxes(file, [(DISC, box, True)])
    assert read_boxes(file)[0].tolist() == [[2, 3, 10, 12]]
    file.write_text(file.read_text().replace("<xmin>3</xmin>", ""))
    with pytest.raises(DataError, match=r"1.xml' cannot be read \(it has no bndbox/xmin\)"):
        read_boxes(file)
    file.write_text("<annotation>")
    with pytest.raises(DataError, match=r"1.xml' cannot be read"):
        read_boxes(file)


def test_damaged_images_and_masks_are_named(tmp_path):
    file = tmp_path / "1.png"
    file.write_bytes(b"none")
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"1.png' cannot be read .*Unpack the data set again"):
            read(file)
    Image.new("RGB", (3, 2)).save(file)
    with pytest.raises(DataError, match="VOC's values for pixels, 0 to 20 and 255, got colours"):
        read_mask(file)
    Image.new("L", (3, 2), 21).save(file)
    with pytest.raises(DataError, match="got the value 21"):
        read_mask(file)
