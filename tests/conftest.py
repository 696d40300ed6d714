"""While the tests run, every shape annotation of the package is checked, and torch uses one thread.

Small matrices on many threads only wait for each other, and more so beside other test processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the processes that tests start

import importlib

from hypothesis import settings
from jaxtyping import install_import_hook

if "PYTEST_XDIST_WORKER" in os.environ:
    # What is first loaded under the hook is compiled anew in every process, which takes seconds.
    for library in ("beartype", "lightning.pytorch.cli", "scipy.stats", "sklearn.manifold", "torchvision"):
        importlib.import_module(library)

install_import_hook("gan_lightning", "beartype.beartype")

# The first example pays for imports, and a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
