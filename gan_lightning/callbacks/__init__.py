"""When to evaluate, draw and write; never how."""

from gan_lightning.callbacks.predictions import FeatureWriter
from gan_lightning.callbacks.progress import LossBar
from gan_lightning.callbacks.run_folder import RunFolder
from gan_lightning.callbacks.samples import SampleGrid
from gan_lightning.callbacks.subproblem import SubproblemMonitor
from gan_lightning.callbacks.transfer import TransferEvaluation

__all__ = ["FeatureWriter", "LossBar", "RunFolder", "SampleGrid", "SubproblemMonitor", "TransferEvaluation"]
