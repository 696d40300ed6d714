"""Train the GANs of the feature-learning papers, freeze them, and measure their features."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lightning.export.extractor import load_extractor as load_extractor
    from gan_lightning.export.trained_run import load_run as load_run

__version__ = "0.1.0"

_MODULES = {"load_extractor": "export.extractor", "load_run": "export.trained_run"}
"""The module of each public function, below this package."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public function from its module when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
