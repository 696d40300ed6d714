"""The printed Table 2: accuracies of M-GAN's extractors on MNIST by the number of shares removed.

Source:
    Mao et al. 2022, *Is Discriminator a Good Feature Extractor?*, Table 2; one seed each.
"""

from collections.abc import Mapping

from gan_lightning.interfaces import PublishedFigure

TABLE_2 = {  # shares removed: accuracy of each extractor
    0: {"discriminator": 0.9592, "classifier": 0.9589},
    1: {"discriminator": 0.9427, "classifier": 0.9574},
    2: {"discriminator": 0.9394, "classifier": 0.9612},
    3: {"discriminator": 0.9365, "classifier": 0.9617},
    4: {"discriminator": 0.9309, "classifier": 0.9578},
}


def printed_in_table_2(data: str, shares_removed: int) -> Mapping[str, PublishedFigure]:
    """Return the accuracies under the paper's protocol, by the names of our figures; none on other data than MNIST."""
    if data != "mnist":
        return {}
    return {
        f"transfer/{extractor}/paper/accuracy": PublishedFigure(accuracy, "Mao et al. 2022, Table 2")
        for extractor, accuracy in TABLE_2[shares_removed].items()
    }
