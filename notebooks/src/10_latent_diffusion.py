# %% [markdown]
# # 10 · Latent diffusion: noise on latents instead of pixels
#
# The diffusion of Stable Diffusion does not use pixels. A first network, an autoencoder that is trained beforehand and
# frozen, turns the picture into a small block of numbers, its *latents*; diffusion works on the latents, and at the
# very end the autoencoder turns them back into a picture. Notebook 09 counted the savings and drew with micro. This
# notebook looks at micro's autoencoder alone: of the same class as Stable Diffusion's, trained on emoji, and small
# enough to be part of the package. So you can see what the four channels contain, what is lost, and why latents work.
#
# **When you have worked through it, you can**
#
# - encode a picture, interpret its four channels, and measure the reconstruction, in decibels and by the size of the
#   details;
# - explain the purpose of `scaling_factor`, and the effect of the KL term of a "variational" autoencoder here, in nats;
# - say which pixels one latent pixel affects, and what the mean of two pictures' latents looks like;
# - say why the same signal-to-noise ratio hides more of a picture in latents than in pixels;
# - compute the savings of latents, for our model and for the published ones, in numbers and in FLOP;
# - say what an autoencoder cannot reconstruct, whatever the diffusion draws.
#
# *Beside you:* `stable_diffusion.latents`, `.latent_space`, `.compression`; Rombach et al. 2022, [High-Resolution Image
# Synthesis with Latent Diffusion Models](https://arxiv.org/abs/2112.10752). About 40 minutes to read, under a minute to
# run on two cores. No GPU and no network needed: everything is in the package.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from diffusion_explained import (
    Level,
    add_noise,
    comparisons,
    generators,
    measured,
    micro,
    plots,
    randn,
    stable_diffusion,
)
from diffusion_explained.exercises import check

plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1 · Encoder, decoder and their data
#
# An autoencoder is an encoder $\mathcal E$ and a decoder $\mathcal D$, trained together to reproduce their input
# through a bottleneck. The input of ours is a picture of 128 x 128 pixels in three colours; its latents are 16 x 16 in
# four channels:
#
# $$ z = s\,\mathcal E(x), \qquad \hat x = \mathcal D(z / s) \approx x . $$
#
# <small>In code: `stable_diffusion.StableDiffusion.decode`. Test:
# `tests/test_published.py::test_latents_are_decoded_as_diffusers_decodes_them`.</small>
#
# The pictures are emoji of three sets by different artists, drawn on white. ("Held out" below means: none of our
# networks was trained on this thing in this style, though they were trained on the thing in another style.)

# %%
model = stable_diffusion.load("micro")
emoji = micro.emoji.load_emoji_sample()
every = micro.reconstruction.on_white(emoji.images)  # [N, 3, 128, 128] in [-1, 1]
print(f"{model.name}, {model.label}: " + ", ".join(f"{part} {n / 1e6:.1f} M" for part, n in model.parameters().items()))
print(f"{len(emoji)} pictures of {len(emoji.names)} things, {int(emoji.held_out.sum())} of them held out")


def find(name, style="fluent"):
    """The index of one picture."""
    matches = (emoji.subject == emoji.names.index(name)) & (emoji.style == micro.emoji.STYLES.index(style))
    return int(matches.nonzero()[0])


NAMES = ["cat", "dog", "red heart", "rocket", "red apple", "rose", "crying face", "hamburger"]
chosen = torch.tensor([find(name) for name in NAMES])
x = every[chosen]
z = model.encode(x)
back = model.decode(z)
print(f"pictures {tuple(x.shape)}, latents {tuple(z.shape)}: {x[0].numel() / z[0].numel():.0f} times fewer numbers")
assert tuple(z.shape[1:]) == model.latent_shape() == (4, 16, 16) and x[0].numel() == 48 * z[0].numel()

# %% [markdown]
# ## 2 · Four channels
#
# The channels are not red, green, blue and a fourth colour: training determined their content, and nothing required
# them to have a simple meaning. Look at them:

# %%
SHOWN = 6
channels = {f"channel {c + 1}": z[:SHOWN, c : c + 1] for c in range(4)}
plots.latent_strip({"picture": x[:SHOWN], **channels, "preview": model.preview(z[:SHOWN]), "decoded": back[:SHOWN]},
                   limits=dict.fromkeys(channels, 2.5), side=64, captions=NAMES[:SHOWN],
                   title="16 x 16 x 4 numbers, and the decoded pictures")  # fmt: skip
plt.show()

scores = micro.reconstruction.psnr(x, back)
print("decibels: " + ", ".join(f"{name} {score:.0f}" for name, score in zip(NAMES, scores, strict=True)))
assert float(scores.min()) > 22

# %% [markdown]
# The picture is visible in every channel: latents are still a *picture*, coarse and in unusual colours. That is
# intended. The encoder is convolutional, so the latent pixel in row 3 represents the pixel rows 24 to 31, and a U-Net,
# which is made for pictures, is suitable for latents, too. (The preview is `model.preview`, a linear map fitted to
# decoded noise. This decoder is far from linear, so the preview shows the shapes but hardly the colours.)
#
# ### How good is the reconstruction?
#
# The usual number is the *peak signal-to-noise ratio*, in decibels (10 dB are a factor of 10 in the squared error; the
# range of the pixels is 2):
#
# $$ \mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\text{mean squared error}} . $$
#
# <small>In code: `micro.reconstruction.psnr`. Test:
# `tests/test_micro_training.py::test_psnr`.</small>

# %%
held_out = emoji.held_out.nonzero().flatten()[:24]
seen = (~emoji.held_out).nonzero().flatten()[::5][:72]
pictures = every[torch.cat([held_out, seen])]  # 24 and 72
latents = torch.cat([model.encode(part) for part in pictures.split(24)])  # [96, 4, 16, 16]
originals = pictures[::2]  # every second one is decoded, 12 and 36
reconstructed = torch.cat([model.decode(part) for part in latents[::2].split(24)])
quality = micro.reconstruction.psnr(originals, reconstructed)
unseen, known = quality[:12], quality[12:]
print(f"seen in training {known.mean():.1f} dB, held out {unseen.mean():.1f} dB")
print(f"the worst {quality.min():.0f} dB, the best {quality.max():.0f} dB")
order = quality.argsort()
ends = torch.cat([order[:4], order[-4:]])
for row in measured.read_measured("micro")["rows"]:
    if row["part"] == "autoencoder" and row["model"] == "micro":
        print(f"measured on {row['psnr']['n']} of all emoji ({row['setting']['split'].replace('_', ' ')}): "
              f"{row['psnr']['mean']:.1f} ± {row['psnr']['error']:.1f} dB")  # fmt: skip
decibels = [f"{score:.0f} dB" for score in quality[ends]]
plots.filmstrip({"picture": originals[ends], "reconstruction": reconstructed[ends]}, captions=decibels,
                title="The four worst and the four best")  # fmt: skip
plt.show()
assert abs(float(known.mean() - unseen.mean())) < 3
torch.testing.assert_close(quality, 10 * (4 / (originals - reconstructed).square().mean((1, 2, 3))).log10())

# %% [markdown]
# The held-out pictures are reconstructed about as well as the training pictures: an autoencoder learns *strokes and
# edges*, not things. The best pictures are one smooth shape, the worst have many small parts with hard edges.
#
# ## 3 · What is lost, by the size of the details
#
# One number does not show *what* is lost. So split every picture into layers by the size of the details, each layer
# twice as coarse as the one before (the differences between averages over 1, 2, 4, 8 ... pixels), and measure for each:
# which share of its power is lost?


# %%
def layers_of(x):
    """The picture as a sum of layers, {size of the details in pixels: [B, 3, H, W]}; the last holds the rest."""
    layers, finer = {}, x
    for size in (2, 4, 8, 16, 32):
        average = torch.nn.functional.avg_pool2d(x, size).repeat_interleave(size, 2).repeat_interleave(size, 3)
        layers[size // 2] = finer - average
        finer = average
    return layers | {32: finer}


def power(x):
    return float(x.square().mean())


of_pictures, of_errors = layers_of(originals), layers_of(reconstructed - originals)
torch.testing.assert_close(sum(of_pictures.values()), originals)
lost = {size: power(of_errors[size]) / power(of_pictures[size]) for size in of_pictures}
ax = plots.curves({"lost": (list(lost), [100 * share for share in lost.values()])}, log="xy",
                  title="What the reconstruction loses",
                  xlabel="size of the details, pixels", ylabel="% of their power").axes[0]  # fmt: skip
ax.set_xticks(list(lost), [str(size) for size in lost])
ax.set_xticks([], minor=True)
plt.show()
print(", ".join(f"{size} pixels {share:.1%}" for size, share in lost.items()))
assert list(lost.values()) == sorted(lost.values(), reverse=True) and lost[1] > 20 * lost[16]

# %% [markdown]
# For details of one pixel, a fifth of the power is lost; for four pixels 4%; and for details as large as a
# latent pixel (8) or larger, less than 1%. In most pictures this is not visible, because the power is in the large
# shapes. But some pictures *consist* of fine detail:

# %%
SIDE = 128
stripes = {f"{width} px": (torch.arange(SIDE) // width % 2 * 2.0 - 1).expand(3, SIDE, SIDE) for width in (1, 2, 4, 8)}


def written(words, size):
    """Words on white, as a picture [3, 128, 128]."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(sheet).multiline_text((6, 6), words, fill="black", font=ImageFont.load_default(size))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1) / 127.5 - 1


TEXTS = {10: "the same in\nfine print:\nwho reads it?", 18: "the same\nlarger", 36: "LARGE"}
pages = {f"{size} px": written(words, size) for size, words in TEXTS.items()}
hard = torch.stack([*stripes.values(), *pages.values()])
hard_back = model.decode(model.encode(hard))
corner = {"picture": hard[..., :48, :48], "reconstruction": hard_back[..., :48, :48]}  # large enough to count pixels
plots.filmstrip(corner,
                captions=[*(f"stripes\n{name}" for name in stripes), *(f"letters\n{name}" for name in pages)],
                title="Fine detail and its reconstruction")  # fmt: skip
plt.show()
hard_quality = micro.reconstruction.psnr(hard, hard_back)
for name, score in zip([*(f"stripes of {n}" for n in stripes), *(f"letters of {n}" for n in pages)], hard_quality,
                       strict=True):  # fmt: skip
    print(f"{name:<17} {score:4.0f} dB")
assert hard_quality[3] > hard_quality[0] and hard_quality[6] > hard_quality[4]

# %% [markdown]
# Stripes of up to 4 pixels are reconstructed as plain grey, or in a colour that was not in the picture; letters are
# legible when a stroke is about as wide as a latent pixel. (This test is partly unfair: the autoencoder was trained on
# emoji, not on text. Stable Diffusion's was trained on photographs; it is not measured here.)
#
# This is an **upper limit**. Everything that the diffusion draws has to pass through the decoder, so no picture can
# have finer details than the decoder can produce. This is one reason why such models are *weak at text*.
#
# ## 4 · Statistics: latents with unit variance
#
# ### The scaling factor
#
# The forward process is made for data of about unit variance: $x_t = \alpha_t x_0 + \sigma_t \varepsilon$ with a noise
# of variance 1. The variance of the encoder's output is an arbitrary result of training. So the output is multiplied by
# one number, measured once, which is stored in the configuration:

# %%
s = model.pipe.vae.config.scaling_factor
print(f"scaling factor {s:.3f}: standard deviation {latents.std() / s:.2f} before, {latents.std():.2f} after")
by_channel = latents.movedim(1, 0).flatten(1)
print(
    "by channel: "
    + ", ".join(f"{m:+.2f} ± {d:.2f}" for m, d in zip(by_channel.mean(1), by_channel.std(1), strict=True))
)
assert 0.7 < float(latents.std()) < 1.3

# %% [markdown]
# Without the factor, nothing fails visibly. But its absence *moves the schedule*: data that is $1/s$ times as large has
# a log SNR that is $2 \log (1/s)$ higher at each $t$, so the model would be trained on other noise levels than
# intended.

# %%
published = stable_diffusion.compression.PUBLISHED[0].scaling_factor
print(f"without the factor every log SNR would be {2 * np.log(1 / s):+.2f} off; "
      f"without Stable Diffusion 1.5's {2 * np.log(1 / published):+.2f}")  # fmt: skip
edges = torch.linspace(-4, 4, 81)
centres = (edges[1:] + edges[:-1]) / 2
bell = torch.distributions.Normal(0.0, 1.0)
densities = {name: (centres, torch.histogram(values.flatten(), edges, density=True).hist)
             for name, values in (("pixels", pictures), ("latents", latents))}  # fmt: skip
plots.curves({**densities, "N(0, 1)": (centres, bell.log_prob(centres).exp())}, xlabel="value",
             ylabel="density, logarithmic", log="y", title="The data of diffusion: pixels and latents")  # fmt: skip
plt.show()
assert float(((pictures > 0.98).float()).mean()) > 0.3  # the white background: one value

# %% [markdown]
# Most pixels of emoji are white. Latents, taken as single numbers, are nearly Gaussian: the encoder distributes the
# white background and smooth areas over the bell curve. (Each channel has mean 0 and standard deviation 1 by our
# choice: the channels were normalised after training. Stable Diffusion has one factor for all channels.)
#
# ### The "variational" part
#
# The encoder predicts a mean *and* a standard deviation for each latent number, and in training the decoder's input was
# a random draw. A penalty, the Kullback-Leibler divergence to $\mathcal N(0, 1)$, keeps the latents from growing
# without limit:
#
# $$ \mathrm{KL} = \tfrac12 \sum_i \left( \mu_i^2 + \sigma_i^2 - 1 - \log \sigma_i^2 \right) . $$
#
# <small>In code: `micro.autoencoder_training.autoencoder_loss`. Test:
# `tests/test_micro_training.py::test_autoencoder_loss_by_hand`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. For one latent number $z \sim \mathcal N(\mu, \sigma^2)$, the divergence from $\mathcal N(0, 1)$ is the mean of
#    the difference of the log densities, $\mathbb E \left[ -\tfrac12 \log \sigma^2 - \frac{(z - \mu)^2}{2 \sigma^2} +
#    \frac{z^2}{2} \right]$ (the constants $\log 2\pi$ cancel).
# 2. $\mathbb E (z - \mu)^2 = \sigma^2$ and $\mathbb E z^2 = \mu^2 + \sigma^2$, so it is $\tfrac12 \left( -\log
#    \sigma^2 - 1 + \mu^2 + \sigma^2 \right)$.
# 3. The numbers are independent, so their divergences add up. Each is 0 only for $\mu = 0$ and $\sigma = 1$, which
#    would be a latent that says nothing about the picture.
#
# </details>

# %%
with torch.no_grad():
    posterior = model.pipe.vae.encode(x).latent_dist
kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).sum((1, 2, 3))
torch.testing.assert_close(kl, posterior.kl())
drawn = model.decode(s * (posterior.mean + posterior.std * randn(z.shape, generators(len(z), seed=1))))
print(f"KL: {kl.mean() / z[0].numel():.1f} nats per latent number")
print(f"the encoder's own noise has a standard deviation of {posterior.std.mean() * s:.3f}, its means of {z.std():.2f}")
of_draw, of_mean = (micro.reconstruction.psnr(x, each).mean() for each in (drawn, back))
print(f"decoded from a draw instead of the mean: {of_draw:.1f} dB instead of {of_mean:.1f}")
assert float(posterior.std.mean() * s) < 0.5 * float(z.std())

# %% [markdown]
# Five nats per number: the distribution is far from $\mathcal N(0, 1)$, and this is intended. In a variational
# autoencoder that *generates*, the KL term is strong, so that one can draw from $\mathcal N(0, 1)$ and decode. Here the
# diffusion generates, and the KL term has a weight of only 0.0001. The encoder's own noise is a hundredth of the
# standard deviation of its means, and does not reduce the quality of the decoded picture. What does the decoder return
# for a draw from $\mathcal N(0, 1)$?

# %%
random_latents = randn((6, 4, 16, 16), generators(6, seed=3))
nonsense = model.decode(random_latents)
plots.image_grid(nonsense, columns=6, title="Decoded noise: the autoencoder alone is not a generator")
plt.show()
white = float((nonsense > 0.9).float().mean()), float((pictures > 0.9).float().mean())
print(f"white pixels: {white[0]:.0%} of decoded noise, {white[1]:.0%} of the emoji")
assert white[0] < white[1]

# %% [markdown]
# The result looks like confetti: the strokes are right, but they do not form a thing. Each number of the latents alone
# may be nearly Gaussian; the content of the picture is in their joint distribution.
#
# ### The correlation of neighbours
#
# Neighbouring pixels of a picture carry almost the same information. How much of this redundancy is left in latents?


# %%
def neighbour_correlation(x, apart=1):
    """The correlation of each value with the value `apart` columns to the right, channel means removed."""
    x = x - x.mean((0, 2, 3), keepdim=True)
    left, right = x[..., :-apart].flatten(), x[..., apart:].flatten()
    return float((left * right).mean() / (left.square().mean() * right.square().mean()).sqrt())


near = {"pixels": neighbour_correlation(pictures), "latents": neighbour_correlation(latents)}
print(", ".join(f"{name}: neighbours correlate {c:.2f}" for name, c in near.items()))
print(f"pixels 8 apart, as far as latent pixels are: {neighbour_correlation(pictures, 8):.2f}")
plots.heat_panels({"": torch.corrcoef(by_channel)}, [f"channel {c + 1}" for c in range(4)], ["1", "2", "3", "4"],
                  digits=2, title="Correlation of the channels")  # fmt: skip
plt.show()
assert near["pixels"] > near["latents"] > 0.5

# %% [markdown]
# Neighbouring latents are correlated as much as pixels that are 8 apart. So the encoder removes the redundancy within 8
# pixels, and no more: a latent picture is about as smooth as a picture that is shrunk eightfold. And the channels are
# correlated (0.85 for two of them). Enough structure is left for a U-Net to learn.
#
# ## 5 · The effect of one latent pixel
#
# Add 3 (standard deviations) to one of the four numbers at one position, and decode. The frame marks the 8 x 8 pixels
# at the same position.

# %%
cat = z[:1]
pokes = {
    f"channel {c + 1}": stable_diffusion.latent_space.reach(model, cat, row=7, column=6, channel=c, by=3.0)
    for c in range(4)
}
plots.poke_panels(pokes, title="One latent number changed by 3")
plt.show()
for name, poked in pokes.items():
    half, most = poked.box(0.5), poked.box(0.95)
    print(f"{name}: {poked.inside:.0%} of the change in its own 8 x 8 pixels, half within {half[1] - half[0]} x "
          f"{half[3] - half[2]}, 95% within {most[1] - most[0]} x {most[3] - most[2]}")  # fmt: skip
    assert poked.inside < 0.5 and most[1] - most[0] > 40

# %% [markdown]
# A latent pixel is not a tile. At most a quarter of its effect is in its own 8 x 8 pixels. The decoder's convolutions
# overlap, so it also affects the pixels of its neighbours: one edge is determined by several latent pixels together.
# And a faint rest of the effect is everywhere, because group normalisation makes each position depend on the mean of
# all. (That is why an inpainting mask, which is exact in latents, is soft in pixels; notebook 09, section 7.)
#
# Now add the same to a *whole channel*:

# %%
moves = (-1.0, -0.5, 0.0, 0.5, 1.0)
unit = torch.eye(4)[:, :, None, None]  # unit[c]: 1 in channel c, everywhere
whole = {f"channel {c + 1}": torch.cat([model.decode(cat + move * unit[c]) for move in moves]) for c in range(4)}
plots.filmstrip(whole, captions=[f"{m:+g}" for m in moves], title="Added to a whole channel")
plt.show()
for row in whole.values():
    assert comparisons.rms_distance(row[0], row[2]) > 0.02 and comparisons.rms_distance(row[4], row[2]) > 0.02

# %% [markdown]
# Here the channels are similar to colours: channel 1 goes from red to green, channel 2 from pale to dark. Yet the
# background stays white. The effect of a number depends on the numbers around it, because the decoder is nonlinear.
#
# ## 6 · Halfway between two pictures
#
# If latents represented *meaning*, the mean of a cat and a rocket might be a flying animal. Look at the result:

# %%
rocket = z[3:4]
shares = torch.linspace(0, 1, 7)
mixed_pixels = torch.cat([torch.lerp(x[:1], x[3:4], float(share)) for share in shares])
mixed_latents = model.decode(torch.cat([torch.lerp(cat, rocket, float(share)) for share in shares]))
plots.filmstrip({"mixed pixels": mixed_pixels, "mixed latents": mixed_latents},
                captions=[f"{share:.2f}" for share in shares],
                title="From a cat to a rocket")  # fmt: skip
plt.show()
apart = comparisons.rms_distance(mixed_pixels[3], mixed_latents[3]) / comparisons.rms_distance(x[0], x[3])
print(f"in the middle the two mixtures differ by {apart:.2f} of the distance from cat to rocket")
assert apart < 0.6

# %% [markdown]
# The mixed latents give a double exposure, slightly cleaner than that of pixels. The latents are a compressed
# *picture*, and the compression is nearly linear. They do not represent meaning; the denoising network and the text
# embeddings do. (For a gradual change of content, interpolate the *noises*, on a sphere, as in notebook 04,
# `latent_space.slerp`; or the text embeddings, notebook 11.)
#
# ## 7 · The same SNR hides more in latents
#
# Here is the forward process on pixels and on latents, at the same levels, so at the same signal-to-noise ratio *per
# number*:

# %%


def level_at(log_snr):
    """The level with this log SNR and alpha^2 + sigma^2 = 1, so that data of variance 1 keeps its variance."""
    power = 1 / (1 + np.exp(-log_snr))
    return Level(0.0, np.sqrt(power), np.sqrt(1 - power))


levels = [level_at(log_snr) for log_snr in (12, 4, 2, 0, -2, -4)]
eps_pixels, eps_latents = randn(x[:1].shape, generators(1, seed=5)), randn(cat.shape, generators(1, seed=6))
plots.filmstrip({
    "noise on pixels": torch.cat([add_noise(x[:1], eps_pixels, level) for level in levels]),
    "noise on latents,\ndecoded": torch.cat([model.decode(add_noise(cat, eps_latents, level)) for level in levels]),
}, captions=[f"log SNR\n{level.log_snr:+.1f}" for level in levels], title="A cat under noise")  # fmt: skip
plt.show()
assert abs(levels[3].alpha - levels[3].sigma) < 1e-6  # as much noise as signal

# %% [markdown]
# Noise on latents is not visible as grain. It appears as wrong strokes and wrong colours, patch by patch, because the
# decoder turns any latents into a picture. And the cat seems to disappear at a higher SNR. Is this true, or only an
# impression? To measure it, use the best possible classifier of notebook 01: it knows all the pictures exactly,
# receives one of them under noise, and has to decide which one it is.


# %%
def recognised(clean, level, seed):
    """The share of noisy pictures whose nearest clean one, alpha x_k, is their own: the best possible accuracy."""
    noisy = add_noise(clean, randn(clean.shape, torch.Generator().manual_seed(seed)), level)
    nearest = torch.cdist(noisy.flatten(1), level.alpha * clean.flatten(1)).argmin(1)
    return float((nearest == torch.arange(len(clean))).float().mean())


normalised = pictures / pictures.std(), latents / latents.std()  # both of variance 1
ratios = torch.arange(-12, 1, 1.0)  # log SNR
found = {name: [] for name in ("pixels", "latents")}
for log_snr in ratios.tolist():
    for accuracies, clean in zip(found.values(), normalised, strict=True):
        accuracies.append(recognised(clean, level_at(log_snr), seed=7))
plots.curves({name: (ratios, accuracies) for name, accuracies in found.items()}, title="Which of 96 pictures is it?",
             xlabel="log SNR of each number", ylabel="recognised", reference=("chance", 1 / 96))  # fmt: skip
plt.show()


def half(accuracies):
    """The log SNR at which half are recognised, interpolated between the two nearest ratios."""
    above = next(k for k, a in enumerate(accuracies) if a > 0.5)
    low, high = accuracies[above - 1], accuracies[above]
    return float(ratios[above - 1] + (0.5 - low) / (high - low))


moved = half(found["latents"]) - half(found["pixels"])
print(f"half are recognised at {half(found['pixels']):.1f} in pixels and {half(found['latents']):.1f} in latents: "
      f"{moved:.1f} apart; 48 times fewer numbers are log 48 = {np.log(48):.1f}")  # fmt: skip
assert 2 < moved < 6

# %% [markdown]
# So it is true. The evidence for a picture is a sum over all its numbers, and the latents have 48 times fewer numbers.
# **The same SNR hides more in latents than in pixels**, by nearly exactly $\log 48$ in log SNR. So a schedule must fit
# the space (notebook 02 showed the same for small and large pictures).
#
# ## 8 · The cost
#
# The factor of 48 follows from each model's configuration:

# %%
print(f"{'':<22}{'picture':>14}{'latents':>15}{'numbers':>12}   fewer  scaling factor")
this = replace(stable_diffusion.compression.compression_of(model), name="micro")
for row in (this, *stable_diffusion.compression.PUBLISHED):
    picture, small = f"{row.side}² x 3", f"{row.latent_side}² x {row.channels}"
    print(
        f"{row.name:<22}{picture:>14}{small:>15}{row.latent_values:>12,}   {row.times:4.0f}x  {row.scaling_factor:.4f}"
    )
assert [round(row.times) for row in (this, *stable_diffusion.compression.PUBLISHED)] == [48, 48, 48, 12]

# %% [markdown]
# The factor is three colours times $8^2$ pixels, divided by the number of channels: the picture's size cancels. (Stable
# Diffusion 3 uses four times as many channels, to lose less; Esser et al. 2024.)
#
# And the FLOP? Here is the same U-Net on latents and on the picture itself, counted by torch:

# %%
from diffusers import UNet2DConditionModel

text = model.encode_text("a cat")
with torch.device("meta"):  # shapes only, no numbers
    config = {**model.network.config, "in_channels": 3, "out_channels": 3, "sample_size": SIDE}
    on_pixels = UNet2DConditionModel.from_config(config)
    of_text = torch.zeros(text.embeds.shape)
    pixel = stable_diffusion.costs.count_work(lambda: on_pixels(torch.zeros(1, 3, SIDE, SIDE), torch.ones(1), of_text))
latent = stable_diffusion.costs.count_work(lambda: model.network(z[:1], torch.ones(1), text.embeds))
decoder = stable_diffusion.costs.count_work(lambda: model.pipe.vae.decode(z[:1]))
published = stable_diffusion.costs.published_work(512, 512)
large = published["U-Net"].total, published["U-Net on pixels"].total
print(f"micro: {latent.total / 1e9:.2f} GFLOP on latents, {pixel.total / 1e9:.0f} on pixels: "
      f"{pixel.total / latent.total:.0f} times")  # fmt: skip
print(f"Stable Diffusion 1.5: {large[0] / 1e12:.2f} TFLOP and {large[1] / 1e12:.0f}: {large[1] / large[0]:.0f} times")
print(f"the decoder, once: {decoder.total / 1e9:.1f} GFLOP, as much as {decoder.total / latent.total:.1f} passes")
plots.work_dots({"the U-Net on latents": latent.total / 1e9, "the U-Net on pixels": pixel.total / 1e9,
                 "the decoder": decoder.total / 1e9}, title="micro, one pass of each", unit="GFLOP")  # fmt: skip
plt.show()
assert 63 < pixel.convolutions / latent.convolutions < 66 and pixel.total > 64 * latent.total

# %% [markdown]
# For convolutions the factor is exactly the 64 of the positions (8 x 8 pixels each), for attention it is 64 x 64, and
# in total it lies in between. *"8 to 48 times less work"* is an underestimate for one and the same network. The claim
# omits the autoencoder: it works at full resolution, once per picture, and has to be trained first.
#
# ## 9 · The limits of latents
#
# - **Fine print, thin lines, small faces**: what $\mathcal D(\mathcal E(x))$ loses, no sampler can restore.
# - **Exactness**: editing a picture through latents changes all of it a little (each encoding and decoding has the
#   error of section 2).
# - **Other kinds of picture** than those of the autoencoder's training, such as the stripes and letters.
#
# Does repeated encoding and decoding make the picture worse each time?

# %%
four, again = x[:4], back[:4]  # after one round
losses = [float(micro.reconstruction.psnr(four, again).mean())]
for _ in range(5):
    again = model.decode(model.encode(again))
    losses.append(float(micro.reconstruction.psnr(four, again).mean()))
print("decibels after 1 to 6 rounds: " + ", ".join(f"{loss:.1f}" for loss in losses))
assert losses[-1] < losses[0] - 3

# %% [markdown]
# It does: by a decibel per round, and the sixth copy is 6 dB worse than the first. So keep the original.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · The scaling factor.** Write `my_scaling_factor(raw)`: the factor, to 1%, for raw latents [N, 4, h, w]
# that makes their variance, over all channels together, 1. (The mean of raw latents is not always 0.)

# %%
my_scaling_factor = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_scaling_factor(raw):
    return 1 / float(raw.std())


# %%
check("10.1", my_scaling_factor, solution_scaling_factor)

# %% [markdown]
# **Exercise 2 · The KL of one number.** Write `my_kl(mean, std)`: the divergence of
# $\mathcal N(\text{mean}, \text{std}^2)$ to $\mathcal N(0, 1)$ in nats, number by number: from two tensors of one shape
# to a third one, to four digits. How large is it where the encoder gives no information (mean 0, standard deviation 1)?

# %%
my_kl = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_kl(mean, std):
    return 0.5 * (mean**2 + std**2 - 1 - 2 * std.log())


# %%
check("10.2", my_kl, solution_kl)

# %% [markdown]
# **Exercise 3 · The missing factor.** A network is trained on raw latents of standard deviation `spread` with a
# schedule that was made for 1. Write `my_log_snr(level, spread)`: the natural log of the actual ratio of the signal's
# power to the noise's power at a level (`level.alpha`, `level.sigma`), to 0.01.

# %%
my_log_snr = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_log_snr(level, spread):
    return 2 * np.log(level.alpha * spread / level.sigma)


# %%
check("10.3", my_log_snr, solution_log_snr)

# %% [markdown]
# ## What to remember
#
# - Latents are a small picture in four unusual colours: 48 times fewer numbers, for any size.
# - Fine detail, smaller than a latent pixel, is lost: this limits everything that diffusion can draw.
# - One measured number, `scaling_factor`, fits the latents to the schedule. The KL term is weak, so the autoencoder
#   alone is not a generator.
# - A latent pixel affects far more than its own 8 x 8 pixels. Mixed latents give a double exposure, not a gradual
#   change of content.
# - At the same SNR per number, latents hide more of a picture than pixels do, by log 48.
#
# **Next:** [11 · Text to image, from the inside](11_text_to_image.ipynb).
#
# ## References
#
# - R. Rombach et al. 2022, [High-Resolution Image Synthesis with Latent Diffusion
#   Models](https://arxiv.org/abs/2112.10752): the autoencoder (Section 3.1, Appendix G), its compression (Section 4.1).
# - D. Kingma, M. Welling 2014, [Auto-Encoding Variational Bayes](https://arxiv.org/abs/1312.6114): the KL term (App.
#   B).
# - P. Esser et al. 2024, [Scaling Rectified Flow Transformers for High-Resolution Image
#   Synthesis](https://arxiv.org/abs/2403.03206): sixteen channels (Section 5.2).
# - E. Hoogeboom, J. Heek, T. Salimans 2023, [simple diffusion](https://arxiv.org/abs/2301.11093): the schedule must
#   follow the number of pixels (Section 3.1).
