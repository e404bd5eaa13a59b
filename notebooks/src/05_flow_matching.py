# %% [markdown]
# # 05 · Flow matching: straight paths from noise to data
#
# The newest image models (Stable Diffusion 3, FLUX) are not trained to predict the noise, and they have no $\beta_t$.
# They learn a **velocity**: in which direction, and how fast, should this point move to become a picture? The training
# code is only three lines long. This notebook explains this idea, shows which of its paths are straight and which are
# not, and measures how few steps are enough.
#
# **When you have worked through it, you can**
#
# - write down the straight path, its velocity, and the training target $\varepsilon - x_0$;
# - say why the network learns an *average* velocity, and why averages of straight lines are curved;
# - show that Euler's step along the velocity *is* the DDIM step of notebook 04;
# - predict the result of a single step from noise, and check it;
# - compare a flow model with an $\varepsilon$ model at equal cost;
# - explain `shift`, logit-normal times, and rectification (*reflow*).
#
# *Beside you:* Lipman et al. 2023, [Flow Matching for Generative Modeling](https://arxiv.org/abs/2210.02747), and Liu,
# Gong & Liu 2023, [Flow Straight and Fast](https://arxiv.org/abs/2209.03003) (rectified flow). About 40 minutes to
# read, under a minute to run.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    DDPMSchedule,
    EDMSchedule,
    ExactDenoiser,
    FlowSchedule,
    GaussianMixture,
    Prediction,
    add_noise,
    bundled_mnist,
    ddim,
    euler,
    final,
    gaussian_modes,
    heun,
    load_pretrained,
    measured,
    metrics,
    palette,
    plots,
    randn,
    widgets,
)
from diffusion_explained.comparisons import rms_distance
from diffusion_explained.exercises import check
from diffusion_explained.predictions import target, to_x0_eps
from diffusion_explained.training.reflow import straightness

plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## 1 · A straight line, and its velocity
#
# Take a picture $x_0$ and some noise $\varepsilon$, and join them by the simplest possible path:
#
# $$
# x_t = (1 - t)\, x_0 + t\, \varepsilon, \qquad t \in [0, 1].
# \tag{rectified flow, Eq. 1, time reversed}
# $$
#
# <small>In code: `schedules.FlowSchedule.level`. Test:
# `tests/test_schedules.py::test_flow_levels_equal_diffusers`.</small>
#
# This is another Gaussian path, with $\alpha_t = 1 - t$ and $\sigma_t = t$; in the library it is `FlowSchedule`. Along
# a straight line the velocity is constant,
#
# $$ v = \frac{d x_t}{d t} = \varepsilon - x_0, $$
#
# <small>In code: `predictions.target`. Test:
# `tests/test_predictions.py::test_target_and_its_inverse_round_trip`.</small>
#
# and this velocity is the network's training target: row `flow` of the table from notebook 01, $a = -1$, $b = 1$.

# %%
schedule = FlowSchedule()
stream = torch.Generator().manual_seed(0)
x_0, eps = bundled_mnist().batch(torch.arange(4))[0], randn((4, 1, 28, 28), stream)

here, a_little_later = schedule.level(0.4), schedule.level(0.401)
velocity = (add_noise(x_0, eps, a_little_later) - add_noise(x_0, eps, here)) / 0.001

torch.testing.assert_close(velocity, target("flow", x_0, eps, here.alpha, here.sigma), atol=1e-3, rtol=0)
print(f"at t = {here.t}: α = {here.alpha:.1f}, σ = {here.sigma:.1f}; the velocity is the target ε - x₀")

# %% [markdown]
# The complete training step is now (compare DDPM's Algorithm 1):
#
# ```python
# t = schedule.sample_t(batch_size)                       # a time on the line
# x_t = add_noise(x_0, eps, (t, 1 - t, t))                # the point at this time
# loss = (network(x_t, t) - (eps - x_0)).square().mean()  # the direction of the line
# ```
#
# > **Two conventions for time.** Half of the literature (Lipman et al., Liu et al.) runs time the other way: $t = 0$ is
# > noise, $t = 1$ is data, the velocity is $x_1 - x_0$ with $x_1$ the picture. Stable Diffusion 3, `diffusers` and this
# > course use "larger $t$ is noisier". Before you copy a formula, check which end is noise; with the wrong sign,
# > training works just as well, but sampling gives garbage.
#
# ## 2 · What is learned is an average
#
# Many lines pass through (nearly) the same point at the same time, and they have different directions. A network whose
# inputs are only $x_t$ and $t$ cannot distinguish them; a least-squares loss makes it predict their mean,
#
# $$ v(x, t) = \mathbb E\left[\varepsilon - x_0 \mid x_t = x\right]. \tag{Lipman et al., Eq. 8} $$
#
# <small>In code: `exact.ExactDenoiser`. Test:
# `tests/test_exact.py::test_the_posterior_mean_is_the_best_regression`.</small>
#
# <details><summary>Derivation: the mean velocity moves the right density, and the loss finds it</summary>
#
# 1. Fix one pair $z = (x_0, \varepsilon)$. Its point moves with the velocity $v_z = \varepsilon - x_0$, so its
#    density obeys the continuity equation $\partial_t\, p_t(x \mid z) = -\nabla \cdot \left( v_z\, p_t(x \mid z)
#    \right)$.
# 2. Average over all pairs: $\partial_t\, p_t(x) = -\nabla \cdot \int v_z\, p_t(x \mid z)\, q(z)\, dz$.
# 3. By Bayes' rule $p_t(x \mid z)\, q(z) = p_t(x)\, q(z \mid x_t = x)$, so the integral is $p_t(x)\, \mathbb E[v_z
#    \mid x_t = x] = p_t(x)\, v(x, t)$. The mean velocity moves noise to data with exactly the densities $p_t$ of the
#    lines.
# 4. $v$ itself is unknown, but it is not needed. By the split of notebook 03, $\mathbb E \lVert v_\theta -
#    (\varepsilon - x_0) \rVert^2 = \mathbb E \lVert v_\theta - v \rVert^2 + \text{a part without } \theta$. Both
#    losses have the same gradient (Lipman et al., Theorem 2), and the left one needs only a pair.
#
# </details>
#
# Let us check this without any network. The data are eight Gaussians in the plane, for which the mean is known in
# closed form. Draw two million lines, keep those that pass close to one point at $t = 0.5$, and average their
# velocities:

# %%
means, std = gaussian_modes("eight_gaussians")
mixture = GaussianMixture(means, std)
exact = ExactDenoiser(mixture)
point, halfway = torch.tensor([[0.45, 0.2]]), schedule.level(0.5)

x_0, eps = mixture.sample(2_000_000, stream)[0], randn((2_000_000, 2), stream)
through = (add_noise(x_0, eps, halfway) - point).norm(dim=1) < 0.03
average = (eps - x_0)[through].mean(0)

pred = exact(point, halfway)
print(f"over 1,000 lines pass: {bool(through.sum() > 1000)}")
print(f"their mean velocity: {[round(v, 1) for v in average.tolist()]}")
assert (average - (pred.eps - pred.x_0)[0]).abs().max() < 0.06
print(f"but a single line differs from the mean by {float((eps - x_0)[through].std(0).norm()):.1f} on average")

# %% [markdown]
# ## 3 · Straight lines cross; the paths of a flow never do
#
# A one-dimensional example shows the whole effect: time on the horizontal axis, position on the vertical axis, data at
# $-1$ and $+1$. The left panel shows thirty training lines: they are straight, and they cross. The right panel shows
# thirty starting points that follow the *average* velocity. Two solutions of one ODE can never meet, so the curves
# cannot cross: those that start above end above.

# %%
two = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.1)
fine = schedule.levels(200)
noise = randn((30, 1), torch.Generator().manual_seed(1))
partners, _ = two.sample(30, torch.Generator().manual_seed(2))

lines = torch.stack([add_noise(partners, noise, level) for level in fine])
flow = torch.stack([noise, *(step.x_next for step in euler(ExactDenoiser(two), noise, fine))])

fig, axes = plots.figure(9, 3.6, "light", ncols=2, sharey=True)
titled = (lines, "training: straight lines"), (flow, "sampling: average velocity")
for ax, (paths, name) in zip(axes[0], titled, strict=True):
    ax.plot([level.t for level in fine], paths[:, :, 0], color=palette.LIGHT.muted, linewidth=1)
    ax.plot(torch.ones(30), paths[0], "o", color=palette.LIGHT.noise, markersize=4)
    ax.plot(torch.zeros(30), paths[-1], "o", color=palette.LIGHT.data, markersize=4)
    plots.dress(ax, "light", title=name, xlabel="t  (0 is data, 1 is noise)", ylabel="x")
fig.set_label(
    "30 paths over t in two panels: training, straight lines that cross; sampling, 30 curves that do not cross"
)
plt.show()

order = noise[:, 0].argsort()
print(f"the flow keeps the order of the points: {bool((flow[:, order, 0].diff(dim=1) > 0).all())}")
print(f"the training lines keep it: {bool((lines[:, order, 0].diff(dim=1) > 0).all())}")
assert (flow[:, order, 0].diff(dim=1) > 0).all()

# %% [markdown]
# So the well-known sentence "flow matching has straight paths" needs care. *The training paths are straight. The
# sampling paths are not*, wherever the training lines cross.
#
# ## 4 · Euler's step is DDIM's step
#
# To draw a sample, start at $t = 1$ with noise and follow the velocity down to $t = 0$. Euler's method does it in steps
# of $\Delta t$:
#
# $$ x_{t - \Delta t} = x_t - \Delta t \; v(x_t, t). \tag{rectified flow, Algorithm 1} $$
#
# <small>In code: `samplers.euler`. Test:
# `tests/test_samplers.py::test_flow_euler_equals_diffusers`.</small>
#
# Insert $v = \hat\varepsilon - \hat x_0$ and $x_t = (1 - t) \hat x_0 + t\, \hat\varepsilon$, with $s = t - \Delta t$:
#
# $$ x_s = (1 - t) \hat x_0 + t\, \hat\varepsilon - (t - s)(\hat\varepsilon - \hat x_0)
#        = (1 - s)\, \hat x_0 + s\, \hat\varepsilon = \alpha_s \hat x_0 + \sigma_s \hat\varepsilon . $$
#
# <small>In code: `samplers.ddim`. Test:
# `tests/test_samplers.py::test_euler_is_ddim_and_ancestral_is_ddpm_is_ddim_with_eta_1`.</small>
#
# The right-hand side is exactly DDIM at $\eta = 0$. The next cell compares Euler's method, DDIM and the formula by
# hand:

# %%
starts = randn((500, 2), torch.Generator().manual_seed(3))
eight = schedule.levels(8)

by_euler, by_ddim = final(euler(exact, starts, eight)), final(ddim(exact, starts, eight))
by_hand = starts
for level, next_level in pairwise(eight):
    pred = exact(by_hand, level)
    by_hand = by_hand - (level.t - next_level.t) * (pred.eps - pred.x_0)  # x - Δt · v

print(f"Euler, DDIM and three lines by hand agree: {torch.allclose(by_euler, by_ddim, atol=1e-4)}")
torch.testing.assert_close(by_euler, by_ddim, atol=1e-4, rtol=0)
torch.testing.assert_close(by_euler, by_hand, atol=1e-4, rtol=0)

# %% [markdown]
# ### The same map under other names
#
# The equivalence goes further. DDPM's path, EDM's path and the straight path differ only in scale and time, and their
# ODEs take **the same noise to the same picture**: they define one map in three notations (Karras et al. 2022, Eq. 4;
# Gao et al. 2024, *Diffusion Meets Flow Matching: Two Sides of the Same Coin*). Integrate all three finely from the
# same 500 starts:

# %%
schedules = {"flow": schedule, "DDPM linear": DDPMSchedule.linear(), "EDM": EDMSchedule()}
ends = {name: final(heun(exact, starts * s.init_noise_sigma, s.levels(300))) for name, s in schedules.items()}
for name in ("DDPM linear", "EDM"):
    apart = (ends[name] - ends["flow"]).norm(dim=1).median()
    print(f"flow and {name}: half of the points end within 0.01 of each other: {bool(apart < 0.01)}")
    assert apart < 0.01

# %% [markdown]
# Then why is flow matching fast? Not because of another map, but because of **the spacing of its steps**, and because
# of the levels that its training emphasises. The next cell compares the schedules at practical numbers of steps:

# %%
points = randn((2000, 2), torch.Generator().manual_seed(4))
truth, again = (mixture.sample(2000, torch.Generator().manual_seed(seed))[0] for seed in (5, 6))
schedules["DDPM cosine"] = DDPMSchedule.cosine()
counts = [1, 2, 4, 8, 16, 32, 64]
far = {
    name: [
        metrics.sliced_wasserstein(final(euler(exact, points * s.init_noise_sigma, s.levels(n))), truth) for n in counts
    ]
    for name, s in schedules.items()
}
plots.curves({name: (counts, d) for name, d in far.items()}, log="xy", title="One map, four schedules of steps",
             xlabel="Euler steps", ylabel="distance to the data",
             reference=("two draws of the data", metrics.sliced_wasserstein(truth, again)))  # fmt: skip
plt.show()

print("at 4 steps:", {name: round(d[2], 1) for name, d in far.items()})
assert far["flow"][2] < 0.6 * far["DDPM linear"][2] and abs(far["flow"][2] - far["DDPM cosine"][2]) < 0.05

# %% [markdown]
# At four steps the straight path's levels are three times as good as those of DDPM's linear schedule, which spends half
# of its steps at levels of almost pure noise (notebook 02). But the *cosine* schedule is just as good as the flow here.
# With the exact denoiser, quality at few steps depends on **spacing**, not on straightness.
#
# Which paths are straighter? For data of about the same scale as the noise, as here, even this is not what the name
# suggests. Compare the length of each path with the distance between its ends:

# %%
few_starts = starts[:24]
runs = {}
for name in ("flow", "DDPM linear"):
    steps = euler(exact, few_starts, schedules[name].levels(200))
    runs[name] = torch.stack([few_starts, *(step.x_next for step in steps)])
data, _ = mixture.sample(1500, torch.Generator().manual_seed(7))
plots.trajectory_panels(runs, data=data, limit=2.4, title="The same starts, the same ends, two paths")
plt.show()

detour = {name: float(p.diff(dim=0).norm(dim=-1).sum() / (p[-1] - p[0]).norm(dim=-1).sum()) for name, p in runs.items()}
print("length of the path over the distance of its ends:", {name: round(d, 1) for name, d in detour.items()})
assert detour["flow"] > detour["DDPM linear"] > 1

# %% [markdown]
# The flow's path first moves towards the *mean of all data*, the centre, because at $t = 1$ the noise contains no
# information about the picture and $v = \varepsilon - \mathbb E[x_0]$; then it turns. Keep that in mind for the next
# section.
#
# ## 5 · Digits, and the cost of a sample
#
# `mnist_unet_flow` was trained with the three lines above on digits. First, a result that follows from theory alone:
# **what does it draw in a single step?** At $t = 1$ the input is pure noise and contains no information about the
# picture. So the best prediction $\hat x_0$ is the mean of all pictures of the class, for any noise.

# %%
model = load_pretrained("mnist_unet_flow")
digits = bundled_mnist()
classes = torch.arange(10)
mean_digits = torch.stack([digits.of_class(k).to_float().mean(0) for k in range(10)])

one_step = final(euler(model.denoiser(classes, guidance_scale=1), model.noise(10, seed=0), model.schedule.levels(1)))
plots.filmstrip({"one step": one_step, "mean of the class": mean_digits}, captions=model.class_names,
                title="One Euler step, and the average digit")  # fmt: skip
plt.show()

hundred = torch.arange(100) % 10
pure_noise, predict = model.noise(100, seed=0), model.denoiser(hundred, guidance_scale=1)
typical = rms_distance(digits.to_float()[:500], mean_digits[digits.labels[:500]])
print(f"a real digit is {typical:.2f} away from the mean of its class (root mean square, in pixel values)")
for t_given in (1.0, 0.95):
    level = model.schedule.level(t_given)
    predicted = predict(level.sigma * pure_noise, level).x_0
    print(
        f"the prediction from pure noise, given t = {t_given}: {rms_distance(predicted, mean_digits[hundred]):.2f} away"
    )
    assert rms_distance(predicted, mean_digits[hundred]) < typical * (0.6 if t_given == 1 else 0.3)

# %% [markdown]
# The theory is half right. The prediction is much nearer to the mean than digits are, and it is grey and blurred as a
# mean should be. But it is not *the* mean: every noise gives a different prediction. The theory describes the best
# possible network, and ours was hardly ever trained at exactly $t = 1$ (section 6 shows why). The last line of the
# output confirms this: for the same pure noise with the input $t = 0.95$, where the network was trained, its prediction
# is nearly the mean.
#
# With two steps one digit becomes visible, and four steps give clear digits. Each column starts from the same noise, so
# it shows one digit becoming sharper with more steps.

# %%
predict, x_T = model.denoiser(classes, guidance_scale=1), model.noise(10, seed=0)
strips = {n: final(euler(predict, x_T, model.schedule.levels(n))) for n in (1, 2, 4, 8, 16)}
plots.filmstrip({f"steps: {n}": x for n, x in strips.items()}, captions=model.class_names,
                title="One start, increasing numbers of steps")  # fmt: skip
plt.show()
to_go = [rms_distance(strips[n], strips[16]) for n in (1, 2, 4, 8)]
assert all(
    later < earlier for earlier, later in pairwise(to_go)
)  # every doubling brings the digits nearer to the last row

# %%
widgets.scrub(list(euler(predict, x_T, model.schedule.levels(20))), columns=10)

# %% [markdown]
# ### Against the ε model, at equal cost
#
# One step is one network evaluation for both models; the two networks have the same architecture and were trained on
# equally many pictures. The classifier is that of notebook 04; the numbers are class accuracy and the Fréchet distance
# in its features, on 100 digits.

# %%
N_MEASURED = 100
targets = torch.arange(N_MEASURED) % 10
by_class = torch.stack([digits.of_class(k).to_float()[: N_MEASURED // 5] for k in range(10)], dim=1)
real, other_real = (half.flatten(0, 1) for half in by_class.chunk(2))  # two sets of real digits, 0..9 in turn
real_features, _ = metrics.classify(real)


def measure(x_0):
    """(class accuracy, Fréchet distance to real digits) of N_MEASURED pictures of the target classes."""
    features, logits = metrics.classify(x_0.clamp(-1, 1))
    accuracy = float((logits.argmax(dim=1) == targets).double().mean())
    return accuracy, metrics.frechet_distance(features, real_features)


eps_model = load_pretrained("mnist_unet_eps")
counts, results = [1, 2, 4, 8, 16], {}
for name, m, solve in (("flow, Euler", model, euler), ("ε, DDIM", eps_model, ddim)):
    predict, x_T = m.denoiser(targets, guidance_scale=1), m.noise(N_MEASURED, seed=0)
    results[name] = {n: measure(final(solve(predict, x_T, m.schedule.levels(n)))) for n in counts}
floor = measure(other_real)

for name, rows in results.items():
    for n, (accuracy, far) in rows.items():
        print(f"{name:>12} {n:>3}: accuracy {accuracy:4.0%}, Fréchet distance {far:4.1f}")
print(f" real digits    : accuracy {floor[0]:4.0%}, Fréchet distance {floor[1]:4.1f}")
plots.curves({name: (counts, [far for _, far in rows.values()]) for name, rows in results.items()}, log="xy",
             title="Quality against cost", xlabel="network evaluations", ylabel="Fréchet distance",
             reference=("real digits", floor[1]))  # fmt: skip
plt.show()

flow_rows, eps_rows = results.values()
assert model.card["images_seen"] == eps_model.card["images_seen"]
for n in (1, 2):
    assert flow_rows[n][1] < 0.8 * eps_rows[n][1]  # at one and two steps the flow is clearly ahead
for n in (4, 8, 16):
    assert max(flow_rows[n][1], eps_rows[n][1]) < 2 * floor[1]  # from four on, both are at the floor
    assert min(flow_rows[n][0], eps_rows[n][0]) > 0.9

# %% [markdown]
# "Four to eight steps instead of thirty to fifty": on digits the claim **holds for the flow, and it holds for the ε
# model with DDIM as well**. From four steps on, both are about as near to real digits as other real digits are, and the
# difference between them is within the random error of 100 samples. The flow is better at one and two steps: it starts
# at $\alpha = 0$ without dividing by it, and its steps are better spaced. Colour pictures are harder: there "4 to 8"
# and "30 to 50" steps differ clearly, as the end of section 8 shows.

# %% [markdown]
# ## 6 · Which $t$ to train on
#
# At which times is the prediction hard? At $t \approx 0$ the picture is almost visible. At $t \approx 1$ the best
# prediction is known in advance: the mean. The hard part is in the middle: is this becoming a 4 or a 9? So Stable
# Diffusion 3 draws training times from a **logit-normal** distribution, $t = \operatorname{sigmoid}(z)$ with
# $z \sim \mathcal N(0, 1)$ (Esser et al. 2024, Eq. 19).

# %%
t = schedule.sample_t(100_000, torch.Generator().manual_seed(8))
middle = float(((t > 0.25) & (t < 0.75)).double().mean())
print(f"in the middle half of the line: {middle:.0%} of the logit-normal times, 50% of uniform ones")
assert abs(middle - float(torch.special.ndtr(torch.tensor(3.0).log()) * 2 - 1)) < 0.01

beyond = float(torch.special.ndtr(-torch.tensor(99.0, dtype=torch.float64).log()))  # t > 0.99 is z > log 99
seen = model.card["images_seen"]
print(f"of {seen:,} training pictures about {beyond * seen:.0f} had a training time above t = 0.99")

x_0, labels = digits.batch(torch.arange(0, 10_000, 40))
eps = randn(x_0.shape, torch.Generator().manual_seed(9))
times = [k / 20 for k in range(1, 20)]
error = []  # mean square error of the predicted x_0 at each of these times
for t_now in times:
    level = model.schedule.level(t_now)
    pred = model.denoiser(labels, guidance_scale=1)(add_noise(x_0, eps, level), level)
    error.append(float((pred.x_0 - x_0).square().mean()))
density, _ = torch.histogram(t.float(), bins=19, range=(0.025, 0.975), density=True)
plots.curves({"error of the predicted x₀": (times, error), "training times (density / 10)": (times, density / 10)},
             title="At which times the prediction is hard", xlabel="t")  # fmt: skip
plt.show()

at = dict(zip(times, error, strict=True))
for start, end in ((0.95, 0.75), (0.75, 0.25), (0.25, 0.05)):
    print(f"from t = {start} to {end} the error falls by {(at[start] - at[end]) / at[0.95]:.0%} of its first value")
assert at[0.75] - at[0.25] > 0.45 * at[0.95] and at[0.25] < 0.1 * at[0.95]

# %% [markdown]
# The curve shows how a digit is formed: first noise, then a shape, then the details. In the middle half of the line the
# error falls by more than half, and this half gets three quarters of the training. In the last quarter there is almost
# nothing left to predict, and uniform times would have spent a quarter of the training on it. At the other end the
# logit-normal distribution has a drawback: it almost never draws a time close to $t = 1$, and section 5 showed the cost
# of this for a single step.
#
# ## 7 · Shift: adapting the times to larger pictures
#
# At a given $t$ a large picture is *easier* to recognise under the noise than a small one, since neighbouring pixels
# are similar. An equally hard task needs more noise, and Stable Diffusion 3 moves all times up by
#
# $$ t' = \frac{s\, t}{1 + (s - 1)\, t}. \tag{Esser et al., Eq. 23} $$
#
# <small>In code: `schedules.FlowSchedule.timesteps`. Test:
# `tests/test_schedules.py::test_flow_levels_equal_diffusers`.</small>
#
# <details><summary>Derivation: why a larger picture needs a shift, and how much</summary>
#
# 1. Take a picture whose $n$ pixels all have the value $c$. Under noise each pixel is $(1 - t)\, c + t\,
#    \varepsilon_i$. The mean of the pixels, divided by $1 - t$, estimates $c$ with the standard deviation
#    $\frac{t}{1 - t} \cdot \frac{1}{\sqrt n}$.
# 2. The same picture with $m$ pixels is as uncertain at the time $t'$ where $\frac{t'}{1 - t'} \cdot \frac{1}{\sqrt
#    m} = \frac{t}{1 - t} \cdot \frac{1}{\sqrt n}$. So the noise-to-signal ratio is multiplied by $s = \sqrt{m / n}$:
#    twice the side, twice the ratio.
# 3. Solve for $t'$: with $r = s\, t / (1 - t)$, $t' = r / (1 + r) = \frac{s\, t}{1 + (s - 1)\, t}$.
#
# </details>
#
# The formula looks odd until you compute its effect on the noise-to-signal ratio $\sigma/\alpha = t / (1 - t)$: `shift`
# **multiplies this ratio by $s$**, at every $t$.

# %%
for s in (0.5, 3.0):
    shifted = FlowSchedule(shift=s)
    for t_plain, t_shifted in zip(schedule.timesteps(10)[1:], shifted.timesteps(10)[1:], strict=True):
        assert abs(t_shifted / (1 - t_shifted) - s * t_plain / (1 - t_plain)) < 1e-9
    print(f"shift {s}: ten steps visit t =", [round(t, 2) for t in shifted.timesteps(10).tolist()])

shifts = [0.33, 0.5, 1.0, 2.0, 3.0]
far_by_shift = [
    metrics.sliced_wasserstein(final(euler(exact, points, FlowSchedule(s).levels(4))), truth) for s in shifts
]
best = shifts[far_by_shift.index(min(far_by_shift))]
print(f"for our points in the plane, at 4 steps, the best of {shifts} is {best}")
assert best <= 1 and far_by_shift[-1] > 2 * min(far_by_shift)

# %% [markdown]
# A point in the plane is the smallest possible picture; it needs no shift upwards. Megapixel models use 3 and more.
#
# ## 8 · Rectification: making the sampled paths straight too
#
# The lines cross because noise and data were paired *at random*. With a trained flow, better pairs are possible: join
# each noise with the picture to which **the flow itself** takes it, and train again on these lines (Liu et al., Sec.
# 2.2, *reflow*). Lines between the ends of one flow rarely cross, so the average velocity at a point is nearly the
# velocity of the one line through it. The new paths are nearly straight, and a straight path needs only a single Euler
# step.
#
# <details><summary>Derivation: straightness, and why it cannot become worse</summary>
#
# 1. Measure how much the lines through a point disagree, $S = \int_0^1 \mathbb E \lVert (\varepsilon - x_0) - v(x_t,
#    t) \rVert^2\, dt$: the part of the loss that no network can reduce (Liu et al., Eq. 7).
# 2. If $S = 0$, then $v(x_t, t) = \varepsilon - x_0$ on every line. The velocity is constant along the line, and a
#    single Euler step is exact: $x_0 = \varepsilon - v(\varepsilon, 1)$.
# 3. Reflow joins $\varepsilon$ with the end $x_0'$ of its own path, $\varepsilon - x_0' = \int_0^1 v(x_t, t)\, dt$.
#    Jensen's inequality, first for the mean over time and then for the conditional mean, gives for every convex cost
#    $c$: $\mathbb E\, c(\varepsilon - x_0') \le \int_0^1 \mathbb E\, c(v(x_t, t))\, dt \le \mathbb E\,
#    c(\varepsilon - x_0)$.
# 4. So the new pairs are never farther apart than the random ones were, whatever convex cost is used. With $c =
#    \lVert \cdot \rVert^2$ the second inequality loses exactly $S$: each reflow shortens the mean squared distance by
#    at least $S$. It cannot fall below 0, so $S$ must become small when reflow is repeated.
#
# </details>
#
# We can do this without training a network. The cell below uses a classical method, Nadaraya-Watson regression: the
# velocity at a point is the mean velocity of the lines that pass close by.

# %%
reflow_noise = randn((3000, 2), torch.Generator().manual_seed(10))
reflow_data = final(heun(exact, reflow_noise, schedule.levels(40)))  # the end of the flow for each noise


def rectified(x_t, level, width=0.05):
    """The prediction by the mean velocity of the 3,000 new lines near x_t, with Gaussian weights of this width."""
    lines_now = add_noise(reflow_data, reflow_noise, level)
    near = (-(torch.cdist(x_t, lines_now) ** 2) / (2 * width**2)).softmax(dim=1)
    v = near @ (reflow_noise - reflow_data)
    x_0, eps = to_x0_eps("flow", v, x_t, level.alpha, level.sigma)
    return Prediction(x_0, eps, eps_cond=eps)


test_noise, fresh = points[:1000], truth[:1000]
for n in (1, 2, 8):
    d = {name: metrics.sliced_wasserstein(final(euler(f, test_noise, schedule.levels(n))), fresh)
         for name, f in (("first flow", exact), ("rectified", rectified))}  # fmt: skip
    print(f"{n} step{'s' if n > 1 else ' '}:", {name: round(value, 1) for name, value in d.items()})
    assert d["rectified"] < 0.1


# %%
def bending(denoise, x_T):
    """How much the velocity changes along the path: the mean of |v_t - (x_T - x_0)|² (rectified flow, Eq. 7)."""
    steps = list(euler(denoise, x_T, schedule.levels(50)))
    chord = x_T - steps[-1].x_next
    return float(torch.stack([(s.pred.eps - s.pred.x_0 - chord).square().sum(1).mean() for s in steps]).mean())


runs = {}
for name, denoise in (("first flow", exact), ("rectified", rectified)):
    steps = euler(denoise, few_starts, schedule.levels(50))
    runs[name] = torch.stack([few_starts, *(step.x_next for step in steps)])
plots.trajectory_panels(runs, data=data, limit=2.4, title="Before and after rectification")
plt.show()

before, after = bending(exact, test_noise), bending(rectified, test_noise)
print(f"bending before: {before:.1f}; after, less than a hundredth of it: {after < before / 100}")
assert after < before / 100

# %% [markdown]
# *Now* the paths are really straight. The cost: the second model learns from the samples of the first, so it cannot be
# better than these samples, and drawing them takes computation.
#
# ### In colour: 1, 4, 8 and 20 steps
#
# The same with networks, on colour pictures of CIFAR-10's ten classes. `cifar10_unet_flow` was trained with the three
# lines of section 1. `cifar10_unet_reflow` was then trained on 400,000 pairs that this teacher drew: a noise, and the
# picture to which the teacher's flow takes it, guided with $w = 3$ at middle noise levels (notebook 06, section 7). So
# the second network needs no guidance, and one network evaluation per step instead of two. Both start from the same
# four noises.

# %%
teacher, student = load_pretrained("cifar10_unet_flow"), load_pretrained("cifar10_unet_reflow")
colour_classes, colour_noise = torch.arange(4), teacher.noise(4, seed=0)
as_the_pairs = {key: student.card["recipe"]["pairs"][key] for key in ("guidance_scale", "guidance_interval")}
guided, plain = teacher.denoiser(colour_classes, **as_the_pairs), student.denoiser(colour_classes, guidance_scale=1)
followed = {
    (name, n): list(euler(denoise, colour_noise, schedule.levels(n)))
    for name, denoise in (("flow", guided), ("rectified", plain))
    for n in (1, 4, 8, 20)
}
drawn = {f"{name}, {n} step{'s' if n > 1 else ''}": steps[-1].x_next for (name, n), steps in followed.items()}
plots.filmstrip(drawn, captions=teacher.class_names[:4], title="One noise, two flows")
plt.show()

bends = {name: straightness(followed[name, 20]) for name in ("flow", "rectified")}
print(f"the rectified paths bend less than half as much: {bends['rectified'] < 0.5 * bends['flow']}")
for n in (4, 8):
    moved = {name: rms_distance(followed[name, n][-1].x_next, followed[name, 20][-1].x_next) for name in bends}
    print(f"from {n} to 20 steps a picture still changes by", {name: round(far, 2) for name, far in moved.items()})
    assert moved["rectified"] < 0.7 * moved["flow"]
assert bends["rectified"] < 0.5 * bends["flow"]

# %% [markdown]
# In each column the noise is the same, and so is the outline of the picture: this is the effect of the pairs. The
# flow's pictures after four steps are washed out; the rectified ones are nearly finished, and recognisable after *one*
# step. Four pictures show only the trend. The next cell prints distances of 10,000 samples, which
# `benchmarks/quality.py` measured on a GPU (lower is better; 10,000 real test pictures have 1.4):

# %%
far = {(row["model"], row["guidance_scale"], row["num_inference_steps"]): row["frechet_distance"]
       for row in measured.read_measured("samplers")["rows"] if row["sampler"] == "euler"}  # fmt: skip
teacher_2, teacher_3, student_1 = (teacher.name, 2.0), (teacher.name, 3.0), (student.name, 1.0)
for name, which in {
    "flow, w = 2": teacher_2,
    "flow, guided as for the pairs": teacher_3,
    "rectified": student_1,
}.items():
    print(f"{name:<29}", ", ".join(f"{n} steps: {far[*which, n]:.1f}" for n in (4, 8, 50)))
print(f"the rectified flow in one step: {far[*student_1, 1]:.1f}, in two: {far[*student_1, 2]:.1f}")
assert far[*teacher_2, 4] > 8 * far[*teacher_2, 50] and far[*teacher_3, 4] > 8 * far[*teacher_3, 50]
assert far[*student_1, 4] < 1.05 * far[*student_1, 50] and far[*student_1, 50] < 1.12 * far[*teacher_3, 50]
assert far[*student_1, 50] < far[*teacher_2, 50] and far[*student_1, 1] < far[*teacher_2, 18]

# %% [markdown]
# **On colour pictures "4 to 8 steps" does not hold for the plain flow**: with four steps its distance to the data is
# ten times that with fifty, with eight steps three times. **It holds for the rectified flow**, which needed a second
# training: with four steps its distance is the same as with fifty, a tenth above that of its teacher with fifty steps,
# and below that of the same teacher with the usual guidance. One step, a single network evaluation, reaches a distance
# for which the plain flow needs more than eighteen steps and 36 network evaluations.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · A picture from a velocity.** A network predicts the velocity $v$ at a point $x_t$ of the straight path.
# Write `my_x_0(x_t, v, t)`, the predicted picture $\hat x_0$ that follows from it. (One subtraction and one product.)

# %%
my_x_0 = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_x_0(x_t, v, t):
    return x_t - t * v


# %%
check("05.1", my_x_0, solution_x_0)

# %% [markdown]
# **Exercise 2 · The other convention for time.** A paper writes
# $x_\tau = \tau\, x_{\text{data}} + (1 - \tau)\, x_{\text{noise}}$ and trains $u = x_{\text{data}} - x_{\text{noise}}$.
# You have its network `u(x, tau)`. Write `my_velocity(u, x, t)`, the velocity $\varepsilon - x_0$ in our convention.

# %%
my_velocity = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_velocity(u, x, t):
    return -u(x, 1 - t)


# %%
check("05.2", my_velocity, solution_velocity)

# %% [markdown]
# **Exercise 3 · Choose a shift.** In ten steps, the sixth level (index 5, at $t = 0.5$ without a shift) should have
# three times as much noise as signal, $\sigma / \alpha = 3$. Which `shift` gives this, to within 0.01? Compute it from
# section 7, then try it.

# %%
my_shift = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_shift = 3.0

# %%
check("05.3", my_shift, solution_shift)

# %% [markdown]
# ## What to remember
#
# - Flow matching is the Gaussian path with $\alpha = 1 - t$, $\sigma = t$, and a network that outputs
#   $\varepsilon - x_0$.
# - The training lines are straight; the learned field is their average, and its paths curve where lines cross.
# - Euler's method on the flow is DDIM. All Gaussian paths share one map from noise to data; with few steps, spacing
#   decides about quality.
# - The best possible single step gives the mean of the class; a few steps give digits.
# - Rectification pairs each noise with the end of its own path, and then a single step is nearly enough.
#
# **Next:** [06 · Classifier-free guidance](06_classifier_free_guidance.ipynb): how strongly the flow follows the class
# condition.
#
# ## References
#
# - Y. Lipman et al. 2023, [Flow Matching for Generative Modeling](https://arxiv.org/abs/2210.02747): Eq. 8, the field
#   as an average of conditional ones; the straight ("optimal transport") path.
# - X. Liu, C. Gong, Q. Liu 2023, [Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
#   Flow](https://arxiv.org/abs/2209.03003): Eq. 1, Algorithm 1, reflow (Sec. 2.2), straightness (Eq. 7).
# - P. Esser et al. 2024, [Scaling Rectified Flow Transformers for High-Resolution Image
#   Synthesis](https://arxiv.org/abs/2403.03206) (Stable Diffusion 3): logit-normal times (Eq. 19), shift (Eq. 23).
# - T. Karras et al. 2022, [Elucidating the Design Space of Diffusion-Based Generative
#   Models](https://arxiv.org/abs/2206.00364) (EDM): one ODE for many schedules and scales.
# - R. Gao et al. 2024, [Diffusion Meets Flow Matching: Two Sides of the Same Coin](https://diffusionflow.github.io/).
