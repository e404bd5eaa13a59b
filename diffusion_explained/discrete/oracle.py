"""The exact predictor of a known distribution over sequences: what a network is trained to approximate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import named_options, typed_arguments, whole
from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.discrete.chain import Chain, Level, check_sequences

MISFIT = 1e-12  # the probability of a position that does not fit


class ExactSequences:
    """A distribution over a few sequences, p(x_0) = weight_m at sequence m, with its exact predictor.

        p(x_0^n = k | x_t) = sum_m weight_m prod_i q(x_t^i | x_m^i) [x_m^n = k] / the same without [...]

    With sequences of one position, it is a chain of `kinds` states, and everything about it has a closed form.

    Args:
        chain: its kinds are those of the sequences.
        sequences: [M, N], int64.
        weights: [M], or None for equal ones.

    Raises ValueError for sequences that are not of the chain's kinds, and for weights that define no distribution.
    """

    @named_options
    @typed_arguments
    def __init__(self, chain: Chain, sequences: Tensor, weights: Tensor | None = None) -> None:
        check_sequences("sequences", sequences, chain.kinds)
        given = [1.0] * len(sequences) if weights is None else weights
        self.chain, self.sequences = chain, sequences
        self.weights = float64_on_cpu("weights", given).to(sequences.device)
        if self.weights.shape != (len(sequences),) or not bool((self.weights >= 0).all() & (self.weights.sum() > 0)):
            raise ValueError(f"weights must be {len(sequences)} numbers, 0 or more, not all 0.")
        self.weights = self.weights / self.weights.sum()

    @typed_arguments
    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        """The exact p_0 [B, N, kinds], float64, at x_t [B, N].

        A sampler that draws several positions at once can reach an x_t that no sequence of the distribution leads to;
        then those count that differ in the fewest positions. Raises ValueError for x_t of another length.
        """
        check_sequences("x_t", x_t, self.chain.states)
        if x_t.shape[1] != self.sequences.shape[1]:
            raise ValueError(f"x_t must be [B, {self.sequences.shape[1]}]; got {list(x_t.shape)}.")
        likely = self.chain.marginal(self.sequences, level)  # [M, N, states]
        if self.chain.masked:  # keep and 1 - keep cancel: what counts is whether a sequence fits the known positions
            likely = to_float64(F.one_hot(self.sequences, self.chain.states))
            likely[..., -1] = 1
        at = x_t.T[None].expand(len(likely), -1, -1)  # [M, N, B]
        joint = self.weights[:, None] * likely.clamp(min=MISFIT).gather(2, at).prod(1)  # [M, B]
        kinds = to_float64(F.one_hot(self.sequences, self.chain.kinds))  # [M, N, kinds]
        return torch.einsum("mb,mnk->bnk", joint / joint.sum(0), kinds)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw n sequences [n, N]."""
        chosen = torch.multinomial(self.weights.cpu(), whole("n", n, 1), replacement=True, generator=generator)
        return self.sequences[chosen.to(self.sequences.device)]

    def share(self, x: Tensor) -> Tensor:
        """The share of each of the M sequences among x [B, N], float64 [M]; their sum is 1 if x holds no other."""
        return to_float64((x[:, None] == self.sequences).all(-1)).mean(0)
