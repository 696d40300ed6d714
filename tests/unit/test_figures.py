import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.errors import DataError
from gan_lightning.figures import Figure, RunFigures, Section, final_figures, metrics, read_figures, write_figures

text = st.text("abcé_-0.", max_size=6)
curves = st.fixed_dictionaries({"axis": st.sampled_from(["round", "head epoch"]), "at": st.floats(-9, 9)})
counts = st.none() | st.integers(0, 9)
figures = st.builds(
    lambda curve, **settings: Figure(measurement="m", metric="x", **settings, **curve),
    curve=st.just({}) | curves, value=st.floats(-1e9, 1e9), subject=text, protocol=text, condition=text,
    weights=st.sampled_from(["trained", "random", "none"]), split=st.sampled_from(["train", "test", ""]),
    images=counts, epoch=counts, batches=counts, seconds=st.none() | st.floats(0, 9),
)  # fmt: skip


@given(st.lists(figures, max_size=4))
def test_what_is_written_is_what_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("run") / "figures.json"
    section = Section({"a": [1, None]}, {"epoch": 3}, {"classes": {"x": 0.5}})
    run = RunFigures(
        {"model": "M", "seed": 3}, rows, {"m": section}, {"n": "why"}, {"m/x": {"value": 0.1, "source": "p"}}
    )
    write_figures(path, run)
    assert read_figures(path) == run
    assert [row["name"] for row in json.loads(path.read_text())["figures"]] == [row.name for row in rows]


def test_a_name_has_the_parts_that_there_are():
    figure = Figure(measurement="transfer", metric="accuracy", value=0.5, subject="d", protocol="tuned")
    assert figure.name == "transfer/d/tuned/accuracy"
    assert replace(figure, weights="random", condition="fresh").name == "transfer/d/tuned/random_weights/fresh/accuracy"
    assert replace(figure, subject="", protocol="", weights="none").name == "transfer/accuracy"
    point = replace(figure, axis="round", at=2.0)
    assert (point.name, point.is_point, figure.is_point) == (figure.name, True, False)
    assert metrics([figure, point]) == {"transfer/d/tuned/accuracy": 0.5}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_by_its_name(value):
    with pytest.raises(DataError, match="quality/fid must be finite"):
        Figure(measurement="quality", metric="fid", value=value)


def test_a_measurement_that_is_made_again_replaces_its_figures_of_the_same_epoch():
    early = Figure(measurement="a", metric="x", value=1.0, epoch=1)
    late, again, other = (replace(early, value=v, epoch=2) for v in (2.0, 3.0, 4.0))
    other = replace(other, measurement="b")
    run = RunFigures({}, [early, late, other], {}, {"a": "it was switched off"})
    updated = run.with_measured("a", Section({}), [again])
    assert updated.figures == [early, other, again]
    assert updated.passed_over == {}
    assert final_figures(updated.figures) == [other, again]


def test_numbers_that_json_has_no_word_for_do_not_break_the_file(tmp_path):
    path = tmp_path / "figures.json"
    write_figures(path, RunFigures({"model_settings": {"rate": math.inf}}, [], {"a": Section({}, {}, {"x": math.nan})}))
    assert read_figures(path).about["model_settings"] == {"rate": "inf"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is cut off or damaged"),
        ("[]", "has schema version None, and this version of the package reads"),
        ('{"schema_version": 1}', "has schema version 1"),
        ('{"schema_version": 2}', "is garbled"),
        ('{"schema_version": 2, "measurements": {}, "published": {}, "passed_over": {}, "figures": [{"value": true, '
         '"metric": "x", "measurement": "m"}]}', "is garbled: .*a figure's value must be a number, got True"),
        ('{"schema_version": 2, "measurements": {}, "published": {}, "passed_over": {}, "figures": [{"value": NaN, '
         '"metric": "x", "measurement": "m"}]}', "is garbled: .*m/x must be finite, got nan"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_why(tmp_path, content, message):
    (tmp_path / "figures.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_figures(tmp_path / "figures.json")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_figures(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"axis": "round"}, "must have both axis and at, or neither"),
        ({"at": 1.0}, "must have both axis and at, or neither"),
    ],
)
def test_a_figure_that_no_reader_would_take_is_refused_when_it_is_made(parts, message):
    with pytest.raises(DataError, match=message):
        Figure(measurement="m", metric="x", value=1.0, **parts)
