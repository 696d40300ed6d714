"""The pages of docs/results: their tables come from records, and their verdicts from figures."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.results.__main__ import changed, main, makers
from benchmarks.results.claims import CLAIMS, Claim, Prediction, Quoted, claims_table, read_claims, verdict
from benchmarks.results.layouts import LAYOUTS
from benchmarks.results.recording import record_of
from benchmarks.results.records import (
    RECORDS,
    RESULTS,
    Measured,
    Record,
    Runs,
    mean_by_seed,
    read_record,
    read_records,
    write_record,
)
from benchmarks.results.tables import BEGIN, MARKED, PAGES, Layout, in_words, markdown, table_of, with_tables
from gan_lightning.errors import DataError, SettingError
from gan_lightning.figures import Figure, RunFigures, Section, write_figures
from gan_lightning.papers.mgan.table_2 import TABLE_2
from gan_lightning.system.files import SCHEMA_VERSION

ROOT = Path(__file__).parents[3]
DIFFERENCE = "transfer/classifier - discriminator/paper/accuracy"


def accuracy(extractor: str, value: float = 0.0, **more) -> Figure:
    return Figure(measurement="transfer", metric="accuracy", value=value, subject=extractor, protocol="paper", **more)


def seeded(figure: Figure, *values: float) -> Measured:
    by_seed = {str(seed): value for seed, value in enumerate(values)}
    return Measured(figure=replace(figure, value=float(np.mean(values))), by_seed=by_seed)


def record(*measured: Measured, **settings) -> Record:
    return Record(method="M-GAN", data="mnist", runs=[Runs(settings=settings, seeds=[0, 1, 2], measured=[*measured])])


BOTH = [
    seeded(accuracy("discriminator"), 0.90, 0.93, 0.915),
    seeded(accuracy("classifier"), 0.92, 0.94, 0.945),
]


@pytest.fixture(scope="module")
def records():
    return read_records()


def test_every_table_of_the_pages_is_the_one_that_the_records_make(records):
    assert list(changed(records)) == []


def test_every_table_of_the_results_stands_between_marks_and_every_record_has_a_table(records):
    marks = [mark for page in PAGES for mark in MARKED.findall(page.read_text())]
    for page in sorted(RESULTS.glob("*.md")):
        by_hand = [line for line in MARKED.sub("", page.read_text()).splitlines() if line.startswith("|")]
        assert by_hand == [], page
    assert {name for _, layout, name, *_ in marks if layout in LAYOUTS} == set(records)
    assert {name for _, layout, name, *_ in marks if layout == "about"} == set(records)


def test_a_table_that_was_changed_by_hand_is_found_and_repaired(tmp_path, records):
    page = RESULTS / "mgan.md"
    text = page.read_text()
    edited = tmp_path / "mgan.md"
    edited.write_text(text.replace("| 0.9614 ± 0.0075 |", "| 0.9641 ± 0.0075 |"))
    assert edited.read_text() != text
    assert changed(records, [edited]) == {edited: text}


def test_a_table_needs_a_record_a_layout_and_an_end():
    made = makers({"mgan/x": record(*BOTH, shares_removed=4)})
    with pytest.raises(DataError, match=r"must have mgan/y\.json"):
        with_tables("<!-- table: sharing mgan/y -->\n<!-- end -->\n", made)
    with pytest.raises(DataError, match=r"must have mgan/y\.json"):
        with_tables("<!-- table: about mgan/y -->\n<!-- end -->\n", made)
    with pytest.raises(DataError, match="layout must be one of sharing, "):
        with_tables("<!-- table: sherry mgan/x -->\n<!-- end -->\n", made)
    with pytest.raises(DataError, match="must have its own <!-- end -->"):
        with_tables("<!-- table: sharing mgan/x -->\n\n<!-- table: about mgan/x -->\n<!-- end -->\n", made)


def test_difference_interval_p_and_the_papers_difference_stand_in_a_row():
    printed = {f"transfer/{name}/paper/accuracy": {"value": value, "source": ""} for name, value in TABLE_2[4].items()}
    found = record(*BOTH, shares_removed=4)
    found = replace(found, runs=[replace(found.runs[0], published=printed)])
    header, row = table_of(found, LAYOUTS["sharing"])
    cells = dict(zip(header, row, strict=True))
    differences = np.array([0.02, 0.01, 0.03])
    half = stats.t.ppf(0.975, 2) * stats.sem(differences)
    assert cells["C - D"] == f"+0.0200 ± {half:.4f}"
    assert cells["p"] == f"{stats.ttest_1samp(differences, 0).pvalue:.3g}".lstrip("0")
    assert (cells["shares removed"], cells["probe"], cells["n"], cells["paper's C - D"]) == (
        "4",
        "paper",
        "3",
        "+0.0269",
    )
    assert "raw pixels" not in cells


def test_a_claim_may_rest_on_several_runs_of_each_seed():
    first = Measured(figure=Figure(measurement="a", metric="b", value=2.0), by_seed={"0": 1.0, "1": 3.0})
    again = Measured(figure=Figure(measurement="a", metric="b", value=5.0), by_seed={"1": 4.0, "2": 6.0})
    both = mean_by_seed([first, again])
    assert (both.by_seed, both.figure.value, both.n) == ({"0": 1.0, "1": 3.5, "2": 6.0}, 3.5, 3)
    assert mean_by_seed([first]) is first
    with pytest.raises(DataError, match="a/b must be known by seed to be averaged over records"):
        mean_by_seed([first, Measured(figure=first.figure, n=3)])
    records = {
        "x/one": record(first),
        "x/two": record(again),
    }
    claim = Claim(claim="It is so", source="p. 1", how="t", predictions=[Prediction(says="", of="x/one", also=["x/two"],
                  figure="a/b", above=0.0)])  # fmt: skip
    _, row = claims_table([claim], records)
    assert "3.5000 ± 6.2103 (n = 3)" in row[1]


def test_a_table_may_compare_with_other_runs_of_the_record_by_seed():
    groups = [Runs(settings={"r": r}, measured=[replace(m, figure=replace(m.figure, subject="c"))]) for r, m in
              ((0, BOTH[0]), (4, BOTH[1]))]  # fmt: skip
    cell = "transfer/c/paper/accuracy .2"
    layout = Layout({"c": cell, "more": f"less: {cell}", "p": f"p_less: {cell}"}, than={"r": 0})
    half, p = stats.t.ppf(0.975, 2) * stats.sem([0.02, 0.01, 0.03]), stats.ttest_1samp([0.02, 0.01, 0.03], 0).pvalue
    header, first, second = table_of(Record(method="", data="", runs=groups), layout)
    assert (header, first[2:]) == (["r", "c", "more", "p"], ["-", "-"])
    assert second[2:] == [f"+0.02 ± {half:.2f}", f"{p:.3g}".lstrip("0")]


def test_p_values_of_a_table_are_corrected_for_all_its_rows():
    rows = [Runs(settings={"shares_removed": r}, measured=BOTH) for r in (1, 2, 3)]
    header, *found = table_of(Record(method="", data="", runs=rows), LAYOUTS["sharing"])
    alone = stats.ttest_1samp([0.02, 0.01, 0.03], 0).pvalue
    assert {row[header.index("p")] for row in found} == {f"{3 * alone:.3g}".lstrip("0")}


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (Measured(figure=accuracy("c", 0.9614), n=3, deviation=0.003), "0.9614 ± 0.0075"),
        (Measured(figure=accuracy("c", 0.9614), n=3, half_width=0.0117), "0.9614 ± 0.0117"),
        (seeded(accuracy("c"), 0.5), "0.5000"),
        (Measured(figure=accuracy("c", 0.9614)), "0.9614"),
        (Measured(figure=accuracy("c", 0.07), until=0.077), "0.070 to 0.077"),
        (Measured(figure=accuracy("c", -110.0), until=-10.0), "-110 to -10"),
        (Measured(figure=accuracy("c", 0.9714), n=2, deviation=0.0), "0.9714"),
    ],
)
def test_a_figure_is_written_with_no_more_than_is_known_of_it(measured, text):
    assert in_words(measured, 4) == text


def test_a_layout_turns_and_has_a_row_for_each_part_that_it_names():
    noisy = [Measured(figure=accuracy("c", value, condition=f"noise-{value}")) for value in (0.5, 0.25)]
    layout = Layout({"c": "transfer/c/paper/{condition}/accuracy .2"}, "transfer/", ("condition",), ("noise",))
    table = table_of(record(*noisy), layout)
    assert table == [["noise", "c"], ["noise-0.5", "0.50"], ["noise-0.25", "0.25"]]
    turned = table_of(record(*noisy), replace(layout, turned=True))
    assert turned == [["noise", "noise-0.5", "noise-0.25"], ["c", "0.50", "0.25"]]
    assert markdown(turned).splitlines()[1] == "| --- | --- | --- |"


def test_a_record_is_read_as_it_was_written(tmp_path):
    curve = Measured(figure=Figure(measurement="feeding", metric="moved", value=0.5, axis="round", at=2.0), n=1)
    known = [*BOTH, Measured(figure=accuracy("pixels", 0.9, weights="none")), curve,
             Measured(figure=accuracy("other", 0.9, epoch=3), n=2, deviation=0.1)]  # fmt: skip
    written = replace(record(*known, shares_removed=4), commit="abc", notes=["n"], settings={"base_width": 8})
    write_record(tmp_path / "x.json", written)
    assert read_record(tmp_path / "x.json") == written
    assert read_records(tmp_path) == {"x": written}


def test_figures_are_found_by_epoch_by_place_and_by_pattern():
    curve = [Measured(figure=Figure(measurement="f", metric="m", value=v, axis="round", at=v)) for v in (1.0, 2.0)]
    early, late = (Measured(figure=accuracy("c", v, epoch=e)) for v, e in ((0.5, 2), (0.6, 10)))
    runs = record(*curve, early, late).runs[0]
    assert runs.find("transfer/*/accuracy") is late
    assert runs.find("transfer/c/paper/accuracy", 2) is early
    assert (runs.find("f/m", 2.0), runs.find("f/m"), runs.find("f/n")) == (curve[1], None, None)
    with pytest.raises(DataError, match="one figure must be named transfer"):
        record(*BOTH).runs[0].find("transfer/*/accuracy")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"by_seed": {"0": 0.5, "1": 0.7}}, "must be the mean of its seeds, 0.6"),
        ({"by_seed": {"0": 0.9}, "n": 2}, "n of transfer/c/paper/accuracy must be 1"),
        ({"deviation": 0.1}, "must be at least 2 where it has a spread, got None"),
    ],
)
def test_a_figure_whose_parts_do_not_agree_is_refused(parts, said):
    with pytest.raises(DataError, match=said):
        Measured(figure=accuracy("c", 0.9), **parts)


def test_a_file_that_is_no_record_or_has_no_claims_is_refused(tmp_path):
    file = tmp_path / "x.json"
    for text, said in (("{}", "KeyError"), ('{"schema_version": 0}', "schema_version must be 1"), ("[]", "no record")):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            read_record(file)
    file.write_text('[{"claim": "c"}]')
    with pytest.raises(DataError, match="has no claims"):
        read_claims(file)


def claim(*predictions: Prediction, **more) -> Claim:
    return Claim(claim="C is better", source="Table 2", how="C - D", predictions=predictions, **more)


def predicted(figure: str = DIFFERENCE, **prediction) -> Prediction:
    return Prediction(says="paper's probe", of="mgan/x", figure=figure, **prediction)


def verdicts(*claims: Claim, measured: list[Measured] = BOTH) -> list[str]:
    return [row[-1] for row in claims_table(claims, {"mgan/x": record(*measured)})[1:]]


CLEAR = [seeded(accuracy("discriminator"), 0.90, 0.93, 0.915), seeded(accuracy("classifier"), 0.92, 0.9501, 0.9351)]


def test_a_verdict_follows_from_the_figures():
    above, below = claim(predicted(above=0.0)), claim(predicted(below=0.0))
    assert verdicts(above, measured=CLEAR) == ["**holds**"]
    assert verdicts(below, measured=CLEAR) == ["**does not hold**"]
    assert verdicts(above) == ["**cannot be told with 3 seeds**"]
    one = [seeded(accuracy("discriminator"), 0.9), seeded(accuracy("classifier"), 0.95)]
    assert verdicts(above, measured=one) == ["**cannot be told with 1 seed**"]
    assert verdicts(claim(because="not measured")) == ["**cannot be told with 0 seeds**: not measured"]
    assert verdicts(claim(proofs=["file::test_it"])) == ["**holds**"]
    assert verdict(["holds", None], 3) == "cannot be told with 3 seeds"
    assert verdict(["holds", "does not hold"], 3, proved=True) == "does not hold"


def test_a_test_that_would_stand_alone_may_fall_among_others():
    measured = [seeded(accuracy("discriminator"), 0.90, 0.93, 0.915), seeded(accuracy("classifier"), 0.92, 0.945, 0.94)]
    p = stats.ttest_1samp([0.02, 0.015, 0.025], 0).pvalue
    assert p < 0.05 < 3 * p
    assert verdicts(claim(predicted(above=0.0)), measured=measured) == ["**holds**"]
    others = [claim(predicted(above=0.0)) for _ in range(3)]
    assert set(verdicts(*others, measured=measured)) == {"**cannot be told with 3 seeds**"}
    table = claims_table(others, {"mgan/x": record(*measured)})
    assert f"p = {p:.3g}, corrected = {3 * p:.3g}".replace("0.", ".") in table[1][1]


def test_the_other_side_may_be_a_figure_of_the_same_runs():
    random = Measured(figure=accuracy("classifier", 0.9, weights="random"))
    above = predicted("transfer/classifier/paper/accuracy", above="transfer/classifier/paper/random_weights/accuracy")
    assert verdicts(claim(above), measured=[*CLEAR, random]) == ["**cannot be told with 3 seeds**"]
    near = [replace(random, figure=replace(random.figure, value=0.5))]
    assert verdicts(claim(above), measured=[*CLEAR, *near]) == ["**holds**"]


def test_the_other_side_may_be_other_runs_with_the_same_seeds():
    figure = "transfer/classifier/paper/accuracy"
    groups = [replace(record(measured, r=r).runs[0]) for r, measured in ((0, BOTH[0]), (4, BOTH[1]))]
    named = replace(BOTH[0], figure=replace(BOTH[0].figure, subject="classifier"))
    found = {"mgan/x": replace(record(), runs=[replace(groups[0], measured=[named]), groups[1]])}
    less = predicted(figure, where={"r": 4}, less={"r": 0}, above=0.0)
    assert less.look(found).by_seed == pytest.approx({"0": 0.02, "1": 0.01, "2": 0.03})
    half = stats.t.ppf(0.975, 2) * stats.sem([0.02, 0.01, 0.03])
    assert claims_table([claim(less)], found)[1][1].startswith(f"C - D: paper's probe +0.0200 ± {half:.4f} (n = 3)")
    unpaired = replace(groups[1], measured=[Measured(figure=accuracy("classifier", 0.9))])
    with pytest.raises(DataError, match=f"must have {figure}, got no such figure"):
        less.look({"mgan/x": replace(record(), runs=[groups[0], unpaired])})


def test_a_claim_on_all_values_falls_by_one_and_a_mean_does_not_prove_it():
    within = claim(predicted("transfer/c/paper/accuracy", between=[0.0, 0.5]))
    for measured, said in (
        (seeded(accuracy("c"), 0.1, 0.4), "**holds**"),
        (seeded(accuracy("c"), 0.1, 0.6), "**does not hold**"),
        (Measured(figure=accuracy("c", 0.1), until=0.5), "**holds**"),
        (Measured(figure=accuracy("c", 0.1), until=0.51), "**does not hold**"),
        (Measured(figure=accuracy("c", 0.1), n=2, deviation=0.01), "**cannot be told with 2 seeds**"),
        (Measured(figure=accuracy("c", 0.9), n=2, deviation=0.01), "**does not hold**"),
    ):
        assert verdicts(within, measured=[measured]) == [said]


def test_a_claim_on_most_networks_is_judged_by_a_sign_test():
    usually = claim(predicted("transfer/c/paper/accuracy", usually=True))
    for count, said in ((9, "holds"), (0, "does not hold"), (6, "cannot be told with 9 seeds")):
        assert verdicts(usually, measured=[Measured(figure=accuracy("c", float(count)), n=9)]) == [f"**{said}**"]


def test_power_is_told_for_the_papers_effect_or_as_the_least_effect():
    known = [Measured(figure=accuracy("classifier - discriminator", 0.024), n=3, deviation=0.0096)]
    rows = [claim(predicted(above=0.0, effects=[0.0147])), claim(predicted(above=0.0)),
            claim(planned=predicted(above=0.0, effects=[0.0218]))]  # fmt: skip
    told = [row[2] for row in claims_table(rows, {"mgan/x": record(*known)})[1:]]
    assert told == [
        "the paper's 0.0147: .33 with n = 3, .73 with n = 5",
        ".80 for 0.0313 with n = 3",
        "the paper's 0.0218: .55 with n = 3, .96 with n = 5",
    ]


def test_a_claim_quotes_figures_and_controls_that_are_there():
    quoted = Quoted(says="C", of="mgan/x", figure="transfer/classifier/paper/accuracy")
    row = claims_table([claim(quoted=[quoted], controls=[quoted], control="chance")], {"mgan/x": record(*BOTH)})[1]
    assert row[1].startswith("C - D: C 0.9350 ± ")
    assert row[3].endswith("; chance")
    assert row[4] == "**cannot be told with 3 seeds**"
    with pytest.raises(DataError, match=r"must be in docs/results/records, got 'mgan/x'"):
        claims_table([claim(quoted=[quoted])], {})
    with pytest.raises(DataError, match="must have transfer/c, got no such figure"):
        claims_table([claim(quoted=[replace(quoted, figure="transfer/c")])], {"mgan/x": record(*BOTH)})
    with pytest.raises(DataError, match="must have one of above, below, between and usually, got 2"):
        predicted(above=0.0, usually=True)


@pytest.mark.parametrize("file", sorted(CLAIMS.glob("*.json")), ids=lambda file: file.stem)
def test_the_tests_that_a_claim_names_are_there_and_its_page_has_its_verdict(file):
    claims = read_claims(file)
    for proof in (proof for each in claims for proof in each.proofs):
        path, _, name = proof.partition("::")
        nodes = ast.parse((ROOT / path).read_text()).body
        assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}, proof
    page = (RESULTS / f"{file.stem}.md").read_text()
    said = re.findall(r"\*\*(holds|does not hold|cannot be told with \d+ seeds?)\*\*[:|\s]", page)
    assert len(said) == len(claims) >= 10
    assert BEGIN.findall(page)[0] == f"<!-- table: claims {file.stem} -->"


def test_a_leaderboard_has_all_methods_and_their_controls_the_best_first():
    controls = [Measured(figure=accuracy("pixels", 0.93, weights="none")),
                Measured(figure=accuracy("classifier", 0.8, weights="random"))]  # fmt: skip
    other = record(seeded(accuracy("encoder"), 0.99), controls[0], method="BiGAN")
    weaker = Measured(figure=accuracy("classifier", 0.7, weights="random"))
    made = makers({"a/x": record(*BOTH, *controls, shares_removed=4), "b/y": other, "a/z": record(weaker)})
    header, *rows = made["leaderboard"]("mnist/paper")
    assert [(row[0], row[2], row[-2][:6]) for row in rows] == [
        ("BiGAN", "E(x)", "0.9900"), ("M-GAN", "C", "0.9350"), ("**raw pixels**", "-", "0.9300"),
        ("M-GAN", "D", "0.9150"), ("**random weights** of M-GAN", "C", "0.7000"),
    ]  # fmt: skip
    assert rows[-1][-2:] == ["0.7000 to 0.8000", "-"]
    assert rows[1][header.index("settings")] == "shares removed 4"
    assert made["leaderboard"]("digits/paper") == [header]


def write_run(root: Path, name: str, d: float, c: float, *, seed: int, shares_removed: int, model: str = "MGAN",
              data: str = "mnist", status: str = "finished") -> None:  # fmt: skip
    folder = root / name
    folder.mkdir(parents=True)
    figures = [accuracy(e, v, weights=w) for e, v in (("discriminator", d), ("classifier", c)) for w in ("trained",)]
    figures += [
        accuracy("classifier", 0.8, weights="random"),
        accuracy("classifier", c - 0.1, axis="head epoch", at=1.0),
    ]
    figures += [Figure(measurement="quality", metric="fid", value=c * e, protocol="j", epoch=e) for e in (1, 2)]
    settings = {"base_width": 32, "shares_removed": shares_removed}
    about = {"model": model, "model_settings": settings, "data": data, "data_settings": {"root": "there", "limit": 9},
             "seed": seed, "epochs": 2, "batches": 10}  # fmt: skip
    printed = {accuracy("classifier").name: {"value": 0.9578, "source": "Table 2"}}
    write_figures(
        folder / "figures.json", RunFigures(about, figures, {"transfer": Section({"seed": 0})}, published=printed)
    )
    command = ["gan-lightning", "fit", f"--seed_everything={seed}"]
    run = {"schema_version": SCHEMA_VERSION, "status": status, "error": None, "stage": "fit", "seed": seed,
           "command": command, "git_commit": "abc", "seconds": 10.0 + seed, "precision": "32-true", "processes": 1,
           "accelerator": "CPUAccelerator", "versions": {"torch": "2"}}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run))


def test_run_folders_become_a_record_with_every_value_by_seed(tmp_path, capsys):
    for seed, (d, c) in enumerate([(0.90, 0.92), (0.93, 0.94), (0.915, 0.945)]):
        write_run(tmp_path / "runs", f"a{9 - seed}", d, c, seed=seed, shares_removed=4)
    write_run(tmp_path / "runs", "b0", 0.9, 0.9, seed=0, shares_removed=0)
    write_run(tmp_path / "runs", "c0", 0.9, 0.9, seed=7, shares_removed=0, status="failed")
    into = tmp_path / "records/x.json"
    status = main(["record", str(tmp_path / "runs"), "--into", str(into), "--device", "one GPU", "--notes", "a", "b"])
    assert (status, "left out c0: it failed" in capsys.readouterr().out) == (0, True)
    found = read_record(into)
    assert (found.method, found.data, found.width, found.epochs) == ("MGAN", "mnist", "32", "2")
    assert (found.commit, found.versions, found.precision, found.device) == ("abc", "torch 2", "32-true", "one GPU")
    assert (found.wall_time, found.images, found.notes) == ("10 to 12 seconds a run", "limit 9", ["a", "b"])
    assert set(found.commands) == {f"gan-lightning fit --seed_everything={seed}" for seed in range(3)}
    assert found.settings["base_width"] == 32
    assert [(runs.settings, list(runs.seeds)) for runs in found.runs] == [
        ({"shares_removed": 0}, [0]),
        ({"shares_removed": 4}, [0, 1, 2]),
    ]
    runs = found.of({"shares_removed": 4})
    by_seed = runs.find("transfer/classifier/paper/accuracy").by_seed
    assert list(by_seed.items()) == [("0", 0.92), ("1", 0.94), ("2", 0.945)]
    assert runs.find(DIFFERENCE).by_seed == pytest.approx({"0": 0.02, "1": 0.01, "2": 0.03})
    random = runs.find("transfer/classifier/paper/random_weights/accuracy")
    assert (random.figure.value, random.n, random.by_seed) == (0.8, None, {})
    assert runs.find("quality/j/fid", 1).by_seed["0"] == 0.92
    assert runs.published[accuracy("classifier").name]["value"] == 0.9578
    header, *rows = table_of(found, LAYOUTS["sharing"])
    assert [row[header.index("n")] for row in rows] == ["1", "3"]
    with pytest.raises(DataError, match="one group of runs must have the settings"):
        found.of({})


def test_a_record_may_keep_some_figures_alone_and_what_was_logged_at_the_end(tmp_path):
    write_run(tmp_path, "a", 0.9, 0.8, seed=0, shares_removed=4)
    (tmp_path / "a/metrics.csv").write_text("step,train/loss\n0,3.0\n1,2.0\n")
    only = ["transfer/*/random_weights/*", "quality/*"]
    found, _ = record_of([tmp_path], only=only, logged=["train/loss"], commands=["gan-lightning fit"])
    assert found.commands == ["gan-lightning fit"]
    kept = [(each.figure.name, each.figure.epoch, each.figure.value) for each in found.runs[0].measured]
    assert kept == [
        ("transfer/classifier/paper/random_weights/accuracy", None, 0.8), ("quality/j/fid", 2, 1.6),
        ("train/loss", 2, 2.0),
    ]  # fmt: skip
    with pytest.raises(SettingError, match="must name values that each run has logged, got train/gain, not in a"):
        record_of([tmp_path], logged=["train/gain"])


def test_several_models_are_told_apart_and_several_data_sets_are_refused(tmp_path):
    for i, model in enumerate(("MGAN", "BiGAN")):
        write_run(tmp_path / "one", str(i), 0.9, 0.9, seed=0, shares_removed=0, model=model)
    found, _ = record_of([tmp_path / "one"])
    assert (found.method, [runs.settings["method"] for runs in found.runs]) == ("MGAN; BiGAN", ["BiGAN", "MGAN"])
    write_run(tmp_path / "two", "c", 0.9, 0.9, seed=0, shares_removed=0, data="digits")
    with pytest.raises(SettingError, match="must have one data set, got digits, mnist"):
        record_of([tmp_path / "one", tmp_path / "two"])
    (tmp_path / "none").mkdir()
    with pytest.raises(SettingError, match="must have finished runs, got none"):
        record_of([tmp_path / "none"])


def test_the_command_says_which_pages_it_would_change(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: about mgan/x -->\n<!-- end -->\n")
    known = {"mgan/x": replace(record(*BOTH), device="a small one")}
    monkeypatch.setattr("benchmarks.results.__main__.read_records", lambda: known)
    monkeypatch.setattr("benchmarks.results.__main__.changed", lambda records: changed(records, [page]))
    assert main(["tables", "--check"]) == 1
    assert page.read_text().count("\n") == 2
    assert main(["tables"]) == 0
    assert "| device | a small one |" in page.read_text()
    assert (main(["tables", "--check"]), capsys.readouterr().out) == (0, f"{page}\n" * 2)
    page.write_text("<!-- table: about mgan/y -->\n<!-- end -->\n")
    with pytest.raises(SystemExit):
        main(["tables"])


def test_records_hold_no_path_of_a_machine():
    for file in RECORDS.rglob("*.json"):
        assert not re.search(r"[\"' =](/(home|work|tmp|root|mnt)/|[A-Z]:\\|\.\./)", file.read_text()), file
