"""Where each word of the prompt acts: record a U-Net's cross-attention at each step, or change the weight of a word.

    text = model.encode_text("a cat left of a dog")
    with record_attention(model, text) as attention:
        for step in model.steps(text, seed=0):
            attention.after(step)
    attention.columns()                     # ("start", "a", "cat", "left", ..., "end", "padding")
    attention.maps()                        # [steps, columns, h, w], which sum to 1 over the columns
    attention.of("cat")                     # [steps, h, w]

In every cross-attention layer each position of the latents compares its query with the keys of all tokens, and averages
their values with the weights

    weights = softmax(q k^T / sqrt(head_width))        [positions, tokens]      (Hertz et al. 2022, Eq. 1)

Resized to the latents and averaged over layers, the weights are heat maps of the words (Tang et al. 2022, DAAM, Eq. 5,
which adds where this averages). The network is observed by hooks: what it computes stays the same to the bit. Only the
conditional side of guidance, the one with the prompt, is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.messages import unknown_name
from diffusion_explained.samplers import Step
from diffusion_explained.schedules import Level
from diffusion_explained.stable_diffusion.image_attention import cross_attention_layers
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.text import Text, Tokens


@dataclass
class RecordedAttention:
    """The recorded attention weights of a run, on the CPU.

    text: the run's `Text`; size: (h, w) of the latents; levels: one per step.
    layers: for each step {layer's name: weights [images, heads, columns, rows, cols]}, each layer at its own
    resolution; heads is 1, the mean of all heads, unless every_head was set.
    """

    text: Text
    every_head: bool = False
    size: tuple[int, int] = (0, 0)
    levels: list[Level] = field(default_factory=list)
    layers: list[dict[str, Tensor]] = field(default_factory=list)
    _calls: list[dict[str, Tensor]] = field(default_factory=list, repr=False)  # both sides, every token

    def after(self, step: Step) -> None:
        """Keep the attention weights of this step; for a step with two network evaluations (Heun's), their mean.

        Raises ValueError if the network was not called since the last step that was kept.
        """
        calls, self._calls = self._calls[-1 - (step.pred_2 is not None) :], []
        if not calls:
            raise ValueError(
                "The network was not called since the last step: call after(step) once for each step, right after it."
            )
        count, guided = len(step.x_t), step.pred.eps_uncond is not None
        height, width = step.x_t.shape[2:]
        self.size = (height, width)
        kept: dict[str, Tensor] = {}
        for call in calls:
            for name, weights in call.items():
                if len(weights) != count * (1 + guided):
                    raise ValueError(
                        f"{len(weights)} rows were recorded, but the step has {count} images: this is another step."
                    )
                pooled = self._pooled(weights[-count:]) / len(calls)  # the prompt's side comes last
                kept[name] = kept[name] + pooled if name in kept else pooled
        self.layers.append({name: self._placed(weights) for name, weights in kept.items()})
        self.levels.append(step.level)

    def columns(self, image: int = 0) -> tuple[str, ...]:
        """The names of the columns, in order: the start, the prompt's words, the end, and all padding as one column."""
        return ("start", *(word for word, _ in self._tokens(image).words), "end", "padding")

    @named_options
    def maps(
        self, image: int = 0, *, layers: Sequence[str] | None = None, head: int | None = None, upsample: bool = True
    ) -> Tensor:
        """One image's attention maps [steps, columns, h, w], which sum to 1 over the columns.

        The maps are the mean over the named layers (default: all) and over all heads, or those of one head.
        upsample: to the size of the latents, bilinear; without it the named layers must be of one size.
        Raises ValueError for an image, layer or head that was not recorded.
        """
        if not self.layers:
            raise ValueError("Nothing is recorded yet: call after(step) for each step.")
        names = list(self.layers[0]) if layers is None else list(layers)
        for name in names:
            if name not in self.layers[0]:
                raise unknown_name("cross-attention layer", name, self.layers[0])
        sizes = {tuple(self.layers[0][name].shape[-2:]) for name in names}
        if not upsample and len(sizes) != 1:
            raise ValueError(f"Layers of sizes {sorted(sizes)} have no mean: name layers of one size, or upsample.")
        count = len(self.columns(image))
        return torch.stack([self._mean(step, names, image, head, upsample)[:count] for step in self.layers])

    @named_options(of=maps)
    def of(self, word: str, image: int = 0, **options: Any) -> Tensor:
        """One word's attention maps [steps, h, w], summed over its occurrences in the prompt; options as for `maps`.

        Raises ValueError for a word that is not in the prompt.
        """
        columns = self.columns(image)
        if word not in columns:
            raise unknown_name("word of the prompt", word, columns)
        places = [k for k, column in enumerate(columns) if column == word]
        return self.maps(image, **options)[:, places].sum(1)

    @named_options(of=maps)
    def shares(self, image: int = 0, **options: Any) -> Tensor:
        """Each column's share of the attention over the whole picture: [steps, columns], rows sum to 1."""
        return self.maps(image, **options).mean((-2, -1))

    def _mean(self, step: dict[str, Tensor], names: list[str], image: int, head: int | None, upsample: bool) -> Tensor:
        found = []
        for name in names:
            weights = step[name]
            if not 0 <= image < len(weights):
                raise ValueError(f"image {image} was not recorded; there are {len(weights)}, counted from 0.")
            if head is not None and not 0 <= head < weights.shape[1]:
                raise ValueError(f"head {head} of {name} was not recorded: it has {weights.shape[1]}, counted from 0. "
                                 "record_attention(..., every_head=True) keeps each.")  # fmt: skip
            maps = weights[image].mean(0) if head is None else weights[image, head]
            if upsample and maps.shape[-2:] != self.size:
                maps = F.interpolate(maps[None], self.size, mode="bilinear", align_corners=False)[0]
            found.append(maps)
        return torch.stack(found).mean(0)

    def _tokens(self, image: int) -> Tokens:
        return self.text.tokens[image if len(self.text) > 1 else 0][0]

    def _pooled(self, weights: Tensor) -> Tensor:
        """Sum weights [B, heads, positions, tokens] to [B, heads, positions, columns]; missing columns are zero."""
        groups = [column_of_tokens(self._tokens(i)) for i in range(len(weights))]
        columns = max(len(self.columns(i)) for i in range(len(weights)))
        choose = torch.stack([F.one_hot(group, columns) for group in groups]).to(weights)  # [B, tokens, columns]
        pooled = weights @ choose[:, None]
        return (pooled if self.every_head else pooled.mean(1, keepdim=True)).float().cpu()

    def _placed(self, weights: Tensor) -> Tensor:
        """Reshape [B, heads, positions, columns] to [B, heads, columns, rows, cols], the layer's grid of positions."""
        return weights.transpose(2, 3).unflatten(3, grid_of(weights.shape[2], self.size))


@typed_arguments
@contextmanager
def record_attention(model: StableDiffusion, text: Text, *, every_head: bool = False) -> Iterator[RecordedAttention]:
    """Record attention inside the `with`, for each step given to `after`; the hooks are always removed at its end.

    Args:
        text: the same `Text` as in `model.steps(text, ...)`; its words name the columns.
        every_head: keep each head separately, which multiplies the memory by the number of heads.

    Raises ValueError for a model without cross-attention (Stable Diffusion 3), or one that is compiled.
    """
    recorded = RecordedAttention(text, every_head)

    def begin(network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        embeds = named["encoder_hidden_states"]
        rows = embeds[-len(text) :] if len(text) > 1 else embeds[-1:]
        if rows.shape != text.embeds.shape or not torch.equal(rows, text.embeds.to(rows)):
            raise ValueError(
                "The network was given another text than record_attention: give model.steps the same `Text`."
            )
        recorded._calls = [*recorded._calls[-1:], {}]  # no step has more than two; those that are skipped are dropped

    def keep_as(name: str) -> Any:
        def hook(attend: Any, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
            hidden = inputs[0] if inputs else named["hidden_states"]
            recorded._calls[-1][name] = weights_of(attend, hidden, named["encoder_hidden_states"])

        return hook

    layers = cross_attentions(model)
    handles = [model.network.register_forward_pre_hook(begin, with_kwargs=True)]
    handles += [layer.register_forward_hook(keep_as(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@typed_arguments
@contextmanager
def reweight(model: StableDiffusion, text: Text, factors: Mapping[str, float]) -> Iterator[None]:
    """Multiply the attention to some words inside the `with`: {"blue": 2.0}; 1 changes nothing, 0 removes the word.

        weights[:, token] <- factor * weights[:, token]               (Prompt-to-Prompt, Sec. 3.2, re-weighting)

    A token contributes its weight times its value, so multiplying the value has the same effect; this is what is done.
    The unconditional side of guidance does not change. Raises ValueError as `record_attention` does, for a word that
    no prompt contains, and for a factor that is not finite.
    """
    known = dict.fromkeys(word for tokens in text.tokens for word, _ in tokens[0].words)
    for word, factor in factors.items():
        if word not in known:
            raise unknown_name("word of the prompt", word, known)
        if not abs(factor) < float("inf"):
            raise ValueError(f"the factor of {word!r} must be a finite number, 1 for no change; got {factor}.")
    of_prompts = torch.ones(text.embeds.shape[:2], device=text.embeds.device, dtype=torch.float32)  # [B, tokens]
    for row, tokens in zip(of_prompts, text.tokens, strict=True):
        words = ("", *(word for word, _ in tokens[0].words))
        for place, column in enumerate(column_of_tokens(tokens[0]).tolist()):
            if column < len(words):
                row[place] = factors.get(words[column], 1.0)

    def scale(to_v: nn.Module, inputs: tuple[Tensor], values: Tensor) -> Tensor:
        embeds = inputs[0]
        same = (embeds[:, None] == text.embeds.to(embeds)[None]).all(-1).all(-1)  # [rows, B]: which row, which prompt
        factor = torch.where(same.any(1, keepdim=True), of_prompts[same.int().argmax(1)], 1.0)
        return values * factor[..., None].to(values)

    handles = [layer.to_v.register_forward_hook(scale) for layer in cross_attentions(model).values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@typed_arguments
def cross_attentions(model: StableDiffusion) -> dict[str, Any]:
    """The network's cross-attention layers, by name, in order.

    Raises ValueError for a network without cross-attention, or one that is compiled.
    """
    if model.family.drive is not None:
        raise ValueError(
            f"The attention of {model.family.title} is not shown here: use Stable Diffusion 1.x, 2.x, XL or micro."
        )
    if model.family.network != "unet":
        raise ValueError(
            f"{model.family.title} has no cross-attention: its text and picture attend to each other in one sequence. "
            "Use a model with a U-Net (Stable Diffusion 1.x, 2.x, XL, micro)."
        )
    layers = cross_attention_layers(model.network)
    if model.call is not model.network:
        raise ValueError("This model is compiled, and hooks cannot observe a compiled network: use the model from "
                         "before `accelerate`, or load it without fast=True.")  # fmt: skip
    if not layers:
        raise ValueError(f"The U-Net of {model.name} has no cross-attention layer.")
    return layers


def weights_of(attend: Any, hidden: Tensor, embeds: Tensor) -> Tensor:
    """A layer's softmax(q k^T / sqrt(head_width)) [N, heads, positions, tokens], by diffusers' own function."""
    q = attend.head_to_batch_dim(attend.to_q(hidden))
    k = attend.head_to_batch_dim(attend.to_k(embeds))
    return attend.get_attention_scores(q, k).unflatten(0, (len(hidden), -1))


def column_of_tokens(tokens: Tokens) -> Tensor:
    """For each token the number of its column [tokens]: 0 the start, from 1 the words, then the end and the padding."""
    counts = [count for _, count in tokens.words]
    lengths = torch.tensor([1, *counts, 1, tokens.padding], dtype=torch.int64, device="cpu")
    return torch.arange(len(lengths), dtype=torch.int64, device="cpu").repeat_interleave(lengths)


def grid_of(positions: int, size: tuple[int, int]) -> tuple[int, int]:
    """(rows, cols) of a layer with `positions` positions in a U-Net on latents of `size`, halved by rounding up.

    Raises ValueError when no resolution of the U-Net has this number of positions.
    """
    rows, cols = size
    while rows * cols > positions:
        rows, cols = -(-rows // 2), -(-cols // 2)
    if rows * cols != positions:
        raise ValueError(
            f"{positions} positions do not result from halving latents of {size[0]} x {size[1]} repeatedly."
        )
    return rows, cols
