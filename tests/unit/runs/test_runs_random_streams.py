"""The random streams in a checkpoint."""

import io
import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

import gan_lightning.runs.random_streams
from gan_lightning.data import Digits
from gan_lightning.papers import GAN, PermutationInvariantNetworks
from gan_lightning.runs.random_streams import KEY, RandomStreams

CPU = torch.device("cpu")


class OfProcess(Trainer):
    """A trainer that is in a fit, as one of several processes."""

    def __init__(self, rank: int, processes: int) -> None:
        super().__init__(logger=False, enable_checkpointing=False, accelerator="cpu")
        self.rank, self.processes = rank, processes
        self.state.fn = TrainerFn.FITTING

    world_size = property(lambda self: self.processes)
    global_rank = property(lambda self: self.rank)
    is_global_zero = property(lambda self: self.rank == 0)


def trainer(rank: int = 0, processes: int = 1) -> Trainer:
    return OfProcess(rank, processes)


MODULE = LightningModule()


def draw() -> list[float]:
    normal = np.random.standard_normal()  # noqa: NPY002 (it keeps a second one back)
    return [torch.rand(()).item(), torch.randn(()).item(), random.random(), random.gauss(0, 1), normal]


def seed(number: int) -> None:
    torch.manual_seed(number)
    np.random.seed(number)  # noqa: NPY002
    random.seed(number)
    draw()


def written(checkpoint: dict) -> dict:
    """Return a checkpoint as it comes back from a file."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_each_process_of_any_model_draws_from_streams_of_its_own_that_the_common_seed_decides():
    drawn = []
    for rank in (0, 1, 1, 2):
        seed(3)
        RandomStreams().on_fit_start(trainer(rank, 3), MODULE)
        drawn.append(draw())
    seed(3)
    assert drawn[0] == draw(), "the first one's are as they were"
    assert drawn[1] == drawn[2]
    assert len({number for each in drawn for number in each}) == 15, "from each of the five generators another number"


def test_every_stream_goes_on_where_it_was_saved_when_the_training_starts():
    seed(3)
    checkpoint: dict = {}
    RandomStreams().on_save_checkpoint(trainer(), MODULE, checkpoint)
    expected = [draw() for _ in range(3)]
    seed(4)
    callback = RandomStreams()
    callback.on_load_checkpoint(trainer(), MODULE, written(checkpoint))
    draw()  # what comes before the training may draw
    callback.on_train_start(trainer(), MODULE)
    assert [draw() for _ in range(3)] == expected
    callback.on_train_start(trainer(), MODULE)
    assert draw() not in expected, "once"


def test_each_process_has_its_own(monkeypatch):
    of_processes = []
    for rank in range(2):
        seed(rank)
        of_processes.append(gan_lightning.runs.random_streams.streams(CPU))
    monkeypatch.setattr(gan_lightning.runs.random_streams, "gather_objects", lambda own: [of_processes[0], own])
    checkpoint: dict = {}
    RandomStreams().on_save_checkpoint(trainer(1, 2), MODULE, checkpoint)
    drawn = []
    for rank in range(2):
        callback = RandomStreams()
        callback.on_load_checkpoint(trainer(rank, 2), MODULE, written(checkpoint))
        callback.on_train_start(trainer(rank, 2), MODULE)
        drawn.append(draw())
    seed(0)
    assert drawn[0] == draw()
    seed(1)
    assert drawn[1] == draw()


@pytest.mark.parametrize("saved", [[], [{}], [{}, {}, {}]])
def test_another_number_of_processes_has_new_streams_and_says_so_in_one_line(caplog, saved):
    drawn = []
    for rank in (0, 1, 0):
        seed(5)
        callback = RandomStreams()
        callback.on_load_checkpoint(trainer(rank, 2), MODULE, {KEY: saved})
        callback.on_train_start(trainer(rank, 2), MODULE)
        drawn.append(draw())
    assert drawn[0] == drawn[2]
    assert drawn[0] != drawn[1]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2, "the first process alone says so"
    assert f"has the random streams of {len(saved)} process(es), and this run has 2" in said[0]


class Draws(Callback):
    """Draws when a training starts, as callbacks may."""

    def on_train_start(self, *_) -> None:
        torch.rand(3)


def test_a_model_of_ours_goes_on_bit_for_bit_in_a_trainer_that_knows_nothing_of_streams(tmp_path):
    def trained(begun: str | None = None) -> LightningModule:
        seed(1 if begun else 0)  # a resumed run is not told where the streams were
        model = GAN(1, 32, PermutationInvariantNetworks(latent_dim=3, width=4))
        saves = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, enable_version_counter=False)
        trainer = Trainer(
            max_epochs=2, logger=False, callbacks=[Draws(), saves], enable_progress_bar=False, accelerator="cpu",
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, Digits(batch_size=4, evaluation_batch_size=4, limit=8), ckpt_path=begun)
        return model

    straight, resumed = trained(), trained(str(tmp_path / "epoch=0.ckpt"))
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
