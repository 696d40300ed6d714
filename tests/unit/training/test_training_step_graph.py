"""A step as one graph is the same training as without it; a stand-in replays where there is no GPU."""

import logging
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from gan_lightning.data.digits import Digits
from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    BiGAN,
    DensityRatioMonitor,
    ImplicitMaximumLikelihood,
    InverseExamples,
    LatentRegressor,
    NearestRealImages,
    PermutationInvariantNetworks,
    SelfExGAN,
    SubproblemMonitor,
    TargetRegression,
    TutorialNetworks,
)
from gan_lightning.runs import finite, finite_watch
from gan_lightning.training import step_graph
from gan_lightning.training.acceleration import Acceleration
from gan_lightning.training.host_reads import HostReads
from gan_lightning.training.simultaneous import DecayedAdam

MLP = PermutationInvariantNetworks(latent_dim=3, width=8)
TUTORIAL = TutorialNetworks(latent_dim=4, base_width=2)
CONSTANT = DecayedAdam(final_share=1.0)
PLAIN_DESCENT = InverseExamples(regression_optimizer="sgd", regression_rate=1e-3)
BY_ADAM = InverseExamples(inversion_optimizer="adam", regression="l1")
SEVERAL = InverseExamples(inversion_steps=2, inversion_momentum=0.5, clamp=True, total_variation=0.1)


def mgan(shares_removed: int = 0, **settings) -> MGAN:
    sizes = {"generators": 2, "base_width": 2, "feature_dim": 4, "latent_dim": 4, "fake_batch_size": 8}
    return MGAN(1, 32, shares_removed=shares_removed, **sizes, **settings)


MODELS = {
    "mgan": mgan,
    "mgan_apart": lambda: mgan(shares_removed=2),
    "mgan_targets": lambda: mgan(generator_update=TargetRegression(ImplicitMaximumLikelihood())),
    "mgan_inverse": lambda: mgan(generator_update=InverseExamples()),
    "bigan": lambda: BiGAN(1, 28, MLP),
    "bigan_targets": lambda: BiGAN(1, 28, MLP, generator_update=TargetRegression(NearestRealImages())),
    "bigan_in_turn": lambda: BiGAN(1, 28, MLP, simultaneous=False, generator_update=PLAIN_DESCENT),
    "gan": lambda: GAN(1, 28, MLP),
    "dcgan": lambda: GAN(1, 64, TUTORIAL, CONSTANT, simultaneous=False, latent_prior="normal"),
    "dcgan_several": lambda: GAN(1, 64, TUTORIAL, CONSTANT, simultaneous=False, generator_update=SEVERAL),
    "dcgan_adam": lambda: GAN(1, 64, TUTORIAL, CONSTANT, simultaneous=False, generator_update=BY_ADAM),
    "regressor": lambda: LatentRegressor(1, 28, MLP, joint_weight=0.25),
    "autoencoder": lambda: Autoencoder(1, 28, MLP),
    "selfexgan": lambda: SelfExGAN(1, 32, "mnist", base_width=2),
}


class StandIn:
    """Replays by doing the step again: what a graph does, but for the speed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, step):
        return step()

    def record(self, step):
        self.recorded += 1

        def replay():
            self.replayed += 1
            return step()

        return replay


@pytest.fixture
def recorder(monkeypatch) -> StandIn:
    """Let the CPU be as a GPU is: losses are noted without a wait, and steps recorded."""
    monkeypatch.setattr(finite, "watches", lambda device: True)
    monkeypatch.setattr(finite_watch, "watches", lambda device: True)
    made = StandIn()
    monkeypatch.setattr(step_graph, "recorder_for", lambda device: made)
    return made


def fit(name: str, *callbacks: Callback, checkpoint=None, seed: int = 0, model=None, **settings):
    """Train on five batches an epoch, the last of which is short."""
    speed = {key: settings.pop(key) for key in ("graph", "steps_per_call") if key in settings}
    seed_everything(seed, verbose=False)
    model = MODELS[name]() if model is None else model
    data = Digits(seed=0, batch_size=16, limit=70, image_size=getattr(model, "image_size", 32))
    trainer = Trainer(
        callbacks=[Acceleration(**speed, **({} if speed else {"fused": True})), *callbacks],
        **{"accelerator": "cpu", "max_epochs": 2, "logger": False, "enable_checkpointing": False,
           "enable_progress_bar": False, "enable_model_summary": False, "limit_val_batches": 0, **settings},
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=checkpoint)
    return model, trainer


def assert_equal(one: LightningModule, other: LightningModule) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("name", MODELS)
def test_a_step_reads_nothing_on_the_host(name, recorder):
    class Watched(Callback):
        def on_train_start(self, trainer, pl_module):
            learn, self.found = pl_module.learn, []

            def watched(batch):
                with HostReads(as_on_gpu=True) as reads:
                    losses = learn(batch)
                self.found.append(reads.found)
                return losses

            object.__setattr__(pl_module, "learn", watched)

    watched = Watched()
    fit(name, watched, limit_train_batches=2, max_epochs=1)
    assert watched.found == [None, None]


@pytest.mark.parametrize("graph", [False, True])
def test_between_two_rows_nothing_waits_for_a_batch_or_its_losses(graph, recorder):
    class Watched(Callback):
        """Watches from the beginning of the fourth batch to the beginning of the fifth, with Lightning's part."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 3:
                self.reads = HostReads(as_on_gpu=True)
                self.reads.__enter__()
            elif batch_idx == 4:
                self.reads.__exit__(None, None, None)

    watched = Watched()
    fit("mgan", watched, graph=graph, max_epochs=1, log_every_n_steps=0)
    assert watched.reads.found is None


def test_losses_that_nobody_looks_at_are_not_logged(recorder, monkeypatch):
    logged = []
    monkeypatch.setattr(MGAN, "log_dict", lambda model, losses, **_: logged.append(model.d_steps.item()))
    fit("mgan", Row(every=4), log_every_n_steps=3)
    assert logged == [3, 4, 5, 6, 8, 9, 10], "rows, batches of the callback, and the ends of epochs"


class SeesAll(Callback):
    """Reads a loss after every batch, and says so to nobody."""

    def __init__(self) -> None:
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(trainer.callback_metrics["train/generator_loss"].item())


def test_a_callback_with_a_hook_around_batches_sees_the_losses_of_each(recorder, monkeypatch):
    on_gpu, on_cpu = SeesAll(), SeesAll()
    fit("mgan", on_gpu, log_every_n_steps=0)
    monkeypatch.setattr(finite, "watches", lambda device: False)
    monkeypatch.setattr(finite_watch, "watches", lambda device: False)
    fit("mgan", on_cpu, log_every_n_steps=0)
    assert on_gpu.losses == on_cpu.losses
    assert len(set(on_gpu.losses)) == 10


@pytest.mark.parametrize("name", MODELS)
def test_training_with_a_graph_is_training_without_it_bit_for_bit(name, recorder):
    plain, before = fit(name)
    model, trainer = fit(name, graph=True)
    assert_equal(model, plain)
    assert trainer.global_step == before.global_step == 10
    assert (recorder.recorded, recorder.replayed) == (1, 6)  # of ten batches, two warm it up and two are short
    rates = [[group["lr"] for group in one.param_groups] for one in trainer.optimizers]
    assert rates == [[group["lr"] for group in one.param_groups] for one in before.optimizers]


class Row(Callback):
    """Notes what a batch's hooks see."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, []

    def looks_at_batch(self, trainer, number):
        return number % self.every == 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        number = trainer.fit_loop.epoch_loop.batch_progress.total.processed
        if number % self.every == 0:
            losses = {name: value.item() for name, value in trainer.callback_metrics.items()}
            self.seen.append((number, batch_idx, trainer.global_step, pl_module.d_steps.item(), losses))


@pytest.mark.parametrize("steps_per_call", [2, 3, 20])
@pytest.mark.parametrize("graph", [False, True])
def test_several_batches_a_call_are_as_single_ones(steps_per_call, graph, recorder, tmp_path):
    found = []
    for several in (1, steps_per_call):
        folder, row = tmp_path / str(several), Row(every=4)
        saves = ModelCheckpoint(folder, filename="{step}", every_n_train_steps=3, save_top_k=-1)
        rates = LearningRateMonitor("step")
        model, trainer = fit(
            "bigan", row, saves, rates, graph=graph, steps_per_call=several, max_epochs=3, max_steps=13,
            log_every_n_steps=5, logger=CSVLogger(folder, name="", version=""), enable_checkpointing=True,
        )  # fmt: skip
        files = {file.name: torch.load(file, weights_only=True) for file in folder.glob("*.ckpt")}
        found.append((model, trainer, row.seen, files, (folder / "metrics.csv").read_text()))
    (plain, before, seen, files, rows), (model, trainer, other_seen, other_files, other_rows) = found
    assert_equal(model, plain)
    assert trainer.global_step == before.global_step == 13
    assert other_seen == seen
    assert [number for number, *_ in seen] == [4, 8, 12]
    assert other_rows == rows
    assert sorted(files) == sorted(other_files) == ["step=12.ckpt", "step=3.ckpt", "step=6.ckpt", "step=9.ckpt"]
    for name, saved in files.items():
        other = other_files[name]
        assert saved["loops"]["fit_loop"] == other["loops"]["fit_loop"]
        assert saved["global_step"] == other["global_step"]
        assert all(torch.equal(saved["state_dict"][key], other["state_dict"][key]) for key in saved["state_dict"])


def test_calls_take_as_many_batches_as_they_may(recorder):
    calls = []

    class Counted(BiGAN):
        def training_step(self, batch, batch_idx):
            before = self.d_steps.item()
            super().training_step(batch, batch_idx)
            calls.append(self.d_steps.item() - before)

    fit("", model=Counted(1, 28, MLP), graph=True, steps_per_call=3, log_every_n_steps=0)
    assert calls == [3, 1, 1] * 2  # the last batch of an epoch has its own call


@pytest.mark.parametrize(("steps", "steps_per_call"), [(2, 1), (4, 3), (7, 3)])
def test_a_run_with_a_graph_goes_on_where_it_was_bit_for_bit(steps, steps_per_call, recorder, tmp_path):
    straight, _ = fit("mgan")
    saves = ModelCheckpoint(tmp_path, filename="some", every_n_train_steps=steps, save_top_k=-1)
    ends = {"max_steps": steps, "enable_checkpointing": True}
    fit("mgan", saves, graph=True, steps_per_call=steps_per_call, **ends)
    saved = torch.load(tmp_path / "some.ckpt", weights_only=True)
    assert {g["lr"] for state in saved["optimizer_states"] for g in state["param_groups"]} == {2e-4}
    on, trainer = fit("mgan", checkpoint=tmp_path / "some.ckpt", seed=1, graph=True, steps_per_call=steps_per_call)
    assert trainer.global_step == 10
    assert_equal(on, straight)


class Spoils(Callback):
    """Gives a batch pixels that are not finite, from a batch on."""

    def __init__(self, number: int) -> None:
        self.number, self.states = number, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        if trainer.global_step >= self.number:
            batch[0].fill_(float("nan"))


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("name", ["mgan_inverse", "bigan_in_turn", "selfexgan"])
def test_after_a_loss_that_is_not_finite_nothing_moves_and_the_message_names_loss_and_batch(name, graph, recorder):
    spoils, model = Spoils(3), MODELS[name]()
    with pytest.raises(NonFiniteError, match=r"^train/\w*discriminator_loss became nan after 3 batches, in epoch 0; "):
        fit(name, spoils, model=model, graph=graph, log_every_n_steps=5)
    assert len(spoils.states) == 5, "the host looks where a row is logged, no earlier"
    now = model.state_dict()
    assert [key for key, value in spoils.states[3].items() if not torch.equal(value, now[key])] == []
    assert model.d_steps == 3
    assert any(not torch.equal(value, now[key]) for key, value in spoils.states[2].items())


def test_on_the_cpu_statistics_and_counters_are_put_back_as_well():
    spoils, model = Spoils(3), MODELS["mgan"]()
    with pytest.raises(NonFiniteError, match=r"^train/discriminator_loss became nan after 3 batches"):
        fit("mgan", spoils, model=model)
    now = model.state_dict()
    assert [key for key, value in spoils.states[3].items() if not torch.equal(value, now[key])] == []


class ChangesRate(Callback):
    """Sets learning rates as others do, to a number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 4:
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.05


def test_a_learning_rate_that_is_set_as_a_number_counts(recorder):
    changed, _ = fit("mgan", ChangesRate())
    model, trainer = fit("mgan", ChangesRate(), graph=True)
    assert_equal(model, changed)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.05
    assert recorder.replayed == 6


class Freezes(Callback):
    """Changes what a graph holds fast, after an epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.discriminator_head.weight.data = pl_module.discriminator_head.weight.data.clone()


def test_a_weight_at_another_place_is_recorded_anew(recorder):
    plain, _ = fit("mgan", max_epochs=3)
    model, _ = fit("mgan", Freezes(), graph=True, max_epochs=3)
    assert_equal(model, plain)
    assert recorder.recorded == 3


def test_a_batch_whose_generator_is_observed_runs_as_ever(recorder):
    plain, _ = fit("dcgan", SubproblemMonitor(every_n_batches=4))
    model, _ = fit("dcgan", SubproblemMonitor(every_n_batches=4), graph=True, steps_per_call=3)
    assert_equal(model, plain)
    assert recorder.replayed == 4  # of ten, two warm up, two are short, and two more are observed


def test_the_density_ratio_is_measured_at_the_same_batches(recorder):
    histories = []
    for settings in ({}, {"graph": True, "steps_per_call": 20}):
        monitor = DensityRatioMonitor(every_n_batches=3, images=8)
        fit("mgan", monitor, **settings)
        histories.append(monitor.history)
    assert histories[0] == histories[1]
    assert [check["batch"] for check in histories[0]] == [3, 6, 9]


class Reads(MGAN):
    """Reads a tensor in its step."""

    def learn(self, batch):
        """Learn, and look."""
        losses = super().learn(batch)
        self.last = losses["generator_loss"].item()  # the line that is named
        return losses


def test_a_model_that_reads_a_tensor_is_named_with_the_line_and_trains_as_without_a_graph(recorder, caplog):
    sizes = {"generators": 2, "base_width": 2, "feature_dim": 4, "latent_dim": 4, "fake_batch_size": 8}
    with caplog.at_level(logging.WARNING):
        model, _ = fit("", model=seeded(lambda: Reads(1, 32, **sizes)), graph=True)
    plain, _ = fit("", model=seeded(lambda: MGAN(1, 32, **sizes)))
    assert_equal(model, plain)
    (line,) = [record.getMessage() for record in caplog.records if "speed.graph" in record.getMessage()]
    with Path(__file__).open() as file:
        number = next(n for n, text in enumerate(file, 1) if "# the line that is named" in text)
    assert line.startswith(
        "speed.graph is without effect, and training goes on as without it: Reads.learn reads a tensor on the host: "
        f"_local_scalar_dense at {__file__}:{number}"
    )
    assert recorder.recorded == 0


def seeded(make):
    seed_everything(0, verbose=False)
    return make()


class Within(Callback):
    """Has a hook within the step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        """Look at gradients."""


class Around(Callback):
    """Has a hook around each batch."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        """Look at a batch."""


@pytest.mark.parametrize(
    ("callbacks", "settings", "expected"),
    [
        ([Within()], {"graph": True}, r"speed\.graph is without effect.*: Within has hooks within the step\."),
        (
            [Around()],
            {"steps_per_call": 4},
            r"speed\.steps_per_call is.*: Around has hooks around every batch\.",
        ),
    ],
)
def test_what_stands_in_the_way_is_named_in_one_line(callbacks, settings, expected, recorder, caplog):
    with caplog.at_level(logging.WARNING):
        _, trainer = fit("mgan", *callbacks, **settings, max_epochs=1)
    lines = [record.getMessage() for record in caplog.records if "speed." in record.getMessage()]
    assert len(lines) == 1
    assert re.fullmatch(expected, lines[0])
    assert trainer.global_step == 5


def test_on_the_cpu_a_graph_is_without_effect_and_a_line_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        fit("bigan", graph=True, max_epochs=1)
    lines = [record.getMessage() for record in caplog.records if "speed.graph" in record.getMessage()]
    reason = "graphs are for a GPU, and the device is cpu"
    assert lines == [f"speed.graph is without effect, and training goes on as without it: {reason}."]


def test_a_graph_that_cannot_be_recorded_is_said_and_training_goes_on(recorder, caplog, monkeypatch):
    def fails(step):
        raise RuntimeError("CUDA error: operation not permitted\nmore")

    monkeypatch.setattr(recorder, "record", fails)
    plain, _ = fit("bigan")
    with caplog.at_level(logging.WARNING):
        model, _ = fit("bigan", graph=True)
    assert_equal(model, plain)
    assert "the step could not be recorded (CUDA error: operation not permitted)." in caplog.text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps_per_call": 0}, r"steps_per_call must be at least 1, got 0"),
        ({"graph": True, "fused": False}, r"fused must not be false with graph"),
        ({"graph": True, "compile": True, "compile_mode": "reduce-overhead"}, r"compile_mode must not be 'reduce-ov"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, expected):
    with pytest.raises(SettingError, match=expected):
        Acceleration(**settings)


# On a card: the same with real graphs.


def fit_on_card(name: str, *callbacks: Callback, **settings) -> tuple[LightningModule, Trainer]:
    """Train as `fit` does, on a card, in sums of one order."""
    on_card = {"accelerator": "gpu", "devices": 1, "deterministic": True}
    return fit(name, *callbacks, **on_card, **settings)


@pytest.fixture
def one_order(monkeypatch):
    """Let matrix products on a card sum in one order."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", MODELS)
def test_training_with_a_graph_on_a_card_is_training_without_it_bit_for_bit(name, precision, one_order, caplog):
    plain, _ = fit_on_card(name, precision=precision, max_epochs=3)
    model, trainer = fit_on_card(name, precision=precision, max_epochs=3, graph=True)
    assert_equal(model, plain)
    assert trainer.global_step == 15
    assert "speed.graph" not in caplog.text


@pytest.mark.gpu
@pytest.mark.parametrize("steps_per_call", [3, 20])
def test_several_batches_a_call_on_a_card_are_as_single_ones(steps_per_call, one_order):
    plain, _ = fit_on_card("bigan", max_epochs=3)
    model, trainer = fit_on_card("bigan", max_epochs=3, graph=True, steps_per_call=steps_per_call)
    assert_equal(model, plain)
    assert trainer.global_step == 15


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True])
def test_a_run_on_a_card_goes_on_where_it_was_bit_for_bit(graph, one_order, tmp_path):
    straight, _ = fit_on_card("mgan", graph=graph)
    saves = ModelCheckpoint(tmp_path, filename="some", every_n_train_steps=4, save_top_k=-1)
    fit_on_card("mgan", saves, graph=graph, max_steps=4, enable_checkpointing=True)
    on, _ = fit_on_card("mgan", checkpoint=tmp_path / "some.ckpt", seed=1, graph=graph)
    assert_equal(on, straight)


@pytest.mark.gpu
@pytest.mark.parametrize("graph", [False, True])
def test_on_a_card_nothing_moves_after_a_loss_that_is_not_finite(graph):
    spoils, model = Spoils(5), MODELS["selfexgan"]()
    with pytest.raises(NonFiniteError, match=r"^train/\w*discriminator_loss became nan after 5 batches, in epoch 1; "):
        fit_on_card("selfexgan", spoils, model=model, graph=graph, log_every_n_steps=8)
    now = model.state_dict()
    assert len(spoils.states) == 8
    assert [key for key, value in spoils.states[5].items() if not torch.equal(value.cpu(), now[key].cpu())] == []


@pytest.mark.gpu
def test_a_step_on_a_card_waits_for_nothing_and_nor_does_what_follows_it():
    class Strict(Callback):
        """Lets torch raise an error where the host waits for the card, from the second batch to the fourth."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            torch.cuda.set_sync_debug_mode("error" if batch_idx in (1, 2) else "default")

    _, trainer = fit_on_card("mgan", Strict(), max_epochs=1, log_every_n_steps=0)
    assert trainer.global_step == 5
