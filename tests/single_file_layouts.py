"""Write the parts of a pipeline under the names that the models' first programs gave their tensors, in one file.

The names are those of the published files (CompVis' latent diffusion, OpenCLIP, Stability's Stable Diffusion 3),
written down here from knowledge of them; the package reads them by diffusers' converters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2", "mid_block.attentions.0": "middle_block.1",
}  # fmt: skip


def renamed(state: Mapping[str, Tensor], places: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors whose names begin with a place get its new name; every tensor must have one."""
    found = {}
    for name, x in state.items():
        old = max((place for place in places if name.startswith(place + ".")), key=len)
        found[places[old] + name.removeprefix(old)] = x
    return found


def unet(module: Any) -> dict[str, Tensor]:
    config, state, places = module.config, module.state_dict(), dict(UNET)
    n = config.layers_per_block + 1
    blocks = len(config.block_out_channels)

    def has(place: str) -> bool:
        return any(name.startswith(place + ".") for name in state)

    for i in range(blocks):
        for j in range(n - 1):
            places[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{n * i + j + 1}.0"
            places[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n * i + j + 1}.1"
        places[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n * (i + 1)}.0.op"
        for j in range(n):
            places[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{n * i + j}.0"
            places[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n * i + j}.1"
        after = 2 if has(f"up_blocks.{i}.attentions.{n - 1}") else 1
        places[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{n * i + n - 1}.{after}"
    for j in range(2):
        places[f"mid_block.resnets.{j}"] = f"middle_block.{2 * j}"
    inside = {
        f"{place}.{theirs}": f"{ours}.{first}"
        for place, ours in places.items() if ".resnets." in place
        for theirs, first in RESNET.items()
    }  # fmt: skip
    return {"model.diffusion_model." + name: x for name, x in renamed(state, places | inside).items()}


def vae(module: Any, beginning: str = "first_stage_model.") -> dict[str, Tensor]:
    state, blocks = module.state_dict(), len(module.config.block_out_channels)
    places = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for side, at, one, places_of in (("encoder", "down", "down_blocks", range(blocks)),
                                     ("decoder", "up", "up_blocks", range(blocks)[::-1])):  # fmt: skip
        for key in ("conv_in", "conv_out"):
            places[f"{side}.{key}"] = f"{side}.{key}"
        places[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        resnets = {f"{side}.mid_block.resnets.{j}": f"{side}.mid.block_{j + 1}" for j in range(2)}
        for i, k in enumerate(places_of):
            for j in range(module.config.layers_per_block + 1):
                resnets[f"{side}.{one}.{i}.resnets.{j}"] = f"{side}.{at}.{k}.block.{j}"
            places[f"{side}.{one}.{i}.{at}samplers.0"] = f"{side}.{at}.{k}.{at}sample"
        places |= resnets | {f"{old}.conv_shortcut": f"{new}.nin_shortcut" for old, new in resnets.items()}
        for theirs, first in {
            "group_norm": "norm",
            "to_q": "q",
            "to_k": "k",
            "to_v": "v",
            "to_out.0": "proj_out",
        }.items():
            places[f"{side}.mid_block.attentions.0.{theirs}"] = f"{side}.mid.attn_1.{first}"
    found = {}
    for name, x in renamed(state, places).items():
        conv = ".mid.attn_1." in name and name.endswith("weight") and ".norm." not in name
        found[beginning + name] = x[:, :, None, None] if conv else x
    return found


def clip(module: nn.Module, beginning: str) -> dict[str, Tensor]:
    """CLIP as transformers wrote it when those files were made."""
    state = {name.removeprefix("text_model."): x for name, x in module.state_dict().items()}
    found = {
        beginning + ("" if name.startswith("text_projection") else "text_model.") + name: x for name, x in state.items()
    }
    return found | {beginning + "text_model.embeddings.position_ids": torch.arange(77)[None]}


OPEN_CLIP = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
             "mlp.fc2": "mlp.c_proj"}  # fmt: skip


def open_clip(module: Any, beginning: str) -> dict[str, Tensor]:
    state = {name.removeprefix("text_model."): x for name, x in module.state_dict().items()}
    found = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    width = state["embeddings.position_embedding.weight"].shape[1]
    found["text_projection"] = (
        state["text_projection.weight"].T if "text_projection.weight" in state else torch.eye(width)
    )
    for k in range(module.config.num_hidden_layers):
        layer = {name.removeprefix(f"encoder.layers.{k}."): x for name, x in state.items() if f"layers.{k}." in name}
        block = f"transformer.resblocks.{k}"
        for kind in ("weight", "bias"):
            three = torch.cat([layer[f"self_attn.{one}_proj.{kind}"] for one in "qkv"])
            found[f"{block}.attn.in_proj_{kind}"] = three
            found |= {f"{block}.{first}.{kind}": layer[f"{theirs}.{kind}"] for theirs, first in OPEN_CLIP.items()}
    return {beginning + name: x for name, x in found.items()}


def sd3(module: Any) -> dict[str, Tensor]:
    state, found = module.state_dict(), {}
    last = module.config.num_layers - 1

    def swapped(x: Tensor) -> Tensor:  # diffusers has scale before shift
        return torch.cat(x.chunk(2)[::-1])

    alone = {"pos_embed.proj": "x_embedder.proj", "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
             "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2", "context_embedder": "context_embedder",
             "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0", "proj_out": "final_layer.linear",
             "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2"}  # fmt: skip
    for theirs, first in alone.items():
        for kind in ("weight", "bias"):
            found[f"{first}.{kind}"] = state[f"{theirs}.{kind}"]
    found["pos_embed"] = state["pos_embed.pos_embed"]
    for kind in ("weight", "bias"):
        found[f"final_layer.adaLN_modulation.1.{kind}"] = swapped(state[f"norm_out.linear.{kind}"])
    for i in range(last + 1):
        old, new = f"transformer_blocks.{i}", f"joint_blocks.{i}"
        for kind in ("weight", "bias"):
            for attn in ("attn", "attn2"):
                if f"{old}.{attn}.to_q.weight" in state:
                    three = torch.cat([state[f"{old}.{attn}.to_{one}.{kind}"] for one in "qkv"])
                    found[f"{new}.x_block.{attn}.qkv.{kind}"] = three
                    found[f"{new}.x_block.{attn}.proj.{kind}"] = state[f"{old}.{attn}.to_out.0.{kind}"]
            three = torch.cat([state[f"{old}.attn.add_{one}_proj.{kind}"] for one in "qkv"])
            found[f"{new}.context_block.attn.qkv.{kind}"] = three
            found[f"{new}.x_block.adaLN_modulation.1.{kind}"] = state[f"{old}.norm1.linear.{kind}"]
            context = state[f"{old}.norm1_context.linear.{kind}"]
            found[f"{new}.context_block.adaLN_modulation.1.{kind}"] = swapped(context) if i == last else context
            for place, mlp in (("ff", "x_block"), ("ff_context", "context_block")):
                if f"{old}.{place}.net.0.proj.weight" in state:
                    found[f"{new}.{mlp}.mlp.fc1.{kind}"] = state[f"{old}.{place}.net.0.proj.{kind}"]
                    found[f"{new}.{mlp}.mlp.fc2.{kind}"] = state[f"{old}.{place}.net.2.{kind}"]
            if i < last:
                found[f"{new}.context_block.attn.proj.{kind}"] = state[f"{old}.attn.to_add_out.{kind}"]
        norms = {"attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
                 "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
                 "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k"}  # fmt: skip
        for theirs, first in norms.items():
            if f"{old}.{theirs}.weight" in state:
                found[f"{new}.{first}.weight"] = state[f"{old}.{theirs}.weight"]
    return {"model.diffusion_model." + name: x for name, x in found.items()}


def tensors_of(pipe: Any) -> dict[str, Tensor]:
    """All tensors of a pipeline of Stable Diffusion 1.x, 2.x, XL or 3 as its single file names them."""
    found = vae(pipe.vae)
    if hasattr(pipe, "transformer"):
        found |= sd3(pipe.transformer) | clip(pipe.text_encoder, "text_encoders.clip_l.transformer.")
        return found | clip(pipe.text_encoder_2, "text_encoders.clip_g.transformer.")
    found |= unet(pipe.unet)
    if getattr(pipe, "text_encoder", None) is None:  # the refiner of XL
        return found | open_clip(pipe.text_encoder_2, "conditioner.embedders.0.model.")
    if hasattr(pipe, "text_encoder_2"):
        found |= clip(pipe.text_encoder, "conditioner.embedders.0.transformer.")
        return found | open_clip(pipe.text_encoder_2, "conditioner.embedders.1.model.")
    if pipe.unet.config.use_linear_projection:
        return found | open_clip(pipe.text_encoder, "cond_stage_model.model.")
    return found | clip(pipe.text_encoder, "cond_stage_model.transformer.")


def write(file: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> Path:
    save_file({name: x.contiguous().clone() for name, x in tensors.items()}, file, dict(notes or {}))
    return file
