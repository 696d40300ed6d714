"""How good frozen features are: features.py extracts, linear.py and nearest.py classify, transfer.py does both."""

from gan_lightning.evaluation.depth import DEPTH, DepthProtocol, DepthRecord, frozen_depth
from gan_lightning.evaluation.features import (
    RawPixels,
    estimate_batch_norm_statistics,
    extract_features,
    frozen,
    reconstruction_statistics,
)
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
    "DepthProtocol",
    "DepthRecord",
    "Head",
    "LogisticModel",
    "LogisticProbe",
    "NearestProtocol",
    "PaperProtocol",
    "Progress",
    "RawPixels",
    "Reconstruction",
    "SummaryRow",
    "TensorBatches",
    "TensorImages",
    "TransferRecord",
    "TunedProtocol",
    "drawn_images",
    "estimate_batch_norm_statistics",
    "evaluate_transfer",
    "extract_features",
    "filters_picture",
    "first_images",
    "fit_logistic",
    "frozen",
    "frozen_depth",
    "image_reconstruction",
    "latent_reconstruction",
    "logistic_probe",
    "nearest_accuracy",
    "nearest_neighbours",
    "neighbours_picture",
    "random_copy",
    "reconstruction_statistics",
    "reconstructions_picture",
    "sgd_heads",
    "summary",
]
