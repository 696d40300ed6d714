import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn

from gan_lightning.data import Digits
from gan_lightning.errors import DataError, MeasurementError, SettingError
from gan_lightning.evaluation import PaperProbe
from gan_lightning.figures import Figure, read_figures
from gan_lightning.interfaces import EncodesImages
from gan_lightning.measurements import Bench, Measurement, Outcome, Transfer
from gan_lightning.runs import Checkpoints, Interruption, Measure, RunFolder
from gan_lightning.runs import Trainer as OurTrainer
from gan_lightning.runs.measure import in_order

QUICK = Transfer(paper=PaperProbe(epochs=2), tuned=None)


@dataclass(frozen=True, kw_only=True)
class WeightNorm(Measurement):
    """The norm of the extractor's weights: another number after every batch."""

    name = "weight_norm"

    def metrics(self, bench):
        return {"weight_norm/norm": "min"}

    def run(self, bench):
        norm = sum(weight.double().square().sum() for weight in bench.networks["own"].parameters())
        bench.report("norms", 1, 1)
        return Outcome([self.figure("norm", norm.item(), split="")], pictures={"": torch.zeros(3, 2, 2)})


@dataclass(frozen=True, kw_only=True)
class Ratio(Measurement):
    """Reads what another measurement has found."""

    name = "ratio"
    follows = ("weight_norm",)

    def run(self, bench):
        (found,) = bench.outcomes["weight_norm"].figures
        return Outcome([self.figure("points", 1 + len([f for f in bench.history if f.name == found.name]))])


@dataclass(frozen=True, kw_only=True)
class Seeded(Measurement):
    """Says which seed it is given."""

    name = "seeded"
    seed: int | None = None

    def run(self, bench):
        return Outcome([self.figure("seed", bench.seed_for(self.seed))])


@dataclass(frozen=True, kw_only=True)
class NeedsAnEncoder(Measurement):
    name = "codes"
    needs = (EncodesImages,)

    def run(self, bench):
        raise AssertionError("it must have been passed over")


def figure(measurement: str, value: float) -> Figure:
    return Figure(measurement=measurement, metric="x", value=value)


def drawn(picture: torch.Tensor) -> Outcome:
    """Return an outcome with a picture that nobody has looked at."""
    outcome = Outcome()
    object.__setattr__(outcome, "pictures", {"p": picture})
    return outcome


class Own(LightningModule):
    """A plain module of a user's own."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.own = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def extractors(self):
        return {"own": self.own}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.rate)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.mse_loss(self.own(images).mean(1), labels.float())


def digits() -> Digits:
    return Digits(limit=40, batch_size=20, image_size=8)


def trainer(
    tmp_path: Path, *callbacks: Callback, epochs: int = 1, kind: type[Trainer] = Trainer, **settings
) -> Trainer:
    return kind(
        max_epochs=epochs, accelerator="cpu", devices=1, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=list(callbacks),
        limit_val_batches=0, **{"enable_checkpointing": False, "logger": False, **settings},
    )  # fmt: skip


def fit(tmp_path: Path, *callbacks: Callback, model: LightningModule | None = None, **settings) -> Trainer:
    seed_everything(0)
    made = trainer(tmp_path, *callbacks, **settings)
    made.fit(model or Own(), datamodule=digits())
    return made


def folder(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "runs").glob("*/*")
    return found


def finished_run(tmp_path: Path) -> Path:
    keeping = [RunFolder(str(tmp_path / "runs")), Checkpoints(save_last="link")]
    fit(tmp_path, *keeping, Measure(QUICK), enable_checkpointing=True)
    return folder(tmp_path)


def values(run: Path) -> dict:
    return {(f.name, f.epoch, f.at): f.value for f in read_figures(run / "figures.json").figures}


def test_what_is_measured_after_a_fit_is_in_the_runs_folder_whatever_the_order_of_the_callbacks(tmp_path, capsys):
    found = []
    for i, order in enumerate(itertools.permutations([0, 1])):
        root = tmp_path / str(i)
        callbacks = [RunFolder(str(root / "runs")), Measure(QUICK, NeedsAnEncoder(), Ratio(), WeightNorm())]
        fit(root, *(callbacks[place] for place in order))
        found.append(values(folder(root)))
        run = read_figures(folder(root) / "figures.json")
        assert run.passed_over == {"codes": "Own declares no encode(), decode() and sample_latents()"}
        assert (run.about["model"], run.about["data"], run.about["seed"]) == ("Own", "digits", 0)
        assert (run.about["epochs"], run.about["batches"]) == (1, 2)
        assert run.sections["transfer"].settings["paper"]["epochs"] == 2
        assert {(f.epoch, f.batches) for f in run.figures} == {(1, 2)}
        assert (folder(root) / "pictures/weight_norm.png").is_file()
        assert not (folder(root) / "hparams.yaml").exists()
        assert "Transfer on digits" in capsys.readouterr().out
    assert found[0] == found[1]
    assert found[0]["ratio/points", 1, None] == 1.0


@pytest.mark.parametrize(("own", "seen"), [(None, 5), (2, 2)])
def test_a_measurement_has_the_runs_seed_unless_it_has_one_of_its_own(tmp_path, own, seen):
    measure = Measure(Seeded(seed=own))
    seed_everything(5, verbose=False)
    trainer(tmp_path, measure).fit(Own(), datamodule=digits())
    assert [figure.value for figure in measure.outcomes["seeded"].figures] == [seen]


@pytest.mark.parametrize("turned", [False, True])
def test_a_refused_setting_leaves_no_folder_behind_in_a_fit_and_under_test(tmp_path, turned):
    unlabelled = digits()
    unlabelled.setup("fit")
    unlabelled.store("train").labels[:] = 3
    callbacks = [RunFolder(str(tmp_path / "runs")), Measure(QUICK)]
    made = trainer(tmp_path, *(reversed(callbacks) if turned else callbacks))
    model = Own()
    model.test_step = lambda batch, batch_idx: None
    for run in (made.fit, made.test):
        with pytest.raises(DataError, match="transfer needs two classes or more"):
            run(model, datamodule=unlabelled)
    assert not (tmp_path / "runs").exists()


def test_measuring_over_training_changes_nothing_in_it_and_is_there_at_the_end(tmp_path):
    plain, watched = Own(), Own()
    seed_everything(0)
    plain, watched = Own(), Own()
    watched.load_state_dict(plain.state_dict())
    fit(tmp_path / "a", model=plain, epochs=3)
    every = [
        WeightNorm(every_n_epochs=1),
        Ratio(every_n_epochs=2),
        Transfer(paper=QUICK.paper, tuned=None, every_n_epochs=2),
    ]
    fit(tmp_path / "b", RunFolder(str(tmp_path / "b/runs")), Measure(*every), model=watched, epochs=3)
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    found = values(folder(tmp_path / "b"))
    assert [epoch for name, epoch, _ in found if name == "weight_norm/norm"] == [1, 2, 3]
    assert [epoch for name, epoch, at in found if name == "transfer/own/paper/accuracy" and at is None] == [2, 3]
    assert ("transfer/pixels/paper/accuracy", 2, None) not in found
    assert found["ratio/points", 3, None] == 3.0
    pictures = {path.name for path in (folder(tmp_path / "b") / "pictures").iterdir()}
    assert pictures == {"weight_norm.png", "weight_norm-epoch-0000.png", "weight_norm-epoch-0001.png"}
    rows = (folder(tmp_path / "b") / "metrics.csv").read_text().splitlines()
    assert "weight_norm/norm" in rows[0]


class Recorder(DummyLogger):
    """A logger that takes pictures, as W&B's does."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.pictures: list[str] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((step, dict(metrics)))

    def log_image(self, key: str, images: list, step: int) -> None:
        self.pictures.append(key)


def test_loggers_get_each_figure_once_under_its_name_and_the_pictures(tmp_path):
    recorder = Recorder()
    measure = Measure(WeightNorm(every_n_epochs=1), QUICK)
    fit(tmp_path, measure, epochs=2, logger=recorder)
    norms = [(step, row) for step, row in recorder.metrics if "weight_norm/norm" in row]
    assert [(step, list(row)) for step, row in norms] == [(2, ["weight_norm/norm"]), (4, ["weight_norm/norm"])]
    assert norms[-1][1]["weight_norm/norm"] == measure.outcomes["weight_norm"].figures[0].value
    ((step, row),) = [(step, row) for step, row in recorder.metrics if "transfer/own/paper/accuracy" in row]
    assert step == 4
    assert row == {f.name: f.value for f in measure.outcomes["transfer"].figures if not f.is_point}
    assert {"transfer/chance/accuracy", "transfer/pixels/paper/accuracy"} < set(row)
    assert recorder.pictures == ["weight_norm", "weight_norm"]


def test_a_checkpoint_is_chosen_by_a_figure_and_a_resumed_run_has_all_figures(tmp_path):
    def callbacks(root):
        monitored = Checkpoints(monitor="weight_norm/norm", mode="min", save_last="link", filename="{epoch}")
        return RunFolder(str(tmp_path / root / "runs")), Measure(WeightNorm(every_n_epochs=1)), monitored

    whole = callbacks("whole")
    fit(tmp_path, *whole, epochs=3, enable_checkpointing=True)
    first = callbacks("first")
    fit(tmp_path, *first, epochs=2, enable_checkpointing=True)
    checkpoint = folder(tmp_path / "first") / "checkpoints/last.ckpt"
    (tmp_path / "second").mkdir()
    second = callbacks("second")
    made = trainer(tmp_path, *second, epochs=3, enable_checkpointing=True)
    made.fit(Own(), datamodule=digits(), ckpt_path=str(checkpoint))
    assert values(folder(tmp_path / "second")) == values(folder(tmp_path / "whole"))
    assert second[2].best_model_score == whole[2].best_model_score


def test_a_fit_that_ended_before_its_measurements_makes_them_when_it_goes_on(tmp_path):
    saving = Checkpoints(save_last="link", dirpath=str(tmp_path / "saved"))
    fit(tmp_path, saving, enable_checkpointing=True)
    measure = Measure(QUICK)
    made = trainer(tmp_path, RunFolder(str(tmp_path / "runs")), measure, kind=OurTrainer)
    made.fit(Own(), datamodule=digits(), ckpt_path=str(tmp_path / "saved/last.ckpt"))
    assert (
        values(folder(tmp_path))["transfer/own/paper/accuracy", 1, None]
        == measure.outcomes["transfer"].figures[0].value
    )


def test_fit_test_and_python_agree_to_the_last_digit(tmp_path):
    measure, model = Measure(QUICK, WeightNorm()), Own()
    model.test_step = lambda batch, batch_idx: None
    made = fit(tmp_path, measure, model=model)
    fitted = {name: [(f.name, f.at, f.value) for f in outcome.figures] for name, outcome in measure.outcomes.items()}
    made.test(model, datamodule=digits())
    assert fitted == {
        name: [(f.name, f.at, f.value) for f in outcome.figures] for name, outcome in measure.outcomes.items()
    }
    data = digits()
    data.setup("fit")
    bench = Bench.of_model(model, data)
    assert fitted["transfer"] == [(f.name, f.at, f.value) for f in bench.measure(QUICK).figures]


def test_a_run_that_is_told_to_end_while_it_is_measured_ends_and_measures_first_when_it_goes_on(tmp_path):
    listening = Interruption()

    @dataclass(frozen=True, kw_only=True)
    class Long(WeightNorm):
        name = "long"

        def run(self, bench):
            reached.append(bench.epoch)
            if told and bench.epoch == 1:
                listening.told = 15
            bench.report("long", 1, 2)
            return super().run(bench)

    def run(root, ckpt_path=None):
        listening.told = None
        saving = Checkpoints(save_last="link", dirpath=str(tmp_path / root / "saved"))
        measure = Measure(Long(every_n_epochs=1))
        made = trainer(
            tmp_path, listening, measure, saving, RunFolder(str(tmp_path / root / "runs")), epochs=3,
            enable_checkpointing=True,
        )  # fmt: skip
        if ckpt_path is None:
            seed_everything(0)
        try:
            made.fit(Own(), datamodule=digits(), ckpt_path=ckpt_path)
        except BaseException as error:
            return type(error).__name__
        return [(f.epoch, f.value) for f in read_figures(folder(tmp_path / root) / "figures.json").figures]

    told, reached = False, []
    whole = run("whole")
    assert [epoch for epoch, _ in whole] == [1, 2, 3]
    told = True
    assert run("ended") == "Interrupted"
    told, reached = False, []
    assert run("resumed", str(tmp_path / "ended/saved/last.ckpt")) == whole
    assert reached == [1, 2, 3]


def monitored(callback, *measurements):
    made = trainer(
        Path("/nowhere"), Measure(*measurements), callback, enable_checkpointing=isinstance(callback, ModelCheckpoint)
    )
    made.fit(Own(), datamodule=digits())


EACH = Transfer(paper=QUICK.paper, tuned=None, every_n_epochs=1)
NAME = "transfer/own/paper/accuracy"


@pytest.mark.parametrize("saves", [True, False], ids=["checkpoint", "early stopping"])
@pytest.mark.parametrize(
    ("transfer", "monitor", "mode", "message"),
    [
        (QUICK, NAME, "max", r"monitor must be measured while training, got .* every_n_epochs=1 of transfer"),
        (Transfer(enabled=False), NAME, "max", r"monitor must be measured while training"),
        (EACH, "transfer/own/papers/accuracy", "max", f"monitor must be one of {NAME}, got 'transfer/own/papers"),
        (EACH, NAME, "min", r"mode must be max with .*which would keep the worst"),
        (
            Transfer(paper=QUICK.paper, tuned=None, every_n_epochs=2),
            NAME,
            "max",
            r"every_n_epochs must divide",
        ),
    ],
)
def test_whatever_monitors_a_figure_is_checked_before_the_first_batch(
    tmp_path, saves, transfer, monitor, mode, message
):
    callback = (
        Checkpoints(monitor=monitor, mode=mode, dirpath=str(tmp_path)) if saves else EarlyStopping(monitor, mode=mode)
    )
    with pytest.raises(SettingError, match=message):
        monitored(callback, transfer)


def test_early_stopping_by_a_figure_stops(tmp_path):
    stopping = EarlyStopping("weight_norm/norm", mode="min", patience=1, min_delta=1e9)
    made = fit(tmp_path, Measure(WeightNorm(every_n_epochs=1)), stopping, epochs=9)
    assert made.current_epoch == 2
    with pytest.raises(SettingError, match="check_on_train_epoch_end must not be false"):
        monitored(EarlyStopping("weight_norm/norm", check_on_train_epoch_end=False), WeightNorm(every_n_epochs=1))


def test_measurements_need_names_of_their_own_and_follow_each_other_in_no_circle():
    class Back(WeightNorm):
        follows = ("ratio",)

    with pytest.raises(SettingError, match="measurements must have names of their own, got 'transfer' twice"):
        Measure(QUICK, EACH)
    with pytest.raises(SettingError, match="must not follow each other in a circle"):
        Measure(Back(), Ratio())


def test_what_is_switched_off_cannot_be_asked_for_every_n_epochs(tmp_path):
    with pytest.raises(SettingError, match=r"^every_n_epochs must be 0 where enabled is false"):
        fit(tmp_path, Measure(WeightNorm(enabled=False, every_n_epochs=1)))


def test_a_dry_run_measures_nothing(tmp_path):
    measure = Measure(QUICK, WeightNorm(every_n_epochs=1))
    fit(tmp_path, RunFolder(str(tmp_path / "runs")), measure, fast_dev_run=True)
    assert measure.outcomes == {}
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_measured_into_its_own_folder_and_its_other_figures_stay(tmp_path):
    run = finished_run(tmp_path)
    before = values(run)
    keeper = RunFolder()
    keeper.finished = run
    measure = Measure(WeightNorm())
    made = trainer(tmp_path, keeper, measure, kind=OurTrainer)
    model = Own()
    model.test_step = lambda batch, batch_idx: None
    made.measure(model, digits(), ckpt_path=str(run / "checkpoints/last.ckpt"))
    after = values(run)
    assert after.items() > before.items()
    assert after["weight_norm/norm", 1, None] == measure.outcomes["weight_norm"].figures[0].value
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    assert [each["status"] for each in record["measured"]] == ["finished"]
    assert not (run / ".running").exists()


def test_the_last_epoch_stands_once_in_the_file_where_a_checkpoint_has_had_it_measured_too(tmp_path):
    saving = Checkpoints(monitor="weight_norm/norm", mode="min", dirpath=str(tmp_path / "saved"))
    measure = Measure(WeightNorm(every_n_epochs=1))
    fit(tmp_path, RunFolder(str(tmp_path / "runs")), measure, saving, epochs=2, enable_checkpointing=True)
    rows = read_figures(folder(tmp_path) / "figures.json").figures
    assert [figure.epoch for figure in rows] == [1, 2]


@dataclass(frozen=True, kw_only=True)
class Fails(WeightNorm):
    name = "fails"

    def run(self, bench):
        raise ZeroDivisionError("nothing to divide by")


def test_a_measurement_that_fails_takes_nothing_else_with_it(tmp_path, caplog):
    every = {"every_n_epochs": 1}
    callbacks = RunFolder(str(tmp_path / "runs")), Measure(Fails(**every), WeightNorm(**every))
    with pytest.raises(MeasurementError, match=r"fails could not be measured .ZeroDivisionError: nothing to divide by"):
        fit(tmp_path, *callbacks, epochs=2)
    assert "fails cannot be measured after 1 epochs." in caplog.text
    run = read_figures(folder(tmp_path) / "figures.json")
    assert [figure.epoch for figure in run.figures] == [1, 2]
    assert run.passed_over["fails"] == "it failed: ZeroDivisionError: nothing to divide by"
    about = json.loads((folder(tmp_path) / "run.json").read_text())
    assert (about["status"], about["error"][:16]) == ("finished", "MeasurementError")


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"x": 1.0}, "odd.run must return an Outcome, got dict"),
        (Outcome([figure("odd", 1.0), figure("odd", 2.0)]), "odd must give each figure once, got odd/x twice"),
        (Outcome([figure("transfer", 1.0)]), "odd must give figures of its own, got transfer/x"),
        (drawn(torch.zeros(5, 2, 2)), r"odd's picture 'p' must be .* got \(5, 2, 2\)"),
        (drawn(torch.full((3, 2, 2), torch.nan)), "odd's picture 'p' must be a finite tensor"),
    ],
)  # fmt: skip
def test_what_a_measurement_may_not_give_is_named(outcome, message):
    class Odd(WeightNorm):
        name = "odd"

        def run(self, bench):
            return outcome

    with pytest.raises(SettingError, match=message):
        Bench.of_model(Own(), None).measure(Odd())


@pytest.mark.parametrize("name", ["", "../evil", "a/b", "my thing", "data", "features", 3])
def test_a_name_that_could_be_mistaken_or_lead_elsewhere_is_refused(name):
    kind = type("Named", (WeightNorm,), {"name": name})
    with pytest.raises(SettingError, match="a measurement must have a name of letters, digits and underscores"):
        Measure(kind())


def test_a_class_in_a_measurements_place_is_refused():
    with pytest.raises(SettingError, match="Measure must be given measurements, one by one"):
        in_order([Transfer])
    with pytest.raises(SettingError, match="Measure must be given measurements, one by one"):
        in_order([[Transfer()]])


def test_who_writes_into_shared_features_is_named():
    class InPlace(Measurement):
        name = "in_place"

        def run(self, bench):
            bench.features("test").matrices["own"].mul_(0)
            return Outcome()

    data = digits()
    data.setup("fit")
    bench = Bench.of_model(Own(), data)
    with pytest.raises(SettingError, match="in_place must leave features and labels as they are"):
        bench.measure(InPlace())
    assert bench.features("test").matrices["own"].abs().sum() > 0


def test_a_file_of_figures_that_cannot_be_read_is_left_as_it_is(tmp_path):
    run = finished_run(tmp_path)
    (run / "figures.json").write_text('{"schema_version": 99}')
    keeper = RunFolder()
    keeper.finished = run
    made = trainer(tmp_path, keeper, Measure(WeightNorm()), kind=OurTrainer)
    with pytest.raises(DataError, match="has schema version 99"):
        made.measure(Own(), digits(), ckpt_path=str(run / "checkpoints/last.ckpt"))
    assert (run / "figures.json").read_text() == '{"schema_version": 99}'


def test_an_earlier_epoch_of_a_finished_run_is_measured_beside_the_last_one_and_on_its_own_data_alone(tmp_path):
    saving = Checkpoints(save_last="link", save_top_k=-1, filename="{epoch}")
    fit(tmp_path, RunFolder(str(tmp_path / "runs")), Measure(WeightNorm()), saving, epochs=2, enable_checkpointing=True)
    run = folder(tmp_path)
    picture = (run / "pictures/weight_norm.png").stat().st_mtime_ns

    def measure(data):
        keeper = RunFolder()
        keeper.finished = run
        made = trainer(tmp_path, keeper, Measure(WeightNorm()), kind=OurTrainer)
        made.measure(Own(), data, ckpt_path=str(run / "checkpoints/epoch=0.ckpt"))

    elsewhere = digits()
    elsewhere.device = "host"  # their place makes them no other data
    measure(elsewhere)
    found = read_figures(run / "figures.json")
    assert sorted(figure.epoch for figure in found.figures) == [1, 2]
    assert {"weight_norm", "weight_norm, epoch 1"} <= set(found.sections)
    assert found.sections["weight_norm"].about["stage"] == "fit"
    assert (run / "pictures/weight_norm.png").stat().st_mtime_ns == picture
    assert (run / "pictures/weight_norm-epoch-0000.png").is_file()
    with pytest.raises(SettingError, match=r"limit must be 40, as the run had it, got 30"):
        measure(Digits(limit=30, batch_size=20, image_size=8))


def test_a_checkpoint_whose_metric_nobody_logs_is_refused_after_the_first_epoch(tmp_path):
    saving = Checkpoints(monitor="transfr/x", dirpath=str(tmp_path / "saved"))
    with pytest.raises(SettingError, match=r"monitor must be logged by the end of an epoch, got"):
        fit(tmp_path, saving, epochs=3, enable_checkpointing=True)
