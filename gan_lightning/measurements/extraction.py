"""Features of whole splits, extracted once for all measurements that want them."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation.features import dtype_of, estimate_batch_norm_statistics, extract_features
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.tensors import is_known
from gan_lightning.figures import Weights
from gan_lightning.interfaces import ImageBatches, Images, Labels, Split
from gan_lightning.measurements.measurement import Measurement
from gan_lightning.system.private_names import writes_into
from gan_lightning.system.processes import gather_objects, gather_rows, process_count

logger = logging.getLogger(__name__)

T = TypeVar("T")

BatchNorm = Literal["running", "real"]
"""Statistics of batch norm: the network's own, or the training images'."""

CACHE = 2 * 2**30
"""Bytes of kept features."""

HOST = torch.device("cpu")


@dataclass(frozen=True)
class Features:
    """Features of a split, a row an image in stored order, on the device that they were computed on.

    Attributes:
        matrices: Under the networks' names, in float32.
        labels: Of the images; -1 for an unknown one.
    """

    matrices: Mapping[str, Float[Tensor, "images _feature"]]
    labels: Labels

    def known(self) -> "Features":
        """Return the features and labels of images with a known label."""
        rows = is_known(self.labels).nonzero()[:, 0]
        if len(rows) == len(self.labels):
            return self
        return Features({name: matrix[rows] for name, matrix in self.matrices.items()}, self.labels[rows])


@dataclass(frozen=True)
class Source:
    """The networks that features come from."""

    weights: Weights
    batch_norm: BatchNorm
    seed: int

    def __str__(self) -> str:
        words = {"trained": "trained", "random": "random weights", "none": "pixels"}[self.weights]
        return words + (", statistics of real images" if self.batch_norm == "real" else "")


@dataclass(frozen=True)
class WatchedBatches:
    """Batches that report the number of used ones."""

    batches: ImageBatches
    description: str
    report: Progress

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        for done, batch in enumerate(self.batches, start=1):
            yield batch
            self.report(self.description, done, len(self))


def first_images(batches: ImageBatches, split: Split, count: int | None, *, labelled: bool) -> tuple[Images, Labels]:
    """Return the first images of a split and their labels, on every process.

    Args:
        batches: This process's share of the split.
        split: The split, for an error.
        count: Number of images; None for all.
        labelled: Whether images without any label are passed over.

    Raises:
        DataError: A process has no image.
    """
    images, labels, found = [], [], 0
    for batch, batch_labels in batches:
        if labelled:
            known = is_known(batch_labels)
            batch, batch_labels = batch[known], batch_labels[known]
        images.append(batch)
        labels.append(batch_labels.to(batch.device))
        found += len(batch)
        if count is not None and found >= count:
            break
    if not all(gather_objects(len(images))):
        raise DataError(
            f"Every process must have a {split} image, got a process without; use fewer processes or more images."
        )
    mine = torch.cat(images)[:count], torch.cat(labels)[:count]
    counts = gather_objects(len(mine[0]))
    return gather_rows(mine[0], counts)[:count], gather_rows(mine[1], counts)[:count]


def in_parts(network: nn.Module, rows: Tensor, at_once: int = 250) -> Tensor:
    """Return a network's outputs for many rows, such as images, in the type of its weights.

    Args:
        network: In eval mode.
        rows: Its inputs.
        at_once: Rows that it sees at a time.
    """
    dtype = dtype_of(network)
    return torch.cat([network(part.to(dtype)) for part in rows.split(at_once)])


Key = tuple[Source, str, Split, int | None]
"""Key of a matrix of features: the source, the network's name, the split, and the edge of pooled maps."""


class Extraction:
    """Extracts features, and keeps as many as fit.

    Args:
        batches: Gives this process's share of a split in stored order, and reports the reading under a description.
        most_bytes: Bytes of kept features; the longest unused ones give way.
        lasting: Notes which measurements need the host's memory; extractions of one training may share it.
    """

    def __init__(
        self,
        batches: Callable[[Split, str], ImageBatches],
        most_bytes: int = CACHE,
        lasting: dict[Hashable, Any] | None = None,
    ) -> None:
        self.batches, self.most_bytes = batches, most_bytes
        self._lasting = {} if lasting is None else lasting
        self._device: torch.device | None = None  # where features are kept; by default where they are computed
        self.labels: dict[Split, Labels] = {}
        """Labels of the splits read so far, of all processes."""
        self._kept: OrderedDict[Key, Tensor] = OrderedDict()
        self._statistics: dict[tuple[Source, str], Mapping[str, Tensor]] = {}
        self._versions: dict[int, int] = {}

    def features(
        self, split: Split, networks: Mapping[str, nn.Module], source: Source, pool: int | None
    ) -> dict[str, Float[Tensor, "images _feature"]]:
        """Return the features of a whole split under the networks' names.

        Args:
            split: The split.
            networks: Of the source.
            source: The features are kept under this source and their names.
            pool: Edge to which maps are averaged.
        """
        keys: dict[str, Key] = {name: (source, name, split, pool) for name in networks}
        found = {name: self._kept[key] for name, key in keys.items() if key in self._kept}
        if missing := {name: network for name, network in networks.items() if name not in found}:
            with self.statistics(missing, source):
                batches = self.batches(split, f"features of {split} images, {source}")
                extracted, self.labels[split] = extract_features(missing, batches, pool=pool, device=self._device)
            found |= extracted
            for name, matrix in extracted.items():
                self._keep(keys[name], matrix)
        for key in keys.values():
            if key in self._kept:
                self._kept.move_to_end(key)
        return {name: found[name] for name in networks}

    def with_room(self, measurement: Measurement, run: Callable[[], T]) -> T:
        """Return a measurement's result; if features and probes do not fit into a GPU's memory, use the host's.

        The measurement is then made once more. The probes run on the processor, and so they do whenever the measurement
        is made again in the same training.

        Args:
            measurement: Tried on the GPU alone unless it is `of_features_alone`.
            run: Makes the measurement.
        """
        if (HOST, measurement.name) not in self._lasting:
            try:
                return run()
            except torch.OutOfMemoryError as error:
                # Other processes would not know that they have to do everything once more.
                if not measurement.of_features_alone or process_count() > 1:
                    raise
                reason = str(error).split(". ")[0]
            self._lasting[HOST, measurement.name] = True
            logger.warning(
                "%s does not fit into the GPU's memory (%s). From here on its features lie in the host's memory, and "
                "its probes run on the processor, which is slower.",
                measurement.name,
                reason,
            )
        self._forget()
        self._device = HOST
        try:
            return run()
        finally:
            self._forget()
            self._device = None

    def _forget(self) -> None:
        for each in (self._kept, self.labels, self._versions):
            each.clear()

    @contextmanager
    def statistics(self, networks: Mapping[str, nn.Module], source: Source) -> Iterator[None]:
        """Let networks use the batch-norm statistics of their source. Their own come back afterwards."""
        buffers = {buffer: buffer.clone() for network in networks.values() for buffer in network.buffers()}
        try:
            for name, network in networks.items() if source.batch_norm == "real" else ():
                self._use_real_statistics(source, name, network)
            yield
        finally:
            for buffer, before in buffers.items():
                buffer.copy_(before)

    def _use_real_statistics(self, source: Source, name: str, network: nn.Module) -> None:
        if (source, name) not in self._statistics:
            batches = self.batches("train", f"batch-norm statistics of {name}, {source}")
            estimate_batch_norm_statistics(network, batches)
            self._statistics[source, name] = {each: buffer.clone() for each, buffer in network.named_buffers()}
        for each, buffer in network.named_buffers():
            buffer.copy_(self._statistics[source, name][each])

    def check_untouched(self, by: str) -> None:
        """Check that nobody has written into features or labels: others share them.

        Args:
            by: Name of the measurement that had them.

        Raises:
            SettingError: Somebody has; all kept features are forgotten.
        """
        tensors = [*self._kept.values(), *self.labels.values()]
        if any(self._versions.get(id(tensor), writes_into(tensor)) != writes_into(tensor) for tensor in tensors):
            self._forget()
            raise SettingError(f"{by} must leave features and labels as they are, but wrote into them. Work on a copy.")
        self._versions = {id(tensor): writes_into(tensor) for tensor in tensors}

    def _keep(self, key: Key, matrix: Tensor) -> None:
        self._kept[key] = matrix
        self._versions[id(matrix)] = writes_into(matrix)
        while sum(kept.numel() * kept.element_size() for kept in self._kept.values()) > self.most_bytes:
            self._kept.popitem(last=False)
