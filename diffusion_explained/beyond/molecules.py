"""Molecules: up to nine atoms of C, N, O and F in space, without their hydrogens, and the network that draws them.

    model = load_beyond("molecules")
    x_0 = model.sample([0, 1, 2], **KINDS["molecules"].sampling)        # a chain, a ring, an aromatic ring
    bonds = find_bonds(to_molecules(x_0)[0])                            # from the distances alone

An item is [9, 8], a row per atom: the position, in units of 6 angstroms from the centre; whether there is an atom, 0.1
or -0.1; and its element, a number per element, 0.05 for its own and 0 for the others. So one network draws molecules of
all sizes: an empty place stands in the centre. The numbers are small on purpose, as those of Hoogeboom et al. 2022,
"Equivariant Diffusion for Molecule Generation in 3D": while the noise falls, first the number of atoms can be told from
it, then the shape, and last the elements, for which the network has the shape to go by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffusion_explained.beyond.bonds import (
    ELEMENTS,
    MOST_ATOMS,
    Molecule,
    find_bonds,
    is_valid,
    items_of,
    shape_of,
    skeletons,
    to_molecules,
)
from diffusion_explained.beyond.kinds import Data, Kind
from diffusion_explained.beyond.sdf import to_sdf
from diffusion_explained.checks import typed_arguments
from diffusion_explained.messages import shortened, unknown_name

MOLECULES = Path(__file__).parents[1] / "data" / "molecules.npz"
SHAPES = ("chain", "ring", "aromatic")  # the classes: no ring, a ring, an aromatic ring
AROMATIC_BOND = 4  # as the file writes it, beside 1, 2 and 3
QUANTILES = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, device="cpu")


@dataclass(frozen=True)
class MoleculeSet:
    """Items [N, 9, 8] of `molecules`, their shapes as labels [N], and their names in SMILES notation."""

    x_0: Tensor
    labels: Tensor
    smiles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@cache
@typed_arguments
def load_molecules(split: str = "train") -> MoleculeSet:
    """The bundled molecules of a split, "train" or "test"; no molecule is in both.

    Raises ValueError for another split, OSError for a damaged file. recipes/molecules.py made the file.
    """
    if split not in ("train", "test"):
        raise unknown_name("split of the molecules", split, ("train", "test"))
    try:
        with np.load(MOLECULES, allow_pickle=False) as file:
            positions = torch.from_numpy(file["positions"]).float() / 1000
            elements = torch.from_numpy(file["elements"]).long()
            bonds = torch.from_numpy(file["bonds"])
            smiles, held_out = str(file["smiles"]).split("\n"), int(file["held_out"])
    except Exception as error:  # zipfile, zlib and numpy each raise their own errors for a damaged file
        raise OSError(f"{MOLECULES} is damaged: {shortened(error)}. Install the package again.") from error
    x_0 = items_of(positions, elements)
    rings = (bonds > 0).sum(1) >= (elements < len(ELEMENTS)).sum(1)
    labels = torch.where((bonds == AROMATIC_BOND).any(1), 2, rings.long())
    last = len(smiles) - held_out
    part = slice(0, last) if split == "train" else slice(last, None)
    return MoleculeSet(x_0[part], labels[part], tuple(smiles[part]))


def sample_data(n: int, generator: torch.Generator, split: str) -> Data:
    """n molecules [n, 9, 8], the three shapes in turn."""
    molecules = load_molecules(split)
    labels = torch.arange(n, device="cpu", dtype=torch.int64) % len(SHAPES)
    chosen = torch.empty(n, device="cpu", dtype=torch.int64)
    for label in range(len(SHAPES)):
        known = torch.nonzero(molecules.labels == label)[:, 0]
        places = labels == label
        asked = int(places.sum())
        rounds = -(-asked // len(known))  # each molecule comes once before any comes again
        order = torch.cat([permutation(len(known), generator) for _ in range(rounds)])
        chosen[places] = known[order[:asked]]
    return Data(molecules.x_0[chosen], labels)


def permutation(n: int, generator: torch.Generator) -> Tensor:
    """The numbers 0 .. n - 1 in random order, int64 [n], on the CPU."""
    return torch.randperm(n, generator=generator, device="cpu", dtype=torch.int64)


@cache
def training_skeletons() -> frozenset[int]:
    """The skeletons of all training molecules."""
    return frozenset(skeletons(load_molecules("train").x_0).tolist())


def measure(data: Data, reference: Data) -> dict[str, float]:
    """How good molecules [N, 9, 8] are.

    valid: the share of `is_valid`. unique: of the valid ones, the number of different skeletons. novel: of these, the
    share that is no training molecule's. asked: the share of valid molecules with the shape of the label. length: how
    far the quantiles of the bonds' lengths are from those of the reference, on average, in angstroms.
    """
    molecules = to_molecules(data.x_0)
    right = torch.tensor([is_valid(molecule) for molecule in molecules], device="cpu", dtype=torch.bool)
    valid = [molecule for molecule, fine in zip(molecules, right.tolist(), strict=True) if fine]
    numbers = {"valid": len(valid) / len(molecules)}
    if valid:
        found = set(skeletons(data.x_0.cpu()[right]).tolist())
        asked = [SHAPES.index(shape_of(molecule)) for molecule in valid]
        numbers["unique"] = len(found) / len(valid)
        numbers["novel"] = len(found - training_skeletons()) / len(found)
        numbers["asked"] = float(
            (torch.tensor(asked, device="cpu", dtype=torch.int64) == data.labels.cpu()[right]).float().mean()
        )
    real = [molecule for molecule in to_molecules(reference.x_0) if is_valid(molecule)]
    lengths = [torch.tensor(bond_lengths(some), device="cpu", dtype=torch.float64) for some in (valid, real)]
    if all(len(some) for some in lengths):
        ours, theirs = (some.quantile(QUANTILES) for some in lengths)
        numbers["length"] = float((ours - theirs).abs().mean())
    return numbers


def bond_lengths(molecules: list[Molecule]) -> list[float]:
    """The lengths of all bonds, in angstroms; molecules without any bonds that fit are left out."""
    lengths = []
    for molecule in molecules:
        for a, b in find_bonds(molecule) or {}:
            lengths.append(float((molecule.positions[a] - molecule.positions[b]).norm()))
    return lengths


def chance(data: Data, generator: torch.Generator) -> Data:
    """The same molecules [N, 9, 8], but the elements of each one's atoms shuffled among them."""
    x_0 = data.x_0.clone()
    for item in x_0:
        there = torch.nonzero(item[:, 3] > 0)[:, 0]
        item[there, 3:] = item[there[permutation(len(there), generator)], 3:]
    return Data(x_0, data.labels)


MOLECULE_KIND = Kind(
    name="molecules",
    shape=(MOST_ATOMS, 4 + len(ELEMENTS)),
    class_names=SHAPES,
    sample_data=sample_data,
    train_size=58_083,
    measure=measure,
    chance=chance,
    sampling={"num_inference_steps": 100, "sampler": "ddpm"},
    writers={".sdf": to_sdf},
)
