"""Small files in the formats of the data sets."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def write_image(rng):
    """Write a smooth random image, so that JPEG keeps it nearly as it is."""

    def write(path: Path, width: int = 24, height: int = 20, mode: str = "RGB") -> Path:
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path)
        return path

    return write


@pytest.fixture
def shared_data():
    folder = Path(__file__).parents[3].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real images of ../shared/data")
    return folder
