"""Samplers of the chain over kinds: generators of `Step`s, as those of `diffusion_explained.samplers`.

A sampler is given a predictor, called as predict(x_t, level), which returns p_0 [B, N, kinds]: for each position the
probabilities of its clean kind, given the whole of x_t. It never sees a network.

    steps = list(ancestral(predict, chain.start(1, 128), chain.levels(64), chain=chain))
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.checks import check_kind_of
from diffusion_explained.discrete.chain import (
    Chain,
    Level,
    check_levels,
    check_probabilities,
    check_sequences,
    draw,
)
from diffusion_explained.messages import unknown_name
from diffusion_explained.noise import Generators, check_generators

Predictor = Callable[[Tensor, Level], Tensor]


@dataclass(frozen=True)
class Step:
    """One step: the sequences x_t [B, N] at `level`, the prediction p_0 [B, N, kinds] there, and x_next [B, N]."""

    i: int
    level: Level
    next_level: Level
    x_t: Tensor
    p_0: Tensor
    x_next: Tensor


def final(steps: Iterable[Step]) -> Tensor:
    """Run a sampler to its end and return the last x_next [B, N]. Raises ValueError if there is no step."""
    check_kind_of("steps", steps, Iterable)
    x_0 = None
    for step in steps:
        check_kind_of("each of the steps", step, Step)
        x_0 = step.x_next
    if x_0 is None:
        raise ValueError("The sampler yielded no step.")
    return x_0


def sampler(steps: Callable[..., Iterator[Step]]) -> Callable[..., Iterator[Step]]:
    """Decorate a sampler: it runs without gradients, and its arguments and predictions are checked."""
    steps = torch.no_grad()(steps)

    @functools.wraps(steps)
    def checked(
        predict: Predictor,
        x_t: Tensor,
        levels: Sequence[Level],
        *,
        chain: Chain,
        generator: Generators = None,
    ) -> Iterator[Step]:
        check_kind_of("predict", predict, Callable)
        check_kind_of("chain", chain, Chain)
        check_kind_of("x_t", x_t, Tensor)
        check_sequences("x_t", x_t, chain.states)
        check_levels(levels)
        check_generators(generator, len(x_t))

        def predicted(x: Tensor, level: Level) -> Tensor:
            p_0 = predict(x.clone(), level)  # which a predictor may change in place
            check_kind_of("the prediction p_0", p_0, Tensor)
            check_probabilities("the prediction p_0", p_0, x, chain.kinds)
            if not bool(((p_0 >= 0).all()) & ((p_0.sum(-1) - 1).abs() < 1e-3).all()):
                raise ValueError("A prediction p_0 must be probabilities: 0 or more, and 1 in sum over the kinds.")
            return chain.known(p_0, x)

        return steps(predicted, x_t, levels, chain=chain, generator=generator)

    return checked


@sampler
def ancestral(
    predict: Predictor, x_t: Tensor, levels: Sequence[Level], *, chain: Chain, generator: Generators = None
) -> Iterator[Step]:
    """Ancestral sampling: every position is drawn from the posterior, with the prediction in place of x_0.

        x_s ~ sum_k p_0(k) q(x_s | x_t, x_0 = k)                                (D3PM, Eq. 4; MDLM, Eq. 7)

    The positions of a step are drawn independently of one another, each from its own probabilities: exact for one
    position, and for sequences in the limit of many steps.

    Args:
        predict: called as predict(x_t, level); returns p_0 [B, N, kinds].
        x_t: sequences at levels[0], [B, N]. For the masked chain, positions that are not masked stay as they are.
        levels: from noise to data, as `chain.levels(steps)` gives them.
        generator: one, one per sequence, or None (torch's global generator).
    """
    for i in range(len(levels) - 1):
        p_0 = predict(x_t, levels[i])
        x_next = draw(chain.posterior(x_t, p_0, levels[i], levels[i + 1]), generator)
        yield Step(i, levels[i], levels[i + 1], x_t, p_0, x_next)
        x_t = x_next


@sampler
def most_certain_first(
    predict: Predictor, x_t: Tensor, levels: Sequence[Level], *, chain: Chain, generator: Generators = None
) -> Iterator[Step]:
    """For the masked chain: draw all masked positions, and keep those whose draw was the most probable.

    As many positions are unmasked at each step as `ancestral` unmasks on average, but not at random: those of which
    the prediction is the most certain (MaskGIT, Chang et al. 2022, Sec. 3.2). The samples are more regular than the
    data. Arguments as for `ancestral`; x_t is [B, N]. Raises ValueError for the uniform chain.
    """
    if not chain.masked:
        raise ValueError("most_certain_first unmasks positions, and the uniform chain has no mask: use ancestral.")
    hidden = (x_t == chain.kinds).sum(1)  # [B], of which the share 1 - keep is still masked at a level
    for i in range(len(levels) - 1):
        p_0 = predict(x_t, levels[i])
        masked = x_t == chain.kinds
        drawn = draw(p_0, generator)
        certain = p_0.gather(-1, drawn[..., None])[..., 0].masked_fill(~masked, 2.0)  # what is known stays first
        left = (hidden * (1 - levels[i + 1].keep)).round().long()  # [B]
        rank = certain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        written = masked & (rank < x_t.shape[1] - left[:, None])
        x_next = torch.where(written, drawn, x_t)
        yield Step(i, levels[i], levels[i + 1], x_t, p_0, x_next)
        x_t = x_next


@torch.no_grad()
def left_to_right(predict: Predictor, x_t: Tensor, *, chain: Chain, generator: Generators = None) -> Iterator[Step]:
    """For the masked chain: one position per step, from the left, each drawn from its prediction.

    It is how an autoregressive model writes. A predictor of the masked chain can be sampled so too, because it predicts
    whatever is masked. predict, chain, generator: as for `ancestral`; x_t [B, N], masked where to write.

    Raises ValueError for the uniform chain, and if nothing is masked.
    """
    check_kind_of("chain", chain, Chain)
    check_kind_of("x_t", x_t, Tensor)
    check_sequences("x_t", x_t, chain.states)
    check_generators(generator, len(x_t))
    places = (x_t == chain.kinds).any(0).nonzero().flatten().tolist() if chain.masked else []
    if not places:
        raise ValueError("left_to_right writes masked positions from the left, and none is masked here.")
    levels = chain.levels(len(places))
    for i, place in enumerate(places):
        p_0 = chain.known(predict(x_t.clone(), levels[i]), x_t)
        x_next = x_t.clone()
        x_next[:, place] = draw(p_0[:, place : place + 1], generator)[:, 0]
        yield Step(i, levels[i], levels[i + 1], x_t, p_0, x_next)
        x_t = x_next


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {
    "ancestral": ancestral,
    "most_certain_first": most_certain_first,
}


def sampler_of(name: Any) -> Callable[..., Iterator[Step]]:
    """The sampler of this name. Raises ValueError, with the names that there are, for another."""
    if not isinstance(name, str) or name not in SAMPLERS:
        raise unknown_name("sampler of text", name, SAMPLERS)
    return SAMPLERS[name]
