"""The loss of discrete diffusion: the variational bound, a weighted cross entropy, in nats and in bits per position."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import typed_arguments, whole
from diffusion_explained.devices import to_float64
from diffusion_explained.discrete.chain import Chain, Level, check_levels, check_sequences
from diffusion_explained.discrete.samplers import Predictor
from diffusion_explained.noise import Generators

LEAST = 1e-30  # a probability below is taken as this one: the loss of a certain mistake stays finite
STEPS = 1000  # of the bound that is trained


@typed_arguments
def step_loss(chain: Chain, x_0: Tensor, x_t: Tensor, p_0: Tensor, level: Level, next_level: Level) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) per position [B, N], in nats: one term of the bound.

    Source: D3PM, Eq. 1 and 4. For the masked chain it is a cross entropy at the masked positions, weighted:

        (keep_s - keep_t) / (1 - keep_t) * -log p_0(x_0)                                    (MDLM, Eq. 10)

    x_0, x_t: [B, N]; p_0: the prediction, [B, N, kinds]; level, next_level: t and s, of all sequences.
    """
    truth = chain.posterior(x_t, F.one_hot(x_0, chain.kinds).to(p_0), level, next_level)
    return _divergence(truth, chain.posterior(x_t, p_0, level, next_level))


@typed_arguments
def training_loss(chain: Chain, logits: Tensor, x_0: Tensor, x_t: Tensor, keep: Tensor, steps: int = STEPS) -> Tensor:
    """The bound of a sampler with so many steps, per position [B, N], in nats, estimated at one time per sequence.

        steps * KL(q(x_s | x_t, x_0) || p(x_s | x_t)),   s = t - 1 / steps                          (D3PM, Eq. 1)
        masked: 1 / t * -log p_0(x_0) where x_t is masked, for any number of steps           (MDLM, Eq. 10 and 11)

    Its mean over t, uniform in [0, 1], is the bound. It is the loss that the networks are trained on.

    Args:
        logits: the network's, as `Chain.informed` takes them, [B, N, kinds]; x_0, x_t: [B, N].
        keep: [B], 1 - t; t is at least 1 / steps.
    """
    if chain.masked:
        losses = F.cross_entropy(logits.transpose(1, 2), x_0, reduction="none")
        return losses * (x_t == chain.kinds) / (1 - keep).clamp(min=1 / steps)[:, None]
    keep = keep.clamp(max=1 - 1 / steps)
    p_0, at = chain.informed(logits, x_t, keep), (keep[:, None, None], keep[:, None, None] + 1 / steps)
    truth = chain.mixture(x_t, F.one_hot(x_0, chain.kinds).to(p_0), *at)
    return steps * _divergence(truth, chain.mixture(x_t, p_0, *at))


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) over the last dimension."""
    # a clamp has gradient 0 where it acts, so that impossible states add 0 to the gradient, and not NaN
    return (torch.xlogy(p, p) - p * q.clamp(min=LEAST).log()).sum(-1)


@torch.no_grad()
@typed_arguments(but="predict")
def bits_per_position(
    predict: Predictor, x_0: Tensor, levels: Sequence[Level], *, chain: Chain, generator: Generators = None
) -> Tensor:
    """An estimate of the bound on -log2 p(x_0) / N, per sequence [B] (float64), with one draw of x_t per level.

        -log p(x_0) <= sum over the levels of E_q KL(q(x_s | x_t, x_0) || p(x_s | x_t)) + KL(q(x_1 | x_0) || end)

    Source: D3PM, Eq. 1. At t = 1 nothing is kept, so the last term is 0. The bound is that of the sampler with these
    levels, and falls with their number. x_0: [B, N]; predict, levels, generator: as for `ancestral`.

    Raises ValueError unless the levels lead from t = 1 to t = 0.
    """
    check_sequences("x_0", x_0, chain.kinds)
    check_levels(levels)
    if levels[0].keep != 0 or levels[-1].keep != 1:
        raise ValueError("The bound needs levels from t = 1 to t = 0, as chain.levels(steps) gives them.")
    total = to_float64(torch.zeros(len(x_0), dtype=torch.float32, device=x_0.device))
    for level, next_level in pairwise(levels):
        x_t = chain.add_noise(x_0, level, generator)
        p_0 = chain.known(predict(x_t, level), x_t)
        total += to_float64(step_loss(chain, x_0, x_t, p_0, level, next_level)).mean(1)
    return total / math.log(2)


@typed_arguments
def grams_bits(train: str, test: str, most: int = 5) -> list[float]:
    """Bits per letter of n-gram models of n = 1 .. most, counted on one text and measured on another: the floor.

        p_n(c | context) = (count(context c) + distinct(context) p_{n-1}(c)) / (count(context) + distinct(context))

    Source: Witten & Bell 1991, method C, interpolated. distinct: the number of letters that ever followed the context.
    Raises ValueError for empty texts.
    """
    whole("most", most, 1, 12)
    if not train or not test:
        raise ValueError("n-grams need a text to count and a text to measure; one of them is empty.")
    kinds = len(set(train) | set(test))
    p, bits = [1 / kinds] * len(test), []
    for n in range(1, most + 1):
        counts = Counter(train[i : i + n] for i in range(len(train) - n + 1))
        contexts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for gram, count in counts.items():
            contexts[gram[:-1]][0] += count
            contexts[gram[:-1]][1] += 1
        for i in range(n - 1, len(test)):
            seen, distinct = contexts.get(test[i - n + 1 : i], (0, 0))
            if seen:
                p[i] = (counts.get(test[i - n + 1 : i + 1], 0) + distinct * p[i]) / (seen + distinct)
        bits.append(-sum(map(math.log2, p)) / len(test))
    return bits
