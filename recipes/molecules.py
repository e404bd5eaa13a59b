"""Write the molecules that ship with the package: 4 to 9 atoms of C, N, O and F, hydrogens left out.

    pip install 'diffusion-explained[molecules]'        # RDKit
    python recipes/molecules.py

Each molecule grows at random, bond by bond, from an atom or a common ring; odd ones are left out, and so are repeated
ones. RDKit embeds it (ETKDG) and relaxes it with its hydrogens (MMFF94); then the hydrogens are dropped. It takes about
fifteen minutes of an idle core.
"""

from __future__ import annotations

import os
import random
import sys
from contextlib import suppress
from functools import cache
from itertools import islice
from multiprocessing import Pool

import numpy as np

from diffusion_explained.beyond.bonds import ELEMENTS, VALENCES
from diffusion_explained.beyond.molecules import MOLECULES
from diffusion_explained.extras import require
from diffusion_explained.files import atomic_path, check_file

with suppress(ModuleNotFoundError):  # main says what to install
    from rdkit import Chem, RDLogger
    from rdkit.Chem import AllChem

SIZES = {4: 100, 5: 800, 6: 3500, 7: 9000, 8: 14_000, 9: 17_600}  # heavy atoms -> molecules at most; small ones are few
HELD_OUT = 3000  # of the 42,393: the last ones of a shuffled list
TRIES = 1000  # molecules grown by one task of the pool
STARTS = (
    "C C C C N O C=O C=C C=N C#N C#C c1ccccc1 c1ccccc1 c1ccncc1 c1cc[nH]c1 c1ccoc1 c1cnc[nH]1 c1cn[nH]c1 c1cocn1 "
    "c1cncnc1 C1CC1 C1CC1 C1CO1 C1CN1 C1CCC1 C1COC1 C1CNC1 C1CCCC1 C1CCOC1 C1CCNC1 C1=CCCC1 C1CCCCC1 "
    "C1CCNCC1 C1CCOCC1"
)
ODD = (  # patterns that are left out: strained, or broken by water or air
    "[N,O,F;!a]-[N,O,F;!a]", "[N,O,F]=[N,O,F]", "*=*=*", "C#C-F", "[r3]=[*]", "[r4]=[r4]", "[r3,r4,r5,r6]#*",
    "[C;!a](-[O,N;!a;H1,H2])-[O,N,F;!a;H0,H1,H2]", "[CX3]=[CX3]-[OH]", "[#6]=[#6]-[NH2]", "[R3]", "[r3]@[R2]@[r3]",
    "[x3;r3]", "[x3;r4]", "[x4]", "[CX3;!a](-[OH,NH2])=[N]", "C(=O)[C](=O)", "[a]-[F,O;H0]-[a]", "F-[CX3]=[O,N]",
)  # fmt: skip


@cache
def odd_patterns() -> list[Chem.Mol]:
    """ODD as RDKit matches it."""
    return [Chem.MolFromSmarts(pattern) for pattern in ODD]


def grown(size: int, draw: random.Random) -> Chem.Mol | None:
    """A molecule of so many atoms, grown at random; None where it cannot be, or is odd."""
    start = Chem.MolFromSmiles(draw.choice(STARTS.split()))
    Chem.Kekulize(start, clearAromaticFlags=True)
    atoms = Chem.RWMol(start)
    while atoms.GetNumAtoms() < size:
        open_atoms = [atom for atom in atoms.GetAtoms() if free(atom) > 0]
        if not open_atoms:
            return None
        at = draw.choice(open_atoms)
        element = draw.choices(ELEMENTS, (12, 4, 4, 1))[0]
        order = draw.choices((1, 2, 3), (16, 3, 1))[0]
        if order > min(free(at), VALENCES[ELEMENTS.index(element)]):
            continue
        new = atoms.AddAtom(Chem.Atom(element))
        atoms.AddBond(at.GetIdx(), new, Chem.BondType.values[order])
        atoms.UpdatePropertyCache(strict=False)
        if draw.random() < 0.2:
            close_ring(atoms, draw)
    if atoms.GetNumAtoms() != size:
        return None
    made = atoms.GetMol()
    if Chem.SanitizeMol(made, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    return None if any(made.HasSubstructMatch(pattern) for pattern in odd_patterns()) else made


def names_grown(size: int, task: int) -> list[str]:
    """The names, in SMILES notation, of what grows in TRIES tries; each task has its own random numbers."""
    draw, names = random.Random(f"{size} atoms, task {task}"), []
    for _ in range(TRIES):
        made = grown(size, draw)
        if made is not None and Chem.MolFromSmiles(name := Chem.MolToSmiles(made)) is not None:
            names.append(name)
    return names


def free(atom: Chem.Atom) -> int:
    """How many more bonds an atom can have."""
    used = sum(int(bond.GetBondTypeAsDouble()) for bond in atom.GetBonds())
    return VALENCES[ELEMENTS.index(atom.GetSymbol())] - used


def close_ring(atoms: Chem.RWMol, draw: random.Random) -> None:
    """Join two atoms of a chain by a single bond, so that a ring of 3 to 6 atoms closes, if there are any."""
    steps = Chem.GetDistanceMatrix(atoms, force=True)
    open_atoms = [atom.GetIdx() for atom in atoms.GetAtoms() if free(atom) > 0]
    pairs = [(a, b) for a in open_atoms for b in open_atoms if a < b and 2 <= steps[a, b] <= 5]
    if pairs:
        atoms.AddBond(*draw.choice(pairs), Chem.BondType.SINGLE)
        atoms.UpdatePropertyCache(strict=False)


def positions(name: str) -> np.ndarray | None:
    """The relaxed positions of the heavy atoms [n, 3] in angstroms; None where the force field finds none."""
    made = Chem.MolFromSmiles(name)  # whose atoms stand in the order of the text
    whole = Chem.AddHs(made)
    if AllChem.EmbedMolecule(whole, randomSeed=0) != 0:
        return None
    if not AllChem.MMFFHasAllMoleculeParams(whole) or AllChem.MMFFOptimizeMolecule(whole, maxIters=1000) != 0:
        return None
    return whole.GetConformer().GetPositions()[: made.GetNumAtoms()]


def main() -> None:
    """Make all molecules and write the file."""
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count() or 1
    with Pool(processes, RDLogger.DisableLog, ("rdApp.*",)) as pool:
        grown_names: dict[str, None] = {}
        for size, count in SIZES.items():
            before = len(grown_names)
            tasks = ((size, task) for task in range(60 * count // TRIES))
            while len(grown_names) - before < count and (some := list(islice(tasks, processes))):
                for name in (name for names in pool.starmap(names_grown, some, chunksize=1) for name in names):
                    if len(grown_names) - before < count:
                        grown_names[name] = None
            print(f"{size} atoms: {len(grown_names) - before} molecules", flush=True)
        placed_of = zip(grown_names, pool.imap(positions, grown_names, chunksize=64), strict=True)
        found = {name: placed for name, placed in placed_of if placed is not None}
    names = list(found)
    random.Random(0).shuffle(names)
    most = max(SIZES)
    coordinates = np.zeros((len(names), most, 3), dtype=np.int16)
    elements = np.full((len(names), most), len(ELEMENTS), dtype=np.uint8)
    bonds = np.zeros((len(names), most, most), dtype=np.uint8)  # of RDKit: 1, 2, 3, and 4 for an aromatic one
    for i, name in enumerate(names):
        made, placed = Chem.MolFromSmiles(name), found[name]
        elements[i, : len(placed)] = [ELEMENTS.index(atom.GetSymbol()) for atom in made.GetAtoms()]
        coordinates[i, : len(placed)] = ((placed - placed.mean(axis=0)) * 1000).round()
        for bond in made.GetBonds():
            order = 4 if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble())
            a, b = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
            bonds[i, a, b] = order
    with atomic_path(MOLECULES) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            positions=coordinates,
            elements=elements,
            bonds=bonds[:, *np.triu_indices(most, 1)],
            smiles=np.array("\n".join(names)),
            held_out=np.array(HELD_OUT),
        )
    print(f"{MOLECULES}: {MOLECULES.stat().st_size:,} bytes, {len(names):,} molecules")


if __name__ == "__main__":
    try:
        check_file(MOLECULES, "")
        require("molecules", "rdkit")
        main()
    except OSError as error:
        sys.exit(str(error))
