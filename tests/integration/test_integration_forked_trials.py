"""Trials that are forked from a warm parent, with the real command line, beside fresh processes."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from resuming import differing

from gan_lightning.sweeps import forked_worker
from gan_lightning.sweeps.sweep_command import main

ROOT = Path(__file__).parents[2]
KINDS = ("forked", "fresh")
"""Of trials; the folders that they are in."""

COMMAND = [
    "${env}", "${program}", "fit", f"--config={ROOT}/configs/quickstart.yaml", "--model.base_width=4",
    "--model.feature_dim=8", "--data.limit=120", "--trainer.max_epochs=2", "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false", "--transfer.paper.epochs=2", "${args}",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="trials are forked on Linux alone")
def test_forked_and_fresh_trials_are_equal_bit_for_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    content = {"program": "gan-lightning", "method": "grid", "command": COMMAND,
               "parameters": {"seed_everything": {"values": [1, 2]}}}  # fmt: skip
    Path("s.yaml").write_text(yaml.safe_dump(content))
    parents = []
    made = forked_worker.WarmParent.__init__
    monkeypatch.setattr(
        forked_worker.WarmParent,
        "__init__",
        lambda self, environment: (parents.append(self), made(self, environment))[1],
    )
    assert main(["s.yaml", "--dir=forked", "--workers=2"]) == 0, capsys.readouterr().out
    assert len(parents) == 1
    assert parents[0].process.returncode == 0, "the parent ended with the sweep"
    monkeypatch.setenv(forked_worker.FRESH, "1")
    assert main(["s.yaml", "--dir=fresh"]) == 0, capsys.readouterr().out
    assert len(parents) == 1
    trials = sorted(path.name for path in Path("fresh").iterdir() if path.is_dir())
    assert trials == sorted(path.name for path in Path("forked").iterdir() if path.is_dir())
    for trial in trials:
        (forked,), (fresh,) = (list(Path(kind, trial).glob("*/run.json")) for kind in KINDS)
        assert differing(forked.parent, fresh.parent) == []
        commands = [json.loads(file.read_text())["command"] for file in (forked, fresh)]
        places = {f"--run.root={kind}" for kind in KINDS}
        words = [[w for w in each if w not in places and not w.endswith("point.json")] for each in commands]
        assert words[0] == words[1]
