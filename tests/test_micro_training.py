"""Micro's trainings, on tiny networks: they learn, end in time, and go on after a kill as if nothing had happened."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.micro import training_runs
from diffusion_explained.micro.autoencoder_training import (
    AutoencoderConfig,
    autoencoder_loss,
    drawn,
    finish_autoencoder,
    train_autoencoder,
)
from diffusion_explained.micro.emoji import EmojiSet, load_emoji_sample
from diffusion_explained.micro.encoded_scenes import EncodedScenes, encode_scenes
from diffusion_explained.micro.reconstruction import balance_latents, on_white, psnr
from diffusion_explained.micro.text_to_image_training import (
    TextToImage,
    TextToImageConfig,
    root_weight,
    schedule_of,
    train_text_to_image,
)
from diffusion_explained.micro.tokens import encode, load_tokenizer
from diffusion_explained.predictions import target
from diffusion_explained.schedules import DDPMSchedule
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.training.timed import TimedConfig

LENGTH = 32


@pytest.fixture(scope="module")
def emoji() -> EmojiSet:
    return load_emoji_sample()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def tiny_vae():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers().AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4, 4, 8, 8),
            norm_num_groups=2,
            latent_channels=4,
            sample_size=128,
            scaling_factor=1.0,
            mid_block_add_attention=False,
        )


def tiny_unet():
    return diffusers().UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=2,
    )


def tiny_text_encoder(tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=LENGTH,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def tiny_model(tokenizer) -> TextToImage:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextToImage(tiny_text_encoder(tokenizer), tiny_unet())


@pytest.fixture(scope="module")
def scenes(tokenizer) -> EncodedScenes:
    """Latents that are one number all over, in eight captions' tokens."""
    captions = encode(
        tokenizer, [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("cat", "dog", "heart", "car")]
    )
    values = torch.linspace(-1.5, 1.5, 8)[:, None, None, None].expand(8, 4, 8, 8)
    return EncodedScenes(values.half(), captions.short(), encode(tokenizer, [""])[0].short(), {"made": "here"})


def state_of(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


# -- how long -----------------------------------------------------------------------------------------------


def test_a_length_must_be_given():
    with pytest.raises(ValueError, match="give seconds, or images"):
        TimedConfig()
    with pytest.raises(ValueError, match="seconds"):
        TimedConfig(seconds=0)
    with pytest.raises(ValueError, match="images"):
        TimedConfig(images=1, batch_size=2)


def test_progress_is_of_what_comes_first():
    config = TimedConfig(images=1000, batch_size=10, seconds=50)
    assert config.progress(0, 0) == 0
    assert config.progress(50, 5) == pytest.approx(0.5)
    assert config.progress(10, 40) == pytest.approx(0.8)
    assert config.progress(10, 70) == config.progress(100, 1) == 1
    assert TimedConfig(seconds=50).progress(10**6, 25) == pytest.approx(0.5, abs=1e-3)


def test_learning_rate_rises_and_falls():
    config = TimedConfig(seconds=10, learning_rate=1.0, warmup_steps=4)
    assert [config.rate(step, 0.0) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert config.rate(9, 0.75) == pytest.approx(0.25) and config.rate(99, 1.0) == 0


def test_average_forgets_the_beginning_and_spans_a_share_of_the_training():
    config = TimedConfig(seconds=1)
    for steps in (100, 1000):
        weights = torch.ones(())
        shares = []
        for step in range(steps):  # the share of each step's weights in the average at the end
            decay = config.ema_decay_at(step)
            shares = [share * decay for share in shares] + [1 - decay]
        shares = torch.tensor(shares, dtype=torch.float64)
        assert float(shares.sum()) == pytest.approx(float(weights))
        when = torch.arange(1, steps + 1) / steps
        mean = (shares * when).sum()
        spread = (shares * (when - mean) ** 2).sum().sqrt()
        assert float(spread) == pytest.approx(0.05, rel=0.1)  # sigma_rel of EDM2's Sec. 3.1 for this gamma


# -- the autoencoder ----------------------------------------------------------------------------------------


def test_psnr():
    x = torch.zeros(2, 3, 4, 4)
    y = x + torch.tensor([0.2, 0.02])[:, None, None, None]
    torch.testing.assert_close(psnr(x, y), torch.tensor([20.0, 40.0]))  # 10 log10(4 / 0.04), 10 log10(4 / 0.0004)


def test_on_white():
    images = torch.zeros(1, 4, 1, 3, dtype=torch.uint8)
    images[0, 0] = 255  # red
    images[0, 3, 0] = torch.tensor([0, 51, 255])
    torch.testing.assert_close(
        on_white(images)[0, :, 0], torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.6, -1.0], [1.0, 0.6, -1.0]])
    )


def test_autoencoder_loss_by_hand():
    config = AutoencoderConfig(seconds=1, edge_weight=0.5, kl_weight=0.1)
    images, decoded = torch.zeros(1, 1, 2, 2), torch.tensor([[[[0.0, 0.4], [0.0, 0.4]]]])
    mean, logvar = torch.full((1, 1, 1, 1), 2.0), torch.zeros(1, 1, 1, 1)
    # mean |d| = 0.2; horizontal edges 0.4, vertical 0; KL = 4 / 2
    assert float(autoencoder_loss(decoded, images, mean, logvar, config)) == pytest.approx(0.2 + 0.5 * 0.4 + 0.1 * 2)


def test_autoencoder_learns(emoji: EmojiSet):
    vae = tiny_vae()
    config = AutoencoderConfig(images=80, batch_size=4, learning_rate=1e-2, warmup_steps=1)
    records = list(train_autoencoder(vae, emoji, config, record_every=5))
    assert [record.images_seen for record in records] == [20, 40, 60, 80]
    assert records[-1].loss < 0.7 * records[0].loss and records[-1].progress == 1


def test_autoencoder_goes_on_after_a_kill_as_if_nothing_had_happened(emoji: EmojiSet, tmp_path: Path):
    config = AutoencoderConfig(images=22, batch_size=2, learning_rate=1e-2, warmup_steps=1)
    whole, killed, again = tiny_vae(), tiny_vae(), tiny_vae()
    list(train_autoencoder(whole, emoji, config))
    options = {"checkpoints": tmp_path, "checkpoint_every": 3, "record_every": 1}
    training = train_autoencoder(killed, emoji, config, **options)
    for record in training:
        if record.step == 10:  # the newest checkpoint is of step 9, in the second chunk of drawn batches
            training.close()
            break
    steps = [record.step for record in train_autoencoder(again, emoji, config, **options)]
    assert steps == [10, 11]
    assert torch.equal(state_of(whole), state_of(again))
    assert [record.step for record in train_autoencoder(tiny_vae(), emoji, config, **options)] == [11], "it is over"
    with pytest.raises(ValueError, match=r"training\.kl_weight"):
        list(train_autoencoder(tiny_vae(), emoji, replace(config, kl_weight=1e-3), **options))


def test_batches_are_the_same_wherever_a_training_begins(emoji: EmojiSet):
    config = AutoencoderConfig(images=40, batch_size=2)
    every = list(drawn(emoji, config, torch.device("cpu"), 0, 0))
    later = list(drawn(emoji, config, torch.device("cpu"), 11, 0))
    assert len(every) >= config.num_steps and all(x.shape == (2, 3, 128, 128) for x in every)
    assert all(torch.equal(a, b) for a, b in zip(every[11:], later, strict=True))


def test_a_training_ends_in_time(emoji: EmojiSet):
    *_, last = train_autoencoder(tiny_vae(), emoji, AutoencoderConfig(seconds=1.0, batch_size=2))
    assert last.progress == 1 and 1.0 <= last.seconds < 10
    assert last.learning_rate < 0.5 * AutoencoderConfig(seconds=1.0).learning_rate


def test_a_loss_that_is_no_number_stops_the_training(emoji: EmojiSet):
    vae = tiny_vae()
    with torch.no_grad():
        vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="smaller learning_rate"):
        list(train_autoencoder(vae, emoji, AutoencoderConfig(images=4, batch_size=2)))


def test_balanced_latents_decode_to_the_same_pictures(emoji: EmojiSet):
    vae = tiny_vae().eval()
    with torch.no_grad():
        vae.quant_conv.weight.mul_(torch.linspace(0.3, 3, 8)[:, None, None, None])
        vae.quant_conv.bias.add_(torch.linspace(-1, 2, 8))
        x = on_white(emoji.images[:16])
        before = vae.encode(x).latent_dist
        decoded = vae.decode(before.mean).sample
        found = balance_latents(vae, before.mean)
        after = vae.encode(x).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, decoded, atol=1e-4, rtol=1e-3)
    scaled = (after.mean * vae.config.scaling_factor).movedim(1, 0).flatten(1)
    torch.testing.assert_close(scaled.mean(dim=1), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(scaled.std(dim=1), torch.ones(4), atol=1e-3, rtol=0)
    # the encoder's own uncertainty is scaled as its means are
    torch.testing.assert_close(
        after.std / after.mean.std((0, 2, 3), keepdim=True), before.std / before.mean.std((0, 2, 3), keepdim=True)
    )
    assert found["stds"] == pytest.approx(before.mean.double().std((0, 2, 3)).tolist(), rel=1e-4)


# -- the scenes ---------------------------------------------------------------------------------------------


def test_encoded_scenes_are_kept_and_read_again(emoji: EmojiSet, tokenizer, tmp_path: Path, monkeypatch):
    vae, file, seen = tiny_vae().eval(), tmp_path / "scenes.safetensors", []
    vae.register_to_config(scaling_factor=2.0)
    first = encode_scenes(
        vae, tokenizer, emoji, 10, batch_size=4, file=file, progress=lambda done, total: seen.append((done, total))
    )
    assert first.latents.shape == (10, 4, 16, 16) and first.tokens.shape == (10, LENGTH)
    assert seen == [(4, 10), (8, 10), (10, 10)]
    pictures = next(iter(drawn(emoji, AutoencoderConfig(images=16, batch_size=10), torch.device("cpu"), 0, 0)))
    with torch.no_grad():
        expected = 2 * vae.encode(pictures).latent_dist.mean
    torch.testing.assert_close(first.latents.float(), expected, atol=2e-3, rtol=2e-3)

    monkeypatch.setattr(vae, "encode", None)  # nothing is encoded again
    again = encode_scenes(vae, tokenizer, emoji, 10, file=file)
    assert torch.equal(first.latents, again.latents) and torch.equal(first.tokens, again.tokens)
    with pytest.raises(ValueError, match="scenes differ"):
        encode_scenes(vae, tokenizer, emoji, 11, file=file)
    with torch.no_grad():
        vae.quant_conv.bias += 1
    with pytest.raises(ValueError, match="autoencoder differ"):
        encode_scenes(vae, tokenizer, emoji, 10, file=file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(OSError, match="damaged"):
        encode_scenes(vae, tokenizer, emoji, 10, file=file)
    with pytest.raises(ValueError, match="one scene or more"):
        encode_scenes(vae, tokenizer, emoji, 0)


# -- the U-Net and the text encoder -------------------------------------------------------------------------


class Remembering(nn.Module):
    """In a `TextToImage`'s place: remembers what it was shown, and answers with one number."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = nn.Module()
        self.unet.config = {}
        self.answer = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, x_t, t, tokens):
        self.seen.append((x_t, t, tokens))
        return self.answer.expand_as(x_t)


@pytest.mark.parametrize("prediction", ["eps", "flow"])
def test_what_the_network_is_shown(prediction: str, scenes: EncodedScenes):
    network = Remembering()
    config = TextToImageConfig(images=2048, batch_size=1024)
    first, *_ = train_text_to_image(network, scenes, prediction, config, record_every=1)
    (x_t, t, tokens), _ = network.seen
    dropped = (tokens == scenes.empty.long()).all(dim=1)
    assert 0.06 < float(dropped.float().mean()) < 0.14
    schedule = schedule_of(prediction)
    clock = t.double() / 1000 if prediction == "flow" else t.double()
    alpha, sigma = schedule.alpha(clock).float(), schedule.sigma(clock).float()
    # a caption says which latents are in x_t
    which = (tokens[:, None] == scenes.tokens.long()).all(dim=2).float().argmax(dim=1)
    eps = (x_t - (alpha.view(-1, 1, 1, 1) * scenes.latents[which].float())) / sigma.view(-1, 1, 1, 1)
    assert float(eps[~dropped].mean()) == pytest.approx(0, abs=0.02)
    assert float(eps[~dropped].std()) == pytest.approx(1, abs=0.02)
    # the answer is 0 at first, so the loss is the weighted mean square of the targets
    x_0 = scenes.latents[which].float()
    expected = target(prediction, x_0, eps, alpha, sigma)[~dropped].square().flatten(1).mean(dim=1)
    weight = root_weight(schedule, prediction, clock, config.min_snr)[~dropped] ** 2
    assert first.loss == pytest.approx(float((weight * expected).mean()), rel=0.05)


def test_every_timestep_is_trained_the_last_one_too():
    t = schedule_of("eps").sample_t(100_000, torch.Generator().manual_seed(0))
    assert set(t.tolist()) == set(range(1000))


def test_min_snr_weight():
    schedule, t = DDPMSchedule.scaled_linear(), torch.tensor([0.0, 200.0, 999.0])
    snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
    squared = root_weight(schedule, "eps", t, 5.0) ** 2
    assert squared.tolist() == pytest.approx([5 / float(snr[0]), min(1.0, 5 / float(snr[1])), 1.0])
    assert root_weight(schedule, "eps", t, None).tolist() == root_weight(schedule, "flow", t, 5.0).tolist() == [1, 1, 1]


@pytest.mark.parametrize("prediction", ["eps", "flow"])
def test_text_to_image_learns_the_text_encoder_too(prediction: str, scenes: EncodedScenes, tokenizer):
    model = tiny_model(tokenizer)
    before = model.text_encoder.get_input_embeddings().weight.detach().clone()
    steps = {"eps": 150, "flow": 300}[prediction]
    config = TextToImageConfig(
        images=steps * 16, batch_size=16, learning_rate=1e-2, warmup_steps=10, precision="float32"
    )
    records = list(train_text_to_image(model, scenes, prediction, config, record_every=30))
    assert records[-1].loss < 0.6 * records[0].loss
    moved = (model.text_encoder.get_input_embeddings().weight.detach() - before).abs().amax(dim=1)
    seen, unseen = set(scenes.tokens.flatten().tolist()), moved.argsort()[:1000].tolist()
    assert float(moved[sorted(seen)].min()) > 1e-3 and not seen & set(unseen)
    if prediction == "eps":  # pure noise, its input, says nothing of the data
        return
    x_0, x_T = scenes.latents.float(), torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with_text, without = (
            x_T - model(x_T, torch.full((8,), 1000.0), tokens.long())  # x_0 = eps - v
            for tokens in (scenes.tokens, scenes.empty.expand(8, -1))
        )
    assert float((with_text - x_0).square().mean()) < 0.8 * float((without - x_0).square().mean())


def test_text_to_image_goes_on_after_a_kill_as_if_nothing_had_happened(
    scenes: EncodedScenes, tokenizer, tmp_path: Path
):
    config = TextToImageConfig(images=40, batch_size=4)
    whole, killed, again = (tiny_model(tokenizer) for _ in range(3))
    list(train_text_to_image(whole, scenes, "flow", config))
    options = {"checkpoints": tmp_path, "checkpoint_every": 4, "record_every": 1}
    training = train_text_to_image(killed, scenes, "flow", config, **options)
    for record in training:
        if record.step == 6:
            training.close()
            break
    list(train_text_to_image(again, scenes, "flow", config, **options))
    assert torch.equal(state_of(whole), state_of(again))
    with pytest.raises(ValueError, match="prediction is 'flow' there and 'eps' here"):
        list(train_text_to_image(again, scenes, "eps", config, **options))


# -- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def tiny_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_runs, "build_autoencoder", tiny_vae)
    monkeypatch.setattr(training_runs, "build_unet", tiny_unet)
    monkeypatch.setattr(training_runs, "build_text_encoder", tiny_text_encoder)
    monkeypatch.setattr("diffusion_explained.micro.autoencoder_training.MEASURED_SCENES", 64)


def run(*arguments: object):
    return CliRunner().invoke(app, ["micro", *map(str, arguments), "--device", "cpu"])


def test_from_the_emoji_to_a_pipeline(tiny_networks: None, tmp_path: Path):
    vae, out = tmp_path / "vae", tmp_path / "micro"
    ran = run("vae", "--sample", "--images", 8, "--batch-size", 4, "--out", vae)
    assert ran.exit_code == 0, ran.output
    assert "dB on training emoji" in ran.output
    options = ("--sample", "--images", 8, "--batch-size", 4, "--scenes", 6)
    ran = run("train", "--vae", vae, "--prediction", "eps", *options, "--out", out)
    assert ran.exit_code == 0, ran.output
    card = json.loads((out / "micro.json").read_text())
    assert card["text_to_image"]["prediction"] == "eps" and card["text_to_image"]["images_seen"] == 8
    assert card["autoencoder"]["images_seen"] == 8
    assert "8 images" in (out / "README.md").read_text()
    model = load(out, "cpu")
    assert model.kind == "eps" and model.sample("red cat", num_inference_steps=2).shape == (1, 3, 128, 128)

    ran = run("train", "--vae", vae, "--prediction", "eps", *options, "--out", out)
    assert ran.exit_code == 0 and "Resuming from" in ran.output
    assert json.loads((out / "micro.json").read_text()) == card, "it was over, and is as it was"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vae", "--sample"), "give seconds, or images"),
        (("train", "--sample", "--vae", "nowhere", "--images", 512), "nowhere"),
        (("train", "--sample", "--vae", "nowhere", "--images", 512, "--prediction", "v"), "unknown prediction 'v'"),
        (("vae", "--images", 64), "download=True"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple, said: str, bare_machine: None):
    ran = run(*arguments)
    assert ran.exit_code == 2 and said in ran.output and "Traceback" not in ran.output


def test_finish_needs_something_held_out_to_measure_it(emoji: EmojiSet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("diffusion_explained.micro.autoencoder_training.MEASURED_SCENES", 64)
    measured = finish_autoencoder(tiny_vae(), emoji)
    assert set(measured) == {"psnr_training", "psnr_held_out", "latents"}
