"""Boxes in which an object may be, without any label: what Fast R-CNN classifies.

A box is x1, y1, x2, y2 in pixels of its image, from 0; x2 and y2 are the first column and row after it.
"""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gan_lightning.errors import DataError, SettingError, above, at_least, one_of, refused
from gan_lightning.evaluation.probes.probe import Progress
from gan_lightning.evaluation.voc.devkit import AGAIN, read_image
from gan_lightning.system.files import user_cache, whole_file
from gan_lightning.system.reading import reading

Boxes = Float[Tensor, "_ 4"]
"""Boxes of one image: x1, y1, x2, y2 in pixels."""


class ProposalSource(ABC):
    """A way to get proposals. A subclass is a frozen dataclass of its settings."""

    @abstractmethod
    def find(self, paths: Sequence[Path], progress: Progress | None = None) -> list[Boxes]:
        """Return the proposals of each image, in float32.

        Args:
            paths: The image files; an image's name is its file's, without the suffix.
            progress: Called as images are done, if they take time.

        Raises:
            DataError: An image has no proposal, or one lies outside of it; names image and source.
            SettingError: The source cannot be used.
        """

    def check(self, paths: Sequence[Path]) -> None:  # noqa: B027 (most have nothing to check)
        """Check that the source can be used for images, before the training. Nothing is computed.

        Raises:
            DataError: It is known already that `find` would raise one.
            SettingError: It cannot be used.
        """


@dataclass(frozen=True)
class DenseWindows(ProposalSource):
    """Windows of several sizes and shapes on a grid: proposals that never look at the image. The default.

    Args:
        scales: Edges of square windows, as shares of the edge of a square with the image's area.
        shapes: Width / height.
        step: Largest distance of neighbouring windows, as a share of their width and height.
    """

    scales: Sequence[float] = (0.12, 0.2, 0.3, 0.45, 0.65, 0.95)
    shapes: Sequence[float] = (0.5, 1.0, 2.0)
    step: float = 0.4

    def __post_init__(self) -> None:
        """Refuse settings that give no windows.

        Raises:
            SettingError: There are no scales or shapes, or a number is out of range.
        """
        for name, values in (("scales", self.scales), ("shapes", self.shapes)):
            if not values or not all(0 < value < math.inf for value in values):
                raise refused(self, name, "be numbers above 0, one at least", list(values))
        above(self, 0, "0.4 is usual.", step=self.step)

    def find(self, paths: Sequence[Path], progress: Progress | None = None) -> list[Boxes]:
        """Return the windows; a window that is larger than its image is cut to it."""
        known: dict[tuple[int, int], Boxes] = {}
        sizes = [size_of(each) for each in paths]
        for size in set(sizes):
            known[size] = self._windows(*size)
        return [known[size] for size in sizes]

    def _windows(self, height: int, width: int) -> Boxes:
        edge = math.sqrt(height * width)
        found = []
        for scale in self.scales:
            for shape in self.shapes:
                root = math.sqrt(shape)
                wide, high = min(float(width), scale * edge * root), min(float(height), scale * edge / root)
                left, top = _places(width, wide, self.step), _places(height, high, self.step)
                corners = torch.cartesian_prod(left, top)
                found.append(torch.cat([corners, corners + torch.tensor([wide, high])], dim=1))
        bounds = torch.tensor([width, height] * 2, dtype=torch.float32)
        return torch.minimum(torch.cat(found).unique(dim=0), bounds)


def _places(whole: int, part: float, step: float) -> Float[Tensor, " places"]:
    return torch.linspace(0, whole - part, 1 + math.ceil((whole - part) / (step * part) - 1e-6))


@dataclass(frozen=True)
class ProposalFiles(ProposalSource):
    """Proposals that were computed elsewhere, from files.

    Args:
        files: Paths of .npz files, or of .mat files of selective search. An .npz has an array (boxes, 4) under each
            image's name, in this package's pixels. A .mat has the cells `images`, names, and `boxes`, rows y1, x1, y2,
            x2 counted from 1, the last ones included.

    Source:
        The .mat files are those of rbgirshick/fast-rcnn, data/scripts/fetch_selective_search_data.sh.
    """

    files: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse files that are not there or of another kind."""
        if not self.files:
            raise refused(self, "files", "name a .npz or .mat file, one at least", list(self.files))

    def check(self, paths: Sequence[Path]) -> None:
        """Check the boxes of all images."""
        self.find(paths)

    def _check_files(self) -> None:
        for file in self.files:
            if Path(file).suffix not in (".npz", ".mat"):
                raise refused(self, "files", "be .npz or .mat files", file)
            if not Path(file).expanduser().is_file():
                raise refused(self, "files", "be there", file, "Give the path of a file of proposals.")

    def find(self, paths: Sequence[Path], progress: Progress | None = None) -> list[Boxes]:
        """Return the images' boxes; the files may have those of further images."""
        self._check_files()
        found: dict[str, tuple[np.ndarray, str]] = {}
        wanted = {each.stem for each in paths}
        for file in self.files:
            found |= {name: (boxes, file) for name, boxes in _of_file(Path(file).expanduser(), wanted).items()}
        nothing = np.empty((0, 4)), ", ".join(self.files)
        return [checked(*found.get(each.stem, nothing), each.stem, size_of(each)) for each in paths]


def _of_file(path: Path, wanted: set[str]) -> Mapping[str, np.ndarray]:
    """Return the boxes of a file under the names of their images.

    Raises:
        DataError: The file cannot be read as what its name says.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files if name in wanted}
        from scipy.io import loadmat

        content = loadmat(path, variable_names=["boxes", "images"])
        names = [str(np.ravel(name)[0]) for name in np.ravel(content["images"])]
        pairs = zip(names, np.ravel(content["boxes"]), strict=True)
        return {name: _from_matlab(boxes) for name, boxes in pairs if name in wanted}
    except Exception as error:  # of whatever reads a damaged file
        raise DataError(
            f"'{path}' must hold proposals ({type(error).__name__}: {' '.join(str(error).split())}). An .npz has an "
            "array (boxes, 4) for each image's name; a .mat has the cells images and boxes."
        ) from error


def _from_matlab(boxes: np.ndarray) -> np.ndarray:
    """Return x1, y1, x2, y2 from 0, the last ones excluded, of y1, x1, y2, x2 from 1, the last ones included."""
    return boxes.astype(np.float64).reshape(-1, 4)[:, (1, 0, 3, 2)] - [1, 1, 0, 0]


def size_of(path: Path) -> tuple[int, int]:
    """Return the height and width of an image in pixels, without decoding it.

    Raises:
        DataError: It is missing or damaged.
    """
    from PIL import Image

    with reading(path, AGAIN), Image.open(path) as picture:
        return picture.height, picture.width


def checked(boxes: np.ndarray, source: str, name: str, size: tuple[int, int]) -> Boxes:
    """Return an image's proposals as a tensor.

    Args:
        boxes: Of any type, (boxes, 4).
        source: File or method that has them, in an error.
        name: The image's.
        size: Its height and width, pixels.

    Raises:
        DataError: There are none, they are no boxes, or one lies outside of the image.
    """
    where = f"image {name} of {source}"
    height, width = size
    if not len(boxes):
        raise DataError(f"Each image must have a proposal, got none for {where}. Add boxes of it.")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes.astype(np.float64)).all():
        raise DataError(f"Proposals must be finite rows x1, y1, x2, y2, got shape {boxes.shape} for {where}.")
    left, top, right, bottom = boxes.astype(np.float64).T
    inside = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
    inside &= (right > left) & (bottom > top)
    if not inside.all():
        first = boxes[int(np.argmin(inside))].tolist()
        raise DataError(
            f"A proposal must lie inside its image of {width}x{height} pixels, got {first} "
            f"(x1, y1, x2, y2) for {where}. Check the order and the origin of the coordinates."
        )
    return torch.from_numpy(boxes.astype(np.float32))


@dataclass(frozen=True)
class SelectiveSearch(ProposalSource):
    """Selective search by OpenCV: computed once for an image, on all cores, and kept in a file.

    Needs `pip install 'gan-lightning[proposals]'`.

    Args:
        mode: "fast" or "quality", which has more boxes and takes longer.
        edge: Longer edge to which images are resized before, pixels.
        smallest: Least width and height of a box in the resized image, pixels.
        cache_dir: Folder of the files; by default the user's own (`$XDG_CACHE_HOME/gan_lightning`).

    Source:
        Uijlings et al. 2013, *Selective Search for Object Recognition*. R-CNN's code (Girshick et al. 2014) resizes
        images to a width of 500 and drops boxes below 20 pixels.
    """

    mode: Literal["fast", "quality"] = "fast"
    edge: int = 500
    smallest: int = 20
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        one_of(self, ("fast", "quality"), mode=self.mode)
        at_least(self, 16, "500 is usual.", edge=self.edge)
        at_least(self, 1, "20 is usual.", smallest=self.smallest)

    def check(self, paths: Sequence[Path]) -> None:
        """Check that OpenCV has selective search."""
        self._opencv()

    def find(self, paths: Sequence[Path], progress: Progress | None = None) -> list[Boxes]:
        """Return the boxes, from files or computed."""
        cv2 = self._opencv()
        folder = (Path(self.cache_dir).expanduser() if self.cache_dir else user_cache()) / "selective_search"
        settings = {name: value for name, value in asdict(self).items() if name != "cache_dir"}
        found: list[Boxes] = []
        pool = ThreadPoolExecutor(os.cpu_count())  # OpenCV computes without Python's lock
        try:
            for boxes in pool.map(lambda path: self._kept(path, cv2, folder, settings), paths):
                found.append(boxes)
                if progress is not None:
                    progress("selective search", len(found), len(paths))
        finally:
            pool.shutdown(cancel_futures=True)
        return found

    def _kept(self, path: Path, cv2: Any, folder: Path, settings: Mapping[str, Any]) -> Boxes:
        pixels = read_image(path).permute(1, 2, 0).contiguous().numpy()
        about = f"{cv2.__version__} {sorted(settings.items())} {pixels.shape}".encode()
        file = folder / f"{hashlib.sha256(about + pixels.tobytes()).hexdigest()[:32]}.npy"
        if not file.exists():
            boxes = self._searched(pixels[..., ::-1], cv2)
            try:
                with whole_file(file) as temporary:
                    np.save(temporary, boxes)
            except OSError as error:
                raise refused(self, "cache_dir", "be a folder to write to", str(folder), f"({error})") from error
        return checked(np.load(file), f"selective search ({file})", path.stem, pixels.shape[:2])

    def _searched(self, pixels: np.ndarray, cv2: Any) -> np.ndarray:
        """Return the boxes of blue, green and red pixels (height, width, 3)."""
        height, width = pixels.shape[:2]
        scale = self.edge / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.resize(np.ascontiguousarray(pixels), size))
        if self.mode == "fast":
            search.switchToSelectiveSearchFast()
        else:
            search.switchToSelectiveSearchQuality()
        left, top, wide, high = np.unique(search.process(), axis=0).T  # in an order of its own, the same each time
        large = (wide >= self.smallest) & (high >= self.smallest)
        corners = np.stack([left, top, left + wide, top + high], axis=1)[large]
        back = np.tile([width / size[0], height / size[1]], 2)
        return np.minimum(corners * back, [width, height] * 2).astype(np.float32)

    def _opencv(self) -> Any:
        try:
            import cv2

            cv2.ximgproc.segmentation.createSelectiveSearchSegmentation  # noqa: B018 (absent without contrib)
        except (ImportError, AttributeError) as error:
            raise SettingError(
                "proposals must be dense windows or files where OpenCV's selective search is not installed. Install it "
                "with: pip install 'gan-lightning[proposals]'.",
                self,
            ) from error
        return cv2
