"""The runs of the part "A picture" of the page Control: one with the words alone, and one with the picture too."""

from functools import partial
from typing import Any

from explorer import stable
from explorer.cache import named_cache
from explorer.control_kinds import Given
from explorer.control_runs import BothRuns, Drawn, draw_both, with_options
from explorer.stable import Loaded
from explorer.turns import Tell

FILM = {"by": "the picture", "others": "other layers"}  # of `control_film`


def _with_picture(here: Loaded) -> Any:
    """The model with the image prompt, loaded once for each loading of the model."""
    from diffusion_explained.micro.image_prompt import load_micro_image_prompt

    return named_cache("models with a picture", 1).get(id(here), lambda _: load_micro_image_prompt(here.model))


def draw(ask: BothRuns, given: Given, tell: Tell) -> Drawn:
    """Draw with the words alone and with the picture too. Raises the engine's ValueErrors and OSErrors."""

    def make(tell: Tell) -> Drawn:
        from diffusion_explained.stable_diffusion.control_residuals import control_film, record_image_attention

        here = stable.load(stable.models(), stable.MICRO, tell)
        model, more = _with_picture(here), {"image_prompt": given.picture, "image_prompt_scale": ask.scale}
        second = with_options(model, ask, more)
        return draw_both(here, model, ask, second, record_image_attention, partial(control_film, **FILM), tell)

    return named_cache("shown").get((ask, given.key), make, tell)


def program(ask: BothRuns, given: Given) -> str:
    """Both runs in Python: plain and steps, their pictures, and what the picture added."""
    return f"""{given.program}

from diffusion_explained.micro.image_prompt import load_micro_image_prompt
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.control_residuals import record_image_attention

model = load_micro_image_prompt(load({stable.MICRO!r}))
settings = dict(
{ask.printed()})
plain = list(model.steps({ask.prompt!r}, **settings))
steps = []
with record_image_attention(model) as added:
    for step in model.steps({ask.prompt!r}, image_prompt=picture, image_prompt_scale={ask.scale!r}, **settings):
        added.after(step)
        steps.append(step)
pictures = [model.decode(run[-1].x_next) for run in (plain, steps)]
shares = added.shares()  # [steps, layers]: the attention to the picture, relative to that to the words"""
