"""The real W&B client: its agent starts the real command line, and its offline records are read back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from reading import values
from wandb_server import WandbServer

ROOT = Path(__file__).parents[2]
TINY = [
    "--model.base_width=4", "--model.feature_dim=8", "--data.limit=120", "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.paper.epochs=2", "--transfer.tuned=null",
]  # fmt: skip
POINTS = [
    {"model.init_args.shares_removed": 0, "run.name": None, "seed_everything": 1},
    {"model.init_args.shares_removed": 4, "run.name": None, "seed_everything": 1},
]


def wandb_environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment without an account, in which the client writes below the folder alone."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return ours | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "HOME": str(folder),
                   "WANDB_DIR": str(folder), "PATH": path} | more  # fmt: skip


def offline_run(folder: Path) -> tuple[dict, list[dict]]:
    """Return the summary of an offline run as W&B reads it, and its records."""
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect"]
    environment = wandb_environment(folder)

    def inspect(*options: str) -> str:
        arguments = [*command, *options, "--json", str(folder)]
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout

    return json.loads(inspect("--summary")), [json.loads(line) for line in inspect().splitlines()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Return a folder in which W&B's own `sweep` and `agent` ran two points, and the server that they talked to."""
    folder = tmp_path_factory.mktemp("swept")
    content = {
        "program": "gan-lightning", "method": "grid",
        "parameters": {"model.init_args.shares_removed": {"values": [0, 4]}, "run.name": {"value": None},
                       "seed_everything": {"value": 1}},
        "command": ["${env}", "${program}", "fit", f"--config={ROOT}/configs/quickstart.yaml", *TINY,
                    "--trainer.logger=WandbLogger", "--config", "${args_json_file}"],
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content))
    # The agent looks for news every five seconds, which two small runs have no time for.
    fast = "import wandb.wandb_agent as agent; agent.Agent.POLL_INTERVAL = 0.2; from wandb.cli.cli import cli; cli()"
    with WandbServer(POINTS) as server:
        account = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": f"local-{'0' * 40}"}
        for arguments in (["sweep", "--project", "gans", "sweep.yaml"], ["agent", "loopback/gans/s1"]):
            done = subprocess.run(
                [sys.executable, "-c", fast, *arguments],
                cwd=folder, env=wandb_environment(folder, **account), capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    return folder, server, done.stdout + done.stderr


@pytest.mark.slow
def test_the_agent_runs_every_point_with_its_figures_its_configuration_and_its_picture(swept):
    folder, server, said = swept
    assert server.handed == POINTS, said
    assert server.unknown == []
    runs = {json.loads(path.read_text())["wandb"]["id"]: path.parent for path in folder.glob("runs/*/*/run.json")}
    assert sorted(runs) == ["run1", "run2"], said
    for number, point in enumerate(POINTS, start=1):
        run = runs[f"run{number}"]
        about = json.loads((run / "run.json").read_text())
        assert about["status"] == "finished"
        assert (about["wandb"]["sweep_id"], about["wandb"]["offline"]) == ("s1", True)
        # A configuration for each run, and none written over the other's.
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert config["model"]["init_args"]["shares_removed"] == point["model.init_args.shares_removed"]
        assert config["run"]["name"] is None, "null arrived as null, not as the word None"
        (wandb_folder,) = folder.glob(f"wandb/offline-run-*-run{number}")
        summary, records = offline_run(wandb_folder)
        assert summary["exit_code"] == 0
        assert summary["config"]["shares_removed"] == point["model.init_args.shares_removed"]
        assert summary["config"]["cli"]["seed_everything"] == 1
        assert summary["config"]["cli"]["run"]["name"] is None
        assert summary["config"]["run_folder"] == str(run.relative_to(folder))
        found = values(run)
        for name in ("discriminator/paper", "classifier/paper", "classifier/paper/random_weights", "pixels/paper"):
            figure = f"transfer/{name}/accuracy"
            assert summary["summary"][figure] == summary["summary"][f"curve/{figure}"] == found[figure]
        assert summary["summary"]["samples"]["count"] == 1
        assert list((wandb_folder / "files/media/images").glob("samples_*.png"))
        history = json.dumps([record for record in records if record["type"] == "history"])
        for name in ("train/generator_loss", "curve/head_epoch", "images_seen", "val/classifier_loss"):
            assert name in history, name


def test_a_run_of_an_agent_without_wandbs_logger_is_refused(gan_lightning, tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("wandb_version: 1\nseed_everything:\n  value: 0\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "params.yaml"))
    status, _, errors = gan_lightning("fit", "--config", ROOT / "configs/quickstart.yaml", *TINY)
    assert (status, "trainer.logger must be WandbLogger in a sweep of W&B's agent" in errors) == (2, True), errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("value", "argument", "message"),
    [
        ("null", "--run.name=None", "run.name must be None, as the sweep chose, but the run would use 'None'"),
        ("a", "--run.name=b", "run.name must be 'a', as the sweep chose, but the run would use 'b'"),
    ],
)
def test_what_an_agent_chose_and_the_run_would_not_use_is_refused(
    gan_lightning, tmp_path, monkeypatch, value, argument, message
):
    (tmp_path / "params.yaml").write_text(f"wandb_version: 1\nrun.name:\n  value: {value}\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "params.yaml"))
    arguments = ["--config", ROOT / "configs/quickstart.yaml", *TINY, "--trainer.logger=WandbLogger", argument]
    status, _, errors = gan_lightning("fit", *arguments)
    assert (status, message in errors) == (2, True), errors
    assert not (tmp_path / "runs").exists()


def test_evaluating_while_training_logs_the_same_metric_and_changes_no_figure(gan_lightning, tmp_path):
    final = []
    for every in (0, 1):
        arguments = ["--config", ROOT / "configs/quickstart.yaml", *TINY, "--trainer.max_epochs=2"]
        status, _, errors = gan_lightning(
            "fit", *arguments, f"--transfer.every_n_epochs={every}", f"--run.name=e{every}"
        )
        assert status == 0, errors
        (run,) = tmp_path.glob(f"runs/e{every}/*")
        final.append(values(run))
        rows = (run / "metrics.csv").read_text().splitlines()
        column = rows[0].split(",").index("transfer/classifier/paper/accuracy")
        assert len([row for row in rows[1:] if row.split(",")[column]]) == 1 + every
    assert final[0] == final[1]
