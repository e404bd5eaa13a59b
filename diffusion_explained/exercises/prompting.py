"""The exercises of notebook 16, Prompting and weaknesses."""

import torch
from torch import Tensor

from diffusion_explained.exercises.grading import Given, exercise


@exercise("16.1", "The tilted share", "my_share(p, q, w)")
def tilts_a_share(answer: object, given: Given) -> None:
    """p^w q^(1-w) of a kind, divided by its sum with the same of the other kind; w = 0 and 1 too."""
    cases = [(0.9, 0.7, 2.0), (0.5, 0.7, 4.0), (0.9, 0.7, 1.0), (0.9, 0.7, 0.0), (0.3, 0.3, 5.0)]
    for a, b, c in given.rand(3, 3).tolist():
        cases.append((0.1 + 0.8 * a, 0.1 + 0.8 * b, 1.5 + 3 * c))
    for p, q, w in cases:
        one, other = p**w * q ** (1 - w), (1 - p) ** w * (1 - q) ** (1 - w)
        sharp = p**w / (p**w + (1 - p) ** w)
        given.returns(
            answer,
            p,
            q,
            w,
            expected=one / (one + other),
            close=1e-6,
            hint=f"for p = {p:.2f}, q = {q:.2f} and w = {w:.2g} this is not p^w q^(1-w), divided by its sum over both "
            "kinds",
            mistakes=[
                (one, "divide by the sum over both kinds: shares add up to 1"),
                (p, "guidance changes the share: raise p to the power w and q to the power 1 - w"),
                (q + w * (p - q), "guidance adds logarithms of densities, not shares"),
                (sharp, "the share q of all pictures is missing: its power is 1 - w"),
                (one / other, "these are odds: divide by the sum of both kinds"),
                (other / (one + other), "this is the share of the other kind"),
            ]
            if w not in (0, 1) and abs(p - q) > 0.02
            else (),
        )


@exercise("16.2", "Count on a ring", "my_fingers(ring)")
def counts_on_a_ring(answer: object, given: Given) -> None:
    """The number of runs of True around a circle of booleans [N]: none, all, and runs that cross the end too."""
    rings = [[False] * 8, [one == "#" for one in "##.##..#"], [True] * 8]
    rings += [(given.rand(24) < 0.5).tolist() for _ in range(6)]
    for values in rings:
        ring = torch.tensor(values, device="cpu", dtype=torch.bool)
        starts = int((ring & ~ring.roll(1)).sum())
        expected = starts if not bool(ring.all()) else 1
        flat = int((ring[1:] & ~ring[:-1]).sum()) + int(ring[0])
        shown = "".join(".#"[int(one)] for one in values)
        given.returns(
            answer,
            ring,
            expected=float(expected),
            close=1e-6,
            hint=f"for {shown} there are {expected}: count the places where a run of True begins",
            mistakes=[
                (float(starts), "a ring without a gap has no edge, but it is one piece"),
                (float(ring.sum()), "these are the places on a finger: count each run of them once"),
                (float((ring != ring.roll(1)).sum()), "each finger has two edges: count only where it begins"),
                (float(flat), f"the ring is closed: in {shown} the last place is beside the first"),
            ],
        )


@exercise("16.3", "One prompt per region", "my_mixed(predictions, masks)", minutes=15)
def mixes_regions(answer: object, given: Given) -> None:
    """sum_k masks_k predictions_k / sum_k masks_k for masks that overlap, of two and of three prompts."""
    for count, channels in ((2, 4), (3, 1)):
        predictions, masks = given.randn(count, 5, channels, 6, 8), 0.1 + given.rand(count, 6, 8)
        shares = (masks / masks.sum(0))[:, None, None]

        def mixed(shares: Tensor, predictions: Tensor = predictions) -> Tensor:
            return (shares * predictions).sum(0)

        given.returns(
            answer,
            predictions,
            masks,
            expected=mixed(shares),
            hint="this is not the mean of the predictions, weighted at each place by the masks",
            mistakes=[
                (mixed(masks[:, None, None]), "masks may overlap: divide by their sum at each place"),
                (mixed((masks / masks.sum((1, 2), keepdim=True))[:, None, None]),
                 "divide by the sum over the prompts at each place, not over the places of a mask"),
                (predictions.mean(0), "the masks are missing: all prompts count equally here"),
                (mixed(shares) / count, "the shares already sum to 1: do not divide by the number of prompts"),
                (mixed(masks.softmax(0)[:, None, None]), "divide by the sum of the masks, not of their exponentials"),
            ],
        )  # fmt: skip
