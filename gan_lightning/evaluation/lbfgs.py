"""L-BFGS for several smooth problems of one size at once; their numbers stay on their device.

It is the method of `torch.optim.LBFGS` with its line search, and makes the same iterations up to rounding. In each
iteration that one reads two numbers back for each remembered step, and some more, so that a GPU mostly waits. Here one
read follows each evaluation of the objective, for all problems together.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.linalg import vecdot, vector_norm

from gan_lightning.evaluation.line_search import Place, Search, strong_wolfe

Objective = Callable[
    [Float[Tensor, "problems variable"]], tuple[Float[Tensor, " problems"], Float[Tensor, "problems variable"]]
]
"""Returns the value and the gradient of each problem at its point."""

HISTORY = 100
"""Most remembered movements of a problem."""

LEAST_CURVATURE = 1e-10
"""A movement is remembered if its product with the change of the gradient is larger."""


@torch.no_grad()
def minimise(
    objective: Objective,
    start: Float[Tensor, "problems variable"],
    *,
    most_iterations: int,
    gradient_tolerance: float,
) -> tuple[Float[Tensor, "problems variable"], list[int]]:
    """Return the minimum of each problem and the number of its iterations.

    A problem is solved when no entry of its gradient is larger than the tolerance, or when its value or its point no
    longer changes at their precision. It stays there while others go on.

    Args:
        objective: It is called for all problems together, including those that are solved.
        start: A point for each problem.
        most_iterations: Of a problem.
        gradient_tolerance: Largest entry of a gradient at a minimum.

    Source:
        Nocedal and Wright 2006, *Numerical Optimization*, Algorithm 7.5.
    """
    point = start.clone()
    values, gradient = objective(point)
    direction, memory = -gradient, _Memory(point)
    first = _read(values, vector_norm(gradient, inf, dim=1), vector_norm(gradient, 1, dim=1))
    descents = [
        _Descent(value, min(1.0, 1 / total) if total else 0.0, largest <= gradient_tolerance)
        for value, largest, total in first
    ]
    least_change = torch.finfo(start.dtype).eps
    while not all(descent.solved for descent in descents):
        steps = torch.tensor([[descent.step] for descent in descents], dtype=start.dtype)
        movement = steps.to(start.device, non_blocking=True) * direction
        tried = point + movement
        values, tried_gradient = objective(tried)
        slopes, tried_slopes = vecdot(gradient, direction), vecdot(tried_gradient, direction)
        reaches, largest = vector_norm(direction, inf, dim=1), vector_norm(tried_gradient, inf, dim=1)
        moved, remembered = [], []
        for problem, numbers in enumerate(_read(values, slopes, tried_slopes, reaches, largest)):
            descent, tried_at = descents[problem], _Tried(*numbers)
            if descent.solved or not descent.takes(tried_at, least_change):
                continue
            moved.append(problem)
            if descent.step * (tried_at.slope - tried_at.slope_at_start) > LEAST_CURVATURE:
                remembered.append(problem)
            descent.go_on(tried_at, least_change, gradient_tolerance, most_iterations)
        if not moved:
            continue
        memory.remember(remembered, movement, tried_gradient - gradient)
        point, gradient = _replaced(point, tried, moved), _replaced(gradient, tried_gradient, moved)
        direction = _replaced(direction, memory.directions(gradient), moved)
    return point, [descent.iterations for descent in descents]


class _Tried(NamedTuple):
    """What is read after an evaluation of a problem.

    Attributes:
        value: Of the objective.
        slope_at_start: Along the direction, at the line's start.
        slope: Along the direction.
        reach: Largest entry of the direction.
        largest: Largest entry of the gradient.
    """

    value: float
    slope_at_start: float
    slope: float
    reach: float
    largest: float


class _Descent:
    """The way of a problem to its minimum, as the processor knows it.

    Attributes:
        step: To try next, in lengths of the direction; 0 once the problem is solved.
        iterations: Number of lines so far, the present one included.
    """

    def __init__(self, value: float, step: float, solved: bool) -> None:
        self.value, self.step, self.solved = value, 0.0 if solved else step, solved
        self.iterations = 0 if solved else 1
        self._search: Search | None = None

    def stay(self) -> None:
        """Stay here: the problem is solved."""
        self.step, self.solved = 0.0, True

    def takes(self, tried: _Tried, least_change: float) -> bool:
        """Return whether the problem moves to where it was tried; otherwise it has another step to try, or stays."""
        if self._search is None:
            if tried.slope_at_start > -least_change:
                self.stay()
                return False
            self._search = strong_wolfe(Place(0.0, self.value, tried.slope_at_start), self.step, tried.reach)
            next(self._search)  # asks for the step that was tried
        try:
            self.step = self._search.send((tried.value, tried.slope))
        except StopIteration:
            return True
        return False

    def go_on(self, tried: _Tried, least_change: float, gradient_tolerance: float, most_iterations: int) -> None:
        """Begin the next line where the problem was tried, or stay there."""
        unchanged = self.step * tried.reach <= least_change or abs(tried.value - self.value) < least_change
        if tried.largest <= gradient_tolerance or unchanged or self.iterations == most_iterations:
            self.stay()
        else:
            self.value, self.step, self._search = tried.value, 1.0, None
            self.iterations += 1


class _Memory:
    """The last movements of each problem and the changes of its gradient, the oldest first.

    Rows of zeros follow those of a problem that has fewer than another.

    Attributes:
        movements: s, of each problem.
        changes: y, of each problem.
        products: R: of the row's movement with the column's change, where the change is not older; 1 on the diagonal
            of rows of zeros.
        scale: γ, the inverse of the curvature along the last movement.
    """

    def __init__(self, like: Tensor) -> None:
        self.movements = like.new_empty(len(like), 0, like.shape[1])
        self.changes = self.movements
        self.products = like.new_empty(len(like), 0, 0, dtype=torch.float64)
        self.scale = like.new_ones(len(like), 1)
        self.counts = [0] * len(like)

    def remember(self, problems: list[int], movement: Tensor, change: Tensor) -> None:
        """Remember the last movement of some problems, and forget their oldest if they have many."""
        for problem in problems:
            if self.counts[problem] == HISTORY:
                self._forget_oldest(problem)
            if self.counts[problem] == self.movements.shape[1]:
                self._grow(min(max(16, 2 * self.counts[problem]), HISTORY))
            row = self.counts[problem]
            self.counts[problem] += 1
            self.movements[problem, row], self.changes[problem, row] = movement[problem], change[problem]
            products = self.movements[problem, : row + 1] @ change[problem]
            self.products[problem, : row + 1, row] = products
            self.scale[problem] = products[row] / change[problem].square().sum()

    def directions(self, gradient: Tensor) -> Tensor:
        """Return the direction of each problem.

        The algorithm's loops, from the newest movement to the oldest and back, solve two triangular systems: for its α,
        and for its α - β.

        Source:
            Nocedal and Wright 2006, Algorithm 7.4.
        """
        most = max(self.counts)
        movements, changes = self.movements[:, :most], self.changes[:, :most]
        products = self.products[:, :most, :most]
        column = gradient[:, :, None]
        alpha = torch.linalg.solve_triangular(products, (movements @ column).double(), upper=True)
        column = self.scale[:, None] * (column - changes.mT @ alpha.to(column.dtype))
        right_side = products.diagonal(dim1=1, dim2=2)[:, :, None] * alpha - (changes @ column).double()
        difference = torch.linalg.solve_triangular(products.mT, right_side, upper=False)
        return -(column + movements.mT @ difference.to(column.dtype))[:, :, 0]

    def _forget_oldest(self, problem: int) -> None:
        for rows in (self.movements[problem], self.changes[problem]):
            rows[:-1] = rows[1:].clone()
        self.products[problem, :-1, :-1] = self.products[problem, 1:, 1:].clone()
        self.counts[problem] -= 1

    def _grow(self, rows: int) -> None:
        """Make room for as many rows."""
        before = self.movements.shape[1]
        movements, changes = (old.new_zeros(len(old), rows, old.shape[2]) for old in (self.movements, self.changes))
        movements[:, :before], changes[:, :before] = self.movements, self.changes
        products = torch.eye(rows, dtype=torch.float64, device=movements.device).repeat(len(movements), 1, 1)
        products[:, :before, :before] = self.products
        self.movements, self.changes, self.products = movements, changes, products


def _replaced(old: Tensor, new: Tensor, problems: list[int]) -> Tensor:
    """Return the old rows, but the new ones of some problems."""
    if len(problems) == len(old):
        return new
    for problem in problems:
        old[problem] = new[problem]
    return old


def _read(*columns: Tensor) -> list[list[float]]:
    """Return a row of numbers for each problem, in one read."""
    return torch.stack(columns, dim=1).tolist()
