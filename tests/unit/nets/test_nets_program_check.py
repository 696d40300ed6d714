"""Exported programs with code in their graphs are refused before torch reads them; honest ones are not."""

import json
import re
import zipfile

import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.weights_file import read_program


class Halving(nn.Module):
    """Has expressions of sizes, conditions on them, another graph, a text and a tree of outputs."""

    def forward(self, images):
        height, width = images.shape[2:]
        maps = nn.functional.interpolate(images, size=(height // 2 + 1, (width * 2) // 3))
        with torch.no_grad():
            maps = torch.einsum("bchw,bchw->bc", maps, maps) + 1
        return {"maps": (maps, [maps.sum()])}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "halving.pt2"
    dims = {0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    torch.export.save(torch.export.export(Halving(), (torch.rand(2, 3, 16, 24),), dynamic_shapes=(dims,)), path)
    return path


def changed(program, path, change=lambda graph: None, also=()):
    """Write a program with a changed graph, and further parts."""
    with zipfile.ZipFile(program) as good, zipfile.ZipFile(path, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if "/models/" in name:
                graph = json.loads(content)
                change(graph)
                content = json.dumps(graph).encode()
            bad.writestr(name, content)
        for name in also:
            bad.writestr(f"{good.namelist()[0].split('/')[0]}/{name}", "{}")
    return str(path)


def test_a_program_with_sizes_conditions_and_texts_is_read(program, tmp_path):
    images = torch.rand(2, 3, 16, 24)
    graph = {}
    path = changed(program, tmp_path / "same.pt2", graph.update)
    assert "expr_str" in json.dumps(graph)
    found = read_program(path).module()(images)["maps"][0]
    assert torch.equal(found, Halving()(images)["maps"][0])


CALL = "__import__('os').mkdir('ran')"


def _of_sizes(graph, text):
    values = json.dumps(graph).replace('"expr_str": "', f'"expr_str": {json.dumps(text)[:-1]} + ')
    graph.update(json.loads(values))


def _of_node(graph, target):
    graph["graph_module"]["graph"]["nodes"][0]["target"] = target


def _of_name(graph, name):
    text = json.dumps(graph).replace('"images"', json.dumps(name))
    graph.update(json.loads(text))


def _of_guard(graph, text):
    graph["guards_code"] = [text]


def _of_tree(graph, kind):
    text = json.dumps(graph).replace("builtins.list", kind)
    graph.update(json.loads(text))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_of_sizes, CALL),
        (_of_sizes, "Symbol.mro()"),
        (_of_sizes, "open('ran')"),
        (_of_sizes, "Add('print(1)')"),
        (_of_sizes, "(lambda: 1)()"),
        (_of_node, "torch.os.system"),
        (_of_node, "torch.ops.load_library.__call__"),
        (_of_node, "torch.ops.aten.__class__.mro"),
        (_of_node, "_operator.methodcaller"),
        (_of_node, "torch.ops.higher_order.triton_kernel_wrapper_mutation"),
        (_of_name, f"images={CALL}"),
        (_of_guard, CALL),
        (_of_guard, "L['x'].register_hook(print)"),
        (_of_tree, "collections.defaultdict"),
    ],
)  # fmt: skip
def test_a_graph_with_code_is_refused_and_runs_none(program, tmp_path, monkeypatch, change, text):
    monkeypatch.chdir(tmp_path)
    path = changed(program, tmp_path / "bad.pt2", lambda graph: change(graph, text))
    said = rf"bad\.pt2', which holds what could run code when it is loaded \(.*json: .*{re.escape(text[:10])}"
    with pytest.raises(SettingError, match=said):
        read_program(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["models/HALVING.json", "data/sample_inputs/other.PT", "models/other\\.json"])
def test_further_parts_are_refused(program, tmp_path, name):
    path = changed(program, tmp_path / "bad.pt2", also=["models/halving.json", name])
    with pytest.raises(SettingError, match=r"could run code when it is loaded \((two parts|.*other)"):
        read_program(path)
