"""The two sub-problems of a generator's step: eq. 13 of Weber 2021, and each option of the split by itself."""

import copy
from dataclasses import replace

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from torchmetrics.functional.image import structural_similarity_index_measure

from gan_lightning.errors import SettingError
from gan_lightning.papers import PermutationInvariantNetworks, TutorialNetworks
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.papers.subproblem.regressions import (
    ImageRegression,
    InverseExample,
    PerceptualNetwork,
    _loaded,
    _loaded_in_double,
)
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, resting_statistics

CONVNETS = TutorialNetworks(latent_dim=4, base_width=2)
MLPS = PermutationInvariantNetworks(latent_dim=4, width=8)
PLAIN = InverseExamples(regression="half_sum", regression_rate=1.0)

LOSSES = {  # of logits, each written out: non-saturating, saturating, least squares, Wasserstein
    "non-saturating": lambda logits: -torch.sigmoid(logits).log().mean(),
    "saturating": lambda logits: (1 - torch.sigmoid(logits)).log().mean(),
    "least squares": lambda logits: ((torch.sigmoid(logits) - 1) ** 2).mean(),
    "wasserstein": lambda logits: -logits.mean(),
}


class Pair:
    """A generator and a discriminator in float64, and the loss of one batch; batch norm in both."""

    def __init__(self, networks=MLPS, size=6, loss="non-saturating", dtype=torch.float64) -> None:
        torch.manual_seed(0)
        self.generator = networks.generator(1, size).to(dtype)
        self.discriminator = networks.discriminator(1, size).to(dtype)
        with torch.no_grad():  # weights of 0.02 would leave D and G nearly linear
            for weight in (*self.generator.parameters(), *self.discriminator.parameters()):
                if weight.ndim > 1:
                    weight.mul_(10)
        self.latents = torch.randn(5, 4, dtype=dtype)
        self.loss = LOSSES[loss]

    def judge(self, images):
        logits = self.discriminator(images).squeeze(1)
        return self.loss(logits), logits

    def generator_loss(self) -> GeneratorLoss:
        return GeneratorLoss(self.generator(self.latents), self.judge, [self.generator])

    def weights(self) -> list[torch.Tensor]:
        return list(self.generator.parameters())

    def through_discriminator(self) -> list[torch.Tensor]:
        """Return the gradient of the loss by plain autograd through D."""
        return list(torch.autograd.grad(self.judge(self.generator(self.latents))[0], self.weights()))

    def through_images(self, update: InverseExamples) -> list[torch.Tensor]:
        return list(torch.autograd.grad(update.objective(self.generator_loss()), self.weights()))

    def image_gradient(self, images=None, loss=None) -> torch.Tensor:
        images = self.generator(self.latents).detach() if images is None else images
        images = images.clone().requires_grad_()
        logits = self.discriminator(images).squeeze(1)
        return torch.autograd.grad((loss or self.loss)(logits), images)[0]


def largest_relative_error(found, expected) -> float:
    scale = max(e.abs().max() for e in expected)
    return max((f - e).abs().max() / scale for f, e in zip(found, expected, strict=True)).item()


# Eq. 13


@pytest.mark.parametrize(("networks", "size"), [(MLPS, 6), (CONVNETS, 64)], ids=["mlps", "convnets"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rate", [2e-4, 1.0])
def test_the_regressions_gradient_is_eta_times_that_of_any_loss(networks, size, loss, rate):
    pair = Pair(networks, size, loss)
    found = pair.through_images(replace(PLAIN, inversion_rate=rate))
    expected = [rate * gradient for gradient in pair.through_discriminator()]
    assert min(e.abs().max().item() for e in expected) > 0
    assert largest_relative_error(found, expected) < 1e-10


def test_in_float32_a_step_far_below_rounding_still_has_its_gradient():
    pair = Pair(dtype=torch.float32)
    update = replace(PLAIN, inversion_rate=1e-9)
    examples = update.invert(pair.generator_loss())
    assert torch.equal(examples.targets, examples.start)  # the rounded targets say nothing
    expected = [1e-9 * gradient for gradient in pair.through_discriminator()]
    assert largest_relative_error(pair.through_images(update), expected) < 1e-5


def test_direct_training_descends_on_the_loss_itself():
    pair = Pair()
    loss = pair.generator_loss()
    assert Direct().objective(loss) is loss.value
    assert not Direct().plain_descent


# The discriminator is out of the regression


def test_the_regression_does_not_lead_to_the_discriminator_whose_graph_is_gone():
    pair = Pair()
    loss = pair.generator_loss()
    objective = PLAIN.objective(loss)
    theirs = list(pair.discriminator.parameters())
    reached = torch.autograd.grad(objective, [*theirs, *pair.weights()], allow_unused=True, retain_graph=True)
    assert [gradient is None for gradient in reached] == [True] * len(theirs) + [False] * len(pair.weights())
    assert all(weight.grad is None for weight in (*theirs, *pair.weights()))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss.value, loss.images)


def test_the_loss_keeps_its_graph_where_it_is_still_needed():
    pair = Pair()
    loss = pair.generator_loss()
    PLAIN.objective(loss, retain_graph=True)
    assert torch.autograd.grad(loss.value, pair.weights())


def test_the_first_step_runs_the_discriminator_no_second_time_and_each_further_one_once():
    for steps, runs in ((1, 1), (2, 2), (4, 4)):
        pair, seen = Pair(), []
        pair.discriminator.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        replace(PLAIN, inversion_steps=steps).objective(pair.generator_loss())
        assert len(seen) == runs


# Inversion, option by option


def test_several_steps_are_gradient_descent_on_the_images_written_out():
    pair = Pair()
    images = pair.generator(pair.latents).detach()
    for _ in range(3):
        images = images - 0.5 * pair.image_gradient(images)
    found = replace(PLAIN, inversion_rate=0.5, inversion_steps=3).invert(pair.generator_loss())
    assert_close(found.targets, images, rtol=0, atol=1e-14)
    assert_close(found.start, pair.generator(pair.latents).detach())


def test_momentum_carries_a_share_of_the_last_step_on():
    pair = Pair()
    images, velocity = pair.generator(pair.latents).detach(), 0
    for _ in range(3):
        velocity = 0.9 * velocity + pair.image_gradient(images)
        images = images - 0.5 * velocity
    update = replace(PLAIN, inversion_rate=0.5, inversion_steps=3, inversion_momentum=0.9)
    assert_close(update.invert(pair.generator_loss()).targets, images, rtol=0, atol=1e-14)


def test_adam_moves_each_value_by_the_rate_in_its_first_step_however_small_the_gradient():
    pair = Pair()
    update = replace(PLAIN, inversion_rate=0.01, inversion_optimizer="adam")
    moved = update.invert(pair.generator_loss()).displacement
    assert_close(moved, -0.01 * pair.image_gradient().sign(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("discrepancy", "written_out"),
    [
        ("bce", lambda logits: -torch.sigmoid(logits).log().mean()),
        ("l2", lambda logits: ((torch.sigmoid(logits) - 1) ** 2).mean()),
        ("l1", lambda logits: (torch.sigmoid(logits) - 1).abs().mean()),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_discrepancy_on_labels_takes_the_place_of_the_models_loss(discrepancy, written_out, steps):
    pair = Pair(loss="wasserstein")
    images = pair.generator(pair.latents).detach()
    for _ in range(steps):
        images = images - 0.5 * pair.image_gradient(images, written_out)
    update = replace(PLAIN, inversion_rate=0.5, inversion_steps=steps, discrepancy=discrepancy)
    assert_close(update.invert(pair.generator_loss()).targets, images, rtol=0, atol=1e-14)


def test_total_variation_is_a_term_beside_the_discrepancy():
    pair = Pair()
    images = pair.generator(pair.latents).detach().requires_grad_()
    vertical, horizontal = images[:, :, 1:] - images[:, :, :-1], images[..., 1:] - images[..., :-1]
    variation = 3 * (vertical.abs().sum() + horizontal.abs().sum()) / len(images)
    expected = -0.5 * (pair.image_gradient() + torch.autograd.grad(variation, images)[0])
    update = replace(PLAIN, inversion_rate=0.5, total_variation=3.0)
    assert_close(update.invert(pair.generator_loss()).displacement, expected, rtol=0, atol=1e-14)


def test_staying_close_pulls_back_from_the_second_step_on():
    pair = Pair()
    start = images = pair.generator(pair.latents).detach()
    for _ in range(2):
        images = images - 0.5 * (pair.image_gradient(images) + 2 * 0.7 * (images - start) / len(start))
    update = replace(PLAIN, inversion_rate=0.5, inversion_steps=2, stay_close=0.7)
    assert_close(update.invert(pair.generator_loss()).targets, images, rtol=0, atol=1e-14)
    once = replace(update, inversion_steps=1).invert(pair.generator_loss())
    assert_close(once.targets, replace(PLAIN, inversion_rate=0.5).invert(pair.generator_loss()).targets)


def test_clamping_holds_targets_to_the_range_of_images_and_leaves_those_inside_alone():
    pair = Pair()
    free = replace(PLAIN, inversion_rate=100.0).invert(pair.generator_loss())
    held = replace(PLAIN, inversion_rate=100.0, clamp=True).invert(pair.generator_loss())
    outside = free.targets.abs() > 1
    assert 0 < outside.double().mean() < 1
    assert_close(held.targets, free.targets.clamp(-1, 1))
    assert torch.equal(held.displacement[~outside], free.displacement[~outside])


@pytest.mark.parametrize("steps", [1, 4])
def test_the_statistics_of_batch_norm_count_the_models_own_pass_and_no_other(steps):
    pair = Pair()
    loss = pair.generator_loss()
    before = copy.deepcopy(pair.discriminator.state_dict())
    with resting_statistics(pair.discriminator):
        replace(PLAIN, inversion_steps=steps).objective(loss)
    assert_close(pair.discriminator.state_dict(), before, rtol=0, atol=0)
    pair.judge(torch.zeros(3, 1, 6, 6, dtype=torch.float64))
    assert pair.discriminator.state_dict()["hidden2.1.num_batches_tracked"] == 2


def test_resting_statistics_change_no_output_in_either_mode():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False))
    inputs = torch.randn(6, 3)
    network(inputs)
    for training in (True, False):
        network.train(training)
        with resting_statistics(network):
            resting = network(inputs)
        assert_close(resting, network(inputs))
    assert [layer.track_running_stats for layer in network[1:]] == [True, False]


# Regression, option by option


def test_each_regressions_gradient_is_its_own_function_of_the_images_gradient():
    pair, rate = Pair(), 0.3
    step = rate * pair.image_gradient()  # x - x'
    wanted = {"half_sum": step, "sum": 2 * step, "mean": 2 * step / step.numel(), "l1": step.sign()}
    for regression, at_images in wanted.items():
        expected = torch.autograd.grad(pair.generator(pair.latents), pair.weights(), at_images)
        for eta in (1.0, 0.25):
            found = pair.through_images(InverseExamples(rate, regression=regression, regression_rate=eta))
            assert_close(found, [eta * gradient for gradient in expected], rtol=1e-10, atol=1e-15)


def test_the_defaults_are_section_6_1s():
    update = InverseExamples()
    assert (update.inversion_rate, update.inversion_steps, update.regression, update.regression_rate) == (
        2e-4, 1, "sum", 0.5,
    )  # fmt: skip
    pair = Pair()
    expected = [2e-4 * gradient for gradient in pair.through_discriminator()]
    assert largest_relative_error(pair.through_images(update), expected) < 1e-10


def test_ssim_compares_structure_over_the_range_of_images():
    torch.manual_seed(0)
    start, moved = torch.rand(3, 1, 16, 16) * 2 - 1, torch.randn(3, 1, 16, 16) * 0.1
    images = start.clone().requires_grad_()
    loss = ImageRegression(regression="ssim").loss(images, InverseExample(start, moved))
    assert_close(loss, 1 - structural_similarity_index_measure(start, start + moved, data_range=2.0))
    (gradient,) = torch.autograd.grad(loss, images)
    closer = ImageRegression(regression="ssim").loss(start - gradient, InverseExample(start, moved))
    assert closer < loss


def test_ssim_sees_steps_below_float32s_rounding():
    torch.manual_seed(0)
    start, moved = torch.rand(2, 1, 16, 16), 1e-10 * torch.randn(2, 1, 16, 16)
    images, update = start.clone().requires_grad_(), ImageRegression(regression="ssim")
    gradient, ten_times = (
        torch.autograd.grad(update.loss(images, InverseExample(start, scale * moved)), images)[0] for scale in (1, 10)
    )
    assert_close(ten_times, 10 * gradient, rtol=1e-2, atol=1e-2 * ten_times.abs().max().item())


@pytest.fixture
def judge_module(tmp_path, monkeypatch):
    (tmp_path / "judges.py").write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(2, 3, 3))\n"
        "def number():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_perceptual_distance_is_between_the_features_of_a_network_of_the_users(judge_module):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(2, 3, 3))
    torch.save(network.state_dict(), judge_module / "weights.pt")
    settings = PerceptualNetwork("judges.small", str(judge_module / "weights.pt"), ("0", "3"))
    update = InverseExamples(regression="perceptual", perceptual=settings)
    update.check(1, 8)
    start, moved = torch.randn(2, 4, 1, 8, 8).unbind()
    images = start.clone().requires_grad_()
    first, last = network[0](start), network.eval()(start)
    first_wanted, last_wanted = network[0](start + moved), network(start + moved)
    loss = update.as_regression().loss(images, InverseExample(start, moved))
    assert_close(loss, F.mse_loss(first, first_wanted) + F.mse_loss(last, last_wanted))
    assert torch.autograd.grad(loss, images)[0].abs().max() > 0
    output = replace(settings, layers=()).distance(images, InverseExample(start, moved))
    assert_close(output, F.mse_loss(last, last_wanted))


@pytest.mark.parametrize("autocast", [False, True])
def test_a_perceptual_distance_sees_steps_below_float32s_rounding(judge_module, autocast):
    torch.manual_seed(0)
    start, moved = torch.randn(2, 1, 8, 8), 1e-10 * torch.randn(2, 1, 8, 8)
    images, settings = start.clone().requires_grad_(), PerceptualNetwork("judges.small")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        gradient, ten_times = (
            torch.autograd.grad(settings.distance(images, InverseExample(start, scale * moved)), images)[0]
            for scale in (1, 10)
        )
    assert gradient.abs().max() > 0
    assert_close(ten_times, 10 * gradient, rtol=1e-3, atol=1e-3 * ten_times.abs().max().item())


def test_a_perceptual_network_is_the_same_one_in_each_run_and_takes_no_random_numbers(judge_module):
    settings, examples = PerceptualNetwork("judges.small"), InverseExample(*torch.randn(2, 4, 1, 8, 8).double())
    distances = []
    for seed in (0, 1):
        _loaded.cache_clear()
        _loaded_in_double.cache_clear()
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        settings.check(1, 8)
        distances.append(settings.distance(examples.start, examples))
        assert torch.equal(torch.get_rng_state(), state)
    assert_close(*distances, rtol=0, atol=0)
    settings.check(1, 8)  # for a second model, after the first one's training in float64


def test_layers_may_be_a_list():
    settings = PerceptualNetwork("judges.small", layers=["0"])
    assert settings == PerceptualNetwork("judges.small", layers=("0",))
    assert hash(settings) == hash(PerceptualNetwork("judges.small", layers=("0",)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": "judges.large"}, r"network must be the import path .* got 'judges\.large'"),
        ({"network": "nowhere.small"}, r"got 'nowhere\.small' \(No module named 'nowhere'\)"),
        ({"network": "small"}, r"network must be the import path"),
        ({"network": "judges.number"}, r"what makes a torch\.nn\.Module, got 'judges\.number', which makes a int"),
        ({"network": "judges.small", "weights": "no.pt"}, r"weights must be a file with a state dict, got 'no\.pt'"),
        ({"network": "judges.small", "layers": ("7",)}, r"layers must be modules of .* got '7'. There are 0, 1, 2, 3"),
    ],
)  # fmt: skip
def test_a_perceptual_network_that_cannot_be_had_is_refused(judge_module, settings, message):
    with pytest.raises(SettingError, match=message):
        PerceptualNetwork(**settings).check(1, 8)


def test_a_perceptual_network_for_other_images_is_refused(judge_module):
    with pytest.raises(SettingError, match=r"network must take images of 3 channels and 8 pixels, got 'judges\.small'"):
        PerceptualNetwork("judges.small").check(3, 8)


def test_weights_of_another_network_are_refused(judge_module):
    torch.save({"other": torch.zeros(1)}, judge_module / "weights.pt")
    with pytest.raises(SettingError, match=r"weights must fit .*missing there: .*1 too much there: other"):
        PerceptualNetwork("judges.small", str(judge_module / "weights.pt")).check(1, 8)


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inversion_rate": 0.0}, r"inversion_rate must be above 0, got 0\.0"),
        ({"inversion_rate": -1.0}, r"inversion_rate must be above 0, got -1\.0"),
        ({"inversion_rate": float("nan")}, r"inversion_rate must be above 0, got nan"),
        ({"regression_rate": 0.0}, r"regression_rate must be above 0, got 0\.0"),
        ({"inversion_steps": 0}, r"inversion_steps must be at least 1, got 0"),
        ({"inversion_momentum": 1.0}, r"inversion_momentum must be in \[0, 1\), got 1\.0"),
        ({"inversion_momentum": 0.9, "inversion_optimizer": "adam"}, r"must be 0 with inversion_optimizer 'adam'"),
        ({"inversion_optimizer": "lbfgs"}, r"inversion_optimizer must be one of sgd, adam, got 'lbfgs'"),
        ({"discrepancy": "hinge"}, r"discrepancy must be one of own, bce, l2, l1, got 'hinge'"),
        ({"regression": "huber"}, r"regression must be one of sum, half_sum, mean, l1, ssim, perceptual, got 'huber'"),
        ({"regression_optimizer": "adam"}, r"regression_optimizer must be one of own, sgd, got 'adam'"),
        ({"total_variation": -1.0}, r"total_variation must be at least 0, got -1\.0"),
        ({"stay_close": -1.0}, r"stay_close must be at least 0, got -1\.0"),
        ({"regression": "perceptual"}, r"perceptual must be given with regression 'perceptual'"),
        ({"perceptual": PerceptualNetwork("a.b")}, r"with regression 'perceptual' and with no other"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(monkeypatch, settings, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse some by their type
    with pytest.raises(SettingError, match=message):
        InverseExamples(**settings)


def test_images_too_small_for_ssim_are_refused():
    InverseExamples(regression="ssim").check(1, 11)
    with pytest.raises(SettingError, match=r"must not be 'ssim' for images below 11 pixels.* got images of 8"):
        InverseExamples(regression="ssim").check(1, 8)


def test_checkpoints_may_hold_an_update(tmp_path):
    for update in (
        Direct(), InverseExamples(), InverseExamples(regression="perceptual", perceptual=PerceptualNetwork("a.b")),
    ):  # fmt: skip
        torch.save(update, tmp_path / "update.pt")
        assert torch.load(tmp_path / "update.pt", weights_only=True) == update
