"""Answers to the exercises of notebook 16."""

import math

import torch


def share(p, q, w):
    one, other = p**w * q ** (1 - w), (1 - p) ** w * (1 - q) ** (1 - w)
    return one / (one + other)


def share_by_log_odds(p, q, w):
    odds = w * math.log(p / (1 - p)) + (1 - w) * math.log(q / (1 - q))
    return 1 / (1 + math.exp(-odds))


def fingers(ring):
    return 1 if ring.all() else int((ring & ~ring.roll(1)).sum())


def fingers_by_loop(ring):
    values = ring.tolist()
    if all(values):
        return 1.0
    return float(sum(values[i] and not values[i - 1] for i in range(len(values))))


def fingers_of_a_line(ring):
    return int((ring[1:] & ~ring[:-1]).sum()) + int(ring[0])


def mixed(predictions, masks):
    return torch.einsum("khw,kbchw->bchw", masks, predictions) / masks.sum(0)


def mixed_by_loop(predictions, masks):
    total = torch.zeros_like(predictions[0])
    for prediction, mask in zip(predictions, masks, strict=True):
        total = total + prediction * mask / masks.sum(0)
    return total


RIGHT = {
    "16.1": [share, share_by_log_odds],
    "16.2": [fingers, fingers_by_loop],
    "16.3": [mixed, mixed_by_loop],
}

WRONG = {
    "16.1": [
        (lambda p, q, w: p**w * q ** (1 - w), "add up to 1"),
        (lambda p, q, w: p, "changes the share"),
        (lambda p, q, w: q + w * (p - q), "not shares"),
        (lambda p, q, w: p**w / (p**w + (1 - p) ** w), "share q of all pictures"),
        (lambda p, q, w: (p / (1 - p)) ** w * (q / (1 - q)) ** (1 - w), "these are odds"),
        (lambda p, q, w: 1 - share(p, q, w), "the other kind"),
        (lambda p, q, w: 0.123, "p^w q^(1-w)"),
    ],
    "16.2": [
        (lambda ring: int(ring.sum()), "places on a finger"),
        (lambda ring: int((ring != ring.roll(1)).sum()), "two edges"),
        (fingers_of_a_line, "ring is closed"),
        (lambda ring: int((ring & ~ring.roll(1)).sum()), "is one piece"),
        (lambda ring: 5, "there are 0"),
    ],
    "16.3": [
        (lambda predictions, masks: (masks[:, None, None] * predictions).sum(0), "may overlap"),
        (lambda predictions, masks: (predictions * (masks / masks.sum((1, 2), keepdim=True))[:, None, None]).sum(0),
         "over the prompts at each place"),
        (lambda predictions, masks: predictions.mean(0), "masks are missing"),
        (lambda predictions, masks: mixed(predictions, masks) / len(masks), "number of prompts"),
        (lambda predictions, masks: (predictions * masks.softmax(0)[:, None, None]).sum(0), "exponentials"),
        (lambda predictions, masks: predictions[0], "weighted at each place"),
    ],
}  # fmt: skip
