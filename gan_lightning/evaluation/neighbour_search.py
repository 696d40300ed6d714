"""Features -> nearest neighbours: a float32 matrix product makes a shortlist, float64 ranks it.

The result is that of a search over all pairs in float64. The expansion ‖q - r‖² = ‖q‖² + ‖r‖² - 2 q·r cancels if q and
r are close, but its rounding error has a proven bound. The search uses the bound to check each query: no reference
outside of its shortlist may be among its neighbours. A query that fails is searched again over all references in
float64, which took 9 to 28 times as long where measured. This happens if more references are equally near than a
shortlist holds, as in the features of a collapsed network, and for values that float32 products cannot hold. Features
are centred for the product: a distance does not depend on the origin, but its error does. A common offset therefore
costs nothing.

If distances are equal, the reference of the lowest index counts as the nearest. Distances in float64 are sums of
squared differences, and are rounded too: two that differ by less than this rounding may count as equal.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from gan_lightning.errors import DataError, SettingError

logger = logging.getLogger(__name__)

Metric = Literal["euclidean", "cosine"]

SPARE = 15
"""References in a query's shortlist beyond the neighbours asked for."""

BLOCK = 2**20
"""Most values of features in a block: 8 MiB in float64. With all that is computed of it, a search took up to 212."""


@torch.no_grad()
def nearest_neighbours(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references _feature"],
    count: int = 1,
    metric: Metric = "euclidean",
    *,
    names: tuple[str, str] = ("queries", "references"),
) -> Int64[Tensor, "queries {count}"]:
    """Return each query's nearest references, the nearest first.

    The cosine distance is a distance between directions. A vector of zeros has no direction. As in scikit-learn its
    distance to everything is 1. A warning reports the number of such vectors.

    Args:
        queries: One vector per row.
        references: Vectors among which the neighbours are found.
        count: Neighbours per query.
        metric: Distance between features.
        names: Names of queries and references in an error.

    Raises:
        SettingError: There are fewer references than `count`, or the features differ in length.
        DataError: A feature is not finite.
    """
    if not 1 <= count <= len(references):
        raise SettingError(
            f"count must be from 1 to the number of {names[1]}, got {count} neighbours of {len(references)}; "
            "ask for fewer or use more images."
        )
    if queries.shape[1] != references.shape[1]:
        raise SettingError(
            f"{names[0]} and {names[1]} must be of the same length, got {queries.shape[1]} and "
            f"{references.shape[1]}; extract both with the same extractor."
        )
    found = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    if len(queries) == 0:
        return found
    largest = [torch.stack(vectors.aminmax()).abs().amax() for vectors in (queries, references)]
    for name, value in zip(names, largest, strict=True):
        if not value.isfinite():
            raise DataError(
                f"{name} must be finite, got NaN or infinity; look for a diverged training run or damaged images."
            )
    # Any origin would do; a mean of some references makes the bounds tight.
    origin = _exact(references[:: -(-len(references) // 1024)], metric).mean(dim=0)
    rows = max(1, min(BLOCK // queries.shape[1], 2048))
    with _full_precision_products():
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            nearest, safe = _of_shortlist(block, references, count, metric, origin, rows)
            safe &= torch.stack(largest).amax() < 2.0**50  # squares of much larger values overflow in float32
            if not safe.all():
                nearest[~safe] = _of_all(block[~safe], references, count, metric, rows)
            found[start : start + rows] = nearest
    if metric == "cosine":
        found[_zero_rows(queries, references, names)] = torch.arange(count, device=found.device)
    return found


def _of_shortlist(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references feature"],
    count: int,
    metric: Metric,
    origin: Float64[Tensor, " placed"],
    rows: int,
) -> tuple[Int64[Tensor, "queries {count}"], Bool[Tensor, " queries"]]:
    """Return the nearest of each query's shortlist, and whether they are proven to be the nearest of all.

    The shortlist has the lowest of the lower bounds of ‖r‖² - 2 q·r, the squared distance less ‖q‖². n float32 products
    are summed in any order, so the error is at most n u / (1 - n u) times the sum of their magnitudes (u = 2^-24), and
    this sum is at most ‖q‖ ‖r‖. Rounding coordinates, norms and bounds costs about a dozen u more; 32 are allowed for
    it. With κ = 2 (n + 32) u, the error of ‖r‖² - 2 q·r is thus below κ (‖r‖² + 2 ‖q‖ ‖r‖). A column κ ‖q‖ stands
    beside the queries and ‖r‖ beside the references, so one matrix product gives the bounds.

    Source:
        Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section 3.1.
    """
    products = len(origin) + 32
    kappa = 2 * products * 2.0**-24
    length = min(count + SPARE, len(references))
    placed, query_norms = _placed(queries, metric, origin)
    left = torch.cat([placed, (kappa * query_norms).float()], dim=1)
    lowest, shortlist = left.new_empty(len(queries), 0), origin.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(references), rows):
        placed, norms = _placed(references[start : start + rows], metric, origin)
        right = torch.cat([placed, norms.float()], dim=1)
        # Products too small for float32 vanish.
        bases = (1 - kappa) * norms.square() - products * 2.0**-125
        bounds = torch.addmm(bases.float().T, left, right.T, alpha=-2)
        bounds, places = bounds.topk(min(length, len(right)), largest=False)
        lowest = torch.cat([lowest, bounds], dim=1)
        lowest, order = lowest.topk(min(length, lowest.shape[1]), largest=False)
        shortlist = torch.cat([shortlist, start + places], dim=1).gather(1, order)
    shortlist = shortlist.sort(dim=1).values  # so that a stable sort leaves the lowest index first
    some = max(1, rows // length)
    ranked = [
        _distances(_exact(block, metric)[:, None], _exact(references[listed], metric))[:, 0]
        for block, listed in zip(queries.split(some), shortlist.split(some), strict=True)
    ]
    distances, order = torch.cat(ranked).sort(dim=1, stable=True)
    # Float64 may have rounded ‖q‖² and the distance.
    limits = distances[:, count - 1].square() - (1 - products * 2.0**-50) * query_norms[:, 0].square()
    return shortlist.gather(1, order[:, :count]), (lowest[:, -1] > limits) | (length == len(references))


def _of_all(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references feature"],
    count: int,
    metric: Metric,
    rows: int,
) -> Int64[Tensor, "queries {count}"]:
    """Return the nearest of all references, by distances in float64 alone."""
    exact = _exact(queries, metric)
    nearest, found = exact.new_empty(len(exact), 0), exact.new_empty(len(exact), 0, dtype=torch.int64)
    for start in range(0, len(references), rows):
        distances = _distances(exact, _exact(references[start : start + rows], metric))
        places = torch.arange(start, start + distances.shape[1], device=found.device).expand_as(distances)
        nearest, order = torch.cat([nearest, distances], dim=1).sort(dim=1, stable=True)
        nearest, found = nearest[:, :count], torch.cat([found, places], dim=1).gather(1, order[:, :count])
    return found


def _placed(
    rows: Float[Tensor, "rows feature"], metric: Metric, origin: Float64[Tensor, " placed"]
) -> tuple[Float32[Tensor, "rows placed"], Float64[Tensor, "rows 1"]]:
    """Return the rows about the origin, and their lengths there."""
    centred = _exact(rows, metric).sub_(origin)
    return centred.float(), centred.norm(dim=1, keepdim=True)


def _distances(
    queries: Float64[Tensor, "*batch queries feature"], references: Float64[Tensor, "*batch references feature"]
) -> Float64[Tensor, "*batch queries references"]:
    """Return distances, each from the sum of squared differences; copies of a vector have equal ones."""
    return torch.cdist(queries, references, compute_mode="donot_use_mm_for_euclid_dist")


def _exact(rows: Float[Tensor, "*batch feature"], metric: Metric) -> Float64[Tensor, "*batch placed"]:
    """Return a copy of the rows in float64; for the cosine distance as directions.

    For vectors of length 1, ‖q - r‖² is twice the cosine distance. A last column makes a vector of zeros a direction of
    its own, orthogonal to all others.
    """
    exact = rows.to(torch.float64, copy=True)
    if metric == "euclidean":
        return exact
    lengths = _distances(exact, torch.zeros_like(exact[..., :1, :]))
    zero = lengths == 0
    return torch.cat([exact.div_(lengths.masked_fill(zero, 1)), zero.double()], dim=-1)


def _zero_rows(queries: Tensor, references: Tensor, names: tuple[str, str]) -> Bool[Tensor, " queries"]:
    """Return a mask of the queries that are all zero. Warn of queries and references of zeros."""
    zero_queries, zero_references = (v.norm(math.inf, dim=1) == 0 for v in (queries, references))
    if zero_queries.any() or zero_references.any():
        logger.warning(
            "%d of %d %s and %d of %d %s are all zero: without a direction, their cosine distance to anything is 1.",
            *(int(zero_queries.sum()), len(queries), names[0]),
            *(int(zero_references.sum()), len(references), names[1]),
        )
    return zero_queries


@contextmanager
def _full_precision_products() -> Iterator[None]:
    """Keep torch from computing float32 products in bfloat16 or TensorFloat-32. The bounds do not hold for these."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
