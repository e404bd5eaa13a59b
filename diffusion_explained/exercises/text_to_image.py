"""The exercises of notebook 11, Text to image, from the inside."""

import torch
import torch.nn.functional as F

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise


@exercise("11.1", "Attention by hand", "my_weights(q, k)")
def are_the_weights(answer: object, given: Given) -> None:
    """The attention weights [heads, positions, tokens] of queries [heads, positions, d] and keys [heads, tokens, d]."""
    for heads, positions, tokens, d in ((2, 9, 5, 16), (1, 4, 7, 64), (3, 6, 6, 4)):
        q, k = 2 * given.randn(heads, positions, d), given.randn(heads, tokens, d)
        found = given.tensor(answer, q, k, shape=(heads, positions, tokens))
        assert float((found.sum(2) - 1).abs().max()) < 1e-4, "the weights of one position, over all tokens, sum to 1"
        scores = q @ k.transpose(1, 2) / d**0.5
        hint = "the weights of a position sum to 1, but they are others: what divides the scores before the softmax"
        products, divided = q @ k.transpose(1, 2), "what divides the scores before the softmax"
        mistakes = (
            (products.softmax(2), f"nothing divides the scores here: {divided}"),
            ((products / d).softmax(2), f"the scores are divided by d, and not by its root: {divided}"),
            ((products / positions**0.5).softmax(2), f"not the root of the number of positions: {divided}"),
            (torch.full_like(products, 1 / tokens), f"all tokens have the same weight here: {divided}"),
        )
        given.returns(answer, q, k, expected=scores.softmax(dim=2), hint=hint, mistakes=mistakes)


@exercise("11.2", "A word of several tokens", "my_maps(weights, words)", minutes=15)
def pools_by_word(answer: object, given: Given) -> None:
    """The maps [positions, words] of the words of a prompt, from weights [positions, tokens]."""
    for words in (
        (("a", 1), ("sapphire", 4), ("cat", 1)),
        (("unbelievable", 6), ("red", 1)),
        (("two", 1), ("tigers", 2), ("and", 1), ("a", 1), ("kitten", 3)),
    ):
        end = 1 + sum(count for _, count in words)
        weights = given.rand(6, end + 4)  # after the words: the end and the padding
        places = [place for place, (_, count) in enumerate(words) for _ in range(count)]
        to_word = F.one_hot(torch.tensor(places, dtype=torch.int64, device="cpu"), len(words))  # [tokens, words]
        hint = "a word's attention is the sum over all its tokens, and the first word begins after the start token"
        given.returns(answer, weights, words, expected=weights[:, 1:end] @ to_word.to(weights), hint=hint)


@exercise("11.3", "Recognised among the first k", "my_recognised(pictures, captions, own, k)", minutes=20)
def is_the_share_recognised(answer: object, given: Given) -> None:
    """The share of pictures whose own caption is among the k captions with the largest cosine to the picture."""
    for N, M, D, k in ((60, 20, 8, 1), (60, 20, 8, 5), (40, 90, 16, 5), (25, 10, 4, 10)):
        captions = given.randn(M, D) * (0.2 + 3 * given.rand(M, 1))  # not unit vectors
        own = (given.rand(N) * M).long()
        pictures = (F.normalize(captions[own]) + 0.7 * given.randn(N, D)) * (0.2 + 3 * given.rand(N, 1))
        cosines = F.normalize(pictures) @ F.normalize(captions).T
        better = (cosines > cosines.gather(1, own[:, None])).sum(1)  # captions that fit better than the own one
        hint = (
            f"with {N} pictures, {M} captions and k = {k} this is not the share: rank the captions for each picture, "
            "by the cosine, so that the lengths of the vectors have no effect"
        )
        given.returns(answer, pictures, captions, own, k, expected=float(to_float64(better < k).mean()), hint=hint)
