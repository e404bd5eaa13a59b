"""Training: each step against the formulas, the seed, the labels, the average, resuming, and what is refused."""

import dataclasses
import os
import socket
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from diffusion_explained.forward import like
from diffusion_explained.models import MLP, MLPConfig, UNet, UNetConfig
from diffusion_explained.predictions import SIGMA_DATA
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule
from diffusion_explained.training import TRAINABLE, TrainConfig, train, training_loss
from diffusion_explained.training.checkpoints import checkpoint_files
from diffusion_explained.training.state import TrainingState
from diffusion_explained.training.step import has_dropout

SCHEDULES = {
    "eps": DDPMSchedule.linear(),
    "x_0": DDPMSchedule.cosine(),
    "v": DDPMSchedule.cosine(),
    "flow": FlowSchedule(),
    "edm": EDMSchedule(),
}
SHORT = TrainConfig(images=20 * 64, batch_size=64, warmup_steps=5, precision="float32")


def points(n=500):
    """Two tight clusters, one per class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (n,), generator=generator)
    centres = torch.tensor([[-0.7, 0.2], [0.7, -0.2]])
    return centres[labels] + 0.1 * torch.randn(n, 2, generator=generator), labels


def mlp(num_classes=2, width=32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MLP(MLPConfig(width=width, num_classes=num_classes))


def small_unet(dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet(UNetConfig(image_shape=(1, 8, 8), widths=(16, 32), embedding_width=32, dropout=dropout))


def digits():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return images, torch.randint(10, (40,), generator=generator)


class Spy(nn.Module):
    """Outputs a learned multiple of its input, and keeps all that it was given."""

    num_classes = 10
    image_shape = (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.seen = []

    def forward(self, x, t, labels=None):
        self.seen.append((x.clone(), t.clone(), labels, self.gain.item()))
        return self.gain * x

    def __deepcopy__(self, memo):
        return Spy()


class Own(nn.Module):
    """A user's own network of points, with one mistake."""

    def __init__(self, change=lambda y: y, rows=3, image_shape=(2,), num_classes=2):
        super().__init__()
        self.layer, self.classes, self.change = nn.Linear(2, 2), nn.Embedding(rows, 2), change
        self.image_shape, self.num_classes = image_shape, num_classes

    def forward(self, x, t, labels=None):
        return self.change(self.layer(x) + self.classes(labels))


def run(network, *args, **options):
    return list(train(network, *args, **options))


@pytest.mark.parametrize("kind", TRAINABLE)
def test_every_step_is_the_papers(kind):
    schedule, spy = SCHEDULES[kind], Spy()
    x_0 = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)  # a data set of one image: the noise follows from x_t
    records = run(spy, x_0, torch.tensor([3]), schedule, kind, SHORT, record_every=1)
    assert len(records) == len(spy.seen) == 20
    all_eps = []
    for record, (x_in, time, _, gain) in zip(records, spy.seen, strict=True):
        t = time.double() / 1000 if kind == "flow" else (time.double() / 250).exp() if kind == "edm" else time.double()
        torch.testing.assert_close(schedule.network_time(t), time)
        alpha, sigma = (like(c, x_in) for c in (schedule.alpha(t).float(), schedule.sigma(t).float()))
        scale = (sigma**2 + SIGMA_DATA**2).sqrt() if kind == "edm" else torch.ones_like(sigma)
        eps = (x_in * scale - alpha * x_0) / sigma
        expected = {
            "eps": eps,
            "x_0": x_0.expand_as(eps),
            "v": alpha * eps - sigma * x_0,
            "flow": eps - x_0,
            # EDM, Eq. 8: what is left to the network, (x_0 - c_skip * x_t) / c_out
            "edm": (x_0 - SIGMA_DATA**2 / scale**2 * x_in * scale) / (sigma * SIGMA_DATA / scale),
        }[kind]
        loss = (gain * x_in - expected).square().mean()
        assert record.loss == pytest.approx(loss.item(), rel=2e-3)
        all_eps.append(eps[(sigma > 0.05).flatten()])
    eps = torch.cat(all_eps)
    assert abs(eps.mean()) < 0.02 and abs(eps.std() - 1) < 0.02
    assert [r.step for r in records] == list(range(1, 21))
    assert [r.images_seen for r in records] == [64 * step for step in range(1, 21)]


def test_the_loss_weighs_each_image():
    x_0, eps = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha, sigma, time = (
        torch.tensor([0.9, 0.5, 0.1]),
        torch.tensor([0.1, 0.5, 0.9]),
        torch.tensor([100.0, 500.0, 900.0]),
    )
    weight = torch.tensor([0.0, 1.0, 4.0])
    loss = training_loss(Spy(), "flow", x_0, eps, alpha, sigma, time, None, weight.sqrt())
    expected = [
        training_loss(Spy(), "flow", x_0[i : i + 1], eps[i : i + 1], alpha[i], sigma[i], time[i : i + 1])
        for i in range(3)
    ]
    torch.testing.assert_close(loss, (weight * torch.stack(expected)).mean())
    with pytest.raises(ValueError, match="the same shape"):
        training_loss(Spy(), "flow", x_0, eps[:1], alpha, sigma, time)


def test_all_times_are_trained_the_last_included():
    spy = Spy()
    run(spy, *digits(), DDPMSchedule.linear(num_train_timesteps=20), "eps", SHORT)
    times = torch.cat([t for _, t, _, _ in spy.seen])
    assert set(times.tolist()) == set(range(20))  # the clock of a schedule of 20 steps
    assert torch.bincount(times.long()).min() > 30  # 64 are expected of each


@pytest.mark.parametrize(("dropout", "low", "high"), [(0.0, 0, 0), (0.1, 0.07, 0.13), (1.0, 1, 1)])
def test_labels_are_dropped_to_the_null_label_as_often_as_asked(dropout, low, high):
    spy, (images, labels) = Spy(), digits()
    config = dataclasses.replace(SHORT, label_dropout=dropout)
    run(spy, images, labels, FlowSchedule(), "flow", config)
    given = torch.cat([labels for _, _, labels, _ in spy.seen])
    assert low <= (given == 10).double().mean() <= high
    kept = given[given < 10]
    assert set(kept.tolist()) == (set(labels.tolist()) if dropout < 1 else set())


def test_each_image_keeps_its_own_label_and_bytes_become_minus_one_to_one():
    images = torch.arange(10, dtype=torch.uint8).mul(25).reshape(10, 1, 1, 1).expand(10, 1, 8, 8).contiguous()
    spy, config = Spy(), dataclasses.replace(SHORT, label_dropout=0.0)
    run(spy, images, torch.arange(10), DDPMSchedule.linear(), "eps", config)
    for x_t, t, labels, _ in spy.seen:
        early = t < 5  # hardly any noise
        assert torch.allclose(x_t[early].mean((1, 2, 3)), labels[early] * 25 / 127.5 - 1, atol=0.05)


def test_the_learning_rate_rises_and_falls_and_reaches_adamw():
    seen = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    config = dataclasses.replace(SHORT, learning_rate=1e-2)
    records = run(mlp(), *points(), FlowSchedule(), "flow", config, record_every=1)
    hook.remove()
    expected = [1e-2 * min(1, (step + 1) / 5) * (1 - step / 20) for step in range(20)]
    assert seen == pytest.approx(expected)
    assert [r.learning_rate for r in records] == pytest.approx(expected)


def test_gradients_are_clipped_before_the_step():
    norms = []

    def measure(optimizer, *_):
        grads = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.stack(grads).norm().item())

    hook = register_optimizer_step_pre_hook(measure)
    for clip in (1e-3, 1e9):
        run(mlp(), *points(), FlowSchedule(), "flow", dataclasses.replace(SHORT, gradient_clip=clip))
    hook.remove()
    assert max(norms[:20]) <= 1.001e-3 < min(norms[20:])


def test_the_average_is_the_moving_average():
    network = mlp()
    expected = [p.detach().clone() for p in network.parameters()]
    config = dataclasses.replace(SHORT, ema_decay=0.6)
    for record in train(network, *points(), FlowSchedule(), "flow", config, record_every=1):
        step = record.step - 1
        decay = min(0.6, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, network.parameters(), strict=True)]
    for e, average in zip(expected, record.model.network.parameters(), strict=True):
        torch.testing.assert_close(average, e)
        assert not average.requires_grad


def test_records_do_not_change_the_training():
    weights = []
    for every in (1, 7, 1000):
        network = mlp()
        records = run(network, *points(), FlowSchedule(), "flow", SHORT, record_every=every)
        assert records[-1].step == SHORT.num_steps == 20 and len(records) == {1: 20, 7: 3, 1000: 1}[every]
        weights.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])


def test_the_seed_alone_decides_and_torchs_own_generator_is_left_alone():
    def weights(seed, disturb):
        network = small_unet(dropout=0.3)
        config = TrainConfig(images=6 * 8, batch_size=8, seed=seed)
        torch.manual_seed(disturb)
        for record in train(network, *digits(), FlowSchedule(), "flow", config, record_every=1):
            if disturb:  # a reader that samples and draws numbers of its own
                record.model.sample([1], num_inference_steps=1)
                torch.randn(disturb)
        if not disturb:
            assert torch.initial_seed() == 0 and torch.equal(torch.randn(3), fresh)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    fresh = torch.randn(3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(weights(5, 0), weights(5, 3))
    assert not torch.equal(weights(5, 0), weights(6, 0))


@pytest.mark.parametrize("kind", TRAINABLE)
def test_it_learns_two_clusters_by_their_class(kind):
    config = TrainConfig(images=400 * 256, batch_size=256, learning_rate=5e-3, precision="float32")
    network = mlp(width=64)
    *_, record = train(network, *points(), SCHEDULES[kind], kind, config, class_names=["left", "right"])
    labels = torch.arange(200) % 2
    x = record.model.denoiser(labels)
    sampled = torch.stack([step.x_next for step in record.model.steps(x, 200, 30)])[-1]
    centres = torch.tensor([[-0.7, 0.2], [0.7, -0.2]])[labels]
    assert (sampled - centres).norm(dim=1).median() < 0.25
    assert record.model.class_names == ("left", "right")


def test_without_labels_the_network_is_given_none():
    spy = Spy()
    run(spy, digits()[0], None, FlowSchedule(), "flow", SHORT)
    assert all(labels is None for _, _, labels, _ in spy.seen)
    *_, record = train(mlp(None), points()[0], None, FlowSchedule(), "flow", SHORT)
    assert record.model.sample(batch_size=4, num_inference_steps=2).shape == (4, 2)


def test_half_of_the_images_are_mirrored_where_that_is_asked_for():
    x_0 = torch.linspace(-1, 1, 8).expand(1, 1, 8, 8).contiguous()  # dark on the left
    spy = Spy()
    run(spy, x_0, None, DDPMSchedule.linear(), "eps", dataclasses.replace(SHORT, flip=True))
    x_t, t = torch.cat([x for x, _, _, _ in spy.seen]), torch.cat([t for _, t, _, _ in spy.seen])
    early = x_t[t < 100]
    leaning = early[..., 4:].mean((1, 2, 3)) - early[..., :4].mean((1, 2, 3))
    assert len(early) > 80 and bool((leaning.abs() > 0.3).all())
    assert 0.35 < (leaning < 0).double().mean() < 0.65


def test_paired_noise_stays_with_its_image():
    x_0 = torch.linspace(-1, 1, 10).reshape(10, 1, 1, 1).expand(10, 1, 8, 8).contiguous()
    spy = Spy()
    run(
        spy, x_0, torch.arange(10), FlowSchedule(), "flow", dataclasses.replace(SHORT, label_dropout=0.0), noise=3 * x_0
    )
    for x_t, time, labels, _ in spy.seen:
        t = like(time / 1000, x_t)
        torch.testing.assert_close(x_t, (1 - t) * x_0[labels] + t * 3 * x_0[labels])


@pytest.mark.parametrize(
    ("noise", "flip", "said"),
    [
        (
            torch.zeros(39, 1, 8, 8),
            False,
            r"finite float32 or float16 \[40, 1, 8, 8\]; got torch.float32 \[39, 1, 8, 8\]",
        ),
        (torch.full((40, 1, 8, 8), torch.inf), False, "finite"),
        (torch.zeros(40, 1, 8, 8), True, "train pairs with flip = false"),
    ],
)
def test_noise_that_is_no_pair_is_refused(noise, flip, said):
    with pytest.raises(ValueError, match=said):
        run(Spy(), *digits(), FlowSchedule(), "flow", dataclasses.replace(SHORT, flip=flip), noise=noise)


def test_noise_of_the_device_is_drawn_apart_from_all_else_and_goes_on_after_a_stop():
    network, config = mlp(), dataclasses.replace(SHORT, noise_on="device")
    state = TrainingState.new(network, config)
    assert state.noise_generator is state.generator  # a CPU has one source of noise
    state.noise_generator = torch.Generator().manual_seed(5)  # as a GPU's would be
    torch.rand(3, generator=state.noise_generator)
    saved = state.checkpoint({})
    expected = torch.rand(4, generator=state.noise_generator)
    other = TrainingState.new(mlp(), config)
    other.noise_generator = torch.Generator()
    other.load(saved)
    assert torch.equal(torch.rand(4, generator=other.noise_generator), expected)


def test_channels_last_changes_only_where_the_weights_lie():
    weights = {}
    for channels_last in (False, True):
        network = small_unet()
        run(network, *digits(), FlowSchedule(), "flow", dataclasses.replace(SHORT, channels_last=channels_last))
        assert network.stem.weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        weights[channels_last] = network.head.weight.detach().contiguous()
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-3, atol=1e-4)


def test_what_adamw_remembers_lies_in_memory_as_the_weights_do_after_a_stop(tmp_path):
    """A fused AdamW walks through both side by side, and would else pair each weight with another one's moments."""
    config = dataclasses.replace(SHORT, channels_last=True)

    def training(network):
        options = {"checkpoints": tmp_path, "checkpoint_every": 6}
        return train(network, *digits(), FlowSchedule(), "flow", config, **options)

    calm, stopped = small_unet(), small_unet()
    *_, _ = train(calm, *digits(), FlowSchedule(), "flow", config)
    next(training(small_unet()))  # and no more: the reader leaves
    *_, _ = training(stopped)
    for name, parameter in calm.named_parameters():
        assert torch.equal(stopped.get_parameter(name), parameter), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only CUDA records steps")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_recorded_step_does_what_python_does_and_goes_on_after_a_stop(tmp_path, compiled):
    """Recording warms up on the very weights that it then trains, so this fails if that leaves a trace."""
    weights = {}
    for recorded in (False, True):
        config = dataclasses.replace(SHORT, cuda_graph=recorded, noise_on="device", compile=compiled and recorded)
        network = small_unet()
        *_, last = train(network, *digits(), FlowSchedule(), "flow", config, device="cuda")
        weights[recorded] = [p.detach().clone() for p in (*network.parameters(), *last.model.network.parameters())]
    torch.testing.assert_close(weights[True], weights[False], rtol=1e-2, atol=1e-3)

    def again(network):
        options = {"device": "cuda", "checkpoints": tmp_path, "checkpoint_every": 6}
        return train(network, *digits(), FlowSchedule(), "flow", config, **options)

    next(again(small_unet()))  # stops at the first record, after a checkpoint
    network = small_unet()
    list(again(network))
    resumed = [p.detach() for p in network.parameters()]
    torch.testing.assert_close(resumed, weights[True][: len(resumed)], rtol=1e-3, atol=1e-4)


def test_bfloat16_trains_float32_weights_much_the_same():
    losses = {}
    for precision in ("float32", "bfloat16"):
        network, config = small_unet(), TrainConfig(images=30 * 16, batch_size=16, precision=precision)
        *_, record = train(network, *digits(), FlowSchedule(), "flow", config, record_every=30)
        assert all(p.dtype == torch.float32 for p in network.parameters())
        losses[precision] = record.loss
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], rel=0.01)


def test_it_goes_on_where_it_stopped(tmp_path):
    def training(network):
        return train(network, *points(), FlowSchedule(), "flow", SHORT, checkpoints=tmp_path, checkpoint_every=6)

    calm = mlp()
    *_, expected = train(calm, *points(), FlowSchedule(), "flow", SHORT)
    record = next(training(mlp()))  # and no more: the reader leaves
    assert record.step == 10 and [p.name for p in checkpoint_files(tmp_path)] == ["step-00000006.safetensors"]
    network = mlp()
    records = list(training(network))
    assert [r.step for r in records] == [10, 20]
    assert records[-1].seconds > records[0].seconds > 0
    ended = mlp()
    (again,) = training(ended)  # and once more, after its end
    assert again.step == 20 and again.loss == records[-1].loss and again.seconds == records[-1].seconds
    for other, model in ((network, records[-1].model), (ended, again.model)):
        for a, b in zip(calm.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
        for a, b in zip(expected.model.network.parameters(), model.network.parameters(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("changed", ["seed", "data", "network", "schedule", "kind"])
def test_the_checkpoints_of_another_training_are_refused(tmp_path, changed):
    x_0, labels = points()
    run(mlp(), x_0, labels, FlowSchedule(), "flow", SHORT, checkpoints=tmp_path)
    network = mlp(width=64) if changed == "network" else mlp()
    schedule = FlowSchedule(shift=2) if changed == "schedule" else FlowSchedule()
    config = dataclasses.replace(SHORT, seed=1) if changed == "seed" else SHORT
    x_0 = x_0 + 1 if changed == "data" else x_0
    kind = "v" if changed == "kind" else "flow"
    with pytest.raises(ValueError, match=f"another training: .*{changed}|sha256"):
        run(network, x_0, labels, schedule, kind, config, checkpoints=tmp_path)


def test_a_loss_that_is_no_number_stops_it():
    with pytest.raises(FloatingPointError, match=r"at step 10: train with a smaller learning_rate than 0\.002"):
        run(mlp(), points()[0] * 1e30, points()[1], FlowSchedule(), "flow", SHORT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "epsilon"}, "did you mean 'eps'"),
        ({"kind": "score"}, "Known: edm, eps, flow, v, x_0"),
        ({"images": torch.zeros(5, 3)}, r"trains on \[N, 2\]"),
        ({"images": torch.zeros(0, 2)}, r"got \[0, 2\]"),
        ({"images": torch.zeros(500, 2, dtype=torch.float64)}, "uint8, or float32"),
        ({"images": torch.full((500, 2), torch.nan)}, "without NaN"),
        ({"labels": torch.zeros(499, dtype=torch.int64)}, r"int64 \[500\]"),
        ({"labels": torch.zeros(500)}, "got torch.float32"),
        ({"labels": torch.full((500,), 2)}, r"0 \.\. 1; got 2 \.\. 2"),
        ({"labels": torch.full((500,), -1)}, r"0 \.\. 1; got -1 \.\. -1"),
        ({"network": mlp(None)}, "labels=None"),
        ({"images": torch.zeros(500, 2).to_sparse()}, "dense tensor"),
        ({"network": mlp().double()}, r"float32 weights; this one has torch\.float64.*network\.float"),
        ({"network": mlp().requires_grad_(False)}, "no weight of the network requires a gradient"),
        ({"network": Own(image_shape=2)}, r"image_shape must be that of one image"),
        ({"network": Own(image_shape=(2.0,))}, "each number of network.image_shape must be a whole number"),
        ({"network": Own(num_classes="2")}, "network.num_classes must be a whole number"),
        ({"network": Own(rows=2)}, r"must take the labels 0 \.\. 2, the last of them the null label.*num_classes \+ 1"),
        ({"network": Own(lambda y: (y,))}, "must return a tensor"),
        ({"network": Own(lambda y: y.mean(1, keepdim=True))}, r"same shape; got \(64, 1\) and \(64, 2\)"),
        ({"record_every": 0}, "record_every must be a whole number, 1 or more; got 0"),
        ({"checkpoint_every": True}, "checkpoint_every must be a whole number"),
        (
            {"images": torch.ones(500, 1, 8, 8, dtype=torch.uint8), "network": small_unet(), "labels": None},
            "hold bytes.*Give 255",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(change, said):
    x_0, labels = points()
    arguments = {"network": mlp(), "images": x_0, "labels": labels, "kind": "flow", **change}
    with pytest.raises(ValueError, match=said):
        run(schedule=FlowSchedule(), config=SHORT, **arguments)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": 63}, "one batch or more"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"gradient_clip": 0.0}, "gradient_clip"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"label_dropout": 1.1}, "label_dropout"),
        ({"precision": "float61"}, "did you mean 'float16'|Known: auto, bfloat16, float32"),
        ({"noise_on": "gpu"}, "Known: cpu, device"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(SHORT, **change)


TOGETHER = """
    import os, sys
    from pathlib import Path
    import torch
    from safetensors.torch import save_file
    from diffusion_explained.models import MLP, MLPConfig
    from diffusion_explained.schedules import FlowSchedule
    from diffusion_explained.training import TrainConfig
    from diffusion_explained.training import train

    torch.set_num_threads(1)
    folder, batch_size, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    rank = os.environ.get("RANK", "0")
    torch.manual_seed(int(rank))  # the main process's weights are everyone's
    network = MLP(MLPConfig(width=32, num_classes=2))
    torch.manual_seed(0)
    labels = torch.arange(100) % 2
    x_0 = torch.randn(100, 2) + labels[:, None]
    config = TrainConfig(images=20 * batch_size, batch_size=batch_size, precision="float32", cuda_graph=True)
    task = (network, x_0, labels, FlowSchedule(), "flow", config)
    for record in train(*task, device=device, checkpoints=folder / "checkpoints"):
        pass
    end = {**network.state_dict(), "loss": torch.tensor(record.loss)}
    end |= {f"ema/{name}": tensor for name, tensor in record.model.network.state_dict().items()}
    save_file(end, folder / f"rank{rank}.safetensors")
"""


def launch(folder, processes, batch_size=64, device="cpu"):
    script = folder / "together.py"
    script.write_text(textwrap.dedent(TOGETHER))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable]
    if processes > 1:  # accelerate launch starts several processes on GPUs by torchrun, and on CPUs only by MPI
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port)]
    command += [str(script), str(folder), str(batch_size), device]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=TWO_GPUS)])
def test_two_processes_do_what_one_does(tmp_path, device):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, processes in ((alone, 1), (together, 2)):
        folder.mkdir()
        finished = launch(folder, processes, device=device)
        assert finished.returncode == 0, finished.stderr
    assert not (alone / "rank1.safetensors").exists()
    one, first, second = (load_file(path) for path in (alone / "rank0.safetensors", *sorted(together.glob("rank*"))))
    for name in one:
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], one[name], rtol=1e-3, atol=1e-5)
    assert len(checkpoint_files(together / "checkpoints")) == 1


@pytest.mark.parametrize("layer", [nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout])
def test_every_layer_that_drops_is_seeded(layer):
    assert has_dropout(nn.Sequential(nn.Linear(2, 2), layer(0.1))) and not has_dropout(layer(0.0))
