import logging
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from card_stand_in import Reads, Tape
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    LogisticModel,
    PaperProbe,
    Probe,
    TensorBatches,
    TunedProbe,
    extract_features,
    fit_logistic,
    lbfgs,
    logistic_probe,
    logistic_probes,
    sgd_heads,
)
from gan_lightning.evaluation.probes import logistic, paper, tuned
from gan_lightning.evaluation.probes.paper import INITIAL_STD
from gan_lightning.evaluation.probes.probe import accuracy, cross_entropy, majority_accuracy

CLASSES = 3


def blobs(count=90, width=5, seed=0, spread=1.5, dtype=torch.float32):
    """Overlapping clouds, so that the best strength is neither extreme."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=rng)
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(9))
    return (centres[labels] + spread * torch.randn(count, width, generator=rng)).to(dtype), labels


def heads(train, train_labels, test, test_labels, **options):
    return sgd_heads(train, train_labels, test, test_labels, num_classes=CLASSES, **options)


def zeros(width, classes=CLASSES, dtype=torch.float64):
    return LogisticModel(torch.zeros(classes, width, dtype=dtype), torch.zeros(classes, dtype=dtype), 0)


def test_a_head_follows_sgd_with_momentum_written_by_hand():
    (train, labels), (test, test_labels) = blobs(50), blobs(20, seed=1)
    protocol = PaperProbe(learning_rate=0.05, momentum=0.9, batch_size=12, epochs=3)
    head = heads({"f": train}, labels, {"f": test}, test_labels, protocol=protocol, seed=4)["f"]

    weight = torch.normal(0.0, INITIAL_STD, (CLASSES, 5), generator=torch.Generator().manual_seed(4)).numpy()
    shuffle = torch.Generator().manual_seed(4)
    x, y, velocity, accuracies = train.numpy(), labels.numpy(), np.zeros_like(weight), []
    for _ in range(3):
        order = torch.randperm(50, generator=shuffle).numpy()
        for start in range(0, 50, 12):
            batch = order[start : start + 12]
            logits = x[batch] @ weight.T
            exps = np.exp(logits - logits.max(1, keepdims=True))
            gradient = (exps / exps.sum(1, keepdims=True) - np.eye(CLASSES)[y[batch]]).T @ x[batch] / len(batch)
            velocity = 0.9 * velocity + gradient
            weight = weight - 0.05 * velocity
        accuracies.append(float(((test.numpy() @ weight.T).argmax(1) == test_labels.numpy()).mean()))
    assert_close(head.weight, torch.from_numpy(weight).float(), atol=1e-5, rtol=1e-4)
    assert head.accuracies == pytest.approx(accuracies)


def test_cached_features_train_the_head_that_a_forward_pass_in_every_epoch_trains():
    torch.manual_seed(0)
    extractor = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Flatten())
    images, labels = torch.rand(40, 1, 5, 5) * 2 - 1, torch.randint(CLASSES, (40,))
    test_images, test_labels = torch.rand(15, 1, 5, 5) * 2 - 1, torch.randint(CLASSES, (15,))
    protocol = PaperProbe(learning_rate=0.01, batch_size=8, epochs=4)
    features, _ = extract_features({"f": extractor}, TensorBatches(images, labels, 16))
    test_features, _ = extract_features({"f": extractor}, TensorBatches(test_images, test_labels, 16))
    cached = heads(features, labels, test_features, test_labels, protocol=protocol, seed=2)["f"]

    head = nn.Linear(36, CLASSES, bias=False)
    nn.init.normal_(head.weight, 0.0, 0.02, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    shuffle, accuracies = torch.Generator().manual_seed(2), []
    extractor.eval()
    for _ in range(4):
        for batch in torch.randperm(40, generator=shuffle).split(8):
            optimizer.zero_grad()
            F.cross_entropy(head(extractor(images[batch]).detach()), labels[batch]).backward()
            optimizer.step()
        predictions = head(extractor(test_images)).argmax(1)
        accuracies.append((predictions == test_labels).double().mean().item())
    assert_close(cached.weight, head.weight.detach(), atol=1e-6, rtol=1e-5)
    assert cached.accuracies == pytest.approx(accuracies)


def several_heads(attributes=False, **settings):
    """Train heads on sets of two widths; the last of the five batches of an epoch is short."""
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    (other, _), (other_test, _) = blobs(width=7, seed=2), blobs(30, width=7, seed=3)
    if attributes:
        labels, test_labels = (F.one_hot(each, CLASSES) for each in (labels, test_labels))
        labels[::3, 0] = -1
    protocol = PaperProbe(learning_rate=0.1, epochs=2, batch_size=20)
    sets = {"other": (other, other_test), "f": (train, test), "twin": (train, test), "half": (train / 2, test / 2)}
    names = settings.pop("names", sets)
    return heads(
        {name: sets[name][0] for name in names}, labels, {name: sets[name][1] for name in names}, test_labels,
        protocol=settings.pop("protocol", protocol), **settings,
    )  # fmt: skip


@pytest.mark.parametrize("attributes", [False, True], ids=["classes", "attributes"])
def test_a_head_is_what_it_would_be_alone(attributes):
    together = several_heads(attributes)
    assert list(together) == ["other", "f", "twin", "half"]
    for name, head in together.items():
        alone = several_heads(attributes, names=[name])[name]
        assert_close(head.weight, alone.weight, atol=1e-5, rtol=1e-5)
        assert head.accuracies == alone.accuracies
    assert torch.equal(together["f"].weight, together["twin"].weight)
    assert not torch.equal(together["f"].weight, together["half"].weight)


@pytest.mark.parametrize("attributes", [False, True], ids=["classes", "attributes"])
def test_heads_of_a_replayed_step_are_those_of_the_step_bit_for_bit(attributes, monkeypatch):
    plain, tape = several_heads(attributes), Tape()
    monkeypatch.setattr(paper, "recorder_for", lambda device: tape)
    replayed = several_heads(attributes)
    assert (tape.recorded, tape.replayed) == (1, 8)
    for name, head in replayed.items():
        assert torch.equal(head.weight, plain[name].weight)
        assert head.accuracies == plain[name].accuracies


def test_the_processor_waits_for_heads_as_often_whatever_the_number_of_steps():
    counts = []
    for epochs in (1, 4):
        with Reads() as reads:
            several_heads(protocol=PaperProbe(epochs=epochs, batch_size=20))
        counts.append(reads.counts)
    assert counts[0] == counts[1]


@pytest.mark.gpu
def test_heads_on_a_gpu_are_those_on_the_cpu():
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    protocol = PaperProbe(learning_rate=0.1, epochs=3, batch_size=20)
    here, there = (
        heads({"f": train.to(d), "twin": train.to(d)}, labels.to(d), {"f": test.to(d), "twin": test.to(d)},
              test_labels.to(d), protocol=protocol)
        for d in ("cpu", "cuda")
    )  # fmt: skip
    assert_close(there["f"].weight.cpu(), here["f"].weight, atol=1e-5, rtol=1e-4)
    assert there["f"].accuracies == here["f"].accuracies


@pytest.mark.gpu
def test_a_gpu_is_waited_for_as_often_whatever_the_number_of_steps():
    (train, labels), (test, test_labels) = ((each.cuda() for each in blobs(*given)) for given in ((90,), (30, 5, 1)))
    counts = []
    for epochs in (1, 1, 4):  # the first one loads libraries
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            protocol = PaperProbe(epochs=epochs, batch_size=20)
            heads({"f": train, "twin": train}, labels, {"f": test, "twin": test}, test_labels, protocol=protocol)
        torch.cuda.set_sync_debug_mode("default")
        counts.append(len(waits))
    assert counts[1] == counts[2]


def test_another_seed_gives_another_head_and_the_global_random_state_is_not_used():
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    state = torch.get_rng_state()
    first, second = (heads({"f": train}, labels, {"f": test}, test_labels, seed=seed)["f"] for seed in (0, 1))
    logistic_probe(train, labels, test, test_labels, num_classes=CLASSES)
    assert not torch.equal(first.weight, second.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_default_protocol_is_table_1s_target_training():
    assert PaperProbe() == PaperProbe(learning_rate=0.0002, momentum=0.9, batch_size=120, epochs=20)
    wide = torch.zeros(2, 20_000)
    start = heads({"f": wide}, torch.tensor([0, 2]), {"f": wide}, torch.tensor([0, 2]), protocol=PaperProbe(epochs=1))[
        "f"
    ]
    assert start.weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_epochs_are_reported_as_they_end():
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    epochs = []
    heads({"f": train}, labels, {"f": test}, test_labels, protocol=PaperProbe(epochs=3), on_epoch=epochs.append)
    assert epochs == [1, 2, 3]


def test_heads_train_where_autograd_is_off():
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    protocol = PaperProbe(learning_rate=0.1, epochs=2)
    with torch.no_grad():
        head = heads({"f": train}, labels, {"f": test}, test_labels, protocol=protocol)["f"]
        model = fit_logistic(train, labels, 0.1, zeros(5, dtype=torch.float32))
    assert torch.equal(
        head.weight, heads({"f": train}, labels, {"f": test}, test_labels, protocol=protocol)["f"].weight
    )
    assert model.iterations > 1


@pytest.mark.parametrize("strength", [0.1, 0.001])
def test_logistic_regression_agrees_with_scikit_learn(strength):
    features, labels = blobs(200, dtype=torch.float64)
    protocol = TunedProbe(gradient_tolerance=1e-8)
    model = fit_logistic(features, labels, strength, zeros(5), protocol)
    reference = LogisticRegression(C=1 / (200 * strength), tol=1e-8, max_iter=1000).fit(features, labels)
    assert_close(model.weight, torch.from_numpy(reference.coef_), atol=1e-4, rtol=0)
    assert_close(model.bias, torch.from_numpy(reference.intercept_), atol=1e-4, rtol=0)
    assert np.array_equal(model(features).argmax(1).numpy(), reference.predict(features))


def test_attributes_are_independent_logistic_regressions_over_the_images_where_they_are_known():
    features, _ = blobs(200, dtype=torch.float64)
    labels = (features[:, :2] + torch.randn(200, 2, generator=torch.Generator().manual_seed(1)) > 0).long()
    labels[:50, 0] = -1
    model = fit_logistic(features, labels, 0.01, zeros(5, 2), TunedProbe(gradient_tolerance=1e-8))
    for attribute, known in ((0, slice(50, None)), (1, slice(None))):
        count = len(labels[known])
        reference = LogisticRegression(C=1 / (count * 0.01), tol=1e-8, max_iter=1000)
        reference.fit(features[known], labels[known, attribute])
        assert_close(model.weight[attribute], torch.from_numpy(reference.coef_[0]), atol=1e-4, rtol=0)
        assert model.bias[attribute].item() == pytest.approx(reference.intercept_[0], abs=1e-4)


def test_the_probe_is_scikit_learns_regression_on_standardised_features_of_the_whole_training_split():
    (train, labels), (test, test_labels) = blobs(150, dtype=torch.float64), blobs(80, seed=1, dtype=torch.float64)
    train, test = train * torch.tensor([1.0, 100, 0.01, 1, 1]) + 7, test * torch.tensor([1.0, 100, 0.01, 1, 1]) + 7
    protocol = TunedProbe(strengths=(0.003,), gradient_tolerance=1e-8)
    probe = logistic_probe(train, labels, test, test_labels, num_classes=CLASSES, protocol=protocol)
    mean, std = train.mean(0), train.std(0, correction=0)
    reference = LogisticRegression(C=1 / (150 * 0.003), tol=1e-8, max_iter=1000).fit((train - mean) / std, labels)
    assert probe.accuracy == pytest.approx(reference.score((test - mean) / std, test_labels))
    assert probe.strength == 0.003


def test_the_scale_and_origin_of_a_feature_do_not_matter_and_constant_features_do_no_harm():
    (train, labels), (test, test_labels) = blobs(150, dtype=torch.float64), blobs(80, seed=1, dtype=torch.float64)
    plain = logistic_probe(train, labels, test, test_labels, num_classes=CLASSES)

    def moved(features):
        constant = torch.full((len(features), 2), 0.1, dtype=torch.float64)
        return torch.cat([features * 1000 - 5, constant], 1)

    shifted = logistic_probe(moved(train), labels, moved(test), test_labels, num_classes=CLASSES)
    assert shifted.accuracy == plain.accuracy
    assert shifted.strength == plain.strength
    assert shifted.validation_accuracy == plain.validation_accuracy


def test_a_constant_whose_mean_rounds_is_not_blown_up():
    (train, labels), (test, test_labels) = blobs(1001), blobs(80, seed=1)
    train, test = F.pad(train, (0, 1), value=0.1), F.pad(test, (0, 1), value=0.1)
    test[:, -1] += 1e-3  # Divided by rounding noise this would decide every prediction.
    probe = logistic_probe(train, labels, test, test_labels, num_classes=CLASSES)
    without = logistic_probe(train[:, :-1], labels, test[:, :-1], test_labels, num_classes=CLASSES)
    assert probe.accuracy == without.accuracy


def test_the_strength_is_chosen_without_the_test_split():
    (train, labels), (test, test_labels) = blobs(200, width=30), blobs(80, width=30, seed=1)
    honest = logistic_probe(train, labels, test, test_labels, num_classes=CLASSES)
    corrupted = logistic_probe(train, labels, -test, (test_labels + 1) % CLASSES, num_classes=CLASSES)
    assert corrupted.strength == honest.strength
    assert corrupted.validation_accuracy == honest.validation_accuracy
    assert corrupted.accuracy != honest.accuracy


def test_the_strength_chosen_is_the_one_that_does_best_on_the_held_out_images():
    train, labels = blobs(200, width=60, seed=5, spread=3)
    protocol = TunedProbe(strengths=(0.001, 10.0, 0.1), held_out=0.25, gradient_tolerance=1e-6)
    probe = logistic_probe(train, labels, train, labels, num_classes=CLASSES, protocol=protocol, seed=3)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3)).numpy()
    validation, fitting = order[:50], order[50:]
    x, y = train.double().numpy(), labels.numpy()
    x = (x - x[fitting].mean(0)) / x[fitting].std(0)
    scores = {
        strength: LogisticRegression(C=1 / (150 * strength), tol=1e-6, max_iter=1000)
        .fit(x[fitting], y[fitting])
        .score(x[validation], y[validation])
        for strength in (10.0, 0.1, 0.001)
    }
    assert len(set(scores.values())) == 3
    assert probe.strength == max(scores, key=scores.__getitem__)
    assert probe.validation_accuracy == pytest.approx(max(scores.values()))


def test_of_strengths_that_do_equally_well_the_strongest_is_taken():
    labels = torch.arange(60) % CLASSES
    separable = F.one_hot(labels, CLASSES).float()
    probe = logistic_probe(separable, labels, separable, labels, num_classes=CLASSES)
    assert probe.validation_accuracy == 1.0
    assert probe.strength == max(TunedProbe().strengths)


def test_the_search_stops_when_two_strengths_have_been_worse(monkeypatch):
    tried, scores = [], iter([0.5, 0.7, 0.6, 0.7, 0.6, 0.9, 0.4])
    fit = tuned.fit_together
    monkeypatch.setattr(
        tuned,
        "fit_together",
        lambda x, y, strengths, *rest, **more: tried.extend(strengths) or fit(x, y, strengths, *rest, **more),
    )
    monkeypatch.setattr(tuned, "_accuracies", lambda models, features, labels: [next(scores)])
    train, labels = blobs(30)
    protocol = TunedProbe(strengths=(1.0, 0.5, 0.2, 0.1, 0.05, 0.02))
    probe = logistic_probe(train, labels, train, labels, num_classes=CLASSES, protocol=protocol)
    assert tried == [1.0, 0.5, 0.2, 0.1, 0.05, 0.5]  # the last is the refit of the best
    assert (probe.strength, probe.validation_accuracy, probe.accuracy) == (0.5, 0.7, 0.9)


def several_sets():
    """Sets of features of one width that differ in what the labels can be told from."""
    sets = {}
    for seed, spread in enumerate((1.5, 3.0, 6.0)):
        (train, labels), (test, test_labels) = blobs(150, 20, 5, spread), blobs(60, 20, 6, spread)
        sets[f"set {seed}"] = train * 10**seed, test * 10**seed
    return (
        {name: each[0] for name, each in sets.items()},
        labels,
        {name: each[1] for name, each in sets.items()},
        test_labels,
    )


@pytest.mark.parametrize("attributes", [False, True], ids=["classes", "attributes"])
def test_probes_fitted_together_are_what_each_is_alone(attributes):
    train, labels, test, test_labels = several_sets()
    if attributes:
        labels, test_labels = (F.one_hot(each, CLASSES) for each in (labels, test_labels))
        labels[::3, 0] = -1
    settings = {"num_classes": CLASSES, "protocol": TunedProbe(strengths=(1.0, 0.1, 0.01), gradient_tolerance=1e-3)}
    together = logistic_probes(train, labels, test, test_labels, **settings)
    for name, probe in together.items():
        alone = logistic_probe(train[name], labels, test[name], test_labels, **settings)
        assert probe.accuracy == alone.accuracy
        assert (probe.strength, probe.validation_accuracy) == (alone.strength, alone.validation_accuracy)
        assert probe.iterations == pytest.approx(alone.iterations, rel=0.1)
    assert len({probe.iterations for probe in together.values()}) > 1


def test_a_judgement_is_the_same_however_many_sets_are_fitted_together(monkeypatch):
    train, labels, test, test_labels = several_sets()
    settings = {"num_classes": CLASSES, "seed": 0}
    calls, probe = [], TunedProbe(strengths=(0.1, 0.01), gradient_tolerance=1e-3)
    alone = probe.judge(train, labels, test, test_labels, report=lambda *call: calls.append(call), **settings)
    monkeypatch.setattr(tuned, "fitted_together", lambda sets: [["set 0", "set 2"], ["set 1"]])
    together = probe.judge(train, labels, test, test_labels, report=lambda *call: calls.append(call), **settings)
    assert [each[1] for each in calls] == [1, 2, 3, 2, 3]
    assert list(together) == list(alone)
    for name, found in together.items():
        assert (found.accuracy, found.details) == (alone[name].accuracy, alone[name].details)


def test_a_set_is_fitted_alone_on_the_cpu_and_a_gpu_fits_as_many_of_one_width_as_have_room(monkeypatch):
    sets = {"a": torch.ones(4, 3), "b": torch.ones(4, 2), "c": torch.ones(4, 3), "d": torch.ones(4, 3)}
    assert tuned.fitted_together(sets) == [["a"], ["c"], ["d"], ["b"]]

    monkeypatch.setattr(tuned, "TOGETHER", 2 * 4 * 3 * 4)
    elsewhere = {name: each.to("meta") for name, each in sets.items()}
    assert tuned.fitted_together(elsewhere) == [["a", "c"], ["d"], ["b"]]


def test_the_processor_waits_for_a_fit_in_its_reads_alone(monkeypatch):
    features, labels = blobs()
    read, evaluated = [], []
    own, entropy = lbfgs._read, logistic.cross_entropy
    monkeypatch.setattr(lbfgs, "_read", lambda *columns: read.append(1) or own(*columns))
    monkeypatch.setattr(logistic, "cross_entropy", lambda *given: evaluated.append(1) or entropy(*given))
    with Reads() as reads:
        model = fit_logistic(features, labels, 0.001, zeros(5, dtype=torch.float32))
    assert not reads.counts
    assert model.iterations < len(read) == len(evaluated)


@pytest.mark.gpu
def test_probes_on_a_gpu_are_those_on_the_cpu():
    train, labels, test, test_labels = several_sets()
    found = [
        TunedProbe().judge(
            {name: each.to(device) for name, each in train.items()}, labels.to(device),
            {name: each.to(device) for name, each in test.items()}, test_labels.to(device),
            num_classes=CLASSES, seed=0, report=lambda *call: None,
        )
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    for name in train:
        assert found[1][name].accuracy == pytest.approx(found[0][name].accuracy, abs=1 / 60)


def test_a_fit_that_runs_out_of_iterations_is_reported(caplog):
    features, labels = blobs()
    with caplog.at_level(logging.WARNING):
        model = fit_logistic(features, labels, 1e-5, zeros(5, dtype=torch.float32), TunedProbe(max_iterations=2))
    assert model.iterations == 2
    assert "on features has not converged in 2 iterations at strength 1e-05; raise max_iterations." in caplog.text


def test_attribute_heads_learn_and_only_known_entries_count():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(120, 4, generator=rng)
    labels = (features[:, :CLASSES] > 0).long()
    labels[::3, 0] = -1
    protocol = PaperProbe(learning_rate=0.1, epochs=10)
    head = heads({"f": features}, labels, {"f": features}, labels, protocol=protocol)["f"]
    probe = logistic_probe(features, labels, features, labels, num_classes=CLASSES)
    assert head.accuracies[-1] > 0.9
    assert probe.accuracy > 0.95


def test_cross_entropy_and_accuracy_of_attributes_leave_unknown_entries_out():
    logits = torch.tensor([[2.0, -1.0], [1.0, 3.0]])
    labels = torch.tensor([[1, 1], [-1, 1]])
    softplus = [np.log1p(np.exp(value)) for value in (-2.0, 1.0, -3.0)]
    assert cross_entropy(logits, labels).item() == pytest.approx(softplus[0] + (softplus[1] + softplus[2]) / 2)
    assert accuracy(logits, labels) == pytest.approx(2 / 3)
    assert cross_entropy(logits, torch.tensor([[-1, 1], [-1, 0]])).item() == pytest.approx(
        (softplus[1] + np.log1p(np.exp(3.0))) / 2
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, r"^learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
    ],
)
def test_the_papers_protocol_refuses_unusable_settings(options, message):
    with pytest.raises(SettingError, match=message):
        PaperProbe(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strengths": ()}, r"^strengths must hold at least one value"),
        ({"strengths": (0.1, 0.0)}, "all above 0"),
        ({"strengths": (float("nan"),)}, "all above 0"),
        ({"held_out": 1.0}, "held_out must be between 0 and 1, got 1.0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1, got 0"),
        ({"gradient_tolerance": 0.0}, "gradient_tolerance must be above 0, got 0.0"),
    ],
)
def test_the_tuned_protocol_refuses_unusable_settings(options, message):
    with pytest.raises(SettingError, match=message):
        TunedProbe(**options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_name_their_extractor(value):
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    test[3, 2] = value
    with pytest.raises(DataError, match="test features of 'discriminator' must be finite, got NaN or infinity"):
        heads({"discriminator": train}, labels, {"discriminator": test}, test_labels)


def test_features_and_labels_that_do_not_fit_together_are_refused():
    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    unknown = labels.clone()
    unknown[5] = -1
    with pytest.raises(SettingError, match="train and test must hold features of the same names"):
        heads({"a": train}, labels, {"b": test}, test_labels)
    with pytest.raises(SettingError, match=r"train_labels must be .* got 90 images, 1 of them without"):
        heads({"a": train}, unknown, {"a": test}, test_labels)
    with pytest.raises(SettingError, match="train_labels must fit num_classes=2, got values up to 2"):
        sgd_heads({"a": train}, labels, {"a": test}, test_labels, num_classes=2)
    with pytest.raises(SettingError, match=r"train_labels must fit num_classes=3, .* in shape \(90, 2\)"):
        heads({"a": train}, F.one_hot(labels)[:, :2], {"a": test}, F.one_hot(test_labels)[:, :2])
    with pytest.raises(SettingError, match="train_labels must be of two classes or more, got one, 1"):
        heads({"a": train}, labels * 0 + 1, {"a": test}, test_labels)
    with pytest.raises(SettingError, match="train_labels must be of two classes or more"):
        logistic_probe(train[:1], labels[:1], test, test_labels, num_classes=CLASSES)


def test_chance_is_answering_with_what_is_most_frequent_in_training():
    train, test = torch.tensor([0, 1, 1, 2, 1, 0, -1]), torch.tensor([1, 0, 2, 1, -1])
    assert majority_accuracy(train, test) == 0.5
    attributes = torch.tensor([[1, 0], [1, -1], [0, 0], [1, 1]])
    assert majority_accuracy(attributes, torch.tensor([[1, 0], [0, -1], [1, 1]])) == pytest.approx(3 / 5)


def test_a_probe_of_ones_own_needs_an_accuracy_alone():
    @dataclass(frozen=True)
    class Centroids(Probe):
        name = "centroids"

        def accuracy(self, train, train_labels, test, test_labels, *, num_classes, seed, name):
            means = torch.stack([train[train_labels == label].mean(dim=0) for label in range(num_classes)])
            return (torch.cdist(test, means).argmin(dim=1) == test_labels).double().mean().item()

    (train, labels), (test, test_labels) = blobs(), blobs(30, seed=1)
    calls = []
    found = Centroids().judge(
        {"a": train, "b": -train}, labels, {"a": test, "b": -test}, test_labels, num_classes=CLASSES, seed=0,
        report=lambda *call: calls.append(call),
    )  # fmt: skip
    assert found["a"].accuracy == found["b"].accuracy > 0.5
    assert calls == [("probes: centroids", 1, 2), ("probes: centroids", 2, 2)]


def test_protocols_are_built_from_yaml():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("--protocols", type=list[Probe])
    yaml = (
        "[{class_path: PaperProbe, init_args: {epochs: 3, learning_rate: 1e-3}}, "
        "{class_path: TunedProbe, init_args: {strengths: [0.1, 0.01], held_out: 0.2}}]"
    )
    parsed = parser.instantiate(parser.parse_args(["--protocols", yaml])).protocols
    assert parsed == [
        PaperProbe(epochs=3, learning_rate=1e-3),
        TunedProbe(strengths=(0.1, 0.01), held_out=0.2),
    ]
