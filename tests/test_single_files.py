"""A model in one file: written in the published names from tiny weights, and read back to the same latents."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import diffusers
import published
import pytest
import single_file_layouts as layouts
import tiny_pipelines
import torch
import transformers
from torch import Tensor

from diffusion_explained.samplers import final
from diffusion_explained.stable_diffusion import WeightsUnavailableError, find_weights, forecast, load, single_files
from diffusion_explained.stable_diffusion.checkpoints import part_of_file
from diffusion_explained.stable_diffusion.clip_vocabulary import clip_tokenizer
from diffusion_explained.stable_diffusion.defaults import defaults_of_weights
from diffusion_explained.stable_diffusion.families import family_of_pipeline
from diffusion_explained.stable_diffusion.loading import of_pipeline
from diffusion_explained.stable_diffusion.single_files import PUBLISHED, facts_of, identify

SMALL_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PUBLISHED_FACTS = facts_of


@functools.cache
def tiny(name: str) -> dict[str, Any]:
    """The shipped configurations of a model, at tiny widths."""
    facts = copy.deepcopy(PUBLISHED_FACTS(name))
    network = "transformer" if "transformer" in facts else "unet"
    for part in (network, "vae"):
        facts[part] = published.shrink(part, facts[part])
    for part in ("text_encoder", "text_encoder_2"):
        if part in facts and facts[part]["model_type"] != "t5":
            facts[part] |= SMALL_CLIP | {"projection_dim": 32}
    return facts


@pytest.fixture(autouse=True)
def tiny_models(monkeypatch):
    monkeypatch.setattr(single_files, "facts_of", tiny)


@functools.cache
def pipe_of(name: str, channels: int = 4, scheduler: tuple[tuple[str, Any], ...] = ()) -> Any:
    """A pipeline of diffusers with the shipped configurations and random weights."""
    facts = tiny(name)
    index = facts["model_index"]
    network = "transformer" if "transformer" in facts else "unet"
    more = {} if channels == 4 or network == "transformer" else {"in_channels": channels}
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        parts: dict[str, Any] = {
            part: getattr(diffusers, index[part][1]).from_config(facts[part] | (more if part == network else {}))
            for part in (network, "vae")
        }
        for part in ("text_encoder", "text_encoder_2"):
            if part in facts:
                config = transformers.CLIPTextConfig(**facts[part])
                parts[part] = getattr(transformers, index[part][1])(config)
        for module in parts.values():
            for x in module.parameters():
                x.data += 0.02 * torch.randn_like(x)  # norms and biases too
    if network == "transformer":  # as the published model has it: diffusers' converter says so
        parts["text_encoder"].text_projection.weight.data = torch.eye(32)
    pads = ("!",) if name.startswith("sd2") else ("<|endoftext|>", "!")
    parts |= {
        f"tokenizer{'_2' * k}": clip_tokenizer(pad) for k, pad in enumerate(pads[: sum("text" in p for p in parts)])
    }
    config = facts["scheduler"] | dict(scheduler)
    parts["scheduler"] = getattr(diffusers, config["_class_name"]).from_config(config)
    if network == "transformer":
        parts |= {"text_encoder_3": None, "tokenizer_3": None}
    elif "text_encoder" not in parts:
        parts |= {"text_encoder": None, "tokenizer": None, "tokenizer_2": clip_tokenizer("!")}
        parts |= {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False, "add_watermarker": False}
    elif "text_encoder_2" not in parts:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    made = index["_class_name"].replace("Pipeline", "InpaintPipeline") if channels == 9 else index["_class_name"]
    return getattr(diffusers, made)(**parts)


def written(file: Path, name: str, *, channels: int = 4, keys: tuple[str, ...] = (), **scheduler: Any) -> Any:
    """Write a model as a single file; return its pipeline."""
    pipe = pipe_of(name, channels, tuple(scheduler.items()))
    layouts.write(file, layouts.tensors_of(pipe) | {key: torch.zeros(1) for key in keys})
    return pipe


def latents(model: Any, **options: Any) -> Tensor:
    size = {} if "image" in options else {"height": 64, "width": 64}
    return final(model.steps("a photo of a cat, blue", 1, 2, seed=3, guidance_scale=3.0, **size, **options))


def close(got: Tensor, expected: Tensor) -> None:
    """The same weights in other places of the memory: a product may round differently."""
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=5e-4)


def set_in(config: Any) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "_use_default_values"}


MODELS = {  # file -> (its facts, what is special)
    "sd_v1-5.safetensors": ("sd15", {}),
    "v2-1_768-ema-pruned.safetensors": ("sd21_v", {}),
    "sd_xl_base_1.0.safetensors": ("sdxl", {}),
    "noob_v.safetensors": ("sdxl_v_zero_snr", {"keys": ("v_pred", "ztsnr")}),
    "sd_xl_refiner_1.0.safetensors": ("sdxl_refiner", {}),
    "sd3_medium_incl_clips.safetensors": ("sd3", {}),
    "sd3.5_medium.safetensors": ("sd35_medium", {}),
    "sd3.5_large.safetensors": ("sd35_large", {}),
    "v1_v.safetensors": ("sd15", {"keys": ("v_pred",), "prediction_type": "v_prediction"}),
}


@pytest.mark.parametrize("file", MODELS)
def test_a_single_file_gives_the_latents_of_its_pipeline(tmp_path, file):
    name, special = MODELS[file]
    pipe = written(tmp_path / file, name, **special)
    model = load(tmp_path / file, device="cpu")
    same = of_pipeline(pipe, family_of_pipeline(type(pipe).__name__), file, "live")
    assert set_in(model.scheduler_config) == set_in(same.scheduler_config) and model.family is same.family
    assert model.label == "live" and model.kind == same.kind
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            loaded = getattr(model.pipe, part).state_dict()
            assert all(torch.equal(loaded[key], value) for key, value in module.state_dict().items()), part
            assert not getattr(model.pipe, part).training
    close(latents(model), latents(same))
    assert model.defaults == defaults_of_weights(find_weights(tmp_path / file)) == same.defaults
    assert forecast(tmp_path / file).need("float32").weights == tiny_pipelines.loaded_bytes(model.pipe)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_nine_input_channels_are_inpainting(tmp_path, name):
    pipe = written(tmp_path / "inpaint.safetensors", name, channels=9)
    model = load(tmp_path / "inpaint.safetensors", device="cpu")
    assert type(model.pipe) is type(pipe)
    given = {"image": torch.zeros(3, 64, 64), "mask": torch.ones(64, 64)}
    same = of_pipeline(pipe, model.family, "same", "live")
    close(latents(model, **given), latents(same, **given))


def test_the_refiners_network_alone_is_told_by_its_inputs_and_takes_the_rest_from_a_refiner(tmp_path):
    pipe = pipe_of("sdxl_refiner")
    file = layouts.write(tmp_path / "refiner_unet.safetensors", layouts.unet(pipe.unet))
    with pytest.raises(WeightsUnavailableError, match="XL's refiner, but no vae, text_encoder_2"):
        find_weights(file)
    pipe.save_pretrained(tmp_path / "refiner")
    model = load(file, device="cpu", parts_from=tmp_path / "refiner")
    assert model.family.name == "sdxl_refiner" and model.pipe.config.requires_aesthetics_score
    inpaints = {n: x for n, x in layouts.unet(pipe.unet).items() if "input_blocks.0.0.weight" not in n}
    inpaints["model.diffusion_model.input_blocks.0.0.weight"] = torch.ones(16, 9, 3, 3)
    with pytest.raises(ValueError, match="refiner with 9 input channels, which is not supported"):
        find_weights(layouts.write(tmp_path / "nine.safetensors", inpaints))


def test_a_prediction_for_a_model_that_predicts_a_velocity_is_refused(tmp_path):
    written(tmp_path / "sd3.safetensors", "sd3")
    with pytest.raises(ValueError, match="which predicts a velocity: leave prediction out"):
        find_weights(tmp_path / "sd3.safetensors", prediction="v")


def test_a_float16_file_and_one_with_averages_of_the_training(tmp_path):
    pipe = pipe_of("sd15")
    tensors = {name: x.half() for name, x in layouts.tensors_of(pipe).items()}
    tensors |= {"model_ema." + name.replace(".", ""): x + 1 for name, x in tensors.items() if "diffusion" in name}
    file = layouts.write(tmp_path / "full.safetensors", tensors | {"betas": torch.zeros(1000)})
    model = load(file, device="cpu")
    assert model.network.dtype == torch.float32
    expected = pipe.unet.state_dict()["conv_in.weight"].half().float()
    assert torch.equal(model.network.state_dict()["conv_in.weight"], expected)


# -- what the file has not ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("whole") / "sd15"
    pipe_of("sd15").save_pretrained(made)
    return made


def test_a_pruned_file_takes_its_other_parts_from_a_folder(tmp_path, folder):
    network = {name: x + 0.01 for name, x in layouts.unet(pipe_of("sd15").unet).items()}
    file = layouts.write(tmp_path / "unet.safetensors", network)
    with pytest.raises(WeightsUnavailableError, match=r"holds Stable Diffusion 1.x, but no vae, text_encoder\. Give"):
        load(file, device="cpu")
    model = load(file, device="cpu", parts_from=folder)
    assert torch.equal(model.pipe.vae.decoder.conv_in.weight, pipe_of("sd15").vae.decoder.conv_in.weight)
    assert torch.equal(model.network.conv_in.weight, pipe_of("sd15").unet.conv_in.weight + 0.01)
    assert model.pipe.tokenizer.get_vocab() == clip_tokenizer().get_vocab()
    sdxl = layouts.write(tmp_path / "xl.safetensors", layouts.unet(pipe_of("sdxl").unet))
    with pytest.raises(ValueError, match=r"is Stable Diffusion XL, and parts_from is Stable Diffusion 1\.x or 2\.x"):
        load(sdxl, device="cpu", parts_from=folder)
    with pytest.raises(ValueError, match="parts_from and prediction are for a single"):
        load(folder, device="cpu", prediction="v")


@pytest.mark.parametrize("names", ["first_stage_model.", "", "diffusers"])
def test_an_autoencoder_in_a_file_of_its_own(tmp_path, folder, names):
    other = copy.deepcopy(pipe_of("sd15").vae)
    for x in other.parameters():
        x.data += 0.01
    tensors = other.state_dict() if names == "diffusers" else layouts.vae(other, names)
    file = layouts.write(tmp_path / "vae.safetensors", tensors)
    without = {n: x for n, x in layouts.tensors_of(pipe_of("sd15")).items() if not n.startswith("first_stage")}
    single = layouts.write(tmp_path / "pruned.safetensors", without)
    with pytest.raises(WeightsUnavailableError, match=r"but no vae\. .* or its autoencoder as vae="):
        load(single, device="cpu")
    for model in (load(single, device="cpu", vae=file), load(folder, device="cpu", vae=file)):
        assert all(torch.equal(x, other.state_dict()[n]) for n, x in model.pipe.vae.state_dict().items())
    other = layouts.write(tmp_path / "ae.safetensors", {"decoder.conv_in.weight": torch.ones(8, 16, 3, 3),
                                                        "decoder.up.0.x": torch.ones(1)})  # fmt: skip
    for given in (folder, single):
        with pytest.raises(ValueError, match=r"of latents with 16 channels, and those of .* 1\.x or 2\.x have 4"):
            find_weights(given, vae=other)
        with pytest.raises(ValueError, match="by its name the autoencoder of Stable Diffusion XL"):
            find_weights(given, vae=layouts.write(tmp_path / "sdxl_vae.safetensors", tensors))
    with pytest.raises(ValueError, match="holds no autoencoder of a picture model"):
        load(folder, device="cpu", vae=layouts.write(tmp_path / "x.safetensors", {"x": torch.ones(2)}))


def test_fluxs_transformer_needs_a_pipeline_around_it_and_has_all_its_tensors_by_name(tmp_path, monkeypatch):
    """By name and shape, at the published width: diffusers' converter holds that width in a constant."""
    facts = copy.deepcopy(PUBLISHED_FACTS("flux_dev"))
    facts["transformer"] |= {"num_layers": 1, "num_single_layers": 1}
    monkeypatch.setattr(single_files, "facts_of", lambda name: facts)
    d = 3072
    keys = {"img_in.weight": (d, 64), "txt_in.weight": (d, 4096), "final_layer.linear.weight": (64, d)}
    for one, width in (("time", 256), ("vector", 768), ("guidance", 256)):
        keys |= {f"{one}_in.in_layer.weight": (d, width), f"{one}_in.out_layer.weight": (d, d)}
    keys["final_layer.adaLN_modulation.1.weight"] = (2 * d, d)
    for side in ("img", "txt"):
        shapes = {"mod.lin": (6 * d, d), "attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.0": (4 * d, d)}
        keys |= {f"double_blocks.0.{side}_{name}.weight": shape for name, shape in shapes.items()}
        keys[f"double_blocks.0.{side}_mlp.2.weight"] = (d, 4 * d)
    keys |= {"single_blocks.0.modulation.lin.weight": (3 * d, d), "single_blocks.0.linear1.weight": (7 * d, d),
             "single_blocks.0.linear2.weight": (d, 5 * d)}  # fmt: skip
    keys |= {name.replace(".weight", ".bias"): shape[:1] for name, shape in keys.items()}
    for norm in ("query", "key"):
        keys |= {f"double_blocks.0.{side}_attn.norm.{norm}_norm.scale": (128,) for side in ("img", "txt")}
        keys[f"single_blocks.0.norm.{norm}_norm.scale"] = (128,)
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in keys.items()}
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in keys.items()}
    content = json.dumps(header).encode()
    (tmp_path / "flux1-dev.safetensors").write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(WeightsUnavailableError, match=r"holds FLUX\.1 dev, but no .*tokenizer_2.* parts_from="):
        find_weights(tmp_path / "flux1-dev.safetensors")
    identity = identify(tmp_path / "flux1-dev.safetensors")
    monkeypatch.setattr("diffusion_explained.stable_diffusion.checkpoints.tensors_of", lambda *given: tensors)
    weights = single_files_weights(tmp_path / "flux1-dev.safetensors", identity)
    module, report = part_of_file(weights, "transformer", diffusers.FluxTransformer2DModel, torch.float32)
    assert not any(report.values()) and module.config.guidance_embeds
    del tensors["double_blocks.0.txt_mlp.0.bias"], tensors["guidance_in.in_layer.bias"]
    with pytest.raises(KeyError):
        part_of_file(weights, "transformer", diffusers.FluxTransformer2DModel, torch.float32)


def single_files_weights(file: Path, identity: Any) -> Any:
    from diffusion_explained.stable_diffusion.weights import FileWeights

    family = family_of_pipeline("FluxPipeline")
    return FileWeights("flux", file.parent, family, "FluxPipeline", {}, file=file, identity=identity)


# -- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.ckpt", "model.bin", "lora.pt", "vae.pth"])
def test_pickled_files_are_refused_unopened(tmp_path, folder, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for call in (lambda: load(tmp_path / name, device="cpu"), lambda: load(folder, device="cpu", vae=tmp_path / name)):
        with pytest.raises(ValueError, match=r"pickled weights can run code when they are opened, so they are refused"):
            call()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("lora_unet_down_blocks_0.lora_up.weight", "is a LoRA, which belongs to a model"),
        ("unet.down_blocks.0.attn.to_q.lora_A.weight", "is a LoRA"),
        ("emb_params", "is a textual inversion"),
        ("model.diffusion_model.distilled_guidance_layer.in_proj.weight", "Chroma"),
        ("double_stream_modulation_img.lin.weight", "FLUX.2: give its folder in diffusers' format"),
        ("model.diffusion_model.txt_in.individual_token_refiner.x", "HunyuanVideo"),
        ("double_stream_blocks.0.block.x", "HiDream-I1"),
        ("model.diffusion_model.input_blocks.1.1.time_mixer.mix_factor", "Stable Video Diffusion"),
        ("txt_norm.weight", "Qwen-Image: give its folder"),
        ("model.diffusion_model.double_layers.0.attn.w1k.weight", "AuraFlow: give its folder"),
        ("y_embedder.y_proj.fc1.weight", "PixArt or SANA: give its folder"),
        ("blocks.0.self_attn.q.weight", "Wan, which is not supported .* supported are Stable Diffusion .* Give one of"),
        ("clip_txt_mapper.weight", "Stable Cascade"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("adapter.body.0.weight", "a T2I-Adapter"),
        ("down_blocks.0.motion_modules.0.proj.weight", "a motion module of AnimateDiff"),
        ("encoder.block.0.layer.0.SelfAttention.k.weight", "a text encoder: give a folder"),
        ("body.0.rdb1.conv1.weight", "an upscaler of finished pictures"),
        ("transformer_blocks.0.qkv_proj.qweight", "quantised"),
        ("transformer_blocks.0.attn.to_q.weight", "one part of a pipeline in diffusers' format"),
        ("control_model.input_hint_block.0.weight", "a ControlNet"),
        ("edm_mean", "Playground v2.5: give its folder"),
        ("model.diffusion_model.double_blocks.0.img_mod.lin.scale_weight", "quantised"),
        ("decoder.up.0.block.0.conv1.weight", "an autoencoder: load a model, and give this file as vae="),
        ("some.weight", "is no model in one file that is supported"),
    ],
)
def test_a_file_with_something_else_is_said_by_its_name(tmp_path, key, said):
    file = layouts.write(tmp_path / "file.safetensors", {key: torch.ones(2)})
    with pytest.raises(ValueError, match=said):
        find_weights(file)


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [("flux1-fill", 384, "FLUX.1 Fill"), ("flux1-depth", 128, "FLUX.1 Canny or Depth"),
     ("flux1-dev-kontext", 64, "FLUX.1 Kontext")],
)  # fmt: skip
def test_flux_for_more_than_text_is_said_by_its_name(tmp_path, name, inputs, said):
    tensors = {"double_blocks.0.img_mod.lin.weight": torch.ones(2, 2), "img_in.weight": torch.ones(2, inputs)}
    with pytest.raises(ValueError, match=f"is {said}, which is not supported as a single file"):
        find_weights(layouts.write(tmp_path / f"{name}.safetensors", tensors))


def test_what_a_second_stable_diffusion_predicts_is_never_guessed(tmp_path):
    tensors = layouts.tensors_of(pipe_of("sd21_v"))
    file = layouts.write(tmp_path / "someones_merge.safetensors", tensors)
    with pytest.raises(ValueError, match="nothing in it says what its network predicts: give"):
        find_weights(file)
    assert find_weights(file, prediction="v").configuration("scheduler")["prediction_type"] == "v_prediction"
    assert find_weights(file, prediction="eps").configuration("unet")["sample_size"] == 64
    noted = layouts.write(
        tmp_path / "noted.safetensors", tensors, {"modelspec.architecture": "stable-diffusion-v2-768-v"}
    )
    assert find_weights(noted).configuration("unet")["sample_size"] == 96
    with pytest.raises(ValueError, match="says that it predicts v, and prediction is 'eps'"):
        find_weights(noted, prediction="eps")
    with pytest.raises(ValueError, match="unknown prediction 'x0'"):
        find_weights(noted, prediction="x0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("model.diffusion_model.out.2.bias"), "1 tensors are missing in its files and would be random"),
        (lambda t: t.pop("cond_stage_model.transformer.text_model.final_layer_norm.bias"), "1 tensors are missing"),
        (lambda t: t.update({"model.diffusion_model.out.3.bias": torch.ones(3)}), "3 values"),
        (lambda t: t.update({"first_stage_model.decoder.extra.weight": torch.ones(5)}), "5 values"),
        (lambda t: t.update({"model.diffusion_model.out.2.bias": torch.ones(9)}), "another shape than"),
        (lambda t: t.update({"somebodys.tensor": torch.ones(1)}), "1 of its tensors belong to none of its parts"),
        (
            lambda t: t.update({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(16, 8, 3, 3)}),
            "InstructPix2Pix, which is not supported",
        ),
    ],
)
def test_a_file_that_is_not_whole_or_has_more_is_refused(tmp_path, change, said):
    tensors = layouts.tensors_of(pipe_of("sd15"))
    change(tensors)
    with pytest.raises(ValueError, match=said):
        load(layouts.write(tmp_path / "file.safetensors", tensors), device="cpu")


def test_a_damaged_file_is_refused(tmp_path):
    file = tmp_path / "file.safetensors"
    written(file, "sd15")
    whole = file.read_bytes()
    for content in (
        whole[: len(whole) // 2],
        b"",
        b"<html>not found</html>",
        b"\x10" + b"\0" * 7 + b"{not json at all",
    ):
        file.write_bytes(content)
        with pytest.raises(OSError, match=r"cut off|damaged"):
            load(file, device="cpu")
    with pytest.raises(WeightsUnavailableError, match="There is no file"):
        load(tmp_path / "nothing.safetensors", device="cpu")


def test_the_shipped_configurations_are_those_of_the_published_widths():
    for file in PUBLISHED.glob("*.json"):
        facts = PUBLISHED_FACTS(file.stem)
        assert set(facts) >= {"model_index", "scheduler", "vae"}, file
        assert {"text_encoder", "text_encoder_2"} & set(facts), file
    assert PUBLISHED_FACTS("sd15")["text_encoder"]["hidden_size"] == 768


def test_clips_vocabulary_is_the_published_one():
    tokens = clip_tokenizer()
    assert len(tokens) == 49408
    assert tokens("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (tokens.pad_token_id, clip_tokenizer("!").pad_token_id) == (49407, 0)
