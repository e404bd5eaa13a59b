"""The exercises of lab 34, A KL autoencoder and a latent flow."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near, ran, refuse

CLOSE = 1e-5
DOWN = 4  # a latent pixel stands for 4 x 4 pixels


def kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)), summed over all latents of an image, averaged over the batch [].

        1/2 sum (mean^2 + exp(log_var) - 1 - log_var)                          (Kingma & Welling 2014, Appendix B)

    mean and log_var are [B, ...].
    """
    return (mean**2 + log_var.exp() - 1 - log_var).flatten(1).sum(1).mean() / 2


@exercise("34.1", "The KL divergence", "my_kl(mean, log_var)", minutes=15, difficulty=1)
def is_the_kl(answer: object, given: Given) -> None:
    """The divergence from N(0, 1), summed over latents and averaged over images, for batches of several sizes."""
    for shape in ((1, 2, 3, 3), (4, 1, 2, 2), (3, 4, 1, 2)):
        mean, log_var = to_float64(given.randn(*shape)), to_float64(given.randn(*shape)) - 1
        expected, each = kl(mean, log_var), mean[0].numel()
        given.returns(
            answer, mean, log_var, expected=expected, close=CLOSE,
            hint="this is not half the sum of mean² + exp(log_var) - 1 - log_var, averaged over the images",
            mistakes=(
                (-expected, "the sign is wrong: a divergence is never negative"),
                (2 * expected, "the factor 1/2 is missing"),
                (expected * len(mean), "this is the sum over the images: take the mean over the batch"),
                (expected / each, "this is the mean over the latents: sum them, and take the mean over images only"),
                (kl(mean, 2 * log_var), "log_var is the logarithm of the variance, not of the standard deviation"),
                (expected + each / 2, "the term -1 is missing: at mean 0 and variance 1 the divergence is 0"),
                (kl(mean, log_var) + log_var.flatten(1).sum(1).mean() / 2, "the term -log_var is missing"),
                (kl(torch.zeros_like(mean), log_var), "the term mean² is missing"),
            ),
        )  # fmt: skip


@exercise("34.2", "A convolutional autoencoder", "my_autoencoder(channels, width)", minutes=45, difficulty=3)
def is_an_autoencoder(answer: object, given: Given) -> None:
    """encode and decode of pictures of any size that 4 divides, image by image."""
    channels = 2 + int(2 * given.rand(1))
    model = given.call(answer, channels, 8)
    assert isinstance(model, nn.Module), (
        f"{given.called} returns a torch module, an instance of a subclass of nn.Module"
    )
    methods = [getattr(model, name, None) for name in ("encode", "decode")]
    for name, method in zip(("encode", "decode"), methods, strict=True):
        assert callable(method), f"the module has no method {name}"
    encodes: Callable[[Tensor], Any] = methods[0]  # type: ignore[assignment]  # callable, as asserted
    decodes: Callable[[Tensor], Any] = methods[1]  # type: ignore[assignment]

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        result = ran(f"encode(x) of {x.shape[2]} x {x.shape[3]}", encodes, x)
        assert isinstance(result, tuple | list) and len(result) == 2, "encode returns a pair, (mean, log_var)"
        latents = (len(x), channels, x.shape[2] // DOWN, x.shape[3] // DOWN)
        for part in result:
            assert isinstance(part, Tensor) and part.shape == latents, (
                f"mean and log_var of a {x.shape[2]} x {x.shape[3]} picture are [B, {channels}, {latents[2]}, "
                f"{latents[3]}], a quarter of each side; not {list(getattr(part, 'shape', ['no tensor']))}"
            )
        return result[0], result[1]

    x = given.randn(3, 1, 28, 28)
    mean, log_var = encode(x)
    assert not near(mean.detach(), log_var.detach()), "mean and log_var are the same numbers: give each its channels"
    decoded = ran("decode(z)", decodes, mean)
    assert isinstance(decoded, Tensor) and decoded.shape == x.shape, (
        f"decode gives the shape of the picture, {list(x.shape)}; not {list(getattr(decoded, 'shape', ['no tensor']))}"
    )
    encode(given.randn(1, 1, 8, 16))  # a network of convolutions takes any size
    with torch.no_grad():
        assert near(encode(x)[0], mean.detach()), "the same picture has other means each time: encode draws nothing"
        alone = encode(x[:1])[0]
        assert near(alone, mean[:1].detach()), (
            "an image's latents depend on the other images of the batch, as with batch norm: use group norm, or none"
        )
        moved = decodes(mean + given.randn(*mean.shape))
        assert not near(moved, decoded), "the decoded picture does not depend on the latents"
        brighter = decodes(2 * mean) - decodes(mean) - (decodes(mean) - decodes(0 * mean))
        assert float(brighter.abs().max()) > 1e-5, "the decoder is linear: put activations between its layers"
    (decoded.square().mean() + log_var.square().mean()).backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert not idle, f"the weights {idle[0]} are used neither by encode nor by decode"


class _Linear(nn.Module):
    """An autoencoder of one linear layer each way: encode [B, 1, 4, 4] -> [B, 3, 1, 1] twice; decode back."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.down, self.up = (
            nn.Parameter(to_float64(given.randn(16, 6)) / 4),
            nn.Parameter(to_float64(given.randn(3, 16))),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = (x.flatten(1) @ self.down)[:, :, None, None].chunk(2, dim=1)
        return mean, log_var

    def decode(self, z: Tensor) -> Tensor:
        return (z.flatten(1) @ self.up).unflatten(1, (1, 4, 4))


@exercise("34.3", "The loss of the autoencoder", "my_loss(model, x, eps, kl_weight)", minutes=25, difficulty=2)
def is_the_autoencoders_loss(answer: object, given: Given) -> None:
    """The squared error of a decoded draw, summed over pixels, plus the weighted divergence, averaged over images."""
    for count, weight in ((3, 0.5), (5, 0.01 + float(given.rand(1))), (4, 20.0)):
        model, x = _Linear(given), to_float64(given.randn(count, 1, 4, 4))
        eps = to_float64(given.randn(count, 3, 1, 1))
        with torch.no_grad():
            mean, log_var = model.encode(x)

            def error(z: Tensor, model: _Linear = model, x: Tensor = x) -> Tensor:
                return (model.decode(z) - x).square().flatten(1).sum(1).mean()

            std = (log_var / 2).exp()
            right, divergence = error(mean + std * eps), kl(mean, log_var)
            mistakes = (
                (error(mean) + weight * divergence, "the mean is decoded: draw z = mean + std * eps"),
                (error(mean + std**2 * eps) + weight * divergence, "eps is multiplied by the variance, not its root"),
                (error(mean + log_var * eps) + weight * divergence, "eps is multiplied by log_var: exp(log_var / 2)"),
                (right, "the divergence is missing"),
                (right + divergence, "the weight of the divergence is missing"),
                (weight * right + divergence, "the weight stands at the error, not at the divergence"),
                (right - weight * divergence, "the divergence is subtracted: it is part of what is minimised"),
                (right / 16 + weight * divergence, "the error is averaged over pixels: sum it over pixels"),
                ((right + weight * divergence) * count, "this is the sum over images: take the mean over the batch"),
            )  # fmt: skip
        result = given.call(answer, model, x, eps, weight)
        assert isinstance(result, Tensor) and result.shape == (), "the loss is a tensor of one number, shape ()"
        assert result.requires_grad, "the loss has no gradient: no detach(), item() or no_grad() on its way"
        if near(result.detach(), right + weight * divergence, CLOSE):
            continue
        for wrong, hint in mistakes:
            assert not near(result.detach(), wrong, CLOSE), hint
        refuse("this is not the error, summed over pixels, plus kl_weight times the divergence")


@exercise(
    "34.4", "From noise to a picture", "my_sample(velocity, decode, noise, mean, std, n)", minutes=25, difficulty=2
)
def is_latent_sampling(answer: object, given: Given) -> None:
    """n Euler steps from t = 1 to 0 in standardised latents, then their own scale again, then one decoding."""
    for n in (1, 4, 5 + int(3 * given.rand(1))):
        noise = to_float64(given.randn(6, 2, 3, 3))
        mean, std = to_float64(given.randn(2, 1, 1)), 0.5 + to_float64(given.rand(2, 1, 1))
        up, rate = to_float64(given.randn(2)), 0.5 + float(given.rand(1))
        times: list[float] = []
        decoded = [0]

        def velocity(z: Tensor, t: Tensor, rate: float = rate, times: list[float] = times) -> Tensor:
            if not isinstance(t, Tensor) or t.shape != z.shape[:1]:
                raise ValueError("velocity takes one time per image, a tensor [B]")
            times.append(float(t[0]))
            return rate * z + torch.sin(3 * t)[:, None, None, None]

        def decode(z: Tensor, up: Tensor = up, decoded: list[int] = decoded) -> Tensor:
            decoded[0] += 1
            return torch.einsum("bchw,c->bhw", z, up)[:, None] + z.square().sum(1, keepdim=True)

        def ends(direction: float = -1.0, late: int = 0, noise: Tensor = noise, n: int = n) -> Tensor:
            z = noise
            for k in range(n):
                z = z + direction / n * velocity(z, z.new_full((len(z),), 1 - (k + late) / n))
            return z

        right = ends()
        mistakes = (
            (decode(right), "the latents are decoded as the flow has them: multiply by std and add mean first"),
            (decode((right - mean) / std), "the latents are standardised once more: the way back is z * std + mean"),
            (decode(right * std), "the mean of the latents is not added again"),
            (decode(right + mean), "the latents are not multiplied by std again"),
            (decode((right + mean) * std), "the order is wrong: multiply by std, then add mean"),
            (decode(ends(1.0) * std + mean), "the steps go the wrong way: from t = 1 to 0 each step is -1 / n"),
            (
                decode(ends(late=1) * std + mean),
                "the velocity is evaluated at the end of each step: take its beginning",
            ),
            (decode(noise * std + mean), "the noise itself is decoded: no step was made"),
        )
        expected, times[:], decoded[0] = decode(right * std + mean), [], 0
        result = given.tensor(answer, velocity, decode, noise, mean, std, n, shape=tuple(expected.shape))
        if near(result, expected, CLOSE):
            assert len(times) == n, f"{n} steps took {len(times)} evaluations of the velocity"
            assert decoded[0] == 1, f"decode was called {decoded[0]} times: only the end of the path is decoded"
            continue
        for wrong, hint in mistakes:
            assert not near(result, wrong, CLOSE), hint
        refuse(f"this is not the decoded end of {n} Euler steps; the times were {times[:3]} ...")
