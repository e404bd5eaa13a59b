"""The exercises of notebook 15, Discrete diffusion for text."""

import math

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise, near


@exercise("15.1", "Lose letters", "my_noise(x_0, u, keep, mask)")
def loses_letters(answer: object, given: Given) -> None:
    """x_0 where u < keep, and the mask elsewhere, with several masks and shares; the ends keep = 0 and 1 too."""
    for keep, mask in ((0.3, 36), (0.8, 5), (0.0, 36), (1.0, 7)):
        x_0, u = (5 * given.rand(4, 50)).long(), given.rand(4, 50)
        x_t = given.tensor(answer, x_0, u, keep, mask, shape=(4, 50))
        share = f"with keep = {keep:g}"
        assert x_t.dtype == torch.int64, "x_t holds whole numbers, as x_0 does"
        expected = torch.where(u < keep, x_0, mask)
        if keep in (0.3, 0.8):
            assert not torch.equal(x_t, torch.where(u < keep, mask, x_0)), "keep is the share that stays, not the lost"
            assert not torch.equal(x_t, torch.where(u[:1] < keep, x_0, mask)), "each text has numbers u of its own"
            assert not bool(((x_t == 36) & (x_t != mask)).any()), "the mask is the argument mask, not always 36"
        assert torch.equal(x_t, expected), (
            f"{share} a position is kept where u is below keep, and is the mask elsewhere"
        )


@exercise("15.2", "When a letter appears", "my_reveal(keep_t, keep_s)")
def reveals(answer: object, given: Given) -> None:
    """(keep_s - keep_t) / (1 - keep_t), at the chain's ends too."""
    cases = [(0.2, 0.5), (0.0, 0.25), (0.6, 1.0), (0.0, 1.0)]
    for a, b in given.rand(2, 2).tolist():
        cases.append((0.9 * a, 0.9 * a + (1 - 0.9 * a) * (0.2 + 0.6 * b)))
    for t, s in cases:
        given.returns(
            answer,
            t,
            s,
            expected=(s - t) / (1 - t),
            close=1e-6,
            hint=f"for keep_t = {t:.2f} and keep_s = {s:.2f} this is not the share of masked positions that are shown",
            mistakes=[
                (s - t, "given that the position is masked at t: divide by the probability of that"),
                ((1 - s) / (1 - t), "this is the probability that the position stays masked"),
                ((s - t) / s, "divide by the share that is masked at t, not by the share that is known at s"),
                (t / s, "this is the share that a step of the forward chain keeps"),
                ((t - s) / (1 - t), "the sign is wrong: keep_s is the larger one"),
            ]
            if 0 < t and s < 1
            else (),
        )


@exercise("15.3", "The bound in bits", "my_bits(log_p, x_0, x_t, t, mask)", minutes=15)
def bounds_in_bits(answer: object, given: Given) -> None:
    """Per text: the sum over masked positions of -log2 p(x_0), divided by t and by the number of letters."""
    for mask in (6, 9):
        log_p = given.randn(5, 40, 6).log_softmax(-1)
        x_0, t = (6 * given.rand(5, 40)).long(), 0.1 + 0.8 * given.rand(5)
        x_t = torch.where(given.rand(5, 40) < t[:, None], mask, x_0)
        nats, hidden = -log_p.gather(-1, x_0[..., None])[..., 0], x_t == mask

        def bits(loss: Tensor, t: Tensor = t) -> Tensor:
            return loss.sum(1) / t / 40 / math.log(2)

        right = bits(nats * hidden)
        given.returns(
            answer,
            log_p,
            x_0,
            x_t,
            t,
            mask,
            expected=right,
            hint="this is not the sum of -log2 p_0(x_0) over the masked positions, divided by t and by their number N",
            mistakes=[
                (right * math.log(2), "these are nats: divide by log 2"),
                (right * t, "the weight 1 / t is missing"),
                (bits(nats), "only masked positions count: where the letter is seen there is nothing to predict"),
                (bits(nats * ~hidden), "these are the positions that are seen: the masked ones count"),
                (right * 40, "per letter: divide by the number of letters"),
                (-right, "the sign is wrong: a bound on -log p is positive"),
                (
                    right * 40 / hidden.sum(1),
                    "divide by all N letters, not by the masked ones: 1 / t makes up for them",
                ),
                (right * t / (1 - t), "the weight is 1 / t, not 1 / (1 - t)"),
                (right.mean().expand(5), "one number per text, not their mean"),
            ],
        )


@exercise("15.4", "Doubt a letter", "my_prediction(prior, x_t, keep)", minutes=15)
def doubts_a_letter(answer: object, given: Given) -> None:
    """Bayes' rule of the uniform chain: prior(k) * q(x_t | x_0 = k), normalised; keep = 0 gives the prior.

    Raises AssertionError, with a hint, for other probabilities.
    """
    for kinds, keep in ((5, 0.4), (8, 0.9), (5, 0.0)):
        prior, x_t = given.randn(kinds).softmax(0), int(given.rand(1) * kinds)
        here = (torch.arange(kinds, device="cpu", dtype=torch.int64) == x_t).long()
        joint = prior * (keep * here + (1 - keep) / kinds)
        got = given.tensor(answer, prior, x_t, keep, shape=(kinds,))
        right = joint / joint.sum()
        if near(got, right, 1e-5):
            continue
        hints = [
            (joint, "the probabilities must have the sum 1: divide by it"),
            (prior, "x_t says something about x_0: multiply by q(x_t | x_0 = k)"),
            (here, "x_t may be a letter that was drawn at random: it is not certain"),
            (keep * here + (1 - keep) / kinds, "this leaves the prior out"),
            (keep * here + (1 - keep) * prior, "this mixes the prior and x_t; Bayes' rule multiplies"),
            (_normed(prior * (keep * here + (1 - keep))), "a random letter is x_t with the probability 1 / K"),
            (_normed(prior * ((1 - keep) * here + keep / kinds)), "keep is the share that stays, not the lost one"),
        ]
        for wrong, hint in hints:
            assert not near(got, wrong.to(got), 1e-5), hint
        raise AssertionError(f"with keep = {keep:g} this is not prior(k) q(x_t | x_0 = k), divided by its sum")


def _normed(p: Tensor) -> Tensor:
    return p / p.sum()
