"""The faults of the page Break it, in words: what each does, how one notices it, its cure, and its line of code.

The lines of code stand in `diffusion_explained.training.faults`; a test looks for them there.
"""

from typing import NamedTuple

SAMPLING, TRAINING = "sampling", "training"
DIAGNOSE = "diffusion-explained diagnose my_training:network --schedule linear --timesteps 1000 --prediction eps"


class Fault(NamedTuple):
    """A fault: its symptom, how one notices it, its cure; and the wrong and the right lines of code."""

    symptom: str
    notice: str
    cure: str
    wrong: str
    right: str


_TRAILING = 'times = schedule.timesteps(count, spacing="trailing")'
_GUIDED = "eps = uncond + w * (cond - uncond)"

OF_SAMPLING = {
    "off by one": Fault(
        "The state goes to the level of t − 1, and the next step treats it as far less noisy than it is.",
        "The more steps, the better the images: with as many steps as in training the fault disappears.",
        "The next level is that of the next *visited* timestep, and not the one before in `alphas_cumprod`.",
        "after = noising.level(level.t - 1)",
        "for level, after in pairwise(levels):",
    ),
    "cond and uncond swapped": Fault(
        "Sharp digits of any class but the right one: guidance pushes away from the class.",
        "The pixels have the right mean and standard deviation; only the class accuracy shows the fault.",
        "The order in which a batch is joined is the order in which it is split. At w = 1 the result must be the "
        "conditional prediction.",
        "eps = cond + w * (uncond - cond)",
        _GUIDED,
    ),
    "guidance counted twice": Fault(
        "Guidance at 1 + w: the class accuracy does not fall, but the images of one class become alike.",
        "At w = 1 the images differ from those without guidance; they must be the same.",
        "Papers write the scale as w (1 is off) or as 1 + w (0 is off). Choose one, and convert at the border.",
        "eps = uncond + (1 + w) * (cond - uncond)",
        _GUIDED,
    ),
    "clamp without eps": Fault(
        "The clamped image and the old noise no longer add up to the state: strokes that belong to no digit.",
        "After each step, alpha x_0 + sigma eps must be the state x_t that it came from.",
        "After clamping x_0, compute eps from it again.",
        "# nothing: eps stays the prediction from before the clamp",
        "eps = (x_t - level.alpha * x_0) / level.sigma",
    ),
    "leading spacing": Fault(
        "Sampling begins below the last timestep, as if noise were an image already. Hardly anything shows here, "
        "because this schedule leaves almost no signal at either timestep.",
        "Print the first timestep: it must be the last one that training used.",
        "Use the spacing that ends at T − 1: `trailing`.",
        'times = schedule.timesteps(count, spacing="leading")',
        _TRAILING,
    ),
    "noise left at the end": Fault(
        "The schedule stops half-way, and sampling starts from pure noise all the same: thick and superfluous strokes.",
        "Compute the SNR at the last timestep: if it is not near 0, training never showed pure noise.",
        "Rescale the schedule to zero terminal SNR, or let it end in noise.",
        "times = (times / 2).floor()",
        _TRAILING,
    ),
    "another schedule": Fault(
        "The network is asked at other noise levels than its time input says: noise stays in all of the image.",
        "Compare `alphas_cumprod` of training and sampling, number by number.",
        "Store the schedule with the weights, and read it from there.",
        "noising = DDPMSchedule.cosine(num_train_timesteps=T)",
        "noising = schedule",
    ),
}

_DATA = 'x = data.to("cpu", torch.float32)'

OF_TRAINING = {
    "range 0 to 1": Fault(
        "The samples are the data, halved and moved: the network learned images in [0, 1].",
        "Print the minimum, maximum and mean of a training batch, and of the samples.",
        "Scale images to [−1, 1] where they are loaded, and in no other place.",
        "x = (x + 1) / 2",
        _DATA,
    ),
    "scale of the data, inverse": Fault(
        "The data are 5.5 times too large, as latents are without their scale factor of 0.18215.",
        "Print the standard deviation of a training batch: it must be near 1.",
        "Multiply latents by the scale factor after encoding, and divide by it before decoding.",
        "x = x / LATENT_SCALE",
        _DATA,
    ),
    "variances for standard deviations": Fault(
        "Signal and noise are added in the shares ᾱ and 1 − ᾱ, without the square roots.",
        "Print alpha² + sigma² at a few timesteps: it must be 1.",
        "x_t = √ᾱ x_0 + √(1 − ᾱ) ε.",
        "alpha, sigma = alpha**2, sigma**2",
        "alpha, sigma = noising.alpha(noisy_t).float(), noising.sigma(noisy_t).float()",
    ),
    "schedule cosine": Fault(
        "Training adds noise by one schedule, sampling removes it by another.",
        "Compare `alphas_cumprod` of training and sampling, number by number.",
        "Store the schedule with the weights, and read it from there.",
        'noising = SCHEDULES[wrong.removeprefix("schedule ")](num_train_timesteps=T)',
        "noising = schedule",
    ),
    "another draw of noise": Fault(
        "The target holds other noise than x_t does, so the best prediction is 0 everywhere.",
        "The loss stays at 1, the variance of the noise, from the first step to the last.",
        "Draw eps once, and use it in x_t and in the target.",
        "eps = randn(x_0.shape, draws)  # again, after x_t",
        "x_t = alpha[:, None] * x_0 + sigma[:, None] * eps",
    ),
    "wrong sign": Fault(
        "The loss falls as it should, and samples are driven away from the data.",
        "Predict x_0 from a training x_t in little noise: it must be the image.",
        "The target of an eps network is eps itself.",
        "due = -due",
        "due = target(trained, x_0, eps, alpha, sigma)",
    ),
    "time in another unit": Fault(
        "The network is trained with times from 0 to 1 and is asked with times from 0 to 999.",
        "Print the times that reach the network, once in training and once in sampling.",
        "Let one function convert a timestep to the network's time, for both.",
        "time = time / T",
        "time = schedule.network_time(t)",
    ),
    "labels shifted": Fault(
        "Good samples, each of the class after its own.",
        "Draw one sample per class, and look at it.",
        "Count the labels from 0 in the data and in the network.",
        "label = (label + 1) % count",
        "x_0, label = x[chosen], classes[chosen]",
    ),
    "label dropout inverted": Fault(
        "Nine of ten labels are dropped, and not one of ten. Samples hardly show it in the plane; the network is less "
        "exact with labels than without.",
        "Compare the loss with labels and without: with labels it must be lower.",
        "A label is dropped where the random number is *below* the dropout rate.",
        "dropped = chance > DROPOUT",
        "dropped = chance < DROPOUT",
    ),
    "last step never trained": Fault(
        "The noisiest timestep is never drawn, and sampling begins with it. Small networks extrapolate well, so "
        "hardly anything shows here.",
        "Count how often each timestep is drawn in training.",
        "`randint` leaves its upper end out: give it T, and not T − 1.",
        "t = t.clamp(max=T - 2)",
        "t = schedule.sample_t(BATCH, draws)",
    ),
    "no EMA": Fault(
        "The weights of the last step, which move with each batch; their average is nearer to the data.",
        "Sample with both, and compare a distance to the data.",
        "Keep an exponential moving average of the weights, and sample with it.",
        "weights = network.requires_grad_(False)",
        "weights = averaged",
    ),
}
