"""The last row of a network as a matrix."""

from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.interfaces import HeadTask, LinearHead


def linear_heads(task: HeadTask, **rows: nn.Module) -> dict[str, LinearHead]:
    """Return the heads of extractors that end right before these rows; only linear rows give one.

    A classification's outputs go through a softmax, and so do a discrimination's if there is more than one.

    Args:
        task: Purpose of the rows.
        rows: Under each extractor's name, the row after it in its network.
    """
    matrices = {name: matrix for name, row in rows.items() if (matrix := linear_map(row)) is not None}
    return {name: LinearHead(matrix, task, _has_softmax(task, len(matrix))) for name, matrix in matrices.items()}


def _has_softmax(task: HeadTask, outputs: int) -> bool:
    return task == "classification" or (task == "discrimination" and outputs > 1)


def linear_map(row: nn.Module) -> Float[Tensor, "outputs features"] | None:
    """Return the matrix by which a row multiplies its flattened input; None if the row does something else.

    A convolution without padding is such a product if its kernel is as large as its input. The number of the matrix's
    columns shows that.

    Args:
        row: A layer, or a sequence with one layer in it. It may flatten first and may add a bias.
    """
    layers = [layer for layer in _layers(row) if not isinstance(layer, nn.Flatten | nn.Identity)]
    match layers:
        case [nn.Linear() as layer]:
            return layer.weight
        case [nn.Conv2d(groups=1, padding=(0, 0) | "valid", dilation=(1, 1)) as layer]:
            return layer.weight.flatten(1)
    return None


def _layers(row: nn.Module) -> list[nn.Module]:
    """Return a row's layers in order, also from sequences inside it."""
    return [layer for child in row for layer in _layers(child)] if isinstance(row, nn.Sequential) else [row]
