"""The adversarial pair plays by its rules: seeded, and pulled towards the data."""

import pytest
import torch

from diffusion_explained.data import toy
from diffusion_explained.training.gan import train_gan

DATA, _ = toy("ring", 2000, seed=0)


def run(steps, **options):
    *_, generator = train_gan(DATA, steps, width=32, **options)
    with torch.no_grad():
        return generator(torch.randn(500, 2, generator=torch.Generator().manual_seed(1)))


def test_it_moves_towards_the_data():
    def distance(points):  # of each point to its nearest datum, on average
        return float(torch.cdist(points, DATA).min(1).values.mean())

    assert distance(run(400, lr=1e-3)) < 0.5 * distance(run(1, lr=1e-3))


def test_the_same_seed_gives_the_same_generator_and_leaves_the_global_stream_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = run(5, seed=4)
    torch.testing.assert_close(torch.random.get_rng_state(), before)
    torch.testing.assert_close(run(5, seed=4), first)
    assert not torch.equal(run(5, seed=5), first)


@pytest.mark.parametrize(("data", "steps"), [(torch.zeros(4, 3), 1), (DATA, 0)])
def test_bad_input(data, steps):
    with pytest.raises(ValueError, match="must be"):
        next(train_gan(data, steps))
