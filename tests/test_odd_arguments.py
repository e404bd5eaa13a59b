"""Every public callable refuses arguments of a foreign class in a sentence, found by a sweep over what users import."""

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import diffusion_explained
from diffusion_explained import load_pretrained, samplers, stable_diffusion
from diffusion_explained.checks import typed_arguments
from diffusion_explained.data import bundled_mnist
from diffusion_explained.devices import choose_device
from diffusion_explained.forward import add_noise
from diffusion_explained.metrics.evaluation import Model as Measurable
from diffusion_explained.micro.retrieval import load_retrieval
from diffusion_explained.micro.training_runs import load_autoencoder
from diffusion_explained.models import MLP, DiT, MLPConfig, UNet, count_flops, count_parameters
from diffusion_explained.noise import randn, seeded, stream
from diffusion_explained.predictions import input_scale
from diffusion_explained.pretrained import Model, load_classifier
from diffusion_explained.schedules import FlowSchedule
from diffusion_explained.stable_diffusion import load, stand_in
from diffusion_explained.training import TrainConfig, train

REPOSITORY = Path(__file__).parents[1]
FLOW = FlowSchedule()
CONFIG = TrainConfig(images=32, batch_size=16)
POINTS = torch.linspace(-1, 1, 64).reshape(32, 2)
META = torch.zeros(2, 3, 4, 4, device="meta")


class Odd:
    """An argument of a class that no callable takes."""

    def __repr__(self) -> str:  # without an address: it names the tests, in every worker alike
        return "Odd()"


def names_that_users_import() -> set[tuple[str, str]]:
    """(module, name) of all that the course and the examples import, and of the flat namespaces."""
    flat = {
        (f"diffusion_explained.{room}", name) for room, names in diffusion_explained.HOMES.items() for name in names
    }
    flat |= {("diffusion_explained.stable_diffusion", name) for name in stable_diffusion.__all__}
    for file in (*REPOSITORY.glob("notebooks/src/*.py"), *REPOSITORY.glob("examples/*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules = {}  # that the file imports by name, such as `from diffusion_explained import micro`
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffusion_explained"):
                flat |= {(node.module, alias.name) for alias in node.names}
                modules |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):  # plots.curves, micro.emoji.load_emoji_sample
                first, *within, name = ast.unparse(node).split(".")
                module = ".".join([modules.get(first, ""), *within])
                if first in modules and isinstance(imported(module), ModuleType):
                    flat.add((module, name))
    return flat


def imported(name: str) -> object:
    """The module of this name, or None for the name of something else."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def doors() -> dict[str, object]:
    """The callables among these names that take arguments, records of values and errors left out."""
    found = {}
    for module, name in sorted(names_that_users_import()):
        value = getattr(importlib.import_module(module), name, None)
        record = isinstance(value, type) and (issubclass(value, tuple | BaseException) or plain_record(value))
        if callable(value) and not record and inspect.signature(value).parameters:
            found[f"{module}.{name}"] = value
    return found


def plain_record(of: type) -> bool:
    """Whether a class only holds the values that our functions put into it."""
    return hasattr(of, "__dataclass_fields__") and not hasattr(of, "__post_init__")


DOORS = doors()


@pytest.mark.parametrize("name", DOORS)
def test_a_foreign_class_is_refused_in_a_sentence(name):
    call: object = DOORS[name]
    keyed = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    odd = {one.name: Odd() for one in inspect.signature(call).parameters.values() if one.kind in keyed}
    with pytest.raises(ValueError, match=r".{15,}") as raised:
        made = call(**odd)
        if inspect.isgenerator(made):
            next(made)
        with made:
            pass
    assert "\n" not in str(raised.value) and "'Odd' object" not in str(raised.value)


def test_the_sweep_sees_the_public_callables():
    assert len(DOORS) > 70 and {"train", "load", "euler", "UNet"} <= {name.rpartition(".")[2] for name in DOORS}


ODD_DEVICES = [5, "", "gpu", "cuda:x", "cuda:99", "meta", b"cpu", Odd(), True, torch.device("meta"), ["cpu"], "CPU", -1]
TAKE_A_DEVICE = {
    "choose_device": choose_device,
    "stream": lambda device: stream(0, device),
    "randn": lambda device: randn((2,), device=device),
    "load_pretrained": lambda device: load_pretrained("mnist_unet_flow", device),
    "load_classifier": lambda device: load_classifier(device=device),
    "load_retrieval": lambda device: load_retrieval(device=device),
    "load_autoencoder": lambda device: load_autoencoder(Path("micro"), device),
    "load": lambda device: load("micro", device),
    "stand_in": lambda device: stand_in(device=device),
    "train": lambda device: next(train(MLP(MLPConfig()), POINTS, None, FLOW, "flow", CONFIG, device=device)),
}


@pytest.mark.parametrize("device", ODD_DEVICES, ids=repr)
def test_one_door_for_devices(device):
    for name, call in TAKE_A_DEVICE.items():
        with pytest.raises(ValueError, match="device") as raised:
            call(device)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 300, name
    for name in TAKE_A_DEVICE.keys() - {"load"}:  # whose None is a GPU
        with pytest.raises(ValueError, match="device"):
            TAKE_A_DEVICE[name](None)


def test_a_device_may_be_a_torch_device():
    assert choose_device(torch.device("cpu")) == choose_device("cpu") == torch.device("cpu")
    assert stream(3, torch.device("cpu")).initial_seed() == 3


NETWORK = MLP(MLPConfig())
REFUSED = {
    "a tensor without numbers": lambda: add_noise(META, META, FLOW.level(0.5)),
    "a start without numbers": lambda: list(samplers.euler(lambda x, level: None, META, FLOW.levels(2))),
    "build": lambda: seeded(0, "unet"),
    "no build": lambda: seeded(0, None),
    "start": lambda: samplers.run("euler", lambda x, level: None, "start"),
    "no start": lambda: samplers.run("euler", lambda x, level: None, None),
    "scale of an unknown kind": lambda: input_scale("noise", 0.5, 0.5),
    "scale of words": lambda: input_scale("edm", "0.5", 0.5),
    "scale of None": lambda: input_scale("edm", 0.5, None),
    "scale of NaN": lambda: input_scale("eps", float("nan"), 0.5),
    "scale of whole tensors": lambda: input_scale("edm", torch.ones(2, dtype=torch.int64), 0.5),
    "config of words": lambda: UNet("x"),
    "config None": lambda: DiT(None),
    "config a table": lambda: MLP({"width": 8}),
    "the other network's config": lambda: UNet(MLPConfig()),
    "parameters of None": lambda: count_parameters(None),
    "parameters of a table": lambda: count_parameters({}),
    "operations of a layer": lambda: count_flops(nn.Linear(2, 2)),
    "operations of nothing": lambda: count_flops("unet"),
    "class -1": lambda: bundled_mnist().of_class(-1),
    "class 1.5": lambda: bundled_mnist().of_class(1.5),
    "class True": lambda: bundled_mnist().of_class(True),
    "class NaN": lambda: bundled_mnist().of_class(float("nan")),
    "a class's name": lambda: bundled_mnist().of_class("7"),
    "batches of 0": lambda: bundled_mnist().batches(0),
    "batches of -1": lambda: bundled_mnist().batches(-1),
    "batches of 2.0": lambda: bundled_mnist().batches(2.0),
    "a batch beyond": lambda: bundled_mnist().batch(torch.tensor([10**6])),
    "a batch from the end": lambda: bundled_mnist().batch(torch.tensor([-1])),
    "a batch of truths": lambda: bundled_mnist().batch(torch.tensor([True])),
    "train None": lambda: next(train(None, POINTS, None, FLOW, "flow", CONFIG)),
    "train a layer": lambda: next(train(nn.Linear(2, 2), POINTS, None, FLOW, "flow", CONFIG)),
    "train a table": lambda: next(train({"network": "mlp"}, POINTS, None, FLOW, "flow", CONFIG)),
    "a model of None": lambda: Model("m", None, FLOW, "flow", (), {}),
    "a model of an unknown kind": lambda: Model("m", NETWORK, FLOW, "noise", (), {}),
    "a model without a schedule": lambda: Model("m", NETWORK, None, "flow", (), {}),
    "a model that clips at -1": lambda: Model("m", NETWORK, FLOW, "flow", (), {}, 2.0, -1),
    "a model whose scale is NaN": lambda: Model("m", NETWORK, FLOW, "flow", (), {}, float("nan")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_odd_values_are_refused_in_a_sentence(what):
    with pytest.raises(ValueError, match=r".{15,}") as raised:
        REFUSED[what]()
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


@pytest.fixture(scope="module")
def model():
    return load_pretrained("mnist_unet_flow")


@pytest.mark.parametrize(
    "options",
    [
        {"start": 5},
        {"start": "noise"},
        {"guidance_scale": "2"},
        {"guidance_scale": [2.0]},
    ],
    ids=repr,
)
def test_odd_options_of_a_denoiser(model, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        model.denoiser([3], **options)


def test_odd_options_of_a_model(model):
    for options in ({"batch_size": np.array([2])}, {"batch_size": [2]}, {"seed": {}}, {"sampler": 5}, {"spacing": 5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            model.sample(None, **{"batch_size": 1, **options})
    for levels in ("10", 10, [0.5], FLOW):
        with pytest.raises(ValueError, match="levels must be"):
            model.prepare(0, levels=levels)
    with pytest.raises(ValueError, match="batch_size"):
        model.noise(np.array([1, 2]))
    assert len(model.prepare(0, np.int64(2)).x_t) == 2


def test_a_protocol_of_attributes_is_not_a_function(model):
    @typed_arguments
    def measure(model: Measurable) -> str:
        return model.name

    assert measure(model) == "mnist_unet_flow"
    with pytest.raises(ValueError, match="model must be a Model, with the attributes name, device, sample"):
        measure(len)
