"""The benchmarks run."""

import re
import runpy
import sys
from pathlib import Path

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
