"""The diffusion transformer against its paper: tokens, positions, adaLN-Zero, and the interface it shares."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diffusion_explained.models import DiT, DiTConfig, build_network, count_flops, network_config
from diffusion_explained.models.attention import Attend
from diffusion_explained.models.dit import Block, modulated, positions

SMALL = DiTConfig(image_shape=(3, 8, 12), patch_size=2, width=32, depth=2, head_width=16, num_classes=4)


def trained(config=SMALL):
    """A network whose zeros have become something."""
    torch.manual_seed(0)
    network = DiT(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval()


def test_it_starts_at_zero_and_every_block_as_the_identity():
    torch.manual_seed(0)
    network, x_t = DiT(SMALL), torch.randn(2, 3, 8, 12)
    assert not network(x_t, torch.tensor([0.0, 999.0]), torch.tensor([0, 4])).any()
    tokens = torch.randn(2, 24, 32)
    assert torch.equal(network.blocks[0](tokens, torch.randn(2, 32)), tokens)


def test_a_block_is_the_papers():
    torch.manual_seed(1)
    block, tokens, cond = Block(32, 16), torch.randn(3, 5, 32), torch.randn(3, 32)
    nn.init.normal_(block.modulate.weight, std=0.1)
    s1, b1, g1, s2, b2, g2 = block.modulate(cond).unflatten(1, (6, 32)).unbind(1)
    h = F.layer_norm(tokens, (32,), eps=1e-6) * (1 + s1[:, None]) + b1[:, None]
    q, k, v = (part.reshape(3, 5, 2, 16).transpose(1, 2) for part in block.qkv(h).split(32, dim=-1))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(3, 5, 32)
    expected = tokens + g1[:, None] * block.out(attended)
    h = F.layer_norm(expected, (32,), eps=1e-6) * (1 + s2[:, None]) + b2[:, None]
    expected = expected + g2[:, None] * block.mlp[2](F.gelu(block.mlp[0](h), approximate="tanh"))
    torch.testing.assert_close(block(tokens, cond), expected)


def test_what_attention_gathers_is_weighted_by_what_it_shows():
    torch.manual_seed(2)
    attend, qkv = Attend(16), torch.randn(2, 7, 3 * 32)
    q, k, v = attend.heads(qkv)
    weights = attend.weights(q, k)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 7))
    torch.testing.assert_close(attend(qkv), (weights @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attend(qkv), F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def test_every_patch_has_a_place_of_its_own():
    table = positions((4, 6), 32)
    assert table.shape == (24, 32)
    assert torch.cdist(table, table).add(10 * torch.eye(24)).min() > 0.3
    torch.testing.assert_close(table[:6, :16], table[:1, :16].expand(6, 16))  # one row: the same first half
    torch.testing.assert_close(table[::6, 16:], table[:1, 16:].expand(4, 16))  # one column: the same second half


def test_patches_go_back_where_they_came_from():
    """With blocks that do nothing, each output pixel depends on its own patch of the input alone."""
    network, x_t = DiT(SMALL).eval(), torch.zeros(1, 3, 8, 12)
    nn.init.normal_(network.head.weight)
    x_t.requires_grad_()
    network(x_t, torch.tensor([5.0]))[0, 1, 4, 7].backward()
    reached = x_t.grad[0].abs().sum(0) > 0
    assert reached[4:6, 6:8].all() and int(reached.sum()) == 4


def test_positions_make_it_see_where_things_are():
    network, x_t, t = trained(), torch.randn(1, 3, 8, 12), torch.tensor([300.0])
    moved = network(x_t.roll(2, dims=3), t)
    assert not torch.allclose(moved, network(x_t, t).roll(2, dims=3), atol=1e-3)
    network.positions.zero_()
    torch.testing.assert_close(network(x_t.roll(2, dims=3), t), network(x_t, t).roll(2, dims=3))


def test_time_class_and_the_null_label_matter():
    network, x_t, t = trained(), torch.randn(2, 3, 8, 12), torch.tensor([100.0, 700.0])
    given = network(x_t, t, torch.tensor([1, 1]))
    assert not torch.allclose(given, network(x_t, t, torch.tensor([2, 2])), atol=1e-4)
    assert not torch.allclose(given, network(x_t, t + 100, torch.tensor([1, 1])), atol=1e-4)
    torch.testing.assert_close(network(x_t, t), network(x_t, t, torch.tensor([4, 4])))
    torch.testing.assert_close(network(x_t[1:], t[1:], torch.tensor([1])), given[1:])  # no image sees another


def test_a_config_builds_it_again():
    network = trained()
    other = build_network(network_config(network))
    other.load_state_dict(network.state_dict())
    x_t, t = torch.randn(1, 3, 8, 12), torch.tensor([4.0])
    assert torch.equal(other.eval()(x_t, t), network(x_t, t))


def test_half_the_patch_is_four_times_the_tokens_and_more_than_four_times_the_work():
    coarse, fine = (DiT(DiTConfig(image_shape=(3, 32, 32), patch_size=p, width=64)) for p in (4, 2))
    assert len(fine.positions) == 4 * len(coarse.positions)
    assert 4 < count_flops(fine) / count_flops(coarse) < 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 3}, "patch_size 3 must divide 28 x 28"),
        ({"patch_size": 0}, "patch_size must be 1 or more; got 0"),
        ({"head_width": 50}, "head_width 50 must divide the width 192"),
        ({"width": 62, "head_width": 31}, "multiple of 4"),
        ({"depth": 0}, "depth must be 1 or more; got 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        DiTConfig(**change)


def test_modulation_is_a_scale_around_one_and_a_shift():
    tokens = torch.randn(2, 3, 4)
    torch.testing.assert_close(modulated(tokens, torch.zeros(2, 1, 4), torch.ones(2, 1, 4)), tokens + 1)
