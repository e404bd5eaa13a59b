"""The switch to full Stable Diffusion, sampled by the same samplers that draw digits.

    from diffusion_explained.stable_diffusion import load, stand_in

    model = load()                                          # Stable Diffusion 1.5, on a GPU; stand_in() runs anywhere
    text = model.encode_text("a photo of a cat", negative="blurry")
    start = model.prepare(seed=[0, 1])                      # x_t [2, 4, 64, 64], and the levels to visit
    denoise = model.denoiser(text, guidance_scale=7.5, start=start)
    for step in samplers.ddim(denoise, start.x_t, start.levels):
        show(model.decode(step.pred.x_0))                   # any step, lazily: [2, 3, 512, 512] in [-1, 1]

`model.steps(prompt, ...)` and `model.sample(prompt, ...)` do all of these steps in one call. diffusers is imported only
by this package, and only when a model is loaded or made; if the weights, the network or a GPU are missing, the error is
raised before that import.
"""

import importlib
from typing import TYPE_CHECKING, Any

from diffusion_explained.extras import modules_at_first_use

HOMES = {
    "load": "loading",
    "load_control": "control_loading",
    "load_image_prompt": "image_prompt_loading",
    "NoGPUError": "loading",
    "NotEnoughMemoryError": "memory",
    "StableDiffusion": "model",
    "save_stand_in": "stand_ins",
    "stand_in": "stand_ins",
    "Text": "text",
    "WeightsUnavailableError": "listing",
    "download_size": "downloads",
    "Trace": "traces",
    "find_weights": "weights",
    "forecast": "forecasts",
    "record": "recording",
}
__all__ = list(HOMES)
_module = modules_at_first_use(__name__, __path__)

if TYPE_CHECKING:  # so that editors and type checkers see the names that are imported only on first use
    from diffusion_explained.stable_diffusion.control_loading import load_control
    from diffusion_explained.stable_diffusion.downloads import download_size
    from diffusion_explained.stable_diffusion.forecasts import forecast
    from diffusion_explained.stable_diffusion.image_prompt_loading import load_image_prompt
    from diffusion_explained.stable_diffusion.listing import WeightsUnavailableError
    from diffusion_explained.stable_diffusion.loading import NoGPUError, load
    from diffusion_explained.stable_diffusion.memory import NotEnoughMemoryError
    from diffusion_explained.stable_diffusion.model import StableDiffusion
    from diffusion_explained.stable_diffusion.recording import record
    from diffusion_explained.stable_diffusion.stand_ins import save_stand_in, stand_in
    from diffusion_explained.stable_diffusion.text import Text
    from diffusion_explained.stable_diffusion.traces import Trace
    from diffusion_explained.stable_diffusion.weights import find_weights


def __getattr__(name: str) -> Any:
    """Import public names and modules on first use, so that looking for weights does not import the other modules."""
    if name in HOMES:
        return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
    return _module(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
