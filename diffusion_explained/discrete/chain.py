"""The chain over kinds: each position keeps its kind, or is replaced, by the mask or by a random kind.

    q(x_t | x_0) = Cat(keep(t) * onehot(x_0) + (1 - keep(t)) * end)           (MDLM, Sahoo et al. 2024, Eq. 1)

`end` is where the chain ends: all probability on the mask (the absorbing chain), or equal shares of all kinds (the
uniform chain); both are from D3PM (Austin et al. 2021, Sec. 3.1). `keep` is what alpha is for images. There is no
sigma: a kind is kept or lost, but never a little of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import check_kind_of, number, truth, typed_arguments, whole
from diffusion_explained.devices import to_float64
from diffusion_explained.messages import shortened
from diffusion_explained.noise import Generators, rand

MOST_KINDS = 10_000


class Level(NamedTuple):
    """A place of the chain: its time t from 0 (data) to 1 (all lost), and the share of positions that are kept."""

    t: float
    keep: float


CLEAN = Level(0.0, 1.0)


@dataclass(frozen=True)
class Chain:
    """The chain over `kinds` kinds; masked: it ends in the mask, otherwise in uniformly random kinds.

    Sequences x are int64 [B, N], kinds 0 .. kinds - 1; the mask is the number `kinds`. Probabilities have one more
    dimension of `states`, which counts the mask too. Time is keep(t) = 1 - t (MDLM, Sec. 5, "log-linear").

    Raises ValueError for fewer than 2 kinds.
    """

    kinds: int
    masked: bool = True

    def __post_init__(self) -> None:
        whole("kinds", self.kinds, 2, MOST_KINDS)
        truth("masked", self.masked)

    @property
    def states(self) -> int:
        """The number of states of a position: the kinds, and the mask if there is one."""
        return self.kinds + self.masked

    @property
    def end(self) -> Tensor:
        """The distribution of a position at the chain's end, float64 [states]."""
        share = [0.0] * self.kinds + [1.0] if self.masked else [1 / self.kinds] * self.kinds
        return torch.tensor(share, dtype=torch.float64, device="cpu")

    @typed_arguments
    def level(self, t: float) -> Level:
        """The level at time t: keep = 1 - t. Raises ValueError for t outside [0, 1]."""
        t = number("t", t, "a time from 0 (data) to 1 (all positions lost)", 0, 1)
        return Level(t, 1 - t)

    def levels(self, num_inference_steps: int) -> list[Level]:
        """The levels that a sampler visits in so many steps, evenly from t = 1 to t = 0 (one more than the steps)."""
        steps = whole("num_inference_steps", num_inference_steps, 1, 10_000)
        return [self.level(1 - i / steps) for i in range(steps + 1)]

    @typed_arguments
    def transition(self, level: Level, noisier: Level) -> Tensor:
        """The matrix Q of q(x_t | x_s), float64 [states, states]; row x_s, column x_t.

            Q = a I + (1 - a) 1 end^T,   a = keep_t / keep_s                        (D3PM, Sec. 3; MDLM, Eq. 3)

        level is s, noisier is t; Q of two steps is the product of their matrices. Raises ValueError unless s < t.
        """
        check_before(level, noisier)
        a = noisier.keep / level.keep
        eye = torch.eye(self.states, dtype=torch.float64, device="cpu")
        return a * eye + (1 - a) * self.end.expand(self.states, -1)

    @typed_arguments
    def marginal(self, x_0: Tensor, level: Level) -> Tensor:
        """q(x_t | x_0), float64 [B, N, states]: keep * onehot(x_0) + (1 - keep) * end, for x_0 [B, N].

        Source: D3PM, Eq. 3; MDLM, Eq. 1. Raises ValueError for x_0 that are not kinds.
        """
        check_sequences("x_0", x_0, self.kinds)
        here = to_float64(F.one_hot(x_0, self.states))
        return level.keep * here + (1 - level.keep) * self.end.to(here.device)

    @typed_arguments
    def add_noise(self, x_0: Tensor, level: Level, generator: Generators = None) -> Tensor:
        """Draw x_t ~ q(x_t | x_0), int64 [B, N]; generator: one, one per sequence, or None, as for `noise.randn`."""
        return draw(self.marginal(x_0, level), generator)

    def start(self, batch_size: int, length: int, generator: Generators = None) -> Tensor:
        """Sequences [B, N] at the chain's end: all masks, or uniformly random kinds."""
        shape = (whole("batch_size", batch_size, 1), whole("length", length, 1))
        return draw(self.end.expand(*shape, -1), generator)

    def known(self, p_0: Tensor, x_t: Tensor) -> Tensor:
        """p_0 [B, N, kinds], with certainty where x_t [B, N] shows the kind: a position that is unmasked stays.

        Source: MDLM, Sec. 3.2.3 ("carry-over unmasking"). The uniform chain shows no kind for certain.
        """
        if not self.masked:
            return p_0
        seen = x_t != self.kinds
        return torch.where(seen[..., None], F.one_hot(torch.where(seen, x_t, 0), self.kinds).to(p_0), p_0)

    def informed(self, logits: Tensor, x_t: Tensor, keep: Tensor) -> Tensor:
        """p_0 [B, N, kinds]: a network's softmax, times what the position itself says of its clean kind (Bayes).

            p_0(k) ~ q(x_t | x_0 = k) * softmax(logits)_k

        So a network need not learn the chain. For the masked chain this is `known`; for the uniform one, x_t itself
        is more probable by 1 + keep * kinds / (1 - keep). logits [B, N, kinds]; x_t [B, N]; keep [B], below 1.
        """
        if self.masked:
            return self.known(logits.softmax(-1), x_t)
        more = torch.log1p(keep * self.kinds / (1 - keep).clamp(min=1e-6))[:, None, None]
        return (logits + more * F.one_hot(x_t, self.kinds)).softmax(-1)

    @typed_arguments
    def posterior(self, x_t: Tensor, p_0: Tensor, level: Level, next_level: Level) -> Tensor:
        """p(x_s | x_t) = sum_k p_0(k) q(x_s | x_t, x_0 = k), [B, N, states], in the dtype of p_0.

            q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0)                     (D3PM, Eq. 3 and 4)

        With p_0 = onehot(x_0) it is the posterior itself. For the absorbing chain, at a mask:

            kind k with (keep_s - keep_t) / (1 - keep_t) * p_0(k),  else still masked        (MDLM, Eq. 6 and 7)

        Args:
            x_t: [B, N], at `level`.
            p_0: probabilities of the kinds of x_0, [B, N, kinds].
            level, next_level: t and s, with s before t.

        Raises ValueError for other shapes, and unless next_level is before level.
        """
        check_before(next_level, level)
        check_sequences("x_t", x_t, self.states)
        check_probabilities("p_0", p_0, x_t, self.kinds)
        return self.mixture(x_t, p_0, level.keep, next_level.keep)

    def mixture(self, x_t: Tensor, p_0: Tensor, keep: float | Tensor, next_keep: float | Tensor) -> Tensor:
        """`posterior` without its checks; keep and next_keep may be tensors [B, 1, 1], one level per sequence.

        x_t [B, N], p_0 [B, N, kinds] -> [B, N, states].
        """
        end, here = self.end.to(p_0), F.one_hot(x_t, self.states).to(p_0)
        a = keep / next_keep
        at_end = end[x_t][..., None]  # [B, N, 1], the probability of x_t at the chain's end
        likely = keep * here + (1 - keep) * at_end  # q(x_t | x_0 = k)
        p_0 = F.pad(self.known(p_0, x_t), (0, self.states - self.kinds))
        share = torch.where(likely > 0, p_0 / likely.clamp(min=1e-30), 0)  # p_0(k) / q(x_t | x_0 = k)
        before = next_keep * share + (1 - next_keep) * end * share.sum(-1, keepdim=True)
        result = (a * here + (1 - a) * at_end) * before
        return torch.where((x_t != self.kinds)[..., None], here, result) if self.masked else result


def draw(p: Tensor, generator: Generators = None) -> Tensor:
    """Draw kinds [B, N] with probabilities p [B, N, states] (their sum need not be 1), by the inverse of their sum.

    One uniform number per position, in float64, so that a seed gives the same sequence in any batch and on any device.
    (Gumbel noise in float32 draws rare kinds too seldom: Zheng et al. 2024, Sec. 4.)
    """
    total = to_float64(p).cumsum(-1)
    u = rand(p.shape[:-1], generator)[..., None].to(total.device) * total[..., -1:]
    return (total <= u).sum(-1).clamp(max=p.shape[-1] - 1).to(p.device)


def check_before(level: Level, noisier: Level) -> None:
    """Raise ValueError unless two levels of a chain are such, and the first keeps more than the second."""
    for one in (level, noisier):
        check_kind_of("level", one, Level)
    if not 0 <= noisier.keep < level.keep <= 1:
        raise ValueError(
            f"The chain goes from data to noise: 0 <= keep_t < keep_s <= 1; got keep_t = {noisier.keep:g} and keep_s = "
            f"{level.keep:g}."
        )


def check_levels(levels: Sequence[Level]) -> None:
    """Raise ValueError unless levels are two or more of a chain, from noise to data."""
    if not isinstance(levels, Sequence) or len(levels) < 2:
        raise ValueError(f"levels must be two or more, as chain.levels(steps) gives them; got {shortened(levels)}.")
    for noisier, level in pairwise(levels):
        check_before(level, noisier)


def check_sequences(what: str, x: Tensor, states: int) -> None:
    """Raise ValueError unless x is int64 [B, N], with numbers from 0 to states - 1."""
    if x.dtype != torch.int64 or x.ndim != 2 or x.numel() == 0:
        raise ValueError(f"{what} must be whole numbers [B, N], int64; got {list(x.shape)} of {x.dtype}.")
    if x.device.type == "cpu" and not 0 <= int(x.min()) <= int(x.max()) < states:
        raise ValueError(f"{what} must lie in 0 .. {states - 1}; got {int(x.min())} to {int(x.max())}.")


def check_probabilities(what: str, p: Tensor, x: Tensor, kinds: int) -> None:
    """Raise ValueError unless p is [B, N, kinds] for sequences x [B, N], of floats on the same device."""
    if not p.is_floating_point() or p.shape != (*x.shape, kinds) or p.device != x.device:
        raise ValueError(f"{what} must be probabilities {[*x.shape, kinds]}; got {list(p.shape)} of {p.dtype}.")
