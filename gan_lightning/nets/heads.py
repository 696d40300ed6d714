"""The last row of a network as the matrix that it is."""

from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.interfaces import HeadTask, LinearHead


def linear_heads(task: HeadTask, **rows: nn.Module) -> dict[str, LinearHead]:
    """Return the heads of extractors that end right before these rows; a row that is more than a linear map has none.

    A classification's outputs go through a softmax, and so do a discrimination's where there is more than one.

    Args:
        task: What the rows are for.
        rows: Under the extractor's name, what its network has after it.
    """
    matrices = {name: matrix for name, row in rows.items() if (matrix := linear_map(row)) is not None}
    return {name: LinearHead(matrix, task, _has_softmax(task, len(matrix))) for name, matrix in matrices.items()}


def _has_softmax(task: HeadTask, outputs: int) -> bool:
    return task == "classification" or (task == "discrimination" and outputs > 1)


def linear_map(row: nn.Module) -> Float[Tensor, "outputs features"] | None:
    """Return the matrix by which a row multiplies its flattened input, or None of a row that does something else.

    A convolution without padding is such a product where its kernel is as large as its input, which the number of the
    matrix's columns then tells.

    Args:
        row: A layer, or a sequence with one layer in it, which may flatten first and may add a bias.
    """
    layers = [layer for layer in _layers(row) if not isinstance(layer, nn.Flatten | nn.Identity)]
    match layers:
        case [nn.Linear() as layer]:
            return layer.weight
        case [nn.Conv2d(groups=1, padding=(0, 0) | "valid", dilation=(1, 1)) as layer]:
            return layer.weight.flatten(1)
    return None


def _layers(row: nn.Module) -> list[nn.Module]:
    """Return a row's layers in their order, those of sequences inside it, too."""
    return [layer for child in row for layer in _layers(child)] if isinstance(row, nn.Sequential) else [row]
