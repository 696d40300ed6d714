"""The architectures of the papers, one file each."""

from gan_lightning.models.autoencoder import Autoencoder
from gan_lightning.models.bigan import BiGAN
from gan_lightning.models.bigan_networks import ImageNetworks, Networks, PermutationInvariantNetworks
from gan_lightning.models.dcgan_networks import TutorialNetworks
from gan_lightning.models.gan import GAN
from gan_lightning.models.latent import DecayedAdam
from gan_lightning.models.latent_regressor import LatentRegressor
from gan_lightning.models.mgan import MGAN
from gan_lightning.models.selfexgan import SelfExGAN
from gan_lightning.updates import Direct, GeneratorUpdate, InverseExamples

__all__ = [
    "GAN",
    "MGAN",
    "Autoencoder",
    "BiGAN",
    "DecayedAdam",
    "Direct",
    "GeneratorUpdate",
    "ImageNetworks",
    "InverseExamples",
    "LatentRegressor",
    "Networks",
    "PermutationInvariantNetworks",
    "SelfExGAN",
    "TutorialNetworks",
]
