"""Discrete diffusion: a chain over kinds (letters, tokens), beside the Gaussian chain over numbers.

| module     | holds                                                                                     |
|------------|-------------------------------------------------------------------------------------------|
| `chain`    | `Chain`: what is kept at each time, q(x_t | x_0), q(x_s | x_t, x_0); masked, or uniform    |
| `samplers` | ancestral sampling, the most certain positions first, from left to right                  |
| `bound`    | the loss, a weighted cross entropy; the bound in bits per position; n-grams as the floor  |
| `oracle`   | the exact predictor of a known distribution over sequences                                |
| `network`  | a transformer over letters, for diffusion and, with a causal mask, for an autoregressive twin |
| `text`     | alphabets and text models: load, sample, fill gaps, bits per letter                       |
"""

from diffusion_explained.discrete.bound import bits_per_position, grams_bits, step_loss, training_loss
from diffusion_explained.discrete.chain import CLEAN, Chain, Level, draw
from diffusion_explained.discrete.network import Letters, LettersConfig
from diffusion_explained.discrete.oracle import ExactSequences
from diffusion_explained.discrete.samplers import Step, ancestral, final, left_to_right, most_certain_first
from diffusion_explained.discrete.text import Alphabet, TextModel, is_text_model, load_text, save_text, texts

__all__ = [
    "CLEAN",
    "Alphabet",
    "Chain",
    "ExactSequences",
    "Letters",
    "LettersConfig",
    "Level",
    "Step",
    "TextModel",
    "ancestral",
    "bits_per_position",
    "draw",
    "final",
    "grams_bits",
    "is_text_model",
    "left_to_right",
    "load_text",
    "most_certain_first",
    "save_text",
    "step_loss",
    "texts",
    "training_loss",
]
