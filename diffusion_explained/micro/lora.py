"""LoRA: teach micro a style or a thing from a few pictures, by a small change beside its weights.

    model = load("micro")
    pictures = encode_pictures(model, read_pictures(files), ["cat, zorb style", "boat, zorb style", ...])
    lora = LoRA(model, rank=4)
    for record in train_lora(lora, model, pictures, LoRAConfig()):
        print(record.step, record.loss)
    save_lora(Path("zorb"), lora, model)                   # zorb/pytorch_lora_weights.safetensors
    model.load_lora("zorb", scale=0.8)                     # until model.unload_lora("zorb")

The weights W stay as they are. Beside each projection of attention, two thin matrices A and B are trained:

    h = W x + (alpha / r) B A x,   A [r, in] ~ N(0, 1 / in),  B [out, r] = 0        (Hu et al. 2021, Eq. 3, Sec. 4.1)

B = 0 at the start, so that the first picture is that of the base. The loss is that of micro's own training; with
`prior`, pictures that the base itself drew of other things are trained on too, so that the model does not forget them:

    loss = mean |u(x_t, t, c) - target|^2 + prior * mean |u(x'_t, t, c') - target'|^2    (Ruiz et al. 2022, Eq. 2)
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from diffusion_explained.checks import named_options, number, typed_arguments, whole
from diffusion_explained.files import atomic_path
from diffusion_explained.micro.encoded_scenes import EncodedScenes
from diffusion_explained.micro.networks import TEXT_MODEL
from diffusion_explained.micro.text_to_image_training import TextToImage, root_weight
from diffusion_explained.noise import randn, stream
from diffusion_explained.stable_diffusion import StableDiffusion
from diffusion_explained.stable_diffusion.families import MICRO_TITLE
from diffusion_explained.stable_diffusion.lora import BASE, FILE, identity
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.config import check_allowed
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.loop import training_loss
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import make_step
from diffusion_explained.training.timed import TimedConfig, TimedRecord, train_for

MOST_RANK = 64
PROJECTIONS = {
    "unet": re.compile(r"attn[12]\.to_(q|k|v|out\.0)$"),
    "text_encoder": re.compile(r"self_attn\.(q|k|v|out)_proj$"),
}
MIN_SNR = 5.0  # of the loss of a network that predicts eps, as in micro's own training


@named_options
@dataclass(frozen=True)
class LoRAConfig(TimedConfig):
    """The settings of a LoRA's training: 300 steps of 8 pictures by default.

    prior: the weight of the loss on pictures of the base, 0 for none; each step then takes batch_size of these too.

    Raises ValueError for a setting out of range.
    """

    images: int = 2400
    batch_size: int = 8
    learning_rate: float = 4e-3
    warmup_steps: int = 10
    weight_decay: float = 0.0
    label_dropout: float = 0.0
    precision: str = "float32"
    prior: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_allowed(self, {"prior (from 0 to 100)": 0 <= self.prior <= 100})


class LowRank(nn.Module):
    """The change beside one layer: x [..., in] to (alpha / r) B A x [..., out]; B = 0 at the start."""

    def __init__(self, layer: nn.Linear, rank: int, factor: float, generator: torch.Generator) -> None:
        super().__init__()
        out, into = layer.weight.shape
        self.factor = factor
        self.down = nn.Parameter(randn((rank, into), generator) / into**0.5)  # A
        self.up = nn.Parameter(torch.zeros(out, rank, dtype=torch.float32, device="cpu"))  # B

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * F.linear(F.linear(x, self.down), self.up)


@named_options
@typed_arguments
class LoRA(nn.Module):
    """The factors A and B of every projection of attention in micro's U-Net and, if asked for, its text encoder.

    Args:
        rank: r, from 1 to 64; 4 makes a file of 157 KB.
        alpha: the change is (alpha / r) B A; by default alpha is r.
        text_encoder: whether the text encoder's projections are changed too.
        seed: of the random A.

    Raises ValueError for a model that is not a micro, and for a number out of range.
    """

    def __init__(
        self,
        model: StableDiffusion,
        rank: int = 4,
        *,
        alpha: float | None = None,
        text_encoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if model.family.title != MICRO_TITLE:
            raise ValueError(
                f"{model.name} is {model.family.title}; a LoRA is trained here for micro only: give load('micro')."
            )
        self.rank = whole("rank", rank, 1, MOST_RANK)
        self.alpha = number("alpha", rank if alpha is None else alpha, "a number from 0.01 to 1,000", 0.01, 1000)
        generator = stream(seed)
        parts = ("unet", "text_encoder") if text_encoder else ("unet",)
        layers = {
            f"{part}.{name}": layer
            for part in parts
            for name, layer in getattr(model.pipe, part).named_modules()
            if PROJECTIONS[part].search(name)
        }
        self.names = tuple(layers)  # the places of the layers: unet.down_blocks.0...to_q
        changes = (LowRank(layer, self.rank, self.alpha / self.rank, generator) for layer in layers.values())
        self.changes = nn.ModuleList(changes)

    def placed(self) -> dict[str, LowRank]:
        """The changes by the places of their layers."""
        changes = (change for change in self.changes if isinstance(change, LowRank))
        return dict(zip(self.names, changes, strict=True))


@typed_arguments
def with_changes(model: StableDiffusion, lora: LoRA) -> TextToImage:
    """A copy of a model's networks in which each of the LoRA's layers adds its change: W x + (alpha / r) B A x.

    The copy refers to the LoRA's factors, so that it learns with them; the model itself stays as it is.
    """
    network = copy.deepcopy(TextToImage(model.pipe.text_encoder, model.pipe.unet)).float()
    for name, change in lora.placed().items():
        network.get_submodule(name).register_forward_hook(partial(_add, change))
    return network


def _add(change: LowRank, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output + change(inputs[0])


@typed_arguments
def change_sizes(lora: LoRA, model: StableDiffusion) -> dict[str, float]:
    """How large each layer's change is beside its weights: |(alpha / r) B A| / |W| (Frobenius norms), by place.

    Raises ValueError for a model that lacks one of the LoRA's layers.
    """
    parts = {"unet": model.pipe.unet, "text_encoder": model.pipe.text_encoder}
    sizes = {}
    for name, change in lora.placed().items():
        part, _, layer = name.partition(".")
        weight = parts[part].get_submodule(layer).weight.detach().float().cpu()
        product = change.factor * change.up.detach().cpu() @ change.down.detach().cpu()
        if product.shape != weight.shape:
            raise ValueError(f"The LoRA's change of {name} is {tuple(product.shape)}, the layer {tuple(weight.shape)}.")
        sizes[name] = float(product.norm() / weight.norm())
    return sizes


@named_options(of=train_for)
@one_at_a_time
@typed_arguments
def train_lora(
    lora: LoRA,
    model: StableDiffusion,
    pictures: EncodedScenes,
    config: LoRAConfig,
    *,
    prior: EncodedScenes | None = None,
    checkpoints: Path | None = None,
    **options: Any,
) -> Iterator[TimedRecord]:
    """Train a LoRA in place beside a model that is not changed; at the end it holds the average of its factors.

    Args:
        pictures: with their captions (`lora_pictures.encode_pictures`). prior: other pictures, drawn by the model
            itself (`lora_pictures.draw_prior`); they are needed if config.prior is above 0.
        checkpoints: a folder; if it holds a checkpoint of this training, training resumes from it.
        options: record_every and checkpoint_every of `train_for`.

    Raises ValueError for a model that has LoRAs loaded, prior pictures without a weight or the other way round, or the
    checkpoints of another training; FloatingPointError when the loss is not finite, and what `folder_lock.hold` raises.
    """
    if model.loras:
        raise ValueError(f"{model.name} has LoRAs loaded ({', '.join(model.loras)}): call unload_lora() first.")
    if (prior is None) != (config.prior == 0):
        raise ValueError("Give prior pictures and a prior above 0 in the settings together, or neither.")
    device, schedule = model.device, model.schedule
    network = with_changes(model, lora.to(device)).to(device)
    state = TrainingState.new(lora.train(), config)
    description = {
        "base": identity(model.network, {}),
        "lora": {"rank": lora.rank, "alpha": lora.alpha, "layers": len(lora.names)},
        "training": asdict(config),
        "pictures": pictures.made_from,
        "prior": {} if prior is None else prior.made_from,
    }
    resume(state, description, checkpoints)
    loss = partial(training_loss, network, model.kind)
    step = make_step(loss, state, config, Processes.here(device, config.batch_size))
    groups = [(pictures.to(device), 1.0)] + ([] if prior is None else [(prior.to(device), config.prior)])

    def batches() -> list[Tensor]:
        """Algorithm 1 of DDPM, lines 2 to 4, for the pictures and then for those of the prior."""
        parts = [_draw(group, weight, config, state.generator) for group, weight in groups]
        x_0, tokens, weight = (torch.cat(column) for column in zip(*parts, strict=True))
        t = schedule.sample_t(len(x_0), state.generator)
        weight = weight.to(device) * root_weight(schedule, model.kind, t, MIN_SNR).float().to(device)
        eps = randn(x_0.shape, state.noise_generator, device)
        alpha, sigma = (column.float().to(device) for column in (schedule.alpha(t), schedule.sigma(t)))
        return [x_0, eps, alpha, sigma, schedule.network_time(t).to(device), tokens, weight]

    yield from train_for(step, state, config, batches, description, checkpoints=checkpoints, **options)
    lora.load_state_dict(state.ema.state_dict())


def _draw(
    group: EncodedScenes, weight: float, config: LoRAConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of latents, their tokens, some of them those of the empty caption, and the root of their weight."""
    count, device = config.batch_size, group.latents.device
    chosen = torch.randint(len(group), (count,), generator=generator, dtype=torch.int64, device="cpu").to(device)
    dropped = torch.rand(count, generator=generator, dtype=torch.float32, device="cpu") < config.label_dropout
    tokens = torch.where(dropped.to(device)[:, None], group.empty, group.tokens[chosen]).long()
    return group.latents[chosen].float(), tokens, torch.full((count,), weight**0.5, dtype=torch.float32, device="cpu")


@typed_arguments
def save_lora(folder: Path, lora: LoRA, model: StableDiffusion, card: dict[str, Any] | None = None) -> Path:
    """Write a LoRA as fp16 to pytorch_lora_weights.safetensors, the file that diffusers looks for; returns its path.

    The names are diffusers' first ones, which say no alpha and which ComfyUI reads too; so alpha / r is multiplied
    into B. The notes name the base, and `StableDiffusion.load_lora` refuses another one. card: how it was trained.

    Raises ValueError for factors that fp16 cannot represent, NotWrittenError if the file cannot be written.
    """
    tensors = {}
    for name, change in lora.placed().items():
        for place, x in zip(names_in_file(name), (change.down, change.factor * change.up), strict=True):
            tensors[place] = x.detach().to("cpu", torch.float16).contiguous()
    if not all(bool(x.isfinite().all()) for x in tensors.values()):
        raise ValueError("The LoRA holds NaN, infinity, or numbers too large for fp16: train with a smaller rate.")
    base = identity(model.network, model.adapters.before)
    made_for = f"Micro Stable Diffusion, weights {base}"
    notes = {"format": "pt", "ss_base_model_version": made_for, BASE: base, "card": json.dumps(card or {})}
    with atomic_path(folder / FILE) as part:
        save_file(tensors, part, metadata=notes)
    return folder / FILE


def names_in_file(layer: str) -> tuple[str, str]:
    """The names of A and B of a layer: unet...attn1.processor.to_q_lora.down.weight and ...up.weight for ...to_q."""
    if layer.startswith("text_encoder."):
        inner = layer.removeprefix("text_encoder.").removeprefix(TEXT_MODEL)
        place = f"text_encoder.{TEXT_MODEL}{inner}.lora_linear_layer"
    else:
        place = re.sub(r"\.to_(q|k|v|out)(\.0)?$", r".processor.to_\1_lora", layer)
    return f"{place}.down.weight", f"{place}.up.weight"
