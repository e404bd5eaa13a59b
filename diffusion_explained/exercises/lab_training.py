"""The exercises of lab 32, The training loop."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_explained.devices import float64_on_cpu, to_float64
from diffusion_explained.exercises.grading import Given, exercise, near, refuse
from diffusion_explained.noise import stream

Weights = dict[str, Tensor]
MOST_STANDARD_ERRORS = 5
CLOSE = 1e-5


@exercise("32.1", "Class dropout", "my_dropped(labels, rate, null, generator)", minutes=15, difficulty=1)
def drops_labels(answer: object, given: Given) -> None:
    """Labels [N] with each replaced by the null label with the given probability, independently of the others."""
    count = 3000
    for rate, null in ((0.0, 10), (1.0, 10), (0.1, 10), (0.1 + 0.8 * float(given.rand(1)), 7)):
        labels = (given.rand(count) * null).long()
        got = [given.call(answer, labels, rate, null, stream(seed)) for seed in (5, 5, 6)]
        assert all(isinstance(one, Tensor) and one.shape == labels.shape for one in got), (
            "the result is a tensor [N] of labels, as many as were given"
        )
        assert not any(one.is_floating_point() for one in got), "labels are whole numbers: keep their type"
        dropped, others = got[0] == null, got[0] != null
        assert torch.equal(got[0][others], labels[others]), "a label that is kept is another one now"
        share, error = float(dropped.float().mean()), (rate * (1 - rate) / count) ** 0.5
        if 0 < rate < 1:
            assert 0 < share < 1, (
                "all labels of the batch are dropped, or none: decide for each label, by one random number each"
            )
            assert abs(share - (1 - rate)) > MOST_STANDARD_ERRORS * error or abs(2 * rate - 1) < 0.1, (
                f"at a rate of {rate:.2f} a share of {share:.2f} is dropped: this is the share to keep"
            )
            assert not torch.equal(got[0], got[2]), "another generator drops the same labels: draw from the generator"
            assert torch.equal(got[0], got[1]), "one seed drops other labels each time: draw from the generator"
        assert abs(share - rate) <= MOST_STANDARD_ERRORS * error + 1e-9, (
            f"at a rate of {rate:.2f} a share of {share:.2f} of {count} labels is dropped"
        )


class _Points(nn.Module):
    """A network of points in the plane that records its arguments."""

    def __init__(self, given: Given) -> None:
        super().__init__()
        self.mix = nn.Parameter(to_float64(given.randn(4, 2)))
        self.rows = nn.Parameter(to_float64(given.randn(4, 2)))

    def forward(self, x_t: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        if not isinstance(time, Tensor) or time.shape != x_t.shape[:1]:
            raise ValueError("the network takes one time per point, a tensor [B]")
        row = 0 if labels is None else self.rows[labels]
        time = time[:, None] / 1000
        return torch.cat([x_t, time, time**2], dim=1) @ self.mix + row


@exercise("32.2", "The loss", "my_loss(network, x_0, labels, t, eps)", minutes=15, difficulty=1)
def is_the_flow_matching_loss(answer: object, given: Given) -> None:
    """Flow matching's mean squared error with its gradient, for several batches; the network's time is 1000 t."""
    for count in (5, 2, 20):
        network, x_0, eps = _Points(given), to_float64(given.randn(count, 2)), to_float64(given.randn(count, 2))
        t, labels = to_float64(given.rand(count)), (given.rand(count) * 4).long()
        with torch.no_grad():

            def mean(
                target: Tensor, x_t: Tensor, time: Tensor, labels: Tensor | None, network: nn.Module = network
            ) -> Tensor:
                return (network(x_t, time, labels) - target).square().mean()

            wide, time = t[:, None], 1000 * t
            x_t = (1 - wide) * x_0 + wide * eps
            expected = mean(eps - x_0, x_t, time, labels)
            mistakes = (
                (mean(x_0 - eps, x_t, time, labels), "the target has the wrong sign: time runs from data to noise"),
                (mean(eps, x_t, time, labels), "the target is ε here: flow matching predicts the velocity ε - x_0"),
                (mean(eps - x_0, wide * x_0 + (1 - wide) * eps, time, labels), "data and noise are exchanged in x_t"),
                (mean(eps - x_0, x_t, t, labels), "the network's time is 1000 t"),
                (mean(eps - x_0, x_t, time, None), "the labels are not given to the network"),
                (expected * 2, "the squares are summed over the coordinates: take the mean over everything"),
                (expected * 2 * count, "this is the sum of all squares: take their mean"),
                ((network(x_t, time, labels) - eps + x_0).abs().mean(), "these are absolute errors: square them"),
            )  # fmt: skip
        result = given.call(answer, network, x_0, labels, t, eps)
        assert isinstance(result, Tensor) and result.shape == (), "the loss is a tensor of one number, shape ()"
        assert result.requires_grad, "the loss has no gradient: no detach(), item() or no_grad() on its way"
        if near(result.detach(), expected, CLOSE):
            continue
        for wrong, hint in mistakes:
            assert not near(result.detach(), wrong, CLOSE), hint
        refuse("this is not the mean of (network(x_t, 1000 t, labels) - (ε - x_0))²")


@exercise("32.3", "The moving average", "my_average(averages, weights, decay, step)", minutes=20, difficulty=2)
def is_the_moving_average(answer: object, given: Given) -> None:
    """decay' a + (1 - decay') w with decay' = min(decay, (1 + step) / (10 + step)); whole numbers are copied."""
    for decay, step in ((0.95, 0), (0.9, 50), (0.999, 1000), (0.5 + 0.4 * float(given.rand(1)), 400)):
        averages, weights = ({"w": given.randn(3, 2), "b": given.randn(3)} for _ in range(2))
        averages["seen"], weights["seen"] = (
            torch.tensor(one, dtype=torch.int64, device="cpu") for one in (step, step + 1)
        )
        got = given.call(answer, averages, weights, decay, step)
        assert isinstance(got, dict) and set(got) == set(weights), "the averages are a dictionary with the same names"
        assert all(isinstance(one, Tensor) for one in got.values()), "each average is a tensor"
        at = min(decay, (1 + step) / (10 + step))
        where = f"after {step} steps"
        seen = got["seen"]
        assert not seen.is_floating_point() and int(seen) == step + 1, (
            "a tensor of whole numbers, such as a counter, has no average: copy the present one"
        )
        for name in ("w", "b"):
            a, w, result = averages[name], weights[name], got[name]
            assert result.shape == w.shape, f"the average of {name!r} has another shape"
            if near(result, at * a + (1 - at) * w, CLOSE):
                continue
            for factor, hint in (
                (decay, "the decay is the whole one: at first it is (1 + step) / (10 + step)"),
                (1 - at, "decay and 1 - decay are exchanged"),
                (1 - decay, "decay and 1 - decay are exchanged"),
                (max(decay, (1 + step) / (10 + step)), "the larger one of both decays is taken: take the smaller one"),
                (1.0, "the averages do not move"),
                (0.0, "these are the weights themselves"),
            ):
                assert not near(result, factor * a + (1 - factor) * w, CLOSE), f"{where} {hint}"
            refuse(f"{where} this is not decay times the average plus 1 - decay times the weight")


def averaged(averages: Weights, weights: Weights, decay: float, step: int) -> Weights:
    """The moving averages after a step: new tensors; the decay rises to its value, and whole numbers are copied."""
    at = min(decay, (1 + step) / (10 + step))
    return {
        name: at * averages[name] + (1 - at) * one if one.is_floating_point() else one.clone()
        for name, one in weights.items()
    }


def _train(
    network: nn.Module,
    loss: Callable[..., Tensor],
    batches: Sequence[tuple[Any, ...]],
    learning_rate: float,
    decay: float,
    mistake: str = "",
) -> tuple[list[float], Weights]:
    """Train a network in place by AdamW, or with one typical mistake; returns the losses and the averages."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
    averages = {name: one.clone() for name, one in network.state_dict().items()}
    losses = []
    for step, batch in enumerate(batches):
        if mistake != "no zero_grad":
            optimizer.zero_grad()
        value = loss(network, *batch)
        value.backward()
        if mistake != "no clip":
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(value.detach()))
        averages = averaged(averages, network.state_dict(), decay, step)
    return losses, averages


@exercise("32.4", "The loop", "my_train(network, loss, batches, learning_rate, decay)", minutes=45, difficulty=3)
def is_the_training_loop(answer: object, given: Given) -> None:
    """The losses, the averages and the trained network, equal to ours, for two learning rates and decays."""
    for learning_rate, decay, count in ((0.05, 0.9, 6), (0.01 + 0.02 * float(given.rand(1)), 0.6, 15)):
        network: nn.Module = _Points(given)
        seen: list[nn.Module] = []
        batches = [tuple(to_float64(given.randn(2, 8, 2))) for _ in range(count)]
        batches[2] = tuple(30 * one for one in batches[2])  # whose gradient is clipped

        def loss(network: nn.Module, x: Tensor, y: Tensor, seen: list[nn.Module] = seen) -> Tensor:
            seen.append(network)
            return (network(x, 1000 * x[:, 0]) - y).square().sum(dim=1).mean()

        ours: dict[str, tuple[nn.Module, list[float], Weights]] = {}
        for mistake in ("", "no zero_grad", "no clip"):
            trained = copy.deepcopy(network)
            losses, averages = _train(trained, loss, batches, learning_rate, decay, mistake)
            ours[mistake] = trained, losses, averages
        seen.clear()
        result = given.call(answer, network, loss, batches, learning_rate, decay)
        assert isinstance(result, tuple | list) and len(result) == 2, "the answer returns a pair, (losses, averages)"
        assert len(seen) == count, f"the loss was computed {len(seen)} times for {count} batches"
        got, averages = result
        trained, losses, expected = ours[""]
        weights = seen[-1].state_dict()
        before = network.state_dict()
        assert not _equal(weights, before), "the network's weights have not changed: call backward(), and then step()"
        for mistake, hint in (
            ("no zero_grad", "the gradients of earlier steps are added up: call zero_grad() in every step"),
            ("no clip", "large gradients are not clipped: clip their norm to 1 between backward() and step()"),
        ):
            assert not _equal(weights, ours[mistake][0].state_dict()), hint
        assert _equal(weights, trained.state_dict()), (
            "the trained weights are not those of AdamW with this learning rate, its other settings as they are, and "
            "gradients clipped to the norm 1"
        )
        numbers = given.numbers(got, count)
        assert near(float64_on_cpu("losses", numbers), float64_on_cpu("losses", losses), 1e-4), (
            "the losses are not those of the batches, in order"
        )
        assert isinstance(averages, dict) and set(averages) == set(expected), (
            "the averages are a dictionary with the names of state_dict()"
        )
        assert not _equal(averages, weights), (
            "the averages are the weights themselves: state_dict() holds the weights, not copies; clone them at first"
        )
        assert not _equal(averages, before), "the averages are the weights before training: update them in every step"
        assert _equal(averages, expected), "the averages do not follow exercise 3, with the step counted from 0"


def _equal(one: Weights, other: Weights) -> bool:
    return all(near(one[name].detach(), other[name].detach(), CLOSE) for name in other)
