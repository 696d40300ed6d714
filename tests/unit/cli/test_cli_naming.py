"""In what order the command line reads its arguments, and what a configuration's name stands for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.cli.naming import check_added, check_taken, classes_first, named_measurements, with_files
from gan_lightning.data import Digits
from gan_lightning.errors import SettingError
from gan_lightning.measurements import Quality, Transfer

CLASSES = {"--data": "Digits", "--model": "my_pkg.MyGAN", "--trainer.logger": "CSVLogger"}


@given(st.sampled_from(list(CLASSES)), st.lists(st.sampled_from("abc"), min_size=1, max_size=3), st.booleans())
def test_a_class_comes_before_its_settings_whose_order_stays(name, settings, apart):
    given_class = [name, CLASSES[name]] if apart else [f"{name}={CLASSES[name]}"]
    options = [f"{name}.{setting}={number}" for number, setting in enumerate(settings)]
    ordered = [*given_class, *options]
    for place in range(len(options) + 1):
        assert classes_first([*options[:place], *given_class, *options[place:]]) == ordered


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data=Digits", "--data.limit=80", "--data=MNIST"],
        ["--config", "a.yaml", "--data.limit=80", "--config=b.yaml"],
        ["--transfer.paper.epochs=3", "--transfer.paper=null"],
        ["--trainer.logger.x=1", "--trainer.logger=false"],
        ["--transfer.seed=1", "--transfer=own.yaml"],
        ["--trainer.callbacks.monitor=x", "--trainer.callbacks+=EarlyStopping"],
        ["--print_config"],
        [],
    ],
)
def test_what_has_an_order_of_its_own_keeps_it(arguments):
    assert classes_first(arguments) == arguments


def test_classes_within_classes_come_after_these():
    shuffled = ["--model.update.rate=1", "--model.update=Inverse", "--model.width=4", "--model=MGAN"]
    assert classes_first(shuffled) == [
        "--model=MGAN",
        "--model.update=Inverse",
        "--model.update.rate=1",
        "--model.width=4",
    ]


def test_a_configuration_still_overrides_what_stands_before_it(tmp_path):
    names, config = ["--data.limit=80"], tmp_path / "own.yaml"
    config.write_text("data:\n  class_path: Digits\n  init_args: {limit: 100}\n")
    file = f"--config={config}"
    assert classes_first([*names, file]) == ["--data=Digits", *names, file]
    assert classes_first([*names, file, "--data=MNIST"]) == ["--data=MNIST", *names, file, "--data=MNIST"]
    assert classes_first([file, *names, "--data=MNIST"]) == [file, "--data=MNIST", *names]


def test_a_configuration_by_its_name_becomes_its_file_wherever_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("data: Digits")
    base = Path(__file__).parents[3] / "configs/mgan/base.yaml"
    for words, meant in {
        ("fit", "--config", "mgan/base"): ["fit", "--config", str(base)],
        ("measure", "RUN", "-c", "mgan/base.yaml"): ["measure", "RUN", "-c", str(base)],
        ("--config=mgan/base", "--config=own", "-c=configs/mgan/base"): [
            f"--config={base}", "--config=own.yaml", f"-c={base}"
        ],
        ("--config", "own.yaml", "--config=own.yaml"): ["--config", "own.yaml", "--config=own.yaml"],
        ("--model", "mgan/base", "--run.name=mgan/base", "mgan/base"): [
            "--model", "mgan/base", "--run.name=mgan/base", "mgan/base"
        ],
        ("--config", "nope//nope/", "--config=", "--config={a: http://b}", "--config"): [
            "--config", "nope//nope/", "--config=", "--config={a: http://b}", "--config"
        ],
        (): [],
    }.items():  # fmt: skip
        assert with_files(words) == meant


def test_to_name_further_data_sets_is_to_name_the_measurement_that_takes_them():
    assert named_measurements(["--robustness.seed=1", "--targets+=MNIST", "--targets.root=data"]) == [
        "robustness",
        "transfer",
    ]
    assert named_measurements(["--data.limit=3"]) == []


@pytest.mark.parametrize("option", [["--targets=MNIST"], ["--targets", "MNIST"]])
def test_a_class_in_the_place_of_a_list_is_told_how_to_be_added(option):
    with pytest.raises(SettingError, match=r"targets must be a list, got MNIST\. Add to it with --targets\+=MNIST"):
        check_added(["fit", *option, "--targets.root=data"])
    check_added(["fit", "--targets+=MNIST", "--targets=[]", "--targets", "own.yaml", "--data=Digits"])


def test_further_data_sets_that_no_measurement_takes_are_refused():
    check_taken([], [Transfer(enabled=False)])
    check_taken([Digits()], [Quality(), Transfer()])
    with pytest.raises(
        SettingError, match=r"targets must be empty where transfer is switched off, got 1\. Leave them out, or set"
    ):
        check_taken([Digits()], [Quality(), Transfer(enabled=False)])
