"""The page as text: what can be read without scripts, and what must not get into it."""

import base64
import gzip
import hashlib
import itertools
import json
import re
import sys
from dataclasses import asdict

import numpy as np
import pytest

from gan_lightning.dashboard.command import main
from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.reading import read_folder
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import PaperProtocol, TunedProtocol


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
    rows = visible_rows(page_of(ablation))
    assert ["4", "paper", "+0.0200", "[-0.0048, +0.0448]", "3", "+0.0269"] in rows
    assert ["4", "classifier", "paper", "0.9350", "[0.9021, 0.9679]", "3", "0.9578", "0.8350", "-"] in rows


def test_the_page_says_which_extractor_is_better_how_sure_that_is_and_what_the_paper_has(ablation, write_run):
    page = page_of(ablation)
    assert "no difference shown; the paper has +0.0269, inside our interval" in page
    assert "+0.0000</b> (n = 3: no interval); the same in each of 3 seeds, so that there is no spread" in page
    paper = {"discriminator": 0.9309, "classifier": 0.9578}
    for seed, shift in ((3, 0.021), (4, 0.019), (5, 0.02)):
        accuracies = {"discriminator": 0.9, "classifier": 0.9 + shift}
        write_run(ablation, f"more{seed}", accuracies, seed=seed, shares_removed=4, paper=paper)
    assert "<b>classifier is better</b>; the paper has +0.0269, outside our interval" in page_of(ablation)


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
    assert titles == ["Accuracy against method", "Accuracies", "The paper&#x27;s probe over its epochs", "Runs"]


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
    assert set(re.findall(r'data-csv="(.*?)"', page)) == set(tables)
    assert set(tables) == {"accuracy.csv", "difference.csv", "epochs.csv", "runs.csv"}
    table = tables["difference.csv"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    (row,) = [row for row in rows if (row["x"], row["seed"]) == ("4", "all")]
    assert row["mean"] == pytest.approx(0.02)
    assert len(tables["runs.csv"]["rows"]) == 6 * 4


def test_names_stay_text_wherever_they_stand(ablation, write_run):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    for seed, protocol in enumerate(("paper", f"p{evil}")):
        write_run(
            ablation, f"=1+1{evil}{seed}", {f"e{evil}": 0.9, f"f{evil}": 0.8}, seed=seed, model=f"m{evil}",
            data=f"d{evil}", protocol=protocol, paper={f"e{evil}": 0.7}, **{f"s{evil}": f"v{evil}"},
            about={"command": [evil], "git_commit": evil},
        )  # fmt: skip
    (ablation / f"broken{evil.replace('/', '')}").mkdir(parents=True)
    (ablation / f"broken{evil.replace('/', '')}/run.json").write_text("{")
    for name, index in (("t1", 3), ("t2", evil)):
        (ablation / f"sweep{evil.replace('/', '')}/{name}").mkdir(parents=True)
        record = {"schema_version": 1, "id": name, "index": index, "parameters": {evil: evil}, "status": evil,
                  "error": evil, "seconds": 1.0}  # fmt: skip
        (ablation / f"sweep{evil.replace('/', '')}/{name}/trial.json").write_text(json.dumps(record))
    for runs in (ablation, ablation / "=1+1<"):
        page = page_of(runs)
        text = re.sub("<script>.*?</script>", "", page, flags=re.DOTALL)  # the library and the page's own
        assert "alert(1)</script>" not in text
        assert "<img src=x" not in text
    assert "e&lt;/script&gt;" in text
    assert evil in str(page_data(page)), "there, and packed"


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
    """Forty runs as `sweeps/mgan_shared_layers_*.yaml` leave them: 3 and 5 seeds, two protocols, twenty epochs."""
    rng = np.random.default_rng(0)
    protocols = {"paper": PaperProtocol(epochs=20), "tuned": TunedProtocol()}
    for data, seeds in (("digits", 3), ("mnist", 5)):
        for seed, removed in itertools.product(range(seeds), range(5)):
            folder = write_run(
                tmp_path, f"mgan-shared-layers-{data}/{removed}{seed}0e4eb82/20261122-072844-{removed}{seed}ee",
                {}, seed=seed, data=data, paper={"discriminator": 0.9309, "classifier": 0.9578},
                shares_removed=removed, **dict.fromkeys(("class_weight", "generator_lr", "discriminator_lr"), 0.02),
                about={"git_commit": "2fbd80cae6b208e23d7885e85982bf09a7f6c90a", "versions": {"torch": "2.14.1"}},
            )  # fmt: skip
            extractors = [(e, w) for e in ("classifier", "discriminator") for w in ("trained", "random")]
            records = [
                {"extractor": e, "weights": w, "protocol": protocol, "epoch": epoch, "accuracy": rng.random(),
                 "seconds": 1.0, "strength": None, "features": 128}
                for e, w in [*extractors, ("pixels", "none")]
                for protocol, epochs in (("paper", range(1, 21)), ("tuned", [None]))
                for epoch in epochs
            ]  # fmt: skip
            results = json.loads((folder / "results.json").read_text())
            results |= {"records": records, "protocols": {name: asdict(own) for name, own in protocols.items()}}
            (folder / "results.json").write_text(json.dumps(results))
            names = ["generator", "discriminator", "classifier"]
            figures = [f"transfer/{e}/{p}/{f}" for e in names[1:] for p in protocols
                       for f in ("accuracy", "random_weights", "raw_pixels")]  # fmt: skip
            columns = ["step", *(f"train/{name}_loss" for name in names), *(f"val/{name}_loss" for name in names[1:])]
            lines = [",".join([str(i), *map(str, rng.random(5))]) for i in range(240)]
            lines += [",".join(["240", *[""] * 5, *map(str, rng.random(len(figures)))])]
            (folder / "metrics.csv").write_text("\n".join([",".join([*columns, *figures]), *lines]) + "\n")
    found = read_folder(tmp_path)
    assert len(found.runs) == 40
    page = re.sub(r"data:image/png;base64,[^\"]*", "", build_page(found, "Two sweeps", tmp_path))
    assert len(page_data(page)["tables"]["epochs.csv"]["rows"]) == 5 * 5 * 20 * (1 + 3 + 1 + 5)
    assert 1_500_000 < len(page.encode()) < 3_000_000


@pytest.mark.parametrize(
    "values",
    [(None, 100, 1000), ("auto", 1, 2), (True, False), (None,), (0, 4, None), (float("inf"), 1.0)],
    ids=str,
)
def test_an_axis_of_numbers_texts_and_nothing_is_drawn(tmp_path, write_run, values):
    for value in values:
        write_run(tmp_path, str(value), {"discriminator": 0.9, "classifier": 0.8}, k=value)
    page = build_page(read_folder(tmp_path), "A title", tmp_path, "k")
    (chart,) = [chart for chart in page_data(page)["charts"] if chart["id"] == "accuracy-0"]
    column = chart["rows"]["columns"].index("x")
    drawn = {row[column] for row in chart["rows"]["rows"]}
    assert drawn == {f"{value:g}" if isinstance(value, float) else str(value) for value in values}


def test_the_glance_names_the_protocol_where_there_are_several(ablation, write_run):
    assert "protocol paper" not in glance(page_of(ablation))
    for seed in range(2):
        accuracies = {"discriminator": 0.95, "classifier": 0.9 - seed / 1000}
        write_run(ablation, f"tuned{seed}", accuracies, seed=seed, shares_removed=0, protocol="tuned")
    lines = glance(page_of(ablation)).split("<li")
    assert sum("shares_removed = 0, protocol paper:" in line for line in lines) == 1
    assert sum("shares_removed = 0, protocol tuned:" in line for line in lines) == 1


def glance(page: str) -> str:
    return re.search(r"<h2>At a glance</h2>(.*?)</section>", page).group(1)


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    assert "There is no finished run to draw yet." in page_of(tmp_path)


def test_what_was_left_out_is_on_the_page_and_in_the_terminal(ablation, capsys):
    (ablation / "0/seed1/results.json").write_text('{"schema_version": 1, "records": [')
    assert main([str(ablation)]) == 0
    page = (ablation / "dashboard.html").read_text()
    assert "1 folder was left out" in page
    assert "<b>0/seed1</b>: results.json is cut off or damaged" in page
    printed = capsys.readouterr().out
    assert "left out 0/seed1: results.json is cut off" in printed
    assert "5 runs drawn, 1 left out" in printed


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(SettingError, match="runs must be a folder that exists"):
        main([str(tmp_path / "nowhere")])


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_without_the_drawing_library_the_message_says_how_to_install_it(ablation, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingError, match=r"pip install 'gan-lightning\[dashboard\]'"):
        page_of(ablation)
