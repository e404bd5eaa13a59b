# %% [markdown]
# # 03 · Training to predict noise
#
# Notebook 01 ended with a perfect generator that had one flaw: it had to know the picture beforehand. Here a network
# learns to predict it. The training is remarkably *ordinary*: it is regression, with the mean squared error between two
# vectors, and an unlimited supply of training data. You will train three networks: one on points in the plane, where
# the perfect prediction is known, so that we can say exactly how good the network is; a GAN, for comparison; and one on
# real digits, from random weights to recognisable samples, here, in half a minute.
#
# **When you have worked through it, you can**
#
# - write DDPM's Algorithm 1 in five lines, and say why the loss does *not* go to zero;
# - split the loss into a part that no network can reduce and a part that the network has yet to learn;
# - explain why predicting noise is estimating the score, $\nabla \log p_t(x_t) = -\varepsilon / \sigma_t$;
# - say what a GAN does when it collapses, and why regression does not collapse;
# - train a U-Net on digits with a moving average and class dropout, and measure its samples.
#
# *Beside you:* Ho et al. 2020, [DDPM](https://arxiv.org/abs/2006.11239), Section 3.2 to 3.4. About 40 minutes to
# read; it trains for about a minute.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from tqdm.auto import tqdm

from diffusion_explained import (
    MLP,
    DDPMSchedule,
    ExactDenoiser,
    GaussianMixture,
    MLPConfig,
    NetworkDenoiser,
    TrainConfig,
    UNet,
    UNetConfig,
    add_noise,
    bundled_mnist,
    ddim,
    film,
    final,
    gaussian_modes,
    load_pretrained,
    made_by_model,
    metrics,
    models,
    plots,
    predictions,
    randn,
    toy,
    train,
    widgets,
)
from diffusion_explained.exercises import check
from diffusion_explained.training import draw, gan, training_loss

plt.rcParams["figure.dpi"] = 110
torch.manual_seed(0)
cores = torch.get_num_threads()
torch.set_num_threads(1)  # a batch of points is too little work to share among cores
schedule = DDPMSchedule.linear()

# %% [markdown]
# ## 1 · The whole training algorithm
#
# Draw a picture $x_0$, a time $t$ and noise $\varepsilon$; mix them; let the network predict the noise; compare.
#
# $$
# L = \mathbb E_{x_0,\, t,\, \varepsilon}\;
# \big\lVert \varepsilon - \varepsilon_\theta(\underbrace{\alpha_t x_0 + \sigma_t \varepsilon}_{x_t},\; t)
# \big\rVert^2 \tag{DDPM, Eq. 14}
# $$
#
# <small>In code: `training.training_loss`. Test:
# `tests/test_training.py::test_every_step_is_the_papers`.</small>
#
# <details><summary>Derivation: from the likelihood to this loss</summary>
#
# 1. The model is a chain, $p_\theta(x_{0:T}) = p(x_T) \prod_t p_\theta(x_{t-1} \mid x_t)$. Jensen's inequality bounds
#    its likelihood: $-\log p_\theta(x_0) \le \mathbb E_q \left[ -\log \frac{p_\theta(x_{0:T})}{q(x_{1:T} \mid x_0)}
#    \right]$.
# 2. Write $q(x_{1:T} \mid x_0) = q(x_T \mid x_0) \prod_{t > 1} q(x_{t-1} \mid x_t, x_0)$. The bound becomes a sum of
#    one divergence per step, $L_{t-1} = \mathrm{KL}\left( q(x_{t-1} \mid x_t, x_0)\, \big\Vert\, p_\theta(x_{t-1}
#    \mid x_t) \right)$, and two terms for the ends of the chain (DDPM, Eq. 5).
# 3. Let both be Gaussians with the variance $\tilde\beta_t$. Their divergence is $\lVert \tilde\mu_t - \mu_\theta
#    \rVert^2 / (2 \tilde\beta_t)$.
# 4. Let $\mu_\theta$ be the posterior's mean of notebook 01 with $\hat x_0$ in the place of $x_0$. The means differ
#    by $\frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} (x_0 - \hat x_0)$, and $x_0 - \hat x_0 =
#    -\frac{\sigma_t}{\alpha_t} (\varepsilon - \varepsilon_\theta)$.
# 5. Insert both: $L_{t-1} = w_t\, \lVert \varepsilon - \varepsilon_\theta \rVert^2$ with $w_t = \frac{\beta_t}{2\,
#    (1 - \beta_t)\, (1 - \bar\alpha_{t-1})}$ (DDPM, Eq. 12, for this variance).
# 6. Eq. 14 sets every $w_t$ to 1. On the linear schedule the bound's own $w_t$ is 0.60 at the paper's $t = 2$ and
#    0.010 at $t = 1000$: compared with the bound, Eq. 14 counts noisy levels about 60 times more.
#
# </details>
#
# We start in the plane. The "pictures" are points from eight round Gaussians on a ring; the network is a small MLP
# whose inputs are a point and a time.

# %%
means, std = gaussian_modes("eight_gaussians")
data, _ = toy("eight_gaussians", 20_000, seed=0)
network = MLP(MLPConfig(width=128, layers=3))
adam = torch.optim.Adam(network.parameters(), lr=3e-3)
decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=1500)
stream, losses = torch.Generator().manual_seed(0), []

for _ in tqdm(range(1500), desc="points"):
    # Algorithm 1 of DDPM, lines 2 to 5 (line 1 is "repeat")
    x_0 = data[torch.randint(len(data), (256,), generator=stream)]
    t = schedule.sample_t(256, stream)
    eps = torch.randn(256, 2, generator=stream)
    alpha, sigma, time = schedule.alpha(t), schedule.sigma(t), schedule.network_time(t)
    loss = training_loss(network, "eps", x_0, eps, alpha, sigma, time)

    loss.backward()
    adam.step()
    adam.zero_grad()
    decay.step()
    losses.append(float(loss.detach()))

x_t = add_noise(x_0, eps, (t, alpha, sigma))
loss = (network(x_t, time) - eps).square().mean()  # Eq. 14, once more by hand
torch.testing.assert_close(training_loss(network, "eps", x_0, eps, alpha, sigma, time), loss)
plots.loss_curve(range(1500), losses, title="Training loss on points: predicting the noise")
plt.show()
early, late = sum(losses[:50]) / 50, sum(losses[-300:]) / 300
print(f"the loss of an untrained network is 1, the variance of the noise; at the end it is about {late:.1f}")
assert losses[0] > 0.8 and late < 0.27 < early

# %% [markdown]
# ## 2 · Why the loss does not go to zero
#
# The loss falls, and then it stays constant. Is the network too small? Before you try a larger one: *the noise cannot
# be predicted exactly*. Many pairs $(x_0, \varepsilon)$ lead to the same $x_t$. The best prediction is the mean of all
# possible noises, $\mathbb E[\varepsilon \mid x_t]$, and the true noise varies around this mean. The loss splits
# exactly into two parts, as in Pythagoras' theorem:
#
# $$
# \underbrace{\mathbb E\lVert \varepsilon - \varepsilon_\theta \rVert^2}_{\text{loss}}
# = \underbrace{\mathbb E\lVert \varepsilon - \mathbb E[\varepsilon \mid x_t] \rVert^2}_{\text{irreducible error}}
# + \underbrace{\mathbb E\lVert \mathbb E[\varepsilon \mid x_t] - \varepsilon_\theta \rVert^2}_{\text{regret: what is
# left to learn}}
# $$
#
# <small>In code: `exact.ExactDenoiser`. Test:
# `tests/test_exact.py::test_the_posterior_mean_is_the_best_regression`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. Let $m = \mathbb E[\varepsilon \mid x_t]$, and write $\varepsilon - \varepsilon_\theta = (\varepsilon - m) + (m -
#    \varepsilon_\theta)$. The square has the two parts, and the cross term $2\, \mathbb E \langle \varepsilon - m,\,
#    m - \varepsilon_\theta \rangle$.
# 2. Take the mean for a fixed $x_t$ first. The second factor is then a constant, because $m$ and $\varepsilon_\theta$
#    are functions of $x_t$ (and $t$) alone; the first factor has the mean $m - m = 0$.
# 3. So the cross term is 0. Nothing was used about Gaussians: the split holds for every regression, and the
#    conditional mean is its best prediction.
#
# </details>
#
# For a mixture of Gaussians this mean is known in closed form. `ExactDenoiser` is the limit of a network with unlimited
# data, weights and training time.

# %%
mixture = GaussianMixture(means, std)
exact = ExactDenoiser(mixture)
learned = NetworkDenoiser(network, schedule, "eps")

times = [0, 10, 20, 50, 100, 150, 200, 300, 400, 500, 600, 800, 999]
x_0, _ = mixture.sample(8000, torch.Generator().manual_seed(1))
eps = torch.randn(8000, 2, generator=torch.Generator().manual_seed(2))
loss, irreducible, regret = [], [], []
for t in times:
    level = schedule.level(t)
    x_t = add_noise(x_0, eps, level)
    best, predicted = exact(x_t, level).eps, learned(x_t, level).eps
    loss.append(float((predicted - eps).square().mean()))
    irreducible.append(float((best - eps).square().mean()))
    regret.append(float((best - predicted).square().mean()))

plots.curves({"loss of our network": (times, loss), "irreducible error": (times, irreducible),
              "regret": (times, regret)}, title="The loss and its two parts", xlabel="t",
             ylabel="mean squared error")  # fmt: skip
plt.show()
assert all(abs(a - (b + c)) < 0.03 for a, b, c in zip(loss, irreducible, regret, strict=True))  # Pythagoras
assert all(b <= a + 0.01 for a, b in zip(loss, irreducible, strict=True))  # the exact denoiser is best
worst = times[max(range(len(times)), key=regret.__getitem__)]
print(f"the regret is under 0.02 for t >= 200: {max(regret[times.index(200) :]) < 0.02}; "
      f"it is largest at a smaller t: {worst < 200}")  # fmt: skip
assert max(regret[times.index(200) :]) < 0.02 and worst < 200

# %% [markdown]
# Read the figure from right to left. In strong noise ($t$ near 999) the noise is nearly all of $x_t$, and it is easy to
# predict. Near the data, a little noise cannot be distinguished from the width of the modes. The difficult levels are
# in between, and our network still has something to learn at *small* $t$, where the best prediction changes sharply
# from one place to the next.
#
# So a loss curve says little about quality: **most of the loss is not an error of the network.** Measure the samples
# instead.
#
# ## 3 · Predicting noise is estimating the score
#
# The *score* is the direction in which the density of noisy data grows fastest, $\nabla_{x_t} \log p_t(x_t)$. Song &
# Ermon built generative models on it before DDPM. Tweedie's formula shows that the two are equivalent:
#
# $$ \nabla_{x_t} \log p_t(x_t) = -\frac{\mathbb E[\varepsilon \mid x_t]}{\sigma_t} \tag{Tweedie; Vincent 2011} $$
#
# <small>In code: `exact.GaussianMixture.log_density`. Test:
# `tests/test_exact.py::test_eps_is_minus_sigma_times_the_score`.</small>
#
# <details><summary>Derivation, and denoising score matching</summary>
#
# 1. The density of noisy data is a mixture over all pictures, $p_t(x_t) = \int p(x_0)\; \mathcal N(x_t;\, \alpha_t
#    x_0,\, \sigma_t^2 \mathbf I)\, dx_0$.
# 2. Differentiate the Gaussian: $\nabla_{x_t} \mathcal N = -\frac{x_t - \alpha_t x_0}{\sigma_t^2}\, \mathcal N =
#    -\frac{\varepsilon}{\sigma_t}\, \mathcal N$, where $\varepsilon$ is the noise that leads from $x_0$ to $x_t$.
# 3. So $\nabla p_t = -\frac{1}{\sigma_t} \int \varepsilon\; p(x_0)\, \mathcal N\, dx_0$. Divide by $p_t$: by Bayes'
#    rule $p(x_0)\, \mathcal N / p_t = p(x_0 \mid x_t)$, and the integral becomes $\mathbb E[\varepsilon \mid x_t]$.
# 4. Now train any $s_\theta(x_t)$ on the target $-\varepsilon / \sigma_t$ with the squared error (*denoising score
#    matching*). By the split of section 2 its best value is the conditional mean, which is the score.
# 5. With $s_\theta = -\varepsilon_\theta / \sigma_t$ this loss is $\lVert \varepsilon - \varepsilon_\theta \rVert^2 /
#    \sigma_t^2$: DDPM's loss is denoising score matching, with the weight $\sigma_t^2$ at each level.
#
# </details>
#
# To check this we need a density that can be differentiated. The mixture has one. Automatic differentiation does not
# use the denoiser, so agreement of the two confirms the formula:

# %%
level = schedule.level(100)
grid = torch.linspace(-2.4, 2.4, 17)
places = torch.cartesian_prod(grid, grid).double().requires_grad_()

(score,) = torch.autograd.grad(mixture.log_density(places, level).sum(), places)
from_denoising = -exact(places.detach(), level).eps / level.sigma
torch.testing.assert_close(from_denoising, score, rtol=1e-9, atol=1e-9)

from_network = -learned(places.detach().float(), level).eps / level.sigma
x_t = add_noise(data[:2000], torch.randn(2000, 2, generator=torch.Generator().manual_seed(3)), level)
weight = mixture.log_density(places.detach(), level).exp()[:, None]  # the network was trained where the data are
error = (weight * (from_network - score).square()).sum() / (weight * score.square()).sum()
plots.vector_field(places.detach(), from_network, data=x_t, limit=2.6, title="The score that the network learned")
plt.show()
print(f"weighted by density, the network's squared error is under 10% of the score's square: {error < 0.1}")
assert error < 0.1

# %% [markdown]
# Every arrow points to where data are more likely. A sampler follows the arrows from far away, while the noise
# decreases. (How to choose these steps well is the subject of notebook 04; here `ddim` takes them.)

# %%
x_T = torch.randn(2000, 2, generator=torch.Generator().manual_seed(4))

points = final(ddim(learned, x_T, schedule.levels(50)))

coverage = metrics.mode_coverage(points, means, std)
print(f"modes reached: {sum(count > 50 for count in coverage.counts)} of 8")
assert min(coverage.counts) > 50 and coverage.evenness > 0.95

# %% [markdown]
# ## 4 · A comparison with GANs
#
# Before diffusion, the best images came from GANs (Goodfellow et al. 2014). A generator turns noise into a sample in
# one step, and a second network, the discriminator, learns to distinguish its samples from data. There is no fixed
# target for a regression, only a discriminator that changes all the time. The well-known problem is **mode collapse**:
# the generator finds one place where the discriminator fails and puts all samples there; the discriminator learns this
# place; the generator moves to another one.
#
# Does this happen here? We train three GANs that differ *only in the seed*, with DCGAN's settings, for 1,000 steps, and
# three denoisers with the library's `train` for as many steps, and measure the samples twice.

# %%
z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(5))
gans, denoisers = {}, {}
for seed in tqdm(range(3), desc="three GANs, three denoisers"):
    for step, generator in enumerate(gan.train_gan(data, 1000, width=64, seed=seed), start=1):
        if step in (500, 1000):
            gans[seed, step] = generator(z).detach()
    torch.manual_seed(seed)
    plane, config = MLP(MLPConfig()), TrainConfig(images=1000 * 128, ema_decay=0.98, label_dropout=0, seed=seed)
    for record in train(plane, data, None, schedule, "eps", config, record_every=500):
        denoisers[seed, record.step] = final(record.model.steps(record.model.denoiser(), 2000, 50))


def modes(points):
    return sum(count >= 20 for count in metrics.mode_coverage(points, means, std).counts)  # at least 1% of 2,000


gans_at_end = {f"GAN, seed {seed}: {modes(x)} of 8": x for (seed, step), x in gans.items() if step == 1000}
plots_of_both = {**gans_at_end, f"diffusion, seed 0: {modes(denoisers[0, 1000])} of 8": denoisers[0, 1000]}
plots.point_panels(plots_of_both, data=data[:3000], title="After 1,000 steps")
plt.show()
print(f"every denoiser had all eight modes after 500 and 1,000 steps: {min(map(modes, denoisers.values())) == 8}")
print(f"the worst GAN had half of the modes or fewer: {min(map(modes, gans.values())) <= 4}")
assert min(map(modes, denoisers.values())) == 8 and min(map(modes, gans.values())) <= 4

# %% [markdown]
# To be fair: the claim "GANs collapse, diffusion does not" is true here as a statement about *chance*. In our run one
# GAN had a single mode, one had two, and the third found all eight, as all of them do if the learning rate is five
# times higher ($10^{-3}$; try it). More training alone does not help: the GAN with seed 0 has one or two modes after
# 2,000, 3,000 and 4,000 steps too, other ones each time. GANs *can* be tuned to cover everything. A denoiser does not
# depend on chance: an ignored mode adds squared error to every eighth example, at every step, until the network
# learns it. In this sense training is stable: **the loss has the same target at every step**, and no second network
# changes it.
#
# And coverage is not sharpness: after 1,000 small steps this denoiser has every mode but still blurs them into a ring,
# where the best GAN draws thin lines. Section 3's network, which was trained on three times as many points, is sharper.
#
# ## 5 · Noise, picture, velocity: which target to choose
#
# The table of notebook 01 has other targets. With $x_t$ known they are equivalent, so what does the choice change? It
# changes *the weight of each $t$ in the loss.* Suppose that the predicted picture has an error $\delta$. Then the
# predicted noise has the error $-\tfrac{\alpha}{\sigma} \delta$, because both must still satisfy the equation for
# $x_t$, and the losses are multiples of each other:
#
# $$
# \lVert \delta\varepsilon \rVert^2 = \mathrm{SNR} \cdot \lVert \delta \rVert^2, \qquad
# \lVert \delta v \rVert^2 = (\mathrm{SNR} + 1)\, \lVert \delta \rVert^2, \qquad
# \lVert \delta(\varepsilon - x_0) \rVert^2 = \left(\tfrac{\alpha}{\sigma} + 1\right)^2 \lVert \delta \rVert^2
# $$
#
# <small>In code: `predictions.coefficients`. Test:
# `tests/test_predictions.py::test_the_row_is_solved_by_its_determinant`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. The prediction must satisfy $x_t = \alpha \hat x_0 + \sigma \hat\varepsilon$ for the given $x_t$, so $\alpha\,
#    \delta + \sigma\, \delta\varepsilon = 0$ and $\delta\varepsilon = -\frac{\alpha}{\sigma}\, \delta$. Its square is
#    $\mathrm{SNR} \cdot \lVert \delta \rVert^2$.
# 2. $\delta v = \alpha\, \delta\varepsilon - \sigma\, \delta = -\frac{\alpha^2 + \sigma^2}{\sigma}\, \delta$. On
#    DDPM's path $\alpha^2 + \sigma^2 = 1$, and $1 / \sigma^2 = (\alpha^2 + \sigma^2) / \sigma^2 = \mathrm{SNR} + 1$.
# 3. $\delta(\varepsilon - x_0) = -\left( \frac{\alpha}{\sigma} + 1 \right) \delta$.
#
# </details>

# %%
x_0, eps = data[:500], torch.randn(500, 2, generator=torch.Generator().manual_seed(6))
delta = 0.1 * torch.randn(500, 2, generator=torch.Generator().manual_seed(7))

for t in (50, 300, 700):
    _, alpha, sigma = level = schedule.level(t)
    wrong_x_0, wrong_eps = x_0 + delta, eps - alpha / sigma * delta
    torch.testing.assert_close(add_noise(wrong_x_0, wrong_eps, level), add_noise(x_0, eps, level), atol=1e-5, rtol=0)
    weights = {"x_0": 1.0, "eps": (alpha / sigma) ** 2, "v": (alpha / sigma) ** 2 + 1, "flow": (alpha / sigma + 1) ** 2}
    for kind, weight in weights.items():
        pairs = ((wrong_x_0, wrong_eps), (x_0, eps))
        wrong, right = (predictions.target(kind, *pair, alpha, sigma) for pair in pairs)
        loss = (wrong - right).square().mean()
        torch.testing.assert_close(loss, weight * delta.square().mean(), rtol=1e-3, atol=1e-6)
    print(f"t = {t}: the same error has the loss " + ", ".join(f"{w:.2f} for {kind}" for kind, w in weights.items()))

# %% [markdown]
# With the target $\varepsilon$, errors have a small weight in strong noise, where $x_t$ hardly shows the picture, and a
# large weight near the data, where details are decided. (DDPM's Eq. 14 *is* such a choice: the variational bound has
# another weight, and the authors omitted it because the samples looked better.) But sampling *starts* in strong noise,
# and there the picture is computed as $x_0 = (x_t - \sigma \varepsilon) / \alpha$: a small error in the noise is
# multiplied by $\sigma / \alpha$.

# %%
for t in (0, 300, 700, 999):
    _, alpha, sigma = schedule.level(t)
    print(f"t = {t}: an error in the noise becomes {sigma / alpha:.3g} times as large in the picture")
assert schedule.level(999).sigma / schedule.level(999).alpha > 150

# %% [markdown]
# With long training a network learns to predict the noise well enough. In half a minute it does not. Another target
# helps, $v = \alpha \varepsilon - \sigma x_0$ (Salimans & Ho), which is the noise near the data and the picture far
# from it; another schedule might. The network and the images of the training below were tried two by two, four seeds
# each (`benchmarks/target_and_schedule.py`, 2026-11-30). A classifier recognised the requested digit in this share of
# 200 guided samples, mean ± standard error:
#
# | target | linear schedule | cosine schedule |
# |---|---|---|
# | $\varepsilon$ | 35 ± 4% | 13 ± 2% |
# | $v$ | 91 ± 1% | 81 ± 2% |
#
# So the target makes the difference. The cosine schedule, which ends nearer to pure noise, makes $\varepsilon$ worse,
# because $\sigma / \alpha$ is larger there; in so short a training it makes $v$ worse, too (with twice as many images
# both schedules reached 92 to 93% with $v$). The training below predicts $v$ on the linear schedule.
#
# ## 6 · Digits
#
# Now with pictures. The network is a **U-Net**: an encoder that halves the resolution, a decoder that doubles it again,
# and **skip connections** that carry the details from the encoder to the decoder, so that the narrow middle has to
# carry only global information. The class label is a second condition besides the time. Our network is small, so that
# it trains while you watch.

# %%
torch.set_num_threads(cores)
digits = bundled_mnist()
unet = UNet(UNetConfig(widths=(32, 64), blocks=(1, 1)))

encoder_blocks, decoder_blocks = ([type(b).__name__ for b in part] for part in (unet.encoder, unet.decoder))
print("encoder:", ", ".join(encoder_blocks))
print("decoder:", ", ".join(decoder_blocks))
print(f"{models.count_parameters(unet) / 1e6:.1f} million weights; {digits}")
assert encoder_blocks.count("Block") == decoder_blocks.count("Block")  # joined by skips, in pairs
first_output = unet(randn((4, 1, 28, 28)), torch.full((4,), 500.0), torch.tensor([1, 2, 3, 10]))
assert first_output.shape == (4, 1, 28, 28) and not first_output.any()  # 0, the mean of the noise

# %% [markdown]
# Algorithm 1 gets three additions, and all three matter.
#
# **Class dropout.** One network should draw both "a seven" and "any digit": notebook 06 needs both. So 10% of the
# labels are replaced by a *null label* (number 10 here). There is a classic trap: with `rand < 0.9` instead of
# `rand < 0.1`, 90% of the labels are replaced. Training runs, the loss falls, the digits look fine, and the network
# hardly uses its label. So count:

# %%
config = TrainConfig(images=12_000, batch_size=32, ema_decay=0.985, channels_last=True)
_, _, trained_labels = draw(
    digits.images,
    digits.labels,
    replace(config, images=20_000, batch_size=20_000),
    10,
    torch.Generator().manual_seed(8),
)

dropped = float((trained_labels == 10).double().mean())

print(f"share of null labels: {dropped:.2f}")
assert abs(dropped - config.label_dropout) < 0.01

# %% [markdown]
# **A moving average of the weights.** Gradient steps are noisy, and the weights fluctuate around a good value. Samples
# are drawn with their exponential moving average, $\bar\theta \leftarrow d\,\bar\theta + (1 - d)\,\theta$, which
# averages the fluctuations (`record.model`); the optimizer continues with $\theta$ itself (`unet`).
#
# **A falling learning rate,** so that the steps are small at the end.
#
# `train` is a generator: it yields a `Record` at regular intervals, which you can use freely. We draw the same twenty
# digits from the same noise each time.

# %%
labels = torch.arange(20) % 10
samples, losses, half_way = [], [], {}

records = train(unet, digits.images, digits.labels, schedule, "v", config, record_every=25)
for record in tqdm(records, total=config.num_steps // 25, desc="digits"):
    losses.append((record.images_seen, record.loss))
    if record.step % 50 == 0:
        samples.append((record.images_seen, record.model.sample(labels, num_inference_steps=10, guidance_scale=2.0)))
    if record.step == 200:
        for name, network in (("current weights", unet), ("moving average", record.model.network)):
            model = replace(record.model, network=network)
            half_way[name] = model.sample(labels[:10], num_inference_steps=10, guidance_scale=2.0)

model = record.model
plots.curves({"mean over 25 steps": tuple(zip(*losses, strict=True))}, log="y",
             title="Training loss on digits: predicting v", xlabel="images seen",
             ylabel="mean squared error")  # fmt: skip
plt.show()
print(f"{record.images_seen:,} images seen; the loss fell by more than 40%: {losses[-1][1] < 0.6 * losses[1][1]}")
assert record.images_seen == config.images and losses[-1][1] < 0.6 * losses[1][1]

# %% [markdown]
# The curve looks converged after a fraction of the time. It is not, although, as section 2 explained, most of the
# remaining loss cannot be reduced. Drag the slider and see how the samples improve during the flat part of the curve.

# %%
sheets = [film.mosaic(film.pixels(x), columns=10) for _, x in samples]
captions = [f"{seen:,} images seen" for seen, _ in samples]
accuracies = [metrics.class_accuracy(x, labels) for _, x in samples]
assert accuracies[-1] > accuracies[0]

widgets.scrub(film.film([("twenty digits, fixed noise", "samples during training", sheets)], captions))

# %%
selected = [samples[k] for k in sorted({0, 1, len(samples) // 3, 2 * len(samples) // 3, len(samples) - 1})]
ten_digits = {f"{seen:,}": x[:10] for seen, x in selected}
plots.filmstrip(ten_digits, captions=[str(k) for k in range(10)], title="Images seen")
plt.show()
assert [seen for seen, _ in selected] == sorted(seen for seen, _ in selected)

plots.filmstrip(half_way, title=f"After {200 * config.batch_size:,} images")
plt.show()
assert not torch.equal(half_way["current weights"], half_way["moving average"])

# %% [markdown]
# ## 7 · Measuring the samples
#
# A classifier that was trained on real digits (99.6% right on MNIST's test split; it is part of the package) classifies
# 200 new samples. Do they have the requested class? And are all ten classes present when no class is requested? After
# this short training not always (with four seeds 200 samples had ten, nine, eight and nine of them), so this is asked
# of a network that the package ships, which has the same layers and was trained for longer.

# %%
requested = torch.arange(200) % 10
guided = model.sample(requested, num_inference_steps=10, guidance_scale=2.0, seed=1000)
free = load_pretrained("mnist_unet_eps").sample(batch_size=200, num_inference_steps=10, seed=2000)

plots.image_grid(guided[:40], columns=10, title="Trained in this notebook")
plt.show()
accuracy = metrics.class_accuracy(guided, requested)
print(f"at least 85% of the guided digits have the requested class: {accuracy >= 0.85}")
print(f"classes among 200 samples of the shipped network without a label: {metrics.class_coverage(free).reached}")
assert accuracy >= 0.85 and metrics.class_coverage(free).reached == 10

# %% [markdown]
# `guidance_scale=2` strengthens the effect of the class label; this is the subject of notebook 06.
#
# ### In colour: the cost of CIFAR-10
#
# Digits are the easy case. The package also contains networks that were trained on CIFAR-10, 50,000 colour photographs
# of $32 \times 32$ pixels (`load_dataset("cifar10")`). Their training takes too long for a notebook. Its cost is
# recorded in the *model card* inside each weight file, and the next cell prints it, for the shipped digits as well. The
# cost is counted as three forward passes per training image (one forward, two for the gradient), as a multiple of the
# cost of training in this notebook.

# %%
cards = {name: load_pretrained(name).card for name in ("mnist_unet_eps", "cifar10_unet_eps")}
spent_here = config.images * cards["mnist_unet_eps"]["flops_per_image"]  # the digits' network is the one above

for name, card in cards.items():
    seen, minutes = card["images_seen"], card["seconds"] / 60
    times = float(f"{seen * card['flops_per_image'] / spent_here:.1g}")
    print(f"{name}: {card['parameters'] / 1e6:.1f} million weights, {seen / 1e6:.0f} million images seen, "
          f"{minutes:.0f} min on {card['hardware']}: {times:,.0f} times this notebook")  # fmt: skip
assert cards["mnist_unet_eps"]["parameters"] == models.count_parameters(unet)
assert cards["cifar10_unet_eps"]["flops_per_image"] > 5 * cards["mnist_unet_eps"]["flops_per_image"]

# %% [markdown]
# And how good are the two networks? Let us compute their losses per noise level, as in section 2. The schedules differ,
# so the axis is the log SNR. The colour pictures are 40 of those that are part of the package, which **another one of
# our networks generated** (`made_by_model`); real photographs have more detail, so for them the colour curve lies
# higher.

# %%
lines = {}
for name, label, pictures in (("mnist_unet_eps", "digits", digits),
                             ("cifar10_unet_eps", "colour pictures", made_by_model("cifar10"))):  # fmt: skip
    shipped = load_pretrained(name)
    clean, classes = pictures.batch(torch.arange(0, len(pictures), len(pictures) // 40))  # 40 pictures
    noise, denoise = randn(clean.shape, torch.Generator().manual_seed(12)), shipped.denoiser(classes, guidance_scale=1)
    visited = [shipped.schedule.level(t) for t in range(25, 1000, 100)]
    errors = [float((denoise(add_noise(clean, noise, level), level).eps - noise).square().mean()) for level in visited]
    lines[label] = ([level.log_snr for level in visited], errors)

plots.curves(lines, log="y", title="Loss by noise level", xlabel="log SNR (left: noise, right: picture)",
             ylabel="mean squared error")  # fmt: skip
plt.show()
digits_at_2, colour_at_2 = (float(np.interp(2, x[::-1], y[::-1])) for x, y in lines.values())
print(f"at log SNR 2 the loss is larger for colour pictures than for digits: {colour_at_2 > digits_at_2}")
assert all(y[0] > 5 * y[-1] for _, y in lines.values())  # hard to predict near the picture, easy in strong noise
assert colour_at_2 > digits_at_2

# %% [markdown]
# Both curves rise to the right, as in section 2: close to the picture a little noise cannot be distinguished from fine
# detail. Colour pictures have more fine detail (fur, leaves, water), while the noise is visible on a digit's black
# background, so there the curve of colour pictures is higher. In strong noise it is lower: smooth colours over many
# pixels are easier to recognise than thin strokes. So losses on different data sets cannot be compared.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · Drop some labels.** Write `my_drop(labels, probability, null, generator)` that returns the labels of a
# batch, each of them replaced by `null` with that probability, independently of the others. The random numbers come
# from `generator`; the tensor `labels` itself must not change. Avoid the trap.

# %%
my_drop = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_drop(labels, probability, null, generator):
    dropped = torch.rand(len(labels), generator=generator) < probability
    return torch.where(dropped, null, labels)


# %%
check("03.1", my_drop, solution_drop)

# %% [markdown]
# **Exercise 2 · The weight of flow matching.** On the straight path $\alpha = 1 - t$, $\sigma = t$. By what factor does
# the flow loss multiply a squared error in the picture, as a function of $t$ alone? Write `my_weight(t)`, for a number
# $t$ above 0. (It is simpler than it seems.)

# %%
my_weight = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_weight(t):
    return 1 / t**2  # (α/σ + 1)² with α + σ = 1


# %%
check("03.2", my_weight, solution_weight)

# %% [markdown]
# **Exercise 3 · The best possible loss at the end.** At $t = 999$ the best possible loss is nearly 0, as the figure of
# section 2 shows. What is the best possible loss of an **$x_0$**-network there, for *these* points? (As in section 2,
# the loss is the mean squared error, over points and coordinates.) Think of the best prediction of $x_0$ when $x_t$ is
# pure noise. Give a number to within 0.05.

# %%
my_loss = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
# the best prediction is the mean of the data; its error is the variance per coordinate, which `toy` scales to 1
solution_loss = 1.0

# %%
check("03.3", my_loss, solution_loss)

# %% [markdown]
# ## What to remember
#
# - Training is regression with unlimited data: draw, mix, predict, compare.
# - The loss has an irreducible part. Measure the samples, not the loss curve.
# - A noise prediction gives a score: $-\varepsilon_\theta / \sigma$ points to where data are more likely.
# - The target determines the weight of each noise level in the loss, and nothing else.
# - Class dropout, a moving average, a falling learning rate: three small additions that all matter.
#
# **Next:** [04 · From DDPM to DDIM](04_from_ddpm_to_ddim.ipynb): a thousand steps, or twenty?
#
# ## References
#
# - J. Ho et al. 2020, [DDPM](https://arxiv.org/abs/2006.11239): Algorithm 1, Eq. 14; the U-Net is in Appendix B.
# - P. Vincent 2011, [A Connection Between Score Matching and Denoising
#   Autoencoders](https://www.iro.umontreal.ca/~vincentp/Publications/smdae_techreport.pdf).
# - Y. Song et al. 2021, [Score-Based Generative Modeling through SDEs](https://arxiv.org/abs/2011.13456), Eq. 7: the
#   objective that estimates the score at every level.
# - I. Goodfellow et al. 2014, [Generative Adversarial Nets](https://arxiv.org/abs/1406.2661); A. Radford et al. 2016,
#   [DCGAN](https://arxiv.org/abs/1511.06434).
# - O. Ronneberger et al. 2015, [U-Net](https://arxiv.org/abs/1505.04597).
# - T. Salimans, J. Ho 2022, [Progressive Distillation](https://arxiv.org/abs/2202.00512), Section 4: targets as
#   weights.
# - J. Ho, T. Salimans 2022, [Classifier-Free Guidance](https://arxiv.org/abs/2207.12598), Algorithm 1: class dropout.
