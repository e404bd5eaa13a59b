"""Answers to the exercises of notebook 20."""

import math

import torch

from diffusion_explained.beyond.shapes import chamfer
from diffusion_explained.beyond.video import HIGH, LOW, fold


def bounce(x, low, high):
    span = high - low
    return high - ((x - low) % (2 * span) - span).abs()


def bounce_by_loop(x, low, high):
    while bool(((x < low) | (x > high)).any()):
        x = torch.where(x > high, 2 * high - x, x)
        x = torch.where(x < low, 2 * low - x, x)
    return x


def bounce_by_the_package(x, low, high):
    scale = (HIGH - LOW) / (high - low)
    return (fold((x - low) * scale + LOW) - LOW) / scale + low


def bounce_once(x, low, high):
    return torch.where(x > high, 2 * high - x, torch.where(x < low, 2 * low - x, x))


def decibels(magnitude):
    return 20 * magnitude.clamp(min=1e-10).log10()


def grey(magnitude, floor):
    return (1 + 2 * decibels(magnitude) / floor).clamp(-1, 1)


def grey_by_infinity(magnitude, floor):
    return torch.maximum(1 + 40 * torch.log10(magnitude) / floor, torch.tensor(-1.0)).clamp(max=1)


def squares(p, q):
    return (p[:, None] - q).square().sum(-1)


def distance(p, q):
    return squares(p, q).amin(1).mean() + squares(p, q).amin(0).mean()


def distance_by_the_package(p, q):
    return chamfer(p[None], q[None])[0]


def distance_by_loop(p, q):
    there = sum(min(float((a - b).square().sum()) for b in q) for a in p) / len(p)
    back = sum(min(float((a - b).square().sum()) for a in p) for b in q) / len(q)
    return there + back


def following(a, b, c, length, angle, torsion):
    u = (c - b) / (c - b).norm()
    n = torch.linalg.cross(b - a, u)
    n = n / n.norm()
    out = math.cos(torsion) * torch.linalg.cross(n, u) + math.sin(torsion) * n
    return c + length * (math.sin(angle) * out - math.cos(angle) * u)


def following_by_turning(a, b, c, length, angle, torsion):
    u = (c - b) / (c - b).norm()
    side = (a - b) - (a - b).dot(u) * u
    side = side / side.norm()
    turned = math.cos(torsion) * side + math.sin(torsion) * torch.linalg.cross(u, side)
    return c + length * (math.cos(math.pi - angle) * u + math.sin(angle) * turned)


RIGHT = {
    "20.4": [following, following_by_turning],
    "20.1": [bounce, bounce_by_loop, bounce_by_the_package],
    "20.2": [grey, grey_by_infinity],
    "20.3": [distance, distance_by_the_package, distance_by_loop],
}
WRONG = {
    "20.4": [
        (lambda a, b, c, length, angle, torsion: following(a, b, c, length, math.pi - angle, torsion), "minus sign"),
        (lambda a, b, c, length, angle, torsion: following(a, b, c, length, angle, -torsion), "mirror image"),
        (lambda a, b, c, length, angle, torsion: following(a, b, c, length, angle, torsion + math.pi), "side of a"),
        (lambda a, b, c, length, angle, torsion: following(a, b, c, length, angle, torsion) - c + b, "bonded to c"),
        (lambda a, b, c, length, angle, torsion: following(a, b, c, 1, angle, torsion), "the given length"),
        (lambda a, b, c, length, angle, torsion: following(a, b, c, length, angle * 57.3, torsion), "this is not c"),
        (lambda a, b, c, length, angle, torsion: c, "this is not c"),
        (lambda a: a, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "20.1": [
        (lambda x, low, high: x.clamp(low, high), "clamp leaves"),
        (lambda x, low, high: (x - low) % (high - low) + low, "the other edge"),
        (bounce_once, "more than once"),
        (lambda x, low, high: low + high - bounce(x, low, high), "mirror image"),
        (lambda x, low, high: bounce(x, 0, high - low), "measure from low"),
        (lambda x, low, high: x, "reflection at both edges"),
        (lambda x, low, high: bounce(x, low, high)[0], "shape"),
        (lambda x: x, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "20.2": [
        (lambda m, floor: 1 + 2 * decibels(m) / floor, "minus infinity"),
        (lambda m, floor: (1 + 2 * decibels(m) / floor).clamp(max=1), "clip below"),
        (lambda m, floor: (1 + 2 * decibels(m) / floor).clamp(min=-1), "clip above"),
        (lambda m, floor: (1 + decibels(m) / floor).clamp(-1, 1), "rises by 2"),
        (lambda m, floor: (1 + decibels(m) / floor).clamp(0, 1), "not from 0 to 1"),
        (lambda m, floor: grey(m, 70), "not always 70"),
        (lambda m, floor: (1 + 40 * m.clamp(min=1e-10).log() / floor).clamp(-1, 1), "log10, not log"),
        (lambda m, floor: -grey(m, floor), "full scale is white"),
        (lambda m, floor: m, "clipped to"),
        (lambda m, floor: grey(m, floor)[0], "shape"),
        (lambda m: m, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
    "20.3": [
        (lambda p, q: squares(p, q).amin(1).mean(), "from p to q only"),
        (lambda p, q: squares(p, q).amin(0).mean(), "from q to p only"),
        (lambda p, q: distance(p, q) / 2, "not averaged"),
        (lambda p, q: squares(p, q).amin(1).sum() + squares(p, q).amin(0).sum(), "not sums"),
        (lambda p, q: squares(p, q).amin(1).sqrt().mean() + squares(p, q).amin(0).sqrt().mean(), "squared"),
        (lambda p, q: squares(p, q).amin(1).max() + squares(p, q).amin(0).max(), "not the largest"),
        (lambda p, q: 2 * squares(p, q).mean(), "only the nearest"),
        (lambda p, q: torch.cat([squares(p, q).amin(1), squares(p, q).amin(0)]).mean(), "a mean of its own"),
        (lambda p, q: 0.5, "the mean over p"),
        (lambda p, q: squares(p, q), "one number"),
        (lambda p: p, "ended with TypeError"),
        (0.5, "the answer is a function"),
    ],
}
