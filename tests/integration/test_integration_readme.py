"""Every command and every line of Python in the README, in docs/ and in the papers' READMEs works."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from pages import headings
from voc_tree import drawn_voc

from gan_lightning.evaluation import TunedProbe
from gan_lightning.figures import read_figures
from gan_lightning.sweeps.engine import random_points
from gan_lightning.sweeps.spec import load_sweep
from gan_lightning.sweeps.trials import Trial, claim_folder

ROOT = Path(__file__).parents[2]
USERS = ROOT / "tests/extending/user_package"
PAPERS = sorted((ROOT / "gan_lightning/papers").glob("*/README.md"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *PAPERS]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
RECORDS = [page for page in TEXTS if page.startswith("docs/results/")] + ["docs/performance.md"]
"""What was measured, with commands that take minutes and hours: these have to be understood, and are not run."""

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
TINY = [*QUIET, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]
TINY_MODELS = {
    "/mgan/": ["--model.base_width=4", "--model.feature_dim=8"],
    "quickstart": ["--model.base_width=4", "--model.feature_dim=8"],
    "--model=MGAN": ["--model.base_width=4", "--model.feature_dim=8"],
    "/bigan/": ["--model.networks.width=8"],
    "/dcgan_": ["--model.networks.base_width=2"],
    "/selfexgan/": ["--model.base_width=2"],
}
QUICK = TunedProbe(strengths=(0.1,), max_iterations=20)
SMALL = {
    "transfer": ["--transfer.paper.epochs=1", "--transfer.tuned.strengths=[0.1]"],
    "anatomy": ["--anatomy.generated=40", "--anatomy.images=40"],
    "quality": ["--quality.network.steps=5"],
    "attentive": ["--attentive.protocol.epochs=1", "--attentive.protocol.learning_rates=[0.01]"],
    "together": ["--together.tuned.strengths=[0.1]"],
    "robustness": ["--robustness.tuned.strengths=[0.1]"],
    "imagenet_frozen": ["--imagenet_frozen.protocol.epochs=1", "--imagenet_frozen.protocol.width=8"],
    "voc_classification": [
        f"--voc_classification.protocol.{each}" for each in ("schedule=1e-9", "size=32", "crops=1", "width=4")
    ],
    "voc_segmentation": ["--voc_segmentation.protocol.schedule=1e-9", "--voc_segmentation.protocol.width=4"],
    "voc_detection": [
        f"--voc_detection.protocol.{each}" for each in ("schedule=2.5e-5", "short_side=36", "long_side=48", "width=8")
    ],
    "synthetic_data": ["--synthetic_data.steps=2", "--synthetic_data.seeds=1"],
}
"""Settings with which a measurement is quick."""

ALWAYS = ("transfer", "anatomy", "reconstruction", "samples", "filters")
"""The measurements that are made without being asked for; here only where a command says something of them."""

OF_CODES = ("feeding", "similarity", "variations", "embedding", "synthetic_data")


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def commands_of(text: str) -> list[str]:
    return [line for block in blocks("bash", text) for line in block.splitlines()]


COMMANDS = {command: page for page, text in TEXTS.items() for command in commands_of(text)}
"""Each command, and a page that has it."""

OURS = [command for command in COMMANDS if command.startswith("gan-lightning")]
OF_MANY_RUNS = [command for command in OURS if command.split()[1] in ("sweep", "dashboard")]
EXPORTS = [command for command in OURS if command.split()[1] == "export"]
OF_NETWORKS = [command for command in OURS if " --network " in command or "measure --runs" in command]
GOING_ON = " --ckpt_path=last"
RUN = [
    command
    for command in OURS
    if command not in OF_MANY_RUNS + OF_NETWORKS + EXPORTS
    and COMMANDS[command] != "docs/processes.md"
    and command + GOING_ON not in OURS
]


def named(command: str) -> set[str]:
    """Return the groups of settings that a command says something of."""
    return set(re.findall(r" --([a-z_]+)(?:[.+]|(?<=layers)=)", command)) | set(
        re.findall(r"monitor=([a-z_]+)/", command)
    )


def test_nothing_is_left_to_fill_in_and_every_link_leads_somewhere():
    assert len(TEXTS["README.md"].splitlines()) <= 110
    for page in PAGES:
        text = page.read_text()
        assert "@@" not in text
        for link, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
            if "://" in link:
                continue
            target = (page.parent / link) if link else page
            assert target.exists(), (page, link)
            if heading:
                assert heading in headings(target.read_text()), (page, link, heading)


def test_every_page_is_reached_from_the_readme():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#]+\.md)", page.read_text())
        todo += [target for link in links if (target := (page.parent / link).resolve()) not in reached]
    assert reached == set(PAGES)


def test_the_pages_speak_of_no_file_and_no_setting_that_is_gone():
    gone = (
        r"results\.json|anatomy\.json|quality\.json|depth\.json|density_ratio\.json|gan-lightning apply|--application"
    )
    for page, text in TEXTS.items():
        words = re.findall(rf"(?<!benchmarks/)(?:{gone})|--pictures\.|--reconstructions\.", text)
        assert not words, (page, words)


def test_the_other_commands_are_those_that_the_makefile_and_ci_run():
    makefile = (ROOT / "Makefile").read_text()
    assert {command for command in COMMANDS if not re.search(r"\bgan[-_]lightning\b", command)} == {
        "pip install -e '.[test]'", 'python -m pytest -n 2 -m "not slow"', "pip install -e '.[dev]'",
        "make lint", "make test-slow", "wandb sweep sweeps/mgan/shared_layers_mnist.yaml",
    }  # fmt: skip
    for target in ("demo", "test", "lint", "test-slow"):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for same in ('pytest -n 2 -m "not slow"', "gan-lightning fit --config configs/quickstart.yaml"):
        assert same in makefile
    assert (ROOT / "sweeps/mgan/shared_layers_mnist.yaml").is_file()


Earlier = Callable[[str], Path]


@pytest.fixture(scope="session")
def folders():
    """Return the folders of finished runs, by their kind."""
    return {}


@pytest.fixture
def earlier_run(gan_lightning, tmp_path_factory, monkeypatch, folders) -> Earlier:
    """Return a function that gives the folder of a small finished run, trained once for all commands that want one."""
    kinds = {
        "quickstart": ["--config", ROOT / "configs/quickstart.yaml", *TINY_MODELS["quickstart"]],
        "codes": ["--config", ROOT / "configs/selfexgan/digits.yaml", *TINY_MODELS["/selfexgan/"]],
        "own": ["--model=my_package.SmallGAN", "--model.width=4", "--data=my_package.Stripes"],
    }

    def run(kind: str) -> Path:
        if kind not in folders:
            folder, here = tmp_path_factory.mktemp(kind), Path.cwd()
            monkeypatch.chdir(folder)
            status, _, errors = gan_lightning(
                "fit", *kinds[kind], *TINY, *SMALL["anatomy"], "--transfer.tuned=null", "--data.limit=100"
            )
            assert status == 0, errors
            monkeypatch.chdir(here)
            (folders[kind],) = folder.glob("runs/*/*")
        return folders[kind]

    return run


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path, few_axes):
    """Give the user's own package, W&B that asks for nothing, and probes of the anatomy that are quick."""
    monkeypatch.syspath_prepend(str(USERS))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("gan_lightning.papers.mgan.anatomy.TUNED", QUICK)


def own_pictures(folder: Path, data_root: Path) -> None:
    """Make the user's own images that the page on data speaks of."""
    (folder / "pictures/all").mkdir(parents=True)
    (folder / "pictures/animals").symlink_to(data_root / "imagenet/train")
    rows = ["file,animal"]
    for number, file in enumerate(sorted((data_root / "imagenet/train").rglob("*.png"))):
        (folder / "pictures/all" / f"{number}.png").symlink_to(file)
        rows.append(f"{number}.png,{file.parent.name}")
    (folder / "pictures/labels.csv").write_text("\n".join(rows))


def words_of(command: str) -> list[str]:
    """Return the arguments of a command that is given in the checkout."""
    return shlex.split(
        command.replace("configs/", f"{ROOT}/configs/").replace(" my_package/", f" {USERS}/my_package/")
    )[1:]


def tiny(command: str, data_root: Path) -> list[str]:
    """Return the arguments of a training, made small, without the measurements that the command does not speak of."""
    words, groups = [*words_of(command), *TINY], named(command)
    if "--config my_package/run.yaml" in command:
        groups |= {"transfer", "measurements"}
    words += next((settings for part, settings in TINY_MODELS.items() if part in command), [])
    words += [f"--{name}.enabled=false" for name in ALWAYS if name not in groups]
    words += [setting for name in sorted(groups & SMALL.keys()) for setting in SMALL[name]]
    if "Blobs" not in command:
        words.append("--data.limit=100")
    if "mnist" in command and "digits" not in command:  # the same files, small and already there
        words = [word for word in words if not word.startswith("--data.download")]
        words += [f"--data.root={data_root}", "--data.verify=false"]
    return words


MEASURING = [command for command in RUN if COMMANDS[command] == "docs/measuring.md"]
"""Commands that measure much; the fast suite reads their settings, and the slow one runs them."""


@pytest.mark.parametrize("command", MEASURING)
def test_a_command_that_measures_has_settings_that_there_are(gan_lightning, earlier_run, command):
    words = [word.replace("runs/RUN", str(earlier_run("quickstart"))) for word in words_of(command)]
    status, printed, errors = gan_lightning(*words, "--print_config")
    assert status == 0, errors
    assert named(command) - {"measurements"} <= yaml.safe_load(printed).keys()


@pytest.mark.parametrize(
    "command", [pytest.param(each, marks=[pytest.mark.slow] * (each in MEASURING)) for each in RUN]
)
def test_a_command_of_the_pages_runs(gan_lightning, earlier_run, data_root, tmp_path, command):
    if "pictures/" in command:
        own_pictures(tmp_path, data_root)
    if "mine.npz" in command:
        pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32), dtype=np.uint8)
        np.savez(tmp_path / "mine.npz", images=pixels, labels=np.arange(40) % 4)
    groups = named(command) - {"trainer", "model", "data", "checkpoint", "density_ratio", "subproblem", "speed", "voc"}
    if "RUN" in command:
        of_codes = any(name in command for name in OF_CODES)
        own = COMMANDS[command].startswith("docs/extending")
        earlier = earlier_run("own" if own else "codes" if of_codes else "quickstart")
        words = [word.replace("runs/RUN", str(earlier)) for word in words_of(command)]
        if words[0] == "generate":
            status, _, errors = gan_lightning(*words)
            assert status == 0, errors
            assert (tmp_path / words[words.index("--out") + 1]).exists()
            return
        words += QUIET
        words += [
            setting for name in sorted(groups & SMALL.keys()) for setting in SMALL[name] if "=null" not in command
        ]
    else:
        words = tiny(command, data_root)
        if GOING_ON in command:  # there has to be a run of the same settings, with a checkpoint
            words.append("--checkpoint.every_n_train_steps=1")
            status, _, errors = gan_lightning(*(word for word in words if word != GOING_ON.strip()))
            assert status == 0, errors
    if " --voc." in command:
        words.append(f"--voc.root={drawn_voc(tmp_path / 'voc').root}")
    if "--trainer.devices=2" in words:  # really run in test_integration_cli, as two processes need a script to start
        words.append("--print_config")
    status, printed, errors = gan_lightning(*words)
    assert status == 0, errors
    if "--print_config" in words:
        assert "class_path: gan_lightning.papers.MGAN" in printed
        return
    runs = [file.parent for file in tmp_path.glob("runs/*/*/run.json")]
    assert len(runs) == (0 if words[0] == "measure" else 2 if GOING_ON in command else 1)
    run = earlier if words[0] == "measure" else max(runs)
    about = json.loads((run / "run.json").read_text())
    assert (about["measured"][-1] if words[0] == "measure" else about)["status"] == "finished"
    if words[0] == "predict":
        assert (run / "features.npz").is_file()
    else:  # what is named is measured
        measured = read_figures(run / "figures.json").sections if (run / "figures.json").exists() else {}
        assert {name.replace("measurements", "diversity") for name in groups} <= measured.keys()


@pytest.fixture
def copied_run(earlier_run, tmp_path) -> Path:
    """Return a copy of a finished run, which a command may write into."""
    return Path(shutil.copytree(earlier_run("quickstart"), tmp_path / "runs/copied", symlinks=True))


def test_a_run_is_exported_and_used_as_the_page_says(gan_lightning, copied_run, tmp_path):
    pytest.importorskip("safetensors", reason="needs the extra `export`")
    for command in EXPORTS:
        status, _, errors = gan_lightning(*(word.replace("RUN", "copied") for word in words_of(command)))
        assert status == 0, errors
    assert (tmp_path / "exported/discriminator/README.md").read_text().startswith("---\nlicense: apache-2.0")
    used: dict[str, object] = {}
    for code in blocks("python", TEXTS["docs/export.md"]):
        exec(compile(code.replace("RUN", "copied"), "docs/export.md", "exec"), used)
        if "features" in used:
            assert used.pop("features").shape[0] == 5
    assert used["images"].shape[1:] == (4, 1, 32, 32)


@pytest.mark.parametrize("whole", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("command", OF_NETWORKS)
def test_a_command_that_measures_networks_or_all_runs_is_understood(
    gan_lightning, earlier_run, data_root, tmp_path, command, whole
):
    if "timm" in command:
        pytest.importorskip("timm", reason="timm is not installed")
    if "safetensors" in command:
        save_file = pytest.importorskip("safetensors.torch", reason="needs the extra `export`").save_file
        from torchvision.models import resnet18

        save_file(resnet18().state_dict(), tmp_path / "file.safetensors")
    (tmp_path / "runs").symlink_to(earlier_run("quickstart").parents[1])
    words = [*words_of(command), *QUIET, "--layers.tuned.strengths=[0.1]"]
    if " --network " in command:
        small = [f"--data.root={data_root}", "--data.verify=false"] if "CIFAR" in command else ["--data.limit=40"]
        words += [*small, *SMALL["transfer"], "--run.root=measured"]
    if not whole:
        words.append("--print_config")
    status, printed, errors = gan_lightning(*words)
    assert status == 0, errors
    if not whole:
        assert "measurements:" in printed
    elif " --network " in command:
        (run,) = tmp_path.glob("measured/*/*")
        assert read_figures(run / "figures.json").figures
    else:
        assert "1 runs" in printed


@pytest.mark.parametrize("command", [command for command, page in COMMANDS.items() if page == "docs/processes.md"])
def test_a_command_for_several_processes_has_settings_that_there_are(gan_lightning, command):
    words = words_of(re.search(r"gan[-_]lightning fit [^']+", command)[0])
    status, printed, errors = gan_lightning(*words, "--print_config")
    assert (status, "strategy: ddp" in printed) == (0, True), errors


def recorded() -> list[str]:
    """Return the trainings that the records name, with a value for each of their placeholders."""
    joined = {page: TEXTS[page].replace("\\\n", " ") for page in RECORDS}
    found = [line for text in joined.values() for line in re.findall(r"`?(gan-lightning fit (?!--help)[^`\n]+)", text)]
    plain = [re.sub(r" \[([^\],]*)[^\]]*\](?= |$)", r" \1", line) for line in found]
    for placeholder, value in {r"(?<==)[RSE]\b": "0", r" [RS]\b": " 0", "METHOD": "autoencoder_l1"}.items():
        plain = [re.sub(placeholder, value, line) for line in plain]
    return list(dict.fromkeys(re.sub(r" +", " ", line).strip() for line in plain))


def test_the_trainings_of_the_records_have_settings_that_there_are(gan_lightning, tmp_path):
    assert len(recorded()) >= 9
    for command in recorded():
        status, printed, errors = gan_lightning(*words_of(command), "--print_config")
        assert (status, "trainer:" in printed) == (0, True), (command, errors)
    sweeps = re.findall(r"`gan-lightning (sweep [^`]+)`", "".join(TEXTS[page] for page in RECORDS))
    assert len(sweeps) == 4
    for command in sweeps:
        sweep, _, more = command.partition(" -- ")
        file = ROOT / sweep.split()[1]
        assert file.is_file()
        words = words_of(f"gan-lightning fit --config configs/quickstart.yaml {more} --print_config")
        assert gan_lightning(*words)[0] == 0, command


def test_the_commands_on_many_runs_are_understood(gan_lightning, earlier_run, tmp_path):
    for name in ("configs", "sweeps"):
        (tmp_path / name).symlink_to(ROOT / name)
    sweeps, (dashboard,) = (
        [shlex.split(command)[1:] for command in OF_MANY_RUNS if command.split()[1] == kind]
        for kind in ("sweep", "dashboard")
    )
    assert len(sweeps) == 5
    for words in sweeps:  # trials of a shipped sweep are really run in test_integration_sweep
        end = words.index("--") if "--" in words else len(words)
        status, printed, errors = gan_lightning(*words[:end], *[] if "--list" in words else ["--list"], *words[end:])
        points = 0 if "search_digits" in words[1] else 15  # a search's are not known beforehand
        assert (status, printed.count("seed_everything=")) == (0, points), errors
    (tmp_path / "runs").symlink_to(earlier_run("quickstart").parents[1])
    status, printed, errors = gan_lightning(*dashboard)
    assert (status, "1 runs drawn, 0 left out" in printed) == (0, True), printed + errors


FILES = {file.read_text() for file in (USERS / "my_package").glob("*.py")}
PYTHON = [
    pytest.param(page, code, id=f"{page} {number}")
    for page, text in TEXTS.items()
    for number, code in enumerate(blocks("python", text))
    if code not in FILES and page != "docs/export.md"  # those are what the commands of docs/extending run
]


def write_search(folder: Path) -> None:
    """Write what a search leaves of its trials, but for the runs."""
    sweep = load_sweep(ROOT / "sweeps/mgan/search_digits.yaml")
    claim_folder(folder, sweep.name, sweep.fingerprint())
    for point in random_points(sweep, 12):
        trial = Trial(point.id, point.index, point.parameters, "finished", folder / point.id, run_folder="run")
        (trial.folder / "run").mkdir(parents=True)
        (trial.folder / "run/metrics.csv").write_text(f"{sweep.metric_name}\n0.{point.index:02}\n")
        trial.write()


@pytest.mark.parametrize(("page", "code"), PYTHON)
def test_the_python_of_the_pages_runs(earlier_run, tmp_path, monkeypatch, capsys, page, code):
    if "sweeps.study" in code:
        write_search(tmp_path / "runs/mgan-search-digits")
    elif "runs" in code:
        (tmp_path / "runs").symlink_to(earlier_run("quickstart").parents[1])
        code = code.replace("runs/RUN", str(earlier_run("quickstart")))
    monkeypatch.chdir(tmp_path)
    for slow, quick in {
        r"max_epochs=\d+": "max_epochs=1",
        r"base_width=\d+": "base_width=4",
        r"Digits\(\)": "Digits(limit=80)",
        r"\bTransfer\((?!.*tuned=)": "Transfer(tuned=QUICK, ",
    }.items():
        code = re.sub(slow, quick, code)
    exec(compile(code, page, "exec"), {"QUICK": QUICK})
    printed = capsys.readouterr().out
    if "toy" in code:
        assert re.search(r"^toy {'mean': 0\.0\d+, 'covariance': 0\.9\d+}$", printed, flags=re.MULTILINE)
        assert (tmp_path / "toy.svg").is_file()
    elif "sweeps.study" in code:
        assert "'model.init_args.class_weight': 0." in printed
    elif "chart.svg" in code:
        assert "a row: {" in printed
        assert (tmp_path / "chart.svg").is_file()
    elif "density_ratio" in code:
        assert [line.split()[2] for line in printed.splitlines()] == ["False", "False"]
    elif "data_dependent" in code:
        assert 0.9 < float(printed.split()[-1]) < 1.1
    else:  # names and accuracies
        found = re.findall(r"(\w+(?:/[\w ]+)+)'?:? (\d+\.\d+)", printed)
        assert found
        assert all(0 <= float(value) <= 1 for name, value in found if name.endswith("accuracy"))
    if page == "README.md":
        assert list(tmp_path.glob("runs/mgan-digits/*/figures.json"))
        assert {"transfer/mine/paper/accuracy", "transfer/mine/tuned/accuracy"} <= {name for name, _ in found}


def test_the_figure_that_the_page_shows_is_a_row_of_the_file():
    from gan_lightning.figures import Figure

    (shown,) = re.findall(r"^```text\n(\{.*?\})\n```$", TEXTS["docs/running.md"], flags=re.DOTALL | re.MULTILINE)
    row = json.loads(shown)
    assert Figure(**{key: value for key, value in row.items() if key != "name"}).name == row["name"]
    assert os.linesep not in row["name"]
