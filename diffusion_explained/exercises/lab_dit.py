"""The exercises of lab 33, A DiT block."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_explained.devices import to_float64
from diffusion_explained.exercises.grading import Given, exercise, near, ran, refuse
from diffusion_explained.models.dit import MLP_RATIO

CLOSE = 1e-4


@exercise("33.1", "Patches", "my_patches(x, size)", minutes=15, difficulty=1)
def are_the_patches(answer: object, given: Given) -> None:
    """Tokens [B, N, C size²] of pictures that are not square, row by row, each channel's patch row by row."""
    for channels, height, width, size in ((1, 4, 6, 2), (3, 6, 12, 3), (2, 8, 4, 4)):
        x = to_float64(given.randn(2, channels, height, width))
        rows, columns = height // size, width // size
        cut = x.reshape(2, channels, rows, size, columns, size)
        expected = cut.permute(0, 2, 4, 1, 3, 5).reshape(2, rows * columns, -1)
        where = f"of {channels} x {height} x {width} in patches of {size}"
        got = given.call(answer, x, size)
        assert isinstance(got, Tensor), "the tokens are a tensor [B, N, C * size * size]"
        shape, turned = expected.shape, (expected.shape[0], expected.shape[2], expected.shape[1])
        assert got.shape == shape or got.shape != turned, f"{where} tokens and their numbers are exchanged: [B, N, D]"
        assert got.shape == shape, f"{where} the shape is {list(shape)}, not {list(got.shape)}"
        if near(got, expected):
            continue
        for wrong, hint in (
            (x.reshape(shape), "a reshape alone cuts along the memory, not into squares: permute the axes in between"),
            (cut.permute(0, 4, 2, 1, 3, 5).reshape(shape), "the patches are in the order of columns: go row by row"),
            (cut.permute(0, 2, 4, 3, 5, 1).reshape(shape), "inside a patch the channels come last: put them first"),
            (cut.permute(0, 2, 4, 1, 5, 3).reshape(shape), "each patch is transposed: write it row by row"),
        ):  # fmt: skip
            assert not near(got, wrong), f"{where} {hint}"
        refuse(f"{where} these are not the patches, row by row")


@exercise("33.2", "Attention with heads", "my_attention(q, k, v, heads)", minutes=25, difficulty=2)
def is_attention(answer: object, given: Given) -> None:
    """softmax(q k' / sqrt(d)) v for each head of width d, heads beside one another; q, k and v are [B, N, width]."""
    for count, width, heads in ((5, 8, 2), (3, 12, 3), (4, 6, 1)):
        q, k, v = (2 * to_float64(given.randn(2, count, width)) for _ in range(3))

        def by(
            scale: float,
            heads: int = heads,
            dim: int = -1,
            split: bool = True,
            q: Tensor = q,
            k: Tensor = k,
            v: Tensor = v,
        ) -> Tensor:
            def divided(x: Tensor) -> Tensor:
                if split:
                    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
                return x.unflatten(-1, (-1, heads)).permute(0, 3, 1, 2)

            weights = (divided(q) @ divided(k).transpose(-1, -2) * scale).softmax(dim)
            joined = (weights @ divided(v)).transpose(1, 2)
            return (joined if split else joined.transpose(2, 3)).flatten(2)

        d = width // heads
        mistakes = [
            (by(1.0), "the products are not divided by the root of the head's width"),
            (by(1 / d), "the products are divided by the head's width: take its root"),
            (by(width**-0.5), "the products are divided by the root of the whole width: take that of one head"),
            (by(d**-0.5, dim=-2), "softmax runs over the queries: the weights of one query sum to 1 over the keys"),
            (by(width**-0.5, heads=1), "this is one head: divide the numbers of a token among the heads"),
            (by(d**-0.5, heads=1), "this is one head: divide the numbers of a token among the heads"),
            (by(d**-0.5, split=False), "a head has neighbouring numbers of a token: [heads, width // heads]"),
            ((q @ k.transpose(1, 2) / width**0.5) @ v, "the weights are no shares: softmax is missing"),
        ]  # fmt: skip
        expected = by(d**-0.5)
        mistakes = [one for one in mistakes if not near(one[0], expected)]
        hint = f"with {heads} heads this is not softmax(q kᵀ / √d) v for each head, put together again"
        given.returns(answer, q, k, v, heads, expected=expected, hint=hint, mistakes=mistakes)


def _made(answer: object, given: Given, *arguments: Any) -> nn.Module:
    """The module that the answer makes."""
    made = given.call(answer, *arguments)
    assert isinstance(made, nn.Module), f"{given.called} returns a torch module, an instance of a subclass of nn.Module"
    return made


def _ran(module: nn.Module, called: str, *arguments: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The module's output, of the shape that it must have."""
    result = ran(called, module, *arguments)
    assert isinstance(result, Tensor) and result.shape == shape, f"{called} returns a tensor of the shape {list(shape)}"
    return result


def _scramble(module: nn.Module, given: Given, scale: float) -> None:
    """Give every weight a random value, as if the module had been trained."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(scale * given.randn(*weight.shape))


@exercise("33.3", "A block with adaLN-Zero", "my_block(width, heads)", minutes=40, difficulty=3)
def is_a_dit_block(answer: object, given: Given) -> None:
    """The identity at first, but with a gradient; then attention, a network and a modulation, per image."""
    width, heads = 8 + 4 * int(2 * given.rand(1)), 2
    block, called = _made(answer, given, width, heads), "block(tokens, cond)"
    tokens, cond = given.randn(3, 5, width), given.randn(3, width)

    def run(tokens: Tensor, cond: Tensor) -> Tensor:
        return _ran(block, called, tokens, cond, shape=tuple(tokens.shape))

    start = run(tokens, cond)
    assert near(start.detach(), tokens, 1e-9), (
        "a new block changes its tokens: begin with gates of 0, so set weights and biases of the modulation to 0"
    )
    assert start.requires_grad, "no weight of the block reaches its output"
    (start * given.randn(3, 5, width)).sum().backward()
    moved = [weight.grad for weight in block.parameters() if weight.grad is not None]
    assert any(bool((one != 0).any()) for one in moved), (
        "a new block has no gradient at all: the gates are 0, so what they multiply must not be 0 as well"
    )
    _right_size(sum(weight.numel() for weight in block.parameters()), width)
    _scramble(block, given, 0.4)
    with torch.no_grad():
        out = run(tokens, cond)
        other = run(tokens, cond + given.randn(1, width))
        assert not near(other, out), "the condition changes nothing"
        fewer = run(tokens[:1], cond[:1])
        assert near(fewer, out[:1]), "an image's result depends on the other images of the batch"
        order = torch.tensor([3, 0, 4, 1, 2], dtype=torch.int64, device="cpu")
        assert near(run(tokens[:, order], cond), out[:, order]), (
            "tokens in another order do not give the same results in that order: a block knows no positions"
        )
        changed = tokens.clone()
        changed[:, 1] += given.randn(width)
        assert not near(run(changed, cond)[:, 0], out[:, 0]), "a token does not see the others: attention is missing"
        raised = run(tokens + 3.0, cond) - (tokens + 3.0)
        assert near(raised, out - tokens, 1e-3), (
            "the same number added to a whole token changes what the block adds: normalise before attention and network"
        )


def _right_size(count: int, width: int) -> None:
    """Raise AssertionError where the number of weights shows what is missing, up to biases."""
    modulation, attention, network = 6 * width**2, 4 * width**2, 2 * MLP_RATIO * width**2
    full, biases = modulation + attention + network, (6 + 4 + MLP_RATIO + 1) * width
    for left_out, hint in (
        (network, "the network of two layers is missing, or its hidden layer is not four times as wide"),
        (attention, "attention has no weights: a linear layer to q, k and v, and one after it"),
        (
            modulation // 2,
            "three numbers per feature are missing: scale, shift and gate for attention and for the network",
        ),
        (width**2, "a linear layer is missing: after attention comes one that mixes the heads"),
    ):
        assert not full - left_out <= count <= full - left_out + biases, f"the block has {count} weights: {hint}"
    assert count != full + biases + 4 * width, (
        "the two norms have weights of their own: scale and shift come from the condition (elementwise_affine=False)"
    )
    assert full <= count <= full + biases, (
        f"the block has {count} weights at width {width}; 6 width² for the modulation, 4 width² for attention and "
        f"8 width² for the network, with their biases, are {full + biases}"
    )


@exercise("33.4", "A small DiT", "my_dit(side, patch, width, depth, heads, num_classes)", minutes=45, difficulty=3)
def is_a_dit(answer: object, given: Given) -> None:
    """Zero at first; then it depends on time, class and place, and each patch of the output has its own place."""
    side, patch, classes = 8, 2, 4 + int(3 * given.rand(1))
    network, called = _made(answer, given, side, patch, 8, 2, 2, classes), "network(x_t, t, labels)"
    x, t = given.randn(3, 1, side, side), torch.tensor([10.0, 400.0, 900.0], dtype=torch.float32, device="cpu")
    labels = torch.tensor([0, classes - 1, classes], dtype=torch.int64, device="cpu")

    def run(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return _ran(network, called, x, t, labels, shape=tuple(x.shape))

    assert near(run(x, t, labels).detach(), torch.zeros_like(x), 1e-9), (
        "a new network does not answer 0: initialise its last linear layer with 0"
    )
    assert sum(weight.numel() for weight in network.parameters()) > 2 * 18 * 8**2, (
        "the network has fewer weights than two blocks: keep the blocks in an nn.ModuleList, so that they are trained"
    )
    _scramble(network, given, 0.3)
    with torch.no_grad():
        out = run(x, t, labels)
        assert not near(run(x, t + 100, labels), out), "the time changes nothing"
        assert not near(run(x, t, labels.flip(0))[0], out[0]), "the class changes nothing"
        assert near(run(x[:1], t[:1], labels[:1]), out[:1]), (
            "an image's result depends on the other images of the batch"
        )
        rolled = run(x.roll(patch, -1), t, labels)
        assert not near(rolled, out.roll(patch, -1)), (
            "a picture moved by one patch gives the moved output: without positions a transformer has no places"
        )
    _scramble(network, given, 0.05)  # so small that a token hardly sees the others
    for row, column in ((0, 1), (2, 0), (3, 2)):
        pixels = x[:1].clone().requires_grad_()
        rows, columns = (slice(k * patch, (k + 1) * patch) for k in (row, column))
        run(pixels, t[:1], labels[:1])[..., rows, columns].abs().sum().backward()
        assert pixels.grad is not None, "the output does not depend on the picture"
        felt = F.avg_pool2d(pixels.grad.abs(), patch)[0, 0]
        most = divmod(int(felt.argmax()), felt.shape[1])
        assert most == (row, column), (
            f"patch {(row, column)} of the output depends most on patch {most} of the picture: put the tokens back in "
            "the order in which they were cut"
        )
