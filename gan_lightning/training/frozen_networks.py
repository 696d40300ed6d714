"""Networks that somebody else has trained, as a model that can be measured."""

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.adapted_network import NetworkSource

logger = logging.getLogger(__name__)


class FrozenNetworks(LightningModule):
    """Any networks with their own weights, for measurements. There is nothing to train.

    Each layer that a network names is an extractor, `<network>.<layer>`. The control with random weights is each
    network made anew by its maker.

    Args:
        channels: Channels of the images; the data set tells.
        image_size: Height and width of the images, pixels; the data set tells.
        networks: Under their names in figures.

    Raises:
        SettingError: There is no network, or one cannot be made or does not take the images.
    """

    def __init__(self, channels: int, image_size: int, networks: Mapping[str, NetworkSource]) -> None:
        super().__init__()
        if not networks:
            raise SettingError("networks must name a network or more, got none.", self)
        self.save_hyperparameters()
        self.sources = networks
        self.networks = nn.ModuleList(source.built() for source in networks.values())
        for (name, source), network in zip(networks.items(), self.networks, strict=True):
            source.check_images(network, name, channels, image_size)

    @property
    def run_name(self) -> str:
        """The networks' names, for the folder of the run."""
        return "+".join(self.sources)

    def load_weights(self) -> None:
        """Give the networks the weights of their files.

        The constructor leaves this out: it also makes the networks with random weights.

        Raises:
            SettingError: A file holds no weights, or others.
        """
        for (name, source), network in zip(self.sources.items(), self.networks, strict=True):
            source.load(network)
            if source.weights is None and not source.is_program:
                logger.warning(
                    "%s has the weights that %s gives it: no file of weights is named.", name, source.network
                )

    def configure_optimizers(self) -> None:
        """Return nothing: there is nothing to train."""

    def extractors(self) -> Mapping[str, nn.Module]:
        """Return each layer of each network as an extractor of images in [-1, 1]."""
        return {
            extractor: module
            for (name, source), network in zip(self.sources.items(), self.networks, strict=True)
            for extractor, module in source.extractors(network, name).items()
        }

    def training_step(self, *arguments: Any, **settings: Any) -> None:
        """Refuse to train.

        Raises:
            SettingError: Always.
        """
        raise SettingError("networks must be measured, not trained, got a training. Use gan-lightning measure.", self)
