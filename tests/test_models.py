"""The networks: their shapes, their conditions, what they cost, and what their configs refuse."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from diffusion_explained.models import (
    MLP,
    NETWORKS,
    MLPConfig,
    UNet,
    UNetConfig,
    build_network,
    count_flops,
    count_parameters,
    network_config,
)
from diffusion_explained.models.embeddings import sinusoids
from diffusion_explained.models.unet import Attention, Upsample

SMALL = UNetConfig(widths=(16, 32), embedding_width=32)
SHAPES = [
    SMALL,
    UNetConfig(
        image_shape=(3, 32, 32),
        patch_size=1,
        widths=(8, 12, 16),
        blocks=(2, 1, 1),
        attention=(False, True, False),
        head_width=4,
    ),
    UNetConfig(widths=(16, 32), attention=(True, True), head_width=16, num_classes=None),
    UNetConfig(image_shape=(1, 28, 28), patch_size=4, widths=(32,), blocks=(1,), attention=(False,)),
    MLPConfig(num_classes=8),
    MLPConfig(image_shape=(3,), width=16, layers=1),
]


def awake(network):
    """The network with every weight drawn at random, for one that is new outputs 0 whatever it is given."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.5, generator=generator)
    return network.eval()


def build(config):
    return {UNetConfig: UNet, MLPConfig: MLP}[type(config)](config)


def inputs(config, batch_size=3):
    x = torch.randn(batch_size, *config.image_shape, generator=torch.Generator().manual_seed(1))
    return x, torch.linspace(0, 999, batch_size)


@pytest.mark.parametrize("config", SHAPES, ids=str)
def test_output_has_the_shape_of_the_input_and_starts_at_zero(config):
    network = build(config)
    x, t = inputs(config)
    labels = None if config.num_classes is None else torch.tensor([0, 1, config.num_classes])
    assert torch.equal(network(x, t, labels), torch.zeros_like(x))
    output = awake(network)(x, t, labels)
    assert output.shape == x.shape and output.isfinite().all() and output.std() > 0


@pytest.mark.parametrize("config", [SMALL, MLPConfig(num_classes=10)], ids=str)
def test_every_input_matters_and_each_image_only_to_itself(config):
    network = awake(build(config))
    x, t = inputs(config)
    labels = torch.tensor([1, 2, 3])
    output = network(x, t, labels)
    assert not torch.allclose(network(x, t + 50, labels), output)
    assert not torch.allclose(network(x, t, labels + 1), output)
    changed = network(torch.cat([x[:2], x[2:] + 1]), t, labels)
    torch.testing.assert_close(changed[:2], output[:2])
    assert not torch.allclose(changed[2], output[2])


@pytest.mark.parametrize("config", [SMALL, MLPConfig(num_classes=10)], ids=str)
def test_no_labels_are_the_null_label_of_all(config):
    network = awake(build(config))
    x, t = inputs(config)
    null = torch.full((3,), 10)
    assert torch.equal(network(x, t, None), network(x, t, null))
    assert not torch.allclose(network(x, t, torch.full((3,), 9)), network(x, t, null))


def test_all_weights_of_a_unet_are_trained():
    network = awake(UNet(SMALL))
    x, t = inputs(SMALL)
    network(x, t, torch.tensor([0, 1, 10])).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_a_unet_can_pass_its_input_on():
    network = UNet(SMALL)
    torch.nn.init.ones_(network.input_gain.bias)
    x, t = inputs(SMALL)
    assert torch.equal(network(x, t), x)
    with torch.autocast("cpu", torch.bfloat16):  # exactly, where bfloat16 would round it
        assert torch.equal(network(x, t), x)


def test_the_skips_carry_the_image_when_the_way_through_the_middle_is_cut():
    network = awake(UNet(SMALL))
    with torch.no_grad():
        network.input_gain.weight.zero_()
        network.input_gain.bias.zero_()
        for layer in network.decoder:
            if isinstance(layer, Upsample):
                layer.mix.weight.zero_()
    x, t = inputs(SMALL)
    assert (network(x, t) - network(-x, t)).abs().mean() > 0.01


def test_dropout_acts_in_training_only():
    network = awake(UNet(dataclasses.replace(SMALL, dropout=0.5)))
    x, t = inputs(SMALL)
    assert torch.equal(network(x, t), network(x, t))
    network.train()
    assert not torch.equal(network(x, t), network(x, t))


def test_attention_is_the_fused_one_of_torch():
    attention = awake(Attention(32, head_width=8))
    x = torch.randn(2, 32, 5, 5, generator=torch.Generator().manual_seed(2))
    tokens = attention.norm(x).flatten(2).transpose(1, 2)
    q, k, v = (p.unflatten(-1, (4, 8)).transpose(1, 2) for p in attention.qkv(tokens).chunk(3, dim=-1))
    fused = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    expected = x + attention.out(fused).transpose(1, 2).unflatten(2, (5, 5))
    torch.testing.assert_close(attention(x), expected)


def test_sinusoids_follow_the_formula():
    t = torch.tensor([0.0, 1.0, 500.0])
    expected = torch.stack([(t * 10_000 ** (-i / 4)).cos() for i in range(4)])
    torch.testing.assert_close(sinusoids(t, 8)[:, :4], expected.T, atol=1e-4, rtol=0)
    assert torch.equal(sinusoids(torch.zeros(1), 8), torch.tensor([[1.0] * 4 + [0.0] * 4]))


@pytest.mark.parametrize("config", [SMALL, MLPConfig(num_classes=3)], ids=str)
def test_a_config_in_json_builds_the_same_network(config):
    network = build(config)
    described = network_config(network)
    described = {key: list(value) if isinstance(value, tuple) else value for key, value in described.items()}
    again = build_network(described)
    assert again.config == config and type(again) is type(network)
    again.load_state_dict(network.state_dict())


def test_the_digit_network_is_small_and_cheap():
    network = UNet(UNetConfig())
    assert count_parameters(network) < 0.75e6
    assert 50e6 < count_flops(network) < 65e6


def test_counts_are_those_by_hand():
    network = MLP(MLPConfig(width=16, layers=2))
    linear = 2 * 16 * 16 + (2 * 16 + 16 * 2) + 2 * 16 * 16  # time embedding, stem and head, layers
    assert count_flops(network) == 2 * linear
    assert count_parameters(network) == linear + 4 * 16 + 16 + 2


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"network": "unte"}, "did you mean 'unet'"),
        ({}, "unknown network None"),
        ({"network": "unet", "width": [32, 64]}, "did you mean 'widths'"),
        ({"network": "unet", "widths": [32, 64], "blocks": [1]}, "one entry per resolution"),
        ({"network": "unet", "image_shape": [1, 28, 28], "patch_size": 3}, "28 x 28"),
        ({"network": "unet", "widths": [32, 64, 64], "blocks": [1, 1, 1], "attention": [False] * 3}, "28 x 28"),
        ({"network": "unet", "widths": [32, 72]}, "head_width"),
        ({"network": "unet", "widths": [30, 64]}, "multiples of 4"),
        ({"network": "unet", "dropout": 1.5}, "dropout"),
        ({"network": "mlp", "width": 0}, "width"),
        ({"network": "mlp", "image_shape": [1, 28, 28]}, "points"),
    ],
)
def test_a_config_that_makes_no_network_is_refused(config, said):
    with pytest.raises(ValueError, match=said):
        build_network(config)


def test_a_network_of_ones_own_has_no_config():
    with pytest.raises(ValueError, match="not one of the package's networks"):
        network_config(torch.nn.Linear(2, 2))
    assert set(NETWORKS) == {"mlp", "unet", "dit", "space_time", "points", "egnn", "classifier"}
