# %% [markdown]
# # 34 · Lab: a KL autoencoder and a latent flow
#
# Stable Diffusion draws no pixels: it draws latents, which a decoder turns into a picture. In this lab you build both
# halves for digits: an autoencoder with a KL term, and a flow in its latent space, which your sampler follows and
# your decoder makes visible.
#
# **When you have worked through it, you can**
#
# - write the KL term of a variational autoencoder, and say what a large and a small weight do;
# - build a convolutional encoder and decoder that take pictures of any size;
# - draw from the encoder's distribution so that its mean and its variance both get gradients;
# - sample a flow in standardised latents, and say what goes wrong without the scale.
#
# *Beside you:* notebooks [05](05_flow_matching.ipynb) and [10](10_latent_diffusion.ipynb); Rombach et al. 2022,
# [High-Resolution Image Synthesis with Latent Diffusion Models](https://arxiv.org/abs/2112.10752), Section 3. About
# 15 minutes to read, two hours and a half with the exercises and questions.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from diffusion_explained import MLP, FlowSchedule, MLPConfig, TrainConfig, bundled_mnist, plots, train
from diffusion_explained.exercises import built, check

FULL = False  # True: three minutes on two cores, digits of 28 x 28. False: seconds, digits of 16 x 16
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(2 if FULL else 1)

# %% [markdown]
# ## What you build
#
# **The encoder** answers with a distribution for each latent number: a mean $\mu$ and the logarithm of a variance,
# $\log s^2$. A latent is a draw from it, $z = \mu + s \odot \varepsilon$, and the decoder makes a picture of it.
#
# **The loss** has two parts: the squared error of the decoded picture, and the divergence of the encoder's
# distribution from $\mathcal N(0, 1)$ with a small weight $w$,
#
# $$
# L = \| \operatorname{decode}(\mu + s \odot \varepsilon) - x \|^2 + w\, D, \qquad
# D = \tfrac12 \sum_i \left( \mu_i^2 + s_i^2 - 1 - \log s_i^2 \right). \tag{Kingma \& Welling 2014, Appendix B}
# $$
#
# <small>In code: `exercises.lab_latent_flow.kl`. Test:
# `tests/answers/lab_latent_flow.py::by_torch`.</small>
#
# The weight is so small that latents stay precise; what the term prevents is a latent space with holes and of any
# scale.
#
# **The flow** is trained on means, *standardised* per channel: $(z - m) / d$ with mean and standard deviation of all
# training latents. Its noise has the variance 1, and data of another scale would have another schedule. A sample goes
# the way back: $n$ Euler steps from $t = 1$ to $0$, times $d$, plus $m$, then one decoding.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · The KL divergence.** *★ · 15 minutes.* Write `my_kl(mean, log_var)`: $D$ above, with $\log s^2$ =
# `log_var`, both `[B, ...]`. Sum over the latents of an image, and average over the images.

# %%
my_kl = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_kl(mean, log_var):
    each = (mean**2 + log_var.exp() - 1 - log_var) / 2
    return each.flatten(1).sum(dim=1).mean()


# %%
check("34.1", my_kl, solution_kl)

# %% [markdown]
# **Exercise 2 · A convolutional autoencoder.** *★★★ · 45 minutes.* Write `my_autoencoder(channels, width)`, which
# returns an `nn.Module` with two methods. `encode(x)` takes `[B, 1, H, W]` and returns `(mean, log_var)`, each `[B,
# channels, H / 4, W / 4]`; it draws nothing. `decode(z)` goes back to `[B, 1, H, W]`. Use convolutions of about
# `width` channels, so that any size works that 4 divides; no batch norm.

# %%
my_autoencoder = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
class SolutionAutoencoder(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        layers = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.SiLU()]
        self.down = nn.Sequential(*layers, nn.Conv2d(2 * width, 2 * channels, 3, padding=1))
        layers = [nn.Conv2d(channels, 2 * width, 3, padding=1), nn.SiLU()]
        layers += [nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.SiLU()]
        self.up = nn.Sequential(*layers, nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1))

    def encode(self, x):
        mean, log_var = self.down(x).chunk(2, dim=1)
        return mean, log_var

    def decode(self, z):
        return self.up(z)


solution_autoencoder = SolutionAutoencoder

# %%
check("34.2", my_autoencoder, solution_autoencoder)

# %% [markdown]
# **Exercise 3 · The loss of the autoencoder.** *★★ · 25 minutes.* Write `my_loss(model, x, eps, kl_weight)`: $L$
# above with the noise `eps`, a tensor with a gradient. The error is summed over the pixels of an image, and the whole
# is averaged over images.

# %%
my_loss = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_loss(model, x, eps, kl_weight):
    mean, log_var = model.encode(x)
    z = mean + (log_var / 2).exp() * eps
    error = (model.decode(z) - x).square().flatten(1).sum(dim=1).mean()
    return error + kl_weight * solution_kl(mean, log_var)


# %%
check("34.3", my_loss, solution_loss)

# %% [markdown]
# **Exercise 4 · From noise to a picture.** *★★ · 25 minutes.* Write `my_sample(velocity, decode, noise, mean, std,
# n)`. `velocity(z, t)` takes latents `[B, C, H, W]` and times `[B]` from 1 to 0; `mean` and `std` are `[C, 1, 1]`.
# Make $n$ equal Euler steps, undo the standardisation, and decode once.

# %%
my_sample = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_sample(velocity, decode, noise, mean, std, n):
    z = noise
    for k in range(n):
        t = torch.full((len(z),), 1 - k / n, dtype=z.dtype)
        z = z - velocity(z, t) / n
    return decode(z * std + mean)


# %%
check("34.4", my_sample, solution_sample)

# %% [markdown]
# ## Train the autoencoder
#
# From here on the lab uses your answers. A digit of 28 x 28 pixels becomes 4 x 7 x 7 numbers, a quarter; the
# committed run has pictures of 16 x 16, and 4 x 4 x 4 numbers.

# %%
make_autoencoder = built("34.2", my_autoencoder, solution_autoencoder)
loss_of = built("34.3", my_loss, solution_loss)
sample = built("34.4", my_sample, solution_sample)

# %%
digits = bundled_mnist()
SIDE, WIDTH, STEPS = (28, 32, 1000) if FULL else (16, 16, 250)
images = digits.to_float() if FULL else F.adaptive_avg_pool2d(digits.to_float(), SIDE)
images, held_out, labels, held_out_labels = images[:9000], images[9000:], digits.labels[:9000], digits.labels[9000:]


def trained(kl_weight, steps=STEPS):
    torch.manual_seed(0)
    model, generator = make_autoencoder(4, WIDTH), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    for step in range(steps):
        x = images[torch.randint(9000, (64,), generator=generator)]
        eps = torch.randn(64, 4, SIDE // 4, SIDE // 4, generator=generator)
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss_of(model, x, eps, kl_weight).backward()
        optimizer.step()
    return model


def psnr(model):
    """The quality of reconstructions of held-out digits in dB; the range of a pixel is 2."""
    with torch.no_grad():
        error = (model.decode(model.encode(held_out)[0]).clamp(-1, 1) - held_out).square().mean()
    return float(10 * torch.log10(4 / error))


model = trained(kl_weight=0.1)
with torch.no_grad():
    latents, log_var = model.encode(images)
    back = model.decode(model.encode(held_out[:10])[0])
plots.filmstrip(
    {"digits": held_out[:10], "decoded": back.clamp(-1, 1)}, title="Held-out digits through the autoencoder"
)
plt.show()
print(f"reconstructions of held-out digits have more than 14 dB: {psnr(model) > 14}")
assert psnr(model) > 14
if FULL:
    for weight, other in ((0.001, trained(0.001)), (0.1, model), (10.0, trained(10.0))):
        with torch.no_grad():
            mean, log_var = other.encode(images)
        scales = f"std of the means {float(mean.std()):.2f}, mean s {float((log_var / 2).exp().mean()):.3f}"
        print(f"w = {weight:g}: {psnr(other):.1f} dB, {scales}")

# %% [markdown]
# ## A flow in the latent space
#
# A small MLP is trained on the standardised latents by the library's `train`, with class dropout; your sampler draws.
# The second row decodes the same latents *without* undoing the standardisation.

# %%
mean, std = latents.mean(dim=(0, 2, 3)).reshape(4, 1, 1), latents.std(dim=(0, 2, 3)).reshape(4, 1, 1)
standardised = ((latents - mean) / std).flatten(1)
torch.manual_seed(0)
flow = MLP(MLPConfig(image_shape=(standardised.shape[1],), width=512 if FULL else 160, layers=4, num_classes=10))
steps = 3000 if FULL else 400
config = TrainConfig(images=128 * steps, batch_size=128, learning_rate=2e-3)
*_, record = train(flow, standardised, labels, FlowSchedule(), "flow", config, record_every=steps)
network = record.model.network


def draw(count, seed, w=2.0, mean=mean, std=std):
    cond, null = torch.arange(count) % 10, torch.full((count,), 10)

    def velocity(z, t):
        flat, time = z.flatten(1), 1000 * t
        uncond = network(flat, time, null)
        return (uncond + w * (network(flat, time, cond) - uncond)).reshape(z.shape)

    noise = torch.randn(count, *latents.shape[1:], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return sample(velocity, model.decode, noise, mean, std, 20)


right_scale = draw(10, seed=3)
plots.filmstrip({"with the scale": right_scale.clamp(-1, 1),
                 "without it": draw(10, 3, mean=0 * mean, std=1 + 0 * std).clamp(-1, 1)},
                captions=[str(k) for k in range(10)], title="Decoded samples of the latent flow")  # fmt: skip
plt.show()
shares = []
for seed in (10, 300, 600):
    nearest = torch.cdist(draw(200, seed).flatten(1), held_out.flatten(1)).argmin(dim=1)
    shares.append(float((held_out_labels[nearest] == torch.arange(200) % 10).double().mean()))
print(f"more than three in five digits are right, in each of three draws: {min(shares) > 0.6}")
if FULL:
    print([round(share, 3) for share in shares])
assert min(shares) > 0.6

# %% [markdown]
# **Measured** with `FULL = True` (1,000 steps per autoencoder, 3,000 of the flow, 4.0 minutes of processor time): of
# three draws of 200 digits, 95 ± 1% are right (mean ± standard error; right by the nearest real digit). One autoencoder
# per weight of the KL term, held-out digits:
#
# | $w$ | reconstructions | std of the means | mean $s$ |
# |---|---|---|---|
# | 0.001 | 26.3 dB | 1.21 | 0.058 |
# | 0.1 | 25.2 dB | 0.76 | 0.596 |
# | 10 | 9.5 dB | 0.08 | 0.995 |
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* Train with $w$ = 0.001, 0.1 and 10. What happens to reconstructions, to the scale of the means
#    and to decoded noise $z \sim \mathcal N(0, 1)$? Which $w$ would you give to a flow?
# 2. *★★ · 20 minutes.* Compare the computation of a training step of the flow in pixels and in latents, for the MLP
#    here and for a U-Net. Where does the gain come from?
#
# ## What to remember
#
# - The KL term keeps latents near $\mathcal N(0, 1)$; its weight is small, and reconstruction comes first.
# - The draw $\mu + s \odot \varepsilon$ lets gradients reach both mean and variance.
# - A flow wants data of variance 1: standardise the latents, and undo this before decoding.
# - Decode once, at the end: the sampler knows nothing of pixels.
#
# **Next:** [35 · Lab: SDEs and likelihood](35_lab_sde.ipynb): the same paths with noise, and their densities.
#
# ## References
#
# - D. P. Kingma, M. Welling 2014, [Auto-Encoding Variational Bayes](https://arxiv.org/abs/1312.6114): Section 2.4,
#   Appendix B.
# - R. Rombach et al. 2022, [High-Resolution Image Synthesis with Latent Diffusion
#   Models](https://arxiv.org/abs/2112.10752): Section 3, Appendix G on the scale.
# - X. Liu, C. Gong, Q. Liu 2023, [Flow Straight and Fast](https://arxiv.org/abs/2209.03003): Eq. 1.
