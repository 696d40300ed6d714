"""A package of a user's own."""

from my_package.blobs import Blobs
from my_package.centroids import Centroids
from my_package.diversity import Diversity
from my_package.graph_gan import GraphGAN
from my_package.small_gan import SmallGAN
from my_package.stripes import Stripes

__all__ = ["Blobs", "Centroids", "Diversity", "GraphGAN", "SmallGAN", "Stripes"]
