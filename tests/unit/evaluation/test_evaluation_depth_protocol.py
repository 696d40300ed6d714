import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import gan_lightning.evaluation.depth_protocol as depth
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.depth_protocol import DepthProtocol, DepthRecord, averaged, frozen_depth, initial_images
from gan_lightning.evaluation.sgd import sgd

QUICK = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=3, width=6)
WHOLE = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=3, width=6, crop=1.0, flip=False)


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(4, 5, 2), nn.LeakyReLU(0.2)),
        ))  # fmt: skip


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
    return frozen_depth(given.pop("rows", {"trained": network()}), given.pop("images"), **given)


def cells(records: list[DepthRecord]) -> list[tuple]:
    return [(r.weights, r.frozen, r.stage) for r in records]


def test_every_depth_has_an_accuracy_for_each_kind_of_weights_and_one_from_scratch():
    calls = []
    rows = {"trained": network(), "random": network(2)}
    records = measured(rows=rows, scratch=True, name="it", progress=lambda *call: calls.append(call))
    expected = [(weights, n, f"conv{n}") for weights in rows for n in (1, 2)]
    assert cells(records) == [*expected, ("scratch", 0, "")]
    assert all(r.seconds > 0 for r in records)
    assert len(calls) == 5 * 3 * 6  # each batch of each training
    assert calls[71] == ("it frozen up to conv2, random weights", 18, 18)
    assert calls[-1] == ("it from scratch", 18, 18)
    # The random row is that of the random network frozen.
    alone = measured(rows={"trained": network(2)})
    assert [r.accuracy for r in records[2:4]] == [r.accuracy for r in alone]


def test_what_is_not_frozen_is_trained():
    protocol = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=20, width=16, crop=1.0, dropout=0.0)
    assert measured(depths=[1], protocol=protocol)[0].accuracy > 0.8  # one in three would be chance
    linear = DepthProtocol(learning_rate=0.05, batch_size=16, epochs=20, head="linear", crop=1.0)
    assert measured(depths=[1], protocol=linear)[0].accuracy > 0.8


def test_after_the_convolutions_follow_alexnets_layers_or_a_linear_one():
    rest = network()
    layers = [
        [tuple(layer.weight.shape) for layer in made[1].modules() if isinstance(layer, nn.Linear)]
        for made in (
            depth._with_head(rest, torch.rand(3, 1, 8, 8), 7, DepthProtocol(head=head, width=11, dropout=0.25))
            for head in ("alexnet", "linear")
        )
    ]
    assert layers == [[(11, 20), (11, 11), (7, 11)], [(7, 20)]]  # 5 maps of 2x2


def test_frozen_stages_stay_bit_for_bit_and_all_that_follows_is_trained(monkeypatch):
    # A network of a model that is being measured is frozen itself.
    extractor, fresh, seen = network(), network(1).requires_grad_(False), []
    made, original = [], depth._train

    def with_head(*arguments):
        made.append(real(*arguments))
        return made[-1]

    def watched(front, rest, *others):
        before = copy.deepcopy(front.state_dict())
        outcome = original(front, rest, *others)
        seen.append((before, front.state_dict()))
        return outcome

    real = depth._with_head
    monkeypatch.setattr(depth, "_with_head", with_head)
    monkeypatch.setattr(depth, "data_dependent_", lambda network, *_, **__: starts.append(copy.deepcopy(network)))
    monkeypatch.setattr(depth, "_train", watched)
    starts: list[nn.Module] = []
    measured(rows={"trained": extractor}, fresh=fresh)
    for end, (before, after) in zip((1, 2), seen, strict=True):
        for state in (before, after):
            assert all(torch.equal(tensor, state[name]) for name, tensor in extractor[:end].state_dict().items())
    for start, trained in zip(starts, made, strict=True):
        weights = list(zip(start.parameters(), trained.parameters(), strict=True))
        assert all(not torch.equal(one, other) for one, other in weights)
        assert all(weight.requires_grad for _, weight in weights)
    assert [len(list(start.parameters())) for start in starts] == [8, 6]  # conv2, fc6, fc7, fc8; then fc6 to fc8
    assert torch.equal(starts[0][0][0][0].weight, fresh.conv2[0].weight)


def test_what_is_trained_starts_at_the_scale_of_the_data(monkeypatch):
    scales = []

    def watched(network, initial, **settings):
        made = original(network, initial, **settings)
        scales.append(made.eval()(initial).std().item())
        return made

    original = depth.data_dependent_
    monkeypatch.setattr(depth, "data_dependent_", watched)
    tiny = network()
    nn.init.normal_(tiny.conv1[0].weight, std=1e-4)
    measured(rows={"trained": tiny})
    assert all(0.8 < scale < 1.3 for scale in scales)


def test_the_networks_and_the_random_state_are_as_before():
    networks = [network(seed).train() for seed in range(2)]
    before = [copy.deepcopy(module.state_dict()) for module in networks]
    random_state = torch.get_rng_state()
    measured(rows={"trained": networks[0]}, fresh=networks[1], scratch=True)
    assert torch.equal(torch.get_rng_state(), random_state)
    for module, state in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
        assert all(layer.training for layer in module.modules())
        assert all(weight.requires_grad for weight in module.parameters())


def test_outputs_are_kept_where_images_do_not_change_and_that_changes_no_accuracy():
    kept, computed = (measured(cache=cache, protocol=WHOLE) for cache in (2**30, 0))
    assert [r.accuracy for r in kept] == [r.accuracy for r in computed]
    assert all(r.cached for r in kept)
    assert not any(r.cached for r in computed)
    assert not any(r.cached for r in measured())


def test_training_sees_random_squares_and_mirror_images_and_the_test_the_centre(monkeypatch):
    shapes, extractor = [], network()
    extractor.conv1.register_forward_hook(lambda module, inputs, _: shapes.append(tuple(inputs[0].shape)))
    crops, flips = [], []
    monkeypatch.setattr(depth, "random_crop", lambda images, size: crops.append(size) or images[..., :size, :size])
    monkeypatch.setattr(depth, "flip_half", lambda images: flips.append(len(images)) or images)
    measured(
        rows={"trained": extractor}, depths=[1], protocol=DepthProtocol(batch_size=16, epochs=1, width=2, crop=0.8)
    )
    assert crops == [6] * 6
    assert flips == [16] * 6
    assert {shape[2:] for shape in shapes} == {(6, 6)}


def test_ten_crops_are_averaged(monkeypatch):
    seen, extractor = [], network()
    extractor.conv1.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0]))
    protocol = DepthProtocol(batch_size=40, epochs=1, width=2, crop=0.75, ten_crops=True)
    measured(rows={"trained": extractor}, depths=[1], protocol=protocol)
    images = stripes()["test"][0]
    assert len(seen[-10:]) == 10
    assert torch.equal(seen[-10], images[..., :6, :6])
    assert torch.equal(seen[-1], images[..., 1:7, 1:7].flip(-1))


def test_probabilities_are_averaged_rather_than_logits():
    logits = torch.tensor([[[4.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
    classes = averaged(logits, torch.tensor([0]))
    first = (torch.tensor([4.0, 0.0]).softmax(0)[0] + 4 * torch.tensor([0.0, 1.0]).softmax(0)[0]) / 5
    assert_close(classes, torch.stack([first, 1 - first])[None])
    attributes = averaged(logits, torch.tensor([[1, 0]]))
    assert_close(attributes[0, 0], (torch.tensor(4.0).sigmoid() + 2) / 5 - 0.5)


def test_the_protocols_numbers_reach_the_optimizer_and_biases_do_not_decay(monkeypatch):
    made = []
    monkeypatch.setattr(depth, "sgd", lambda *network, **settings: made.append(sgd(*network, **settings)) or made[-1])
    protocol = DepthProtocol(learning_rate=0.3, momentum=0.7, weight_decay=0.2, batch_size=16, epochs=1, width=6)
    measured(protocol=protocol, depths=[1])
    weights, biases = made[0].param_groups
    assert (weights["initial_lr"], weights["momentum"], weights["weight_decay"]) == (0.3, 0.7, 0.2)
    assert (biases["initial_lr"], biases["momentum"], biases["weight_decay"]) == (0.6, 0.7, 0)


def test_scales_are_those_of_random_training_images_cut_at_the_centre():
    images = torch.arange(200.0).view(-1, 1, 1, 1).expand(200, 1, 8, 8)
    chosen = initial_images(images, QUICK, seed=0)
    assert chosen.shape == (160, 1, 7, 7)
    numbers = chosen[:, 0, 0, 0]
    assert len(numbers.unique()) == 160
    assert not torch.equal(numbers, numbers.sort().values)


def test_depths_can_be_chosen():
    assert cells(measured(depths=[2])) == [("trained", 2, "conv2")]
    for wrong in ([3], [0], [1, 1]):
        with pytest.raises(SettingError, match=r"depths must be numbers from 1 to 2, the stages of the network, got"):
            measured(depths=wrong)


def test_a_last_batch_of_one_image_is_left_out():
    assert len(measured(images=stripes(train=33))) == 2


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="needs at least 2 labelled train images, got 1; add images"):
        measured(images=stripes(train=1))
    with pytest.raises(DataError, match="needs at least 1 labelled test images, got 0"):
        measured(images={**stripes(), "test": (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))})


def test_another_network_in_place_of_a_fresh_one_and_a_training_that_diverges_are_refused():
    with pytest.raises(SettingError, match="must have the stages of the extractor"):
        measured(fresh=nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(DataError, match=r"must stay finite, got NaN or infinity at learning_rate=1e\+30"):
        measured(protocol=DepthProtocol(learning_rate=1e30, batch_size=16, epochs=2, width=6))


@pytest.mark.parametrize(
    "setting",
    [
        {"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"momentum": 1.0}, {"weight_decay": -1.0},
        {"batch_size": 1}, {"epochs": 0}, {"width": 0}, {"dropout": 1.0}, {"crop": 0.0}, {"crop": 1.1},
    ],
)  # fmt: skip
def test_a_protocol_that_cannot_be_trained_with_is_refused(setting):
    with pytest.raises(SettingError, match=rf"^{next(iter(setting))} must be"):
        DepthProtocol(**setting)
