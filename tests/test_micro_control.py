"""Micro's ControlNet: the network, its control pictures, its training, and what the shipped weights do."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from diffusion_explained.micro.control import ControlNet, as_diffusers, save_control
from diffusion_explained.micro.control_card import read_control_card, weights_checksum, write_control_card
from diffusion_explained.micro.control_pictures import (
    area,
    control_picture,
    dilated,
    draw_marks,
    edge_f1,
    edges,
    round_areas,
    scribble,
    silhouettes,
    wandered,
)
from diffusion_explained.micro.emoji import load_emoji_sample
from diffusion_explained.micro.fidelity import halves
from diffusion_explained.micro.random_choices import RandomChoices
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval
from diffusion_explained.micro.scenes import Scene, SceneSampler, Sprite, batch_scenes, draw_scenes
from diffusion_explained.micro.text_to_image_training import TextToImageConfig
from diffusion_explained.noise import numpy_stream
from diffusion_explained.stable_diffusion import load, load_control, stand_in
from diffusion_explained.stable_diffusion.control_loading import CONTROL_FOLDER
from diffusion_explained.stable_diffusion.weights import MICRO_FOLDER

ROOT = Path(__file__).parents[1]
STEM = (8, 8, 8, 8)


@pytest.fixture(scope="module")
def emoji():
    return load_emoji_sample()


@pytest.fixture(scope="module")
def unet():
    return stand_in(device="cpu").network


def inputs(unet, count: int = 2):
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(count, 4, 8, 8, generator=g), torch.tensor([300.0, 700.0])[:count],
        torch.randn(count, 5, unet.config.cross_attention_dim, generator=g),
        torch.rand(count, 3, 64, 64, generator=g),
    )  # fmt: skip


# -- the network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_middle", [True, False])
def test_the_network_computes_what_diffusers_controlnet_computes(unet, whole_middle, tmp_path):
    network = ControlNet(unet, STEM, whole_middle=whole_middle).eval()
    for zero in (
        *network.controlnet_down_blocks,
        network.controlnet_mid_block,
        network.controlnet_cond_embedding.conv_out,
    ):
        nn.init.normal_(zero.weight, std=0.1)
    x, t, embeds, picture = inputs(unet)
    with torch.no_grad():
        skips, middle = network(x, t, embeds, picture)
        theirs, their_middle = as_diffusers(network)(x, t, embeds, picture, return_dict=False)
    for own, other in zip([*skips, middle], [*theirs, their_middle], strict=True):
        torch.testing.assert_close(own, other)
    loaded = load_control(stand_in(device="cpu"), save_control(tmp_path / "saved", network)).controls[0].network
    stored = loaded.state_dict()
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(stored[name], weight.half().float())


def test_a_new_network_adds_nothing_and_its_zero_convolutions_open_first(unet):
    network = ControlNet(unet, STEM)
    before = {name: weight.clone() for name, weight in unet.state_dict().items()}
    x, t, embeds, picture = inputs(unet)
    skips, middle = network(x, t, embeds, picture)
    assert not middle.any() and not any(skip.any() for skip in skips) and set(network.openings().values()) == {0}
    controlled = unet(
        x, t, embeds, down_block_additional_residuals=tuple(skips), mid_block_additional_residual=middle
    ).sample
    assert torch.equal(controlled, unet(x, t, embeds).sample)
    controlled.square().mean().backward()
    moved = {name for name, weight in network.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert moved and all(name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) for name in moved)
    assert all(torch.equal(before[name], weight) for name, weight in unet.state_dict().items())  # the U-Net is frozen


def test_only_a_network_of_this_package_is_saved(tmp_path):
    with pytest.raises(ValueError, match="must be a ControlNet of this package; got a Linear"):
        save_control(tmp_path, nn.Linear(1, 1))


# -- the pictures -----------------------------------------------------------------------------------------------


def test_the_edges_of_a_square_lie_on_its_border_and_are_thin():
    image = -torch.ones(1, 3, 64, 64)
    image[:, 0, 20:44, 20:44] = 1.0  # red on black
    found = edges(image)[0]
    border = torch.zeros(64, 64, dtype=torch.bool)
    border[19:45, 19:45] = True
    border[21:43, 21:43] = False
    assert found.any() and not (found & ~border).any()
    assert 80 < int(found.sum()) < 110  # the square's circumference is 96 pixels: no double lines
    assert not edges(torch.full((1, 3, 64, 64), 0.3)).any()
    faint = image.clone()
    faint[image > 0] = -0.9  # a twentieth of black to white: below the lower threshold
    assert not edges(faint).any()


def test_f1_counts_within_one_pixel():
    line = torch.zeros(1, 16, 16, dtype=torch.bool)
    line[:, 8] = True
    assert edge_f1(line, line).item() == pytest.approx(1)
    assert edge_f1(line.roll(1, 1), line).item() == pytest.approx(1)
    assert edge_f1(line.roll(2, 1), line).item() == 0
    half = line.clone()
    half[:, :, 8:] = False
    assert edge_f1(half, line).item() == pytest.approx(2 * 9 / 16 / (1 + 9 / 16))  # precision 1, recall 9 of 16
    assert edge_f1(torch.zeros_like(line), line).item() == 0


def scene(*sprites, caption="x"):
    return batch_scenes([Scene(caption, tuple(sprites))])


def test_a_layout_is_red_where_the_first_thing_is_and_blue_where_the_second_is(emoji):
    scenes = scene(Sprite(0, 0.5, 0, 0.5), Sprite(9, -0.5, 0, 0.5))  # the first one is on the right
    x = draw_scenes(scenes, emoji.images)
    picture = control_picture(draw_marks(scenes, emoji.images, x), "layout")
    red, green, blue = picture[0] > 0
    assert red[:, 64:].sum() == red.sum() > 500 and blue[:, :64].sum() == blue.sum() > 500 and not green.any()
    lines = control_picture(draw_marks(scenes, emoji.images, x), "edges")
    assert torch.equal(lines[0, 0] > 0, edges(x)[0]) and torch.equal(lines[:, 0], lines[:, 2])
    both = scene(Sprite(0, 0.5, 0, 0.5), Sprite(0, -0.5, 0, 0.5))
    first, second = silhouettes(both, emoji.images)
    assert first[0, :, :64].any() and first[0, :, 64:].any() and not second.any()  # two of a kind are one thing
    with pytest.raises(ValueError, match="kind of control picture"):
        control_picture(draw_marks(scenes, emoji.images, x), "depth")


def test_round_areas_are_red_and_then_blue():
    both = round_areas(((-0.5, 0.0, 0.5), (0.25, 0.0, 0.5)))
    assert both.shape == (1, 3, 128, 128) and both[0, 0, 64, 32] == 1 and both[0, 2, 64, 80] == 1
    assert both[0, :, 64, 60].tolist() == [0, 0, 1]  # where both are, the second lies over the first
    assert 0.97 < float(round_areas(((0.0, 0.0, 0.5),))[0, 0].sum()) / (3.14159 * 32**2) < 1.03
    assert not round_areas(()).any()
    with pytest.raises(ValueError, match="at most two areas"):
        round_areas(((0.0, 0.0, 0.5),) * 3)


def test_a_scribble_follows_the_outline_roughly_and_an_area_covers_the_box(emoji):
    first, _ = silhouettes(scene(Sprite(0, 0, 0, 0.8)), emoji.images)
    drawn = scribble(first, 3)
    outline = dilated(first) & dilated(~first)
    assert drawn.any() and not (drawn & ~dilated(outline, 10)).any()
    assert torch.equal(drawn, scribble(first, 3)) and not torch.equal(drawn, scribble(first, 4))
    whole = area(first, 0)
    assert whole[0, 64, 64] and 0.6 < whole.sum() / first.sum() < 1.7
    assert not area(torch.zeros_like(first)).any()


def test_only_single_things_in_the_middle_wander():
    scenes = batch_scenes([
        Scene("a cat", (Sprite(0),)), Scene("two", (Sprite(0, -0.5), Sprite(1, 0.5))),
        Scene("left", (Sprite(0, -0.5),)),
    ])  # fmt: skip
    moved = wandered(scenes, 1.0)
    assert torch.equal(moved.place[1:], scenes.place[1:]) and not torch.equal(moved.place[0], scenes.place[0])
    assert torch.equal(wandered(scenes, 0.0).place, scenes.place) and moved.captions == scenes.captions


# -- the training -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("micro_control_recipe", ROOT / "recipes" / "micro_control.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_interrupted_training_resumes_to_the_same_weights_and_its_card_tells_the_opening(recipe, emoji, tmp_path):
    config = TextToImageConfig(batch_size=2, images=8, learning_rate=1e-3, label_dropout=0.3, seed=1)
    model = load("micro", device="cpu")

    def training(checkpoints):
        return recipe.prepare(model, len(emoji.names), config, checkpoints)

    scenes = recipe.make_scenes(model.pipe.vae, model.pipe.tokenizer, emoji, 1, batch_size=4)
    assert len(scenes) == 4 and all((scenes.marks & bit).any() for bit in (1, 2, 4))
    empty = torch.zeros_like(scenes.tokens[0]).long()
    options = {"record_every": 1, "checkpoint_every": 1}
    whole = training(None)
    records = list(recipe.train(whole, scenes, empty, **options))
    cut, folder = training(tmp_path / "c"), tmp_path / "c"
    list(itertools.islice(recipe.train(cut, scenes, empty, folder, **options), 2))
    again = training(folder)
    assert again.state.step == 2
    rest = list(recipe.train(again, scenes, empty, folder, **options))
    assert [record.loss for record in rest] == [record.loss for record in records[2:]]
    for one, other in zip(whole.state.ema.parameters(), again.state.ema.parameters(), strict=True):
        assert torch.equal(one, other)
    openings = [{"step": 0}, {"step": 4, **again.state.network.control.openings()}]
    recipe.keep_openings(folder, openings)
    assert recipe.kept_openings(folder, 3) == openings[:1] and openings[1]["middle"] > 0
    out = recipe.save(tmp_path / "out", again, "micro", len(scenes), rest[-1], openings)
    assert read_control_card(out)["openings"][1]["step"] == 4
    assert load_control(model, out).controls[0].network.config.mid_block_type == "UNetMidBlock2D"
    further = recipe.prepare(model, len(emoji.names), config, start=out)
    for name, weight in again.state.ema.control.state_dict().items():
        torch.testing.assert_close(further.state.network.control.state_dict()[name], weight.half().float())
    assert recipe.openings_before(further, out) == read_control_card(out)["openings"]
    recipe.save(tmp_path / "more", further, "micro", len(scenes), rest[-1], openings, out)
    assert read_control_card(tmp_path / "more")["continued_from"]["weights"] == weights_checksum(out)
    assert "and then on" in (tmp_path / "more" / "README.md").read_text()
    assert "and then on" not in (out / "README.md").read_text()


def test_the_scenes_of_pairs_are_two_things_at_any_places_in_the_picture(emoji):
    sampler = SceneSampler(emoji, mix="pairs")
    scenes = [sampler.pair(RandomChoices(numpy_stream(0, i))) for i in range(200)]
    first = torch.tensor([scene.sprites[0][1:4] for scene in scenes])
    second = torch.tensor([scene.sprites[1][1:4] for scene in scenes])
    for sprites in (first, second):
        assert (sprites[:, :2].abs() + sprites[:, 2:] <= 1 + 1e-6).all()  # wholly inside
    apart = (first[:, :2] - second[:, :2]).abs() - first[:, 2:] - second[:, 2:]
    assert (apart.amax(1) >= -1e-6).all()  # beside or above each other
    left, above = ((first[:, axis] < second[:, axis]).float().mean() for axis in (0, 1))
    assert 0.35 < left < 0.65 and 0.35 < above < 0.65
    assert all(" and " in scene.caption for scene in scenes)


def test_the_second_loss_names_what_the_caption_says_first_and_second(recipe, emoji):
    scenes = batch_scenes([
        Scene("a", (Sprite(7),)), Scene("two", (Sprite(7, -0.5), Sprite(7, 0.5))),
        Scene("b and c", (Sprite(9, 0.5), Sprite(30, -0.5))),
    ])  # fmt: skip
    subject = emoji.subject
    asked = [[subject[7], -1], [subject[7], -1], [subject[9], subject[30]]]
    assert recipe.first_and_second(scenes, subject).tolist() == [[int(a), int(b)] for a, b in asked]
    reader, h = recipe.AreaReader(4, 11), torch.randn(2, 4, 8, 8)
    picture = round_areas(((-0.5, 0.0, 0.3), (0.5, 0.0, 0.3))).expand(2, -1, -1, -1)
    logits = reader(h, picture)
    changed = h.clone()
    changed[..., 4:] += 1  # in the blue half
    assert torch.equal(reader(changed, picture)[:, 0], logits[:, 0])
    assert not torch.allclose(reader(changed, picture)[:, 1], logits[:, 1])
    assert torch.equal(reader(changed, 0 * picture), torch.zeros(2, 2, 11))  # no area, nothing to read


# -- the shipped weights ----------------------------------------------------------------------------------------


def test_the_shipped_weights_belong_to_the_shipped_u_net_and_are_small(tmp_path):
    card = read_control_card(CONTROL_FOLDER)
    assert card["base_weights"] == weights_checksum(MICRO_FOLDER / "unet"), "train recipes/micro_control.py again"
    assert sum(file.stat().st_size for file in CONTROL_FOLDER.iterdir()) < 6.5e6
    assert card["openings"][0]["middle"] == 0 < card["openings"][-1]["middle"]
    write_control_card(tmp_path, card)  # the files beside the weights are what the card writes
    for name in ("README.md", "control.json"):
        assert (tmp_path / name).read_text() == (CONTROL_FOLDER / name).read_text()
    (tmp_path / "control.json").write_text("[]")
    with pytest.raises(OSError, match="is damaged"):
        read_control_card(tmp_path)


def test_the_shipped_network_draws_the_edges_that_are_asked_for(emoji):
    """Where a thing is, how large and how tilted, its caption does not say; in 6 steps. Chance is 0.13."""
    model, subjects = load_control(load("micro", device="cpu"), "micro"), (3, 12)
    pictures = [int((emoji.subject == subject).nonzero()[0]) for subject in subjects]
    places = ((-0.3, 0.2, 0.6, 0.3), (0.2, -0.2, 0.7, -0.3))
    captions = [emoji.names[subject] for subject in subjects]
    scenes = batch_scenes([
        Scene(caption, (Sprite(picture, *place),))
        for caption, picture, place in zip(captions, pictures, places, strict=True)
    ])  # fmt: skip
    x = draw_scenes(scenes, emoji.images)
    control = control_picture(draw_marks(scenes, emoji.images, x), "edges")
    drawn = model.sample(captions, control=control, seed=[0, 1], num_inference_steps=6)
    assert edge_f1(edges(drawn), edges(x)).mean() > 0.65


def test_the_shipped_network_puts_two_things_where_a_layout_says():
    """The caption leaves the sides open; the colours of the areas say which of the two is where."""
    model, retrieval = load_control(load("micro", device="cpu"), "micro"), load_retrieval(device="cpu")
    left, right = (-0.5, 0.0, 0.48), (0.5, 0.0, 0.48)
    control = torch.cat([round_areas((left, right)), round_areas((right, left))])
    names = ("rocket", "pear")
    drawn = model.sample(["a rocket and a pear"] * 2, control=control, seed=[0, 0], num_inference_steps=8)
    first, second = embed_captions(retrieval, names)
    of_left, of_right = ((embed_pictures(retrieval, half) @ (first - second)).tolist() for half in halves(drawn))
    assert of_left[0] > 0 > of_right[0] and of_left[1] < 0 < of_right[1]
