"""The kinds of data that there are, and their trained networks.

model = load_beyond("video")
clips = model.sample([3, 27], guidance_scale=2.0)       # "3-slow", "77-slow"; the same arguments as for digits
"""

from __future__ import annotations

import torch

from diffusion_explained.beyond.kinds import Kind
from diffusion_explained.beyond.molecules import MOLECULE_KIND
from diffusion_explained.beyond.shapes import SHAPES
from diffusion_explained.beyond.sound import SOUND
from diffusion_explained.beyond.video import VIDEO
from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.pretrained import WEIGHTS, Model, load_pretrained

_ALL: tuple[Kind, ...] = (VIDEO, SHAPES, SOUND, MOLECULE_KIND)
KINDS = {kind.name: kind for kind in _ALL}


@named_options
@typed_arguments
def load_beyond(name: str, device: torch.device | str = "cpu") -> Model:
    """Load the trained network of a kind of data, one of `KINDS`, as a `Model`.

    Raises ValueError for a kind that does not exist, and the errors of `load_pretrained`.
    """
    if name not in KINDS:
        raise unknown_name("kind of data", name, KINDS)
    return load_pretrained(WEIGHTS / "beyond" / f"{name}.safetensors", device)


@typed_arguments
def kind_of(model: Model) -> Kind | None:
    """The kind of data that a model draws, by the data set in its card; None for images."""
    recipe = model.card.get("recipe")
    return KINDS.get(str(recipe.get("dataset"))) if isinstance(recipe, dict) else None
