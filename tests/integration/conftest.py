"""The command line as a function, and small data sets in their native formats."""

import logging
import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat


@pytest.fixture
def gan_lightning(tmp_path, monkeypatch, capsys):
    """Return a function that runs the command line in an empty folder and gives its status, output and errors."""
    from gan_lightning.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["gan-lightning"])
    monkeypatch.setattr(sys, "path", [*sys.path])  # to which a command adds its working folder
    # Lightning's log handler keeps the first test's standard error, which is closed by the second.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def few_axes(monkeypatch):
    """Let the tuned probe find principal axes of small features alone: those of a thousand pixels take a while."""
    monkeypatch.setattr("gan_lightning.evaluation.probes.tuned.MOST_AXES", 64)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    """Return a folder with 20 training and 20 test images of every data set that is read from files."""
    root, rng, count = tmp_path_factory.mktemp("data"), np.random.default_rng(0), 20
    labels = np.arange(count, dtype=np.uint8) % 10

    def pixels(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, np.uint8)

    def write(path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    for part in ("train", "t10k"):
        for name, array in (("images-idx3", pixels(count, 28, 28)), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            write(root / "MNIST/raw" / f"{part}-{name}-ubyte", header + array.tobytes())
    for folder, key, files in (
        ("cifar-10-batches-py", "labels", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]),
        ("cifar-100-python", "fine_labels", ["train", "test"]),
    ):
        for name in files:
            write(root / folder / name, pickle.dumps({"data": pixels(count, 3072), key: labels.tolist()}, protocol=2))
    for part in ("train", "test"):
        savemat(root / f"{part}_32x32.mat", {"X": pixels(32, 32, 3, count), "y": labels[:, None] + 1})

    names = [f"{i:06}.jpg" for i in range(1, 2 * count + 1)]
    for name in names:
        path = root / "celeba/img_align_celeba" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(218, 178, 3)).save(path)
    parts = "".join(f"{name} {0 if i < count else 2}\n" for i, name in enumerate(names))
    write(root / "celeba/list_eval_partition.txt", parts.encode())
    rows = [f"{name} {' '.join(str(v) for v in rng.choice([-1, 1], 40))}\n" for name in names]
    header = f"{len(names)}\n{' '.join(f'Attribute_{i}' for i in range(40))}\n"
    write(root / "celeba/list_attr_celeba.txt", (header + "".join(rows)).encode())

    for split in ("train", "val"):
        for i in range(count):
            path = root / "imagenet" / split / f"class{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(40, 48, 3)).save(path)
    return root
