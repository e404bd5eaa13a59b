"""Features, attention and cost inside a U-Net or a DiT, read by hooks, so that the network itself is not changed.

    for feature in feature_shapes(network): print(feature.layer, feature.shape)
    maps = attention_maps(network, x_t, t, labels)["middle.0"].weights      # [B, heads, N, N]
    for cost in costs(network): print(cost.part, cost.parameters, cost.flops)

A *layer* has the name that torch gives it ("encoder.2", "blocks.0"). x_t, t and labels are the network's inputs: `t` is
the network's time input (`schedule.network_time`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from diffusion_explained.checks import check_finite, float_data, typed_arguments, whole, whole_vector
from diffusion_explained.messages import unknown_name
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.dit import DiT
from diffusion_explained.models.unet import Block, Downsample, UNet, Upsample


class Feature(NamedTuple):
    """The output of one layer for one image: its shape; `kind` is the name of the layer's class."""

    layer: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values in the output."""
        return math.prod(self.shape)


class Attention(NamedTuple):
    """Attention weights [B, heads, N, N] of a layer: row n has the weights of query position n; each row sums to 1.

    The N positions are those of `grid`, (rows, columns), row by row.
    """

    grid: tuple[int, int]
    weights: Tensor

    def seen_from(self, row: int, column: int) -> Tensor:
        """The attention weights of the query position (row, column), as maps [B, heads, rows, columns] that sum to 1.

        Raises ValueError for a position that is not on the grid.
        """
        rows, columns = self.grid
        row, column = whole("row", row, 0), whole("column", column, 0)
        if not (0 <= row < rows and 0 <= column < columns):
            raise ValueError(f"({row}, {column}) is not on the grid of {rows} x {columns} positions, counted from 0.")
        return self.weights[:, :, row * columns + column].unflatten(-1, self.grid)

    def distance(self) -> Tensor:
        """Each head's mean attention distance, in positions: [B, heads].

            mean over n of  sum_m  weights[n, m] * |place_n - place_m|

        Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (ViT), Section 4.5: "attention distance".
        """
        rows, columns = (torch.arange(count, device=self.weights.device, dtype=torch.float32) for count in self.grid)
        places = torch.cartesian_prod(rows, columns)  # [N, 2]
        return (self.weights * torch.cdist(places, places)).sum(-1).mean(-1)


class Skip(NamedTuple):
    """One skip connection of a U-Net: from a layer of the encoder to one of the decoder."""

    source: str
    target: str
    channels: int


class Cost(NamedTuple):
    """The cost of one part of a network: its parameters, and the FLOPs per image of one forward pass."""

    part: str
    parameters: int
    flops: int


class Passed(NamedTuple):
    """A module's input (its first argument) and its output."""

    input: Any
    output: Any


@contextmanager
@typed_arguments
def watch(network: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Passed]]:
    """Within the `with` block, record input and output of the named modules, in the order in which they finish.

    If a module is called several times, the last call is kept. The hooks are removed afterwards, also after an error.
    Raises ValueError for a name that the network does not have.
    """
    passed: dict[str, Passed] = {}

    def keep_as(name: str) -> Any:
        return lambda module, inputs, output: passed.update({name: Passed(inputs[0], output)})

    handles = [module.register_forward_hook(keep_as(name)) for name, module in _modules(network, names).items()]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


@typed_arguments
def feature_shapes(network: nn.Module, within: str = "") -> list[Feature]:
    """The shapes of all layers' outputs for one image, in order; within: only layers inside this one ("encoder.0").

    Raises ValueError for a network that is neither U-Net nor DiT, and for a layer that it does not have.
    """
    names = _layers(network, within)
    with watch(network, names) as passed:
        _run_blank(network)
    return [
        Feature(name, type(network.get_submodule(name)).__name__, tuple(through.output.shape[1:]))
        for name, through in passed.items()
        if isinstance(through.output, Tensor)  # the class embedding of a network without classes is no tensor
    ]


@torch.no_grad()
@typed_arguments
def feature_maps(network: nn.Module, layer: str, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
    """A layer's output as maps [B, channels, rows, columns]; a DiT's tokens are arranged at their positions.

    Raises ValueError for a layer whose output has no positions in the image (such as the time embedding).
    """
    _fits(network, x_t, t, labels)
    with watch(network, [layer]) as passed:
        network(x_t, t, labels)
    if layer not in passed:
        raise ValueError(f"{layer!r} is a list of layers without an output of its own: name one of them.")
    maps = passed[layer].output
    if isinstance(network, DiT) and isinstance(maps, Tensor) and maps.ndim == 3:
        maps = maps.transpose(1, 2).unflatten(2, network.config.grid)
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ValueError(f"the output of {layer!r} has no positions in the image: name a block, for example.")
    return maps


@torch.no_grad()
@typed_arguments
def attention_maps(network: nn.Module, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> dict[str, Attention]:
    """The attention weights of every layer with self-attention, by the layer's name, in order.

        weights = softmax(q k^T / sqrt(head_width))              [B, heads, N, N]; Vaswani et al. 2017, Eq. 1

    They are computed from the input of the layer's `Attend`, in the same way as `Attend` does.
    """
    _fits(network, x_t, t, labels)
    attends = {name: module for name, module in network.named_modules() if isinstance(module, Attend)}
    layers = {name: next(layer for layer in _layers(network) if name.startswith(f"{layer}.")) for name in attends}
    with watch(network, [*attends, *layers.values()]) as passed:
        network(x_t, t, labels)
    maps = {}
    for name, layer in layers.items():
        attend = attends[name]
        q, k, _ = attend.heads(passed[name].input)
        grid = network.config.grid if isinstance(network, DiT) else tuple(passed[layer].output.shape[-2:])
        maps[layer] = Attention(grid, attend.weights(q, k))
    return maps


@typed_arguments
def picture_share(features: Tensor) -> float:
    """The share, 0 to 1, of the variance of features that comes from the image, and not from the noise added to it.

        between / (between + within),    within = mean_i var_j f_ij,   between = var_i mean_j f_ij - within / J

    features: f_ij [I, J, ...], of I images with J draws of noise each, at one t. This is the intraclass correlation,
    estimated by an analysis of variance (Fisher 1925, Chapter VII); by chance it can be slightly below 0. Raises
    ValueError for fewer than 2 images or 2 draws of noise.
    """
    check_finite(float_data("features", features), "features")
    if features.ndim < 2 or min(features.shape[:2]) < 2:
        raise ValueError(f"features must be [2 or more images, 2 or more noises, ...]; got {tuple(features.shape)}.")
    within = features.var(1).mean()
    between = features.mean(1).var(0).mean() - within / features.shape[1]
    return float(between / (between + within))


def skip_connections(network: UNet) -> list[Skip]:
    """A U-Net's skip connections in the order of its encoder, finest first. Raises ValueError for another network."""
    if not isinstance(network, UNet):
        raise ValueError(f"only a U-Net has skip connections; got a {type(network).__name__}.")
    sources = [(f"encoder.{i}", layer) for i, layer in enumerate(network.encoder) if isinstance(layer, Block)]
    targets = [f"decoder.{i}" for i, layer in enumerate(network.decoder) if isinstance(layer, Block)]
    return [
        Skip(source, target, block.conv2.out_channels)
        for (source, block), target in zip(sources, reversed(targets), strict=True)
    ]


@contextmanager
@typed_arguments
def cut(network: UNet, skips: Sequence[Skip]) -> Iterator[None]:
    """Within the `with` block, set these skip connections to zero; afterwards, also after an error, they work again."""

    def zero(channels: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            h, cond = inputs  # h: the channels from the resolution below, then those of the skip connection
            below = h[:, :-channels]
            return torch.cat([below, torch.zeros_like(h[:, -channels:])], dim=1), cond

        return hook

    handles = [network.get_submodule(skip.target).register_forward_pre_hook(zero(skip.channels)) for skip in skips]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def costs(network: nn.Module) -> list[Cost]:
    """The cost of each part of the network, in the order of `parts`; the sums are `count_parameters` and `count_flops`.

    As there, FLOPs are counted for convolutions and matrix products; a multiplication and an addition count as two.
    """
    with FlopCounterMode(display=False) as counter:
        _run_blank(network)
    by_module = {name.partition(".")[2]: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    return [
        Cost(
            part,
            sum(p.numel() for name in names for p in network.get_submodule(name).parameters()),
            sum(by_module.get(name, 0) for name in names),
        )
        for part, names in parts(network).items()
    ]


def parts(network: nn.Module) -> dict[str, list[str]]:
    """The network's parts, each with the names of its modules; every parameter is in exactly one part.

    A U-Net has: time and class, stem, encoder and decoder at each resolution, middle, head. A DiT has: time and class,
    patch embedding, the modulation, attention and two-layer networks of all blocks, head.
    """
    known = _known(network)
    if isinstance(known, UNet):
        return _parts_of_unet(known)
    blocks = range(len(known.blocks))
    return {
        "time and class": ["embed_time", "embed_class", "input_gain"],
        "patch embedding": ["embed_patch"],
        "blocks: modulation": [f"blocks.{i}.modulate" for i in blocks],
        "blocks: attention": [f"blocks.{i}.{name}" for i in blocks for name in ("norm1", "qkv", "attend", "out")],
        "blocks: two layers": [f"blocks.{i}.{name}" for i in blocks for name in ("norm2", "mlp")],
        "head": ["modulate", "norm", "head"],
    }


def _parts_of_unet(network: UNet) -> dict[str, list[str]]:
    _, height, width = network.image_shape
    sizes = [
        f"{height // shrink} x {width // shrink}"
        for shrink in (network.config.patch_size * 2**level for level in range(len(network.config.widths)))
    ]
    encoder: dict[str, list[str]] = {f"encoder {size}": [] for size in sizes}
    decoder: dict[str, list[str]] = {f"decoder {size}": [] for size in reversed(sizes)}
    level = 0
    for i, layer in enumerate(network.encoder):
        level += isinstance(layer, Downsample)  # its output has the lower resolution, so it is counted there
        encoder[f"encoder {sizes[level]}"].append(f"encoder.{i}")
    for i, layer in enumerate(network.decoder):
        decoder[f"decoder {sizes[level]}"].append(f"decoder.{i}")
        level -= isinstance(layer, Upsample)
    return {
        "time and class": ["embed_time", "embed_class", "input_gain"],
        "stem": ["stem"],
        **encoder,
        f"middle {sizes[-1]}": [f"middle.{i}" for i in range(len(network.middle))],
        **decoder,
        "head": ["norm", "head"],
    }


def _known(network: nn.Module) -> UNet | DiT:
    if not isinstance(network, UNet | DiT):
        raise ValueError(f"the network must be a UNet or a DiT; got a {type(network).__name__}.")
    return network


def _fits(network: nn.Module, x_t: Tensor, t: Tensor, labels: Tensor | None) -> None:
    known = _known(network)
    expected = tuple(known.image_shape)
    if tuple(float_data("x_t", x_t).shape[1:]) != expected or len(x_t) == 0:
        raise ValueError(f"x_t has shape {tuple(x_t.shape)}, but this network takes [B, *{expected}], B of 1 or more.")
    check_finite(x_t, "noisy images", "give finite numbers")
    if float_data("t", t).shape != (len(x_t),):
        raise ValueError(f"t must be [{len(x_t)}], one network time per image; got {list(t.shape)}.")
    check_finite(t, "times", "give finite numbers")
    if labels is not None:
        most = known.num_classes  # the null label comes after the classes
        if len(whole_vector("labels", labels, most)) != len(x_t):
            raise ValueError(f"labels must be [{len(x_t)}], one per image; got {list(labels.shape)}.")


def _modules(network: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    modules = {name: module for name, module in network.named_modules() if name}
    for name in names:
        if name not in modules:
            raise unknown_name(f"layer of {type(network).__name__}", name, modules)
    return {name: modules[name] for name in names}


def _layers(network: nn.Module, within: str = "") -> list[str]:
    """The names of a network's layers, or of those within a layer; a list of layers is replaced by its members."""
    module = _modules(_known(network), [within])[within] if within else _known(network)
    names = []
    for name, child in module.named_children():
        names += [f"{name}.{i}" for i in range(len(child))] if isinstance(child, nn.ModuleList) else [name]
    return [f"{within}.{name}" if within else name for name in names]


@torch.no_grad()
def _run_blank(network: nn.Module) -> None:
    known = _known(network)
    place: dict[str, Any] = {"device": next(known.parameters()).device, "dtype": torch.float32}
    known(torch.zeros(1, *known.image_shape, **place), torch.zeros(1, **place))
