"""The command line puts before a setting's name the path of the class that has it."""

import re
from dataclasses import dataclass

import pytest
from jsonargparse import Namespace

from gan_lightning.cli.messages import user_error
from gan_lightning.cli.mount import at_its_path
from gan_lightning.cli.parser import GanCLI
from gan_lightning.errors import SettingError, at_least, refused

MGAN_ON_DIGITS = ["--model=MGAN", "--data=Digits", "--model.base_width=4", "--model.feature_dim=8"]
GAN_ON_DIGITS = ["--model=GAN", "--data=Digits", "--model.networks=PermutationInvariantNetworks"]
UPDATE = "--model.generator_update"


@pytest.mark.filterwarnings("ignore:LightningCLI's args")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MGAN_ON_DIGITS, "--model.shares_removed=7"], "model.shares_removed must be one of 0, 1, 2, 3, 4, got 7."),
        ([*GAN_ON_DIGITS, "--model.optimizer.epsilon=0"], "model.optimizer.epsilon must be above 0, got 0.0."),
        ([*GAN_ON_DIGITS, "--model.networks.width=0"], "model.networks.width must be at least 1, got 0."),
        (
            [*MGAN_ON_DIGITS, f"{UPDATE}=InverseExamples", f"{UPDATE}.inversion_steps=0"],
            "model.generator_update.inversion_steps must be at least 1, got 0.",
        ),
        (
            [*MGAN_ON_DIGITS, f"{UPDATE}=InverseExamples", f"{UPDATE}.regression=perceptual",
             f"{UPDATE}.perceptual.network=no.where"],
            "model.generator_update.perceptual.network must be the import path",
        ),
        ([*MGAN_ON_DIGITS, "--anatomy.images=1"], "anatomy.images must be at least 2, got 1."),
        ([*MGAN_ON_DIGITS, "--transfer.paper.epochs=0"], "transfer.paper.epochs must be at least 1, got 0."),
        ([*MGAN_ON_DIGITS, "--quality.network.steps=1"], "quality.network.steps must be at least 2, got 1."),
        ([*MGAN_ON_DIGITS, "--density_ratio.alarm.factor=1"], "density_ratio.alarm.factor must be above 1, got 1.0."),
        ([*MGAN_ON_DIGITS, "--subproblem.columns=0"], "subproblem.columns must be at least 1, got 0."),
        ([*MGAN_ON_DIGITS, "--voc.limit=0"], "voc.limit must be at least 1, got 0."),
        (
            [*MGAN_ON_DIGITS, "--voc_classification.protocol.crops=0"],
            "voc_classification.protocol.crops must be at least 1, got 0.",
        ),
        ([*MGAN_ON_DIGITS, "--data.batch_size=0"], "data.batch_size must be at least 1, got 0."),
        ([*MGAN_ON_DIGITS, "--data.image_size=64"], "data.image_size must be 32 for MGAN"),
    ],
)  # fmt: skip
def test_an_error_names_the_setting_as_the_command_line_has_it(arguments, message):
    with pytest.raises(SettingError, match=f"^{re.escape(message)}"):
        GanCLI(arguments, run=False)


@dataclass(frozen=True)
class Probe:
    epochs: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, epochs=self.epochs)


@dataclass(frozen=True)
class Group:
    first: Probe | None = None
    second: Probe = Probe()


def of_probe(epochs: int) -> SettingError:
    with pytest.raises(SettingError) as caught:
        Probe(epochs)
    return caught.value


def test_of_two_places_of_a_class_it_is_the_one_with_the_value_that_was_refused():
    for value, place in ((0, "first"), (-1, "second")):
        config = Namespace(group=Namespace(first=Namespace(epochs=0), second=Namespace(epochs=-1)))
        found = at_its_path(of_probe(value), config, {"group": Group})
        assert str(found) == f"group.{place}.epochs must be at least 1, got {value}."


def test_a_class_in_a_list_has_a_number():
    place = f"{Probe.__module__}.Probe"
    listed = [Namespace(class_path=place, init_args=Namespace(epochs=epochs)) for epochs in (3, 0)]
    config = Namespace(trainer=Namespace(callbacks=listed))
    assert str(at_its_path(of_probe(0), config, {})) == "trainer.callbacks[1].epochs must be at least 1, got 0."


def test_an_error_without_an_owner_or_of_a_class_that_stands_nowhere_stays_as_it_is():
    config = Namespace(group=Namespace(first=None))
    for error in (SettingError("epochs must be even."), of_probe(0), refused(Group(), "first", "be there", None)):
        groups = {} if error.owner is Group else {"group": Group}
        assert at_its_path(error, config, groups) is error


@pytest.mark.filterwarnings("ignore:LightningCLI's args")
def test_errors_of_a_users_own_class_come_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "from gan_lightning.errors import SettingError\n"
        "from gan_lightning.papers import MGAN\n\n\n"
        "class Theirs(MGAN):\n"
        "    def __init__(self, channels: int, image_size: int, generators: int = 2, depth: int = 1):\n"
        "        if depth == 2:\n"
        "            raise SettingError('depth must be odd, got 2.')\n"
        "        if depth == 3:\n"
        "            raise ValueError('depth!')\n"
        "        super().__init__(channels, image_size, generators, base_width=4, feature_dim=8)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    theirs = ["--data=Digits", "--model=theirs.Theirs"]
    with pytest.raises(ValueError, match=r"depth must be odd, got 2\.") as caught:
        GanCLI([*theirs, "--model.depth=2"], run=False)
    assert str(user_error(caught.value)) == "depth must be odd, got 2."
    with pytest.raises(ValueError, match=r"depth!"):
        GanCLI([*theirs, "--model.depth=3"], run=False)
    with pytest.raises(SettingError, match=r"^model\.generators must be at least 1, got 0\.$"):
        GanCLI([*theirs, "--model.generators=0"], run=False)
