"""Every shipped configuration trains a batch and is evaluated."""

import json
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
TINY = [
    "--model.base_width=4", "--model.feature_dim=8", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--transfer.paper.epochs=1", "--transfer.tuned.strengths=[0.1]",
]  # fmt: skip


def parts_with(config: str) -> list[str]:
    """Return the configurations that make a run together with this one."""
    kind = config.split("/")[0]
    if kind == "data":
        return ["mgan/base.yaml", config]
    if kind == "overrides":
        return ["mgan/base.yaml", "data/digits.yaml", config]
    if config == "mgan/base.yaml":
        return [config, "data/digits.yaml"]
    return [config]


@pytest.mark.parametrize("config", SHIPPED)
def test_a_shipped_configuration_trains_a_batch_and_is_evaluated(gan_lightning, tmp_path, data_root, config):
    arguments = [argument for part in parts_with(config) for argument in ("--config", CONFIGS / part)]
    if config.startswith("data/") and config != "data/digits.yaml":
        folder = data_root / "imagenet" if "imagenet" in config else data_root
        arguments += [f"--data.root={folder}", "--data.image_size=32", "--data.verify=false"]
        if "imagenet" in config or "celeba" in config:
            arguments += [f"--data.cache_dir={tmp_path / 'cache'}"]
    status, _, errors = gan_lightning("fit", *arguments, *TINY)
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/*/*")
    results = json.loads((run / "results.json").read_text())
    assert results["batches"] == 1
    final = {(r["extractor"], r["protocol"]) for r in results["records"] if r["weights"] == "trained"}
    assert final == {(e, p) for e in ("discriminator", "classifier") for p in ("paper", "tuned")}
