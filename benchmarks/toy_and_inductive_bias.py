"""What Weber 2021 says of its toy (section 5, footnote 5) and of K_θ(x) (eq. 16), over seeds.

    python -m benchmarks.toy_and_inductive_bias --seeds 10 --into docs/results/records/subproblem

The toy: a linear generator before a linear or a quadratic discriminator, by both solvers and at two rates of D. Errors
are the distances of mean and covariance from the data's at the end, as shares of those at the start. Two variances of
the generated data stand beside them: along the difference of the means at the start, and across it; both start at 1.

K: trace and effective rank, each divided by the number d of output values, of generators with new weights. K is a
multiple of the identity where the effective rank is d, and the identity itself where the trace is d as well. The
distance from the identity is ‖K - I‖ / ‖I‖ (Frobenius); that from its nearest multiple is ‖K - cI‖ / ‖K‖.

| generator | output, d | K |
| --- | --- | --- |
| mlp | 8x8 pixels, 64 | BiGAN's multi-layer perceptron; of the first of 128 images in train mode, exactly |
| plain mlp | 64 values | two hidden layers of ReLU in torch's initialisation, without batch norm; exactly |
| dcgan | 64x64 pixels, 4,096 | the tutorial's; of the first of 16 images in train mode, from random products |

Writes a record of each, `toy.json` and `inductive_bias.json`, with every seed's values, and prints their tables.
"""

import argparse
import math
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.results.layouts import LAYOUTS
from benchmarks.results.records import NOT_RECORDED, Measured, Record, Runs, write_record
from benchmarks.results.tables import markdown, table_of
from gan_lightning.dashboard.statistics import estimate
from gan_lightning.figures import Figure
from gan_lightning.papers import PermutationInvariantNetworks, TutorialNetworks
from gan_lightning.papers.subproblem.inductive_bias import InductiveBias, Spectrum
from gan_lightning.papers.subproblem.toy import ToyGAN, train_toy
from gan_lightning.runs.run_folder import git_commit

DISCRIMINATORS, SOLVERS, RATES = ("linear", "quadratic"), ("gradient", "closed_form"), (0.1, 0.03)
LATENT_DIM, PROBES = 50, 64

Row = Mapping[str, object]
"""The settings of a row of a table."""

Run = Mapping[str, float]
"""Figures of a seed."""


def toy_runs(seeds: Sequence[int], steps: int) -> Iterator[tuple[Row, list[Run]]]:
    """Yield the settings of a row of the toy's table, and the figures of each seed."""
    for discriminator, rate, solver in product(DISCRIMINATORS, RATES, SOLVERS):
        named = {"discriminator": discriminator, "D's rate": rate, "solver": solver.replace("_", " ")}
        yield named, [toy_figures(ToyGAN(discriminator=discriminator, solver=solver, discriminator_rate=rate,
                                         steps=steps, seed=seed)) for seed in seeds]  # fmt: skip


def toy_figures(settings: ToyGAN) -> Run:
    """Return the errors and the variances at the end of a training."""
    history = train_toy(settings)
    along = torch.tensor(settings.mean, dtype=torch.float64)
    along = along / along.norm()
    across = torch.stack([-along[1], along[0]])
    covariance = history.covariances[-1]
    errors = {f"{name}_error": error[-1].item() for name, error in history.errors().items()}
    variances = {"along": along, "across": across}
    return errors | {f"variance_{name}": (v @ covariance @ v).item() for name, v in variances.items()}


def mlp(width: int) -> InductiveBias:
    """Return K of a pixel image of BiGAN's multi-layer perceptron."""
    network = PermutationInvariantNetworks(LATENT_DIM, width).generator(1, 8).double()
    return InductiveBias(network, 2 * torch.rand(128, LATENT_DIM, dtype=torch.float64) - 1, select=first)


def plain_mlp(width: int) -> InductiveBias:
    """Return K of an output of a multi-layer perceptron without batch norm."""
    layers = nn.Linear(LATENT_DIM, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64)
    return InductiveBias(nn.Sequential(*layers).double(), torch.randn(1, LATENT_DIM, dtype=torch.float64))


def dcgan(width: int) -> InductiveBias:
    """Return K of an image of the tutorial's DCGAN."""
    networks = TutorialNetworks(base_width=width)
    return InductiveBias(networks.generator(1, 64), torch.randn(16, networks.latent_dim), select=first)


def first(images: Tensor) -> Tensor:
    """Return the first image."""
    return images[0]


GENERATORS: Mapping[str, tuple[Callable[[int], InductiveBias], Sequence[int]]] = {
    "mlp": (mlp, (4, 16, 64, 256, 1024)),
    "plain mlp": (plain_mlp, (4, 16, 64, 256, 1024)),
    "dcgan": (dcgan, (4, 16, 64)),
}
"""Each generator's K of a width, and its widths; 1024 and 64 are the papers'."""


def bias_runs(seeds: Sequence[int], widest: int) -> Iterator[tuple[Row, list[Run]]]:
    """Yield the settings of a row of K's table, and the figures of each seed."""
    for name, (bias_of, widths) in GENERATORS.items():
        for width in (width for width in widths if width <= widest):
            runs = []
            for seed in seeds:
                torch.manual_seed(seed)
                bias = bias_of(width)
                exact = bias.output.numel() <= 64
                rng = torch.Generator().manual_seed(seed)
                runs.append(bias_figures(bias.spectrum() if exact else bias.estimated_spectrum(PROBES, rng)))
            yield {"generator": name, "width": width, "weights": sum(w.numel() for w in bias.weights.values())}, runs


def bias_figures(spectrum: Spectrum) -> Run:
    """Return trace and effective rank as shares of d, and K's distances from the identity and from its multiples."""
    trace, rank = spectrum.trace / spectrum.values, spectrum.effective_rank / spectrum.values
    # ‖K - I‖² / d = tr K² / d - 2 tr K / d + 1, where tr K² / d is (tr K / d)² over the effective rank's share.
    square = trace**2 / rank if rank else 0.0
    return {
        "trace": trace,
        "effective_rank": rank,
        "distance_from_identity": math.sqrt(max(0.0, square - 2 * trace + 1)),
        "distance_from_multiples": math.sqrt(max(0.0, 1 - rank)),
    }


def runs_of(measurement: str, seeds: Sequence[int], rows: Sequence[tuple[Row, list[Run]]]) -> list[Runs]:
    """Return the rows as a record has them: each figure with its value of every seed, to six digits."""

    def measured(metric: str, runs: Sequence[Run]) -> Measured:
        values = {str(seed): float(f"{run[metric]:.6g}") for seed, run in zip(seeds, runs, strict=True)}
        mean = estimate(list(values.values())).mean
        return Measured(figure=Figure(measurement=measurement, metric=metric, value=mean, split=""), by_seed=values)

    return [
        Runs(settings=named, seeds=seeds, measured=[measured(metric, runs) for metric in runs[0]])
        for named, runs in rows
    ]


def toy_record(seeds: Sequence[int], rows: Sequence[tuple[Row, list[Run]]], steps: int, **about: Any) -> Record:
    """Return the record of the toy."""
    settings = ToyGAN()
    return Record(
        method="the toy of section 5",
        data="Gaussian",
        images=f"points in the plane, of mean {settings.mean} and covariance {settings.covariance}",
        width="a linear generator",
        epochs=f"{steps:,} steps with {settings.points:,} points each",
        precision="float64",
        runs=runs_of("toy", seeds, rows),
        **about,
    )


def bias_record(seeds: Sequence[int], rows: Sequence[tuple[Row, list[Run]]], **about: Any) -> Record:
    """Return the record of K."""
    return Record(
        method="generators with new weights",
        data="none",
        images="generated: 8x8 pixels of the MLPs, 64x64 of DCGAN",
        width="in the table",
        epochs="none",
        precision="float64; DCGAN float32",
        notes=[
            "BiGAN's MLP and DCGAN are in train mode, on 128 and 16 latents. K is of the first image.",
            f"K of the MLPs is exact. That of DCGAN comes from {PROBES} random products.",
        ],
        runs=runs_of("subproblem", seeds, rows),
        **about,
    )


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.toy_and_inductive_bias",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 on")
    parser.add_argument("--steps", type=int, default=4000, help="of D and of G in the toy")
    parser.add_argument("--widest", type=int, default=1024, help="no generator is wider")
    parser.add_argument("--into", type=Path, default=Path("runs/toy_and_inductive_bias"), help="folder of the records")
    parser.add_argument("--device", default=NOT_RECORDED, help="the machine in words")
    args = parser.parse_args()
    seeds, written = range(args.seeds), {}
    about = {
        "commands": [shlex.join(["python", "-m", "benchmarks.toy_and_inductive_bias", *sys.argv[1:]])],
        "commit": git_commit() or NOT_RECORDED,
        "versions": f"torch {torch.__version__}, Python {platform.python_version()}",
        "device": args.device,
    }
    for name in ("toy", "inductive_bias"):
        started = time.monotonic()
        rows = list(toy_runs(seeds, args.steps) if name == "toy" else bias_runs(seeds, args.widest))
        own = {**about, "wall_time": f"{time.monotonic() - started:.0f} seconds"}
        record = toy_record(seeds, rows, args.steps, **own) if name == "toy" else bias_record(seeds, rows, **own)
        args.into.mkdir(parents=True, exist_ok=True)
        written[args.into / f"{name}.json"] = record
        print(markdown(table_of(record, LAYOUTS[name])))
    for path, record in written.items():
        write_record(path, record)
        print(path)


if __name__ == "__main__":
    main()
