"""A run that is killed with SIGKILL, wherever it stands, goes on with the same command and `--ckpt_path=last`."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resuming import differing

ROOT = Path(__file__).parents[2]
COMMAND = [
    "fit", "--config", str(ROOT / "configs/quickstart.yaml"), "--model.base_width=8", "--model.feature_dim=16",
    "--data.limit=240", "--data.batch_size=40", "--trainer.max_epochs=3", "--checkpoint.every_n_train_steps=4",
    "--transfer.every_n_epochs=1", "--transfer.paper.epochs=2", "--transfer.tuned.strengths=[0.1]",
    "--anatomy.every_n_epochs=1", "--density_ratio.every_n_batches=3", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]  # fmt: skip


def start(folder: Path, place: str, *more: str) -> tuple[int, float]:
    """Run the command, killed at a place; return its status and seconds."""
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "killed_run.py"), place, *COMMAND, *more],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr)
    return done.returncode, time.monotonic() - began


def newest(folder: Path) -> Path:
    return max((file.parent for file in folder.glob("runs/*/*/run.json")), key=lambda run: run.stat().st_mtime_ns)


def places(seconds: float) -> list[str]:
    """Return twenty places: twelve moments of the run, four checkpoint writes, four transfer evaluations."""
    rng = random.Random(0)
    moments = [f"time:{rng.uniform(0, seconds):.3f}" for _ in range(12)]
    writes = [f"write:{rng.randint(1, 4)}:{rng.random():.3f}" for _ in range(4)]
    transfers = [f"transfer:{rng.randint(1, 3)}:{rng.uniform(0, 0.15):.3f}" for _ in range(4)]
    return [*moments, *writes, *transfers]


@pytest.mark.slow
def test_a_run_killed_at_twenty_places_goes_on_bit_for_bit(tmp_path):
    status, _ = start(tmp_path / "straight", "never")
    assert status == 0
    straight = newest(tmp_path / "straight")
    seconds = json.loads((straight / "run.json").read_text())["seconds"]
    outcomes = {}
    for number, place in enumerate(places(seconds)):
        folder = tmp_path / f"{number:02}"
        status, _ = start(folder, place)
        while not status and place.startswith("time"):  # the machine was faster this time
            place = f"time:{float(place.removeprefix('time:')) / 2:.3f}"
            folder = tmp_path / f"{number:02}-{place.removeprefix('time:')}"
            status, _ = start(folder, place)
        assert status == -signal.SIGKILL, "the run came to its end"
        if place.startswith("write"):
            assert list(newest(folder).glob("checkpoints/.writing-*/*")), "the write had begun"
        if number % 5 == 4:  # and killed once more on its way
            start(folder, f"time:{seconds / 3:.3f}", "--ckpt_path=last")
        status, _ = start(folder, "never", "--ckpt_path=last")
        assert status == 0
        assert not list(folder.rglob(".writing-*")), "what the killed run was writing is gone"
        resumed = newest(folder)
        about = json.loads((resumed / "run.json").read_text())
        outcomes[f"{number}: {place}"] = differing(resumed, straight)
        print(place, about["resumed_from"], outcomes[f"{number}: {place}"], flush=True)
    assert len(outcomes) == 20
    assert {place: found for place, found in outcomes.items() if found} == {}
