"""A sweep's trial that is killed, wherever it stands, goes on, and has the figures of one that was not killed."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from reading import values
from resuming import differing

from gan_lightning.sweeps.runner import Runner
from gan_lightning.sweeps.spec import Sweep
from gan_lightning.sweeps.trials import Trial, read_trials

ROOT = Path(__file__).parents[2]
COMMAND = [
    "fit", "--config", str(ROOT / "configs/quickstart.yaml"), "--model.base_width=4", "--model.feature_dim=8",
    "--data.limit=240", "--data.batch_size=40", "--trainer.max_epochs=2", "--checkpoint.every_n_train_steps=4",
    "--transfer.every_n_epochs=1", "--transfer.paper.epochs=2", "--transfer.tuned.strengths=[0.1]",
    "--anatomy.enabled=false", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
]  # fmt: skip


@dataclass(frozen=True)
class KilledAt(Sweep):
    """A sweep whose trials kill themselves at a place of `killed_run.py`'s."""

    place: str = "never"

    def trial_command(self, point, point_file, more=()):
        program = str(Path(__file__).parent / "killed_run.py")
        return [sys.executable, program, self.place, *COMMAND, "--config", str(point_file), *more]


def run(place: str) -> Trial:
    """Run the sweep's one trial in the working folder."""
    parameters = {"seed_everything": {"values": [1]}}
    sweep = KilledAt(Path("s.yaml"), "s", "grid", parameters, (), None, {"name": "x"}, None, place=place)
    Runner(sweep, Path("runs/s")).run()
    (trial,) = read_trials(Path("runs/s"))
    return trial


@pytest.mark.slow
def test_a_trial_killed_in_training_in_a_checkpoint_and_in_its_evaluation_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "straight").mkdir()
    monkeypatch.chdir(tmp_path / "straight")
    straight = run("never")
    folder = tmp_path / "straight" / straight.folder / straight.run_folder
    seconds = json.loads((folder / "run.json").read_text())["seconds"]
    assert (straight.status, straight.attempts) == ("finished", 1)
    for number, place in enumerate((f"time:{seconds / 3:.3f}", "write:2:0.5", "transfer:2:0.01")):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        killed = run(place)
        assert (killed.status, killed.attempts) == ("killed", 1), place
        went_on = run("never")
        assert (went_on.status, went_on.attempts, went_on.error) == ("finished", 2, None), place
        own = went_on.folder / went_on.run_folder
        assert own.name != killed.run_folder
        assert not differing(own, folder), place
        assert values(own) == values(folder)
        if not place.startswith("time"):
            assert json.loads((own / "run.json").read_text())["resumed_from"], place
