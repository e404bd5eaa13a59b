"""Micro's LoRAs: B = 0 changes nothing, the file is the change, a training resumes to the bit, and what is refused."""

import io
import json
import re
from pathlib import Path

import pytest
import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.micro import lora as training
from diffusion_explained.micro import lora_pictures
from diffusion_explained.micro.lora import LoRA, LoRAConfig, change_sizes, save_lora, train_lora, with_changes
from diffusion_explained.micro.lora_pictures import (
    caption_with,
    check_name,
    draw_prior,
    encode_pictures,
    find_pictures,
    read_pictures,
    subject_of,
)
from diffusion_explained.micro.made_styles import LORA_FOLDER, MADE, ink, lora_of, made_pictures, mosaic
from diffusion_explained.stable_diffusion import load, stand_in
from diffusion_explained.stable_diffusion.lora import FILE
from diffusion_explained.training.checkpoints import checkpoint_files

SHORT = LoRAConfig(images=8, batch_size=2, warmup_steps=1, precision="float32", seed=3)  # four steps


@pytest.fixture(scope="module")
def model():
    return load("micro", "cpu")


@pytest.fixture(scope="module")
def pictures(model):
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 128, 128, generator=draw) * 2 - 1
    return encode_pictures(model, images, ["cat, zorb style", "dog, zorb style", "zorb style"])


def moved(model, **options) -> LoRA:
    """A LoRA of large random factors that fp16 represents."""
    lora, draw = LoRA(model, **options), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for x in lora.parameters():
            x.copy_((0.2 * torch.randn(x.shape, generator=draw)).half())
    return lora


def weights(model) -> torch.Tensor:
    parts = (model.pipe.unet, model.pipe.text_encoder)
    return torch.cat([p.detach().flatten() for part in parts for p in part.parameters()])


def evaluated(network, pictures) -> torch.Tensor:
    x_t = pictures.latents.float()
    with torch.no_grad():
        return network(x_t, torch.full((len(x_t),), 500.0), pictures.tokens.long())


def test_before_the_first_step_the_model_is_the_base_to_the_bit(model, pictures):
    lora = LoRA(model, text_encoder=True)
    base = training.TextToImage(model.pipe.text_encoder, model.pipe.unet)
    assert len(lora.names) == 7 * 8 + 4 * 4 and sum(change.up.abs().sum() for change in lora.changes) == 0
    assert torch.equal(evaluated(with_changes(model, lora), pictures), evaluated(base, pictures))
    into = [change.down.shape[1] for change in lora.changes]
    assert 0.9 < torch.stack([c.down.var() * n for c, n in zip(lora.changes, into, strict=True)]).mean() < 1.1


def test_the_file_is_the_change_beside_the_weights(model, pictures, tmp_path):
    """W x + (alpha / r) B A x of the training is what a loaded LoRA computes; unloaded, the weights are the base's."""
    before = weights(model)
    lora = moved(model, rank=3, alpha=1.5, text_encoder=True)
    beside = evaluated(with_changes(model, lora), pictures)
    file = save_lora(tmp_path / "zorb", lora, model, {"captions": ["zorb style"]})
    assert torch.equal(weights(model), before)
    assert model.load_lora(tmp_path / "zorb") == "zorb"  # named after its folder
    base = training.TextToImage(model.pipe.text_encoder, model.pipe.unet)
    torch.testing.assert_close(evaluated(base, pictures), beside, rtol=1e-3, atol=1e-3)
    model.load_lora(file, scale=0.5, name="again")  # the identity of the base is known while LoRAs are loaded
    assert model.loras == {"zorb": 1.0, "again": 0.5}
    with pytest.raises(ValueError, match=r"has LoRAs loaded \(zorb, again\): call unload_lora"):
        next(train_lora(lora, model, pictures, SHORT))
    model.unload_lora()
    assert torch.equal(weights(model), before)
    assert (evaluated(base, pictures) - beside).abs().max() > 1e-2


def test_at_the_first_step_b_learns_and_a_does_not():
    """dL/dB = factor * sum g (A x)^T; dL/dA = factor * sum B^T g x^T, which is zero while B is."""
    layer, x, g = torch.nn.Linear(6, 5), torch.randn(7, 6), torch.randn(7, 5)
    change = training.LowRank(layer, 3, 0.5, torch.Generator().manual_seed(0))
    for closed in (True, False):
        A, B = change.down.detach(), change.up.detach()
        of_a, of_b = torch.autograd.grad((change(x) * g).sum(), (change.down, change.up))
        torch.testing.assert_close(of_a, 0.5 * B.T @ g.T @ x)
        torch.testing.assert_close(of_b, 0.5 * g.T @ (x @ A.T))
        assert bool((of_a == 0).all()) is closed and bool((of_b != 0).any())
        with torch.no_grad():
            change.up += of_b


def test_diffusers_and_comfyui_find_every_layer(model, tmp_path):
    """Beside our own reader: diffusers' conversion to peft, and the names that ComfyUI's comfy/lora.py looks for."""
    lora = LoRA(model, rank=8, text_encoder=True)
    file = save_lora(tmp_path, lora, model)
    assert file.name == FILE == "pytorch_lora_weights.safetensors" and file.stat().st_size < 500_000
    tensors = load_file(file)
    parts = {part: {k: x for k, x in tensors.items() if k.startswith(part)} for part in ("unet.", "text_encoder.")}
    peft = convert_unet_state_dict_to_peft(parts["unet."]) | convert_state_dict_to_peft(parts["text_encoder."])
    layers = {f"unet.{name}": layer for name, layer in model.pipe.unet.named_modules()}
    for name, layer in model.pipe.text_encoder.named_modules():
        layers[f"text_encoder.text_model.{name.removeprefix('text_model.')}"] = layer
    found = {name.rsplit(".lora_", 1)[0] for name in peft}
    assert len(found) == len(lora.names) and found <= layers.keys() and len(peft) == len(tensors)
    for name in found:
        out, into = layers[name].weight.shape
        assert peft[f"{name}.lora_A.weight"].shape == (8, into) and peft[f"{name}.lora_B.weight"].shape == (out, 8)
        comfy = re.sub(r"\.to_out\.0$", ".to_out", name).replace(".to_", ".processor.to_")
        comfy += "_lora" if name.startswith("unet.") else ".lora_linear_layer"
        assert {f"{comfy}.up.weight", f"{comfy}.down.weight"} <= tensors.keys()
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata()["ss_base_model_version"].startswith("Micro Stable Diffusion, weights ")


def test_training_is_the_same_after_a_stop_and_leaves_the_model(model, pictures, tmp_path):
    before = weights(model)
    whole, stopped = LoRA(model, 2), LoRA(model, 2)
    last = list(train_lora(whole, model, pictures, SHORT, record_every=1))[-1]
    assert last.step == 4 and all(change.up.abs().max() > 0 for change in whole.changes)
    place = {"checkpoints": tmp_path, "checkpoint_every": 2, "record_every": 1}
    run = train_lora(stopped, model, pictures, SHORT, **place)
    for record in run:
        if record.step == 3:
            run.close()  # the checkpoint is of step 2
    again = LoRA(model, 2, seed=9)
    assert [record.step for record in train_lora(again, model, pictures, SHORT, **place)] == [3, 4]
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(weights(model), before)
    with pytest.raises(ValueError, match=r"another training: .*lora.rank is 2 there and 3 here"):
        next(train_lora(LoRA(model, 3), model, pictures, SHORT, **place))
    assert checkpoint_files(tmp_path)


def test_a_training_fits_its_pictures(model, pictures):
    """Beside a change that is trained, the loss on the same noise falls; without training it stays."""
    lora, config = LoRA(model, 4), LoRAConfig(images=24, batch_size=3, learning_rate=1e-2, warmup_steps=1)
    losses = [record.loss for record in train_lora(lora, model, pictures, config, record_every=2)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_prior_is_a_second_loss_with_its_own_weight(model, pictures, monkeypatch):
    others, seen = draw_prior(model, 1, seed=5), []
    assert torch.equal(others.latents, draw_prior(model, 1, seed=5).latents)
    whole = training.training_loss

    def loss(*arguments):
        seen.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(training, "training_loss", loss)
    config = LoRAConfig(images=2, batch_size=2, prior=0.25)
    list(train_lora(LoRA(model, 1), model, pictures, config, prior=others))
    _, kind, x_0, _, _, _, _, tokens, root = seen[0]
    assert kind == "flow" and x_0.shape[0] == 4 and root.tolist() == [1, 1, 0.5, 0.5]
    assert torch.equal(x_0[2:], others.latents[[0, 0]].float()) and torch.equal(tokens[3], others.tokens[0].long())
    for given in ({"prior": others}, {}):
        wrong = LoRAConfig(images=2, batch_size=2, prior=0 if given else 1)
        with pytest.raises(ValueError, match="together, or neither"):
            next(train_lora(LoRA(model, 1), model, pictures, wrong, **given))


def test_another_base_is_refused_and_both_are_named(model, tmp_path):
    file = save_lora(tmp_path, LoRA(model, 1), model)
    with pytest.raises(ValueError, match=r"LoRA for 'Micro Stable Diffusion, weights \w+', and this model is Stable D"):
        stand_in("sd").load_lora(file)
    with pytest.raises(ValueError, match=r"is Stable Diffusion 1\.x or 2\.x; a LoRA is trained here for micro only"):
        LoRA(stand_in("sd"))
    weight = model.pipe.unet.conv_in.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1  # another training of the same network
        try:
            with pytest.raises(ValueError, match=r"weights \w+', and this model is Micro .* its U-Net's weights are"):
                model.load_lora(file)
        finally:
            weight.copy_(kept)
    with pytest.raises(ValueError, match="scale must be a number from -100 to 100; got nan"):
        model.load_lora(file, scale=float("nan"))
    with pytest.raises(ValueError, match="rank must be a whole number, from 1 to 64; got 0"):
        LoRA(model, 0)
    broken = LoRA(model, 1)
    with torch.no_grad():
        broken.changes[0].up.fill_(1e9)
    with pytest.raises(ValueError, match="too large for fp16"):
        save_lora(tmp_path, broken, model)


# -- pictures and captions ------------------------------------------------------------------------------------


def png(size, colour, mode="RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_of_any_size_are_padded_with_the_colour_of_their_edge():
    wide = Image.new("RGB", (300, 100), "yellow")
    wide.paste("blue", (100, 25, 200, 75))
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    clear = png((64, 64), (0, 0, 0, 0), "RGBA")
    images = read_pictures([buffer.getvalue(), clear])
    assert images.shape == (2, 3, 128, 128) and images.dtype == torch.float32
    yellow, blue = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0])
    assert torch.equal(images[0, :, 0, 64], yellow) and torch.equal(images[0, :, 64, 64], blue)
    assert bool((images[1] == 1).all())  # transparent parts are white


def test_broken_pictures_are_named_together(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(png((20, 20), "red"))
    (tmp_path / "2.png").write_bytes(png((20, 20), "red")[:40])
    (tmp_path / "4.png").write_text("a cat")
    with pytest.raises(ValueError, match=r"2 of the 5 pictures\. 2\.png: .* 4\.png: The file is a text"):
        read_pictures(find_pictures([tmp_path]))
    with pytest.raises(ValueError, match="from 1 to 100 pictures, best 5 to 20; got 0"):
        read_pictures([])
    with pytest.raises(FileNotFoundError, match="There is no picture"):
        find_pictures([tmp_path / "no.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        find_pictures([tmp_path / "empty"])


def test_captions(model):
    assert subject_of("fire_truck-2.png") == "fire truck" and caption_with("zorb", "cat") == "cat, zorb style"
    assert caption_with("zorb") == "zorb style" and caption_with("ogg", thing=True) == "an ogg"
    with pytest.raises(ValueError, match=r"12\.png does not say what it shows"):
        subject_of("12.png")
    assert check_name("Zorb-2") == "zorb-2"
    for name in ("", "a, b", "ä", "x" * 31, "-a"):
        with pytest.raises(ValueError, match="name must be 1 to 30 English letters"):
            check_name(name)
    with pytest.raises(ValueError, match="got 1 captions for 2 pictures"):
        encode_pictures(model, torch.zeros(2, 3, 128, 128), ["one"])
    with pytest.raises(ValueError, match="has more than 32 tokens"):
        encode_pictures(model, torch.zeros(1, 3, 128, 128), ["cat " * 40])


# -- the command ----------------------------------------------------------------------------------------------


def test_the_command_teaches_a_style_and_resumes(tmp_path, monkeypatch):
    drawn: list[int] = []
    few = lora_pictures.draw_prior
    monkeypatch.setattr(lora_pictures, "draw_prior", lambda model, seed: drawn.append(seed) or few(model, 1, seed))
    folder, out = tmp_path / "drawings", tmp_path / "zorb"
    folder.mkdir()
    for name, colour in (("cat", "red"), ("dog_1", "blue")):
        (folder / f"{name}.png").write_bytes(png((40, 30), colour))
    words = ["lora", str(folder), "--name", "Zorb", "--out", str(out), "--steps", "1", "--prior", "1", "--rank", "1",
             "--subjects", "--device", "cpu"]  # fmt: skip
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert "2 pictures: 'cat, zorb style', 'dog, zorb style'" in first.output and drawn == [0]
    assert f'record "a cat, zorb style" --model micro --lora {out}' in first.output
    before = load_file(out / FILE)
    with safe_open(out / FILE, framework="pt") as opened:
        card = json.loads(opened.metadata()["card"])
    assert card["captions"] == ["cat, zorb style", "dog, zorb style"] and card["images_seen"] == 8
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0 and "Resuming from" in again.output
    assert all(torch.equal(x, before[name]) for name, x in load_file(out / FILE).items())


def test_the_command_refuses_before_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr("diffusion_explained.stable_diffusion.loading.load", lambda *_: pytest.fail("it loads"))
    (tmp_path / "cat.png").write_bytes(png((20, 20), "red"))
    (tmp_path / "dog.png").write_text("a dog")
    words = ["lora", str(tmp_path / "cat.png"), str(tmp_path / "dog.png"), "--out", str(tmp_path / "out")]
    for more, said in (
        (["--name", "zorb"], "Replace or leave out 1 of the 2 pictures. dog.png: The file is a text"),
        (["--name", "z/b"], "name must be 1 to 30 English letters"),
        (["--name", "zorb", "--thing", "--subjects"], "--thing says what every picture shows"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
    assert not Path(tmp_path / "out").exists()


def test_how_large_each_change_is(model):
    lora = moved(model, rank=2, alpha=4)
    sizes = change_sizes(lora, model)
    assert set(sizes) == set(lora.names)
    place = lora.names[5]
    change, layer = lora.placed()[place], model.network.get_submodule(place.removeprefix("unet."))
    expected = (2 * change.up @ change.down).detach().norm() / layer.weight.norm()
    assert sizes[place] == pytest.approx(float(expected), rel=1e-5)
    assert set(change_sizes(LoRA(model), model).values()) == {0.0}


def test_made_styles_are_what_they_say():
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blocks = mosaic(images).view(2, 3, 16, 8, 16, 8)
    assert torch.equal(blocks, blocks[..., :1, :, :1].expand_as(blocks))
    torch.testing.assert_close(blocks[..., 0, :, 0], images.view(2, 3, 16, 8, 16, 8).mean((3, 5)))
    flat = torch.full((1, 3, 128, 128), -0.5)
    assert (ink(flat) == 1).all()
    flat[..., 64:] = 0.5
    lines = ink(flat)
    assert (lines[..., 60:68].amin(-1) == -1).all() and (lines[..., :32] == 1).all() and (lines[..., 96:] == 1).all()
    with pytest.raises(ValueError, match=r"images must be images \[B, 3, H, W\]"):
        ink(flat[:, :1])


def test_the_loras_that_ship_are_of_the_shipped_base_and_of_the_made_pictures(model):
    """They draw in their style what they were not taught: outlines have no colour, a mosaic's blocks no edges."""
    assert sum(file.stat().st_size for file in LORA_FOLDER.iterdir()) < 350_000
    drawn = {}
    for rule in MADE:
        pictures, captions = made_pictures(rule)
        assert pictures.shape == (5, 3, 128, 128)
        torch.testing.assert_close(MADE["mosaic"](made_pictures("mosaic")[0]), made_pictures("mosaic")[0])
        with safe_open(lora_of(rule), framework="pt") as opened:
            card = json.loads(opened.metadata()["card"])
        assert card["captions"] == captions and card["images_seen"] == 2400
        prompt = captions[0].replace("cat", "rocket")
        for name in ("base", rule):
            if name == rule:
                model.load_lora(lora_of(rule))
            drawn[rule, name] = model.sample(prompt, num_inference_steps=8, seed=0)
        model.unload_lora()
    colour = {name: float((x.amax(1) - x.amin(1)).mean()) for (rule, name), x in drawn.items() if rule == "ink"}
    assert colour["ink"] < 0.5 * colour["base"]
    inside = {name: float((x - mosaic(x)).square().mean()) for (rule, name), x in drawn.items() if rule == "mosaic"}
    assert inside["mosaic"] < 0.5 * inside["base"]
    with pytest.raises(ValueError, match="unknown made style 'oil'"):
        lora_of("oil")
