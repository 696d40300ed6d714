"""Frozen features -> accuracies: one file a probe."""

from gan_lightning.evaluation.probes.few_shot import FewShotProbe
from gan_lightning.evaluation.probes.logistic import LogisticModel
from gan_lightning.evaluation.probes.many_rates import ManyRatesProbe
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
from gan_lightning.evaluation.probes.weighted import WeightedNeighboursProbe

__all__ = [
    "NEAREST",
    "PAPER",
    "TUNED",
    "FewShotProbe",
    "Head",
    "Judgement",
    "LogisticModel",
    "LogisticProbe",
    "ManyRatesProbe",
    "NearestProbe",
    "PaperProbe",
    "Probe",
    "Progress",
    "TunedProbe",
    "WeightedNeighboursProbe",
    "fit_logistic",
    "logistic_probe",
    "logistic_probes",
    "nearest_accuracy",
    "sgd_heads",
]
