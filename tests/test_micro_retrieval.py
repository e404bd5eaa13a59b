"""The retrieval network: its shapes, its loss, what counts as a mistake, and that it learns, and goes on learning."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.micro.emoji import EmojiSet, load_emoji_sample
from diffusion_explained.micro.retrieval import (
    WEIGHTS,
    Retrieval,
    embed_captions,
    embed_pictures,
    load_retrieval,
    rank,
    save_retrieval,
)
from diffusion_explained.micro.retrieval_training import (
    ContrastBatches,
    also_fits,
    contrary,
    contrastive_loss,
    soften,
    train_retrieval,
)
from diffusion_explained.micro.scenes import Scenes, SceneSampler
from diffusion_explained.micro.tokens import MAX_LENGTH, encode, load_tokenizer
from diffusion_explained.models import count_parameters
from diffusion_explained.weight_files import write_weights

SMALL = {"dim": 16, "widths": (8, 16, 16, 16), "blocks": (0, 0, 0, 0), "squeeze": 8, "text_width": 16, "text_layers": 1}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji_sample()


@pytest.fixture
def network(tokenizer) -> Retrieval:
    torch.manual_seed(0)
    return Retrieval(len(tokenizer), tokenizer.eos_token_id, **SMALL).eval()


# The network


def test_the_shipped_size_is_within_two_million_numbers(tokenizer):
    network = Retrieval(len(tokenizer), tokenizer.eos_token_id)
    assert count_parameters(network) <= 2_000_000


def test_pictures_and_captions_meet_on_one_unit_sphere(network, tokenizer):
    pictures = embed_pictures(network, torch.rand(3, 3, 128, 128) * 2 - 1)
    captions = embed_captions(network, ["a cat", "two dogs"], tokenizer)
    assert pictures.shape == (3, 16) and captions.shape == (2, 16)
    assert torch.allclose(torch.cat([pictures, captions]).norm(dim=1), torch.ones(5))


def test_what_follows_the_end_of_a_caption_is_not_read(network, tokenizer):
    tokens = encode(tokenizer, ["a cat"])
    end = int((tokens[0] == tokenizer.eos_token_id).nonzero()[0])
    other = tokens.clone()
    other[0, end + 1 :] = 7
    assert torch.allclose(network.embed_tokens(tokens), network.embed_tokens(other), atol=1e-6)


def test_a_caption_is_read_alone_as_in_a_batch_and_word_order_counts(network, tokenizer):
    captions = ["a cat and a dog", "a dog and a cat", "a small rocket on the left of a red apple"]
    together = embed_captions(network, captions, tokenizer)
    alone = torch.cat([embed_captions(network, [caption], tokenizer) for caption in captions])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-5)


def test_left_and_right_are_told_apart(network):
    picture = torch.ones(1, 3, 128, 128)
    picture[:, :, 40:80, 8:48] = -1
    left, right = embed_pictures(network, picture), embed_pictures(network, picture.flip(-1))
    assert not torch.allclose(left, right, atol=1e-3)


def test_wrong_shapes_are_refused(network):
    with pytest.raises(ValueError, match=r"128, 128.*64"):
        network.embed_images(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=f"{MAX_LENGTH}.*5"):
        network.embed_tokens(torch.zeros(1, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="no caption"):
        embed_captions(network, [])


def test_rank_names_the_best_first_and_their_shares_sum_to_one(network, tokenizer):
    names = ["cat", "dog", "rocket", "red apple"]
    pictures = torch.rand(2, 3, 128, 128) * 2 - 1
    found = rank(network, pictures, names, best=10, tokenizer=tokenizer)
    assert len(found) == 2 and {name for name, _ in found[0]} == set(names)
    for row in found:
        shares = [value for _, value in row]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5)
    cosines = embed_pictures(network, pictures) @ embed_captions(network, names, tokenizer).T
    assert [row[0][0] for row in found] == [names[i] for i in cosines.argmax(dim=1).tolist()]
    assert len(rank(network, pictures, names, best=1, tokenizer=tokenizer)[0]) == 1
    with pytest.raises(ValueError, match="best must be 1 or more"):
        rank(network, pictures, names, best=0, tokenizer=tokenizer)


def test_a_saved_network_is_read_again_and_another_file_is_refused(network, tokenizer, tmp_path):
    save_retrieval(tmp_path / "mine.safetensors", network.half().float(), {"seconds": 3})
    again = load_retrieval(tmp_path / "mine.safetensors")
    assert again.card == {"seconds": 3} and not again.training
    assert torch.equal(embed_captions(again, ["a cat"], tokenizer), embed_captions(network, ["a cat"], tokenizer))
    write_weights(tmp_path / "other.safetensors", torch.nn.Linear(2, 2), {"task": "else"}, {})
    with pytest.raises(ValueError, match=r"other\.safetensors: unknown key of the retrieval network 'task'"):
        load_retrieval(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        load_retrieval(tmp_path / "none.safetensors")


# The loss


def test_the_loss_is_cross_entropy_both_ways():
    x, t = (F.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)), dim=1) for seed in (0, 1))
    nothing, none = torch.zeros(4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    loss = contrastive_loss(x, t, t, nothing, none, torch.tensor(10.0))
    logits = 10 * t @ x.T
    both = [-logits.log_softmax(dim).diagonal().mean() for dim in (0, 1)]
    assert loss == pytest.approx(float(sum(both) / 2))


def test_pairs_that_also_fit_are_no_mistakes():
    x = F.normalize(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    x[1] = x[0]  # two of one caption
    twins = torch.zeros(3, 3, dtype=torch.bool)
    twins[0, 1] = twins[1, 0] = True
    arguments = (x, x, x, torch.zeros(3, dtype=torch.bool))
    with_twins = contrastive_loss(*arguments, twins, torch.tensor(100.0))
    assert float(with_twins) < 1e-3 < 0.2 < float(contrastive_loss(*arguments, twins & False, torch.tensor(100.0)))


def test_a_contrary_that_fits_as_well_costs_its_share():
    x = torch.eye(3, 8)
    none = torch.zeros(3, 3, dtype=torch.bool)
    arguments = (x, x, x)
    without = contrastive_loss(*arguments, torch.zeros(3, dtype=torch.bool), none, torch.tensor(50.0))
    with_it = contrastive_loss(*arguments, torch.ones(3, dtype=torch.bool), none, torch.tensor(50.0))
    assert float(with_it - without) == pytest.approx(np.log(2) / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("caption", "changed"),
    [
        ("a blue cat", {"blue"}),
        ("two dogs", {"two"}),
        ("a cat left of a dog", {"left"}),
        ("a red apple on a green background", {"red", "green"}),
        ("a cat, noto style", {"noto"}),
    ],
)
def test_a_contrary_differs_in_one_word_of_a_kind(caption: str, changed: set[str]):
    for seed in range(20):
        other = contrary(caption, np.random.default_rng(seed))
        before, after = caption.replace(",", "").split(), other.replace(",", "").split()
        differing = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(differing) == 1 and differing[0][0] in changed


def test_a_caption_without_such_a_word_has_no_contrary():
    assert contrary("crying cat", np.random.default_rng(0)) == "crying cat"
    assert contrary("a bored leftover", np.random.default_rng(0)) == "a bored leftover"  # "red", "left" inside words


def test_captions_fit_the_pictures_of_the_same_things_and_of_the_style_that_they_name():
    subject = torch.tensor([0, 0, 1])  # sprites 0 and 1 are one subject in two styles
    scenes = Scenes(
        captions=["cat", "cat, noto style", "a red cat", "dog", "cat and dog", "dog and cat"],
        sprite=torch.tensor([[0, -1], [1, -1], [0, -1], [2, -1], [0, 2], [2, 1]]),
        place=torch.zeros(6, 2, 4),
        colour=torch.tensor([[-1, -1], [-1, -1], [0, -1], [-1, -1], [-1, -1], [-1, -1]]),
        background=torch.ones(6, 3),
    )
    fits = also_fits(scenes, subject)
    assert [(i, j) for i in range(6) for j in range(6) if fits[i, j]] == [(0, 1), (4, 5), (5, 4)]


def test_softening_leaves_the_others_as_they_are():
    x = torch.rand(2, 3, 128, 128)
    soft = soften(x, torch.tensor([True, False]))
    assert torch.equal(soft[1], x[1]) and soft[0].std() < 0.8 * x[0].std()
    assert torch.allclose(soft[0].mean(), x[0].mean(), atol=1e-2)


# The training


def test_batches_are_pure_functions_of_their_number(emoji, tokenizer):
    batches = ContrastBatches(SceneSampler(emoji, "train", 0), 8, tokenizer)
    (first, second), again = list(batches.stream(2, 2)), batches[3]
    for field in ("tokens", "contraries", "has_contrary", "also_fits"):
        assert torch.equal(getattr(second, field), getattr(again, field))
    assert not torch.equal(first.tokens, second.tokens)


def test_no_held_out_picture_is_ever_trained_on(emoji, tokenizer):
    batches = ContrastBatches(SceneSampler(emoji, "train", 0), 256, tokenizer)
    used = torch.cat([batches[n].scenes.sprite.flatten() for n in range(4)])
    assert bool(emoji.held_out.any()) and not bool(emoji.held_out[used[used >= 0]].any())


def train(emoji, tokenizer, out, **options):
    options = {"images": 1280, "batch_size": 32, "learning_rate": 3e-3, "record_every": 10, **options}
    return list(train_retrieval(emoji, tokenizer, "cpu", out=out, network=SMALL, **options))


@pytest.fixture(scope="module")
def few(emoji) -> EmojiSet:
    """Six subjects, all their styles."""
    kept = (emoji.subject < 6).nonzero().flatten()
    tables = {key: getattr(emoji, key)[:6] for key in ("names", "keywords", "groups")}
    tensors = {key: getattr(emoji, key)[kept] for key in ("images", "subject", "style")}
    return dataclasses.replace(emoji, **tables, **tensors)


def test_it_learns_and_its_card_says_what_it_reaches(few, tokenizer, tmp_path):
    records = train(few, tokenizer, tmp_path / "it.safetensors")
    assert records[-1].step == 40 and records[-1].progress == 1 and records[-1].images_seen == 1280
    assert records[-1].loss < 0.9 * records[0].loss
    card = load_retrieval(tmp_path / "it.safetensors").card
    assert card["images_seen"] == 1280 and card["accuracy"]["train"]["among"] == 6
    assert card["accuracy"]["train"]["top1"]["share"] > 1.5 / 6


def test_a_training_that_was_stopped_goes_on_as_if_it_was_not(few, tokenizer, tmp_path):
    whole = train(few, tokenizer, tmp_path / "whole.safetensors", images=192)
    training = train_retrieval(
        few, tokenizer, "cpu", out=tmp_path / "parts.safetensors", network=SMALL, images=192, batch_size=32,
        learning_rate=3e-3, record_every=1, checkpoint_every=2,
    )  # fmt: skip
    while next(training).step < 3:
        pass
    training.close()  # killed after the checkpoint of step 2
    parts = train(few, tokenizer, tmp_path / "parts.safetensors", images=192)
    assert parts[-1].step == whole[-1].step == 6
    both = [load_retrieval(tmp_path / f"{name}.safetensors").state_dict() for name in ("whole", "parts")]
    assert all(torch.equal(tensor, both[1][name]) for name, tensor in both[0].items())


def test_a_training_needs_a_length(few, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="seconds, or images"):
        train(few, tokenizer, tmp_path / "it.safetensors", images=None)


def test_the_command_trains_writes_and_says_how_well_it_reads(tmp_path):
    out = tmp_path / "retrieval.safetensors"
    length = ["--images", "32", "--batch-size", "16"]
    result = CliRunner().invoke(
        app, ["micro", "retrieval", "--sample", "--device", "cpu", *length, "--out", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "held_out: the right name of" in result.output and f"{out}: " in result.output
    assert load_retrieval(out).card["images_seen"] == 32 and out.stat().st_size <= 4_000_000


def test_the_command_refuses_a_file_of_another_kind(tmp_path):
    result = CliRunner().invoke(app, ["micro", "retrieval", "--images", "32", "--out", str(tmp_path / "it.pt")])
    assert result.exit_code == 2 and "is not a .safetensors file" in result.output


# What ships


def test_the_shipped_network_is_small_and_reads_emoji_that_it_never_saw(emoji):
    assert WEIGHTS.stat().st_size <= 4_000_000
    retrieval = load_retrieval()
    accuracy = retrieval.card["accuracy"]
    assert accuracy["held_out"]["top5"]["share"] > 20 * accuracy["held_out"]["chance"]["top5"]
    assert accuracy["train"]["top1"]["share"] >= accuracy["held_out"]["top1"]["share"]
