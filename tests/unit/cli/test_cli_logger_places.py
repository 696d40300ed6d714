"""Loggers as they are typed get the run's folder, and keep a place of their own."""

import json

import pytest

from gan_lightning.cli.logger_places import with_places

PLACED = {"save_dir": "RUN_FOLDER"}


def given(words: list[str]) -> list[object]:
    """Return what the options for the logger say."""
    said = [word.partition("=")[2] for word in words if word.startswith("--trainer.logger") and "{" in word]
    return [json.loads(value) for value in said]


@pytest.mark.parametrize("arguments", [["--trainer.logger=CSVLogger"], ["--trainer.logger", "CSVLogger"],
                                       ["--trainer.logger+=lightning.pytorch.loggers.CSVLogger"],
                                       ['--trainer.logger={"class_path": "CSVLogger"}']])  # fmt: skip
def test_a_class_without_a_place_gets_one(arguments):
    (logger,) = given(with_places(["fit", *arguments, "--seed_everything=1"]))
    assert logger == {"class_path": logger["class_path"], "init_args": PLACED}
    assert logger["class_path"].endswith("CSVLogger")


def test_what_has_a_place_or_needs_none_stays_as_it_is():
    for arguments in (
        ["fit", "--trainer.logger=WandbLogger"], ["fit", "--trainer.logger=false"], ["fit", "--trainer.logger=a: [b"],
        ["fit", '--trainer.logger={"class_path": "CSVLogger", "init_args": {"save_dir": "mine"}}'],
        ["fit", "--trainer.logger=MLFlowLogger", "--trainer.logger.save_dir=mine"], ["fit", "--config", "missing.yaml"],
    ):  # fmt: skip
        assert with_places(arguments) == arguments


def test_loggers_of_a_configuration_are_given_again_behind_it(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text(
        "trainer:\n  logger: [TensorBoardLogger, WandbLogger, {class_path: CSVLogger, init_args: null}]\n"
    )
    words = with_places(["fit", "--config", str(config), "--trainer.logger=false"])
    assert words[:3] == ["fit", "--config", str(config)]
    assert json.loads(words[3].partition("=")[2]) == [
        {"class_path": "TensorBoardLogger", "init_args": PLACED}, "WandbLogger",
        {"class_path": "CSVLogger", "init_args": PLACED},
    ]  # fmt: skip
    assert words[4:] == ["--trainer.logger=false"], "what comes later still overrides it"
    config.write_text("trainer:\n  logger: WandbLogger\n")
    assert with_places(["fit", f"--config={config}"]) == ["fit", f"--config={config}"]
