"""A wrong value of any setting of any shipped configuration is an error that names it, and no traceback."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gan_lightning.cli import GanCLI, user_error

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["--model.base_width=4", "--model.feature_dim=8"]
RUNS = {
    "quickstart.yaml": ["quickstart.yaml"],
    **{f"mgan on {data.name}": ["mgan/base.yaml", f"data/{data.name}"] for data in sorted(CONFIGS.glob("data/*.yaml"))},
    "width32.yaml": ["mgan/base.yaml", "data/digits.yaml", "overrides/width32.yaml"],
    **{f"bigan/{file.name}": [f"bigan/{file.name}"] for file in sorted(CONFIGS.glob("bigan/[!d]*.yaml"))},
    "bigan/discriminator.yaml": ["bigan/discriminator.yaml", "bigan/digits.yaml"],
    **{f"bigan/images/{file.name}": [f"bigan/images/{file.name}", "bigan/data/celeba64.yaml"]
       for file in sorted(CONFIGS.glob("bigan/images/*.yaml"))},
    **{f"bigan/data/{file.name}": ["bigan/images/bigan.yaml", f"bigan/data/{file.name}"]
       for file in sorted(CONFIGS.glob("bigan/data/*.yaml"))},
    **{f"dcgan/{name}": ["dcgan/celeba.yaml", f"dcgan/{name}"] for name in ("celeba.yaml", "digits.yaml")},
    **{f"selfexgan/{file.name}": [f"selfexgan/{file.name}"] for file in sorted(CONFIGS.glob("selfexgan/*.yaml"))},
    **{f"subproblem/{file.name}": ["mgan/base.yaml", "data/digits.yaml", f"subproblem/{file.name}"]
       for file in sorted(CONFIGS.glob("subproblem/*.yaml"))},
}  # fmt: skip
"""Every shipped configuration, with what makes a run of it."""

WRONG = (
    "-1", "0", "-7.5", "0.3", ".nan", ".inf", "-.inf", "1e30", "1000000000000", "''", "word", "true", "null", "[]",
    "[1,2,3]", "[.nan,0.9]", "{}", "no.such.Class", "torch.nn.Linear",
)  # fmt: skip
UNHARMED = ("trainer.fast_dev_run", "ckpt_path")
"""What says whether anything is done at all, and what has tests of its own."""


def outcome(*arguments: str) -> tuple[str, str]:
    """Return how it ends to make everything that a run needs, `accepted` or `refused`, and what is said."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            GanCLI(list(arguments), run=False)
        except SystemExit as end:
            return "refused" if end.code == 2 else f"ended with {end.code}", said.getvalue()
        except Exception as error:
            ours = user_error(error)
            return ("refused", str(ours)) if ours else (f"{type(error).__name__}: {error}", said.getvalue())
    return "accepted", ""


def leaves(values: Any, name: str = "") -> Iterator[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from leaves(value, f"{name}.{key}" if name else key)
    else:
        yield name


@cache
def keys_of(run: str) -> list[str]:
    """Return every setting of a run, by the name that the command line knows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        GanCLI([*files_of(run), "--print_config"], run=False)
    names = (
        key.removesuffix(".class_path").replace(".init_args", "") for key in leaves(yaml.safe_load(shown.getvalue()))
    )
    return sorted(set(names) - set(UNHARMED))


def files_of(run: str) -> list[str]:
    return [argument for file in RUNS[run] for argument in ("--config", str(CONFIGS / file))]


def check(run: str, key: str, value: str) -> None:
    how, said = outcome(
        *files_of(run), *(SMALL if "base_width" not in key and run == "quickstart.yaml" else []), f"--{key}={value}"
    )
    assert how in ("accepted", "refused"), f"--{key}={value}: {how}"
    if how == "refused":
        assert "Traceback" not in said
        assert is_named(key, said), f"--{key}={value}: {said}"


def is_named(key: str, said: str) -> bool:
    """Return whether an error names a setting, as its class has it: the usage before the error names them all."""
    return re.search(rf"\b{re.escape(key.rpartition('.')[2])}\b", said.rpartition("error:")[2]) is not None


settled = settings(
    derandomize=True, database=None, deadline=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


def test_every_shipped_configuration_is_among_those_that_are_tried():
    tried = {file for files in RUNS.values() for file in files}
    assert tried == {str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")}


@settings(settled, max_examples=8)
@given(st.data())
def test_a_wrong_value_of_a_setting_is_accepted_or_an_error_that_names_it(data):
    check("quickstart.yaml", data.draw(st.sampled_from(keys_of("quickstart.yaml"))), data.draw(st.sampled_from(WRONG)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.generators", "null"), ("model.class_weight", ".nan"), ("model.base_width", "1000000000000"),
        ("model.betas", "[.nan,0.9]"), ("density_ratio.alarm.factor", "null"), ("seed_everything", "-1"),
        ("trainer.devices", "-3"), ("checkpoint.save_top_k", "-7"), ("anatomy.seed", "-1"),
    ],
)  # fmt: skip
def test_what_was_once_a_traceback_names_its_setting(key, value):
    how, said = outcome(*files_of("quickstart.yaml"), *SMALL, f"--{key}={value}")
    assert how == "refused", how
    assert is_named(key, said)


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
@settings(settled, max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")))
@given(data=st.data())
def test_a_wrong_value_in_any_shipped_configuration_is_accepted_or_an_error_that_names_it(run, data):
    check(run, data.draw(st.sampled_from(keys_of(run))), data.draw(st.sampled_from(WRONG)))
