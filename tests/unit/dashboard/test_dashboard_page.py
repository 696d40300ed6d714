"""The page as text: what can be read without scripts, and what must not get into it."""

import csv
import io
import json
import re
import sys
from urllib.parse import unquote
from urllib.request import urlopen

import pytest

from gan_lightning.dashboard.command import main
from gan_lightning.dashboard.page import build_page, page_version
from gan_lightning.dashboard.reading import read_folder
from gan_lightning.dashboard.serve import make_server
from gan_lightning.errors import SettingError


def page_of(root) -> str:
    return build_page(read_folder(root), "A title", root)


def visible_rows(page: str) -> list[list[str]]:
    lines = re.findall(r"<tr data-row=\"[^\"]*\">(.*?)</tr>", page)
    return [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]


def test_the_figures_stand_in_tables_without_scripts(ablation):
    rows = visible_rows(page_of(ablation))
    assert ["4", "paper", "+0.0200", "[-0.0048, +0.0448]", "3", "+0.0269"] in rows
    assert ["4", "classifier", "paper", "0.9350", "[0.9021, 0.9679]", "3", "0.9578", "0.8350", "-"] in rows


def test_the_page_says_which_extractor_is_better_how_sure_that_is_and_what_the_paper_has(ablation, write_run):
    page = page_of(ablation)
    assert "no difference shown; the paper has +0.0269, inside our interval" in page
    assert "the same network" in page
    paper = {"discriminator": 0.9309, "classifier": 0.9578}
    for seed, shift in ((3, 0.021), (4, 0.019), (5, 0.02)):
        accuracies = {"discriminator": 0.9, "classifier": 0.9 + shift}
        write_run(ablation, f"more{seed}", accuracies, seed=seed, shares_removed=4, paper=paper)
    assert "<b>classifier is better</b>; the paper has +0.0269, outside our interval" in page_of(ablation)


def test_one_seed_is_said_to_decide_nothing(tmp_path, write_run):
    write_run(tmp_path, "a", {"discriminator": 0.9, "classifier": 0.95}, shares_removed=4)
    assert "n = 1: no interval); one seed decides nothing" in page_of(tmp_path)


def test_every_figures_data_are_csv_files_in_the_page(ablation):
    links = dict(re.findall(r'<a download="(\w+\.csv)" href="data:text/csv;charset=utf-8,([^"]*)"', page_of(ablation)))
    assert set(links) == {"accuracy.csv", "difference.csv", "epochs.csv", "runs.csv"}
    rows = list(csv.DictReader(io.StringIO(unquote(links["difference.csv"]))))
    (row,) = [row for row in rows if (row["x"], row["seed"]) == ("4", "all")]
    assert float(row["mean"]) == pytest.approx(0.02)
    assert len(list(csv.DictReader(io.StringIO(unquote(links["runs.csv"]))))) == 6 * 4


def test_names_stay_text_and_no_spreadsheet_takes_one_for_a_formula(ablation, write_run):
    write_run(
        ablation,
        "=1+1</script><script>alert(1)</script>",
        {"discriminator": 0.9},
        model="<img src=x>",
        shares_removed=4,
    )
    (ablation / "broken</script><b>").mkdir(parents=True)
    (ablation / "broken</script><b>/run.json").write_text("{")
    page = page_of(ablation)
    assert "<script>alert(1)" not in page
    assert "<img src=x>" not in page
    assert "broken</script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    data = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', page).group(1)
    json.loads(data)
    runs_csv = re.search(r'download="runs.csv" href="data:text/csv;charset=utf-8,([^"]*)"', page).group(1)
    assert "'=1+1" in unquote(runs_csv)


def test_a_link_to_wandb_is_a_web_address_or_no_link(tmp_path, write_run):
    for i, url in enumerate(("https://wandb.ai/a/b/runs/c", "javascript:alert(1)")):
        write_run(tmp_path, f"r{i}", {"discriminator": 0.5}, seed=i, about={"wandb": {"url": url}})
    page = page_of(tmp_path)
    assert 'href="https://wandb.ai/a/b/runs/c"' in page
    assert 'href="javascript:' not in page


def test_the_page_is_at_most_three_megabytes_plus_its_pictures_for_twenty_five_runs(tmp_path, write_run):
    for seed in range(5):
        for removed in range(5):
            accuracies = {"discriminator": 0.9 + seed / 100, "classifier": 0.9}
            write_run(tmp_path, f"{removed}-{seed}", accuracies, seed=seed, shares_removed=removed)
            folder = tmp_path / f"{removed}-{seed}"
            names = [f"{stage}/{name}_loss" for stage in ("train", "val") for name in ("g", "d", "c")]
            lines = [",".join(["step", *names]), *(",".join([str(i), *["1.2345678"] * 6]) for i in range(2500))]
            (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
            results = json.loads((folder / "results.json").read_text())
            results["records"] = [r | {"epoch": e} for r in results["records"][::2] for e in range(1, 21)]
            (folder / "results.json").write_text(json.dumps(results))
    page = re.sub(r"data:image/png;base64,[^\"]*", "", page_of(tmp_path))
    assert len(page.encode()) < 3_000_000
    assert "http-equiv" in page


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


def test_a_served_page_follows_the_runs(ablation, write_run):
    from threading import Thread

    def make_page() -> str:
        return build_page(read_folder(ablation), "A title", ablation, None, follow_seconds=1.0)

    with make_server(ablation, 0, make_page) as server:
        Thread(target=server.serve_forever, daemon=True).start()

        def get(path: str) -> str:
            with urlopen(f"http://127.0.0.1:{server.server_port}{path}") as answer:
                return answer.read().decode()

        page, before = get("/"), get("/version")
        assert page_version(page) == before == get("/version")
        assert '"status": "finished"' in get("/0/seed0/run.json")
        write_run(ablation, "new", {"discriminator": 0.9, "classifier": 0.91}, seed=9, shares_removed=4)
        assert get("/version") != before
        assert "new" in get("/")
        server.shutdown()
