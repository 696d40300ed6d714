"""The mathematics of measurements: features.py extracts, probes/ classify, controls.py has random weights.

The quality of generated images: distribution_distances.py has the figures, judges.py the networks, generation.py uses
both.
"""

from gan_lightning.evaluation.chosen import drawn_images
from gan_lightning.evaluation.controls import Control, control_of, random_copy
from gan_lightning.evaluation.curves import curves_chart, picture_of, shares_chart
from gan_lightning.evaluation.depth_protocol import DEPTH, DepthProtocol, DepthRecord, frozen_depth
from gan_lightning.evaluation.distribution_distances import (
    ClassBalance,
    QualityFigures,
    RankCorrelation,
    class_balance,
    frechet_distance,
    kernel_distance,
    manifold_figures,
    measure_quality,
    rank_correlation,
)
from gan_lightning.evaluation.features import (
    RawPixels,
    check_extractor,
    estimate_batch_norm_statistics,
    extract_features,
    frozen,
    reconstruction_statistics,
)
from gan_lightning.evaluation.generation import Measured, QualityReference
from gan_lightning.evaluation.judges import FeatureNetwork, ImportedNetwork, Inception, Judge, SmallClassifier
from gan_lightning.evaluation.neighbour_search import nearest_neighbours
from gan_lightning.evaluation.pictures import filters_picture, neighbours_picture, reconstructions_picture
from gan_lightning.evaluation.probes import (
    NEAREST,
    PAPER,
    TUNED,
    Head,
    Judgement,
    LogisticModel,
    LogisticProbe,
    NearestProbe,
    PaperProbe,
    Probe,
    Progress,
    TunedProbe,
    fit_logistic,
    logistic_probe,
    logistic_probes,
    nearest_accuracy,
    sgd_heads,
)
from gan_lightning.evaluation.reconstruction_errors import image_reconstruction, latent_reconstruction
from gan_lightning.evaluation.tensors import TensorBatches, TensorImages

__all__ = [
    "DEPTH",
    "NEAREST",
    "PAPER",
    "TUNED",
    "ClassBalance",
    "Control",
    "DepthProtocol",
    "DepthRecord",
    "FeatureNetwork",
    "Head",
    "ImportedNetwork",
    "Inception",
    "Judge",
    "Judgement",
    "LogisticModel",
    "LogisticProbe",
    "Measured",
    "NearestProbe",
    "PaperProbe",
    "Probe",
    "Progress",
    "QualityFigures",
    "QualityReference",
    "RankCorrelation",
    "RawPixels",
    "SmallClassifier",
    "TensorBatches",
    "TensorImages",
    "TunedProbe",
    "check_extractor",
    "class_balance",
    "control_of",
    "curves_chart",
    "drawn_images",
    "estimate_batch_norm_statistics",
    "extract_features",
    "filters_picture",
    "fit_logistic",
    "frechet_distance",
    "frozen",
    "frozen_depth",
    "image_reconstruction",
    "kernel_distance",
    "latent_reconstruction",
    "logistic_probe",
    "logistic_probes",
    "manifold_figures",
    "measure_quality",
    "nearest_accuracy",
    "nearest_neighbours",
    "neighbours_picture",
    "picture_of",
    "random_copy",
    "rank_correlation",
    "reconstruction_statistics",
    "reconstructions_picture",
    "sgd_heads",
    "shares_chart",
]
