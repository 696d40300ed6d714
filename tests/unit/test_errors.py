"""What an error of a setting says: the setting, what it must be, what it was, and what to do."""

import math
import re

import pytest

from gan_lightning.errors import SettingError, above, at_least, below_one, multiple_of, one_of, refused


class Owner:
    pass


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: at_least(None, 1, epochs=2, batch_size=0), "batch_size must be at least 1, got 0."),
        (lambda: at_least(None, 1, "20 is usual.", epochs=0), "epochs must be at least 1, got 0. 20 is usual."),
        (lambda: at_least(None, 0, rate=math.nan), "rate must be at least 0, got nan."),
        (lambda: at_least(None, 0, rate=math.inf), "rate must be at least 0, got inf."),
        (lambda: above(None, 0, rate=0.0), "rate must be above 0, got 0.0."),
        (lambda: below_one(None, momentum=1.0), "momentum must be in [0, 1), got 1.0."),
        (lambda: below_one(None, momentum=-0.1), "momentum must be in [0, 1), got -0.1."),
        (lambda: one_of(None, ("sgd", "adam"), optimizer="x"), "optimizer must be one of sgd, adam, got 'x'."),
        (lambda: multiple_of(None, 6, width=7), "width must be a multiple of 6, got 7. Use 6 or 12."),
        (lambda: multiple_of(None, 6, width=5), "width must be a multiple of 6, got 5. Use 6."),
        (lambda: multiple_of(None, 6, "parts (6)", width=5), "width must be a multiple of parts (6), got 5. Use 6."),
    ],
)
def test_a_value_that_a_setting_does_not_take_is_named_with_what_it_takes(check, message):
    with pytest.raises(SettingError, match=f"^{re.escape(message)}$"):
        check()


def test_values_that_settings_take_are_passed():
    at_least(None, 1, epochs=1)
    above(None, 0, rate=1e-9)
    below_one(None, momentum=0.0)
    one_of(None, ("sgd", "adam"), optimizer="adam")
    multiple_of(None, 6, width=12)


def test_an_error_says_whose_setting_it_is_and_the_place_of_that_puts_its_path_before_it():
    error = refused(Owner(), "epochs", "be even", 3)
    assert (error.owner, error.setting, error.value) == (Owner, "epochs", 3)
    assert str(error.at("transfer.paper")) == "transfer.paper.epochs must be even, got 3."
    assert error.at("transfer.paper").owner is None
