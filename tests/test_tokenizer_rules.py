"""Text encoders and tokenizers are configured by their files: what diffusers makes of the files, or a refusal."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from transformers.activations import ACT2FN

from diffusion_explained.micro.retrieval import RetrievalConfig
from diffusion_explained.stable_diffusion import load, save_stand_in
from diffusion_explained.stable_diffusion.configurations import ACTIVATIONS
from diffusion_explained.stable_diffusion.text import Text

PROMPTS = ["A photo of a Cat!", "a red cat of the sea " * 30]
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {family: save_stand_in(home / family, family, t5=family == "sd3") for family in ("sd", "sdxl", "sd3")}


@pytest.fixture
def changed(folders, tmp_path):
    """A copy of a family's folder with other values in one of its files; MISSING takes the key out."""

    def make(family: str, file: str, values: dict[str, Any]) -> Path:
        copy = shutil.copytree(folders[family], tmp_path / "copy", dirs_exist_ok=True)
        path = copy / file
        before = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({k: v for k, v in {**before, **values}.items() if v is not MISSING}))
        return copy

    return make


MISSING = object()


def added(content: str) -> dict[str, Any]:
    """A special token as published files write it."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", "content": content, **flags}


def assert_as_in_diffusers(folder: Path) -> Text:
    model, pipe = load(folder, device="cpu"), diffusers.DiffusionPipeline.from_pretrained(folder)
    got = model.encode_text(PROMPTS)
    more = {"prompt_2": None, "prompt_3": None} if model.family.name == "sd3" else {}
    expected = pipe.encode_prompt(
        prompt=PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False, **more
    )
    torch.testing.assert_close(got.embeds, expected[0], rtol=1e-4, atol=1e-4)
    if got.pooled is not None:
        torch.testing.assert_close(got.pooled, expected[2], rtol=1e-4, atol=1e-4)
    return got


REFUSED = [
    ("sdxl", "text_encoder/config.json", {"hidden_act": "nope"}, "hidden_act to 'nope'; supported is .*quick_gelu"),
    ("sdxl", "text_encoder/config.json", {"max_position_embeddings": 32}, "config.json says .*position_embedding"),
    ("sdxl", "text_encoder/config.json", {"num_attention_heads": 5}, "multiple of the number of attention heads"),
    ("sdxl", "text_encoder_2/config.json", {"eos_token_id": 3}, "text_encoder_2/config.* to 3.*supported is 591.*or 2"),
    ("sd3", "text_encoder/config.json", {"eos_token_id": 3}, "text_encoder/config.* to 3.*supported is 591.* or 2"),
    ("sd3", "text_encoder_3/config.json", {"feed_forward_proj": "gated-nope"}, "to 'gated-nope'; .*after 'gated-'"),
    ("sd3", "text_encoder_3/config.json", {"dense_act_fn": "nope"}, "dense_act_fn to 'nope'; supported"),
    ("sd3", "text_encoder_3/config.json", {"relative_attention_max_distance": 8}, "distance to 8; supported"),
    ("sdxl", f"tokenizer/{CONFIG}", {"model_max_length": 40}, "40 in tokenizer/.* and 77 in tokenizer_2/"),
    ("sd", f"tokenizer/{SPECIAL}", {"eos_token": "!"}, "eos_token to '!'; supported is '<|endoftext|>'"),
    ("sd", f"tokenizer/{SPECIAL}", {"pad_token": None}, "pad_token to null; supported is a piece"),
    ("sd", f"tokenizer/{SPECIAL}", {"bos_token": 3}, "special_tokens_map.json sets bos_token to 3; supported"),
    ("sd", f"tokenizer/{CONFIG}", {"pad_token": "a"}, "pad_token to 'a'; supported is .* words are cut"),
    ("sd", f"tokenizer/{CONFIG}", {"pad_token": "nonsense"}, r"pad_token to 'nonsense'; .*vocabulary \(ids 0 to 591\)"),
    ("sd", f"tokenizer/{CONFIG}", {"bos_token": "!"}, r"bos_token to '!'; supported is '<|startoftext|>'"),
    ("sd", f"tokenizer/{CONFIG}", {"eos_token": None}, "eos_token to null; supported is a text"),
    ("sd", f"tokenizer/{CONFIG}", {"unk_token": ""}, "unk_token to ''; supported is null or a text"),
    ("sd", f"tokenizer/{CONFIG}", {"unk_token": {"content": "!"}}, "unk_token to .*AddedToken"),
    ("sd", f"tokenizer/{CONFIG}", {"padding_side": "left"}, "padding_side to 'left'; supported is 'right'"),
    ("sd", f"tokenizer/{CONFIG}", {"truncation_side": "left"}, "truncation_side to 'left'; supported is 'right'"),
    ("sd3", f"tokenizer_3/{CONFIG}", {"eos_token": "a"}, "eos_token to 'a'; supported is '</s>'"),
    ("sd3", f"tokenizer_3/{CONFIG}", {"model_max_length": "77"}, "model_max_length to '77'; supported is .*number"),
    *(
        ("sd", f"tokenizer/{CONFIG}", {"model_max_length": length}, "model_max_length .* from 3 to 77, the max_pos")
        for length in (78, 2, 0, -1, 77.0, 10**30, 1e30, None, MISSING)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("family", "file", "values", "words"), REFUSED)
def test_what_does_not_fit_is_refused_with_file_key_value_and_what_is_allowed(changed, family, file, values, words):
    pattern = words.replace("<|", re.escape("<|")).replace("|>", re.escape("|>"))
    with pytest.raises(ValueError, match=pattern) as caught:
        load(changed(family, file, values), device="cpu")
    assert Path(file).parent.name in str(caught.value) and len(str(caught.value)) < 900


OBEYED = [
    ("sd", "text_encoder/config.json", {"hidden_act": "gelu"}),
    ("sd", "text_encoder/config.json", {"bos_token_id": 0, "eos_token_id": 3, "pad_token_id": 1}),  # nothing is pooled
    ("sdxl", "text_encoder_2/config.json", {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}),
    ("sd3", "text_encoder_3/config.json", {"feed_forward_proj": "gelu_new", "dense_act_fn": "gelu_new"}),
    ("sd", f"tokenizer/{CONFIG}", {"model_max_length": 40}),
    ("sd", f"tokenizer/{CONFIG}", {"pad_token": "!"}),
    ("sd", f"tokenizer/{SPECIAL}", {"pad_token": {"content": "!"}}),
    ("sd", f"tokenizer/{CONFIG}", {"add_prefix_space": True, "do_lower_case": False, "unknown": [3], "stride": 3}),
    ("sd", f"tokenizer/{CONFIG}", {"tokenizer_class": "CLIPTokenizerFast", "unk_token": None}),
    ("sd3", f"tokenizer_3/{CONFIG}", {"model_max_length": 1000000000000000019884624838656, "legacy": True}),
]


@pytest.mark.parametrize(("family", "file", "values"), OBEYED)
def test_what_is_obeyed_or_harmless_is_as_in_diffusers(changed, family, file, values):
    assert_as_in_diffusers(changed(family, file, values))


def test_the_published_tokenizer_files_are_as_in_diffusers(changed):
    """Stable Diffusion 1.5's and 2.1's files, which contradict each other, and SDXL's second tokenizer's."""
    start, end = added("<|startoftext|>"), added("<|endoftext|>")
    sd15 = {"add_prefix_space": False, "bos_token": start, "do_lower_case": True, "eos_token": end,
            "errors": "replace", "model_max_length": 77, "name_or_path": "openai/clip-vit-large-patch14",
            "pad_token": "<|endoftext|>", "special_tokens_map_file": "./special_tokens_map.json",
            "tokenizer_class": "CLIPTokenizer", "unk_token": end}  # fmt: skip
    special = {"bos_token": start, "eos_token": end, "pad_token": "!", "unk_token": end}
    special = {key: {**value} if isinstance(value, dict) else value for key, value in special.items()}
    for value in special.values():
        if isinstance(value, dict):
            del value["__type"]
    copy = changed("sd", f"tokenizer/{CONFIG}", sd15)
    assert_as_in_diffusers(copy)
    (copy / "tokenizer" / SPECIAL).write_text(json.dumps(special))
    assert_as_in_diffusers(copy)
    shutil.rmtree(copy)
    decoder = {"0": {"content": "!", "special": True}, "590": {"content": "<|startoftext|>", "special": True},
               "591": {"content": "<|endoftext|>", "special": True}}  # fmt: skip
    copy = changed("sdxl", f"tokenizer_2/{CONFIG}", {**sd15, "pad_token": "!", "added_tokens_decoder": decoder})
    assert_as_in_diffusers(copy)


def test_both_clips_of_stable_diffusion_3_read_the_length_of_the_first_tokenizer(changed):
    """As in diffusers; the tokens that are shown are those that are encoded."""
    text = assert_as_in_diffusers(changed("sd3", f"tokenizer_2/{CONFIG}", {"model_max_length": MISSING}))
    assert [len(tokens.ids) for tokens in text.tokens[1]] == [77, 77, 256]


def test_the_activations_are_those_of_transformers():
    """A new version of transformers with a new name is noticed here, before a model has it."""
    assert set(ACT2FN) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "values", [{"dim": "3"}, {"dim": 3.5}, {"length": True}, {"widths": 32}, {"blocks": (0, 1.5)}, {"end": None}]
)
def test_a_retrieval_networks_settings_are_typed(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be"):
        RetrievalConfig(**{"vocab_size": 10, "end": 9, **values})
