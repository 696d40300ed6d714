"""GAN, BiGAN, latent regressors and autoencoders: what a batch does to them, against the algorithm written out."""

from collections import Counter

import jaxtyping
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.interfaces import EncodesImages, GeneratesImages, HasExtractors
from gan_lightning.nets.resizing import resized
from gan_lightning.papers import GAN, Autoencoder, BiGAN, ImageNetworks, LatentRegressor, PermutationInvariantNetworks
from gan_lightning.training.adversarial import AdversarialModule
from gan_lightning.training.simultaneous import DecayedAdam

SMALL = PermutationInvariantNetworks(latent_dim=3, width=8)
SMALL_IMAGES = ImageNetworks(latent_dim=3, base_width=2, encoder_width=6)

VARIANTS = {
    "gan": lambda networks=SMALL, size=6, **s: GAN(1, size, networks, **s),
    "gan, alternating": lambda networks=SMALL, size=6, **s: GAN(1, size, networks, simultaneous=False, **s),
    "bigan": lambda networks=SMALL, size=6, **s: BiGAN(1, size, networks, **s),
    "bigan, original objective": lambda networks=SMALL, size=6, **s: BiGAN(
        1, size, networks, inverse_objective=False, **s
    ),
    "bigan, alternating": lambda networks=SMALL, size=6, **s: BiGAN(1, size, networks, simultaneous=False, **s),
    "lr": lambda networks=SMALL, size=6, **s: LatentRegressor(1, size, networks, **s),
    "jlr": lambda networks=SMALL, size=6, **s: LatentRegressor(1, size, networks, joint_weight=0.25, **s),
    "ae l2": lambda networks=SMALL, size=6, **s: Autoencoder(1, size, networks, **s),
    "ae l1": lambda networks=SMALL, size=6, **s: Autoencoder(1, size, networks, norm=1, **s),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def batches(count: int, image_size: int = 6, size: int = 5) -> DataLoader:
    images = torch.rand(count * size, 1, image_size, image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.int64)), batch_size=size)


def fit(model: AdversarialModule, loader: DataLoader, checkpoint=None, **settings) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu"} | settings
    )  # fmt: skip
    trainer.fit(model, loader, ckpt_path=checkpoint)
    return trainer


# One batch against the algorithm


def bce(logits: torch.Tensor, target: float) -> torch.Tensor:
    probability = torch.sigmoid(logits)
    return -(target * probability.log() + (1 - target) * (1 - probability).log()).mean()


def plain_losses(variant: str, model: AdversarialModule, real: torch.Tensor, z: torch.Tensor) -> list[tuple]:
    """Return (loss, networks that step on it) with separate forward passes and probabilities instead of logits."""
    g = lambda: model.generator(z)  # noqa: E731
    e = lambda x: torch.tanh(model.encoder(x) / 2)  # noqa: E731
    if variant.startswith("ae"):
        error = (real - model.generator(e(real))).flatten(1)
        norm = (error**2).sum(1) if variant == "ae l2" else error.abs().sum(1)
        return [(norm.mean(), [model.generator, model.encoder])]
    if variant.startswith("bigan"):
        d = lambda x, z: model.discriminator(x, z)  # noqa: E731
        d_loss = bce(d(real, e(real).detach()), 1) + bce(d(g().detach(), z), 0)
        sign, swap = (-1, 0) if variant == "bigan, original objective" else (1, 1)
        ge_loss = sign * (bce(d(real, e(real)), 1 - swap) + bce(d(g(), z), swap))
        return [(d_loss, [model.discriminator]), (ge_loss, [model.generator, model.encoder])]
    d = lambda x: model.discriminator(x).squeeze(1)  # noqa: E731
    d_loss, g_loss = bce(d(real), 1) + bce(d(g().detach()), 0), bce(d(g()), 1)
    if variant.startswith("gan"):
        return [(d_loss, [model.discriminator]), (g_loss, [model.generator])]
    target, found = (z + 1) / 2, torch.sigmoid(model.encoder(g()))
    latent = -(target * found.log() + (1 - target) * (1 - found).log()).mean(1).mean()
    weight = 0.25 if variant == "jlr" else 0
    return [
        (d_loss, [model.discriminator]), (g_loss + weight * latent, [model.generator]), (latent, [model.encoder]),
    ]  # fmt: skip


def first_adam_step(loss: torch.Tensor, networks: list[nn.Module], adam: DecayedAdam) -> list[tuple]:
    """Return (weight, its value after Adam's first step): both moments' corrections cancel."""
    weights = [p for network in networks for p in network.parameters()]
    updates = []
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
        if weight.ndim > 1:
            gradient = gradient + adam.weight_decay * weight
        updates.append((weight, (weight - adam.learning_rate * gradient / (gradient.abs() + 1e-8)).detach()))
    return updates


RUNS = {
    "gan": {"generator": 1, "discriminator": 2},
    "gan, alternating": {"generator": 1, "discriminator": 3},  # once more against the D that has moved
    "bigan": {"generator": 1, "encoder": 1, "discriminator": 2},
    "bigan, alternating": {"generator": 1, "encoder": 1, "discriminator": 4},
    "lr": {"generator": 1, "encoder": 1, "discriminator": 2},
    "jlr": {"generator": 1, "encoder": 1, "discriminator": 2},
    "ae l2": {"generator": 1, "encoder": 1},
    "ae l1": {"generator": 1, "encoder": 1},
}
"""How often a batch runs each network: on no input twice with the same weights."""


@pytest.mark.parametrize(
    ("variant", "networks", "size"),
    [(variant, SMALL, 6) for variant in VARIANTS]
    + [(variant, SMALL_IMAGES, 64) for variant in ("gan, alternating", "bigan", "jlr", "ae l2")],
)
def test_a_batch_is_the_algorithm_written_out_and_runs_no_network_twice_on_the_same_input(
    variant, networks, size, monkeypatch
):
    seed_everything(0)
    adam, runs = DecayedAdam(learning_rate=1e-3, weight_decay=0.1), Counter()
    ours, reference = (VARIANTS[variant](networks, size, optimizer=adam) for _ in range(2))
    reference.load_state_dict(ours.state_dict())
    loader, uniform = batches(1, size), torch.rand(5, 3, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: uniform.clone())
    for name in ("generator", "encoder", "discriminator"):
        if (network := getattr(ours, name, None)) is not None:
            network.register_forward_hook(lambda *_, name=name: runs.update([name]))
    # float64, since Adam's first step is nearly the gradient's sign: rounding would tell where a gradient is near 0.
    fit(ours, loader, precision="64-true")
    assert runs == RUNS[variant.removesuffix(", original objective")]

    reference.double().train()
    real, z = next(iter(loader))[0].double(), 2 * uniform - 1
    parts = range(len(plain_losses(variant, reference, real, z)))
    if variant.endswith("alternating"):
        for part in parts:  # D first; then G (and E), against the new D
            for weight, value in first_adam_step(*plain_losses(variant, reference, real, z)[part], adam):
                weight.data = value
    else:
        updates = [u for loss in plain_losses(variant, reference, real, z) for u in first_adam_step(*loss, adam)]
        for weight, value in updates:
            weight.data = value
    assert_close(dict(ours.named_parameters()), dict(reference.named_parameters()), rtol=1e-6, atol=1e-8)


def moved(model: AdversarialModule, before: dict) -> set[str]:
    return {n.split(".")[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])}


@pytest.mark.parametrize(
    ("variant", "only", "networks"),
    [
        ("gan", "generator_loss", {"generator"}),
        ("gan", "discriminator_loss", {"discriminator"}),
        ("gan, alternating", "generator_loss", {"generator"}),
        ("gan, alternating", "discriminator_loss", {"discriminator"}),
        ("bigan", "generator_encoder_loss", {"generator", "encoder"}),
        ("bigan", "discriminator_loss", {"discriminator"}),
        ("bigan, alternating", "generator_encoder_loss", {"generator", "encoder"}),
        ("bigan, alternating", "discriminator_loss", {"discriminator"}),
        ("jlr", "latent_loss", {"encoder"}),
        ("jlr", "generator_loss", {"generator"}),
        ("jlr", "discriminator_loss", {"discriminator"}),
        ("ae l2", "reconstruction_loss", {"generator", "encoder"}),
    ],
)
def test_an_optimizer_moves_its_networks_and_nothing_else(variant, only, networks):
    model = VARIANTS[variant]()
    configured = model.configure_optimizers()
    for name, optimizer, schedule in zip(model.trained(), *configured, strict=True):
        if name != only:
            schedule.base_lrs = [0.0, 0.0]
            for group in optimizer.param_groups:
                group["lr"] = 0.0
    model.configure_optimizers = lambda: configured
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(model, batches(1))
    assert moved(model, before) == networks


@every_variant
def test_batches_are_counted_once_and_checkpoints_load_without_running_code_and_give_the_model_again(variant, tmp_path):
    model = VARIANTS[variant]()
    trainer = fit(model, batches(4), max_epochs=-1, max_steps=3)
    assert trainer.global_step == 3
    assert model.images_seen == 15
    assert (model.d_steps.item(), model.g_steps.item()) == (0 if variant.startswith("ae") else 3, 3)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    saved = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert saved["hyper_parameters"] == dict(model.hparams)
    assert saved["hyper_parameters"]["networks"] == SMALL
    again = type(model)(**saved["hyper_parameters"])
    again.load_state_dict(saved["state_dict"])


# The optimizer


@every_variant
def test_weight_decay_is_on_weights_that_multiply_and_on_nothing_else(variant):
    model = VARIANTS[variant](SMALL_IMAGES, 64)
    optimizers, _ = model.configure_optimizers()
    names = {p: name for name, p in model.named_parameters()}
    grouped = {True: set(), False: set()}
    for optimizer in optimizers:
        assert isinstance(optimizer, torch.optim.Adam)
        assert not isinstance(optimizer, torch.optim.AdamW)
        for group in optimizer.param_groups:
            grouped[group["weight_decay"] == 2.5e-5] |= {names[p] for p in group["params"]}
            assert group["weight_decay"] in (2.5e-5, 0)
    norms = {
        f"{name}.{kind}" for name, layer in model.named_modules()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) for kind in ("weight", "bias")
    }  # fmt: skip
    assert grouped[False] == norms
    assert grouped[True] == set(names.values()) - norms


def learning_rates(model: AdversarialModule, **settings) -> list[float]:
    """Return the learning rate of each batch, and what is left after the last."""
    rates = []
    rate = lambda: model.trainer.optimizers[-1].param_groups[0]["lr"]  # noqa: E731
    model.on_train_batch_start = lambda *_: rates.append(rate()) and None
    fit(model, batches(2), **settings)
    return [*rates, rate()]


@pytest.mark.parametrize("settings", [{"max_epochs": 5}, {"max_epochs": -1, "max_steps": 10}])
def test_the_learning_rate_is_constant_in_the_first_half_and_a_hundredth_at_the_end(settings):
    rates = learning_rates(VARIANTS["bigan"](), **settings)
    expected = [2e-4] * 6 + [2e-4 * 0.01 ** (n / 5) for n in range(1, 6)]
    assert_close(torch.tensor(rates), torch.tensor(expected))
    assert_close(rates[-1], 2e-6)


def test_a_share_of_one_keeps_the_learning_rate():
    assert set(learning_rates(VARIANTS["ae l2"](optimizer=DecayedAdam(final_share=1.0)))) == {2e-4}


def test_training_without_an_end_is_refused():
    with pytest.raises(SettingError, match=r"max_epochs must be a number of epochs, got -1.*second half"):
        fit(VARIANTS["gan"](), batches(1), max_epochs=-1)


def test_adams_epsilon_is_a_setting():
    adam = DecayedAdam(epsilon=1e-20).over([nn.Linear(2, 2)])
    assert {group["eps"] for group in adam.param_groups} == {1e-20}
    with pytest.raises(SettingError, match=r"epsilon must be above 0, got 0\.0"):
        DecayedAdam(epsilon=0.0)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_final_share_outside_0_to_1_is_refused(share):
    with pytest.raises(SettingError, match=rf"final_share must be above 0 and at most 1, got {share}"):
        DecayedAdam(final_share=share)


@pytest.mark.parametrize("variant", ["bigan", "jlr", "ae l2"])
def test_resuming_gives_the_weights_of_a_run_that_was_not_interrupted(variant, tmp_path):
    def trained(checkpoint=None, stop_after=4):
        seed_everything(0)
        model = VARIANTS[variant](optimizer=DecayedAdam(learning_rate=1e-2))
        # The same latents in the same batch, whichever run draws them.
        model.on_train_batch_start = lambda _, index: torch.manual_seed(10 * model.current_epoch + index) and None

        def stop():
            model.trainer.should_stop = model.current_epoch + 1 == stop_after

        model.on_train_epoch_end = stop
        return fit(model, batches(3), checkpoint, max_epochs=4), model

    trained(stop_after=3)[0].save_checkpoint(tmp_path / "part.ckpt")
    resumed, straight = trained(tmp_path / "part.ckpt")[1], trained()[1]
    assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)
    assert straight.images_seen == 60
    rate = resumed.trainer.optimizers[0].param_groups[0]["lr"]
    assert_close(rate, 1e-4)


# What the models declare


@every_variant
@pytest.mark.parametrize(("networks", "size"), [(SMALL, 6), (SMALL_IMAGES, 64)])
def test_the_models_declare_what_others_may_do_with_them(variant, networks, size):
    model = VARIANTS[variant](networks, size).eval()
    images = torch.rand(4, 1, size, size) * 2 - 1
    assert isinstance(model, HasExtractors)
    assert isinstance(model, GeneratesImages)
    assert isinstance(model, EncodesImages) == (not variant.startswith("gan"))
    drawn, again = (model.generate(3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert drawn.shape == (1, 3, 1, size, size)
    assert drawn.abs().max() <= 1
    assert torch.equal(drawn, again)
    hidden = 8 if networks is SMALL else 16 * 16
    shapes = {name: extractor(images).shape for name, extractor in model.extractors().items()}
    if variant.startswith("gan"):
        # DCGAN's last maps, where D is not the encoder's AlexNet
        assert shapes == {"discriminator": (4, 8 if networks is SMALL else 16 * 16)}
        return
    assert shapes == {"encoder": (4, 3), "encoder_hidden": (4, hidden)}
    encoder = model.extractors()["encoder"]
    assert_close(model.encode(images), torch.tanh(encoder(images) / 2))
    assert_close(encoder[-1](model.extractors()["encoder_hidden"](images)), encoder(images))
    assert model.decode(model.encode(images)).shape == images.shape


def test_latents_are_uniform_from_minus_1_to_1():
    latents = VARIANTS["bigan"]().sample_latents(50_000)
    assert latents.shape == (50_000, 3)
    assert -1 <= latents.min() < -0.999 < 0.999 < latents.max() <= 1
    assert_close(latents.mean().item(), 0.0, rtol=0, atol=0.01)
    assert_close(latents.var().item(), 1 / 3, rtol=0.01, atol=0)


@pytest.mark.parametrize("variant", ["bigan", "ae l1"])
def test_a_larger_image_goes_to_the_encoder_whole_and_to_the_others_resized(variant):
    model, seen = VARIANTS[variant](SMALL_IMAGES, 112), {}
    model.encoder.register_forward_pre_hook(lambda _, args: seen.setdefault("encoder", []).append(args[0]))
    if variant == "bigan":
        model.discriminator.register_forward_pre_hook(lambda _, args: seen.setdefault("d", []).append(args[0]))
    loader = batches(1, 112)
    fit(model, loader)
    (real, _), *_ = loader
    assert_close(seen["encoder"][0], real)
    if variant == "bigan":
        expected = nn.functional.interpolate(real, (64, 64), mode="bilinear", antialias=True)
        assert_close(seen["d"][0], expected)
        assert seen["d"][1].shape == (5, 1, 64, 64)
    latents = model.encode(real)
    assert model.decode(latents).shape == (5, 1, 64, 64)
    assert model.encode(model.decode(latents)).shape == latents.shape  # z and E(G(z)), as the reconstruction wants


def test_images_of_the_right_size_are_not_touched():
    images = torch.rand(1, 1, 8, 8)
    assert resized(images, 8) is images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiGAN(3, 32, ImageNetworks()), r"image_size must be at least 64, the size that ImageNetworks"),
        (lambda: Autoencoder(3, 32, ImageNetworks()), r"^image_size must be .* got 32\. Use images of 64 pixels"),
        (lambda: GAN(3, 112, ImageNetworks()), r"image_size must be 64 for GAN, .*got 112"),
        (lambda: LatentRegressor(3, 112, ImageNetworks()), r"image_size must be 64 for LatentRegressor, .*got 112"),
        (lambda: LatentRegressor(1, 6, SMALL, joint_weight=-1.0), r"joint_weight must be at least 0, got -1\.0"),
        (
            lambda: LatentRegressor(1, 6, SMALL, joint_weight=0.25, gan_checkpoint="gan.ckpt"),
            r"joint_weight must be 0 with a gan_checkpoint, got 0\.25",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_another_norm_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse it by its type
    with pytest.raises(SettingError, match=r"norm must be one of 1, 2, got 3"):
        Autoencoder(1, 6, SMALL, norm=3)


def test_a_loss_that_is_not_finite_stops_training():
    model = VARIANTS["bigan"]()

    def spoil(*_):
        model.encoder.output[0].weight.data[0, 0] = float("nan")

    model.on_train_batch_start = spoil
    with pytest.raises(NonFiniteError, match=r"train/generator_encoder_loss became nan after 0 batches, in epoch 0"):
        fit(model, batches(1))


# Latent regressors of a finished GAN


@pytest.fixture
def finished_gan(tmp_path):
    seed_everything(1)
    gan = VARIANTS["gan"]()
    fit(gan, batches(3)).save_checkpoint(tmp_path / "gan.ckpt")
    return gan, tmp_path / "gan.ckpt"


def test_a_latent_regressor_of_a_finished_gan_trains_the_encoder_alone(finished_gan):
    gan, checkpoint = finished_gan
    model = VARIANTS["lr"](gan_checkpoint=str(checkpoint))
    before = {n: p.detach().clone() for n, p in model.encoder.named_parameters()}
    fit(model, batches(2))
    assert_close(model.generator.state_dict(), gan.generator.state_dict(), rtol=0, atol=0)
    assert all(not torch.equal(p, before[n]) for n, p in model.encoder.named_parameters())
    assert (model.discriminator, model.d_steps.item(), model.g_steps.item()) == (None, 0, 0)


def test_a_latent_regressor_resumes_with_the_generator_that_it_started_with(finished_gan, tmp_path):
    gan, checkpoint = finished_gan
    model = VARIANTS["lr"](gan_checkpoint=str(checkpoint))
    fit(model, batches(2)).save_checkpoint(tmp_path / "lr.ckpt")
    fit(VARIANTS["gan"](), batches(1)).save_checkpoint(checkpoint)  # another GAN under the same name
    again = VARIANTS["lr"](gan_checkpoint=str(checkpoint))
    fit(again, batches(2), tmp_path / "lr.ckpt", max_epochs=2)
    assert_close(again.generator.state_dict(), gan.generator.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"gan_checkpoint must be a checkpoint file, got '.*', which does not exist"),
        (b"no zip", r"gan_checkpoint must be a checkpoint of a GAN, got '.*', which is not"),
        ({"weights": 1}, r"gan_checkpoint must be a checkpoint of a GAN, got '.*', which is not"),
        (
            {"state_dict": PermutationInvariantNetworks(4, 8).generator(1, 6).state_dict(prefix="generator.")},
            r"generator\.hidden1\.0\.weight is \(8, 4\) there and \(8, 3\) here\. Give both .* latent_dim",
        ),
        (
            {"state_dict": {}, "hyper_parameters": {"latent_prior": "normal"}},
            r"must hold a generator of uniform latents.* whose latent_prior is 'normal'",
        ),
        ({"state_dict": {}}, r"generator\.hidden1\.0\.weight is missing there"),
        (
            {"state_dict": SMALL.generator(1, 6).state_dict(prefix="generator.") | {"generator.more": torch.ones(1)}},
            r"generator\.more is unknown here",
        ),
    ],
)
def test_a_checkpoint_without_such_a_generator_is_refused(tmp_path, content, message):
    file = tmp_path / "gan.ckpt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(SettingError, match=message):
        fit(VARIANTS["lr"](gan_checkpoint=str(file)), batches(1))


def test_a_loss_in_bfloat16_keeps_float32s_digits():
    model = VARIANTS["bigan"]()
    seen = []
    model.check_finite = lambda values: seen.extend(values.values())
    fit(model, batches(1), precision="bf16-mixed")
    assert [loss.dtype for loss in seen] == [torch.float32] * 2
