"""Checkpoint files: written whole or not at all, and refused with the reason where they cannot be read."""

import errno
import io
import pickle
import zipfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_lightning.errors import SettingError, WriteError
from gan_lightning.runs.checkpoint_files import WholeCheckpointIO, read_checkpoint

CONTENT = {"state_dict": {"weight": torch.arange(1000.0)}, "pytorch-lightning_version": "2.6.6"}
RAN = []


class RunsCode:
    """What would run code if it were unpickled."""

    def __reduce__(self):
        return RAN.append, ("code",)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "good.ckpt"
    WholeCheckpointIO().save_checkpoint(CONTENT, path)
    return path


def saved(content: object) -> bytes:
    whole = io.BytesIO()
    torch.save(content, whole)
    return whole.getvalue()


def archive() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr("note", "no checkpoint")
    return whole.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def test_a_checkpoint_comes_back_as_it_was(checkpoint):
    content = WholeCheckpointIO().load_checkpoint(checkpoint)
    assert torch.equal(content["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"epoch,loss\n0,1.0\n" * 500, "it is a file of another kind"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), "it is a file of another kind"),
        (saved(CONTENT)[:-1500], "it is damaged or was cut short"),
        (flipped(saved(CONTENT)), "it is damaged or was cut short"),
        (archive(), "it is damaged or was cut short"),
        (saved(CONTENT | {"hyper_parameters": RunsCode()}), "holds other objects than tensors and plain values"),
        (pickle.dumps({"state_dict": RunsCode()}), "holds other objects than tensors and plain values"),
        (saved([1, 2]), "another program's: it holds no state_dict"),
        (saved({"model": {}, "optimizer": {}}), "another program's: it holds no state_dict"),
        (saved({"state_dict": {}}), "another program's: it was not written by Lightning"),
    ],
    ids=["empty", "text", "png", "cut short", "flipped", "zip", "code", "pickle", "list", "other", "weights"],
)
def test_what_is_no_checkpoint_is_refused_with_its_reason(tmp_path, content, reason):
    path = tmp_path / "it.ckpt"
    path.write_bytes(content)
    with pytest.raises(SettingError, match=rf"^ckpt_path must be a checkpoint[^\n]*it\.ckpt'[^\n]*{reason}[^\n]*$"):
        read_checkpoint(path, "ckpt_path")
    assert RAN == []


@settings(max_examples=60, derandomize=True, database=None)
@given(
    st.binary(max_size=60), st.sampled_from([b"", saved(CONTENT)[:2000], pickle.dumps({"state_dict": 1})]), st.data()
)
def test_whatever_bytes_a_file_holds_its_error_names_it(tmp_path_factory, foreign, whole, data):
    place = data.draw(st.integers(0, len(whole)))
    path = tmp_path_factory.getbasetemp() / "foreign.ckpt"
    path.write_bytes(whole[:place] + foreign + whole[place + data.draw(st.integers(0, 60)) :])
    with pytest.raises(SettingError, match=r"^ckpt_path must be a checkpoint.*foreign\.ckpt'"):
        read_checkpoint(path, "ckpt_path")


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path / "no.ckpt", "does not exist"),
        (tmp_path, "which is a folder"),
        (Path("/dev/null"), "which is no ordinary file"),
        (tmp_path / "loop", "(does not exist|cannot be read)"),
        (tmp_path / ("x" * 300), "(does not exist|cannot be read)"),
        (Path("a\0b"), "(does not exist|cannot be read)"),
    ):
        with pytest.raises(SettingError, match=rf"(?s)^gan_checkpoint must be a checkpoint( file)?, got .*{reason}"):
            read_checkpoint(path, "gan_checkpoint")


def test_reading_in_a_way_that_can_run_code_is_refused(checkpoint):
    with pytest.raises(SettingError, match="weights_only must not be false"):
        WholeCheckpointIO().load_checkpoint(checkpoint, weights_only=False)


@pytest.mark.parametrize("when", ["while it is written", "while it is put on the disk"])
def test_a_full_disk_leaves_the_last_good_checkpoint_and_says_so(tmp_path, monkeypatch, when):
    writer, path = WholeCheckpointIO(), tmp_path / "epoch.ckpt"
    writer.save_checkpoint(CONTENT, path)
    before = path.read_bytes()
    full, other = OSError(errno.ENOSPC, "No space left on device"), saved({"state_dict": {}})

    def half(content, file):
        file.write(other[:500])
        raise full

    def refuse(*_):
        raise full

    monkeypatch.setattr(*((torch, "save", half) if when == "while it is written" else ("os.fsync", refuse)))
    message = r"epoch\.ckpt' could not be written \(No space left on device; .* MB are free without it\)\. Last good "
    with pytest.raises(WriteError, match=message + r"checkpoint: \S+epoch\.ckpt\. Make room, and start again with"):
        writer.save_checkpoint({"state_dict": {}}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_may_not_be_written_to_is_not_said_to_be_full(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(WriteError, match=r"Read-only file system; .*\. See to its folder's rights and disk, and start"):
        WholeCheckpointIO().save_checkpoint(CONTENT, tmp_path / "it.ckpt")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(
        SettingError, match=r"plain values, got fractions\.Fraction: .* torch\.serialization\.add_safe_g"
    ):
        WholeCheckpointIO().save_checkpoint(CONTENT | {"hyper_parameters": Fraction(1, 3)}, tmp_path / "it.ckpt")
    assert not list(tmp_path.iterdir())
    with torch.serialization.safe_globals([Fraction]):
        WholeCheckpointIO().save_checkpoint(CONTENT | {"hyper_parameters": Fraction(1, 3)}, tmp_path / "it.ckpt")


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path):
    with pytest.raises(AttributeError, match=r"Can't (pickle|get) local object"):
        WholeCheckpointIO().save_checkpoint({"state_dict": lambda: None}, tmp_path / "it.ckpt")
    assert not list(tmp_path.iterdir())
