from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.data import store
from gan_lightning.data.store import (
    ImageStore,
    OrderedBatches,
    RectangleStore,
    ShuffledBatches,
    evaluation_steps,
    share,
    shuffled,
    training_steps,
)
from gan_lightning.errors import SettingError

batch_sizes = st.integers(1, 40)
world_sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32)


@st.composite
def counts_and_world_sizes(draw):
    world_size = draw(world_sizes)
    return draw(st.integers(world_size, 400)), world_size


def numbered(count: int) -> ImageStore:
    """Images whose label is their position."""
    labels = torch.arange(count)
    return ImageStore((labels % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone(), labels)


def pretend(monkeypatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(store, "process_rank", lambda: rank)
    monkeypatch.setattr(store, "process_count", lambda: world_size)


def labels_of(batches) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


@given(counts_and_world_sizes(), batch_sizes, seeds, st.integers(0, 100))
def test_each_image_is_trained_on_once_an_epoch_by_one_process(count_and_world, batch_size, seed, epoch):
    count, world_size = count_and_world
    order = shuffled(count, seed, epoch)
    steps = training_steps(count, batch_size, world_size)
    seen = []
    for step in steps:
        parts = [share(step, rank, world_size) for rank in range(world_size)]
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size + 2
        seen += [int(order[position]) for part in parts for position in part]
    assert sorted(seen) == list(range(count))


@given(counts_and_world_sizes(), batch_sizes)
def test_all_steps_but_the_last_are_full(count_and_world, batch_size):
    count, world_size = count_and_world
    *full, last = training_steps(count, batch_size, world_size)
    assert all(len(step) == batch_size * world_size for step in full)
    assert 1 <= len(last) < batch_size * world_size + min(2, batch_size) * world_size
    if full and batch_size > 1:
        assert len(last) >= 2 * world_size


@given(counts_and_world_sizes(), batch_sizes)
def test_several_processes_step_through_the_images_of_one_with_their_total_batch_size(count_and_world, batch_size):
    count, world_size = count_and_world
    together = training_steps(count, batch_size, world_size)
    alone = training_steps(count, batch_size * world_size, 1)
    # They may differ where a short rest joins the last step only.
    assert together[:-1] == alone[: len(together) - 1]


@given(counts_and_world_sizes(), batch_sizes)
def test_evaluation_shares_in_rank_order_are_the_stored_order_in_equally_many_steps(count_and_world, batch_size):
    count, world_size = count_and_world
    shares = [evaluation_steps(count, batch_size, rank, world_size) for rank in range(world_size)]
    assert [position for steps in shares for step in steps for position in step] == list(range(count))
    assert len({len(steps) for steps in shares}) == 1
    assert all(1 <= len(step) <= batch_size + 1 for steps in shares for step in steps)


@given(st.integers(1, 300), seeds, st.integers(0, 1000))
def test_an_order_is_a_permutation_that_seed_and_epoch_decide(count, seed, epoch):
    order = shuffled(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    torch.testing.assert_close(order, shuffled(count, seed, epoch))


def test_orders_differ_between_epochs_and_seeds_and_do_not_repeat_across_them():
    orders = {tuple(shuffled(50, seed, epoch).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_shuffling_neither_reads_nor_moves_a_global_generator():
    batches = ShuffledBatches(lambda: numbered(30), 7, seed=3, epoch=lambda: 2)
    torch.manual_seed(0)
    first = labels_of(batches)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert labels_of(batches) == first
    torch.testing.assert_close(torch.get_rng_state(), state)


@pytest.mark.parametrize("world_size", [2, 3])
def test_each_process_takes_its_part_of_the_step(monkeypatch, world_size):
    parts = []
    for rank in range(world_size):
        pretend(monkeypatch, rank, world_size)
        batches = ShuffledBatches(lambda: numbered(60), 12 // world_size, seed=0, epoch=lambda: 1)
        assert len(batches) == 5
        parts.append(labels_of(batches))
    pretend(monkeypatch, 0, 1)
    alone = labels_of(ShuffledBatches(lambda: numbered(60), 12, seed=0, epoch=lambda: 1))
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == alone


def test_images_stay_with_their_labels():
    for images, labels in ShuffledBatches(lambda: numbered(200), 16, seed=0, epoch=lambda: 0):
        torch.testing.assert_close(images[:, 0, 0, 0].long(), labels)


def test_the_epoch_is_asked_for_at_the_first_batch_not_when_the_iterator_is_made():
    epoch = 6
    batches = ShuffledBatches(lambda: numbered(20), 20, seed=0, epoch=lambda: epoch)
    iterator = iter(batches)
    epoch = 7
    torch.testing.assert_close(next(iterator)[1], shuffled(20, seed=0, epoch=7))


@settings(max_examples=30)
@given(st.integers(5, 60), st.integers(1, 9), st.data())
def test_training_goes_on_after_the_batch_that_was_saved(count, batch_size, data):
    whole = ShuffledBatches(lambda: numbered(count), batch_size, seed=1, epoch=lambda: 4)
    taken = data.draw(st.integers(1, len(whole)))
    iterator = iter(whole)
    before = [next(iterator)[1].tolist() for _ in range(taken)]
    resumed = ShuffledBatches(lambda: numbered(count), batch_size, seed=1, epoch=lambda: 4)
    resumed.load_state_dict(whole.state_dict())
    assert before + labels_of(resumed) == labels_of(whole)
    assert labels_of(resumed) == labels_of(whole), "only the first iteration is resumed"


def test_a_position_saved_in_another_epoch_is_not_used():
    batches = ShuffledBatches(lambda: numbered(20), 5, seed=0, epoch=lambda: 3)
    batches.load_state_dict({"epoch": 2, "steps_taken": 4})
    assert len(labels_of(batches)) == 4


def test_more_processes_than_images_is_an_error(monkeypatch):
    pretend(monkeypatch, 0, 4)
    message = r"^devices must be at most 3, the number of images to share, got 4\. Use fewer devices or more images\.$"
    for batches in (OrderedBatches(lambda: numbered(3), 2), ShuffledBatches(lambda: numbered(3), 2, 0, lambda: 0)):
        with pytest.raises(SettingError, match=message):
            list(batches)


def rectangles(shapes: list[tuple[int, int]], edge: int) -> RectangleStore:
    """Random images whose label is their position."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, height, width), np.uint8) for height, width in shapes]
    pixels = torch.from_numpy(np.concatenate([image.ravel() for image in images]))
    return RectangleStore(pixels, np.array(shapes, np.int64), torch.arange(len(shapes)), 2, edge)


shapes = st.lists(st.tuples(st.just(6), st.integers(6, 30)).flatmap(st.permutations).map(tuple), min_size=1, max_size=9)


@settings(max_examples=40)
@given(shapes, st.integers(1, 6), seeds, st.integers(0, 9), st.data())
def test_each_square_is_a_part_of_its_image_and_does_not_depend_on_its_batch(shapes, edge, seed, epoch, data):
    store = rectangles(shapes, edge)
    order = torch.tensor(data.draw(st.permutations(range(len(shapes)))))
    squares, labels = store.for_training(seed, epoch)(order)
    assert torch.equal(labels, order)
    assert squares.shape == (len(shapes), 2, edge, edge)
    pixels, starts = store.pixels.numpy(), np.cumsum([0, *(2 * height * width for height, width in shapes)])
    for square, index in zip(squares, order.tolist(), strict=True):
        alone, _ = store.for_training(seed, epoch)(torch.tensor([index]))
        assert torch.equal(alone[0], square)
        image = pixels[starts[index] : starts[index + 1]].reshape(2, *shapes[index])
        places = np.lib.stride_tricks.sliding_window_view(image, (edge, edge), axis=(1, 2)).swapaxes(0, 1)
        assert (places.swapaxes(1, 2) == square.numpy()).all(axis=(2, 3, 4)).any()
    middle, _ = store[order]
    for square, index in zip(middle, order.tolist(), strict=True):
        top, left = (round((long - 6) / 2) for long in shapes[index])
        image = pixels[starts[index] : starts[index + 1]].reshape(2, *shapes[index])
        assert torch.equal(square, torch.from_numpy(image[:, top : top + 6, left : left + 6].copy()))


def test_all_places_of_a_rectangle_are_equally_likely():
    store = rectangles([(4, 9)] * 3000, 4)
    where = []
    pixels = store.pixels.numpy().reshape(3000, 2, 4, 9)
    squares, _ = store.for_training(0, 0)(torch.arange(3000))
    for image, square in zip(pixels, squares.numpy(), strict=True):
        where += [left for left in range(6) if (image[:, :, left : left + 4] == square).all()]
    counts = np.bincount(where, minlength=6)
    assert counts.sum() == 3000
    assert counts.min() > 430  # 500 expected, 20 standard deviation
    assert counts.max() < 570


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_several_processes_cut_the_squares_that_one_does(monkeypatch, world_size):
    store_of_rectangles, parts = rectangles([(6, 6 + index) for index in range(24)], 4), []
    for rank in range(world_size):
        pretend(monkeypatch, rank, world_size)
        batches = ShuffledBatches(lambda: store_of_rectangles, 6 // world_size, seed=0, epoch=lambda: 1)
        parts.append([images for images, _ in batches])
    pretend(monkeypatch, 0, 1)
    alone = [images for images, _ in ShuffledBatches(lambda: store_of_rectangles, 6, seed=0, epoch=lambda: 1)]
    assert torch.equal(torch.cat([torch.cat(step) for step in zip(*parts, strict=True)]), torch.cat(alone))


def test_a_head_of_rectangles_is_their_beginning():
    whole = rectangles([(6, 8), (9, 6), (6, 6)], 4)
    assert [len(whole.head(limit)) for limit in (2, 9, None)] == [2, 3, 3]
    assert torch.equal(whole.head(2).images, whole.images[:2])
    assert whole.head(2).pixels.data_ptr() == whole.pixels.data_ptr()


def test_a_head_shares_memory_with_its_store():
    images = numbered(9)
    assert images.head(4).images.data_ptr() == images.images.data_ptr()
    assert [len(images.head(limit)) for limit in (4, 20, None)] == [4, 9, 9]
