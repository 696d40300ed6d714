"""Every command and every line of Python in the README works."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TINY_MGAN = ["--model.base_width=4", "--model.feature_dim=8"]
TINY = [
    "--data.limit=120", "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.paper.epochs=1", "--transfer.tuned.strengths=[0.1]",
]  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]
OURS = [command for command in COMMANDS if command.startswith("gan-lightning")]
OF_MANY_RUNS = [command for command in OURS if command.split()[1] in ("sweep", "dashboard")]


def test_nothing_is_left_to_fill_in_and_every_link_leads_somewhere():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        assert "@@" not in text
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        assert links or page.name == "performance.md"
        assert all((page.parent / link).exists() for link in links)


def test_the_other_commands_are_those_that_the_makefile_and_ci_run():
    makefile = (ROOT / "Makefile").read_text()
    assert set(COMMANDS) - set(OURS) == {
        "pip install -e '.[test]'", 'python -m pytest -n 2 -m "not slow"', "pip install -e '.[dev]'",
        "make lint", "make test-slow", "wandb sweep sweeps/mgan_shared_layers_mnist.yaml",
    }  # fmt: skip
    for target in ("demo", "test", "lint", "test-slow"):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for same in ('pytest -n 2 -m "not slow"', "gan-lightning fit --config configs/quickstart.yaml"):
        assert same in makefile
    assert (ROOT / "sweeps/mgan_shared_layers_mnist.yaml").is_file()


@pytest.fixture
def earlier_run(gan_lightning, tmp_path):
    """Return a function that gives the folder of a run that the README's placeholder stands for."""

    def run(config: str, *settings: str) -> Path:
        status, _, errors = gan_lightning("fit", "--config", ROOT / config, *TINY, *settings, "--run.name=earlier")
        assert status == 0, errors
        (folder,) = tmp_path.glob("runs/earlier/*")
        return folder

    return run


@pytest.mark.parametrize("command", [command for command in OURS if command not in OF_MANY_RUNS])
def test_a_command_of_the_readme_runs(gan_lightning, data_root, tmp_path, monkeypatch, request, command):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    words = shlex.split(command.replace("configs/", f"{ROOT}/configs/"))[1:]
    if "RUN" in command:
        earlier_run = request.getfixturevalue("earlier_run")
        if words[0] == "apply":
            run = earlier_run("configs/selfexgan/digits.yaml", "--model.base_width=2", "--transfer.enabled=false")
            words += ["--application.steps=2"] if "--application=SyntheticData" in words else []
        else:
            run = earlier_run("configs/quickstart.yaml", *TINY_MGAN)
        words = [word.replace("runs/RUN", str(run)) for word in words]
    else:
        words += [*TINY, *TINY_MGAN] if "/mgan/" in command or "quickstart" in command else TINY
    if "mnist" in command and "digits" not in command:  # the same files, small and already there
        words = [word for word in words if not word.startswith("--data.download")]
        words += [f"--data.root={data_root}", "--data.verify=false"]
    if "--quality.enabled=true" in words:
        words.append("--quality.network.steps=5")
    if "--ckpt_path=last" in words:  # there has to be a run of the same settings, with a checkpoint
        words.append("--checkpoint.every_n_train_steps=1")
        status, _, errors = gan_lightning(*(word for word in words if word != "--ckpt_path=last"))
        assert status == 0, errors
    if "--trainer.devices=2" in words:  # really run in test_integration_cli, as two processes need a script to start
        words.append("--print_config")
    status, printed, errors = gan_lightning(*words)
    assert status == 0, errors
    if "--print_config" in words:
        assert "class_path: gan_lightning.models.MGAN" in printed
    else:
        earlier = "RUN" in command or "--ckpt_path=last" in words
        assert len(list(tmp_path.glob("runs/*/*/run.json"))) == 1 + earlier


def test_the_commands_for_several_processes_have_settings_that_there_are(gan_lightning):
    page = (ROOT / "docs/processes.md").read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL) for line in block.splitlines()]
    commands = [re.search(r"gan[-_]lightning (fit [^']+)", line) for line in lines]
    assert sum(command is not None for command in commands) == 5
    for command in filter(None, commands):
        words = shlex.split(command[1].replace("configs/", f"{ROOT}/configs/"))
        status, printed, errors = gan_lightning(*words, "--print_config")
        assert (status, "strategy: ddp" in printed) == (0, True), errors


def test_the_commands_on_many_runs_work_one_after_another(gan_lightning, tmp_path, monkeypatch):
    for name in ("configs", "sweeps"):
        (tmp_path / name).symlink_to(ROOT / name)
    listing, whole, single, dashboard = (shlex.split(command)[1:] for command in OF_MANY_RUNS)
    status, printed, errors = gan_lightning(*listing)
    assert (status, printed.count("seed_everything=")) == (0, 15), errors
    # All fifteen trials would take minutes: one stands for them.
    sweep = (ROOT / whole[1]).read_text().replace("values: [0, 1, 2, 3, 4]", "values: [4]")
    (tmp_path / "short.yaml").write_text(sweep.replace("values: [0, 1, 2]", "values: [0]"))
    status, printed, errors = gan_lightning("sweep", "short.yaml", *whole[2:], "--", *TINY, *TINY_MGAN)
    assert (status, "1 of 1 trials done" in printed) == (0, True), printed + errors
    status, printed, errors = gan_lightning(*single, *TINY)
    assert (status, "1 of 1 trials done" in printed) == (0, True), printed + errors
    status, printed, errors = gan_lightning(*dashboard)
    assert (status, "2 runs drawn, 0 left out" in printed) == (0, True), printed + errors


def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for code in blocks("python"):
        code = code.replace("max_epochs=20", "max_epochs=1").replace("base_width=32", "base_width=4")
        exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"^toy {'mean': 0\.0\d+, 'covariance': 0\.9\d+}$", printed, flags=re.MULTILINE)
    assert (tmp_path / "toy.png").is_file()
    rows = [line.split() for line in printed.splitlines() if line.startswith("mine")]
    assert [row[:2] for row in rows] == [["mine", "paper"], ["mine", "tuned"]]
    assert all(0 < float(accuracy) <= 1 for row in rows for accuracy in row[2:])
    assert list(tmp_path.glob("runs/mgan-digits/*/results.json"))
