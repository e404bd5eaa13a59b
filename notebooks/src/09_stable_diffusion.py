# %% [markdown]
# # 09 · Inside Stable Diffusion: one picture, step by step
#
# You type a sentence, wait a second, and get a picture. Between the two there are four stages, and you know the longest
# of them already: it is the loop of notebook 04, called with the *same function* that drew digits there. The beginning
# and the end are new: a sentence becomes a tensor, and the loop draws latents instead of pixels. This notebook follows
# one inference from the first character to the last pixel, with two models: one has Stable Diffusion's structure, the
# other has trained weights. It checks each stage against its formula, and the whole against the most widely used
# library.
#
# **When you have worked through it, you can**
#
# - say how a prompt is processed: which tokens, how many, what is cut off, and which embeddings a word can affect;
# - compute the savings of latents, in numbers and in FLOP, for any size of picture;
# - run Stable Diffusion with our samplers, step by step, and show that diffusers computes the same result;
# - read the norms of the two predictions of guidance at every step, and say what a negative prompt replaces;
# - say which levels image to image visits at a given strength, and what exactly inpainting keeps;
# - say which stage takes how much time.
#
# *Beside you:* the package `diffusion_explained/stable_diffusion`; Rombach et al. 2022, [High-Resolution Image
# Synthesis with Latent Diffusion Models](https://arxiv.org/abs/2112.10752). About 45 minutes to read, under a minute to
# run.
#
# > **Two models.** *Structure* (the number of tokens, the shapes, the levels, the equality with diffusers) is shown on
# > a **stand-in**: Stable Diffusion 1.5's architecture and configuration, a thousand times smaller, with random
# > weights, because the real weights are 2.7 GB and need a GPU. Wherever *weights* matter, the notebook uses **micro**,
# > our own text-to-image system for 128 x 128 emoji: really trained, part of the package, with the same four stages. To
# > run the real model in place of the stand-in, change one variable below.

# %%
import time

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from diffusion_explained import (
    add_noise,
    comparisons,
    generators,
    guidance,
    load_pretrained,
    plots,
    samplers,
    stable_diffusion,
)
from diffusion_explained.exercises import check
from diffusion_explained.measured import read_measured

plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## 1 · Which model
#
# `find_weights` checks whether Stable Diffusion is on this machine (so does `diffusion-explained doctor`). It loads
# nothing, downloads nothing, and returns at once. This is the result for *your* machine:

# %%
# NBVAL_IGNORE_OUTPUT
PUBLISHED = "stable-diffusion-v1-5/stable-diffusion-v1-5"
try:
    print(f"{stable_diffusion.find_weights(PUBLISHED).name} is here: you may set MODEL = PUBLISHED below.")
except stable_diffusion.WeightsUnavailableError as error:
    print(error)

# %% [markdown]
# **The switch** is the first line of the next cell only. It is never changed automatically, so that the notebook does
# the same on every machine. With weights and a GPU set `MODEL = PUBLISHED` (or another Stable Diffusion 1.x or 2.x, or
# a folder in diffusers' format) and `SIDE = 512`. Without a GPU, `load(MODEL, device="cpu")` works too, in minutes per
# picture.

# %%
MODEL = "stand-in"
SIDE, STEPS = 256, 30  # pixels, and steps of DDIM; Stable Diffusion 1.5 was trained for a side of 512

is_stand_in = MODEL == "stand-in"
model = stable_diffusion.stand_in(device="cpu") if is_stand_in else stable_diffusion.load(MODEL)
exact = model.network.dtype == torch.float32
close = {"atol": 1e-3, "rtol": 1e-3} if exact else {"atol": 0.05, "rtol": 0.05}  # half precision rounds at every step
print(model.name)
for part, parameters in model.parameters().items():
    print(f"  {part:<13} {parameters:>11,} parameters")
print(f"it predicts {model.kind}, its sampler is {model.default_sampler}")
micro = stable_diffusion.load("micro", device="cpu")
print(f"{micro.name}: {', '.join(f'{part} {n / 1e6:.1f} M' for part, n in micro.parameters().items())}; "
      f"it predicts {micro.kind}")  # fmt: skip
print(
    "Stable Diffusion 1.5:",
    ", ".join(f"{part} {n / 1e6:.0f} M" for part, n in stable_diffusion.costs.published_parameters().items()),
)
assert model.kind in ("eps", "v") and set(model.parameters()) >= {"text_encoder", "unet", "vae"}

# %% [markdown]
# There are three networks. Stable Diffusion's were trained one after the other: a text encoder (CLIP's, trained on
# pairs of picture and caption), an autoencoder, and the U-Net, the only one that was trained for diffusion. (Micro's
# text encoder was trained together with its U-Net.)
#
# (The published sizes were counted on torch's *meta* device, where a network has shapes but no numbers. In this way the
# rest of this notebook can count the cost of the true network without its weights.)
#
# ## 2 · Text: always 77 tokens
#
# A tokenizer splits the text into *pieces* of a vocabulary and returns their numbers. CLIP's input has exactly 77 of
# them: a start, the prompt, an end, and then padding up to 77.

# %%
PROMPT = "a photo of a cat riding a horse"
text = model.encode_text(PROMPT)
(tokens,) = text.tokens[0]  # one prompt, one text encoder
plots.token_chips(tokens, title=f"“{PROMPT}” as {len(tokens.ids)} tokens")
plt.show()

tokenizer = model.pipe.tokenizer
print(f"{tokens.used} used, {tokens.padding} padding; the embeddings are {tuple(text.embeds.shape)}")
assert len(tokens.ids) == 77 and tokens.used == 2 + sum(count for _, count in tokens.words)
assert tokens.ids[0] == tokenizer.bos_token_id and tokens.ids[tokens.used - 1] == tokenizer.eos_token_id
assert tuple(tokens.ids) == tuple(tokenizer(PROMPT, padding="max_length").input_ids)

# %% [markdown]
# Common words are one piece. A word that is not in the vocabulary is composed of smaller pieces, in the end of single
# bytes, so **there is no text that cannot be tokenized**. But such words use more tokens. (The stand-in's vocabulary
# has two dozen words, so it splits more words than the real one. CLIP's has 49,408 pieces, made from mostly English
# text.)

# %%
for prompt in ("a castle", "unbelievable castle", "кошка", "猫", "🐱", ""):
    (read,) = model.encode_text(prompt).tokens[0]
    print(f"{prompt!r:<23} {read.used - 2:>2} tokens of the prompt's 75: {dict(read.words)}")
    assert sum(count for _, count in read.words) == read.used - 2

# %% [markdown]
# A text that can be *tokenized* is not necessarily *understood*. CLIP was trained on mostly English captions.
#
# ### Long prompts are cut off
#
# Two of the 77 are the start and the end, so a prompt has room for 75 tokens. Everything after them is cut off and has
# no effect on the picture. Most programs do not report this.

# %%
long_prompt = "a painting of a castle and the sea, " * 10 + "in the style of a cat"
(read,) = model.encode_text(long_prompt).tokens[0]
print(f"{read.used} tokens used, {read.padding} padding\ncut off: …{read.cut[-40:]!r}")
same = model.encode_text(long_prompt.replace("style of a cat", "style of a dog"))
torch.testing.assert_close(same.embeds, model.encode_text(long_prompt).embeds, **close)
print("another style at the end: the same embeddings, so the same picture")
assert read.used == 77 and read.cut.endswith("in the style of a cat")

# %% [markdown]
# ### One word at two positions
#
# The text encoder turns the 77 numbers into 77 vectors. It is a transformer with a *causal* mask: position $k$ attends
# to positions $0 \dots k$ and never to later ones,
#
# $$ e_k = f(\text{token}_0, \dots, \text{token}_k), \qquad k = 0, \dots, 76 . $$
#
# <small>In code: `stable_diffusion.StableDiffusion.encode_text`. Test:
# `tests/test_stable_diffusion_input.py::test_embeddings_are_the_pipelines_own`.</small>
#
# This has two consequences. The same word has another embedding at another position. And a word **changes every
# embedding after it, none before it**. Replace each word of a prompt in turn, and compute which of the 77 vectors
# change:

# %%
cat_first, dog_first = model.encode_text(["cat and dog", "dog and cat"]).embeds
print(f"“cat” at position 1 and at position 3, cosine: {F.cosine_similarity(cat_first[1], dog_first[3], dim=0):.1f}")

WORDS = ["a", "painting", "of", "a", "red", "castle", "and", "the", "sea"]
replaced = [" ".join([*WORDS[:k], "dog", *WORDS[k + 1 :]]) for k in range(len(WORDS))]
embeds = model.encode_text([" ".join(WORDS), *replaced]).embeds.float().cpu()
changes = (embeds[1:] - embeds[0]).norm(dim=-1) / embeds[0].norm(dim=-1)  # [words, 77]
changes[changes < (1e-3 if exact else 0.02)] = 0  # rounding
plots.reach_map(changes, WORDS, title="Which embeddings change when a word is replaced by “dog”")
plt.show()

for k in range(len(WORDS)):
    assert not changes[k, : k + 1].any() and (not exact or bool((changes[k, k + 1 :] > 0).all()))
print(f"the first word changes {int((changes[0] > 0).sum())} of 77 embeddings, "
      f"the last of these {int((changes[-1] > 0).sum())}")  # fmt: skip
assert comparisons.rms_distance(cat_first[1], dog_first[3]) > 0.01

# %% [markdown]
# Look at the right of the map: the **padding is not empty**. Every padding vector depends on the whole prompt, and the
# U-Net attends to all 77 vectors.
#
# *“Subject first, style after: early tokens weigh more.”* This part of the rule is true for any weights: early words
# change more of the 77 embeddings, later words have more context. Whether early words also have a larger effect *on the
# picture* depends on the weights, and this map does not show it. (How much a vector changes depends on the random
# weights here; which vectors change does not.)
#
# ## 3 · The initial latent, and its savings
#
# The autoencoder was trained to encode an 8 x 8 patch of the picture by 4 numbers, and diffusion works on these
# numbers:
#
# $$ z = s \cdot \mathcal E(x), \qquad x \approx \mathcal D(z / s), \qquad s = 0.18215 \text{ (to unit variance)} . $$
#
# <small>In code: `stable_diffusion.StableDiffusion.encode`. Test:
# `tests/test_published.py::test_a_picture_is_encoded_as_diffusers_image_to_image_encodes_it`.</small>

# %%
for side in (512, 768, 1024):
    C, h, w = model.latent_shape(side, side)
    print(f"{side} x {side} x 3 = {3 * side * side:>9,} numbers;  {h} x {w} x {C} = {C * h * w:>6,}: "
          f"{3 * side * side / (C * h * w):.0f} times fewer")  # fmt: skip
C3, h3, w3 = stable_diffusion.stand_in("sd3", device="cpu").latent_shape(512, 512)
print(f"Stable Diffusion 3: {h3} x {w3} x {C3}, only {3 * 512 * 512 / (C3 * h3 * w3):.0f} times fewer")

C, h, w = model.latent_shape(512, 512)
assert (C, h, w) == (4, 64, 64) and 3 * 512 * 512 == 48 * C * h * w

start = model.prepare(0, levels=model.levels(STEPS), height=SIDE, width=SIDE)
big = model.prepare(0, height=512, width=512).x_t  # pure noise: x_T = eps, one stream of random numbers per seed
print(f"x_T is {tuple(big.shape)}, mean {float(big.mean()):.2f}, standard deviation {float(big.std()):.2f}")
torch.testing.assert_close(big.cpu(), torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)))

# %% [markdown]
# These are forty-eight times fewer numbers. (Little information is lost, but this is a property of the trained
# autoencoder; the stand-in cannot show it. Stable Diffusion 3 uses 16 channels, to lose less; Esser et al. 2024.)
#
# ### The savings in FLOP
#
# A U-Net computes at every position, and there are 64 times fewer *positions* (an eighth of the side; the channels of
# input and output hardly matter). The cost of convolutions grows like the number of positions, $N$. Attention compares
# all positions with all, $N^2$. The next cell counts, for the published architecture, one forward pass on the latents
# of a 512 x 512 picture, and one forward pass of the same network on the picture itself.

# %%
work = stable_diffusion.costs.published_work(512, 512)
latent, pixel = work["U-Net"], work["U-Net on pixels"]
for kind in ("convolutions", "products", "attention"):
    here, there = getattr(latent, kind), getattr(pixel, kind)
    print(f"{kind:<13} {here / 1e12:5.3f} against {there / 1e12:6.1f} TFLOP: {there / here:5.0f} times")
print(f"{'together':<13} {latent.total / 1e12:5.3f} against {pixel.total / 1e12:6.1f} TFLOP: "
      f"{pixel.total / latent.total:5.0f} times")  # fmt: skip
plots.work_dots({"on 64 x 64 x 4 latents": latent.total / 1e12, "on 512 x 512 x 3 pixels": pixel.total / 1e12},
                title="One forward pass of Stable Diffusion 1.5's U-Net")  # fmt: skip
plt.show()
assert 63 < pixel.convolutions / latent.convolutions < 65 and pixel.total > 600 * latent.total

# %% [markdown]
# “Orders of magnitude” is right, but the factor is not 48: it is 64 for operations at every position, and some hundreds
# for this network as a whole, because its attention would have to compare a quarter of a million positions with one
# another. (In practice, networks for pixels have no attention at fine resolutions, and their factor is closer to 64.)
#
# ## 4 · The same sampling loop
#
# $$ x_{t'} = \alpha_{t'}\, \hat x_0 + \sigma_{t'}\, \hat\varepsilon \tag{DDIM, Eq. 12, η = 0} $$
#
# <small>In code: `samplers.ddim`. Test:
# `tests/test_samplers.py::test_ddim_in_stable_diffusions_configuration`.</small>
#
# Below, one function draws three times: a digit, with the stand-in, and with micro. `samplers.ddim` does not
# distinguish them; its arguments are a denoiser, noise, and levels. (Micro is a flow: on the straight path DDIM is
# Euler's method.)


# %%
def draw(denoise, x_T, levels):
    return list(samplers.ddim(denoise, x_T, levels))


digits = load_pretrained("mnist_unet_eps")
digit_steps = draw(digits.denoiser(torch.tensor([3]), guidance_scale=2.0), digits.noise(1, seed=0),
                   digits.schedule.levels(STEPS))  # fmt: skip

inputs_seen = []  # the inputs of the U-Net: how many latents, and the text
hook = model.network.register_forward_pre_hook(
    lambda net, args, named: inputs_seen.append((len(args[0]), named["encoder_hidden_states"])), with_kwargs=True
)
steps = draw(model.denoiser(text, guidance_scale=7.5, start=start), start.x_t, start.levels)
hook.remove()

EMOJI, SCALE = "crying cat", 4.0
micro_text, micro_start = micro.encode_text(EMOJI), micro.prepare(0, levels=micro.levels(STEPS))
micro_steps = draw(micro.denoiser(micro_text, guidance_scale=SCALE, start=micro_start), micro_start.x_t,
                   micro_start.levels)  # fmt: skip

shown = [0, 7, 15, 22, 29]
for i in shown:
    print(f"step {i + 1:>2}   " + "   ".join(
        f"{who} {tuple(of[i].x_t.shape)} at t = {of[i].level.t:.3g}, α = {of[i].level.alpha:.3f}"
        for who, of in (("digit", digit_steps), ("stand-in", steps), ("micro", micro_steps))))  # fmt: skip
for step in digit_steps + steps + micro_steps:
    expected = step.next_level.alpha * step.pred.x_0 + step.next_level.sigma * step.pred.eps
    torch.testing.assert_close(step.x_next, expected)
assert len(inputs_seen) == len(steps) == STEPS and {count for count, _ in inputs_seen} == {2}
assert all(torch.equal(embeds, inputs_seen[0][1]) for _, embeds in inputs_seen)
print(f"{len(inputs_seen)} forward passes of the U-Net, each with two latents (prompt, empty prompt) and the same text")

# %% [markdown]
# Textbooks say that sampling starts “from t = 999”. Look at the first line: Stable Diffusion 1.5's own configuration
# (`leading` spacing) starts 30 steps at t = 958, and even t = 999 is not quite pure noise on its schedule (notebook
# 02). At t = 958 the model expects a tenth of a picture in its input, but the input is pure noise. This works, with a
# small error in brightness (Lin et al. 2023). `model.levels(STEPS, spacing="trailing")` starts at 999.

# %%
own, trailing = model.levels(STEPS)[0], model.levels(STEPS, spacing="trailing")[0]
print(f"leading: t = {own.t:.0f}, α = {own.alpha:.3f};  trailing: t = {trailing.t:.0f}, α = {trailing.alpha:.3f}")
assert own.t < trailing.t == 999 and trailing.alpha > 0.05

# %% [markdown]
# ### A check against diffusers
#
# The reference is diffusers: its own pipeline and its own scheduler get the same three networks and the same seed, and
# run their own loop:

# %%
from diffusers import DDIMScheduler, StableDiffusionPipeline

parts = {**model.pipe.components, "scheduler": DDIMScheduler.from_config(model.pipe.scheduler.config)}
pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
pipe.set_progress_bar_config(disable=True)
theirs = pipe(PROMPT, num_inference_steps=STEPS, guidance_scale=7.5, height=SIDE, width=SIDE,
              generator=generators(1, seed=0), output_type="latent").images  # fmt: skip

ours = steps[-1].x_next
apart = comparisons.rms_distance(ours.cpu(), theirs.float().cpu()) / float(ours.square().mean().sqrt())
print(f"final latents, relative difference under 1 in 10,000: {apart < 1e-4}")
assert apart < (1e-4 if exact else 0.05)

# %% [markdown]
# The latents are the same, so the picture is the same. From here on, every statement about the loop of this notebook is
# also true for Stable Diffusion.
#
# ## 5 · Guidance at every step
#
# $$
# \hat\varepsilon = \varepsilon_{\text{uncond}}
# + w \left( \varepsilon_{\text{cond}} - \varepsilon_{\text{uncond}} \right), \qquad w = 7.5
# $$
#
# <small>In code: `guidance.guide`. Test:
# `tests/test_denoisers.py::test_the_convention_of_guidance_scale`.</small>
#
# Every step contains both predictions and their difference. The unconditional prediction also has a text: the empty
# prompt, which is a start, an end, and 75 times padding, encoded like any other prompt.

# %%
for step in steps:
    torch.testing.assert_close(
        step.pred.eps, guidance.guide(step.pred.eps_cond, step.pred.eps_uncond, 7.5), atol=1e-3, rtol=1e-3
    )
torch.testing.assert_close(text.negative_embeds, model.encode_text("").embeds, **close)

rows = [
    stable_diffusion.recording.row_of(step) for step in micro_steps
]  # the Euclidean norms of every step, one per image
plots.norm_panels(rows, title=f"“{EMOJI}”: norms of micro's two predictions")
plt.show()
apart = [row["difference_norm"][0] / row["cond_norm"][0] for row in rows]
norms = [row["cond_norm"][0] / 32 for row in rows]
print(f"the norm with the prompt is {min(norms):.1f} to {max(norms):.1f} times 32; "
      f"the largest difference is under 40% of it: {max(apart) < 0.4}")  # fmt: skip
assert max(apart) < 0.4 and 0.6 < min(norms) and max(norms) < 1.5

# %% [markdown]
# The two predictions are large vectors that nearly agree, and guidance multiplies their small difference. The target
# noise has a norm of about $\sqrt{4hw}$, 32 for micro's latents of 16 x 16 x 4, and a trained network's prediction has
# nearly this norm. (At the first step of a flow the difference is 0: $x_t$ is the noise itself. Notebook 11 looks at
# where the text has its effect.)
#
# ### Guidance off, with a negative prompt, in an interval
#
# - **Scale 1** is off: the unconditional prediction is not even computed.
# - A **negative prompt** replaces the empty prompt in the prediction that is subtracted. Nothing else changes.
# - An **interval** guides only at some levels; **rescaling** restores the contrast (notebook 06, section 7).

# %%
x_t, level = steps[5].x_t, steps[5].level


def predictions(prompt, scale, negative=None, **options):
    return model.denoiser(model.encode_text(prompt, negative), guidance_scale=scale, **options)(x_t, level)


off = predictions(PROMPT, 1.0)
assert off.eps_uncond is None
torch.testing.assert_close(off.eps, steps[5].pred.eps_cond, **close)

negative = predictions(PROMPT, 7.5, negative="blurry")
# the conditional prediction is unchanged; the other one is that of the negative prompt
torch.testing.assert_close(negative.eps_cond, steps[5].pred.eps_cond, **close)
torch.testing.assert_close(negative.eps_uncond, predictions("blurry", 1.0).eps, **close)
torch.testing.assert_close(predictions(PROMPT, 1.0, negative="blurry").eps, off.eps, **close)
print("a negative prompt replaces the unconditional prediction; at scale 1 it has no effect")

levels = start.levels[:-1]
middle = model.denoiser(text, guidance_scale=7.5, guidance_interval=(0.3, 3.0), start=start)
guided = sum(middle.guides_at(level) for level in levels)
print(f"guiding where σ/α is from 0.3 to 3: {guided} of {len(levels)} steps")
assert guided == sum(0.3 <= level.sigma / level.alpha <= 3.0 for level in levels)

if model.kind == "eps":
    rescaled = predictions(PROMPT, 7.5, guidance_rescale=1.0)
    torch.testing.assert_close(rescaled.eps.std(), rescaled.eps_cond.std(), **close)
    print("rescaled by 1: the guided noise has the contrast of the conditional one again")

# %% [markdown]
# *“Negative prompts filter artefacts”*: the mechanism is a push away from what the words describe. It is not a filter,
# and there is no list of artefacts. Whether a push away from “blurry” makes a picture sharper depends on the weights.
# In notebook 06 the effect could be counted: no eights were left.
#
# ## 6 · The latents, step by step
#
# The state of the loop is four channels of noisy latents. At each step the network predicts a whole picture,
#
# $$ \hat x_0 = \frac{x_t - \sigma_t\, \hat\varepsilon}{\alpha_t} , $$
#
# <small>In code: `predictions.to_x0_eps`. Test:
# `tests/test_predictions.py::test_predicted_x_0_equals_diffusers`.</small>
#
# which the decoder can show at any time. Decoding is **lazy**: the steps hold latents, and only those that are shown
# are decoded, here 6 of 30. If even this is too expensive, a linear map from 4 channels to 3 colours is enough
# (`preview`, fitted once to the model's own decoder).


# %%
def even(z):
    return z / z.square().mean().sqrt()  # divided by its root mean square, for a common scale


seen = [micro_steps[i] for i in shown]
channels = {f"$x_t$, channel {c + 1}": [even(s.x_t)[0, c : c + 1].cpu() for s in seen] for c in range(4)}
plots.latent_strip({
    **channels,
    "$x_t$, preview": [micro.preview(s.x_t)[0].cpu() for s in seen],
    "$\\hat x_0$, decoded": [micro.decode(s.pred.x_0)[0].cpu() for s in seen],
}, limits=dict.fromkeys(channels, 2.5), side=64, captions=[f"t = {s.level.t:.2f}" for s in seen],
    title=f"“{EMOJI}”, from noise to the last step (micro)")  # fmt: skip
plt.show()

for s in seen[1:]:  # at the first step α is 0: there the prediction of the velocity gives the picture
    torch.testing.assert_close(s.pred.x_0, (s.x_t - s.level.sigma * s.pred.eps) / s.level.alpha, atol=1e-2, rtol=1e-3)
picture = micro.decode(micro_steps[-1].x_next)
to_go = [comparisons.rms_distance(micro.decode(s.pred.x_0), picture) for s in seen]
print("distance of the predicted picture from the final one: " + ", ".join(f"{d:.1f}" for d in to_go))
assert tuple(picture.shape) == (1, 3, 128, 128) and float(picture.abs().max()) <= 1
assert to_go[-1] < 0.3 * to_go[0] and to_go == sorted(to_go, reverse=True)
kept = sum(s.x_t.numel() for s in micro_steps)
print(f"the latents of all {STEPS} steps are {kept:,} numbers; decoded they would be {48 * kept:,}")

# %% [markdown]
# The first predictions are blurred patches of colour; the shapes come next, and edges last. **The loop contains no
# knowledge**: it is the loop of notebook 04. With the stand-in's random weights the same loop keeps noise, because an
# untrained network predicts hardly any noise, so $\hat x_0 \approx x_T / \alpha_T$ from the first step to the last:

# %%
plots.latent_strip({
    "stand-in": [even(steps[i].pred.x_0)[0, :1].cpu() for i in shown],
    "micro": [even(micro_steps[i].pred.x_0)[0, :1].cpu() for i in shown],
}, limits={"stand-in": 2.5, "micro": 2.5}, side=64, captions=[f"step {i + 1}" for i in shown],
    title="Predicted latents, first channel: random weights, trained weights")  # fmt: skip
plt.show()


def alike(a, b):
    return float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0))


same = alike(steps[shown[0]].pred.x_0, steps[shown[-1]].pred.x_0)
print(f"cosine of the first and the last predicted latents, random weights: {same:.1f}")
assert not is_stand_in or same > 0.9

# %% [markdown]
# ## 7 · Starting from a picture
#
# ### Image to image
#
# The loop need not start from pure noise. Encode a picture, noise it to a level of the path, and run the remaining
# steps:
#
# $$ x_t = \alpha_t\, z + \sigma_t\, \varepsilon, \qquad
# \text{with } \lfloor n \cdot \mathit{strength} \rfloor \text{ of } n \text{ steps left to take} . $$
#
# <small>In code: `stable_diffusion.latents.steps_of_strength`. Test:
# `tests/test_stable_diffusion.py::test_image_to_image_equals_diffusers`.</small>

# %%
few = {"num_inference_steps": 10, "guidance_scale": SCALE}
image = micro.sample("a house with a garden", seed=0, **few).cpu()

strengths = (0.3, 0.5, 0.8, 1.0)
large = F.interpolate(image, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
starts = {s: model.prepare(0, levels=model.levels(STEPS), image=large, strength=s) for s in strengths}
plots.walked_levels(model.levels(STEPS), {f"strength {s}": begun.levels for s, begun in starts.items()},
                    title="Image to image in Stable Diffusion 1.5: the levels that are visited (filled)")  # fmt: skip
plt.show()

for s, begun in starts.items():
    first = begun.levels[0]
    print(f"strength {s}: {len(begun.levels) - 1:>2} steps from t = {first.t:3.0f}, "
          f"of the picture α = {first.alpha:.2f}, of noise σ = {first.sigma:.2f}")  # fmt: skip
    assert len(begun.levels) - 1 == int(STEPS * s) and begun.levels == model.levels(STEPS)[-len(begun.levels) :]

# %% [markdown]
# **Strength 1** starts at the same level as text to image, at t = 958, where α is not 0: a trace of the picture
# remains, and with it some of its brightness. **Strength 0** would leave no step; only the autoencoder would run,
# encoding and decoding. Our function raises an error instead of silently returning a changed picture. Then micro draws
# "a red house" from a house:

# %%
try:
    micro.prepare(0, image=image, strength=0.0)
except ValueError as error:
    print(error)
z = micro.encode(image)
there_and_back = micro.decode(z).cpu()  # the picture after encoding and decoding

outcomes = {s: micro.sample("a red house", seed=1, image=image, strength=s, **few).cpu() for s in strengths}
plots.filmstrip({"": torch.cat([image, there_and_back, *outcomes.values()])},
                captions=["picture", "strength 0", *(f"{s}" for s in strengths)],
                title="From a picture of a house to “a red house”, by strength (micro)")  # fmt: skip
plt.show()
away = [comparisons.rms_distance(x, image) for x in outcomes.values()]
print(f"encoded and decoded {comparisons.rms_distance(there_and_back, image):.2f}; by strength "
      + ", ".join(f"{s} {d:.2f}" for s, d in zip(strengths, away, strict=True)))  # fmt: skip
assert comparisons.rms_distance(there_and_back, image) < 0.1 and away == sorted(away)

# %% [markdown]
# The autoencoder nearly reproduces the picture. A larger strength means more steps, and here a larger distance from the
# picture (one picture, one seed). *“Refine a good one by image to image at 0.3 to 0.5”* means: repeat the last third to
# half of the steps; notebook 11 tries it.
#
# ### Inpainting
#
# A mask marks which part to draw again (1) and which to keep (0). A network that was never trained for inpainting can
# still inpaint, if at every level the known part is overwritten by its *correct* value, the picture noised to that
# level:
#
# $$ x_t \leftarrow m \odot x_t + (1 - m) \odot (\alpha_t z + \sigma_t \varepsilon) . $$
#
# <small>In code: `stable_diffusion.inpainting.KnownRegion`. Test:
# `tests/test_stable_diffusion.py::test_inpainting_equals_diffusers`.</small>

# %%
mask = torch.zeros(128, 128)
mask[:64] = 1  # 1: draw again, the upper half
options = {"image": image, "mask": mask}
painted = micro.prepare(0, levels=micro.levels(10), strength=0.8, **options)
inpainting = list(micro.steps("a castle", strength=0.8, **options, **few))

known, keep = painted.known, (painted.known.mask == 0).expand_as(painted.x_t)
first, end = painted.levels[0], inpainting[-1].x_next
torch.testing.assert_close(painted.x_t, add_noise(known.image_latents, known.eps, first))
torch.testing.assert_close(end[keep], known.image_latents[keep])
for step in inpainting:  # the kept part is known at every step
    torch.testing.assert_close(step.pred.x_0[keep], known.image_latents[keep])
seen = [*range(0, len(inpainting), 2), len(inpainting) - 1]
changed = float((end - known.image_latents)[~keep].abs().mean())
pure = micro.prepare(0, strength=1.0, **options)  # at full strength inpainting has no trace of the picture
torch.testing.assert_close(pure.x_t, pure.known.eps)
print(f"{keep.float().mean():.1%} of the latents are kept, exactly; the others changed: {changed > 0.05}")

hole = torch.where(mask.bool(), torch.zeros(()), image)
films = {"": torch.cat([image, hole, *(micro.decode(inpainting[i].pred.x_0).cpu() for i in seen)])}
plots.filmstrip(films, captions=["picture", "masked", *(f"step {i + 1}" for i in seen)],
                title="Inpainting “a castle”: predicted pictures, decoded (micro)")  # fmt: skip
plt.show()
assert changed > 0.05

# %% [markdown]
# The latents are kept **exactly**, but the pixels outside the mask still change a little, for two reasons: the
# autoencoder does not reproduce its input exactly, and each pixel of its decoder depends on latents inside the mask,
# too (its convolutions overlap). The next cell measures the second effect:


# %%
def smaller(m):
    return F.interpolate(m[None, None], scale_factor=1 / micro.pixels)[0, 0]


before, after = micro.decode(known.image_latents).cpu(), micro.decode(end).cpu()
difference = (after - before).abs()
print(f"outside the mask the decoded pixels change too: {bool(difference[..., ~mask.bool()].max() > 0)}")
print(f"but less than inside it: {bool(difference[..., ~mask.bool()].mean() < difference[..., mask.bool()].mean())}")
assert 0 < difference[..., ~mask.bool()].mean() < 0.5 * difference[..., mask.bool()].mean()
torch.testing.assert_close(known.mask[0, 0].cpu(), smaller(mask))

# %% [markdown]
# So programs that must not change the rest paste the original *pixels* back at the end. (Models that were trained to
# inpaint get the mask and the masked picture as five further input channels, and then match the edge better.)
#
# ## 8 · One seed, one picture
#
# The only random part of a run is $x_T$, and it comes from the seed: one stream of random numbers per picture, drawn on
# the CPU. So seed 8 gives one picture, alone or in a batch, and a good picture can be drawn again, or refined.

# %%
few = {"num_inference_steps": 8, "guidance_scale": SCALE}
alone = micro.sample(micro_text, seed=8, **few)
batch = micro.sample(micro_text, seed=[7, 8, 9], **few)
again = micro.sample(micro_text, seed=8, **few)
print(f"the same seed twice: equal to the bit: {torch.equal(alone, again)}")
plots.filmstrip({"": batch}, captions=["seed 7", "seed 8", "seed 9"], title=f"“{EMOJI}”, three seeds, 8 steps")
plt.show()

assert torch.equal(alone, again) and torch.equal(micro.prepare(8).x_t, micro.prepare([7, 8, 9]).x_t[1:2])
torch.testing.assert_close(batch[1:2], alone, atol=1e-2, rtol=0)
others = [comparisons.rms_distance(batch[1:2], batch[k : k + 1]) for k in (0, 2)]
print("distance of the pictures of seeds 7 and 9 from that of seed 8: " + ", ".join(f"{d:.1f}" for d in others))
assert min(others) > 10 * comparisons.rms_distance(batch[1:2], alone)
print("in a batch: the same start to the bit, the same picture but for rounding; from other seeds, other noise")

# %% [markdown]
# Other noise need not give another picture: seeds 7 and 9 end at nearly the same cat. Micro has seen three crying cats,
# one by each of three artists, and remembers them (notebook 11, section 8); a model of a billion pictures has more to
# choose from.

# %% [markdown]
# ## 9 · The time of each stage
#
# There are four stages: text, the initial latent (almost no cost), the steps, decoding. First the cost in FLOP, counted
# on the published network at 512 x 512: the text encoder encodes two prompts, the U-Net makes two predictions at each
# of 30 steps, the decoder runs once.

# %%
cost = {"text, 2 prompts": 2 * work["text encoder"].total,
        "30 steps, 60 passes of the U-Net": 60 * work["U-Net"].total,
        "decoding, once": work["decoder"].total}  # fmt: skip
plots.work_dots(
    {stage: flops / 1e12 for stage, flops in cost.items()}, title="Stable Diffusion 1.5, one picture of 512 x 512"
)
plt.show()
total = sum(cost.values())
for stage, flops in cost.items():
    print(f"{stage:<33} {flops / total:7.2%}")
print(f"one decoding costs {work['decoder'].total / work['U-Net'].total:.1f} passes of the U-Net, "
      f"so decoding all 30 steps adds {29 * work['decoder'].total / total:.1f} times the total")  # fmt: skip
assert cost["30 steps, 60 passes of the U-Net"] > 0.9 * total

# %% [markdown]
# Running the decoder only at the end saves much: it works at full resolution, and one pass of it costs as much as three
# of the U-Net. Now the time of micro's stages on this machine:


# %%
def seconds(stage):
    begin = time.perf_counter()
    float(stage().sum())  # reads a number, so that a GPU has to finish
    return time.perf_counter() - begin


clock = {
    "text": seconds(lambda: micro.encode_text(EMOJI).embeds),
    "steps": seconds(lambda: samplers.final(micro.steps(micro_text, num_inference_steps=20))),
    "decoding": seconds(lambda: micro.decode(micro_steps[-1].x_next)),
}
print(f"the steps take most of the time: {clock['steps'] > 0.7 * sum(clock.values())}")
assert clock["steps"] > 0.7 * sum(clock.values())

# %% [markdown]
# And in seconds, at full size, on one H200 (`benchmarks/stable_diffusion.py`, 2026-11-24; the architecture as
# published; random weights, because speed does not depend on them): diffusers' own pipeline, our loop over the same
# network, and ours with the network compiled and replayed as a CUDA graph. 30 DDIM steps, guidance 7.5, half precision,
# decoded.

# %%
measured = read_measured("stable_diffusion")
for row in measured["rows"]:
    stages = {name: row.get("stages", {}).get(name) for name in ("text", "steps", "decode")}
    parts = "".join(f", {name} {1000 * s:.0f} ms" for name, s in stages.items() if s)  # for diffusers only the total
    print(f"{row['name']:<10} {row['batch_size']} picture(s): {row['median']:.2f} s{parts}")
pixels = measured["pixels"]
fast = next(row for row in measured["rows"] if row["name"] == "ours, fast" and row["batch_size"] == 1)
print(f"the same U-Net on 512 x 512 x 3 pixels: {pixels['seconds_a_step']:.1f} s a step, "
      f"so {pixels['extrapolated_seconds']:.0f} s for 30")  # fmt: skip
assert fast["median"] < 0.25 and fast["stages"]["steps"] > 0.85 * fast["median"]
assert pixels["extrapolated_seconds"] > 100 * fast["median"]

# %% [markdown]
# **"Under a second on a data-centre GPU"** (C28): yes, in 0.21 s when compiled, of which the 30 steps are nine tenths.
# Not compiled it takes 1.8 s, by diffusers and by us alike: each step then waits for Python to launch its hundreds of
# small operations, not for the GPU. Four pictures take 0.62 s compiled.
#
# **"30 to 60 s in pixel space"**: 187 s for this U-Net, with two steps measured and the rest extrapolated. That is a
# hundred times as long as on latents, both uncompiled; a network *made* for pixels would have no attention at full
# resolution, which is nearly the whole cost.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · The cost of a larger picture.** Write `my_work(convolutions, products, attention, factor)`: the U-Net's
# FLOPs, to 1%, for a picture whose *side* is `factor` times as long, from the three counts of section 3 for the small
# one. (By the count, a picture of 1024 x 1024 costs more than four times one of 512 x 512.)

# %%
my_work = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_work(convolutions, products, attention, factor):
    return factor**2 * (convolutions + products) + factor**4 * attention


# %%
check("09.1", my_work, solution_work)

# %%
for small, large in ((512, 1024), (256, 512)):
    counted = stable_diffusion.costs.published_work(large, large)["U-Net"].total
    predicted = solution_work(*stable_diffusion.costs.published_work(small, small)["U-Net"], large / small)
    print(f"from {small} to {large}: predicted {predicted / 1e12:.2f} TFLOP, counted {counted / 1e12:.2f}")
    assert abs(predicted / counted - 1) < 0.05
assert (
    stable_diffusion.costs.published_work(1024, 1024)["U-Net"].total
    > 4 * stable_diffusion.costs.published_work(512, 512)["U-Net"].total
)

# %% [markdown]
# (The prediction is not exact: attention from picture to *text* compares with 77 tokens at any size, and so grows like
# the number of positions.)
#
# **Exercise 2 · Which levels?** Image to image takes `int(n * strength)` of $n$ steps. Write `my_levels(levels,
# strength)`: the list of the levels that it visits, including the last one, from a complete list of $n + 1$ levels.

# %%
my_levels = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_levels(levels, strength):
    n = len(levels) - 1
    return levels[n - int(n * strength) :]


# %%
check("09.2", my_levels, solution_levels)

# %% [markdown]
# **Exercise 3 · The picture in the noise.** The latents of one picture were noised to two levels with *the same* noise,
# and both results are given. Write `my_latents(x_a, level_a, x_b, level_b)`: the clean latents, to 0.1%, for any two
# levels, each with its `alpha` and its `sigma`. Two equations, two unknowns.

# %%
my_latents = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_latents(x_a, level_a, x_b, level_b):
    determinant = level_a.alpha * level_b.sigma - level_b.alpha * level_a.sigma
    return (level_b.sigma * x_a - level_a.sigma * x_b) / determinant


# %%
check("09.3", my_latents, solution_latents)

# %% [markdown]
# ## What to remember
#
# - A prompt always has 77 tokens: what does not fit is cut off, and each word changes the embeddings after it.
# - Latents have 48 times fewer numbers and 64 times fewer positions, and need hundreds of times fewer FLOP than the
#   same network on pixels.
# - The loop is `samplers.ddim`, the same function that draws digits; all knowledge is in the network.
# - A negative prompt replaces the empty prompt in the prediction that is subtracted. At scale 1 it has no effect.
# - Image to image runs the last part of the steps; inpainting keeps latents exactly and pixels nearly.
# - The steps take nearly all of the time, and decoding is expensive: do it once.
#
# **Next:** [10 · Latent diffusion](10_latent_diffusion.ipynb): what the four channels of the latents hold.
#
# ## References
#
# - R. Rombach et al. 2022, [High-Resolution Image Synthesis with Latent Diffusion
#   Models](https://arxiv.org/abs/2112.10752): the latents (Section 3.1), their cost (Section 4.1).
# - P. Esser et al. 2024, [Scaling Rectified Flow Transformers for High-Resolution Image
#   Synthesis](https://arxiv.org/abs/2403.03206): Stable Diffusion 3.
# - A. Radford et al. 2021, [Learning Transferable Visual Models From Natural Language
#   Supervision](https://arxiv.org/abs/2103.00020): CLIP, whose text encoder this is.
# - J. Song, C. Meng, S. Ermon 2021, [Denoising Diffusion Implicit Models](https://arxiv.org/abs/2010.02502): Eq. 12.
# - J. Ho, T. Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598).
# - C. Meng et al. 2022, [SDEdit](https://arxiv.org/abs/2108.01073): image to image by noising.
# - A. Lugmayr et al. 2022, [RePaint](https://arxiv.org/abs/2201.09865): inpainting with a network that was not trained
#   for it (Section 4.1).
# - S. Lin et al. 2023, [Common Diffusion Noise Schedules and Sample Steps Are
#   Flawed](https://arxiv.org/abs/2305.08891): where sampling should start (Section 3.3).
