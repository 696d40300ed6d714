"""Run folders as the framework writes them, with figures of the test's choice."""

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def write_run():
    """Return a function that writes a finished run, and gives its folder."""

    def write(
        root: Path,
        name: str,
        accuracies: dict[str, float],
        *,
        seed: int = 0,
        model: str = "MGAN",
        data: str = "mnist",
        epochs: int = 5,
        batches: int = 100,
        paper: dict[str, float] | None = None,
        protocol: str = "paper",
        about: dict | None = None,
        **settings: object,
    ) -> Path:
        folder = root / name
        (folder / "samples").mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / "samples/epoch-0000.png")
        records = [
            {"extractor": extractor, "weights": weights, "protocol": protocol, "epoch": epoch, "accuracy": value,
             "seconds": 1.0, "strength": None, "features": 8}
            for extractor, accuracy in accuracies.items()
            for weights, shift in (("trained", 0.0), ("random", -0.1))
            for epoch, value in ((1, accuracy + shift - 0.05), (2, accuracy + shift))
        ]  # fmt: skip
        published = [
            {"model": model, "data": data, "settings": {}, "extractor": extractor, "protocol": protocol,
             "accuracy": accuracy, "source": "Mao et al. 2022, Table 2"}
            for extractor, accuracy in (paper or {}).items()
        ]  # fmt: skip
        results = {
            "schema_version": 1, "model": model, "data": data, "model_settings": {"base_width": 32} | settings,
            "data_settings": {"root": str(root), "limit": None}, "transfer_seed": 0, "batch_norm": "running",
            "protocols": {"paper": {"epochs": 2}}, "epochs": epochs, "batches": batches,
            "records": records, "published": published,
        }  # fmt: skip
        run = {"schema_version": 1, "status": "finished", "error": None, "stage": "fit", "seed": seed, "seconds": 1.0,
               "command": ["gan-lightning", "fit"], "precision": "32-true"}  # fmt: skip
        (folder / "results.json").write_text(json.dumps(results))
        (folder / "run.json").write_text(json.dumps(run | (about or {})))
        rows = "".join(f"{step},{1 / (step + 1)},\n" for step in range(500))
        (folder / "metrics.csv").write_text(f"step,train/generator_loss,val/loss\n{rows}499,,0.25\n")
        return folder

    return write


SHARED = {0: ([0.90, 0.92, 0.91], [0.90, 0.92, 0.91]), 4: ([0.90, 0.93, 0.915], [0.92, 0.94, 0.945])}
"""Accuracies by shares removed: three seeds of the discriminator, and of the classifier."""


@pytest.fixture
def ablation(tmp_path, write_run):
    """Return a folder of two settings by three seeds, with the paper's figures."""
    root = tmp_path / "runs"
    for removed, (discriminator, classifier) in SHARED.items():
        for seed in range(3):
            write_run(
                root, f"{removed}/seed{seed}", {"discriminator": discriminator[seed], "classifier": classifier[seed]},
                seed=seed, shares_removed=removed, paper={"discriminator": 0.9309, "classifier": 0.9578},
            )  # fmt: skip
    return root
