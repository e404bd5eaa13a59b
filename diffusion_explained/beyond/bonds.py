"""Molecules in space: atoms without their hydrogens, and the bonds that their distances say, by a table of our own.

    bonds = find_bonds(molecule)                   # {(0, 1): 2.0, (1, 2): 1.0, ...}, or None where no bonds fit

Hydrogens are left out, as chemists leave them out of a drawing: each atom has as many as its valence allows. So a
molecule is valid if every two atoms are as far apart as a bond or farther than a contact, all atoms hang together, and
no atom has more bonds than its valence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_explained.checks import check_data, typed_arguments
from diffusion_explained.messages import shortened

ELEMENTS = ("C", "N", "O", "F")
VALENCES = (4, 3, 2, 1)
MOST_ATOMS = 9
ANGSTROMS = 6.0  # one unit of the data's positions
THERE, ELEMENT = 0.1, 0.05  # the data's numbers for an atom, and for its element
CONTACT = 1.8  # angstroms: atoms without a bond are farther apart; between two bonds in a row there are 2.1 and more
AROMATIC = 1.42  # angstroms: an aromatic ring's bonds are shorter on average; those of other rings are longer

# Lengths in angstroms, of the bundled molecules' MMFF94 geometries: the shortest bond; up to where it is triple; up to
# where it is double; up to where it can be either, as in an aromatic ring; the longest bond.
LENGTHS: Mapping[str, tuple[float, float, float, float, float]] = {
    "CC": (1.17, 1.26, 1.36, 1.45, 1.62),
    "CN": (1.13, 1.21, 1.29, 1.40, 1.55),
    "CO": (1.16, 1.16, 1.255, 1.255, 1.52),
    "CF": (1.28, 1.28, 1.28, 1.28, 1.43),
    "NN": (1.22, 1.22, 1.26, 1.36, 1.53),
    "NO": (1.33, 1.33, 1.33, 1.33, 1.49),
    "NF": (1.34, 1.34, 1.34, 1.34, 1.47),
    "OO": (1.38, 1.38, 1.38, 1.38, 1.50),
}

Bonds = Mapping[tuple[int, int], float]  # the two atoms, the smaller index first -> 1, 1.5 (can be either), 2 or 3


@typed_arguments
@dataclass(frozen=True)
class Molecule:
    """A molecule: the element of each atom, an index into `ELEMENTS`, and the positions [n, 3] in angstroms.

    Raises ValueError for an element that does not exist, and for positions that do not fit.
    """

    elements: tuple[int, ...]
    positions: Tensor

    def __post_init__(self) -> None:
        if not set(self.elements) <= set(range(len(ELEMENTS))):
            raise ValueError(
                f"elements must be 0 .. {len(ELEMENTS) - 1} ({', '.join(ELEMENTS)}); got {shortened(self.elements)}."
            )
        if tuple(self.positions.shape) != (len(self.elements), 3):
            n = len(self.elements)
            raise ValueError(f"{n} atoms need positions [{n}, 3]; got positions {list(self.positions.shape)}.")

    @property
    def formula(self) -> str:
        """The number of atoms of each element, as C5N1O1."""
        return "".join(f"{name}{n}" for i, name in enumerate(ELEMENTS) if (n := self.elements.count(i)))


@typed_arguments
def to_molecules(x_0: Tensor) -> list[Molecule]:
    """The molecules of items [B, 9, 8], such as a sampler's x_t or predicted x_0; empty places are left out.

    Raises ValueError for another shape, and for NaN.
    """
    check_items(x_0)
    molecules = []
    for item in x_0.cpu().float():
        there, elements = item[:, 3] > 0, item[:, 4:].argmax(dim=1)
        molecules.append(Molecule(tuple(elements[there].tolist()), item[there, :3] * ANGSTROMS))
    return molecules


@typed_arguments
def to_items(molecules: Sequence[Molecule]) -> Tensor:
    """The items [B, 9, 8] of molecules, each moved so that its centre is at 0: the inverse of `to_molecules`.

    Raises ValueError for no molecule, and for one of no atoms or of more than nine.
    """
    if not molecules:
        raise ValueError("molecules must hold one molecule or more.")
    positions = torch.zeros(len(molecules), MOST_ATOMS, 3, device="cpu", dtype=torch.float32)
    elements = torch.full((len(molecules), MOST_ATOMS), len(ELEMENTS), device="cpu", dtype=torch.int64)
    for i, molecule in enumerate(molecules):
        n = len(molecule.elements)
        if not 0 < n <= MOST_ATOMS:
            raise ValueError(f"an item holds 1 to {MOST_ATOMS} atoms; molecule {i} has {n}.")
        positions[i, :n] = molecule.positions - molecule.positions.mean(dim=0)
        elements[i, :n] = torch.tensor(molecule.elements, device="cpu", dtype=torch.int64)
    return items_of(positions, elements)


def items_of(positions: Tensor, elements: Tensor) -> Tensor:
    """Items [N, 9, 8] of positions [N, 9, 3] in angstroms and elements [N, 9]; len(ELEMENTS): an empty place."""
    there = elements < len(ELEMENTS)
    one_hot = F.one_hot(elements, len(ELEMENTS) + 1)[..., :-1]
    return torch.cat([positions / ANGSTROMS, (2 * there[..., None] - 1) * THERE, one_hot * ELEMENT], dim=-1)


def check_items(x_0: Tensor) -> None:
    """Raise ValueError unless x_0 holds molecules, [B, 9, 8], without NaN."""
    if check_data("x_0", x_0).shape[1:] != (MOST_ATOMS, 4 + len(ELEMENTS)):
        raise ValueError(f"x_0 must be [B, {MOST_ATOMS}, {4 + len(ELEMENTS)}]; got {list(x_0.shape)}.")


@typed_arguments
def find_bonds(molecule: Molecule) -> dict[tuple[int, int], float] | None:
    """The bonds between atoms, by their distances: 1, 2 or 3, and 1.5 for one that can be single or double.

    None where two atoms are too near for a bond, or too far for it and too near for two atoms without one.
    """
    found: dict[tuple[int, int], float] = {}
    distances = torch.cdist(molecule.positions, molecule.positions, compute_mode="donot_use_mm_for_euclid_dist")
    for (a, b), distance in between(molecule, distances).items():
        names = pair_name(molecule, a, b)
        if distance >= CONTACT:
            continue
        if names not in LENGTHS:
            return None
        shortest, triple, double, either, longest = LENGTHS[names]
        if not shortest <= distance <= longest:
            return None
        found[a, b] = 3 if distance < triple else 2 if distance < double else 1.5 if distance < either else 1
    return found


def between(molecule: Molecule, distances: Tensor) -> dict[tuple[int, int], float]:
    """The distance of each pair of atoms, from all distances [n, n]."""
    n = len(molecule.elements)
    listed = distances.tolist()
    return {(a, b): listed[a][b] for a in range(n) for b in range(a + 1, n)}


def neighbours(n: int, bonds: Bonds) -> list[set[int]]:
    """The atoms bonded to each of n atoms."""
    joined: list[set[int]] = [set() for _ in range(n)]
    for a, b in bonds:
        joined[a].add(b)
        joined[b].add(a)
    return joined


@typed_arguments
def is_valid(molecule: Molecule) -> bool:
    """Whether bonds fit the distances, all atoms hang together, and no atom has more bonds than its valence.

    A bond that can be single or double counts as single: hydrogens fill the rest.
    """
    bonds = find_bonds(molecule)
    if bonds is None or not molecule.elements:
        return False
    used = [0] * len(molecule.elements)
    for pair, order in bonds.items():
        for atom in pair:
            used[atom] += int(order)
    if any(n > VALENCES[element] for n, element in zip(used, molecule.elements, strict=True)):
        return False
    joined, reached, edge = neighbours(len(used), bonds), {0}, [0]
    while edge:
        new = joined[edge.pop()] - reached
        reached |= new
        edge.extend(new)
    return len(reached) == len(used)


@typed_arguments
def shape_of(molecule: Molecule) -> str:
    """ "chain", "ring", or "aromatic" for a ring of short bonds; "none" where no bonds fit."""
    bonds = find_bonds(molecule)
    if bonds is None:
        return "none"
    left = dict(bonds)
    while ends := [atom for atom, joined in enumerate(neighbours(len(molecule.elements), left)) if len(joined) == 1]:
        left = {pair: order for pair, order in left.items() if not set(pair) & set(ends)}
    if not left:
        return "chain"
    lengths = [float((molecule.positions[a] - molecule.positions[b]).norm()) for a, b in left]
    return "aromatic" if sum(lengths) / len(lengths) < AROMATIC else "ring"


@typed_arguments
def skeletons(x_0: Tensor) -> Tensor:
    """A number [B] for each of the items [B, 9, 8], which two molecules share if the same elements are bonded alike.

    Atoms nearer than a contact count as bonded, and bond orders are not looked at. Each atom's number is mixed from its
    own and from the sum of its neighbours', again and again (Weisfeiler & Leman 1968), in int64, which overflows as
    hashes do. Raises ValueError for another shape, and for NaN.
    """
    check_items(x_0)
    positions, there = x_0[..., :3].float() * ANGSTROMS, x_0[..., 3] > 0
    distances = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    bonded = (distances < CONTACT) & there[:, :, None] & there[:, None]
    bonded &= ~torch.eye(MOST_ATOMS, dtype=torch.bool, device=x_0.device)
    names = torch.where(there, x_0[..., 4:].argmax(dim=-1) + 1, 0)
    for _ in range(MOST_ATOMS):
        names = torch.where(there, mixed(3 * names + (bonded * mixed(names)[:, None]).sum(dim=-1)), 0)
    return mixed(names.sum(dim=-1))


def mixed(numbers: Tensor) -> Tensor:
    """Numbers int64 [...] whose bits are spread over the whole of int64 (Steele et al. 2014, SplitMix64)."""
    z = numbers * -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


@typed_arguments
def with_double_bonds(molecule: Molecule) -> dict[tuple[int, int], int]:
    """The bonds with whole orders, as files need them: as many bonds as possible of those that can be double are.

    Of several ways, the one whose double bonds are shortest, for bonds between their elements. Raises ValueError where
    no bonds fit.
    """
    bonds = find_bonds(molecule)
    if bonds is None:
        raise ValueError("No bonds fit this molecule's distances (is_valid says so).")
    free = [VALENCES[element] for element in molecule.elements]
    for pair, order in bonds.items():
        for atom in pair:
            free[atom] -= int(order)
    taken = {atom for pair, order in bonds.items() if order == 2 for atom in pair}  # an atom has one double bond
    unsure = {}  # a bond that can be double -> from 0, as short as a double one, to 1, as long as a single one
    for (a, b), order in bonds.items():
        if order == 1.5 and not taken & {a, b} and min(free[a], free[b]) >= 1:
            _, _, double, either, _ = LENGTHS[pair_name(molecule, a, b)]
            length = float((molecule.positions[a] - molecule.positions[b]).norm())
            unsure[a, b] = (length - double) / (either - double)
    pairs = sorted(unsure)

    def best(i: int, taken: frozenset[int]) -> tuple[int, float, tuple[tuple[int, int], ...]]:
        """(minus the number of double bonds, the sum of their lengths, which they are), from pair i on."""
        if i == len(pairs):
            return 0, 0.0, ()
        ways = [best(i + 1, taken)]
        if not taken & set(pairs[i]):
            count, total, chosen = best(i + 1, taken | set(pairs[i]))
            ways.append((count - 1, total + unsure[pairs[i]], (*chosen, pairs[i])))
        return min(ways)

    double_too = set(best(0, frozenset())[2])
    return {pair: 2 if pair in double_too else int(order) for pair, order in bonds.items()}


def pair_name(molecule: Molecule, a: int, b: int) -> str:
    """The elements of two atoms as in `LENGTHS`: "CO"."""
    return "".join(ELEMENTS[element] for element in sorted((molecule.elements[a], molecule.elements[b])))
