"""The U-Net of the diffusion papers: an encoder, a middle and a decoder joined by skip connections.

From a noisy image x_t, the time t and a class label it computes a tensor of the image's shape; the prediction type
(noise, velocity, ...: `diffusion_explained.predictions`) defines what this output means.

    x_t -> stem -> [block, block] ----------- skip -----------> [block, block] -> head -> output
                        down -> [block, block] -- skip --> [block, block] -> up
                                     down  ->  middle  ->  up

Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (DDPM), Appendix B; the scale and shift by time and
class are Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (ADM), Section 3.

It differs from DDPM's network in these points, mostly to be fast on a CPU:

- The input is unshuffled: `patch_size` p folds p x p pixels into channels before the first convolution.
- Downsampling folds 2 x 2 positions into channels, then a 1 x 1 convolution (DDPM: a 3 x 3 convolution with stride 2);
  upsampling is a 1 x 1 convolution, then unfolding (DDPM: nearest neighbours, then a 3 x 3 convolution).
- Skip connections start only after blocks, not after the stem or after downsampling, so encoder and decoder have the
  same number of blocks (DDPM: one more per resolution in the decoder).
- Group norm has 8 groups or fewer (DDPM: 32), and attention has several heads (DDPM: one).
- Time and class scale and shift the second norm of a block (ADM); DDPM adds the time to the features.
- `InputGain` adds a multiple of x_t, learned from time and class, to the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import torch_defaults
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.embeddings import ClassEmbedding, InputGain, TimeEmbedding
from diffusion_explained.models.network import NetworkModule, zero_weights
from diffusion_explained.tables import check_sizes


@named_options
@dataclass(frozen=True)
class UNetConfig:
    """The configuration of a U-Net, stored in its weight file.

    `patch_size` p folds p x p pixels into channels before the first convolution (28 x 28 becomes 14 x 14 for
    p = 2), because convolutions at full resolution take most of the time. `widths` are the channels at each
    resolution, finest first; `blocks` is the number of residual blocks per resolution, in the encoder and again in the
    decoder; `attention` says at which resolutions self-attention follows each block; the middle always has it.

    Raises ValueError for sizes that do not divide one another, or lists of different lengths.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)
    patch_size: int = 2
    widths: tuple[int, ...] = (32, 64)
    blocks: tuple[int, ...] = (1, 1)
    attention: tuple[bool, ...] = (False, False)
    embedding_width: int = 192
    head_width: int = 32
    num_classes: int | None = 10
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self)
        levels = len(self.widths)
        if not levels == len(self.blocks) == len(self.attention) or levels == 0:
            raise ValueError(f"widths, blocks and attention must have one entry per resolution each; got {self}")
        shrink = self.patch_size * 2 ** (levels - 1)
        _, height, width = self.image_shape
        if height % shrink or width % shrink:
            raise ValueError(f"{height} x {width} images cannot be divided by {shrink} (patches, then halves): {self}")
        if any(w % 4 or w < 4 for w in self.widths) or self.embedding_width % 2 or min(self.blocks) < 1:
            raise ValueError(f"widths must be multiples of 4, embedding_width even, and blocks 1 or more; got {self}")
        attending = {w for w, attends in zip(self.widths, self.attention, strict=True) if attends} | {self.widths[-1]}
        if any(w % self.head_width for w in attending):
            raise ValueError(f"head_width {self.head_width} must divide the widths {sorted(attending)}: {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")


class UNet(NetworkModule):
    """`network(x_t, t, labels)`: x_t [B, C, H, W], t [B] of `Schedule.network_time`, labels [B] -> [B, C, H, W].

    Label `num_classes` is the null label, the condition dropped; `labels=None` drops it for the whole batch.
    """

    @typed_arguments
    @torch_defaults()
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.image_shape = config.image_shape
        patched = config.image_shape[0] * config.patch_size**2
        width = config.widths[0]

        self.embed_time = TimeEmbedding(config.embedding_width)
        self.embed_class = ClassEmbedding(config.num_classes, config.embedding_width)
        self.stem = nn.Conv2d(patched, width, 3, padding=1)

        def block(in_width: int, out_width: int, attends: bool) -> Block:
            return Block(in_width, out_width, attends, config)

        # Encoder: one resolution after the other; each block's output is kept for a skip connection.
        self.encoder = nn.ModuleList()
        skip_widths = []
        for level, level_width in enumerate(config.widths):
            if level > 0:
                self.encoder.append(Downsample(width, level_width))
                width = level_width
            for _ in range(config.blocks[level]):
                self.encoder.append(block(width, level_width, config.attention[level]))
                width = level_width
                skip_widths.append(width)

        self.middle = nn.ModuleList([block(width, width, True), block(width, width, False)])

        # Decoder: the same in reverse; the input of each block also has the output of the corresponding encoder block.
        self.decoder = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(config.widths))):
            for _ in range(config.blocks[level]):
                self.decoder.append(block(width + skip_widths.pop(), level_width, config.attention[level]))
                width = level_width
            if level > 0:
                self.decoder.append(Upsample(width, config.widths[level - 1]))
                width = config.widths[level - 1]

        self.norm = group_norm(width)
        self.head = nn.Conv2d(width, patched, 3, padding=1)
        self.input_gain = InputGain(config.embedding_width, config.image_shape[0])
        zero_weights(self.head)  # training starts from output 0, the mean of every target

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        # comments give the shapes for a 28 x 28 digit
        cond = F.silu(self.embed_time(t) + self.embed_class(labels, len(x_t)))  # [B, 192]
        h = F.pixel_unshuffle(x_t, self.config.patch_size)  # [B, 4, 14, 14]
        h = self.stem(h)  # [B, 32, 14, 14]

        skips = []
        for layer in self.encoder:  # ends at [B, 64, 7, 7]
            h = layer(h, cond)
            if isinstance(layer, Block):
                skips.append(h)

        for layer in self.middle:
            h = layer(h, cond)  # [B, 64, 7, 7]

        for layer in self.decoder:  # ends at [B, 32, 14, 14]
            if isinstance(layer, Block):
                h = torch.cat([h, skips.pop()], dim=1)
            h = layer(h, cond)

        h = self.head(F.silu(self.norm(h)))  # [B, 4, 14, 14]
        output = F.pixel_shuffle(h, self.config.patch_size)  # [B, 1, 28, 28]
        return output.float() + self.input_gain(cond, x_t)


class Block(nn.Module):
    """A residual block: norm and convolution, twice, with a residual connection; then self-attention if `attends`.

    The second norm's output is scaled and shifted by time and class.

    x [B, in_width, H, W] and cond [B, embedding_width] -> [B, out_width, H, W].
    """

    def __init__(self, in_width: int, out_width: int, attends: bool, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = group_norm(in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.scale_shift = nn.Linear(config.embedding_width, 2 * out_width)
        self.norm2 = group_norm(out_width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = nn.Identity() if in_width == out_width else nn.Conv2d(in_width, out_width, 1)
        self.attention = Attention(out_width, config.head_width) if attends else nn.Identity()
        zero_weights(self.conv2)  # so that a new block returns its input unchanged (apart from the shortcut)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))  # [B, out, H, W]
        scale, shift = self.scale_shift(cond)[:, :, None, None].chunk(2, dim=1)  # [B, out, 1, 1] each
        h = F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale))
        h = self.conv2(self.dropout(h))
        return self.attention(self.shortcut(x) + h)


class Attention(nn.Module):
    """Self-attention among the positions of a feature map, added to the map (Vaswani et al. 2017).

    x [B, width, H, W] -> [B, width, H, W].
    """

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.attend = Attend(head_width)
        self.out = nn.Linear(width, width)
        zero_weights(self.out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, H*W, width]
        attended = self.attend(self.qkv(tokens))  # [B, H*W, width]
        return x + self.out(attended).transpose(1, 2).reshape(x.shape)


class Downsample(nn.Module):
    """Half the resolution: fold 2 x 2 positions into channels, then mix them by a 1 x 1 convolution.

    x [B, in_width, H, W] -> [B, out_width, H/2, W/2].
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * in_width, out_width, 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return self.mix(F.pixel_unshuffle(x, 2))


class Upsample(nn.Module):
    """Twice the resolution: a 1 x 1 convolution to four times the channels, unfolded to 2 x 2 positions.

    x [B, in_width, H, W] -> [B, out_width, 2H, 2W].
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(in_width, 4 * out_width, 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        return F.pixel_shuffle(self.mix(x), 2)


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm of 8 groups, or of the greatest common divisor of 8 and the width."""
    return nn.GroupNorm(math.gcd(8, width), width)
