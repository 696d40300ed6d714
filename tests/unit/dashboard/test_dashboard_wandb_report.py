"""The W&B report's specification, built without a server."""

import sys

import pytest

from gan_lightning.dashboard.wandb_report import build_report, main
from gan_lightning.errors import SettingError


@pytest.fixture
def panels(monkeypatch):
    """Return the panels of a report as they would be sent; its one question to the server is answered here."""
    interface = pytest.importorskip("wandb_workspaces.reports.v2.interface", reason="needs the extra `report`")
    monkeypatch.setattr(interface, "_get_api", lambda: None)
    monkeypatch.setattr(interface, "execute_graphql", lambda *_, **__: {"project": {"internalId": "UHJvamVjdDox"}})
    report = build_report("team", "gans", "shares_removed", "paper", ["discriminator", "classifier"])
    spec = report._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    (grid,) = [block for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert grid["metadata"]["runSets"][0]["grouping"][0]["name"] == "shares_removed.value"
    return {panel["config"]["chartTitle"]: panel for panel in grid["metadata"]["panelBankSectionConfig"]["panels"]
            if "chartTitle" in panel["config"]}  # fmt: skip


def test_the_panels_ask_for_what_runs_log(panels):
    bars = panels["Accuracy against shares_removed"]["config"]
    assert bars["metrics"] == [f"transfer/{name}/paper/accuracy" for name in ("discriminator", "classifier")]
    assert (bars["groupBy"], bars["groupAgg"], bars["groupArea"]) == ("shares_removed.value", "mean", "stderr")
    points = panels["classifier: every run"]["config"]
    assert (points["xAxis"], points["yAxis"]) == (
        "config:shares_removed.value", "summary:transfer/classifier/paper/accuracy",
    )  # fmt: skip
    curves = panels["classifier: the probe over its epochs"]["config"]
    assert curves["xAxis"] == "curve/head_epoch"
    assert curves["metrics"] == [
        "curve/transfer/classifier/paper/accuracy",
        "curve/transfer/classifier/paper/random_weights/accuracy",
    ]


def test_a_project_without_its_entity_and_a_missing_extra_are_named(monkeypatch):
    with pytest.raises(SettingError, match="project must be ENTITY/PROJECT, got 'gans'"):
        main(["gans"])
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(SettingError, match=r"pip install 'gan-lightning\[report\]'"):
        main(["team/gans"])
