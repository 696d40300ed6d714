"""Locks end with their process, and what a killed process was writing is removed, once nobody writes there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gan_lightning.system import files
from gan_lightning.system.files import WRITING, remove_abandoned, whole_file, writing_folder
from gan_lightning.system.locks import is_locked, lock, locked

WRITES = """
import sys, time
from pathlib import Path
from gan_lightning.system.files import whole_file
with whole_file(Path(sys.argv[1])) as path:
    path.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def writing(file: Path) -> subprocess.Popen:
    """Return a process that is in the middle of writing a file."""
    process = subprocess.Popen([sys.executable, "-c", WRITES, str(file)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(f"{WRITING}*"))


def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuses(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuses)


def test_a_lock_is_held_by_one_and_free_when_its_descriptor_is_closed(tmp_path):
    file = tmp_path / "it"
    with locked(file) as held:
        assert held is not None
        assert is_locked(file)
        assert lock(file, waits=False) is None
    assert not is_locked(file)
    assert file.exists()
    assert not is_locked(tmp_path / "none")


def test_a_lock_on_a_file_that_its_holder_has_removed_is_not_taken_for_one_on_the_new_file(tmp_path, monkeypatch):
    import fcntl

    file, flock, calls = tmp_path / "it", fcntl.flock, []

    def removed_meanwhile(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        calls.append(how)
        if len(calls) == 1:
            file.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    held = lock(file)
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(held), file.stat())
    os.close(held)


def test_what_a_killed_process_was_writing_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    process = writing(tmp_path / "file")
    try:
        (folder,) = unfinished(tmp_path)
        os.utime(folder, (0, 0))  # age alone says nothing
        remove_abandoned(tmp_path)
        with whole_file(tmp_path / "other") as path:
            path.write_text("whole")
        assert unfinished(tmp_path) == [folder]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=240)
    remove_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize("locked_once", [False, True])
@pytest.mark.parametrize(
    ("prefix", "changed", "removed"),
    [
        (WRITING, 0.0, False),  # of another version: perhaps it is being written
        (WRITING, 2 * files.LONG_AGO, True),
        (f"{WRITING}another-system-", 0.0, False),  # whose locks may not be seen here
        (f"{WRITING}another-system-", 2 * files.LONG_AGO, True),
        (files._ours(), 0.0, True),
    ],
)
def test_only_what_is_of_this_system_or_has_not_changed_for_long_is_removed(
    tmp_path, prefix, changed, removed, locked_once
):
    folder = tmp_path / f"{prefix}it"
    folder.mkdir()
    (folder / "part").write_text("half")
    if locked_once:  # a process may be killed before it locks the folder, or when it has begun to remove it
        (folder / ".lock").touch()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - changed,) * 2)
    remove_abandoned(tmp_path)
    assert folder.exists() != removed


@pytest.mark.parametrize(("changed", "removed"), [(0.0, False), (2 * files.LONG_AGO, True)])
def test_where_there_are_no_locks_age_alone_says_that_nobody_writes(tmp_path, monkeypatch, changed, removed):
    no_locks(monkeypatch)
    folder = tmp_path / f"{files._ours()}it"
    folder.mkdir()
    os.utime(folder, (time.time() - changed,) * 2)
    remove_abandoned(tmp_path)
    assert folder.exists() != removed


def test_a_folder_is_cleared_before_something_is_written_into_it_and_a_link_is_left_alone(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / f"{WRITING}link").symlink_to(elsewhere)
    (beside / f"{files._ours()}link").symlink_to(elsewhere)
    (beside / f"{files._ours()}old").mkdir()
    with writing_folder(beside) as folder:
        assert {path.name for path in unfinished(beside)} == {
            folder.name, f"{WRITING}link", f"{files._ours()}link",
        }  # fmt: skip
    assert [path.name for path in elsewhere.iterdir()] == ["kept"]


def test_a_file_is_written_where_there_are_no_locks(tmp_path, monkeypatch):
    no_locks(monkeypatch)
    with whole_file(tmp_path / "it") as path:
        path.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    with pytest.raises(OSError, match="no locks here"):
        lock(tmp_path / "other")


def test_one_who_writes_begins_anew_where_its_folder_was_removed_before_it_was_locked(tmp_path, monkeypatch):
    tried = []

    def first_fails(path: Path, *, waits: bool = True) -> int | None:
        tried.append(path)
        return None if len(tried) == 1 else lock(path, waits=waits)

    monkeypatch.setattr(files, "lock", first_fails)
    with whole_file(tmp_path / "it") as path:
        path.write_text("whole")
    assert len({each.parent for each in tried}) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
