"""Recording attention changes nothing, and what is recorded is what the network weighs its text by."""

import pytest
import torch

from diffusion_explained import samplers
from diffusion_explained.stable_diffusion import stand_in
from diffusion_explained.stable_diffusion.attention import (
    column_of_tokens,
    cross_attentions,
    grid_of,
    record_attention,
    reweight,
)
from diffusion_explained.stable_diffusion.fast import accelerate

SIZE = {"height": 96, "width": 160, "num_inference_steps": 3}
PROMPT = "a cat and a tiger"  # the stand-in spells "tiger" in five tokens


@pytest.fixture(scope="module")
def model():
    return stand_in(device="cpu")


def recorded(model, text, every_head=False, **options):
    steps = []
    with record_attention(model, text, every_head=every_head) as attention:
        for step in model.steps(text, **{**SIZE, **options}):
            attention.after(step)
            steps.append(step)
    return attention, steps


def hooks(model):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.network.modules())


@pytest.mark.parametrize("family", ["sd", "sdxl"])
@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_recording_leaves_every_latent_as_it_is(family, sampler):
    model = stand_in(family, device="cpu")
    text = model.encode_text(PROMPT)
    attention, steps = recorded(model, text, seed=[3, 4], sampler=sampler)
    plain = list(model.steps(text, **SIZE, seed=[3, 4], sampler=sampler))
    assert all(torch.equal(a.x_next, b.x_next) for a, b in zip(steps, plain, strict=True))
    assert [level.t for level in attention.levels] == [step.level.t for step in plain]
    for image in (0, 1):
        maps = attention.maps(image)
        assert maps.shape == (3, len(attention.columns()), 12, 20)
        torch.testing.assert_close(maps.sum(1), torch.ones(3, 12, 20))
    assert not torch.equal(attention.maps(0), attention.maps(1))


def test_the_weights_are_those_that_the_layer_averages_values_by(model):
    """Rebuilt from weights and values, a layer's output is what it put out."""
    text, (name, layer) = model.encode_text(PROMPT), next(iter(cross_attentions(model).items()))
    seen = {}
    handle = layer.register_forward_hook(lambda _, inputs, named, output: seen.update(named, output=output),
                                         with_kwargs=True)  # fmt: skip
    with record_attention(model, text) as attention:
        step = next(model.steps(text, **SIZE))
        weights = attention._calls[-1][name]  # [2, heads, positions, 77]
        attention.after(step)
    handle.remove()
    values = layer.head_to_batch_dim(layer.to_v(seen["encoder_hidden_states"]))
    output = layer.to_out[0](layer.batch_to_head_dim(weights.flatten(0, 1) @ values))
    torch.testing.assert_close(output, seen["output"], atol=1e-5, rtol=1e-4)
    # what is kept is the prompt's side, its tokens pooled by word
    tokens = text.tokens[0][0]
    cat = weights[1].mean(0)[:, 2].reshape(12, 20)
    padding = weights[1].mean(0)[:, tokens.used :].sum(-1).reshape(12, 20)
    torch.testing.assert_close(attention.of("cat", layers=[name])[0], cat)
    torch.testing.assert_close(attention.of("padding", layers=[name])[0], padding)
    assert not torch.allclose(weights[0], weights[1])


def test_words_of_several_tokens_and_several_places_are_added(model):
    text = model.encode_text(PROMPT)
    attention, _ = recorded(model, text)
    assert attention.columns() == ("start", "a", "cat", "and", "a", "tiger", "end", "padding")
    assert column_of_tokens(text.tokens[0][0]).tolist() == [0, 1, 2, 3, 4, *[5] * 5, 6, *[7] * 66]
    maps = attention.maps()
    torch.testing.assert_close(attention.of("a"), maps[:, 1] + maps[:, 4])
    torch.testing.assert_close(attention.shares(), maps.mean((2, 3)))
    assert float(attention.shares()[0, 5]) > 3 * float(attention.shares()[0, 2])  # random weights: five tokens of 77


def test_a_prompt_that_fills_every_place_has_no_padding(model):
    text = model.encode_text("cat " * 90)
    attention, _ = recorded(model, text, num_inference_steps=1, spacing="trailing")
    assert len(attention.columns()) == 78 and not attention.of("padding").any()
    torch.testing.assert_close(attention.maps().sum(1), torch.ones(1, 12, 20))


@pytest.mark.parametrize("options", [{"guidance_scale": 1.0}, {"guidance_interval": (0.5, 3.0)}])
def test_the_prompts_side_is_kept_with_guidance_off_or_on(model, options):
    text = model.encode_text(["a cat", "a red castle and a dog"], negative="blurry")
    attention, steps = recorded(model, text, seed=[0, 0], **options)
    assert any(step.pred.eps_uncond is None for step in steps)
    assert attention.columns(0) == ("start", "a", "cat", "end", "padding")
    for image, prompt in enumerate(text.prompts):
        alone = model.encode_text(prompt)
        for k, step in enumerate(steps):
            with record_attention(model, alone) as again:
                denoise = model.denoiser(alone, guidance_scale=1.0)
                again.after(next(samplers.ddim(denoise, step.x_t[image : image + 1], [step.level, step.next_level])))
            torch.testing.assert_close(again.maps()[0], attention.maps(image)[k], atol=1e-5, rtol=1e-4)


def test_layers_heads_and_sizes_on_request(model):
    attention, _ = recorded(model, model.encode_text(PROMPT), every_head=True)
    coarse = "mid_block.attentions.0.transformer_blocks.0.attn2"
    assert attention.layers[0][coarse].shape == (1, 2, 8, 2, 3)
    raw = attention.maps(layers=[coarse], upsample=False)
    assert raw.shape == (3, 8, 2, 3) and attention.maps(layers=[coarse]).shape == (3, 8, 12, 20)
    heads = [attention.maps(layers=[coarse], upsample=False, head=head) for head in (0, 1)]
    torch.testing.assert_close(raw, (heads[0] + heads[1]) / 2)
    assert not torch.allclose(*heads)
    mean, _ = recorded(model, model.encode_text(PROMPT))
    assert mean.layers[0][coarse].shape == (1, 1, 8, 2, 3)
    torch.testing.assert_close(mean.maps(), attention.maps())
    with pytest.raises(ValueError, match=r"sizes.*have no mean"):
        attention.maps(upsample=False)
    with pytest.raises(ValueError, match="unknown cross-attention layer 'middle'"):
        attention.maps(layers=["middle"])
    with pytest.raises(ValueError, match=r"head 1 .*every_head=True"):
        mean.maps(head=1)
    with pytest.raises(ValueError, match="image 1 was not recorded"):
        mean.maps(1)
    with pytest.raises(ValueError, match="unknown word of the prompt 'dog'"):
        mean.of("dog")


def test_hooks_are_gone_afterwards_also_after_an_error(model):
    text, before = model.encode_text("a cat"), hooks(model)
    with pytest.raises(RuntimeError, match="stop"), record_attention(model, text), reweight(model, text, {"cat": 2.0}):
        assert hooks(model) > before
        raise RuntimeError("stop")
    assert hooks(model) == before


def test_misuse_is_said(model):
    text = model.encode_text("a cat")
    with record_attention(model, text) as attention:
        with pytest.raises(ValueError, match="Nothing is recorded"):
            attention.maps()
        steps = list(model.steps(text, **SIZE))
        attention.after(steps[-1])
        with pytest.raises(ValueError, match="not called since the last step"):
            attention.after(steps[-1])
        with pytest.raises(ValueError, match="given another text"):
            model.sample("a dog", **SIZE)
        list(model.steps(text, **SIZE, seed=[0, 1]))
        with pytest.raises(ValueError, match="4 rows were recorded, but the step has 1 images"):
            attention.after(steps[-1])
    assert len(attention.levels) == 1


def test_models_without_cross_attention_and_compiled_ones_are_refused(model):
    sd3 = stand_in("sd3", device="cpu")
    with pytest.raises(ValueError, match="no cross-attention"), record_attention(sd3, sd3.encode_text("a cat")):
        pass
    fast = accelerate(model, backend="eager")
    with pytest.raises(ValueError, match="compiled"), record_attention(fast, fast.encode_text("a cat")):
        pass


def test_skipped_steps_do_not_mix_into_the_next(model):
    text = model.encode_text("a cat")
    all_of_them, _ = recorded(model, text)
    with record_attention(model, text) as last:
        last.after(list(model.steps(text, **SIZE))[-1])
    torch.testing.assert_close(last.maps()[0], all_of_them.maps()[-1])


def test_reweighting_multiplies_one_words_part(model):
    """What a factor adds to the first layer is the word's own part of it, factor - 1 times."""
    text, (name, layer) = model.encode_text(PROMPT), next(iter(cross_attentions(model).items()))
    seen = []
    handle = layer.register_forward_hook(lambda _, inputs, named, output: seen.append((named, output)),
                                         with_kwargs=True)  # fmt: skip
    with record_attention(model, text) as attention:
        next(model.steps(text, **SIZE))
        weights = attention._calls[-1][name]
    with reweight(model, text, {"tiger": 3.0}):
        next(model.steps(text, **SIZE))
    handle.remove()
    (named, plain), (_, changed) = seen
    values = layer.head_to_batch_dim(layer.to_v(named["encoder_hidden_states"]))
    part = (weights.flatten(0, 1)[..., 5:10] @ values[:, 5:10]).unflatten(0, (2, -1))
    part[0] = 0  # the unconditional side stays
    added = layer.batch_to_head_dim(2.0 * part.flatten(0, 1)) @ layer.to_out[0].weight.T
    torch.testing.assert_close(changed - plain, added, atol=1e-5, rtol=1e-3)


def test_a_factor_of_one_changes_nothing_and_bad_ones_are_refused(model):
    text = model.encode_text(["a cat", "a dog"])
    plain = model.sample(text, **SIZE)
    with reweight(model, text, {"cat": 1.0}):
        assert torch.equal(model.sample(text, **SIZE), plain)
    with reweight(model, text, {"cat": 4.0}):
        changed = model.sample(text, **SIZE)
    assert not torch.equal(changed[0], plain[0]) and torch.equal(changed[1], plain[1])  # no cat in the second prompt
    with pytest.raises(ValueError, match="unknown word of the prompt 'horse'"), reweight(model, text, {"horse": 2.0}):
        pass
    with pytest.raises(ValueError, match="finite"), reweight(model, text, {"cat": float("nan")}):
        pass


def test_layers_lie_where_the_u_net_halves():
    assert grid_of(240, (12, 20)) == (12, 20) and grid_of(6, (12, 20)) == (2, 3) and grid_of(35, (9, 13)) == (5, 7)
    with pytest.raises(ValueError, match="do not result from halving"):
        grid_of(50, (12, 20))
