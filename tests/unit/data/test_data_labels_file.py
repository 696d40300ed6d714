"""Lists of labels: what is read, and what is refused by line."""

import os
import random
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.data import ImageFolder
from gan_lightning.errors import DataError, SettingError


@pytest.fixture
def root(tmp_path):
    """Four images at two depths."""
    for name in ("x.png", "y.jpg", "deep/z.png", "deep/er/w.webp"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    return tmp_path / "set"


def listed(root: Path, text: str | bytes, **settings: object) -> ImageFolder:
    (root / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return ImageFolder(root, **{"labels_file": "labels.csv", "test_fraction": 0.5} | settings)


def labels(data: ImageFolder) -> dict[str, str]:
    """Return the class of each image by its file's name; an empty one where it is not known."""
    found = data.samples("train") + data.samples("test")
    return {file.name: data.classes[label] if label >= 0 else "" for file, label in found}


EXPECTED = {"x.png": "b", "y.jpg": "a", "z.png": "a", "w.webp": "b"}
ROWS = "file,label\nx.png,b\ny.jpg,a\ndeep/z.png,a\ndeep/er/w.webp,b\n"
READ = {
    "plain": ROWS,
    "no newline at the end": ROWS.rstrip(),
    "Windows": ROWS.replace("\n", "\r\n"),
    "old Macintosh": ROWS.replace("\n", "\r"),
    "byte order mark": "\ufeff" + ROWS,
    "semicolons": ROWS.replace(",", ";"),
    "tabs": ROWS.replace(",", "\t"),
    "blanks": ROWS.replace(",", " , "),
    "empty lines": "\n\n" + ROWS.replace("\n", "\n\n") + " \n,\n",
    "more columns": ROWS.replace(",", ",ignored,"),
    "empty columns at the end": ROWS.replace("\n", ",,\n").replace("label,,", "label"),
    "other order": "label,file\nb,x.png\na,y.jpg\na,deep/z.png\nb,deep/er/w.webp\n",
    "quotes": ROWS.replace("x.png", '"x.png"').replace(",a", ',"a"'),
    "ends of paths": "file,label\nx.png,b\ny.jpg,a\nz.png,a\ner/w.webp,b\n",
    "dots": ROWS.replace("x.png", "./deep/../x.png"),
    "backslashes": ROWS.replace("/", "\\"),
}


@pytest.mark.parametrize("text", READ.values(), ids=READ)
def test_a_list_is_read_however_programs_write_it(root, text):
    data = listed(root, text)
    assert labels(data) == EXPECTED
    assert (data.classes, data.label_kind) == (["a", "b"], "classes")
    assert data.about["images_per_class"] == {name: {"train": 1, "test": 1} for name in "ab"}


def test_paths_may_be_whole_or_from_the_lists_own_folder(root, tmp_path):
    (tmp_path / "lists").mkdir()
    names = ("x.png", "y.jpg", "deep/z.png", "deep/er/w.webp")
    for form in (lambda name: str(root / name), lambda name: f"../set/{name}"):
        rows = [f"{form(name)},{EXPECTED[Path(name).name]}" for name in names]
        (tmp_path / "lists" / "labels.csv").write_text("\n".join(["file,label", *rows]))
        data = ImageFolder(root, labels_file=tmp_path / "lists" / "labels.csv", test_fraction=0.5)
        assert labels(data) == EXPECTED


def test_the_list_is_found_from_the_root_or_else_from_the_working_directory(root, tmp_path, monkeypatch):
    (tmp_path / "here.csv").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    assert labels(ImageFolder("set", labels_file="here.csv")) == EXPECTED
    assert labels(listed(root, ROWS)) == EXPECTED


def test_other_columns_can_be_named(root):
    text = ROWS.replace("file,label", "picture,kind")
    assert labels(listed(root, text, file_column="picture", label_column="kind")) == EXPECTED


def test_classes_that_are_whole_numbers_are_sorted_as_numbers(root):
    values = iter(["10", "9", "9", "10"])
    text = "\n".join(row if number == 0 else row.split(",")[0] + "," + next(values)
                     for number, row in enumerate(ROWS.splitlines()))  # fmt: skip
    assert listed(root, text).classes == ["9", "10"]
    assert listed(root, text.replace("10", "10.5")).classes == ["10.5", "9"]


def test_images_without_a_label_are_kept_without_and_named(root, caplog):
    data = listed(root, "file,label\nx.png,a\ny.jpg,b\nz.png,\n")
    assert labels(data) == {"x.png": "a", "y.jpg": "b", "z.png": "", "w.webp": ""}
    assert f"1 image without a row in '{root}/labels.csv', so the label is not known: 'deep/er/w.webp'." in caplog.text
    assert data.about["without_label"] == {"train": 1, "test": 1}


def test_one_label_alone_is_none(root, caplog):
    data = listed(root, "file,label\nx.png,a\ny.jpg,a\nz.png,a\nw.webp,a\n")
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert "has one class only, 'a': there are no labels to evaluate with" in caplog.text


def test_a_shipped_split_can_have_a_list(root):
    (root / "deep").rename(root / "train")
    (root / "val").mkdir()
    for name in ("x.png", "y.jpg"):
        (root / name).rename(root / "val" / name)
    data = listed(root, "file,label\nval/x.png,b\ny.jpg,a\ntrain/z.png,a\nw.webp,b\n")
    assert labels(data) == EXPECTED
    assert {file.name for file, _ in data.samples("test")} == {"x.png", "y.jpg"}


@pytest.mark.parametrize("name", [b"caf\xe9.png", "größer.png".encode(), b"a, b.png", b'say "x".png', b"[red].png"])
def test_names_of_any_bytes_can_be_listed(root, name):
    file = root / os.fsdecode(name)
    file.touch()
    quoted = b'"' + name.replace(b'"', b'""') + b'"'
    data = listed(root, ROWS.encode() + quoted + b",caf\xe9\n" + b"z.png,a\n"[:0])
    assert labels(data) == EXPECTED | {file.name: os.fsdecode(b"caf\xe9")}


def test_composed_and_decomposed_letters_are_the_same(root):
    (root / unicodedata.normalize("NFD", "größer.png")).touch()
    data = listed(root, ROWS + unicodedata.normalize("NFC", "größer.png") + ",a\n")
    assert len(labels(data)) == 5
    assert set(labels(data).values()) == {"a", "b"}


def test_links_to_one_file_may_each_have_a_row_if_they_agree(root):
    (root / "again.png").symlink_to("x.png")
    assert labels(listed(root, ROWS + "again.png,b\n")).keys() & {"x.png", "again.png"} in ({"x.png"}, {"again.png"})
    message = (
        r"must give each file one label; two labels for the same file have 'x\.png' \(line 2\) and 'again\.png' \(li"
    )
    with pytest.raises(DataError, match=message):
        _ = listed(root, ROWS + "again.png,a\n").classes


REFUSED = {
    "empty": (
        "",
        r"file_column must be one of the columns that the first line of '.*' names, got 'file', and they are \.",
    ),
    "no header": (
        "x.png,b\ny.jpg,a\n",
        r"^file_column must be .* and they are 'x\.png', 'b'\. Set file_column",
    ),
    "other columns": (
        "file,hair\nx.png,b\n",
        r"^label_column must be one of .* got 'label', and they are 'file', 'hair'",
    ),
    "a column twice": ("file,label,label\nx.png,a,b\n", r"^label_column must be .* they are 'file', 'label', 'label'"),
    "no rows": ("file,label\n\n", r"^'.*labels\.csv' must have a row for each image below its header, got none"),
    "too few values": (ROWS + "\n\nx.png\n", r"^Line 8 of '.*' must have a name and 2 values, .* got 1: x\.png\. Corr"),
    "too many values": (ROWS + "a,b,c\n", r"^Line 6 of '.*' must have a name and 2 values, as its header has, got 3"),
    "no name": (ROWS + ",a\n", r"^Line 6 of '.*' must have a name and 2 values"),
    "missing file": (
        ROWS + "v.png,a\nu.png,a\n",
        r"^The 6 rows of '.*' must each name an image below '.*/set'; no such image is there for 'v\.png' \(line 6\), "
        r"'u\.png' \(line 7\)\. Correct the list\.$",
    ),
    "many missing files": (
        "file,label\n" + "".join(f"no{index}.png,a\n" for index in range(9)),
        r"no such image is there for 'no0\.png' \(line 2\), 'no1\.png' \(line 3\), 'no2\.png' \(line 4\) and 6 more",
    ),
    "no image": (ROWS + "labels.csv,a\n", r"must each name an image below .* for 'labels\.csv' \(line 6\)"),
    "outside": (ROWS + "/etc/hostname,a\n", r"must each name an image below .* for '/etc/hostname' \(line 6\)"),
    "a folder": (ROWS + "deep,a\n", r"must each name an image below .* for 'deep' \(line 6\)"),
    "twice": (
        ROWS + "x.png,b\n",
        r"must each name another image; the same one is in 'x\.png' \(line 2\) and 'x\.png' \(l",
    ),
    "twice otherwise": (
        ROWS + "./x.png,b\n",
        r"must each name another image; the same one is in 'x\.png' \(line 2\) and",
    ),
    "two labels": (
        ROWS + "x.png,a\n",
        r"must each name another image; the same one is in 'x\.png' \(line 2\) and 'x\.",
    ),
    "open quotes": (ROWS + '"x.png,b\n', r"^'.*labels\.csv' cannot be read \(unexpected end of data\)\. Correct the"),
    "UTF-16": (ROWS.encode("utf-16"), r"^file_column must be one of the columns that the first line of"),
    "binary": (bytes(range(256)), r"labels\.csv' (cannot be read|names)"),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_a_list_that_contradicts_itself_or_the_folder_is_refused_by_line(root, text, message):
    with pytest.raises(DataError, match=message) as caught:
        _ = listed(root, text).classes
    assert str(caught.value).isprintable()


def test_the_end_of_a_path_that_two_images_have_is_refused(root):
    (root / "other").mkdir()
    (root / "other" / "z.png").touch()
    message = r"must each name one image; give more of the path for 'z\.png' \(line 4\)\."
    with pytest.raises(DataError, match=message):
        _ = listed(root, "file,label\nx.png,b\ny.jpg,a\nz.png,a\n").classes


@pytest.mark.parametrize(
    ("make", "why"),
    [(lambda file: None, "No such file"), (lambda file: file.mkdir(), "Is a directory"),
     (lambda file: file.symlink_to("/nowhere"), "No such file")],
    ids=["missing", "folder", "link to nothing"],
)  # fmt: skip
def test_a_list_that_cannot_be_opened_is_named(root, make, why):
    make(root / "list.csv")
    with pytest.raises(DataError, match=rf"list\.csv' cannot be read \({why}"):
        _ = ImageFolder(root, labels_file=root / "list.csv").classes


def test_the_two_columns_must_differ():
    with pytest.raises(SettingError, match=r"^label_column must not be file_column, got 'file' for both\. Set la"):
        ImageFolder(labels_file="labels.csv", label_column="file")


@settings(max_examples=25)
@given(seed=st.integers(0, 10**9))
def test_every_image_gets_the_label_of_its_row_in_any_order_and_each_class_is_in_both_splits(tmp_path_factory, seed):
    rng, root = random.Random(seed), tmp_path_factory.mktemp("set")
    folders = [root, root / "a", root / "a" / "b", root / "c"]
    expected = {}
    for index in range(rng.randint(4, 30)):
        folder = rng.choice(folders)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").touch()
        expected[(folder / f"{index}.png").relative_to(root).as_posix()] = str(index % rng.randint(2, 3))
    names = rng.sample(sorted(expected), len(expected))
    separator = rng.choice(",;\t")
    rows = [separator.join((name if rng.random() < 0.5 else name.rpartition("/")[2], expected[name])) for name in names]
    (root / "list").write_text("\n".join([separator.join(("file", "label")), *rows]))
    data = ImageFolder(root, labels_file="list")
    found = data.samples("train") + data.samples("test")
    if data.classes:
        assert {file.relative_to(root).as_posix(): data.classes[label] for file, label in found} == expected
        counts = Counter(expected.values())
        assert all(
            (number["test"] >= 1) == (counts[name] > 1) for name, number in data.about["images_per_class"].items()
        )
    else:
        assert len(set(expected.values())) == 1


def test_a_parquet_file_is_a_list_of_labels(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="needs the extra [parquet]")
    from pyarrow import parquet

    from gan_lightning.data.labels_file import read_rows

    table = pa.table({"picture": ["a.png", "b.png"], "kind": [3, None], "more": [0.5, 1.5]})
    parquet.write_table(table, tmp_path / "labels.parquet")
    rows = read_rows(tmp_path / "labels.parquet", "picture", "kind")
    assert [(row.line, row.name, row.label) for row in rows] == [(1, "a.png", "3"), (2, "b.png", "")]
    with pytest.raises(DataError, match=r"labels\.parquet' has no column 'file', and its columns are .*Set file"):
        read_rows(tmp_path / "labels.parquet", "file", "kind")
    parquet.write_table(pa.table({"picture": ["a.png", None], "kind": [3, 4]}), tmp_path / "labels.parquet")
    with pytest.raises(DataError, match=r"Row 2 of '.*labels\.parquet' must have the name of a file, got none"):
        read_rows(tmp_path / "labels.parquet", "picture", "kind")
    (tmp_path / "text.parquet").write_text("picture,kind")
    with pytest.raises(DataError, match=r"text\.parquet' cannot be read"):
        read_rows(tmp_path / "text.parquet", "picture", "kind")
