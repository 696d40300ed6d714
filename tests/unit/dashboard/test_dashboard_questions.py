"""The sentences of the first screen: the answer, its interval and n, and when no verdict is given."""

import re
import sys

import pytest

from gan_lightning.dashboard.comparison import compare
from gan_lightning.dashboard.figure_questions import step_of
from gan_lightning.dashboard.importance import importances
from gan_lightning.dashboard.questions import all_questions
from gan_lightning.dashboard.rows import group_figures
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.dashboard.statistics import estimate, paired_slope, simultaneous
from gan_lightning.figures import Figure


def asked(root, x=None):
    found = read_folder(root)
    comparison = compare(found.runs, x)
    return all_questions(comparison, group_figures(comparison), found.sweeps, found.unmeasured)


def hundredths(value: float) -> str:
    return f"{100 * value:.2f}"


def values_of(root, subject: str, probe: str) -> dict[tuple[int, int], float]:
    """Return accuracies by setting and seed, read from the runs."""
    name = f"transfer/{subject}/{probe}/accuracy"
    return {
        (run.settings["shares_removed"], run.seed): next(f.value for f in run.final if f.name == name and not f.axis)
        for run in read_folder(root).runs
    }


def test_the_slope_is_said_with_its_interval_and_n_and_the_probe_above_its_controls_comes_first(shared_layers):
    first, second = asked(shared_layers)
    slopes = []
    for probe in ("tuned", "paper"):
        classifier, discriminator = (values_of(shared_layers, name, probe) for name in ("classifier", "discriminator"))
        seeds = [[classifier[x, seed] - discriminator[x, seed] for x in range(5)] for seed in range(5)]
        slopes.append(paired_slope(range(5), seeds))
    slope, _ = simultaneous(slopes)
    assert first.answer == (
        f"classifier - discriminator grows by {hundredths(slope.mean)} points [{hundredths(slope.low)}, "
        f"{hundredths(slope.high)}] with each layer no longer shared; 25 runs, 5 seeds"
    )
    assert (first.verdict, first.doubt, first.beats_controls) == ("classifier gains on discriminator", "", True)
    assert "Intervals of the 2 slopes hold together" in first.made
    assert "probe paper" in second.title
    assert (second.verdict, second.beats_controls) == ("", False)
    assert re.fullmatch(r"classifier over random weights is -0.27.*, so these figures say nothing", second.doubt)


def test_the_tables_intervals_hold_together_and_stand_beside_the_controls(shared_layers):
    row = asked(shared_layers)[0].rows[4]
    classifier, discriminator = (values_of(shared_layers, name, "tuned") for name in ("classifier", "discriminator"))
    rows = [estimate([classifier[x, s] - discriminator[x, s] for s in range(5)]) for x in range(5)]
    last = simultaneous(rows)[4]
    assert (row["shares_removed"], row["Seeds"], row["Verdict"]) == ("4", "5", "classifier is better")
    assert (row["Difference, points"], row["95% interval"]) == (
        f"{100 * last.mean:+.2f}", f"[{100 * last.low:+.2f}, {100 * last.high:+.2f}]",
    )  # fmt: skip
    assert (row["raw pixels"], row["chance"]) == ("88.00", "10.00")
    assert row["classifier, random weights"] == hundredths(sum(classifier[4, s] for s in range(5)) / 5 - 0.1)


def test_a_figure_below_a_control_at_one_setting_withholds_the_slopes_verdict(tmp_path, write_run, accuracy):
    for seed in range(3):
        for removed in (0, 1, 2):
            below = [accuracy("discriminator", 0.99, weights="random")] if removed == 1 else []
            own = {"discriminator": 0.9, "classifier": 0.9 + 0.01 * removed + 0.001 * seed * removed}
            write_run(tmp_path, f"{removed}-{seed}", own, seed=seed, shares_removed=removed, measured=below,
                      sections={"transfer": {"seed": None}})  # fmt: skip
    (question,) = asked(tmp_path)
    assert question.verdict == ""
    assert question.doubt.startswith("discriminator over random weights, at its lowest, is -0.0900")


@pytest.mark.parametrize(
    ("seed", "doubt"),
    [
        (0, "classifier over raw pixels is known for one of 3 seeds alone, which shows nothing"),
        (9, "classifier over raw pixels is not known: the control was measured, but the figures have no seed in common "
            "with it"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("settings", [1, 2])
def test_a_control_of_one_seed_or_of_other_seeds_withholds_the_verdict(
    tmp_path, write_run, accuracy, settings, seed, doubt
):
    for own in range(3):
        for k in range(settings):
            value = {"discriminator": 0.8, "classifier": 0.85 + 0.001 * own * (k + 1)}
            control = [accuracy("pixels", 0.1, weights="none")] if own == seed else []
            write_run(tmp_path, f"{own}-{k}", value, seed=own, k=k, measured=control, sections={"transfer": {}})
    for k in range(settings if seed == 9 else 0):
        write_run(tmp_path, f"other-{k}", {}, seed=seed, k=k, sections={"transfer": {}},
                  measured=[accuracy("pixels", 0.1, weights="none")])  # fmt: skip
    (question,) = asked(tmp_path)
    assert (question.verdict, question.doubt, question.beats_controls) == ("", doubt, False)


@pytest.mark.parametrize(
    ("seeds", "spread", "sentence", "verdict", "doubt"),
    [
        (1, 0.0, "classifier - discriminator is +5.00 points (no interval); 1 seed", "", "one seed decides nothing"),
        (3, 0.0, "classifier - discriminator is +5.00 points (no interval); 3 seeds", "", "the same in all of 3 seeds"),
        (3, 0.001, "is +5.00 points [+4.75, +5.25]; 3 seeds", "classifier is better", ""),
        (3, 0.1, "is +5.00 points [-19.84, +29.84]; 3 seeds", "", "no difference shown"),
    ],
)
def test_a_single_settings_difference_is_decided_only_by_its_interval(
    tmp_path, write_run, seeds, spread, sentence, verdict, doubt
):
    for seed in range(seeds):
        own = {"discriminator": 0.8, "classifier": 0.85 + spread * (seed - 1 if seeds > 1 else 0)}
        write_run(tmp_path, f"r{seed}", own, seed=seed, sections={"transfer": {"seed": None}})
    (question,) = asked(tmp_path)
    assert sentence in question.answer
    assert question.verdict == verdict
    assert question.doubt.startswith(doubt)
    assert bool(question.doubt) == (verdict == "")


def test_unordered_settings_are_counted_and_the_papers_difference_stands_in_the_table(tmp_path, write_run):
    paper = {"discriminator": 0.9309, "classifier": 0.9578}
    for seed in range(3):
        for option, gain in (("a", 0.02), ("b", -0.03), ("c", 0.0)):
            own = {"discriminator": 0.9, "classifier": 0.9 + gain + 0.001 * seed * (1 if gain else seed - 1)}
            write_run(tmp_path, f"{option}{seed}", own, seed=seed, option=option, paper=paper,
                      sections={"transfer": {"seed": None}})  # fmt: skip
    (question,) = asked(tmp_path)
    assert question.answer == (
        "classifier is better at 1 of 3 settings, discriminator at 1, and 1 are open; 9 runs"
    )  # fmt: skip
    assert {row["Paper's difference"] for row in question.rows} == {"+2.69"}


def test_methods_are_ranked_and_the_best_is_named_only_if_it_is_told_apart_from_all(tmp_path, write_run):
    for seed, noise in enumerate((0.0, 0.002, 0.001)):
        for model, value in (("BiGAN", 0.95), ("GAN", 0.9)):
            write_run(tmp_path, f"{model}{seed}", {"encoder": value + noise * (model == "GAN")}, seed=seed, model=model)
    (question,) = asked(tmp_path)
    assert (question.verdict, question.doubt) == ("BiGAN is best", "")
    assert question.answer == "BiGAN has 95.00%, the highest accuracy of 2; 3 seeds", "equal values have no interval"
    for seed, value in enumerate((0.949, 0.952, 0.946)):
        write_run(tmp_path, f"close{seed}", {"encoder": value}, seed=seed, model="Close")
    (question,) = asked(tmp_path)
    assert (question.verdict, question.doubt) == ("", "not told apart from Close")
    write_run(tmp_path, "BiGAN9", {"encoder": 0.99}, seed=9, model="BiGAN")
    assert re.match(r"BiGAN has 96.00% \[\d\d.\d\d, 1\d\d.\d\d\], the highest", asked(tmp_path)[0].answer)


def test_a_search_names_its_best_trial_what_mattered_and_how_sure_that_is(search, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    (question,) = asked(search)
    runs = read_folder(search).runs
    best = max(runs, key=lambda run: run.final[0].value)
    value, weight = best.final[0].value, best.settings["class_weight"]
    assert question.answer.startswith(f"Best of 40 trials that ran to the end: {value:.4g} [")
    assert f"class_weight = {weight:.4g}, generators = {best.settings['generators']}" in question.answer
    assert question.answer.index("class_weight ", 90) < question.answer.rindex("generators "), "the important one first"
    assert question.command == f"gan-lightning fit --i={best.seed}"
    assert "trials, counting the choice of the test images alone, not the seeds" in question.doubt
    assert "install Optuna" in question.made
    assert question.figure == "transfer/classifier/tuned/accuracy"


def test_a_search_whose_best_trial_is_below_a_control_says_so(search, monkeypatch, write_run, accuracy):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for path in search.glob("search/*/run/figures.json"):
        path.write_text(path.read_text().replace('"value": 0.5', '"value": 0.95'))
    (question,) = asked(search)
    assert not question.beats_controls
    assert re.search(r"But classifier over random weights is -0.04\d\d, so these figures say nothing", question.doubt)


def test_trials_that_were_stopped_early_are_said_with_their_last_value(search, monkeypatch, write_trial, open_run):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for i, value in enumerate((0.7, 0.75)):
        write_trial(search / f"search/stopped{i}", status="stopped", run_folder="run")
        open_run(search / f"search/stopped{i}/run", "running", 0)
        log = f"step,transfer/classifier/tuned/accuracy\n1,0.99\n9,{value}\n"
        (search / f"search/stopped{i}/run/metrics.csv").write_text(log)
    assert "2 further trials stopped early, the best of them last at 0.75. " in asked(search)[0].answer


@pytest.mark.parametrize("goal", [', "goal": "minimize"', ""])
def test_a_search_for_the_smallest_figure_follows_its_sweep_also_if_it_names_no_goal(search, monkeypatch, goal):
    monkeypatch.setitem(sys.modules, "optuna", None)
    record = search / "search/sweep.json"
    record.write_text(record.read_text().replace(', "goal": "maximize"', goal))
    least = min(run.final[0].value for run in read_folder(search).runs)
    assert asked(search)[0].answer.startswith(f"Best of 40 trials that ran to the end: {least:.4g} ")
    assert "But" not in asked(search)[0].doubt
    record.unlink()
    assert "The figure is the page's choice" in asked(search)[0].made


@pytest.mark.parametrize("without", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_setting_that_decides_is_the_important_one(without, monkeypatch):
    if without:
        monkeypatch.setitem(sys.modules, "optuna", None)
    else:
        pytest.importorskip("optuna", reason="needs the extra `sweeps`")
    settings = [{"rate": 10 ** (i % 7 - 4), "kind": "ab"[i % 2], "same": None} for i in range(28)]
    found, how = importances(settings, [0.5 + 0.05 * (i % 7) + 0.001 * (i % 3) for i in range(28)])
    assert next(iter(found)) == "rate"
    assert found["rate"] > 0.8
    assert found["kind"] < 0.2
    assert ("rank correlation" if without else "fANOVA") in how
    assert importances(settings[:7], [1.0] * 7) == ({}, "")


@pytest.mark.parametrize(
    ("x", "numbers", "at", "phrase"),
    [
        ("shares_removed", [0.0, 4.0], 3.0, "with each layer no longer shared"),
        ("k", [1.0, 8.0], 5.0, "with each 1 more of k"),
        ("width", [16.0, 128.0], 5.0, "with each doubling of width"),
        ("rate", [0.01, 0.03], 1600.0, "from rate = 0.01 to 0.03"),
    ],
)
def test_a_slope_is_per_step_per_doubling_or_over_the_range(x, numbers, at, phrase):
    scale, said = step_of(x, numbers)
    assert said == phrase
    assert scale(32.0) == pytest.approx({5.0: 32.0, 3.0: 32.0}.get(at, at) if x != "width" else at)


def test_runs_without_accuracies_are_asked_for_another_figure(tmp_path, write_run):
    for seed, noise in enumerate((0.0, 0.4, 0.2, 0.1)):
        for option, fid in (("a", 20.0), ("b", 30.0), ("c", 31.0)):
            measured = [
                Figure(measurement="quality", metric="fid", value=fid + noise * {"a": 1, "b": 2, "c": 1.5}[option])
            ]
            write_run(tmp_path / "words", f"{option}{seed}", {}, seed=seed, option=option, measured=measured)
            write_run(tmp_path / "numbers", f"{option}{seed}", {}, seed=seed, k="abc".index(option), measured=measured)
    (question,) = asked(tmp_path / "words")
    assert question.title == "Which option has the smallest quality/fid?"
    assert question.answer.startswith("quality/fid is smallest with a: 20.18 [")
    assert question.answer.endswith("among 3; 12 runs, 4 seeds")
    assert (question.verdict, question.doubt) == ("a is best", "")
    assert [row["option"] for row in question.rows] == ["a", "b", "c"], "the best first"
    (question,) = asked(tmp_path / "numbers")
    assert question.verdict == "It grows"
    assert question.answer.startswith("quality/fid grows by +5.54 [5.4")
    assert question.answer.endswith("] with each 1 more of k; 12 runs, 4 seeds")


def test_a_search_and_an_ablation_in_one_folder_are_asked_separately(search, shared_layers, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    (tmp_path / "all").mkdir()
    for name, folder in (("first", search), ("second", shared_layers)):
        (tmp_path / "all" / name).symlink_to(folder)
    titles = [question.title for question in asked(tmp_path / "all")]
    assert titles == [
        "search: Search for the largest transfer/classifier/tuned/accuracy",
        "shared: classifier - discriminator against shares_removed, probe tuned",
        "shared: classifier - discriminator against shares_removed, probe paper",
    ]
