"""The one wrapper around everything that is done with a file of the user's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.errors import DataError, NonFiniteError, SettingError
from gan_lightning.system.reading import counted, named, reading, shown

FAILURES = [
    (OSError(5, "Input/output error", "/somewhere"), "Input/output error"),
    (OSError("no number"), "no number"),
    (ValueError("several\nlines  here"), "several lines here"),
    (KeyError("x"), "'x'"),
    (MemoryError(), "MemoryError"),
    (RecursionError("deep"), "deep"),
    (AssertionError(), "AssertionError"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "invalid start byte"),
    (EOFError("bell \a and \udcff"), r"bell \x07 and \udcff"),
    (type("OddError", (Exception,), {})("odd"), "odd"),
]


@pytest.mark.parametrize(("failure", "why"), FAILURES, ids=lambda value: type(value).__name__)
def test_any_failure_becomes_one_line_that_names_the_file(failure, why):
    with pytest.raises(DataError) as caught, reading("caf\udce9", "Mend it."):
        raise failure
    message = str(caught.value)
    assert message.startswith(r"'caf\udce9' cannot be read (")
    assert why in message
    assert message.endswith("). Mend it.")
    assert message.isprintable()
    assert caught.value.__cause__ is failure


@pytest.mark.parametrize(
    "failure", [DataError("a"), SettingError("b"), NonFiniteError("c"), KeyboardInterrupt(), SystemExit()]
)
def test_errors_that_say_it_already_and_interruptions_pass_as_they_are(failure):
    with pytest.raises(type(failure)) as caught, reading("file", "Mend it."):
        raise failure
    assert caught.value is failure


@settings(max_examples=50)
@given(st.text() | st.binary().map(lambda content: content.decode("utf-8", "surrogateescape")))
def test_any_name_can_be_shown_in_one_line_of_any_text_file(name):
    assert shown(name).isprintable()
    shown(name).encode("utf-8")
    assert shown(name) == name or not name.isprintable()


def test_of_many_names_the_first_are_listed_and_the_rest_counted():
    assert named([]) == ""
    assert named(["a", "b\n"]) == r"'a', 'b\n'"
    assert named(list("abcd")) == "'a', 'b', 'c' and 1 more"
    assert (counted(1, "image"), counted(0, "image"), counted(2000, "image")) == ("1 image", "0 images", "2,000 images")
