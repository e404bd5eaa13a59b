"""The tokenizer: CLIP's own format and behaviour, whole words for the captions, pieces for anything else."""

import json

import pytest
import torch

from diffusion_explained.micro import tokens
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.scenes import COLOURS, POSITIONS, RELATIONS, SceneSampler
from diffusion_explained.micro.tokens import (
    BEGIN,
    END,
    MAX_LENGTH,
    VOCABULARY,
    build_tokenizer,
    byte_characters,
    encode,
    join,
    known_words,
    learn_merges,
    load_tokenizer,
)
from diffusion_explained.micro.words import NUMBERS


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def sample():
    return load_emoji_sample()


def test_a_caption_is_begin_words_end_and_end_again(tokenizer):
    ids = encode(tokenizer, ["a blue cat", ""])
    assert ids.shape == (2, MAX_LENGTH) and ids.dtype == torch.int64
    begin, end = len(tokenizer) - 2, len(tokenizer) - 1
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (begin, end, end)
    assert tokenizer.convert_ids_to_tokens(ids[0, :5].tolist()) == [BEGIN, "a</w>", "blue</w>", "cat</w>", END]
    assert ids[0, 5:].eq(end).all() and ids[1, 0] == begin and ids[1, 1:].eq(end).all()
    assert tokenizer.model_max_length == MAX_LENGTH


def test_the_words_that_compose_scenes_are_whole_tokens(tokenizer):
    phrases = [*COLOURS, *NUMBERS.values(), *POSITIONS, *RELATIONS, "small big little large style background emoji"]
    words = {word for phrase in phrases for word in phrase.split()}
    assert not {word for word in words if len(tokenizer.tokenize(word)) > 1}


def test_most_words_of_captions_are_whole_tokens_and_every_caption_fits(tokenizer, sample):
    captions = SceneSampler(sample, seed=5).batch(range(2000)).captions
    words = [word for caption in captions for word in caption.replace(",", " ,").split()]
    assert sum(len(tokenizer.tokenize(word)) == 1 for word in words) / len(words) > 0.95
    assert encode(tokenizer, captions)[:, -1].eq(tokenizer.eos_token_id).all()
    assert max(len(tokenizer.tokenize(caption)) for caption in captions) < MAX_LENGTH - 2


def test_unknown_words_fall_apart_into_known_pieces_and_come_back(tokenizer):
    for text in ("a zeppelin", "qwrtz", "łódź 7", "猫"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
        assert tokenizer.eos_token_id not in ids[1:-1]  # which is the unknown token too: nothing is unknown
    assert tokenizer.tokenize("A  Blue\tCAT") == tokenizer.tokenize("a blue cat")


def test_a_caption_that_is_too_long_is_cut_and_still_ends(tokenizer):
    ids = encode(tokenizer, ["a cat and " * 40])
    assert ids.shape == (1, MAX_LENGTH) and ids[0, -1] == tokenizer.eos_token_id


def test_encoding_one_string_is_refused(tokenizer):
    with pytest.raises(ValueError, match="captions must be a list, each entry a text; got 'a cat'"):
        encode(tokenizer, "a cat")
    assert encode(tokenizer, []).shape == (0, MAX_LENGTH)


def test_a_tokenizer_built_twice_is_the_same_and_of_clip_s_layout(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "CAPTIONS", 2000)
    for folder in ("one", "two"):
        built = build_tokenizer(sample, tmp_path / folder, vocabulary=900)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    vocabulary = json.loads((tmp_path / "one" / "vocab.json").read_text(encoding="utf-8"))
    merges = (tmp_path / "one" / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert merges[0] == "#version: 0.2" and len(built) == len(vocabulary) == 512 + len(merges) - 1 + 2 == 900
    assert [vocabulary[key] for key in ("!", "!</w>", BEGIN, END)] == [0, 256, 898, 899]  # as in OpenAI's vocabulary
    assert built.tokenize("cat") == ["cat</w>"]


def test_pairs_that_are_as_frequent_are_merged_in_the_order_of_the_alphabet():
    # every pair occurs twice: only a rule decides, and the order of the corpus must not
    corpus = ["ray tray tram ram", "yak kay"]
    merges = learn_merges(corpus, 30)
    assert merges == learn_merges([" ".join(reversed(text.split())) for text in reversed(corpus)], 30)
    assert merges[0] == ("r", "a")  # four times


def test_merges_are_the_most_frequent_pairs_from_the_left():
    assert join(("a", "a", "a", "b</w>"), ("a", "a")) == ("aa", "a", "b</w>")
    assert learn_merges(["low low lower"], 2) == [("l", "o"), ("lo", "w</w>")]
    assert len(learn_merges(["ab"], 50)) == 1  # there is no more to merge


def test_the_shipped_tokenizer_has_the_size_that_is_built():
    assert len(load_tokenizer()) == VOCABULARY


def test_the_byte_characters_are_those_of_transformers():
    assert len(set(byte_characters())) == 256
    clip = load_tokenizer().backend_tokenizer.pre_tokenizer
    assert "".join(word for word, _ in clip.pre_tokenize_str("é")) == "".join(
        sorted(byte_characters(), key=order)[byte] for byte in "é".encode()
    )


def order(character: str) -> int:
    """The byte that a character stands for, by the rule of GPT-2."""
    others = [byte for byte in range(256) if not (33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255)]
    return ord(character) if ord(character) < 256 else others[ord(character) - 256]


def test_a_vocabulary_without_room_and_a_folder_without_files_are_refused(sample, tmp_path):
    with pytest.raises(ValueError, match="514 entries before the first merge"):
        build_tokenizer(sample, tmp_path, vocabulary=514)
    with pytest.raises(FileNotFoundError, match=r"vocab\.json is missing; build_tokenizer"):
        load_tokenizer(tmp_path / "nowhere")


def test_known_words_are_those_of_names_and_keywords(sample):
    words = known_words(sample)
    assert words == sorted(set(words)) and {"cat", "kitten", "rocket", "garden"} <= set(words)
