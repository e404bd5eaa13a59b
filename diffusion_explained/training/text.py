"""Train the text models: one loop for the masked chain, the uniform chain, and the autoregressive twin.

The three differ in two lines: what the network reads, and its loss. Network, letters and steps are the same, and so is
the computation.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.checks import number, typed_arguments, whole
from diffusion_explained.devices import choose_device, fast_in_bfloat16, hardware
from diffusion_explained.discrete import Alphabet, Chain, Letters, LettersConfig, TextModel, training_loss
from diffusion_explained.discrete.text import KINDS
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import check_seed, seeded, stream
from diffusion_explained.weight_files import round_to_fp16

WARM_UP = 200  # steps over which the learning rate rises; a tenth of a shorter training
EVERY = 50  # steps from record to record


@dataclass(frozen=True)
class TextTraining:
    """The settings of a training run: `steps` batches of `batch_size` windows of the text.

    The learning rate rises over the first steps and then falls linearly to 0. Raises ValueError for a
    setting out of range.
    """

    steps: int = 750
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("batch_size", self.batch_size, 1)
        number("learning_rate", self.learning_rate, "above 0 and at most 1", 1e-12, 1)
        number("weight_decay", self.weight_decay, "from 0 to 1", 0, 1)
        check_seed(self.seed)


@dataclass(frozen=True)
class TextRecord:
    """The progress of a training run: the mean loss in bits per letter since the last record; the model at the end."""

    step: int
    num_steps: int
    bits: float
    letters_per_second: float
    model: TextModel | None = None


@typed_arguments
def windows(model: TextModel, text: str, most: int) -> Tensor:
    """At most `most` windows [W, length] of a text, without overlap and spread evenly over it, as the model reads it.

    Raises ValueError for a letter that the model does not know, and for a text shorter than a window.
    """
    letters, length = model.alphabet.encode(text), model.length
    if len(letters) < length:
        raise ValueError(f"The text must have {length} letters or more, one window; got {len(letters)}.")
    whole_windows = letters[: len(letters) // length * length].view(-1, length)
    count = min(whole("most", most, 1), len(whole_windows))
    return whole_windows[torch.linspace(0, len(whole_windows) - 1, count, dtype=torch.float32, device="cpu").long()]


@typed_arguments
def text_loss(network: nn.Module, kind: str, x_0: Tensor, chain: Chain, generator: torch.Generator) -> Tensor:
    """The loss [B, N] of windows x_0 [B, N], in nats per letter: the bound, or the twin's cross entropy.

    The times of a batch are spread evenly, t_i = (u + i) / B, which makes the mean less noisy (MDLM, Sec. 3.4).
    """
    B, N = x_0.shape
    device = x_0.device
    if kind == "autoregressive":
        logits = network(x_0, torch.zeros(B, device=device, dtype=torch.float32))
        return F.cross_entropy(logits.transpose(1, 2), x_0, reduction="none")
    u = torch.rand(1 + B * N, generator=generator, device=device, dtype=torch.float32)
    t = (u[0] + torch.arange(B, device=device, dtype=torch.float32)) / B
    ends = torch.full_like(x_0, chain.kinds)
    if kind == "uniform":
        ends = torch.randint(chain.kinds, (B, N), generator=generator, device=device, dtype=torch.int64)
    x_t = torch.where(u[1:].view(B, N) < t[:, None], ends, x_0)
    return training_loss(chain, network(x_t, t), x_0, x_t, 1 - t)


@typed_arguments
def train_text(
    text: str,
    alphabet: Alphabet,
    kind: str,
    config: TextTraining,
    *,
    name: str = "text",
    device: torch.device | str = "cpu",
    compiled: bool = False,
    card: dict[str, Any] | None = None,
) -> Iterator[TextRecord]:
    """Train a text model of a kind, "masked", "uniform" or "autoregressive"; the last record holds it.

    text: the letters to learn from, of the alphabet. compiled: fuse the network with torch.compile. Raises ValueError
    for another kind and for a text shorter than a window.
    """
    if kind not in KINDS:
        raise unknown_name("kind of text model", kind, KINDS)
    device = choose_device(device)
    settings = LettersConfig(kinds=len(alphabet.letters), causal=kind == "autoregressive")
    if len(text) <= settings.length:
        raise ValueError(f"The text must have more than {settings.length} letters, one window; got {len(text)}.")
    letters = alphabet.encode(text).to(device)
    chain = Chain(settings.kinds, masked=kind != "uniform")
    network = seeded(config.seed, lambda: Letters(settings)).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    generator, window = stream(config.seed, device), torch.arange(settings.length, device=device, dtype=torch.int64)
    rising = max(1, min(WARM_UP, config.steps // 10))
    run: Any = torch.compile(network, dynamic=False) if compiled else network
    begun = since = time.perf_counter()
    total = torch.zeros((), device=device, dtype=torch.float32)
    for step in range(1, config.steps + 1):
        share = min(step / rising, 1.0) * (1 - (step - 1) / config.steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * share
        shape, latest = (config.batch_size, 1), len(letters) - settings.length
        first = torch.randint(latest, shape, generator=generator, device=device, dtype=torch.int64)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_in_bfloat16(device) and device.type == "cuda"):
            loss = text_loss(run, kind, letters[first + window], chain, generator).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += loss.detach()
        if step % EVERY == 0 and step < config.steps:
            now, bits = time.perf_counter(), float(total) / EVERY / math.log(2)
            yield TextRecord(step, config.steps, bits, EVERY * config.batch_size * settings.length / (now - since))
            since, total = now, torch.zeros((), device=device, dtype=torch.float32)
    seconds = time.perf_counter() - begun
    round_to_fp16(network)
    made = {
        "kind": kind,
        "steps": config.steps,
        "letters_seen": config.steps * config.batch_size * settings.length,
        "seconds": round(seconds, 1),
        "hardware": hardware(device),
        **(card or {}),
    }
    model = TextModel(name, network.cpu().eval().requires_grad_(False), alphabet, kind, made)
    yield TextRecord(config.steps, config.steps, float("nan"), made["letters_seen"] / seconds, model)
