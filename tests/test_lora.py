"""LoRAs: files of diffusers and kohya's scripts, the sum in the weights, and the weights of before after unloading."""

import json
import re
from typing import Any

import pytest
import single_file_layouts as layouts
import torch
from torch import Tensor, nn

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import record, stand_in
from diffusion_explained.stable_diffusion.model import StableDiffusion

OF_ATTENTION = re.compile(
    r"(attn[12]?\.to_(q|k|v|out\.0)|proj_in|self_attn\.[qkv]_proj|mlp\.fc1|resnets\.0\.conv1|time_emb_proj)$"
)
RANK = 3


def parts_of(model: StableDiffusion) -> list[str]:
    found = [name for name, part in model.pipe.components.items() if isinstance(part, nn.Module) and name != "vae"]
    return sorted(found)


def factors_of(model: StableDiffusion, parts: list[str]) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """{(part, layer): (A, B)}, random, for the layers that LoRAs usually change."""
    draw = torch.Generator().manual_seed(1)
    found = {}
    for part in parts:
        for name, layer in getattr(model.pipe, part).named_modules():
            if OF_ATTENTION.search(name) and isinstance(layer, nn.Linear | nn.Conv2d):
                out, into, *kernel = layer.weight.shape
                down = torch.randn(RANK, into, *kernel, generator=draw) * 0.1
                up = torch.randn(out, RANK, *[1] * len(kernel), generator=draw) * 0.1
                found[part, name] = (down, up)
    return found


def first_name(part: str, name: str, model: StableDiffusion) -> str:
    """A layer's name in kohya's files: of diffusers' layers for Stable Diffusion 1.x, of the first program's for XL."""
    if part.startswith("text"):
        number = {"text_encoder": "1", "text_encoder_2": "2"}[part] if model.family.name == "sdxl" else ""
        name = "text_model." + name.removeprefix("text_model.")
        return f"lora_te{number}_{name.replace('.', '_')}"
    if model.family.name == "sdxl":
        probe = {f"{name}.weight": torch.zeros(1)}
        named = layouts.unet(type("U", (), {"config": model.network.config, "state_dict": lambda self: UNET | probe})())
        name = next(new for new, x in named.items() if x is probe[f"{name}.weight"])
        name = name.removeprefix("model.diffusion_model.").removesuffix(".weight")
    return f"lora_unet_{name.replace('.', '_')}"


UNET: dict[str, Tensor] = {}


def written(file: Any, model: StableDiffusion, factors: Any, style: str, alpha: float) -> Any:
    tensors, notes = {}, {}
    UNET.clear()
    if model.family.name == "sdxl":
        UNET.update({name: torch.zeros(1) for name in model.network.state_dict()})
    for (part, name), (down, up) in factors.items():
        if style == "kohya":
            first = first_name(part, name, model)
            tensors |= {
                f"{first}.lora_down.weight": down,
                f"{first}.lora_up.weight": up,
                f"{first}.alpha": torch.tensor(alpha),
            }
        elif style == "diffusers":
            tensors |= {f"{part}.{name}.lora_A.weight": down, f"{part}.{name}.lora_B.weight": up}
            notes["lora_adapter_metadata"] = json.dumps(
                {f"{p}.lora_alpha": alpha for p, _ in factors} | {"unet.r": RANK}
            )
        else:  # diffusers' before peft: alpha is the rank
            place = re.sub(r"\.to_(q|k|v|out)(\.0)?$", r".processor.to_\1_lora", name)
            place = place if place != name else name + ".lora"
            tensors |= {f"{part}.{place}.down.weight": down, f"{part}.{place}.up.weight": up}
    return layouts.write(file, tensors, notes)


def weights(model: StableDiffusion) -> dict[str, Tensor]:
    found = {}
    for part in parts_of(model):
        found |= {f"{part}.{name}": x.clone() for name, x in getattr(model.pipe, part).state_dict().items()}
    return found


def latents(model: StableDiffusion) -> Tensor:
    return final(model.steps("a photo of a cat", 1, 2, seed=3, guidance_scale=3.0, height=64, width=64))


class Beside:
    """A LoRA as the paper draws it: W x + s (alpha / r) B (A x), by a hook on each layer, and no weight is changed."""

    def __init__(self, model: StableDiffusion, factors: Any, factor: float) -> None:
        self.hooks = []
        for (part, name), (down, up) in factors.items():
            layer = getattr(model.pipe, part).get_submodule(name)
            self.hooks.append(layer.register_forward_hook(self.hook(layer, down, up, factor)))

    @staticmethod
    def hook(layer: Any, down: Tensor, up: Tensor, factor: float) -> Any:
        def add(module: nn.Module, given: tuple[Tensor], output: Tensor) -> Tensor:
            if isinstance(layer, nn.Conv2d):
                low = nn.functional.conv2d(given[0], down, None, layer.stride, layer.padding)
                return output + factor * nn.functional.conv2d(low, up)
            return output + factor * (given[0] @ down.flatten(1).T @ up.flatten(1).T)

        return add

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("family", "style"),
    [
        ("sd", "diffusers"),
        ("sd", "kohya"),
        ("sd", "old"),
        ("sdxl", "diffusers"),
        ("sdxl", "kohya"),
        ("sd3", "diffusers"),
    ],
)
def test_a_lora_is_added_and_taken_away_to_the_bit(tmp_path, family, style):
    model = stand_in(family)
    parts = parts_of(model) if style != "old" else [model.family.network]
    factors = factors_of(model, parts)
    assert {part for part, _ in factors} == set(parts)
    alpha = RANK if style == "old" else 2.0
    file = written(tmp_path / "style.safetensors", model, factors, style, alpha)
    before, plain = weights(model), latents(model)
    beside = Beside(model, factors, 0.7 * alpha / RANK)
    expected = latents(model)
    beside.remove()
    assert (expected - plain).abs().max() > 1e-2
    assert model.load_lora(file, scale=0.7) == "style" and model.loras == {"style": 0.7}
    torch.testing.assert_close(latents(model), expected, rtol=1e-4, atol=1e-4)
    model.unload_lora()
    assert model.loras == {} and all(torch.equal(x, before[name]) for name, x in weights(model).items())
    assert torch.equal(latents(model), plain)


def test_two_loras_are_summed_and_one_of_them_goes(tmp_path):
    model = stand_in("sd")
    factors = factors_of(model, ["unet"])
    first = written(tmp_path / "a.safetensors", model, factors, "diffusers", 3.0)
    second = written(
        tmp_path / "b.safetensors", model, {key: (b * 2, a) for key, (b, a) in factors.items()}, "kohya", 3.0
    )
    before = weights(model)
    model.load_lora(first)
    one = weights(model)
    model.load_lora(second, scale=-0.5)  # twice as large, taken away half: nothing is left
    for name, x in weights(model).items():
        torch.testing.assert_close(x, before[name], atol=1e-6, rtol=1e-5)
    trace = record(model, "a cat", num_inference_steps=1, height=64, width=64, spacing="trailing")
    assert trace.settings["model"] == f"{model.name} + a (1) + b (-0.5)"
    model.unload_lora("b")
    assert all(torch.equal(x, one[name]) for name, x in weights(model).items())
    with pytest.raises(ValueError, match="unknown LoRA 'b'"):
        model.unload_lora("b")
    with pytest.raises(ValueError, match="There is a LoRA 'a' already"):
        model.load_lora(first)
    model.load_lora(first, name="again", scale=0.0)
    assert all(torch.equal(x, one[name]) for name, x in weights(model).items())


def test_a_lora_in_float16_is_rounded_once(tmp_path):
    model = stand_in("sd", dtype=torch.bfloat16)
    factors = factors_of(model, ["unet"])
    file = written(tmp_path / "a.safetensors", model, factors, "diffusers", 3.0)
    before = weights(model)
    model.load_lora(file)
    (part, name), (down, up) = next(iter(factors.items()))
    layer = model.network.get_submodule(name)
    sum_of = before[f"{part}.{name}.weight"].float() + (up.flatten(1) @ down.flatten(1)).reshape(layer.weight.shape)
    assert torch.equal(layer.weight, sum_of.bfloat16())
    model.unload_lora()
    assert all(torch.equal(x, before[name]) for name, x in weights(model).items())


UP = torch.ones(16, 2, 1, 1)
NOTED = {"ss_base_model_version": "sdxl_base_v1-0"}


@pytest.mark.parametrize(
    ("tensors", "notes", "said"),
    [
        (
            {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.ones(2, 2048),
             "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_up.weight": torch.ones(640, 2)},
            {}, r"is a LoRA for Stable Diffusion XL, and this model is Stable Diffusion 1\.x or 2\.x \(",
        ),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(2, 9, 3, 3), "unet.conv_in.lora_B.weight": UP}, NOTED,
            r"is a LoRA for 'sdxl_base_v1-0', and this model is .* has 81 inputs and 16 outputs, and 36 and 16 here",
        ),
        ({"lora_unet_conv_in.hada_w1_a": torch.ones(2)}, {}, "and not LoHa, LoKr, DoRA"),
        ({"unet.conv_in.lora_A.weight": torch.ones(2, 4, 3, 3)}, {}, "1 of its tensors are no factors"),
        ({"cat": torch.ones(2)}, {}, "is no supported LoRA"),
        ({"lora_unet_conv_in.alpha": torch.ones(1)}, {}, "1 of its tensors are no factors"),
        (
            {"unet.conv_in.lora_A.weight": torch.ones(2, 4, 3, 3), "unet.conv_in.lora_B.weight": UP},
            {"lora_adapter_metadata": '{"unet.use_dora": true}'}, "sets 'unet.use_dora' to True, which is not",
        ),
        (
            {"lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": torch.ones(2, 32),
             "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight": torch.ones(96, 2)},
            {}, "a LoRA for Stable Diffusion 3, FLUX.1 or another transformer, and this model is Stable Diffusion 1",
        ),
    ],
)  # fmt: skip
def test_what_is_no_lora_of_the_model_is_refused_and_changes_nothing(tmp_path, tensors, notes, said):
    model = stand_in("sd")
    before = weights(model)
    with pytest.raises(ValueError, match=said):
        model.load_lora(layouts.write(tmp_path / "file.safetensors", tensors, notes))
    assert model.loras == {} and all(torch.equal(x, before[name]) for name, x in weights(model).items())


def test_a_pickled_lora_and_an_impossible_scale_are_refused(tmp_path):
    model = stand_in("sd")
    (tmp_path / "lora.pt").write_bytes(b"\x80")
    with pytest.raises(ValueError, match="pickled weights can run code"):
        model.load_lora(tmp_path / "lora.pt")
    with pytest.raises(ValueError, match="scale must be a number from -100 to 100"):
        model.load_lora(tmp_path / "lora.safetensors", scale=float("nan"))
