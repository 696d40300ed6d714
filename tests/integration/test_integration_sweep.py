"""`gan-lightning sweep` as a user calls it, with the real command line behind it."""

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from reading import values

from gan_lightning.dashboard.dashboard_command import main as dashboard
from gan_lightning.errors import SettingError
from gan_lightning.figures import read_figures
from gan_lightning.sweeps import check
from gan_lightning.sweeps.check import error_of
from gan_lightning.sweeps.spec import Point, load_sweep
from gan_lightning.sweeps.sweep_command import main, points_to_check

ROOT = Path(__file__).parents[2]
TINY = [
    "--model.base_width=4", "--model.feature_dim=8", "--data.limit=120", "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--transfer.paper.epochs=1",
    "--transfer.tuned=null",
]  # fmt: skip
COMMAND = ["${env}", "${program}", "fit", f"--config={ROOT}/configs/quickstart.yaml", *TINY]


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    """Return a function that writes a sweep over these parameters into the empty working folder."""
    monkeypatch.chdir(tmp_path)

    def write(parameters: dict, command: list[str] = COMMAND, **more) -> Path:
        content = {"program": "gan-lightning", "method": "grid", "parameters": parameters} | more
        content["command"] = [*command, "--config", "${args_json_file}"]
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def checked_here(command: list[str], **settings: object) -> subprocess.CompletedProcess:
    """Check a sweep's keys as the command does, in this process, which has loaded what another would have to."""
    assert command == [sys.executable, "-m", "gan_lightning.sweeps.check"]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "stdin", io.StringIO(settings["input"]))
        patch.setattr(sys, "argv", ["gan-lightning"])
        patch.setenv("GAN_LIGHTNING_SWEEP_POINT", "{}")  # so that what is set below is taken back
        check.main()
    return subprocess.CompletedProcess(command, 0, said.getvalue(), "")


def test_a_trial_that_fails_says_why(sweep_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gan_lightning.sweeps.sweep_command.subprocess", SimpleNamespace(run=checked_here))
    # Such a rate makes NaN of the images: found when they are looked at, not before.
    path = sweep_file({"model.init_args.generator_lr": {"values": [1.0e30]}, "seed_everything": {"values": [1]}})
    assert main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "s: 0 of 1, 1 failed, in runs/s" in printed
    assert "failed, samples could not be measured (SettingError: samples's picture" in printed
    (record,) = tmp_path.glob("runs/s/*/trial.json")
    assert json.loads(record.read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_sweep_trains_each_point_and_goes_on_after_a_trial_that_fails(sweep_file, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    # Such a rate makes NaN of the images: found when they are looked at, not before.
    path = sweep_file(
        {"model.init_args.generator_lr": {"values": [1.0e-4, 1.0e30]}, "seed_everything": {"values": [1]}},
        [*COMMAND, "--trainer.logger=WandbLogger"],
        metric={"name": "transfer/classifier/paper/accuracy"}, project="gans",
    )  # fmt: skip
    assert main([str(path), "--workers=2"]) == 1
    printed = capsys.readouterr().out
    assert "s: 1 of 2, 1 failed, in runs/s" in printed
    assert "failed, samples could not be measured (SettingError: samples's picture" in printed
    by_value = {
        trial["parameters"]["model.init_args.generator_lr"]: trial
        for trial in (json.loads(record.read_text()) for record in tmp_path.glob("runs/s/*/trial.json"))
    }
    assert (by_value[1e-4]["status"], by_value[1e30]["status"]) == ("finished", "failed")
    run = tmp_path / "runs/s" / by_value[1e-4]["id"] / by_value[1e-4]["run_folder"]
    assert json.loads((run / "run.json").read_text())["seed"] == 1
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["generator_lr"] == 1e-4
    accuracy = values(run)["transfer/classifier/paper/accuracy"]
    assert f"transfer/classifier/paper/accuracy {accuracy:.4f}" in printed
    # What W&B's logger wrote lies below the trial's folder, and belongs to the sweep's project.
    assert json.loads((run / "run.json").read_text())["wandb"]["project"] == "gans"
    assert len(list(run.parent.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert not (tmp_path / "wandb").exists()
    # Point 0 alone has nothing to do, and says so; --list runs nothing.
    assert main([str(path), "--index=0"]) == 0
    assert main([str(path), "--list"]) == 0
    assert "failed" in capsys.readouterr().out


def test_a_key_that_the_command_line_does_not_take_is_named_before_the_first_trial(
    sweep_file, tmp_path, capsys, monkeypatch
):
    from gan_lightning.__main__ import main as program

    monkeypatch.setattr("gan_lightning.sweeps.sweep_command.subprocess", SimpleNamespace(run=checked_here))
    path = sweep_file({"seed_everything": {"value": 0}, "model.init_args.shares_remvoed": {"values": [0, 1]}})
    with pytest.raises(SystemExit) as end:
        program(["sweep", str(path)])
    errors = capsys.readouterr().err
    assert (end.value.code, "shares_remvoed" in errors, len(errors.splitlines())) == (2, True, 1), errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("arguments", [[], ["--index=1"]], ids=["all", "one"])
def test_a_value_that_cannot_train_is_named_before_the_first_trial(sweep_file, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr("gan_lightning.sweeps.sweep_command.subprocess", SimpleNamespace(run=checked_here))
    path = sweep_file({"model.init_args.shares_removed": {"values": [0, 9, 2]}})
    with pytest.raises(SettingError, match=r"the point shares_removed=9 of .*: model\.shares_removed must be one of"):
        main([str(path), *arguments])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("point", "more", "message"),
    [
        ({"model.init_args.shares_remvoed": 0}, [], "Did you mean model.init_args.shares_removed?"),
        ({"anatomy.every_n_epoch": 1}, [], "'anatomy.every_n_epoch' Did you mean anatomy.every_n_epochs?"),
        ({"modle.base_width": 4}, [], "Did you mean model?"),
        ({"anatomy.every_n_epochs": None}, [], "Anatomy(every_n_epochs=None) cannot be made"),
        (
            {"transfer.every_n_epochs": "x"},
            [],
            "Parser key \"transfer.every_n_epochs\": Expected a <class 'int'>. Got value: x",
        ),
        ({"no.such": 0}, [], "no.such"),
        ({"seed_everything": "many"}, [], "seed_everything"),
        ({"trainer.max_epochs": 3.0}, [], "trainer.max_epochs"),
        # The data set gives the channels: all trials would be the same.
        ({"model.init_args.channels": 3}, [], "model.channels must not be set, got 3"),
        ({"model": {"class_path": "MGAN", "init_args": {"channels": 3}}}, [], "model.channels must not be set"),
        # A later argument wins over the sweep.
        ({"seed_everything": 0}, ["--seed_everything=1"], "seed_everything must be 0, as the sweep chose"),
        ({"model.betas": [0.1, 0.2]}, ["--model.betas=[0.5, 0.9]"], "model.betas must be [0.1, 0.2]"),
        ({"data": "MNIST"}, ["--data=Digits"], "data must be 'MNIST'"),
        # What W&B's ${args} makes of null.
        (
            {"run.name": "b"},
            ["--run.name=a.b"],
            "run.name must be 'b', as the sweep chose, but the run would use 'a.b'",
        ),
        ({"run.name": None}, ["--run.name=None"], "would use 'None'. Hand parameters on with --config"),
        ({"model.betas": [0.5, 0.9]}, [], None),
        ({"model.generator_lr": "1e-4"}, [], None),
        ({"model.init_args.generator_lr": 1}, [], None),
        ({"model": "MGAN", "data.class_path": "Digits"}, [], None),
        ({"trainer.enable_checkpointing": False, "run.name": None, "transfer.tuned": None}, [], None),
        ({"model": {"class_path": "MGAN", "init_args": {"betas": [0.5, 0.9]}}, "data": "Digits"}, [], None),
    ],
)
def test_a_point_that_would_not_be_used_as_it_is_is_refused_and_any_other_taken(
    tmp_path, monkeypatch, point, more, message
):
    monkeypatch.setattr(sys, "argv", ["gan-lightning"])
    monkeypatch.setenv("GAN_LIGHTNING_SWEEP_POINT", "{}")  # so that what is set below is taken back
    (tmp_path / "point.json").write_text(json.dumps(point))
    quickstart = f"--config={ROOT}/configs/quickstart.yaml"
    error = error_of(["fit", quickstart, "--config", str(tmp_path / "point.json"), *more], point)
    assert (error is None) if message is None else (message in (error or ""))


def test_the_sweep_and_its_refusals_do_not_load_torch(sweep_file):
    path = sweep_file({"seed_everything": {"values": [0]}})
    code = (
        "import sys; from gan_lightning.__main__ import main\n"
        "try: main(['sweep', sys.argv[1], '--list'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "No such file"),
        (["s.yaml", "--index=2"], "--index must be from 0 to 1"),
        (["s.yaml", "--workers=0"], "--workers must be at least 1, got 0"),
    ],
)
def test_bad_arguments_end_with_one_line(sweep_file, capsys, arguments, message):
    from gan_lightning.__main__ import main as program

    sweep_file({"seed_everything": {"values": [0, 1]}})
    with pytest.raises(SystemExit) as end:
        program(["sweep", *arguments])
    errors = capsys.readouterr().err
    assert (end.value.code, message in errors, len(errors.splitlines())) == (2, True, 1), errors


@pytest.mark.slow
def test_a_shipped_sweep_leads_to_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    runs = tmp_path / "runs"
    file = "sweeps/mgan/shared_layers_digits.yaml"
    assert main([file, "--index=14", f"--dir={runs}/s", "--", *TINY, "--trainer.logger=false"]) == 0
    assert dashboard([str(runs)]) == 0
    assert "1 runs drawn, 0 left out" in capsys.readouterr().out
    page = (runs / "dashboard.html").read_text()
    assert "<b>s</b>: 1 of " in page
    (record,) = runs.glob("s/*/*/figures.json")
    assert read_figures(record).about["model_settings"]["shares_removed"] == 4
    of_classifier = [
        accuracy for name, accuracy in values(record.parent).items() if name.startswith("transfer/classifier")
    ]
    assert any(f">{100 * accuracy:.2f}</td>" in page for accuracy in of_classifier)


def covering(points: list[Point]) -> list[Point]:
    """Return as few points as have, between them, every value that these have."""
    values: dict[str, list] = {name: [] for name in points[0].parameters}
    for point in points:
        for name, value in point.parameters.items():
            values[name] += [] if value in values[name] else [value]
    most = max(map(len, values.values()))
    return [Point(i, {name: of[i % len(of)] for name, of in values.items()}) for i in range(most)]


SHIPPED = sorted((ROOT / "sweeps").rglob("*.yaml"))


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one point", "every value"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_value_of_a_shipped_sweep_is_taken_by_the_command_line(path, every, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["gan-lightning"])
    monkeypatch.setenv("GAN_LIGHTNING_SWEEP_POINT", "{}")
    sweep = load_sweep(path)
    assert sweep.name == f"{path.parent.name}-{path.stem}".replace("_", "-")
    points = covering(points_to_check(sweep))
    for number, point in enumerate(points if every else points[-1:]):
        point_file = tmp_path / f"{number}.json"
        point_file.write_text(json.dumps(point.parameters))
        command = sweep.trial_command(point, point_file)
        assert command[1:4] == ["-m", "gan_lightning", "fit"]
        assert error_of(command[3:], dict(point.parameters)) is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_sweep_fits_wandbs_own_schema(path):
    config = pytest.importorskip("sweeps.config", reason="needs W&B's package `sweeps`")
    assert config.schema_violations_from_proposed_config(yaml.safe_load(path.read_text())) == []
