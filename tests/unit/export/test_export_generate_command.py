"""Which settings of `gan-lightning generate` go together; the pages' commands run it on a real run."""

from pathlib import Path

import pytest
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.export.generate_command import check_which, main, on_device, parser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of --count and --path must be given, got neither"),
        (["--count", "3", "--path", "line"], "one of --count and --path must be given, got both"),
        (["--count", "3", "--steps", "4"], "steps must be left out without --path, got 4"),
        (["--path", "line", "--each_generator"], "each_generator must be left out without --count, got True"),
        (["--path", "line", "--points", "-1"], "points must be at least 1, got -1"),
        (["--count", "3", "--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        check_which(parser().parse_args(["RUN", "--out", "out", *arguments]))


def test_a_folder_that_is_no_run_and_a_place_that_is_taken_are_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(SettingError, match=r"folder must be a run's folder, got .* which has no run\.json"):
        main([str(tmp_path), "--out", str(tmp_path / "out"), "--count", "3"])
    with pytest.raises(SettingError, match=r"out must be a \.png, \.gif or \.mp4 file for a path, got '.*a\.jpg'"):
        main([str(tmp_path), "--out", str(tmp_path / "a.jpg"), "--path", "line"])
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SettingError, match="out must not exist or be an empty folder, got"):
        main([str(tmp_path), "--out", str(tmp_path), "--count", "3"])
    assert [path.name for path in Path(tmp_path).iterdir()] == ["mine.txt"]


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match="device must be one of this machine, got 'mars'"):
        on_device(nn.Linear(1, 1), "mars")
