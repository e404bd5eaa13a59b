"""Our U-Net beside the U-Nets of smalldiffusion and denoising-diffusion-pytorch, on the same digits, in one run.

    make peers        # or: pip install --no-deps -r benchmarks/requirements.txt && python benchmarks/peers.py

Each network has the configuration that its authors publish for 28 x 28 digits: smalldiffusion's FashionMNIST example;
for denoising-diffusion-pytorch, which publishes none, its README's dim 64 with three levels, because 28 can be halved
only twice. Both packages import torchvision, for transforms that are not used here. If it is missing, an empty module
replaces it, and the output says so.
"""

import importlib.util
import statistics
import sys
from collections.abc import Callable
from unittest.mock import MagicMock

import torch
from side_by_side import machine, paired_ratio, side_by_side, table
from torch import Tensor, nn

from diffusion_explained import load_pretrained
from diffusion_explained.data import bundled_mnist

BATCH = 64  # images in a training step
DRAWN = 16  # images in a sampling call


def stand_in_for_torchvision() -> bool:
    """Replace a missing torchvision by an empty module; return whether it was missing."""
    if importlib.util.find_spec("torchvision") is not None:
        return False
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils", "torchvision.models"):
        sys.modules[name] = MagicMock()
    return True


def networks() -> dict[str, tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]]:
    """Each network with its call on x [B, 1, 28, 28], times in [0, 1] of shape [B], and labels [B]."""
    from denoising_diffusion_pytorch import Unet as DDPMUnet
    from smalldiffusion import Unet as SmallUnet

    return {
        "ours (class-conditional)": (
            load_pretrained("mnist_unet_flow").network,
            lambda network, x, t, labels: network(x, 1000 * t, labels),
        ),
        "smalldiffusion": (
            SmallUnet(28, 1, 1, ch=64, ch_mult=(1, 1, 2), attn_resolutions=(14,)),
            lambda network, x, t, labels: network(x, t.reshape(-1, 1, 1, 1)),
        ),
        "denoising-diffusion-pytorch": (
            DDPMUnet(dim=64, dim_mults=(1, 2, 4), channels=1),
            lambda network, x, t, labels: network(x, 1000 * t),
        ),
    }


def main(rounds: int = 3) -> None:
    stood_in = stand_in_for_torchvision()
    x_0, labels = bundled_mnist().batch(torch.arange(BATCH))
    eps, t = torch.randn_like(x_0), torch.rand(BATCH)
    x_t = (1 - t).reshape(-1, 1, 1, 1) * x_0 + t.reshape(-1, 1, 1, 1) * eps

    peers = networks()
    train, draw, parameters = {}, {}, {}
    for name, (network, call) in peers.items():
        network.train().requires_grad_(True)
        parameters[name] = sum(p.numel() for p in network.parameters())
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

        def step(network=network, call=call, optimizer=optimizer) -> None:
            loss = (call(network, x_t, t, labels) - (eps - x_0)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        @torch.no_grad()
        def evaluate(network=network, call=call) -> None:
            call(network, x_t[:DRAWN], t[:DRAWN], labels[:DRAWN])

        train[name], draw[name] = step, evaluate

    trained = side_by_side(train, rounds)
    for network, _ in peers.values():
        network.eval()
    drawn = side_by_side(draw, 3 * rounds)
    ours = next(iter(trained))
    rows = [
        [
            name,
            f"{parameters[name] / 1e6:.2f} M",
            f"{BATCH / statistics.median(trained[name]):.0f}",
            f"{paired_ratio(trained, name, ours):.1f} x",
            f"{DRAWN / statistics.median(drawn[name]):.0f}",
            f"{paired_ratio(drawn, name, ours):.1f} x",
        ]
        for name in trained
    ]
    print(machine(), end="\n\n")
    print(table(["U-Net", "parameters", "training, images/s", "time", "one evaluation, images/s", "time"], rows))
    if stood_in:
        print("\nThe peers import torchvision for transforms that are not used here; an empty module replaced it.")


if __name__ == "__main__":
    main()
