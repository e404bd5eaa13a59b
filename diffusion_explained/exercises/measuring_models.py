"""The exercises of notebook 08, Measuring generative models, honestly."""

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise


@exercise("08.1", "In one dimension", "my_distance(a, b)")
def is_the_distance(answer: object, given: Given) -> None:
    """The squared Fréchet distance of two Gaussians of one dimension, to 1%."""
    a, b = given.randn(2000), given.randn(3000)
    b = (b - b.mean()) / b.std() * a.std() + a.mean()  # now both have the same mean and the same width
    for moved in (2.0, -3.0):
        hint = "the means are apart, the widths are equal: the squared distance is the squared difference of the means"
        given.returns(answer, a, b + moved, expected=moved**2, hint=hint, close=0.01)
    for width in (0.4, 3.0):
        hint = "the means are equal, the widths are not: the squared difference of the standard deviations is missing"
        wide = a.mean() + width * (b - a.mean())
        given.returns(answer, a, wide, expected=float(a.std() * (width - 1)) ** 2, hint=hint, close=0.01)
    a, b = 5 + 2 * given.randn(2000), 0.5 * given.randn(4000) - 1
    expected = float((a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2)
    given.returns(answer, a, b, expected=expected, hint="the two squared differences are added", close=0.01)


@exercise("08.2", "Without the bias", "my_limit(n_1, d_1, n_2, d_2)")
def is_the_limit(answer: object, given: Given) -> None:
    """The distance for infinitely many samples, if the distance is a line in 1 / n, to four digits."""
    for n_1, n_2 in ((1000, 4000), (5000, 500), (300, 450)):
        limit, slope = (1 + 9 * given.rand(2)).tolist()
        hint = "both distances are equal, so there is no bias: their limit is the same distance"
        given.returns(answer, n_1, limit, n_2, limit, expected=limit, hint=hint)
        slope *= 100
        hint = f"{limit:.3f} + {slope:.0f} / n should become {limit:.3f}: two equations, two unknowns"
        d_1, d_2 = limit + slope / n_1, limit + slope / n_2
        both = f"both distances are above the limit, by {slope:.0f} / n"
        mistakes = (
            (d_1, f"this is d_1, which has the bias of n_1 samples: {hint}"),
            (min(d_1, d_2), f"the smaller distance has a bias too: {hint}"),
            ((d_1 + d_2) / 2, f"{both}, and so is their mean: {hint}"),
            ((n_1 * d_1 + n_2 * d_2) / (n_1 + n_2), f"{both}, and so is any mean of them: {hint}"),
        )
        given.returns(answer, n_1, d_1, n_2, d_2, expected=limit, hint=hint, mistakes=mistakes)


@exercise("08.3", "Copies in one number", "my_copied(distances, real_distances)", minutes=15)
def is_the_share_of_copies(answer: object, given: Given) -> None:
    """The share of samples that are nearer to a training image than any unseen real image is."""
    for nearest, count in ((2.0, 20), (0.5, 90), (7.0, 0), (4.0, 200)):
        unseen = nearest * (1 + to_float64(given.rand(150)))
        unseen[70] = nearest
        far = nearest * (1.1 + to_float64(given.rand(200)))  # some nearer than most real images, none than all
        samples = far.clone()
        samples[:count] = nearest * (0.9 * to_float64(given.rand(count)))  # copies, nearly: no distance is exactly 0
        mixed = samples[given.rand(200).argsort()]
        hint = f"{count} of 200 samples are nearer than the nearest real image: the share is {count / 200:g}"
        given.returns(answer, mixed, unseen, expected=count / 200, hint=hint)
