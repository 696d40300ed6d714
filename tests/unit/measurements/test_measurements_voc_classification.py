"""VOC classification as a measurement: the first columns of the paper's Table 3."""

import json
import logging
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn
from voc_tree import drawn_voc

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.controls import random_copy
from gan_lightning.evaluation.voc.classification import ClassificationProtocol, classify, initial_squares
from gan_lightning.evaluation.voc.decoding import DecodedFiles
from gan_lightning.evaluation.voc.devkit import VocData, labelled_images
from gan_lightning.figures import metrics
from gan_lightning.interfaces import PublishedFigure
from gan_lightning.measurements import Bench, VocClassification
from gan_lightning.measurements.voc_table import table_3
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.nets.stages import stages_of

QUICK = ClassificationProtocol(schedule=3 / 80_000, size=24, crops=2, width=4, batch_size=4, learning_rate=0.02)


def network(channels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(channels, 3, 3, 2, bias=False), nn.BatchNorm2d(3), nn.LeakyReLU(0.2)),
            conv2=nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.LeakyReLU(0.2)),
            flatten=nn.Flatten(),
        ))  # fmt: skip


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> VocData:
    return drawn_voc(tmp_path_factory.mktemp("voc"), images=4)


def printed(tables: list) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(*tables)
    return captured.get()


def test_it_is_the_classification_of_the_folded_convolutions_beside_two_controls_without_data_of_the_run(voc, caplog):
    trained = network()
    bench = Bench({"it": trained}, None)
    with caplog.at_level(logging.WARNING):
        outcome = bench.measure(VocClassification(voc=voc, protocol=QUICK, trained=["fc8", "all"], seed=3))
    assert "leaves classes out of the mean, for no training image has it: bird, boat," in caplog.text
    train, test = (labelled_images(voc, 2007, split) for split in ("trainval", "test"))
    fresh = fold_batch_norm(stages_of(random_copy(trained, 3)))
    initial = initial_squares(DecodedFiles(train.paths, 3), 24, (0.5, 2.0), 3)
    rows = {"trained": fold_batch_norm(stages_of(trained))}
    for control, draw in (("random", "normal"), ("kmeans", "kmeans")):
        rows[control] = data_dependent_(fold_batch_norm(fresh), initial, draw, seed=3)
    expected = classify(rows, train, test, channels=3, trained=["fc8", "all"], protocol=QUICK, seed=3)
    words = {"trained": "", "random": "random_weights/", "kmeans": "random_weights/kmeans/"}
    assert metrics(outcome.figures) == {
        f"voc_classification/it/{each.trained}/{words[each.weights]}{metric}": each.mean(rule)
        for each in expected
        for rule, metric in (("area", "mean_average_precision"), ("11_points", "mean_average_precision_11_points"))
    }
    assert {(figure.images, figure.split) for figure in outcome.figures} == {(4, "test")}
    facts = json.loads(json.dumps(outcome.details))
    assert set(facts["extractors"]["it"][0]["precisions"]["area"]) == {"aeroplane", "bicycle"}
    assert facts["left_out"]["bird"] == "no training image has it"
    table = printed(outcome.tables)
    assert f"{expected[0].mean('area'):.4f}" in table
    assert all(word in table for word in ("classification, fc8", "classification, all", "kmeans", "PASCAL VOC: it"))


def test_while_training_the_extractor_alone_is_measured_under_the_names_that_were_declared(voc):
    bench = Bench({"it": network(1)}, None, controls=False)
    settings = VocClassification(voc=voc, protocol=QUICK, trained=["fc6-8"])
    found = bench.measure(settings)
    assert {figure.name: "max" for figure in found.figures} == settings.metrics(bench)
    assert {figure.weights for figure in found.figures} == {"trained"}


def test_printed_figures_stand_in_the_table(voc):
    bench = Bench({"it": network()}, None)
    figures = bench.measure(VocClassification(voc=voc, protocol=QUICK, trained=["fc8"])).figures
    paper = {
        "voc_classification/it/fc8/mean_average_precision": PublishedFigure(0.375, "Table 3"),
        "voc_classification/it/fc8/random_weights/kmeans/mean_average_precision": PublishedFigure(0.32, "Table 3"),
    }
    area = [figure for figure in figures if figure.metric == "mean_average_precision"]
    table = table_3(area, "it", "imagenet", paper)
    assert list(table.columns[0].cells) == ["trained", "trained, paper", "random", "kmeans", "kmeans, paper"]
    assert list(table.columns[1].cells)[1::3] == ["0.3750", "0.3200"]


def test_what_cannot_be_measured_is_refused_before(voc, tmp_path):
    def refusal(named: dict[str, nn.Module], **settings: object) -> str:
        with pytest.raises((SettingError, DataError)) as caught:
            Bench(named, None).measure(VocClassification(**{"voc": voc, "protocol": QUICK} | settings))
        return str(caught.value)

    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    assert refusal({"flat": flat}).startswith("extractors must have convolutions to freeze, got ['flat']")
    assert "got ['other']" in refusal({"it": network()}, extractors=["other"])
    small = ClassificationProtocol(size=3)
    assert "but 'it' must see images of at least 4 pixels, the stride of its convolutions, got 3" in refusal(
        {"it": network()}, protocol=small
    )
    assert "of 1 or 3 channels, got 'it' with 2" in refusal({"it": network(2)})
    assert refusal({"it": network()}, voc=VocData(root=tmp_path)).startswith("root must hold VOCdevkit/VOC2007, got")
    assert "trainval.txt' cannot be read" in refusal({"it": network()}, year=2012)
    with_missing = drawn_voc(tmp_path, images=4)
    next(Path(tmp_path).rglob("JPEGImages/*.jpg")).unlink()
    assert "must hold the images of each listed image" in refusal({"it": network()}, voc=with_missing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trained": ["fc7"]}, "trained must be one of fc8, fc6-8, all, got 'fc7'"),
        ({"trained": []}, r"trained must name one part or more, each once, got \[\]"),
        ({"trained": ["fc8", "fc8"]}, "each once"),
        ({"controls": ["scratch"]}, "controls must be one of random, kmeans, got 'scratch'"),
        ({"year": 2006}, "year must be at least 2007, got 2006"),
    ],
)
def test_unknown_parts_and_controls_are_refused(settings, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(SettingError, match=message):
        VocClassification(**settings)
