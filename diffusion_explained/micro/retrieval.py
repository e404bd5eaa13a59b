"""The retrieval network, a small CLIP (Radford et al. 2021): which words fit a picture that the micro model drew?

    retrieval = load_retrieval()
    best = rank(retrieval, images, ["cat", "dog", "rocket"])        # for each picture: (("cat", 0.83), ...)

A convolutional network embeds 128 x 128 pictures, and a transformer embeds captions, both on the same unit sphere; the
cosine between a picture and a caption says how well they fit. The network was trained on drawn scenes, without the
held-out pictures, and without pictures from a diffusion model. `retrieval_training` trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import typed_arguments
from diffusion_explained.devices import choose_device, torch_defaults
from diffusion_explained.micro.tokens import MAX_LENGTH, encode, load_tokenizer
from diffusion_explained.models import Allowance
from diffusion_explained.tables import check_keys, check_types, read_table
from diffusion_explained.weight_files import read_weights, with_weights, write_weights

SIDE = 128
WEIGHTS = Path(__file__).parents[1] / "weights" / "micro_retrieval.safetensors"
GROUPS = 8  # of each group norm; with batch norm, a picture's embedding would depend on the batch
HEADS = 4  # of the text tower
STAGES = 7  # of the image tower at most: each halves the side of 128 pixels
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0  # of the logits (Radford et al. 2021, Section 2.5)
BATCH = 512


class ResidualBlock(nn.Module):
    """x + conv(norm(conv(norm(x)))), the activations before the convolutions (He et al. 2016).

    x [B, C, h, w] -> [B, C, h, w].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(F.silu(norm(h)))
        return x + h


class ImageTower(nn.Module):
    """[B, 3, 128, 128] in [-1, 1] -> [B, D]: each stage halves the side, and the last 4 x 4 positions stay distinct."""

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], squeeze: int, dim: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        before = 3
        for width, count in zip(widths, blocks, strict=True):
            down = nn.Conv2d(before, width, 3, stride=2, padding=1)
            self.stages.append(nn.Sequential(down, *(ResidualBlock(width) for _ in range(count))))
            before = width
        side = SIDE // 2 ** len(widths)
        self.squeeze = nn.Sequential(nn.GroupNorm(GROUPS, before), nn.SiLU(), nn.Conv2d(before, squeeze, 1))
        self.head = nn.Linear(squeeze * side * side, dim)

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """The output of each stage for pictures x [B, 3, 128, 128]: [B, C, H, W], from 64 x 64 down."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.squeeze(self.feature_maps(x)[-1]).flatten(1))


class TextTower(nn.Module):
    """Token ids [B, L] -> [B, D]: a transformer, averaged over the tokens of the caption, its end token included."""

    def __init__(self, vocab_size: int, length: int, end: int, width: int, layers: int, dim: int) -> None:
        super().__init__()
        self.end = end
        self.embedding = nn.Embedding(vocab_size, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width, dtype=torch.float32, device="cpu"))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, dim)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        is_end = tokens == self.end
        used = is_end.cumsum(1) - is_end.long() == 0  # up to the first end token; the rest is padding
        x = self.embedding(tokens) + self.position
        x = self.norm(self.layers(x, src_key_padding_mask=~used))
        share = used.to(x) / used.sum(1, keepdim=True)
        return self.head((x * share[..., None]).sum(1))


@dataclass(frozen=True)
class RetrievalConfig:
    """The shape of a retrieval network, which is stored in its weight file. Raises ValueError for impossible values.

    vocab_size, end: of the tokenizer: the number of tokens, and the id of the token that ends a caption.
    length: tokens per caption. dim: D, the dimension of the embeddings of pictures and captions.
    widths, blocks: channels and residual blocks of the image tower, one entry per stage; squeeze: channels of its last
        map.
    text_width, text_layers: of the text tower.
    """

    vocab_size: int
    end: int
    length: int = MAX_LENGTH
    dim: int = 128
    widths: tuple[int, ...] = (32, 64, 96, 144, 192)
    blocks: tuple[int, ...] = (0, 1, 1, 1, 0)
    squeeze: int = 96
    text_width: int = 96
    text_layers: int = 2

    def __post_init__(self) -> None:
        check_types(self)
        sizes = (self.vocab_size, self.length, self.dim, self.squeeze, self.text_layers)
        if min(sizes) < 1 or not 0 <= self.end < self.vocab_size:
            raise ValueError(
                f"vocab_size, length, dim, squeeze and text_layers must be 1 or more, end a token id; got {self}"
            )
        if not 1 <= len(self.widths) <= STAGES or len(self.blocks) != len(self.widths):
            raise ValueError(f"widths and blocks must have one entry for each of 1 to {STAGES} stages; got {self}")
        if any(width < GROUPS or width % GROUPS for width in self.widths) or min(self.blocks) < 0:
            raise ValueError(f"widths must be multiples of {GROUPS}, blocks 0 or more; got {self}")
        if self.text_width < HEADS or self.text_width % HEADS:
            raise ValueError(f"text_width must be a multiple of {HEADS}; got {self.text_width}")


class Retrieval(nn.Module):
    """The image and text towers, and the scale of the cosines in the softmax; arguments as for `RetrievalConfig`."""

    @torch_defaults()
    def __init__(self, vocab_size: int, end: int, **options: Any) -> None:
        super().__init__()
        given = {"vocab_size": vocab_size, "end": end, **options}
        config = read_table(RetrievalConfig, given, "the retrieval network")
        self.config: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()
        }
        self.card: dict[str, Any] = {}
        self.image = ImageTower(config.widths, config.blocks, config.squeeze, config.dim)
        self.text = TextTower(vocab_size, config.length, config.end, config.text_width, config.text_layers, config.dim)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE, dtype=torch.float32, device="cpu").log())

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.log_scale.device

    @property
    def scale(self) -> Tensor:
        """The factor of the cosines before the softmax, at most 100."""
        return self.log_scale.exp().clamp(max=LARGEST_SCALE)

    def embed_images(self, images: Tensor) -> Tensor:
        """Embed pictures [B, 3, 128, 128] in [-1, 1] as unit vectors [B, D]. Raises ValueError for another shape."""
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, SIDE, SIDE):
            raise ValueError(f"pictures are [B, 3, {SIDE}, {SIDE}] in [-1, 1]; got {list(images.shape)}")
        return F.normalize(self.image(images).float(), dim=1)

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Embed token ids [B, MAX_LENGTH] as unit vectors [B, D]. Raises ValueError for another shape."""
        if tokens.ndim != 2 or tokens.shape[1] != self.config["length"]:
            raise ValueError(f"token ids are [B, {self.config['length']}]; got {list(tokens.shape)}")
        return F.normalize(self.text(tokens).float(), dim=1)


def save_retrieval(path: Path, retrieval: Retrieval, card: dict[str, Any]) -> None:
    """Write the weights as fp16, with the network's config and card; the file appears whole or not at all."""
    write_weights(path, retrieval, retrieval.config, card)


@typed_arguments
def load_retrieval(path: Path = WEIGHTS, device: torch.device | str = "cpu") -> Retrieval:
    """Load the shipped retrieval network, or one of your own; its card is `retrieval.card`.

    Raises OSError for a file that is missing, truncated or altered, ValueError for one that holds another network.
    """
    tensors, config, card = read_weights(path)

    def build(most_weights: int) -> Retrieval:
        check_keys(RetrievalConfig, config, "the retrieval network", [one.name for one in fields(RetrievalConfig)])
        with Allowance(most_weights):
            return Retrieval(**config)

    retrieval = with_weights(build, tensors, path)
    retrieval.card = card
    return retrieval.to(choose_device(device)).eval().requires_grad_(False)


@torch.no_grad()
@typed_arguments
def embed_captions(retrieval: Retrieval, captions: Sequence[str], tokenizer: Any = None) -> Tensor:
    """Embed captions as unit vectors [B, D], on the network's device; tokenizer: default the shipped one.

    Raises ValueError if there are no captions, and for another tokenizer than that of the training.
    """
    if not captions:
        raise ValueError("there is no caption to embed")
    tokenizer = tokenizer or load_tokenizer()
    of_tokenizer = {"vocab_size": len(tokenizer), "end": tokenizer.eos_token_id}
    if of_tokenizer != {key: retrieval.config[key] for key in of_tokenizer}:
        raise ValueError(
            f"The retrieval network was trained with a tokenizer of {retrieval.config['vocab_size']} tokens and end "
            f"token {retrieval.config['end']}; this one has {len(tokenizer)} and {tokenizer.eos_token_id}."
        )
    tokens = encode(tokenizer, list(captions)).to(retrieval.device)
    return torch.cat([retrieval.embed_tokens(part) for part in tokens.split(BATCH)])


@torch.no_grad()
@typed_arguments
def embed_pictures(retrieval: Retrieval, images: Tensor) -> Tensor:
    """Embed pictures [B, 3, 128, 128] in [-1, 1] as unit vectors [B, D], batch by batch, on the network's device."""
    parts = (part.to(retrieval.device).float() for part in images.split(BATCH))
    return torch.cat([retrieval.embed_images(part) for part in parts])


@torch.no_grad()
@typed_arguments
def rank(
    retrieval: Retrieval,
    images: Tensor,
    names: Sequence[str],
    best: int = 5,
    tokenizer: Any = None,
    *,
    words: Tensor | None = None,
) -> list[tuple[tuple[str, float], ...]]:
    """For each picture [B, 3, 128, 128] the `best` names that fit it best, each with its share of the softmax.

    The softmax is over all names, softmax(scale * cosine(picture, name)); the shares only compare these names with each
    other. words: the names' embeddings [N, D], if `embed_captions` has computed them already.

    Raises ValueError for a best below 1.
    """
    if not 1 <= best:
        raise ValueError(f"best must be 1 or more, got {best}.")
    words = embed_captions(retrieval, names, tokenizer) if words is None else words
    shares = (retrieval.scale * embed_pictures(retrieval, images) @ words.T).softmax(dim=1)
    top = shares.topk(min(best, len(names)), dim=1)
    return [
        tuple((names[i], share) for i, share in zip(indices, values, strict=True))
        for indices, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
