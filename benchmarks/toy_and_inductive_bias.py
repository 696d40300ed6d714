"""What Weber 2021 says of its toy (section 5, footnote 5) and of K_θ(x) (eq. 16), over seeds.

    python benchmarks/toy_and_inductive_bias.py --seeds 10 --output runs/toy_and_inductive_bias

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

Prints a table of each, mean ± half the 95% interval over the seeds, and writes every seed's values to `results.json`.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_lightning.dashboard.statistics import estimate
from gan_lightning.papers import PermutationInvariantNetworks, TutorialNetworks
from gan_lightning.papers.subproblem.inductive_bias import InductiveBias, Spectrum
from gan_lightning.papers.subproblem.toy import ToyGAN, train_toy
from gan_lightning.system.files import write_json

DISCRIMINATORS, SOLVERS, RATES = ("linear", "quadratic"), ("gradient", "closed_form"), (0.1, 0.03)
LATENT_DIM, PROBES = 50, 64

Row = Mapping[str, object]
Run = Mapping[str, float]


def toy_runs(seeds: Sequence[int], steps: int) -> Iterator[tuple[Row, list[Run]]]:
    """Yield the settings of a row of the toy's table, and the figures of each seed."""
    for discriminator, rate, solver in product(DISCRIMINATORS, RATES, SOLVERS):
        named = {"discriminator": discriminator, "D's rate": rate, "solver": solver}
        yield named, [toy_figures(ToyGAN(discriminator=discriminator, solver=solver, discriminator_rate=rate,
                                         steps=steps, seed=seed)) for seed in seeds]  # fmt: skip


def toy_figures(settings: ToyGAN) -> Run:
    """Return the errors and the variances at the end of a training."""
    history = train_toy(settings)
    along = torch.tensor(settings.mean, dtype=torch.float64)
    along = along / along.norm()
    across = torch.stack([-along[1], along[0]])
    covariance = history.covariances[-1]
    errors = {f"{name} error": error[-1].item() for name, error in history.errors().items()}
    variances = {"along": along, "across": across}
    return errors | {f"variance {name}": (v @ covariance @ v).item() for name, v in variances.items()}


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
        "trace / d": trace,
        "effective rank / d": rank,
        "distance from the identity": math.sqrt(max(0.0, square - 2 * trace + 1)),
        "distance from its multiples": math.sqrt(max(0.0, 1 - rank)),
    }


def table(rows: Sequence[tuple[Row, list[Run]]]) -> str:
    """Return a table of means over the seeds, with half of their 95% intervals."""
    named, runs = rows[0]
    head = [*named, "n", *runs[0]]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for named, runs in rows:
        cells = [f"{value:,}" if isinstance(value, int) else str(value) for value in named.values()]
        cells += [str(len(runs)), *(_cell([run[name] for run in runs]) for name in runs[0])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float]) -> str:
    found = estimate(values)
    return f"{found.mean:.3f}" + ("" if found.half_width is None else f" ± {found.half_width:.3f}")


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, from 0 on")
    parser.add_argument("--steps", type=int, default=4000, help="of D and of G in the toy")
    parser.add_argument("--widest", type=int, default=1024, help="no generator is wider")
    parser.add_argument("--output", type=Path, default=Path("runs/toy_and_inductive_bias"))
    args = parser.parse_args()
    started, seeds = time.monotonic(), range(args.seeds)
    tables = {"toy": list(toy_runs(seeds, args.steps)), "inductive_bias": list(bias_runs(seeds, args.widest))}
    about = {name: [{**named, "runs": runs} for named, runs in rows] for name, rows in tables.items()}
    seconds = round(time.monotonic() - started, 1)
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(args.output / "results.json", {"seeds": list(seeds), "seconds": seconds, **about})
    print(*(table(rows) for rows in tables.values()), sep="\n\n")
    print(f"\n{args.output / 'results.json'}, {seconds} s")


if __name__ == "__main__":
    main()
