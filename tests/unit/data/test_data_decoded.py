import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from gan_lightning.data import decoded as module
from gan_lightning.data.decoded import CHUNK, decoded, read_square
from gan_lightning.errors import DataError, SettingError
from gan_lightning.files import user_cache


@pytest.fixture
def files(tmp_path, write_image):
    return [write_image(tmp_path / "images" / f"{index}.png") for index in range(5)]


@pytest.fixture
def decodings(monkeypatch):
    """Files decoded so far."""
    done = []

    def counted(file, size, crop_size):
        done.append(file)
        return read_square(file, size, crop_size)

    monkeypatch.setattr(module, "read_square", counted)
    return done


@pytest.mark.parametrize(("width", "height"), [(178, 218), (97, 64), (64, 64), (30, 45)])
def test_a_whole_image_is_resized_and_cropped_as_torchvision_does(tmp_path, write_image, width, height):
    file = write_image(tmp_path / "image.png", width, height)
    reference = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64)])(Image.open(file))
    np.testing.assert_array_equal(read_square(file, 64, None), np.asarray(reference).transpose(2, 0, 1))


@pytest.mark.parametrize(("crop_size", "size"), [(64, 64), (108, 64), (40, 64)])
def test_a_crop_is_cut_from_the_centre_then_resized(tmp_path, write_image, crop_size, size):
    file = write_image(tmp_path / "image.png", 178, 218)
    reference = transforms.CenterCrop(crop_size)(Image.open(file)).resize((size, size), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read_square(file, size, crop_size), np.asarray(reference).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_any_colour_mode_becomes_rgb(tmp_path, write_image, mode):
    file = write_image(tmp_path / ("image.jpg" if mode == "CMYK" else "image.png"), 20, 20, mode)
    reference = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_array_equal(read_square(file, 20, None), reference.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_named(tmp_path, write_image, suffix):
    file = write_image(tmp_path / f"image.{suffix}", 64, 64)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"^'{file}' cannot be read as an image \(.*\)\. Replace or remove it\.$"):
        read_square(file, 64, None)


def test_a_file_that_is_no_image_stops_the_build_and_leaves_nothing_behind(tmp_path, files):
    files[3].write_text("not an image")
    with pytest.raises(DataError, match=r"3\.png' cannot be read"):
        decoded(files, 8, None, tmp_path / "cache", "set")
    assert list((tmp_path / "cache").iterdir()) == []


def test_images_come_out_in_the_order_of_their_files(tmp_path, write_image):
    tiny = [write_image(tmp_path / f"{index}.png", 3, 3) for index in range(CHUNK + 3)]
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
    ("change", "size", "crop_size"),
    [
        (change_a_file, 8, None),
        (lambda files: files[:4], 8, None),
        (lambda files: files[::-1], 8, None),
        (lambda files: files, 9, None),
        (lambda files: files, 8, 12),
    ],
    ids=["changed file", "fewer files", "other order", "other size", "other crop"],
)
def test_anything_that_matters_makes_another_cache(tmp_path, files, decodings, change, size, crop_size):
    decoded(files, 8, None, tmp_path / "cache", "set")
    decodings.clear()
    changed = change(files)
    pixels = decoded(changed, size, crop_size, tmp_path / "cache", "set")
    assert sorted(decodings) == sorted(changed)
    expected = np.stack([read_square(file, size, crop_size) for file in changed])
    np.testing.assert_array_equal(pixels.numpy(), expected)


def flip_a_byte(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


@pytest.mark.parametrize("damage", [flip_a_byte, lambda content: content[:-1], lambda content: b""])
def test_a_damaged_cache_is_noticed_and_built_again(tmp_path, files, decodings, caplog, damage):
    intact = decoded(files, 8, None, tmp_path / "cache", "set").clone()
    (cache,) = (tmp_path / "cache").iterdir()
    cache.write_bytes(damage(cache.read_bytes()))
    decodings.clear()
    torch.testing.assert_close(decoded(files, 8, None, tmp_path / "cache", "set"), intact)
    assert sorted(decodings) == files
    assert f"'{cache}' is damaged. Decoding its 5 images again." in caplog.text
    decodings.clear()
    torch.testing.assert_close(decoded(files, 8, None, tmp_path / "cache", "set"), intact)
    assert decodings == []


def test_two_that_build_the_same_cache_at_once_both_end_well(tmp_path, files, monkeypatch):
    both_decoding = threading.Barrier(2, timeout=30)

    def at_once(file, size, crop_size):
        if file == files[0]:
            both_decoding.wait()
        return read_square(file, size, crop_size)

    monkeypatch.setattr(module, "read_square", at_once)
    results = {}

    def work(name):
        results[name] = decoded(files, 8, None, tmp_path / "cache", "set")

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = torch.from_numpy(np.stack([read_square(file, 8, None) for file in files]))
    torch.testing.assert_close(results["a"], expected)
    torch.testing.assert_close(results["b"], expected)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, files):
    (tmp_path / "file").touch()
    with pytest.raises(
        SettingError, match=r"^cache_dir must be a folder with 0\.0 GB to write to, got '.*/file/cache'"
    ):
        decoded(files, 8, None, tmp_path / "file" / "cache", "set")


def test_the_cache_is_in_the_users_cache_folder_by_default(tmp_path, files, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoded(files, 8, None, None, "set")
    assert [cache.name.startswith("set-") for cache in (tmp_path / "gan_lightning").iterdir()] == [True]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache() == tmp_path / "home" / ".cache" / "gan_lightning"


def test_long_builds_show_a_progress_bar(tmp_path, files, monkeypatch):
    shown = []

    def track(sequence, disable, **settings):
        shown.append(not disable)
        return sequence

    monkeypatch.setattr("rich.progress.track", track)
    decoded(files, 8, None, tmp_path, "short")
    monkeypatch.setattr(module, "WORTH_A_PROGRESS_BAR", 5)
    decoded(files, 8, None, tmp_path, "long")
    assert shown == [False, True]
