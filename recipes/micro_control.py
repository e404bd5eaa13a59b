"""Train the ControlNet of Micro Stable Diffusion: edges, scribbles and layouts, one network for all three.

    python recipes/micro_control.py --start FIRST --seconds 349 --device cuda --compile      # the weights that ship
    python recipes/micro_control.py --sample --scenes 256 --batch-size 8 --images 80  # a trial on a CPU

The U-Net and the text encoder stay as they are. Each image of a batch is a scene of the emoji with one of its three
control pictures, drawn from the scene itself (`micro.control_pictures`): `KINDS`. 70% of the single things are moved,
turned and made smaller, which their captions do not say; neither do the captions of 40% of the scenes, "a cat and a
dog", say where the two are (the mix "pairs"). The loss is that of the U-Net's own training (flow matching), and the
gradient goes to the ControlNet alone:

    loss = mean (unet(x_t, t, text + ControlNet(x_t, t, text, c)) - (eps - x_0))^2

In a layout, only the colour says which of two things is where: red is the one that the caption says first. A second
loss teaches this: from what the copied encoder computes in the red area, a linear reader must name the first thing, and
in the blue area the second. The reader is thrown away after training, as that of recipes/micro2.py.

20% of the captions are empty (the paper: 50%), so that the network learns to read the picture where the text says
nothing. The places of things are decided near pure noise: all times of layouts and half of the others are drawn there.
The norms of the zero convolutions are kept in the card at every record.

The weights that ship were trained twice: first without pairs and the second loss, on the mix "relations" (5,770,752
images in 355 s: edges F1 0.833, but 52% of the layouts on the right sides), then as here, from those weights on.

The same command again resumes a stopped training. The emoji: `diffusion-explained micro data`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.devices import choose_device, to_channels_last
from diffusion_explained.files import atomic_path, check_folder, read_json
from diffusion_explained.forward import add_noise
from diffusion_explained.micro.control import ControlNet, save_control, skip_channels
from diffusion_explained.micro.control_card import read_control_card, weights_checksum, write_control_card
from diffusion_explained.micro.control_pictures import CONTROLS, control_picture, draw_marks, wandered
from diffusion_explained.micro.emoji import EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.scene_stream import CaptionedBatches, to_device
from diffusion_explained.micro.scenes import Scenes, SceneSampler, draw_scenes
from diffusion_explained.micro.text_to_image_training import TextToImageConfig
from diffusion_explained.micro.tokens import encode
from diffusion_explained.micro.training_runs import CHECKPOINTS, training_card
from diffusion_explained.models import count_parameters
from diffusion_explained.noise import randn, seeded
from diffusion_explained.predictions import target
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import StableDiffusion, load, load_control
from diffusion_explained.stable_diffusion.control_loading import CONTROL_FOLDER
from diffusion_explained.stable_diffusion.weights import find_weights
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import GradientStep, RecordedStep, make_step
from diffusion_explained.training.timed import TimedRecord, train_for

MIX = "pairs"
# the shares of the kinds of control pictures, for scenes of one thing (also of several copies), and of two
KINDS = {
    "one thing": {"edges": 0.55, "scribble": 0.30, "layout": 0.15},
    "two things": {"edges": 0.25, "scribble": 0.15, "layout": 0.60},
}
WANDERED = 0.7  # the share of single things in the middle of their scenes that are moved to anywhere
DROPPED = 0.2  # the share of empty captions
READ = 0.02  # the weight of the second loss
NO_SUBJECT = -1
OPENINGS = "openings.json"
NEAR_NOISE = 3.0  # the shift of the training times that are near pure noise: t' = 3 t / (1 + 2 t)


@dataclass(frozen=True)
class MarkedScenes:
    """latents fp16 [N, 4, 16, 16]; tokens int16 [N, L]; marks uint8 [N, 128, 128], the control pictures' bits.

    subjects: int16 [N, 2], what the caption says first and second, -1 for nothing.
    """

    latents: Tensor
    tokens: Tensor
    marks: Tensor
    subjects: Tensor

    def __len__(self) -> int:
        return len(self.latents)


@torch.no_grad()
def make_scenes(
    vae: Any, tokenizer: Any, emoji: EmojiSet, count: int, *, first: int = 0, workers: int = 0, batch_size: int = 512
) -> MarkedScenes:
    """Draw, mark and encode `count` batches of scenes from batch `first` on, on the device of the autoencoder."""
    device, dtype = next(vae.parameters()).device, next(vae.parameters()).dtype
    images = emoji.images.to(device)
    batches = CaptionedBatches(SceneSampler(emoji, mix=MIX), batch_size, tokenizer)
    made: list[list[Tensor]] = [[], [], [], []]
    for n, (scenes, tokens) in enumerate(batches.stream(first, count, workers), first):
        scenes = wandered(scenes, WANDERED, n)
        x = draw_scenes(scenes, images)
        made[0].append((vae.encode(x.to(dtype)).latent_dist.mean.float() * vae.config.scaling_factor).half())
        made[1].append(tokens.to(torch.int16))
        made[2].append(draw_marks(scenes, images, x, seed=4 * n))
        made[3].append(first_and_second(scenes, emoji.subject).to(torch.int16))
    return MarkedScenes(*(torch.cat(part).to(device) for part in made))


def first_and_second(scenes: Scenes, subject: Tensor) -> Tensor:
    """The subject that each caption says first, and the second or -1: int64 [B, 2]; subject: of each picture."""
    first = scenes.sprite[:, :1]
    other = (scenes.sprite >= 0) & (scenes.sprite != first)
    second = scenes.sprite.gather(1, other.int().argmax(dim=1, keepdim=True))
    return torch.cat([subject[first], subject[second].where(other.any(dim=1, keepdim=True), NO_SUBJECT)], dim=1)


class AreaReader(nn.Module):
    """From the last layer of the copied encoder, [B, C, h, w], logits of the subject in each area, [B, 2, M].

    logits_k = (W mean_p h_p) E^T; the mean is over the places p in the red area (k = 0) and in the blue one (k = 1).
    """

    def __init__(self, channels: int, subjects: int) -> None:
        super().__init__()
        self.read = nn.Parameter(torch.randn(channels, channels) / channels**0.5)
        self.subjects = nn.Parameter(torch.randn(subjects, channels) / channels**0.5)

    def forward(self, h: Tensor, picture: Tensor) -> Tensor:
        areas = F.adaptive_avg_pool2d(picture[:, [0, 2]], h.shape[-2:]).to(h.dtype)
        weights = areas / areas.sum((2, 3), keepdim=True).clamp(min=1e-3)
        vectors = torch.einsum("bkhw,bchw->bkc", weights, h)
        return vectors @ self.read.to(h.dtype) @ self.subjects.to(h.dtype).T


class TaughtControl(nn.Module):
    """The ControlNet, and the reader that is thrown away after training."""

    def __init__(self, control: ControlNet, subjects: int) -> None:
        super().__init__()
        self.control = control
        self.reader = AreaReader(skip_channels(control)[-1], subjects)

    def forward(self, x_t: Tensor, t: Tensor, embeds: Tensor, picture: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        hidden = self.control.hidden(x_t, t, embeds, picture)
        return *self.control.added(hidden), self.reader(hidden[-2], picture)


@dataclass(frozen=True)
class ControlLoss:
    """The loss of a ControlNet: called with a batch, and differentiable in the ControlNet's weights alone."""

    network: TaughtControl
    unet: Any
    text_encoder: Any

    def __call__(
        self,
        x_0: Tensor,
        eps: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        time: Tensor,
        tokens: Tensor,
        picture: Tensor,
        subjects: Tensor,
    ) -> Tensor:
        """The mean squared error [] of the controlled U-Net's velocity, plus READ times the reader's cross-entropy."""
        with torch.no_grad():
            embeds = self.text_encoder(input_ids=tokens).last_hidden_state
        x_t = add_noise(x_0, eps, (time, alpha, sigma))
        skips, middle, logits = self.network(x_t, time, embeds, picture)
        output = self.unet(
            x_t, time, encoder_hidden_states=embeds, down_block_additional_residuals=tuple(skips),
            mid_block_additional_residual=middle, return_dict=False,
        )[0]  # fmt: skip
        flow = (output.float() - target("flow", x_0, eps, alpha, sigma)).square().mean()
        read = F.cross_entropy(
            logits.float().flatten(0, 1), subjects.flatten(), ignore_index=NO_SUBJECT, reduction="sum"
        ) / (subjects != NO_SUBJECT).sum().clamp(min=1)  # fmt: skip
        return flow + READ * read


@dataclass
class Training:
    """A training that is ready to run: its state, and its step, compiled and recorded."""

    state: TrainingState[TaughtControl]
    step: GradientStep | RecordedStep
    config: TextToImageConfig
    device: torch.device
    description: dict[str, Any]


def prepare(
    model: StableDiffusion,
    subjects: int,
    config: TextToImageConfig,
    checkpoints: Path | None = None,
    start: Path | None = None,
) -> Training:
    """The training of a ControlNet, resumed from its checkpoints if it has any; on CUDA its step is recorded.

    subjects: their number in the set of emoji; start: the folder of the ControlNet to start from, None for a new one.
    """
    device, unet = model.device, model.network.float()
    network = seeded(config.seed, lambda: TaughtControl(ControlNet(unet, whole_middle=False), subjects))
    if start is not None:
        network.control.load_state_dict(load_control(model, start).controls[0].network.state_dict())
    network = network.to(device).train()
    if config.channels_last:
        to_channels_last(network)
        to_channels_last(unet)
    state = TrainingState.new(network, config)
    description = {
        "control": dict(network.control.config),
        "start": None if start is None else weights_checksum(start),
        "kinds": KINDS,
        "mix": MIX,
        "wandered": WANDERED,
        "training": asdict(config),
    }
    resume(state, description, checkpoints)
    if config.compile:
        network.compile(dynamic=False)
        unet.compile(dynamic=False)
    loss = ControlLoss(network, unet, model.pipe.text_encoder.float())
    step = make_step(loss, state, config, Processes.here(device, config.batch_size))
    if isinstance(step, RecordedStep):
        B, on = config.batch_size, {"device": device}
        form = torch.channels_last if config.channels_last else torch.contiguous_format
        x, one = torch.randn(B, 4, 16, 16, **on).contiguous(memory_format=form), torch.full((B,), 0.5, **on)
        tokens = torch.zeros(B, model.pipe.tokenizer.model_max_length, dtype=torch.int64, **on)
        picture = torch.zeros(B, 3, 128, 128, **on).contiguous(memory_format=form)
        none = torch.full((B, 2), NO_SUBJECT, dtype=torch.int64, **on)
        step.record([x, x.clone(), one, one.clone(), 1000 * one, tokens, picture, none])
    return Training(state, step, config, device, description)


def train(
    training: Training, scenes: MarkedScenes, empty: Tensor, checkpoints: Path | None = None, **options: Any
) -> Iterator[TimedRecord]:
    """Train until the time or the images of the settings are used up; options: of `train_for`."""
    state, config, device = training.state, training.config, training.device
    even, near_noise = FlowSchedule(), FlowSchedule(shift=NEAR_NOISE)
    form = torch.channels_last if config.channels_last else torch.contiguous_format
    shares = torch.tensor([[KINDS[things][kind] for kind in CONTROLS] for things in ("one thing", "two things")])
    two, empty = (scenes.subjects[:, 1] != NO_SUBJECT).cpu().long(), empty.to(device)

    def batches() -> list[Tensor]:
        B, on_cpu = config.batch_size, {"generator": state.generator, "device": "cpu"}
        drawn = torch.randint(len(scenes), (B,), dtype=torch.int64, **on_cpu)
        kinds = torch.multinomial(shares[two[drawn]], 1, generator=state.generator)[:, 0]
        layout = kinds == CONTROLS.index("layout")
        without = torch.rand(B, dtype=torch.float32, **on_cpu) < config.label_dropout
        t = torch.where(
            (torch.arange(B) % 2 == 0) & ~layout,
            even.sample_t(B, state.generator),
            near_noise.sample_t(B, state.generator),
        )
        chosen, kind, dropped, unread = (to_device(each, device) for each in (drawn, kinds, without, without | ~layout))
        x_0 = scenes.latents[chosen].float().contiguous(memory_format=form)
        tokens = torch.where(dropped[:, None], empty, scenes.tokens[chosen].long())
        picture = control_picture(scenes.marks[chosen], kind).contiguous(memory_format=form)
        subjects = scenes.subjects[chosen].long().masked_fill(unread[:, None], NO_SUBJECT)
        eps = randn(x_0.shape, state.noise_generator, device).contiguous(memory_format=form)
        alpha, sigma, time = (
            to_device(column.float(), device) for column in (even.alpha(t), even.sigma(t), even.network_time(t))
        )
        return [x_0, eps, alpha, sigma, time, tokens, picture, subjects]

    yield from train_for(
        training.step, state, config, batches, training.description, checkpoints=checkpoints, **options
    )


def save(
    out: Path,
    training: Training,
    base: str,
    scenes: int,
    record: TimedRecord,
    openings: list[dict[str, float]],
    start: Path | None = None,
) -> Path:
    """Write the folder of the ControlNet with the averaged weights, and its card beside them; start: of `prepare`."""
    ema, first = training.state.ema.control, {} if start is None else read_control_card(start)
    save_control(out, ema)
    if first:
        before = ("images_seen", "seconds", "hardware", "torch")
        first = {"continued_from": {"weights": weights_checksum(start), **{key: first[key] for key in before}}}
    card = {
        "base": base,
        "base_weights": weights_checksum(find_weights(base).folder / "unet"),
        "parameters": count_parameters(ema),
        "kinds": KINDS,
        "scenes": scenes,
        "mix": MIX,
        "caption_dropout": training.config.label_dropout,
        **first,
        **training_card(training.config, record, training.device),
        "openings": openings,
    }
    write_control_card(out, card)
    return out


def kept_openings(checkpoints: Path, step: int) -> list[dict[str, float]]:
    """The norms of the zero convolutions up to this step of an interrupted training."""
    file = checkpoints / OPENINGS
    return [row for row in read_json(file, "list of norms") if row["step"] <= step] if file.is_file() else []


def openings_before(training: Training, start: Path | None) -> list[dict[str, float]]:
    """The norms that led to the weights of `start`; those of a new ControlNet are all zero."""
    new = [{"step": 0, **training.state.network.control.openings()}]
    return new if start is None else read_control_card(start)["openings"]


def keep_openings(checkpoints: Path, openings: list[dict[str, float]]) -> None:
    """Write the norms so far beside the checkpoints."""
    checkpoints.mkdir(parents=True, exist_ok=True)
    with atomic_path(checkpoints / OPENINGS) as part:
        part.write_text(json.dumps(openings), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="micro", help="the pipeline whose U-Net is controlled")
    parser.add_argument("--start", type=Path, help='the ControlNet to continue, or "micro"')
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--scenes", type=int, default=256_000)
    parser.add_argument("--workers", type=int, default=0, help="the number of processes that compose scenes")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="compile both networks, for a GPU")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that are part of the package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record-every", type=int, default=100, help="steps")
    parser.add_argument("--checkpoint-every", type=int, default=1000, help="steps")
    parser.add_argument("--out", type=Path, default=Path("runs/micro_control"))
    given = parser.parse_args()
    try:
        check_folder(given.out)
    except OSError as error:
        sys.exit(str(error))
    emoji = load_emoji_sample() if given.sample else load_emoji()
    limits = {"seconds": given.seconds, "images": given.images}
    config = TextToImageConfig(
        batch_size=given.batch_size, learning_rate=given.learning_rate, compile=given.compile, seed=given.seed,
        label_dropout=DROPPED, cuda_graph=True, channels_last=True,
        **{name: value for name, value in limits.items() if value is not None},
    )  # fmt: skip
    model = load(given.base, device=choose_device(given.device), dtype=torch.float32)
    vae, tokenizer, batch = model.pipe.vae, model.pipe.tokenizer, min(512, given.scenes)
    scenes = make_scenes(vae, tokenizer, emoji, -(-given.scenes // batch), workers=given.workers, batch_size=batch)
    checkpoints = given.out / CHECKPOINTS
    start = CONTROL_FOLDER if given.start == Path("micro") else given.start
    training = prepare(model, len(emoji.names), config, checkpoints, start)
    before = openings_before(training, start)
    steps_before = int(before[-1]["step"])
    openings = kept_openings(checkpoints, steps_before + training.state.step) or before
    often = {"record_every": given.record_every, "checkpoint_every": given.checkpoint_every}
    for record in train(training, scenes, encode(tokenizer, [""])[0], checkpoints, **often):
        openings.append({"step": steps_before + record.step, **training.state.network.control.openings()})
        keep_openings(checkpoints, openings)
        print(f"{record.step}: loss {record.loss:.4f}, {record.images_per_second:.0f} images/s", flush=True)
    print(save(given.out, training, given.base, len(scenes), record, openings, start))


if __name__ == "__main__":
    main()
