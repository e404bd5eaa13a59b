"""What Stable Diffusion is given: prompts of any kind, sizes, pictures, masks, and too little memory."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import NotEnoughMemoryError, StableDiffusion, stand_in
from diffusion_explained.stable_diffusion.memory import enough_memory

SIDE = 64
SHORT = {"height": SIDE, "width": SIDE, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return stand_in("sd", device="cpu")


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.zeros(1, 3, SIDE, SIDE)


# -- prompts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "encoders"), [("sd", 1), ("sdxl", 2), ("sd3", 2)])
def test_tokens_are_visible(family, encoders):
    text = stand_in(family, device="cpu").encode_text(["a photo of a cat", "castle"], negative="blurry")
    assert len(text) == 2 and len(text.tokens[0]) == encoders and len(text.negative_tokens) == 2
    tokens = text.tokens[0][0]
    assert tokens.words == (("a", 1), ("photo", 1), ("of", 1), ("a", 1), ("cat", 1))
    assert len(tokens.ids) == len(tokens.pieces) == 77 and tokens.used == 7 and tokens.padding == 70
    assert tokens.pieces[0] == "<|startoftext|>" and tokens.pieces[5:7] == ("cat</w>", "<|endoftext|>")
    assert tokens.cut == "" and text.cut == ("", "")
    assert text.embeds.shape == text.negative_embeds.shape and text.embeds.shape[0] == 2
    assert (text.pooled is None) == (family == "sd")
    assert text.tokens[1][0].words == (("castle", 1),)


def test_t5_reads_beside_clip():
    text = stand_in("sd3", t5=True, device="cpu").encode_text("a photo of a cat")
    tokens = text.tokens[0][2]
    assert tokens.encoder == "text_encoder_3" and len(tokens.ids) == 256 and text.embeds.shape == (1, 77 + 256, 64)
    assert [word for word, _ in tokens.words] == ["a", "photo", "of", "a", "cat"]
    assert tokens.pieces[tokens.used - 1] == "</s>" and tokens.pieces[tokens.used] == "<pad>"


def test_embeddings_are_the_pipelines_own(model):
    text = model.encode_text(["a cat", "a dog"], negative=["", "red"])
    ids = torch.tensor([tokens[0].ids for tokens in text.tokens])
    with torch.no_grad():
        torch.testing.assert_close(text.embeds, model.pipe.text_encoder(ids)[0], rtol=1e-5, atol=1e-5)
    both = model.pipe.encode_prompt(["a cat", "a dog"], "cpu", 1, True, ["", "red"])
    torch.testing.assert_close(text.negative_embeds, both[1], rtol=1e-5, atol=1e-5)


def test_no_negative_is_zeros_for_stable_diffusion_xl_and_the_empty_prompt_for_others(model):
    xl = stand_in("sdxl", device="cpu")
    assert not xl.encode_text("a cat").negative_embeds.any() and not xl.encode_text("a cat").negative_pooled.any()
    assert xl.encode_text("a cat", negative="").negative_embeds.any()
    assert torch.equal(model.encode_text("a cat").negative_embeds, model.encode_text("a cat", "").negative_embeds)


def test_a_prompt_of_500_words_says_what_was_cut(model):
    text = model.encode_text(" ".join(["castle"] * 490 + ["red"] * 10))
    tokens = text.tokens[0][0]
    assert tokens.used == 77 and tokens.padding == 0 and len(tokens.words) == 75
    assert tokens.cut.split() == ["castle"] * 415 + ["red"] * 10 and text.cut == (tokens.cut,)
    assert text.embeds.shape == (1, 77, 32)
    assert final(model.steps(text, **SHORT)).isfinite().all()
    whole = model.encode_text(" ".join(["castle"] * 75))
    assert whole.cut == ("",) and torch.equal(whole.embeds, model.encode_text(" ".join(["castle"] * 76)).embeds)


def test_an_empty_prompt_is_one(model):
    tokens = model.encode_text("").tokens[0][0]
    assert tokens.words == () and tokens.used == 2 and tokens.padding == 75
    steps = list(model.steps("", guidance_scale=5.0, **SHORT))
    torch.testing.assert_close(steps[0].pred.eps_cond, steps[0].pred.eps_uncond)


@pytest.mark.parametrize("prompt", ["кот", "猫の写真", "قطة", "🐱🏰", "na\u00efve caf\u00e9", "a\tb\nc", "\x00"])
def test_any_alphabet_is_read(model, prompt):
    text = model.encode_text(prompt)
    tokens = text.tokens[0][0]
    assert len(tokens.ids) == 77 and bool(text.embeds.isfinite().all())
    written = "".join(word for word, _ in tokens.words)
    assert written == "".join(prompt.split()).lower() or prompt == "\x00"
    assert sum(count for _, count in tokens.words) == tokens.used - 2


def test_texts_that_are_none(model):
    for prompt, negative, message in [
        ([], None, "prompt must be a text"),
        ([3], None, "prompt must be a text"),
        ("a cat", [None], "negative must be a text"),
        (["a", "b", "c"], ["d", "e"], "2 negative prompts for 3 prompts"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.encode_text(prompt, negative)
    with pytest.raises(ValueError, match="2 prompts for 3 images"):
        model.steps(["a", "b"], seed=[0, 1, 2], **SHORT)


# -- sizes, seeds, pictures -------------------------------------------------------------------------------


def test_bad_input(model, image):
    mask = torch.ones(SIDE, SIDE)
    for options, message in [
        ({"height": 100, "width": SIDE}, "multiples of 8 pixels, got 100 x 64; the nearest is 96 x 64"),
        ({"height": -8, "width": SIDE}, "multiples of 8"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"num_inference_steps": 1001}, "num_inference_steps"),
        ({"sampler": "eulr"}, "did you mean 'euler'"),
        ({"spacing": "leadin"}, "did you mean 'leading'"),
        ({"eta": 2.0}, "eta"),
        ({"variance": "small"}, "unknown option of a run with ddim 'variance'"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"seed": -1}, "seed"),
        ({"seed": []}, "one seed per image"),
        ({"seed": [1, 2], "batch_size": 3}, "one seed per image"),
        ({"batch_size": 0}, "batch_size"),
        ({"strength": 0.5}, "need an image"),
        ({"mask": mask}, "need an image"),
        ({"image": image, "height": 128, "width": 128}, "leave the size out"),
        ({"image": image, "strength": 1.1}, "strength must be from 0"),
        ({"image": image, "strength": float("nan")}, "strength must be from 0"),
        ({"image": image, "strength": 0.0}, "the picture would come back unchanged"),
        ({"image": image, "strength": 0.4}, "Give at least 0.5"),
        ({"image": image[:, :1]}, "image must be"),
        ({"image": image + 200}, "from -1 .black. to 1"),
        ({"image": image.long()}, "from -1 .black. to 1"),
        ({"image": image * float("nan")}, "from -1 .black. to 1"),
        ({"image": image[..., :60]}, "multiples of 8"),
        ({"image": image, "mask": torch.ones(SIDE, SIDE - 8)}, r"as large as the picture, \[64, 64\]"),
        ({"image": image, "mask": torch.ones(3, 1, SIDE, SIDE)}, "as large as the picture"),
    ]:
        given = {**SHORT, **options}
        if "image" in options and "height" not in options:
            del given["height"], given["width"]
        with pytest.raises(ValueError, match=message):
            final(model.steps("a cat", **given))


def test_texts_and_latents_of_another_kind(model):
    text = model.encode_text("a cat")
    with pytest.raises(ValueError, match="give negative to encode_text"):
        model.steps(text, negative="blurry", **SHORT)
    for latents in (torch.zeros(1, 16, 8, 8), torch.zeros(4, 8, 8)):
        with pytest.raises(ValueError, match=r"Latents are \[B, 4, h, w\]"):
            model.decode(latents)


def test_a_flow_model_has_no_leading_spacing_and_needs_multiples_of_16():
    model = stand_in("sd3", device="cpu")
    with pytest.raises(ValueError, match='no "leading" spacing'):
        model.steps("a cat", spacing="leading", **SHORT)
    with pytest.raises(ValueError, match="multiples of 16"):
        model.prepare(height=72, width=SIDE)


def test_a_network_trained_to_inpaint_needs_a_picture_and_a_mask(image):
    model = stand_in("sd", in_channels=9, device="cpu")
    with pytest.raises(ValueError, match="an image and a mask"):
        model.steps("a cat", **SHORT)
    with pytest.raises(ValueError, match="a mask too"):
        model.prepare(image=image)


def test_stand_ins_that_do_not_exist():
    for family, options, message in [
        ("sdx", {}, "did you mean 'sdxl'"),
        ("sd", {"prediction": "flow"}, "unknown prediction"),
        ("sdxl", {"full_size": True}, "full_size is for sd"),
        ("sdxl", {"t5": True}, "sdxl has none"),
    ]:
        with pytest.raises(ValueError, match=message):
            stand_in(family, device="cpu", **options)


# -- too little memory ------------------------------------------------------------------------------------


def test_out_of_memory_says_what_to_lower_and_frees_what_it_took(model):
    held = []

    def too_large(x, **named):
        activations = torch.zeros(1000)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    small = replace(model, call=too_large)
    steps = small.steps("a cat", seed=[0, 1], **SHORT)
    gc.disable()  # it is not the collector that frees
    try:
        with pytest.raises(NotEnoughMemoryError, match=r"2 images of \(4, 8, 8\) .*slicing=True"):
            next(steps)
        assert held[0]() is None
    finally:
        gc.enable()
    assert list(model.steps("a cat", **SHORT))  # and everything still works


def test_out_of_memory_while_decoding(model):
    def too_large(latents):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    small = replace(model, decode_call=too_large)
    with pytest.raises(OSError, match="decoding"):
        small.decode(torch.zeros(1, 4, 8, 8))


def test_too_little_memory_on_a_cpu_is_answered_too_and_other_errors_are_left_alone():
    with pytest.raises(NotEnoughMemoryError, match="did not suffice for a petabyte"), enough_memory("a petabyte"):
        torch.empty(2**50, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="size of tensor") as caught, enough_memory("adding"):
        torch.zeros(2) + torch.zeros(3)
    assert not isinstance(caught.value, NotEnoughMemoryError)
