"""While the tests run, every shape annotation of the package is checked, and torch uses one thread.

Small matrices on many threads only wait for each other, and more so beside other test processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the processes that tests start

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("gan_lightning", "beartype.beartype")

# The first example pays for imports, and a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
