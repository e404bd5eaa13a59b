"""The list of what micro was shown: it fits the pictures that ship, and a damaged file gets its words."""

import pytest
import torch

from diffusion_explained.data import DamagedDataError
from diffusion_explained.micro.emoji import EmojiSet, load_emoji_sample
from diffusion_explained.micro.subjects import load_subjects, write_subjects


def test_it_names_all_that_ships_as_a_picture_and_much_more():
    subjects, sample = load_subjects(), load_emoji_sample()
    for name, group, keywords in zip(sample.names, sample.groups, sample.keywords, strict=True):
        assert subjects[group][name] == keywords
    assert sum(map(len, subjects.values())) > 1000
    assert all(name.isascii() and name == name.lower() for group in subjects.values() for name in group)


def test_what_is_written_is_read_in_alphabetical_order(tmp_path):
    nothing = torch.zeros(0, dtype=torch.int64)
    emoji = EmojiSet(torch.zeros(0, 4, 128, 128), nothing, nothing, ("dog", "cat"), ((), ("kitty",)), ("pets", "pets"))
    subjects = load_subjects(write_subjects(emoji, tmp_path / "subjects.json"))
    assert subjects == {"pets": {"cat": ("kitty",), "dog": ()}} and list(subjects["pets"]) == ["cat", "dog"]


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"animals": ["cat"]}', '{"animals": {"cat": 7}}'])
def test_a_damaged_list_is_said(tmp_path, content):
    (tmp_path / "subjects.json").write_text(content)
    with pytest.raises(DamagedDataError, match=r"subjects\.json is missing or damaged"):
        load_subjects(tmp_path / "subjects.json")
