"""The bench of all measurements: frozen networks, a data set, features extracted once, and controls.

bench = Bench({"mine": network}, data)
print(bench.measure(Transfer()))
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.controls import Control, control_of, random_head
from gan_lightning.evaluation.features import (
    RawPixels,
    as_extractor,
    check_extractor,
    dtype_of,
    frozen,
    reconstruction_statistics,
)
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.figures import CHANCE, PIXELS, Figure, Weights
from gan_lightning.interfaces import (
    EncodesImages,
    GeneratesImages,
    HasExtractors,
    HasHeads,
    HasPublishedFigures,
    ImageBatches,
    Images,
    LabelledImages,
    Labels,
    Latents,
    LinearHead,
    PublishedFigure,
    Split,
    lacking,
)
from gan_lightning.measurements.extraction import (
    CACHE,
    BatchNorm,
    Extraction,
    Features,
    Source,
    WatchedBatches,
    first_images,
)
from gan_lightning.measurements.measurement import Measurement, Outcome, check_outcome
from gan_lightning.measurements.undisturbed import drawing_from, same_random_numbers
from gan_lightning.system.processes import gather_objects, gather_rows
from gan_lightning.system.seeds import own_or_run_seed

logger = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 256
"""Images that a model encodes or decodes at a time."""


class Bench:
    """Networks and a data set, ready to be measured.

    A measurement leaves weights, batch-norm statistics, modes and the random state unchanged. If several processes run,
    each has a bench, and all make the same measurements in the same order.

    Args:
        networks: Trained modules or functions that map images to features, under their names.
        data: A data set (`LabelledImages`). Most measurements need one. None stands for no data set; so does a data set
            that does not declare its images.
        model: The model that has the networks as its parts; its methods generate and encode.
        heads: The linear maps that the networks' features went through in training, under the networks' names.
        random_networks: The same networks with random weights, under the same names; by default the model is built
            anew, or the networks are copied and reset.
        device: Device of the networks; by default their first parameter's.
        controls: Whether random weights and raw pixels are wanted, too.
        epoch: Epochs of training that the model has had.
        batches: Batches of training that the model has had.
        history: Figures that were measured earlier in the same training.
        seed: Seed of the measurements that have none of their own; by default the run's (`seed_everything`).
        progress: Called as work gets done; an error that it raises ends a measurement.
        lasting: Store of `keep`; benches of one data set may share it.
        cache_bytes: Bytes of features to keep.

    Raises:
        SettingError: A network is neither a module nor a function, or heads or random networks have no network of
            their name.
    """

    def __init__(
        self,
        networks: Mapping[str, Any],
        data: object,
        *,
        model: nn.Module | None = None,
        heads: Mapping[str, LinearHead] | None = None,
        random_networks: Mapping[str, Any] | None = None,
        device: torch.device | None = None,
        controls: bool = True,
        epoch: int | None = None,
        batches: int | None = None,
        history: Sequence[Figure] = (),
        seed: int | None = None,
        progress: Progress | None = None,
        lasting: dict[Hashable, Any] | None = None,
        cache_bytes: int = CACHE,
    ) -> None:
        self.networks = {name: as_extractor(name, network) for name, network in networks.items()}
        self.model, self.heads = model, dict(heads or {})
        self.controls, self.epoch, self.batches_trained, self.history = controls, epoch, batches, history
        self.seed = own_or_run_seed(seed)
        self.outcomes: dict[str, Outcome] = {}
        """Outcomes so far, by the measurements' names."""
        for what, named in (("heads", self.heads), ("random_networks", random_networks or {})):
            if unknown := sorted(named.keys() - self.networks.keys()):
                raise SettingError(
                    f"{what} must be named like networks, got {unknown} beside {sorted(self.networks)}. Name each like "
                    "the network that it belongs to."
                )
        if wrong := [name for name in networks if not isinstance(name, str) or not name or "/" in name]:
            raise SettingError(f"networks must have names, texts without a slash, got {wrong[0]!r}. Rename it.")
        if reserved := sorted({PIXELS, CHANCE} & self.networks.keys()):
            raise SettingError(f"networks must not be called {reserved[0]!r}, which is a control's name. Rename it.")
        self._data = data if isinstance(data, LabelledImages) else None
        self.described_data = "none" if data is None else f"{type(data).__name__} without {', '.join(lacking(data))}"
        """A data set that does not declare its images, in the words of a message."""
        modules = [*([model] if model is not None else []), *self.networks.values()]
        weights = (weight for module in modules for weight in module.parameters())
        self.device = device or next((weight.device for weight in weights), torch.device("cpu"))
        self._controls: dict[int, Control] = {}
        self._given_control = (
            None
            if random_networks is None
            else Control({name: as_extractor(name, network) for name, network in random_networks.items()})
        )
        self._progress = progress
        self._lasting = {} if lasting is None else lasting
        self._extraction = Extraction(self.batches, cache_bytes, self._lasting)
        self._checked: set[str] = set()

    @classmethod
    def of_model(cls, model: nn.Module, data: object, **settings: Any) -> "Bench":
        """Return the bench of a model, with the networks and heads that the model declares (`interfaces`).

        Args:
            model: The model.
            data: The data set.
            settings: As `Bench` takes them.
        """
        networks = model.extractors() if isinstance(model, HasExtractors) else {}
        heads = model.heads() if networks and isinstance(model, HasHeads) else {}
        return cls(networks, data, model=model, heads=heads, **settings)

    @property
    def subject(self) -> str:
        """Name of the measured model in a message."""
        return "a bench without a model" if self.model is None else type(self.model).__name__

    @property
    def data(self) -> LabelledImages:
        """The data set.

        Raises:
            DataError: There is none.
        """
        if self._data is None:
            raise DataError("A measurement needs images, and there is no data set that declares any.")
        return self._data

    def without_images(self) -> str | None:
        """Return why there are no images to measure on, as half a sentence; None if there are some."""
        lacks = self._data is None
        return f"it needs a data set that declares its images, got {self.described_data}" if lacks else None

    @property
    def published(self) -> Mapping[str, PublishedFigure]:
        """Papers' printed figures for this model on this data set, under the names of our figures."""
        if not isinstance(self.model, HasPublishedFigures) or self._data is None:
            return {}
        return self.model.published_figures(self._data.name)

    def has(self, interface: type) -> bool:
        """Return whether the bench or its model provides an interface."""
        if interface is HasExtractors:
            return bool(self.networks)
        if interface is HasHeads:
            return bool(self.heads)
        if interface is LabelledImages:
            return self._data is not None
        return isinstance(self.model, interface)

    # Measuring

    def measure(self, measurement: Measurement) -> Outcome:
        """Check and make a measurement.

        Raises:
            SettingError: There is nothing that it could measure; says why.
        """
        if (reason := measurement.passes_over(self)) is not None:
            raise SettingError(f"{measurement.name} cannot be measured: {reason}.")
        with self.undisturbed():
            measurement.check(self)
        return self.run(measurement)

    def run(self, measurement: Measurement) -> Outcome:
        """Make a measurement that has been checked."""
        with self.undisturbed():
            found = self._extraction.with_room(measurement, lambda: measurement.run(self))
        check_outcome(measurement.name, found)
        self._extraction.check_untouched(measurement.name)
        figures = [replace(figure, epoch=self.epoch, batches=self.batches_trained) for figure in found.figures]
        self.outcomes[measurement.name] = outcome = replace(found, figures=figures)
        return outcome

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Freeze everything, and put the random state back. Random numbers are the same each time meanwhile."""
        modules = {type(self.model).__name__: self.model} if self.model is not None else {}
        # Lightning's validation and test are in inference mode. No probe could be fitted in it.
        still = frozen(modules | self.networks)
        with torch.inference_mode(False), same_random_numbers(self.device), torch.no_grad(), still:
            yield

    def seed_for(self, own: int | None) -> int:
        """Return the seed of a measurement: its own, or else the run's."""
        return self.seed if own is None else own

    def report(self, description: str, done: int, total: int) -> None:
        """Say how much of something is done."""
        if self._progress is not None:
            self._progress(description, done, total)

    def report_to(self, progress: Progress | None) -> None:
        """Choose the listener to the progress."""
        self._progress = progress

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the result of `make`, made once for all benches of a training. It must depend on the data alone."""
        if key not in self._lasting:
            self._lasting[key] = make()
        return self._lasting[key]

    # The data

    def batches(self, split: Split, description: str | None = None) -> ImageBatches:
        """Return a split in stored order, this process's share; reports its progress if it has a description."""
        batches = self.data.evaluation_batches(split, self.device)
        return self.watched(batches, description or f"{split} images")

    def watched(self, batches: ImageBatches, description: str) -> ImageBatches:
        """Return batches that report the number of used ones."""
        return WatchedBatches(batches, description, self.report)

    def images(self, split: Split, count: int | None = None, *, labelled: bool = False) -> tuple[Images, Labels]:
        """Return the first images of a split and their labels, as many as asked for or as there are.

        Args:
            split: The split.
            count: Number of images; by default all.
            labelled: Whether images without any label are passed over.

        Raises:
            DataError: A process has no image.
        """
        return first_images(self.batches(split), split, count, labelled=labelled)

    def labels(self, split: Split) -> Labels:
        """Return the labels of a split; -1 for an unknown one."""
        if split not in self._extraction.labels:
            mine = torch.cat([labels for _, labels in self.data.evaluation_batches(split, torch.device("cpu"))])
            self._extraction.labels[split] = gather_rows(mine.to(self.device), gather_objects(len(mine)))
        return self._extraction.labels[split]

    # Features

    def features(
        self,
        split: Split,
        names: Sequence[str] | None = None,
        *,
        weights: Weights = "trained",
        batch_norm: BatchNorm = "running",
        seed: int | None = None,
        pool: int | None = None,
    ) -> Features:
        """Return the features of a whole split, extracted once for all that ask for them.

        Args:
            split: The split.
            names: Of the networks; by default all.
            weights: "trained", "random", or "none" for the pixels themselves.
            batch_norm: Statistics of batch norm: "running" are the networks' own (mean 0 and variance 1 for random
                weights), "real" are the training images'.
            seed: Of random weights; by default the run's.
            pool: Edge to which maps are averaged.

        Raises:
            SettingError: A network cannot be used as an extractor; says why.
        """
        source = self._source(weights, batch_norm, seed)
        networks = self.sources(weights, seed)
        chosen = {name: networks[name] for name in (networks if names is None else names)}
        self.check_networks(chosen, weights)
        return Features(self._extraction.features(split, chosen, source, pool), self.labels(split))

    def sources(self, weights: Weights, seed: int | None = None) -> Mapping[str, nn.Module]:
        """Return the networks with one kind of weights, under their names."""
        if weights == "none":
            return {PIXELS: RawPixels()}
        return self.networks if weights == "trained" else self.control(seed).networks

    def control(self, seed: int | None = None) -> Control:
        """Return the networks with random weights drawn from `seed`, by default the run's.

        Raises:
            SettingError: There can be none; says why.
        """
        seed = self.seed_for(seed)
        if self._given_control is not None:
            return replace(
                self._given_control, heads={name: random_head(head, seed) for name, head in self.heads.items()}
            )
        if seed not in self._controls:
            self._controls[seed] = control_of(self.model, self.networks, self.heads, seed)
            if ("remarks", seed) not in self._lasting:  # said once, whoever asks
                self._lasting["remarks", seed] = True
                for remark in self._controls[seed].remarks:
                    logger.warning(remark)
        return self._controls[seed]

    def check_networks(self, networks: Mapping[str, nn.Module] | None = None, weights: Weights = "trained") -> None:
        """Check once that networks take the data's images, and that an image's features do not depend on its batch.

        Raises:
            SettingError: A network is unfit; says which and why.
        """
        for name, network in (self.networks if networks is None else networks).items():
            if weights == "trained" and name not in self._checked:
                check_extractor(name, network, self.data.channels, self.data.image_size, self.device)
                self._checked.add(name)

    def statistics(
        self, networks: Mapping[str, nn.Module], weights: Weights, batch_norm: BatchNorm, seed: int | None = None
    ) -> AbstractContextManager[None]:
        """Let networks of `sources` use the batch-norm statistics asked for. Their own come back afterwards."""
        return self._extraction.statistics(networks, self._source(weights, batch_norm, seed))

    def _source(self, weights: Weights, batch_norm: BatchNorm, seed: int | None) -> Source:
        return Source(weights, batch_norm, self.seed_for(seed) if weights == "random" else 0)

    # The model

    def generate(self, count: int, seed: int | None = None) -> Float[Tensor, "generators count channels height width"]:
        """Return `count` images in [-1, 1] from each generator, in float32."""
        assert isinstance(self.model, GeneratesImages)
        with drawing_from(self.model):
            return self.model.generate(count, self._rng(seed)).float()

    def sample_latents(self, count: int, seed: int | None = None) -> Latents:
        """Return `count` latents from their prior."""
        assert isinstance(self.model, EncodesImages)
        with drawing_from(self.model):
            return self.model.sample_latents(count, self._rng(seed))

    def _rng(self, seed: int | None) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(self.seed_for(seed))

    def encode(self, images: Images) -> Latents:
        """Return E(x), in float32; reports its progress if there are many."""
        assert isinstance(self.model, EncodesImages)
        return self._in_parts(self.model.encode, images, "images encoded")

    def decode(self, latents: Latents) -> Images:
        """Return G(z), in float32; reports its progress if there are many."""
        assert isinstance(self.model, EncodesImages)
        return self._in_parts(self.model.decode, latents, "images decoded")

    def _in_parts(self, network: Callable[[Tensor], Tensor], rows: Tensor, description: str) -> Tensor:
        assert self.model is not None
        dtype, parts, found = dtype_of(self.model), rows.split(AT_ONCE), []
        for done, part in enumerate(parts, start=1):
            found.append(network(part.to(dtype)).float())
            if len(parts) > 1:
                self.report(description, done, len(parts))
        return torch.cat(found)

    @contextmanager
    def reconstructing(self, batch_norm: BatchNorm) -> Iterator[None]:
        """Let E and G use their own batch-norm statistics, or statistics of G(E(x)) on the training images."""
        assert self.model is not None
        batches = self.batches("train", "batch-norm statistics of G(E(x))") if batch_norm == "real" else None
        with reconstruction_statistics(self.model, batches):
            yield
