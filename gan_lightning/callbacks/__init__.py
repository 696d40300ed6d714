"""When to measure, draw, save and write; never how."""

from gan_lightning.callbacks.acceleration import Acceleration
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.contract import ModelContract
from gan_lightning.callbacks.counting import StepCount
from gan_lightning.callbacks.density_ratio import DensityRatioMonitor
from gan_lightning.callbacks.finite import FiniteGuard
from gan_lightning.callbacks.interruption import Interruption
from gan_lightning.callbacks.measure import Measure
from gan_lightning.callbacks.predictions import FeatureWriter
from gan_lightning.callbacks.process_watch import ProcessWatch
from gan_lightning.callbacks.progress import LossBar
from gan_lightning.callbacks.random_streams import RandomStreams
from gan_lightning.callbacks.run_folder import RunFolder
from gan_lightning.callbacks.subproblem import SubproblemMonitor

__all__ = [
    "Acceleration",
    "Checkpoints",
    "DensityRatioMonitor",
    "FeatureWriter",
    "FiniteGuard",
    "Interruption",
    "LossBar",
    "Measure",
    "ModelContract",
    "ProcessWatch",
    "RandomStreams",
    "RunFolder",
    "StepCount",
    "SubproblemMonitor",
]
