"""A style that the visitor teaches micro on the page Control: its pictures, a LoRA in training, and what it draws."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from diffusion_explained.charts import Chart, Curve
from diffusion_explained.film import Film, film, pixels
from diffusion_explained.micro.lora import LoRA, LoRAConfig, change_sizes, save_lora, train_lora
from diffusion_explained.micro.lora_pictures import caption_with, encode_pictures
from diffusion_explained.samplers import final
from explorer import stable
from explorer.additions import NONE, added
from explorer.cache import Cache, named_cache
from explorer.lesson_jobs import looks
from explorer.turns import HEAVY, Tell, held

WORD = "zorb"  # the new word; the tokenizer spells it in letters, so it means nothing before the lesson
LESSON_STEPS = (50, 100, 200, 300)
SECONDS_PER_STEP = 0.33  # of two quiet cores
LOOKS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # parts of the lesson
LOOKED_AT = ("sailboat", "mushroom", "fox")  # what is drawn at each look; none of them is in the ready-made pictures
DRAWING_STEPS, SEED = 8, 0
SCALES = tuple(i / 10 for i in range(11))
RANK = 4
MICRO_BLOCKS = ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.0.attentions.0", "up_blocks.0.attentions.1",
                "up_blocks.1.attentions.0", "up_blocks.1.attentions.1")  # fmt: skip


@dataclass(frozen=True)
class StyleLesson:
    """What determines a LoRA: pictures [N, 3, 128, 128] (digest: of their content), a caption for each, the rest.

    program: the lines of Python that make `pictures` and `captions`.
    """

    digest: str
    captions: tuple[str, ...]
    steps: int
    seed: int
    pictures: Tensor = field(compare=False, repr=False)
    program: str = field(default="", compare=False, repr=False)

    @property
    def seconds(self) -> float:
        """About how long the training takes on two quiet cores."""
        return SECONDS_PER_STEP * self.steps

    @property
    def config(self) -> LoRAConfig:
        """The training's settings."""
        return LoRAConfig(images=LoRAConfig().batch_size * self.steps, seed=self.seed)


@dataclass(frozen=True)
class Look:
    """What the model draws with the LoRA after `step` steps, [3, 3, 128, 128], and how large each layer's change is."""

    step: int
    drawn: Tensor
    sizes: dict[str, float]


@dataclass(frozen=True)
class Styled:
    """A lesson as far as it was learned; file: the LoRA's file, empty before the last step."""

    lesson: StyleLesson
    losses: tuple[tuple[int, float], ...]
    looks: tuple[Look, ...]
    file: bytes = b""


def finished_styles() -> Cache:
    """The styles that visitors of this explorer have finished."""
    return named_cache("styles", 8)


@contextmanager
def _written(lora: LoRA, lesson: StyleLesson, here: stable.Loaded) -> Iterator[Path]:
    """The LoRA as a file, as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        card = {"captions": list(lesson.captions), "rank": RANK, "steps": lesson.steps, "seed": lesson.seed}
        yield save_lora(Path(folder), lora, here.model, card)


class StyleLearning:
    """A lesson in progress, which a visitor may pause: its records go on where they were."""

    def __init__(self, lesson: StyleLesson) -> None:
        self.lesson, self.step = lesson, 0
        self._losses: list[tuple[int, float]] = []
        self._looks: list[Look] = []
        self._lora: LoRA | None = None
        self._records = self._train()

    @property
    def looks(self) -> int:
        """How often something was drawn."""
        return len(self._looks)

    def learned(self, file: bytes = b"") -> Styled:
        """What was learned so far."""
        return Styled(self.lesson, tuple(self._losses), tuple(self._looks), file)

    def _train(self) -> Iterator[object]:
        """The records of the training; its networks are copies, which are made when it begins."""
        here = stable.load(stable.models(), stable.MICRO, lambda *_: None)
        self._lora = LoRA(here.model, RANK, seed=self.lesson.seed)
        encoded = encode_pictures(here.model, self.lesson.pictures, self.lesson.captions)
        every = max(1, self.lesson.steps // 100)
        yield from train_lora(self._lora, here.model, encoded, self.lesson.config, record_every=every)

    def work(self, tell: Tell) -> Styled:
        """Train until the end, or until `tell` raises: the job."""
        at, here = looks(self.lesson.steps, LOOKS), stable.load(stable.models(), stable.MICRO, tell)
        count = self.lesson.config.num_steps
        with HEAVY.turn(tell) as turn:
            if not self._looks:
                before = LoRA(here.model, RANK, seed=self.lesson.seed)
                self._looks.append(self._look(here, before, 0, tell))
            while True:
                if self.step:
                    record = next(self._records, None)
                else:  # the model is copied now, and must not wear anybody's LoRA
                    with held(here.turn, tell, stable.BUSY):
                        record = next(self._records, None)
                if record is None:
                    break
                self.step = record.step
                self._losses.append((record.step, record.loss))
                if record.step in at and record.step < count:
                    self._looks.append(self._look(here, self._lora, record.step, tell))
                turn(record.step / count, f"step {record.step} of {count}")
            self._looks.append(self._look(here, self._lora, count, tell))  # with the average of its factors
        with _written(self._lora, self.lesson, here) as file:
            return finished_styles().get(self.lesson, lambda _: self.learned(file.read_bytes()))

    def _look(self, here: stable.Loaded, lora: LoRA, step: int, tell: Tell) -> Look:
        captions = [caption_with(WORD, subject) for subject in LOOKED_AT]
        with _written(lora, self.lesson, here) as file:
            drawn = draw(here, captions, [SEED] * len(captions), DRAWING_STEPS, [(file, 1.0)], tell)
        return Look(step, drawn, change_sizes(lora, here.model))


def draw(
    here: stable.Loaded, captions: list[str], seeds: list[int], steps: int, loras: list[tuple[Path, float]], tell: Tell
) -> Tensor:
    """One picture per caption, [N, 3, 128, 128], with LoRAs, each at its scale; the model is then as before."""
    model = here.model
    with held(here.turn, tell, stable.BUSY), added(model, NONE):
        for k, (file, scale) in enumerate(loras):
            model.load_lora(file, scale=scale, name=f"{k}")
        return model.decode(final(model.steps(captions, num_inference_steps=steps, seed=seeds))).cpu()


def scaled(styled: Styled, prompt: str, seed: int, steps: int, tell: Tell) -> Tensor:
    """Draw a prompt from the same noise at every scale, [11, 3, 128, 128]. Raises the engine's ValueErrors."""

    def make(tell: Tell) -> Tensor:
        here = stable.load(stable.models(), stable.MICRO, tell)
        pictures = []
        with HEAVY.turn(tell) as turn, tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "style.safetensors"
            file.write_bytes(styled.file)
            for k, scale in enumerate(SCALES):
                pictures.append(draw(here, [prompt], [seed], steps, [(file, scale)], turn))
                turn((k + 1) / len(SCALES), f"scale {scale:g}")
        return torch.cat(pictures)

    return named_cache("styles, scaled").get((styled.lesson, prompt, seed, steps), make, tell)


@dataclass(frozen=True)
class SecondLoRA:
    """A LoRA beside the one that the visitor taught: its file's name and content, and how much of each is added.

    program: what `load_lora` is given in a program; imports: the lines before it.
    """

    name: str
    file: bytes = field(repr=False)
    own_scale: float
    scale: float
    program: str
    imports: str = ""


def together(styled: Styled, second: SecondLoRA, prompt: str, seed: int, steps: int, tell: Tell) -> Tensor:
    """Draw a prompt from the same noise without a LoRA, with each of two and with both, [4, 3, 128, 128].

    Raises the engine's ValueErrors and OSErrors, for a file that is no LoRA of micro.
    """

    def make(tell: Tell) -> Tensor:
        here = stable.load(stable.models(), stable.MICRO, tell)
        with HEAVY.turn(tell) as turn, tempfile.TemporaryDirectory() as folder:
            own, other = Path(folder) / "own.safetensors", Path(folder) / second.name
            own.write_bytes(styled.file)
            other.write_bytes(second.file)
            first, more = (own, second.own_scale), (other, second.scale)
            ways, pictures = ([more], [], [first], [first, more]), []  # a file that is refused is refused at once
            try:
                for k, loras in enumerate(ways):
                    pictures.append(draw(here, [prompt], [seed], steps, loras, turn))
                    turn((k + 1) / len(ways))
            except (ValueError, OSError) as error:  # the folder is none of the visitor's
                raise ValueError(str(error).replace(f"{folder}{os.sep}", "")) from error
        other_alone, base, own_alone, both = pictures
        return torch.cat([base, own_alone, other_alone, both])

    return named_cache("styles, together").get((styled.lesson, second, prompt, seed, steps), make, tell)


# -- films --------------------------------------------------------------------------------------------------


def lesson_film(styled: Styled) -> Film:
    """What the model draws of other things after each look, the loss, and which weights have changed."""
    seen, losses = styled.looks, dict(styled.losses)
    panels = [
        (
            caption_with(WORD, subject),
            f"{subject}, which is not among the pictures, drawn with the LoRA so far",
            [pixels(one.drawn)[k] for one in seen],
        )
        for k, subject in enumerate(LOOKED_AT)
    ]
    captions = [
        f"step {one.step} · loss {losses[one.step]:.3f}" if one.step in losses else "before the first step: the base"
        for one in seen
    ]
    charts = [_loss_chart(styled), *(_size_chart(seen, layer, name) for layer, name in _ATTENTIONS)]
    return film(panels, captions, rows=(3,), charts=charts)


_ATTENTIONS = (("attn1", "of the picture to itself"), ("attn2", "to the words"))


def _loss_chart(styled: Styled) -> Chart:
    losses = dict(styled.losses)
    first = max(losses.values(), default=1.0)
    x, y = tuple(map(float, losses)), tuple(losses.values())
    markers = tuple((float(one.step), losses.get(one.step, first)) for one in styled.looks)
    words = f"from {y[0]:.3f} to {y[-1]:.3f}" if y else "not begun"
    return Chart(
        "loss", f"the training loss, {words}", "training step", (0.0, float(styled.lesson.steps)), (0.0, 1.1 * first),
        (Curve(x, y, "noise"),) if y else (), markers=markers,
    )  # fmt: skip


def _size_chart(seen: tuple[Look, ...], layer: str, name: str) -> Chart:
    """The mean change of each block's four projections relative to their weights, as bars that follow the slider."""
    bars = tuple(tuple(block_size(one.sizes, block, layer) for block in MICRO_BLOCKS) for one in seen)
    most = max(max(one) for one in bars) or 1.0
    last = ", ".join(f"{size:.0%}" for size in bars[-1])
    return Chart(
        f"change of the attention {name}, relative to the weights",
        f"the mean over the four projections of each block, from the first to the last: {last} at the end",
        "block, from the input to the output", (0.0, float(len(MICRO_BLOCKS))), (0.0, 1.1 * most), bars=bars,
    )  # fmt: skip


def block_size(sizes: dict[str, float], block: str, layer: str) -> float:
    """The mean of |change| / |weights| over the projections of one block's attention."""
    own = [size for name, size in sizes.items() if f".{block}." in name and f".{layer}." in name]
    return sum(own) / len(own)


def scale_film(drawn: Tensor, prompt: str) -> Film:
    """The picture without the LoRA beside the one at each scale."""
    shown = pixels(drawn)
    panels = [
        ("the base", f"{prompt}, drawn by the base", [shown[0]] * len(SCALES)),
        ("with your style", f"{prompt}, from the same noise, with the LoRA at the scale of the slider", list(shown)),
    ]
    return film(panels, [f"scale {scale:g}" for scale in SCALES], rows=(2,))
