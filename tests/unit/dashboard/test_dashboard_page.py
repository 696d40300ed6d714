"""The page as text: what can be read without scripts, and what must not get into it."""

import base64
import gzip
import hashlib
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from gan_lightning.dashboard.dashboard_command import main
from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.errors import SettingError
from gan_lightning.figures import Figure
from gan_lightning.system.files import SCHEMA_VERSION


def page_of(root) -> str:
    return build_page(read_folder(root), "A title", root)


def visible_rows(page: str) -> list[list[str]]:
    bodies = re.findall(r"<tbody data-row=\"[^\"]*\">(.*?)</tbody>", page)
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for body in bodies for line in re.findall("<tr>(.*?)</tr>", body)]


def page_data(page: str) -> dict:
    """Return what the page's script reads."""
    packed = re.search(r'<script type="application/gzip" id="page-data">(.*?)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def test_the_figures_stand_in_tables_without_scripts(ablation):
    page = page_of(ablation)
    rows = visible_rows(page)
    assert ["4", "paper", "+0.0200", "[-0.0048, +0.0448]", "3", "+0.0269"] in rows
    assert ["4", "classifier", "paper", "0.9350", "[0.9021, 0.9679]", "3", "0.9578", "0.8350", "-", "0.1000"] in rows
    # Of other measurements: conditions, controls that are one measurement, curves, and epochs of the training.
    share = "anatomy/discriminator/{}row_share"
    assert ["4", share.format("real/"), "-", "-", "0.6100", "[0.5852, 0.6348]", "3"] in rows
    assert ["4", share.format("random_weights/real/"), "-", "-", "0.0500", "-", "1"] in rows
    assert ["4", share.format("real/"), "training epoch", "2", "0.5100", "[0.4852, 0.5348]", "3"] in rows
    assert ["0", "feeding/moved", "round", "2", "0.2600", "[0.2352, 0.2848]", "3"] in rows
    assert ["0", "quality/small_classifier/fid", "123.56", "[123.31, 123.8]", "3"] in rows
    summaries = re.findall('class="measurement"><summary>(.*?)<', page)
    assert summaries == [
        "anatomy: 3 figures of 6 runs", "quality: 1 figure of 6 runs", "feeding: 1 figure of 6 runs",
    ]  # fmt: skip


def test_the_page_says_which_extractor_is_better_how_sure_that_is_and_what_the_paper_has(ablation, write_run):
    page = page_of(ablation)
    assert "no difference shown; the paper has +0.0269, inside our interval" in page
    assert "+0.0000</b> (n = 3: no interval); the same in each of 3 seeds, so that there is no spread" in page
    paper = {"discriminator": 0.9309, "classifier": 0.9578}
    for seed, shift in ((3, 0.021), (4, 0.019), (5, 0.02)):
        accuracies = {"discriminator": 0.9, "classifier": 0.9 + shift}
        write_run(ablation, f"more{seed}", accuracies, seed=seed, shares_removed=4, paper=paper)
    assert "<b>classifier is better</b>; the paper has +0.0269, outside our interval" in page_of(ablation)


def test_verdicts_are_corrected_for_all_comparisons_of_the_page(tmp_path, write_run):
    differences = (0.02, 0.015, 0.025)  # p = .020: below .05 alone and among two, not among three
    for settings in (1, 2, 3):
        for seed, difference in enumerate(differences):
            accuracies = {"discriminator": 0.9, "classifier": 0.9 + difference}
            write_run(tmp_path, f"{settings}-{seed}", accuracies, seed=seed, shares_removed=settings)
        page = page_of(tmp_path)
        assert page.count("<b>classifier is better</b>") == (settings if settings < 3 else 0)
        assert page.count("a difference if it stood alone, none among all on this page") == (3 if settings == 3 else 0)
        assert (f"corrected for {settings} comparisons (Holm)" in page) == (settings > 1)


def test_equal_differences_decide_nothing(tmp_path, write_run):
    for seed in range(2):
        write_run(tmp_path, f"a{seed}", {"discriminator": 0.9, "classifier": 0.95}, seed=seed)
    page = page_of(tmp_path)
    assert "+0.0500</b> (n = 2: no interval); equal in all of 2 seeds, so that there is no spread to judge by" in page
    assert "is better" not in page


def test_extractors_that_no_run_has_both_of_are_not_compared(tmp_path, write_run):
    write_run(tmp_path, "a", {"classifier": 0.9}, model="A")
    write_run(tmp_path, "b", {"discriminator": 0.8}, model="B")
    titles = re.findall("<section><h2>(.*?)</h2>", page_of(tmp_path))
    assert titles == ["Accuracy against method", "Accuracies", "The probe over its epochs", "Runs"]


def test_runs_without_the_transfer_evaluation_are_drawn_by_what_they_have(tmp_path, write_run):
    for seed in range(2):
        measured = [Figure(measurement="mine", metric="mean", value=0.5 + seed / 10)]
        write_run(tmp_path, f"r{seed}", {}, seed=seed, measured=measured, passed_over={"transfer": "no <labels>"})
    page = page_of(tmp_path)
    assert re.findall("<section><h2>(.*?)</h2>", page) == ["Every figure", "Runs"]
    assert ["MGAN", "mine/mean", "0.5500", "[-0.0853, 1.1853]", "2"] in visible_rows(page)
    assert '<th class="text">transfer</th><td class="wide">no &lt;labels&gt;</td>' in page
    assert 'name="probe"' not in page


def test_a_measurement_that_only_some_runs_have_splits_no_others(ablation, write_run):
    own = [Figure(measurement="mine", metric="mean", value=0.5)]
    write_run(ablation, "more", {"discriminator": 0.9, "classifier": 0.9}, seed=9, shares_removed=4, measured=own,
              sections={"mine": {"rounds": 3}})  # fmt: skip
    page = page_of(ablation)
    assert "mine: 1 figure of 1 of 7 runs" in page
    assert ["4", "mine/mean", "0.5000", "-", "1"] in visible_rows(page)
    assert '<select name="mine.rounds">' not in page
    assert any(row[:2] == ["4", "classifier"] and row[5] == "4" for row in visible_rows(page)), "four seeds"


def test_a_run_is_shown_with_all_its_figures_and_pictures(ablation):
    page = page_of(ablation)
    card = page[page.index('<details class="run"') :]
    assert '<h3>anatomy</h3><div class="scroll"><table><tr><th class="text"></th><th>row_share</th></tr>' in card
    assert '<tr><td class="text">discriminator · random weights · real</td><td>0.0500</td></tr>' in card
    assert '<tr><td class="text">small_classifier</td><td>123.46</td></tr>' in card
    assert "<figcaption>pictures/samples.png</figcaption>" in card


def test_unlike_conditions_are_on_the_page(tmp_path, write_run):
    for model, epochs in (("A", 5), ("<b>", 10)):
        write_run(tmp_path, f"r{epochs}", {"discriminator": 0.9}, model=model, epochs=epochs)
    page = page_of(tmp_path)
    assert "Not under the same conditions:<ul><li>epochs is 5 for A; 10 for &lt;b&gt;</li></ul>" in page


def test_one_seed_is_said_to_decide_nothing(tmp_path, write_run):
    write_run(tmp_path, "a", {"discriminator": 0.9, "classifier": 0.95}, shares_removed=4)
    assert "n = 1: no interval); one seed decides nothing" in page_of(tmp_path)


def test_every_figures_data_are_in_the_page_for_csv_files(ablation):
    page = page_of(ablation)
    tables = page_data(page)["tables"]
    files = {name for name in tables if name.endswith(".csv")}
    assert set(re.findall(r'data-csv="(.*?)"', page)) == files
    assert files == {
        f"{name}.csv" for name in ("accuracy", "difference", "epochs", "runs", "anatomy", "quality", "feeding")
    }
    table = tables["difference.csv"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    (row,) = [row for row in rows if (row["x"], row["seed"]) == ("4", "all")]
    assert row["mean"] == pytest.approx(0.02)
    assert len(tables["runs.csv"]["rows"]) == 6 * 9
    for chart in page_data(page)["charts"]:
        assert chart["where"].keys() <= set(tables[chart["table"]]["columns"]), "there are such rows"


def test_names_stay_text_wherever_they_stand(ablation, write_run):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    names = {
        name: f"{name}{evil}😀{'long' * 50}" for name in ("measurement", "metric", "subject", "protocol", "condition")
    }
    own = [Figure(**names, value=0.5), Figure(**names, value=0.4, axis=evil, at=1.0), Figure(**names, value=1e300)]
    own += [replace(own[0], epoch=i, metric=evil) for i in (1, 2)]
    for seed, probe in enumerate(("paper", f"p{evil}")):
        write_run(
            ablation, f"=1+1{evil}{seed}", {f"e{evil}": 0.9, f"f{evil}": 0.8}, seed=seed, model=f"m{evil}",
            data=f"d{evil}", probe=probe, paper={f"e{evil}": 0.7}, measured=own, passed_over={evil: evil},
            sections={evil: {evil: evil}}, about={"command": [evil], "git_commit": evil}, **{f"s{evil}": f"v{evil}"},
        )  # fmt: skip
    (ablation / f"broken{evil.replace('/', '')}").mkdir(parents=True)
    (ablation / f"broken{evil.replace('/', '')}/run.json").write_text("{")
    for name, index in (("t1", 3), ("t2", evil)):
        (ablation / f"sweep{evil.replace('/', '')}/{name}").mkdir(parents=True)
        record = {"schema_version": SCHEMA_VERSION, "id": name, "index": index, "parameters": {evil: evil},
                  "status": evil, "error": evil, "seconds": 1.0}  # fmt: skip
        (ablation / f"sweep{evil.replace('/', '')}/{name}/trial.json").write_text(json.dumps(record))
    for runs in (ablation, ablation / "=1+1<"):
        page = page_of(runs)
        text = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)  # the library and the page's own
        assert "alert(1)</script>" not in text
        assert "<img src=x" not in text
    assert "e&lt;/script&gt;" in text
    assert evil in str(page_data(page)), "there, and packed"
    assert any(re.fullmatch(r"measurement[\w.-]{69}\.csv", name) for name in page_data(page)["tables"])


def test_scripts_are_allowed_by_their_hashes_alone(ablation):
    page = page_of(ablation)
    policy = re.search('Content-Security-Policy" content="(.*?)"', page).group(1)
    scripts = re.findall("<script>(.*?)</script>", page, flags=re.DOTALL)
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}';" in policy
    assert "connect-src" not in policy


def test_a_link_to_wandb_is_a_web_address_or_no_link(tmp_path, write_run):
    for i, url in enumerate(("https://wandb.ai/a/b/runs/c", "javascript:alert(1)")):
        write_run(tmp_path, f"r{i}", {"discriminator": 0.5}, seed=i, about={"wandb": {"url": url}})
    page = page_of(tmp_path)
    assert 'href="https://wandb.ai/a/b/runs/c"' in page
    assert 'href="javascript:' not in page


@pytest.mark.slow
def test_the_page_is_at_most_three_megabytes_plus_its_pictures_for_two_whole_sweeps(tmp_path, write_run):
    """Forty runs as `sweeps/mgan/shared_layers_*.yaml` leave them: 3 and 5 seeds, two probes, anatomy and quality."""
    rng = np.random.default_rng(0)
    shared = {"class_weight": 0.02, "generator_lr": 0.02, "discriminator_lr": 0.02}
    names = [(e, w) for e in ("classifier", "discriminator") for w in ("trained", "random")] + [("pixels", "none")]
    shares = ["row_share_total", "row_share_within", "row_share_between", "accuracy", "row_accuracy", "null_accuracy"]
    for data, seeds in (("digits", 3), ("mnist", 5)):
        for seed, removed in itertools.product(range(seeds), range(5)):
            accuracies = [
                Figure(
                    measurement="transfer",
                    metric="accuracy",
                    value=rng.random(),
                    subject=e,
                    weights=w,
                    protocol=p,
                    **at,
                )
                for e, w in names
                for p, places in (("paper", range(1, 21)), ("tuned", ()))
                for at in ({}, *({"axis": "head epoch", "at": float(place)} for place in places))
            ]
            anatomy = [
                Figure(
                    measurement="anatomy",
                    metric=metric,
                    value=rng.random(),
                    subject=e,
                    weights=w,
                    condition=kind,
                    epoch=k,
                )
                for (e, w), kind, metric in itertools.product(names[:4], ("real", "generated"), shares)
                for k in ((5, 10, 15, 20) if w == "trained" else (20,))
            ]
            quality = [
                Figure(
                    measurement="quality", metric=metric, value=100 * rng.random(), protocol="small_classifier", epoch=k
                )
                for metric in ("fid", "kid", "precision", "recall", "density", "coverage", *map(str, range(10)))
                for k in (5, 10, 15, 20)
            ]
            folder = write_run(
                tmp_path, f"mgan-shared-layers-{data}/{removed}{seed}0e4eb82/20261122-072844-{removed}{seed}ee",
                {}, seed=seed, data=data, paper={"discriminator": 0.9309, "classifier": 0.9578}, shares_removed=removed,
                about={"git_commit": "2fbd80cae6b208e23d7885e85982bf09a7f6c90a", "versions": {"torch": "2.14.1"}},
                measured=[*accuracies, *anatomy, *quality], **shared,
            )  # fmt: skip
            columns = ["step", *(f"train/{name}_loss" for name in "abc"), *(f"val/{name}_loss" for name in "ab")]
            lines = [",".join([str(i), *map(str, rng.random(5))]) for i in range(240)]
            (folder / "metrics.csv").write_text("\n".join([",".join(columns), *lines]) + "\n")
    found = read_folder(tmp_path)
    assert len(found.runs) == 40
    page = re.sub(r"data:image/png;base64,[^\"]*", "", build_page(found, "Two sweeps", tmp_path))
    assert len(page_data(page)["tables"]["epochs.csv"]["rows"]) == 5 * 5 * 20 * (1 + 3 + 1 + 5)
    assert 1_500_000 < len(page.encode()) < 3_000_000


def test_an_axis_of_numbers_texts_and_nothing_is_drawn(tmp_path, write_run):
    choices = [(None, 100, 1000), ("auto", 1, 2), (True, False), (None,), (0, 4, None), (float("inf"), 1.0)]
    for i, values in enumerate(choices):
        for value in values:
            write_run(tmp_path / str(i), str(value), {"discriminator": 0.9, "classifier": 0.8}, k=value)
        page = build_page(read_folder(tmp_path / str(i)), "A title", tmp_path, "k")
        table = page_data(page)["tables"]["accuracy.csv"]
        drawn = {row[table["columns"].index("x")] for row in table["rows"]}
        assert drawn == {f"{value:g}" if isinstance(value, float) else str(value) for value in values}


def test_the_largest_and_the_smallest_figures_are_drawn(tmp_path, write_run):
    most = sys.float_info.max
    for seed, value in enumerate((most, -most, most)):
        of = [Figure(measurement="mine", metric=f"m{i}", value=value * by) for i, by in enumerate((1, 1e-320, 0.0))]
        of += [replace(each, axis="round", at=float(at)) for each in of[:1] for at in (1, 2)]
        write_run(tmp_path, f"r{seed}", {"discriminator": 0.5}, seed=seed, measured=of)
    rows = visible_rows(page_of(tmp_path))
    assert ["MGAN", "mine/m0", "-", "-", "5.9923e+307", "-", "3"] in rows, "an interval beyond all numbers is none"
    assert ["MGAN", "mine/m2", "-", "-", "0.0000", "-", "3"] in rows


def test_figures_that_are_too_many_for_the_colours_are_spread_over_charts(tmp_path, write_run):
    kinds = [Figure(measurement="mine", metric="a", value=0.5, subject=s, condition=c) for s in "abcd" for c in "xy"]
    classes = [Figure(measurement="mine", metric="b", value=0.5, condition=str(i)) for i in range(10)]
    write_run(tmp_path, "r", {}, measured=[*kinds, *classes])
    page = page_of(tmp_path)
    charts = page_data(page)["charts"][:4]
    assert [chart["where"] for chart in charts] == [
        {"metric": "a", "axis": "", "condition": "x", "variant": ""},
        {"metric": "a", "axis": "", "condition": "y", "variant": ""},
        {"metric": "b", "axis": "", "series": list("01234"), "variant": ""},
        {"metric": "b", "axis": "", "series": list("56789"), "variant": ""},
    ]
    assert re.findall('<h3>(.*?)</h3><div class="chart late"', page) == ["a: x", "a: y", "b (1 of 2)", "b (2 of 2)"]


def test_the_glance_names_the_probe_where_there_are_several(ablation, write_run):
    assert "probe paper" not in glance(page_of(ablation))
    for seed in range(2):
        accuracies = {"discriminator": 0.95, "classifier": 0.9 - seed / 1000}
        write_run(ablation, f"tuned{seed}", accuracies, seed=seed, shares_removed=0, probe="tuned")
    lines = glance(page_of(ablation)).split("<li")
    assert sum("shares_removed = 0, probe paper:" in line for line in lines) == 1
    assert sum("shares_removed = 0, probe tuned:" in line for line in lines) == 1


def glance(page: str) -> str:
    return re.search(r"<h2>At a glance</h2>(.*?)</section>", page).group(1)


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    assert "There is no finished run to draw yet." in page_of(tmp_path)


def test_what_was_left_out_is_on_the_page_and_in_the_terminal(ablation, capsys):
    (ablation / "0/seed1/figures.json").write_text('{"schema_version": 1, "figures": [')
    assert main([str(ablation)]) == 0
    page = (ablation / "dashboard.html").read_text()
    assert "1 folder was left out" in page
    assert "<b>0/seed1</b>: figures.json is cut off or damaged" in page
    printed = capsys.readouterr().out
    assert "left out 0/seed1: figures.json is cut off" in printed
    assert "5 runs drawn, 1 left out" in printed


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SettingError, match="runs must be a folder that exists"):
        main([str(tmp_path / "nowhere")])


def test_without_the_drawing_library_the_message_says_how_to_install_it(ablation, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(SettingError, match=r"pip install 'gan-lightning\[dashboard\]'"):
        page_of(ablation)


def test_the_dashboard_starts_without_the_libraries_of_training(ablation):
    code = (
        f"import sys; from gan_lightning.dashboard.dashboard_command import main; main([{str(ablation)!r}]); "
        "print({'torch', 'lightning', 'wandb', 'torchvision'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "set()"
