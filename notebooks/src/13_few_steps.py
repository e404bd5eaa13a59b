# %% [markdown]
# # 13 · Few steps: learn the chord
#
# A sampler takes steps along straight lines, and the path from noise to data is curved. So notebook 05 needed 4 to 8
# steps, and its rectified flow nearly one. This notebook explains the whole family of few-step models by one idea:
# **train on the chord of the path instead of its tangent.** Reflow, progressive distillation, consistency models and
# shortcut models differ only in who says where the chord ends. You will train all of them on points in the plane, and
# compare them at 1, 2 and 4 network evaluations.
#
# **When you have worked through it, you can**
#
# - say why a single Euler step of a perfect flow model ends at the mean of the data;
# - write the identity from which every few-step method follows, and derive MeanFlow's from it;
# - name for each method its target, its teacher and its number of trainings;
# - explain why the boundary condition of a consistency model holds for an untrained network;
# - choose the sampler that fits a few-step model, and say what happens with the wrong one.
#
# *Beside you:* Song et al. 2023, [Consistency Models](https://arxiv.org/abs/2303.01469); Frans et al. 2024, [One Step
# Diffusion via Shortcut Models](https://arxiv.org/abs/2410.12557). Read notebook 05 first. About 40 minutes to read; it
# trains for half a minute.

# %%
import ipywidgets
import matplotlib.pyplot as plt
import torch

from diffusion_explained import (
    MLP,
    FlowSchedule,
    MLPConfig,
    TrainConfig,
    ddim,
    denoisers,
    euler,
    exact,
    final,
    gaussian_modes,
    heun,
    metrics,
    plots,
    toy,
    training,
    widgets,
)
from diffusion_explained.exercises import check
from diffusion_explained.measured import read_measured
from diffusion_explained.samplers import consistency
from diffusion_explained.training import Consistency, Progressive, Shortcut, chord

plt.rcParams["figure.dpi"] = 110
torch.set_num_threads(1)  # a batch of points is too little work to share among cores
schedule = FlowSchedule(t_distribution="uniform")
means, std = gaussian_modes("eight_gaussians")
data, _ = toy("eight_gaussians", 20_000, seed=0)
mixture = exact.GaussianMixture(means, std)


def noise(count, seed):
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


# %% [markdown]
# ## 1 · The tangent and the chord
#
# **Why is one step not enough, even for a perfect model?** We ask the exact denoiser of eight Gaussians, so no error of
# a network is involved. From the same twelve noises we take a hundred Euler steps, one Euler step, and one step along
# the *chord*: the straight line from the noise to the end of its path.

# %%
perfect, x_T, ends = exact.ExactDenoiser(mixture), noise(12, 0), {}
runs = {}
for name, n in (("100 steps", 100), ("1 step, tangent", 1)):
    steps = list(euler(perfect, x_T, schedule.levels(n)))
    runs[name], ends[name] = torch.stack([x_T, *(step.x_next for step in steps)]), steps[-1].x_next

first, last = schedule.levels(1)  # t = 1 and t = 0
x_0, eps = chord(x_T, ends["100 steps"], first, last)
runs["1 step, chord"] = torch.stack([x_T, last.alpha * x_0 + last.sigma * eps])
plots.trajectory_panels(runs, data=data[:2000], limit=2.4, title="One step along the tangent, and along the chord")
plt.show()

far = {name: float((end - data.mean(0)).norm(dim=1).max()) for name, end in ends.items()}
print(f"after one step along the tangent every point is near the mean of the data: {far['1 step, tangent'] < 0.2}")
assert far["1 step, tangent"] < 0.2 and float(ends["100 steps"].norm(dim=1).min()) > 0.9
torch.testing.assert_close(runs["1 step, chord"][-1], ends["100 steps"])

# %% [markdown]
# In pure noise the best prediction of $x_0$ is the mean of all data, and the tangent points there. The chord ends on
# the data by definition. A network that predicts chords would need a single step. The question of this notebook is how
# to train it.
#
# ## 2 · One identity for all methods
#
# Let the path of the flow lead from $x_t$ at time $t$ to $x_s$ at an earlier time $s$. The slope of its chord is the
# **mean velocity**
#
# $$
# u(x_t, t, s) = \frac{x_t - x_s}{t - s} = \frac{1}{t - s} \int_s^t v(x_\tau, \tau)\, d\tau ,
# \qquad u(x_t, t, t) = v(x_t, t) . \tag{shortcut, Eq. 3; MeanFlow, Eq. 3}
# $$
#
# <small>In code: `training.few_steps.chord`. Test:
# `tests/test_few_steps.py::TestChord::test_its_ddim_step_leads_from_the_one_point_to_the_other`.</small>
#
# Integrals add. So for any time $m$ between $s$ and $t$, a long way is two shorter ones, the second of which starts
# where the first one ends:
#
# $$
# \boxed{\; (t - s)\, u(x_t, t, s) = (t - m)\, u(x_t, t, m) + (m - s)\, u(x_m, m, s) \;}
# $$
#
# <small>In code: `training.shortcut.Shortcut`. Test:
# `tests/test_few_steps.py::TestShortcut::test_the_closed_form_is_the_minimum`.</small>
#
# <details><summary>Derivation, and its limit: MeanFlow</summary>
#
# Split the integral at $m$: $\int_s^t = \int_m^t + \int_s^m$. By the definition the first part is $(t - m)\, u(x_t, t,
# m)$, and the second one is $(m - s)\, u(x_m, m, s)$, because the path from $x_t$ passes through $x_m$. Now let $m$
# approach $t$. With $t - m = h$ the first way has the velocity $v$, and $(t - s)\, u(x_t, t, s) = h\, v + (t - s - h)\,
# u(x_t - h v,\, t - h,\, s)$. Expand the last factor to first order, $u(x_t - h v, t - h, s) = u - h\, (v \cdot
# \partial_x u + \partial_t u)$, and compare the terms with $h$:
#
# $$ u = v - (t - s)\, (v \cdot \partial_x u + \partial_t u), $$
#
# <small>In code: `exercises.few_steps.is_the_meanflow_target`. Test:
# `tests/answers/few_steps.py::meanflow`.</small>
#
# the MeanFlow identity (Geng et al. 2025, Eq. 6), whose right-hand side needs one derivative along a direction (a
# Jacobian-vector product).
# </details>
#
# Every method is a choice of $s$ and $m$, and of who walks each part:
#
# | method | $s$ | the way from $x_t$ to $x_s$ | teacher | trainings |
# |---|---|---|---|---|
# | flow matching (05) | $\to t$ | the line from $x_0$ to $\varepsilon$ | none | 1 |
# | reflow (05) | $0$, from $t = 1$ | many steps of a teacher | flow model | 1 |
# | progressive distillation | next of $n$ levels | two steps of a teacher that takes $2n$ | last student | several |
# | consistency | $0$ | to $x_m$ by data or teacher, on to $x_0$ by the network itself | none, or flow model | 1 |
# | shortcut | any | two half steps, $m = \frac{t + s}{2}$, of the network itself | none | 1 |
# | MeanFlow | any | the limit $m \to t$: velocity and derivative | none | 1 |
#
# The end of the way gives a pair $(\hat x_0, \hat\varepsilon)$, the two ends of the chord's line, and this pair takes
# the place of data and noise in the loss of notebook 05. The library call is `chord(x_t, x_s, level, next_level)`. We
# check it, and the boxed identity, where the mean velocity is known: for Gaussian data a point keeps its place relative
# to mean and spread (notebook 00, section 4).

# %%
centre, spread = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.4


def moved(x_t, t, s):
    """Where the flow of N(centre, spread²) takes x_t from the time t to the time s."""
    wide = [(((1 - time) * spread) ** 2 + time**2) ** 0.5 for time in (t, s)]
    return (1 - s) * centre + wide[1] / wide[0] * (x_t - (1 - t) * centre)


def u(x_t, t, s):
    return (x_t - moved(x_t, t, s)) / (t - s)


for seed, (t, m, s) in enumerate([(1.0, 0.5, 0.0), (0.9, 0.3, 0.2), (0.6, 0.55, 0.1)]):
    x_t = noise(100, seed).double()
    two_ways = (t - m) * u(x_t, t, m) + (m - s) * u(moved(x_t, t, m), m, s)
    torch.testing.assert_close((t - s) * u(x_t, t, s), two_ways)
    x_0, eps = chord(x_t, moved(x_t, t, s), schedule.level(t), schedule.level(s))
    torch.testing.assert_close(eps - x_0, u(x_t, t, s))  # the velocity of the line is the mean velocity
print("two ways add up to one, and the chord's velocity is the mean velocity")

# %% [markdown]
# ## 3 · Four trainings
#
# **The teacher** is a flow model, trained as in notebook 05. All of the following networks are this small MLP, trained
# by the library's `train`, which takes the method as an argument.


# %%
def fit(network, steps, points=data, **of_method):
    """Train for so many steps of 256 points; returns the model with the moving average of the weights."""
    config = TrainConfig(images=256 * steps, batch_size=256, learning_rate=3e-3, ema_decay=0.99, label_dropout=0)
    *_, record = training.train(network, points, None, schedule, "flow", config, record_every=steps, **of_method)
    return record.model


def copy_of(model):
    network = MLP(model.network.config)
    network.load_state_dict(model.network.state_dict())
    return network


torch.manual_seed(0)
teacher = fit(MLP(MLPConfig(width=96)), 900)
truth = mixture.sample(2000, torch.Generator().manual_seed(50))[0]
far = {n: metrics.sliced_wasserstein(final(euler(teacher.denoiser(), noise(2000, 0), schedule.levels(n))), truth)
       for n in (1, 16)}  # fmt: skip
print("the teacher's distance to the data, by steps:", {n: round(d, 1) for n, d in far.items()})
assert far[1] > 0.7 and far[16] < 0.1

# %% [markdown]
# **Reflow.** The way is the teacher's whole path, in 16 steps of Heun's method; `train(noise=...)` joins each noise
# with its end. (For pictures, `training.reflow.draw_pairs` keeps the pairs on disk.)

# %%
starts = noise(20_000, 1)
path_ends = final(heun(teacher.denoiser(), starts, schedule.levels(16)))
models = {"reflow": fit(copy_of(teacher), 400, path_ends, noise=starts)}

# %% [markdown]
# **Progressive distillation.** The teacher takes $2n$ DDIM steps, and the student learns the chord across two of them.
# Then the student is the teacher, and $n$ is halved. We begin with the flow model in 16 steps. The first lines check
# the target: from $x_1$, one step along the chord ends where two steps of the teacher end.

# %%
for seed in range(3):
    x_1, levels = noise(100, seed), schedule.levels(16)
    two_steps = final(ddim(teacher.denoiser(), x_1, levels[:3]))
    x_0, eps = chord(x_1, two_steps, levels[0], levels[2])
    torch.testing.assert_close(levels[2].alpha * x_0 + levels[2].sigma * eps, two_steps)

students, model = {}, teacher
for n in (8, 4, 2, 1):
    students[n] = model = fit(copy_of(model), 200, method=Progressive(model, n))

x_1 = noise(1000, 2)
of_teacher = final(ddim(teacher.denoiser(), x_1, schedule.levels(16)))
for n, student in students.items():
    apart = (final(ddim(student.denoiser(), x_1, schedule.levels(n))) - of_teacher).norm(dim=1).median()
    print(f"{n} steps of a student end where 16 of the teacher do, half of them within 0.15: {bool(apart < 0.15)}")
    assert apart < 0.15

# %% [markdown]
# **Consistency distillation.** The network's predicted $\hat x_0$ is to be the end of the path, from *every* point of
# the path: $f(x_t, t) = f(x_m, m)$. One step of the teacher leads from $x_t$ to $x_m$, and the network itself, without
# gradients, says where it goes on from there. What keeps it from answering a constant? The **boundary condition**
# $f(x, 0) = x$. With $f(x_t, t) = x_t - t\, F(x_t, t)$ it holds for every network $F$, an untrained one included:

# %%
untrained, clean = MLP(MLPConfig(width=96)), schedule.levels(1)[-1]
torch.nn.init.normal_(untrained.head.weight)
f = denoisers.NetworkDenoiser(untrained, schedule, "flow")
for seed in range(3):
    assert torch.equal(f(noise(100, seed), clean).x_0, noise(100, seed))

models["consistency"] = fit(copy_of(teacher), 900, method=Consistency(schedule, teacher))

# %% [markdown]
# The figure follows 200 paths of the teacher, and asks both networks at each point: where will this end?

# %%
path = list(euler(teacher.denoiser(), noise(200, 3), schedule.levels(50)))
wrong = {
    name: [float((model.denoiser()(step.x_t, step.level).x_0 - path[-1].x_next).norm(dim=1).mean()) for step in path]
    for name, model in (("flow model", teacher), ("consistency model", models["consistency"]))
}
plots.curves({name: ([step.level.t for step in path], far) for name, far in wrong.items()},
             title="How far the predicted x₀ is from the end of the path", xlabel="t", ylabel="distance")  # fmt: skip
plt.show()
noisy_half = {name: sum(far[:25]) / 25 for name, far in wrong.items()}
less = noisy_half["consistency model"] < noisy_half["flow model"] / 3
print(f"in the noisy half of the path the consistency model is less than a third as far off: {less}")
assert less

# %% [markdown]
# The flow model answers with the mean of what is still possible, and only late decides for one end. The consistency
# model knows the end from the start. Without a teacher (*consistency training*, `Consistency(schedule)`), $x_m$ is
# noised data with the same $x_0$ and $\varepsilon$ as $x_t$; this is right in the mean, and noisier.
#
# **Shortcut.** One network of two times, trained from scratch in one phase: three quarters of each batch are flow
# matching ($s = t$), a quarter is the boxed identity with the network's own half steps. At each step of the sampler the
# network is given the next level; `JumpDenoiser` does that.

# %%
torch.manual_seed(1)
models["shortcut"] = fit(MLP(MLPConfig(width=96, two_times=True)), 1000, method=Shortcut(schedule, most_steps=32))

# %% [markdown]
# ## 4 · The leaderboard
#
# Each model with its own sampler, at 1, 2 and 4 network evaluations; the flow model's ODE at the same cost beside them.
# Five draws of 2,000 points each; the measure is the sliced Wasserstein distance to as many points of the data, whose
# floor is the distance of two draws of the data. The consistency model has a sampler of its own: it jumps to $\hat
# x_0$, adds *new* noise up to the next level, and jumps again (Song et al., Algorithm 1).


# %%
def drawn(name, n, seed, count=2000):
    """Points of the named model in n network evaluations."""
    x_T, levels = noise(count, seed), schedule.levels(n)
    if name == "consistency":
        again = torch.Generator().manual_seed(100 + seed)
        return final(consistency(models[name].denoiser(), x_T, levels, generator=again))
    if name == "shortcut":
        return final(euler(denoisers.JumpDenoiser(models[name].network, schedule, levels), x_T, levels))
    model = {"flow model, Euler": teacher, "progressive": students.get(n)}.get(name) or models[name]
    return final(euler(model.denoiser(), x_T, levels))


def distances(draw):
    """The distances of five draws to five draws of the data."""
    truths = [mixture.sample(2000, torch.Generator().manual_seed(50 + k))[0] for k in range(5)]
    return torch.tensor([metrics.sliced_wasserstein(draw(k), truth) for k, truth in enumerate(truths)])


names, counts = ("flow model, Euler", "reflow", "progressive", "consistency", "shortcut"), (1, 2, 4)
board = {name: {n: distances(lambda k, name=name, n=n: drawn(name, n, k)) for n in counts} for name in names}
floor = distances(lambda k: mixture.sample(2000, torch.Generator().manual_seed(80 + k))[0])
ax = plots.curves({name: (counts, [float(d.mean()) for d in row.values()]) for name, row in board.items()}, log="xy",
                  title="Quality at 1, 2 and 4 network evaluations", xlabel="network evaluations", ylabel="distance",
                  reference=("two draws of the data", float(floor.mean()))).axes[0]  # fmt: skip
ax.set_xticks(counts, [str(n) for n in counts])
ax.set_xticks([], minor=True)
plt.show()


def said(d):
    return "under 0.15" if d.mean() < 0.15 else "over 0.15"


for name, row in board.items():
    print(f"{name:<18}", ", ".join(f"{n}: {said(d)}" for n, d in row.items()))
for name in names[1:]:
    for n in (1, 2):  # better than the flow model at the same cost, by far more than four standard errors
        error = (board[name][n].var() / 5 + board[names[0]][n].var() / 5) ** 0.5
        assert board[names[0]][n].mean() - board[name][n].mean() > max(4 * error, 0.15)
    assert board[name][1].mean() < 0.1

# %% [markdown]
# **One evaluation is enough for all four**, where the flow model needs more than four. On points in the plane the four
# methods are close to each other and to their teacher; this small problem does not rank them. Their *costs* differ:
# reflow needs the teacher's paths for every training point, progressive distillation four trainings, consistency
# distillation one evaluation of the teacher per training point, and the shortcut model no teacher at all.
#
# ### Interactive: the points themselves
#
# The outcome of each model at each cost. Which errors are of the model (points between the modes), and which are of the
# step (a ring that is too small)?

# %%
explore_names = ipywidgets.Dropdown(options=names, value="reflow", description="model")
explore_counts = ipywidgets.SelectionSlider(options=counts, value=1, description="evaluations")


def points_of(name, n):
    panels = {f"{name}, {n} evaluation{'s' * (n > 1)}": drawn(name, n, 0, 1000)}
    return plots.point_panels(panels, data=data[:2000])


widgets.explore(points_of, name=explore_names, n=explore_counts)

# %% [markdown]
# ## 5 · What can go wrong: the wrong sampler
#
# A few-step model must be sampled as it was trained. Two mistakes, measured with the same five draws. **Euler's method
# with a consistency model**: after the first step its prediction is the end of *one* path, and Euler's next step uses
# it as if it were a mean of many. **A progressive student at levels that it was not trained for**: the one-step student
# saw only $t = 1$.

# %%
mistakes = {
    "consistency model, its sampler": lambda n, k: drawn("consistency", n, k),
    "consistency model, Euler": lambda n, k: final(
        euler(models["consistency"].denoiser(), noise(2000, k), schedule.levels(n))
    ),
    "progressive, student of n steps": lambda n, k: drawn("progressive", n, k),
    "progressive, student of 1 step": lambda n, k: final(
        euler(students[1].denoiser(), noise(2000, k), schedule.levels(n))
    ),
}
far = {name: [distances(lambda k, draw=draw, n=n: draw(n, k)) for n in counts] for name, draw in mistakes.items()}
ax = plots.curves({name: (counts, [float(d.mean()) for d in row]) for name, row in far.items()}, log="x",
                  title="The right sampler, and the wrong one", xlabel="network evaluations",
                  ylabel="distance").axes[0]  # fmt: skip
ax.set_xticks(counts, [str(n) for n in counts])
ax.set_xticks([], minor=True)
plt.show()
for right, wrong in (list(mistakes)[:2], list(mistakes)[2:]):
    worse = far[wrong][2].min() > 1.5 * far[right][2].max()  # in each of five draws, at four evaluations
    print(f"{wrong}: at 4 evaluations worse than {right}, in every draw: {bool(worse)}")
    assert worse and far[wrong][2].mean() > far[wrong][0].mean()

# %% [markdown]
# With the wrong sampler, *more* steps make the result worse. A library that hides which sampler belongs to which model
# invites this mistake.
#
# ## 6 · On pictures
#
# No consistency or shortcut model of pictures ships with this package; its few-step model of pictures is the rectified
# flow of notebook 05. `benchmarks/quality.py` measured it with 10,000 samples per row, by the Fréchet distance in the
# features of our classifier (lower is better; real test pictures have 1.4; ± is the spread of such sets):

# %%

rows = [row for row in read_measured("samplers")["rows"] if row["sampler"] == "euler"]
far = {}
for name, w, shown in (("cifar10_unet_flow", 2.0, (4, 8, 50)), ("cifar10_unet_reflow", 1.0, (1, 2, 4, 8))):
    of_name = {row["num_inference_steps"]: row for row in rows if (row["model"], row["guidance_scale"]) == (name, w)}
    far[name] = {n: of_name[n]["frechet_distance"] for n in shown}
    spread_of = {n: of_name[n]["frechet_spread"] for n in shown}
    print(f"{name}, w = {w:g}:", ", ".join(f"{n} steps {far[name][n]:.1f} ± {spread_of[n]:.1f}" for n in shown))
assert far["cifar10_unet_reflow"][1] < far["cifar10_unet_flow"][8] / 2

# %% [markdown]
# On pictures the methods do differ. Published consistency, shortcut and MeanFlow models of ImageNet take days on many
# GPUs; their papers report which is best at which cost.
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · The chord.** Write `my_chord(x_t, x_s, level, next_level)`, the pair $(x_0, \varepsilon)$ with $x_t =
# \alpha_t x_0 + \sigma_t \varepsilon$ and $x_s = \alpha_s x_0 + \sigma_s \varepsilon$. It must work for any schedule,
# and for a clean `next_level`.

# %%
my_chord = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_chord(x_t, x_s, level, next_level):
    ratio = next_level.sigma / level.sigma
    x_0 = (x_s - ratio * x_t) / (next_level.alpha - ratio * level.alpha)
    return x_0, (x_t - level.alpha * x_0) / level.sigma


# %%
check("13.1", my_chord, solution_chord)

# %% [markdown]
# **Exercise 2 · The target of a consistency model.** Write `my_target(f, x_0, eps, t, s)`: the target for $f(x_t, t)$
# in consistency training on the straight path. `f(x, t)` is the network's predicted end; call it once.

# %%
my_target = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_target(f, x_0, eps, t, s):
    return f((1 - s) * x_0 + s * eps, s)


# %%
check("13.2", my_target, solution_target)

# %% [markdown]
# **Exercise 3 · Two half steps.** Write `my_shortcut(u, x_t, t, s)`: the target of a shortcut model for $u(x_t, t, s)$,
# from two half steps of `u(x, t, s)` itself.

# %%
my_shortcut = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_shortcut(u, x_t, t, s):
    m = (t + s) / 2
    first = u(x_t, t, m)
    x_m = x_t - (t - m) * first
    return (first + u(x_m, m, s)) / 2


# %%
check("13.3", my_shortcut, solution_shortcut)

# %% [markdown]
# **Exercise 4 · MeanFlow's target.** Write `my_meanflow(u, x_t, t, s, v)`, the right-hand side of the MeanFlow identity
# (section 2, the derivation there). `v` is the velocity at $x_t$, a tensor; `t` and `s` are numbers, and `u` also
# takes tensors for them. Either use `torch.func.jvp`, or a difference quotient along the path.

# %%
my_meanflow = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_meanflow(u, x_t, t, s, v):
    t = torch.tensor(t, dtype=x_t.dtype)
    _, slope = torch.func.jvp(lambda x, time: u(x, time, s), (x_t, t), (v, torch.ones_like(t)))
    return v - (t - s) * slope


# %%
check("13.4", my_meanflow, solution_meanflow)

# %% [markdown]
# ## What to remember
#
# - The tangent at pure noise points to the mean of the data; the chord points to a sample.
# - A long way is two shorter ones: every few-step method uses this, and differs in who walks them.
# - A pair $(\hat x_0, \hat\varepsilon)$ is all that a method changes; loss, network and training loop stay.
# - The boundary condition is built into the parameterisation, not learned.
# - A few-step model belongs to its sampler.
#
# **Next:** [14 · Guidance in general, and inverse problems](14_guidance_inverse_problems.ipynb): whatever is known
# about an image guides its sampling.
#
# ## References
#
# - T. Salimans, J. Ho 2022, [Progressive Distillation for Fast Sampling of Diffusion
#   Models](https://arxiv.org/abs/2202.00512): Algorithm 2.
# - Y. Song, P. Dhariwal, M. Chen, I. Sutskever 2023, [Consistency Models](https://arxiv.org/abs/2303.01469): Eq. 7, Eq.
#   10, Algorithm 1.
# - Z. Geng et al. 2024, [Consistency Models Made Easy](https://arxiv.org/abs/2406.14548): start from a diffusion model,
#   and shrink the gap.
# - K. Frans et al. 2024, [One Step Diffusion via Shortcut Models](https://arxiv.org/abs/2410.12557): Eq. 3 to 5.
# - Z. Geng et al. 2025, [Mean Flows for One-step Generative Modeling](https://arxiv.org/abs/2505.13447): Eq. 3, Eq. 6.
# - X. Liu, C. Gong, Q. Liu 2023, [Flow Straight and Fast](https://arxiv.org/abs/2209.03003): reflow (Sec. 2.2).
