"""What the measurements on PASCAL VOC share: their images' channels, and one table laid out as the paper's Table 3."""

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

from rich.table import Table
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.figures import Figure
from gan_lightning.interfaces import PublishedFigure
from gan_lightning.measurements.bench import Bench
from gan_lightning.measurements.figure_tables import weights_table

logger = logging.getLogger(__name__)

VocControl = Literal["random", "kmeans"]
"""Kinds of new weights of the convolutions. With all layers trained, these are trainings from scratch."""

VOC_COLUMNS = {
    "voc_classification": ("mean_average_precision", "classification, {}"),
    "voc_detection": ("mean_average_precision", "detection"),
    "voc_segmentation": ("mean_iou", "segmentation"),
}
"""The metric and the heading of each measurement on VOC; {} is a figure's protocol, such as "fc8".

A figure of random weights has the weights "random", of clusters' means also the condition "kmeans".
"""


def voc_channels(name: str, stages: nn.Sequential) -> int:
    """Return the channels of the images that a network's first convolution takes: 3, or 1 for shades of grey.

    Raises:
        SettingError: It takes another number.
    """
    first = next(layer for layer in stages.modules() if isinstance(layer, nn.Conv2d))
    if first.in_channels not in (1, 3):
        raise SettingError(
            f"extractors must name networks of images of 1 or 3 channels, got {name!r} with {first.in_channels}. Leave "
            "it out."
        )
    return first.in_channels


def say_left_out(measurement: str, left_out: Mapping[str, str]) -> None:
    """Warn of the classes that a measurement leaves out of its mean.

    Args:
        measurement: Its name.
        left_out: The reasons, by the classes' names.
    """
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name, why in left_out.items() if why == reason]
        logger.warning("%s leaves classes out of the mean, for %s: %s.", measurement, reason, ", ".join(names))


def voc_tables(bench: Bench, own: Sequence[Figure], extractors: Sequence[str]) -> list[Table]:
    """Return Table 3 for each extractor: all measurements on VOC so far.

    Args:
        bench: With the earlier outcomes.
        own: The figures of a measurement that is not among them yet.
        extractors: The names.
    """
    earlier = [bench.outcomes[name].figures for name in VOC_COLUMNS if name in bench.outcomes]
    found = {figure.name: figure for figures in (*earlier, own) for figure in figures}
    chosen = [figure for figure in found.values() if figure.metric == VOC_COLUMNS[figure.measurement][0]]
    data = bench.data.name if bench.without_images() is None else "no data set"
    return [table_3(chosen, name, data, bench.published) for name in extractors]


def table_3(figures: Sequence[Figure], extractor: str, data: str, published: Mapping[str, PublishedFigure]) -> Table:
    """Return a table with a column per task and a row per kind of weights, as the paper's Table 3.

    Args:
        figures: Of the measurements on VOC.
        extractor: Name of the one whose figures it has.
        data: Name of the data set that it was trained on.
        published: Printed figures, by the names of ours; they have rows of their own.

    Source:
        Donahue et al. 2017, Table 3.
    """
    own = [figure for figure in figures if figure.subject == extractor]
    cells = (
        (figure.condition or figure.weights, VOC_COLUMNS[figure.measurement][1].format(figure.protocol), figure)
        for figure in sorted(own, key=lambda each: list(VOC_COLUMNS).index(each.measurement))
    )
    return weights_table(f"PASCAL VOC: {extractor} of {data}", cells, published)
