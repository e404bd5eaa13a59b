"""The one door to diffusers: imported when Stable Diffusion is asked for, never before, and told to be quiet."""

from __future__ import annotations

import os
from types import ModuleType

from diffusion_explained.extras import extra


def diffusers() -> ModuleType:
    """The diffusers package, its progress bars and its advice to programmers off. The first call takes seconds."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read at import: it complains of a missing torchvision
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with extra("sd"):
        import diffusers
        import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return diffusers
