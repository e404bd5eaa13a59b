"""A model of any family that has a `Drive`: the interface of `StableDiffusion`, over diffusers' own pipeline.

    model = load("black-forest-labs/FLUX.1-schnell")
    for step in model.steps("a photo of a cat", num_inference_steps=4):
        show(model.decode(step.pred.x_0))

The sampler is ours, and everything else is the pipeline's own (`driving`): how it encodes a prompt, which levels it
visits, what it gives the network, how it decodes. Latents are pictures [B, C, h, w] here, however the pipeline stores
them (`layouts`), and [B, C, f, h, w] for a video.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_finite,
    check_kind_of,
    check_options,
    float_data,
    named_options,
    number,
    typed_arguments,
)
from diffusion_explained.denoisers import Denoiser, Prediction, differentiable
from diffusion_explained.predictions import to_x0_eps
from diffusion_explained.samplers import check_sampler
from diffusion_explained.schedules import Level, check_decreasing
from diffusion_explained.schedules.base import check_steps
from diffusion_explained.stable_diffusion.driving import Driver
from diffusion_explained.stable_diffusion.families import FLOW, Drive
from diffusion_explained.stable_diffusion.latents import Start, check_size
from diffusion_explained.stable_diffusion.layouts import pack, unpack
from diffusion_explained.stable_diffusion.levels import levels_of
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.model import StableDiffusion
from diffusion_explained.stable_diffusion.preview import fit_preview
from diffusion_explained.stable_diffusion.text import Text, prompts_of, tokenize

BINNED = "use_resolution_binning"  # pipelines with this argument draw at fixed sizes and resize the picture


@dataclass(frozen=True)
class PipelineText(Text):
    """A `Text` with the pipeline's own encodings: `texts`, by the arguments of its encode_prompt.

    embeds are those of the prompt that the pipeline encodes first; negative_embeds is empty. tokens are given for the
    tokenizers of CLIP and T5, which read the prompt alone; other text encoders read it within instructions of the
    pipeline's own.
    """

    texts: dict[str, Any] = field(default_factory=dict)

    @property
    def cut(self) -> tuple[str, ...]:
        """For each prompt the part that the first text encoder cut off; "" if nothing was, or no tokens are given."""
        return tuple(tokens[0].cut if tokens else "" for tokens in self.tokens)


@dataclass(frozen=True)
class PipelineDenoiser:
    """A `Denoiser` that evaluates a pipeline at x_t [B, C, h, w] (of a video [B, C, f, h, w]) and a level.

    text: one prompt for all images, or one per image; given: the arguments of guidance for the pipeline's call;
    negative: the texts of the other side of guidance, None where guidance is off or the pipeline takes none.
    """

    model: PipelineModel
    text: PipelineText
    given: dict[str, Any]
    negative: tuple[str, ...] | None = None

    @differentiable
    def __call__(self, x_t: Tensor, level: Level) -> Prediction:
        """The prediction at x_t and its level, with both sides of guidance. Raises ValueError for other shapes."""
        model, layout = self.model, self.model.drive.layout
        model.check_latents(x_t)
        check_kind_of("level", level, Level)
        prompts: dict[str, Any] = {"prompt": _for_each(self.text.prompts, len(x_t))}
        if self.negative is not None:
            prompts["negative_prompt"] = _for_each(self.negative, len(x_t))
        outputs = model.driver.evaluate(
            pack(layout, x_t),
            model.schedule.time_at(level),
            self.text.texts,
            cond_first=model.drive.cond_first,
            **prompts,
            **model.size_of(x_t),
            **self.given,
        )

        def predicted(output: Tensor) -> tuple[Tensor, Tensor]:
            return to_x0_eps(model.kind, unpack(layout, output, tuple(x_t.shape[2:])), x_t, level.alpha, level.sigma)

        x_0, eps = predicted(outputs.guided)
        if outputs.uncond is None:
            return Prediction(x_0, eps, eps)
        return Prediction(x_0, eps, predicted(outputs.cond)[1], predicted(outputs.uncond)[1])


def _for_each(texts: tuple[str, ...], count: int) -> list[str]:
    """One text per image. Raises ValueError when their number is neither 1 nor `count`."""
    if len(texts) not in (1, count):
        raise ValueError(f"There are {len(texts)} prompts for {count} images: give one prompt, or one per image.")
    return list(texts) * (count // len(texts))


@dataclass(frozen=True)
class PipelineModel(StableDiffusion):
    """A pipeline of diffusers that is driven whole: see `StableDiffusion` for the fields and for each stage.

    driver: calls the pipeline; shapes: the latent shapes that are known, by the picture's size.
    """

    driver: Driver = field(kw_only=True)
    shapes: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, kw_only=True)

    @property
    def drive(self) -> Drive:
        """How the family's pipeline is called."""
        assert self.family.drive is not None
        return self.family.drive

    @property
    def embeds_guidance(self) -> bool:
        """Whether the network takes the guidance scale as an input: one pass per step (FLUX.1 dev)."""
        return bool(self.network.config.get("guidance_embeds"))

    @property
    def denoiser_options(self) -> tuple[str, ...]:
        """The options of `denoiser` that `steps` takes too."""
        return ("true_cfg_scale",) if self.embeds_guidance else ()

    @property
    def pixels(self) -> int:
        """Picture pixels per latent pixel along each side."""
        if self.drive.layout == "video":
            return self.pipe.vae_spatial_compression_ratio
        return self.pipe.vae_scale_factor * (2 if self.drive.layout == "tokens" else 1)

    @property
    def _shows_mask(self) -> bool:
        return False

    @named_options
    @typed_arguments
    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """(C, h, w) of the latents of a picture, or (C, f, h, w) of a video. Raises ValueError for an impossible size.

        The shape is read from the noise with which the pipeline begins.
        """
        own = self.trained_size if height is None or width is None else (height, width)
        height, width = (own[0] if height is None else height), (own[1] if width is None else width)
        check_size(height, width, self.family.multiple)
        if (height, width) not in self.shapes:
            with enough_memory("preparing latents"):
                noise = self.driver.noise(height=height, width=width)
            size: tuple[int, ...] = (height // self.pixels, width // self.pixels)
            if self.drive.layout == "video":
                size = (noise.shape[1] // (size[0] * size[1]), *size)
            elif self.drive.layout == "picture" and tuple(noise.shape[2:]) != size:
                h, w = (side * self.pixels for side in noise.shape[2:])
                raise ValueError(
                    f"{self.family.title} draws at fixed sizes, and {height} x {width} is none of them: give {h} x {w}."
                )
            self.shapes[height, width] = tuple(unpack(self.drive.layout, noise, size).shape[1:])
        return self.shapes[height, width]

    def size_of(self, latents: Tensor) -> dict[str, Any]:
        """The arguments of a pipeline's call for latents [B, C, (f,) h, w]: the picture's size, a video's frames."""
        height, width = (side * self.pixels for side in latents.shape[-2:])
        size: dict[str, Any] = {"height": height, "width": width}
        if self.drive.layout == "video":
            size["num_frames"] = (latents.shape[2] - 1) * self.pipe.vae_temporal_compression_ratio + 1
        if self.driver.takes(BINNED):  # the latents have their size already
            size[BINNED] = False
        return size

    def check_latents(self, latents: Tensor) -> None:
        """Raise ValueError unless latents are [B, C, h, w], or [B, C, f, h, w] of a video, and floats."""
        dimensions = "[B, C, f, h, w]" if self.drive.layout == "video" else "[B, C, h, w]"
        if float_data("latents", latents).ndim != dimensions.count(",") + 1:
            raise ValueError(f"Latents are {dimensions}, got a tensor of shape {tuple(latents.shape)}.")

    def _check_latents(self, latents: Tensor) -> None:
        self.check_latents(latents)
        check_finite(latents, "latents", "they cannot be decoded")

    # -- the four stages ----------------------------------------------------------------------------------

    @named_options
    @typed_arguments
    def encode_text(self, prompt: str | Sequence[str], negative: str | Sequence[str] | None = None) -> PipelineText:
        """Encode prompts and negative prompts with the pipeline's own encode_prompt.

        Raises ValueError for texts that are none, for a wrong number of negative prompts, and for a negative prompt
        where the pipeline takes none.
        """
        prompts = prompts_of(prompt)
        away = None if negative is None else prompts_of(negative, "negative")
        if away is not None and not self.driver.takes("negative_prompt"):
            raise ValueError(f"{self.family.title} takes no negative prompt: leave negative out.")
        if away is not None and len(away) not in (1, len(prompts)):
            raise ValueError(
                f"There are {len(away)} negative prompts for {len(prompts)} prompts: give one, or one per prompt."
            )
        if self.embeds_guidance:
            given = self._guidance(1.0, away, 2.0 if any(away or ()) else None)
        else:  # with guidance, unless the model is used without
            guided = self.default_guidance_scale != 1 or away is not None
            given = self._guidance(2.0 + self.drive.less if guided else 1.0, away, None)
        with enough_memory("the text encoders"):
            texts = self.driver.encode(prompt=list(prompts), **_with_negative(given, len(prompts)))
        first = next(iter(texts.values()))
        embeds = next(found for found in _tensors(first) if found.ndim > 1)

        def tokens(of: tuple[str, ...]) -> tuple[Any, ...]:
            reads = self.drive.reads.items()
            return tuple(
                tuple(
                    tokenize(getattr(self.pipe, name), text, name.replace("tokenizer", "text_encoder"), length)
                    for name, length in reads
                )
                for text in of
            )

        return PipelineText(prompts, away, tokens(prompts), tokens(away or ()), embeds, embeds[:0], texts=texts)

    @named_options
    @typed_arguments
    def levels(
        self,
        num_inference_steps: int | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
        *,
        height: int | None = None,
        width: int | None = None,
    ) -> list[Level]:
        """The levels that the pipeline's own scheduler visits, read from the scheduler when the pipeline calls it.

        For a scheduler that the pipeline calls with the number of steps alone: see `levels.levels_of`, which has the
        spacings too. Raises ValueError for a spacing where the pipeline chooses the levels itself.
        """
        name = self.default_sampler if sampler is None else sampler
        check_sampler(name)
        n = check_steps(self.default_num_inference_steps if num_inference_steps is None else num_inference_steps)
        config = self.scheduler_config
        if config["_class_name"] not in FLOW:
            return levels_of(config, n, name, spacing)
        if spacing is not None:
            raise ValueError(f"The pipeline of {self.family.title} chooses the levels itself: leave spacing out.")
        own = self.trained_size
        height, width = (own[0] if height is None else height), (own[1] if width is None else width)
        check_size(height, width, self.family.multiple)
        found = self.driver.levels(n, height=height, width=width)
        sigmas = found.sigmas[: len(found.timesteps)]
        if not all(map(math.isfinite, sigmas)):
            raise ValueError(
                f"The scheduler of {self.name} has no levels for {n} steps (it ends at shift_terminal): take 2 or more."
            )
        levels = [Level(sigma, 1 - sigma, sigma) for sigma in sigmas] + [Level(0.0, 1.0, 0.0)]
        for time, level in zip(found.timesteps, levels, strict=False):
            if abs(time - self.schedule.time_at(level)) > 1e-3:
                raise ValueError(
                    f"The scheduler of {self.name} gives the network the time {time:g} at sigma {level.sigma:g}, where "
                    f"a flow has {self.schedule.time_at(level):g}: this model is not supported."
                )
        check_decreasing(levels)
        return levels

    @named_options
    @typed_arguments
    def prepare(
        self,
        seed: int | Sequence[int] = 0,
        batch_size: int | None = None,
        *,
        levels: list[Level] | None = None,
        height: int | None = None,
        width: int | None = None,
        image: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
    ) -> Start:
        """Prepare the start of sampling from noise: see `StableDiffusion.prepare`. Raises ValueError for an image."""
        if image is not None or mask is not None:
            raise ValueError(f"{self.family.title} is driven from text only: leave image and mask out.")
        return super().prepare(
            seed, batch_size, levels=levels, height=height, width=width, strength=strength, sampler=sampler,
            spacing=spacing,
        )  # fmt: skip

    @typed_arguments
    def denoiser(
        self,
        text: Text,
        guidance_scale: float | None = None,
        *,
        start: Start | None = None,
        **options: Any,
    ) -> Denoiser:
        """The pipeline as a `Denoiser` conditioned on the text.

        Args:
            text: from `encode_text` of this model.
            guidance_scale: 1 is off, as everywhere here: uncond + w (cond - uncond). A network that takes the scale as
                an input (FLUX.1 dev) gets it as an input. For Z-Image, whose pipeline computes
                cond + s (cond - uncond), w = s + 1.
            options: true_cfg_scale, for a network that takes the scale as an input: the scale of guidance away from
                the negative prompt.

        Raises ValueError for a scale below 1, which pipelines treat as off, and for a scale that the network ignores.
        """
        check_options("denoiser", options, {*self.denoiser_options, "guidance_scale", "start"})
        if not isinstance(text, PipelineText):
            raise ValueError("text must be encoded by this model: give what its encode_text returns.")
        scale = self.default_guidance_scale if guidance_scale is None else guidance_scale
        if guidance_scale is None and scale == 1 and any(text.negative or ()):
            raise ValueError(
                f"{self.name} is used without guidance, so a negative prompt does nothing: leave negative out."
            )
        given = self._guidance(scale, text.negative, options.get("true_cfg_scale"))
        return PipelineDenoiser(self, text, given, given.pop("negative_prompt", None))

    def _guidance(self, scale: float, negative: tuple[str, ...] | None, true_cfg_scale: float | None) -> dict[str, Any]:
        """The pipeline's arguments for a guidance scale; negative_prompt is a tuple, of one text or one per prompt."""
        title, drive = self.family.title, self.drive
        number("guidance_scale", scale, "a number from 0 to 1,000", 0, 1000)
        given: dict[str, Any] = {}
        if self.embeds_guidance:
            given["guidance_scale"] = float(scale)
            away = 1.0 if true_cfg_scale is None else number("true_cfg_scale", true_cfg_scale, "1 to 1,000", 1, 1000)
            if (away > 1) != any(negative or ()):
                raise ValueError(
                    f"{title} takes guidance_scale as an input of its network, without a negative side. To move away "
                    "from a negative prompt give both negative and true_cfg_scale above 1, or neither."
                )
        else:
            away = float(scale)
            if self.pipe.config.get("is_distilled") and away != 1:
                raise ValueError(
                    f"{self.name} was distilled to need no guidance and ignores it: give guidance_scale 1."
                )
            if away < 1 or 1 < away <= 1 + drive.less:
                raise ValueError(
                    f"The pipeline of {title} switches guidance off at a scale of {away:g}: give 1 for no guidance, or "
                    f"more than {1 + drive.less:g}."
                )
        if away > 1 and negative is not None:
            given["negative_prompt"] = negative
        elif away > 1 and drive.negative is not None:
            given["negative_prompt"] = (drive.negative,)
        return {**given, drive.scale: away - drive.less}

    @named_options
    @typed_arguments
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents [B, C, h, w] to pictures [B, 3, H, W] in [-1, 1], by the pipeline itself, one by one.

        A video [B, C, f, h, w] becomes [B, F, 3, H, W]. Raises ValueError for other shapes, and for NaN or infinity.
        """
        self._check_latents(latents)
        with enough_memory("decoding"):
            packed = pack(self.drive.layout, latents)
            images = torch.cat([self.driver.decode(one[None], **self.size_of(latents)) for one in packed])
        images = images.float() * 2 - 1
        check_finite(images, "decoded pictures", 'load the decoder in float32 (dtype="float32") if it is in float16')
        return images

    @named_options
    @typed_arguments
    def encode(self, images: Tensor) -> Tensor:
        """Raises ValueError: a picture is not encoded, because each pipeline encodes pictures in its own way."""
        raise ValueError(f"{self.family.title} is driven from text only: pictures are not encoded.")

    @cached_property
    def _preview(self) -> Callable[[Tensor], Tensor]:
        if self.drive.layout != "video":
            return fit_preview(self.decode, self.latent_shape()[0], self.device)
        # one frame of latents is one frame of the video; a later one is several, of which the map draws their mean
        of_frame = fit_preview(lambda z: self.decode(z[:, :, None])[:, 0], self.latent_shape()[0], self.device)
        return lambda latents: torch.stack([of_frame(frame) for frame in latents.unbind(2)], dim=1)


def _with_negative(given: dict[str, Any], count: int) -> dict[str, Any]:
    """The arguments with one negative prompt per prompt."""
    if "negative_prompt" not in given:
        return given
    return {**given, "negative_prompt": _for_each(given["negative_prompt"], count)}


def _tensors(found: Any) -> list[Tensor]:
    """The tensors of an encoded text, in their order."""
    if isinstance(found, Tensor):
        return [found]
    return [x for one in found for x in _tensors(one)] if isinstance(found, (list, tuple)) else []


def drive_pipeline(pipe: Any, name: str, family: Any, label: str, device: torch.device) -> PipelineModel:
    """A pipeline whose parts are checked, as a `PipelineModel`."""
    network = getattr(pipe, family.network)
    off = {family.drive.scale: 1.0 - family.drive.less}
    driver = Driver(pipe, family.network, device, network, dict(family.drive.arguments), off)
    return PipelineModel(name, family, pipe, label, device, network, _no_decoder, driver=driver)


def _no_decoder(latents: Tensor) -> Tensor:
    raise NotImplementedError("The pipeline decodes its latents itself: call decode.")
