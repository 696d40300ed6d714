"""What an encoder and a generator are good for, on a pair that is known exactly and two classes easily told apart."""

import itertools
import logging
import re
import sys
from math import sqrt

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.codes import neighbourhoods, spread
from gan_lightning.measurements.embedding import Embedding, agreement, colour, embeddable, embedded, scatter
from gan_lightning.measurements.feeding import IterativeFeeding, fed
from gan_lightning.measurements.measurement import Outcome
from gan_lightning.measurements.similarity import Similarity, pair_distances, roc_auc
from gan_lightning.measurements.synthetic_data import SyntheticData, balanced, classifier, sources
from gan_lightning.measurements.variations import Variations, quality

QUICK = (
    IterativeFeeding(rounds=2, images=3, measured=6),
    Similarity(images=8, copies=2, pairs=1),
    Variations(noise=(0.3,), copies=2, images=2, measured=6),
    Embedding(images=20, perplexity=5.0),
    SyntheticData(budgets=(6,), copies=2, steps=20, batch_size=4, seeds=1, width=2),
)
EACH = pytest.mark.parametrize("measurement", QUICK, ids=[each.name for each in QUICK])


class Known(nn.Module):
    """Codes are an image's 16 pixels; G adds `drift` to each of them. It notes what it decodes."""

    def __init__(self, drift: float = 0.0) -> None:
        super().__init__()
        self.drift = drift
        self.decoded: list[torch.Tensor] = []

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decoded.append(latents)
        return latents.unflatten(1, (1, 4, 4)) + self.drift

    def sample_latents(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return torch.randn(count, 16, generator=rng)


class Smaller(Known):
    """As `Known` for images of 8x8, of which G makes 4x4."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] == 8:
            images = nn.functional.interpolate(images, (4, 4), mode="bilinear", antialias=True)
        return images.flatten(1)


class Normalised(Known):
    """As `Known`, with batch norm in G whose statistics of training are wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False)
        self.norm.running_mean.fill_(5.0)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.norm(super().decode(latents))


def stripes(count: int, size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images that are bright above (class 0) or below (class 1), in turn."""
    labels = torch.arange(count) % 2
    images = 0.1 * torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    images[labels == 0, :, : size // 2] += 0.7
    images[labels == 1, :, size // 2 :] += 0.7
    return images.clamp(-1, 1), labels


def stored(size: int = 4, count: int = 40, num_classes: int = 2, labels: torch.Tensor | None = None) -> TensorImages:
    images, known = stripes(count, size)
    test = stripes(30, size, seed=1)
    train = images, known if labels is None else labels
    return TensorImages("stripes", train=train, test=test, num_classes=num_classes, batch_size=7)


def bench(model: nn.Module | None = None, data: object = None, **settings) -> Bench:
    return Bench.of_model(model or Known(), stored() if data is None else data, **settings)


def values(outcome: Outcome) -> dict[str, float]:
    return {figure.name: figure.value for figure in outcome.figures if not figure.is_point}


# Feeding


def test_feeding_is_g_of_e_again_and_again_and_the_distances_are_those_moved():
    here = bench(Known(drift=0.1))
    outcome = here.measure(IterativeFeeding(rounds=3, images=5, measured=8))
    found = values(outcome)
    assert found["feeding/moved"] == pytest.approx(0.4)
    assert found["feeding/from_start"] == pytest.approx(1.2)
    curves = {metric: [] for metric in ("moved", "from_start")}
    for figure in outcome.figures:
        assert (figure.split, figure.images) == ("test", 8)
        if figure.is_point:
            curves[figure.metric].append((figure.axis, figure.at, figure.value))
    for metric, expected in (("moved", [0.4] * 3), ("from_start", [0.4, 0.8, 1.2])):
        assert [point[:2] for point in curves[metric]] == [("round", 1), ("round", 2), ("round", 3)]
        assert_close([point[2] for point in curves[metric]], expected)
    images = here.images("test", 8)[0].flatten(1)
    between = [(images[i] - images[j]).norm().item() for i, j in itertools.permutations(range(8), 2)]
    assert min(between) < found["feeding/to_another_image"] < max(between)
    assert len(outcome.details["moved_of_each_drawn_image"]) == 5
    # Five rows of four images of 4x4, a pixel around each.
    assert outcome.pictures[""].shape == (3, 5 * 5 + 1, 4 * 5 + 1)
    first, last = (outcome.pictures[""][0, 1:5, place : place + 4] for place in (1, 3 * 5 + 1))
    assert_close(last, (first + 0.15).clamp(max=1))  # 0.3 in [-1, 1]


def test_images_larger_than_the_generators_are_encoded_whole_and_compared_at_its_size():
    here = bench(Smaller(drift=0.1), stored(size=8))
    strips = fed(here, here.images("test", 6)[0], rounds=2)
    assert [strip.shape for strip in strips] == [(6, 1, 4, 4)] * 3
    assert_close(strips[1], strips[0] + 0.1)
    for measurement in QUICK:
        assert here.measure(measurement).pictures


# Similarity


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order():
    distances, same = torch.tensor([1.0, 2.0, 3.0, 2.0]), torch.tensor([True, False, False, True])
    # of 2 x 2 comparisons: 1 < 2, 1 < 3, 2 = 2 (half), 2 < 3
    assert roc_auc(distances, same) == 3.5 / 4


def test_distances_of_pairs_are_those_of_all_pairs_at_once():
    vectors = torch.randn(150, 5, generator=torch.Generator().manual_seed(0))
    told = []
    found = pair_distances(bench(progress=lambda *about: told.append(about)), vectors, "pairs")
    assert_close(found, torch.pdist(vectors))
    assert told == [("pairs", 64, 150), ("pairs", 128, 150), ("pairs", 150, 150)]


def test_pairs_of_one_class_are_nearer_by_every_measure_where_classes_lie_apart():
    outcome = bench().measure(Similarity(images=12, copies=3, noise=0.1, pairs=2))
    spaces = ("codes", "centred_codes_by_angle", "neighbourhoods", "pixels")
    assert values(outcome) == {f"similarity/{space}/roc_auc": 1.0 for space in spaces}
    assert [figure.weights for figure in outcome.figures] == ["trained"] * 3 + ["none"]
    assert (outcome.details["pairs_of_one_class"], outcome.details["pairs_of_two_classes"]) == (30, 36)
    classes = [pair["classes"] for pair in outcome.details["drawn"]]
    assert [first == second for first, second in classes] == [True, True, False, False]
    # Eight rows, for two images of four pairs: an image and three neighbours.
    assert outcome.pictures[""].shape == (3, 8 * 5 + 1, 4 * 5 + 1)


def test_the_drawn_pairs_have_the_distances_of_their_images():
    here = bench()
    outcome = here.measure(Similarity(images=6, copies=1, noise=0.0, pairs=1))
    images = here.images("test", 6)[0].flatten(1)
    known = {round((images[i] - images[j]).norm().item(), 4) for i, j in itertools.combinations(range(6), 2)}
    for pair in outcome.details["drawn"]:
        found = {round(pair["distances"][name], 4) for name in ("codes", "neighbourhoods", "pixels")}
        assert len(found) == 1
        assert found < known


# Variations


def test_diversity_distance_and_fidelity_are_what_their_names_say():
    images = torch.tensor([0.0, 10.0, 20.0]).reshape(3, 1, 1, 1)
    varied = torch.tensor([[1.0, 3.0], [9.0, 14.0], [20.0, 2.0]]).reshape(3, 2, 1, 1, 1)
    found = quality(varied, images, seed=0)
    assert found["diversity"] == pytest.approx((2 + 5 + 18) / 3)
    assert found["distance"] == pytest.approx((1 + 3 + 1 + 4 + 0 + 18) / 6)
    assert found["fidelity"] == 5 / 6  # 2 is nearer to 0 than to 20
    assert found["distance_to_another_image"] > found["distance"]


def test_more_noise_is_more_diverse_and_less_faithful_and_none_is_the_reconstruction():
    outcome = bench().measure(Variations(noise=(0.0, 0.3, 3.0), copies=4, images=2, measured=10))
    found = values(outcome)
    assert {figure.images for figure in outcome.figures} == {10}
    none, some, much = (
        {metric: found[f"variations/noise-{noise}/{metric}"] for metric in ("diversity", "distance", "fidelity")}
        for noise in ("0", "0.3", "3")
    )
    assert none == {"diversity": 0, "distance": 0, "fidelity": 1}
    assert 0 < some["diversity"] < much["diversity"]
    assert 1 >= some["fidelity"] > much["fidelity"]
    assert set(outcome.pictures) == {"noise-0", "noise-0.3", "noise-3"}
    # Two rows of an image, its reconstruction and four variations.
    assert outcome.pictures["noise-0"].shape == (3, 2 * 5 + 1, 6 * 5 + 1)


def test_noise_is_normal_and_in_units_of_the_codes_spread():
    codes = torch.tensor([[1.0, 0.0], [-1.0, 6.0]])
    assert spread(codes) == pytest.approx(sqrt((1 + 9) / 2))
    model = Known()
    model.decode = lambda latents: latents.reshape(-1, 1, 1, 2)
    made = neighbourhoods(bench(model), codes, 20_000, 0.5, torch.Generator().manual_seed(0)).flatten(2)
    assert made.shape == (2, 20_000, 2)
    assert_close(made.mean(dim=1), codes, rtol=0, atol=0.02)
    assert_close(made.std(dim=1), torch.full((2, 2), 0.5), rtol=0.03, atol=0)


# Embedding


def test_two_classes_that_lie_apart_are_neighbours_among_themselves():
    here = bench()
    outcome = here.measure(Embedding(images=30, perplexity=5.0))
    found = values(outcome)
    assert found.pop("embedding/divergence") > 0
    assert found == {f"embedding/{space}/same_class_as_the_nearest": 1.0 for space in ("codes", "pixels", "plane")}
    assert outcome.arrays["points"].shape == (30, 2)
    assert torch.equal(outcome.arrays["labels"], torch.arange(30) % 2)
    assert_close(outcome.arrays["codes"], here.images("test", 30)[0].flatten(1))


def test_agreement_is_of_the_nearest_other_image_even_among_copies_and_without_unknown_labels():
    vectors = torch.tensor([[0.0], [0.1], [5.0], [5.2], [5.0], [0.05]])
    labels = torch.tensor([0, 0, 1, 1, 0, -1])
    # 0 and 1 see each other; the two 5.0, of different classes, see each other; 5.2 sees the first of them.
    assert agreement(vectors, labels) == 3 / 5


def test_a_point_has_its_classes_colour_at_its_place_and_the_legend_names_it():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    picture = (scatter(points, torch.tensor([0, 1, -1]), ["cat", "dog"]) * 255).round()

    def at(x: int, y: int) -> tuple[int, ...]:
        return tuple(int(value) for value in picture[:, y, x])

    assert (at(20, 780), at(780, 20), at(20, 20)) == (colour(0, 2), colour(1, 2), colour(-1, 2))
    assert (at(810, 25), at(810, 47)) == (colour(0, 2), colour(1, 2))
    assert len({colour(label, 10) for label in range(-1, 10)}) == 11
    assert at(400, 400) == (255, 255, 255)


def test_images_without_classes_are_embedded_without_figures_of_classes():
    data = stored()
    data.label_kind = "none"
    here = bench(data=data)
    assert set(values(here.measure(QUICK[3]))) == set(QUICK[3].metrics(here)) == {"embedding/divergence"}


def test_codes_that_are_all_the_same_have_no_places_in_the_plane(caplog):
    model = Known()
    model.encode = lambda images: torch.full((len(images), 3), 0.1)
    with caplog.at_level(logging.WARNING):
        outcome = bench(model).measure(QUICK[3])
    assert "E(x) is the same for all images" in caplog.text
    assert set(values(outcome)) == {f"embedding/{s}/same_class_as_the_nearest" for s in ("codes", "pixels")}
    assert not outcome.pictures
    assert set(outcome.arrays) == {"codes", "labels"}
    assert embeddable(torch.tensor([[0.1], [0.1], [0.2]]))


def test_t_sne_is_scikit_learns_tells_how_far_it_is_and_prints_nothing(capsys):
    from sklearn.manifold import TSNE

    codes = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    told, out = [], []

    def report(description: str, done: int, total: int) -> None:
        told.append((description, done, total))
        out.append(sys.stdout)

    points, divergence = embedded(codes, 5.0, 0, report)
    fitted = TSNE(2, perplexity=5.0, init="pca", random_state=0)
    assert_close(points, torch.from_numpy(fitted.fit_transform(codes.numpy())))
    assert divergence == pytest.approx(fitted.kl_divergence_)
    assert {done for _, done, _ in told} >= {0, 50, 100, 250, 300, 1000}
    assert {(description, total) for description, _, total in told} == {("t-SNE", 1000)}
    assert set(out) == {sys.stdout}  # what a report prints is seen
    assert capsys.readouterr().out == ""
    assert embedded(codes[:, :1], 5.0, 0, report)[0].shape == (30, 2)  # too few for a start by principal components


# Synthetic data


def test_what_classifiers_are_trained_on_has_the_labels_of_the_images_it_was_made_from():
    images, labels = stripes(6)
    made = images[:, None] + torch.arange(3).reshape(1, 3, 1, 1, 1)
    found = sources(images, made, labels)
    assert {name: len(train[0]) for name, train in found.items()} == {"real": 6, "synthetic": 18, "both": 24}
    for synthetic, label in zip(*found["synthetic"], strict=True):
        origins = [(synthetic - image) for image in images]
        (origin,) = [i for i, difference in enumerate(origins) if difference.std() < 1e-6]
        assert label == labels[origin]
    assert torch.equal(found["both"][0], torch.cat([found["real"][0], found["synthetic"][0]]))
    assert torch.equal(found["both"][1], torch.cat([found["real"][1], found["synthetic"][1]]))


def test_classifiers_learn_from_what_they_are_given_and_are_tested_on_real_images():
    settings = {"budgets": (10, 20), "copies": 3, "noise": 0.2, "steps": 30, "batch_size": 8, "seeds": 2, "width": 4,
                "learning_rate": 0.01}  # fmt: skip
    outcome = bench().measure(SyntheticData(**settings))
    found = values(outcome)
    assert [(each["labels"], each["trained_on"], each["images"]) for each in outcome.details["classifiers"]] == [
        (10, "real", 10), (10, "synthetic", 30), (10, "both", 40),
        (20, "real", 20), (20, "synthetic", 60), (20, "both", 80),
    ]  # fmt: skip
    for each in outcome.details["classifiers"]:
        accuracy = found[f"synthetic_data/{each['trained_on']}/labels-{each['labels']}/accuracy"]
        assert accuracy == sum(each["accuracies"]) / 2 > 0.9
        assert each["standard_deviation"] is not None
    assert {figure.images for figure in outcome.figures} == {30}
    assert {figure.weights for figure in outcome.figures if figure.subject == "real"} == {"none"}

    # A generator that turns images upside down makes synthetic data that teach the wrong classes.
    class Wrong(Known):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return super().decode(latents).flip(2)

    wrong = bench(Wrong()).measure(SyntheticData(**settings | {"budgets": (20,), "seeds": 1}))
    assert {figure.subject: figure.value > 0.5 for figure in wrong.figures} == {
        "real": True, "synthetic": False, "both": False
    }  # fmt: skip
    assert all(each["standard_deviation"] is None for each in wrong.details["classifiers"])


def test_a_budget_is_the_first_labelled_images():
    labels = torch.arange(40) % 2
    labels[:30] = -1
    model = Known()
    bench(model, stored(labels=labels)).measure(SyntheticData(budgets=(10,), copies=1, noise=0.0, steps=1))
    assert_close(torch.cat(model.decoded), stripes(40)[0][30:].flatten(1))


def test_the_data_set_that_is_written_has_synthetic_images_to_train_on_and_real_ones_to_test_on():
    model = Known()
    settings = {"budgets": (4,), "copies": 3, "steps": 1, "written": 11}
    written = bench(model, stored(num_classes=11)).measure(SyntheticData(**settings)).data_sets["data_set"]
    assert written.classes == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]
    images, labels = written.splits["train"]
    assert torch.equal(labels, torch.arange(11) % 2)
    made = torch.cat(model.decoded).unflatten(0, (4, 3)).transpose(0, 1).flatten(0, 1)[:11]
    assert_close(images.flatten(1), made)
    real, real_labels = written.splits["test"]
    expected = stripes(30, seed=1)
    assert_close(real, expected[0][:11])
    assert torch.equal(real_labels, expected[1][:11])


def test_the_classifier_takes_images_of_any_size_and_number_of_channels():
    for channels, size in ((1, 28), (3, 33), (3, 64)):
        assert classifier(channels, size, 2, 5)(torch.zeros(2, channels, size, size)).shape == (2, 5)


def test_images_that_are_written_are_of_all_classes_though_the_data_are_in_order_of_class():
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    assert balanced(labels, 3).tolist() == [0, 4, 6]
    assert balanced(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert balanced(labels, 100).tolist() == list(range(7))


# All of them


def test_each_step_of_a_classifier_is_reported_and_the_test_after_the_last():
    told = []
    here = bench(progress=lambda what, done, total: told.append((done, total)) if "classifiers" in what else None)
    here.measure(QUICK[-1])
    # 3 classifiers of 20 steps each.
    steps = [step for step in range(1, 61) for _ in range(2 if step % 20 == 0 else 1)]
    assert told == [(step, 60) for step in steps]


def test_many_images_are_encoded_and_decoded_with_a_progress_of_their_own():
    told = []
    here = bench(progress=lambda *about: told.append(about))
    here.decode(here.encode(torch.zeros(600, 1, 4, 4)))
    assert told == [(f"images {done}", part, 3) for done in ("encoded", "decoded") for part in (1, 2, 3)]


def test_statistics_of_batch_norm_are_those_of_training_or_of_reconstructions_of_training_images():
    found = {
        batch_norm: values(bench(Normalised()).measure(IterativeFeeding(rounds=1, measured=8, batch_norm=batch_norm)))
        for batch_norm in ("running", "real")
    }
    # With the statistics of training, G(E(x)) = x - 5 in each of 16 pixels.
    assert found["running"]["feeding/moved"] == pytest.approx(20, rel=1e-3)
    assert found["real"]["feeding/moved"] < 5


@EACH
def test_codes_or_images_that_are_not_finite_are_refused(measurement):
    model = Known()
    model.encode = lambda images: images.flatten(1) * float("nan")
    with pytest.raises(DataError, match=r"E\(x\) must be finite"):
        bench(model).measure(measurement)
    if measurement.name != "embedding":
        with pytest.raises(DataError, match=r"G\(z\) must be finite"):
            bench(Known(drift=float("inf"))).measure(measurement)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IterativeFeeding(rounds=0), "rounds must be at least 1, got 0"),
        (lambda: IterativeFeeding(measured=1), "measured must be at least 2, got 1"),
        (lambda: Embedding(images=2), "images must be at least 3, got 2"),
        (lambda: Embedding(perplexity=0.0), "perplexity must be above 0, got 0.0"),
        (lambda: Embedding(seed=-1), "seed must be from 0 to 4294967295, got -1"),
        (lambda: Embedding(seed=2**32), "seed must be from 0 to 4294967295, got 4294967296"),
        (lambda: Similarity(images=5001), "images must be at most 5000, got 5001"),
        (lambda: Variations(noise=(0.1, -0.2)), "noise must be at least 0, got -0.2"),
        (lambda: Variations(noise=(0.1, float("inf"))), "noise must be at least 0, got inf"),
        (lambda: Variations(noise=(0.3, 0.30000001)), "noise must hold numbers that differ, got [0.3, 0."),
        (lambda: Variations(copies=1), "copies must be at least 2, got 1"),
        (lambda: SyntheticData(budgets=(5, 5)), "budgets must hold numbers that differ, got [5, 5]"),
        (lambda: SyntheticData(budgets=(5, 1)), "budgets must be at least 2, got 1"),
        (lambda: SyntheticData(learning_rate=0.0), "learning_rate must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        make()


def test_what_the_data_cannot_give_is_refused_before_anything_is_computed():
    here = bench()
    with pytest.raises(SettingError, match=r"budgets must be at most 40, .* of stripes, got 100"):
        SyntheticData(budgets=(10, 100)).check(here)
    with pytest.raises(SettingError, match=r"written must be at least 2, the number of classes"):
        SyntheticData(budgets=(10,), written=1).check(here)
    with pytest.raises(SettingError, match=r"perplexity must be below the number of images, 30, got 30\.0"):
        Embedding().check(here)
    SyntheticData(budgets=(40,)).check(here)
    Embedding(perplexity=29.0).check(here)
    attributes = stored()
    attributes.label_kind = "attributes"
    for measurement in (SyntheticData(), Similarity()):
        with pytest.raises(DataError, match=r"needs a class per image, .* stripes has labels of the kind 'attributes'"):
            measurement.check(bench(data=attributes))
    with pytest.raises(DataError, match=r"classes that are in both splits of stripes, got none"):
        SyntheticData(budgets=(10,)).check(bench(data=stored(labels=2 + torch.arange(40) % 2, num_classes=4)))
    single = TensorImages("one", train=stripes(4), test=(stripes(4)[0], torch.arange(4)), num_classes=4)
    with pytest.raises(DataError, match=r"needs pairs of one class and of two, got 4 labelled test images of one in 4"):
        Similarity().check(bench(data=single))
    one = TensorImages("one", train=stripes(9), test=stripes(1), num_classes=2)
    for kind in (IterativeFeeding, Variations):
        with pytest.raises(DataError, match=r"needs at least 2 test images of one, .* got 1\. .* another split"):
            kind().check(bench(data=one))
        kind(split="train").check(bench(data=one))
    for measurement in QUICK:
        with pytest.raises(DataError, match="there is no data set that declares any"):
            measurement.check(Bench.of_model(Known(), None))


def test_a_classifier_that_diverges_is_refused():
    with pytest.raises(DataError, match=r"classifier must stay finite, .* Lower learning_rate"):
        bench().measure(SyntheticData(budgets=(6,), copies=1, steps=20, seeds=1, width=2, learning_rate=1e30))
