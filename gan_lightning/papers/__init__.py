"""The papers, a folder each: models, theory, tables, and the measurements of one paper alone.

`from gan_lightning.papers import MGAN` imports only its own needs: a paper's theory needs no Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lightning.papers.bigan.autoencoder import Autoencoder as Autoencoder
    from gan_lightning.papers.bigan.bigan import BiGAN as BiGAN
    from gan_lightning.papers.bigan.bigan_networks import (
        ImageNetworks as ImageNetworks,
    )
    from gan_lightning.papers.bigan.bigan_networks import (
        PermutationInvariantNetworks as PermutationInvariantNetworks,
    )
    from gan_lightning.papers.bigan.gan import GAN as GAN
    from gan_lightning.papers.bigan.latent_regressor import LatentRegressor as LatentRegressor
    from gan_lightning.papers.mgan.anatomy import Anatomy as Anatomy
    from gan_lightning.papers.mgan.density_ratio_monitor import DensityRatioMonitor as DensityRatioMonitor
    from gan_lightning.papers.mgan.mgan import MGAN as MGAN
    from gan_lightning.papers.mgan.verdicts import Verdicts as Verdicts
    from gan_lightning.papers.selfexgan.selfexgan import SelfExGAN as SelfExGAN
    from gan_lightning.papers.subproblem.dcgan_networks import TutorialNetworks as TutorialNetworks
    from gan_lightning.papers.subproblem.inverse_examples import InverseExamples as InverseExamples
    from gan_lightning.papers.subproblem.subproblem_monitor import SubproblemMonitor as SubproblemMonitor
    from gan_lightning.papers.subproblem.targets import (
        ImplicitMaximumLikelihood as ImplicitMaximumLikelihood,
    )
    from gan_lightning.papers.subproblem.targets import (
        NearestRealImages as NearestRealImages,
    )
    from gan_lightning.papers.subproblem.targets import (
        TargetRegression as TargetRegression,
    )

_MODULES = {
    "Anatomy": "mgan.anatomy",
    "Autoencoder": "bigan.autoencoder",
    "BiGAN": "bigan.bigan",
    "DensityRatioMonitor": "mgan.density_ratio_monitor",
    "GAN": "bigan.gan",
    "ImageNetworks": "bigan.bigan_networks",
    "ImplicitMaximumLikelihood": "subproblem.targets",
    "InverseExamples": "subproblem.inverse_examples",
    "LatentRegressor": "bigan.latent_regressor",
    "MGAN": "mgan.mgan",
    "NearestRealImages": "subproblem.targets",
    "PermutationInvariantNetworks": "bigan.bigan_networks",
    "SelfExGAN": "selfexgan.selfexgan",
    "SubproblemMonitor": "subproblem.subproblem_monitor",
    "TargetRegression": "subproblem.targets",
    "TutorialNetworks": "subproblem.dcgan_networks",
    "Verdicts": "mgan.verdicts",
}
"""The module of each public name, below this package."""

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
