"""Pictures of figures: where a point is, and how dark a cell."""

import pytest
import torch

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import curves_picture, shares_picture
from gan_lightning.evaluation.curves import BOTTOM, COLOURS, HEIGHT, LEFT, TOP, WIDTH, _ticks


def near(picture: torch.Tensor, colour: tuple[int, int, int]) -> torch.Tensor:
    """Return the places (row, column) of a colour, but for anti-aliased edges."""
    wanted = torch.tensor(colour).view(3, 1, 1) / 255
    return torch.nonzero((picture - wanted).abs().amax(dim=0) < 0.02)


def test_a_curve_runs_from_its_first_to_its_last_value_in_its_panel():
    picture = curves_picture({"falls": {"a": {1: 10.0, 3: 0.0}}, "rises": {"b": {1: 0.0, 2: 5.0}}})
    assert picture.shape == (3, 2 * (TOP + HEIGHT) + 10 + BOTTOM, picture.shape[2])
    assert (picture.min() >= 0, picture.max() <= 1) == (True, True)
    found = near(picture, COLOURS[0])
    in_plot = found[found[:, 1] < LEFT + WIDTH]
    upper, lower = in_plot[in_plot[:, 0] < TOP + HEIGHT], in_plot[in_plot[:, 0] > TOP + HEIGHT]
    first, last = upper[upper[:, 1].argmin()], upper[upper[:, 1].argmax()]
    assert first[0] < TOP + 0.2 * HEIGHT
    assert last[0] > TOP + 0.8 * HEIGHT
    # The time axis is shared: the lower curve ends half way.
    assert abs(lower[:, 1].max() - (LEFT + WIDTH / 2)) < 5
    assert lower[lower[:, 1].argmin(), 0] > lower[lower[:, 1].argmax(), 0]


def test_each_curve_has_a_colour_of_its_own():
    picture = curves_picture({"": {str(i): {0: float(i), 1: float(i)} for i in range(3)}})
    heights = [near(picture, colour)[:, 0].float().median() for colour in COLOURS[:3]]
    assert heights[0] > heights[1] > heights[2]


def test_a_single_point_and_an_empty_curve_can_be_drawn_and_nothing_at_all_is_refused():
    assert len(near(curves_picture({"": {"one": {5: 1.0}, "none": {}}}), COLOURS[0])) > 10
    with pytest.raises(SettingError, match=r"panels must hold a curve with a point, got none"):
        curves_picture({"": {"none": {}}})


def test_a_cell_is_as_dark_as_its_share_of_its_row():
    picture = shares_picture([[10, 0], [1, 3]], ["first", "second"], ["a", "b"], "title")
    shares = (1.0, 0.25, 0.75)
    shades = [tuple(round(255 + share * (end - 255)) for end in COLOURS[0]) for share in shares]
    full, quarter, three = (near(picture, shade) for shade in shades)
    assert min(map(len, (full, quarter, three))) > 500
    (top, left), (below, same), (_, right) = (places.median(dim=0).values.tolist() for places in (full, quarter, three))
    assert top < below
    assert abs(left - same) < 3
    assert same < right


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0.961, 0.989, False, [0.965, 0.97, 0.975, 0.98, 0.985]),
        (1, 3, True, [1, 2, 3]),
        (-1.2, 55, False, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_ticks_are_round_numbers(low, high, whole, expected):
    assert _ticks(low, high, whole=whole) == expected
