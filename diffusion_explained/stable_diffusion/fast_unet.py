"""diffusers' U-Net of Stable Diffusion 1.x, 2.x and XL with fewer and larger matrix products: the same function.

A GPU takes as long for a small product as for one several times as large. So layers that read the same input become
one product, and what does not depend on the prompt is computed once for both sides of guidance:

    time      the projections of the time embedding, one per residual block: 22 in Stable Diffusion 1.5
    text      the keys and values of all cross-attention layers: 32
    q, k, v   of each self-attention layer
    sides     until the first cross-attention both sides of guidance have the same activations: B images instead of 2B

The weights are not copied: those of joined layers become views of one tensor. So a LoRA, which changes the weights of
layers in place, changes the products too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = {"DownBlock2D", "CrossAttnDownBlock2D", "UNetMidBlock2DCrossAttn", "UpBlock2D", "CrossAttnUpBlock2D"}
# a network with another value computes something else
PLAIN = {"attention_type": "default", "center_input_sample": False, "class_embed_type": None, "num_class_embeds": None,
         "cross_attention_norm": None, "dual_cross_attention": False, "encoder_hid_dim_type": None,
         "only_cross_attention": False, "mid_block_only_cross_attention": None, "resnet_skip_time_act": False,
         "resnet_time_scale_shift": "default", "time_embedding_act_fn": None}  # fmt: skip


class Joined(nn.Module):
    """Linear layers with one input as one product: x [..., in] to a tensor [..., out] per layer."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.sizes = [layer.out_features for layer in layers]
        self.bias = None
        for name in ("weight",) if layers[0].bias is None else ("weight", "bias"):
            joined = torch.cat([getattr(layer, name).detach() for layer in layers])
            setattr(self, name, nn.Parameter(joined, requires_grad=False))
            for layer, part in zip(layers, joined.split(self.sizes), strict=True):
                getattr(layer, name).data = part

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs of all layers, in their order."""
        return F.linear(x, self.weight, self.bias).split(self.sizes, dim=-1)


def can_join(network: Any) -> bool:
    """Whether `JoinedUNet` computes the function of this network: a plain U-Net whose weights are not in float8."""
    if type(network).__name__ != "UNet2DConditionModel":
        return False
    config, blocks = network.config, (*network.down_blocks, network.mid_block, *network.up_blocks)
    layers = [getattr(part, name, None) for part in network.modules() for name in ("to_q", "to_k", "to_v")]
    return (
        {type(block).__name__ for block in blocks} <= BLOCKS
        and all(config.get(name, plain) == plain for name, plain in PLAIN.items())
        and config.get("addition_embed_type") in (None, "text_time")
        and all(layer is None or type(layer) is nn.Linear for layer in layers)
    )


class JoinedUNet(nn.Module):
    """A `UNet2DConditionModel` that `can_join`, with joined products; it is called with return_dict=False only.

    shares_sides: with guidance it takes x [B, C, h, w] and t [B] with the embeddings of both sides [2B, L, D].
    """

    shares_sides = True

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)  # in the order of the forward pass
        residual = [part for block in blocks for part in block.resnets]
        attending = [
            part
            for block in blocks
            for attention in getattr(block, "attentions", ())
            for part in attention.transformer_blocks
        ]
        self.time = Joined([part.time_emb_proj for part in residual])
        self.text = Joined([layer for part in attending for layer in (part.attn2.to_k, part.attn2.to_v)])
        self.own = nn.ModuleList(Joined([part.attn1.to_q, part.attn1.to_k, part.attn1.to_v]) for part in attending)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        timestep_cond: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[Tensor]:
        """The raw output [N, C, h, w], in a tuple as diffusers' own, for embeddings [N, L, D].

        sample [B, C, h, w], timestep [B], where B is N or N/2; the additional residuals of a ControlNet are [N, ...].
        """
        unet = self.unet
        emb = unet.time_embedding(unet.get_time_embed(sample, timestep), timestep_cond)
        added = unet.get_aug_embed(emb, encoder_hidden_states, added_cond_kwargs)
        emb = emb if added is None else _sum(emb, added)
        offsets, texts, own = iter(self.time(F.silu(emb))), iter(self.text(encoder_hidden_states)), iter(self.own)

        def attended(attention: Any, x: Tensor) -> Tensor:
            return _transformer(attention, x, texts, own)

        x = unet.conv_in(sample)
        skips = [x]
        for block in unet.down_blocks:
            attentions = getattr(block, "attentions", None)
            for i, part in enumerate(block.resnets):
                x = _residual(part, x, next(offsets))
                x = x if attentions is None else attended(attentions[i], x)
                skips.append(x)
            for part in block.downsamplers or ():
                x = part(x)
                skips.append(x)
        if down_block_additional_residuals is not None:
            skips = [_sum(skip, more) for skip, more in zip(skips, down_block_additional_residuals, strict=True)]

        x = _residual(unet.mid_block.resnets[0], x, next(offsets))
        for attention, part in zip(unet.mid_block.attentions, unet.mid_block.resnets[1:], strict=True):
            x = _residual(part, attended(attention, x), next(offsets))
        if mid_block_additional_residual is not None:
            x = _sum(x, mid_block_additional_residual)

        for block in unet.up_blocks:
            attentions = getattr(block, "attentions", None)
            for i, part in enumerate(block.resnets):
                x = _residual(part, torch.cat(_paired(x, skips.pop()), dim=1), next(offsets))
                x = x if attentions is None else attended(attentions[i], x)
            for part in block.upsamplers or ():
                x = part(x, skips[-1].shape[2:])
        return (unet.conv_out(unet.conv_act(unet.conv_norm_out(x))),)


def _residual(block: Any, x: Tensor, offset: Tensor) -> Tensor:
    """A residual block on x [B, C, h, w], with its projection of the time embedding [N, C']."""
    hidden = _sum(block.conv1(block.nonlinearity(block.norm1(x))), offset[:, :, None, None])
    hidden = block.conv2(block.nonlinearity(block.norm2(hidden)))
    x = x if block.conv_shortcut is None else block.conv_shortcut(x)
    return _sum(x, hidden) / block.output_scale_factor


def _transformer(attention: Any, x: Tensor, texts: Iterator[Tensor], own: Iterator[nn.Module]) -> Tensor:
    """Transformer blocks on the positions of x [B, C, h, w]: texts gives keys and values [N, L, C], own q, k and v."""
    h, w = x.shape[2:]
    tokens = _projected(attention.proj_in, attention.norm(x).flatten(2).transpose(1, 2))
    for block in attention.transformer_blocks:
        tokens = tokens + _attention(block.attn1, *next(own)(block.norm1(tokens)))
        query, key = _paired(block.attn2.to_q(block.norm2(tokens)), next(texts))
        tokens = _sum(tokens, _attention(block.attn2, query, key, next(texts)))
        tokens = tokens + block.ff(block.norm3(tokens))
    return _sum(_projected(attention.proj_out, tokens).transpose(1, 2).unflatten(2, (h, w)), x)


def _attention(layer: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, projected; query [N, P, C], key and value [N, L, C]."""
    q, k, v = (x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in (query, key, value))
    projected: Tensor = layer.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
    return projected / layer.rescale_output_factor


def _projected(layer: Any, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1 x 1 convolution, which is one too, on tokens [N, P, C]."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


def _paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors with the rows of the longer one: [B, ...] for one side of guidance is repeated to [2B, ...]."""
    rows = max(len(a), len(b))
    first, second = (x if len(x) == rows else torch.cat([x] * (rows // len(x))) for x in (a, b))
    return first, second


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """a + b, where one may be for one side of guidance."""
    a, b = _paired(a, b)
    return a + b
