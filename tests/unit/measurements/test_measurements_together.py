import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages, TunedProbe
from gan_lightning.measurements import Bench, Together

TUNED = TunedProbe(strengths=(0.1,), gradient_tolerance=0.01)


def data() -> TensorImages:
    """Return images of four classes: the left half says one bit of the class, the right half the other."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(240) % 4
    images = torch.rand(240, 1, 4, 4, generator=rng) / 2 - 0.25
    for bit, columns in enumerate((slice(0, 2), slice(2, 4))):
        images[:, :, :, columns] += (0.5 * ((labels // 2**bit) % 2))[:, None, None, None]
    splits = {"train": (images[:160], labels[:160]), "test": (images[160:], labels[160:])}
    return TensorImages("quarters", **splits, num_classes=4)


class Half(nn.Module):
    """Sees the left or the right half of an image; with random weights it sees nothing."""

    def __init__(self, columns: slice, weight: float = 1.0) -> None:
        super().__init__()
        self.columns, self.weight = columns, nn.Parameter(torch.tensor(weight))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.weight * images[:, :, :, self.columns].flatten(1)


def measured(networks, random_networks=None, **settings):
    bench = Bench(networks, data(), random_networks=random_networks or {})
    return {f.name: f.value for f in bench.measure(Together(tuned=TUNED, **settings)).figures}


LEFT, RIGHT = Half(slice(0, 2)), Half(slice(2, 4))
BLIND = {"left": Half(slice(0, 2), 0.0), "right": Half(slice(2, 4), 0.0)}


def test_what_the_other_extractor_lacks_is_a_gain_and_what_it_has_already_is_none():
    found = measured({"left": LEFT, "right": RIGHT}, BLIND)
    for name in BLIND:
        assert 0.4 < found[f"together/{name}/tuned/accuracy"] < 0.7  # one bit of two
    assert found["together/left+right/tuned/accuracy"] > 0.95
    control = "together/left+right/tuned/random_weights"
    for name, other in (("left", "right"), ("right", "left")):
        assert found[f"{control}/{name}/accuracy"] == found[f"together/{other}/tuned/accuracy"]
        assert found[f"{control}/{name}/gain"] > 0.3
    # All that the left half says is in the whole image.
    found = measured({"left": LEFT, "whole": Half(slice(0, 4))}, {"left": BLIND["left"]})
    assert abs(found["together/left+whole/tuned/random_weights/left/gain"]) < 0.03
    assert "together/left+whole/tuned/random_weights/whole/gain" not in found  # it has no control


def test_the_better_of_both_batch_norm_statistics_is_the_control():
    torch.manual_seed(0)
    fresh = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    bench = Bench({"left": LEFT, "right": RIGHT}, data(), random_networks={"left": fresh})
    found = {f.name: f.value for f in bench.measure(Together(tuned=TUNED)).figures}
    by_hand = []
    for statistics in ("running", "real"):
        splits = [bench.features(split, weights="random", batch_norm=statistics).matrices["left"] for split in
                  ("train", "test")]  # fmt: skip
        train, test = (torch.cat([random, RIGHT(data()._splits[split][0]).detach()], dim=1)
                       for random, split in zip(splits, ("train", "test"), strict=True))  # fmt: skip
        labels, truth = (data()._splits[split][1] for split in ("train", "test"))
        by_hand.append(TUNED.accuracy(train, labels, test, truth, num_classes=4, seed=0, name="by hand"))
    assert found["together/left+right/tuned/random_weights/left/accuracy"] == max(by_hand)


def test_each_pair_of_the_named_extractors_is_measured():
    three = {"left": LEFT, "right": RIGHT, "whole": Half(slice(0, 4))}
    pairs = {name.split("/")[1] for name in measured(three) if "+" in name}
    assert pairs == {"left+right", "left+whole", "right+whole"}
    found = measured(three, extractors=["whole", "right"])
    assert set(found) == {f"together/{name}/tuned/accuracy" for name in ("whole", "right", "whole+right")}


def test_one_extractor_is_passed_over_and_names_that_make_no_pair_are_refused():
    assert (
        Together().passes_over(Bench({"left": LEFT}, data()))
        == "a bench without a model has one extractor, and it takes two"
    )
    for wrong in (["left"], ["left", "left"]):
        with pytest.raises(SettingError, match="extractors must name two extractors or more, each once"):
            Together(extractors=wrong)
    with pytest.raises(SettingError, match=r"extractors must name extractors, got \['middle'\].*Choose from"):
        measured({"left": LEFT, "right": RIGHT}, extractors=["left", "middle"])
