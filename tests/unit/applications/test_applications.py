"""The applications, on an encoder and a generator that are known exactly, and on two classes easily told apart."""

import itertools
import re
from math import sqrt

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.applications import (
    Embedding,
    IterativeFeeding,
    Samples,
    Similarity,
    SyntheticData,
    Variations,
    encoding_model,
)
from gan_lightning.applications.base import ClassImages, neighbourhoods, read_images, spread
from gan_lightning.applications.embedding import agreement, colour, scatter
from gan_lightning.applications.feeding import fed
from gan_lightning.applications.similarity import roc_auc
from gan_lightning.applications.synthetic import balanced, classifier, sources
from gan_lightning.applications.variations import quality
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages

CPU = torch.device("cpu")


class Known(nn.Module):
    """Codes are an image's 16 pixels; G adds `drift` to each of them. It notes what it sees."""

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


def stripes(count: int, size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images that are bright above (class 0) or below (class 1), in turn."""
    labels = torch.arange(count) % 2
    images = 0.1 * torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    images[labels == 0, :, : size // 2] += 0.7
    images[labels == 1, :, size // 2 :] += 0.7
    return images.clamp(-1, 1), labels


def stored(size: int = 4, count: int = 40, num_classes: int = 2, labels: torch.Tensor | None = None) -> TensorImages:
    images, known = stripes(count, size)
    test_images, test_labels = stripes(30, size, seed=1)
    return TensorImages(
        "stripes", train=(images, known if labels is None else labels), test=(test_images, test_labels),
        num_classes=num_classes, batch_size=7,
    )  # fmt: skip


# Iterative feeding


def test_feeding_is_g_of_e_again_and_again_and_the_distances_are_those_moved():
    model, data = Known(drift=0.1), stored()
    outcome = IterativeFeeding(rounds=3, images=5, measured=8).run(model, data, CPU)
    assert outcome.figures["images"] == 8
    assert_close(outcome.figures["moved"], [0.1 * sqrt(16)] * 3)
    assert_close(outcome.figures["from_start"], [0.4, 0.8, 1.2])
    images = read_images(data, "test", 8, CPU)[0].flatten(1)
    between = [(images[i] - images[j]).norm().item() for i, j in itertools.permutations(range(8), 2)]
    assert min(between) < outcome.figures["to_another_image"] < max(between)
    assert len(outcome.figures["moved_of_each_drawn_image"]) == 5
    # Five rows of four images of 4x4, two pixels around each.
    assert outcome.pictures["strips"].shape == (3, 5 * 6 + 2, 4 * 6 + 2)
    first, last = (outcome.pictures["strips"][0, 2:6, place : place + 4] for place in (2, 3 * 6 + 2))
    assert_close(last, (first + 0.15).clamp(max=1))  # 0.3 in [-1, 1]


def test_images_larger_than_the_generators_are_encoded_whole_and_compared_at_its_size():
    model, data = Smaller(drift=0.1), stored(size=8)
    images, _ = read_images(data, "test", 6, CPU)
    strips = fed(model, images, rounds=2)
    assert [strip.shape for strip in strips] == [(6, 1, 4, 4)] * 3
    assert_close(strips[1], strips[0] + 0.1)
    for application in (Variations(measured=6), Similarity(images=6), SyntheticData(budgets=(6,), steps=2)):
        assert application.run(model, data, CPU).pictures


# Samples


def test_samples_are_pictures_of_images_reconstructions_and_latents_of_the_prior_with_the_distance_of_the_second():
    model, data = Known(drift=0.1), stored()
    outcome = Samples(columns=5, rows=2, measured=20).run(model, data, CPU)
    assert outcome.figures["images"] == 20
    assert_close(outcome.figures["distance"], 0.1 * sqrt(16))
    assert outcome.figures["distance_to_another_image"] > 0.4
    assert {name: picture.shape for name, picture in outcome.pictures.items()} == dict.fromkeys(
        ("real", "reconstructed", "sampled"), (3, 2 * 6 + 2, 5 * 6 + 2)
    )
    latents = model.sample_latents(10, torch.Generator().manual_seed(0))
    assert torch.equal(model.decoded[-1], latents)
    tile = outcome.pictures["sampled"][0, 2:6, 2:6]
    assert_close(tile, ((latents[0].reshape(4, 4) + 1.1) / 2).clamp(0, 1))
    assert_close(outcome.pictures["real"][0, 2:6, 2:6], (data.evaluation_batches("test", CPU).images[0, 0] + 1) / 2)
    few = Samples(columns=40, rows=1, measured=2).run(model, data, CPU)
    assert few.pictures["sampled"].shape == (3, 8, 30 * 6 + 2)  # there are 30 test images


# t-SNE


def test_two_classes_that_lie_apart_are_neighbours_among_themselves():
    outcome = Embedding(images=30, perplexity=5.0).run(Known(), stored(), CPU)
    assert outcome.figures["same_class_as_the_nearest"] == {"codes": 1.0, "plane": 1.0, "pixels": 1.0}
    assert outcome.figures["divergence"] > 0
    assert outcome.arrays["points"].shape == (30, 2)
    assert torch.equal(outcome.arrays["labels"], torch.arange(30) % 2)
    assert_close(outcome.arrays["codes"], read_images(stored(), "test", 30, CPU)[0].flatten(1))


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
    outcome = Embedding(images=20, perplexity=5.0).run(Known(), data, CPU)
    assert set(outcome.figures) == {"images", "divergence"}


# Similarity


def test_the_area_under_the_curve_is_the_share_of_pairs_in_the_right_order():
    distances, same = torch.tensor([1.0, 2.0, 3.0, 2.0]), torch.tensor([True, False, False, True])
    # of 2 x 2 comparisons: 1 < 2, 1 < 3, 2 = 2 (half), 2 < 3
    assert roc_auc(distances, same) == 3.5 / 4


def test_pairs_of_one_class_are_nearer_by_every_measure_where_classes_lie_apart():
    outcome = Similarity(images=12, copies=3, noise=0.1, pairs=2).run(Known(), stored(), CPU)
    assert outcome.figures["roc_auc"] == dict.fromkeys(
        ("codes", "centred_codes_by_angle", "neighbourhoods", "pixels"), 1.0
    )
    assert (outcome.figures["pairs_of_one_class"], outcome.figures["pairs_of_two_classes"]) == (30, 36)
    classes = [pair["classes"] for pair in outcome.figures["drawn"]]
    assert [first == second for first, second in classes] == [True, True, False, False]
    # Eight rows, for two images of four pairs: an image and three neighbours.
    assert outcome.pictures["pairs"].shape == (3, 8 * 6 + 2, 4 * 6 + 2)


def test_the_drawn_pairs_have_the_distances_of_their_images():
    data = stored()
    outcome = Similarity(images=6, copies=1, noise=0.0, pairs=1).run(Known(), data, CPU)
    images = read_images(data, "test", 6, CPU)[0].flatten(1)
    known = {round((images[i] - images[j]).norm().item(), 4) for i, j in itertools.combinations(range(6), 2)}
    for pair in outcome.figures["drawn"]:
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
    outcome = Variations(noise=(0.0, 0.3, 3.0), copies=4, images=2, measured=10).run(Known(), stored(), CPU)
    none, some, much = outcome.figures["records"]
    assert (none["diversity"], none["distance"], none["fidelity"]) == (0, 0, 1)
    assert 0 < some["diversity"] < much["diversity"]
    assert 1 >= some["fidelity"] > much["fidelity"]
    assert set(outcome.pictures) == {"noise-0", "noise-0.3", "noise-3"}
    # Two rows of an image, its reconstruction and four variations.
    assert outcome.pictures["noise-0"].shape == (3, 2 * 6 + 2, 6 * 6 + 2)


def test_noise_is_normal_and_in_units_of_the_codes_spread():
    codes = torch.tensor([[1.0, 0.0], [-1.0, 6.0]])
    assert spread(codes) == pytest.approx(sqrt((1 + 9) / 2))
    model = Known()
    model.decode = lambda latents: latents.reshape(-1, 1, 1, 2)
    made = neighbourhoods(model, codes, 20_000, 0.5, torch.Generator().manual_seed(0)).flatten(2)
    assert made.shape == (2, 20_000, 2)
    assert_close(made.mean(dim=1), codes, rtol=0, atol=0.02)
    assert_close(made.std(dim=1), torch.full((2, 2), 0.5), rtol=0.03, atol=0)


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
    before = torch.random.get_rng_state()
    outcome = SyntheticData(**settings).run(Known(), stored(), CPU)
    records = outcome.figures["records"]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [(r["budget"], r["trained_on"], r["images"]) for r in records] == [
        (10, "real", 10), (10, "synthetic", 30), (10, "both", 40),
        (20, "real", 20), (20, "synthetic", 60), (20, "both", 80),
    ]  # fmt: skip
    assert outcome.figures["test_images"] == 30
    for record in records:
        assert record["accuracy"] == sum(record["accuracies"]) / 2 > 0.9
        assert record["standard_deviation"] is not None

    # A generator that turns images upside down makes synthetic data that teach the wrong classes.
    class Wrong(Known):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return super().decode(latents).flip(2)

    wrong = SyntheticData(**settings | {"budgets": (20,), "seeds": 1}).run(Wrong(), stored(), CPU).figures["records"]
    assert {r["trained_on"]: r["accuracy"] > 0.5 for r in wrong} == {"real": True, "synthetic": False, "both": False}
    assert all(r["standard_deviation"] is None for r in wrong)


def test_a_budget_is_the_first_labelled_images():
    labels = torch.arange(40) % 2
    labels[:30] = -1
    model = Known()
    data = stored(labels=labels)
    SyntheticData(budgets=(10,), copies=1, noise=0.0, steps=1).run(model, data, CPU)
    assert_close(torch.cat(model.decoded), stripes(40)[0][30:].flatten(1))


def test_the_data_set_that_is_written_has_synthetic_images_to_train_on_and_real_ones_to_test_on():
    model = Known()
    outcome = SyntheticData(budgets=(4,), copies=3, steps=1, written=7).run(model, stored(num_classes=11), CPU)
    written = outcome.data_sets["data_set"]
    assert isinstance(written, ClassImages)
    assert written.classes == ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]
    images, labels = written.splits["train"]
    assert torch.equal(labels, torch.tensor([0, 1, 0, 1, 0, 1, 0]))
    made = torch.cat(model.decoded).unflatten(0, (4, 3)).transpose(0, 1).flatten(0, 1)[:7]
    assert_close(images.flatten(1), made)
    real, real_labels = written.splits["test"]
    expected = stripes(30, seed=1)
    assert_close(real, expected[0][:7])
    assert torch.equal(real_labels, expected[1][:7])


def test_the_classifier_takes_images_of_any_size_and_number_of_channels():
    for channels, size in ((1, 28), (3, 33), (3, 64)):
        assert classifier(channels, size, 2, 5)(torch.zeros(2, channels, size, size)).shape == (2, 5)


# Bad input


def test_a_model_without_encoder_or_generator_is_refused():
    class NoEncoder(nn.Module):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return latents

    with pytest.raises(SettingError, match=r"model must have an encoder and a generator for an application, got NoEnc"):
        encoding_model(NoEncoder())
    model = Known()
    assert encoding_model(model) is model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IterativeFeeding(rounds=0), "application.rounds must be at least 1, got 0"),
        (lambda: IterativeFeeding(measured=1), "application.measured must be at least 2, got 1"),
        (lambda: Embedding(images=2), "application.images must be at least 3, got 2"),
        (lambda: Embedding(perplexity=0.0), "application.perplexity must be above 0, got 0.0"),
        (lambda: Similarity(noise=-1.0), "application.noise must be at least 0, got -1.0"),
        (lambda: Variations(noise=(0.1, -0.2)), "application.noise must be at least 0, got -0.2"),
        (lambda: Variations(noise=()), "application.noise must hold at least one number, got none"),
        (lambda: Variations(noise=(0.1, float("inf"))), "application.noise must be at least 0, got inf"),
        (lambda: Variations(noise=(float("nan"),)), "application.noise must be at least 0, got nan"),
        (lambda: Variations(noise=(0.3, 0.30000001)), "application.noise must hold numbers that differ, got [0.3, 0."),
        (lambda: Similarity(images=5001), "application.images must be at most 5000, got 5001"),
        (lambda: Samples(rows=0), "application.rows must be at least 1, got 0"),
        (lambda: Samples(measured=1), "application.measured must be at least 2, got 1"),
        (lambda: Variations(copies=1), "application.copies must be at least 2, got 1"),
        (lambda: SyntheticData(budgets=()), "application.budgets must hold at least one number, got none"),
        (lambda: SyntheticData(budgets=(5, 1)), "application.budgets must be at least 2, got 1"),
        (lambda: SyntheticData(learning_rate=0.0), "application.learning_rate must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        make()


def test_what_the_data_cannot_give_is_refused_before_anything_is_computed():
    with pytest.raises(SettingError, match=r"application\.budgets must be at most 40, .* of stripes, got 100"):
        SyntheticData(budgets=(10, 100)).check(stored())
    with pytest.raises(SettingError, match=r"perplexity must be below the number of images, 30, got 30\.0"):
        Embedding().check(stored())
    SyntheticData(budgets=(40,)).check(stored())
    Embedding(perplexity=29.0).check(stored())
    attributes = stored()
    attributes.label_kind = "attributes"
    for application in (SyntheticData(), Similarity()):
        with pytest.raises(DataError, match=r"needs a class per image, .* stripes has labels of the kind 'attributes'"):
            application.check(attributes)
    with pytest.raises(DataError, match=r"classes that are in both splits of stripes, got none"):
        SyntheticData(budgets=(10,)).check(stored(labels=2 + torch.arange(40) % 2, num_classes=4))
    single = TensorImages("one", train=stripes(4), test=(stripes(4)[0], torch.arange(4)), num_classes=4)
    with pytest.raises(DataError, match=r"needs pairs of one class and of two, got 4 labelled images in 4 classes"):
        Similarity().check(single)
    one = TensorImages("one", train=stripes(9), test=stripes(1), num_classes=2)
    for application in (IterativeFeeding(), Variations(), Samples()):
        with pytest.raises(DataError, match=r"split of one must have at least 2 images, .* got 1\. Raise data"):
            application.check(one)
        type(application)(split="train").check(one)
    with pytest.raises(SettingError, match=r"application\.written must be at least 2, the number of classes"):
        SyntheticData(budgets=(10,), written=1).check(stored())


def test_images_that_are_written_are_of_all_classes_though_the_data_are_in_order_of_class():
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    assert balanced(labels, 3).tolist() == [0, 4, 6]
    assert balanced(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert balanced(labels, 100).tolist() == list(range(7))


def test_codes_that_are_not_finite_are_refused():
    model = Known()
    model.encode = lambda images: images.flatten(1) * float("nan")
    with pytest.raises(DataError, match=r"E\(x\) must be finite"):
        Embedding(images=10, perplexity=3.0).run(model, stored(), CPU)
