"""While the tests run, every shape annotation of the package is checked, and torch uses one thread.

Small matrices on many threads only wait for each other, and more so beside other test processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the processes that tests start

import functools
import gc
import importlib
import importlib.metadata
import signal

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# A process that was started in the background may ignore this signal, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup this one is ignored. The tests go on after a hangup then, too, but what they start is told of it as ever.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Until all is loaded, collecting garbage would only go through it again and again: a third of the time.
gc.disable()

# Each of the many trainers looks through all installed packages for callbacks.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)

if "PYTEST_XDIST_WORKER" in os.environ:
    # What is first loaded under the hook is compiled anew in every process, which takes seconds.
    for library in ("beartype", "lightning.pytorch.cli", "scipy.stats", "sklearn.manifold", "torchvision"):
        importlib.import_module(library)

install_import_hook("gan_lightning", "beartype.beartype")

# The first example pays for imports, and a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """Pass over tests that need a CUDA card, if there is none."""
    without = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(without)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each file's tests to one process, so that what they share is made once; the longest files come first."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by number of tests, which tells little of their time
    return LoadFileScheduling(config, log)


def pytest_collection_finish():
    """Collect garbage from here on, and leave alone what has been loaded."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _no_seed_of_an_earlier_test():
    """Forget what an earlier test gave to `seed_everything`: data and measurements would take it for their run's."""
    os.environ.pop("PL_GLOBAL_SEED", None)
