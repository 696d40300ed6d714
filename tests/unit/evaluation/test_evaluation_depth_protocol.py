import copy

import pytest
import torch
from torch import nn

import gan_lightning.evaluation.depth_protocol as depth
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.depth_protocol import DepthProtocol, DepthRecord, frozen_depth

QUICK = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=3)


def network(seed: int = 0) -> nn.Sequential:
    stages = nn.Sequential()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        stages.add_module("conv1", nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()))
        stages.add_module("pool1", nn.MaxPool2d(2))
        stages.add_module("conv2", nn.Sequential(nn.Conv2d(4, 5, 2), nn.LeakyReLU(0.2)))
        stages.add_module("flatten", nn.Flatten())
    return stages


def stripes(train: int = 96, test: int = 40) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return images of both splits whose classes are stripes at three heights."""

    def split(count, seed):
        rng = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (count,), generator=rng)
        images = torch.rand(count, 1, 8, 8, generator=rng) - 1
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label : 2 * label + 2] += 0.7
        return images, labels

    return {"train": split(train, 0), "test": split(test, 1)}


def measured(**settings) -> list[DepthRecord]:
    given = {"images": stripes(), "num_classes": 3, "fresh": network(1), "protocol": QUICK} | settings
    return frozen_depth(given.pop("extractor", network()), given.pop("images"), **given)


def cells(records: list[DepthRecord]) -> list[tuple]:
    return [(r.weights, r.frozen, r.stage) for r in records]


def test_every_depth_has_an_accuracy_for_trained_and_for_random_stages():
    calls = []
    records = measured(random=network(2), name="it", progress=lambda *call: calls.append(call))
    assert cells(records) == [
        (weights, n, f"conv{n}") for weights in ("trained", "random") for n in (1, 2)
    ]  # fmt: skip
    assert all(r.seconds > 0 and r.cached for r in records)
    assert len(calls) == 4 * 3 * 6  # each batch of each training
    assert calls[-1] == ("it frozen up to conv2, random weights", 18, 18)
    # The random row is that of the random network frozen.
    assert [r.accuracy for r in records[2:]] == [r.accuracy for r in measured(extractor=network(2))]


def test_what_is_not_frozen_is_trained():
    longer = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=20)
    assert measured(stages=["conv1"], protocol=longer)[0].accuracy > 0.8  # one in three would be chance


def test_frozen_stages_stay_bit_for_bit_and_the_rest_moves_away_from_its_fresh_weights(monkeypatch):
    # A network of a model that is being measured is frozen itself.
    extractor, fresh, seen = network(), network(1).requires_grad_(False), []
    original = depth._train

    def watched(front, rest, *others):
        before = copy.deepcopy((front.state_dict(), rest.state_dict()))
        outcome = original(front, rest, *others)
        seen.append((before, front.state_dict(), rest.state_dict()))
        return outcome

    monkeypatch.setattr(depth, "_train", watched)
    measured(extractor=extractor, fresh=fresh)
    for end, ((front_before, rest_before), front, rest) in zip((2, 4), seen, strict=True):
        for state in (front_before, front):
            assert all(torch.equal(tensor, state[name]) for name, tensor in extractor[:end].state_dict().items())
        start = dict(zip(rest, fresh[end:].state_dict().values(), strict=True))
        assert all(torch.equal(rest_before[name], tensor) for name, tensor in start.items())
        assert all(not torch.equal(rest[name], tensor) for name, tensor in start.items())
    assert len(seen[0][2]) == 2
    assert len(seen[1][2]) == 0  # all stages frozen: the linear classifier alone is trained


def test_the_networks_and_the_random_state_are_as_before():
    networks = [network(seed).train() for seed in range(3)]
    before = [copy.deepcopy(module.state_dict()) for module in networks]
    random_state = torch.get_rng_state()
    measured(extractor=networks[0], fresh=networks[1], random=networks[2])
    assert torch.equal(torch.get_rng_state(), random_state)
    for module, state in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert all(layer.training for layer in module.modules())
        assert all(weight.requires_grad for weight in module.parameters())


def test_caching_changes_no_accuracy():
    kept, computed = (measured(cache=cache) for cache in (2**30, 0))
    assert [r.accuracy for r in kept] == [r.accuracy for r in computed]
    assert all(r.cached for r in kept)
    assert not any(r.cached for r in computed)


def test_stages_can_be_chosen():
    assert cells(measured(stages=["conv2"])) == [("trained", 1, "conv2")]
    for wrong in (["conv3"], ["pool1"], ["conv2", "conv1"], []):
        with pytest.raises(SettingError, match=r"stages must be children of extractor .* \['conv1', 'conv2'\]"):
            measured(stages=wrong)


def test_a_last_batch_of_one_image_is_left_out():
    assert len(measured(images=stripes(train=33))) == 2


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="needs at least 2 labelled train images, got 1; add images"):
        measured(images=stripes(train=1))
    with pytest.raises(DataError, match="needs at least 1 labelled test images, got 0"):
        measured(images={**stripes(), "test": (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))})


def test_another_network_in_place_of_a_fresh_one_and_a_training_that_diverges_are_refused():
    for role in ("fresh", "random"):
        with pytest.raises(SettingError, match="must have the stages of the extractor"):
            measured(**{role: nn.Sequential(nn.Linear(2, 2))})
    with pytest.raises(DataError, match=r"must stay finite, got NaN or infinity at learning_rate=1e\+30"):
        measured(protocol=DepthProtocol(learning_rate=1e30, batch_size=16, epochs=2))


@pytest.mark.parametrize(
    "setting",
    [
        {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"momentum": 1.0}, {"weight_decay": -1.0},
        {"batch_size": 1}, {"epochs": 0},
    ],
)  # fmt: skip
def test_a_protocol_that_cannot_be_trained_with_is_refused(setting):
    with pytest.raises(SettingError, match=rf"^{next(iter(setting))} must be"):
        DepthProtocol(**setting)
