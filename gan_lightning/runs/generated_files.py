"""A model's images as files: many of them for tools that compare distributions, and paths between latents.

A file or folder takes its place when all of it has been written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from gan_lightning.errors import SettingError, at_least, one_of
from gan_lightning.evaluation import latent_paths
from gan_lightning.evaluation.features import frozen
from gan_lightning.evaluation.pictures import rows_picture
from gan_lightning.evaluation.tensors import to_bytes
from gan_lightning.interfaces import GeneratesFromLatents, GeneratesImages, Images
from gan_lightning.system.files import whole_file, writing_folder

AT_ONCE = 250
"""Images of each generator that are drawn at a time. The numbers drawn from a seed depend on it."""

FRAMES_A_SECOND = 20

LARGE = 96
"""Edge of a drawn image, pixels, if a whole multiple of its own is not larger."""

Format = Literal["png", "npz"]

Report = Callable[[int, int], None]
"""Told of images done and their total."""

VIDEOS = (".gif", ".mp4")


def write_images(
    model: nn.Module,
    out: Path,
    count: int,
    *,
    kind: Format = "png",
    seed: int = 0,
    generator: int | None = None,
    each_generator: bool = False,
    report: Report | None = None,
) -> None:
    """Write images of a model in eval mode: a folder of `000000.png`, ..., or one file with the array `images`.

    Images of several generators come in turns, as drawn from their mixture. More images of one seed begin with the
    fewer ones.

    Args:
        model: Generates images.
        out: The folder, or the file if `kind` is npz. It must not exist, or be an empty folder.
        count: Number of images, of each generator if `each_generator` says so.
        kind: "png", or "npz": uint8 (images, height, width, channels), and `generator`, the generator of each.
        seed: Of the latents.
        generator: Index of the one generator to take; by default all.
        each_generator: Whether each generator makes `count` images; as PNG they have folders, `generator-0`, ...
        report: Told of the progress.

    Raises:
        SettingError: The model generates no images, a value is out of range, the place is taken, or PNG cannot hold
            images of this number of channels.
    """
    if not isinstance(model, GeneratesImages):
        raise SettingError(f"the model must have a method generate(), which {type(model).__name__} has not.")
    at_least(None, 1, count=count)
    one_of(None, get_args(Format), kind=kind)
    with eval_mode(model):
        first = model.generate(1, generator_of(model, seed))
    generators, channels = first.shape[0], first.shape[2]
    chosen = list(range(generators)) if generator is None else [_checked(generator, generators)]
    if kind == "png" and channels not in (1, 3):
        raise SettingError(f"kind must be npz for images of {channels} channels, got 'png', which holds 1 or 3.")
    check_free(out)
    with writing_folder(out.absolute().parent) as folder:
        place, parts, made_by = folder / out.name, [], []
        total = count * len(chosen) if each_generator else count
        done = dict.fromkeys(chosen, 0)
        if kind == "png":
            place.mkdir()
            for each in chosen if each_generator else ():
                (place / f"generator-{each}").mkdir()
        for number, which, pixels in _drawn(model, chosen, count, seed, each_generator):
            if kind == "npz":
                parts.append(pixels)
                made_by.append(which)
            else:
                name = f"generator-{which}/{done[which]:06}.png" if each_generator else f"{number:06}.png"
                Image.fromarray(pixels).save(place / name)
            done[which] += 1
            if report is not None and ((number + 1) % AT_ONCE == 0 or number + 1 == total):
                report(number + 1, total)
        if kind == "npz":
            with place.open("wb") as file:
                np.savez(file, images=np.stack(parts).reshape(total, *parts[0].shape[:2], -1), generator=made_by)
        if out.is_dir():
            out.rmdir()  # empty: it was checked
        place.rename(out)


def write_paths(
    model: nn.Module,
    out: Path,
    points: int,
    steps: int,
    *,
    path: latent_paths.Path = "sphere",
    seed: int = 0,
    generator: int | None = None,
) -> None:
    """Write images along paths between latents: a picture with a row for each path, or a video of a closed tour.

    In a picture, each of `points` rows goes from a latent of its own to another one. In a video, one path leads through
    `points` latents and back. Rows of several generators, or their images in a frame, are of the same latents.

    Args:
        model: Generates images from latents.
        out: A file `.png`, `.gif` or `.mp4`. It must not exist.
        points: Rows, or latents of the tour.
        steps: Images of a row, or from each latent of the tour to the next.
        path: Kind of the path.
        seed: Of the latents.
        generator: Index of the one generator to take; by default all.

    Raises:
        SettingError: The model cannot, a value is out of range, the place is taken, or a package is missing.
    """
    if not isinstance(model, GeneratesFromLatents):
        raise SettingError(
            f"the model must have methods sample_latents() and generate_from(), which {type(model).__name__} has not."
        )
    at_least(None, 1, points=points)
    at_least(None, 2, steps=steps)
    one_of(None, get_args(latent_paths.Path), path=path)
    one_of(None, (".png", *VIDEOS), "Name the file so.", suffix=out.suffix)
    check_free(out)
    moves = out.suffix in VIDEOS
    with eval_mode(model):
        rng = generator_of(model, seed)
        drawn = model.sample_latents(points if moves else 2 * points, rng)
        way = (
            latent_paths.tour(drawn, steps, path)
            if moves
            else latent_paths.between(drawn[:points], drawn[points:], steps, path).flatten(0, 1)
        )
        images = torch.cat([model.generate_from(part).float() for part in way.split(AT_ONCE)], dim=1)
    if generator is not None:
        images = images[_checked(generator, len(images)) :][:1]
    if moves:
        with whole_file(out) as file:
            _write_video([_drawing(frame[None]) for frame in images.unbind(dim=1)], file)
        return
    rows = images.unflatten(1, (points, steps)).transpose(0, 1).flatten(0, 1)
    with whole_file(out) as file:
        Image.fromarray(_drawing(rows)).save(file)


def as_pixels(images: Images) -> np.ndarray:
    """Return images in [-1, 1] as uint8 (images, height, width, channels); grey ones have no last axis."""
    pixels = to_bytes(images.float()).permute(0, 2, 3, 1).cpu().numpy()
    return pixels[..., 0] if pixels.shape[3] == 1 else pixels


def check_free(out: Path) -> None:
    """Check that nothing would be written over.

    Raises:
        SettingError: There is a file, or a folder that is not empty.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise SettingError(f"out must not exist or be an empty folder, got '{out}'. Remove it or choose another place.")


def generator_of(model: nn.Module, seed: int) -> torch.Generator:
    """Return a random generator on a model's device."""
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Let a model be in eval mode and without gradients; its modes come back afterwards."""
    with frozen({type(model).__name__: model}), torch.no_grad():
        yield


def _drawn(
    model: GeneratesImages, chosen: list[int], count: int, seed: int, each_generator: bool
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield each image with its number and its generator."""
    assert isinstance(model, nn.Module)
    rng, number = generator_of(model, seed), 0
    total = count * len(chosen) if each_generator else count
    with eval_mode(model):
        while True:
            of_generators = [as_pixels(images) for images in model.generate(AT_ONCE, rng)[chosen]]
            for images in zip(*of_generators, strict=True):
                for which, pixels in zip(chosen, images, strict=True):
                    if number == total:
                        return
                    yield number, which, pixels
                    number += 1


def _drawing(rows: Float[Tensor, "rows columns channels height width"]) -> np.ndarray:
    """Return the pixels (height, width, 3) of rows of images; small images are drawn larger."""
    zoom = max(1, LARGE // rows.shape[-1])
    larger = rows.repeat_interleave(zoom, dim=-1).repeat_interleave(zoom, dim=-2)
    return as_pixels(rows_picture(larger)[None] * 2 - 1)[0]


def _checked(generator: int, generators: int) -> int:
    if not 0 <= generator < generators:
        raise SettingError(f"generator must be from 0 to {generators - 1}, got {generator}.")
    return generator


def _write_video(frames: list[np.ndarray], file: Path) -> None:
    if file.suffix == ".gif":
        first, *others = [Image.fromarray(frame) for frame in frames]
        first.save(file, save_all=True, append_images=others, duration=1000 // FRAMES_A_SECOND, loop=0)
        return
    try:
        import av
    except ImportError as error:
        raise SettingError(
            "out must be a .gif without the package av, got a .mp4. Install it: pip install 'gan-lightning[video]'"
        ) from error
    height, width = (size - size % 2 for size in frames[0].shape[:2])  # the codec takes even sizes alone
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_A_SECOND)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
