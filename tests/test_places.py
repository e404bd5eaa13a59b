"""What the package's source keeps to where it makes tensors: device and dtype are named, float64 stays on the CPU.

A seed is then the same picture whatever torch's global defaults are, and Apple's MPS, which has no float64, is never
asked for it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diffusion_explained"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# what makes a tensor of nothing: its device and its dtype are torch's global ones unless they are named
FACTORIES = {
    "zeros", "ones", "full", "empty", "arange", "range", "linspace", "logspace", "eye", "tensor", "as_tensor",
    "asarray", "randn", "rand", "randint", "randperm", "normal", "empty_strided", "complex", "tril_indices",
    "triu_indices", "hann_window", "hamming_window", "bartlett_window", "blackman_window", "kaiser_window",
    "scalar_tensor",
}  # fmt: skip


def calls(source: str) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))


def unnamed_places(source: str) -> list[str]:
    """The calls of torch's factories that leave the device or the dtype to torch's defaults, as "line: call"."""
    found = []
    for call in calls(source):
        owner, _, function = ast.unparse(call.func).rpartition(".")
        named = {word.arg for word in call.keywords}
        if owner == "torch" and function in FACTORIES and None not in named and not {"device", "dtype"} <= named:
            found.append(f"{call.lineno}: {ast.unparse(call)}")
        if owner == "torch" and function == "Generator" and not call.args and "device" not in named:
            found.append(f"{call.lineno}: {ast.unparse(call)}")
    return found


def float64_anywhere(source: str) -> list[str]:
    """The places that make float64 of what may be on a device, as "line: expression".

    Allowed is dtype=torch.float64 beside device="cpu" in a factory that is given no tensor, and the name in a list of
    dtypes or in a comparison, which makes nothing.
    """
    tree = ast.parse(source)
    listed = (node for node in ast.walk(tree) if isinstance(node, ast.Tuple | ast.Set | ast.Compare))
    allowed = {child for node in listed for child in ast.iter_child_nodes(node)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        words = {word.arg: word.value for word in call.keywords}
        on_cpu = isinstance(words.get("device"), ast.Constant) and words["device"].value == "cpu"
        if on_cpu and ast.unparse(call.func).startswith("torch.") and ast.unparse(call.func) != "torch.as_tensor":
            allowed.add(words.get("dtype"))
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (node.attr == "double" or ast.unparse(node) in ("torch.float64", "torch.double"))
        and node not in allowed
    ]


def own_seeds(source: str) -> list[str]:
    """The calls that seed a generator past `noise.check_seed`, as "line: call"."""
    return [
        f"{call.lineno}: {ast.unparse(call)}"
        for call in calls(source)
        if ast.unparse(call.func).rpartition(".")[2] in {"manual_seed", "manual_seed_all", "default_rng", "RandomState"}
        or ast.unparse(call.func) in {"np.random.seed", "random.seed", "random.Random", "torch.seed"}
    ]


RULES = {
    unnamed_places: ("name device= and dtype=", set()),
    float64_anywhere: ("use devices.to_float64 or devices.float64_on_cpu", {"devices.py"}),
    own_seeds: ("use noise.stream, noise.seeded or noise.numpy_stream", {"noise.py"}),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_to(rule):
    advice, owners = RULES[rule]
    found = [
        f"{path.relative_to(PACKAGE)}:{place}"
        for path in SOURCES
        if path.relative_to(PACKAGE).as_posix() not in owners
        for place in rule(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"{advice}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (unnamed_places, "x = torch.zeros(3)"),
        (unnamed_places, "x = torch.zeros(3, device=device)"),
        (unnamed_places, "x = torch.arange(3, dtype=torch.int64)"),
        (unnamed_places, "g = torch.Generator()"),
        (float64_anywhere, "x = x.double()"),
        (float64_anywhere, "x = x.to(torch.float64)"),
        (float64_anywhere, "x = x.to(dtype=torch.float64)"),
        (float64_anywhere, "x = torch.zeros(3, dtype=torch.float64, device=device)"),
        (float64_anywhere, "x = torch.zeros_like(x, dtype=torch.float64)"),
        (float64_anywhere, "x = torch.as_tensor(x, dtype=torch.float64, device='cpu')"),
        (float64_anywhere, "place = {'dtype': torch.double}"),
        (own_seeds, "torch.manual_seed(seed)"),
        (own_seeds, "g = torch.Generator('cpu').manual_seed(seed)"),
        (own_seeds, "r = np.random.default_rng(seed)"),
    ],
)
def test_a_rule_finds_what_breaks_it(rule, line):
    assert len(rule(line)) == 1


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (unnamed_places, "x = torch.zeros(3, device='cpu', dtype=torch.float32)"),
        (unnamed_places, "x = torch.zeros(3, **place)"),
        (unnamed_places, "x = torch.zeros_like(y)"),
        (float64_anywhere, "x = torch.zeros(3, dtype=torch.float64, device='cpu')"),
        (float64_anywhere, "FLOATS = (torch.float32, torch.float64)"),
        (own_seeds, "g = noise.stream(seed)"),
    ],
)
def test_a_rule_lets_pass_what_keeps_it(rule, line):
    assert not rule(line)
