"""Make the list of CLIP's merges that ships with the package, from the file that OpenAI published with CLIP.

pip download --no-deps open_clip_torch==3.3.0 && unzip -j open_clip_torch-*.whl 'open_clip/bpe_simple_vocab*'
python recipes/clip_merges.py bpe_simple_vocab_16e6.txt.gz
"""

from __future__ import annotations

import gzip
import lzma
import sys

from diffusion_explained.files import atomic_path, check_file
from diffusion_explained.stable_diffusion.clip_vocabulary import FILE, MERGES

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        check_file(FILE, "")
        with gzip.open(sys.argv[1]) as opened:  # the first line says the version; CLIP reads the next MERGES
            lines = opened.read().decode().split("\n")[1 : 1 + MERGES]
    except OSError as error:
        sys.exit(str(error))
    with atomic_path(FILE) as part:
        part.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))
    print(f"{FILE}: {len(lines):,} merges, {FILE.stat().st_size / 1e3:.0f} kB")
