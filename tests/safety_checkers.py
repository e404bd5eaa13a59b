"""A small safety checker with random weights, for folders of models that ship one."""

import json
from pathlib import Path

import torch


def list_checker(folder: Path) -> None:
    """List a safety checker in a folder's model_index.json, without its files."""
    path = folder / "model_index.json"
    listed = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **listed}))


def pickled_checker(folder: Path) -> None:
    """Give a folder a safety checker whose weights are pickled."""
    list_checker(folder)
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(b"0" * 1_000_000)


def whole_checker(folder: Path) -> torch.nn.Module:
    """Give a folder a safety checker that can be loaded, and return it."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    list_checker(folder)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 100}, vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    checker = StableDiffusionSafetyChecker(config)
    checker.save_pretrained(folder / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder / "feature_extractor")
    return checker
