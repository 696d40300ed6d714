import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch import nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    RAW_PIXELS,
    NearestProtocol,
    PaperProtocol,
    SummaryRow,
    TensorImages,
    TransferRecord,
    TunedProtocol,
    evaluate_transfer,
    random_copy,
    summary,
)

PAPER = PaperProtocol(learning_rate=0.01, batch_size=16, epochs=2)
TUNED = TunedProtocol(strengths=(0.1, 0.01))


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


def accuracies(records: list[TransferRecord]) -> list[tuple]:
    return [(r.extractor, r.weights, r.protocol, r.epoch, r.accuracy, r.strength, r.features) for r in records]


def test_every_extractor_and_control_has_a_record_for_each_protocol_and_epoch():
    records = evaluate_transfer(
        {"a": network(0), "b": network(1)},
        data(),
        random_extractors={"a": network(2)},
        protocols=(PAPER, TUNED),
    )
    sources = [("a", "trained"), ("b", "trained"), ("a", "random"), (RAW_PIXELS, "none")]
    assert [(r.extractor, r.weights, r.protocol, r.epoch) for r in records] == [
        *((*source, "paper", epoch) for source in sources for epoch in (1, 2)),
        *((*source, "tuned", None) for source in sources),
    ]
    assert [r.features for r in records if r.protocol == "tuned"] == [48, 48, 48, 36]
    assert all(r.strength in TUNED.strengths for r in records if r.protocol == "tuned")
    assert all(r.strength is None for r in records if r.protocol == "paper")
    assert all(r.seconds > 0 for r in records)
    assert records[-1].accuracy > 0.8  # the classes can be told from the pixels
    assert json.loads(json.dumps([asdict(r) for r in records]))[0]["extractor"] == "a"


def test_weights_statistics_modes_and_random_state_are_as_before():
    trained, control = network().train(), network(1).train()
    trained[3].eval()
    before = [copy.deepcopy(module.state_dict()) for module in (trained, control)]
    random_state = torch.get_rng_state()
    evaluate_transfer({"a": trained}, data(), random_extractors={"a": control}, protocols=(PAPER,))
    for module, state in zip((trained, control), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert all(weight.requires_grad for weight in module.parameters())
    assert [layer.training for layer in trained] == [True, True, True, False]
    assert control.training
    assert torch.equal(torch.get_rng_state(), random_state)


def test_an_extractor_that_draws_random_numbers_does_not_move_the_global_random_state():
    class Noisy(nn.Module):
        def forward(self, images):
            return images + torch.randn_like(images)

    random_state = torch.get_rng_state()
    evaluate_transfer({"noisy": Noisy()}, data(), raw_pixels=False, protocols=(PAPER,))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_random_control_is_evaluated_with_batch_norm_statistics_of_the_training_images():
    control = network(1)
    estimated = copy.deepcopy(control)
    images = pictures(60, 0)[0]
    outputs = estimated[0](images).detach().split(16)
    estimated[1].running_mean = torch.stack([chunk.mean((0, 2, 3)) for chunk in outputs]).mean(0)
    estimated[1].running_var = torch.stack([chunk.var((0, 2, 3)) for chunk in outputs]).mean(0)
    as_control = evaluate_transfer(
        {"a": network()}, data(), random_extractors={"a": control}, protocols=(TUNED, PAPER), raw_pixels=False
    )
    as_trained = evaluate_transfer({"a": estimated}, data(), protocols=(TUNED, PAPER), raw_pixels=False)
    stale = evaluate_transfer({"a": control}, data(), protocols=(PAPER,), raw_pixels=False)
    expected = [r.accuracy for r in as_trained]
    assert [r.accuracy for r in as_control if r.weights == "random"] == expected
    assert [r.accuracy for r in stale] != expected[1:]


def test_the_same_seed_gives_the_same_records_from_within_a_validation_hook():
    extractor, images = network(), data()
    expected = evaluate_transfer({"a": extractor}, images, protocols=(PAPER, TUNED), seed=3)
    torch.manual_seed(99)
    with torch.inference_mode():
        records = evaluate_transfer({"a": extractor}, images, protocols=(PAPER, TUNED), seed=3)
    assert accuracies(records) == accuracies(expected)


def test_images_without_a_label_change_nothing():
    def with_unlabelled(split):
        images, labels = split
        extra = torch.full((7, 1, 6, 6), 0.5)
        shuffled = torch.randperm(len(images) + 7, generator=torch.Generator().manual_seed(0)).sort().values
        all_images = torch.cat([extra[:3], images, extra[3:]])[shuffled]
        unknown = torch.full((7,), -1)
        return all_images, torch.cat([unknown[:3], labels, unknown[3:]])[shuffled]

    labelled = data()
    partly = TensorImages(
        "stripes",
        train=with_unlabelled(pictures(60, 0)),
        test=with_unlabelled(pictures(30, 1)),
        num_classes=3,
    )
    assert accuracies(evaluate_transfer({}, partly, protocols=(PAPER, TUNED))) == accuracies(
        evaluate_transfer({}, labelled, protocols=(PAPER, TUNED))
    )


def test_attributes_are_evaluated_and_rows_without_any_are_left_out():
    def attributes(labels):
        rows = torch.stack([(labels == 0).long(), (labels == 2).long()], 1)
        rows[::4] = -1
        rows[1::4, 0] = -1
        return rows

    described = data(attributes, attributes, num_classes=2)
    assert described.label_kind == "attributes"
    records = evaluate_transfer({"a": network()}, described, protocols=(PAPER, TUNED))
    assert records[-1].accuracy > 0.9


def test_progress_tells_what_is_done_of_how_much():
    calls = []
    evaluate_transfer(
        {"a": network()},
        data(),
        random_extractors={"a": network(1)},
        protocols=(PAPER, TUNED),
        progress=lambda *call: calls.append(call),
    )
    assert calls == [
        *(("batch-norm statistics of random a", done, 4) for done in (1, 2, 3, 4)),
        *(("features of train images", done, 4) for done in (1, 2, 3, 4)),
        ("features of test images", 1, 2),
        ("features of test images", 2, 2),
        ("paper's heads", 1, 2),
        ("paper's heads", 2, 2),
        *(("tuned probes", done, 3) for done in (1, 2, 3)),
    ]


def test_a_data_set_without_labels_is_refused_with_its_name():
    unlabelled = data()
    unlabelled.label_kind = "none"
    with pytest.raises(SettingError, match="data must have labels to evaluate transfer on, got 'stripes' without"):
        evaluate_transfer({"a": network()}, unlabelled)
    with pytest.raises(DataError, match="stripes: at least one test image must have a label, got none of 30"):
        evaluate_transfer({"a": network()}, data(test_labels=lambda labels: labels * 0 - 1))


def test_controls_of_nothing_and_nothing_to_evaluate_are_refused():
    with pytest.raises(SettingError, match=r"random_extractors must be named like extractors, got \['b'\]"):
        evaluate_transfer({"a": network()}, data(), random_extractors={"b": network()})
    with pytest.raises(SettingError, match="extractors must hold at least one module, got none"):
        evaluate_transfer({}, data(), raw_pixels=False)


@pytest.mark.parametrize("protocol", [PAPER, TUNED], ids=["paper", "tuned"])
def test_a_diverged_extractor_is_named(protocol):
    broken = network()
    broken[0].weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"train features of 'a \(trained weights\)' must be finite"):
        evaluate_transfer({"a": broken}, data(), protocols=[protocol])


def test_a_random_copy_has_new_weights_that_the_seed_decides_and_leaves_the_original_alone():
    original = network()
    original[1].running_mean.fill_(5)
    state = copy.deepcopy(original.state_dict())
    random_state = torch.get_rng_state()
    first, again, other = (random_copy(original, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in original.state_dict().items())
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, original[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert torch.equal(first[1].running_mean, torch.zeros(3))


def test_a_parents_own_initialisation_has_the_last_word():
    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = nn.Linear(2, 2)

        def reset_parameters(self):
            nn.init.constant_(self.child.weight, 0.25)

    assert torch.equal(random_copy(Parent(), 0).child.weight, torch.full((2, 2), 0.25))


def test_a_layer_that_cannot_be_reset_is_named():
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(SettingError, match="module must be able to reset itself, got '1' with parameters but"):
        random_copy(nn.Sequential(nn.Linear(2, 2), Scale()), 0)
    with pytest.raises(SettingError, match="got 'Scale' with parameters"):
        random_copy(Scale(), 0)


def test_the_summary_sets_each_final_accuracy_beside_its_controls():
    def record(extractor, weights, protocol, epoch, accuracy, seconds=1.0):
        return TransferRecord(extractor, weights, protocol, epoch, accuracy, seconds, None, 8)

    records = [
        record("a", "trained", "paper", 1, 0.5, 1.0),
        record("a", "trained", "paper", 2, 0.6, 2.0),
        record("b", "trained", "paper", 2, 0.7),
        record("a", "random", "paper", 2, 0.4),
        record(RAW_PIXELS, "none", "paper", 2, 0.3),
        record("a", "trained", "tuned", None, 0.9),
    ]
    assert summary(records) == [
        SummaryRow("a", "paper", 0.6, 0.4, 0.3, 2.0),
        SummaryRow("b", "paper", 0.7, None, 0.3, 1.0),
        SummaryRow("a", "tuned", 0.9, None, None, 1.0),
    ]


def test_the_nearest_protocol_records_the_label_of_the_nearest_training_image():
    (train, labels), (test, truth) = pictures(60, 0), pictures(30, 1)
    distances = torch.cdist(test.flatten(1).double(), train.flatten(1).double())
    expected = (labels[distances.argmin(dim=1)] == truth).double().mean().item()
    records = evaluate_transfer(
        {"a": network()}, data(), random_extractors={"a": network(1)}, protocols=(NearestProtocol(),)
    )
    assert [(r.extractor, r.weights, r.protocol, r.epoch, r.strength) for r in records] == [
        ("a", "trained", "nearest", None, None),
        ("a", "random", "nearest", None, None),
        (RAW_PIXELS, "none", "nearest", None, None),
    ]
    assert records[-1].accuracy == expected
    assert summary(records)[0].raw_pixels == expected


def test_the_nearest_protocol_names_a_diverged_extractor():
    broken = network()
    broken[0].weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match=r"features of 'a \(trained weights\)' must be finite"):
        evaluate_transfer({"a": broken}, data(), protocols=[NearestProtocol()])


def test_trained_extractors_can_be_evaluated_with_batch_norm_statistics_of_real_images_on_copies():
    stale = network()
    stale[1].running_mean.fill_(50)
    both = {"a": stale, "b": nn.Sequential(stale, nn.BatchNorm2d(3))}  # which share a batch norm
    state = copy.deepcopy(nn.ModuleDict(both).state_dict())
    options = {"raw_pixels": False, "protocols": (PAPER, TUNED, NearestProtocol())}
    real = evaluate_transfer(both, data(), batch_norm="real", **options)
    assert all(torch.equal(t, state[name]) for name, t in nn.ModuleDict(both).state_dict().items())
    # The random control has always been evaluated with these statistics.
    control = evaluate_transfer(both, data(), random_extractors=both, **options)
    assert [r.accuracy for r in real] == [r.accuracy for r in control if r.weights == "random"]
    assert [r.accuracy for r in real] != [r.accuracy for r in control if r.weights == "trained"]
