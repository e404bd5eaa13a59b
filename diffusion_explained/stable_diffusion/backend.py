"""The only place that imports diffusers: when Stable Diffusion is first used, and with its messages turned off."""

from __future__ import annotations

import os
from types import ModuleType

from diffusion_explained.extras import extra


def diffusers() -> ModuleType:
    """The diffusers package, without its progress bars and its advice to programmers. The first call takes seconds."""
    os.environ.setdefault(
        "TRANSFORMERS_VERBOSITY", "error"
    )  # read at import; else a warning that torchvision is missing
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with extra("sd"):
        import diffusers
        import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return diffusers
