"""What is promised of every measurement: it disturbs nothing, hangs on nothing, and names what it found."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

import jaxtyping
import numpy as np
import pytest
import torch
from every_measurement import Everything, everything, one_strength, quick, stripes, timeless
from torch import nn

from gan_lightning.cli.naming import KINDS
from gan_lightning.errors import SettingError, UserError
from gan_lightning.evaluation import TensorImages
from gan_lightning.figures import Figure, RunFigures, Section, read_figures, write_figures
from gan_lightning.measurements import Bench, Measurement, Outcome

DRAW_ONLY = {"samples", "filters"}
"""Those that have pictures and no figures."""

ON_VOC = {"voc_classification", "voc_detection", "voc_segmentation"}
"""Those that have data of their own."""


@pytest.fixture(scope="module", autouse=True)
def _one_strength() -> Iterator[None]:
    with one_strength():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@dataclass(frozen=True)
class Made:
    """What one bench finds that makes all measurements, each after the one before it.

    Attributes:
        outcomes: By the measurements' names.
        named: The figures that are named before the training.
        changed: What a measurement has changed.
    """

    outcomes: dict[str, Outcome]
    named: dict[str, Mapping[str, str | None] | None]
    changed: list[str]


def make_all(folder: Path, **settings: Any) -> Made:
    model = everything()
    bench, found = Bench.of_model(model, stripes(), **settings), Made({}, {}, [])
    for each in quick(folder):
        before = state_of(model)
        assert each.passes_over(bench) is None
        found.named[each.name] = each.metrics(bench)
        found.outcomes[each.name] = bench.measure(each)
        found.changed.extend(f"{name} by {each.name}" for name in changes(model, before))
    return found


@pytest.fixture(scope="module")
def made(folder) -> Made:
    return make_all(folder)


@pytest.fixture(scope="module")
def made_while_training(folder) -> Made:
    return make_all(folder, controls=False, epoch=3, batches=12)


@pytest.fixture(scope="module")
def measured(made) -> dict[str, Outcome]:
    return made.outcomes


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return all that a measurement must leave alone.

    Python's own random state is not among it: what checks the annotations while the tests run draws from that.
    """
    legacy = np.random.get_state()  # noqa: NPY002 (the global one)
    return {
        **{name: value.detach().clone() for name, value in [*model.named_parameters(), *model.named_buffers()]},
        "gradients": [(weight.requires_grad, weight.grad is None) for weight in model.parameters()],
        "modes": [(layer.training, *layer._forward_hooks, *layer._forward_pre_hooks) for layer in model.modules()],
        "attributes": [sorted(vars(layer)) for layer in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": (legacy[1].tolist(), *legacy[2:]),
        "settings": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
    }


def changes(model: nn.Module, before: Mapping[str, Any]) -> list[str]:
    """Return the names of what is not as it was."""
    now = state_of(model)
    assert now.keys() == before.keys()
    pairs = ((name, value, now[name]) for name, value in before.items())
    return [n for n, one, other in pairs if not (torch.equal(one, other) if torch.is_tensor(one) else one == other)]


def assert_same(found: Outcome, expected: Outcome, name: str) -> None:
    assert timeless(found) == timeless(expected), name
    for kind in ("pictures", "arrays"):
        one, other = getattr(found, kind), getattr(expected, kind)
        assert one.keys() == other.keys(), name
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_nothing_in_the_model_and_no_random_state_changes(made, made_while_training):
    assert (made.changed, made_while_training.changed) == ([], [])


def test_the_order_does_not_matter(folder, measured):
    turned = Bench.of_model(everything(), stripes())
    for each in reversed(quick(folder)):
        assert_same(turned.measure(each), measured[each.name], each.name)


def test_figures_have_names_of_their_own_made_of_parts_without_spaces(measured):
    found = [figure for outcome in measured.values() for figure in outcome.figures]
    assert {figure.measurement for figure in found} == set(measured) - DRAW_ONLY
    points = [(figure.name, figure.axis, figure.at) for figure in found]
    assert len(set(points)) == len(points)
    for figure in found:
        assert re.fullmatch(r"[^\s/]+(/[^\s/]+)+", figure.name)
        assert figure.name.split("/")[0] == figure.measurement
        assert figure.name.split("/")[-1] == figure.metric
        assert figure.is_point == (figure.at is not None)
    alone = {figure.name for figure in found if not figure.is_point}
    assert alone == {figure.name for figure in found}, "a curve without a value that a reader would quote"


def test_what_is_found_is_written_and_read_back(tmp_path, folder, measured):
    run = RunFigures({"seed": 0})
    for each in quick(folder):
        settings = {field.name: getattr(each, field.name) for field in fields(each)}
        run = run.with_measured(
            each.name, Section(settings, {}, measured[each.name].details), measured[each.name].figures
        )
    write_figures(tmp_path / "figures.json", run)
    back = read_figures(tmp_path / "figures.json")
    assert back.figures == run.figures
    assert list(back.sections) == list(measured)
    for name, outcome in measured.items():
        assert back.sections[name].details == json.loads(json.dumps(outcome.details))
        assert back.sections[name].settings["enabled"] is True
        pictures = outcome.pictures.values()
        assert all(p.ndim == 3 and p.shape[0] == 3 and 0 <= p.min() <= p.max() <= 1 for p in pictures), name
        assert not any(set(key) & set("/ ") for key in [*outcome.pictures, *outcome.arrays, *outcome.data_sets])


def test_while_training_there_are_the_figures_that_were_named_before_and_nothing_of_the_controls(
    measured, made_while_training
):
    for name, outcome in made_while_training.outcomes.items():
        named = made_while_training.named[name] or {}
        assert {figure.name for figure in outcome.figures if not figure.is_point} == set(named), name
        assert set(named.values()) <= {None, "min", "max"}
        assert {figure.weights for figure in outcome.figures} <= {"trained"}
        assert {(figure.epoch, figure.batches) for figure in outcome.figures} <= {(3, 12)}
        assert bool(outcome.pictures) == (name in DRAW_ONLY)
        assert not outcome.arrays
        assert not outcome.data_sets
        # What is left out changes nothing.
        whole = timeless(measured[name])
        assert all(replace(figure, epoch=None, batches=None) in whole for figure in timeless(outcome)), name


def test_what_takes_long_is_off_by_default():
    quick_ones = {"transfer", "anatomy", "reconstruction", "samples", "filters"}
    assert {kind.name for kind in KINDS if kind().enabled} == quick_ones
    assert {kind.name for kind in KINDS if kind().every_n_epochs} == {"samples"}


def test_what_there_is_nothing_to_measure_of_is_passed_over_with_its_reason():
    bare = nn.Linear(4, 4)
    for data in (stripes(), None):
        bench = Bench.of_model(bare, data)
        for kind in KINDS:
            reason = kind(enabled=True).passes_over(bench)
            assert reason, kind.name
            assert reason == reason.strip().rstrip("."), kind.name
            assert "\n" not in reason, kind.name
            with pytest.raises(SettingError, match=re.escape(f"{kind.name} cannot be measured: {reason}.")):
                bench.measure(kind(enabled=True))


def some_data() -> Iterator[tuple[str, object]]:
    """Yield data that some measurements cannot be made of."""
    whole = stripes()
    images, labels = ({split: pair[i] for split, pair in whole._splits.items()} for i in (0, 1))
    attributes = {split: torch.stack([each, 1 - each.clamp(min=0)], dim=1) for split, each in labels.items()}

    def tensors(labels: Mapping[str, torch.Tensor], count: int | None = None, classes: int = 2) -> TensorImages:
        splits = {split: (images[split][:count], labels[split][:count]) for split in ("train", "test")}
        return TensorImages("stripes", **splits, num_classes=classes, batch_size=4)

    nothing = {split: torch.full_like(each, -1) for split, each in labels.items()}
    unlabelled = tensors(nothing)
    unlabelled.label_kind, unlabelled.num_classes = "none", 0
    yield "none", None
    yield "no images", object()
    yield "attributes", tensors(attributes)
    yield "no labels", unlabelled
    yield "no label is known", tensors(nothing)
    yield "one class", tensors({split: torch.zeros_like(each) for split, each in labels.items()})
    yield "one image", tensors(labels, 1)
    yield "a class without images", tensors(labels, classes=3)


@pytest.mark.parametrize(("what", "data"), list(some_data()), ids=[what for what, _ in some_data()])
def test_what_cannot_be_measured_is_passed_over_or_refused_before_and_all_else_is_measured(folder, what, data):
    bench = Bench.of_model(everything(), data)
    for each in quick(folder):
        if each.passes_over(bench) is not None:
            continue
        try:
            with bench.undisturbed():
                each.check(bench)
        except UserError as error:
            refusal = str(error)
        else:
            refusal = None
        if refusal is not None:
            assert "\n" not in refusal
            continue
        found = {figure.name for figure in bench.run(each).figures if figure.weights == "trained"}
        assert found <= set(each.metrics(bench) or {}), each.name
        if data is None:
            assert each.name in {"samples", *ON_VOC}


class ToldError(Exception):
    """The run was told to end."""


def test_a_measurement_ends_at_once_where_the_progress_raises_and_is_made_again_as_if_nothing_had_been(
    folder, tmp_path, measured
):
    model = everything()
    before, out = state_of(model), sys.stdout
    silent = set()
    for place, each in enumerate(quick(folder)):

        def anew(number: int, place: int = place) -> Measurement:
            """Return it with a classifier that is not there yet, so that its training is told, too."""
            return quick(tmp_path / f"{place}-{number}")[place]

        told: list[tuple[str, int, int]] = []
        whole = Bench.of_model(model, stripes(), progress=partial(told_to, told)).measure(anew(0))
        assert_same(whole, measured[each.name], each.name)
        if not told:
            silent.add(each.name)
            continue
        assert all(0 <= done <= total and what for what, done, total in told), each.name
        assert told[-1][1] == told[-1][2], each.name
        assert sys.stdout is out, each.name
        for last in sorted({1, len(told) // 2 or 1}):
            calls: list[tuple[str, int, int]] = []
            bench = Bench.of_model(model, stripes(), progress=partial(told_to, calls, last=last))
            with pytest.raises(ToldError):
                bench.measure(anew(last))
            assert calls == told[:last], each.name
            assert changes(model, before) == [], each.name
            assert sys.stdout is out, each.name
        bench.report_to(None)
        assert_same(bench.measure(each), measured[each.name], each.name)
    assert silent == DRAW_ONLY


def told_to(told: list[tuple[str, int, int]], *about: Any, last: int | None = None) -> None:
    """Note what is told, and raise where it is the last thing to be told."""
    told.append(about)
    if len(told) == last:
        raise ToldError


def numeric(kind: type[Measurement]) -> Iterator[tuple[str, Any]]:
    """Yield each setting that is a number, or numbers, of things, with a value that it cannot have."""
    for setting, hint in get_type_hints(kind).items():
        if setting == "seed" or hint is bool:
            continue
        if hint in (int, int | None):
            yield setting, -1
        elif hint in (float, float | None):
            yield from ((setting, value) for value in (-1.0, float("nan")))
        elif hint in (tuple[int, ...], tuple[float, ...]):
            yield from ((setting, value) for value in ((), (hint.__args__[0](-1),)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_settings_out_of_range_are_refused_with_their_names(kind, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse some by their type
    words = [(name, "reel") for name, hint in get_type_hints(kind).items() if get_origin(hint) is Literal]
    refused = [*numeric(kind), *words]
    assert ("every_n_epochs", -1) in refused
    for setting, value in refused:
        with pytest.raises(SettingError, match=rf"^{setting} must .*got "):
            kind(**{setting: value})


def test_annotations_of_what_is_imported_for_type_checkers_alone_are_no_obstacle():
    @dataclass(frozen=True, kw_only=True)
    class Own(Measurement):
        name = "own"
        of: "NotImported | None" = None  # noqa: F821

        def run(self, bench: Bench) -> Outcome:
            return Outcome()

    with pytest.raises(SettingError, match=r"^every_n_epochs must be at least 0, got -1"):
        Own(every_n_epochs=-1)
    assert Own().of is None


def test_networks_alone_are_measured_without_a_model(folder, measured):
    model = Everything()
    model.load_state_dict(everything().state_dict())
    bench = Bench(model.extractors(), stripes(), random_networks=everything().extractors())
    asked = "anatomy"  # by its setting `probes`, so that it is refused instead of passed over
    chosen = [each for each in quick(folder) if each.passes_over(bench) is None and each.name != asked]
    made = {each.name: bench.measure(each) for each in chosen}
    assert set(made) == {
        "transfer", "together", "robustness", "imagenet_frozen", "attentive", "spectrum", "cka", "layers",
        "filters", "neighbours", *ON_VOC,
    }  # fmt: skip
    for name in ("transfer", "together", "robustness", "imagenet_frozen", "attentive", "spectrum", "cka", "neighbours"):
        trained = [figure for figure in timeless(made[name]) if figure.weights == "trained"]
        assert trained == [figure for figure in timeless(measured[name]) if figure.weights == "trained"]
    assert isinstance(trained[0], Figure)
