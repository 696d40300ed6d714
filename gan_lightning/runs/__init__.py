"""Runs: the moments to measure, draw, save and write, and the places of the results."""

from gan_lightning.runs.checkpoints import Checkpoints
from gan_lightning.runs.contract import ModelContract
from gan_lightning.runs.counting import StepCount
from gan_lightning.runs.finite import FiniteGuard
from gan_lightning.runs.interruption import Interruption
from gan_lightning.runs.measure import Measure
from gan_lightning.runs.predictions import FeatureWriter
from gan_lightning.runs.process_watch import ProcessWatch
from gan_lightning.runs.progress import LossBar
from gan_lightning.runs.random_streams import RandomStreams
from gan_lightning.runs.run_folder import RunFolder
from gan_lightning.runs.trainer import Trainer

__all__ = [
    "Checkpoints",
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
    "Trainer",
]
