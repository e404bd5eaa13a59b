"""Training: Algorithm 1 of DDPM, for every prediction type and every schedule, as a generator of records.

    network = UNet(UNetConfig())
    digits = bundled_mnist()
    config = TrainConfig(images=40_000)
    for record in train(network, digits.images, digits.labels, FlowSchedule(), "flow", config):
        print(record.step, record.loss)
    samples = record.model.sample([3, 7], guidance_scale=2.0)

Training is seeded: seeded generators draw the images, the times, the noise and the dropped labels. So the same call on
the same machine gives the same weights, on a CPU bit for bit, also when the training was killed and resumed from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.checks import named_options, same_shape, typed_arguments
from diffusion_explained.data import to_float
from diffusion_explained.denoisers import check_output
from diffusion_explained.devices import to_channels_last
from diffusion_explained.forward import add_noise, like
from diffusion_explained.messages import unknown_name
from diffusion_explained.models import NetworkModule, network_config
from diffusion_explained.models.network import check_network
from diffusion_explained.noise import randn
from diffusion_explained.predictions import input_scale, target
from diffusion_explained.pretrained import Model
from diffusion_explained.schedules import Schedule
from diffusion_explained.training.checkpoints import resume
from diffusion_explained.training.config import TrainConfig
from diffusion_explained.training.few_steps import Batch, Method
from diffusion_explained.training.folder_lock import one_at_a_time
from diffusion_explained.training.meter import Meter
from diffusion_explained.training.processes import Processes
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import compiled, make_step
from diffusion_explained.weight_files import fingerprint

TRAINABLE = ("eps", "x_0", "v", "flow", "edm")  # a score's target grows like 1/sigma: train eps, and divide


@dataclass(frozen=True)
class Record:
    """The state of training after `step` of `num_steps` steps.

    loss: the mean over the steps since the previous record.
    learning_rate: of the last step; images_per_second: since the previous record; seconds: of training so far.
    model: samples with the moving average of the weights. The record shares this average with the training, which
        changes it in the next steps: draw samples before you take the next record.
    """

    step: int
    num_steps: int
    loss: float
    learning_rate: float
    images_seen: int
    images_per_second: float
    seconds: float
    model: Model


@named_options
@one_at_a_time
@typed_arguments(but="network")
def train(
    network: NetworkModule,
    images: Tensor,
    labels: Tensor | None,
    schedule: Schedule,
    kind: str,
    config: TrainConfig,
    *,
    noise: Tensor | None = None,
    method: Method | None = None,
    class_names: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    record_every: int = 10,
    checkpoints: Path | None = None,
    checkpoint_every: int = 500,
) -> Iterator[Record]:
    """Train a network to predict `kind` along a schedule (DDPM, Algorithm 1); yields a record at regular intervals.

        loss = mean (network(x_t, t, label) - target)^2,   x_t = alpha * x_0 + sigma * eps     (DDPM, Eq. 14)

    Under `accelerate launch` or torchrun, the processes share each batch, and all of them yield the same records.

    Args:
        network: trained in place; called as network(x_t [B, ...], t [B], labels [B] or None).
        images: x_0, uint8 [N, C, H, W] (0..255 stands for -1..1), or float [N, ...], used unchanged: points, for
            example, or images, which must lie in [-1, 1].
        labels: int64 [N] below network.num_classes, or None to train without conditions.
        noise: eps [N, ...], float: the noise of each image, for rectification; None draws new noise at each step.
        method: for few-step models: a method of `training.few_steps` replaces x_0 and eps by the pair of a chord.
            Without checkpoints, because a checkpoint does not describe the method.
        schedule: gives the levels, and the distribution of the training times. kind: one of `TRAINABLE`.
        record_every: steps between records; the last step always has one.
        checkpoints: a folder; a checkpoint is saved to it every checkpoint_every steps, and at the end. If it holds a
            checkpoint of this training, the training resumes from it.

    Raises:
        ValueError: for data, a kind or labels that do not fit the network; for the checkpoints of another training.
        DamagedCheckpointError: (an OSError) if there are checkpoints, but all of them are damaged.
        FolderInUseError, NotWrittenError: (OSErrors) if another training uses that folder, or it cannot be written.
        FloatingPointError: when the loss is no longer a number.
    """
    if method is not None and checkpoints is not None:
        raise ValueError("A training with a method keeps no checkpoints: leave out checkpoints.")
    check_data(network, images, labels, kind, drawn=noise is not None)
    check_noise(noise, images, config)
    description = {} if checkpoints is None else describe(network, images, labels, noise, schedule, kind, config)
    processes = Processes.here(device, config.batch_size)
    device = processes.device
    processes.share_weights(network.to(device))
    if config.channels_last:
        to_channels_last(network)
    state = TrainingState.new(network.train(), config)
    resume(state, description, checkpoints)
    processes.wait()  # no process writes a checkpoint before all have read the last one

    predict = compiled(network, config)
    gradient_step = make_step(partial(training_loss, predict, kind), state, config, processes)
    names = class_names or [str(label) for label in range(network.num_classes or 0)]
    model = Model("in training", state.ema, schedule, kind, tuple(names), card={})
    meter = Meter(
        state, config, processes,
        record_every=record_every, checkpoints=checkpoints, checkpoint_every=checkpoint_every, description=description,
    )  # fmt: skip

    def record() -> Record:
        rate, seen = config.learning_rate_at(max(0, state.step - 1)), state.step * config.batch_size
        speed = meter.images_per_second
        return Record(state.step, config.num_steps, state.loss, rate, seen, speed, state.seconds, model)

    if state.step == config.num_steps:  # resumed from the last checkpoint
        yield record()

    images = images.to(device)
    labels, noise = (None if data is None else data.to(device) for data in (labels, noise))
    meter.start()
    while state.step < config.num_steps:
        # Algorithm 1 of DDPM; its line 1 is "repeat"
        # line 2: x_0 ~ q(x_0)
        chosen, x_0, label = draw(images, labels, config, network.num_classes, state.generator)
        # line 3: t ~ Uniform({1, ..., T}), and with it the level
        t = schedule.sample_t(config.batch_size, state.generator)
        # line 4: eps ~ N(0, I)
        eps = randn(x_0.shape, state.noise_generator, device) if noise is None else noise[chosen].float()
        time = schedule.network_time(t).to(device)
        if method is not None:
            with torch.no_grad():
                drawn = Batch(x_0, eps, t, time, label)
                x_0, eps, t, time, label = method(drawn, state, state.step / config.num_steps)
        # line 5: a gradient step on || eps - eps_theta(x_t, t) ||^2
        state.set_learning_rate(config.learning_rate_at(state.step))
        batch = (x_0, eps, schedule.alpha(t).to(x_0), schedule.sigma(t).to(x_0), time, label)
        with null_label_in_words(network, label):
            meter.add(gradient_step(*(processes.part(x) for x in batch)))

        state.average(config.ema_decay_at(state.step))
        state.step += 1
        if meter.after_step(last=state.step == config.num_steps):
            yield record()
            meter.start()


def training_loss(
    network: Callable[..., Tensor],
    kind: str,
    x_0: Tensor,
    eps: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    time: Tensor,
    cond: Any = None,
    root_weight: Tensor | None = None,
) -> Tensor:
    """The loss of one batch: the mean squared error of the network's output, a tensor without dimensions.

        mean (network(c x_t, time, cond) - target)^2,   x_t = alpha * x_0 + sigma * eps         (DDPM, Eq. 14)

    The target is a * x_0 + b * eps of `predictions.target` (for DDPM eps itself); c is 1 for every prediction type but
    EDM's (`predictions.input_scale`).

    Args:
        network: called as network(x [B, ...], time [B], cond) -> [B, ...].
        kind: the prediction type, one of `TRAINABLE`.
        x_0, eps: data and standard normal noise, [B, ...].
        alpha, sigma: the level of each image, schedule.alpha(t) and schedule.sigma(t), [B].
        time: the network's time input, schedule.network_time(t), [B].
        cond: the condition, labels [B] or None.
        root_weight: the square root of each image's weight in the mean, [B]; None: every weight is 1.

    Raises ValueError for shapes or a kind that do not fit.
    """
    x_t = add_noise(x_0, eps, (time, alpha, sigma))
    output = check_output(network(like(input_scale(kind, alpha, sigma), x_t) * x_t, time, cond)).float()
    true_output = target(kind, x_0, eps, alpha, sigma)
    same_shape("a network's output and the images", output, true_output)  # torch would broadcast the smaller one
    if root_weight is not None:
        output, true_output = like(root_weight, x_0) * output, like(root_weight, x_0) * true_output
    return (output - true_output).square().mean()


@typed_arguments
def draw(
    images: Tensor, labels: Tensor | None, config: TrainConfig, null: int | None, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Draw a batch: the indices of its images [B], x_0 [B, ...], and the labels [B] after class dropout (CFG)."""
    on_cpu: dict[str, Any] = {"generator": generator, "device": "cpu"}
    chosen = torch.randint(len(images), (config.batch_size,), dtype=torch.int64, **on_cpu).to(images.device)
    x_0 = to_float(images[chosen]) if images.dtype == torch.uint8 else images[chosen].float()
    if labels is not None and null is not None:
        dropped = torch.rand(config.batch_size, dtype=torch.float32, **on_cpu) < config.label_dropout
        labels = torch.where(dropped.to(labels.device), null, labels[chosen])  # CFG, Algorithm 1
    if config.flip:
        flipped = (torch.rand(config.batch_size, dtype=torch.float32, **on_cpu) < 0.5).to(x_0.device)
        x_0 = torch.where(flipped[:, None, None, None], x_0.flip(-1), x_0)
    return chosen, x_0, labels


def describe(
    network: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    noise: Tensor | None,
    schedule: Schedule,
    kind: str,
    config: TrainConfig,
) -> dict[str, Any]:
    """Describe a training: network, schedule, settings and data, which must all agree with those of a checkpoint.

    images [N, ...], labels [N], noise [N, ...].
    """
    given = {"images": images, "labels": labels, "noise": noise}
    data = {name: tensor.cpu() for name, tensor in given.items() if tensor is not None}
    return {
        "network": network_config(network),
        "schedule": schedule.to_config(),
        "kind": kind,
        "training": asdict(config),
        "data": {"shape": list(images.shape), "sha256": fingerprint("", data)},
    }


def check_data(network: NetworkModule, images: Tensor, labels: Tensor | None, kind: str, drawn: bool = False) -> None:
    """Raise ValueError unless there are images and labels that fit the network; drawn: as for `check_pixels`.

    images [N, ...], labels [N].
    """
    check_trainable(network)
    if kind not in TRAINABLE:
        raise unknown_name("kind of prediction to train", kind, TRAINABLE)
    shape = tuple(network.image_shape)
    if tuple(images.shape[1:]) != shape or len(images) == 0:
        raise ValueError(
            f"this network trains on [N, {', '.join(map(str, shape))}], N of 1 or more; got {[*images.shape]}"
        )
    if images.dtype != torch.uint8 and not is_finite_float(images):
        raise ValueError(f"images must be uint8, or float32 or float16 without NaN or infinity; got {images.dtype}")
    if len(shape) == 3 and images.dtype != torch.uint8:
        check_pixels(images, drawn)
    if images.dtype == torch.uint8 and int(images.max()) == 1:
        raise ValueError("uint8 images hold bytes, 0 (black) to 255 (white); got only 0 and 1. Give 255 * images.")
    if labels is None:
        return
    if network.num_classes is None:
        raise ValueError("this network has no classes (num_classes is None): train it with labels=None")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be int64 [{len(images)}], one per image; got {labels.dtype} {[*labels.shape]}")
    if int(labels.min()) < 0 or int(labels.max()) >= network.num_classes:
        raise ValueError(
            f"labels must be 0 .. {network.num_classes - 1}; got {int(labels.min())} .. {int(labels.max())}"
        )


def check_trainable(network: NetworkModule) -> None:
    """Raise ValueError unless a network has float32 weights, at least one of which is trained."""
    check_network(network)
    weights = list(network.parameters())
    if other := {str(weight.dtype) for weight in weights} - {"torch.float32"}:
        raise ValueError(
            f"a network is trained with float32 weights; this one has {', '.join(sorted(other))}. Call network.float() "
            "(the setting precision still computes in bfloat16)."
        )
    if not any(weight.requires_grad for weight in weights):
        raise ValueError("no weight of the network requires a gradient: call network.requires_grad_() first.")


@contextmanager
def null_label_in_words(network: NetworkModule, labels: Tensor | None) -> Iterator[None]:
    """Report a label that a network on the CPU has no row for, among labels [B], as a ValueError."""
    try:
        yield
    except IndexError as error:
        if labels is None:
            raise
        raise ValueError(
            f"the network must take the labels 0 .. {network.num_classes}, the last of them the null label; it says: "
            f"{error}. Give its embedding num_classes + 1 rows."
        ) from error


def check_pixels(images: Tensor, drawn: bool) -> None:
    """Raise ValueError unless float images [N, C, H, W] lie in [-1, 1] and use both halves of it, as samples will.

    drawn: a flow drew the images (rectification). Such images exceed [-1, 1] slightly, so only their mean absolute
    value is checked.
    """
    low, high = float(images.amin()), float(images.amax())
    beyond = float(images.abs().float().mean()) > 1 if drawn else max(-low, high) > 1.001
    if beyond or (low >= 0 and high > 0):
        raise ValueError(
            f"float images must lie in [-1, 1], black to white; got {low:g} to {high:g}. Give 2 * x - 1 of images from "
            "0 to 1, x / 127.5 - 1 of images from 0 to 255, or the bytes themselves as uint8."
        )


def check_noise(noise: Tensor | None, images: Tensor, config: TrainConfig) -> None:
    """Raise ValueError unless noise [N, ...] has one eps per image of images [N, ...], and no image is mirrored."""
    if noise is None:
        return
    if noise.shape != images.shape or not is_finite_float(noise):
        raise ValueError(
            f"noise must be one eps per image, finite float32 or float16 {[*images.shape]}; "
            f"got {noise.dtype} {[*noise.shape]}"
        )
    if config.flip:
        raise ValueError(
            "flip mirrors images, but noise leads to the image that is not mirrored: train pairs with flip = false"
        )


def is_finite_float(x: Tensor) -> bool:
    """Whether x, of any shape [...], is float32 or float16 without NaN or infinity."""
    return x.dtype in (torch.float32, torch.float16) and bool(x.isfinite().all())
