"""The architectures of the papers, one file each."""

from gan_lightning.models.mgan import MGAN

__all__ = ["MGAN"]
