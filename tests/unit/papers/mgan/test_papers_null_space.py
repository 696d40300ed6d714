"""The anatomy of features: projections, shares of the variance, probes on the parts, and what is predicted of them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TunedProbe, picture_of
from gan_lightning.figures import Figure
from gan_lightning.interfaces import LinearHead
from gan_lightning.papers.mgan import null_space as anatomy
from gan_lightning.papers.mgan.anatomy_chart import VARIANCE_COLOURS, anatomy_chart
from gan_lightning.papers.mgan.anatomy_record import AnatomyRecord, ImagesAnatomy, evaluate_anatomy
from gan_lightning.papers.mgan.null_space import (
    PartShares,
    VarianceShares,
    head_matrix,
    row_space,
    variance_shares,
)
from gan_lightning.papers.mgan.part_accuracies import PartAccuracies, part_accuracies
from gan_lightning.papers.mgan.theorems import predictions

QUICK = TunedProbe(strengths=(1e-2,))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Row spaces


@pytest.mark.parametrize(("outputs", "features", "rank"), [(1, 8, 1), (5, 8, 5), (5, 8, 3), (8, 8, 8), (9, 4, 2)])
def test_the_row_space_is_that_of_numpys_decomposition(outputs, features, rank):
    matrix = (normal(outputs, rank, dtype=torch.float64) @ normal(rank, features, seed=1, dtype=torch.float64)).numpy()
    space = row_space(torch.tensor(matrix))
    assert space.rank == np.linalg.matrix_rank(matrix) == rank
    assert_close(space.basis @ space.basis.T, torch.eye(rank, dtype=torch.float64))
    assert_close(space.singular_values, torch.tensor(np.linalg.svd(matrix, compute_uv=False)), rtol=1e-9, atol=1e-12)
    f = normal(20, features)
    row, null = space.split(f)
    projector = np.linalg.pinv(matrix, rcond=1e-10) @ matrix  # another way to the same projection
    assert_close(row, torch.tensor(f.double().numpy() @ projector.T), rtol=0, atol=1e-9)
    assert_close(space.coordinates(f) @ space.basis, row)
    assert_close(row + null, f.double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_features_are_their_two_parts_and_the_head_sees_nothing_of_the_second(scale):
    weight, f = normal(10, 128), scale * normal(500, 128, seed=1) + 3 * scale
    for softmax in (False, True):
        matrix = head_matrix(LinearHead(weight, "classification", softmax))
        space = row_space(matrix)
        row, null = space.split(f)
        assert space.rank == 10 - softmax
        assert_close(row + null, f.double(), rtol=0, atol=1e-6)
        assert (null @ matrix.T).abs().max() < 1e-6
        assert (row * null).sum(dim=1).abs().max() < 1e-6 * scale**2
        assert (row.norm() > 0.1 * null.norm()).item()


def test_hand_made_row_spaces():
    first = row_space(torch.tensor([[3.0, 0.0, 0.0], [-6.0, 0.0, 0.0]]))  # rank-deficient
    assert_close(first.split(torch.tensor([[1.0, 2.0, 3.0]]))[0], torch.tensor([[1.0, 0.0, 0.0]]).double())
    diagonal = row_space(torch.tensor([[1.0, 1.0]]))
    assert_close(diagonal.split(torch.tensor([[3.0, 1.0]]))[1], torch.tensor([[1.0, -1.0]]).double())
    nothing = row_space(torch.zeros(2, 3))
    assert nothing.rank == 0
    assert_close(nothing.split(torch.ones(4, 3))[1], torch.ones(4, 3).double())
    everything = row_space(torch.eye(3))
    assert_close(everything.split(torch.ones(4, 3))[1], torch.zeros(4, 3).double())


def test_the_tolerance_decides_the_rank_as_a_share_of_the_largest_singular_value():
    matrix = torch.diag(torch.tensor([10.0, 0.2, 0.0, 1e-13]).double())
    assert [row_space(matrix, tolerance).rank for tolerance in (None, 0.0, 0.01, 0.03)] == [3, 3, 2, 1]
    smallest = torch.diag(torch.tensor([1.0, 8e-16]).double())  # numpy's: 2 ε = 4.4e-16
    assert [row_space(smallest).rank, np.linalg.matrix_rank(smallest.numpy())] == [2, 2]


def test_a_softmax_sees_nothing_of_what_is_the_same_for_all_outputs():
    weight, f = normal(4, 6, dtype=torch.float64), normal(5, 6, seed=1, dtype=torch.float64)
    space = row_space(head_matrix(LinearHead(weight, "classification", softmax=True)))
    plain = row_space(head_matrix(LinearHead(weight, "classification", softmax=False)))
    assert (space.rank, plain.rank) == (3, 4)
    shifted = row_space(head_matrix(LinearHead(weight + normal(6, seed=2), "classification", softmax=True)))
    assert_close(shifted.split(f)[0], space.split(f)[0])
    all_alike = torch.linalg.lstsq(weight, torch.ones(4, 1, dtype=torch.float64)).solution.T  # A of it is the vector 1
    assert_close(weight @ all_alike.T, torch.ones(4, 1, dtype=torch.float64))
    assert_close(space.split(all_alike)[0], torch.zeros(1, 6, dtype=torch.float64), rtol=0, atol=1e-9)
    assert plain.split(all_alike)[0].norm() > 0.1
    row, null = space.split(f)
    of_all, of_row, of_null = (torch.softmax(part @ weight.T, dim=1) for part in (f, row, null))
    assert_close(of_row, of_all)  # Proposition 7: f_null moves all outputs alike
    assert_close(of_null, torch.full((5, 4), 0.25, dtype=torch.float64))
    assert_close(torch.softmax(f @ weight.T + 7.5, dim=1), of_all)


@pytest.mark.parametrize("common", [0.0, 1.0, 1e6])
def test_a_softmaxs_head_has_a_direction_less_however_much_its_rows_have_in_common(common):
    weight = normal(10, 32, dtype=torch.float64) + common * normal(32, seed=1, dtype=torch.float64)
    space = row_space(head_matrix(LinearHead(weight, "classification", softmax=True)))
    assert space.rank == 9
    centred = torch.linalg.svdvals(weight - weight.mean(dim=0))
    assert_close(space.singular_values, centred[:9], rtol=1e-6, atol=0)


def test_a_softmax_of_one_output_has_a_head_of_rank_0():
    assert row_space(head_matrix(LinearHead(normal(1, 32), "classification", softmax=True))).rank == 0


def test_of_two_outputs_before_a_softmax_the_difference_counts():
    weight = torch.tensor([[1.0, 5.0, 2.0], [1.0, 2.0, 6.0]])
    space = row_space(head_matrix(LinearHead(weight, "discrimination", softmax=True)))
    assert space.rank == 1
    assert_close(space.basis.abs(), torch.tensor([[0.0, 0.6, 0.8]]).double())


# Variance


def explicit_trace(vectors: torch.Tensor) -> float:
    return np.var(vectors.double().numpy(), axis=0).sum() if len(vectors) else 0.0


@pytest.mark.parametrize("rows", [anatomy.ROWS, 7])
def test_shares_are_those_of_the_parts_own_variances(monkeypatch, rows):
    monkeypatch.setattr(anatomy, "ROWS", rows)
    classes = torch.arange(90) % 4 * 2  # 0, 2, 4, 6: not all numbers need to occur
    f = normal(90, 6) * torch.tensor([5.0, 1, 1, 1, 2, 0.1]) + classes[:, None] * normal(6, seed=2) + 100
    space = row_space(normal(2, 6, seed=1))
    found, total = variance_shares(space, f, classes), explicit_trace(f)
    assert_close(found.variance, total, rtol=1e-9, atol=0)
    assert found.images == 90
    for part, shares in zip(space.split(f), (found.row, found.null), strict=True):
        members = {label: part[classes == label] for label in (0, 2, 4, 6)}
        within = sum(len(own) * explicit_trace(own) for own in members.values()) / 90
        means = torch.stack([members[int(label)].mean(dim=0) for label in classes])
        assert_close(shares.total, explicit_trace(part) / total, rtol=1e-9, atol=0)
        assert_close(shares.within, within / total, rtol=1e-9, atol=0)
        assert_close(shares.between, explicit_trace(means) / total, rtol=1e-9, atol=0)
        assert_close(shares.within + shares.between, shares.total)  # the law of total variance
    assert_close(found.row.total + found.null.total, 1.0)
    of_row = space.split(f)[0]
    for label, share in found.row_within_class.items():
        own = classes == label
        assert_close(share, explicit_trace(of_row[own]) / explicit_trace(f[own]))
    assert list(found.row_within_class) == [0, 2, 4, 6]
    without = variance_shares(space, f)
    assert_close((without.variance, without.row.total), (found.variance, found.row.total))
    assert (without.row.within, without.null.between, without.row_within_class) == (None, None, None)
    assert (without.row_share("within"), without.between_share("row")) == (None, None)


def test_of_a_random_head_the_share_of_the_variance_is_rank_by_features():
    f = normal(300, 40) * torch.logspace(0, -2, 40)
    shares = [variance_shares(row_space(normal(4, 40, seed=seed)), f).row.total for seed in range(150)]
    assert_close(np.mean(shares), 4 / 40, rtol=0.15, atol=0)


def test_the_share_between_classes_is_0_where_means_differ_by_chance_and_1_where_nothing_else_does():
    space, classes = row_space(torch.eye(2, 4)), torch.arange(200) % 20
    chance = [variance_shares(space, normal(200, 4, seed=seed), classes).between_share("row") for seed in range(60)]
    assert abs(np.mean(chance)) < 0.01  # unadjusted: 19 / 199
    told = torch.cat([normal(20, 2)[classes], normal(200, 2, seed=1)], dim=1)
    assert_close(variance_shares(space, told, classes).between_share("row"), 1.0)
    assert abs(variance_shares(space, told, classes).between_share("null")) < 0.1
    assert variance_shares(space, told[:20], classes[:20]).between_share("row") is None  # each a class of its own


def test_the_row_spaces_share_of_the_variance_between_classes_leaves_out_what_chance_makes_of_the_means():
    space, classes = row_space(torch.eye(2, 100)), torch.arange(300) % 10
    told = normal(300, 100, seed=1) + torch.cat([normal(10, 2), torch.zeros(10, 98)], dim=1)[classes]
    found = variance_shares(space, told, classes)
    assert_close(found.row_share("between"), 1.0, atol=0.15, rtol=0)
    assert found.row.between / (found.row.between + found.null.between) < 0.6  # 98 dimensions of chance
    assert found.row_share("within") == found.row.within / (found.row.within + found.null.within)
    neither = [variance_shares(space, normal(300, 100, seed=seed), classes).row_share("between") for seed in range(9)]
    assert all(share is None or 0 <= share <= 1 for share in neither)


@pytest.mark.parametrize("features", [torch.full((5, 3), 0.1), torch.rand(1, 3), 1000 + 1e-4 * torch.rand(5, 3)])
def test_images_that_do_not_vary_have_no_shares(features):
    assert variance_shares(row_space(torch.ones(1, 3)), features, torch.zeros(len(features), dtype=torch.int64)) is None


# Probes


def probed(space, train, test, **settings):
    labels = [torch.arange(len(features)) % 3 for features in (train, test)]
    pairs = train, labels[0], test, labels[1]
    return part_accuracies(space, *pairs, num_classes=3, probe=QUICK, **settings)


def told_by(columns: list[int], count: int, seed: int) -> torch.Tensor:
    """Return eight noisy features, of which some tell three classes."""
    f = normal(count, 8, seed=seed)
    f[:, columns] += 8 * torch.eye(3, len(columns))[torch.arange(count) % 3] + 4
    return f


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("part", ["row", "null"])
def test_a_probe_finds_the_classes_in_the_part_that_has_them(part, mixed):
    turn = torch.linalg.qr(normal(8, 8, seed=5))[0] if mixed else torch.eye(8)
    space = row_space(torch.eye(3, 8) @ turn)
    columns = [0, 1, 2] if part == "row" else [3, 4, 5]
    found = probed(space, told_by(columns, 600, 0) @ turn, told_by(columns, 300, 1) @ turn)
    assert found.whole > 0.98
    assert getattr(found, part) > 0.98
    assert getattr(found, "null" if part == "row" else "row") < 0.43
    assert_close(found.chance, 1 / 3)
    assert found.images == 300


def test_rounding_errors_of_what_was_projected_away_are_no_features():
    turn = torch.linalg.qr(normal(4, 4, seed=3))[0]
    labels = torch.arange(400) % 3
    weights = torch.cat([turn[:2], 1e-9 * normal(2, 4)])  # rows 3 and 4: too small to count
    space = row_space(weights, tolerance=1e-6)
    f = (100 * normal(3, 2, seed=1)[labels] + normal(400, 2)) @ turn[:2]  # all of it in the row space
    found = part_accuracies(
        space, f[:300], labels[:300], f[300:], labels[300:], num_classes=3, probe=QUICK, name="made up"
    )
    assert found.row == found.whole == 1.0
    assert found.null == pytest.approx(0.33, abs=0.02)  # one class for all: there is nothing to tell them by


def test_a_head_of_rank_0_leaves_nothing_for_a_probe_on_f_row():
    space = row_space(torch.zeros(1, 8))
    found = probed(space, told_by([0, 1, 2], 300, 0), told_by([0, 1, 2], 150, 1))
    assert found.row == found.chance
    assert found.null == found.whole > 0.98


# Extractors


def labelled(count: int, seed: int, labels: torch.Tensor | None = None) -> tuple[dict, torch.Tensor]:
    """Return features of two extractors and their labels."""
    f = told_by([0, 1, 2], count, seed) / 20
    return {"one": f, "other": f + 1}, torch.arange(count) % 3 if labels is None else labels


def measured(heads=None, **settings) -> list[AnatomyRecord]:
    heads = heads or {"one": LinearHead(torch.eye(3, 8), "classification", softmax=True)}
    real = {"train": labelled(200, 0), "test": labelled(100, 1)}
    generated = {"train": labelled(150, 2), "test": labelled(90, 3)}
    given = {"real": real, "generated": generated, "num_classes": 3, "generators": 3} | settings
    return evaluate_anatomy(heads, **given)


def test_the_anatomy_of_an_extractor_is_that_of_its_features():
    calls = []
    (record,) = measured(probe=QUICK, draws=2, seed=4, progress=lambda *call: calls.append(call))
    space = row_space(head_matrix(LinearHead(torch.eye(3, 8), "classification", softmax=True)))
    assert (record.extractor, record.weights, record.task) == ("one", "trained", "classification")
    assert (record.features, record.outputs, record.rank) == (8, 3, 2)
    for found, (train, test) in ((record.real, ((200, 0), (100, 1))), (record.generated, ((150, 2), (90, 3)))):
        (of_train, train_labels), (f, labels) = labelled(*train), labelled(*test)
        assert found.images == test[0]
        assert found.shares == variance_shares(space, f["one"], labels)
        expected = part_accuracies(
            space, of_train["one"], train_labels, f["one"], labels, num_classes=3, probe=QUICK, draws=2, seed=4
        )
        assert found.accuracy == expected
        figures = found.figures()
        assert (figures["row_share"], figures["accuracy_null"]) == (found.shares.row.total, expected.null)
        assert figures["between_share_of_row"] == found.shares.between_share("row")
        assert len(figures) == 11
    assert len(calls) == 3 * (3 + 2 * 2) + 1  # each fit, and the extractor
    json.dumps(dataclasses.asdict(record))


def test_without_probes_there_are_shares_alone_and_the_training_images_are_not_looked_at():
    (record,) = measured(real={"test": labelled(100, 1)}, generated={"test": labelled(90, 3)})
    assert record.real.accuracy is record.generated.accuracy is None
    assert record.real.shares.row.between > 0


def test_images_without_a_class_are_left_out_where_others_have_one():
    labels = torch.arange(100) % 3
    labels[::2] = -1
    (record,) = measured(real={"test": labelled(100, 1, labels)}, generated=None)
    kept = labels >= 0
    space = row_space(head_matrix(LinearHead(torch.eye(3, 8), "classification", softmax=True)))
    assert record.real.shares == variance_shares(space, labelled(100, 1)[0]["one"][kept], labels[kept])
    assert record.real.images == 50
    assert record.generated is None


@pytest.mark.parametrize("num_classes", [0, 3])
def test_images_without_any_class_have_shares_of_all_variance_alone(num_classes):
    none = torch.full((100,), -1)
    splits = {split: labelled(100, 1, none) for split in ("train", "test")}
    (record,) = measured(real=splits, num_classes=num_classes, probe=QUICK, generators=1)
    for found in (record.real, record.generated):
        assert found.shares.row.within is None
        assert found.accuracy is None
        assert found.figures() == {"row_share": found.shares.row.total}
    assert (record.real.images, record.generated.images) == (100, 90)


def test_attributes_are_probed_but_are_no_classes():
    splits = {
        split: labelled(count, seed, nn.functional.one_hot(torch.arange(count) % 3)[:, :2])
        for split, count, seed in (("train", 200, 0), ("test", 100, 1))
    }
    (record,) = measured(real=splits, generated=None, num_classes=2, probe=QUICK)
    assert record.real.shares.row.within is None
    assert record.real.accuracy.whole > 0.95
    assert list(record.real.figures()) == ["row_share", "accuracy_whole", "accuracy_row", "accuracy_null"]


# What the paper predicts


def record(task: str, weights: str = "trained", *, row: float = 0.1, accuracies=None, generated=None) -> AnatomyRecord:
    def of(found) -> ImagesAnatomy:
        share, of_row, of_null, accuracy = found
        shares = VarianceShares(
            100, 1.0,
            PartShares(share, share * (1 - of_row), share * of_row),
            PartShares(1 - share, (1 - share) * (1 - of_null), (1 - share) * of_null), {0: None, 1: None},
        )  # fmt: skip
        return ImagesAnatomy(100, shares, accuracy and PartAccuracies(*accuracy, 0.5, 100))

    real = of((row, 0.5, 0.5, accuracies))
    return AnatomyRecord("it", weights, task, 10, 2, 1, real, generated and of(generated), 0.0)


def held(*records: AnatomyRecord) -> list[bool | None]:
    return [each.held for each in predictions(records)]


def test_theorem_1_is_judged_by_a_random_subspace_and_by_the_whole_features():
    assert held(record("discrimination", row=0.09)) == [True]
    assert held(record("discrimination", row=0.11)) == [False]
    # 0.9 of 100 images: two standard errors of a difference are 0.085
    assert held(record("discrimination", accuracies=(0.9, 0.2, 0.85)))[1] is True
    assert held(record("discrimination", accuracies=(0.9, 0.2, 0.75)))[1] is False
    found = predictions([record("discrimination", row=0.3), record("discrimination", "random", row=0.2)])
    (one,) = found
    assert (one.theorem, one.extractor, one.value, one.beside, one.random_weights) == ("1", "it", 0.3, 0.1, 0.2)


def test_theorems_2_and_3_are_judged_by_the_classifiers_own_classes():
    assert held(record("classification", generated=(0.1, 0.6, 0.2, None))) == [True]
    assert held(record("classification", generated=(0.1, 0.2, 0.6, None))) == [False]
    # two classes of 100 images: twice the deviation of a share by chance is 0.029
    assert held(record("classification", generated=(0.1, 0.22, 0.2, None))) == [False]
    assert held(record("classification", generated=(0.1, 0.24, 0.2, None))) == [True]
    assert held(record("classification", generated=(0.1, 0.6, 0.2, (0.9, 0.9, 0.5)))) == [True, True]
    assert held(record("classification", generated=(0.1, 0.6, 0.2, (0.9, 0.55, 0.5)))) == [True, False]  # by chance
    assert held(record("classification")) == []
    random = record("classification", "random", generated=(0.1, 0.3, 0.2, (0.9, 0.7, 0.8)))
    trained = record("classification", generated=(0.1, 0.6, 0.2, (0.9, 0.9, 0.5)))
    assert predictions([trained, random])[1].random_weights == 0.7


def test_nothing_is_predicted_of_encoders_and_of_random_weights():
    assert predictions([record("encoding"), record("discrimination", "random")]) == []


def test_a_prediction_about_images_that_do_not_vary_is_neither_held_nor_not():
    still = dataclasses.replace(record("discrimination"), real=ImagesAnatomy(5, None, None))
    assert held(still) == [None]


# Bad input


def test_a_head_of_another_width_than_the_features_is_refused():
    with pytest.raises(SettingError, match=r"a column for each of the 8 features, got 5; give the weight of the layer"):
        measured({"one": LinearHead(torch.ones(1, 5), "discrimination")})


def test_a_head_without_features_is_refused():
    with pytest.raises(SettingError, match=r"named like the features .* got \['ones'\] beside \['one', 'other'\]"):
        measured({"ones": LinearHead(torch.ones(1, 8), "discrimination")})


def test_probes_without_training_images_are_refused():
    with pytest.raises(SettingError, match=r"must hold a 'train' split for probes"):
        measured(real={"test": labelled(20, 0)}, probe=QUICK)


def test_features_and_heads_that_are_not_finite_are_refused():
    weight = torch.ones(1, 8)
    weight[0, 3] = torch.nan
    with pytest.raises(DataError, match=r"weights of a head must be finite, got NaN"):
        measured({"one": LinearHead(weight, "discrimination")})
    broken = labelled(20, 0)
    broken[0]["one"][3] = torch.inf
    with pytest.raises(DataError, match=r"must be finite, got NaN or infinity"):
        measured(real={"test": broken}, generated=None)


@pytest.mark.parametrize("tolerance", [-0.1, 1.0])
def test_a_tolerance_outside_of_0_and_1_is_refused(tolerance):
    with pytest.raises(SettingError, match=r"tolerance must be at least 0 and below 1"):
        row_space(torch.eye(2), tolerance)


def test_classes_that_do_not_belong_to_the_features_are_refused():
    with pytest.raises(SettingError, match=r"one entry for each of 5 images, got 4"):
        variance_shares(row_space(torch.eye(2)), torch.rand(5, 2), torch.zeros(4, dtype=torch.int64))


# The chart


def figures_of(kind: str, weights: str = "trained", epoch: int | None = None, **values: float) -> list[Figure]:
    about = {"measurement": "anatomy", "subject": "it", "weights": weights, "condition": kind, "epoch": epoch}
    return [Figure(metric=metric, value=value, **about) for metric, value in values.items()]


CHANCE = Figure(measurement="anatomy", subject="it", metric="rank_share", value=0.1)
SHARED = {"row_share": 0.5, "between_share_of_row": 0.2, "between_share_of_null": 0.4}


def widths(axes) -> list[list[float]]:
    """Return the widths of the bars, of each colour in turn."""
    return [[bar.get_width() for bar in bars] for bars in axes.containers]


def test_the_bars_have_the_lengths_of_their_shares():
    chart = anatomy_chart([CHANCE, *figures_of("real", **SHARED), *figures_of("generated", other=1.0)])
    (axes,) = chart.axes
    np.testing.assert_allclose(widths(axes), [[0.1, 0], [0.4, 0], [0.2, 0], [0.3, 0]])
    assert [bars[0].get_x() for bars in axes.containers] == pytest.approx([0, 0.1, 0.5, 0.7])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["real", "generated"]
    assert [text.get_text() for text in axes.texts] == ["0.500", "no variance"]
    assert axes.lines[0].get_xdata() == [0.1, 0.1]
    assert axes.get_title(loc="left") == "it: variance between images; rank / features = 0.1"
    legend = [text.get_text() for text in chart.legends[0].get_texts()]
    assert legend == [*VARIANCE_COLOURS, "rank / features, as of a random head"]
    page = 255 * picture_of(chart)
    dark, pale = (torch.tensor(colour)[:, None, None] for colour in ((20, 60, 140), (250, 215, 165)))
    seen = [((page - colour).abs().amax(dim=0) < 2).sum() for colour in (dark, pale)]
    assert 2 < seen[1] / seen[0] < 3.5  # 0.3 of the bar and 0.1, but for the legend and the line


def test_accuracies_and_curves_are_drawn_where_there_are_any():
    plain = [CHANCE, *figures_of("real", **SHARED)]
    probed = {"accuracy_whole": 0.9, "accuracy_row": 0.3, "accuracy_null": 0.8, "chance": 0.5}
    both = [CHANCE, *figures_of("real", **SHARED, **probed), *figures_of("real", "random", **SHARED, **probed)]
    history = [
        each
        for epoch in (5, 1, 2)
        for kind in ("real", "generated")
        for each in figures_of(kind, epoch=epoch, row_share=0.01 * epoch, **probed)
    ]
    assert len(anatomy_chart(plain).axes) == 1
    _, accuracies = anatomy_chart(both).axes
    assert widths(accuracies) == [[0.9, 0.3, 0.8] * 2]
    names = [label.get_text() for label in accuracies.get_yticklabels()]
    assert names == [f"real, {of}{part}" for of in ("", "random, ") for part in ("f", "f_row", "f_null")]
    assert accuracies.lines[0].get_xdata() == [0.5, 0.5]
    chart = anatomy_chart(both, history)
    _, _, shares, of_real, of_generated = chart.axes
    for line in shares.lines[:2]:  # whatever the order of the history
        np.testing.assert_allclose(line.get_xydata(), [[1, 0.01], [2, 0.02], [5, 0.05]])
    assert shares.lines[2].get_ydata() == [0.1, 0.1]
    assert [text.get_text() for text in shares.texts] == ["real 0.05", "generated 0.05"]
    assert [axes.get_title(loc="left") for axes in (of_real, of_generated)] == [
        "accuracy, real images", "accuracy, generated images",
    ]  # fmt: skip
    assert [line.get_ydata().tolist() for line in of_real.lines] == [[0.9] * 3, [0.3] * 3, [0.8] * 3]
    assert len(anatomy_chart(plain, figures_of("real", epoch=5, **SHARED)).axes) == 1  # one epoch is no curve
