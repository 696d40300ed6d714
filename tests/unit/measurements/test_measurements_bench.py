import random
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import PaperProbe, TensorImages
from gan_lightning.interfaces import LinearHead
from gan_lightning.measurements import Bench, Measurement, Outcome, Transfer, extraction
from gan_lightning.measurements.extraction import HOST

QUICK = Transfer(paper=PaperProbe(epochs=1, batch_size=16), tuned=None)


def data(batch_size: int = 8) -> TensorImages:
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(30, 1, 4, 4, generator=rng) * 2 - 1, torch.arange(30) % 3
    return TensorImages(
        "noise", train=(images[:20], labels[:20]), test=(images[20:], labels[20:]), num_classes=3, batch_size=batch_size
    )


class Counting(nn.Module):
    """Counts the images that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = nn.Linear(16, 5), 0

    def forward(self, images):
        self.seen += len(images)
        return self.layer(images.flatten(1))


def test_features_are_extracted_once_for_all_that_want_them_and_only_as_many_are_kept_as_fit():
    network = Counting()
    bench = Bench({"a": network, "b": nn.Flatten()}, data())
    first = bench.features("train")
    after = network.seen
    assert after >= 20
    again = bench.features("train", ["a"])
    bench.measure(QUICK)
    assert network.seen == after + 10  # the test images
    assert torch.equal(first.matrices["a"], again.matrices["a"])
    assert torch.equal(first.matrices["a"], network.layer(data()._splits["train"][0].flatten(1)).detach())
    assert first.matrices["b"].shape == (20, 16)
    small = Bench({"a": network}, data(), cache_bytes=100)
    for _ in range(2):
        small.features("train")
    assert network.seen >= after + 10 + 40


def test_features_of_kinds_of_weights_statistics_and_pooling_are_kept_apart():
    torch.manual_seed(7)
    bench = Bench({"a": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))}, data())
    kinds = [
        bench.features("test", weights=weights, batch_norm=statistics, pool=pool, seed=seed).matrices["a"]
        for weights, seed in (("trained", 0), ("random", 0), ("random", 1))
        for statistics in ("running", "real")
        for pool in (None, 1)
    ]
    assert {tuple(each.shape) for each in kinds} == {(10, 8), (10, 2)}
    assert len({each.sum().item() for each in kinds}) == len(kinds)
    assert torch.equal(bench.features("test", weights="none").matrices["pixels"], data()._splits["test"][0].flatten(1))


def test_random_weights_and_heads_follow_the_runs_seed_unless_a_measurement_has_one_of_its_own():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))

    def weights(own: int | None, **of_run: int) -> torch.Tensor:
        return Bench({"a": network}, data(), **of_run).control(own).networks["a"][1].weight

    def accuracies(own: int | None, **of_run: int) -> list[float]:
        figures = Bench({"a": network}, data(), **of_run).measure(replace(QUICK, seed=own)).figures
        return [figure.value for figure in figures]

    assert torch.equal(weights(None), weights(0))
    assert torch.equal(weights(None, seed=1), weights(1))
    assert not torch.equal(weights(None, seed=1), weights(0, seed=1))
    assert accuracies(None, seed=1) == accuracies(1, seed=0) != accuracies(None, seed=0)
    assert accuracies(0, seed=1) == accuracies(None)
    seed_everything(1, verbose=False)
    assert torch.equal(weights(None), weights(1))


def test_nothing_is_changed_by_a_measurement_and_what_it_draws_unasked_is_the_same_each_time():
    class Drawing(Measurement):
        name = "drawing"

        def run(self, bench):
            assert not bench.networks["a"].training
            assert not torch.is_grad_enabled()
            return Outcome([self.figure("sum", torch.rand(1).item() + random.random() + np.random.rand())])  # noqa: NPY002

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    bench = Bench({"a": network}, data(), epoch=3, batches=12)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    with torch.inference_mode():
        first = bench.measure(Drawing()).figures[0]
    torch.manual_seed(5)
    torch.set_rng_state(states[0])
    assert bench.measure(Drawing()).figures[0] == first
    assert (first.epoch, first.batches) == (3, 12)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert network.training
    assert all(weight.requires_grad for weight in network.parameters())


def test_a_measurement_that_changes_a_network_is_found_out():
    class Careless(Measurement):
        name = "careless"

        def run(self, bench):
            bench.networks["a"][0].weight.mul_(2)
            return Outcome()

    with pytest.raises(RuntimeError, match="must stay as it is"):
        Bench({"a": nn.Sequential(nn.Conv2d(1, 2, 3))}, data()).measure(Careless())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_networks_of_any_precision_are_measured(dtype):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).to(dtype)
    features = Bench({"a": network}, data()).features("test").matrices["a"]
    assert features.dtype == torch.float32
    assert Bench({"a": network}, data()).measure(QUICK).figures


def test_functions_and_networks_that_cannot_be_copied_are_measured_beside_the_controls_that_they_can_have(caplog):
    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.lock = nn.Linear(16, 4), threading.Lock()

        def forward(self, images):
            return self.layer(images.flatten(1))

    found = Bench({"half": lambda images: images[..., :2]}, data()).measure(QUICK)
    assert [f.name for f in found.figures if not f.is_point] == [
        "transfer/half/paper/accuracy", "transfer/pixels/paper/accuracy", "transfer/chance/accuracy",
    ]  # fmt: skip
    assert "The extractor 'half' has no weights, and so no random-weights control." in caplog.text
    with pytest.raises(SettingError, match=r"'a' must be a network that can be copied.*save_hyperparameters"):
        Bench({"a": Locked()}, data()).measure(QUICK)
    given = Bench({"a": Locked()}, data(), random_networks={"a": Locked()}).measure(QUICK)
    assert "transfer/a/paper/random_weights/accuracy" in {figure.name for figure in given.figures}
    without = Transfer(paper=QUICK.paper, tuned=None, random_weights=False)
    assert Bench({"a": Locked()}, data()).measure(without).figures


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda images: {"a": images}, r"'f' must give a tensor of features, got a dict with the keys 'a'"),
        (lambda images: (images, images), r"'f' must give a tensor of features, got a tuple of 2"),
        (lambda images: images.flatten(1).T, r"'f' must give a row of features per image, got an output of shape"),
        (lambda images: images.sum(), r"'f' must give a row of features per image, got an output of shape \(\)"),
        (lambda images: images - images.mean(0), r"'f' must give an image the same features whatever is beside it"),
        (nn.BatchNorm2d(1, track_running_stats=False), r"'f' must give an image the same features whatever is beside"),
        (nn.Conv2d(3, 2, 3), r"'f' must take images of shape \(2, 1, 4, 4\), got RuntimeError"),
    ],
)
def test_what_is_no_extractor_is_named(network, message):
    with pytest.raises(SettingError, match=message):
        Bench({"f": network}, data()).measure(QUICK)


def test_benches_that_make_no_sense_are_refused():
    flat = nn.Flatten()
    with pytest.raises(SettingError, match=r"'a' must be a torch.nn.Module or a function of images, got int"):
        Bench({"a": 3}, data())
    with pytest.raises(SettingError, match=r"heads must be named like networks, got \['b'\] beside \['a'\]"):
        Bench({"a": flat}, data(), heads={"b": LinearHead(torch.ones(1, 16), "encoding")})
    with pytest.raises(SettingError, match=r"random_networks must be named like networks, got \['b'\]"):
        Bench({"a": flat}, data(), random_networks={"b": flat})
    with pytest.raises(SettingError, match="networks must not be called 'pixels'"):
        Bench({"pixels": flat}, data())


def test_the_first_images_of_a_split_come_with_their_labels_and_without_the_unknown_ones():
    bench = Bench({}, data(batch_size=4))
    images, labels = bench.images("train", 6)
    assert torch.equal(images, data()._splits["train"][0][:6])
    assert labels.tolist() == [0, 1, 2, 0, 1, 2]
    some = data()
    some._splits["train"][1][:3] = -1
    images, labels = Bench({}, some).images("train", 4, labelled=True)
    assert labels.tolist() == [0, 1, 2, 0]
    assert torch.equal(images, some._splits["train"][0][3:7])


def test_what_depends_on_the_data_alone_is_made_once_for_benches_that_share_it():
    made, lasting = [], {}
    for _ in range(2):
        assert Bench({}, data(), lasting=lasting).keep("key", lambda: made.append(1) or 5) == 5
    assert made == [1]


def test_progress_is_told_batch_by_batch():
    calls = []
    Bench({"a": nn.Flatten()}, data(), progress=lambda *call: calls.append(call)).measure(QUICK)
    assert calls[:3] == [("features of train images, trained", done, 3) for done in (1, 2, 3)]
    assert calls[-1] == ("probes: paper", 1, 1)


def test_a_measurement_of_features_that_do_not_fit_into_a_gpu_is_made_again_in_the_hosts_memory(caplog, monkeypatch):
    class Large(Transfer):
        def run(self, bench):
            bench.features("train")
            if places == [None]:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much.")
            return super().run(bench)

    places, extract, lasting = [], extraction.extract_features, {}
    monkeypatch.setattr(
        extraction, "extract_features", lambda *given, **more: places.append(more["device"]) or extract(*given, **more)
    )
    large = Large(paper=QUICK.paper, tuned=None, random_weights=False, raw_pixels=False)
    bench = Bench({"a": nn.Flatten()}, data(), lasting=lasting)
    found = bench.measure(large)
    assert places == [None, HOST, HOST]
    assert "transfer does not fit into the GPU's memory (CUDA out of memory)." in caplog.text
    bench.features("train")
    assert places.pop() is None  # of another measurement
    caplog.clear()
    again = Bench({"a": nn.Flatten()}, data(), lasting=lasting).measure(large)
    assert places == [None, *[HOST] * 4]
    assert not caplog.text
    assert [figure.value for figure in again.figures] == [figure.value for figure in found.figures]


def test_a_measurement_that_needs_more_than_features_fails_where_they_do_not_fit():
    class Hungry(Measurement):
        name = "hungry"

        def run(self, bench):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        Bench({"a": nn.Flatten()}, data()).measure(Hungry())
