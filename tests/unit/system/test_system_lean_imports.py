"""A package is loaded in parts first, and whole as soon as anything else of it is asked for."""

import importlib
import subprocess
import sys

import pytest

from gan_lightning.system import lean_imports
from gan_lightning.system.lean_imports import without_unused_metrics

SOURCES = {
    "__init__.py": "from lean_example import everything\nfrom lean_example.metric import Metric\nWHOLE = True\n",
    "metric.py": "from lean_example import _logger\nclass Metric: ...\n",
    "everything/__init__.py": "from lean_example import metric\nfrom lean_example.everything import inner\n",
    "everything/inner.py": "made = object()\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a package like torchmetrics, which is the one to load in parts."""
    folder = tmp_path / "lean_example"
    for name, source in SOURCES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lean_imports, "PACKAGE", "lean_example")
    monkeypatch.setattr(lean_imports, "PARTS", {"lean_example.metric": ("Metric",)})
    finders = list(sys.meta_path)
    yield folder
    sys.meta_path[:] = finders
    for name in [name for name in sys.modules if name.startswith("lean_example")]:
        del sys.modules[name]


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("lean_example")}


def test_the_parts_are_loaded_alone(package):
    without_unused_metrics()
    from lean_example import Metric

    assert loaded() == {"lean_example", "lean_example.metric"}
    assert Metric is sys.modules["lean_example.metric"].Metric
    assert not hasattr(sys.modules["lean_example"], "__wrapped__"), "what is asked of every module loads nothing"
    assert "lean_example.everything" not in loaded()


@pytest.mark.parametrize("first", ["attribute", "module", "module of a module"])
def test_anything_else_loads_the_whole_with_the_same_parts(package, first):
    without_unused_metrics()
    import lean_example

    part, finders = lean_example.Metric, len(sys.meta_path)
    if first == "attribute":
        assert lean_example.WHOLE
    elif first == "module":
        assert importlib.import_module("lean_example.everything").inner.made
    else:
        assert importlib.import_module("lean_example.everything.inner").made
    assert lean_example.WHOLE
    assert lean_example.Metric is part
    assert len(sys.meta_path) == finders - 1
    assert type(lean_example) is type(sys)
    for name in ("lean_example.everything", "lean_example.everything.inner"):
        module = sys.modules[name]
        assert module.__spec__.origin == module.__file__, "a module keeps the spec that it was loaded by"
    with pytest.raises(AttributeError, match="nothing"):
        _ = lean_example.nothing
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        importlib.import_module("lean_example.nothing")


def test_a_package_that_is_cut_otherwise_is_loaded_whole(package):
    (package / "metric.py").write_text("from lean_example.everything import nothing\n")
    before = list(sys.meta_path)
    without_unused_metrics()
    assert loaded() == set()
    assert sys.meta_path == before
    (package / "metric.py").write_text(SOURCES["metric.py"].replace("from lean_example import _logger\n", ""))
    importlib.invalidate_caches()
    import lean_example

    assert lean_example.WHOLE


def test_a_package_that_is_loaded_or_missing_is_left_alone(package, monkeypatch):
    before = list(sys.meta_path)
    (package / "metric.py").write_text("class Metric: ...\n")
    import lean_example

    without_unused_metrics()
    assert type(lean_example) is type(sys)
    monkeypatch.setattr(lean_imports, "PACKAGE", "lean_missing")
    without_unused_metrics()
    assert sys.meta_path == before


@pytest.mark.slow
def test_torchmetrics_itself_is_whole_once_a_metric_is_asked_for():
    program = """
import sys
from gan_lightning.system.lean_imports import without_unused_metrics
without_unused_metrics()
from lightning.pytorch import LightningModule
assert not {"torchvision", "scipy.signal", "scipy.stats", "torchmetrics.functional"} & set(sys.modules)
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.classification import MulticlassAccuracy
import torchmetrics
assert issubclass(FrechetInceptionDistance, Metric) and issubclass(MulticlassAccuracy, Metric)
assert torchmetrics.Accuracy and type(torchmetrics) is type(sys)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
