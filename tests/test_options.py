"""An option that does not exist is answered in our words, with the nearest one and all that there are."""

import pytest
import torch

from diffusion_explained import load_pretrained, samplers
from diffusion_explained.data import load_dataset, load_image, toy
from diffusion_explained.denoisers import NetworkDenoiser
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.metrics import evaluate
from diffusion_explained.micro.autoencoder_training import AutoencoderConfig, train_autoencoder
from diffusion_explained.micro.text_to_image_training import TextToImageConfig, train_text_to_image
from diffusion_explained.micro.training_runs import make_autoencoder, make_scenes
from diffusion_explained.models import ClassifierConfig, DiTConfig, MLPConfig, UNetConfig
from diffusion_explained.pretrained import load_classifier
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, schedule_from_config
from diffusion_explained.stable_diffusion import load, save_stand_in, stand_in
from diffusion_explained.stable_diffusion.attention import RecordedAttention
from diffusion_explained.stable_diffusion.recording import record
from diffusion_explained.training import train
from diffusion_explained.training.classifier import ClassifierTrainConfig, train_classifier
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.gan import train_gan
from diffusion_explained.training.recipes import run_recipe
from diffusion_explained.training.reflow import PairsConfig, draw_pairs
from diffusion_explained.training.timed import TimedConfig

X, LEVELS = torch.zeros(1, 2), FlowSchedule().levels(2)
SCHEDULES = (DDPMSchedule.linear(), EDMSchedule(), FlowSchedule())


@pytest.fixture(scope="module")
def model():
    return load_pretrained("mnist_unet_flow")


@pytest.fixture(scope="module")
def stable():
    return stand_in(device="cpu")


CONFIGS = (TrainConfig, ClassifierTrainConfig, TimedConfig, AutoencoderConfig, TextToImageConfig, PairsConfig)
CALLABLES = {
    **{
        name: lambda sampler=sampler, **one: sampler(None, X, LEVELS, **one)
        for name, sampler in samplers.SAMPLERS.items()
    },
    "ddim_invert": lambda **one: samplers.ddim_invert(None, X, LEVELS, **one),
    **{type(s).__name__: lambda s=s, **one: type(s)(**one) for s in SCHEDULES},
    **{f"{type(s).__name__}.levels": lambda s=s, **one: s.levels(2, **one) for s in SCHEDULES},
    **{f"{type(s).__name__}.timesteps": lambda s=s, **one: s.timesteps(2, **one) for s in SCHEDULES},
    **{
        name: lambda name=name, **one: getattr(DDPMSchedule, name)(**one)
        for name in ("linear", "scaled_linear", "cosine", "sigmoid")
    },
    "schedule_from_config": lambda **one: schedule_from_config({"family": "flow", **one}),
    "NetworkDenoiser": lambda **one: NetworkDenoiser(None, None, "flow", **one),
    "ExactDenoiser": lambda **one: ExactDenoiser(X, **one),
    "GaussianMixture": lambda **one: GaussianMixture(X, **one),
    "GaussianMixture.sample": lambda **one: GaussianMixture(X).sample(2, **one),
    "load_pretrained": lambda **one: load_pretrained("mnist_unet_flow", **one),
    "load_classifier": load_classifier,
    "train": lambda **one: train(None, X, None, None, "flow", None, **one),
    "train_classifier": lambda **one: train_classifier(None, None, None, **one),
    "train_gan": lambda **one: train_gan(X, 1, **one),
    "draw_pairs": lambda **one: draw_pairs(None, None, **one),
    "run_recipe": lambda **one: run_recipe("mnist_unet_flow", **one),
    "train_autoencoder": lambda **one: train_autoencoder(None, None, None, **one),
    "train_text_to_image": lambda **one: train_text_to_image(None, None, "flow", None, **one),
    "make_autoencoder": lambda **one: make_autoencoder(None, None, None, **one),
    "make_scenes": lambda **one: make_scenes(None, None, None, 1, **one),
    **{
        config.__name__: config
        for config in (
            TrainConfig,
            ClassifierTrainConfig,
            TimedConfig,
            AutoencoderConfig,
            TextToImageConfig,
            PairsConfig,
        )
    },
    **{config.__name__: config for config in (UNetConfig, DiTConfig, MLPConfig, ClassifierConfig)},
    "load": lambda **one: load("micro", "cpu", **one),
    "stand_in": stand_in,
    "save_stand_in": lambda **one: save_stand_in("never", **one),
    "load_dataset": lambda **one: load_dataset("mnist", **one),
    "load_image": lambda **one: load_image(b"", **one),
    "toy": lambda **one: toy("moons", 3, **one),
    "RecordedAttention.of": lambda **one: RecordedAttention.of(None, "cat", **one),
    "RecordedAttention.shares": lambda **one: RecordedAttention.shares(None, **one),
}
OF_MODELS = ("levels", "prepare", "denoiser", "decode", "steps", "sample")


@pytest.mark.parametrize("name", CALLABLES)
def test_an_unknown_option_of(name):
    with pytest.raises(ValueError, match=r"'nonsense'.* (Known|no options)"):
        CALLABLES[name](nonsense=1)


@pytest.mark.parametrize("name", OF_MODELS)
def test_an_unknown_option_of_a_model(model, stable, name):
    first = {"denoiser": [3], "decode": X, "steps": [3], "sample": [3]}
    for one, given in (
        (model, first),
        (stable, {**first, "denoiser": stable.encode_text("a cat"), "steps": "a cat", "sample": "a cat"}),
    ):
        with pytest.raises(ValueError, match=r"'nonsense'.* Known: "):
            getattr(one, name)(*[given[name]] if name in given else [], nonsense=1)


def test_an_unknown_option_of_what_runs_a_model(model, stable):
    with pytest.raises(ValueError, match=r"unknown option of a run with euler 'nonsense'.* Known: .*clip"):
        evaluate(model, n=100, nonsense=1)
    with pytest.raises(ValueError, match=r"unknown option of a run with ddim 'nonsense'.* Known: .*spacing"):
        record(stable, "a cat", sampler="ddim", height=64, width=64, nonsense=1)


def test_the_nearest_option_is_suggested(model, stable):
    with pytest.raises(ValueError, match=r"unknown option of ddim 'etta': did you mean 'eta'\? Known: denoise, eta"):
        samplers.ddim(None, X, LEVELS, etta=1.0)
    with pytest.raises(ValueError, match="did you mean 'num_inference_steps'"):
        model.sample([3], num_inference_step=3)
    with pytest.raises(ValueError, match="did you mean 'guidance_scale'"):
        stable.sample("a cat", guidance_scal=3)
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        TrainConfig(images=128, learnig_rate=1.0)


def test_what_exists_is_taken_by_name_and_by_place(model):
    expected = model.sample([3], None, 2, seed=1)
    assert torch.equal(model.sample(labels=[3], num_inference_steps=2, seed=1), expected)
    assert isinstance(DDPMSchedule.linear(10, clock="thousand", rescale_zero_terminal_snr=True), DDPMSchedule)
