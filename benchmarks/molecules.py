"""Are the molecules that the network draws valid, and does RDKit accept the bonds that our table says?

    pip install 'diffusion-explained[molecules]'               # RDKit
    python benchmarks/molecules.py                             # minutes on a CPU; diffusion_explained/measured/

A row per sampler, and one of real molecules that the network has not seen. Beside the kind's own measures:

accepted: the share of valid molecules that RDKit reads from our SDF file without complaint. same, of real ones: the
share whose name RDKit reads back, so that atoms, bonds and double bonds are those of the molecule. new: the share of
accepted names that no training molecule has; RDKit's names also tell apart what has the same skeleton.
"""

import argparse
import hashlib
from typing import Any

import torch
from places import tried
from side_by_side import machine

from diffusion_explained.beyond import Data, load_beyond
from diffusion_explained.beyond.bonds import is_valid, to_molecules
from diffusion_explained.beyond.kinds import rounded
from diffusion_explained.beyond.molecules import MOLECULE_KIND, load_molecules
from diffusion_explained.beyond.sdf import plain, smiles
from diffusion_explained.extras import require
from diffusion_explained.files import check_folder
from diffusion_explained.measured import MEASURED, write_measured
from diffusion_explained.pretrained import WEIGHTS

SAMPLERS: tuple[dict[str, Any], ...] = (dict(MOLECULE_KIND.sampling), {"sampler": "euler", "num_inference_steps": 100})
BATCH = 40


def named(x_0: torch.Tensor) -> list[str]:
    """The names of the valid molecules among x_0 [B, 9, 8], "" for one that RDKit refuses."""
    names = []
    for molecule in to_molecules(x_0):
        if is_valid(molecule):
            try:
                names.append(smiles(molecule))
            except ValueError:
                names.append("")
    return names


def row(what: str, data: Data, reference: Data, known: set[str]) -> dict[str, Any]:
    """The kind's measures of a set, and RDKit's."""
    names = named(data.x_0)
    accepted = [name for name in names if name]
    numbers = {"accepted": len(accepted) / len(names), "new": sum(name not in known for name in accepted) / len(names)}
    return {"part": what, "n": len(data.x_0), **MOLECULE_KIND.measure(data, reference), **rounded(numbers)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=240, help="molecules per row")
    arguments = parser.parse_args()
    tried(parser, check_folder, MEASURED)
    require("molecules", "rdkit")
    n = arguments.n
    known = {plain(name) for name in load_molecules("train").smiles}
    reference = MOLECULE_KIND.data(n, 1, "test")
    test = load_molecules("test")
    real = Data(test.x_0[:n], test.labels[:n])
    names = [plain(name) for name, one in zip(test.smiles, to_molecules(real.x_0), strict=False) if is_valid(one)]
    same = sum(a == b for a, b in zip(named(real.x_0), names, strict=True)) / len(names)
    rows = [{**row("real", real, reference, known), "same": same}]
    print(rows[-1], flush=True)
    model = load_beyond("molecules")
    labels = torch.arange(n) % 3
    for settings in SAMPLERS:
        parts = (model.sample(part, seed=i * BATCH, **settings) for i, part in enumerate(labels.split(BATCH)))
        drawn = Data(torch.cat(list(parts)), labels)
        rows.append({**row("samples", drawn, reference, known), **settings})
        print(rows[-1], flush=True)
    checksum = hashlib.sha256((WEIGHTS / "beyond" / "molecules.safetensors").read_bytes()).hexdigest()[:16]
    unseen = "molecules of the split test"
    write_measured("molecules", {"unseen": unseen, "machine": machine(), "weights": checksum, "rows": rows})


if __name__ == "__main__":
    main()
