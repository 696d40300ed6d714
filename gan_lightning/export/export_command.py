"""`gan-lightning export`: a run's extractors as files that other projects can load."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from gan_lightning.errors import SettingError
from gan_lightning.system.terminal import show
from gan_lightning.system.users_modules import find_users_modules


def parser() -> argparse.ArgumentParser:
    """Return the parser of `gan-lightning export`."""
    parser = argparse.ArgumentParser(
        prog="gan-lightning export",
        description="Write each extractor of a trained run into a folder: extractor.pt2 (torch.export), "
        "model.safetensors, config.json and a model card. Nothing is uploaded.",
    )
    parser.add_argument("run", type=Path, help="folder of a trained run")
    parser.add_argument("--out", type=Path, help="folder of the extractors' folders (default: export in the run's)")
    parser.add_argument(
        "--extractors", nargs="+", default=[], metavar="NAME", help="names of extractors (default: all)"
    )
    parser.add_argument("--ckpt_path", type=Path, help="a checkpoint of the run (default: checkpoints/last.ckpt)")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx, too: pip install 'gan-lightning[onnx]'")
    parser.add_argument("--license", default="unknown", help="licence of the weights, for the model card")
    parser.add_argument("--channels", type=int, help="channels of the images, if the run does not say them")
    parser.add_argument("--image_size", type=int, help="height and width of the images, if the run does not say them")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run `gan-lightning export`.

    Returns:
        The exit status.

    Raises:
        UserError: There is no run, or it cannot be exported; says why.
    """
    given = parser().parse_args(arguments)
    find_users_modules()
    from gan_lightning.export.exporting import ExportSettings, export_run
    from gan_lightning.export.trained_run import read_trained_run

    if not given.license.strip() or "\n" in given.license:
        raise SettingError(f"license must be a name such as apache-2.0, got {given.license!r}.")
    settings = ExportSettings(given.extractors, given.onnx, given.license, given.channels, given.image_size)
    out: Path = given.out or given.run / "export"
    for folder in export_run(read_trained_run(given.run), out, settings, given.ckpt_path):
        show(f"{folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}", soft_wrap=True)
    return 0
