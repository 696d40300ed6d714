"""VOC segmentation as a measurement: the last column of the paper's Table 3."""

import json
import logging
from pathlib import Path

import jaxtyping
import pytest
import torch
from rich.console import Console
from torch import nn
from voc_tree import drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.controls import random_copy
from gan_lightning.evaluation.voc.classification import ClassificationProtocol, initial_squares
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import VocData, masked_images
from gan_lightning.evaluation.voc.segmentation import SegmentationProtocol, segment
from gan_lightning.figures import metrics
from gan_lightning.measurements import Bench, VocClassification, VocSegmentation
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.nets.stages import stages_of

QUICK = SegmentationProtocol(schedule=2e-5, width=3, batch_size=2, learning_rate=0.02)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        return nn.Sequential(conv, nn.Flatten())


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> VocData:
    return drawn_voc(tmp_path_factory.mktemp("voc"), images=4)


def test_it_is_the_segmentation_of_the_folded_convolutions_beside_two_controls(voc, caplog):
    trained = network()
    with caplog.at_level(logging.WARNING):
        outcome = Bench({"it": trained}, None).measure(VocSegmentation(voc=voc, protocol=QUICK, seed=3))
    assert "leaves classes out of the mean, for no training mask has it: bird, boat," in caplog.text
    train, test = (masked_images(voc, 2012, split) for split in ("train", "val"))
    fresh = fold_batch_norm(stages_of(random_copy(trained, 3)))
    initial = initial_squares(DecodedFiles([each.path for each in train], 3), 26, (0.5, 2.0), 3)
    rows = {"trained": fold_batch_norm(stages_of(trained))}
    for control, draw in (("random", "normal"), ("kmeans", "kmeans")):
        rows[control] = data_dependent_(fold_batch_norm(fresh), initial, draw, seed=3)
    expected = segment(rows, train, test, channels=3, measured=[0, 1, 2], protocol=QUICK, seed=3)
    words = {"trained": "", "random": "random_weights/", "kmeans": "random_weights/kmeans/"}
    assert metrics(outcome.figures) == {
        f"voc_segmentation/it/{words[each.weights]}{metric}": value
        for each in expected
        for metric, value in (("mean_iou", each.mean), ("pixel_accuracy", each.pixel_accuracy))
    }
    assert {figure.images for figure in outcome.figures} == {4}
    facts = json.loads(json.dumps(outcome.details))
    assert set(facts["extractors"]["it"][0]["overlaps"]) == {"background", "aeroplane", "bicycle"}
    assert facts["left_out"]["bird"] == "no training mask has it"


def test_the_table_has_all_tasks_of_voc_that_were_measured_before(voc):
    bench = Bench({"it": network()}, None)
    protocol = ClassificationProtocol(schedule=1e-9, size=16, crops=1, width=3, batch_size=2)
    cells = bench.measure(VocClassification(voc=voc, protocol=protocol, trained=["fc8"], controls=["random"])).figures
    (table,) = bench.measure(VocSegmentation(voc=voc, protocol=QUICK)).tables
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    printed = captured.get()
    assert "classification, fc8" in printed
    assert "segmentation" in printed
    assert f"{cells[0].value:.4f}" in printed
    assert list(table.columns[0].cells) == ["trained", "random", "kmeans"]
    assert list(table.columns[1].cells)[2] == "-"


def test_what_cannot_be_measured_is_refused_before(voc, tmp_path):
    def refusal(named: dict[str, nn.Module], **settings: object) -> str:
        with pytest.raises((SettingError, DataError)) as caught:
            Bench(named, None).measure(VocSegmentation(**{"voc": voc, "protocol": QUICK} | settings))
        return str(caught.value)

    fixed = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(4))
    assert "must name networks that take images of any size, got 'it'. Leave it out" in refusal({"it": fixed})
    assert refusal({"it": nn.Sequential(nn.Flatten())}).startswith("extractors must have convolutions to freeze")
    assert "Segmentation/test.txt' cannot be read" in refusal({"it": network()}, test="test")
    own = drawn_voc(tmp_path, images=4)
    masks = Path(tmp_path) / "VOCdevkit" / "VOC2012" / "SegmentationClass"
    for mask in masks.iterdir():
        mask.write_bytes(b"")
    assert "cannot be read" in refusal({"it": network()}, voc=own)
    masks.rename(masks.with_name("masks"))
    assert "SegmentationClass' must hold VOC's masks" in refusal({"it": network()}, voc=own)


def test_unknown_controls_and_years_are_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(SettingError, match="controls must be one of random, kmeans, got 'scratch'"):
        VocSegmentation(controls=["scratch"])
    with pytest.raises(SettingError, match="year must be at least 2007, got 7"):
        VocSegmentation(year=7)
