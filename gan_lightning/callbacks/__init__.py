"""When to evaluate, draw and write; never how."""

from gan_lightning.callbacks.acceleration import Acceleration
from gan_lightning.callbacks.anatomy import FeatureAnatomy
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.density_ratio import DensityRatioMonitor
from gan_lightning.callbacks.depth import FrozenDepth
from gan_lightning.callbacks.interruption import Interruption
from gan_lightning.callbacks.pictures import FeaturePictures
from gan_lightning.callbacks.predictions import FeatureWriter
from gan_lightning.callbacks.process_watch import ProcessWatch
from gan_lightning.callbacks.progress import LossBar
from gan_lightning.callbacks.quality import GenerationQuality
from gan_lightning.callbacks.random_streams import RandomStreams
from gan_lightning.callbacks.reconstructions import Reconstructions
from gan_lightning.callbacks.run_folder import RunFolder
from gan_lightning.callbacks.samples import SampleGrid
from gan_lightning.callbacks.subproblem import SubproblemMonitor
from gan_lightning.callbacks.transfer import TransferEvaluation

__all__ = [
    "Acceleration",
    "Checkpoints",
    "DensityRatioMonitor",
    "FeatureAnatomy",
    "FeaturePictures",
    "FeatureWriter",
    "FrozenDepth",
    "GenerationQuality",
    "Interruption",
    "LossBar",
    "ProcessWatch",
    "RandomStreams",
    "Reconstructions",
    "RunFolder",
    "SampleGrid",
    "SubproblemMonitor",
    "TransferEvaluation",
]
