"""Answers to the exercises of lab 33."""

import torch
import torch.nn.functional as F
from torch import nn

from diffusion_explained.models.dit import Block, DiT, DiTConfig, positions
from diffusion_explained.models.embeddings import ClassEmbedding, TimeEmbedding


def my_patches(x, size):
    return F.pixel_unshuffle(x, size).flatten(2).transpose(1, 2)


def cut(order):
    """Patches with the axes (image, channel, row, in the row, column, in the column) in this order."""

    def answer(x, size):
        B, C, H, W = x.shape
        six = x.reshape(B, C, H // size, size, W // size, size)
        return six.permute(order).reshape(B, (H // size) * (W // size), -1)

    return answer


def my_attention(q, k, v, heads, *, scale=lambda d, width: d**-0.5, dim=-1, softmax=True):
    width = q.shape[-1]
    q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))
    weights = q @ k.transpose(-1, -2) * scale(q.shape[-1], width)
    weights = weights.softmax(dim) if softmax else weights
    return (weights @ v).transpose(1, 2).flatten(2)


def by_torch(q, k, v, heads):
    q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class MyBlock(nn.Module):
    def __init__(self, width, heads, *, zero=True, affine=False, parts=6, out=True, mlp=True, attend=True, norm=True):
        super().__init__()
        self.heads, self.parts, self.attend = heads, parts, attend
        self.modulate = nn.Linear(width, parts * width)
        self.norm = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=affine) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width) if out else nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) if mlp else None
        if not norm:
            self.norm = nn.ModuleList(nn.Identity() for _ in range(2))
        if zero:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens, cond):
        parts = self.modulate(cond)[:, None].chunk(self.parts, dim=-1)
        parts = (*parts, *parts)[:6]
        if self.attend:
            h = self.qkv(self.norm[0](tokens) * (1 + parts[0]) + parts[1])
            tokens = tokens + parts[2] * self.out(my_attention(*h.chunk(3, dim=-1), self.heads))
        if self.mlp is not None:
            tokens = tokens + parts[5] * self.mlp(self.norm[1](tokens) * (1 + parts[3]) + parts[4])
        return tokens


class DeadBlock(MyBlock):
    """Gates of 0, and after attention and network layers of 0 as well: nothing is ever learned."""

    def __init__(self, width, heads):
        super().__init__(width, heads)
        for layer in (self.out, self.mlp[2]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)


class OverImages(MyBlock):
    def forward(self, tokens, cond):
        return super().forward(tokens.transpose(0, 1), cond[:1].expand(tokens.shape[1], -1)).transpose(0, 1)


class Unconditional(MyBlock):
    def forward(self, tokens, cond):
        return super().forward(tokens, torch.ones_like(cond))


class Placed(MyBlock):
    def forward(self, tokens, cond):
        places = torch.linspace(0, 1, tokens.shape[1])[:, None]
        return tokens + (1 + places) * (super().forward(tokens, cond) - tokens)


class MyDiT(nn.Module):
    def __init__(
        self, side, patch, width, depth, heads, num_classes, *, zero=True, placed=True, kept=True, turned=False,
        timed=True, labelled=True,
    ):  # fmt: skip
        super().__init__()
        self.patch, self.grid, self.turned = patch, (side // patch, side // patch), turned
        self.embed = nn.Linear(patch**2, width)
        self.time, self.label = TimeEmbedding(width), ClassEmbedding(num_classes, width)
        self.timed, self.labelled, self.placed = timed, labelled, placed
        blocks = [MyBlock(width, heads) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks) if kept else tuple(blocks)
        self.norm, self.modulate = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch**2)
        self.register_buffer("places", positions(self.grid, width))
        if zero:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x, t, labels):
        cond = self.timed * self.time(t) + self.labelled * self.label(labels, len(x))
        tokens = self.embed(my_patches(x, self.patch)) + self.placed * self.places
        for block in self.blocks:
            tokens = block(tokens, cond)
        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)
        tokens = self.head(self.norm(tokens) * (1 + scale) + shift)
        tokens = tokens.transpose(1, 2).unflatten(2, self.grid)
        return F.pixel_shuffle(tokens.transpose(2, 3) if self.turned else tokens, self.patch)


def library_dit(side, patch, width, depth, heads, num_classes):
    config = DiTConfig((1, side, side), patch, width, depth, width // heads, num_classes)
    return DiT(config)


def with_options(made, **options):
    return lambda *arguments: made(*arguments, **options)


RIGHT = {
    "33.1": [my_patches, cut((0, 2, 4, 1, 3, 5))],
    "33.2": [my_attention, by_torch],
    "33.3": [MyBlock, lambda width, heads: Block(width, width // heads)],
    "33.4": [MyDiT, library_dit],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "33.1": [
        (lambda x, size: x.reshape(len(x), -1, x.shape[1] * size**2), "cuts along the memory"),
        (cut((0, 4, 2, 1, 3, 5)), "in the order of columns"),
        (cut((0, 2, 4, 3, 5, 1)), "the channels come last"),
        (cut((0, 2, 4, 1, 5, 3)), "each patch is transposed"),
        (lambda x, size: F.pixel_unshuffle(x, size).flatten(2), "are exchanged"),
        (lambda x, size: F.avg_pool2d(x, size).flatten(2).transpose(1, 2), "the shape is"),
        (lambda x, size: my_patches(x, size).flip(1), "these are not the patches"),
        (lambda x, size: my_patches(x.mul_(2), size), "in place"),
        (lambda x: x, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
    "33.2": [
        (lambda *a: my_attention(*a, scale=lambda d, width: 1.0), "not divided by the root"),
        (lambda *a: my_attention(*a, scale=lambda d, width: 1 / d), "take its root"),
        (lambda *a: my_attention(*a, scale=lambda d, width: width**-0.5), "take that of one head"),
        (lambda *a: my_attention(*a, dim=-2), "softmax runs over the queries"),
        (lambda q, k, v, heads: my_attention(q, k, v, 1), "this is one head"),
        (lambda q, k, v, heads: (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5) @ v, "softmax is missing"),
        (lambda q, k, v, heads: my_attention(k, q, v, heads), "this is not softmax"),
        (lambda q, k, v, heads: my_attention(q, k, v, heads).transpose(1, 2), "shape"),
        (lambda q, k, v, heads: my_attention(q.mul_(2), k, v, heads), "in place"),
        (lambda q: q, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
    "33.3": [
        (with_options(MyBlock, zero=False), "begin with gates of 0"),
        (DeadBlock, "must not be 0 as well"),
        (with_options(MyBlock, affine=True), "elementwise_affine=False"),
        (with_options(MyBlock, parts=3), "three numbers per feature"),
        (with_options(MyBlock, out=False), "mixes the heads"),
        (with_options(MyBlock, mlp=False), "the network of two layers is missing"),
        (with_options(MyBlock, attend=False), "attention is missing"),
        (with_options(MyBlock, norm=False), "normalise before"),
        (OverImages, "the other images of the batch"),
        (Unconditional, "the condition changes nothing"),
        (Placed, "a block knows no positions"),
        (lambda width, heads: MyBlock, "returns a torch module"),
        (lambda width, heads: nn.Linear(width, width), "ended with TypeError"),
        (lambda width: width, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
    "33.4": [
        (with_options(MyDiT, zero=False), "does not answer 0"),
        (with_options(MyDiT, placed=False), "without positions"),
        (with_options(MyDiT, kept=False), "nn.ModuleList"),
        (with_options(MyDiT, turned=True), "in the order in which they were cut"),
        (with_options(MyDiT, timed=False), "the time changes nothing"),
        (with_options(MyDiT, labelled=False), "the class changes nothing"),
        (lambda *a: MyBlock(8, 2), "ended with TypeError"),
        (lambda *a: MyDiT, "returns a torch module"),
        (lambda side: side, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
}
