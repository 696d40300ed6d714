"""Weight initialisation."""

from typing import TypeVar

from torch import nn

from gan_lightning.system.private_names import BatchNorm

Layer = TypeVar("Layer", bound=nn.Module)


def init_normal_(layer: Layer, std: float = 0.02) -> Layer:
    """Draw a layer's weight from N(0, std²), set its bias to 0 if it has one, and return the layer.

    Source:
        Radford et al. 2016 (DCGAN), section 4, followed by Mao et al. 2022, Table 1.
    """
    nn.init.normal_(layer.get_parameter("weight"), mean=0.0, std=std)
    if getattr(layer, "bias", None) is not None:
        nn.init.zeros_(layer.get_parameter("bias"))
    return layer


def init_gains_(network: Layer, std: float = 0.02) -> Layer:
    """Draw the gains of all batch norms in a network from N(1, std²), set their biases to 0, and return the network.

    Source:
        PyTorch's DCGAN tutorial, `weights_init`.
    """
    for layer in network.modules():
        if isinstance(layer, BatchNorm) and layer.affine:
            nn.init.normal_(layer.weight, mean=1.0, std=std)
            nn.init.zeros_(layer.bias)
    return network
