"""Shipped configurations and sweeps are found by their names, after what stands in the working folder."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gan_lightning.errors import SettingError
from gan_lightning.system import shipped
from gan_lightning.system.shipped import description, found_by_name, shipped_files, similar_names
from gan_lightning.system.yaml_files import check_arguments

ROOT = Path(__file__).parents[3]
KINDS = ("configs", "sweeps")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_is_found_by_its_name_with_and_without_suffix_and_by_its_path_in_a_checkout(here, kind):
    files = list((ROOT / kind).rglob("*.yaml"))
    assert len(files) > 5
    assert sorted(shipped_files(kind).values()) == sorted(files)
    for file in files:
        name = str(file.relative_to(ROOT / kind))
        for way in (name, name.removesuffix(".yaml"), f"{kind}/{name}", f"{kind}/{name}".removesuffix(".yaml")):
            assert found_by_name(way, kind) == file


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_begins_by_saying_what_it_is(kind):
    for name, path in shipped_files(kind).items():
        assert len(description(path)) > 10, name


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# Mao et al. 2022: layers\n# of D. More.\n#   a command. Of it\na: 1\n", "Mao et al. 2022: layers of D"),
        ("# One line.\na: 1 # Not this\n", "One line"),
        ("# A rate of 0.5 for `fit`\n#   gan-lightning fit\n", "A rate of 0.5 for `fit`"),
        ("a: 1\n# Later.\n", ""),
        ("", ""),
    ],
)
def test_a_file_is_described_by_the_first_sentence_of_its_comment(tmp_path, content, expected):
    (tmp_path / "own.yaml").write_text(content)
    assert description(tmp_path / "own.yaml") == expected


@pytest.mark.parametrize("stands", ["quickstart", "quickstart.yaml"])
def test_what_stands_in_the_working_folder_wins(here, stands):
    (here / stands).write_text("model: MGAN\n")
    assert (found_by_name("quickstart", "configs") or Path("quickstart")) == Path(stands)
    if stands == "quickstart.yaml":
        assert found_by_name(stands, "configs") is None
    else:  # with its suffix it is another name
        assert found_by_name("quickstart.yaml", "configs") == ROOT / "configs/quickstart.yaml"


def test_a_folder_and_a_link_to_nothing_win_too_and_have_their_own_error(here):
    (here / "quickstart").mkdir()
    (here / "mgan").mkdir()
    (here / "mgan/base").symlink_to("/nowhere")
    for name in ("quickstart", "mgan/base"):
        assert found_by_name(name, "configs") is None
    with pytest.raises(SettingError, match=r"^--config must be .* got 'quickstart', which is none: Is a directory\.$"):
        check_arguments(["fit", "--config=quickstart"])


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "/", "./quickstart", "/quickstart", "../configs/quickstart", "mgan/../quickstart", "mgan//base",
        "quickstart/", "mgan", "nope", "../pyproject", "../sweeps", "configs", "configs/", "configs/../quickstart",
        "configs/configs/quickstart", "quickstart.yaml.yaml", "quickstart.yml", "*", "quick*", "x" * 300, "a\0b",
        "data: Digits", "a: 1\nb: 2", "mgan\\base", "QUICKSTART",
    ],
)  # fmt: skip
def test_what_is_no_shipped_name_is_not_found(here, name):
    assert found_by_name(name, "configs") is None


@given(st.lists(st.sampled_from(["..", ".", "configs", "sweeps", "mgan", "base", "tests", "conftest"]), max_size=6))
def test_no_name_leads_out_of_the_shipped_folder(parts):
    found = found_by_name("/".join(parts), "configs")
    assert found is None or found.resolve().is_relative_to(ROOT / "configs")


def test_in_a_wheel_the_files_stand_in_the_package(tmp_path, here, monkeypatch):
    file = tmp_path / "site/gan_lightning/shipped/configs/own/it.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("a: 1")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "site/gan_lightning")
    assert shipped_files("configs") == {"own/it": file}


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("quickstrat", "configs", "Shipped with similar names: quickstart. `gan-lightning configs` lists all."),
        ("base", "configs", "Shipped with similar names: mgan/base. `gan-lightning configs` lists all."),
        ("configs/mgan/bse.yaml", "configs", "Shipped with similar names: mgan/base. "),
        ("mnist", "configs", "Shipped with similar names: data/mnist, selfexgan/mnist"),
        ("shared_layers_digit", "sweeps", "shared_layers_digits"),
        ("zzz", "configs", "`gan-lightning configs` lists those that are shipped."),
        ("", "configs", "`gan-lightning configs` lists those that are shipped."),
    ],
)
def test_a_name_that_means_nothing_is_answered_with_the_closest_ones(name, kind, said):
    assert said in similar_names(name, kind)


def test_a_configuration_that_is_not_there_is_named_with_the_closest_shipped_ones(here):
    message = (
        r"^--config must be a YAML file with settings, got 'mgan/bsae', which is none: No such file or directory\. "
        r"Shipped with similar names: mgan/base\. `gan-lightning configs` lists all\.$"
    )
    for arguments in (["--config=mgan/bsae"], ["--config", "mgan/bsae"], ["-c", "mgan/bsae"]):
        with pytest.raises(SettingError, match=message):
            check_arguments(["fit", *arguments])


def test_the_list_has_a_line_for_each_with_what_it_is_and_loads_no_torch(here):
    code = (
        "import sys; from gan_lightning.__main__ import main\n"
        "try: main(['configs'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *lines, torch = done.stdout.splitlines()
    assert (done.returncode, torch) == (0, "False"), done.stderr
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines if line.startswith("  ")}
    assert listed == {name: description(path) for kind in KINDS for name, path in shipped_files(kind).items()}
    headings = [line for line in lines if not line.startswith("  ")]
    assert headings == [
        f"Configurations in {ROOT}/configs, for gan-lightning fit --config NAME:",
        f"Sweeps in {ROOT}/sweeps, for gan-lightning sweep NAME:",
    ]


def test_sweeps_are_shipped_as_sweeps_and_configurations_as_configurations():
    for kind, lacks in (("configs", "command"), ("sweeps", "model")):
        for name, path in shipped_files(kind).items():
            assert lacks not in yaml.safe_load(path.read_text()), name
