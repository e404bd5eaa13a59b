"""Discrete diffusion is what its formulas say: a chain of five states, in closed form by matrices, is the judge."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from diffusion_explained import noise
from diffusion_explained.discrete import (
    CLEAN,
    Alphabet,
    Chain,
    ExactSequences,
    Level,
    ancestral,
    bits_per_position,
    draw,
    final,
    grams_bits,
    left_to_right,
    most_certain_first,
    step_loss,
    training_loss,
)

WEIGHTS = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
STATES = torch.arange(5)[:, None]
BOTH = pytest.mark.parametrize("masked", [True, False], ids=["masked", "uniform"])
STEPS = pytest.mark.parametrize("steps", [1, 2, 7])


def five(masked):
    chain = Chain(5, masked)
    return chain, ExactSequences(chain, STATES, WEIGHTS)


@BOTH
def test_the_matrices_of_the_chain_multiply_and_end_at_its_end(masked):
    chain, _ = five(masked)
    a, b, c = (chain.level(t) for t in (0.2, 0.5, 0.9))
    torch.testing.assert_close(chain.transition(a, c), chain.transition(a, b) @ chain.transition(b, c))
    assert torch.equal(chain.transition(CLEAN, chain.level(1.0)), chain.end.expand(chain.states, -1))
    torch.testing.assert_close(chain.transition(a, b).sum(1), torch.ones(chain.states, dtype=torch.float64))
    assert chain.end[-1] == (1 if masked else 0.2)


@BOTH
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_the_marginal_is_the_product_of_the_matrices(masked, t):
    chain, _ = five(masked)
    expected = torch.eye(chain.states, dtype=torch.float64)[:5]
    if t > 0:
        expected = expected @ chain.transition(CLEAN, chain.level(t))
    torch.testing.assert_close(chain.marginal(STATES, chain.level(t))[:, 0], expected)


@BOTH
@pytest.mark.parametrize(("s", "t"), [(0.0, 0.4), (0.3, 0.6), (0.5, 1.0), (0.0, 1.0)])
def test_the_posterior_is_bayes_rule_by_matrices(masked, s, t):
    chain, _ = five(masked)
    before, level = chain.level(s), chain.level(t)
    step, seen = chain.transition(before, level), 0
    q_s, q_t = chain.marginal(STATES, before)[:, 0], chain.marginal(STATES, level)[:, 0]
    for k, i in itertools.product(range(5), range(chain.states)):
        if q_t[k, i] > 0:
            known = F.one_hot(torch.tensor([[k]]), 5).double()
            got = chain.posterior(torch.tensor([[i]]), known, level, before)[0, 0]
            torch.testing.assert_close(got, step[:, i] * q_s[k] / q_t[k, i])
            seen += 1
    assert seen >= 5


@BOTH
@STEPS
def test_with_the_exact_prediction_the_reverse_chain_ends_at_the_data_in_any_number_of_steps(masked, steps):
    """One position: the marginals of the reverse chain, by matrices, are those of the forward chain at each level."""
    chain, exact = five(masked)
    p = chain.end.clone()
    levels = chain.levels(steps)
    for level, before in itertools.pairwise(levels):
        reachable = torch.nonzero(p > 0)  # at t = 1 the masked chain has one state
        reverse = chain.posterior(reachable, exact(reachable, level), level, before)[:, 0]
        p = p[reachable[:, 0]] @ reverse
        torch.testing.assert_close(p, WEIGHTS @ chain.marginal(STATES, before)[:, 0])
    torch.testing.assert_close(p[:5], WEIGHTS)


@BOTH
@STEPS
def test_the_sampler_draws_the_data_and_its_steps_are_a_path(masked, steps):
    chain, exact = five(masked)
    n, stream = 6000, noise.stream(3)
    kept = list(ancestral(exact, chain.start(n, 1, stream), chain.levels(steps), chain=chain, generator=stream))
    assert [step.i for step in kept] == list(range(steps))
    assert kept[0].level == Level(1.0, 0.0) and kept[-1].next_level == CLEAN
    assert all(torch.equal(one.x_next, two.x_t) for one, two in itertools.pairwise(kept))
    off = (exact.share(final(kept)) - WEIGHTS).abs() / (WEIGHTS * (1 - WEIGHTS) / n).sqrt()
    assert off.max() < 4


@BOTH
@STEPS
def test_the_bound_of_the_exact_prediction_is_the_entropy(masked, steps):
    """By enumeration of x_0 and x_t, for any number of steps; and for a wrong prediction it is more."""
    chain, exact = five(masked)
    entropy = float(-(WEIGHTS * WEIGHTS.log()).sum())

    def bound(predict):
        total = 0.0
        for level, before in itertools.pairwise(chain.levels(steps)):
            q_t = chain.marginal(STATES, level)[:, 0]
            for k, i in torch.nonzero(q_t > 0).tolist():
                x_0, x_t = torch.tensor([[k]]), torch.tensor([[i]])
                loss = step_loss(chain, x_0, x_t, chain.known(predict(x_t, level), x_t), level, before)
                total += float(WEIGHTS[k] * q_t[k, i] * loss)
        return total

    assert bound(exact) == pytest.approx(entropy, abs=1e-9)
    wrong = ExactSequences(chain, STATES, WEIGHTS.flip(0))
    assert bound(wrong) > entropy + 0.1


@BOTH
def test_the_estimate_of_the_bound_is_in_bits(masked):
    chain, exact = five(masked)
    x_0 = exact.sample(4000, noise.stream(0))
    bits = bits_per_position(exact, x_0, chain.levels(5), chain=chain, generator=noise.stream(1))
    entropy = float(-(WEIGHTS * WEIGHTS.log2()).sum())
    assert bits.shape == (4000,) and abs(float(bits.mean()) - entropy) < 4 * float(bits.std()) / 4000**0.5


def test_the_masked_loss_is_a_weighted_cross_entropy_at_the_masks():
    chain, t = Chain(5), torch.tensor([0.25, 0.75])
    logits = torch.randn(2, 6, 5, generator=noise.stream(0), dtype=torch.float64)
    x_0 = torch.randint(5, (2, 6), generator=noise.stream(1))
    x_t = torch.where(torch.tensor([[True, False] * 3]), 5, x_0)
    loss = training_loss(chain, logits, x_0, x_t, 1 - t)
    p_0 = chain.informed(logits, x_t, 1 - t)
    for b in (0, 1):
        level, before = chain.level(float(t[b])), chain.level(float(t[b]) - 0.001)
        row = slice(b, b + 1)
        term = step_loss(chain, x_0[row], x_t[row], p_0[row], level, before)[0]
        torch.testing.assert_close(loss[b], 1000 * term)
        torch.testing.assert_close(loss[b, 0], -p_0[b, 0, x_0[b, 0]].log() / t[b])
        assert loss[b, 1] == 0


def test_the_uniform_loss_is_the_term_of_the_bound_and_its_gradient_is_finite():
    chain, keep = Chain(5, masked=False), torch.tensor([0.0, 0.4, 0.9999], dtype=torch.float64)
    logits = (9 * torch.randn(3, 4, 5, generator=noise.stream(0), dtype=torch.float64)).requires_grad_()
    x_0, x_t = (torch.randint(5, (3, 4), generator=noise.stream(k)) for k in (1, 2))
    loss = training_loss(chain, logits, x_0, x_t, keep, steps=10)
    p_0 = chain.informed(logits, x_t, keep)
    term = step_loss(chain, x_0[1:2], x_t[1:2], p_0[1:2], Level(0.6, 0.4), Level(0.5, 0.5))
    torch.testing.assert_close(loss[1:2], 10 * term)
    loss.sum().backward()
    assert bool(logits.grad.isfinite().all()) and bool(loss.isfinite().all())


def test_a_networks_prediction_is_informed_by_the_position_itself():
    """With the prior as its softmax, a single position's prediction is the exact one."""
    chain, exact = five(masked=False)
    for t in (0.1, 0.6, 1.0):
        level = chain.level(t)
        got = chain.informed(WEIGHTS.log().expand(5, 1, 5), STATES, torch.full((5,), level.keep))
        torch.testing.assert_close(got, exact(STATES, level))
    hidden = torch.tensor([[5], [2]])
    got = Chain(5).informed(WEIGHTS.log().expand(2, 1, 5), hidden, torch.zeros(2))
    torch.testing.assert_close(got[:, 0], torch.stack([WEIGHTS, F.one_hot(torch.tensor(2), 5).double()]))


PAIRS = torch.tensor([[0, 0], [1, 1], [2, 2]])  # two letters that are always equal


@BOTH
def test_positions_of_one_step_are_independent_and_many_steps_or_one_by_one_are_not(masked):
    chain = Chain(3, masked)
    exact, n = ExactSequences(chain, PAIRS), 1500

    def equal(steps):
        stream = noise.stream(steps)
        x = final(ancestral(exact, chain.start(n, 2, stream), chain.levels(steps), chain=chain, generator=stream))
        return float((x[:, 0] == x[:, 1]).double().mean())

    assert equal(1) == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / n))
    assert equal(4) == pytest.approx(1 - (2 / 3) / 4 if masked else equal(4), abs=4 * math.sqrt(0.14 / n))
    assert equal(1) < equal(4) < equal(40) and equal(40) > 0.95
    if masked:
        x = final(left_to_right(exact, chain.start(n, 2), chain=chain, generator=noise.stream(0)))
        assert float(exact.share(x).sum()) == 1.0
        x = final(most_certain_first(exact, chain.start(n, 2), chain.levels(2), chain=chain, generator=noise.stream(0)))
        assert float(exact.share(x).sum()) == 1.0


def test_known_letters_stay_and_the_most_certain_come_first():
    chain = Chain(3)
    p = torch.tensor([[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.4, 0.3, 0.3]], dtype=torch.float64)
    x_t = torch.tensor([[3, 3, 3, 2], [3, 3, 3, 3]])
    asked = []

    def predict(x, level):
        asked.append(level.t)
        return p.expand(2, -1, -1)

    for sampler in (ancestral, most_certain_first):
        kept = list(sampler(predict, x_t, chain.levels(3), chain=chain, generator=noise.generators(2, 5)))
        assert all(step.x_t[0, 3] == 2 and step.p_0[0, 3, 2] == 1 for step in kept)
        hidden = [(step.x_next == 3).sum(1).tolist() for step in kept]
        assert hidden[-1] == [0, 0]
        if sampler is most_certain_first:
            assert hidden[0] == [2, 3] and hidden[1] == [1, 1]
            assert kept[0].x_next[0, 1] != 3 or kept[0].x_next[0, 2] != 3
    assert asked[:3] == pytest.approx([1, 2 / 3, 1 / 3])


@BOTH
def test_a_seed_gives_the_same_sequence_alone_and_in_a_batch(masked):
    chain, exact = five(masked)

    def drawn(count, seed):
        streams = noise.generators(count, seed)
        return final(ancestral(exact, chain.start(count, 1, streams), chain.levels(4), chain=chain, generator=streams))

    batch = drawn(12, 0)
    assert torch.equal(batch[7:8], drawn(1, 7)) and len(batch.unique()) > 1


def test_draw_never_draws_what_has_no_probability():
    p = torch.tensor([0.0, 1e-9, 0.0, 2e-9, 0.0]).expand(1, 4000, 5)
    drawn = draw(p, noise.stream(0))
    assert set(drawn.unique().tolist()) == {1, 3}
    assert float((drawn == 3).double().mean()) == pytest.approx(2 / 3, abs=0.04)
    u = noise.rand((3, 2), noise.generators(3, 4))
    assert u.dtype == torch.float64 and torch.equal(u[2:], noise.rand((1, 2), noise.generators(1, 6)))


def test_grams_are_a_floor_and_their_probabilities_sum_to_one():
    text = "abab" * 200
    bits = grams_bits(text, text, 3)
    assert bits[0] == pytest.approx(1.0, abs=0.01) and bits[1] < 0.1 and len(bits) == 3
    for n in (1, 2, 3):  # over all letters after one context
        asked = [grams_bits("abcabcaac", "ab" + letter, n)[-1] * 3 for letter in "abc"]
        two = grams_bits("abcabcaac", "ab", n)[-1] * 2
        assert sum(2 ** -(one - two) for one in asked) == pytest.approx(1.0, abs=0.35)
    with pytest.raises(ValueError, match="empty"):
        grams_bits("", "a")


def test_an_alphabet_reads_what_it_writes_and_names_what_it_does_not_know():
    alphabet = Alphabet("abc .")
    assert alphabet.encode("Cab _.").tolist() == [2, 0, 1, 3, 5, 4]
    assert alphabet.decode(alphabet.encode("cab _.")[None]) == ["cab _."]
    with pytest.raises(ValueError, match=r"does not know 'ä', '€'.*knows the letters a b c \., the space, and _"):
        alphabet.encode("äb€")
    for letters in ("aa", "a_", 5):
        with pytest.raises(ValueError, match="alphabet"):
            Alphabet(letters)


CHAIN, ONE = Chain(3), torch.zeros(1, 2, dtype=torch.int64)
SURE = torch.full((1, 2, 3), 1 / 3)
REFUSED = {
    "one kind": lambda: Chain(1),
    "masked in words": lambda: Chain(3, masked="yes"),
    "time above 1": lambda: CHAIN.level(1.5),
    "no steps": lambda: CHAIN.levels(0),
    "backwards": lambda: CHAIN.transition(CHAIN.level(0.5), CHAIN.level(0.2)),
    "a Gaussian level": lambda: CHAIN.transition((0.0, 1.0), CHAIN.level(0.2)),
    "floats as kinds": lambda: CHAIN.marginal(ONE.float(), CLEAN),
    "a mask as data": lambda: CHAIN.marginal(ONE + 3, CLEAN),
    "a kind that is not there": lambda: CHAIN.posterior(ONE + 4, SURE, CHAIN.level(0.5), CLEAN),
    "probabilities of another shape": lambda: CHAIN.posterior(ONE, SURE[..., :2], CHAIN.level(0.5), CLEAN),
    "a prediction that is no distribution": lambda: list(
        ancestral(lambda x, level: SURE * 2, ONE + 3, CHAIN.levels(2), chain=CHAIN)
    ),
    "a prediction below 0": lambda: list(
        ancestral(lambda x, level: SURE - torch.tensor([0.5, -0.5, 0.0]), ONE + 3, CHAIN.levels(2), chain=CHAIN)
    ),
    "a prediction of NaN": lambda: list(
        ancestral(lambda x, level: SURE * math.nan, ONE + 3, CHAIN.levels(2), chain=CHAIN)
    ),
    "levels that rise": lambda: ancestral(len, ONE, CHAIN.levels(2)[::-1], chain=CHAIN),
    "no predictor": lambda: ancestral(None, ONE, CHAIN.levels(2), chain=CHAIN),
    "generators of another number": lambda: ancestral(
        len, ONE, CHAIN.levels(2), chain=CHAIN, generator=noise.generators(3)
    ),
    "certain first without a mask": lambda: next(
        most_certain_first(lambda x, level: SURE, ONE, CHAIN.levels(2), chain=Chain(3, masked=False))
    ),
    "nothing to write": lambda: next(left_to_right(lambda x, level: SURE, ONE, chain=CHAIN)),
    "a bound that starts in the middle": lambda: bits_per_position(
        lambda x, level: SURE, ONE, CHAIN.levels(4)[1:], chain=CHAIN
    ),
    "weights of another number": lambda: ExactSequences(CHAIN, ONE, torch.ones(2)),
    "sequences of another length": lambda: ExactSequences(CHAIN, ONE)(ONE[:, :1], CHAIN.level(0.5)),
    "no steps to end": lambda: final([]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_makes_no_chain_is_refused_in_a_sentence(what):
    with pytest.raises(ValueError, match=r".{15,}") as raised:
        REFUSED[what]()
    assert "\n" not in str(raised.value)
