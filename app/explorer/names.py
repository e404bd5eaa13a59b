"""Samplers and schedules by the names that people write."""

from collections.abc import Sequence

from diffusion_explained.samplers import SAMPLERS as ALL_SAMPLERS
from diffusion_explained.schedules import SCHEDULES as ALL_SCHEDULES


def named(names: dict[str, str], registry: Sequence[str]) -> dict[str, str]:
    """All names of a registry, with the words that people use where there are some."""
    return {name: names.get(name, name) for name in (*names, *registry) if name in registry}


SCHEDULES = named(
    {
        "flow": "Flow matching",
        "linear": "Linear",
        "scaled_linear": "Scaled linear",
        "cosine": "Cosine",
        "sigmoid": "Sigmoid",
        "edm": "EDM",
    },
    tuple(ALL_SCHEDULES),
)
YOURS = "yours"
WITH_YOURS = {**SCHEDULES, YOURS: "Yours"}  # the visitor's own, of `own_schedule`
SAMPLERS = named(
    {
        "euler": "Euler",
        "heun": "Heun",
        "dpm_solver_pp_2m": "DPM-Solver++ (2M)",
        "ddim": "DDIM",
        "ddpm": "DDPM",
        "euler_ancestral": "Euler ancestral",
    },
    tuple(ALL_SAMPLERS),
)
