"""The page as text: what it says without scripts, what its script reads, and what must not get into it."""

import base64
import gzip
import hashlib
import json
import random
import re
import resource
import subprocess
import sys
from html import unescape

import pytest

from gan_lightning.dashboard.dashboard_command import main
from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.page_data import panels
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.dashboard.statistics import estimate
from gan_lightning.errors import USAGE_ERROR, SettingError
from gan_lightning.figures import Figure


def page_of(root, **more) -> str:
    return build_page(read_folder(root), "A title", root, **more)


def data_of(page: str) -> dict:
    """Return what the page's script reads."""
    packed = re.search(r'<script type="application/gzip" id="page-data">(.*?)</script>', page).group(1)
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def words_of(page: str) -> str:
    """Return what can be read without scripts."""
    return unescape(re.sub(r"<[^>]*>", " ", page[page.index("<main>") : page.index("</main>")]))


def test_every_figure_is_in_the_page_once_with_its_mean_interval_and_seeds(ablation):
    data = data_of(page_of(ablation))
    names = [(figure["figure"], figure["axis"]) for figure in data["figures"]]
    assert len(set(names)) == len(names)
    index = names.index(("transfer/classifier/paper/accuracy", ""))
    (row,) = [
        row for row in data["means"] if row[0] == index and data["groups"][row[1]]["values"] == {"shares_removed": 4}
    ]
    expected = estimate([0.92, 0.94, 0.945])
    assert row[2:5] == pytest.approx([expected.mean, expected.low, expected.high], rel=1e-4)
    assert row[5:] == [3, 0.9578, [0.92, 0.94, 0.945]]
    index = names.index(("transfer/classifier - discriminator/paper/difference", ""))
    (row,) = [
        row for row in data["means"] if row[0] == index and data["groups"][row[1]]["values"] == {"shares_removed": 4}
    ]
    expected = estimate([0.02, 0.01, 0.03])
    assert row[2:7] == pytest.approx([expected.mean, expected.low, expected.high, 3, 0.0269], rel=1e-4)
    assert {"anatomy", "quality", "feeding", "transfer"} == {figure["measurement"] for figure in data["figures"]}
    share = {figure["metric"]: figure["share"] for figure in data["figures"]}
    assert share == {"accuracy": True, "row_share": True, "fid": False, "moved": False, "difference": False}
    over = names.index(("anatomy/discriminator/real/row_share", "training epoch"))
    assert [point[0] for point in next(own[2] for own in data["points"] if own[0] == over)] == [2, 5]


def test_charts_have_one_metric_and_probe_and_no_more_figures_than_colours():
    def name(**parts):
        known = {"measurement": "mine", "metric": "a", "subject": "", "protocol": "", "condition": "", "axis": ""}
        return known | parts

    kinds = [name(subject=subject, condition=condition) for subject in "abcd" for condition in "xy"]
    classes = [name(metric="b", condition=str(i)) for i in range(10)]
    found = list(panels([*kinds, *classes]))
    assert found == [
        ("a: x", [0, 2, 4, 6]), ("a: y", [1, 3, 5, 7]),
        ("b: 1 of 2", [8, 9, 10, 11, 12]), ("b: 2 of 2", [13, 14, 15, 16, 17]),
    ]  # fmt: skip
    probes = [
        name(measurement="transfer", metric="accuracy", subject="d", protocol=probe) for probe in ("paper", "tuned")
    ]
    chance = name(measurement="transfer", metric="accuracy", subject="chance")
    assert list(panels([*probes, chance])) == [("accuracy: paper", [0, 2]), ("accuracy: tuned", [1, 2])]


def test_beside_the_accuracies_of_a_data_set_stands_its_own_chance():
    def accuracy(subject, protocol, condition):
        parts = {"measurement": "transfer", "metric": "accuracy", "axis": ""}
        return parts | {"subject": subject, "protocol": protocol, "condition": condition}

    own = [accuracy("d", "tuned", condition) for condition in ("", "fresh_statistics")]
    far = [accuracy(each, "tuned", "far") for each in ("d", "c", "e")]
    fresh = [accuracy(each, "tuned", "far/fresh_statistics") for each in ("d", "c")]
    chances = [accuracy("chance", "", condition) for condition in ("", "far")]
    names = [*own, accuracy("c", "tuned", ""), accuracy("c", "tuned", "fresh_statistics"), *far, *fresh, *chances]
    assert dict(panels(names)) == {
        "accuracy: tuned": [0, 2, 9],
        "accuracy: tuned, fresh_statistics": [1, 3, 9],
        "accuracy: tuned, far": [4, 5, 6, 10],
        "accuracy: tuned, far/fresh_statistics": [7, 8, 10],
    }


def test_the_state_of_a_sweep_stands_at_the_top_with_the_errors_of_failed_trials(running_sweep):
    words = words_of(page_of(running_sweep))
    assert re.search(r"shared\s*: 11 of 15, 3 running, 1 failed", words)
    assert words.index("11 of 15") < words.index("with each layer")
    assert "train/generator_loss is NaN" in words
    data = data_of(page_of(running_sweep))
    running = [i for i, run in enumerate(data["runs"]) if run["status"] == "running"]
    assert len(running) == 3
    assert {curve[1] for curve in data["curves"]} >= set(running), "their curves are drawn"


def test_trials_and_runs_that_nobody_runs_are_killed_and_points_without_a_start_are_to_come(
    tmp_path, write_trial, open_run, hold
):
    for i in range(2):
        write_trial(tmp_path / f"digits/a{i}", index=i, parameters={"k": f"value {i}"})
        open_run(tmp_path / f"digits/a{i}/run", "running", i)
    write_trial(tmp_path / "digits/chosen", attempts=0)
    (tmp_path / "digits/sweep.json").write_text(json.dumps({"schema_version": 1, "total": 9}))
    open_run(tmp_path / "alone", "running", 0)
    with hold(tmp_path):
        page = page_of(tmp_path)
    assert re.search(r"digits\s*: 0 of 9, 2 running, 7 to come", words_of(page))
    assert "Single runs without figures: 1 killed" in words_of(page)
    assert [run["status"] for run in data_of(page)["runs"]] == ["killed", "running", "running"]
    page = page_of(tmp_path)
    assert re.search(r"digits\s*: 0 of 9, 2 killed, 7 to come", words_of(page))
    assert re.search(r'trial 1, {"k": "value 1"}: killed', words_of(page)), "it is among the failures"
    assert [run["status"] for run in data_of(page)["runs"]] == ["killed"] * 3


def test_runs_without_accuracies_or_without_figures_have_a_page(tmp_path, write_run, open_run):
    open_run(tmp_path / "open", "running", 0)
    assert "There is no finished run yet" in page_of(tmp_path)
    for seed in range(2):
        measured = [Figure(measurement="mine", metric="mean", value=0.5 + seed / 10)]
        write_run(tmp_path, f"r{seed}", {}, seed=seed, measured=measured, passed_over={"transfer": "no <labels>"})
    page = page_of(tmp_path)
    assert "The runs have no accuracies on frozen features of their own data" in page
    (row,) = data_of(page)["means"]
    assert row[2] == pytest.approx(0.55)
    assert data_of(page)["runs"][0]["passed"] == {"transfer": "no <labels>"}


def test_unlike_conditions_are_on_the_page(tmp_path, write_run):
    for model, epochs in (("A", 5), ("<b>", 10)):
        write_run(tmp_path, f"r{epochs}", {"discriminator": 0.9}, model=model, epochs=epochs)
    page = page_of(tmp_path)
    assert "<li>epochs is 5 for A; 10 for &lt;b&gt;</li>" in page


def test_lists_mappings_numbers_texts_and_nothing_are_settings(tmp_path, write_run):
    choices = [None, "auto", True, 0, 4.5, float("inf"), [1, 2], {"a": 1}, [{"class": "Mine"}], "😀" * 200]
    for i, value in enumerate(choices):
        write_run(tmp_path, str(i), {"discriminator": 0.9, "classifier": 0.8}, k=value)
    groups = data_of(page_of(tmp_path))["groups"]
    assert len(groups) == len(choices)
    assert page_of(tmp_path, x="k")


def test_only_scripts_of_the_page_run_and_names_stay_text(tmp_path, write_run):
    name = "</script><script>alert(1)<"
    write_run(tmp_path, "r", {"discriminator": 0.5}, model=name, option=name)
    write_run(tmp_path, "s", {"discriminator": 0.6}, model="other")
    page = page_of(tmp_path)
    assert "alert(1)" not in page.replace("&lt;/script&gt;&lt;script&gt;alert(1)&lt;", "")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page).group(1)
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{own}';" in policy
    assert "connect-src" not in policy
    assert "connect-src 'self'" in page_of(tmp_path, follow_seconds=1.0)


def test_a_link_to_wandb_is_a_web_address_or_no_link(tmp_path, write_run):
    for i, url in enumerate(("https://wandb.ai/a/b/runs/c", "javascript:alert(1)")):
        write_run(tmp_path, f"r{i}", {"discriminator": 0.5}, seed=i, about={"wandb": {"url": url}})
    assert [run["wandb"] for run in data_of(page_of(tmp_path))["runs"]] == ["https://wandb.ai/a/b/runs/c", ""]


def test_pictures_stand_beside_the_page_or_within_it(ablation):
    beside, inline = (data_of(page_of(ablation, inline=inline))["runs"][0]["pictures"] for inline in (False, True))
    assert beside == {"samples": [[None, "0/seed0/pictures/samples.png"]]}
    assert inline["samples"][0][1].startswith("data:image/png;base64,iVBOR")


def test_what_was_left_out_is_on_the_page_and_in_the_terminal(ablation, capsys):
    (ablation / "0/seed1/figures.json").write_text('{"schema_version": 1, "figures": [')
    assert main([str(ablation)]) == 0
    page = (ablation / "dashboard.html").read_text()
    assert "1 folder was left out" in page
    assert "<b>0/seed1</b>: figures.json is cut off or damaged" in page
    printed = capsys.readouterr().out
    assert "left out 0/seed1: figures.json is cut off" in printed
    assert "5 runs drawn, 1 left out" in printed


def test_a_folder_that_does_not_exist_or_has_no_runs_is_refused(tmp_path):
    with pytest.raises(SettingError, match="runs must be a folder that exists"):
        main([str(tmp_path / "nowhere")])
    with pytest.raises(SettingError, match=r"runs must be a folder with runs, got '.*': no run.json or trial.json"):
        main([str(tmp_path)])


@pytest.mark.slow
def test_a_folder_without_runs_ends_with_a_line_and_status_2(tmp_path):
    command = [sys.executable, "-m", "gan_lightning", "dashboard", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == USAGE_ERROR
    assert len(ended.stderr.strip().splitlines()) == 1


def test_the_dashboard_starts_without_the_libraries_of_training_and_without_scipys_tests(ablation):
    code = (
        f"import sys; from gan_lightning.dashboard.dashboard_command import main; main([{str(ablation)!r}]); "
        "print({'torch', 'lightning', 'wandb', 'torchvision', 'matplotlib', 'scipy.stats'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "set()"


def write_many(root, write_run, accuracy, runs: int) -> None:
    """Write runs as a sweep over MNIST leaves them: two probes, curves of 20 epochs, anatomy, quality, six losses."""
    rng = random.Random(0)
    for i in range(runs):
        names = [(e, w) for e in ("classifier", "discriminator") for w in ("trained", "random")]
        heads = [accuracy(e, rng.random(), "paper", weights=w, axis="head epoch", at=float(k))
                 for e, w in names for k in range(1, 21)]  # fmt: skip
        more = [accuracy(e, rng.random(), probe, weights=w) for e, w in names for probe in ("paper", "tuned")]
        anatomy = [Figure(measurement="anatomy", metric=f"share_{m}", value=rng.random(), subject=e, weights=w, epoch=k)
                   for e, w in names for m in range(6) for k in (5, 10, 15, 20)]  # fmt: skip
        quality = [Figure(measurement="quality", metric=str(m), value=100 * rng.random(), epoch=k)
                   for m in range(16) for k in (5, 10, 15, 20)]  # fmt: skip
        folder = write_run(root, f"sweep/{i}", {}, seed=i % 5, measured=[*heads, *more, *anatomy, *quality],
                           class_weight=0.001 * (1 + i // 5), generators=i % 7)  # fmt: skip
        losses = [",".join([str(step), *(f"{rng.random():.6f}" for _ in range(6))]) for step in range(240)]
        (folder / "metrics.csv").write_text("\n".join([",".join(["step", *"abcdef"]), *losses]) + "\n")


@pytest.mark.slow
def test_a_page_of_200_runs_has_at_most_5_megabytes_and_is_written_in_10_seconds_of_processor_time(
    tmp_path, write_run, accuracy
):
    write_many(tmp_path, write_run, accuracy, 200)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "gan_lightning", "dashboard", str(tmp_path)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    page = (tmp_path / "dashboard.html").read_text()
    assert len(page.encode()) < 5_000_000
    assert len(data_of(page)["runs"]) == 200


def test_the_charts_of_the_probe_above_its_controls_come_first_and_curves_last(shared_layers):
    data = data_of(page_of(shared_layers))
    first = [data["figures"][panel["figures"][0]] for panel in data["panels"]]
    assert [(figure["metric"], figure["protocol"]) for figure in first[:4]] == [
        ("accuracy", "tuned"), ("difference", "tuned"), ("accuracy", "paper"), ("difference", "paper"),
    ]  # fmt: skip
    axes = [figure["axis"] != "" for figure in first]
    assert axes == sorted(axes)
