"""AlexNet's fully connected layers, as a head on the maps of any convolutions."""

from collections import OrderedDict

from torch import nn

from gan_lightning.nets.blocks import fully_connected, linear

POOLED = 6
"""Edge of the maps that fc6 sees in AlexNet."""


def fully_connected_head(
    channels: int, edge: int, outputs: int, *, width: int = 4096, dropout: float = 0.5
) -> nn.Sequential:
    """Return pool5, fc6, fc7 and fc8: maps (batch, channels, height, width) to logits (batch, outputs).

    pool5 takes maxima over 6x6 parts of a map. On AlexNet's 13x13 maps these are its windows of 3x3 at a stride of 2.
    Maps below 6x6 keep their size. fc6 and fc7 end in a leaky ReLU and dropout. Weights start from N(0, 0.02), biases
    from 0.

    Args:
        channels: Of the maps.
        edge: Height and width of the maps. Maps of other sizes are pooled to the same size.
        outputs: Number of logits.
        width: Units of fc6 and of fc7.
        dropout: Probability of leaving a unit out.

    Source:
        Krizhevsky et al. 2012, section 3.5. Leaky ReLUs of slope 0.2, as in the code of Donahue et al. 2017.
    """
    pooled = min(POOLED, edge)
    return nn.Sequential(OrderedDict(
        pool5=nn.AdaptiveMaxPool2d(pooled),
        flatten=nn.Flatten(),
        **hidden_layers(channels * pooled * pooled, width, dropout),
        fc8=linear(width, outputs, bias=True),
    ))  # fmt: skip


def hidden_layers(inputs: int, width: int, dropout: float) -> dict[str, nn.Sequential]:
    """Return fc6 and fc7: rows of `inputs` values to `width` values."""

    def row(inputs: int) -> nn.Sequential:
        leaky = nn.Sequential(nn.LeakyReLU(0.2), nn.Dropout(dropout))
        return fully_connected(inputs, width, bias=True, batch_norm=False, nonlinearity=leaky)

    return {"fc6": row(inputs), "fc7": row(width)}
