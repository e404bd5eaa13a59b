"""The benchmarks of micro's copies, with models that surely copy and surely do not, and of LoRAs; the second recipe."""

import importlib
from pathlib import Path

import pytest
import torch

from diffusion_explained.micro.emoji import STYLES, load_emoji_sample
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.micro.scenes import plain_caption

ROOT = Path(__file__).parents[1]


@pytest.fixture
def of(monkeypatch):
    """A program of a folder, imported as a module."""

    def imported(folder, name):
        monkeypatch.syspath_prepend(str(ROOT / folder))
        return importlib.import_module(name)

    return imported


class Copier:
    """Draws the training picture whose caption it is given, a plain grey one for any other; its decoder is exact."""

    device = "cpu"

    def __init__(self, emoji):
        captions = [
            plain_caption(emoji, int(s), STYLES[int(k)]) for s, k in zip(emoji.subject, emoji.style, strict=True)
        ]
        self.known = dict(zip(captions, on_white(emoji.images), strict=True))

    def draw(self, captions, seeds):
        return torch.stack([self.known.get(caption, torch.zeros(3, 128, 128)) for caption in captions])

    def reconstruct(self, images):
        return images


class Artist(Copier):
    """Draws something else from each seed."""

    def draw(self, captions, seeds):
        rows = [torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.nn.functional.interpolate(torch.stack(rows), scale_factor=8).clamp(-1, 1)


def test_copies_are_told_from_pictures_that_differ(of, monkeypatch):
    micro_text, emoji = of("benchmarks", "micro_text"), load_emoji_sample()
    monkeypatch.setattr(micro_text, "VARIANTS", 2)
    styled = "a thing in a style"
    (copied,) = [row for row in micro_text.copies(Copier(emoji), emoji, prompts=2) if row["prompts"] == styled]
    assert copied["between_seeds"]["mean"] == copied["its_reconstruction"]["mean"] == pytest.approx(0, abs=1e-6)
    assert copied["nearest_training_picture"]["mean"] == pytest.approx(0, abs=1e-6)
    assert copied["in_another_style"]["mean"] > 0.3
    rows = {row["prompts"]: row for row in micro_text.copies(Artist(emoji), emoji, prompts=2)}
    assert min(row["between_seeds"]["mean"] for row in rows.values()) > 0.1
    assert rows[styled]["nearest_training_picture"]["mean"] > 0.3
    assert {kind for kind, row in rows.items() if "in_another_style" in row} == {"a thing", styled}


def test_the_benchmark_of_loras_holds_out_what_it_says_and_its_judge_tells_styles(of):
    micro_lora, emoji = of("benchmarks", "micro_lora"), load_emoji_sample()
    noto, ink, mosaic = (micro_lora.cases_of(emoji, style, 12) for style in ("noto", "ink", "mosaic"))
    style = micro_lora.STYLES.index("noto")
    for subject, image in zip(noto.subjects, noto.images, strict=True):
        (own,) = ((emoji.subject == subject) & (emoji.style == style)).nonzero()[:, 0].tolist()
        assert emoji.held_out[own] and torch.equal(image, on_white(emoji.images[own : own + 1])[0])
    assert len(noto.subjects) > 3 and len(ink.subjects) == 12 != len({*ink.subjects, *mosaic.subjects})
    assert bool((ink.images.std(1) == 0).all())  # without colour
    blocks = mosaic.images.unfold(2, 8, 8).unfold(3, 8, 8)
    assert bool((blocks == blocks[..., :1, :1]).all())
    judge = micro_lora.Judge(emoji, "cpu", {*ink.subjects, *mosaic.subjects}, fitted=24)
    for name, cases in (("ink", ink), ("mosaic", mosaic)):  # chance is 1 in 5; the benchmark fits to 60 times as many
        assert judge.found(cases.images, name, cases.subjects)["in_the_style"]["share"] > 0.5


def test_the_second_loss_reads_each_side_at_its_own_padding(of):
    """The left thing is read at the padding whose place is 0 modulo 4, the right one at 1: words do not matter."""
    micro2 = of("recipes", "micro2")
    torch.manual_seed(0)
    reader, embeds, end = micro2.SideReader(5, "open"), torch.randn(1, 12, micro2.TEXT_WIDTH), torch.tensor([3])
    logits = reader(embeds, end)
    assert logits.shape == (1, 4, 5)
    for place in range(12):
        moved = embeds.clone()
        moved[:, place] += 1
        changed = (reader(moved, end) != logits).any(2)[0].nonzero().flatten().tolist()
        assert changed == ([] if place < 3 else [place % 4])
    masked = micro2.SideReader(5, "masked")
    moved = embeds.clone()
    moved[:, 4:] += 1
    torch.testing.assert_close(masked(moved, end), masked(embeds, end))
