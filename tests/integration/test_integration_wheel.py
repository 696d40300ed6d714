"""The wheel works alone: outside of the source tree, with what it ships found by name."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TINY = [
    "--model.base_width=4", "--model.feature_dim=8", "--data.limit=240", "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.paper.epochs=1", "--transfer.tuned=null", "--anatomy.enabled=false",
]  # fmt: skip


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Return what a command prints that has to succeed."""
    env = os.environ | environment
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel that is built of this source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder), cwd=ROOT)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return a function that runs Python with the wheel's package in a new folder, and gives that and its output."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    run(*pip, str(wheel), cwd=site)

    def call(*arguments: str) -> tuple[Path, str]:
        folder = tmp_path_factory.mktemp("elsewhere")
        return folder, run(sys.executable, *arguments, cwd=folder, PYTHONPATH=str(site))

    _, where = call("-c", "import gan_lightning; print(gan_lightning.__file__)")
    assert Path(where.strip()) == site / "gan_lightning/__init__.py"
    return call


def test_the_wheel_has_the_package_and_what_is_shipped_and_nothing_else(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {path for path in (ROOT / "gan_lightning").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    expected = {str(path.relative_to(ROOT)) for path in package}
    for kind in ("configs", "sweeps"):
        expected |= {f"gan_lightning/shipped/{path.relative_to(ROOT)}" for path in (ROOT / kind).rglob("*.yaml")}
    assert held == expected
    shown = (f"gan_lightning/dashboard/{name}" for name in ("page.css", "page.js", "panels.js", "drawing.js"))
    assert {"gan_lightning/py.typed", *shown} <= held


def test_the_wheel_has_its_licence_and_its_version(wheel):
    from gan_lightning import __version__

    with zipfile.ZipFile(wheel) as file:
        about = f"gan_lightning-{__version__}.dist-info"
        assert file.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert f"\nVersion: {__version__}\n" in file.read(f"{about}/METADATA").decode()


@pytest.mark.slow
def test_a_fit_of_the_wheel_runs_by_the_name_of_its_configuration_and_records_it_as_given(python):
    folder, printed = python("-m", "gan_lightning", "fit", "--config", "quickstart", *TINY)
    assert "Run folder: runs/mgan-digits/" in printed
    (record,) = folder.glob("runs/*/*/run.json")
    about = json.loads(record.read_text())
    assert (about["status"], about["command"][1:4]) == ("finished", ["fit", "--config", "quickstart"])
    assert (record.parent / "figures.json").is_file()
    config = record.with_name("config.yaml").read_text()
    assert "shipped" not in config  # it stands for itself, wherever the package is
    assert yaml.safe_load(config)["model"]["init_args"]["shares_removed"] == 2  # of the shipped configuration


def test_configurations_and_sweeps_of_the_wheel_are_listed_and_found(python):
    _, printed = python("-m", "gan_lightning", "configs")
    names = {line.split()[0] for line in printed.splitlines() if line.startswith("  ")}
    files = {path.relative_to(ROOT / kind) for kind in ("configs", "sweeps") for path in (ROOT / kind).rglob("*.yaml")}
    assert names == {str(path.with_suffix("")) for path in files}
    (sweep,) = (name for name in names if name.endswith("shared_layers_digits"))
    _, printed = python("-m", "gan_lightning", "sweep", sweep, "--list")  # its own --config is found, too
    assert printed.count("seed_everything=") == 15
