"""Networks with random weights: a control is what depends on the seed, and on nothing that was learnt."""

import copy
import re
import threading
from dataclasses import dataclass

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.controls import control_of, random_copy
from gan_lightning.evaluation.features import as_extractor
from gan_lightning.interfaces import LinearHead

PRETRAINED = {"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.tensor([1.0, 2.0, 3.0])}


def pretrained() -> nn.Linear:
    layer = nn.Linear(4, 3)
    layer.load_state_dict(PRETRAINED)
    return layer


class Model(LightningModule):
    """Has an extractor and its head."""

    def __init__(self, width: int = 3, slope: float = 0.2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.LeakyReLU(slope))
        self.head = nn.Linear(width, 1)

    def extractors(self):
        return {"D": self.network}

    def heads(self):
        return {"D": LinearHead(self.head.weight, "discrimination")}


def trained(model: nn.Module) -> nn.Module:
    """Return a model that training has changed."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    return model


def control(model: nn.Module, seed: int = 0):
    heads = model.heads() if hasattr(model, "heads") else {}
    networks = {name: as_extractor(name, network) for name, network in model.extractors().items()}
    return control_of(model, networks, heads, seed)


def test_a_model_is_built_anew_and_has_its_own_initial_distribution():
    model = trained(Model(width=5, slope=0.7))
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, again, other = (control(model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_close(model.state_dict(), before, rtol=0, atol=0)
    torch.manual_seed(1)
    expected = Model(width=5, slope=0.7)
    for found in (first, again):
        assert found.remarks == ()
        assert_close(found.networks["D"].state_dict(), expected.network.state_dict(), rtol=0, atol=0)
        assert torch.equal(found.heads["D"].weight, expected.head.weight)
    assert not torch.equal(other.networks["D"][0].weight, expected.network[0].weight)
    assert not torch.equal(other.heads["D"].weight, expected.head.weight)
    assert first.networks["D"][2].negative_slope == 0.7
    assert not first.networks["D"].training


@dataclass
class Sizes:
    width: int = 2
    built: int = 0


class Nested(Model):
    def __init__(self, sizes: Sizes, slope: float) -> None:
        super().__init__(sizes.width, slope)
        self.save_hyperparameters()
        sizes.built += 1


class Handing(Model):
    def __init__(self, **settings: float) -> None:
        super().__init__(**settings)
        self.save_hyperparameters()


@pytest.mark.parametrize("model", [Nested(Sizes(), 0.3), Handing(width=6), Handing()])
def test_settings_in_dataclasses_and_settings_that_are_handed_on_rebuild_the_model(model):
    found = control(trained(model))
    assert found.remarks == ()
    assert found.networks["D"][0].weight.shape == model.network[0].weight.shape
    assert found.networks["D"][2].negative_slope == model.network[2].negative_slope
    assert not torch.equal(found.networks["D"][0].weight, model.network[0].weight)
    assert "sizes" not in model.hparams or model.hparams["sizes"].built == 1, "each gets settings of its own"


class Forgetful(LightningModule):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = nn.Linear(4, width)

    def extractors(self):
        return {"D": self.network}


class Attached(Model):
    def extractors(self):
        return {"D": self.network if self.trainer else None}


def changed_later() -> Model:
    model = Model(width=3)
    model.hparams["width"] = 4
    return model


def unbuildable() -> Model:
    model = Model(width=3)
    model.hparams["width"] = -1
    return model


def attached() -> Model:
    model = Attached()
    model._trainer = object()
    return model


class Loading(LightningModule):
    """Begins with weights that somebody else has trained."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.network = pretrained()

    def extractors(self):
        return {"D": self.network}


class Beside(Loading):
    """And draws others."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Linear(4, 4)


class Given(LightningModule):
    """Gets its network as a setting, and so the trained one, whenever it is built."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=[])
        self.network, self.generator = network, nn.Linear(4, 4)

    def extractors(self):
        return {"D": self.network}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            Forgetful(3),
            r"Forgetful has not saved its hyper-parameters width, .*: call self\.save_hyperparameters\(\) in its",
        ),
        (
            changed_later(),
            r"Model, built anew from its hyper-parameters, has other weights than this one",
        ),
        (
            unbuildable(),
            r"Model cannot be built anew from its hyper-parameters \(RuntimeError: .*negative dim",
        ),
        (
            attached(),
            r"Attached cannot be built anew from its hyper-parameters \(RuntimeError: Attached is not att",
        ),
        (Loading(), r"The weights of Loading do not depend on the seed: its __init__ loads or fixes them"),
        (Beside(), r"The weights of 'D' do not depend on the seed: Beside\.__init__ loads or fixes them"),
        (Given(pretrained()), r"The weights of 'D' do not depend on the seed: Given\.__init__ loads or fixes them"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else "",
)
def test_where_a_model_cannot_be_rebuilt_a_copy_is_reset_and_the_reason_is_said(model, why):
    network = model.extractors()["D"]
    before = copy.deepcopy(network.state_dict())
    heads = {"D": LinearHead(torch.ones(1, 3), "discrimination", softmax=True)}
    first, again, other = (control_of(model, {"D": network}, heads, seed) for seed in (1, 1, 2))
    (remark,) = first.remarks
    assert re.match(why, remark), remark
    assert remark.endswith("The random-weights control is a copy whose layers are reset to torch's defaults.")
    assert_close(network.state_dict(), before, rtol=0, atol=0)
    weights = [next(each.networks["D"].parameters()) for each in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], next(network.parameters()))
    assert (first.heads["D"].task, first.heads["D"].softmax) == ("discrimination", True)
    assert not torch.equal(first.heads["D"].weight, other.heads["D"].weight)


def test_weights_that_a_control_shares_with_every_other_are_named():
    class Partly(Model):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(pretrained(), nn.Linear(3, 3), nn.BatchNorm1d(3))

    (remark,) = control(Partly()).remarks
    assert remark.startswith("The random-weights control of 'D' has the same 0.weight, 0.bias for every seed: Partly.")


def test_functions_are_rebuilt_with_what_they_call_and_in_eval_mode():
    class Function(Model):
        def extractors(self):
            return {"D": lambda images: self.network(images)}

    model, images = Function().eval(), torch.ones(2, 4)
    found = control(model)
    assert not torch.equal(found.networks["D"](images), model.network(images))
    assert torch.equal(found.networks["D"](images), control(model).networks["D"](images)), "no statistic has moved"


def test_networks_alone_are_copied_and_what_has_no_weights_has_no_control():
    networks = {"weights": nn.Linear(2, 2), "none": nn.Flatten()}
    found = control_of(None, networks, {}, 0)
    assert list(found.networks) == ["weights"]
    assert found.remarks == ("The extractor 'none' has no weights, and so no random-weights control.",)


class Fixed(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.constant_(self.weight, 0.5)
        nn.init.zeros_(self.bias)


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(2, 2))), r"0\.weight_orig"),
        (Fixed(2, 2), "all weights"),
    ],
)
def test_a_copy_in_which_weights_stay_is_no_control(network, left):
    found = control_of(None, {"D": network}, {"D": LinearHead(torch.ones(1, 2), "discrimination")}, 0)
    assert (found.networks, found.heads) == ({}, {})
    (remark,) = found.remarks
    assert re.match(
        rf"The extractor 'D' has no random-weights control: reset_parameters\(\) leaves {left} as they are\. Let the "
        "model build it from saved hyper-parameters", remark,
    ), remark  # fmt: skip


class Locked(nn.Linear):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.lock = threading.Lock()


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            Locked(),
            r"'D' must be a network that can be copied, .*, got TypeError: cannot pickle '_thread\.lock'",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), Scale()),
            r"got the layer '1' with parameters but without reset_parameters\(\)",
        ),
        (Scale(), r"'D' must be able to reset itself, .*, got the layer 'Scale' with parameters"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), r"got the layer 'parametrizations\.weight'"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), r"got the layer 'parametrizations\.weight'"),
    ],
)
def test_a_network_that_cannot_be_copied_or_reset_is_refused_with_the_remedy(network, message):
    remedy = r".*call self\.save_hyperparameters\(\) in the model's __init__, or give random_networks to the Bench\."
    with pytest.raises(SettingError, match=message + remedy):
        control_of(None, {"D": network}, {}, 0)


def test_a_spectral_norm_of_a_model_that_can_be_rebuilt_is_no_obstacle():
    class Spectral(Model):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(
                nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), nn.utils.spectral_norm(nn.Linear(3, 3))
            )

    model = trained(Spectral())
    model.network(torch.ones(2, 4))
    found = control(model)
    assert found.remarks == ()
    assert not torch.equal(found.networks["D"][0].weight, model.network[0].weight)


def test_a_random_copy_resets_every_layer_and_parents_after_their_children():
    original = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Flatten(), nn.Linear(32, 3)))
    trained(original)
    before = copy.deepcopy(original.state_dict())
    first, again, other = (random_copy(original, seed) for seed in (1, 1, 2))
    assert_close(original.state_dict(), before, rtol=0, atol=0)
    assert_close(first.state_dict(), again.state_dict(), rtol=0, atol=0)
    assert not torch.equal(first[0].weight, other[0].weight)
    assert not torch.equal(first[2][1].weight, original[2][1].weight)
    assert torch.equal(first[1].weight, torch.ones(2))

    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.child = nn.Linear(2, 2)

        def reset_parameters(self) -> None:
            nn.init.constant_(self.child.weight, 0.25)

    assert torch.equal(random_copy(Parent(), 0).child.weight, torch.full((2, 2), 0.25))
