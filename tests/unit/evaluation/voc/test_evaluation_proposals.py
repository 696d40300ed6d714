"""Proposals from files, from selective search and as windows: one interface, and what is said of bad ones."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision.ops import box_iou
from voc_tree import drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.voc.devkit import boxed_images
from gan_lightning.evaluation.voc.proposals import DenseWindows, ProposalFiles, SelectiveSearch


def drawn(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    """Draw images of these widths and heights with a bright square each."""
    paths = []
    for number, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(number).integers(0, 40, (height, width, 3)).astype(np.uint8)
        pixels[height // 4 : height // 2, width // 4 : width // 2] += 200
        paths.append(folder / f"{number:06d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def npz(file: Path, **boxes: list[list[float]]) -> ProposalFiles:
    np.savez(file, **{name.removeprefix("image"): np.array(rows) for name, rows in boxes.items()})
    return ProposalFiles([str(file)])


# Windows


def test_windows_lie_inside_their_image_and_some_window_fits_every_object(tmp_path):
    voc = drawn_voc(tmp_path, images=5)
    images = boxed_images(voc, 2007, "trainval")
    found = DenseWindows().find([image.path for image in images])
    for image, windows in zip(images, found, strict=True):
        assert (windows[:, :2] >= 0).all()
        assert (windows[:, 2:] <= torch.tensor([48.0, 36.0])).all()
        assert (windows[:, 2:] > windows[:, :2]).all()
        if len(image.boxes):
            assert box_iou(image.boxes, windows).amax(dim=1).min() > 0.5


def test_windows_have_the_sizes_and_steps_asked_for(tmp_path):
    (path,) = drawn(tmp_path, (40, 40))
    found = DenseWindows(scales=[0.5], shapes=[1.0], step=0.5).find([path])[0]
    expected = [[x, y, x + 20, y + 20] for x in (0.0, 10.0, 20.0) for y in (0.0, 10.0, 20.0)]
    assert found.tolist() == expected
    (wide,) = DenseWindows(scales=[2.0], shapes=[1.0]).find([path])
    assert wide.tolist() == [[0, 0, 40, 40]]


@pytest.mark.parametrize(("setting", "value"), [("scales", []), ("shapes", [0.0]), ("step", 0.0)])
def test_windows_that_are_none_are_refused(setting, value):
    with pytest.raises(SettingError, match=rf"^{setting} must be .*above 0.*got "):
        DenseWindows(**{setting: value})


# Files


def test_an_npz_has_the_boxes_of_each_image_under_its_name(tmp_path):
    paths = drawn(tmp_path, (40, 30), (20, 20))
    source = npz(tmp_path / "boxes.npz", image000001=[[1, 2, 20, 20]], image000000=[[0, 0, 40, 30], [3, 4, 5.5, 6]])
    assert [found.tolist() for found in source.find(paths)] == [[[0, 0, 40, 30], [3, 4, 5.5, 6]], [[1, 2, 20, 20]]]


def test_a_mat_file_of_selective_search_is_turned_into_pixels_from_0(tmp_path):
    """Girshick's rows are y1, x1, y2, x2 from 1, the last ones included."""
    paths = drawn(tmp_path, (40, 30), (20, 20))
    boxes, images = np.empty((1, 2), dtype=object), np.empty((2, 1), dtype=object)
    boxes[0, 0], boxes[0, 1] = (
        np.array([[1, 1, 20, 20]], np.uint16),
        np.array([[2, 3, 30, 40], [1, 1, 1, 1]], np.uint16),
    )
    images[0, 0], images[1, 0] = "000001", "000000"
    scipy.io.savemat(tmp_path / "voc.mat", {"boxes": boxes, "images": images})
    first, second = ProposalFiles([str(tmp_path / "voc.mat")]).find(paths)
    assert first.tolist() == [[2, 1, 40, 30], [0, 0, 1, 1]]
    assert second.tolist() == [[0, 0, 20, 20]]


@pytest.mark.parametrize("box", [[-1, 0, 5, 5], [0, 0, 41, 5], [0, 0, 5, 31], [5, 5, 5, 9], [9, 5, 5, 9]], ids=str)
def test_a_box_outside_of_its_image_is_refused_with_the_file_and_the_image(tmp_path, box):
    paths = drawn(tmp_path, (40, 30))
    source = npz(tmp_path / "boxes.npz", image000000=[[0, 0, 5, 5], box])
    message = r"inside its image of 40x30 pixels, got \[.*\] \(x1, y1, x2, y2\) for image 000000 of .*boxes\.npz"
    for use in (source.find, source.check):
        with pytest.raises(DataError, match=message):
            use(paths)


def test_an_image_without_any_box_is_refused_with_the_file_and_the_image(tmp_path):
    paths = drawn(tmp_path, (40, 30), (20, 20))
    message = r"Each image must have a proposal, got none for image 000001 of .*boxes\.npz"
    with pytest.raises(DataError, match=message):
        npz(tmp_path / "boxes.npz", image000000=[[0, 0, 5, 5]]).find(paths)
    with pytest.raises(DataError, match=message):
        npz(tmp_path / "boxes.npz", image000000=[[0, 0, 5, 5]], image000001=np.empty((0, 4)).tolist()).find(paths)


def test_damaged_and_missing_files_are_refused(tmp_path):
    paths = drawn(tmp_path, (40, 30))
    for suffix in (".npz", ".mat"):
        (tmp_path / f"broken{suffix}").write_bytes(b"no boxes")
        with pytest.raises(DataError, match=rf"broken\{suffix}' must hold proposals"):
            ProposalFiles([str(tmp_path / f"broken{suffix}")]).find(paths)
    with pytest.raises(DataError, match=r"must be finite rows x1, y1, x2, y2, got shape \(1, 3\) for image 000000"):
        npz(tmp_path / "boxes.npz", image000000=[[1, 2, 3]]).find(paths)
    with pytest.raises(SettingError, match=r"^files must name a \.npz or \.mat file, one at least, got \[\]"):
        ProposalFiles()
    with pytest.raises(SettingError, match=r"^files must be there, got '.*none\.npz'"):
        ProposalFiles([str(tmp_path / "none.npz")]).check([])
    with pytest.raises(SettingError, match=r"^files must be \.npz or \.mat files, got 'boxes\.txt'"):
        ProposalFiles(["boxes.txt"]).check([])


# Selective search


def test_selective_search_is_computed_once_for_an_image_and_finds_the_square(tmp_path, monkeypatch):
    pytest.importorskip("cv2", reason="needs OpenCV")
    paths = drawn(tmp_path, (40, 32), (32, 32))
    source = SelectiveSearch(edge=80, smallest=4, cache_dir=str(tmp_path / "kept"))
    told = []
    first, second = source.find(paths, lambda what, done, total: told.append((what, done, total)))
    assert box_iou(torch.tensor([[10.0, 8, 20, 16]]), first).max() > 0.7
    assert first[:, 2].max() <= 40
    assert told == [("selective search", 1, 2), ("selective search", 2, 2)]
    monkeypatch.setattr(SelectiveSearch, "_searched", None)  # what is called now would fail
    again = source.find(paths[:1])[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    with pytest.raises(TypeError):
        SelectiveSearch(edge=60, smallest=4, cache_dir=str(tmp_path / "kept")).find(paths)


def test_without_opencv_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SettingError, match=r"^proposals must be .* pip install 'gan-lightning\[proposals\]'\."):
        SelectiveSearch().check([])


def test_settings_of_selective_search_that_do_not_fit_are_refused(tmp_path):
    pytest.importorskip("cv2", reason="needs OpenCV")
    for setting in ("edge", "smallest"):
        with pytest.raises(SettingError, match=rf"^{setting} must be at least .*got 0"):
            SelectiveSearch(**{setting: 0})
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"^cache_dir must be a folder to write to, got '.*file"):
        SelectiveSearch(edge=40, cache_dir=str(tmp_path / "file")).find(drawn(tmp_path, (40, 30)))
