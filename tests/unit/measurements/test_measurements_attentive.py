import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.evaluation.attentive_pooling import AttentiveProtocol, PooledHead, pooled_accuracy
from gan_lightning.measurements import Attentive, Bench

QUICK = AttentiveProtocol(learning_rates=(0.01,), epochs=30, batch_size=30)


def marks(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps with one marked place; beside the mark stands the class, and noise of the same size elsewhere."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    maps = torch.randn(count, 4, 4, 4, generator=rng)
    maps[:, 0] = 0
    place = torch.randint(16, (count,), generator=rng)
    flat = maps.flatten(2)
    flat[torch.arange(count), 0, place] = 6.0
    flat[torch.arange(count), 1, place] = 2.0 * (2 * labels - 1)
    return flat.reshape_as(maps), labels


def test_attention_finds_the_place_that_tells_and_the_mean_does_not():
    (train, labels), (test, truth) = marks(240, 0), marks(120, 1)
    found = {
        pooling: pooled_accuracy(train, labels, test, truth, num_classes=2, pooling=pooling, protocol=QUICK)[0]
        for pooling in ("attention", "mean")
    }
    assert found["attention"] > 0.9
    assert found["attention"] > found["mean"] + 0.1


def test_attention_is_torchs_own():
    torch.manual_seed(0)
    head, maps = PooledHead(6, 3, "attention", heads=2), torch.randn(5, 6, 3, 3)
    reference = nn.MultiheadAttention(6, 2, batch_first=True)
    with torch.no_grad():
        query = head.query.flatten()
        reference.in_proj_weight.copy_(torch.cat([torch.eye(6), head.key.weight, head.value.weight]))
        reference.in_proj_bias.copy_(torch.cat([torch.zeros(6), head.key.bias, head.value.bias]))
        reference.out_proj.weight.copy_(torch.eye(6))
        reference.out_proj.bias.zero_()
        tokens = maps.flatten(2).mT
        attended, _ = reference(query.expand(5, 1, 6), tokens, tokens)
        torch.testing.assert_close(head(maps), head.classify(attended[:, 0]))


def test_the_rate_is_chosen_without_the_test_images_and_nothing_global_is_drawn():
    (train, labels), (test, truth) = marks(60, 0), marks(40, 1)
    protocol = AttentiveProtocol(learning_rates=(1e-9, 0.03), epochs=15, batch_size=20)
    state = torch.get_rng_state()
    found = [
        pooled_accuracy(train, labels, test, each, num_classes=2, pooling="attention", protocol=protocol)[1]
        for each in (truth, 1 - truth)
    ]
    assert found == [0.03, 0.03]
    assert torch.equal(torch.get_rng_state(), state)


def data() -> TensorImages:
    images = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    labels = torch.arange(40) % 2
    images += (labels - 0.5)[:, None, None, None]
    return TensorImages("grey", train=(images[:20], labels[:20]), test=(images[20:], labels[20:]), num_classes=2)


def test_extractors_with_convolutions_are_measured_beside_random_weights():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
    bench = Bench({"own": network, "flat": nn.Flatten()}, data())
    found = {figure.name: figure.value for figure in bench.measure(Attentive(enabled=True, protocol=QUICK)).figures}
    assert set(found) == {
        f"attentive/own/{pooling}/{weights}accuracy"
        for pooling in ("attention", "mean")
        for weights in ("", "random_weights/")
    }
    assert found["attentive/own/mean/accuracy"] > 0.9


def test_networks_without_convolutions_are_passed_over():
    with pytest.raises(SettingError, match=r"no extractor with convolutions \(`stages\(\)`\)"):
        Bench({"flat": nn.Flatten()}, data()).measure(Attentive(enabled=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, "heads must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"learning_rates": ()}, "learning_rates must hold at least one value"),
        ({"learning_rates": (0.0,)}, "learning_rates must be above 0"),
        ({"held_out": 1.0}, "held_out must be between 0 and 1"),
    ],
)
def test_unusable_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        AttentiveProtocol(**settings)
