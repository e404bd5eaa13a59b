# %% [markdown]
# # 20 · Beyond images
#
# Nothing in the forward process, the loss or the samplers asks whether a tensor is a picture. Then which other data can
# be drawn from noise, what has to be added for each kind, and how does one find out whether a clip, a voice or a chair
# is right? In this notebook the samplers that draw digits draw **video**, **sound**, **shapes** and **molecules**, each
# with a small network that was trained for it and comes with the package.
#
# **When you have worked through it, you can**
#
# - say what changes from one kind of data to another (the representation, the network, the measure) and what does not;
# - explain attention over time, and test whether sixteen good pictures are a video;
# - turn a second of sound into a picture and back, and say what is lost on the way;
# - say what a set is, how a network respects it, and compare two clouds of points;
# - make a network that turns its molecule when the noise is turned, and say what makes a molecule valid;
# - give each kind of data an honest number: real data as the floor and chance on the other side.
#
# *Beside you:* Ho et al. 2022, [Video Diffusion Models](https://arxiv.org/abs/2204.03458); Yang et al. 2019,
# [PointFlow](https://arxiv.org/abs/1906.12320); Hoogeboom et al. 2022, [Equivariant Diffusion for Molecule Generation
# in 3D](https://arxiv.org/abs/2203.17003). Read notebooks 01 and 05 first. About 45 minutes to read, under half a
# minute to run.

# %%
import ipywidgets
import matplotlib.pyplot as plt
import torch

from diffusion_explained import FlowSchedule, add_noise, beyond, euler, final, noise, plots, widgets
from diffusion_explained.exercises import check

plt.rcParams["figure.dpi"] = 100

# %% [markdown]
# ## 1 · One engine
#
# A noisy tensor is a weighted sum of data and noise, number by number. The shape of the data does not occur in it:
#
# $$
# x_t = \alpha_t\, x_0 + \sigma_t\, \epsilon , \qquad \epsilon \sim \mathcal N(0, I) , \qquad x_0 \in \mathbb
# R^{\text{any shape}} . \tag{DDPM, Eq. 4}
# $$
#
# <small>In code: `forward.add_noise`. Test:
# `tests/test_forward.py::test_add_noise_takes_one_level_an_image`.</small>
#
# A *kind* of data is whatever must be said beside that: how an item is made, which shape it has, which numbers measure
# it, and what sort of file keeps it. The list below is the whole difference between the four models of this notebook.
# One call is the same for all of them: `load_beyond(name).sample(labels, seed=...)`.

# %%
level = FlowSchedule().level(0.5)
data = {name: beyond.kinds.as_float(kind.data(20, seed=0, split="test")) for name, kind in beyond.KINDS.items()}
models = {name: beyond.load_beyond(name) for name in beyond.KINDS}
for name, kind in beyond.KINDS.items():
    x_0 = data[name].x_0
    x_t = add_noise(x_0, noise.randn(x_0.shape, noise.generators(len(x_0), 0)), level)
    weights = sum(p.numel() for p in models[name].network.parameters())
    print(f"{name:>9}: {list(kind.shape)!s:>15}, {len(kind.class_names)} classes, file {next(iter(kind.writers))}; "
          f"{type(models[name].network).__name__}, {weights / 1e6:.1f} million weights")  # fmt: skip
    rest = (x_t - level.alpha * x_0) / level.sigma
    spread = 4 / x_0.numel() ** 0.5  # four standard errors of the mean of so many numbers
    assert x_t.shape == x_0.shape and abs(float(rest.mean())) < spread and abs(float(rest.std()) - 1) < spread

# %% [markdown]
# ## 2 · Video
#
# **The picture.** Our videos are made by code: a handwritten digit moves on a straight line, slowly or fast, and
# bounces at the edges. Each coordinate of its corner is
#
# $$
# p(t) = \operatorname{fold}(p_0 + v t) , \qquad \operatorname{fold}: \text{reflect at both edges, as often as needed} .
# $$
#
# <small>In code: `beyond.video.fold`. Test:
# `tests/test_beyond_video.py::test_a_path_is_reflected_at_both_edges`.</small>

# %%
video, clips = models["video"], data["video"]
seen = [0, 3, 6, 9, 12, 15]
plots.filmstrip(
    {video.class_names[k]: clips.x_0[k][:, seen].transpose(0, 1) for k in (3, 13)},
    captions=[f"frame {k + 1}" for k in seen], title="Real clips: a slow and a fast 3",
)  # fmt: skip
plt.show()
moved = beyond.video.centres(clips.x_0[[3, 13]]).diff(dim=1).norm(dim=-1).median(1).values
print(f"the digit moves by {moved[0]:.2f} and {moved[1]:.2f} pixels per frame; its classes say 0.75 and 2")
assert abs(moved[0] - 0.75) < 0.1 and abs(moved[1] - 2) < 0.2

# %% [markdown]
# **The question.** Sixteen frames are sixteen pictures. What makes them *one* clip, with the same 3 in every frame, on
# one line?
#
# **The idea.** The network must compare frames. Attention between all patches of all frames would do, but its cost
# grows with the square of their number (1,024 here). So blocks take turns: a block of *space* compares the patches of a
# frame, a block of *time* compares the same place in all frames:
#
# $$
# A = \operatorname{softmax}\left( q k^\top / \sqrt d \right) \in \mathbb R^{16 \times 16} , \qquad \text{one for each
# place and head} . \tag{Vaswani et al. 2017, Eq. 1}
# $$
#
# <small>In code: `beyond.clips.time_attention`. Test:
# `tests/test_beyond_video.py::test_attention_over_time_is_that_of_the_blocks_of_time`.</small>
#
# How far does a frame look, at high noise and at low noise? The figure shows the mean weight by the number of frames
# between two frames; without any preference it would be 1/16.

# %%
apart = (torch.arange(16)[:, None] - torch.arange(16)).abs()
looks = {}
for t in (0.9, 0.5, 0.1):
    level = video.schedule.level(t)
    x_t = add_noise(clips.x_0[3:4], noise.randn((1, *video.image_shape), noise.generators(1, 0)), level)
    time = video.schedule.network_time(level.t).expand(1)
    maps = beyond.clips.time_attention(video.network, x_t, time, torch.tensor([3]))  # [layers, 1, heads, 16, 16]
    assert torch.allclose(maps.sum(-1), torch.ones(maps.shape[:-1]), atol=1e-4)
    mean = maps.mean((0, 1, 2))
    looks[f"t = {t}"] = (torch.arange(16), torch.stack([mean[apart == k].mean() for k in range(16)]))
plots.curves(looks, title="Attention over time", xlabel="frames between two frames", ylabel="mean weight",
             reference=("no preference", 1 / 16))  # fmt: skip
plt.show()
for name, (_, weight) in looks.items():
    near_by = weight[:2].mean() / weight[8:].mean()
    print(f"{name}: {near_by:.1f} times as much to the same and the next frame as to those 8 or more away")

# %% [markdown]
# **One call.** The scrubber goes through the steps of the sampler: every frame appears at the same time, at first as a
# blurred path along which the digit might move. Nothing is drawn from the first frame to the last.

# %%
steps = list(video.steps([3, 13], num_inference_steps=8, sampler="dpm_solver_pp_2m", seed=0))
drawn = steps[-1].x_next
widgets.scrub(plots.clip_film(steps))

# %% [markdown]
# And this slider goes through the *frames* of the finished clips:

# %%
widgets.scrub(plots.frame_film(drawn), frame=0)

# %% [markdown]
# **The check.** Two numbers that look alike and are not. *Class kept*: the share of frames in which the classifier of
# notebook 08's digits names the right digit. *Path error*: the distance of the digit's centre from the nearest path
# that bounces. Real clips are the floor. To see what each number measures, the frames of the real clips are also put
# into a random order.

# %%
order = torch.randperm(16, generator=noise.stream(0))
one = beyond.Data(clips.x_0[:20], clips.labels[:20])
sets = {
    "drawn, 8 steps": beyond.Data(drawn, torch.tensor([3, 13])),
    "real": one,
    "real, frames out of order": beyond.Data(one.x_0[:, :, order], one.labels),
    "chance": beyond.video.shuffled(one, noise.stream(0)),
}
found = {name: beyond.video.measure_clips(ones) for name, ones in sets.items()}
for name, numbers in found.items():
    kept, error = numbers["class_kept"], numbers["path_error"]
    print(f"{name:>25}: class kept in {kept:4.0%} of the frames, path error {error:.1f} pixels")
assert found["real, frames out of order"]["class_kept"] == found["real"]["class_kept"] > 0.95
assert found["real, frames out of order"]["path_error"] > 5 * found["real"]["path_error"]
assert found["drawn, 8 steps"]["class_kept"] > 0.5 and found["drawn, 8 steps"]["path_error"] < 2
best = video.card["evaluation"][0]
print(f"measured with {best['n']} samples and {best['settings']['num_inference_steps']} steps: class kept "
      f"{best['samples']['class_kept']:.1%} (real {best['real']['class_kept']:.1%}), path error "
      f"{best['samples']['path_error']:.2f} pixels (real {best['real']['path_error']:.2f})")  # fmt: skip

# %% [markdown]
# A measure that sees one frame at a time cannot know whether there is motion. (The same holds for a Fréchet distance of
# frames; video has one of its own, with the features of a network that sees clips.)
#
# **Image to video.** If the first frame is known, it is a hole in reverse: keep it, and paint the other fifteen. It is
# the replacement method of notebook 14, and the network was not trained for it:

# %%
first = clips.x_0[5:6, :, 0]
*_, last = beyond.clips.continue_frame(video, first, [5], num_inference_steps=8, resamplings=1, seed=1)
rows = {"real": clips.x_0[5], "continued": last.x_next[0]}
plots.filmstrip({name: clip[:, seen].transpose(0, 1) for name, clip in rows.items()},
                captions=[f"frame {k + 1}" for k in seen], title="The first frame is given")  # fmt: skip
plt.show()
jump = beyond.video.centres(last.x_next).diff(dim=1).norm(dim=-1)[0]
print(f"from the given frame to the next the digit moves by {jump[0]:.1f} pixels, later by {jump[1:].median():.1f}")
assert torch.equal(last.x_next[:, :, 0], first)

# %% [markdown]
# **What can go wrong.** *Good frames, no video* (above). *The class fades*: without guidance only two frames in three
# keep their digit, with the scale 3 nearly all do. *A first frame that is replaced, not understood*: the known frame
# takes part only through the noisy clip, so the second frame need not fit it; notebook 14 shows why. *Longer clips than
# those of training*: the embedding of time knows sixteen frames.
#
# ## 3 · Sound
#
# **The picture.** A second of sound is 8,064 numbers between -1 and 1. Cut it into windows, take the strength of each
# frequency in each of them, and sum the frequencies in 64 bands that are equally wide for our ears. In decibels, scaled
# to [-1, 1], it is a picture with one grey channel, a *log-mel spectrogram*:
#
# $$
# x = \operatorname{clip}\left( 1 + \tfrac{2}{70} \cdot 20 \log_{10} \left( M\, |\mathrm{STFT}(w)| \right) \right) .
# $$
#
# <small>In code: `beyond.spectrograms.log_mel`. Test:
# `tests/test_beyond_sound.py::test_a_tone_is_one_band_of_the_spectrogram`.</small>

# %%
speech, spoken = models["sound"], data["sound"]
plots.image_grid(spoken.x_0[:10].flip(2), captions=beyond.sound.WORDS, columns=5, tile=1.4,
                 title="Real words: time to the right, high frequencies above")  # fmt: skip
plt.show()
assert spoken.x_0.shape == (20, 1, 64, 64) and float(spoken.x_0.min()) == -1

# %% [markdown]
# **The question.** A network can draw such pictures: it is the U-Net of the digits. But can one *hear* them? Each
# window's phases were thrown away, and 64 bands are fewer numbers than 257 frequencies.
#
# **The idea.** Windows overlap, so most choices of phases contradict each other. Griffin and Lim start with random
# phases and go to and fro: make the wave that fits best, take *its* phases, keep the magnitudes that are known:
#
# $$
# c_n = \mathrm{STFT}\left( \mathrm{ISTFT}\left( m\, e^{i \angle t_{n-1}} \right) \right) , \qquad t_n = c_n + 0.99\,
# (c_n
# - c_{n-1}) .
# $$
#
# <small>In code: `beyond.spectrograms.griffin_lim`. Test:
# `tests/test_beyond_sound.py::test_griffin_lim_finds_phases_that_fit`.</small>

# %%
seven = spoken.x_0[7:8]
magnitude, errors = beyond.spectrograms.to_magnitude(seven), {}
for n in (0, 1, 3, 10, 30, 60):
    heard = beyond.spectrograms.log_mel(beyond.spectrograms.griffin_lim(magnitude, iterations=n))
    errors[n] = float((heard - seven).square().mean().sqrt()) * beyond.spectrograms.FLOOR / 2
plots.curves({"seven": (list(errors), list(errors.values()))}, title="What Griffin-Lim repairs", xlabel="iterations",
             ylabel="decibels from the spectrogram")  # fmt: skip
plt.show()
print(f"random phases: {errors[0]:.0f} decibels, 60 iterations: {errors[60]:.1f}")
assert errors[60] < errors[3] < errors[0]

# %% [markdown]
# **Hear the forward process.** Noise is added to the *spectrogram*, and each state is made audible. Noise in the
# spectrogram is not hiss: it is bursts at random places of time and frequency.

# %%
players = {}
for t in (0.0, 0.3, 0.6, 0.9):
    level = speech.schedule.level(t)
    x_t = add_noise(seven, noise.randn(seven.shape, noise.generators(1, 0)), level)
    wave = beyond.spectrograms.to_wave(x_t)[0]
    players[f"a voice says seven, t = {t}: {level.alpha:.0%} data, {level.sigma:.0%} noise"] = (
        beyond.spectrograms.wav_bytes(0.5 * wave)
    )
    assert wave.shape == (8064,)
widgets.Sounds(players)

# %% [markdown]
# **One call**, and the way back as a sound:

# %%
steps = list(speech.steps([7], num_inference_steps=10, seed=3))
states = {"the noise at the start": steps[0].x_t, "after 5 of 10 steps": steps[4].x_next}
states["after 10 steps: a voice says seven"] = steps[-1].x_next
widgets.Sounds(
    {words: beyond.spectrograms.wav_bytes(0.5 * beyond.spectrograms.to_wave(x)[0]) for words, x in states.items()}
)

# %% [markdown]
# **The check.** A classifier that was trained on other voices names the *wave*, not the spectrogram, because the wave
# is what is heard. Real words in voices that neither has heard are the floor:

# %%
drawn = speech.sample(list(range(10)), num_inference_steps=8, seed=0)
right = {
    "drawn, 8 steps": beyond.sound.named(drawn) == torch.arange(10),
    "real": beyond.sound.named(spoken.x_0[:10]) == spoken.labels[:10],
}
for name, ones in right.items():
    print(f"{name}: {int(ones.sum())} of {len(ones)} named right; by chance one in ten")
best = speech.card["evaluation"][0]
shares = [best[name]["named"] for name in ("samples", "real", "chance")]
print(f"measured with {best['n']} samples and {best['settings']['num_inference_steps']} steps: "
      f"{shares[0]:.1%} (real {shares[1]:.1%}, chance {shares[2]:.1%})")  # fmt: skip
plots.image_grid(drawn.flip(2), captions=beyond.sound.WORDS, columns=5, tile=1.4, title="Drawn words, seeds 0 to 9")
plt.show()
assert int(right["drawn, 8 steps"].sum()) >= 8 and int(right["real"].sum()) >= 9

# %% [markdown]
# **What can go wrong.** *A judge that reads the spectrogram*: it never hears what Griffin-Lim spoils. *A judge of the
# same voices*: it knows the voice, not the word. *Named right is not natural*: a robot is named right; nobody has asked
# listeners here. *Silence*: black is silence exactly, and a network that is off by 2% puts a whisper there. *The
# error in decibels*: it does not hear phases at all, because a spectrogram has none.
#
# ## 4 · Shapes
#
# **The picture.** A shape is a cloud of 1,024 points on its surface. Eight classes are made by code: five solids, and
# chairs, tables and lamps put together from parts. (The film is seen from one side; nearer points are darker.)

# %%
shapes, clouds = models["shapes"], data["shapes"]
steps = list(shapes.steps([4, 5, 6, 7], num_inference_steps=12, sampler="dpm_solver_pp_2m", seed=0))
made = steps[-1].x_next
widgets.scrub(plots.cloud_film(steps))

# %% [markdown]
# **The question.** A cloud is a *set*: list its points in another order and it is the same chair. A picture has a first
# pixel; a cloud has no first point. What kind of network sees that?
#
# **The idea.** One that treats all points alike. Attention does, as long as nobody numbers the positions:
#
# $$
# f(P x) = P f(x) \qquad \text{for every permutation } P .
# $$
#
# <small>In code: `models.PointSet`. Test:
# `tests/test_beyond_shapes.py::test_the_network_does_not_know_the_order_of_the_points`.</small>
#
# The noise has this symmetry too: independent noise for each point. So the whole sampler has it: the start in another
# order gives the same shape, in that order.

# %%
start = shapes.noise(1, seed=5)
order = torch.randperm(1024, generator=noise.stream(1))
time = torch.tensor([700.0])
with torch.no_grad():
    plain, permuted = (shapes.network(x, time, torch.tensor([5])) for x in (start, start[:, order]))
gap, change = float((plain[:, order] - permuted).abs().max()), float((plain[:, order] - plain).abs().max())
print(f"f(P x) differs from P f(x) by less than {1e-3}: {gap < 1e-3}; P f(x) from f(x) by {change:.0f}")
assert gap < 1e-3 < change

# %% [markdown]
# **The check.** Two clouds have no points in common, so they are compared by nearest neighbours, the *Chamfer
# distance*:
#
# $$
# \mathrm{CD}(P, Q) = \frac1{|P|} \sum_{p \in P} \min_{q \in Q} \lVert p - q \rVert^2 + \frac1{|Q|} \sum_{q \in Q}
# \min_{p \in P} \lVert p - q \rVert^2 . \tag{Fan et al. 2017, Sec. 3.2}
# $$
#
# <small>In code: `beyond.shapes.chamfer`. Test:
# `tests/test_beyond_shapes.py::test_chamfer_is_the_mean_of_nearest_squares_both_ways`.</small>

# %%
reference = beyond.KINDS["shapes"].data(160, seed=1, split="test")
to_real = beyond.shapes.chamfer_table(made[:, :256], reference.x_0[:, :256])  # [4, 160], of a quarter of the points
nearest = to_real.argmin(1)
for k, cloud in enumerate(nearest.tolist()):
    wanted, found = shapes.class_names[4 + k], shapes.class_names[int(reference.labels[cloud])]
    print(f"a drawn {wanted} is nearest to a real {found}, at {to_real[k].min():.2f}; the farthest real one is at "
          f"{to_real[k].max():.2f}")  # fmt: skip
within = float(beyond.shapes.chamfer(clouds.x_0[:1], clouds.x_0[:1][:, order]))
print(f"a real cloud and itself in another order: {within:.3f}")
kept = int((reference.labels[nearest] == torch.arange(4, 8)).sum())
assert kept >= 3 and within < 1e-4
for row in shapes.card["evaluation"][:2]:
    sampler, n = row["settings"]["sampler"], row["settings"]["num_inference_steps"]
    told = [row[name]["one_nn"] for name in ("samples", "real", "chance")]
    print(f"{sampler}, {n} steps: told from real ones in {told[0]:.1%} (real {told[1]:.1%}, chance {told[2]:.0%})")

# %% [markdown]
# The last number asks more: for each cloud of samples and real ones together, is its nearest neighbour of its own set?
# Half of the time is the best: then nobody can tell them apart. It is lower than one half if samples are *copies*.
#
# ### Interactive: turn the shapes
#
# The kernel draws them from the side that you choose.


# %%
def turned(degrees):
    """The four drawn shapes, seen from another side."""
    fig, axes = plots.figure(8.0, 2.3, "light")
    axes[0, 0].imshow(plots.cloud_sheet(made, turn=float(degrees)))
    axes[0, 0].set_axis_off()
    fig.set_label(f"A torus, a chair, a table and a lamp: four clouds of 1,024 points, turned by {degrees} degrees")
    return fig


widgets.explore(turned, degrees=ipywidgets.IntSlider(30, min=0, max=360, step=15, description="degrees"))

# %% [markdown]
# **What can go wrong.** *A loss between clouds by index*: point 7 of one cloud has nothing to do with point 7 of
# another; here the loss is at each point's *own noise*, and no matching is needed. *Chamfer alone*: it forgives uneven
# density, because it only asks for the nearest point. *One good chair for every noise*: the distance to the nearest
# real chair stays small while all samples are one chair; coverage sees it. *Few steps*: surfaces become thick long
# before the class is lost.
#
# ## 5 · Molecules
#
# **The picture.** A molecule is a set of atoms, each with a position and an element: carbon, nitrogen, oxygen or
# fluorine. Hydrogens are left out, as in a chemist's drawing. Our molecules have up to nine atoms; they were grown at
# random by code, and a force field placed their atoms. An item is a row of eight numbers per atom: the position,
# whether there is an atom, and one number per element.

# %%
atoms, molecule_data = models["molecules"], data["molecules"]
names = [atoms.class_names[label] for label in molecule_data.labels[:6].tolist()]
beyond.balls_and_sticks.balls_and_sticks(molecule_data.x_0[:6], names)
plt.show()
first = beyond.bonds.to_molecules(molecule_data.x_0)[2]
print(f"{first.formula}, {beyond.bonds.shape_of(first)}; bonds from its distances alone:")
print({"".join(sorted((str(a), str(b)))): order for (a, b), order in beyond.bonds.find_bonds(first).items()})
assert all(beyond.bonds.is_valid(one) for one in beyond.bonds.to_molecules(molecule_data.x_0))

# %% [markdown]
# The bonds are no part of the data: atoms that are 1.2 to 1.6 ångströms apart are bonded, and nothing else is nearer
# than 1.8 (an order of 1.5 can be single or double). A molecule is *valid* if all distances are of one sort or the
# other, all atoms hang together, and no atom has more bonds than its valence.
#
# **The question.** A chair stands on its legs, but a molecule has no up. Must the network see each molecule in every
# position, or can it know that a turned molecule is the same?
#
# **The idea.** Let positions enter only as distances, and leave only along lines between atoms. Then whatever turns
# or mirrors the input turns or mirrors the output:
#
# $$
# m_{ij} = \phi_e(h_i, h_j, \lVert x_i - x_j \rVert) , \qquad x_i \leftarrow x_i + \sum_j \frac{x_i - x_j}{\lVert x_i -
# x_j \rVert + 1}\, \phi_x(m_{ij}) . \tag{EGNN, Eq. 3 and 4; EDM, Eq. 12}
# $$
#
# <small>In code: `models.egnn.EGNN`. Test:
# `tests/test_beyond_molecules.py::test_the_output_turns_and_is_mirrored_with_the_molecule`.</small>
#
# A sampler adds and scales, which commutes with turning. So the whole run is equivariant, to the last digit: turned
# noise becomes the turned molecule.

# %%
turn, _ = torch.linalg.qr(noise.randn((1, 3, 3), noise.generators(1, 0))[0])
x_T = atoms.noise(3, seed=3)
turned_noise = torch.cat([x_T[..., :3] @ turn, x_T[..., 3:]], dim=-1)
levels, denoise = atoms.schedule.levels(20), atoms.denoiser([0, 1, 2], guidance_scale=1.0)
straight, turned_too = (final(euler(denoise, start, levels)) for start in (x_T, turned_noise))
apart = (straight[..., :3] @ turn - turned_too[..., :3]).norm(dim=-1).max() * 6  # a unit of the data is 6 angstroms
print(f"the turned sample and the sample of turned noise are less than {0.01 if apart < 0.01 else apart:.2f} ångströms "
      "apart")  # fmt: skip
assert apart < 0.01 and (straight - turned_too).abs().max() > 0.1

# %% [markdown]
# **One call.** The three classes are molecules without a ring, with one, and with an aromatic one. DDPM's random steps
# suit them: each takes back some of the errors of the steps before.

# %%
made_atoms = atoms.sample([0, 1, 2] * 2, num_inference_steps=30, sampler="ddpm", seed=0)
beyond.balls_and_sticks.balls_and_sticks(made_atoms, [atoms.class_names[label] for label in (0, 1, 2) * 2])
plt.show()
fine = [beyond.bonds.is_valid(one) for one in beyond.bonds.to_molecules(made_atoms)]
print(f"{sum(fine)} of {len(fine)} are valid:", ", ".join(one.formula for one in beyond.bonds.to_molecules(made_atoms)))
assert sum(fine) >= 5

# %% [markdown]
# **The check.** Valid, *unique* (how many of the valid ones differ) and *novel* (how many of these the training data do
# not have), each beside real molecules that were held out, and beside chance: the same molecules with the elements
# exchanged among their atoms.

# %%
row = atoms.card["evaluation"][0]
for measure in ("valid", "unique", "novel"):
    drawn_share, real_share, chance_share = (row[name][measure] for name in ("samples", "real", "chance"))
    print(f"{measure:>6}: samples {drawn_share:.1%}, real {real_share:.1%}, chance {chance_share:.1%}")
assert row["samples"]["valid"] > 0.9

# %% [markdown]
# Half of the training times of this network are below a noise of 0.3 ångströms. Why so low? Move the atoms of *real*
# molecules at random, and count how many stay valid:

# %%
moves = torch.tensor([0.0, 0.01, 0.02, 0.03, 0.05, 0.1])
real_atoms, shares = beyond.KINDS["molecules"].data(120, seed=1, split="test").x_0, []
shift = noise.randn(real_atoms.shape, noise.generators(len(real_atoms), 0))[..., :3]
for move in moves.tolist():
    moved_atoms = torch.cat([real_atoms[..., :3] + move / 6 * shift, real_atoms[..., 3:]], dim=-1)
    shares.append(sum(map(beyond.bonds.is_valid, beyond.bonds.to_molecules(moved_atoms))) / len(moved_atoms))
plots.curves({"real molecules, moved": (moves, torch.tensor(shares))}, title="What validity bears",
             xlabel="noise per coordinate (ångströms)", ylabel="valid")  # fmt: skip
plt.show()
print(", ".join(f"{move:.2f} Å: {share:.0%}" for move, share in zip(moves.tolist(), shares, strict=True)))
assert shares[0] > 0.97 and shares[-1] < 0.3

# %% [markdown]
# **What can go wrong.** *Low noise left out*: our first network saw a noise below 0.1 ångströms in one of 760 training
# examples (and was trained half as long), and 14% of its samples were valid. *Valid is all*: a network that
# always draws one molecule is 100% valid. *Novel is all*: nonsense is always novel. *Bonds in the data and in the
# measure*: who trains on bonds must not count them as found.
#
# ## 6 · Text
#
# Letters are another matter: between "a" and "b" there is nothing to add noise to. [Notebook
# 15](15_discrete_diffusion.ipynb) tells that second story, with a chain over letters in place of the Gaussian one, and
# a sampler whose steps are watched with the same scrubber.
#
# ## 7 · What stays and what changes
#
# | | digits | video | sound | shapes | molecules | text (15) |
# |---|---|---|---|---|---|---|
# | tensor | 1 x 28 x 28 | 1 x 16 x 32 x 32 | 1 x 64 x 64 | 1,024 x 3 | 9 x 8 | letters |
# | chain | Gaussian | Gaussian | Gaussian | Gaussian | Gaussian | masks |
# | samplers | `samplers` | the same | the same | the same | the same | `discrete` |
# | network | U-Net, DiT | blocks of space, of time | U-Net | attention | messages | transformer |
# | measure | classifier | class *and* path | named as a wave | 1-nearest neighbour | valid, novel | bits |
# | the trap | few samples | frames are no clip | spectra are no sound | no index | low noise decides | a bound |
#
# ## Exercises
#
# Replace the dots, run the cell, then run the check below it. The check makes inputs of its own, so it also sees an
# answer that is right only for the data above. While the dots stand, it tests our own solution, which is in the folded
# cell between the two.
#
# **Exercise 1 · Bounce.** Write `my_fold(x, low, high)`: places `x` (a tensor of any shape) reflected at `low` and at
# `high`, as often as needed, so that all of them lie between. A digit at `high + 1` is one pixel inside again.

# %%
my_fold = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_fold(x, low, high):
    span = high - low
    return high - ((x - low) % (2 * span) - span).abs()


# %%
check("20.1", my_fold, solution_fold)

# %% [markdown]
# **Exercise 2 · Decibels as grey.** Write `my_grey(magnitude, floor)`: magnitudes (0 or more, full scale is 1) as grey
# values in [-1, 1]. Full scale is 1; `floor` decibels below it, and everything weaker, is -1; in between it is linear
# in decibels, $20 \log_{10} m$.

# %%
my_grey = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_grey(magnitude, floor):
    decibels = 20 * magnitude.clamp(min=1e-10).log10()
    return (1 + 2 * decibels / floor).clamp(-1, 1)


# %%
check("20.2", my_grey, solution_grey)

# %% [markdown]
# **Exercise 3 · Compare two sets.** Write `my_chamfer(p, q)`: the Chamfer distance of two clouds `p` [N, D] and `q` [M,
# D], with squared distances, as one number.

# %%
my_chamfer = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_chamfer(p, q):
    squares = (p[:, None] - q).square().sum(-1)
    return squares.amin(1).mean() + squares.amin(0).mean()


# %%
check("20.3", my_chamfer, solution_chamfer)

# %% [markdown]
# **Exercise 4 · The backbone of a protein.** Chains of atoms are built bond by bond. Write `my_next(a, b, c, length,
# angle, torsion)`: the position of the atom after `a`, `b`, `c` (each [3]), `length` away from `c`, with the `angle`
# b-c-d, and turned about the bond b-c by the `torsion` a-b-c-d: 0 puts it on the side of `a`, π opposite; seen from b
# to c, a positive torsion turns clockwise. Angles are in radians. With the unit vectors $u$ from b to c, $n$ along $(b
# - a) \times u$, and $m = n \times u$,
#
# $d = c + \ell\, (-\cos\theta\, u + \sin\theta \cos\tau\, m + \sin\theta \sin\tau\, n)$ (Parsons et al. 2005).

# %%
my_next = ...


# %% jupyter={"source_hidden": true} tags=["solution"]
# Sample solution: open this cell when you have tried.
def solution_next(a, b, c, length, angle, torsion):
    u = (c - b) / (c - b).norm()
    n = torch.linalg.cross(b - a, u)
    n = n / n.norm()
    m = torch.linalg.cross(n, u)
    angle, torsion = torch.tensor(angle), torch.tensor(torsion)
    return c + length * (-angle.cos() * u + angle.sin() * (torsion.cos() * m + torsion.sin() * n))


# %%
check("20.4", my_next, solution_next)

# %% [markdown]
# With it, two glycines, joined as in every protein (N, C, C, then the next N): nine atoms, stretched out. The network
# has never been told of proteins; is this chain a molecule by the rules of section 5?


# %%
def backbone(place):
    """Diglycine, stretched out: N-C-C(=O)-N-C-C(=O)-O."""
    degrees = torch.pi / 180
    chain = [torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.46, 0.0, 0.0]), torch.tensor([2.01, 1.42, 0.0])]
    for length, angle in ((1.35, 116), (1.45, 122), (1.52, 111), (1.34, 112)):  # C-N, N-C, C-C, C-O
        chain.append(place(*chain[-3:], length, angle * degrees, torch.pi))
    for a, b, c in ((0, 1, 2), (3, 4, 5)):  # the double-bonded oxygens, beside the chain
        chain.append(place(chain[a], chain[b], chain[c], 1.22, 121 * degrees, 0.0))
    return beyond.bonds.Molecule((1, 0, 0, 1, 0, 0, 2, 2, 2), torch.stack(chain))


built = backbone(solution_next)
bonds = beyond.bonds.find_bonds(built)
print(f"{built.formula}: {'valid' if beyond.bonds.is_valid(built) else 'not valid'}, {beyond.bonds.shape_of(built)}, "
      f"{len(bonds)} bonds, {sum(order == 2 for order in bonds.values())} of them double")  # fmt: skip
assert beyond.bonds.is_valid(built) and len(bonds) == 8 and bonds[2, 7] == bonds[5, 8] == 2

# %% [markdown]
# ## What to remember
#
# - Chain, loss and samplers do not know what a tensor means. The representation, the network and the measure do.
# - Video is frames *and* what connects them; measure both.
# - A spectrogram is a picture; what is heard is the wave, so judge the wave.
# - A set has no order: let the network know it by its structure, and compare sets by nearest neighbours.
# - What turns with its input need not be learned in every position. Train where the decision falls: bonds, at low
#   noise.
# - Real data and chance beside every number.
#
# **This is the end of the course's last notebook.** Back to [the list of notebooks](README.md), whose table says for
# each claim what was measured; or go on with your own data: [train a model](../docs/training.md).
#
# ## References
#
# - J. Ho et al. 2022, [Video Diffusion Models](https://arxiv.org/abs/2204.03458): attention factorised over space and
#   time (Sec. 3), the replacement method (Sec. 3.1).
# - N. Srivastava, E. Mansimov, R. Salakhutdinov 2015, [Unsupervised Learning of Video Representations using
#   LSTMs](https://arxiv.org/abs/1502.04681): moving digits.
# - A. Vaswani et al. 2017, [Attention Is All You Need](https://arxiv.org/abs/1706.03762).
# - D. Griffin, J. Lim 1984, [Signal estimation from modified short-time Fourier
#   transform](https://doi.org/10.1109/TASSP.1984.1164317).
# - J. Lee et al. 2019, [Set Transformer](https://arxiv.org/abs/1810.00825): attention through few latent vectors.
# - H. Fan, H. Su, L. Guibas 2017, [A Point Set Generation Network for 3D Object
#   Reconstruction](https://arxiv.org/abs/1612.00603): the Chamfer distance.
# - G. Yang et al. 2019, [PointFlow](https://arxiv.org/abs/1906.12320): 1-nearest-neighbour accuracy and coverage.
# - E. Hoogeboom et al. 2022, [Equivariant Diffusion for Molecule Generation in 3D](https://arxiv.org/abs/2203.17003)
#   (EDM); V. Satorras, E. Hoogeboom, M. Welling 2021, [E(n) Equivariant Graph Neural
#   Networks](https://arxiv.org/abs/2102.09844) (EGNN).
# - J. Parsons et al. 2005, [Practical conversion from torsion space to Cartesian space for in silico protein
#   synthesis](https://doi.org/10.1002/jcc.20237).
# - Y. Lipman et al. 2023, [Flow Matching for Generative Modeling](https://arxiv.org/abs/2210.02747).
# - J. Ho, A. Jain, P. Abbeel 2020, [Denoising Diffusion Probabilistic Models](https://arxiv.org/abs/2006.11239).
