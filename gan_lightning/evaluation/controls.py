"""Networks with random weights. Only beside them a figure shows the effect of training."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gan_lightning.errors import SettingError
from gan_lightning.evaluation.features import FunctionExtractor, as_extractor
from gan_lightning.interfaces import HasExtractors, HasHeads, LinearHead


@dataclass(frozen=True)
class Control:
    """The extractors of a model before any training.

    Attributes:
        networks: Under the names of the trained ones; an extractor that can have no control is left out.
        heads: Their heads, with random weights, too.
        remarks: Remarks for readers of the figures, a sentence each.
    """

    networks: Mapping[str, nn.Module]
    heads: Mapping[str, LinearHead] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def control_of(
    model: nn.Module | None,
    networks: Mapping[str, nn.Module],
    heads: Mapping[str, LinearHead],
    seed: int,
) -> Control:
    """Return a model's extractors with weights drawn from `seed`.

    The model is built anew from its hyper-parameters, so that the weights have its own initial distribution. If that is
    impossible, or an extractor's weights do not depend on the seed, the extractor is copied. The copy's layers are
    reset to torch's initial distributions, and its head is normal: its row space points anywhere. If some weights of a
    copy stay the same, it is no control.

    Args:
        model: The trained model; None if there are networks alone.
        networks: Its extractors.
        heads: Their heads.
        seed: For the weights.

    Raises:
        SettingError: A layer of a copy cannot reset itself, or an extractor cannot be copied.
    """
    remarks: list[str] = []
    reasons: list[str] = []
    found: dict[str, nn.Module] = {}
    found_heads: dict[str, LinearHead] = {}
    if model is not None:
        pair, reason = rebuilt(model, seed)
        reasons += [] if reason is None else [reason]
        if pair is not None:
            one, other = (_extractors(each) for each in pair)
            fixes = f"{type(model).__name__}.__init__ loads or fixes them."
            for name in (each for each in networks if each in one):
                if not has_weights(one[name]) and not isinstance(one[name], FunctionExtractor):
                    continue
                if getattr(networks[name], "no_control", None) is not None:
                    continue
                if has_weights(one[name]) and same_weights(one[name], other[name]):
                    reasons.append(f"The weights of {name!r} do not depend on the seed: {fixes}")
                    continue
                found[name] = one[name]
                if fixed := fixed_weights(one[name], other[name]):
                    remarks.append(
                        f"The random-weights control of {name!r} has the same {_few(fixed)} for every seed: {fixes}"
                    )
            here = _extractors(pair[0].to(_device_of(model)))  # compared first: a GPU's weights would be read back
            found = {name: here[name] for name in found}
            if isinstance(pair[0], HasHeads):
                found_heads = {name: head for name, head in pair[0].heads().items() if name in heads and name in found}
    if any(name not in found and getattr(each, "no_control", None) is None for name, each in networks.items()):
        copied = "The random-weights control is a copy whose layers are reset to torch's defaults."
        remarks += [f"{each} {copied}" for each in reasons]
    for name, network in networks.items():
        if name in found:
            continue
        if not has_weights(network):
            remarks.append(f"The extractor {name!r} has no weights, and so no random-weights control.")
            continue
        if (reason := getattr(network, "no_control", None)) is not None:
            remarks.append(f"The extractor {name!r} has no random-weights control. {reason}")
            continue
        copies = [_reset_copy(network, each, name) for each in (seed, seed + 1)]
        if (fixed := fixed_weights(*copies)) or same_weights(*copies):
            remarks.append(
                f"The extractor {name!r} has no random-weights control: reset_parameters() leaves "
                f"{_few(fixed) or 'all weights'} as they are. Let the model build it from saved hyper-parameters."
            )
            continue
        found[name] = copies[0].to(_device_of(network))
        if name in heads:
            found_heads[name] = random_head(heads[name], seed)
    return Control(
        {name: found[name] for name in networks if name in found},
        {name: found_heads[name] for name in heads if name in found_heads},
        tuple(remarks),
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _extractors(model: nn.Module) -> Mapping[str, nn.Module]:
    if not isinstance(model, HasExtractors):
        return {}
    return {name: as_extractor(name, network) for name, network in model.extractors().items()}


def rebuilt(model: nn.Module, seed: int) -> tuple[tuple[nn.Module, nn.Module] | None, str | None]:
    """Return the model built anew from its saved hyper-parameters, or None and why not, as a sentence.

    It is built twice, in eval mode on the CPU, with this seed and with the next one. The two show which weights depend
    on the seed.

    Args:
        model: With `hparams`, as Lightning's modules have them.
        seed: For the weights; the global random state stays unchanged.
    """
    kind = type(model).__name__
    signature = inspect.signature(type(model)).parameters
    parameters = {name for name, each in signature.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    saved: Mapping[str, Any] = getattr(model, "hparams", {})
    if missing := sorted(parameters - saved.keys()):
        return None, (
            f"{kind} has not saved its hyper-parameters {', '.join(missing)}, so that it cannot be built anew: call "
            "self.save_hyperparameters() in its __init__."
        )
    takes_more = any(each.kind is each.VAR_KEYWORD for each in signature.values())
    arguments = {name: value for name, value in saved.items() if takes_more or name in parameters}
    try:
        fresh, other = (_built(type(model), arguments, each).eval() for each in (seed, seed + 1))
        _extractors(fresh)  # it may fail on an untrained model
    except Exception as error:  # anything may go wrong in a user's __init__
        reason = " ".join(str(error).split())
        return None, f"{kind} cannot be built anew from its hyper-parameters ({type(error).__name__}: {reason})."
    if _shapes(fresh) != _shapes(model):
        return None, (
            f"{kind}, built anew from its hyper-parameters, has other weights than this one: they must be those that "
            "__init__ got."
        )
    if has_weights(fresh) and same_weights(fresh, other):
        return None, f"The weights of {kind} do not depend on the seed: its __init__ loads or fixes them."
    return (fresh, other), None


def _built(kind: type[nn.Module], arguments: Mapping[str, Any], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs' generators for good
        return kind(**copy.deepcopy(dict(arguments)))


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items() if isinstance(tensor, Tensor)}


def has_weights(module: nn.Module) -> bool:
    """Return whether a module has parameters."""
    return next(module.parameters(), None) is not None


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Return whether all parameters of two networks are equal bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def fixed_weights(one: nn.Module, other: nn.Module) -> list[str]:
    """Return the names of the parameters that are equal bit for bit in two networks of different seeds.

    Parameters of one value throughout are left out: batch norm starts with such values for every seed.
    """
    pairs = zip(one.named_parameters(), other.parameters(), strict=True)
    return [name for (name, a), b in pairs if torch.equal(a, b) and len(a.unique()) > 1]


def random_head(head: LinearHead, seed: int) -> LinearHead:
    """Return a head of the same shape with normal weights: its row space points anywhere."""
    rng = torch.Generator().manual_seed(seed)
    weight: Tensor = torch.randn(head.weight.shape, generator=rng).to(head.weight)
    return LinearHead(weight, head.task, head.softmax)


def random_copy(module: nn.Module, seed: int, name: str = "module") -> nn.Module:
    """Return a copy with newly drawn weights, by each layer's own `reset_parameters`.

    Children are reset before their parents, so that a parent's own initialisation has the last word. The same seed
    gives the same weights on every device, and the global random state stays unchanged.

    Args:
        module: All on one device; it stays unchanged.
        seed: For the weights.
        name: The module's, in an error.

    Raises:
        SettingError: It cannot be copied, or a layer has parameters of its own and cannot reset them.
    """
    return _reset_copy(module, seed, name).to(_device_of(module))


def _device_of(module: nn.Module) -> torch.device:
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def _reset_copy(module: nn.Module, seed: int, name: str) -> nn.Module:
    """Return the copy of `random_copy` on the CPU."""
    remedy = (
        "Build the network anew instead: call self.save_hyperparameters() in the model's __init__, or give "
        "random_networks to the Bench."
    )
    try:
        fresh = copy.deepcopy(module).cpu()
    except Exception as error:  # anything may go wrong in a user's module
        raise SettingError(
            f"{name!r} must be a network that can be copied, for its random-weights control, got "
            f"{type(error).__name__}: {' '.join(str(error).split())}. {remedy}"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer_name, layer in reversed(list(fresh.named_modules())):
            reset = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()
            elif any(True for _ in layer.parameters(recurse=False)):
                raise SettingError(
                    f"{name!r} must be able to reset itself, for its random-weights control, got the layer "
                    f"{layer_name or type(layer).__name__!r} with parameters but without reset_parameters(). {remedy}"
                )
    return fresh
