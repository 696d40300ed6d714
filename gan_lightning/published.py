"""Figures that the papers print, to stand beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One accuracy printed in a paper.

    Attributes:
        model: Class name of the model.
        data: The data set's `name`.
        settings: The model's settings that the figure depends on.
        extractor: Name of the extractor.
        protocol: Name of the evaluation protocol.
        accuracy: Share of right answers, in [0, 1].
        source: Paper and table.
    """

    model: str
    data: str
    settings: Mapping[str, object]
    extractor: str
    protocol: str
    accuracy: float
    source: str


_MAO_TABLE_2 = {  # shares removed: (discriminator, classifier); one seed each
    0: (0.9592, 0.9589),
    1: (0.9427, 0.9574),
    2: (0.9394, 0.9612),
    3: (0.9365, 0.9617),
    4: (0.9309, 0.9578),
}

# 1NN on MNIST, one seed each, on the layer that is best in the authors' code: the one before the output.
_DONAHUE_TABLE_1: tuple[tuple[str, Mapping[str, object], str, float], ...] = (
    ("BiGAN", {}, "encoder_hidden", 0.9739),
    ("GAN", {}, "discriminator", 0.9730),
    ("LatentRegressor", {"joint_weight": 0.0}, "encoder_hidden", 0.9744),
    ("LatentRegressor", {"joint_weight": 0.25}, "encoder_hidden", 0.9713),
    ("Autoencoder", {"norm": 2}, "encoder_hidden", 0.9758),
    ("Autoencoder", {"norm": 1}, "encoder_hidden", 0.9763),
)

PUBLISHED: tuple[Published, ...] = (
    *(
        Published("MGAN", "mnist", {"shares_removed": r}, extractor, "paper", accuracy, "Mao et al. 2022, Table 2")
        for r, accuracies in _MAO_TABLE_2.items()
        for extractor, accuracy in zip(("discriminator", "classifier"), accuracies, strict=True)
    ),
    *(
        Published(model, "mnist", settings, extractor, "nearest", accuracy, "Donahue et al. 2017, Table 1")
        for model, settings, extractor, accuracy in _DONAHUE_TABLE_1
    ),
)


def published_for(model: str, data: str, settings: Mapping[str, object]) -> list[Published]:
    """Return the figures printed for a model with these settings on this data set.

    Settings that a figure does not name, such as a reduced width, do not hide it: what differs from the paper is the
    reader's to see in the run's configuration.
    """
    return [
        figure
        for figure in PUBLISHED
        if figure.model == model
        and figure.data == data
        and all(settings.get(name) == value for name, value in figure.settings.items())
    ]
