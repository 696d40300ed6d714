import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.measurements import Bench
from gan_lightning.measurements.neighbours import Neighbours, same_class


def data(num_classes: int = 3, unknown: bool = False, attributes: bool = False) -> TensorImages:
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(50, 1, 4, 4, generator=rng) * 2 - 1, torch.randint(num_classes, (50,), generator=rng)
    if unknown:
        labels[::3] = -1
    if attributes:
        labels = nn.functional.one_hot(labels, num_classes)
    splits = {"train": (images[:40], labels[:40]), "test": (images[40:], labels[40:])}
    return TensorImages("noise", **splits, num_classes=num_classes, batch_size=7)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5))


def nearest(net: nn.Module, images: TensorImages, count: int) -> torch.Tensor:
    """Return the places of the nearest training images by cosine, found the plain way."""
    (train, _), (test, _) = (images._splits[split] for split in ("train", "test"))
    with torch.no_grad():
        alike = nn.functional.cosine_similarity(net.eval()(test)[:, None], net(train)[None], dim=2)
    return alike.argsort(dim=1, descending=True)[:, :count]


def test_the_share_is_over_all_test_images_and_the_picture_shows_the_first_ones_with_their_neighbours():
    net, images = network(), data()
    bench = Bench({"mine": net, "pixels_of_mine": nn.Flatten()}, images)
    outcome = bench.measure(Neighbours(count=3, queries=2))
    places = nearest(net, images, 3)
    (train, labels), (test, truth) = (images._splits[split] for split in ("train", "test"))
    figure = outcome.figures[0]
    assert figure.name == "neighbours/mine/same_class"
    assert figure.images == 10
    assert figure.value == pytest.approx((labels[places] == truth[:, None]).double().mean().item())
    names = [figure.name for figure in outcome.figures]
    assert (
        names
        == list(Neighbours().metrics(bench))
        == ["neighbours/mine/same_class", "neighbours/pixels_of_mine/same_class"]
    )
    assert set(outcome.pictures) == {"mine", "pixels_of_mine"}
    rows = outcome.pictures["mine"][:1, 1:, 1:].unfold(1, 4, 5).unfold(2, 4, 5).permute(1, 2, 0, 3, 4)
    shown = torch.cat([test[:2, None], train[places[:2]]], dim=1)
    assert_close(rows, (shown + 1) / 2, rtol=0, atol=1e-4)


def test_what_is_not_known_does_not_count_and_without_classes_there_is_no_share():
    labels, around = torch.tensor([0, 1, -1, 2]), torch.tensor([[0, 1], [1, -1], [0, 0], [-1, -1]])
    assert same_class(labels, around).tolist() == [0.5, 1.0]
    figures = Bench({"mine": network()}, data(unknown=True)).measure(Neighbours()).figures
    assert 0 < figures[0].images < 10
    bench = Bench({"mine": network()}, data(attributes=True))
    outcome = bench.measure(Neighbours())
    assert (outcome.figures, set(outcome.pictures), Neighbours().metrics(bench)) == ([], {"mine"}, {})


def test_while_training_there_are_no_pictures_and_statistics_may_be_those_of_real_images():
    found = [
        Bench({"mine": network()}, data(), controls=False).measure(Neighbours(batch_norm=kind, metric="euclidean"))
        for kind in ("running", "real")
    ]
    assert not any(outcome.pictures for outcome in found)
    net = network()
    net[2].momentum = None
    net.train()
    batches = list(data().evaluation_batches("train", torch.device("cpu")))
    for batch, _ in batches:
        net(batch)
    again = Bench({"mine": net}, data(), controls=False).measure(Neighbours(metric="euclidean"))
    assert again.figures[0].value == found[1].figures[0].value


def test_runs_without_images_are_passed_over():
    assert "data set that declares its images" in Neighbours().passes_over(Bench({"mine": network()}, None))


def test_what_cannot_be_found_is_refused():
    bench = Bench({"mine": network()}, data())
    with pytest.raises(SettingError, match=r"count must be at most 40, the number of training .*, got 41"):
        bench.measure(Neighbours(count=41))
    broken = network()
    broken[1].bias.data.fill_(float("inf"))
    with pytest.raises((DataError, SettingError), match="mine"):
        Bench({"mine": broken}, data()).measure(Neighbours())
