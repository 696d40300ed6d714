"""Two processes on the CPU must see what one sees."""

import os
import pickle
from dataclasses import dataclass, replace
from multiprocessing import forkserver
from pathlib import Path

import exact_training
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from every_measurement import everything, one_strength, quick, stripes, timeless
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.data import Digits
from gan_lightning.errors import DataError
from gan_lightning.evaluation import (
    DepthProtocol,
    Probe,
    RawPixels,
    SmallClassifier,
    TensorImages,
    drawn_images,
    estimate_batch_norm_statistics,
    extract_features,
)
from gan_lightning.figures import read_figures
from gan_lightning.losses import matching_loss
from gan_lightning.measurements import Bench, FrozenDepth, Outcome, Quality, Transfer
from gan_lightning.papers import GAN, BiGAN, DensityRatioMonitor, PermutationInvariantNetworks, SelfExGAN
from gan_lightning.papers.mgan.density_ratio import AlarmRule
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.runs import Measure, RunFolder
from gan_lightning.system.processes import average_over_processes, moments
from gan_lightning.training.averaging import average_gradients
from gan_lightning.training.generator_updates import Direct, GeneratorUpdate
from gan_lightning.training.joined_batch_norm import JoinedBatchNorm

CPU = torch.device("cpu")
FID = "quality/digits-classifier/fid"
SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)
MODELS = ("gan", "bigan", "selfexgan")
NORMS = ("plain", "joined", "torch's")
PRELOADED = [
    "torch.distributed", "lightning.pytorch", "sklearn.manifold", "sklearn.metrics", "matplotlib.figure",
    "gan_lightning.runs", "gan_lightning.data", "gan_lightning.measurements", "gan_lightning.papers",
]  # fmt: skip
"""What both processes need and one of them has to load."""

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
    loss = matching_loss(mean, variance, "mean")
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
    average_gradients([gradients], [])
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
    depth = FrozenDepth(enabled=True, protocol=DepthProtocol(epochs=1, batch_size=8, width=4))
    found = Bench({"model": model}, data(17), random_networks={"model": network()}).measure(depth)
    return model[1].running_mean, model[1].running_var, [figure.value for figure in found.figures]


def judged_run(folder: str) -> dict:
    """Return what a fit on two processes measures, and by what its checkpoints are chosen."""
    torch.manual_seed(0)
    judge = SmallClassifier(width=2, feature_dim=4, steps=60, cache_dir=folder)
    measure = Measure(Quality(enabled=True, network=judge, neighbours=2, every_n_epochs=1))
    checkpoint = ModelCheckpoint(monitor=FID, mode="min")
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[measure, RunFolder(f"{folder}/runs"), checkpoint],
    )  # fmt: skip
    trainer.fit(GAN(1, 8, SMALL), Digits(image_size=8, limit=30, batch_size=10, evaluation_batch_size=7))
    curve = [figure.value for figure in measure.history if figure.name == FID]
    return {"history": measure.history, "curve": curve, "best": checkpoint.best_model_score.item()}


def measured(folder: str) -> dict[str, Outcome]:
    """Return what every measurement finds; of quality also with all images generated at once, by one process."""
    found = {}
    for at_once in (500, 6):
        with one_strength(), pytest.MonkeyPatch.context() as patch:
            patch.setattr("gan_lightning.evaluation.generation.AT_ONCE", at_once)
            bench = Bench.of_model(everything(), stripes())
            for each in quick(Path(folder, "judges")):
                if at_once == 6 or each.name == "quality":
                    found[f"{each.name}, {at_once} at once"] = bench.measure(each)
    return found


@dataclass(frozen=True)
class Failing(Probe):
    """Fails where it is fitted, which is on the first process."""

    name = "failing"

    def accuracy(self, *arguments, **settings):
        raise DataError("no such luck")


def evaluated() -> dict:
    model = network()
    estimate_batch_norm_statistics(model, data().evaluation_batches("train", CPU))
    probe = Transfer(paper=None, tuned=None, probes=[Failing()], random_weights=False)
    errors = []
    for fails in (
        lambda: Bench({"a": network()}, data()).run(probe),
        lambda: Bench({}, data(1)).features("train", weights="none"),
    ):
        try:
            fails()
        except DataError as error:
            errors.append(str(error))
    train = data().evaluation_batches("train", CPU)
    return {
        "first": [Bench({}, data()).images("train", count) for count in (3, 14, 30)],
        "drawn": drawn_images(train, 9, seed=0),
        "features": extract_features({"model": network(), "pixels": RawPixels()}, train),
        "share": len(train.images),
        "running_mean": model[1].running_mean,
        "running_var": model[1].running_var,
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
    others["measured"] = measured(folder)
    results = evaluated() | shares | others
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    forkserver.set_forkserver_preload(PRELOADED)
    try:
        mp.start_processes(process, (str(folder),), nprocs=2, start_method="forkserver")
    finally:
        forkserver._forkserver._stop()  # it would wait for more to do until all tests have run
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


def test_every_measurement_finds_on_two_processes_what_it_finds_on_one(two, tmp_path):
    for name, alone in measured(str(tmp_path)).items():
        first, second = (result["measured"][name] for result in two)
        assert [figure.name for figure in first.figures] == [figure.name for figure in alone.figures]
        assert timeless(first) == timeless(second), name
        for found, figure in zip(timeless(first), timeless(alone), strict=True):
            assert replace(found, value=figure.value) == figure
            # Which other image of its batch each one is compared with is drawn by each process.
            far = figure.metric in ("distance_to_another", "share")
            assert found.value == pytest.approx(figure.value, rel=0.01 if far else 1e-4, abs=1e-5), figure.name
        assert first.pictures.keys() == alone.pictures.keys()
        for key, picture in first.pictures.items():
            assert torch.equal(picture, second.pictures[key]), (name, key)
            assert_close(picture, alone.pictures[key], rtol=0, atol=0.02, msg=f"{name} {key}")


def test_an_error_of_the_first_process_and_an_empty_share_are_raised_by_both(two):
    for result in two:
        assert len(result["errors"]) == 2
        assert result["errors"][0] == "no such luck"
        assert "Every process must have an image to extract features from, got [1, 0]" in result["errors"][1]


def test_first_images_and_drawn_ones_are_those_of_all_shares_the_same_on_both(two):
    images, labels = data()._splits["train"]
    drawn = drawn_images(data().evaluation_batches("train", CPU), 9, seed=0)
    for result in two:
        for count, (first, first_labels) in zip((3, 14, 30), result["first"], strict=True):
            assert torch.equal(first, images[:count])
            assert torch.equal(first_labels, labels[:count])
        assert torch.equal(result["drawn"], drawn)


def test_an_alarm_of_the_first_process_stops_both_at_the_same_batch(two):
    first, second = (result["monitored"] for result in two)
    assert first["batches"] == second["batches"] == 4  # of 10
    assert first["history"] == second["history"]
    assert torch.equal(first["images"], second["images"])


def test_both_processes_choose_checkpoints_by_the_same_figures_and_one_writes(two):
    first, second = (result["judged"] for result in two)
    assert first == second
    assert len(first["curve"]) == 2
    assert min(first["curve"]) > 0.01
    assert first["best"] == pytest.approx(min(first["curve"]), rel=1e-6)
    (written,) = two[0]["folder"].glob("runs/*/*/figures.json")
    found = read_figures(written).figures
    assert [figure.value for figure in found if figure.name == FID and figure.epoch in (1, 2)][:1] == first["curve"][:1]
