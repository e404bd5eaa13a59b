"""A loaded Stable Diffusion: the counterpart of `pretrained.Model`, conditioned on a prompt instead of a label."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from diffusion_explained.checks import check_finite, check_options, float_data, named_options, typed_arguments
from diffusion_explained.denoisers import Denoiser, NetworkDenoiser
from diffusion_explained.guidance import check_guidance
from diffusion_explained.noise import streams_of
from diffusion_explained.samplers import Step, check_denoiser_alone, check_sampler, divide_options, final, run
from diffusion_explained.schedules import Level, Schedule
from diffusion_explained.stable_diffusion import latents as autoencoder
from diffusion_explained.stable_diffusion.additions import Extensible
from diffusion_explained.stable_diffusion.control import Control, ControlledDenoiser, LoadedControl, controls_of
from diffusion_explained.stable_diffusion.defaults import Defaults, defaults_of, pixels_of
from diffusion_explained.stable_diffusion.families import REFINER
from diffusion_explained.stable_diffusion.float8 import parameters_of
from diffusion_explained.stable_diffusion.forecasts import run_in_words
from diffusion_explained.stable_diffusion.image_prompts import LoadedImagePrompt, shown_pictures
from diffusion_explained.stable_diffusion.inpainting import KnownRegion, paste, repainted, repaints_with
from diffusion_explained.stable_diffusion.latents import Start, check_size
from diffusion_explained.stable_diffusion.levels import (
    config_of,
    kind_of,
    levels_of,
    schedule_of,
    start_scale,
)
from diffusion_explained.stable_diffusion.memory import enough_memory
from diffusion_explained.stable_diffusion.networks import PromptedNetwork, embedded_guidance
from diffusion_explained.stable_diffusion.preview import fit_preview
from diffusion_explained.stable_diffusion.refining import SCORES, check_refiner, refined, split, with_score
from diffusion_explained.stable_diffusion.safety import checked
from diffusion_explained.stable_diffusion.text import Text, encode_text


@dataclass(frozen=True)
class StableDiffusion(Extensible):
    """A pipeline of diffusers whose network is called by our own samplers.

    name: as given to `load`; label: "live", or "stand-in" where the weights are random and no picture can be expected.
    pipe: diffusers' pipeline, for features that are not wrapped here.
    device: the device that the pipeline computes on.
    unchecked: whether the model ships a safety checker that was left out.
    adapters: the LoRAs that its weights contain now; vocabularies: its tokenizers as they were before the first new
    word (`embeddings`); preview_decoder: a TAESD for the pictures of its steps.
    call, decode_call: the functions that run the network and the decoder, compiled or not (`fast.accelerate`).
    controls, image_prompts: the ControlNets of `load_control` and the adapters of `load_image_prompt`.
    """

    call: Callable[..., Any]
    decode_call: Callable[[Tensor], Tensor]
    unchecked: bool = False
    controls: tuple[LoadedControl, ...] = ()
    image_prompts: tuple[LoadedImagePrompt, ...] = ()

    @property
    def network(self) -> Any:
        """The U-Net or the transformer: a module of diffusers."""
        return getattr(self.pipe, self.family.network)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The configuration of the pipeline's scheduler, its class included."""
        return config_of(self.pipe.scheduler)

    @property
    def kind(self) -> str:
        """What the network predicts, one of `predictions.KINDS`."""
        return kind_of(self.scheduler_config)

    @cached_property
    def schedule(self) -> Schedule:
        """The noise schedule that the network was trained with, including the time convention of its input t."""
        return schedule_of(self.scheduler_config)

    @cached_property
    def defaults(self) -> Defaults:
        """The settings with which the model is meant to be used, from its name and its parts (`defaults`)."""
        index = {"is_distilled": self.pipe.config.get("is_distilled")}
        parts = self.network.config, self.pipe.vae.config, self.scheduler_config
        return defaults_of(self.name, self.family, *parts, index)

    @property
    def default_sampler(self) -> str:
        """The sampler of the model's own scheduler; Euler for a flow; DDIM where we have no such sampler."""
        return self.defaults.sampler

    @property
    def default_spacing(self) -> str | None:
        """The spacing of a distilled model's levels; None for that of the model's own scheduler."""
        return self.defaults.spacing

    @property
    def default_num_inference_steps(self) -> int:
        """The number of steps that the model needs: 1 for a Turbo, 4 for Lightning, otherwise the family's."""
        return self.defaults.num_inference_steps

    @property
    def default_guidance_scale(self) -> float:
        """The guidance scale that the authors suggest; 1 (off) for a network that was distilled to need none."""
        return self.defaults.guidance_scale

    @property
    def pixels(self) -> int:
        """Picture pixels per latent pixel along each side: 8."""
        return pixels_of(self.pipe.vae.config)

    @property
    def default_size(self) -> int:
        """The longer side of the training pictures, in pixels. Errors as for `trained_size`."""
        return max(self.trained_size)

    @property
    def trained_size(self) -> tuple[int, int]:
        """(height, width) of the pictures that the network was trained on, in pixels.

        Raises ValueError where its configuration states no size.
        """
        if self.defaults.size is None:
            raise ValueError(f"{self.name} does not say which size it was trained on: give height and width.")
        return self.defaults.size

    @property
    def embeds_guidance(self) -> bool:
        """Whether the network takes the guidance scale as an input: one pass per step (a latent consistency model)."""
        return self.network.config.get("time_cond_proj_dim") is not None

    @property
    def denoiser_options(self) -> tuple[str, ...]:
        """The options of `denoiser` that `steps` takes too."""
        control, shown = ("control", "control_scale", "control_interval"), ("image_prompt", "image_prompt_scale")
        return ("guidance_interval", "guidance_rescale", *control, *shown)

    @named_options
    @typed_arguments
    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """(C, h, w) of the latents of a picture of height x width. Raises ValueError for a size without latents."""
        if height is None or width is None:
            own = self.trained_size
            height, width = (own[0] if height is None else height), (own[1] if width is None else width)
        check_size(height, width, max(self.family.multiple, self.pixels))
        return self.pipe.vae.config.latent_channels, height // self.pixels, width // self.pixels

    def _memory_of(self, latents: Tensor) -> Callable[[], str]:
        """Makes a sentence about the memory that pictures of these latents [B, C, h, w] take (`forecasts`)."""
        count, height, width = len(latents), latents.shape[-2] * self.pixels, latents.shape[-1] * self.pixels
        return lambda: run_in_words(self, height, width, count)

    def parameters(self) -> dict[str, int]:
        """The number of parameters of each part."""
        parts = {name: part for name, part in self.pipe.components.items() if isinstance(part, nn.Module)}
        return {name: parameters_of(part) for name, part in parts.items()}

    # -- the four stages ----------------------------------------------------------------------------------

    @named_options
    @typed_arguments
    def encode_text(self, prompt: str | Sequence[str], negative: str | Sequence[str] | None = None) -> Text:
        """Turn prompts and negative prompts into tokens and embeddings: see `text.Text`."""
        with enough_memory("the text encoders"):
            return encode_text(self.pipe, self.family.name, self.device, prompt, negative)

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
        """The levels that diffusers visits with this sampler, or with this spacing: see `levels.levels_of`.

        height, width: of the picture in pixels, for a model that shifts its schedule by the picture's size.
        """
        name = self.default_sampler if sampler is None else sampler
        check_sampler(name)
        return levels_of(
            self.scheduler_config,
            self.default_num_inference_steps if num_inference_steps is None else num_inference_steps,
            name,
            self.default_spacing if spacing is None else spacing,
            sequence_length=self._sequence_length(height, width),
        )

    def _sequence_length(self, height: int | None, width: int | None) -> int | None:
        """The number of tokens into which a transformer divides a picture; None for a U-Net."""
        patch = self.network.config.get("patch_size")
        if patch is None:
            return None
        _, h, w = self.latent_shape(height, width)
        return (h // patch) * (w // patch)

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
        """Prepare the start of sampling: x_t [B, C, h, w], and the levels to visit.

        Args:
            seed: one per image, or the first of batch_size consecutive seeds. A seed gives the same picture in any
                batch.
            levels: all levels from pure noise on; default: the sampler's levels for the model's own number of steps.
            height, width: of the picture in pixels; default: those of the image, or the model's own.
            image: [1 or B, 3, H, W] in [-1, 1]: the start of image to image, or with a mask the picture to inpaint.
            strength: the share of the levels that image to image visits, 0 to 1.
            mask: [H, W], as large as the image: 1 where to paint anew, 0 where to keep the image.
            sampler, spacing: those that the levels belong to; diffusers scales the initial noise according to them
                (`levels.start_scale`). Without a sampler: the default sampler if no levels are given; otherwise the
                initial noise has unit variance.

        Raises ValueError for a picture, mask, size or strength that does not fit, and for an inpainting network without
        picture and mask.
        """
        if levels is None:
            sampler = self.default_sampler if sampler is None else sampler
        if image is None:
            if mask is not None or strength != 1:
                raise ValueError("strength and mask need an image: give image= too.")
            if self._shows_mask:
                raise ValueError(f"{self.name} was trained to inpaint: give it an image and a mask.")
        else:
            size = tuple(image.shape[-2:])
            if (height or size[0], width or size[1]) != size:
                raise ValueError(f"The image is {size[0]} x {size[1]}, not {height} x {width}: leave the size out.")
            height, width = size
            if mask is None and self._shows_mask:
                raise ValueError(f"{self.name} was trained to inpaint: give it a mask too.")
        levels = levels or self.levels(sampler=sampler, spacing=spacing, height=height, width=width)
        scale = 1.0
        if sampler is not None and strength == 1 and (image is None or mask is not None):  # the start is pure noise
            own = self.default_spacing if spacing is None else spacing
            scale = start_scale(self.scheduler_config, sampler, levels, own)
        with enough_memory("encoding the image"):
            begun = autoencoder.start(
                levels,
                streams_of(seed, batch_size),
                self.latent_shape(height, width),
                self.device,
                vae=self.pipe.vae,
                image=image,
                strength=strength,
                mask=mask,
                shows_mask=self._shows_mask,
            )
        return begun if scale == 1 else replace(begun, x_t=begun.x_t * scale)

    @property
    def _shows_mask(self) -> bool:
        """Whether the network takes the mask and the masked picture beside the latents (9 channels)."""
        return self.network.config.in_channels > self.pipe.vae.config.latent_channels

    @typed_arguments
    def denoiser(
        self,
        text: Text,
        guidance_scale: float | None = None,
        *,
        start: Start | None = None,
        control: Tensor | Sequence[Tensor] | None = None,
        control_scale: float | Sequence[float] = 1.0,
        control_interval: tuple[float, float] | Sequence[tuple[float, float]] = (0.0, 1.0),
        image_prompt: Tensor | Sequence[Tensor] | None = None,
        image_prompt_scale: float | Sequence[float] = 1.0,
        **options: Any,
    ) -> Denoiser:
        """The network as a `Denoiser` conditioned on the text: both sides of guidance in one batch of 2B.

        Args:
            text: from `encode_text`: one prompt for all images, or one per image.
            guidance_scale: 1 is off; default: the model's own. In diffusers every scale up to 1 is off, and the cards
                of distilled models (SD-Turbo, SDXL-Turbo) write 0.0; give 1 here for that. Here 0 gives the negative
                (or unconditional) prediction alone, as in the papers, and a scale below 1 warns. A network that takes
                the scale as an input gets it as an input, in one pass per step, as in diffusers.
            start: from `prepare`: gives the number of images, and for inpainting the known region; without it there is
                one image per prompt.
            control: for a model with ControlNets (`load_control`), the picture [1 or B, C, H, W] in [0, 1], as large as
                the one to draw; for several ControlNets a list.
            control_scale, control_interval: the factor of the residuals, and the shares of the steps between which
                they are added: for all ControlNets, or a list.
            image_prompt, image_prompt_scale: for a model of `load_image_prompt`, the picture [1 or B, 3, H, W] and
                the factor of the attention to it; lists for several.
            options: `NetworkDenoiser`'s guidance_interval and guidance_rescale.

        Raises ValueError for a negative prompt, an interval or a rescale where the network takes the scale as an input,
        and for a control or a picture that does not fit.
        """
        check_options("denoiser", options, {*self.denoiser_options, "guidance_scale", "start"})
        count = len(text) if start is None else len(start.x_t)
        scale = self.default_guidance_scale if guidance_scale is None else guidance_scale
        channels, known = (None, None) if start is None else (start.channels, start.known)
        check_guidance(scale)
        guidance = None
        if self.embeds_guidance:
            guidance, scale = embedded_guidance(self.pipe, self.name, scale, text, options).to(self.device), 1.0
        elif scale < 1:
            warnings.warn(
                f"guidance_scale {scale:g} moves towards the negative prompt. If the model's card says 0.0 for no "
                "guidance, give 1.",
                stacklevel=2,
            )
        cond, uncond = text.conditions(count)
        if self.family.name == REFINER:
            cond, uncond = (with_score(one, score) for one, score in zip((cond, uncond), SCORES, strict=True))
        shown = shown_pictures(self.image_prompts, image_prompt, image_prompt_scale, count)
        cond, uncond = (*cond, *(each.tokens for each in shown)), (*uncond, *(each.negative for each in shown))
        network = PromptedNetwork(
            self.call, self.family.name, autoencoder.dtype_of(self.network), channels, self.pixels, guidance,
            image_prompts=tuple(each.prompt for each in shown),
        )  # fmt: skip
        settings: dict[str, Any] = {"cond": cond, "uncond": uncond, "guidance_scale": scale, **options}

        def with_controls(controls: tuple[Control, ...]) -> Denoiser:
            return NetworkDenoiser(replace(network, controls=controls), self.schedule, self.kind, **settings)

        given = controls_of(self.controls, control, control_scale, control_interval, count, start)
        denoise = ControlledDenoiser(with_controls, given) if given else with_controls(())
        return denoise if known is None else KnownRegion(denoise, known)

    @named_options
    @typed_arguments
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents of any step, or a predicted x_0, [B, C, h, w], to pictures [B, 3, H, W] in [-1, 1].

        If the model ships a safety checker, the pictures that it flags are returned black, with a warning.

        Raises ValueError for other shapes, and for NaN or infinity; NotEnoughMemoryError.
        """
        self._check_latents(latents)
        with enough_memory("decoding", self._memory_of(latents)):
            images = self.decode_call(latents)
            check_finite(
                images, "decoded pictures", 'load the decoder in float32 (dtype="float32") if it is in float16'
            )
            return checked(self.pipe, images, self.device)

    def _check_latents(self, latents: Tensor) -> None:
        channels = self.pipe.vae.config.latent_channels
        if float_data("latents", latents).ndim != 4 or latents.shape[1] != channels:
            raise ValueError(f"Latents are [B, {channels}, h, w], got a tensor of shape {tuple(latents.shape)}.")
        check_finite(latents, "latents", "they cannot be decoded")

    @named_options
    @typed_arguments
    def encode(self, images: Tensor) -> Tensor:
        """Encode pictures [B, 3, H, W] in [-1, 1] to latents [B, C, h, w]: the mean of the encoder's distribution."""
        height, width = images.shape[-2:]
        check_size(height, width, max(self.family.multiple, self.pixels))
        with enough_memory("encoding the image"):
            return autoencoder.encode(self.pipe.vae, self.device, images)

    @named_options
    @typed_arguments
    def preview(self, latents: Tensor) -> Tensor:
        """A coarse picture [B, 3, h, w] of latents [B, C, h, w] by a linear map, without the decoder (`preview`)."""
        return self._preview(latents)

    @cached_property
    def _preview(self) -> Callable[[Tensor], Tensor]:
        return fit_preview(self.decode_call, self.pipe.vae.config.latent_channels, self.device)

    # -- the whole ----------------------------------------------------------------------------------------

    @typed_arguments
    def steps(
        self,
        prompt: str | Sequence[str] | Text | Denoiser,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        *,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
        seed: int | Sequence[int] = 0,
        negative: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        image: Tensor | None = None,
        strength: float = 1.0,
        mask: Tensor | None = None,
        resamplings: int | None = None,
        refiner: StableDiffusion | None = None,
        refiner_start: float = 0.8,
        **options: Any,
    ) -> Iterator[Step]:
        """Yield a sampler's steps from noise to the latents of pictures: the same `Step`s as for the digits.

        The number of images is that of the seeds, batch_size, or the number of prompts. Errors in the arguments are
        raised by this call, before the first step.

        Args:
            prompt: one for all images or one per image, encoded or not; or an existing `Denoiser`.
            resamplings: with a mask, inpaint by RePaint's DDPM steps, each taken this often (`inpainting.repainted`);
                default: the known part is restored at every level, with any sampler.
            refiner, refiner_start: for Stable Diffusion XL, its refiner, which takes the last share of the steps
                (`refining`), by default a fifth.
            options: of `denoiser` or the sampler (eta).

        Each step's tensors are [B, C, h, w]. Raises ValueError for options that are unknown or do not fit.
        """
        if resamplings is not None:
            sampler = repaints_with(sampler)
        name = self.default_sampler if sampler is None else sampler
        of_denoiser, of_sampler = divide_options(name, options, self.denoiser_options, self.steps)
        if refiner is not None and any(of_denoiser.get(one) is not None for one in ("control", "image_prompt")):
            raise ValueError("A refiner takes no ControlNet and no image prompt: leave them out, or refiner.")
        size = (height, width) if image is None else tuple(image.shape[-2:])
        levels = self.levels(num_inference_steps, name, spacing, height=size[0], width=size[1])
        if callable(prompt):
            check_denoiser_alone(guidance_scale, of_denoiser)
        if (callable(prompt) or isinstance(prompt, Text)) and negative is not None:
            raise ValueError("The text is already encoded, with its negative prompt: give negative to encode_text.")
        encoded: Denoiser | Text
        encoded = prompt if callable(prompt) or isinstance(prompt, Text) else self.encode_text(prompt, negative)
        if batch_size is None:
            batch_size = len(seed) if isinstance(seed, Sequence) else len(encoded) if isinstance(encoded, Text) else 1
        begun = self.prepare(
            seed,
            batch_size,
            levels=levels,
            height=height,
            width=width,
            image=image,
            strength=strength,
            mask=mask,
            sampler=name,
            spacing=spacing,
        )
        if isinstance(encoded, Text):
            denoise = self.denoiser(encoded, guidance_scale, start=begun, **of_denoiser)
        else:
            denoise = encoded
        if refiner is not None:
            check_refiner(self.family, refiner.family)
            if not isinstance(encoded, Text) or image is not None:
                raise ValueError("A refiner needs the prompt's text, and starts from noise: leave image out.")
            n = self.default_num_inference_steps if num_inference_steps is None else num_inference_steps
            theirs = refiner.levels(n, name, spacing, height=size[0], width=size[1])
            T = self.scheduler_config["num_train_timesteps"]
            count = split(levels, theirs, refiner_start, T)
            text = refiner.encode_text(encoded.prompts, encoded.negative)
            second = refiner.denoiser(text, guidance_scale, start=begun, **of_denoiser)
            steps = refined(name, denoise, second, begun, count, of_sampler)
        elif resamplings is not None:
            steps = repainted(denoise, begun, resamplings, **of_sampler)
        else:
            steps = run(name, denoise, begun, **of_sampler)
        return _run(steps, begun, self._memory_of(begun.x_t))

    def sample(
        self,
        prompt: str | Sequence[str] | Text | Denoiser,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Tensor:
        """Run `steps` with the same arguments and decode its result: pictures [B, 3, H, W] in [-1, 1]."""
        return self.decode(final(self.steps(prompt, batch_size, num_inference_steps, **options)))


def _run(steps: Iterator[Step], begun: Start, memory: Callable[[], str]) -> Iterator[Step]:
    """Yield a sampler's steps; restore the known region after the last one; free the GPU's memory after an error."""
    with enough_memory(f"{len(begun.x_t)} images of {tuple(begun.x_t.shape[1:])} latents", memory):
        for step in steps:
            if begun.known is not None and step.next_level == begun.levels[-1]:
                step = replace(step, x_next=paste(step.x_next, begun.known.image_latents, begun.known.mask))
            yield step
