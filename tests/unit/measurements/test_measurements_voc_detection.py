"""Detection on PASCAL VOC as a measurement: a column of the paper's Table 3."""

import json
import logging
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from voc_tree import drawn_voc, write_boxes

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.controls import random_copy
from gan_lightning.evaluation.voc.detection import detection
from gan_lightning.evaluation.voc.detection_protocol import DetectionProtocol
from gan_lightning.evaluation.voc.detector_training import ProposedImages, initial_squares
from gan_lightning.evaluation.voc.devkit import VocData, boxed_images
from gan_lightning.evaluation.voc.proposals import DenseWindows, ProposalFiles
from gan_lightning.figures import metrics
from gan_lightning.interfaces import PublishedFigure
from gan_lightning.measurements import Bench, VocDetection
from gan_lightning.nets.data_dependent import data_dependent_
from gan_lightning.nets.folding import fold_batch_norm
from gan_lightning.nets.stages import stages_of

QUICK = DetectionProtocol(
    short_side=36, long_side=48, width=8, dropout=0.0, regions=32, learning_rate=0.02, schedule=1 / 40_000
)
WINDOWS = DenseWindows(scales=(0.35, 0.5))


def network(seed: int = 0, channels: int = 3) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages = nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(channels, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
            conv2=nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()),
            flatten=nn.Flatten(),
        ))  # fmt: skip
        stages(torch.rand(8, channels, 12, 12))  # statistics of training
    return stages


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> VocData:
    return drawn_voc(tmp_path_factory.mktemp("voc"), images=5)


def settings(voc: VocData, **own: object) -> VocDetection:
    return VocDetection(**{"voc": voc, "protocol": QUICK, "proposals": WINDOWS, "controls": (), **own})


def proposed(voc: VocData, split: str) -> ProposedImages:
    images = boxed_images(voc, 2007, split)
    return ProposedImages(images, WINDOWS.find([image.path for image in images]))


def test_it_is_the_detection_of_the_folded_convolutions_beside_three_controls(voc):
    trained = network()
    outcome = Bench({"it": trained}, None).measure(settings(voc, controls=("random", "kmeans", "scratch"), seed=3))
    train, test = proposed(voc, "trainval"), proposed(voc, "test")
    fresh = fold_batch_norm(stages_of(random_copy(trained, 3)))
    squares, _ = initial_squares(train.with_objects(), QUICK, 3, torch.device("cpu"), 3)
    rows = {"trained": fold_batch_norm(stages_of(trained))}
    for weights, draw in {"random": "normal", "kmeans": "kmeans", "scratch": "normal"}.items():
        rows[weights] = data_dependent_(fold_batch_norm(fresh), squares, draw, seed=3)
    expected = detection(rows, train, test, protocol=QUICK, seed=3)
    names = {"trained": "", "random": "random_weights/", "kmeans": "random_weights/kmeans/"}
    names["scratch"] = "random_weights/scratch/"
    found = metrics(outcome.figures)
    assert len(found) == 8
    for record in expected:
        start = f"voc_detection/it/{names[record.weights]}mean_average_precision"
        assert found[start] == pytest.approx(record.mean("11_points"), abs=1e-6)
        assert found[f"{start}_area"] == pytest.approx(record.mean("area"), abs=1e-6)
    assert {(figure.images, figure.split) for figure in outcome.figures} == {(5, "test")}
    details = json.loads(json.dumps(outcome.details))
    assert details["left_out"]["bird"] == "no training image has it"
    assert details["training_images_without_objects"] == 1
    assert [row["weights"] for row in details["extractors"]["it"]] == ["trained", "random", "kmeans", "scratch"]


def printed(outcome) -> dict[str, list[str]]:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(*outcome.tables)
    rows = [line.split("│")[1:-1] for line in captured.get().splitlines() if line.startswith("│")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_papers_figure_stands_beside_ours(voc):
    class Printed(nn.Module):
        def published_figures(self, data: str) -> dict[str, PublishedFigure]:
            return {"voc_detection/it/mean_average_precision": PublishedFigure(0.462, "a table")}

    rng = torch.Generator().manual_seed(0)
    split = torch.rand(4, 3, 12, 12, generator=rng) * 2 - 1, torch.arange(4) % 2
    data = TensorImages("any", train=split, test=split, num_classes=2, batch_size=4)
    outcome = Bench({"it": network()}, data, model=Printed()).measure(settings(voc))
    found = metrics(outcome.figures)["voc_detection/it/mean_average_precision"]
    assert printed(outcome) == {"trained": [f"{found:.4f}"], "trained, paper": ["0.4620"]}


def test_a_training_beats_its_random_control_where_the_convolutions_are_made_for_the_task(voc):
    """conv1 sees red less grey, and green less grey; all convolutions stay frozen."""
    made = network()
    with torch.no_grad():
        conv = made.conv1[0].weight
        conv.zero_()
        for channel, colours in enumerate([(1, -1, 0), (-1, 1, 0), (1, 1, -2), (-1, -1, 2)]):
            conv[channel, :, 1, 1] = torch.tensor(colours, dtype=torch.float32)
        made.conv1[1].reset_running_stats()
    protocol = replace(QUICK, schedule=40 / 40_000, frozen_stages=1, width=16, regions=64)
    outcome = Bench({"it": made}, None, random_networks={"it": network(5)}).measure(
        settings(voc, protocol=protocol, controls=("random",), proposals=DenseWindows(scales=(0.25, 0.35, 0.5)))
    )
    found = metrics(outcome.figures)
    assert found["voc_detection/it/mean_average_precision"] > 0.5
    assert (
        found["voc_detection/it/mean_average_precision"]
        > found["voc_detection/it/random_weights/mean_average_precision"]
    )


def test_while_training_the_controls_are_left_out_and_the_figures_are_known_before(voc):
    bench = Bench({"it": network()}, None, controls=False)
    own = settings(voc, controls=("random",))
    assert set(metrics(bench.measure(own).figures)) == set(own.metrics(bench))
    assert all(figure.weights == "trained" for figure in bench.outcomes["voc_detection"].figures)


def test_networks_of_grey_images_take_part(voc):
    outcome = Bench({"it": network(channels=1)}, None).measure(settings(voc))
    assert outcome.details["extractors"]["it"][0]["loss"] > 0


def test_proposals_may_come_from_a_file(voc, tmp_path):
    windows = {
        image.name: boxes.numpy()
        for split in ("trainval", "test")
        for image, boxes in zip(*proposed(voc, split), strict=True)
    }
    np.savez(tmp_path / "boxes.npz", **windows)
    from_file = settings(voc, proposals=ProposalFiles([str(tmp_path / "boxes.npz")]))
    figures = [metrics(Bench({"it": network()}, None).measure(each).figures) for each in (settings(voc), from_file)]
    assert figures[0] == figures[1]


# Bad input


def checked(voc: VocData, it: nn.Module | None = None, **own: object) -> None:
    settings(voc, **own).check(Bench({"it": it or network()}, None))


def test_a_class_without_training_images_is_said_before_anything_is_trained(voc, caplog):
    with caplog.at_level(logging.WARNING):
        checked(voc)
    assert "voc_detection leaves classes out of the mean, for no training image has it: bird, boat" in caplog.text


def test_proposals_outside_of_their_image_are_refused_before_anything_is_trained(voc, tmp_path):
    names = [image.name for split in ("trainval", "test") for image in boxed_images(voc, 2007, split)]
    np.savez(tmp_path / "boxes.npz", **{name: np.array([[0, 0, 5, 60]]) for name in names})
    with pytest.raises(DataError, match=r"inside its image of 48x36 pixels, .* for image 000001 of .*boxes\.npz"):
        checked(voc, proposals=ProposalFiles([str(tmp_path / "boxes.npz")]))


def test_a_network_without_stages_and_images_smaller_than_the_stride_are_refused(voc):
    with pytest.raises(SettingError, match=r"extractors must have convolutions to freeze, got \['it'\]"):
        checked(voc, nn.Sequential(nn.Flatten()))
    coarse = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 2, 64, 64, 32)))
    with pytest.raises(SettingError, match=r"extractors must name networks that take VOC's images, but 'it' .* 64 p"):
        checked(voc, coarse)
    with pytest.raises(SettingError, match=r"frozen_stages must be at most 2, the convolutions of 'it', got 3"):
        checked(voc, protocol=replace(QUICK, frozen_stages=3))


def test_lists_without_any_object_are_refused(tmp_path):
    voc = drawn_voc(tmp_path, images=3)
    for file in Path(voc.folder(2007), "Annotations").iterdir():
        write_boxes(file, [])
    with pytest.raises(DataError, match=r"^Detection needs a class with objects to train on and to find, got none\."):
        checked(voc)


def test_a_missing_voc_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"^root must hold VOCdevkit/VOC2007, got "):
        checked(VocData(root=tmp_path))


@pytest.mark.slow
def test_on_real_images_some_objects_are_found():
    """The subset in `shared/data`, beside the checkout."""
    root = Path(__file__).parents[4] / "shared" / "data"
    if not (root / "VOCdevkit" / "VOC2007").is_dir():
        pytest.skip("needs VOC2007 in ../shared/data")
    protocol = DetectionProtocol(
        short_side=128, long_side=213, width=64, learning_rate=0.01, schedule=100 / 40_000, frozen_stages=0
    )
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(a, b, 5, 2, 2), nn.ReLU()) for a, b in ((3, 16), (16, 32), (32, 64))]
    it = nn.Sequential(OrderedDict((f"conv{n}", stage) for n, stage in enumerate(stages, start=1)))
    own = VocDetection(voc=VocData(root=root, limit=60), protocol=protocol, controls=())
    found = metrics(Bench({"it": it}, None).measure(own).figures)
    untrained = replace(own, protocol=replace(protocol, learning_rate=1e-12))
    before = metrics(Bench({"it": it}, None).measure(untrained).figures)
    name = "voc_detection/it/mean_average_precision"
    assert found[name] > before[name]
