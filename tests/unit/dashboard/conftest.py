"""Run folders as the framework writes them, with figures of the test's choice."""

import json
from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.figures import Figure, RunFigures, Section, write_figures
from gan_lightning.system.files import SCHEMA_VERSION


def accuracy(extractor: str, value: float, probe: str = "paper", **more) -> Figure:
    return Figure(measurement="transfer", metric="accuracy", value=value, subject=extractor, protocol=probe, **more)


@pytest.fixture
def write_run():
    """Return a function that writes a finished run, and gives its folder.

    Its extractors have the accuracies that it is given; with random weights these are 0.1 less, and after the first of
    two epochs of the head 0.05 less. `measured` are further figures, and `sections` the settings of measurements.
    """

    def write(
        root: Path,
        name: str,
        accuracies: dict[str, float],
        *,
        seed: int | None = 0,
        model: str = "MGAN",
        data: str = "mnist",
        epochs: int = 5,
        batches: int = 100,
        paper: dict[str, float] | None = None,
        probe: str = "paper",
        about: dict | None = None,
        measured: list[Figure] | tuple[Figure, ...] = (),
        sections: dict[str, dict] | None = None,
        passed_over: dict[str, str] | None = None,
        **settings: object,
    ) -> Path:
        folder = root / name
        (folder / "pictures").mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / "pictures/samples.png")
        figures = [
            accuracy(extractor, value + shift + less, probe, weights=weights, **at)
            for extractor, value in accuracies.items()
            for weights, shift in (("trained", 0.0), ("random", -0.1))
            for less, at in (
                (0, {}),
                (-0.05, {"axis": "head epoch", "at": 1.0}),
                (0, {"axis": "head epoch", "at": 2.0}),
            )
        ]
        probes = {"paper": {"class": "PaperProbe", "epochs": 2}, "tuned": None}
        known = {"transfer": {"enabled": True, "seed": 0, **probes}} if accuracies else {}
        run = RunFigures(
            {"model": model, "model_settings": {"base_width": 32} | settings, "data": data, "seed": seed,
             "data_settings": {"root": str(root), "limit": None}, "epochs": epochs, "batches": batches},
            [*figures, *measured],
            {name: Section(own) for name, own in (known | (sections or {})).items()},
            passed_over or {},
            {accuracy(extractor, value, probe).name: {"value": value, "source": "Mao et al. 2022, Table 2"}
             for extractor, value in (paper or {}).items()},
        )  # fmt: skip
        write_figures(folder / "figures.json", run)
        ended = {"schema_version": SCHEMA_VERSION, "status": "finished", "error": None, "stage": "fit", "seed": seed,
                 "seconds": 1.0, "command": ["gan-lightning", "fit"], "precision": "32-true"}  # fmt: skip
        (folder / "run.json").write_text(json.dumps(ended | (about or {})))
        rows = "".join(f"{step},{1 / (step + 1)},\n" for step in range(500))
        (folder / "metrics.csv").write_text(f"step,train/generator_loss,val/loss\n{rows}499,,0.25\n")
        return folder

    return write


SHARED = {0: ([0.90, 0.92, 0.91], [0.90, 0.92, 0.91]), 4: ([0.90, 0.93, 0.915], [0.92, 0.94, 0.945])}
"""Accuracies by shares removed: three seeds of the discriminator, and of the classifier."""


def further_figures(removed: int, seed: int) -> list[Figure]:
    """Return figures of other measurements: over training, by condition, over an axis, and of a user's own."""
    shift = removed / 10 + seed / 100
    anatomy = {"measurement": "anatomy", "metric": "row_share", "subject": "discriminator"}
    return [
        Figure(measurement="transfer", metric="accuracy", value=0.1, subject="chance", weights="none"),
        *(Figure(**anatomy, condition=kind, value=0.2 + shift, epoch=5) for kind in ("real", "generated")),
        Figure(**anatomy, condition="real", value=0.1 + shift, epoch=2),
        Figure(**anatomy, condition="real", weights="random", value=0.05, epoch=5),
        Figure(measurement="quality", metric="fid", protocol="small_classifier", value=123.456 + 10 * shift),
        *(
            Figure(measurement="feeding", metric="moved", value=0.5 / at + shift, axis="round", at=float(at))
            for at in (1, 2)
        ),
    ]


@pytest.fixture
def ablation(tmp_path, write_run):
    """Return a folder of two settings by three seeds, with the paper's figures and those of other measurements."""
    root = tmp_path / "runs"
    for removed, (discriminator, classifier) in SHARED.items():
        for seed in range(3):
            write_run(
                root, f"{removed}/seed{seed}", {"discriminator": discriminator[seed], "classifier": classifier[seed]},
                seed=seed, shares_removed=removed, paper={"discriminator": 0.9309, "classifier": 0.9578},
                measured=further_figures(removed, seed), sections={"anatomy": {"images": 500}},
            )  # fmt: skip
    return root
