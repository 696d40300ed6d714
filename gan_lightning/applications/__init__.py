"""What a trained encoder and generator are good for, of any model that has both: each application is one class."""

from gan_lightning.applications.base import Application, Outcome, encoding_model
from gan_lightning.applications.embedding import Embedding
from gan_lightning.applications.feeding import IterativeFeeding
from gan_lightning.applications.samples import Samples
from gan_lightning.applications.similarity import Similarity
from gan_lightning.applications.synthetic import SyntheticData
from gan_lightning.applications.variations import Variations

__all__ = [
    "Application",
    "Embedding",
    "IterativeFeeding",
    "Outcome",
    "Samples",
    "Similarity",
    "SyntheticData",
    "Variations",
    "encoding_model",
]
