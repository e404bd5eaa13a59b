# %% [markdown]
# # 35 · Lab: Euler-Maruyama and Hutchinson
#
# In continuous time, noising is a stochastic differential equation. Its reverse draws samples, and the flow without
# noise that has the same densities says how probable an image is. In this lab you write the solver of the reverse,
# two ways to a divergence, and the likelihood, and use them on a mixture whose densities are known, and on a trained
# network.
#
# **When you have worked through it, you can**
#
# - solve a stochastic differential equation, and say why its noise has the root of the step;
# - compute a divergence exactly, and estimate it with random probes at a cost that does not grow with the dimension;
# - compute the likelihood of data under a flow, and compare it with a closed form;
# - say how many probes and steps an estimate needs.
#
# *Beside you:* notebook [12](12_scores_sdes_likelihood.ipynb); Song et al. 2021, [Score-Based Generative Modeling
# through Stochastic Differential Equations](https://arxiv.org/abs/2011.13456). About 15 minutes to read, two hours
# and a half with the exercises and questions.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import GaussianMixture, Level, bundled_mnist, gaussian_modes, load_pretrained, metrics, plots
from diffusion_explained.exercises import built, check
from diffusion_explained.likelihood import bits_per_dimension, dequantise

FULL = False  # True: half a minute on two cores, 100 digits. False: seconds, 2 digits
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(2 if FULL else 1)

# %% [markdown]
# ## What you build
#
# **The way to noise and back.** With a rate $\beta(t)$ the variance-preserving SDE and its reverse are
#
# $$
# \mathrm d x = -\tfrac12 \beta x\, \mathrm d t + \sqrt{\beta}\, \mathrm d w, \qquad
# \mathrm d x = \left[ -\tfrac12 \beta x - \beta\, \nabla \log p_t(x) \right] \mathrm d t
# + \sqrt{\beta}\, \mathrm d \bar w.
# \tag{Song et al. 2021, Eq. 6 and 11}
# $$
#
# <small>In code: `exercises.lab_sde.is_euler_maruyama`. Test:
# `tests/answers/lab_sde.py::my_reverse`.</small>
#
# *Euler-Maruyama* makes a step of length $h$ against the time: $x \leftarrow x + \beta h\, (\tfrac12 x + \nabla \log
# p) + \sqrt{\beta h}\, z$. The noise of many short steps adds up by its variance, so each has the variance $\beta h$.
#
# **The divergence.** The flow $\mathrm d x / \mathrm d t = f(x, t)$ compresses or expands space by
# $\operatorname{div} f = \sum_i \partial f_i / \partial x_i$, the trace of the Jacobian $J$. Exactly it costs one
# backward pass per dimension. With a random probe $v$ whose entries are independent, of mean 0 and variance 1,
#
# $$
# \mathbb E\left[ v^\top J v \right] = \operatorname{tr} J \tag{Hutchinson 1989}
# $$
#
# <small>In code: `likelihood.log_likelihood`. Test:
# `tests/test_likelihood.py::test_random_vectors_estimate_the_exact_divergence`.</small>
#
# for one backward pass per probe.
#
# **The likelihood.** Along the flow from data $x_0$ at $t = 0$ to $x_1$ at $t = 1$, where the density is a standard
# Gaussian,
#
# $$
# \log p_0(x_0) = \log \mathcal N(x_1; 0, \mathbf I) + \int_0^1 \operatorname{div} f(x_t, t)\, \mathrm d t.
# \tag{Song et al. 2021, Eq. 39}
# $$
#
# <small>In code: `likelihood.log_likelihood`. Test:
# `tests/test_likelihood.py::test_it_is_the_closed_form_on_every_schedule_at_clean_and_noisy_ends`.</small>
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · Euler-Maruyama.** *★★ · 30 minutes.* Write `my_reverse(score, beta, x, times, generator)`: the last
# $x$ of the reverse-time SDE through the falling `times`. `score(x, t)` and `beta(t)` take a number $t$. Draw the
# noise of each step, the last one included, by `torch.randn(x.shape, generator=generator)`.

# %%
my_reverse = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_reverse(score, beta, x, times, generator):
    for k in range(len(times) - 1):
        t, h = times[k], times[k] - times[k + 1]
        z = torch.randn(x.shape, generator=generator)
        x = x + beta(t) * h * (x / 2 + score(x, t)) + (beta(t) * h) ** 0.5 * z
    return x


# %%
check("35.1", my_reverse, solution_reverse)

# %% [markdown]
# **Exercise 2 · The divergence.** *★★ · 20 minutes.* Write `my_divergence(f, x)`: the trace of the Jacobian of `f` at
# each point, `[B]`. `f` takes and returns `[B, D]`, and treats each point by itself. It must also work inside
# `torch.no_grad()`.

# %%
my_divergence = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_divergence(f, x):
    total = torch.zeros(len(x), dtype=x.dtype)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = f(x)
        for i in range(x.shape[1]):
            (row,) = torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)  # points do not mix
            total += row[:, i]
    return total


# %%
check("35.2", my_divergence, solution_divergence)

# %% [markdown]
# **Exercise 3 · Hutchinson's estimator.** *★★ · 20 minutes.* Write `my_hutchinson(f, x, probes)`: the mean of $v^\top
# J v$ over the probes `[K, B, D]`, for each point, `[B]`, with one backward pass per probe.

# %%
my_hutchinson = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_hutchinson(f, x, probes):
    total = torch.zeros(len(x), dtype=x.dtype)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = f(x)
        for v in probes:
            (pushed,) = torch.autograd.grad((out * v).sum(), x, retain_graph=True)
            total += (pushed * v).sum(dim=1)
    return total / len(probes)


# %%
check("35.3", my_hutchinson, solution_hutchinson)

# %% [markdown]
# **Exercise 4 · The likelihood.** *★★★ · 40 minutes.* Write `my_log_likelihood(f, divergence, x, times)`: $\log
# p_0(x)$ for points `[B, D]`, by Heun's method through the rising `times`. Heun's method for the integral takes the
# mean of the divergences at both ends of a step, the second one at the end of the trial step. `f(x, t)` returns `[B,
# D]`, `divergence(x, t)` returns `[B]`.

# %%
my_log_likelihood = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_log_likelihood(f, divergence, x, times):
    integral = torch.zeros(len(x), dtype=x.dtype)
    for k in range(len(times) - 1):
        t, after = times[k], times[k + 1]
        h, slope = after - t, f(x, t)
        trial = x + h * slope
        integral = integral + h * (divergence(x, t) + divergence(trial, after)) / 2
        x = x + h * (slope + f(trial, after)) / 2
    log_2pi = torch.log(torch.tensor(2 * torch.pi, dtype=x.dtype))
    return -(x**2).sum(dim=1) / 2 - x.shape[1] / 2 * log_2pi + integral


# %%
check("35.4", my_log_likelihood, solution_log_likelihood)

# %% [markdown]
# ## Samples of a known mixture
#
# From here on the lab uses your answers. The data are eight Gaussians in the plane, so score and density are known at
# every time. $\beta$ rises from 0.1 to 20, as in Song et al.; $\alpha^2 = e^{-\int \beta}$.

# %%
reverse = built("35.1", my_reverse, solution_reverse)
divergence_of = built("35.2", my_divergence, solution_divergence)
hutchinson = built("35.3", my_hutchinson, solution_hutchinson)
log_likelihood = built("35.4", my_log_likelihood, solution_log_likelihood)

# %%
means, std = gaussian_modes("eight_gaussians")
mixture = GaussianMixture(means, std)


def beta(t):
    return 0.1 + 19.9 * t


def level(t):
    alpha = float(torch.exp(torch.tensor(-(0.1 * t + 19.9 * t**2 / 2) / 2)))
    return Level(t, alpha, (1 - alpha**2) ** 0.5)


def score(x, t):
    at = level(t)
    return (at.alpha * mixture.x_0(x, at) - x) / at.sigma**2  # Tweedie's formula


def times(n):
    """n + 1 times from 1 to nearly 0, closer to one another near the data."""
    return [(1 - k / n) ** 2 * 0.999 + 0.001 for k in range(n + 1)]


counts, truth = (
    (3, 5, 10, 20, 40),
    [mixture.sample(2000, torch.Generator().manual_seed(50 + k))[0] for k in range(3)],
)
drawn, far = {}, {}
for n in counts:
    seeds = [torch.Generator().manual_seed(k) for k in range(3)]
    runs = [reverse(score, beta, torch.randn(2000, 2, generator=g).double(), times(n), g) for g in seeds]
    drawn[n] = runs[0]
    far[n] = torch.tensor([metrics.sliced_wasserstein(a.float(), b) for a, b in zip(runs, truth, strict=True)])
plots.point_panels(
    {f"{n} steps": drawn[n].float() for n in (3, 5, 10, 40)}, data=truth[0], title="Your reverse-time SDE"
)
plt.show()
worse = bool(far[3].min() > 2 * far[40].max())
print(f"3 steps end more than twice as far from the data as 40, in every draw: {worse}")
assert worse and far[40].max() < 0.1

# %% [markdown]
# ## Likelihoods beside the closed form
#
# The flow with the same densities is $f = -\tfrac12 \beta\, (x + \nabla \log p_t)$. Its likelihood is the mixture's,
# up to the solver's error; with Hutchinson's estimator there is the error of the probes as well.


# %%
def flow(x, t):
    return -beta(t) / 2 * (x + score(x, t))


points = mixture.sample(50, torch.Generator().manual_seed(7))[0].double()
exact, at_data = mixture.log_density(points, level(0.001)), torch.Generator().manual_seed(3)
errors = {}
for name in ("exact divergence", "4 probes per evaluation"):
    errors[name] = []
    for n in (10, 20, 40, 80):

        def divergence(x, t, name=name):
            if name == "exact divergence":
                return divergence_of(lambda x: flow(x, t), x)
            probes = torch.randn(4, *x.shape, generator=at_data).sign().double()
            return hutchinson(lambda x: flow(x, t), x, probes)

        off = log_likelihood(flow, divergence, points, times(n)[::-1]) - exact
        errors[name].append(float(off.abs().median()))
plots.curves({name: ((10, 20, 40, 80), far) for name, far in errors.items()}, log="xy",
             title="The error of a likelihood", xlabel="steps of Heun's method",
             ylabel="median error of log p")  # fmt: skip
plt.show()
print(f"with 80 steps half of the likelihoods are right within 0.01: {errors['exact divergence'][-1] < 0.01}")
assert errors["exact divergence"][-1] < 0.01 < errors["4 probes per evaluation"][-1]

# %% [markdown]
# ## Bits per dimension of digits
#
# The shipped flow model of digits is such a flow: $f$ is the network's velocity, and $t$ runs from data to noise. In
# 784 dimensions only Hutchinson's estimator is affordable. Beside digits stand the same digits with their pixels
# shuffled.

# %%
model, digits = load_pretrained("mnist_unet_flow"), bundled_mnist()
count, steps = (100, 20) if FULL else (2, 4)
images = digits.images[-count:]
shuffled = images.flatten(1)[:, torch.randperm(784, generator=torch.Generator().manual_seed(0))].reshape(images.shape)
generator = torch.Generator().manual_seed(1)


def velocity(x, t):
    time = torch.full((len(x),), 1000.0 * t)
    return model.network(x.reshape(-1, 1, 28, 28), time, None).flatten(1)


def estimated(x, t):
    return hutchinson(lambda x: velocity(x, t), x, torch.randn(1, *x.shape, generator=generator).sign())


bits = {}
for name, ones in (("digits", images), ("shuffled pixels", shuffled)):
    with torch.no_grad():
        x = dequantise(ones, generator).flatten(1)
        log_p = log_likelihood(velocity, estimated, x, [0.0005 + 0.9995 * k / steps for k in range(steps + 1)])
    bits[name] = bits_per_dimension(log_p, 784)
fewer = bool(bits["digits"].max() < bits["shuffled pixels"].min())
print(f"digits have fewer bits per dimension than shuffled pixels: {fewer}")
if FULL:
    for name, ones in bits.items():
        print(f"{name}: {float(ones.mean()):.2f} ± {float(ones.std()) / count**0.5:.2f} bits per dimension")
assert fewer

# %% [markdown]
# **Measured** with `FULL = True` (100 digits, 20 steps of Heun's method, 32 seconds of processor time): digits have
# 3.13 ± 0.02 bits per dimension, the same digits with their pixels shuffled 12.77 ± 0.31 (mean ± standard error over
# the digits).
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* Compare probes of signs ±1 with Gaussian probes for one field. Which has the smaller variance,
#    and for which Jacobians is there no difference?
# 2. *★★★ · 20 minutes.* Your reverse SDE and the flow end at the same distribution. Disturb the score by a small
#    constant vector. Which of the two ends nearer to the data, and why?
#
# ## What to remember
#
# - The noise of a step has the variance of its length; its standard deviation is the root.
# - The reverse SDE uses the whole score, the flow half of it.
# - A trace needs as many backward passes as dimensions, an unbiased estimate of it one.
# - A likelihood is a solved ODE: its error has a part of the solver and a part of the probes.
#
# **Next:** [36 · Lab: the consistency loss](36_lab_consistency.ipynb): the end of the path in one evaluation.
#
# ## References
#
# - Y. Song et al. 2021, [Score-Based Generative Modeling through Stochastic Differential
#   Equations](https://arxiv.org/abs/2011.13456): Eq. 6, 11, 13, 39.
# - W. Grathwohl et al. 2019, [FFJORD](https://arxiv.org/abs/1810.01367): Hutchinson's estimator in a flow.
# - R. T. Q. Chen et al. 2018, [Neural Ordinary Differential Equations](https://arxiv.org/abs/1806.07366): Theorem 1.
