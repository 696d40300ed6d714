"""A model card says of which features its accuracies are."""

from dataclasses import replace
from pathlib import Path

import pytest

from gan_lightning.export.model_card import model_card
from gan_lightning.export.trained_run import TrainedRun
from gan_lightning.figures import Figure, RunFigures, Section

CONFIG = {
    "architecture": "GAN.discriminator", "num_features": 4,
    "pretrained_cfg": {"input_size": [1, 8, 8], "license": "unknown"}, "gan_lightning": {"batch_norm": "running ones"},
}  # fmt: skip


@pytest.mark.parametrize(("batch_norm", "said"), [("running", False), ("real", True)])
def test_other_batch_norm_statistics_than_the_exported_ones_are_said(batch_norm, said):
    figure = Figure(measurement="transfer", metric="accuracy", value=0.75, subject="discriminator", protocol="tuned")
    sections = {"transfer": Section({"batch_norm": batch_norm})}
    run = TrainedRun(Path("run"), {}, {}, RunFigures({"seed": 0}, [figure], sections))
    card = model_card(run, "discriminator", CONFIG, 2, onnx=False)
    assert "| tuned | 0.7500 |" in card
    assert ("`transfer.batch_norm=real`" in card) == said


def test_each_accuracy_stands_with_its_data_set():
    figure = Figure(measurement="transfer", metric="accuracy", value=0.75, subject="discriminator", protocol="tuned")
    chance = replace(figure, subject="chance", protocol="", weights="none", condition="far", value=0.125)
    figures = [figure, replace(figure, condition="far", value=0.25), chance]
    run = TrainedRun(Path("run"), {}, {}, RunFigures({"seed": 0, "data": "digits"}, figures))
    card = model_card(run, "discriminator", CONFIG, 2, onnx=False)
    assert "| digits | tuned | 0.7500 | - | - | - |" in card
    assert "| far | tuned | 0.2500 | - | - | 0.1250 |" in card
