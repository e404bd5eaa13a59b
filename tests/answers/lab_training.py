"""Answers to the exercises of lab 32."""

import torch

from diffusion_explained.exercises.lab_training import averaged


def my_dropped(labels, rate, null, generator):
    drop = torch.rand(len(labels), generator=generator) < rate
    return torch.where(drop, null, labels)


def by_index(labels, rate, null, generator):
    labels = labels.clone()
    labels[torch.rand(labels.shape, generator=generator) < rate] = null
    return labels


def whole_batch(labels, rate, null, generator):
    return labels if float(torch.rand(1, generator=generator)) >= rate else torch.full_like(labels, null)


def my_loss(network, x_0, labels, t, eps, *, target=lambda x_0, eps: eps - x_0, scale=1000, mean=True, flip=False):
    wide = t[:, None]
    x_t = wide * x_0 + (1 - wide) * eps if flip else (1 - wide) * x_0 + wide * eps
    error = (network(x_t, scale * t, labels) - target(x_0, eps)).square()
    return error.mean() if mean else error.sum()


def rising(decay, step):
    return min(decay, (1 + step) / (10 + step))


def my_average(averages, weights, decay, step, *, rule=rising, copy_whole=True):
    d, new = rule(decay, step), {}
    for name, one in weights.items():
        new[name] = one.clone() if copy_whole and not one.is_floating_point() else d * averages[name] + (1 - d) * one
    return new


def in_place(averages, weights, decay, step):
    new = my_average(averages, weights, decay, step)
    averages["w"].zero_()
    return new


def my_train(
    network, loss, batches, learning_rate, decay, *,
    zero=True, clip=1.0, step=True, average=True, alias=False, first=0, every=1, optimizer=torch.optim.AdamW,
    item=float,
):  # fmt: skip
    optimizer = optimizer(network.parameters(), lr=learning_rate)
    averages = network.state_dict()
    averages = averages if alias else {name: one.clone() for name, one in averages.items()}
    losses = []
    for k, batch in enumerate(batches[::every], start=first):
        if zero:
            optimizer.zero_grad()
        value = loss(network, *batch)
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
        if step:
            optimizer.step()
        losses.append(item(value.detach()))
        if average:
            averages = averaged(averages, network.state_dict(), decay, k)
    return losses, averages


def unclipped_average(network, loss, batches, learning_rate, decay):
    losses, _ = my_train(network, loss, batches, learning_rate, decay)
    return losses, {name: one.detach() for name, one in network.state_dict().items()}


RIGHT = {
    "32.1": [my_dropped, by_index],
    "32.2": [
        my_loss,
        lambda network, x_0, labels, t, eps: torch.nn.functional.mse_loss(
            network(torch.lerp(x_0, eps, t.unsqueeze(1)), 1000 * t, labels), eps - x_0
        ),
    ],
    "32.3": [my_average, averaged],
    "32.4": [my_train, lambda *a: my_train(*a, item=lambda value: value)],
}


WRONG = {  # exercise -> (answer, a word of its hint)
    "32.1": [
        (whole_batch, "decide for each label"),
        (lambda labels, rate, null, g: my_dropped(labels, 1 - rate, null, g), "of 3000 labels is dropped"),
        (lambda labels, rate, null, g: torch.where(torch.rand(len(labels)) < rate, null, labels), "each time"),
        (lambda labels, rate, null, g: my_dropped(labels, rate, null, g.manual_seed(0)), "the same labels"),
        (lambda labels, rate, null, g: torch.where(torch.rand(len(labels), generator=g) < rate, null, labels).float(),
         "whole numbers"),
        (lambda labels, rate, null, g: my_dropped(labels, rate, 0, g), "another one now"),
        (lambda labels, rate, null, g: my_dropped(labels, rate / 2, null, g), "of 3000 labels is dropped"),
        (lambda labels, rate, null, g: labels[torch.rand(len(labels), generator=g) >= rate], "as many as were given"),
        (lambda labels, rate, null, g: labels, "is dropped"),
        (lambda labels, rate, null, g: labels.fill_(null), "in place"),
        (lambda labels: labels, "ended with TypeError"),
        (0.1, "the answer is a function"),
    ],
    "32.2": [
        (lambda *a: my_loss(*a, target=lambda x_0, eps: x_0 - eps), "the wrong sign"),
        (lambda *a: my_loss(*a, target=lambda x_0, eps: eps), "the target is ε"),
        (lambda *a: my_loss(*a, flip=True), "data and noise are exchanged"),
        (lambda *a: my_loss(*a, scale=1), "the network's time is 1000 t"),
        (lambda n, x_0, labels, t, eps: my_loss(n, x_0, None, t, eps), "the labels are not given"),
        (lambda *a: my_loss(*a, mean=False), "this is the sum of all squares"),
        (lambda *a: 2 * my_loss(*a), "summed over the coordinates"),
        (lambda *a: my_loss(*a).detach(), "has no gradient"),
        (lambda *a: float(my_loss(*a)), "a tensor of one number"),
        (lambda n, x_0, labels, t, eps: my_loss(n, x_0, labels, t[:1].expand(len(t)), eps), "this is not the mean of"),
        (lambda n, x_0, labels, t, eps: (n((1 - t) * x_0.T, 1000 * t, labels) - eps).mean(), "ended with"),
        (lambda n, x_0, labels, t, eps: my_loss(n, x_0.zero_(), labels, t, eps), "in place"),
        (0.1, "the answer is a function"),
    ],
    "32.3": [
        (lambda *a: my_average(*a, rule=lambda decay, step: decay), "at first it is (1 + step)"),
        (lambda *a: my_average(*a, rule=lambda decay, step: 1 - rising(decay, step)), "are exchanged"),
        (lambda *a: my_average(*a, rule=lambda decay, step: max(decay, (1 + step) / (10 + step))), "the whole one"),
        (lambda *a: my_average(*a, rule=lambda decay, step: 1.0), "do not move"),
        (lambda *a: my_average(*a, rule=lambda decay, step: 0.0), "the weights themselves"),
        (lambda *a: my_average(*a, copy_whole=False), "has no average"),
        (in_place, "in place"),
        (lambda a, w, d, s: {"w": my_average(a, w, d, s)["w"]}, "with the same names"),
        (lambda a, w, d, s: list(my_average(a, w, d, s).values()), "a dictionary"),
        (lambda a, w: w, "ended with TypeError"),
        (0.9, "the answer is a function"),
    ],
    "32.4": [
        (lambda *a: my_train(*a, zero=False), "zero_grad() in every step"),
        (lambda *a: my_train(*a, clip=None), "are not clipped"),
        (lambda *a: my_train(*a, step=False), "have not changed"),
        (lambda *a: my_train(*a, optimizer=torch.optim.SGD), "are not those of AdamW"),
        (lambda n, loss, b, rate, decay: my_train(n, loss, b, 1e-3, decay), "are not those of AdamW"),
        (lambda *a: my_train(*a, average=False), "the weights before training"),
        (lambda *a: my_train(*a, alias=True, average=False), "clone them at first"),
        (unclipped_average, "clone them at first"),
        (lambda *a: my_train(*a, first=1), "the step counted from 0"),
        (lambda n, loss, b, rate, decay: my_train(n, loss, b, rate, 0.99), "the step counted from 0"),
        (lambda *a: my_train(*a, every=2), "times for"),
        (lambda *a: (sorted(my_train(*a)[0]), my_train(*a)[1]), "times for"),
        (lambda *a: my_train(*a)[1], "returns a pair"),
        (lambda n, loss: n, "ended with TypeError"),
        (None, "the answer is a function"),
    ],
}  # fmt: skip
