"""Few-step models against closed forms: for Gaussian data the flow's map and its mean velocities are known."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from diffusion_explained.denoisers import JumpDenoiser, NetworkDenoiser
from diffusion_explained.exact import GaussianMixture
from diffusion_explained.forward import add_noise
from diffusion_explained.models import MLP, MLPConfig, NetworkModule
from diffusion_explained.noise import seeded, stream
from diffusion_explained.pretrained import Model
from diffusion_explained.samplers import consistency, ddim, euler, final
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule
from diffusion_explained.training import TrainConfig, train, training_loss
from diffusion_explained.training.consistency import Consistency
from diffusion_explained.training.few_steps import Batch, chord, levels_at
from diffusion_explained.training.progressive import Progressive
from diffusion_explained.training.shortcut import Shortcut

SCHEDULE = FlowSchedule(t_distribution="uniform")
MEAN, STD = torch.tensor([1.0, -0.5], dtype=torch.float64), 0.4
GAUSSIAN = GaussianMixture(MEAN[None], STD)


def moved(x_t, t, s):
    """Where the flow of the Gaussian takes x_t [B, 2] from the times t [B] to s [B]."""
    spread = [(((1 - time) * STD) ** 2 + time**2).sqrt()[:, None] for time in (t, s)]
    return (1 - s)[:, None] * MEAN + spread[1] / spread[0] * (x_t - (1 - t)[:, None] * MEAN)


class Exact(NetworkModule):
    """The exact mean velocity of the Gaussian's flow, from t to 0, or to the second time; `scale` spoils it."""

    image_shape, num_classes = (2,), None

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def forward(self, x_t, t, labels=None):
        start, end = (t, 0 * t) if t.ndim == 1 else t.unbind(dim=1)
        start, end = start.double() / 1000, end.double() / 1000
        apart = (start - end).clamp(min=1e-5)
        end = start - apart  # where both are equal, a short step: the velocity itself
        return (self.scale * (x_t.double() - moved(x_t.double(), start, end)) / apart[:, None]).to(x_t.dtype)


def batch_of(size=200, seed=0):
    generator = stream(seed)
    x_0 = GAUSSIAN.sample(size, generator)[0].double()
    eps = torch.randn(size, 2, generator=generator).double()
    t = 0.02 + 0.98 * torch.rand(size, generator=generator).double()
    return Batch(x_0, eps, t, SCHEDULE.network_time(t), None)


def loss_of(network, batch):
    level = levels_at(SCHEDULE, batch.t)
    return float(training_loss(network, "flow", batch.x_0, batch.eps, level.alpha, level.sigma, batch.time))


def state_of(network):
    return SimpleNamespace(network=network, ema=network, generator=stream(3))


def random_mlp(seed=0, **config):
    def build():
        network = MLP(MLPConfig(width=16, layers=2, **config)).requires_grad_(False)
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
        return network

    return seeded(seed, build)


def model_of(network, schedule=SCHEDULE, kind="flow"):
    names = tuple(str(label) for label in range(network.num_classes or 0))
    return Model("teacher", network, schedule, kind, names, {})


class TestChord:
    @pytest.mark.parametrize("schedule", [SCHEDULE, DDPMSchedule.linear(), EDMSchedule()])
    def test_its_ddim_step_leads_from_the_one_point_to_the_other(self, schedule):
        levels = schedule.levels(4)
        x_t, x_s = torch.randn(2, 5, 3, dtype=torch.float64, generator=stream(0))
        for level, next_level in pairwise(levels):
            x_0, eps = chord(x_t, x_s, level, next_level)
            scale = max(1.0, level.sigma)
            torch.testing.assert_close(add_noise(x_0, eps, level), x_t, atol=1e-9 * scale, rtol=1e-9)
            torch.testing.assert_close(add_noise(x_0, eps, next_level), x_s, atol=1e-9 * scale, rtol=1e-9)

    def test_on_the_straight_path_it_is_the_mean_velocity_and_to_clean_data_its_x_0_is_the_end(self):
        x_t, x_s = torch.randn(2, 5, 3, generator=stream(0))
        x_0, eps = chord(x_t, x_s, SCHEDULE.level(0.75), SCHEDULE.level(0.25))
        torch.testing.assert_close(eps - x_0, (x_t - x_s) / 0.5)
        torch.testing.assert_close(chord(x_t, x_s, SCHEDULE.level(0.75), SCHEDULE.clean)[0], x_s)

    def test_there_is_none_through_one_level(self):
        with pytest.raises(ValueError, match="two different levels"):
            chord(torch.zeros(1, 2), torch.ones(1, 2), SCHEDULE.level(0.5), SCHEDULE.level(0.5))


class TestProgressive:
    @pytest.mark.parametrize("n", [1, 4])
    def test_the_target_is_two_ddim_steps_of_the_teacher(self, n):
        teacher, batch = model_of(random_mlp(num_classes=3)), batch_of(40)
        batch = batch._replace(labels=torch.arange(40) % 4)  # 3 is the null label
        found = Progressive(teacher, n)(batch, state_of(None), 0.0)
        levels = SCHEDULE.levels(2 * n)
        assert set(found.t.tolist()) == {level.t for level in levels[:-1:2]}
        torch.testing.assert_close(found.time, SCHEDULE.network_time(found.t))
        for k in range(40):
            i = [level.t for level in levels].index(float(found.t[k]))
            x_t = add_noise(batch.x_0[k : k + 1], batch.eps[k : k + 1], levels[i])
            denoise = NetworkDenoiser(teacher.network, SCHEDULE, "flow", cond=batch.labels[k : k + 1])
            two_steps = final(ddim(denoise, x_t, levels[i : i + 3]))
            one_step = add_noise(found.x_0[k : k + 1], found.eps[k : k + 1], levels[i + 2])
            torch.testing.assert_close(one_step, two_steps, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(add_noise(found.x_0[k : k + 1], found.eps[k : k + 1], levels[i]), x_t)

    def test_levels_that_are_not_every_other_one_are_refused(self):
        with pytest.raises(ValueError, match="not every other one of 6: use a FlowSchedule"):
            Progressive(model_of(random_mlp(), EDMSchedule(), "edm"), 3)
        with pytest.raises(ValueError, match="must be a whole number, 1 or more; got 0"):
            Progressive(model_of(random_mlp()), 0)


class TestConsistency:
    @pytest.mark.parametrize("kind", ["flow", "v", "eps", "edm"])
    def test_the_boundary_condition_holds_exactly_for_any_network(self, kind):
        x = torch.randn(50, 2, generator=stream(1))
        assert torch.equal(NetworkDenoiser(random_mlp(), SCHEDULE, kind)(x, SCHEDULE.clean).x_0, x)

    @pytest.mark.parametrize("teacher", [None, "exact"])
    def test_the_closed_form_is_the_minimum(self, teacher):
        """With a teacher up to the error of its short step, from data in the mean: a spoiled scale is worse."""
        velocity = model_of(Tangent()) if teacher else None
        method, batch = Consistency(SCHEDULE, velocity, halvings=12), batch_of(20_000)
        target = method(batch, state_of(Exact()), 1.0)
        if teacher:
            assert loss_of(Exact(), target) < 1e-4
        losses = {scale: loss_of(Exact(scale), target) for scale in (0.95, 1.0, 1.05)}
        assert losses[1.0] < min(losses[0.95], losses[1.05])
        slope, curvature = (
            (losses[1.05] - losses[0.95]) / 0.1,
            (losses[1.05] + losses[0.95] - 2 * losses[1.0]) / 0.05**2,
        )
        assert abs(slope / curvature) < 0.02  # the minimum lies within 2% of the closed form

    def test_the_gap_is_halved_in_stages_and_t_is_kept(self):
        method, batch = Consistency(SCHEDULE, halvings=3), batch_of()
        assert [method.gap(done) for done in (0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [
            1 / 2,
            1 / 2,
            1 / 4,
            1 / 8,
            1 / 16,
            1 / 16,
        ]
        found = method(batch, state_of(Exact()), 0.0)
        assert torch.equal(found.t, batch.t) and torch.equal(found.time, batch.time)
        level = levels_at(SCHEDULE, batch.t)
        x_t = add_noise(batch.x_0, batch.eps, level)
        torch.testing.assert_close(add_noise(found.x_0, found.eps, level), x_t)

    def test_a_schedule_without_clean_data_is_refused(self):
        with pytest.raises(ValueError, match="t = 0 is clean data: give a FlowSchedule"):
            Consistency(DDPMSchedule.linear())

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_its_sampler_draws_the_data_in_any_number_of_steps(self, n):
        x_T = torch.randn(4000, 2, generator=stream(5))
        denoise = NetworkDenoiser(Exact(), SCHEDULE, "flow")
        steps = list(consistency(denoise, x_T, SCHEDULE.levels(n), generator=stream(6)))
        assert len(steps) == n and torch.equal(steps[0].x_t, x_T)
        expected = moved(x_T.double(), torch.ones(4000).double(), torch.zeros(4000).double())
        torch.testing.assert_close(steps[0].pred.x_0.double(), expected, atol=1e-4, rtol=0)
        x_0 = steps[-1].x_next.double()
        assert (x_0.mean(0) - MEAN).abs().max() < 4 * STD / 4000**0.5
        assert (x_0.std(0) / STD - 1).abs().max() < 4 / 8000**0.5
        for step, after in pairwise(steps):  # the noise is new, and of the next level
            noise = (after.x_t - step.next_level.alpha * step.pred.x_0) / step.next_level.sigma
            assert abs(noise.std() - 1) < 0.05 and abs(float((noise * x_T).mean())) < 0.06


class Tangent(NetworkModule):
    """The exact velocity of the Gaussian's flow, E[eps - x_0 | x_t]."""

    image_shape, num_classes = (2,), None

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # a model's network has weights

    def forward(self, x_t, t, labels=None):
        sigma = (t.double() / 1000)[:, None]
        alpha, x = 1 - sigma, x_t.double()
        x_0 = MEAN + alpha * STD**2 / ((alpha * STD) ** 2 + sigma**2) * (x - alpha * MEAN)
        return ((x - alpha * x_0) / sigma - x_0).to(x_t.dtype)


class TestShortcut:
    def test_the_closed_form_is_the_minimum(self):
        method, batch = Shortcut(SCHEDULE, most_steps=64, share=0.5), batch_of(4000)
        found = method(batch, state_of(Exact()), 0.0)
        start, end = found.time.double().unbind(dim=1)
        assert torch.equal(start[2000:], end[2000:]) and torch.equal(found.x_0[2000:], batch.x_0[2000:])
        assert set((start - end)[:2000].round(decimals=3).tolist()) == {1000.0 / 2**k for k in range(6)}
        own = Batch(*(part[:2000] for part in found[:4]), None)
        assert loss_of(Exact(), own) < 1e-4
        assert min(loss_of(Exact(scale), own) for scale in (0.9, 1.1)) > 20 * loss_of(Exact(), own)

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_its_steps_land_on_the_path(self, n):
        x_T, levels = torch.randn(50, 2, generator=stream(7)), SCHEDULE.levels(n)
        steps = list(euler(JumpDenoiser(Exact(), SCHEDULE, levels), x_T, levels))
        for step in steps:
            t = torch.full((50,), step.next_level.t, dtype=torch.float64)
            expected = moved(x_T.double(), torch.ones_like(t), t)
            torch.testing.assert_close(step.x_next.double(), expected, atol=1e-4, rtol=0)

    def test_a_level_that_starts_no_step_is_refused(self):
        levels = SCHEDULE.levels(2)
        with pytest.raises(
            ValueError, match=r"No step starts at level t=0\.75: give the levels that the sampler visits"
        ):
            JumpDenoiser(Exact(), SCHEDULE, levels)(torch.zeros(1, 2), SCHEDULE.level(0.75))

    @pytest.mark.parametrize(
        ("options", "said"), [({"most_steps": 48}, "power of two"), ({"share": 1}, "between 0 and 1")]
    )
    def test_settings_out_of_range_are_refused(self, options, said):
        with pytest.raises(ValueError, match=said):
            Shortcut(SCHEDULE, **options)

    def test_a_network_of_two_times_is_told_both(self):
        network, x = random_mlp(two_times=True), torch.randn(6, 2, generator=stream(8))
        t = torch.full((6,), 800.0)
        alone = network(x, t)
        torch.testing.assert_close(network(x, torch.stack([t, t], dim=1)), alone)
        assert not torch.allclose(network(x, torch.stack([t, t - 400], dim=1)), alone, atol=1e-2)
        with pytest.raises(ValueError, match="one time per point: build it with two_times=True"):
            random_mlp()(x, torch.stack([t, t - 400], dim=1))


METHODS = {
    "consistency": lambda teacher: Consistency(SCHEDULE),
    "distillation": lambda teacher: Consistency(SCHEDULE, teacher),
    "progressive": lambda teacher: Progressive(teacher, 2),
    "shortcut": lambda teacher: Shortcut(SCHEDULE, most_steps=8),
}


@pytest.mark.parametrize("name", METHODS)
def test_it_trains_by_the_one_loop_and_the_loss_falls(name):
    data, _ = GAUSSIAN.sample(500, stream(9))
    config = TrainConfig(images=64 * 80, batch_size=64, learning_rate=5e-3, label_dropout=0, ema_decay=0.9)
    teacher = model_of(Tangent() if name == "progressive" else random_mlp())
    runs = []
    for _ in range(2):
        network = seeded(0, lambda: MLP(MLPConfig(width=16, layers=2, two_times=name == "shortcut")))
        records = train(network, data, None, SCHEDULE, "flow", config, method=METHODS[name](teacher), record_every=20)
        runs.append([record.loss for record in records])
    assert runs[0] == runs[1], "a seed is a training run"
    if name != "distillation":  # its teacher here is random, and no target for a small network
        assert runs[0][-1] < 0.9 * runs[0][0]


def test_a_method_with_checkpoints_is_refused(tmp_path):
    data, _ = GAUSSIAN.sample(10, stream(9))
    with pytest.raises(ValueError, match="keeps no checkpoints"):
        next(train(random_mlp(), data, None, SCHEDULE, "flow", TrainConfig(images=128), method=Consistency(SCHEDULE),
                   checkpoints=tmp_path))  # fmt: skip
