"""The script for a GPU goes on after a failure and ends with a table; it needs no GPU here, and no training."""

import json
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

STUB = """#!/usr/bin/env bash
# Stands in for Python: notes its arguments; a part of that name fails.
echo "$*" >>"{notes}"
case "$*" in
  *"--rows mgan dcgan bigan selfexgan"*) for i in $(seq 40); do echo "line $i"; done; exit 3 ;;
  *"import pytest"*) exit 1 ;;
  *gpu_table*) echo "a table" ;;
esac
"""


def run(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    stub, notes = tmp_path / "python", tmp_path / "notes"
    stub.write_text(STUB.replace("{notes}", str(notes)))
    stub.chmod(0o755)
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--output", str(tmp_path / "results"), *arguments]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(stub)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60)
    return done, notes.read_text().splitlines() if notes.exists() else []


def test_a_part_that_fails_is_shown_and_the_others_run(tmp_path):
    done, calls = run(tmp_path, "--small")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stdout + done.stderr
    shown = lines.index("rows: failed with status 3")
    assert lines[shown + 2 : shown + 32] == [f"line {i}" for i in range(11, 41)]
    assert lines[-3].startswith("All of it took")
    assert lines[-2:] == ["Left out: tests.", "Failed: rows."]
    ran = ["machine", "profiles", "bigan", "sweep-3", "sweep-2", "sweep-1"]
    assert [line.split(":")[0] for line in lines if ": done in" in line] == ran
    assert (tmp_path / "results" / "table.md").read_text() == "a table\n"
    (profiles,) = [call for call in calls if "--profile" in call]
    assert "--device cpu" in profiles
    sweeps = [call for call in calls if call.startswith("-m gan_lightning sweep")]
    assert [call.split("--workers ")[1][0] for call in sweeps] == ["3", "2", "1"]


def test_the_sweep_of_the_script_is_one(tmp_path):
    run(tmp_path, "--data", str(tmp_path))
    sweep = import_module("gan_lightning.sweeps.spec").load_sweep(tmp_path / "results" / "table-2-2.yaml")
    assert [dict(point.parameters)["model.init_args.shares_removed"] for point in sweep.grid()] == [0, 1, 2, 3, 4]
    assert "--speed.graph=true" in sweep.command
    assert f"--data.init_args.root={tmp_path}" in sweep.command


def test_without_data_whole_trainings_are_left_out(tmp_path):
    done, calls = run(tmp_path)
    assert "bigan: left out, MNIST has to be named by --data" in done.stdout
    assert not [call for call in calls if " fit " in call or " sweep " in call]


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--fast"], "unknown argument --fast"), (["--data", "nowhere"], "nowhere")]
)
def test_an_argument_that_is_wrong_ends_the_script(arguments, message, tmp_path):
    done, calls = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not calls


def test_results_of_another_run_are_not_written_over(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "rows.log").touch()
    done, _ = run(tmp_path)
    assert done.returncode == 2
    assert "--output must be a new folder" in done.stderr


def write_trial(folder: Path, index: int, seconds: float, epochs: list[float], status: str = "finished") -> None:
    trial = folder / f"trial{index}"
    (trial / "run").mkdir(parents=True)
    (trial / "run" / "run.json").write_text("{}")
    rows = ["clock/epoch_seconds,step", ",0", *(f"{value},{i}" for i, value in enumerate(epochs))]
    (trial / "run" / "metrics.csv").write_text("\n".join(rows) + "\n")
    about = {"schema_version": 2, "id": trial.name, "index": index, "parameters": {}, "status": status}
    (trial / "trial.json").write_text(json.dumps(about | {"seconds": seconds}))


def test_the_whole_of_table_2_is_extrapolated_from_short_trials(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    gpu_table = import_module("benchmarks.gpu_table")
    folder = tmp_path / "sweep-2"
    write_trial(folder, 0, 20.0, [3.0, 1.0])
    write_trial(folder, 1, 30.0, [3.0, 2.0])
    write_trial(folder, 2, 5.0, [3.0], status="failed")
    # Half of 25 trials of 25 s and 18 more epochs of 1.5 s each.
    expected = 25 / 2 * (25 + 18 * 1.5) / 60
    assert f"| 2 | 2 | 2 | 25 | 1.5 | {expected:.3g} |" in gpu_table.tables(tmp_path)


def test_what_there_is_of_a_training_is_in_the_table(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    run = tmp_path / "bigan" / "bigan-mnist" / "run"
    run.mkdir(parents=True)
    rows = ["clock/epoch_seconds,clock/training_seconds,step", ",,49", "0.5,0.5,468", "0.25,0.75,936", ",,950"]
    (run / "metrics.csv").write_text("\n".join(rows) + "\n")
    found = import_module("benchmarks.gpu_table").tables(tmp_path)
    assert "2 epochs (937 batches) in 0.75 s; median epoch 0.375 s, 0.8 ms a batch" in found
