# %% [markdown]
# # 33 · Lab: a DiT block, and a small DiT
#
# Stable Diffusion 3, FLUX and most video models are transformers, built of one block. In this lab you cut pictures
# into tokens, write attention with several heads, the block with adaLN-Zero, and a whole small diffusion transformer.
# Then you train it on digits, and find out what the zeros at its start are for.
#
# **When you have worked through it, you can**
#
# - cut a picture into patches and put them back, for any number of channels;
# - write attention from matrix products, and say what a head is;
# - explain scale, shift and gate, and why the gate starts at zero but the layer behind it must not;
# - assemble a DiT, and test it without training it.
#
# *Beside you:* notebook [07](07_unet_and_dit.ipynb), sections 4 to 7; Peebles & Xie 2023, [Scalable Diffusion Models
# with Transformers](https://arxiv.org/abs/2212.09748), Section 3. About 15 minutes to read, two hours and a half with
# the exercises and questions.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from diffusion_explained import FlowSchedule, bundled_mnist, denoisers, euler, final, plots
from diffusion_explained.exercises import built, check
from diffusion_explained.models import dit, embeddings
from diffusion_explained.training.loop import training_loss

FULL = False  # True: five minutes on two cores, digits of 28 x 28. False: seconds, digits of 8 x 8
plt.rcParams["figure.dpi"] = 100
torch.set_num_threads(2 if FULL else 1)

# %% [markdown]
# ## What you build
#
# **Tokens.** A picture of $C \times H \times W$ in patches of $p \times p$ becomes $N = H W / p^2$ tokens of $C p^2$
# numbers, row by row.
#
# **Attention.** Each token asks with $q$, is found by $k$ and answers with $v$. A head has $d$ numbers of each, and
# its own weights:
#
# $$
# \operatorname{head}_h = \operatorname{softmax}\left(\frac{q_h k_h^\top}{\sqrt d}\right) v_h.
# \tag{Vaswani et al. 2017, Eq. 1}
# $$
#
# <small>In code: `models.attention.Attend`. Test:
# `tests/test_dit.py::test_what_attention_gathers_is_weighted_by_what_it_shows`.</small>
#
# **The block.** From time and class, a vector `cond`, one linear layer computes six vectors, a scale, a shift and a
# gate for each of two parts:
#
# $$
# x \leftarrow x + g_1 \odot \operatorname{attention}\big((1 + s_1) \odot \operatorname{norm}(x) + b_1\big), \qquad
# x \leftarrow x + g_2 \odot \operatorname{mlp}\big((1 + s_2) \odot \operatorname{norm}(x) + b_2\big).
# $$
#
# <small>In code: `models.dit.Block`. Test:
# `tests/test_dit.py::test_a_block_is_the_papers`.</small>
#
# The norms have no weights of their own. The linear layer starts at 0, so a new block is the identity, whatever its
# depth: this is *adaLN-Zero*.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two. One to three stars say how hard an exercise is.
#
# **Exercise 1 · Patches.** *★ · 15 minutes.* Write `my_patches(x, size)`: pictures `[B, C, H, W]` as tokens `[B, N, C
# * size * size]`. The patches come row by row, and the numbers of a patch as the channels of its pixels: first all of
# channel 0, row by row, then channel 1.

# %%
my_patches = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_patches(x, size):
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // size, size, W // size, size)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // size) * (W // size), C * size**2)


# %%
check("33.1", my_patches, solution_patches)

# %% [markdown]
# **Exercise 2 · Attention with heads.** *★★ · 25 minutes.* Write `my_attention(q, k, v, heads)` for `q`, `k` and `v`
# of the shape `[B, N, width]`. Head $h$ has the neighbouring numbers from $h d$ to $(h + 1) d$ of a token, with $d$ =
# `width / heads`. Return `[B, N, width]`, the heads beside one another again. Use matrix products, not torch's
# attention.

# %%
my_attention = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_attention(q, k, v, heads):
    q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))  # [B, heads, N, d]
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)  # [B, heads, N, N]
    return (weights @ v).transpose(1, 2).flatten(2)


# %%
check("33.2", my_attention, solution_attention)

# %% [markdown]
# **Exercise 3 · A block with adaLN-Zero.** *★★★ · 40 minutes.* Write `my_block(width, heads)`, which returns an
# `nn.Module` that is called as `block(tokens, cond)` with `[B, N, width]` and `[B, width]`. Attention has a linear
# layer to $q$, $k$, $v$ and one after it; the two-layer network is four times as wide inside, with a GELU. A class
# may have the name `my_block`.

# %%
my_block = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
class SolutionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(width, 6 * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, tokens, cond):
        s1, b1, g1, s2, b2, g2 = self.modulate(cond)[:, None].chunk(6, dim=-1)
        q, k, v = self.qkv((1 + s1) * self.norm(tokens) + b1).chunk(3, dim=-1)
        tokens = tokens + g1 * self.out(solution_attention(q, k, v, self.heads))
        return tokens + g2 * self.mlp((1 + s2) * self.norm(tokens) + b2)


solution_block = SolutionBlock

# %%
check("33.3", my_block, solution_block)

# %% [markdown]
# **Exercise 4 · A small DiT.** *★★★ · 45 minutes.* Write `my_dit(side, patch, width, depth, heads, num_classes)`,
# which returns a module that is called as `network(x_t, t, labels)` with pictures `[B, 1, side, side]` and returns
# their shape. Its parts: `cond = TimeEmbedding(width)(t) + ClassEmbedding(num_classes, width)(labels, B)`; patches, a
# linear layer, plus `positions((rows, columns), width)`, which is `[N, width]`; `depth` blocks; a norm, modulated by
# a scale and a shift from `cond`; a last linear layer, which starts at 0; the tokens put back into a picture. Label
# `num_classes` is the null label.

# %%
my_dit = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
class SolutionDiT(nn.Module):
    def __init__(self, side, patch, width, depth, heads, num_classes):
        super().__init__()
        self.patch, self.grid = patch, (side // patch, side // patch)
        self.time, self.label = embeddings.TimeEmbedding(width), embeddings.ClassEmbedding(num_classes, width)
        self.embed = nn.Linear(patch**2, width)
        self.register_buffer("places", dit.positions(self.grid, width))
        self.blocks = nn.ModuleList(SolutionBlock(width, heads) for _ in range(depth))
        self.norm, self.modulate = nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch**2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x_t, t, labels):
        cond = self.time(t) + self.label(labels, len(x_t))
        tokens = self.embed(solution_patches(x_t, self.patch)) + self.places
        for block in self.blocks:
            tokens = block(tokens, cond)
        scale, shift = self.modulate(cond)[:, None].chunk(2, dim=-1)
        tokens = self.head((1 + scale) * self.norm(tokens) + shift)
        return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, self.grid), self.patch)


solution_dit = SolutionDiT

# %%
check("33.4", my_dit, solution_dit)

# %% [markdown]
# ## Train your DiT
#
# From here on the lab uses your answer. The committed run trains it on digits of 8 x 8 pixels, in 16 tokens; `FULL =
# True` on pictures of 28 x 28 pixels, in 49 tokens.

# %%
make_dit = built("33.4", my_dit, solution_dit)

# %%
digits, schedule = bundled_mnist(), FlowSchedule()
SIDE, PATCH, WIDTH, DEPTH, STEPS = (28, 4, 128, 4, 450) if FULL else (8, 2, 48, 2, 300)
images = digits.to_float() if FULL else F.adaptive_avg_pool2d(digits.to_float(), SIDE)
labels, held_out, held_out_labels = digits.labels[:9000], images[9000:], digits.labels[9000:]


def trained(gate, steps, seed=0):
    """Train a new DiT whose modulations start with gates of this size; returns the network and the losses."""
    torch.manual_seed(seed)
    network = make_dit(SIDE, PATCH, WIDTH, DEPTH, 4, 10)
    if gate:
        for layer in network.modules():
            if isinstance(layer, nn.Linear) and layer.out_features == 6 * WIDTH:
                nn.init.constant_(layer.bias, gate)
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=3e-3, betas=(0.9, 0.99), fused=True), []
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen, t = torch.randint(9000, (64,), generator=generator), schedule.sample_t(64, generator)
        eps = torch.randn(64, 1, SIDE, SIDE, generator=generator)
        label = torch.where(torch.rand(64, generator=generator) < 0.1, 10, labels[chosen])
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        loss = training_loss(network, "flow", images[chosen], eps, 1 - t.float(), t.float(), 1000 * t.float(), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return network.eval(), torch.tensor(losses)


network, losses = trained(gate=0.0, steps=STEPS)
curves = {"gates start at 0": losses}
if FULL:  # the same network, with open gates at the start
    for gate in (0.3, 1.0):
        curves[f"gates start at {gate:g}"] = trained(gate, STEPS)[1]
averaged = {name: one.reshape(-1, STEPS // 25).mean(dim=1) for name, one in curves.items()}
plots.curves({name: (torch.arange(1, 26) * STEPS // 25, one) for name, one in averaged.items()}, xlabel="step",
             title="The loss of your DiT", ylabel="mean squared error")  # fmt: skip
plt.show()
print(f"the loss fell to less than half: {bool(averaged['gates start at 0'][-3:].mean() < losses[0] / 2)}")
assert averaged["gates start at 0"][-3:].mean() < losses[0] / 2

# %% [markdown]
# Now digits, by 20 Euler steps with guidance 2, and their classes by the nearest real digit.


# %%
def draw(count, seed):
    cond, null = torch.arange(count) % 10, torch.full((count,), 10)
    denoise = denoisers.NetworkDenoiser(network, schedule, "flow", cond=cond, uncond=null, guidance_scale=2.0)
    x_T = torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return final(euler(denoise, x_T, schedule.levels(20)))


drawn = draw(20, seed=1)
plots.image_grid(drawn.clamp(-1, 1), columns=10, title=f"Digits of your DiT, {(SIDE // PATCH) ** 2} tokens each")
plt.show()
shares = []
for seed in (10, 300, 600):
    nearest = torch.cdist(draw(100, seed).flatten(1), held_out.flatten(1)).argmin(dim=1)
    shares.append(float((held_out_labels[nearest] == torch.arange(100) % 10).double().mean()))
print(f"more than three in five digits are right, in each of three draws: {min(shares) > 0.6}")
if FULL:
    print(
        [round(share, 2) for share in shares],
        {name: round(float(one[-5:].mean()), 3) for name, one in averaged.items()},
    )
assert min(shares) > 0.6

# %% [markdown]
# **Measured** with `FULL = True` (three trainings of 450 steps, 8.1 minutes of processor time): of three draws of 100
# digits, 86 ± 1% are right (mean ± standard error; right by the nearest real digit). Over the last fifth of the
# training the loss is 0.266 with gates that start at 0, 0.265 with 0.3 and 0.293 with 1 (one training each): in four
# blocks a small opening costs nothing, open gates do.
#
# ## Open questions
#
# Rubrics are in the instructor's [answers](../docs/course/answers.md#labs). Answer in a few sentences, with a
# measurement where you can.
#
# 1. *★★ · 15 minutes.* Halve the patch size. How many more tokens, how much more time per step, and how much smaller
#    a loss at the same number of steps? And at the same time?
# 2. *★★★ · 20 minutes.* A colleague sets the last layer of attention and of the network to 0 as well, "to be safe".
#    Explain from the gradients at the first and at the second step what happens.
#
# ## What to remember
#
# - A transformer sees a picture as a set of tokens; only the positions make it a picture.
# - Time and class act through scale, shift and gate, in every block.
# - adaLN-Zero: a deep network begins as the identity, and its gates open where that lowers the loss.
# - Most errors of such a network are found without training: by its size, its first output and one gradient.
#
# **Next:** [34 · Lab: an autoencoder and a latent flow](34_lab_latent_flow.ipynb): fewer numbers for the same
# picture.
#
# ## References
#
# - W. Peebles, S. Xie 2023, [Scalable Diffusion Models with Transformers](https://arxiv.org/abs/2212.09748): Section
#   3.2.
# - A. Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762): Section 3.2.
# - A. Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): patches as tokens.
# - P. Goyal et al. 2017, [Accurate, Large Minibatch SGD](https://arxiv.org/abs/1706.02677): residual blocks that
#   start at 0.
