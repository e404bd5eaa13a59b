"""What several tests share: their files' order, no network for notebooks, a stand-in for a network, a bare machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

# The files that take longest, longest first (`pytest --durations=0` finds them). pytest-xdist gives each worker whole
# files: when a long file begins last, the other workers are idle until it ends.
LONGEST = (
    "test_browser",
    "a notebook",
    "test_stable_diffusion_page",
    "test_stable_diffusion",
    "test_published",
    "test_programs_of_stable_diffusion",
    "test_served",
    "test_text_to_image_page",
    "test_pages",
    "test_micro_training",
    "test_same_pixels_of_stable_diffusion",
    "test_pretrained",
    "test_training",
    "test_packaging",
    "test_programs",
    "test_plane_page",
    "test_diagnosis",
    "test_weight_files",
    "test_style_panel",
    "test_cli",
    "test_course_grades",
    "test_finite",
    "test_exercises",
    "test_sharing",
    "test_stable_diffusion_fast",
    "test_micro_image_prompt",
    "test_cifar10",
    "test_model_folders",
    "test_same_pixels",
    "test_minimal",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; pytest-xdist keeps this order with `--no-loadscope-reorder` (Makefile)."""
    place = {name: k for k, name in enumerate(LONGEST)}
    names = {item: "a notebook" if item.path.suffix == ".ipynb" else item.path.stem for item in items}
    items.sort(key=lambda item: place.get(names[item], len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A notebook runs offline: its kernel, which starts with its first cell, has this process's environment."""
    with pytest.MonkeyPatch.context() as patch:
        if item.path.suffix == ".ipynb":
            patch.setenv("HF_HUB_OFFLINE", "1")
            patch.delenv("MPLBACKEND", raising=False)  # which Streamlit sets when the tests of its pages are imported
        return (yield)


@pytest.fixture
def toy_network():
    """A smooth nonlinear function of (x, t, labels): any sampler's arithmetic shows in what it does to it."""

    def network(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        shift = 0 if labels is None else 0.2 * labels.float().reshape(-1, *[1] * (x.ndim - 1))
        return torch.tanh(1.3 * x + 0.2 * torch.sin(t / 150).reshape(-1, *[1] * (x.ndim - 1)) + shift)

    return network


@pytest.fixture
def x_T() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and caches that hold nothing."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DIFFUSION_EXPLAINED_CACHE", str(tmp_path / "decoded"))
