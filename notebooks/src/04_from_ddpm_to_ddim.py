# %% [markdown]
# # 04 · From DDPM to DDIM: the same network, fifty times fewer steps
#
# In notebook 03 a network learned to predict the noise in a noisy digit. That is all it learned: its training contained
# no procedure for *drawing* a digit. Drawing is the task of a **sampler**, and there are many samplers for one network.
# The first, DDPM, takes a thousand small random steps. DDIM takes ten or fifty large steps, without any randomness,
# with the same weights. This notebook explains why that is possible.
#
# **When you have worked through it, you can**
#
# - read DDPM's Algorithm 2 as one sentence: *step back as if the predicted picture were the true one*;
# - change one parameter, $\eta$, from DDIM ($\eta = 0$) to DDPM ($\eta = 1$), and say what it leaves unchanged;
# - explain why steps can be skipped without new training, and measure what is lost;
# - show that a random process and an ordinary differential equation can share every marginal;
# - measure the order of a solver, and say what Heun and DPM-Solver++ gain;
# - run the process backwards: from a picture to its noise, and back to the picture;
# - clamp a prediction without the most common mistake in a sampler's inner loop.
#
# *Beside you:* Song, Meng & Ermon 2021, [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502) (DDIM),
# Sections 3 to 5. About 40 minutes to read, under a minute to run.

# %%
import time
from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    DDPMSchedule,
    EDMSchedule,
    ExactDenoiser,
    GaussianMixture,
    add_noise,
    bundled_mnist,
    comparisons,
    ddim,
    ddpm,
    dpm_solver_pp_2m,
    final,
    forward,
    gaussian_modes,
    generators,
    heun,
    load_pretrained,
    metrics,
    plots,
    randn,
    samplers,
    widgets,
)
from diffusion_explained.exercises import check

plt.rcParams["figure.dpi"] = 100

# %% [markdown]
# ## 1 · Algorithm 2 is one sentence
#
# Notebook 01 ended with the step back for a picture that we *know*,
#
# $$ q(x_{t-1} \mid x_t, x_0) = \mathcal N(\tilde\mu_t(x_t, x_0),\ \tilde\beta_t \mathbf I). \tag{DDPM, Eq. 6-7} $$
#
# <small>In code: `forward.posterior`. Test:
# `tests/test_forward.py::test_posterior_is_bayes_rule`.</small>
#
# A sampler does not know $x_0$. But it has a network that predicts the noise, and the predicted noise determines the
# predicted picture:
#
# $$ \hat x_0 = \frac{x_t - \sigma_t\, \varepsilon_\theta(x_t, t)}{\alpha_t}. $$
#
# <small>In code: `predictions.to_x0_eps`. Test:
# `tests/test_predictions.py::test_predicted_x_0_equals_diffusers`.</small>
#
# DDPM replaces the true picture by the prediction. That is the whole algorithm: *step back as if the prediction were
# true, then predict again*. In the paper it looks different,
#
# $$
# x_{t-1} = \frac{1}{\sqrt{1 - \beta_t}} \left( x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\,
# \varepsilon_\theta(x_t, t) \right) + \tilde\beta_t^{1/2} z, \qquad z \sim \mathcal N(0, \mathbf I),
# \tag{DDPM, Algorithm 2, line 4}
# $$
#
# <small>In code: `samplers.ddpm`. Test:
# `tests/test_samplers.py::test_ddpm_equals_diffusers`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. Insert $\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$ into
#    $\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\, \hat x_0 + \frac{\sqrt{1 - \beta_t}\,
#    (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, x_t$. Note that $\bar\alpha_t = (1 - \beta_t)\, \bar\alpha_{t-1}$.
# 2. The factor of $x_t$ is $\frac{\beta_t + (1 - \beta_t)(1 - \bar\alpha_{t-1})}{\sqrt{1 - \beta_t}\, (1 -
#    \bar\alpha_t)} = \frac{1}{\sqrt{1 - \beta_t}}$, because the numerator is $1 - \bar\alpha_t$.
# 3. The factor of $\varepsilon_\theta$ is $-\frac{\beta_t}{\sqrt{1 - \beta_t}} \cdot \frac{\sqrt{1 -
#    \bar\alpha_t}}{1 - \bar\alpha_t} = -\frac{1}{\sqrt{1 - \beta_t}} \cdot \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}$.
#
# </details>
#
# because $\hat x_0$ was inserted and the terms were collected. The result is the same number:

# %%
schedule = DDPMSchedule.linear()
stream = torch.Generator().manual_seed(0)
x_t, eps = torch.randn(4, 1, 28, 28, generator=stream), torch.randn(4, 1, 28, 28, generator=stream)

level, next_level = schedule.level(500), schedule.level(499)
x_0 = (x_t - level.sigma * eps) / level.alpha  # the picture that this noise implies
mean, std = forward.posterior(x_0, x_t, level, next_level)

beta, alpha_bar = float(schedule.betas[500]), float(schedule.alphas_cumprod[500])
line_4 = (x_t - beta / (1 - alpha_bar) ** 0.5 * eps) / (1 - beta) ** 0.5
torch.testing.assert_close(mean, line_4, atol=1e-5, rtol=0)
print(f"one step back from t = 500: std of the fresh noise {std:.4f}; of the step forward, √β = {beta**0.5:.4f}")

# %% [markdown]
# The library's `samplers.ddpm` is this line in a loop. Its arguments are a denoiser (a network that returns a pair
# $(\hat x_0, \hat\varepsilon)$), some noise, and the levels to visit. It yields every `Step`, so that all intermediate
# results are visible. The next cell draws the digits 0 to 4, in all thousand steps:

# %%
model = load_pretrained("mnist_unet_eps")  # predicts ε; a digit's class is its condition
classes = torch.arange(5)
denoise = model.denoiser(classes, guidance_scale=1)
x_T = model.noise(5, seed=0)

levels = model.schedule.levels(1000)
started = time.perf_counter()
kept = [s for s in ddpm(denoise, x_T, levels, generator=generators(5, seed=100)) if s.i % 40 == 0 or s.i == 999]
seconds_ddpm = time.perf_counter() - started

print(
    f"{len(levels) - 1} network evaluations, from t = {levels[0].t:.0f} to a last level with σ = {levels[-1].sigma:.0f}"
)
assert len(levels) == 1001 and kept[-1].next_level.sigma == 0
widgets.scrub(kept, columns=5)

# %% [markdown]
# Drag the slider and watch the row *predicted $x_0$* rather than $x_t$. At first the prediction is a blur: the average
# of all the pictures that $x_t$ may become. Around the middle it becomes one digit, and the last third only sharpens
# it. And notice how *little* the prediction changes from one step to the next. A thousand network evaluations seem too
# many for a prediction that changes this slowly.
#
# ## 2 · The parameter η
#
# Here is DDIM's step from level $t$ to **any** less noisy level $s$ (the paper's Eq. 12, in our letters):
#
# $$
# x_s = \underbrace{\alpha_s\, \hat x_0}_{\text{predicted picture}}
#     + \underbrace{\sqrt{\sigma_s^2 - \varsigma^2}\;\hat\varepsilon}_{\text{predicted noise}}
#     + \underbrace{\varsigma\, z}_{\text{fresh noise}},
# \qquad
# \varsigma = \eta \cdot \underbrace{\frac{\sigma_s}{\sigma_t}
# \sqrt{\sigma_t^2 - \frac{\alpha_t^2}{\alpha_s^2}\, \sigma_s^2}}_{\text{the posterior's own } \tilde\beta_t^{1/2}}
# \tag{DDIM, Eq. 12 and 16}
# $$
#
# <small>In code: `samplers.ddim`. Test:
# `tests/test_samplers.py::test_ddim_equals_diffusers`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. Suppose that the predictions are right: $x_t = \alpha_t x_0 + \sigma_t \varepsilon$. Then $x_s - \alpha_s x_0$ is
#    the sum of two independent Gaussians, and its variance is $(\sigma_s^2 - \varsigma^2) + \varsigma^2 =
#    \sigma_s^2$. So $x_s$ has the distribution $q(x_s \mid x_0)$ **for every** $\varsigma$ up to $\sigma_s$.
# 2. The training loss uses only $q(x_t \mid x_0)$. It does not know how $x_s$ and $x_t$ depend on each other, so one
#    network serves all these processes.
# 3. Which $\varsigma$ is DDPM's? The step from $s$ to $t$ multiplies by $\alpha_t / \alpha_s$ and adds the variance
#    $\sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2$. Bayes' rule, as in notebook 01, gives the variance of the step
#    back: $\varsigma^2 = \frac{\sigma_s^2}{\sigma_t^2} \left( \sigma_t^2 - \frac{\alpha_t^2}{\alpha_s^2}\, \sigma_s^2
#    \right)$, which is Eq. 16 with $\eta = 1$.
# 4. The mean agrees as well. With this $\varsigma$, $\sqrt{\sigma_s^2 - \varsigma^2} = \frac{\alpha_t}{\alpha_s}
#    \cdot \frac{\sigma_s^2}{\sigma_t}$, so the factor of $x_t = \alpha_t x_0 + \sigma_t \varepsilon$ in $x_s$ is
#    $\frac{\alpha_t\, \sigma_s^2}{\alpha_s\, \sigma_t^2}$: the posterior's own factor.
#
# </details>
#
# Read it as a recipe: *rebuild the noisy picture at the lower noise level, from the two predictions*. The lower level
# needs noise of standard deviation $\sigma_s$. The step may reuse the predicted noise ($\eta = 0$), or replace a share
# of it by fresh noise ($\eta > 0$). The variances of the two parts always add up to $\sigma_s^2$.
#
# At $\eta = 1$ the share is exactly that of DDPM: it is the same sampler, not an approximation.

# %%
few = model.schedule.levels(20)
by_ddpm = final(ddpm(denoise, x_T, few, generator=generators(5, seed=100)))
by_ddim = final(ddim(denoise, x_T, few, eta=1.0, generator=generators(5, seed=100)))

print(f"DDPM and DDIM with η = 1 give the same pictures: {torch.allclose(by_ddpm, by_ddim, atol=1e-3)}")
torch.testing.assert_close(by_ddpm, by_ddim, atol=1e-3, rtol=0)

# %% [markdown]
# And $\eta = 0$ draws no random number at all. The picture is then determined by $x_T$: the map from noise to picture
# is a *function*. Start five times from one $x_T$ with five streams of fresh noise:

# %%
same_start, five = x_T[3:4].expand(5, -1, -1, -1), model.denoiser(torch.full((5,), 3), guidance_scale=1)
by_eta = {
    eta: final(ddim(five, same_start, few, eta=eta, generator=generators(5, seed=7))) for eta in (0.0, 0.25, 0.5, 1.0)
}
plots.filmstrip({f"η = {eta}": x for eta, x in by_eta.items()}, captions=[f"stream {k}" for k in range(1, 6)],
                title="One start, five streams of fresh noise")  # fmt: skip
plt.show()

spread = {eta: float(x.std(0).mean()) for eta, x in by_eta.items()}
print("how far the five pictures differ:", {eta: round(s, 2) for eta, s in spread.items()})
assert spread[0.0] < 1e-4 < spread[0.25] < spread[1.0]

# %% [markdown]
# In two dimensions the effect of $\eta$ is visible as motion. The data are eight Gaussians, and the denoiser is the
# *exact* one (by Bayes' rule, as in notebook 01; no network, no training error), so everything that you see is caused
# by the sampler.

# %%
means, std = gaussian_modes("eight_gaussians")
mixture = GaussianMixture(means, std)
exact = ExactDenoiser(mixture)
data, _ = mixture.sample(600, torch.Generator().manual_seed(1))

starts, fine = randn((8, 2), torch.Generator().manual_seed(2)), schedule.levels(100)
runs = {}
for eta in (0.0, 0.5, 1.0):
    steps = list(ddim(exact, starts, fine, eta=eta, generator=torch.Generator().manual_seed(3)))
    runs[f"η = {eta}"] = torch.stack([starts, *(step.x_next for step in steps)])
plots.trajectory_panels(runs, data=data, limit=2.6, title="Eight points, the same starts, three values of η")
plt.show()

lengths = {name: float(paths.diff(dim=0).norm(dim=-1).sum(0).mean()) for name, paths in runs.items()}
print("mean length of a path:", {name: round(length, 1) for name, length in lengths.items()})
assert lengths["η = 0.0"] < lengths["η = 0.5"] < lengths["η = 1.0"]

# %% [markdown]
# The curves on the left are smooth, those on the right are random walks; and both end on the data.
#
# ## 3 · Why steps can be skipped
#
# DDPM was derived from a *chain*: $x_t$ is made from $x_{t-1}$. If a link is skipped, the derivation no longer holds.
# DDIM's observation is that **training does not use the chain**. Its loss
#
# $$
# \mathbb E_{x_0, \varepsilon, t}\, \big\| \varepsilon
# - \varepsilon_\theta(\alpha_t x_0 + \sigma_t \varepsilon,\ t) \big\|^2
# $$
#
# <small>In code: `training.training_loss`. Test:
# `tests/test_training.py::test_every_step_is_the_papers`.</small>
#
# depends on each level separately, through the marginal $q(x_t \mid x_0)$, and never on two levels together. So the
# network can be used for *every* process that has these marginals, whatever the joint distribution of its levels, and
# there is a whole family of such processes: one for each $\eta$, and for each choice of levels to visit. If $x_t$ has
# the right distribution, so has $x_s$, because the sum of the two noises has variance
# $(\sigma_s^2 - \varsigma^2) + \varsigma^2 = \sigma_s^2$. That is DDIM's Lemma 1.
#
# The next cell checks this for a jump of 300 levels, for three values of $\eta$, on 20,000 noisy copies of one point.

# %%
x_0 = torch.tensor([[0.8, -0.5]]).expand(20_000, 2)
here, there = schedule.level(600), schedule.level(300)
for eta in (0.0, 0.5, 1.0):
    stream = torch.Generator().manual_seed(4)
    eps = randn(x_0.shape, stream)
    x_t = add_noise(x_0, eps, here)
    std = eta * forward.posterior(x_0, x_t, here, there)[1]
    x_s = there.alpha * x_0 + (there.sigma**2 - std**2) ** 0.5 * eps + std * randn(x_0.shape, stream)
    correlation = (
        float(((x_s - there.alpha * x_0) * eps).mean()) / there.sigma
    )  # correlation of the noise before and after
    print(f"η = {eta}: mean and std are correct; correlation of old and new noise: {correlation:.1f}")
    assert (x_s.mean(0) - there.alpha * x_0[0]).abs().max() < 5 * there.sigma / 20_000**0.5
    assert (x_s.std(0) / there.sigma - 1).abs().max() < 0.02

# %% [markdown]
# Every member of the family has the right distribution if its two predictions are right. So the only question is how
# good the prediction $\hat x_0(x_t)$ is *along the way to the next level*: a long step keeps it fixed although it
# should change. With $\eta = 0$ the path is a smooth curve along which the prediction changes slowly. That is why the
# deterministic sampler allows the longest steps.
#
# ### What is lost? A measurement
#
# Now the claim that made DDIM famous: *50 steps, or 20, instead of 1,000*. It is measured with a classifier that was
# trained on real digits only. There are two numbers for each sampler:
#
# - **accuracy**: the share of samples that the classifier assigns to the requested class;
# - **Fréchet distance**: the distance between the samples and the real digits, in the classifier's features (0 means
#   equal; the distance depends on the number of images, so all rows, including the row of real digits, use the same
#   number).

# %%
N_MEASURED = 100
digits = bundled_mnist()
targets = torch.arange(N_MEASURED) % 10
by_class = torch.stack([digits.of_class(k).to_float()[: N_MEASURED // 5] for k in range(10)], dim=1)
real, other_real = (half.flatten(0, 1) for half in by_class.chunk(2))  # two sets of real digits, 0..9 in turn
real_features, _ = metrics.classify(real)


def measure(x_0):
    """(class accuracy, Fréchet distance to real digits) of N_MEASURED pictures of the target classes."""
    features, logits = metrics.classify(x_0.clamp(-1, 1))
    accuracy = float((logits.argmax(dim=1) == targets).double().mean())
    return accuracy, metrics.frechet_distance(features, real_features)


predict, x_T = model.denoiser(targets, guidance_scale=1), model.noise(N_MEASURED, seed=0)
results = {}
for name, solve, counts in (("DDIM", ddim, (2, 5, 50)), ("DDPM", ddpm, (2, 5, 20)),
                            ("DPM-Solver++ 2M", dpm_solver_pp_2m, (2, 5))):  # fmt: skip
    for n in counts:
        fresh = {"generator": generators(N_MEASURED, seed=5000)} if solve is ddpm else {}
        results[name, n] = measure(final(solve(predict, x_T, model.schedule.levels(n), **fresh)))
results["real digits", ""] = measure(other_real)

for (name, n), (accuracy, far) in results.items():
    print(f"{name:>16} {n:>3}: accuracy {accuracy:4.0%}, Fréchet distance {far:4.1f}")

# %%
floor = results["real digits", ""][1]
lines = {
    name: tuple(zip(*((n, far) for (who, n), (_, far) in results.items() if who == name), strict=True))
    for name in ("DDIM", "DDPM", "DPM-Solver++ 2M")
}
ax = plots.curves(lines, log="x", title="How few steps are enough?", xlabel="network evaluations",
                  ylabel="Fréchet distance", reference=("real digits", floor)).axes[0]  # fmt: skip
ax.set_xticks([2, 5, 20, 50], ["2", "5", "20", "50"])
ax.set_xticks([], minor=True)
plt.show()

started = time.perf_counter()
final(ddim(denoise, model.noise(5, seed=0), model.schedule.levels(50)))
seconds_ddim = time.perf_counter() - started
print(f"five digits by 1,000 steps of DDPM took {seconds_ddpm:.1f} s")
print(f"five digits by 50 steps of DDIM took {seconds_ddim:.1f} s")
read = metrics.class_accuracy(kept[-1].x_next.clamp(-1, 1), classes)
print(f"all five digits of section 1 (DDPM, 1,000 steps) are classified as requested: {read == 1}")
assert all(accuracy > 0.9 and far < 2 * floor for (_, n), (accuracy, far) in results.items() if n and n >= 5)
assert results["DDIM", 2][1] > 1.5 * results["DDIM", 5][1] and read == 1

# %% [markdown]
# The claim holds with a wide margin: on digits, the samples of **five** DDIM steps are as near to real digits as those
# of fifty, and both are as near as other real digits are. But note two limits of this result.
#
# - *The claim nearly holds for DDPM's fresh noise as well.* From 5 steps on, $\eta = 1$ is only a little worse here. On
#   CIFAR-10, the DDIM paper's Table 1 has a Fréchet Inception distance of 13 for $\eta = 0$ and 41 for $\eta = 1$ at
#   ten steps, and 4.0 against 4.7 at 1,000. Digits are a few shapes on black, which makes them easy.
# - *We did not measure 1,000 steps on many samples.* That would have taken 100,000 evaluations of single images in this
#   cell. Five digits were drawn in 1,000 steps above, and they are good digits.

# %% [markdown]
# ## 4 · Two processes, one set of marginals
#
# Let the number of steps grow. At $\eta = 0$ the path becomes smooth: it is the solution of an **ordinary differential
# equation**, the *probability-flow ODE*. At $\eta = 1$ it stays rough: it is the solution of a **stochastic** one (Song
# et al. 2021, *Score-Based Generative Modeling*, Sec. 4.3). In both, the network provides only the **score**, the
# direction in which the density of the noisy data grows fastest:
#
# $$ \nabla_{x_t} \log p_t(x_t) \;=\; -\,\frac{\hat\varepsilon(x_t)}{\sigma_t}. \tag{Tweedie; Vincent 2011} $$
#
# <small>In code: `exact.GaussianMixture.log_density`. Test:
# `tests/test_exact.py::test_eps_is_minus_sigma_times_the_score`.</small>
#
# *A prediction of the noise is a prediction of the score.* For the mixture, $p_t$ is known, so we can differentiate it
# and compare:

# %%
level = schedule.level(300)
x_t = randn((500, 2), torch.Generator().manual_seed(5)).requires_grad_()
(score,) = torch.autograd.grad(mixture.log_density(x_t, level).sum(), x_t)

eps = exact(x_t.detach(), level).eps
print(f"largest |score + ε̂/σ| over 500 points is under 1e-4: {bool((score + eps / level.sigma).abs().max() < 1e-4)}")
torch.testing.assert_close(score, -eps / level.sigma, atol=1e-4, rtol=1e-4)

# %% [markdown]
# Now the surprising part: the two processes move single points differently and yet, **at every $t$, the samples have
# the same distribution**. Let 4,000 points follow both processes, from the same starts, and compare the samples with
# fresh draws from the true $p_t$. The measure is `metrics.sliced_wasserstein` (0 means equal distributions); the
# distance between two draws from the true $p_t$ is the floor.

# %%
N, stream = 4000, torch.Generator().manual_seed(6)
x_T, levels = randn((N, 2), stream), schedule.levels(250)
ode, sde = list(ddim(exact, x_T, levels)), list(ddpm(exact, x_T, levels, generator=stream))

panels = {"ODE": {}, "SDE": {}}
for i in (149, 209, 249):
    here = levels[i + 1]
    truth, again = (add_noise(mixture.sample(N, stream)[0], randn((N, 2), stream), here) for _ in range(2))
    floor = metrics.sliced_wasserstein(truth, again)
    for name, steps in (("ODE", ode), ("SDE", sde)):
        far = metrics.sliced_wasserstein(steps[i].x_next, truth)
        panels[name][f"{name}, t = {max(here.t, 0):.0f}: distance {far:.3f}"] = steps[i].x_next[:700]
        assert far < 2 * floor
    apart = float((ode[i].x_next - sde[i].x_next).norm(dim=1).mean())
    print(f"t = {max(here.t, 0):.0f}: both within twice the floor; the two paths of a point are {apart:.1f} apart")
    assert apart > 1

for name in panels:
    plots.point_panels(panels[name])
    plt.show()

# %% [markdown]
# A single point ends at another place, nearly two units away in a figure four units wide; the distribution is the same.
# So *choose the process for practical reasons*. The ODE needs few steps, is a function of $x_T$, and can be inverted.
# The fresh noise of the SDE corrects errors of earlier steps, but needs many steps.
#
# One can have a part of both. EDM's **churn** (Karras et al. 2022, Algorithm 2; `heun` with `S_churn > 0`) solves the
# ODE, but before each step it adds a little noise and begins from the noisier state. Give the eight Gaussians (here of
# width 0.3) to a denoiser that is exact at low noise, and predicts 10% too little noise above $\sigma = 0.5$. How wide
# are the Gaussians of its samples? Four draws of 2,000 points each:

# %%
soft = ExactDenoiser(GaussianMixture(means, 0.3))
edm_levels = EDMSchedule().levels(32)


def too_little(x_t, level):
    """The exact prediction, with 10% less noise above sigma = 0.5."""
    pred = soft(x_t, level)
    eps = pred.eps * (0.9 if level.sigma > 0.5 else 1.0)
    return replace(pred, eps=eps, x_0=x_t - level.sigma * eps)


def width(points):
    """The standard deviation per coordinate around the nearest mean."""
    return float(torch.cdist(points, means).amin(1).square().mean().sqrt()) / 2**0.5


def widths_of(denoiser, S_churn):
    starts = [randn((2000, 2), torch.Generator().manual_seed(20 + k)) * edm_levels[0].sigma for k in range(4)]
    options = {"S_churn": S_churn, "S_tmin": 0.05, "S_tmax": 1.0}
    return [
        width(final(heun(denoiser, start, edm_levels, **options, generator=torch.Generator().manual_seed(30 + k))))
        for k, start in enumerate(starts)
    ]


true_width = width(soft.mixture.sample(8000, torch.Generator().manual_seed(8))[0])
print(f"points of the mixture itself: {true_width:.2f}")
found = {}
for name, denoiser in (("exact", soft), ("too little noise", too_little)):
    for S_churn in (0, 20):
        found[name, S_churn] = widths_of(denoiser, S_churn)
        print(f"{name}, S_churn = {S_churn:2}:", ", ".join(f"{one:.2f}" for one in found[name, S_churn]))
assert all(abs(one - true_width) < 0.02 for S_churn in (0, 20) for one in found["exact", S_churn])
assert min(found["too little noise", 0]) > true_width + 0.1 and max(found["too little noise", 20]) < true_width + 0.05

# %% [markdown]
# With an exact denoiser both are right. With the flawed one the ODE keeps the error of the early steps until the end;
# the churned sampler replaces noise, which the exact part of the denoiser then removes. Churn costs accuracy where
# there is nothing to correct and steps are few, so EDM tunes its range for each network.
#
# ## 5 · Better solvers
#
# Once sampling is an ODE, all numerical methods for ODEs can be used. A solver has **order** $p$ if halving its step
# divides the error by $2^p$. DDIM is Euler's method, of order 1. Here are two of order 2:
#
# - **Heun** (`heun`; Karras et al. 2022, Algorithm 1) takes an Euler step as a trial, computes the slope at its end,
#   and repeats the step with the mean of both slopes. It needs two network evaluations per step.
# - **DPM-Solver++ 2M** (`dpm_solver_pp_2m`; Lu et al. 2022, Algorithm 2) stores the last prediction instead, and
#   extrapolates the change of $\hat x_0$. It needs one network evaluation per step.
#
# <details><summary>Derivation of 2M</summary>
#
# 1. Let $\lambda = \log (\alpha / \sigma)$ be the clock. DDIM's step, divided by $\sigma_s$, is
#    $\frac{x_s}{\sigma_s} - \frac{x_t}{\sigma_t} = (e^{\lambda_s} - e^{\lambda_t})\, \hat x_0$. For small steps this
#    is the ODE $\frac{d}{d\lambda} \frac{x}{\sigma} = e^\lambda\, \hat x_0$.
# 2. Its exact solution over a step $h = \lambda_s - \lambda_t$ is $\frac{x_s}{\sigma_s} = \frac{x_t}{\sigma_t} +
#    \int_{\lambda_t}^{\lambda_s} e^\lambda\, \hat x_0(\lambda)\, d\lambda$. DDIM takes $\hat x_0$ out of the integral
#    as a constant, with an error of order $h^2$ per step.
# 3. Take one more term, $\hat x_0(\lambda) \approx \hat x_0 + (\lambda - \lambda_t)\, \hat x_0'$. Its integral is
#    $e^{\lambda_t} \left( \frac{h^2}{2} + \frac{h^3}{3} + \dots \right) \hat x_0'$. The simpler $\frac h2\,
#    (e^{\lambda_s} - e^{\lambda_t})\, \hat x_0'$ differs from it only in the term of $h^3$.
# 4. The slope comes from the prediction of the step before, at $\lambda_t - h_0$: $\hat x_0' \approx (\hat x_0 - \hat
#    x_0^{\text{before}}) / h_0$.
# 5. So 2M is DDIM's step with $D = \hat x_0 + \frac{h}{2 h_0} (\hat x_0 - \hat x_0^{\text{before}})$ in the place of
#    $\hat x_0$: $x_s = \frac{\sigma_s}{\sigma_t}\, x_t + \alpha_s (1 - e^{-h})\, D$. Its error is of order $h^3$ per
#    step, and of order $h^2$ after $1/h$ steps.
#
# </details>
#
# The error is measured against a very fine solution, on Gaussians that are wide enough for the asymptotic behaviour to
# appear early. On log-log axes the order is the slope.

# %%
x_start = randn((64, 2), torch.Generator().manual_seed(7)).double()


def between(n):
    """n steps between t = 980 and t = 20, both noisy: at σ = 0 itself the logarithms of 2M do not exist."""
    return [schedule.level(float(t)) for t in torch.linspace(980, 20, n + 1, dtype=torch.float64)]


counts, solvers = [10, 20, 40, 80, 160], {"DDIM": ddim, "Heun": heun, "DPM-Solver++ 2M": dpm_solver_pp_2m}
reference = final(heun(soft, x_start, between(640)))
errors = {
    name: [float((final(solve(soft, x_start, between(n))) - reference).square().mean().sqrt()) for n in counts]
    for name, solve in solvers.items()
}
plots.curves({name: (counts, e) for name, e in errors.items()}, log="xy", title="Error of three solvers",
             xlabel="steps (Heun: two network evaluations per step)", ylabel="root mean square error")  # fmt: skip
plt.show()

orders = {name: float((torch.tensor(e[-2]) / e[-1]).log2()) for name, e in errors.items()}
print("measured order, to the nearest whole number:", {name: round(order) for name, order in orders.items()})
assert abs(orders["DDIM"] - 1) < 0.1 and abs(orders["Heun"] - 2) < 0.2 and abs(orders["DPM-Solver++ 2M"] - 2) < 0.2

# %% [markdown]
# Note what the order does *not* say, at the left end of the figure: at ten steps 2M is **worse** than plain DDIM here.
# The order describes small steps only; with few large steps, the error depends on the curvature of the path.
#
# Does this hold for the real network? Each $x_T$ determines one digit, the exact solution of the ODE. How near does a
# solver get to *that* digit, for its number of network evaluations?

# %%
ten_digits = model.denoiser(torch.arange(10), guidance_scale=1)
exactly = final(heun(ten_digits, model.noise(10, seed=0), model.schedule.levels(60)))
names, step_counts = ["ddim", "heun", "dpm_solver_pp_2m"], [5, 10, 20, 40]
runs = {name: list(comparisons.race(model, ten_digits, exactly, [name], step_counts)) for name in names}
plots.sampler_race({name: [(run.evaluations, run.distance) for run in done] for name, done in runs.items()},
                   title="Distance to the exact solution for x_T")  # fmt: skip
plt.show()
by_ddim, by_heun, by_2m = ([run.distance for run in done] for done in runs.values())
print("2M is nearer than DDIM at every number of steps, and nearer in 20 steps than DDIM in 40:", by_2m[2] < by_ddim[3])
assert all(a < b for a, b in zip(by_2m, by_ddim, strict=True)) and by_2m[2] < by_ddim[3]

# %% [markdown]
# ## 6 · Backwards: from a picture to its noise
#
# With $\eta = 0$ the path is a deterministic curve, and a curve can be followed in both directions. `ddim_invert` goes
# from a picture to the noise from which DDIM would have drawn it (DDIM, Sec. 5.4). Solving a step backwards needs
# $\hat\varepsilon$ at the *next* point; the usual shortcut evaluates it at the current point (`iterations=1`), and a
# few fixed-point iterations correct this.

# %%
x_0, labels = digits.batch(torch.tensor([int((digits.labels == k).nonzero()[5]) for k in range(6)]))
levels = model.schedule.levels(50)
plain = model.denoiser(labels, guidance_scale=1)

home = {}
for iterations in (1, 5):
    noise = final(samplers.ddim_invert(plain, x_0, levels, iterations=iterations))
    home[iterations] = noise, final(ddim(plain, noise, levels))
noise, back = home[5]
plots.filmstrip({"picture $x_0$": x_0, "its noise $x_T$": noise, "and back": back}, limits={"its noise $x_T$": 3.0},
                title="From a picture to its noise and back, 50 steps each")  # fmt: skip
plt.show()

error = {k: comparisons.rms_distance(b, x_0) for k, (_, b) in home.items()}
print("root mean square error of the round trip:", {f"{k} iterations": round(e, 2) for k, e in error.items()})
assert error[5] < 0.02 and error[5] < 0.5 * error[1]

# %% [markdown]
# The round trip returns the picture. But look at the middle row: this noise is *not* standard Gaussian noise. And the
# other round trip, from noise to picture to noise, fails:

# %%
true_noise = model.noise(6, seed=0)
drawn = final(ddim(plain, true_noise, levels))
found = final(samplers.ddim_invert(plain, drawn, levels, iterations=2))
correlation = float(torch.corrcoef(torch.stack([true_noise.flatten(), found.flatten()]))[0, 1])

print(f"standard deviation of the noise of real digits: below 0.8, where true noise has 1: {bool(noise.std() < 0.8)}")
print(
    f"noise, then picture, then noise: correlation with the true noise between 0.2 and 0.7: {0.2 < correlation < 0.7}"
)
again = comparisons.rms_distance(final(ddim(plain, found, levels)), drawn)
print(f"and yet both noises draw the same picture: {again < 0.05}")
assert noise.std() < 0.8 and 0.2 < correlation < 0.7
assert again < 0.05

# %% [markdown]
# Digits lie on a low-dimensional surface in the space of all pictures: their background is exactly black. Sampling maps
# everything near this surface onto it, and inversion cannot recover what was lost. *Many noises give (almost) the same
# digit; inversion finds one of them*, and one with a smaller standard deviation than usual. For editing pictures, the
# main use of inversion, that is enough.
#
# Because the map from noise to picture is a smooth function, noise is a *latent code*, and codes can be interpolated.
# Halfway on the straight line between two Gaussian vectors, the norm is too small for Gaussian noise, so one
# interpolates on the sphere (Shoemake's *slerp*; DDIM, Sec. 5.3 and App. D.5).

# %%
ends = model.noise(2, seed=2)
angle = torch.nn.functional.cosine_similarity(ends[0].flatten(), ends[1].flatten(), dim=0).arccos()
weights = torch.linspace(0, 1, 9)[:, None, None, None]
mixed = ((1 - weights) * angle).sin() / angle.sin() * ends[:1] + (weights * angle).sin() / angle.sin() * ends[1:]

norms = mixed.flatten(1).norm(dim=1)
print(f"the norm of every mixture equals that of the ends, to 10%: {bool((norms / norms[0] - 1).abs().max() < 0.1)}")
assert (norms / norms[0] - 1).abs().max() < 0.1

morph = {
    k: final(ddim(model.denoiser(torch.full((9,), k), guidance_scale=1), mixed, model.schedule.levels(20)))
    for k in (2, 7)
}
plots.filmstrip({f"class {k}": x for k, x in morph.items()}, title="From one noise to another")
plt.show()
for x in morph.values():  # no single interpolation step makes the whole change
    assert max(comparisons.rms_distance(a, b) for a, b in pairwise(x)) < comparisons.rms_distance(x[0], x[-1])

# %% [markdown]
# ## 7 · A check against diffusers
#
# A sampler should not be tested only against itself. Here is `DDIMScheduler` of Hugging Face's `diffusers`, the most
# widely used library for sampling, with the same network, the same noise, and $\eta = 0.5$.

# %%
from diffusers import DDIMScheduler

scheduler = DDIMScheduler(
    num_train_timesteps=1000, beta_schedule="linear", beta_start=1e-4, beta_end=0.02,
    clip_sample=False, timestep_spacing="trailing",
)  # fmt: skip
scheduler.set_timesteps(20)
x_T, four, stream = model.noise(4, seed=9), torch.arange(4), torch.Generator().manual_seed(10)

x_t = x_T
for t in scheduler.timesteps:
    with torch.no_grad():
        eps = model.network(x_t, t.expand(4).float(), four)
    x_t = scheduler.step(eps, t, x_t, eta=0.5, generator=stream).prev_sample

four_digits = model.denoiser(four, guidance_scale=1)
ours = final(ddim(four_digits, x_T, model.schedule.levels(20), eta=0.5, generator=stream.manual_seed(10)))
print(f"ours and diffusers' after 20 steps agree to 1e-3: {bool((ours - x_t).abs().max() < 1e-3)}")
torch.testing.assert_close(ours, x_t, atol=1e-3, rtol=0)

# %% [markdown]
# ## 8 · A trap: clamping only one of two predictions
#
# The pixels of pictures lie in $[-1, 1]$, and a prediction $\hat x_0$ outside this range can be clamped; DDPM's own
# code does. At high noise this matters, because $\hat x_0 = (x_t - \sigma_t \hat\varepsilon) / \alpha_t$ divides by a
# tiny $\alpha_t$. But the two predictions are tied by one equation,
# $x_t = \alpha_t \hat x_0 + \sigma_t \hat\varepsilon$. If the first is clamped and the second is kept, they belong to
# two different pictures: the sampler then steps to a point that is consistent with neither of them. **After clamping,
# compute $\hat\varepsilon$ again**; `denoiser(..., clip=1.0)` does.


# %%
def clamped_by_half(x_t, level):
    """The trap: x_0 is clamped, eps is not recomputed."""
    pred = predict(x_t, level)
    return replace(pred, x_0=pred.x_0.clamp(-1, 1))


predict = model.denoiser(targets, guidance_scale=4.0)  # guidance (notebook 06) pushes predictions far out of the range
clamped_well = model.denoiser(targets, guidance_scale=4.0, clip=1.0)
start, at_start = model.noise(N_MEASURED, seed=0), model.schedule.levels(10)[0]
beyond = bool(predict(start, at_start).x_0.abs().max() > 1)
print(f"t = {at_start.t:.0f}: largest pixel of the predicted x̂₀ is beyond 1: {beyond}")
for name, denoiser in (("x̂₀ only", clamped_by_half), ("x̂₀ and ε̂", clamped_well)):
    pred = denoiser(start, at_start)
    gap = float((start - at_start.alpha * pred.x_0 - at_start.sigma * pred.eps).abs().max())
    print(f"clamped {name}: x_t is still α x̂₀ + σ ε̂: {gap < 1e-4}")

ways = {"not clamped": predict, "only x₀ clamped": clamped_by_half, "x₀ clamped, ε updated": clamped_well}
drawn = {name: final(ddim(denoiser, start, model.schedule.levels(10))) for name, denoiser in ways.items()}
plots.filmstrip({name: x[:10] for name, x in drawn.items()}, title="DDIM in ten steps")
plt.show()
for name, x in drawn.items():
    accuracy, far = measure(x)
    print(f"{name:>22}: accuracy {accuracy:.0%}, Fréchet distance {far:.1f}")
    assert accuracy < 0.7 if name == "only x₀ clamped" else accuracy > 0.97

# %% [markdown]
# With the same network and the same steps, one forgotten line of code destroys most of the digits. There was no error
# message, and every pixel was in its range, which is why this mistake often goes unnoticed.
#
# ### In colour: how few steps, and a clamp that is necessary
#
# `cifar10_unet_eps` predicts the noise in colour pictures of CIFAR-10's ten classes. It was trained on the *cosine*
# schedule, which ends at a far smaller $\alpha$ than the digits' linear one. The first prediction of a picture divides
# by that $\alpha$, so the next cell prints how much this magnifies a small error in the noise, and then shows the
# pictures.

# %%
colour = load_pretrained("cifar10_unet_eps")
colour_classes, colour_noise = torch.arange(4), colour.noise(4, seed=0)
for m in (model, colour):
    _, alpha, sigma = m.schedule.level(999)
    print(f"{m.name}: an error in the noise is {sigma / alpha:,.0f} times as large in the first prediction")

predict = colour.denoiser(colour_classes, guidance_scale=1)
loose = colour.denoiser(colour_classes, clip=None, guidance_scale=1)
not_clamped = final(ddim(loose, colour_noise, colour.schedule.levels(10)))
in_steps = {n: final(ddim(predict, colour_noise, colour.schedule.levels(n))) for n in (5, 10, 20, 50)}
plots.filmstrip({"10, not clamped": not_clamped, **{f"{n} steps": x for n, x in in_steps.items()}},
                captions=colour.class_names[:4], title="Four noises, increasing numbers of steps")  # fmt: skip
plt.show()

to_go = {n: comparisons.rms_distance(in_steps[n], in_steps[50]) for n in (5, 10, 20)}
print("root mean square distance to the picture of 50 steps:", {n: round(far, 1) for n, far in to_go.items()})
assert not_clamped.abs().max() > 3 > in_steps[10].abs().max()
assert to_go[5] > 1.4 * to_go[10] > 1.4 * 1.4 * to_go[20] and to_go[20] < 0.15

# %% [markdown]
# Without the clamp there is no picture at all, so this model's denoiser clamps by default (`default_clip`). With the
# clamp, twice the steps bring the picture nearly twice as near to that of 50 steps, in agreement with DDIM's first
# order (section 5). Five steps already show the subject of the picture, but each pixel is still wrong by 0.3 of the 2
# between black and white; on digits five were enough. Four pictures show only the trend; notebook 08 has distances of
# 10,000 samples of a flow.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · DDIM by hand.** Write `my_ddim(pred, next_level)`: one step of DDIM at $\eta = 0$, from a prediction
# with fields `x_0` and `eps` to $x_s$ at any level. One line.

# %%
my_ddim = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_ddim(pred, next_level):
    return next_level.alpha * pred.x_0 + next_level.sigma * pred.eps


# %%
check("04.1", my_ddim, solution_ddim)

# %% [markdown]
# **Exercise 2 · How much of the noise is fresh?** For the jump from $t = 600$ to $t = 300$ at $\eta = 1$: which share
# of the *variance* of the noise in $x_s$ is fresh, $\varsigma^2 / \sigma_s^2$? Give a number to 0.01.
# (`posterior(...)[1]` is $\varsigma$ at $\eta = 1$.) And for the step from 600 to 599? Compare the two: this is why the
# noise changes slowly in DDPM's small steps.

# %%
my_share = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
zero = torch.zeros(1, 2)
solution_share = (
    forward.posterior(zero, zero, schedule.level(600), schedule.level(300))[1] / schedule.level(300).sigma
) ** 2

# %%
check("04.2", my_share, solution_share)

# %% [markdown]
# **Exercise 3 · Accuracy for a given cost.** You may spend 40 network evaluations on the wide Gaussians of section 5,
# between $t = 980$ and $t = 20$. Which solver gets nearest, and with how many steps? Answer with a pair `(name, n)`,
# the name as in the figure; Heun needs two network evaluations per step.

# %%
my_choice = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_choice = ("DPM-Solver++ 2M", 40)

# %%
check("04.3", my_choice, solution_choice)

# %% [markdown]
# ## What to remember
#
# - DDPM steps back as if its prediction were true. DDIM rebuilds the picture at the next level from both predictions.
# - $\eta$ sets how much of the noise is fresh: 0 is an ODE, 1 is DDPM. The marginals do not depend on it.
# - Training uses one level at a time, so any levels may be visited; long steps need a path along which the prediction
#   changes slowly.
# - Second-order solvers are better when steps are small enough; for few steps, measure.
# - Without fresh noise, the path can be followed backwards: pictures have latent codes.
# - $\hat x_0$ and $\hat\varepsilon$ are tied by one equation. Change both or neither.
#
# **Next:** [05 · Flow matching](05_flow_matching.ipynb) uses a path that is itself a straight line.
#
# ## References
#
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239):
#   Algorithm 2.
# - J. Song, C. Meng, S. Ermon 2021, [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502): Eq. 12 and
#   16, Lemma 1 (the marginals), Table 1 (steps against quality), Sec. 5.3-5.4 (interpolation, inversion).
# - Y. Song et al. 2021, [Score-Based Generative Modeling through SDEs](https://arxiv.org/abs/2011.13456): the
#   probability-flow ODE.
# - T. Karras et al. 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364): Heun's method, Algorithm 1.
# - C. Lu et al. 2022, [DPM-Solver++](https://arxiv.org/abs/2211.01095): 2M, Algorithm 2.
