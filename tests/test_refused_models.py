"""Models that are refused: said by the name that people know, and by the key of a file that is wrong."""

import json
import time

import pytest

from diffusion_explained.stable_diffusion import find_weights, stand_in
from diffusion_explained.stable_diffusion.configurations import check_part
from diffusion_explained.stable_diffusion.families import FAMILIES, OTHER_MODELS, family_of_pipeline
from diffusion_explained.stable_diffusion.listing import NEEDED, listing_of
from diffusion_explained.stable_diffusion.loading import of_pipeline


@pytest.mark.parametrize(
    ("class_name", "known_as"),
    [
        ("FluxControlPipeline", "FLUX.1"),
        ("FluxKontextPipeline", "FLUX.1 Kontext"),
        ("Flux2Pipeline", "FLUX.2"),
        ("ZImageImg2ImgPipeline", "Z-Image"),
        ("QwenImageEditPipeline", "Qwen-Image-Edit"),
        ("PixArtAlphaPipeline", "PixArt-alpha"),
        ("SanaSprintPipeline", "SANA-Sprint"),
        ("KolorsImg2ImgPipeline", "Kolors"),
        ("WanPipeline", "Wan"),
        ("StableVideoDiffusionPipeline", "Stable Video Diffusion"),
        ("StableDiffusionXLControlNetPipeline", "ControlNet for Stable Diffusion XL"),
        ("SomebodysPipeline", "'SomebodysPipeline'"),
    ],
)
def test_a_model_is_said_by_the_name_that_people_know(class_name, known_as):
    with pytest.raises(ValueError, match="not supported") as raised:
        family_of_pipeline(class_name)
    assert str(raised.value).startswith(f"This model is {known_as}, which is not supported; supported are Stable")
    assert class_name == "SomebodysPipeline" or class_name not in str(raised.value)


@pytest.mark.parametrize("begin", OTHER_MODELS)
def test_each_refused_folder_is_refused_at_once_by_its_models_name(tmp_path, begin):
    """Its index is all that is there, and all that is read; it has less than 2 kB."""
    index = {"_class_name": f"{begin}PriorPipeline", "scheduler": ["diffusers", "X"], "vae": ["diffusers", "Y"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    started = time.process_time()
    with pytest.raises(ValueError, match=r"not supported; supported are Stable Diffusion .* Give the name") as raised:
        find_weights(tmp_path)
    assert str(raised.value).startswith(f"This model is {OTHER_MODELS[begin]},")
    assert time.process_time() - started < 1


def index_of(family: str, **parts: list[str]) -> dict[str, object]:
    """A model_index.json with the parts that a family needs."""
    named = {part: ["transformers", "Some"] for part in NEEDED[family]}
    return {"_class_name": FAMILIES[family].pipelines[0], **named, **parts}


def test_a_t5_without_its_tokenizer_is_refused_unless_it_is_left_out():
    index = index_of("sd3", text_encoder_3=["transformers", "T5EncoderModel"])
    with pytest.raises(ValueError, match=r"lists a text_encoder_3 and no tokenizer_3.*leave T5 out \(t5=False\)"):
        listing_of(index, "somewhere")
    assert "text_encoder_3" not in listing_of(index, "somewhere", t5=False).classes
    whole = {**index, "tokenizer_3": ["transformers", "T5Tokenizer"]}
    assert "text_encoder_3" in listing_of(whole, "somewhere").classes


def test_a_second_text_encoder_has_no_place_in_stable_diffusion_1():
    with pytest.raises(ValueError, match="has a part that is not supported: text_encoder_2"):
        listing_of(index_of("sd", text_encoder_2=["transformers", "CLIPTextModel"]), "somewhere")


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["float99", "nn", 16, ["float16"], "torch.float16", ""])
def test_a_dtype_that_torch_lacks_is_said_by_its_key(key, value):
    family = FAMILIES["sd"]
    parts = {
        "text_encoder": ("CLIPTextModel", {key: value}),
        "safety_checker": ("StableDiffusionSafetyChecker", {key: value}),
        "the safety checker's inner one": ("StableDiffusionSafetyChecker", {"vision_config": {key: value}}),
        "the text encoder's inner one": ("CLIPTextModel", {"text_config": {key: value}}),
    }
    for part, (name, config) in parts.items():
        with pytest.raises(ValueError, match=rf"sets {key} to .*; supported is null or 'float32' or 'float16'"):
            check_part(part, name, config, family)
    check_part("text_encoder", "CLIPTextModel", {key: "bfloat16"}, family)
    check_part("text_encoder", "CLIPTextModel", {key: None}, family)


@pytest.fixture(scope="module")
def model():
    return stand_in(device="cpu")


def test_a_pipeline_of_ones_own_keeps_the_rules_for_tokenizers(model, monkeypatch):
    family, tokenizer = FAMILIES["sd"], model.pipe.tokenizer
    assert of_pipeline(model.pipe, family, "mine", "live").label == "live"
    monkeypatch.setattr(tokenizer, "model_max_length", 10**30)
    with pytest.raises(ValueError, match="mine: tokenizer pads texts to 1000"):
        of_pipeline(model.pipe, family, "mine", "live")
    monkeypatch.undo()
    monkeypatch.setattr(type(tokenizer), "get_vocab", lambda self: {"a": 0, "b": 1, "c": 10**6})
    with pytest.raises(ValueError, match=r"tokenizer of mine.*"):
        of_pipeline(model.pipe, family, "mine", "live")


def test_what_is_no_pipeline_of_the_family_is_refused(model):
    for pipe, family in ((None, "sd"), (model.pipe.unet, "sd"), (model.pipe, "sd3")):
        with pytest.raises(ValueError, match="pipe must be a pipeline of diffusers for Stable Diffusion"):
            of_pipeline(pipe, FAMILIES[family], "mine", "live")
