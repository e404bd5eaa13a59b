# %% [markdown]
# # 16 · Prompting and weaknesses
#
# Put the subject first, use a negative prompt, draw eight seeds and refine one; hands come out wrong, and so do
# letters. Such rules are repeated everywhere and rarely measured. Here each is reproduced on a model that is small
# enough to draw hundreds of pictures, measured, and, where a remedy is known, mended.
#
# **When you have worked through it, you can**
#
# - say which rules for prompts hold for a model, and measure it instead of repeating it;
# - choose among seeds, and choose the strength of a refinement by two numbers that pull against each other;
# - reproduce the known weaknesses (hands, letters, one character in several pictures, left and right) where the right
#   answer can be counted;
# - name the remedy for each, and how much of the error it removes;
# - explain why guidance makes a skewed data set more skewed, and show it.
#
# *Beside you:* `micro`, `data.hands_and_words`, `benchmarks/prompting.py`; notebook 11 measured word order, negative
# prompts and left and right, and this notebook continues from there. About 40 minutes to read, half a minute to run.

# %%
import matplotlib.pyplot as plt
import torch

from diffusion_explained import plots
from diffusion_explained.data import to_float
from diffusion_explained.data.hands_and_words import count_fingers, draw_hands, draw_words, read_words
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.exercises import check
from diffusion_explained.measured import picture_from_text, rows_of
from diffusion_explained.micro.fidelity import halves
from diffusion_explained.micro.retrieval import embed_captions, embed_pictures, load_retrieval, rank
from diffusion_explained.noise import generators, randn
from diffusion_explained.samplers import SAMPLERS, final
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import load
from diffusion_explained.stable_diffusion.masks import rectangle_mask
from diffusion_explained.stable_diffusion.regions import regional

plt.rcParams["figure.dpi"] = 80
model, judge = load("micro"), load_retrieval()
OPTIONS = {"sampler": "dpm_solver_pp_2m", "spacing": "trailing", "num_inference_steps": 10, "guidance_scale": 4.0}


def draw(prompt, seeds=range(3), **options):
    """Finished pictures [seeds, 3, 128, 128] of one prompt."""
    return model.sample(prompt, seed=list(seeds), **{**OPTIONS, **options}).cpu()


def measured(part, **setting):
    """The one row of a part of `benchmarks/prompting.py` with this setting."""
    (row,) = [row for row in rows_of("prompting", part) if setting.items() <= row["setting"].items()]
    return row


def percent(found):
    return f"{100 * found['share']:.0f} ± {100 * found['error']:.0f}%"


# %% [markdown]
# ## 1 · Word order, styles, negative prompts
#
# *"Subject first, style after: early words weigh more."* Notebook 11 found no difference for micro. A look at the
# pictures, and the numbers again (256 prompts each):

# %%
ORDERS = ["rocket, noto style", "noto style, rocket"]
ordered = {f"“{prompt}”": draw(prompt, range(2)) for prompt in ORDERS}
plots.filmstrip(ordered, captions=["seed 0", "seed 1"], title="A style after the subject, and before it")
plt.show()
(style,) = [row for row in rows_of("micro", "order")
            if row["model"] == "micro" and row["setting"]["of"] == "subject and style"]  # fmt: skip
for place in ("after", "before"):
    print(f"style named {place} the subject: style right {percent(style['style_' + place]['style'])}")
after, before = (style[f"style_{place}"]["style"] for place in ("after", "before"))
assert abs(after["share"] - before["share"]) < 2 * after["error"] and after["share"] > 0.9

# %% [markdown]
# So **a style as a suffix works, and works as a prefix too**. Such rules are properties of a text encoder and of the
# captions it was trained with, not of diffusion: test them on the model that you use.
#
# *"Negative prompts filter artefacts."* Pictures with artefacts are easy to make: a guidance scale of 10 in ten large
# steps breaks them. Do the usual negative words help? The measure is the distance of a picture to the nearest training
# picture of its thing, in the features of a network that compares pictures (an intact picture is near one):

# %%
artefacts = {row["setting"]["negative"]: row for row in rows_of("prompting", "artefacts")
             if row["setting"]["how"] == "broken"}  # fmt: skip
broken = {f"negative “{word}”": draw("rocket", guidance_scale=10.0, negative=word) for word in ("", "blurry")}
broken["Euler, 50 steps"] = draw("rocket", guidance_scale=10.0, sampler="euler", num_inference_steps=50)
plots.filmstrip(broken, captions=[f"seed {s}" for s in range(3)], title="“rocket” at guidance 10")
plt.show()
usual, smaller = (
    measured("artefacts", how="usual", negative=""),
    measured("artefacts", how="broken, in 50 steps of Euler"),
)
for name, row in {"guidance 4, 30 steps": usual, **{f"10, negative “{word}”": row for word, row in artefacts.items()},
                  "10, 50 steps of Euler": smaller}.items():  # fmt: skip
    near = row["to_training"]
    print(f"{name:<52} {near['mean']:.2f} ± {near['error']:.2f} from training, named right {percent(row['named'])}")

# %% [markdown]
# ARTEFACTS
#
# ## 2 · Draw eight, choose one, refine
#
# *"Four to eight seeds, pick one, refine it by image to image at 0.3 to 0.5."* The choice first. A person chooses by
# eye; here a retrieval network chooses the picture whose vector is nearest to that of the prompt:

# %%
eight = draw("castle", range(8))
words = embed_captions(judge, ["castle"])
scores = (embed_pictures(judge, eight) @ words[0]).tolist()
best = max(range(8), key=lambda k: scores[k])
plots.image_grid(eight, captions=[f"seed {k}: {score:.3f}" for k, score in enumerate(scores)], columns=8,
                 title="“castle”: the cosine of picture and prompt")  # fmt: skip
plt.show()
choose = measured("refine", what="choose")
print(f"cosine, mean over prompts: the first seed {choose['score_first']['mean']:.3f}, the best of eight "
      f"{choose['score_best']['mean']:.3f}; named right {percent(choose['named_first'])} and "
      f"{percent(choose['named_best'])}")  # fmt: skip
assert scores[best] == max(scores) and choose["score_best"]["mean"] > choose["score_first"]["mean"]

# %% [markdown]
# Then the refinement: the chosen picture is noised to a strength and denoised with a prompt that adds a colour. Two
# numbers pull against each other: the distance from the chosen picture should stay small, and the colour should come.

# %%
STRENGTHS = (0.3, 0.5, 0.7)
chosen = eight[best : best + 1]
refined = [draw("a blue castle", [best], image=chosen, strength=s, num_inference_steps=20) for s in STRENGTHS]
plots.filmstrip({"": torch.cat([chosen, *refined])}, captions=["chosen", *(f"strength {s}" for s in STRENGTHS)],
                title="Refined by “a blue castle”")  # fmt: skip
plt.show()
by_strength = {
    row["setting"]["strength"]: row for row in rows_of("prompting", "refine") if "strength" in row["setting"]
}
for strength, row in sorted(by_strength.items()):
    print(f"strength {strength:.1f}: distance {row['distance']['mean']:.2f} ± {row['distance']['error']:.2f}, "
          f"colour right {percent(row['colour'])}, thing recognised {percent(row['named'])}")  # fmt: skip
at = sorted(by_strength)
plots.curves({"distance": (at, [by_strength[s]["distance"]["mean"] for s in at]),
              "colour right": (at, [by_strength[s]["colour"]["share"] for s in at]),
              "thing recognised": (at, [by_strength[s]["named"]["share"] for s in at])},
             title="Refined: how far, and how often right", xlabel="strength", ylabel="distance, share")  # fmt: skip
plt.show()
assert by_strength[1.0]["distance"]["mean"] > by_strength[0.3]["distance"]["mean"]

# %% [markdown]
# REFINE
#
# ## 3 · Hands: a number that no part of the picture knows
#
# To measure whether a hand is right, its fingers must be counted. So here hands are drawn by a procedure, and another
# procedure counts: an opening by a disc that is wider than a finger leaves palm and wrist, and the connected pieces
# of the hand outside of them are the fingers.

# %%
fingers = torch.tensor([5, 5, 5, 3, 4, 5, 6, 7])
hands = to_float(draw_hands(fingers, seed=1))
plots.image_grid(hands, captions=[f"{n} fingers" for n in count_fingers(hands)], columns=8, title="Drawn, and counted")
plt.show()
assert torch.equal(count_fingers(hands), fingers)
many = torch.full((300,), 5)
right = (count_fingers(to_float(draw_hands(many, seed=2))) == many).double().mean()
print(f"of 300 drawn hands {right:.1%} are counted right")
assert right > 0.99

# %% [markdown]
# The U-Net of the digits (0.6 million weights) was trained on such hands, with **five** fingers each, three times with
# different seeds. The pictures are the first ten samples of one network; they are counted live:

# %%
HANDS = {row["setting"]["how"]: row for row in rows_of("prompting", "hands")}


def samples_of(row, width=32):
    """The samples [N, 1, H, W] that a row of the study keeps."""
    return to_float(torch.stack(picture_from_text(row["strip"]).split(width, dim=1)))[:, None]


def hands_of(*ways):
    """The kept samples of some rows as a figure, counted."""
    kept = {way: samples_of(HANDS[way])[:8] for way in ways}
    for way, images in kept.items():
        print(
            f"{way}: {', '.join(str(n) for n in count_fingers(images).tolist())}; five in {percent(HANDS[way]['five'])}"
        )
    return kept


early, late = [way for way in HANDS if way.startswith("five fingers, ")][::3]
kept = hands_of(early, late)
plots.filmstrip(kept, captions=[str(n) for n in count_fingers(kept[late]).tolist()],
                title="Trained on hands with five fingers; the captions count the last row")  # fmt: skip
plt.show()
trained = [row for way, row in HANDS.items() if way.startswith("five fingers, ")]
for row in trained:
    counts = ", ".join(f"{n}: {c}" for n, c in enumerate(row["counts"]) if c)
    print(f"{row['setting']['how']:<30} five in {percent(row['five'])}   counts: {counts}")
assert trained[-1]["five"]["share"] > trained[0]["five"]["share"]

# %% [markdown]
# HANDS1
#
# ### When the captions do not count
#
# Photographs of hands show two fingers or four, because the others are bent or hidden, and captions say "a hand". So
# another network was trained on hands with three to seven fingers, with their number as the label, which is left out
# in a tenth of the cases:

# %%
VARIED = [way for way in HANDS if way.startswith("three to seven")]
kept = hands_of(*VARIED[:3])
plots.filmstrip({way.replace(", ", "\n"): images for way, images in kept.items()},
                captions=[f"sample {k}" for k in range(8)], title="Trained on hands with three to seven fingers")  # fmt: skip
plt.show()
for way in VARIED:
    print(f"{way:<44} five in {percent(HANDS[way]['five'])}")
unsaid, said = (HANDS[way]["five"]["share"] for way in VARIED[:2])
assert said > unsaid + 0.2

# %% [markdown]
# HANDS2
#
# ### The remedy: give the structure
#
# ControlNet gives the network a drawing of the pose at every step. Two cheaper ways to give it: start image to image
# from a drawing of the bones; or train one network on pairs of hand and bones as two channels, and keep the known
# channel at its value at every step, as inpainting does (`stable_diffusion.inpainting.KnownRegion`).

# %%
bones = to_float(draw_hands(torch.full((8,), 5), seed=1000, bones=True))
given = "bones given at every step"
kept = {"bones": bones, **hands_of("five fingers and bones", given)}
plots.filmstrip(kept, captions=[f"sample {k}" for k in range(8)], title="Five bones, and hands with them")  # fmt: skip
plt.show()
for way in HANDS:
    if "bones" in way:
        print(f"{way:<34} five in {percent(HANDS[way]['five'])}")
assert HANDS[given]["five"]["share"] > trained[-1]["five"]["share"]

# %% [markdown]
# HANDS3
#
# ## 4 · Text in pictures
#
# Words of three letters, drawn by a procedure and read back by another one: each letter is that of the most similar
# drawing.

# %%
some = ["CAT", "SUN", "MAP", "KEY", "OWL", "JET"]
pictures = to_float(draw_words(some, seed=0))
plots.image_grid(pictures, captions=read_words(pictures), columns=6, title="Drawn, and read back")
plt.show()
assert read_words(pictures) == some

# %% [markdown]
# The same U-Net was trained on 40 words. Its condition is *one label per word*, as a token of a text encoder is: the
# network sees that it is word 7, not that it begins with a C. So it can write the words of its training, and a new word
# has no label at all. The remedy that exists here is **one prompt per region**: each third of the picture follows the
# label of some training word that has the right letter there.
#
# $$ D(x_t) = \frac{\sum_k M_k\, D_k(x_t)}{\sum_k M_k} \tag{MultiDiffusion, Eq. 5} $$
#
# <small>In code: `stable_diffusion.regions.RegionalDenoiser`. Test:
# `tests/test_painting.py::test_with_exact_denoisers_regions_that_do_not_depend_on_each_other_are_exact`.</small>

# %%
WORDS = {row["setting"]["how"]: row for row in rows_of("prompting", "words")}
SHOW = ["no word said", "a word of training, guidance 2", "a new word, by the most similar label",
        "a new word, by regions, guidance 2"]  # fmt: skip
kept = {way: samples_of(WORDS[way])[:6] for way in SHOW}
plots.filmstrip({way.replace(", ", "\n"): images for way, images in kept.items()},
                captions=read_words(kept[SHOW[-1]]), title="The captions read the last row")  # fmt: skip
plt.show()
for way, row in WORDS.items():
    letters = f", letters {percent(row['letters'])}" if "letters" in row else ""
    print(f"{way:<40} words right {percent(row['word'])}{letters}")
print("new words asked for in the last row:", ", ".join("HOT CAP RUN SAT PAN BUG".split()))
assert WORDS[SHOW[3]]["word"]["share"] > 0.3 > WORDS[SHOW[2]]["word"]["share"] == 0

# %% [markdown]
# WORDS
#
# ## 5 · The same character in several pictures
#
# A prompt says "a cat", not *this* cat. In training there are three pictures of each thing, by three artists; so whose
# cat is it, from picture to picture? Beside the next thing, with another seed; and with the artist's style in the prompt
# from one seed:

# %%
BESIDE = ["a house", "a rocket", "a tulip"]
loose = torch.cat([draw(f"a cat left of {thing}", [k]) for k, thing in enumerate(BESIDE)])
tied = torch.cat([draw(f"a cat left of {thing}, noto style", [0]) for thing in BESIDE])
plots.filmstrip({"three seeds": loose, "one style, one seed": tied}, captions=BESIDE, title="“a cat left of ...”")
plt.show()
CHARACTER = {row["setting"]["how"]: row for row in rows_of("prompting", "character")}
for way, row in CHARACTER.items():
    print(f"{way:<28} apart {row['apart']['mean']:.2f} ± {row['apart']['error']:.2f}, by the same artist "
          f"{100 * row['same_artist']['mean']:.0f} ± {100 * row['same_artist']['error']:.0f}% of the pairs")  # fmt: skip
first_way = CHARACTER["another seed for each"]
print(f"pictures of one thing by two artists are {first_way['artists_apart']['mean']:.2f} apart")
assert CHARACTER["a style in the prompt"]["same_artist"]["mean"] > first_way["same_artist"]["mean"] + 0.1

# %% [markdown]
# CHARACTER
#
# ## 6 · Left and right
#
# Notebook 11 showed why relations failed, and that a second training repaired them. Before that training there were
# two remedies, which need no training of the text encoder: a prompt per region, and ControlNet with a layout.

# %%
left = rectangle_mask(128, 128, (0, 0.5), (0, 1))
THINGS = ("a dog", "a rocket")
one = draw(f"{THINGS[0]} and {THINGS[1]}")
start = model.prepare([0, 1, 2], levels=model.levels(10, OPTIONS["sampler"], OPTIONS["spacing"]))
denoise = regional(model, [f"{THINGS[0]} on the left", f"{THINGS[1]} on the right"], [left, 1 - left], 4.0, start=start)
two = model.decode(final(SAMPLERS[OPTIONS["sampler"]](denoise, start.x_t, start.levels))).cpu()
plots.filmstrip({"one prompt,\nsides open": one, "two prompts,\ntwo regions": two},
                captions=[f"seed {s}" for s in range(3)], title="“a dog” and “a rocket”")  # fmt: skip
plt.show()
found = [[best[0][0] for best in rank(judge, half, ["dog", "rocket"])] for half in halves(two)]
print(f"two regions: on the left {', '.join(found[0])}; on the right {', '.join(found[1])}")
assert found == [["dog"] * 3, ["rocket"] * 3]
for row in rows_of("micro_painting", "regions"):
    print(f"{row['setting']['how']:<28} right sides {percent(row['right_sides'])}")
for row in rows_of("micro_control", "layout")[:1]:
    print(f"{row['setting']['how']:<28} right sides {percent(row['right_sides'])}")
regions = {row["setting"]["how"]: row["right_sides"]["share"] for row in rows_of("micro_painting", "regions")}
assert regions["two prompts, two regions"] > regions["one prompt, sides open"] + 0.3

# %% [markdown]
# SIDES
#
# ## 7 · Guidance amplifies what is skewed
#
# A data set shows 90% of the pictures of one class with one attribute. What share do samples have? Without guidance,
# that of the data. Guidance at scale $w$ is said to sample
#
# $$ p_w(x) \propto p(x \mid c)^w\, p(x)^{1 - w} . $$
#
# <small>In code: `exact.tilted`. Test:
# `tests/test_point_films.py::test_the_tilted_distribution_is_sharper_than_the_class_and_is_the_class_at_1`.</small>
#
# For two kinds with the shares 90% and 10% in class A, and 50% and 50% in class B, the share of the first kind among
# all pictures is 70%. Here are both classes in the plane, with the exact denoiser, so no error is a network's:

# %%
means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]] * 2)
mixture = GaussianMixture(means, 0.3, weights=torch.tensor([0.9, 0.1, 0.5, 0.5]), classes=[0, 0, 1, 1])
levels, x_T = FlowSchedule().levels(60), randn((2000, 2), generators(2000))
SCALES = (1.0, 2.0, 4.0)


def share_of_first(label, scale):
    """The share of the kind on the left, in guided samples of one class."""
    denoise = ExactDenoiser(mixture, labels=torch.full((2000,), label), guidance_scale=scale)
    return float((final(SAMPLERS["euler"](denoise, x_T, levels))[:, 0] < 0).double().mean())


def tilted_share(p, q, w):
    """p^w q^(1-w), divided by its sum over both kinds."""
    return p**w * q ** (1 - w) / (p**w * q ** (1 - w) + (1 - p) ** w * (1 - q) ** (1 - w))


exact = {name: [share_of_first(label, w) for w in SCALES] for label, name in enumerate("AB")}
tilted = {name: [tilted_share(p, 0.7, w) for w in SCALES] for name, p in (("A", 0.9), ("B", 0.5))}
for name in "AB":
    print(f"class {name}, guidance 1, 2, 4: samples " + ", ".join(f"{100 * s:.0f}%" for s in exact[name])
          + "; tilted " + ", ".join(f"{100 * s:.0f}%" for s in tilted[name]))  # fmt: skip
plots.curves({f"class {name}, {what}": (SCALES, [100 * s for s in shares[name]])
              for what, shares in (("samples", exact), ("tilted density", tilted)) for name in "AB"},
             title="The share of the first kind, by guidance", xlabel="guidance scale w", ylabel="%")  # fmt: skip
plt.show()
assert abs(exact["A"][0] - 0.9) < 0.02 and abs(exact["B"][0] - 0.5) < 0.03
assert exact["A"][2] > 0.95 and exact["B"][2] < 0.35

# %%
SKEW = rows_of("prompting", "skew")
for row in SKEW:
    print(f"class {row['setting']['class']}, {row['setting']['how']:<40} threes {percent(row['threes'])} "
          f"(training {100 * row['in_training']:.0f}%)")  # fmt: skip
threes = {(row["setting"]["class"], row["setting"]["how"]): row["threes"]["share"] for row in SKEW}
shown = {f"class {name}, {how}": next(samples_of(row, 28) for row in SKEW
                                     if (row["setting"]["class"], row["setting"]["how"]) == (name, how))
         for name in "AB" for how in ("guidance 1", "guidance 4")}  # fmt: skip
plots.filmstrip({name.replace(", ", "\n"): images for name, images in shown.items()},
                captions=[str(k) for k in range(10)], title="Threes and eights, trained on 90 : 10 and on 50 : 50")  # fmt: skip
plt.show()
assert threes["A", "guidance 4"] > threes["A", "guidance 1"]
assert threes["B", "guidance 4"] < threes["B", "guidance 1"]

# %% [markdown]
# SKEW
#
# ## What can go wrong
#
# - **A rule from another model.** Word order, negative words and scales depend on the text encoder and its captions.
# - **A judge that shares the weakness.** A retrieval network that cannot tell left from right finds no mistake there;
#   look at its value for real pictures first.
# - **Pictures that were picked.** Eight seeds and one choice improve any figure: say how many were drawn.
# - **The remedy of another error.** A drawing of the bones mends a wrong number of fingers, not a wrong style.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own. While the dots stand,
# it tests our own solution, which is in the folded cell between the two.
#
# **Exercise 1 · The tilted share.** A kind has the share `p` in a class and `q` among all pictures. Write
# `my_share(p, q, w)`: its share under the tilted density of section 7, if there are only this kind and one other.

# %%
my_share = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_share(p, q, w):
    one, other = p**w * q ** (1 - w), (1 - p) ** w * (1 - q) ** (1 - w)
    return one / (one + other)


# %%
check("16.1", my_share, solution_share)

# %% [markdown]
# **Exercise 2 · Count on a ring.** A simpler judge of hands reads the picture along a circle around the palm: `ring`
# [N], True where the hand is. Write `my_fingers(ring)`: the number of connected pieces on the circle. (Its last place
# is beside its first.) When would this judge count wrong and that of section 3 right?

# %%
my_fingers = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_fingers(ring):
    return 1 if ring.all() else int((ring & ~ring.roll(1)).sum())


# %%
check("16.2", my_fingers, solution_fingers)

# %% [markdown]
# **Exercise 3 · One prompt per region.** Write `my_mixed(predictions, masks)`: from the predictions [K, B, C, H, W] of K
# prompts and their masks [K, H, W], which may overlap, the mixed prediction [B, C, H, W] of section 4.

# %%
my_mixed = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_mixed(predictions, masks):
    shares = masks / masks.sum(0)
    return (shares[:, None, None] * predictions).sum(0)


# %%
check("16.3", my_mixed, solution_mixed)

# %% [markdown]
# ## What to remember
#
# REMEMBER
#
# **Next:** [20 · Beyond images](20_beyond_images.ipynb): video, sound, shapes and molecules. What is known about
# bias, copies, licences and provenance: [docs/responsible.md](../docs/responsible.md).
#
# ## References
#
# - O. Bar-Tal et al. 2023, [MultiDiffusion](https://arxiv.org/abs/2302.08113): one prompt per region (Eq. 5).
# - L. Zhang, A. Rao, M. Agrawala 2023, [Adding Conditional Control to Text-to-Image Diffusion
#   Models](https://arxiv.org/abs/2302.05543): ControlNet.
# - R. Liu et al. 2023, [Character-Aware Models Improve Visual Text Rendering](https://arxiv.org/abs/2212.10562): letters
#   fail because tokens do not spell.
# - C. Meng et al. 2022, [SDEdit](https://arxiv.org/abs/2108.01073): image to image by noising.
# - J. Ho, T. Salimans 2022, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598): the tilted density
#   (Section 3).
# - F. Bianchi et al. 2023, [Easily Accessible Text-to-Image Generation Amplifies Demographic Stereotypes at Large
#   Scale](https://arxiv.org/abs/2211.03759): skewed samples of occupations.
