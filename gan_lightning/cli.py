"""The command line: LightningCLI with the framework's callbacks, and without its silent surprises."""

import inspect
import logging
import math
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from typing import Any, get_args

import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

import gan_lightning.data
import gan_lightning.models  # noqa: F401 (imported, so that --model and --data know the classes by their short names)
from gan_lightning import __version__
from gan_lightning.apply import ApplyingTrainer
from gan_lightning.callbacks import (
    Acceleration,
    Checkpoints,
    DensityRatioMonitor,
    FeatureAnatomy,
    FeaturePictures,
    FeatureWriter,
    FrozenDepth,
    GenerationQuality,
    Interruption,
    LossBar,
    ProcessWatch,
    RandomStreams,
    Reconstructions,
    RunFolder,
    SampleGrid,
    SubproblemMonitor,
    TransferEvaluation,
)
from gan_lightning.callbacks.interruption import BY_SIGNAL
from gan_lightning.callbacks.last_run import last_checkpoint
from gan_lightning.callbacks.process_watch import (
    FIRST_HAS_ENDED,
    GRACE,
    another_was_killed,
    end_at_once,
    first_has_ended,
    started_by_first,
)
from gan_lightning.callbacks.wandb_run import go_on_in_wandb
from gan_lightning.checkpoints import DISK_ERRORS, Checkpoint, read_checkpoint, remedy
from gan_lightning.errors import SettingError, UserError, WriteError, exit_with
from gan_lightning.swept import WANDB_POINT, check_swept, swept_parameters

LINKED = ("channels", "image_size", "num_classes")
"""What the data set tells the model, where the model asks for it."""

MOST_OF_A_LINE = 300
"""Characters that are shown of what torch says of weights that do not fit."""

LAST = "GAN_LIGHTNING_LAST"
"""Tells the processes that Lightning starts which checkpoint the first one took for the last."""


class GanCLI(LightningCLI):
    """`fit`, `validate`, `test`, `predict` and `apply`, for the project's models and data sets or the user's own."""

    def __init__(self, args: ArgsType = None, run: bool = True) -> None:
        given = sys.argv[1:] if args is None else args
        asked = given[0] if isinstance(given, list) and given else None
        if asked in (known := self.subcommands()):
            # Each subcommand's parser takes a tenth of a second or more: the others' would be made for nothing.
            self.subcommands = lambda: {asked: known[asked]}  # type: ignore[method-assign]
        super().__init__(
            LightningModule,
            LightningDataModule,
            trainer_class=ApplyingTrainer,
            save_config_callback=None,  # RunFolder keeps the configuration, one per run
            trainer_defaults={"logger": False, "log_every_n_steps": 1},
            seed_everything_default=0,
            parser_kwargs={
                "version": f"gan-lightning {__version__}",
                "description": "Train, evaluate and use a model. Also: `gan-lightning sweep --help` (many runs from a "
                "file) and `gan-lightning dashboard --help` (runs compared on one page).",
            },
            subclass_mode_model=True,
            subclass_mode_data=True,
            args=args,
            run=run,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # hyper-parameters are what the model received, links included
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return Lightning's subcommands and `apply`, with those of their arguments that are no settings."""
        return {**LightningCLI.subcommands(), "apply": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the framework's callbacks as groups of settings, and the links from data to model."""
        # Before RunFolder come those that check something before a folder is made.
        parser.add_lightning_class_args(FeatureAnatomy, "anatomy")
        parser.add_lightning_class_args(TransferEvaluation, "transfer")
        parser.add_lightning_class_args(FrozenDepth, "depth")
        parser.add_lightning_class_args(Reconstructions, "reconstructions")
        parser.add_lightning_class_args(FeaturePictures, "pictures")
        parser.add_lightning_class_args(GenerationQuality, "quality")  # after the transfer, whose curves it draws
        parser.add_lightning_class_args(DensityRatioMonitor, "density_ratio")
        parser.add_lightning_class_args(RunFolder, "run")
        parser.add_lightning_class_args(SampleGrid, "samples")
        parser.add_lightning_class_args(SubproblemMonitor, "subproblem")
        parser.add_lightning_class_args(FeatureWriter, "features")
        parser.add_lightning_class_args(Acceleration, "speed")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.filename": "epoch-{epoch:04d}",
                "checkpoint.auto_insert_metric_name": False,
                "checkpoint.save_last": "link",
            }
        )
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Keep a checkpoint from overriding the command line: compare instead, once the model exists."""

    def _set_seed(self) -> None:
        """Check the seed, which numpy's generator has to take, and set it.

        Raises:
            SettingError: If it is out of range.
        """
        seed = self._get(self.config, "seed_everything")
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything must be at least 0 and below 2**32, got {seed}.")
        super()._set_seed()

    def instantiate_classes(self) -> None:
        """Make what the configuration asks for.

        Raises:
            SettingError: If a class takes its settings for wrong, or there is no memory for what they ask for.
        """
        try:
            super().instantiate_classes()
        except Exception as error:
            if user_error(error) is not None and not isinstance(error, MisconfigurationException):
                raise
            refused = refused_settings(error)
            if refused is None and not isinstance(error, ValueError):  # jsonargparse's own
                raise
            raise SettingError(refused or f"a setting cannot be used: {error}") from error

    def before_instantiate_classes(self) -> None:
        """Refuse values that no setting takes, and what would be dropped without a word.

        Raises:
            SettingError: If a value is NaN, infinite, or null where there has to be one; if the configuration sets what
                the data set gives; or if a sweep's trial would not use its parameters.
        """
        check_values(self._chosen())
        model = self._get(self.config, "model")
        parameters = _parameters(model["class_path"])
        for name in LINKED:
            value = model.get("init_args", {}).get(name)
            # A class may hand the setting on in its **kwargs; then it has no default of its own.
            default = parameters[name].default if name in parameters else None
            if value is not None and value != default:
                raise SettingError(
                    f"model.{name} must not be set, got {value}: the data set gives it. Remove it, or set data.{name} "
                    "where the data set has that setting."
                )
        if point := swept_parameters():
            check_swept(point, yaml.safe_load(self._parser(self.subcommand).dump(self._chosen(), skip_unset=False)))

    def _chosen(self) -> Any:
        """Return the configuration of the subcommand."""
        return self.config.get(str(self.subcommand), self.config)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the trainer, with the project's progress bar unless the configuration has one or wants none.

        And with the callbacks that have no settings: they keep a run from being lost.
        """
        settings = self._get(self.config_init, "trainer")
        callbacks = settings.callbacks if isinstance(settings.callbacks, list) else [settings.callbacks]
        if settings.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            settings.callbacks = [callback for callback in callbacks if callback is not None] + [LossBar()]
        trainer = super().instantiate_trainer(**kwargs)
        # Listening comes before all that is measured after the training, the random streams after all that draws.
        own: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        own[:0] = [Interruption(), ProcessWatch()]
        own.insert(len(own) - len(trainer.checkpoint_callbacks), RandomStreams())
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment):
            environment.auto_requeue = False  # it would save in the middle of a batch, into the working directory
        return trainer

    def after_instantiate_classes(self) -> None:
        """Give the run's folder its configuration, and compare the model with the checkpoint.

        Raises:
            SettingError: If the checkpoint is missing or belongs to other settings.
        """
        subcommand = str(self.subcommand)
        if os.environ.get(WANDB_POINT) and not any(isinstance(log, WandbLogger) for log in self.trainer.loggers):
            raise SettingError(
                "trainer.logger must be WandbLogger in a sweep of W&B's agent, got "
                f"{[type(log).__name__ for log in self.trainer.loggers] or 'none'}: the sweep would never hear of this "
                "run. Add --trainer.logger=WandbLogger to the sweep's command."
            )
        checkpoint = self._get(self.config, "ckpt_path")
        asked_for_last = checkpoint == "last" and subcommand == "fit"
        if asked_for_last:
            self._chosen().ckpt_path = None  # the run's settings are those of the one that it goes on with
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunFolder):
                callback.config = self._parser(self.subcommand).dump(self._chosen(), skip_unset=False)
                if asked_for_last:
                    checkpoint = self._last_checkpoint(callback)
                    self.config_init[subcommand]["ckpt_path"] = checkpoint
        if checkpoint is not None:
            content = check_same_settings(self.model, Path(checkpoint), resumes=subcommand == "fit")
            if subcommand == "fit":
                check_not_past_the_end(self.trainer, content)
                go_on_in_wandb(self.trainer.loggers, content)
                self.trainer.num_sanity_val_steps = 0  # it would leave its traces in the progress of the validation
        elif not asked_for_last and subcommand not in ("fit", "None"):
            raise SettingError(
                f"ckpt_path must be given to {subcommand}, got none: without it the network would be untrained. "
                "Pass the checkpoints/last.ckpt of a run, with the run's config.yaml."
            )

    def _last_checkpoint(self, folder: RunFolder) -> str | None:
        """Return the checkpoint to go on with: the same one in all processes, as the first one finds it."""
        if int(os.environ.get("LOCAL_RANK", 0)) > 0 and LAST in os.environ:
            return os.environ[LAST] or None
        own = self._get(self.config, "checkpoint").dirpath
        found = last_checkpoint(
            folder.folder_of_runs(self.model, self.datamodule), folder.config or "", None if own is None else Path(own)
        )
        os.environ[LAST] = str(found or "")
        return None if found is None else str(found)


def check_values(settings: Any, name: str = "", parameters: Mapping[str, inspect.Parameter] | None = None) -> None:
    """Check that numbers are finite, and that nothing is null where there has to be a value.

    What a class has as its default is its own affair.

    Args:
        settings: A configuration, or a part of it.
        name: The part's name.
        parameters: Those of the class that the part is for, where it is known.

    Raises:
        SettingError: Naming the first that is not, or a seed that is out of range.
    """
    if isinstance(settings, Namespace | dict):
        for key, value in vars(settings).items() if isinstance(settings, Namespace) else settings.items():
            if key == "init_args":
                check_values(value, name, _parameters(settings.get("class_path")))
                continue
            parameter = (parameters or {}).get(key)
            if parameter is not None and repr(value) == repr(parameter.default):
                continue
            full_name = f"{name}.{key}" if name else str(key)
            if value is None and parameter is not None and not _takes_none(parameter):
                raise SettingError(f"{full_name} must have a value, got null. Leave it out.")
            check_values(value, full_name)
    elif isinstance(settings, list | tuple):
        for number, value in enumerate(settings):
            check_values(value, f"{name}[{number}]")
    elif isinstance(settings, float) and not math.isfinite(settings):
        raise SettingError(f"{name} must be a finite number, got {settings}.")
    elif name.endswith(".seed") and isinstance(settings, int) and not 0 <= settings < 2**32:
        raise SettingError(f"{name} must be at least 0 and below 2**32, got {settings}.")


def _parameters(class_path: Any) -> Mapping[str, inspect.Parameter]:
    if not isinstance(class_path, str):
        return {}
    module, _, class_name = class_path.rpartition(".")
    try:
        return inspect.signature(getattr(import_module(module), class_name)).parameters
    except (ImportError, AttributeError, ValueError):  # a function, or a class without a signature
        return {}


def _takes_none(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter may be None: by its default or type, or because it is the data set that gives it."""
    if parameter.default in (None, inspect.Parameter.empty) or parameter.annotation is inspect.Parameter.empty:
        return True
    if isinstance(parameter.annotation, str):
        return "None" in parameter.annotation or "Optional" in parameter.annotation or "Any" in parameter.annotation
    return parameter.annotation is Any or type(None) in get_args(parameter.annotation)


def refused_settings(error: BaseException) -> str | None:
    """Return which class could not be made, with the settings that are not its defaults, and why.

    None where the error came from elsewhere.

    Raises:
        Exception: The error itself, where it is that of a user's own class, which may have to be mended.
    """
    errors = [error]
    while (before := errors[-1].__cause__ or errors[-1].__context__) is not None:
        errors.append(before)
    for cause, frame in ((each, frame) for each in reversed(errors) for frame, _ in walk_tb(each.__traceback__)):
        made = frame.f_locals.get("self")
        theirs = type(made).__module__.startswith("jsonargparse") or isinstance(made, LightningCLI)
        if frame.f_code.co_name not in ("__init__", "__post_init__") or made is None or theirs:
            continue
        if not type(made).__module__.startswith(("gan_lightning.", "torch", "lightning.")):
            raise error
        given = {
            name: frame.f_locals.get(name, getattr(made, name, each.default))
            for name, each in inspect.signature(type(made)).parameters.items()
            if name not in ("logger", "callbacks")
        }
        defaults = {name: each.default for name, each in inspect.signature(type(made)).parameters.items()}
        own = [f"{name}={value!r}" for name, value in given.items() if _is_plain(value) and value != defaults[name]]
        why = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        return f"{type(made).__name__}({', '.join(own)}) cannot be made: {why}. Correct its settings."
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def check_same_settings(model: LightningModule, checkpoint: Path, *, resumes: bool) -> Checkpoint:
    """Check that a checkpoint was written by a model with the same settings; return its content.

    Args:
        model: What it is for.
        checkpoint: The file.
        resumes: Whether a training is to go on with it, which takes more than weights.

    Raises:
        SettingError: If there is no such file or it is no checkpoint, or naming what differs and both values.
    """
    content = read_checkpoint(checkpoint, "ckpt_path")
    lacking = [name for name in ("optimizer_states", "lr_schedulers", "loops") if name not in content]
    if resumes and lacking:
        raise SettingError(
            f"ckpt_path must be a whole checkpoint to go on with, got '{checkpoint}', which holds weights alone "
            f"(no {lacking[0]}). Pass one that was written without checkpoint.save_weights_only."
        )
    saved = content.get("hyper_parameters", {})
    differing = [
        f"model.{name} is {model.hparams[name]} here and {value} in the checkpoint"
        for name, value in saved.items()
        if name in model.hparams and model.hparams[name] != value
    ]
    if differing:
        raise SettingError(
            f"ckpt_path must have been written with the same model settings: {'; '.join(differing)}. "
            f"Pass the config.yaml of the run that wrote '{checkpoint}', or a checkpoint that fits."
        )
    return content


def check_not_past_the_end(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Check that a checkpoint is not of a longer training than this one.

    Raises:
        SettingError: If it is.
    """
    epochs, least = trainer.max_epochs, checkpoint["epoch"] + (0 if _within_epoch(checkpoint) else 1)
    if epochs is not None and 0 <= epochs < least:
        raise SettingError(
            f"trainer.max_epochs must be at least {least}, the epochs that the checkpoint has had, got {epochs}."
        )


def _within_epoch(checkpoint: Checkpoint) -> bool:
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(progress["processed"] == progress["completed"])


def run(arguments: list[str]) -> None:
    """Run a command line; an error that the user can put right ends it with one line and status 2.

    SIGTERM ends it with status 143, and Ctrl-C with 130, as a shell gives them.
    """
    sys.argv = [sys.argv[0], *arguments]
    # Lightning's own: deprecations inside it, a remark on each run having a folder of its own, an advertisement.
    for message in (
        ".*LeafSpec",
        ".*instantiate_classes",
        ".*JsonargparseDeprecationWarning",
        "The dirpath has changed",
    ):
        warnings.filterwarnings("ignore", message=rf"\s*{message}")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
    try:
        GanCLI()
    except SIGTERMException as exception:
        # Lightning's own status would be 0, as of a finished run. It stays so for the other processes of torchrun and
        # SLURM, which would end the first one, that may still have something to write; ours waits (`ProcessWatch`).
        status = BY_SIGNAL + getattr(exception, "signum", signal.SIGTERM)
        first = not getattr(rank_zero_only, "rank", 0)
        raise SystemExit(status if first or started_by_first() else 0) from exception
    except Exception as exception:
        if (error := user_error(exception)) is not None:
            exit_with(error)
        if first_has_ended():  # the error is that of waiting for it
            end_at_once(FIRST_HAS_ENDED)
        if another_was_killed():  # so is this one, and what ends this process says why
            time.sleep(GRACE)
        raise


def user_error(exception: BaseException | None) -> UserError | None:
    """Return the error that is for the user, where another one, such as jsonargparse's, may have been made of it."""
    follows = True  # not from an error that was dealt with before another one came
    while exception is not None and not isinstance(exception, UserError):
        if follows and isinstance(exception, OSError) and exception.errno in DISK_ERRORS:
            file = f"'{exception.filename}'" if exception.filename else "a file of the run"
            return WriteError(f"{file} could not be written or read: {exception.strerror}. {remedy(exception)}.")
        if follows and isinstance(exception, MisconfigurationException):  # Lightning's own, which names its arguments
            return SettingError(f"trainer: {exception}")
        if follows and isinstance(exception, RuntimeError) and (wrong := _other_weights(exception)):
            return wrong
        follows = follows and exception.__cause__ is not None
        exception = exception.__cause__ or exception.__context__
    return exception


def _other_weights(error: RuntimeError) -> SettingError | None:
    """Return what is wrong with the weights that Lightning could not load from a checkpoint."""
    loads = any(frame.f_code.co_name == "load_model_state_dict" for frame, _ in walk_tb(error.__traceback__))
    said = re.match(r"Error\(s\) in loading state_dict for (\w+):\s*(.*\S)", str(error))
    if not loads or said is None:
        return None
    model, wrong = said.groups()
    shown = wrong if len(wrong) <= MOST_OF_A_LINE else f"{wrong[:MOST_OF_A_LINE]}..."
    return SettingError(
        f"ckpt_path must be a checkpoint of this {model}, whose weights are others: {shown} Pass the model's own."
    )
