"""Two processes on the CPU must see what one sees."""

import json
import os
import pickle
import tempfile
from pathlib import Path

import exact_training
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.analysis.density_ratio import AlarmRule
from gan_lightning.callbacks import DensityRatioMonitor, GenerationQuality, RunFolder
from gan_lightning.data import Digits
from gan_lightning.errors import DataError
from gan_lightning.evaluation import (
    DepthProtocol,
    PaperProtocol,
    QualityReference,
    RawPixels,
    SmallClassifier,
    TensorImages,
    TunedProtocol,
    drawn_images,
    estimate_batch_norm_statistics,
    evaluate_transfer,
    extract_features,
    first_images,
    frozen_depth,
    image_reconstruction,
    neighbours_picture,
)
from gan_lightning.losses import matching_loss
from gan_lightning.models import GAN, BiGAN, PermutationInvariantNetworks, SelfExGAN
from gan_lightning.models.base import _average
from gan_lightning.models.joined_batch_norm import JoinedBatchNorm
from gan_lightning.processes import average_over_processes, moments
from gan_lightning.updates import Direct, GeneratorUpdate, InverseExamples

CPU = torch.device("cpu")
SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)
MODELS = ("gan", "bigan", "selfexgan")
NORMS = ("plain", "joined", "torch's")
UPDATES = {"direct": Direct(), "exact": InverseExamples(regression_rate=0.5 / 2e-4)}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())


def data(count: int = 23) -> TensorImages:
    """An odd number of images, so that the shares differ in size."""
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(count, 1, 4, 4, generator=rng) * 2 - 1, torch.arange(count) % 2
    return TensorImages(
        "noise",
        train=(images, labels),
        test=(images[:5], labels[:5]),
        num_classes=2,
        batch_size=4,
    )


def matching(rows: slice) -> dict:
    """Return the matching loss of SelfExGAN's encoder for a process's rows of a batch, and its gradient under DDP."""
    torch.manual_seed(0)
    encoder, batch = nn.Linear(5, 3), torch.randn(10, 5)
    wrapped = nn.parallel.DistributedDataParallel(encoder) if dist.is_initialized() else encoder
    mean, variance = moments(torch.sigmoid(wrapped(batch[rows])))
    loss = matching_loss(mean, variance)
    loss.backward()
    return {
        "loss": loss.detach(),
        "mean": mean.detach(),
        "variance": variance.detach(),
        "gradient": encoder.weight.grad,
    }


def averaged(rank: int) -> dict:
    """Return the averages of tensors of several layouts, and of gradients of which a process, or both, have none."""
    rows = torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last) * (rank + 1)
    several = [rows, torch.tensor(float(rank)), torch.full((2, 3), 4.0 * rank).T]
    average_over_processes(several)
    theirs, nobodys, everyones = (nn.Parameter(torch.ones(2)) for _ in range(3))
    gradients = {theirs: torch.ones(2) if rank == 1 else None, nobodys: None, everyones: torch.full((2,), 2.0 * rank)}
    _average([gradients], [])
    return {"tensors": several, "gradients": [gradients[weight] for weight in (theirs, nobodys, everyones)]}


def synchronised(kind: str) -> tuple:
    """Return statistics of a network with synchronised batch norm, and accuracies of frozen stages of it.

    The processes have three and two batches.
    """
    model = network()
    if kind == "joined":
        JoinedBatchNorm().apply(model)
    elif kind == "torch's":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    estimate_batch_norm_statistics(model, data(17).evaluation_batches("train", CPU))
    depth = frozen_depth(model, data(17), protocol=DepthProtocol(epochs=1, batch_size=8))
    return model[1].running_mean, model[1].running_var, [record.accuracy for record in depth]


class Maker(nn.Module):
    """Two generators of images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(3, 32)

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return self.layer(torch.randn(count, 3, generator=rng)).tanh().view(count, 2, 1, 4, 4).transpose(0, 1)


def judged_images(at_once: int) -> dict[str, float]:
    """Return the figures of generated images, made so many at a time; the last digits are those of the classifier."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("gan_lightning.evaluation.generation.AT_ONCE", at_once)
        network = SmallClassifier(width=2, feature_dim=4, steps=60, cache_dir=folder)
        reference = QualityReference.of(network, data(), split="train", generators=2, neighbours=2)
        measured = reference.measure(Maker())
    return measured.figures() | {"test_accuracy": reference.judge.about["test_accuracy"]}


def judged_run(folder: str) -> dict:
    """Return what a fit on two processes measures, and by what its checkpoints are chosen."""
    torch.manual_seed(0)
    network = SmallClassifier(width=2, feature_dim=4, steps=60, cache_dir=folder)
    quality = GenerationQuality(True, network, neighbours=2, every_n_epochs=1)
    checkpoint = ModelCheckpoint(monitor="quality/fid/digits-classifier", mode="min")
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[quality, RunFolder(f"{folder}/runs"), checkpoint],
    )  # fmt: skip
    trainer.fit(GAN(1, 8, SMALL), Digits(image_size=8, limit=30, batch_size=10, evaluation_batch_size=7))
    return {"curve": quality.curve, "best": checkpoint.best_model_score.item()}


def measure() -> dict:
    protocols = (PaperProtocol(epochs=2), TunedProtocol(strengths=(0.1,)))
    model = network()
    estimate_batch_norm_statistics(model, data().evaluation_batches("train", CPU))
    records = evaluate_transfer({"a": network()}, data(), random_extractors={"a": network()}, protocols=protocols)
    broken = network()
    broken[0].weight.data.fill_(float("nan"))
    errors = []
    for extractors, images in (({"a": broken}, data()), ({}, data(count=1))):
        try:
            evaluate_transfer(extractors, images, protocols=protocols)
        except DataError as error:
            errors.append(str(error))
    train = data().evaluation_batches("train", CPU)
    queries = first_images(train, 14)
    return {
        "first": [first_images(train, count) for count in (3, 14, 30)],
        "drawn": drawn_images(train, 9, seed=0),
        "neighbours": neighbours_picture(network().eval(), queries, train, count=3),
        "reconstruction": image_reconstruction(train, lambda images: images, lambda latents: latents / 2),
        "features": extract_features(
            {"model": network(), "pixels": RawPixels()}, data().evaluation_batches("train", CPU)
        ),
        "share": len(data().evaluation_batches("train", CPU).images),
        "running_mean": model[1].running_mean,
        "running_var": model[1].running_var,
        "quality": {at_once: judged_images(at_once) for at_once in (500, 6)},
        "records": [(r.extractor, r.weights, r.protocol, r.epoch, r.accuracy) for r in records],
        "seconds": [r.seconds for r in records],
        "errors": errors,
    }


def trained(name: str, update: GeneratorUpdate) -> dict:
    """Return the weights and the first latents after two batches, each process on its own images."""
    torch.manual_seed(0)
    model = {
        "gan": lambda: GAN(1, 6, SMALL, simultaneous=False, generator_update=update),
        "bigan": lambda: BiGAN(1, 6, SMALL, generator_update=update),
        "selfexgan": lambda: SelfExGAN(1, 32, "mnist", base_width=2, generator_update=update),
    }[name]()
    size = model.image_size
    images = torch.rand(12, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loader = DataLoader(TensorDataset(images, torch.zeros(12, dtype=torch.int64)), batch_size=3)
    losses: list[float] = []
    model.generator_observer = lambda loss: losses.append(loss.value.item())
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", precision="64-true", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, loader)
    return {
        "weights": {key: weight.detach().clone() for key, weight in model.named_parameters()},
        "statistics": {key: value.clone() for key, value in model.named_buffers() if "running" in key},
        "losses": losses,
        "matching_loss": trainer.callback_metrics.get("train/matching_loss"),
    }


class Judge(LightningModule):
    """A discriminator whose logits collapse after three batches, on the first process alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def real_logits(self, images):
        return torch.linspace(-1, 1, len(images)) * (9.0 if self.trainer.global_step > 3 > self.global_rank + 2 else 1)

    def training_step(self, batch, batch_idx):
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Images(LightningDataModule):
    """The images, as a data module that shares them out."""

    name, channels, image_size, label_kind, num_classes = "noise", 1, 4, "classes", 2

    def evaluation_batches(self, split, device):
        return data().evaluation_batches(split, device)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(20, 1)), batch_size=1)


def monitored() -> dict:
    """Return when the alarm stops a training, and what it was given to judge."""
    monitor = DensityRatioMonitor(1, images=6, alarm=AlarmRule(patience=1, warm_up=1), stop=True)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", logger=False, callbacks=[monitor],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Judge(), datamodule=Images())
    return {"batches": trainer.global_step, "history": monitor.history, "images": monitor._drawn}


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    halves, unequal = (slice(0, 5), slice(5, 10)), (slice(0, 7), slice(7, 10))
    shares = {"halves": matching(halves[rank]), "unequal": matching(unequal[rank])}
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2"}  # what a launcher tells Lightning
    runs = {(model, label): trained(model, update) for model in MODELS for label, update in UPDATES.items()}
    others = {"runs": runs, "monitored": monitored(), "judged": judged_run(folder), "averaged": averaged(rank)}
    others |= {"exact": exact_training.all_trained(), "synchronised": {kind: synchronised(kind) for kind in NORMS}}
    results = measure() | shares | others
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=2)
    results = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]
    return [{**result, "folder": folder} for result in results]


def test_every_process_gets_the_features_of_all_shares_in_stored_order(two):
    assert [result["share"] for result in two] == [12, 11]
    stored = data().evaluation_batches("train", CPU)
    expected, labels = extract_features({"model": network(), "pixels": RawPixels()}, stored)
    for result in two:
        features, gathered_labels = result["features"]
        assert torch.equal(features["pixels"], stored.images.flatten(1))
        assert_close(features["model"], expected["model"])
        assert torch.equal(gathered_labels, labels)


@pytest.mark.parametrize("shares", ["halves", "unequal"])
def test_the_matching_loss_and_its_gradient_are_those_of_one_process_with_the_whole_batch(two, shares):
    alone = matching(slice(0, 10))
    for result in two:
        for quantity in ("loss", "mean", "variance"):
            assert_close(result[shares][quantity], alone[quantity])
        assert_close(result[shares]["gradient"], alone["gradient"])


def test_selfexgans_matching_loss_is_that_of_the_whole_batch_on_every_process(two):
    first, second = (result["runs"]["selfexgan", "direct"]["matching_loss"] for result in two)
    assert first > 0
    assert_close(first, second, rtol=1e-12, atol=0)  # each process has images, and codes, of its own


@pytest.mark.parametrize("model", MODELS)
def test_direct_training_and_exact_inverse_examples_give_both_processes_the_same_weights(two, model):
    direct, exact = ([result["runs"][model, label] for result in two] for label in UPDATES)
    for first, second in (direct, exact):
        assert len(first["losses"]) == 2
        assert first["losses"] != second["losses"]  # of their own images and latents
        assert_close(first["weights"], second["weights"], rtol=0, atol=0)
    assert_close(exact[0]["weights"], direct[0]["weights"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_training_leaves_both_processes_the_same_batch_norm_statistics(two, model):
    first, second = (result["runs"][model, "direct"]["statistics"] for result in two)
    assert len(first) >= 2
    assert_close(first, second, rtol=0, atol=0)  # each process has seen images of its own


@pytest.fixture(scope="module")
def alone():
    return exact_training.all_trained()


@pytest.mark.parametrize("model", exact_training.MODELS)
def test_two_processes_with_half_a_batch_each_train_as_one_with_the_whole(two, alone, model):
    expected = alone[model, False]
    moved = [key for key, value in expected["after"].items() if not torch.equal(value, expected["before"][key])]
    assert len(moved) >= 3
    for result in two:
        found = result["exact"][model, False]
        assert_close(found["before"], expected["before"], rtol=0, atol=0)
        for key, value in expected["after"].items():
            if value.is_floating_point():
                assert_close(found["after"][key], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", exact_training.SYNCHRONISED)
def test_synchronised_batch_norm_trains_as_one_process_and_has_its_statistics(two, alone, model):
    expected = alone[model, True]["after"]
    assert any("running_var" in key for key in expected)
    for result in two:
        found = result["exact"][model, True]["after"]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if key != "images_seen":
                assert_close(found[key], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", exact_training.MODELS)
def test_gradients_are_exchanged_once_for_all_optimizers_that_step_together(two, model):
    run = two[0]["exact"][model, False]
    weights, exchanges = run["weights"], run["exchanges"]
    if model.startswith("MGAN"):
        generators, discriminator, classifier = weights
        assert exchanges == [discriminator + classifier, generators]
    elif model.startswith("SelfExGAN"):  # the matching loss takes the moments of E(x) over all processes
        discriminators, *moments, networks = exchanges
        assert (discriminators, networks) == (sum(weights[:2]), sum(weights[2:]))
        assert sum(moments) == 1 + 2 * 64 + 2 * 64  # count, mean and variance, and what leads back to them
    elif run["alternates"]:
        generator, discriminator = weights
        assert exchanges == [discriminator, generator]
    else:
        assert exchanges == [sum(weights)]


def test_an_average_keeps_layouts_and_what_one_process_lacks_is_zero_there(two):
    for result in two:
        rows, rank, turned = result["averaged"]["tensors"]
        assert_close(rows, 1.5 * torch.arange(24.0).reshape(2, 3, 2, 2))
        assert rows.is_contiguous(memory_format=torch.channels_last)
        assert_close((rank, turned), (torch.tensor(0.5), torch.full((3, 2), 2.0)))
        theirs, nobodys, everyones = result["averaged"]["gradients"]
        assert_close((theirs, everyones), (torch.full((2,), 0.5), torch.ones(2)))
        assert nobodys is None


def test_evaluations_do_not_wait_for_synchronised_batch_norm(two):
    for result in two:
        expected = result["synchronised"]["plain"]
        for kind in ("joined", "torch's"):
            assert_close(result["synchronised"][kind], expected, rtol=0, atol=0)


def test_batch_norm_statistics_are_the_average_over_the_batches_of_both_processes(two):
    first = network()[0]
    stored = data().evaluation_batches("train", CPU).images
    chunks = [chunk for share in stored.tensor_split(2) for chunk in first(share).detach().split(4)]
    for result in two:
        assert_close(result["running_mean"], torch.stack([chunk.mean((0, 2, 3)) for chunk in chunks]).mean(0))
        assert_close(result["running_var"], torch.stack([chunk.var((0, 2, 3)) for chunk in chunks]).mean(0))


def test_the_first_process_fits_and_both_return_its_records(two):
    assert two[0]["records"] == two[1]["records"]
    assert two[0]["seconds"] == two[1]["seconds"]
    # Batches end elsewhere in a share, so the random control's batch-norm statistics differ a little.
    alone = [record for record in measure()["records"] if record[1] != "random"]
    assert [record for record in two[0]["records"] if record[1] != "random"] == alone


def test_an_error_of_the_first_process_and_an_empty_share_are_raised_by_both(two):
    for result in two:
        assert len(result["errors"]) == 2
        assert "train features of 'a (trained weights)' must be finite" in result["errors"][0]
        assert "Every process must have an image to extract features from, got [1, 0]" in result["errors"][1]


def test_pictures_and_reconstructions_are_those_of_all_shares(two):
    alone, images = measure(), data().evaluation_batches("train", CPU).images
    for result in two:
        for count, first in zip((3, 14, 30), result["first"], strict=True):
            assert torch.equal(first, images[:count])
        assert_close(result["neighbours"], alone["neighbours"])
        assert result["reconstruction"] == two[0]["reconstruction"]
        assert result["reconstruction"].samples == 23
        assert_close(result["reconstruction"].distance, alone["reconstruction"].distance)


def test_an_alarm_of_the_first_process_stops_both_at_the_same_batch(two):
    first, second = (result["monitored"] for result in two)
    assert first["batches"] == second["batches"] == 4  # of 10
    assert first["history"] == second["history"]
    assert torch.equal(first["images"], second["images"])


def test_images_are_drawn_from_all_shares_the_same_on_both(two):
    for result in two:
        assert torch.equal(result["drawn"], measure()["drawn"])


@pytest.mark.parametrize("at_once", [500, 6])
def test_generated_images_are_judged_as_by_one_process_however_they_are_shared(two, at_once):
    # Of 500 at a time there is one part, which leaves the second process without any.
    alone = judged_images(at_once)
    for result in two:
        assert result["quality"][at_once] == pytest.approx(alone, rel=1e-4, abs=1e-6)
    assert alone["fid"] > 0.01
    assert two[0]["quality"][500] != two[0]["quality"][6]


def test_both_processes_choose_checkpoints_by_the_same_figures_and_one_writes(two):
    curves = [result["judged"]["curve"] for result in two]
    assert curves[0] == curves[1]
    fids = [figures["quality/fid/digits-classifier"] for figures in curves[0].values()]
    assert len(fids) == 2
    assert min(fids) > 0.01
    for result in two:
        assert result["judged"]["best"] == pytest.approx(min(fids), rel=1e-6)
    (written,) = two[0]["folder"].rglob("quality.json")
    assert [row["quality/fid/digits-classifier"] for row in json.loads(written.read_text())["curve"]] == fids
