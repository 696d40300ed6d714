"""How a generator is updated is a part of any adversarial model: one split, and where it is exact the same step."""

from collections import Counter

import jaxtyping
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.papers import (
    GAN,
    MGAN,
    BiGAN,
    ImplicitMaximumLikelihood,
    InverseExamples,
    LatentRegressor,
    NearestRealImages,
    PermutationInvariantNetworks,
    SelfExGAN,
    TargetRegression,
    TutorialNetworks,
)
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, UpdatesGenerator

SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)
TUTORIAL = TutorialNetworks(latent_dim=3, base_width=2)
MODELS = {
    "mgan": (lambda **s: MGAN(1, 32, base_width=2, feature_dim=4, generators=3, fake_batch_size=6, **s), 32),
    "gan": (lambda **s: GAN(1, 6, SMALL, **s), 6),
    "gan, alternating": (lambda **s: GAN(1, 6, SMALL, simultaneous=False, latent_prior="normal", **s), 6),
    "dcgan": (lambda **s: GAN(1, 64, TUTORIAL, simultaneous=False, latent_prior="normal", **s), 64),
    "bigan": (lambda **s: BiGAN(1, 6, SMALL, **s), 6),
    "bigan, original objective": (lambda **s: BiGAN(1, 6, SMALL, inverse_objective=False, **s), 6),
    "bigan, alternating": (lambda **s: BiGAN(1, 6, SMALL, simultaneous=False, **s), 6),
    "lr": (lambda **s: LatentRegressor(1, 6, SMALL, **s), 6),
    "jlr": (lambda **s: LatentRegressor(1, 6, SMALL, joint_weight=0.25, **s), 6),
    "selfexgan": (lambda **s: SelfExGAN(1, 32, "mnist", base_width=2, **s), 32),
}
every_model = pytest.mark.parametrize("name", MODELS)
each_kind = pytest.mark.parametrize("name", ["mgan", "gan", "bigan, alternating", "jlr", "selfexgan"])
OWN_AND_SGD = [(name, "own") for name in MODELS] + [(name, "sgd") for name in each_kind.args[1]]
HALF = InverseExamples(regression="half_sum", regression_rate=1.0)
EXACT = InverseExamples(regression_rate=0.5 / 2e-4)


def built(name: str, update=None):
    seed_everything(0)
    model = MODELS[name][0](**({} if update is None else {"generator_update": update}))
    with torch.no_grad():  # out of the nearly linear start, where all gradients are small
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(5)
    return model


def fit(name: str, model, batches: int = 1, **settings) -> Trainer:
    size = MODELS[name][1]
    images = torch.rand(5 * batches, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loader = DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.int64)), batch_size=5)
    trainer = Trainer(
        **{"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu", "precision": "64-true"} | settings
    )  # fmt: skip
    torch.manual_seed(1)
    trainer.fit(model, loader)
    return trainer


def is_generators(name: str) -> bool:
    return name.startswith("generator")


def plain(model, rate: float, generator_rate: float):
    """Replace the model's optimizers by gradient descent, at a rate of its own for the generator."""
    model.double()
    of = {weight: name for name, weight in model.named_parameters()}
    configured = model.configure_optimizers()
    optimizers, schedules = configured if isinstance(configured, tuple) else (configured, None)
    descents = []
    for optimizer in optimizers:
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        groups = [
            {"params": [p for p in weights if is_generators(of[p])], "lr": generator_rate},
            {"params": [p for p in weights if not is_generators(of[p])], "lr": rate},
        ]
        descents.append(torch.optim.SGD([group for group in groups if group["params"]], lr=rate))
    if schedules is not None:
        schedules = [torch.optim.lr_scheduler.LambdaLR(descent, lambda _: 1.0) for descent in descents]
        model.configure_optimizers = lambda: (descents, schedules)
    else:
        model.configure_optimizers = lambda: descents
    return model


@every_model
def test_with_eta_divided_out_training_is_direct_training_weight_decay_and_adams_epsilon_included(name):
    direct, split = built(name), built(name, EXACT)
    for model in (direct, split):
        fit(name, model, batches=3)
    assert_close(split.state_dict(), direct.state_dict(), rtol=1e-9, atol=1e-12)
    start = built(name).double()
    assert all(not torch.equal(w, s) for w, s in zip(split.parameters(), start.parameters(), strict=True))


@pytest.mark.parametrize(("name", "regression_optimizer"), OWN_AND_SGD)
def test_a_step_of_descent_on_inverse_examples_is_a_direct_one_at_the_scaled_rate(name, regression_optimizer):
    rate, eta = 0.1, 0.3
    by_itself = regression_optimizer == "sgd"
    update = InverseExamples(
        eta, regression="half_sum", regression_rate=rate if by_itself else 1.0,
        regression_optimizer=regression_optimizer,
    )  # fmt: skip
    direct = plain(built(name), rate, rate * eta)
    split = plain(built(name, update), rate, 1e9 if by_itself else rate)  # whose rate then must not matter
    for model in (direct, split):
        fit(name, model)
    start = dict(built(name).double().named_parameters())
    for weight, value in split.named_parameters():
        assert_close(value, direct.get_parameter(weight), rtol=1e-9, atol=1e-12, msg=weight)
        assert not torch.equal(value, start[weight]), weight


@each_kind
def test_the_split_runs_no_network_more_often_and_each_further_step_the_discriminator_once(name):
    runs = {}
    for label, update in {"direct": Direct(), 1: HALF, 3: InverseExamples(inversion_steps=3)}.items():
        model, runs[label] = built(name, update), Counter()
        for part in ("generator", "generator_trunk", "encoder", "discriminator_head", "discriminator"):
            if (network := getattr(model, part, None)) is not None:
                network.register_forward_hook(lambda *_, part=part, label=label: runs[label].update([part]))
        fit(name, model)
    assert runs[1] == runs["direct"]
    judged_by = "discriminator_head" if name == "mgan" else "discriminator"
    kinds = 2 if name == "selfexgan" else 1  # of images, each of which is a pass of its own
    assert runs[3][judged_by] == runs[1][judged_by] + 2 * kinds
    assert all(runs[3][part] == runs[1][part] for part in ("generator", "generator_trunk"))


@each_kind
def test_another_update_of_the_generator_leaves_all_else_of_the_step_alone(name):
    direct = built(name)
    fit(name, direct)
    for update in (
        HALF,
        InverseExamples(inversion_rate=0.1, inversion_steps=3, inversion_optimizer="adam", total_variation=0.1,
                        stay_close=1.0, clamp=True, discrepancy="l2", regression="l1"),
        InverseExamples(regression="mean", regression_optimizer="sgd"),
        TargetRegression(ImplicitMaximumLikelihood()),
        TargetRegression(NearestRealImages(), regression="l1"),
    ):  # fmt: skip
        model = built(name, update)
        fit(name, model)
        weights = {key for key, _ in model.named_parameters() if is_generators(key)}
        state, expected = model.state_dict(), direct.state_dict()
        differing = {key for key, value in state.items() if not torch.equal(value, expected[key])}
        # Not other networks' weights, nor any network's batch-norm statistics, nor the counters.
        assert differing == weights


@each_kind
def test_updates_are_settings_that_checkpoints_hold(name, tmp_path):
    model = built(name, EXACT)
    fit(name, model, precision="32-true").save_checkpoint(tmp_path / "model.ckpt")
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["generator_update"] == EXACT
    again = type(model)(**saved["hyper_parameters"])
    assert isinstance(again, UpdatesGenerator)
    assert again.generator_update == EXACT
    again.load_state_dict(saved["state_dict"])


@pytest.mark.parametrize("name", ["mgan", "gan", "bigan", "selfexgan"])
def test_in_bfloat16_the_gradients_keep_its_precision(name):
    weights = {}
    for label, update in {"direct": Direct(), "split": HALF}.items():
        model = plain(built(name, update), 0.1, 0.1 if update == HALF else 0.1 * 2e-4).float()
        start = {n: w.detach().clone() for n, w in model.named_parameters() if is_generators(n)}
        # A step this small is lost in float32 weights: observe the gradients instead.
        gradients = {}
        for n, w in model.named_parameters():
            if is_generators(n):
                w.register_post_accumulate_grad_hook(lambda w, n=n, g=gradients: g.update({n: w.grad.clone()}))
        fit(name, model, precision="bf16-mixed")
        assert gradients.keys() == start.keys()
        weights[label] = gradients
    for weight, gradient in weights["direct"].items():
        scale = 2e-4 * gradient.abs().max().item()
        assert_close(weights["split"][weight], 2e-4 * gradient, rtol=0.05, atol=0.05 * scale, msg=weight)


@pytest.mark.parametrize("name", ["mgan", "gan", "bigan", "selfexgan"])
def test_in_bfloat16_a_label_of_which_the_discriminator_is_sure_still_has_a_gradient(name):
    model, seen = built(name), []
    label = InverseExamples(discrepancy="l2", inversion_rate=1.0)

    def observe(loss):
        # D is sure of "fake": its label is 5e-5, and bfloat16 cannot tell 1 - 5e-5 from 1.
        sure = GeneratorLoss(loss.images, lambda images: (loss.value, loss.logits - 10.0), loss.networks)
        assert loss.logits.dtype == torch.float32
        seen.append(label.invert(sure, retain_graph=True).displacement.abs().max().item())

    model.generator_observer = observe
    fit(name, model, precision="bf16-mixed")
    assert len(seen) == 1
    assert seen[0] > 0


def test_a_regression_that_is_not_finite_stops_training_before_any_weight_of_the_step_moves():
    model = built("bigan", InverseExamples(inversion_rate=1e30))  # its square is beyond float32
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with pytest.raises(NonFiniteError, match=r"the objective of generator_update became inf after 0 batches"):
        fit("bigan", model, precision="32-true")
    assert_close(dict(model.named_parameters()), start, rtol=0, atol=0)


def test_the_generator_of_a_finished_gan_takes_no_update():
    with pytest.raises(SettingError, match=r"generator_update must be Direct with a gan_checkpoint, got InverseExam"):
        LatentRegressor(1, 6, SMALL, gan_checkpoint="gan.ckpt", generator_update=HALF)


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name][1] == 6])
def test_an_update_that_the_images_do_not_allow_is_refused_by_the_model(name):
    with pytest.raises(SettingError, match=r"must not be 'ssim' for images below 11 pixels"):
        built(name, InverseExamples(regression="ssim"))


def test_a_model_without_an_adversarial_generator_loss_is_not_looked_on():
    from gan_lightning.papers import Autoencoder

    model = Autoencoder(1, 6, SMALL)
    model.generator_observer = lambda loss: pytest.fail("the autoencoder has no generator loss")
    fit("gan", model)


def test_an_observer_sees_the_loss_before_the_step_and_may_take_gradients():
    for name in ("mgan", "gan", "bigan, alternating", "jlr", "selfexgan"):
        seen, models = [], [built(name, HALF), built(name, HALF)]

        def observe(loss, seen=seen):
            weights = [p for network in loss.networks for p in network.parameters()]
            seen.append([g.norm().item() for g in torch.autograd.grad(loss.value, weights, retain_graph=True)])

        models[1].generator_observer = observe
        for model in models:
            fit(name, model)
        assert len(seen) == 1
        assert min(seen[0]) > 0
        assert_close(models[1].state_dict(), models[0].state_dict(), rtol=0, atol=0)


def test_a_gan_alternates_as_the_tutorial_does():
    """D on real and generated images; then G against the D that has moved; the same images serve both."""
    name = "gan, alternating"
    ours, reference = plain(built(name), 0.1, 0.1), plain(built(name), 0.1, 0.1)
    latents = torch.randn(5, 3, dtype=torch.float64)
    ours.sample_latents = lambda count, rng=None: latents
    fit(name, ours)
    real = (torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1).double()
    (step_g, step_d), _ = reference.configure_optimizers()
    criterion = nn.BCEWithLogitsLoss()
    fake = reference.generator(latents)
    step_d.zero_grad()
    criterion(reference.discriminator(real), torch.ones(5, 1).double()).backward()
    criterion(reference.discriminator(fake.detach()), torch.zeros(5, 1).double()).backward()
    step_d.step()
    step_g.zero_grad()
    criterion(reference.discriminator(fake), torch.ones(5, 1).double()).backward()
    step_g.step()
    assert_close(dict(ours.named_parameters()), dict(reference.named_parameters()), rtol=1e-9, atol=1e-12)
    for key, value in reference.state_dict().items():
        if "running" in key:
            assert_close(ours.state_dict()[key], value, rtol=1e-9, atol=1e-12)


def test_another_prior_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse it by its type
    with pytest.raises(SettingError, match=r"latent_prior must be one of uniform, normal, got 'sphere'"):
        GAN(1, 6, SMALL, latent_prior="sphere")


def test_normal_latents_have_mean_0_and_variance_1():
    seed_everything(0)
    latents = GAN(1, 6, SMALL, latent_prior="normal").sample_latents(50_000)
    assert_close(latents.mean().item(), 0.0, rtol=0, atol=0.01)
    assert_close(latents.var().item(), 1.0, rtol=0.02, atol=0)
