"""Every measurement with settings that make it quick, and a small model and data set that all of them can measure."""

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import nn
from voc_tree import drawn_voc

from gan_lightning.cli.naming import KINDS
from gan_lightning.evaluation import DepthProtocol, NearestProbe, PaperProbe, SmallClassifier, TensorImages, TunedProbe
from gan_lightning.evaluation.attentive_pooling import AttentiveProtocol
from gan_lightning.evaluation.probes import FewShotProbe, ManyRatesProbe, WeightedNeighboursProbe
from gan_lightning.evaluation.voc.classification import ClassificationProtocol
from gan_lightning.evaluation.voc.detection_protocol import DetectionProtocol
from gan_lightning.evaluation.voc.devkit import VocData
from gan_lightning.evaluation.voc.proposals import DenseWindows
from gan_lightning.evaluation.voc.segmentation import SegmentationProtocol
from gan_lightning.interfaces import LinearHead
from gan_lightning.measurements import (
    Attentive,
    Embedding,
    FeatureSpectrum,
    Figure,
    Filters,
    FrozenDepth,
    IterativeFeeding,
    KeptClass,
    LayerAccuracy,
    LayerLikeness,
    Measurement,
    Neighbours,
    Outcome,
    Quality,
    Reconstruction,
    Robustness,
    Samples,
    Similarity,
    SyntheticData,
    Together,
    Transfer,
    Variations,
    VocClassification,
    VocDetection,
    VocSegmentation,
)
from gan_lightning.papers import Anatomy, Verdicts

TUNED = TunedProbe(strengths=(1.0,), gradient_tolerance=0.1)


@contextmanager
def one_strength() -> Iterator[None]:
    """Let the anatomy's probe try one strength instead of seven, and not for long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_lightning.papers.mgan.anatomy.TUNED", TUNED)
        yield


def quick(folder: Path) -> list[Measurement]:
    """Return every measurement, switched on; a classifier is kept in `folder`."""
    voc = VocData(root=drawn_once().name)
    network = SmallClassifier(width=2, feature_dim=4, steps=20, batch_size=8, cache_dir=str(folder))
    found: list[Measurement] = [
        Transfer(
            paper=PaperProbe(epochs=2),
            tuned=TUNED,
            nearest=NearestProbe(),
            weighted_neighbours=WeightedNeighboursProbe(neighbours=(1, 3), reported=3),
            few_shot=FewShotProbe(shots=(2,), reported=2, draws=2),
            many_rates=ManyRatesProbe(learning_rates=(0.01, 0.1), epochs=1),
        ),
        Together(enabled=True, tuned=TUNED),
        Robustness(enabled=True, noise=(0.4,), blur=(1.0,), occlusion=(0.25, 0.5), tuned=TUNED),
        FrozenDepth(enabled=True, protocol=DepthProtocol(epochs=1, batch_size=8, width=8)),
        Attentive(enabled=True, protocol=AttentiveProtocol(learning_rates=(0.01,), epochs=1, batch_size=8)),
        FeatureSpectrum(enabled=True),
        LayerLikeness(enabled=True),
        VocClassification(enabled=True, voc=voc, protocol=two_steps_of_classification()),
        VocDetection(
            enabled=True, voc=voc, protocol=DETECTION, proposals=DenseWindows(scales=(0.5,)), controls=("random",)
        ),
        VocSegmentation(enabled=True, voc=voc, protocol=SegmentationProtocol(schedule=1e-9, width=4, batch_size=2)),
        LayerAccuracy(enabled=True, tuned=TUNED),
        Quality(enabled=True, network=network, images=16, neighbours=2),
        Reconstruction(images=3),
        KeptClass(enabled=True, images=6),
        Samples(columns=3),
        Filters(),
        Neighbours(enabled=True, count=2, queries=3, batch_norm="real"),
        IterativeFeeding(enabled=True, rounds=2, images=2, measured=6, batch_norm="real"),
        Similarity(enabled=True, images=8, copies=2, pairs=1),
        Variations(enabled=True, noise=(0.3, 1.0), copies=2, images=2, measured=6),
        Embedding(enabled=True, images=12, perplexity=3.0),
        SyntheticData(enabled=True, budgets=(4, 6), copies=2, steps=4, batch_size=4, width=2, seeds=1),
        Anatomy(probes=True, generated=8, images=12, draws=1),
        Verdicts(enabled=True, images=10),
    ]
    assert [type(each) for each in found] == list(KINDS)
    return found


@cache
def drawn_once() -> TemporaryDirectory:
    """Return a folder with a drawn VOC, kept until the tests end."""
    folder = TemporaryDirectory()
    drawn_voc(Path(folder.name), images=4)
    return folder


DETECTION = DetectionProtocol(short_side=16, long_side=24, width=4, regions=8, schedule=1 / 40_000)


def two_steps_of_classification() -> ClassificationProtocol:
    return ClassificationProtocol(schedule=2 / 80_000, size=8, crops=1, width=4, batch_size=4)


def stripes() -> TensorImages:
    """Return images that are bright above (class 0) or below (class 1), the classes of some unknown."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    images = 0.3 * torch.randn(40, 1, 8, 8, generator=rng)
    images[labels == 0, :, :4] += 0.5
    images[labels == 1, :, 4:] += 0.5
    labels[[3, 30]] = -1
    images = images.clamp(-1, 1)
    splits = {"train": (images[:24], labels[:24]), "test": (images[24:], labels[24:])}
    return TensorImages("stripes", **splits, num_classes=2, batch_size=4)


class Everything(nn.Module):
    """Declares all that a model can, for images of 8x8, and draws from every random state without being asked to.

    Weights, buffers, modes and frozen layers differ from those of a new network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            OrderedDict(
                conv1=nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)),
                conv2=nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.Dropout(0.5), nn.LeakyReLU(0.2)),
                flatten=nn.Flatten(),
            )
        )
        self.latents = nn.Linear(24, 3)
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh())
        self.logit = nn.Linear(5, 1)
        self.generators = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 64), nn.BatchNorm1d(64), nn.Unflatten(1, (1, 8, 8)), nn.Tanh()) for _ in range(2)
        )

    def extractors(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "discriminator": self.discriminator}

    def heads(self) -> dict[str, LinearHead]:
        return {
            "encoder": LinearHead(self.latents.weight, "encoding"),
            "discriminator": LinearHead(self.logit.weight, "discrimination"),
        }

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        unasked()
        return torch.stack([generator(self.sample_latents(count, rng)) for generator in self.generators])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        unasked()
        return self.latents(self.encoder(images))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.generators[0](latents)

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(count, 3, generator=rng)

    def real_logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.logit(self.discriminator(images))[:, 0]


def unasked() -> None:
    """Draw from the random states that all code shares."""
    _ = random.random(), np.random.rand(), torch.rand(())  # noqa: NPY002 (the global one)


def everything() -> Everything:
    """Return a model as if trained, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Everything()
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5) if "var" in name else buffer.normal_(std=0.2)
    model.train()
    model.discriminator.eval()
    model.latents.bias.requires_grad_(False)
    return model


def timeless(outcome: Outcome) -> list[Figure]:
    """Return figures without what differs from time to time."""
    return [replace(figure, seconds=None) for figure in outcome.figures]
