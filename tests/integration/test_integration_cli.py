"""The command line, as a user calls it: every refusal, and the whole way from fit to test."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from resuming import differing

from gan_lightning.figures import read_figures
from gan_lightning.papers import MGAN

ROOT = Path(__file__).parents[2]
QUICK = ["--config", str(ROOT / "configs/quickstart.yaml")]
TINY = [
    "--model.base_width=4", "--model.feature_dim=8", "--data.limit=240", "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--trainer.limit_train_batches=2", "--transfer.paper.epochs=3", "--transfer.tuned.strengths=[0.01]",
]  # fmt: skip
UNMEASURED = [f"--{name}.enabled=false" for name in ("transfer", "anatomy", "samples", "filters")]
"""For trainings whose measurements a test says nothing of."""

UPDATE = "--model.generator_update"
SPLIT = [f"{UPDATE}=InverseExamples"]


def only_run(folder: Path) -> Path:
    runs = sorted(folder.glob("runs/*/*"))
    assert len(runs) == 1, runs
    return runs[0]


def final_accuracies(run: Path) -> dict[tuple, float]:
    """Return the figures of the transfer by their names and places on a curve."""
    found = read_figures(run / "figures.json").figures
    return {(figure.name, figure.at): figure.value for figure in found if figure.measurement == "transfer"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder in which one small fit ran, as a process of its own, and what that process printed.

    Its errors list, for `-X importtime`, each module that it imported, below the module that asked for it.
    """
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-X", "importtime", "-m", "gan_lightning", "fit", *QUICK, *TINY]
    command.remove("--trainer.enable_progress_bar=false")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def test_a_fit_prints_the_table_and_the_run_folder(finished):
    printed = finished[1]
    for word in ("discriminator", "classifier", "paper", "tuned", "Random", "Raw", "Seconds"):
        assert word in printed
    assert re.search(r"Run folder: runs/mgan-digits/\d{8}-\d{6}-\w{4}\n", printed)


def test_a_fit_shows_a_bar_with_the_losses(finished):
    printed = re.sub(r"\s+", " ", finished[1])
    for name in ("generator:", "discriminator:", "classifier:", "probes: paper"):
        assert name in printed


def test_the_run_folder_has_everything_to_understand_and_redo_the_run(finished):
    run = only_run(finished[0])
    about = json.loads((run / "run.json").read_text())
    assert (about["status"], about["stage"], about["seed"], about["error"]) == ("finished", "fit", 0, None)
    assert about["versions"]["torch"]
    assert about["command"][1:3] == ["fit", "--config"]
    rows = (run / "metrics.csv").read_text().splitlines()
    columns = rows[0].split(",")
    steps = [row for row in rows[1:] if row.split(",")[columns.index("train/generator_loss")]]
    assert len(steps) == 4  # two batches an epoch, two epochs
    samples = {"samples-epoch-0000.png", "samples.png"}
    assert {path.name for path in (run / "pictures").iterdir() if path.name.startswith("samples")} == samples
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"epoch-0001.ckpt", "last.ckpt"}
    assert not list(run.rglob(".writing-*"))


def test_the_figures_have_a_row_per_extractor_probe_and_head_epoch_with_the_controls(finished):
    run = read_figures(only_run(finished[0]) / "figures.json")
    about = run.about
    assert (about["model"], about["data"], about["model_settings"]["base_width"]) == ("MGAN", "digits", 4)
    assert (about["seed"], about["epochs"], about["batches"]) == (0, 2, 4)
    kinds = ("", "random_weights/", "random_weights/fresh_statistics/", "random_weights/estimated_statistics/")
    expected = {
        (f"transfer/{subject}/{probe}/{kind}accuracy", at)
        for subject in ("discriminator", "classifier", "pixels")
        for kind in (kinds if subject != "pixels" else kinds[:1])
        for probe, places in (("paper", (None, 1.0, 2.0, 3.0)), ("tuned", (None,)))
        for at in places
    } | {("transfer/chance/accuracy", None)}
    assert set(final_accuracies(only_run(finished[0]))) == expected
    measured = {"transfer", "anatomy", "samples", "filters"}
    assert set(run.sections) == measured
    assert run.passed_over["feeding"] == "it is switched off"
    assert run.passed_over["reconstruction"] == "MGAN declares no encode(), decode() and sample_latents()"


def test_the_sample_grid_has_a_row_per_generator(finished):
    from torchvision.io import read_image

    picture = read_image(str(only_run(finished[0]) / "pictures/samples.png"))
    assert picture.shape == (3, 10 * 34 + 2, 10 * 34 + 2)


def test_test_reproduces_the_transfer_figures_of_the_finished_run_exactly(finished, gan_lightning, tmp_path):
    run = only_run(finished[0])
    status, _, errors = gan_lightning(
        "test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt"
    )
    assert status == 0, errors
    again = only_run(tmp_path)
    assert final_accuracies(again) == final_accuracies(run)
    assert json.loads((again / "run.json").read_text())["stage"] == "test"


def test_nearest_neighbours_and_real_batch_norm_statistics_are_settings_that_the_results_record(
    finished, gan_lightning, tmp_path
):
    run = only_run(finished[0])
    arguments = ("--transfer.nearest.metric=cosine", "--transfer.batch_norm=real", "--transfer.tuned=null")
    status, printed, errors = gan_lightning(
        "test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt", *arguments
    )
    assert status == 0, errors
    assert "nearest" in printed
    settings = read_figures(only_run(tmp_path) / "figures.json").sections["transfer"].settings
    assert (settings["batch_norm"], settings["nearest"]["metric"], settings["tuned"]) == ("real", "cosine", None)
    assert len([name for name, _ in final_accuracies(only_run(tmp_path)) if "/nearest/" in name]) == 2 * 4 + 1
    assert "transfer/discriminator/nearest/accuracy" in (only_run(tmp_path) / "metrics.csv").read_text()


def test_a_second_run_with_a_saved_configuration_leaves_the_first_alone(finished, gan_lightning, tmp_path):
    config = only_run(finished[0]) / "config.yaml"
    for _ in range(2):
        status, _, errors = gan_lightning("fit", "--config", config, *UNMEASURED, "--trainer.max_epochs=1")
        assert status == 0, errors
    runs = list(tmp_path.glob("runs/mgan-digits/*"))
    assert len(runs) == 2
    assert all(json.loads((run / "run.json").read_text())["status"] == "finished" for run in runs)


def test_a_fit_repeats_to_the_last_digit(finished, gan_lightning, tmp_path):
    status, _, errors = gan_lightning("fit", *QUICK, *TINY)
    assert status == 0, errors
    assert final_accuracies(only_run(tmp_path)) == final_accuracies(only_run(finished[0]))


def test_validate_and_predict_work_on_a_finished_run(finished, gan_lightning, tmp_path):
    import numpy as np

    run = only_run(finished[0])
    for command in ("validate", "predict"):
        status, _, errors = gan_lightning(command, "--config", run / "config.yaml")
        assert (status, f"ckpt_path must be given to {command}" in errors) == (2, True)
        status, _, errors = gan_lightning(
            command, "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt",
            "--trainer.precision=bf16-mixed",
        )  # fmt: skip
        assert status == 0, errors
    written = next(tmp_path.glob("runs/*/*/features.npz"))
    with np.load(written) as features:
        assert {name: array.shape for name, array in features.items()} == {
            "labels": (240,), "discriminator": (240, 8), "classifier": (240, 8),
        }  # fmt: skip


def test_a_checkpoint_never_overrides_the_command_line(finished, gan_lightning, tmp_path):
    checkpoint = only_run(finished[0]) / "checkpoints/last.ckpt"
    status, _, errors = gan_lightning("test", *QUICK, *TINY, "--model.shares_removed=3", "--ckpt_path", checkpoint)
    assert status == 2
    assert "model.shares_removed is 3 here and 2 in the checkpoint" in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.shares_removed=5"], "model.shares_removed must be one of 0, 1, 2, 3, 4, got 5"),
        (["--model.fake_batch_size=125"], "model.fake_batch_size must be a multiple of generators (10), got 125"),
        (["--data.image_size=64"], "data.image_size must be 32 for MGAN"),
        (["--model.channels=3"], "model.channels must not be set, got 3: the data set gives it"),
        (["--model.init_args.image_size=32"], "model.image_size must not be set, got 32"),
        (["--model.base_widht=3"], "base_widht"),
        (["--no.such.key=3"], "no.such.key"),
        (["--data=MNIST"], "Fetch it with"),
        (["--data=ImageFolder", "--data.root=nowhere", "--data.image_size=32"], "nowhere"),
        (["--ckpt_path=nowhere.ckpt"], "ckpt_path must be a checkpoint file, got 'nowhere.ckpt'"),
        (["--model.generator_lr=-1"], "model.generator_lr must be at least 0, got -1"),
        (["--ckpt_path=last"], "ckpt_path must not be last, since there is no run in 'runs/mgan-digits'"),
        (["--quality.neighbours=-1"], "quality.neighbours must be at least 0, got -1"),
        (
            ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=transfer/classifier/tuned/accuracy"],
            "trainer.callbacks[0].monitor must be measured while training",
        ),
        (["--transfer.paper.epochs=0"], "transfer.paper.epochs must be at least 1, got 0"),
        (["--transfer.nearest.metric=manhattan"], "manhattan"),
        (["--transfer.batch_norm=batch"], "batch_norm"),
        (["--samples.columns=0"], "samples.columns must be at least 1, got 0"),
        (["--data.batch_size=0"], "data.batch_size must be at least 1, got 0"),
        ([*SPLIT, f"{UPDATE}.inversion_rate=0"], "model.generator_update.inversion_rate must be above 0, got 0"),
        ([*SPLIT, f"{UPDATE}.inversion_steps=0"], "model.generator_update.inversion_steps must be at least 1, got 0"),
        ([*SPLIT, f"{UPDATE}.regression=huber"], "regression"),
        ([*SPLIT, f"{UPDATE}.regression=perceptual", f"{UPDATE}.perceptual.network=no.where"], "got 'no.where'"),
        (["--subproblem.every_n_batches=-1"], "subproblem.every_n_batches must be at least 0, got -1"),
    ],
)
def test_bad_input_ends_before_training_with_one_clear_line(gan_lightning, tmp_path, arguments, message):
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, *arguments)
    assert status not in (0, None)
    assert message in errors
    ours = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    parsers = any(word in arguments[-1] for word in ("widht", "no.such", "metric", "batch_norm", "huber"))
    assert len(ours) == (0 if parsers else 1)  # an unknown key or choice has jsonargparse's message
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_flat_folder_without_labels_is_refused_for_the_transfer_evaluation(gan_lightning, tmp_path):
    from PIL import Image

    folder = tmp_path / "flat"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (40, 40), (i, 0, 0)).save(folder / f"{i}.png")
    cache = ["--data.cache_dir", str(tmp_path / "cache")]
    arguments = [*QUICK, "--model.base_width=4", "--data=ImageFolder", f"--data.root={folder}", *cache,
                 "--data.image_size=32", "--data.batch_size=6", "--trainer.max_epochs=1",
                 "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]  # fmt: skip
    status, _, errors = gan_lightning("fit", *arguments)
    assert (status, "needs labels, and the data set flat has none" in errors) == (2, True), errors
    assert not (tmp_path / "runs").exists()
    status, _, errors = gan_lightning("fit", *arguments, *UNMEASURED)
    assert status == 0, errors


def test_a_loss_that_diverges_stops_with_its_name_and_the_last_good_checkpoint(gan_lightning, tmp_path):
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, "--trainer.max_epochs=30", "--model.discriminator_lr=1e18")
    assert status == 2
    error = next(line for line in errors.splitlines() if line.startswith("gan-lightning: error:"))
    assert re.search(r"(train/\w+_loss became (nan|inf)|\S+ is not finite) after \d+ batches, in epoch \d+", error)
    about = json.loads((only_run(tmp_path) / "run.json").read_text())
    assert about["status"] == "failed"
    assert about["error"].startswith("NonFiniteError")
    assert not (only_run(tmp_path) / "figures.json").exists()


def test_a_printed_configuration_gives_itself_again(gan_lightning, tmp_path):
    _, printed, _ = gan_lightning("fit", *QUICK, "--print_config")
    (tmp_path / "printed.yaml").write_text(printed)
    _, again, _ = gan_lightning("fit", "--config", "printed.yaml", "--print_config")
    assert yaml.safe_load(printed) == yaml.safe_load(again)
    model = yaml.safe_load(printed)["model"]["init_args"]
    assert model["base_width"] == 32
    assert not {"channels", "image_size", "num_classes"} & set(model), "what the data set gives is not stated twice"


def test_a_logger_that_a_configuration_names_alone_has_the_run_folder(gan_lightning, tmp_path):
    (tmp_path / "own.yaml").write_text("trainer:\n  logger: [CSVLogger]\n")
    _, printed, errors = gan_lightning("fit", *QUICK, "--config=own.yaml", "--print_config")
    (logger,) = yaml.safe_load(printed)["trainer"]["logger"]
    assert logger["init_args"]["save_dir"] == "RUN_FOLDER", errors


@pytest.mark.slow
def test_a_logger_that_is_typed_alone_writes_into_the_run_folder(gan_lightning, tmp_path):
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, *UNMEASURED, "--trainer.logger=CSVLogger")
    assert status == 0, errors
    run = only_run(tmp_path)
    assert "train/generator_loss" in (run / "csv/metrics.csv").read_text()
    settings = yaml.safe_load((run / "csv/hparams.yaml").read_text())
    assert settings["generator_update"] == {"class": "Direct"}, "an object among the settings is written in plain words"


def test_configurations_compose_and_the_later_one_wins(gan_lightning):
    parts = ("configs/mgan/base.yaml", "configs/data/mnist.yaml", "configs/overrides/width32.yaml")
    flags = [argument for part in parts for argument in ("--config", ROOT / part)]
    _, printed, _ = gan_lightning("fit", *flags, "--model.base_width=16", "--print_config")
    config = yaml.safe_load(printed)
    assert (config["model"]["class_path"], config["data"]["class_path"]) == (
        "gan_lightning.papers.MGAN", "gan_lightning.data.MNIST",
    )  # fmt: skip
    assert (config["model"]["init_args"]["base_width"], config["trainer"]["max_epochs"]) == (16, 20)


def test_the_version_answers_without_loading_torch():
    command = "import sys; from gan_lightning.__main__ import main; main(['--version']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"gan-lightning \d+\.\d+\.\d+\nFalse\n", done.stdout)


def test_the_command_line_loads_nothing_that_only_some_runs_use(finished):
    lazy = {"wandb", "sklearn", "scipy", "matplotlib", "torchvision", "PIL"}
    # Who asked for a module stands, less indented, somewhere after it.
    lines = re.findall(r"^import time: .*\| ( +)(\S+)$", finished[2], flags=re.MULTILINE)
    names = [name for _, name in lines]
    start, end = (names.index(name) for name in ("lightning.pytorch.cli", "gan_lightning.cli.parser"))
    assert start < end, "what Lightning itself loads is not ours to keep out"
    for number, (indent, name) in enumerate(lines[:end]):
        if name.partition(".")[0] in lazy:
            asks = next(other for deep, other in lines[number + 1 :] if len(deep) < len(indent))
            assert not asks.startswith("gan_lightning"), (name, asks)
    # All that torchmetrics loads for metrics that nobody has asked for (see gan_lightning.system.lean_imports).
    assert "torchmetrics.metric" in names[:end]
    assert not {"torchmetrics.functional", "torchvision", "scipy.signal", "scipy.stats"} & set(names[:end])


def test_the_density_ratio_is_on_by_default_and_can_be_set(gan_lightning, tmp_path):
    status, printed, errors = gan_lightning("fit", *QUICK, "--density_ratio.alarm.factor=2", "--print_config")
    assert status == 0, errors
    config = yaml.safe_load(printed)["density_ratio"]
    assert (config["every_n_batches"], config["stop"]) == (10, False)
    assert config["alarm"]["factor"] == 2
    quick = [*QUICK, *TINY, *UNMEASURED]
    status, _, errors = gan_lightning("fit", *quick, "--density_ratio.every_n_batches=2", "--density_ratio.alarm=null")
    assert status == 0, errors
    run = only_run(tmp_path)
    assert (run / "pictures/density_ratio.png").is_file()
    assert read_figures(run / "figures.json").sections["density_ratio"].details["checks"] == 2
    assert "density_ratio/distance" in (run / "metrics.csv").read_text()
    for setting, message in (("images=1", "density_ratio.images must be at least 2"),
                             ("alarm.factor=0.5", "density_ratio.alarm.factor must be above 1, got 0.5")):  # fmt: skip
        status, _, errors = gan_lightning("fit", *quick, f"--density_ratio.{setting}")
        assert (status, message in errors) == (2, True), errors


@pytest.mark.slow
def test_two_processes_fit_and_evaluate_into_one_folder_and_the_first_alone_tells_wandb(gan_lightning, tmp_path):
    several = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=60", "--model.fake_batch_size=60"]
    command = [sys.executable, "-m", "gan_lightning", "fit", *QUICK, *TINY, *several, "--trainer.logger=WandbLogger"]
    offline = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(command, cwd=tmp_path, env=offline, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1
    run = only_run(tmp_path)
    about = json.loads((run / "run.json").read_text())
    assert (about["status"], about["processes"]) == ("finished", 2)
    found = read_figures(run / "figures.json")
    assert found.about["batches"] == 4  # 240 images, 2 x 60 a step, two epochs
    assert ("transfer/classifier/tuned/accuracy", None) in final_accuracies(run)
    anatomy = {(f.condition, f.images) for f in found.figures if f.measurement == "anatomy" and f.condition}
    assert anatomy == {("real", 240), ("generated", 500)}, "of both processes"
    alone = ["--trainer.devices=1", "--trainer.strategy=auto", "--trainer.logger=false", "--run.name=alone"]
    last = str(run / "checkpoints/last.ckpt")
    status, _, errors = gan_lightning("test", "--config", str(run / "config.yaml"), "--ckpt_path", last, *alone)
    assert status == 0, errors
    (again,) = tmp_path.glob("runs/alone/*")
    both, one = ({k: v for k, v in final_accuracies(r).items() if "random" not in k[0]} for r in (run, again))
    assert both == one, "what both evaluated is what the first one saved"


def test_a_file_that_is_no_checkpoint_is_named(gan_lightning, tmp_path):
    (tmp_path / "note.ckpt").write_text("not a checkpoint")
    status, _, errors = gan_lightning("test", *QUICK, "--ckpt_path=note.ckpt")
    assert (status, "'note.ckpt', which cannot be read as one: it is a file of another kind" in errors) == (2, True), (
        errors
    )


def test_a_users_model_may_have_defaults_for_what_the_data_set_gives(gan_lightning, tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(
        "from gan_lightning.papers import MGAN\n"
        "class Mine(MGAN):\n"
        "    def __init__(self, channels: int = 1, image_size: int = 32):\n"
        "        super().__init__(channels, image_size, base_width=4, feature_dim=8)\n"
        "class HandsOn(MGAN):\n"
        "    def __init__(self, width: int = 4, **kwargs):\n"
        "        super().__init__(base_width=width, **kwargs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = ["--data=Digits", "--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    status, _, errors = gan_lightning("fit", "--model=my_models.Mine", *run)
    assert status == 0, errors
    for model in ("my_models.Mine", "my_models.HandsOn"):
        status, _, errors = gan_lightning("fit", f"--model={model}", "--model.channels=3", *run)
        assert (status, "model.channels must not be set, got 3" in errors) == (2, True), errors


def test_a_users_class_keeps_its_defaults_its_errors_and_their_tracebacks(gan_lightning, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "from gan_lightning.papers import MGAN\n"
        "class Own(MGAN):\n"
        "    def __init__(self, channels: int = 1, image_size: int = 32, clip: float = float('inf'), seed: int = -1,\n"
        "                 breaks: bool = False):\n"
        "        super().__init__(channels, image_size, base_width=4, feature_dim=8)\n"
        "        if breaks:\n"
        "            [][0]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = ["--data=Digits", "--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false", "--model=own.Own"]
    status, _, errors = gan_lightning("fit", *run)
    assert status == 0, errors
    status, _, errors = gan_lightning("fit", *run, "--model.seed=-2")
    assert (status, "model.seed must be at least 0 and below 2**32, got -2" in errors) == (2, True), errors
    with pytest.raises(ValueError, match="list index out of range"):
        gan_lightning("fit", *run, "--model.breaks=true")


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_end_says_so_and_the_same_command_with_last_goes_on_with_it(
    finished, gan_lightning, tmp_path, monkeypatch, told
):
    original, steps = MGAN.training_step, []

    def training_step(*arguments: object) -> None:
        steps.append(original(*arguments))
        if len(steps) == 3:
            os.kill(os.getpid(), told)

    monkeypatch.setattr(MGAN, "training_step", training_step)
    status, _, _ = gan_lightning("fit", *QUICK, *TINY)
    assert status == 128 + told
    interrupted = only_run(tmp_path)
    about = json.loads((interrupted / "run.json").read_text())
    assert (about["status"], about["error"]) == ("interrupted", f"Interrupted: the run was told to end by {told.name}")
    if told == signal.SIGINT:
        return
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, "--ckpt_path=last")
    assert status == 0, errors
    assert len(steps) == 4
    (resumed,) = set(tmp_path.glob("runs/*/*")) - {interrupted}
    about = json.loads((resumed / "run.json").read_text())
    assert about["resumed_from"] == str((interrupted / "checkpoints/epoch-0001.ckpt").relative_to(tmp_path))
    assert yaml.safe_load((resumed / "config.yaml").read_text())["ckpt_path"] is None
    assert differing(resumed, only_run(finished[0])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=GAN", "--model.networks=PermutationInvariantNetworks", "--model.networks.width=8"],
         "ckpt_path must be a checkpoint of this GAN, whose weights are others: classifier."),
        ([*QUICK, *TINY, "--model.base_width=8"], "model.base_width is 8 here and 4 in the checkpoint"),
        ([*QUICK, *TINY, "--trainer.max_epochs=1"], "trainer.max_epochs must be at least 2"),
        ([*QUICK, *TINY, "--weights_only=false"], "weights_only must not be false"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_refused_before_training(
    finished, gan_lightning, tmp_path, arguments, message
):
    checkpoint = only_run(finished[0]) / "checkpoints/last.ckpt"
    status, _, errors = gan_lightning("fit", "--data=Digits", *arguments, "--ckpt_path", checkpoint)
    ours = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    assert (status, len(ours)) == (2, 1), errors
    assert message in ours[0]
    assert not (tmp_path / "runs").exists()


def test_weights_alone_can_be_tested_and_not_gone_on_with(finished, gan_lightning, tmp_path):
    content = torch.load(only_run(finished[0]) / "checkpoints/last.ckpt", weights_only=True)
    del content["optimizer_states"]
    torch.save(content, tmp_path / "weights.ckpt")
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, "--ckpt_path=weights.ckpt")
    assert (status, "which holds weights alone (no optimizer_states)" in errors) == (2, True), errors
    status, _, errors = gan_lightning("test", *QUICK, *TINY, "--transfer.tuned=null", "--ckpt_path=weights.ckpt")
    assert status == 0, errors


def test_a_full_disk_ends_a_run_with_one_line_and_leaves_the_last_good_checkpoint(gan_lightning, tmp_path, monkeypatch):
    original, calls = torch.save, []

    def second_fails(content: object, file: object) -> None:
        calls.append(file)
        if len(calls) == 2:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        original(content, file)

    monkeypatch.setattr(torch, "save", second_fails)
    status, _, errors = gan_lightning("fit", *QUICK, *TINY, *UNMEASURED)
    (error,) = [line for line in errors.splitlines() if line.startswith("gan-lightning: error:")]
    assert status == 2
    assert re.search(
        r"epoch-0001\.ckpt' could not be written \(No space left.*Last good checkpoint: \S+0000\.ckpt", error
    )
    run = only_run(tmp_path)
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"epoch-0000.ckpt", "last.ckpt"}
    torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def test_a_number_of_batches_stays_a_number_of_batches_in_a_process_of_its_own(finished):
    # In which order rich and Lightning are imported decides it, and here both have been.
    value = yaml.safe_load((only_run(finished[0]) / "config.yaml").read_text())["trainer"]["limit_train_batches"]
    assert (type(value), value) == (int, 2)
