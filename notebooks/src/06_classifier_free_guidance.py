# %% [markdown]
# # 06 · Classifier-free guidance: how strongly to follow the condition
#
# A condition, such as a class, determines what a diffusion model draws. The *guidance scale* determines how strongly
# the model follows the condition. Every text-to-image program has this parameter, usually at about 7, but few users
# know what it multiplies. It multiplies one difference. This notebook examines this difference: first in the plane,
# where everything is known exactly, and then on digits, where everything can be counted.
#
# **When you have worked through it, you can**
#
# - write $\hat\varepsilon = \varepsilon_{\text{uncond}} + w\,(\varepsilon_{\text{cond}} -
#   \varepsilon_{\text{uncond}})$, and say how one network gives both predictions;
# - recognise the other convention, in which the same number has another meaning;
# - show that the difference is the gradient of a classifier that nobody trained;
# - say what distribution guided samples have, and why it is *not* the one that the formula suggests;
# - measure how a guidance scale changes accuracy and diversity;
# - use a negative condition, a guidance interval and a rescaling, and count the network evaluations of each.
#
# *Beside you:* Ho & Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598). About 35
# minutes to read, under a minute to run.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    ExactDenoiser,
    FlowSchedule,
    GaussianMixture,
    NetworkDenoiser,
    bundled_mnist,
    euler,
    final,
    heun,
    load_pretrained,
    metrics,
    plots,
    randn,
)
from diffusion_explained.exercises import check
from diffusion_explained.guidance import guide
from diffusion_explained.pretrained import load_classifier
from diffusion_explained.widgets import scrub

plt.rcParams["figure.dpi"] = 110

# %% [markdown]
# ## 1 · One network, two predictions
#
# A conditional network $\varepsilon_\theta(x_t, t, c)$ receives the class $c$ as an input. To get an unconditional
# prediction from the same weights, **hide the class during training, one time in ten** (class dropout): replace it by a
# special *null label* $\varnothing$. The network then also learns to predict without a class.
#
# $$ c \leftarrow \varnothing \ \text{ with probability } 10\,\% \tag{Ho & Salimans, Algorithm 1, line 3} $$
#
# <small>In code: `training.train`. Test:
# `tests/test_training.py::test_labels_are_dropped_to_the_null_label_as_often_as_asked`.</small>
#
# In our digit networks the null label is number 10. The next cell computes both predictions for one noisy batch:

# %%
model = load_pretrained("mnist_unet_flow")
threes, x_T = torch.full((8,), 3), model.noise(8, seed=0)
level = model.schedule.level(0.75)

with_class = model.denoiser(threes, guidance_scale=1)
steps = list(euler(with_class, x_T, model.schedule.levels(20)))
x_t = steps[5].x_t  # t = 0.75, on the path to eight threes
cond, uncond = with_class(x_t, level), model.denoiser()(x_t, level)
plots.filmstrip({"$x_t$": x_t, "prediction for “3”": cond.x_0, "without a class": uncond.x_0},
                title="Two predictions from the same noise, t = 0.75")  # fmt: skip
plt.show()

print(f"null label: {model.num_classes}; dropped in training: {model.card['recipe']['training']['label_dropout']:.0%}")
print(f"the two predictions differ: {bool((cond.eps - uncond.eps).abs().mean() > 0.01)}")
assert steps[5].level.t == level.t

# %% [markdown]
# ## 2 · The subtraction
#
# The difference between the two predictions is the effect of the class. Guidance adds this difference $w$ times:
#
# $$
# \hat\varepsilon = \varepsilon_{\text{uncond}}
# + w \left( \varepsilon_{\text{cond}} - \varepsilon_{\text{uncond}} \right)
# $$
#
# <small>In code: `guidance.guide`. Test:
# `tests/test_denoisers.py::test_the_convention_of_guidance_scale`.</small>
#
# $w = 0$ ignores the class, $w = 1$ is the plain conditional model (guidance *off*), $w > 1$ exaggerates the effect of
# the class. The library's `guide` is this line, and `model.denoiser(labels, guidance_scale=w)` applies it at every
# step.

# %%
for w in (0.0, 1.0, 2.0, 5.0):
    pred = model.denoiser(threes, guidance_scale=w)(x_t, level)
    torch.testing.assert_close(pred.eps, uncond.eps + w * (cond.eps - uncond.eps), atol=1e-3, rtol=0)
    torch.testing.assert_close(pred.eps, guide(cond.eps, uncond.eps, w), atol=1e-3, rtol=0)
    # noise, picture and velocity are linear in one another at one level, so any of them may be guided
    torch.testing.assert_close(pred.x_0, guide(cond.x_0, uncond.x_0, w), atol=1e-3, rtol=0)
print("guiding the noise and guiding the picture are the same thing, at every scale")

# %% [markdown]
# > **The convention trap.** The paper itself writes $\tilde\varepsilon = (1 + w')\, \varepsilon_{\text{cond}} - w'\,
# > \varepsilon_{\text{uncond}}$ (Eq. 6). There, $w' = 0$ is off. Most software (and this course) uses
# > $w = 1 + w'$, where 1 is off. "Guidance 3" in a paper may be a 4 here. Before you compare numbers, check which value
# > switches guidance off.

# %%
w = 4.0
paper = (1 + (w - 1)) * cond.eps - (w - 1) * uncond.eps
mixed_up = (1 + w) * cond.eps - w * uncond.eps

torch.testing.assert_close(paper, guide(cond.eps, uncond.eps, w), atol=1e-4, rtol=0)
torch.testing.assert_close(mixed_up, guide(cond.eps, uncond.eps, w + 1), atol=1e-4, rtol=0)
print(f"w = {w:.0f} here is w' = {w - 1:.0f} in the paper; without the conversion, guidance is stronger by 1")

# %% [markdown]
# ## 3 · An implicit classifier
#
# Why does this difference push towards the class? The predicted noise is, up to scale, the score (notebook 04):
# $\varepsilon = -\sigma_t \nabla \log p_t$. So the difference between the predictions is a difference of scores, and by
# Bayes' rule
#
# $$
# -\frac{\varepsilon_{\text{cond}} - \varepsilon_{\text{uncond}}}{\sigma_t}
# = \nabla_{x_t} \log p_t(x_t \mid c) - \nabla_{x_t} \log p_t(x_t)
# = \nabla_{x_t} \log p_t(c \mid x_t).
# $$
#
# <small>In code: `exact.ExactDenoiser`. Test:
# `tests/test_exact.py::test_labels_choose_components_and_guidance_extrapolates`.</small>
#
# It is the gradient of a **classifier** on noisy data, "in which direction does this become more like a 3?", and no
# classifier was trained: hence the name. The next cell checks this exactly, for three overlapping classes in the plane,
# whose Bayes classifier is known.

# %%
centres = torch.tensor([[-1.0, -0.4], [1.0, -0.4], [0.0, 1.0]])
mixture = GaussianMixture(centres, std=0.55, classes=torch.arange(3))
flow = FlowSchedule()
here = flow.level(0.4)
at = plots.plane(2.6, bins=14)
class_0 = torch.zeros(len(at), dtype=torch.int64)

pred = ExactDenoiser(mixture, class_0, guidance_scale=2.0)(at, here)
push = -(pred.eps_cond - pred.eps_uncond) / here.sigma

x = at.clone().requires_grad_()
(gradient,) = torch.autograd.grad(mixture.class_probabilities(x, here)[:, 0].log().sum(), x)
torch.testing.assert_close(push, gradient.to(push), atol=1e-3, rtol=1e-3)
print("the guidance direction is the gradient of log p(class | x_t): largest difference under 0.001")

points, k = mixture.sample(900, torch.Generator().manual_seed(0))
plots.vector_field(at, push, data=points[k == 0], limit=2.6, title="Where guidance towards class 0 pushes")
plt.show()

# %% [markdown]
# Inside the class (the dots) the arrows are short: there, the class is already certain. They are longest deep inside
# the *other* classes, where class 0 is least likely, and they do *not* point at the centre of the class. They point
# **away from the other classes**.
#
# ## 4 · The distribution of guided samples
#
# Multiply the score of a classifier by $w$, and it looks as if we sampled from the *sharpened* density
#
# $$ p_w(x \mid c) \;\propto\; p(x)\; p(c \mid x)^w, $$
#
# <small>In code: `exact.GaussianMixture.log_density`, `exact.GaussianMixture.class_probabilities`. Test:
# `tests/test_exact.py::test_class_probabilities_are_bayes_rule`.</small>
#
# <details><summary>Derivation: guidance is not the flow of this density</summary>
#
# 1. The guided prediction, as a score, is $\nabla \log p_t(x_t) + w\, \nabla \log p_t(c \mid x_t)$, by Bayes' rule of
#    section 3. For clean data ($t = 0$) this is the score of $p_w$.
# 2. A sampler of $p_w$ needs the score of *noisy* samples of $p_w$ at every $t$. Their density is $\int p_w(x_0 \mid
#    c)\, \mathcal N(x_t;\, \alpha_t x_0,\, \sigma_t^2 \mathbf I)\, dx_0 \;\propto\; p_t(x_t)\; \mathbb E \left[ p(c
#    \mid x_0)^w \mid x_t \right]$, because $p(x_0)\, \mathcal N = p_t(x_t)\, p(x_0 \mid x_t)$.
# 3. Guidance has $p_t(c \mid x_t)^w = \left( \mathbb E \left[ p(c \mid x_0) \mid x_t \right] \right)^w$ in its place:
#    the power of the mean, and not the mean of the power. They are equal for $w = 0$ and $w = 1$, and where $x_t$
#    already determines $p(c \mid x_0)$, which is near the data.
# 4. For $w > 1$ the mean of the power is larger. In strong noise it still counts the few pictures that are certainly
#    of the class; the power of the mean does not. So the guided scores at different $t$ belong to no common density,
#    and the path that follows them ends in a distribution of its own.
#
# </details>
#
# the same class with fewer ambiguous cases. That is the usual explanation of guidance (Ho & Salimans, Sec. 3). In the
# plane both the sharpened density and the guided samples can be computed:

# %%
limit, w = 3.2, 4.0
grid, clean = plots.plane(limit), flow.clean
log_p, log_p_class = mixture.log_density(grid, clean), mixture.class_probabilities(grid, clean)[:, 0].log()
starts = randn((2000, 2), torch.Generator().manual_seed(1))
towards_0 = torch.zeros(2000, dtype=torch.int64)

sampled = {
    scale: final(heun(ExactDenoiser(mixture, towards_0, guidance_scale=scale), starts, flow.levels(50)))
    for scale in (1.0, w)
}
panels = {f"w = {scale:.0f}": (log_p + scale * log_p_class).softmax(0) for scale in sampled}
plots.density_panels(panels, limit, points={f"w = {scale:.0f}": x for scale, x in sampled.items()},
                     title="Colour: the sharpened density.  White: guided samples")  # fmt: skip
plt.show()

for scale, x in sampled.items():
    sharpened = (log_p + scale * log_p_class).softmax(0)
    density_mean = (sharpened[:, None] * grid).sum(0)
    print(f"w = {scale:.0f}: mean of the sharpened density {[round(v, 1) for v in density_mean.tolist()]}, "
          f"of the samples {[round(v, 1) for v in x.mean(0).tolist()]}")  # fmt: skip
    apart = float((x.mean(0) - density_mean).norm())
    assert apart < 0.05 if scale == 1 else apart > 0.5

# %% [markdown]
# At $w = 1$ they agree, as they must. At $w = 4$ the samples **overshoot**: they lie beyond the sharpened density, at
# places where the class itself has almost no probability. The reason is this: the sharpened score at level $t$,
# $\nabla \log p_t(x) + w \nabla \log p_t(c \mid x)$, is not the score of the *noised* sharpened density. Sharpening and
# noising do not commute. At high noise the classifier is uncertain, its gradient extends over a long range, and it
# moves points that a sampler of $p_w$ would not move (Bradley & Nakkiran 2024, *Classifier-Free Guidance is a
# Predictor-Corrector*).
#
# Remember this result: *guidance moves samples to the far edge of the class*; they are narrow, exaggerated, and away
# from the other classes. On images the effect is called "vivid" at moderate scales, and "oversaturated" at large ones.

# %%
spread = {scale: x.std(0).mean() for scale, x in sampled.items()}
share = {scale: mixture.class_probabilities(x, clean)[:, 0].mean() for scale, x in sampled.items()}
print(f"seen as class 0 by Bayes' classifier: {share[1.0]:.0%} at w = 1, over 99% at w = 4: {bool(share[w] > 0.99)}")
print(f"standard deviation: {spread[1.0]:.2f} at w = 1, {spread[w]:.2f} at w = 4")
assert share[1.0] < 0.93 and share[w] > 0.99 and spread[w] < 0.75 * spread[1.0]

# %% [markdown]
# ## 5 · On digits
#
# Every row starts from the same noise; only the scale changes. Without the class ($w = 0$) any digit can appear. At 1
# the digits nearly always have the requested class. And at 8?

# %%
classes = torch.arange(10)
x_T, levels = model.noise(10, seed=20), model.schedule.levels(10)
shown = {w: final(euler(model.denoiser(classes, guidance_scale=w), x_T, levels)) for w in (0.0, 1.0, 2.0, 4.0, 8.0)}
plots.filmstrip({f"w = {w:.0f}": x for w, x in shown.items()}, captions=model.class_names,
                title="One noise, five scales")  # fmt: skip
plt.show()
read = {w: metrics.class_accuracy(x.clamp(-1, 1), classes) for w, x in shown.items()}
assert read[0.0] < 0.5 and read[2.0] == read[4.0] == read[8.0] == 1

# %% [markdown]
# Move the slider through one guided run. The last rows are the two predictions and their difference. At which steps is
# the difference large?

# %%
guided_steps = list(euler(model.denoiser(classes, guidance_scale=3.0), x_T, model.schedule.levels(20)))
scrub(guided_steps, columns=10, frame=8)

# %% [markdown]
# ### A measurement
#
# Now a sweep over scales, from the **same noise** so that only the scale differs: 100 digits in ten steps, for each
# scale. There are three numbers:
#
# - *accuracy*: the share of samples that the classifier assigns to the requested class;
# - *diversity*: the mean distance between samples of one class, in the classifier's features;
# - *saturation*: the share of the pixels' total absolute value that lies beyond $[-1, 1]$, where no pixel of a real
#   digit is.

# %%
targets = torch.arange(100) % 10
start = model.noise(100, seed=100)


def measure(x_0):
    """(accuracy, diversity, saturation) of 100 samples of the target classes."""
    seen = x_0.clamp(-1, 1)
    outside = (x_0.abs() - 1).clamp(min=0).mean() / x_0.abs().mean()
    return metrics.class_accuracy(seen, targets), metrics.diversity(seen, targets), float(outside)


scales = [0.0, 1.0, 2.0, 4.0, 8.0]
swept = {w: final(euler(model.denoiser(targets, guidance_scale=w), start, levels)) for w in scales}
sweep = {w: measure(x) for w, x in swept.items()}
for w, (accuracy, diversity, saturation) in sweep.items():
    print(f"w = {w:<3}: accuracy {accuracy:4.0%}, diversity {diversity:.1f}, saturation {saturation:.1%}")
digits = bundled_mnist()
real = torch.stack([digits.of_class(k).to_float()[:10] for k in range(10)], dim=1).flatten(0, 1)
print(f"real digits: diversity {metrics.diversity(real, targets):.1f}")
accuracies, diversities, saturations = zip(*sweep.values(), strict=True)
plots.guidance_sweep(scales, accuracies, diversities)
plt.show()

by_scale = dict(zip(scales, zip(accuracies, diversities, saturations, strict=True), strict=True))
assert by_scale[0.0][0] < 0.25 and by_scale[2.0][0] >= by_scale[1.0][0] and min(accuracies[2:]) > 0.97
assert by_scale[1.0][1] > by_scale[2.0][1] > by_scale[8.0][1]
assert by_scale[8.0][2] > 2 * by_scale[2.0][2]

# %% [markdown]
# Without guidance these digits are as diverse as real ones, and one in fifty has the wrong class. At scale 2 all have
# the requested class; larger scales only cost diversity and move pixels out of their range. What about the often
# recommended scales of "5 to 15"? Those are for text to image: a sentence is a far harder condition than one of ten
# classes, and the plain conditional model ($w = 1$) follows it far less. *The shape of the curves is general; the
# numbers are not.* With a classifier at hand, the best scale can be measured, as above.
#
# ### In colour
#
# The ten classes of CIFAR-10's colour pictures are harder to follow than ten digits. Here is the same measurement on 20
# samples, with a flow and a classifier that were trained on CIFAR-10 (the data set itself is not needed here;
# `load_dataset` downloads it). These are few pictures, so the numbers show only a trend; the README has numbers for
# thousands of samples.

# %%
colour, colour_classifier = load_pretrained("cifar10_unet_flow"), load_classifier("cifar10_classifier")
colour_classes, colour_noise = torch.arange(20) % 10, colour.noise(20, seed=0)
in_colour = {
    w: final(euler(colour.denoiser(colour_classes, guidance_scale=w), colour_noise, colour.schedule.levels(8)))
    for w in (1.0, 2.0, 5.0)
}
plots.filmstrip({f"w = {w:.0f}": x[:10] for w, x in in_colour.items()}, captions=colour.class_names,
                title="One noise, three scales")  # fmt: skip
plt.show()

accuracy_of = {
    w: metrics.class_accuracy(x.clamp(-1, 1), colour_classes, colour_classifier) for w, x in in_colour.items()
}
diversity_of = {w: metrics.diversity(x.clamp(-1, 1), colour_classes, colour_classifier) for w, x in in_colour.items()}
contrast = {w: float(x.clamp(-1, 1).std(dim=(1, 2, 3)).mean()) for w, x in in_colour.items()}
for w in in_colour:
    print(f"w = {w:.0f}: accuracy {accuracy_of[w]:.1f}; relative to w = 1, diversity "
          f"{diversity_of[w] / diversity_of[1.0]:.2f}, contrast {contrast[w] / contrast[1.0]:.1f}")  # fmt: skip
assert accuracy_of[1.0] < accuracy_of[2.0] <= accuracy_of[5.0] and accuracy_of[5.0] > 0.9
assert diversity_of[1.0] > 1.1 * diversity_of[2.0] and contrast[5.0] > 1.1 * contrast[1.0]

# %% [markdown]
# The curves have the same shape as on digits: at scale 2 accuracy is higher, and the pictures of one class are more
# alike. Larger scales, up to 5, add little except contrast. Look at the sky and the cars: they are *vivid* at first,
# then oversaturated, as section 4 predicts.

# %% [markdown]
# ## 6 · Negative conditions
#
# The reference prediction need not be that of the null label. Replace it by the prediction for *an unwanted condition*,
# and guidance moves away from this condition. This is the definition of a "negative prompt":
#
# $$
# \hat\varepsilon = \varepsilon_{\text{negative}} + w\,(\varepsilon_{\text{cond}} - \varepsilon_{\text{negative}}).
# $$
#
# <small>In code: `guidance.guide`. Test:
# `tests/test_denoisers.py::test_a_negative_class_stands_on_the_unconditional_side`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. Both predictions are scores, $\varepsilon = -\sigma_t \nabla \log p_t$. So the guided prediction is $-\sigma_t
#    \nabla \log \left[ p_t(x_t \mid \text{neg}) \left( \frac{p_t(x_t \mid c)}{p_t(x_t \mid \text{neg})} \right)^{w}
#    \right]$.
# 2. The bracket is $p_t(x_t \mid c)^w\; p_t(x_t \mid \text{neg})^{1 - w}$. For $w > 1$ the negative condition has a
#    negative power: pictures that are likely under it become unlikely, also those that $c$ has in common with it.
#
# </details>
#
# First with the null label as the condition and class 8 as the negative one: *draw any digit except 8*.

# %%
null, eights = torch.full((100,), model.num_classes), torch.full((100,), 8)


def away_from_8(w):
    return NetworkDenoiser(model.network, model.schedule, model.kind, cond=null, uncond=eights, guidance_scale=w)


without_class = model.denoiser()(start, levels[0]).x_0
torch.testing.assert_close(away_from_8(1.0)(start, levels[0]).x_0, without_class)  # at w = 1 the eights have no effect
pictures = {1.0: swept[0.0].clamp(-1, 1), 3.0: final(euler(away_from_8(3.0), start, levels)).clamp(-1, 1)}
share_of_8 = {w: metrics.class_coverage(x).counts[8] / 100 for w, x in pictures.items()}
print("share of eights:", {f"w = {w:.0f}": round(share, 2) for w, share in share_of_8.items()})
rows = {"anything": pictures[1.0], "anything but 8": pictures[3.0]}
plots.filmstrip({name: x[:12] for name, x in rows.items()}, title="The same noise, with an unwanted class")
plt.show()
assert share_of_8[1.0] > 0.04 and share_of_8[3.0] < 0.01

# %% [markdown]
# No eight is left. Compare the columns: some other digits have changed too, because a push away from one class is a
# push towards others. And note the convention once more: at $w = 1$ a negative condition has **no effect**, because the
# formula is then $\varepsilon_{\text{cond}}$ alone. Negative prompts need a guidance scale other than 1.

# %% [markdown]
# ## 7 · Two corrections: an interval, and a rescaling
#
# Two cheap methods reduce the side effects of large scales.
#
# **Guide only at middle noise levels** (Kynkäänniemi et al. 2024). At high noise guidance fixes the picture too early
# and costs diversity; at low noise nothing is left to decide, and guidance only adds contrast.
# `guidance_interval=(low, high)` guides where $\mathit{low} \le \sigma / \alpha \le \mathit{high}$.
#
# **Rescale the contrast** (Lin et al. 2023, Eq. 15-16). Guided predictions have a larger standard deviation than
# conditional ones; scale them back to the same standard deviation, by a share $\varphi$: `guidance_rescale=0.7`.

# %%
ways = {
    "w = 8, in the middle": {"guidance_interval": (0.3, 3.0)},
    "w = 8, rescaled": {"guidance_rescale": 0.7},
}
corrected = {"w = 8": swept[8.0]} | {
    name: final(euler(model.denoiser(targets, guidance_scale=8.0, **options), start, levels))
    for name, options in ways.items()
}
for name, x in corrected.items():
    accuracy, diversity, saturation = measure(x)
    print(f"{name:>20}: accuracy {accuracy:4.0%}, diversity {diversity:.1f}, saturation {saturation:.1%}")
plots.filmstrip({name: x[:10] for name, x in corrected.items()}, captions=model.class_names,
                title="Two corrections of a large scale")  # fmt: skip
plt.show()

plain, middle, rescaled = (measure(x) for x in corrected.values())
assert min(plain[0], middle[0], rescaled[0]) > 0.97
assert middle[1] > 1.2 * plain[1] and middle[2] < 0.6 * plain[2]  # more diverse, less saturated
assert rescaled[2] < 0.7 * plain[2]

# %% [markdown]
# Both keep the accuracy. The interval also restores much of the diversity, since it does not guide the first steps,
# which decide the large shapes; and it saves network evaluations, as the next section counts.

# %% [markdown]
# ## 8 · The cost of guidance
#
# Two predictions are two network evaluations. They are independent, so the denoiser computes both at once, as **one
# batch of twice the size**; and where $w = 1$ it does not compute the unconditional prediction. Count the images that
# pass through the network:

# %%
batches = []
hook = model.network.register_forward_pre_hook(lambda module, inputs: batches.append(len(inputs[0])))
for name, options in {
    "w = 1": {"guidance_scale": 1.0},
    "w = 3": {"guidance_scale": 3.0},
    "w = 3, interval": {"guidance_scale": 3.0, "guidance_interval": (0.3, 3.0)},
}.items():
    batches.clear()
    final(euler(model.denoiser(classes, **options), x_T, levels))
    print(f"{name}: {len(batches)} forward passes, {sum(batches)} images through the network")
    assert len(batches) == 10 and set(batches) <= {10, 20}
    assert sum(batches) == {"w = 1": 100, "w = 3": 200}.get(name, sum(batches))
hook.remove()

# %% [markdown]
# There is one forward pass per step in each case, with twice the images where guidance is on; the interval saves a part
# of this.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · Convert.** A paper reports its best results with "guidance weight 1.5" and uses Eq. 6 of Ho & Salimans.
# Which `guidance_scale` is the same, to within 0.01?

# %%
my_scale = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_scale = 2.5

# %%
check("06.1", my_scale, solution_scale)

# %% [markdown]
# **Exercise 2 · Several conditions at once.** Conditions can be composed (Liu et al. 2022, *Compositional Visual
# Generation*, Eq. 11): from the unconditional prediction, move by the push of each condition, times its own weight.
# Write `my_compose(uncond, conds, weights)`; `conds` is a list of predictions, and `weights` a list of as many numbers.
# What does a negative weight mean?

# %%
my_compose = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_compose(uncond, conds, weights):
    return uncond + sum(weight * (cond - uncond) for cond, weight in zip(conds, weights, strict=True))


# %%
check("06.2", my_compose, solution_compose)

# %% [markdown]
# A negative weight moves away from its condition, as in section 6; but it is added to guidance from the null label
# instead of replacing the null label.
#
# **Exercise 3 · Overshoot in the plane.** At which scale, to within 0.5, does the mean of the guided samples of section
# 4 first leave the two-sigma circle of the class, $|\bar x - \mu_0| > 2 \cdot 0.55$? Guess from the figure, then
# search. (`mean_of(w)` gives the mean.)


# %%
def mean_of(w):
    """The mean of 500 guided samples of class 0."""
    denoise = ExactDenoiser(mixture, towards_0[:500], guidance_scale=w)
    return final(heun(denoise, starts[:500], flow.levels(20))).mean(0)


my_leaving_scale = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
solution_leaving_scale = next(w / 2 for w in range(2, 40) if (mean_of(w / 2) - centres[0]).norm() > 1.1)

# %%
check("06.3", my_leaving_scale, solution_leaving_scale)

# %% [markdown]
# ## What to remember
#
# - With class dropout in one case of ten, one network gives two predictions; guidance exaggerates their difference.
# - The difference is the gradient of an implicit classifier. Guided samples overshoot the sharpened density.
# - With a larger scale, accuracy rises fast and saturates; diversity falls; pixels leave their range.
# - The subtracted prediction may have any condition. An interval and a rescaling reduce the side effects of large
#   scales.
# - Guidance doubles the network evaluations of the steps where it is on, in one batch of $2B$.
#
# **Next:** [07 · U-Net and DiT, inside](07_unet_and_dit.ipynb): the two networks that are guided.
#
# ## References
#
# - J. Ho, T. Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598): class dropout
#   (Algorithm 1), the formula in the other convention (Eq. 6).
# - P. Dhariwal, A. Nichol 2021, [Diffusion Models Beat GANs on Image Synthesis](https://arxiv.org/abs/2105.05233):
#   guidance by a separate classifier (Sec. 4), the predecessor of classifier-free guidance.
# - C. Saharia et al. 2022, [Imagen](https://arxiv.org/abs/2205.11487): the convention used here (Eq. 2), and
#   saturation.
# - T. Kynkäänniemi et al. 2024, [Applying Guidance in a Limited Interval](https://arxiv.org/abs/2404.07724).
# - S. Lin et al. 2023, [Common Diffusion Noise Schedules and Sample Steps are
#   Flawed](https://arxiv.org/abs/2305.08891): rescaling (Eq. 15-16).
# - A. Bradley, P. Nakkiran 2024, [Classifier-Free Guidance is a Predictor-Corrector](https://arxiv.org/abs/2408.09000).
# - N. Liu et al. 2022, [Compositional Visual Generation](https://arxiv.org/abs/2206.01714).
