import copy

import pytest
import torch
from card_stand_in import Reads
from torch import nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import NearestProbe, PaperProbe, Probe, TensorImages, TunedProbe, random_copy
from gan_lightning.measurements import Bench, Transfer
from gan_lightning.measurements.transfer import ESTIMATED, FRESH

PAPER = PaperProbe(learning_rate=0.01, batch_size=16, epochs=2)
TUNED = TunedProbe(strengths=(0.1,))
BOTH = Transfer(paper=PAPER, tuned=TUNED)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(0.2), nn.Dropout(0.5))


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes differ by where the image is bright."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=rng)
    images = torch.rand(count, 1, 6, 6, generator=rng) - 1
    for index, label in enumerate(labels):
        images[index, 0, 2 * label : 2 * label + 2] += 0.4
    return images, labels


def data(train_labels=None, test_labels=None, num_classes=3) -> TensorImages:
    (train, labels), (test, test_truth) = pictures(60, 0), pictures(30, 1)
    return TensorImages(
        "stripes",
        train=(train, labels if train_labels is None else train_labels(labels)),
        test=(test, test_truth if test_labels is None else test_labels(test_truth)),
        num_classes=num_classes,
        batch_size=16,
    )


def measured(networks, images=None, transfer=BOTH, **settings):
    """Return the figures that stand alone, by their names."""
    outcome = Bench(networks, images or data(), **settings).measure(transfer)
    return {figure.name: figure for figure in outcome.figures if not figure.is_point}


def values(figures):
    return {name: figure.value for name, figure in figures.items()}


def test_every_extractor_stands_beside_its_controls_under_every_probe():
    outcome = Bench({"a": network(0), "b": network(1)}, data(), random_networks={"a": network(2)}).measure(BOTH)
    alone = [figure for figure in outcome.figures if not figure.is_point]
    random = [f"random_weights/{FRESH}", f"random_weights/{ESTIMATED}", "random_weights"]
    assert [figure.name for figure in alone] == [
        *(
            f"transfer/{subject}/accuracy"
            for probe in ("paper", "tuned")
            for subject in (f"a/{probe}", f"b/{probe}", *(f"a/{probe}/{kind}" for kind in random), f"pixels/{probe}")
        ),
        "transfer/chance/accuracy",
    ]
    assert {figure.images for figure in alone} == {30}
    assert all(figure.seconds > 0 for figure in alone[:-1])
    points = [figure for figure in outcome.figures if figure.is_point]
    assert {(figure.protocol, figure.axis, figure.at) for figure in points} == {
        ("paper", "head epoch", 1.0), ("paper", "head epoch", 2.0),
    }  # fmt: skip
    finals = {figure.name: figure.value for figure in points if figure.at == 2.0}
    assert finals == {f.name: f.value for f in alone if f.protocol == "paper"}
    assert alone[-2].value > 0.8  # the classes can be told from the pixels
    assert outcome.details["features"] == {"a": 48, "b": 48, "pixels": 36}
    assert outcome.details["found"]["tuned"]["a (trained)"]["strength"] in TUNED.strengths


def test_of_the_two_controls_with_random_weights_the_stronger_one_is_the_control():
    found = values(measured({"a": network()}, random_networks={"a": network(1)}))
    for probe in ("paper", "tuned"):
        fresh, estimated, control = (
            found[f"transfer/a/{probe}/random_weights/{kind}accuracy"] for kind in (f"{FRESH}/", f"{ESTIMATED}/", "")
        )
        assert control == max(fresh, estimated)


def test_estimated_statistics_are_those_of_the_training_images_and_a_network_without_has_one_control():
    control = network(1)
    estimated = copy.deepcopy(control)
    outputs = estimated[0](pictures(60, 0)[0]).detach().split(16)
    estimated[1].running_mean = torch.stack([chunk.mean((0, 2, 3)) for chunk in outputs]).mean(0)
    estimated[1].running_var = torch.stack([chunk.var((0, 2, 3)) for chunk in outputs]).mean(0)
    as_control = values(measured({"a": network()}, random_networks={"a": control}))
    as_trained = values(measured({"a": estimated}, random_networks={}))
    fresh = values(measured({"a": control}, random_networks={}))
    for probe in ("paper", "tuned"):
        own = f"transfer/a/{probe}"
        assert as_control[f"{own}/random_weights/{ESTIMATED}/accuracy"] == as_trained[f"{own}/accuracy"]
        assert as_control[f"{own}/random_weights/{FRESH}/accuracy"] == fresh[f"{own}/accuracy"]
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.LeakyReLU(0.2))
    assert [name for name in measured({"a": plain}) if "random" in name] == [
        "transfer/a/paper/random_weights/accuracy", "transfer/a/tuned/random_weights/accuracy",
    ]  # fmt: skip


def test_images_without_a_label_change_nothing():
    def with_unlabelled(split):
        images, labels = split
        extra = torch.full((7, 1, 6, 6), 0.5)
        shuffled = torch.randperm(len(images) + 7, generator=torch.Generator().manual_seed(0)).sort().values
        all_images = torch.cat([extra[:3], images, extra[3:]])[shuffled]
        unknown = torch.full((7,), -1)
        return all_images, torch.cat([unknown[:3], labels, unknown[3:]])[shuffled]

    partly = TensorImages(
        "stripes", train=with_unlabelled(pictures(60, 0)), test=with_unlabelled(pictures(30, 1)), num_classes=3
    )
    flat = {"flat": nn.Flatten()}
    assert values(measured(flat, partly)) == values(measured(flat, data()))


def test_attributes_are_evaluated_and_rows_without_any_are_left_out():
    def attributes(labels):
        rows = torch.stack([(labels == 0).long(), (labels == 2).long()], 1)
        rows[::4] = -1
        rows[1::4, 0] = -1
        return rows

    described = data(attributes, attributes, num_classes=2)
    found = values(measured({"a": network()}, described))
    assert found["transfer/pixels/tuned/accuracy"] > 0.9
    assert 0.5 < found["transfer/chance/accuracy"] < 0.8


def test_the_nearest_probe_gives_the_label_of_the_nearest_training_image():
    (train, labels), (test, truth) = pictures(60, 0), pictures(30, 1)
    distances = torch.cdist(test.flatten(1).double(), train.flatten(1).double())
    expected = (labels[distances.argmin(dim=1)] == truth).double().mean().item()
    found = measured({"a": network()}, transfer=Transfer(paper=None, tuned=None, nearest=NearestProbe()))
    assert found["transfer/pixels/nearest/accuracy"].value == expected


def test_trained_extractors_can_be_judged_with_statistics_of_real_images_which_layers_that_are_shared_keep_apart():
    stale = network()
    stale[1].running_mean.fill_(50)
    both = {"a": stale, "b": nn.Sequential(stale, nn.BatchNorm2d(3))}  # which share a batch norm
    state = copy.deepcopy(nn.ModuleDict(both).state_dict())
    settings = {"paper": PAPER, "tuned": TUNED, "nearest": NearestProbe()}
    real = values(measured(both, transfer=Transfer(batch_norm="real", random_weights=False, **settings)))
    assert all(torch.equal(t, state[name]) for name, t in nn.ModuleDict(both).state_dict().items())
    control = values(measured(both, transfer=Transfer(**settings), random_networks=both))
    for probe in ("paper", "tuned", "nearest"):
        for name in both:
            own = f"transfer/{name}/{probe}"
            assert real[f"{own}/accuracy"] == control[f"{own}/random_weights/{ESTIMATED}/accuracy"]
    assert real["transfer/a/paper/accuracy"] != control["transfer/a/paper/accuracy"]


def test_maps_are_averaged_before_they_become_features_where_that_is_asked_for():
    pooled = measured({"a": network()}, transfer=Transfer(paper=None, tuned=TUNED, pool=2, random_weights=False))
    averaged = nn.Sequential(network(), nn.AdaptiveAvgPool2d(2))
    expected = measured({"a": averaged}, transfer=Transfer(paper=None, tuned=TUNED, random_weights=False))
    assert values(pooled) == values(expected)


def test_while_training_the_trained_networks_alone_are_judged():
    found = measured({"a": network()}, controls=False)
    assert list(found) == ["transfer/a/paper/accuracy", "transfer/a/tuned/accuracy"]
    assert Transfer(paper=PAPER).metrics(Bench({"a": network()}, data())) == dict.fromkeys(found, "max")


def test_classes_that_one_split_alone_has_are_named(caplog):
    images = data(test_labels=lambda labels: labels.clamp(max=1))
    images.classes = ["top", "middle", "bottom"]
    outcome = Bench({"a": network()}, images).measure(BOTH)
    assert outcome.details["classes_in_one_split_only"] == {"train": ["bottom"]}
    assert "stripes: only the train split has images of bottom." in caplog.text


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (data(test_labels=lambda labels: labels * 0 - 1), "no test image of stripes has one"),
        (data(train_labels=lambda labels: labels * 0), "needs two classes or more, and all training images of stripes"),
        (object(), "declares labelled images, got object without name, channels, image_size"),
        (None, "declares labelled images, got none"),
    ],
)
def test_data_that_cannot_tell_good_features_from_bad_are_refused(images, message):
    with pytest.raises(DataError, match=message):
        Bench({"a": network()}, images).measure(BOTH)


def test_unlabelled_data_are_refused_with_what_to_do():
    unlabelled = data()
    unlabelled.label_kind = "none"
    with pytest.raises(DataError, match=r"stripes has none. .* set its `enabled` to false"):
        Bench({"a": network()}, unlabelled).measure(BOTH)


def test_what_there_is_nothing_to_measure_of_is_passed_over_with_its_reason():
    with pytest.raises(SettingError, match="transfer cannot be measured: Linear declares no extractors"):
        Bench.of_model(nn.Linear(1, 1), data()).measure(BOTH)
    nothing = Transfer(paper=None, tuned=None)
    assert nothing.passes_over(Bench({"a": network()}, data())) == "all its probes are left out"


@pytest.mark.parametrize("probe", [PAPER, TUNED, NearestProbe()], ids=["paper", "tuned", "nearest"])
def test_a_diverged_extractor_is_named(probe):
    broken = network()
    broken[0].weight.data.fill_(float("nan"))
    transfer = Transfer(paper=None, tuned=None, probes=[probe])
    with pytest.raises((DataError, SettingError), match="'a"):
        Bench({"a": broken}, data()).measure(transfer)


def test_a_probe_of_ones_own_is_one_more_protocol_and_needs_a_name_of_its_own():
    class Guess(Probe):
        name = "guess"

        def accuracy(self, train, train_labels, test, test_labels, *, num_classes, seed, name):
            return 0.25

    found = values(measured({"a": network()}, transfer=Transfer(paper=None, tuned=None, probes=[Guess()])))
    assert found["transfer/a/guess/accuracy"] == found["transfer/a/guess/random_weights/accuracy"] == 0.25
    with pytest.raises(SettingError, match=r"probes must have names of their own, got 'guess' twice"):
        Transfer(probes=[Guess(), Guess()])


def test_settings_out_of_range_are_refused():
    with pytest.raises(SettingError, match=r"pool must be at least 1, got 0"):
        Transfer(pool=0)
    with pytest.raises(SettingError, match=r"every_n_epochs must be at least 0, got -1"):
        Transfer(every_n_epochs=-1)


def test_the_printed_table_has_a_row_per_extractor_and_probe(capsys):
    from gan_lightning.system.terminal import show

    bench = Bench({"[bold]": network()}, data(), random_networks={"[bold]": random_copy(network(), 1)})
    show(*bench.measure(BOTH).tables)
    printed = capsys.readouterr().out
    assert printed.count("[bold]") == 2
    assert all(title in printed for title in ("Accuracy", "Random", "Raw", "Chance", "Seconds"))


def test_the_processor_waits_for_a_gpu_as_often_whatever_the_number_of_batches_and_of_steps():
    counts = []
    for batch_size, epochs, tolerance in ((30, 1, 1.0), (20, 2, 0.1)):
        images = data()
        images.batch_size = batch_size
        tuned = TunedProbe(strengths=(0.1,), gradient_tolerance=tolerance)
        transfer = Transfer(paper=PaperProbe(batch_size=batch_size, epochs=epochs), tuned=tuned, batch_norm="real")
        bench = Bench({"a": network()}, images, controls=False)
        with Reads() as reads:
            bench.measure(transfer)
        counts.append(reads.counts)
    assert counts[0] == counts[1]


@pytest.mark.gpu
def test_the_evaluation_on_a_gpu_is_the_one_on_the_cpu():
    transfer = Transfer(paper=PAPER, tuned=TUNED, nearest=NearestProbe())
    found = []
    for device in ("cpu", "cuda"):
        networks = {"a": network().to(device), "b": network(1).to(device)}
        found.append(values(measured(networks, transfer=transfer, random_networks={"a": network(2).to(device)})))
    assert found[1].keys() == found[0].keys()
    assert all(found[1][name] == pytest.approx(found[0][name], abs=1 / 30) for name in found[0])
