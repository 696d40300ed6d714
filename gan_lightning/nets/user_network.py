"""Networks of the user's own: by import path, with a file of weights, and the outputs of their layers."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.layer_tap import check_layer, closest
from gan_lightning.nets.weights_file import load_weights, read_weights

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
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        made = built_network(network, {}, owner)
    if weights is not None:
        load_weights(made, read_weights(weights, owner), weights, owner)
    for layer in layers:
        check_layer(made, layer, owner, repr(network))
    return made.float().eval().requires_grad_(False)


def built_network(network: str, arguments: Mapping[str, Any], owner: object) -> nn.Module:
    """Return a network as its maker makes it.

    Args:
        network: Import path of a class or function.
        arguments: Its arguments, by name.
        owner: The object with the settings `network` and `arguments`.

    Raises:
        SettingError: There is no such maker, it needs other arguments, it fails, or it makes something else.
    """
    path, _, name = network.rpartition(".")
    try:
        make = getattr(import_module(path), name)
    except Exception as error:  # anything may go wrong in a user's module
        raise SettingError(
            f"network must be the import path of what makes a network, got '{network}' ({error}). An example is "
            "torchvision.models.vgg16.",
            owner,
            network,
        ) from error
    _check_arguments(make, network, arguments, owner)
    try:
        made = make(**arguments)
    except Exception as error:  # anything may go wrong in a user's network
        given = f" with {', '.join(f'{key}={value!r}' for key, value in arguments.items())}" if arguments else ""
        raise SettingError(
            f"network must be the import path of what makes a network, got '{network}', which fails{given} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]}).",
            owner,
            network,
        ) from error
    if not isinstance(made, nn.Module):
        raise SettingError(
            f"network must be the import path of what makes a torch.nn.Module, got '{network}', which makes a "
            f"{type(made).__name__}.",
            owner,
            network,
        )
    return made


def _check_arguments(make: Callable[..., Any], network: str, arguments: Mapping[str, Any], owner: object) -> None:
    """Check that a maker takes the given arguments, and needs no others.

    Raises:
        SettingError: It needs others, or does not know one; names the closest.
    """
    try:
        known = signature(make).parameters
    except (TypeError, ValueError):  # such as of classes in C
        return
    kinds = {each.kind for each in known.values()}
    named = [name for name, each in known.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    lacking = [name for name in named if known[name].default is Parameter.empty and name not in arguments]
    if lacking:
        raise SettingError(
            f"arguments must have what '{network}' needs, got none for {', '.join(lacking)}. Give each a value.",
            owner,
            arguments,
        )
    unknown = [name for name in arguments if name not in named]
    if unknown and Parameter.VAR_KEYWORD not in kinds:
        raise SettingError(
            f"arguments must be some that '{network}' takes, got {unknown[0]!r}. {closest(unknown[0], named)}",
            owner,
            arguments,
        )


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
