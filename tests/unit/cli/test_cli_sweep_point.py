"""Whether a trial uses the values that its sweep has chosen."""

import pytest

from gan_lightning.cli.sweep_point import check_swept
from gan_lightning.errors import SettingError

MNIST = {"class_path": "gan_lightning.data.MNIST", "init_args": {"root": "data", "limit": None}}


@pytest.mark.parametrize("targets", [[], [{"class_path": "MNIST"}], ["MNIST", {"class_path": "MNIST"}]])
def test_the_classes_of_a_list_may_have_short_names_and_defaults_as_others(targets):
    check_swept({"targets": targets}, {"targets": [MNIST] * len(targets)})


@pytest.mark.parametrize("targets", [[], ["CIFAR10"], ["MNIST", "MNIST"], [{"init_args": {"limit": 3}}]])
def test_another_list_is_refused(targets):
    with pytest.raises(SettingError, match=r"targets must be .* as the sweep chose"):
        check_swept({"targets": targets}, {"targets": [MNIST]})
