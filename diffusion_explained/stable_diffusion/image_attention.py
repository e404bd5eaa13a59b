"""IP-Adapter: a picture as a prompt, through a second attention beside that to the words (Ye et al. 2023).

Each cross-attention layer of the U-Net compares the query q of a position with the keys of the words, k = W_k c. The
adapter adds keys and values of a few image tokens c' to the same q, with weights of their own:

    out = softmax(q k^T / sqrt(d)) v + s softmax(q k'^T / sqrt(d)) v',   k' = W'_k c',  v' = W'_v c'           (Eq. 5)

The two are decoupled: one sum of weights over words and picture together would let the picture take attention away from
the words. All weights of the U-Net stay as they are; at the scale s = 0 its output is that of the U-Net alone.

    adapter = ImagePromptAdapter(unet, ImageTokens(embed_width, text_width))    # W'_k, W'_v of each layer, and P
    prompt = ActivePrompt(adapter.by_layer(), scale=1.0)
    with_image_prompts(unet)                            # once: its layers take image prompts then; c' = P(embeds)
    unet(x_t, t, text, cross_attention_kwargs={"image_prompts": [(prompt, adapter.image_proj(embeds))]})

The names of the weights are those of the published files, which diffusers reads too: image_proj.proj.0.weight, and
ip_adapter.1.to_k_ip.weight for the first layer, .3. for the second and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.devices import torch_defaults


class ImageAttention(nn.Module):
    """The attention of one layer to the image tokens, with W'_k and W'_v.

    They start as copies of the layer's own W_k and W_v (Sec. 3.2.2).
    """

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.to_k_ip = nn.Linear(token_width, width, bias=False)
        self.to_v_ip = nn.Linear(token_width, width, bias=False)

    def forward(self, q: Tensor, tokens: Tensor, scale: float) -> Tensor:
        """s softmax(q k'^T / sqrt(d)) v' [N, heads, P, d] for queries q [N, heads, P, d] and image tokens [N, L, D]."""
        k, v = _heads(self.to_k_ip(tokens), q.shape[1]), _heads(self.to_v_ip(tokens), q.shape[1])
        return scale * F.scaled_dot_product_attention(q, k, v)


class ImageTokens(nn.Module):
    """P: embeddings [B, L, E] of parts of a picture to as many image tokens [B, L, D], each by itself.

    The network of the published "full" adapters: linear, GELU, linear, layer norm.
    """

    @torch_defaults()
    def __init__(self, embed_width: int, token_width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.Linear(embed_width, embed_width),
            nn.GELU(),
            nn.Linear(embed_width, token_width),
            nn.LayerNorm(token_width),
        )

    def forward(self, embeds: Tensor) -> Tensor:
        return self.proj(embeds)


class ImagePromptAdapter(nn.Module):
    """An adapter for a U-Net: image_proj makes the tokens, and each cross-attention layer has an `ImageAttention`.

    unet: a UNet2DConditionModel; image_proj: the network that makes tokens of the U-Net's text width, as `ImageTokens`.
    """

    @torch_defaults()
    def __init__(self, unet: Any, image_proj: nn.Module) -> None:
        super().__init__()
        width, self.image_proj = unet.config.cross_attention_dim, image_proj
        layers = cross_attention_layers(unet)
        self.names = tuple(layers)
        self.ip_adapter = nn.ModuleDict(
            {str(2 * i + 1): ImageAttention(width, layer.to_q.out_features) for i, layer in enumerate(layers.values())}
        )
        for own, layer in zip(self.by_layer().values(), layers.values(), strict=True):
            own.to_k_ip.load_state_dict(layer.to_k.state_dict())
            own.to_v_ip.load_state_dict(layer.to_v.state_dict())

    def by_layer(self) -> dict[str, ImageAttention]:
        """The `ImageAttention` of each cross-attention layer, by the layer's name in the U-Net."""
        return dict(zip(self.names, self.ip_adapter.values(), strict=True))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ActivePrompt:
    """An adapter's weights by the name of the layer, and the scale s of what they add."""

    layers: Mapping[str, ImageAttention]
    scale: float


class DecoupledAttention:
    """What a layer of the U-Net computes (a processor of diffusers): its own attention, plus that to image tokens.

    name: of the layer in the U-Net; own: the processor it had before, which is called where there is no image prompt.
    """

    def __init__(self, name: str, own: Any) -> None:
        self.name, self.own = name, own

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        image_prompts: Sequence[tuple[ActivePrompt, Tensor]] = (),
    ) -> Tensor:
        """Eq. 5 for hidden_states [N, P, C] at P positions, text [N, L, D] and image tokens [N, L', D]; [N, P, C]."""
        if encoder_hidden_states is None or not image_prompts:
            return self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        text = encoder_hidden_states
        q = _heads(attn.to_q(hidden_states), attn.heads)
        k, v = _heads(attn.to_k(text), attn.heads), _heads(attn.to_v(text), attn.heads)
        out = F.scaled_dot_product_attention(q, k, v)
        for prompt, tokens in image_prompts:
            out = out + prompt.layers[self.name](q, tokens, prompt.scale)
        out = out.transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def _heads(x: Tensor, heads: int) -> Tensor:
    """[N, L, C] to [N, heads, L, C / heads]."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def cross_attention_layers(unet: Any) -> dict[str, Any]:
    """The cross-attention layers of a U-Net by name, in the order in which diffusers counts them.

    Raises ValueError for something that is no network.
    """
    if not isinstance(unet, nn.Module):
        raise ValueError(f"unet must be a U-Net of diffusers, such as model.network; got a {type(unet).__name__}.")
    return {name: part for name, part in unet.named_modules() if getattr(part, "is_cross_attention", False)}


def with_image_prompts(unet: Any) -> None:
    """Let each attention layer of a U-Net take image prompts; without one it computes what it did, to the bit."""
    own = unet.attn_processors
    if not all(isinstance(one, DecoupledAttention) for one in own.values()):
        unet.set_attn_processor(
            {name: DecoupledAttention(name.removesuffix(".processor"), one) for name, one in own.items()}
        )
