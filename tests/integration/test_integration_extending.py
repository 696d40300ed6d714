"""What docs/extending adds, through the command line: a model, data sets, a measurement and a probe of a user's own."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from gan_lightning.figures import final_figures, read_figures
from gan_lightning.runs import finite, finite_watch
from gan_lightning.training import step_graph

ROOT = Path(__file__).parents[2]
USERS = ROOT / "tests/extending/user_package"
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
QUICK = ["--transfer.paper=null", "--transfer.tuned.strengths=[0.01]", "--data.limit=60"]
OWN = ("diversity/generated/distance", "diversity/real/distance")
PROBED = tuple(
    f"transfer/{name}/accuracy"
    for name in ("discriminator/centroids", "discriminator/centroids/random_weights", "pixels/centroids")
)


@pytest.fixture(autouse=True)
def package(monkeypatch):
    """Let the user's package be found, as it is where a command is given in its folder."""
    monkeypatch.syspath_prepend(str(USERS))


def figures_of(run: Path) -> dict[str, float]:
    return {figure.name: figure.value for figure in final_figures(read_figures(run / "figures.json").figures)}


def test_all_of_it_is_trained_measured_chosen_by_and_measured_again(gan_lightning, tmp_path):
    config = USERS / "my_package/run.yaml"
    status, printed, errors = gan_lightning(
        "fit", "--config", config, *QUIET, *QUICK, "--trainer.max_epochs=3", "--measurements.images=40"
    )
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/smallgan-stripes/*")

    # The table of the terminal, and the row in the transfer's.
    assert re.search(r"diversity *\n┏", printed)
    assert "centroids" in printed

    # The figures of every epoch and of the end, in the one file, with the controls.
    found = read_figures(run / "figures.json")
    epochs = [figure.epoch for figure in found.figures if figure.name == OWN[0]]
    assert sorted(set(epochs)) == [1, 2, 3]
    final = figures_of(run)
    assert {*OWN, *PROBED} <= final.keys()
    assert {figure.images for figure in found.figures if figure.measurement == "diversity"} == {40}
    assert found.sections["diversity"].settings["images"] == 40
    assert found.sections["transfer"].settings["probes"] == [{"class": "Centroids", "standardise": True}]
    assert found.passed_over["reconstruction"].startswith("SmallGAN declares no encode(), decode() and")
    assert (run / "pictures/diversity-most-alike.png").is_file()
    columns = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {*OWN, *PROBED} <= set(columns)

    # The checkpoint is the epoch that the measurement says is best.
    by_epoch = {figure.epoch: figure.value for figure in found.figures if figure.name == OWN[0]}
    best = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert best["epoch"] + 1 == max(by_epoch, key=by_epoch.__getitem__)
    (scores,) = [state for name, state in best["callbacks"].items() if name.startswith("Checkpoints")]
    assert scores["best_model_score"].item() == pytest.approx(max(by_epoch.values()))

    # Measured again, alone and with another setting, into the same folder; everything else stays.
    status, printed, errors = gan_lightning(
        "measure", run, "--measurements+=my_package.Diversity", "--measurements.images=30", *QUIET
    )
    assert status == 0, errors
    assert re.search(r"diversity *\n┏", printed)
    assert "Transfer on stripes" not in printed
    again = read_figures(run / "figures.json")
    of_best = [each for each in again.figures if each.measurement == "diversity" and each.epoch == best["epoch"] + 1]
    assert {(each.name, each.images) for each in of_best} == {(name, 30) for name in OWN}
    assert [each for each in again.figures if each.measurement != "diversity"] == [
        each for each in found.figures if each.measurement != "diversity"
    ]
    status, _, errors = gan_lightning("measure", run, "--measurements.images=20", *QUIET)
    assert status == 0, errors
    assert 20 in {each.images for each in read_figures(run / "figures.json").figures}

    # And under test, into a folder of its own.
    status, printed, errors = gan_lightning(
        "test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt", *QUIET
    )
    assert status == 0, errors
    (tested,) = set(tmp_path.glob("runs/smallgan-stripes/*")) - {run}
    assert figures_of(tested)[OWN[0]] == pytest.approx(max(by_epoch.values()), abs=0)
    assert {*OWN, *PROBED} <= figures_of(tested).keys()


def test_a_plain_data_module_is_trained_and_measured_on_and_predicted(gan_lightning, tmp_path):
    arguments = ["--model=my_package.SmallGAN", "--model.width=4", "--data=my_package.Blobs", *QUIET]
    arguments += ["--transfer.paper=null", "--transfer.tuned=null", "--transfer.probes=[my_package.Centroids]"]
    status, _, errors = gan_lightning("fit", *arguments, "--trainer.max_epochs=1")
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/smallgan-blobs/*")
    assert PROBED[0] in figures_of(run)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"


def test_the_package_is_found_in_the_folder_that_the_command_is_given_in(gan_lightning, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(USERS))])
    for module in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        monkeypatch.delitem(sys.modules, module)
    shutil.copytree(USERS / "my_package", tmp_path / "my_package")
    status, printed, errors = gan_lightning("fit", "--config", "my_package/run.yaml", "--print_config")
    assert (status, "class_path: my_package.SmallGAN" in printed) == (0, True), errors


def test_what_is_wrong_with_it_is_one_line_before_the_training(gan_lightning, tmp_path):
    config = ["--config", USERS / "my_package/run.yaml", *QUIET, *QUICK]
    for wrong, message in {
        "--measurements.images=1": "measurements[0].images must be at least 2, got 1.",
        "--measurements.images=61": "measurements[0].images must be at most 60, the number of test images, got 61.",
        "--checkpoint.monitor=diversity/real/distance": "checkpoint.monitor must be one of diversity/generated/",
        "--checkpoint.mode=min": "checkpoint.mode must be max with monitor=diversity/generated/distance",
        "--measurements.every_n_epochs=0": "checkpoint.monitor must be measured while training",
    }.items():
        status, _, errors = gan_lightning("fit", *config, "--measurements.images=40", wrong)
        (line,) = [line for line in errors.splitlines() if "error:" in line]
        assert (status, message in line) == (2, True), errors
    assert not (tmp_path / "runs").exists()


def test_the_messages_that_the_page_shows_are_those_that_a_mistake_gives():
    from my_package import SmallGAN, Stripes

    from gan_lightning.errors import SettingError
    from gan_lightning.interfaces import LinearHead
    from gan_lightning.runs.contract import check_model

    class Flat(SmallGAN):
        def generate(self, count, rng=None):
            return super().generate(count, rng)[0]

    class OtherHead(SmallGAN):
        def heads(self):
            return {"discriminator": LinearHead(torch.ones(1, 7), task="discrimination")}

    shown = (ROOT / "docs/extending/model.md").read_text()
    for kind in (Flat, OtherHead):
        with pytest.raises(SettingError) as raised:
            check_model(kind(1, 16), Stripes())
        assert f"\n{str(raised.value).replace(kind.__name__, 'SmallGAN')}\n" in shown


def test_a_model_of_a_users_own_trains_by_one_graph_as_without_it(gan_lightning, monkeypatch, tmp_path):
    class StandIn:
        replayed = 0

        def warm_up(self, step):
            return step()

        def record(self, step):
            def replay():
                self.replayed += 1
                return step()

            return replay

    for module in (finite, finite_watch):
        monkeypatch.setattr(module, "watches", lambda device: True)
    stand_in = StandIn()
    monkeypatch.setattr(step_graph, "recorder_for", lambda device: stand_in)
    plain = ["fit", "--model=my_package.GraphGAN", "--data=Digits", *QUIET, *QUICK, "--trainer.max_epochs=2"]
    faster = ["--speed.graph=true", "--speed.steps_per_call=4", "--trainer.log_every_n_steps=20"]
    weights = []
    for settings in (["--speed.fused=true"], faster):
        status, _, errors = gan_lightning(*plain, "--data.batch_size=8", *settings)
        assert status == 0, errors
        assert "speed." not in errors
        run = max(tmp_path.glob("runs/graphgan-digits/*"))
        weights.append(torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert stand_in.replayed > 8
