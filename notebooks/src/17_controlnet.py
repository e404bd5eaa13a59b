# %% [markdown]
# # 17 · ControlNet: draw the lines, the model draws the picture
#
# "A pear" says what, and not where, how large or in which pose. Words are a poor means of saying shapes, and notebook
# 11 showed how much had to be done before micro could read "left of". This notebook gives the model a *picture* of what
# is wanted: a few lines, the edges of a photograph, or two coloured areas. A second network reads the picture, and what
# it computes is added to the first network, which stays as it was.
#
# **When you have worked through it, you can**
#
# - write the sum of a U-Net and a ControlNet, and say why it begins as the U-Net alone, to the bit;
# - derive why a convolution whose weights are all zero learns nevertheless, and in which order the parts begin to
#   learn;
# - look at what a ControlNet adds, block by block and step by step;
# - choose its scale and its steps, add several, and measure how well the lines are followed;
# - say with a layout which thing is left and which is right, and compare this with words;
# - inpaint, zoom out, and give two regions two prompts, with the seam measured.
#
# *Beside you:* Zhang et al. 2023, [Adding Conditional Control to Text-to-Image Diffusion
# Models](https://arxiv.org/abs/2302.05543), Section 3. Read notebooks 07 and 11 first. About 40 minutes to read, under
# a minute to run.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import comparisons, measured, micro, noise, plots, stable_diffusion, widgets
from diffusion_explained.exercises import check
from diffusion_explained.film import film, pixels
from diffusion_explained.micro.control_pictures import as_picture, edge_f1, edges, round_areas, scribble
from diffusion_explained.micro.reconstruction import on_white
from diffusion_explained.stable_diffusion import load, load_control

plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## 1 · Three kinds of control pictures
#
# A control picture is black where it says nothing. Three kinds are read by micro's ControlNet, which tells them apart
# by what they look like: the **edges** of a picture (thin white lines, found by Canny's method), a **scribble** (thick
# lines, rough), and a **layout** (red where the first thing of the prompt is, blue where the second is).

# %%
base = load("micro")
model = load_control(base, "micro")
STEPS = 8
emoji = micro.emoji.load_emoji_sample()


def sprite(name, style="fluent"):
    """One emoji, uint8 [1, 4, 128, 128]."""
    chosen = (emoji.subject == emoji.names.index(name)) & (emoji.style == micro.emoji.STYLES.index(style))
    return emoji.images[chosen][:1]


of_rocket = (emoji.subject == emoji.names.index("rocket")).nonzero()[0]
PLACED = micro.drawing.Sprite(int(of_rocket), 0.2, -0.2, 0.7, -0.5)
# moved, made smaller and turned
rocket = micro.drawing.draw_scenes(
    micro.drawing.batch_scenes([micro.drawing.Scene("a rocket", (PLACED,))]), emoji.images
)
asked, pear = edges(rocket), sprite("pear")[:, 3] > 127
controls = torch.cat([
    as_picture(asked), as_picture(scribble(pear)),
    round_areas(((0.5, 0.0, 0.48), (-0.5, 0.0, 0.48))),
])  # fmt: skip
PROMPTS = ["a rocket", "a lemon", "a cat and a dog"]


def draw(prompts, **options):
    """Pictures [K, 3, 128, 128] of several prompts, all from the noise of seed 0."""
    return model.sample(prompts, num_inference_steps=STEPS, seed=[0] * len(prompts), **options)


plain, controlled = draw(PROMPTS), draw(PROMPTS, control=controls)
plots.filmstrip({"control": 2 * controls - 1, "without": plain, "with": controlled},
                captions=[f"“{prompt}”".replace(" ", "\n", 1) for prompt in PROMPTS],
                title="The same noise, without control and with it")  # fmt: skip
plt.show()
for name, pictures in (("without", plain), ("with", controlled)):
    agree = float(edge_f1(edges(pictures[:1]), asked))
    print(f"{name} control: F1 of the edges that were drawn and asked for {agree:.1f}")
assert edge_f1(edges(controlled[:1]), asked) > 0.6 > 0.4 > edge_f1(edges(plain[:1]), asked)

# %% [markdown]
# The rocket flies where the edges lie and in their direction, the lemon has the outline of a pear, and the cat, which
# the prompt names first, sits on the right, because the red disc is there. (F1 is 1 if all edges that were asked for
# are drawn, and no others, within one pixel.)
#
# ## 2 · A convolution of zeros
#
# The U-Net $F$ with its weights $\theta$ stays as it is. The ControlNet is a **copy** of its encoder with weights
# $\theta_c$, which begins as $\theta$ and learns. The control picture $c$ enters through a small stem, and each block's
# result leaves through a convolution $Z$ of one pixel and is added to the skip connection of the same block:
#
# $$
# y_c = F(x; \theta) + Z\big(F(x + Z(c; \theta_1); \theta_c); \theta_2\big) , \qquad Z = 0 \text{ at the start.}
# \tag{Zhang et al., Eq. 2}
# $$
#
# <small>In code: `micro.control.ControlNet`. Test:
# `tests/test_micro_control.py::test_a_new_network_adds_nothing_and_its_zero_convolutions_open_first`.</small>
#
# So the training begins from a model that draws well. But what can be learned through a factor of zero?
#
# <details><summary>Derivation: the gradient of a zero convolution</summary>
#
# 1. At one pixel, a convolution of one pixel is $y = w h + b$ with the block's result $h$, and it is added to the skip
#    connection. Let $g = \partial L / \partial y$ be the gradient that arrives there: that of the skip connection, from
#    the frozen U-Net's decoder. It has nothing to do with $w$.
# 2. $\partial L / \partial w = g\, h^\top$, summed over pixels and images. The block computes something, so $h \ne 0$,
#    and $\partial L / \partial w \ne 0$: **the weights of zero learn at the first step**.
# 3. $\partial L / \partial h = w^\top g = 0$ while $w = 0$. Everything behind the convolution, the copy and the stem,
#    gets no gradient at the first step.
# 4. After one step $w \ne 0$: the copy gets a gradient at the second step, and so does the convolution at the end of
#    the stem, by the argument of 2. It was zero itself, so the rest of the stem begins at the third.
# 5. A *product* of two zeros would never open: $y = w_2 w_1 h$ with both zero has both gradients zero. (LoRA's $B A$
#    has one zero and one random factor, for the same reason: notebook 18.)
#
# </details>
#
# Here is a new ControlNet, and three steps of its training:

# %%
x_0 = base.encode(on_white(torch.cat([sprite(name) for name in ("cat", "house", "pear", "rocket")])))
picture = as_picture(edges(on_white(torch.cat([sprite(name) for name in ("cat", "house", "pear", "rocket")]))))
embeds = base.encode_text(["cat", "house", "pear", "rocket"]).embeds
network = micro.control.ControlNet(base.network, whole_middle=False)
PARTS = {
    "Z of the skip connections": ("controlnet_down_blocks", "controlnet_mid_block"),
    "the copied encoder": ("down_blocks", "mid_block", "conv_in"),
    "Z at the end of the stem": ("controlnet_cond_embedding.conv_out",),
    "the rest of the stem": ("controlnet_cond_embedding.conv_in", "controlnet_cond_embedding.blocks"),
}


def with_control(x_t, t):
    """The frozen U-Net's output with what the new ControlNet adds."""
    skips, middle = network(x_t, t, embeds, picture)
    residuals = {"down_block_additional_residuals": tuple(skips), "mid_block_additional_residual": middle}
    return base.network(x_t, t, encoder_hidden_states=embeds, **residuals).sample


level, eps = base.schedule.level(0.7), noise.randn(x_0.shape, noise.stream(0))
x_t, t = level.alpha * x_0 + level.sigma * eps, base.schedule.network_time(torch.full((4,), level.t))
with torch.no_grad():
    alone = base.network(x_t, t, encoder_hidden_states=embeds).sample
    print("before training, with control and without are equal, to the bit:", torch.equal(with_control(x_t, t), alone))
    assert torch.equal(with_control(x_t, t), alone)
optimizer, learns = torch.optim.AdamW(network.parameters(), lr=5e-4), {part: [] for part in PARTS}
for _ in range(3):
    optimizer.zero_grad()
    (with_control(x_t, t) - (eps - x_0)).square().mean().backward()
    for part, names in PARTS.items():
        learns[part].append(any(bool(p.grad.any()) for name, p in network.named_parameters() if name.startswith(names)))
    optimizer.step()
for part, found in learns.items():
    print(f"{part:<26} gradient at step 1, 2, 3: {', '.join('yes' if one else 'none' for one in found)}")
assert list(learns.values()) == [[True] * 3, [False, True, True], [False, True, True], [False, False, True]]

# %% [markdown]
# It is as derived: the parts begin to learn one after another, in three steps. Over the whole training of the
# ControlNet that ships (11.4 million images in 704 s of one H200, `recipes/micro_control.py`), its card keeps how far
# each convolution has opened:

# %%
openings = micro.control_card.read_control_card(stable_diffusion.control_loading.CONTROL_FOLDER)["openings"][1:]
names = {"stem": "stem", "skip 0": "first skip", "skip 3": "last skip", "middle": "middle block"}
plots.curves({label: ([row["step"] for row in openings], [row[name] for row in openings])
              for name, label in names.items()}, title="Zero convolutions open",
             xlabel="training step", ylabel="norm of the weight", log="x")  # fmt: skip
plt.show()
print(", ".join(f"{label} {openings[0][name]:.2f} after 50 steps, {openings[-1][name]:.1f} at the end"
                for name, label in names.items()))  # fmt: skip
assert all(0 < openings[0][name] < openings[-1][name] for name in names)

# %% [markdown]
# (The kink is where the second of two trainings begins, with a learning rate that is large again.)
#
# ## 3 · What is added, and where
#
# `record_residuals` observes a run. For each place of the U-Net it keeps how large the addition is, relative to what
# was there:

# %%
with stable_diffusion.control_residuals.record_residuals(model) as residuals:
    for step in model.steps(PROMPTS[1], num_inference_steps=STEPS, seed=0, control=controls[1:2]):
        residuals.after(step)
shares = residuals.shares()  # [steps, places]
places = list(residuals.maps())
plots.heat_panels({"added, relative to what was there": 100 * shares.T}, places, [f"{k + 1}" for k in range(STEPS)],
                  digits=0, title="What the ControlNet adds, in % (columns: steps)")  # fmt: skip
plt.show()
means = zip(places, shares.mean(0).tolist(), strict=True)
print("mean over the steps: " + ", ".join(f"{place} {share:.0%}" for place, share in means))
assert shares.shape == (STEPS, len(places)) and bool((shares > 0).all())

# %% [markdown]
# The page **Control** shows the same as a film over the picture.
#
# ## 4 · Scale and steps
#
# The addition may be weighted, $F + w\, Z(\dots)$, and left out at some steps. At $w = 0$ the ControlNet is not even
# called. Move the slider:

# %%
scales = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
strip = torch.cat([draw(PROMPTS[:1], control=controls[:1], control_scale=w) for w in scales])
f1 = [float(edge_f1(edges(one[None]), asked)) for one in strip]
print("F1 by scale: " + ", ".join(f"{w:g}: {value:.1f}" for w, value in zip(scales, f1, strict=True)))
print("at scale 0 the picture is the base's, to the bit:", torch.equal(strip[:1], draw(PROMPTS[:1])))
assert torch.equal(strip[:1], draw(PROMPTS[:1])) and f1[4] > f1[1]
alt = "a rocket, drawn at six scales of control along the edges of a smaller and turned one"
widgets.scrub(film([("“a rocket” along edges", alt, list(pixels(strip)))], [f"scale {w:g}" for w in scales]), frame=4)

# %% [markdown]
# One picture proves nothing; `benchmarks/micro_control.py` drew 512 per scale, of things whose place, size and tilt
# their captions do not say. With another prompt's edges as the yardstick F1 is 0.14, by chance:

# %%
rows = [row for row in measured.rows_of("micro_control", "edges") if row["setting"]["scenes"] == "moved"]
rows.sort(key=lambda row: row["setting"]["scale"])
(full,) = [row for row in rows if row["setting"]["scale"] == 1.0]
w, values = [row["setting"]["scale"] for row in rows], [row["f1"]["mean"] for row in rows]
plots.curves({"F1": ([0.0, *w], [full["without_control"]["mean"], *values])}, title="How well edges are followed",
             xlabel="scale of the control", ylabel="F1",
             reference=("the autoencoder alone", full["autoencoder"]["mean"]))  # fmt: skip
plt.show()
for name, key in (("with control", "f1"), ("without", "without_control"), ("by chance", "another_prompt"),
                  ("the autoencoder alone", "autoencoder")):  # fmt: skip
    print(f"{name:<22} {full[key]['mean']:.3f} ± {full[key]['error']:.3f}")
assert max(values) == full["f1"]["mean"] > 0.8 and full["another_prompt"]["mean"] < 0.2

# %% [markdown]
# Scale 1 is best here, as in training; at 1.5 the lines are followed a little less well. The ceiling is what the
# autoencoder alone leaves of the edges.
#
# **Which steps matter?** Notebook 11 found that the first steps decide where things are. Is control in the first half
# of the steps enough?

# %%
halves = {"first half": (0.0, 0.5), "second half": (0.5, 1.0)}
by_half = {name: draw(PROMPTS[:1], control=controls[:1], control_interval=span) for name, span in halves.items()}
every = {"no step": plain[:1], **by_half, "all steps": controlled[:1]}
plots.filmstrip({"": torch.cat(list(every.values()))}, captions=list(every), title="Control in a part of the steps")
plt.show()
found = {name: float(edge_f1(edges(picture), asked)) for name, picture in every.items()}
print("F1: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
assert found["all steps"] > 0.6 > 0.4 > found["no step"]

# %% [markdown]
# **No half is enough here.** After control in the first half the rocket is another one, drawn as large as the model
# remembers rockets; in the second half the shape is decided already, and only inner lines follow. This is one picture
# in eight steps, of a thing that the model knows in another place; try other things on the page **Control**.
#
# ## 5 · Words or a layout
#
# "Right of" is among the known weaknesses of text to image. Three ways of saying which thing is where, measured on 256
# pairs. *Right sides*: each half of the picture is named right; *order*: both halves together fit better so than the
# other way round.

# %%
for row in measured.rows_of("micro_control", "layout"):
    said = row["setting"]["how"] + (f" (“{row['setting']['caption']}”)" if "caption" in row["setting"] else "")
    right, order = row["right_sides"], row["order"]
    print(f"right sides {right['share']:5.1%} ± {right['error']:.1%}, "
          f"order {order['share']:5.1%} ± {order['error']:.1%}: {said}")  # fmt: skip
layout = {row["setting"]["how"]: row for row in measured.rows_of("micro_control", "layout")}
of_layout, of_words = layout["layout, the caption leaves it open"], layout["no control, the caption says it"]
assert (
    of_layout["right_sides"]["share"] > 0.9 > 0.6 > layout["no control, the caption leaves it open"]["order"]["share"]
)
assert abs(of_layout["order"]["share"] - of_words["order"]["share"]) < 0.02

# %% [markdown]
# A layout puts the things on the sides that were asked for, although its caption leaves them open. But **words do it as
# well**, since micro's text encoder was taught to bind a thing to its side (notebook 11, section 8): the difference of
# 93.4 ± 1.6 and 90.6 ± 1.8% is no more than its error. Real emoji reach 93.0 ± 1.6%; the rest are mistakes of the
# network that names them. What a layout adds is what words cannot say: how far, how large, and which of two *places*
# that no word names.
#
# A scribble is followed less closely than edges: the drawn thing and the true shape overlap (intersection over union)
# in

# %%
for row in measured.rows_of("micro_control", "scribble"):
    print(f"{row['setting']['control']:<9} {row['iou']['mean']:.3f} ± {row['iou']['error']:.3f}")
iou = {row["setting"]["control"]: row["iou"]["mean"] for row in measured.rows_of("micro_control", "scribble")}
assert iou["edges"] > iou["scribble"] > iou["layout"] > iou["none"]

# %% [markdown]
# Several ControlNets are a sum, each with a picture and a scale of its own:
#
# $$
# \text{skip}_i \leftarrow \text{skip}_i + \sum_k w_k\, Z_{ki}\big(h_{ki}(x_t, t, \text{text}, c_k)\big) .
# \tag{Zhang et al., Sec. 3.4}
# $$
#
# <small>In code: `stable_diffusion.control.sum_of_residuals`. Test:
# `tests/test_control.py::test_two_controls_equal_diffusers_pipeline_with_and_without_guidance_and_intervals`.</small>
#
# The same network may be loaded twice: here with a layout and with an outline of one of its two things.

# %%
two = load_control(base, "micro", "micro")
left = torch.zeros(1, 128, 128, dtype=torch.bool)
small = torch.nn.functional.interpolate(pear[:, None].float(), (64, 64))[:, 0] > 0.5
left[:, 32:96, :64] = scribble(small)
areas = round_areas(((-0.5, 0.0, 0.48), (0.5, 0.0, 0.48)))
FRUIT = ["a lemon and a red apple"]
options = {"num_inference_steps": STEPS, "seed": [0]}
summed = [two.sample(FRUIT, control=[areas, as_picture(left)], control_scale=list(w), **options)
          for w in ((1.0, 0.0), (0.0, 1.0), (0.6, 0.6))]  # fmt: skip
plots.filmstrip({"": torch.cat([2 * areas - 1, 2 * as_picture(left) - 1, *summed])},
                captions=["layout", "outline", "layout\nalone", "outline\nalone", "0.6 of\nboth"],
                title="Two controls at once")  # fmt: skip
plt.show()
torch.testing.assert_close(summed[0], model.sample(FRUIT, control=areas, **options), atol=1e-3, rtol=0)
print(f"from the layout alone to both: {comparisons.rms_distance(summed[0], summed[2]):.1f}")
assert comparisons.rms_distance(summed[0], summed[2]) > 0.02

# %% [markdown]
# ## 6 · Control by what is known: inpainting, zooming out, regions
#
# No further network is needed where the control is a part of the picture itself. Notebook 14 derived *replacement* and
# *RePaint* for digits; in latents the calls are `sample(image=, mask=)`, with `resamplings=` for RePaint. Zooming out
# (**outpainting**) is inpainting around a smaller copy, and one call:

# %%
house = base.sample("a house with a garden", num_inference_steps=STEPS, seed=0)
out = {
    name: stable_diffusion.outpainting.outpaint(
        base, "a house with a garden", house, zoom=2.0, seed=0, num_inference_steps=STEPS, resamplings=resamplings
    )
    for name, resamplings in (("replacement", None), ("RePaint, 3 times", 3))
}
start = base.prepare([0], levels=base.levels(STEPS))
side = torch.zeros(128, 128)
side[:, :64] = 1
denoise = stable_diffusion.regions.regional(
    base, ["a cat on the left", "a dog on the right"], [side, 1 - side], start=start
)
regions = base.sample(denoise, num_inference_steps=STEPS, seed=[0])
plots.filmstrip({"": torch.cat([house, *out.values(), regions])},
                captions=["picture", "zoomed out", "by RePaint", "two regions"],
                title="Zooming out, and two prompts in two regions")  # fmt: skip
plt.show()
for row in measured.rows_of("micro_painting", "outpaint"):
    seam, named = row["more_than_the_picture"], row["named"]
    print(f"{row['setting']['how']:<34} seam {seam['mean']:6.3f} ± {seam['error']:.3f}, "
          f"named right {named['share']:.0%} ± {named['error']:.0%}")  # fmt: skip
for row in measured.rows_of("micro_painting", "regions"):
    print(
        f"{row['setting']['how']:<34} right sides {row['right_sides']['share']:.0%} ± {row['right_sides']['error']:.0%}"
    )
seams = {row["setting"]["how"]: row for row in measured.rows_of("micro_painting", "outpaint")}
assert seams["RePaint, 10 resamplings"]["named"]["share"] < seams["replacement, the default sampler"]["named"]["share"]
assert comparisons.rms_distance(*out.values()) > 0.01

# %% [markdown]
# The seam is how much neighbouring pixels across the mask's edge differ, more than in the picture. RePaint's is
# smaller, by about as much as the errors allow to say, and with more repetitions the thing is named right *less* often:
# what is painted fits the edge, and not the prompt. Two prompts in two regions put two things on the right sides in 86
# ± 3%, each prompt naming one thing and its side; one prompt with "left of" does it in 91 ± 2%.
#
# ## What can go wrong
#
# - *A control picture of another kind.* White on black is read as lines; a photograph is read as noise of lines.
# - *A ControlNet of another base.* Its residuals fit the shapes, and mean nothing there. A folder does not say it.
# - *Against what the model remembers.* "A fox" in the outline of a cat is followed in part only: on pictures and
#   colours that no training saw F1 is 0.68, on those of the training's kinds 0.83.
# - *The ceiling forgotten.* F1 of 0.84 is little below what the autoencoder leaves, 0.92, and far above 0.14, chance.
# - *Scale as strength of will.* Beyond 1 the addition is larger than any that was trained.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · The gradient of zeros.** A convolution of one pixel has the weights `w` [out, in], all zero. Write
# `my_gradient(h, g)`: $\partial L / \partial w$ from its input `h` [B, in, H, W] and the gradient `g` [B, out, H, W] of
# the loss with respect to its output, without autograd.

# %%
my_gradient = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_gradient(h, g):
    return torch.einsum("bohw,bihw->oi", g, h)


# %%
check("17.1", my_gradient, solution_gradient)

# %% [markdown]
# **Exercise 2 · The steps of an interval.** A control acts at step $i$ of $n$, counted from 0, if the whole step lies
# in the interval: $\text{start} \le i / n$ and $(i + 1) / n \le \text{end}$. Write `my_steps(start, end, n)`: the list
# of these steps.

# %%
my_steps = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_steps(start, end, n):
    return [i for i in range(n) if start <= i / n and (i + 1) / n <= end]


# %%
check("17.2", my_steps, solution_steps)

# %% [markdown]
# **Exercise 3 · A sum of controls.** Write `my_skips(skips, residuals, scales, active)`: the U-Net's skip connections,
# a list of tensors, after K ControlNets have added to them. `residuals[k][i]` belongs to network k and skip connection
# i, `scales[k]` is its scale, and `active[k]` says whether it acts at this step.

# %%
my_skips = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_skips(skips, residuals, scales, active):
    acting = [k for k in range(len(residuals)) if active[k]]
    return [skip + sum(scales[k] * residuals[k][i] for k in acting) for i, skip in enumerate(skips)]


# %%
check("17.3", my_skips, solution_skips)

# %% [markdown]
# **Exercise 4 · F1 of edges.** Write `my_f1(drawn, asked)`: the F1, a number, of two pictures of edges, bool [H, W],
# within one pixel along rows, columns and diagonals. A pixel that was drawn counts if one that was asked for is within
# one pixel (the share of these is the *precision*), and the other way round (*recall*); F1 is 2 precision recall /
# (precision + recall). In these pictures it is never 0 / 0.

# %%
my_f1 = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_f1(drawn, asked):
    def near(mask):
        return torch.nn.functional.max_pool2d(mask[None, None].float(), 3, 1, 1)[0, 0] > 0

    precision = (drawn & near(asked)).sum() / drawn.sum()
    recall = (asked & near(drawn)).sum() / asked.sum()
    return 2 * precision * recall / (precision + recall)


# %%
check("17.4", my_f1, solution_f1)

# %% [markdown]
# ## What to remember
#
# - A ControlNet is a copy of the encoder, a stem, and convolutions of zeros; the base stays as it is.
# - Zeros learn: their gradient is the product of what arrives from both sides. Two zeros in a row would not.
# - Control in half of the steps was not enough: what the model remembers pulls it back.
# - Report how well the lines are followed beside chance and beside the ceiling.
# - Words can say left and right when the text encoder binds them; a layout says places that no word names.
#
# **Next:** [18 · LoRA](18_lora.ipynb): teach the model your style.
#
# ## References
#
# - L. Zhang, A. Rao, M. Agrawala 2023, [Adding Conditional Control to Text-to-Image Diffusion
#   Models](https://arxiv.org/abs/2302.05543): zero convolutions (Section 3.1), several controls (Section 3.4).
# - J. Canny 1986, A computational approach to edge detection, IEEE Transactions on Pattern Analysis and Machine
#   Intelligence 8(6).
# - A. Lugmayr et al. 2022, [RePaint](https://arxiv.org/abs/2201.09865): inpainting by resampling.
# - O. Bar-Tal et al. 2023, [MultiDiffusion](https://arxiv.org/abs/2302.08113): one prompt per region.
# - H. Ye et al. 2023, [IP-Adapter](https://arxiv.org/abs/2308.06721): a picture as a prompt (notebook 19).
