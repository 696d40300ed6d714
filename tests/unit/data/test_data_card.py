"""Splits on a card. Without one, the CPU stands in for it: the same code gathers the batches there.

A fake card has shapes and no values: code that would read a value, or mix its tensors with the host's, fails on it.
"""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.precision import Precision
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gan_lightning.data import Digits, ImageFolder, card, store
from gan_lightning.data.card import CardCopies, fitting, free_memory, moved
from gan_lightning.data.store import ImageStore, OrderedBatches, RectangleStore, ShuffledBatches, Store, shuffled
from gan_lightning.errors import SettingError

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
SIZES = [(6, 6 + 3 * index) if index % 2 else (7 + index, 6) for index in range(23)]


def mapped(values: np.ndarray, tmp_path) -> torch.Tensor:
    """The same bytes in a memory-mapped file."""
    values.tofile(tmp_path / "pixels.u8")
    return torch.from_numpy(np.memmap(tmp_path / "pixels.u8", np.uint8, "c", shape=values.shape))


def images(tmp_path) -> ImageStore:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 3, 6, 5), np.uint8)
    return ImageStore(mapped(pixels, tmp_path), torch.arange(46).view(23, 2))


def permuted_images(tmp_path) -> ImageStore:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 6, 5, 3), np.uint8)
    return ImageStore(torch.from_numpy(pixels.transpose(0, 3, 1, 2)), torch.arange(23))


def rectangles(tmp_path) -> RectangleStore:
    length = sum(3 * height * width for height, width in SIZES)
    pixels = mapped(np.random.default_rng(0).integers(0, 256, length, np.uint8), tmp_path)
    return RectangleStore(pixels, np.array(SIZES, np.int64), torch.arange(23), 3, 4)


KINDS = [images, permuted_images, rectangles]


def one_by_one(split: Store, seed: int | None, epoch: int = 0) -> np.ndarray:
    """The bytes of a split, cut out of the stored array image by image; with a seed, those of a training epoch."""
    if isinstance(split, ImageStore):
        return split.images.numpy()
    pixels, ends = split.pixels.numpy(), np.cumsum(3 * split.sizes.prod(axis=1))
    edge = 6 if seed is None else 4
    drawn = None if seed is None else np.random.default_rng((seed, epoch, 1)).random((len(split), 2))
    squares = []
    for index, (height, width) in enumerate(split.sizes):
        image = pixels[: ends[index]][-3 * height * width :].reshape(3, height, width)
        places = [int(share * (long - 3)) for share, long in zip(drawn[index], (height, width), strict=True)] if (
            drawn is not None
        ) else [round((long - 6) / 2) for long in (height, width)]  # fmt: skip
        squares.append(image[:, places[0] : places[0] + edge, places[1] : places[1] + edge])
    return np.stack(squares)


def together(batches) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = zip(*batches, strict=True)
    return torch.cat(pixels), torch.cat(labels)


class NoReadsByHost(TorchDispatchMode):
    """Raises where torch would read a value for the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket is not torch.ops.aten._local_scalar_dense, "a read by the host"
        return func(*args, **kwargs or {})


def test_reads_by_the_host_are_noticed():
    for read in (lambda values: values[0].item(), lambda values: bool(values[0])):
        with NoReadsByHost(), pytest.raises(AssertionError, match="a read by the host"):
            read(torch.arange(3))
    for read in (lambda values: values.tolist(), lambda values: values[values > 1], lambda values: values.numpy()):
        with FakeTensorMode(), pytest.raises(RuntimeError, match=r"_local_scalar_dense|nonzero|numpy"):
            read(torch.arange(3, device=CARD))


@pytest.mark.parametrize("limit", [None, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_copies_give_the_batches_that_images_one_by_one_would(monkeypatch, tmp_path, kind, limit):
    host = kind(tmp_path).head(limit)
    copy = host.on(CPU)
    assert copy is not host
    for batch_size, epoch, world_size in ((1, 0, 1), (5, 1, 1), (3, 2, 2), (40, 3, 3)):
        monkeypatch.setattr(store, "process_count", lambda count=world_size: count)
        expected = one_by_one(host, seed=7, epoch=epoch)
        order = shuffled(len(host), 7, epoch).numpy()
        steps = []
        for rank in range(world_size):
            monkeypatch.setattr(store, "process_rank", lambda rank=rank: rank)
            batches = ShuffledBatches(lambda: copy, batch_size, seed=7, epoch=lambda epoch=epoch: epoch)
            with NoReadsByHost():
                steps.append(list(batches))
        pixels, labels = together(together(step) for step in zip(*steps, strict=True))
        np.testing.assert_array_equal(pixels.numpy(), expected[order])
        np.testing.assert_array_equal(labels.numpy(), host.labels.numpy()[order])
    np.testing.assert_array_equal(copy.images.numpy(), one_by_one(host, seed=None))


@pytest.mark.parametrize("kind", KINDS)
def test_evaluations_see_a_copy_in_stored_order(monkeypatch, tmp_path, kind):
    host = kind(tmp_path)
    monkeypatch.setattr(store, "process_count", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(store, "process_rank", lambda rank=rank: rank)
        with NoReadsByHost():
            shares += OrderedBatches(lambda: host.on(CPU), 4)
    pixels, labels = together(shares)
    np.testing.assert_array_equal(pixels.numpy(), one_by_one(host, seed=None))
    assert torch.equal(labels, host.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_gathered_and_made_images_on_the_card_alone(tmp_path, kind):
    data = Digits(image_size=3, crop_from=5, flip=True, batch_size=5, evaluation_batch_size=9)
    data._stores["train"] = kind(tmp_path)
    about = {"training": True, "overfit_batches": 0, "current_epoch": 2, "precision_plugin": Precision()}
    data.trainer = SimpleNamespace(**about)
    with FakeTensorMode(allow_non_fake_inputs=True):
        data._copies._copies["train"] = data.store("train").on(CARD)
        batches = list(data.train_dataloader())
        assert len(batches) == 5
        for batch in batches:
            images, labels = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, CARD, 0), 0)
            assert (images.device, labels.device) == (CARD, CARD)
            assert images.shape == (len(labels), 3, 3, 3)
        found = list(data.evaluation_batches("train", CARD))
        assert [len(images) for images, _ in found] == [9, 9, 5]
        assert {part.device for batch in found for part in batch} == {CARD}


def test_a_batch_of_the_host_is_pinned_on_its_way_to_a_card_and_otherwise_left_alone(monkeypatch, tmp_path):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = images(tmp_path)[torch.tensor([3, 1])]
    assert all(after is before for before, after in zip(batch, moved(batch, CPU), strict=True))
    assert not pinned
    with FakeTensorMode(allow_non_fake_inputs=True):
        there = moved(batch, CARD)
        assert {part.device for part in there} == {CARD}
        assert [tensor is part for tensor, part in zip(pinned, batch, strict=True)] == [True, True]
        assert all(after is before for before, after in zip(there, moved(there, CARD), strict=True))
    assert len(pinned) == 2


def test_a_store_knows_how_much_memory_its_copy_takes(tmp_path):
    assert images(tmp_path).nbytes == 23 * (3 * 6 * 5 + 2 * 8)
    whole = rectangles(tmp_path)
    pixels = sum(3 * height * width for height, width in SIZES[:2])
    assert whole.head(2).nbytes == pixels + 2 * 8 * (1 + 3 + 2 + 2)
    assert torch.equal(whole.head(2).images, whole.images[:2])
    assert whole.nbytes > whole.head(2).nbytes


@pytest.mark.parametrize(
    ("room", "expected"), [(0, []), (99, []), (100, ["train"]), (129, ["train"]), (130, ["train", "test"])]
)
def test_the_training_split_comes_first(room, expected):
    assert fitting({"train": 100, "test": 30}, room) == expected
    assert fitting({"test": 30}, room) == (["test"] if room >= 30 else [])


def test_a_cpu_has_no_memory_of_its_own():
    assert free_memory(CPU) is None


class Recorder(LightningModule):
    """Remembers what it is fed, and the copies that lie on the card meanwhile."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.fed, self.copies = [], {}

    def training_step(self, batch, batch_idx):
        data = self.trainer.datamodule
        self.fed.append((self.current_epoch, *batch))
        self.copies |= {split: weakref.ref(copy) for split, copy in data._copies._copies.items()}
        return self.weight * batch[0].mean()

    def validation_step(self, batch, batch_idx):
        self.fed.append(("evaluation", *batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, tmp_path, model=None, checkpoint=None, **settings) -> Recorder:
    model = model or Recorder()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    quiet |= {"enable_checkpointing": "callbacks" in settings, "accelerator": "cpu", "default_root_dir": tmp_path}
    torch.manual_seed(0)
    Trainer(**quiet | settings).fit(model, data, ckpt_path=checkpoint)
    return model


@pytest.fixture
def card_of(monkeypatch):
    """Let the CPU be a card with so much free memory."""
    return lambda free: monkeypatch.setattr(card, "free_memory", lambda device: free)


def digits(**settings) -> Digits:
    return Digits(batch_size=30, image_size=8, limit=100, **settings)


BYTES = 100 * (8 * 8 + 8)
"""Of each split of `digits`."""


def assert_fed_alike(one: list, other: list) -> None:
    assert len(one) == len(other) > 0
    for (stage, pixels, labels), (same_stage, same_pixels, same_labels) in zip(one, other, strict=True):
        assert stage == same_stage
        assert torch.equal(pixels, same_pixels)
        assert torch.equal(labels, same_labels)


@pytest.mark.parametrize("settings", [{"max_epochs": 2}, {"max_epochs": 2, "overfit_batches": 2}], ids=str)
def test_a_training_is_fed_the_same_images_from_the_card(tmp_path, card_of, settings):
    host = fit(digits(device="host", flip=True), tmp_path, **settings)
    assert not host.copies
    card_of(4 * BYTES)
    model = fit(digits(device="card", flip=True), tmp_path, **settings)
    assert model.copies.keys() == {"train", "test"}
    assert_fed_alike(model.fed, host.fed)


def test_rectangles_are_cut_alike_on_the_card(tmp_path, card_of, write_image):
    for index in range(6):
        write_image(tmp_path / "set" / "ab"[index % 2] / f"{index}.png", 20 + index, 12)
    settings = {"image_size": 8, "crop_from": 10, "cache_dir": tmp_path / "cache", "batch_size": 4}
    host = fit(ImageFolder(tmp_path / "set", device="host", **settings), tmp_path, max_epochs=2)
    card_of(10**6)
    model = fit(ImageFolder(tmp_path / "set", device="card", **settings), tmp_path, max_epochs=2)
    assert model.copies.keys() == {"train", "test"}
    assert_fed_alike(model.fed, host.fed)


def test_a_training_goes_on_in_the_middle_of_an_epoch_from_the_card(tmp_path, card_of):
    whole = fit(digits(device="host"), tmp_path, max_epochs=2, limit_val_batches=0)
    card_of(4 * BYTES)
    saving = ModelCheckpoint(tmp_path, "saved", every_n_train_steps=2)
    settings = {"limit_val_batches": 0, "callbacks": [saving]}
    before = fit(digits(), tmp_path, max_steps=2, **settings)
    path = saving.best_model_path
    after = fit(digits(), tmp_path, checkpoint=path, max_epochs=2, **settings)
    assert after.copies.keys() == {"train", "test"}
    assert_fed_alike(before.fed + after.fed, whole.fed)


@pytest.mark.parametrize(
    ("free", "copied", "line"),
    [
        (4 * BYTES, {"train", "test"}, None),
        (
            4 * BYTES - 2,
            {"train"},
            "digits: the test images stay in the host's memory. The test split takes 7.2 kB, and data may take 7.2 kB "
            "more on cpu (in all 50% of its free memory).",
        ),
        (
            2 * BYTES - 2000,
            set(),
            "digits: the train and test images stay in the host's memory. The train split takes 7.2 kB, and data may "
            "take 6.2 kB more on cpu (in all 50% of its free memory).",
        ),
    ],
    ids=["all", "train", "nothing"],
)
def test_what_does_not_fit_stays_with_the_host_and_one_line_says_so(tmp_path, card_of, caplog, free, copied, line):
    card_of(free)
    data = digits()
    for _ in range(2):
        assert fit(data, tmp_path, max_steps=1, limit_val_batches=0).copies.keys() == copied
    said = [record.message for record in caplog.records if record.name == "gan_lightning.data.card"]
    assert said == ([] if line is None else [line])


def test_data_that_must_lie_on_the_card_and_do_not_fit_are_refused_before_training(tmp_path, card_of):
    model = Recorder()
    message = (
        r"^device must be auto or host where the data do not fit on the card, got 'card'\. The train split takes "
        r"7\.2 kB, and data may take 0\.0 kB more on cpu \(in all 50% of its free memory\)\.$"
    )
    card_of(0)
    with pytest.raises(SettingError, match=message):
        fit(digits(device="card"), tmp_path, model, max_steps=1)
    assert not model.fed


def test_data_must_not_lie_on_a_card_that_there_is_not(tmp_path):
    message = (
        r"^device must be auto or host where the Trainer runs on cpu, got 'card'\. Train on a card, as with "
        r"trainer\.accelerator=gpu\.$"
    )
    with pytest.raises(SettingError, match=message):
        fit(digits(device="card"), tmp_path, max_steps=1)


def test_data_lie_in_one_of_three_places():
    data = Digits()
    data.device = "cuda"
    with pytest.raises(SettingError, match=r"^device must be one of auto, card, host, got 'cuda'\.$"):
        data.__post_init__()


class Failing(Recorder):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        raise RuntimeError("Out of luck.")


@pytest.mark.parametrize("kind", [Recorder, Failing])
def test_a_training_leaves_nothing_on_the_card(tmp_path, card_of, kind):
    card_of(4 * BYTES)
    data, model = digits(), kind()
    if kind is Failing:
        with pytest.raises(RuntimeError, match="Out of luck"):
            fit(data, tmp_path, model, max_epochs=1)
    else:
        fit(data, tmp_path, model, max_epochs=1)
    gc.collect()
    assert model.trainer is not None
    assert len(model.copies) == 2
    assert [copy() for copy in model.copies.values()] == [None, None]


def test_evaluations_on_the_cards_device_take_the_copy(tmp_path, card_of):
    data, copies = digits(), CardCopies()
    card_of(4 * BYTES)
    stores = data.read_for("fit")
    copies.make(data, "auto", stores, CPU)
    data._copies = copies
    for split in ("train", "test"):
        copy = copies.find(split)
        assert data.placed(split) is data.placed(split, CPU) is copy is not data.store(split)
        assert data.placed(split, CARD) is data.store(split)
        copy.images.bitwise_not_()  # the CPU's copy shares its memory with the store
        found = torch.cat([images for images, _ in data.evaluation_batches(split, CPU)])
        assert torch.equal(found, data.to_images(copy.images))
    copies.make(data, "host", stores, CPU)
    assert copies.find("train") is None


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_real_card_gathers_the_same_batches_without_a_wait(tmp_path, kind):
    host = kind(tmp_path)
    copy = host.on(CARD)
    expected = list(ShuffledBatches(lambda: host, 5, 0, lambda: 1))
    batches = iter(ShuffledBatches(lambda: copy, 5, 0, lambda: 1))
    found = [next(batches)]  # the order goes to the card before the first batch
    torch.cuda.set_sync_debug_mode("error")
    try:
        found += batches
        found_moved = [moved(batch, CARD) for batch in expected]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for parts in zip(expected, found, found_moved, strict=True):
        for before, gathered, sent in zip(*parts, strict=True):
            assert gathered.device == sent.device == CARD
            assert torch.equal(gathered.cpu(), before)
            assert torch.equal(sent.cpu(), before)
    whole = together(OrderedBatches(lambda: copy, 4))
    assert torch.equal(whole[0].cpu(), host.images)
    assert torch.equal(whole[1].cpu(), host.labels)


@pytest.mark.gpu
def test_a_training_on_a_real_card_has_the_data_there_and_frees_its_memory(tmp_path):
    assert free_memory(CARD) > 4 * BYTES
    settings = {"accelerator": "gpu", "devices": 1, "max_epochs": 2}
    host = fit(digits(device="host", flip=True), tmp_path, **settings)
    data = digits(device="card", flip=True)
    model = fit(data, tmp_path, **settings)
    assert_fed_alike(model.fed, host.fed)
    gc.collect()
    assert model.copies.keys() == {"train", "test"}
    assert [copy() for copy in model.copies.values()] == [None, None]
