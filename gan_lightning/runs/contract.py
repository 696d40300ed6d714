"""A trial of the methods that a model declares, before the training; a supply of methods for Lightning."""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NoReturn, TypeGuard, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from gan_lightning.errors import SettingError, UserError
from gan_lightning.evaluation.features import as_extractor, check_extractor, described, dtype_of, features_of
from gan_lightning.interfaces import HasExtractors, HeadTask, LabelledImages, LinearHead, PublishedFigure
from gan_lightning.measurements.bench import Bench, drawing_from
from gan_lightning.system.processes import process_rank

logger = logging.getLogger(__name__)

COUNT = 2
"""Number of images for the trial of each method."""

FAR_OUTSIDE = 1.5
"""Images are in [-1, 1]; values beyond this are taken for another range."""

ENCODING = ("encode", "decode", "sample_latents")

RETURNS: Mapping[str, str] = {
    "extractors": "a mapping from names to modules or functions of images",
    "heads": "a mapping from names of extractors to LinearHead",
    "generate": "images (generators, count, channels, height, width) in [-1, 1]",
    "encode": "latents (batch, latent)",
    "decode": "images (batch, channels, height, width) in [-1, 1]",
    "sample_latents": "latents (count, latent)",
    "real_logits": "a logit per image (batch,), or None",
    "published_figures": "a mapping from names of figures to PublishedFigure",
    "hot_parts": "a sequence of names of attributes",
}
"""Return value of each method of `interfaces`, in words."""

TAKES: Mapping[str, str] = {
    "generate": "count, rng",
    "encode": "images",
    "decode": "latents",
    "sample_latents": "count, rng",
    "real_logits": "images",
    "published_figures": "data",
}
"""Arguments of each method; the others take nothing."""


class ModelContract(Callback):
    """Calls each declared method of a model once, on two images, before it is trained, tested or predicts.

    An error names the method, its output and the expected output. Without this check a mistake would show after the
    training. `Measure` does the same; this callback is for runs without it.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Try the model.

        Raises:
            SettingError: A method does not fit its description in `interfaces`.
        """
        if stage in ("fit", "test", "predict"):
            try_model(trainer, pl_module)


def try_model(trainer: Trainer, pl_module: LightningModule) -> None:
    """Check a trainer's model, on the trainer's data and device, before the trainer moves it there.

    Raises:
        SettingError: As `check_model`.
    """
    # Lightning tells a model its device before it moves it there. Latents are drawn on the told device.
    pl_module.to(trainer.strategy.root_device)
    check_model(pl_module, getattr(trainer, "datamodule", None))


def check_model(model: nn.Module, data: object, device: torch.device | None = None) -> None:
    """Call each declared method of a model (`interfaces`) once, on two images.

    Weights, buffers, modes and the global random state stay unchanged.

    Args:
        model: Any module.
        data: A data set. If it is not `LabelledImages`, nothing is known of it, and only methods without images are
            tried.
        device: Device of the model; by default its first parameter's.

    Raises:
        SettingError: A method cannot be called, or gives another output; names the method, its output, and the expected
            output.
    """
    trial = _Trial(model, data if isinstance(data, LabelledImages) else None, device)
    try:
        with trial.bench.undisturbed():
            trial.check_heads(trial.check_extractors())
            trial.check_generate()
            trial.check_encoding()
            trial.check_real_logits()
            trial.check_published_figures()
            trial.check_hot_parts()
    except RuntimeError as error:  # from the proof that nothing has changed
        raise SettingError(f"the methods of {trial.kind} must leave it as it is in eval mode: {error}") from error


class _Trial:
    """A model on two random images.

    Args:
        model: As `check_model` takes it.
        data: The data set, if there is one.
        device: As `check_model` takes it.
    """

    def __init__(self, model: nn.Module, data: LabelledImages | None, device: torch.device | None) -> None:
        self.model, self.data, self.kind = model, data, type(model).__name__
        self.bench = Bench({}, None, model=model, device=device)
        self.device = self.bench.device

    def check_extractors(self) -> Mapping[str, int | None]:
        """Return the number of features of each extractor; None for an unknown one."""
        if self.method("extractors") is None:
            return {}
        found = self.call("extractors")
        if not isinstance(found, Mapping):
            self.refuse("extractors", found)
        widths: dict[str, int | None] = {}
        for name, network in found.items():
            if not isinstance(name, str) or not name or name == "labels":
                remedy = "Name each by a text; predictions call the labels 'labels'."
                self.refuse("extractors", found, f"where {name!r} is no name for one. {remedy}")
            with self.named("extractors"):
                extractor, widths[name] = as_extractor(name, network), None
                if self.data is not None:
                    channels, size = self.data.channels, self.data.image_size
                    widths[name] = check_extractor(name, extractor, channels, size, self.device)
        return widths

    def check_heads(self, widths: Mapping[str, int | None]) -> None:
        """Check the heads of extractors with so many features."""
        if self.method("heads") is None:
            return
        found = self.call("heads")
        if not isinstance(found, Mapping):
            self.refuse("heads", found)
        for name, head in found.items():
            if wrong := _wrong_head(name, head, widths):
                self.refuse("heads", found, wrong)

    def check_generate(self) -> None:
        """Check the generated images."""
        if self.method("generate") is None:
            return
        images = self.call("generate", COUNT, self.rng())
        if isinstance(images, Tensor) and images.ndim == 4:
            self.refuse("generate", images, "which lacks the dimension of the generators. Return images.unsqueeze(0).")
        if not self.are_images(images, ndim=5) or images.shape[1] != COUNT:
            self.refuse("generate", images, f"for {COUNT} images{self.of_channels}.")
        self.check_range("generate", images)

    def check_encoding(self) -> None:
        """Check E, G and the latents' prior. A model may have an encoder alone: measurements of both pass it over."""
        missing = [f"{name}()" for name in ENCODING if getattr(self.model, name, None) is None]
        if missing:
            if "encode()" not in missing and not process_rank():
                without = " and ".join(missing)
                logger.warning("%s has encode() without %s: what needs E and G passes it over.", self.kind, without)
            return
        latents = self.call("sample_latents", COUNT, self.rng())
        if not _is_float(latents) or latents.ndim != 2 or len(latents) != COUNT:
            self.refuse("sample_latents", latents, f"for {COUNT} latents.")
        if self.data is not None:
            encoded = self.call("encode", self.images())
            if not _is_float(encoded) or encoded.ndim != 2 or len(encoded) != COUNT:
                several = isinstance(encoded, tuple | list)
                remedy = " Return one tensor, such as the mean." if several else ""
                self.refuse("encode", encoded, f"for {COUNT} images.{remedy}")
            if encoded.shape[1] != latents.shape[1]:
                wide = f"and sample_latents() gives latents of {latents.shape[1]}. Both must be what decode() takes."
                self.refuse("encode", encoded, wide)
            latents = encoded
        images = self.call("decode", latents.to(dtype_of(self.model)))
        if not self.are_images(images, ndim=4) or len(images) != COUNT:
            self.refuse("decode", images, f"for {COUNT} latents{self.of_channels}.")
        self.check_range("decode", images)

    def check_real_logits(self) -> None:
        """Check D's logits of images."""
        if self.method("real_logits") is None or self.data is None:
            return
        logits = self.call("real_logits", self.images())
        if logits is not None and (not _is_float(logits) or logits.shape != (COUNT,)):
            column = isinstance(logits, Tensor) and logits.shape == (COUNT, 1)
            self.refuse("real_logits", logits, f"for {COUNT} images.{' Return logits.squeeze(1).' if column else ''}")

    def check_published_figures(self) -> None:
        """Check the published figures for this data set."""
        if self.method("published_figures") is None or self.data is None:
            return
        found = self.call("published_figures", self.data.name)
        right = isinstance(found, Mapping) and all(isinstance(each, PublishedFigure) for each in found.values())
        if not right or not all(isinstance(name, str) for name in found):
            self.refuse("published_figures", found)

    def check_hot_parts(self) -> None:
        """Check that the declared hot parts of training exist."""
        if self.method("hot_parts") is None:
            return
        found = self.call("hot_parts")
        if not isinstance(found, Sequence) or isinstance(found, str):
            self.refuse("hot_parts", found)
        for path in found:
            parent, _, name = str(path).rpartition(".")
            try:
                part = getattr(self.model.get_submodule(parent), name)
            except AttributeError:
                part = None
            if not isinstance(path, str) or not callable(part):
                self.refuse("hot_parts", found, f"of which {path!r} is no network and no method of the model.")

    def method(self, name: str) -> Callable[..., Any] | None:
        """Return a method, or None if the model has none of the name.

        Raises:
            SettingError: There is something else of this name, or it takes other arguments.
        """
        with self.named(name):
            found = getattr(self.model, name, None)
        if found is None:
            return None
        if not callable(found) or isinstance(found, nn.Module):
            raise SettingError(
                f"{self.kind}.{name} must be a method that returns {RETURNS[name]}, got {described(found)}. Rename the "
                "attribute, or make it a method."
            )
        takes = TAKES.get(name, "")
        try:
            signature = inspect.signature(found)
        except (TypeError, ValueError):  # for some functions written in C
            return found
        try:
            signature.bind(*filter(None, takes.split(", ")))
        except TypeError:
            remedy = " Draw with rng, a torch.Generator: torch.randn(..., generator=rng)." if "rng" in takes else ""
            raise SettingError(f"{self.kind}.{name} must take ({takes}), got {name}{signature}.{remedy}") from None
        return found

    def call(self, name: str, *arguments: Any) -> Any:
        """Return a method's output."""
        method = self.method(name)
        assert method is not None
        drawing = drawing_from(self.model) if "rng" in TAKES.get(name, "") else nullcontext()
        with self.named(name), drawing:
            return method(*arguments)

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Turn any error into one line that names a method."""
        try:
            yield
        except UserError as error:
            raise SettingError(f"{self.kind}.{name}(): {error}") from error
        except Exception as error:  # anything may go wrong in a user's model
            reason = " ".join(str(error).split()).removesuffix(".")
            raise SettingError(
                f"{self.kind}.{name}() must return {RETURNS[name]}, got {type(error).__name__}: {reason}."
                f"{_late(self.model)}"
            ) from error

    def refuse(self, name: str, output: object, more: str = "") -> NoReturn:
        """Refuse a method's output."""
        more = f" {more}" if more else "."
        raise SettingError(f"{self.kind}.{name}() must return {RETURNS[name]}, got {described(output)}{more}")

    def images(self) -> Tensor:
        """Return two random images of the data's kind, in the type of the model's weights."""
        assert self.data is not None
        shape = (COUNT, self.data.channels, self.data.image_size, self.data.image_size)
        images = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1
        return images.to(self.device, dtype_of(self.model))

    def rng(self) -> torch.Generator:
        """Return a generator on the model's device."""
        return torch.Generator(self.device).manual_seed(0)

    @property
    def of_channels(self) -> str:
        """The expected images, in the words of a message."""
        return "" if self.data is None else f" of {self.data.channels} channel(s)"

    def are_images(self, output: object, ndim: int) -> bool:
        """Return whether an output has the dimensions of images, and the channels of the data."""
        if not _is_float(output) or output.ndim != ndim or not output.numel():
            return False
        return self.data is None or output.shape[-3] == self.data.channels

    def check_range(self, name: str, images: Tensor) -> None:
        """Refuse images that are not finite, and warn of images far outside of [-1, 1]."""
        least, most = images.min().item(), images.max().item()
        if not bool(torch.isfinite(images).all()):
            self.refuse(name, images, f"with values from {least} to {most}.")
        if max(-least, most) > FAR_OUTSIDE and not process_rank():
            logger.warning(
                "%s.%s() gives values from %.3g to %.3g, and measurements take images to be in [-1, 1].",
                self.kind,
                name,
                least,
                most,
            )


def _wrong_head(name: object, head: object, widths: Mapping[str, int | None]) -> str | None:
    """Return the fault of a head, for extractors of these widths, as the rest of a sentence."""
    if name not in widths:
        known = ", ".join(map(repr, widths)) or "none"
        return f"beside the extractors {known}. Name each head like its extractor."
    if not isinstance(head, LinearHead):
        return f"where {name!r} is {described(head)}. Use LinearHead(layer.weight, task=...) of a linear layer."
    if head.task not in get_args(HeadTask):
        return f"where the task of {name!r} is {head.task!r}. Use one of {', '.join(get_args(HeadTask))}."
    if not isinstance(head.weight, Tensor) or head.weight.ndim != 2:
        return f"where the weight of {name!r} is {described(head.weight)}. It must be (outputs, features)."
    width = widths[str(name)]
    if width not in (None, head.weight.shape[1]):
        return (
            f"where the weight of {name!r} is for {head.weight.shape[1]} features, and its extractor gives {width}. "
            "Let the extractor end right before that layer."
        )
    return None


def complete(model: LightningModule) -> None:
    """Supply the methods that Lightning wants for `test` and `predict`, if the model lacks them.

    `test_step` does nothing: measurements do the rest. `predict_step` returns each extractor's features, and the labels
    as `labels`. Copies of the model have both, too.

    Args:
        model: It gets them as attributes.
    """
    if not is_overridden("test_step", model):
        vars(model)["test_step"] = _test_step
    if not is_overridden("predict_step", model) and (_has_extractors(model) or not is_overridden("forward", model)):
        vars(model)["predict_step"] = partial(_predict_step, model)


def check_predicts(model: LightningModule) -> None:
    """Check that `predict` has something to write.

    Raises:
        SettingError: The model has neither extractors nor a way of its own to predict.
    """
    step: object = model.predict_step
    if isinstance(step, partial) and step.func is _predict_step and not _has_extractors(model):
        raise SettingError(
            f"predict needs a model with extractors(), whose features it writes, got {type(model).__name__} without. "
            "Give it extractors(), or a predict_step of its own."
        )


def _has_extractors(model: nn.Module) -> bool:
    return isinstance(model, HasExtractors)


def _test_step(batch: object, batch_idx: int) -> None:
    """Do nothing."""


def _predict_step(model: nn.Module, batch: object, batch_idx: int) -> dict[str, Any]:
    """Return the labels of a batch, if it has some, and each extractor's features."""
    assert isinstance(model, HasExtractors)
    images, *labels = [batch] if isinstance(batch, Tensor) else batch if isinstance(batch, Sequence) else [None]
    if not isinstance(images, Tensor):
        raise SettingError(
            f"predict needs batches of images, or of images and labels, got {described(batch)}. Give the model a "
            "predict_step of its own."
        )
    features: dict[str, Any] = {
        name: features_of(name, as_extractor(name, network), images) for name, network in model.extractors().items()
    }
    return {**features, "labels": labels[0]} if labels else features


def _is_float(output: object) -> TypeGuard[Tensor]:
    return isinstance(output, Tensor) and output.is_floating_point()


def _late(model: nn.Module) -> str:
    """Return a remedy for a model that may have been tried before its `setup`."""
    if not isinstance(model, LightningModule):
        return ""
    own_setup = not type(model).setup.__module__.startswith(("gan_lightning.", "lightning."))
    if own_setup or is_overridden("configure_model", model):
        return " Make the networks in __init__: models are tried before `setup` and `configure_model`."
    return ""
