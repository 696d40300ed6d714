"""The worth of each layer of the extractors: accuracies over their depth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rich.table import Table
from torch import nn

from gan_lightning.errors import SettingError, at_least, refused
from gan_lightning.evaluation.curves import picture_of
from gan_lightning.evaluation.layer_chart import DepthCurve, depth_chart
from gan_lightning.evaluation.probes import TUNED, NearestProbe, PaperProbe, TunedProbe
from gan_lightning.figures import CHANCE, PIXELS, Best, Figure
from gan_lightning.interfaces import HasExtractors
from gan_lightning.measurements.bench import BatchNorm, Bench
from gan_lightning.measurements.labels import check_labels
from gan_lightning.measurements.measurement import Measurement, Outcome
from gan_lightning.measurements.transfer import Transfer
from gan_lightning.nets.adapted_network import AdaptedNetwork
from gan_lightning.nets.layer_tap import stage_or_layer
from gan_lightning.nets.stages import stages_of

Layer = tuple[str, str]
"""An extractor, and a layer of it."""


@dataclass(frozen=True, kw_only=True)
class LayerAccuracy(Measurement):
    """Freezes the extractors and classifies by the output of each of their layers; off by default.

    Figures: `layers/<extractor>/<probe>/<layer>/accuracy`; of the controls
    `layers/<extractor>/<probe>/random_weights/<layer>/accuracy`, the stronger of two kinds of batch-norm statistics as
    in `transfer`, `layers/pixels/<probe>/accuracy` and `layers/chance/accuracy`. A picture has the accuracies over the
    depth.

    Args:
        enabled: Whether to measure at all.
        every_n_epochs: Epochs between two measurements of the trained extractors while they train; 0 measures after the
            training alone.
        names: Names of stages or of modules, as `named_modules()` of an extractor has them. By default all stages: the
            convolutions, each with all that follows it up to the next one. An extractor without any of them is left
            out.
        extractors: Names of the extractors; by default all.
        paper: The papers' probe; null leaves it out.
        tuned: The tuned linear probe; null leaves it out.
        nearest: The 1-nearest-neighbour accuracy; null leaves it out.
        batch_norm: Batch-norm statistics of the trained extractors: "running" were gathered in training, "real" are
            estimated on the training images.
        pool: Edge to which maps are averaged before they become features; null takes them whole, which are many numbers
            in the first layers.
        seed: Of all that is drawn; by default the run's.

    Source:
        Alain and Bengio 2016, section 3: a linear classifier on each layer of a frozen network.
    """

    name: ClassVar[str] = "layers"
    needs: ClassVar[tuple[type, ...]] = (HasExtractors,)

    enabled: bool = False
    names: Sequence[str] = ()
    extractors: Sequence[str] = ()
    paper: PaperProbe | None = None
    tuned: TunedProbe | None = TUNED
    nearest: NearestProbe | None = None
    batch_norm: BatchNorm = "running"
    pool: int | None = 2
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            SettingError: `pool` or `every_n_epochs` is out of range, or a name stands twice.
        """
        super().__post_init__()
        if self.pool is not None:
            at_least(self, 1, pool=self.pool)
        for setting in ("names", "extractors"):
            if len(set(given := getattr(self, setting))) < len(given):
                raise refused(self, setting, "name each once", list(given))

    def passes_over(self, bench: Bench) -> str | None:
        """Return why there is nothing to measure: no probe, or no layers."""
        if reason := super().passes_over(bench) or self._transfer().passes_over(bench):
            return reason
        # What is asked for by name is refused by `check`, which says what there is.
        if self.names or self.extractors or next(self._layers(bench, bench.networks), None) is not None:
            return None
        return f"{bench.subject} has no extractor with convolutions as stages, and no layers are named"

    def check(self, bench: Bench) -> None:
        """Check labels, layers and controls.

        Raises:
            DataError: A split has no labels, or there are fewer than two classes.
            SettingError: There is no such extractor or layer, a layer's output are no features, or there can be no
                random-weights control.
        """
        check_labels(bench, self.name)
        if unknown := sorted(set(self.extractors) - set(self._names_of(bench))):
            known = f"Choose from {sorted(set(self._names_of(bench)))}."
            raise refused(self, "extractors", "name extractors", unknown, known)
        bench.check_networks()
        found = dict(self._layers(bench, bench.networks))
        if lacking := [name for name in self.names if name not in {layer for _, layer in found}]:
            self._refuse(bench, lacking[0])
        bench.check_networks({".".join(each): network for each, network in found.items()})
        if bench.controls:
            bench.control(self.seed)  # fails now if it would fail after the training

    def metrics(self, bench: Bench) -> Mapping[str, Best | None]:
        """Return the accuracies of the trained extractors' layers."""
        return {
            self.figure("accuracy", 0.0, subject=extractor, protocol=probe.name, condition=layer).name: "max"
            for extractor, layer in dict(self._layers(bench, bench.networks))
            for probe in self._transfer().all_probes
        }

    def run(self, bench: Bench) -> Outcome:
        """Return the accuracies of each layer and of its controls."""
        figures: list[Figure] = []
        features: dict[str, int] = {}
        random = dict(self._layers(bench, bench.control(self.seed).networks)) if bench.controls else {}
        layers = dict(self._layers(bench, bench.networks))
        for done, (layer, network) in enumerate(layers.items()):
            bench.report("layers", done, len(layers))
            found = self._of_layer(bench, layer, network, random.get(layer), first=not figures)
            features[".".join(layer)] = found.details["features"][layer[0]]
            without_layer = () if not figures else (PIXELS, CHANCE)
            kept = [each for each in found.figures if not (each.is_point or each.condition)]
            figures += [self._renamed(each, layer) for each in kept if each.subject not in without_layer]
        pictures = {} if not bench.controls else {"": self._picture(bench, figures)}
        return Outcome(figures, {"features": features}, pictures, tables=[self._table(bench, figures)])

    def _of_layer(
        self, bench: Bench, layer: Layer, network: nn.Module, random: nn.Module | None, *, first: bool
    ) -> Outcome:
        """Return what `transfer` finds of one layer. One at a time: the maps of all would need much memory."""
        inner = Bench(
            {layer[0]: network},
            bench.data,
            random_networks=None if random is None else {layer[0]: random},
            device=bench.device,
            controls=bench.controls,
            epoch=bench.epoch,
            batches=bench.batches_trained,
            seed=bench.seed_for(self.seed),
            progress=bench.report,
        )
        return inner.run(self._transfer(random_weights=random is not None, raw_pixels=first))

    def _transfer(self, *, random_weights: bool = True, raw_pixels: bool = True) -> Transfer:
        return Transfer(
            paper=self.paper,
            tuned=self.tuned,
            nearest=self.nearest,
            random_weights=random_weights,
            raw_pixels=raw_pixels,
            batch_norm=self.batch_norm,
            pool=self.pool,
            seed=self.seed,
        )

    def _renamed(self, figure: Figure, layer: Layer) -> Figure:
        of_layer = figure.subject not in (PIXELS, CHANCE)
        return replace(figure, measurement=self.name, condition=layer[1] if of_layer else "")

    def _layers(self, bench: Bench, networks: Mapping[str, nn.Module]) -> Iterator[tuple[Layer, nn.Module]]:
        """Yield each layer, and the network up to it. Extractors that are layers themselves are taken as they are."""
        for name, network in networks.items():
            if self.extractors and _whole(name, network) not in self.extractors:
                continue
            if isinstance(network, AdaptedNetwork) and network.layer:
                if not self.names or network.layer in self.names:
                    yield (_whole(name, network), network.layer), network
                continue
            for layer in self.names or dict(stages_of(network).named_children()):
                try:
                    yield (name, layer), _up_to(network, layer)
                except SettingError:  # another extractor has it, or else `check` refuses it
                    continue

    def _names_of(self, bench: Bench) -> list[str]:
        return [_whole(name, network) for name, network in bench.networks.items()]

    def _refuse(self, bench: Bench, layer: str) -> None:
        """Refuse a layer that no extractor has, with the closest names of the first one."""
        for name, network in bench.networks.items():
            if not self.extractors or _whole(name, network) in self.extractors:
                try:
                    _up_to(network, layer)
                except SettingError as error:
                    said = str(error).removeprefix("layers").replace("the network", repr(name), 1)
                    raise SettingError(f"names{said}", self, self.names) from error

    def _picture(self, bench: Bench, figures: Sequence[Figure]) -> Any:
        """Return the accuracies of the first probe over the depth."""
        protocol = self._transfer().all_probes[0].name
        curves: dict[str, DepthCurve] = {}
        levels: dict[str, float] = {}
        for each in figures:
            if each.subject == CHANCE or (each.subject == PIXELS and each.protocol == protocol):
                levels[each.subject] = each.value
            elif each.protocol == protocol:
                curve = curves.setdefault(each.subject, DepthCurve({}, {}))
                values = curve.trained if each.weights == "trained" else curve.random
                values[each.condition] = each.value  # type: ignore[index]
        title = f"Accuracy on {bench.data.name} over the depth, {protocol} probe"
        return picture_of(depth_chart(curves, levels, title))

    def _table(self, bench: Bench, figures: Sequence[Figure]) -> Table:
        values = {each.name: each.value for each in figures}
        table = Table(title=f"Layers on {bench.data.name}: accuracy on the frozen features of each")
        for column in ("Extractor", "Layer", "Probe"):
            table.add_column(column, no_wrap=True)
        for column in ("Accuracy", *(("Random weights", "Raw pixels", "Chance") if bench.controls else ())):
            table.add_column(column, justify="right")
        for each in figures:
            if each.weights != "trained":
                continue
            pixels = replace(each, subject=PIXELS, weights="none", condition="")
            beside = (replace(each, weights="random"), pixels, replace(pixels, subject=CHANCE, protocol=""))
            cells = [values.get(other.name) for other in beside] if bench.controls else []
            shown = ("-" if value is None else f"{value:.4f}" for value in (each.value, *cells))
            table.add_row(each.subject, each.condition, each.protocol, *shown)
        return table


def _whole(name: str, network: nn.Module) -> str:
    """Return the name of the network that an extractor is a layer of, or else the extractor's own."""
    layer = network.layer if isinstance(network, AdaptedNetwork) else ""
    return name.removesuffix(f".{layer}") if layer else name


def _up_to(network: nn.Module, layer: str) -> nn.Module:
    """Return a network up to a stage or a module.

    Raises:
        SettingError: It has neither.
    """
    return network.up_to(layer) if isinstance(network, AdaptedNetwork) else stage_or_layer(network, layer)
