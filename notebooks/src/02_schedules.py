# %% [markdown]
# # 02 · Schedules: how much noise, and when?
#
# Notebook 01 took DDPM's $\beta_t$ as given. But they are a choice: other papers chose other values, and some replaced
# the discrete steps by a continuous time. Three papers have three notations. This notebook translates them into each
# other until only one question is left: *how much noise is there, and when?*
#
# **When you have worked through it, you can**
#
# - draw the linear, scaled-linear, cosine and sigmoid schedules, EDM's and flow matching's on **one axis**, the log
#   SNR;
# - translate a time of one schedule into a time of any other, and show that the pictures are the same;
# - find the two famous flaws, a terminal SNR above zero and sampling that does not start at the last level, and measure
#   their effect on samples;
# - choose which timesteps to visit (leading, linspace, trailing), and say what `shift` does;
# - compare all schedules with the schedulers of `diffusers`, number by number.
#
# *Beside you:* Nichol & Dhariwal 2021, [Improved DDPM](https://arxiv.org/abs/2102.09672), Section 3.2, and Lin et al.
# 2023, [Common Diffusion Noise Schedules and Sample Steps are Flawed](https://arxiv.org/abs/2305.08891).
# About 30 minutes to read, under half a minute to run.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from diffusion_explained import (
    DDPMSchedule,
    EDMSchedule,
    ExactDenoiser,
    FlowSchedule,
    GaussianMixture,
    add_noise,
    bundled_mnist,
    ddim,
    final,
    generators,
    made_by_model,
    plots,
    randn,
    widgets,
)
from diffusion_explained.exercises import check
from diffusion_explained.film import film, mosaic, pixels
from diffusion_explained.schedules import SPACINGS

plt.rcParams["figure.dpi"] = 110
digits = bundled_mnist()
x_0, labels = digits.batch(torch.tensor([int((digits.labels == k).nonzero()[3]) for k in range(8)]))
eps = randn(x_0.shape, generators(8, seed=0))

# %% [markdown]
# ## 1 · Three families, one equation
#
# Whatever the paper, a noisy picture is $x_t = \alpha(t)\, x_0 + \sigma(t)\, \varepsilon$. A schedule is a time
# variable $t$ and the two functions $\alpha(t)$ and $\sigma(t)$.
#
# | family | time $t$ | $\alpha$ | $\sigma$ | idea |
# |---|---|---|---|---|
# | DDPM | $0, \dots, T-1$ | $\sqrt{\bar\alpha_t}$ | $\sqrt{1 - \bar\alpha_t}$ | $\alpha^2 + \sigma^2$ stays 1 |
# | EDM | the noise level itself | $1$ | $t$ | the signal stays constant, noise is added to it, up to 80 |
# | flow | from 0 to 1 | $1 - t$ | $t$ | a straight line, $\alpha + \sigma$ stays 1 |
#
# Within DDPM's family the choice is $\beta_t$: *linear* (Ho et al. 2020); *scaled linear*, a line in $\sqrt\beta$
# (latent diffusion, and so Stable Diffusion); *cosine*, which sets $\bar\alpha_t \propto \cos^2$ (Nichol & Dhariwal
# 2021, Eq. 17); *sigmoid*, an S-curve in $\beta$.

# %%
ddpm_schedules = {
    "linear": DDPMSchedule.linear(),
    "scaled_linear": DDPMSchedule.scaled_linear(),
    "cosine": DDPMSchedule.cosine(),
    "sigmoid": DDPMSchedule.sigmoid(),
}
schedules = {**ddpm_schedules, "EDM": EDMSchedule(), "flow": FlowSchedule()}

for name, schedule in schedules.items():
    for level in schedule.levels(10)[:-1]:
        kept = {"EDM": level.alpha, "flow": level.alpha + level.sigma}.get(name, level.alpha**2 + level.sigma**2)
        assert abs(kept - 1) < 1e-12

times = range(1000)
series = {name: (times, schedule.alphas_cumprod) for name, schedule in ddpm_schedules.items()}
plots.curves(series, title="What is left of the signal's power", xlabel="t", ylabel="ᾱ = α²")
plt.show()

# %% [markdown]
# With *linear* the signal falls early, with *sigmoid* late and fast, with *cosine* evenly, and with *scaled linear* it
# is **still above zero at the right-hand end** (0.0047, hardly visible here). Keep that in mind.
#
# Here is the same digit with the same noise at equal fractions of each schedule's list of levels. (The values of EDM's
# pictures grow to 80; the pictures are shown divided by $\sqrt{\alpha^2 + \sigma^2}$.)

# %%
fractions = np.arange(1, 9) / 8
rows = {}
for name, schedule in schedules.items():
    levels = schedule.levels(8)[-2::-1]  # from data to noise, without the clean level
    rows[name] = [add_noise(x_0, eps, level)[3] / (level.alpha**2 + level.sigma**2) ** 0.5 for level in levels]
plots.filmstrip(rows, captions=[f"{8 * f:.0f}/8" for f in fractions], title="One digit, one noise, six schedules")
plt.show()
assert all(len(row) == 8 for row in rows.values())

# %% [markdown]
# There are six rows, and every column has six different pictures. So is the choice of a family important? Read the next
# section before you answer.
#
# ## 2 · One axis for all schedules
#
# Divide a noisy picture by $\alpha$: $\;x_t / \alpha = x_0 + (\sigma / \alpha)\, \varepsilon$. The scale of the numbers
# carries no information; what is *visible* depends on the ratio $\sigma / \alpha$ alone, or on its logarithm,
#
# $$ \log \mathrm{SNR} = 2 \log (\alpha / \sigma). $$
#
# <small>In code: `schedules.Level.log_snr`. Test:
# `tests/test_schedules.py::test_log_snr_at_the_ends_and_between`.</small>
#
# Two levels with the same log SNR give the same picture. Let us take one level of DDPM and find the equivalent levels
# of EDM and flow matching.

# %%
level = ddpm_schedules["cosine"].level(500)
ratio = level.sigma / level.alpha

edm_level = EDMSchedule().level(ratio)  # σ/α = t
flow_level = FlowSchedule().level(ratio / (1 + ratio))  # σ/α = t / (1 - t)

for same_level in (edm_level, flow_level):
    assert abs(same_level.log_snr - level.log_snr) < 1e-9
    scaled = add_noise(x_0, eps, same_level) / same_level.alpha
    torch.testing.assert_close(scaled, add_noise(x_0, eps, level) / level.alpha, atol=1e-5, rtol=1e-5)
print(f"cosine t = 500 is EDM t = {edm_level.t:.3f} is flow t = {flow_level.t:.3f}: log SNR {level.log_snr:.3f}")

# %% [markdown]
# So a network that was trained on one path can be *sampled* along another; only scale and time have to be converted.
# (That is how Stable Diffusion, trained as a DDPM, works with the EDM samplers of Karras et al.) The schedules do
# differ in how they distribute their steps: how fast they move along the log-SNR axis.

# %%
plots.schedule_curves(schedules, "log_snr")
plt.show()
for schedule in schedules.values():
    log_snrs = [level.log_snr for level in schedule.levels(200)[:-1]]
    assert log_snrs == sorted(log_snrs)  # from noise to data, always up

# %% [markdown]
# Which values of the log SNR matter? We use the best possible classifier of notebook 01, this time along the log-SNR
# axis. It classifies every digit correctly above about 0 and is hardly better than chance below $-8$: the class of a
# digit is decided between these two values. Count how many of the thousand steps each schedule spends there.

# %%
known = digits.subset(torch.arange(500))
classifier = GaussianMixture(known.to_float(), classes=known.labels)


def best_accuracy(level):
    """The accuracy of the best possible classifier on the 500 digits that it knows, noised to a level."""
    x_t = add_noise(known.to_float(), randn(known.images.shape, torch.Generator().manual_seed(4)), level)
    return float((classifier.class_probabilities(x_t, level).argmax(1) == known.labels).double().mean())


visited = np.linspace(-10, 2, 13)
accuracy = [best_accuracy(FlowSchedule().level(1 / (1 + np.exp(log_snr / 2)))) for log_snr in visited]
plots.curves({"best possible classifier": (visited, accuracy)}, title="Where digits are decided", xlabel="log SNR",
             ylabel="accuracy", reference=("chance", 0.1))  # fmt: skip
plt.show()

for name, schedule in ddpm_schedules.items():
    log_snrs = torch.tensor([schedule.level(t).log_snr for t in range(1000)])
    inside = ((log_snrs > -8) & (log_snrs < 0)).double().mean()
    print(
        f"{name:>13}: {inside:.0%} of the steps between log SNR -8 and 0, {(log_snrs <= -8).double().mean():.0%} below"
    )
assert accuracy[0] < 0.2 and min(accuracy[-3:]) > 0.98

# %% [markdown]
# For these small digits the classic schedules are not bad. For larger pictures they are: neighbouring pixels carry the
# same information, the noise averages out, and a picture with four times the pixels is equally readable at a log SNR
# that is $\log 4$ lower. The end of section 3 measures this. It is the reason for `shift`, in section 6.
#
# ## 3 · Flaw one: the end is not noise
#
# Sampling starts from pure noise. So the noisiest level of training should *be* pure noise: SNR 0 at $t = T - 1$. Is
# this the case?

# %%
rescaled = DDPMSchedule.scaled_linear(rescale_zero_terminal_snr=True)
ends = {**ddpm_schedules, "scaled_linear, rescaled": rescaled}

for name, schedule in ends.items():
    last = schedule.level(999)
    print(f"{name:>24}: α = {last.alpha:.4f} at the end; better than chance there: {best_accuracy(last) > 0.16}")
assert rescaled.terminal_snr == 0 and ddpm_schedules["scaled_linear"].terminal_snr > 0.004
assert best_accuracy(rescaled.level(999)) < 0.15 < 0.2 < best_accuracy(ddpm_schedules["scaled_linear"].level(999))

# %% [markdown]
# On Stable Diffusion's own schedule the accuracy of the best possible classifier is still about **twice that of chance
# at the very last step**. The explanation of forward noising, "at the end the image cannot be distinguished from
# noise", is true for the linear and cosine schedules, and *not quite* true for the schedule that made diffusion famous.
#
# The remedy is one line (Lin et al. 2023, Algorithm 1): shift and stretch $\sqrt{\bar\alpha_t}$ so that it ends at 0
# and keeps its first value. At that last level $\varepsilon$ no longer determines $x_0$ (the determinant for the `eps`
# row of notebook 01's table is $\alpha = 0$), so such a network must predict $v$.

# %%
before, after = ddpm_schedules["scaled_linear"].alphas_cumprod.sqrt(), rescaled.alphas_cumprod.sqrt()

stretched = (before - before[-1]) * before[0] / (before[0] - before[-1])
torch.testing.assert_close(after, stretched, atol=1e-12, rtol=0)

plots.curves({"scaled_linear": (range(900, 1000), before[900:]), "rescaled": (range(900, 1000), after[900:])},
             title="The last hundred steps", xlabel="t", ylabel="α", reference=("pure noise", 0))  # fmt: skip
plt.show()

# %% [markdown]
# ### In colour: the larger the picture, the worse the flaw
#
# Is "about twice that of chance" much? It depends on the size of the picture. Take colour pictures of CIFAR-10's ten
# classes, make them smaller by averaging, and measure the best possible classifier along the log-SNR axis at three
# sizes. (As in notebook 01, these are 200 of the pictures that **our own network generated**, which are part of the
# package; `load_dataset("cifar10")` downloads the real photographs on first use.)

# %%
colour = made_by_model("cifar10")
colour = colour.subset(torch.arange(0, len(colour), 2))
sizes = {side: torch.nn.functional.avg_pool2d(colour.to_float(), 32 // side) for side in (8, 16, 32)}
classifiers = {side: GaussianMixture(x, classes=colour.labels) for side, x in sizes.items()}


def colour_accuracy(side, level):
    """The accuracy of the best possible classifier on the 200 pictures that it knows, at a size and a level."""
    x_t = add_noise(sizes[side], randn(sizes[side].shape, torch.Generator().manual_seed(5)), level)
    return float((classifiers[side].class_probabilities(x_t, level).argmax(1) == colour.labels).double().mean())


visited = np.linspace(-8, 1, 10)
accuracies = {side: [colour_accuracy(side, FlowSchedule().level(1 / (1 + np.exp(log_snr / 2)))) for log_snr in visited]
              for side in sizes}  # fmt: skip
plots.curves({f"{side} × {side}": (visited, accuracy) for side, accuracy in accuracies.items()},
             title="The best possible classifier at three sizes",
             xlabel="log SNR", ylabel="accuracy", reference=("chance", 0.1))  # fmt: skip
plt.show()

half = {side: float(np.interp(0.5, accuracy, visited)) for side, accuracy in accuracies.items()}
print(f"with twice the side an accuracy of 1/2 is reached at a log SNR that is {half[8] - half[16]:.1f}, then "
      f"{half[16] - half[32]:.1f} lower; log 4 is {np.log(4):.1f}")  # fmt: skip
assert 1 < half[8] - half[16] < 2.2 and 1 < half[16] - half[32] < 2.2
for name in ("linear", "scaled_linear"):
    last = ddpm_schedules[name].level(999)
    at_the_end = {f"{side} × {side}": round(colour_accuracy(side, last), 1) for side in sizes}
    print(f"accuracy at the last step of {name}: {at_the_end}")
    assert max(at_the_end.values()) < 0.2 if name == "linear" else max(at_the_end.values()) > 0.2

# %% [markdown]
# Each doubling of the side moves the same curve by about $\log 4$, because there are more pixels to average. So a level
# that hides a small picture completely does not hide a large one. On $32 \times 32$ colour pictures the classifier's
# accuracy is more than twice that of chance at the last step of Stable Diffusion's schedule, although this classifier
# knows only 200 pictures. There are two remedies: zero terminal SNR, as above; and a schedule that is moved towards
# noise by as much as the curve has moved (Hoogeboom et al. 2023, *simple diffusion*, for DDPM's family; section 6 for
# flows).
#
# ## 4 · Flaw two: sampling that does not start at the last level
#
# In practice, sampling does not use all 1,000 steps. If only $n$ of them are used, which ones? There are three
# conventions:
#
# | spacing | visits, for $n = 5$ | used by |
# |---|---|---|
# | leading | every 200th, from 0 upwards | DDIM's code, Stable Diffusion 1.5 |
# | linspace | evenly, both ends included | k-diffusion |
# | trailing | every 200th, from the end downwards | Lin et al., newer models |

# %%
linear = ddpm_schedules["linear"]
for spacing in SPACINGS:
    print(f"{spacing:>9}: {linear.timesteps(5, spacing=spacing).long().tolist()}")
assert linear.timesteps(5, spacing="trailing")[0] == 999 and linear.timesteps(5, spacing="leading")[0] == 800
assert linear.timesteps(1, spacing="leading").tolist() == [0]

# %% [markdown]
# *Leading* never visits $t = 999$. It gives the network pure noise together with the time $t = 800$, where a picture
# should already be faintly visible. The network then predicts as if this noise contained a picture. With one step the
# result is absurd: *leading* visits only $t = 0$ and treats pure noise as an almost clean picture. (And here is the
# off-by-one trap of notebook 01 again: index 0 is *not* the clean picture; the clean picture comes after it. Our lists
# of levels therefore end with an extra level, $\alpha = 1$, $\sigma = 0$.)
#
# How much does it matter? Lin et al. saw washed-out, medium-bright pictures. We can measure the effect *without any
# error of a network*, because for a finite data set the perfect denoiser is known: `ExactDenoiser`. Its samples must
# have the mean brightness of the data set. We draw 200 samples in 20 steps, on Stable Diffusion's schedule.

# %%
perfect = ExactDenoiser(classifier)
x_T = randn((200, 1, 28, 28), generators(200, seed=0))
scaled_linear = ddpm_schedules["scaled_linear"]
ways = {
    "leading": scaled_linear.levels(20, spacing="leading"),
    "trailing": scaled_linear.levels(20, spacing="trailing"),
    "trailing, zero SNR": rescaled.levels(20, spacing="trailing"),
}
samples = {name: final(ddim(perfect, x_T, levels)) for name, levels in ways.items()}

expected = float(known.to_float().mean())
spread = float(known.to_float().mean((1, 2, 3)).std()) / 200**0.5  # standard error of a mean of 200
bias = {name: (float(x.mean()) - expected) / spread for name, x in samples.items()}
for name, error in bias.items():
    print(f"{name:>19}: first t = {ways[name][0].t:.0f}, too bright by over 3 standard errors: {error > 3}")
assert bias["leading"] > 3 and bias["leading"] > bias["trailing"] > 1
assert abs(bias["trailing, zero SNR"]) < 2

pictures = {name: x[:8] for name, x in samples.items()}
plots.filmstrip(pictures, title="The same eight noise images, with a perfect denoiser")
plt.show()

# %% [markdown]
# With leading, the samples are too bright by 3.8 standard errors in this draw: the mean of the noise, 0, affects
# pictures whose mean is $-0.74$. Trailing alone does not remove the error, 2.6 standard errors in this draw (another
# draw of 200 noises moves each of these numbers by about one), because the last level itself still contains a little
# signal; trailing with zero terminal SNR has an error of 0.9 in the other direction, which is
# within chance. All samples are perfect digits of the data set; the error is in *which* digits are drawn: compare the
# three rows in the sixth and seventh column, where bold digits become thin. The denoiser was the same perfect one
# throughout: **the schedule alone caused this.**
#
# ## 5 · EDM: more steps at low noise
#
# Karras et al. do not use a thousand steps. Their time is the noise level itself, from $\sigma_{\max} = 80$ down to
# $\sigma_{\min} = 0.002$. The levels follow a curve with exponent $\rho = 7$ that places more of them at low noise,
# where details are decided:
#
# $$
# \sigma_i = \left(\sigma_{\max}^{1/\rho} + \tfrac{i}{n-1}\,(\sigma_{\min}^{1/\rho} -
# \sigma_{\max}^{1/\rho})\right)^{\rho} \tag{EDM, Eq. 5}
# $$
#
# <small>In code: `schedules.EDMSchedule.timesteps`. Test:
# `tests/test_schedules.py::test_karras_spacing_equals_the_papers_formula_and_diffusers`.</small>
#
# <details><summary>Derivation: what ρ does</summary>
#
# 1. The formula takes equal steps in $u = \sigma^{1/\rho}$, from one end to the other.
# 2. Differentiate $\sigma = u^\rho$: the step in $\sigma$ is $\rho\, u^{\rho - 1}\, \Delta u$, so it is proportional
#    to $\sigma^{1 - 1/\rho}$.
# 3. With $\rho = 1$ all steps are equal. With $\rho \to \infty$ a step is proportional to $\sigma$ itself, which is
#    equal steps in $\log \sigma$. With $\rho = 7$ it is nearly so.
# 4. The *relative* step is proportional to $\sigma^{-1/\rho}$. With $\rho = 7$ it is $(80 / 0.002)^{1/7} = 4.5$ times
#    as large at the last level as at the first. In equal steps of $\log \sigma$, too many levels would be below the
#    smallest detail.
#
# </details>

# %%
i = torch.arange(18, dtype=torch.float64)
by_hand = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7

torch.testing.assert_close(EDMSchedule().timesteps(18), by_hand)

exponents = (1, 3, 7)
plots.curves({f"ρ = {rho}": (range(18), EDMSchedule(rho=rho).timesteps(18)) for rho in exponents}, log="y",
             title="Eighteen noise levels", xlabel="step", ylabel="σ")  # fmt: skip
plt.show()

# %% [markdown]
# ## 6 · Flow matching, and the effect of `shift`
#
# Flow matching has the simplest schedule, a straight line, and one parameter. Stable Diffusion 3 moves the times
# towards noise for larger pictures:
#
# $$ t' = \frac{s\,t}{1 + (s - 1)\,t} \tag{Stable Diffusion 3, Eq. 23} $$
#
# <small>In code: `schedules.FlowSchedule.timesteps`. Test:
# `tests/test_schedules.py::test_flow_levels_equal_diffusers`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. On the straight path $\sigma / \alpha = r = t / (1 - t)$, and so $t = r / (1 + r)$.
# 2. Multiply the ratio by $s$: $t' = \frac{s r}{1 + s r} = \frac{s\,t / (1 - t)}{1 + s\,t / (1 - t)} =
#    \frac{s\,t}{1 - t + s\,t}$, which is the formula.
# 3. The log SNR is $-2 \log r$, so it becomes $-2 \log (s r) = -2 \log r - 2 \log s$.
#
# </details>
#
# The formula looks arbitrary until it is written in terms of the log SNR: `shift` **moves every log SNR by the same
# amount**, $-2 \log s$.

# %%
plain, shifted = FlowSchedule(), FlowSchedule(shift=3.0)

for a, b in zip(plain.levels(8)[1:-1], shifted.levels(8)[1:-1], strict=True):
    assert abs(b.t - 3 * a.t / (1 + 2 * a.t)) < 1e-12
    assert abs((b.log_snr - a.log_snr) - -2 * np.log(3)) < 1e-9
series = {f"shift {s:g}": (range(9), [level.t for level in FlowSchedule(shift=s).levels(8)]) for s in (1.0, 3.0, 6.0)}
plots.curves(series, title="Eight flow steps", xlabel="step", ylabel="t")
plt.show()
print("with shift 3, half of the steps are spent above t =", shifted.levels(8)[4].t)

# %% [markdown]
# Now drag the slider. Each frame shows the same digits at one log SNR as DDPM, EDM and flow matching represent them:
# three different pairs of $\alpha$ and $\sigma$ (see the caption), and the same picture after division by the scale.

# %%
log_snrs = np.linspace(8, -8, 65)
panels = {"DDPM": [], "EDM": [], "flow": []}
captions = []
for log_snr in log_snrs:
    ratio = np.exp(-log_snr / 2)  # σ/α
    levels = {"DDPM": (0, (1 + ratio**2) ** -0.5, ratio * (1 + ratio**2) ** -0.5),
              "EDM": EDMSchedule().level(ratio), "flow": FlowSchedule().level(ratio / (1 + ratio))}  # fmt: skip
    for name, (_, alpha, sigma) in levels.items():
        x_t = add_noise(x_0[:4], eps[:4], (0, alpha, sigma)) / (alpha**2 + sigma**2) ** 0.5
        panels[name].append(mosaic(pixels(x_t), columns=2))
    words = (f"{name} α = {alpha:.2f}, σ = {sigma:.2f}" for name, (_, alpha, sigma) in levels.items())
    captions.append(f"log SNR {log_snr:+.2f} · " + " · ".join(words))
assert all((a == b).mean() > 0.99 for a, b in zip(panels["DDPM"], panels["flow"], strict=True))

widgets.scrub(
    film([(name, f"four digits on the {name} path", sheets) for name, sheets in panels.items()], captions), frame=24
)

# %% [markdown]
# ## 7 · A check: the same numbers as `diffusers`
#
# `diffusers` is the most widely used library for sampling. Its schedulers combine the schedule, the spacing and the
# sampler in one object; our library separates them. If both implement the papers correctly, the numbers agree.

# %%
from diffusers import DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

their_names = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
    "sigmoid": "sigmoid",
}
for name, ours in ddpm_schedules.items():
    betas = {"beta_start": 0.00085, "beta_end": 0.012} if name == "scaled_linear" else {}
    for spacing in SPACINGS:
        theirs = DDPMScheduler(beta_schedule=their_names[name], timestep_spacing=spacing, **betas)
        theirs.set_timesteps(50)
        torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)
        assert ours.timesteps(50, spacing=spacing).tolist() == theirs.timesteps.tolist()

theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
theirs.set_timesteps(18)
np.testing.assert_allclose([level.sigma for level in EDMSchedule().levels(18)], theirs.sigmas, rtol=1e-5)

theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
theirs.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
np.testing.assert_allclose([level.sigma for level in shifted.levels(8)], theirs.sigmas, rtol=1e-6)
print("four DDPM schedules with three spacings, EDM and flow: all equal")

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. While the dots stand, the check tests our own solution,
# which is in the folded cell between the two.
#
# **Exercise 1 · Translate.** At which time $t$ of the flow path is the picture, up to scale, the same as at $t = 700$
# of the linear DDPM schedule? Give it to within 0.001.

# %%
my_flow_t = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
level = linear.level(700)
solution_flow_t = level.sigma / (level.alpha + level.sigma)

# %%
check("02.1", my_flow_t, solution_flow_t)

# %% [markdown]
# **Exercise 2 · A schedule of your own.** Make a `DDPMSchedule` of only 100 steps, all with the *same* $\beta$, whose
# terminal SNR is about that of DDPM's own thousand steps ($4 \cdot 10^{-5}$, to within 5%). Which $\beta$?
# (`DDPMSchedule(betas)` makes the schedule of a tensor of $\beta_t$.)

# %%
my_schedule = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
# SNR = ᾱ / (1 - ᾱ) with ᾱ = (1 - β)^100
alpha_bar = linear.terminal_snr / (1 + linear.terminal_snr)
solution_schedule = DDPMSchedule(torch.full((100,), 1 - alpha_bar ** (1 / 100)))

# %%
check("02.2", my_schedule, solution_schedule)

# %% [markdown]
# **Exercise 3 · Shift for a larger picture.** By the argument of section 2, a picture of $64 \times 64$ is as
# readable as one of $32 \times 32$ at a log SNR that is $\log 4$ lower. Which `shift` moves the whole flow path down
# by that? Give a number to within 0.01. (Stable Diffusion 3 reasons in the same way, Section 5.3.2.)

# %%
my_shift = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_shift = 2.0  # 2 log s = log 4

# %%
check("02.3", my_shift, solution_shift)

# %% [markdown]
# ## What to remember
#
# - A schedule is a time variable with two functions, $\alpha$ and $\sigma$; what is visible depends only on the log
#   SNR.
# - Families differ only in scale and time variable; schedules differ in where they spend their steps.
# - Larger pictures need noisier schedules: the log SNR must be $\log 4$ lower for twice the side.
# - The last level should be pure noise, and sampling should start at it: *zero terminal SNR, trailing spacing*.
# - Stable Diffusion 1.5 does neither, and the error is visible even with a perfect denoiser.
#
# **Next:** [03 · Training to predict noise](03_training_to_predict_noise.ipynb): a network replaces the perfect
# denoiser.
#
# ## References
#
# - J. Ho et al. 2020, [DDPM](https://arxiv.org/abs/2006.11239), Section 4: the linear schedule.
# - A. Nichol, P. Dhariwal 2021, [Improved DDPM](https://arxiv.org/abs/2102.09672), Eq. 17: cosine.
# - R. Rombach et al. 2022, [Latent Diffusion](https://arxiv.org/abs/2112.10752): scaled linear, as Stable Diffusion
#   uses.
# - T. Karras et al. 2022, [EDM](https://arxiv.org/abs/2206.00364), Eq. 5 and Table 1: one framework for many schedules.
# - S. Lin et al. 2023, [Common Diffusion Noise Schedules and Sample Steps are
#   Flawed](https://arxiv.org/abs/2305.08891).
# - E. Hoogeboom, J. Heek, T. Salimans 2023, [simple diffusion](https://arxiv.org/abs/2301.11093): noise by the
#   size of the picture.
# - P. Esser et al. 2024, [Stable Diffusion 3](https://arxiv.org/abs/2403.03206), Eq. 19 and 23: rectified flow and
#   shift.
# - D. Kingma et al. 2021, [Variational Diffusion Models](https://arxiv.org/abs/2107.00630): only the ends of the SNR
#   matter.
