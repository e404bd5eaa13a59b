"""The three networks of Micro Stable Diffusion, and the folder that diffusers loads them from.

They are small networks of Stable Diffusion 1.5's own classes: a picture of 128 x 128 is 16 x 16 x 4 latents, 48 times
fewer numbers, and extensions of Stable Diffusion's U-Net (ControlNet's residuals, LoRA, image prompts) work with this
one. `from_pretrained` of diffusers' StableDiffusionPipeline loads the folder, and so does `stable_diffusion.load`.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from diffusion_explained.devices import torch_defaults
from diffusion_explained.extras import extra
from diffusion_explained.files import atomic_folder
from diffusion_explained.messages import unknown_name
from diffusion_explained.stable_diffusion.backend import diffusers
from diffusion_explained.stable_diffusion.stand_ins import DDPM_CONFIG

Network = TypeVar("Network", bound=nn.Module)
SIDE = 128  # pixels along a side of a picture
PIXELS = 8  # picture pixels per latent pixel along a side
LATENT_CHANNELS = 4
TEXT_WIDTH = 192
PREDICTIONS = ("eps", "flow")
TEXT_MODEL = "text_model."  # the prefix of the names of a CLIP text encoder's tensors in most files


@torch_defaults()
def build_autoencoder() -> Any:
    """An AutoencoderKL with random weights: pictures [B, 3, 128, 128] to latents [B, 4, 16, 16] and back."""
    return diffusers().AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 96, 112),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=16,
        sample_size=SIDE,
        scaling_factor=1.0,  # until training has measured the latents
        mid_block_add_attention=False,
    )


@torch_defaults()
def build_text_encoder(tokenizer: Any) -> Any:
    """A CLIPTextModel with random weights for a tokenizer: ids [B, L] to embeddings [B, L, 192]."""
    with extra("sd"):
        from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.model_max_length,
            hidden_size=TEXT_WIDTH,
            intermediate_size=3 * TEXT_WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@torch_defaults()
def build_unet() -> Any:
    """A UNet2DConditionModel with random weights, with cross-attention to the text at 16 x 16 and 8 x 8.

    It maps latents [B, 4, 16, 16], times [B] and embeddings [B, L, 192] to [B, 4, 16, 16].
    """
    return diffusers().UNet2DConditionModel(
        sample_size=SIDE // PIXELS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(96, 192),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # the number of heads, in spite of its name
        norm_num_groups=16,
    )


def build_scheduler(prediction: str) -> Any:
    """The scheduler for a pipeline whose U-Net predicts `prediction`, one of `PREDICTIONS`.

    eps: Stable Diffusion 1.5's own configuration. flow: DPM-Solver++ on the straight path, because diffusers'
    flow-matching Euler scheduler does not work in a StableDiffusionPipeline.

    Raises ValueError for another prediction type.
    """
    if prediction == "eps":
        return diffusers().PNDMScheduler.from_config(DDPM_CONFIG)
    if prediction == "flow":
        return diffusers().DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, steps_offset=1
        )
    raise unknown_name("prediction", prediction, PREDICTIONS)


def save_micro(
    folder: str | os.PathLike[str], vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, prediction: str
) -> Path:
    """Write a StableDiffusionPipeline folder in diffusers' format, its weights fp16 safetensors.

    Raises ValueError for a prediction that is not in `PREDICTIONS`, or weights that fp16 cannot represent;
    NotWrittenError (an OSError) if the folder cannot be written, for instance because the disk is full: then its older
    files stay.
    """
    folder = Path(folder)
    pipeline = diffusers().StableDiffusionPipeline(
        vae=in_fp16("vae", vae),
        text_encoder=in_fp16("text_encoder", text_encoder),
        tokenizer=tokenizer,
        unet=in_fp16("unet", unet),
        scheduler=build_scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with atomic_folder(folder) as part:
        pipeline.save_pretrained(part, safe_serialization=True)
        name_for_every_version(part / "text_encoder" / "model.safetensors")
        tokenizer.backend_tokenizer.model.save(str(part / "tokenizer"))  # CLIP's vocab.json and merges.txt
    return folder


def name_for_every_version(path: Path) -> None:
    """Give a CLIP text encoder's tensors the names that every version of transformers loads: text_model.encoder...

    Versions from 5.6 on write encoder... and load both; older versions load a file with such names but leave the
    weights random.
    """
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata()
        tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118 - not a dict
    tensors = {name if name.startswith(TEXT_MODEL) else TEXT_MODEL + name: tensors[name] for name in tensors}
    save_file(tensors, path, metadata=metadata)


def in_fp16(name: str, network: Network) -> Network:
    """A copy of a network on the CPU, in fp16. Raises ValueError if a weight is NaN or too large for fp16."""
    half = copy.deepcopy(network).to("cpu", torch.float16).eval()
    for weight, tensor in half.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(
                f"{name}: {weight} holds NaN, infinity, or numbers too large for fp16: the network is not saved"
            )
    return half
