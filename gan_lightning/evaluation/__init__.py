"""How good frozen features are: features.py extracts, linear.py and nearest.py classify, transfer.py does both.

How good generated images are: quality.py has the figures, judges.py the networks, generation.py does both.
"""

from gan_lightning.evaluation.charts import curves_picture, shares_picture
from gan_lightning.evaluation.depth import DEPTH, DepthProtocol, DepthRecord, frozen_depth
from gan_lightning.evaluation.features import (
    RawPixels,
    estimate_batch_norm_statistics,
    extract_features,
    frozen,
    reconstruction_statistics,
)
from gan_lightning.evaluation.generation import Measured, QualityReference, generator_count
from gan_lightning.evaluation.judges import FeatureNetwork, ImportedNetwork, Inception, Judge, SmallClassifier
from gan_lightning.evaluation.linear import (
    PAPER,
    TUNED,
    Head,
    LogisticModel,
    LogisticProbe,
    PaperProtocol,
    TunedProtocol,
    fit_logistic,
    logistic_probe,
    sgd_heads,
)
from gan_lightning.evaluation.nearest import (
    NEAREST,
    NearestProtocol,
    nearest_accuracy,
    nearest_neighbours,
)
from gan_lightning.evaluation.pictures import (
    drawn_images,
    filters_picture,
    first_images,
    neighbours_picture,
    reconstructions_picture,
)
from gan_lightning.evaluation.quality import (
    ClassBalance,
    Quality,
    RankCorrelation,
    class_balance,
    frechet_distance,
    kernel_distance,
    manifold_figures,
    measure_quality,
    rank_correlation,
)
from gan_lightning.evaluation.reconstruction import Reconstruction, image_reconstruction, latent_reconstruction
from gan_lightning.evaluation.tensors import TensorBatches, TensorImages
from gan_lightning.evaluation.transfer import (
    RAW_PIXELS,
    BatchNorm,
    Progress,
    SummaryRow,
    TransferRecord,
    evaluate_transfer,
    random_copy,
    summary,
)

__all__ = [
    "DEPTH",
    "NEAREST",
    "PAPER",
    "RAW_PIXELS",
    "TUNED",
    "BatchNorm",
    "ClassBalance",
    "DepthProtocol",
    "DepthRecord",
    "FeatureNetwork",
    "Head",
    "ImportedNetwork",
    "Inception",
    "Judge",
    "LogisticModel",
    "LogisticProbe",
    "Measured",
    "NearestProtocol",
    "PaperProtocol",
    "Progress",
    "Quality",
    "QualityReference",
    "RankCorrelation",
    "RawPixels",
    "Reconstruction",
    "SmallClassifier",
    "SummaryRow",
    "TensorBatches",
    "TensorImages",
    "TransferRecord",
    "TunedProtocol",
    "class_balance",
    "curves_picture",
    "drawn_images",
    "estimate_batch_norm_statistics",
    "evaluate_transfer",
    "extract_features",
    "filters_picture",
    "first_images",
    "fit_logistic",
    "frechet_distance",
    "frozen",
    "frozen_depth",
    "generator_count",
    "image_reconstruction",
    "kernel_distance",
    "latent_reconstruction",
    "logistic_probe",
    "manifold_figures",
    "measure_quality",
    "nearest_accuracy",
    "nearest_neighbours",
    "neighbours_picture",
    "random_copy",
    "rank_correlation",
    "reconstruction_statistics",
    "reconstructions_picture",
    "sgd_heads",
    "shares_picture",
    "summary",
]
