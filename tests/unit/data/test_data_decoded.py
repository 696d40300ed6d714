import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning.data import decoded as module
from gan_lightning.data import decoded_cache
from gan_lightning.data.decoded import decoded, decoded_whole
from gan_lightning.data.picture import read_square, read_whole
from gan_lightning.errors import DataError, SettingError
from gan_lightning.system.files import user_cache


@pytest.fixture
def files(tmp_path, write_image):
    return [write_image(tmp_path / "images" / f"{index}.png") for index in range(5)]


@pytest.fixture
def decodings(monkeypatch):
    """Files decoded so far."""
    done = []

    def counted(file, size, crop_size, channels):
        done.append(file)
        return read_square(file, size, crop_size, channels)

    monkeypatch.setattr(module, "read_square", counted)
    return done


def test_images_come_out_in_the_order_of_their_files(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr(decoded_cache, "CHUNK", 4)
    tiny = [write_image(tmp_path / f"{index}.png", 3, 3) for index in range(11)]
    pixels = decoded(tiny, 2, None, tmp_path / "cache", "set")
    expected = np.stack([read_square(file, 2, None) for file in tiny])
    np.testing.assert_array_equal(pixels.numpy(), expected)


def test_images_are_decoded_once(tmp_path, files, decodings):
    first = decoded(files, 8, None, tmp_path / "cache", "set")
    again = decoded(files, 8, None, tmp_path / "cache", "set")
    assert sorted(decodings) == files
    torch.testing.assert_close(first, again)


def change_a_file(files):
    os.utime(files[2], ns=(1, 1))
    return files


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (change_a_file, [2]),
        (lambda files: files[:4], []),
        (lambda files: [*files[:4], files[4].rename(files[4].with_name("new.png"))], [4]),
        (lambda files: files[::-1], []),
    ],
    ids=["changed file", "fewer files", "another file", "other order"],
)
def test_other_files_make_another_cache_and_those_decoded_already_are_copied(tmp_path, files, decodings, change, again):
    decoded(files, 8, None, tmp_path / "cache", "set")
    decodings.clear()
    changed = change(files)
    pixels = decoded(changed, 8, None, tmp_path / "cache", "set")
    assert decodings == [changed[number] for number in again]
    np.testing.assert_array_equal(pixels.numpy(), np.stack([read_square(file, 8, None) for file in changed]))
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("size", "crop_size", "channels"), [(9, None, 3), (8, 12, 3), (8, None, 1)], ids=["size", "crop", "grey"]
)
def test_another_way_of_decoding_makes_another_cache(tmp_path, files, decodings, size, crop_size, channels):
    decoded(files, 8, None, tmp_path / "cache", "set")
    decodings.clear()
    pixels = decoded(files, size, crop_size, tmp_path / "cache", "set", channels)
    assert decodings == files
    expected = np.stack([read_square(file, size, crop_size, channels) for file in files])
    np.testing.assert_array_equal(pixels.numpy(), expected)


def test_a_cache_of_another_format_is_not_read(tmp_path, files, decodings, monkeypatch):
    monkeypatch.setattr(module, "FORMAT", 1)
    decoded(files, 8, None, tmp_path / "cache", "set")
    monkeypatch.undo()
    monkeypatch.setattr(module, "read_square", lambda file, **how: np.full((3, 8, 8), 7, np.uint8))
    assert (decoded(files, 8, None, tmp_path / "cache", "set") == 7).all()


@pytest.mark.parametrize("count", [1, 3, 4, 8, 11])
def test_whole_images_are_kept_with_their_sizes_and_come_out_of_the_cache_as_they_went_in(
    tmp_path, write_image, monkeypatch, count
):
    shapes = [(12, 30), (30, 12), (16, 16), (100, 11), (11, 100)]
    few = [write_image(tmp_path / f"{width}-{height}.png", width, height) for width, height in shapes]
    files = (few * 3)[:count]
    monkeypatch.setattr(decoded_cache, "CHUNK", 4)
    expected = [read_whole(file, 8) for file in files]
    for _ in range(2):
        pixels, sizes = decoded_whole(files, 8, tmp_path / "cache", "set")
        assert sizes.tolist() == [list(image.shape[1:]) for image in expected]
        assert pixels.numpy().tobytes() == b"".join(image.tobytes() for image in expected)
        monkeypatch.setattr(module, "read_whole", lambda *_, **__: pytest.fail("decoded again"))


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, files):
    (tmp_path / "file").touch()
    message = (
        r"^cache_dir must be a folder to write to, with room for 5 decoded images, got '.*/file/cache' "
        r"\(Not a directory\)\. Set cache_dir to another folder\.$"
    )
    with pytest.raises(SettingError, match=message):
        decoded(files, 8, None, tmp_path / "file" / "cache", "set")


@pytest.mark.parametrize("title", ["a/b", "x" * 300, "caf\udce9", "größer", "two\nlines", ".."])
def test_a_cache_can_have_any_title(tmp_path, files, title):
    decoded(files, 8, None, tmp_path / "cache", title)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png", "größer.png".encode()])
def test_names_of_any_bytes_are_cached(tmp_path, write_image, name):
    folder = tmp_path / os.fsdecode(b"odd\xff")
    file = write_image(folder / os.fsdecode(name))
    for _ in range(2):
        pixels = decoded([file], 8, None, folder / "cache", "set")
        np.testing.assert_array_equal(pixels[0].numpy(), read_square(file, 8, None))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: file.symlink_to("/nowhere"), "No such file or directory"),
        (lambda file: file.symlink_to(file), "Too many levels of symbolic links"),
        (os.mkfifo, "no file, but a folder, a pipe or a device"),
        (lambda file: file.mkdir(), "no file, but a folder, a pipe or a device"),
        (lambda file: file.write_text("not an image"), "no image of a format that is read"),
    ],
    ids=["link to nothing", "link to itself", "pipe", "folder", "text"],
)
def test_a_file_that_cannot_be_read_is_named_before_anything_is_written(tmp_path, files, make, why):
    odd = tmp_path / "odd.png"
    make(odd)
    with pytest.raises(DataError, match=rf"^'{odd}' cannot be read as an image \({why}\)\. Replace or remove it\.$"):
        decoded([*files, odd], 8, None, tmp_path / "cache", "set")
    assert not list(tmp_path.glob("cache/*"))


def test_the_cache_is_in_the_users_cache_folder_by_default(tmp_path, files, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoded(files, 8, None, None, "set")
    assert [cache.name.startswith("set-") for cache in (tmp_path / "gan_lightning").iterdir()] == [True]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "gan_lightning"


@pytest.mark.parametrize("cache_dir", [None, "~/cache"])
def test_without_a_home_folder_the_setting_is_named(files, monkeypatch, cache_dir):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    message = (
        r"^cache_dir must (be set where the user has no home folder|not begin with ~ where there is no home folder)"
    )
    with pytest.raises(SettingError, match=message):
        decoded(files, 8, None, cache_dir, "set")


@pytest.mark.parametrize(("bits", "warned"), [(10, True), (12, True), (14, False), (16, False)])
def test_values_of_fewer_bits_kept_in_16_are_warned_of(tmp_path, caplog, bits, warned):
    ramp = np.linspace(0, 2**bits - 1, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    decoded([tmp_path / "a.png"], 8, None, tmp_path / "cache", "set")
    brightest = (2**bits + 127) // 257
    message = f"No value of the 1 images from '{tmp_path}/a.png' on is above {brightest} of 255. Values"
    assert (message in caplog.text) == warned


def test_long_builds_show_a_progress_bar(tmp_path, files, monkeypatch):
    shown = []

    def track(sequence, disable, **settings):
        shown.append(not disable)
        return sequence

    monkeypatch.setattr("rich.progress.track", track)
    decoded(files, 7, None, tmp_path, "short")
    monkeypatch.setattr(decoded_cache, "WORTH_A_PROGRESS_BAR", 5)
    decoded(files, 8, None, tmp_path, "long")
    assert shown == [False, True]
