"""A run's extractors as files for other projects, each in a folder that appears whole or not at all."""

import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning import __version__
from gan_lightning.cli.checks import class_at
from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import FunctionExtractor, as_extractor, dtype_of
from gan_lightning.export.extractor import CARD_FILE, CONFIG, OURS, PROGRAM_FILE, WEIGHTS_FILE
from gan_lightning.export.model_card import model_card
from gan_lightning.export.trained_run import TrainedRun
from gan_lightning.figures import of_content
from gan_lightning.interfaces import HasExtractors
from gan_lightning.nets.layer_tap import closest
from gan_lightning.runs.checkpoint_files import read_checkpoint
from gan_lightning.runs.counting import counts_in
from gan_lightning.system.files import read_json, write_json, writing_folder

ONNX_FILE = "model.onnx"

TRIED = 3
"""Images that an exported program is compared on; it was written with another number."""

AGREES = 1e-4
"""Largest difference of an exported program's features, as a share of the largest feature. It is 0 on a CPU."""


@dataclass(frozen=True)
class ExportSettings:
    """How extractors are exported.

    Attributes:
        extractors: Their names; by default all of the model's.
        onnx: Whether an ONNX file is written, too.
        licence: Of the weights, as the model card states it.
        channels: Channels of the images; by default the run's.
        image_size: Height and width of the images, pixels; by default the run's.
    """

    extractors: Sequence[str] = ()
    onnx: bool = False
    licence: str = "unknown"
    channels: int | None = None
    image_size: int | None = None


class _FlatFeatures(nn.Module):
    """An extractor whose output is a row per image in float32."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor, self.dtype = extractor, dtype_of(extractor)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        return self.extractor(images.to(self.dtype)).flatten(1).float()


def export_run(
    run: TrainedRun, out: Path, settings: ExportSettings | None = None, checkpoint: Path | None = None
) -> list[Path]:
    """Write the extractors of a run, each into a folder of its name below `out`; return these folders.

    Nothing appears if one of them cannot be exported. Earlier exports of the same names are replaced.

    Args:
        run: The run.
        out: Folder of the extractors' folders.
        settings: How.
        checkpoint: A checkpoint of the run; by default the last one.

    Raises:
        SettingError: The model has no such extractors, one cannot be exported, a package is missing, or a folder with
            other files stands in the way.
    """
    settings = settings or ExportSettings()
    _check_packages(settings.onnx)
    model = run.model(checkpoint)
    epochs, _ = counts_in(read_checkpoint(run.checkpoint(checkpoint), "checkpoint"))
    extractors = _chosen(model, settings.extractors)
    shape = _image_shape(run, model, settings)
    for name in extractors:
        if (out / name).exists() and not (out / name / CONFIG).is_file():
            raise SettingError(f"out must be a folder to write to, got '{out}', in which '{name}' is something else.")
    is_new = not out.exists()
    try:
        with writing_folder(out) as writing:
            for name, extractor in extractors.items():
                folder = writing / name
                folder.mkdir()
                config = _config(run, model, name, shape, settings)
                _write(name, extractor, config, folder, onnx=settings.onnx)
                card = model_card(run, name, read_json(folder / CONFIG), epochs, onnx=settings.onnx)
                (folder / CARD_FILE).write_text(card, encoding="utf-8")
            for name in extractors:
                shutil.rmtree(out / name, ignore_errors=True)
                (writing / name).replace(out / name)
    except BaseException:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    return [out / name for name in extractors]


def _check_packages(onnx: bool) -> None:
    extras = {"export": ("safetensors",), **({"onnx": ("onnx", "onnxscript")} if onnx else {})}
    for extra, packages in extras.items():
        for package in packages:
            try:
                __import__(package)
            except ImportError as error:
                raise SettingError(
                    f"export must have {package} installed, got none. Install it with: pip install "
                    f"'gan-lightning[{extra}]'"
                ) from error


def _chosen(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """Return the named extractors of a model, by default all.

    Raises:
        SettingError: It has none, or none of a name, or one is a function.
    """
    declared = model.extractors() if isinstance(model, HasExtractors) else {}
    if not declared:
        raise SettingError(f"folder must be of a run whose model has extractors, got a {type(model).__name__}.")
    if unknown := [name for name in names if name not in declared]:
        raise SettingError(f"extractors must name extractors, got {unknown[0]!r}. {closest(unknown[0], declared)}")
    chosen = {name: as_extractor(name, declared[name]) for name in names or declared}
    for name, extractor in chosen.items():
        if isinstance(extractor, FunctionExtractor):
            raise SettingError(
                f"extractors must be modules to be exported, got {name!r}, a function. Return a torch.nn.Module from "
                "extractors(), or leave it out with --extractors."
            )
    return chosen


def _image_shape(run: TrainedRun, model: Any, settings: ExportSettings) -> tuple[int, int]:
    """Return channels and edge of the images: those given, the model's settings, or those of the data set.

    Raises:
        SettingError: They are unknown.
    """
    data = class_at(run.class_path("data"))
    known = {**run.measured.about.get("data_settings", {}), **getattr(model, "hparams", {})}
    found = []
    for name in ("channels", "image_size"):
        value = getattr(settings, name) or known.get(name) or getattr(data, name, None)
        if not isinstance(value, int):
            raise SettingError(f"{name} must be given, got none: neither the model nor the data set says it.")
        found.append(value)
    return found[0], found[1]


def _write(name: str, extractor: nn.Module, config: Mapping[str, Any], folder: Path, *, onnx: bool) -> None:
    """Write an extractor's program, weights and configuration into a folder.

    Args:
        name: The extractor's.
        extractor: Maps images in [-1, 1] to features.
        config: The content of `config.json`; the number of features is added.
        folder: An empty folder.
        onnx: Whether to write the ONNX file, too.

    Raises:
        SettingError: The extractor cannot be exported.
    """
    from safetensors.torch import save_file

    channels, size, _ = config["pretrained_cfg"]["input_size"]
    flat = _FlatFeatures(extractor).eval().requires_grad_(False)
    program, features = exported(name, flat, channels, size)
    torch.export.save(program, folder / PROGRAM_FILE)
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in extractor.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    write_json(folder / CONFIG, {**config, "num_features": features})
    if onnx:
        write_onnx(name, program, folder / ONNX_FILE)


@torch.no_grad()
def exported(name: str, extractor: nn.Module, channels: int, size: int) -> tuple[torch.export.ExportedProgram, int]:
    """Return an extractor as a program of torch.export for any number of images, and its number of features.

    Args:
        name: The extractor's.
        extractor: Maps images in [-1, 1] to rows of features; in eval mode.
        channels: Channels of the images.
        size: Their height and width, pixels.

    Raises:
        SettingError: It cannot be exported; names the operation. Or the program gives other features.
    """
    rng = torch.Generator().manual_seed(0)
    images = 2 * torch.rand(TRIED, channels, size, size, generator=rng) - 1
    shapes = ({0: torch.export.Dim("batch")},)
    try:
        program = torch.export.export(extractor, (images[:2],), dynamic_shapes=shapes)
    except Exception as error:  # anything may go wrong in a user's network
        raise SettingError(
            f"{name!r} must be a network that torch.export can follow, got {_operation(error)} "
            f"({type(error).__name__}: {_first_line(error)}). Write that part with operations of torch alone."
        ) from error
    wanted, found = extractor(images), program.module()(images)
    if not (wanted - found).abs().max() <= AGREES * wanted.abs().max():
        raise SettingError(
            f"{name!r} must be a network that torch.export can follow, got a program with other features than the "
            "network's. Let its forward depend on the images alone."
        )
    return program, wanted.shape[1]


def write_onnx(name: str, program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program as an ONNX file with the input `images` and the output `features`.

    Raises:
        SettingError: ONNX lacks one of its operations.
    """
    try:
        written = torch.onnx.export(
            program, input_names=["images"], output_names=["features"], dynamo=True, verbose=False
        )
        assert written is not None
        written.save(path)
    except Exception as error:  # anything may go wrong in the translation
        raise SettingError(
            f"{name!r} must be a network of operations that ONNX has, got {type(error).__name__}: "
            f"{_first_line(error)}. Export it without ONNX."
        ) from error


def _operation(error: BaseException) -> str:
    """Return the innermost line of code outside torch at which an export has failed."""
    torchs = str(Path(torch.__file__).parent)
    lines = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith((torchs, "<"))]
    own = [each for each in lines if each.filename != __file__]
    return (
        f"{own[-1].line!r} in line {own[-1].lineno} of {Path(own[-1].filename).name}" if own else "one that it cannot"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".")[:300] if text else "no reason given"


def _config(
    run: TrainedRun, model: Any, name: str, shape: tuple[int, int], settings: ExportSettings
) -> Mapping[str, Any]:
    """Return the content of `config.json`: under timm's names what timm has names for, the rest under our own."""
    channels, size = shape
    settings_of_data = run.measured.about.get("data_settings", {})
    data = class_at(run.class_path("data"))
    return {
        "architecture": f"{type(model).__name__}.{name}",
        "num_classes": 0,
        "pretrained_cfg": {
            "input_size": [channels, size, size],
            "fixed_input_size": True,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [0.5] * channels,
            "std": [0.5] * channels,
            "num_classes": 0,
            "license": settings.licence,
        },
        OURS: {
            "version": __version__,
            "model": run.class_path("model") or f"gan_lightning.papers.{type(model).__name__}",
            "model_settings": run.measured.about.get("model_settings", {}),
            "extractor": name,
            "layer": "the extractor's output, flattened, in float32",
            "range": [-1, 1],
            "enlarge": getattr(data, "enlarge", "resize"),
            "batch_norm": "running statistics, gathered in training; nothing depends on the batch",
            "data": run.measured.about.get("data"),
            "data_settings": of_content(settings_of_data),
        },
    }
