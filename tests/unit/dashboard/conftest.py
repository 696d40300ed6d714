"""Run folders as the framework writes them, with figures of the test's choice."""

import json
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from PIL import Image

from gan_lightning.figures import Figure, RunFigures, Section, write_figures
from gan_lightning.system.files import SCHEMA_VERSION
from gan_lightning.system.locks import locked
from gan_lightning.system.trial_states import RUN_LOCK, TRIAL_LOCK


def transfer_accuracy(extractor: str, value: float, probe: str = "paper", **more) -> Figure:
    return Figure(measurement="transfer", metric="accuracy", value=value, subject=extractor, protocol=probe, **more)


def written_run(
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
    """Write a finished run, and return its folder.

    Its extractors have the accuracies that it is given; with random weights these are 0.1 less, and after the first of
    two epochs of the head 0.05 less. `measured` are further figures, and `sections` the settings of measurements.
    """
    folder = root / name
    (folder / "pictures").mkdir(parents=True)
    Image.new("L", (4, 4)).save(folder / "pictures/samples.png")
    figures = [
        transfer_accuracy(extractor, value + shift + less, probe, weights=weights, **at)
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
    content = RunFigures(
        {"model": model, "model_settings": {"base_width": 32} | settings, "data": data, "seed": seed,
         "data_settings": {"root": str(root), "limit": None}, "epochs": epochs, "batches": batches},
        [*figures, *measured],
        {name: Section(own) for name, own in (known | (sections or {})).items()},
        passed_over or {},
        {transfer_accuracy(extractor, value, probe).name: {"value": value, "source": "Mao et al. 2022, Table 2"}
         for extractor, value in (paper or {}).items()},
    )  # fmt: skip
    write_figures(folder / "figures.json", content)
    ended = {"schema_version": SCHEMA_VERSION, "status": "finished", "error": None, "stage": "fit", "seed": seed,
             "seconds": 1.0, "command": ["gan-lightning", "fit"], "precision": "32-true"}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(ended | (about or {})))
    rows = "".join(f"{step},{1 / (step + 1)},\n" for step in range(500))
    (folder / "metrics.csv").write_text(f"step,train/generator_loss,val/loss\n{rows}499,,0.25\n")
    return folder


@pytest.fixture
def write_run():
    """Return the function that writes a finished run."""
    return written_run


@pytest.fixture
def write_trial():
    """Return the function that writes the record of a sweep's trial."""
    return written_trial


@pytest.fixture
def open_run():
    """Return the function that writes a run that has no figures yet."""
    return written_open_run


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


def written_trial(folder: Path, **more: object) -> None:
    """Write the record of a sweep's trial."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {"schema_version": SCHEMA_VERSION, "id": folder.name, "index": 0, "parameters": {}, "status": "running",
              "error": None, "seconds": None, "attempts": 1}  # fmt: skip
    (folder / "trial.json").write_text(json.dumps(record | more))


def written_ablation(
    root: Path, sweep: str = "shared", seeds: int = 5, settings: int = 5, done: int | None = None
) -> Path:
    """Write an ablation as `sweeps/mgan/shared_layers_*.yaml`: the classifier gains 0.006 with each layer not shared.

    The probe `paper` gives figures below random weights. Of the last trials, beyond `done`, one failed and others run.
    """
    rng, index = random.Random(0), 0
    for seed in range(seeds):
        luck = rng.gauss(0, 0.004)
        for removed in range(settings):
            noise = [rng.gauss(0, 0.0015) for _ in range(2)]
            tuned = {"discriminator": 0.93 + luck + noise[0], "classifier": 0.93 + luck + 0.006 * removed + noise[1]}
            trial = root / sweep / f"{removed}{seed}ab"
            parameters = {"model.init_args.shares_removed": removed, "seed_everything": seed}
            state = {"status": "finished", "run_folder": "run", "index": index, "parameters": parameters}
            if done is not None and index >= done:
                failed = index == done
                state |= (
                    {"status": "failed", "error": "train/generator_loss is NaN"} if failed else {"status": "running"}
                )
                written_trial(trial, **state)
                written_open_run(trial / "run", "failed" if failed else "running", seed)
                index += 1
                continue
            controls = [
                transfer_accuracy("chance", 0.1, "", weights="none"),
                *(
                    transfer_accuracy("pixels", value, probe, weights="none")
                    for value, probe in ((0.88, "tuned"), (0.91, "paper"))
                ),
                *(
                    transfer_accuracy(name, 0.2 - removed / 100 + off, "paper")
                    for name, off in zip(tuned, noise, strict=True)
                ),
                *(transfer_accuracy(name, 0.45, "paper", weights="random") for name in tuned),
            ]
            run = written_run(
                trial, "run", tuned, seed=seed, probe="tuned", shares_removed=removed,
                measured=[*controls, *further_figures(removed, seed)[1:]], sections={"transfer": {"seed": None}},
            )  # fmt: skip
            for epoch in (1, 5):
                Image.new("L", (4, 4), 40 * epoch).save(run / f"pictures/samples-epoch-{epoch:04}.png")
            written_trial(trial, **state)
            index += 1
    facts = {"schema_version": SCHEMA_VERSION, "total": seeds * settings, "command": []}
    (root / sweep / "sweep.json").write_text(json.dumps(facts))
    return root


def written_open_run(folder: Path, status: str, seed: int) -> None:
    """Write a run that has no figures yet."""
    folder.mkdir(parents=True)
    about = {"schema_version": SCHEMA_VERSION, "status": status, "error": "NaN" if status == "failed" else None,
             "stage": "fit", "seed": seed, "command": ["gan-lightning", "fit"]}  # fmt: skip
    (folder / "run.json").write_text(json.dumps(about))
    rows = "".join(f"{step},{2 / (step + 1)}\n" for step in range(40))
    (folder / "metrics.csv").write_text(f"step,train/generator_loss\n{rows}41,")  # cut off while it is written


def written_search(root: Path, trials: int = 40) -> Path:
    """Write a search in which `class_weight` decides and `generators` does not."""
    rng = random.Random(1)
    for i in range(trials):
        weight, generators = 10 ** rng.uniform(-4, 0), rng.randint(1, 8)
        value = 0.9 - 0.03 * (math.log10(weight) + 2) ** 2 + rng.gauss(0, 0.004)
        trial = root / "search" / f"{i:02}cd"
        figure = transfer_accuracy("classifier", value, "tuned", images=2000)
        controls = [
            transfer_accuracy("chance", 0.1, "", weights="none"),
            transfer_accuracy("classifier", 0.5, "tuned", weights="random"),
        ]
        written_run(
            trial, "run", {}, seed=i, measured=[figure, *controls], class_weight=weight, generators=generators,
            sections={"transfer": {"seed": None}}, about={"command": ["gan-lightning", "fit", f"--i={i}"]},
        )  # fmt: skip
        written_trial(
            trial, status="finished", run_folder="run", index=i, parameters={"model.init_args.class_weight": weight}
        )
    facts = {"schema_version": SCHEMA_VERSION, "total": trials,
             "metric": {"name": "transfer/classifier/tuned/accuracy", "goal": "maximize"}}  # fmt: skip
    (root / "search/sweep.json").write_text(json.dumps(facts))
    return root


@pytest.fixture
def accuracy():
    """Return the function that makes an accuracy on frozen features."""
    return transfer_accuracy


@pytest.fixture(scope="session")
def shared_layers(tmp_path_factory):
    """Return the folder of an ablation of shared layers, with five seeds; no test may change it."""
    return written_ablation(tmp_path_factory.mktemp("ablation"))


@pytest.fixture(scope="session")
def running_sweep(tmp_path_factory):
    """Return the folder of a sweep of 15 trials: 11 finished, one failed, three run; no test may change it."""
    root = written_ablation(tmp_path_factory.mktemp("running"), seeds=3, done=11)
    with held(root):
        yield root


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Hold the locks of the trials below a folder that run, and of their runs, as their processes do."""
    with ExitStack() as stack:
        for path in root.glob("*/*/trial.json"):
            record = json.loads(path.read_text())
            if record["status"] == "running" and record["attempts"]:
                for lock in (path.parent / TRIAL_LOCK, path.parent / "run" / RUN_LOCK):
                    stack.enter_context(locked(lock))
        yield


@pytest.fixture
def hold():
    """Return the context manager that holds the locks of running trials, as their processes do."""
    return held


@pytest.fixture
def search(tmp_path):
    """Return the folder of a search of 40 trials."""
    return written_search(tmp_path / "searched")
