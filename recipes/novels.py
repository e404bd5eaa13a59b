"""Make the text that ships with the package: Jane Austen's six novels, in small letters, one novel per line.

    apt-get download r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb novels
    python recipes/novels.py novels/usr/lib/R/site-library/janeaustenr/data

It reads R's own storage of the six character vectors: each is a length, then a zlib stream of R's serialisation.
"""

from __future__ import annotations

import lzma
import re
import struct
import sys
import zlib
from pathlib import Path

from diffusion_explained.data.novels import FILE, LETTERS, TITLES
from diffusion_explained.files import atomic_path, check_file

HEADINGS = re.compile(r"^(chapter|volume)\b.*$|^\s*(finis|the end)\s*$", re.MULTILINE | re.IGNORECASE)
EDITORS_NOTE = "A NOTE ON THE TEXT"  # by a modern publisher, at the end of Northanger Abbey
NAMES = ("emma", "mansfieldpark", "northangerabbey", "persuasion", "prideprejudice", "sensesensibility")


def vectors(database: bytes) -> list[list[str]]:
    """The character vectors of a database that R loads lazily, in the order in which they are stored."""
    found = []
    while database:
        stream = zlib.decompressobj()
        content = stream.decompress(database[4:])
        database = stream.unused_data
        at = 18 + int.from_bytes(content[14:18], "big")  # after the header, which ends with the name of its encoding
        _, count = struct.unpack(">II", content[at : at + 8])
        at, lines = at + 8, []
        for _ in range(count):
            _, length = struct.unpack(">II", content[at : at + 8])
            lines.append(content[at + 8 : at + 8 + length].decode())
            at += 8 + length
        found.append(lines)
    return found


def plain(lines: list[str]) -> str:
    """A novel from its first chapter on, without headings, in the letters that the networks know."""
    if EDITORS_NOTE in lines:
        lines = lines[: lines.index(EDITORS_NOTE)]
    text = HEADINGS.sub(" ", "\n".join(lines[next(i for i, line in enumerate(lines) if HEADINGS.match(line)) :]))
    text = text.lower().replace("--", " - ").replace("\n", " ")
    return re.sub(" +", " ", "".join(letter for letter in text if letter in LETTERS)).strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        check_file(FILE, "")
    except OSError as error:
        sys.exit(str(error))
    novels = dict(zip(NAMES, vectors((Path(sys.argv[1]) / "Rdata.rdb").read_bytes()), strict=True))
    text = "\n".join(plain(novels[re.sub(r" and |\W", "", title.lower())]) for title in TITLES)
    with atomic_path(FILE) as part:
        part.write_bytes(lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{FILE}: {len(text):,} letters, {FILE.stat().st_size:,} bytes")
