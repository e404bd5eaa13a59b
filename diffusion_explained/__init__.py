"""Diffusion models as readable, runnable code, with trained networks and one set of samplers for all of them.

from diffusion_explained import FlowSchedule, ddim, euler, load_pretrained, plots, train
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

MODULES = (  # in reading order
    "schedules",
    "noise",
    "forward",
    "predictions",
    "guidance",
    "denoisers",
    "samplers",
    "exact",
    "likelihood",
    "inverse",
    "models",
    "pretrained",
    "training",
    "data",
    "metrics",
    "plots",
    "stable_diffusion",
    "micro",
    "beyond",
)
HOMES = {  # names that can be imported from here too, by the module that defines them
    "schedules": ("DDPMSchedule", "EDMSchedule", "FlowSchedule", "Level"),
    "noise": ("generators", "randn"),
    "forward": ("add_noise",),
    "denoisers": ("NetworkDenoiser", "Prediction"),
    "samplers": ("Step", "ddim", "ddpm", "dpm_solver_pp_2m", "euler", "euler_ancestral", "final", "heun"),
    "exact": ("ExactDenoiser", "GaussianMixture"),
    "models": ("DiT", "DiTConfig", "MLP", "MLPConfig", "UNet", "UNetConfig"),
    "pretrained": ("Model", "load_pretrained"),
    "training": ("TrainConfig", "train"),
    "data": ("bundled_mnist", "gaussian_modes", "made_by_model", "toy"),
}
_HOME_OF = {name: module for module, names in HOMES.items() for name in names}
__all__ = [*MODULES, *_HOME_OF]

if TYPE_CHECKING:  # so that editors and type checkers see the names that are imported lazily
    from diffusion_explained import (
        beyond,
        data,
        denoisers,
        exact,
        forward,
        guidance,
        inverse,
        likelihood,
        metrics,
        micro,
        models,
        noise,
        plots,
        predictions,
        pretrained,
        samplers,
        schedules,
        stable_diffusion,
        training,
    )
    from diffusion_explained.data import bundled_mnist, gaussian_modes, made_by_model, toy
    from diffusion_explained.denoisers import NetworkDenoiser, Prediction
    from diffusion_explained.exact import ExactDenoiser, GaussianMixture
    from diffusion_explained.forward import add_noise
    from diffusion_explained.models import MLP, DiT, DiTConfig, MLPConfig, UNet, UNetConfig
    from diffusion_explained.noise import generators, randn
    from diffusion_explained.pretrained import Model, load_pretrained
    from diffusion_explained.samplers import (
        Step,
        ddim,
        ddpm,
        dpm_solver_pp_2m,
        euler,
        euler_ancestral,
        final,
        heun,
    )
    from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level
    from diffusion_explained.training import TrainConfig, train


def __getattr__(name: str) -> Any:
    """Import a module, or the module that defines a name, at its first use, so that the command line starts fast."""
    if name in MODULES:
        return importlib.import_module(f"diffusion_explained.{name}")
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"diffusion_explained.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
