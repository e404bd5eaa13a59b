"""Weights in 8 bits: what is computed is the same network with rounded weights, and the rounding has a bound."""

import copy

import pytest
import tiny_pipelines
import torch
from safetensors.torch import save_file
from test_cli import assert_refused, run
from torch import nn

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import Trace, forecast, load, loading, save_stand_in
from diffusion_explained.stable_diffusion.families import family_of_pipeline
from diffusion_explained.stable_diffusion.fast import accelerate
from diffusion_explained.stable_diffusion.float8 import FLOAT8, KEPT, Conv8, Linear8, is_float8, to_float8
from diffusion_explained.stable_diffusion.loading import of_pipeline

RUN = {"height": 64, "width": 64, "num_inference_steps": 2, "seed": [1, 2]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stand_in(tmp_path_factory.mktemp("models") / "sd")


def rounded(network):
    """A copy whose layers have the weights, in full precision, that the network in float8 computes with."""
    same = copy.deepcopy(network)
    for name, layer in same.named_modules():
        if type(layer) in (nn.Linear, nn.Conv2d) and not KEPT.search(name):
            s = 2.0 ** torch.ceil(torch.log2(layer.weight.abs().amax() / 448))
            layer.weight.data = (layer.weight / s).to(FLOAT8).to(layer.weight.dtype) * s
    return same


def test_each_weight_is_off_by_at_most_a_sixteenth_of_itself():
    for made in (nn.Linear(300, 40), nn.Conv2d(8, 30, 3), nn.Linear(3, 2)):
        before = made.weight.detach().clone()
        to_float8(made)
        assert isinstance(made, Linear8 | Conv8) and made.weight.dtype == FLOAT8 and made.bias.dtype == torch.float32
        after, large = made.weight.float() * made.scale, before.abs() > before.abs().max() / 14336
        assert ((after - before).abs() <= before.abs() / 16 + 1e-12)[large].all()
        assert 224 < made.weight.float().abs().max() <= 448


def test_a_layer_of_zeros_and_an_empty_network_stay_what_they_are():
    zeros = nn.Linear(2, 2)
    nn.init.zeros_(zeros.weight)
    to_float8(zeros)
    assert torch.equal(zeros(torch.ones(1, 2))[0], zeros.bias) and not is_float8(nn.LayerNorm(3))


def test_a_model_in_float8_draws_what_its_rounded_weights_draw(folder):
    plain, half = load(folder, device="cpu"), load(folder, device="cpu", float8=True)
    assert is_float8(half.network) and half.network.dtype == torch.float32 and not is_float8(half.pipe.vae)
    assert half.parameters() == plain.parameters()
    exact = final(plain.steps("a cat", **RUN))
    got = final(half.steps("a cat", **RUN))
    same = of_pipeline(plain.pipe, plain.family, "rounded", "live")
    same.pipe.unet = rounded(plain.network)
    expected = final(of_pipeline(same.pipe, plain.family, "rounded", "live").steps("a cat", **RUN))
    assert torch.equal(got, expected) and not torch.equal(got, exact)


DRIVEN = [name for name in tiny_pipelines.CALLS if name not in ("sana_flow", "flux2_klein_base")]


@pytest.mark.parametrize("name", DRIVEN)
def test_a_driven_pipeline_computes_in_the_type_of_its_run(name):
    """Their pipelines ask the network for its type, and would else give it latents of 8 bits."""
    pipe, size = tiny_pipelines.build(name), tiny_pipelines.SIZES.get(name, 64)
    given = {**RUN, "height": size, "width": size, "seed": 1}
    same, network = copy.copy(pipe), family_of_pipeline(type(pipe).__name__).network
    setattr(same, network, rounded(getattr(pipe, network)))
    to_float8(getattr(pipe, network))
    both = [of_pipeline(one, family_of_pipeline(type(one).__name__), name, "live") for one in (pipe, same)]
    torch.testing.assert_close(*(final(one.steps("a cat", **given)) for one in both), rtol=0, atol=0)


def test_the_forecast_and_the_file_of_a_run_know_of_it(folder, tmp_path):
    weights = forecast(folder).need("float16", float8=True).weights
    model = load(folder, device="cpu", dtype="float16", float8=True)
    assert weights == tiny_pipelines.loaded_bytes(model.pipe)
    out = tmp_path / "t.safetensors"
    command = ("record", "a cat", "--model", folder, "--device", "cpu", "--steps", 1, "--size", 64, "--out", out)
    result = run(*command, "--float8", "--in-parts", "--dtype", "bfloat16", "--spacing", "trailing")
    assert result.exit_code == 0, result.output
    assert Trace.load(out).settings["dtype"] == "bfloat16, float8"
    assert_refused(run("record", "a cat", "--model", "stand-in", "--float8", "--dtype", "float16"), "float8, dtype")


def test_it_can_be_compiled(folder):
    model = load(folder, device="cpu", float8=True)
    expected = final(model.steps("a cat", **RUN))
    got = final(accelerate(model, backend="eager").steps("a cat", **RUN))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_what_goes_not_with_float8_is_refused(folder, tmp_path, monkeypatch):
    model = load(folder, device="cpu", float8=True)
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    out, into = model.network.get_submodule(layer).weight.shape
    pair = {f"unet.{layer}.lora_A.weight": torch.ones(2, into), f"unet.{layer}.lora_B.weight": torch.ones(out, 2)}
    save_file(pair, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="Load the model without float8"):
        model.load_lora(tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        load(folder, device="cpu", dtype="int8")
    monkeypatch.setattr(loading, "choose_device", lambda name: torch.device("mps"))
    with pytest.raises(ValueError, match="no type of 8 bits"):
        load(folder, device="mps", float8=True)
