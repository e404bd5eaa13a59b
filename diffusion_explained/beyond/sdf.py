"""SDF files of molecules (the MDL molfile, version V2000), written and read without a chemistry library.

    Path("molecules.sdf").write_bytes(to_sdf(model.sample([0, 1, 2]), ()))        # open it in any molecule viewer

Hydrogens are left out, and programs that read the file add them by the atoms' valences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_explained.beyond.bonds import (
    ELEMENTS,
    MOST_ATOMS,
    Molecule,
    find_bonds,
    is_valid,
    to_molecules,
    with_double_bonds,
)
from diffusion_explained.checks import typed_arguments
from diffusion_explained.extras import extra
from diffusion_explained.files import read_bytes
from diffusion_explained.messages import shortened

END = "$$$$"
MOST_BYTES = 2**24  # the largest file that is read


def to_sdf(x_0: Tensor, names: Sequence[str]) -> bytes:
    """An SDF file of items [B, 9, 8]; an invalid molecule is written without bonds, and its title says so."""
    molecules = to_molecules(x_0)
    shapes = [*names, *([""] * (len(molecules) - len(names)))]
    blocks = (molfile(molecule, shape) for molecule, shape in zip(molecules, shapes, strict=True))
    return "".join(f"{block}{END}\n" for block in blocks).encode("ascii")


@typed_arguments
def molfile(molecule: Molecule, shape: str = "") -> str:
    """One molecule as the lines of a V2000 molfile: title, program, counts, atoms, bonds, end."""
    bonds = with_double_bonds(molecule) if find_bonds(molecule) is not None else {}
    valid = "" if is_valid(molecule) else "invalid"
    title = " ".join(word for word in (molecule.formula, shape, valid) if word)
    lines = [
        title,
        "  diffexpl          3D",  # in columns 3 to 10 the program, in 21 and 22 the dimensions
        "",
        f"{len(molecule.elements):3}{len(bonds):3}  0  0  0  0            999 V2000",
    ]
    for element, (x, y, z) in zip(molecule.elements, molecule.positions.tolist(), strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {ELEMENTS[element]:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{a + 1:3}{b + 1:3}{order:3}  0" for (a, b), order in sorted(bonds.items())]
    return "\n".join([*lines, "M  END", ""])


@typed_arguments
def read_sdf(path: Path) -> list[Molecule]:
    """The molecules of an SDF file (V2000): their heavy atoms and positions; bonds and hydrogens are not read.

    Raises ValueError, naming the file and the molecule, for another format, an element or a size that the network does
    not know; OSError for a file that cannot be read.
    """
    text = read_bytes(path, "molecule file", MOST_BYTES).decode("ascii", errors="replace").replace("\r\n", "\n")
    blocks = [block for block in text.split(f"{END}\n") if block.strip()]
    if not blocks:
        raise ValueError(f"{path} holds no molecule.")
    return [_read_block(block.split("\n"), f"{path}, molecule {i}") for i, block in enumerate(blocks, 1)]


def _read_block(lines: Sequence[str], what: str) -> Molecule:
    if len(lines) < 4 or not lines[3].rstrip().endswith("V2000"):
        raise ValueError(f"{what} is no molfile of version V2000: its fourth line must end in V2000.")
    try:
        count = int(lines[3][:3])
        atoms = [(line[31:34].strip(), [float(line[i : i + 10]) for i in (0, 10, 20)]) for line in lines[4 : 4 + count]]
        if len(atoms) < count:
            raise ValueError(f"it ends before its {count} atoms")
    except ValueError as error:
        raise ValueError(f"{what} cannot be read: {shortened(error, 100)}.") from error
    heavy = [(name, position) for name, position in atoms if name != "H"]
    if foreign := sorted({name for name, _ in heavy} - set(ELEMENTS)):
        raise ValueError(
            f"{what} has {', '.join(map(shortened, foreign))}; the network knows H, {', '.join(ELEMENTS)}."
        )
    if not 0 < len(heavy) <= MOST_ATOMS:
        raise ValueError(f"{what} has {len(heavy)} atoms besides hydrogen; the network draws 1 to {MOST_ATOMS}.")
    positions = torch.tensor([position for _, position in heavy], device="cpu", dtype=torch.float32)
    if not bool(positions.isfinite().all()):
        raise ValueError(f"{what} has a position that is no number.")
    return Molecule(tuple(ELEMENTS.index(name) for name, _ in heavy), positions)


@typed_arguments
def smiles(molecule: Molecule) -> str:
    """The name of a molecule in SMILES notation, written by RDKit, without its stereochemistry.

    Raises MissingExtraError, with the command that installs it, without RDKit; ValueError for an invalid molecule.
    """
    with extra("molecules"):
        from rdkit import Chem
    if not is_valid(molecule):
        raise ValueError("An invalid molecule has no name: no bonds fit its distances and valences (is_valid).")
    made: Any = Chem.MolFromMolBlock(molfile(molecule))
    if made is None:
        raise ValueError("RDKit does not accept this molecule, although its distances and valences fit.")
    return str(Chem.MolToSmiles(made, isomericSmiles=False))


@typed_arguments
def plain(name: str) -> str:
    """A name in SMILES notation as `smiles` writes it. Raises MissingExtraError; ValueError for what is no name."""
    with extra("molecules"):
        from rdkit import Chem
    made: Any = Chem.MolFromSmiles(name)
    if made is None:
        raise ValueError(f"RDKit does not read this name of a molecule: {shortened(name)}.")
    return str(Chem.MolToSmiles(made, isomericSmiles=False))
