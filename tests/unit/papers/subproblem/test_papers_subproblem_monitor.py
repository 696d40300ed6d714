"""The monitor of the sub-problems: what it measures while a model trains, and what it leaves alone."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.errors import SettingError
from gan_lightning.figures import read_figures
from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    ImplicitMaximumLikelihood,
    InverseExamples,
    PermutationInvariantNetworks,
    SubproblemMonitor,
    TargetRegression,
    TutorialNetworks,
)
from gan_lightning.papers.subproblem.inductive_bias import InductiveBias
from gan_lightning.papers.subproblem.subproblem_monitor import generator_spectra
from gan_lightning.runs import RunFolder

SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)


class Recorder(DummyLogger):
    """A logger that keeps every figure under the step that it was logged at."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int, str, float]] = []
        self.pictures: list[Image.Image] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.logged += [(step, n.removeprefix("subproblem/"), v) for n, v in metrics.items() if "subproblem" in n]

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures += images

    def under(self, name: str) -> dict[int, float]:
        return {step: value for step, known, value in self.logged if known == name}


def gan(**settings) -> GAN:
    seed_everything(0)
    return GAN(1, 6, SMALL, **settings)


def fit(model: LightningModule, *callbacks, size: int = 6, **settings) -> Recorder:
    images = torch.rand(15, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loader = DataLoader(TensorDataset(images, torch.zeros(15, dtype=torch.int64)), batch_size=5)
    recorder = Recorder()
    trainer = Trainer(
        **{"max_epochs": 4, "logger": recorder, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu", "callbacks": list(callbacks)} | settings
    )  # fmt: skip
    torch.manual_seed(1)
    trainer.fit(model, loader)
    return recorder


def test_direct_training_is_seen_to_solve_the_two_sub_problems():
    recorder = fit(gan(), SubproblemMonitor(every_n_batches=5))
    assert list(recorder.under("gradient_ratio")) == [0, 5, 10]  # three batches an epoch
    for ratio in recorder.under("gradient_ratio").values():
        assert_close(ratio, 1.0, rtol=1e-5, atol=0)
    assert max(recorder.under("gradient_angle").values()) < 1e-2
    assert {name for _, name, _ in recorder.logged} == {"gradient_ratio", "gradient_angle"}


def test_a_models_own_inverse_examples_are_what_is_measured():
    recorder = fit(gan(generator_update=InverseExamples(regression="l1")), SubproblemMonitor(every_n_batches=1))
    assert min(recorder.under("gradient_angle").values()) > 1
    for update in (
        InverseExamples(),
        InverseExamples(regression="mean", regression_rate=1.0),
        InverseExamples(regression_rate=2500.0),
    ):
        squares = fit(gan(generator_update=update), SubproblemMonitor(1), max_epochs=1)
        assert max(squares.under("gradient_angle").values()) < 1e-2
        for ratio in squares.under("gradient_ratio").values():
            assert_close(ratio, 1.0, rtol=1e-5, atol=0)


def test_targets_without_a_discriminator_are_measured_and_drawn_as_the_models_own(tmp_path):
    update = TargetRegression(ImplicitMaximumLikelihood())
    monitor = SubproblemMonitor(1, 1, columns=3, images=1, probes=1)
    recorder = fit(gan(generator_update=update), RunFolder(str(tmp_path)), monitor, max_epochs=1)
    assert min(recorder.under("gradient_angle").values()) > 1
    assert max(recorder.under("gradient_ratio").values()) > 10  # targets are far away, an η of 2e-4 is near
    (factor,) = recorder.under("amplification").values()
    assert 0.5 <= factor < 10  # two images differ by 2 at most
    assert len(recorder.pictures) == 1


def test_pictures_and_the_inductive_bias_come_every_n_epochs(tmp_path):
    monitor = SubproblemMonitor(every_n_epochs=2, columns=3, images=2, probes=2)
    recorder = fit(gan(), RunFolder(str(tmp_path)), monitor)
    (run,) = tmp_path.glob("*/*")
    pictures = sorted((run / "pictures").iterdir())
    assert [path.name for path in pictures] == ["subproblem-epoch-0001.png", "subproblem-epoch-0003.png"]
    assert Image.open(pictures[0]).size == (3 * 7 + 1, 4 * 7 + 1)
    assert len(recorder.pictures) == 2
    assert {name for _, name, _ in recorder.logged} == {"amplification", "trace", "effective_rank"}
    assert [len(recorder.under(name)) for name in ("amplification", "trace", "effective_rank")] == [2, 2, 2]
    assert all(1 <= rank <= 36 for rank in recorder.under("effective_rank").values())
    assert min(recorder.under("amplification").values()) > 1
    written = read_figures(run / "figures.json")
    last = {name: list(recorder.under(name).values())[-1] for name in ("amplification", "trace", "effective_rank")}
    assert {f.metric: f.value for f in written.figures} == last
    assert {(f.measurement, f.split, f.epoch, f.batches) for f in written.figures} == {("subproblem", "", 4, 12)}
    assert written.sections["subproblem"].settings["images"] == 2
    rows = list(csv.DictReader(Path(run, "metrics.csv").read_text().splitlines()))
    assert len([row for row in rows if row["subproblem/trace"]]) == 2  # figures stand once, not in each later row


def test_a_run_that_ends_inside_an_epoch_gets_its_picture(tmp_path):
    recorder = fit(gan(), RunFolder(str(tmp_path)), SubproblemMonitor(0, 1, columns=3, images=1, probes=1), max_steps=4)
    (run,) = tmp_path.glob("*/*")  # three batches an epoch
    assert sorted(path.stem for path in run.glob("pictures/*")) == ["subproblem-epoch-0000", "subproblem-epoch-0001"]
    assert [len(recorder.under(name)) for name in ("amplification", "trace")] == [2, 2]


def test_in_bfloat16_the_inductive_bias_is_that_of_the_weights():
    seed_everything(0)
    networks = TutorialNetworks(latent_dim=3, base_width=2)  # transposed convolutions
    model = GAN(1, 64, networks, simultaneous=False, latent_prior="normal")
    recorder = fit(model, SubproblemMonitor(1, 1, images=1, probes=2), size=64, precision="bf16-mixed", max_epochs=1)
    (expected,) = generator_spectra(model, images=1, probes=2, seed=0)
    assert_close(list(recorder.under("trace").values()), [expected.trace])


def test_the_inductive_bias_is_that_of_the_generator_at_images_from_the_same_latents():
    model = gan()
    state = torch.get_rng_state()
    found = generator_spectra(model, images=2, probes=3, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert model.generator.hidden2[1].training
    model.eval()
    latents = model.sample_latents(2, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    for i, spectrum in enumerate(found):
        expected = InductiveBias(model.generator, latents, select=lambda x, i=i: x[i]).estimated_spectrum(3, rng)
        assert_close((spectrum.trace, spectrum.effective_rank), (expected.trace, expected.effective_rank))
        assert spectrum.values == 36
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("kind", "update"), [("gan", None), ("mgan", InverseExamples(regression_rate=2500.0, inversion_steps=2))]
)
def test_looking_on_changes_nothing(tmp_path, update, kind):
    def trained(*callbacks):
        settings = {} if update is None else {"generator_update": update}
        seed_everything(0)
        if kind == "gan":
            model, size = GAN(1, 6, SMALL, **settings), 6
        else:
            model, size = MGAN(1, 32, base_width=2, feature_dim=4, generators=3, fake_batch_size=6, **settings), 32
        fit(model, *callbacks, size=size, max_epochs=2)
        return model

    monitor = SubproblemMonitor(every_n_batches=1, every_n_epochs=1, probes=1, images=1)
    watched, alone = trained(RunFolder(str(tmp_path)), monitor), trained()
    assert list(tmp_path.rglob("pictures/subproblem-epoch-0001.png"))
    assert_close(watched.state_dict(), alone.state_dict(), rtol=0, atol=0)
    assert watched.generator_observer is None


def test_by_default_and_in_a_dry_run_nothing_is_measured():
    assert fit(gan(), SubproblemMonitor()).logged == []
    model = gan()
    fit(model, SubproblemMonitor(1, 1), fast_dev_run=True)
    assert model.generator_observer is None


class Classifier(LightningModule):
    """A model that generates nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(36, 2)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_models_without_a_generator_loss_are_passed_over():
    assert fit(Classifier(), SubproblemMonitor(1, 1)).logged == []
    seed_everything(0)
    recorder = fit(Autoencoder(1, 6, SMALL), SubproblemMonitor(1, 4, images=1, probes=1))
    assert {name for _, name, _ in recorder.logged} == {"trace", "effective_rank"}  # it has a generator all the same


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_batches": -1}, r"every_n_batches must be at least 0, got -1"),
        ({"every_n_epochs": -1}, r"every_n_epochs must be at least 0, got -1"),
        ({"columns": 0}, r"columns must be at least 1, got 0"),
        ({"images": 0}, r"images must be at least 1, got 0"),
        ({"probes": 0}, r"probes must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        SubproblemMonitor(**settings)
