import io
import math
from dataclasses import dataclass

import pytest
import torch
from rich.console import Console
from scipy.stats import spearmanr
from torch import nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    FeatureNetwork,
    ImportedNetwork,
    QualityReference,
    SmallClassifier,
    TensorImages,
    picture_of,
    shares_chart,
)
from gan_lightning.evaluation.judges import Judge, untold
from gan_lightning.figures import Figure
from gan_lightning.measurements import Bench, Outcome
from gan_lightning.measurements.quality import Quality

CPU = torch.device("cpu")
FID, ACCURACY = "quality/projection/fid", "transfer/discriminator/tuned/accuracy"


@dataclass(frozen=True)
class Projection(FeatureNetwork):
    """Features, and classes where there are any, by a fixed random projection."""

    classes: int = 3
    named: str = "projection"

    def name(self, data) -> str:
        return self.named

    def judge(self, data, device, report=untold) -> Judge:
        rng = torch.Generator().manual_seed(0)
        features, head = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), nn.Linear(4, max(self.classes, 1))
        for weight in (*features.parameters(), *head.parameters()):
            weight.data = torch.randn(weight.shape, generator=rng)
        return Judge(self.named, features.requires_grad_(False), 4, head if self.classes else None)


class Makes(nn.Module):
    """Some generators of images of 4x4 pixels."""

    def __init__(self, generators: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.generators = nn.Linear(5, generators * 16), generators

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        images = self.layer(torch.randn(count, 5, generator=rng)).tanh()
        return images.view(count, self.generators, 1, 4, 4).transpose(0, 1)


def data(name: str = "noise", test: int = 40) -> TensorImages:
    images = torch.rand(60 + test, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = torch.arange(len(images)) % 3
    splits = {"train": (images[:60], labels[:60]), "test": (images[60:], labels[60:])}
    return TensorImages(name, **splits, num_classes=3, batch_size=16)


def quality(**settings: object) -> Quality:
    return Quality(**{"network": Projection(), "neighbours": 2} | settings)


def values(outcome: Outcome) -> dict[str, float]:
    return {figure.name: figure.value for figure in outcome.figures}


def test_generated_images_are_judged_beside_other_real_ones_and_drawn_and_tabulated():
    model = Makes()
    bench = Bench.of_model(model, data(), epoch=2, batches=8)
    outcome = bench.measure(quality())
    reference = QualityReference.of(Projection().judge(data(), CPU), data(), generators=2, neighbours=2)
    expected = reference.measure(
        lambda count, seed: model.generate(count, torch.Generator().manual_seed(seed)).detach()
    )
    names = ("fid", "kid", "precision", "recall", "density", "coverage", "class_entropy", "image_entropy")
    assert values(outcome) == {
        **{f"quality/projection/{name}": expected.figures()[name] for name in names},
        **{f"quality/other_real_images/projection/{name}": reference.others.figures()[name] for name in names},
    }
    assert {(each.images, each.epoch, each.split) for each in outcome.figures} == {(40, 2, "test")}
    assert {each.subject: each.weights for each in outcome.figures} == {"": "trained", "other_real_images": "none"}
    assert outcome.details["generated"]["class_counts"] == expected.classes.counts
    assert outcome.details["generated"]["kid_deviation"] == expected.quality.kid_deviation
    assert [sum(counts) for counts in expected.classes.counts] == [20, 20]
    assert outcome.details["generators"] == 2
    assert outcome.details["judge"]["name"] == "projection"
    assert outcome.details["against_features"] == []
    assert outcome.pictures.keys() == {"classes"}
    counts, names = expected.classes.counts, [str(number) for number in range(len(expected.classes.counts[0]))]
    title = "Classes of generated images, by projection"
    drawn = shares_chart(counts, ["generator 0", "generator 1"], names, title)
    assert torch.equal(outcome.pictures["classes"], picture_of(drawn))
    console = Console(width=100, file=io.StringIO())
    console.print(*outcome.tables)
    printed = console.file.getvalue()
    assert f"{expected.quality.fid:.4f}" in printed
    assert f"{reference.others.quality.fid:.4f}" in printed


def test_while_training_the_figures_are_those_of_the_generated_images_which_are_known_before():
    for settings in ({}, {"neighbours": 0}, {"network": Projection(classes=0)}, {"split": "train", "images": 30}):
        measurement = quality(**settings)
        bench = Bench.of_model(Makes(), data(), controls=False)
        known = measurement.metrics(bench)
        outcome = bench.measure(measurement)
        assert list(values(outcome)) == list(known)
        assert not outcome.pictures
    assert known[FID] == "min"
    assert known["quality/projection/coverage"] == "max"
    assert known["quality/projection/class_entropy"] is None


def test_the_classifier_is_had_once_for_all_benches_of_a_training_and_says_how_good_it_is(tmp_path, monkeypatch):
    small, made, lasting = SmallClassifier(width=2, feature_dim=4, steps=2, cache_dir=str(tmp_path)), [], {}
    judge = SmallClassifier.judge
    monkeypatch.setattr(SmallClassifier, "judge", lambda self, *rest: made.append(1) or judge(self, *rest))
    measurement = quality(network=small)
    first, second = (
        values(Bench.of_model(Makes(), data("two words/x"), lasting=lasting).measure(measurement)) for _ in range(2)
    )
    assert first == second
    assert len(made) == 1
    assert 0 <= first["quality/judge/two_words_x-classifier/accuracy"] <= 1
    assert "quality/two_words_x-classifier/fid" in first
    Bench.of_model(Makes(3), data("two words/x"), lasting=lasting).measure(measurement)
    assert len(made) == 1


def earlier(epochs: int, every: int = 1) -> list[Figure]:
    """Return what a training has measured: FIDs that fall, and accuracies that rise but once."""
    found = []
    for epoch in range(1, epochs + 1, every):
        more = {"value": 9.0 - epoch, "protocol": "projection", "epoch": epoch}
        found.append(Figure(measurement="quality", metric="fid", **more))
        found.append(accuracy(epoch, 0.7 if epoch == 2 else 0.5 + epoch / 100))
    return found


def accuracy(epoch: int | None, value: float, **more: object) -> Figure:
    about = {"subject": "discriminator", "protocol": "tuned", "epoch": epoch} | more
    return Figure(measurement="transfer", metric="accuracy", value=value, **about)


def test_quality_and_features_are_drawn_over_the_epochs_the_final_figures_included():
    bench = Bench.of_model(Makes(), data(), epoch=5, history=earlier(4))
    final = accuracy(5, 0.9)
    controls = accuracy(5, 0.1, weights="random"), accuracy(5, 0.3, axis="head epoch", at=1.0)
    bench.outcomes["transfer"] = Outcome([final, *controls])
    outcome = bench.measure(quality())
    (found,) = outcome.details["against_features"]
    assert (found["quality"], found["features"], found["points"]) == (FID, ACCURACY, 5)
    fids = [8.0, 7.0, 6.0, 5.0, values(outcome)[FID]]
    assert found["spearman"] == pytest.approx(spearmanr(fids, [0.51, 0.7, 0.53, 0.54, 0.9]).statistic)
    assert outcome.pictures.keys() == {"classes", "and-features"}
    # Where the last epoch has been measured while training, the final figures take its place.
    again = Bench.of_model(Makes(), data(), epoch=4, history=earlier(4))
    assert again.measure(quality()).details["against_features"][0]["points"] == 4


@pytest.mark.parametrize(
    ("history", "epoch"),
    [
        ([figure for figure in earlier(4) if figure.measurement == "quality"], 5),
        ([figure for figure in earlier(4) if figure.measurement == "transfer"], 5),
        ([], 5),
        (earlier(1), None),
    ],
)
def test_without_curves_of_both_there_is_no_such_picture(history, epoch):
    bench = Bench.of_model(Makes(), data(), epoch=epoch, history=history)
    bench.outcomes["transfer"] = Outcome([accuracy(epoch, 0.9)])
    outcome = bench.measure(quality())
    assert outcome.details["against_features"] == []
    assert "and-features" not in outcome.pictures


def test_a_judge_of_other_classes_and_a_split_with_too_few_others_are_no_obstacle():
    outcome = Bench.of_model(Makes(1), data(test=70)).measure(quality(network=Projection(classes=5)))
    assert [len(counts) for counts in outcome.details["generated"]["class_counts"]] == [5]
    assert outcome.details["other_real_images"] is None
    assert not any("other_real_images" in name for name in values(outcome))
    assert all(math.isfinite(value) for value in values(outcome).values())


def test_what_cannot_be_judged_is_refused_before_training():
    bench = Bench.of_model(Makes(), data())
    with pytest.raises(SettingError, match=r"images must be above 4, the number of features, .* got 4 real"):
        quality(images=5).check(bench)
    with pytest.raises(SettingError, match=r"network must be the import path"):
        quality(network=ImportedNetwork("no.where")).check(bench)
    with pytest.raises(
        DataError, match=r"quality needs a data module that declares images, got none\. .*set its `enabled` to false"
    ):
        Bench.of_model(Makes(), None).measure(quality())
