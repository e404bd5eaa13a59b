"""Answers to the exercises of notebook 19."""

import math

import torch
import torch.nn.functional as F


def attention(q, k, v, k_image, v_image, s):
    d = q.shape[1]
    return (q @ k.T / d**0.5).softmax(1) @ v + s * (q @ k_image.T / d**0.5).softmax(1) @ v_image


def attention_by_torch(q, k, v, k_image, v_image, s):
    both = [F.scaled_dot_product_attention(q[None], a[None], b[None])[0] for a, b in ((k, v), (k_image, v_image))]
    return both[0] + s * both[1]


def one_softmax(q, k, v, k_image, v_image, s):
    return (q @ torch.cat([k, k_image]).T / q.shape[1] ** 0.5).softmax(1) @ torch.cat([v, v_image])


def undivided(q, k, v, k_image, v_image, s):
    return (q @ k.T).softmax(1) @ v + s * (q @ k_image.T).softmax(1) @ v_image


def share(q, k, k_image):
    return (q @ torch.cat([k, k_image]).T / q.shape[1] ** 0.5).softmax(1)[:, : len(k)].sum(1)


def share_by_sums(q, k, k_image):
    a, b = ((q @ x.T / math.sqrt(q.shape[1])).exp().sum(1) for x in (k, k_image))
    return a / (a + b)


def features(x, n):
    C, H, W = x.shape
    parts = x.reshape(C, n, H // n, n, W // n).permute(1, 3, 0, 2, 4).reshape(n * n, C, -1)
    areas = [x.reshape(1, C, -1), parts]
    return torch.cat([torch.cat([a.mean(2), a.std(2, correction=0)], dim=1) for a in areas])


def features_by_loop(x, n):
    h, w = x.shape[1] // n, x.shape[2] // n
    areas = [x, *(x[:, i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(n) for j in range(n))]
    return torch.stack([torch.cat([a.mean((1, 2)), a.var((1, 2), correction=0).sqrt()]) for a in areas])


def adain(x, y):
    (a, b), (c, d) = ((z.mean((1, 2), keepdim=True), z.std((1, 2), correction=0, keepdim=True)) for z in (x, y))
    return d * (x - a) / b + c


def adain_by_torch(x, y):
    unit = F.instance_norm(x[None], eps=1e-12)[0]
    return unit * y.flatten(1).std(1, correction=0)[:, None, None] + y.flatten(1).mean(1)[:, None, None]


RIGHT = {
    "19.1": [attention, attention_by_torch],
    "19.2": [share, share_by_sums],
    "19.3": [features, features_by_loop],
    "19.4": [adain, adain_by_torch],
}
WRONG = {
    "19.1": [
        (one_softmax, "one softmax over words and picture together"),
        (lambda q, k, v, k_image, v_image, s: attention(q, k, v, k_image, v_image, 0.0), "to the picture is missing"),
        (lambda q, k, v, k_image, v_image, s: attention(q, k, 0 * v, k_image, v_image, s), "to the words is missing"),
        (lambda q, k, v, k_image, v_image, s: attention(q, k, v, k_image, v_image, 1.0), "the scale s is missing"),
        (lambda q, k, v, k_image, v_image, s: attention(q, k, (1 - s) * v, k_image, v_image, s), "keep all of their"),
        (lambda q, k, v, k_image, v_image, s: attention(q, k, s * v, k_image, v_image, 1.0), "belongs to the picture"),
        (undivided, "divide the products"),
        (lambda q, *rest: undivided(q / q.shape[1], *rest), "the square root of d"),
        (lambda q, *rest: 2 * attention(q, *rest), "this is not softmax"),
        (lambda q, k: q, "ended with TypeError"),
    ],
    "19.2": [
        (lambda q, k, k_image: 1 - share(q, k, k_image), "the share of the picture"),
        (lambda q, k, k_image: share(q, k, k_image) / len(k), "do not average"),
        (lambda q, k, k_image: torch.full((len(q),), len(k) / (len(k) + len(k_image))), "numbers of tokens alone"),
        (lambda q, k, k_image: share(q * q.shape[1] ** 0.5, k, k_image), "divide the products"),
        (lambda q, k, k_image: (q @ k.T).softmax(1).sum(1), "the same softmax"),
        (lambda q, k, k_image: share(q, k, k_image) ** 2, "this is not the sum"),
        (lambda q, k, k_image: share(q, k, k_image)[:, None], "shape"),
        (0.5, "the answer is a function"),
    ],
    "19.3": [
        (lambda x, n: features(x.transpose(1, 2), n), "row by row is asked for"),
        (lambda x, n: features(x, n).roll(len(x), 1), "the means come first"),
        (lambda x, n: features(x, n).roll(-1, 0), "the whole is the first row"),
        (lambda x, n: torch.cat([features(x, n)[:, : len(x)], features(x, n)[:, len(x) :] ** 2], 1), "variances"),
        (lambda x, n: features(x, n)[1:], "shape"),
        (lambda x, n: features(x + 1, n), "these are not the means"),
        (lambda x: x, "ended with TypeError"),
    ],
    "19.4": [
        (lambda x, y: adain(x, y) - y.mean((1, 2), keepdim=True), "the mean of y is missing"),
        (lambda x, y: adain(x, y / y.std((1, 2), correction=0, keepdim=True)), "this is not sigma"),
        (lambda x, y: F.instance_norm(x[None], eps=1e-12)[0], "normalised x"),
        (lambda x, y: F.instance_norm(x[None], eps=1e-12)[0] + y.mean((1, 2), keepdim=True), "the deviation of y"),
        (lambda x, y: y.std() * (x - x.mean()) / x.std() + y.mean(), "each channel by itself"),
        (lambda x, y: x, "this is x itself"),
        (lambda x, y: adain(y, x), "shape"),
    ],
}
