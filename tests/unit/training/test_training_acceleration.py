"""Each setting of speed changes the rounding and nothing else."""

import copy
from functools import cache

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch.testing import assert_close
from torch.utils.data import DataLoader

from gan_lightning.errors import SettingError
from gan_lightning.papers import GAN, MGAN, BiGAN, ImageNetworks, InverseExamples, SelfExGAN, TutorialNetworks
from gan_lightning.training import acceleration
from gan_lightning.training.acceleration import Acceleration
from gan_lightning.training.simultaneous import DecayedAdam

STEPS = 3


def mgan(shares_removed: int = 0) -> MGAN:
    sizes = {"generators": 2, "base_width": 4, "feature_dim": 4, "latent_dim": 4, "fake_batch_size": 8}
    return MGAN(3, 32, shares_removed=shares_removed, **sizes)


MODELS = {
    "mgan": mgan,
    "mgan_apart": lambda: mgan(shares_removed=2),
    "dcgan": lambda: GAN(3, 64, TutorialNetworks(base_width=2), DecayedAdam(final_share=1.0), simultaneous=False),
    "inverse": lambda: GAN(
        3, 64, TutorialNetworks(base_width=2), DecayedAdam(final_share=1.0), generator_update=InverseExamples()
    ),
    "bigan": lambda: BiGAN(3, 64, ImageNetworks(latent_dim=4, base_width=2, encoder_width=6)),
    "selfexgan": lambda: SelfExGAN(3, 32, "svhn", base_width=4),
}


class LatentsOfTheStep(Callback):
    """Draws the same in a step, whatever came before it."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)


def fitted(name: str, *, steps: int = STEPS, checkpoint=None, **speed) -> tuple[LightningModule, Trainer]:
    seed_everything(0, verbose=False)
    model = MODELS[name]().to(torch.float64)
    size = getattr(model, "image_size", 32)
    images = torch.rand(8, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    loader = DataLoader([(images, torch.zeros(8, dtype=torch.int64))] * STEPS, batch_size=None)
    trainer = Trainer(
        accelerator="cpu", precision="64-true", max_epochs=2, max_steps=steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[LatentsOfTheStep(), Acceleration(**speed)],
    )  # fmt: skip
    trainer.fit(model, loader, ckpt_path=checkpoint)
    return model, trainer


@cache
def default(name: str) -> tuple[LightningModule, Trainer]:
    return fitted(name)


def assert_same_training(fast: LightningModule, plain: LightningModule) -> None:
    assert list(plain.state_dict()) == list(fast.state_dict())
    # In float64 sums in another order differ by 1e-16 of their size; Adam's first steps divide gradients by theirs.
    assert_close(dict(fast.named_parameters()), dict(plain.named_parameters()), rtol=1e-7, atol=1e-9)
    assert_close(dict(fast.named_buffers()), dict(plain.named_buffers()), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "inverse"])
def test_weights_after_some_steps_are_those_of_the_default(name):
    assert_same_training(fitted(name, channels_last=True, fused=True)[0], default(name)[0])


def test_weights_and_states_lie_as_they_are_asked_to():
    model, trainer = fitted("mgan", channels_last=True)
    weight = model.discriminator.conv2[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    assert model.classifier.conv2[0].weight is weight
    for optimizer in trainer.optimizers[1:]:  # D's and C's share it
        assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()


def test_optimizers_step_as_they_are_asked_to():
    for name, made in (("mgan", None), ("dcgan", True)):
        for fused in (None, True, False):
            _, trainer = fitted(name, steps=1, fused=fused)
            assert {g["fused"] for o in trainer.optimizers for g in o.param_groups} == {
                made if fused is None else fused
            }


@pytest.mark.parametrize(("name", "faster_first"), [("mgan", True), ("dcgan", False)])
def test_a_checkpoint_of_one_setting_goes_on_under_another(name, faster_first, tmp_path):
    faster = {"channels_last": True, "fused": True}
    first, second = (faster, {}) if faster_first else ({}, faster)
    _, trainer = fitted(name, steps=STEPS - 1, **first)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    resumed, trainer = fitted(name, checkpoint=tmp_path / "some.ckpt", **second)
    assert trainer.global_step == STEPS
    assert_same_training(resumed, default(name)[0])


@pytest.fixture(autouse=True)
def nothing_that_is_compiled_falls_back():
    """Fail where torch would run a network as it is, beyond its limit of graphs."""
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield


def graphs_of(monkeypatch) -> list:
    """Let torch.compile trace networks, forwards and backwards, without making machine code of them; return what."""
    graphs = []
    compiler = torch._dynamo.lookup_backend("aot_eager")

    def backend(graph, inputs):
        graphs.append(graph)
        return compiler(graph, inputs)

    monkeypatch.setattr(acceleration, "_check_compiler", lambda: None)
    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, mode: torch_compile(network, backend=backend))
    torch._dynamo.reset()
    return graphs


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS))
def test_compiled_networks_train_as_the_plain_ones_do(name, monkeypatch):
    graphs = graphs_of(monkeypatch)
    model, _ = fitted(name, compile=True)
    assert len(graphs) >= 2
    assert_same_training(model, default(name)[0])


def test_only_training_runs_what_is_compiled(monkeypatch):
    graphs = graphs_of(monkeypatch)
    model = MODELS["mgan"]()
    images, names = torch.rand(4, 3, 32, 32) * 2 - 1, list(model.state_dict())
    with torch.no_grad():
        features = model.eval().extractors()["classifier"](images)
        logits = model.discriminate(images)
    speed = Acceleration(compile=True)
    before = torch._functorch.config.donated_buffer, torch._dynamo.config.recompile_limit
    speed.setup(Trainer(accelerator="cpu"), model, "fit")
    with torch.no_grad():
        assert torch.equal(model.extractors()["classifier"](images), features)
        assert torch.equal(model.discriminate(images), logits)
        assert not graphs
        model.train().discriminate(images)
        compiled = len(graphs)
        assert compiled
        copied = copy.deepcopy(model)
        copied.discriminator_head.weight.zero_()
        assert not copied.discriminate(images).any()  # of the copy's own weights
        assert len(graphs) == compiled
    assert list(model.state_dict()) == names
    speed.teardown(Trainer(accelerator="cpu"), model, "fit")
    assert "forward" not in vars(model.generator_trunk)
    assert "discriminate" not in vars(model)
    assert (torch._functorch.config.donated_buffer, torch._dynamo.config.recompile_limit) == before


@pytest.mark.slow
def test_machine_code_of_compiled_networks_trains_as_the_plain_ones_do():
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    model, _ = fitted("dcgan", compile=True, channels_last=True, fused=True)
    assert counters["stats"]["unique_graphs"] >= 2
    assert_same_training(model, default("dcgan")[0])


def test_a_mode_without_compiling_is_refused():
    with pytest.raises(SettingError, match=r"compile_mode must not be set without compile, got 'reduce-"):
        Acceleration(compile_mode="reduce-overhead")


def test_without_a_compiler_it_is_refused_before_the_training(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none() -> str:
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    model = mgan()
    with pytest.raises(SettingError, match=r"^compile must not be true without a C\+\+ compiler, got none"):
        Acceleration(compile=True).setup(Trainer(accelerator="cpu"), model, "fit")
    assert "forward" not in vars(model.generator_trunk)
    Acceleration(compile=True).setup(Trainer(accelerator="cpu"), model, "test")
