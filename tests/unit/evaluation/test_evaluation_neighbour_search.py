import logging
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import nearest_accuracy, nearest_neighbours, neighbour_search


def clouds(count: int, width: int, seed: int, offset: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (count,), generator=rng)
    centres = torch.randn(5, width, generator=torch.Generator().manual_seed(9))
    return 0.5 * centres[labels] + torch.randn(count, width, generator=rng) + offset, labels


def brute_force(queries: torch.Tensor, references: torch.Tensor, count: int = 1) -> torch.Tensor:
    """Sums of squared differences in float64, sorted stably."""
    squares = (queries.double()[:, None] - references.double()[None]).square().sum(dim=2)
    return squares.argsort(dim=1, stable=True)[:, :count]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("width", "offset"), [(2, 0.0), (33, 0.0), (64, 100.0)])
def test_every_label_is_that_of_scikit_learns_brute_force_classifier(metric, width, offset):
    (train, labels), (test, test_labels) = clouds(3000, width, 0, offset), clouds(700, width, 1, offset)
    # In float64, since scikit-learn's cosine distance of float32 features is itself rounded to float32.
    oracle = KNeighborsClassifier(1, algorithm="brute", metric=metric).fit(train.double().numpy(), labels.numpy())
    expected = torch.from_numpy(oracle.predict(test.double().numpy()))
    nearest = nearest_neighbours(test, train, metric=metric)[:, 0]
    assert torch.equal(labels[nearest], expected)
    accuracy = nearest_accuracy(train, labels, test, test_labels, metric=metric)
    assert accuracy == (expected == test_labels).double().mean().item()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_several_neighbours_come_in_the_order_of_scikit_learns_distances(metric):
    (train, _), (test, _) = clouds(500, 8, 0), clouds(40, 8, 1)
    distances = pairwise_distances(test.double().numpy(), train.double().numpy(), metric=metric)
    found = nearest_neighbours(test, train, 7, metric)
    assert np.array_equal(found.numpy(), np.argsort(distances, axis=1, kind="stable")[:, :7])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_close_calls_far_from_the_origin_are_decided_as_in_float64(data):
    """Coordinates are multiples of a quarter around a large offset: ties abound, and float64 has no rounding."""
    references, queries, width = (data.draw(st.integers(1, most)) for most in (60, 8, 9))
    count = data.draw(st.integers(1, references))
    offset = data.draw(st.sampled_from([0.0, 3.0, 2.0**12, -(2.0**20)]))
    spread = data.draw(st.integers(1, 5))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    train, test = (
        torch.randint(-spread, spread + 1, (rows, width), generator=rng) / 4 + offset for rows in (references, queries)
    )
    block = data.draw(st.sampled_from([1, 50, 2**21]))  # from blocks of one vector to a single block
    with mock.patch.object(neighbour_search, "BLOCK", block):
        assert torch.equal(nearest_neighbours(test, train, count), brute_force(test, train, count))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-30, 30), st.floats(-12, 0))
def test_features_of_any_scale_and_any_closeness_are_told_apart(seed, scale, closeness):
    rng = torch.Generator().manual_seed(seed)
    train = (1 + 10**closeness * torch.randn(50, 6, generator=rng)) * 10**scale
    test = (1 + 10**closeness * torch.randn(5, 6, generator=rng)) * 10**scale
    squares = (test.double()[:, None] - train.double()[None]).square().sum(dim=2)
    found = nearest_neighbours(test, train)
    # In whatever order float64 sums six squares.
    torch.testing.assert_close(squares.gather(1, found), squares.amin(dim=1, keepdim=True), rtol=1e-14, atol=0)


def test_neighbours_that_float32_products_confuse_are_told_apart():
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(1, 512, generator=rng)
    direction = torch.randn(512, generator=rng)
    steps = 1e-3 * (1 + 2.0 ** -torch.randint(3, 12, (2000,), generator=rng))
    train = query + steps[:, None] * direction
    far = 1000 * torch.randn(200, 512, generator=rng)  # their norms set the scale
    train = torch.cat([far, train])
    expanded = train.square().sum(dim=1) - 2 * (query @ train.T)[0]
    expected = brute_force(query, train)
    assert expanded.argmin() != expected, "the example is too easy"
    assert torch.equal(nearest_neighbours(query, train), expected)


def test_one_far_outlier_does_not_make_the_rest_look_alike():
    (train, _), (test, _) = clouds(3000, 16, 0), clouds(50, 16, 1)
    train[7] = 1e30
    assert torch.equal(nearest_neighbours(test, train), brute_force(test, train))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [200, 2**21])
def test_of_duplicates_the_lowest_index_is_the_nearest_wherever_the_blocks_end(metric, block, monkeypatch):
    monkeypatch.setattr(neighbour_search, "BLOCK", block)
    base, _ = clouds(40, 37, 0)
    train = torch.cat([base, base.flip(0), base])
    found = nearest_neighbours(base + 1e-4, train, 3, metric)
    own = torch.arange(40)
    assert torch.equal(found, torch.stack([own, 79 - own, 80 + own], dim=1))


def test_under_cosine_a_vector_and_its_double_are_ties():
    base, _ = clouds(30, 11, 0)
    found = nearest_neighbours(base, torch.cat([2 * base, 0.5 * base, base]), 2, "cosine")
    assert torch.equal(found, torch.stack([torch.arange(30), 30 + torch.arange(30)], dim=1))


def test_features_of_a_collapsed_network_give_the_first_training_image():
    train = torch.full((400, 5), 0.3)
    assert nearest_neighbours(train[:20], train, 2).tolist() == [[0, 1]] * 20
    assert nearest_neighbours(train[:20] * 0, train * 0).tolist() == [[0]] * 20


def test_of_more_copies_than_a_shortlist_holds_the_first_are_the_nearest():
    rng = torch.Generator().manual_seed(0)
    train = clouds(9, 6, 0)[0][torch.randint(9, (4000,), generator=rng)]
    test = clouds(30, 6, 1)[0]
    assert torch.equal(nearest_neighbours(test, train, 3), brute_force(test, train, 3))
    # The nearest alone is no proof for the second.
    ones = torch.cat([torch.ones(100, 6), torch.zeros(1, 6)])
    assert nearest_neighbours(torch.zeros(1, 6), ones, 2).tolist() == [[100, 0]]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_vectors_far_from_the_origin_and_close_to_each_other_need_no_search_in_float64(metric, monkeypatch):
    direction = 100 * torch.randn(33, generator=torch.Generator().manual_seed(2))
    train, test = (direction + 0.01 * clouds(count, 33, seed)[0] for count, seed in ((3000, 0), (200, 1)))
    searched_again = []
    monkeypatch.setattr(neighbour_search, "_of_all", lambda queries, *_: searched_again.append(len(queries)))
    nearest_neighbours(test, train, metric=metric)
    assert not searched_again


def test_vectors_of_zeros_have_cosine_distance_one_to_all_and_are_reported(caplog):
    train = torch.tensor([[0.0, 0.0], [-1.0, 0.1], [0.0, 2.0], [3.0, 0.1]])
    test = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    with caplog.at_level(logging.WARNING):
        found = nearest_neighbours(test, train, 4, "cosine", names=("test features", "train features"))
    # scikit-learn's distances: 1 to zeros; of the zero query, all 1.
    assert found[0].tolist() == [0, 1, 2, 3]
    assert found[1].tolist() == [2, 1, 3, 0] or found[1].tolist() == [2, 3, 1, 0]
    assert found[2].tolist() == [3, 0, 2, 1] or found[2].tolist() == [3, 2, 0, 1]
    assert "1 of 3 test features and 1 of 4 train features are all zero" in caplog.text


def test_a_reduced_precision_of_products_is_not_used_and_is_afterwards_as_before(monkeypatch):
    (train, _), (test, _) = clouds(800, 16, 0), clouds(50, 16, 1)
    product, used = torch.addmm, []

    def spied(*args, **options):
        used.append(torch.get_float32_matmul_precision())
        return product(*args, **options)

    monkeypatch.setattr(torch, "addmm", spied)
    torch.set_float32_matmul_precision("medium")
    try:
        nearest_neighbours(test, train)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(used) == {"highest"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_features_of_another_precision_are_compared_as_they_are(dtype):
    train, test = clouds(300, 6, 0)[0].to(dtype), clouds(30, 6, 1)[0].to(dtype)
    assert torch.equal(nearest_neighbours(test, train), brute_force(test, train))


def test_attributes_are_looked_up_where_they_are_known():
    train = torch.tensor([[0.0], [1.0], [2.0]])
    train_labels = torch.tensor([[0, -1, -1], [1, 1, -1], [1, 0, -1]])
    test, test_labels = torch.tensor([[0.1], [1.9]]), torch.tensor([[0, 1, 1], [0, -1, -1]])
    # Attribute 0: right, wrong; attribute 1: the nearest of known ones is image 1, right; attribute 2: unknown to all.
    assert nearest_accuracy(train, train_labels, test, test_labels) == 2 / 4


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
@pytest.mark.parametrize("collapsed", [False, True])
def test_the_peak_of_memory_stays_within_the_bound(collapsed):
    """A process of its own, whose peak was that of the features before the search."""
    code = f"""
import re, torch
from pathlib import Path
from gan_lightning.evaluation import nearest_neighbours, neighbour_search
def peak(): return int(re.search("VmHWM: *(\\d+)", Path("/proc/self/status").read_text().replace("\\t", " "))[1])
torch.set_num_threads(1)
nearest_neighbours(torch.randn(64, 512), torch.randn(64, 512))  # loads what is loaded once
neighbour_search.BLOCK = 2**18  # 2 MiB in float64
references, queries = torch.rand({2000 if collapsed else 20000}, 512), torch.rand({32 if collapsed else 1024}, 512)
if {collapsed}: references[:], queries[:] = 0.5, 0.5
before = peak()
nearest_neighbours(queries, references)
print((peak() - before) / 2**10)
"""
    freed_at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=freed_at_once)
    assert 0 < float(done.stdout) < 20  # all distances would take 80, the references in float64 also


def test_more_neighbours_than_training_images_are_refused():
    train, _ = clouds(3, 4, 0)
    with pytest.raises(SettingError, match="count must be from 1 to the number of references, got 4 neighbours of 3"):
        nearest_neighbours(train, train, 4)
    with pytest.raises(SettingError, match="got 1 neighbours of 0"):
        nearest_neighbours(train, train[:0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite_are_refused_with_the_extractors_name(value):
    (train, labels), (test, test_labels) = clouds(20, 4, 0), clouds(5, 4, 1)
    broken = train.clone()
    broken[3, 2] = value
    with pytest.raises(DataError, match="train features of 'encoder' must be finite"):
        nearest_accuracy(broken, labels, test, test_labels, name="encoder")
    with pytest.raises(DataError, match="test features of 'encoder' must be finite"):
        nearest_accuracy(test, test_labels, broken, labels, name="encoder")


def test_what_does_not_fit_together_is_refused():
    (train, labels), (test, test_labels) = clouds(20, 4, 0), clouds(5, 4, 1)
    with pytest.raises(SettingError, match="must be of the same length, got 3 and 4"):
        nearest_neighbours(test[:, :3], train)
    with pytest.raises(SettingError, match="test features of 'mine' must have one row for each of 4 labels, got 5"):
        nearest_accuracy(train, labels, test, test_labels[:4], name="mine")
    with pytest.raises(SettingError, match="train_labels must hold a known label, got none of 20"):
        nearest_accuracy(train, labels * 0 - 1, test, test_labels)


def test_no_query_has_no_neighbour():
    assert nearest_neighbours(torch.zeros(0, 3), torch.zeros(4, 3), 2).shape == (0, 2)
