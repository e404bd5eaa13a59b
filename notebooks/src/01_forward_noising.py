# %% [markdown]
# # 01 · Forward noising: how a picture becomes noise
#
# A diffusion model learns to undo a process that is so simple that it needs no learning: mix a picture with Gaussian
# noise, a little more at every step, until nothing of the picture is left. This notebook is about this process only. It
# contains no network, and yet it defines every task that a network is trained for later.
#
# **When you have worked through it, you can**
#
# - write a noisy image as $x_t = \alpha_t x_0 + \sigma_t \varepsilon$, and say what each letter does;
# - jump to any step at once, and check that the jump and a walk of a thousand small steps have the same distribution;
# - say what noise hides first, and why the same $t$ means something else for another image size;
# - test that the end of the process is noise: by eye, by statistics, and with the best possible classifier;
# - say what a training pair is, and why knowing the noise is equivalent to knowing the picture;
# - write down the step *back* for a picture that you know, $q(x_{t-1} \mid x_t, x_0)$, on which DDPM is built.
#
# *Beside you:* Ho, Jain & Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239)
# (DDPM), Section 2. About 30 minutes to read, a few seconds to run.

# %%
from collections import deque

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import avg_pool2d

from diffusion_explained import (
    DDPMSchedule,
    GaussianMixture,
    Level,
    add_noise,
    bundled_mnist,
    forward,
    generators,
    made_by_model,
    plots,
    randn,
    widgets,
)
from diffusion_explained.exercises import check
from diffusion_explained.film import film, mosaic, pixels
from diffusion_explained.predictions import KINDS, coefficients, target, to_x0_eps

plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## 1 · The data
#
# $x_0$ is a picture. Ours are handwritten digits from MNIST, $28 \times 28$ pixels, scaled from bytes to the interval
# $[-1, 1]$: black is $-1$, white is $+1$. The scaling matters: noise has standard deviation 1, and the data should have
# a similar scale.

# %%
digits = bundled_mnist()
x_0, labels = digits.batch(torch.tensor([int((digits.labels == k).nonzero()[3]) for k in range(8)]))

print(f"x_0: {tuple(x_0.shape)}, {x_0.dtype}, from {x_0.min():.0f} to {x_0.max():.0f}")
assert labels.tolist() == list(range(8))
plots.image_grid(x_0, title="Eight pictures x₀")
plt.show()

# %% [markdown]
# ## 2 · One small step
#
# A *schedule* fixes $T = 1000$ small variances $\beta_1, \dots, \beta_T$. One step of the forward process shrinks the
# picture a little and adds a little noise:
#
# $$
# q(x_t \mid x_{t-1}) = \mathcal N\!\left(\sqrt{1 - \beta_t}\; x_{t-1},\; \beta_t \mathbf I\right) \tag{DDPM, Eq. 2}
# $$
#
# <small>In code: `forward.transition`. Test:
# `tests/test_forward.py::test_neighbouring_levels_are_one_ddpm_step_apart`.</small>
#
# Why shrink? Because then the variance stays constant. If $x_{t-1}$ has variance 1, then $x_t$ has
# $(1 - \beta_t) \cdot 1 + \beta_t = 1$. Without the shrinking, the variance would grow at every step.
#
# In the library, one noise level of the process is a `Level`, and `transition` gives the small step between two levels.

# %%
schedule = DDPMSchedule.linear()  # the schedule of DDPM: β grows linearly from 0.0001 to 0.02

scale, std = forward.transition(schedule.level(499), schedule.level(500))
beta = float(schedule.betas[500])

print(f"β = {beta:.5f}: multiply by {scale:.5f}, then add noise of standard deviation {std:.5f}")
assert abs(scale - (1 - beta) ** 0.5) < 1e-12 and abs(std - beta**0.5) < 1e-12

# %% [markdown]
# One warning first, because it has cost many people an afternoon: **the paper counts from 1, code counts from 0**. Our
# $t = 0$ is the paper's $t = 1$; the picture there already contains a little noise ($\sqrt{\beta_1} = 0.01$). The clean
# picture has no number in $0 \dots T-1$.
#
# Now take a thousand steps, each from the result of the step before. `q_chain` yields every $x_t$ of this walk.

# %%
levels = [schedule.level(t) for t in range(schedule.num_train_timesteps)]
walk = list(forward.q_chain(x_0, levels, generators(8, seed=0)))

shown = [0, 50, 100, 200, 300, 400, 600, 800, 999]
rows = {f"digit {k}": [walk[t][k] for t in shown] for k in (2, 5, 7)}
plots.filmstrip(rows, captions=[f"t = {t}" for t in shown], title="A walk of a thousand small steps")
plt.show()
assert len(walk) == 1000 and all(x_t.shape == x_0.shape for x_t in walk)

# %% [markdown]
# ## 3 · One big jump
#
# The sum of independent Gaussians is a Gaussian, so a thousand steps collapse into one. With
# $\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)$,
#
# $$
# q(x_t \mid x_0) = \mathcal N\!\left(\sqrt{\bar\alpha_t}\; x_0,\; (1 - \bar\alpha_t) \mathbf I\right),
# \qquad\text{that is}\qquad
# \boxed{\;x_t = \alpha_t\, x_0 + \sigma_t\, \varepsilon,\quad \varepsilon \sim \mathcal N(0, \mathbf I)\;}
# \tag{DDPM, Eq. 4}
# $$
#
# <small>In code: `forward.add_noise`. Test:
# `tests/test_forward.py::test_add_noise_equals_diffusers`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. Write one step as $x_t = a_t\, x_{t-1} + b_t\, z_t$ with $a_t = \sqrt{1 - \beta_t}$, $b_t = \sqrt{\beta_t}$ and
#    independent $z_t \sim \mathcal N(0, \mathbf I)$. Then $a_t^2 + b_t^2 = 1$.
# 2. Suppose that the formula holds after $t - 1$ steps: $x_{t-1} = A\, x_0 + \sqrt{1 - A^2}\; \varepsilon'$ with $A =
#    a_1 \cdots a_{t-1}$.
# 3. Insert this into the next step: $x_t = a_t A\, x_0 + \left( a_t \sqrt{1 - A^2}\; \varepsilon' + b_t\, z_t
#    \right)$.
# 4. The bracket is a sum of two independent Gaussians of mean 0, so it is a Gaussian, and the variances add up:
#    $a_t^2 (1 - A^2) + 1 - a_t^2 = 1 - (a_t A)^2$.
# 5. So the formula holds after $t$ steps, with the factor $a_t A$. It holds after one step, and therefore after all
#    of them. The factor is $a_1 \cdots a_t = \sqrt{\bar\alpha_t}$.
#
# </details>
#
# with $\alpha_t = \sqrt{\bar\alpha_t}$ and $\sigma_t = \sqrt{1 - \bar\alpha_t}$. The boxed equation is the most
# important one of the course. It is also one line of code: the library's `add_noise` contains nothing else.

# %%
level = schedule.level(300)
eps = randn(x_0.shape, generators(8, seed=1))

x_t = add_noise(x_0, eps, level)

print(f"t = 300: α = {level.alpha:.4f}, σ = {level.sigma:.4f}, α² + σ² = {level.alpha**2 + level.sigma**2:.4f}")
assert torch.equal(x_t, level.alpha * x_0 + level.sigma * eps)

# %% [markdown]
# ### The walk and the jump are the same
#
# Let us check that, twice. First with numbers: if we chain the 301 small steps, the product of the factors is
# $\alpha_t$ and the accumulated variance is $\sigma_t^2$.

# %%
mean_factor, variance = 1.0, 0.0
for here, noisier in zip([Level(-1, 1, 0), *levels[:300]], levels[:301], strict=True):
    scale, std = forward.transition(here, noisier)
    mean_factor, variance = scale * mean_factor, scale**2 * variance + std**2

print(f"chained: α = {mean_factor:.4f}, σ = {variance**0.5:.4f}")
assert abs(mean_factor - level.alpha) < 1e-12 and abs(variance**0.5 - level.sigma) < 1e-12

# %% [markdown]
# Then with pictures: noise 1,000 copies of one digit by the walk, each with its own noise, and 1,000 more by the jump.
# At $t = 300$ the two sets of samples must have the same mean and the same standard deviation in every pixel.

# %%
copies = x_0[5:6].expand(1000, -1, -1, -1)
stream = torch.Generator().manual_seed(2)
walk_to_300 = deque(forward.q_chain(copies, levels[:301], stream), maxlen=1)  # only the last x_t is kept
walked, jumped = walk_to_300[0], add_noise(copies, randn(copies.shape, stream), level)

tolerance = 5 * level.sigma / 1000**0.5  # five standard errors of a mean of 1,000
for x_300 in (walked, jumped):
    assert (x_300.mean(0) - level.alpha * x_0[5]).abs().max() < tolerance
    assert (x_300.std(0) / level.sigma - 1).abs().max() < 0.12
pictures = {"one of them": [walked[0], jumped[0]], "mean of 1,000": [walked.mean(0), jumped.mean(0)]}
plots.filmstrip(pictures, captions=["walk", "jump"], title="t = 300")
plt.show()

# %% [markdown]
# That is why training is cheap: to noise a digit to $t = 700$, training does not take 700 steps. It draws $\varepsilon$
# once and jumps.
#
# ## 4 · Interactive: the whole process
#
# Here is the whole process for eight digits, with the noise held fixed so that only $t$ changes. Drag the slider, or
# use the arrow keys. At which $t$ do the digits become unreadable for *you*? Note this $t$ down; section 6 has an
# answer to compare it with.

# %%
eps = randn(x_0.shape, generators(8, seed=1))
times = [*range(0, 1000, 10), 999]
sheets = [mosaic(pixels(add_noise(x_0, eps, levels[t])), columns=4) for t in times]
captions = [f"t = {t} · α = {levels[t].alpha:.3f} · σ = {levels[t].sigma:.3f}" for t in times]

widgets.scrub(film([("x_t", "eight digits under noise", sheets)], captions), frame=30)

# %% [markdown]
# ## 5 · One number for "how noisy"
#
# $\alpha_t$ and $\sigma_t$ together determine one quantity: the ratio of signal to noise. The **signal-to-noise ratio**
# is $\mathrm{SNR}(t) = \alpha_t^2 / \sigma_t^2$, and because it covers many orders of magnitude, its logarithm is used
# (Kingma et al. 2021, *Variational Diffusion Models*, Eq. 2):
#
# $$ \log \mathrm{SNR}(t) = 2 \log \frac{\alpha_t}{\sigma_t} $$
#
# <small>In code: `schedules.Level.log_snr`. Test:
# `tests/test_schedules.py::test_log_snr_at_the_ends_and_between`.</small>
#
# The log SNR is 0 where signal and noise are equally strong, and it always falls: the forward process never restores
# lost signal.

# %%
log_snr = torch.tensor([level.log_snr for level in levels])
equal = int((log_snr > 0).sum())

print(f"log SNR falls from {log_snr[0]:.1f} to {log_snr[-1]:.1f}; noise takes over at t = {equal}")
assert (log_snr.diff() < 0).all()
plots.curves({"log SNR": (range(1000), log_snr)}, title="The linear schedule", xlabel="t", ylabel="log SNR",
             reference=("signal = noise", 0))  # fmt: skip
plt.show()

# %% [markdown]
# ### In colour: noise hides details before large shapes
#
# Is one number enough? For the noise, yes: noise is *white*, its power is the same at every frequency. Pictures are not
# white. Their large shapes are strong and their details are faint, and colour photographs show this best. The
# best-known data set is CIFAR-10: 60,000 small photographs of ten classes, which `load_dataset("cifar10")` downloads on
# first use. This notebook must run offline, so it uses 400 pictures of the same ten classes that are part of the
# package. They are *not photographs*: **one of our networks generated them**, the best of those that notebook 08
# measures.

# %%
colour = made_by_model("cifar10")
print(colour)
pictures = colour.to_float()  # [400, 3, 32, 32]


def power(x):
    """The mean power in images [B, C, N, N] of 1, 2 ... N/2 waves across the picture; white noise has 1 in each."""
    waves = torch.fft.fftfreq(x.shape[-1], 1 / x.shape[-1])
    radius = torch.hypot(waves[:, None], waves[None]).round()
    spectrum = torch.fft.fft2(x, norm="ortho").abs().square().mean((0, 1))
    return torch.stack([spectrum[radius == k].mean() for k in range(1, x.shape[-1] // 2 + 1)])


of_pictures, of_noise = power(pictures), power(randn(pictures.shape, torch.Generator().manual_seed(8)))
waves = range(1, 17)
lines = {f"noise, t = {t}": (waves, [(levels[t].sigma / levels[t].alpha) ** 2] * 16) for t in (100, 400)}
ax = plots.curves({"colour pictures": (waves, of_pictures), **lines}, log="xy", title="Noise covers the details first",
                  xlabel="waves across the picture", ylabel="power (noise: σ²/α²)").axes[0]  # fmt: skip
ax.set_xticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
ax.set_xticks([], minor=True)
plt.show()

snr = torch.tensor([(level.alpha / level.sigma) ** 2 for level in levels])
# the first t where the noise is stronger than the picture, for each number of waves
hidden = {k: int((snr * of_pictures[k - 1] > 1).sum()) for k in (1, 2, 4, 8, 16)}
print("noise takes over", ", ".join(f"{k} wave{'s' * (k > 1)} at t = {t}" for k, t in hidden.items()))
assert (of_noise - 1).abs().max() < 0.05 and of_pictures[0] > 100 * of_pictures[-1]
assert all(hidden[k] > 1.3 * hidden[2 * k] for k in (1, 2, 4, 8))

# %% [markdown]
# Where the blue curve lies above a horizontal line, the picture is still visible; to the right of the crossing, the
# noise is stronger. The finest detail is lost after a few steps of a thousand; the large shapes last thirty times as
# long. (So a sampler, which runs this process backwards, draws large shapes first and details last:
# Rissanen et al. 2023. You can see this in notebook 04.)
#
# This has a consequence. **The same $t$ means something else for another image size.** Averaging $4 \times 4$ pixels of
# $x_t$ keeps the large shapes, but the average of 16 independent noise values has only a quarter of their standard
# deviation. A small picture that is made by averaging a noisy large one has a log SNR that is $\log 16$ higher than
# that of a small picture noised at the same $t$:

# %%
at_300 = schedule.level(300)
some, _ = colour.batch(torch.arange(0, 400, 50))
eps = randn(some.shape, generators(8, seed=9))
x_t = add_noise(some, eps, at_300)

averaged = avg_pool2d(x_t, 4)  # noised at 32 x 32, then made small
small = avg_pool2d(some, 4)
noised_small = add_noise(small, randn(small.shape, generators(8, seed=10)), at_300)  # made small, then noised

left = float((averaged - at_300.alpha * small).std() / at_300.sigma)
print(f"at t = 300, averaging 4 x 4 pixels leaves {left:.2f} of the noise and all of the large shapes")
assert abs(left - 1 / 4) < 0.02
rows = {"$x_0$ at 32 × 32": some, "$x_t$ at 32 × 32": x_t,
        "$x_0$ at 8 × 8": small, "$x_t$, averaged": averaged, "noised at 8 × 8": noised_small}  # fmt: skip
enlarged = {name: x if x.shape[-1] == 32 else torch.kron(x, torch.ones(4, 4)) for name, x in rows.items()}
plots.filmstrip(enlarged, title="Two sizes, one t = 300")
plt.show()

# %% [markdown]
# The fourth row is the third row under weak noise: large patches of light and dark are still in their places. In the
# last row, at the same $t$, hardly anything is visible. A schedule that was made for small pictures leaves too much
# signal in large ones; notebook 02 measures how much.
#
# ## 6 · At the end, nothing is left
#
# The process must end in noise that we could have drawn *without* the picture; otherwise a sampler would have no
# starting point. Here are three tests.
#
# **The statistics of the pixels.** The pixels of digits are almost all $-1$ or $+1$. Noising turns their distribution
# into the bell curve of $\mathcal N(0, 1)$. The difference that is left can be measured by one number, the largest gap
# between the two cumulative distributions: the Kolmogorov-Smirnov statistic.

# %%
some, some_labels = digits.batch(torch.arange(300))
stream = torch.Generator().manual_seed(3)
noisy = {t: add_noise(some, randn(some.shape, stream), schedule.level(t)) for t in (50, 200, 400, 999)}

edges = torch.linspace(-4, 4, 81)
centres = (edges[1:] + edges[:-1]) / 2
bell = torch.distributions.Normal(0.0, 1.0)
densities = {f"t = {t}": (centres, torch.histogram(x, edges, density=True).hist) for t, x in noisy.items()}
plots.curves({**densities, "N(0, 1)": (centres, bell.log_prob(centres).exp())},
             title="The distribution of pixels becomes Gaussian", xlabel="pixel value", ylabel="density")  # fmt: skip
plt.show()


def gap_to_normal(x):
    x = x.flatten().sort().values
    return float((bell.cdf(x) - (torch.arange(len(x)) + 0.5) / len(x)).abs().max())


gaps = {t: gap_to_normal(x) for t, x in noisy.items()}
print("gap to N(0, 1):", ", ".join(f"{gap:.2f} at t = {t}" for t, gap in gaps.items()))
assert gaps[50] > 0.3 and gaps[999] < 0.01
assert abs(noisy[999].mean()) < 0.02 and abs(noisy[999].std() - 1) < 0.02

# %% [markdown]
# **The terminal signal-to-noise ratio.** How much signal is left at $t = T - 1$? Not zero, but close.

# %%
last = schedule.level(999)

print(f"α at the end: {last.alpha:.4f}; terminal SNR: {schedule.terminal_snr:.6f}")
assert schedule.terminal_snr < 1e-4

# %% [markdown]
# **The best possible classifier.** Statistics of pixels could miss a faint shape. So use the strongest test: a
# classifier that knows every digit of a data set exactly, receives $x_t$, and computes by Bayes' rule how probable each
# digit is,
#
# $$ p(k \mid x_t) \;\propto\; p(k)\, \mathcal N\!\left(x_t;\; \alpha_t x_0^{(k)},\; \sigma_t^2 \mathbf I\right). $$
#
# <small>In code: `exact.GaussianMixture.class_probabilities`. Test:
# `tests/test_exact.py::test_class_probabilities_are_bayes_rule`.</small>
#
# Summed over the digits of a class, this is $p(\text{class} \mid x_t)$ exactly. No trained network can have a higher
# accuracy on this data set. So if the accuracy of *this* classifier is at chance, the picture is really lost.

# %%
known = digits.subset(torch.arange(2000))
classifier = GaussianMixture(known.to_float(), classes=known.labels)  # components of width 0: the digits themselves


def best_accuracy(level):
    """The accuracy of the best possible classifier on 300 of the digits that it knows, noised to a level."""
    x_t = add_noise(some, randn(some.shape, torch.Generator().manual_seed(4)), level)
    return float((classifier.class_probabilities(x_t, level).argmax(1) == some_labels).double().mean())


visited = [0, 200, 300, 400, 500, 550, 600, 700, 800, 900, 999]
accuracy = [best_accuracy(schedule.level(t)) for t in visited]

plots.curves({"best possible classifier": (visited, accuracy)}, title="Which digit was it?", xlabel="t",
             ylabel="accuracy", reference=("chance, 1 in 10", 0.1))  # fmt: skip
plt.show()
print(f"every digit is named up to t = 300: {min(accuracy[:3]) == 1}; at the end: {accuracy[-1]:.1f}")
assert min(accuracy[:3]) == 1 and abs(accuracy[-1] - 0.1) < 0.06

# %% [markdown]
# Compare this with your own number from section 4. Your eye failed at a smaller $t$ than the best possible classifier,
# and a denoising network works in this gap: *a noisy picture contains more information than we see*.
#
# In the last third of the linear schedule, $x_t$ contains almost no information about the picture. Are these steps
# wasted? Yes, and notebook 02 compares other schedules.
#
# ## 7 · Training pairs without labels
#
# This is the purpose of the forward process. Any picture, any $t$ and any noise give a question with a known answer:
# "given $x_t$ and $t$, what was $\varepsilon$?" This needs no labels and no adversary, and the number of training pairs
# is unlimited.

# %%
t = schedule.sample_t(8, torch.Generator().manual_seed(5))  # one level per image, uniform in 0 .. T-1
alpha, sigma = schedule.alpha(t), schedule.sigma(t)
eps = randn(x_0.shape, generators(8, seed=6))

x_t = add_noise(x_0, eps, (t, alpha, sigma))

rows = {"question  $x_t$": x_t, "answer  $\\varepsilon$": eps, "the picture  $x_0$": x_0}
captions = [f"t = {n}" for n in t.long().tolist()]
plots.filmstrip(rows, captions=captions, limits={"answer  $\\varepsilon$": 3.0}, title="Eight training pairs")
plt.show()
for i in range(8):  # each image has its own level
    torch.testing.assert_close(x_t[i], add_noise(x_0, eps, schedule.level(t[i]))[i])

# %% [markdown]
# ### Knowing the noise is knowing the picture
#
# The boxed equation is one equation with two unknowns, $x_0$ and $\varepsilon$. If one of them is known, the other one
# follows. So a network may be trained to predict either of them, or any combination $a\,x_0 + b\,\varepsilon$ that is
# not a multiple of $x_t$ itself. The prediction types of the literature are the rows of **one table**, which the whole
# course uses:
#
# | prediction type | $a$ | $b$ | used by |
# |---|---|---|---|
# | `eps` | $0$ | $1$ | DDPM |
# | `x_0` | $1$ | $0$ | the picture itself |
# | `v` | $-\sigma$ | $\alpha$ | Salimans & Ho 2022 |
# | `flow` | $-1$ | $1$ | flow matching, rectified flow |
# | `score` | $0$ | $-1/\sigma$ | score matching |
# | `edm` | $\sigma / (s\,r)$ | $-s\,\alpha / r$ | Karras et al. 2022 |
#
# (In the last row $s = \tfrac12$ is the standard deviation that EDM assumes for the data, and
# $r = \sqrt{\sigma^2 + s^2 \alpha^2}$.)
#
# `target` computes the training target for any of these prediction types; `to_x0_eps` converts a network's output back.

# %%
for kind in KINDS:
    output = target(kind, x_0, eps, alpha, sigma)  # the output of a perfect network
    got_x_0, got_eps = to_x0_eps(kind, output, x_t, alpha, sigma)
    torch.testing.assert_close(got_x_0, x_0, atol=1e-3, rtol=0)
    torch.testing.assert_close(got_eps, eps, atol=1e-3, rtol=0)
    a, b = (float(number) for number in coefficients(kind, level.alpha, level.sigma))
    print(f"{kind:>5}: output = {a:+.2f} x_0 {b:+.2f} ε at t = 300, and back again")

# %% [markdown]
# ## 8 · The step back, if you know the picture
#
# The step from $x_{t-1}$ to $x_t$ needs no knowledge of the picture. The step back is harder: which $x_{t-1}$ did this
# $x_t$ come from? If the picture $x_0$ is *known*, Bayes' rule gives the exact distribution, and it is again a
# Gaussian:
#
# $$
# q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t \mathbf I),\qquad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\, x_0
#             + \frac{\sqrt{1 - \beta_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t,\qquad
# \tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t
# \tag{DDPM, Eq. 6-7}
# $$
#
# <small>In code: `forward.posterior`. Test:
# `tests/test_forward.py::test_posterior_is_bayes_rule`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. The step from $x_{t-1}$ to $x_t$ does not depend on $x_0$, so Bayes' rule reads $q(x_{t-1} \mid x_t, x_0) \propto
#    q(x_t \mid x_{t-1})\; q(x_{t-1} \mid x_0)$.
# 2. Both factors are Gaussians. The exponent of the product, as a function of $x_{t-1}$, is $-\tfrac12 \left[
#    \frac{(x_t - \sqrt{1 - \beta_t}\, x_{t-1})^2}{\beta_t} + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\, x_0)^2}{1 -
#    \bar\alpha_{t-1}} \right]$. It is quadratic, so the posterior is a Gaussian.
# 3. Its inverse variance is the factor of $x_{t-1}^2$ in the bracket: $\frac{1}{\tilde\beta_t} = \frac{1 -
#    \beta_t}{\beta_t} + \frac{1}{1 - \bar\alpha_{t-1}} = \frac{1 - \bar\alpha_t}{\beta_t\, (1 - \bar\alpha_{t-1})}$,
#    because $(1 - \beta_t)(1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$.
# 4. Its mean is the factor of $x_{t-1}$ times this variance: $\tilde\mu_t = \tilde\beta_t \left[ \frac{\sqrt{1 -
#    \beta_t}}{\beta_t}\, x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_{t-1}}\, x_0 \right]$.
# 5. Insert $\tilde\beta_t$ from line 3: the two factors become those of the equation above.
#
# </details>

# %%
level, next_level = schedule.level(300), schedule.level(299)
x_t = add_noise(x_0, eps, level)

mean, std = forward.posterior(x_0, x_t, level, next_level)

alpha_bar, alpha_bar_before = float(schedule.alphas_cumprod[300]), float(schedule.alphas_cumprod[299])
beta = float(schedule.betas[300])
by_hand = (alpha_bar_before**0.5 * beta * x_0 + (1 - beta) ** 0.5 * (1 - alpha_bar_before) * x_t) / (1 - alpha_bar)
torch.testing.assert_close(mean, by_hand)
assert abs(std**2 - (1 - alpha_bar_before) / (1 - alpha_bar) * beta) < 1e-12
print(f"standard deviation of the step back: {std:.4f}, of the step forward: {beta**0.5:.4f}")

# %% [markdown]
# Does it work? Start from **pure noise** that has nothing to do with any of our digits, and take the thousand steps
# back, with the chosen picture $x_0$ given to each step.

# %%
stream = generators(8, seed=7)
x_t = randn(x_0.shape, stream)
backwards = [x_t]
for level, next_level in zip(levels[:0:-1], levels[-2::-1], strict=True):
    mean, std = forward.posterior(x_0, x_t, level, next_level)
    x_t = mean + std * randn(x_0.shape, stream)
    backwards.append(x_t)

rows = {f"digit {k}": [backwards[999 - t][k] for t in reversed(shown)] for k in (2, 5, 7)}
plots.filmstrip(rows, captions=[f"t = {t}" for t in reversed(shown)], title="From pure noise to a known x₀")
plt.show()
print(f"within 0.1 of the digits at t = 0: {bool((x_t - x_0).abs().max() < 0.1)}")
assert (x_t - x_0).abs().max() < 0.1

# %% [markdown]
# This is a perfect generator with one flaw: it must know the result beforehand. Replace the known $x_0$ by a network's
# **prediction from $x_t$**, and you have DDPM. The prediction is hard at first ($x_t$ is nearly noise) and easy at the
# end; this is why sampling takes many steps, and why each step may be simple.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · Half-way.** At which $t$ has the linear schedule lost half of the signal's *power*,
# $\bar\alpha_t < 1/2$ for the first time? Guess before you compute: is this $t$ near 500?

# %%
my_t = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_t = int((schedule.alphas_cumprod >= 0.5).sum())

# %%
check("01.1", my_t, solution_t)

# %% [markdown]
# **Exercise 2 · The noise, recovered.** Write a function `my_eps(x_t, x_0, level)` that returns the noise in $x_t$.

# %%
my_eps = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_eps(x_t, x_0, level):
    return (x_t - level.alpha * x_0) / level.sigma


# %%
check("01.2", my_eps, solution_eps)

# %% [markdown]
# **Exercise 3 · A jump from the middle.** Compute $x_{600}$ from a given $x_{300}$. It is
# `factor * x_300 + spread * noise` with fresh noise. Find `(factor, spread)` from `schedule.alphas_cumprod` alone,
# without `transition`, to four digits. (Hint: the product from 301 to 600 is a quotient of two known products.)

# %%
my_factor_and_spread = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
quotient = float(schedule.alphas_cumprod[600] / schedule.alphas_cumprod[300])
solution_factor_and_spread = (quotient**0.5, (1 - quotient) ** 0.5)

# %%
check("01.3", my_factor_and_spread, solution_factor_and_spread)

# %% [markdown]
# **Exercise 4 · Where the best classifier fails.** Use the curve of section 6: at which *log SNR* does the accuracy of
# the best possible classifier fall to about one half? Give a number within 0.4. (You can use
# `schedule.level(t).log_snr` and `best_accuracy(schedule.level(t))`.)

# %%
my_log_snr = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_log_snr = schedule.level(550).log_snr  # read off the curve: the accuracy is one half at about t = 550

# %%
check("01.4", my_log_snr, solution_log_snr)

# %% [markdown]
# ## What to remember
#
# - One line, $x_t = \alpha_t x_0 + \sigma_t \varepsilon$, is the whole forward process; the walk and the jump agree.
# - The forward process is fixed, not learned: a schedule of numbers, and a random generator.
# - Noise hides the details first and the large shapes last, so the same $t$ hides less of a larger picture.
# - At $T$ the linear schedule leaves nothing that even the best possible classifier could use.
# - Predictions of $\varepsilon$, $x_0$, $v$ or the velocity are equivalent: one table converts them.
# - With $x_0$ known, the step back is exact. A network only has to learn the prediction of $x_0$.
#
# **Next:** [02 · Schedules](02_schedules.ipynb) compares these $\beta_t$ with other choices.
#
# ## References
#
# - J. Sohl-Dickstein et al. 2015, [Deep Unsupervised Learning using Nonequilibrium
#   Thermodynamics](https://arxiv.org/abs/1503.03585): the forward chain and its reversal.
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239):
#   Eq. 2 (chain), Eq. 4 (closed form), Eq. 6-7 (posterior), Algorithm 1 (training pairs).
# - D. Kingma et al. 2021, [Variational Diffusion Models](https://arxiv.org/abs/2107.00630): the signal-to-noise
#   ratio.
# - T. Salimans, J. Ho 2022, [Progressive Distillation](https://arxiv.org/abs/2202.00512), Appendix D: the `v` row.
# - S. Rissanen, M. Heinonen, A. Solin 2023, [Generative Modelling with Inverse Heat
#   Dissipation](https://arxiv.org/abs/2206.13397), Section 2: the spectra of pictures and of noise.
# - A. Krizhevsky 2009, [Learning Multiple Layers of Features from Tiny
#   Images](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf): CIFAR-10.
# - Y. LeCun, C. Cortes, C. Burges: [the MNIST database](http://yann.lecun.com/exdb/mnist/).
