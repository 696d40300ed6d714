"""The printed Table 1: accuracies of 1NN on permutation-invariant MNIST.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, Table 1; one seed each.
"""

from collections.abc import Mapping

from gan_lightning.interfaces import PublishedFigure

TABLE_1 = {
    "BiGAN": 0.9739,
    "D": 0.9730,
    "LR": 0.9744,
    "JLR": 0.9713,
    "AE l2": 0.9758,
    "AE l1": 0.9763,
}


def printed_in_table_1(data: str, column: str | None, extractor: str) -> Mapping[str, PublishedFigure]:
    """Return the accuracy of a column, by the name of our figure; none on other data than MNIST.

    Args:
        data: The data set's `name`.
        column: Of `TABLE_1`; None for a setting that the paper does not have.
        extractor: The layer before the output, the best one in the authors' code.
    """
    if data != "mnist" or column is None:
        return {}
    return {f"transfer/{extractor}/nearest/accuracy": PublishedFigure(TABLE_1[column], "Donahue et al. 2017, Table 1")}
