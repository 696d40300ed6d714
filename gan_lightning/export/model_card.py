"""The model card of an exported extractor: its training, its accuracies beside their controls, and its use."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gan_lightning.export.trained_run import TrainedRun
from gan_lightning.figures import CHANCE, PIXELS, of_content

_USE = """```python
import torch

extractor = torch.export.load("extractor.pt2").module()
features = extractor(images)  # float32 ({shape}) in [-1, 1] -> (batch, {features})
```

With the package `gan_lightning`, which takes bytes or floats of any size and prepares them by itself:

```python
from gan_lightning import load_extractor

features = load_extractor(".")(images)
```"""


def model_card(run: TrainedRun, name: str, config: Mapping[str, Any], epochs: int | None, *, onnx: bool) -> str:
    """Return the card as Markdown, with the head that model hubs read.

    Args:
        run: The run.
        name: The extractor's.
        config: The content of `config.json`.
        epochs: Epochs of training that the exported weights have had; None if unknown.
        onnx: Whether there is an ONNX file.
    """
    images, ours = config["pretrained_cfg"], config["gan_lightning"]
    model, data = config["architecture"].partition(".")[0], run.measured.about.get("data")
    shape = "batch, " + ", ".join(map(str, images["input_size"]))
    head = ["---", f"license: {images['license']}", "library_name: torch", "tags:", "- feature-extraction", "- gan"]
    head += ["datasets:", f"- {data}", "---"] if data else ["---"]
    licence = images["license"]
    said = "The licence of the weights was not stated." if licence == "unknown" else f"The weights are under {licence}."
    lines = [
        *head,
        "",
        f"# {name} of {model}" + (f", trained on {data}" if data else ""),
        "",
        f"A frozen feature extractor: images ({shape}) in [-1, 1] to {config['num_features']} features. {said}",
        "",
        "## Use it",
        "",
        _USE.format(shape=shape, features=config["num_features"]),
        "",
        f"`config.json` has the preprocessing, `model.safetensors` the weights under the names of the network"
        f"{', `model.onnx` the same network for ONNX' if onnx else ''}. Batch norm uses its {ours['batch_norm']}.",
        "",
        "## How good its features are",
        "",
        *_accuracies(run, name, epochs),
        "",
        "## How it was trained",
        "",
        *_facts(run),
        "",
    ]
    return "\n".join(lines)


def _accuracies(run: TrainedRun, name: str, epochs: int | None) -> Iterator[str]:
    """Yield a table with a row per data set and probe: the accuracy beside random weights, pixels and chance.

    A line below says so if the features were not measured with the batch-norm statistics that are exported.
    """
    figures = [each for each in run.measured.figures if each.measurement == "transfer" and each.epoch in (None, epochs)]
    values = {each.name: each for each in figures if not each.is_point}
    own = [each for each in values.values() if each.subject == name and each.weights == "trained"]
    if not own:
        yield "The features of these weights were not measured."
        return
    yield (
        "Accuracy on the test images of a classifier on the frozen features, beside the same network with random "
        "weights, the pixels, and always the most frequent class. One run, seed "
        f"{run.measured.about.get('seed')}: no interval."
    )
    yield ""
    yield "| data set | probe | accuracy | random weights | pixels | chance | test images |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for each in own:
        pixels = replace(each, subject=PIXELS, weights="none")
        beside = (replace(each, weights="random"), pixels, replace(pixels, subject=CHANCE, protocol=""))
        cells = [f"{values[other.name].value:.4f}" if other.name in values else "-" for other in beside]
        data = each.condition or run.measured.about.get("data")
        yield f"| {data} | {each.protocol} | {each.value:.4f} | {' | '.join(cells)} | {each.images} |"
    section = run.measured.sections.get("transfer")
    if section is not None and section.settings.get("batch_norm", "running") != "running":
        yield ""
        yield (
            "These are accuracies of features whose batch norm has other statistics "
            f"(`transfer.batch_norm={section.settings['batch_norm']}`) than the exported network, whose statistics "
            "were gathered in training."
        )


def _facts(run: TrainedRun) -> Iterator[str]:
    """Yield a table of the training's settings."""
    about = run.measured.about
    data = of_content(about.get("data_settings", {}))
    trained = {key: about.get(key) for key in ("seed", "epochs", "batches")}
    package = run.about.get("versions", {}).get("gan-lightning")
    of_run = {"precision": run.about.get("precision"), "gan_lightning": package, "commit": run.about.get("git_commit")}
    yield "| setting | value |"
    yield "| --- | --- |"
    for name, value in {
        "model": about.get("model"),
        **{f"model.{key}": value for key, value in about.get("model_settings", {}).items()},
        "data": about.get("data"),
        **{f"data.{key}": value for key, value in data.items()},
        **trained,
        **of_run,
    }.items():
        if value is not None:
            shown = str(value).replace("|", "\\|").replace("\n", " ")
            yield f"| {name} | {shown} |"
