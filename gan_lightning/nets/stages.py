"""The convolutions of a network under their names, from the images on."""

import copy
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.interfaces import HasStages

LARGE = 1024
"""Edge of the images whose maps tell a network's stride, pixels."""


def stages_of(network: nn.Module) -> nn.Sequential:
    """Return a network's stages as a sequence of named modules, images to maps; the modules are the network's own.

    A network names its stages by a method `stages()`. A plain `nn.Sequential` has a stage for each child that holds a
    convolution, under the child's name. The children after it belong to it, up to the next convolution; children before
    the first one belong to the first. The last stage ends before a child that flattens or that has a fully connected
    layer.

    Returns:
        The stages; without any where the network is neither of both or has no convolution.

    Raises:
        SettingError: `stages()` returns something else than modules under their names.
    """
    if isinstance(network, HasStages):
        declared = network.stages()
        right = isinstance(declared, Mapping) and all(isinstance(stage, nn.Module) for stage in declared.values())
        if not right or not all(isinstance(name, str) and name and "." not in name for name in declared):
            raise SettingError(
                f"stages() of {type(network).__name__} must return a mapping from names without dots to modules, got "
                f"{declared!r}. Name each convolution, in the order of the network."
            )
        return nn.Sequential(OrderedDict(declared))
    stages: OrderedDict[str, list[nn.Module]] = OrderedDict()
    before: list[nn.Module] = []
    for name, child in network.named_children() if isinstance(network, nn.Sequential) else ():
        if _holds(child, nn.Conv2d):
            stages[name] = [*before, child]
            before = []
        elif _holds(child, nn.Flatten, nn.Linear):
            break
        elif stages:
            next(reversed(stages.values())).append(child)
        else:
            before.append(child)
    joined = {name: parts[0] if len(parts) == 1 else nn.Sequential(*parts) for name, parts in stages.items()}
    return nn.Sequential(OrderedDict(joined))


def _holds(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    return any(isinstance(layer, kinds) for layer in module.modules())


@torch.no_grad()
def check_maps(name: str, stages: nn.Sequential, channels: int, size: int, device: torch.device) -> tuple[int, int]:
    """Try stages on blank images; return channels and edge of the last stage's maps.

    Args:
        name: The network's, in an error.
        stages: On `device`, in eval mode.
        channels: Of the images.
        size: Height and width of the images, pixels.
        device: Device to compute on.

    Raises:
        SettingError: The image is smaller than the stages' stride, a stage cannot take its maps, or the last one gives
            no maps.
    """
    stride = stride_of(stages, channels)
    if stride is not None and size < stride:
        raise SettingError(
            f"{name!r} must see images of at least {stride} pixels, the stride of its convolutions, got {size}. Use "
            "larger images."
        )
    maps = torch.zeros(2, channels, size, size, device=device)
    for stage_name, stage in stages.named_children():
        before = tuple(maps.shape[1:])
        try:
            maps = stage(maps)
        except Exception as error:  # anything may go wrong in a user's network
            reason = " ".join(str(error).split())
            raise SettingError(
                f"{name!r} must see images that all of its stages can take, got images of {size} pixels, of which "
                f"{stage_name!r} sees {before} (channels, height, width; {type(error).__name__}: {reason}). Use larger "
                "images."
            ) from error
    if maps.ndim != 4 or not maps.numel():
        raise SettingError(
            f"{name!r} must have a last stage that gives maps (batch, channels, height, width), got the shape "
            f"{tuple(maps.shape)} for images of {size} pixels. End the stages before the maps are flattened."
        )
    return maps.shape[1], maps.shape[2]


def stride_of(stages: nn.Sequential, channels: int) -> int | None:
    """Return the pixels between neighbouring places of the last stage's maps; None if the maps do not tell."""
    try:
        network = copy.deepcopy(stages).to("meta").eval()
        small, large = (
            network(torch.empty(2, channels, size, size, device="meta")).shape[-1] for size in (LARGE, 2 * LARGE)
        )
    except Exception:  # anything may go wrong in a user's network at a size that it is not made for
        return None
    return round(LARGE / (large - small)) if large > small else None
