# %% [markdown]
# # 31 · Lab: schedules and samplers
#
# In this lab you write five functions: the levels of a schedule, and four samplers that run on them, DDPM, DDIM, Heun
# and DPM-Solver++ (2M). Each is compared with an implementation that has been compared with `diffusers`. After that
# your samplers draw digits with a trained network, and you measure how their errors fall with the number of steps.
#
# **When you have worked through it, you can**
#
# - compute the levels that a sampler visits from a list of betas;
# - write an ancestral sampler, and say which step draws no noise;
# - change one factor to make it deterministic, and explain why the mean must change too;
# - write two second-order solvers, and measure their order;
# - count network evaluations, the cost that counts.
#
# *Beside you:* notebooks [02](02_schedules.ipynb) and [04](04_from_ddpm_to_ddim.ipynb); Song, Meng & Ermon 2021,
# [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502). About 20 minutes to read, two hours with
# the exercises.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    EDMSchedule,
    ExactDenoiser,
    GaussianMixture,
    bundled_mnist,
    final,
    gaussian_modes,
    load_pretrained,
    metrics,
    plots,
    samplers,
)
from diffusion_explained.exercises import built, check

FULL = False  # True: a few minutes on two cores, with the numbers of the text. False: seconds, and pictures only
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(2 if FULL else 1)

# %% [markdown]
# ## What you build
#
# **The interface.** A sampler receives a denoiser, noise and levels. `denoise(x_t, level)` returns a prediction
# `pred` with two tensors of the shape of `x_t`: `pred.x_0` and `pred.eps`. A level is a triple `(t, alpha, sigma)`
# with these names, and has `level.log_snr`, which is $2 \log(\alpha / \sigma)$. `levels` decreases in noise, and its
# last entry is clean: $\alpha = 1$, $\sigma = 0$. Your functions return the last $x$.
#
# **One step.** Every sampler of this lab leads from the level $t$ to the less noisy level $s$ by a mixture of the two
# predictions, and perhaps new noise $z$:
#
# $$
# x_s = \alpha_s\, \hat x_0 + \sqrt{\sigma_s^2 - \varsigma^2}\; \hat\varepsilon + \varsigma z,
# \qquad
# \varsigma = \eta\, \frac{\sigma_s}{\sigma_t} \sqrt{1 - \frac{\alpha_t^2}{\alpha_s^2}\,}. \tag{DDIM, Eq. 12 and 16}
# $$
#
# <small>In code: `samplers.ddim`. Test:
# `tests/test_samplers.py::test_euler_is_ddim_and_ancestral_is_ddpm_is_ddim_with_eta_1`.</small>
#
# With $\eta = 1$ the number $\varsigma$ is the standard deviation of the posterior $q(x_s \mid x_t, x_0)$, and the
# step is DDPM's, for neighbouring levels as for distant ones. With $\eta = 0$ the step is DDIM's. It is first order:
# half the step length, half the error.
#
# **Two ways to second order.** DDIM follows an ODE. With $y = x / \alpha$ and $s = \sigma / \alpha$ it is
# $\mathrm d y / \mathrm d s = \hat\varepsilon$. *Heun's method* makes a trial step, predicts again at its end, and
# starts over with the mean of both slopes, which costs two network evaluations per step. *DPM-Solver++ (2M)* predicts
# once per step, and remembers the previous prediction. With $\lambda = \log (\alpha / \sigma)$, $h = \lambda_s -
# \lambda_t$ and $r = h_{\text{before}} / h$:
#
# $$
# D = \hat x_0 + \frac{\hat x_0 - \hat x_{0,\text{before}}}{2 r}, \qquad
# x_s = \frac{\sigma_s}{\sigma_t}\, x_t + \alpha_s \left(1 - e^{-h}\right) D. \tag{DPM-Solver++, Algorithm 2}
# $$
#
# <small>In code: `samplers.dpm_solver_pp_2m`. Test:
# `tests/test_samplers.py::test_dpm_solver_pp_2m_equals_diffusers`.</small>
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · The levels.** *★ · 20 minutes.* Write `my_levels(betas, num_inference_steps)`: from $\beta_0, \dots,
# \beta_{T-1}$ (a tensor `[T]`) the list of `(t, alpha, sigma)` that a sampler visits. The timesteps are *trailing*:
# $t_k = \operatorname{round}(T - k\, T / n) - 1$ for $k = 0, \dots, n - 1$, so the first one is $T - 1$. The clean
# level `(-1, 1, 0)` ends the list.

# %%
my_levels = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_levels(betas, num_inference_steps):
    T, alphas_cumprod, levels = len(betas), torch.cumprod(1 - betas, dim=0), []
    for k in range(num_inference_steps):
        t = round(T - k * T / num_inference_steps) - 1
        alpha_bar = float(alphas_cumprod[t])
        levels.append((t, alpha_bar**0.5, (1 - alpha_bar) ** 0.5))
    return [*levels, (-1, 1, 0)]


# %%
check("31.1", my_levels, solution_levels)

# %% [markdown]
# **Exercise 2 · DDPM.** *★★ · 25 minutes.* Write `my_ddpm(denoise, x_T, levels, generator)`: ancestral sampling, the
# step above with $\eta = 1$. Draw the noise of a step for the whole batch by `torch.randn(x.shape,
# generator=generator)`, and none in the last step.

# %%
my_ddpm = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_ddpm(denoise, x_T, levels, generator):
    x = x_T
    for i in range(len(levels) - 1):
        level, next_level = levels[i], levels[i + 1]
        pred = denoise(x, level)
        kept = max(0.0, 1 - (level.alpha / next_level.alpha) ** 2)
        std = next_level.sigma / level.sigma * kept**0.5
        x = next_level.alpha * pred.x_0 + (next_level.sigma**2 - std**2) ** 0.5 * pred.eps
        if next_level.sigma > 0:
            x = x + std * torch.randn(x.shape, generator=generator)
    return x


# %%
check("31.2", my_ddpm, solution_ddpm)

# %% [markdown]
# **Exercise 3 · DDIM with η.** *★★ · 20 minutes.* Write `my_ddim(denoise, x_T, levels, eta, generator)`. At $\eta =
# 0$ it needs no generator, and at $\eta = 1$ it is your DDPM. Draw as in exercise 2.

# %%
my_ddim = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_ddim(denoise, x_T, levels, eta, generator):
    x = x_T
    for i in range(len(levels) - 1):
        level, next_level = levels[i], levels[i + 1]
        pred = denoise(x, level)
        kept = max(0.0, 1 - (level.alpha / next_level.alpha) ** 2)
        std = eta * next_level.sigma / level.sigma * kept**0.5
        x = next_level.alpha * pred.x_0 + (next_level.sigma**2 - std**2) ** 0.5 * pred.eps
        if std > 0:
            x = x + std * torch.randn(x.shape, generator=generator)
    return x


# %%
check("31.3", my_ddim, solution_ddim)

# %% [markdown]
# **Exercise 4 · Heun.** *★★ · 25 minutes.* Write `my_heun(denoise, x_T, levels)`: Heun's method for $y = x / \alpha$
# over $s = \sigma / \alpha$. The last step, to $s = 0$, is Euler's, because there is nothing to predict at a clean
# level. So $n$ steps take $2 n - 1$ network evaluations.

# %%
my_heun = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_heun(denoise, x_T, levels):
    x = x_T
    for i in range(len(levels) - 1):
        level, next_level = levels[i], levels[i + 1]
        y, length = x / level.alpha, next_level.sigma / next_level.alpha - level.sigma / level.alpha
        slope = denoise(x, level).eps
        if next_level.sigma > 0:
            trial = next_level.alpha * (y + length * slope)
            slope = (slope + denoise(trial, next_level).eps) / 2
        x = next_level.alpha * (y + length * slope)
    return x


# %%
check("31.4", my_heun, solution_heun)

# %% [markdown]
# **Exercise 5 · DPM-Solver++ (2M).** *★★★ · 30 minutes.* Write `my_2m(denoise, x_T, levels)` with one network
# evaluation per step. The first step has no previous prediction, and in the last one $h$ is infinite: in both, $D =
# \hat x_0$, and $e^{-h} = 0$ in the last one.

# %%
my_2m = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_2m(denoise, x_T, levels):
    x, x_0_before, h_before = x_T, None, None
    for i in range(len(levels) - 1):
        level, next_level = levels[i], levels[i + 1]
        x_0 = denoise(x, level).x_0
        D, shrink, h = x_0, 0.0, None
        if next_level.sigma > 0:
            h = (next_level.log_snr - level.log_snr) / 2
            shrink = float(torch.exp(torch.tensor(-h)))
            if x_0_before is not None:
                D = x_0 + (x_0 - x_0_before) * h / (2 * h_before)
        x = next_level.sigma / level.sigma * x + next_level.alpha * (1 - shrink) * D
        x_0_before, h_before = x_0, h
    return x


# %%
check("31.5", my_2m, solution_2m)

# %% [markdown]
# ## Your samplers beside the library's
#
# From here on the lab uses your answers. First the comparison with `diffusion_explained.samplers`: one trained
# network, the same noise, the same levels.

# %%
levels_of = built("31.1", my_levels, solution_levels)
ddpm = built("31.2", my_ddpm, solution_ddpm)
ddim = built("31.3", my_ddim, solution_ddim)
heun = built("31.4", my_heun, solution_heun)
dpm_2m = built("31.5", my_2m, solution_2m)

# %%
model = load_pretrained("mnist_unet_eps")
denoise, x_T = model.denoiser(torch.tensor([2, 5]), guidance_scale=1), model.noise(2, seed=0)
levels = model.schedule.levels(6)
for level, by_hand in zip(levels, levels_of(model.schedule.betas, 6), strict=True):
    assert all(abs(a - b) < 1e-6 for a, b in zip(level, by_hand, strict=True))


def seeded():
    return torch.Generator().manual_seed(1)


ours = {"DDPM": ddpm(denoise, x_T, levels, seeded()), "DDIM": ddim(denoise, x_T, levels, 0.0, None),
        "Heun": heun(denoise, x_T, levels), "2M": dpm_2m(denoise, x_T, levels)}  # fmt: skip
theirs = {"DDPM": samplers.ddpm(denoise, x_T, levels, generator=seeded()),
          "DDIM": samplers.ddim(denoise, x_T, levels), "Heun": samplers.heun(denoise, x_T, levels),
          "2M": samplers.dpm_solver_pp_2m(denoise, x_T, levels)}  # fmt: skip
for name, x_0 in ours.items():
    torch.testing.assert_close(x_0, final(theirs[name]), atol=1e-3, rtol=0)
print("equal to the library's, step for step:", ", ".join(ours))

# %% [markdown]
# ## The order of a solver
#
# Where the exact denoiser is known, so is the error: the distance to the end of many small steps of Heun's method. We
# use eight Gaussians in the plane with EDM's levels, and count network evaluations, so that Heun's double cost is
# seen.

# %%
means, std = gaussian_modes("eight_gaussians")
exact, schedule = ExactDenoiser(GaussianMixture(means, std)), EDMSchedule()
start = 80 * torch.randn(100, 2, generator=seeded()).double()
reference = heun(exact, start, schedule.levels(2000 if FULL else 500))
solvers = {"DDIM": (lambda levels: ddim(exact, start, levels, 0.0, None), 1),
           "Heun": (lambda levels: heun(exact, start, levels), 2),
           "DPM-Solver++ 2M": (lambda levels: dpm_2m(exact, start, levels), 1)}  # fmt: skip
counts, errors = (8, 16, 32, 64, 128), {}
for name, (run, cost) in solvers.items():
    errors[name] = [float((run(schedule.levels(n // cost)) - reference).square().mean().sqrt()) for n in counts]
plots.curves({name: (counts, far) for name, far in errors.items()}, log="xy", title="Error over cost",
             xlabel="network evaluations", ylabel="rms distance to the exact end")  # fmt: skip
plt.show()
for name, far in errors.items():
    print(f"{name}: from 64 to 128 evaluations the error is divided by {far[-2] / far[-1]:.0f}")
assert 1.5 < errors["DDIM"][-2] / errors["DDIM"][-1] < 2.5
assert all(errors[name][-1] < errors["DDIM"][-1] / 3 for name in ("Heun", "DPM-Solver++ 2M"))

# %% [markdown]
# ## Digits
#
# The same noise through all four, in few network evaluations. DDPM in ten steps draws another digit for the same
# noise, because it draws noise of its own.

# %%
shown = torch.arange(8)
denoise, x_T = model.denoiser(shown, guidance_scale=1), model.noise(8, seed=3)
ten, five = model.schedule.levels(10), model.schedule.levels(5)
rows = {"DDPM, 10": ddpm(denoise, x_T, ten, seeded()), "DDIM, 10": ddim(denoise, x_T, ten, 0.0, None),
        "Heun, 9": heun(denoise, x_T, five), "2M, 10": dpm_2m(denoise, x_T, ten)}  # fmt: skip
plots.filmstrip(
    {name: x.clamp(-1, 1) for name, x in rows.items()}, title="Four samplers, at most 10 network evaluations"
)
plt.show()
apart = {name: float((x - rows["DDIM, 10"]).square().mean().sqrt()) for name, x in rows.items()}
assert apart["2M, 10"] < apart["DDPM, 10"], "the two ODE solvers end near each other, DDPM elsewhere"

# %% [markdown]
# **How good are they?** With `FULL = True` the next cell draws 300 digits per entry, three times with different
# seeds, and prints their Fréchet distance to real digits in the features of our classifier (lower is better).

# %%
runs = {"DDPM": ddpm, "DDIM": lambda denoise, x, levels, generator: ddim(denoise, x, levels, 0.0, None),
        "Heun": lambda denoise, x, levels, generator: heun(denoise, x, levels),
        "2M": lambda denoise, x, levels, generator: dpm_2m(denoise, x, levels)}  # fmt: skip
if FULL:
    digits, many = bundled_mnist(), model.denoiser(torch.arange(300) % 10, guidance_scale=1)
    real = metrics.classify(digits.to_float()[-2000:])[0]
    for name, run in runs.items():
        for evaluations in (6, 12, 24):
            levels = model.schedule.levels(evaluations // 2 if name == "Heun" else evaluations)
            drawn = [
                run(many, model.noise(300, seed=k), levels, torch.Generator().manual_seed(k)) for k in (0, 300, 600)
            ]
            far = torch.tensor([metrics.frechet_distance(metrics.classify(x.clamp(-1, 1))[0], real) for x in drawn])
            print(f"{name}, {evaluations} evaluations: {float(far.mean()):.2f} ± {float(far.std()) / 3**0.5:.2f}")
else:
    print("FULL = True in the first code cell measures the Fréchet distance of each sampler.")

# %% [markdown]
# **Measured** with `FULL = True`, 4.6 minutes of processor time; three draws of 300 digits, ± standard error:
#
# | network evaluations | DDPM | DDIM | Heun | 2M |
# |---|---|---|---|---|
# | 6 | 0.36 ± 0.03 | 0.28 ± 0.01 | 0.40 ± 0.04 | 0.27 ± 0.01 |
# | 12 | 0.27 ± 0.02 | 0.27 ± 0.01 | 0.29 ± 0.01 | 0.30 ± 0.02 |
# | 24 | 0.26 ± 0.01 | 0.30 ± 0.02 | 0.31 ± 0.02 | 0.33 ± 0.03 |
#
# At 6 evaluations Heun makes three large steps and is worst. From 12 on the four are hardly different: their errors
# are below what this measure sees with 300 digits, although the figure above tells them apart by factors of ten. A
# smaller error of the solver is no better picture once it is smaller than the error of the network.
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* At $\eta = 0$ the initial noise decides the digit. How much of it is still decided at $\eta =
#    1/2$? Define a measure, and draw its curve over $\eta$.
# 2. *★★★ · 20 minutes.* 2M uses an old prediction. Construct levels for which that makes its result worse than DDIM's
#    with the same number of steps, and explain why they are bad.
#
# ## What to remember
#
# - A sampler needs a denoiser and levels; it knows neither the network nor the schedule.
# - The variance of new noise is taken from the predicted noise, so that the total stays right.
# - Count network evaluations, not steps.
# - A second evaluation, or a memory, makes the solver second order.
#
# **Next:** [32 · Lab: the training loop](32_lab_training.ipynb), which makes a network like the one that was given
# here.
#
# ## References
#
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239):
#   Algorithm 2.
# - J. Song, C. Meng, S. Ermon 2021, [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502): Eq. 12,
#   16.
# - T. Karras et al. 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364): Algorithm 1.
# - C. Lu et al. 2022, [DPM-Solver++](https://arxiv.org/abs/2211.01095): Algorithm 2.
