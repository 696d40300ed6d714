"""Run folders in every state."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from gan_lightning.dashboard.run_files import pasted, pictures_of
from gan_lightning.dashboard.run_folders import FoundRuns, read_folder, short_name
from gan_lightning.system.files import write_json


def reasons(found) -> dict[str, str]:
    return {out.name: out.reason for out in found.left_out}


def test_finished_runs_are_read_with_their_settings_and_final_accuracies(ablation):
    found = read_folder(ablation)
    assert not found.left_out
    assert [(run.name, run.seed, run.settings["shares_removed"]) for run in found.runs[:2]] == [
        ("0/seed0", 0, 0), ("0/seed1", 1, 0),
    ]  # fmt: skip
    run = found.runs[0]
    values = {figure.name: figure.value for figure in run.final if not figure.is_point}
    assert values["transfer/discriminator/paper/accuracy"] == 0.90
    assert values["transfer/discriminator/paper/random_weights/accuracy"] == pytest.approx(0.80)
    assert values["anatomy/discriminator/real/row_share"] == 0.2, "the newest one"
    assert [(f.name, f.axis, f.at, f.value) for f in run.over_training] == [
        ("anatomy/discriminator/real/row_share", "training epoch", 5, 0.2),
        ("anatomy/discriminator/real/row_share", "training epoch", 2, 0.1),
    ]
    assert "data.limit" in run.settings
    assert "data.root" not in run.settings, "where the data lie is no part of an experiment"
    assert run.measuring == {
        "transfer.seed": 0, "transfer.paper.class": "PaperProbe", "transfer.paper.epochs": 2, "transfer.tuned": None,
        "anatomy.images": 500,
    }  # fmt: skip


def test_an_empty_folder_holds_nothing(tmp_path):
    assert read_folder(tmp_path) == FoundRuns([], [], [], [], {})


def changed(**more):
    """Return a change of what a JSON file says."""
    return lambda text: json.dumps(json.loads(text) | more)


def with_row(**more):
    """Return a change of the first figure of a file."""

    def change(text: str) -> str:
        content = json.loads(text)
        content["figures"][0] |= more
        return json.dumps(content)

    return change


REASONS = [
    ("figures.json", lambda text: text[: len(text) // 2], "figures.json is cut off or damaged"),
    ("figures.json", lambda text: "[]", "figures.json has schema version None"),
    ("figures.json", changed(schema_version=3), "figures.json has schema version 3"),
    ("figures.json", with_row(acuracy=1), "a figure has no 'acuracy'"),
    ("figures.json", with_row(value=float("nan")), "must be finite, got nan"),
    ("figures.json", with_row(value="0.92"), "a figure's value must be a number, got '0.92'"),
    ("figures.json", with_row(value=10**400), "a figure's value must be a number, got 1000"),
    ("figures.json", with_row(value=True), "a figure's value must be a number, got True"),
    ("figures.json", with_row(axis="round"), "must have both axis and at, or neither"),
    ("figures.json", with_row(axis="round", at=float("inf")), "a figure's at must be a number, got inf"),
    (
        "figures.json",
        with_row(weights="frozen"),
        "a figure's weights must be one of trained, random, none, got 'frozen'",
    ),
    ("figures.json", with_row(epoch="1"), "a figure's epoch must be a whole number, got '1'"),
    ("figures.json", changed(figures=[3]), "figures.json is garbled"),
    ("figures.json", changed(figures=None), "figures.json is garbled"),
    ("figures.json", changed(figures=[]), "figures.json has no figures"),
    ("figures.json", changed(published=None), "figures.json is garbled"),
    ("figures.json", changed(published={"a": {}}), "figures.json lacks 'value'"),
    ("figures.json", changed(published={"a": {"value": "1", "source": "b"}}), "it has '1' for value"),
    ("figures.json", changed(measurements={"a": {"settings": 3}}), "figures.json is garbled"),
    ("figures.json", changed(measurements={"a": {"set": {}}}), "figures.json is garbled"),
    ("figures.json", changed(model=3), "it has 3 for model"),
    ("figures.json", changed(model_settings=None), "figures.json is garbled"),
    ("figures.json", changed(seed=[1]), "it has [1] for seed"),
    ("run.json", changed(schema_version=1), "run.json has schema version 1"),
    ("run.json", lambda text: text[:20], "run.json is cut off or damaged"),
    ("run.json", changed(command=7), "it has 7 for command"),
    ("run.json", changed(wandb="no"), "it has 'no' for wandb"),
    ("run.json", changed(stage="test"), "a run of `test`"),
    ("run.json", changed(status="failed", error="NaN at step 3"), "it failed: NaN at step 3"),
    ("run.json", changed(status="running"), "it was killed"),
    ("run.json", changed(status="interrupted", error="SIGTERM"), "it did not finish: interrupted, SIGTERM"),
    ("run.json", changed(status=["a"]), "it did not finish: ['a']"),
]


def test_a_run_of_no_use_is_left_out_with_the_reason_and_the_others_are_read(tmp_path, write_run):
    for i, (file, change, _) in enumerate(REASONS):
        path = write_run(tmp_path, f"{i:02}", {"discriminator": 0.92}, seed=i) / file
        path.write_text(change(path.read_text()))
    write_run(tmp_path, "good", {"discriminator": 0.92})
    (write_run(tmp_path, "none", {"discriminator": 0.92}) / "figures.json").unlink()
    found = read_folder(tmp_path)
    assert [run.name for run in found.runs] == ["good"]
    said = reasons(found)
    assert said.pop("none") == "there is no figures.json: nothing was measured"
    assert {i for i, (_, _, reason) in enumerate(REASONS) if reason not in said[f"{i:02}"]} == set(), said


def test_of_equal_runs_the_newest_counts_so_that_a_repetition_is_no_further_seed(tmp_path, write_run):
    write_run(tmp_path, "20260101-000000-a", {"discriminator": 0.5})
    write_run(tmp_path, "20260102-000000-b", {"discriminator": 0.6})
    write_run(tmp_path, "20260103-000000-c", {"discriminator": 0.7}, seed=1)
    found = read_folder(tmp_path)
    assert [run.name for run in found.runs] == ["20260102-000000-b", "20260103-000000-c"]
    assert reasons(found) == {"20260101-000000-a": "the same settings and seed as the newer 20260102-000000-b"}


def test_a_run_of_which_more_was_measured_is_a_repetition_and_one_that_was_measured_otherwise_is_not(
    tmp_path, write_run
):
    for name, sections in (("a", {}), ("b", {"quality": {"images": 10}}), ("c", {"quality": {"images": 20}})):
        write_run(tmp_path, name, {"discriminator": 0.5}, sections=sections)
    found = read_folder(tmp_path)
    assert [run.name for run in found.runs] == ["b", "c"]
    assert reasons(found) == {"a": "the same settings and seed as the newer b"}


def test_long_curves_are_drawn_as_means_of_stretches_and_a_row_that_was_cut_off_is_passed_over(ablation):
    path = ablation / "0/seed0/metrics.csv"
    path.write_text(path.read_text() + "500,nan,\n501,,inf\n7,oops\n" + "9" * 200_000)
    (run, *_) = read_folder(ablation).runs
    curve = run.logged["train/generator_loss"]
    assert len(curve) == 100
    assert curve[0] == (4.0, pytest.approx(sum(1 / (step + 1) for step in range(5)) / 5))
    assert run.logged["val/loss"] == [(499.0, 0.25)]


def test_trials_of_sweeps_are_read_and_a_damaged_one_is_named(tmp_path, write_trial):
    write_trial(tmp_path / "digits/a1", status="failed", error="boom")
    write_trial(tmp_path / "digits/b2")
    (tmp_path / "digits/b2/trial.json").write_text("{")
    found = read_folder(tmp_path)
    assert [(trial["sweep"], trial["status"], trial["error"]) for trial in found.trials] == [
        ("digits", "failed", "boom")
    ]
    assert "its trial's record is of no use" in reasons(found)["digits/b2"]


def test_what_a_trial_was_told_and_no_other_file_says_is_a_setting(tmp_path, write_run, write_trial):
    for name, clip in (("a1", 0.5), ("b2", 1.0)):
        write_run(tmp_path, f"digits/{name}/run", {"discriminator": 0.5})
        parameters = {"model.init_args.shares_removed": 3, "seed_everything": 0, "trainer.max_epochs": 5,
                      "trainer.gradient_clip_val": clip}  # fmt: skip
        write_trial(tmp_path / "digits" / name, parameters=parameters, status="finished")
    found = read_folder(tmp_path)
    assert not found.left_out
    assert [run.settings["trainer.gradient_clip_val"] for run in found.runs] == [0.5, 1.0]
    assert not {"seed_everything", "trainer.max_epochs", "model.init_args.shares_removed"} & set(found.runs[0].settings)


def test_settings_have_names_of_their_own(tmp_path, write_run):
    own = {"networks": {"class": "TutorialNetworks", "base_width": 8}, "seed": 3, "condition": "a", "epochs": 7}
    folder = write_run(tmp_path, "a", {"discriminator": 0.5}, **{"networks": own.pop("networks")})
    content = json.loads((folder / "figures.json").read_text())
    del content["model_settings"]["base_width"]
    content["model_settings"] |= own
    content["measurements"]["transfer"]["settings"]["probes"] = [{"class": "Mine", "steps": 3}, {"steps": 4}]
    (folder / "figures.json").write_text(json.dumps(content))
    (run,) = read_folder(tmp_path).runs
    assert run.settings["base_width"] == 8, "whichever part of the model has it"
    assert (run.settings["model.seed"], run.settings["condition"]) == (3, "a"), "a seed means something else"
    assert (run.settings["model.epochs"], run.settings["epochs"]) == (7, 5)
    assert (run.measuring["transfer.probes.Mine.steps"], run.measuring["transfer.probes.1.steps"]) == (3, 4)


def test_further_data_sets_are_told_by_their_names_without_the_place_of_their_files(tmp_path, write_run):
    of_class = {"class": "ImageFolder", "root": "/there", "download": False}
    targets = {"near": of_class | {"limit": 3}, "far": of_class | {"limit": 4}}
    write_run(tmp_path, "a", {"discriminator": 0.5}, sections={"transfer": {"seed": 0, "targets": targets}})
    assert read_folder(tmp_path).runs[0].measuring == {
        "transfer.seed": 0,
        "transfer.targets.near.class": "ImageFolder",
        "transfer.targets.near.limit": 3,
        "transfer.targets.far.class": "ImageFolder",
        "transfer.targets.far.limit": 4,
    }


def test_pictures_are_in_the_order_of_their_epochs_and_the_finished_models_comes_last(tmp_path, write_run):
    folder = write_run(tmp_path, "a", {"discriminator": 0.5})
    for name in ("samples-epoch-0004", "samples-epoch-10000", "samples-epoch-9999", "anatomy", "codes-epoch-0001"):
        (folder / f"pictures/{name}.png").touch()
    found = {name: [epoch for epoch, _ in own] for name, own in pictures_of(folder).items()}
    assert found == {"anatomy": [None], "codes": [1], "samples": [4, 9999, 10000, None]}
    assert pictures_of(folder)["samples"][0] == (4, "pictures/samples-epoch-0004.png")


def test_what_a_writer_leaves_behind_when_it_is_killed_is_passed_over(ablation, write_trial):
    (ablation / "0/seed0/.writing-a").mkdir()
    shutil.copy(ablation / "0/seed0/run.json", ablation / "0/seed0/.writing-a/run.json")
    write_trial(ablation / "digits/a1/.writing-b")
    found = read_folder(ablation)
    assert (len(found.runs), found.left_out, found.trials) == (6, [], [])


def test_runs_that_are_written_meanwhile_are_read(ablation):
    path, stop, errors = ablation / "0/seed0/run.json", threading.Event(), []
    content = json.loads(path.read_text())

    def write() -> None:
        while not stop.is_set():
            write_json(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(40):
            found = read_folder(ablation)
            errors += [out.reason for out in found.left_out]
            assert len(found.runs) == 6
    finally:
        stop.set()
        writer.join()
    assert errors == []


def test_a_sweep_has_its_folders_name_wherever_the_dashboard_is_started(tmp_path, monkeypatch, write_trial):
    write_trial(tmp_path / "digits/a1")
    for folder, root in (
        (tmp_path, "."),
        (tmp_path / "digits", "."),
        (tmp_path / "digits/a1", "."),
        (tmp_path, "digits"),
    ):
        monkeypatch.chdir(folder)
        assert [trial["sweep"] for trial in read_folder(Path(root)).trials] == ["digits"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"index": "<b>"}, "'<b>' for index"), ({"status": ["a"]}, "['a'] for status"), ({"parameters": 3}, "3 for par")],
)
def test_a_trial_whose_record_is_of_no_use_is_named(tmp_path, change, reason, write_trial):
    write_trial(tmp_path / "digits/a1", **change)
    found = read_folder(tmp_path)
    assert found.trials == []
    assert reason in reasons(found)["digits/a1"]


def test_runs_behind_links_are_read_once_and_a_circle_of_links_ends(tmp_path, write_run):
    write_run(tmp_path / "elsewhere", "a", {"discriminator": 0.5})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/circle").symlink_to(tmp_path / "runs")
    found = read_folder(tmp_path / "runs")
    assert (len(found.runs), found.left_out) == (1, [])


def test_earlier_attempts_of_an_ended_trial_are_dropped_and_its_run_counts_before_a_single_one(
    tmp_path, write_run, write_trial
):
    for name in ("20260101-a", "20260102-b"):
        write_run(
            tmp_path / "digits/a1", name, {"discriminator": 0.5}, about={"status": "failed"} if name[7] == "1" else {}
        )
    write_run(tmp_path, "20260103-c", {"discriminator": 0.6})
    write_trial(tmp_path / "digits/a1", status="finished", run_folder="20260102-b")
    found = read_folder(tmp_path)
    assert [(run.name, run.sweep) for run in found.runs] == [("digits/a1/20260102-b", "digits")]
    assert reasons(found) == {"20260103-c": "the same settings and seed as the sweep's trial digits/a1/20260102-b"}


def test_runs_without_figures_are_known_with_their_state_and_their_sweeps_choices(
    tmp_path, write_trial, open_run, hold
):
    parameters = {"model.init_args.class_weight": 0.5, "seed_everything": 3, "trainer.max_epochs": 7}
    for name, status in (("a1", "running"), ("b2", "stopped")):
        write_trial(tmp_path / "digits" / name, status=status, parameters=parameters, run_folder="run")
        open_run(tmp_path / "digits" / name / "run", "running", 3)
    (tmp_path / "digits/sweep.json").write_text('{"total": 9, "metric": {"name": "a", "goal": "minimize"}}')
    with hold(tmp_path):
        found = read_folder(tmp_path)
    assert [(run.status, run.seed, run.sweep, run.settings) for run in found.unmeasured] == [
        (status, 3, "digits", {"class_weight": 0.5, "epochs": 7}) for status in ("running", "stopped")
    ]
    assert found.sweeps == {"digits": {"total": 9, "metric": {"name": "a", "goal": "minimize"}}}
    (tmp_path / "digits/sweep.json").write_text("[")
    assert read_folder(tmp_path).sweeps == {"digits": {"total": None, "metric": None}}


def test_two_sweeps_of_one_name_are_told_apart(tmp_path, write_trial):
    for where in ("one/digits", "two/digits", "mnist"):
        write_trial(tmp_path / where / "a1")
    assert {trial["sweep"] for trial in read_folder(tmp_path).trials} == {"one/digits", "two/digits", "mnist"}


def test_keys_of_the_command_line_have_short_names():
    assert short_name("model.init_args.networks.init_args.width") == "networks.width"
    assert short_name("model.init_args.seed") == "model.seed"
    assert short_name("transfer.paper.class_path") == "transfer.paper.class"


def test_a_recorded_command_can_be_pasted():
    assert pasted(["/a/gan_lightning/__main__.py", "fit", 3]) == ["gan-lightning", "fit", "3"]
    assert pasted(["gan-lightning", "fit"]) == ["gan-lightning", "fit"]
    assert pasted(None) == pasted("fit") == []
