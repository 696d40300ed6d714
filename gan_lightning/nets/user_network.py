"""Networks of the user's own: by import path, with a file of weights, and the outputs of their layers."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError

T = TypeVar("T")


def imported_network(network: str, weights: str | None, layers: Sequence[str], owner: object) -> nn.Module:
    """Return a network, frozen and in eval mode, in float32 on the CPU.

    The random numbers of the training do not change.

    Args:
        network: Import path of a class or function that makes it, without arguments.
        weights: File of its state dict. Without it the network keeps its initial weights; random ones are the same in
            each run.
        layers: Names of submodules that it must have.
        owner: The object with the settings `network`, `weights` and `layers`.

    Raises:
        SettingError: If there is no such network, its weights do not fit, or it has no such layer.
    """
    path, _, name = network.rpartition(".")
    try:
        make = getattr(import_module(path), name)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            made = make()
        if not isinstance(made, nn.Module):
            raise TypeError(f"it gives a {type(made).__name__}, not a torch.nn.Module")
    except Exception as error:  # anything may go wrong in a user's module
        raise SettingError(
            f"network must be the import path of what makes a network without arguments, got "
            f"'{network}' ({error}). An example is torchvision.models.vgg16.",
            owner,
            network,
        ) from error
    if weights is not None:
        try:
            made.load_state_dict(torch.load(Path(weights), weights_only=True, map_location="cpu"))
        except Exception as error:  # anything may stand in a user's file
            raise SettingError(
                f"weights must be a file with the state dict of '{network}', got '{weights}', which is not ({error}).",
                owner,
                weights,
            ) from error
    known = dict(made.named_modules())
    if unknown := [layer for layer in layers if layer not in known]:
        raise SettingError(
            f"layers must be modules of '{network}', got '{unknown[0]}'. It has {', '.join(filter(None, known))}.",
            owner,
            layers,
        )
    return made.float().eval().requires_grad_(False)


def layer_outputs(
    network: nn.Module, layers: Sequence[str], images: Float[Tensor, "batch channels height width"]
) -> list[Tensor]:
    """Return the outputs of the named submodules, or the network's own if none is named."""
    if not layers:
        return [network(images)]
    found: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
        for name in layers
    ]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [found[name] for name in layers]


def tried_on_images(compute: Callable[[Tensor], T], network: str, owner: object, channels: int, image_size: int) -> T:
    """Return a network's output for two black images of the data's size.

    Args:
        compute: Applies the network.
        network: Its import path, for an error.
        owner: The object with the setting `network`.
        channels: Channels of the images.
        image_size: Height and width of the images, pixels.

    Raises:
        SettingError: If it cannot take them.
    """
    try:
        return compute(torch.zeros(2, channels, image_size, image_size, dtype=torch.float32))
    except Exception as error:  # anything may go wrong in a user's network
        raise SettingError(
            f"network must take images of {channels} channels and {image_size} pixels, got '{network}', which does not "
            f"({error}).",
            owner,
            network,
        ) from error
