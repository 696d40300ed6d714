"""The common part of adversarial models: stepping optimizers by hand, counting, and stopping at a NaN loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gan_lightning.errors import NonFiniteError, SettingError, refused
from gan_lightning.interfaces import Batch, Images
from gan_lightning.runs.counting import batches_done, count_batch
from gan_lightning.runs.finite_watch import FiniteWatch, Snapshot, watching
from gan_lightning.system.private_names import BatchNorm, add_all, replace_layer_sync
from gan_lightning.system.processes import process_count
from gan_lightning.training.averaging import average_gradients
from gan_lightning.training.generator_updates import Direct, GeneratorLoss, GeneratorUpdate, resting_statistics
from gan_lightning.training.joined_batch_norm import JoinedBatchNorm
from gan_lightning.training.several_batches import further_batches, is_looked_at, obstacles

Loss = Tensor | GeneratorLoss
"""The objective of an optimizer; a `GeneratorLoss` also says how it depends on the images."""


class AdversarialModule(LightningModule, ABC):
    """A model whose networks are trained by several optimizers, stepped by hand.

    A model's own `learn` is the paper's algorithm on one batch, in tensors alone. What is Python stands here: counting,
    schedules, logging. So `learn` can also be replayed as one graph (`gan_lightning.training.step_graph`).

    Counters are saved with the weights: `images_seen` (real images of this process), `d_steps`, `g_steps`.
    `trainer.global_step`, and with it `max_steps` and `every_n_train_steps`, counts batches, however many steps the
    optimizers take in one.
    """

    images_seen: Tensor
    d_steps: Tensor
    g_steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator_update: GeneratorUpdate = Direct()
        self.generator_observer: Callable[[GeneratorLoss], None] | None = None
        self.finite_watch: FiniteWatch | None = None
        self._has_stepped_last = True
        self.learns: Callable[[Batch], Mapping[str, Tensor]] | None = None
        """Stands in for `guarded_learn` in training: the same step as one graph."""
        self.steps_per_call = 1
        """Most batches of one call of `training_step`."""
        self._has_spectators = True
        """Whether somebody may look at the losses of any batch."""
        for counter in ("images_seen", "d_steps", "g_steps"):
            self.register_buffer(counter, torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimizers, in the order in which `training_step` steps them."""

    @abstractmethod
    def learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Do the paper's algorithm on one batch of (images, labels): forward passes, and a `step` for each update.

        It reads no tensor on the host (`item`, `bool`, `cpu`), and logs nothing. Then the step can be one graph.

        Returns:
            The losses, and other numbers, to log, without `train/` before their names.
        """

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Learn from the batch, and from further ones if a call takes several; log the last one's losses if seen."""
        losses = self._learn_and_count(batch)
        if self.steps_per_call > 1:
            for further in further_batches(self.trainer, self.steps_per_call - 1):
                losses = self._learn_and_count(further)
        if self._is_seen():
            # Lightning reads values with `prog_bar` after each batch. With a watch the host waits for no loss.
            shown = self.finite_watch is None
            self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, prog_bar=shown)

    def _is_seen(self) -> bool:
        """Return whether somebody looks at the batch's losses. Logging them takes as long as many operations."""
        if self.finite_watch is None or self._has_spectators:
            return True
        return is_looked_at(self.trainer, self.trainer.fit_loop.epoch_loop.batch_progress.total.ready)

    def _learn_and_count(self, batch: Batch) -> Mapping[str, Tensor]:
        losses = self.guarded_learn(batch) if self.learns is None else self.learns(batch)
        count_batch(self.trainer)
        schedules = self.lr_schedulers() or []
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            if not isinstance(schedule, ReduceLROnPlateau):  # steps on a metric, which a batch does not have
                schedule.step()
        return losses

    def guarded_learn(self, batch: Batch) -> Mapping[str, Tensor]:
        """Learn from a batch. After a loss that is not finite, neither weights nor statistics nor counters have moved.

        Raises:
            NonFiniteError: A loss is NaN or infinite, unless `finite_watch` notes it for later.
            SettingError: No step of the model says that it is the last one.
        """
        before = Snapshot(self._moving()) if self.finite_watch is None else None
        self._has_stepped_last = True
        try:
            with nullcontext() if self.finite_watch is None else self.finite_watch.rates_on_device():
                losses = self.learn(batch)
        except NonFiniteError:
            if before is not None:
                before.restore()
            raise
        if not self._has_stepped_last:
            raise SettingError(
                f"{type(self).__name__}.learn must end with self.step(..., last=True), got steps without it: several "
                "processes exchange batch norm's statistics with the last step."
            )
        if self.finite_watch is not None:
            self.finite_watch.end_batch()
        return losses

    @abstractmethod
    def held_out_losses(self, real: Images, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Return losses and other numbers on held-out images, under their names; `rng` draws the latents."""

    @abstractmethod
    def extractors(self) -> Mapping[str, nn.Module]:
        """Return each extractor under its name; each maps images to features (batch, feature)."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses on held-out images, with batch norm's running statistics."""
        self._log_held_out_losses("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses on test images."""
        self._log_held_out_losses("test", batch, batch_idx)

    def configure_callbacks(self) -> list[Callback]:
        """Return the callbacks that the training needs and the trainer lacks.

        Lightning calls this method first. It therefore also supplies the methods that Lightning wants for `predict`.

        Raises:
            SettingError: If the trainer has a setting that does not work with optimizers stepped by hand.
        """
        from gan_lightning.runs.contract import complete
        from gan_lightning.runs.counting import StepCount
        from gan_lightning.runs.finite import FiniteGuard
        from gan_lightning.runs.random_streams import RandomStreams

        complete(self)
        self._check_by_hand()
        present: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        needed: tuple[type[Callback], ...] = (FiniteGuard, StepCount, RandomStreams)
        return [kind() for kind in needed if not any(isinstance(callback, kind) for callback in present)]

    def _check_by_hand(self) -> None:
        """Refuse settings that Lightning would refuse with advice that nobody can follow."""
        if self.trainer.state.fn != "fit":
            return
        clip, accumulate = self.trainer.gradient_clip_val, self.trainer.accumulate_grad_batches
        name = type(self).__name__
        if clip:
            raise SettingError(
                f"gradient_clip_val must not be set for {name}, got {clip}: its networks' optimizers step by hand, and "
                "nothing clips their gradients. Leave it out.",
                self.trainer,
            )
        if accumulate != 1:
            raise SettingError(
                f"accumulate_grad_batches must be 1 for {name}, got {accumulate}: its networks' optimizers step by "
                "hand, in every batch. Leave it out, and take larger batches.",
                self.trainer,
            )

    def setup(self, stage: str) -> None:
        """Refuse float16 loss scaling, and join batch norm over processes on the CPU.

        The scale of float16 losses would change between two steps of one batch. Torch's synchronised batch norm
        (`trainer.sync_batchnorm`) knows GPUs alone.

        Raises:
            SettingError: If the trainer's precision scales losses.
        """
        if stage == "fit" and getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            raise SettingError(
                f"precision must not scale losses, got '{self.trainer.precision}': several optimizers step on "
                "gradients of one batch. Use 'bf16-mixed' or '32-true'.",
                self.trainer,
            )
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy) and strategy.root_device.type == "cpu":
            replace_layer_sync(strategy, JoinedBatchNorm())

    def on_train_start(self) -> None:
        """Prepare the optimizers: on a GPU they look at the losses' finiteness themselves, and nothing waits for it.

        A checkpoint's optimizer states get the memory layout that their weights have in this run: fused optimizers go
        through states and weights in the order of memory.
        """
        for optimizer in self.trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    alike = isinstance(value, Tensor) and value.shape == weight.shape
                    if alike and value.stride() != weight.stride():
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
        self._has_spectators = bool(obstacles(self.trainer, self))
        self.finite_watch = watching(self.trainer.optimizers, self.device, batches_done(self.trainer), self._moving())

    def on_train_end(self) -> None:
        """Give the optimizers back as they were made."""
        self._unwatch()

    def _unwatch(self) -> None:
        if self.finite_watch is not None:
            self.finite_watch.end(self.trainer.optimizers)
            self.finite_watch = None

    def optimizer_list(self) -> list[LightningOptimizer]:
        """Return Lightning's wrappers of the optimizers, in the order of `configure_optimizers`."""
        optimizers = self.optimizers()
        if not isinstance(optimizers, list):
            optimizers = [optimizers]
        return [optimizer for optimizer in optimizers if isinstance(optimizer, LightningOptimizer)]

    def step(self, losses: Mapping[LightningOptimizer, Loss], *, last: bool = False) -> None:
        """Step each optimizer on the gradient of its own loss, all gradients taken at the present weights.

        A parameter of several optimizers gets one step from each, on the gradient of that optimizer's loss. Optimizers
        with one and the same loss tensor share its backward pass. If a generator's loss is a `GeneratorLoss`, its
        weights step by `generator_update`. No gradient stays behind. Several processes exchange all these gradients at
        once, and step on their means.

        Args:
            losses: Loss per optimizer; the losses may share parts of their graphs.
            last: Whether this is the batch's last step: several processes then exchange batch norm's statistics, too.
        """
        self._has_stepped_last = last
        losses = {optimizer: self._observed(loss) for optimizer, loss in losses.items()}
        gradients: dict[LightningOptimizer, dict[Tensor, Tensor | None]] = {}
        for i, (optimizer, loss) in enumerate(losses.items()):
            retain_graph = i + 1 < len(losses)
            if isinstance(loss, GeneratorLoss):
                gradients[optimizer] = self._generator_gradients(loss, _parameters(optimizer), retain_graph)
            elif optimizer not in gradients:
                sharing = {other: _parameters(other) for other, theirs in losses.items() if theirs is loss}
                together = list(dict.fromkeys(chain.from_iterable(sharing.values())))
                found = self._gradients(loss, together, retain_graph)
                gradients |= {
                    other: {weight: found[weight] for weight in weights} for other, weights in sharing.items()
                }
        if process_count() > 1:
            watched = [] if self.finite_watch is None else [self.finite_watch.found]
            average_gradients(list(gradients.values()), [*watched, *(self._statistics() if last else [])])
            if self.finite_watch is not None:
                self.finite_watch.mean_found()
        for optimizer, loss in losses.items():
            for parameter, gradient in gradients[optimizer].items():
                parameter.grad = gradient
            if isinstance(loss, GeneratorLoss) and self.generator_update.plain_descent:
                _descend(loss.networks, self.finite_watch)
            # What Lightning's wrapper does, without its count.
            self.trainer.strategy.optimizer_step(optimizer.optimizer, do_nothing_closure)
            optimizer.zero_grad(set_to_none=True)

    def _observed(self, loss: Loss) -> Loss:
        """Show a generator's loss to the observer. Return its value if the update is direct."""
        if not isinstance(loss, GeneratorLoss):
            return loss
        if self.generator_observer is not None:
            self.generator_observer(loss)
        return loss.value if isinstance(self.generator_update, Direct) else loss

    def _generator_gradients(
        self, loss: GeneratorLoss, parameters: Sequence[Tensor], retain_graph: bool
    ) -> dict[Tensor, Tensor | None]:
        """Return the update's gradient for the generator, and the loss's gradient for the optimizer's other networks.

        Raises:
            NonFiniteError: If the objective is NaN or infinite.
        """
        own = {weight for network in loss.networks for weight in network.parameters()}
        beside = [parameter for parameter in parameters if parameter not in own]
        with resting_statistics(self):
            objective = self.generator_update.objective(loss, retain_graph=retain_graph or bool(beside))
        self.check_finite({"the objective of generator_update": objective})
        generators = [parameter for parameter in parameters if parameter in own]
        gradients = self._gradients(objective, generators, retain_graph or bool(beside))
        return gradients | (self._gradients(loss.value, beside, retain_graph) if beside else {})

    def _gradients(self, loss: Tensor, parameters: Sequence[Tensor], retain_graph: bool) -> dict[Tensor, Tensor | None]:
        # DDP would wait for all weights of the model in every backward pass, and average unused gradients.
        strategy = self.trainer.strategy
        with strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext():
            self.manual_backward(loss, retain_graph=retain_graph, inputs=parameters)
        gradients = {parameter: parameter.grad for parameter in parameters}
        for parameter in parameters:
            parameter.grad = None
        return gradients

    def _statistics(self) -> list[Tensor]:
        """Return the running batch-norm statistics that a batch moves, in each process by its own images."""
        layers = [layer for layer in self.modules() if isinstance(layer, BatchNorm) and layer.training]
        found = [statistic for layer in layers for statistic in (layer.running_mean, layer.running_var)]
        return [statistic for statistic in found if statistic is not None]

    def _moving(self) -> list[Tensor]:
        """Return what a batch may move beside the weights: batch norm's buffers, and the counters."""
        norms = [layer for layer in self.modules() if isinstance(layer, BatchNorm)]
        found = [buffer for n in norms for buffer in (n.running_mean, n.running_var, n.num_batches_tracked)]
        return [*(buffer for buffer in found if buffer is not None), self.images_seen, self.d_steps, self.g_steps]

    def update_generator_by(self, update: GeneratorUpdate, channels: int, image_size: int) -> None:
        """Set how the generator is updated.

        Args:
            update: The update.
            channels: Channels of the generator's images.
            image_size: Height and width of the generator's images, pixels.

        Raises:
            SettingError: If the update cannot work on such images.
        """
        update.check(channels, image_size)
        self.generator_update = update

    def count(self, real: Tensor, *, d_steps: int, g_steps: int) -> None:
        """Add a batch of real images and its steps to the counters."""
        add_all([self.images_seen, self.d_steps, self.g_steps], [len(real), d_steps, g_steps])

    def check_finite(self, losses: Mapping[str, Tensor]) -> None:
        """Stop the training if a loss is NaN or infinite, before any weight moves on it.

        On a GPU nothing waits for the values: from such a loss on the optimizers stand still, and the training stops
        when it next reads losses.

        Raises:
            NonFiniteError: Naming the loss, the batch and the last good checkpoint.
        """
        if self.finite_watch is not None:
            self.finite_watch.note(losses)
            return
        values = torch.stack([loss.detach() for loss in losses.values()])
        if not bool(torch.isfinite(values).all()):
            from gan_lightning.runs.stopping import stopped_at

            name, value = next((n, v.item()) for n, v in losses.items() if not bool(torch.isfinite(v)))
            raise NonFiniteError(stopped_at(self.trainer, f"{name} became {value}"))

    def on_train_epoch_end(self) -> None:
        """Log the counters, the honest x axes for models that step differently."""
        for counter in ("images_seen", "d_steps", "g_steps"):
            self.log(counter, float(getattr(self, counter)), rank_zero_only=True)

    def _log_held_out_losses(self, stage: str, batch: Batch, batch_idx: int) -> None:
        real, _ = batch
        losses = self.held_out_losses(real, torch.Generator(self.device).manual_seed(batch_idx))
        self.log_dict({f"{stage}/{name}": loss for name, loss in losses.items()}, batch_size=len(real), sync_dist=True)


def loss_values(losses: Mapping[str, Loss]) -> dict[str, Tensor]:
    """Return each loss's value."""
    return {name: loss.value if isinstance(loss, GeneratorLoss) else loss for name, loss in losses.items()}


def check_betas(owner: object, betas: tuple[float, float], usual: str) -> None:
    """Check Adam's β1 and β2.

    Args:
        owner: The object with the setting.
        betas: Its value.
        usual: Usual values, for the message.

    Raises:
        SettingError: If one is not in [0, 1).
    """
    if not all(0 <= beta < 1 for beta in betas):
        raise refused(owner, "betas", "be in [0, 1)", betas, usual)


@torch.no_grad()
def _descend(networks: Sequence[nn.Module], watch: FiniteWatch | None) -> None:
    """Subtract each weight's gradient, and remove it: an optimizer passes over weights without one."""
    for network in networks:
        for weight in network.parameters():
            if weight.grad is not None:
                weight.sub_(weight.grad if watch is None else watch.unless_found(weight.grad))
                weight.grad = None


def _parameters(optimizer: LightningOptimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
