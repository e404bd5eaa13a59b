"""Published models as fixtures: their own configurations, every key kept, at tiny widths and with random weights.

fixtures/published holds, of each model, the facts of its model_index.json and its scheduler's, network's and
autoencoder's configuration, written down from knowledge of the models (those that the package ships for single files
are read from there), and how its card calls it: `scheduler` is the class that the card puts in place (null: the model's
own), `sampler` ours.
"""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch

from diffusion_explained.stable_diffusion import stand_ins

SHIPPED = Path(stand_ins.__file__).parent / "published"
HERE = Path(__file__).parent / "fixtures" / "published"
NAMES = sorted(path.stem for path in HERE.glob("*.json"))
SHRUNK = {  # width by width, so that every other key is the published one
    "unet": {"block_out_channels": (16, 32, 32, 32), "norm_num_groups": 8, "layers_per_block": 1},
    "vae": {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1},
    "transformer": {
        "attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 64,
        "pooled_projection_dim": 64, "num_layers": 2, "pos_embed_max_size": 96,
    },
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    facts = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    shipped = SHIPPED / f"{name}.json"
    return facts | (json.loads(shipped.read_text(encoding="utf-8")) if shipped.is_file() else {})


def shrink(part: str, config: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a part at a few thousandths of its width."""
    small = {**config, **SHRUNK[part]}
    if part == "transformer":
        if "dual_attention_layers" in config:
            small["dual_attention_layers"] = [0]
        return small
    small["block_out_channels"] = list(small["block_out_channels"][: len(config["block_out_channels"])])
    if part == "unet":
        xl = config.get("addition_embed_type") == "text_time"
        heads = config["attention_head_dim"]
        small["attention_head_dim"] = 2 if isinstance(heads, int) else [min(4, h // 5 * 2) for h in heads]
        small["cross_attention_dim"] = 64 if xl else 32
        if xl:
            small |= {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 32}
            small["transformer_layers_per_block"] = [1, 1, 2]
        if config["cross_attention_dim"] == 1280:  # the refiner of XL: one text encoder, five numbers
            small |= {"cross_attention_dim": 32, "projection_class_embeddings_input_dim": 5 * 8 + 32}
            small["transformer_layers_per_block"] = 1
        if config.get("time_cond_proj_dim") is not None:
            small["time_cond_proj_dim"] = 16
    return small


def write(name: str, folder: Path, **changes: dict[str, Any]) -> Path:
    """A published model in diffusers' format, tiny and random; changes are merged into its files, part by part."""
    facts = read(name)
    index = facts["model_index"] | changes.pop("model_index", {})
    network = "transformer" if "transformer" in index else "unet"
    configs = {part: shrink(part, facts[part]) | changes.pop(part, {}) for part in (network, "vae")}
    scheduler = facts["scheduler"] | changes.pop("scheduler", {})
    assert not changes
    projection = 32 if network == "transformer" else None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = stand_ins._tokenizer()
        parts: dict[str, Any] = {
            part: getattr(diffusers, index[part][1]).from_config({k: v for k, v in config.items() if k[0] != "_"})
            for part, config in configs.items()
        }
        parts |= {"tokenizer": tokenizer, "text_encoder": stand_ins._clip(tokenizer, projection=projection)}
        if "text_encoder_2" in index:
            parts |= {"tokenizer_2": stand_ins._tokenizer(pad="!")}
            parts |= {"text_encoder_2": stand_ins._clip(tokenizer, projection=32)}
    for part, made in parts.items():
        made.save_pretrained(folder / part)
    for part, config in configs.items():
        (folder / part / "config.json").write_text(json.dumps(config))
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
