"""Trained networks: those that ship with the package, which its recipes trained, and those that you trained yourself.

    model = load_pretrained("mnist_unet_flow")
    images = model.sample(torch.tensor([3, 7]), guidance_scale=2.0)             # [2, 1, 28, 28] in [-1, 1]

A weight file is a safetensors file of fp16 tensors, with the network's config and the model card in its metadata.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import (
    check_finite,
    check_options,
    float_data,
    named_options,
    number,
    typed_arguments,
    whole_vector,
)
from diffusion_explained.denoisers import Denoiser, NetworkDenoiser
from diffusion_explained.devices import choose_device
from diffusion_explained.extras import missing
from diffusion_explained.guidance import check_guidance
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.models import NETWORKS, Classifier, NetworkModule, build_network, network_config
from diffusion_explained.models.network import check_network
from diffusion_explained.models.precision import PRECISIONS, InPrecision
from diffusion_explained.noise import Generators, generators, randn, streams_of
from diffusion_explained.predictions import check_kind
from diffusion_explained.samplers import (
    Start,
    Step,
    check_denoiser_alone,
    check_sampler,
    divide_options,
    final,
    run,
)
from diffusion_explained.schedules import (
    DDPMSchedule,
    Level,
    Schedule,
    check_decreasing,
    levels_of_same_snr,
    schedule_from_config,
)
from diffusion_explained.tables import check_keys, read_table
from diffusion_explained.weight_files import read_weights, refused, with_weights, write_weights

WEIGHTS = Path(__file__).parent / "weights"
TEXT = "text_"  # the names of text models, which `discrete.load_text` loads, begin with it
CIFAR10 = "diffusion_explained_cifar10"  # a separate distribution: a package index accepts no file above 100 MB


@typed_arguments(but="network")
@dataclass(frozen=True)
class Model:
    """A trained network with everything that sampling needs. Its card says how it was trained and what it measures.

    kind: the prediction type, one of `predictions.KINDS`.
    default_guidance_scale is for samples with labels; a rectified flow has 1, because it was trained on guided pairs.
    default_clip is `NetworkDenoiser`'s clip if none is given: a network that predicts eps on a schedule that ends in
    pure noise needs clipping, because x_0 = (x_t - sigma * eps) / alpha multiplies a small error there.

    Raises ValueError for a network without weights or shape, unless there is one class name per class of the network,
    and for an unknown kind, a guidance scale or a clip out of range.
    """

    name: str
    network: NetworkModule
    schedule: Schedule
    kind: str
    class_names: tuple[str, ...]
    card: dict[str, Any]
    default_guidance_scale: float = 2.0
    default_clip: float | None = None

    def __post_init__(self) -> None:
        check_network(self.network)
        check_class_names(self.class_names, self.network.num_classes)
        check_kind(self.kind)
        check_guidance(self.default_guidance_scale)
        check_clip(self.default_clip)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W), or of one point, (D,)."""
        return tuple(self.network.image_shape)

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    @property
    def default_sampler(self) -> str:
        """Euler for a flow model, DDIM for the others: the same update, under the name that is usual for each."""
        return "euler" if self.kind == "flow" else "ddim"

    @property
    def default_num_inference_steps(self) -> int:
        """10 steps, which are enough for digits; fewer on a DDPM schedule with fewer than 20 timesteps."""
        T = self.schedule.num_train_timesteps if isinstance(self.schedule, DDPMSchedule) else 1000
        return max(1, min(10, T // 2))

    def labels(self, labels: Tensor | Sequence[int]) -> Tensor:
        """Class indices [B] on the model's device. Raises ValueError for a label that does not exist."""
        if self.num_classes == 0:
            raise ValueError(f"{self.name} has no classes: leave the labels out, and give a batch_size.")
        allowed = f"class indices 0 .. {self.num_classes - 1} ({', '.join(self.class_names)})"
        return whole_vector("labels", labels, self.num_classes - 1, allowed).to(self.device)

    @named_options
    @typed_arguments
    def levels(
        self, num_inference_steps: int | None = None, sampler: str | None = None, spacing: str | Schedule | None = None
    ) -> list[Level]:
        """The n levels that the schedule visits in num_inference_steps = n steps, followed by the clean level.

        spacing: the spacing of the schedule's timesteps, if it offers several; None for its default. With another
            schedule, the levels that are as noisy as those of its n steps (equal alpha^2 / sigma^2).

        Raises ValueError for an unknown sampler or spacing, for a number of steps that the schedule cannot take, and
        for levels of another schedule of which two are beyond an end of this one.
        """
        check_sampler(self.default_sampler if sampler is None else sampler)
        steps = self.default_num_inference_steps if num_inference_steps is None else num_inference_steps
        if spacing is None:
            return self.schedule.levels(steps)
        if isinstance(spacing, Schedule):
            levels = [*levels_of_same_snr(self.schedule, spacing.levels(steps)[:-1]), self.schedule.clean]
            try:
                check_decreasing(levels)
            except ValueError:
                low, high = (self.schedule.level(t).log_snr for t in reversed(self.schedule.ends))
                raise ValueError(
                    f"The schedule of {self.name} goes from a log SNR of {low:.1f} to {high:.1f}, and two of the "
                    f"{steps} levels of the schedule that was given as spacing lie beyond an end: take fewer steps, or "
                    "a schedule with less noise at its start and more at its end."
                ) from None
            return levels
        if "spacing" not in inspect.signature(self.schedule.timesteps).parameters:
            raise ValueError(f"The schedule of {self.name} has only one spacing; got {spacing!r}: leave it out.")
        return self.schedule.levels(steps, spacing=spacing)

    @named_options
    @typed_arguments
    def noise(self, batch_size: int, seed: int = 0, generator: Generators = None) -> Tensor:
        """The noise x_T [B, C, H, W] from which sampling starts; image i is drawn with the seed `seed + i`.

        For a sampler that draws noise, give `generator = noise.generators(batch_size, seed)` here and to the sampler.
        """
        streams = generators(batch_size, seed) if generator is None else generator
        return self.schedule.init_noise_sigma * randn((batch_size, *self.image_shape), streams, self.device)

    # -- the stages of sampling: `StableDiffusion` has the same ones, with a prompt in place of labels ------------

    @named_options
    @typed_arguments
    def prepare(
        self, seed: int | Sequence[int] = 0, batch_size: int | None = None, *, levels: list[Level] | None = None
    ) -> Start:
        """The start of sampling: x_t [B, C, H, W], its levels and its generators.

        Args:
            seed: one seed per image, or the first of batch_size consecutive seeds. A seed gives the same image in any
                batch.
            levels: the levels to visit; by default those of default_num_inference_steps.
        """
        streams = streams_of(seed, batch_size)
        return Start(self.noise(len(streams), generator=streams), levels or self.levels(), streams)

    @typed_arguments(but="labels")
    def denoiser(
        self,
        labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        *,
        start: Start | None = None,
        **options: Any,
    ) -> NetworkDenoiser:
        """The network as a `Denoiser` conditioned on labels [B], one per image (None: no condition).

        Args:
            guidance_scale: 1 is off; by default default_guidance_scale with labels, and off without labels.
            start: the result of `prepare`, to check that there is one label per image.
            options: guidance_interval, guidance_rescale and clip of `NetworkDenoiser` (clip is default_clip by
                default); and negative_labels, one per image, which replace the null label as the unconditional input.

        Raises ValueError for labels that do not exist or are not one per image, and for unknown options.
        """
        check_options("denoiser", options, {*DENOISER_OPTIONS, "guidance_scale", "start"})
        cond = None if labels is None else self.labels(labels)
        if cond is not None and start is not None and len(cond) != len(start.x_t):
            raise ValueError(f"Give one label per image: got {len(cond)} labels for {len(start.x_t)} images.")
        if guidance_scale is None:
            guidance_scale = 1.0 if cond is None else self.default_guidance_scale
        negative = options.pop("negative_labels", None)
        if negative is not None and cond is None:
            raise ValueError("negative_labels need labels to move towards: give labels too.")
        null = torch.tensor([self.num_classes], device=self.device, dtype=torch.int64)
        return NetworkDenoiser(
            self.network,
            self.schedule,
            self.kind,
            cond=cond,
            uncond=null if negative is None else self.labels(negative),
            guidance_scale=guidance_scale,
            **{"clip": self.default_clip, **options},
        )

    @named_options
    def decode(self, latents: Tensor) -> Tensor:
        """Turn any step's x_t or predicted x_0 into images [B, C, H, W] in [-1, 1] (clipped; they are pixels already).

        Raises ValueError for another shape, and for NaN or infinity.
        """
        if float_data("latents", latents).shape[1:] != self.image_shape:
            raise ValueError(
                f"{self.name} draws [B, {', '.join(map(str, self.image_shape))}]; got {list(latents.shape)}."
            )
        check_finite(latents, "images")
        return latents.clamp(-1, 1)

    @typed_arguments(but="labels")
    def steps(
        self,
        labels: Tensor | Sequence[int] | Denoiser | None = None,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        *,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        spacing: str | Schedule | None = None,
        seed: int | Sequence[int] = 0,
        **options: Any,
    ) -> Iterator[Step]:
        """A sampler's steps from the noise of a seed; a sampler that draws noise continues with the same generators.

        Args:
            labels: one per image; or None, with a batch_size, for images without a condition; or a finished `Denoiser`,
                with a batch_size.
            sampler: a name of `samplers.SAMPLERS`; by default the model's default_sampler.
            options: those of `denoiser` (negative_labels, guidance_interval, guidance_rescale, clip) and those of the
                sampler (eta). Raises ValueError at once for an unknown one.

        Each step's tensors are [B, C, H, W].
        """
        name = self.default_sampler if sampler is None else sampler
        of_denoiser, of_sampler = divide_options(name, options, DENOISER_OPTIONS, self.steps)
        levels = self.levels(num_inference_steps, name, spacing)
        if callable(labels):
            check_denoiser_alone(guidance_scale, of_denoiser)
            return run(name, labels, self._begun(seed, batch_size, levels, spacing), **of_sampler)
        if labels is not None:
            labels = self.labels(labels)
            if batch_size is not None and batch_size != len(labels):
                raise ValueError(
                    f"{len(labels)} labels make {len(labels)} images, not {batch_size}: leave batch_size out."
                )
            batch_size = len(labels)
        elif batch_size is None and isinstance(seed, int):
            raise ValueError("Give labels (one per image), or a batch_size for images without a condition.")
        begun = self._begun(seed, batch_size, levels, spacing)
        return run(name, self.denoiser(labels, guidance_scale, start=begun, **of_denoiser), begun, **of_sampler)

    def _begun(
        self, seed: int | Sequence[int], batch_size: int | None, levels: list[Level], spacing: str | Schedule | None
    ) -> Start:
        """`prepare`; levels of another schedule may begin below the noisiest one, so their noise is of their size."""
        begun = self.prepare(seed, batch_size, levels=levels)
        if not isinstance(spacing, Schedule):
            return begun
        return replace(begun, x_t=begun.x_t * (levels[0].sigma / float(self.schedule.sigma(self.schedule.ends[1]))))

    def sample(
        self,
        labels: Tensor | Sequence[int] | Denoiser | None = None,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Tensor:
        """Draw images [B, C, H, W] in [-1, 1]: one per label, or batch_size images without a condition.

        The arguments are those of `steps`.
        """
        return self.decode(final(self.steps(labels, batch_size, num_inference_steps, **options)))


DENOISER_OPTIONS = ("negative_labels", "guidance_interval", "guidance_rescale", "clip")


def cifar10_folder() -> Path | None:
    """The folder of the weights trained on CIFAR-10, or None if they are not installed.

    A working copy of the repository has them in packages/; otherwise they are in a package of their own, which is found
    without importing it.
    """
    in_repository = Path(__file__).parents[1] / "packages" / "diffusion-explained-cifar10" / CIFAR10
    if in_repository.is_dir():
        return in_repository
    spec = importlib.util.find_spec(CIFAR10)
    return Path(spec.origin).parent if spec and spec.origin else None


def shipped_weights() -> dict[str, Path]:
    """All shipped and installed weight files by name: diffusion models, classifiers and retrieval networks."""
    folders = (WEIGHTS, cifar10_folder())
    return {path.stem: path for folder in folders if folder for path in sorted(folder.glob("*.safetensors"))}


def check_class_names(names: Sequence[str], num_classes: int | None) -> None:
    """Raise ValueError unless there is one name per class of a network, all different, of 1 to 100 characters each.

    `Model` takes the label len(names) as the null label; with too few names, a class would be used as the null label.
    """
    if len(names) != (num_classes or 0):
        raise ValueError(
            f"class_names must be one per class: the network has {num_classes or 'no'} classes; got {len(names)} "
            f"names, {shortened(list(names))}."
        )
    if not all(isinstance(name, str) and 0 < len(name) <= 100 for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"class_names must differ, and have 1 to 100 characters each; got {shortened(list(names), 200)}."
        )


def check_clip(clip: float | None) -> None:
    """Raise ValueError unless the default bound of a model's x_0 is None or a number above 0."""
    if clip is not None:
        number("clip", clip, "above 0 and at most 1,000,000, or null for none", math.ulp(0.0), 1e6)


def available() -> list[str]:
    """The names of the diffusion models that ship with the package and are installed."""
    others = ("_classifier", "_retrieval")
    return sorted(name for name in shipped_weights() if not name.endswith(others) and not name.startswith(TEXT))


@named_options
@typed_arguments
def load_pretrained(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """Load a trained diffusion model by its name, or from your own weight file (a path that ends in .safetensors).

    Raises:
        ValueError: for a name that does not exist (the message suggests similar ones), and for a file that is not a
            diffusion model.
        OSError: for a file that is missing, truncated or altered; MissingExtraError, with the command that installs
            them, for CIFAR-10 weights that are not installed.
    """
    path, device = _path(name, available()), choose_device(device)
    network, settings, card = _read(path)
    if settings is None or isinstance(network, Classifier):
        raise ValueError(f"{path} holds a classifier, not a diffusion model: use load_classifier.")
    network.to(device).eval().requires_grad_(False)
    schedule = schedule_from_config(settings.schedule)
    defaults = (settings.guidance_scale, settings.clip)
    return Model(path.stem, network, schedule, settings.kind, settings.class_names, card, *defaults)


@named_options
@typed_arguments
def load_classifier(name: str | Path = "mnist_classifier", device: torch.device | str = "cpu") -> Classifier:
    """Load the classifier that measures samples; its card is `classifier.card`. Errors as for `load_pretrained`."""
    names = [name for name in shipped_weights() if name.endswith("_classifier")]
    path, device = _path(name, names), choose_device(device)
    network, _, card = _read(path)
    if not isinstance(network, Classifier):
        raise ValueError(f"{path} holds a diffusion model, not a classifier: use load_pretrained.")
    network.card = card
    return network.to(device).eval().requires_grad_(False)


@named_options
@typed_arguments
def save_pretrained(path: Path, model: Model) -> None:
    """Write a model as a weight file that `load_pretrained(path)` reads: fp16, whole or not at all."""
    config = {
        **network_config(model.network),
        "schedule": model.schedule.to_config(),
        "kind": model.kind,
        "class_names": list(model.class_names),
        "guidance_scale": model.default_guidance_scale,
        "clip": model.default_clip,
    }
    read_table(_Settings, {key: config[key] for key in _OF_SETTINGS}, "the model")  # what is written can be read
    write_weights(path, model.network, config, model.card)


@typed_arguments
def in_precision(model: Model, precision: str, *, compiled: bool = False) -> Model:
    """The same model with a network that computes in `precision`, one of `PRECISIONS`; "float32" changes nothing.

        model = in_precision(load_pretrained("cifar10_unet_flow"), "bfloat16")     # a CPU with AVX512-BF16 or AMX
        model = in_precision(load_pretrained("cifar10_unet_flow", "cuda"), "float16", compiled=True)

    Up to twice as fast where the hardware supports it, but less exact: a seed gives nearly, but not exactly, the same
    image, so nothing in this package does this by default.

    compiled: compile the network with torch.compile. The first call with each batch size takes half a minute; later
    calls are faster than without it.

    Raises ValueError for another precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    return replace(model, network=InPrecision(model.network, PRECISIONS[precision], compiled))


@dataclass(frozen=True)
class _Settings:
    """The settings of a diffusion model in a weight file, apart from its network: arguments of `Model`, checked.

    Old files lack guidance_scale and clip; then the defaults apply.
    """

    schedule: dict[str, Any]
    kind: str
    class_names: tuple[str, ...]
    guidance_scale: float = Model.default_guidance_scale
    clip: float | None = Model.default_clip

    def __post_init__(self) -> None:
        written = schedule_from_config(self.schedule).to_config()
        if missing := sorted(written.keys() - self.schedule.keys() - {"clock"}):  # old files have no clock
            raise ValueError(f"the schedule lacks {', '.join(missing)}.")
        check_kind(self.kind)
        check_guidance(self.guidance_scale)
        check_clip(self.clip)


_OF_SETTINGS = tuple(field.name for field in fields(_Settings))  # the other keys of a file's config are the network's
_ADDED_LATER = {"logit_scale"}  # settings of networks that older files lack; then the default applies


def _path(name: str | Path, names: list[str]) -> Path:
    if isinstance(name, Path) or name.endswith(".safetensors") or "/" in name:
        if Path(name).suffix != ".safetensors":
            raise ValueError(f"{name} is not a .safetensors file; weights in other formats cannot be read.")
        return Path(name)
    if name.startswith("cifar10_") and cifar10_folder() is None:
        raise missing("cifar10", "diffusion-explained-cifar10")
    if name.startswith(TEXT) and name in shipped_weights():
        raise ValueError(f"{name} is a text model: use diffusion_explained.discrete.load_text.")
    if name not in names:
        raise unknown_name("weights", name, names)
    return shipped_weights()[name]


def _read(path: Path) -> tuple[NetworkModule | Classifier, _Settings | None, dict[str, Any]]:
    """The network, the settings (None for a classifier) and the card of a weight file.

    Raises ValueError or OSError that names the file, what it contains, and what is allowed.
    """
    tensors, config, card = read_weights(path)
    of_network = {key: value for key, value in config.items() if key not in _OF_SETTINGS}
    of_settings = {key: value for key, value in config.items() if key in _OF_SETTINGS}

    def build(most_weights: int) -> NetworkModule | Classifier:
        if (name := of_network.get("network")) in list(
            NETWORKS
        ):  # files contain all settings, so a missing one is an error
            shape = NETWORKS[name][1]
            needed = [one.name for one in fields(shape) if one.name not in _ADDED_LATER]
            given = {key: value for key, value in of_network.items() if key != "network"}
            check_keys(shape, given, f"the network {name}", needed)
        return build_network(of_network, most_weights)

    network = with_weights(build, tensors, path)
    try:
        if isinstance(network, Classifier):
            if of_settings:
                raise ValueError(f"a classifier has no {', '.join(sorted(of_settings))}.")
            return network, None, card
        settings = read_table(_Settings, of_settings, "the model")
        check_class_names(settings.class_names, network.num_classes)
    except ValueError as error:
        raise refused(path, error) from error
    return network, settings, card
