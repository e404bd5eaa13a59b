# %% [markdown]
# # 00 · Warm-up and tour
#
# Four tools carry the whole course: arrays with a batch dimension, Gaussians, Bayes' rule, and one step of an ordinary
# differential equation (ODE). This notebook warms up each of them with the library call that the later notebooks use.
# Then it shows the whole of diffusion on one screen: data, noise, a network, training, sampling and guidance, in 60
# lines of PyTorch that run here in seconds.
#
# **When you have worked through it, you can**
#
# - multiply a batch of pictures by one number per picture, and recognise the mistake that raises no error;
# - add Gaussians, and invert the addition by Bayes' rule: what was $x_0$, given $x_t$?
# - say why the prediction with the least squared error is the posterior mean, and why this mean may be no datum at all;
# - solve an ODE by Euler's and by Heun's method, and say how the error depends on the number of steps;
# - read the letters $\alpha, \beta, \sigma, t, s, w$ in the papers on DDPM, DDIM, EDM and flow matching.
#
# *Prerequisites:* Python and a little PyTorch or NumPy; mean, variance and the Gaussian; derivatives and the chain
# rule. Nothing about stochastic processes. If sections 1 to 4 are known to you, begin with section 5.
#
# *Beside you:* Ho et al. 2020, [DDPM](https://arxiv.org/abs/2006.11239), Section 2. About 20 minutes to read.

# %%
import ipywidgets
import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    DDPMSchedule,
    EDMSchedule,
    ExactDenoiser,
    FlowSchedule,
    GaussianMixture,
    bundled_mnist,
    euler,
    final,
    forward,
    guidance,
    heun,
    plots,
    widgets,
)
from diffusion_explained.exercises import check

plt.rcParams["figure.dpi"] = 110
torch.set_num_threads(1)  # a batch of points is too little work to share among cores
schedule = FlowSchedule()

# %% [markdown]
# ## 1 · Shapes: one number per picture
#
# **How do you multiply a batch of pictures by a different number each?** A batch of pictures is a tensor of shape $[B,
# C, H, W]$: $B$ pictures of $C$ channels. Every picture of a training batch has a noise level of its own, so $\alpha$
# and $\sigma$ are vectors $[B]$. PyTorch aligns shapes **from the right** (*broadcasting*): a vector $[B]$ beside $[B,
# C, H, W]$ is aligned with the width $W$, not with the batch. Usually this is an error, because $B \ne W$. If $B = W$,
# it is no error and no warning, only a wrong result.
#
# The remedy is three more dimensions of size 1, `alpha[:, None, None, None]`. The library's `forward.like` gives a
# vector as many as the data need.

# %%
digits = bundled_mnist()
x_0, _ = digits.batch(torch.arange(28))  # 28 pictures, each 28 pixels wide: B = W
fade = torch.linspace(0, 1, 28)  # one number per picture

right = forward.like(fade, x_0) * x_0
wrong = fade * x_0  # the same shape, and no error

assert right.shape == wrong.shape == x_0.shape
assert torch.equal(right, fade[:, None, None, None] * x_0)
assert torch.equal(wrong, fade[None, None, None, :] * x_0)  # every picture fades from left to right
plots.filmstrip({"one number per picture": right[3::4], "one number per column": wrong[3::4]},
                title="The same product, aligned correctly and wrongly")  # fmt: skip
plt.show()

# %% [markdown]
# In the first row each picture has one contrast. In the second row every picture has all of them, from left to right:
# the vector was aligned with the columns. `forward.like` refuses a vector that does not have one number per picture.
#
# ## 2 · Gaussians add
#
# **What is the distribution of a sum of data and noise?** A Gaussian times a number is a Gaussian, and a sum of
# independent Gaussians is a Gaussian. Means add, and *variances* add (standard deviations do not): with $x_0 \sim
# \mathcal N(m, s^2)$ and $\varepsilon \sim \mathcal N(0, 1)$,
#
# $$
# \boxed{x_t = \alpha x_0 + \sigma \varepsilon \;\sim\; \mathcal N\!\left(\alpha m,\, \alpha^2 s^2 + \sigma^2\right)}
# $$
#
# <small>In code: `forward.add_noise`. Test:
# `tests/test_forward.py::test_chain_and_closed_form_agree_in_distribution`.</small>
#
# <details><summary>Derivation</summary>
#
# Expectations are linear: $\mathbb E[x_t] = \alpha\, \mathbb E[x_0] + \sigma\, \mathbb E[\varepsilon] = \alpha m$. For
# independent variables the mixed term of the variance vanishes: $\operatorname{Var}[x_t] = \alpha^2
# \operatorname{Var}[x_0] + \sigma^2 \operatorname{Var}[\varepsilon] + 2 \alpha \sigma \operatorname{Cov}[x_0,
# \varepsilon] = \alpha^2 s^2 + \sigma^2$. That the sum is again *Gaussian* follows from the characteristic function:
# $\mathbb E[e^{i u x_t}] = \mathbb E[e^{i u \alpha x_0}]\, \mathbb E[e^{i u \sigma \varepsilon}] = e^{i u \alpha m -
# u^2 (\alpha^2 s^2 + \sigma^2) / 2}$, which is that of the boxed Gaussian.
# </details>
#
# The library call for this sum is `add_noise(x_0, eps, level)`; a `Level` holds $(t, \alpha, \sigma)$.

# %%
m, s = 2.0, 0.5
level = schedule.level(0.4)  # on the straight path of flow matching: alpha = 0.6, sigma = 0.4
mean_t, std_t = level.alpha * m, (level.alpha**2 * s**2 + level.sigma**2) ** 0.5

draws = []
for seed in range(6):  # six independent draws of 20,000 numbers
    generator = torch.Generator().manual_seed(seed)
    x_0, eps = m + s * torch.randn(20_000, 1, generator=generator), torch.randn(20_000, 1, generator=generator)
    draws.append(forward.add_noise(x_0, eps, level))

x = torch.linspace(-0.5, 3.8, 87)
bells = {
    "x_t: α m, α² s² + σ²": (mean_t, std_t),
    "if standard deviations added": (mean_t, level.alpha * s + level.sigma),
}
bells = {name: (x, torch.distributions.Normal(*of).log_prob(x).exp()) for name, of in bells.items()}
histogram = torch.histogram(draws[0], x, density=True).hist
plots.curves({"20,000 draws of x_t": ((x[1:] + x[:-1]) / 2, histogram), **bells},
             title="Variances add", xlabel="x_t", ylabel="density")  # fmt: skip
plt.show()
for x_t in draws:  # four standard errors of a mean and of a standard deviation
    assert abs(float(x_t.mean()) - mean_t) < 4 * std_t / 20_000**0.5
    assert abs(float(x_t.std()) - std_t) < 4 * std_t / 40_000**0.5
print(f"mean {mean_t:.2f} and standard deviation {std_t:.2f}, in each of 6 draws within 4 standard errors")

# %% [markdown]
# One property of Gaussians in *many* dimensions is less familiar. Noise of $D$ independent numbers has a length of
# about $\sqrt D$, with hardly any spread. For a $28 \times 28$ picture $\sqrt D$ is 28. A picture of zeros has the
# highest density of all, and yet it never occurs: a sampler must start from *drawn* noise, not from the most likely
# point.

# %%
lengths = torch.randn(1000, 28 * 28, generator=torch.Generator().manual_seed(0)).norm(dim=1)
print(
    f"lengths of 1,000 pictures of noise: from {lengths.min():.0f} to {lengths.max():.0f}, spread {lengths.std():.1f}"
)
assert lengths.min() > 24 and lengths.max() < 32 and abs(lengths.std() - 0.5**0.5) < 0.08

# %% [markdown]
# ## 3 · Bayes: inverting the addition
#
# **We see $x_t$. What was $x_0$?** Bayes' rule multiplies what was known before (the *prior*, the distribution of the
# data) by how well each $x_0$ explains the observation (the *likelihood*):
#
# $$
# p(x_0 \mid x_t) = \frac{p(x_t \mid x_0)\; p(x_0)}{p(x_t)} .
# $$
#
# <small>In code: `exact.GaussianMixture.responsibilities`. Test:
# `tests/test_exact.py::test_class_probabilities_are_bayes_rule`.</small>
#
# For a Gaussian prior $\mathcal N(m, s^2)$ the posterior is Gaussian again:
#
# $$
# \boxed{\; \mathbb E[x_0 \mid x_t] = m + g\, (x_t - \alpha m), \qquad g = \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2},
# \qquad \operatorname{Var}[x_0 \mid x_t] = \frac{s^2 \sigma^2}{\alpha^2 s^2 + \sigma^2} \;}
# $$
#
# <small>In code: `exact.ExactDenoiser`. Test:
# `tests/test_exact.py::test_the_posterior_mean_is_the_best_regression`.</small>
#
# <details><summary>Derivation</summary>
#
# The logarithm of the product is a quadratic in $x_0$: $-\frac{(x_t - \alpha x_0)^2}{2 \sigma^2} - \frac{(x_0 - m)^2}{2
# s^2}$ plus a constant. A quadratic is the logarithm of a Gaussian. Its second derivative is $-(\alpha^2 / \sigma^2 + 1
# / s^2)$, so the *precisions* (inverse variances) add: $1 / \operatorname{Var} = \alpha^2 / \sigma^2 + 1 / s^2$, which
# is the boxed variance. The maximum is where the first derivative vanishes: $x_0 = \operatorname{Var} \cdot (\alpha x_t
# / \sigma^2 + m / s^2)$. Insert the variance and collect the terms in $x_t$ and $m$ to obtain the boxed mean.
# </details>
#
# Without noise ($\sigma = 0$) the mean is $x_t / \alpha$: the observation decides. In pure noise ($\alpha = 0$) it is
# $m$: only the prior is left. The library call is `GaussianMixture(...).x_0(x_t, level)`. We check both formulas
# without using them: draw 400,000 pairs, and keep the pairs whose $x_t$ happened to be near 1.

# %%
seen = 1.0
gain = level.alpha * s**2 / (level.alpha**2 * s**2 + level.sigma**2)
posterior_mean, posterior_std = m + gain * (seen - level.alpha * m), s * level.sigma / std_t
by_library = GaussianMixture(torch.tensor([[m]]), s).x_0(torch.tensor([[seen]]), level)
torch.testing.assert_close(float(by_library), posterior_mean, atol=1e-6, rtol=0)

kept = []
for seed in range(6):
    generator = torch.Generator().manual_seed(100 + seed)
    x_0, eps = m + s * torch.randn(400_000, 1, generator=generator), torch.randn(400_000, 1, generator=generator)
    kept.append(x_0[(forward.add_noise(x_0, eps, level) - seen).abs() < 0.02])
for one in kept:
    assert abs(float(one.mean()) - posterior_mean) < 4 * posterior_std / len(one) ** 0.5
    assert abs(float(one.std()) - posterior_std) < 4 * posterior_std / (2 * len(one)) ** 0.5
print(f"posterior of x_0 at x_t = 1: mean {posterior_mean:.2f}, standard deviation {posterior_std:.2f}")

of_kept = torch.cat(kept)
for guess in (posterior_mean, seen / level.alpha, m):  # the squared error of three guesses of x_0
    print(f"guess {guess:.2f}: mean squared error {float((of_kept - guess).square().mean()):.2f}")
assert all((of_kept - posterior_mean).square().mean() < (of_kept - other).square().mean() for other in (seen / 0.6, m))

# %% [markdown]
# The last lines are why training by plain regression works: **of all guesses, the posterior mean has the least squared
# error.** A network that is trained to predict $x_0$ from $x_t$ by least squares learns $\mathbb E[x_0 \mid x_t]$.
#
# ### What can go wrong: the mean of two possibilities
#
# Now let the data be *two* narrow Gaussians, at $-1$ and at $+1$. Bayes' rule over the two gives $p(k \mid x_t) \propto
# w_k\, \mathcal N(x_t;\, \alpha m_k,\, \alpha^2 s_k^2 + \sigma^2)$, and the posterior mean averages both. Drag the
# sliders: what does the denoiser predict at $x_t = 0$, and how does the curve change with the noise?

# %%
two = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.1)
x = torch.linspace(-2.5, 2.5, 101)


def prior_and_posterior(observed, t):
    """The prior p(x_0), and the posterior p(x_0 | x_t) by Bayes' rule on a grid, as a figure."""
    level = schedule.level(t)
    prior = two.log_density(x[:, None], schedule.level(0)).exp()
    likelihood = (
        torch.distributions.Normal(level.alpha * x.double(), level.sigma).log_prob(torch.tensor(observed)).exp()
    )
    posterior = prior * likelihood
    posterior = posterior / (posterior.sum() * (x[1] - x[0]))
    mean = float(two.x_0(torch.tensor([[observed]]), level))
    return plots.curves({"prior p(x_0)": (x, prior), "posterior p(x_0 | x_t)": (x, posterior)}, xlabel="x_0",
                        ylabel="density", title=f"x_t = {observed:.2f}: the denoiser predicts {mean:.2f}")  # fmt: skip


widgets.explore(
    prior_and_posterior,
    observed=ipywidgets.FloatSlider(0.1, min=-1.5, max=1.5, step=0.05, description="x_t"),
    t=ipywidgets.FloatSlider(0.5, min=0.05, max=0.95, step=0.05, description="noise t"),
)

# %%
x_t = torch.linspace(-2, 2, 81)[:, None]
times = (0.2, 0.5, 0.8)
predicted = {t: two.x_0(x_t, schedule.level(t)).flatten() for t in times}
plots.curves({f"t = {t}": (x_t.flatten(), x_0) for t, x_0 in predicted.items()},
             title="What the best denoiser predicts", xlabel="x_t", ylabel="E[x₀ | x_t]")  # fmt: skip
plt.show()
slopes = {t: float((x_0[41] - x_0[39]) / (x_t[41] - x_t[39])) for t, x_0 in predicted.items()}
print("slope of the prediction at x_t = 0:", {t: round(slope, 1) for t, slope in slopes.items()})
assert all(abs(float(x_0[40])) < 1e-5 for x_0 in predicted.values())  # between the two: a place without data
assert slopes[0.2] > 5 > slopes[0.5] > 1 > slopes[0.8] and predicted[0.2].abs()[0] > 0.95

# %% [markdown]
# At $x_t = 0$ the prediction is 0 at every noise level, although there are no data at 0: it is the mean of two equally
# likely answers. In pictures, this mean is a grey blur. In strong noise the prediction stays between the two answers;
# in weak noise it decides for one of them. Generating means: decide little by little. That needs steps.
#
# ## 4 · A step of an ODE
#
# **How do you follow a velocity?** An ODE $\frac{dx}{dt} = v(x, t)$ gives a velocity at every place and time. *Euler's
# method* walks along it in $n$ straight steps; *Heun's method* tries a step and then uses the mean of the two
# velocities:
#
# $$
# \text{Euler:}\quad x_{t+h} = x_t + h\, v(x_t, t), \qquad
# \text{Heun:}\quad x' = x_t + h\, v(x_t, t),\quad x_{t+h} = x_t + \tfrac h2 \left( v(x_t, t) + v(x', t + h) \right)
# $$
#
# <small>In code: `samplers.euler`, `samplers.heun`. Test:
# `tests/test_convergence.py::test_order_of_convergence`.</small>
#
# Halving the steps halves Euler's error and quarters Heun's, which needs two evaluations of $v$ per step. We check this
# on the ODE of flow matching, $v = \mathbb E[\varepsilon - x_0 \mid x_t]$, which takes noise at $t = 1$ to data at $t =
# 0$ (so $h$ is negative; notebook 05 derives it). For Gaussian data the exact solution is known: a point keeps its
# place relative to mean and standard deviation, $\frac{x_t - \alpha_t m}{\sqrt{\alpha_t^2 s^2 + \sigma_t^2}}$ is
# constant.

# %%
m = torch.tensor([[2.0, -1.0]], dtype=torch.float64)  # Gaussian data in the plane
denoise = ExactDenoiser(GaussianMixture(m, 0.5))
counts = [4, 8, 16, 32, 64]
errors = {"Euler": [], "Heun": []}
for solver, method in (("Euler", euler), ("Heun", heun)):
    for n in counts:
        of_draws = []
        for seed in range(3):
            x_T = torch.randn(200, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            solved = final(method(denoise, x_T, schedule.levels(n)))
            of_draws.append(float((solved - (m + 0.5 * x_T)).square().mean().sqrt()))
        errors[solver].append(of_draws)

means = {name: (counts, [sum(of_draws) / 3 for of_draws in rows]) for name, rows in errors.items()}
ax = plots.curves(
    means, log="xy", title="Error of two methods", xlabel="steps", ylabel="distance from the exact x"
).axes[0]
ax.set_xticks(counts, [str(n) for n in counts])
ax.set_xticks([], minor=True)
plt.show()
for solver, rows in errors.items():
    falls = [before / after for before, after in zip(rows[-2], rows[-1], strict=True)]
    print(f"{solver}: from 32 to 64 steps the error falls to 1/{falls[0]:.1f}")
    assert all(abs(fall - {"Euler": 2, "Heun": 4}[solver]) < 0.4 for fall in falls)  # in each of three draws

# %% [markdown]
# `euler(denoise, x_T, levels)` is the library call; every sampler of the course is called like this.
#
# ## 5 · The whole of diffusion in five minutes
#
# Now everything at once, with `torch` alone. The following five cells are, line for line, the file
# `examples/minimal.py` of this repository (a test compares the two). Read each line together with the equation that its
# comment names. The rest of the course explains these lines.
#
# **Noise** (notebooks 01, 02): 200 steps, and the two numbers $\alpha_t, \sigma_t$ that combine them into one jump.

# %% tags=["minimal"]
import math

import torch
from torch import nn

T, NULL = 200, 2  # diffusion steps; the label that stands for "no class"
betas = torch.linspace(1e-4, 0.05, T)  # variance of the noise that each step adds (DDPM, Sec. 4)
alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (DDPM, Eq. 4)
alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()  # x_t = alpha_t x_0 + sigma_t eps

# %% [markdown]
# **Data**: two classes of points in the plane, an upper and a lower half moon.


# %% tags=["minimal"]
def data(labels: torch.Tensor) -> torch.Tensor:
    """Points [B, 2] of the half moons: label 0 is the upper one, label 1 the lower one."""
    angle = math.pi * (torch.rand(len(labels)) + labels)
    centre = torch.stack([labels - 0.5, 0.5 * labels - 0.25], dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + centre + 0.05 * torch.randn(len(labels), 2)


# %% [markdown]
# **A network** (notebooks 03, 07): from the noisy point, the time and the label it predicts the noise.


# %% tags=["minimal"]
class Network(nn.Module):
    """eps_theta(x_t, t, label) predicts the noise in x_t. [B, 2] in, [B, 2] out."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.time, self.label = nn.Linear(32, width), nn.Embedding(3, width)
        self.inp, self.out = nn.Linear(2, width), nn.Linear(width, 2)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        angles = t[:, None] / T * math.pi * 2.0 ** torch.arange(-1, 15) / 2  # each octave resolves finer times
        h = self.inp(x_t) + self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(label)
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h))
        return self.out(nn.functional.silu(h))


# %% [markdown]
# **Training** (notebook 03): least squares, so by section 3 the network learns $\mathbb E[\varepsilon \mid x_t]$. One
# label in ten is dropped, so that the same network also learns the prediction without a label.


# %% tags=["minimal"]
def train(network: Network, steps: int = 4000, batch: int = 256) -> None:
    """DDPM, Algorithm 1, with the label dropped one time in ten (CFG, Algorithm 1)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        label, t, eps = torch.randint(2, (batch,)), torch.randint(T, (batch,)), torch.randn(batch, 2)
        x_t = alpha[t, None] * data(label) + sigma[t, None] * eps  # (DDPM, Eq. 4)
        label = torch.where(torch.rand(batch) < 0.1, NULL, label)
        loss = (network(x_t, t, label) - eps).square().mean()  # (DDPM, Eq. 14)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %% [markdown]
# **Sampling and guidance** (notebooks 04, 05, 06): 20 steps from noise to data, each a step of the ODE of section 4.


# %% tags=["minimal"]
@torch.no_grad()
def sample(network: Network, label: torch.Tensor, steps: int = 20, guidance_scale: float = 1.0) -> torch.Tensor:
    """DDIM (Eq. 12, eta = 0) from noise to points [B, 2], guided by eps = uncond + w (cond - uncond)."""
    x, times = torch.randn(len(label), 2), torch.linspace(T - 1, 0, steps).round().long().tolist()
    for t, next_t in zip(times, [*times[1:], None], strict=True):
        time, null = torch.full((len(label),), t), torch.full_like(label, NULL)
        cond, uncond = network(x, time, label), network(x, time, null)
        eps = uncond + guidance_scale * (cond - uncond)
        x_0 = (x - sigma[t] * eps) / alpha[t]
        x = x_0 if next_t is None else alpha[next_t] * x_0 + sigma[next_t] * eps
    return x


# %% [markdown]
# Run it. The file trains for 4,000 steps; 700 are enough to see the result. We draw the upper moon without its label
# ($w = 0$), with it ($w = 1$) and with guidance ($w = 2$), and count the points that lie within 0.15 of their own moon,
# in four draws of 500 points each.

# %%
torch.manual_seed(0)
network = Network()
train(network, steps=700)

upper, shares, drawn = torch.zeros(500, dtype=torch.int64), {}, {}
for w in (0.0, 1.0, 2.0):
    of_draws = []
    for seed in range(4):
        torch.manual_seed(seed)
        drawn[f"guidance scale {w:g}"] = points = sample(network, upper, guidance_scale=w)
        of_draws.append(float((torch.cdist(points, data(upper.repeat(4))).amin(dim=1) < 0.15).float().mean()))
    shares[w] = of_draws
plots.point_panels(drawn, data=data(torch.arange(2).repeat(1000)), title="The upper moon, by 20 steps", limit=2.2)
plt.show()
for w, of_draws in shares.items():
    print(f"guidance scale {w:g}: a share of {sum(of_draws) / 4:.1f} lies on the upper moon")
assert max(shares[0.0]) < 0.6 and min(shares[1.0]) > 0.9 and min(shares[2.0]) > 0.95

# %% [markdown]
# Without the label the points belong to both moons, and many lie between them: only a tenth of the training was without
# a label. With the label they lie on the right moon, and guidance draws them to its middle, at the cost of diversity.
#
# That is all: no adversary, no Markov chain to be inverted, no likelihood to be bounded; least squares and a few steps.
# Everything else in the course is this program with pictures in place of points, a larger network, and better choices
# for each line.
#
# ## 6 · Notation: what the letters mean here, and elsewhere
#
# The same letters mean different things in different papers. Keep this table beside you.
#
# | here | meaning | DDPM | DDIM | EDM | flow papers ($\tau = 1 - t$) | SD 3 |
# |---|---|---|---|---|---|---|
# | $x_0$ | data | $x_0$ | $x_0$ | $y$ | $x_1$ | $x_0$ |
# | $\varepsilon$ | noise, $\mathcal N(0, \mathbf I)$ | $\epsilon$ | $\epsilon$ | $n / \sigma$ | $x_0$ | $\epsilon$ |
# | $t$ | time, large is noisy | $t$, from 1 | $t$, from 1 | $\sigma$ | $1 - \tau$ | $t$ |
# | $\alpha_t$ | data's factor | $\sqrt{\bar\alpha_t}$ | $\sqrt{\alpha_t}$ | 1 | $\tau$ | $1 - t$ |
# | $\sigma_t$ | noise's factor | $\sqrt{1 - \bar\alpha_t}$ | $\sqrt{1 - \alpha_t}$ | $\sigma$ | $1 - \tau$ | $t$ |
# | $\beta_t$ | variance of one small step | $\beta_t = 1 - \alpha_t$ | $1 - \alpha_t / \alpha_{t-1}$ | | | |
# | `std` | std of a sampling step's *fresh* noise | $\sigma_t$ | $\sigma_t$ | | | |
# | $s$ | the next time of a sampling step, $s < t$ | $t - 1$ | $\tau_{i-1}$ | $t_{i+1}$ | | |
# | $v$ | velocity $\varepsilon - x_0$, straight path | | | | $-u$ | $v$ |
# | log SNR | $2 \log (\alpha_t / \sigma_t)$ | | | $-2 \log \sigma$ | | |
# | $w$ | guidance scale; 1 is off | | | | | |
#
# *Flow papers*: Lipman et al. and, with capital letters, Liu et al. (rectified flow). *SD 3*: Esser et al.
#
# Three traps. **(1)** DDPM's $\alpha_t = 1 - \beta_t$ is not ours, and DDIM's $\alpha_t$ is DDPM's $\bar\alpha_t$.
# **(2)** The flow papers let time run from noise to data. **(3)** Ho & Salimans (CFG) write $(1 +
# w)\,\varepsilon_{\text{cond}} - w\, \varepsilon_{\text{uncond}}$, so their $w$ is ours minus one; and in their paper,
# as in DPM-Solver, $\lambda$ is the log SNR *or half of it*. (A letter $s$ is also the scale in EDM's $x = s(t)(x_0 +
# \sigma n)$, and the shift of Stable Diffusion 3's time.)
#
# The table can be checked. Here are the papers' formulas against the library's `level` and `levels`:

# %%
ddpm_betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)  # DDPM, Sec. 4
alpha_bar = torch.cumprod(1 - ddpm_betas, dim=0)  # DDPM, Eq. 4; DDIM writes alpha for it
linear, edm = DDPMSchedule.linear(), EDMSchedule()

for t in (0, 300, 999):
    ours = linear.level(t)
    assert abs(ours.alpha - float(alpha_bar[t]) ** 0.5) < 1e-12
    assert abs(ours.sigma - float(1 - alpha_bar[t]) ** 0.5) < 1e-12
    continuous = torch.exp(-0.5 * ddpm_betas[: t + 1].sum())  # score SDE, Eq. 33: alpha = exp(-1/2 integral of beta)
    assert abs(float(continuous) / ours.alpha - 1) < 0.04

i = torch.arange(10, dtype=torch.float64) / 9
sigmas = (80 ** (1 / 7) + i * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7  # EDM, Eq. 5, with rho = 7
assert [level.alpha for level in edm.levels(10)] == [1.0] * 11
assert all(
    abs(level.sigma / float(of_paper) - 1) < 1e-9 for level, of_paper in zip(edm.levels(10), sigmas, strict=False)
)

assert all(abs(level.alpha - (1 - level.t)) + abs(level.sigma - level.t) < 1e-12 for level in schedule.levels(10))

cond, uncond = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
for w in (0.0, 0.5, 4.0):  # CFG, Eq. 6
    torch.testing.assert_close(guidance.guide(cond, uncond, 1 + w), (1 + w) * cond - w * uncond)
print("DDPM, score SDE, EDM, flow matching and CFG: the papers' formulas give our levels and our guidance")

# %% [markdown]
# And one picture of noise, seen on all three paths: the same ratio $\sigma / \alpha$ means the same problem, up to a
# factor on $x_t$. A denoiser that knows the data predicts the same $x_0$ on each.

# %%
of_ddpm = linear.level(400)
ratio = of_ddpm.sigma / of_ddpm.alpha
paths = {"DDPM": of_ddpm, "EDM": edm.level(ratio), "flow": schedule.level(ratio / (1 + ratio))}
x_0, eps = torch.randn(2, 100, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
moons = GaussianMixture(x_0, 0.05)
predicted = {name: moons.x_0(forward.add_noise(x_0, eps, level), level) for name, level in paths.items()}
for name, level in paths.items():
    print(f"{name}: t = {level.t:.4g}, α = {level.alpha:.3f}, σ = {level.sigma:.3f}, log SNR = {level.log_snr:.2f}")
    torch.testing.assert_close(predicted[name], predicted["DDPM"], atol=1e-6, rtol=0)

# %% [markdown]
# ## 7 · Glossary
#
# | word | meaning | notebook |
# |---|---|---|
# | forward process | data becomes noise, $x_t = \alpha_t x_0 + \sigma_t \varepsilon$; fixed, not learned | 01 |
# | level | one noise level: the time with its $\alpha$ and $\sigma$ | 01 |
# | schedule | which $\alpha$ and $\sigma$ belong to each time, and which times are trained and visited | 02 |
# | log SNR | $2 \log(\alpha / \sigma)$, the one number that orders all levels | 01, 02 |
# | denoiser | a function from $(x_t, \text{level})$ to a prediction of $x_0$ and $\varepsilon$ | 03 |
# | prediction type | what a network outputs: $\varepsilon$, $x_0$, $v$, flow, score; all are equivalent | 01, 03 |
# | score | $\nabla \log p_t(x_t) = -\mathbb E[\varepsilon \mid x_t] / \sigma_t$ | 03 |
# | EMA | moving average of the weights, with which samples are drawn | 03 |
# | sampler | a rule that leads from noise to data by evaluations of a denoiser | 04 |
# | NFE | number of network evaluations of a sampling run: its cost | 04, 05 |
# | probability-flow ODE | the ODE whose solutions have the forward process' distribution at each time | 04, 05 |
# | velocity, flow | $\varepsilon - x_0$ on the straight path, and the ODE that follows its mean | 05 |
# | guidance | go further in the direction in which a condition changes the prediction | 06 |
# | class dropout, null label | labels left out in training, and the label that stands for none | 03, 06 |
# | latent | the smaller tensor of an autoencoder in which diffusion runs | 10 |
# | distillation | training a network of few steps on the results of many steps | 05 |
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · One level per picture.** Write `my_mix(x_0, eps, alpha, sigma)`, the noisy batch $x_t = \alpha x_0 +
# \sigma \varepsilon$. The data are $[B, \dots]$ with any number of further dimensions; `alpha` and `sigma` are vectors
# $[B]$. (Do not use `like` or `add_noise`.)

# %%
my_mix = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_mix(x_0, eps, alpha, sigma):
    each = (len(x_0), *[1] * (x_0.ndim - 1))
    return alpha.reshape(each) * x_0 + sigma.reshape(each) * eps


# %%
check("00.1", my_mix, solution_mix)

# %% [markdown]
# **Exercise 2 · What was $x_0$?** Data are $\mathcal N(m, s^2)$, and you see `x_t` (a tensor) at a level with $\alpha$
# and $\sigma$. Write `my_posterior(x_t, m, s, alpha, sigma)`, which returns the pair (posterior mean, posterior
# standard deviation) of $x_0$: a tensor of the shape of `x_t`, and a number. It must also work at $\alpha = 0$.

# %%
my_posterior = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_posterior(x_t, m, s, alpha, sigma):
    variance = alpha**2 * s**2 + sigma**2
    return m + alpha * s**2 / variance * (x_t - alpha * m), s * sigma / variance**0.5


# %%
check("00.2", my_posterior, solution_posterior)

# %% [markdown]
# **Exercise 3 · Euler's method.** Write `my_euler(v, x, start, end, n)`: follow $\frac{dx}{dt} = v(x, t)$ from the time
# `start` to the time `end` (which may be earlier) in `n` equal steps, and return the last $x$. `v(x, t)` is called with
# a tensor and a number, exactly `n` times.

# %%
my_euler = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_euler(v, x, start, end, n):
    h = (end - start) / n
    for i in range(n):
        x = x + h * v(x, start + i * h)
    return x


# %%
check("00.3", my_euler, solution_euler)

# %% [markdown]
# **Exercise 4 · Translate.** A network was trained in EDM's notation: its input is $x_0 + \sigma_{\text{EDM}}\, n$. You
# have a picture that was noised by DDPM's linear schedule (section 6) to `t = 500`. Which $\sigma_{\text{EDM}}$ is the
# same noise level, to within 0.01? (And by what must you divide the picture first?)

# %%
my_sigma = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_sigma = linear.level(500).sigma / linear.level(500).alpha  # the picture must be divided by alpha

# %%
check("00.4", my_sigma, solution_sigma)

# %% [markdown]
# ## What to remember
#
# - One number per picture needs the shape $[B, 1, 1, 1]$; with $[B]$ PyTorch may silently align the wrong dimension.
# - Variances of independent Gaussians add. Bayes' rule inverts the addition, and precisions add.
# - Least squares learns the posterior mean, and a mean of two answers may be neither of them. So sampling takes steps.
# - Euler's error falls as $1/n$, Heun's as $1/n^2$.
# - Diffusion is 60 lines: noise, least squares, and a few steps of an ODE.
#
# **Next:** [01 · Forward noising](01_forward_noising.ipynb): how a picture becomes noise.
#
# ## References
#
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239): Eq. 4,
#   Eq. 14, Algorithm 1.
# - J. Song, C. Meng, S. Ermon 2021, [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502): Eq. 12.
# - Y. Song et al. 2021, [Score-Based Generative Modeling through Stochastic Differential
#   Equations](https://arxiv.org/abs/2011.13456): Eq. 33.
# - T. Karras et al. 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364): Eq. 5, Table 1.
# - Y. Lipman et al. 2023, [Flow Matching for Generative Modeling](https://arxiv.org/abs/2210.02747).
# - J. Ho, T. Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598): Eq. 6.
