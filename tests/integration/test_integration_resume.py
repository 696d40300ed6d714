"""A run that was ended and goes on leaves what one that was never ended leaves, bit for bit."""

import json
from pathlib import Path

import pytest
from resuming import MEASURED, MODELS, PLAIN, SMALL, Dies, differing


@pytest.fixture
def fit(gan_lightning, tmp_path, monkeypatch):
    """Return a function that fits below a folder of its own, dies where it is told to, and gives the newest run."""
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def run(name: str, *arguments: str, dies: tuple[str, int] | None = None) -> Path:
        command = ["fit", *SMALL, *arguments, f"--run.root={name}"]
        if dies is not None:
            callback = "--trainer.callbacks"
            hook, step = dies
            command += [f"{callback}+=resuming.DieAt", f"{callback}.hook={hook}", f"{callback}.step={step}"]
            with pytest.raises(Dies):
                gan_lightning(*command)
        else:
            status, _, errors = gan_lightning(*command)
            assert status == 0, errors
        runs = [file.parent for file in tmp_path.glob(f"{name}/*/*/run.json")]
        return max(runs, key=lambda folder: (folder / "run.json").stat().st_mtime_ns)

    return run


def newest(run: Path) -> str:
    return f"--ckpt_path={run / 'checkpoints/last.ckpt'}"


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_goes_on_from_within_an_epoch_is_the_one_that_was_never_ended(fit, model):
    settings = [*MODELS[model], *PLAIN, "--trainer.max_epochs=2", "--checkpoint.every_n_train_steps=2"]
    straight = fit("straight", *settings)
    ended = fit("ended", *settings, dies=("on_train_batch_start", 3))
    resumed = fit("ended", *settings, newest(ended))
    assert json.loads((resumed / "run.json").read_text())["resumed_from"] == str(ended / "checkpoints/last.ckpt")
    assert differing(resumed, straight) == []


@pytest.mark.parametrize(
    ("save", "hook", "step"),
    [
        ("--checkpoint.every_n_train_steps=2", "on_train_batch_start", 4),
        ("--checkpoint.every_n_train_steps=3", "on_validation_batch_start", 6),
        ("--checkpoint.every_n_epochs=1", "on_train_epoch_start", 3),
        ("--checkpoint.every_n_epochs=1", "on_train_end", 6),
    ],
    ids=["within an epoch", "in a validation", "between epochs", "before the last evaluations"],
)
def test_what_is_measured_goes_on_wherever_a_run_was_ended(fit, save, hook, step):
    settings = [*MODELS["MGAN"], *MEASURED, "--trainer.max_epochs=2", save]
    straight = fit("straight", *settings)
    ended = fit("ended", *settings, dies=(hook, step))
    resumed = fit("ended", *settings, "--ckpt_path=last")
    assert json.loads((resumed / "run.json").read_text())["resumed_from"].startswith(str(ended.relative_to(Path.cwd())))
    assert differing(resumed, straight) == []
