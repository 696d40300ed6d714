"""The command line: LightningCLI with the framework's callbacks, and without its silent surprises."""

import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from gan_lightning import __version__, data, papers
from gan_lightning.cli.checks import (
    check_manual_optimization,
    check_not_past_the_end,
    check_same_settings,
    check_values,
    declared_by,
    expect_weights_of,
    parameters_of,
)
from gan_lightning.cli.logger_places import with_places
from gan_lightning.cli.messages import cannot_be_made, made, user_error
from gan_lightning.cli.mount import LINKED, at_its_path
from gan_lightning.cli.naming import GROUPS, OWN, SHARED, TARGETS, check_taken, shared_by, with_shared
from gan_lightning.cli.sweep_point import WANDB_POINT, check_swept, swept_parameters
from gan_lightning.errors import SettingError, UserError
from gan_lightning.measurements import Measurement
from gan_lightning.papers import DensityRatioMonitor, SubproblemMonitor
from gan_lightning.runs import (
    Checkpoints,
    FeatureWriter,
    FiniteGuard,
    Interruption,
    LossBar,
    Measure,
    ProcessWatch,
    RandomStreams,
    RunFolder,
    StepCount,
)
from gan_lightning.runs.contract import complete
from gan_lightning.runs.last_run import last_checkpoint
from gan_lightning.runs.trainer import Trainer
from gan_lightning.runs.wandb_run import go_on_in_wandb
from gan_lightning.system.private_names import cluster_environment
from gan_lightning.training.acceleration import Acceleration
from gan_lightning.training.frozen_networks import FrozenNetworks

KNOWN = [getattr(package, name) for package in (data, papers) for name in package.__all__]
"""Imported so that `--model` and `--data` know the classes by their short names."""

CALLBACKS = {
    "density_ratio": DensityRatioMonitor,
    "subproblem": SubproblemMonitor,
    "run": RunFolder,
    "features": FeatureWriter,
    "speed": Acceleration,
    "checkpoint": Checkpoints,
}
"""The callbacks that have groups of settings of their own, by these."""

LAST = "GAN_LIGHTNING_LAST"
"""Environment variable with the first process's last checkpoint, for the processes that Lightning starts."""


@dataclass(frozen=True)
class _FromData:
    """The value of a model's setting: the data module's declaration, or else the given value."""

    name: str
    cli: "GanCLI"

    def __call__(self, data: object) -> Any:
        """Return the setting's value.

        Raises:
            SettingError: Both exist, or neither does.
        """
        value = self.cli.given.get(self.name)
        if hasattr(data, self.name):
            self.check_not_set()
            return getattr(data, self.name)
        parameter = self._parameter()
        if value is None and parameter is not None and parameter.default is parameter.empty:
            raise SettingError(
                f"model.{self.name} must be set: {type(data).__name__} declares no {self.name}. Set "
                f"--model.{self.name}=..., or give the data module an attribute `{self.name}`."
            )
        return value

    def check_not_set(self) -> None:
        """Check that no value is given for a setting that the data module declares.

        Raises:
            SettingError: A value is given.
        """
        value, parameter = self.cli.given.get(self.name), self._parameter()
        # A class may pass the setting on in its **kwargs; then it has no default of its own.
        if value is not None and value != (None if parameter is None else parameter.default):
            raise SettingError(
                f"model.{self.name} must not be set, got {value}: the data set gives it. Remove it, or set "
                f"data.{self.name} where the data set has that setting."
            )

    def _parameter(self) -> inspect.Parameter | None:
        return parameters_of(self.cli.setting("model")["class_path"]).get(self.name)


class GanCLI(LightningCLI):
    """`fit`, `validate`, `test`, `predict` and `measure`, for the project's models and data or the user's own.

    Args:
        args: The command line's arguments; by default the process's.
        run: As Lightning's.
        finished: Folder of the run to measure, for `measure`.
    """

    def __init__(self, args: ArgsType = None, run: bool = True, finished: Path | None = None) -> None:
        self.finished = finished
        self.given: dict[str, Any] = {}
        """Given values of settings that the data set gives."""
        self.parsers: list[LightningArgumentParser] = []
        """The parser of each subcommand, in the order of `subcommands`; one parser if there are none."""
        given = sys.argv[1:] if args is None else args
        if isinstance(given, list):
            args = given = with_places(given)
        asked = given[0] if isinstance(given, list) and given else None
        if asked in (known := self.subcommands()):
            # Each subcommand's parser takes a tenth of a second or more, and only one is needed.
            self.subcommands = lambda: {asked: known[asked]}  # type: ignore[method-assign]
        self.broken: Exception | None = None
        """What a user's own class has raised when it was made."""
        try:
            self._run_command(args, run)
        except Exception as error:
            refused = user_error(error)
            if not isinstance(refused, SettingError) or refused.owner is None:
                raise
            raise at_its_path(refused, self._chosen(), {"trainer": Trainer, **GROUPS, **SHARED, **CALLBACKS}) from error

    def _run_command(self, args: ArgsType, run: bool) -> None:
        """Do all that Lightning's command line does, from its arguments to the end of the training."""
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=Trainer,
            save_config_callback=None,  # RunFolder keeps the configuration, one per run
            trainer_defaults={"logger": False, "log_every_n_steps": 1},
            seed_everything_default=0,
            parser_kwargs={
                "version": f"gan-lightning {__version__}",
                "description": "Train, evaluate and use a model. Also: `gan-lightning configs` (what is shipped), "
                "`gan-lightning sweep --help` (many runs from a file) and `gan-lightning dashboard --help` (runs "
                "compared on one page), `gan-lightning export --help` (a run's extractors for other projects) and "
                "`gan-lightning measure --network` (networks that somebody else has trained: docs/networks.md).",
            },
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=args,
            run=run,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyper-parameters are the model's arguments, links included
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's subcommands and `measure`, with their arguments that are not settings."""
        return {**LightningCLI.subcommands(), "measure": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add measurements and callbacks as groups of settings, and the links from data to model."""
        self.parsers.append(parser)
        for name, kind in GROUPS.items():
            parser.add_class_arguments(kind, name, fail_untyped=False, skip=shared_by(kind))
        for name, settings in SHARED.items():
            parser.add_class_arguments(settings, name)
        parser.add_argument(
            f"--{TARGETS}",
            type=list[LightningDataModule],
            default=[],
            help="Further data sets to judge frozen features on: --targets+=MNIST --targets.root=data",
        )
        parser.add_argument(
            f"--{OWN}",
            type=list[Measurement],
            default=[],
            help="Measurements of your own: --measurements+=my_package.MyMeasurement --measurements.setting=1",
        )
        for name, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        parser.set_defaults(
            {
                "checkpoint.filename": "epoch-{epoch:04d}",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.save_last": "link",
            }
        )
        for name in LINKED:
            parser.link_arguments(
                "data", f"model.init_args.{name}", compute_fn=_FromData(name, self), apply_on="instantiate"
            )

    def _parse_ckpt_path(self) -> None:
        """Keep a checkpoint from overriding the command line. They are compared instead, once the model exists."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and check the seed, which numpy's generator has to take.

        Raises:
            SettingError: If it is out of range.
        """
        super().parse_arguments(parser, args)
        self.subcommand = self.config.get("subcommand")
        seed = self.setting("seed_everything")
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything must be at least 0 and below 2**32, got {seed}.")
        if (every := (self.setting("trainer") or {}).get("val_check_interval")) == 0:
            raise SettingError(
                f"trainer.val_check_interval must be above 0, got {every}: batches between validations, or a share of "
                "an epoch. To validate never, set trainer.limit_val_batches to 0."
            )

    def instantiate_classes(self) -> None:
        """Make the objects of the configuration.

        Raises:
            SettingError: If a class refuses its settings, or needs more memory than there is.
        """
        try:
            self.config_init = self.parser.instantiate(self.config, instantiators=[(self._made, object, True)])
            self.datamodule, self.model = (self._instantiated(name) for name in ("data", "model"))
            self.trainer = self.instantiate_trainer()
        except Exception as error:
            if user_error(error) is not None or self.broken is not None or not isinstance(error, ValueError):
                raise
            raise SettingError(f"a setting cannot be used: {error}") from error  # jsonargparse's own

    def _made(self, kind: type, *arguments: Any, **settings: Any) -> Any:
        """Return an object of a class that the configuration names."""
        try:
            return made(kind, *arguments, **settings)
        except UserError:
            raise
        except Exception as error:
            self.broken = error
            raise

    def before_instantiate_classes(self) -> None:
        """Refuse values that no setting takes, and values that would be dropped without a word.

        Raises:
            SettingError: If a value is NaN, infinite, or null without permission; if the configuration sets a value
                that the data set gives; or if a sweep's trial would not use its parameters.
        """
        check_values(self._chosen())
        model = self.setting("model")
        self.given = {name: model.get("init_args", {}).get(name) for name in LINKED}
        for name in declared_by((self.setting("data") or {}).get("class_path")):
            if name in LINKED:
                _FromData(name, self).check_not_set()
        if point := swept_parameters():
            check_swept(point, yaml.safe_load(self._as_yaml()))

    def setting(self, name: str) -> Any:
        """Return a setting of the subcommand, or None where it has none of that name."""
        return self._chosen().get(name)

    def _instantiated(self, name: str) -> Any:
        """Return the object that was made of a setting."""
        return self.config_init.get(str(self.subcommand), self.config_init).get(name)

    def _chosen(self) -> Any:
        """Return the configuration of the subcommand."""
        return self.config.get(str(self.subcommand), self.config)

    def _as_yaml(self) -> str:
        """Return the configuration of the subcommand, as YAML."""
        at = 0 if self.subcommand is None else list(self.subcommands()).index(self.subcommand)
        return self.parsers[at].dump(self._chosen(), skip_unset=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer, with the project's progress bar unless the configuration has one or wants none.

        It also gets the measurements, and the callbacks without settings; these keep a run from being lost.

        Raises:
            SettingError: Lightning refuses the trainer's settings.
        """
        settings = self._instantiated("trainer")
        callbacks = settings.callbacks if isinstance(settings.callbacks, list) else [settings.callbacks]
        callbacks = [callback for callback in callbacks if callback is not None]
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(LossBar())
        shared = {name: self._instantiated(name) for name in (*SHARED, TARGETS)}
        measurements = [with_shared(self._instantiated(name), shared) for name in GROUPS]
        check_taken(shared[TARGETS], measurements)
        own = self._instantiated(OWN) or []
        settings.callbacks = [*callbacks, FiniteGuard(), StepCount(), Measure(*measurements, *own)]
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except Exception as error:
            if user_error(error) is not None and not isinstance(error, MisconfigurationException):
                raise
            raise cannot_be_made(Trainer, vars(settings), error) from error
        assert isinstance(trainer, Trainer)
        # Listening comes before the measurements after the training, the random streams after all that draws.
        listed: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        listed[:0] = [Interruption(), ProcessWatch()]
        listed.insert(len(listed) - len(trainer.checkpoint_callbacks), RandomStreams())
        environment = cluster_environment(trainer)
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False  # it would save in the middle of a batch, into the working directory
        return trainer

    def after_instantiate_classes(self) -> None:
        """Give the run's folder its configuration, and compare the model with the checkpoint.

        Raises:
            SettingError: If the checkpoint is missing or belongs to other settings.
        """
        subcommand = str(self.subcommand)
        complete(self.model)
        check_manual_optimization(self.trainer, self.model)
        if os.environ.get(WANDB_POINT) and not any(isinstance(log, WandbLogger) for log in self.trainer.loggers):
            raise SettingError(
                "trainer.logger must be WandbLogger in a sweep of W&B's agent, got "
                f"{[type(log).__name__ for log in self.trainer.loggers] or 'none'}: the sweep would never hear of this "
                "run. Add --trainer.logger=WandbLogger to the sweep's command."
            )
        checkpoint = self.setting("ckpt_path")
        asked_for_last = checkpoint == "last" and subcommand == "fit"
        if asked_for_last:
            self._chosen().ckpt_path = None  # the run then has the same settings as the earlier one
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunFolder):
                callback.finished = self.finished
                callback.config = self._as_yaml()
                if asked_for_last:
                    checkpoint = self._last_checkpoint(callback)
                    self.config_init[subcommand]["ckpt_path"] = checkpoint
        if checkpoint is not None:
            content = check_same_settings(self.model, Path(checkpoint), resumes=subcommand == "fit")
            expect_weights_of(self.model)
            if subcommand == "fit":
                check_not_past_the_end(self.trainer, content)
                go_on_in_wandb(self.trainer.loggers, content)
                self.trainer.num_sanity_val_steps = 0  # it would leave traces in the progress of the validation
        elif isinstance(self.model, FrozenNetworks):
            self.model.load_weights()
        elif not asked_for_last and subcommand not in ("fit", "None"):
            raise SettingError(
                f"ckpt_path must be given to {subcommand}, got none: without it the network would be untrained. "
                "Pass the checkpoints/last.ckpt of a run, with the run's config.yaml."
            )

    def _last_checkpoint(self, folder: RunFolder) -> str | None:
        """Return the checkpoint to go on with. The first process finds it for all."""
        if int(os.environ.get("LOCAL_RANK", 0)) > 0 and LAST in os.environ:
            return os.environ[LAST] or None
        own = self.setting("checkpoint").dirpath
        found = last_checkpoint(
            folder.folder_of_runs(self.model, self.datamodule), folder.config or "", None if own is None else Path(own)
        )
        os.environ[LAST] = str(found or "")
        return None if found is None else str(found)
