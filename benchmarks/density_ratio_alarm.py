"""Does the density ratio's alarm come before a GAN on a ring of Gaussians collapses, and is it silent on others?

    python benchmarks/density_ratio_alarm.py --seeds 10 20 --output runs/density_ratio_alarm

Small MLPs learn eight Gaussians on a ring, with the losses of M-GAN (Mao et al. 2022, eq. 16; with one generator, the
standard GAN's). Every few steps log α is taken on the same real points, and diversity is counted on generated ones:
a mode is covered where at least a sixth of its fair share of the points lies within three standard deviations of it.

| setting | generators, β | generator's learning rate |
| --- | --- | --- |
| healthy | 1, 0 | 2e-3, as D's |
| healthy mixture | 8, 0.1 | 2e-3 |
| sudden | 1, 0 | 15 times as high from half of the training on |
| gradual | 1, 0 | growing from a third of the training on, to 100 times at the end |
| too high | 1, 0 | 15 times as high from the start |

Diversity has fallen at the first of two successive checks with half of the modes or fewer, once seven were covered at
three in a row. An alarm is false in a healthy setting, and before the learning rate begins to rise; it is missed where
diversity has fallen and there was none until the end. The lead is the number of steps from the first alarm to the fall,
below 0 where the alarm came after it.

Writes `results.json` and a picture of the first seed of each setting into the output folder, and prints a table. The
defaults of `AlarmRule` were chosen on seeds 0 to 9, and its patience on images, too.
"""

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.utils import save_image

from gan_lightning import losses
from gan_lightning.evaluation.curves import curves_chart, picture_of
from gan_lightning.papers.mgan.density_ratio import (
    Alarm,
    AlarmRule,
    RatioStatistics,
    log_density_ratio,
    ratio_statistics,
)
from gan_lightning.system.files import write_json

MODES, RADIUS, STD = 8, 2.0, 0.1
LATENT_DIM, WIDTH, BATCH = 8, 64, 128
SAMPLES = 2048


@dataclass(frozen=True)
class Setting:
    """A training.

    Attributes:
        generators: K.
        class_weight: β.
        learning_rate: Adam's, of all networks at the start.
        rise: What the generator's learning rate is multiplied with in the end.
        rise_from: Share of the training at which it begins to rise.
        gradual: Whether it rises until the end of training, by the same factor at each step, or at once.
        healthy: Whether the generator should come to cover the ring and stay.
        steps: Of each network.
        every: Steps between two checks.
    """

    generators: int = 1
    class_weight: float = 0.0
    learning_rate: float = 2e-3
    rise: float = 1.0
    rise_from: float = 0.0
    gradual: bool = False
    healthy: bool = False
    steps: int = 3000
    every: int = 10

    def generator_rate(self, step: int) -> float:
        """Return the generator's learning rate."""
        since = step / self.steps - self.rise_from
        share = 0.0 if since < 0 else since / (1 - self.rise_from) if self.gradual else 1.0
        return self.learning_rate * self.rise**share


SETTINGS: Mapping[str, Setting] = {
    "healthy": Setting(healthy=True),
    "healthy mixture": Setting(generators=8, class_weight=0.1, healthy=True),
    "sudden": Setting(rise=15.0, rise_from=0.5),
    "gradual": Setting(rise=100.0, rise_from=1 / 3, gradual=True),
    "too high": Setting(rise=15.0),
}
RULES = {
    "default": AlarmRule(),
    "once": AlarmRule(patience=1),
    "spread, once": AlarmRule(watch="spread", patience=1),
    "spread": AlarmRule(watch="spread"),
}


@dataclass(frozen=True)
class Check:
    """What is known at a step.

    Attributes:
        step: Steps taken.
        ratio: Statistics of log α on the fixed real points.
        modes: Modes that the generated points cover.
        near_modes: Share of the generated points that are near one.
    """

    step: int
    ratio: RatioStatistics
    modes: int
    near_modes: float


def centres() -> Tensor:
    """Return the modes' centres."""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def real_points(count: int, rng: torch.Generator) -> Tensor:
    """Return points of the ring."""
    return centres()[torch.randint(MODES, (count,), generator=rng)] + STD * torch.randn(count, 2, generator=rng)


def diversity(points: Tensor) -> tuple[int, float]:
    """Return the number of modes that generated points cover, and the share of the points that are near one."""
    distance, nearest = torch.cdist(points, centres()).min(dim=1)
    near = distance < 3 * STD
    shares = torch.bincount(nearest[near], minlength=MODES) / len(points)
    return int((shares >= 1 / (6 * MODES)).sum()), near.float().mean().item()


class MLPs(nn.Module):
    """An MLP for each seed, all computed at once; what one does depends on its own seed alone.

    Args:
        widths: Of the inputs, the hidden layers and the outputs.
        slope: Of the leaky ReLU between layers; 0 makes it a ReLU.
        seeds: Of the weights, which are initialised as `nn.Linear`'s.
    """

    def __init__(self, widths: Sequence[int], slope: float, seeds: Sequence[int]) -> None:
        super().__init__()
        networks = []
        for seed in seeds:
            torch.manual_seed(seed)
            networks.append([nn.Linear(before, after) for before, after in pairwise(widths)])
        layers = list(zip(*networks, strict=True))
        self.weights = nn.ParameterList([torch.stack([layer.weight.mT for layer in each]) for each in layers])
        self.biases = nn.ParameterList([torch.stack([layer.bias[None] for layer in each]) for each in layers])
        self.slope = slope

    def forward(self, points: Tensor) -> Tensor:
        """Return the outputs (seed, point, output) for (seed, point, input)."""
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            points = torch.baddbmm(bias, F.leaky_relu(points, self.slope) if i else points, weight)
        return points


class Generators(nn.Module):
    """K generators of points for each seed: a first layer each, the others shared."""

    def __init__(self, count: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.count = count
        heads = [torch.randn(count, LATENT_DIM, WIDTH, generator=torch.Generator().manual_seed(s)) for s in seeds]
        self.heads = nn.Parameter(torch.stack(heads) / LATENT_DIM**0.5)
        self.trunk = MLPs((WIDTH, WIDTH, 2), 0.0, seeds)

    def forward(self, points: int, rngs: Sequence[torch.Generator]) -> Tensor:
        """Return points (seed, point, 2), those of the first generator first."""
        shape = self.count, points // self.count, LATENT_DIM
        latents = torch.stack([torch.randn(shape, generator=rng) for rng in rngs])
        return self.trunk(F.relu(latents @ self.heads).flatten(1, 2))


def trained(setting: Setting, seeds: Sequence[int], real_count: int) -> list[list[Check]]:
    """Train with each seed and return all checks of each."""
    rngs = [torch.Generator().manual_seed(seed) for seed in seeds]

    def real(count: int) -> Tensor:
        return torch.stack([real_points(count, rng) for rng in rngs])

    generator = Generators(setting.generators, seeds)
    discriminator, classifier = (
        MLPs((2, WIDTH, WIDTH, 1), 0.2, seeds),
        MLPs((2, WIDTH, WIDTH, setting.generators), 0.2, seeds),
    )
    adam = {"lr": setting.learning_rate, "betas": (0.5, 0.999), "fused": True}
    step_g = torch.optim.Adam(generator.parameters(), **adam)
    step_d = torch.optim.Adam([*discriminator.parameters(), *classifier.parameters()], **adam)
    made_by = torch.arange(setting.generators).repeat_interleave(BATCH // setting.generators).repeat(len(seeds))

    def logits(points: Tensor) -> Tensor:
        return discriminator(points).flatten()

    def class_logits(points: Tensor) -> Tensor:
        return classifier(points).flatten(0, 1)

    fixed = real(real_count)
    checks: list[list[Check]] = [[] for _ in seeds]
    earlier: Tensor | None = None
    for step in range(setting.steps + 1):
        if step % setting.every == 0:
            with torch.no_grad():
                log_ratio = log_density_ratio(logits(fixed)).unflatten(0, fixed.shape[:2])
                points = generator(SAMPLES, rngs)
            for i, run in enumerate(checks):
                statistics_of_run = ratio_statistics(log_ratio[i], None if earlier is None else earlier[i])
                run.append(Check(step, statistics_of_run, *diversity(points[i])))
            earlier = log_ratio
        step_g.param_groups[0]["lr"] = setting.generator_rate(step)
        fake = generator(BATCH, rngs)
        # Every run has as many points: the mean over all, times the runs, is the sum of the runs' losses, and no weight
        # but a run's own has a part in its loss.
        loss = losses.discriminator_loss(logits(real(BATCH)), logits(fake.detach()))
        if setting.generators > 1:
            loss = loss + losses.classification_loss(class_logits(fake.detach()), made_by)
        step_d.zero_grad()
        (len(seeds) * loss).backward()
        step_d.step()
        if setting.generators > 1:
            loss = losses.mixture_generator_loss(logits(fake), class_logits(fake), made_by, setting.class_weight)
        else:
            loss = losses.generator_loss(logits(fake))
        step_g.zero_grad()
        (len(seeds) * loss).backward()
        step_g.step()
    return checks


def fall_of(modes: list[int]) -> tuple[int | None, int | None]:
    """Return the checks at which the ring was covered and at which diversity fell, where there are such."""
    covered = next((i for i in range(2, len(modes)) if min(modes[i - 2 : i + 1]) >= MODES - 1), None)
    if covered is None:
        return None, None
    low = [count <= MODES // 2 for count in modes]
    return covered, next((i for i in range(covered, len(modes) - 1) if low[i] and low[i + 1]), None)


def alarms_of(checks: list[Check], rule: AlarmRule) -> list[int]:
    """Return the checks at which there is an alarm."""
    alarm = Alarm(rule)
    return [i for i, check in enumerate(checks) if alarm.check(getattr(check.ratio, rule.watch))]


def outcome(setting: Setting, checks: list[Check], rule: AlarmRule) -> Mapping[str, object]:
    """Return how a rule did in a run, in steps."""
    covered, fall = fall_of([check.modes for check in checks])
    first = next(iter(alarms_of(checks, rule)), None)
    if setting.healthy:
        verdict = "silent" if first is None else "false alarm"
    elif first is not None and checks[first].step < setting.rise_from * setting.steps:
        verdict = "false alarm"
    elif fall is None:
        verdict = "never fell, no alarm" if first is None else "never fell, alarm"
    else:
        verdict = "missed" if first is None else "alarm"
    return {
        "verdict": verdict,
        "covered": None if covered is None else checks[covered].step,
        "fall": None if fall is None else checks[fall].step,
        "first_alarm": None if first is None else checks[first].step,
        "lead": checks[fall].step - checks[first].step if verdict == "alarm" else None,
        "modes_at_the_end": statistics.mean(check.modes for check in checks[-10:]),
    }


def picture(checks: list[Check], rule: AlarmRule) -> Tensor:
    """Return the curves of a run; each alarm is a step up."""
    alarms = set(alarms_of(checks, rule))
    steps = [check.step for check in checks]
    chart = curves_chart(
        {
            "modes covered, and alarm": {
                "modes": dict(zip(steps, (float(check.modes) for check in checks), strict=True)),
                "alarm": {step: float(i in alarms) for i, step in enumerate(steps)},
            },
            "log(p_g / p_r) on real points, nats": {
                name: {check.step: getattr(check.ratio, name) for check in checks}
                for name in ("distance", "spread", "mean")
            },
            "correlation with the check before": {
                "correlation": {c.step: c.ratio.correlation for c in checks if c.ratio.correlation is not None}
            },
        },
        "step",
    )
    return picture_of(chart)


def table(outcomes: list[Mapping[str, object]]) -> str:
    """Return what came out, a row per rule and setting."""
    rows = ["| rule | setting | n | fell | alarm | false | missed | alarm without a fall | lead, steps |"]
    rows.append("|" + " --- |" * 9)
    for rule in RULES:
        for name in SETTINGS:
            runs = [o for o in outcomes if (o["rule"], o["setting"]) == (rule, name)]
            count = {v: sum(o["verdict"] == v for o in runs) for v in {o["verdict"] for o in runs}}
            leads = sorted(o["lead"] for o in runs if o["lead"] is not None)
            lead = f"median {statistics.median(leads):g}, from {leads[0]} to {leads[-1]}" if leads else "-"
            cells = [len(runs), sum(o["fall"] is not None for o in runs)]
            cells += [count.get(v, 0) for v in ("alarm", "false alarm", "missed", "never fell, alarm")]
            rows.append(f"| {rule} | {name} | {' | '.join(map(str, cells))} | {lead} |")
    return "\n".join(rows)


def main() -> None:
    """Train, judge, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs=2, default=(10, 20), metavar=("FIRST", "STOP"))
    parser.add_argument("--steps", type=int, default=Setting.steps)
    parser.add_argument("--real", type=int, default=256, help="real points that log α is taken on")
    parser.add_argument("--output", type=Path, default=Path("runs/density_ratio_alarm"))
    args = parser.parse_args()
    started, outcomes, seeds = time.monotonic(), [], range(*args.seeds)
    for name, setting in SETTINGS.items():
        setting = replace(setting, steps=args.steps)
        runs = trained(setting, seeds, args.real)
        for rule_name, rule in RULES.items():
            for seed, checks in zip(seeds, runs, strict=True):
                outcomes.append({"rule": rule_name, "setting": name, "seed": seed, **outcome(setting, checks, rule)})
        args.output.mkdir(parents=True, exist_ok=True)
        save_image(picture(runs[0], RULES["default"]), args.output / f"{name.replace(' ', '_')}.png")
    about = {
        "settings": {name: asdict(replace(setting, steps=args.steps)) for name, setting in SETTINGS.items()},
        "rules": {name: asdict(rule) for name, rule in RULES.items()},
        "seeds": list(seeds),
        "real_points": args.real,
        "seconds": round(time.monotonic() - started, 1),
        "outcomes": outcomes,
    }
    write_json(args.output / "results.json", about)
    print(table(outcomes))
    print(f"{args.output / 'results.json'}, {about['seconds']} s")


if __name__ == "__main__":
    main()
