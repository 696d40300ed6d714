"""`gan-lightning generate`: images of a finished run, and paths between its latents, as files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gan_lightning.errors import SettingError
from gan_lightning.system.terminal import show
from gan_lightning.system.users_modules import find_users_modules

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule

POINTS, STEPS = 8, 10


def parser() -> argparse.ArgumentParser:
    """Return the parser of `gan-lightning generate`."""
    parser = argparse.ArgumentParser(
        prog="gan-lightning generate",
        description="Draw images with a finished run's generator: many of them, for tools that compare distributions, "
        "or paths between latents, as a picture or a video.",
    )
    parser.add_argument("run", type=Path, help="folder of the run")
    place = "a folder of PNG files, or a .npz file; of a path a .png, .gif or .mp4 file; nothing may be there yet"
    parser.add_argument("--out", type=Path, required=True, help=place)
    parser.add_argument("--count", type=int, help="number of images")
    parser.add_argument("--path", choices=("line", "sphere"), help="draw paths between latents instead")
    parser.add_argument("--points", type=int, help=f"rows of a picture, or latents of a video (default: {POINTS})")
    parser.add_argument("--steps", type=int, help=f"images from a latent to the next one (default: {STEPS})")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    parser.add_argument("--generator", type=int, help="number of the one generator to take (default: all in turns)")
    parser.add_argument("--each_generator", action="store_true", help="as many images of each generator, in folders")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of the run (default: checkpoints/last.ckpt)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `gan-lightning generate`.

    Returns:
        The exit status.

    Raises:
        SettingError: There is no such run, it cannot generate, a value is out of range, or the place is taken.
    """
    settings = parser().parse_args(arguments)
    check_which(settings)
    from gan_lightning.export.trained_run import load_run
    from gan_lightning.runs.generated_files import VIDEOS, check_free, write_images, write_paths

    find_users_modules()
    check_free(settings.out)
    if settings.path is not None and settings.out.suffix not in (".png", *VIDEOS):
        raise SettingError(f"out must be a .png, .gif or .mp4 file for a path, got '{settings.out}'.")
    model = on_device(load_run(settings.run, settings.checkpoint), settings.device)
    about = {"seed": settings.seed, "generator": settings.generator}
    if settings.path is None:
        from rich.progress import Progress

        with Progress(transient=True) as progress:
            task = progress.add_task("Images", total=settings.count)
            write_images(
                model,
                settings.out,
                settings.count,
                kind="npz" if settings.out.suffix == ".npz" else "png",
                each_generator=settings.each_generator,
                report=lambda done, total: progress.update(task, completed=done, total=total),
                **about,
            )
    else:
        points, steps = settings.points or POINTS, settings.steps or STEPS
        write_paths(model, settings.out, points, steps, path=settings.path, **about)
    show(f"Written: {settings.out}", soft_wrap=True)
    return 0


def on_device(model: "LightningModule", name: str) -> "LightningModule":
    """Return a model on a device; "auto" is a CUDA card if there is one.

    Raises:
        SettingError: There is no such device.
    """
    import torch

    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        return model.to(chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        raise SettingError(
            f"device must be one of this machine, got {name!r} ({str(error).splitlines()[0]})."
        ) from error


def check_which(settings: argparse.Namespace) -> None:
    """Check that the settings are those of images or those of a path.

    Raises:
        SettingError: Neither or both are asked for, or a setting is of the other.
    """
    if (settings.count is None) == (settings.path is None):
        given = "both" if settings.path is not None else "neither"
        raise SettingError(f"one of --count and --path must be given, got {given}: images, or paths between latents.")
    of_other = ("points", "steps") if settings.path is None else ("each_generator",)
    for name in of_other:
        if getattr(settings, name):
            kind = "--path" if settings.path is None else "--count"
            raise SettingError(f"{name} must be left out without {kind}, got {getattr(settings, name)}.")
    for name in ("points", "steps"):
        if getattr(settings, name) is not None and getattr(settings, name) < 1:
            raise SettingError(f"{name} must be at least 1, got {getattr(settings, name)}.")
    if not 0 <= settings.seed < 2**63:
        raise SettingError(f"seed must be at least 0, got {settings.seed}.")
