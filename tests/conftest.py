"""What several tests share: a smooth stand-in for a network, noise, and a machine that has nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor


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
