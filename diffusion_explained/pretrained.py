"""The networks that ship with the package, trained by its own recipes, and those that you trained yourself.

    model = load_pretrained("mnist_unet_flow")
    images = model.sample(torch.tensor([3, 7]), guidance_scale=2.0)             # [2, 1, 28, 28] in [-1, 1]

A weight file is safetensors: fp16 tensors, with the network's config and its model card in the file's own metadata.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.denoisers import Denoiser, NetworkDenoiser
from diffusion_explained.extras import missing
from diffusion_explained.models import Classifier, build_network, network_config
from diffusion_explained.names import unknown_name
from diffusion_explained.noise import Generators, generators, randn
from diffusion_explained.samplers import SAMPLERS, Step, final
from diffusion_explained.schedules import Schedule, schedule_from_config
from diffusion_explained.weight_files import read_weights, write_weights

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
    network: nn.Module
    schedule: Schedule
    kind: str
    class_names: tuple[str, ...]
    card: dict[str, Any]
    default_guidance_scale: float = 2.0
    default_clip: float | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.network.image_shape)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def default_sampler(self) -> str:
        """Euler for a flow model, DDIM for the others: one line, under the name that each field gives it."""
        return "euler" if self.kind == "flow" else "ddim"

    def labels(self, labels: Tensor | list[int]) -> Tensor:
        """Class indices [B] on the model's device. Raises ValueError for a label that does not exist."""
        labels = torch.as_tensor(labels)
        whole = labels.ndim == 1 and len(labels) > 0 and not labels.is_floating_point() and labels.dtype != torch.bool
        if not whole or int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"labels must be a vector of class indices 0 .. {self.num_classes - 1} "
                f"({', '.join(self.class_names)}); got {labels.tolist()}."
            )
        return labels.long().to(self.device)

    def denoiser(
        self,
        labels: Tensor | list[int] | None = None,
        guidance_scale: float = 1.0,
        *,
        negative_labels: Tensor | list[int] | None = None,
        **options: Any,
    ) -> NetworkDenoiser:
        """The network as a `Denoiser` towards labels [B], one an image (None: no condition).

        negative_labels stand on the unconditional side, which is the null label otherwise; the options are
        `NetworkDenoiser`'s guidance_interval, guidance_rescale and clip, which is default_clip if it is not given.
        """
        options = {"clip": self.default_clip, **options}
        null = torch.tensor([self.num_classes], device=self.device)
        return NetworkDenoiser(
            self.network,
            self.schedule,
            self.kind,
            cond=None if labels is None else self.labels(labels),
            uncond=null if negative_labels is None else self.labels(negative_labels),
            guidance_scale=guidance_scale,
            **options,
        )

    def noise(self, batch_size: int, seed: int = 0, generator: Generators = None) -> Tensor:
        """x_T [B, C, H, W], where sampling starts; image i is drawn from the stream seeded seed + i.

        Give `generator = noise.generators(batch_size, seed)` instead, and pass it on to a sampler that draws noise.
        """
        streams = generators(batch_size, seed) if generator is None else generator
        return self.schedule.init_noise_sigma * randn((batch_size, *self.image_shape), streams, self.device)

    def steps(
        self,
        denoise: Denoiser,
        batch_size: int,
        num_inference_steps: int = 10,
        *,
        sampler: str | None = None,
        seed: int = 0,
        level_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> Iterator[Step]:
        """A sampler's steps from the noise of a seed; a sampler that draws noise goes on with the same streams.

        sampler: a name of `samplers.SAMPLERS`; options are its own (eta); level_options are the schedule's (spacing).
        """
        name = sampler or self.default_sampler
        if name not in SAMPLERS:
            raise unknown_name("sampler", name, SAMPLERS)
        streams = generators(batch_size, seed)
        x_T = self.noise(batch_size, generator=streams)
        if "generator" in inspect.signature(SAMPLERS[name]).parameters:
            options["generator"] = streams
        levels = self.schedule.levels(num_inference_steps, **(level_options or {}))
        return SAMPLERS[name](denoise, x_T, levels, **options)

    def sample(
        self,
        labels: Tensor | list[int] | None = None,
        *,
        batch_size: int | None = None,
        num_inference_steps: int = 10,
        sampler: str | None = None,
        guidance_scale: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> Tensor:
        """Finished images [B, C, H, W] in [-1, 1]: one a label, or batch_size without condition.

        options go to `denoiser` (negative_labels, guidance_interval, guidance_rescale, clip) or to the sampler (eta).
        """
        if (labels is None) == (batch_size is None):
            raise ValueError(
                "Give labels (one an image), or a batch_size for images without condition; one of the two."
            )
        of_denoiser = {key: options.pop(key) for key in list(options) if key in _DENOISER_OPTIONS}
        denoise = self.denoiser(labels, guidance_scale, **of_denoiser)
        count = batch_size if labels is None else len(labels)
        return final(self.steps(denoise, count, num_inference_steps, sampler=sampler, seed=seed, **options)).clamp(
            -1, 1
        )


_DENOISER_OPTIONS = {"negative_labels", "guidance_interval", "guidance_rescale", "clip"}


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


def available() -> list[str]:
    """The names of the diffusion models that ship with the package and are installed."""
    return sorted(name for name in shipped_weights() if not name.endswith(("_classifier", "_retrieval")))


def load_pretrained(name: str | Path, device: torch.device | str = "cpu") -> Model:
    """A trained diffusion model, by its name or from a weight file of your own (a path that ends in .safetensors).

    Raises:
        ValueError: for a name that does not exist, naming the nearest, or a file that is no diffusion model.
        OSError: for a file that is missing, cut short or altered; MissingExtraError, with the line that installs
            them, for weights of CIFAR-10 that are not installed.
    """
    path = _path(name, available())
    network, config, card = _read(path)
    if "schedule" not in config:
        raise ValueError(f"{path} holds a classifier, not a diffusion model: use load_classifier.")
    network.to(device).eval().requires_grad_(False)
    schedule = schedule_from_config(config["schedule"])
    scale, clip = config.get("guidance_scale", Model.default_guidance_scale), config.get("clip")
    return Model(path.stem, network, schedule, config["kind"], tuple(config["class_names"]), card, scale, clip)


def load_classifier(name: str | Path = "mnist_classifier", device: torch.device | str = "cpu") -> Classifier:
    """The classifier that measures samples; its card is `classifier.card`. Errors as for `load_pretrained`."""
    names = [name for name in shipped_weights() if name.endswith("_classifier")]
    path = _path(name, names)
    network, _, card = _read(path)
    if not isinstance(network, Classifier):
        raise ValueError(f"{path} holds a diffusion model, not a classifier: use load_pretrained.")
    network.card = card
    return network.to(device).eval().requires_grad_(False)


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
    write_weights(path, model.network, config, model.card)


_CONFIG_OF_MODEL = ("schedule", "kind", "class_names", "guidance_scale", "clip")  # the rest is the network's


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


def _read(path: Path) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    tensors, config, card = read_weights(path)
    of_network = {key: value for key, value in config.items() if key not in _CONFIG_OF_MODEL}
    # torch's generator is left alone. (On the meta device no weights would be drawn at all, but torch then imports its
    # compiler, which takes a second and more; drawing them takes milliseconds.)
    with torch.random.fork_rng(devices=[]):
        network = build_network(of_network)
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise OSError(f"{path} does not hold the weights of the network that it describes: {error}") from error
    return network, config, card
