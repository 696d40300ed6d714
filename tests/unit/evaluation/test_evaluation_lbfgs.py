"""L-BFGS of several problems at once is torch's of each."""

from contextlib import suppress

import pytest
import torch
from card_stand_in import Reads
from torch.testing import assert_close

from gan_lightning.evaluation import lbfgs
from gan_lightning.evaluation.lbfgs import minimise
from gan_lightning.evaluation.line_search import DECREASE, FLATNESS, Place, strong_wolfe


def valley(x):
    """Rosenbrock's function, whose line searches need brackets."""
    return (100 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1 - x[..., :-1]) ** 2).sum(dim=-1)


def objective(points):
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        values = valley(points)
        (gradient,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradient


def starts(count, width):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(width))


def by_torch(start, history=100):
    point = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [point], max_iter=500, max_eval=10_000, tolerance_grad=1e-8, tolerance_change=torch.finfo(point.dtype).eps,
        history_size=history, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = valley(point)
        value.backward()
        return value

    optimizer.step(closure)
    return point.detach(), optimizer.state[point]["n_iter"]


@pytest.mark.parametrize("width", [2, 6])
def test_problems_take_the_iterations_of_torchs_lbfgs_each_its_own_number(width):
    start = starts(2, width)
    found, iterations = minimise(objective, start, most_iterations=500, gradient_tolerance=1e-8)
    for problem, point in enumerate(start):
        expected, count = by_torch(point)
        assert iterations[problem] == count
        assert_close(found[problem], expected, atol=1e-8, rtol=0)
    assert len(set(iterations)) > 1


def test_the_oldest_movements_are_forgotten_as_torch_forgets_them(monkeypatch):
    monkeypatch.setattr(lbfgs, "HISTORY", 3)
    start = starts(2, 4)
    found, iterations = minimise(objective, start, most_iterations=500, gradient_tolerance=1e-8)
    for problem, point in enumerate(start):
        expected, count = by_torch(point, history=3)
        assert iterations[problem] == pytest.approx(count, abs=2)
        assert_close(found[problem], expected, atol=1e-6, rtol=0)


def test_a_problem_that_is_solved_stays_and_one_that_runs_out_of_iterations_stops():
    start = torch.stack([torch.ones(4), starts(1, 4)[0].float()])
    found, iterations = minimise(objective, start, most_iterations=3, gradient_tolerance=1e-6)
    assert torch.equal(found[0], start[0])
    assert iterations == [0, 3]
    assert valley(found[1]) < valley(start[1])


def test_the_numbers_are_read_once_after_each_evaluation(monkeypatch):
    evaluated, read, own = [], [], lbfgs._read
    monkeypatch.setattr(lbfgs, "_read", lambda *columns: read.append(1) or own(*columns))
    with Reads() as reads:
        minimise(
            lambda x: evaluated.append(1) or objective(x), starts(3, 4), most_iterations=500, gradient_tolerance=1e-8
        )
    assert not reads.counts
    assert len(read) == len(evaluated)


@pytest.mark.parametrize("first", [1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_search_ends_where_the_strong_wolfe_conditions_hold(seed, first):
    a, b, c = torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()

    def at(step):
        return a * (step - 1 - b) ** 4 + c * step**2 - step, 4 * a * (step - 1 - b) ** 3 + 2 * c * step - 1

    value, slope = at(0.0)
    search = strong_wolfe(Place(0.0, value, slope), first, reach=1.0)
    step = next(search)
    assert step == first
    with suppress(StopIteration):
        while True:
            step = search.send(at(step))
    assert at(step)[0] <= value + DECREASE * step * slope
    assert abs(at(step)[1]) <= -FLATNESS * slope


def test_a_search_that_finds_no_number_ends():
    search = strong_wolfe(Place(0.0, 1.0, -1.0), 1.0, reach=1.0)
    tried = [next(search)]
    with suppress(StopIteration):
        while True:
            tried.append(search.send((float("nan"), float("nan"))))
    assert len(tried) < 60


def test_movements_without_curvature_are_not_remembered(monkeypatch):
    monkeypatch.setattr(lbfgs, "LEAST_CURVATURE", float("inf"))
    start = starts(2, 4)
    found, _ = minimise(objective, start, most_iterations=5, gradient_tolerance=1e-8)
    assert (valley(found) < valley(start)).all()
