"""The exercises of notebook 20, Beyond images."""

import math

import torch

from diffusion_explained.exercises.grading import Given, exercise


@exercise("20.1", "Bounce", "my_fold(x, low, high)")
def bounces(answer: object, given: Given) -> None:
    """x [...] reflected at both edges: inside, just outside either edge, and many times the width away."""
    for low, high in ((-2.0, 16.0), (0.0, 1.0), (3.0, 5.5)):
        span = high - low
        for reach in (0.9, 7.0):
            x = low + span * (0.5 + reach * (2 * given.rand(4, 30) - 1))
            wrapped = (x - low) % span + low
            right = high - ((x - low) % (2 * span) - span).abs()
            once = torch.where(x > high, 2 * high - x, torch.where(x < low, 2 * low - x, x))
            given.returns(
                answer,
                x,
                low,
                high,
                expected=right,
                hint=f"for places around {low:g} .. {high:g} this is not the reflection at both edges",
                mistakes=[
                    (x.clamp(low, high), "clamp leaves a digit at the edge: it should come back"),
                    (wrapped, "this enters again at the other edge: a reflection turns round"),
                    (once, "a place far outside is reflected more than once"),
                    (
                        low + ((x - low) % (2 * span) - span).abs(),
                        "this is the mirror image: low and high swapped",
                    ),
                    (span - (x % (2 * span) - span).abs(), "measure from low, not from 0"),
                ],
            )


@exercise("20.2", "Decibels as grey", "my_grey(magnitude, floor)")
def greys(answer: object, given: Given) -> None:
    """1 + 2 * 20 log10(magnitude) / floor, clipped to [-1, 1]; silence and more than full scale too."""
    for floor in (70.0, 40.0):
        magnitude = 10 ** (-1.2 * floor / 20 * given.rand(3, 40) + 0.2)
        magnitude[0, 0] = 0.0
        decibels = 20 * magnitude.clamp(min=1e-10).log10()
        grey = 1 + 2 * decibels / floor
        given.returns(
            answer,
            magnitude,
            floor,
            expected=grey.clamp(-1, 1),
            hint=f"with a floor of {floor:g} this is not 1 + 2 · 20 log₁₀(magnitude) / floor, clipped to [-1, 1]",
            mistakes=[
                (grey, "clip to [-1, 1]: silence has minus infinity decibels"),
                (grey.clamp(max=1), "silence is -1: clip below, too"),
                (grey.clamp(min=-1), "louder than full scale is 1: clip above, too"),
                (
                    (1 + decibels / floor).clamp(-1, 1),
                    "from the floor to full scale the grey rises by 2, not by 1",
                ),
                ((1 + decibels / floor).clamp(0, 1), "the grey values are from -1 to 1, not from 0 to 1"),
                ((1 + 2 * decibels / 70).clamp(-1, 1), "floor is an argument, not always 70"),
                ((1 + 2 * 20 * magnitude.clamp(min=1e-10).log() / floor).clamp(-1, 1), "decibels have log10, not log"),
                ((-grey).clamp(-1, 1), "full scale is white, 1, and silence is black, -1"),
            ],
        )


@exercise("20.3", "Compare two sets", "my_chamfer(p, q)")
def compares(answer: object, given: Given) -> None:
    """The Chamfer distance of clouds with different numbers of points, in the plane and in space."""
    for n, m, dimensions in ((30, 50, 3), (41, 17, 2)):
        p, q = given.randn(n, dimensions), 0.5 * given.randn(m, dimensions) + 0.3
        squares = (p[:, None] - q).square().sum(-1)
        there, back = squares.amin(1), squares.amin(0)
        given.returns(
            answer,
            p,
            q,
            expected=float(there.mean() + back.mean()),
            hint="this is not the mean over p of the nearest square plus the mean over q of the nearest square",
            mistakes=[
                (float(there.mean()), "this goes from p to q only: the points of q need a nearest one, too"),
                (float(back.mean()), "this goes from q to p only: the points of p need a nearest one, too"),
                (float((there.mean() + back.mean()) / 2), "the two means are added, not averaged"),
                (float(there.sum() + back.sum()), "means, not sums: the clouds may have different numbers of points"),
                (float(there.sqrt().mean() + back.sqrt().mean()), "the distances are squared"),
                (float(there.max() + back.max()), "means over the points, not the largest distance"),
                (float(2 * squares.mean()), "only the nearest point of the other cloud counts, not all"),
                (float(torch.cat([there, back]).mean()), "each cloud has a mean of its own, before they are added"),
            ],
        )


@exercise("20.4", "The backbone of a protein", "my_next(a, b, c, length, angle, torsion)")
def places_the_next_atom(answer: object, given: Given) -> None:
    """The fourth atom of chains in general position, for angles and torsions of all signs."""
    for angle, torsion in ((1.9, 2.6), (2.1, -1.2), (1.2, 0.4)):
        a, b, c, length = given.randn(3), given.randn(3) + 2, given.randn(3) - 2, 1.3 + float(given.rand(1))
        u = (c - b) / (c - b).norm()
        n = torch.linalg.cross(b - a, u)
        n = n / n.norm()
        m = torch.linalg.cross(n, u)

        def at(along: float, side: float, up: float, start: torch.Tensor = c) -> torch.Tensor:
            return start + length * (along * u + side * m + up * n)  # noqa: B023  # called within the round

        cos, sin = math.cos(angle), math.sin(angle)
        side, up = sin * math.cos(torsion), sin * math.sin(torsion)
        given.returns(
            answer,
            a,
            b,
            c,
            length,
            angle,
            torsion,
            expected=at(-cos, side, up),
            hint="this is not c + length (-cos θ u + sin θ cos τ m + sin θ sin τ n)",
            mistakes=[
                (at(cos, side, up), "an angle of π continues the chain straight on: the cosine has a minus sign"),
                (at(-cos, side, -up), "this turns the other way about the bond: the mirror image of the chain"),
                (at(-cos, -side, -up), "a torsion of 0 is on the side of a, not opposite"),
                (at(-cos, side, up, b), "the new atom is bonded to c, not to b"),
                (c + at(-cos, side, up, 0 * c) / length, "the bond has the given length, not 1"),
            ],
        )
