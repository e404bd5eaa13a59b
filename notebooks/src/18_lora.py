# %% [markdown]
# # 18 · LoRA: teach the model your style
#
# Notebook 11 found that micro hardly draws a style in which it never saw a subject. Here it learns one, from five
# pictures and in minutes, though it has ten million weights: not one of these weights is trained. Beside each of some
# layers two thin matrices learn a small change, which fits into a file of 157 KB, is added at any strength, and is
# taken away again to the bit. The same file format serves Stable Diffusion.
#
# **When you have worked through it, you can**
#
# - write the change $\frac{\alpha}{r} B A$ beside a layer, and count its numbers;
# - derive why $B$ starts at zero and $A$ does not, and which of the two learns at the first step;
# - train a LoRA on five pictures with a new word, and say which weights it changed most;
# - choose its scale, add two LoRAs, merge one into the weights, and remove it without a trace;
# - measure what a model forgets when it learns, and what DreamBooth's prior loss does about it.
#
# *Beside you:* Hu et al. 2021, [LoRA](https://arxiv.org/abs/2106.09685), Section 4.1, and Ruiz et al. 2022,
# [DreamBooth](https://arxiv.org/abs/2208.12242), Section 3. Read notebooks 03 and 11 first. About 35 minutes to read,
# under a minute to run.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from diffusion_explained import micro, plots, stable_diffusion, widgets
from diffusion_explained.exercises import check
from diffusion_explained.film import film, pixels
from diffusion_explained.measured import read_measured

plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## 1 · Five pictures and a new word
#
# What is to be learned? Two styles that no training of micro contained, because a rule makes them: outlines, and
# mosaics of 16 x 16 blocks. Each has five pictures. A caption names what its picture shows, and then a **new word**:
# "cat, zorb style". What the words of the caption explain already, the cat, need not be learned; what the five pictures
# have in common besides is left for the new word.

# %%
model = stable_diffusion.load("micro")
taught = {rule: micro.made_styles.made_pictures(rule) for rule in micro.made_styles.WORDS}
plots.filmstrip({micro.made_styles.WORDS[rule]: pictures for rule, (pictures, _) in taught.items()},
                captions=[caption.split(",")[0] for caption in taught["ink"][1]],
                title="Five pictures per style")  # fmt: skip
plt.show()
for pictures, captions in taught.values():
    print("; ".join(captions))
    assert pictures.shape == (5, 3, 128, 128)
(tokens,) = model.encode_text("zorb").tokens[0]
print(f"the tokenizer spells the new word in {tokens.used - 2} pieces, so that it has no meaning yet")
assert tokens.used > 3

# %% [markdown]
# ## 2 · The change
#
# A layer multiplies its input by a matrix $W$ with `out` rows and `in` columns. Training all of $W$ on five pictures
# would need as much memory as training the whole model, and would give a file as large as the model. LoRA keeps $W$ and
# learns the product of two thin matrices beside it:
#
# $$
# h = W x + \frac{\alpha}{r}\, B A\, x , \qquad A \in \mathbb R^{r \times \text{in}}, \quad
# B \in \mathbb R^{\text{out} \times r}, \quad A_{ij} \sim N(0, 1 / \text{in}), \quad B = 0 \text{ at the start.}
# \tag{LoRA, Eq. 3}
# $$
#
# <small>In code: `micro.lora.LowRank`. Test:
# `tests/test_micro_lora.py::test_the_file_is_the_change_beside_the_weights`.</small>
#
# The rank $r$ says how many directions of $x$ can be changed; $\alpha$ sets the size of the change and is equal to $r$
# unless one gives another number. The change is put beside the four projections of each attention layer. `LoRA` makes
# the matrices, and `with_changes` a copy of the networks that adds them:

# %%
lora = micro.lora.LoRA(model, rank=4)
weights = sum(p.numel() for p in model.network.parameters())
trained = sum(p.numel() for p in lora.parameters())
print(f"{len(lora.names)} layers; {trained:,} numbers, {trained / weights:.1%} of the U-Net's {weights:,}")
encoded = micro.lora_pictures.encode_pictures(model, *taught["ink"])
x_t, t, words = encoded.latents.float(), torch.full((5,), 500.0), encoded.tokens.long()


def prediction(lora):
    """The output of the network with a LoRA beside its weights, for the five pictures."""
    with torch.no_grad():
        return micro.lora.with_changes(model, lora)(x_t, t, words)


with torch.no_grad():
    base = model.network(x_t, t, encoder_hidden_states=model.pipe.text_encoder(words)[0]).sample
print("with B = 0 the network is the base, to the bit:", torch.equal(prediction(lora), base))
assert torch.equal(prediction(lora), base) and len(lora.names) == 56

# %% [markdown]
# ### Why $B = 0$, and why not $A = 0$ too
#
# With the gradient $g = \partial L / \partial h$ of the layer's output, a column for each input $x$,
#
# $$
# \frac{\partial L}{\partial B} = \frac{\alpha}{r} \sum g\, (A x)^\top , \qquad
# \frac{\partial L}{\partial A} = \frac{\alpha}{r} \sum B^\top g\, x^\top .
# $$
#
# <small>In code: `micro.lora.LowRank`. Test:
# `tests/test_micro_lora.py::test_at_the_first_step_b_learns_and_a_does_not`.</small>
#
# <details><summary>Derivation, and what follows from it</summary>
#
# 1. Let $u = A x$, a vector of $r$ numbers. Then $h = W x + \frac{\alpha}{r} B u$.
# 2. $h$ is linear in $B$: a small change $dB$ changes the loss by $dL = g^\top \frac{\alpha}{r}\, dB\, u$. The matrix
#    that belongs to $dB$ is $\frac{\alpha}{r}\, g\, u^\top$. Several inputs add up.
# 3. The gradient that reaches $u$ is $\frac{\alpha}{r} B^\top g$. By the same argument $\partial L / \partial A =
#    \frac{\alpha}{r} B^\top g\, x^\top$.
# 4. At the start $B = 0$. So the gradient of $A$ is zero, and that of $B$ is not, because $A$ is random: $B$ learns at
#    the first step, $A$ from the second on.
# 5. With $A = B = 0$ both gradients would be zero, for ever: nothing would be learned.
# 6. With both random, the first picture would be that of a disturbed model. $B = 0$ begins at the model that draws well
#    (a ControlNet's zero convolutions do the same, notebook 17).
#
# </details>
#
# ## 3 · A small training
#
# The loss is that of micro's own training (notebook 05), with one difference: the gradient goes to $A$ and $B$ only.
# Twelve steps of four pictures, live:

# %%
config = micro.lora.LoRAConfig(images=48, batch_size=4, learning_rate=8e-3, warmup_steps=4)
opened = {"step": [], "A": [], "B": []}
before = [change.down.detach().clone() for change in lora.changes]
for record in micro.lora.train_lora(lora, model, encoded, config, record_every=1):
    moved = sum(
        float((change.down.detach() - start).square().sum()) for change, start in zip(lora.changes, before, strict=True)
    )
    opened["step"].append(record.step)
    opened["A"].append(moved**0.5)
    opened["B"].append(sum(float(change.up.detach().square().sum()) for change in lora.changes) ** 0.5)
print(f"A had moved by {opened['A'][0]:.0f} after the first step, and B by more than 0: {opened['B'][0] > 0}")
plots.curves({"A": (opened["step"], opened["A"]), "B": (opened["step"], opened["B"])},
             title="How far the matrices have moved", xlabel="step", ylabel="norm of all layers")  # fmt: skip
plt.show()
assert opened["A"][0] == 0 < opened["A"][1] and 0 < opened["B"][0] < opened["B"][-1]

# %% [markdown]
# As the formula says, only $B$ has moved after the first step. Twelve steps teach hardly anything. Two LoRAs that were
# taught in 300 steps of eight pictures are part of the package (`recipes/micro_lora.py`; on two cores about a minute
# and a half each, by `diffusion-explained lora` or on the page **Control**). They are files, and a model loads one by a
# single call:

# %%
STEPS = 8


def draw(prompts, seed=0):
    """Pictures [K, 3, 128, 128] of several prompts, all from the noise of one seed."""
    return model.sample(prompts, num_inference_steps=STEPS, seed=[seed] * len(prompts))


FIRST, SECOND = "rocket, zorb style", "rocket, quib style"
plain = draw([FIRST, "rocket"])
kept = {name: weight.clone() for name, weight in model.network.state_dict().items()}
model.load_lora(micro.made_styles.lora_of("ink"))
inked = draw([FIRST, "rocket"])
size = micro.made_styles.lora_of("ink").stat().st_size
print(f"{micro.made_styles.lora_of('ink').name}: {size / 1000:.0f} KB; in the weights now: {model.loras}")
plots.filmstrip({"base": plain, "with the LoRA": inked}, captions=["“rocket,\nzorb style”", "“rocket”"],
                title="The same noise, without the LoRA and with it")  # fmt: skip
plt.show()


def colour(pictures):
    """How colourful pictures are: the mean difference of a pixel's largest and smallest channel, per picture."""
    return pictures.amax(1).sub(pictures.amin(1)).mean((1, 2)).tolist()


for name, pictures in (("base", plain), ("with the LoRA", inked)):
    print(f"{name}: colour {colour(pictures)[0]:.1f} with the new word, {colour(pictures)[1]:.1f} without it")
assert colour(inked)[0] < 0.4 * colour(plain)[0] and size < 200_000

# %% [markdown]
# No rocket was among the five pictures: the style was learned apart from its subjects. The picture without the new word
# has changed, too. Section 6 measures this.
#
# ### Which weights have changed most
#
# The size of a change beside its weights is $\lVert \frac{\alpha}{r} B A \rVert / \lVert W \rVert$, with the root of
# the sum of squares as the norm. From the file, by kind of projection:

# %%
sizes = {}
for change in model.adapters.changes["ink"][1]:
    name = next(n for n, layer in model.network.named_modules() if layer is change.layer)
    weight = model.adapters.before[change.layer].float()
    sizes[name] = float(change.of(1.0).norm() / weight.norm())
attentions = {"self-attention": "attn1", "cross-attention": "attn2"}
places = {"q": "to_q", "k": "to_k", "v": "to_v", "output": "to_out"}
found = [[[size for name, size in sizes.items() if f"{attention}.{place}" in name] for place in places.values()]
         for attention in attentions.values()]  # fmt: skip
means = 100 * torch.tensor(found).mean(-1)  # over the seven layers of each kind
plots.heat_panels({"": means}, list(attentions), list(places), digits=0, title="The change beside the weights, in %")
plt.show()
model.unload_lora()
print(f"all layers: from {min(sizes.values()):.0%} to {max(sizes.values()):.0%} of their weights")
assert len(sizes) == 56 and 0.001 < min(sizes.values()) < max(sizes.values()) < 2
print(f"most changed: v of cross-attention, {float(means[1, 2]):.0f}%")
assert means.argmax() == 6 and set(micro.lora.change_sizes(lora, model)) == {
    f"unet.{name}" for name in sizes
}  # what was trained above has these layers

# %% [markdown]
# All kinds of projections have changed by about a fifth of their weights, and the values of cross-attention most: what
# the tokens of the prompt, the new word among them, bring into the picture passes there.
#
# `change_sizes` computes the same during a training, and the page **Control** shows it step by step.
#
# ## 4 · Scale, and back to the bit
#
# A loaded LoRA is a sum in the weights, with a scale $s$ that is chosen when it is loaded:
#
# $$
# W' = W + s\, \frac{\alpha}{r}\, B A . \tag{LoRA, Sec. 4.1}
# $$
#
# <small>In code: `stable_diffusion.lora.Adapters`. Test:
# `tests/test_lora.py::test_a_lora_is_added_and_taken_away_to_the_bit`.</small>
#
# So it costs no time when pictures are drawn. The scale may be any number, also a negative one. Move the slider:

# %%
scales = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
unchanged, strip = draw([FIRST]), []
for scale in scales:
    model.load_lora(micro.made_styles.lora_of("ink"), scale=scale)
    strip.append(draw([FIRST]))
    model.unload_lora()
strip = torch.cat(strip)
colours = dict(zip(scales, colour(strip), strict=True))
print("colour by scale: " + ", ".join(f"{scale:g}: {value:.1f}" for scale, value in colours.items()))
print("at scale 0 the picture is the base's, to the bit:", torch.equal(strip[2:3], unchanged))
assert torch.equal(strip[2:3], unchanged) and colours[1.0] < 0.5 * colours[0.0]
assert all(torch.equal(weight, kept[name]) for name, weight in model.network.state_dict().items())
alt = "a rocket, drawn with the LoRA of outlines at eight scales"
widgets.scrub(
    film([("“rocket, zorb style”", alt, list(pixels(strip)))], [f"scale {scale:g}" for scale in scales]), frame=6
)

# %% [markdown]
# At negative scales the model is pushed away from outlines. The last assertion says that after eight LoRAs and eight
# removals every weight is what it was, *to the bit*: the weights of before are kept, because a subtraction would leave
# rounding errors.
#
# Which scale is best? `benchmarks/micro_lora.py --shipped` asked for more than 80 subjects that were not taught, with
# the new word, and for 80 names without it:

# %%
ROWS = read_measured("micro_lora")["rows"]
by_scale = [row for row in ROWS if row["setting"]["of"] == "the package's LoRA"]
measured = {}
for rule, word in micro.made_styles.WORDS.items():
    own = sorted((row for row in by_scale if row["style"] == rule), key=lambda row: row["setting"]["scale"])
    s = [row["setting"]["scale"] for row in own]
    measured[f"{rule}, “{word} style”"] = (s, [100 * row["in_the_style"]["share"] for row in own])
    measured[f"{rule}, without the word"] = (s, [100 * row["without_the_word"]["in_the_style"]["share"] for row in own])
plots.curves(measured, title="In the style of the LoRA", xlabel="scale", ylabel="% of the pictures")
plt.show()
for name, (_, found) in measured.items():
    print(f"{name}: " + ", ".join(f"{value:.0f}" for value in found) + f" % at {', '.join(f'{one:g}' for one in s)}")
for rule, word in micro.made_styles.WORDS.items():
    asked, leaked = measured[f"{rule}, “{word} style”"][1], measured[f"{rule}, without the word"][1]
    assert asked[0] < 5 and asked[4] > 90 and leaked[4] > 30
    assert asked[3] - leaked[3] > asked[4] - leaked[4]  # at 0.75 the word makes a larger difference than at 1

# %% [markdown]
# (Each number has a standard error of up to 6 points.) At 0.75 most of the style is there and less of it leaks into
# pictures that did not ask for it; from 1 on only the leak grows.
#
# Merged or beside: both are one function, up to rounding. Here is the LoRA that was trained above, beside the weights,
# saved to a file, and added to the weights:

# %%
beside = prediction(lora)
with tempfile.TemporaryDirectory() as folder:
    model.load_lora(micro.lora.save_lora(Path(folder), lora, model), name="live")
with torch.no_grad():
    merged = model.network(x_t, t, encoder_hidden_states=model.pipe.text_encoder(words)[0]).sample
model.unload_lora()
largest = float((merged - beside).abs().max() / (beside - base).abs().max())
print(f"merged and beside are equal up to 1% of the change: {largest < 0.01}")
assert largest < 0.01 and not torch.equal(beside, base)

# %% [markdown]
# ## 5 · Two at once
#
# Changes of weights are added, so two LoRAs can be: $W' = W + s_1 \Delta_1 + s_2 \Delta_2$. Each was trained alone;
# that the sum draws well is a hope. Does the word choose the style? Both are loaded at scale 0.75, and one noise is
# drawn with each word and with both:

# %%
for rule in micro.made_styles.WORDS:
    model.load_lora(micro.made_styles.lora_of(rule), scale=0.75)
together = draw([FIRST, SECOND, "rocket, zorb quib style"])
model.unload_lora("ink")  # the mosaics stay
alone = draw([SECOND])
model.unload_lora()
plots.filmstrip({"": torch.cat([inked[:1], alone, together])},
                captions=["outlines,\nzorb", "mosaics,\nquib", "both,\nzorb", "both,\nquib", "both,\nzorb quib"],
                title="“rocket, ... style”, one LoRA or both")  # fmt: skip
plt.show()


def blocks(pictures):
    """How far pictures are from their own mosaic: 0 for a mosaic, per picture."""
    return (pictures - micro.made_styles.mosaic(pictures)).square().mean((1, 2, 3)).sqrt().tolist()


for name, one in (("outlines alone", inked[:1]), ("mosaics alone", alone), ("both", together)):
    found = zip(colour(one), blocks(one), strict=True)
    print(f"{name}: " + "; ".join(f"colour {c:.1f}, distance from a mosaic {b:.1f}" for c, b in found))
assert model.loras == {} and blocks(alone)[0] < blocks(inked)[0]
print("both loaded, more than 80 subjects: outlines, mosaics")
both = [row for row in ROWS if row["setting"]["of"] == "both LoRAs of the package"]
for row in both:
    setting = row["setting"]
    print(f"  scale {setting['scale']:<4g} “{setting['word']} style”: " + ", ".join(
        f"{100 * row[rule]['share']:2.0f} ± {100 * row[rule]['error']:.0f}%"
        for rule in micro.made_styles.WORDS))  # fmt: skip
assert all(row["ink"]["share"] < row["mosaic"]["share"] for row in both)
assert all(row["ink"]["share"] < 0.05 for row in both if row["setting"]["scale"] > 0.5)

# %% [markdown]
# **The word does not choose the style.** Alone, the outlines are drawn in 86% at this scale, and beside the other LoRA
# in 2%, even where one asks for them; the judge takes two thirds of these pictures for mosaics, and the eye sees a
# mixture of both. Both changes act on every prompt; neither training has seen the other's change, and their sum is a
# place where neither was. So "two at once" is a fact about weights and no promise about pictures. Two styles that
# exclude each other need one LoRA, taught with both words.
#
# %% [markdown]
# ## 6 · What is forgotten
#
# One new word, and yet all 56 layers have changed for every prompt. The table is measured (`benchmarks/micro_lora.py`;
# LoRAs of 300 steps, 80 subjects that were not taught, 80 names without the new word): a judge of styles and a judge of
# names look at the pictures. *Leak* is the share of pictures **without** the new word that are taken for the style.

# %%
rows = [row for row in ROWS if row["setting"]["of"] == "LoRA"]


def percent(found):
    return f"{100 * found['share']:3.0f} ± {100 * found['error']:.0f}%"


print(f"{'':<27}in the style   named   without the word: named   leak")
table = {}
for row in rows:
    if row["style"] in ("ink", "mosaic"):
        setting, without = row["setting"], row["without_the_word"]
        name = f"{row['style']}, {setting['pictures']} pictures" + (", prior" if setting["prior"] else "")
        table[row["style"], setting["pictures"], setting["prior"]] = row
        print(f"{name:<27}{percent(row['in_the_style'])}   {percent(row['named'])}   "
              f"{percent(without['named'])}   {percent(without['in_the_style'])}")  # fmt: skip
for rule in ("ink", "mosaic"):
    for count in (5, 20):
        free, held = (table[rule, count, prior]["without_the_word"] for prior in (0.0, 1.0))
        assert held["in_the_style"]["share"] <= free["in_the_style"]["share"]
    assert table[rule, 20, 1.0]["in_the_style"]["share"] > 0.7

# %% [markdown]
# **The style is learned, and a part of the model is lost.** After 20 pictures of outlines the names without the word
# are named right in 10% instead of 99%, because nearly half of these pictures are outlines. (The judge of names cannot
# read outlines: it names 6% of the real ones.) DreamBooth adds a second loss on pictures that the *base itself* drew of
# other things, before the training:
#
# $$
# L = \mathbb E\, \lVert u_\theta(x_t, t, c) - u \rVert^2
# + \lambda\; \mathbb E\, \lVert u_\theta(x'_t, t, c_{\text{prior}}) - u' \rVert^2 . \tag{DreamBooth, Eq. 2}
# $$
#
# <small>In code: `micro.lora.train_lora`, `micro.lora.LoRAConfig`. Test:
# `tests/test_micro_lora.py::test_the_prior_is_a_second_loss_with_its_own_weight`.</small>
#
# With it the leak falls to 2%, at twice the cost per step. It is no free gift either: of five pictures of outlines, it
# leaves 11 ± 4% in the style. The prior's pictures say "draw as before" as often as the five say "draw outlines".
#
# For a *thing* instead of a style the captions name the thing alone ("a zorb"), and the prior's pictures are of its
# class: this is DreamBooth's own use, and the command's option `--thing`.
#
# ### The styles that it knows already
#
# The judge also measured the emoji's own three styles, on subjects that were held out of them. Words first: what does
# the suffix ", noto style" give by itself, and what the LoRA?

# %%
for style in ("fluent", "noto", "twemoji"):
    of = {row["setting"]["of"]: row for row in ROWS if row["style"] == style and row["setting"]["of"] != "LoRA"}
    (taught_20,) = [row for row in rows if row["style"] == style and row["setting"]["pictures"] == 20
                    and row["setting"]["prior"] == 0]  # fmt: skip
    suffix, real = of["the base, by the style's own name"], of["real pictures"]
    print(f"{style:<8} by its suffix {percent(suffix['in_the_style'])}, by a LoRA of 20 pictures "
          f"{percent(taught_20['in_the_style'])}, real pictures {percent(real['in_the_style'])}")  # fmt: skip
    assert suffix["in_the_style"]["share"] < taught_20["in_the_style"]["share"] < real["in_the_style"]["share"]

# %% [markdown]
# So the advice "a style suffix, plus a LoRA for consistency" holds here in this form: a suffix reaches a held-out style
# in 35 to 46%, a LoRA in 45 to 64%, and real pictures are told in 78 to 81%. A style that the base never saw at all is
# reached *better* than these three, because it differs more from everything that the base would draw.
#
# ## What can go wrong
#
# - *The LoRA of another model.* $B A$ fits the shapes of every copy of a network and the weights of one. Files from
#   here name the weights that they were trained on, and others are refused; with foreign files one has to know.
# - *A word that means something already.* "ink style" begins at what the base knows of ink. Made-up words differ, too:
#   the base names 43 ± 5% right when "zorb style" is added to a prompt, and 12 ± 4% with "quib style", whose pieces are
#   those of other words. Measure a word before you teach it.
# - *Too many steps, too large a rate.* Five pictures are learned by heart: the prompt "boat, zorb style" then draws the
#   cat. Look at subjects that were not taught, during the training.
# - *A scale as a cure.* A LoRA that learned too much is not made right by 0.5; it is half as strong in what is right
#   and in what is wrong.
# - *Somebody's style.* That a style can be learned from five pictures does not say whose it is:
#   [docs/responsible.md](../docs/responsible.md).
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the numbers above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · How small it is.** Write `my_count(shapes, rank)`: how many numbers $A$ and $B$ have together, for
# layers of the shapes ((out, in), ...).

# %%
my_count = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_count(shapes, rank):
    return sum(rank * (out + into) for out, into in shapes)


# %%
check("18.1", my_count, solution_count)

# %% [markdown]
# **Exercise 2 · A layer with two changes.** Write `my_layer(x, W, changes)`: the outputs [N, out] of a layer for inputs
# `x` [N, in] (one per row), with `W` [out, in] and a list of changes, each `(A, B, alpha, s)`; the rank of each is the
# number of rows of its `A`.

# %%
my_layer = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_layer(x, W, changes):
    return x @ W.T + sum(s * alpha / len(A) * x @ A.T @ B.T for A, B, alpha, s in changes)


# %%
check("18.2", my_layer, solution_layer)

# %% [markdown]
# **Exercise 3 · The first gradient.** Write `my_gradients(x, g, A, B, factor)`: the pair $\partial L / \partial A$ and
# $\partial L / \partial B$ of the change `factor` $B A x$, from the inputs `x` [N, in] and the gradient `g` [N, out] of
# the loss with respect to the layer's outputs, without autograd. What does it return for $B = 0$?

# %%
my_gradients = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_gradients(x, g, A, B, factor):
    return factor * (g @ B).T @ x, factor * g.T @ (x @ A.T)


# %%
check("18.3", my_gradients, solution_gradients)

# %% [markdown]
# **Exercise 4 · The prior loss.** Write `my_loss(errors, is_prior, weight)`: DreamBooth's loss, a number, from the
# squared errors of pictures `errors` [N] and `is_prior` [N], which is true for the pictures that the base drew. The
# groups may have different sizes.

# %%
my_loss = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_loss(errors, is_prior, weight):
    return errors[~is_prior].mean() + weight * errors[is_prior].mean()


# %%
check("18.4", my_loss, solution_loss)

# %% [markdown]
# ## What to remember
#
# - LoRA trains two thin matrices beside each layer; the weights stay, and the file is small.
# - $B = 0$ begins at the base to the bit, and $A$ is random so that $B$ can learn at the first step.
# - A change of weights acts on every prompt, not only on those with the new word: measure what is forgotten.
# - The prior loss keeps the rest, and costs style where there are few pictures.
# - Added at any scale and removed to the bit; merged it costs no time. Two at once are a sum, and may exclude each
#   other.
#
# **Next:** [19 · Image prompts](19_image_prompts.ipynb): show the model a picture, for its style or for its subject.
#
# ## References
#
# - E. Hu et al. 2021, [LoRA: Low-Rank Adaptation of Large Language Models](https://arxiv.org/abs/2106.09685): the
#   change (Eq. 3), which layers (Section 4.2), which rank (Section 7).
# - N. Ruiz et al. 2022, [DreamBooth](https://arxiv.org/abs/2208.12242): a rare word (Section 3.2), the prior loss (Eq.
#   2).
# - S. Ryu 2022, [Low-rank Adaptation for Fast Text-to-Image Diffusion
#   Fine-tuning](https://github.com/cloneofsimo/lora): LoRA for Stable Diffusion.
# - R. Gal et al. 2022, [An Image is Worth One Word](https://arxiv.org/abs/2208.01618): textual inversion, which learns
#   a new word's vector and no weights.
