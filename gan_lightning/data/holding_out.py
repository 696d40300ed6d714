"""The images of a class that are held out for testing, of a data set that ships no split."""

import numpy as np
from jaxtyping import Int64


def held_out_of_class(count: int, fraction: float, seed: int) -> Int64[np.ndarray, " held"]:
    """Return the places of a class's held-out images: one at least, if the class has two.

    Args:
        count: Number of the class's images.
        fraction: Share of them to hold out.
        seed: Of the choice; it identifies the class.
    """
    order = np.random.default_rng((0, seed)).permutation(count)
    return order[: min(count - 1, max(1, round(count * fraction)))]
