"""SelfExGAN: what a batch does to its four networks, against the algorithm written out."""

from collections import Counter
from math import sqrt

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer, seed_everything
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.data import Digits
from gan_lightning.errors import DataError, NonFiniteError, SettingError
from gan_lightning.interfaces import EncodesImages, GeneratesImages, HasExtractors
from gan_lightning.papers import SelfExGAN
from gan_lightning.papers.selfexgan.selfexgan import project_to_sphere, real_logits, saturated_share

NETWORKS = {"discriminator", "pair_discriminator", "generator", "encoder"}


def small(tables: str = "mnist", channels: int = 1, **settings) -> SelfExGAN:
    seed_everything(0)
    return SelfExGAN(channels, 32, tables, **{"base_width": 2} | settings)


def batches(count: int, size: int = 5, channels: int = 1) -> DataLoader:
    images = torch.rand(count * size, channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.int64)), batch_size=size)


def fit(model: SelfExGAN, loader: DataLoader, **settings) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu"} | settings
    )  # fmt: skip
    trainer.fit(model, loader)
    return trainer


# The sphere


@given(st.integers(1, 6), st.floats(0.1, 100), st.floats(-2, 2), st.floats(0.01, 1000))
def test_a_projection_lands_on_the_sphere_and_does_not_depend_on_the_length(dimensions, radius, centre, scale):
    latents = torch.randn(4, dimensions, generator=torch.Generator().manual_seed(dimensions)).double()
    projected = project_to_sphere(latents + centre, centre, radius)
    assert_close((projected - centre).norm(dim=1), torch.full((4,), radius).double(), rtol=1e-5, atol=0)
    assert_close(project_to_sphere(scale * latents + centre, centre, radius), projected, rtol=1e-6, atol=1e-6 * radius)
    assert_close(project_to_sphere(projected, centre, radius), projected, rtol=1e-6, atol=1e-6 * radius)


def test_a_projection_is_equations_4_1_to_4_4():
    # P = (3, 4, 0), |P| = 5, Q = (6, 8, 0), R = (7, 9, 1)
    assert_close(project_to_sphere(torch.tensor([[4.0, 5.0, 1.0]]), 1.0, 10.0), torch.tensor([[7.0, 9.0, 1.0]]))


@pytest.mark.parametrize(("settings", "radius"), [({}, 8.0), ({"radius": 3.0, "centre": 0.0}, 3.0)])
def test_codes_and_sampled_latents_lie_on_the_same_sphere(settings, radius):
    model = small(**settings)
    centre = settings.get("centre", 0.5)
    for latents in (model.encode(torch.rand(3, 1, 32, 32)), model.sample_latents(3)):
        assert_close((latents - centre).norm(dim=1), torch.full((3,), radius))


# One batch against the algorithm


def bce(logits: torch.Tensor, target: float) -> torch.Tensor:
    probability = torch.sigmoid(logits)
    return -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()


def plain_losses(
    model: SelfExGAN, real: torch.Tensor, sampled: torch.Tensor, weight: float, swap: bool, reduction: str
) -> dict[str, tuple]:
    """Return (loss, networks that step on it), every network run anew for every term."""

    def e(x):
        z = torch.sigmoid(model.encoder(x)) - 0.5
        return 0.5 + sqrt(64) * z / z.square().sum(1, keepdim=True).sqrt()

    g = model.generator
    d1 = lambda x: model.discriminator(x)[:, 0]  # noqa: E731
    d2 = lambda x, z: model.pair_discriminator(model.pair_discriminator.images(x), z)[:, 0]  # noqa: E731
    z = lambda: e(real)  # noqa: E731
    first = bce(d1(real), 1) + (bce(d1(g(z()).detach()), 0) + bce(d1(g(sampled).detach()), 0)) / 2
    second = bce(d2(real, z().detach()), 1)
    second = second + (bce(d2(g(z()).detach(), z().detach()), 0) + bce(d2(real, e(g(z())).detach()), 0)) / 2
    fooling = (bce(d1(g(z())), 1) + bce(d1(g(sampled)), 1)) / 2
    fooling = fooling + swap * bce(d2(real, z()), 0) + (bce(d2(g(z()), z()), 1) + bce(d2(real, e(g(z()))), 1)) / 2
    mean, variance = z().mean(0), z().var(0, correction=0)
    divergence = (0.5 * (variance + mean**2 - 1) - variance.sqrt().log()).sum() / (1 if reduction == "sum" else 64)
    return {
        "discriminators": ((first, [model.discriminator]), (second, [model.pair_discriminator])),
        "generator and encoder": (
            (fooling, [model.generator]), (fooling + weight * divergence, [model.encoder]),
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("weight", "swap", "reduction"), [(1.0, True, "mean"), (0.3, False, "mean"), (1.0, True, "sum")]
)
def test_a_batch_is_the_algorithm_written_out(weight, swap, reduction, monkeypatch):
    ours, reference = small(matching_weight=weight, swap_real_pairs=swap, matching_reduction=reduction), small()
    reference.load_state_dict(ours.state_dict())
    loader, normal = batches(1), torch.randn(5, 64, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: normal.clone())
    # float64, since Adam's first step is nearly the gradient's sign: rounding would tell where a gradient is near 0.
    fit(ours, loader, precision="64-true")

    reference.double().train()
    real = next(iter(loader))[0].double()
    sampled = 0.5 + 8 * (normal - 0.5) / (normal - 0.5).norm(dim=1, keepdim=True)
    for step in ("discriminators", "generator and encoder"):  # the second against the discriminators that have moved
        updates = []
        for loss, networks in plain_losses(reference, real, sampled, weight, swap, reduction)[step]:
            weights = [p for network in networks for p in network.parameters()]
            for p, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
                updates.append((p, (p - 1e-3 * gradient / (gradient.abs() + 1e-8)).detach()))  # Adam's first step
        for p, value in updates:
            p.data = value
    assert_close(dict(ours.named_parameters()), dict(reference.named_parameters()), rtol=1e-6, atol=1e-8)


def test_the_second_discriminator_sees_exactly_the_three_kinds_of_pairs():
    model, seen, images, codes, made = small(), [], [], [], []
    model.pair_discriminator.register_forward_pre_hook(lambda _, args: seen.append(args))
    model.pair_discriminator.images.register_forward_hook(lambda _, args, out: images.append((args[0], out)))
    model.generator.register_forward_hook(lambda _, args, out: made.append((args[0], out)))
    model.encoder.register_forward_hook(lambda _, args, out: codes.append((args[0], model.project(out.sigmoid()))))
    loader = batches(1)
    fit(model, loader)
    real = next(iter(loader))[0]
    (first, z), (second, z_again) = codes
    (taken, reconstructed), (sampled, _) = made
    assert_close(first, real)
    assert_close(taken, z)
    assert_close(second, reconstructed)
    assert_close((sampled - 0.5).norm(dim=1), torch.full((5,), 8.0))
    assert not torch.isclose(sampled, z).all()
    for step in (0, 1):  # D2's own step, and that of G and E
        (x, x_values), (x_hat, x_hat_values) = images[2 * step : 2 * step + 2]
        assert_close(x, real)
        assert_close(x_hat, reconstructed)
        pairs = seen[3 * step : 3 * step + 3]
        expected = [(x_values, z), (x_hat_values, z), (x_values, z_again)]
        for pair, (values, latents) in zip(pairs, expected, strict=True):
            assert_close(pair[0], values)
            assert_close(pair[1], latents)
    assert len(seen) == 6


def test_no_network_runs_twice_on_the_same_input_and_weights():
    model, runs = small(), Counter()
    watched = {name: getattr(model, name) for name in NETWORKS} | {"images": model.pair_discriminator.images}
    for name, network in watched.items():
        network.register_forward_hook(lambda *_, name=name: runs.update([name]))
    fit(model, batches(1))
    # D1: x, x̂, x_n, then the last two against the D1 that has moved; D2: three pairs, twice; its images: x, x̂, twice.
    assert runs == {"generator": 2, "encoder": 2, "discriminator": 5, "pair_discriminator": 6, "images": 4}


@pytest.mark.parametrize("only", range(4))
def test_an_optimizer_moves_its_network_and_nothing_else(only):
    model = small()
    optimizers = model.configure_optimizers()
    for number, optimizer in enumerate(optimizers):
        optimizer.param_groups[0]["lr"] *= number == only
    model.configure_optimizers = lambda: optimizers
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(model, batches(1))
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {("discriminator", "pair_discriminator", "generator", "encoder")[only]}


def gradients_of(model: SelfExGAN, loss: torch.Tensor) -> set[str]:
    """Return the networks that a loss would move."""
    model.zero_grad()
    loss.backward()
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}


def test_each_loss_reaches_the_networks_that_it_may_move():
    model, real = small(), next(iter(batches(1)))[0]
    made = model.infer(real)
    for name, network in (("discriminator_loss", "discriminator"), ("pair_discriminator_loss", "pair_discriminator")):
        assert gradients_of(model, model.discriminator_losses(real, made.detach())[name]) == {network}
    assert gradients_of(model, model.discriminate_pairs(real, model.infer(real))[0].sum()) == {
        "pair_discriminator",
        "encoder",
    }
    assert gradients_of(model, model.discriminate_pairs(real, model.infer(real))[1].sum()) == NETWORKS - {
        "discriminator"
    }
    sampled = model.discriminate(model.infer(real).sampled)
    assert gradients_of(model, sampled.sum()) == {"discriminator", "generator"}  # "the gradient [...] only by D1"


def test_optimizers_with_one_loss_share_a_backward_pass(monkeypatch):
    model, passes = small(), []
    backward = model.manual_backward
    monkeypatch.setattr(model, "manual_backward", lambda loss, **more: passes.append(loss) or backward(loss, **more))
    fit(model, batches(2))
    assert len(passes) == 2 * 3  # D1, D2, and G with E


def test_a_softmax_of_two_is_the_sigmoid_of_their_difference():
    outputs = torch.randn(5, 2)
    assert_close(torch.sigmoid(real_logits(outputs)), torch.softmax(outputs, dim=1)[:, 1])
    assert_close(real_logits(outputs[:, :1]), outputs[:, 0])


@pytest.mark.parametrize(("tables", "channels"), [("mnist", 1), ("cifar10", 3)])
def test_batches_are_counted_once_and_the_losses_are_logged(tables, channels):
    model = small(tables, channels)
    trainer = fit(model, batches(3, channels=channels))
    assert trainer.global_step == 3
    assert (model.images_seen.item(), model.d_steps.item(), model.g_steps.item()) == (15, 3, 3)
    assert {name for name in trainer.logged_metrics if name.startswith("train/")} == {
        "train/discriminator_loss", "train/pair_discriminator_loss", "train/generator_encoder_loss",
        "train/matching_loss", "train/saturated",
    }  # fmt: skip
    assert all(torch.isfinite(value) for value in trainer.logged_metrics.values())


def test_outputs_are_saturated_within_a_hundredth_of_the_ends_of_a_sigmoid():
    outputs = torch.tensor([[0.005, 0.02, 0.5, 0.98, 0.995], [0.0, 0.5, 0.5, 0.5, 1.0]])
    assert saturated_share(outputs) == torch.tensor(0.4)


@pytest.mark.parametrize(("bias", "share"), [(0.0, 0.0), (8.0, 1.0), (-8.0, 1.0)])
def test_the_share_of_saturated_outputs_is_that_of_e_for_real_images(bias, share):
    model, loader = small(), batches(1)
    with torch.no_grad():
        model.encoder[-1][0].bias.fill_(bias)
    held_out = model.held_out_losses(next(iter(loader))[0], torch.Generator())
    assert held_out["saturated"] == share
    assert fit(model, loader).logged_metrics["train/saturated"] == share


def test_the_model_declares_what_others_may_do_with_it():
    model = small().eval()
    images = torch.rand(3, 1, 32, 32) * 2 - 1
    assert isinstance(model, HasExtractors)
    assert isinstance(model, GeneratesImages)
    assert isinstance(model, EncodesImages)
    drawn, again = (model.generate(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert drawn.shape == (1, 3, 1, 32, 32)
    assert drawn.abs().max() <= 1
    assert torch.equal(drawn, again)
    extractors = model.extractors()
    assert {name: extractor(images).shape for name, extractor in extractors.items()} == {
        "encoder": (3, 64), "encoder_hidden": (3, 8 * 16), "discriminator": (3, 16 * 4),
    }  # fmt: skip
    assert_close(model.encode(images), model.project(torch.sigmoid(extractors["encoder"](images))))
    assert_close(model.discriminate(images), model.discriminator[-1](extractors["discriminator"](images))[:, 0])
    held_out = model.held_out_losses(images[:1], torch.Generator())  # a batch of one is no obstacle
    assert set(held_out) == {"discriminator_loss", "pair_discriminator_loss", "saturated"}


def test_checkpoints_load_without_running_code_and_give_the_model_again(tmp_path):
    model = small(matching_weight=0.5)
    fit(model, batches(1)).save_checkpoint(tmp_path / "model.ckpt")
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert saved["hyper_parameters"] == dict(model.hparams)
    again = SelfExGAN(**saved["hyper_parameters"])
    again.load_state_dict(saved["state_dict"])
    assert again.matching_weight == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small("svhn"), r"image_size must be 32 and channels 3 for tables=svhn, got 32 and 1.*: mnist"),
        (lambda: SelfExGAN(3, 64, "cifar10"), r"got 64 and 3.*celeba_crop, celeba, cartoon"),
        (lambda: SelfExGAN(1, 28, "mnist"), r"image_size must be 32 .* got 28 and 1. Use images of 32 pixels"),
        (lambda: small(base_width=0), r"base_width must be at least 1, got 0"),
        (lambda: small(radius=-1.0), r"radius must be above 0, got -1\.0"),
        (lambda: small(matching_weight=-1.0), r"matching_weight must be at least 0, got -1\.0"),
        (lambda: small(learning_rate=-1.0), r"learning_rate must be at least 0, got -1\.0"),
        (lambda: small(learning_rate=float("nan")), r"learning_rate must be at least 0, got nan"),
        (lambda: small(radius=float("inf")), r"radius must be above 0, got inf"),
        (lambda: small(centre=float("nan")), r"centre must be a number, got nan"),
        (lambda: small(betas=(1.5, 0.9)), r"betas must be in \[0, 1\), got \(1\.5, 0\.9\)"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_another_reduction_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse it by its type
    with pytest.raises(SettingError, match=r"matching_reduction must be one of mean, sum, got 'max'"):
        small(matching_reduction="max")


def test_codes_are_as_exact_in_mixed_precision_and_lie_on_the_sphere():
    model, images = small(), next(iter(batches(1, size=8)))[0]
    with torch.no_grad():
        model.encoder[-1][0].bias.add_(8.0)  # where bfloat16's sigmoid is 1, and its gradient 0
    with torch.autocast("cpu", torch.bfloat16):
        codes = model.encode(images)
    assert codes.dtype == torch.float32
    assert_close((codes - 0.5).norm(dim=1), torch.full((8,), 8.0), rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(codes.square().sum(), model.encoder[-1][0].bias)
    assert (gradient != 0).all()


def test_a_last_batch_of_one_says_where_it_is():
    images = torch.rand(5, 1, 32, 32)
    loader = DataLoader(TensorDataset(images, torch.zeros(5, dtype=torch.int64)), batch_size=4)
    with pytest.raises(DataError, match=r"Every batch must hold at least 2 images for SelfExGAN, got 1 in batch 1"):
        fit(small(), loader)


def test_a_batch_of_one_is_refused_before_training():
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(SettingError, match=r"batch_size must be at least 2 for SelfExGAN, got 1: the variance"):
        trainer.fit(small(), Digits(batch_size=1, limit=10))


def test_a_loss_that_is_not_finite_stops_training():
    model = small()

    def spoil(*_):
        model.encoder.fc1[0].weight.data[0, 0] = float("nan")

    model.on_train_batch_start = spoil
    with pytest.raises(NonFiniteError, match=r"train/\w+ became nan after 0 batches, in epoch 0"):
        fit(model, batches(1))
