# %% [markdown]
# # 08 · Measuring generative models, honestly
#
# "Our model reaches 2.1." Of which quantity, on how many samples, in whose features, and what would a photocopier have
# reached? A generative model has no test error: there is no right answer to compare a single new picture with. So one
# compares a set of samples with a set of real images, by several numbers, and each of these numbers can be fooled. This
# notebook computes the numbers, fools every one of them on purpose, and then uses them to measure what our CIFAR-10
# models really do.
#
# **When you have worked through it, you can**
#
# - compute a Fréchet distance by hand, and say what it measures and what it misses;
# - say why two such distances of different sample sizes must not be compared, and extrapolate the bias away;
# - choose measures that catch what others miss: wrong classes, missing classes, collapse, blur, copies;
# - test a model for memorised training images, against the right baseline;
# - read a figure of quality against network evaluations, and see which popular claims it supports;
# - say what a scaling curve shows, and how far it can be trusted.
#
# *Beside you:* `diffusion_explained.metrics`, some 60 lines of arithmetic in all. About 40 minutes to read, half a
# minute to run.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from diffusion_explained import bundled_mnist, load_pretrained, metrics, plots, randn
from diffusion_explained.data import DataUnavailableError, load_dataset
from diffusion_explained.exercises import check
from diffusion_explained.measured import picture_from_text, read_measured
from diffusion_explained.pretrained import load_classifier

plt.rcParams["figure.dpi"] = 100

# %% [markdown]
# ## 1 · The distance between two sets of images
#
# Pixels are a poor space for comparing pictures: a digit that is moved by two pixels is far from the original. So a
# classifier turns each picture into a vector of *features*, a Gaussian is fitted to each set of vectors, and the
# distance between the two Gaussians is computed (Heusel et al. 2017, Eq. 6):
#
# $$
# d^2 = |\mu_a - \mu_b|^2 + \mathrm{Tr}\left(C_a + C_b - 2\,(C_a C_b)^{1/2}\right)
# $$
#
# <small>In code: `metrics.frechet_distance`. Test:
# `tests/test_metrics.py::TestFrechetDistance::test_of_known_gaussians`.</small>
#
# <details><summary>Derivation</summary>
#
# 1. The Fréchet (or 2-Wasserstein) distance is the smallest mean squared distance $\mathbb E \lvert a - b \rvert^2$
#    of two random vectors that have the two distributions; how $a$ and $b$ depend on each other is free.
# 2. $\mathbb E \lvert a - b \rvert^2 = \lvert \mu_a - \mu_b \rvert^2 + \mathrm{Tr}\, C_a + \mathrm{Tr}\, C_b - 2\,
#    \mathrm{Tr}\, K$, where $K$ is the covariance between $a$ and $b$: only $\mathrm{Tr}\, K$ is free, and it should
#    be large.
# 3. In one dimension Cauchy and Schwarz bound it, $K \le \sigma_a \sigma_b$, and the distance is $(\mu_a - \mu_b)^2 +
#    (\sigma_a - \sigma_b)^2$.
# 4. In general $K = C_a^{1/2}\, U\, C_b^{1/2}$ with a matrix $U$ that lengthens no vector. $\mathrm{Tr}\, K =
#    \mathrm{Tr}\, (U\, C_b^{1/2} C_a^{1/2})$ is largest when $U$ undoes the rotation in $C_b^{1/2} C_a^{1/2}$; then
#    it is the sum of the singular values of this matrix.
# 5. These are the roots of the eigenvalues of $C_a^{1/2}\, C_b\, C_a^{1/2}$, which are those of $C_a C_b$. Their sum
#    is $\mathrm{Tr}\, (C_a C_b)^{1/2}$.
#
# </details>
#
# In one dimension, or whenever both covariances are diagonal, this is $\sum_i (\mu_{a,i} - \mu_{b,i})^2 +
# (\sigma_{a,i} - \sigma_{b,i})^2$: **how far the means are apart, and how far the widths are.** By hand, and by the
# library:

# %%
mean_a, mean_b = torch.tensor([0.0, 0.0]), torch.tensor([3.0, 0.0])
std_a, std_b = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5])

by_hand = (mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()  # 9 + 2.25
distance = metrics.gaussian_frechet_distance(mean_a, std_a.square().diag(), mean_b, std_b.square().diag())
print(f"by hand {by_hand:.2f}, by the library {distance:.2f}")
assert abs(distance - by_hand.item()) < 1e-9

# %% [markdown]
# With the features of *one particular* network, Inception v3 trained on ImageNet, this is the famous FID. **Ours is not
# an FID.** The features here are those of our own small classifiers, one for digits and one for CIFAR-10. The unit of
# the distance depends on the classifier, so our numbers can be compared with other numbers of this package only. An FID
# has the same limit: it is a statement about Inception's features.
#
# The classifier that measures must be independent of the models: ours saw real training images only, never a sample.
# And the classifier itself must be measured:

# %%
classifiers = {name: load_classifier(f"{name}_classifier") for name in ("mnist", "cifar10")}
for name, classifier in classifiers.items():
    print(f"{name}: right on {classifier.card['test_accuracy']:.1%} of unseen real images")

digits = bundled_mnist()
few = digits.subset(torch.arange(0, 10_000, 2))
features, logits = metrics.classify(few.to_float())
wrong = torch.nonzero(logits.argmax(1) != few.labels).flatten()
plots.image_grid(few.to_float()[wrong[:8]], columns=8, title="What the classifier gets wrong",
                 captions=[f"{few.labels[i]}, seen as {logits[i].argmax()}" for i in wrong[:8]])  # fmt: skip
plt.show()
assert 0 < len(wrong) < 0.005 * len(few) and classifiers["mnist"].card["test_accuracy"] > 0.99

# %% [markdown]
# The classifier was trained on these images, so its accuracy on them is higher than the 99.6% above. On CIFAR-10 the
# classifier misreads one real picture in twenty: a model whose samples it classifies with an accuracy of 99% is not
# better than reality; it draws *easier* pictures. Keep that in mind for section 5.
#
# ### The Fréchet distance has a bias
#
# Divide one set of real digits into two random parts. Both parts come from the same distribution, so the true distance
# is 0. The measured distance is not 0: each covariance is estimated from few samples, and estimation errors count as
# differences, too. Single divisions scatter, so here are the means of twelve, with their standard errors:

# %%
sizes, splits = (300, 500, 1000, 2500), 12
found = torch.tensor([list(metrics.frechet_bias(features, sizes, seed=k).values()) for k in range(splits)])
bias = dict(zip(sizes, found.mean(0).tolist(), strict=True))
errors = dict(zip(sizes, (found.std(0) / splits**0.5).tolist(), strict=True))
for n, distance in bias.items():
    print(f"n = {n:<5} distance {distance:5.2f} ± {errors[n]:.2f}    n x distance {n * distance:4.0f}")
assert list(bias.values()) == sorted(bias.values(), reverse=True) and bias[300] > 5 * bias[2500]
constant = sum(n * d for n, d in bias.items()) / len(bias)
assert all(abs(n * d - constant) < 2.5 * n * errors[n] for n, d in bias.items())

# %% [markdown]
# The bias is a constant divided by $n$, within the errors of these means (Bińkowski et al. 2018). This has two
# consequences. **Never compare distances of different $n$**: a worse model looks better with more samples. And since
# the bias is a straight line in $1/n$, the line can be extrapolated to $1/n = 0$, the distance for infinitely many
# samples (Chong & Forsyth 2020). The next cell does this for the real digits, and for the same digits slightly blurred:


# %%
def blurred(x_0):
    return F.avg_pool2d(F.pad(x_0, (1, 1, 1, 1), value=-1.0), 3, stride=1)


half = torch.randperm(len(few), generator=torch.Generator().manual_seed(0))
first, second = features[half[:2500]], metrics.classify(blurred(few.to_float()[half[2500:]]))[0]
soft = {n: metrics.frechet_distance(second[:n], first[:n]) for n in bias}
plots.extrapolation({"blurred digits": soft, "real digits": bias}, title="The bias is a line in 1/n")
plt.show()

limits = {name: plots.line_of(d)[1] for name, d in {"real": bias, "blurred": soft}.items()}
for n in (300, 2500):
    print(f"n = {n}: real {bias[n]:.1f}, blurred {soft[n]:.1f}")
print(f"n -> infinity: real {limits['real']:.1f}, blurred {limits['blurred']:.1f}")
assert bias[300] > soft[2500]  # real digits, few of them, look worse than blurred ones, many of them
assert abs(limits["real"]) < 0.15 < 0.5 < limits["blurred"]

# %% [markdown]
# The line of the real digits ends at 0, within its scatter, as it must; the line of the blurred digits does not. But
# 300 *real* digits have a larger distance than 2,500 blurred ones.
#
# So an honest distance is reported with three more numbers: the number of samples **n**; the **floor**, which is the
# distance of as many *unseen real* images (`frechet_floor`); and the **spread**, which is how much the distance varies
# with other samples (`frechet_spread`, by the bootstrap: resample the samples with replacement). All distances below
# have these three numbers.
#
# ### The Fréchet distance compares two moments, and nothing else
#
# Replace the features of real digits by random vectors from the Gaussian that was fitted to them. No picture has these
# features. The Fréchet distance does not notice:

# %%
root = metrics.matrix_root(features.T.cov()).float()
made_up = features.mean(0) + randn((2500, features.shape[1]), torch.Generator().manual_seed(1)) @ root
distances = [metrics.frechet_distance(x, first) for x in (features[half[2500:]], made_up)]
covered = [metrics.neighbour_coverage(x[:500], first[:500]) for x in (features[half[2500:]], made_up)]
print(f"Fréchet distance: real digits {distances[0]:.1f}, made-up vectors {distances[1]:.1f}")
print(f"neighbour coverage: real digits {covered[0]:.1f}, made-up vectors {covered[1]:.1f}")
assert distances[1] < 1.5 * distances[0] + 0.05 and covered[1] < 0.4 < 0.9 < covered[0]

# %% [markdown]
# The second line shows the difference. **Neighbour coverage** (Naeem et al. 2020, Eq. 4) tests for every real image: is
# there a sample at least as near as its fifth nearest real neighbour?
#
# $$
# \text{coverage} = \frac{1}{M} \sum_{i=1}^{M}
# \mathbf{1}\left[\min_j |s_j - r_i| \le \text{the distance of } r_i \text{ to its 5th nearest real neighbour}\right]
# $$
#
# <small>In code: `metrics.neighbour_coverage`. Test:
# `tests/test_neighbours.py::TestNeighbourCoverage::test_is_brute_force`.</small>
#
# <details><summary>Derivation of the value of real images</summary>
#
# 1. Let the samples be $M$ real images. Around $r_i$, sort all other real images and all samples by their distance.
#    Both come from one distribution, so each place in this order is a sample's with probability ½.
# 2. $r_i$ is *not* covered if its five nearest real neighbours come before the first sample, that is if the first
#    five places are all real: probability $2^{-5}$, for large $M$.
#
# </details>
#
# Real images, compared with equally many other real images, reach about $1 - 2^{-5} = 0.97$.

# %% [markdown]
# ## 2 · Eight sets of samples, six measures
#
# Now we imitate a model, and cheat. There is a "training set" of 300 digits, thirty per class. The eight sets are: the
# *reference*, 300 real digits that are not in the training set; the samples of a real model; and six sets with one
# visible fault each.

# %%
labels = torch.arange(300) % 10
places = torch.stack([torch.nonzero(digits.labels == k).flatten() for k in range(10)], dim=1)  # [1000, 10]
train, unseen, others = (digits.subset(places[a : a + 30].flatten()) for a in (0, 300, 600))
model = load_pretrained("mnist_unet_flow")
real, noise = unseen.to_float(), randn((300, 1, 28, 28), torch.Generator().manual_seed(2))

cases = {
    "unseen real digits": real,
    "our model, 5 steps": metrics.draw(model, labels, num_inference_steps=5, guidance_scale=1.0),
    "copies of the training set": train.to_float(),
    "ten pictures per class": real[:100].repeat(3, 1, 1, 1),
    "blurred": blurred(real),
    "noisy": (real + 0.3 * noise).clamp(-1, 1),
    "no sevens (ones instead)": torch.where((labels == 7)[:, None, None, None], others.to_float().roll(6, 0), real),
    "classes mixed up": real.roll(1, 0),
}
assert (train.labels == labels).all() and (unseen.labels == labels).all()
plots.filmstrip({name: x[:10] for name, x in cases.items()}, captions=[f"asked: {k}" for k in range(10)],
                title="One set of samples per row; all but the first two have a fault")  # fmt: skip
plt.show()

# %% [markdown]
# We compute six measures for each set. *Diversity* is the mean distance between two images of the same class, in
# features; *nearest* is the median distance to the nearest training image, in pixels.


# %%
of_train = metrics.classify(train.to_float())[0]


def measures(x_0):
    found = metrics.classify(x_0)[0]
    return {
        "accuracy": metrics.class_accuracy(x_0, labels),
        "classes": metrics.class_coverage(x_0).reached,
        "coverage": metrics.neighbour_coverage(found, of_train),
        "Fréchet": metrics.frechet_distance(found, of_train),
        "diversity": metrics.diversity(x_0, labels),
        "nearest": metrics.nearest_training_images(x_0, train)[1].median().item(),
    }


table = {name: measures(x_0) for name, x_0 in cases.items()}
print(f"{'':27}" + "".join(f"{name:>10}" for name in table["noisy"]))
for name, row in table.items():
    accuracy, classes, coverage, distance, diversity, near = row.values()
    print(f"{name:27}{accuracy:10.2f}{classes:10d}{coverage:10.2f}{distance:10.1f}{diversity:10.1f}{near:10.1f}")
plots.case_panels(table, best="unseen real digits", title="The six measures of each set of samples")
plt.show()

ref = table["unseen real digits"]
copies, collapsed, soft_, noisy = (list(table.values())[i] for i in (2, 3, 4, 5))
missing, mixed = list(table.values())[6:]
assert copies["Fréchet"] < ref["Fréchet"] and copies["coverage"] > ref["coverage"] and copies["nearest"] == 0
assert collapsed["accuracy"] > 0.98 and collapsed["classes"] == 10 and collapsed["coverage"] < 0.75
assert missing["classes"] == 9 and missing["Fréchet"] > collapsed["Fréchet"]
assert mixed["accuracy"] < 0.02 and abs(mixed["Fréchet"] - ref["Fréchet"]) < 1e-6
assert soft_["diversity"] > ref["diversity"] and soft_["coverage"] < 0.85 and soft_["nearest"] < ref["nearest"]
assert noisy["Fréchet"] == max(row["Fréchet"] for row in table.values()) and noisy["diversity"] > ref["diversity"]

# %% [markdown]
# Read the table column by column, and ask for each measure which fault it misses.
#
# - **Accuracy** catches mixed-up classes, which no other measure notices: the others ignore the requested class. It
#   rates ten pictures per class as perfect.
# - **Classes reached** catches the missing class and nothing else.
# - **Fréchet distance**: the set of *copies* has the best distance. Noisy digits, which you read without effort, have
#   the worst; and ten repeated pictures have a better distance than a missing class. It is a fair summary of honest
#   models, not a final verdict.
# - **Neighbour coverage** catches collapse, blur, noise and the missing class. Copies score higher than reality.
# - **Diversity** would catch one picture per class; it hardly notices ten pictures per class, because it averages over
#   pairs, and most pairs are still different. Blur and noise *raise* the diversity: features that no real image has are
#   far apart.
# - **Nearest** is the only measure that catches the copies. But blurred digits are "nearer" to the training set than
#   real ones.
#
# **No measure ranks the eight sets correctly, and copies of the training set win every column but the last.** A report
# of only one number hides the faults that this number misses.

# %% [markdown]
# ## 3 · Did the model memorise its training images?
#
# A model that stores its training images and returns them has perfect numbers and is useless. The test is to find the
# nearest training image of each sample, `nearest_training_images`, in pixels and in features. But "near" needs a
# baseline: *how near to a training image is a real image that is not a training image?*
#
# Our model was trained on 60,000 digits, and 10,000 of them are part of the package. So: how far is each sample from
# the nearest of these 10,000, and how far is each of 300 real digits from the nearest of the *others*?

# %%
samples = cases["our model, 5 steps"]
rest = torch.ones(len(digits), dtype=torch.bool)
rest[places[300:330].flatten()] = False  # the 300 unseen digits are not compared with themselves
known = digits.subset(torch.nonzero(rest).flatten())
index, in_pixels = metrics.nearest_training_images(samples, known)
_, of_real = metrics.nearest_training_images(real, known)
plots.neighbour_curves(
    {"samples": in_pixels, "real digits": of_real, "copies": metrics.nearest(train.to_float(), known.images)[1]},
    xlabel="distance to the nearest training image (pixels in [-1, 1])",
)
plt.show()

ones = labels == 1
print(f"median distance in pixels: samples {in_pixels.median():.1f}, real digits {of_real.median():.1f}")
print(f"the ones alone: samples {in_pixels[ones].median():.1f}, real digits {of_real[ones].median():.1f}")
print(f"nearest of all, in pixels: samples {in_pixels.min():.1f}, real digits {of_real.min():.1f}")
assert 0.85 < in_pixels.median() / of_real.median() < 1.15 and in_pixels.min() > 1
assert of_real[ones].median() < 0.7 * of_real.median()

# %% [markdown]
# At the left end, where copies would be, the two curves lie on top of each other: *the nearest samples are as far from
# the training images as the nearest fresh real digits are*. Further right the samples are a little nearer, because they
# include fewer unusual digits. A model that only copies would have the third curve: a vertical line at zero. A model
# that copies one time in ten would show a step at the left end, and its median would show nothing; so look at the left
# end of the curve, not only at the middle.
#
# Look at the pairs, too. The nearest images in pixels overlap best; the nearest images in features (`in_features=True`)
# look similar to the classifier. The question is always the same: *same picture, or same class?*

# %%
small = digits.subset(places[330:530].flatten())  # 2,000 of the digits, for speed
index_f, in_features = metrics.nearest_training_images(samples[:10], small, in_features=True)
rows = {
    "sample": samples[:10],
    "nearest in pixels": known.batch(index[:10])[0],
    "nearest in features": small.batch(index_f)[0],
}
plots.filmstrip(rows, captions=[f"{d:.1f}" for d in in_pixels[:10]], title="Relatives, no copies (distance in pixels)")
plt.show()
print(f"the ten are at least {in_features.min():.1f} from any of them in features; a copy would be at 0")
assert (small.labels[index_f] == labels[:10]).double().mean() >= 0.9 and in_features.min() > 0.2

# %% [markdown]
# Each sample has similar training images of its class; none is a copy. The model card gives the same result for all
# 60,000 training digits, with the test split as the real images:

# %%
of_all = next(e for e in model.card["evaluation"] if e["settings"]["guidance_scale"] == 1.0)
for who in ("samples", "real"):
    print(f"{who:8} nearest training image {of_all[who]['nearest_training_image']:.1f}, "
          f"Fréchet distance {of_all[who]['frechet_distance']:.2f}, n = {of_all['n']}")  # fmt: skip
assert abs(of_all["samples"]["nearest_training_image"] / of_all["real"]["nearest_training_image"] - 1) < 0.02

# %% [markdown]
# ### On CIFAR-10
#
# From here on we read stored measurements, because they need a GPU: `read_measured` returns results of 10,000 samples
# per setting, all from the same noise, drawn on an H200 or H100 by 2026-11-26 (`benchmarks/quality.py` repeats the
# measurement). The training images are all 50,000; the unseen real images are the 10,000 of the test split.

# %%
study = read_measured("samplers")
unseen_real = study["real"]


def rows_of(model_name, sampler, scale=1.0):
    key = (f"cifar10_unet_{model_name}", sampler, scale)
    found = [row for row in study["rows"] if (row["model"], row["sampler"], row["guidance_scale"]) == key]
    return sorted(found, key=lambda row: row["evaluations"])


print(f"unseen real images: nearest training image {unseen_real['nearest_training_image']:.1f}")
for row in [*rows_of("flow", "euler", 2.0), *rows_of("reflow", "euler")[2:4]]:
    print(f"{row['model'][13:]:7}{row['evaluations']:3} evaluations: nearest training image "
          f"{row['nearest_training_image']:.1f}, contrast {row['contrast']:.2f}")  # fmt: skip
finished = [r for r in study["rows"] if r["evaluations"] >= 29 and r["model"] != "cifar10_unet_eps"]
assert all(0.88 < r["nearest_training_image"] / unseen_real["nearest_training_image"] < 1.04 for r in finished)
pale = [r for r in study["rows"] if r["evaluations"] <= 4 and r["model"] == "cifar10_unet_flow"]
assert max(r["nearest_training_image"] for r in pale) < 13.5 and max(r["contrast"] for r in pale) < 0.31

# %% [markdown]
# With 29 network evaluations and more, the median distance of the samples to their nearest training image is 17 to 19;
# that of unseen photographs is 18.5. The typical sample, then, is hardly nearer than a new photograph is. Medians would
# not show a handful of copies among 10,000 samples. So look at the left end of the distribution, and compare it with
# sets that *do* copy: training images that were mirrored, or moved by one pixel. Distances are in pixels (P) and in the
# classifier's features (F), which detect the moved copies (the samples of the rectified network were drawn on two
# cores, the others on the H200):

# %%
near = {(row["who"], row["where"]): row for row in read_measured("memorisation")["rows"]}
at_left = ("nearest of all", "1%", "median")
print(" " * 20 + "".join(f"{q:>20}" for q in at_left))
for who in dict.fromkeys(who for who, _ in near):
    numbers = [f"P {near[who, 'pixels'][q]:5.2f}  F {near[who, 'features'][q]:4.2f}" for q in at_left]
    print(f"{who:20}" + "".join(f"{text:>20}" for text in numbers))
moved, unseen = near["training, moved", "features"], near["unseen real", "features"]
copied = ("training, mirrored", "training, moved")
drawn = [row for (who, where), row in near.items() if where == "features" and who not in ("unseen real", *copied)]
assert len(drawn) == 6 and all(row["n"] == 10_000 for row in near.values())
assert moved["median"] < 0.65 * unseen["median"] and moved["nearest of all"] < 0.5 * unseen["nearest of all"]
assert all(row["nearest of all"] > unseen["nearest of all"] and row["1%"] > unseen["1%"] for row in drawn)
assert near["training, mirrored", "features"]["median"] > 0.9 * unseen["median"]

# %% [markdown]
# **No copy among 10,000 samples of any of our networks**, by this test: the nearest sample of all is 2.0 or more from
# every training image in features, while a *real* unseen photograph gets as near as 1.5 (CIFAR-10 has near-duplicates
# across its two splits), and a moved copy 0.6. The second row shows what the test cannot detect: a *mirrored* copy
# looks like any new picture, at the median and at 1%. The classifier knows that both are a horse, but its training did
# not require it to place the two near each other.
#
# **The trap** is in the first row of the table before this one: after four steps the distance is 11 to 13. Memorised?
# The contrast explains it. Few-step samples are pale and smooth, and *smooth pictures are near everything*: a small
# distance to a training image is evidence only between pictures of the same contrast.
#
# If CIFAR-10 is on your machine (`load_dataset("cifar10")` fetches it), the next cell shows eight samples above their
# nearest training images. Nothing is downloaded here, and nothing below depends on CIFAR-10.

# %%
colour = load_pretrained("cifar10_unet_flow")
eight = metrics.draw(colour, torch.arange(8), num_inference_steps=8, guidance_scale=2.0)
shown = {"sample": eight, "nearest in pixels": torch.zeros_like(eight)}  # grey if the data set is not on this machine
try:
    photographs = load_dataset("cifar10", "train", download=False)
    shown["nearest in pixels"] = photographs.batch(metrics.nearest_training_images(eight, photographs)[0])[0]
except DataUnavailableError:
    pass
plots.filmstrip(shown, captions=colour.class_names[:8], title="Our CIFAR-10 samples, 8 steps, guidance 2")
plt.show()
assert eight.shape == (8, 3, 32, 32) and eight.isfinite().all()

# %% [markdown]
# ## 4 · Quality against network evaluations
#
# How many network evaluations does a good picture need? Every point is measured on 10,000 samples; the bars are the
# spread; the dashed line is the floor, 10,000 unseen photographs. (Heun's method uses two network evaluations per step,
# so its points lie at other numbers.)

# %%
lines = {
    "Euler": rows_of("flow", "euler"),
    "Heun": rows_of("flow", "heun"),
    "DPM-Solver++ 2M": rows_of("flow", "dpm_solver_pp_2m"),
    "Euler, w = 2": rows_of("flow", "euler", 2.0),
    "Heun, w = 2": rows_of("flow", "heun", 2.0),
    "Euler, w = 3 in the middle": rows_of("flow", "euler", 3.0),  # guided where σ/α is from 0.2 to 3: section 5
    "rectified, Euler": rows_of("reflow", "euler"),
}
floor = unseen_real["frechet_distance"]
plots.quality_curves(lines, floor=floor, title="CIFAR-10: distance against network evaluations")
plt.show()
for name, rows in lines.items():
    print(f"{name:27}" + ", ".join(f"{row['evaluations']}: {row['frechet_distance']:.1f}" for row in rows))

at = {name: {row["evaluations"]: row["frechet_distance"] for row in rows} for name, rows in lines.items()}
assert all(0.9 < at[name][18] / at[name][50] < 1.2 for name in ("Euler", "DPM-Solver++ 2M", "Euler, w = 2"))
assert all(0.9 < at[name][30] / at[name][50] < 1 for name in ("Euler", "DPM-Solver++ 2M", "Euler, w = 2"))
assert at["Euler"][8] > 1.7 * at["Euler"][50] and at["Euler, w = 2"][8] > 2.5 * at["Euler, w = 2"][50]
assert 1.05 < at["rectified, Euler"][8] / at["Euler, w = 3 in the middle"][50] < 1.12
assert at["rectified, Euler"][8] < 0.75 * at["Euler, w = 2"][50]
assert at["rectified, Euler"][1] < at["Euler, w = 2"][18]
assert at["DPM-Solver++ 2M"][8] < 0.8 * at["Euler"][8]

# %% [markdown]
# Next, the network that predicts the noise, along DDPM's cosine schedule, with $\hat x_0$ clipped to the range of
# pixels. (Euler's method equals DDIM here, to the last bit: notebook 04.)

# %%
lines = {
    "DDIM": rows_of("eps", "ddim"),
    "DDPM": rows_of("eps", "ddpm"),
    "DPM-Solver++ 2M": rows_of("eps", "dpm_solver_pp_2m"),
    "Euler-ancestral": rows_of("eps", "euler_ancestral"),
    "Heun": rows_of("eps", "heun"),
    "DPM-Solver++ 2M, w = 2": rows_of("eps", "dpm_solver_pp_2m", 2.0),
}
plots.quality_curves(lines, floor=floor, title="CIFAR-10 again: the network that predicts noise")
plt.show()
for name, rows in lines.items():
    print(f"{name:23}" + ", ".join(f"{row['evaluations']}: {row['frechet_distance']:.1f}" for row in rows))

noise_at = {name: {row["evaluations"]: row["frechet_distance"] for row in rows} for name, rows in lines.items()}
assert abs(noise_at["DDIM"][50] / noise_at["DDIM"][100] - 1) < 0.03
assert abs(noise_at["DDIM"][50] - noise_at["DDPM"][1000]) < lines["DDPM"][0]["frechet_spread"]
assert noise_at["DPM-Solver++ 2M"][18] < 1.05 * noise_at["DPM-Solver++ 2M"][100]
assert noise_at["Euler-ancestral"][30] > 1.2 * noise_at["Euler-ancestral"][100]
change = {f"{what}, {name}": by_n[100] / by_n[30] - 1 for what, of in (("flow", at), ("noise", noise_at))
          for name, by_n in of.items() if {30, 100} <= set(by_n)}  # fmt: skip
print("distance from 30 to 100 evaluations: " + ", ".join(f"{name} {share:+.0%}" for name, share in change.items()))
assert change["flow, DPM-Solver++ 2M"] > 0.08 and change["noise, Euler-ancestral"] < -0.15
assert all(abs(change[name]) < 0.06 for name in ("flow, Euler", "noise, DDIM", "noise, DPM-Solver++ 2M"))
assert noise_at["DDIM"][4] < 0.5 * at["Euler"][4] and noise_at["DDIM"][8] < 0.85 * at["Euler"][8]

# %% [markdown]
# All these curves end far above the floor. Is that the samplers' fault, or the network's? `cifar10_unet_flow_fine` has
# a seventh more weights, but works on single pixels where the others work on patches of 2 x 2: it needs 4.6 times the
# arithmetic per image. It was trained on 25 million images, `cifar10_unet_flow` on 30 million.

# %%
lines = {
    "patches of 2 x 2": rows_of("flow", "euler"),
    "single pixels": rows_of("flow_fine", "euler"),
    "patches of 2 x 2, w = 3 in the middle": rows_of("flow", "euler", 3.0),
    "single pixels, w = 2 in the middle": rows_of("flow_fine", "euler", 2.0),
}
plots.quality_curves(lines, floor=floor, title="CIFAR-10: the same samplers, a better network")
plt.show()
for name, rows in lines.items():
    print(f"{name:38}" + ", ".join(f"{row['evaluations']}: {row['frechet_distance']:.1f}" for row in rows))

coarse, fine, _, fine_guided = ({r["evaluations"]: r["frechet_distance"] for r in rows} for rows in lines.values())
assert fine[50] < 0.6 * coarse[50] and fine_guided[50] < at["Euler, w = 3 in the middle"][50]
assert fine[18] > 1.3 * fine[50] and coarse[18] < 1.1 * coarse[50] and fine[8] > 2.5 * fine[50]

# %% [markdown]
# **It was the network.** At 50 steps the distance is 10.6 against 21.9; with guidance it is 1.7 against 2.8, and at 100
# steps 1.5 ± 0.1, where photographs are at 1.4 ± 0.1: by this measure nothing is left to gain (section 2 says what that
# is worth, and the pictures show that something is left). And where the network's error is smaller, *the sampler's*
# error becomes visible: from 18 to 50 steps the better network's distance falls by a quarter, the other's by 8%. With 8
# steps the sampler's error dominates, and with guidance the two networks are about equally good. How many steps are
# enough depends on the network *and* on the sampler.

# %% [markdown]
# Which of the usual claims hold, on these models, by this classifier's features?
#
# - **"30 to 50 steps are enough"** (C8): yes, and for the smaller networks without guidance 18 are nearly enough. From
#   30 to 100 evaluations the distance of Euler and DDIM changes by 5% at most; that of DPM-Solver++ on the flow *rises*
#   by 10%, and that of Euler-ancestral falls by 18%. The better network gains 9% from 30 to 50, and 5% from there to
#   100.
# - **"DDPM needs 1,000 steps, DDIM 50, without loss"** (C37, C38): true. DDPM reaches 25.7 ± 0.5 with 1,000 steps, DDIM
#   reaches 25.7 with 50, and 27.3 with only 18.
# - **"DPM-Solver++ and Euler-ancestral need 20 to 30"** (C39): half true. DPM-Solver++ has converged at 18.
#   Euler-ancestral has not: its distance is 39 at 18, 33 at 30, and reaches that of the others only at 100. It adds
#   fresh noise at each step, and needs the remaining steps to remove it.
# - **"Flow matching needs 4 to 8 steps"** (C19, C40): **not this flow.** Without guidance the distance is 84 at 4 and
#   40 at 8, against 22 at 50; with guidance 46 and 13, against 4.5. With so few steps the older network is even
#   *better*, 40 at 4 and 32 at 8, in part because its pictures are clipped at every step. Notebook 05 found that the
#   claim holds on digits, which are easier.
# - **Rectification makes it true**: 3.2 at 4, and 3.1 at 8; more steps add nothing, 3.1 at 50. *One* network evaluation
#   gives 5.0, less than 18 steps of the plain flow guided at 2, which are 36 network evaluations. The student's
#   training pairs were guided at 3, at middle noise levels only (section 5). With this guidance its teacher has 2.8 ±
#   0.1 at 50: the student's 8 steps are 11 ± 5% above that (our target was 10%), and 31% below the teacher guided at 2.
#   The student's training pairs matter: our first student learned from 100,000 pairs guided at 2 instead of 400,000,
#   for a tenth as long, and had 5.9 at 8.
# - **Better samplers help at middle numbers of steps**: with the flow, DPM-Solver++ is a quarter below Euler at 8. Heun
#   at 7 is a little below Euler at 8, and at 3 far worse: half the steps are too few. At 18 and beyond the sampler
#   hardly matters.
#
# Guidance at 2 divides the distance by five. The next section shows its benefits and its costs.

# %% [markdown]
# ## 5 · Guidance, and how it flatters the distance
#
# Notebook 06 measured guidance on hundreds of digits; here are 10,000 CIFAR-10 samples per guidance scale, drawn in 18
# Euler steps. The dashed line shows unseen photographs.

# %%
guidance = [row for row in read_measured("guidance")["rows"] if row["model"] == "cifar10_unet_flow"]
ways = {
    "guided": [r for r in guidance if not r["guidance_interval"] and not r["guidance_rescale"]],
    "in an interval, σ/α from 0.2 to 3": [r for r in guidance if r["guidance_interval"]],
    "rescaled by 0.7": [r for r in guidance if r["guidance_rescale"]],
}
plots.guidance_panels(ways, real=unseen_real, title="CIFAR-10: what a guidance scale buys and costs")
plt.show()

plain = {row["guidance_scale"]: row for row in ways["guided"]}
interval = {row["guidance_scale"]: row for row in ways["in an interval, σ/α from 0.2 to 3"]}
for w, row in sorted(plain.items()):
    print(f"w = {w}: distance {row['frechet_distance']:4.1f} ±{row['frechet_spread']:.1f}, "
          f"accuracy {row['accuracy']:.1%}, coverage {row['neighbour_coverage']:.0%}, "
          f"diversity {row['diversity']:4.1f}, contrast {row['contrast']:.2f}")  # fmt: skip
best = min(plain, key=lambda w: plain[w]["frechet_distance"])
widest = max(plain, key=lambda w: plain[w]["neighbour_coverage"])
print(f"least distance at w = {best:.0f}, best coverage at w = {widest:.0f}; real: distance {floor:.1f}, "
      f"accuracy {unseen_real['accuracy']:.1%}, coverage {unseen_real['neighbour_coverage']:.0%}, "
      f"diversity {unseen_real['diversity']:.1f}")  # fmt: skip
assert (best, widest) == (3.0, 2.0) and plain[1.5]["diversity"] < 0.9 * plain[1.0]["diversity"]
assert interval[3.0]["frechet_distance"] < 0.8 * plain[3.0]["frechet_distance"]
assert interval[3.0]["diversity"] > plain[3.0]["diversity"] and interval[3.0]["contrast"] < 0.9 * plain[3.0]["contrast"]
assert plain[8.0]["contrast"] > 1.5 * plain[1.0]["contrast"] and plain[8.0]["beyond"] > 50 * plain[1.0]["beyond"]

better = {r["guidance_scale"]: r for r in read_measured("guidance")["rows"] if r["model"] == "cifar10_unet_flow_fine"}
print("the better network, in the interval: "
      + ", ".join(f"w = {w:g}: {row['frechet_distance']:.1f}" for w, row in sorted(better.items())))  # fmt: skip
assert better[2.0]["frechet_distance"] < min(better[3.0]["frechet_distance"], 0.5 * interval[2.0]["frechet_distance"])

# %% [markdown]
# - **The distance falls from 24 to 5 up to w = 3, while diversity falls at once**; at w = 1.5 it is already below that
#   of photographs. The distance rewards clean, typical pictures, and it reacts late to their similarity to one another.
#   Coverage has its maximum earlier, at 2. A paper that picks its scale by the distance has picked a less diverse
#   model.
# - **Accuracy passes that of real photographs (95%)** before w = 2, and reaches 99.5%. That is not "better than real":
#   the samples are textbook examples, which are easy to classify.
# - **Over-sharpening** (C13) begins at 3: contrast keeps rising, from 0.38 to 0.60, and at w = 8 a tenth of the pixels
#   lie beyond black and white. Diversity *rises* again there, slightly, like that of the noisy digits in section 2.
# - **The interval helps**: at w = 3 the distance is a third lower, with more coverage, more diversity and less
#   contrast, for fewer evaluations. At 2 the interval only weakens the guidance. The better network needs no more than
#   that: its distance is lowest at 2.
# - **Rescaling by 0.7 hardly matters here**: at w = 3 it makes no difference; at 8 fewer pixels are out of range, and
#   the distance is no better.

# %% [markdown]
# ## 6 · Does size help, and which architecture gains more?
#
# "Quality grows with model size" (C3), and "transformers scale better" (C18). Both are statements about *curves*, so
# one trains several sizes on the same images and plots quality against cost: three U-Nets and three transformers, with
# the recipes of our shipped flows, on 512,000 images each (ten passes over CIFAR-10, a sixtieth of the images that the
# shipped U-Net was trained on), with 10,000 unguided samples each (`benchmarks/scaling.py`, one H200). Compute is
# counted, not timed: three forward passes per image. The numbers at the points are the numbers of weights.

# %%
scaling = read_measured("scaling")["rows"]
families = {
    "U-Net": [row for row in scaling if row["network"]["network"] == "unet"],
    "transformer": [row for row in scaling if row["network"]["network"] == "dit"],
}
plots.scaling_panels(families, title="CIFAR-10, 512,000 images: what compute buys")
plt.show()
for name, rows in families.items():
    for row in rows:
        print(f"{name:12}{row['parameters'] / 1e6:5.1f} M weights, {row['training_flops'] / 1e15:.1f} PFLOP: test loss "
              f"{row['test_loss']:.4f}, distance {row['frechet_distance']:.0f}")  # fmt: skip
measured = ("test_loss", "frechet_distance")
powers = {name: [plots.exponent(rows, key) for key in measured] for name, rows in families.items()}
for name, (loss, distance) in powers.items():
    print(f"{name}: loss ~ compute^-{loss:.2f}, distance ~ compute^-{distance:.2f}")
for rows in families.values():
    for key in measured:
        assert [row[key] for row in rows] == sorted((row[key] for row in rows), reverse=True)
assert powers["transformer"][1] > 1.5 * powers["U-Net"][1] and powers["transformer"][0] > powers["U-Net"][0]
medium, large = families["transformer"][1], families["U-Net"][2]
assert medium["test_loss"] < large["test_loss"] and medium["frechet_distance"] > 1.1 * large["frechet_distance"]

# %% [markdown]
# - **Size helps, every time** (C3): in both families each larger network ends with a lower loss and a lower distance.
# - **The transformer gains more from compute** (C18), in this range: its distance falls about as the square root of
#   compute, the U-Net's as the fourth root. The exponents of the loss are closer, 0.11 and 0.09.
# - **The transformer begins behind.** At equal compute, 2.6 to 2.8 PFLOP, the U-Net's distance is 106 and the
#   transformer's 125; the largest transformer, which costs half as much again, has a lower distance than the U-Net. And
#   *the loss says the opposite* there: 0.2200 against 0.2223 in the transformer's favour. A lower loss is not a better
#   picture across architectures.
# - **Limits of this result:** three sizes, one seed, a factor of eight in compute, and all networks are far from
#   converged (distances of 95 and more; the shipped U-Net, after sixty times the images, has 22). It is a small true
#   curve, not a law.

# %% [markdown]
# ### Does data help?
#
# The other half of the claim: quality grows with the size of the *data*. The network of `mnist_unet_flow` was trained
# on 100, 1,000, 10,000 and 60,000 digits. Everything else is equal, and so is the number of images processed, repeats
# included: 15,000 passes over 100 digits are 25 over 60,000 (`benchmarks/data_size.py`; three seeds, which draw the
# digits, the weights and the batches; 5,000 unguided samples each). A sample counts as a *copy* if its nearest
# training image is less than a third as far away as its second nearest one (Yoon et al. 2023). The same share of
# unseen test digits is the baseline.

# %%
data_size = read_measured("data_size")
SIZES = sorted({row["size"] for row in data_size["rows"]})


def of_size(value):
    """The mean over seeds and its standard error, for each size; value takes a row."""
    found = [torch.tensor([value(row) for row in data_size["rows"] if row["size"] == size]) for size in SIZES]
    return [(float(each.mean()), float(each.std() / len(each) ** 0.5)) for each in found]


losses = {
    "training digits": of_size(lambda row: row["train_loss"]),
    "test digits": of_size(lambda row: row["test_loss"]),
}
far, copied = of_size(lambda row: row["frechet_distance"]), of_size(lambda row: row["copies"]["share"])
copied_of_test = of_size(lambda row: row["copies_of_test"]["share"])
plots.curves({name: (SIZES, [mean for mean, _ in found]) for name, found in losses.items()}, log="x",
             title="The loss after equally many images", xlabel="training digits", ylabel="loss")  # fmt: skip
plt.show()
plots.curves({"samples": (SIZES, [100 * mean for mean, _ in copied]),
              "unseen real digits": (SIZES, [100 * mean for mean, _ in copied_of_test])}, log="x",
             title="Copies of training digits", xlabel="training digits", ylabel="%")  # fmt: skip
plt.show()
for k, size in enumerate(SIZES):
    print(f"{size:>6,} digits: loss {losses['training digits'][k][0]:.3f} on them, "
          f"{losses['test digits'][k][0]:.3f} ± {losses['test digits'][k][1]:.3f} on the test split; distance "
          f"{far[k][0]:.2f} ± {far[k][1]:.2f}; copies {100 * copied[k][0]:.1f} ± {100 * copied[k][1]:.1f}% "
          f"(test digits {100 * copied_of_test[k][0]:.1f}%)")  # fmt: skip
print(f"distance of as many unseen real digits: {data_size['floor']:.2f}")
strips = {row["size"]: picture_from_text(row["strip"]) for row in data_size["rows"] if row["strip"]}
few_digits, most_digits = strips[SIZES[0]], strips[SIZES[-1]]
pictures = {
    f"{name}{size:,}": part.float()[None, None].div(127.5).sub(1).split(28, dim=3)
    for size, strip in ((SIZES[0], few_digits), (SIZES[-1], most_digits))
    for name, part in (("samples, ", strip[:28]), ("nearest of ", strip[28:]))
}
plots.filmstrip({name: torch.cat(images) for name, images in pictures.items()},
                title="Samples, and their nearest training digits")  # fmt: skip
plt.show()
test_losses = [mean for mean, _ in losses["test digits"]]
train_losses = [mean for mean, _ in losses["training digits"]]
assert test_losses == sorted(test_losses, reverse=True) and train_losses[0] == min(train_losses)
assert test_losses[0] > 10 * test_losses[2] and test_losses[2] < 1.01 * test_losses[3] and far[3][0] > far[2][0]
assert copied[0][0] > 0.99 and 0.07 < copied[1][0] < 0.09 and copied[2][0] == copied[3][0] == 0
assert of_size(lambda row: row["accuracy"])[0][0] > 0.999 and 0.55 < far[0][0] < 0.7

# %% [markdown]
# - **More data help until they are enough** (C3). The loss on unseen digits falls from 2.25 to 0.40 to 0.18 with 100,
#   1,000 and 10,000 digits. From 10,000 to 60,000 it falls by another half percent, and the distance does not fall:
#   0.081 ± 0.003 and 0.105 ± 0.010. Then this network and this training are the limit, no longer the data.
# - **100 digits are learned by heart.** All samples but one in a thousand are copies, with 1,000 digits 8%, with
#   10,000 and more not one of 15,000. What tells the cases apart during training is the loss on digits that the
#   network did not see: its own training loss is *lowest* where it copies.
# - **Copies look good.** The classifier recognises 99.96% of the samples of the network that copies 100 digits, and
#   the distance, 0.63 (floor 0.04), is what shows that 100 digits are not all digits.
# - **The measure of copies has a limit**: it compares pixels, so a copy that is moved by two pixels is none.

# %% [markdown]
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the pictures above. While the dots stand, it tests our own solution, which is in the
# folded cell between the two.
#
# **Exercise 1 · In one dimension.** Write `my_distance(a, b)`: the squared Fréchet distance of the Gaussians fitted to
# two vectors of numbers, from their means and standard deviations, to 1%. (The vectors may have different lengths.)

# %%
my_distance = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_distance(a, b):
    return (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2


# %%
check("08.1", my_distance, solution_distance)

# %% [markdown]
# **Exercise 2 · Without the bias.** Somebody reports two distances of one model: `d_1` with `n_1` samples, and `d_2`
# with `n_2` samples. Write `my_limit(n_1, d_1, n_2, d_2)`, the distance for infinitely many samples, if the distance is
# a line in $1/n$, to four digits.

# %%
my_limit = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_limit(n_1, d_1, n_2, d_2):
    return (n_1 * d_1 - n_2 * d_2) / (n_1 - n_2)


# %%
check("08.2", my_limit, solution_limit)

# %% [markdown]
# **Exercise 3 · Copies in one number.** A median hides a model that copies one time in ten. Write `my_copied(distances,
# real_distances)`, from the distances of samples and of unseen real images to their nearest training images: the share,
# 0 to 1, of samples that are nearer to a training image than *any* unseen real image is. (A copy need not be exact: its
# distance is small, and rarely 0.) Which share do you expect for an honest model?

# %%
my_copied = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_copied(distances, real_distances):
    return (distances < real_distances.min()).double().mean()


# %%
check("08.3", my_copied, solution_copied)

# %%
share = float(solution_copied(in_pixels, of_real))
print(f"our model: a share of {share:.2f} of {len(in_pixels)} samples")
assert share < 0.02

# %% [markdown]
# An honest model has a share near 0. Its samples are like unseen real images, so of equally many of both, the nearest
# of all is a real image every second time, and many nearer samples are unlikely.
#
# ## What to remember
#
# - The Fréchet distance compares two Gaussians in the features of *some* network. Say which network. It is an FID only
#   with Inception's features.
# - It has a bias of about a constant divided by $n$: report n, floor and spread, and compare equal n only.
# - Every measure can be cheated; copies of the training set win nearly all of them. Report several measures.
# - A test for memorisation needs a baseline (unseen real images), the left end of the curve, and equal contrast.
# - On CIFAR-10 here: for a small network, 18 to 50 network evaluations give similar results, and a better network gains
#   from all of them; 4 to 8 evaluations need a rectified flow, whose distance is a tenth above its teacher's; guidance
#   improves the distance long after it has begun to cost diversity.
# - Larger is better, in both families; the transformer gains faster with compute and begins behind.
#
# **Next:** [09 · Inside Stable Diffusion](09_stable_diffusion.ipynb): the same loop, with a sentence as condition and
# on latents.
#
# ## References
#
# - M. Heusel et al. 2017, [GANs Trained by a Two Time-Scale Update Rule](https://arxiv.org/abs/1706.08500): the FID
#   (Eq. 6).
# - M. Bińkowski et al. 2018, [Demystifying MMD GANs](https://arxiv.org/abs/1801.01401): its bias (Section 4).
# - M. J. Chong, D. Forsyth 2020, [Effectively Unbiased FID and Inception Score and Where to Find
#   Them](https://arxiv.org/abs/1911.07023): extrapolation to infinitely many samples.
# - M. F. Naeem et al. 2020, [Reliable Fidelity and Diversity Metrics for Generative
#   Models](https://arxiv.org/abs/2002.09797): coverage (Eq. 4).
# - G. Stein et al. 2023, [Exposing Flaws of Generative Model Evaluation Metrics](https://arxiv.org/abs/2306.04675): how
#   metrics and human judgement differ, and memorisation that metrics miss.
# - T. Kynkäänniemi et al. 2023, [The Role of ImageNet Classes in Fréchet Inception
#   Distance](https://arxiv.org/abs/2203.06026): an FID improved without better pictures.
# - N. Carlini et al. 2023, [Extracting Training Data from Diffusion Models](https://arxiv.org/abs/2301.13188).
