"""Figures that the papers print, to stand beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One figure printed in a paper.

    Attributes:
        model: Class name of the model.
        data: The data set's `name`.
        settings: The model's settings that the figure depends on.
        figure: Name of our figure that it is the counterpart of.
        value: As printed; accuracies in [0, 1].
        source: Paper and table.
    """

    model: str
    data: str
    settings: Mapping[str, object]
    figure: str
    value: float
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


def _accuracy(extractor: str, probe: str) -> str:
    return f"transfer/{extractor}/{probe}/accuracy"


PUBLISHED: tuple[Published, ...] = (
    *(
        Published(
            "MGAN", "mnist", {"shares_removed": r}, _accuracy(extractor, "paper"), accuracy, "Mao et al. 2022, Table 2"
        )
        for r, accuracies in _MAO_TABLE_2.items()
        for extractor, accuracy in zip(("discriminator", "classifier"), accuracies, strict=True)
    ),
    *(
        Published(model, "mnist", settings, _accuracy(extractor, "nearest"), accuracy, "Donahue et al. 2017, Table 1")
        for model, settings, extractor, accuracy in _DONAHUE_TABLE_1
    ),
)


def published_for(model: str, data: str, settings: Mapping[str, object]) -> dict[str, Published]:
    """Return the figures printed for a model with these settings on this data set, under the names of ours.

    Settings that a figure does not name, such as a reduced width, do not hide it: what differs from the paper is the
    reader's to see in the run's configuration.
    """
    return {
        each.figure: each
        for each in PUBLISHED
        if each.model == model
        and each.data == data
        and all(settings.get(name) == value for name, value in each.settings.items())
    }
