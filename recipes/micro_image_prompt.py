"""Train the image prompt (IP-Adapter) of Micro Stable Diffusion: show a picture, and get its style or its subject.

    python recipes/micro_image_prompt.py --seconds 480 --device cuda --compile                # the weights that ship
    python recipes/micro_image_prompt.py --sample --pictures 64 --batch-size 8 --images 80    # a trial on a CPU

The U-Net and the text encoder stay as they are. Each picture is one emoji, half of them in a made-up style
(`micro.random_styles`), in groups of 8 with one style of the emoji and one made-up style. Of a batch, `SHARES`

    style      another picture of the group is the reference, the caption says the subject and no style
    itself     the picture itself is the reference, the caption is empty
    both       the picture itself is the reference, the caption says the subject
    none       there is no reference; half of these captions are empty too, for guidance

so what the text names comes from the text, and the rest from the reference. The loss is that of the U-Net's own
training (flow matching), and the gradient goes to the adapter alone:

    loss = mean (unet(x_t, t, text, image tokens) - (eps - x_0))^2

A tenth of the subjects is left out of the made-up styles, to measure with them (`random_styles.is_tested`). The same
command again resumes a stopped training. The emoji: `diffusion-explained micro data`.
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
from torch import Tensor

from diffusion_explained.devices import choose_device, to_channels_last
from diffusion_explained.files import atomic_path, check_folder
from diffusion_explained.forward import add_noise
from diffusion_explained.micro.control_pictures import wandered
from diffusion_explained.micro.emoji import STYLES, EmojiSet, load_emoji, load_emoji_sample
from diffusion_explained.micro.image_prompt import new_image_prompt, save_image_prompt
from diffusion_explained.micro.picture_features import PictureEncoder
from diffusion_explained.micro.random_choices import RandomChoices
from diffusion_explained.micro.random_styles import is_tested, random_style
from diffusion_explained.micro.retrieval import load_retrieval
from diffusion_explained.micro.scene_stream import to_device
from diffusion_explained.micro.scenes import Scene, SceneSampler, Sprite, batch_scenes, draw_scenes
from diffusion_explained.micro.text_to_image_training import TextToImageConfig
from diffusion_explained.micro.tokens import encode
from diffusion_explained.micro.training_runs import CHECKPOINTS, training_card
from diffusion_explained.models import count_parameters
from diffusion_explained.noise import numpy_stream, randn, seeded
from diffusion_explained.predictions import target
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import StableDiffusion, load
from diffusion_explained.stable_diffusion.image_attention import ActivePrompt, ImagePromptAdapter, with_image_prompts
from diffusion_explained.stable_diffusion.lora import identity
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import GradientStep, RecordedStep, make_step
from diffusion_explained.training.timed import TimedRecord, train_for

GROUP = 8  # pictures in one style
MADE = 0.5  # the share of the groups with a made-up style
WANDERED = 0.25  # the share of pictures whose thing is moved to anywhere
SHARES = {"style": 0.55, "itself": 0.27, "both": 0.08, "none": 0.10}
NEAR_NOISE = 3.0  # the shift of the training times that are near pure noise: t' = 3 t / (1 + 2 t)
CARD = "image_prompt.json"
README = """# The image prompt of Micro Stable Diffusion

An IP-Adapter (Ye et al. 2023): a picture of 128 x 128 pixels as a prompt, for its style or its subject. The format of
published IP-Adapter files ("full"), fp16; {parameters:.2f} million parameters.

```python
from diffusion_explained.micro.image_prompt import load_micro_image_prompt
from diffusion_explained.stable_diffusion import load

model = load_micro_image_prompt(load("micro"))
model.sample("a red cat", image_prompt=picture, image_prompt_scale=1.0, seed=0)  # picture: [1, 3, 128, 128] in [-1, 1]
```

It reads the retrieval network's feature maps (`micro.picture_features`), not CLIP.

## Training

Base: {base} (U-Net weights {base_weights}), which stays as it is. {pictures:,} pictures of one emoji each,
{made:.0%} of them in made-up styles; references: {shares}. Trained on {images_seen:,} images in {seconds:,.0f} s on
{hardware} (torch {torch}), seed {seed}, by `recipes/micro_image_prompt.py`. How it was measured, and what it does not
do: `docs/results.md`.

## Data and licences

The emoji and captions that Micro Stable Diffusion was trained on: see its card.
"""


@dataclass(frozen=True)
class StyledPictures:
    """latents fp16 [N, 4, 16, 16]; tokens int16 [N, L]; features fp16 [N, 17, F]; each GROUP in a row has one style."""

    latents: Tensor
    tokens: Tensor
    features: Tensor

    def __len__(self) -> int:
        return len(self.latents)


def group_of(sampler: SceneSampler, of_style: list[list[int]], n: int) -> tuple[list[Scene], int | None]:
    """The scenes of group n, all of one style of the emoji, and the number of its made-up style, or None.

    of_style: the training pictures of each style of the emoji.
    """
    rng = RandomChoices(numpy_stream(3, n))
    made, own = n if rng.chance(MADE) else None, rng.pick(of_style)
    names, scenes = sampler.emoji.names, []
    while len(scenes) < GROUP:
        picture = rng.pick(own)
        if made is None or not is_tested(names[sampler.subject[picture]]):
            noun, may_count = sampler.noun(rng, picture)
            scenes.append(Scene(sampler.a(rng, noun, may_count), (Sprite(picture),)))
    return scenes, made


@torch.no_grad()
def make_pictures(
    vae: Any, tokenizer: Any, emoji: EmojiSet, encoder: PictureEncoder, count: int, at_once: int = 64
) -> StyledPictures:
    """Draw, encode and describe `count` groups of pictures, on the device of the autoencoder."""
    first = next(vae.parameters())
    images, sampler = emoji.images.to(first.device), SceneSampler(emoji)
    of_style = [[p for p in sampler.train if sampler.styles[p] == k] for k in range(len(STYLES))]
    made: list[list[Tensor]] = [[], [], []]
    for begin in range(0, count, at_once):
        groups = [group_of(sampler, of_style, n) for n in range(begin, min(begin + at_once, count))]
        scenes = wandered(batch_scenes([scene for own, _ in groups for scene in own]), WANDERED, begin)
        x = draw_scenes(scenes, images)
        parts = zip(x.split(GROUP), groups, strict=True)
        x = torch.cat([own if style is None else random_style(style)(own) for own, (_, style) in parts])
        made[0].append((vae.encode(x.to(first.dtype)).latent_dist.mean.float() * vae.config.scaling_factor).half())
        made[1].append(encode(tokenizer, scenes.captions).to(first.device, torch.int16))
        made[2].append(encoder.features(x).half())
    return StyledPictures(*(torch.cat(part) for part in made))


@dataclass(frozen=True)
class AdapterLoss:
    """The loss of an adapter: called with a batch, and differentiable in the adapter's weights alone."""

    adapter: ImagePromptAdapter
    unet: Any
    text_encoder: Any

    def __call__(
        self, x_0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, time: Tensor, tokens: Tensor, embeds: Tensor
    ) -> Tensor:
        """The mean squared error [] of the U-Net's velocity; embeds [B, 17, E], zeros where there is no reference."""
        with torch.no_grad():
            text = self.text_encoder(input_ids=tokens).last_hidden_state
        x_t = add_noise(x_0, eps, (time, alpha, sigma))
        prompt = ActivePrompt(self.adapter.by_layer(), 1.0)
        output = self.unet(
            x_t, time, encoder_hidden_states=text,
            cross_attention_kwargs={"image_prompts": [(prompt, self.adapter.image_proj(embeds))]}, return_dict=False,
        )[0]  # fmt: skip
        return (output.float() - target("flow", x_0, eps, alpha, sigma)).square().mean()


@dataclass
class Training:
    """A training that is ready to run: its state, and its step, compiled and recorded."""

    state: TrainingState[ImagePromptAdapter]
    step: GradientStep | RecordedStep
    encoder: PictureEncoder
    config: TextToImageConfig
    device: torch.device
    description: dict[str, Any]


def prepare(
    model: StableDiffusion, adapter: ImagePromptAdapter, encoder: PictureEncoder, config: TextToImageConfig,
    checkpoints: Path | None = None,
) -> Training:  # fmt: skip
    """The training of an adapter, resumed from its checkpoints if it has any; on CUDA its step is recorded."""
    device, unet = model.device, model.network.float()
    with_image_prompts(unet)
    adapter = adapter.to(device).train()
    if config.channels_last:
        to_channels_last(unet)
    state = TrainingState.new(adapter, config)
    description = {"shares": SHARES, "made": MADE, "wandered": WANDERED, "training": asdict(config)}
    resume(state, description, checkpoints)
    if config.compile:
        unet.compile(dynamic=False)
    loss = AdapterLoss(adapter, unet, model.pipe.text_encoder.float())
    step = make_step(loss, state, config, Processes.here(device, config.batch_size))
    if isinstance(step, RecordedStep):
        B, on = config.batch_size, {"device": device}
        form = torch.channels_last if config.channels_last else torch.contiguous_format
        x, one = torch.randn(B, 4, 16, 16, **on).contiguous(memory_format=form), torch.full((B,), 0.5, **on)
        tokens = torch.zeros(B, model.pipe.tokenizer.model_max_length, dtype=torch.int64, **on)
        embeds = torch.zeros(B, len(encoder.centre), encoder.width, **on)
        step.record([x, x.clone(), one, one.clone(), 1000 * one, tokens, embeds])
    return Training(state, step, encoder, config, device, description)


def train(
    training: Training, pictures: StyledPictures, empty: Tensor, checkpoints: Path | None = None, **options: Any
) -> Iterator[TimedRecord]:
    """Train until the time or the images of the settings are used up; options: of `train_for`."""
    state, config, device = training.state, training.config, training.device
    even, near_noise = FlowSchedule(), FlowSchedule(shift=NEAR_NOISE)
    form = torch.channels_last if config.channels_last else torch.contiguous_format
    shares, names, empty = torch.tensor(list(SHARES.values())), list(SHARES), empty.to(device)

    def batches() -> list[Tensor]:
        B, on_cpu = config.batch_size, {"generator": state.generator, "device": "cpu"}
        drawn = torch.randint(len(pictures), (B,), dtype=torch.int64, **on_cpu)
        kinds = torch.multinomial(shares, B, replacement=True, generator=state.generator)
        style, itself, none = (kinds == names.index(name) for name in ("style", "itself", "none"))
        silent = itself | (none & (torch.rand(B, dtype=torch.float32, **on_cpu) < 0.5))
        other = (drawn + torch.randint(1, GROUP, (B,), dtype=torch.int64, **on_cpu)) % GROUP + drawn // GROUP * GROUP
        t = torch.where(
            torch.arange(B) % 2 == 0, even.sample_t(B, state.generator), near_noise.sample_t(B, state.generator)
        )
        columns = (drawn, torch.where(style, other, drawn), silent, none)
        chosen, shown, without_text, without_picture = (to_device(each, device) for each in columns)
        x_0 = pictures.latents[chosen].float().contiguous(memory_format=form)
        tokens = torch.where(without_text[:, None], empty, pictures.tokens[chosen].long())
        embeds = training.encoder.embeds(pictures.features[shown])
        embeds = torch.where(without_picture[:, None, None], 0.0, embeds)
        eps = randn(x_0.shape, state.noise_generator, device).contiguous(memory_format=form)
        alpha, sigma, time = (
            to_device(column.float(), device) for column in (even.alpha(t), even.sigma(t), even.network_time(t))
        )
        return [x_0, eps, alpha, sigma, time, tokens, embeds]

    yield from train_for(
        training.step, state, config, batches, training.description, checkpoints=checkpoints, **options
    )


def save(out: Path, training: Training, model: StableDiffusion, pictures: int, record: TimedRecord) -> Path:
    """Write the adapter with the averaged weights, and its card beside it."""
    ema = training.state.ema
    file = save_image_prompt(out, ema, training.encoder, identity(model.network, {}))
    card = {
        "base": model.name,
        "base_weights": identity(model.network, {}),
        "parameters": count_parameters(ema),
        "pictures": pictures,
        "shares": SHARES,
        "made_up_styles": MADE,
        **training_card(training.config, record, training.device),
    }
    shares = ", ".join(f"{share:.0%} {name}" for name, share in SHARES.items())
    words = {**card, "parameters": card["parameters"] / 1e6, "made": MADE, "shares": shares}
    for name, text in ((CARD, json.dumps(card, indent=2) + "\n"), ("README.md", README.format(**words))):
        with atomic_path(out / name) as part:
            part.write_text(text, encoding="utf-8")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="micro", help="the pipeline whose U-Net gets an image prompt")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--images", type=int)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--pictures", type=int, default=160_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="compile the U-Net, for a GPU")
    parser.add_argument("--sample", action="store_true", help="use only the emoji that are part of the package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record-every", type=int, default=200, help="steps")
    parser.add_argument("--checkpoint-every", type=int, default=2000, help="steps")
    parser.add_argument("--out", type=Path, default=Path("runs/micro_image_prompt"))
    given = parser.parse_args()
    try:
        check_folder(given.out)
    except OSError as error:
        sys.exit(str(error))
    emoji = load_emoji_sample() if given.sample else load_emoji()
    limits = {"seconds": given.seconds, "images": given.images}
    config = TextToImageConfig(
        batch_size=given.batch_size, learning_rate=given.learning_rate, compile=given.compile, seed=given.seed,
        cuda_graph=True, channels_last=True,
        **{name: value for name, value in limits.items() if value is not None},
    )  # fmt: skip
    model = load(given.base, device=choose_device(given.device), dtype=torch.float32)
    retrieval = load_retrieval(device=model.device)
    adapter, encoder = seeded(config.seed, lambda: new_image_prompt(model.network, retrieval))
    encoder = encoder.to(model.device)
    vae, tokenizer = model.pipe.vae, model.pipe.tokenizer
    pictures = make_pictures(vae, tokenizer, emoji, encoder, -(-given.pictures // GROUP))
    encoder.standardise(pictures.features[: 8 * 1024])
    checkpoints = given.out / CHECKPOINTS
    training = prepare(model, adapter, encoder, config, checkpoints)
    often = {"record_every": given.record_every, "checkpoint_every": given.checkpoint_every}
    for record in train(training, pictures, encode(tokenizer, [""])[0], checkpoints, **often):
        print(f"{record.step}: loss {record.loss:.4f}, {record.images_per_second:.0f} images/s", flush=True)
    print(save(given.out, training, model, len(pictures), record))


if __name__ == "__main__":
    main()
