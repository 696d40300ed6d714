"""How nearly the encoder and the generator invert each other, as figures and as a picture."""

from collections.abc import Iterator
from dataclasses import asdict

import torch
from lightning.pytorch import LightningModule, Trainer
from rich import get_console
from rich.table import Table
from torch import Tensor

from gan_lightning.callbacks.after_training import AfterTraining, evaluation_batches, provenance, weights_precision
from gan_lightning.callbacks.run_folder import is_dry_run, run_folder, write_picture
from gan_lightning.errors import SettingError
from gan_lightning.evaluation import (
    BatchNorm,
    Reconstruction,
    first_images,
    frozen,
    image_reconstruction,
    latent_reconstruction,
    reconstruction_statistics,
    reconstructions_picture,
)
from gan_lightning.files import write_json
from gan_lightning.interfaces import EncodesImages, LabelledImages
from gan_lightning.processes import process_count, process_rank
from gan_lightning.resizing import resized


class Reconstructions(AfterTraining):
    """Measures ‖x - G(E(x))‖ on the test split and ‖z - E(G(z))‖ on as many latents, after a fit and under `test`.

    Each stands beside the distance to another sample's reconstruction. Prints a table, logs `reconstruction/image`,
    `reconstruction/latent` and both with `_other`, writes `reconstructions.json` and `pictures/reconstructions.png`:
    rows of the first test images, each above the row of their reconstructions. Models without an encoder and a
    generator are passed over, and data modules that declare no images.

    Args:
        enabled: Whether to measure at all.
        batch_norm: Batch-norm statistics that E and G are measured with: "running" are those of training, "real" those
            of G(E(x)) on the training images.
        images: Images in the picture.
        seed: Seed of the latents, and of which other sample each one is compared with.

    Source:
        Donahue et al. 2017, Theorem 2 and Figures 2 and 4.
    """

    def __init__(
        self, enabled: bool = True, batch_norm: BatchNorm = "running", images: int = 20, seed: int = 0
    ) -> None:
        if images < 1:
            raise SettingError(f"reconstructions.images must be at least 1, got {images}.")
        self.enabled, self.batch_norm, self.images, self.seed = enabled, batch_norm, images, seed
        self.measured: dict[str, Reconstruction] = {}
        """What was measured last: `image` and `latent`."""

    def applies(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether the model has an encoder and a generator."""
        data = getattr(trainer, "datamodule", None)
        return self.enabled and isinstance(pl_module, EncodesImages) and isinstance(data, LabelledImages)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that test images have others to be compared with, before any training.

        Raises:
            SettingError: If they come one by one.
        """
        if stage not in ("fit", "test") or is_dry_run(trainer) or not self.applies(trainer, pl_module):
            return
        images, _ = next(iter(evaluation_batches(trainer, "test", torch.device("cpu"))))
        if len(images) < 2:
            raise SettingError(
                "data.evaluation_batch_size must be at least 2 to compare reconstructions with those of other images, "
                "got batches of 1 test image. Use larger batches and two images or more, or switch it off with "
                "--reconstructions.enabled=false."
            )

    @torch.no_grad()
    def evaluate(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure and draw."""
        assert isinstance(pl_module, EncodesImages)
        data: LabelledImages = trainer.datamodule  # type: ignore[attr-defined]
        batches = evaluation_batches(trainer, "test", pl_module.device)
        encode, decode = pl_module.encode, pl_module.decode
        train = evaluation_batches(trainer, "train", pl_module.device) if self.batch_norm == "real" else None
        with (
            frozen({type(pl_module).__name__: pl_module}),
            weights_precision(trainer),
            reconstruction_statistics(pl_module, train),
        ):
            image = image_reconstruction(batches, encode, decode, seed=self.seed)
            latent = latent_reconstruction(self._latents(pl_module, image.samples), encode, decode, seed=self.seed)
            shown = first_images(batches, self.images)
            reconstructed = decode(encode(shown))
        self.measured = {"image": image, "latent": latent}
        if not trainer.is_global_zero:
            return
        metrics: dict[str, float] = {}
        for name, found in self.measured.items():
            metrics |= {f"reconstruction/{name}": found.distance, f"reconstruction/{name}_other": found.other_distance}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        picture = reconstructions_picture(resized(shown, reconstructed.shape[-1]), reconstructed)
        write_picture(trainer, "pictures/reconstructions", picture, "reconstructions")
        if (folder := run_folder(trainer)) is not None:
            figures = {name: asdict(found) for name, found in self.measured.items()}
            settings = {"seed": self.seed, "batch_norm": self.batch_norm, "split": "test"}
            about = {**provenance(trainer, pl_module), **settings, "reconstructions": figures}
            write_json(folder / "reconstructions.json", about)
        get_console().print(reconstruction_table(image, latent, data.name))

    def _latents(self, model: EncodesImages, count: int) -> Iterator[Tensor]:
        """Yield this process's share of `count` latents, which are the same however many processes there are."""
        rng = torch.Generator(model.device).manual_seed(self.seed)  # type: ignore[attr-defined]
        mine = model.sample_latents(count, rng).tensor_split(process_count())[process_rank()]
        yield from mine.split(500)


def reconstruction_table(image: Reconstruction, latent: Reconstruction, data: str) -> Table:
    """Return a table with a row for images and one for latents."""
    table = Table(title=f"Reconstructions on {data}: mean ℓ2")
    table.add_column("Distance", no_wrap=True)
    for column in ("Own", "Another's", "Share"):
        table.add_column(column, justify="right")
    for name, found in (("‖x - G(E(x))‖", image), ("‖z - E(G(z))‖", latent)):
        share = found.distance / found.other_distance if found.other_distance else float("nan")
        table.add_row(name, f"{found.distance:.3f}", f"{found.other_distance:.3f}", f"{share:.1%}")
    return table
