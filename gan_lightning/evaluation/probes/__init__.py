"""Frozen features -> accuracies: one file a probe."""

from gan_lightning.evaluation.probes.logistic import LogisticModel
from gan_lightning.evaluation.probes.nearest import NEAREST, NearestProbe, nearest_accuracy
from gan_lightning.evaluation.probes.paper import PAPER, Head, PaperProbe, sgd_heads
from gan_lightning.evaluation.probes.probe import Judgement, Probe, Progress
from gan_lightning.evaluation.probes.tuned import (
    TUNED,
    LogisticProbe,
    TunedProbe,
    fit_logistic,
    logistic_probe,
    logistic_probes,
)

__all__ = [
    "NEAREST",
    "PAPER",
    "TUNED",
    "Head",
    "Judgement",
    "LogisticModel",
    "LogisticProbe",
    "NearestProbe",
    "PaperProbe",
    "Probe",
    "Progress",
    "TunedProbe",
    "fit_logistic",
    "logistic_probe",
    "logistic_probes",
    "nearest_accuracy",
    "sgd_heads",
]
