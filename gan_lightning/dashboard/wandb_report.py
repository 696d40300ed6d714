"""The dashboard's comparison as a W&B report: `python -m gan_lightning.dashboard.wandb_report ENTITY/PROJECT`.

Needs the extra `report`. W&B draws means with a standard error instead of Student's intervals. It knows neither the
papers' figures nor pairs of runs; `gan-lightning dashboard` has both.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any

from gan_lightning.errors import SettingError, UserError, exit_with

EXTRACTORS = ("discriminator", "classifier")


def parser() -> argparse.ArgumentParser:
    """Return the parser of this script."""
    parser = argparse.ArgumentParser(prog="python -m gan_lightning.dashboard.wandb_report", description=__doc__)
    parser.add_argument("project", help="ENTITY/PROJECT of the runs")
    # Every run's configuration has the plain name of the model's setting. Only a sweep's has its dotted key.
    parser.add_argument("--x", default="shares_removed", help="setting on the x axis (default: %(default)s)")
    parser.add_argument("--protocol", default="paper", help="protocol of the accuracies (default: %(default)s)")
    parser.add_argument("--extractors", nargs="+", default=list(EXTRACTORS), help="default: %(default)s")
    return parser


def build_report(entity: str, project: str, x: str, protocol: str, extractors: Sequence[str]) -> Any:
    """Return a report with the accuracies against a setting, the probe's curves and the losses, grouped over seeds.

    Raises:
        SettingError: If wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        raise SettingError(
            "the report needs wandb-workspaces, which is not installed; install it with: "
            "pip install 'gan-lightning[report]'"
        ) from error
    setting = wr.Config(x)
    metrics = {name: f"transfer/{name}/{protocol}/accuracy" for name in extractors}
    over_seeds: dict[str, Any] = {"groupby": setting, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    wide = wr.Layout(w=24, h=9)
    bars = wr.BarPlot(title=f"Accuracy against {x}", metrics=list(metrics.values()), layout=wide, **over_seeds)
    panels: list[Any] = [
        bars,
        *(
            wr.ScatterPlot(title=f"{name}: every run", x=setting, y=wr.SummaryMetric(metric), running_ymean=True)
            for name, metric in metrics.items()
        ),
        *(
            wr.LinePlot(title=f"{name}: the probe over its epochs", x="curve/head_epoch", **over_seeds,
                        y=[f"curve/transfer/{name}/{protocol}/{of}accuracy" for of in ("", "random_weights/")])
            for name in extractors
        ),
        wr.LinePlot(title="Losses", y=["train/generator_loss", "train/discriminator_loss"], **over_seeds),
        wr.MediaBrowser(title="Samples", media_keys=["samples"]),
    ]  # fmt: skip
    runs = wr.Runset(entity=entity, project=project, name="runs", groupby=[f"config.{x}"])
    return wr.Report(
        entity=entity,
        project=project,
        title=f"{' and '.join(extractors)} against {x}",
        description=f"Accuracies under the protocol '{protocol}'; means over seeds with their standard errors.",
        blocks=[wr.H1(f"Which features are better, as {x} changes?"), wr.PanelGrid(runsets=[runs], panels=panels)],
    )


def main(arguments: Sequence[str]) -> None:
    """Build the report and save it as a draft in W&B. This needs an account."""
    settings = parser().parse_args(arguments)
    if not re.fullmatch(r"[^/]+/[^/]+", settings.project):
        raise SettingError(f"project must be ENTITY/PROJECT, got '{settings.project}'.")
    entity, project = settings.project.split("/")
    report = build_report(entity, project, settings.x, settings.protocol, settings.extractors)
    report.save(draft=True)
    print(report.url)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        exit_with(error)
