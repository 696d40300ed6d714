import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.papers import MGAN
from gan_lightning.runs import generated_files
from gan_lightning.runs.generated_files import write_images, write_paths


@pytest.fixture
def model() -> MGAN:
    torch.manual_seed(0)
    return MGAN(1, 32, base_width=2, feature_dim=4, generators=3, fake_batch_size=6)


def in_file(path) -> np.ndarray:
    with np.load(path) as file:
        return file["images"]


def pngs(folder) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])


def test_images_are_those_of_the_mixture_in_eval_mode_and_the_model_stays_as_it_was(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    write_images(model, tmp_path / "a", 7, seed=5)
    write_images(model, tmp_path / "b.npz", 7, kind="npz", seed=5)
    found = pngs(tmp_path / "a")
    assert found.shape == (7, 32, 32)
    np.testing.assert_array_equal(found, in_file(tmp_path / "b.npz")[..., 0])
    with np.load(tmp_path / "b.npz") as file:
        assert file["generator"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    with torch.no_grad():
        expected = model.eval().generate(250, torch.Generator().manual_seed(5))
    by_hand = ((expected[:, :3, 0] + 1) * 127.5).round().transpose(0, 1).flatten(0, 1)[:7]
    np.testing.assert_array_equal(found, by_hand.numpy().astype(np.uint8))
    model.train()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_more_images_of_a_seed_begin_with_the_fewer_ones_and_another_seed_has_others(model, tmp_path, monkeypatch):
    monkeypatch.setattr(generated_files, "AT_ONCE", 4)
    for name, count, seed in (("few", 5, 0), ("more", 31, 0), ("other", 5, 1)):
        write_images(model, tmp_path / f"{name}.npz", count, kind="npz", seed=seed)
    few, more, other = (in_file(tmp_path / f"{name}.npz") for name in ("few", "more", "other"))
    np.testing.assert_array_equal(more[:5], few)
    assert (other != few).any()
    assert len({image.tobytes() for image in more}) == 31


def test_each_generator_has_a_folder_and_one_may_be_chosen(model, tmp_path):
    write_images(model, tmp_path / "all", 2, each_generator=True)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [f"generator-{i}" for i in range(3)]
    write_images(model, tmp_path / "last", 2, generator=2)
    np.testing.assert_array_equal(pngs(tmp_path / "last"), pngs(tmp_path / "all/generator-2"))


def test_the_progress_ends_with_the_last_image(model, tmp_path):
    told = []
    write_images(model, tmp_path / "a", 3, report=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]


def test_a_picture_has_a_row_for_each_path_and_generator(model, tmp_path):
    write_paths(model, tmp_path / "a.png", 2, 5)
    write_paths(model, tmp_path / "b.png", 2, 5, generator=1)
    whole, one = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    assert whole.shape[1] == one.shape[1]
    assert abs(whole.shape[0] - 3 * one.shape[0]) < 16  # but for margins
    assert one.std() > 1


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_tour_is_a_video_with_a_frame_for_each_step(model, tmp_path, suffix):
    if suffix == ".mp4":
        av = pytest.importorskip("av", reason="needs the extra [video]")
    write_paths(model, tmp_path / f"a{suffix}", 2, 6, generator=0)
    if suffix == ".gif":
        frames = Image.open(tmp_path / "a.gif").n_frames
    else:
        with av.open(str(tmp_path / "a.mp4")) as container:
            frames = sum(1 for _ in container.decode(video=0))
    assert frames == 12


class Colourful(MGAN):
    def generate(self, count, rng=None):
        return super().generate(count, rng).expand(-1, -1, 4, -1, -1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"kind": "jpg"}, "kind must be one of png, npz, got 'jpg'"),
        ({"generator": 3}, "generator must be from 0 to 2, got 3"),
    ],
)
def test_unusable_settings_are_refused_and_nothing_is_written(model, tmp_path, settings, message, monkeypatch):
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # which would refuse a kind by its type
    with pytest.raises(SettingError, match=message):
        write_images(model, tmp_path / "a", **{"count": 2, **settings})
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_is_left_alone(model, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/mine.txt").write_text("mine")
    for write in (lambda out: write_images(model, out, 2), lambda out: write_paths(model, out / "mine.txt", 2, 3)):
        with pytest.raises(SettingError):
            write(tmp_path / "a")
    assert (tmp_path / "a/mine.txt").read_text() == "mine"
    (tmp_path / "b").mkdir()
    write_images(model, tmp_path / "b", 2)  # an empty folder is free
    assert len(list((tmp_path / "b").iterdir())) == 2


def test_a_model_without_the_methods_and_channels_without_a_picture_are_refused(tmp_path):
    model = Colourful(1, 32, base_width=2, feature_dim=4, generators=3, fake_batch_size=6)
    with pytest.raises(SettingError, match="kind must be npz for images of 4 channels, got 'png'"):
        write_images(model, tmp_path / "a", 2)
    write_images(model, tmp_path / "a.npz", 2, kind="npz")
    assert in_file(tmp_path / "a.npz").shape == (2, 32, 32, 4)

    class Bare(nn.Module):
        pass

    with pytest.raises(SettingError, match=r"must have a method generate\(\), which Bare has not"):
        write_images(Bare(), tmp_path / "b", 2)
    with pytest.raises(SettingError, match=r"sample_latents\(\) and generate_from\(\), which Bare has not"):
        write_paths(Bare(), tmp_path / "b.png", 2, 3)
