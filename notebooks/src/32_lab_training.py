# %% [markdown]
# # 32 · Lab: the training loop
#
# A diffusion model is trained by a loop of a few lines, and each line can be wrong in a way that no error message
# reports. In this lab you write class dropout, the loss, the moving average of the weights, and the loop around them.
# Then your loop trains a network that draws digits, and you measure what the average and the dropout are for.
#
# **When you have worked through it, you can**
#
# - write the loss of flow matching, and say what it is given and what it predicts;
# - train a conditional and an unconditional model in one network;
# - keep a moving average of the weights, and show what it buys;
# - write a training loop that clears, clips and applies gradients in the right order.
#
# *Beside you:* notebooks [03](03_training_to_predict_noise.ipynb), [05](05_flow_matching.ipynb) and
# [06](06_classifier_free_guidance.ipynb); Ho & Salimans 2022, [Classifier-Free Diffusion
# Guidance](https://arxiv.org/abs/2207.12598). About 15 minutes to read, two hours with the exercises and questions.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from diffusion_explained import (
    MLP,
    FlowSchedule,
    MLPConfig,
    UNet,
    UNetConfig,
    bundled_mnist,
    denoisers,
    euler,
    final,
    plots,
)
from diffusion_explained.exercises import built, check

FULL = False  # True: a few minutes on two cores, digits of 28 x 28. False: seconds, digits of 8 x 8
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(2 if FULL else 1)

# %% [markdown]
# ## What you build
#
# **The loss.** Data $x_0$ and noise $\varepsilon$ are joined by a line, and the network predicts its velocity:
#
# $$
# x_t = (1 - t)\, x_0 + t\, \varepsilon, \qquad L = \mathbb E\, \big\| v_\theta(x_t, t, c) - (\varepsilon - x_0)
# \big\|^2. \tag{rectified flow, Eq. 1, time reversed}
# $$
#
# <small>In code: `training.loop.training_loss`. Test:
# `tests/test_training.py::test_every_step_is_the_papers`.</small>
#
# $t$ is a time per image, $c$ its class. The networks of this package take a time from 0 to 1000, so they are given
# $1000\, t$.
#
# **Class dropout.** In a tenth of the images the class is replaced by the *null label*, one number above the classes.
# The same network then also learns the distribution without a class, which guidance needs (CFG, Algorithm 1).
#
# **The moving average.** Near the end of training the weights still move from batch to batch. Their moving average
#
# $$
# \bar\theta \leftarrow d_k\, \bar\theta + (1 - d_k)\, \theta, \qquad
# d_k = \min\left(d,\ \frac{1 + k}{10 + k}\right)
# $$
#
# <small>In code: `exercises.lab_training.averaged`. Test:
# `tests/answers/lab_training.py::my_average`.</small>
#
# moves less. At step $k = 0$ it forgets the random initial weights to nine tenths; later it remembers about $1 / (1 -
# d)$ steps.
#
# **The loop.** For each batch: clear the gradients, compute the loss, differentiate, clip the norm of the gradient to
# 1, step, update the average.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · Class dropout.** *★ · 15 minutes.* Write `my_dropped(labels, rate, null, generator)`: the labels
# `[N]`, each replaced by `null` with the probability `rate`, independently of the others. Draw from the generator,
# and do not change `labels`.

# %%
my_dropped = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_dropped(labels, rate, null, generator):
    drop = torch.rand(len(labels), generator=generator) < rate
    return torch.where(drop, null, labels)


# %%
check("32.1", my_dropped, solution_dropped)

# %% [markdown]
# **Exercise 2 · The loss.** *★ · 15 minutes.* Write `my_loss(network, x_0, labels, t, eps)`, the mean of the squared
# errors of a batch over images and coordinates, a tensor with a gradient. `x_0` and `eps` are `[B, D]`, `t` is `[B]`,
# and the network is called as `network(x_t, time, labels)`.

# %%
my_loss = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_loss(network, x_0, labels, t, eps):
    wide = t.reshape(-1, *[1] * (x_0.ndim - 1))  # also for pictures [B, C, H, W]
    x_t = (1 - wide) * x_0 + wide * eps
    velocity = network(x_t, 1000 * t, labels)
    return (velocity - (eps - x_0)).square().mean()


# %%
check("32.2", my_loss, solution_loss)

# %% [markdown]
# For pictures, `t` must be reshaped to `[B, 1, 1, 1]`. If yours is for points only, extend it before you train.
#
# **Exercise 3 · The moving average.** *★★ · 20 minutes.* Write `my_average(averages, weights, decay, step)`. Both are
# dictionaries name → tensor, as `network.state_dict()` gives them. Return new averages by the formula above; a tensor
# of whole numbers (a counter) has no average, and is copied.

# %%
my_average = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_average(averages, weights, decay, step):
    d, new = min(decay, (1 + step) / (10 + step)), {}
    for name, weight in weights.items():
        if weight.is_floating_point():
            new[name] = d * averages[name] + (1 - d) * weight
        else:
            new[name] = weight.clone()
    return new


# %%
check("32.3", my_average, solution_average)

# %% [markdown]
# **Exercise 4 · The loop.** *★★★ · 45 minutes.* Write `my_train(network, loss, batches, learning_rate, decay)`. For
# each batch, a tuple, the loss is `loss(network, *batch)`. Use `torch.optim.AdamW` with this learning rate, clip the
# norm of the gradient to 1, and update averages after each step, beginning with copies of the initial weights. The
# network is trained in place; return the losses, a list of numbers, and the averages. You may use your exercise 3.

# %%
my_train = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_train(network, loss, batches, learning_rate, decay):
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    averages = {name: weight.clone() for name, weight in network.state_dict().items()}
    losses = []
    for step, batch in enumerate(batches):
        optimizer.zero_grad()
        value = loss(network, *batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
        averages = solution_average(averages, network.state_dict(), decay, step)
    return losses, averages


# %%
check("32.4", my_train, solution_train)

# %% [markdown]
# ## Digits from your loop
#
# From here on the lab uses your answers. The committed run trains a small MLP on digits of 8 x 8 pixels; `FULL =
# True` trains the U-Net of notebook 03 on the pictures themselves.

# %%
drop_labels = built("32.1", my_dropped, solution_dropped)
flow_loss = built("32.2", my_loss, solution_loss)
train = built("32.4", my_train, solution_train)

# %%
digits = bundled_mnist()
images, labels = digits.to_float(), digits.labels
STEPS, BATCH = (600, 128) if FULL else (500, 64)
if not FULL:
    images = F.adaptive_avg_pool2d(images, 8).flatten(1)
images, held_out, labels, held_out_labels = images[:9000], images[9000:], labels[:9000], labels[9000:]


def batches(steps, seed):
    """Batches (x_0, labels after dropout, t, eps), one after the other."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        eps = torch.randn(images[chosen].shape, generator=generator)
        yield (
            images[chosen],
            drop_labels(labels[chosen], 0.1, 10, generator),
            torch.rand(BATCH, generator=generator),
            eps,
        )


torch.manual_seed(0)
network = UNet(UNetConfig()) if FULL else MLP(MLPConfig(image_shape=(64,), width=160, layers=3, num_classes=10))
losses, averages = train(network, flow_loss, batches(STEPS, seed=0), 2e-3, decay=0.99)
means = torch.tensor(losses).reshape(20, -1).mean(dim=1)
plots.curves({"loss": (torch.arange(1, 21) * STEPS // 20, means)}, title="The loss of your loop", xlabel="step",
             ylabel="mean squared error")  # fmt: skip
plt.show()
fell = float(means[-3:].mean() / means[0])
print(f"the loss fell by more than a third: {fell < 2 / 3}")
assert fell < 2 / 3

# %% [markdown]
# **What is the average for?** The same held-out digits, times and noise, with the trained weights and with their
# average. And **what is class dropout for?** Samples with guidance 1 and 3, classified by their nearest neighbour
# among real digits.


# %%
def with_weights(weights):
    made = UNet(UNetConfig()) if FULL else MLP(network.config)
    made.load_state_dict(weights)
    return made.eval()


def held_out_loss(network):
    generator = torch.Generator().manual_seed(5)
    t, eps = torch.rand(len(held_out), generator=generator), torch.randn(held_out.shape, generator=generator)
    with torch.no_grad():
        return float(flow_loss(network, held_out, held_out_labels, t, eps))


def draw(network, count, w, seed, n=20):
    cond, null = torch.arange(count) % 10, torch.full((count,), 10)
    denoise = denoisers.NetworkDenoiser(network, FlowSchedule(), "flow", cond=cond, uncond=null, guidance_scale=w)
    x_T = torch.randn(count, *images.shape[1:], generator=torch.Generator().manual_seed(seed))
    return final(euler(denoise, x_T, FlowSchedule().levels(n)))


def share_right(x):
    nearest = torch.cdist(x.flatten(1), held_out.flatten(1)).argmin(dim=1)
    return float((held_out_labels[nearest] == torch.arange(len(x)) % 10).double().mean())


raw, average = with_weights(network.state_dict()), with_weights(averages)
loss_of = {name: held_out_loss(one) for name, one in (("trained weights", raw), ("their average", average))}
drawn = {w: draw(average, 10, w, seed=1) for w in (1.0, 3.0)}
drawn["trained weights, w = 3"] = draw(raw, 10, 3.0, seed=1)
side = 28 if FULL else 8
rows = {
    f"average, w = {w:g}" if isinstance(w, float) else w: x.reshape(-1, 1, side, side).clamp(-1, 1)
    for w, x in drawn.items()
}
plots.filmstrip(rows, captions=[str(k) for k in range(10)], title="Digits of your network, 20 Euler steps")
plt.show()
right = {w: [share_right(draw(average, 200, w, seed)) for seed in (10, 300, 600)] for w in (1.0, 3.0)}
print(f"the average has the smaller held-out loss: {loss_of['their average'] < loss_of['trained weights']}")
print(f"guidance makes more digits right in each of three draws: {min(right[3.0]) > max(right[1.0])}")
if FULL:
    print(loss_of, right)
assert loss_of["their average"] < loss_of["trained weights"] and min(right[3.0]) > 0.6

# %% [markdown]
# **Measured** with `FULL = True` (600 steps of the U-Net, 8.6 minutes of processor time): the held-out loss is 0.237
# with the trained weights and 0.226 with their average. Of three draws of 200 digits, 83 ± 1% are right with guidance
# 1 and 99.7 ± 0.2% with guidance 3 (mean ± standard error; right by the nearest real digit).
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* Repeat the training with the decays 0, 0.9, 0.99 and 0.999 at the same number of steps. Which
#    is best, and how does the best one depend on the number of steps?
# 2. *★★ · 20 minutes.* Remove one line of your loop (clearing, clipping, dropout, averaging) at a time. Which
#    removals does the training loss show, and which ones only the samples?
#
# ## What to remember
#
# - The loss is regression on a velocity; all of the modelling is in what the network is given.
# - Dropping a tenth of the labels makes two models of one network.
# - Samples are drawn with averaged weights; the average must start with copies.
# - Clear, differentiate, clip, step, average: an error in this order raises no exception.
#
# **Next:** [33 · Lab: a DiT block](33_lab_dit.ipynb), the network inside the loop.
#
# ## References
#
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239):
#   Algorithm 1.
# - X. Liu, C. Gong, Q. Liu 2023, [Flow Straight and Fast](https://arxiv.org/abs/2209.03003): Eq. 1.
# - J. Ho, T. Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598): Algorithm 1.
# - T. Karras et al. 2024, [Analyzing and Improving the Training Dynamics of Diffusion
#   Models](https://arxiv.org/abs/2312.02696): Section 3, on averages of weights.
