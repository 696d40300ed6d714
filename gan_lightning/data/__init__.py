"""The data sets, one `LightningDataModule` each: `--data=MNIST`, or `MNIST()` in Python."""

from gan_lightning.data.celeba import CelebA
from gan_lightning.data.cifar10 import CIFAR10
from gan_lightning.data.cifar100 import CIFAR100
from gan_lightning.data.digits import Digits
from gan_lightning.data.from_loaders import FromLoaders
from gan_lightning.data.hugging_face import HuggingFace
from gan_lightning.data.image_arrays import ImageArrays
from gan_lightning.data.image_data import ImageData
from gan_lightning.data.image_folder import ImageFolder
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "SVHN",
    "CelebA",
    "Digits",
    "FromLoaders",
    "HuggingFace",
    "ImageArrays",
    "ImageData",
    "ImageFolder",
]
