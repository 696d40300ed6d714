"""Every shipped configuration trains a batch and is evaluated."""

import csv
from itertools import cycle
from pathlib import Path

import pytest
import yaml

from gan_lightning import papers
from gan_lightning.figures import RunFigures, read_figures

pytestmark = pytest.mark.usefixtures("few_axes")

CONFIGS = Path(__file__).parents[2] / "configs"
SHIPPED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
BESIDE = ("bigan/digits.yaml", "bigan/authors_code.yaml")
TABLE_1 = [config for config in SHIPPED if Path(config).parent == Path("bigan") and config not in BESIDE]
TINY = [
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1",
    "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--transfer.paper.epochs=1", "--transfer.tuned.strengths=[0.1]",
]  # fmt: skip
BOTH = ("paper", "tuned")
WORKING_ADAM = "selfexgan/working_adam.yaml"
"""Goes on top of any other configuration of its folder."""

TINY_MGAN = ["--model.base_width=4", "--model.feature_dim=8"]
TINY_MLP = ["--model.networks.width=8"]
ON_FEW = ["--data.limit=200"]
TINY_CONVNETS = ["--model.networks.base_width=2", "--model.networks.encoder_width=6"]


def parts_with(config: str) -> list[str]:
    """Return the configurations that make a run together with this one."""
    folder = str(Path(config).parent)
    return {
        "data": ["mgan/base.yaml", config],
        "overrides": ["mgan/base.yaml", "data/digits.yaml", config],
        "mgan": [config, "data/digits.yaml"],
        "bigan/data": ["bigan/images/bigan.yaml", config],
        "bigan/images": [config, "bigan/data/celeba64.yaml"],
        "selfexgan": [*(["selfexgan/digits.yaml"] if config == WORKING_ADAM else []), config],
    }.get(folder, [config])


def trained_in_a_batch(gan_lightning, tmp_path, data_root, parts: list[str], *more: str) -> RunFigures:
    """Return the figures of a small run of these configurations, whose data come from `data_root`."""
    arguments = [argument for part in parts for argument in ("--config", CONFIGS / part)]
    data = next((part for part in reversed(parts) if "data/" in part), parts[-1])
    if not data.endswith(("digits.yaml", "quickstart.yaml")):
        folder = data_root / "imagenet" if "imagenet" in data else data_root
        arguments += [f"--data.root={folder}", "--data.verify=false"]
        if "imagenet" in data or "celeba" in data:
            arguments += [f"--data.cache_dir={tmp_path / 'cache'}"]
    status, _, errors = gan_lightning("fit", *arguments, *TINY, *more)
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/*/*")
    results = read_figures(run / "figures.json")
    assert results.about["batches"] == 1
    return results


def trained_extractors(results: RunFigures) -> set[tuple[str, str]]:
    transfer = [figure for figure in results.figures if figure.measurement == "transfer"]
    return {(figure.subject, figure.protocol) for figure in transfer if figure.weights == "trained"}


@pytest.mark.parametrize("config", [c for c in SHIPPED if not c.startswith(("bigan/", "selfexgan/", "subproblem/"))])
def test_a_shipped_configuration_trains_a_batch_and_is_evaluated(gan_lightning, tmp_path, data_root, config):
    size = ["--data.image_size=32"] if config.startswith("data/") and config != "data/digits.yaml" else []
    results = trained_in_a_batch(gan_lightning, tmp_path, data_root, parts_with(config), *TINY_MGAN, *ON_FEW, *size)
    assert trained_extractors(results) == {(e, p) for e in ("discriminator", "classifier") for p in BOTH}


QUICK = {"bigan/permutation_invariant_mnist.yaml", "bigan/images/bigan.yaml", "selfexgan/digits.yaml"}
"""Of each kind of networks one that the fast suite trains; the slow suite trains the others."""


def slow_but_one(configs: list[str]) -> list:
    """Return the configurations, those that are not among the quick ones marked as slow."""
    return [config if config in QUICK else pytest.param(config, marks=pytest.mark.slow) for config in configs]


@pytest.mark.parametrize(
    "config", slow_but_one([c for c in SHIPPED if c.startswith("bigan/") and c != "bigan/digits.yaml"])
)
def test_a_configuration_of_bigan_trains_a_batch_and_is_evaluated(gan_lightning, tmp_path, data_root, config):
    images = config.startswith(("bigan/data/", "bigan/images/"))
    # On 12,288 pixels the tuned probe takes its time.
    tiny = [*TINY_CONVNETS, "--transfer.tuned=null"] if images else TINY_MLP
    protocols = ("paper", "nearest") if images else (*BOTH, "nearest")
    results = trained_in_a_batch(gan_lightning, tmp_path, data_root, parts_with(config), *tiny)
    if "imagenet" in config:
        assert trained_extractors(results) == set()
        (run,) = tmp_path.glob("runs/*/*")
        few = ["--transfer.pool=1", "--transfer.raw_pixels=false", "--transfer.nearest=null", "--transfer.tuned=null"]
        status, _, errors = gan_lightning("measure", run, "--transfer.enabled=true", *few, "--transfer.paper.epochs=1")
        assert status == 0, errors
        results, protocols = read_figures(run / "figures.json"), ("paper",)
    extractors = ["discriminator"] if config.endswith("discriminator.yaml") else ["encoder", "encoder_hidden"]
    assert trained_extractors(results) == {(e, p) for e in extractors for p in protocols}
    assert len(list(tmp_path.rglob("pictures/reconstruction.png"))) == ("encoder" in extractors)
    with_neighbours = images and "imagenet" not in config
    assert len(list(tmp_path.rglob("pictures/neighbours-*.png"))) == (len(extractors) if with_neighbours else 0)
    assert results.sections["transfer"].settings["batch_norm"] == "real"
    networks = results.about["model_settings"]["networks"]
    assert networks["class"] == ("ImageNetworks" if images else "PermutationInvariantNetworks")
    assert results.about["data_settings"]["image_size"] == (112 if "112" in config else 64 if images else 28)


@pytest.mark.parametrize("config", slow_but_one([c for c in SHIPPED if c.startswith("selfexgan/")]))
def test_a_configuration_of_selfexgan_trains_a_batch_with_the_table_of_its_data(
    gan_lightning, tmp_path, data_root, config
):
    name = Path(config).stem
    if name == "cartoon":  # a folder without labels, so nothing is evaluated
        arguments = [
            f"--data.root={data_root / 'imagenet/train/class0'}", f"--data.cache_dir={tmp_path / 'cache'}",
            "--data.test_fraction=0.3",
        ]  # fmt: skip
        status, _, errors = gan_lightning(
            "fit", "--config", CONFIGS / config, *TINY, "--model.base_width=2", *arguments
        )
        assert status == 0, errors
        (run,) = tmp_path.glob("runs/selfexgan-class0/*")
        assert "train/matching_loss" in (run / "metrics.csv").read_text()
        return
    # On 12,288 pixels the tuned probe takes its time.
    results = trained_in_a_batch(
        gan_lightning, tmp_path, data_root, parts_with(config), "--model.base_width=2", "--transfer.tuned=null"
    )
    extractors = ("encoder", "encoder_hidden", "discriminator")
    assert trained_extractors(results) == {(extractor, "paper") for extractor in extractors}
    settings = results.about["model_settings"]
    working = config == WORKING_ADAM
    assert settings["tables"] == {"digits": "mnist", "working_adam": "mnist", "imagenet32": "imagenet"}.get(name, name)
    assert (settings["learning_rate"], settings["betas"]) == (1e-3, [0.5, 0.999] if working else [0.9, 0.99])
    data = results.about["data_settings"]
    images = {"mnist": 30000, "svhn": 40000, "cifar10": 35000, "digits": None, "working_adam": None}.get(name, 40000)
    assert (data["batch_size"], data["limit"]) == (64, images)
    assert data["image_size"] == (64 if "celeba" in name else 32)
    assert data.get("crop_size") == (64 if name == "celeba_crop" else None)


@pytest.mark.parametrize("column", TABLE_1)
def test_every_column_of_table_1_has_its_published_figure_and_a_variant_on_the_digits(
    gan_lightning, tmp_path, data_root, column
):
    results = trained_in_a_batch(gan_lightning, tmp_path, data_root, [column, "bigan/digits.yaml"], *TINY_MLP, *ON_FEW)
    assert results.about["data"] == "digits"
    settings = results.about["model_settings"] | {"networks": papers.PermutationInvariantNetworks(width=4)}
    settings.pop("optimizer")
    settings.pop("generator_update", None)
    published = getattr(papers, results.about["model"])(**settings).published_figures("mnist")
    expected = {
        "permutation_invariant_mnist": 0.9739, "discriminator": 0.9730, "latent_regressor": 0.9744,
        "joint_latent_regressor": 0.9713, "autoencoder_l2": 0.9758, "autoencoder_l1": 0.9763,
    }  # fmt: skip
    assert [figure.value for figure in published.values()] == [expected[Path(column).stem]]
    names = {figure.name.removesuffix("/accuracy") for figure in results.figures}
    assert {name.removesuffix("/accuracy") for name in published} <= names


@pytest.mark.parametrize(
    "parts", [["subproblem/dcgan_celeba.yaml"], ["subproblem/dcgan_celeba.yaml", "subproblem/dcgan_digits.yaml"]]
)
def test_dcgan_has_the_tutorials_settings_and_a_variant_on_the_digits(gan_lightning, tmp_path, data_root, parts):
    tiny = ["--model.networks.base_width=2", "--transfer.tuned=null", *ON_FEW]
    results = trained_in_a_batch(gan_lightning, tmp_path, data_root, parts, *tiny)
    assert trained_extractors(results) == {("discriminator", "paper")}
    settings = results.about["model_settings"]
    assert settings["networks"] == {"class": "TutorialNetworks", "latent_dim": 100, "base_width": 2}
    assert (settings["simultaneous"], settings["latent_prior"]) == (False, "normal")
    assert settings["optimizer"] == {
        "class": "DecayedAdam", "learning_rate": 2e-4, "betas": [0.5, 0.999], "weight_decay": 0.0, "final_share": 1.0,
        "epsilon": 1e-8,
    }  # fmt: skip
    assert results.about["data_settings"]["batch_size"] == 128
    assert results.about["data"] == ("celeba" if len(parts) == 1 else "digits")


SUBPROBLEMS = [config for config in SHIPPED if config.startswith("subproblem/") and "dcgan" not in config]
ON_DIGITS = {
    "MGAN": ["mgan/base.yaml", "data/digits.yaml"],
    "BiGAN": ["bigan/permutation_invariant_mnist.yaml", "bigan/digits.yaml"],
    "LatentRegressor": ["bigan/joint_latent_regressor.yaml", "bigan/digits.yaml"],
    "GAN": ["subproblem/dcgan_celeba.yaml", "subproblem/dcgan_digits.yaml"],
    "SelfExGAN": ["selfexgan/digits.yaml"],
}


@pytest.mark.parametrize(("config", "model"), list(zip(SUBPROBLEMS, cycle(ON_DIGITS), strict=False)))
def test_an_update_of_the_generator_goes_on_top_of_any_model(gan_lightning, tmp_path, data_root, config, model):
    tiny = {
        "MGAN": TINY_MGAN, "GAN": ["--model.networks.base_width=2"], "SelfExGAN": ["--model.base_width=4"],
    }.get(model, TINY_MLP)  # fmt: skip
    configs = [argument for part in [*ON_DIGITS[model], config] for argument in ("--config", CONFIGS / part)]
    # The monitor tells whose gradient the step took; the evaluation is the same as without.
    more = ["--subproblem.every_n_batches=1", "--data.batch_size=20", "--data.limit=40"]
    more += [f"--{name}.enabled=false" for name in ("transfer", "anatomy", "reconstruction", "samples", "filters")]
    status, _, errors = gan_lightning("fit", *configs, *TINY, *tiny, *more)
    assert status == 0, errors
    (run,) = tmp_path.glob("runs/*/*")
    resolved = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert resolved["class_path"].endswith(f".{model}")
    without = Path(config).stem in ("implicit_maximum_likelihood", "nearest_real_images")
    kind = "TargetRegression" if without else "InverseExamples"
    assert resolved["init_args"]["generator_update"]["class_path"].endswith(f".{kind}")
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    (ratio,) = (float(row["subproblem/gradient_ratio"]) for row in rows if row["subproblem/gradient_ratio"])
    if config in [f"subproblem/{name}.yaml" for name in ("paper_sum", "paper_mean", "exact")]:
        assert ratio == pytest.approx(1.0, rel=1e-4)
    else:
        assert abs(ratio - 1.0) > 0.1
