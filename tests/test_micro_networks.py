"""Micro's networks: how large, how fast to compute, and what of them is saved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from diffusion_explained.micro import networks
from diffusion_explained.micro.tokens import MAX_LENGTH, load_tokenizer
from diffusion_explained.models import count_parameters
from diffusion_explained.stable_diffusion.levels import config_of, kind_of, schedule_of


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def test_all_of_it_fits_into_30_megabytes(tokenizer, tmp_path: Path):
    parts = networks.build_autoencoder(), networks.build_text_encoder(tokenizer), networks.build_unet()
    assert sum(map(count_parameters, parts)) <= 15e6
    vae, text_encoder, unet = parts
    folder = networks.save_micro(tmp_path, vae, text_encoder, tokenizer, unet, "flow")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert {path.parent.name for path in weights} == {"vae", "text_encoder", "unet"}
    assert {tensor.dtype for path in weights for tensor in load_file(path).values()} == {torch.float16}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]


def test_tokenizer_is_saved_in_clips_own_format(tokenizer, tmp_path: Path):
    parts = networks.build_autoencoder(), networks.build_text_encoder(tokenizer), tokenizer, networks.build_unet()
    networks.save_micro(tmp_path, *parts, "eps")
    again = load_tokenizer(tmp_path / "tokenizer")
    assert again.get_vocab() == tokenizer.get_vocab() and again.model_max_length == MAX_LENGTH
    assert again("a blue cat, ??").input_ids == tokenizer("a blue cat, ??").input_ids


def test_latents_are_48_times_fewer_numbers():
    vae, x = networks.build_autoencoder().eval(), torch.zeros(1, 3, 128, 128)
    with torch.no_grad():
        z = vae.encode(x).latent_dist.mean
        assert z.shape == (1, 4, 16, 16) and x.numel() == 48 * z.numel()
        assert vae.decode(z).sample.shape == x.shape


def test_unet_computes_less_than_the_prototype_and_looks_at_the_text_at_two_sizes():
    unet = networks.build_unet().eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 4, 16, 16), torch.zeros(1), encoder_hidden_states=torch.zeros(1, 32, 192))
    assert counter.get_total_flops() <= 1.9e9
    looking = {name.rsplit(".transformer_blocks")[0] for name in unet.attn_processors if "attn2" in name}
    assert len({name.split(".attentions")[0] for name in looking}) == 5  # two ways down, the middle, two ways up


@pytest.mark.parametrize(("prediction", "kind"), [("eps", "eps"), ("flow", "flow")])
def test_scheduler_says_what_is_predicted(prediction: str, kind: str):
    config = config_of(networks.build_scheduler(prediction))
    assert kind_of(config) == kind
    schedule = schedule_of(config)
    if kind == "eps":
        assert schedule.to_config()["name"] == "scaled_linear" and schedule.num_train_timesteps == 1000
    else:
        assert schedule.shift == 1


def test_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="did you mean 'flow'"):
        networks.build_scheduler("flows")


def test_weights_that_fp16_cannot_hold_are_not_saved(tokenizer, tmp_path: Path):
    unet = networks.build_unet()
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] = 1e6
    parts = networks.build_autoencoder(), networks.build_text_encoder(tokenizer), tokenizer, unet
    with pytest.raises(ValueError, match=r"unet: conv_in\.weight .* too large for fp16"):
        networks.save_micro(tmp_path, *parts, "flow")
    assert not list(tmp_path.iterdir())
