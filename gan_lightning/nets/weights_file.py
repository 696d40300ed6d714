"""Files of weights: state dicts and exported programs. A file that could run code of its own is refused."""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.program_check import code_in

Weights = Mapping[str, Tensor]
"""Tensors under the names of a state dict."""

SHOWN = 3
"""Names that an error shows of many."""

COUNT = "num_batches_tracked"
"""Name's end of the number of batches that batch norm has seen; PyTorch before 0.4.1 and conversions leave it out."""

NESTED = ("state_dict", "model")
"""Keys under which training programs keep a state dict beside other things."""


def read_weights(path: str, owner: object = None) -> Weights:
    """Return the state dict in a file, on the CPU.

    Args:
        path: A `.safetensors` file, or a file of `torch.save` with tensors and plain values alone.
        owner: The object whose setting `weights` has the path.

    Raises:
        SettingError: There is no such file, it holds no state dict, or it would run code.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise SettingError(
            f"weights must be a file with a state dict, got '{path}', which does not exist.", owner, path
        )
    try:
        if file.suffix == ".safetensors":
            return _safetensors(file)
        content = torch.load(file, weights_only=True, map_location="cpu")
    except UnpicklingError as error:
        raise SettingError(
            f"weights must be a file of tensors and plain values, got '{path}', which is damaged or holds other "
            f"objects, which could run code when they are loaded{_object(error)}. Save the network's state_dict().",
            owner,
            path,
        ) from error
    except SettingError:
        raise
    except Exception as error:  # anything may stand in a user's file
        raise SettingError(
            f"weights must be a file with a state dict, got '{path}', which cannot be read ({_line(error)}).",
            owner,
            path,
        ) from error
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise SettingError(
            f"weights must be a file with a state dict, tensors under names, got '{path}', which holds something else. "
            "Save the network's state_dict().",
            owner,
            path,
        )
    return content


def _safetensors(file: Path) -> Weights:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise SettingError(
            f"weights must be in a format whose package is installed, got '{file}', which needs safetensors. Install "
            "it with: pip install 'gan-lightning[export]'"
        ) from error
    return load_file(file)


def load_weights(network: nn.Module, weights: Weights, path: str, owner: object = None) -> None:
    """Give a network the weights of a state dict. Numbers of batches that batch norm has seen may lack in it.

    Args:
        network: The network.
        weights: As `read_weights` returns them.
        path: Their file, for an error.
        owner: The object whose setting `weights` has the path.

    Raises:
        SettingError: The weights do not fit; says what is missing, what is too much, and what has another shape.
    """
    own = network.state_dict()
    uncounted = {name: own[name] for name in own if name.endswith(COUNT) and name not in weights}
    shapes = [
        f"{name} ({tuple(weights[name].shape)} there, {tuple(own[name].shape)} here)"
        for name in own
        if name in weights and isinstance(own[name], Tensor) and own[name].shape != weights[name].shape
    ]
    wrong = {
        "missing there": [name for name in own if name not in weights and name not in uncounted],
        "too much there": [name for name in weights if name not in own],
        "of another shape": shapes,
    }
    if said := [f"{len(names)} {what}: {_few(names)}" for what, names in wrong.items() if names]:
        raise SettingError(
            f"weights must fit {type(network).__name__}, got '{path}', whose weights do not ({'; '.join(said)}). Give "
            "the network the arguments that the weights were trained with.",
            owner,
            path,
        )
    network.load_state_dict({**uncounted, **weights})


def _few(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def read_program(path: str, owner: object = None) -> torch.export.ExportedProgram:
    """Return the exported program in a `.pt2` file.

    Args:
        path: A file of `torch.export.save`.
        owner: The object whose setting `network` has the path.

    Raises:
        SettingError: There is no such file, it is none, or it holds what could run code, as `code_in` finds it.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise SettingError(f"network must be a file of torch.export, got '{path}', which does not exist.", owner, path)
    try:
        found = code_in(file)
        if found is None:
            return torch.export.load(file)
    except Exception as error:  # anything may stand in a user's file
        raise SettingError(
            f"network must be a file of torch.export, got '{path}', which cannot be read as one ({_line(error)}).",
            owner,
            path,
        ) from error
    raise SettingError(
        f"network must be a .pt2 file of tensors and plain operators, got '{path}', which holds what could run code "
        f"when it is loaded ({found}). Export the network again without objects of its own.",
        owner,
        path,
    )


def _object(error: UnpicklingError) -> str:
    """Return the name of the object that torch has refused, in brackets; empty if it names none."""
    named = re.search(r"GLOBAL (\S+)", str(error))
    return f" ({named[1]})" if named else ""


def _line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:300]
