"""The anatomy of features after a fit, during one and under `test`."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import nn
from torch.testing import assert_close

from gan_lightning.analysis.anatomy import evaluate_anatomy, head_matrix, row_space, variance_shares
from gan_lightning.callbacks import FeatureAnatomy, RunFolder, TransferEvaluation
from gan_lightning.callbacks.anatomy import some_images
from gan_lightning.callbacks.transfer import untrained_model
from gan_lightning.data import Digits
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorBatches, TunedProtocol, estimate_batch_norm_statistics
from gan_lightning.interfaces import LinearHead
from gan_lightning.models import GAN, MGAN, BiGAN, PermutationInvariantNetworks

CPU = torch.device("cpu")
MLP = PermutationInvariantNetworks(latent_dim=6, width=16)
QUICK = TunedProtocol(strengths=(0.1,))
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let probes be fitted once instead of seven times: here it does not matter how good they are."""
    monkeypatch.setattr("gan_lightning.callbacks.anatomy.TUNED", QUICK)


class Memory(DummyLogger):
    """Remembers what is logged, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, list[Image.Image]] = {}
        self.logged: list[tuple[int | None, dict[str, float]]] = []

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures[key] = images

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if own := {name: value for name, value in metrics.items() if name.startswith("anatomy/")}:
            self.logged.append((step, own))


def digits(**settings: object) -> Digits:
    return Digits(**{"image_size": 32, "limit": 120, "batch_size": 40, "evaluation_batch_size": 50} | settings)


def mgan(**settings: object) -> MGAN:
    seed_everything(0)
    return MGAN(1, 32, **{"base_width": 2, "feature_dim": 12, "generators": 3, "fake_batch_size": 6} | settings)


def fit(tmp_path: Path, *callbacks: object, on: object = None, data: object = None, **settings: object):
    """Train an epoch, and return what was logged and the run's folder."""
    logger = Memory()
    trainer = Trainer(
        **{"max_epochs": 1, "accelerator": "cpu", "logger": logger, **QUIET} | settings,
        callbacks=[*callbacks, RunFolder(str(tmp_path))],
    )  # fmt: skip
    trainer.fit(on or mgan(), data or digits())
    return logger, next(tmp_path.glob("*/*"), None)


def test_the_anatomy_of_every_head_is_measured_printed_logged_drawn_and_written(tmp_path, capsys):
    trained, callback = mgan(shares_removed=2), FeatureAnatomy()
    logger, folder = fit(tmp_path, callback, on=trained)
    trained.eval()
    data = digits()
    images, labels = data.to_images(data.store("test").images), data.store("test").labels
    printed, written = capsys.readouterr().out, json.loads((folder / "anatomy.json").read_text())
    ((_, logged),) = logger.logged
    assert (written["model"], written["data"], written["epochs"], written["seed"]) == ("MGAN", "digits", 1, 0)
    assert written["probes"] is None
    assert [(r.extractor, r.weights, r.epoch, r.rank) for r in callback.records] == [
        ("discriminator", "trained", 1, 1), ("classifier", "trained", 1, 2),
    ]  # fmt: skip
    for record, in_file in zip(callback.records, written["records"], strict=True):
        head = trained.heads()[record.extractor]
        with torch.no_grad():
            features = trained.extractors()[record.extractor](images)
        expected = variance_shares(row_space(head_matrix(head)), features, labels)
        assert record.real.images == in_file["real"]["images"] == 120
        assert_close(record.real.shares.row.total, expected.row.total, rtol=1e-4, atol=1e-7)
        assert_close(in_file["real"]["shares"]["row"]["between"], expected.row.between, rtol=1e-4, atol=1e-7)
        name = f"anatomy/{record.extractor}/trained/real/row_share"
        assert logged[name] == record.real.shares.row.total
        assert_close(logged[f"{name}_within"], expected.row_share("within"), rtol=1e-4, atol=1e-7)
        assert f"{logged[name]:.4f}" in printed
        assert record.generated.images == 501  # 500 are no multiple of three generators
        assert set(record.generated.shares.row_within_class) == {0, 1, 2}
    # D's row space is that of its logit: another way to the same share.
    with torch.no_grad():
        logits, features = trained.discriminate(images).double(), trained.discriminator(images).double()
    own = logits.var() / trained.discriminator_head.weight.double().square().sum() / features.var(dim=0).sum()
    assert_close(callback.records[0].real.shares.row.total, own.item(), rtol=1e-4, atol=0)
    shown = np.asarray(Image.open(folder / "pictures/anatomy.png"))
    np.testing.assert_array_equal(np.asarray(logger.pictures["anatomy"][0]), shown)
    assert [p["theorem"] for p in written["predictions"]] == ["1", "2, 3"]
    assert "What Mao et al. 2022 predict" in printed


def test_probes_come_with_random_weights_and_read_from_f_what_the_transfer_evaluation_does(tmp_path):
    callback, transfer = (
        FeatureAnatomy(probes=True, generated=60, seed=3),
        TransferEvaluation(paper=None, tuned=QUICK, seed=3),
    )
    trained = mgan(shares_removed=2)
    logger, folder = fit(tmp_path, callback, transfer, on=trained)
    accuracies = {(record.extractor, record.weights): record.accuracy for record in transfer.records}
    assert [(r.extractor, r.weights) for r in callback.records] == [
        (extractor, weights) for weights in ("trained", "random") for extractor in ("discriminator", "classifier")
    ]
    for record in callback.records:
        assert record.real.accuracy.whole == accuracies[record.extractor, record.weights]
        assert (record.real.accuracy.images, record.generated.accuracy.images) == (120, 60)
        assert_close(record.generated.accuracy.chance, 1 / 3)
    written = json.loads((folder / "anatomy.json").read_text())
    assert written["probes"]["class"] == "TunedProtocol"
    assert [p["theorem"] for p in written["predictions"]] == ["1", "1", "2, 3", "2, 3"]
    assert all(p["random_weights"] is not None for p in written["predictions"])
    ((_, logged),) = logger.logged
    record = callback.records[3]
    assert logged["anatomy/classifier/random/generated/accuracy_row"] == record.generated.accuracy.row
    # The control's head is that of the untrained model, and its batch norm has the training images' statistics.
    fresh, data = untrained_model(trained, 3), digits()
    estimate_batch_norm_statistics(fresh.classifier, data.evaluation_batches("train", CPU))
    with torch.no_grad():
        features = fresh.classifier.eval()(data.to_images(data.store("test").images))
    expected = variance_shares(row_space(head_matrix(fresh.heads()["classifier"])), features)
    assert_close(record.real.shares.row.total, expected.row.total, rtol=1e-4, atol=0)
    assert expected.row.total != pytest.approx(callback.records[1].real.shares.row.total, rel=0.01)


def test_batch_norm_may_have_the_statistics_of_the_training_images(tmp_path):
    trained, callback, data = mgan(), FeatureAnatomy(batch_norm="real"), digits()
    fit(tmp_path, callback, on=trained)
    estimated = copy.deepcopy(trained.discriminator)
    estimate_batch_norm_statistics(estimated, data.evaluation_batches("train", CPU))
    space = row_space(head_matrix(trained.heads()["discriminator"]))
    with torch.no_grad():
        images = data.to_images(data.store("test").images)
        real, running = (
            variance_shares(space, network.eval()(images)) for network in (estimated, trained.discriminator)
        )
    assert_close(callback.records[0].real.shares.row.total, real.row.total, rtol=1e-4, atol=0)
    assert abs(real.row.total - running.row.total) > 0.01 * real.row.total


def test_measuring_over_training_changes_nothing_in_it(tmp_path):
    plain = mgan()
    fit(tmp_path / "plain", on=plain, max_epochs=3)
    measured, callback = mgan(), FeatureAnatomy(every_n_epochs=1, probes=True, generated=30, batch_norm="real")
    fit(tmp_path / "measured", callback, on=measured, max_epochs=3)
    assert_close(measured.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in measured.parameters())
    assert list(callback.history) == [1, 2, 3]


@pytest.mark.parametrize(("last", "measured"), [(4, (2, 4)), (5, (2, 4, 5))])
def test_figures_over_training_are_logged_as_they_come_and_written_and_drawn_at_the_end(tmp_path, last, measured):
    callback = FeatureAnatomy(every_n_epochs=2)
    logger, folder = fit(tmp_path, callback, max_epochs=last)
    assert [step for step, _ in logger.logged] == [3 * epoch for epoch in measured]  # three batches an epoch
    written = json.loads((folder / "anatomy.json").read_text())
    kept = [(record["extractor"], record["epoch"]) for record in written["over_training"]]
    assert kept == [(extractor, epoch) for epoch in measured for extractor in ("discriminator", "classifier")]
    assert written["over_training"][-1] == written["records"][-1]
    once, folder = fit(tmp_path / "once", FeatureAnatomy(), max_epochs=last)
    with_curves, without = logger.pictures["anatomy"][0], once.pictures["anatomy"][0]
    assert with_curves.height > without.height
    assert once.logged[0][1] == logger.logged[-1][1]


def test_a_callback_that_is_used_again_forgets_the_earlier_run(tmp_path):
    callback = FeatureAnatomy(every_n_epochs=1)
    fit(tmp_path / "first", callback, max_epochs=3)
    fit(tmp_path / "second", callback, max_epochs=2)
    assert list(callback.history) == [1, 2]


def test_what_is_measured_under_test_is_what_was_measured_after_the_fit(tmp_path):
    trained, first, again = mgan(), FeatureAnatomy(probes=True, generated=30), FeatureAnatomy(probes=True, generated=30)
    fit(tmp_path, first, on=trained)
    Trainer(callbacks=[again], accelerator="cpu", logger=False, **QUIET).test(trained, digits(), verbose=False)
    for one, other in zip(first.records, again.records, strict=True):
        assert (one.real, one.generated) == (other.real, other.generated)
        assert other.epoch is None


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_weights_of_any_precision_are_measured(tmp_path, precision):
    trained, callback = mgan(), FeatureAnatomy(batch_norm="real")
    fit(tmp_path, callback, on=trained, precision=precision)
    again = FeatureAnatomy(batch_norm="real")
    Trainer(callbacks=[again], accelerator="cpu", logger=False, **QUIET).test(trained.float(), digits(), verbose=False)
    for one, other in zip(callback.records, again.records, strict=True):
        # Mixed precision is for training alone: then the two are the same.
        rough = {"rtol": 0.3, "atol": 0.05} if precision == "bf16-true" else {"rtol": 1e-3, "atol": 1e-6}
        assert_close(one.real.shares.row.total, other.real.shares.row.total, **rough)
    assert (callback.records[0].real == again.records[0].real) == (precision == "bf16-mixed")


def test_random_weights_are_measured_in_mixed_precision_too(tmp_path):
    callback = FeatureAnatomy(probes=True, generated=30)
    fit(tmp_path, callback, precision="bf16-mixed")
    assert len(callback.records) == 4


@pytest.mark.parametrize(
    ("model", "extractors"),
    [(GAN, {"discriminator": "discrimination"}), (BiGAN, {"encoder_hidden": "encoding"})],
)
def test_models_of_one_generator_are_measured_without_classes_of_their_own(tmp_path, model, extractors):
    seed_everything(0)
    callback = FeatureAnatomy(probes=True, generated=30)
    fit(tmp_path, callback, on=model(1, 8, MLP), data=digits(image_size=8))
    assert {r.extractor: r.task for r in callback.records} == extractors
    for record in callback.records:
        assert record.real.accuracy is not None
        assert record.generated.images == 30
        assert (record.generated.accuracy, record.generated.shares.row_within_class) == (None, None)


def test_data_without_labels_have_shares_of_all_variance(tmp_path):
    data, callback = digits(), FeatureAnatomy()
    data.setup("fit")
    for split in ("train", "test"):
        data.store(split).labels.fill_(-1)
    fit(tmp_path, callback, data=data)
    assert callback.records[0].real.shares.row.within is None
    assert callback.records[0].real.images == 120


def test_no_more_images_are_drawn_than_asked_for_the_same_ones_each_time():
    batches = TensorBatches(torch.arange(70.0).reshape(70, 1, 1, 1), torch.arange(70), 20)
    found = some_images(batches, 30, seed=0)
    assert len(found.images) == 30
    assert (found.labels.diff() > 0).all()  # in stored order
    assert_close(found.images.flatten(), found.labels.float())
    assert_close(some_images(batches, 30, seed=0).labels, found.labels)
    assert not torch.equal(some_images(batches, 30, seed=1).labels, found.labels)
    assert len(some_images(batches, 100, seed=0).images) == 70


# A user's own model


class Own(LightningModule):
    """A model that was not built from saved settings."""

    def __init__(self, head: torch.Tensor | None, name: str = "mine") -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
        self.head, self.name = head, name

    def extractors(self) -> dict[str, nn.Module]:
        return {"mine": self.network}

    def training_step(self, batch: object, batch_idx: int) -> torch.Tensor:
        return self.network(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class WithHeads(Own):
    def heads(self) -> dict[str, LinearHead]:
        return {} if self.head is None else {self.name: LinearHead(self.head, "classification", softmax=True)}


def test_a_model_of_ones_own_without_a_generator_is_measured_on_real_images(tmp_path):
    callback = FeatureAnatomy(probes=True)
    fit(tmp_path, callback, on=WithHeads(torch.eye(3, 6)), data=digits(image_size=8))
    trained, random = callback.records
    assert trained.generated is random.generated is None
    assert (trained.rank, random.rank) == (2, 2)
    assert trained.real.shares.row.total != random.real.shares.row.total


class ThreeGreys(WithHeads):
    """Has three generators, each of which makes images of a brightness of its own."""

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        greys = torch.tensor([-0.5, 0.0, 0.5]).reshape(3, 1, 1, 1, 1)
        return greys + 0.001 * torch.rand(3, count, 1, 16, 16, generator=rng)


def test_generated_images_belong_to_their_generators_and_have_the_datas_size(tmp_path):
    callback = FeatureAnatomy(images=450)
    fit(tmp_path, callback, on=ThreeGreys(torch.eye(3, 6)), data=digits(image_size=8))
    (record,) = callback.records
    assert record.generated.images == 450
    assert record.generated.shares.between_share("row") > 0.99
    assert record.generated.shares.between_share("null") > 0.99


def test_settings_reach_the_measurement(tmp_path, monkeypatch):
    seen = []

    def spy(*arguments: object, **settings: object) -> list:
        seen.append(settings)
        return evaluate_anatomy(*arguments, **settings)

    monkeypatch.setattr("gan_lightning.callbacks.anatomy.evaluate_anatomy", spy)
    callback = FeatureAnatomy(probes=True, seed=7, tolerance=0.1)
    fit(tmp_path, callback, on=WithHeads(torch.eye(3, 6)), data=digits(image_size=8))
    kept = [{name: of[name] for name in ("seed", "tolerance", "probe", "weights", "epoch")} for of in seen]
    same = {"seed": 7, "tolerance": 0.1, "probe": QUICK}
    assert kept == [same | {"weights": "trained", "epoch": 1}, same | {"weights": "random", "epoch": None}]


@pytest.mark.parametrize(
    ("callback", "model"),
    [
        (FeatureAnatomy(enabled=False, probes=True), lambda: WithHeads(torch.eye(3, 6))),
        (FeatureAnatomy(), lambda: Own(None)),
        (FeatureAnatomy(), lambda: WithHeads(None)),
    ],
)
def test_what_is_off_or_has_no_head_is_passed_over(tmp_path, callback, model, capsys):
    logger, folder = fit(tmp_path, callback, on=model(), data=digits(image_size=8))
    assert logger.logged == callback.records == []
    assert not (folder / "anatomy.json").exists()
    assert "anatomy" not in capsys.readouterr().out


def test_a_trial_batch_measures_nothing(tmp_path):
    callback = FeatureAnatomy(every_n_epochs=1, extractors=["no such"])
    _, folder = fit(tmp_path, callback, fast_dev_run=True)
    assert folder is None
    assert callback.records == []


# Bad input


def refused(tmp_path: Path, message: str, callback: FeatureAnatomy, model: LightningModule, error=SettingError) -> None:
    with pytest.raises(error, match=message) as found:
        fit(tmp_path, callback, on=model, data=digits(image_size=8))
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())  # before a folder is made


def test_an_extractor_without_a_head_is_refused_by_name(tmp_path):
    message = (
        r"anatomy\.extractors must name extractors of BiGAN .* got \['encoder'\]\. Choose from \['encoder_hidden'\]"
    )
    refused(tmp_path, message, FeatureAnatomy(extractors=["encoder", "encoder_hidden"]), BiGAN(1, 8, MLP))


@pytest.mark.parametrize("setting", [{"extractors": ["mine"]}, {"probes": True}, {"every_n_epochs": 1}])
@pytest.mark.parametrize("model", [lambda: Own(None), lambda: WithHeads(None)])
def test_asking_for_the_anatomy_of_a_model_without_heads_is_refused(tmp_path, setting, model):
    (name,) = setting
    message = rf"anatomy\.{name} asks for the anatomy of \w+, none of whose extractors has a head: declare .* leave out"
    refused(tmp_path, message, FeatureAnatomy(**setting), model())


def test_a_head_that_does_not_take_its_extractors_features_is_refused(tmp_path):
    message = r"head of the extractor 'mine' must take its 6 features, got a weight of \(1, 5\)\."
    refused(tmp_path, message, FeatureAnatomy(), WithHeads(torch.ones(1, 5)))
    refused(tmp_path, r"named like extractors, got \['yours'\]", FeatureAnatomy(), WithHeads(torch.ones(1, 6), "yours"))


def test_probes_need_labels(tmp_path):
    with pytest.raises(DataError, match=r"feature anatomy with probes needs .* leave out anatomy\.probes"):
        Trainer(callbacks=[FeatureAnatomy(probes=True)], logger=False, accelerator="cpu", max_epochs=1).fit(
            mgan(), digits().train_dataloader()
        )
    with pytest.raises(
        DataError, match=r"data module that declares its images, got NoneType.* leave out anatomy\.every"
    ):
        Trainer(callbacks=[FeatureAnatomy(every_n_epochs=1)], logger=False, accelerator="cpu", max_epochs=1).fit(
            mgan(), digits().train_dataloader()
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 1}, r"anatomy\.images must be at least 2, got 1"),
        ({"generated": 1}, r"anatomy\.generated must be at least 2, got 1"),
        ({"every_n_epochs": -1}, r"anatomy\.every_n_epochs must be at least 0, got -1"),
        ({"tolerance": 1.5}, r"anatomy\.tolerance must be at least 0 and below 1, .* got 1\.5"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        FeatureAnatomy(**settings)
