# %% [markdown]
# # 07 · Inside the U-Net and the DiT
#
# So far the network was a black box: its inputs are a noisy picture, a time and a class, its output is a tensor of the
# picture's shape. This notebook examines the two most important architectures. The **U-Net** was the network of the
# first diffusion models (DDPM, Stable Diffusion 1 and 2): the resolution is reduced, the coarse features are processed,
# and the resolution is increased again. The **DiT** is the network of newer models (Stable Diffusion 3, FLUX, Sora):
# the picture is split into patches, which exchange information by attention. We record the features of both networks,
# remove parts to measure their effect, and count the cost of each part.
#
# **When you have worked through it, you can**
#
# - draw the U-Net with its feature shapes, and explain why it *needs* its skip connections;
# - measure the effect of each skip connection, at a low and at a high noise level;
# - convert a picture into tokens and back, and say what is lost without positions;
# - explain adaLN-Zero, and why a new block of a DiT is the identity;
# - compute attention maps and measure the distance over which a network attends;
# - write down the FLOPs of a DiT from memory, and predict the cost of a resolution or a patch size.
#
# *Beside you:* `diffusion_explained/models/unet.py` and `dit.py`, 200 lines each; Peebles & Xie 2023, [Scalable
# Diffusion Models with Transformers](https://arxiv.org/abs/2212.09748). About 45 minutes to read, under a minute to
# run.
#
# > **About the pictures.** The colour pictures here were drawn by our own network `cifar10_unet_flow_fine`; CIFAR-10
# > itself is not needed, so that you see the same on every machine. The digits are real.

# %%
import copy
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from diffusion_explained import (
    DiT,
    DiTConfig,
    UNet,
    add_noise,
    bundled_mnist,
    comparisons,
    generators,
    inside,
    load_pretrained,
    made_by_model,
    plots,
    randn,
)
from diffusion_explained.exercises import check
from diffusion_explained.models import count_flops, count_parameters, embeddings

plt.rcParams["figure.dpi"] = 90
unet, dit = load_pretrained("cifar10_unet_flow"), load_pretrained("cifar10_dit_flow")
pictures = made_by_model("cifar10")
print(pictures)

# %% [markdown]
# ## 1 · The U-Net: down, across, up
#
# In the *encoder* each level halves the resolution; in the *decoder* each level doubles it again. With $c$ the vector
# of time and class, and level $k$ counted from the finest:
#
# $$
# h_k = f_k\big(\text{down}(h_{k-1}),\, c\big), \qquad
# u_k = g_k\big(\,[\,\text{up}(u_{k+1}),\; h_k\,],\, c\big) .
# \tag{U-Net, Sec. 2}
# $$
#
# <small>In code: `models.UNet.forward`. Test:
# `tests/test_inside.py::test_skips_are_the_pairs_that_the_forward_pass_joins`.</small>
#
# The bracket is a **skip connection**: the encoder's features of level $k$ are concatenated, as further channels, with
# the upsampled features of the level below. `feature_shapes` runs one blank picture and records the shape of every
# layer's output, by *forward hooks*: torch calls them after each layer, and they do not change the computation.

# %%
features = inside.feature_shapes(unet.network)
for feature in features:
    print(f"{feature.layer:<12} {feature.kind:<15} {feature.shape!s:<14} {feature.size:>6,} numbers")

shapes = {feature.layer: feature.shape for feature in features}
down = [shapes[skip.source] for skip in inside.skip_connections(unet.network)]
up = [shapes[skip.target] for skip in inside.skip_connections(unet.network)]
assert down == up  # the decoder mirrors the encoder, so the shapes of both ends of a skip agree

# %%
drawn = [f for f in features if len(f.shape) == 3 and f.layer not in ("norm", "input_gain")]
plots.shape_diagram(
    drawn, inside.skip_connections(unet.network), title="The U-Net: height is resolution, width is channels"
)
plt.show()

in_the_picture, in_the_middle = 3 * 32 * 32, shapes["middle.1"][0] * shapes["middle.1"][1] * shapes["middle.1"][2]
print(f"a picture has {in_the_picture:,} numbers; the features in the middle have {in_the_middle:,}")
assert in_the_middle < in_the_picture

# %% [markdown]
# (The first 16×16 is not an error: 2×2 pixels are first rearranged into channels, because layers at full resolution
# would take most of the time.)
#
# The last line of the output explains the arrows. The network has to predict the noise (or the velocity
# $\varepsilon - x_0$, which contains the noise): 3,072 *independent* numbers. Noise cannot be compressed, and the
# middle holds fewer numbers than that. **All information about the noise of single pixels has to bypass the middle.** A
# classifier may discard the positions of things; a denoiser may not.
#
# ## 2 · Features as pictures
#
# The input is a noisy picture at $t = 0.3$. The figure shows ten channels of each of five layers, blue below zero, red
# above:

# %%
x_0, labels = pictures.batch(torch.arange(0, 400, 50))  # eight pictures, each of another class
eps = randn(x_0.shape, generators(len(x_0), seed=0))
level = unet.schedule.level(0.3)
x_t, t = add_noise(x_0, eps, level), unet.schedule.network_time(level.t).expand(len(x_0))

seen = {name: inside.feature_maps(unet.network, name, x_t, t, labels) for name in
        ("encoder.0", "encoder.3", "middle.1", "decoder.3", "decoder.5")}  # fmt: skip
plots.image_grid(torch.cat([x_t[:4], x_0[:4]]), captions=["$x_t$"] * 4 + ["$x_0$"] * 4, title="Noisy and clean")
plt.show()
plots.map_rows(
    {name: maps[0, :10] for name, maps in seen.items()}, title="Features of the first picture in five layers"
)
plt.show()

# check that these are the features that the network computes with: the head turns the last of them into the output
network = unet.network
finished = F.pixel_shuffle(network.head(F.silu(network.norm(seen["decoder.5"]))), 2)
gain = inside.feature_maps(network, "input_gain", x_t, t, labels)
torch.testing.assert_close(finished + gain, network(x_t, t, labels))

# %% [markdown]
# The features of the first layer contain grain; those of the middle a few blobs. Is that *denoising*, or only blurring?
# It can be measured. Run every picture with several draws of the noise, and split the variance of each layer's features
# into the part that depends on the **picture** and the part that depends on the **draw** of the noise:
#
# $$ \text{share} = \frac{\text{between pictures}}{\text{between pictures} + \text{within a picture, between draws}} $$
#
# <small>In code: `inside.picture_share`. Test:
# `tests/test_inside.py::test_the_pictures_share_of_what_features_vary_by`.</small>
#
# The share is 1 for a layer whose features do not depend on the noise, and 0 for a layer whose features depend only on
# the noise; in the library it is `picture_share`.

# %%
names = [f.layer for f in drawn if f.layer != "head"]
same, draws = x_0.repeat_interleave(4, dim=0), randn((32, *x_0.shape[1:]), generators(32, seed=1))
shares = {}
for time in (0.2, 0.5, 0.8):
    noisy, clock = add_noise(same, draws, unet.schedule.level(time)), unet.schedule.network_time(time).expand(32)
    with inside.watch(network, names) as passed:
        network(noisy, clock)
    through = [noisy, *(passed[name].output for name in names)]
    shares[time] = [inside.picture_share(maps.unflatten(0, (8, 4))) for maps in through]

plots.curves({f"t = {time}": (range(len(share)), share) for time, share in shares.items()},
             title="Share of the variance that depends on the picture",
             xlabel="layer  (0 is $x_t$ itself, then from stem to decoder)",
             ylabel="share of the variance")  # fmt: skip
plt.show()
deepest = 1 + names.index("middle.1")
print(f"at t = 0.5 the picture's share of the variance is {shares[0.5][0]:.1f} in x_t, "
      f"and {shares[0.5][deepest]:.1f} in the middle")  # fmt: skip
assert all(share[deepest] > share[0] + 0.1 for share in shares.values())
after_the_skip = 1 + names.index("decoder.4")
assert all(min(share[deepest:]) == min(share[after_the_skip - 2 :]) for share in shares.values())  # the decoder's

# %% [markdown]
# The share rises in the encoder, not monotonically (it falls where the resolution is halved), and it is large in the
# middle, whose features contain the picture even under noise that hides it from the eye. In the decoder the share falls
# where the resolution increases again and fine features, with their grain, are added by the skip connections. What
# happens without the skips? Let us cut them.
#
# ## 3 · The information in the skip connections
#
# For this we use the smallest U-Net of the course, that of the digits. It has two skips: a *fine* one at 14×14 and a
# *coarse* one at 7×7. `cut` replaces the features of a skip by zeros inside the `with` block; the weights are
# unchanged.

# %%
small = load_pretrained("mnist_unet_flow")
fine, coarse = inside.skip_connections(small.network)
digits, which = bundled_mnist().batch(torch.arange(0, 10_000, 200))  # 50 real digits
grain = randn(digits.shape, generators(len(digits), seed=0))
cuts = {"no cut": [], "coarse cut": [coarse], "fine cut": [fine], "both cut": [fine, coarse]}


def predicted_x_0(model, pictures, labels, noise, time, skips):
    """The network's prediction of the pictures from their noisy versions at `time`, with zeros in place of `skips`."""
    level = model.schedule.level(time)
    with inside.cut(model.network, skips):
        return model.denoiser(labels, guidance_scale=1)(add_noise(pictures, noise, level), level).x_0


def at_both_ends(skips):
    """Predictions of five digits in weak noise, then of the same five digits in strong noise."""
    return torch.cat([predicted_x_0(small, digits[:5], which[:5], grain[:5], time, skips) for time in (0.1, 0.9)])


noisy = [add_noise(digits[:5], grain[:5], small.schedule.level(time)) for time in (0.1, 0.9)]
predictions = {name: at_both_ends(skips) for name, skips in cuts.items()}
plots.filmstrip({"$x_t$": torch.cat(noisy), **predictions}, captions=["t = 0.1"] * 5 + ["t = 0.9"] * 5,
                title="Predicted digits, with skips cut")  # fmt: skip
plt.show()
assert torch.equal(predictions["no cut"], at_both_ends([]))  # the cuts were undone

# %% [markdown]
# In weak noise ($t = 0.1$, left) the prediction without the fine skip turns grey and grainy: it *keeps the noise* that
# the network should have predicted, because the noise is in single pixels, and the middle, where one position
# represents 4×4 pixels, has lost them. In strong noise ($t = 0.9$, right) hardly anything changes. No detail can be
# recovered there; the prediction comes from the middle. In numbers, over all noise levels (pixels are between -1 and
# 1):

# %%
times = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95]
errors = {
    name: [comparisons.rms_distance(predicted_x_0(small, digits, which, grain, time, skips), digits) for time in times]
    for name, skips in cuts.items()
}
plots.curves({name: (times, error) for name, error in errors.items()},
             title="Error of the predicted digit, with skips cut",
             xlabel="t  (0 is data, 1 is noise)", ylabel="root mean square error")  # fmt: skip
plt.show()

error_of_x_t = comparisons.rms_distance(add_noise(digits, grain, small.schedule.level(0.1)), digits)
print(f"t = 0.1: the error of x_t is {error_of_x_t:.2f}, of the prediction {errors['no cut'][1]:.2f}, without the fine "
      f"skip {errors['fine cut'][1]:.2f}: larger than that of x_t itself")  # fmt: skip
for time in (0.05, 0.5, 0.95):
    k = times.index(time)
    worse = {name: errors[name][k] / errors["no cut"][k] for name in cuts if name != "no cut"}
    print(f"t = {time:<4}: relative error " + ", ".join(f"{factor:.1f} ({name})" for name, factor in worse.items()))
assert errors["fine cut"][1] > error_of_x_t > 2 * errors["no cut"][1]
assert errors["fine cut"][0] > 3 * errors["no cut"][0] and errors["fine cut"][-1] < 1.2 * errors["no cut"][-1]
assert all(uncut < both for uncut, both in zip(errors["no cut"], errors["both cut"], strict=True))

# %% [markdown]
# **The skips carry detail, and detail matters when there is little noise.** Near the data the skips are essential; near
# pure noise they have almost no effect. (There the noise itself has another bypass: `input_gain` adds a multiple of
# $x_t$ to the output, one factor per channel, computed from the time. In the diagram it would be one more arrow, above
# all others.)
#
# ## 4 · The DiT: patches become tokens
#
# The other network has no resolution levels. It splits $x_t$ into patches of $p \times p$ pixels and treats them as a
# sequence of tokens:
#
# $$
# x_t \in \mathbb R^{C \times H \times W} \;\longrightarrow\;
# N = \frac{H}{p} \cdot \frac{W}{p} \ \text{ tokens of } C p^2 \text{ numbers} \;\longrightarrow\;
# N \text{ tokens of } d \text{ numbers (the width)}
# \tag{DiT, Sec. 3.2}
# $$
#
# <small>In code: `models.DiT.forward`. Test:
# `tests/test_dit.py::test_patches_go_back_where_they_came_from`.</small>
#
# The split is `pixel_unshuffle`, and it loses nothing: the inverse gives the same picture, bit for bit. After that
# every layer has the *same* shape, from first to last.

# %%
small_dit = load_pretrained("mnist_dit_flow")
tokens = F.pixel_unshuffle(digits, 4).flatten(2).transpose(1, 2)  # [50, 49, 16]
back = F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (7, 7)), 4)
assert torch.equal(back, digits)

plots.token_panels(digits[3], patch_size=4, title="A digit as a sequence of 49 tokens")
plt.show()
for feature in inside.feature_shapes(small_dit.network):
    print(f"{feature.layer:<12} {feature.kind:<15} {feature.shape!s:<12} {feature.size:>5,} numbers")
    assert feature.kind != "Block" or feature.shape == (49, 160)

# %% [markdown]
# To a transformer the tokens are a *set*: it does not know which tokens are neighbours. So a position vector is added
# to each token: a fixed vector of sines and cosines of its row and of its column. Neighbours get similar vectors:

# %%
places = dit.network.positions
table = F.normalize(places - places.mean(0), dim=-1)
similarity = (table @ table.T).unflatten(1, (16, 16))  # of each patch to all patches of the 16 x 16 grid
patches = [0, 8, 15, 8 * 16 + 4, 8 * 16 + 12, 15 * 16]
plots.map_rows({"cosine": similarity[patches]}, title="Cosine similarity of six position vectors to all others")
plt.show()
assert torch.equal(similarity.flatten(1).argmax(dim=1), torch.arange(256))  # each vector is most similar to itself

# %% [markdown]
# What if there were no position vectors? Then shuffling the patches would only shuffle the output. Set the table to
# zero in a copy, and check this:

# %%
shuffle = torch.randperm(49, generator=torch.Generator().manual_seed(0))


def shuffled(x):
    """The same patches in another arrangement."""
    return F.pixel_shuffle(F.pixel_unshuffle(x, 4).flatten(2)[..., shuffle].unflatten(2, (7, 7)), 4)


blind = copy.deepcopy(small_dit.network)
blind.positions.zero_()
some, clock = add_noise(digits[:5], grain[:5], small_dit.schedule.level(0.5)), torch.full((5,), 500.0)

torch.testing.assert_close(blind(shuffled(some), clock), shuffled(blind(some, clock)), atol=1e-4, rtol=0)
apart = comparisons.rms_distance(small_dit.network(shuffled(some), clock), shuffled(small_dit.network(some, clock)))
print(f"without positions, a shuffled digit gives the shuffled output; with positions, another output: {apart > 0.05}")
assert apart > 0.05

# %% [markdown]
# ## 5 · Attention between patches
#
# In each block every token attends to all tokens. Its query $q_n$ is compared with every key $k_m$, the results become
# weights that sum to 1, and the token receives the weighted sum of the values $v_m$:
#
# $$
# A_{nm} = \operatorname{softmax}_m \frac{q_n \cdot k_m}{\sqrt{d_{\text{head}}}}, \qquad
# \text{output}_n = \sum_m A_{nm}\, v_m
# \tag{Attention is all you need, Eq. 1}
# $$
#
# <small>In code: `inside.attention_maps`. Test:
# `tests/test_inside.py::test_attention_is_shown_as_the_network_computes_it`.</small>
#
# <details><summary>Derivation of the root</summary>
#
# 1. Let the entries of $q$ and $k$ be independent, with mean 0 and variance 1. Each product $q_i k_i$ then has the
#    mean 0 and the variance $1 \cdot 1 = 1$.
# 2. $q \cdot k$ is a sum of $d_{\text{head}}$ such products, so its variance is $d_{\text{head}}$; divided by
#    $\sqrt{d_{\text{head}}}$ it is 1 again.
# 3. Why it matters: with scores of size $\sqrt{d_{\text{head}}}$ the softmax is nearly 0 or 1, and the derivative
#    $A_{nm} (1 - A_{nm})$ is nearly 0. The network would hardly learn whom to attend to.
#
# </details>
#
# `attention_maps` recomputes $A$ in every block, from the block's input. The maps show the attention weights of the
# framed patch: bright patches have large weights (the mean of four heads; each map has its own scale).

# %%
noisy, weights = {}, {}
for time in (0.1, 0.5, 0.9):
    name, x_t = f"t = {time}", add_noise(x_0, eps, dit.schedule.level(time))
    maps = inside.attention_maps(dit.network, x_t, dit.schedule.network_time(time).expand(len(x_t)), labels)
    noisy[name], weights[name] = x_t[0], {block: a.seen_from(8, 8)[0].mean(0) for block, a in maps.items()}

plots.attention_panels(noisy, weights, at=(8, 8), title="Attention weights of one patch, block by block")
plt.show()

with inside.watch(dit.network, ["blocks.0.attend"]) as passed:
    dit.network(x_t, dit.schedule.network_time(0.9).expand(len(x_t)), labels)
v = dit.network.blocks[0].attend.heads(passed["blocks.0.attend"].input)[2]
output = (maps["blocks.0"].weights @ v).transpose(1, 2).flatten(2)
torch.testing.assert_close(output, passed["blocks.0.attend"].output)  # the network computes with these weights
assert all(abs(float(map_.sum()) - 1) < 1e-4 for row in weights.values() for map_ in row.values())

# %% [markdown]
# How far does attention reach? Weight the distance to each token by its attention weight, and average over all tokens
# and heads (*mean attention distance*; a convolution of 3×3 would have about 1). Uniform attention over all tokens
# would have the distance in the panel's title.

# %%
times = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]
distances = []
for time in times:
    x_t, clock = add_noise(x_0, eps, dit.schedule.level(time)), dit.schedule.network_time(time).expand(len(x_0))
    maps = inside.attention_maps(dit.network, x_t, clock, labels)
    distances.append([float(a.distance().mean()) for a in maps.values()])
uniform = float(inside.Attention((16, 16), torch.full((1, 1, 256, 256), 1 / 256)).distance())

rows, columns = [f"block {k}" for k in range(len(maps))], [f"{time:g}" for time in times]
plots.heat_panels({f"uniform attention: {uniform:.1f}": torch.tensor(distances).T}, rows, columns,
                  title="Mean attention distance, in patches", xlabel="t  (0 is data, 1 is noise)")  # fmt: skip
plt.show()
print(f"uniform attention on a grid of 16 × 16 has a mean distance of {uniform:.1f} patches")
assert all(0.5 < d < uniform for row in distances for d in row)
assert all(min(row) == row[1] for row in distances)  # block 1 has the smallest distance at every time
# and every block has a larger distance in strong noise than in weak noise
assert all(weak < strong for weak, strong in zip(distances[0], distances[-1], strict=True))

# %% [markdown]
# **In strong noise attention reaches further**: many patches together contain information that a single patch does not,
# and their noise averages out. In weak noise the neighbours are enough, and block 1 behaves nearly like a convolution
# of $3 \times 3$: a cross of four neighbours, without the patch itself at $t = 0.1$. From there on the distance of each
# block is larger than that of the block before. Block 0 does not fit into this order. (The map of a single patch shows
# that attention depends on the content at $t = 0.1$ and 0.5: it follows the aeroplane, not the sky.)
#
# Every pair of tokens is compared, in every block: convolutions need several layers to carry information across the
# picture, attention needs one. That is its strength, and the reason for its cost (section 7). Our U-Net has attention
# as well, but only at 8×8 and in the middle, where there are few positions.
#
# ## 6 · Time and class, in every block
#
# Both networks receive $t$ and the class in the same way: as two vectors, which are added and passed to **every
# block**, where they scale and shift the normalised features.
#
# $$
# c = \operatorname{silu}\big(\text{MLP}(\text{sinusoids}(t)) + \text{table}[\text{class}]\big), \qquad
# h \leftarrow \text{norm}(h) \odot (1 + \text{scale}(c)) + \text{shift}(c)
# \tag{ADM, Sec. 3; DiT, Sec. 3.2}
# $$
#
# <small>In code: `models.dit.modulated`. Test:
# `tests/test_dit.py::test_modulation_is_a_scale_around_one_and_a_shift`.</small>
#
# In the DiT the vector also controls **gates**. Each block multiplies its two results, before adding them, by a factor
# that is 0 when training begins,
#
# $$
# \text{tokens} \leftarrow \text{tokens} + \text{gate}_1(c) \odot \text{attention}, \qquad
# \text{tokens} \leftarrow \text{tokens} + \text{gate}_2(c) \odot \text{MLP},
# \tag{adaLN-Zero}
# $$
#
# <small>In code: `models.dit.Block.forward`. Test:
# `tests/test_dit.py::test_a_block_is_the_papers`.</small>
#
# so the blocks of a new network of any depth *are the identity*, and training increases the influence of each block.
# How large did the gates become?

# %%
fresh = DiT(DiTConfig()).blocks[0]
tokens, c = randn((1, 49, 192), generators(1)), randn((1, 192), generators(1, seed=1))
assert torch.equal(fresh(tokens, c), tokens)
print("a new block returns its input, bit for bit")

times = [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]
clock = dit.schedule.network_time(torch.tensor(times))
c = F.silu(dit.network.embed_time(clock) + dit.network.embed_class(None, len(clock)))
gates = [block.modulate(c).chunk(6, dim=-1) for block in dit.network.blocks]  # scale, shift, gate; scale, shift, gate
opened = {
    name: torch.stack([gate[k].abs().mean(dim=-1) for gate in gates])
    for name, k in (("attention", 2), ("two-layer network", 5))
}
plots.heat_panels(opened, rows, columns, title="Mean |gate| of each block", digits=2,
                  xlabel="t  (0 is data, 1 is noise)")  # fmt: skip
plt.show()
assert min(float(table.min()) for table in opened.values()) > 0.1  # every block is in use, at every time
attend, alone = opened["attention"].mean(0), opened["two-layer network"].mean(0)  # over the blocks
assert attend[5] > 1.2 * attend[0] and alone[0] > 1.2 * alone[5]  # t = 0.9 and 0.02

# %% [markdown]
# The network behaves differently at each noise level: it changes the weight of its own blocks. The gates of attention
# are largest in strong noise ($t = 0.7$ to 0.9) and in the late blocks, where attention reaches far; those of the
# two-layer networks, which process one token at a time, are larger near the data, most of all in the first block. At
# $t = 0.98$ nearly all gates are smaller again: there the input contains hardly any information.
#
# ### Which classes are similar?
#
# The class table has a vector for each class. One expects "cat" near "dog". Compare the cosine similarities of these
# vectors (after subtracting their mean) with those of the *effects* of the classes: how each class changes the
# prediction $\hat x_0$ for the same sixteen noises, at $t = 0.9$.

# %%
level = unet.schedule.level(0.9)
x_t = randn((16, 3, 32, 32), generators(16, seed=2))
unconditional = unet.denoiser()(x_t, level).x_0
effects = torch.stack(
    [unet.denoiser([k] * 16, guidance_scale=1)(x_t, level).x_0 - unconditional for k in range(10)]
).flatten(1)


def cosines(vectors):
    """The cosine of every pair of vectors [K, n], after subtracting their mean."""
    directions = F.normalize(vectors - vectors.mean(0), dim=1)
    return directions @ directions.T


of_vectors, of_effects = cosines(unet.network.embed_class.table.weight[:10]), cosines(effects)
plots.similarity_panels({"class vectors": of_vectors, "effects on the prediction": of_effects}, unet.class_names,
                        title="Similarity of the classes, U-Net of CIFAR-10")  # fmt: skip
plt.show()

pairs = [(i, j) for i in range(10) for j in range(i)]
strength = {name: sum(abs(float(matrix[pair])) for pair in pairs) / 45 for name, matrix in
            (("vectors", of_vectors), ("effects", of_effects))}  # fmt: skip
print(f"mean |cosine| of two classes: {strength['vectors']:.1f} (vectors), {strength['effects']:.1f} (effects)")
closest = sorted(pairs, key=lambda pair: -float(of_effects[pair]))[:3]
print(
    "most similar effects:", ", ".join(sorted(f"{unet.class_names[j]} and {unet.class_names[i]}" for i, j in closest))
)
assert strength["vectors"] < 0.6 * strength["effects"]
assert min(of_effects[9, 1], of_effects[5, 3], of_effects[8, 0]) > 0.2  # truck, automobile; dog, cat; ship, airplane

# %% [markdown]
# **The class vectors are not meaningful, their effects are.** The effects form two groups, the six animals and the four
# vehicles, and within them the expected pairs: cat and dog, automobile and truck, airplane and ship (which share their
# background, sky or sea). In 256 dimensions ten random vectors are nearly orthogonal, and training had no reason to
# move them: the table only has to distinguish the classes. Their similarity is in the layers that process the vectors.
# Be careful with figures of embeddings that are shown without this control.
#
# Times are different: the sinusoids already give similar vectors to neighbouring times, and two layers transform them.
# The output of these layers changes slowly in between and fast near the two ends.

# %%
clock = torch.linspace(0, 1000, 101)
vectors = {"sinusoids": embeddings.sinusoids(clock, 256), "after two layers": unet.network.embed_time(clock)}
to_half = {name: F.cosine_similarity(v, v[50:51], dim=1) for name, v in vectors.items()}
plots.curves({name: (clock / 1000, cosine) for name, cosine in to_half.items()},
             title="Similarity of each time to t = 0.5",
             xlabel="t  (0 is data, 1 is noise)", ylabel="cosine")  # fmt: skip
plt.show()
assert all(abs(float(cosine[50]) - 1) < 1e-4 and int(cosine.argmax()) == 50 for cosine in to_half.values())
assert float(to_half["after two layers"][30:71].min()) > 0.9 > 0.7 > float(to_half["sinusoids"][:50].max())

# %% [markdown]
# ## 7 · The cost
#
# `costs` counts parameters and FLOPs part by part (a multiplication and an addition are two; convolutions and matrix
# products only). Both networks have about the same number of weights. The next cell shows which parts contain the
# weights, and which parts need the FLOPs:

# %%
for name, model in (("U-Net", unet), ("DiT", dit)):
    table = inside.costs(model.network)
    assert sum(cost.parameters for cost in table) == count_parameters(model.network)
    assert sum(cost.flops for cost in table) == count_flops(model.network)
    weights, work = count_parameters(model.network), count_flops(model.network)
    print(f"{name:<20} {weights / 1e6:6.2f} M weights {work / 1e6:10,.0f} MFLOP")
    for part, parameters, flops in table:
        print(f"  {part:<18} {parameters / 1e6:6.2f} M {parameters / weights:7.0%} "
              f"{flops / 1e6:10,.0f} MFLOP {flops / work:6.0%}")  # fmt: skip

# %% [markdown]
# - In the **U-Net** a weight of the finest level is used 256 times per picture (at every position), a weight of the
#   coarsest level 16 times: weights are cheap at the coarsest level, so the network is widest there.
# - In the **DiT** every weight of attention and of the two-layer network is used 256 times, once per token. With equal
#   weights the DiT needs four times the FLOPs. The modulation is the exception: it has a third of all weights, used
#   once per picture, at almost no cost in FLOPs.
#
# For the DiT the count is a simple formula. With $N$ tokens of width $d$, $L$ blocks:
#
# $$
# \text{FLOPs} \approx L\,\big(\underbrace{24\,N d^2}_{\text{qkv, out, two layers}}
# + \underbrace{4\,N^2 d}_{q k^\top\!,\ A v} + \underbrace{12\, d^2}_{\text{modulation}}\big)
# + \text{the ends}
# $$
#
# <small>In code: `inside.costs`. Test:
# `tests/test_inside.py::test_the_cost_of_a_dit_by_hand`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. A matrix of $a \times b$ costs $2 a b$ FLOPs per token: $a b$ multiplications, and as many additions.
# 2. Per token: $q$, $k$ and $v$ are $3 \cdot 2 d^2$, the output of attention $2 d^2$, the two layers $d \to 4d \to d$
#    are $2 \cdot 8 d^2$. Together $24\, d^2$.
# 3. $q k^\top$ is $N \cdot N$ products of vectors of $d$ numbers (all heads together), $2 N^2 d$; the weighted sums
#    of the values cost the same.
# 4. The modulation makes six vectors of width $d$ from one, $2 \cdot 6 d^2$, once per picture.
#
# </details>

# %%
config = dit.network.config
N, d, L = config.grid[0] * config.grid[1], config.width, config.depth
patch = 3 * config.patch_size**2
ends = 2 * N * patch * d * 2 + 2 * (2 * d * d) + 4 * d * d + 2 * 3 * d  # patches in and out, time, modulation, gain
assert L * (24 * N * d**2 + 4 * N**2 * d + 12 * d**2) + ends == count_flops(dit.network)
print(f"N = {N}, d = {d}, L = {L}: the formula is exact; attention's N² has {N / (6 * d + N):.0%} of a block's FLOPs")

# %% [markdown]
# ### Resolution, patch, width
#
# The $N^2$ is the usual concern about attention. Build the same networks for larger pictures (without training;
# counting does not need trained weights):

# %%
sides = [16, 32, 48, 64]
families = {
    "U-Net": (UNet, unet.network.config),
    "DiT, patch 2": (DiT, config),
    "DiT, patch 4": (DiT, replace(config, patch_size=4)),
}
work = {
    name: [count_flops(network_class(replace(of, image_shape=(3, side, side)))) for side in sides]
    for name, (network_class, of) in families.items()
}
plots.curves({name: (sides, [flops / 1e9 for flops in row]) for name, row in work.items()}, log="y",
             title="Cost per picture, by resolution", xlabel="side of the picture, pixels",
             ylabel="GFLOP per forward pass")  # fmt: skip
plt.show()
for name, row in work.items():
    print(f"{name:<13}: from 32 to 64 pixels (4 times as many) {row[3] / row[1]:.1f} times the FLOPs")
assert (
    row[3] / row[1] < 4.5
    and work["U-Net"][3] / work["U-Net"][1] < 4.5 < work["DiT, patch 2"][3] / work["DiT, patch 2"][1]
)

# %% [markdown]
# The U-Net's cost grows with the number of pixels, the DiT's a little faster, and the patch size has a large effect:
# twice the patch size gives a quarter of the tokens. This is why large DiTs run on *latents* that are 8 times smaller
# than the picture.
#
# And with width and depth? Weights and FLOPs are both proportional to $d^2 L$:

# %%
sizes = {
    f"DiT, {depth} blocks of width {width}": DiT(replace(config, width=width, depth=depth))
    for width, depth in ((128, 6), (256, 6), (256, 12), (384, 12))
}
of = unet.network.config
sizes |= {
    f"U-Net, widths {widths}": UNet(replace(of, widths=widths)) for widths in ((64, 96, 96), of.widths, (192, 320, 320))
}
for name, network in (sizes | {"mnist_unet_flow": small.network, "mnist_dit_flow": small_dit.network}).items():
    parameters, flops = count_parameters(network), count_flops(network)
    print(f"{name:<31} {parameters / 1e6:6.1f} M weights {flops / 1e9:6.2f} GFLOP "
          f"{flops / parameters:5.0f} FLOP per weight")  # fmt: skip
per_weight = [count_flops(network) / count_parameters(network) for network in sizes.values()]
assert min(per_weight[:4]) > 2 * max(per_weight[4:])  # a DiT needs more FLOPs per weight

# %% [markdown]
# So which network is better? These counts do not answer this: they are the *cost*. "Transformers scale better" is a
# statement about quality at a given cost, that is, loss and distance against compute at several sizes, and this has to
# be trained and measured: [notebook 08](08_measuring_models.ipynb), section 6, does so.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · Cheaper than the U-Net.** Which is the smallest patch size at which the DiT of CIFAR-10 (width 256, six
# blocks) needs fewer FLOPs than the U-Net? Use the formula, not the computer.

# %%
my_patch_size = ...

# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
# p = 4: N = 64, so 6 * (24 * 64 * 256**2 + 4 * 64**2 * 256 + ...) is about 0.63 GFLOP, against 0.70 of the U-Net
solution_patch_size = 4

# %%
check("07.1", my_patch_size, solution_patch_size)

# %% [markdown]
# **Exercise 2 · Four skips.** The U-Net of CIFAR-10 has four skips, that of the digits two. Write `my_factors(model,
# x_0, labels, eps, time)`: for each skip of `model.network`, in the order of `skip_connections`, the factor, to 1%, by
# which the error of the predicted `x_0` grows if this skip alone is cut (use `predicted_x_0` and `rms_distance`). Which
# skip has the largest factor? Is it the same skip at every noise level?

# %%
my_factors = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_factors(model, x_0, labels, eps, time):
    def error(skips):
        return comparisons.rms_distance(predicted_x_0(model, x_0, labels, eps, time, skips), x_0)

    uncut = error([])
    return [error([skip]) / uncut for skip in inside.skip_connections(model.network)]


# %%
check("07.2", my_factors, solution_factors)

# %%
factors = {time: solution_factors(unet, x_0, labels, eps, time) for time in (0.1, 0.5, 0.9)}
for time, each in factors.items():
    print(f"t = {time}: relative error " + ", ".join(f"{factor:.1f}" for factor in each))
assert all(each[0] == max(each) for each in factors.values())  # the first is the finest
assert factors[0.1][0] > 2 * factors[0.5][0] > 2 * factors[0.9][0]

# %% [markdown]
# It is the finest skip at every noise level. Its factor is large near the data and falls with the noise, as for the
# digits.
#
# **Exercise 3 · Patchify.** Write `my_tokens(x, p)`: the tokens `[B, N, C * p * p]` of images `[B, C, H, W]`, square or
# not, with `reshape` and `permute` alone: the patches row by row, and within a token channel by channel, each channel
# row by row.

# %%
my_tokens = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_tokens(x, p):
    B, C, H, W = x.shape
    cut_up = x.reshape(B, C, H // p, p, W // p, p)  # [B, C, row, y, column, x]
    return cut_up.permute(0, 2, 4, 1, 3, 5).reshape(B, (H // p) * (W // p), C * p * p)


# %%
check("07.3", my_tokens, solution_tokens)

# %% [markdown]
# ## What to remember
#
# - A U-Net reduces the resolution to average out the noise, and its skips carry the detail, which does not fit through
#   the middle. They matter when there is little noise.
# - A DiT makes tokens of patches, adds position vectors, and lets all tokens attend to all; the shape of its features
#   never changes.
# - Time and class act on every block by a scale and a shift; with adaLN-Zero every block starts as the identity.
# - The cost of attention grows like $N^2$, everything else like $N$. Half the patch size needs more than four times the
#   FLOPs.
# - Counts are costs. The quality for these costs has to be measured.
#
# **Next:** [08 · Measuring generative models](08_measuring_models.ipynb).
#
# ## References
#
# - O. Ronneberger, P. Fischer, T. Brox 2015, [U-Net](https://arxiv.org/abs/1505.04597): the shape, for segmenting
#   cells.
# - J. Ho, A. Jain, P. Abbeel 2020, [DDPM](https://arxiv.org/abs/2006.11239): the U-Net as a denoiser (Appendix B).
# - P. Dhariwal, A. Nichol 2021, [Diffusion Models Beat GANs on Image Synthesis](https://arxiv.org/abs/2105.05233):
#   scale and shift by time and class (Sec. 3).
# - A. Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
# - A. Dosovitskiy et al. 2021, [An Image is Worth 16x16 Words](https://arxiv.org/abs/2010.11929): patches as tokens;
#   mean attention distance (Sec. 4.5).
# - W. Peebles, S. Xie 2023, [Scalable Diffusion Models with Transformers](https://arxiv.org/abs/2212.09748): DiT,
#   adaLN-Zero (Sec. 3.2), and scaling.
