"""Everything that can be measured of a trained model: one file each, all of one shape.

A measurement of one paper alone stands in the paper's folder.
"""

from gan_lightning.figures import Figure
from gan_lightning.measurements.attentive import Attentive
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.depth import FrozenDepth
from gan_lightning.measurements.embedding import Embedding
from gan_lightning.measurements.feeding import IterativeFeeding
from gan_lightning.measurements.filters import Filters
from gan_lightning.measurements.kept_class import KeptClass
from gan_lightning.measurements.layer_accuracy import LayerAccuracy
from gan_lightning.measurements.layer_likeness import LayerLikeness
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.neighbours import Neighbours
from gan_lightning.measurements.quality import Quality
from gan_lightning.measurements.reconstruction import Reconstruction
from gan_lightning.measurements.robustness import Robustness
from gan_lightning.measurements.samples import Samples
from gan_lightning.measurements.similarity import Similarity
from gan_lightning.measurements.spectrum import FeatureSpectrum
from gan_lightning.measurements.synthetic_data import SyntheticData
from gan_lightning.measurements.together import Together
from gan_lightning.measurements.transfer import Transfer
from gan_lightning.measurements.variations import Variations
from gan_lightning.measurements.voc_classification import VocClassification
from gan_lightning.measurements.voc_detection import VocDetection
from gan_lightning.measurements.voc_segmentation import VocSegmentation

MEASUREMENTS: tuple[type[Measurement], ...] = (
    Transfer,
    Together,
    Robustness,
    FrozenDepth,
    Attentive,
    FeatureSpectrum,
    LayerLikeness,
    VocClassification,
    VocDetection,
    VocSegmentation,
    LayerAccuracy,
    Quality,
    Reconstruction,
    KeptClass,
    Samples,
    Filters,
    Neighbours,
    IterativeFeeding,
    Similarity,
    Variations,
    Embedding,
    SyntheticData,
)
"""Measurements for any model. The command line knows them by their names, and papers' own beside them."""

__all__ = [
    "MEASUREMENTS",
    "Attentive",
    "Bench",
    "Embedding",
    "FeatureSpectrum",
    "Figure",
    "Filters",
    "FrozenDepth",
    "IterativeFeeding",
    "KeptClass",
    "LayerAccuracy",
    "LayerLikeness",
    "Measurement",
    "Neighbours",
    "Outcome",
    "Quality",
    "Reconstruction",
    "Robustness",
    "Samples",
    "Similarity",
    "SyntheticData",
    "Together",
    "Transfer",
    "Variations",
    "VocClassification",
    "VocDetection",
    "VocSegmentation",
]
