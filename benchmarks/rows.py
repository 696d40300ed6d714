"""The rows of the table, with their goals."""

import argparse
from collections.abc import Callable, Mapping

from benchmarks.evaluation import InputSize, NearestSize, TransferSize, input_pair, nearest_pair, transfer_pair
from benchmarks.growth import Sizes
from benchmarks.replay import replay_pair
from benchmarks.sizes import BiGANSize, DCGANSize, MGANSize, SelfExGANSize
from benchmarks.timing import Pair
from benchmarks.training import VARIANTS, Settings, overhead_pair, training_pairs
from benchmarks.whole_evaluation import evaluation_pair

GOALS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "cpu": {
        "mgan": {"default": 1.5, "float32": 1.5, "recommended": 2.5},
        "dcgan": {"float32": 1.3, "recommended": 2.0},
    },
    "cuda": {
        "mgan": {"graph": 5.5, "graph+recommended": 7.5},
        "dcgan": {"graph": 3.0, "graph+recommended": 5.0},
        "bigan": {"graph+several": 10.0},
        "selfexgan": {"graph": 4.0},
        "replay": {"mgan": 1 / 1.05, "bigan": 1 / 1.10},
        "evaluation": {"transfer": 5.0},
    },
}
"""Ratios to reach, by the kind of device, row and variant; of the evaluation, seconds."""

PLAIN = ("default", "float32", "recommended")
GRAPHS = ("graph", "graph+channels_last", "graph+recommended")

MEASURED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "cpu": {"mgan": PLAIN, "dcgan": PLAIN, "bigan": ("default",), "selfexgan": PLAIN},
    "cuda": {
        "mgan": ("default", "recommended", *GRAPHS, "graph+recommended+compile"),
        "dcgan": ("default", "recommended", *GRAPHS),
        "bigan": ("default", "graph", "graph+several", "graph+recommended+several"),
        "selfexgan": ("default", "graph", "graph+recommended"),
    },
}
"""The variants that are measured unless others are asked for."""

SMALL = Sizes(
    MGANSize(base_width=2, generators=2, batch_size=4, per_generator=2, feature_dim=2, latent_dim=2),
    DCGANSize(base_width=1, batch_size=2),
    BiGANSize(width=4, batch_size=4, latent_dim=2),
    SelfExGANSize(base_width=2, batch_size=4),
    TransferSize(2, 60, 20, 2),
    NearestSize(60, 20, 16),
)


def variants(args: argparse.Namespace, row: str) -> Mapping[str, Settings]:
    """Return the variants of a training row."""
    return {name: VARIANTS[name] for name in args.variants or MEASURED[args.device.type][row]}


def training(args: argparse.Namespace, row: str) -> list[Pair]:
    """Return the pairs of a training row."""
    goals = GOALS[args.device.type].get(row, {})
    return training_pairs(row, getattr(args.sizes, row), variants(args, row), goals, args.budget, args.device)


def replay(args: argparse.Namespace) -> list[Pair]:
    """Return the pairs with bare replay."""
    goals = GOALS[args.device.type].get("replay", {})
    return [
        replay_pair(model, getattr(args.sizes, model), VARIANTS[variant], goals.get(model), args.budget, args.device)
        for model, variant in (("mgan", "graph"), ("bigan", "graph+several"))
    ]


def evaluation(args: argparse.Namespace) -> list[Pair]:
    """Return the transfer evaluation of M-GAN."""
    goal = GOALS[args.device.type].get("evaluation", {}).get("transfer")
    sizes = args.sizes
    return [evaluation_pair(sizes.mgan, sizes.transfer, args.data_root, goal, args.budget, args.device)]


def inputs(args: argparse.Namespace) -> InputSize:
    """Return the size of the row of the input."""
    return InputSize(24, 4, 0) if args.small else InputSize()


ROWS: Mapping[str, Callable[[argparse.Namespace], list[Pair]]] = {
    "mgan": lambda args: training(args, "mgan"),
    "dcgan": lambda args: [*training(args, "dcgan"), overhead_pair(args.sizes.dcgan, args.budget, args.device)],
    "bigan": lambda args: training(args, "bigan"),
    "selfexgan": lambda args: training(args, "selfexgan"),
    "replay": replay,
    "evaluation": evaluation,
    "transfer": lambda args: [transfer_pair(args.sizes.transfer, args.data_root, args.budget, args.device)],
    "input": lambda args: [input_pair(inputs(args), args.sizes.mgan, args.budget, args.device)],
    "nearest": lambda args: [nearest_pair(args.sizes.nearest, args.budget, args.device)],
}
