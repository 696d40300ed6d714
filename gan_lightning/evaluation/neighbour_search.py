"""Features -> exact nearest neighbours, and the accuracy of the nearest one's label.

Exact means: the result is the same as in a search over all pairs in float64, at the cost of a float32 matrix product.
The expansion ‖q - r‖² = ‖q‖² + ‖r‖² - 2 q·r cancels if q and r are close, so float32 alone would confuse near
neighbours. Here it only makes a shortlist. Rounding errors have a proven bound, so the product yields a lower bound of
every distance. Only pairs that the bounds cannot tell apart are computed again, in float64, as the sum of squared
differences. Features are centred first: a distance does not depend on the origin, but its error does. A common offset
therefore costs no accuracy, even if a network maps all images to almost the same point.

If distances are equal, the reference of the lowest index counts as the nearest.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from gan_lightning.errors import DataError, SettingError

logger = logging.getLogger(__name__)

Metric = Literal["euclidean", "cosine"]

MEMORY = 128 * 2**20
"""Bytes that a search may use beside the features and its result."""


@torch.no_grad()
def nearest_neighbours(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references _feature"],
    count: int = 1,
    metric: Metric = "euclidean",
    *,
    memory: int = MEMORY,
    names: tuple[str, str] = ("queries", "references"),
) -> Int64[Tensor, "queries {count}"]:
    """Return each query's nearest references, the nearest first.

    Distances are compared in float64; if they are equal, the lower index comes first. The cosine distance is a distance
    between directions. A vector of zeros has no direction. As in scikit-learn its distance to everything is 1. A
    warning reports the number of such vectors.

    Args:
        queries: One vector per row.
        references: Vectors among which the neighbours are found.
        count: Neighbours per query.
        metric: Distance between features.
        memory: Bytes to use beside the arguments and the result; blocks are made to fit.
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
    if len(queries) == 0:
        return torch.empty(0, count, dtype=torch.int64, device=queries.device)
    blocks = Blocks.within(memory, queries.shape[1], count)
    space = _Space.of(queries, references, metric, blocks.rows, names)
    kept = _without_copies(references, count, blocks.rows)
    found = torch.empty(len(queries), count, dtype=torch.int64, device=queries.device)
    with _full_precision_products():
        for start in range(0, len(queries), blocks.rows):
            rows = slice(start, start + blocks.rows)
            found[rows] = _search(queries[rows], references, kept, count, space, blocks)
    if metric == "cosine":
        found[_zero_rows(queries, references, blocks.rows, names)] = torch.arange(count, device=found.device)
    return found


@dataclass(frozen=True)
class Blocks:
    """Numbers of vectors and pairs that the search works on at a time.

    Attributes:
        rows: Queries, and references, that are held as prepared copies.
        tile: Queries whose products with a block of references are held.
        pairs: Pairs computed again in float64 at a time.
    """

    rows: int
    tile: int
    pairs: int

    @classmethod
    def within(cls, memory: int, features: int, count: int = 1) -> "Blocks":
        """Return the largest useful blocks for a number of bytes; the smallest are single vectors.

        A third each is for the prepared vectors, for a tile of products with its found pairs, and for the pairs in
        float64. The prepared vectors are two blocks, their copies in float32, and intermediate values in float64.
        """
        third = memory // 3
        rows = max(1, min(third // (2 * features * (4 + 4 + 2 * 8) + 64 * count), 2048))
        # An entry has a product, its copy and a mask; also row and column, if nothing can be told apart.
        tile = max(1, min(third // (26 * rows), 256, rows))
        return cls(rows=rows, tile=tile, pairs=max(1, third // (4 * 8 * features + 128 + 64 * count)))


@dataclass(frozen=True)
class _Space:
    """The placement of features for the float32 product: scaled by a power of two, then centred.

    The scale brings the largest coordinate near 1: squares neither overflow nor vanish. It rounds nothing.

    Attributes:
        scale: A power of two.
        origin: The references' mean, after scaling. Any origin would do; the mean makes the bounds tight.
    """

    metric: Metric
    scale: float
    origin: Float32[Tensor, " feature"]

    @classmethod
    def of(cls, queries: Tensor, references: Tensor, metric: Metric, rows: int, names: tuple[str, str]) -> "_Space":
        """Return the space for these vectors, read `rows` at a time.

        Raises:
            DataError: A feature is not finite.
        """
        largest = 0.0
        for name, vectors in zip(names, (queries, references), strict=True):
            extremes = torch.empty(-(-len(vectors) // rows), 2, dtype=vectors.dtype, device=vectors.device)
            for number, block in enumerate(vectors.split(rows)):
                torch.aminmax(block, out=(extremes[number, 0], extremes[number, 1]))
            if not extremes.isfinite().all():
                raise DataError(
                    f"{name} must be finite, got NaN or infinity; look for a diverged training run or damaged images."
                )
            largest = max(largest, extremes.abs().max().item())
        exponent = 0 if metric == "cosine" else min(max(math.frexp(largest)[1], -126), 126)
        scale = 2.0**-exponent
        total = torch.zeros(references.shape[1], dtype=torch.float64, device=references.device)
        for block in references.split(rows):
            total += _exact(block, metric).mul_(scale).sum(dim=0)
        return cls(metric, scale, (total / len(references)).float())

    @property
    def error(self) -> float:
        """Return κ: the error of a product is at most κ (‖r‖² + 2 ‖q‖ ‖r‖) + `smallest`.

        n float32 products are summed in any order. The error is at most n u / (1 - n u) times the sum of their
        magnitudes (u = 2^-24), and this sum is at most ‖q‖ ‖r‖. Rounding coordinates, norms and bounds costs about a
        dozen u more; 32 are allowed for it.

        Source:
            Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section 3.1.
        """
        rounding = (len(self.origin) + 32) * 2.0**-24
        return rounding / (1 - 2 * rounding)

    @property
    def smallest(self) -> float:
        """Return the error that products too small for float32 can add."""
        return (len(self.origin) + 32) * 2.0**-125

    def place(self, rows: Float[Tensor, "rows feature"]) -> Float32[Tensor, "rows feature_and_one"]:
        """Return the rows in this space, and a free column for the bounds."""
        placed = torch.empty(len(rows), rows.shape[1] + 1, dtype=torch.float32, device=rows.device)
        single = self.metric == "euclidean" and rows.dtype != torch.float64
        placed[:, :-1] = ((rows.float() if single else _exact(rows, self.metric)) * self.scale).sub_(self.origin)
        return placed


def _search(
    queries: Float[Tensor, "queries feature"],
    references: Float[Tensor, "references feature"],
    kept: Int64[Tensor, " kept"],
    count: int,
    space: _Space,
    blocks: Blocks,
) -> Int64[Tensor, "queries {count}"]:
    """Return the neighbours of one block of queries.

    The search compares lower bounds of ‖r‖² - 2 q·r, the distance less ‖q‖². A column κ ‖q‖ stands beside the queries
    and ‖r‖ beside the references. One matrix product therefore gives the bounds.
    """
    distances = torch.full((len(queries), count), torch.inf, dtype=torch.float64, device=queries.device)
    indices = torch.zeros(len(queries), count, dtype=torch.int64, device=queries.device)
    # A reference whose lower bound is above this cannot be among the neighbours: `count` others are nearer.
    limits = torch.full((len(queries),), torch.inf, device=queries.device)
    placed_queries = space.place(queries)
    placed_queries[:, -1] = space.error * placed_queries[:, :-1].norm(dim=1)
    buffer = torch.empty(blocks.tile * min(blocks.rows, len(kept)), device=queries.device)
    for start in range(0, len(kept), blocks.rows):
        block_indices = kept[start : start + blocks.rows]
        all_kept = len(kept) == len(references)  # mostly so: then nothing need be copied
        block = references[start : start + blocks.rows] if all_kept else references[block_indices]
        placed = space.place(block)
        placed[:, -1] = norms = placed[:, :-1].norm(dim=1)
        bases = norms.square().add_(_extra_distance(block, space.metric) * space.scale**2)
        margins = space.error * bases + space.smallest
        bases -= margins
        products = buffer[: blocks.tile * len(block)].view(blocks.tile, len(block))
        for first in range(0, len(queries), blocks.tile):
            tile = slice(first, min(first + blocks.tile, len(queries)))
            lower = torch.addmm(bases, placed_queries[tile], placed.T, alpha=-2, out=products[: tile.stop - first])
            # Most queries have their neighbours in earlier blocks.
            open_rows = torch.nonzero(lower.amin(dim=1) <= limits[tile])[:, 0]
            if len(open_rows) == 0:
                continue
            lower, open_rows = lower[open_rows], open_rows + first
            if len(block) >= count:
                nearest, at = lower.min(1, keepdim=True) if count == 1 else lower.topk(count, largest=False)
                upper = nearest + 2 * (margins[at] + 2 * placed_queries[open_rows, -1:] * norms[at])
                limits[open_rows] = torch.minimum(limits[open_rows], upper.amax(dim=1))
            for rows, columns in _pairs(lower <= limits[open_rows, None], blocks.pairs):
                rows = open_rows[rows]
                exact = _distances(queries[rows], block[columns], space.metric)
                _merge(distances, indices, rows, block_indices[columns], exact)
    return indices


def _pairs(unclear: Bool[Tensor, "tile block"], most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the true entries' rows and columns, in order and not many more than `most` at a time.

    If nothing can be told apart, as in the features of a collapsed network, all entries are true.
    """
    per_row = unclear.sum(dim=1).cpu()
    parts = (per_row.cumsum(0) - per_row) // most
    for part in parts.unique().tolist():
        rows = torch.nonzero(parts == part)[:, 0]
        first, last = int(rows[0]), int(rows[-1]) + 1
        chosen_rows, columns = torch.nonzero(unclear[first:last], as_tuple=True)
        for some, others in zip(chosen_rows.split(most), columns.split(most), strict=True):
            yield some + first, others


def _distances(
    queries: Float[Tensor, "pairs feature"], references: Float[Tensor, "pairs feature"], metric: Metric
) -> Float64[Tensor, " pairs"]:
    """Return the squared distance of each pair in float64."""
    squares = _exact(queries, metric).sub_(_exact(references, metric)).square_()
    return _row_sums(squares).add_(_extra_distance(references, metric))


def _merge(
    distances: Float64[Tensor, "queries count"],
    indices: Int64[Tensor, "queries count"],
    rows: Int64[Tensor, " pairs"],
    found: Int64[Tensor, " pairs"],
    found_distances: Float64[Tensor, " pairs"],
) -> None:
    """Insert the found neighbours that are nearer than the present ones, or as near and of a lower index."""
    touched = rows.unique()
    count = distances.shape[1]
    all_rows = torch.cat([touched.repeat_interleave(count), rows])
    all_indices = torch.cat([indices[touched].flatten(), found])
    all_distances = torch.cat([distances[touched].flatten(), found_distances])
    order = torch.arange(len(all_rows), device=rows.device)
    for key in (all_indices, all_distances, all_rows):  # the last key counts most
        order = order[key[order].argsort(stable=True)]
    sorted_rows = all_rows[order]
    place = torch.arange(len(order), device=rows.device) - torch.searchsorted(sorted_rows, sorted_rows)
    kept = order[place < count]
    indices[touched] = all_indices[kept].view(-1, count)
    distances[touched] = all_distances[kept].view(-1, count)


def _exact(rows: Float[Tensor, "rows feature"], metric: Metric) -> Float64[Tensor, "rows feature"]:
    """Return a float64 copy for Euclidean distances; for the cosine distance its vectors have length 1.

    For vectors of length 1, ‖q - r‖² is twice the cosine distance.
    """
    rows = rows.to(torch.float64, copy=True)
    if metric == "cosine":
        lengths = _row_sums(rows.square()).sqrt_()
        rows /= lengths.masked_fill_(lengths == 0, 1)[:, None]
    return rows


def _extra_distance(references: Float[Tensor, "rows feature"], metric: Metric) -> Float64[Tensor, " rows"]:
    """Return an extra distance. It makes a reference of zeros as far from a direction as an orthogonal one."""
    if metric == "euclidean":
        return torch.zeros(len(references), dtype=torch.float64, device=references.device)
    return (references == 0).all(dim=1).double()


def _row_sums(rows: Float64[Tensor, "rows feature"]) -> Float64[Tensor, " rows"]:
    """Return each row's sum, using `rows` up.

    The order of additions in `Tensor.sum` depends on the number of rows. Here equal rows have equal sums in any place,
    so duplicates are ties.
    """
    width = rows.shape[1]
    while width > 1:
        half = (width + 1) // 2
        rows[:, : width - half] += rows[:, half:width]
        width = half
    return rows[:, 0].clone()


def _without_copies(references: Tensor, count: int, rows: int) -> Int64[Tensor, " kept"]:
    """Return the indices of the references that can be neighbours: the first `count` of equal ones.

    A collapsed network makes many equal features; so does one whose units are dead for many images. Without this step
    the number of undecided pairs would be huge.
    """
    factors = torch.randint(2**62, (references.shape[1],), generator=torch.Generator().manual_seed(0)).to(
        references.device
    )
    hashes = torch.empty(len(references), dtype=torch.int64, device=references.device)
    for start in range(0, len(references), rows):
        bits = references[start : start + rows].double().view(torch.int64)
        hashes[start : start + rows] = (bits ^ (bits >> 32)).mul_(2 * factors + 1).sum(dim=1)
    order = hashes.argsort(stable=True)
    _, sizes = torch.unique_consecutive(hashes[order], return_counts=True)
    firsts = order[sizes.cumsum(0) - sizes].repeat_interleave(sizes)  # for each in `order`, the first of equal hash
    copies = torch.empty(len(references), dtype=torch.bool, device=references.device)
    for start in range(0, len(references), rows):  # a list of parts would break up the free memory
        part = slice(start, start + rows)
        copies[part] = (references[order[part]] == references[firsts[part]]).all(dim=1)
    # A reference's place among the copies of the first one; the first is a copy of itself. A reference that shares the
    # hash alone is kept.
    seen = copies.cumsum(0)
    place = seen - 1 - (seen - copies.long())[(sizes.cumsum(0) - sizes).repeat_interleave(sizes)]
    return order[~copies | (place < count)].sort().values


def _zero_rows(queries: Tensor, references: Tensor, rows: int, names: tuple[str, str]) -> Bool[Tensor, " queries"]:
    """Return a mask of the queries that are all zero. Warn of queries and references of zeros."""
    zeros = [torch.empty(len(vectors), dtype=torch.bool, device=vectors.device) for vectors in (queries, references)]
    for vectors, zero in zip((queries, references), zeros, strict=True):
        for start in range(0, len(vectors), rows):
            zero[start : start + rows] = (vectors[start : start + rows] == 0).all(dim=1)
    zero_queries, zero_references = zeros
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
