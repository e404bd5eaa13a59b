"""Text models: a network over letters, its chain and its alphabet. Those that ship learned Jane Austen's novels.

model = load_text("text_masked")
print(model.sample(seed=0)[0])                                   # 128 letters, from all masked
print(model.sample("it is a truth ________ acknowledged,")[0])   # _ is a letter to write
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments
from diffusion_explained.devices import choose_device, to_float64
from diffusion_explained.discrete.bound import bits_per_position
from diffusion_explained.discrete.chain import Chain, Level
from diffusion_explained.discrete.network import Letters, LettersConfig
from diffusion_explained.discrete.samplers import Step, final, left_to_right, sampler_of
from diffusion_explained.messages import shortened, unknown_name
from diffusion_explained.noise import streams_of
from diffusion_explained.pretrained import TEXT, shipped_weights
from diffusion_explained.tables import read_table
from diffusion_explained.weight_files import read_weights, refused, with_weights, write_weights

BLANK = "_"  # a letter to write, in texts that people type
NETWORK = "letters"  # its name in weight files
KINDS = ("masked", "uniform", "autoregressive")


@dataclass(frozen=True)
class Alphabet:
    """The letters that a network knows, in the order of their numbers. Raises ValueError for a letter that is twice."""

    letters: str

    def __post_init__(self) -> None:
        if not isinstance(self.letters, str) or len(set(self.letters)) != len(self.letters) or BLANK in self.letters:
            raise ValueError(f"An alphabet holds each letter once, and no {BLANK}; got {shortened(self.letters)}.")

    def encode(self, text: str) -> Tensor:
        """The letters' numbers, int64 [N]; a blank `_` is the number after the last letter, the mask's.

        Capitals are read as small letters. Raises ValueError for a letter that the alphabet does not have.
        """
        known = self.letters + BLANK
        text = text.lower()
        if other := sorted(set(text) - set(known)):
            raise ValueError(
                f"The network does not know {', '.join(map(repr, other[:5]))}. It knows the letters "
                f"{' '.join(self.letters.replace(' ', ''))}, the space, and {BLANK} for a letter that it is to write."
            )
        numbers = {letter: number for number, letter in enumerate(known)}
        return torch.tensor([numbers[letter] for letter in text], dtype=torch.int64, device="cpu")

    def decode(self, x: Tensor) -> list[str]:
        """Sequences [B, N] as texts; a mask is a blank."""
        known = self.letters + BLANK
        return ["".join(known[number] for number in row) for row in x.tolist()]


@dataclass(frozen=True)
class TextModel:
    """A trained text network with its alphabet, and its kind: "masked", "uniform" or "autoregressive".

    Raises ValueError for another kind, and for a network that does not fit the alphabet or the kind.
    """

    name: str
    network: Letters
    alphabet: Alphabet
    kind: str
    card: dict[str, Any]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("kind of text model", self.kind, KINDS)
        if self.network.config.kinds != len(self.alphabet.letters):
            raise ValueError(
                f"The network has {self.network.config.kinds} kinds, and the alphabet {len(self.alphabet.letters)}."
            )
        if self.network.config.causal != (self.kind == "autoregressive"):
            raise ValueError(f'Only an autoregressive network is causal; this one is "{self.kind}".')

    @property
    def chain(self) -> Chain:
        """The chain over the letters; an autoregressive model's text is masked where it is not yet written."""
        return Chain(len(self.alphabet.letters), masked=self.kind != "uniform")

    @property
    def length(self) -> int:
        """The number of letters of a sample."""
        return self.network.config.length

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.network.head.weight.device

    @torch.no_grad()
    def predict(self, x_t: Tensor, level: Level) -> Tensor:
        """p_0 [B, N, kinds], float32, for x_t [B, N]: the predictor that samplers call.

        An autoregressive model's p_0 at a position is that of its letter, given the letters before it.
        """
        x_t, time = x_t.to(self.device), 0.0 if self.network.config.causal else level.t
        of_all = torch.ones(len(x_t), device=self.device, dtype=torch.float32)
        logits = self.network(x_t, time * of_all)
        if self.network.config.causal:
            return logits.softmax(-1)
        return self.chain.informed(logits, x_t, level.keep * of_all)

    @typed_arguments
    def start(self, text: str = "", seed: int | Sequence[int] = 0, batch_size: int = 1) -> tuple[Tensor, list[Any]]:
        """The start of sampling [B, length], and one generator per text, of the seeds seed, seed + 1, ...

        text: what is known; `_` and all after its end is to be written. Raises ValueError for a text that is too long,
        and for a text given to a model of the uniform chain, which has no mask.
        """
        streams = streams_of(seed, batch_size if isinstance(seed, int) else None)
        if len(text) > self.length:
            raise ValueError(f"The network takes at most {self.length} letters; got {len(text)}: shorten the text.")
        if text and self.kind == "uniform":
            raise ValueError(
                f'{self.name} is a model of the uniform chain, which has no mask: give a text to "masked".'
            )
        if text and self.kind == "autoregressive" and BLANK in text.rstrip(BLANK):
            raise ValueError(
                f"{self.name} writes from left to right and cannot fill gaps: put {BLANK} at the end only."
            )
        known = self.alphabet.encode(text.ljust(self.length, BLANK)) if self.chain.masked else None
        begun = self.chain.start(len(streams), self.length, streams)  # every chain draws as much from the streams
        x_t = begun if known is None else known.expand(len(streams), -1).clone()
        return x_t.to(self.device), streams

    @typed_arguments
    def steps(
        self,
        text: str = "",
        num_inference_steps: int = 64,
        *,
        seed: int | Sequence[int] = 0,
        batch_size: int = 1,
        sampler: str = "ancestral",
    ) -> Iterator[Step]:
        """A sampler's steps to texts of `length` letters; arguments as for `start`.

        sampler: "ancestral" or "most_certain_first". An autoregressive model writes from left to right, one letter per
        step, and ignores the number of steps.
        """
        run, (x_t, streams) = sampler_of(sampler), self.start(text, seed, batch_size)
        if self.kind == "autoregressive":
            return left_to_right(self.predict, x_t, chain=self.chain, generator=streams)
        levels = self.chain.levels(num_inference_steps)
        return run(self.predict, x_t, levels, chain=self.chain, generator=streams)

    def sample(self, text: str = "", num_inference_steps: int = 64, **options: Any) -> list[str]:
        """Write texts of `length` letters, one per seed; arguments as for `steps`."""
        return self.alphabet.decode(final(self.steps(text, num_inference_steps, **options)))

    @typed_arguments
    def bits(self, x_0: Tensor, num_steps: int = 64, seed: int = 0) -> Tensor:
        """Bits per letter of texts x_0 [B, N], [B]: exact for an autoregressive model, else the bound's estimate.

        num_steps: the levels of the bound, `bits_per_position`.
        """
        streams = streams_of(seed, len(x_0))
        if self.kind != "autoregressive":
            levels = self.chain.levels(num_steps)
            return bits_per_position(self.predict, x_0, levels, chain=self.chain, generator=streams)
        p = self.predict(x_0, self.chain.level(0.0)).gather(-1, x_0[..., None].to(self.device))[..., 0]
        return -to_float64(p).log2().mean(1)


def texts() -> list[str]:
    """The names of the text models that ship with the package."""
    return sorted(name for name in shipped_weights() if name.startswith(TEXT))


def is_text_model(name: str) -> bool:
    """Whether a name, or a weight file of your own, is that of a text model; a file that cannot be read is not."""
    if not name.endswith(".safetensors"):
        return name in texts()
    try:
        return read_weights(Path(name))[1].get("network") == NETWORK
    except (OSError, ValueError):
        return False


@named_options
@typed_arguments
def load_text(name: str | Path, device: torch.device | str = "cpu") -> TextModel:
    """Load a text model by its name, or from your own weight file (a path that ends in .safetensors).

    Raises ValueError for a name that does not exist and for a file of another network, OSError for a file that is
    missing, truncated or altered.
    """
    own = isinstance(name, Path) or name.endswith(".safetensors")
    if not own and name not in texts():
        raise unknown_name("text model", name, texts())
    path, device = Path(name) if own else shipped_weights()[str(name)], choose_device(device)
    tensors, config, card = read_weights(path)
    settings = dict(config)
    if settings.pop("network", None) != NETWORK:
        raise ValueError(f"{path} holds another network, and no text model: use load_pretrained.")
    kind, letters = settings.pop("kind", None), settings.pop("letters", None)

    def build(most_weights: int) -> Letters:
        made = read_table(LettersConfig, settings, "the network letters")
        if 12 * made.depth * made.width**2 > most_weights or made.length * made.width > most_weights:
            raise ValueError("the network that it describes has more weights than the file")
        return Letters(made)

    network = with_weights(build, tensors, path).to(device).eval().requires_grad_(False)
    try:
        return TextModel(path.stem, network, Alphabet(letters), kind, card)
    except ValueError as error:
        raise refused(path, error) from error


@typed_arguments
def save_text(path: Path, model: TextModel) -> None:
    """Write a text model as a weight file that `load_text(path)` reads: fp16, whole or not at all."""
    config = {"network": NETWORK, "kind": model.kind, "letters": model.alphabet.letters}
    write_weights(path, model.network, {**config, **dataclasses.asdict(model.network.config)}, model.card)
