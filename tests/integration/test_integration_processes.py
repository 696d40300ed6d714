"""One process of two is killed: the other ends soon, and says what happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [
    "fit", "--config", str(ROOT / "configs/quickstart.yaml"), "--model.base_width=4", "--model.feature_dim=8",
    "--data.limit=240", "--data.batch_size=20", "--model.fake_batch_size=20", "--trainer.max_epochs=10000",
    "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu", "--checkpoint.every_n_train_steps=5",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--samples.every_n_epochs=0",
]  # fmt: skip
BOUND = 5.0
"""Seconds that docs/reliability.md promises."""


def wait_for(seconds: float, what: str, happened) -> float:
    began = time.monotonic()
    while not happened():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.05)
    return time.monotonic() - began


def is_there(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("killed", ["the first process", "the second process"])
def test_when_one_process_of_two_is_killed_the_other_ends_and_says_so(tmp_path, killed):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "said").open("w") as said:
        first = subprocess.Popen(
            [sys.executable, "-m", "gan_lightning", *COMMAND], cwd=tmp_path, env=environment, stdout=said, stderr=said
        )
        try:
            wait_for(240, "a checkpoint", lambda: list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")))
            (second,) = map(int, Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split())
            os.kill(first.pid if killed == "the first process" else second, signal.SIGKILL)
            other = second if killed == "the first process" else first.pid
            wait_for(BOUND, "the end of the other process", lambda: first.poll() is not None and not is_there(other))
        finally:
            first.kill()
            first.wait()
    text = (tmp_path / "said").read_text()
    (run,) = tmp_path.glob("runs/*/*")
    if killed == "the first process":
        assert "gan-lightning: error: the first process has ended, so this one ends, too." in text
        return
    (line,) = [line for line in text.splitlines() if line.startswith("gan-lightning: error: process 1 of 0 to 1")]
    assert "was ended by SIGKILL at batch" in line
    assert first.returncode == 1
    about = json.loads((run / "run.json").read_text())
    assert about["status"] == "failed"
    assert about["error"] in line
