"""The output of one layer of any network, by the layer's name."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.stages import stages_of


class LayerTap(nn.Module):
    """A network up to one of its modules, whose output it gives; the rest of the network does not run.

    A module that runs several times counts at its first time.

    Args:
        network: Any network.
        layer: Name of a module in it, as `named_modules()` has it: `layer1`, `features.3`.

    Raises:
        SettingError: The network has no such module; names the closest ones.
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        check_layer(network, layer)
        self.network, self.layer = network, layer

    def forward(self, images: Tensor) -> Any:
        """Return the module's output.

        Raises:
            SettingError: The network does not run the module.
        """
        found: list[Any] = []

        def take(_: nn.Module, __: Any, output: Any) -> None:
            found.append(output)
            # torch.export follows each module to its end, and leaves out what nobody needs by itself.
            if not torch.compiler.is_exporting():
                raise _ReachedError

        handle = self.network.get_submodule(self.layer).register_forward_hook(take)
        try:
            self.network(images)
        except _ReachedError:
            pass
        finally:
            handle.remove()
        if not found:
            raise SettingError(
                f"layers must name modules that the network runs, got {self.layer!r}, which it does not."
            )
        return found[0]


class _ReachedError(BaseException):
    """The layer has given its output. No network catches this."""


def check_layer(network: nn.Module, layer: str, owner: object = None, of: str = "the network") -> None:
    """Check that a network has a module of this name.

    Args:
        network: The network.
        layer: The name.
        owner: The object whose setting `layers` has the name.
        of: The network's name, for an error.

    Raises:
        SettingError: It has none; names the closest ones.
    """
    known = [name for name, _ in network.named_modules() if name]
    if layer not in known:
        raise SettingError(f"layers must be modules of {of}, got {layer!r}. {closest(layer, known)}", owner, layer)


def closest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known names that are closest to a name; with the first ones if none is close."""
    names = list(known)
    if near := get_close_matches(name, names, 3, 0.5):
        return f"The closest names are {', '.join(near)}."
    first = [each for each in names if "." not in each] or names
    return f"There are {', '.join(first[:12])}{', ...' if len(first) > 12 else ''}." if first else "There are none."


def stage_or_layer(network: nn.Module, layer: str) -> nn.Module:
    """Return a network up to one of its stages (`stages_of`), or else up to the module of this name.

    Raises:
        SettingError: It has neither; names the closest ones.
    """
    stages = stages_of(network)
    names = list(dict(stages.named_children()))
    if layer in names:
        return stages[: names.index(layer) + 1]
    known = [*names, *(name for name, _ in network.named_modules() if name)]
    if layer not in known:
        raise SettingError(f"layers must be stages or modules of the network, got {layer!r}. {closest(layer, known)}")
    return LayerTap(network, layer)
