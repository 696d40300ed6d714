"""A cache of decoded images: filled once, by one process, over kills; and what is wrong with one is noticed."""

import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_lightning.data import decoded as recipes
from gan_lightning.data import decoded_cache
from gan_lightning.data.cache_index import chunks_of
from gan_lightning.data.decoded import decoded, decoded_whole
from gan_lightning.data.picture import read_square, read_whole
from gan_lightning.data.store import RectangleStore
from gan_lightning.errors import DataError, SettingError


@pytest.fixture
def files(tmp_path, write_image):
    few = [write_image(tmp_path / "images" / f"{number}.png", 20 + 9 * number, 20) for number in range(3)]
    return [Path(shutil.copy(few[number % 3], few[0].with_name(f"{number}.png"))) if number > 2 else few[number]
            for number in range(10)]  # fmt: skip


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(decoded_cache, "CHUNK", 4)


@pytest.fixture
def decodings(monkeypatch):
    """Names of the files decoded so far."""
    done = []

    def counted(file, **how):
        done.append(int(file.stem))
        return read_whole(file, **how)

    monkeypatch.setattr(recipes, "read_whole", counted)
    return done


def stored(files, tmp_path) -> list[np.ndarray]:
    """Return the images of the cache."""
    pixels, sizes = decoded_whole(files, 8, tmp_path / "cache", "set")
    images = np.split(pixels.numpy().copy(), np.cumsum(3 * sizes.prod(axis=1))[:-1])
    return [image.reshape(3, *size) for image, size in zip(images, sizes, strict=True)]


def assert_right(images, files) -> None:
    for image, file in zip(images, files, strict=True):
        np.testing.assert_array_equal(image, read_whole(file, 8))


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def flip_a_byte(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 1]) + content[101:]


DAMAGES = {
    "a pixel": ("pixels", flip_a_byte),
    "pixels cut short": ("pixels", lambda content: content[:-1]),
    "pixels too long": ("pixels", lambda content: content + b"\0"),
    "no pixels": ("pixels", lambda content: b""),
    "an image's size": ("index", lambda content: content[:12] + bytes([content[12] ^ 1]) + content[13:]),
    "a checksum": ("index", lambda content: content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]),
    "a number of images": ("index", lambda content: b"\xff\xff\xff\xff" + content[4:]),
    "index cut short": ("index", lambda content: content[:-1]),
    "no index": ("index", lambda content: b""),
    "a text": ("index", lambda content: b"not an index"),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_noticed_and_made_again(tmp_path, files, decodings, caplog, name, damage):
    stored(files, tmp_path)
    file = only(tmp_path / "cache") / name
    file.write_bytes(damage(file.read_bytes()))
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range(10))
    assert f"'{file.parent}' is damaged. Decoding its 10 images again." in caplog.text
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == []


def test_who_has_mapped_a_cache_that_is_made_again_still_has_what_it_had(tmp_path, files):
    pixels, _ = decoded_whole(files, 8, tmp_path / "cache", "set")
    with (only(tmp_path / "cache") / "pixels").open("r+b") as stream:
        stream.write(b"damaged")
    stored(files, tmp_path)
    assert bytes(pixels[:7].numpy()) == b"damaged"
    assert len(bytes(pixels.numpy())) == len(pixels)


def test_a_cache_is_opened_without_reading_its_pixels(tmp_path, files, monkeypatch):
    stored(files, tmp_path)
    monkeypatch.setattr(decoded_cache.ImageCache, "intact", lambda cache: pytest.fail("pixels are read"))
    pixels, sizes = decoded_whole(files, 8, tmp_path / "cache", "set")
    assert pixels.numel() == 3 * sizes.prod(axis=1).sum()


def test_a_cache_with_another_time_is_checked_once(tmp_path, files, decodings, monkeypatch):
    stored(files, tmp_path)
    os.utime(only(tmp_path / "cache") / "pixels", ns=(5, 5))  # as a copy has it
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == []
    test_a_cache_is_opened_without_reading_its_pixels(tmp_path, files, monkeypatch)


def killed_while_filling(files, tmp_path, after: float) -> bool:
    """Let a process of its own fill the cache, and kill it after some seconds; return whether it had finished."""
    begun, begins = os.pipe()
    child = os.fork()
    if not child:
        os.write(begins, b"1")
        stored(files, tmp_path)
        os._exit(0)
    os.read(begun, 1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.close(begun)
    os.close(begins)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


def test_what_was_decoded_before_a_kill_at_any_moment_is_not_decoded_again(tmp_path, files, monkeypatch):
    stored(files[:1], tmp_path / "first")  # loads what is loaded once, so that the forked processes need not
    decodings = tmp_path / "decodings"
    moments = random.Random(time.time_ns())

    def slow(file, **how):
        with decodings.open("a") as stream:
            stream.write(f"{file.stem}\n")
        time.sleep(0.002)
        return read_whole(file, **how)

    monkeypatch.setattr(recipes, "read_whole", slow)
    kills, there = 0, 0
    while not killed_while_filling(files, tmp_path, moments.uniform(0, 0.05 + 0.01 * kills)):
        kills += 1
        assert kills < 100
        begun = sum(len(chunk.entries) for index in (tmp_path / "cache").glob("*/index") for chunk in chunks_of(index))
        assert begun >= there
        there = begun
    assert_right(stored(files, tmp_path), files)
    times = np.bincount([int(name) for name in decodings.read_text().split()], minlength=10)
    assert times.min() >= 1
    assert times.max() <= kills + 1
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [only(tmp_path / "cache").name]


@pytest.mark.parametrize("name", ["pixels", "index"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_half_written_files_are_gone_on_from_at_the_last_whole_chunk(tmp_path, files, decodings, name, left):
    stored(files, tmp_path)
    folder = only(tmp_path / "cache")
    (folder / "checked").unlink()
    os.truncate(folder / name, int(left * (folder / name).stat().st_size))
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range({0.0: 0, 0.5: 4, 0.99: 8}[left], 10))


def test_after_a_broken_image_was_replaced_the_others_are_copied(tmp_path, files, decodings):
    whole = files[9].read_bytes()
    files[9].write_text("no image")
    with pytest.raises(DataError, match=rf"^'{files[9]}' cannot be read as an image"):
        stored(files, tmp_path)
    assert decodings == list(range(10))
    files[9].write_bytes(whole)
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == [8, 9]
    assert (only(tmp_path / "cache") / "checked").exists()  # the first one, never whole, has been removed


def test_a_whole_cache_of_other_files_stays(tmp_path, files, decodings):
    stored(files[:6], tmp_path)
    stored(files, tmp_path)
    assert decodings == list(range(10))
    assert len(list((tmp_path / "cache").glob("*/checked"))) == 2
    assert_right(stored(files[:6], tmp_path), files[:6])
    assert decodings == list(range(10))


def test_an_unfinished_cache_with_further_images_stays(tmp_path, files, decodings):
    stored(files, tmp_path)
    unfinished = only(tmp_path / "cache")
    (unfinished / "checked").unlink()
    stored(files[:6], tmp_path)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range(10))


def test_damaged_images_of_another_cache_are_not_copied(tmp_path, files, decodings):
    stored(files[:8], tmp_path)
    pixels = only(tmp_path / "cache") / "pixels"
    pixels.write_bytes(flip_a_byte(pixels.read_bytes()))
    decodings.clear()
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range(10))


def test_one_fills_a_cache_and_the_others_wait(tmp_path, files, monkeypatch, caplog):
    caplog.set_level("INFO")
    decodings, begun, others = [], threading.Event(), threading.Event()

    def waits(file, **how):
        decodings.append(int(file.stem))
        begun.set()
        assert others.wait(60)
        return read_whole(file, **how)

    monkeypatch.setattr(recipes, "read_whole", waits)
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: stored(files, tmp_path)})) for n in range(3)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    until = time.monotonic() + 60
    while caplog.text.count("Another process decodes the images of") < 2 and time.monotonic() < until:
        time.sleep(0.005)
    others.set()
    for thread in threads:
        thread.join()
    assert decodings == list(range(10))
    for images in results.values():
        assert_right(images, files)
    assert len(results) == 3


def test_on_a_disk_without_locks_each_process_fills_a_folder_of_its_own(tmp_path, files, decodings, monkeypatch):
    def none(path, **how):
        raise OSError("this system has no locks")

    monkeypatch.setattr(decoded_cache, "lock", none)
    assert_right(stored(files, tmp_path), files)
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range(10))
    assert (only(tmp_path / "cache") / "checked").exists()


def refuse_writes(monkeypatch, folder: Path) -> None:
    """Let nothing be made in a folder, as for a user without rights or on a read-only disk."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoded_cache, "lock", refuse)
    monkeypatch.setattr(decoded_cache, "write_json", refuse)


def test_a_whole_cache_in_a_folder_that_cannot_be_written_to_is_read(tmp_path, files, decodings, monkeypatch):
    stored(files, tmp_path)
    refuse_writes(monkeypatch, tmp_path)
    assert_right(stored(files, tmp_path), files)
    os.utime(only(tmp_path / "cache") / "pixels", ns=(5, 5))
    assert_right(stored(files, tmp_path), files)
    assert decodings == list(range(10))


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, files, monkeypatch):
    refuse_writes(monkeypatch, tmp_path)
    with pytest.raises(SettingError, match=r"^cache_dir must .* got '.*/cache' \(Permission denied\)\. Set cache_dir"):
        stored(files, tmp_path)


def test_too_little_room_is_found_before_the_first_image_is_decoded(tmp_path, files, decodings, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10_000, 9_000, 1_000))
    message = r"10 decoded images, got '.*/cache' \(at least 1\.9 kB needed, 1\.0 kB free\)\."
    with pytest.raises(SettingError, match=message):
        stored(files, tmp_path)
    assert decodings == []
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("written", [0, 1])
def test_a_full_disk_is_named_and_so_is_what_stays_there(tmp_path, files, decodings, monkeypatch, written):
    record = decoded_cache.Chunk.record

    def full(chunk):
        if len(decodings) > 4 * written:
            raise OSError(28, "No space left on device")
        return record(chunk)

    monkeypatch.setattr(decoded_cache.Chunk, "record", full)
    stays = r" The images decoded so far stay in '.*/cache/set-.*'; room made, it goes on there\." if written else ""
    message = rf"^cache_dir must .* \(No space left on device\)\. Set cache_dir to another folder\.{stays}$"
    with pytest.raises(SettingError, match=message):
        stored(files, tmp_path)
    monkeypatch.undo()
    assert len(list((tmp_path / "cache").iterdir())) == written


def test_processes_decode_as_one_does_and_an_error_of_theirs_is_the_files(tmp_path, files, monkeypatch):
    monkeypatch.setattr(decoded_cache, "WORTH_A_PROCESS", 5)
    monkeypatch.setattr(decoded_cache, "processors", lambda: 2)
    assert_right(stored(files, tmp_path), files)
    files[7].write_text("no image")
    with pytest.raises(DataError, match=rf"^'{files[7]}' cannot be read as an image"):
        decoded(files, 6, None, tmp_path / "cache", "set")


def test_a_process_that_is_killed_while_it_decodes_is_named(tmp_path, files, monkeypatch):
    monkeypatch.setattr(decoded_cache, "WORTH_A_PROCESS", 5)
    monkeypatch.setattr(decoded_cache, "processors", lambda: 2)
    first = os.getpid()

    def killed(file, **how):
        if os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_square(file, **how)

    monkeypatch.setattr(recipes, "read_square", killed)
    with pytest.raises(DataError, match=r"^A process that decoded images for '.*/cache/set-.*' was ended, such as"):
        decoded(files, 8, None, tmp_path / "cache", "set")


def test_pixels_beyond_the_range_of_32_bits_are_found(tmp_path):
    edge, count = 1_024, 700  # 2.2 GB, without a block on the disk but the last image's
    file = tmp_path / "pixels"
    with file.open("wb") as stream:
        stream.seek(3 * edge * edge * count - 1)
        stream.write(b"\7")
    pixels = decoded_cache.map_pixels(file, 3 * edge * edge * count)
    store = RectangleStore(pixels, np.full((count, 2), edge), torch.zeros(count).long(), 3, 4)
    corner = torch.full((count, 2), edge - 4)
    assert store.squares(torch.tensor([count - 1]), 4, corner)[0, 2, 3, 3] == 7
