"""What every adversarial model does alike: stepping optimizers by hand, counting, and stopping at a NaN."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from gan_lightning.errors import NonFiniteError, SettingError
from gan_lightning.interfaces import Batch, Images


class AdversarialModule(LightningModule, ABC):
    """A model whose networks are trained by several optimizers, stepped by hand.

    Counters are saved with the weights: `images_seen` (real images of this process), `d_steps`, `g_steps`.
    `trainer.global_step`, and with it `max_steps` and `every_n_train_steps`, counts batches: of the optimizers
    stepped in a batch only one advances it.
    """

    images_seen: Tensor
    d_steps: Tensor
    g_steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        for counter in ("images_seen", "d_steps", "g_steps"):
            self.register_buffer(counter, torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizers, in the order in which `training_step` steps them."""

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Do the paper's algorithm on one batch of (images, labels)."""

    @abstractmethod
    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return losses on images that are not trained on, under their names; `rng` draws the latents."""

    @abstractmethod
    def extractors(self) -> Mapping[str, nn.Module]:
        """Return each extractor under its name; each maps images to features (batch, feature)."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses on held-out images, with batch norm's running statistics."""
        self._log_held_out_losses("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses on test images."""
        self._log_held_out_losses("test", batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the labels and each extractor's features."""
        images, labels = batch
        return {"labels": labels} | {name: extractor(images) for name, extractor in self.extractors().items()}

    def setup(self, stage: str) -> None:
        """Refuse float16 loss scaling, whose scale would change between two steps of one batch; fit DDP to GANs.

        No loss of a GAN reaches all parameters, so DDP has to search each graph for those that it does reach.

        Raises:
            SettingError: If the trainer's precision scales losses.
        """
        if stage == "fit" and getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise SettingError(
                f"trainer.precision must not scale losses, got '{self.trainer.precision}': several optimizers step on "
                "gradients of one batch. Use 'bf16-mixed' or '32-true'."
            )
        if isinstance(strategy := self.trainer.strategy, DDPStrategy):
            strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def on_train_start(self) -> None:
        """Give each process latents of its own; until here all had the same seed, so that the weights agree."""
        if self.global_rank > 0:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def optimizer_list(self) -> list[LightningOptimizer]:
        """Return Lightning's wrappers of the optimizers, in the order of `configure_optimizers`."""
        optimizers = self.optimizers()
        if not isinstance(optimizers, list):
            optimizers = [optimizers]
        return [optimizer for optimizer in optimizers if isinstance(optimizer, LightningOptimizer)]

    def step(self, losses: Mapping[LightningOptimizer, Tensor], *, counts: bool = False) -> None:
        """Step each optimizer on the gradient of its own loss, all gradients taken at the present weights.

        A parameter that several optimizers hold gets from each the gradient of that optimizer's loss. No gradient
        stays behind.

        Args:
            losses: Loss per optimizer; the losses may share parts of their graphs.
            counts: Whether this is the batch's step that advances `trainer.global_step`; it does so by one.
        """
        gradients: list[list[Tensor | None]] = []
        for i, (optimizer, loss) in enumerate(losses.items()):
            # Alone, autograd leaves out what leads to other optimizers' weights. Where several processes run, the
            # reducer waits for every weight in the graph.
            only = {"inputs": _parameters(optimizer)} if self.trainer.world_size == 1 else {}
            self.manual_backward(loss, retain_graph=i + 1 < len(losses), **only)
            gradients.append([parameter.grad for parameter in _parameters(optimizer)])
            self.zero_grad(set_to_none=True)
        for i, (optimizer, own_gradients) in enumerate(zip(losses, gradients, strict=True)):
            for parameter, gradient in zip(_parameters(optimizer), own_gradients, strict=True):
                parameter.grad = gradient
            if not counts or i > 0:
                # Lightning counts every optimizer's step; these hooks, which it sets anew for each batch, do so.
                optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def count(self, real: Tensor, *, d_steps: int, g_steps: int) -> None:
        """Add a batch of real images and its steps to the counters."""
        self.images_seen += len(real)
        self.d_steps += d_steps
        self.g_steps += g_steps

    def check_finite(self, losses: Mapping[str, Tensor]) -> None:
        """Stop the training if a loss is NaN or infinite, before any weight moves on it.

        Raises:
            NonFiniteError: Naming the loss, the step and the last good checkpoint.
        """
        values = torch.stack([loss.detach() for loss in losses.values()])
        if not bool(torch.isfinite(values).all()):
            name, value = next((n, v.item()) for n, v in losses.items() if not bool(torch.isfinite(v)))
            raise NonFiniteError(self._stopped_at(f"{name} became {value}"))

    def on_train_epoch_end(self) -> None:
        """Log the counters, the honest x axes for models that step differently."""
        for counter in ("images_seen", "d_steps", "g_steps"):
            self.log(counter, float(getattr(self, counter)), rank_zero_only=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite, so that the last checkpoint stays a good one.

        Raises:
            NonFiniteError: Naming the tensor, the step and the last good checkpoint.
        """
        for name, tensor in checkpoint["state_dict"].items():
            if not bool(torch.isfinite(tensor).all()):
                raise NonFiniteError(self._stopped_at(f"{name} is not finite"))

    def _log_held_out_losses(self, stage: str, batch: Batch, batch_idx: int) -> None:
        real, _ = batch
        losses = self.held_out_losses(real, torch.Generator(self.device).manual_seed(batch_idx))
        self.log_dict({f"{stage}/{name}": loss for name, loss in losses.items()}, batch_size=len(real), sync_dist=True)

    def _stopped_at(self, what: str) -> str:
        names = ("last_model_path", "best_model_path")  # without a metric, the best one is the newest
        saved = [getattr(callback, name, "") for callback in self.trainer.checkpoint_callbacks for name in names]
        last = next(filter(None, [*saved, self.trainer.ckpt_path]), "none was saved yet")
        return (
            f"{what} at step {self.trainer.global_step} of epoch {self.current_epoch}; training stops. "
            f"Last good checkpoint: {last}. Try lower learning rates."
        )


def _parameters(optimizer: LightningOptimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
