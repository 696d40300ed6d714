"""Starts Lightning without the parts of torchmetrics that nobody has asked for.

Lightning needs two classes of torchmetrics. To import them it runs the package's `__init__`, which loads all metrics
and for them torchvision, `scipy.signal` and `scipy.stats`: a fifth of the start of a command. Here the two classes are
loaded alone. The first use of anything else runs that `__init__`, unchanged.
"""

import importlib
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

from gan_lightning.system.private_names import give_torchmetrics_logger

PACKAGE = "torchmetrics"

PARTS = {
    "torchmetrics.utilities": (),
    "torchmetrics.metric": ("Metric",),
    "torchmetrics.collections": ("MetricCollection",),
    "torchmetrics.__about__": ("__version__",),
}
"""The modules that Lightning needs, in an order in which they can be imported, and what it takes of each."""


def without_unused_metrics() -> None:
    """Load what Lightning needs of torchmetrics, and put off the rest; to be called before Lightning is imported.

    A torchmetrics that cannot be loaded in parts is left alone: Lightning then loads the whole. So is one that has been
    loaded before.
    """
    spec = None if PACKAGE in sys.modules else find_spec(PACKAGE)
    if spec is None or spec.loader is None:
        return
    package = module_from_spec(spec)
    package.__class__ = _Part
    sys.modules[PACKAGE] = package
    try:
        give_torchmetrics_logger(package)
        for module, names in PARTS.items():
            part = importlib.import_module(module)
            for name in names:
                setattr(package, name, getattr(part, name))
    except Exception:  # another version, cut in other parts
        for name in [name for name in sys.modules if name == PACKAGE or name.startswith(f"{PACKAGE}.")]:
            del sys.modules[name]
        return
    sys.meta_path.insert(0, _WholeFirst())


class _Part(ModuleType):
    """The package before its `__init__` has run, which it does when something else than the parts is asked for."""

    def __getattr__(self, name: str) -> object:
        """Return an attribute of the whole package.

        Raises:
            AttributeError: There is none. Names with double underscores are asked of every module, and load nothing.
        """
        if name.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")
        _load_whole(self)
        return getattr(self, name)


_loading = threading.RLock()


def _load_whole(package: ModuleType) -> None:
    """Run the package's own `__init__`, once."""
    with _loading:
        if isinstance(package, _Part):
            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _WholeFirst)]
            package.__class__ = ModuleType  # type: ignore[assignment]
            spec = package.__spec__
            assert spec is not None
            assert spec.loader is not None
            spec.loader.exec_module(package)


class _WholeFirst(MetaPathFinder):
    """Has the package's `__init__` run before any further module of it is imported, as Python would."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Load the whole package for one of its modules, and hand over what came of it."""
        if not name.startswith(f"{PACKAGE}."):
            return None
        _load_whole(sys.modules[PACKAGE])
        loaded = sys.modules.get(name)
        return None if loaded is None else ModuleSpec(name, _Loaded(loaded))


class _Loaded(Loader):
    """Hands over a module that has been loaded meanwhile."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing a second time; importing has replaced the module's own spec."""
        module.__spec__ = self.spec
