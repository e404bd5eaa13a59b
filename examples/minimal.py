"""Diffusion on one screen: data, noise, a network, training, DDIM and guidance, with torch alone.

    python examples/minimal.py          # half a minute on one CPU core; prints how close the samples are to the data

Two classes of points in the plane: an upper and a lower half moon. Every line has its equation in a paper:
DDPM (Ho et al. 2020), DDIM (Song et al. 2021), classifier-free guidance = CFG (Ho & Salimans 2022).
"""

import math

import torch
from torch import nn

T, NULL = 200, 2  # diffusion steps; the label that stands for "no class"
betas = torch.linspace(1e-4, 0.05, T)  # variance of the noise that each step adds (DDPM, Sec. 4)
alphas_cumprod = torch.cumprod(1 - betas, dim=0)  # (DDPM, Eq. 4)
alpha, sigma = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()  # x_t = alpha_t x_0 + sigma_t eps


def data(labels: torch.Tensor) -> torch.Tensor:
    """Points [B, 2] of the half moons: label 0 is the upper one, label 1 the lower one."""
    angle = math.pi * (torch.rand(len(labels)) + labels)
    centre = torch.stack([labels - 0.5, 0.5 * labels - 0.25], dim=1)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + centre + 0.05 * torch.randn(len(labels), 2)


class Network(nn.Module):
    """eps_theta(x_t, t, label) predicts the noise in x_t. [B, 2] in, [B, 2] out."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.time, self.label = nn.Linear(32, width), nn.Embedding(3, width)
        self.inp, self.out = nn.Linear(2, width), nn.Linear(width, 2)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        angles = t[:, None] / T * math.pi * 2.0 ** torch.arange(-1, 15) / 2  # each octave resolves finer times
        h = self.inp(x_t) + self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(label)
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h))
        return self.out(nn.functional.silu(h))


def train(network: Network, steps: int = 4000, batch: int = 256) -> None:
    """DDPM, Algorithm 1, with the label dropped one time in ten (CFG, Algorithm 1)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / steps)
        label, t, eps = torch.randint(2, (batch,)), torch.randint(T, (batch,)), torch.randn(batch, 2)
        x_t = alpha[t, None] * data(label) + sigma[t, None] * eps  # (DDPM, Eq. 4)
        label = torch.where(torch.rand(batch) < 0.1, NULL, label)
        loss = (network(x_t, t, label) - eps).square().mean()  # (DDPM, Eq. 14)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def sample(network: Network, label: torch.Tensor, steps: int = 20, guidance_scale: float = 1.0) -> torch.Tensor:
    """DDIM (Eq. 12, eta = 0) from noise to points [B, 2], guided by eps = uncond + w (cond - uncond)."""
    x, times = torch.randn(len(label), 2), torch.linspace(T - 1, 0, steps).round().long().tolist()
    for t, next_t in zip(times, [*times[1:], None], strict=True):
        time, null = torch.full((len(label),), t), torch.full_like(label, NULL)
        cond, uncond = network(x, time, label), network(x, time, null)
        eps = uncond + guidance_scale * (cond - uncond)
        x_0 = (x - sigma[t] * eps) / alpha[t]
        x = x_0 if next_t is None else alpha[next_t] * x_0 + sigma[next_t] * eps
    return x


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network()
    train(network)
    labels = torch.arange(2).repeat(500)
    for w in (1.0, 2.0):
        apart = torch.cdist(sample(network, labels, guidance_scale=w), data(labels.repeat(4)))
        own = torch.where(labels[:, None] == labels.repeat(4), apart, math.inf).amin(dim=1)
        print(f"guidance scale {w:g}: {(own < 0.15).float().mean():.1%} of the samples lie on their own half moon")
