"""A wrong value of any setting of any shipped configuration is an error that names it, and no traceback."""

import contextlib
import io
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gan_lightning.cli.messages import user_error
from gan_lightning.cli.naming import GROUPS
from gan_lightning.cli.parser import GanCLI

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = ["--model.base_width=4", "--model.feature_dim=8"]
DCGAN = ("subproblem/dcgan_celeba.yaml", "subproblem/dcgan_digits.yaml")
RUNS = {
    "quickstart.yaml": ["quickstart.yaml"],
    **{f"mgan on {data.name}": ["mgan/base.yaml", f"data/{data.name}"] for data in sorted(CONFIGS.glob("data/*.yaml"))},
    **{name: ["mgan/base.yaml", "data/digits.yaml", f"overrides/{name}"] for name in ("width32.yaml", "gpu.yaml")},
    **{f"bigan/{file.name}": [f"bigan/{file.name}"] for file in sorted(CONFIGS.glob("bigan/[!d]*.yaml"))},
    "bigan/discriminator.yaml": ["bigan/discriminator.yaml", "bigan/digits.yaml"],
    **{f"bigan/images/{file.name}": [f"bigan/images/{file.name}", "bigan/data/celeba64.yaml"]
       for file in sorted(CONFIGS.glob("bigan/images/*.yaml"))},
    **{f"bigan/data/{file.name}": ["bigan/images/bigan.yaml", f"bigan/data/{file.name}"]
       for file in sorted(CONFIGS.glob("bigan/data/*.yaml"))},
    **{name: ["subproblem/dcgan_celeba.yaml", name] for name in DCGAN},
    **{f"selfexgan/{file.name}": [f"selfexgan/{file.name}"] for file in sorted(CONFIGS.glob("selfexgan/[!w]*.yaml"))},
    "selfexgan/working_adam.yaml": ["selfexgan/digits.yaml", "selfexgan/working_adam.yaml"],
    **{f"subproblem/{file.name}": ["mgan/base.yaml", "data/digits.yaml", f"subproblem/{file.name}"]
       for file in sorted(CONFIGS.glob("subproblem/[!d]*.yaml"))},
}  # fmt: skip
"""Every shipped configuration, with what makes a run of it."""

WRONG = (
    "-1", "0", "-7.5", "0.3", ".nan", ".inf", "-.inf", "1e30", "1000000000000", "''", "word", "true", "null", "[]",
    "[1,2,3]", "[.nan,0.9]", "{}", "no.such.Class", "torch.nn.Linear",
)  # fmt: skip
ODD = ("1", "2", "3", "7", "0.5", "1.0", "1e-9", "100", "true", "false", "null")
"""Values that many settings take, and that few have; taken or not, a training comes to its end or names them."""

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
        ("trainer.val_check_interval", "0"),
    ],
)  # fmt: skip
def test_what_was_once_a_traceback_names_its_setting(key, value):
    how, said = outcome(*files_of("quickstart.yaml"), *SMALL, f"--{key}={value}")
    assert how == "refused", how
    assert is_named(key, said)


UNTRAINED = ("trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.accelerator", "trainer.plugins")
"""What would start other processes; these values are tried up to the making of everything."""

LONG = 20
"""Seconds after which a training counts as one that takes the value."""


class TooLongError(BaseException):
    """A training took longer than it may."""


def tiny(run: str, data_root: Path, folder: Path) -> list[str]:
    """Return settings that make a run of this kind a small one, on small data."""
    config = next((part for part in reversed(RUNS[run]) if "data/" in part), RUNS[run][-1])
    kind = RUNS[run][0]
    images = kind.startswith("bigan/images") or "celeba" in config
    settings = [
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1",
        "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
        "--data.batch_size=10", "--transfer.paper.epochs=1",
        "--transfer.tuned=null" if images else "--transfer.tuned.strengths=[0.1]",
    ]  # fmt: skip
    if "selfexgan/" in kind:
        settings += ["--model.base_width=2"]
    elif kind in DCGAN:
        settings += ["--model.networks.base_width=2"]
    elif kind.startswith("bigan/images"):
        settings += ["--model.networks.base_width=2", "--model.networks.encoder_width=6"]
    elif "bigan/" in kind:
        settings += ["--model.networks.width=8"]
    else:
        settings += ["--model.base_width=4", "--model.feature_dim=8", "--model.fake_batch_size=10"]
        settings += ["--data.image_size=32"] if config.startswith("data/") and "digits" not in config else []
    if "cartoon" in config:
        settings += [f"--data.root={data_root / 'imagenet/train/class0'}", "--data.test_fraction=0.3"]
    elif not config.endswith(("digits.yaml", "quickstart.yaml")):
        settings += [f"--data.root={data_root / 'imagenet' if 'imagenet' in config else data_root}"]
        settings += [] if "celeba" in config or "imagenet" in config else ["--data.verify=false"]
    if any(name in config for name in ("celeba", "imagenet", "cartoon")):
        settings += [f"--data.cache_dir={folder}", *(["--data.verify=false"] if "celeba" in config else [])]
    return settings


def trained(gan_lightning, *arguments: str) -> tuple[str, str]:
    """Return how a training ends, `accepted` or `refused`, and what is said."""

    def end(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONG)
    try:
        status, _, errors = gan_lightning("fit", *arguments)
    except TooLongError:
        return "accepted", "it goes on"
    except MemoryError as error:
        return f"{type(error).__name__}", str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}", ""
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return {0: "accepted", 2: "refused"}.get(status, f"ended with {status}"), errors


def fault(run: str, key: str, value: str, how: str, said: str) -> str | None:
    """Return what is wrong with how a value was dealt with."""
    trained = how == "accepted" or "training stops. Last good checkpoint" in said  # it diverged, as it was told to
    is_path = f"'{value}" in said  # errors about files name these
    group = key.partition(".")[0]
    # To set one of its settings switches a measurement on, whose others may not fit so few images.
    named = rf"\b({group}|{group.partition('_')[0]})\b"  # VOC's measurements share `voc.root`
    of_group = group in GROUPS and re.search(named, said.rpartition("error:")[2]) is not None
    if trained or (how == "refused" and "Traceback" not in said and (is_named(key, said) or is_path or of_group)):
        return None
    return f"{run}: --{key}={value}: {how}: {said.strip().splitlines()[-1] if said.strip() else ''}"


@pytest.fixture
def limited_memory():
    """Let no value take the whole machine's memory."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.slow
def test_a_wrong_value_in_any_shipped_configuration_trains_a_batch_or_is_an_error_that_names_it(
    gan_lightning, data_root, tmp_path, limited_memory, capsys
):
    rng, faults, outcomes = random.Random(int(os.environ.get("FUZZ_SEED", "0"))), [], Counter()
    sound: dict[str, tuple[str, str]] = {}
    until = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "600"))
    for _ in range(int(os.environ.get("FUZZ_CASES", "40"))):
        if time.monotonic() > until:
            break
        run = rng.choice(list(RUNS))
        key, value = rng.choice(keys_of(run)), rng.choice(rng.choice((WRONG, ODD)))
        small = tiny(run, data_root, tmp_path / "cache")
        if run not in sound:
            sound[run] = trained(gan_lightning, *files_of(run), *small)
            assert sound[run][0] == "accepted", (run, sound[run])
        if key in UNTRAINED:
            how, said = outcome(*files_of(run), *small, f"--{key}={value}")
        else:
            how, said = trained(gan_lightning, *files_of(run), *small, f"--{key}={value}")
        outcomes[how if how in ("accepted", "refused") else "fault"] += 1
        if (found := fault(run, key, value, how, said)) is not None:
            faults.append(found)
            with capsys.disabled():
                print(found, flush=True)
    with capsys.disabled():
        print(dict(outcomes), flush=True)
    assert outcomes["accepted"], outcomes
    assert faults == []
