from dataclasses import replace

import pytest
import torch
from test_measurements_transfer import TUNED, data, network, pictures, values

from gan_lightning.data import Digits, ImageArrays
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import NearestProbe, TensorImages
from gan_lightning.measurements import Bench, Transfer, extraction

ONE = Transfer(paper=None, tuned=TUNED, nearest=NearestProbe())


def target(name: str = "far", labels: bool = True, seed: int = 5, size: int = 6) -> TensorImages:
    """Other images than those of `data`, with two classes that cannot be told apart."""
    splits = []
    for count, draw in ((50, seed), (20, seed + 1)):
        images, truth = pictures(count, draw)
        splits.append(
            (
                images[..., :size, :size],
                truth[torch.randperm(count, generator=torch.Generator().manual_seed(draw))].clamp(max=1),
            )
        )
    found = TensorImages(name, train=splits[0], test=splits[1], num_classes=2, batch_size=16)
    found.label_kind = found.label_kind if labels else "none"
    return found


def values_of(outcome):
    return {figure.name: figure.value for figure in outcome.figures if not figure.is_point}


def test_figures_of_a_target_are_those_of_a_bench_with_it_as_its_own_data_set():
    networks, random = {"a": network(0)}, {"a": network(2)}
    both = values_of(Bench(networks, data(), random_networks=random).measure(replace(ONE, targets=[target()])))
    own = values_of(Bench(networks, data(), random_networks=random).measure(ONE))
    other = values_of(Bench(networks, target(), random_networks=random).measure(ONE))
    assert {name: value for name, value in both.items() if "/far/" not in name} == own
    assert both["transfer/a/tuned/far/accuracy"] != both["transfer/a/tuned/accuracy"]
    expected = {
        "transfer/a/tuned/far/accuracy": other["transfer/a/tuned/accuracy"],
        "transfer/a/nearest/far/accuracy": other["transfer/a/nearest/accuracy"],
        "transfer/pixels/tuned/far/accuracy": other["transfer/pixels/tuned/accuracy"],
        "transfer/chance/far/accuracy": other["transfer/chance/accuracy"],
        "transfer/a/tuned/random_weights/far/accuracy": other["transfer/a/tuned/random_weights/accuracy"],
        "transfer/a/tuned/random_weights/far/fresh_statistics/accuracy": other[
            "transfer/a/tuned/random_weights/fresh_statistics/accuracy"
        ],
    }
    assert {name: both[name] for name in expected} == expected
    assert len(both) == len(own) + len(other)


def test_statistics_of_batch_norm_may_be_estimated_on_the_target():
    networks, real = {"a": network(0)}, replace(ONE, batch_norm="real", random_weights=False)
    both = values_of(Bench(networks, data()).measure(replace(real, targets=[target()])))
    other = values_of(Bench(networks, target()).measure(real))
    assert both["transfer/a/tuned/far/accuracy"] == other["transfer/a/tuned/accuracy"]


def test_while_training_targets_have_no_controls_and_each_has_a_table():
    transfer = replace(ONE, targets=[target("far"), target("near", seed=9)])
    bench = Bench({"a": network(0)}, data(), controls=False)
    outcome = bench.measure(transfer)
    assert set(values_of(outcome)) == set(transfer.metrics(bench))
    titles = [table.title for table in outcome.tables]
    assert [title.partition(":")[0] for title in titles] == [
        f"Transfer on {name}" for name in ("stripes", "far", "near")
    ]
    assert outcome.details["targets"]["near"]["features"] == {"a": 48}


def test_a_data_set_without_labels_is_left_to_its_targets():
    bench = Bench({"a": network(0)}, target("blank", labels=False))
    with pytest.raises(DataError, match="transfer needs labels, and the data set blank has none"):
        bench.measure(ONE)
    found = values_of(bench.measure(replace(ONE, targets=[target()])))
    assert {name for name in found if "/far/" not in name} == set()
    with pytest.raises(DataError, match="transfer needs labels, and the data set far has none"):
        bench.measure(replace(ONE, targets=[target(labels=False)]))


def test_a_target_is_fetched_and_read_before_the_training(tmp_path):
    class Fetched(TensorImages):
        def prepare_data(self):
            raise DataError("The files are not there.")

    (train, labels), (test, truth) = pictures(10, 0), pictures(10, 1)
    absent = Fetched("absent", train=(train, labels), test=(test, truth), num_classes=3)
    with pytest.raises(DataError, match="The files are not there"):
        replace(ONE, targets=[absent]).check(Bench({"a": network(0)}, data()))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([target(), target()], r"targets must have names of their own, got 'far' twice"),
        ([target("random_weights")], r"targets must not be called 'random_weights', which other figures have in"),
        ([target("fresh_statistics")], r"targets must not be called 'fresh_statistics', which other figures have in"),
        ([target("a/b")], r"targets must have a `name` without a slash, which .*, got 'a/b' of TensorImages"),
        ([object()], r"targets must have a `name` .*, got None of object. Wrap"),
        ([target(size=5)], r"targets must have the run's channels and image size, 1x6x6, got far with 1x5x5. Set its"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(SettingError, match=message):
        Bench({"a": network(0)}, data()).measure(replace(ONE, targets=targets))


def test_a_target_that_does_not_fit_is_not_fetched():
    class Far(TensorImages):
        def prepare_data(self):
            raise AssertionError("It is fetched.")

    (train, labels), (test, truth) = pictures(10, 0), pictures(10, 1)
    far = Far("far", train=(train[..., :5, :5], labels), test=(test[..., :5, :5], truth), num_classes=3)
    with pytest.raises(SettingError, match="got far with 1x5x5"):
        replace(ONE, targets=[far]).check(Bench({"a": network(0)}, data()))


def test_features_of_a_target_that_do_not_fit_into_a_gpu_lie_in_the_hosts_memory(monkeypatch):
    def extracting(networks, batches, *, pool, device):
        found, labels = extract(networks, batches, pool=pool, device=device)
        if device is None and len(labels) == 50:  # of the target
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return found, labels

    extract = extraction.extract_features
    alone = replace(ONE, tuned=None, random_weights=False, raw_pixels=False, targets=[target()])
    expected = values_of(Bench({"a": network(0)}, data()).measure(alone))
    monkeypatch.setattr(extraction, "extract_features", extracting)
    assert values_of(Bench({"a": network(0)}, data()).measure(alone)) == expected


def test_a_target_is_stated_by_its_name_and_its_own_settings_alone():
    images, labels = torch.zeros(6, 1, 6, 6, dtype=torch.uint8), torch.arange(6) % 2
    arrays = ImageArrays.of((images, labels), (images, labels), name="mine", image_size=6)
    stated = Transfer(targets=[Digits(limit=200), arrays]).stated_settings()["targets"]
    assert {name: (each["class"], each["limit"]) for name, each in stated.items()} == {
        "digits": ("Digits", 200),
        "mine": ("ImageArrays", None),
    }
    assert "given" not in stated["mine"]


def test_a_target_that_declares_no_images_is_refused():
    class Named:
        name = "named"

    with pytest.raises(
        SettingError, match="targets must declare labelled images, got Named without channels, image_size"
    ):
        Bench({"a": network(0)}, data()).measure(replace(ONE, targets=[Named()]))


def test_a_data_module_of_the_project_is_a_target_without_a_trainer():
    own = TensorImages("like", train=_of_size(40, 0), test=_of_size(20, 1), num_classes=3, batch_size=16)
    net = {"a": torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())}
    found = Bench(net, own, controls=False).measure(replace(ONE, targets=[Digits(limit=200)]))
    assert values({f.name: f for f in found.figures})["transfer/a/nearest/digits/accuracy"] > 0.5


def _of_size(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = pictures(count, seed)
    return torch.nn.functional.interpolate(images, size=32), labels
