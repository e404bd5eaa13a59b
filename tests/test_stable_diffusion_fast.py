"""Compiled, the same steps come out. (Nothing is compiled here but the graph: what is tested is what is around.)"""

import itertools
from dataclasses import replace

import pytest
import torch

from diffusion_explained.stable_diffusion import load, save_stand_in, stand_in
from diffusion_explained.stable_diffusion.fast import accelerate

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
    assert compiled == [{"backend": "inductor", "dynamic": False, "mode": "reduce-overhead"}] * 2
    assert model.sample("a cat", **OPTIONS).shape == (2, 3, 64, 64)
    with pytest.raises(ValueError, match="choose one of them"):
        load(tmp_path, device="cpu", fast=True, offload=True)
