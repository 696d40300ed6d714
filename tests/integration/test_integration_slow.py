"""Runs that take minutes or need real data sets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reading import values

from gan_lightning.data import ImageFolder
from gan_lightning.evaluation import DepthProtocol
from gan_lightning.evaluation.voc.classification import ClassificationProtocol
from gan_lightning.evaluation.voc.devkit import VocData, labelled_images
from gan_lightning.evaluation.voc.segmentation import SegmentationProtocol
from gan_lightning.figures import metrics
from gan_lightning.measurements import Bench, FrozenDepth, VocClassification, VocSegmentation
from gan_lightning.papers import ImageNetworks

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def tuned_accuracies(folder: Path) -> dict[str, float]:
    (run,) = folder.glob("runs/*/*")
    names = {name: f"transfer/{name}/tuned/accuracy" for name in ("discriminator", "classifier", "pixels")}
    return {name: values(run)[figure] for name, figure in names.items()}


def test_both_extractors_of_the_quickstart_are_above_nine_tenths_under_the_tuned_probe(gan_lightning, tmp_path):
    status, _, errors = gan_lightning("fit", "--config", ROOT / "configs/quickstart.yaml")
    assert status == 0, errors
    accuracies = tuned_accuracies(tmp_path)
    assert min(accuracies["discriminator"], accuracies["classifier"]) > 0.9


def test_the_tuned_probe_on_real_digits_is_where_logistic_regression_is_known_to_be(gan_lightning, tmp_path):
    data = ROOT.parent / "shared" / "data"
    if not (data / "MNIST").is_dir():
        pytest.skip("needs the original MNIST files in ../shared/data")
    status, _, errors = gan_lightning(
        "fit", "--config", ROOT / "configs/mgan/base.yaml", "--config", ROOT / "configs/data/mnist.yaml",
        f"--data.root={data}", "--model.base_width=16", "--model.shares_removed=4", "--trainer.max_epochs=1",
        "--transfer.paper=null",
    )  # fmt: skip
    assert status == 0, errors
    accuracies = tuned_accuracies(tmp_path)
    assert 0.91 < accuracies["pixels"] < 0.94  # logistic regression on MNIST's pixels is known to reach 0.92
    # One epoch at an eighth of the width: still below the pixels, but far above chance.
    assert min(accuracies["discriminator"], accuracies["classifier"]) > 0.85


@pytest.mark.parametrize(("name", "size", "least"), [("tiny-imagenet-20", 64, 0.15), ("imagenette-224", 224, 0.15)])
def test_what_follows_frozen_convolutions_learns_real_photographs_at_two_sizes(tmp_path, name, size, least):
    root = ROOT.parent / "shared" / "data" / name
    if not root.is_dir():
        pytest.skip(f"needs {name} in ../shared/data")
    data = ImageFolder(root=root, image_size=size, limit=1400, cache_dir=tmp_path, evaluation_batch_size=50)
    data.prepare_data()
    data.setup("fit")
    torch.manual_seed(0)
    bench = Bench({"encoder": ImageNetworks(encoder_width=12).encoder(3, size)}, data)
    protocol = DepthProtocol(epochs=8 if size == 64 else 3, width=128, batch_size=32)
    outcome = bench.measure(FrozenDepth(depths=[1], protocol=protocol, controls=["kmeans", "scratch"]))
    accuracies = metrics(outcome.figures)
    assert len(accuracies) == 3
    assert min(accuracies.values()) > least  # one in twenty would be chance, and one in ten


def test_real_photographs_of_voc_are_told_apart_and_their_masks_are_learned():
    data = VocData(root=ROOT.parent / "shared" / "data")
    if not (ROOT.parent / "shared" / "data" / "VOCdevkit").is_dir():
        pytest.skip("needs VOCdevkit in ../shared/data")
    torch.manual_seed(0)
    bench = Bench({"encoder": ImageNetworks(encoder_width=24).encoder(3, 64)}, None)
    protocol = ClassificationProtocol(schedule=0.002, size=96, width=128, crops=2, learning_rate=0.01)
    outcome = bench.measure(VocClassification(voc=data, trained=["fc6-8"], controls=[], protocol=protocol))
    labels = labelled_images(data, 2007, "test").labels
    chance = ((labels == 1).sum(dim=0) / (labels >= 0).sum(dim=0)).mean().item()  # of answers at random
    assert 0.08 < chance < 0.1
    assert metrics(outcome.figures)["voc_classification/encoder/fc6-8/mean_average_precision"] > chance + 0.03
    assert outcome.details["left_out"] == {}
    few = replace(data, limit=60)
    masks = SegmentationProtocol(schedule=0.0003, width=64, batch_size=4, learning_rate=0.01)
    outcome = bench.measure(VocSegmentation(voc=few, controls=[], protocol=masks))
    assert outcome.details["left_out"]["motorbike"] == "no training mask has it"
    assert outcome.details["extractors"]["encoder"][0]["overlaps"]["background"] > 0.5
