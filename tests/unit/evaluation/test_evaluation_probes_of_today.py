"""Weighted neighbours, few shots, and linear heads with many rates."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.probes import FewShotProbe, ManyRatesProbe, WeightedNeighboursProbe
from gan_lightning.evaluation.probes.few_shot import draw_of_each_class
from gan_lightning.evaluation.probes.many_rates import train_heads
from gan_lightning.evaluation.probes.weighted import class_votes

CLASSES = 3
PROBES = [WeightedNeighboursProbe(), FewShotProbe(shots=(2, 5), draws=3), ManyRatesProbe(learning_rates=(0.01, 0.1))]


def blobs(count=90, width=5, seed=0, spread=1.5):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(9))
    return centres[labels] + spread * torch.randn(count, width, generator=rng), labels


TRAIN, TEST = blobs(), blobs(60, seed=1)


def judged(probe, seed=0, **more):
    sets = {"f": TRAIN[0], **more}
    tests = {"f": TEST[0], **dict.fromkeys(more, TEST[0] * 2)}
    return probe.judge(
        sets, TRAIN[1], tests, TEST[1], num_classes=CLASSES, seed=seed, report=lambda *_: None
    )  # fmt: skip


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_one_accuracy_is_the_reported_one_of_a_judgement(probe):
    found = judged(probe)["f"]
    alone = probe.accuracy(*TRAIN, *TEST, num_classes=CLASSES, seed=0, name="f")
    assert found.accuracy == alone
    assert 0.4 < alone < 1  # above chance, and not trivial


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_features_that_are_not_finite_are_refused(probe):
    broken = TRAIN[0].clone()
    broken[3, 1] = torch.nan
    with pytest.raises(DataError, match="'mine' must be finite"):
        probe.accuracy(broken, TRAIN[1], *TEST, num_classes=CLASSES, seed=0, name="mine")


@pytest.mark.parametrize(("count", "temperature"), [(1, 0.07), (10, 0.07), (20, 0.5), (90, 0.07)])
def test_the_vote_of_neighbours_is_scikit_learns_with_the_weights_of_the_formula(count, temperature):
    probe = WeightedNeighboursProbe(neighbours=(count,), reported=count, temperature=temperature)
    theirs = KNeighborsClassifier(
        count, metric="cosine", algorithm="brute", weights=lambda distances: np.exp((1 - distances) / temperature)
    ).fit(TRAIN[0].numpy(), TRAIN[1].numpy())
    ours = probe.accuracy(*TRAIN, *TEST, num_classes=CLASSES, seed=0, name="f")
    assert ours == pytest.approx(theirs.score(TEST[0].numpy(), TEST[1].numpy()))


def test_the_curve_of_neighbours_has_each_number_and_all_images_vote_where_there_are_fewer():
    found = judged(WeightedNeighboursProbe(neighbours=(90, 20, 1000), reported=20, temperature=10.0))["f"]
    assert list(found.curve) == [90, 20, 1000]
    assert found.axis == "neighbours"
    assert found.curve[1000] == found.curve[90] != found.curve[20]


def test_an_unknown_attribute_has_no_vote():
    labels = torch.tensor([[[1, -1], [0, 1], [0, -1]]])
    votes = class_votes(torch.tensor([[0.5, 0.3, 0.1]]), labels, 2)
    torch.testing.assert_close(votes, torch.tensor([[0.1, 0.3]]))


def test_attributes_are_voted_on():
    train, labels = blobs()
    attributes = F.one_hot(labels, CLASSES)
    test, test_labels = TEST
    probe = WeightedNeighboursProbe(neighbours=(1,), reported=1)
    by_hand = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T
    expected = (attributes[by_hand.argmax(dim=1)] == F.one_hot(test_labels, CLASSES)).double().mean().item()
    found = probe.accuracy(
        train, attributes, test, F.one_hot(test_labels, CLASSES), num_classes=CLASSES, seed=0, name="f"
    )
    assert found == pytest.approx(expected)


def test_a_draw_of_few_shots_is_scikit_learns_regression_on_features_of_length_one():
    probe = FewShotProbe(shots=(4,), reported=4, draws=3, inverse_penalty=0.7)
    normal = F.normalize(TRAIN[0], dim=1), F.normalize(TEST[0], dim=1)
    theirs = []
    for places in draw_of_each_class(TRAIN[1], 4, 3, seed=8):
        fitted = LogisticRegression(C=0.7, tol=1e-6).fit(normal[0][places].numpy(), TRAIN[1][places].numpy())
        theirs.append(fitted.score(normal[1].numpy(), TEST[1].numpy()))
    found = judged(probe, seed=8)["f"]
    assert found.accuracy == pytest.approx(np.mean(theirs), abs=0.5 / len(TEST[1]))
    expected = stats.t.interval(0.95, 2, np.mean(theirs), stats.sem(theirs))
    assert found.details["intervals"]["4"] == pytest.approx(expected, abs=0.02)


def test_draws_have_as_many_images_of_each_class_and_differ():
    drawn = draw_of_each_class(torch.tensor([2, 0, 1] * 8 + [-1]), 5, 4, seed=0)
    labels = torch.tensor([2, 0, 1] * 8 + [-1])[drawn]
    assert (torch.stack([(labels == each).sum(dim=1) for each in range(3)]) == 5).all()
    assert all(len(set(draw.tolist())) == 15 for draw in drawn)
    assert not torch.equal(drawn[0], drawn[1])


def test_every_set_of_features_gets_the_same_draws():
    found = judged(FewShotProbe(shots=(3,), reported=3, draws=4), twice=TRAIN[0] * 2)
    assert found["f"].accuracy == found["twice"].accuracy


def test_fewer_images_of_a_class_than_shots_are_refused_before_anything_is_fitted():
    labels = torch.tensor([0] * 9 + [1] * 3 + [2] * 12 + [-1] * 4)
    with pytest.raises(
        SettingError,
        match=r"shots must be at most the number of labelled training images of each class, got 10\. Too few have: "
        r"cat \(9\), dog \(3\)\. Use fewer shots",
    ):
        FewShotProbe().check(labels, ["cat", "dog", "cow"])
    with pytest.raises(SettingError, match="shots must be of classes, one per image, got 'attributes'"):
        FewShotProbe().check(torch.ones(4, 3, dtype=torch.long), ["a", "b", "c"])


def test_heads_of_many_rates_are_torchs_own_of_each_rate():
    protocol = ManyRatesProbe(batch_size=32, epochs=3)
    heads = train_heads(*TRAIN, [0.02, 1.0], CLASSES, protocol, seed=3)
    for place, rate in enumerate((0.02, 1.0)):
        rng = torch.Generator().manual_seed(3)
        linear = nn.Linear(5, CLASSES)
        with torch.no_grad():
            linear.weight.copy_(torch.normal(0.0, 0.01, (CLASSES, 5), generator=rng))
            linear.bias.zero_()
        optimizer = torch.optim.SGD(linear.parameters(), rate * 32 / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
        for _ in range(3):
            for rows in torch.randperm(90, generator=rng).split(32):
                optimizer.zero_grad()
                F.cross_entropy(linear(TRAIN[0][rows]), TRAIN[1][rows]).backward()
                optimizer.step()
                schedule.step()
        torch.testing.assert_close(heads.weight[place], linear.weight.detach())
        torch.testing.assert_close(heads.bias[place], linear.bias.detach())


def test_the_rate_is_chosen_without_the_test_split_and_a_diverging_one_is_not_chosen():
    probe = ManyRatesProbe(learning_rates=(1e-6, 1.0, 1e30), batch_size=16)
    found = judged(probe)["f"]
    shuffled = probe.judge(
        {"f": TRAIN[0]}, TRAIN[1], {"f": TEST[0]}, TEST[1].flip(0), num_classes=CLASSES, seed=0, report=lambda *_: None
    )
    assert found.details == shuffled["f"].details == {"learning_rate": 1.0}
    assert found.accuracy > 0.5


@pytest.mark.parametrize(
    ("probe", "settings", "message"),
    [
        (WeightedNeighboursProbe, {"neighbours": ()}, r"neighbours must hold at least one number"),
        (WeightedNeighboursProbe, {"neighbours": (20, 20)}, r"neighbours must hold at least one number, each once"),
        (WeightedNeighboursProbe, {"neighbours": (0, 20)}, r"neighbours must be at least 1, got 0"),
        (WeightedNeighboursProbe, {"reported": 5}, r"reported must be one of neighbours, 10, 20, 100, 200, got 5"),
        (WeightedNeighboursProbe, {"temperature": 0.0}, r"temperature must be above 0, got 0\.0"),
        (FewShotProbe, {"shots": ()}, r"shots must hold at least one number"),
        (FewShotProbe, {"shots": (0, 5)}, r"shots must be at least 1, got 0"),
        (FewShotProbe, {"reported": 2}, r"reported must be one of shots, 1, 5, 10, got 2"),
        (FewShotProbe, {"draws": 1}, r"draws must be at least 2, got 1"),
        (FewShotProbe, {"inverse_penalty": 0.0}, r"inverse_penalty must be above 0"),
        (FewShotProbe, {"max_iterations": 0}, r"max_iterations must be at least 1"),
        (FewShotProbe, {"confidence": 1.0}, r"confidence must be between 0 and 1, got 1\.0"),
        (ManyRatesProbe, {"learning_rates": ()}, r"learning_rates must hold at least one value"),
        (ManyRatesProbe, {"learning_rates": (0.1, -1.0)}, r"learning_rates must be above 0, got -1\.0"),
        (ManyRatesProbe, {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        (ManyRatesProbe, {"batch_size": 0}, r"batch_size must be at least 1"),
        (ManyRatesProbe, {"epochs": 0}, r"epochs must be at least 1"),
        (ManyRatesProbe, {"held_out": 0.0}, r"held_out must be between 0 and 1"),
    ],
)
def test_unusable_settings_are_refused(probe, settings, message):
    with pytest.raises(SettingError, match=message):
        probe(**settings)


def test_one_training_image_is_too_few_for_a_choice_of_the_rate():
    labels = F.one_hot(TEST[1], CLASSES)
    with pytest.raises(DataError, match="many_rates needs at least 2 labelled training images, got 1"):
        ManyRatesProbe().accuracy(TRAIN[0][:1], labels[:1], TEST[0], labels, num_classes=CLASSES, seed=0, name="f")
