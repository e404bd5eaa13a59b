"""A stand-in for Stable Diffusion: the real architecture, tiny, with random weights, made in about a second.

It shows every stage with tensors of the real shapes (77 tokens, latents an eighth of the picture's side, guidance,
every step) where there are no weights and no GPU. It does not make meaningful pictures, and its label says so.

With full_size=True it is Stable Diffusion 1.5 in its published configuration (860 M parameters in the U-Net, 84 M in
the autoencoder, 123 M in CLIP), for measuring speed, which does not depend on the values of the weights.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device
from diffusion_explained.extras import extra
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import seeded
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.clip_vocabulary import vocabulary
from diffusion_explained.stable_diffusion.families import FAMILIES
from diffusion_explained.stable_diffusion.loading import STAND_IN as LABEL
from diffusion_explained.stable_diffusion.loading import of_pipeline
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.weights import STAND_IN

NOTICE = "stand-in: random weights, no picture to be expected"
# words that are single tokens in the stand-in's vocabulary, so that a prompt of them is split as by CLIP
WORDS = ("a", "the", "of", "in", "on", "and", "with", "photo", "painting", "cat", "dog", "astronaut", "horse", "castle",
         "mountain", "sea", "red", "blue", "green", "house", "riding", "light", "blurry", "style")  # fmt: skip

# the scheduler_config.json of the published models
DDPM_CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
               "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False, "skip_prk_steps": True}  # fmt: skip


@named_options
@typed_arguments
def stand_in(
    family: str = "sd",
    *,
    prediction: str = "eps",
    in_channels: int = 4,
    t5: bool = False,
    full_size: bool = False,
    device: torch.device | str = "auto",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> StableDiffusion:
    """Build a model with random weights, labelled "stand-in".

    Args:
        family: "sd", "sdxl" or "sd3".
        prediction: the prediction type, "eps" or "v"; for sd.
        in_channels: 9 for an sd network with the inputs of inpainting.
        t5: add the third text encoder; for sd3.
        full_size: the size of Stable Diffusion 1.5; for sd: 4 GB in float32, so use float16 and a GPU.

    Raises ValueError for another family, or options that the family does not have.
    """
    if family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    if full_size and family != "sd":
        raise ValueError(f"full_size is for sd (Stable Diffusion 1.5's published configuration), not {family}.")
    if t5 and family != "sd3":
        raise ValueError(f"t5 is Stable Diffusion 3's third text encoder; {family} has none.")
    chosen = choose_device(device)

    def build() -> Any:
        if family == "sd":
            return pipeline_of_sd(prediction, in_channels, chosen if full_size else None)
        return _sdxl() if family == "sdxl" else _sd3(t5)

    pipe = seeded(seed, build)
    return of_pipeline(pipe.to(chosen, dtype), FAMILIES[family], NOTICE, LABEL)


@named_options(of=stand_in, but="device")
@typed_arguments
def save_stand_in(folder: str | os.PathLike[str], family: str = "sd", **options: Any) -> Path:
    """Write a stand-in to a folder in diffusers' format, which `load(folder, device="cpu")` reads, label included."""
    folder = Path(folder)
    stand_in(family, device="cpu", **options).pipe.save_pretrained(folder, safe_serialization=True)
    (folder / STAND_IN).write_text(NOTICE + "\n", encoding="utf-8")
    return folder


def _tokenizer(pad: str = "<|endoftext|>", size: int = 0) -> Any:
    """CLIP's tokenizer over bytes, with merges for the few words above; the vocabulary is padded to `size` entries."""
    with extra("sd"):
        from transformers import CLIPTokenizer

    pieces: list[str] = []
    merges: list[Any] = []  # pairs, which transformers accepts but does not annotate
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge, parts = (parts[0], parts[1]), [parts[0] + parts[1], *parts[2:]]
            if merge not in merges:
                merges.append(merge)
                pieces.append(parts[0])
    ids = vocabulary(pieces)
    if size > len(ids):
        ids = vocabulary([*pieces, *(f"unused{n}" for n in range(size - len(ids)))])
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=77, pad_token=pad)


def _clip(tokenizer: Any, *, projection: int | None = None, full_size: bool = False, width: int = 32) -> Any:
    with extra("sd"):
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    shape: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    if full_size:  # openai/clip-vit-large-patch14's text model
        shape = {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "hidden_act": "quick_gelu",
        }
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    more: dict[str, Any] = {} if projection is None else {"projection_dim": projection}
    config = CLIPTextConfig(vocab_size=len(tokenizer), max_position_embeddings=77, **shape, **special, **more)
    return CLIPTextModel(config) if projection is None else CLIPTextModelWithProjection(config)


def _vae(channels: int = 4, full_size: bool = False, **options: Any) -> Any:
    return diffusers().AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512) if full_size else (8, 8, 16, 16),
        layers_per_block=2 if full_size else 1,
        latent_channels=channels,
        norm_num_groups=32 if full_size else 4,
        sample_size=512,
        **options,
    )


def unet_of_sd(in_channels: int = 4, out_channels: int = 4, sample_size: int = 64, *, full_size: bool = False) -> Any:
    """Stable Diffusion 1.5's U-Net with random weights; for pixels give 3 channels and sample_size 512."""
    return diffusers().UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=in_channels,
        out_channels=out_channels,
        layers_per_block=2 if full_size else 1,
        block_out_channels=(320, 640, 1280, 1280) if full_size else (16, 32, 32, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=768 if full_size else 32,
        attention_head_dim=8 if full_size else 2,  # the number of heads, in spite of its name
        norm_num_groups=32 if full_size else 8,
    )


def pipeline_of_sd(prediction: str, in_channels: int, full_size_on: torch.device | None) -> Any:
    """A pipeline of Stable Diffusion: tiny, initialised on the CPU, or of full size, initialised on `full_size_on`.

    Raises ValueError for another prediction type.
    """
    library, full_size = diffusers(), full_size_on is not None
    kinds = {"eps": "epsilon", "v": "v_prediction"}
    if prediction not in kinds:
        raise unknown_name("prediction", prediction, kinds)
    tokenizer = _tokenizer(size=49408 if full_size else 0)
    with full_size_on or torch.device("cpu"):
        unet = unet_of_sd(in_channels, full_size=full_size)
        vae, text_encoder = _vae(full_size=full_size), _clip(tokenizer, full_size=full_size)
    pipeline = library.StableDiffusionPipeline if in_channels == 4 else library.StableDiffusionInpaintPipeline
    return pipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=library.PNDMScheduler.from_config({**DDPM_CONFIG, "prediction_type": kinds[prediction]}),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    library = diffusers()
    tokenizer = _tokenizer()
    unet = library.UNet2DConditionModel(
        sample_size=128,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(2, 4, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=64,
        norm_num_groups=8,
    )
    return library.StableDiffusionXLPipeline(
        vae=_vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=_clip(tokenizer),
        text_encoder_2=_clip(tokenizer, projection=32),
        tokenizer=tokenizer,
        tokenizer_2=_tokenizer(pad="!"),
        unet=unet,
        scheduler=library.EulerDiscreteScheduler.from_config({**DDPM_CONFIG, "timestep_spacing": "leading"}),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def _t5(width: int) -> tuple[Any, Any]:
    """(text encoder, tokenizer) of T5, with a vocabulary of letters and the same few words."""
    with extra("sd"):
        from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz,."]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*pieces, *letters, *(("▁" + word, -1.0) for word in WORDS if len(word) > 1)])
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_ff=64, d_kv=8, num_heads=2, num_layers=1)
    return T5EncoderModel(config), tokenizer


def _sd3(t5: bool) -> Any:
    library = diffusers()
    tokenizer = _tokenizer()
    transformer = library.SD3Transformer2DModel(
        sample_size=128,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        pos_embed_max_size=96,
    )
    text_encoder_3, tokenizer_3 = _t5(width=64) if t5 else (None, None)
    return library.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=library.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(tokenizer, projection=32),
        tokenizer=tokenizer,
        text_encoder_2=_clip(tokenizer, projection=32),
        tokenizer_2=_tokenizer(pad="!"),
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )
