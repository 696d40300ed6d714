"""One function per kind of row in the papers' layer tables.

A row is a convolution, then batch norm if the table says so, then a nonlinearity. A network is a sequence of rows and
reads like its table.
"""

from torch import nn

from gan_lightning.nets.initialisation import init_normal_


def conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int,
    padding: int,
    *,
    bias: bool,
    batch_norm: bool,
    nonlinearity: nn.Module | None,
    groups: int = 1,
) -> nn.Sequential:
    """Return a convolution row; weights N(0, 0.02), biases 0."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=bias, groups=groups)
    return _row(layer, nn.BatchNorm2d(channels_out) if batch_norm else None, nonlinearity)


def transposed_conv(
    channels_in: int,
    channels_out: int,
    kernel: int,
    stride: int,
    padding: int,
    *,
    bias: bool,
    batch_norm: bool,
    nonlinearity: nn.Module | None,
    output_padding: int = 0,
) -> nn.Sequential:
    """Return a transposed-convolution row; weights N(0, 0.02), biases 0."""
    layer = nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding, output_padding, bias=bias)
    return _row(layer, nn.BatchNorm2d(channels_out) if batch_norm else None, nonlinearity)


def fully_connected(
    features_in: int,
    features_out: int,
    *,
    bias: bool,
    batch_norm: bool,
    nonlinearity: nn.Module | None,
    learned_norm: bool = True,
) -> nn.Sequential:
    """Return a fully connected row; weights N(0, 0.02), biases 0.

    Args:
        features_in: Input values per image.
        features_out: Output values per image.
        bias: Whether it has a bias.
        batch_norm: Whether batch norm follows.
        nonlinearity: The nonlinearity at the end, if any.
        learned_norm: Whether the batch norm has a gain and a bias; without them it has no parameters.
    """
    norm = nn.BatchNorm1d(features_out, affine=learned_norm) if batch_norm else None
    return _row(nn.Linear(features_in, features_out, bias=bias), norm, nonlinearity)


def linear(features_in: int, features_out: int, *, bias: bool) -> nn.Linear:
    """Return a fully connected layer by itself; weights N(0, 0.02), biases 0."""
    return init_normal_(nn.Linear(features_in, features_out, bias=bias))


def _row(layer: nn.Module, norm: nn.Module | None, nonlinearity: nn.Module | None) -> nn.Sequential:
    parts = (init_normal_(layer), norm, nonlinearity)
    return nn.Sequential(*(part for part in parts if part is not None))
