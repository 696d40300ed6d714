"""TensorBoard, CSV and MLflow, read back by their own readers."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader

from gan_lightning.figures import Figure
from gan_lightning.runs import loggers
from gan_lightning.runs.delivery import log_figures
from gan_lightning.runs.loggers import RUN_FOLDER, AwaitsRunFolder, log_earlier_rows, run_logger
from gan_lightning.runs.run_folder import RunFolder, write_picture
from gan_lightning.system.sweep_metric import SWEEP_METRIC
from gan_lightning.system.sweep_trial import SWEEP_POINT

IN_RUN_FOLDER = {"save_dir": RUN_FOLDER}
ABOUT = {"metric": "accuracy", "subject": "classifier"}
FIGURE = Figure(measurement="transfer", value=0.5, protocol="paper", **ABOUT)
CURVE = [
    Figure(measurement="transfer", value=at / 10, protocol="paper", axis="head epoch", at=at, **ABOUT)
    for at in (1.0, 2.0)
]
FRACTIONS = [Figure(measurement="robustness", value=at, axis="strength", at=at, **ABOUT) for at in (0.25, 0.5)]


class Learner(LightningModule):
    """Follows the mean of its batches, with settings that YAML has no plain words for."""

    def __init__(self, sizes: tuple[int, ...] = (1, 2), kind: object = Path("x")) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        loss = (batch.mean() - self.weight).square()
        self.log("train/loss", loss, on_step=True)
        return loss

    def on_train_end(self):
        write_picture(self.trainer, "pictures/samples", torch.rand(3, 6, 4), "samples")
        log_figures(self.trainer, [FIGURE, *CURVE, *FRACTIONS])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(root: Path, *loggers) -> Path:
    """Train with loggers; return the run's folder."""
    folder = RunFolder(str(root), "learner")
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=list(loggers), callbacks=[folder], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(Learner(), DataLoader(torch.ones(2, 1)))
    assert folder.path is not None
    return folder.path


def is_safe(file: Path) -> dict:
    """Return the content of a file of hyper-parameters as any reader of YAML takes it."""
    return yaml.safe_load(file.read_text())


def test_tensorboard_lies_in_the_run_folder_with_pictures_curves_and_the_sweeps_metric(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="needs the extra [tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv(SWEEP_METRIC, FIGURE.name)
    run = trained(tmp_path, run_logger(TensorBoardLogger, IN_RUN_FOLDER))
    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    assert read.Tags()["images"] == ["samples"]
    assert (read.Images("samples")[0].width, read.Images("samples")[0].height) == (4, 6)

    def points(name: str) -> list[tuple[int, float]]:
        return [(each.step, pytest.approx(each.value)) for each in read.Scalars(name)]

    assert points(FIGURE.name) == [(2, 0.5)]
    assert points(f"curve/{FIGURE.name}") == [(1, 0.1), (2, 0.2)]
    assert points(f"curve/{FRACTIONS[0].name}") == [(0, 0.25), (1, 0.5)]
    assert points("hp_metric")[-1] == (2, 0.5)
    assert len(points("train/loss")) == 2
    assert is_safe(run / "tensorboard/hparams.yaml") == {"sizes": [1, 2], "kind": "x"}
    assert {path.name for path in tmp_path.iterdir()} == {"learner"}


def test_csv_lies_in_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(SWEEP_METRIC, FIGURE.name)
    run = trained(tmp_path, run_logger(CSVLogger, IN_RUN_FOLDER))
    with (run / "csv/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hp_metric"] for row in rows if row["hp_metric"]] == ["0.5"]
    assert [row[FIGURE.name] for row in rows if row[FIGURE.name]] == ["0.5"]
    assert is_safe(run / "csv/hparams.yaml") == {"sizes": [1, 2], "kind": "x"}
    assert "hp_metric" not in (run / "metrics.csv").read_text()


@pytest.mark.slow  # to import MLflow takes seconds
def test_mlflow_keeps_all_runs_of_a_folder_in_one_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra [mlflow]")
    monkeypatch.setenv(SWEEP_METRIC, FIGURE.name)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    runs = [trained(tmp_path, run_logger(MLFlowLogger, {"save_dir": "./mlruns"})) for _ in range(2)]
    client = mlflow.MlflowClient(f"file:{tmp_path / 'mlruns'}")
    (experiment,) = [each for each in client.search_experiments() if each.name != "Default"]
    assert experiment.name == "learner"
    found = {each.data.tags["run_folder"]: each for each in client.search_runs([experiment.experiment_id])}
    assert set(found) == set(map(str, runs))
    first = found[str(runs[0])]
    assert first.info.status == "FINISHED"
    assert first.data.params == {"sizes": "[1, 2]", "kind": "x"}
    assert (first.data.metrics[FIGURE.name], first.data.metrics["hp_metric"]) == (0.5, 0.5)
    history = client.get_metric_history(first.info.run_id, f"curve/{FIGURE.name}")
    assert [(each.step, each.value) for each in history] == [(1, 0.1), (2, 0.2)]
    assert [each.path for each in client.list_artifacts(first.info.run_id, "samples")] == [
        "samples/step-00000002.png"
    ]  # fmt: skip


def test_the_trials_of_a_sweep_are_one_experiment_of_mlflow(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(loggers, "OURS", {MLFlowLogger: lambda **told: AwaitsRunFolder(MLFlowLogger, told)})
    monkeypatch.chdir(tmp_path)

    def named(**settings: str) -> tuple[str, str]:
        made = AwaitsRunFolder(MLFlowLogger, settings).placed(Path("runs/widths/1f2e/v0"), Path("runs/widths"))
        placed = made.settings
        assert placed["save_dir"] == str(tmp_path / "runs/widths/mlruns")
        return placed["experiment_name"], placed["run_name"]

    monkeypatch.delenv(SWEEP_POINT, raising=False)
    assert named() == ("1f2e", "v0")
    monkeypatch.setenv(SWEEP_POINT, "{}")
    assert named() == ("widths", "1f2e/v0")
    assert named(experiment_name="mine", run_name="first") == ("mine", "first")


def test_a_place_of_the_users_own_is_kept(tmp_path):
    run = trained(tmp_path / "runs", logger := run_logger(CSVLogger, {"save_dir": str(tmp_path / "mine")}))
    assert Path(logger.log_dir) == tmp_path / "mine/lightning_logs/version_0"
    assert is_safe(tmp_path / "mine/lightning_logs/version_0/hparams.yaml") == {"sizes": [1, 2], "kind": "x"}
    assert not (run / "csv").exists()
    named = AwaitsRunFolder(CSVLogger, {"save_dir": RUN_FOLDER, "name": "mine", "version": 3})
    assert Path(named.placed(tmp_path, tmp_path).log_dir) == tmp_path / "mine/version_3"


@pytest.mark.slow  # to import MLflow takes seconds
def test_mlflows_server_of_the_users_own_is_kept(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs the extra [mlflow]")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    given = run_logger(MLFlowLogger, {"tracking_uri": f"file:{tmp_path / 'server'}", "save_dir": "./mlruns"})
    assert Path(given.save_dir) == tmp_path / "server"


def test_outside_of_a_sweep_no_metric_stands_for_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv(SWEEP_METRIC, raising=False)
    run = trained(tmp_path, run_logger(CSVLogger, IN_RUN_FOLDER))
    assert "hp_metric" not in (run / "csv/metrics.csv").read_text()
    monkeypatch.setenv(SWEEP_METRIC, "nobody/logs/it")
    assert "hp_metric" not in (trained(tmp_path, run_logger(CSVLogger, IN_RUN_FOLDER)) / "csv/metrics.csv").read_text()


def test_a_run_that_goes_on_gives_its_loggers_the_earlier_rows(tmp_path):
    logger = AwaitsRunFolder(CSVLogger, IN_RUN_FOLDER).placed(tmp_path, tmp_path)
    log_earlier_rows([logger], [{"step": "0", "loss": "2.0", "val": ""}, {"step": "1", "loss": "", "val": "3"}])
    logger.save()
    with (tmp_path / "csv/metrics.csv").open(newline="") as file:
        assert [(row["step"], row["loss"], row["val"]) for row in csv.DictReader(file)] == [
            ("0", "2.0", ""),
            ("1", "", "3.0"),
        ]


def test_a_logger_that_awaits_its_folder_logs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = run_logger(CSVLogger, IN_RUN_FOLDER)
    logger.log_metrics({"loss": 1.0}, step=0)
    logger.log_hyperparams({"x": 1})
    logger.save()
    assert list(tmp_path.iterdir()) == []
    assert json.dumps([logger.name, logger.version])
