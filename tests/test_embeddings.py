"""Textual inversion: the tokens that are shown are those that the encoder reads, and the vectors are the file's."""

import pytest
import single_file_layouts as layouts
import torch

from diffusion_explained.stable_diffusion import stand_in
from diffusion_explained.stable_diffusion.text import tokenizers


def embedded(model, ids):
    return model.pipe.text_encoder.get_input_embeddings()(torch.tensor(ids))


@pytest.mark.parametrize("names", ["diffusers", "a1111"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_new_word_is_read_as_the_vectors_of_its_file(tmp_path, names, count):
    model = stand_in("sd")
    vectors = torch.randn(count, 32, generator=torch.Generator().manual_seed(1))
    plain = model.encode_text("a photo of a cat").embeds
    file = layouts.write(tmp_path / "furry.safetensors", {"<furry>" if names == "diffusers" else "emb_params": vectors})
    word = model.load_embedding(file)
    assert word == ("<furry>" if names == "diffusers" else "furry")
    text = model.encode_text(f"a photo of {word} cat", negative=word)
    shown = text.tokens[0][0]
    new = [i for i, piece in enumerate(shown.pieces) if piece.startswith(word)]
    assert [shown.pieces[i] for i in new] == [word, *(f"{word}_{k}" for k in range(1, count))]
    assert torch.equal(embedded(model, [shown.ids[i] for i in new]), vectors)
    assert (word, 1) in shown.words and ("cat", 1) in shown.words
    read = model.pipe.text_encoder(torch.tensor([shown.ids]))[0]
    torch.testing.assert_close(text.embeds, read, rtol=1e-5, atol=1e-6)
    assert text.negative_tokens[0][0].pieces[1 : 1 + count] == tuple(shown.pieces[i] for i in new)
    assert torch.equal(model.encode_text("a photo of a cat").embeds, plain), "other prompts are read as before"


def test_stable_diffusion_xl_pools_at_the_end_of_the_text_and_not_at_the_new_word(tmp_path):
    """With eos_token_id 2 transformers pools at the highest id, which a new word has."""
    model = stand_in("sdxl")
    for encoder in (model.pipe.text_encoder, model.pipe.text_encoder_2):
        encoder.config.eos_token_id = 2
        for module in encoder.modules():
            if hasattr(module, "eos_token_id"):
                module.eos_token_id = 2
    plain = model.encode_text("a photo of a cat")
    file = layouts.write(tmp_path / "furry.safetensors", {"clip_l": torch.randn(2, 32), "clip_g": torch.randn(2, 32)})
    assert model.load_embedding(file, token="<new>") == "<new>"
    again = model.encode_text("a photo of a cat")
    assert torch.equal(again.embeds, plain.embeds) and torch.equal(again.pooled, plain.pooled)
    new = model.encode_text("a <new> cat")
    assert [one.pieces[2:4] for one in new.tokens[0]] == [("<new>", "<new>_1")] * 2
    second, (_, tokenizer, _) = model.pipe.text_encoder_2, tokenizers(model.pipe)[1]
    ids = torch.tensor([new.tokens[0][1].ids])
    states = second(ids, output_hidden_states=True).last_hidden_state
    place = int((ids[0] == tokenizer.eos_token_id).int().argmax())
    torch.testing.assert_close(new.pooled, second.text_projection(states[:, place]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_new_words_are_taken_away_again(tmp_path, family):
    model = stand_in(family)
    two = family == "sdxl"
    encoders = [model.pipe.text_encoder, *([model.pipe.text_encoder_2] if two else [])]
    before = [{name: x.clone() for name, x in one.state_dict().items()} for one in encoders]
    plain = model.encode_text("a <one> two cat")
    tensors = {"clip_l": torch.randn(2, 32), "clip_g": torch.randn(2, 32)} if two else {"emb_params": torch.ones(1, 32)}
    for word in ("<one>", "two"):
        model.load_embedding(layouts.write(tmp_path / f"{word}.safetensors", tensors), token=word)
    assert model.encode_text("a <one> two cat").tokens != plain.tokens
    model.unload_embeddings()
    again = model.encode_text("a <one> two cat")
    assert again.tokens == plain.tokens and torch.equal(again.embeds, plain.embeds)
    for one, weights in zip(encoders, before, strict=True):
        assert all(torch.equal(x, weights[name]) for name, x in one.state_dict().items())
        assert not any(x.requires_grad for x in one.parameters())
    model.unload_embeddings()
    assert model.load_embedding(tmp_path / "two.safetensors") == "two", "and the word is free again"


@pytest.mark.parametrize(
    ("tensors", "token", "said"),
    [
        ({"emb_params": torch.ones(1, 768)}, None, r"vectors of 768 numbers, as Stable Diffusion 1\.x, and .* read 32"),
        ({"clip_l": torch.ones(1, 32), "clip_g": torch.ones(1, 32)}, None, "vectors of 32 and 32 numbers"),
        ({"emb_params": torch.ones(1, 32)}, "cat</w>", "exists already"),
        ({"emb_params": torch.ones(1, 32)}, "two words", "has a space"),
        ({"emb_params": torch.full((1, 32), torch.nan)}, None, "is no textual inversion"),
        ({"emb_params": torch.ones(80, 32)}, None, "has 80 vectors: supported are 1 to 75"),
        ({"a": torch.ones(1, 32), "b": torch.ones(1, 32)}, None, "is no textual inversion: it holds 'a', 'b'"),
    ],
)
def test_what_is_no_new_word_of_the_model_is_refused(tmp_path, tensors, token, said):
    model = stand_in("sd")
    before = len(model.pipe.tokenizer)
    with pytest.raises(ValueError, match=said):
        model.load_embedding(layouts.write(tmp_path / "x.safetensors", tensors), token=token)
    (tmp_path / "x.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(OSError, match=r"x\.safetensors is not a \.safetensors file, or is cut off"):
        model.load_embedding(tmp_path / "x.safetensors")
    assert len(model.pipe.tokenizer) == before
    with pytest.raises(ValueError, match="are read for Stable Diffusion"):
        stand_in("sd3").load_embedding(tmp_path / "x.safetensors")
