import copy

import pytest
import torch
from torch import nn

import gan_lightning.evaluation.depth as depth
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.depth import DepthProtocol, DepthRecord, frozen_depth
from gan_lightning.models import MGAN

QUICK = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=3)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    stages = nn.Sequential()
    stages.add_module("conv1", nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()))
    stages.add_module("pool1", nn.MaxPool2d(2))
    stages.add_module("conv2", nn.Sequential(nn.Conv2d(4, 5, 2), nn.LeakyReLU(0.2)))
    stages.add_module("flatten", nn.Flatten())
    return stages


def stripes(train_labels=None, count: int = 96) -> TensorImages:
    def split(count, seed):
        rng = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (count,), generator=rng)
        images = torch.rand(count, 1, 8, 8, generator=rng) - 1
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label : 2 * label + 2] += 0.7
        return images, labels

    images, labels = split(count, 0)
    train = images, labels if train_labels is None else train_labels(labels)
    return TensorImages("stripes", train=train, test=split(40, 1), num_classes=3, batch_size=32)


def cells(records: list[DepthRecord]) -> list[tuple]:
    return [(r.weights, r.frozen, r.stage) for r in records]


def test_every_depth_has_an_accuracy_for_trained_and_for_random_stages():
    calls = []
    longer = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=20)
    records = frozen_depth(network(), stripes(), protocol=longer, progress=lambda *call: calls.append(call))
    assert cells(records) == [
        (weights, n, f"conv{n}") for weights in ("trained", "random") for n in (1, 2)
    ]  # fmt: skip
    assert records[0].accuracy > 0.8  # the rest is trained: one in three would be chance
    assert all(r.seconds > 0 and r.cached for r in records)
    assert calls[-1] == ("frozen depth, random weights", 2, 2)


def test_frozen_stages_stay_bit_for_bit_and_the_rest_moves_away_from_its_fresh_weights(monkeypatch):
    extractor, fresh, seen = network(), network(1), []
    original = depth._train

    def watched(front, rest, *others):
        before = copy.deepcopy((front.state_dict(), rest.state_dict()))
        outcome = original(front, rest, *others)
        seen.append((before, front.state_dict(), rest.state_dict()))
        return outcome

    monkeypatch.setattr(depth, "_train", watched)
    frozen_depth(extractor, stripes(), fresh=fresh, random_weights=False, protocol=QUICK)
    for end, ((front_before, rest_before), front, rest) in zip((2, 4), seen, strict=True):
        for state in (front_before, front):
            assert all(torch.equal(tensor, state[name]) for name, tensor in extractor[:end].state_dict().items())
        start = dict(zip(rest, fresh[end:].state_dict().values(), strict=True))
        assert all(torch.equal(rest_before[name], tensor) for name, tensor in start.items())
        assert all(not torch.equal(rest[name], tensor) for name, tensor in start.items())
    assert len(seen[0][2]) == 2
    assert len(seen[1][2]) == 0  # all stages frozen: the linear classifier alone is trained


def test_the_extractor_and_the_random_state_are_as_before():
    extractor, fresh = network().train(), network(1).train()
    before = [copy.deepcopy(module.state_dict()) for module in (extractor, fresh)]
    random_state = torch.get_rng_state()
    with torch.inference_mode():  # as in a validation hook
        frozen_depth(extractor, stripes(), fresh=fresh, protocol=QUICK)
    assert torch.equal(torch.get_rng_state(), random_state)
    for module, state in zip((extractor, fresh), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert all(layer.training for layer in module.modules())
        assert all(weight.requires_grad for weight in module.parameters())


def test_caching_changes_no_accuracy():
    kept, computed = (frozen_depth(network(), stripes(), protocol=QUICK, cache=cache) for cache in (2**30, 0))
    assert [r.accuracy for r in kept] == [r.accuracy for r in computed]
    assert all(r.cached for r in kept)
    assert not any(r.cached for r in computed)


def test_stages_can_be_chosen():
    records = frozen_depth(network(), stripes(), stages=["conv2"], random_weights=False, protocol=QUICK)
    assert cells(records) == [("trained", 1, "conv2")]
    for wrong in (["conv3"], ["pool1"], ["conv2", "conv1"], []):
        with pytest.raises(SettingError, match=r"stages must be children of extractor .* \['conv1', 'conv2'\]"):
            frozen_depth(network(), stripes(), stages=wrong)


def test_mgans_discriminator_takes_part():
    model = MGAN(channels=1, image_size=32, base_width=4, feature_dim=8)
    small = stripes(count=34)  # the last batch would be of two
    images, labels = next(iter(small.evaluation_batches("train", torch.device("cpu"))))
    enlarged = nn.functional.interpolate(images, 32)
    data = TensorImages("enlarged", train=(enlarged, labels), test=(enlarged, labels), num_classes=3)
    protocol = DepthProtocol(batch_size=16, epochs=1)
    records = frozen_depth(model.extractors()["discriminator"], data, random_weights=False, protocol=protocol)
    assert cells(records) == [("trained", n, f"conv{n}") for n in (1, 2, 3, 4)]


def test_images_without_a_label_are_left_out_and_too_few_labels_are_refused():
    def partly(labels):
        return torch.where(torch.arange(len(labels)) % 2 == 0, labels, -1)

    assert frozen_depth(network(), stripes(partly), random_weights=False, protocol=QUICK)
    with pytest.raises(DataError, match="stripes: at least 2 train images must have a label, got 0 of 96"):
        frozen_depth(network(), stripes(lambda labels: labels * 0 - 1), protocol=QUICK)
    unlabelled = stripes()
    unlabelled.label_kind = "none"
    with pytest.raises(SettingError, match="data must have labels to train with, got 'stripes' without"):
        frozen_depth(network(), unlabelled)


def test_another_network_in_place_of_a_fresh_one_and_a_training_that_diverges_are_refused():
    with pytest.raises(SettingError, match="fresh must have the stages of extractor"):
        frozen_depth(network(), stripes(), fresh=nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(DataError, match=r"must stay finite, got NaN or infinity at learning_rate=1e\+30"):
        frozen_depth(network(), stripes(), protocol=DepthProtocol(learning_rate=1e30, batch_size=16, epochs=2))


@pytest.mark.parametrize(
    "setting", [{"learning_rate": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"batch_size": 1}, {"epochs": 0}]
)
def test_a_protocol_that_cannot_be_trained_with_is_refused(setting):
    with pytest.raises(SettingError, match=f"{next(iter(setting))} must be"):
        DepthProtocol(**setting)
