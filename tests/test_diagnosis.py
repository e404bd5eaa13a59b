"""`metrics.diagnose`: each fault is named by its symptoms, and a right network has none.

The networks here are the exact denoisers of the problems that the faults make, with noise of 2% on their outputs;
`benchmarks/diagnosis.py` trains networks with each fault.
"""

import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from diffusion_explained.cli.main import app
from diffusion_explained.data import toy
from diffusion_explained.data.toys import gaussian_modes
from diffusion_explained.exact import ExactDenoiser, GaussianMixture
from diffusion_explained.metrics.diagnosis import diagnose
from diffusion_explained.predictions import target
from diffusion_explained.schedules import DDPMSchedule, EDMSchedule, FlowSchedule, Level
from diffusion_explained.training.faults import FAULTS as TRAINED_FAULTS
from diffusion_explained.training.faults import learn

MEANS, STD = gaussian_modes("eight_gaussians")
LINEAR, COSINE = DDPMSchedule.linear(), DDPMSchedule.cosine()


def mixture(factor=1.0, shift=0.0):
    return GaussianMixture(factor * MEANS + shift, factor * STD, classes=list(range(8)))


def exact(level_of, kind="eps", data=None, sign=1.0, label_of=lambda label: label, share=1.0):
    """The network that a training would end in: level_of(t) is the level of its noisy inputs at the told time t."""
    data, jitter = mixture() if data is None else data, torch.Generator().manual_seed(0)

    def network(x, t, labels=None):
        level = level_of(float(t[0]))
        pred = ExactDenoiser(data)(x, level)
        output = target(kind, pred.x_0, pred.eps, level.alpha, level.sigma)
        if labels is not None and int(labels[0]) < 8:
            pred = ExactDenoiser(data, labels=label_of(labels))(x, level)
            cond = target(kind, pred.x_0, pred.eps, level.alpha, level.sigma)
            output = output + share * (cond - output)
        return sign * output * (1 + 0.02 * torch.randn(x.shape, generator=jitter))

    return network


def squared(t):
    level = LINEAR.level(t)
    return Level(t, level.alpha**2, level.sigma**2)


def one_step(t):
    beta = float(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[int(t)])
    return Level(t, (1 - beta) ** 0.5, beta**0.5)


FAULTS = {
    "off by one": exact(lambda t: LINEAR.level(min(t + 1, 999))),
    "off by one, the other way": exact(lambda t: LINEAR.level(max(t - 1, 0))),
    "variances for standard deviations": exact(squared),
    "one step's noise": exact(one_step),
    "range 0 to 1": exact(LINEAR.level, data=mixture(0.5, 0.5)),
    "scale of the data": exact(LINEAR.level, data=mixture(0.18215)),
    "scale of the data, inverse": exact(LINEAR.level, data=mixture(1 / 0.18215)),
    "wrong sign": exact(LINEAR.level, sign=-1),
    "another draw of noise": lambda x, t, labels: torch.zeros_like(x) + 0.01 * t[:, None] / 1000,
    "predicts x_0": exact(LINEAR.level, "x_0"),
    "predicts v": exact(LINEAR.level, "v"),
    "schedule cosine": exact(COSINE.level),
    "schedule scaled_linear": exact(DDPMSchedule.scaled_linear().level),
    "time in another unit": exact(lambda t: LINEAR.level(min(1000 * t, 999))),
    "time ignored": lambda x, t, labels: x,
    "label ignored": exact(LINEAR.level, share=0.0),
    "label dropout inverted": exact(LINEAR.level, share=0.5),
    "guidance inside": exact(LINEAR.level, share=2.0),
    "labels shifted": exact(LINEAR.level, label_of=lambda label: (label + 1) % 8),
    "not trained": lambda x, t, labels: torch.sin(7 * x + 0.001 * t[:, None]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(fault):
    found = diagnose(FAULTS[fault], "eight_gaussians", LINEAR, "eps", num_classes=8)
    assert found.fault == fault, found


@pytest.mark.parametrize(
    ("schedule", "kind"),
    [(LINEAR, "eps"), (COSINE, "v"), (DDPMSchedule.linear(num_train_timesteps=100), "x_0"), (FlowSchedule(), "flow")],
)
def test_a_right_network_has_no_fault(schedule, kind):
    clock = 1000 if isinstance(schedule, FlowSchedule) else 1
    network = exact(lambda t: schedule.level(t / clock), kind)
    found = diagnose(network, "eight_gaussians", schedule, kind, num_classes=8)
    assert found.fault is None and found.errors["none"] < 0.001 and 0.95 < found.label_share < 1.05


TWENTY = DDPMSchedule.cosine(num_train_timesteps=20)


@pytest.mark.parametrize("fault", [None, "off by one", "label dropout inverted", "null label never trained"])
def test_the_fault_of_a_trained_network_is_named_and_a_right_one_has_none(fault):
    network = learn(*toy("eight_gaussians", 5000), TWENTY, "eps", fault=fault, steps=1000, width=48)
    assert diagnose(network, "eight_gaussians", TWENTY, "eps", num_classes=8).fault == fault


@pytest.mark.parametrize("fault", TRAINED_FAULTS)
def test_each_fault_of_the_loop_changes_the_network(fault):
    points, labels = toy("eight_gaussians", 500)
    schedule, t = DDPMSchedule.linear(num_train_timesteps=20), torch.linspace(0, 950, 500)
    right, wrong = (learn(points, labels, schedule, "eps", fault=one, steps=3, width=16) for one in (None, fault))
    assert not right(points, t, labels).requires_grad
    assert not torch.equal(right(points, t, labels), wrong(points, t, labels))


def test_a_loop_refuses_unknown_faults_and_data_that_are_no_points():
    points, labels = toy("eight_gaussians", 50)
    with pytest.raises(ValueError, match=r"off by two.*did you mean 'off by one'"):
        learn(points, labels, TWENTY, "eps", fault="off by two")
    with pytest.raises(ValueError, match=r"points \[N, 2\], with one class each; got \[50, 1\], 50"):
        learn(points[:, :1], labels, TWENTY, "eps")


def test_what_is_no_network_or_no_toy_is_refused():
    with pytest.raises(ValueError, match="finite points"):
        diagnose(lambda x, t, labels: x * float("nan"), "eight_gaussians", LINEAR, "eps")
    with pytest.raises(ValueError, match="num_classes is the number of classes of eight_gaussians, 8"):
        diagnose(lambda x, t, labels: x, "eight_gaussians", LINEAR, "eps", num_classes=10)
    with pytest.raises(ValueError, match="toy made of Gaussians"):
        diagnose(lambda x, t, labels: x, "moons", LINEAR, "eps")
    with pytest.raises(ValueError, match="network must be"):
        diagnose(3, "eight_gaussians", EDMSchedule(), "edm")


def test_from_the_command_line(tmp_path, monkeypatch):
    """A module of the reader's folder; the exit code says whether there is a fault."""
    (tmp_path / "my_network.py").write_text(
        "import torch\n\ndef network(x, t, labels):\n    return 0 * x + 0.00001 * t[:, None]\n\n"
        "def make():\n    return network\n\nbroken = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    run = CliRunner().invoke
    for name in ("network", "make"):
        result = run(app, ["diagnose", f"my_network:{name}", "--json"])
        assert result.exit_code == 1 and json.loads(result.stdout)["fault"] == "another draw of noise"
    for where, words in (
        ("my_network", "Give the network as MODULE:CALLABLE"),
        ("my_network:broken", "There is no callable broken in my_network"),
        ("no_such_module:network", "could not be loaded: ModuleNotFoundError"),
    ):
        result = run(app, ["diagnose", where])
        assert result.exit_code == 2 and words in result.stderr
