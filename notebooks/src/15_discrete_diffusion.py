# %% [markdown]
# # 15 · Discrete diffusion for text
#
# A pixel can be a little noisy. A letter cannot: it is there, it is another one, or it is hidden. So where does
# diffusion come from, if there is nothing to add noise to? From the part of the idea that never needed Gaussians: a
# fixed chain that forgets the data step by step, and a model that walks it backwards. This notebook tells that second,
# equally short story: letters are hidden at random, a network guesses them, and text appears everywhere at once instead
# of from left to right.
#
# **When you have worked through it, you can**
#
# - write the forward chain over kinds, absorbing (masked) and uniform, with its marginal and its posterior;
# - derive its loss, a cross entropy weighted by $1 / t$, and turn it into bits per letter;
# - check a sampler and a loss against a chain of five states, where everything is known exactly;
# - say what the number of steps is for, and why one step is enough for one letter but not for two;
# - compare a diffusion model fairly with its autoregressive twin: same network, same computation, and a floor beside
#   both;
# - fill gaps in a text, and choose the order in which letters appear.
#
# *Beside you:* Austin et al. 2021, [Structured Denoising Diffusion Models in Discrete
# State-Spaces](https://arxiv.org/abs/2107.03006) (D3PM); Sahoo et al. 2024, [Simple and Effective Masked Diffusion
# Language Models](https://arxiv.org/abs/2406.07524) (MDLM). Read notebook 01 first. About 45 minutes to read, under
# half a minute to run.

# %%
import math

import ipywidgets
import matplotlib.pyplot as plt
import torch

from diffusion_explained import discrete, noise, plots, widgets
from diffusion_explained.data.novels import LETTERS, novels
from diffusion_explained.exercises import check
from diffusion_explained.measured import rows_of

plt.rcParams["figure.dpi"] = 100

# %% [markdown]
# ## 1 · A chain that forgets
#
# Let each position of a sequence have one of $K$ kinds: letters, tokens, colours of a palette. At time $t$ a position
# still has its own kind with the probability $\alpha_t$; otherwise it is where the chain ends, $\pi$:
#
# $$
# q(x_t \mid x_0) = \operatorname{Cat}\left( \alpha_t\, \mathbf e_{x_0} + (1 - \alpha_t)\, \pi \right) , \qquad
# \alpha_t = 1 - t . \tag{MDLM, Eq. 1}
# $$
#
# <small>In code: `discrete.Chain.marginal`. Test:
# `tests/test_discrete.py::test_the_marginal_is_the_product_of_the_matrices`.</small>
#
# <details><summary>Derivation: from single steps to the closed form</summary>
#
# 1. One step from $s$ to $t$ keeps a position with the probability $a = \alpha_t / \alpha_s$ and otherwise draws it
#    anew from $\pi$. As a matrix, row $x_s$, column $x_t$: $Q_{t|s} = a I + (1 - a)\, \mathbf 1 \pi^\top$.
# 2. Two steps with $a$ and $b$: $(a I + (1 - a) \mathbf 1 \pi^\top)(b I + (1 - b) \mathbf 1 \pi^\top)$. Because $\pi$
#    sums to one, $\pi^\top \mathbf 1 = 1$, and $\mathbf 1 \pi^\top \mathbf 1 \pi^\top = \mathbf 1 \pi^\top$.
# 3. Multiply out: $ab\, I + \left[ a (1 - b) + (1 - a) b + (1 - a)(1 - b) \right] \mathbf 1 \pi^\top = ab\, I + (1 -
#    ab)\, \mathbf 1 \pi^\top$. The kept shares multiply, as $\bar\alpha$ does in DDPM.
# 4. From $s = 0$, with $\alpha_0 = 1$: row $x_0$ of $Q_{t|0}$ is $\alpha_t \mathbf e_{x_0} + (1 - \alpha_t) \pi$.
#
# </details>
#
# Two ends are usual. $\pi$ is all on a new kind, the **mask**: then a position is known or hidden (the *absorbing*, or
# masked chain). Or $\pi$ is **uniform**: then a position is right or a random letter, and nobody marks which. In code
# this is `Chain`, the discrete counterpart of a schedule:

# %%
sentence = "it is a truth universally acknowledged, that a single man in possession of a good fortune,"
alphabet = discrete.Alphabet(LETTERS)
x_0 = alphabet.encode(sentence)[None]
masked, uniform = discrete.Chain(len(LETTERS)), discrete.Chain(len(LETTERS), masked=False)
for name, chain in (("masked", masked), ("uniform", uniform)):
    for t in (0.0, 0.25, 0.5, 0.75, 1.0):
        x_t = chain.add_noise(x_0, chain.level(t), noise.generators(1, 0))
        kept = int((x_t == x_0).sum())
        print(f"{name:>7}, t = {t:4.2f}: {alphabet.decode(x_t)[0]}")
        by_chance = 0 if chain.masked else t / len(LETTERS)
        assert abs(kept / x_0.numel() - (1 - t) - by_chance) < 4 * math.sqrt(0.25 / x_0.numel())

# %% [markdown]
# (`_` is the mask.) At $t = 0.5$ the masked sentence is a puzzle that one can nearly solve; the uniform one is harder,
# because every letter may be wrong. There is no half-erased letter; what the Gaussian chain does to every pixel a
# little, this chain does to some positions wholly.
#
# The rest of this notebook is checked on a chain of **five kinds**, small enough to write everything down. Its data
# distribution is known, and the figure shows what a position of kind 0 becomes:

# %%
weights = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
kinds = torch.arange(5)[:, None]  # five "texts" of one letter
five = {"masked": discrete.Chain(5), "uniform": discrete.Chain(5, masked=False)}
times = torch.linspace(0, 1, 41)
for name, chain in five.items():
    of_0 = torch.stack([chain.marginal(kinds[:1], chain.level(float(t)))[0, 0] for t in times])  # [41, states]
    curves = {"still kind 0": (times, of_0[:, 0]), "kind 1": (times, of_0[:, 1])}
    if chain.masked:
        curves["the mask"] = (times, of_0[:, 5])
    plots.curves(curves, title=f"Where a position of kind 0 is, {name} chain", xlabel="t", ylabel="probability")
    plt.show()
    torch.testing.assert_close(of_0.sum(1), torch.ones(41, dtype=torch.float64))
    torch.testing.assert_close(of_0[-1], chain.end)
    halves = chain.transition(discrete.CLEAN, chain.level(0.4)) @ chain.transition(chain.level(0.4), chain.level(0.7))
    torch.testing.assert_close(halves, chain.transition(discrete.CLEAN, chain.level(0.7)))
    print(f"{name}: two steps of the chain are one, by their matrices: True")

# %% [markdown]
# ## 2 · Back again
#
# As in DDPM, the reverse step is known if $x_0$ is: Bayes' rule for the chain,
#
# $$
# q(x_s \mid x_t, x_0) = \frac{q(x_t \mid x_s)\, q(x_s \mid x_0)}{q(x_t \mid x_0)} , \qquad
# p_\theta(x_s \mid x_t) = \sum_k p_\theta(x_0 = k \mid x_t)\, q(x_s \mid x_t, x_0 = k) .
# \tag{D3PM, Eq. 3 and 4}
# $$
#
# <small>In code: `discrete.Chain.posterior`. Test:
# `tests/test_discrete.py::test_the_posterior_is_bayes_rule_by_matrices`.</small>
#
# The network predicts $p_\theta(x_0 = k \mid x_t)$, for each position a distribution over kinds. It is the counterpart
# of the Gaussian denoiser's $\hat x_0$, which is only a mean. For the masked chain the posterior is so simple that one
# can say it in a sentence: *what is visible stays; a hidden position is revealed with the probability*
#
# $$
# \frac{\alpha_s - \alpha_t}{1 - \alpha_t} \quad \text{and then drawn from } p_\theta(x_0 \mid x_t), \text{ or stays
# hidden.} \tag{MDLM, Eq. 6 and 7}
# $$
#
# <small>In code: `discrete.Chain.posterior`, `discrete.ancestral`. Test:
# `tests/test_discrete.py::test_the_sampler_draws_the_data_and_its_steps_are_a_path`.</small>
#
# <details><summary>Derivation of the masked posterior</summary>
#
# 1. Let $x_t$ be the mask $m$. Then $q(x_t = m \mid x_0) = 1 - \alpha_t$.
# 2. $x_s = x_0$: it was visible at $s$, with the probability $\alpha_s$, and was hidden after, with $1 - \alpha_t /
#    \alpha_s$. The product is $\alpha_s - \alpha_t$.
# 3. $x_s = m$: it was hidden at $s$, with the probability $1 - \alpha_s$, and a mask stays a mask.
# 4. Both divided by $1 - \alpha_t$: they sum to 1, since $(\alpha_s - \alpha_t) + (1 - \alpha_s) = 1 - \alpha_t$.
# 5. Let $x_t$ be a kind. No other $x_0$ leads there, and $x_s = x_t$ for certain. So what is once written is never
#    corrected: this is the price of the masked chain's simplicity.
# 6. Put $p_\theta(x_0 \mid x_t)$ in place of $\mathbf e_{x_0}$ and sum.
#
# </details>
#
# `ancestral` is the sampler, a generator of steps as in notebook 04. On five kinds we have the exact prediction,
# `ExactSequences`. Does it draw the data? And in how many steps?

# %%
N = 20_000
for name, chain in five.items():
    exact = discrete.ExactSequences(chain, kinds, weights)
    for n in (1, 2, 10):
        stream = noise.stream(n)
        x = discrete.final(
            discrete.ancestral(exact, chain.start(N, 1, stream), chain.levels(n), chain=chain, generator=stream)
        )
        error = (exact.share(x) - weights).abs() / (weights * (1 - weights) / N).sqrt()
        print(f"{name:>7}, {n:2} steps: {' '.join(f'{share:.3f}' for share in exact.share(x).tolist())}; "
              f"at most {error.max():.1f} standard errors from the data")  # fmt: skip
        assert error.max() < 4

# %% [markdown]
# **In one step.** A Gaussian model with an exact denoiser needs many steps, because its denoiser returns a mean and a
# mean is no sample (notebook 13). Here the prediction is a whole *distribution*, and drawing from it is exact. Then why
# does anybody take 64 steps? Because texts have more than one letter:

# %%
pairs = torch.tensor([[0, 0], [1, 1], [2, 2]])  # two letters that are always the same
three = discrete.Chain(3)
twins = discrete.ExactSequences(three, pairs)
M, counts = 4000, (1, 2, 4, 8, 16, 32)


def joint(steps, seed=0):
    """How often each pair of letters is drawn, [3, 3], in so many steps of the exact reverse chain."""
    stream = noise.stream(seed)
    x = discrete.final(
        discrete.ancestral(twins, three.start(M, 2, stream), three.levels(steps), chain=three, generator=stream)
    )
    return torch.bincount(3 * x[:, 0] + x[:, 1], minlength=9).view(3, 3) / M


tables = {f"{n} step{'s' if n > 1 else ''}": joint(n) for n in (1, 4, 32)}
plots.heat_panels(tables, ["a", "b", "c"], ["a", "b", "c"], digits=2, title="Two letters that should be equal")
plt.show()
for n in counts:
    equal, expected = float(joint(n).trace()), 1 - 2 / 3 / n
    print(f"{n:2} steps: {equal:.3f} of the pairs are equal; expected 1 - (2/3) / {n} = {expected:.3f}")
    assert abs(equal - expected) < 4 * math.sqrt(expected * (1 - expected) / M)

# %% [markdown]
# All positions that are revealed in **one** step are drawn independently of one another, each from its own exact
# distribution. Two letters fall into the same step with the probability $1 / n$; then they agree only by chance. That
# is the whole discretisation error of the masked chain. It falls as $1 / n$, and it would be zero if one letter were
# revealed at a time, in *any* order. (Left to right is one such order.)
#
# ### Interactive: the number of steps
#
# How many steps until nine pairs in ten are right?

# %%
widgets.explore(
    lambda n: plots.heat_panels({f"{n} steps": joint(n)}, ["a", "b", "c"], ["a", "b", "c"], digits=2),
    n=ipywidgets.IntSlider(2, min=1, max=32, description="steps"),
)

# %% [markdown]
# ## 3 · The loss, in bits
#
# The variational bound has one Kullback-Leibler term per step. For the masked chain everything cancels but a weighted
# cross entropy at the hidden positions; in the limit of many steps it is
#
# $$
# -\log p_\theta(x_0) \;\le\; \mathbb E_{t \sim U(0, 1)}\, \mathbb E_{x_t}\; \frac1t \sum_{n:\; x_t^n = m} - \log
# p_\theta(x_0^n \mid x_t) . \tag{MDLM, Eq. 10 and 11}
# $$
#
# <small>In code: `discrete.training_loss`, `discrete.step_loss`. Test:
# `tests/test_discrete.py::test_the_masked_loss_is_a_weighted_cross_entropy_at_the_masks`.</small>
#
# <details><summary>Derivation: the bound is a weighted cross entropy</summary>
#
# 1. The bound of any such chain: $-\log p_\theta(x_0) \le \sum_i \mathbb E\, \mathrm{KL}\left( q(x_{s_i} \mid x_{t_i},
#    x_0)\, \Vert\, p_\theta(x_{s_i} \mid x_{t_i}) \right) + \mathrm{KL}(q(x_1 \mid x_0) \Vert \pi)$, and the last term
#    is 0 because $\alpha_1 = 0$ (notebook 03 derives it for Gaussians; nothing in it was Gaussian).
# 2. At a visible position both sides are certain of the same kind: 0.
# 3. At a hidden one both sides stay hidden with the same probability, which cancels. What is left is
#    $\frac{\alpha_s - \alpha_t}{1 - \alpha_t} \cdot \log \frac{1}{p_\theta(x_0 \mid x_t)}$.
# 4. With $\alpha_t = 1 - t$ and $n$ even steps: $\alpha_s - \alpha_t = 1 / n$ and $1 - \alpha_t = t$. The sum over the
#    steps of $\frac1n \frac1t (\dots)$ is a mean over $t$.
# 5. $n \to \infty$: the mean over a uniform $t$. Compare with DDPM, whose $L_{\text{simple}}$ *drops* the bound's
#    weights; here they are kept, and the loss is a bound in nats.
#
# </details>
#
# So the training loop is that of notebook 03 with two words changed: *draw $t$, **hide** letters with the probability
# $t$, and minimise the weighted **cross entropy***. Divided by $\log 2$ and by the length it is **bits per letter**,
# the unit in which texts are compressed. On five kinds the bound of the exact prediction must be the entropy of the
# data, in any number of steps:

# %%
entropy = float(-(weights * weights.log2()).sum())
for name, chain in five.items():
    exact, stream = discrete.ExactSequences(chain, kinds, weights), noise.stream(0)
    draws = exact.sample(N, stream)
    for n in (1, 4, 64):
        bits = discrete.bits_per_position(exact, draws, chain.levels(n), chain=chain, generator=stream)
        mean, error = float(bits.mean()), float(bits.std()) / N**0.5
        print(f"{name:>7}, {n:2} levels: {mean:.3f} ± {error:.3f} bits; the entropy of the data is {entropy:.3f}")
        assert abs(mean - entropy) < 4 * error

# %% [markdown]
# ## 4 · Five novels
#
# Now a real text: Jane Austen's novels, in small letters, of which five are for training and *Persuasion* is never
# seen. Three networks were trained, each for the same number of steps on the same letters:
#
# - **masked** and **uniform** diffusion: a transformer that sees the whole text, and $t$;
# - the **autoregressive twin**: the same transformer, with the same number of weights and the same computation, but
#   each position sees only what stands before it, and its loss is the cross entropy of the next letter.
#
# How good are they? The only honest answer has a **floor** beside it: models that need no network. An $n$-gram model
# counts which letter followed the last $n - 1$ ones.

# %%
models = {kind: discrete.load_text(f"text_{kind}") for kind in ("autoregressive", "masked", "uniform")}
trained, floor = rows_of("text", "training"), {row["model"]: row["mean"] for row in rows_of("text", "floor")}
last = {kind: max((row for row in trained if row["model"] == kind), key=lambda row: row["letters"]) for kind in models}
best = min((row for row in trained if row["model"] == "autoregressive"), key=lambda row: row["mean"])
grams = min((name for name in floor if name.endswith("gram")), key=floor.get)
curves = {}
for kind in ("masked", "autoregressive"):
    runs = sorted((row["letters"] / 1e6, row["mean"]) for row in trained if row["model"] == kind)
    curves[kind] = tuple(torch.tensor(runs).T)
plots.curves(curves, title="Bits per letter of an unseen novel", xlabel="letters read in training, in millions",
             ylabel="bits per letter", reference=(grams, floor[grams]), log="x")  # fmt: skip
plt.show()
print(f"weights: {sum(p.numel() for p in models['masked'].network.parameters()):,} each; five novels have "
      f"{len(novels('train')) / 1e6:.1f} million letters")  # fmt: skip
for kind, row in last.items():
    read = f"{row['letters'] / 1e6:.0f} million letters read"
    print(f"{kind:>14}: {row['mean']:.3f} ± {row['error']:.3f} bits per letter, {read}")
print(
    f"{'its best':>14}: {best['mean']:.3f} ± {best['error']:.3f} bits per letter, {best['letters'] / 1e6:.0f} million"
)
for name in ("1-gram", "3-gram", grams, "gzip"):
    print(f"{name:>14}: {floor[name]:.3f}")
limit = {(row["model"], row["levels"]): row["mean"] for row in rows_of("text", "limit")}
twin = limit["autoregressive", 0]
for levels in (64, 128, 1024):
    bound = limit["masked", levels]
    print(f"masked, {levels:4} levels: {bound:.3f}, {bound / twin - 1:.1%} more than the twin at equal computation")
print(f"and {limit['masked', 1024] / best['mean'] - 1:.0%} more than the twin at its best")
assert limit["masked", 1024] < limit["masked", 128] < limit["masked", 64] and 1.1 < limit["masked", 1024] / twin < 1.2
assert last["autoregressive"]["mean"] < floor[grams] < last["masked"]["mean"] < last["uniform"]["mean"]
assert best["mean"] + 0.05 < last["autoregressive"]["mean"] and curves["masked"][1].diff().max() < 0

# %% [markdown]
# **Read this soberly.** Masked diffusion loses to its twin, and even to a table of six-letter counts; the twin is below
# the table by little. Three things are behind it. The twin's task is easier to learn: every letter of every window is
# predicted from a clean context, while the diffusion model sees a hidden half on average. Its number is a bound, which
# falls with the number of levels: in 64 steps several letters are written at once, each without knowing the others. Its
# limit is the loss of training, and also the bound of a sampler that writes one letter per step in a random order, 128
# evaluations like the twin's (Hoogeboom et al. 2022, Section 3). And it is far from done: its curve still falls where
# the twin has read the five novels ten times and begins to know them by heart. (On little text that is read often, a
# diffusion model can end ahead: every pass hides other letters.)
#
# A part of that, live: twelve windows of the unseen novel. (The bound is estimated with one random $x_t$ per level, the
# twin's bits are exact.)

# %%
letters = alphabet.encode(novels("test"))
windows = letters[: 12 * 8 * 128].view(-1, 8, 128)[:, 0]
live = {kind: model.bits(windows, 8) for kind, model in models.items()}
for kind, bits in live.items():
    print(f"{kind:>14}: {bits.mean():.2f} ± {bits.std() / 12**0.5:.2f} bits per letter")
for row in rows_of("text", "bits"):
    if row["model"] == "masked":
        print(f"the bound with {row['levels']:2} levels: {row['mean']:.2f} ± {row['error']:.2f} ({row['n']} windows)")
more = live["masked"] - live["autoregressive"]  # window by window
assert more.mean() > 2 * more.std() / 12**0.5

# %% [markdown]
# With one level the bound is that of independent letters, the 1-gram's 4.2 bits: a model that writes everything in one
# step knows nothing of its own other letters, however good its network is.
#
# ## 5 · Watch it write
#
# From all hidden to a text. Move the slider: the left panel is $x_t$, where vermilion letters are those that the last
# step wrote; the right panel is the network's most probable letter at each position, bluer where it is surer. Nothing
# is written from left to right.

# %%
steps = list(models["masked"].steps("", 32, seed=0, batch_size=2))
for step in (steps[7], steps[15], steps[23], steps[-1]):
    print(alphabet.decode(step.x_next)[0])
assert all(int((step.x_next == len(LETTERS)).sum()) <= int((step.x_t == len(LETTERS)).sum()) for step in steps)
widgets.scrub(plots.text_film(steps, alphabet))

# %% [markdown]
# Many of these are words, and there is hardly any sense: two million weights have read five novels thirty times. Yet
# the words are *spelled*, although no two letters of one step know of each other. How much of that is owed to the
# number of steps? Measured with 12 texts each: the share of words that stand in one of Austen's novels.

# %%
rows = rows_of("text", "steps")
real = next(row for row in rows if row["model"] == "Persuasion")
twin = next(row for row in rows if row["model"] == "autoregressive")
by_steps = {}
for name, kind, sampler in (
    ("masked", "masked", "ancestral"),
    ("masked, most certain first", "masked", "most_certain_first"),
    ("uniform", "uniform", "ancestral"),
):
    chosen = [row for row in rows if (row["model"], row["sampler"]) == (kind, sampler)]
    by_steps[name] = (torch.tensor([row["steps"] for row in chosen]), torch.tensor([row["words"] for row in chosen]))
    print(f"{name}: " + ", ".join(f"{row['words']:.0%} ± {row['words_error']:.0%} in {row['steps']}" for row in chosen))
print(f"autoregressive twin: {twin['words']:.0%} ± {twin['words_error']:.0%}; Persuasion itself: {real['words']:.0%}")
plots.curves(by_steps, title="Words that stand in the novels", xlabel="steps", ylabel="share",
             reference=("autoregressive", twin["words"]), log="x")  # fmt: skip
plt.show()
assert all(bool(words[-1] > words[0] + 0.1) for _, words in by_steps.values())

# %% [markdown]
# More steps, more words. **The most certain first** (MaskGIT) does not reveal positions at random, but those of which
# the network is surest: letters that follow from what is there are written before letters that are open. In the same 64
# steps nine words in ten are words, not seven. It is no free gift: it is no sampler of the model's distribution, and
# prefers what is frequent. The twin as a judge says so too. It finds texts of ordinary sampling far too surprising,
# and the real novel *more* surprising than its own texts:

# %%
for row in rows:
    name = f"{row['model']} {row['sampler'].replace('_', ' ')}".strip()
    if row["steps"] in (0, 64, 128):
        print(f"{name:>26}: {row['twins_bits']:.2f} ± {row['bits_error']:.2f} bits of the twin, "
              f"{row['distinct']:.0f} distinct words per text")  # fmt: skip
surest = models["masked"].sample("", 32, seed=0, sampler="most_certain_first")[0]
print(surest)
judged = {(row["model"], row["sampler"]): row["twins_bits"] for row in rows if row["steps"] in (0, 64, 128)}
assert judged["autoregressive", "ancestral"] < judged["Persuasion", ""] < judged["masked", "most_certain_first"]

# %% [markdown]
# ## 6 · Gaps
#
# A diffusion model has no direction. Whatever is not hidden is known, so *filling a gap* needs no method of its own (an
# image model needed RePaint or DPS, notebook 14): start with the gap masked, and sample.

# %%
asked = "it is a truth universally ____________, that a single man in possession of a good _______, "
asked += "must be in want of a ____."
for seed in range(3):
    (filled,) = models["masked"].sample(asked, 24, seed=seed, sampler="most_certain_first")
    print(filled)
    assert all(a in ("_", b) for a, b in zip(asked, filled, strict=False)) and "_" not in filled
gaps = {(row["model"], row["hidden"]): row for row in rows_of("text", "gaps")}
for (kind, hidden), row in gaps.items():
    print(f"{kind}, {hidden} of 128 letters hidden: {row['mean']:.0%} ± {row['error']:.0%} guessed right")
assert gaps["masked", 1]["mean"] > gaps["autoregressive", 1]["mean"] + 0.1

# %% [markdown]
# With both sides known, more than nine letters in ten are guessed; the twin, which knows the left side only, guesses
# six. This is what a model without a direction is good at. (The gaps of the famous sentence are filled to their length,
# often with several words, and rarely with sense: that would need a larger model.)
#
# ## 7 · The uniform chain: letters that may be wrong
#
# The masked chain never changes a letter that it wrote. The uniform chain has no mask and may change every letter at
# every step, so it can correct itself; but it must also *find* what is wrong. A position tells something about its own
# clean letter, and Bayes' rule says what:
#
# $$
# p(x_0^n = k \mid x_t) \propto q(x_t^n \mid x_0^n = k)\; p(x_0^n = k \mid \text{the other positions}) .
# $$
#
# <small>In code: `discrete.Chain.informed`. Test:
# `tests/test_discrete.py::test_a_networks_prediction_is_informed_by_the_position_itself`.</small>
#
# The first factor is known, so it is not left to the network to learn. For the masked chain the same product says "what
# is visible stays".

# %%
steps = list(models["uniform"].steps("", 32, seed=1))
states = torch.cat([steps[0].x_t, *(step.x_next for step in steps)])
changes = (states[1:] != states[:-1]).sum(0)
print(f"masked: every letter is written once. uniform: a letter changes {changes.double().mean():.1f} times, "
      f"at most {int(changes.max())}")  # fmt: skip
print(alphabet.decode(states[-1:])[0])
assert int(changes.max()) > 1

# %% [markdown]
# ## What can go wrong
#
# - *Bits of a bound beside bits that are exact.* The twin's number is $-\log_2 p$; the diffusion model's is at least
#   that. A part of the gap may be the bound.
# - *Too few levels, or a bound for another sampler.* The bound belongs to the number of steps; with one level it says
#   what one step can do.
# - *Fluent because it repeats itself.* Samples that are too probable ("the the the") look good to a judge that counts
#   bits. Count distinct words too.
# - *Random numbers in low precision.* Drawing kinds by noise in float32 makes rare kinds rarer and texts look better
#   than the model is (Zheng et al. 2024). `discrete.draw` uses float64.
# - *A network that cannot see its neighbours.* Ours learned nothing but the frequencies of letters in 7,900 steps, 4.2
#   bits, until a short convolution told it which position is beside which. The twin, whose input is moved by one
#   position, has no such difficulty.
# - *Trained for too long.* Five novels are little text: after ten passes more steps made the twin worse on the unseen
#   novel. Compare with the twin at equal computation *and* at its best.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · Lose letters.** Write `my_noise(x_0, u, keep, mask)`: $x_t$ of the masked chain for texts `x_0` [B, N]
# (whole numbers) and uniform random numbers `u` [B, N]. A position is kept where its `u` is below `keep`; otherwise it
# becomes the number `mask`.

# %%
my_noise = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_noise(x_0, u, keep, mask):
    return torch.where(u < keep, x_0, mask)


# %%
check("15.1", my_noise, solution_noise)

# %% [markdown]
# **Exercise 2 · When a letter appears.** A position is masked at $t$. Write `my_reveal(keep_t, keep_s)`: the
# probability that it is visible at the earlier time $s$, from the kept shares $\alpha_t$ and $\alpha_s$.

# %%
my_reveal = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_reveal(keep_t, keep_s):
    return (keep_s - keep_t) / (1 - keep_t)


# %%
check("15.2", my_reveal, solution_reveal)

# %% [markdown]
# **Exercise 3 · The bound in bits.** Write `my_bits(log_p, x_0, x_t, t, mask)`: the masked loss in bits per letter, one
# number per text [B]. `log_p` [B, N, K] are natural logarithms of the predicted probabilities, `x_0` and `x_t` are [B,
# N], and `t` [B] is each text's time.

# %%
my_bits = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_bits(log_p, x_0, x_t, t, mask):
    nats = -log_p.gather(-1, x_0[..., None])[..., 0]
    return (nats * (x_t == mask)).mean(1) / t / math.log(2)


# %%
check("15.3", my_bits, solution_bits)

# %% [markdown]
# **Exercise 4 · Doubt a letter.** In the uniform chain of $K$ kinds, a position shows `x_t` (a number). Its clean kind
# has the probabilities `prior` [K], before we look. Write `my_prediction(prior, x_t, keep)`: the probabilities [K]
# after we looked.

# %%
my_prediction = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_prediction(prior, x_t, keep):
    likely = torch.full_like(prior, (1 - keep) / len(prior))
    likely[x_t] += keep
    return prior * likely / (prior * likely).sum()


# %%
check("15.4", my_prediction, solution_prediction)

# %% [markdown]
# ## What to remember
#
# - Diffusion needs a chain that forgets and a model of the way back; Gaussian noise is one choice.
# - Masked diffusion: hide letters with the probability $t$, and learn to guess them with the weight $1 / t$.
# - The prediction is a distribution, so one letter needs one step. Many steps are for letters that depend on each
#   other.
# - Same network, same computation, and the $n$-gram floor: otherwise bits per letter say little.
# - Known letters are simply not hidden: filling gaps is free.
#
# **Next:** [16 · Prompting and weaknesses](16_prompting.ipynb): rules for prompts, and known weaknesses, counted.
#
# ## References
#
# - J. Austin et al. 2021, [Structured Denoising Diffusion Models in Discrete
#   State-Spaces](https://arxiv.org/abs/2107.03006): absorbing and uniform chains (Sec. 3.1), the $x_0$ parameterisation
#   (Eq. 4).
# - S. Sahoo et al. 2024, [Simple and Effective Masked Diffusion Language Models](https://arxiv.org/abs/2406.07524): the
#   weighted cross entropy (Eq. 10, 11).
# - A. Lou, C. Meng, S. Ermon 2024, [Discrete Diffusion Modeling by Estimating the Ratios of the Data
#   Distribution](https://arxiv.org/abs/2310.16834): SEDD, the counterpart of score matching.
# - H. Chang et al. 2022, [MaskGIT](https://arxiv.org/abs/2202.04200): the most certain positions first (Sec. 3.2).
# - E. Hoogeboom et al. 2022, [Autoregressive Diffusion Models](https://arxiv.org/abs/2110.02037): one position per
#   step, in a random order.
# - K. Zheng et al. 2024, [Masked Diffusion Models are Secretly Time-Agnostic Masked
#   Models](https://arxiv.org/abs/2409.02908): inaccurate sampling of kinds.
# - I. Witten, T. Bell 1991, The zero-frequency problem, IEEE Transactions on Information Theory 37(4): the $n$-gram
#   model.
# - The text: *The novels of Jane Austen*, public domain, from the R package
#   [janeaustenr](https://github.com/juliasilge/janeaustenr) by Julia Silge.
