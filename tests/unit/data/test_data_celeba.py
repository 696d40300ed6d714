import numpy as np
import pytest
import torch

from gan_lightning.data import CelebA
from gan_lightning.data.picture import read_square
from gan_lightning.errors import DataError, SettingError

NAMES = [f"{number:06}.jpg" for number in range(1, 9)]
PARTS = [0, 0, 0, 0, 1, 2, 2, 2]


@pytest.fixture
def attributes(rng):
    """Attributes of all images but the third: -1 or 1."""
    return {name: rng.choice([-1, 1], 40) for name in NAMES if name != NAMES[2]}


@pytest.fixture
def root(tmp_path, write_image, attributes):
    folder = tmp_path / "celeba"
    for name in NAMES:
        write_image(folder / "img_align_celeba" / name, 178, 218)
    header = f"{len(attributes)}\n" + " ".join(f"Attribute_{number}" for number in range(40)) + "\n"
    rows = [f"{name} " + " ".join(f"{value:2}" for value in row) for name, row in attributes.items()]
    (folder / "list_attr_celeba.txt").write_text(header + "\n".join(rows) + "\n")
    parts = [f"{name} {part}\n" for name, part in zip(NAMES, PARTS, strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(parts))
    people = [f"{name} {number}\n" for name, number in zip(NAMES, range(10_177, 0, -1), strict=False)]
    (folder / "identity_CelebA.txt").write_text("".join(people))
    return tmp_path


@pytest.fixture
def open_subset(root, tmp_path):
    return lambda **settings: CelebA(root, verify=False, cache_dir=tmp_path / "cache", **settings)


@pytest.mark.parametrize(("split", "part"), [("train", 0), ("test", 2)])
def test_splits_are_the_published_partition(root, open_subset, split, part):
    expected = [name for name, number in zip(NAMES, PARTS, strict=True) if number == part]
    images = [read_square(root / "celeba" / "img_align_celeba" / name, 64, None) for name in expected]
    np.testing.assert_array_equal(open_subset().store(split).images.numpy(), np.stack(images))


@pytest.mark.parametrize("crop_size", [64, 108])
def test_a_crop_is_cut_from_the_centre(root, open_subset, crop_size):
    first = read_square(root / "celeba" / "img_align_celeba" / NAMES[0], 32, crop_size)
    data = open_subset(crop_size=crop_size, image_size=32)
    np.testing.assert_array_equal(data.store("train").images[0].numpy(), first)


def test_attributes_are_0_or_1_and_unlisted_images_have_minus_1(open_subset, attributes):
    labels = open_subset().store("train").labels
    for row, name in zip(labels, NAMES[:4], strict=True):
        expected = attributes[name] == 1 if name in attributes else np.full(40, -1)
        assert row.tolist() == expected.astype(int).tolist()


def test_identities_count_from_0_and_unlisted_images_have_minus_1(root, open_subset):
    data = open_subset(labels="identity")
    assert (data.label_kind, data.num_classes) == ("classes", 10_177)
    assert data.store("train").labels.tolist() == [10_176, 10_175, 10_174, 10_173]
    (root / "celeba" / "identity_CelebA.txt").write_text("000002.jpg 5\n")
    assert open_subset(labels="identity").store("train").labels.tolist() == [-1, 4, -1, -1]


def test_without_labels_the_lists_of_labels_are_not_needed(root, open_subset):
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt"):
        (root / "celeba" / name).unlink()
    data = open_subset(labels="none")
    assert (data.label_kind, data.num_classes) == ("none", 0)
    assert data.store("train").labels.tolist() == [-1] * 4


def test_a_limit_decodes_no_more_than_it_keeps(root, open_subset):
    (root / "celeba" / "img_align_celeba" / NAMES[3]).write_text("damaged")
    assert len(open_subset(limit=3).store("train")) == 3


def test_other_labels_do_not_decode_again(tmp_path, open_subset):
    open_subset().setup("fit")
    caches = sorted((tmp_path / "cache").iterdir())
    open_subset(labels="identity").setup("fit")
    assert sorted((tmp_path / "cache").iterdir()) == caches
    assert len(caches) == 2


def test_a_subset_is_refused_or_warned_of_once(root, open_subset, caplog):
    with pytest.raises(DataError, match=r"celeba' lists 8 images and holds 8 of them, of 202,599 published\. Fetch"):
        CelebA(root).setup("fit")
    (root / "celeba" / "img_align_celeba" / NAMES[1]).unlink()
    data = open_subset()
    data.prepare_data()
    assert len(data.store("train")) == 3
    assert [record.message.split("/")[-1] for record in caplog.records] == [
        "celeba' lists 8 images and holds 7 of them, of 202,599 published. Accepted, since verify is false.",
        "list_attr_celeba.txt' has 7 rows, of 202,599 published. Accepted, since verify is false.",
    ]


def test_a_split_without_images_is_an_error(root, open_subset):
    for name in NAMES[5:]:
        (root / "celeba" / "img_align_celeba" / name).unlink()
    with pytest.raises(DataError, match=r"img_align_celeba' holds no image of the test split"):
        open_subset().setup("test")


LISTS = {"list_eval_partition.txt": "identity", "identity_CelebA.txt": "identity", "list_attr_celeba.txt": "attributes"}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "spaced",
    [
        lambda text: text + "\n",
        lambda text: "\n \n" + text,
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" ", "   \t") + "\t\n",
        lambda text: text.rstrip("\n"),
    ],
    ids=["at the end", "at the beginning", "everywhere", "Windows", "blanks", "no newline"],
)
def test_empty_lines_and_blanks_of_a_list_change_nothing(root, open_subset, name, spaced):
    before = open_subset(labels=LISTS[name]).store("train")
    file = root / "celeba" / name
    file.write_bytes(spaced(file.read_text()).encode())
    after = open_subset(labels=LISTS[name]).store("train")
    assert torch.equal(after.labels, before.labels)
    assert torch.equal(after.images, before.images)


ROW = "000009.jpg"
DAMAGED_ROWS = {
    "list_eval_partition.txt": [
        ROW,
        f"{ROW} one",
        f"{ROW} 1 2",
        f"{ROW} 3",
        f"{ROW} -1",
        f"{ROW} 1.5",
        NAMES[0] + " 0",
    ],
    "identity_CelebA.txt": [ROW, f"{ROW} 0", f"{ROW} 10178", f"{ROW},5", NAMES[1] + " 9", f"{ROW} \N{SUPERSCRIPT TWO}"],
    "list_attr_celeba.txt": [
        ROW + " 1" * 39,
        ROW + " 1" * 41,
        ROW + " 0" * 40,
        ROW + " 1" * 39 + " x",
        NAMES[0] + " 1" * 40,
    ],
}


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, rows in DAMAGED_ROWS.items() for row in rows])
def test_a_damaged_row_is_named_with_its_line(root, open_subset, name, row):
    file = root / "celeba" / name
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, "", row, *lines[-1:]]))
    with pytest.raises(DataError) as caught:
        open_subset(labels=LISTS[name]).setup("test")
    message = str(caught.value)
    what = "40 whole numbers, -1 or 1" if "attr" in name else "a whole number from "
    assert message.startswith(f"Line {len(lines) + 2} of '{file}' must give {what}")
    assert row[:80] in message
    assert message.endswith("Correct it, or fetch the list anew.")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "".join(map(chr, range(300))).encode("latin1", "ignore")])
def test_a_list_that_is_no_text_is_named(root, open_subset, name, content):
    file = root / "celeba" / name
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"'{file}' (cannot be read|must)") as caught:
        open_subset(labels=LISTS[name]).setup("test")
    assert str(caught.value).isprintable()


def test_a_list_of_attributes_without_its_header_is_refused(root, open_subset):
    file = root / "celeba" / "list_attr_celeba.txt"
    file.write_text("\n".join(file.read_text().splitlines()[2:]))
    with pytest.raises(
        DataError, match=rf"^Line 1 of '{file}' must be the number of images, before a line of names, got"
    ):
        open_subset().setup("test")


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes()[:300]),
                                    lambda file: (file.unlink(), file.symlink_to("/nowhere")),
                                    lambda file: (file.unlink(), file.mkdir())],
                         ids=["truncated", "link to nothing", "folder"])  # fmt: skip
def test_an_image_that_cannot_be_read_is_named(root, open_subset, damage):
    file = root / "celeba" / "img_align_celeba" / NAMES[5]
    damage(file)
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read as an image \(.+\)\. Replace or remove it\.$"):
        open_subset().setup("test")


def test_an_image_smaller_than_the_crop_is_refused(root, open_subset, write_image):
    write_image(root / "celeba" / "img_align_celeba" / NAMES[5], 100, 120)
    with pytest.raises(DataError, match=rf"{NAMES[5]}' must be as large as crop_size, 108, got 100x120 pixels\."):
        open_subset(crop_size=108).setup("test")


@pytest.mark.parametrize("name", ["img_align_celeba", "list_eval_partition.txt", "list_attr_celeba.txt"])
def test_missing_files_are_named(root, open_subset, name):
    path = root / "celeba" / name
    path.rename(root / "elsewhere")
    with pytest.raises(DataError, match=rf"^celeba not found: no '{path}'\. Fetch it with download=true"):
        open_subset().setup("test")


@pytest.mark.parametrize("crop_size", [0, 179])
def test_a_crop_must_fit_into_the_images(crop_size):
    with pytest.raises(SettingError, match=rf"^crop_size must be 1 to 178, the width of the images, got {crop_size}\."):
        CelebA(crop_size=crop_size)


def test_the_download_is_torchvisions(tmp_path, monkeypatch):
    downloads = []
    monkeypatch.setattr("torchvision.datasets.CelebA", lambda root, download: downloads.append((root, download)))
    CelebA(tmp_path, download=True).fetch()
    assert downloads == [(tmp_path, True)]


def test_real_faces_decode_with_the_attributes_that_are_known(shared_data, tmp_path):
    data = CelebA(shared_data, verify=False, cache_dir=tmp_path, limit=300)
    images, labels = next(iter(data.evaluation_batches("train", torch.device("cpu"))))
    assert images.shape == (300, 3, 64, 64)
    assert abs(float(images.mean())) < 0.5
    assert set(labels.unique().tolist()) <= {-1, 0, 1}
    smiling, male = labels[:, 31] == 1, labels[:, 20] == 1
    assert 0.2 < float(smiling.float().mean()) < 0.8
    assert 0.2 < float(male.float().mean()) < 0.8
