"""The networks that ship with the package, trained by its own recipes, and those that you trained yourself.

    model = load_pretrained("mnist_unet_flow")
    images = model.sample(torch.tensor([3, 7]), guidance_scale=2.0)             # [2, 1, 28, 28] in [-1, 1]

A weight file is safetensors: fp16 tensors, with the network's config and its model card in the file's own metadata.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.checks import check_finite, check_options, float_data, named_options, whole_vector
from diffusion_explained.denoisers import Denoiser, NetworkDenoiser
from diffusion_explained.extras import missing
from diffusion_explained.guidance import check_guidance
from diffusion_explained.models import NETWORKS, Classifier, NetworkModule, build_network, network_config
from diffusion_explained.names import shortened, unknown_name
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
from diffusion_explained.schedules import DDPMSchedule, Level, Schedule, schedule_from_config
from diffusion_explained.tables import check_keys, read_table
from diffusion_explained.weight_files import read_weights, refused, with_weights, write_weights

WEIGHTS = Path(__file__).parent / "weights"
CIFAR10 = "diffusion_explained_cifar10"  # a distribution of its own: a package index takes no file over 100 MB


@dataclass(frozen=True)
class Model:
    """A trained network with all that is needed to sample from it. Its card says how it was made and measured.

    default_guidance_scale is for samples with labels; a rectified flow has 1, for its guidance is trained in.
    default_clip is `NetworkDenoiser`'s clip where none is asked for: a network that predicts eps on a schedule that
    ends in pure noise needs one, for there x_0 = (x_t - sigma * eps) / alpha makes much of a small mistake.
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
        if isinstance(self.network, nn.Module) and hasattr(self.network, "num_classes"):
            check_class_names(self.class_names, self.network.num_classes)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W), or (D,) for a network of points."""
        return tuple(self.network.image_shape)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device

    @property
    def default_sampler(self) -> str:
        """Euler for a flow model, DDIM for the others: one line, under the name that each field gives it."""
        return "euler" if self.kind == "flow" else "ddim"

    @property
    def default_num_inference_steps(self) -> int:
        """10 steps, enough for digits to be finished; fewer on a DDPM schedule of fewer than 20 timesteps."""
        T = self.schedule.num_train_timesteps if isinstance(self.schedule, DDPMSchedule) else 1000
        return max(1, min(10, T // 2))

    def labels(self, labels: Tensor | Sequence[int]) -> Tensor:
        """Class indices [B] on the model's device. Raises ValueError for a label that does not exist."""
        if self.num_classes == 0:
            raise ValueError(f"{self.name} knows no classes: leave the labels out, and give a batch_size.")
        allowed = f"class indices 0 .. {self.num_classes - 1} ({', '.join(self.class_names)})"
        return whole_vector("labels", labels, self.num_classes - 1, allowed).to(self.device)

    @named_options
    def levels(
        self, num_inference_steps: int | None = None, sampler: str | None = None, spacing: str | None = None
    ) -> list[Level]:
        """The n levels that the schedule visits in so many steps, then the clean one, for any sampler.

        spacing: how the schedule's timesteps are spaced, where it offers a choice; None for its own.

        Raises ValueError for an unknown sampler or spacing, or a number of steps that the schedule cannot take.
        """
        check_sampler(sampler or self.default_sampler)
        steps = self.default_num_inference_steps if num_inference_steps is None else num_inference_steps
        if spacing is None:
            return self.schedule.levels(steps)
        if "spacing" not in inspect.signature(self.schedule.timesteps).parameters:
            raise ValueError(
                f"The schedule of {self.name} has one spacing only, and {spacing!r} was given: leave it out."
            )
        return self.schedule.levels(steps, spacing=spacing)

    @named_options
    def noise(self, batch_size: int, seed: int = 0, generator: Generators = None) -> Tensor:
        """x_T [B, C, H, W], where sampling starts; image i is drawn from the stream seeded seed + i.

        Give `generator = noise.generators(batch_size, seed)` instead, and pass it on to a sampler that draws noise.
        """
        streams = generators(batch_size, seed) if generator is None else generator
        return self.schedule.init_noise_sigma * randn((batch_size, *self.image_shape), streams, self.device)

    # -- the stages that every model has: `StableDiffusion` has the same, with a prompt in the place of labels ----

    @named_options
    def prepare(
        self, seed: int | Sequence[int] = 0, batch_size: int | None = None, *, levels: list[Level] | None = None
    ) -> Start:
        """Where sampling starts: x_t [B, C, H, W], and its levels.

        Args:
            seed: one per image, or the first of batch_size consecutive ones. A seed is one picture in any batch.
            levels: of the way from noise; those of the default number of steps if they are not given.
        """
        streams = streams_of(seed, batch_size)
        return Start(self.noise(len(streams), generator=streams), levels or self.levels(), streams)

    def denoiser(
        self,
        labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float | None = None,
        *,
        start: Start | None = None,
        **options: Any,
    ) -> NetworkDenoiser:
        """The network as a `Denoiser` towards labels [B], one per image (None: no condition).

        Args:
            guidance_scale: 1 is off; if it is not given, the model's own where there are labels, off where there are
                none.
            start: of `prepare`, for as many images; without it, for as many as there are labels.
            options: `NetworkDenoiser`'s guidance_interval, guidance_rescale and clip, which is default_clip if it is
                not given; and negative_labels, one per image, which stand on the unconditional side in the place of
                the null label.

        Raises ValueError for labels that do not exist or are not one per image, and for unknown options.
        """
        check_options("denoiser", options, {*DENOISER_OPTIONS, "guidance_scale", "start"})
        cond = None if labels is None else self.labels(labels)
        if cond is not None and start is not None and len(cond) != len(start.x_t):
            raise ValueError(f"Give one label per image: got {len(cond)} labels for {len(start.x_t)} images.")
        if guidance_scale is None:
            guidance_scale = 1.0 if cond is None else self.default_guidance_scale
        negative = options.pop("negative_labels", None)
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
        """The images [B, C, H, W] in [-1, 1] of any step's x_t or predicted x_0: these models work on pixels.

        Raises ValueError for another shape, and for NaN or infinity.
        """
        if float_data("latents", latents).shape[1:] != self.image_shape:
            raise ValueError(
                f"{self.name} draws [B, {', '.join(map(str, self.image_shape))}]; got {list(latents.shape)}."
            )
        check_finite(latents, "images")
        return latents.clamp(-1, 1)

    def steps(
        self,
        labels: Tensor | Sequence[int] | Denoiser | None = None,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        *,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        spacing: str | None = None,
        seed: int | Sequence[int] = 0,
        **options: Any,
    ) -> Iterator[Step]:
        """A sampler's steps from the noise of a seed; a sampler that draws noise goes on with the same streams.

        Args:
            labels: one per image; None with a batch_size for images without a condition; or a `Denoiser` that is
                made already, with a batch_size.
            sampler: a name of `samplers.SAMPLERS`; the model's default_sampler if it is not given.
            options: of `denoiser` (negative_labels, guidance_interval, guidance_rescale, clip), or of the sampler
                (eta). An unknown one is a ValueError, at once.

        Each step's tensors are [B, C, H, W].
        """
        name = sampler or self.default_sampler
        of_denoiser, of_sampler = divide_options(name, options, DENOISER_OPTIONS, self.steps)
        levels = self.levels(num_inference_steps, name, spacing)
        if callable(labels):
            check_denoiser_alone(guidance_scale, of_denoiser)
            return run(name, labels, self.prepare(seed, batch_size, levels=levels), **of_sampler)
        if labels is not None:
            labels = self.labels(labels)
            if batch_size is not None and batch_size != len(labels):
                raise ValueError(f"{len(labels)} labels are as many images, not {batch_size}: leave batch_size out.")
            batch_size = len(labels)
        elif batch_size is None and isinstance(seed, int):
            raise ValueError("Give labels (one per image), or a batch_size for images without condition.")
        begun = self.prepare(seed, batch_size, levels=levels)
        return run(name, self.denoiser(labels, guidance_scale, start=begun, **of_denoiser), begun, **of_sampler)

    def sample(
        self,
        labels: Tensor | Sequence[int] | Denoiser | None = None,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        **options: Any,
    ) -> Tensor:
        """Finished images [B, C, H, W] in [-1, 1]: one per label, or batch_size without condition.

        The arguments are those of `steps`.
        """
        return self.decode(final(self.steps(labels, batch_size, num_inference_steps, **options)))


DENOISER_OPTIONS = ("negative_labels", "guidance_interval", "guidance_rescale", "clip")


def cifar10_folder() -> Path | None:
    """The folder of the weights that were trained on CIFAR-10, None if they are not installed.

    A working copy of the repository has them in packages/; otherwise they are an installed package, which is looked up
    without importing it.
    """
    in_repository = Path(__file__).parents[1] / "packages" / "diffusion-explained-cifar10" / CIFAR10
    if in_repository.is_dir():
        return in_repository
    spec = importlib.util.find_spec(CIFAR10)
    return Path(spec.origin).parent if spec and spec.origin else None


def shipped_weights() -> dict[str, Path]:
    """Every weight file that ships and is installed, by its name: diffusion models, and what measures their samples."""
    folders = (WEIGHTS, cifar10_folder())
    return {path.stem: path for folder in folders if folder for path in sorted(folder.glob("*.safetensors"))}


def check_class_names(names: Sequence[str], num_classes: int | None) -> None:
    """Raise ValueError unless there is one name per class of a network, each another one, of 1 to 100 characters.

    Label num_classes is the null label, so with a name too few a class would be drawn without its condition.
    """
    if len(names) != (num_classes or 0):
        raise ValueError(
            f"class_names must be one per class: the network knows {num_classes or 'no'} classes; got {len(names)} "
            f"names, {shortened(list(names))}."
        )
    if not all(isinstance(name, str) and 0 < len(name) <= 100 for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"class_names must differ, and have 1 to 100 characters each; got {shortened(list(names), 200)}."
        )


def available() -> list[str]:
    """The names of the diffusion models that ship with the package and are installed."""
    return sorted(name for name in shipped_weights() if not name.endswith(("_classifier", "_retrieval")))


@named_options
def load_pretrained(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """A trained diffusion model, by its name or from a weight file of your own (a path that ends in .safetensors).

    Raises:
        ValueError: for a name that does not exist, naming the nearest, or a file that is no diffusion model.
        OSError: for a file that is missing, cut short or altered; MissingExtraError, with the line that installs
            them, for weights of CIFAR-10 that are not installed.
    """
    path = _path(name, available())
    network, settings, card = _read(path)
    if settings is None or isinstance(network, Classifier):
        raise ValueError(f"{path} holds a classifier, not a diffusion model: use load_classifier.")
    network.to(device).eval().requires_grad_(False)
    schedule = schedule_from_config(settings.schedule)
    defaults = (settings.guidance_scale, settings.clip)
    return Model(path.stem, network, schedule, settings.kind, settings.class_names, card, *defaults)


@named_options
def load_classifier(name: str | Path = "mnist_classifier", device: torch.device | str = "cpu") -> Classifier:
    """The classifier that measures samples; its card is `classifier.card`. Errors as for `load_pretrained`."""
    names = [name for name in shipped_weights() if name.endswith("_classifier")]
    path = _path(name, names)
    network, _, card = _read(path)
    if not isinstance(network, Classifier):
        raise ValueError(f"{path} holds a diffusion model, not a classifier: use load_pretrained.")
    network.card = card
    return network.to(device).eval().requires_grad_(False)


@named_options
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


@dataclass(frozen=True)
class _Settings:
    """What a weight file says of a diffusion model beside its network: the arguments of `Model`, typed and checked.

    guidance_scale and clip are missing in old files, which mean the defaults.
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
        if self.clip is not None and not 0 < self.clip <= 1e6:
            raise ValueError(f"clip must be above 0 and at most 1,000,000, or null for none; got {self.clip}.")


_OF_SETTINGS = tuple(field.name for field in fields(_Settings))  # the rest of a file's config is the network's
_ADDED_LATER = {"logit_scale"}  # settings of networks that files from before them lack; they mean the default


def _path(name: str | Path, names: list[str]) -> Path:
    if isinstance(name, Path) or name.endswith(".safetensors") or "/" in name:
        if Path(name).suffix != ".safetensors":
            raise ValueError(f"{name} is no .safetensors file; weights in other formats are not read.")
        return Path(name)
    if name.startswith("cifar10_") and cifar10_folder() is None:
        raise missing("cifar10", "diffusion-explained-cifar10")
    if name not in names:
        raise unknown_name("weights", name, names)
    return shipped_weights()[name]


def _read(path: Path) -> tuple[NetworkModule | Classifier, _Settings | None, dict[str, Any]]:
    """The network, the settings (None: it is a classifier) and the card of a weight file.

    Raises ValueError or OSError that names the file, what it says, and what is allowed.
    """
    tensors, config, card = read_weights(path)
    of_network = {key: value for key, value in config.items() if key not in _OF_SETTINGS}
    of_settings = {key: value for key, value in config.items() if key in _OF_SETTINGS}

    def build(most_weights: int) -> NetworkModule | Classifier:
        if (name := of_network.get("network")) in list(NETWORKS):  # what is missing is not the default: all is written
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
