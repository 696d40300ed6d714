"""Operations of a training step, counted by name."""

import json

import torch
from torch import nn

from benchmarks import __main__ as command
from benchmarks.operations import CountedOperations, operations_table


def test_operations_that_compute_or_copy_are_counted_and_views_are_not():
    layer, images = nn.Linear(3, 2, bias=False), torch.ones(4, 3)
    with CountedOperations() as counted:
        loss = layer(images.view(2, 2, 3).flatten(0, 1)).sum()
        loss.backward()
        torch.empty(3)
        layer.weight.grad.zero_()
    assert counted.counts == {"mm": 2, "sum": 1, "ones_like": 1, "zero_": 1}


def test_the_most_frequent_operation_comes_first_after_the_sums():
    table = operations_table("mgan", {"default": {"add": 1, "mm": 3}, "bf16": {"mm": 3, "copy": 9}})
    assert table[0] == "| mgan: operations of a step | default | bf16 |"
    assert table[2:] == ["| all | 4 | 12 |", "| `copy` | 0 | 9 |", "| `mm` | 3 | 3 |", "| `add` | 1 | 0 |"]


def test_the_operations_of_a_step_are_written_with_the_check_for_nan_of_a_gpu(tmp_path, capsys):
    command.main(
        ["--small", "--rows", "bigan", "--variants", "default", "bf16", "--operations", f"--output={tmp_path}"]
    )
    counts = json.loads((tmp_path / "operations.json").read_text())["steps"]["bigan"]
    assert counts["default"]["_fused_adam_"] == 2, "one optimizer of G and E, one of D"
    assert counts["default"]["masked_fill_"] == 1, "the flag of a loss that is not finite"
    assert counts["bf16"]["_to_copy"] > counts["default"].get("_to_copy", 0)
    assert f"| all | {sum(counts['default'].values())} | {sum(counts['bf16'].values())} |" in capsys.readouterr().out
