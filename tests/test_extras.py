"""A missing optional package is answered with the line that installs it, and the core does without all of them."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusion_explained import pretrained
from diffusion_explained.cli import app
from diffusion_explained.extras import EXTRAS, MissingExtraError, extra, missing, require

ROOT = Path(__file__).parents[1]
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make the packages, and their modules, as if they were not installed."""
    for name in [*packages, *sys.modules]:
        if name.split(".")[0] in packages:
            monkeypatch.setitem(sys.modules, name, None)


def widgets():
    sys.modules.pop("diffusion_explained.widgets", None)
    importlib.import_module("diffusion_explained.widgets")


def download():
    from diffusion_explained.data.hub import hub_file

    hub_file("ylecun/mnist", "absent.parquet")


def parquet():
    from diffusion_explained.data.hub_datasets import DATASETS
    from diffusion_explained.data.load import read_parquet

    read_parquet(Path("absent.parquet"), DATASETS["mnist"], "test")


def switch():
    from diffusion_explained.stable_diffusion import load

    load("micro")


def tokenizer():
    from diffusion_explained.micro.tokens import load_tokenizer

    load_tokenizer()


def several_processes():
    from diffusion_explained.training.processes import Processes

    Processes.here("cpu", 8)


def emoji():
    from diffusion_explained.micro.emoji_building import rasterise

    rasterise("<svg/>")


@pytest.mark.parametrize(
    ("use", "hidden", "name"),
    [
        (widgets, ("anywidget",), "course"),
        (widgets, ("ipywidgets",), "course"),
        (download, ("huggingface_hub",), "data"),
        (parquet, ("pyarrow",), "data"),
        (switch, ("diffusers",), "sd"),
        (switch, ("transformers",), "sd"),
        (tokenizer, ("transformers",), "sd"),
        (several_processes, ("accelerate",), "train"),
        (emoji, ("resvg_py",), "train"),
    ],
)
def test_what_needs_a_missing_package_says_how_to_install_it(use, hidden, name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    hide(monkeypatch, *hidden)
    line = f"{hidden[0]} is not installed. It is needed for {EXTRAS[name]}: "
    with pytest.raises(MissingExtraError, match="^" + re.escape(f'{line}pip install "diffusion-explained[{name}]"')):
        use()
    sys.modules.pop("diffusion_explained.widgets", None)


@pytest.mark.parametrize(("command", "package", "name"), [("app", "streamlit", "app"), ("lab", "jupyterlab", "course")])
def test_the_command_line_refuses_what_it_cannot_start(command, package, name, monkeypatch, tmp_path):
    hide(monkeypatch, package)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [command, "--no-browser"])
    assert (result.exit_code, result.output) == (2, f"Error: {missing(name, package)}\n")
    assert list(tmp_path.iterdir()) == [], "refused before anything is written"


def test_weights_of_cifar10_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(pretrained, "cifar10_folder", lambda: None)
    assert not [name for name in pretrained.available() if "cifar10" in name]
    for ask in (pretrained.load_pretrained, pretrained.load_classifier):
        with pytest.raises(MissingExtraError, match=r'pip install "diffusion-explained\[cifar10\]"'):
            ask("cifar10_unet_flow")
    with pytest.raises(ValueError, match="mnist_unet_flow"):  # a name that is only misspelt
        pretrained.load_pretrained("mnist_unet_flw")


def test_a_mistake_of_our_own_is_not_taken_for_a_missing_package():
    with pytest.raises(ModuleNotFoundError, match="no_such_room"), extra("sd"):
        importlib.import_module("diffusion_explained.no_such_room")
    require("app", "json")


def test_every_extra_that_is_named_exists_and_brings_something():
    assert set(EXTRAS) <= set(OPTIONAL)
    assert str(missing("sd", "diffusers")).endswith('pip install "diffusion-explained[sd]"')


CORE = """if True:
    import sys
    sys.modules.update(dict.fromkeys({hidden}))  # None: as if it were not installed
    import torch
    import diffusion_explained
    from diffusion_explained import load_pretrained, plots, samplers, training
    from diffusion_explained.data import bundled_mnist
    model = load_pretrained("mnist_unet_flow")
    images = model.sample(torch.tensor([3, 7]), num_inference_steps=4, guidance_scale=2.0)
    plots.image_grid(images)
    from typer.testing import CliRunner
    from diffusion_explained.cli import app
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    print(len(bundled_mnist()), *images.shape)
    print(result.output)
"""


def test_the_core_runs_without_any_extra(bare_machine):
    hidden = {
        "accelerate", "anywidget", "diffusers", "huggingface_hub", "ipykernel", "IPython", "ipywidgets", "jupyterlab",
        "pandas", "pyarrow", "resvg_py", "streamlit", "traitlets", "transformers",
    }  # fmt: skip
    code = CORE.format(hidden=hidden)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert run.returncode == 0, run.stderr
    first, *doctor = run.stdout.splitlines()
    assert first == "10000 2 1 28 28"
    for name in ("app", "course", "data", "sd"):
        assert f'pip install "diffusion-explained[{name}]"' in "\n".join(doctor), name


@pytest.mark.parametrize("package", ["micro", "beyond", "stable_diffusion"])
def test_a_package_gives_out_its_modules_at_their_first_use(package):
    """In a fresh interpreter: the package alone does not import them."""
    module = {"micro": "emoji", "beyond": "clips", "stable_diffusion": "regions"}[package]
    program = f"""
import sys
from diffusion_explained import {package}
name = "diffusion_explained.{package}.{module}"
before = name in sys.modules
assert {package}.{module} is sys.modules[name] and hasattr({package}, "no_module") is False
print(before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
