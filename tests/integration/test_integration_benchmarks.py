"""The benchmarks run."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_time_of_a_split_step_is_printed_beside_a_direct_ones(monkeypatch, capsys):
    sizes = ["--base_width=1", "--batch_size=2", "--rounds=2", "--batches=1"]
    monkeypatch.setattr(sys, "argv", ["subproblem_step.py", *sizes])
    runpy.run_path(str(BENCHMARKS / "subproblem_step.py"), run_name="__main__")
    *rounds, last = capsys.readouterr().out.splitlines()
    ratios = [float(line.rsplit(" ", 1)[1]) for line in rounds if line.startswith("round")]
    assert len(ratios) == 2
    found = re.fullmatch(r"ratio split / direct: median ([\d.]+), from ([\d.]+) to ([\d.]+)", last)
    assert found
    assert [float(value) for value in found.groups()[1:]] == [min(ratios), max(ratios)]


def test_the_alarm_of_the_density_ratio_is_judged_run_by_run(monkeypatch, capsys, tmp_path):
    sizes = ["--seeds", "0", "2", "--steps", "60", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["density_ratio_alarm.py", *sizes])
    runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"), run_name="__main__")
    results = json.loads((tmp_path / "results.json").read_text())
    settings, rules = len(results["settings"]), len(results["rules"])
    assert len(results["outcomes"]) == 2 * settings * rules
    assert len(list(tmp_path.glob("*.png"))) == settings
    assert len(re.findall(r"^\| \w.*\| 2 \|", capsys.readouterr().out, flags=re.MULTILINE)) == settings * rules


def test_a_run_is_that_of_its_seed_whatever_runs_beside_it():
    script = runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"))
    setting = script["Setting"](generators=2, class_weight=0.1, steps=20)
    (_, beside), (alone,) = (script["trained"](setting, seeds, 16) for seeds in ([3, 4], [4]))
    assert len(alone) == 3
    for one, other in zip(beside, alone, strict=True):
        assert one.ratio.metrics() == pytest.approx(other.ratio.metrics(), rel=1e-3)
        assert one.near_modes == pytest.approx(other.near_modes, abs=2e-3)


def test_a_run_is_judged_by_when_its_diversity_fell():
    script = runpy.run_path(str(BENCHMARKS / "density_ratio_alarm.py"))
    setting, outcome, rule = script["Setting"], script["outcome"], script["AlarmRule"](warm_up=2, watch="spread")

    def judged(modes: str, high: tuple[int, ...], **settings) -> tuple:
        def ratio(i: int):
            values = torch.linspace(-1, 1, 9) * (9 if i in high else 1)
            return script["ratio_statistics"](values)

        checks = [script["Check"](10 * i, ratio(i), int(count), 1.0) for i, count in enumerate(modes)]
        found = outcome(setting(steps=100, **settings), checks, rule)
        return tuple(found[name] for name in ("verdict", "fall", "first_alarm", "lead"))

    fell = "0288881112"  # covered at check 4, fallen at 6
    rising = {"rise": 15.0, "rise_from": 0.3}
    assert judged(fell, (6, 7), **rising) == ("alarm", 60, 60, 0)
    assert judged(fell, (5, 7), **rising) == ("alarm", 60, 50, 10)
    assert judged(fell, (5,), rise=15.0, rise_from=0.6) == ("false alarm", 60, 50, None)  # nothing had risen yet
    assert judged(fell, (), **rising) == ("missed", 60, None, None)
    assert judged("0888111111", (9,), **rising) == ("alarm", 40, 90, -50)
    assert judged("0888818888", (5,), **rising) == ("never fell, alarm", None, 50, None)  # one check is no fall
    assert judged("0888888888", (), healthy=True) == ("silent", None, None, None)
    assert judged("0888888888", (8,), healthy=True) == ("false alarm", None, 80, None)


def test_what_a_step_exchanges_and_computes_is_counted_and_its_times_follow_from_the_rates(capsys, monkeypatch):
    script = runpy.run_path(str(BENCHMARKS / "scaling_on_paper.py"))
    monkeypatch.setattr(sys, "argv", ["scaling_on_paper.py", "--settings", "BiGAN, MNIST", "--latency", "0"])
    script["main"]()
    cells = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    # Rows of the MLPs: G 50-1024-1024-784, E 784-1024-1024-50, D 784-1024-1024-1 with z at the last two.
    generator, discriminator = 1024 * (50 + 1024 + 784), 1024 * (784 + 1024 + 1) + 50 * 1025
    weights = 2 * generator + discriminator
    assert cells[:3] == ["BiGAN, MNIST", f"{weights / 1e6:.1f}M", f"{4 * weights / 1e6:.1f}"]
    # Forwards and backwards: three products a weight but for the first layers, D's twice since it sees two kinds.
    most = 6 * 128 * (2 * generator + 2 * discriminator)
    assert 0.7 * most < float(cells[3].replace(",", "")) * 1e9 < 1.4 * most
    assert float(cells[7]) == pytest.approx(1e3 * 2 * 7 / 8 * 4 * weights / 450e9, abs=0.01)


@pytest.mark.slow
def test_ways_to_average_gradients_are_timed_in_turn(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "processes.py"), "--width=2", "--batch_size=20", "--rounds=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in done.stdout.splitlines() if " | " in line}
    exchanges = {way: int(row[1]) for way, row in rows.items() if row[1].isdigit()}
    assert exchanges.keys() == {"once", "search", "networks", "silent", "alone", "half"}
    assert (exchanges["once"], exchanges["half"], exchanges["silent"], exchanges["alone"]) == (2, 2, 0, 0)
    assert exchanges["search"] >= 3
