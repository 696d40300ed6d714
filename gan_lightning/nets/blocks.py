"""One function per kind of row in the papers' layer tables.

A row is a convolution, then batch norm where the table says so, then a nonlinearity. A network is a sequence of
rows, so that it reads like its table.
"""

from torch import nn

from gan_lightning.nets.init import init_normal_


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
) -> nn.Sequential:
    """Return a convolution row; weights N(0, 0.02), biases 0."""
    return _row(
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=bias), channels_out, batch_norm, nonlinearity
    )


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
) -> nn.Sequential:
    """Return a transposed-convolution row; weights N(0, 0.02), biases 0."""
    return _row(
        nn.ConvTranspose2d(channels_in, channels_out, kernel, stride, padding, bias=bias),
        channels_out,
        batch_norm,
        nonlinearity,
    )


def linear(features_in: int, features_out: int, *, bias: bool) -> nn.Linear:
    """Return a fully connected row; weights N(0, 0.02), biases 0."""
    return init_normal_(nn.Linear(features_in, features_out, bias=bias))


def _row(layer: nn.Module, channels: int, batch_norm: bool, nonlinearity: nn.Module | None) -> nn.Sequential:
    row = nn.Sequential()
    row.append(init_normal_(layer))
    if batch_norm:
        row.append(nn.BatchNorm2d(channels))
    if nonlinearity is not None:
        row.append(nonlinearity)
    return row
