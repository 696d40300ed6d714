"""Charts of figures: their lines, axes and names, and how dark a cell is."""

import io

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import curves_chart, picture_of, shares_chart
from gan_lightning.evaluation.curves import COLOURS, new_chart


def near(picture: torch.Tensor, colour: tuple[float, ...]) -> torch.Tensor:
    """Return the places (row, column) of a colour, but for anti-aliased edges."""
    return torch.nonzero((picture - torch.tensor(colour).view(3, 1, 1)).abs().amax(dim=0) < 0.02)


def rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_each_panel_has_its_curves_in_order_of_the_time_and_their_last_values_beside_them():
    panels = {"falls": {"a": {3: 0.25, 1: 10.0}, "b": {2: 5.0, 3: 6.0}}, "rises": {"c": {1: 0.0, 9: 123456.0}}}
    chart = curves_chart(panels, "step")
    upper, lower = chart.axes
    assert [axes.get_title(loc="left") for axes in chart.axes] == ["falls", "rises"]
    assert [line.get_xydata().tolist() for line in upper.lines] == [[[1, 10], [3, 0.25]], [[2, 5], [3, 6]]]
    assert lower.lines[0].get_xydata().tolist() == [[1, 0], [9, 123456]]
    assert [text.get_text() for text in upper.texts] == ["a 0.25", "b 6"]
    assert [text.get_text() for text in lower.texts] == ["c 1.235e+05"]
    assert [text.get_color() for text in upper.texts] == [line.get_color() for line in upper.lines] == [*COLOURS[:2]]
    assert upper.get_xlim() == lower.get_xlim()
    assert lower.get_xlabel() == "step"


def test_a_curve_is_seen_in_the_picture_from_its_first_to_its_last_value():
    picture = picture_of(curves_chart({"": {"a": {1: 10.0, 3: 0.0}}}))
    assert (picture.min() >= 0, picture.max() <= 1) == (True, True)
    found = near(picture, rgb(COLOURS[0]))
    found = found[found[:, 1] < 500]  # left of the name
    first, last = found[found[:, 1].argmin()], found[found[:, 1].argmax()]
    assert last[0] - first[0] > 100
    assert_close(picture, picture_of(curves_chart({"": {"a": {1: 10.0, 3: 0.0}}})), rtol=0, atol=0)


def test_many_points_have_no_marks():
    few, many = (curves_chart({"": {"a": {i: i for i in range(count)}}}).axes[0].lines[0] for count in (60, 61))
    assert (few.get_marker(), many.get_marker()) == ("o", "")


def test_epochs_are_whole_numbers():
    (axes,) = curves_chart({"": {"a": {1: 1.0, 2: 2.0, 3: 3.0}}}).axes
    assert axes.get_xticks()[1:-1].tolist() == [1, 2, 3]  # the first and the last are out of sight


def test_logarithmic_axes_have_plain_numbers():
    chart = curves_chart({"": {"a": {16: 0.08, 32: 0.2, 128: 1.5}}}, logarithmic=True)
    picture_of(chart)
    (axes,) = chart.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert {"20", "50", "100"} <= set(labels(axes.xaxis))
    assert {"0.1", "0.2", "0.5", "1"} <= set(labels(axes.yaxis))


def test_a_single_point_and_an_empty_curve_can_be_drawn_and_nothing_at_all_is_refused():
    chart = curves_chart({"": {"one": {5: 1.0}, "none": {}}})
    assert chart.axes[0].get_xticks().tolist() == [4, 5, 6]
    assert len(near(picture_of(chart), rgb(COLOURS[0]))) > 10
    assert [text.get_text() for text in chart.axes[0].texts] == ["one 1", "none"]
    with pytest.raises(SettingError, match=r"panels must hold a curve with a point, got none"):
        curves_chart({"": {"none": {}}})


def test_a_cell_is_as_dark_as_its_share_of_its_row():
    chart = shares_chart([[10, 0], [1, 3]], ["first", "second"], ["a", "b"], "title")
    assert [text.get_text() for text in chart.axes[0].texts] == ["10", "0", "1", "3"]
    blue = np.array(rgb(COLOURS[0]))
    full, quarter, three = (near(picture_of(chart), tuple(1 + share * (blue - 1))) for share in (1.0, 0.25, 0.75))
    assert min(map(len, (full, quarter, three))) > 500
    (top, left), (below, same), (_, right) = (places.median(dim=0).values.tolist() for places in (full, quarter, three))
    assert top < below
    assert abs(left - same) < 3
    assert same < right


def test_names_are_written_as_they_are():
    """`$^$` would be a formula, and a wrong one."""
    picture_of(shares_chart([[0, 0]], ["$^$"], ["_a", "$_$"], "$^$"))
    picture_of(curves_chart({"$^$": {"$_$": {1: 1.0}}}))


def test_a_chart_is_written_as_vectors_and_no_window_knows_of_it():
    from matplotlib import pyplot

    before, written = pyplot.get_fignums(), io.StringIO()  # another test may have made one
    curves_chart({"": {"a": {1: 1.0, 2: 2.0}}}).savefig(written, format="svg")
    assert COLOURS[0] in written.getvalue()
    assert pyplot.get_fignums() == before


def test_a_picture_too_wide_for_matplotlib_is_drawn_smaller():
    assert picture_of(new_chart(400_000, 1000)).shape[2] < 2**16
