"""Run folders in every state."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from gan_lightning.dashboard.reading import read_folder
from gan_lightning.files import write_json


def reasons(found) -> dict[str, str]:
    return {out.name: out.reason for out in found.left_out}


def test_finished_runs_are_read_with_their_settings_and_final_accuracies(ablation):
    found = read_folder(ablation)
    assert not found.left_out
    assert [(run.name, run.seed, run.settings["shares_removed"]) for run in found.runs[:2]] == [
        ("0/seed0", 0, 0), ("0/seed1", 1, 0),
    ]  # fmt: skip
    assert found.runs[0].finals["discriminator", "trained", "paper"] == 0.90
    assert found.runs[0].finals["discriminator", "random", "paper"] == pytest.approx(0.80)
    assert "data.limit" in found.runs[0].settings
    assert "data.root" not in found.runs[0].settings, "where the data lie is no part of an experiment"


def test_an_empty_folder_holds_nothing(tmp_path):
    assert read_folder(tmp_path) == type(read_folder(tmp_path))([], [], [])


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("results.json", lambda text: text[: len(text) // 2], "results.json is cut off or damaged"),
        ("results.json", lambda text: "[]", "results.json holds no mapping"),
        ("results.json", lambda text: text.replace('_version": 1', '_version": 2'), "has schema version 2"),
        ("results.json", lambda text: text.replace('"accuracy"', '"acuracy"'), "lacks 'accuracy'"),
        ("run.json", lambda text: text.replace('"schema_version": 1', '"schema_version": 0'), "has schema version 0"),
        ("run.json", lambda text: text[:20], "run.json is cut off or damaged"),
        ("results.json", lambda text: text.replace('"accuracy": 0.92', '"accuracy": NaN'), "it has nan for accuracy"),
        ("results.json", lambda text: text.replace('"accuracy": 0.92', '"accuracy": "0.92"'), "'0.92' for accuracy"),
        ("results.json", lambda text: text.replace('"epoch": 1', '"epoch": "1"'), "it has '1' for epoch"),
        ("results.json", lambda text: text.replace('"trained"', "null"), "it has None for weights"),
        ("results.json", lambda text: json.dumps(json.loads(text) | {"records": []}), "has no accuracies"),
        ("results.json", lambda text: json.dumps(json.loads(text) | {"records": [3]}), "results.json is garbled"),
        ("results.json", lambda text: json.dumps(json.loads(text) | {"published": None}), "it has None for published"),
        ("results.json", lambda text: json.dumps(json.loads(text) | {"published": [{}]}), "lacks 'extractor'"),
        ("results.json", lambda text: json.dumps(json.loads(text) | {"model_settings": None}), "is garbled"),
        ("run.json", lambda text: text.replace('"seed": 1', '"seed": [1]'), "it has [1] for seed"),
        ("run.json", lambda text: text.replace('["gan-lightning", "fit"]', "7"), "it has 7 for command"),
        ("run.json", lambda text: text.replace('"status"', '"wandb": "no", "status"'), "it has 'no' for wandb"),
        ("run.json", lambda text: text.replace('"fit", "seed"', '"test", "seed"'), "a run of `test`"),
        ("run.json", lambda text: text.replace('"finished"', '"failed"').replace("null", '"NaN at step 3"'),
         "it failed: NaN at step 3"),
    ],
)  # fmt: skip
def test_a_run_of_no_use_is_left_out_with_the_reason_and_the_others_are_read(ablation, file, change, reason):
    path = ablation / "0/seed1" / file
    path.write_text(change(path.read_text()))
    found = read_folder(ablation)
    assert len(found.runs) == 5
    assert list(reasons(found)) == ["0/seed1"]
    assert reason in reasons(found)["0/seed1"]


def test_a_run_without_results_says_whether_it_still_runs(ablation):
    (ablation / "0/seed0/results.json").unlink()
    (ablation / "0/seed1/results.json").unlink()
    path = ablation / "0/seed1/run.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    assert reasons(read_folder(ablation)) == {
        "0/seed0": "there is no results.json: it was not evaluated",
        "0/seed1": "there is no results.json: it is still running, or was killed",
    }


def test_of_equal_runs_the_newest_counts_so_that_a_repetition_is_no_further_seed(tmp_path, write_run):
    write_run(tmp_path, "20260101-000000-a", {"discriminator": 0.5})
    write_run(tmp_path, "20260102-000000-b", {"discriminator": 0.6})
    write_run(tmp_path, "20260103-000000-c", {"discriminator": 0.7}, seed=1)
    found = read_folder(tmp_path)
    assert [run.name for run in found.runs] == ["20260102-000000-b", "20260103-000000-c"]
    assert reasons(found) == {"20260101-000000-a": "the same settings and seed as the newer 20260102-000000-b"}


def test_long_curves_are_drawn_as_means_of_stretches_and_a_row_that_was_cut_off_is_passed_over(ablation):
    path = ablation / "0/seed0/metrics.csv"
    path.write_text(path.read_text() + "500,nan,\n501,,inf\n7,oops\n" + "9" * 200_000)
    (run, *_) = read_folder(ablation).runs
    curve = run.curves["train/generator_loss"]
    assert len(curve) == 100
    assert curve[0] == (4.0, pytest.approx(sum(1 / (step + 1) for step in range(5)) / 5))
    assert run.curves["val/loss"] == [(499.0, 0.25)]


def test_trials_of_sweeps_are_read_and_a_damaged_one_is_named(tmp_path):
    record = {"schema_version": 1, "id": "a1", "index": 0, "parameters": {"x": 1}, "status": "failed", "error": "boom",
              "seconds": 2.0}  # fmt: skip
    for name, text in (("a1", json.dumps(record)), ("b2", "{")):
        (tmp_path / "digits" / name).mkdir(parents=True)
        (tmp_path / "digits" / name / "trial.json").write_text(text)
    found = read_folder(tmp_path)
    assert [(trial["sweep"], trial["status"], trial["error"]) for trial in found.trials] == [
        ("digits", "failed", "boom")
    ]
    assert "its trial's record is of no use" in reasons(found)["digits/b2"]


def test_what_a_trial_was_told_and_no_other_file_says_is_a_setting(tmp_path, write_run):
    for name, clip in (("a1", 0.5), ("b2", 1.0)):
        write_run(tmp_path, f"digits/{name}/run", {"discriminator": 0.5})
        parameters = {"model.init_args.shares_removed": 3, "seed_everything": 0, "trainer.max_epochs": 5,
                      "trainer.gradient_clip_val": clip}  # fmt: skip
        record = {"schema_version": 1, "id": name, "index": 0, "parameters": parameters, "status": "finished",
                  "error": None, "seconds": 2.0}  # fmt: skip
        (tmp_path / "digits" / name / "trial.json").write_text(json.dumps(record))
    found = read_folder(tmp_path)
    assert not found.left_out
    assert [run.settings["trainer.gradient_clip_val"] for run in found.runs] == [0.5, 1.0]
    assert not {"seed_everything", "trainer.max_epochs", "model.init_args.shares_removed"} & set(found.runs[0].settings)


def test_a_width_has_one_name_whichever_part_of_the_model_has_it(tmp_path, write_run):
    folder = write_run(tmp_path, "a", {"discriminator": 0.5}, networks={"class": "TutorialNetworks", "base_width": 8})
    results = json.loads((folder / "results.json").read_text())
    del results["model_settings"]["base_width"]
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = read_folder(tmp_path).runs
    assert run.settings["base_width"] == 8


def write_trial(folder, **more) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    record = {"schema_version": 1, "id": folder.name, "index": 0, "parameters": {}, "status": "running", "error": None,
              "seconds": None}  # fmt: skip
    (folder / "trial.json").write_text(json.dumps(record | more))


def test_what_a_writer_leaves_behind_when_it_is_killed_is_passed_over(ablation):
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
        for _ in range(100):
            found = read_folder(ablation)
            errors += [out.reason for out in found.left_out]
            assert len(found.runs) == 6
    finally:
        stop.set()
        writer.join()
    assert errors == []


def test_a_sweep_has_its_folders_name_wherever_the_dashboard_is_started(tmp_path, monkeypatch):
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
def test_a_trial_whose_record_is_of_no_use_is_named(tmp_path, change, reason):
    write_trial(tmp_path / "digits/a1", **change)
    found = read_folder(tmp_path)
    assert found.trials == []
    assert reason in reasons(found)["digits/a1"]
