"""Which setting is the x axis, what is compared with what, and the figures that follow."""

import json
from dataclasses import asdict

import pytest

from gan_lightning.dashboard.comparison import compare
from gan_lightning.dashboard.rows import figure_rows, group_figures, pair_of
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.dashboard.statistics import estimate
from gan_lightning.errors import SettingError
from gan_lightning.papers.subproblem.inverse_examples import InverseExamples
from gan_lightning.training.generator_updates import Direct


def rows(comparison, **wanted):
    """Return the rows of accuracies with some values."""
    found = [row for row in figure_rows(comparison) if (row["metric"], row["measurement"]) == ("accuracy", "transfer")]
    return [row for row in found if all(row[name] == value for name, value in {"axis": "", **wanted}.items())]


def test_the_setting_in_which_runs_differ_is_the_x_axis_and_seeds_are_averaged(ablation):
    comparison = compare(read_folder(ablation).runs)
    assert (comparison.x, comparison.x_values, comparison.others) == ("shares_removed", ["0", "4"], [])
    assert pair_of(comparison.runs) == ("classifier", "discriminator")
    (row,) = rows(comparison, x="4", subject="classifier", weights="trained")
    expected = estimate([0.92, 0.94, 0.945])
    assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx(
        (expected.mean, expected.low, expected.high, 3)
    )
    assert row["seeds"] == {"0": 0.92, "1": 0.94, "2": 0.945}
    found = [each for each in group_figures(comparison) if each.figure.name == "transfer/classifier/paper/accuracy"]
    assert {(each.paper, each.source) for each in found} == {(0.9578, "Mao et al. 2022, Table 2")}


def test_the_probes_epochs_are_averaged_one_by_one(ablation):
    comparison = compare(read_folder(ablation).runs)
    found = rows(comparison, x="4", subject="discriminator", weights="trained", axis="head epoch")
    assert [(row["at"], row["mean"]) for row in found] == [(1, pytest.approx(0.865)), (2, pytest.approx(0.915))]


def test_further_settings_split_the_runs_and_become_filters(ablation, write_run):
    write_run(ablation, "wide", {"discriminator": 0.99, "classifier": 0.98}, shares_removed=4, base_width=128)
    comparison = compare(read_folder(ablation).runs)
    assert (comparison.x, comparison.others) == ("shares_removed", ["base_width"])
    assert comparison.varying == ["shares_removed", "base_width"]
    assert comparison.variants == ["base_width=128", "base_width=32"]
    assert comparison.filters["base_width"] == ["32", "128"]
    (row,) = rows(comparison, x="4", subject="classifier", weights="trained", variant="base_width=128")
    assert (row["mean"], row["n"]) == (0.98, 1)
    assert compare(read_folder(ablation).runs, x="base_width").x_values == ["32", "128"]


@pytest.mark.parametrize(
    ("key", "x"),
    [
        ("model.init_args.shares_removed", "shares_removed"),
        ("model.shares_removed", "shares_removed"),
        ("trainer.max_epochs", "epochs"),
        ("trainer.precision", "precision"),
        ("seed_everything", "seed"),
        ("seed", "seed"),
        ("model", "method"),
        ("model.class_path", "method"),
        ("data", "data"),
        ("data.init_args.limit", "data.limit"),
        ("transfer.paper.epochs", "transfer.paper.epochs"),
        ("transfer.paper.class_path", "transfer.paper.class"),
    ],
)
def test_every_key_of_a_sweep_may_be_the_x_axis(ablation, key, x):
    comparison = compare(read_folder(ablation).runs, key)
    assert comparison.x == x
    if x == "seed":
        assert comparison.x_values == ["0", "1", "2"]
        assert {row["n"] for row in rows(comparison, weights="trained", subject="classifier")} == {1}


def test_runs_of_other_data_or_epochs_are_never_averaged_together(ablation, write_run):
    write_run(ablation, "cifar", {"discriminator": 0.3, "classifier": 0.4}, shares_removed=4, data="cifar10")
    write_run(ablation, "long", {"discriminator": 0.8, "classifier": 0.9}, shares_removed=4, epochs=20)
    comparison = compare(read_folder(ablation).runs)
    counts = {row["variant"]: row["n"] for row in rows(comparison, x="4", subject="classifier", weights="trained")}
    assert counts == {"data=mnist, epochs=5": 3, "data=cifar10, epochs=5": 1, "data=mnist, epochs=20": 1}


def test_methods_are_models_and_what_only_one_models_runs_differ_in(tmp_path, write_run):
    for seed in range(2):
        write_run(tmp_path, f"bigan{seed}", {"encoder": 0.9}, seed=seed, model="BiGAN", beta=1)
        for weight in (0.0, 0.25):
            write_run(
                tmp_path, f"lr{weight}{seed}", {"encoder": 0.8}, seed=seed, model="LatentRegressor", joint_weight=weight
            )
    comparison = compare(read_folder(tmp_path).runs)
    assert comparison.x == "method"
    assert comparison.x_values == ["BiGAN", "LatentRegressor joint_weight=0", "LatentRegressor joint_weight=0.25"]
    assert (comparison.others, pair_of(comparison.runs)) == ([], None)
    assert {row["n"] for row in rows(comparison, weights="trained")} == {2}


def test_a_random_search_is_drawn_as_points(tmp_path, write_run):
    for i in range(15):
        write_run(
            tmp_path, f"r{i}", {"discriminator": 0.5, "classifier": 0.6}, class_weight=0.01 * (i + 1), generators=i
        )
    comparison = compare(read_folder(tmp_path).runs)
    assert comparison.numeric
    assert comparison.scattered
    assert compare(read_folder(tmp_path).runs, x="class_weight").x == "class_weight"


def test_a_setting_that_no_run_has_is_refused(ablation):
    with pytest.raises(SettingError, match="setting of the runs, got 'depth'; they differ in shares_removed"):
        compare(read_folder(ablation).runs, x="depth")


def test_runs_that_differ_in_a_class_and_its_settings_differ_in_one_setting(tmp_path, write_run):
    """As in `sweeps/subproblem/options_digits.yaml`."""
    options = [
        {},
        {"regression_rate": 2500.0},
        {"regression": "l1"},
        {"discrepancy": "bce", "inversion_rate": 0.01, "inversion_steps": 5, "inversion_optimizer": "adam"},
        {"discrepancy": "l2", "inversion_rate": 0.01, "inversion_steps": 5, "total_variation": 1e-4, "clamp": True},
    ]
    updates = [Direct(), *(InverseExamples(**option) for option in options)]
    for i, update in enumerate(updates):
        for seed in range(3):
            own = {"class": type(update).__name__} | asdict(update)
            write_run(tmp_path, f"{i}-{seed}", {"discriminator": 0.9 - i / 100}, seed=seed, generator_update=own)
    comparison = compare(read_folder(tmp_path).runs)
    assert (comparison.x, comparison.others, comparison.variants) == ("generator_update", [], [""])
    assert comparison.x_values == [
        "Direct",
        "InverseExamples",
        "InverseExamples clamp=True discrepancy=l2 inversion_rate=0.01 inversion_steps=5 total_variation=0.0001",
        "InverseExamples discrepancy=bce inversion_optimizer=adam inversion_rate=0.01 inversion_steps=5",
        "InverseExamples regression=l1",
        "InverseExamples regression_rate=2500",
    ]
    assert {row["n"] for row in rows(comparison, weights="trained")} == {3}
    assert compare(read_folder(tmp_path).runs, "generator_update.regression").x_values == ["None", "l1", "sum"]


def test_runs_that_differ_only_in_how_they_were_trained_are_not_averaged(tmp_path, write_run):
    for seed, batches in ((0, 10), (0, 1000), (1, 1000)):
        write_run(tmp_path, f"{seed}-{batches}", {"discriminator": 0.5}, seed=seed, batches=batches)
    found = read_folder(tmp_path)
    assert (len(found.runs), found.left_out) == (3, [])
    comparison = compare(found.runs)
    found = {row["x"]: row["n"] for row in rows(comparison, weights="trained")}
    assert (comparison.x, found) == ("batches", {"10": 1, "1000": 2})


def test_the_number_of_batches_is_no_setting_where_others_say_it(tmp_path, write_run):
    for seed in range(2):
        for epochs, limit in ((5, None), (10, None), (10, 60)):
            write_run(tmp_path, f"{seed}-{epochs}-{limit}", {"discriminator": 0.5}, seed=seed, epochs=epochs,
                      batches=epochs * (limit or 120), clip=limit)  # fmt: skip
    comparison = compare(read_folder(tmp_path).runs)
    assert "batches" not in (comparison.x, *comparison.others)
    assert {comparison.x, *comparison.others} == {"epochs", "clip"}


def test_a_control_that_all_seeds_have_in_common_is_one_measurement(tmp_path, write_run):
    for seed in range(3):
        write_run(tmp_path, f"r{seed}", {"discriminator": 0.9 + seed / 100}, seed=seed)
    comparison = compare(read_folder(tmp_path).runs)
    for axis in ("", "head epoch"):
        counts = {row["weights"]: (row["n"], row["low"] is None) for row in rows(comparison, axis=axis)}
        assert counts == {"trained": (3, False), "random": (1, True)}
    folder = write_run(tmp_path, "other", {"discriminator": 0.95}, seed=3)
    content = json.loads((folder / "figures.json").read_text())
    content["measurements"]["transfer"]["settings"]["seed"] = 1
    (folder / "figures.json").write_text(json.dumps(content))
    (row,) = rows(compare(read_folder(tmp_path).runs, "base_width"), weights="random", variant="transfer.seed=1")
    assert row["n"] == 1


def test_controls_that_follow_the_seed_of_each_run_have_a_spread(tmp_path, write_run):
    for seed in range(3):
        write_run(tmp_path, f"r{seed}", {"discriminator": 0.9 + seed / 100}, seed=seed,
                  sections={"transfer": {"seed": None}})  # fmt: skip
    counts = {row["weights"]: row["n"] for row in rows(compare(read_folder(tmp_path).runs))}
    assert counts == {"trained": 3, "random": 3}


def test_conditions_that_differ_between_methods_are_named(tmp_path, write_run, ablation):
    assert compare(read_folder(ablation).runs).unequal == []
    for model, epochs, width in (("BiGAN", 400, None), ("GAN", 25, None), ("MGAN", 25, 32)):
        write_run(tmp_path / "m", model, {"encoder": 0.9}, model=model, epochs=epochs, base_width=width)
    comparison = compare(read_folder(tmp_path / "m").runs)
    assert (comparison.x, comparison.others) == ("method", [])
    assert comparison.unequal == [
        "base_width is 32 for MGAN; None for BiGAN, GAN",
        "epochs is 25 for GAN, MGAN; 400 for BiGAN",
    ]


def test_numbers_that_differ_in_the_seventh_digit_are_two_settings(tmp_path, write_run):
    for i, rate in enumerate((0.1234561, 0.1234564)):
        write_run(tmp_path, f"r{i}", {"discriminator": 0.5 + i / 10}, learning_rate=rate)
    comparison = compare(read_folder(tmp_path).runs)
    assert comparison.x_values == ["0.1234561", "0.1234564"]
    assert {row["n"] for row in rows(comparison)} == {1}


def test_there_is_a_filter_for_the_width_only_where_a_run_has_one(tmp_path, write_run):
    folder = write_run(tmp_path, "a", {"discriminator": 0.5})
    assert "base_width" in compare(read_folder(tmp_path).runs).filters
    content = json.loads((folder / "figures.json").read_text())
    del content["model_settings"]["base_width"]
    (folder / "figures.json").write_text(json.dumps(content))
    assert "base_width" not in compare(read_folder(tmp_path).runs).filters
