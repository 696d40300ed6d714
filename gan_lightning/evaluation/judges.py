"""The networks that judge generated images by their features; each figure bears its network's name.

Inception's features are made for photographs. For digits, and for other images than photographs, a small classifier
trained on the data itself is the better judge. Its figures compare only with each other.
"""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from gan_lightning.errors import DataError, SettingError, above, at_least, settings_of
from gan_lightning.evaluation.chosen import ChosenImages, choose
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.tensors import from_bytes, to_bytes
from gan_lightning.interfaces import Images, LabelledImages
from gan_lightning.nets.adapted_network import NetworkSource, Preprocessing, pooled
from gan_lightning.nets.user_network import layer_outputs, tried_on_images
from gan_lightning.system.files import user_cache, whole_file
from gan_lightning.system.processes import gather_objects, gather_rows, on_first_process

logger = logging.getLogger(__name__)

INCEPTION_AT_ONCE = 50
"""Images given to Inception at a time: each takes some 11 MB in its widest layer."""

FORMAT = 1
"""Version of the small classifier's architecture, training and file; raised if any of them changes."""


def untold(description: str, done: int, total: int) -> None:
    """Tell nobody of the progress."""


@dataclass(frozen=True)
class Judge:
    """A network that is ready to judge a data set's images.

    Attributes:
        name: For figures and metrics.
        features: From images in [-1, 1] of the data's size to features (batch, feature), in float32; frozen.
        feature_count: Their number.
        head: From features to the logits of the data's classes; None if the network knows no classes.
        about: Facts on it for a file of results.
    """

    name: str
    features: nn.Module
    feature_count: int
    head: nn.Module | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class FeatureNetwork(ABC):
    """A way to get a network. A subclass is a frozen dataclass of its settings."""

    @abstractmethod
    def name(self, data: LabelledImages) -> str:
        """Return the network's name in figures."""

    @abstractmethod
    def judge(self, data: LabelledImages, device: torch.device, report: Progress = untold) -> Judge:
        """Return the network, ready to judge the data; to be called on every process.

        Args:
            data: The data set.
            device: Device of the network.
            report: Told the progress of a training, if there is one.

        Raises:
            SettingError: If there is no such network, or it cannot judge these data.
        """


@dataclass(frozen=True)
class ImportedNetwork(NetworkSource, FeatureNetwork):
    """A network of the user's own; its outputs for the images are the features.

    Args:
        network: Import path of a class or function that makes it, such as `torchvision.models.resnet18`, or a `.pt2`
            file of `torch.export`.
        weights: File of its state dict; by default it keeps its initial weights.
        layers: Names of the submodules whose outputs are taken; if empty, the network's own output is.
        arguments: The maker's arguments, by name.
        pool: Edge to which maps are averaged; by default they are taken whole. FID needs more images than features.
        input_size: Height and width of the images that it sees, pixels; by default the data's.
        mean: Mean of the images that it was trained on, in [0, 1], for each channel or one for all.
        std: Their standard deviation.
        interpolation: How images are resized: `bilinear` or `bicubic`, with antialiasing.
    """

    def name(self, data: LabelledImages) -> str:
        """Return the network's short name, and the layers."""
        return "+".join([self.short_name, *self.layers])

    def judge(self, data: LabelledImages, device: torch.device, report: Progress = untold) -> Judge:
        """Return the network. Without a file its weights are the same in each run."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            network = self.built()
        self.load(network)
        features = _Layers(network, self.layers, self.preprocessing(network), self.pool)
        shape = tried_on_images(features, self.network, self, data.channels, data.image_size).shape
        if shape[0] != 2:
            raise SettingError(
                f"network must give as many rows as it gets images, got {shape[0]} of 2 from '{self.network}'. Name "
                "layers that do.",
                self,
                self.network,
            )
        return Judge(self.name(data), features.to(device).eval(), shape[1])


class _Layers(nn.Module):
    """The outputs of a network's layers, or its own, as one row per image."""

    def __init__(
        self, network: nn.Module, layers: Sequence[str], preprocessing: Preprocessing, pool: int | None
    ) -> None:
        super().__init__()
        self.network, self.layers, self.preprocessing, self.pool = network, layers, preprocessing, pool

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        outputs = layer_outputs(self.network, self.layers, self.preprocessing(images))
        return torch.cat([pooled(output, self.pool).flatten(1) for output in outputs], dim=1)


@dataclass(frozen=True)
class Inception(FeatureNetwork):
    """The Inception of published FIDs: its 2,048 pooled features. Grey images become colour images.

    Needs `pip install 'gan-lightning[inception]'` and the file of its weights, which is never fetched.

    Args:
        weights: Path of this file; by default torch-fidelity's path in torch's own cache.

    Source:
        Heusel et al. 2017; the port of its weights to PyTorch is torch-fidelity's, the network torchmetrics'.
    """

    weights: str | None = None

    def name(self, data: LabelledImages) -> str:
        """Return `inception`."""
        return "inception"

    def judge(self, data: LabelledImages, device: torch.device, report: Progress = untold) -> Judge:
        """Return the network, if its weights are on disk."""
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
            from torchmetrics.image.fid import NoTrainInceptionV3
        except ImportError as error:
            raise SettingError(
                f"Inception must have torch-fidelity installed, which has its layers ({error}). "
                "pip install 'gan-lightning[inception]', or use another network."
            ) from error
        file = Path(self.weights or Path(torch.hub.get_dir(), "checkpoints", URL_INCEPTION_V3.rpartition("/")[2]))
        if not file.is_file():
            raise SettingError(
                f"weights must be a file with Inception's weights, got '{file}', which does not exist. Fetch it from "
                f"{URL_INCEPTION_V3}, or use another network.",
                self,
            )
        if data.channels not in (1, 3):
            raise SettingError(
                f"Inception must have images of 1 or 3 channels, got {data.channels}. Use another network."
            )
        try:
            torch.load(file, weights_only=True, map_location="cpu")  # torch-fidelity would run code in the file
            with torch.random.fork_rng(devices=[]):  # it draws random weights before it loads the file's
                network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(file))
        except Exception as error:  # anything may stand in a user's file
            raise SettingError(
                f"weights must be a file with Inception's weights, got '{file}', which is not ({error}).", self
            ) from error
        return Judge(self.name(data), _OfBytes(network).to(device), 2048, about={"weights": str(file)})


class _OfBytes(nn.Module):
    """A network that wants colour images as bytes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images in [-1, 1]. A few at once become 299x299."""
        parts = to_bytes(images.expand(-1, 3, -1, -1)).split(INCEPTION_AT_ONCE)
        return torch.cat([self.network(part) for part in parts])


@dataclass(frozen=True)
class SmallClassifier(FeatureNetwork):
    """A small classifier of the data's own classes, trained on its training images, and kept for later runs.

    Three convolutions of stride 2 and a hidden layer, whose outputs are the features. The file is found by a hash of
    the images, the labels, the number of classes and these settings.

    Args:
        width: Maps of the first convolution; the others have twice and four times as many.
        feature_dim: Number of features.
        steps: Steps of Adam of its training.
        batch_size: Images per step.
        learning_rate: Highest learning rate of the one-cycle schedule.
        images: Most training images, chosen at random.
        seed: For weights and the choice and order of the images.
        cache_dir: Folder of its file; by default the user's own (`$XDG_CACHE_HOME/gan_lightning`).
    """

    width: int = 16
    feature_dim: int = 64
    steps: int = 600
    batch_size: int = 128
    learning_rate: float = 5e-3
    images: int = 60_000
    seed: int = 0
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        at_least(self, 1, width=self.width, feature_dim=self.feature_dim)
        at_least(self, 2, steps=self.steps, batch_size=self.batch_size, images=self.images)
        above(self, 0, "Try 0.005.", learning_rate=self.learning_rate)

    def name(self, data: LabelledImages) -> str:
        """Return the data's name and `classifier`, to tell it from Inception."""
        return f"{data.name}-classifier"

    def judge(self, data: LabelledImages, device: torch.device, report: Progress = untold) -> Judge:
        """Return the classifier, from its file or trained now; the random numbers of the training do not change."""
        if data.label_kind != "classes":
            raise SettingError(
                f"SmallClassifier must have a class for each image, got {data.name}, whose labels are "
                f"{data.label_kind}. Use another network, Inception or ImportedNetwork, or leave quality out."
            )
        chosen = choose(data.evaluation_batches("train", device), self.images, self.seed)
        images, labels = _known_images(data, chosen, device)
        file = self.file(data.name, images, labels, data.num_classes)
        with torch.inference_mode(False):
            state = on_first_process(
                lambda: self._state(file, images.to(device), labels.to(device), data.num_classes, report)
            )
            network = self.network(data.channels, data.num_classes)
        network.load_state_dict(state)
        network.to(device).eval().requires_grad_(False)
        correct = torch.zeros(2, dtype=torch.int64)
        with torch.no_grad():
            for batch, truth in data.evaluation_batches("test", device):
                known = truth >= 0
                right = network(batch).argmax(dim=1).to(truth.device)[known] == truth[known]
                correct += torch.tensor([int(right.sum()), len(right)])
        right_answers, answers = torch.stack(gather_objects(correct)).sum(dim=0).tolist()
        about = {
            "test_accuracy": right_answers / answers if answers else None,
            "test_images": answers,
            "training_images": len(images),
            "file": str(file),
        }
        return Judge(self.name(data), network.features, self.feature_dim, network.head, about)

    def network(self, channels: int, classes: int) -> "_Classifier":
        """Return the classifier untrained; the global random state stays unchanged.

        Raises:
            SettingError: It does not fit into memory.
        """
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            try:
                return _Classifier(channels, classes, self.width, self.feature_dim)
            except RuntimeError as error:  # torch has no class of its own for too little memory
                raise SettingError(
                    "width and feature_dim must make a network that fits into memory, got "
                    f"{self.width} and {self.feature_dim} ({str(error).splitlines()[0]}). Lower them.",
                    self,
                ) from error

    def file(self, data: str, images: UInt8[Tensor, "..."], labels: Int64[Tensor, " images"], classes: int) -> Path:
        """Return the path of the classifier's file for these images."""
        settings = {name: value for name, value in asdict(self).items() if name != "cache_dir"}
        digest = hashlib.sha256(json.dumps([FORMAT, settings, list(images.shape), classes], sort_keys=True).encode())
        digest.update(images.numpy().tobytes())
        digest.update(labels.numpy().tobytes())
        with settings_of(self):
            folder = Path(self.cache_dir).expanduser() if self.cache_dir else user_cache()
        return folder / "classifiers" / f"{data}-{digest.hexdigest()[:20]}.pt"

    def _state(self, file: Path, images: Tensor, labels: Tensor, classes: int, report: Progress) -> dict[str, Tensor]:
        """Return the trained weights, from the file if it is there and intact."""
        if file.exists():
            network = self.network(images.shape[1], classes)
            try:
                network.load_state_dict(torch.load(file, weights_only=True, map_location="cpu"))
                return network.state_dict()
            except Exception as error:  # anything may stand there
                logger.warning("'%s' is damaged (%s). Training the classifier anew.", file, error)
        logger.info("Training a small classifier to judge generated images; '%s' keeps it.", file)
        network = self.network(images.shape[1], classes)  # a damaged file may have been loaded in part
        self._train(network.to(images.device), images, labels, report)
        state = network.cpu().state_dict()
        try:
            with whole_file(file) as temporary:
                torch.save(state, temporary)
        except OSError as error:
            raise SettingError(
                f"cache_dir must be a folder to write to, got '{file.parent.parent}' ({error}). Set it to another "
                "folder.",
                self,
            ) from error
        return state

    @torch.enable_grad()
    def _train(
        self, network: nn.Module, images: UInt8[Tensor, "..."], labels: Int64[Tensor, " images"], report: Progress
    ) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=self.steps)
        shuffle = torch.Generator().manual_seed(self.seed)
        queue = torch.empty(0, dtype=torch.int64)
        for step in range(1, self.steps + 1):
            while len(queue) < self.batch_size:
                queue = torch.cat([queue, torch.randperm(len(images), generator=shuffle)])
            batch, queue = queue[: self.batch_size].to(images.device), queue[self.batch_size :]
            loss = F.cross_entropy(network(from_bytes(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            report("training the classifier that judges images", step, self.steps)


class _Classifier(nn.Module):
    """Images to features to logits."""

    def __init__(self, channels: int, classes: int, width: int, feature_dim: int) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        rows: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            rows += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        # Batch norm keeps every feature alive: a dead one would only make the covariance singular.
        hidden = nn.Linear(16 * widths[-1], feature_dim, bias=False), nn.BatchNorm1d(feature_dim), nn.ReLU()
        self.features = nn.Sequential(*rows, nn.AdaptiveAvgPool2d(4), nn.Flatten(), *hidden)
        self.head = nn.Linear(feature_dim, classes)

    def forward(self, images: Images) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        return self.head(self.features(images))


def _known_images(
    data: LabelledImages, chosen: ChosenImages, device: torch.device
) -> tuple[UInt8[Tensor, "images channels height width"], Int64[Tensor, " images"]]:
    """Return the images of known class, as bytes, and their classes, of all processes, on the CPU.

    They are gathered on the device, because the processes can reach each other there.
    """
    found = [(to_bytes(images).to(device), labels.to(device)) for images, labels in chosen]
    images = torch.empty(0, data.channels, data.image_size, data.image_size, dtype=torch.uint8, device=device)
    images = torch.cat([images, *(each for each, _ in found)])
    labels = torch.cat([torch.empty(0, dtype=torch.int64, device=device), *(each for _, each in found)])
    counts = gather_objects(len(images))
    images, labels = (gather_rows(rows, counts).cpu() for rows in (images, labels))
    known = labels >= 0
    if int(known.sum()) < 2:
        raise DataError(
            f"SmallClassifier must have two training images of known class or more, got "
            f"{int(known.sum())} of {data.name}. Use another network."
        )
    return images[known], labels[known]
