"""Which checkpoint is the last one."""

import fcntl
import json
import logging
import os

import pytest
import torch
import yaml

from gan_lightning.errors import SettingError
from gan_lightning.runs.last_run import last_checkpoint
from gan_lightning.runs.run_folder import _locked
from gan_lightning.system.sweep_trial import RUNS_TO_GO_ON
from gan_lightning.system.trial_states import RUN_LOCK, is_going_on

SETTINGS = {"model": {"class_path": "MGAN", "init_args": {"base_width": 4}}, "seed_everything": 0, "ckpt_path": None}
CONFIG = yaml.safe_dump(SETTINGS)


@pytest.fixture
def run(tmp_path):
    """Return a function that makes the folder of a run; its checkpoints are the newer the later they are named."""
    times = iter(range(1000, 2000))

    def make(name: str, *checkpoints: str, config: str = CONFIG, **content: object):
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "config.yaml").write_text(config)
        for each in checkpoints:
            file = folder / "checkpoints" / each
            whole = {"state_dict": {}, "pytorch-lightning_version": "2.6.6", "optimizer_states": []}
            torch.save({**whole, "run": {"folder": f"/before/it/was/moved/{name}"}, **content}, file)
            now = next(times)
            os.utime(file, (now, now))
        return folder

    return make


def test_it_is_the_newest_of_all_runs_with_the_same_settings(tmp_path, run):
    run("a", "epoch-0001.ckpt")
    newest = run("b", "epoch-0007.ckpt", "epoch-0002.ckpt")
    run("c", "epoch-0009.ckpt", config=CONFIG.replace("4", "8"))
    resumed = yaml.safe_dump(SETTINGS | {"ckpt_path": "last", "weights_only": True})
    assert last_checkpoint(tmp_path, resumed) == newest / "checkpoints/epoch-0002.ckpt"


def test_it_is_found_where_the_run_was_killed_before_or_while_last_ckpt_was_linked(tmp_path, run):
    folder = run("a", "epoch-0001.ckpt")
    (folder / "checkpoints/last.ckpt").symlink_to("epoch-0000.ckpt")  # which is gone
    assert last_checkpoint(tmp_path, CONFIG) == folder / "checkpoints/epoch-0001.ckpt"


def test_weights_alone_and_a_configuration_that_is_damaged_are_passed_over(tmp_path, run, caplog):
    folder = run("a", "epoch-0001.ckpt")
    weights = run("b", "epoch-0002.ckpt") / "checkpoints/epoch-0002.ckpt"
    content = torch.load(weights, weights_only=True)
    del content["optimizer_states"]
    torch.save(content, weights)
    run("c", "epoch-0003.ckpt", config="model: [")
    assert last_checkpoint(tmp_path, CONFIG) == folder / "checkpoints/epoch-0001.ckpt"
    assert "b/checkpoints/epoch-0002.ckpt' holds weights alone" in caplog.text


def test_a_damaged_one_is_passed_over_with_its_reason(tmp_path, run, caplog):
    folder = run("a", "epoch-0001.ckpt", "epoch-0002.ckpt")
    damaged = folder / "checkpoints/epoch-0002.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert last_checkpoint(tmp_path, CONFIG) == folder / "checkpoints/epoch-0001.ckpt"
    assert "Passed over: ckpt_path must be a checkpoint" in caplog.text
    (folder / "checkpoints/epoch-0001.ckpt").write_text("")
    with pytest.raises(SettingError, match=r"must not be last, since none of the 2 checkpoints can be gone on with"):
        last_checkpoint(tmp_path, CONFIG)


def test_without_a_run_of_the_same_settings_it_is_refused_with_what_differs(tmp_path, run):
    with pytest.raises(
        SettingError, match=r"^ckpt_path must not be last, since there is no run in '\S+'\. Leave it out"
    ):
        last_checkpoint(tmp_path, CONFIG)
    run("a", "epoch-0001.ckpt", config=CONFIG.replace("base_width: 4", "base_width: 8"))
    message = r"none of the 1 runs in '\S+' was started with the same settings; the newest, 'a', differs in "
    with pytest.raises(SettingError, match=message + r"model\.init_args\.base_width\. Start it with"):
        last_checkpoint(tmp_path, CONFIG)


def test_a_job_that_slurm_starts_again_begins_anew_where_there_is_no_run_yet(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert last_checkpoint(tmp_path, CONFIG) is None
    assert "it begins anew" in caplog.text


def test_runs_that_ended_before_their_first_checkpoint_begin_anew(tmp_path, run, caplog):
    run("a")
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(tmp_path, CONFIG) is None
    assert "ended before the first checkpoint: it begins anew" in caplog.text


def test_a_run_that_is_still_going_on_is_left_alone(tmp_path, run):
    folder = run("a", "epoch-0001.ckpt")
    lock = _locked(folder)
    assert is_going_on(folder)
    looking = os.open(folder / RUN_LOCK, os.O_RDWR)
    with pytest.raises(SettingError, match=r"must not be last while a run with the same settings is still going on: "):
        last_checkpoint(tmp_path, CONFIG)
    os.close(lock)
    assert (folder / RUN_LOCK).exists(), "as after a kill"
    fcntl.flock(looking, fcntl.LOCK_SH)  # as another process that looks for the last one, too
    assert not is_going_on(folder)
    assert last_checkpoint(tmp_path, CONFIG)
    os.close(looking)


def test_checkpoints_are_looked_for_where_the_settings_put_them_and_only_those_of_the_same_settings(
    tmp_path, run, caplog
):
    run("a")
    elsewhere = run("elsewhere/it", "epoch-0001.ckpt", run={"folder": "/before/a"}) / "checkpoints"
    torch.save(torch.load(elsewhere / "epoch-0001.ckpt") | {"run": {"folder": "/before/b"}}, elsewhere / "other.ckpt")
    assert last_checkpoint(tmp_path, CONFIG, elsewhere) == elsewhere / "epoch-0001.ckpt"
    assert "other.ckpt' was written by a run with other settings" in caplog.text


def test_a_killed_trial_goes_on_with_the_runs_it_is_told_and_begins_anew_where_it_cannot(
    tmp_path, run, monkeypatch, caplog
):
    run("failed", "epoch-0003.ckpt")
    own = run("own", "epoch-0001.ckpt", "epoch-0002.ckpt") / "checkpoints"
    run("other", "epoch-0001.ckpt", config=CONFIG.replace("base_width: 4", "base_width: 8"))
    run("early")

    def told(*names: str):
        monkeypatch.setenv(RUNS_TO_GO_ON, json.dumps(names))
        caplog.clear()
        return last_checkpoint(tmp_path, CONFIG)

    assert told("own", "early") == own / "epoch-0002.ckpt"
    assert told("early") is None
    assert told("other") is None
    assert "The trial begins anew: ckpt_path must not be last, since none of the 1 runs" in caplog.text
    for file in own.iterdir():
        file.write_text("")
    assert told("own") is None
    assert "none of the 2 checkpoints can be gone on with" in caplog.text
    monkeypatch.delenv(RUNS_TO_GO_ON)
    assert last_checkpoint(tmp_path, CONFIG) is not None
