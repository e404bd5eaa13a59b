"""Single files, as model sites publish them: which model a .safetensors file holds, told by the names of its tensors.

Such a file holds weights under the names of the model's first program, and says nothing else; the configurations of the
published models ship with this package (`published/*.json`). Which one belongs to a file:

| model                | told by (after "model.diffusion_model.")                          |
|----------------------|-------------------------------------------------------------------|
| Stable Diffusion 1.x | input_blocks, proj_in is a convolution                            |
| Stable Diffusion 2.x | input_blocks, proj_in is linear; eps or v by the published name,  |
|                      | the file's notes, or `prediction`, because no tensor says it      |
| Stable Diffusion XL  | input_blocks and label_emb; tensors "v_pred" and "ztsnr"; its     |
|                      | refiner has another width of label_emb, and one text encoder      |
| Stable Diffusion 3   | joint_blocks; 3.5 has ln_q, 3.5 medium attn2 as well              |
| FLUX.1               | double_blocks; dev has guidance_in                                |

Every tensor must have a place in a part, and every part its tensors in the right shapes (`checkpoints`); what is
something else is refused by name. Only the header is read here, and nothing is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.stable_diffusion.families import REFINER
from diffusion_explained.stable_diffusion.headers import Header, read_header
from diffusion_explained.stable_diffusion.listing import CHECKER, INDEX, T5

PUBLISHED = Path(__file__).parent / "published"
NETWORK = "model.diffusion_model."
FIRST_CONV, FIRST_TEXT = "input_blocks.0.0.weight", "input_blocks.1.1.proj_in.weight"
FIRST_SIZE = "label_emb.0.0.weight"
TEXT_OF_REFINER = "conditioner.embedders.0.model."

# where the tensors of each part are, by the beginnings of their names
LDM = {"unet": (NETWORK,), "vae": ("first_stage_model.", "vae.")}
COMFY = {"text_encoder": ("text_encoders.clip_l.transformer.",)}
PLACES: dict[str, dict[str, tuple[str, ...]]] = {
    "sd1": {**LDM, "text_encoder": ("cond_stage_model.transformer.",)},
    "sd2": {**LDM, "text_encoder": ("cond_stage_model.model.",)},
    "sdxl": {
        **LDM,
        "text_encoder": ("conditioner.embedders.0.transformer.",),
        "text_encoder_2": ("conditioner.embedders.1.model.",),
    },
    REFINER: {**LDM, "text_encoder_2": (TEXT_OF_REFINER,)},
    "sd3": {
        "transformer": (NETWORK,),
        "vae": ("first_stage_model.",),
        **COMFY,
        "text_encoder_2": ("text_encoders.clip_g.transformer.",),
        T5: ("text_encoders.t5xxl.transformer.",),
    },
    "flux": {
        "transformer": (NETWORK, "double_blocks.", "single_blocks.", "img_in.", "txt_in.", "time_in.", "vector_in.",
                        "guidance_in.", "final_layer."),
        "vae": ("vae.",),
        **COMFY,
        "text_encoder_2": ("text_encoders.t5xxl.transformer.",),
    },
}  # fmt: skip
# tensors that belong to no part and change no picture: copies by exponential averages, and numbers of the schedule
NOTES = re.compile(
    r"model_ema\.|(sqrt_|log_|posterior_)\w+$|betas$|alphas_cumprod(_prev)?$|logvar$|lvlb_weights$|denoiser\.sigmas$"
    r"|v_pred$|ztsnr$|global_step$|text_encoders\.\w+\.logit_scale$|conditioner\.embedders\.\d\.logit_scale$"
)
# a part of a tensor's name -> what the file is; after ":" what to do with it
FOLDER = "give its folder in diffusers' format, or its name on the hub"
FOREIGN = {
    r"lora_(unet|te)|\.lora_(A|B|down|up|linear)|\.(lokr|loha|hada)_": "a LoRA, which belongs to a model: load that "
    "model, and then call model.load_lora",
    r"^(string_to_param|emb_params|clip_[lg])$": "a textual inversion: load its model, and then call "
    "model.load_embedding",
    r"\.(absmax|quant_map|scale_weight|scale_input|comfy_quant|qweight)$|^scaled_fp8$": "quantised with scales of its "
    "own",
    r"^edm_mean$": f"Playground v2.5: {FOLDER}",
    r"^edm_vpred": "CosXL",
    r"^(control_model|controlnet_|input_hint_block)": "a ControlNet: load its model, and then call load_control with a "
    "folder in diffusers' format",
    r"^(image_proj|ip_adapter)\.": "an IP-Adapter: load its model, and then call load_image_prompt",
    r"^adapter\.body\.": "a T2I-Adapter",
    r"motion_modules\.": "a motion module of AnimateDiff",
    r"\.time_(mixer|stack)\.": "Stable Video Diffusion",
    r"double_stream_modulation_img": f"FLUX.2: {FOLDER} (FLUX.2 klein)",
    r"distilled_guidance_layer": "Chroma",
    r"individual_token_refiner": "HunyuanVideo",
    r"double_stream_blocks\.": "HiDream-I1",
    r"clip_txt_(pooled_)?mapper": "Stable Cascade",
    r"(^|\.)txt_norm\.weight$": f"Qwen-Image: {FOLDER}",
    r"(^|\.)(double_layers\.|cond_seq_linear)": f"AuraFlow: {FOLDER}",
    r"^(model\.diffusion_model\.)?(noise_refiner|cap_embedder)": f"Lumina Image 2.0 or Z-Image: {FOLDER}",
    r"^(model\.diffusion_model\.)?y_embedder\.y_(proj|embedding)": f"PixArt or SANA: {FOLDER}",
    r"^(model\.diffusion_model\.)?(adaln_single|caption_projection)": f"PixArt or LTX-Video: {FOLDER}",
    r"^(model\.diffusion_model\.)?blocks\.0\.(self_attn|cross_attn)\.": "Wan",
    r"^(down_blocks|transformer_blocks|single_transformer_blocks)\.": "one part of a pipeline in diffusers' format: "
    "give the folder with its model_index.json",
    r"^(encoder|decoder)\.(down|up|down_blocks|up_blocks)\.": "an autoencoder: load a model, and give this file as "
    "vae=",
    r"^(encoder\.block\.0\.|text_model\.encoder\.)": "a text encoder: give a folder in diffusers' format that has it "
    "as parts_from= of a model",
    r"(^|\.)(RDB|rdb)\d\.": "an upscaler of finished pictures",
}  # fmt: skip
SINGLE = "Stable Diffusion 1.x, 2.x, XL and its refiner, 3, 3.5 and FLUX.1"
# FLUX.1 for more than text to image: by the inputs of its first layer
OF_FLUX = {384: "FLUX.1 Fill", 128: "FLUX.1 Canny or Depth"}
FLUX_INPUTS = 64
AUTOENCODERS = ("decoder.up.", "decoder.up_blocks.", "first_stage_model.decoder.up.", "vae.decoder.up.")
# published autoencoders whose tensors have the same names and shapes
VAE_NAMES = {r"sd-?_?xl|xl[-_]?vae": "sdxl", r"vae-ft-(mse|ema)|kl-f8": "sd"}
PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
OF_SD2 = {  # the published files of Stable Diffusion 2.x
    "768-v-ema": "v", "v2-1_768-ema-pruned": "v", "v2-1_768-nonema-pruned": "v", "512-base-ema": "eps",
    "v2-1_512-ema-pruned": "eps", "v2-1_512-nonema-pruned": "eps", "512-inpainting-ema": "eps",
}  # fmt: skip
NOTED = {
    "epsilon": "eps",
    "eps": "eps",
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
}  # modelspec.prediction_type


@dataclass(frozen=True)
class Identity:
    """Which model a file holds.

    layout: its places in `PLACES`; configs: of each part, of the scheduler with its class, and INDEX; held: for each
    part that the file has, the beginnings of its names.
    """

    layout: str
    title: str
    configs: Mapping[str, Mapping[str, Any]]
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def facts_of(name: str) -> dict[str, Any]:
    """The configurations of a published model, by part; "model_index" lists them."""
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


def identify(file: Path, prediction: str | None = None) -> Identity:
    """Which model a single file holds; prediction: "eps" or "v", for a file that does not say.

    Raises ValueError for a file that holds another model, something else, or tensors that belong to no part; OSError
    for one that is damaged.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise unknown_name("prediction", prediction, PREDICTIONS)
    header = read_header(file)
    found = _identity(header, file, prediction)
    places = PLACES[found.layout]
    held = {part: begin for part, begin in places.items() if any(map(header.begins, begin))}
    beginnings = tuple(begin for part in held for begin in held[part])
    strange = [name for name in header.shapes if not name.startswith(beginnings) and not NOTES.match(name)]
    if strange:
        raise ValueError(
            f"{file} looks like {found.title}, but {len(strange)} of its tensors belong to none of its parts "
            f"({', '.join(shortened(name) for name in strange[:3])}): this file is not supported."
        )
    return replace(found, held=held)


def _identity(header: Header, file: Path, prediction: str | None) -> Identity:
    names = {name.removeprefix(NETWORK): shape for name, shape in header.shapes.items()}
    for pattern, known_as in FOREIGN.items():
        if any(re.search(pattern, name) for name in header.shapes):
            raise ValueError(f"{file} is {known_as}.") if ":" in known_as else _unsupported(file, known_as)
    if any(name.startswith("joint_blocks.") for name in names):
        kind = "sd3"
        if any(".ln_q." in name for name in names):
            kind = "sd35_medium" if any(".attn2." in name for name in names) else "sd35_large"
        return _flow("sd3", "Stable Diffusion 3" + (".5" if kind != "sd3" else ""), kind, file, prediction)
    if any(name.startswith("double_blocks.") for name in names):
        dev = any(name.startswith("guidance_in.") for name in names)
        inputs = names.get("img_in.weight", (0, FLUX_INPUTS))[1]
        if inputs != FLUX_INPUTS or "kontext" in file.stem.lower():  # no tensor tells Kontext from dev
            raise _unsupported(file, OF_FLUX.get(inputs, "FLUX.1 Kontext"))
        name = "dev" if dev else "schnell"
        return _flow("flux", f"FLUX.1 {name}", f"flux_{name}", file, prediction)
    if NETWORK + FIRST_CONV not in header.shapes:
        raise ValueError(
            f"{file} is no model in one file that is supported: those are {SINGLE} (its first tensors are "
            f"{', '.join(shortened(name) for name in list(header.shapes)[:3]) or 'none'}). Give one of those, or the "
            "folder of another model in diffusers' format."
        )
    xl = any(name.startswith("label_emb.") for name in names)
    if xl and header.begins("cond_stage_model."):
        raise _unsupported(file, "unCLIP for Stable Diffusion 2.1")
    two = not xl and len(names.get(FIRST_TEXT, ())) == 2
    layout = (REFINER if _refines(header, names) else "sdxl") if xl else "sd2" if two else "sd1"
    title = {"sdxl": "Stable Diffusion XL", "sd2": "Stable Diffusion 2.x", "sd1": "Stable Diffusion 1.x",
             REFINER: "Stable Diffusion XL's refiner"}[layout]  # fmt: skip
    predicts = _prediction(header, file, prediction, layout)
    return _inputs(_predicting(layout, title, predicts, header), names[FIRST_CONV], file)


def _unsupported(file: Path, known_as: str) -> ValueError:
    return ValueError(
        f"{file} is {known_as}, which is not supported as a single file; supported are {SINGLE}. Give one of those, or "
        "run this file with the program that it was made for."
    )


def _refines(header: Header, names: Mapping[str, tuple[int, ...]]) -> bool:
    width = facts_of(REFINER)["unet"]["projection_class_embeddings_input_dim"]
    return header.begins(TEXT_OF_REFINER) or names.get(FIRST_SIZE, ())[1:] == (width,)


def _flow(layout: str, title: str, kind: str, file: Path, prediction: str | None) -> Identity:
    if prediction is not None:
        raise ValueError(f"{file} is {title}, which predicts a velocity: leave prediction out.")
    return _published(layout, title, kind)


def _published(layout: str, title: str, kind: str) -> Identity:
    facts = facts_of(kind)
    configs = {**{part: facts[part] for part in PLACES[layout]}, "scheduler": facts["scheduler"]}
    return Identity(layout, title, {**configs, INDEX: facts["model_index"]})


def _prediction(header: Header, file: Path, given: str | None, layout: str) -> str:
    """What a U-Net predicts: by its tensors, its notes, its published name, or as given, which may not differ."""
    noted = NOTED.get(header.notes.get("modelspec.prediction_type", "").lower())
    if "v2-768-v" in header.notes.get("modelspec.architecture", ""):
        noted = "v"
    said = "v" if "v_pred" in header.shapes else noted or (OF_SD2.get(file.stem) if layout == "sd2" else None)
    if said is not None and given not in (None, said):
        raise ValueError(f"{file} says that it predicts {said}, and prediction is {given!r}: leave prediction out.")
    if (found := said or given) is not None:
        return found
    if layout == "sd2":
        raise ValueError(
            f'{file} is a Stable Diffusion 2.x, and nothing in it says what its network predicts: give prediction="v" '
            'for a model of 768 x 768 pixels (2.0-v, 2.1), or prediction="eps" for one of 512 x 512 ("base").'
        )
    return "eps"


def _predicting(layout: str, title: str, predicts: str, header: Header) -> Identity:
    of_sd = {"sd1": "sd15", "sd2": "sd21_v" if predicts == "v" else "sd21_base"}
    kind = of_sd.get(layout, layout)
    if layout == "sdxl" and predicts == "v":
        kind = "sdxl_v_zero_snr"
    found = _published(layout, title, kind)
    scheduler = {**found.configs["scheduler"], "prediction_type": PREDICTIONS[predicts]}
    if "ztsnr" in header.shapes or "rescale_betas_zero_snr" in scheduler:
        if layout == "sd1":
            scheduler["_class_name"] = "DDIMScheduler"  # PNDM has no zero terminal SNR
            del scheduler["skip_prk_steps"]
        scheduler["rescale_betas_zero_snr"] = "ztsnr" in header.shapes
    return replace(found, configs={**found.configs, "scheduler": scheduler})


def _inputs(found: Identity, first: tuple[int, ...], file: Path) -> Identity:
    """The identity, with an inpainting pipeline for 9 input channels. Raises ValueError for other numbers."""
    channels = first[1] if len(first) == 4 else 0
    if channels == 4:
        return found
    if channels != 9 or found.layout == REFINER:
        known = {5: "for depth to image", 7: "for an upscaler", 8: "for InstructPix2Pix"}
        what = known.get(channels, f"with {channels} input channels")
        raise _unsupported(file, f"{found.title} {what}")
    index = dict(found.configs[INDEX])
    index["_class_name"] = str(index["_class_name"]).replace("Pipeline", "InpaintPipeline")
    unet = {**found.configs["unet"], "in_channels": 9}
    return replace(found, title=f"{found.title} for inpainting", configs={**found.configs, INDEX: index, "unet": unet})


# -- a whole model --------------------------------------------------------------------------------------------


def index_of(found: Identity, *, t5: bool) -> dict[str, Any]:
    """The model_index.json of a file's model, without a safety checker, and for Stable Diffusion 3 with T5 if `t5`."""
    index = {part: value for part, value in found.configs[INDEX].items() if part not in (CHECKER, "feature_extractor")}
    if found.layout == "sd3" and not t5:
        index |= {T5: [None, None], "tokenizer_3": [None, None]}
    return index


def check_vae_file(file: Path) -> None:
    """Raise ValueError for a file that does not hold an autoencoder alone, OSError for one that is damaged."""
    header = read_header(file)
    if not any(map(header.begins, AUTOENCODERS)):
        raise ValueError(
            f"{file} holds no autoencoder of a picture model: vae= takes a .safetensors file of one alone."
        )


def check_vae_fits(file: Path, family: str, title: str, channels: int) -> None:
    """Raise ValueError for an autoencoder of other latents than a model's, by its tensors or by its published name.

    channels: of the model's latents.
    """
    first = [shape for name, shape in read_header(file).shapes.items() if name.endswith("decoder.conv_in.weight")]
    given = first[0][1] if first and len(first[0]) == 4 else channels
    if given != channels:
        raise ValueError(
            f"{file} is an autoencoder of latents with {given} channels, and those of {title} have {channels}: give "
            "one of the same family."
        )
    made_for = next((name for pattern, name in VAE_NAMES.items() if re.search(pattern, file.stem.lower())), family)
    if family in ("sd", "sdxl") and made_for != family:
        other = "Stable Diffusion XL" if made_for == "sdxl" else "Stable Diffusion 1.x or 2.x"
        raise ValueError(
            f"{file} is by its name the autoencoder of {other}, and the model is {title}, whose latents have another "
            "scale: give one of the same family. (Rename the file if its name is wrong.)"
        )
