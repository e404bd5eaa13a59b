"""Answers to the exercises of notebook 11."""

from itertools import pairwise

import torch
import torch.nn.functional as F

kept = torch.rand(6, 3)


def weights_of(q, k):
    return (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(dim=2)


def scaled_in_place(q, k):
    q /= q.shape[2] ** 0.5
    return (q @ k.transpose(1, 2)).softmax(2)


def pooled(weights, words, first=1, pool=lambda part: part.sum(1)):
    places = torch.cumsum(torch.tensor([first, *(count for _, count in words)]), 0)
    return torch.stack([pool(weights[:, begin:end]) for begin, end in pairwise(places)], 1)


def recognised(pictures, captions, own, k):
    cosines = F.normalize(pictures, dim=1) @ F.normalize(captions, dim=1).T
    return (cosines.topk(k, dim=1).indices == own[:, None]).any(1).double().mean()


def by_rank(pictures, captions, own, k):
    found = 0
    for picture, its_own in zip(pictures, own.tolist(), strict=True):
        cosines = F.cosine_similarity(picture[None], captions)
        found += int((cosines > cosines[its_own]).sum()) < k
    return found / len(pictures)


def by_product(pictures, captions, own, k):
    return ((pictures @ captions.T).topk(k, dim=1).indices == own[:, None]).any(1).double().mean()


def by_distance(pictures, captions, own, k):
    return (torch.cdist(pictures, captions).topk(k, largest=False).indices == own[:, None]).any(1).double().mean()


def of_pictures(pictures, captions, own, k):
    cosines = F.normalize(captions) @ F.normalize(pictures).T
    best = cosines.topk(k, dim=1).indices  # the best pictures of each caption
    return (own[best] == torch.arange(len(captions))[:, None]).any(1).double().mean()


def one_too_many(pictures, captions, own, k):
    return recognised(pictures, captions, own, min(k + 1, len(captions)))


def normalised_in_place(pictures, captions, own, k):
    pictures /= pictures.norm(dim=1, keepdim=True)
    return recognised(pictures, captions, own, k)


RIGHT = {
    "11.1": [
        weights_of,
        lambda q, k: (torch.einsum("hpd,htd->hpt", q, k) * k.shape[-1] ** -0.5).softmax(-1),
        # with the unit vectors as values, the outputs of attention are its weights
        lambda q, k: F.scaled_dot_product_attention(q, k, torch.eye(k.shape[1]).expand(len(k), -1, -1)),
    ],
    "11.2": [pooled],
    "11.3": [recognised, by_rank, lambda *given: float(recognised(*given))],
}
WRONG = {  # exercise -> (answer, a word of its hint)
    "11.1": [
        (lambda q, k: (q @ k.transpose(1, 2)).softmax(2), "nothing divides the scores"),
        (lambda q, k: (q @ k.transpose(1, 2) / q.shape[2]).softmax(2), "not by its root"),
        (lambda q, k: (q @ k.transpose(1, 2) / q.shape[1] ** 0.5).softmax(2), "number of positions"),
        (lambda q, k: (q @ k.transpose(1, 2) / 4).softmax(2), "what divides the scores"),
        (lambda q, k: (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).softmax(1), "sum to 1"),
        (lambda q, k: q @ k.transpose(1, 2) / q.shape[2] ** 0.5, "sum to 1"),
        (lambda q, k: (q @ k.transpose(1, 2) / q.shape[2] ** 0.5).sigmoid(), "sum to 1"),
        (lambda q, k: torch.full((len(q), q.shape[1], k.shape[1]), 1 / k.shape[1]), "the same weight"),
        (lambda q, k: weights_of(q, k).mean(0), "shape"),
        (lambda q, k: weights_of(k, q), "shape"),
        (lambda q, k: q @ k, "ended with RuntimeError"),
        (scaled_in_place, "in place"),
    ],
    "11.2": [
        (lambda weights, words: pooled(weights, words, pool=lambda part: part.mean(1)), "sum over all its tokens"),
        (lambda weights, words: pooled(weights, words, pool=lambda part: part[:, 0]), "sum over all its tokens"),
        (lambda weights, words: pooled(weights, words, pool=lambda part: part[:, -1]), "sum over all its tokens"),
        (lambda weights, words: pooled(weights, words, pool=lambda part: part.amax(1)), "sum over all its tokens"),
        (lambda weights, words: pooled(weights, words, first=0), "after the start token"),
        (lambda weights, words: weights[:, 1 : 1 + len(words)], "sum over all its tokens"),
        (lambda weights, words: weights[:, 1:-1], "shape"),
        (lambda weights, words: pooled(weights, words).T, "shape"),
        (lambda weights, words: pooled(weights, (("a", 1), ("sapphire", 4), ("cat", 1))), "shape"),
        (lambda weights, words: kept, "sum over all its tokens"),
        (lambda weights, words: pooled(weights.softmax(1), words), "sum over all its tokens"),
    ],
    "11.3": [
        (by_product, "lengths of the vectors"),
        (by_distance, "lengths of the vectors"),
        (of_pictures, "rank the captions for each picture"),
        (one_too_many, "not the share"),
        (lambda pictures, captions, own, k: k / len(captions), "not the share"),
        (lambda pictures, captions, own, k: recognised(pictures, captions, own, 1), "k = 5"),
        (lambda pictures, captions, own, k: recognised(pictures, captions, torch.arange(len(own)), k), "not the share"),
        (lambda pictures, captions, own, k: len(own) * recognised(pictures, captions, own, k), "not the share"),
        (lambda pictures, captions, own, k: 1 - recognised(pictures, captions, own, k), "not the share"),
        (lambda *given: 0.9, "not the share"),
        (lambda pictures, captions, own: 1.0, "ended with TypeError"),
        (normalised_in_place, "in place"),
    ],
}
