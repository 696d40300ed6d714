"""While the tests run, every shape annotation of the package is checked, and torch uses one thread.

Small matrices on many threads only wait for each other, and more so beside other test processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the processes that tests start

from jaxtyping import install_import_hook

install_import_hook("gan_lightning", "beartype.beartype")
