"""The runs of the part "A picture" of the page Control: one with the words alone, and one with the picture too."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explorer import stable
from explorer.cache import named_cache
from explorer.control_runs import Drawn
from explorer.stable import Loaded
from explorer.turns import HEAVY, Tell, held


@dataclass(frozen=True)
class Ask:
    """The settings of both runs, without the picture."""

    prompt: str
    scale: float
    num_inference_steps: int
    guidance_scale: float
    seed: int

    def options(self) -> dict[str, Any]:
        """The options of `StableDiffusion.steps` that both runs share."""
        names = ("num_inference_steps", "guidance_scale", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class Reference:
    """A picture [1, 3, 128, 128] in [-1, 1], and the program that makes it as `picture`."""

    picture: Tensor
    program: str

    @property
    def key(self) -> str:
        """Identifies the picture."""
        return hashlib.sha256(self.picture.numpy().tobytes()).hexdigest()


def _with_picture(here: Loaded) -> Any:
    """The model with the image prompt, loaded once for each loading of the model."""
    from diffusion_explained.micro.image_prompt import load_micro_image_prompt

    return named_cache("models with a picture", 1).get(id(here), lambda _: load_micro_image_prompt(here.model))


def draw(ask: Ask, given: Reference, tell: Tell) -> Drawn:
    """Draw both pictures. Raises the engine's ValueErrors and OSErrors."""

    def make(tell: Tell) -> Drawn:
        from diffusion_explained.stable_diffusion.control_residuals import control_film, record_image_attention
        from diffusion_explained.stable_diffusion.image_films import decoded

        here = stable.load(stable.models(), stable.MICRO, tell)
        model, count, done = _with_picture(here), 2 * ask.num_inference_steps, 0
        runs, options = [], {"image_prompt": given.picture, "image_prompt_scale": ask.scale}
        with held(here.turn, tell, stable.BUSY), HEAVY.turn(tell) as turn:
            text = model.encode_text(ask.prompt)
            for more in ({}, options):
                with record_image_attention(model) as added:
                    steps = []
                    for step in model.steps(text, **ask.options(), **more):
                        added.after(step)
                        steps.append(step)
                        done += 1
                        turn(done / count, f"step {done} of {count}, both runs")
                runs.append(steps)
            pictures = [torch.cat([decoded(model, steps, 0), model.decode(steps[-1].x_next).cpu()]) for steps in runs]
            film = control_film(*pictures, runs[1], added, by="the picture", others="other layers")
        return Drawn(pictures[0][-1:], pictures[1][-1:], film, model.label, model.name)

    return named_cache("shown").get((ask, given.key), make, tell)


def program(ask: Ask, given: Reference) -> str:
    """Both runs in Python: plain and steps, their pictures, and what the picture added."""
    shared = "".join(f"    {key}={value!r},\n" for key, value in ask.options().items())
    return f"""{given.program}

from diffusion_explained.micro.image_prompt import load_micro_image_prompt
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.control_residuals import record_image_attention

model = load_micro_image_prompt(load({stable.MICRO!r}))
settings = dict(
{shared})
plain = list(model.steps({ask.prompt!r}, **settings))
steps = []
with record_image_attention(model) as added:
    for step in model.steps({ask.prompt!r}, image_prompt=picture, image_prompt_scale={ask.scale!r}, **settings):
        added.after(step)
        steps.append(step)
pictures = [model.decode(run[-1].x_next) for run in (plain, steps)]
shares = added.shares()  # [steps, layers]: the attention to the picture, relative to that to the words"""
