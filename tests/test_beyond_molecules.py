"""Molecules: bonds from distances, an equivariant network, a measure with a floor, and files that chemists read."""

import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diffusion_explained import plots
from diffusion_explained.beyond import KINDS, load_beyond, molecules
from diffusion_explained.beyond.balls_and_sticks import balls_and_sticks
from diffusion_explained.beyond.bonds import (
    ELEMENTS,
    LENGTHS,
    Molecule,
    find_bonds,
    is_valid,
    shape_of,
    skeletons,
    to_items,
    to_molecules,
    with_double_bonds,
)
from diffusion_explained.beyond.molecules import SHAPES, chance, load_molecules, measure
from diffusion_explained.beyond.sdf import molfile, plain, read_sdf, smiles, to_sdf
from diffusion_explained.cli import app
from diffusion_explained.extras import MissingExtraError
from diffusion_explained.models import EGNN, EGNNConfig

MOLECULES = KINDS["molecules"]


def placed(elements, *positions):
    """A molecule of elements such as "CCN"."""
    return Molecule(tuple(map(ELEMENTS.index, elements)), torch.tensor(positions, dtype=torch.float32).reshape(-1, 3))


def ring(elements, length):
    """A regular ring with bonds of one length, in a plane."""
    radius = length / 2 / math.sin(math.pi / len(elements))
    angles = [2 * math.pi * i / len(elements) for i in range(len(elements))]
    return placed(elements, *[(radius * math.cos(a), radius * math.sin(a), 0.0) for a in angles])


@pytest.fixture(scope="module")
def network():
    """A small network whose weights are all random."""
    generator = torch.Generator().manual_seed(0)
    network = EGNN(EGNNConfig(image_shape=(9, 8), width=16, depth=2, num_classes=3)).eval()
    for weight in network.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    return network


@pytest.fixture(scope="module")
def model():
    return load_beyond("molecules")


@pytest.mark.parametrize("mirrored", [False, True], ids=["turned", "mirrored"])
def test_the_output_turns_and_is_mirrored_with_the_molecule(network, mirrored):
    generator = torch.Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    if (torch.linalg.det(turn) < 0) != mirrored:
        turn = -turn
    x_t, labels = torch.randn(4, 9, 8, generator=generator), torch.tensor([0, 1, 2, 3])
    t, order = torch.tensor([20.0, 200.0, 700.0, 1000.0]), torch.randperm(9, generator=generator)

    def turned(x):
        return torch.cat([x[..., :3] @ turn, x[..., 3:]], dim=-1)

    with torch.no_grad():
        output = network(x_t, t, labels)
        scale = output.abs().amax((1, 2), keepdim=True)
        assert ((network(turned(x_t), t, labels) - turned(output)) / scale).abs().max() < 1e-5
        assert ((network(x_t[:, order], t, labels) - output[:, order]) / scale).abs().max() < 1e-5
        assert ((turned(output) - output) / scale).abs().max() > 0.1  # the positions' part is no number that stays
        moved = x_t + torch.tensor([1.0, -2, 3, 0, 0, 0, 0, 0])  # only the centre's own velocity changes
        drift = network(moved, t, labels) - output
        assert torch.allclose(drift[..., :3], (moved - x_t)[..., :3] / (t / 1000)[:, None, None], atol=1e-2)
        assert ((drift[..., 3:]) / scale).abs().max() < 1e-4


def test_an_untrained_network_is_the_best_linear_prediction():
    """At its start the output is E[eps - x_0 | x_t] of normally distributed data with the configured spreads."""
    config = EGNNConfig(image_shape=(9, 8), width=8, depth=1, num_classes=3)
    spread = torch.tensor([config.spreads[0]] * 3 + [*config.spreads[1:]])
    generator = torch.Generator().manual_seed(0)
    x_0, eps = (torch.randn(1500, 9, 8, generator=generator) for _ in range(2))
    x_0 = spread * x_0
    x_0[..., :3] -= x_0[..., :3].mean(1, keepdim=True)
    for t in (0.02, 0.3, 1.0):
        x_t = (1 - t) * x_0 + t * eps
        with torch.no_grad():
            rest = eps - x_0 - EGNN(config)(x_t, torch.full((1500,), 1000 * t))
        kept = (rest * (x_t - x_t.mean(1, keepdim=True))).mean((0, 1)) / x_t.var((0, 1)).sqrt()
        assert (kept.abs() / rest.square().mean((0, 1)).sqrt()).max() < 0.05  # nothing of x_t is left in the error


def test_sizes_that_make_no_network_are_refused():
    for wrong, words in (
        ({"image_shape": (9, 3)}, "a feature or more"),
        ({"width": 15}, "even"),
        ({"spreads": (0.2, 0.1)}, "one per feature"),
        ({"spreads": (0.2, 0.1, 0.03, 0.0, 0.03, 0.03)}, "above 0"),
    ):
        with pytest.raises(ValueError, match=words):
            EGNNConfig(**wrong)


def test_bonds_follow_from_distances():
    benzene = ring("C" * 6, 1.395)
    assert set(find_bonds(benzene).values()) == {1.5} and len(find_bonds(benzene)) == 6
    assert sorted(with_double_bonds(benzene).values()) == [1, 1, 1, 2, 2, 2]
    assert shape_of(benzene) == "aromatic" and is_valid(benzene)
    assert shape_of(ring("C" * 6, 1.53)) == "ring" and set(find_bonds(ring("C" * 6, 1.53)).values()) == {1}
    nitrile = placed("CCN", (0, 0, 0), (1.46, 0, 0), (2.62, 0, 0))
    assert find_bonds(nitrile) == {(0, 1): 1, (1, 2): 3} and shape_of(nitrile) == "chain"
    assert find_bonds(placed("CO", (0, 0, 0), (1.22, 0, 0))) == {(0, 1): 2}


def test_what_is_no_molecule_is_invalid():
    far = placed("CC", (0, 0, 0), (3, 0, 0))
    assert find_bonds(far) == {} and not is_valid(far)  # two pieces
    for broken in (
        placed("CC", (0, 0, 0), (1.7, 0, 0)),  # too long for a bond, too near for none
        placed("CC", (0, 0, 0), (1.0, 0, 0)),  # too short
        placed("FF", (0, 0, 0), (1.4, 0, 0)),  # no such bond
    ):
        assert find_bonds(broken) is None and not is_valid(broken) and shape_of(broken) == "none"
        with pytest.raises(ValueError, match="No bonds fit"):
            with_double_bonds(broken)
    ends = [(1.53, 0, 0), (-1.53, 0, 0), (0, 1.53, 0), (0, -1.53, 0), (0, 0, 1.53), (0, 0, -1.53)]
    assert is_valid(placed("C" * 5, (0, 0, 0), *ends[:4]))
    assert not is_valid(placed("C" * 6, (0, 0, 0), *ends[:5]))  # carbon with five bonds
    assert not is_valid(placed("FCC", (0, 0, 0), (1.36, 0, 0), (-1.36, 0, 0)))  # fluorine with two
    assert not is_valid(placed(""))


def test_real_molecules_are_valid_and_noise_and_shuffled_elements_are_not():
    test = load_molecules("test").x_0[:150]
    share = [is_valid(molecule) for molecule in to_molecules(test)]
    assert sum(share) >= 147
    noisy = test.clone()
    noisy[..., :3] += 0.1 / 6 * torch.randn(noisy[..., :3].shape, generator=torch.Generator().manual_seed(0))
    assert sum(map(is_valid, to_molecules(noisy))) < 40  # a tenth of an angstrom is too much


def test_the_bundled_molecules_are_as_described():
    train, test = load_molecules("train"), load_molecules("test")
    assert (len(train), len(test)) == (39_393, 3_000) and not set(train.smiles) & set(test.smiles)
    assert train.x_0.abs().max() < 1 and train.x_0[..., :3].mean(1).abs().max() < 1e-3
    data = MOLECULES.data(90, 0, "test")
    assert data.labels.tolist() == [i % 3 for i in range(90)]
    assert len(torch.unique(skeletons(data.x_0))) > 85  # none is drawn twice
    named = [SHAPES[label] for label in data.labels.tolist()]
    right = [shape_of(one) == name for one, name in zip(to_molecules(data.x_0), named, strict=True)]
    assert sum(right) > 80
    positions = train.x_0[:500, :, :3].square().mean().sqrt()
    assert abs(float(positions) - EGNNConfig().spreads[0]) < 0.03


def test_a_skeleton_is_the_graph_of_bonds_without_their_order():
    test = load_molecules("test").x_0[:400]
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(skeletons(test[:, order]), skeletons(test))
    assert len(torch.unique(skeletons(test))) > 380
    hexagon, longer = ring("C" * 6, 1.395), ring("C" * 6, 1.53)
    pyridine = ring("NCCCCC", 1.37)
    benzene, hexane, other = skeletons(to_items([hexagon, longer, pyridine])).tolist()
    assert benzene == hexane != other
    assert skeletons(to_items([ring("CN" * 3, 1.37)])) != skeletons(to_items([ring("CCCNNN", 1.37)]))


def test_the_measure_has_a_floor_and_a_ceiling():
    data, reference = MOLECULES.data(120, 0, "test"), MOLECULES.data(120, 1, "test")
    real = measure(data, reference)
    assert real["valid"] > 0.97 and real["unique"] > 0.95 and real["asked"] > 0.9 and real["length"] < 0.01
    assert measure(chance(data, torch.Generator().manual_seed(0)), reference)["valid"] < 0.6
    assert 0.2 < real["novel"] < 0.7 and measure(MOLECULES.data(120, 0, "train"), reference)["novel"] == 0
    stretched = data.x_0.clone()
    stretched[..., :3] *= 1.02
    assert measure(data._replace(x_0=stretched), reference)["length"] > 2 * real["length"]
    assert measure(data._replace(x_0=torch.zeros_like(data.x_0)), reference) == {"valid": 0}


def test_the_shipped_network_draws_valid_molecules(model):
    usual = model.card["evaluation"][0]
    assert usual["settings"] == {**MOLECULES.sampling, "guidance_scale": model.default_guidance_scale}
    assert usual["samples"]["valid"] >= 0.9 and usual["real"]["valid"] > 0.98 and usual["chance"]["valid"] < 0.5
    assert model.class_names == SHAPES and model.image_shape == MOLECULES.shape
    drawn = model.sample([0, 1, 2] * 3, num_inference_steps=25, sampler="ddpm", seed=0)
    fine = [is_valid(molecule) for molecule in to_molecules(drawn)]
    assert sum(fine) >= 7
    assert sum(shape_of(one) == SHAPES[i % 3] for i, one in enumerate(to_molecules(drawn))) >= 6


def test_a_file_is_read_back(tmp_path):
    items = load_molecules("test").x_0[:20]
    path = tmp_path / "x.sdf"
    path.write_bytes(to_sdf(items, ["ring"] * 20))
    back = read_sdf(path)
    assert torch.allclose(to_items(back), items, atol=1e-3)
    lines = path.read_text().split("\n")
    assert lines[0].endswith(" ring") and lines[3].endswith("V2000") and lines[1][20:22] == "3D"
    path.write_text(path.read_text().replace("\n", "\r\n"))
    assert torch.allclose(to_items(read_sdf(path)), items, atol=1e-3)
    assert "invalid" in molfile(placed("CC", (0, 0, 0), (3, 0, 0))).split("\n")[0]


def test_a_file_that_is_no_molecule_is_refused_in_words(tmp_path):
    path, good = tmp_path / "x.sdf", molfile(ring("C" * 6, 1.395)) + "$$$$\n"
    for text, words in {
        "": "no molecule",
        "C1CCCCC1\n": "V2000",
        good.replace("V2000", "V3000"): "V2000",
        good.replace(" C  ", " Br ", 1): "has 'Br'; the network knows H, C, N, O, F",
        good.replace("  6  6", " 12  6"): "molecule 1",
        good.replace("1.3950", "   nan", 1): "no number",
        good + good.replace("  6  6", "  x  6"): "molecule 2 cannot be read",
        molfile(placed("C" * 10, *[(1.5 * i, 0, 0) for i in range(10)])): "10 atoms",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            read_sdf(path)
    with pytest.raises(ValueError, match="one molecule or more"):
        to_items([])
    with pytest.raises(ValueError, match=r"positions \[2, 3\]"):
        Molecule((0,), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"0 \.\. 3"):
        Molecule((4,), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="9 atoms"):
        to_items([placed("C" * 10, *[(i, 0, 0) for i in range(10)])])
    with pytest.raises(ValueError, match=r"\[B, 9, 8\]"):
        skeletons(torch.zeros(2, 9, 7))


def test_rdkit_reads_the_molecules_that_the_file_says():
    pytest.importorskip("rdkit")
    test = load_molecules("test")
    pairs = zip(to_molecules(test.x_0[:60]), test.smiles, strict=False)
    same = [smiles(one) == plain(name) for one, name in pairs if is_valid(one)]
    assert sum(same) > 0.9 * len(same)
    with pytest.raises(ValueError, match="has no name"):
        smiles(placed("CC", (0, 0, 0), (3, 0, 0)))
    with pytest.raises(ValueError, match="does not read"):
        plain("C1CC")


def test_without_rdkit_a_molecule_has_no_name_and_the_words_say_what_to_install(monkeypatch):
    for name in ("rdkit", "rdkit.Chem"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError, match=r"diffusion-explained\[molecules\]"):
        smiles(ring("C" * 6, 1.395))


def test_a_figure_shows_a_line_per_bond_order_and_says_what_it_shows():
    aromatic = ring("C" * 6, 1.395)
    fig = balls_and_sticks(to_items([aromatic, placed("CC", (0, 0, 0), (1.7, 0, 0))]), ["benzene", "torn"])
    assert [len(ax.lines) for ax in fig.axes] == [9, 0]  # three double bonds, three single ones; none fit
    assert [text.get_text() for text in fig.axes[0].texts] == ["C"] * 6
    assert plots.alt_text(fig) == "2 molecules as balls and sticks: benzene C6, torn C2"
    with pytest.raises(ValueError, match="got 1 for 2"):
        balls_and_sticks(to_items([aromatic, aromatic]), ["benzene"])


def test_the_command_line_writes_an_sdf_file(tmp_path, model):
    out = tmp_path / "x.sdf"
    command = ["sample", "molecules", "--steps", "3", "--seed", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--labels", "chain,aromatic", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().count("$$$$") == 2 and "chain" in out.read_text().split("\n")[0]
    for wrong, words in ((["--labels", "protein"], "aromatic"), (["--out", str(tmp_path / "x.png")], ".sdf")):
        refused = CliRunner().invoke(app, [*command, *wrong])
        assert refused.exit_code == 2 and words in refused.output


def test_a_damaged_file_of_molecules_is_an_error_in_words(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="test, train"):
        load_molecules("validation")
    broken = tmp_path / "molecules.npz"
    broken.write_bytes(molecules.MOLECULES.read_bytes()[:5000])
    monkeypatch.setattr(molecules, "MOLECULES", broken)
    with pytest.raises(OSError, match="is damaged"):
        load_molecules.__wrapped__("train")


def test_the_table_of_lengths_is_in_order():
    assert set(LENGTHS) <= {a + b for i, a in enumerate(ELEMENTS) for b in ELEMENTS[i:]}
    assert all(list(row) == sorted(row) for row in LENGTHS.values())
    with np.load(molecules.MOLECULES) as file:
        assert set(file.files) == {"positions", "elements", "bonds", "smiles", "held_out"}
