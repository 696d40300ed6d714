"""A key that stands twice in a YAML file is refused, with its lines."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.errors import SettingError
from gan_lightning.system.yaml_files import check_arguments, check_repeated_keys, repeated_keys

keys = st.text("abcdef", min_size=1, max_size=3)
values = st.recursive(
    st.integers() | st.text("xy", max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(keys, values, max_size=4), st.booleans())
def test_what_a_writer_writes_has_no_key_twice(content, flow):
    assert list(repeated_keys(yaml.safe_dump(content, default_flow_style=flow))) == []


@given(st.lists(keys, min_size=1, max_size=4, unique=True), st.data())
def test_a_key_that_is_written_once_more_at_any_depth_is_found_with_both_lines(path, data):
    depth = data.draw(st.integers(0, len(path) - 1))
    lines = [f"{'  ' * i}{key}:" for i, key in enumerate(path)]
    lines[-1] += " 1"
    again = f"{'  ' * depth}{path[depth]}: 2"
    text = "\n".join([*lines, again])
    assert list(repeated_keys(text)) == [(".".join(path[: depth + 1]), depth + 1, len(path) + 1)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("trainer: {max_epochs: 1}\ntrainer: {limit: 2}", [("trainer", 1, 2)]),
        ("a: {b: 1, c: 2, b: 3}", [("a.b", 1, 1)]),
        ("- {x: 1,\n   x: 2}", [("0.x", 1, 2)]),
        ("'a': 1\n\"a\": 2", [("a", 1, 2)]),
        ("1: a\n'1': b", []),  # a number and a text
        ("base: &b {x: 1}\nother: {<<: *b, x: 2}", []),
        ("one: &a {x: 1}\ntwo: &b {y: 1}\nboth:\n  <<: *a\n  <<: *b", []),
        ("a: 1\n---\na: 2", []),
        ("a: [", []),
        ("", []),
    ],
)
def test_other_ways_to_write_it(text, found):
    assert list(repeated_keys(text)) == found


def test_every_file_that_a_command_names_is_looked_at(tmp_path):
    file = tmp_path / "twice.yaml"
    file.write_text("data: Digits\ntrainer:\n  max_epochs: 1\ntrainer:\n  devices: 1\n")
    message = r"twice.yaml' must have each key once, got trainer in line 2 and again in line 4"
    with pytest.raises(SettingError, match=message):
        check_repeated_keys(file)
    for arguments in (
        ["--config", str(file)], [f"--config={file}"], ["-c", str(file)], [f"--transfer={file}"],
        ["--transfer", str(file)],
    ):  # fmt: skip
        with pytest.raises(SettingError, match=message):
            check_arguments(["fit", *arguments])
    check_arguments(["fit", f"--transfer={tmp_path / 'none.yaml'}", "--data=Digits", "--print_config"])


@pytest.mark.parametrize("name", ["own.YAML", "own.json", "own", "own.txt"])
def test_a_configuration_is_looked_at_whatever_its_name_and_so_is_what_it_names(tmp_path, name):
    outer, inner = tmp_path / "outer.yaml", tmp_path / name
    inner.write_text('{"seed": 1, "seed": 2}')
    outer.write_text(f"transfer: {name}\n")
    for file in (inner, outer) if name.lower().endswith(("yaml", "json")) else (inner,):
        with pytest.raises(SettingError, match=rf"{name}' must have each key once, got seed twice"):
            check_arguments(["fit", "--config", str(file)])


@pytest.mark.parametrize("value", ["{seed: 1, seed: 2}", "[{seed: 1, seed: 2}]"])
def test_yaml_on_the_command_line_is_looked_at(value):
    for arguments in (["--transfer", value], [f"--transfer={value}"]):
        with pytest.raises(SettingError, match=r"--transfer must have each key once, got (0\.)?seed twice"):
            check_arguments(arguments)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "it is empty"),
        (b"# nothing\n", "it is empty"),
        (b"- 1\n- 2\n", "it holds no settings"),
        (b"word\n", "it holds no settings"),
        (bytes(range(256)), "can't decode byte"),
        ("data: Digits".encode("utf-16"), "can't decode byte"),
        ("data: café".encode("latin-1"), "can't decode byte"),
        (b"data: \x00\n", "not allowed"),
        (b"data:\n\tclass_path: Digits\n", "cannot start any token"),
        (b"data: {a: 1\n", "while parsing a flow mapping"),
        (b"? [a, b]\n: 1\n", "unhashable key"),
        (b"a: 1\n---\nb: 2\n", "single document"),
        (b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        (b"a: &a [*a]\n", "Circular reference"),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "nested too deep"),
    ],
)  # fmt: skip
def test_a_file_without_settings_is_refused_by_its_name_in_one_line(tmp_path, content, reason):
    file = tmp_path / "own.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match=rf"^--config must be a YAML file with settings, got \S+own.yaml'.*{reason}"):
        check_arguments(["fit", f"--config={file}"])


def test_a_folder_and_a_link_to_nothing_are_no_configurations(tmp_path):
    (tmp_path / "link.yaml").symlink_to("/nowhere")
    for path in (tmp_path, tmp_path / "link.yaml", tmp_path / ("x" * 300)):
        with pytest.raises(SettingError, match="--config must be a YAML file with settings"):
            check_arguments(["fit", "--config", str(path)])


def test_a_mark_of_the_byte_order_is_no_part_of_a_configuration(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\xef\xbb\xbftrainer: {max_epochs: 1}\n")
    check_arguments(["fit", f"--config={tmp_path / 'own.yaml'}"])
