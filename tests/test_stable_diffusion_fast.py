"""Compiled, the same steps come out. (Nothing is compiled here but the graph: what is tested is what is around.)"""

import copy
import itertools
from dataclasses import replace

import pytest
import torch

from diffusion_explained.stable_diffusion import load, save_stand_in, stand_in
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.fast_unet import JoinedUNet, can_join
from diffusion_explained.stable_diffusion.float8 import to_float8

OPTIONS = {"height": 64, "width": 64, "num_inference_steps": 4, "seed": [1, 2], "guidance_scale": 5.0}


@pytest.mark.parametrize(("family", "backend"), [("sd", "aot_eager"), ("sdxl", "eager"), ("sd3", "eager")])
def test_every_step_is_the_same(family, backend):
    model = stand_in(family, device="cpu")
    plain = list(model.steps("a photo of a cat", **OPTIONS))
    fast = accelerate(stand_in(family, device="cpu"), backend=backend)
    steps = list(fast.steps("a photo of a cat", **OPTIONS))
    for ours, theirs in zip(steps, plain, strict=True):
        torch.testing.assert_close(ours.x_t, theirs.x_t, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.pred.eps_cond, theirs.pred.eps_cond, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ours.pred.eps_uncond, theirs.pred.eps_uncond, rtol=1e-3, atol=1e-3)
    for step, after in itertools.pairwise(steps):
        assert step.x_next is after.x_t
    torch.testing.assert_close(fast.decode(steps[-1].x_next), model.decode(plain[-1].x_next), rtol=1e-4, atol=1e-4)


def unet_of(family):
    """The U-Net of a stand-in in float64, and inputs of two images with both sides of guidance."""
    unet = copy.deepcopy(stand_in(family, device="cpu").network).double()
    draw = torch.Generator().manual_seed(0)
    x, texts = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((2, 4, 8, 8), (4, 7, 32)))
    named = {"encoder_hidden_states": texts}
    if family == "sdxl":
        width = unet.config.cross_attention_dim
        named["encoder_hidden_states"] = torch.randn(4, 7, width, generator=draw, dtype=torch.float64)
        pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
        numbers = {"text_embeds": torch.randn(4, pooled, generator=draw, dtype=torch.float64)}
        named["added_cond_kwargs"] = numbers | {"time_ids": torch.full((4, 6), 64.0, dtype=torch.float64)}
    return unet, x, torch.tensor([500.0, 20.0], dtype=torch.float64), named


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@torch.no_grad()
def test_joined_products_compute_the_same_function(family):
    unet, x, t, named = unet_of(family)
    both = unet(torch.cat([x, x]), torch.cat([t, t]), **named, return_dict=False)[0]
    joined = JoinedUNet(copy.deepcopy(unet))
    for inputs in ((x, t), (torch.cat([x, x]), torch.cat([t, t]))):  # one side is enough
        torch.testing.assert_close(joined(*inputs, **named)[0], both, rtol=1e-9, atol=1e-9)
    before = unet.mid_block.attentions[0].transformer_blocks[0]
    same = joined.unet.mid_block.attentions[0].transformer_blocks[0]
    for block in (before, same):  # as a LoRA does
        for layer in (block.attn1.to_v, block.attn2.to_k):
            layer.weight.copy_(layer.weight * 3)
    changed = unet(torch.cat([x, x]), torch.cat([t, t]), **named, return_dict=False)[0]
    assert (changed - both).abs().max() > 1e-3
    torch.testing.assert_close(joined(x, t, **named)[0], changed, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_residuals_of_a_controlnet_are_added():
    unet, x, t, named = unet_of("sd")
    x, t = torch.cat([x, x]), torch.cat([t, t])
    shapes = [unet.conv_in(x).shape]
    for block in unet.down_blocks:
        hook = block.register_forward_hook(lambda module, given, output: shapes.extend(y.shape for y in output[1]))
        unet(x, t, **named)
        hook.remove()
    draw = torch.Generator().manual_seed(1)
    down = tuple(torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes)
    more = {"down_block_additional_residuals": down,
            "mid_block_additional_residual": torch.randn(*shapes[-1], generator=draw, dtype=torch.float64)}  # fmt: skip
    expected = unet(x, t, **named, **more, return_dict=False)[0]
    torch.testing.assert_close(JoinedUNet(unet)(x, t, **named, **more)[0], expected, rtol=1e-9, atol=1e-9)


def test_another_network_is_not_joined():
    unet, *_ = unet_of("sd")
    assert can_join(unet) and not can_join(stand_in("sd3", device="cpu").network)
    unet.register_to_config(resnet_time_scale_shift="scale_shift")
    assert not can_join(unet)
    eight = copy.deepcopy(stand_in("sd", device="cpu").network)
    to_float8(eight)
    assert not can_join(eight)


def test_outputs_that_are_written_over_do_no_harm():
    """CUDA graphs put each output where the last one was: here a network that does the same."""
    model = stand_in("sd", device="cpu")
    plain = list(model.steps("a cat", **OPTIONS))
    memory = torch.empty(4, 4, 8, 8)

    def overwriting(x, **named):
        return (memory.copy_(model.network(x, **named)[0]),)

    again = replace(model, call=overwriting)
    for ours, theirs in zip(list(again.steps("a cat", **OPTIONS)), plain, strict=True):
        torch.testing.assert_close(ours.pred.eps_cond, theirs.pred.eps_cond, rtol=1e-4, atol=1e-4)


def test_fast_is_an_option_of_load(tmp_path, monkeypatch):
    save_stand_in(tmp_path)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled.append(options) or function)
    model = load(tmp_path, device="cpu", fast=True)
    options = {"backend": "inductor", "dynamic": False, "mode": "reduce-overhead"}
    assert compiled == [options] * 3, "the network, the text encoder and the decoder"
    assert model.sample("a cat", **OPTIONS).shape == (2, 3, 64, 64)
    with pytest.raises(ValueError, match="choose one of them"):
        load(tmp_path, device="cpu", fast=True, offload=True)
