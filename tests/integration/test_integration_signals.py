"""Every signal that asks a process to end is heard wherever a run stands, and what is printed never changes a run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reading import values

from gan_lightning.data import Digits
from gan_lightning.measurements import Transfer
from gan_lightning.papers import MGAN
from gan_lightning.system.signals import SIGNALS

ROOT = Path(__file__).parents[2]
TINY = [
    "--config", str(ROOT / "configs/quickstart.yaml"), "--model.base_width=2", "--model.feature_dim=4",
    "--data.limit=80", "--data.batch_size=40", "--trainer.max_epochs=1", "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--transfer.paper.epochs=1",
    "--transfer.tuned=null", "--anatomy.enabled=false", "--samples.enabled=false", "--density_ratio.every_n_batches=0",
]  # fmt: skip
PLACES = {
    "data": (["fit", *TINY], Digits, "setup"),
    "training": (["fit", *TINY], MGAN, "training_step"),
    "validation": (["fit", *TINY], MGAN, "validation_step"),
    "evaluation": (["fit", *TINY], Transfer, "run"),
    "validate": (["validate", *TINY], MGAN, "validation_step"),
    "test": (["test", *TINY], Transfer, "run"),
    "predict": (["predict", *TINY], MGAN, "predict_step"),
    "measure": (["measure"], Transfer, "run"),
}
"""Where a run stands: its command, and what it calls there."""

QUICK = {
    ("training", "SIGHUP"), ("validation", "SIGUSR1"), ("evaluation", "SIGXCPU"), ("data", "SIGUSR2"),
    ("measure", "SIGINT"),
}  # fmt: skip
"""What the fast suite tries: each signal and the places that differ most; the slow one tries all."""

CASES = [
    pytest.param(place, signum, marks=[] if (place, signum.name) in QUICK else [pytest.mark.slow])
    for place in PLACES
    for signum in SIGNALS
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a run that came to its end."""
    from gan_lightning.__main__ import main

    folder = tmp_path_factory.mktemp("finished")
    main(["fit", *TINY, f"--run.root={folder}", "--run.name=it"])
    (run,) = folder.glob("it/*")
    return run


def tells(original: Callable, signum: int) -> Callable:
    """Return a function that first sends this process a signal, once."""
    told = []

    def function(*arguments: object, **settings: object) -> object:
        if not told:
            told.append(signum)
            os.kill(os.getpid(), signum)
        return original(*arguments, **settings)

    return function


def states(folder: Path) -> list[str]:
    return [json.loads(file.read_text())["status"] for file in folder.glob("runs/*/*/run.json")]


@pytest.mark.parametrize(("place", "signum"), CASES)
def test_a_signal_ends_a_run_wherever_it_stands_and_the_run_says_so(
    finished, gan_lightning, tmp_path, monkeypatch, place, signum
):
    command, owner, name = PLACES[place]
    monkeypatch.setattr(owner, name, tells(getattr(owner, name), signum))
    if command[0] == "measure":
        command = [*command, str(finished), "--transfer.paper.epochs=1"]
    elif command[0] != "fit":
        command = [*command, f"--ckpt_path={finished / 'checkpoints/last.ckpt'}"]
    handlers = [signal.getsignal(each) for each in SIGNALS]
    status, _, errors = gan_lightning(*command)
    assert status == 128 + signum, errors
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    if command[0] == "measure":
        about = json.loads((finished / "run.json").read_text())
        assert (about["status"], about["measured"][-1]["status"]) == ("finished", "interrupted")
    else:
        assert states(tmp_path) == ([] if place == "data" else ["interrupted"])


@pytest.mark.slow
def test_a_signal_that_is_ignored_from_the_start_stays_so(gan_lightning, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(MGAN, "training_step", tells(MGAN.training_step, signal.SIGHUP))
        status, _, errors = gan_lightning("fit", *TINY, "--transfer.enabled=false")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert status == 0, errors
    assert states(tmp_path) == ["finished"]


def start(folder: Path, *more: str, **settings: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "gan_lightning", "fit", *TINY, *more], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, **settings,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, folder: Path, pattern: str) -> None:
    """Wait until a run has written something."""
    until = time.monotonic() + 240
    while not list(folder.glob(f"runs/*/*/{pattern}")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "nothing was written"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("leaves", ["before", "in the training"])
@pytest.mark.parametrize(("signum", "status"), [(None, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_reader_that_leaves_changes_neither_the_status_nor_what_is_left(tmp_path, leaves, signum, status):
    epochs = "--trainer.max_epochs=20" if signum is None else "--trainer.max_epochs=4000"
    process = start(tmp_path, epochs, "--checkpoint.every_n_epochs=5", stdout=subprocess.PIPE)
    if leaves == "before":
        process.stdout.close()
    wait_for(process, tmp_path, "metrics.csv")
    if leaves != "before":
        process.stdout.close()
    if signum is not None:
        wait_for(process, tmp_path, "checkpoints/*.ckpt")
        process.send_signal(signum)
    errors = process.communicate(timeout=240)[1].decode()
    assert process.returncode == status, errors
    assert errors.count("nobody reads the output any more") == (signum is None)  # what is interrupted prints no more
    assert states(tmp_path) == ["finished" if signum is None else "interrupted"]
    figures = list(tmp_path.glob("runs/*/*/figures.json"))
    assert len(figures) == (signum is None)
    assert all("transfer/discriminator/paper/accuracy" in values(file.parent) for file in figures)
    assert list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt"))


@pytest.mark.slow
def test_a_run_under_nohup_does_not_end_with_its_terminal(tmp_path):
    process = start(
        tmp_path, "--trainer.max_epochs=60", stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(process, tmp_path, "metrics.csv")
    process.send_signal(signal.SIGHUP)
    errors = process.communicate(timeout=240)[1].decode()
    assert (process.returncode, states(tmp_path)) == (0, ["finished"]), errors
