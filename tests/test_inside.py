"""Looking inside a network: what is shown is what it computes, it computes as before, and nothing stays behind."""

import pytest
import torch
from torch import nn

from diffusion_explained.inside import (
    Attention,
    attention_maps,
    costs,
    cut,
    feature_maps,
    feature_shapes,
    parts,
    picture_share,
    skip_connections,
    watch,
)
from diffusion_explained.models import (
    MLP,
    DiT,
    DiTConfig,
    MLPConfig,
    UNet,
    UNetConfig,
    count_flops,
    count_parameters,
)

U_NETS = [
    UNetConfig(widths=(16, 32), embedding_width=32),
    UNetConfig(
        image_shape=(3, 16, 24),
        patch_size=1,
        widths=(8, 12, 16),
        blocks=(2, 1, 2),
        attention=(False, True, False),
        head_width=4,
    ),
    UNetConfig(image_shape=(1, 8, 8), widths=(32,), blocks=(1,), attention=(True,), num_classes=None),
]
DITS = [
    DiTConfig(width=32, depth=2, head_width=16),
    DiTConfig(image_shape=(3, 8, 12), patch_size=2, width=32, depth=3, head_width=8, num_classes=None),
]
EVERY = pytest.mark.parametrize("config", U_NETS + DITS, ids=str)


def awake(config):
    """The network with every weight drawn at random, for a new one outputs 0 whatever goes on inside."""
    network = (UNet if isinstance(config, UNetConfig) else DiT)(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3, generator=generator)
    return network.eval()


def given(config, batch_size=2):
    x_t = torch.randn(batch_size, *config.image_shape, generator=torch.Generator().manual_seed(1))
    labels = None if config.num_classes is None else torch.arange(batch_size)
    return x_t, torch.linspace(100, 900, batch_size), labels


def hooks(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@EVERY
def test_the_parts_add_up_to_the_whole(config):
    network = awake(config)
    assert sum(cost.parameters for cost in costs(network)) == count_parameters(network)
    assert sum(cost.flops for cost in costs(network)) == count_flops(network)
    assert [cost.part for cost in costs(network)] == list(parts(network))
    of_parts = [
        name + "." + p for names in parts(network).values() for name in names
        for p, _ in network.get_submodule(name).named_parameters()
    ]  # fmt: skip
    assert sorted(of_parts) == sorted(name for name, _ in network.named_parameters())  # each once


def test_the_parts_of_a_unet_are_its_resolutions():
    assert list(parts(UNet(U_NETS[1]))) == [
        "time and class", "stem", "encoder 16 x 24", "encoder 8 x 12", "encoder 4 x 6", "middle 4 x 6",
        "decoder 4 x 6", "decoder 8 x 12", "decoder 16 x 24", "head",
    ]  # fmt: skip
    cost = {cost.part: cost for cost in costs(UNet(U_NETS[1]))}
    by_hand = 8 * 3 * 9 + 8  # a 3 x 3 convolution from 3 to 8 channels, and its bias
    assert cost["stem"] == ("stem", by_hand, 2 * (by_hand - 8) * 16 * 24)


def test_the_cost_of_a_dit_by_hand():
    config = DITS[1]
    cost, (tokens, width, depth) = {c.part: c for c in costs(DiT(config))}, (24, 32, 3)
    assert cost["blocks: two layers"].flops == depth * tokens * 2 * 8 * width**2
    assert cost["blocks: attention"].flops == depth * (tokens * 2 * 4 * width**2 + 4 * tokens**2 * width)
    assert cost["blocks: modulation"].flops == depth * 2 * 6 * width**2  # once per image, not once per token
    assert cost["blocks: modulation"].parameters == depth * 6 * width * (width + 1)


def test_a_unet_shows_its_shapes_down_and_up():
    shapes = {feature.layer: feature.shape for feature in feature_shapes(UNet(U_NETS[1]))}
    assert [shapes[f"encoder.{i}"] for i in range(7)] == [
        (8, 16, 24), (8, 16, 24), (12, 8, 12), (12, 8, 12), (16, 4, 6), (16, 4, 6), (16, 4, 6),
    ]  # fmt: skip
    assert shapes["stem"] == shapes["norm"] == (8, 16, 24) and shapes["middle.1"] == (16, 4, 6)
    order = list(shapes)
    assert order.index("stem") < order.index("encoder.0") < order.index("middle.0") < order.index("decoder.0")
    assert order[-3:] == ["norm", "head", "input_gain"]


def test_shapes_within_a_layer_and_sizes():
    network = DiT(DITS[1])
    within = feature_shapes(network, "blocks.1")
    assert [(f.layer, f.kind, f.shape) for f in within[:4]] == [
        ("blocks.1.modulate", "Linear", (192,)),
        ("blocks.1.norm1", "LayerNorm", (24, 32)),
        ("blocks.1.qkv", "Linear", (24, 96)),
        ("blocks.1.attend", "Attend", (24, 32)),
    ]
    assert within[2].size == 24 * 96
    assert "embed_class" not in {feature.layer for feature in feature_shapes(network)}  # it has none


@EVERY
def test_attention_is_shown_as_the_network_computes_it(config):
    """Every row sums to 1, and what is gathered by the maps is what the layer goes on with."""
    network, (x_t, t, labels) = awake(config), given(config)
    attends = {
        name: f"{name}.attention.attend" if isinstance(network, UNet) else f"{name}.attend"
        for name in attention_maps(network, x_t, t, labels)
    }
    with watch(network, list(attends.values())) as passed:
        network(x_t, t, labels)
    for layer, attention in attention_maps(network, x_t, t, labels).items():
        attend, through = network.get_submodule(attends[layer]), passed[attends[layer]]
        n = attention.grid[0] * attention.grid[1]
        assert attention.weights.shape == (2, attend.heads(through.input)[0].shape[1], n, n)
        torch.testing.assert_close(attention.weights.sum(-1), torch.ones(attention.weights.shape[:3]))
        gathered = attention.weights @ attend.heads(through.input)[2]
        torch.testing.assert_close(gathered.transpose(1, 2).flatten(2), through.output)


@EVERY
def test_the_networks_output_follows_from_the_maps(config):
    """Each Attend replaced by the maps that were shown: the same output, so none is missing or misplaced."""
    network, (x_t, t, labels) = awake(config), given(config)
    output, maps = network(x_t, t, labels), attention_maps(network, x_t, t, labels)
    for layer, attention in maps.items():
        block = network.get_submodule(layer)
        (block.attention if isinstance(network, UNet) else block).attend = Shown(attention.weights)
    torch.testing.assert_close(network(x_t, t, labels), output)


class Shown(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, qkv):
        heads = self.weights.shape[1]
        v = qkv.chunk(3, dim=-1)[2].unflatten(-1, (heads, -1)).transpose(1, 2)
        return (self.weights @ v).transpose(1, 2).flatten(2)


def test_attention_maps_are_named_by_their_layers_and_know_their_grid():
    config = U_NETS[1]
    maps = attention_maps(awake(config), *given(config))
    assert {name: attention.grid for name, attention in maps.items()} == {
        "encoder.3": (8, 12), "middle.0": (4, 6), "decoder.3": (8, 12),
    }  # fmt: skip
    assert list(attention_maps(awake(DITS[0]), *given(DITS[0]))) == ["blocks.0", "blocks.1"]


def test_distance_and_the_view_from_one_position():
    """On 2 x 3 positions: one head attends to itself, one to its right or left neighbour in the row, one to all."""
    itself = torch.eye(6)
    neighbour = torch.eye(6)[[1, 0, 1, 4, 3, 4]]
    attention = Attention((2, 3), torch.stack([itself, neighbour, torch.full((6, 6), 1 / 6)])[None])
    places = [(row, column) for row in range(2) for column in range(3)]
    everywhere = sum(((a - c) ** 2 + (b - d) ** 2) ** 0.5 for a, b in places for c, d in places) / 36
    torch.testing.assert_close(attention.distance(), torch.tensor([[0.0, 1.0, everywhere]]))
    seen = attention.seen_from(1, 2)
    assert seen.shape == (1, 3, 2, 3) and seen[0, 0, 1, 2] == 1 and seen[0, 1, 1, 1] == 1
    with pytest.raises(ValueError, match=r"\(2, 0\) is not on the grid of 2 x 3"):
        attention.seen_from(2, 0)


@EVERY
def test_a_look_changes_nothing(config):
    network, (x_t, t, labels) = awake(config), given(config)
    output, layer = network(x_t, t, labels), "encoder.0" if isinstance(network, UNet) else "blocks.1"
    with watch(network, [layer]):
        assert torch.equal(network(x_t, t, labels), output)
    feature_maps(network, layer, x_t, t, labels)
    attention_maps(network, x_t, t, labels)
    feature_shapes(network)
    costs(network)
    assert torch.equal(network(x_t, t, labels), output) and hooks(network) == 0


@pytest.mark.parametrize("look", [feature_maps, attention_maps])
def test_no_hook_stays_after_an_error(look):
    network, (x_t, t, _) = awake(U_NETS[0]), given(U_NETS[0])
    layer = ("encoder.0",) if look is feature_maps else ()

    def stopped(*_):
        raise KeyboardInterrupt

    network.head.forward = stopped
    with pytest.raises(KeyboardInterrupt):
        look(network, *layer, x_t, t, torch.tensor([0, 1]))
    with pytest.raises(KeyboardInterrupt), cut(network, skip_connections(network)):
        raise KeyboardInterrupt
    assert hooks(network) == 0


def test_feature_maps_are_the_layers_output_in_its_place():
    network, (x_t, t, labels) = awake(U_NETS[0]), given(U_NETS[0])
    maps = feature_maps(network, "decoder.2", x_t, t, labels)
    assert maps.shape == (2, 16, 14, 14)
    output = network.head(torch.nn.functional.silu(network.norm(maps)))
    gain = feature_maps(network, "input_gain", x_t, t, labels)
    torch.testing.assert_close(nn.functional.pixel_shuffle(output, 2) + gain, network(x_t, t, labels))


def test_tokens_are_put_back_where_their_patches_lie():
    """A single bright patch stands out in the map at its own place, after the embedding and before any attention."""
    network, (x_t, t, _) = awake(DITS[1]), given(DITS[1], 1)
    blank = feature_maps(network, "embed_patch", torch.zeros_like(x_t), t)
    x_t = torch.zeros_like(x_t)
    x_t[:, :, 2:4, 8:10] = 1.0
    changed = (feature_maps(network, "embed_patch", x_t, t) - blank).abs().sum(1)[0]
    assert changed.shape == (4, 6) and changed.nonzero().tolist() == [[1, 4]]


def test_the_pictures_share_of_what_features_vary_by():
    """Of a picture of variance 4 under noise of variance 1, four fifths; of noise alone, nothing."""
    generator = torch.Generator().manual_seed(0)
    pictures, noise = torch.randn(50, 1, 1000, generator=generator), torch.randn(50, 3, 1000, generator=generator)
    assert picture_share(2 * pictures + noise) == pytest.approx(0.8, abs=0.01)
    assert picture_share(noise) == pytest.approx(0, abs=0.01)
    assert picture_share(pictures.expand(-1, 3, -1)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"2 or more noises, \.\.\.\]; got \(50, 1, 1000\)"):
        picture_share(pictures)


def test_skips_are_the_pairs_that_the_forward_pass_joins():
    network, (x_t, t, labels) = awake(U_NETS[1]), given(U_NETS[1])
    pairs = skip_connections(network)
    assert [(s.source, s.target) for s in pairs] == [
        ("encoder.0", "decoder.6"), ("encoder.1", "decoder.5"), ("encoder.3", "decoder.3"),
        ("encoder.5", "decoder.1"), ("encoder.6", "decoder.0"),
    ]  # fmt: skip
    with watch(network, [name for skip in pairs for name in (skip.source, skip.target)]) as passed:
        network(x_t, t, labels)
    for skip in pairs:
        assert torch.equal(passed[skip.target].input[:, -skip.channels :], passed[skip.source].output)


def test_a_cut_skip_carries_zeros_and_the_rest_goes_on():
    network, (x_t, t, labels) = awake(U_NETS[1]), given(U_NETS[1])
    output, (first, *_, last) = network(x_t, t, labels), skip_connections(network)
    with cut(network, [last]), watch(network, [first.target, last.target]) as passed:
        assert not torch.allclose(network(x_t, t, labels), output, atol=1e-3)
    into = passed[last.target].input
    assert not into[:, -last.channels :].any() and into[:, : -last.channels].any()
    assert passed[first.target].input[:, -first.channels :].any()
    with cut(network, []):
        assert torch.equal(network(x_t, t, labels), output)
    assert torch.equal(network(x_t, t, labels), output)


def test_what_cannot_be_looked_into_is_refused():
    unet, dit, mlp = UNet(U_NETS[0]), DiT(DITS[0]), MLP(MLPConfig())
    x_t, t, labels = given(U_NETS[0])
    for look in (
        feature_shapes,
        costs,
        parts,
        lambda n: attention_maps(n, x_t, t),
        lambda n: feature_maps(n, "", x_t, t),
    ):
        with pytest.raises(ValueError, match="a UNet or a DiT; got a MLP"):
            look(mlp)
    with pytest.raises(ValueError, match=r"unknown layer of UNet 'encoder\.O': did you mean 'encoder"):
        feature_maps(unet, "encoder.O", x_t, t, labels)
    with pytest.raises(ValueError, match=r"unknown layer of DiT 'block\.0'"):
        feature_shapes(dit, "block.0")
    for network in (unet, dit):
        with pytest.raises(ValueError, match="the output of 'embed_time' has no positions in the image"):
            feature_maps(network, "embed_time", x_t, t, labels)
        with pytest.raises(
            ValueError, match=r"x_t has shape \(2, 1, 6, 28\), but this network takes \[B, \*\(1, 28, 28\)\]"
        ):
            attention_maps(network, x_t[:, :, :6], t, labels)
    with pytest.raises(ValueError, match="only a U-Net has skip connections; got a DiT"):
        skip_connections(dit)
