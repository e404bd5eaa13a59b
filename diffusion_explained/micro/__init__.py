"""Micro Stable Diffusion: a whole text-to-image system of 128 x 128 emoji, small enough to train in minutes.

emoji = load_emoji_sample()                      # real emoji in three styles, with their names (emoji.py)
scenes = SceneSampler(emoji).batch(range(8))     # captioned scenes: "two dogs", "a red cat" ... (scenes.py)
x = draw_scenes(scenes, emoji.images)            # float [8, 3, 128, 128] in [-1, 1]
tokens = encode(load_tokenizer(), scenes.captions)  # int64 [8, MAX_LENGTH] (tokens.py)
"""

from typing import TYPE_CHECKING

from diffusion_explained.extras import modules_at_first_use

if not TYPE_CHECKING:  # a type checker finds the modules itself, and tells a name that does not exist
    __getattr__ = modules_at_first_use(__name__, __path__)
