"""Answers to the exercises of lab 34."""

import torch
import torch.nn.functional as F
from torch import nn

from diffusion_explained.exercises.lab_latent_flow import kl


def my_kl(mean, log_var):
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(dim=(1, 2, 3)).mean()


def by_torch(mean, log_var):
    one = torch.distributions.Normal(mean, (log_var / 2).exp())
    other = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return torch.distributions.kl_divergence(one, other).flatten(1).sum(1).mean()


class MyAutoencoder(nn.Module):
    def __init__(self, channels, width, *, norm=None, shared=False, linear=False, down=2, idle=False, noisy=False):
        super().__init__()
        act = nn.Identity if linear else nn.SiLU
        self.shared, self.noisy = shared, noisy
        norms = [norm(width)] if norm else []
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), *norms, act(),
            nn.Conv2d(width, width, 3, stride=down, padding=1), act(),
            nn.Conv2d(width, channels if shared else 2 * channels, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), act(), nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1), act(), nn.Upsample(scale_factor=down),
            nn.Conv2d(width, 1, 3, padding=1),
        )  # fmt: skip
        if idle:
            self.more = nn.Linear(3, 3)

    def encode(self, x):
        h = self.encoder(x)
        if self.noisy:
            h = h + torch.randn_like(h)
        return (h, h) if self.shared else tuple(h.chunk(2, dim=1))

    def decode(self, z):
        return self.decoder(z)


class Unshuffled(nn.Module):
    """Patches as channels, 1 x 1 convolutions."""

    def __init__(self, channels, width):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(16, width, 1), nn.GELU(), nn.Conv2d(width, 2 * channels, 1))
        self.up = nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU(), nn.Conv2d(width, 16, 1))

    def encode(self, x):
        return self.down(F.pixel_unshuffle(x, 4)).chunk(2, dim=1)

    def decode(self, z):
        return F.pixel_shuffle(self.up(z), 4)


class OneSize(MyAutoencoder):
    def __init__(self, channels, width):
        super().__init__(channels, width)
        self.flat = nn.Linear(2 * channels * 49, 2 * channels * 49)

    def encode(self, x):
        h = self.encoder(x)
        return self.flat(h.flatten(1)).reshape(h.shape).chunk(2, dim=1)


class Stacked(MyAutoencoder):
    def encode(self, x):
        return torch.cat(super().encode(x), dim=1)


class Deaf(MyAutoencoder):
    def decode(self, z):
        return super().decode(torch.zeros_like(z))


def with_options(**options):
    return lambda channels, width: MyAutoencoder(channels, width, **options)


def my_loss(model, x, eps, kl_weight, *, std=lambda v: (v / 2).exp(), whole=False, sign=1.0, pixels=torch.sum):
    mean, log_var = model.encode(x)
    error = (model.decode(mean + std(log_var) * eps) - x).square().flatten(1)
    loss = pixels(error, 1).mean() + sign * kl_weight * kl(mean, log_var)
    return loss * len(x) if whole else loss


def error_alone(model, x, eps, kl_weight):
    return my_loss(model, x, eps, 0.0)


def my_sample(velocity, decode, noise, mean, std, n, *, back=lambda z, m, s: z * s + m, sign=-1, late=0, often=1):
    z = noise
    for k in range(n):
        t = torch.full((len(z),), 1 - (k + late) / n, dtype=z.dtype)
        for _ in range(often):
            v = velocity(z, t)
        z = z + sign * v / n
    return decode(back(z, mean, std))


def decoding_always(velocity, decode, noise, mean, std, n):
    decode(noise)
    return my_sample(velocity, decode, noise, mean, std, n)


RIGHT = {
    "34.1": [my_kl, by_torch],
    "34.2": [MyAutoencoder, Unshuffled],
    "34.3": [
        my_loss,
        lambda model, x, eps, kl_weight: error_alone(model, x, eps, 0) + kl_weight * my_kl(*model.encode(x)),
    ],
    "34.4": [my_sample],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "34.1": [
        (lambda m, v: -my_kl(m, v), "the sign is wrong"),
        (lambda m, v: 2 * my_kl(m, v), "the factor 1/2"),
        (lambda m, v: my_kl(m, v) * len(m), "take the mean over the batch"),
        (lambda m, v: my_kl(m, v) / m[0].numel(), "this is the mean over the latents"),
        (lambda m, v: my_kl(m, 2 * v), "not of the standard deviation"),
        (lambda m, v: my_kl(m, v) + m[0].numel() / 2, "the term -1 is missing"),
        (lambda m, v: my_kl(m, v) + v.flatten(1).sum(1).mean() / 2, "the term -log_var is missing"),
        (lambda m, v: my_kl(0 * m, v), "the term mean²"),
        (lambda m, v: my_kl(m + 1, v), "this is not half the sum"),
        (lambda m, v: my_kl(m.mul_(2), v), "in place"),
        (lambda m: m, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "34.2": [
        (with_options(norm=nn.BatchNorm2d), "as with batch norm"),
        (with_options(shared=True), "the same numbers"),
        (with_options(linear=True), "the decoder is linear"),
        (with_options(down=1), "a quarter of each side"),
        (with_options(idle=True), "are used neither by encode nor by decode"),
        (with_options(noisy=True), "encode draws nothing"),
        (OneSize, "of 8 x 16 ended with"),
        (Stacked, "encode returns a pair"),
        (Deaf, "does not depend on the latents"),
        (lambda channels, width: nn.Conv2d(1, channels, 4, 4), "no method encode"),
        (lambda channels, width: MyAutoencoder, "returns a torch module"),
        (lambda channels: channels, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
    "34.3": [
        (lambda m, x, e, w: my_loss(m, x, 0 * e, w), "the mean is decoded"),
        (lambda *a: my_loss(*a, std=lambda v: v.exp()), "not its root"),
        (lambda *a: my_loss(*a, std=lambda v: v), "eps is multiplied by log_var"),
        (error_alone, "the divergence is missing"),
        (lambda m, x, e, w: my_loss(m, x, e, 1.0), "the weight of the divergence"),
        (lambda m, x, e, w: w * my_loss(m, x, e, 1 / w), "the weight stands at the error"),
        (lambda *a: my_loss(*a, sign=-1.0), "the divergence is subtracted"),
        (lambda *a: my_loss(*a, pixels=torch.mean), "sum it over pixels"),
        (lambda *a: my_loss(*a, whole=True), "take the mean over the batch"),
        (lambda *a: my_loss(*a).detach(), "has no gradient"),
        (lambda *a: float(my_loss(*a)), "a tensor of one number"),
        (lambda m, x, e, w: my_loss(m, x, e + 1, w), "this is not the error"),
        (lambda m, x, e, w: my_loss(m, x.mul_(2), e, w), "in place"),
        (lambda m: m, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
    "34.4": [
        (lambda *a: my_sample(*a, back=lambda z, m, s: z), "as the flow has them"),
        (lambda *a: my_sample(*a, back=lambda z, m, s: (z - m) / s), "standardised once more"),
        (lambda *a: my_sample(*a, back=lambda z, m, s: z * s), "the mean of the latents is not added"),
        (lambda *a: my_sample(*a, back=lambda z, m, s: z + m), "not multiplied by std"),
        (lambda *a: my_sample(*a, back=lambda z, m, s: (z + m) * s), "the order is wrong"),
        (lambda *a: my_sample(*a, sign=1), "the wrong way"),
        (lambda *a: my_sample(*a, late=1), "at the end of each step"),
        (lambda v, decode, noise, m, s, n: decode(noise * s + m), "no step was made"),
        (lambda *a: my_sample(*a, often=2), "evaluations of the velocity"),
        (decoding_always, "decode was called 2 times"),
        (lambda v, decode, noise, m, s, n: my_sample(v, decode, noise, m, s, n + 1), "this is not the decoded end"),
        (lambda v, decode, noise, m, s, n: my_sample(v, decode, noise.mul_(2), m, s, n), "in place"),
        (lambda v: v, "ended with TypeError"),
        (0.0, "the answer is a function"),
    ],
}
