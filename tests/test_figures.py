"""Words in figures: formulas where they are meant, and what came from elsewhere as it is."""

import pytest
import torch

from diffusion_explained import plots
from diffusion_explained.plots.attention import word_maps
from diffusion_explained.plots.latent import reach_map
from diffusion_explained.plots.style import labelled, literal, png

PROMPTS = (r"a $\frac$ cat", "$$", "$x$ and $\\y$", "costs $5", r"\$ and $a_{", "a $\\notaword$ b", "100% & {#}")


def drawn(fig) -> list[str]:
    """Every text of a figure after it was drawn; an exception in drawing is a failure."""
    assert png(fig, dpi=30)[:4] == b"\x89PNG"
    return [text.get_text() for text in fig.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def test_a_formula_stays_one():
    assert labelled("its noise $x_T$") == "its noise $x_T$" and labelled("no formula") == "no formula"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_in_a_title_or_a_caption_ends_no_drawing(prompt):
    images = torch.zeros(2, 3, 8, 8)
    drawn(plots.image_grid(images, captions=[prompt, "b"], title=prompt))
    drawn(plots.filmstrip({prompt: images}, captions=[prompt, "b"], title=prompt))


@pytest.mark.parametrize("word", [*PROMPTS, "$x_t$"])
def test_a_word_of_a_prompt_is_never_a_formula(word):
    pictures, maps = torch.zeros(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    texts = drawn(word_maps(pictures, maps, [word], ["end"], title="Attention"))
    assert any(text.startswith(literal(word)) for text in texts)
    assert literal(word) in drawn(reach_map(torch.rand(1, 5), [word]))
    assert literal(word).count("$") == literal(word).count(r"\$"), "no dollar is left to begin a formula"
