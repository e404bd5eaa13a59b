# %% [markdown]
# # 36 · Lab: the consistency loss
#
# A consistency model answers from every point of a path with the path's end, so it needs one network evaluation. In
# this lab you write its four parts as in the paper: the parameterisation with its boundary condition, the noise
# levels, the loss of consistency training, and the sampler. Then you train it on points in the plane, without a
# teacher.
#
# **When you have worked through it, you can**
#
# - build a boundary condition into a network, so that it holds before training;
# - write a loss of which one side is held fixed, and say what happens otherwise;
# - raise the number of levels during training, and explain why one begins with few;
# - sample in one jump, and in several with new noise in between.
#
# *Beside you:* notebook [13](13_few_steps.ipynb); Song & Dhariwal 2024, [Improved Techniques for Training Consistency
# Models](https://arxiv.org/abs/2310.14189). About 15 minutes to read, two hours with the exercises and questions.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    MLP,
    EDMSchedule,
    ExactDenoiser,
    GaussianMixture,
    MLPConfig,
    euler,
    final,
    gaussian_modes,
    metrics,
    plots,
)
from diffusion_explained.exercises import built, check

FULL = False  # True: a minute on two cores. False: seconds, a short training
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(1)  # a batch of points is too little work to share among cores
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.75, 0.002, 20.0

# %% [markdown]
# ## What you build
#
# **The function.** With $x = x_0 + \sigma \varepsilon$, the consistency function is
#
# $$
# f(x, \sigma) = c_{\text{skip}}\, x + c_{\text{out}}\, F_\theta(c_{\text{in}}\, x, \sigma), \qquad
# c_{\text{skip}} = \frac{\sigma_d^2}{(\sigma - \sigma_{\min})^2 + \sigma_d^2}, \quad
# c_{\text{out}} = \frac{\sigma_d\, (\sigma - \sigma_{\min})}{\sqrt{\sigma^2 + \sigma_d^2}}
# \tag{consistency models, Appendix C}
# $$
#
# <small>In code: `exercises.lab_consistency.has_the_boundary_condition`. Test:
# `tests/answers/lab_consistency.py::my_f`.</small>
#
# with $c_{\text{in}} = 1 / \sqrt{\sigma^2 + \sigma_d^2}$. At $\sigma_{\min}$ it is $x$, whatever the network answers.
#
# **The loss.** For two neighbouring levels $\sigma_n < \sigma_{n+1}$, with the same $x_0$ and $\varepsilon$,
#
# $$
# L = \mathbb E \left[ \frac{d\big( f(x_0 + \sigma_{n+1} \varepsilon, \sigma_{n+1}),\;
# \operatorname{sg} f(x_0 + \sigma_n \varepsilon, \sigma_n) \big)}{\sigma_{n+1} - \sigma_n} \right],
# \qquad d(a, b) = \sqrt{\|a - b\|^2 + c^2} - c
# \tag{improved techniques, Eq. 3 and 8}
# $$
#
# <small>In code: `exercises.lab_consistency.is_the_consistency_loss`. Test:
# `tests/answers/lab_consistency.py::my_loss`.</small>
#
# with $c = 0.00054 \sqrt D$ for $D$ dimensions. sg holds its argument fixed: the noisier side learns from the cleaner
# one, never the other way round. With few levels the target is near the data but wrong (biased); with many it is
# right, but the truth has to travel through many levels. So the number of levels doubles during training.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · The boundary condition.** *★★ · 20 minutes.* Write `my_f(network, x, sigma, sigma_data, sigma_min)`:
# $f$ for points `[B, D]` and noise levels `[B]`. The network is called as `network(c_in * x, sigma)`.

# %%
my_f = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_f(network, x, sigma, sigma_data, sigma_min):
    s = sigma[:, None]
    c_in = 1 / (s**2 + sigma_data**2) ** 0.5
    c_skip = sigma_data**2 / ((s - sigma_min) ** 2 + sigma_data**2)
    c_out = sigma_data * (s - sigma_min) * c_in
    return c_skip * x + c_out * network(c_in * x, sigma)


# %%
check("36.1", my_f, solution_f)

# %% [markdown]
# **Exercise 2 · The noise levels.** *★ · 15 minutes.* Write `my_sigmas(n, sigma_min, sigma_max, rho)`: $n$ rising
# levels, both ends included, for which $\sigma^{1/\rho}$ is evenly spaced.

# %%
my_sigmas = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_sigmas(n, sigma_min, sigma_max, rho):
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [(low + i / (n - 1) * (high - low)) ** rho for i in range(n)]


# %%
check("36.2", my_sigmas, solution_sigmas)

# %% [markdown]
# **Exercise 3 · The consistency loss.** *★★★ · 35 minutes.* Write `my_loss(f, x_0, eps, sigma_low, sigma_high)`, a
# tensor with a gradient, averaged over the batch. `f(x, sigma)` takes `[B, D]` and `[B]`; the levels are `[B]`.

# %%
my_loss = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_loss(f, x_0, eps, sigma_low, sigma_high):
    with torch.no_grad():
        target = f(x_0 + sigma_low[:, None] * eps, sigma_low)
    guess = f(x_0 + sigma_high[:, None] * eps, sigma_high)
    c = 0.00054 * x_0.shape[1] ** 0.5
    distance = ((guess - target).square().sum(dim=1) + c**2).sqrt() - c
    return (distance / (sigma_high - sigma_low)).mean()


# %%
check("36.3", my_loss, solution_loss)

# %% [markdown]
# **Exercise 4 · Sampling by jumps.** *★★ · 20 minutes.* Write `my_sample(f, noise, sigmas, sigma_min, generator)`: a
# jump from `sigmas[0] * noise`; then for each further level $\sigma$ new noise $\sqrt{\sigma^2 - \sigma_{\min}^2}\,
# z$, by `torch.randn(x.shape, generator=generator)`, and another jump. `f` takes the level as `[B]`.

# %%
my_sample = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_sample(f, noise, sigmas, sigma_min, generator):
    def jump(x, sigma):
        return f(x, torch.full((len(x),), sigma, dtype=x.dtype))

    x = jump(sigmas[0] * noise, sigmas[0])
    for sigma in sigmas[1:]:
        z = torch.randn(x.shape, generator=generator)
        x = jump(x + (sigma**2 - sigma_min**2) ** 0.5 * z, sigma)
    return x


# %%
check("36.4", my_sample, solution_sample)

# %% [markdown]
# ## Train a consistency model
#
# From here on the lab uses your answers. The data are eight Gaussians; the network is the small MLP of notebook 13,
# which is given $\log \sigma$ as its time.

# %%
f_of = built("36.1", my_f, solution_f)
sigmas_of = built("36.2", my_sigmas, solution_sigmas)
loss_of = built("36.3", my_loss, solution_loss)
sample = built("36.4", my_sample, solution_sample)

# %%
means, std = gaussian_modes("eight_gaussians")
mixture = GaussianMixture(means, std)
STEPS, BATCH, MOST = (4000, 256, 160) if FULL else (800, 256, 40)


def levels_at(step, fewest=10):
    """The number of levels after so many steps: it doubles in stages of equal length."""
    stages = int(torch.log2(torch.tensor(MOST / fewest))) + 1
    return min(fewest * 2 ** int(step / STEPS * stages), MOST) + 1


def trained(hold=True, seed=0):
    """Train a consistency model; hold=False lets the gradient through the target."""
    torch.manual_seed(seed)
    network, generator = MLP(MLPConfig(width=128)), torch.Generator().manual_seed(seed)

    def f(x, sigma):
        return f_of(lambda x, s: network(x, 250 * s.log()), x, sigma, SIGMA_DATA, SIGMA_MIN)

    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, fused=True)
    for step in range(STEPS):
        levels = torch.tensor(sigmas_of(levels_at(step), SIGMA_MIN, SIGMA_MAX, 7.0))
        x_0, eps = mixture.sample(BATCH, generator)[0], torch.randn(BATCH, 2, generator=generator)
        n = torch.multinomial(
            levels[1:].log().diff(prepend=levels[:1].log()).clamp(max=2), BATCH, True, generator=generator
        )
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / STEPS)
        optimizer.zero_grad()
        if hold:
            loss_of(f, x_0, eps, levels[n], levels[n + 1]).backward()
        else:
            low, high = levels[n, None], levels[n + 1, None]
            apart = f(x_0 + high * eps, high[:, 0]) - f(x_0 + low * eps, low[:, 0])
            ((apart.square().sum(1) + 1e-6).sqrt() / (high - low)[:, 0]).mean().backward()
        optimizer.step()
    return f


def distances(draw):
    """The distances of three draws of 2,000 points to three draws of the data."""
    truth = [mixture.sample(2000, torch.Generator().manual_seed(50 + k))[0] for k in range(3)]
    return torch.tensor([metrics.sliced_wasserstein(draw(k).float(), one) for k, one in enumerate(truth)])


def jumps(f, sigmas, seed, count=2000):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return sample(f, torch.randn(count, 2, generator=generator), sigmas, SIGMA_MIN, generator)


def one_euler_step(seed):
    x_T = SIGMA_MAX * torch.randn(2000, 2, generator=torch.Generator().manual_seed(seed))
    return final(euler(ExactDenoiser(mixture), x_T, EDMSchedule(sigma_max=SIGMA_MAX).levels(1)))


f = trained()
chosen = {1: [SIGMA_MAX], 2: [SIGMA_MAX, 1.0], 4: [SIGMA_MAX, 3.0, 1.0, 0.4]}
data = mixture.sample(2000, torch.Generator().manual_seed(1))[0]
panels = {"exact denoiser,\none Euler step": one_euler_step(0).float(), **{
    f"consistency,\n{n} jump{'s' * (n > 1)}": jumps(f, sigmas, 0) for n, sigmas in chosen.items()}}  # fmt: skip
plots.point_panels(panels, data=data, title="One to four network evaluations")
plt.show()
euler_far = distances(one_euler_step)
far = {n: distances(lambda k, s=s: jumps(f, s, k)) for n, s in chosen.items()}
floor = distances(lambda k: mixture.sample(2000, torch.Generator().manual_seed(80 + k))[0])
nearer = bool(far[1].max() < euler_far.min() / 2)
print(f"one jump is less than half as far from the data as one step of the exact denoiser: {nearer}")
if FULL:
    print(f"floor {float(floor.mean()):.3f}, Euler {float(euler_far.mean()):.3f}", {
        n: f"{float(one.mean()):.3f} ± {float(one.std()) / 3**0.5:.3f}" for n, one in far.items()})  # fmt: skip
assert nearer

# %% [markdown]
# **The end of the path, from everywhere on it.** Along exact paths we ask your model at each level where the path
# ends. A denoiser answers with the mean of what is possible; a consistency model with the end.

# %%
steps = list(euler(ExactDenoiser(mixture), SIGMA_MAX * torch.randn(200, 2, generator=torch.Generator().manual_seed(4)),
                   EDMSchedule(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX).levels(100)))[:-1]  # fmt: skip
end = steps[-1].x_next
with torch.no_grad():
    ours = [f(step.x_t, torch.full((200,), step.level.sigma)) for step in steps]
answers = {"consistency model": ours, "exact denoiser": [step.pred.x_0 for step in steps]}
away = {name: [float((x - end).norm(dim=1).mean()) for x in ones] for name, ones in answers.items()}
plots.curves({name: ([s.level.sigma for s in steps], one) for name, one in away.items()}, log="x",
             title="How far the answer is from the end of the path", xlabel="σ", ylabel="mean distance")  # fmt: skip
plt.show()
noisy = [k for k, s in enumerate(steps) if s.level.sigma > 1]
nearer = sum(away["consistency model"][k] for k in noisy) < sum(away["exact denoiser"][k] for k in noisy)
print(f"at σ above 1 the consistency model is nearer to the end than the exact denoiser: {nearer}")
if FULL:
    free = trained(hold=False)
    print("without holding the target fixed:", distances(lambda k: jumps(free, [SIGMA_MAX], k)))
assert nearer

# %% [markdown]
# **Measured** with `FULL = True` (4,000 steps per training, up to 160 levels, 56 seconds of processor time): sliced
# Wasserstein distance of 2,000 points to the data, three draws, ± standard error. Two draws of the data are 0.033
# apart; one Euler step of the exact denoiser is 0.856 away, your model 0.047 ± 0.010 after one jump, 0.042 ± 0.007
# after two and 0.051 ± 0.004 after four. Trained without holding the target fixed it is 0.239 ± 0.003 away after one.
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* Let the gradient through the target (remove the stop). The loss falls further, and the samples
#    become worse. Explain both.
# 2. *★★★ · 20 minutes.* Train with a constant number of levels, 11 and 161, and with the doubling. Which error has
#    each, and how do you tell a bias from a truth that has not yet arrived?
#
# ## What to remember
#
# - The boundary condition is built in; only it ties the function to the data.
# - The noisier side learns from the cleaner one, with the same noise.
# - Few levels give a bias, many a slow start: begin with few.
# - Several jumps need new noise in between, and the level that belongs to it.
#
# ## References
#
# - Y. Song, P. Dhariwal, M. Chen, I. Sutskever 2023, [Consistency Models](https://arxiv.org/abs/2303.01469):
#   Algorithms 1 and 3, Appendix C.
# - Y. Song, P. Dhariwal 2024, [Improved Techniques for Training Consistency
#   Models](https://arxiv.org/abs/2310.14189): Section 3.
# - T. Karras et al. 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364): Eq. 5 and 7.
