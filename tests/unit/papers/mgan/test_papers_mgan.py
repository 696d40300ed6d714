"""M-GAN against Table 1 of Mao et al. 2022, and what each of its steps may move."""

import itertools
import re

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.papers import MGAN
from gan_lightning.papers.mgan.mgan import feature_extractor, generator_trunk


def small(**settings) -> MGAN:
    return MGAN(**{"channels": 1, "image_size": 32, "base_width": 4, "generators": 3, "fake_batch_size": 6} | settings)


def batches(count: int, size: int = 5, channels: int = 1) -> DataLoader:
    images = torch.rand(count * size, channels, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(images, torch.zeros(len(images), dtype=torch.int64)), batch_size=size)


def fit(model: MGAN, loader: DataLoader, **settings) -> Trainer:
    trainer = Trainer(
        **{"max_epochs": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
           "enable_model_summary": False, "accelerator": "cpu"} | settings
    )  # fmt: skip
    trainer.fit(model, loader)
    return trainer


def shapes_through(stages: nn.Sequential, x: torch.Tensor) -> list[tuple[int, ...]]:
    shapes = []
    for stage in stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    return shapes


@pytest.mark.parametrize("channels", [1, 3])
def test_the_generators_maps_are_those_of_table_1(channels):
    model = MGAN(channels, 32)
    first = model.generator_heads(torch.randn(10, 2, 128))
    assert first.shape == (20, 512, 4, 4)
    assert shapes_through(model.generator_trunk, first) == [(256, 8, 8), (128, 16, 16), (channels, 32, 32)]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_extractors_maps_are_those_of_table_1(channels):
    stages = feature_extractor(channels, 128, 128)
    shapes = shapes_through(stages, torch.zeros(2, channels, 32, 32))
    assert shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4), (128, 1, 1), (128,)]


def rows(network: nn.Sequential) -> list[tuple]:
    """Return (kernel, stride, padding, has bias, has batch norm, nonlinearity) per convolution row."""
    table = []
    for row in network:
        if not isinstance(row, nn.Sequential):
            continue
        layer, rest = row[0], list(row)[1:]
        nonlinearity = next((type(m).__name__ for m in rest if not isinstance(m, nn.BatchNorm2d)), None)
        norm = any(isinstance(m, nn.BatchNorm2d) for m in rest)
        table.append((layer.kernel_size, layer.stride, layer.padding, layer.bias is not None, norm, nonlinearity))
    return table


def test_each_rows_kernel_stride_padding_bias_norm_and_nonlinearity_are_those_of_table_1():
    halving = ((4, 4), (2, 2), (1, 1), False)
    assert rows(generator_trunk(1, 128)) == [
        (*halving, True, "ReLU"), (*halving, True, "ReLU"), (*halving, False, "Tanh"),
    ]  # fmt: skip
    extractor = feature_extractor(1, 128, 128)
    assert rows(extractor) == [
        (*halving, False, "LeakyReLU"), (*halving, True, "LeakyReLU"), (*halving, True, "LeakyReLU"),
        ((4, 4), (1, 1), (0, 0), False, False, None),
    ]  # fmt: skip
    assert extractor.conv1[-1].negative_slope == 0.2


def test_parameter_counts_are_those_of_table_1():
    model = MGAN(1, 32, shares_removed=4)
    count = lambda *modules: sum(p.numel() for m in modules for p in m.parameters())  # noqa: E731
    assert count(model.generator_heads) == 10 * (128 * 512 * 16 + 2 * 512)
    assert count(model.generator_trunk) == (512 * 256 + 256 * 128 + 128 * 1) * 16 + 2 * 256 + 2 * 128
    convolutions = (1 * 128 + 128 * 256 + 256 * 512 + 512 * 128) * 16
    assert count(model.discriminator) == count(model.classifier) == convolutions + 2 * 256 + 2 * 512
    assert (count(model.discriminator_head), count(model.classifier_head)) == (128, 1280)


def test_weights_start_from_a_normal_distribution_with_standard_deviation_0_02():
    seed_everything(0)
    for name, parameter in MGAN(1, 32).named_parameters():
        if parameter.dim() > 1:
            assert_close(parameter.std().item(), 0.02, rtol=0.2, atol=0, msg=name)
            assert abs(parameter.mean().item()) < 0.02 * 4 / parameter.numel() ** 0.5, name


@pytest.mark.parametrize("shares_removed", range(5))
def test_exactly_the_first_layers_are_shared(shares_removed):
    model = small(shares_removed=shares_removed)
    convolutions = zip(list(model.discriminator)[:4], list(model.classifier)[:4], strict=True)
    same = [mine is theirs for mine, theirs in convolutions]
    assert same == [True] * (4 - shares_removed) + [False] * shares_removed
    assert model.discriminator_head is not model.classifier_head


@pytest.mark.parametrize("shares_removed", range(5))
def test_running_the_shared_layers_once_gives_each_networks_own_logits(shares_removed):
    model = small(shares_removed=shares_removed).eval()
    images = torch.rand(4, 1, 32, 32) * 2 - 1
    d_logits, c_logits = model.discriminate_and_classify(images)
    assert_close(d_logits, model.discriminate(images))
    assert_close(c_logits, model.classifier_head(model.classifier(images)))


@pytest.mark.parametrize("shares_removed", [0, 2, 4])
def test_the_shared_layers_run_once_on_images_that_both_networks_see(shares_removed):
    model, runs = small(shares_removed=shares_removed), []
    for stage in {
        id(m): m for m in (*model.discriminator, *model.classifier) if not isinstance(m, nn.Flatten)
    }.values():
        stage.register_forward_hook(lambda *_: runs.append(1))
    model.discriminate_and_classify(torch.zeros(2, 1, 32, 32))
    assert len(runs) == 4 + shares_removed


def networks(model: MGAN) -> dict[str, set[str]]:
    """Return the names of the parameters that each optimizer may move."""
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    own = {
        "generator": {n for n in names if n.startswith("generator_")},
        "discriminator": {n for n in names if n.startswith("discriminator")},
        "classifier": {n for n in names if n.startswith("classifier")},
    }
    for layer, name in itertools.product(range(1, 1 + model.shared_layers), list(names)):
        if name.startswith(f"discriminator.conv{layer}."):
            own["classifier"].add(name)
        if name.startswith(f"classifier.conv{layer}."):
            own["discriminator"].add(name)
    return own


@pytest.mark.parametrize("shares_removed", range(5))
@pytest.mark.parametrize("only", ["generator", "discriminator", "classifier"])
def test_an_optimizer_moves_its_networks_and_nothing_else(shares_removed, only):
    seed_everything(0)
    rates = {
        f"{network}_lr": 1e-2 if network == only else 0.0 for network in ("generator", "discriminator", "classifier")
    }
    model = small(shares_removed=shares_removed, **rates)
    before = {n: p.detach().clone() for n, p in model.named_parameters(remove_duplicate=False)}
    fit(model, batches(1))
    moved = {n for n, p in model.named_parameters(remove_duplicate=False) if not torch.equal(p, before[n])}
    assert moved == networks(model)[only]


def reference_step(model: MGAN, real: torch.Tensor, latents: torch.Tensor) -> None:
    """One batch of the algorithm, written with plain autograd.grad, separate forwards and torch's Adam."""
    bce = nn.functional.binary_cross_entropy_with_logits
    opt_g, opt_d, opt_c = model.configure_optimizers()
    ones, zeros = (lambda t: torch.ones_like(t)), (lambda t: torch.zeros_like(t))

    def gradients(loss, optimizer):
        parameters = optimizer.param_groups[0]["params"]
        return list(zip(parameters, torch.autograd.grad(loss, parameters), strict=True))

    def apply(optimizer, pairs):
        for parameter, gradient in pairs:
            parameter.grad = gradient
        optimizer.step()

    fake = model.generator_trunk(model.generator_heads(latents))
    made_by = torch.arange(model.generators).repeat_interleave(latents.shape[1])
    on_fake, on_real = model.discriminate(fake.detach()), model.discriminate(real)
    d_gradients = gradients(bce(on_real, ones(on_real)) + bce(on_fake, zeros(on_fake)), opt_d)
    class_logits = model.classifier_head(model.classifier(fake.detach()))
    c_gradients = gradients(nn.functional.nll_loss(class_logits.log_softmax(1), made_by), opt_c)
    apply(opt_d, d_gradients)
    apply(opt_c, c_gradients)
    on_fake, class_logits = model.discriminate(fake), model.classifier_head(model.classifier(fake))
    g_loss = bce(on_fake, ones(on_fake)) + model.class_weight * nn.functional.cross_entropy(class_logits, made_by)
    apply(opt_g, gradients(g_loss, opt_g))


@pytest.mark.parametrize("shares_removed", range(5))
def test_a_training_step_is_the_algorithm_written_out(shares_removed, monkeypatch):
    seed_everything(0)
    ours, reference = small(shares_removed=shares_removed), small(shares_removed=shares_removed)
    reference.load_state_dict(ours.state_dict())
    loader, latents = batches(1), torch.randn(3, 2, 128, dtype=torch.float64)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: latents.clone())
    # float64, since Adam's first step is nearly the gradient's sign: rounding would tell where a gradient is near 0.
    fit(ours, loader, precision="64-true")
    reference_step(reference.double(), next(iter(loader))[0].double(), latents)
    mine, theirs = dict(ours.named_parameters()), dict(reference.named_parameters())
    assert_close(mine, theirs, rtol=1e-7, atol=1e-9)


def test_generators_draw_their_own_latents_unless_they_share_them():
    own, shared = small(), small(shared_latents=True)
    seen = []
    for model in (own, shared):
        model.generator_heads.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
        model.generate_batch(2)
    assert all(seen[0].shape == s.shape == (3, 2, 128) for s in seen)
    assert not torch.equal(seen[0][0], seen[0][1])
    assert torch.equal(seen[1][0], seen[1][1])


def test_generate_gives_a_row_per_generator_and_repeats_with_the_same_seed():
    model = small().eval()
    first, second = (model.generate(4, torch.Generator().manual_seed(7)) for _ in range(2))
    assert first.shape == (3, 4, 1, 32, 32)
    assert first.abs().max() <= 1
    assert_close(first, second, rtol=0, atol=0)


def test_steps_are_counted_in_batches():
    model = small()
    trainer = fit(model, batches(7), max_epochs=-1, max_steps=5)
    assert trainer.global_step == 5
    assert (model.images_seen.item(), model.d_steps.item(), model.g_steps.item()) == (25, 5, 5)


def test_resuming_gives_the_weights_of_a_run_that_was_not_interrupted(tmp_path):
    loader = batches(3)

    def trained(epochs, checkpoint=None):
        seed_everything(0)
        model = small(shares_removed=1)
        trainer = Trainer(
            max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        # The same latents in the same batch, whichever run draws them.
        model.on_train_batch_start = lambda _, index: torch.manual_seed(10 * model.current_epoch + index) and None
        trainer.fit(model, loader, ckpt_path=checkpoint)
        return trainer, model

    trainer, _ = trained(1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = trained(2, tmp_path / "half.ckpt")
    _, straight = trained(2)
    assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)
    assert straight.d_steps.item() == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shares_removed": 5}, r"shares_removed must be one of 0, 1, 2, 3, 4, got 5\."),
        ({"shares_removed": -1}, r"shares_removed must be .*, got -1\."),
        (
            {"fake_batch_size": 7},
            r"fake_batch_size must be a multiple of generators \(3\), got 7\. Use 6 or 9",
        ),
        ({"fake_batch_size": 2}, r"got 2\. Use 3\."),
        ({"image_size": 64}, r"image_size must be 32 .* got 64\. Use images of that size"),
        ({"generators": 0}, r"generators must be at least 1, got 0"),
        ({"class_weight": -0.1}, r"class_weight must be at least 0, got -0\.1"),
        ({"betas": (0.5, 1.0)}, r"betas must be in \[0, 1\), got \(0\.5, 1\.0\)"),
    ],
)
def test_settings_that_table_1_cannot_take_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        small(**settings)


def test_a_loss_that_is_not_finite_stops_training_and_names_itself_and_the_step():
    model = small()
    original = model.generate_batch

    def sometimes_nan(*args):
        fake, made_by = original(*args)
        return (fake * float("nan") if model.d_steps == 2 else fake), made_by

    model.generate_batch = sometimes_nan
    expected = r"train/discriminator_loss became nan after 2 batches, in epoch 0; .*checkpoint: none was saved yet"
    with pytest.raises(NonFiniteError, match=expected):
        fit(model, batches(4))


def test_the_last_good_checkpoint_is_named_where_there_is_one(tmp_path):
    model = small()
    original = model.generate_batch
    model.generate_batch = lambda *args: _spoiled(original(*args), model.d_steps == 5)
    with pytest.raises(NonFiniteError, match=r"Last good checkpoint: (\S+)\. Try") as raised:
        fit(model, batches(4), max_epochs=3, enable_checkpointing=True, default_root_dir=tmp_path)
    named = re.search(r"checkpoint: (\S+)\. Try", str(raised.value))[1]
    assert torch.load(named, weights_only=True)["epoch"] == 0


def _spoiled(made: tuple, spoil: bool) -> tuple:
    return (made[0] * float("nan"), made[1]) if spoil else made


def test_the_published_figures_have_table_2s_differences():
    differences = {0: -0.0003, 1: 0.0147, 2: 0.0218, 3: 0.0252, 4: 0.0269}  # its last column: C - D
    for shares_removed, difference in differences.items():
        published = small(shares_removed=shares_removed).published_figures("mnist")
        of = {name: published[f"transfer/{name}/paper/accuracy"].value for name in ("discriminator", "classifier")}
        assert of["classifier"] - of["discriminator"] == pytest.approx(difference, abs=1e-9)
    assert of == {"discriminator": 0.9309, "classifier": 0.9578}
    assert small().published_figures("cifar10") == {}


def test_loss_scaling_is_refused():
    model = small()
    model._trainer = type(
        "Trainer", (), {"precision_plugin": type("Plugin", (), {"scaler": 1})(), "precision": "16-mixed"}
    )()
    with pytest.raises(SettingError, match=r"precision must not scale losses, got '16-mixed'.*bf16-mixed"):
        model.setup("fit")
