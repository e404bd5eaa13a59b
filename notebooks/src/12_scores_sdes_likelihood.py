# %% [markdown]
# # 12 · Scores, SDEs and likelihood: the same model in continuous time
#
# Notebook 04 let the number of steps grow and found two limits: a smooth path and a rough one, with the same
# distribution at every time. This notebook writes both limits down. One stochastic differential equation covers DDPM,
# EDM and flow matching; the reverse of time needs only the score; and because one of the limits is a smooth map from
# noise to data, the model has a **density** that can be computed: how probable is this digit?
#
# **When you have worked through it, you can**
#
# - read the drift and the diffusion of an SDE from any schedule, and say which schedules are "VP" and "VE";
# - write the reverse-time SDE and the probability-flow ODE as one family with one parameter, and simulate it;
# - check the continuity equation with finite differences;
# - say what Langevin dynamics does at one noise level, and why it needs several;
# - compute an exact log-likelihood from the divergence of the flow, and estimate it for images with random vectors;
# - report bits per dimension, and say three things that this number does *not* mean.
#
# *Beside you:* Song et al. 2021, [Score-Based Generative Modeling through Stochastic Differential
# Equations](https://arxiv.org/abs/2011.13456), Sections 3 and 4. About 50 minutes to read, under a minute to run.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    DDPMSchedule,
    EDMSchedule,
    FlowSchedule,
    data,
    exact,
    forward,
    likelihood,
    load_pretrained,
    metrics,
    noise,
    palette,
    plots,
    samplers,
)
from diffusion_explained.exercises import check
from diffusion_explained.widgets import scrub

plt.rcParams["figure.dpi"] = 100

# %% [markdown]
# ## 1 · The limit of many small steps
#
# Between two levels the forward process is one Gaussian step, $x_t = \text{scale} \cdot x_s + \text{std} \cdot z$
# (notebook 01; in the library `forward.transition`). Let the two levels come closer and closer: the scale tends to
# $1 + f\,dt$ and the variance to $g^2\,dt$, and the chain becomes a **stochastic differential equation**
#
# $$
# dx = f(t)\, x\, dt + g(t)\, dW, \qquad f = \frac{d \log \alpha}{dt}, \qquad
# g^2 = \frac{d \sigma^2}{dt} - 2 f \sigma^2 .
# \tag{score SDE, Eq. 5; in $\alpha$ and $\sigma$: VDM, App. A}
# $$
#
# <small>In code: `forward.transition`. Test:
# `tests/test_forward.py::test_neighbouring_levels_are_one_ddpm_step_apart`.</small>
#
# $dW$ is the increment of Brownian motion: a normal number of variance $dt$, independent of all others.
#
# <details><summary>Derivation</summary>
#
# For levels $s = t - dt$ and $t$, `transition` is $\text{scale} = \alpha_t / \alpha_s$ and
# $\text{std}^2 = \sigma_t^2 - \text{scale}^2\, \sigma_s^2$. Expand both to first order in $dt$:
#
# - $\text{scale} = \alpha_t / (\alpha_t - \alpha_t'\, dt) = 1 + \frac{\alpha_t'}{\alpha_t}\, dt$, so
#   $f = \alpha_t' / \alpha_t = d \log \alpha_t / dt$.
# - $\text{std}^2 = \sigma_t^2 - (1 + 2 f\, dt)(\sigma_t^2 - (\sigma_t^2)'\, dt)
#   = \left( (\sigma_t^2)' - 2 f \sigma_t^2 \right) dt$, so $g^2 = (\sigma_t^2)' - 2 f \sigma_t^2$.
#
# A sum of $n$ independent steps of variance $g^2\, dt$ with $n\, dt$ fixed has a variance that does not depend on $n$:
# that is why the noise enters with its *variance*, and not its standard deviation, proportional to $dt$.
#
# </details>
#
# The three families of this course are three rows of one table:
#
# | family | $\alpha$ | $\sigma$ | $f$ | $g^2$ |
# |---|---|---|---|---|
# | DDPM, "variance preserving" (VP) | $\sqrt{\bar\alpha}$ | $\sqrt{1 - \bar\alpha}$ | $-\beta / 2$ | $\beta$ |
# | EDM, "variance exploding" (VE) | $1$ | $t$ | $0$ | $2 t$ |
# | flow matching | $1 - t$ | $t$ | $-1 / (1 - t)$ | $2 t / (1 - t)$ |
#
# The next cell takes `transition` between two nearby levels and compares it with the table:

# %%
vp, edm, flow = DDPMSchedule.linear(), EDMSchedule(), FlowSchedule()
beta, t = float(vp.betas[500]), 0.4
rows = {
    "DDPM, t = 500": (vp.level(499), vp.level(500), 1.0, (-beta / 2, beta)),  # one of its steps is dt = 1
    "EDM, t = 2": (edm.level(2), edm.level(2 + 1e-5), 1e-5, (0, 2 * 2)),
    "flow, t = 0.4": (flow.level(t), flow.level(t + 1e-5), 1e-5, (-1 / (1 - t), 2 * t / (1 - t))),
}
for name, (here, later, dt, (f_table, g2_table)) in rows.items():
    scale, std = forward.transition(here, later)
    f, g2 = (scale - 1) / dt, std**2 / dt
    print(f"{name:>14}: f = {f:7.4f}, g² = {g2:.4f}; by the table {f_table:7.4f} and {g2_table:.4f}")
    assert abs(f - f_table) < 0.01 * max(abs(f_table), 1e-3) and abs(g2 / g2_table - 1) < 0.01

# %% [markdown]
# ### The simplest case: Ornstein and Uhlenbeck
#
# With a constant $\beta$ the VP equation is the **Ornstein-Uhlenbeck process** (1930, for the velocity of a particle in
# a fluid): $dx = -\tfrac12 \beta x\, dt + \sqrt\beta\, dW$. Friction pulls towards 0, collisions push at random. Every
# start is forgotten exponentially, and what remains is $\mathcal N(0, 1)$:
#
# $$ x_t \mid x_0 \sim \mathcal N\!\left( e^{-\beta t / 2} x_0,\ 1 - e^{-\beta t} \right), \qquad
# \operatorname{corr}(x_s, x_t) \to e^{-\beta |t - s| / 2} . $$
#
# <small>In code: `forward.q_chain`. Test:
# `tests/test_forward.py::test_chain_and_closed_form_agree_in_distribution`.</small>

# %%
ou = DDPMSchedule(torch.full((600,), 0.01, dtype=torch.float64))
path_levels = [ou.level(k) for k in range(600)]
start = torch.full((4000, 1), 2.5)
paths = torch.stack([start, *forward.q_chain(start, path_levels, noise.stream(0))])[..., 0]  # [601, 4000]

centre = torch.tensor([2.5, *(2.5 * level.alpha for level in path_levels)])
band = 2 * torch.tensor([0.0, *(level.sigma for level in path_levels)])
fig, axes = plots.figure(8, 3.4, "light")
ax = axes[0, 0]
ax.plot(paths[:, :25], color=palette.LIGHT.muted, linewidth=0.6, alpha=0.6)
ax.plot(centre, color=palette.LIGHT.data, linewidth=2.4, label="mean, in closed form")
ax.fill_between(
    range(601), centre - band, centre + band, color=palette.LIGHT.noise, alpha=0.18, label="± 2 standard deviations"
)
plots.legend(ax, loc="upper right")
plots.dress(ax, "light", title="25 of 4,000 Ornstein-Uhlenbeck paths from x = 2.5", xlabel="step", ylabel="x")
fig.set_label(
    f"25 of 4,000 Ornstein-Uhlenbeck paths from x = 2.5: their mean falls to {centre[-1]:.2f}, "
    f"and two standard deviations rise to {band[-1]:.2f}"
)
plt.show()

for k in (50, 200, 600):
    mean, std = float(paths[k].mean()), float(paths[k].std())
    print(f"step {k}: mean {mean:5.2f} (closed form {centre[k]:5.2f}), std {std:.2f} ({band[k] / 2:.2f})")
    assert abs(mean - centre[k]) < 5 * band[k] / 2 / 4000**0.5 and abs(std / (band[k] / 2) - 1) < 0.05
correlation = float(torch.corrcoef(paths[[500, 600]])[0, 1])
print(f"correlation of steps 500 and 600: {correlation:.2f}; e^(-β t / 2) is {0.99**50:.2f}")
assert abs(correlation - 0.99**50) < 0.05

# %% [markdown]
# ## 2 · Backwards in time
#
# A film of Brownian motion played backwards is Brownian motion again, but with a drift that knows the density: where
# many paths came from, more of them must return. Anderson (1982) found that only the score is needed; and the noise may
# have *any* strength $\lambda$ if the drift is adapted to it:
#
# $$
# dx = \left[ f x - \tfrac{1 + \lambda^2}{2}\, g^2\, \nabla_x \log p_t(x) \right] dt + \lambda\, g\, d\bar W,
# \qquad dt < 0 .
# \tag{score SDE, Eq. 6 for $\lambda = 1$ and Eq. 13 for $\lambda = 0$}
# $$
#
# <small>In code: `samplers.ddpm`, `samplers.ddim`. Test:
# `tests/test_samplers.py::test_euler_is_ddim_and_ancestral_is_ddpm_is_ddim_with_eta_1`.</small>
#
# $\lambda = 1$ is the **reverse-time SDE** (DDPM in small steps), $\lambda = 0$ the **probability-flow ODE** (DDIM in
# small steps).
#
# <details><summary>Derivation</summary>
#
# A density moved by $dx = a\, dt + b\, dW$ obeys the Fokker-Planck equation
# $\partial_t p = -\nabla \cdot (a p) + \tfrac12 b^2\, \nabla^2 p$.
#
# 1. Forward, $a = f x$ and $b = g$. Write $\nabla^2 p = \nabla \cdot \nabla p = \nabla \cdot (p\, \nabla \log p)$:
#    $\partial_t p = -\nabla \cdot \left[ \left( f x - \tfrac12 g^2\, \nabla \log p \right) p \right]$.
# 2. This has the form $\partial_t p = -\nabla \cdot (v p)$ with $v = f x - \tfrac12 g^2\, \nabla \log p$: an ODE
#    $dx/dt = v$ moves the *same* densities without noise. That is $\lambda = 0$.
# 3. Backwards, let $\tau = -t$. Then $\partial_\tau p = \nabla \cdot (v p)$. Add and subtract
#    $\tfrac12 \lambda^2 g^2\, \nabla^2 p$:
#    $\partial_\tau p = -\nabla \cdot \left[ \left( -v + \tfrac12 \lambda^2 g^2\, \nabla \log p \right) p \right]
#    + \tfrac12 \lambda^2 g^2\, \nabla^2 p$.
# 4. Read it as a Fokker-Planck equation in $\tau$: drift $-f x + \tfrac{1 + \lambda^2}{2} g^2\, \nabla \log p$ and
#    noise $\lambda g$. With $dt = -d\tau$ this is the boxed equation. Every $\lambda$ has the same densities.
#
# </details>
#
# The denoiser provides the score, $\nabla \log p_t = -\hat\varepsilon / \sigma_t$ (notebook 04). **Euler-Maruyama** is
# the simplest solver: replace $dt$ by a step and $dW$ by a normal number. The data are eight Gaussians, whose exact
# denoiser we know:

# %%
means, std = data.gaussian_modes("eight_gaussians")
mixture = exact.GaussianMixture(means, std)
denoise = exact.ExactDenoiser(mixture)


def euler_maruyama(x, levels, strength, generator):
    """The states on the way from levels[0] to levels[-1], with noise of this strength λ."""
    for here, there in pairwise(levels):  # backwards: `there` is less noisy
        scale, std = forward.transition(there, here)  # f dt = scale - 1, g² dt = std²
        score = -denoise(x, here).eps / here.sigma
        z = noise.randn(x.shape, generator)
        x = x - (scale - 1) * x + (1 + strength**2) / 2 * std**2 * score + strength * std * z
        yield x


walk = [vp.level(t) for t in torch.linspace(999, 20, 200).tolist()]
strengths, few = (0.0, 1.0, 2.0), noise.randn((4, 2), noise.stream(2))
runs = {
    f"λ = {strength:.0f}": torch.stack([few, *euler_maruyama(few, walk, strength, noise.stream(3))])
    for strength in strengths
}
shown, _ = mixture.sample(600, noise.stream(1))
plots.trajectory_panels(runs, data=shown, limit=2.6, title="The same four starts, three strengths of noise")
plt.show()
lengths = {name: float(run.diff(dim=0).norm(dim=-1).sum(0).mean()) for name, run in runs.items()}
assert lengths["λ = 0"] < lengths["λ = 1"] < lengths["λ = 2"]

# %% [markdown]
# The paths differ; do the distributions agree? For each strength, 2,000 points are compared with fresh samples of the
# true density at the last level, by `metrics.sliced_wasserstein`. The floor is the distance between two sets of true
# samples; everything is repeated with four seeds, and ± is the standard error over them.


# %%
def true_samples(level, count, generator):
    """Samples of the mixture at a noise level."""
    x_0, _ = mixture.sample(count, generator)
    return forward.add_noise(x_0, noise.randn(x_0.shape, generator), level)


def mean_and_error(values):
    """The mean of several measurements, and its standard error."""
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)


distances = {strength: [] for strength in (*strengths, "floor")}
for seed in range(4):
    stream = noise.stream(10 + seed)
    truth, again = (true_samples(walk[-1], 2000, stream) for _ in range(2))
    distances["floor"].append(metrics.sliced_wasserstein(truth, again))
    for strength in strengths:
        *_, x = euler_maruyama(noise.randn((2000, 2), stream), walk, strength, stream)
        distances[strength].append(metrics.sliced_wasserstein(x, truth))
summary = {strength: mean_and_error(values) for strength, values in distances.items()}
for strength, (mean, error) in summary.items():
    print(f"{strength if strength == 'floor' else f'λ = {strength:.0f}'}: distance {mean:.3f} ± {error:.3f}")
assert all(mean < 2 * summary["floor"][0] for mean, _ in summary.values())

# %% [markdown]
# Any strength gives the same distribution, up to the error of the solver and of the samples.
#
# ## 3 · Nothing is lost: the continuity equation
#
# The probability-flow ODE moves probability as a fluid moves mass. What flows out of a small square is missing there:
#
# $$ \partial_t p_t(x) \;=\; -\nabla \cdot \left( p_t(x)\, v_t(x) \right), \qquad
# v_t = \frac{d\alpha}{dt}\, \hat x_0 + \frac{d\sigma}{dt}\, \hat\varepsilon . \tag{Lipman et al. 2023, Eq. 26} $$
#
# <small>In code: `likelihood.log_likelihood`. Test:
# `tests/test_likelihood.py::test_it_is_the_closed_form_on_every_schedule_at_clean_and_noisy_ends`.</small>
#
# <details><summary>Why this v is the one of section 2</summary>
#
# With $x = \alpha \hat x_0 + \sigma \hat\varepsilon$ and $\nabla \log p = -\hat\varepsilon / \sigma$:
#
# $v = f x - \tfrac12 g^2 \nabla \log p
# = \frac{\alpha'}{\alpha} (\alpha \hat x_0 + \sigma \hat\varepsilon)
# + \frac{1}{2\sigma} \left( 2 \sigma \sigma' - 2 \frac{\alpha'}{\alpha} \sigma^2 \right) \hat\varepsilon
# = \alpha' \hat x_0 + \sigma' \hat\varepsilon .$
#
# On the straight path $\alpha' = -1$ and $\sigma' = 1$: the velocity $\hat\varepsilon - \hat x_0$ of notebook 05.
#
# </details>
#
# The mixture has both sides in closed form, so both derivatives can be taken by finite differences on a grid, without
# any sampling. The wrong velocity, without the factor ½ before $g^2$, is the control.

# %%
step, limit = 1e-3, 1.9
grid = plots.plane(limit, bins=70).double()


def both_sides(schedule, t, half=0.5):
    """∂p/∂t and -∇·(p v) on the grid, by central differences; `half` is the factor before g² in v."""
    dt = step * t
    here, before, after = schedule.level(t), schedule.level(t - dt), schedule.level(t + dt)
    f = (after.alpha - before.alpha) / (2 * dt) / here.alpha
    g2 = (after.sigma**2 - before.sigma**2) / (2 * dt) - 2 * f * here.sigma**2

    def flux(x):  # p v, with the score from the denoiser
        score = -denoise(x, here).eps / here.sigma
        return mixture.log_density(x, here).exp()[:, None] * (f * x - half * g2 * score)

    change = (mixture.log_density(grid, after).exp() - mixture.log_density(grid, before).exp()) / (2 * dt)
    sides = [step * torch.eye(2, dtype=torch.float64)[i] for i in range(2)]
    divergence = sum((flux(grid + side) - flux(grid - side))[:, i] / (2 * step) for i, side in enumerate(sides))
    return change, -divergence


for name, schedule, t in (("flow", flow, 0.3), ("EDM", edm, 0.5), ("DDPM", DDPMSchedule.cosine(), 300)):
    half_right, half_wrong = (both_sides(schedule, t, half) for half in (0.5, 1.0))
    right, wrong = (float((a - b).abs().max() / a.abs().max()) for a, b in (half_right, half_wrong))
    print(f"{name}: the two sides differ by less than 1%: {right < 0.01}; without the ½, by over 50%: {wrong > 0.5}")
    assert right < 0.01 and wrong > 0.5
change, inflow = both_sides(flow, 0.3)
plots.density_panels({"∂p/∂t": change, "-∇·(p v)": inflow}, limit, signed=True,
                     title="Flow, t = 0.3: where the density grows (red) and falls (blue)")  # fmt: skip
plt.show()

# %% [markdown]
# Towards noise, the density falls at the modes and grows in the middle, where they will merge; the flux accounts for
# all of it.
#
# ## 4 · Langevin dynamics, and a corrector
#
# Stay at *one* level and take $\lambda \to \infty$: only the noise and its part of the drift remain,
#
# $$ x \leftarrow x + h\, \nabla \log p_t(x) + \sqrt{2 h}\; z . \tag{score SDE, Eq. 4} $$
#
# <small>In code: `samplers.langevin`. Test:
# `tests/test_samplers.py::test_langevin_keeps_a_gaussian_up_to_the_discretisation_that_it_says`.</small>
#
# This is **Langevin dynamics**. It leaves $p_t$ as it is, and it turns any other distribution into $p_t$, given enough
# steps. How many is enough? The next cell starts all points in *one* of the eight modes, at several noise levels of the
# straight path. The library's `samplers.langevin` is the line above with $h = 2 (0.16\, \sigma_t)^2$.

# %%
noisy = {t: flow.level(t) for t in (0.6, 0.4, 0.3, 0.2)}
counts = list(range(0, 301, 50))
mixing = {t: [] for t in noisy}
for seed in range(3):
    for t, level in noisy.items():
        stream = noise.stream(seed)
        one_mode = means[:1] + std * noise.randn((1000, 2), stream)
        x = forward.add_noise(one_mode, noise.randn((1000, 2), stream), level)
        far = []
        for k in range(counts[-1] + 1):
            if k in counts:
                far.append(metrics.sliced_wasserstein(x, true_samples(level, 1000, stream)))
            x = samplers.langevin(x, denoise(x, level), level, snr=0.16, generator=stream)
        mixing[t].append(far)
average = {t: torch.tensor(runs).mean(0) for t, runs in mixing.items()}
floor, _ = mean_and_error([
    metrics.sliced_wasserstein(*(true_samples(flow.level(0.3), 1000, noise.stream(k)) for k in (seed, 100 + seed)))
    for seed in range(5)
])  # fmt: skip
ax = plots.curves({f"t = {t}": (counts, far) for t, far in average.items()},
                  title="Langevin dynamics from one of eight modes (mean of 3 seeds)", xlabel="Langevin steps",
                  ylabel="distance to the true density",
                  reference=("two sets of true samples", floor)).axes[0]  # fmt: skip
ax.set_ylim(0, 1.3)
plots.legend(ax, loc="upper right", ncols=3)
plt.show()
left = {t: [runs[-1] / runs[0] for runs in mixing[t]] for t in noisy}
for t, shares in left.items():
    print(f"t = {t}: after 300 steps {mean_and_error(shares)[0]:.0%} of the initial distance is left")
print(f"the floor, two sets of true samples, is {floor:.2f} (at t = 0.6 that is {floor / average[0.6][0]:.0%})")
assert all(share < 0.25 for t in (0.6, 0.4) for share in left[t]) and all(share > 0.4 for share in left[0.2])

# %% [markdown]
# At high noise all modes are found in a hundred steps. At low noise the points are nearly where they started: between
# the modes the density is tiny, and a walk crosses such a gap only after exponentially many steps. That is why one
# level is not enough, and why Song & Ermon (2019) went from high noise to low: *annealed* Langevin dynamics, the
# first diffusion sampler besides DDPM.
#
# A Langevin step can also **correct**. A solver (the *predictor*) arrives at the next level with a small error; a few
# Langevin steps at that level move the samples back towards $p_t$. `samplers.predictor_corrector` is DDPM's step
# followed by such corrections, and like every sampler here it yields its steps:

# %%
model = load_pretrained("mnist_unet_flow")
digits = torch.arange(10)
corrected_steps = list(samplers.predictor_corrector(
    model.denoiser(digits, guidance_scale=1), model.noise(10, seed=0), model.schedule.levels(12),
    generator=noise.generators(10, seed=50)))  # fmt: skip
read = metrics.class_accuracy(model.decode(corrected_steps[-1].x_next), digits)
print(f"at least 9 of 10 digits have the requested class: {read >= 0.9}")
assert read >= 0.9 and corrected_steps[0].pred_2 is not None and corrected_steps[-1].pred_2 is None
scrub(corrected_steps, columns=10)

# %% [markdown]
# Is the correction worth its cost? A step with one correction needs two network evaluations. In the plane, with the
# exact denoiser, the distance can be compared at equal *steps* and at equal *cost*; five seeds each:

# %%
ways = {
    "DDPM, 10 steps": (samplers.ddpm, 10, {}),
    "corrected, 10 steps": (samplers.predictor_corrector, 10, {"snr": 0.3}),
    "DDPM, 19 steps": (samplers.ddpm, 19, {}),
}
measured = {}
for name, (sampler, count, options) in ways.items():
    far = []
    for seed in range(5):
        stream = noise.stream(seed)
        steps = sampler(denoise, noise.randn((2000, 2), stream), vp.levels(count), generator=stream, **options)
        far.append(metrics.sliced_wasserstein(samplers.final(steps), mixture.sample(2000, stream)[0]))
    measured[name] = mean_and_error(far)
for name, (mean, error) in measured.items():
    cost = 19 if name != "DDPM, 10 steps" else 10
    print(f"{name:>20}: {cost} evaluations, distance {mean:.3f} ± {error:.3f}")
plain, corrected, longer = measured.values()
assert plain[0] - corrected[0] > 2 * (plain[1] ** 2 + corrected[1] ** 2) ** 0.5
assert corrected[0] - longer[0] > 2 * (corrected[1] ** 2 + longer[1] ** 2) ** 0.5

# %% [markdown]
# The correction helps, but the same number of evaluations helps more as plain steps. Song et al. (Table 1) found the
# opposite at 1,000 steps of a network on CIFAR-10: there the predictor's steps are small already, and the corrector
# mends errors of the *network*, which more steps would not. With an exact denoiser there are no such errors.
#
# ## 5 · The density of a sample
#
# The ODE is a smooth map from noise to data, and under a smooth map densities follow a rule: where the map spreads
# points, the density falls. Along one path,
#
# $$ \frac{d \log p_t(x_t)}{dt} = -\nabla \cdot v_t(x_t), \qquad
# \log p_0(x_0) = \log p_T(x_T) + \int_0^T \nabla \cdot v_t(x_t)\, dt . \tag{score SDE, Eq. 39} $$
#
# <small>In code: `likelihood.log_likelihood`. Test:
# `tests/test_likelihood.py::test_the_change_of_variables_holds_for_any_denoiser`.</small>
#
# <details><summary>Derivation (instantaneous change of variables)</summary>
#
# 1. By the chain rule along the path, $\frac{d}{dt} \log p_t(x_t) = \frac{\partial_t p_t}{p_t} + \frac{\nabla p_t}{p_t}
#    \cdot v_t$.
# 2. The continuity equation gives $\partial_t p_t = -\nabla \cdot (p_t v_t) = -\nabla p_t \cdot v_t - p_t\, \nabla
#    \cdot v_t$.
# 3. Insert: the terms with $\nabla p_t$ cancel, and $-\nabla \cdot v_t$ remains.
# 4. Integrate from $t = 0$ to $T$: the difference of the log densities is $-\int \nabla \cdot v_t\, dt$.
#
# </details>
#
# So: follow the ODE from the data to noise, add up the divergence, and look up the normal density at the end.
# `likelihood.log_likelihood` does this for every schedule alike. It uses that all Gaussian paths are one path on a
# circle: with $c = \sqrt{\alpha^2 + \sigma^2}$, the point $x / c$ moves with the velocity "v" of the table of
# predictions as the angle $\phi = \operatorname{atan2}(\sigma, \alpha)$ goes from 0 to 90 degrees, and nothing is
# divided by 0 at either end.

# %%
points, _ = mixture.sample(100, noise.stream(4))
closed_form = mixture.log_density(points, flow.clean)
schedules = {"flow": flow, "EDM": edm, "DDPM linear": vp, "DDPM cosine": DDPMSchedule.cosine()}
for name, schedule in schedules.items():
    log_p = [likelihood.log_likelihood(denoise, points, schedule.levels(n), divergence="exact") for n in (50, 100, 200)]
    errors = [float((values - closed_form).abs().max()) for values in log_p]
    smaller = all(a > 2 * b for a, b in pairwise(errors))
    print(f"{name:>11}: largest error in log p of 100 points under 0.05 at 200 steps: {errors[-1] < 0.05}; "
          f"more than halved by each doubling: {smaller}")  # fmt: skip
    assert errors[-1] < 0.05 and smaller

view = plots.plane(1.9, bins=48)
by_flow = likelihood.log_likelihood(denoise, view, flow.levels(60), divergence="exact").exp()
by_formula = mixture.log_density(view, flow.clean).exp()
plots.density_panels({"closed form": by_formula, "by the flow, 60 steps": by_flow}, 1.9, title="The density p₀")
plt.show()
assert (by_flow - by_formula).abs().max() < 0.1 * by_formula.max()

# %% [markdown]
# ### With random vectors instead of all derivatives
#
# The divergence is the trace of the Jacobian, $\sum_i \partial v_i / \partial x_i$. An image of 784 pixels would need
# 784 derivatives per level. Hutchinson (1989) estimates a trace from products with random vectors: if the entries of
# $e$ are independent, with mean 0 and variance 1, then
#
# $$ \mathbb E \left[ e^\top J\, e \right] = \sum_{ij} J_{ij}\, \mathbb E[e_i e_j] = \operatorname{tr} J . $$
#
# <small>In code: `likelihood.log_likelihood`. Test:
# `tests/test_likelihood.py::test_random_vectors_estimate_the_exact_divergence`.</small>
#
# One product $e^\top J$ costs one backward pass. The price is noise, so the estimate needs its standard error:

# %%
one, draws = points[:1], 400
few_levels = flow.levels(60)
reference = float(likelihood.log_likelihood(denoise, one, few_levels, divergence="exact"))
estimates = likelihood.log_likelihood(denoise, one.expand(draws, 2), few_levels, generator=noise.stream(5))
mean, error = mean_and_error(estimates.tolist())
print(f"log p with the exact divergence: {reference:.2f}; mean of {draws} estimates: {mean:.2f} ± {error:.2f}; "
      f"a single one varies by ± {float(estimates.std()):.1f}")  # fmt: skip
assert abs(mean - reference) < 4 * error and error > 0

# %% [markdown]
# ## 6 · Bits per dimension of digits
#
# For images the log-likelihood is reported in **bits per dimension**, the length per pixel of an ideal code:
# $-\log_2 P(\text{image}) / D$. An even distribution over 256 grey values needs 8. Two steps are easily forgotten:
#
# - *Dequantisation.* Pixels are whole numbers, and a density of exact whole numbers can be infinite. So noise of one
#   bin's width is added: `likelihood.dequantise`. The result is an upper bound on the bits (Theis et al. 2016).
# - *The last level.* At $t = 0$ the black background of digits is exactly black, and no density exists. So the model is
#   said to end at a small noise level, here $t = 0.005$; its density is that of $x_t / \alpha_t$.
#
# Six digits, and for comparison the same digits with their pixels shuffled, and six nearly black pictures that are no
# digits: the background and one grey dot. Each has two draws of the dequantisation and of the random vector.

# %%
D, last = 28 * 28, flow.level(0.005)
visited = [level for level in flow.levels(22, spacing="karras") if level.t > last.t] + [last]
sample = data.bundled_mnist().images[:6]
order = torch.randperm(D, generator=noise.stream(6))
shuffled = sample.flatten(1)[:, order].reshape(sample.shape)
dots = torch.zeros_like(sample)
for k in range(6):
    dots[k, 0, 4 + 3 * k : 6 + 3 * k, 13:15] = 128
kinds = {"digits": sample, "shuffled": shuffled, "a dot on black": dots}

twice = torch.cat([images.repeat(2, 1, 1, 1) for images in kinds.values()])  # [36, 1, 28, 28]
streams = noise.generators(len(twice), seed=70)
x_0 = likelihood.dequantise(twice, streams)
log_p = likelihood.log_likelihood(model.denoiser(), last.alpha * x_0, visited, generator=streams)
log_p = log_p + D * torch.tensor(last.alpha).log()  # the density of x_t / α_t
bits = likelihood.bits_per_dimension(log_p, D).reshape(3, 2, 6)  # kind, draw, image

plots.filmstrip({name: images / 127.5 - 1 for name, images in kinds.items()},
                title="Which of these does the model find probable?")  # fmt: skip
plt.show()
by_kind = {}
for name, of_kind in zip(kinds, bits, strict=True):
    by_kind[name] = mean_and_error(of_kind.mean(0).tolist())  # over images
    between = float((of_kind[0] - of_kind[1]).abs().mean())
    mean, error = by_kind[name]
    print(f"{name:>14}: {mean:.1f} ± {error:.1f} bits per dimension; two draws differ by {between:.2f}")
assert by_kind["a dot on black"][0] + 0.5 < by_kind["digits"][0] < by_kind["shuffled"][0] - 1

# %% [markdown]
# Shuffled digits, with the same pixel values, are far less probable: the model knows where the strokes lie. But a dot
# on black, which is no digit at all, is **more** probable than digits. That is no bug:
#
# - *A likelihood is a statement about all pixels*, most of which are background. Few strokes are cheap to code,
#   whether or not they form a digit. Models trained on one data set often assign higher likelihoods to simpler images
#   of another (Nalisnick et al. 2019): a likelihood alone does not detect what is foreign.
# - *A good likelihood and good samples are different goals* (Theis et al. 2016). This network was trained to draw.
#   Models trained for likelihood reach about 1 bit per dimension on MNIST (FFJORD 0.99).
# - *The number depends on choices that are not the model's*: the last level, the solver's steps, the dequantisation.
#
# ## 7 · What can go wrong
#
# Too few steps give a wrong likelihood without any warning, and the random vectors cannot show it, since they
# estimate the divergence of the *solver's* path. Compare two numbers of steps before you report a number:

# %%
for n in (6, 12, 24, 48):
    values = likelihood.log_likelihood(denoise, points, vp.levels(n), divergence="exact")
    off = float((values - closed_form).mean())
    print(f"{n:>2} steps of DDPM's linear schedule: mean error of log p {off:+.1f}")
    assert abs(off) > 0.5 if n == 6 else True
assert abs(off) < 0.3

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · The SDE of a schedule.** Write `my_g_squared(alpha, sigma, d_alpha, d_sigma)`: the squared diffusion
# $g^2$ of section 1, from the values and the derivatives of $\alpha$ and $\sigma$ at one time (numbers).

# %%
my_g_squared = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_g_squared(alpha, sigma, d_alpha, d_sigma):
    return 2 * sigma * d_sigma - 2 * d_alpha / alpha * sigma**2


# %%
check("12.1", my_g_squared, solution_g_squared)

# %% [markdown]
# **Exercise 2 · A step back.** Write `my_step_back(x, score, f, g, dt, strength, z)`: one step of Euler-Maruyama on the
# family of section 2, *backwards* by $dt > 0$, from $x$ [B, D] with its score [B, D] and the normal numbers $z$ [B, D].
# Watch the signs: in the boxed equation $dt$ is negative.

# %%
my_step_back = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_step_back(x, score, f, g, dt, strength, z):
    drift = f * x - (1 + strength**2) / 2 * g**2 * score
    return x - drift * dt + strength * g * dt**0.5 * z


# %%
check("12.2", my_step_back, solution_step_back)

# %% [markdown]
# **Exercise 3 · Hutchinson's estimator.** Write `my_divergence(function, x, probes)`: the estimate [B] of the
# divergence of `function` at `x` [B, D], the mean over the probes [K, B, D] of $e^\top J e$. `function` maps [B, D]
# to [B, D], one row at a time. `torch.autograd.grad(y, x, e, retain_graph=True)` is $e^\top J$; remember that `x`
# must require gradients, and that arguments must not be changed.

# %%
my_divergence = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_divergence(function, x, probes):
    at = x.detach().clone().requires_grad_()
    y = function(at)
    products = [torch.autograd.grad(y, at, e, retain_graph=True)[0] for e in probes]
    return torch.stack([(e * product).sum(1) for e, product in zip(probes, products, strict=True)]).mean(0)


# %%
check("12.3", my_divergence, solution_divergence)

# %% [markdown]
# **Exercise 4 · Units.** A paper reports a log-likelihood of $-2400$ nats for images of $28 \times 28$ pixels whose 256
# grey values were mapped to $[0, 1]$ (bins of width $1/256$) and dequantised. How many bits per dimension is that, to
# within 0.01?

# %%
my_bits = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_bits = float(likelihood.bits_per_dimension(torch.tensor([-2400.0]), 784, bin_width=1 / 256))

# %%
check("12.4", my_bits, solution_bits)

# %% [markdown]
# ## What to remember
#
# - Every schedule is an SDE: $f = d\log\alpha/dt$ and $g^2 = d\sigma^2/dt - 2 f \sigma^2$. With constant $\beta$ it
#   is the Ornstein-Uhlenbeck process.
# - Backwards in time only the score is needed, and noise of any strength gives the same densities: DDPM is one
#   strength, DDIM another.
# - Langevin dynamics keeps a density, and finds it from elsewhere only where the noise bridges the modes.
# - The ODE has an exact likelihood: the divergence added up along the path. Random vectors make it affordable.
# - Bits per dimension measure all pixels, not what we look at: the background counts, and a dot on black beats a digit.
#
# **Next:** [13 · Few steps](13_few_steps.ipynb): train on the chord of a path instead of its tangent.
#
# ## References
#
# - Y. Song et al. 2021, [Score-Based Generative Modeling through Stochastic Differential
#   Equations](https://arxiv.org/abs/2011.13456): the SDEs (Sec. 3), predictor-corrector (Sec. 4.2), the ODE and its
#   likelihood (Sec. 4.3, App. D).
# - B. Anderson 1982, [Reverse-time diffusion equation models](https://doi.org/10.1016/0304-4149(82)90051-5).
# - Y. Song, S. Ermon 2019, [Generative Modeling by Estimating Gradients of the Data
#   Distribution](https://arxiv.org/abs/1907.05600): annealed Langevin dynamics.
# - R. Chen et al. 2018, [Neural Ordinary Differential Equations](https://arxiv.org/abs/1806.07366): the instantaneous
#   change of variables (Theorem 1).
# - W. Grathwohl et al. 2019, [FFJORD](https://arxiv.org/abs/1810.01367): Hutchinson's estimator for flows.
# - M. Hutchinson 1989, [A stochastic estimator of the trace of the influence
#   matrix](https://doi.org/10.1080/03610918908812806).
# - Y. Lipman et al. 2023, [Flow Matching for Generative Modeling](https://arxiv.org/abs/2210.02747): the continuity
#   equation.
# - D. Kingma et al. 2021, [Variational Diffusion Models](https://arxiv.org/abs/2107.00630): $f$ and $g$ from $\alpha$
#   and $\sigma$.
# - L. Theis, A. van den Oord, M. Bethge 2016, [A note on the evaluation of generative
#   models](https://arxiv.org/abs/1511.01844).
# - E. Nalisnick et al. 2019, [Do Deep Generative Models Know What They Don't
#   Know?](https://arxiv.org/abs/1810.09136)
